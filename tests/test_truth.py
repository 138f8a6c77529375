"""Real folders and real names, opened as a user would, against what is known of them.

ci/truth_page.py writes what is found here into the documentation.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
from conftest import DATA

from xarray_tiffstack.names.pattern import Pattern
from xarray_tiffstack.source import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
TRUTH = json.loads((DATA / "truth.json").read_text()) if DATA.is_dir() else {}
LISTS = sorted(path.stem for path in (DATA / "filenames").glob("*.txt"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not beside this")


@dataclass(frozen=True)
class Known:
    """How a folder is opened, and where its truth is spelled otherwise than here."""

    names: dict[str, str] = field(default_factory=dict)
    """What a token of the truth is called here, where it has another name."""
    part: str = ""
    """Which folder of it is opened."""
    options: dict[str, Any] = field(default_factory=dict)
    """What a user has to say."""
    linked: tuple[str, ...] = ()
    """Tokens that change together: one dimension here, where the truth crosses them."""
    pages: tuple[str, ...] = ()
    """Dimensions of a file in the order of its pages, where ours is another."""
    remark: str = ""
    """What the page says of it."""
    differs: str = ""
    """Where what is read is not what the truth says, and why."""


SETS = {
    "aollsm_psf642": Known(remark="Settings.txt tells of 2 stacks: reported as a disagreement"),
    "bdp2_nc2_nt6": Known({"C": "channel", "T": "time"}),
    "bdp2_microglia_sparse_t84_105_122": Known({"C": "channel", "T": "time"}),
    "bdp2_planes_t_c_subfolders": Known(
        {"c": "channel", "z": "boats"},
        differs="z is called `boats`, as in the names: nothing in `boats_00` says that it is z",
    ),
    "brainglobe_cubes_zyx_ch": Known(
        {"z": "pCellz", "y": "y_offset", "x": "x_offset", "ch": "channel"},
        linked=("z", "y", "x"),
        differs="z is called `pCellz`, as in the names; z, y and x, where a cell was found, change "
        "together and are one dimension of 2; the truth crosses them, and notes that this is wrong",
    ),
    "cellvoyager_cv8000": Known({"F": "position", "C": "channel", "Z": "z"}),
    "cp_sbs_channel_index_well": Known(),
    "cp_human_arrayscan": Known({"f": "position", "d": "channel"}),
    "ctc_traccuracy_mask": Known({"t": "time"}),
    "leica_matrix_screener": Known({"T": "time", "Y": "row", "X": "col", "Z": "z", "C": "channel"}),
    "metaxpress_1well_tzmix": Known({"site": "position", "w": "channel"}),
    "metaxpress_projection_mix": Known(
        {"site": "position", "w": "channel"}, remark="z=0 are the projections, as in the truth"
    ),
    "mm_alpha20_singleplane": Known(),
    "mm_mmstack_14compat": Known(pages=("time", "channel", "z"), remark="unpacked from .gz first"),
    "mm_scifio_zero_byte": Known(
        remark="19 of the 20 files are empty, and so missing: each has its slot, and the report "
        "names them",
    ),
    "thunder_tiny_lzw": Known(
        {"n": "dot"},
        part="singlelayer_tif",
        remark="opened at its top it is refused: the names of the two folders have nothing in "
        "common",
    ),
    "viv_companion_ome_Z": Known({"Z": "z"}, remark="a warning names what is left out"),
    "phenix_jump": Known({"f": "position", "p": "z", "ch": "channel", "sk": "time"}),
    "wipp_tiles_4x4": Known({"r": "row", "c": "col"}),
    "microfilm_good_t_unpadded": Known({"C": "channel"}),
    "merlin_round_pos": Known(
        {"fov": "n", "round": "n2"},
        differs="two numbers without a word of their own are called n and n2, not fov and round",
    ),
    "codex_cytokit": Known(
        {"cyc": "cycle", "reg": "region", "Z": "z", "CH": "channel"},
        remark="a warning names what is left out",
    ),
}

# Micrometers that the notes beside the truth give; none where what the files say is junk.
VOXELS = {
    "phenix_jump": {},  # its tags give the pixel of the camera
    "aollsm_psf642": {"z": 0.1, "y": 6.5 / 63.8, "x": 6.5 / 63.8},
    "leica_matrix_screener": {"y": 0.2405, "x": 0.2405},
    "metaxpress_1well_tzmix": {"y": 13.55, "x": 13.55},
    "metaxpress_projection_mix": {"y": 1.3668, "x": 1.3668},
    "mm_alpha20_singleplane": {},
    "mm_mmstack_14compat": {"z": 5, "y": 1, "x": 1},
    "wipp_tiles_4x4": {},
}

# Folders that are no array, and what is said of them where the headers are read.
REFUSED = {
    "brainglobe_mismatched_dims": r"2 samples.*group='half_MB.*open_datatree",
    "broken_pillow": r"21 names.*crash-0c7e\w+\.tif.*pattern=",
    "flavours_image_tiff": r"26 names.*12bit\.cropped\.tiff.*pattern=",
    "flavours_imagej": r"13 names.*gray16-3x2-sub1\.tif.*pattern=",
    "flavours_libtiffpic_depth": r"samples.*group='flower-minisblack.*open_datatree",
    "flavours_pillow_multipage": r"14 names.*12in16bit\.tif.*pattern=",
    "flavours_skimage": r"5 names.*_blobs_3d_fiji_skeleton\.tif.*pattern=",
    "hipsc_uneven_bare_frame": r"2 samples.*y: 1040, x: 1387.*1 file\n.*open_datatree",
    "ome_tiled_minerva": r"2 names.*64x64\.ome\.tif.*pattern=",
}


# --- what is found --------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What opening some files gives."""

    names: int
    """TIFFs that are there."""
    arrays: tuple[xr.Dataset, ...] = ()
    """One a sample."""
    refused: str = ""
    """The error, where there is one."""
    wrong: tuple[str, ...] = ()
    """Whatever is not as it is known to be."""

    @property
    def placed(self) -> int:
        """Files that stand in a cell."""
        return sum(int(ds.present.sum()) for ds in self.arrays)

    @property
    def holes(self) -> int:
        """Cells without a file."""
        return sum(ds.present.size for ds in self.arrays) - self.placed

    @property
    def left_out(self) -> int:
        """Files that are in no array, and listed."""
        return len({path for ds in self.arrays for path in left_out(ds)})


def left_out(ds: xr.Dataset) -> set[str]:
    """Files that the report lists as not in the array."""
    report = ds.tiffstack.report()
    return {
        *report.unmatched,
        *report.duplicates,
        *(line.rsplit(": ", 1)[0] for line in report.aside),
    }


def opened(opener: Callable[..., Any], source: Path, **options: Any) -> Any:
    """Open a source; warnings of names that were inferred or are left out are expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return opener(source, engine="tiffstack", **options)


def tiffs_below(folder: Path) -> list[str]:
    """Names of the TIFFs of a folder."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    return [path for path in paths if path.lower().endswith(SUFFIXES)]


def at_files(ds: xr.Dataset, coordinate: str) -> dict[str, Any]:
    """Value of a coordinate for each file."""
    values = ds[coordinate].broadcast_like(ds.path).transpose(*ds.path.dims).values
    pairs = zip(ds.path.values.ravel(), values.ravel(), strict=True)
    return {below(ds, path): value for path, value in pairs if path}


def below(ds: xr.Dataset, path: str) -> str:
    """Path of a file below the source."""
    return Path(path).relative_to(ds.attrs["source"]).as_posix() if path else ""


# --- real folders ---------------------------------------------------------------------------


@cache
def open_known(name: str) -> Found:
    """Open a folder of truth.json, and find where it is not what the truth says."""
    with TemporaryDirectory() as scratch:
        source = unpacked(DATA / name / SETS[name].part, Path(scratch))
        ds = opened(xr.open_dataset, source, **SETS[name].options)
        wrong = (*misplaced(ds, name, source), *misread(ds, name))
        return Found(len(tiffs_below(source)), (ds,), wrong=wrong)


@cache
def open_refused(name: str) -> Found:
    """Open a folder that is no array, its headers read."""
    try:
        ds = opened(xr.open_dataset, DATA / name, validate="headers")
    except ValueError as error:
        return Found(len(tiffs_below(DATA / name)), refused=str(error))
    return Found(len(tiffs_below(DATA / name)), (ds,))


def unpacked(folder: Path, scratch: Path) -> Path:
    """Give the folder, or `scratch` with its files where they are packed."""
    packed = list(folder.glob("*.gz"))
    for path in packed:
        with gzip.open(path) as source, (scratch / path.stem).open("wb") as target:
            shutil.copyfileobj(source, target)
    return scratch if packed else folder


def misplaced(ds: xr.Dataset, name: str, source: Path) -> Iterator[str]:
    """Say where labels and files are not what the truth of a folder says."""
    truth, known = TRUTH[name], SETS[name]
    expression = re.compile(truth["regex"].replace(r"\.gz$", "$"))
    here = {token: known.names.get(token, token) for token in truth["dims"]}
    matches = {
        path: match
        for path in tiffs_below(source)
        if (match := expression.search(f"{known.part}/{path}".lstrip("/")))
    }
    if len(matches) != truth["files_used"]:
        yield f"{len(matches)} files fit the expression of the truth"
    for token, labels in truth["coords"].items():
        if (found := np.unique(ds[here[token]].values).tolist()) != labels:
            yield f"the labels of {token} are {found}, not {labels}"
    readable = {path for path in matches if (source / path).stat().st_size}
    if {*at_files(ds, "path")} != {*matches}:
        yield f"other files are placed: {sorted({*matches} ^ {*at_files(ds, 'path')})}"
    present = {below(ds, path) for path in ds.path.values[ds.present.values]}
    if present != readable:
        yield f"other files are present: {sorted(readable ^ present)}"
    for token, coordinate in here.items():
        for path, value in at_files(ds, coordinate).items():
            if str(value) != label(matches[path][token]):
                yield f"{path} has {coordinate} {value}"
    if left_out(ds) != {*tiffs_below(source)} - {*matches}:
        yield f"left out are {sorted(left_out(ds))}"
    linked = {tuple(match[token] for token in known.linked) for match in matches.values()}
    others = [len(labels) for token, labels in truth["coords"].items() if token not in known.linked]
    cells = len(linked) * int(np.prod(others))
    if ds.present.size != cells or (not known.linked and cells != truth["grid"]):
        yield f"there are {ds.present.size} cells, not {cells}"
    missing = truth["missing"] if not known.linked else cells - len(matches)
    if int((~ds.present).sum()) != missing + len(matches) - len(readable):
        yield f"{int((~ds.present).sum())} cells are empty, not {missing}"


def label(text: str | None) -> str:
    """Spell a label as a number where it is one; what is absent counts as 0."""
    return str(int(text or 0)) if text is None or text.isdecimal() else text


def misread(ds: xr.Dataset, name: str, sample: int = 5) -> Iterator[str]:
    """Read some cells, and the pages of the files they name, and say where they differ."""
    cells = np.argwhere(ds.present.values)
    for cell in np.random.default_rng(0).permutation(cells)[:sample]:
        one = ds.isel(dict(zip(ds.path.dims, cell, strict=True)))
        with tifffile.TiffFile(Path(ds.attrs["source"], one.path.item())) as file:
            pages = np.stack([page.asarray() for page in file.pages])
        image = one.image.transpose(*SETS[name].pages, ...).values
        if not np.array_equal(image.reshape(pages.shape), pages):
            yield f"the pixels of {one.path.item()} are others"


@pytest.mark.parametrize("name", SETS)
def test_a_real_folder_is_what_it_is_known_to_be(name: str) -> None:
    assert open_known(name).wrong == ()


@pytest.mark.parametrize(("name", "voxel"), VOXELS.items())
def test_voxel_sizes_of_real_folders(name: str, voxel: dict[str, float]) -> None:
    (ds,) = open_known(name).arrays
    known = [axis for axis in "zyx" if axis in ds and "voxel_size_from" in ds[axis].attrs]
    steps = {axis: float(ds[axis][1] - ds[axis][0]) for axis in known}
    assert steps == pytest.approx(voxel, rel=1e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_a_real_folder_that_is_no_array(name: str) -> None:
    assert re.search(REFUSED[name], open_refused(name).refused, re.DOTALL)


def test_every_real_folder_is_known() -> None:
    folders = {path.name for path in DATA.iterdir() if path.is_dir()}
    assert folders - {"filenames"} == {*SETS, *REFUSED}
    assert {*TRUTH} <= {*SETS, *REFUSED}


def test_files_of_two_shapes_are_two_arrays() -> None:
    source = DATA / "hipsc_uneven_bare_frame"
    tree = xr.open_datatree(source, engine="tiffstack", validate="headers")
    assert len(tree.leaves) == 2
    for leaf in tree.leaves:
        path = leaf["path"].item()
        np.testing.assert_array_equal(leaf.image.squeeze(), tifffile.imread(source / path))
    ds = xr.open_dataset(source, engine="tiffstack")
    with pytest.raises((OSError, ValueError), match=r"001\.tif"):
        ds.image.compute()


@pytest.mark.parametrize("name", [name for name in REFUSED if "flavours" in name])
def test_each_file_is_an_array_of_its_own(name: str) -> None:
    tree = opened(xr.open_datatree, DATA / name, pattern=r"(?P<name>.*)", validate="headers")
    assert sum(int(leaf.present.sum()) for leaf in tree.leaves) == len(tiffs_below(DATA / name))
    for leaf in tree.leaves:
        wanted = tifffile.imread(DATA / name / leaf["path"].item(), _multifile=False)
        np.testing.assert_array_equal(leaf.image.squeeze(), wanted.squeeze())


def test_empty_files_are_missing() -> None:
    with pytest.warns(UserWarning, match="19 of 20 files missing, because empty"):
        ds = xr.open_dataset(DATA / "mm_scifio_zero_byte", engine="tiffstack")
    assert ds.present.sum() == 1
    assert ds.present.sel(time=0, channel="Cy3", z=0)
    assert ds.image.sel(time=0, channel="Cy3", z=0).compute().shape == (256, 256)
    assert not ds.image.sel(time=1, channel="FITC", z=4).any()


# --- real names -----------------------------------------------------------------------------


@cache
def listed(name: str) -> tuple[str, ...]:
    """Names of TIFFs in a list."""
    lines = (DATA / "filenames" / f"{name}.txt").read_text().splitlines()
    tiffs = [line for line in lines if line[0] != "#" and line.lower().endswith(SUFFIXES)]
    return tuple(dict.fromkeys(tiffs))


def folders_of(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Names by the folder at the top: what was one acquisition, or a few."""
    tops = [path.split("/")[0] if "/" in path else "" for path in names]
    return {
        top: tuple(path for path, own in zip(names, tops, strict=True) if own == top)
        for top in dict.fromkeys(tops)
    }


@cache
def open_names(names: tuple[str, ...]) -> Found:
    """Write a tiny TIFF under each name, open them, and look for files in wrong places."""
    # The parts of an image stack file need pages to go on with.
    shape = (2, 2, 3) if any("MMStack" in path for path in names) else (2, 3)
    with TemporaryDirectory() as scratch:
        for i, path in enumerate(names):
            target = Path(scratch, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tiff_of(i + 1, shape))
        try:
            tree = opened(xr.open_datatree, Path(scratch))
        except (OSError, ValueError) as error:
            return Found(len(names), refused=str(error).replace(scratch, ""))
        arrays = tuple(leaf.to_dataset() for leaf in tree.leaves)
        wrong = [line for ds in arrays for line in (*misnamed(ds), *mixed_up(ds, names))]
    found = Found(len(names), arrays)
    if found.placed + found.left_out != len(names):
        wrong.append(f"{found.placed} of {len(names)} are placed, {found.left_out} left out")
    return Found(len(names), arrays, wrong=tuple(wrong))


@cache
def template(shape: tuple[int, ...]) -> bytes:
    """TIFF of four-byte pixels that are all 0xABABABAB."""
    file = io.BytesIO()
    pixels = np.full(shape, 0xABABABAB, "<u4")
    tifffile.imwrite(file, pixels, photometric="minisblack", metadata=None)
    return file.getvalue()


def tiff_of(value: int, shape: tuple[int, ...]) -> bytes:
    """TIFF whose pixels have one value."""
    return template(shape).replace(b"\xab\xab\xab\xab", value.to_bytes(4, "little"))


def mixed_up(ds: xr.Dataset, names: tuple[str, ...], sample: int = 100) -> Iterator[str]:
    """Say which cells have pixels of other files than those that `path` names."""
    value = {"": 0} | {path: i + 1 for i, path in enumerate(names)}
    dims = [d for d in ds.path.dims if d in ds.image.dims]  # not those along which files continue
    cells = list(np.ndindex(*(ds.sizes[d] for d in dims)))
    for at in np.random.default_rng(0).permutation(len(cells))[:sample]:
        one = ds.isel(dict(zip(dims, cells[at], strict=True)))
        wanted = [value[below(ds, path)] for path in one.path.values.ravel()]
        if list(dict.fromkeys(one.image.values.ravel().tolist())) != wanted:
            yield f"{one.path.values} does not hold its own pixels"


def misnamed(ds: xr.Dataset) -> Iterator[str]:
    """Say which files have coordinates that are not what the pattern reads in their names."""
    pattern = Pattern(ds.image.attrs["pattern"])
    read = {path: pattern.parse(path) or {} for path in at_files(ds, "path")}
    for token in pattern.tokens:
        if token not in ds.coords or not {*ds[token].dims} <= {*ds.path.dims}:
            continue
        found = at_files(ds, token)
        if token == "channel":  # labelled by the wavelength or dye, perhaps
            if len({(str(found[path]), read[path][token]) for path in found}) != ds[token].size:
                yield "files of one channel have several channels in their names"
            continue
        for path, value in found.items():
            own = read[path][token]
            absent = own is None and (pd.isna(value) or value in ("", 0))
            if not absent and value != own and str(value) != str(own):
                yield f"{path} has {token} {value}"


@pytest.mark.parametrize("name", LISTS)
def test_real_names_are_placed_or_refused(name: str) -> None:
    names = listed(name)
    for part in {names, *folders_of(names).values()}:
        found = open_names(part)
        assert found.wrong == ()
        if found.refused:
            assert any(path in found.refused for path in part)
            assert re.search(r"pattern=|group=|duplicates=", found.refused)


def test_the_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "ci")
    import truth_page

    assert truth_page.PAGE.read_text(encoding="utf-8") == truth_page.page()
