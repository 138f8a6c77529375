#!/bin/sh
# Damage thousands of TIFFs, and print how often reading hung, or gave what nobody wrote.
#
#   sh ci/fuzz.sh [--mutants 13000] [--seed 0] [folders of more TIFFs]
#
# Takes some minutes. Where ../shared/data is beside this checkout its small files are used too.
set -eu
cd "$(dirname "$0")/.."
. ci/venv.sh

python=${PYTHON:-python3}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=.venv-$version-highest
make_venv "$venv" "$python" --resolution highest -e . --group test

data=../shared/data
set -- --mutants 13000 "$@"
for folder in "$data"/broken_pillow "$data"/flavours_* "$data"/thunder_tiny_lzw \
    "$data"/viv_companion_ome_Z "$data"/merlin_round_pos "$data"/codex_cytokit; do
    if [ -d "$folder" ]; then set -- "$@" "$folder"; fi
done
"$venv/bin/python" tests/fuzz.py "$@" 2>/dev/null
