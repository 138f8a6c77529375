#!/bin/sh
# Run the main job: write a small acquisition, open it, select, save to Zarr, verify.
set -eu
cd "$(dirname "$0")/.."
. ci/venv.sh

make_venv .venv "${PYTHON:-python3}" -e .
exec .venv/bin/tiffstack demo "$@"
