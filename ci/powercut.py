"""How many kills and power failures a conversion survives: each must end in the same store.

    python ci/powercut.py [KILLS] [POWER_FAILURES] [SEED]

A kill ends a process at a random moment of its conversion. A power failure is a kill, after which
what was written in the last second before it is cut short, emptied, or replaced by zeros.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorstore  # noqa: F401  (imported before processes are forked)
import tifffile
import xarray as xr

from xarray_tiffstack.ome_zarr.convert import convert
from xarray_tiffstack.ome_zarr.settings import Limits, Options

PATTERN = "a_stack{stack:d}.tif"
STACKS, SHAPE = 24, (16, 96, 128)
DAMAGES = (lambda data: b"", lambda data: data[: len(data) // 2], lambda data: bytes(len(data)))


def main(kills: int = 100, failures: int = 20, seed: int = 0) -> int:
    """Interrupt conversions until so many were, and compare each store that was finished."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        raw, expected, store = (Path(folder, name) for name in ("raw", "expected", "store"))
        write(raw)
        xr.open_dataset(raw, engine="tiffstack", pattern=PATTERN)  # imports, for all that is forked
        took = [run(raw, expected, None)[1] for _ in range(2) if not shutil.rmtree(expected, True)]
        wanted, done, ends = tree(expected), {"kills": 0, "power failures": 0}, 0
        while done["kills"] < kills or done["power failures"] < failures:
            power = done["power failures"] < failures and draw.random() < 0.3
            finished, _ = run(raw, store, draw.uniform(0.1, 1.0) * min(took))
            if finished:
                ends += check(tree(store), wanted)
                shutil.rmtree(store)
                continue
            done["power failures" if power else "kills"] += 1
            if power:
                lose(store, draw)
        run(raw, store, None)
        ends += check(tree(store), wanted)
    print(
        f"{done['kills']} kills, {done['power failures']} power failures: {ends} stores, all equal"
    )
    return 0


def write(raw: Path) -> None:
    """Write files whose pixels say where they belong."""
    raw.mkdir()
    for stack in range(STACKS):
        pixels = np.random.default_rng(stack).integers(0, 4096, SHAPE, "uint16")
        tifffile.imwrite(raw / f"a_stack{stack:04d}.tif", pixels, metadata=None)


def run(raw: Path, store: Path, limit: float | None) -> tuple[bool, float]:
    """Convert in a process that is killed after some seconds; whether it came to its end."""
    started = time.monotonic()
    child = os.fork()
    if not child:
        ds = xr.open_dataset(raw, engine="tiffstack", pattern=PATTERN)
        convert(ds, store, Options(levels=2, chunks={"z": 8, "y": 48}), limits=Limits(small=1))
        os._exit(0)
    if limit is not None:
        time.sleep(limit)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if status and not os.WIFSIGNALED(status):
        raise SystemExit("a conversion failed")
    return not status, time.monotonic() - started


def lose(store: Path, draw: random.Random) -> None:
    """Damage what was written in the last second."""
    files = [path for path in store.rglob("*") if path.is_file()]
    newest = max((path.stat().st_mtime for path in files), default=0)
    for path in files:
        if path.stat().st_mtime > newest - 1:
            path.write_bytes(draw.choice(DAMAGES)(path.read_bytes()))


def tree(store: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }


def check(found: dict[str, bytes], wanted: dict[str, bytes]) -> int:
    """Stop where a store is another."""
    other = [key for key in {*found, *wanted} if found.get(key) != wanted.get(key)]
    if other:
        raise SystemExit(f"{len(other)} files differ: {sorted(other)[:5]}")
    return 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
