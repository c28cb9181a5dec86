#!/bin/sh
# Type-checks the CUDA build on a machine without CUDA. nvcc and CUDA's headers come from PyPI into a Python
# environment below target/; they unpack into one folder that has the layout of a CUDA toolkit.
# What this is not: a test. Nothing is linked and nothing runs, so neither a GPU nor a driver is needed. candle's kernels
# are compiled to PTX, unoptimised and for one kind of GPU, because its sources include that text; those of its kernels
# that are only ever linked (products of GGUF and mixture-of-experts weights, minutes of work) are left empty.
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

mkdir -p target/cuda/bin
cat > target/cuda/bin/nvcc <<'WRAPPER'
#!/bin/sh
# see crates/candle/check-cuda.sh: objects and libraries are left empty, all else is nvcc's
out= empty= last=
for word in "$@"; do
    case "$last" in -o) out=$word ;; esac
    case "$word" in -c | --lib) empty=yes ;; esac
    last=$word
done
if [ -n "$empty" ]; then : > "$out"; else exec "$CUDA_HOME/bin/nvcc" "$@"; fi
WRAPPER
chmod +x target/cuda/bin/nvcc

export CUDA_HOME="$toolkit" CUDA_PATH="$toolkit" NVCC="$PWD/target/cuda/bin/nvcc" PATH="$toolkit/bin:$PATH"
export CUDA_COMPUTE_CAP=80 NVCC_APPEND_FLAGS="-Xcicc -O0 -Xptxas -O0"
"$NVCC" --version | tail -n 1
# a target folder of its own: no build may link the empty libraries
exec "${CARGO:-cargo}" check --locked -p synapse-train --features cuda --target-dir target/cuda/check
