"""All pages of a file are in its array, in their order, or the loss is told."""

from __future__ import annotations

import json
import struct
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import xarray as xr

from xarray_tiffstack import tiff

if TYPE_CHECKING:
    from pathlib import Path

GREY = {"photometric": "minisblack", "metadata": None}
Y, X = 9, 8


def pages(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Pages whose pixels say which they are."""
    return (np.arange(np.prod(shape)) * 7 % 65521).reshape(shape).astype(dtype)


def write_pages(path: Path, planes: np.ndarray, *options: dict[str, Any]) -> Path:
    """Write pages with a directory each; of several options, one page each, the last for the rest.

    Returns the path.
    """
    with tifffile.TiffWriter(path) as tif:
        for i, plane in enumerate(planes):
            given = options[min(i, len(options) - 1)] if options else {}
            tif.write(plane, contiguous=False, **{**GREY, **given})
    return path


def assert_holds(
    path: Path, axes: tuple[str, ...], pixels: np.ndarray, *notes: str
) -> tuple[str, ...]:
    """Check dimensions, pixels, and that each note says what is expected; return the notes."""
    layout = tiff.probe(path)
    assert (layout.axes, layout.shape) == (axes, pixels.shape)
    found = tiff.read(path, layout, [slice(None)] * pixels.ndim)
    np.testing.assert_array_equal(found, pixels)
    assert len(layout.notes) == len(notes), layout.notes
    assert all(said in note for said, note in zip(notes, layout.notes, strict=True)), layout.notes
    return layout.notes


# --- Pages that nothing names


def test_pages_that_nothing_names(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.tif", pages(5, Y, X))
    assert_holds(path, ("page", "y", "x"), pages(5, Y, X))
    assert tiff.probe(path, pages="time").axes == ("time", "y", "x")


def test_pages_appended_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for plane in pages(5, Y, X):
        tifffile.imwrite(path, plane, append=True, photometric="minisblack")
    assert_holds(path, ("page", "y", "x"), pages(5, Y, X))


@pytest.mark.parametrize("options", [{}, {"metadata": {"axes": "ZYX"}}, {"compression": "zlib"}])
def test_volumes_appended(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    for volume in pages(3, 4, Y, X):
        tifffile.imwrite(path, volume, append=True, photometric="minisblack", **options)
    inner = "z" if "metadata" in options else "page"
    assert_holds(path, ("volume", inner, "y", "x"), pages(3, 4, Y, X))


@pytest.mark.parametrize("odd", [0, 2, 4])
@pytest.mark.parametrize(
    "options",
    [
        {"rowsperstrip": 2},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"tile": (16, 16)},
        {"photometric": "miniswhite"},
        {"description": "odd"},
    ],
)
def test_one_page_stored_otherwise(tmp_path: Path, options: dict[str, Any], odd: int) -> None:
    each = [options if i == odd else {} for i in range(5)]
    path = write_pages(tmp_path / "a.tif", pages(5, Y, X), *each)
    assert_holds(path, ("page", "y", "x"), pages(5, Y, X))


# --- Odd pages


@pytest.mark.parametrize("where", [0, 3, 5])
@pytest.mark.parametrize(
    "odd", [pages(4, 4), pages(Y, X, dtype="uint8"), pages(2 * Y, 3 * X, dtype="uint8")]
)
def test_an_odd_page_is_left_out_and_told(tmp_path: Path, odd: np.ndarray, where: int) -> None:
    stack = list(pages(5, Y, X))
    stack.insert(where, odd)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in stack:
            tif.write(plane, contiguous=False, **GREY)
    assert_holds(
        tmp_path / "a.tif",
        ("page", "y", "x"),
        pages(5, Y, X),
        f"1 page of 6 left out: shape {odd.shape}, type {odd.dtype}",
    )


def test_lower_levels_need_no_telling(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(pages(32, 48), **GREY)
        for size in (16, 8, 4):
            tif.write(pages(size, size), subfiletype=1, **GREY)
    assert_holds(tmp_path / "a.tif", ("y", "x"), pages(32, 48))


# --- Metadata that does not fit


@pytest.mark.parametrize("slices", [3, 7])
def test_stale_slices_of_imagej(tmp_path: Path, slices: int) -> None:
    text = f"ImageJ=1.53\nimages={slices}\nslices={slices}\n"
    path = write_pages(tmp_path / "a.tif", pages(5, Y, X), {"description": text}, {})
    assert_holds(path, ("page", "y", "x"), pages(5, Y, X), f"{slices} pages, but it has 5")


@pytest.mark.parametrize("n", [3, 7])
def test_stale_shape(tmp_path: Path, n: int) -> None:
    text = json.dumps({"shape": [n, Y, X]})
    path = write_pages(tmp_path / "a.tif", pages(5, Y, X), {"description": text}, {})
    assert_holds(
        path, ("page", "y", "x"), pages(5, Y, X), "its 5 pages" if n < 5 else "but it has 5"
    )


def test_more_slices_than_the_one_page(tmp_path: Path) -> None:
    text = "ImageJ=1.53\nimages=4\nslices=4\n"
    path = write_pages(tmp_path / "a.tif", pages(1, Y, X), {"description": text})
    assert_holds(path, ("y", "x"), pages(Y, X), "4 pages, but it has 1")


def test_images_behind_the_one_directory(tmp_path: Path) -> None:
    """What ImageJ writes of stacks beyond 4 GB: the pixels follow, and no further directory."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pages(Y, X), description="ImageJ=1.53\nimages=6\n", **GREY)
    with path.open("ab") as file:
        file.write(b"")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        start, tag = tif.pages[0].dataoffsets[0], tif.pages[0].tags[273]
    assert start + Y * X * 2 == len(content)
    path.write_bytes(content + pages(6, Y, X)[1:].tobytes())
    assert tag.value == (start,)
    assert_holds(path, ("page", "y", "x"), pages(6, Y, X))
    path.write_bytes(content)
    assert_holds(path, ("y", "x"), pages(Y, X), "6 pages, but it has 1")
    path.write_bytes(content + pages(6, Y, X)[1:4].tobytes())
    with pytest.raises(OSError, match=r"a\.tif is cut short"):
        tiff.probe(path)


@pytest.mark.parametrize(
    "text", ["state.configPath='C:\\'\r", "scanimage.SI5.acqNumFrames = 120\n"]
)
def test_scanimage_with_descriptions_that_grow(tmp_path: Path, text: str) -> None:
    """tifffile reckons the places of pages from the first five."""
    described = [{"description": f"{'9' * (i > 50) * 40}\n{text}"} for i in range(120)]
    if text.startswith("state"):
        described = [{"description": text + "9" * (i > 50) * 40} for i in range(120)]
    path = write_pages(tmp_path / "a.tif", pages(120, Y, X), *described)
    assert_holds(path, ("page", "y", "x"), pages(120, Y, X))


# --- OME


def test_images_of_an_ome_file_are_positions(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for volume in pages(4, 3, Y, X):
            tif.write(volume, photometric="minisblack", metadata={"axes": "ZYX"})
    assert_holds(path, ("position", "z", "y", "x"), pages(4, 3, Y, X))


def test_images_of_one_page_each_are_positions_too(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for plane in pages(4, Y, X):
            tif.write(plane, photometric="minisblack", metadata={"axes": "YX"})
    assert_holds(path, ("position", "y", "x"), pages(4, Y, X))


def test_unlike_images_of_an_ome_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(pages(3, Y, X), photometric="minisblack", metadata={"axes": "ZYX"})
        tif.write(pages(2, Y), photometric="minisblack", metadata={"axes": "YX"})
    assert_holds(path, ("z", "y", "x"), pages(3, Y, X), "1 page of 4 left out: shape (2, 9)")


def test_the_only_page_of_an_ome_file(tmp_path: Path) -> None:
    """What its metadata lists beyond that is not looked for behind the pixels."""
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pages(4, Y, X), photometric="minisblack", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        link = max(tag.offset for tag in tif.pages[0].tags) + 12
    content = bytearray(path.read_bytes())
    content[link : link + 4] = bytes(4)
    path.write_bytes(content)
    assert_holds(path, ("y", "x"), pages(4, Y, X)[0])


# --- Micro-Manager


def index_of(**labels: int) -> dict[str, Any]:
    """Tag of a page of Micro-Manager."""
    text = json.dumps({f"{name}Index": i for name, i in labels.items()}).encode()
    return {"extratags": [(51123, 2, len(text) + 1, text, True)]}


@pytest.mark.parametrize("order", [("Frame", "Slice", "Channel"), ("Channel", "Frame", "Slice")])
def test_micro_manager_without_an_index(tmp_path: Path, order: tuple[str, ...]) -> None:
    """A program that crashed leaves no map of the pages; each says which it is."""
    sizes = {"Frame": 2, "Slice": 4, "Channel": 3}
    names = {"Frame": "time", "Slice": "z", "Channel": "channel"}
    lead = [sizes[name] for name in order]
    labels = [dict(zip(order, at, strict=True)) for at in product(*map(range, lead))]
    stack = pages(24, Y, X)
    path = write_pages(tmp_path / "a.tif", stack, *(index_of(**each) for each in labels))
    assert_holds(path, (*(names[n] for n in order), "y", "x"), stack.reshape(*lead, Y, X))


def test_micro_manager_cut_off_in_a_volume(tmp_path: Path) -> None:
    labels = [{"Frame": i // 4, "Slice": i % 4} for i in range(7)]
    path = write_pages(tmp_path / "a.tif", pages(7, Y, X), *(index_of(**each) for each in labels))
    assert_holds(path, ("page", "y", "x"), pages(7, Y, X), "does not fit its 7 pages")
    assert "z" not in tiff.probe(path).axes


def write_ndtiff(folder: Path, frames: list[dict[str, int | str]], pixels: np.ndarray) -> Path:
    """Write a file of NDTiff version 3 and its index."""
    folder.mkdir()
    path = folder / "a_NDTiffStack.tif"
    write_pages(path, pixels, index_of(Frame=0, Slice=0))
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        starts = [page.dataoffsets[0] for page in tif.pages]
    # Its header is longer than that of other TIFFs: directories are moved behind the pixels.
    summary = b"{}"
    header = struct.pack("<IIIII", 483729, 3, 2, 2355492, len(summary)) + summary
    first = struct.unpack_from("<I", content, 4)[0]
    moved = bytes(content[first : first + 400])
    struct.pack_into("<I", content, 4, len(content))
    content += moved
    content[8 : 8 + len(header)] = header
    path.write_bytes(content)
    with (folder / "NDTiff.index").open("wb") as file:
        for frame, start in zip(frames, starts, strict=True):
            for text in (json.dumps(frame).encode(), path.name.encode()):
                file.write(struct.pack("<I", len(text)) + text)
            file.write(struct.pack("<IiiiiIii", start, X, Y, 1, 0, 0, 0, 0))
    return path


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("time", "channel"), ("time", "channel")),
        (("row", "column"), ("row", "col")),
        (("position", "z"), ("position", "z")),
    ],
)
def test_ndtiff(tmp_path: Path, names: tuple[str, str], axes: tuple[str, str]) -> None:
    frames = [{names[0]: i // 2, names[1]: i % 2} for i in range(8)]
    path = write_ndtiff(tmp_path / "set", frames, pages(8, Y, X))
    assert_holds(path, (*axes, "y", "x"), pages(8, Y, X).reshape(4, 2, Y, X))


def test_ndtiff_with_names_of_channels(tmp_path: Path) -> None:
    frames: list[dict[str, int | str]] = [
        {"time": i // 2, "channel": ("GFP", "DAPI")[i % 2]} for i in range(8)
    ]
    path = write_ndtiff(tmp_path / "set", frames, pages(8, Y, X))
    assert_holds(path, ("time", "channel", "y", "x"), pages(8, Y, X).reshape(4, 2, Y, X))


# --- Other files of the kind


def test_alike_files_are_understood_alike(tmp_path: Path) -> None:
    """What tifffile said of one file is taken for others only where they say the same."""
    for name, axes, shape in (
        ("a.tif", "TZYX", (2, 3, Y, X)),
        ("b.tif", "TZYX", (3, 2, Y, X)),
        ("c.tif", "TCYX", (2, 3, Y, X)),
    ):
        for n in range(2):
            path = tmp_path / f"{n}{name}"
            tifffile.imwrite(path, pages(*shape), imagej=True, metadata={"axes": axes})
            spelled = {"T": "time", "Z": "z", "C": "channel", "Y": "y", "X": "x"}
            assert_holds(path, tuple(spelled[a] for a in axes), pages(*shape))


def test_the_first_page_tells_of_which_kind_a_file_is(tmp_path: Path) -> None:
    """Two files whose directories are all of one size, and whose texts differ in the first."""
    other = {"description": "ImageJ=1.53\nimages=6\nframes=1\nslices=1\n"}
    for frames, slices in ((2, 3), (3, 2)):
        text = f"ImageJ=1.53\nimages=6\nframes={frames}\nslices={slices}\n"
        path = tmp_path / f"{frames}.tif"
        write_pages(path, pages(6, Y, X), {"description": text}, other)
        assert_holds(path, ("time", "z", "y", "x"), pages(frames, slices, Y, X))


# --- Told when a folder is opened


def test_a_folder_of_such_files(tmp_path: Path) -> None:
    for t in range(3):
        with tifffile.TiffWriter(tmp_path / f"cell_t{t}.tif") as tif:
            tif.write(pages(4, 4), contiguous=False, **GREY)
            for plane in pages(5, Y, X) + t:
                tif.write(plane, contiguous=False, **GREY)
    options = {"engine": "tiffstack", "pattern": "cell_t{t:d}.tif"}
    with pytest.warns(
        UserWarning, match=r"1 file .*\n.*cell_t0\.tif: 1 page of 6 left out"
    ) as told:
        ds = xr.open_dataset(tmp_path, **options)
    assert len(told) == 1
    assert ds.image.shape == (3, 5, Y, X)
    np.testing.assert_array_equal(ds.image[2], pages(5, Y, X) + 2)

    def said(ds: xr.Dataset) -> list[str]:
        return [line for line in ds.tiffstack.report().disagreements if "left out" in line]

    assert [line[:35] for line in said(ds)] == ["cell_t0.tif: 1 page of 6 left out: "]
    named = xr.open_dataset(tmp_path, pages="depth", **options)  # and warns no more
    assert named.image.dims == ("t", "depth", "y", "x")
    assert len(said(named)) == 1
    every = xr.open_dataset(tmp_path, pages="z", validate="headers", **options)
    assert len(said(every)) == 3


@pytest.mark.parametrize("strips", [{}, {"rowsperstrip": 2}])
def test_a_stack_of_metamorph(tmp_path: Path, strips: dict[str, int]) -> None:
    """One directory, and in its tags how many planes follow."""
    path, stack = tmp_path / "a.stk", pages(5, Y, X)
    marks = [(33628, 4, 5, (0,) * 5, True), (33629, 4, 30, tuple(range(1, 31)), True)]
    tifffile.imwrite(path, stack[0], extratags=marks, **GREY, **strips)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].tags[33629].offset
    content = bytearray(path.read_bytes())
    struct.pack_into("<HI", content, at + 2, 5, 5)  # 5 times 6 numbers, called 5 rationals
    path.write_bytes(content + stack[1:].tobytes())
    layout = tiff.probe(path)
    assert layout.shape == (5, Y, X)
    assert not layout.notes
    np.testing.assert_array_equal(tiff.read(path, layout, [slice(None)] * 3), stack)
    plane = tiff.read(path, layout, (3, slice(None), slice(None)))
    np.testing.assert_array_equal(plane, stack[3])


def test_pages_that_the_metadata_does_not_fit_get_no_scale(tmp_path: Path) -> None:
    for t in range(2):
        labels = [{"Frame": i // 4, "Slice": i % 4} for i in range(7)]
        options = [{**index_of(**each), "resolution": (20_000, 20_000)} for each in labels]
        for each in options:
            each["resolutionunit"] = "CENTIMETER"
        write_pages(tmp_path / f"cell_t{t}.tif", pages(7, Y, X) + t, *options)
    with pytest.warns(UserWarning, match=r"cell_t0\.tif: its metadata does not fit its 7 pages"):
        ds = xr.open_dataset(tmp_path, engine="tiffstack", pattern="cell_t{t:d}.tif")
    assert ds.image.dims == ("t", "page", "y", "x")
    assert "page" not in ds.coords
    assert float(ds.x[1]) == 0.5


# --- Acquisitions cut into several files


def write_set(folder: Path, cuts: list[int], times: int, slices: int) -> np.ndarray:
    """Write a time series of volumes whose files end at the given pages."""
    stack = pages(times * slices, Y, X)
    labels = [{"Frame": i // slices, "Slice": i % slices} for i in range(len(stack))]
    for part, (first, last) in enumerate(pairwise([0, *cuts, len(stack)])):
        name = f"img_MMStack_Pos0{f'_{part}' * (part > 0)}.ome.tif"
        with tifffile.TiffWriter(folder / name, ome=False) as tif:
            for plane, each in zip(stack[first:last], labels[first:last], strict=True):
                tif.write(plane, contiguous=False, **GREY, **index_of(**each))
    return stack


@pytest.mark.parametrize("cuts", [[12], [8, 20], [16]])
def test_micro_manager_cut_at_time_points(tmp_path: Path, cuts: list[int]) -> None:
    stack = write_set(tmp_path, cuts, 6, 4)
    ds = xr.open_dataset(tmp_path, engine="tiffstack")
    assert ds.image.dims == ("time", "z", "y", "x")
    np.testing.assert_array_equal(ds.image, stack.reshape(6, 4, Y, X))


@pytest.mark.parametrize("cuts", [[10], [9, 18]])
def test_micro_manager_cut_at_any_page(tmp_path: Path, cuts: list[int]) -> None:
    """The pages of a file continue those of the file before; that they are cut is told."""
    stack = write_set(tmp_path, cuts, 6, 4)
    with pytest.warns(UserWarning, match="does not fit its"):
        ds = xr.open_dataset(tmp_path, engine="tiffstack")
    assert ds.image.dims == ("page", "y", "x")
    np.testing.assert_array_equal(ds.image, stack)


@pytest.mark.parametrize("planes", [[3, 1], [3, 3, 1], [3, 2]])
def test_parts_of_a_volume(tmp_path: Path, planes: list[int]) -> None:
    stack = pages(sum(planes), Y, X)
    ends = np.cumsum([0, *planes]).tolist()
    for part, (first, last) in enumerate(pairwise(ends)):
        name = "a_ch0_stack0000_488nm_0000000msec_0000000000msecAbs"
        suffix = f"_part{part:04d}" if part else ""
        write_pages(tmp_path / f"{name}{suffix}.tif", stack[first:last])
    ds = xr.open_dataset(tmp_path, engine="tiffstack")
    assert ds.image.dims[-3:] == ("z", "y", "x")
    np.testing.assert_array_equal(ds.image.squeeze(), stack)


def test_an_acquisition_of_scanimage_in_several_files(tmp_path):
    """Files of 10, 10 and 4 frames are one series, in order."""
    frame = 0
    for part, count in enumerate((10, 10, 4), 1):
        with tifffile.TiffWriter(tmp_path / f"scan_00001_{part:05d}.tif") as tif:
            for _ in range(count):
                tif.write(
                    np.full((8, 8), frame, "int16"),
                    contiguous=False,
                    metadata=None,
                    description=f"frameNumbers = {frame + 1}\nframeTimestamps_sec = {frame / 10}\n",
                    software="SI.VERSION_MAJOR = '2016'\nSI.hChannels.channelSave = 1\n",
                )
                frame += 1
    ds = xr.open_dataset(tmp_path, engine="tiffstack")
    assert dict(ds.image.sizes) == {"frame": 24, "y": 8, "x": 8}
    np.testing.assert_array_equal(ds.image.max(("y", "x")), np.arange(24))
