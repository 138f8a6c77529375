#!/bin/sh
# Pass the tests: lint, types, the import rule, doctests, docs and tests, in an environment of its own.
#
#   PYTHON=python3.13 RESOLUTION=highest sh ci/test.sh [pytest arguments]
#
# RESOLUTION=lowest-direct takes the oldest version declared of every dependency.
set -eu
cd "$(dirname "$0")/.."
. ci/venv.sh

python=${PYTHON:-python3}
resolution=${RESOLUTION:-highest}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=.venv-$version-$resolution

make_venv "$venv" "$python" --resolution "$resolution" -e ".[convert]" --group test
if [ "$resolution" = highest ]; then
    make_venv "$venv" "$python" --group lint --group docs --group gallery --group readers \
        --group executors
    "$venv/bin/ruff" check .
    "$venv/bin/ruff" format --check .
    "$venv/bin/mypy"
    "$venv/bin/lint-imports"
fi
"$venv/bin/python" -m pytest "$@"
