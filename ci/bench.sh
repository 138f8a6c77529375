#!/bin/sh
# Measure this package beside others and beside the limits of the machine.
#
#   sh ci/bench.sh [--quick] [--only NAME] > table.md
#
# Builds its own environment and data (7 GB of temporary disk; stores are written to memory, 12 GB)
# and prints one table, which docs/performance.md shows. Runs on Linux.
set -eu
cd "$(dirname "$0")/.."
. ci/venv.sh

make_venv .venv-bench "${PYTHON:-python3}" -e . --group bench
PYTHONPATH=ci exec .venv-bench/bin/python -W ignore -m bench "$@"
