"""One conversion by many processes: executors, clusters of dask, and parts that are killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import ONE_FILE_A_BLOCK, dataset, reference_name, to_ome_zarr, tree, write
from test_convert import by_file, names, state

from xarray_tiffstack.ome_zarr import task, verify
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.lock import Lock, locked
from xarray_tiffstack.ome_zarr.parts import Part, begin
from xarray_tiffstack.ome_zarr.plan import Plan
from xarray_tiffstack.ome_zarr.settings import Options, make_settings
from xarray_tiffstack.ome_zarr.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

CI = Path(__file__).resolve().parents[1] / "ci"
SPAWN = multiprocessing.get_context("spawn")
DEEP = ONE_FILE_A_BLOCK.__class__(small=8 * 8 * 8 * 2, short=1)  # more than one pass


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, SPAWN) as executor:
        yield executor


@pytest.fixture
def planes(tmp_path: Path) -> xr.Dataset:
    """Planes in files of their own, halved along z in further passes."""
    for z in range(32):
        write(tmp_path / "planes" / f"a_z{z:03d}.tif", z, shape=(8, 8))
    return dataset(tmp_path / "planes", pattern="a_z{z:d}.tif")


def in_passes(ds: xr.Dataset, store: Path, **options: Any) -> Any:
    return to_ome_zarr(ds, store, levels=4, chunks={"z": 4}, limits=DEEP, **options)


def begins(ds: xr.Dataset, store: Path, **options: Any) -> Any:
    """Convert a part, of a store that is not complete then."""
    from xarray_tiffstack.ome_zarr.convert import convert

    layout = Options(levels=4, chunks={"z": 4})
    return convert(ds, store, layout, limits=DEEP, **options)


# --- executors ----------------------------------------------------------------------------------


def test_processes_write_and_verify_the_same_store(acquisition, tmp_path, processes):
    (acquisition / reference_name(1, 2)).write_bytes(b"II*\0")
    ds = dataset(acquisition)
    own, theirs = (tmp_path / name for name in ("own.zarr", "theirs.zarr"))
    one = by_file(ds, own, levels=2, verify=True)
    two = by_file(ds, theirs, levels=2, verify=True, executor=processes)
    assert tree(own) == tree(theirs)
    assert (one.failed, one.verified, one.written) == (two.failed, two.verified, two.written)
    assert names(f.path for f in two.failed) == [reference_name(1, 2)]
    found = [ds.tiffstack.verify(own), ds.tiffstack.verify(theirs, executor=processes)]
    assert found[0] == found[1]
    assert found[1].ok
    assert found[1].rechecked == 14
    assert tree(own) == tree(theirs)


def test_threads_of_a_caller_are_an_executor(planes, tmp_path):
    in_passes(planes, tmp_path / "own.zarr")
    with ThreadPoolExecutor(3) as executor:
        in_passes(planes, tmp_path / "theirs.zarr", executor=executor)
        assert executor.submit(int, "3").result() == 3  # it is not shut down
        memory = zarr.storage.MemoryStore()
        assert to_ome_zarr(planes, memory, executor=executor, verify=True).verified.ok
    assert tree(tmp_path / "own.zarr") == tree(tmp_path / "theirs.zarr")


def test_what_was_computed_is_written_by_processes(planes, tmp_path, processes):
    ds = planes.assign(image=planes.image.copy(data=planes.image.data.map_blocks(lambda a: a + 1)))
    in_passes(ds, tmp_path / "a.zarr", executor=processes)
    found = xr.open_datatree(tmp_path / "a.zarr", engine="zarr")["0"].image
    np.testing.assert_array_equal(found, planes.image + 1)


def test_a_large_description_goes_to_a_process_once(planes, tmp_path, processes, monkeypatch):
    monkeypatch.setattr(task, "SMALL", 0)
    in_passes(planes, tmp_path / "a.zarr", executor=processes)
    in_passes(planes, tmp_path / "b.zarr")
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "b.zarr")


def test_a_task_and_its_result_are_small(tmp_path, processes):
    import pickle

    for t in range(300):
        write(tmp_path / "raw" / f"cell_t{t:03d}.tif", t, shape=(2, 2))
    ds = dataset(tmp_path / "raw", pattern="cell_t{t:d}.tif")
    sizes: list[int] = []

    class Heard(ThreadPoolExecutor):  # no plain one: what it is given could be sent
        def submit(self, do: Any, *args: Any) -> Any:
            sizes.append(len(pickle.dumps((do, *args))))
            return super().submit(lambda: pickle.loads(pickle.dumps(do))(*args))

    with Heard(2) as executor:
        by_file(ds, tmp_path / "a.zarr", executor=executor)
    assert len(sizes) == 300
    assert sum(sizes) / len(sizes) < task.SMALL


@pytest.mark.parametrize("bad", [3, "processes", ProcessPoolExecutor])
def test_what_is_no_executor_is_refused(shared_acquisition, tmp_path, bad):
    with pytest.raises(ValueError, match="must be an executor of concurrent"):
        to_ome_zarr(dataset(shared_acquisition), tmp_path / "a.zarr", executor=bad)


def test_a_store_in_memory_is_not_for_processes(shared_acquisition, processes):
    with pytest.raises(ValueError, match="a store in the memory of this one"):
        to_ome_zarr(dataset(shared_acquisition), zarr.storage.MemoryStore(), executor=processes)


def test_an_error_of_a_worker_is_that_of_a_thread(acquisition, tmp_path, processes):
    (acquisition / reference_name(0, 3)).write_bytes(b"II*\0")
    with pytest.raises(OSError, match="strict"):
        by_file(dataset(acquisition), tmp_path / "a.zarr", executor=processes, strict=True)
    assert state(tmp_path / "a.zarr") == "writing"
    assert by_file(dataset(acquisition), tmp_path / "a.zarr", executor=processes).failed


# --- deaths of workers --------------------------------------------------------------------------


def killing(ds: xr.Dataset, value: int, mark: Path) -> xr.Dataset:
    """Give a Dataset that kills who reads a pixel of some value."""

    def look(block: np.ndarray, mark: str) -> np.ndarray:
        if (block == value).any() and not os.path.exists(mark):
            if not mark.endswith("always"):
                Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    data = ds.image.data.map_blocks(look, str(mark), dtype=ds.image.dtype, meta=ds.image.data._meta)
    return ds.assign(image=ds.image.copy(data=data))


@pytest.mark.parametrize("given", ["an executor", "a function"])
def test_the_death_of_a_worker_is_a_retry(acquisition, tmp_path, given):
    ds = dataset(acquisition)
    by_file(ds, tmp_path / "own.zarr")
    deadly = killing(ds, 7 * 192 + 5, tmp_path / "killed")
    make = partial(ProcessPoolExecutor, 2, SPAWN)
    executor: Any = make if given == "a function" else make()
    by_file(deadly, tmp_path / "a.zarr", executor=executor)
    assert (tmp_path / "killed").exists()
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "own.zarr")
    if given == "an executor":
        executor.shutdown()


def test_a_file_that_kills_every_worker_is_named(acquisition, tmp_path):
    each = {"channel": 1, "stack": 1}
    deadly = killing(dataset(acquisition, chunks=each), 7 * 192 + 5, tmp_path / "always")
    make = partial(ProcessPoolExecutor, 2, SPAWN)
    with pytest.raises(OSError, match="3 times at work on these files") as raised:
        by_file(deadly, tmp_path / "a.zarr", executor=make)
    lines = str(raised.value).splitlines()
    assert [os.path.basename(line) for line in lines[1:-1]] == [reference_name(1, 2)]
    assert "the same call resumes" in lines[-1]
    by_file(dataset(acquisition), tmp_path / "a.zarr")


# --- dask ---------------------------------------------------------------------------------------


def test_a_client_that_runs_is_used(acquisition, tmp_path):
    distributed = pytest.importorskip("distributed")
    ds = dataset(acquisition)
    by_file(ds, tmp_path / "own.zarr", verify=True)
    ran: list[str] = []
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        by_file(ds, tmp_path / "a.zarr", verify=True)
        ran = [key for keys in client.run(lambda: list(task._kept)).values() for key in keys]
        by_file(ds, tmp_path / "b.zarr", workers=2)
        still = [key for keys in client.run(lambda: list(task._kept)).values() for key in keys]
        assert verify(ds, tmp_path / "b.zarr", executor=client.get_executor()).ok
        command = [sys.executable, "-m", "xarray_tiffstack"]
        address = ["--scheduler", cluster.scheduler_address, "--quiet"]
        done = [
            subprocess.run(
                [*command, verb, acquisition, tmp_path / "c.zarr", *address],
                capture_output=True, text=True, check=False,
            )
            for verb in ("convert", "verify")
        ]  # fmt: skip
    assert ran
    assert still == ran  # of threads, where workers= names them
    assert [(each.returncode, each.stderr) for each in done] == [(0, "")] * 2
    assert done[1].stdout.startswith("verified: ")
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "own.zarr")


# --- parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["3/2", "0/4", "a/b", (1,), (0, 2), "3"])
def test_what_is_no_part_is_refused(shared_acquisition, tmp_path, given):
    with pytest.raises(ValueError, match=r"part=.* must be a number from 1"):
        to_ome_zarr(dataset(shared_acquisition), tmp_path / "a.zarr", part=given)


def test_parts_share_the_blocks(planes, tmp_path):
    from xarray_tiffstack.ome_zarr.images import collect
    from xarray_tiffstack.ome_zarr.plan import Plan
    from xarray_tiffstack.ome_zarr.settings import Options, make_settings

    settings = make_settings(collect(planes), Options(levels=4, chunks={"z": 4}), DEEP)
    plan = Plan(collect(planes), settings, DEEP)
    assert len(plan.passes) > 1
    for of in (1, 3, 100):
        shares = [Part(n, of).share(plan.blocks, plan) for n in range(1, of + 1)]
        dealt = [block for share in shares for block in share]
        assert sorted(dealt, key=plan.blocks.index) == list(plan.blocks)
    for block in plan.blocks:  # what a block reads is what blocks write that it waits for
        assert bool(plan.inputs(block)) == bool(block.step)
        for other in plan.blocks:
            assert (other in plan.inputs(block)) == (block in plan.dependents([other])) or (
                other.step + 1 < block.step
            )


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 1, 2]])
def test_parts_one_after_the_other(planes, tmp_path, order):
    (tmp_path / "planes" / "a_z005.tif").write_bytes(b"II*\0")
    in_passes(planes, tmp_path / "own.zarr")
    store = tmp_path / "a.zarr"
    *first, last = [begins(planes, store, part=(n, 3)) for n in order]
    assert [summary.left > 0 for summary in (*first, last)] == [True, True, False]
    assert str(order[-1]) in str(first[-1]).split("not written yet")[1]
    assert "the store is complete" in str(last)
    assert names(f.path for f in last.failed) == ["a_z005.tif"]
    assert tree(store) == tree(tmp_path / "own.zarr")
    assert not list(tmp_path.glob(".*"))
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*") if p.is_file()}
    others = [n for n in order if n != part_with_the_broken_file(planes)]
    assert [begins(planes, store, part=(n, 3)).written for n in others] == [0, 0]
    assert {p: p.stat().st_mtime_ns for p in store.rglob("*") if p.is_file()} == before


def part_with_the_broken_file(ds: xr.Dataset) -> int:
    from xarray_tiffstack.ome_zarr.images import collect
    from xarray_tiffstack.ome_zarr.plan import Plan
    from xarray_tiffstack.ome_zarr.settings import Options, make_settings

    settings = make_settings(collect(ds), Options(levels=4, chunks={"z": 4}), DEEP)
    plan = Plan(collect(ds), settings, DEEP)
    return next(
        n
        for n in range(1, 4)
        for block in Part(n, 3).share(plan.blocks, plan)
        if not block.step and any("z005" in path for path in plan.files(block))
    )


def test_a_part_takes_in_a_file_that_was_fixed(planes, tmp_path):
    broken = tmp_path / "planes" / "a_z005.tif"
    data = broken.read_bytes()
    in_passes(planes, tmp_path / "own.zarr")
    broken.write_bytes(b"II*\0")
    store = tmp_path / "a.zarr"
    for n in (1, 2, 3):
        summary = begins(planes, store, part=(n, 3))
    assert summary.failed
    broken.write_bytes(data)
    summary = begins(planes, store, part=(part_with_the_broken_file(planes), 3))
    assert not summary.failed
    assert (summary.left, state(store)) == (0, "complete")
    assert verify(planes, store).ok
    own = zarr.open_group(tmp_path / "own.zarr")["0/image"]
    np.testing.assert_array_equal(zarr.open_group(store)["0/image"], own)
    assert not list((store / "tiffstack/pass0/reasons").glob("c.*"))


def test_damage_is_written_again_by_its_part(planes, tmp_path):
    store = tmp_path / "a.zarr"
    in_passes(planes, store)
    whole = tree(store)
    (store / "0/image/c/1/0/0").unlink()
    assert not verify(planes, store).ok
    written = [begins(planes, store, part=(n, 3)).written for n in (3, 2, 1)]
    assert sum(map(bool, written)) == 1
    assert tree(store) == whole


def test_parts_refuse_what_would_harm_others(planes, tmp_path):
    store = tmp_path / "a.zarr"
    with pytest.raises(ValueError, match="overwrite=True with part="):
        begins(planes, store, part=(1, 2), overwrite=True)
    with pytest.raises(ValueError, match="verify=True with part="):
        begins(planes, store, part=(1, 2), check=True)
    begins(planes, store, part=(1, 2))
    with pytest.raises(FileExistsError, match="other levels"):
        to_ome_zarr(planes, store, part=(2, 2), levels=1)
    with pytest.raises(ValueError, match="not complete"):
        verify(planes, store)
    with pytest.raises(ValueError, match="not complete"):
        verify(planes, store, part=(1, 2))


def test_parts_share_a_lock_and_others_do_not(planes, tmp_path):
    store = tmp_path / "a.zarr"
    with locked(store, shared=True) as lock:
        assert lock.alone
        lock.share()
        with pytest.raises(BlockingIOError, match=r"another .* \(a part, process"):
            in_passes(planes, store)
        begins(planes, store, part=(1, 2))
        assert begins(planes, store, part=(2, 2)).left == 0
        assert (tmp_path / ".a.zarr.lock").exists()
    assert not list(tmp_path.glob(".*"))
    in_passes(planes, tmp_path / "own.zarr")
    assert tree(store) == tree(tmp_path / "own.zarr")
    with locked(store), pytest.raises(BlockingIOError, match="another conversion writes to"):
        begins(planes, store, part=(1, 2))


def made_part(ds: xr.Dataset, store: Path, number: int) -> Store:
    """Make a part as a conversion does."""
    collection = collect(ds)
    settings = make_settings(collection, Options(levels=4, chunks={"z": 4}), DEEP)
    made = Store(Plan(collection, settings, DEEP), store)
    made.part = Part(number, 2)
    return made


def test_parts_that_both_hold_a_lock_of_their_own_machine(planes, tmp_path):
    """Locks of sshfs and of some file servers end at the machine: each part has one alone."""
    store = tmp_path / "a.zarr"
    first, second = (made_part(planes, store, number) for number in (1, 2))
    todo = begin(first, Part(1, 2), Lock(-1, alone=True, works=False))
    first.writer.write(todo[0])
    writing = store / "0/image/zarr.json.elsewhere-1.partial"
    writing.write_bytes(b"")  # what a part of another machine is at
    beside = store.with_name(".a.zarr.elsewhere-1.new")
    beside.mkdir()
    with pytest.raises(FileExistsError, match="another part began"):
        second._create(growing=False)  # it looked before the first had begun
    assert begin(second, Part(2, 2), Lock(-1, alone=True, works=False)) == todo[1:]
    assert writing.exists()
    assert beside.exists()
    for number in (1, 2):
        outcome = begins(planes, store, part=(number, 2))
    assert outcome.left == 0
    in_passes(planes, tmp_path / "own.zarr")
    assert tree(store) == tree(tmp_path / "own.zarr")
    assert not list(tmp_path.glob(".*"))


def test_the_command_in_parts_at_once(acquisition, tmp_path):
    raw, store = acquisition, tmp_path / "a.zarr"
    command = [sys.executable, "-m", "xarray_tiffstack"]

    def at_once(verb: str) -> list[tuple[int, str]]:
        running = [
            subprocess.Popen(
                [*command, verb, raw, store, "--part", f"{n}/3", "--quiet"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for n in (1, 2, 3)
        ]  # fmt: skip
        return [(p.communicate()[0], p.returncode)[::-1] for p in running]

    done = at_once("convert")
    assert [code for code, _ in done] == [0, 0, 0], done
    assert any("the store is complete" in said for _, said in done)
    done = at_once("verify")
    assert [code for code, _ in done] == [0, 0, 0], done
    assert any("was the last\nverified: all " in said for _, said in done), done
    to_ome_zarr(dataset(raw), tmp_path / "own.zarr")
    dataset(raw).tiffstack.verify(tmp_path / "own.zarr")
    assert tree(store) == tree(tmp_path / "own.zarr")


def test_outcomes_of_parts_are_put_together(planes, tmp_path):
    store = tmp_path / "a.zarr"
    in_passes(planes, store)
    complete = tree(store)
    for key in ("0/image/c/1/0/0", "0/image/c/6/0/0", "1/image/c/2/0/0"):
        (store / key).write_bytes(b"damage")
    whole, noted = verify(planes, store), tree(store)
    (store / "zarr.json").write_bytes(complete["zarr.json"])
    found = [verify(planes, store, part=(n, 3)) for n in (2, 3, 1)]
    assert [each.missing for each in found] == [(1, 3), (1,), ()]
    assert "not verified yet: parts 1, 3" in str(found[0])
    assert found[-1].differences == whole.differences
    assert tree(store) == noted
    verify(planes, store, part=(2, 3))
    assert in_passes(planes, store).written
    assert "outcomes" not in zarr.open_group(store / "tiffstack")  # they hold no more
    assert tree(store) == complete


# --- killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_killed_parts_end_in_the_same_store(seed):
    """Real processes; `python ci/machines.py` does more of it, and kills workers of dask."""
    command = [sys.executable, CI / "machines.py", "1", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "all stores equal" in done.stdout


def test_killed_workers_and_schedulers_end_in_the_same_store():
    pytest.importorskip("distributed")
    code = (
        f"import sys; sys.path.insert(0, {str(CI)!r}); import machines; "
        "sys.exit(machines.main(1, 3, kinds=(5,)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "all stores equal" in done.stdout
