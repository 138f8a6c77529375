"""Files of one page: what is known of one holds for another only where their bytes say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from conftest import pixels, write

from xarray_tiffstack import tiff
from xarray_tiffstack.tiff import singles

if TYPE_CHECKING:
    from pathlib import Path

PLANE = (6, 8)


def strips(path: Path) -> tuple[int, int]:
    """Where a file has the offsets of its strips, and how long each is in bytes."""
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["StripOffsets"]
        assert tag.count == 3
        return tag.valueoffset, {3: 2, 4: 4}[tag.dtype]


def both(path: Path) -> np.ndarray:
    """Pixels of a file by `read`, and by its ranges."""
    layout = tiff.probe(path)
    found = tiff.read(path, layout, (slice(None),) * 2)
    data = path.read_bytes()
    for each in tiff.ranges(path, layout):
        parts = zip(each.offsets[0].tolist(), each.counts[0].tolist(), strict=True)
        raw = b"".join(data[start : start + count] for start, count in parts)
        np.testing.assert_array_equal(np.frombuffer(raw, "<u2").reshape(PLANE), found)
    return found


def test_strips_elsewhere_in_a_file_of_the_same_directory(tmp_path: Path) -> None:
    one = write(tmp_path / "one.tif", 1, PLANE, rowsperstrip=2)
    other = tmp_path / "other.tif"
    data = bytearray(one.read_bytes())
    at, size = strips(one)
    first, second = data[at : at + size], data[at + size : at + 2 * size]
    data[at : at + 2 * size] = second + first
    other.write_bytes(data)
    wanted = pixels(1, PLANE)
    swapped = wanted[[2, 3, 0, 1, 4, 5]]
    for _ in range(2):
        np.testing.assert_array_equal(both(one), wanted)
        np.testing.assert_array_equal(both(other), swapped)


def test_files_that_are_alike_are_understood_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(tmp_path / f"{k}.tif", k, PLANE) for k in range(3)]
    kept: list[str] = []
    keep = singles.keep
    monkeypatch.setattr(
        singles, "keep", lambda file, *rest: (kept.append(file.path), keep(file, *rest))
    )
    singles._last.clear()
    for k, path in enumerate(paths):
        np.testing.assert_array_equal(both(path), pixels(k, PLANE))
    assert kept == [str(paths[0])]


@pytest.mark.parametrize("what", ["text", "directory", "two pages"])
def test_what_differs_is_understood_anew(tmp_path: Path, what: str) -> None:
    one = write(tmp_path / "one.tif", 1, PLANE, description="a" * 40)
    other = tmp_path / "other.tif"
    if what == "text":
        write(other, 2, PLANE, description="b" * 40)
    elif what == "directory":
        write(other, 2, (8, 6), description="a" * 40)
    else:
        write(other, 2, (2, *PLANE), description="a" * 40)
    tiff.probe(one)
    assert tiff.probe(other).shape == {"directory": (8, 6), "two pages": (2, *PLANE)}.get(
        what, PLANE
    )
    assert tiff.probe(one).shape == PLANE


def test_an_end_that_is_missing_is_still_an_error(tmp_path: Path) -> None:
    """Of a file whose pixels come last."""
    one = write(tmp_path / "one.tif", 1, PLANE)
    tiff.probe(one)
    (tmp_path / "cut.tif").write_bytes(one.read_bytes()[:-20])
    with pytest.raises(OSError, match=r"cut short|damaged"):
        tiff.probe(tmp_path / "cut.tif")
