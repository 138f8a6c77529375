"""Nothing is lost or damaged: what is beside, around and in a store, power failures, repair."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import ONE_FILE_A_BLOCK, dataset, pixels, reference_name, to_ome_zarr, tree, write
from test_convert import begun, by_file, disk, state

from xarray_tiffstack.ome_zarr import to_ome_zarr as convert_only
from xarray_tiffstack.ome_zarr import verify
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.lock import locked

if TYPE_CHECKING:
    from pathlib import Path

disk = disk  # a fixture


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three files, and the store of them, which tests copy."""
    folder = tmp_path_factory.mktemp("finished")
    for stack in range(3):
        write(folder / "raw" / reference_name(0, stack), stack)
    by_file(dataset(folder / "raw"), folder / "a.zarr", levels=2)
    return folder / "raw", folder / "a.zarr"


# --- where a store may be -----------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_store_around_its_source_is_refused(acquisition, tmp_path, overwrite):
    zarr.create_group(tmp_path)  # its zarr.json makes it look like a store
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="holds the source"):
        to_ome_zarr(dataset(acquisition), tmp_path, overwrite=overwrite)
    assert tree(tmp_path) == before


def test_the_source_is_known_through_links(acquisition, tmp_path):
    (tmp_path / "link").symlink_to(acquisition)
    before = tree(tmp_path)
    for store in (tmp_path / "link", tmp_path / "link" / "a.zarr"):
        with pytest.raises(ValueError, match="inside the source"):
            to_ome_zarr(dataset(acquisition), store, overwrite=True)
        with pytest.raises(ValueError, match="inside the source"):
            to_ome_zarr(dataset(tmp_path / "link"), acquisition / "a.zarr", overwrite=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "labels/zarr.json", "0/mask/c/0", "0/image/c/notes"])
def test_nothing_that_others_wrote_is_deleted(finished, tmp_path, name):
    raw, made = finished
    store = tmp_path / "a.zarr"
    shutil.copytree(made, store)
    (store / name).parent.mkdir(parents=True, exist_ok=True)
    (store / name).write_text("{}")
    before = tree(store)
    with pytest.raises(FileExistsError, match=r"did not write(?s:.*)  (labels/|0/mask|.*notes)"):
        to_ome_zarr(dataset(raw), store, levels=1, overwrite=True)
    assert tree(store) == before
    (store / name).unlink()
    for folder in sorted(store.rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    to_ome_zarr(dataset(raw), store, levels=1, overwrite=True)


def test_a_store_of_an_earlier_version_is_resumed_and_replaced(finished, tmp_path):
    raw, made = finished
    store = tmp_path / "a.zarr"
    shutil.copytree(made, store)
    for name in ("images", "names", "settings"):
        del zarr.open_group(store / "tiffstack").attrs[name]
    root: Any = zarr.open_group(store, use_consolidated=False)
    notes = root.attrs["tiffstack"]
    del notes["settings"]["method"]
    notes["settings"]["labels"] = "of the attributes that it wrote"
    root.attrs["tiffstack"] = notes
    zarr.open_array(store / "tiffstack/pass0/entries")[0, 1] = np.nan
    assert by_file(dataset(raw), store, levels=2).written == 1
    assert verify(dataset(raw), store).ok
    assert by_file(dataset(raw), store, levels=2).written == 0
    (store / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="notes"):
        to_ome_zarr(dataset(raw), store, overwrite=True)
    (store / "notes.txt").unlink()
    to_ome_zarr(dataset(raw), store, overwrite=True)


def test_folders_beside_a_store_are_left_alone(shared_acquisition, tmp_path):
    ds = dataset(shared_acquisition)
    theirs = [tmp_path / name for name in (".a.zarr.new", ".a.zarr.deleted", ".a.zarr.x.new")]
    left = tmp_path / ".a.zarr.somewhere-17.new"  # of a process that was killed
    for folder in (*theirs, left):
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
    to_ome_zarr(ds, tmp_path / "a.zarr")
    to_ome_zarr(ds, tmp_path / "a.zarr", overwrite=True)
    assert sorted(tmp_path.iterdir()) == sorted([*theirs, tmp_path / "a.zarr"])
    assert all((folder / "notes.txt").read_text() == "mine" for folder in theirs)


@pytest.mark.parametrize("there", [False, True])
def test_a_store_may_be_a_link(shared_acquisition, tmp_path, there):
    ds, link, real = dataset(shared_acquisition), tmp_path / "link.zarr", tmp_path / "a" / "b.zarr"
    if there:
        to_ome_zarr(ds, real, levels=1)
    link.symlink_to(real)
    to_ome_zarr(ds, link, levels=2, overwrite=True)
    assert link.is_symlink()
    assert "1" in zarr.open_group(real)


def test_a_store_in_the_home_folder(shared_acquisition, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    convert_only(dataset(shared_acquisition), "~/a.zarr")
    assert state(tmp_path / "a.zarr") == "complete"


def test_the_folder_that_one_is_in_is_refused(shared_acquisition, tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    for here in (".", "..", tmp_path):
        with pytest.raises(FileExistsError, match="you are in"):
            to_ome_zarr(dataset(shared_acquisition), here)


def test_a_dataset_is_not_converted_over_itself(finished, tmp_path):
    _, made = finished
    store = tmp_path / "a.zarr"
    shutil.copytree(made, store)
    before = tree(store)
    level = xr.open_datatree(store, engine="zarr", chunks={})["0"].to_dataset()
    opened = [
        level,
        level.isel(stack=slice(2)) + 1,
        xr.open_zarr(store, group="0", chunks=None),
        xr.open_datatree(store, engine="zarr", chunks=None)["0"].to_dataset(),
        xr.open_zarr(store, group="0").transpose("x", ...).chunk(x=3),
    ]
    for ds in opened:
        ds.attrs.pop("source", None)
        with pytest.raises(ValueError, match="read from"):
            to_ome_zarr(ds, store, overwrite=True)
    assert tree(store) == before
    opened[0].attrs.pop("source", None)
    to_ome_zarr(opened[0], tmp_path / "other.zarr", verify=True)


# --- power failures -----------------------------------------------------------------------------

DAMAGES: dict[str, Any] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_metadata_is_no_end(finished, tmp_path, damage, overwrite):
    """All that is no pixel, file by file."""
    raw, made = finished
    store = tmp_path / "a.zarr"
    whole = tree(made)
    shutil.copytree(made, store)
    for name in whole:
        if "/image/c/" in name or (not DAMAGES[damage](whole[name]) and not whole[name]):
            continue
        (store / name).write_bytes(DAMAGES[damage](whole[name]))
        summary = by_file(dataset(raw), store, levels=2, overwrite=overwrite)
        assert overwrite or summary.written <= 3
        assert tree(store) == whole, name


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_metadata_of_a_collection(tmp_path, damage):
    for i, (p, t) in enumerate(product(range(2), range(2))):
        write(tmp_path / "raw" / f"a_p{p}_t{t}.tif", i)
    ds = dataset(tmp_path / "raw", pattern="a_p{position:d}_t{time:d}.tif")
    store = tmp_path / "a.zarr"
    to_ome_zarr(ds, store)
    whole = tree(store)
    for name in ("1/zarr.json", "1/0/zarr.json", "OME/zarr.json", "OME/METADATA.ome.xml"):
        (store / name).write_bytes(DAMAGES[damage](whole[name]))
        assert to_ome_zarr(ds, store).written == 0
        assert tree(store) == whole


def test_a_lost_root_of_another_store_is_not_replaced(finished, tmp_path):
    raw, made = finished
    store = tmp_path / "a.zarr"
    shutil.copytree(made, store)
    (store / "zarr.json").write_bytes(b"")
    with pytest.raises(FileExistsError, match="levels"):
        by_file(dataset(raw), store, levels=1)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_written_last_is_lost(acquisition, tmp_path, seed):
    """A conversion that is interrupted, and the last files of it that never came to the disk."""
    draw = random.Random(seed)
    ds, whole, store = dataset(acquisition), tmp_path / "whole.zarr", tmp_path / "a.zarr"
    by_file(ds, whole, levels=2)
    begun(ds, store, draw.randrange(15), levels=2)
    lose_what_was_written_last(store, draw)
    by_file(ds, store, levels=2)
    assert tree(store) == tree(whole)


def lose_what_was_written_last(store: Path, draw: random.Random) -> None:
    """Damage the files that were written last, from a moment on, and their entries with them."""
    files = sorted((p for p in store.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    for path in files[draw.randrange(len(files)) :]:
        path.write_bytes(DAMAGES[draw.choice(list(DAMAGES))](path.read_bytes()))


def test_pixels_are_on_the_disk_before_their_entry(acquisition, tmp_path):
    """As the system calls of a conversion tell, in their order."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "log"
    code = (
        "import sys, xarray as xr; from xarray_tiffstack.ome_zarr.convert import convert; "
        "from xarray_tiffstack.ome_zarr.settings import Options, Limits; "
        "ds = xr.open_dataset(sys.argv[1], engine='tiffstack'); "
        "convert(ds, sys.argv[2], Options(levels=1), limits=Limits(small=1), workers=1,"
        " engine=sys.argv[3])"
    )
    for engine in ("auto", "zarr"):
        command = [strace, "-f", "-y", "-qq", "-e", "fsync,fdatasync,rename", "-o", log]
        command += [sys.executable, "-c", code, acquisition, tmp_path / f"{engine}.zarr", engine]
        subprocess.run(command, check=True, capture_output=True)
        lines = log.read_text().splitlines()
        at = [i for i, line in enumerate(lines) if "/entries/c." in line and "rename" in line]
        synced = [i for i, line in enumerate(lines) if "sync(" in line and "/image/" in line]
        assert len(at) == 15
        for n, i in enumerate(at, 1):
            assert sum(j < i for j in synced) >= n


# --- repair -------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["gone", "flipped", *DAMAGES])
@pytest.mark.parametrize("key", ["0/image/c/1/0/0/0/0", "1/image/c/2/0/0/0/0"])
def test_what_verify_finds_is_written_again(finished, tmp_path, damage, key):
    raw, made = finished
    store = tmp_path / "a.zarr"
    shutil.copytree(made, store)
    data = (store / key).read_bytes()
    if damage == "gone":
        (store / key).unlink()
    elif damage == "flipped":
        (store / key).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        (store / key).write_bytes(DAMAGES[damage](data))
    result = verify(dataset(raw), store)
    assert [d.place for d in result.differences] == [key]
    assert "Convert again" in str(result)
    assert by_file(dataset(raw), store, levels=2).written == 1
    assert verify(dataset(raw), store).ok
    assert by_file(dataset(raw), store, levels=2).written == 0


def test_levels_of_a_file_that_was_fixed_are_made_again(tmp_path):
    """Planes in files of their own, halved along z in a further pass."""
    limits = ONE_FILE_A_BLOCK.__class__(small=8 * 8 * 8 * 2, short=1)
    for z in range(32):
        write(tmp_path / "raw" / f"a_z{z:03d}.tif", z, shape=(8, 8))
    broken = tmp_path / "raw" / "a_z004.tif"
    data = broken.read_bytes()
    broken.write_bytes(data[:50])
    options: Any = {"levels": 4, "chunks": {"z": 4}, "limits": limits}
    ds, store = dataset(tmp_path / "raw", pattern="a_z{z:d}.tif"), tmp_path / "a.zarr"
    assert len(to_ome_zarr(ds, store, **options).failed) == 1
    broken.write_bytes(data)
    assert not to_ome_zarr(ds, store, verify=True, **options).failed
    assert verify(ds, store).ok
    to_ome_zarr(ds, tmp_path / "b.zarr", **options)
    pixels_of = {name: d for name, d in tree(store).items() if "/image/c/" in name}
    assert pixels_of == {n: d for n, d in tree(tmp_path / "b.zarr").items() if "/image/c/" in n}


def test_a_store_that_cannot_be_written_is_verified(finished, disk):
    raw, store = finished
    _, run = disk
    script = """
        mount --bind "$3" "$3" && mount -o remount,ro,bind "$3"
        touch "$3/a" 2>&1
        "$4" -m xarray_tiffstack verify "$2" "$3" --quiet 2>&1; echo exit code $?
    """
    read_only, done, code = run(script, raw, store, sys.executable).splitlines()
    assert "Read-only file system" in read_only
    assert done.startswith("verified: all")
    assert code == "exit code 0"


def test_a_mount_point_is_refused(acquisition, disk):
    folder, run = disk
    script = """
        mount -t tmpfs tmpfs "$1"
        "$3" -m xarray_tiffstack convert "$2" "$1" --quiet 2>&1; echo exit code $?
    """
    *_, error, code = run(script, acquisition, sys.executable).splitlines()
    assert f"{folder} is the root of a disk" in error
    assert code == "exit code 1"


def test_a_second_way_of_reading_is_asked(finished):
    raw, store = finished
    asked = []

    def recheck(paths: Any, stored: xr.DataArray) -> str | None:
        (path,) = paths
        asked.append(os.path.basename(path))
        assert stored.dims == ("z", "y", "x")
        stack = int(path.split("stack")[1][:4])
        assert np.array_equal(stored, pixels(stack))
        return "page 3 is page 2" if stack == 1 else None

    result = verify(dataset(raw), store, recheck=recheck)
    assert sorted(asked) == [reference_name(0, stack) for stack in range(3)]
    (difference,) = result.differences
    assert [os.path.basename(p) for p in difference.paths] == [reference_name(0, 1)]
    assert difference.reason == "page 3 is page 2"
    assert "3 files read a second way" in str(result)
    verify(dataset(raw), store)  # leaves no note that it is damaged


# --- two at once --------------------------------------------------------------------------------

CONVERT = """
import sys, xarray as xr
from xarray_tiffstack.ome_zarr import to_ome_zarr
to_ome_zarr(xr.open_dataset(sys.argv[1], engine="tiffstack"), sys.argv[2])
"""


def test_a_second_conversion_is_refused(acquisition, tmp_path):
    store = tmp_path / "a.zarr"
    command = [sys.executable, "-c", CONVERT, acquisition, store]
    with locked(store):
        for _ in range(2):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert f"(process {os.getpid()} on " in done.stderr
        with pytest.raises(BlockingIOError, match="another conversion writes to"):
            to_ome_zarr(dataset(acquisition), store)
        assert not store.exists()
    assert not list(tmp_path.glob(".*"))
    subprocess.run(command, check=True)


def test_the_lock_ends_with_its_process(acquisition, tmp_path):
    store = tmp_path / "a.zarr"
    code = (
        "import sys, pathlib, time; from xarray_tiffstack.ome_zarr.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, store]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(BlockingIOError, match=f"process {process.pid}"):
            to_ome_zarr(dataset(acquisition), store)
        process.send_signal(signal.SIGKILL)
    to_ome_zarr(dataset(acquisition), store)
    assert not list(tmp_path.glob(".*"))


def test_threads_that_convert_at_once(acquisition, tmp_path):
    store, ds = tmp_path / "a.zarr", dataset(acquisition)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            to_ome_zarr(ds, store, levels=2)
        except BlockingIOError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) < 4
    assert verify(ds, store).ok


# --- the source changes -------------------------------------------------------------------------


def test_the_first_file_changes_while_others_are_converted(acquisition, tmp_path):
    """Its metadata are those of all; the message names it."""
    store = tmp_path / "a.zarr"
    begun(dataset(acquisition), store, 4)
    first = acquisition / reference_name(0, 0)
    write(first, 0, resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    ds = dataset(acquisition)
    with pytest.raises(FileExistsError, match=rf"1 file changed(?s:.*){first.name}(?s:.*)Put back"):
        by_file(ds, store)
    assert collect(ds).ds.sizes == collect(dataset(acquisition)).ds.sizes
    by_file(ds, store, overwrite=True)
    assert verify(ds, store).ok


def test_names_that_are_not_utf8(tmp_path):
    folder = os.fsencode(tmp_path / "raw")
    write(tmp_path / "raw" / "x.tif", 0)
    for t in range(2):
        shutil.copy(os.path.join(folder, b"x.tif"), os.path.join(folder, b"a\xe9_t%d.tif" % t))
    os.unlink(os.path.join(folder, b"x.tif"))
    ds = dataset(tmp_path / "raw", pattern="{name}_t{t:d}.tif")
    summary = to_ome_zarr(ds, tmp_path / "a.zarr", verify=True)
    assert not summary.failed
    assert verify(ds, tmp_path / "a.zarr").ok
    found = xr.open_datatree(tmp_path / "a.zarr", engine="zarr")["0"]
    assert [os.path.basename(p) for p in found["path"].values] == ["a\\xe9_t0.tif", "a\\xe9_t1.tif"]
    assert to_ome_zarr(ds, tmp_path / "a.zarr").written == 0


def test_verify_reads_files_a_second_way(acquisition, tmp_path):
    ds, store = dataset(acquisition), tmp_path / "a.zarr"
    to_ome_zarr(ds, store, levels=1)
    assert ds.tiffstack.verify(store).rechecked == 15
    part = ds.isel(z=slice(1, 3), stack=slice(2))  # no file is all there
    to_ome_zarr(part, tmp_path / "b.zarr", levels=1)
    assert part.tiffstack.verify(tmp_path / "b.zarr").ok


@pytest.mark.parametrize("damage", [b"", b"xxxxxxxxxxxxxxxx"], ids=["emptied", "other bytes"])
def test_a_damaged_chunk_is_found_and_written_again(acquisition, tmp_path, damage):
    """Through the accessor, where files are read a second way, too."""
    ds = xr.open_dataset(acquisition, engine="tiffstack")
    store = tmp_path / "a.zarr"
    ds.tiffstack.to_ome_zarr(store, progress=False)
    assert ds.tiffstack.verify(store, progress=False).ok
    chunk = next(path for path in sorted((store / "0/image/c").rglob("*")) if path.is_file())
    chunk.write_bytes(damage)
    found = ds.tiffstack.verify(store, progress=False)
    assert not found.ok
    assert chunk.relative_to(store).as_posix() in str(found)
    assert ds.tiffstack.to_ome_zarr(store, progress=False).written >= 1
    assert ds.tiffstack.verify(store, progress=False).ok


def test_a_source_that_is_gone_forbids_no_place(acquisition, tmp_path):
    to_ome_zarr(dataset(acquisition), tmp_path / "a.zarr", levels=1)
    again = xr.open_zarr(tmp_path / "a.zarr/0", consolidated=False)
    shutil.rmtree(acquisition)
    to_ome_zarr(again, tmp_path / "b.zarr", levels=1)  # beside the folder that was there
    assert again.image.identical(xr.open_zarr(tmp_path / "b.zarr/0", consolidated=False).image)
