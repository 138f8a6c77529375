"""What the way back costs: what is kept beside the pixels, and files written again."""

from __future__ import annotations

import shutil
import time
from functools import partial
from typing import TYPE_CHECKING

import xarray as xr

from bench import peers
from bench.measure import LIMIT, OURS, Race, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.data import Workshop

CHECK = "check alone"


SMALL = (256, 256)  # pixels of a small file


def keep(shop: Workshop) -> Iterator[Row]:
    """Convert with and without what is not pixels; and say how much that is."""
    folder = shop.noisy
    race = _both(shop, folder)
    files = sorted(folder.iterdir())
    besides = files[0].stat().st_size - shop.nbytes
    entries = [p for p in (shop.memory / "kept/tiffstack/files").rglob("*") if p.name[0] == "c"]
    stored = sum(path.stat().st_size for path in entries) / len(files)
    longer = 1 / race.ratio(LIMIT)
    work = [_work(_convert, folder, shop.memory / n, n == "kept") for n in ("kept", "pixels")]
    yield Row(
        "keep what is not pixels of files of 316 MB",
        f"{besides:,} bytes a file, {stored:,.0f} in the store; {longer:.2f}x as long as pixels "
        f"alone ({work[0] / work[1]:.2f}x the processor time)",
        race,
        "4,096 bytes a file in the store, 1.5x as long",
        stored <= 4096 and longer <= 1.5,
    )
    count, folder = _planes(shop)
    race = _both(shop, folder)
    more = (race.seconds() - race.seconds(LIMIT)) / count
    yield Row(f"keep it of {count:,} files of 131 kB", f"{more * 1e3:.1f} ms more a file", race)
    peers.emptied(str(shop.memory / "pixels"))


def write_back(shop: Workshop) -> Iterator[Row]:
    """Write files back, beside copying them; both to memory."""
    folder, where = shop.noisy, shop.memory
    race = _back(shop, folder)
    nbytes = sum(path.stat().st_size for path in folder.iterdir())
    longer = 1 / race.ratio(LIMIT)
    work = _work(_restore, where / "kept", where / "again") / _work(_copy, folder, where / "copied")
    yield Row(
        "restore files of 316 MB to memory",
        f"{nbytes / race.seconds() / 1e6:.0f} MB/s, {longer:.1f}x as long as copying them in a "
        f"thread a core ({work:.1f}x the processor time)",
        race,
        "4x as long as copying",
        longer <= 4,
    )
    count, folder = _planes(shop)
    race = _back(shop, folder)
    each = race.seconds() / count * 1e3
    yield Row(f"restore {count:,} files of 131 kB to memory", f"{each:.1f} ms a file", race)
    for name in ("kept", "again", "copied"):
        peers.emptied(str(where / name))


def _planes(shop: Workshop) -> tuple[int, Path]:
    """Make many small files: how many, and their folder."""
    count = shop.sized(2000, 500, 20)
    folder = shop.folder / f"planes{count}"
    return count, folder if folder.exists() else shop.planes(count, SMALL)


def _both(shop: Workshop, folder: Path) -> Race:
    """Convert with and without what is not pixels."""
    return Race(
        {
            OURS: partial(_convert, folder, shop.memory / "kept", True),
            LIMIT: partial(_convert, folder, shop.memory / "pixels", False),
        },
        shop.rounds(5),
        fastest=True,
    )


def _back(shop: Workshop, folder: Path) -> Race:
    """Write files back, make their bytes alone, and copy them."""
    where = shop.memory
    _convert(folder, where / "kept", True)
    return Race(
        {
            OURS: partial(_restore, where / "kept", where / "again"),
            CHECK: partial(_restore, where / "kept", None),
            LIMIT: partial(_copy, folder, where / "copied"),
        },
        shop.rounds(5),
        fastest=True,
    )


def _work(run: Callable[..., None], *args: object) -> float:
    """Processor time of a call, of all threads: other programs hardly change it."""
    before = time.process_time()
    run(*args)
    return time.process_time() - before


def _convert(folder: Path, store: Path, restorable: bool) -> None:
    ds = xr.open_dataset(folder, engine="tiffstack")
    peers.emptied(str(store))
    ds.tiffstack.to_ome_zarr(store, levels=1, restorable=restorable, progress=False)


def _restore(store: Path, folder: Path | None) -> None:
    from xarray_tiffstack import restore

    if folder is not None:
        peers.emptied(str(folder))
    assert restore(store, folder, check=folder is None, progress=False).ok


def _copy(folder: Path, to: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from bench.measure import CORES

    peers.emptied(str(to))
    to.mkdir()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda path: shutil.copyfile(path, to / path.name), folder.iterdir()))


BACK: tuple[Callable[[Workshop], Iterator[Row]], ...] = (keep, write_back)
