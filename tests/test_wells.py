"""Rows and columns of a plate beside the names of its wells, and stores that do not have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from conftest import pixels, to_ome_zarr, write

from xarray_tiffstack.look.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WELLS = ("B03", "B12", "H01")
VERSIONS = ("0.4", "0.5", "0.6")


def plate(folder: Path, wells: tuple[str, ...] = WELLS, fields: int = 2) -> xr.Dataset:
    for i, (well, field) in enumerate((w, f) for w in wells for f in range(fields)):
        write(folder / f"{well}_f{field}.tif", i, (6, 8))
    return xr.open_dataset(folder, engine="tiffstack", pattern="{well}_f{field:d}.tif")


def test_rows_and_columns_are_along_the_wells(tmp_path: Path) -> None:
    ds = plate(tmp_path)
    assert ds.row.dims == ds.col.dims == ("well",)
    assert ds.row.values.tolist() == ["B", "B", "H"]
    assert ds.col.values.tolist() == [3, 12, 1]
    assert ds.col.dtype == int
    one = ds.where((ds.row == "H") & (ds.col == 1), drop=True)
    np.testing.assert_array_equal(one.image.sel(well="H01", field=1), pixels(5, (6, 8)))
    # Laid out as on the plate, a well that is not there is missing.
    laid_out = ds[["image"]].set_index(well=["row", "col"]).unstack("well")
    found = laid_out.image.sel(row="B", col=12, field=0)
    np.testing.assert_array_equal(found, pixels(2, (6, 8)))
    assert bool(np.isnan(laid_out.image.sel(row="H", col=12)).all())


def test_of_one_well(tmp_path: Path) -> None:
    for field in range(2):
        write(tmp_path / f"C07_f{field}.tif", field, (6, 8))
    ds = xr.open_dataset(tmp_path, engine="tiffstack", pattern="{well}_f{field:d}.tif")
    ds = ds.squeeze()
    assert (ds.well.item(), ds.row.item(), ds.col.item()) == ("C07", "C", 7)


@pytest.mark.parametrize("wells", [("0001", "0013"), ("control", "treated"), ("A1", "empty")])
def test_names_that_say_no_place_get_none(tmp_path: Path, wells: tuple[str, ...]) -> None:
    ds = plate(tmp_path, wells)
    assert not {"row", "col"} & {*ds.variables}


def test_tokens_of_the_names_stay_what_they_are(tmp_path: Path) -> None:
    """Of a mosaic in each well, the row and column are those of the tile."""
    for i, (well, row, col) in enumerate(
        (w, r, c) for w in WELLS for r in range(2) for c in (4, 5)
    ):
        write(tmp_path / f"{well}_r{row}_c{col}.tif", i, (6, 8))
    options: dict[str, Any] = {"engine": "tiffstack", "pattern": "{well}_r{row:d}_c{col:d}.tif"}
    ds = xr.open_dataset(tmp_path, **options)
    assert dict(ds.image.sizes) == {"well": 3, "row": 2, "col": 2, "y": 6, "x": 8}
    assert ds.col.values.tolist() == [4, 5]
    assert "row" in xr.open_dataset(tmp_path, mosaic=True, overlap=0, **options).coords


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_gives_them_back(tmp_path: Path, version: str) -> None:
    ds = plate(tmp_path / "raw")
    to_ome_zarr(ds, tmp_path / "a.zarr", ngff_version=version, verify=True)
    back = open_store(tmp_path / "a.zarr").transpose(*ds.image.dims, ...)
    assert back.image.dims == ("well", "field", "y", "x")
    for name in ("well", "row", "col"):
        assert back[name].dims == ("well",)
        assert back[name].values.tolist() == ds[name].values.tolist()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_made_before_resumes_and_verifies(
    tmp_path: Path, version: str, opened: list[str]
) -> None:
    """Stores of earlier versions do not hold the row and the column of a well."""
    ds, store = plate(tmp_path / "raw"), tmp_path / "a.zarr"
    to_ome_zarr(ds.drop_vars(["row", "col"]), store, ngff_version=version)
    assert ds.tiffstack.verify(store, progress=False)
    opened.clear()
    again = to_ome_zarr(ds, store, ngff_version=version)
    assert again.written == 0
    assert opened == []
    assert ds.tiffstack.verify(store, progress=False)
    level = xr.open_zarr(store, group="B/12/1/0", consolidated=False)
    np.testing.assert_array_equal(level.image, pixels(3, (6, 8)))
    assert not {"row", "col"} & {*level.variables} or level.col.item() == 12


@pytest.mark.parametrize("version", VERSIONS)
def test_an_interrupted_store_made_before_resumes(
    tmp_path: Path, version: str, when_opened: Callable[[Callable[[str], object]], None]
) -> None:
    ds, store = plate(tmp_path / "raw"), tmp_path / "a.zarr"

    def interrupt(path: str) -> None:
        if path.endswith("H01_f0.tif"):
            raise KeyboardInterrupt

    when_opened(interrupt)
    with pytest.raises(KeyboardInterrupt):
        to_ome_zarr(ds.drop_vars(["row", "col"]), store, ngff_version=version, workers=1)
    when_opened(lambda path: None)
    done = to_ome_zarr(ds, store, ngff_version=version, verify=True)
    assert 0 < done.written < done.blocks
    back = open_store(store)
    assert back.col.dims == ("well",)
    assert back.col.values.tolist() == ds.col.values.tolist()
    np.testing.assert_array_equal(back.image.sel(well="H01", field=1), pixels(5, (6, 8)))


def test_other_wells_are_still_another_store(tmp_path: Path) -> None:
    ds, store = plate(tmp_path / "raw"), tmp_path / "a.zarr"
    to_ome_zarr(ds.drop_vars(["row", "col"]), store)
    other = ds.assign_coords(well=["B03", "B12", "H02"])
    with pytest.raises(FileExistsError):
        to_ome_zarr(other, store)
