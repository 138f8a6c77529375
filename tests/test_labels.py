"""Labels as a person types them, with files missing, and in files of other formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
from conftest import pixels, reference_name, write_acquisition
from hypothesis import given
from hypothesis import strategies as st

from xarray_tiffstack.coordinates import evenly_spaced

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
