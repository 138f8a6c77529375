"""Labels as a person types them, with files missing, and in files of other formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
from conftest import pixels, reference_name, write_acquisition
from hypothesis import given
from hypothesis import strategies as st

from xarray_tiffstack.ome_zarr import images, to_ome_zarr, verify
from xarray_tiffstack.positions import evenly_spaced

if TYPE_CHECKING:
    from pathlib import Path


def opened(source: object, **options: object) -> xr.Dataset:
    return xr.open_dataset(source, engine="tiffstack", **options)  # type: ignore[arg-type]


@given(st.integers(1, 9999), st.integers(0, 4), st.integers(1, 300))
def test_positions_are_the_numbers_that_a_person_types(step: int, digits: int, count: int) -> None:
    typed = [float(f"{i * step}e-{digits}") for i in range(count)]
    assert evenly_spaced(count, step / 10**digits).tolist() == typed


def test_every_plane_can_be_selected_by_its_position(acquisition: Path) -> None:
    ds = opened(acquisition, voxel_size={"z": 0.4, "y": 0.1, "x": 0.104})
    np.testing.assert_array_equal(ds.z, [0.0, 0.4, 0.8, 1.2])
    found = ds.image.sel(channel=560, stack=2, z=1.2, y=0.3, x=0.208)
    assert found == pixels(7)[3, 3, 2]


def test_the_time_of_a_series_with_a_missing_file(acquisition: Path) -> None:
    (acquisition / reference_name(1, 2)).unlink()
    green = opened(acquisition).sel(channel=560)
    assert np.isnan(green.time[2])
    there = green.isel(stack=green.present.values).swap_dims(stack="time")
    found = there.image.sel(time=100_000, method="nearest")
    assert found["stack"] == 3
    np.testing.assert_array_equal(found, pixels(8))


def test_other_formats_hold_what_is_known(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    raw = write_acquisition(tmp_path / "raw")
    (raw / reference_name(1, 2)).unlink()
    (raw / "notes.tif").write_text("not an image")
    (raw / "more notes.tif").write_text("not an image")
    ds = opened(raw, unmatched="ignore")
    ds.astype("int32").to_netcdf(tmp_path / "raw.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "raw.nc", engine="scipy") as saved:
        assert saved.tiffstack.report() == ds.tiffstack.report()
    assert ds.tiffstack.report().unmatched == ["more notes.tif", "notes.tif"]


def test_every_plane_of_a_store_can_be_selected_by_its_position(
    acquisition: Path, tmp_path: Path
) -> None:
    size = {"z": 0.4, "y": 0.1, "x": 0.104}
    to_ome_zarr(opened(acquisition), tmp_path / "a.zarr", voxel_size=size, levels=2)
    made = xr.open_datatree(tmp_path / "a.zarr", engine="zarr")
    np.testing.assert_array_equal(made["0"].z, [0.0, 0.4, 0.8, 1.2])
    found = made["0"].image.sel(channel=560, stack=2, z=1.2, y=0.3, x=0.208)
    assert found == pixels(7)[3, 3, 2]


def test_a_store_with_the_positions_of_an_earlier_version_is_resumed_and_verified(
    acquisition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, size = tmp_path / "a.zarr", {"z": 0.4, "y": 0.1, "x": 0.1}
    with monkeypatch.context() as earlier:
        earlier.setattr(images, "evenly_spaced", lambda count, step: np.arange(count) * step)
        to_ome_zarr(opened(acquisition), store, voxel_size=size)
    assert xr.open_zarr(store / "0", consolidated=False).z[3] == 1.2000000000000002
    assert verify(opened(acquisition), store).ok
    assert to_ome_zarr(opened(acquisition), store, voxel_size=size).written == 0
    with pytest.raises(FileExistsError, match="voxel_size"):
        to_ome_zarr(opened(acquisition), store, voxel_size={**size, "z": 0.4000001})
