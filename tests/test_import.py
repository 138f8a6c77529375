"""What is imported when, and the door to cupy."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import xarray as xr

import xarray_tiffstack


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_looking_up_engines_imports_nothing_heavy() -> None:
    heavy = "{'tifffile', 'imagecodecs', 'zarr', 'dask', 'matplotlib', 'cupy', 'cupy_xarray'}"
    code = (
        "import sys, xarray, importlib.metadata as m;"
        "before = set(sys.modules);"
        "(entry,) = m.entry_points(group='xarray.backends', name='tiffstack');"
        f"entry.load(); print(sorted({heavy} & (set(sys.modules) - before)))"
    )
    assert run(code) == "[]"


def test_public_names() -> None:
    assert set(xarray_tiffstack.__all__) <= set(dir(xarray_tiffstack))
    for name in xarray_tiffstack.__all__:
        assert getattr(xarray_tiffstack, name).__doc__
    with pytest.raises(AttributeError, match="no_such"):
        _ = xarray_tiffstack.no_such


def test_the_engine_is_listed_and_claims_nothing() -> None:
    engine = xr.backends.list_engines()["tiffstack"]
    assert not engine.guess_can_open("image.tif")
    assert "tiffstack" not in xr.DataArray.__dict__


@pytest.mark.skipif(find_spec("cupy") is not None, reason="cupy is installed here")
def test_cupy_says_what_to_install() -> None:
    for thing in (xr.DataArray([1]), xr.Dataset()):
        with pytest.raises(ImportError, match=r"cupy.*pip install"):
            _ = thing.cupy
    assert not hasattr(xr.DataArray, "cupy")  # so that cupy-xarray registers without a warning


@pytest.mark.skipif(find_spec("cupy_xarray") is None, reason="cupy-xarray is not installed")
@pytest.mark.parametrize("order", ["before", "between", "after"])
def test_whenever_cupy_xarray_is_imported(order: str) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import xarray as xr, standin_cupy
from importlib.machinery import ModuleSpec
standin_cupy.__spec__ = ModuleSpec("cupy", None)
sys.modules["cupy"] = standin_cupy
array, dataset = xr.DataArray([1]), xr.Dataset()
if {order!r} == "before":
    import cupy_xarray
    array.cupy, dataset.cupy  # which xarray keeps on the object
import xarray_tiffstack.backend
if {order!r} == "between":
    import cupy_xarray
print(type(array.cupy).__module__, type(dataset.cupy).__module__, array.cupy.is_cupy)
import cupy_xarray
print(type(array.cupy).__module__, type(dataset.cupy).__module__, array.as_cupy().cupy.is_cupy)
"""
    assert run(code).splitlines() == [
        f"{2 * 'xarray_tiffstack.array.cupy_accessor '}{x}" for x in (False, True)
    ]
