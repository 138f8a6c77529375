#!/bin/sh
# Build the sdist and the wheel, and use the wheel alone in a clean environment.
#
#   PYTHON=python3.13 sh ci/package.sh
set -eu
cd "$(dirname "$0")/.."
. ci/venv.sh

python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
make_venv "$scratch/build" "$python" build
"$scratch/build/bin/python" -m build --installer uv --outdir "$scratch/dist" . >/dev/null
make_venv "$scratch/use" "$python" "$scratch"/dist/*.whl
cd "$scratch"
use/bin/tiffstack --version
use/bin/tiffstack demo --dir "$scratch/demo" >/dev/null
use/bin/python -c "import xarray, xarray_tiffstack as x; print(x.__file__)" | grep -q "$scratch"
tar -tzf dist/*.tar.gz | grep -q names/conventions.toml
echo "the wheel and the sdist are complete"
