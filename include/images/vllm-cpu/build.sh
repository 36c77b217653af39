#!/bin/sh
# The steps inside the image: CUDA's stand-ins, no debug symbols (400 MB of them), bytecode.
# build.sh PACKAGES_FOLDER BINUTILS_ROOT
set -eu
here=$(dirname "$0")
cd "$1"
export PATH="$PATH:$2/usr/bin" LD_LIBRARY_PATH="$2/usr/lib/x86_64-linux-gnu"
python3 "$here/without_cuda.py" torch/lib
# Others' libraries were rearranged by patchelf and don't stand strip.
strip --strip-unneeded torch/lib/libtorch_*.so torch/lib/libc10.so vllm/*.so &
unset LD_LIBRARY_PATH
wait
# A pod's root file system is read-only: without bytecode it would compile 5,000 modules at every start. Importing
# compiles what serving needs and nothing of the other 9,000; it also proves that the stand-ins suffice.
cd /
HOME=/tmp VLLM_NO_USAGE_STATS=1 python3 "$here/warm.py"
rm -rf /tmp/* /root/.cache /root/.config
