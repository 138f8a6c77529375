"""What the way back costs: what is kept beside the pixels, and files written again."""

from __future__ import annotations

import shutil
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


def keep(shop: Workshop) -> Iterator[Row]:
    """Convert with and without what is not pixels; and say how much that is."""
    folder, where = shop.noisy, shop.memory
    race = Race(
        {
            OURS: partial(_convert, folder, where / "kept", True),
            LIMIT: partial(_convert, folder, where / "pixels", False),
        },
        shop.rounds(5),
        fastest=True,
    )
    files = sorted(folder.iterdir())
    besides = files[0].stat().st_size - shop.nbytes
    entries = [p for p in (where / "kept/tiffstack/files").rglob("*") if p.name[0] == "c"]
    stored = sum(path.stat().st_size for path in entries) / len(files)
    longer = 1 / race.ratio(LIMIT)
    yield Row(
        "keep what is not pixels of files of 316 MB",
        f"{besides:,} bytes a file, {stored:,.0f} in the store; {longer:.2f}x as long as pixels "
        "alone",
        race,
        "4,096 bytes a file in the store, 1.5x as long",
        stored <= 4096 and longer <= 1.5,
    )
    peers.emptied(str(where / "pixels"))


def write_back(shop: Workshop) -> Iterator[Row]:
    """Write files back, beside copying them; both to memory."""
    folder, where = shop.noisy, shop.memory
    _convert(folder, where / "kept", True)
    race = Race(
        {
            OURS: partial(_restore, where / "kept", where / "again"),
            CHECK: partial(_restore, where / "kept", None),
            LIMIT: partial(_copy, folder, where / "copied"),
        },
        shop.rounds(5),
        fastest=True,
    )
    nbytes = sum(path.stat().st_size for path in folder.iterdir())
    longer = 1 / race.ratio(LIMIT)
    yield Row(
        "restore files of 316 MB to memory",
        f"{nbytes / race.seconds() / 1e6:.0f} MB/s, {longer:.1f}x as long as copying them in a "
        "thread a core",
        race,
        "4x as long as copying",
        longer <= 4,
    )
    for name in ("kept", "again", "copied"):
        peers.emptied(str(where / name))


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
