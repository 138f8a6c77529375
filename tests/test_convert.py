"""What happens to a conversion that is killed, interrupted, lied to or given bad files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import (
    ONE_FILE_A_BLOCK,
    dataset,
    pixels,
    reference_name,
    to_ome_zarr,
    tree,
    write,
    write_acquisition,
)

from xarray_tiffstack.cli import main, make_parser
from xarray_tiffstack.ome_zarr import verify
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.plan import Plan
from xarray_tiffstack.ome_zarr.settings import Limits, Options, make_settings
from xarray_tiffstack.ome_zarr.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def names(paths: Iterable[str]) -> list[str]:
    return [os.path.basename(path) for path in paths]


def state(store: Path) -> str:
    return json.loads((store / "zarr.json").read_text())["attributes"]["tiffstack"]["state"]


def by_file(ds: xr.Dataset, store: Any, **options: Any) -> Any:
    """Convert in blocks of one file."""
    return to_ome_zarr(ds, store, limits=ONE_FILE_A_BLOCK, **options)


def begun(ds: xr.Dataset, store: Any, blocks: int, overwrite: bool = False, **options: Any) -> None:
    """Write some blocks of a store, and no more."""
    collection = collect(ds)
    settings = make_settings(collection, Options(**options), ONE_FILE_A_BLOCK)
    made = Store(Plan(collection, settings, ONE_FILE_A_BLOCK), store)
    for block in made.begin(overwrite)[:blocks]:
        made.writer.write(block)


# --- interrupted ----------------------------------------------------------------------------------

# Converts again and again, each time in a process that is killed at a random moment, until one
# comes to the end; where that is too soon, all begins anew with less time. Processes are forked
# from one that has imported everything.
KILLER = """
import os, random, shutil, signal, sys, time
import xarray as xr
from xarray_tiffstack.ome_zarr.convert import convert
from xarray_tiffstack.ome_zarr.settings import Limits, Options

raw, store, seed, longest = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
draw = random.Random(seed)
kills = 0
while True:
    child = os.fork()
    if not child:
        ds = xr.open_dataset(raw, engine="tiffstack")
        convert(ds, store, Options(levels=2), limits=Limits(small=1))
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
        shutil.rmtree(store)
        kills, longest = 0, 0.7 * longest
print(kills)
"""


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_resumes_to_the_same_store(acquisition, tmp_path, seed):
    ds = dataset(acquisition)
    whole, killed = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    by_file(ds, tmp_path / "warm.zarr", levels=2)  # imports
    started = time.monotonic()
    by_file(ds, whole, levels=2)
    longest = 1.5 * (time.monotonic() - started)
    run = subprocess.run(
        [sys.executable, "-c", KILLER, acquisition, killed, str(seed), str(longest)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= 3
    assert tree(killed) == tree(whole)


@pytest.mark.parametrize("stop", range(0, 15, 4))
def test_resumes_from_the_blocks_that_are_finished(acquisition, tmp_path, opened, stop):
    ds = dataset(acquisition)
    whole, store = tmp_path / "whole.zarr", tmp_path / "store.zarr"
    by_file(ds, whole, levels=2)
    begun(ds, store, stop, levels=2)
    assert state(store) == "writing"
    with pytest.raises(ValueError, match="not complete"):
        verify(ds, store)
    opened.clear()
    summary = by_file(dataset(acquisition), store, levels=2)
    assert summary.written == 15 - stop
    assert len(set(opened)) <= 15 - stop + 1  # one is opened to find the shape
    assert tree(store) == tree(whole)
    assert state(store) == "complete"


@pytest.mark.usefixtures("heard")
def test_ctrl_c_stops_cleanly(acquisition, tmp_path, when_opened):
    ds, store, read = dataset(acquisition), tmp_path / "store.zarr", []

    def interrupt(path: str) -> None:
        read.append(path)
        if len(read) == 5:
            signal.raise_signal(signal.SIGINT)

    when_opened(interrupt)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        by_file(ds, store, workers=1)
    assert state(store) == "writing"
    assert threading.active_count() <= before
    assert 1 < by_file(ds, store).written < 15


def test_nothing_to_do_writes_nothing(acquisition, tmp_path):
    ds, store = dataset(acquisition), tmp_path / "store.zarr"
    to_ome_zarr(ds, store)
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*")}
    assert to_ome_zarr(ds, store).written == 0
    assert {p: p.stat().st_mtime_ns for p in store.rglob("*")} == before


# --- other stores -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"levels": 1}, "levels"),
        ({"chunks": {"z": 2}}, "chunks"),
        ({"compressors": None}, "compressors"),
        ({"shards": "auto"}, "shards"),
        ({"voxel_size": {"z": 1}}, "voxel_size"),
        ({"ngff_version": "0.4"}, "ngff_version"),
    ],
)
def test_another_setting_is_refused(shared_acquisition, tmp_path, options, name):
    ds, store = dataset(shared_acquisition), tmp_path / "store.zarr"
    to_ome_zarr(ds, store, levels=2)
    before = tree(store)
    with pytest.raises(FileExistsError, match=rf"other .*{name}(?s:.*)overwrite=True"):
        to_ome_zarr(ds, store, **{"levels": 2, **options})
    assert tree(store) == before
    to_ome_zarr(ds, store, overwrite=True, **{"levels": 2, **options})
    to_ome_zarr(ds, tmp_path / "new.zarr", **{"levels": 2, **options})
    assert tree(store) == tree(tmp_path / "new.zarr")


def test_another_source_is_refused(shared_acquisition, tmp_path):
    ds, store = dataset(shared_acquisition), tmp_path / "store.zarr"
    to_ome_zarr(ds, store)
    other = dataset(write_acquisition(tmp_path / "other"))
    with pytest.raises(FileExistsError, match="labels"):
        to_ome_zarr(other, store)
    with pytest.raises(ValueError, match="other source"):
        verify(other, store)
    with pytest.raises(FileExistsError, match="labels"):
        to_ome_zarr(ds.isel(stack=[0, 2]), store)


def test_a_store_of_somebody_else_is_refused(shared_acquisition, tmp_path):
    ds, store = dataset(shared_acquisition), tmp_path / "store.zarr"
    zarr.create_group(store)
    with pytest.raises(FileExistsError, match="not written by to_ome_zarr"):
        to_ome_zarr(ds, store)
    with pytest.raises(FileNotFoundError, match="no store that to_ome_zarr wrote"):
        verify(ds, store)
    to_ome_zarr(ds, store, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_store_is_never_replaced(shared_acquisition, tmp_path, overwrite):
    ds = dataset(shared_acquisition)
    file, folder = tmp_path / "file.zarr", tmp_path / "folder.zarr"
    file.write_text("mine")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is a file"):
        to_ome_zarr(ds, file, overwrite=overwrite)
    with pytest.raises(FileExistsError, match="something else"):
        to_ome_zarr(ds, folder, overwrite=overwrite)
    assert file.read_text() == (folder / "notes.txt").read_text() == "mine"


def test_nothing_is_written_to_the_source(acquisition):
    ds = dataset(acquisition)
    before = sorted(acquisition.rglob("*"))
    for inside in (acquisition, acquisition / "a.zarr", acquisition / "deep" / "a.zarr"):
        with pytest.raises(ValueError, match="inside the source"):
            to_ome_zarr(ds, inside)
    acquisition.chmod(0o555)
    to_ome_zarr(ds, acquisition.parent / "a.zarr")
    acquisition.chmod(0o755)
    assert sorted(acquisition.rglob("*")) == before


# --- the source changes -------------------------------------------------------------------------


def test_a_file_that_changed_is_noticed(acquisition, tmp_path):
    ds, store = dataset(acquisition), tmp_path / "store.zarr"
    by_file(ds, store)
    write(acquisition / reference_name(1, 2), 99)
    with pytest.raises(FileExistsError, match=r"1 file changed(?s:.*)stack0002_560nm"):
        by_file(ds, store)
    result = verify(ds, store)
    (difference,) = result.differences
    assert names(difference.paths) == [reference_name(1, 2)]
    assert "changed" in difference.reason
    by_file(dataset(acquisition), store, overwrite=True)
    assert verify(dataset(acquisition), store).ok


def test_a_file_that_changes_while_it_is_read_is_noticed(acquisition, tmp_path, when_opened):
    ds, store = dataset(acquisition), tmp_path / "store.zarr"

    def grow(path: str) -> None:
        if path.endswith(reference_name(0, 0)):
            time.sleep(0.01)
            os.utime(path)

    when_opened(grow)
    summary = by_file(ds, store, workers=1)
    assert names(f.path for f in summary.failed) == [reference_name(0, 0)]
    assert "while it was read" in summary.failed[0].error


# --- missing and broken files -------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
def test_broken_files_are_filled_and_reported(acquisition, tmp_path, grouped):
    limits = Limits() if grouped else ONE_FILE_A_BLOCK
    broken, missing = reference_name(1, 2), reference_name(2, 4)
    (acquisition / missing).unlink()
    whole = (acquisition / broken).read_bytes()
    (acquisition / broken).write_bytes(whole[:300])
    ds, store = dataset(acquisition), tmp_path / "store.zarr"
    summary = to_ome_zarr(ds, store, levels=2, limits=limits, verify=True)
    assert (summary.files, summary.missing) == (14, 1)
    (failure,) = summary.failed
    assert names([failure.path]) == [broken]
    assert broken in str(summary)
    assert summary.verified is not None
    assert summary.verified.ok
    for level in "01":
        found = xr.open_datatree(store, engine="zarr")[level].to_dataset()
        assert not found.present.sel(stack=2, channel=560)
        assert not found.present.sel(stack=4, channel=642)
        assert int(found.present.sum()) == 13
    full = xr.open_datatree(store, engine="zarr")["0"].image
    for ch in range(3):
        for stack in range(5):
            gone = (ch, stack) in {(1, 2), (2, 4)}
            expected = np.zeros((4, 6, 8)) if gone else pixels(ch * 5 + stack)
            np.testing.assert_array_equal(full.isel(channel=ch, stack=stack), expected)
    # Fixed, it is taken in by the same call; finished blocks are left alone.
    (acquisition / broken).write_bytes(whole)
    again = to_ome_zarr(ds, store, levels=2, limits=limits)
    assert not again.failed
    assert again.written == 1
    found = xr.open_datatree(store, engine="zarr")["0"].to_dataset()
    xr.testing.assert_identical(found, ds.transpose("stack", "channel", "z", "y", "x"))


def test_strict_stops_at_the_first_broken_file(acquisition, tmp_path):
    broken = reference_name(1, 2)
    (acquisition / broken).write_bytes(b"II*\0")
    store = tmp_path / "store.zarr"
    with pytest.raises(OSError, match="560nm"):
        by_file(dataset(acquisition), store, strict=True)
    assert state(store) == "writing"


# --- verification -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.6", "0.5", "0.4"])
@pytest.mark.parametrize("codecs", ["auto", None])
@pytest.mark.parametrize("level", [0, 1])
def test_a_flipped_byte_is_found_and_located(acquisition, tmp_path, version, codecs, level):
    ds, store = dataset(acquisition), tmp_path / "store.zarr"
    by_file(ds, store, levels=2, compressors=codecs, ngff_version=version, chunks={"z": 2})
    assert verify(ds, store).ok
    key = f"{level}/image{'' if version == '0.4' else '/c'}/3/1/1/0/0"
    damaged = bytearray((store / key).read_bytes())
    damaged[-3] ^= 1
    (store / key).write_bytes(damaged)
    result = verify(ds, store)
    (difference,) = result.differences
    assert difference.place == key
    assert names(difference.paths) == [reference_name(1, 3)]
    assert key in str(result)
    notes: Any = zarr.open_group(store, mode="r").attrs["tiffstack"]
    assert notes["verified"]["differences"][0]["place"] == key


def test_damage_to_the_checksums_is_found(acquisition, tmp_path):
    ds, store = dataset(acquisition), tmp_path / "store.zarr"
    by_file(ds, store, levels=1)
    journal = zarr.open_array(store / "tiffstack/pass0/entries")
    journal[0, 1, 2, 0, 0, 0, -1] += 1
    journal[0, 3, 0, 0, 0, 0] = np.nan
    differences = verify(ds, store).differences
    assert names(d.paths[0] for d in differences) == [reference_name(2, 1), reference_name(0, 3)]


def test_a_lost_chunk_is_found(acquisition, tmp_path):
    ds, store = dataset(acquisition), tmp_path / "store.zarr"
    by_file(ds, store, levels=1, shards="auto", chunks={"z": 2})
    (store / "0/image/c/0/2/0/0/0").unlink()
    (difference,) = verify(ds, store).differences
    assert difference.place == "0/image/c/0/2/0/0/0"


# --- the store cannot be written ----------------------------------------------------------------

CONVERT = """
import resource, signal, sys
import xarray as xr
from xarray_tiffstack.ome_zarr.convert import convert
from xarray_tiffstack.ome_zarr.settings import Limits, Options

ds = xr.open_dataset(sys.argv[1], engine="tiffstack")
if len(sys.argv) > 3:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
options = Options(levels=1, compressors=None)
print(convert(ds, sys.argv[2], options, limits=Limits(small=1), check=True))
"""


@pytest.fixture
def large_files(tmp_path):
    """Three files of 262 kB each."""
    for t in range(3):
        write(tmp_path / "raw" / reference_name(0, t), t, shape=(8, 128, 128))
    return tmp_path / "raw"


def assert_says_how_to_resume(error: str) -> None:
    assert "cannot be written" in error.splitlines()[-2], error
    assert "the same call resumes" in error.splitlines()[-1]


def test_a_file_that_cannot_be_written_is_one_clear_error(large_files, tmp_path):
    store = tmp_path / "store.zarr"
    command = [sys.executable, "-c", CONVERT, large_files, store]
    full = subprocess.run([*command, "100000"], capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert_says_how_to_resume(full.stderr)
    assert state(store) == "writing"
    subprocess.run(command, check=True, capture_output=True)
    assert state(store) == "complete"
    found = xr.open_datatree(store, engine="zarr")["0"].image
    np.testing.assert_array_equal(found[2, 0], pixels(2, (8, 128, 128)))


# In a name space of its own: fills a file system of 760 kB, then makes it larger and goes on.
FULL_DISK = """
mount -t tmpfs -o size=760k tmpfs "$1"
shift
"$@" 2>&1 && echo no error
grep -o '"state": "[a-z]*"' "$5/zarr.json"
mount -o remount,size=4m tmpfs "${5%/*}"
"$@"
"""


@pytest.fixture
def disk(tmp_path):
    """Folder where a script can mount a file system, and runs it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    name_space = ["unshare", "--map-root-user", "--mount"]
    mount = [*name_space, "mount", "-t", "tmpfs", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a test mount a small disk")

    def run(script: str, *args: object) -> str:
        command = [*name_space, "sh", "-c", script, "sh", folder, *args]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    return folder, run


def test_a_full_disk_is_one_clear_error(large_files, disk):
    folder, run = disk
    out = run(FULL_DISK, sys.executable, "-c", CONVERT, large_files, folder / "store.zarr")
    first, _, second = out.partition('"state": "writing"')
    assert "No space left on device" in first, out
    assert_says_how_to_resume(first)
    assert "already complete: " in second
    assert "verified: all 3 blocks" in second


def test_read_only_disks(acquisition, tmp_path, disk):
    """A source is converted; a store cannot be written."""
    _, run = disk
    script = """
        mount --bind "$2" "$2" && mount -o remount,ro,bind "$2"
        touch "$2/a" 2>&1
        "$3" -c "$4" convert "$2" "$5/a.zarr" --quiet
        mount -t tmpfs -o ro tmpfs "$1"
        "$3" -c "$4" convert "$2" "$1/a.zarr" --quiet 2>&1; echo exit code $?
    """
    code = "import sys; from xarray_tiffstack.cli import main; sys.exit(main())"
    read_only, done, error, code = run(
        script, acquisition, sys.executable, code, tmp_path
    ).splitlines()
    assert "Read-only file system" in read_only
    assert "15 files" in done
    assert "Read-only file system" in error
    assert code == "exit code 1"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_one_clear_error(acquisition, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(PermissionError, match="locked"):
        to_ome_zarr(dataset(acquisition), tmp_path / "locked" / "a.zarr")


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": {"q": 1}},
        {"chunks": {"z": 0}},
        {"chunks": 3},
        {"shards": {"z": 3}, "chunks": {"z": 2}},
        {"shards": "auto", "ngff_version": "0.4"},
        {"ngff_version": "0.7"},
        {"levels": 0},
        {"compressors": "zstd"},
        {"voxel_size": {"t": 1.0}},
        {"voxel_size": {"z": -1.0}},
        {"workers": 0},
        {"workers": -1},
    ],
    ids=str,
)
def test_bad_options_are_refused(shared_acquisition, tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        to_ome_zarr(dataset(shared_acquisition), tmp_path / "a.zarr", **options)


@pytest.mark.parametrize("version", ["0.6", "0.5", "0.4"])
def test_codecs_are_those_of_zarr(shared_acquisition, tmp_path, version):
    ds = dataset(shared_acquisition)
    v3 = version != "0.4"
    codec = zarr.codecs.BloscCodec(cname="zstd") if v3 else numcodecs.Blosc("zstd")
    given = {"a": codec, "b": [codec], "c": None, "d": "auto"}
    for name, compressors in given.items():
        to_ome_zarr(ds, tmp_path / name, compressors=compressors, ngff_version=version)
    used = {name: zarr.open_array(tmp_path / name / "0/image").compressors for name in given}
    assert used["a"] == used["b"] == zarr.create_array(
        {}, shape=1, chunks=1, dtype="uint16", compressors=codec, zarr_format=3 if v3 else 2
    ).compressors  # fmt: skip
    assert used["c"] == ()
    assert "lz4" in str(used["d"])
    if v3:
        assert used["d"][0].typesize == 2


def test_planes_along_z_are_halved_in_a_further_pass(tmp_path):
    """Planes in files of their own, and blocks too small for all levels at once."""
    limits = Limits(small=8 * 8 * 8 * 2, short=1)
    for z in range(70):
        write(tmp_path / "raw" / f"a_z{z:03d}.tif", z, shape=(8, 8))
    ds, store = dataset(tmp_path / "raw", pattern="a_z{z:d}.tif"), tmp_path / "a.zarr"
    options = Options(levels=4, chunks={"z": 4, "y": 8, "x": 8})
    settings = make_settings(collect(ds), options, limits)
    assert len(settings.passes) > 1
    summary = to_ome_zarr(ds, store, levels=4, chunks={"z": 4}, limits=limits, verify=True)
    assert summary.verified is not None
    assert summary.verified.ok
    found = xr.open_datatree(store, engine="zarr")
    level = ds.image.reset_coords(drop=True)
    for i in range(1, 4):
        level = level.coarsen(z=2, y=2, x=2, boundary="trim").mean()
        level = np.floor(level + 0.5).astype("uint16")
        np.testing.assert_array_equal(found[str(i)].image, level)
    assert "path" in found["0"].coords
    assert "path" not in found["1"].coords


@pytest.mark.parametrize("version", ["0.6", "0.5", "0.4"])
def test_zarr_itself_writes_the_same_store(acquisition, tmp_path, version):
    (acquisition / reference_name(0, 0)).unlink()
    ds = dataset(acquisition)
    options = {"levels": 2, "ngff_version": version, "verify": True}
    own = to_ome_zarr(ds, tmp_path / "own.zarr", **options)
    theirs = to_ome_zarr(ds, tmp_path / "theirs.zarr", engine="zarr", **options)
    assert own.verified == theirs.verified
    assert tree(tmp_path / "own.zarr") == tree(tmp_path / "theirs.zarr")
    assert verify(ds, tmp_path / "own.zarr").ok


def test_any_dataset_of_one_image_is_taken(tmp_path):
    image = xr.DataArray(pixels(0, (2, 6, 8)), dims=("channel", "y", "x"), name="image")
    ds = image.assign_coords(channel=["a", "b"]).to_dataset()
    store = tmp_path / "a.zarr"
    assert str(to_ome_zarr(ds, store, verify=True).verified).startswith("verified")
    xr.testing.assert_identical(xr.open_datatree(store, engine="zarr")["0"].to_dataset(), ds)
    memory = zarr.storage.MemoryStore()
    assert to_ome_zarr(ds, memory, verify=True).written == 2
    xr.testing.assert_identical(xr.open_datatree(memory, engine="zarr")["0"].to_dataset(), ds)
    with pytest.raises(ValueError, match="one variable is 'image'"):
        to_ome_zarr(ds.rename(image="data"), store)


def test_progress_is_shown_where_it_is_asked_for(shared_acquisition, tmp_path, capsys):
    ds = dataset(shared_acquisition)
    to_ome_zarr(ds, tmp_path / "a.zarr", progress=True)
    assert "converted: 100%" in capsys.readouterr().err
    for hidden in (False, "auto"):  # standard error is no terminal here
        to_ome_zarr(ds, tmp_path / f"{hidden}.zarr", progress=hidden)
        assert capsys.readouterr().err == ""


# --- the command --------------------------------------------------------------------------------


def command(*args: object) -> int:
    """Run it in this process; returns the exit code."""
    options = make_parser().parse_args([*map(str, args)])
    return options.run(options)


def test_command_converts_and_verifies(acquisition, tmp_path, capsys):
    store = tmp_path / "a.zarr"
    options = ("--levels", 2, "--chunks", "z=2,y=4", "--compressors", "zstd:3", "--workers", 2,
               "--voxel-size", "z=0.5,y=0.1,x=0.1", "--shards", "auto")  # fmt: skip
    assert command("convert", acquisition, store, *options, "--verify") == 0
    done = capsys.readouterr()
    assert "15 files" in done.out
    assert "verified: all" in done.out
    assert "verified: 100%" in done.err
    array = zarr.open_array(store / "0/image")
    assert (array.chunks, array.shards) == ((1, 1, 2, 4, 8), (1, 1, 4, 8, 8))
    assert command("verify", acquisition, store, "--quiet") == 0
    (store / "1/image/c/0/0/0/0/0").unlink()
    assert command("verify", acquisition, store, "--quiet") == 4
    done = capsys.readouterr()
    assert "1/image/c/0/0/0/0/0" in done.out
    assert done.err == ""


def test_command_with_broken_files(acquisition, tmp_path, capsys):
    (acquisition / reference_name(0, 1)).write_bytes(b"II*\0")
    (acquisition / reference_name(0, 2)).unlink()
    assert command("convert", acquisition, tmp_path / "a.zarr") == 3
    lines = capsys.readouterr().out.splitlines()
    assert "could not be read, filled: 1" in lines[-2]
    assert reference_name(0, 1) in lines[-1]
    assert command("convert", acquisition, tmp_path / "a.zarr") == 3
    with pytest.raises(OSError, match="strict"):
        command("convert", acquisition, tmp_path / "b.zarr", "--strict")


@pytest.mark.usefixtures("heard")
def test_command_interrupted_says_how_to_resume(acquisition, tmp_path, when_opened, capsys):
    read = []

    def interrupt(path: str) -> None:
        read.append(path)
        if len(read) == 5:
            signal.raise_signal(signal.SIGINT)

    when_opened(interrupt)
    assert main(["convert", str(acquisition), str(tmp_path / "a.zarr"), "--quiet"]) == 130
    assert "the same command resumes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [("--levels", "few"), ("--chunks", "z"), ("--ngff-version", "1"), ("--voxel-size", "z")],
)
def test_command_wrong_usage(acquisition, tmp_path, options):
    with pytest.raises(SystemExit, match="2"):
        command("convert", acquisition, tmp_path / "a.zarr", *options)
    with pytest.raises(ValueError, match="lz4"):
        command("convert", acquisition, tmp_path / "a.zarr", "--compressors", "rar")
