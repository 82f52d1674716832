#!/bin/sh
# Makes /opt/fashion, inside a build of deploy/Dockerfile: the packages that the lock files name and the project, from
# wheels that are there already, and nothing that only builds, tests or other hardware would need.
set -eu
python3 -m venv --without-pip /opt/fashion
site=$(/opt/fashion/bin/python -c 'import site; print(site.getsitepackages()[0])')
pip="/pip/bin/pip --python /opt/fashion/bin/python install --quiet --no-index --no-deps"

for lock in "$@"; do
  $pip --find-links /wheels --require-hashes -r "$lock"
done
$pip /project/*.whl

# Plugins for GPUs and NPUs, whose drivers no image has, and readers of model formats other than ONNX.
cd "$site"
rm -rf openvino/include openvino/cmake openvino/libs/cache.json \
  openvino/libs/libopenvino_intel_[gn]pu_plugin.so \
  openvino/libs/libopenvino_tensorflow_frontend.so* openvino/libs/libopenvino_tensorflow_lite_frontend.so* \
  openvino/libs/libopenvino_pytorch_frontend.so* openvino/libs/libopenvino_paddle_frontend.so* \
  openvino/libs/libopenvino_jax_frontend.so* openvino/libs/libopenvino_gguf_frontend.so*
find . -type d -name tests -prune -exec rm -rf {} +
find . -name '*.pyi' -delete

# Compiled here, for nobody can write there later; never looked at again, for nobody can change the sources either.
/opt/fashion/bin/python -m compileall -q --invalidation-mode unchecked-hash .
