"""How many deaths of parts, workers and schedulers a conversion survives: each ends in one store.

    python ci/machines.py [ROUNDS] [SEED]

Half of the rounds convert in parts, and parts are killed at random moments; half by a cluster of
dask in processes of its own, whose workers are killed, and in every third of these its scheduler.
Whatever was killed is started again. Each store must be that of one process, byte for byte, and
hold the pixels of its files.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import xarray as xr

from xarray_tiffstack.ome_zarr.convert import convert, verify
from xarray_tiffstack.ome_zarr.settings import Limits, Options

PATTERN = "a_z{z:d}_t{t:d}.tif"
TIMES, DEPTH, SHAPE = 4, 16, (96, 128)
PARTS = 3
WORKERS = 2
# Blocks too small for all levels at once: there are coarser ones, which parts wait for.
LIMITS = Limits(small=4 * 96 * 128 * 2, short=1)
OPTIONS = Options(levels=4, chunks={"z": 4, "y": 48})
CODE = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import machines; "


def dataset(raw: Path) -> xr.Dataset:
    return xr.open_dataset(raw, engine="tiffstack", pattern=PATTERN)


def write(raw: Path) -> None:
    """Write files whose pixels are their own, and one that cannot be read."""
    raw.mkdir()
    for t in range(TIMES):
        for z in range(DEPTH):
            pixels = np.random.default_rng([t, z]).integers(0, 4096, SHAPE, "uint16")
            tifffile.imwrite(raw / f"a_z{z:03d}_t{t:03d}.tif", pixels, metadata=None)
    (raw / "a_z005_t002.tif").write_bytes(b"II*\0")


def part(raw: str, store: str, number: str) -> None:
    """Convert a part, in a process of its own."""
    convert(dataset(Path(raw)), store, OPTIONS, limits=LIMITS, part=f"{number}/{PARTS}")


def cluster(raw: str, store: str, file: str) -> None:
    """Convert by the workers of a scheduler, in a process of its own."""
    from distributed import Client

    with Client(scheduler_file=file, timeout="20s") as client:
        convert(dataset(Path(raw)), store, OPTIONS, limits=LIMITS, executor=client)


def start(name: str, *args: object) -> subprocess.Popen[bytes]:
    return python("-c", f"{CODE}machines.{name}(*sys.argv[1:])", *args)


def python(*args: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process came to its end by itself; stops all where that was an error."""
    _, said = process.communicate()
    if process.returncode > 0:
        raise SystemExit(f"a process failed:\n{said.decode()}")
    return process.returncode == 0


def kill_parts(raw: Path, store: Path, draw: random.Random, took: float) -> int:
    """Convert in parts, some of which are killed and started again; returns how many were."""
    kills, open_ = 0, list(range(1, PARTS + 1))
    while open_:
        running = {n: start("part", raw, store, n) for n in open_}
        doomed = [n for n in running if kills < 2 * PARTS and draw.random() < 0.6]
        for n in doomed:
            time.sleep(draw.uniform(0, took) / max(1, len(doomed)))
            running[n].kill()
        finished = {n: ended(process) for n, process in running.items()}
        kills += sum(not end for end in finished.values())
        open_ = [n for n, end in finished.items() if not end]
    return kills


class Cluster:
    """A scheduler and its workers, each a process that can be killed."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.file.unlink(missing_ok=True)
        command = ("-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--port", 0)
        self.scheduler = python(*command, "--host", "127.0.0.1", "--scheduler-file", self.file)
        self.workers = [self.worker() for _ in range(WORKERS)]
        while not self.file.is_file() or not self.file.stat().st_size:
            time.sleep(0.05)

    def worker(self) -> subprocess.Popen[bytes]:
        return python("-m", "distributed.cli.dask_worker", "--scheduler-file", self.file,
                      "--nthreads", 1, "--no-nanny", "--no-dashboard")  # fmt: skip

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.communicate()


def kill_cluster(raw: Path, store: Path, draw: random.Random, took: float, scheduler: bool) -> int:
    """Convert by dask, with workers and the scheduler killed; returns how many were."""
    kills, dead = 0, False
    while True:
        made = Cluster(raw.parent)
        try:
            process = start("cluster", raw, store, made.file)
            for _ in range(draw.randrange(1, 4) if kills < 4 else 0):
                time.sleep(draw.uniform(0.3, 1) * took)
                if scheduler and not dead:
                    made.scheduler.kill()
                    dead = True
                else:
                    one = draw.randrange(WORKERS)
                    made.workers[one].kill()
                    made.workers[one].communicate()
                    made.workers[one] = made.worker()
                kills += 1
            try:
                _, said = process.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)
                raise SystemExit(f"a conversion hangs:\n{process.communicate()[1]}") from None
            if process.returncode == 0:
                return kills
            if not dead:
                raise SystemExit(f"a conversion failed:\n{said.decode()}")
        finally:
            made.close()


def tree(store: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }


def check(raw: Path, store: Path, expected: Path) -> None:
    """Stop where a store is another, or does not hold the pixels of its files."""
    found, wanted = tree(store), tree(expected)
    other = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if other:
        raise SystemExit(f"{len(other)} files differ: {other[:5]}")
    beside = [path.name for path in store.parent.glob(f".{store.name}*")]
    if beside:
        raise SystemExit(f"left beside the store: {beside}")
    if not verify(dataset(raw), store).ok:
        raise SystemExit("other pixels")
    shutil.rmtree(store)


def main(rounds: int = 30, seed: int = 0, kinds: tuple[int, ...] = tuple(range(6))) -> int:
    """Kill parts, workers and schedulers, and compare what comes out."""
    draw = random.Random(seed)
    killed = {"parts": 0, "workers": 0, "with a scheduler": 0}
    with tempfile.TemporaryDirectory() as folder:
        raw, expected, store = (Path(folder, name) for name in ("raw", "expected", "store"))
        write(raw)
        convert(dataset(raw), expected, OPTIONS, limits=LIMITS)
        started = time.monotonic()
        assert ended(start("part", raw, store, 1))
        took = time.monotonic() - started
        shutil.rmtree(store)
        for i in range(rounds):
            at = kinds[i % len(kinds)]
            if at % 2 == 0:
                killed["parts"] += kill_parts(raw, store, draw, 1.3 * took)
            else:
                scheduler = at == 5
                kind = "with a scheduler" if scheduler else "workers"
                killed[kind] += kill_cluster(raw, store, draw, took, scheduler)
            check(raw, store, expected)
    deaths = ", ".join(f"{n} {kind}" for kind, n in killed.items())
    print(f"{rounds} conversions on several machines, killed: {deaths}; all stores equal")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
