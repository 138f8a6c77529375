"""An index: a virtual OME-Zarr of the files themselves, read by programs of other projects."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from conftest import DATA, SHAPE, pixels, write, write_acquisition
from packaging.version import Version
from test_truth import SETS, unpacked
from test_viewers import CHROMIUM, HEADLESS, ZOOM, picture, show

import xarray_tiffstack
from xarray_tiffstack import check_index, follow_index, open_index, renew_index, tiff
from xarray_tiffstack.cli import main
from xarray_tiffstack.look.serve import Server
from xarray_tiffstack.look.store import open_store
from xarray_tiffstack.ome_zarr.images import collect

if TYPE_CHECKING:
    from pathlib import Path

icechunk = pytest.importorskip("icechunk", reason="icechunk 2.3 needs Python 3.12")
if Version(icechunk.__version__) < Version("2.3"):
    pytest.skip(f"icechunk {icechunk.__version__} is older than 2.3", allow_module_level=True)

# fsspec reads tables with fastparquet, for which pandas 3 has a warning.
tables = pytest.mark.filterwarnings("ignore:The 'fastparquet' engine:DeprecationWarning")

# What other programs do, which have never heard of this package: icechunk, or fsspec, with zarr.
PLAIN = """
import json, sys
sys.modules["xarray_tiffstack"] = None  # as if it were not installed
import fsspec, icechunk, imagecodecs.numcodecs, imagecodecs.zarr, numpy as np, xarray as xr, zarr

def from_icechunk(index, folder, group="0"):
    storage, prefix = icechunk.local_filesystem_storage(index), f"file://{folder}/"
    access = {prefix: icechunk.credentials.LocalFileSystemAccess}
    repo = icechunk.Repository.open(storage, authorize_virtual_chunk_access=access)
    tree = xr.open_datatree(repo.readonly_session("main").store, engine="zarr")
    return tree[group].image.values

def from_references(references):
    fs = fsspec.filesystem("reference", fo=references, remote_protocol="file")
    store = zarr.storage.FsspecStore.from_mapper(fs.get_mapper(""), read_only=True)
    return zarr.open_array(store, path="0/image", mode="r", zarr_format=2)[...]

icechunk.set_logs_filter("error")
for index, folder, codecs, *group in json.loads(sys.argv[1]):
    if codecs:
        imagecodecs.zarr.register_codecs(verbose=False)
        imagecodecs.numcodecs.register_codecs(verbose=False)
    ours = index.endswith(".icechunk")
    found = from_icechunk(index, folder, *group) if ours else from_references(index)
    np.save(f"{index}.npy", found)
"""


def read_elsewhere(*jobs: tuple[Path, Path, bool] | tuple[Path, Path, bool, str]) -> list[Any]:
    """Read indexes in a process without this package: where, of which folder, with imagecodecs?"""
    text = json.dumps([(*map(str, job[:2]), job[2], *job[3:]) for job in jobs])
    command = [sys.executable, "-W", "ignore", "-c", PLAIN, text]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=jobs[0][0].parent
    )
    assert not done.returncode, done.stderr
    return [np.load(f"{job[0]}.npy") for job in jobs]


def opened(folder: Path, **options: Any) -> xr.Dataset:
    return xr.open_dataset(folder, engine="tiffstack", **options)


def tree_of(index: Path, source: Path | None = None) -> xr.DataTree:
    return xr.open_datatree(open_index(index, source), engine="zarr")


def level(index: Path, number: int = 0) -> xr.Dataset:
    return tree_of(index)[str(number)].to_dataset().load()


# --- what is in it --------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 2])
def test_an_index_is_what_a_conversion_writes(acquisition: Path, levels: int) -> None:
    next(iter(acquisition.glob("*ch1*stack0002*"))).unlink()
    ds = opened(acquisition)
    index, store = acquisition.parent / "raw.icechunk", acquisition.parent / "raw.ome.zarr"
    found = ds.tiffstack.to_virtual(index, levels=levels)
    assert (found.files, found.references, found.copied) == (14, 14 * SHAPE[0], {})
    ds.tiffstack.to_ome_zarr(store, levels=levels)
    ours, theirs = tree_of(index), xr.open_datatree(store, engine="zarr")
    for number in map(str, range(levels)):
        xr.testing.assert_identical(
            ours[number].to_dataset().load(), theirs[number].to_dataset().load()
        )
    xr.testing.assert_equal(level(index).transpose(*ds.image.dims), ds.load())
    said, meant = (
        dict(zarr.open_group(each, mode="r").attrs["ome"]) for each in (open_index(index), store)
    )
    assert said["multiscales"] == meant["multiscales"]
    if levels > 1:  # otherwise three planes are looked at, and not all
        assert said == meant


def test_units_and_attributes_are_kept(acquisition: Path) -> None:
    ds = opened(acquisition, voxel_size={"z": 0.5, "y": 0.1, "x": 0.1})
    ds.tiffstack.to_virtual(index := acquisition.parent / "raw.icechunk")
    got = level(index)
    assert got.z.attrs["units"] == "micrometer"
    assert got.time.attrs["units"] == "millisecond"
    assert got.path.dtype.kind in "OT"
    assert got.image.attrs == ds.image.attrs


def test_a_selection_is_indexed_as_it_is(acquisition: Path) -> None:
    ds = opened(acquisition)
    part = ds.isel(stack=[3, 1], z=slice(None, None, -2)).sel(channel=[642, 488])
    part.tiffstack.to_virtual(index := acquisition.parent / "raw.icechunk")
    xr.testing.assert_equal(level(index).transpose(*part.image.dims), part.load())
    one = ds.sel(channel=560).isel(stack=2)
    one.tiffstack.to_virtual(index, overwrite=True)
    np.testing.assert_array_equal(level(index).image, one.image)


def test_planes_that_are_cut_or_computed_are_refused(acquisition: Path) -> None:
    ds, index = opened(acquisition), acquisition.parent / "raw.icechunk"
    with pytest.raises(ValueError, match="planes of the files as they are, and x is cut"):
        ds.isel(x=slice(2, None)).tiffstack.to_virtual(index)
    with pytest.raises(ValueError, match="these were computed"):
        ds.assign(image=ds.image + 1).tiffstack.to_virtual(index)
    assert not index.exists()


@pytest.mark.parametrize("name", ["raw.icechunk", "raw.json"])
def test_nothing_is_written_into_the_source_or_over_other_things(
    acquisition: Path, name: str
) -> None:
    ds, before = opened(acquisition), sorted(acquisition.iterdir())
    with pytest.raises(ValueError, match="inside the source"):
        ds.tiffstack.to_virtual(acquisition / name)
    assert sorted(acquisition.iterdir()) == before
    other = acquisition.parent / name
    ds.tiffstack.to_virtual(other)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        ds.tiffstack.to_virtual(other)
    folder = acquisition.parent / "other.icechunk"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        ds.tiffstack.to_virtual(folder, overwrite=True)


def test_earlier_states_can_be_read_again(acquisition: Path) -> None:
    index = acquisition.parent / "raw.icechunk"
    opened(acquisition).isel(stack=slice(2)).tiffstack.to_virtual(index)
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(index)))
    (first, *_) = [each.id for each in repo.ancestry(branch="main")]
    opened(acquisition).tiffstack.to_virtual(index, overwrite=True)
    assert level(index).sizes["stack"] == 5
    earlier = xr.open_datatree(open_index(index, snapshot=first), engine="zarr")["0"]
    assert earlier.sizes["stack"] == 2


# --- other programs -------------------------------------------------------------------------

FLAVOURS: dict[str, dict[str, Any]] = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "strips": {"rowsperstrip": 2},
    "zlib": {"compression": "zlib"},
    "zlib predictor": {"compression": "zlib", "predictor": True},
    "zlib predictor big-endian": {"compression": "zlib", "predictor": True, "byteorder": ">"},
    "zstd": {"compression": "zstd"},
    "lzw": {"compression": "lzw"},
    "lzw predictor": {"compression": "lzw", "predictor": True},
    "strips of zlib": {"compression": "zlib", "rowsperstrip": 2},
    "tiles": {"tile": (16, 16)},
    "tiles of zstd": {"tile": (16, 16), "compression": "zstd"},
    "tiles of lzw predictor": {"tile": (16, 32), "compression": "lzw", "predictor": True},
}


def test_others_read_every_flavour(tmp_path: Path) -> None:
    jobs: list[tuple[Path, Path, bool]] = []
    wanted = []
    # Those that need no codec of imagecodecs come first, while nothing has registered any.
    plain = [name for name in FLAVOURS if not {"lzw", "predictor"} & set(name.split())]
    for name in (*plain, *(name for name in FLAVOURS if name not in plain)):
        shape = (3, 40, 24) if "tile" in FLAVOURS[name] else SHAPE
        folder = tmp_path / name / "raw"
        for t in range(3):
            write(folder / f"cell_t{t}.tif", t, shape, **FLAVOURS[name])
        ds = opened(folder, pattern="cell_t{t:d}.tif", pages="z")
        for index in ("raw.icechunk", "raw.json"):
            found = ds.tiffstack.to_virtual(folder.with_name(index))
            assert (name, found.copied) == (name, {})
            jobs.append((folder.with_name(index), folder, name not in plain))
            wanted.append((name, np.stack([pixels(t, shape) for t in range(3)])))
    for (name, theirs), found in zip(wanted, read_elsewhere(*jobs), strict=True):
        np.testing.assert_array_equal(found, theirs, err_msg=name)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_lie_side_by_side_or_one_after_the_other(tmp_path: Path, planar: str) -> None:
    shape = (40, 24, 3) if planar == "contig" else (3, 40, 24)
    image = np.arange(2 * np.prod(shape)).reshape(2, *shape).astype("uint16")
    (tmp_path / "raw").mkdir()
    for t in range(2):
        tifffile.imwrite(
            tmp_path / "raw" / f"cell_t{t}.tif", image[t], photometric="rgb", planarconfig=planar,
            compression="zlib", predictor=True, metadata=None,
        )  # fmt: skip
    ds = opened(tmp_path / "raw", pattern="cell_t{t:d}.tif")
    ds.tiffstack.to_virtual(tmp_path / "raw.icechunk")
    got = level(tmp_path / "raw.icechunk").image
    np.testing.assert_array_equal(got, ds.image.transpose("t", "sample", "y", "x"))
    if planar == "contig":
        with pytest.raises(ValueError, match=r"side by side.*icechunk"):
            ds.tiffstack.to_virtual(tmp_path / "raw.json")


@tables
@pytest.mark.parametrize("name", ["raw.json", "raw.parq"])
def test_references_are_read_by_fsspec(acquisition: Path, name: str) -> None:
    if name.endswith("parq"):
        pytest.importorskip("fastparquet")
    next(iter(acquisition.glob("*ch2*stack0001*"))).unlink()
    ds, target = opened(acquisition), acquisition.parent / name
    ds.tiffstack.to_virtual(target)
    wanted = ds.image.transpose("stack", "channel", "z", "y", "x")
    (found,) = read_elsewhere((target, acquisition, False))
    np.testing.assert_array_equal(found, wanted)
    got = xr.open_zarr(open_index(target), group="0", zarr_format=2, consolidated=False)
    xr.testing.assert_equal(got.load(), ds.transpose(*got.image.dims).load())


def test_missing_slots_are_the_fill_value(acquisition: Path) -> None:
    next(iter(acquisition.glob("*ch2*stack0001*"))).unlink()
    ds = opened(acquisition, fill_value=7)
    ds.tiffstack.to_virtual(index := acquisition.parent / "raw.icechunk")
    got = level(index)
    assert (got.image.sel(channel=642, stack=1) == 7).all()
    assert not got.present.sel(channel=642, stack=1)
    with pytest.raises(ValueError, match=r"fill_value=0.*icechunk"):
        ds.tiffstack.to_virtual(acquisition.parent / "raw.json")


def test_a_volume_of_another_program_is_read_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    image = np.arange(2 * 3 * 2 * 6 * 8).reshape(2, 3, 2, 6, 8).astype("uint16")
    for t in range(2):
        tifffile.imwrite(
            tmp_path / "raw" / f"cell_t{t}.tif", image[t], imagej=True, metadata={"axes": "ZCYX"}
        )
    ds = opened(tmp_path / "raw", pattern="cell_t{t:d}.tif")
    ds.tiffstack.to_virtual(tmp_path / "raw.icechunk")
    got = level(tmp_path / "raw.icechunk").image
    np.testing.assert_array_equal(got, image.swapaxes(1, 2))


def test_a_mosaic_is_put_together(tmp_path: Path) -> None:
    for y, x in np.ndindex(2, 3):
        write(tmp_path / "raw" / f"tile_row{y}_col{x}.tif", 3 * y + x, (2, 6, 8))
    ds = opened(tmp_path / "raw", pattern="tile_row{row:d}_col{col:d}.tif", pages="z", mosaic=True)
    ds.tiffstack.to_virtual(index := tmp_path / "raw.icechunk")
    np.testing.assert_array_equal(level(index).image, ds.image)
    cut = opened(
        tmp_path / "raw", pattern="tile_row{row:d}_col{col:d}.tif", pages="z", mosaic=True,
        overlap=2,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"mosaic with overlap.*convert"):
        cut.tiffstack.to_virtual(tmp_path / "cut.icechunk")


def test_wells_are_images_of_a_plate(tmp_path: Path) -> None:
    for i, (well, t) in enumerate((w, t) for w in ("A01", "B02") for t in range(2)):
        write(tmp_path / "raw" / f"scan_{well}_t{t}.tif", i, (6, 8))
    ds = opened(tmp_path / "raw", pattern="scan_{well}_t{t:d}.tif")
    ds.tiffstack.to_virtual(index := tmp_path / "raw.icechunk")
    tree = tree_of(index)
    for well, path in (("A01", "A/01/0"), ("B02", "B/02/0")):
        np.testing.assert_array_equal(tree[f"{path}/0"].image, ds.image.sel(well=well))


# --- real folders ---------------------------------------------------------------------------


@pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not beside this")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_real_folders_are_read_elsewhere(tmp_path: Path) -> None:
    jobs, wanted = [], []
    for name, known in SETS.items():
        scratch = tmp_path / name / "raw"
        scratch.mkdir(parents=True)
        ds = opened(unpacked(DATA / name / known.part, scratch), **known.options)
        index = tmp_path / name / "raw.icechunk"
        assert ds.tiffstack.to_virtual(index, copy=True).files == int(ds.present.sum()), name
        collection = collect(ds)
        image = collection.images[-1]
        root: Any = zarr.open_group(open_index(index), mode="r")["tiffstack/files"].attrs["root"]
        jobs.append((index, root, True, image.group(0)))
        wanted.append((name, collection.ds.image.isel(image.at).values))
    for (name, ours), theirs in zip(wanted, read_elsewhere(*jobs), strict=True):
        np.testing.assert_array_equal(theirs, ours, err_msg=name)


# --- what cannot be referred to -------------------------------------------------------------


def test_a_file_that_is_stored_otherwise_is_copied(tmp_path: Path) -> None:
    for t in range(4):
        write(tmp_path / "raw" / f"cell_t{t}.tif", t, byteorder=">" if t == 2 else "<")
    ds = opened(tmp_path / "raw", pattern="cell_t{t:d}.tif", pages="z")
    found = ds.tiffstack.to_virtual(tmp_path / "raw.icechunk")
    odd = str(tmp_path / "raw" / "cell_t2.tif")
    assert found.copied == {odd: "the other order of bytes"}
    assert (found.references, found.copied_nbytes) == (3 * SHAPE[0], pixels(0).nbytes)
    assert "cell_t2.tif" in str(found)
    np.testing.assert_array_equal(level(tmp_path / "raw.icechunk").image, ds.image)
    ds.tiffstack.to_virtual(tmp_path / "raw.json")
    jobs = [(tmp_path / f"raw.{kind}", tmp_path / "raw", False) for kind in ("json", "icechunk")]
    for found in read_elsewhere(*jobs):
        np.testing.assert_array_equal(found, ds.image)
    with pytest.raises(ValueError, match=r"1 file cannot.*\n.*cell_t2.*\n.*copy=True.*convert"):
        ds.tiffstack.to_virtual(tmp_path / "other.icechunk", copy=False)
    assert not (tmp_path / "other.icechunk").exists()


def test_the_last_strip_of_compressed_pages_is_copied(tmp_path: Path) -> None:
    for t in range(2):
        write(
            tmp_path / "raw" / f"cell_t{t}.tif", t, (2, 10, 8), compression="zlib", rowsperstrip=4
        )
    ds = opened(tmp_path / "raw", pattern="cell_t{t:d}.tif", pages="z")
    found = ds.tiffstack.to_virtual(tmp_path / "raw.icechunk")
    assert all("last strips that are short (--irregular" in why for why in found.copied.values())
    assert len(found.copied) == 2
    assert found.references == 2 * 2 * 2
    got = level(tmp_path / "raw.icechunk").image
    np.testing.assert_array_equal(got, ds.image)


IRREGULAR: dict[str, dict[str, Any]] = {
    "zlib": {"compression": "zlib"},
    "zlib predictor": {"compression": "zlib", "predictor": True},
    "lzw": {"compression": "lzw"},
    "zstd big-endian": {"compression": "zstd", "byteorder": ">"},
}


@pytest.mark.skipif(Version(zarr.__version__) < Version("3.2"), reason="zarr 3.2 has them")
@pytest.mark.parametrize("kind", IRREGULAR)
def test_the_last_strip_is_a_reference_in_irregular_chunks(tmp_path: Path, kind: str) -> None:
    shape = (2, 10, 8)
    for t in range(3):
        options = dict(IRREGULAR[kind])
        if t == 2 and kind == "zlib":
            options = {}  # is copied
        write(tmp_path / "raw" / f"cell_t{t}.tif", t, shape, rowsperstrip=4, **options)
    ds = opened(tmp_path / "raw", pattern="cell_t{t:d}.tif", pages="z")
    index = tmp_path / "raw.icechunk"
    found = ds.tiffstack.to_virtual(index, levels=2, irregular=True)
    files = 2 if kind == "zlib" else 3
    assert (found.references, len(found.copied)) == (files * 2 * 3, 3 - files)
    with pytest.raises(ValueError, match="rectilinear_chunks"):  # says how it is allowed
        level(index)
    os.utime(tmp_path / "raw" / "cell_t1.tif")
    assert renew_index(index).renewed == 1
    with zarr.config.set({"array.rectilinear_chunks": True}):
        np.testing.assert_array_equal(level(index).image, ds.image)
        assert level(index, 1).sizes["y"] == 5
    with pytest.raises(ValueError, match=r"no irregular chunks.*icechunk"):
        ds.tiffstack.to_virtual(tmp_path / "raw.json", irregular=True)


def test_chunks_that_fit_stay_regular(acquisition: Path) -> None:
    ds, index = opened(acquisition), acquisition.parent / "raw.icechunk"
    ds.tiffstack.to_virtual(index, irregular=True)
    np.testing.assert_array_equal(level(index).image.transpose(*ds.image.dims), ds.image)


@pytest.mark.parametrize("fill_value", [0, 7])
def test_tiles_that_are_not_stored_are_zero(tmp_path: Path, fill_value: int) -> None:
    for t in range(2):
        path = write(
            tmp_path / "raw" / f"cell_t{2 * t}.tif", t + 1, (32, 48), tile=(16, 16),
            compression="zlib",
        )  # fmt: skip
        with tifffile.TiffFile(path) as file:
            tags = [file.pages[0].tags[name] for name in ("TileOffsets", "TileByteCounts")]
        data = bytearray(path.read_bytes())
        for tag in tags:  # the first tile
            size = {3: 2, 4: 4}[tag.dtype]
            data[tag.valueoffset : tag.valueoffset + size] = bytes(size)
        path.write_bytes(data)
    write(tmp_path / "raw" / "cell_t1.tif", 9, (32, 48), tile=(16, 16), compression="zlib")
    ds = opened(tmp_path / "raw", pattern="cell_t{t:d}.tif", fill_value=fill_value)
    found = ds.tiffstack.to_virtual(tmp_path / "raw.icechunk")
    assert (found.references, len(found.copied)) == (2 * 5 + 6, 2 if fill_value else 0)
    got = level(tmp_path / "raw.icechunk")
    assert (got.image.sel(t=0)[:16, :16] == 0).all()
    np.testing.assert_array_equal(got.image, ds.image)


def test_what_no_codec_reads_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for t in range(7):
        tifffile.imwrite(
            tmp_path / "raw" / f"cell_t{t}.tif", np.zeros((16, 16), "uint8"), compression="jpeg"
        )
    ds = opened(tmp_path / "raw", pattern="cell_t{t:d}.tif")
    with pytest.raises(
        ValueError, match=r"7 files cannot be read.*\n.*JPEG(.*\n)*.*2 more\n.*conv"
    ):
        ds.tiffstack.to_virtual(tmp_path / "raw.icechunk")
    assert not (tmp_path / "raw.icechunk").exists()


def test_broken_files_are_named(acquisition: Path) -> None:
    broken = sorted(acquisition.iterdir())[4]
    broken.write_bytes(broken.read_bytes()[:300])
    ds, index = opened(acquisition), acquisition.parent / "raw.icechunk"
    with pytest.raises(
        OSError, match=rf"1 of 15 files cannot be indexed(.*\n)*.*{broken.name[:20]}"
    ):
        ds.tiffstack.to_virtual(index)
    ds = opened(acquisition, validate="headers")
    ds.tiffstack.to_virtual(index)
    xr.testing.assert_equal(level(index).transpose(*ds.image.dims), ds.load())


# --- files that change, and that move -------------------------------------------------------


def changed_file(acquisition: Path) -> Path:
    return next(iter(acquisition.glob("*ch1*stack0003*")))


@pytest.mark.parametrize("name", ["raw.icechunk", "raw.json"])
def test_a_file_that_is_rewritten_while_it_is_indexed(
    acquisition: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its directories were read already: the index would refer to other bytes."""
    from xarray_tiffstack.index import write as writing

    real, path = writing.references, changed_file(acquisition)

    def slowly(*words: Any) -> Any:
        found = real(*words)
        write(path, 99)
        return found

    monkeypatch.setattr(writing, "references", slowly)
    with pytest.raises(OSError, match=rf"(?s)1 file changed meanwhile.*{path.name}"):
        opened(acquisition).tiffstack.to_virtual(acquisition.parent / name)
    assert not (acquisition.parent / name).exists()


def test_a_changed_file_is_an_error_for_every_reader(acquisition: Path) -> None:
    ds = opened(acquisition)
    ds.tiffstack.to_virtual(index := acquisition.parent / "raw.icechunk")
    path = changed_file(acquisition)
    write(path, 99)  # of the same size, at once
    with pytest.raises(
        ValueError, match=rf"1 of 15 files changed(.*\n)*.*{path.name}.*(.*\n)*.*overwrite=True"
    ):
        open_index(index)
    assert [line.split()[0] for line in check_index(index)] == [path.name]
    image = xr.open_zarr(open_index(index, check=False), group="0").image
    with pytest.raises(icechunk.IcechunkError, match="has changed"):
        image.sel(channel=560, stack=3).load()
    np.testing.assert_array_equal(
        image.sel(channel=560, stack=2), ds.image.sel(channel=560, stack=2)
    )


def test_a_file_that_goes_is_an_error(acquisition: Path) -> None:
    opened(acquisition).tiffstack.to_virtual(index := acquisition.parent / "raw.icechunk")
    changed_file(acquisition).unlink()
    with pytest.raises(ValueError, match="is not there"):
        open_index(index)
    image = xr.open_zarr(open_index(index, check=False), group="0").image
    with pytest.raises(icechunk.IcechunkError):
        image.sel(channel=560, stack=3).load()


def test_an_older_file_in_its_place_is_found(acquisition: Path) -> None:
    """icechunk alone reads it: only later times count for it."""
    ds = opened(acquisition)
    one, other = (next(iter(acquisition.glob(f"*ch0*stack000{k}*"))) for k in (1, 2))
    ds.tiffstack.to_virtual(index := acquisition.parent / "raw.icechunk")
    beside = one.with_name("beside")
    for source, target in ((one, beside), (other, one), (beside, other)):
        source.rename(target)
    with pytest.raises(ValueError, match="2 of 15 files changed"):
        open_index(index)


@tables
@pytest.mark.parametrize("name", ["raw.json", "raw.parq"])
def test_changes_behind_references_are_found_when_they_are_opened(
    acquisition: Path, name: str
) -> None:
    if name.endswith("parq"):
        pytest.importorskip("fastparquet")
    opened(acquisition).tiffstack.to_virtual(index := acquisition.parent / name)
    open_index(index)
    write(changed_file(acquisition), 99)
    with pytest.raises(ValueError, match="1 of 15 files changed"):
        open_index(index)


@pytest.mark.parametrize("name", ["raw.icechunk", "raw.json"])
def test_index_and_folder_move_together(acquisition: Path, tmp_path: Path, name: str) -> None:
    ds = opened(acquisition).load()
    opened(acquisition).tiffstack.to_virtual(acquisition.parent / name)
    there = tmp_path / "disk 2 é+&"
    there.mkdir()
    shutil.move(acquisition, there / "raw")
    shutil.move(acquisition.parent / name, there / name)
    options = {} if name.endswith("icechunk") else {"zarr_format": 2, "consolidated": False}
    got = xr.open_zarr(open_index(there / name), group="0", **options)
    xr.testing.assert_equal(got.load().transpose(*ds.image.dims), ds)


def test_a_copy_of_the_folder_is_read_where_it_is_named(acquisition: Path, tmp_path: Path) -> None:
    ds = opened(acquisition).load()
    opened(acquisition).tiffstack.to_virtual(index := acquisition.parent / "raw.icechunk")
    shutil.copytree(acquisition, tmp_path / "copy")  # with the times
    shutil.rmtree(acquisition)
    with pytest.raises(FileNotFoundError, match="name the place"):
        open_index(index)
    got = tree_of(index, tmp_path / "copy")["0"].to_dataset().load()
    xr.testing.assert_equal(got.transpose(*ds.image.dims), ds)


def test_names_need_no_care(tmp_path: Path) -> None:
    for t in range(3):
        write(tmp_path / "raw é +&" / "día 2" / f"cell é%20#?&+ t{t}.tif", t, (6, 8))
    ds = opened(tmp_path / "raw é +&", pattern="día 2/cell é%20#?&+ t{t:d}.tif")
    ds.tiffstack.to_virtual(index := tmp_path / "raw.icechunk")
    np.testing.assert_array_equal(level(index).image, ds.image)
    (tmp_path / "raw é +&").rename(tmp_path / "raw #1")
    with pytest.raises(ValueError, match=r"for # in its name: rename the folder"):
        open_index(index, tmp_path / "raw #1")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_names_that_no_address_can_hold_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "cell_t0.tif", 0)
    os.rename(tmp_path / "raw" / "cell_t0.tif", os.fsencode(tmp_path) + b"/raw/cell_\xff_t0.tif")
    ds = opened(tmp_path / "raw", pattern="cell_{odd}_t{t:d}.tif")
    with pytest.raises(ValueError, match=r"1 name cannot(.*\n)*.*Rename"):
        ds.tiffstack.to_virtual(tmp_path / "raw.icechunk")


# --- the command ------------------------------------------------------------------------------


def test_the_command_writes_and_checks_an_index(
    acquisition: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = acquisition.parent / "raw.icechunk"
    assert main(["index", str(acquisition), str(index), "--levels", "2", "--quiet"]) == 0
    assert "60 references to 15 files" in capsys.readouterr().out
    assert level(index, 1).sizes["x"] == 4
    assert main(["index", str(acquisition), str(index)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["index", str(acquisition), str(index), "--check"]) == 0
    assert capsys.readouterr().out.endswith("no file changed\n")
    write(changed_file(acquisition), 99)
    assert main(["index", str(acquisition), str(index), "--check"]) == 4
    assert changed_file(acquisition).name in capsys.readouterr().out
    assert main(["index", str(acquisition), str(index), "--overwrite"]) == 0


# --- what shows it ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["raw.icechunk", "raw.json"])
def test_an_index_is_looked_at_as_a_folder_is(
    acquisition: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(acquisition.parent)
    next(iter(acquisition.glob("*ch1*stack0002*"))).unlink()
    index = acquisition.parent / name
    assert main(["index", str(acquisition), str(index), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["info", str(index)]) == 0
    said = capsys.readouterr().out
    assert "488, 560, 642 nm" in said
    call = said.splitlines()[-1].strip()  # to be pasted
    found = eval(call, {"xarray": xr, "xarray_tiffstack": xarray_tiffstack})
    ds = opened(acquisition)
    xr.testing.assert_equal(
        found.to_dataset(inherit=False).load().transpose(*ds.image.dims), ds.load()
    )
    assert main(["preview", str(index)]) == 0
    assert "14 of 15 files are there; 1 is missing" in capsys.readouterr().out
    write(changed_file(acquisition), 99)
    assert main(["info", str(index)]) == 1
    assert "1 of 14 files changed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["raw.icechunk", "raw.json"])
def test_viewers_read_an_index_through_a_server(acquisition: Path, name: str) -> None:
    ds, index = opened(acquisition), acquisition.parent / name
    ds.tiffstack.to_virtual(index)
    with Server(open_store(index), name) as server:
        store = zarr.storage.FsspecStore.from_url(server.url, read_only=True)
        got: Any = zarr.open_group(store, mode="r")
        assert "multiscales" in got.attrs["ome"]
        shown = got["0/image"][...]
    np.testing.assert_array_equal(shown, ds.image.transpose("stack", "channel", "z", "y", "x"))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.filterwarnings("ignore")  # another package's
def test_neuroglancer_shows_the_pixels_of_an_index(acquisition: Path, tmp_path: Path) -> None:
    neuroglancer = pytest.importorskip("neuroglancer")
    ds = opened(acquisition, voxel_size={"z": 1.0, "y": 1.0, "x": 1.0})
    ds.tiffstack.to_virtual(index := acquisition.parent / "raw.icechunk")
    with Server(open_store(index)) as server:
        viewer = neuroglancer.Viewer()
        command = [CHROMIUM, *HEADLESS, f"--user-data-dir={tmp_path / 'profile'}", str(viewer)]
        browser = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            assert list(show(viewer, f"{server.url}/|zarr3:", 1).names) == ["stack", "z", "y", "x"]
            size = (SHAPE[2] * ZOOM, SHAPE[1] * ZOOM)
            for channel, stack, z in ((0, 0, 0), (1, 2, 1), (2, 4, 3)):
                middle = [stack, z, (SHAPE[1] - 1) / 2, (SHAPE[2] - 1) / 2]
                shown = picture(viewer, middle, channel, size)[::ZOOM, ::ZOOM]
                np.testing.assert_array_equal(
                    shown, ds.image.isel(channel=channel, stack=stack, z=z)
                )
        finally:
            browser.terminate()
            browser.wait()


# --- a folder that grows --------------------------------------------------------------------


def test_each_time_point_of_a_growing_folder_can_be_read_again(tmp_path: Path) -> None:
    made = write_acquisition(tmp_path / "made")
    index, raw = tmp_path / "raw.icechunk", tmp_path / "raw"
    raw.mkdir()
    shown: list[int] = []

    class Microscope(threading.Thread):
        def run(self) -> None:
            for path in sorted(made.iterdir(), key=lambda path: path.name[21:30]):
                shutil.copy2(path, raw / path.name)
                time.sleep(0.05)

    microscope = Microscope()
    microscope.start()
    found = follow_index(raw, index, poll=0.02, expected=15)
    microscope.join()
    assert found.files == 15
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(index)))
    *commits, _ = [each.id for each in repo.ancestry(branch="main")]
    for commit in reversed(commits):
        tree = xr.open_datatree(open_index(index, snapshot=commit), engine="zarr")
        got = tree["0"].to_dataset().load()
        shown.append(got.sizes["stack"])
        wanted = opened(made).sel(stack=got["stack"]).image.where(got.present, 0)
        np.testing.assert_array_equal(got.image, wanted.transpose(*got.image.dims))
    assert sorted({*shown}) == [2, 3, 4, 5]
    assert shown == sorted(shown)
    xr.testing.assert_equal(level(index), opened(raw).transpose(*level(index).image.dims).load())


def test_references_of_kerchunk_do_not_follow(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one state only.*icechunk"):
        follow_index(tmp_path / "raw", tmp_path / "raw.json", expected=1)
    assert main(["index", "raw", "raw.icechunk", "--follow", "--pages", "z"]) == 1


# --- one file -------------------------------------------------------------------------------


def test_ranges_are_what_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "stack.tif", 3)
    (found,) = tiff.ranges(path, tiff.probe(path))
    data = path.read_bytes()
    for k, (offset, count) in enumerate(zip(found.offsets[:, 0], found.counts[:, 0], strict=True)):
        np.testing.assert_array_equal(
            np.frombuffer(data[offset : offset + count], "<u2").reshape(SHAPE[1:]), pixels(3)[k]
        )
