"""Measure on a graphics card whether pinned memory is worth its code: ``sh ci/gpu.sh``.

The package reads a block to normal memory, and copies it with ``cupy.asarray``. A buffer of pinned
memory, which the card fetches by itself, is the usual way to a faster copy.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cupy as cp
import numpy as np
import tifffile

from bench import peers
from bench.__main__ import machine
from bench.data import Workshop
from bench.measure import HEAD, OURS, Race, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN, PINNED = "read, then cupy.asarray", "read to pinned memory, then copy"
READ, COPY = "the read alone", "the pinned copy alone"


def rows(path: Path, card: Any) -> Iterator[Row]:
    """Bring one file to the card in each way."""
    pixels = tifffile.imread(path)
    buffer = np.frombuffer(cp.cuda.alloc_pinned_memory(pixels.nbytes), pixels.dtype, pixels.size)
    buffer = buffer.reshape(pixels.shape)
    target = cp.empty_like(buffer)

    def plain() -> None:
        cp.asarray(tifffile.imread(path))
        cp.cuda.Device().synchronize()

    def copy() -> None:
        target.set(buffer)
        cp.cuda.Device().synchronize()

    def pinned() -> None:
        tifffile.imread(path, out=buffer)
        copy()

    def ours() -> None:
        card.compute(scheduler="synchronous")
        cp.cuda.Device().synchronize()

    np.testing.assert_array_equal(card.compute().get(), pixels)
    race = Race(
        {OURS: ours, PLAIN: plain, PINNED: pinned, READ: lambda: tifffile.imread(path), COPY: copy},
        15,
    )
    for name in race.rounds:
        yield Row(f"{name}, 316 MB", f"{pixels.nbytes / race.seconds(name) / 1e9:.2f} GB/s")
    gain = race.seconds(PLAIN) / race.seconds(PINNED)
    yield Row("rate with pinned memory", f"{gain:.2f}x", "", "1.3x, to be worth it", gain >= 1.3)


def main() -> None:
    """Print one table."""
    name = cp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    print(f"{name}, cupy {cp.__version__}, {machine()}\n\n{HEAD}")
    with tempfile.TemporaryDirectory(prefix="tiffstack-gpu-") as folder:
        files = Workshop(Path(folder), quick=True).noisy
        image = peers.ours(files, device="cuda")
        for row in rows(min(files.iterdir()), image.isel(channel=0, stack=0).data):
            print(row, flush=True)


if __name__ == "__main__":
    main()
