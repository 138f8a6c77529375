"""The acquisition that this library grew up with, in full size: 597 files of 316 MB."""

from __future__ import annotations

import os
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import xarray as xr

if TYPE_CHECKING:
    from pathlib import Path

PAGES, Y, X = 201, 1024, 768
CHANNELS, STACKS = (488, 560, 642), 199


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """597 names of one sparse file, which takes no room on the disk."""
    folder = tmp_path_factory.mktemp("reference")
    one = folder / "one"
    tifffile.memmap(one, shape=(PAGES, Y, X), dtype="uint16", photometric="minisblack")
    with tifffile.TiffFile(one) as tif:
        assert len(tif.pages) == PAGES
        offset = tif.pages[100].dataoffsets[0]
    with one.open("r+b") as file:  # plane 100 has a value of its own
        file.seek(offset)
        file.write(np.full(Y * X, 100, "<u2").tobytes())
    raw = folder / "raw"
    raw.mkdir()
    for ch, stack in product(range(3), range(STACKS)):
        msec = round(stack * 8662163 / 198) - (ch == 0 and 0 < stack < 198)
        name = (
            f"ex6-2_CamA_ch{ch}_CAM1_stack{stack:04d}_{CHANNELS[ch]}nm_{msec:07d}msec_"
            f"{1291795 + msec + ch:010d}msecAbs_000x_000y_000z_0000t.tif"
        )
        os.link(one, raw / name)
    return raw


def test_it_opens_as_it_must(reference: Path, opened: list[str]) -> None:
    ds = xr.open_dataset(reference, engine="tiffstack")
    assert len(set(opened)) == 1
    assert ds.image.dims == ("channel", "stack", "z", "y", "x")
    assert ds.image.shape == (3, 199, 201, 1024, 768)
    assert ds.image.dtype == np.uint16
    assert round(ds.image.nbytes / 1e9, 2) == 188.74
    assert ds.image.data.chunksize == (1, 1, 201, 1024, 768)
    assert ds.image.data.npartitions == 597
    assert ds.channel.values.tolist() == [488, 560, 642]
    assert ds["stack"].values.tolist() == list(range(199))
    assert ds.time.dims == ("channel", "stack")
    assert ds.time.dtype == np.int64
    assert (ds.time.min(), ds.time.max()) == (0, 8662163)
    assert ds.present.all()
    for name in ("x_offset", "y_offset", "z_offset", "camera"):
        assert ds[name].ndim == 0


def test_a_plane_by_its_labels(reference: Path, opened: list[str]) -> None:
    ds = xr.open_dataset(reference, engine="tiffstack")
    opened.clear()
    plane = ds.image.sel(channel=560).isel(stack=3).isel(z=100).compute()
    assert (plane == 100).all()
    assert ["stack0003_560nm" in path for path in set(opened)] == [True]
    assert not ds.image.sel(channel=560, stack=3)[101].any()
