"""The second way to read a file finds what is wrong with the first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from test_tiff import SETS, WRITTEN, stack, write

from xarray_tiffstack import tiff

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", WRITTEN)
def test_it_reads_what_the_first_reads(tmp_path: Path, kind: str) -> None:
    path, pixels = tmp_path / "a.tif", stack(5, 33, 40)
    write(path, pixels, **WRITTEN[kind])
    seen = set()
    for seed in range(12):
        for index, plane in tiff.recheck(path, tiff.probe(path), sample=3, seed=seed):
            np.testing.assert_array_equal(plane, pixels[index])
            seen.add(index)
    assert seen == {(z,) for z in range(5)}


@pytest.mark.parametrize("name", SETS or ["none"])
def test_it_reads_real_files(data: Path, name: str) -> None:
    paths = sorted(p for p in (data / name).rglob("*") if p.suffix.lower() in {".tif", ".tiff"})
    for path in [p for p in paths if p.stat().st_size][:: max(1, len(paths) // 6)]:
        layout = tiff.probe(path)
        whole = tiff.read(path, layout, [slice(None)] * len(layout.shape))
        found = list(tiff.recheck(path, layout, sample=2))
        assert found
        for index, plane in found:
            np.testing.assert_array_equal(plane, whole[index], err_msg=str(path))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 3, 4, 8, 9), {"ome": True, "metadata": {"axes": "TZCYX"}}),
        ((4, 20, 30, 3), {"photometric": "rgb"}),
        ((4, 3, 20, 30), {"photometric": "rgb", "planarconfig": "separate"}),
        ((6, 7), {}),
        ((1, 1, 7), {}),
        ((4, 6, 7), {"imagej": True, "truncate": True, "metadata": {"axes": "ZYX"}}),
        ((4, 6, 7), {"imagej": True, "truncate": True, "byteorder": ">"}),
    ],
)
def test_any_axes(tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    path, pixels = tmp_path / "a.tif", stack(*shape)
    options = {"metadata": {}, **options}
    if "rgb" in str(options):
        pixels = pixels.astype("uint8")
    write(path, pixels, **options)
    layout = tiff.probe(path)
    for index, plane in tiff.recheck(path, layout, sample=100):
        np.testing.assert_array_equal(plane, pixels.reshape(layout.shape)[index])


def test_another_number_of_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, stack(5, 6, 7), metadata=None)
    layout = tiff.probe(path)
    for wrong in (4, 6):
        with pytest.raises(ValueError, match=rf"a\.tif has 5 pages.*, {wrong} were opened"):
            list(tiff.recheck(path, replace(layout, shape=(wrong, 6, 7))))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises((OSError, ValueError), match=r"a\.tif"):
        list(tiff.recheck(path, layout))


def test_a_wrong_order_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    pixels = stack(2, 3, 4, 8, 9)  # time, z, channel
    write(path, pixels, ome=True, metadata={"axes": "TZCYX"})
    swapped = path.read_bytes().replace(b'DimensionOrder="XYCZT"', b'DimensionOrder="XYZCT"')
    path.write_bytes(swapped)
    right = pixels.reshape(2, 4, 3, 8, 9)
    for index, plane in tiff.recheck(path, tiff.probe(path), sample=24):
        np.testing.assert_array_equal(plane, right[index])


def test_pages_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, stack(5, 6, 7), metadata=None)
    layout = tiff.probe(path)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[4]
        link = max(tag.offset for tag in page.tags) + 12
    content = bytearray(path.read_bytes())
    content[link : link + 4] = content[4:8]
    path.write_bytes(content)
    assert len(list(tiff.recheck(path, layout, sample=9))) == 5
