# Sourced by the other scripts: makes a virtual environment in the checkout and installs into it.
#
#   make_venv DIR PYTHON [uv pip install arguments]
#
# Needs a Python with venv and pip, and the package index that pip is set up for.

make_venv() {
    venv=$1
    python=$2
    shift 2
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    [ -x "$venv/bin/uv" ] || "$venv/bin/python" -m pip install --quiet uv
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" "$@"
}
