"""One TIFF file: equal to what tifffile reads, and no byte read too many."""

from __future__ import annotations

import gzip
import math
import os
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from xarray_tiffstack import tiff
from xarray_tiffstack.tiff import Layout, read
from xarray_tiffstack.tiff.pages import page_table

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = [p.name for p in sorted(DATA.glob("*")) if p.is_dir() and p.name != "broken_pillow"]


def stack(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Pixels that say where they belong, low byte and high byte different."""
    return (np.arange(math.prod(shape)) * 259 % 65521).reshape(shape).astype(dtype)


def write(path: Path, pixels: np.ndarray, **options: object) -> None:
    """Write a TIFF of grey pixels, unless told otherwise."""
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})


def probe(path: Path, pages: str = "z") -> Layout:
    """Layout of a file whose pages are planes of a stack, unless it tells otherwise."""
    return tiff.probe(path, pages=pages)


def read_all(path: Path) -> np.ndarray:
    """Whole array of a file."""
    layout = probe(path)
    return read(path, layout, [slice(None)] * len(layout.shape))


def outer(array: np.ndarray, selection: tuple[object, ...]) -> np.ndarray:
    """Orthogonal indexing, as numpy spells it."""
    kept = [slice(i, i + 1 or None) if isinstance(i, int) else i for i in selection]
    for axis, index in enumerate(kept):
        array = array[(slice(None),) * axis + (index,)]
    return array[tuple(0 if isinstance(i, int) else slice(None) for i in selection)]


# --- Equal to tifffile


@pytest.mark.parametrize("name", SETS or ["none"])
def test_real_files_read_as_tifffile_reads_them(data: Path, name: str) -> None:
    paths = sorted(p for p in (data / name).rglob("*") if p.suffix.lower() in {".tif", ".tiff"})
    few = [p for p in paths if p.stat().st_size][:: max(1, len(paths) // 14)]
    for path in few:
        with tifffile.TiffFile(path, _multifile=False) as tif:
            expected = tif.series[0].asarray(maxworkers=1)
        found = read_all(path)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=str(path))


WRITTEN = {
    "plain": {"metadata": None},
    "strips": {"metadata": None, "rowsperstrip": 5},
    "shaped": {},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
    "tiled": {"metadata": None, "tile": (16, 16)},
    "big-endian": {"metadata": None, "byteorder": ">"},
    "bigtiff": {"metadata": None, "bigtiff": True},
    "bigtiff-big-endian": {"metadata": None, "bigtiff": True, "byteorder": ">", "rowsperstrip": 3},
    "lzw": {"metadata": None, "compression": "lzw", "predictor": True},
    "deflate": {"compression": "zlib", "rowsperstrip": 4, "bigtiff": True},
    "zstd-tiled": {"metadata": None, "compression": "zstd", "tile": (16, 32), "byteorder": ">"},
    "packbits": {"metadata": None, "compression": "packbits"},
    "ome-tiled-deflate": {
        "ome": True,
        "metadata": {"axes": "ZYX"},
        "compression": "zlib",
        "tile": (16, 16),
    },
}
DTYPES = ("uint8", "uint16", "int16", "float32")


@pytest.mark.parametrize(
    ("kind", "dtype"),  # ImageJ has no signed pixels
    [pair for pair in product(WRITTEN, DTYPES) if pair != ("imagej", "int16")],
)
def test_written_files_read_back(tmp_path: Path, kind: str, dtype: str) -> None:
    pixels = stack(5, 33, 40, dtype=dtype)
    path = tmp_path / "a.tif"
    write(path, pixels, **WRITTEN[kind])
    layout = probe(path)
    assert layout == Layout(("z", "y", "x"), (5, 33, 40), np.dtype(dtype))
    np.testing.assert_array_equal(read_all(path), pixels)
    for index in ((3, slice(4, 9), slice(None)), (slice(None, None, -2), 7, np.array([39, 0, 0]))):
        np.testing.assert_array_equal(read(path, layout, index), outer(pixels, index))


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((3, 20, 30), {"photometric": "rgb", "planarconfig": "separate"}, ("sample", "y", "x")),
        ((20, 30, 3), {"photometric": "rgb"}, ("y", "x", "sample")),
        ((4, 20, 30, 3), {"photometric": "rgb", "metadata": None}, ("z", "y", "x", "sample")),
        ((4, 20, 30, 3), {"photometric": "rgb", "rowsperstrip": 6, "byteorder": ">"}, None),
        ((2, 3, 4, 16, 18), {"photometric": "minisblack"}, ("page_1", "page_0", "z", "y", "x")),
        ((2, 3, 4, 16, 18), {"imagej": True, "metadata": {"axes": "TZCYX"}}, None),
        ((2, 3, 4, 16, 18), {"ome": True, "metadata": {"axes": "TCZYX"}}, None),
        ((2, 1, 4, 16, 18), {"ome": True, "metadata": {"axes": "TCZYX"}}, ("time", "z", "y", "x")),
        ((1, 1, 7), {"photometric": "minisblack"}, None),
        ((6, 16, 18), {"volumetric": True, "tile": (2, 16, 16), "photometric": 1}, None),
    ],
)
def test_axes(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, object], axes: tuple[str, ...] | None
) -> None:
    path = tmp_path / "a.tif"
    write(path, stack(*shape), **options)
    expected = tifffile.imread(path)
    layout = probe(path)
    assert axes is None or layout.axes == axes
    assert layout.shape == expected.shape
    assert len(set(layout.axes)) == len(layout.axes)
    np.testing.assert_array_equal(read_all(path), expected)
    last = (-1, *(slice(None, None, -1) for _ in shape[1:]))[: expected.ndim]
    np.testing.assert_array_equal(read(path, layout, last), outer(expected, last))


def test_pages_keyword_names_what_the_file_does_not(tmp_path: Path) -> None:
    plain, hyper = tmp_path / "plain.tif", tmp_path / "hyper.tif"
    write(plain, stack(5, 6, 7), metadata=None)
    write(hyper, stack(2, 3, 6, 7), imagej=True, metadata={"axes": "TZYX"})
    assert probe(plain, pages="time").axes == ("time", "y", "x")
    assert probe(hyper, pages="time").axes == ("time", "z", "y", "x")


def test_layout_is_small_comparable_and_says_what_it_is(tmp_path: Path) -> None:
    little, big = tmp_path / "little.tif", tmp_path / "big.tif"
    write(little, stack(5, 6, 7), metadata=None)
    write(big, stack(5, 6, 7), metadata=None, byteorder=">", compression="zlib")
    layout = probe(little)
    assert layout == probe(big) == pickle.loads(pickle.dumps(layout))
    assert hash(layout) == hash(probe(big))
    assert layout.nbytes == 5 * 6 * 7 * 2
    assert str(layout) == "(z: 5, y: 6, x: 7) uint16"
    # One layout serves both files.
    np.testing.assert_array_equal(read(big, layout, [slice(None)] * 3), stack(5, 6, 7))


# --- Any selection


@pytest.fixture(scope="module")
def flavours(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Layout, np.ndarray]]:
    """The same pixels, stored in every way."""
    folder = tmp_path_factory.mktemp("flavours")
    pixels = stack(4, 11, 2100)  # a row is longer than what is read over
    found = []
    for kind, options in WRITTEN.items():
        path = folder / f"{kind}.tif"
        write(path, pixels, **options)
        found.append((path, probe(path), pixels))
    rgb = {"photometric": "rgb", "metadata": None}
    path = folder / "rgb.tif"
    write(path, stack(4, 11, 700, 3), **rgb)
    found.append((path, probe(path), stack(4, 11, 700, 3)))
    path = folder / "rgb-tiled.tif"
    write(path, stack(4, 11, 70, 3), **rgb, compression="lzw", predictor=True, tile=(16, 16))
    found.append((path, probe(path), stack(4, 11, 70, 3)))
    path = folder / "planar-tiled.tif"
    write(path, stack(4, 3, 35, 40), **rgb, compression="zlib", tile=(16, 16), planarconfig=2)
    found.append((path, probe(path), stack(4, 3, 35, 40)))
    return found


@st.composite
def indices(draw: st.DrawFn, length: int) -> object:
    position = st.integers(-length, length - 1)
    bound = st.none() | st.integers(-length - 2, length + 2)
    step = st.sampled_from([None, 1, 2, 5, -1, -3])
    return draw(
        position
        | st.builds(slice, bound, bound, step)
        | st.lists(position, max_size=5).map(lambda found: np.array(found, dtype=int))
    )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_selection_is_what_numpy_selects(
    flavours: list[tuple[Path, Layout, np.ndarray]], data: st.DataObject
) -> None:
    path, layout, pixels = data.draw(st.sampled_from(flavours))
    selection = tuple(data.draw(indices(n)) for n in layout.shape)
    expected = outer(pixels, selection)
    np.testing.assert_array_equal(read(path, layout, selection), expected)
    # Into memory with gaps, too.
    wide = np.zeros((*expected.shape, 2), expected.dtype)
    assert read(path, layout, selection, wide[..., 0]).base is wide
    np.testing.assert_array_equal(wide[..., 0], expected)
    assert not wide[..., 1].any()


def test_out_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, stack(5, 6, 7))
    layout = probe(path)
    for wrong in (np.empty((6, 8), "uint16"), np.empty((6, 7), "int16")):
        with pytest.raises(ValueError, match=r"out is .* not \(6, 7\) uint16"):
            read(path, layout, (0, slice(None), slice(None)), wrong)


@pytest.mark.parametrize("index", [5, -6, np.array([0, 5]), np.array([True] * 5), np.array(0.5)])
def test_selection_outside_of_the_layout(tmp_path: Path, index: object) -> None:
    path = tmp_path / "a.tif"
    write(path, stack(5, 6, 7))
    with pytest.raises(IndexError):
        read(path, probe(path), (index, slice(None), slice(None)))


# --- No byte too many


def bytes_read() -> int:
    """Bytes that this process has asked the kernel for."""
    fd = os.open("/proc/self/io", os.O_RDONLY)
    try:
        return int(os.read(fd, 64).split()[1])
    finally:
        os.close(fd)


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="counts bytes as Linux does")
@pytest.mark.parametrize(
    ("options", "spare"),
    [
        ({"metadata": None}, 60 * 512),
        ({"metadata": None, "rowsperstrip": 1}, 60 * 512),
        ({"metadata": None, "bigtiff": True, "byteorder": ">"}, 60 * 512),
        ({"imagej": True, "metadata": {"axes": "ZYX"}}, 60 * 512),
        ({}, 60 * 512),
    ],
)
def test_reads_only_what_is_named(tmp_path: Path, options: dict[str, object], spare: int) -> None:
    path = tmp_path / "a.tif"
    pixels = stack(60, 200, 150)
    write(path, pixels, **options)
    layout = probe(path)
    selections: list[tuple[tuple[object, ...], int]] = [
        ((37, slice(None), slice(None)), 200 * 300),
        ((37, slice(20, 30), slice(None)), 10 * 300),
        ((slice(10, 12), 5, slice(2, 4)), 2 * 300),
        ((np.array([50, 3]), np.array([10, 12]), slice(None)), 6 * 300),
    ]
    for selection, needed in selections:
        page_table.cache_clear()
        before = bytes_read()
        found = read(path, layout, selection)
        assert needed <= bytes_read() - before <= needed + spare
        np.testing.assert_array_equal(found, outer(pixels, selection))
        again = bytes_read()
        read(path, layout, selection)
        assert bytes_read() - again <= needed + 4096


def segments(path: Path, page: int) -> list[tuple[int, int]]:
    """Offset and size of each strip or tile of a page."""
    with tifffile.TiffFile(path) as tif:
        return list(zip(tif.pages[page].dataoffsets, tif.pages[page].databytecounts, strict=True))


def damage(path: Path, *places: tuple[int, int]) -> None:
    """Overwrite stored bytes, so that to decode them fails."""
    content = bytearray(path.read_bytes())
    for offset, size in places:
        content[offset : offset + size] = bytes([255]) * size
    path.write_bytes(content)


def test_decodes_only_the_pages_that_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, stack(6, 40, 50), compression="zlib", metadata=None)
    layout = probe(path)
    damage(path, *segments(path, 3))
    plane = read(path, layout, (4, slice(None), slice(None)))
    np.testing.assert_array_equal(plane, stack(6, 40, 50)[4])
    with pytest.raises(OSError, match=r"a\.tif cannot be read"):
        read(path, layout, (slice(3, 5), slice(None), slice(None)))


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "png"])
@pytest.mark.parametrize(
    ("options", "needed"),  # for rows 20 to 30 and columns 20 to 30 of 40 x 50
    [
        ({"rowsperstrip": 8}, {2, 3}),
        ({"tile": (16, 16)}, {5}),
        ({"tile": (32, 32)}, {0}),
        ({"rowsperstrip": 40}, {0}),
    ],
)
def test_decodes_only_the_strips_and_tiles_that_are_named(
    tmp_path: Path, compression: str, options: dict[str, object], needed: set[int]
) -> None:
    path, pixels = tmp_path / "a.tif", stack(3, 40, 50)
    write(path, pixels, compression=compression, metadata=None, **options)
    layout, places = probe(path), segments(path, 2)
    damage(path, *(place for i, place in enumerate(places) if i not in needed))
    for rows in (slice(20, 30), slice(30, 20, -3), np.array([29, 20, 29]), 25):
        index = (2, rows, slice(20, 30))
        np.testing.assert_array_equal(read(path, layout, index), outer(pixels, index))
    damage(path, *places)
    with pytest.raises(OSError, match=r"a\.tif cannot be read"):
        read(path, layout, (2, slice(20, 30), slice(20, 30)))


@pytest.mark.parametrize("options", [{"rowsperstrip": 16}, {"tile": (16, 16)}])
def test_jpeg_is_decoded_as_tifffile_does(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "a.tif"
    smooth = np.add.outer(np.arange(40), np.arange(3 * 50)).reshape(40, 50, 3).astype("uint8")
    write(path, np.stack([smooth, 255 - smooth]), photometric="rgb", compression="jpeg", **options)
    expected, layout = tifffile.imread(path), probe(path)
    np.testing.assert_array_equal(read_all(path), expected)
    index = (1, slice(20, 30), slice(None, None, -7), 2)
    np.testing.assert_array_equal(read(path, layout, index), outer(expected, index))


def test_tiles_that_are_not_stored_are_zero(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.tif", stack(3, 32, 32)
    write(path, pixels, compression="zlib", metadata=None, tile=(16, 16))
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for code in (324, 325):
            tag = tif.pages[1].tags[code]
            tag.overwrite((*tag.value[:2], 0, tag.value[3]))
    pixels[1, 16:, :16] = 0
    np.testing.assert_array_equal(read_all(path), pixels)


# --- What a file holds


def test_pages_out_of_order_in_the_file(tmp_path: Path) -> None:
    """DimensionOrder XYZCT stores z fastest; the array is (time, channel, z, y, x) all the same."""
    path = tmp_path / "a.ome.tif"
    pixels = stack(2, 3, 4, 8, 9)  # time, z, channel
    write(path, pixels, ome=True, metadata={"axes": "TZCYX"}, compression="zlib")
    swapped = path.read_bytes().replace(b'DimensionOrder="XYCZT"', b'DimensionOrder="XYZCT"')
    path.write_bytes(swapped)
    layout = probe(path)
    assert layout.axes == ("time", "channel", "z", "y", "x")
    np.testing.assert_array_equal(read_all(path), pixels.reshape(2, 4, 3, 8, 9))


def test_a_file_of_a_micro_manager_set_is_itself(data: Path, tmp_path: Path) -> None:
    packed = sorted((data / "mm_mmstack_14compat").glob("*.tif.gz"))
    for each in packed[:2]:
        path = tmp_path / each.stem
        path.write_bytes(gzip.decompress(each.read_bytes()))
    layout = probe(path)
    # The file lists z fastest, then channel, then time; its metadata slices before channels.
    assert layout == Layout(("time", "z", "channel", "y", "x"), (2, 2, 2, 64, 64), layout.dtype)
    with tifffile.TiffFile(path) as tif:
        pages = np.stack([page.asarray() for page in tif.pages]).reshape(2, 2, 2, 64, 64)
    np.testing.assert_array_equal(read_all(path), pages.swapaxes(1, 2))


@pytest.mark.parametrize("uuid", [True, False])
def test_a_file_of_an_ome_set_is_itself(
    tmp_path: Path, uuid: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Two files of one OME image of 2 times x 3 z, one time each."""
    names = ["t0.ome.tif", "t1.ome.tif"]
    marks = [f"urn:uuid:0000000{t}-0000-0000-0000-000000000000" for t in range(2)]
    places = "".join(
        f'<TiffData FirstT="{t}" FirstZ="{z}" IFD="{z}" PlaneCount="1">'
        f'<UUID FileName="{names[t]}">{marks[t]}</UUID></TiffData>'
        for t, z in product(range(2), range(3))
    )
    for t in range(2):
        head = f' UUID="{marks[t]}"' if uuid else ""
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"{head}>'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            'SizeX="9" SizeY="8" SizeZ="3" SizeC="1" SizeT="2"><Channel ID="Channel:0:0"/>'
            f"{places}</Pixels></Image></OME>"
        )
        pixels = stack(2, 3, 8, 9)[t]
        write(tmp_path / names[t], pixels, description=xml, metadata=None)
    for t in range(2):
        layout = probe(tmp_path / names[t])
        assert layout == Layout(("z", "y", "x"), (3, 8, 9), np.dtype("uint16"))
        np.testing.assert_array_equal(read_all(tmp_path / names[t]), stack(2, 3, 8, 9)[t])
    assert not caplog.records  # tifffile's remarks on the other files are of no use here
    assert tifffile.imread(tmp_path / names[0]).shape == (2, 3, 8, 9)  # the whole set


def test_thumbnails_and_lower_levels_do_not_count(tmp_path: Path) -> None:
    thumbnail, pyramid = tmp_path / "thumbnail.tif", tmp_path / "pyramid.ome.tif"
    with tifffile.TiffWriter(thumbnail) as tif:
        tif.write(stack(3, 16, 16), metadata=None, photometric="minisblack")
        tif.write(stack(4, 4), metadata=None)
    with tifffile.TiffWriter(pyramid) as tif:
        tif.write(stack(3, 32, 32), subifds=1, tile=(16, 16), photometric="minisblack")
        tif.write(stack(3, 16, 16), subfiletype=1, tile=(16, 16), photometric="minisblack")
    assert probe(thumbnail).shape == (3, 16, 16)
    assert probe(pyramid).shape == (3, 32, 32)
    np.testing.assert_array_equal(read_all(thumbnail), stack(3, 16, 16))
    np.testing.assert_array_equal(read_all(pyramid), stack(3, 32, 32))


def test_strips_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, stack(3, 8, 9), metadata=None, rowsperstrip=4)
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        tag, (first, second) = tif.pages[1].tags[273], tif.pages[1].dataoffsets
        size = tif.pages[1].databytecounts[0]
    raw[first : first + size], raw[second : second + size] = (
        raw[second : second + size],
        raw[first : first + size],
    )
    raw[tag.valueoffset : tag.valueoffset + 8] = struct.pack("<2I", second, first)
    path.write_bytes(raw)
    np.testing.assert_array_equal(read_all(path), stack(3, 8, 9))


# --- Files like the one before, but for one thing


FORMATS = [{"byteorder": order, "bigtiff": big} for order in "<>" for big in (False, True)]


@pytest.fixture(params=FORMATS, ids=str)
def twins(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Layout, np.ndarray]:
    """A stack to be changed in place; one just like it has been read."""
    good, other, pixels = tmp_path / "good.tif", tmp_path / "other.tif", stack(12, 6, 7)
    with tifffile.TiffWriter(good, **request.param) as tif:
        for plane in pixels:
            tif.write(plane, photometric="minisblack", metadata=None, contiguous=False)
    other.write_bytes(good.read_bytes())
    np.testing.assert_array_equal(read_all(good), pixels)
    return other, probe(good), pixels


def directories(path: Path) -> list[tuple[int, int]]:
    """First and past last byte of each directory; a link is the last of it."""
    with tifffile.TiffFile(path) as tif:
        length, entry, link = (8, 20, 8) if tif.is_bigtiff else (2, 12, 4)
        return [(p.offset, p.offset + length + entry * len(p.tags) + link) for p in tif.pages]


def relink(path: Path, page: tuple[int, int], after: int) -> None:
    """Have a directory lead to another one."""
    content = bytearray(path.read_bytes())
    code = ("<" if content[:2] == b"II" else ">") + ("Q" if 43 in content[2:4] else "I")
    struct.pack_into(code, content, page[1] - struct.calcsize(code), after)
    path.write_bytes(content)


def assert_planes(path: Path, layout: Layout, pixels: np.ndarray) -> None:
    """Read all and plane by plane, each time as if the file were new."""
    for z in (slice(None), *range(len(pixels))):
        page_table.cache_clear()
        np.testing.assert_array_equal(read(path, layout, (z, slice(None), slice(None))), pixels[z])


def test_pixels_of_two_pages_exchanged(twins: tuple[Path, Layout, np.ndarray]) -> None:
    path, layout, pixels = twins
    with tifffile.TiffFile(path, mode="r+b") as tif:
        third, ninth = (tif.pages[page].tags[273] for page in (3, 9))
        one, other = third.value, ninth.value
        third.overwrite(other)
        ninth.overwrite(one)
    assert_planes(path, layout, pixels[[0, 1, 2, 9, 4, 5, 6, 7, 8, 3, 10, 11]])


@pytest.mark.parametrize(
    "order",
    [[0, 1, 2, 7, 8, 9, 3, 4, 5, 6, 10, 11], [0, *range(11, 0, -1)], [0, 2, 1, *range(3, 12)]],
)
def test_directories_in_another_order(
    twins: tuple[Path, Layout, np.ndarray], order: list[int]
) -> None:
    path, layout, pixels = twins
    places = directories(path)
    for page, after in pairwise(order):
        relink(path, places[page], places[after][0])
    relink(path, places[order[-1]], 0)
    assert_planes(path, layout, pixels[order])


def test_a_directory_that_lies_elsewhere(twins: tuple[Path, Layout, np.ndarray]) -> None:
    path, layout, pixels = twins
    places, content = directories(path), path.read_bytes()
    first, past = places[8]
    path.write_bytes(content[:first] + bytes(past - first) + content[past:] + content[first:past])
    relink(path, places[7], len(content))
    assert_planes(path, layout, pixels)


@pytest.mark.parametrize(
    "changes",
    [
        {256: 6, 257: 7},  # as many bytes
        {257: 5, 278: 5},
        {258: 8},
        {259: 5},
    ],
)
@pytest.mark.parametrize("page", [1, 8, 11])
def test_one_page_stored_otherwise(
    twins: tuple[Path, Layout, np.ndarray], page: int, changes: dict[int, int]
) -> None:
    path, layout, _ = twins
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for code, value in changes.items():
            tif.pages[page].tags[code].overwrite(value)
    for z in (slice(None), page):
        with pytest.raises((OSError, ValueError), match=r"other\.tif"):
            read(path, layout, (z, slice(None), slice(None)))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"compression": "zlib", "rowsperstrip": 7},
        {"compression": "zlib", "tile": (16, 16)},
        {"compression": "zlib", "tile": (32, 16)},
        {},
    ],
)
def test_one_page_compressed_otherwise(tmp_path: Path, options: dict[str, object]) -> None:
    """It is a page like the others: each is decoded by what its own directory says."""
    path, pixels = tmp_path / "a.tif", stack(6, 40, 50)
    usual = {"compression": "zlib", "tile": (48, 16)}
    with tifffile.TiffWriter(path) as tif:
        for page, plane in enumerate(pixels):
            storage = options if page == 3 else usual
            tif.write(plane, photometric="minisblack", metadata=None, **storage)
    assert probe(path) == Layout(("z", "y", "x"), pixels.shape, pixels.dtype)
    assert not probe(path).notes
    assert_planes(path, probe(path), pixels)


def test_one_page_cut_into_strips(tmp_path: Path) -> None:
    """Pages of one table whose offsets stand in the directory, or elsewhere."""
    path, pixels = tmp_path / "a.tif", stack(6, 8, 9)
    write(path, pixels, metadata=None, rowsperstrip=4)
    strips = segments(path, 2)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        for code, value in ((273, strips[0][0]), (279, 8 * 9 * 2)):
            struct.pack_into("<II", content, tif.pages[2].tags[code].offset + 4, 1, value)
    path.write_bytes(content)
    assert_planes(path, probe(path), pixels)


def test_a_loop_back_into_the_middle(twins: tuple[Path, Layout, np.ndarray]) -> None:
    path, layout, pixels = twins
    places = directories(path)
    relink(path, places[11], places[5][0])
    assert_planes(path, layout, pixels)


# --- Files that are not what they should be


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (stack(4, 6, 7), {}),
        (stack(6, 6, 7), {"metadata": None}),
        (stack(5, 7, 7), {"metadata": None}),
        (stack(5, 6, 7, dtype="int16"), {"metadata": None}),
        (stack(5, 6, 7, dtype="uint8"), {"metadata": None, "compression": "zlib"}),
        (stack(5, 6, 7, 3), {"photometric": "rgb"}),
    ],
)
def test_another_layout_is_refused(
    tmp_path: Path, pixels: np.ndarray, options: dict[str, object]
) -> None:
    first, other = tmp_path / "first.tif", tmp_path / "other.tif"
    write(first, stack(5, 6, 7))
    write(other, pixels, **options)
    with pytest.raises(ValueError, match=r"other\.tif holds .*, not \(z: 5, y: 6, x: 7\) uint16"):
        read(other, probe(first), (0, 0, slice(None)))


def test_same_planes_in_another_arrangement_are_refused(tmp_path: Path) -> None:
    first, other = tmp_path / "first.tif", tmp_path / "other.tif"
    write(first, stack(2, 3, 6, 7), imagej=True, metadata={"axes": "TZYX"})
    write(other, stack(3, 2, 6, 7), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(ValueError, match=r"holds \(time: 3, z: 2, y: 6, x: 7\)"):
        read(other, probe(first), (0, 0, 0, 0))


def test_a_page_of_another_kind_is_refused(tmp_path: Path) -> None:
    first, other = tmp_path / "first.tif", tmp_path / "other.tif"
    write(first, stack(10, 6, 7), metadata=None)
    with tifffile.TiffWriter(other) as tif:
        for k in range(10):
            pixels = stack(6, 7, dtype="uint16" if k != 4 else "float32")
            tif.write(pixels, metadata=None, contiguous=False, photometric="minisblack")
    with pytest.raises(ValueError, match=r"other\.tif holds"):
        read(other, probe(first), (4, slice(None), slice(None)))


@pytest.mark.parametrize("content", [b"", b"II*", b"GIF89a" + bytes(99), b"II*\0" + bytes(12)])
def test_no_tiff(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.tif"
    path.write_bytes(content)
    with pytest.raises((OSError, ValueError), match=r"no\.tif"):
        probe(path)
    with pytest.raises((OSError, ValueError), match=r"no\.tif"):
        read(path, Layout(("y", "x"), (3, 4), np.dtype("uint8")), (0, 0))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.tif"):
        probe(tmp_path / "no.tif")


KINDS = ("plain", "shaped", "strips", "imagej", "ome", "lzw", "bigtiff-big-endian", "deflate")


def refusal(path: Path, call: Callable[[Path], np.ndarray | Layout]) -> object:
    """Result of a call on a file, or None where an error names that file."""
    try:
        return call(path)
    except (OSError, ValueError) as error:
        if path.name not in str(error):
            raise
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_cut_short_anywhere(tmp_path: Path, kind: str) -> None:
    """A cut file is refused wherever it is cut, or holds all that it should."""
    whole, cut = tmp_path / "whole.tif", tmp_path / "cut.tif"
    pixels = stack(6, 12, 14)
    write(whole, pixels, **WRITTEN[kind])
    layout, content = probe(whole), whole.read_bytes()
    for end in [*range(0, 40, 3), *range(40, len(content), len(content) // 50), len(content) - 1]:
        cut.write_bytes(content[:end])
        found = refusal(cut, lambda path: read(path, layout, [slice(None)] * 3))
        assert found is None or np.array_equal(found, pixels)
        assert refusal(cut, probe) in (None, layout)


def test_broken_files_are_refused_or_read(data: Path) -> None:
    paths = sorted((data / "broken_pillow").rglob("*.tif*"))
    assert sum(refusal(path, read_all) is None for path in paths) >= 13


def test_loops_in_the_chain_end(tmp_path: Path) -> None:
    path = tmp_path / "loop.tif"
    write(path, stack(3, 6, 7), metadata=None)
    layout = probe(path)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        last = tif.pages[2].offset
        link = last + 2 + 12 * len(tif.pages[2].tags)
        content[link : link + 4] = struct.pack("<I", tif.pages[0].offset)
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path, layout, [slice(None)] * 3), stack(3, 6, 7))


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, stack(3, 6, 7), metadata=None)
    layout = probe(path)
    np.testing.assert_array_equal(read_all(path), stack(3, 6, 7))
    write(path, stack(3, 6, 7)[::-1], metadata=None, bigtiff=True, compression="zlib")
    np.testing.assert_array_equal(read(path, layout, [slice(None)] * 3), stack(3, 6, 7)[::-1])
    write(path, stack(2, 6, 7), metadata=None)
    with pytest.raises(ValueError, match="holds"):
        read(path, layout, [slice(None)] * 3)


def test_threads_read_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = stack(40, 16, 18)
    write(path, pixels, metadata=None, rowsperstrip=4)
    layout = probe(path)
    page_table.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        planes = pool.map(lambda z: read(path, layout, (z, slice(None), slice(None))), range(40))
        np.testing.assert_array_equal(np.stack(list(planes)), pixels)
