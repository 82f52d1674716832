#!/usr/bin/env bash
# Builds the images fashion-worker, fashion-client and fashion-demo, tagged with the project's version.
#
#   ENGINE         docker, podman or buildah [default: the first that works here]
#   TARGETS        which of them [default: worker client demo]
#   PYTHON_IMAGE   another base image [default: deploy/Dockerfile says]
#   PIP_CONF       a pip.conf for the build alone, where packages come from an index of one's own
#   CA_BUNDLE      certificate authorities for the build alone, where that index has one of one's own
#   BUILD_OPTIONS  more options of the engine's `build`
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${ENGINE:-}" ]; then
  if docker info >/dev/null 2>&1; then
    ENGINE=docker
  else
    ENGINE=$(command -v podman || command -v buildah || true)
    ENGINE=${ENGINE##*/}
  fi
fi
case $ENGINE in
  docker) format=() ;;
  podman | buildah) format=(--format docker) ;; # OCI's own has no HEALTHCHECK
  *)
    echo "No docker, podman or buildah works here; name one with ENGINE." >&2
    exit 1
    ;;
esac

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)
read -ra more <<<"${BUILD_OPTIONS:-}"
options=("${format[@]}" "${more[@]}" --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
if [ -n "${PYTHON_IMAGE:-}" ]; then options+=(--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE"); fi
if [ -n "${PIP_CONF:-}" ]; then options+=(--secret "id=pip.conf,src=$PIP_CONF"); fi
if [ -n "${CA_BUNDLE:-}" ]; then options+=(--secret "id=ca.crt,src=$CA_BUNDLE"); fi

for target in ${TARGETS:-worker client demo}; do
  echo "Building fashion-$target:$version with $ENGINE ..."
  "$ENGINE" build "${options[@]}" --target "$target" --tag "fashion-$target:$version" --file deploy/Dockerfile .
done
