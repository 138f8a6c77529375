"""Files written back from a store have the SHA-256 that they had; hashlib on the files judges."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from itertools import product
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from conftest import (
    DATA,
    ONE_FILE_A_BLOCK,
    WAVELENGTHS,
    dataset,
    pixels,
    reference_name,
    validate,
    write,
    write_acquisition,
)
from test_tiff import WRITTEN, stack
from test_truth import SETS

from xarray_tiffstack import restore
from xarray_tiffstack.array.complete import complete_files
from xarray_tiffstack.back.keeping import WHOLE, keeping
from xarray_tiffstack.cli import main
from xarray_tiffstack.ome_zarr.convert import convert
from xarray_tiffstack.ome_zarr.settings import Options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import xarray as xr


def cells(folder: Path, **options: Any) -> xr.Dataset:
    return dataset(folder, pattern="cell_t{t:d}.tif", **options)


def save(ds: xr.Dataset, store: Path, **options: Any) -> Any:
    """Convert so that files can be written back; other people's validators pass the store."""
    options.setdefault("restorable", True)
    summary = ds.tiffstack.to_ome_zarr(store, **options)
    validate(store)
    return summary


def hashes(folder: Path) -> dict[str, tuple[str, int]]:
    """SHA-256 and time of every file of a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def comes_back(ds: xr.Dataset, raw: Path, tmp_path: Path, **options: Any) -> Any:
    """Convert, write back, and compare all files of a folder; returns the summary."""
    store, back = tmp_path / "saved.ome.zarr", tmp_path / "back"
    summary = save(ds, store, **options)
    done = restore(store, back)
    assert done.ok, done
    assert hashes(back) == hashes(raw)
    assert restore(store, check=True).ok
    proof = ds.tiffstack.verify(store, restorable=True).restorable
    assert proof.ok, proof
    assert "The raw folder can be deleted." in str(proof)
    return summary


# --- every kind of file ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", WRITTEN)
def test_every_kind_of_file_comes_back(tmp_path: Path, kind: str, dtype: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for t in range(2):
        options = {"photometric": "minisblack", **WRITTEN[kind]}
        tifffile.imwrite(raw / f"cell_t{t}.tif", stack(5, 33, 40, dtype=dtype) + t, **options)
    summary = comes_back(cells(raw, pages="z"), raw, tmp_path)
    kept = sum(p.stat().st_size for p in (tmp_path / "saved.ome.zarr/tiffstack/files").rglob("*"))
    assert summary.kept.files == 2
    assert kept < 9000  # of directories and their like, compressed, and metadata of the arrays


RGB = {"photometric": "rgb", "metadata": None}


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((20, 30, 3), RGB),
        ((3, 20, 30), {**RGB, "planarconfig": "separate"}),
        ((4, 20, 30, 3), {**RGB, "rowsperstrip": 6, "byteorder": ">"}),
        ((4, 3, 35, 40), {**RGB, "planarconfig": 2, "tile": (16, 16), "compression": "zlib"}),
        ((4, 35, 40, 3), {**RGB, "tile": (16, 16), "compression": "lzw", "predictor": True}),
        ((6, 16, 18), {"volumetric": True, "tile": (2, 16, 16), "photometric": 1}),
        ((2, 3, 4, 16, 18), {"imagej": True, "metadata": {"axes": "TZCYX"}}),
        ((2, 3, 4, 16, 18), {"ome": True, "metadata": {"axes": "TCZYX"}, "photometric": 1}),
        ((5, 16, 18), {"photometric": 1, "contiguous": False, "align": 64}),
    ],
)
def test_colours_tiles_and_hyperstacks_come_back(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for t in range(2):
        dtype = "uint8" if options.get("photometric") == "rgb" else "uint16"
        tifffile.imwrite(raw / f"cell_t{t}.tif", stack(*shape, dtype=dtype) + t, **options)
    comes_back(cells(raw), raw, tmp_path)


def test_levels_of_predictors_and_programs(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    values = stack(2, 40, 50)
    for number, (codec, level, predictor) in enumerate(
        product(("zlib", "zstd", "lzma"), (1, 6, 9), (False, True))
    ):
        tifffile.imwrite(
            raw / f"cell_t{number}.tif", values + number, photometric="minisblack",
            compression=codec, compressionargs={"level": level}, predictor=predictor,
            rowsperstrip=16,
        )  # fmt: skip
    summary = comes_back(cells(raw, pages="z"), raw, tmp_path)
    assert summary.kept.files == 18


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits"])
def test_what_libtiff_compressed_is_compressed_by_libtiff(tmp_path: Path, compression: str) -> None:
    """Microscopes and many programs write by libtiff; Pillow has it too."""
    image = pytest.importorskip("PIL.Image")
    raw = tmp_path / "raw"
    raw.mkdir()
    noise = np.random.default_rng(0).normal(100, 8, (3, 300, 400)).clip(0).astype("uint8")
    try:
        imagecodecs.tiff_encode(noise[0], compression="lzw")
    except NotImplementedError:
        pytest.skip("this imagecodecs has no encoder of libtiff")
    for t in range(2):
        planes = [image.fromarray(plane + np.uint8(t)) for plane in noise]
        more = {"save_all": True, "append_images": planes[1:]}
        planes[0].save(raw / f"cell_t{t}.tif", compression=compression, **more)
    comes_back(cells(raw, pages="z"), raw, tmp_path)
    kept = sum(p.stat().st_size for p in (tmp_path / "saved.ome.zarr/tiffstack/files").rglob("*"))
    assert kept < 9000


def test_bytes_that_no_reader_looks_at_come_back(tmp_path: Path) -> None:
    """What lies before, between and behind, pages in another order, and two of the same pixels."""
    raw = tmp_path / "raw"
    write(raw / "cell_t0.tif", 0)
    path = raw / "cell_t0.tif"
    path.write_bytes(path.read_bytes() + b"trailing bytes" * 99)
    with tifffile.TiffFile(write(raw / "cell_t1.tif", 1)) as tif:
        ifds = [page.offset for page in tif.pages]
        place = next(tag.valueoffset for tag in tif.pages[3].tags if tag.code == 273)
        first = tif.pages[0].dataoffsets[0]
        links = [offset + 2 + 12 * len(p.tags) for offset, p in zip(ifds, tif.pages, strict=True)]
    data = bytearray((raw / "cell_t1.tif").read_bytes())
    data[4:8] = struct.pack("<I", ifds[2])  # pages 2, 0, 1, 3
    for link, to in zip(links, (ifds[1], ifds[3], ifds[0], 0), strict=True):
        data[link : link + 4] = struct.pack("<I", to)
    data[place : place + 4] = struct.pack("<I", first)  # of page 3: those of page 0
    (raw / "cell_t1.tif").write_bytes(data)
    ds = cells(raw)
    assert (ds.image.sel(t=1).isel(z=0).values == pixels(1)[2]).all()
    assert (ds.image.sel(t=1).isel(z=3).values == pixels(1)[0]).all()
    comes_back(ds, raw, tmp_path)


def write_long_texts(raw: Path, files: int, pages: int) -> None:
    """Write files between whose pages there is much text."""
    raw.mkdir()
    for t in range(files):
        with tifffile.TiffWriter(raw / f"cell_t{t}.tif") as tif:
            for z, plane in enumerate(stack(pages, 30, 40)):
                text = f"{z} " * 1_500_000
                tif.write(plane, description=text, contiguous=False, metadata=None, photometric=1)


def test_long_texts_between_pages_come_back(tmp_path: Path) -> None:
    """What is kept is read from several objects of the store, while pixels are in memory."""
    raw = tmp_path / "raw"
    write_long_texts(raw, 2, 4)
    comes_back(cells(raw, pages="z"), raw, tmp_path)
    kept = tmp_path / "saved.ome.zarr/tiffstack/files/slots"
    assert len(list(kept.glob("c.0.*"))) > 1


def test_signs_of_zero_and_kinds_of_nan_come_back(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    zeros = np.zeros((4, 8, 8), "float32")
    odd = zeros.copy()
    odd.view("uint32")[0] = 0x7FC01234  # a NaN with a message
    for t, values in enumerate((-zeros, zeros, odd)):
        tifffile.imwrite(raw / f"cell_t{t}.tif", values, photometric="minisblack", metadata=None)
    comes_back(cells(raw), raw, tmp_path)


def test_holes_broken_short_and_empty_files(tmp_path: Path) -> None:
    raw = write_acquisition(tmp_path / "raw")
    (raw / reference_name(1, 2)).unlink()
    (raw / reference_name(0, 1)).write_bytes(b"")
    (raw / reference_name(0, 2)).write_bytes(b"II*\0 this is no TIFF")
    write(raw / reference_name(2, 0), 99, shape=(3, 6, 8))  # a plane less
    with pytest.warns(UserWarning, match="empty"):
        ds = dataset(raw, validate="headers")
    summary = comes_back(ds, raw, tmp_path)
    assert summary.kept.files == 14


def test_a_file_that_is_broken_behind_its_header_comes_back(tmp_path: Path) -> None:
    raw = write_acquisition(tmp_path / "raw")
    path = raw / reference_name(1, 3)
    os.truncate(path, path.stat().st_size - 700)
    store, back = tmp_path / "a.ome.zarr", tmp_path / "back"
    summary = save(dataset(raw), store)
    assert len(summary.failed) == 1
    assert restore(store, back).ok
    assert hashes(back) == hashes(raw)


def test_other_files_of_the_folder_are_kept(tmp_path: Path) -> None:
    raw = write_acquisition(tmp_path / "raw")
    (raw / "Settings.txt").write_text("z steps: 4\n")
    (raw / ".hidden").write_bytes(os.urandom(99))
    (raw / "deep" / "er").mkdir(parents=True)
    (raw / "deep" / "er" / "notes ünï.md").write_text("a mouse")
    write(raw / "other.tif", 7, shape=(2, 3))
    ds = dataset(raw, unmatched="ignore")
    summary = comes_back(ds, raw, tmp_path)
    assert (summary.kept.files, summary.kept.others) == (19, 4)


def test_large_other_files_are_named_and_not_kept_unless_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, store = write_acquisition(tmp_path / "raw"), tmp_path / "a.ome.zarr"
    (raw / "movie.avi").write_bytes(bytes(WHOLE + 1))
    ds = dataset(raw)
    summary = save(ds, store)
    assert [line.split(":")[0] for line in summary.kept.left] == ["movie.avi"]
    assert "keep_whole=True" in str(summary)
    result = ds.tiffstack.verify(store, restorable=True)
    assert result.ok
    assert not result.restorable.ok
    assert "movie.avi: the store does not keep it" in str(result)
    assert "Do not delete the raw folder" in str(result)
    assert main(["verify", str(raw), str(store), "--restorable", "--quiet"]) == 4
    assert "movie.avi" in capsys.readouterr().out
    comes_back(ds, raw, tmp_path, keep_whole=True)


# --- pixels that do not give their bytes back -----------------------------------------------------


def odd_deflate(values: np.ndarray) -> bytes:
    """Deflate as no program here does it."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(values.tobytes()) + packer.flush()


def write_odd(path: Path, values: np.ndarray) -> None:
    planes = (odd_deflate(plane) for plane in values)
    tifffile.imwrite(
        path, planes, shape=values.shape, dtype=values.dtype, compression=8,
        rowsperstrip=values.shape[1], photometric="minisblack", metadata=None,
    )  # fmt: skip


def test_small_files_that_cannot_be_encoded_again_are_kept(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for t in range(3):
        write_odd(raw / f"cell_t{t}.tif", stack(2, 30, 40) + t)
    comes_back(cells(raw), raw, tmp_path)


def test_large_ones_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    raw, store = tmp_path / "raw", tmp_path / "a.ome.zarr"
    raw.mkdir()
    noise = np.random.default_rng(0).integers(0, 2**16, (3, 1000, 1000), "uint16")
    for t in range(7):
        write_odd(raw / f"cell_t{t}.tif", noise[t % 2 :])
    ds = cells(raw, validate="headers")
    with pytest.raises(ValueError, match=r"7 of 7 files.*\n.*cell_t0.*(\n.*){5}and 2 more") as info:
        save(ds, store)
    assert "keep_whole=True" in str(info.value)
    assert "Nothing was written" in str(info.value)
    assert not list(tmp_path.glob("*.zarr"))
    comes_back(ds, raw, tmp_path, keep_whole=True)


def test_one_strip_that_no_encoder_makes_is_kept_as_it_is(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    values = stack(3, 30, 40)
    planes = [zlib.compress(plane.tobytes(), 6) for plane in values]
    planes[1] = odd_deflate(values[1])
    for t in range(2):
        tifffile.imwrite(
            raw / f"cell_t{t}.tif", iter(planes), shape=values.shape, dtype=values.dtype,
            compression=8, rowsperstrip=30, photometric="minisblack", metadata=None,
        )  # fmt: skip
    comes_back(cells(raw), raw, tmp_path)


# --- stores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"ngff_version": "0.4"},
        {"ngff_version": "0.6"},
        {"shards": "auto"},
        {"chunks": {"z": 3, "y": 4, "x": 5}, "compressors": None},
        {"levels": 1, "workers": 1},
    ],
)
def test_every_kind_of_store_gives_files_back(tmp_path: Path, options: dict[str, Any]) -> None:
    raw = write_acquisition(tmp_path / "raw", rowsperstrip=4)
    comes_back(dataset(raw), raw, tmp_path, **options)


def test_a_store_in_memory_gives_files_back(tmp_path: Path) -> None:
    raw, store = write_acquisition(tmp_path / "raw"), zarr.storage.MemoryStore()
    (raw / "Settings.txt").write_text("z steps: 4")
    ds = dataset(raw)
    ds.tiffstack.to_ome_zarr(store, restorable=True)
    assert restore(store, tmp_path / "back").ok
    assert hashes(tmp_path / "back") == hashes(raw)
    assert ds.tiffstack.verify(store, restorable=True).restorable.ok


def test_images_in_groups_and_transposed(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for number, (pos, t, ch) in enumerate(product("ab", range(3), range(2))):
        write(raw / f"pos-{pos}" / f"img_t{t}_ch{ch}.tif", number)
    ds = dataset(raw, pattern="pos-{position:l}/img_t{t:d}_ch{ch:d}.tif")
    comes_back(ds.transpose("z", "t", "y", "x", ...), raw, tmp_path)


@pytest.mark.parametrize("dtype", [">u2", "<u2"])
def test_dimensions_of_a_file_that_are_no_axes_of_an_image(tmp_path: Path, dtype: str) -> None:
    """Positions and pages within files are images of their own."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for t in range(2):
        tifffile.imwrite(
            raw / f"cell_t{t}.tif", (stack(2, 3, 5, 12, 14) + t).astype(dtype),
            photometric="minisblack", byteorder=dtype[0],
        )  # fmt: skip
    ds = cells(raw)
    assert len(set(ds.image.dims) - {"t", "z", "y", "x"}) >= 1
    comes_back(ds, raw, tmp_path, chunks={"y": 5, "x": 14})


def test_files_that_are_cut_into_many_blocks(tmp_path: Path) -> None:
    from xarray_tiffstack.ome_zarr.settings import Limits

    raw, store = write_acquisition(tmp_path / "raw"), tmp_path / "a.ome.zarr"
    ds = dataset(raw)
    keeper = keeping(complete_files(ds), False)
    summary = convert(
        ds, store, Options(levels=2, chunks={"z": 1}), limits=Limits(1, 1, 1), keeper=keeper
    )
    assert summary.blocks > 30
    assert restore(store, tmp_path / "back").ok
    assert hashes(tmp_path / "back") == hashes(raw)


def test_a_selection_of_files_is_kept_and_the_others_are_named(tmp_path: Path) -> None:
    raw, store = write_acquisition(tmp_path / "raw"), tmp_path / "a.ome.zarr"
    for path in raw.iterdir():  # else they are small, and kept as they are
        path.write_bytes(path.read_bytes() + bytes(2**21))
    ds = dataset(raw).sel(channel=560).isel(stack=slice(None, None, 2))
    summary = save(ds, store)
    assert len(summary.kept.left) == 5
    done = restore(store, tmp_path / "back", sel={"channel": 560})
    assert (done.written, done.ok) == (3, True)
    proof = ds.tiffstack.verify(store, restorable=True).restorable
    assert len(proof.failed) == 5
    assert proof.files == 15


# --- refused --------------------------------------------------------------------------------------


def test_pixels_that_are_not_those_of_complete_files_are_refused(tmp_path: Path) -> None:
    raw, store = write_acquisition(tmp_path / "raw"), tmp_path / "a.ome.zarr"
    ds = dataset(raw)
    for part in (ds.isel(z=slice(1, 3)), ds + 1, ds.compute(), ds.drop_vars("path")):
        with pytest.raises(ValueError, match="restorable=True needs"):
            save(part.assign_attrs(ds.attrs), store)
    ds.tiffstack.to_ome_zarr(store)
    with pytest.raises(ValueError, match="keeps nothing of its files but their pixels"):
        restore(store, tmp_path / "back")
    with pytest.raises(FileExistsError, match="other restorable"):
        save(ds, store)
    with pytest.raises(FileNotFoundError, match="no store"):
        restore(tmp_path / "nothing", tmp_path / "back")


def test_nothing_is_written_over_another_file(tmp_path: Path) -> None:
    raw, store, back = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr", tmp_path / "back"
    save(dataset(raw), store)
    back.mkdir()
    names = [reference_name(ch, t) for ch, t in product(range(3), range(5))]
    for name in names[:7]:
        (back / name).write_text("mine")
    shutil.copy2(raw / names[7], back / names[7])
    (back / "mine.txt").write_text("mine too")
    before = hashes(back)
    with pytest.raises(FileExistsError, match=r"7 files(.*\n){6}.*and 2 more"):
        restore(store, back)
    assert hashes(back) == before
    for name in names[:7]:
        (back / name).unlink()
    done = restore(store, back)
    assert (done.written, done.there) == (14, 1)
    assert hashes(back).keys() - {"mine.txt"} == hashes(raw).keys()


def test_a_store_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    raw, store = write_acquisition(tmp_path / "raw", stacks=1), tmp_path / "a.zarr"
    save(dataset(raw), store)
    array: Any = zarr.open_group(store, mode="r+", use_consolidated=False)["tiffstack/files/slots"]
    for path in ("../evil.tif", "/tmp/evil.tif", "a/../../evil.tif"):
        entry = array[0, 0].tobytes()
        (length,) = struct.unpack("<I", entry[4:8])
        said = json.loads(entry[8 : 8 + length])
        text = json.dumps(said | {"path": path}).encode()
        changed = entry[:4] + struct.pack("<I", len(text)) + text + entry[8 + length :]
        array[0, 0] = np.frombuffer(changed[: len(entry)].ljust(len(entry), b"\0"), "uint8")
        with pytest.raises(ValueError, match="lead out of the folder"):
            restore(store, tmp_path / "back")
    assert not list(tmp_path.rglob("evil*"))


def test_a_damaged_store_gives_back_the_other_files_alone(tmp_path: Path) -> None:
    raw, store, back = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr", tmp_path / "back"
    ds = dataset(raw)
    save(ds, store, levels=1, compressors=None)
    chunk = next(p for p in sorted(store.rglob("image/c/1/2/**/*")) if p.is_file())
    data = bytearray(chunk.read_bytes())
    data[10] ^= 1
    chunk.write_bytes(data)
    done = restore(store, back)
    assert len(done.failed) == 1
    assert "it is damaged" in done.failed[0]
    assert "convert again" in str(done)
    assert len(hashes(back)) == 14
    assert not [p for p in back.iterdir() if p.name.startswith(".")]
    proof = ds.tiffstack.verify(store, restorable=True).restorable
    assert len(proof.failed) == 1
    assert main(["restore", str(store), "--check", "--quiet"]) == 4


def test_a_lost_entry_is_told(tmp_path: Path) -> None:
    raw, store, back = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr", tmp_path / "back"
    save(dataset(raw), store)
    sorted((store / "tiffstack/files/slots").rglob("c.*"))[0].unlink()
    for check in (False, True):
        done = restore(store, None if check else back, check=check)
        assert done.failed == (f"{reference_name(0, 0)}: the store does not keep it",)
        assert not done.ok
    assert len(hashes(back)) == 14
    assert not restore(store, tmp_path / "some", sel={"channel": 488}).ok
    assert restore(store, tmp_path / "some", sel={"channel": 560}).ok


RESTORE_WITHIN = """
import resource, signal, sys
from xarray_tiffstack import restore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    restore(sys.argv[1], sys.argv[2], progress=False)
except OSError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_told_and_resumed(tmp_path: Path) -> None:
    """Longer files than are allowed end as a full disk does: with an error in the middle."""
    raw, store, back = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr", tmp_path / "back"
    (raw / "a small one.txt").write_text("small")
    save(dataset(raw), store)
    run = subprocess.run(
        [sys.executable, "-c", RESTORE_WITHIN, store, back],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "cannot be written: File too large" in run.stdout, run.stderr
    assert "the same call, repeated" in run.stdout
    assert set(hashes(back)) <= {"a small one.txt"}
    assert restore(store, back).ok
    assert hashes(back) == hashes(raw)


def test_what_does_not_fit_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, store, back = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr", tmp_path / "back"
    save(dataset(raw), store)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1))
    with pytest.raises(OSError, match=r"15 files need .* MB. Nothing was written"):
        restore(store, back)
    assert not back.exists() or not hashes(back)
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(FileExistsError, match="is a file: name a folder"):
            restore(store, target)


def test_a_file_that_changed_since_is_not_called_restorable(tmp_path: Path) -> None:
    raw, store = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr"
    ds = dataset(raw)
    save(ds, store)
    path = raw / reference_name(0, 0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    (raw / "came later.txt").write_text("new")
    proof = ds.tiffstack.verify(store, restorable=True).restorable
    reasons = dict(line.split(": ") for line in proof.failed)
    assert reasons == {
        path.name: "it has changed since it was converted",
        "came later.txt": "the store does not keep it",
    }


# --- by labels, and by the command ----------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, store, back = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr", tmp_path / "back"
    assert main(["convert", str(raw), str(store), "--restorable", "--quiet"]) == 0
    assert "can be written back: 15 files" in capsys.readouterr().out
    assert main(["restore", str(store), str(back), "--sel", "channel=560", "--quiet"]) == 0
    assert set(hashes(back)) == {reference_name(1, t) for t in range(5)}
    select = ["--sel", "channel=488", "--sel", "stack=3", "--sel", "stack=4"]
    assert main(["restore", str(store), str(back), *select, "--quiet"]) == 0
    assert len(hashes(back)) == 7
    assert main(["restore", str(store), str(back), "--quiet"]) == 0
    assert "7 files there already" in capsys.readouterr().out
    assert hashes(back) == hashes(raw)
    assert main(["verify", str(raw), str(store), "--restorable", "--quiet"]) == 0
    assert "The raw folder can be deleted." in capsys.readouterr().out
    shutil.rmtree(raw)
    assert main(["restore", str(store), "--check", "--quiet"]) == 0
    assert main(["restore", str(store), str(raw), "--quiet"]) == 0
    assert hashes(raw) == hashes(back)
    capsys.readouterr()
    for wrong in (["--sel", "channel=561"], ["--sel", "mouse=1"], ["--sel", "channel"]):
        assert main(["restore", str(store), str(back), *wrong]) == 1
    said = capsys.readouterr().err
    assert all(str(each) in said for each in (*WAVELENGTHS, "stack", "channel=560"))
    assert main(["restore", str(store)]) == 1


# --- killed ---------------------------------------------------------------------------------------

# Does the same again and again, each time in a process that is killed at a random moment, until
# one comes to the end; where that is too soon, all begins anew with less time. Processes are forked
# from one that has imported everything.
KILLER = """
import os, random, shutil, signal, sys, time
import xarray as xr
from xarray_tiffstack import restore
from xarray_tiffstack.array.complete import complete_files
from xarray_tiffstack.back.keeping import keeping
from xarray_tiffstack.ome_zarr.convert import convert
from xarray_tiffstack.ome_zarr.settings import Limits, Options

what, raw, store, back, seed, longest = sys.argv[1:]
draw, longest = random.Random(int(seed)), float(longest)

def work():
    if what == "restore":
        assert restore(store, back, progress=False).ok
        return
    ds = xr.open_dataset(raw, engine="tiffstack")
    keeper = keeping(complete_files(ds), False)
    convert(ds, store, Options(levels=2), limits=Limits(small=1), keeper=keeper, progress=False)

kills = 0
while True:
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    time.sleep(draw.uniform(0, longest))
    if kills < 12:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if status:
        assert os.WIFSIGNALED(status), status
        kills += 1
    elif kills >= 3:
        break
    else:
        shutil.rmtree(back if what == "restore" else store)
        kills, longest = 0, 0.7 * longest
print(kills)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize("what", ["convert", "restore"])
def test_killed_at_any_moment_and_resumed(tmp_path: Path, what: str) -> None:
    raw, store, back = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr", tmp_path / "back"
    (raw / "Settings.txt").write_text("z steps: 4\n")
    if what == "restore":
        save(dataset(raw), store)
    run = subprocess.run(
        [sys.executable, "-c", KILLER, what, raw, store, back, "3", "0.4"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= 3
    assert restore(store, back).ok
    assert hashes(back) == hashes(raw)


def test_what_a_killed_process_leaves_is_replaced(tmp_path: Path) -> None:
    raw, store, back = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr", tmp_path / "back"
    save(dataset(raw), store)
    back.mkdir()
    (back / f".{reference_name(0, 0)}.tiffstack-partial").write_bytes(b"half")
    assert restore(store, back).written == 15
    assert hashes(back) == hashes(raw)
    # Killed between the two names of a file: under the last one it is right.
    for name in list(hashes(raw)):
        os.link(back / name, back / f".{name}.tiffstack-partial")
    assert restore(store, back).written == 0
    assert hashes(back) == hashes(raw)


def test_entries_are_there_before_a_block_is_finished(tmp_path: Path) -> None:
    """A block that is noted as finished has its entries: seen after each file that is read."""
    raw, store = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr"
    ds = dataset(raw)
    keeper = keeping(complete_files(ds), False)
    os.truncate(raw / reference_name(2, 4), 900)
    options: Any = {"limits": ONE_FILE_A_BLOCK, "keeper": keeper, "strict": True, "workers": 1}
    with pytest.raises(OSError, match="strict"):
        convert(ds, store, Options(levels=1), **options)
    root = zarr.open_group(store, mode="r", use_consolidated=False)
    noted: Any = root["tiffstack/pass0/entries"]
    kept: Any = root["tiffstack/files/slots"]
    done = ~np.isnan(noted[...].reshape(15, -1)[:, 0])
    assert done.sum() >= 13
    assert (kept[..., 0] != 0).ravel()[done].all()


# --- real files -----------------------------------------------------------------------------------


def unpacked(source: Path, scratch: Path) -> Path:
    """Copy a folder, and unpack what is packed in it."""
    shutil.copytree(source, scratch)
    for path in list(scratch.rglob("*.gz")):
        with gzip.open(path) as packed, path.with_suffix("").open("wb") as out:
            shutil.copyfileobj(packed, out)
        path.unlink()
    return scratch


@pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not beside this")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SETS)
def test_real_folders_come_back(tmp_path: Path, name: str) -> None:
    raw = unpacked(DATA / name / SETS[name].part, tmp_path / "raw")
    if name == "cellvoyager_cv8000":  # rows are compressed one by one, and 102 files take long
        for path in sorted(raw.rglob("*.tif"))[30:]:
            path.unlink()
    comes_back(dataset(raw, **SETS[name].options), raw, tmp_path)


def singles() -> Iterator[Path]:
    for folder in [*sorted(DATA.glob("flavours_*")), DATA / "ome_tiled_minerva"]:
        yield from sorted(p for p in folder.glob("*") if p.suffix.lower() in {".tif", ".tiff"})


@pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not beside this")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_real_files_of_every_flavour_come_back(tmp_path: Path) -> None:
    count = 0
    for number, path in enumerate(singles()):
        raw = tmp_path / str(number) / "raw"
        raw.mkdir(parents=True)
        shutil.copy2(path, raw)
        try:
            ds = dataset(raw)
            ds.tiffstack.to_ome_zarr(tmp_path / str(number) / "plain.zarr", levels=1)
        except (ValueError, OSError):  # no image that OME-Zarr knows
            continue
        comes_back(ds, raw, raw.parent, levels=1)
        count += 1
    assert count > 50
