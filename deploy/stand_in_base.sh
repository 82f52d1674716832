#!/usr/bin/env bash
# Makes a stand-in for the base image where no registry can be reached: Debian and its Python, under the official name.
# Needs root, debootstrap and podman. Then:
#   ENGINE=buildah BUILD_OPTIONS="--isolation chroot --pull=never --layers" deploy/build_images.sh
set -euo pipefail
name=${1:-docker.io/library/python:3.11-slim-bookworm}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

debootstrap --variant=minbase --include=ca-certificates,netbase,tzdata bookworm "$root" http://deb.debian.org/debian
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
chroot "$root" sh -c '
  set -eu
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends python3.11 python3.11-venv
  apt-get clean
  rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*
  rm -rf /usr/share/doc/* /usr/share/info/* /usr/share/locale/* /usr/share/man/*
  ln -s /usr/bin/python3.11 /usr/local/bin/python3
  ln -s python3 /usr/local/bin/python
'
: >"$root/etc/resolv.conf"
tar -C "$root" --numeric-owner --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -cf - . |
  podman import --change 'CMD ["python3"]' --change 'ENV LANG=C.UTF-8' \
    --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' - "$name"
