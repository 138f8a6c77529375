#!/bin/sh
# Test and measure on a machine with an NVIDIA card.
#
#   sh ci/gpu.sh [cupy-cuda13x]
#
# Builds its own environment, with cupy for CUDA 12 unless another build is named. Runs the tests
# marked gpu, then prints what a copy to the card costs.
set -eu
cd "$(dirname "$0")/.."
. ci/venv.sh

make_venv .venv-gpu "${PYTHON:-python3}" -e ".[gpu]" "${1:-cupy-cuda12x}[ctk]" scipy --group test
.venv-gpu/bin/python -c "import cupy; print(cupy.cuda.runtime.getDeviceCount(), 'cards')"
.venv-gpu/bin/python -m pytest -m gpu tests
PYTHONPATH=ci exec .venv-gpu/bin/python -W ignore -m bench.gpu
