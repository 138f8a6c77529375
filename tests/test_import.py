"""What is imported when, and what that adds to xarray."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import xarray as xr

import xarray_tiffstack
from xarray_tiffstack.array import device

if TYPE_CHECKING:
    from pathlib import Path


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


def test_accessors_are_there_after_the_import(shared_acquisition: Path, tmp_path: Path) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack")
    ds.to_zarr(tmp_path / "raw.zarr", zarr_format=2)
    code = (
        "import xarray_tiffstack, xarray as xr;"
        f"ds = xr.open_zarr({str(tmp_path / 'raw.zarr')!r});"
        "print(len(ds.tiffstack.files), len(ds.image.tiffstack.files))"
    )
    assert run(code) == "15 15"


def test_classes_of_xarray_are_left_alone() -> None:
    code = (
        "import xarray as xr; before = {c: set(vars(c)) for c in (xr.Dataset, xr.DataArray)};"
        "xr.backends.list_engines();"
        "print(*[sorted(set(vars(c)) - had) for c, had in before.items()])"
    )
    added = {"tiffstack", *(["cupy"] if device.absent() else [])}
    assert run(code) == f"{sorted(added)} {sorted(added)}"


def test_expression_arrays_of_dask_are_refused_in_words(shared_acquisition: Path) -> None:
    code = (
        "import dask; dask.config.set({'array.query-planning': True}); import xarray as xr\n"
        f"try: xr.open_dataset({str(shared_acquisition)!r}, engine='tiffstack')\n"
        "except ValueError as error: print(error)"
    )
    assert "array.query-planning" in run(code)


def test_the_command_as_a_module() -> None:
    command = [sys.executable, "-m", "xarray_tiffstack", "--version"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert text == f"tiffstack {xarray_tiffstack.__version__}\n"
