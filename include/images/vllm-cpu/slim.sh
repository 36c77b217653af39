#!/bin/sh
# Takes out of a folder of installed packages what a server never reads: programs, C++ headers, static libraries, the
# tests of the packages that ship many.
set -eu
cd "$1"
rm -rf .lock bin include share torch/include torch/share torch/lib/libshm_windows
find torch/bin -type f ! -name torch_shm_manager -delete
for package in mpmath networkx numpy sympy; do
  find "$package" -type d -name tests -prune -exec rm -r {} +
done
find . -type f \( -name '*.a' -o -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name '*.hpp' -o -name '*.lib' \) -delete
