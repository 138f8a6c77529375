"""The preview: its pictures are the planes, its map the files, and its page asks for nothing."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import imagecodecs
import numpy as np
import pytest
import tifffile
import xarray as xr
from conftest import SHAPE, pixels, reference_name, write, write_acquisition

from xarray_tiffstack.cli import main
from xarray_tiffstack.demo import demo
from xarray_tiffstack.look.facts import facts, python_call
from xarray_tiffstack.look.filemap import MOST, make_map
from xarray_tiffstack.look.files import STATES, files_of
from xarray_tiffstack.look.findings import findings
from xarray_tiffstack.look.planes import NO_FILE, saturated
from xarray_tiffstack.look.preview import preview
from xarray_tiffstack.look.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator


def opened(source: object, **options: object) -> xr.Dataset:
    return xr.open_dataset(source, engine="tiffstack", **options)  # type: ignore[arg-type]


class Page(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of_class(self, name: str) -> Iterator[dict[str, str]]:
        return (a for _, a in self.tags if name in a.get("class", "").split())


# --- planes -----------------------------------------------------------------------------------


def test_pictures_are_the_planes(shared_acquisition: Path) -> None:
    ds = opened(shared_acquisition)
    shown = preview(ds)
    assert [channel.name for channel in shown.chosen.channels] == ["488 nm", "560 nm", "642 nm"]
    assert shown.chosen.along == "stack"
    for ch, row in enumerate(shown.pictures):
        for stack, picture in enumerate(row):
            read = tifffile.imread(shared_acquisition / reference_name(ch, stack))
            np.testing.assert_array_equal(picture.small, read[SHAPE[0] // 2])
            assert Path(picture.file).name == reference_name(ch, stack)


def test_the_maximum_is_taken_part_by_part(
    shared_acquisition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = opened(shared_acquisition)
    expected = preview(ds, plane="max")
    monkeypatch.setattr("xarray_tiffstack.look.planes.AT_A_TIME", 100)  # a plane at a time
    parts = preview(ds, plane="max")
    for row, again in zip(expected.pictures, parts.pictures, strict=True):
        for one, other in zip(row, again, strict=True):
            np.testing.assert_array_equal(one.small, other.small)
    assert "scheduler" not in dask.config.config


@pytest.mark.parametrize("plane", [0, 3, "max"])
def test_which_plane_is_said(shared_acquisition: Path, plane: Any) -> None:
    shown = preview(opened(shared_acquisition), plane=plane, count=2)
    assert shown.chosen.columns == ({"stack": 0}, {"stack": 4})
    read = pixels(9)
    expected = read.max(axis=0) if plane == "max" else read[plane]
    np.testing.assert_array_equal(shown.pictures[1][1].small, expected)


def test_along_z(shared_acquisition: Path) -> None:
    shown = preview(opened(shared_acquisition), along="z")
    for z in range(SHAPE[0]):
        np.testing.assert_array_equal(shown.pictures[2][z].small, pixels(10)[z])


def test_large_planes_are_averaged(tmp_path: Path) -> None:
    plane = np.arange(400 * 600, dtype="uint32").reshape(400, 600)
    tifffile.imwrite(tmp_path / "cell_t1.tif", plane, photometric="minisblack")
    (picture,) = preview(opened(tmp_path, pattern="cell_t{t:d}.tif")).pictures[0]
    assert picture.factor == 4
    assert picture.small.shape == (100, 150)
    assert picture.small[1, 2] == plane[4:8, 8:12].mean()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"plane": 4}, "0 to 3"),
        ({"plane": "last"}, "'middle'"),
        ({"along": "channel"}, "'stack'"),
        ({"contrast": "most"}, "'auto'"),
    ],
)
def test_other_choices_are_refused(
    shared_acquisition: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        preview(opened(shared_acquisition), **options)


def test_where_most_files_are(tmp_path: Path) -> None:
    for p, t in ((0, 0), (1, 0), (1, 1), (1, 2)):
        write(tmp_path / f"a_p{p}_t{t}.tif", 4 * p + t)
    shown = preview(opened(tmp_path, pattern="{name}_p{p:d}_t{t:d}.tif"))
    assert shown.chosen.fixed == {"p": 1, "z": 2}
    assert not any(picture.problem for picture in shown.pictures[0])


def test_contrast_and_colour(shared_acquisition: Path) -> None:
    ds = opened(shared_acquisition)
    for contrast, (low, high) in {(0, 2879): (0, 2879), "auto": (None, None)}.items():
        shown = preview(ds, contrast=contrast)  # type: ignore[arg-type]
        if low is not None:
            assert shown.limits == [(low, high)] * 3
        drawn = shown.drawn[2][4]
        assert drawn is not None
        red, green, blue = drawn.reshape(-1, 3).max(axis=0).tolist()
        assert red > green
        assert red > blue
    dark, *_, bright = preview(ds, contrast=(0, 2879)).drawn[0]
    assert dark is not None
    assert bright is not None
    assert dark.mean() < bright.mean()


def test_saturation(tmp_path: Path) -> None:
    image = np.full((10, 10), 100, "uint16")
    image[:2] = 4095
    tifffile.imwrite(tmp_path / "a_t1.tif", image, photometric="minisblack")
    ds = opened(tmp_path, pattern="a_t{t:d}.tif")
    shown = preview(ds)
    assert saturated(shown.pictures[0], "uint16") == (4095, 0.2)
    assert "saturated: 20 % of the pixels are 4095" in Page(shown.html).text
    assert saturated(preview(opened(write(tmp_path / "b" / "b_t1.tif", 3).parent,
                     pattern="b_t{t:d}.tif")).pictures[0], "uint16") is None  # fmt: skip


# --- files ------------------------------------------------------------------------------------


def test_one_broken_file_is_one_marked_picture(acquisition: Path) -> None:
    broken = acquisition / reference_name(1, 2)
    broken.write_bytes(broken.read_bytes()[:200])
    shown = preview(opened(acquisition))
    problems = {(c, s) for c, row in enumerate(shown.pictures) for s, p in enumerate(row)
                if p.problem}  # fmt: skip
    assert problems == {(1, 2)}
    page = Page(shown.html)
    (mark,) = page.of_class("ts-fault")
    assert "channel 560" in mark["title"]
    assert broken.name in mark["title"]
    assert "Look at: of another size (1), cannot be read (1)" in page.text
    for row, pictures in enumerate(shown.pictures):
        for stack, picture in enumerate(pictures):
            if not picture.problem:
                np.testing.assert_array_equal(picture.small, pixels(row * 5 + stack)[2])


def test_an_empty_file_is_one_marked_picture(acquisition: Path) -> None:
    (acquisition / reference_name(1, 2)).write_bytes(b"")
    with pytest.warns(UserWarning, match="empty"):
        ds = opened(acquisition)
    shown = preview(ds)
    assert shown.verdict[0] == "14 of 15 files are there; 1 is empty."
    problems = {(c, s): p.problem for c, row in enumerate(shown.pictures)
                for s, p in enumerate(row) if p.problem}  # fmt: skip
    assert list(problems) == [(1, 2)]
    assert "is empty, or cannot be read" in problems[1, 2]


def test_states_of_files(acquisition: Path) -> None:
    write(acquisition / reference_name(0, 3), 3, shape=(3, 6, 8))
    ds = opened(acquisition, validate="headers")
    other = acquisition / reference_name(2, 0)
    write(other, 0, shape=(9, 6, 8))
    (acquisition / reference_name(0, 1)).write_bytes(b"")
    (acquisition / reference_name(1, 1)).unlink()
    (acquisition / reference_name(2, 4)).unlink()
    files = files_of(ds)
    found = {slot: STATES[files.states[slot]] for slot in np.ndindex(files.states.shape)}
    assert {slot: state for slot, state in found.items() if state != "present"} == {
        (0, 3): "short", (2, 4): "no longer there", (0, 1): "empty",
        (1, 1): "no longer there", (2, 0): "other size",
    }  # fmt: skip
    assert files.names("other size")[0].startswith(f"{other.name}: ")
    assert "most have" in files.names("other size")[0]
    squares = dict(make_map(files).rows)
    assert [square.state for square in squares["channel 488"] if square] == [
        "present", "empty", "present", "short", "present",
    ]  # fmt: skip


def test_missing_files_as_ranges(acquisition: Path) -> None:
    for stack in (1, 2, 4):
        (acquisition / reference_name(2, stack)).unlink()
    ds = opened(acquisition)
    assert files_of(ds).missing() == ["channel 642: stack 1-2, 4"]
    (acquisition / reference_name(0, 4)).unlink()
    (acquisition / reference_name(1, 4)).unlink()
    assert files_of(opened(acquisition, missing="fill").reindex(stack=range(6))).missing() == [
        "channel 488, 560: stack 4-5", "channel 642: stack 1-2, 4-5",
    ]  # fmt: skip


def test_map_of_many_files_merges_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "one.tif", 0)
    paths = np.full((4, 50, 150), str(path), object)
    paths[2, 30, 77] = ""
    dims = ("channel", "position", "time")
    ds = xr.Dataset(
        {"image": ((*dims, "y", "x"), np.zeros((4, 50, 150, 2, 2), "uint8"))},
        coords={"path": (dims, paths), **{d: np.arange(n) for d, n in
                zip(dims, paths.shape, strict=True)}},
    )  # fmt: skip
    drawn = make_map(files_of(ds))
    assert sum(len(squares) for _, squares in drawn.rows) <= MOST
    marked = [
        (name, s) for name, squares in drawn.rows for s in squares if s and s.state != "present"
    ]
    ((name, square),) = marked
    assert name.startswith("channel 2, position")
    assert "time 77" in square.said
    assert "1 missing" in square.said
    assert files_of(ds).missing() == ["channel 2, position 30: time 77"]


def test_plate(tmp_path: Path) -> None:
    for i, well in enumerate(("B02", "B11", "G02")):
        for field in (1, 2):
            write(tmp_path / f"{well}_f{field}.tif", 2 * i + field, shape=(6, 8))
    (tmp_path / "G02_f2.tif").unlink()
    shown = preview(opened(tmp_path, pattern="{well}_f{field:d}.tif"))
    assert shown.chosen.wells == ((1, 1), (1, 10), (6, 1))
    drawn = make_map(shown.files)  # type: ignore[arg-type]
    assert (len(drawn.rows), len(drawn.columns)) == (8, 12)
    states = {
        (r, c): s.state for r, (_, row) in enumerate(drawn.rows) for c, s in enumerate(row) if s
    }
    assert states == {(1, 1): "present", (1, 10): "present", (6, 1): "missing"}
    np.testing.assert_array_equal(shown.pictures[0][1].small, pixels(3, (6, 8)))
    heads = [attrs["title"] for attrs in Page(shown.html).of_class("ts-shot") if "title" in attrs]
    assert [head.split(":")[0] for head in heads] == [
        f"well {well}, field 1" for well in ("B02", "B11", "G02")
    ]


def test_facts(tmp_path: Path) -> None:
    folder = write_acquisition(tmp_path / "raw")
    (folder / reference_name(1, 0)).unlink()
    ds = opened(folder, voxel_size={"y": 0.1, "x": 0.1})
    said = facts(ds, files_of(ds))
    assert said["array"] == "channel 3, stack 5, z 4, y 6, x 8"
    assert said["channel"] == "488, 560, 642 nm"
    assert said["voxel"] == 'y 0.1, x 0.1 µm (voxel_size); z unknown: pass voxel_size={"z": ...}'
    assert said["time"] == "0 to 2 min 55 s, every 43.7 s"
    assert said["files"].startswith("14 of 15 files, ")
    assert python_call(ds) == (
        f'xarray.open_dataset({str(folder)!r}, engine="tiffstack", '
        "voxel_size={'y': 0.1, 'x': 0.1})"
    )
    variables: dict[str, Any] = {}
    exec(f"import xarray\nds = {python_call(ds)}", variables)
    assert variables["ds"].identical(ds)


def test_irregular_times_are_listed(acquisition: Path) -> None:
    for path in sorted(acquisition.glob("*stack0003*")):
        path.rename(str(path).replace("_01312", "_01912"))
    ds = opened(acquisition)
    assert [(finding.name, finding.items) for finding in findings(ds, files_of(ds))] == [
        ("gaps in time", ["1 min 44 s from stack 2 to the next, not 43.7 s",
                          "-16.3 s from stack 3 to the next, not 43.7 s"]),
    ]  # fmt: skip


# --- page -------------------------------------------------------------------------------------


def check_asks_for_nothing(html: str) -> Page:
    """No tag of a page runs or loads anything, and browsers are told so."""
    page = Page(html)
    known = (
        "html head meta title style body div h1 h2 p br dl dt dd table thead tbody tr th td span "
        "img s b i svg path figure figcaption pre details summary ul li"
    )
    assert {tag for tag, _ in page.tags} <= set(known.split())
    for _, attrs in page.tags:
        assert not any(name.startswith("on") or name in ("href", "srcset") for name in attrs)
        assert "src" not in attrs or attrs["src"].startswith("data:image/png;base64,")
    (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    assert "url(" not in html
    assert "@import" not in html
    return page


def test_page_has_each_picture_and_file(acquisition: Path) -> None:
    (acquisition / reference_name(2, 3)).unlink()
    shown = preview(opened(acquisition))
    page = check_asks_for_nothing(shown.html)
    assert "14 of 15 files are there; 1 is missing." in page.text
    assert "channel 642: stack 3" in page.text
    images = [a["src"] for tag, a in page.tags if tag == "img"]
    assert len(images) == 14 + 5  # of the channels, and overlaid
    first = imagecodecs.png_decode(base64.b64decode(images[0].split(",")[1]))
    np.testing.assert_array_equal(first, shown.drawn[0][0])
    titles = [a["title"] for a in page.of_class("ok") if "title" in a]
    assert len(titles) == 14
    for ch, stack in np.ndindex(3, 5):
        assert sum(reference_name(ch, stack) in title for title in titles) == (
            (ch, stack) != (2, 3)
        )
    assert [a["title"] for a in page.of_class("none") if "title" in a] == [
        "channel 642, stack 3: missing"
    ]
    (hatched,) = (a for a in page.of_class("ts-none") if "title" in a)
    assert "channel 642" in hatched["title"]
    assert shown.pictures[2][3].problem == NO_FILE


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>&\"'"
    folder = tmp_path / evil
    for t in range(3):
        write(folder / f"{evil}_t{t}.tif", t)
    (folder / f"{evil}_t1.tif").write_bytes(b"II*\0")
    write(folder / f"{evil}.tif", 9)
    ds = opened(folder, pattern="{name}_t{t:d}.tif", unmatched="ignore")
    shown = preview(ds.assign_coords(channel=evil))
    for html in (
        shown.html,
        f"<meta http-equiv=x content=\"default-src 'none'\">{shown._repr_html_()}",
    ):
        page = check_asks_for_nothing(html)
        assert evil in page.text
    assert any(evil in attrs.get("title", "") for _, attrs in page.tags)


def test_save(shared_acquisition: Path, tmp_path: Path) -> None:
    shown = preview(opened(shared_acquisition))
    shown.save(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == shown.html
    with pytest.raises(ValueError, match=r"'\.html'"):
        shown.save(tmp_path / "a.tif")
    pytest.importorskip("matplotlib")
    shown.save(tmp_path / "a.png")
    drawn = imagecodecs.imread(tmp_path / "a.png")
    assert drawn.shape[1] > 1000
    red, green, blue, *_ = np.moveaxis(drawn.astype(int), -1, 0)
    for colour in (green - red, green - blue, red - green):  # of 488, 560 and 642 nm
        assert (colour > 150).any()


def test_of_a_store_as_of_the_files(acquisition: Path, tmp_path: Path) -> None:
    (acquisition / reference_name(2, 3)).unlink()
    ds = opened(acquisition, voxel_size=0.1)
    ds.tiffstack.to_ome_zarr(tmp_path / "a.zarr", progress=False)
    store = open_store(tmp_path / "a.zarr")
    raw, back = preview(ds), preview(store)
    for row, again in zip(raw.pictures, back.pictures, strict=True):
        for one, other in zip(row, again, strict=True):
            assert (one.problem, one.file) == (other.problem, other.file)
            np.testing.assert_array_equal(one.small, other.small)
    assert back.facts["voxel"] == raw.facts["voxel"]
    variables: dict[str, Any] = {}
    exec(back.call, variables)
    assert variables["ds"].image.equals(store.image)
    shutil.rmtree(acquisition)
    moved = preview(open_store(tmp_path / "a.zarr"))
    assert moved.verdict[0] == "14 of 15 files are there; 1 is missing."
    assert "not on this computer" in moved.verdict[1]
    assert not any(p.problem for p in moved.pictures[0])


def test_of_a_store_of_positions_and_of_a_plate(tmp_path: Path) -> None:
    for i, (well, field, t) in enumerate(np.ndindex(2, 2, 3)):
        write(tmp_path / "raw" / f"A0{well + 1}_f{field}_t{t}.tif", i, shape=(6, 8))
    ds = opened(tmp_path / "raw", pattern="{well}_f{field:d}_t{t:d}.tif")
    for name, part in {"plate": ds, "positions": ds.isel(well=0)}.items():
        part.tiffstack.to_ome_zarr(tmp_path / name, progress=False)
        back = open_store(tmp_path / name).transpose(*part.image.dims, ...)
        np.testing.assert_array_equal(back.image.values, part.image.values)
        assert bool(preview(back).chosen.wells) == (name == "plate")


# --- demo -------------------------------------------------------------------------------------


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo(str(tmp_path / "d"))
    said = capsys.readouterr().out
    assert "'all equal'" in said
    assert "23 of 24 files are there; 1 is missing." in said
    check_asks_for_nothing((tmp_path / "d" / "preview.html").read_text(encoding="utf-8"))
    with pytest.raises(FileExistsError, match="--dir"):
        demo(str(tmp_path / "d"))
    ds = opened(tmp_path / "d" / "raw")
    assert facts(ds, files_of(ds))["voxel"] == "z 0.5, y 0.1, x 0.1 µm (Settings.txt)"
    # Its beads are moving, and each colour has its own.
    places = [np.unravel_index(ds.image[c, s].values.argmax(), (16, 64, 96))
              for c, s in ((0, 0), (0, 7), (1, 0))]  # fmt: skip
    assert len(set(places)) == 3
    assert ds.image.max().compute() > 300


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "uint32", "float64", "complex64"])
def test_pixels_of_any_type(tmp_path: Path, dtype: str) -> None:
    image = (np.arange(64).reshape(8, 8) % 7 - 2).astype(dtype)
    tifffile.imwrite(tmp_path / "a_t1.tif", image, photometric="minisblack")
    shown = preview(opened(tmp_path, pattern="a_t{t:d}.tif"))
    ((picture,),) = shown.pictures
    np.testing.assert_allclose(picture.small, np.abs(image) if dtype == "complex64" else image)
    check_asks_for_nothing(shown.html)


def test_pixels_that_are_no_numbers(tmp_path: Path) -> None:
    image = np.full((8, 8), np.nan, "float32")
    tifffile.imwrite(tmp_path / "a_t1.tif", image, photometric="minisblack")
    image[2], image[3], image[4] = 7, np.inf, 9
    tifffile.imwrite(tmp_path / "a_t2.tif", image, photometric="minisblack")
    shown = preview(opened(tmp_path, pattern="a_t{t:d}.tif"))
    ((nothing, some),) = shown.pictures
    assert "NaN" in nothing.problem
    assert (some.problem, some.high) == ("", 9)
    check_asks_for_nothing(shown.html)


def test_colours_of_samples(tmp_path: Path) -> None:
    """Of red, green and blue samples, the overlaid picture is the picture."""
    image = np.zeros((8, 8, 3), "uint8")
    image[:4, :, 0] = image[:, :4, 1] = image[2:6, 2:6, 2] = 255
    tifffile.imwrite(tmp_path / "a_t1.tif", image, photometric="rgb")
    shown = preview(opened(tmp_path, pattern="a_t{t:d}.tif"), contrast=(0, 255))
    (overlaid,) = shown.overlaid
    assert overlaid is not None
    assert ((overlaid > 128) == (image > 128)).all()


@pytest.mark.filterwarnings("ignore")  # what names are read as, and files that are empty
def test_real_folders(data: Path) -> None:
    """Every real folder that opens has a page, and each of its planes is that of its file."""
    shown = 0
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        try:
            ds = opened(folder, duplicates="first")
        except (OSError, ValueError):
            continue  # of several samples, or not understood; other tests say which
        page = preview(ds)
        check_asks_for_nothing(page.html)
        shown += 1
        for row in page.pictures:
            for picture in row:
                if picture.problem or picture.factor > 1:
                    continue
                planes = tifffile.imread(picture.file, key=slice(None)).reshape(
                    -1, *picture.small.shape
                )
                assert any((picture.small == plane).all() for plane in planes), picture.file
    assert shown >= 20


# --- the commands -----------------------------------------------------------------------------


def test_preview_from_the_shell(
    acquisition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (acquisition / reference_name(2, 3)).unlink()
    page = tmp_path / "page.html"
    options = ["--plane", "max", "--count", "2", "--contrast", "0,3000", "--voxel-size", "0.1"]
    assert main(["preview", str(acquisition), str(page), *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["14 of 15 files are there; 1 is missing.", str(page)]
    text = check_asks_for_nothing(page.read_text(encoding="utf-8")).text
    assert "voxel_size=0.1)" in text
    assert "the maximum along z, of 4" in text
    assert main(["preview", str(acquisition), str(page), "--along", "channel"]) == 1
    assert main(["info", str(acquisition)]) == 0
    assert "channel 642: stack 3" in capsys.readouterr().out


def test_the_reader_of_a_pipe_may_leave(shared_acquisition: Path) -> None:
    command = [sys.executable, "-m", "xarray_tiffstack", "info", str(shared_acquisition)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        done.stdout.close()
        said = done.stderr.read()
    assert said == b""
    assert done.returncode == 0


def test_a_page_is_not_written_into_the_folder_that_it_shows(
    acquisition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    before = sorted(acquisition.rglob("*"))
    monkeypatch.chdir(acquisition)
    for out in ([], ["page.html"], [str(acquisition / "page.html")]):
        assert main(["preview", ".", *out]) == 1
        assert "inside the source" in capsys.readouterr().err
    assert sorted(acquisition.rglob("*")) == before
    assert main(["preview", ".", "../page.html"]) == 0
    assert (tmp_path / "page.html").is_file()
