"""Files that say otherwise than the first: other channels, another scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import xarray as xr

from xarray_tiffstack.cli import main

if TYPE_CHECKING:
    from pathlib import Path

SCALE = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "TimeIncrement": 2.0}
PATTERN = "pos{position:d}.ome.tif"


def write(folder: Path, position: int, channels: tuple[str, str], **scale: float) -> None:
    """Write two time points of two channels; a pixel holds position, time and channel."""
    pixels = np.empty((2, 2, 8, 9), np.uint16)
    pixels[:] = 100 * position + 10 * np.arange(2)[:, None, None, None]
    pixels += np.arange(2, dtype=np.uint16)[:, None, None]
    described = {"axes": "TCYX", "Channel": {"Name": channels}, **SCALE, **scale}
    tifffile.imwrite(
        folder / f"pos{position}.ome.tif", pixels, metadata=described, photometric="minisblack"
    )


def opened(folder: Path, **keywords: object) -> xr.Dataset:
    return xr.open_dataset(folder, engine="tiffstack", pattern=PATTERN, **keywords)


def test_channels_in_another_order_are_no_pixels_under_a_wrong_label(tmp_path):
    write(tmp_path, 0, ("DAPI", "GFP"))
    write(tmp_path, 1, ("GFP", "DAPI"))
    ds = opened(tmp_path)
    assert ds.channel.values.tolist() == ["DAPI", "GFP"]
    assert (ds.image.sel(channel="GFP", position=0) == 1 + 10 * np.arange(2)[:, None, None]).all()
    for part in (ds.image.sel(channel="GFP"), ds.image.isel(position=1), ds.image[:, 0, 1, 3, 3]):
        with pytest.raises(ValueError, match=r"pos1.ome.tif says .* GFP, DAPI.*DAPI, GFP"):
            part.compute()


def test_a_conversion_tells_of_channels_in_another_order(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    write(raw, 0, ("DAPI", "GFP"))
    write(raw, 1, ("GFP", "DAPI"))
    done = opened(raw).tiffstack.to_ome_zarr(tmp_path / "a.zarr", progress=False)
    (failure,) = done.failed
    assert "pos1.ome.tif says that its channels are GFP, DAPI" in str(failure)
    command = ["convert", str(raw), str(tmp_path / "b.zarr"), "--pattern", PATTERN, "--quiet"]
    assert main(command) == 3


def test_headers_that_name_other_channels_are_told_and_channels_not_named(tmp_path):
    write(tmp_path, 0, ("DAPI", "GFP"))
    write(tmp_path, 1, ("DAPI", "CD8"))
    write(tmp_path, 2, ("DAPI", "GFP"), PhysicalSizeX=0.2, TimeIncrement=5.0)
    with pytest.warns(UserWarning, match="2 of 3 files say otherwise than pos0.ome.tif"):
        ds = opened(tmp_path, validate="headers")
    assert "channel" not in ds.coords
    expected = (
        100 * np.arange(3)[:, None, None, None, None]
        + 10 * np.arange(2)[:, None, None, None]
        + np.arange(2)[:, None, None]
    )
    assert (ds.image == expected).all()
    assert ds.tiffstack.report().disagreements == [
        "pos1.ome.tif: channels DAPI, CD8, not DAPI, GFP",
        "pos2.ome.tif: time between frames 5000, not 2000 ms, voxel size x 0.2, not 0.1 µm",
    ]


def test_a_name_in_upper_or_lower_case_is_the_same_channel(tmp_path, recwarn):
    write(tmp_path, 0, ("DAPI", "GFP"))
    write(tmp_path, 1, ("dapi ", "gfp"))
    ds = opened(tmp_path, validate="headers")
    assert ds.channel.values.tolist() == ["DAPI", "GFP"]
    assert ds.image.sel(channel="GFP", position=1, time=0).values.tolist() == [[101] * 9] * 8
    assert not recwarn.list


def test_names_inside_do_not_matter_where_the_names_of_files_tell_channels_apart(tmp_path):
    for number, channels in enumerate([("a", "b"), ("c", "d")]):
        write(tmp_path, number, channels)
    ds = xr.open_dataset(tmp_path, engine="tiffstack", pattern="pos{channel:d}.ome.tif")
    assert ds.image.dims[:3] == ("channel", "time", "channel_in_file")
    assert ds.image.isel(time=0, y=0, x=0).values.tolist() == [[0, 1], [100, 101]]


def test_scales_of_imagej_files_are_compared_too(tmp_path):
    for t, size in enumerate((5, 5, 4)):
        tifffile.imwrite(
            tmp_path / f"a_t{t}.tif", np.zeros((3, 8, 9), "u2"), imagej=True,
            resolution=(size, size), metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
        )  # fmt: skip
    with pytest.warns(UserWarning, match=r"a_t2.tif: voxel size x 0.25, not 0.2 µm, voxel size y"):
        xr.open_dataset(tmp_path, engine="tiffstack", pattern="a_t{t:d}", validate="headers")


def test_axes_in_another_order_are_not_read_as_if_they_were_the_same(tmp_path):
    pixels = np.arange(2 * 2 * 8 * 9, dtype=np.uint16).reshape(2, 2, 8, 9)
    for number, axes in enumerate(("ZCYX", "CZYX")):
        tifffile.imwrite(
            tmp_path / f"pos{number}.ome.tif", pixels, metadata={"axes": axes},
            photometric="minisblack",
        )  # fmt: skip
    ds = opened(tmp_path)
    assert (ds.image.isel(position=0) == pixels).all()
    with pytest.raises(ValueError, match=r"pos1.ome.tif holds \(channel: 2, z: 2, y: 8, x: 9\)"):
        ds.image.isel(position=1).compute()
    with pytest.raises(ValueError, match="2 samples"):
        opened(tmp_path, validate="headers")


def test_pixels_that_are_to_be_shown_in_another_way_are_told(tmp_path):
    pixels = np.arange(72, dtype=np.uint8).reshape(8, 9)
    for t, (kind, orientation) in enumerate(
        [("miniswhite", 1), ("miniswhite", 1), ("minisblack", 1), ("miniswhite", 4)]
    ):
        tifffile.imwrite(
            tmp_path / f"a_t{t}.tif", pixels, photometric=kind, metadata=None,
            extratags=[(274, 3, 1, orientation, True)],
        )  # fmt: skip
    with pytest.warns(UserWarning, match="2 of 4 files say otherwise than a_t0.tif"):
        ds = xr.open_dataset(tmp_path, engine="tiffstack", pattern="a_t{t:d}", validate="headers")
    assert (ds.image == pixels).all()
    assert ds.tiffstack.report().disagreements == [
        "a_t2.tif: shown with 0 is black, rows from the top, not 0 is white",
        "a_t3.tif: shown with 0 is white, rows from the bottom up, not 0 is white",
        "files say that they are shown with 0 is white; pixels are here as they are stored",
    ]
