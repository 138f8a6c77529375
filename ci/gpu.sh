#!/bin/sh
# Test and measure on a machine with an NVIDIA card, without internet.
#
#   sh ci/gpu.sh [WHEELS]
#
# Builds its own environment over the packages that are installed already; what they lack comes
# from the folder WHEELS, which this makes on a machine with internet and the same Python (cupy and
# the CUDA libraries are for CUDA 12 here; add kvikio-cu12 and nvidia-nvimgcodec-cu12[all] to have
# them measured too):
#
#   pip download --dest WHEELS hatchling editables ".[gpu]" "cupy-cuda12x[ctk]" pytest scipy \
#       distributed
#
# Runs the tests marked gpu, then the benchmark (4 GB of temporary disk, some minutes), which writes
# build/gpu.json and the figures in docs/gpu.md.
set -eu
wheels=${1:+$(cd "$1" && pwd)}
cd "$(dirname "$0")/.."

venv=.venv-gpu
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv --system-site-packages "$venv"

install() {
    # --no-index: never the internet.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index \
        ${wheels:+--find-links "$wheels"} "$@"
}

has() {
    "$venv/bin/python" -c "import $1" 2>/dev/null
}

install hatchling editables
install --no-build-isolation -e ".[gpu]" pytest scipy distributed
if ! has cupy; then
    for name in cupy-cuda13x cupy-cuda12x; do
        install "$name[ctk]" 2>/dev/null || install "$name" 2>/dev/null || continue
        break
    done
fi
for name in kvikio nvimgcodec; do
    for wheel in "$wheels"/*"$name"*.whl; do
        [ -z "$wheels" ] || [ ! -e "$wheel" ] || install "$wheel"
    done
done

"$venv/bin/python" - <<'END'
import sys
import warnings

warnings.simplefilter("ignore")
from xarray_tiffstack.array import device as _device

try:
    _device.check("cuda")
except (ImportError, RuntimeError) as error:
    sys.exit(f"ci/gpu.sh: nothing was tested or measured: {error}")
import cupy

print(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode(), "with cupy", cupy.__version__)
END
if command -v nvidia-smi >/dev/null; then nvidia-smi; fi
"$venv/bin/python" -m pytest -m gpu tests
PYTHONPATH=ci exec "$venv/bin/python" -W ignore -m bench.gpu
