#!/bin/sh
# Measure this project beside its peers and the limits of the machine.
#
#   sh ci/bench.sh [--quick]
#
# Builds its own environment and data (6 GB of temporary disk), prints what it finds, writes
# build/bench.json and the figures in docs/performance.md. --quick ends within two minutes and
# leaves the page alone.
set -eu
cd "$(dirname "$0")/.."
. ci/venv.sh

make_venv .venv-bench "${PYTHON:-python3}" -e . --group bench
PYTHONPATH=ci exec .venv-bench/bin/python -W ignore -m bench "$@"
