"""Where pixels are read to, as far as that can be tested without a card; see test_gpu.py."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import xarray as xr

from xarray_tiffstack.array import device

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", 0, "CUDA"])
def test_no_such_name(shared_acquisition: Path, name: Any) -> None:
    with pytest.raises(ValueError, match=r"device must be .*'cuda'.*not "):
        xr.open_dataset(shared_acquisition, engine="tiffstack", device=name)


def test_the_host_by_name(shared_acquisition: Path) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack", device="cpu")
    xr.testing.assert_identical(ds, xr.open_dataset(shared_acquisition, engine="tiffstack"))


def test_no_cupy(shared_acquisition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"'cuda' needs cupy.*pip install cupy-cuda12x"):
        xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda")


@pytest.mark.skipif(find_spec("cupy") is not None, reason="cupy is installed here")
def test_cupy_says_what_to_install(shared_acquisition: Path) -> None:
    assert "cupy" in device.absent()
    for data in (xr.DataArray([1]), xr.Dataset()):
        with pytest.raises(ImportError, match=r"needs cupy.*pip install"):
            _ = data.cupy
