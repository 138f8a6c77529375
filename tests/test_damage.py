"""Damaged and hostile files: refused with their name, or read right; nothing hangs."""

from __future__ import annotations

import os
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from xarray_tiffstack import tiff
from xarray_tiffstack.tiff.pages import page_table

Y, X = 21, 18
WHOLE = [slice(None)] * 3


def pixels(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return (np.arange(np.prod(shape)) * 259 % 65521).reshape(shape).astype(dtype)


def write(path: Path, array: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, array, **{"photometric": "minisblack", "metadata": None, **options})
    return path


def entry(path: Path, code: int, page: int = 0) -> int:
    """Where the entry of a tag is: code, type, count and value, of 2, 2, 4 and 4 bytes."""
    with tifffile.TiffFile(path) as tif:
        return int(tif.pages[page].aspage().tags[code].offset)


def patch(path: Path, at: int, form: str, *values: int) -> None:
    """Overwrite bytes of a little-endian file."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + form, content, at, *values)
    path.write_bytes(content)


def link(path: Path, page: int) -> int:
    """Where the offset of the directory after that of a page is."""
    with tifffile.TiffFile(path) as tif:
        return max(int(tag.offset) for tag in tif.pages[page].aspage().tags) + 12


def outcome(path: Path, layout: tiff.Layout) -> np.ndarray | None:
    """What is read of a file, None where an error names it."""
    page_table.cache_clear()
    try:
        return tiff.read(path, layout, [slice(None)] * len(layout.shape))
    except (OSError, ValueError) as error:
        if path.name not in str(error):
            raise
        return None


# --- What is no file


@pytest.mark.parametrize("make", ["fifo", "folder", "device"])
def test_only_regular_files_are_opened(tmp_path: Path, make: str) -> None:
    path = tmp_path / "a.tif"
    if make == "folder":
        path.mkdir()
    elif os.name != "posix":
        pytest.skip("this system has no such files")
    elif make == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    for call in (tiff.probe, tiff.metadata):
        with pytest.raises(OSError, match=r"a\.tif is not a regular file"):
            call(path)


# --- Circles


@pytest.mark.parametrize("page", [0, 2, 3])
@pytest.mark.parametrize("to", ["itself", "first", "16"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"software": "SI.1"}])
def test_pages_that_lead_back(tmp_path: Path, page: int, to: str, options: dict[str, Any]) -> None:
    good, path = tmp_path / "good.tif", tmp_path / "bad.tif"
    write(good, pixels(4, Y, X), **options)
    layout = tiff.probe(write(path, pixels(4, Y, X), **options))
    with tifffile.TiffFile(path) as tif:
        offsets = [int(p.offset) for p in tif.pages]
    target = {"itself": offsets[page], "first": offsets[0], "16": 16}[to]
    patch(path, link(path, page), "I", target)
    found = outcome(path, layout)
    if page == 3:
        assert found is not None
        np.testing.assert_array_equal(found, pixels(4, Y, X))
    else:
        assert found is None
    if to == "16":
        with pytest.raises(OSError, match=rf"bad\.tif is cut short after page {page + 1}"):
            tiff.probe(path)
    else:
        assert f"page {page + 1}, leads back" in tiff.probe(path).notes[-1]
        assert tiff.probe(path).shape == ((page + 1, Y, X) if page else (Y, X))
    tiff.metadata(path)


# --- Places


@pytest.mark.parametrize("dtype", ["uint16", "uint8"])
@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 5}, {"compression": "zlib"}])
@pytest.mark.parametrize("page", [0, 2])
def test_an_offset_of_zero(tmp_path: Path, options: dict[str, Any], page: int, dtype: str) -> None:
    path = write(tmp_path / "a.tif", pixels(4, Y, X, dtype=dtype), **options)
    layout = tiff.probe(path)
    at = entry(path, 273, page)
    count, value = struct.unpack_from("<II", path.read_bytes(), at + 4)
    patch(path, at + 8 if count == 1 else value, "I", 0)
    assert outcome(path, layout) is None
    with pytest.raises(OSError, match=r"a\.tif is damaged: a page does not say where its pixels"):
        tiff.probe(path)
    other = tiff.read(path, layout, (1, slice(None), slice(None)))
    np.testing.assert_array_equal(other, pixels(4, Y, X, dtype=dtype)[1])


@pytest.mark.parametrize("kind", [1, 2, 3, 5, 6, 8, 9, 10, 13, 18, 99])
@pytest.mark.parametrize("code", [273, 279])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 7}])
def test_places_of_odd_types(tmp_path: Path, kind: int, code: int, options: dict[str, Any]) -> None:
    """What tifffile reads, or an error; never other pixels."""
    array = pixels(Y, X)
    path = write(tmp_path / "a.tif", array, **options)
    layout = tiff.probe(path)
    patch(path, entry(path, code) + 2, "H", kind)
    found = outcome(path, layout)
    if found is not None:
        with tifffile.TiffFile(path) as tif:
            expected = tif.pages[0].asarray()
        assert np.array_equal(found, expected) or np.array_equal(found, array)


@pytest.mark.parametrize(
    "options", [{"compression": "zlib", "rowsperstrip": 7}, {"tile": (16, 16)}]
)
def test_a_strip_or_tile_of_no_bytes(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(tmp_path / "a.tif", pixels(40, 36), **options)
    layout = tiff.probe(path)
    code = 325 if "tile" in options else 279
    (value,) = struct.unpack_from("<I", path.read_bytes(), entry(path, code) + 8)
    (kind,) = struct.unpack_from("<H", path.read_bytes(), entry(path, code) + 2)
    patch(path, value, "H" if kind == 3 else "I", 0)
    assert outcome(path, layout) is None


def test_strips_that_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels(40, 36), compression="zlib", rowsperstrip=7)
    layout = tiff.probe(path)
    for code in (273, 279):
        patch(path, entry(path, code) + 4, "I", 4)
    assert outcome(path, layout) is None


# --- Kinds of pixels


@pytest.mark.parametrize("planar", [0, 3, 7])
def test_an_unknown_order_of_samples(tmp_path: Path, planar: int) -> None:
    path = tmp_path / "a.tif"
    write(path, pixels(Y, X, 3, dtype="uint8"), photometric="rgb", compression="zlib")
    layout = tiff.probe(path)
    patch(path, entry(path, 284) + 8, "H", planar)
    assert outcome(path, layout) is None


@pytest.mark.parametrize("form", [0, 5, 7, 255])
def test_an_unknown_kind_of_numbers(tmp_path: Path, form: int) -> None:
    path = write(tmp_path / "a.tif", pixels(2, Y, X, dtype="int16"))
    layout = tiff.probe(path)
    patch(path, entry(path, 339) + 8, "H", form)
    assert outcome(path, layout) is None
    with pytest.raises((OSError, ValueError), match=r"a\.tif"):
        tiff.probe(path)


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"compression": "lzw"}, {"compression": "packbits"}]
)
def test_no_memory_that_the_file_cannot_fill(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(tmp_path / "a.tif", np.zeros((1000, 1000), "uint16"), **options)
    for code in (256, 257, 278):
        patch(path, entry(path, code) + 2, "H", 4)
        patch(path, entry(path, code) + 8, "I", 60_000)
    tracemalloc.start()
    try:
        with pytest.raises((OSError, ValueError), match=r"a\.tif"):
            tiff.probe(path)
        with pytest.raises((OSError, ValueError), match=r"a\.tif"):
            tiff.read(path, tiff.Layout(("y", "x"), (60_000,) * 2, np.dtype("u2")), WHOLE[:2])
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


# --- Metadata


OME = (
    '{head}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="18" SizeY="21" SizeZ="{z}" '
    'SizeC="1" SizeT="{t}" PhysicalSizeX="{size}"><Channel ID="Channel:0:0"/>{places}'
    "</Pixels></Image></OME>"
)


def ome(
    path: Path, head: str = "", z: int = 4, t: int = 1, size: str = "0.5", places: str = ""
) -> Path:
    xml = OME.format(head=head, z=z, t=t, size=size, places=places or "<TiffData/>")
    return write(path, pixels(4, Y, X), description=xml)


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("0.25")
    head = f'<!DOCTYPE OME [<!ENTITY a "0.25"><!ENTITY b SYSTEM "{secret.as_uri()}">]>'
    for size in ("&a;", "&b;", "0.5"):
        path = ome(tmp_path / "a.ome.tif", head, size=size)
        assert tiff.metadata(path).voxel_size == {}
        layout = tiff.probe(path)
        assert layout.axes == ("page", "y", "x")
        np.testing.assert_array_equal(tiff.read(path, layout, WHOLE), pixels(4, Y, X))


@pytest.mark.parametrize("name", ["../outside.tif", "beside.tif", "/etc/passwd"])
def test_metadata_opens_no_other_file(tmp_path: Path, name: str, opened: list[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for other in (tmp_path / "outside.tif", folder / "beside.tif"):
        write(other, pixels(4, Y, X) + 1)
    place = (
        '<TiffData IFD="{0}" FirstZ="{0}" PlaneCount="1"><UUID FileName="{1}">urn:uuid:{2}</UUID>'
        "</TiffData>"
    )
    places = "".join(place.format(k, ("a.ome.tif", name)[k % 2], k % 2) for k in range(4))
    path = ome(folder / "a.ome.tif", places=places)
    opened.clear()
    layout = tiff.probe(path)
    tiff.read(path, layout, [slice(None)] * len(layout.shape))
    tiff.metadata(path)
    assert set(opened) == {str(path)}


@pytest.mark.parametrize("sizes", [{"t": 10**9}, {"t": 10**5, "z": 10**5}])
@pytest.mark.parametrize("places", ["", '<TiffData IFD="0" PlaneCount="2000000000"/>'])
def test_metadata_takes_no_memory(tmp_path: Path, sizes: dict[str, int], places: str) -> None:
    path = ome(tmp_path / "a.ome.tif", places=places, **sizes)
    tracemalloc.start()
    try:
        layout = tiff.probe(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert layout.axes == ("page", "y", "x")
    np.testing.assert_array_equal(tiff.read(path, layout, WHOLE), pixels(4, Y, X))


# --- Files that change


def test_rewritten_in_place_with_its_time_kept(tmp_path: Path) -> None:
    """As ``rsync --times --inplace`` does: same size, same time, other places."""
    path, other = tmp_path / "a.tif", tmp_path / "b.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane in pixels(4, Y, X):
            tif.write(plane, photometric="minisblack", metadata=None, contiguous=False)
    write(other, pixels(4, Y, X)[::-1])
    content = other.read_bytes()
    content += bytes(path.stat().st_size - len(content))
    layout = tiff.probe(path)
    for _ in range(20):
        for now in (content, path.read_bytes()):
            before = path.stat()
            with path.open("r+b") as file:
                file.write(now)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            with tifffile.TiffFile(path) as tif:
                expected = np.stack([page.asarray() for page in tif.pages])
            np.testing.assert_array_equal(tiff.read(path, layout, WHOLE), expected)


def test_sixteen_threads(tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [{}, {"compression": "zlib"}, {"rowsperstrip": 5}]
    paths = [write(tmp_path / f"{i}.tif", pixels(9, Y, X) + i, **o) for i, o in enumerate(options)]
    layout = tiff.probe(paths[0])

    def right(k: int) -> bool:
        i, z = k % 3, k % 9
        if k % 20 == 0:
            page_table.cache_clear()
        plane = tiff.read(paths[i], layout, (z, slice(None), slice(None)))
        return np.array_equal(plane, (pixels(9, Y, X) + i)[z])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(right, range(2000)))


# --- Reads


def reads() -> int:
    """How often this process has asked the kernel for bytes."""
    fd = os.open("/proc/self/io", os.O_RDONLY)
    try:
        return int(os.read(fd, 128).split()[5])
    finally:
        os.close(fd)


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="counts reads as Linux does")
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize(
    ("rows", "columns", "most"),
    [
        (slice(None, None, 4), slice(None, None, 4), 1),
        (slice(None), slice(None), 1),
        (slice(None), 5, 1),
        (np.array([900, 3, 40]), slice(None), 2),  # 256 KiB apart
        (slice(None, None, -100), slice(7, 9), 1),
    ],
)
def test_one_read_a_plane(
    tmp_path: Path, rows: Any, columns: Any, most: int, byteorder: str
) -> None:
    array = pixels(6, 1000, 1200)
    path = write(tmp_path / "a.tif", array, byteorder=byteorder)
    layout = tiff.probe(path)
    key = (slice(None, None, 2), rows, columns)
    tiff.read(path, layout, key)
    before = reads()
    found = tiff.read(path, layout, key)
    spent = reads() - before - 2  # of the counter, and the header
    assert spent <= 3 * most
    np.testing.assert_array_equal(found, array[key])
