#!/bin/sh
# Type-checks the CUDA build on a machine without CUDA. nvcc and CUDA's headers come from PyPI into a Python
# environment below target/; they unpack into one folder that has the layout of a CUDA toolkit.
# What this is not: a test. Nothing is linked and nothing runs, so neither a GPU nor a driver is needed, and candle's
# own kernels are compiled for one kind of GPU and without optimisation, which saves most of their time.
set -eu
cd "$(dirname "$0")/../.."

python=$PWD/target/cuda/python
if [ ! -e "$python/complete" ]; then
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-compile \
        nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
    touch "$python/complete"
fi
toolkit=$("$python/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13

export CUDA_HOME="$toolkit" CUDA_PATH="$toolkit" NVCC="$toolkit/bin/nvcc" PATH="$toolkit/bin:$PATH"
export CUDA_COMPUTE_CAP=80 NVCC_APPEND_FLAGS="-Xcicc -O0 -Xptxas -O0"
"$NVCC" --version | tail -n 1
# the release profile, because `make check` has checked the other dependencies in it already
exec "${CARGO:-cargo}" check --release --locked -p synapse-train --features cuda
