"""Saving with xarray's own `to_zarr`, and what comes back."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import xarray as xr
from conftest import reference_name, write

if TYPE_CHECKING:
    from pathlib import Path

SELECTIONS: dict[str, Any] = {
    "all": lambda ds: ds,
    "a channel": lambda ds: ds.sel(channel=560),
    "scalars": lambda ds: ds.isel(channel=0, stack=-1),
    "a slice that starts inside a chunk": lambda ds: ds.chunk(z=3).isel(
        z=slice(1, 4), y=slice(2, 5)
    ),
    "every other, reversed": lambda ds: ds.isel(stack=slice(None, None, -2)),
    "a list": lambda ds: ds.isel(stack=[0, 1, 4], channel=[2, 0]),
    "points": lambda ds: ds.isel(
        stack=xr.DataArray([0, 4, 2], dims="p"), z=xr.DataArray([3, 1, 1], dims="p")
    ),
    "transposed": lambda ds: ds.transpose("z", ...),
    "by time": lambda ds: ds.isel(channel=0).swap_dims(stack="time"),
    "with a derived variable": lambda ds: ds.assign(projection=ds.image.max("z")),
}


# zarr says this of every store of format 3 that xarray consolidates; consolidated=False is silent.
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", SELECTIONS)
def test_round_trip(acquisition: Path, tmp_path: Path, name: str, zarr_format: int) -> None:
    (acquisition / reference_name(2, 3)).unlink()
    ds = SELECTIONS[name](xr.open_dataset(acquisition, engine="tiffstack"))
    ds.to_zarr(tmp_path / "store.zarr", zarr_format=zarr_format)
    with xr.open_zarr(tmp_path / "store.zarr") as back:
        xr.testing.assert_identical(back.load(), ds.compute())
        for variable, found in back.variables.items():
            kind = ds.variables[variable].dtype.kind
            assert found.dtype.kind == kind or (kind == "O" and found.dtype.kind in "OTU")


@pytest.mark.filterwarnings("error")
def test_no_warning_on_either_side(acquisition: Path, tmp_path: Path) -> None:
    ds = xr.open_dataset(acquisition, engine="tiffstack")
    for zarr_format, options in ((2, {}), (3, {"consolidated": False})):
        store = tmp_path / f"{zarr_format}.zarr"
        ds.to_zarr(store, zarr_format=zarr_format, **options)  # type: ignore[call-overload]
        with xr.open_zarr(store, **options) as back:
            xr.testing.assert_identical(back.load(), ds.compute())


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_files_and_report_survive(acquisition: Path, tmp_path: Path, zarr_format: int) -> None:
    (acquisition / reference_name(2, 3)).unlink()
    ds = xr.open_dataset(acquisition, engine="tiffstack")
    ds.to_zarr(tmp_path / "store.zarr", zarr_format=zarr_format)
    with xr.open_zarr(tmp_path / "store.zarr") as back:
        assert back.tiffstack.report() == ds.tiffstack.report()
        assert back.tiffstack.files.equals(ds.tiffstack.files)


@pytest.mark.parametrize("dtype", ["uint64", "int64", "float32", "int8", "complex64"])
def test_pixels_of_every_type(tmp_path: Path, dtype: str) -> None:
    import numpy as np
    import tifffile

    pixels = np.arange(48).reshape(6, 8).astype(dtype)
    tifffile.imwrite(tmp_path / "cell_t0.tif", pixels, photometric="minisblack")
    ds = xr.open_dataset(tmp_path, engine="tiffstack", pattern="cell_t{t:d}.tif")
    ds.to_zarr(tmp_path / "store.zarr", zarr_format=2)
    with xr.open_zarr(tmp_path / "store.zarr") as back:
        np.testing.assert_array_equal(back.image, pixels)
        assert back.image.dtype == dtype


def test_chunks_of_the_store_are_the_files(tmp_path: Path) -> None:
    for stack in range(2):
        write(tmp_path / "raw" / reference_name(0, stack), stack, shape=(3, 1024, 1024))
    ds = xr.open_dataset(tmp_path / "raw", engine="tiffstack")
    ds.to_zarr(tmp_path / "store.zarr")
    with xr.open_zarr(tmp_path / "store.zarr") as back:
        assert back.image.encoding["chunks"] == (1, 1, 3, 1024, 1024)


def test_saving_holds_a_few_files_in_memory(tmp_path: Path) -> None:
    nbytes = 8 * 1024 * 1024 * 2
    for stack in range(12):
        write(tmp_path / "raw" / reference_name(0, stack), 0, shape=(8, 1024, 1024))
    ds = xr.open_dataset(tmp_path / "raw", engine="tiffstack")
    tracemalloc.start()
    ds.to_zarr(tmp_path / "store.zarr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7 * nbytes  # workers x (a file and its compressed copies), of 12 files
