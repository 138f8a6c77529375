"""What writing costs: OME-Zarr against the seed script, tensorstore, and the bare codec."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import xarray as xr
import zarr
from numcodecs import Blosc

from bench import peers
from bench.measure import LIMIT, OURS, Row, alone, cores
from xarray_tiffstack.ome_zarr.convert import to_ome_zarr
from xarray_tiffstack.ome_zarr.plan import blosc, default_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.data import Workshop

WORKERS = cores()
TENSORSTORE = "tensorstore"


def emptied(path: Path) -> Path:
    """Make room for a store; every contender pays for that."""
    shutil.rmtree(path, ignore_errors=True)
    return path


def size_on_disk(store: Path) -> int:
    """Bytes of all files of a store."""
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def ours(folder: Path, store: Path, **options: Any) -> None:
    """Convert with this project."""
    ds = xr.open_dataset(folder, engine="tiffstack", unmatched="ignore")
    to_ome_zarr(ds, emptied(store), **options)


def seed(folder: Path, store: Path) -> None:
    """Do what everybody writes."""
    peers.seed(folder).to_zarr(emptied(store))


def tensorstore(folder: Path, store: Path) -> None:
    """Write the same chunks with the same codec from the same files, a thread a file."""
    import tensorstore as ts

    files = sorted(folder.iterdir())
    shape = tifffile.imread(files[0]).shape
    chunk = default_chunks(dict(zip("zyx", shape, strict=True)))
    codec = blosc("lz4", 5, "0.5")
    codec["configuration"]["typesize"] = 2
    array = ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(emptied(store))},
            "metadata": {
                "shape": [len(files), *shape],
                "data_type": "uint16",
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [1, *chunk.values()]},
                },
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, codec],
            },
            "create": True,
        }
    ).result()

    def write(i: int) -> None:
        array[i].write(tifffile.imread(files[i])).result()

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(write, range(len(files))))


def bare(folder: Path, store: Path) -> None:
    """Compress the same chunks with the same codec and write them, bare of all else."""
    files = sorted(folder.iterdir())
    emptied(store).mkdir()
    codec = Blosc("lz4", 5, Blosc.BITSHUFFLE)

    def write(i: int) -> None:
        pixels = tifffile.imread(files[i])
        chunk = default_chunks(dict(zip("zyx", pixels.shape, strict=True))).values()
        starts = (range(0, n, c) for n, c in zip(pixels.shape, chunk, strict=True))
        for n, start in enumerate(product(*starts)):
            part = tuple(slice(s, s + c) for s, c in zip(start, chunk, strict=True))
            (store / f"{i}.{n}").write_bytes(codec.encode(np.ascontiguousarray(pixels[part])))

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(write, range(len(files))))


def convert_full(shop: Workshop) -> Iterator[Row]:
    """Write full resolution alone, and all levels."""
    folder, sizes = shop.noisy_twice, {}
    store = shop.stores / "store.zarr"  # of all: each writes into the memory that was freed there
    row = Row(
        "convert files of 316 MB, full resolution alone",
        "4x the seed script, and smaller; not slower than tensorstore; 0.75x of the bare codec",
        fastest=True,
    )
    contenders: dict[str, Callable[[], None]] = {
        "all levels": lambda: ours(folder, store),
        OURS: lambda: ours(folder, store, levels=1),
        TENSORSTORE: lambda: tensorstore(folder, store),
        LIMIT: lambda: bare(folder, store),
    }
    row.race({peers.SEED: lambda: seed(folder, store)}, 1)
    sizes[peers.SEED] = size_on_disk(store)
    row.race(contenders, 2 if shop.quick else 9)
    contenders[OURS]()
    sizes[OURS] = size_on_disk(store)
    nbytes = sum(path.stat().st_size for path in folder.iterdir())
    row.figures = {f"smaller, {name}": nbytes / size for name, size in sizes.items()}
    smaller = row.figures[f"smaller, {OURS}"], row.figures[f"smaller, {peers.SEED}"]
    beside = row.ratio(TENSORSTORE) if TENSORSTORE in row.times else np.inf
    row.reached = (
        row.ratio(peers.SEED) >= 4
        and smaller[0] > smaller[1]
        and beside >= 1
        and row.ratio(LIMIT) >= 0.75
    )
    row.measured = (
        f"{nbytes / 1e9 / row.times[OURS]:.2f} GB/s on {WORKERS} cores: "
        f"{row.ratio(peers.SEED):.1f}x the seed script, {beside:.2f}x tensorstore, "
        f"{row.ratio(LIMIT):.2f}x of the bare codec; {smaller[0]:.2f}x smaller than the files "
        f"({smaller[1]:.2f}x)"
    )
    yield row

    levels = Row("with all pyramid levels", "at most 1.35x of full resolution alone")
    levels.times = {OURS: row.times["all levels"], "full resolution": row.times[OURS]}
    more = row.ratio("all levels")
    levels.reached = more <= 1.35
    levels.measured = f"{more:.2f}x"
    yield levels

    one = int(np.prod(shop.shape)) * 2
    _, _, grown = alone(ours, folder, shop.stores / "memory.zarr")
    memory = Row("memory of a conversion", "workers x (one file + its output)")
    memory.figures = {"grown bytes": grown, "workers x 2 files": WORKERS * 2 * one}
    memory.reached = grown <= WORKERS * 2 * one
    memory.measured = f"{grown / WORKERS / one:.2f} files a worker ({grown / 1e6:.0f} MB)"
    yield memory


def convert_many(shop: Workshop) -> Iterator[Row]:
    """See whether memory grows with the number of files."""
    few, many = (6, 30) if shop.small else (100, 1_000)
    row = Row(f"memory of converting {many:,} files", f"that of {few}")
    for files in (few, many):
        store = shop.stores / "many.zarr"
        _, peak, _ = alone(ours, shop.thin(files), store)
        row.figures[f"peak bytes, {files} files"] = peak
        emptied(store)
    peaks = list(row.figures.values())
    row.reached = peaks[1] <= 1.1 * peaks[0]
    row.measured = f"{peaks[1] / 1e6:.0f} MB, of {few} {peaks[0] / 1e6:.0f} MB"
    yield row


def convert_planes(shop: Workshop) -> Iterator[Row]:
    """Convert files of a single plane, and as many bytes in large files."""
    count = 60 if shop.small else 2_000 if shop.quick else 20_000
    plane = (64, 64) if shop.small else (512, 512)
    folder = shop.plane_files("frames", count, plane)
    small, one = count * int(np.prod(plane)) * 2, int(np.prod(shop.shape)) * 2
    large = shop.noisy_as("noisy_many", max(1, round(small / one / 3)))
    row = Row(f"convert {count:,} files of one plane", "half the rate of large files")
    row.race(
        {
            OURS: lambda: ours(folder, shop.stores / "frames.zarr", levels=1),
            "large files": lambda: ours(large, shop.stores / "large.zarr", levels=1),
        },
        3,
    )
    for name in ("frames", "large"):
        emptied(shop.stores / f"{name}.zarr")
    share = row.ratio("large files") * small / (len(list(large.iterdir())) * one)
    row.reached = share >= 0.5
    row.measured = f"{share:.2f}x of it"
    yield row


def choices(shop: Workshop) -> Iterator[Row]:
    """Compare codecs, chunks and shards, by what they cost and what reading then costs."""
    nbytes = sum(path.stat().st_size for path in shop.noisy.iterdir())
    deep = {"z": shop.shape[0], "y": 64, "x": 64}
    flat = {"z": 1, "y": shop.shape[1], "x": shop.shape[2]}
    options: dict[str, dict[str, Any]] = {
        "default (Blosc LZ4 5, bitshuffle)": {},
        "Blosc Zstd 1, bitshuffle": {"compressors": blosc("zstd", 1, "0.5")},
        "Blosc Zstd 5, bitshuffle": {"compressors": blosc("zstd", 5, "0.5")},
        "Zstd 0 (zarr's default)": {"compressors": zarr.codecs.ZstdCodec(level=0)},
        "no compression": {"compressors": None},
        "default, one shard a volume": {"shards": "auto"},
        "default, a chunk a plane": {"chunks": flat},
        "default, columns of 64 x 64": {"chunks": deep},
    }
    store = shop.stores / "choice.zarr"
    for name, option in options.items():
        row = Row(f"write with {name}", "", fastest=True)
        row.race({OURS: lambda option=option: ours(shop.noisy, store, levels=1, **option)}, 3)
        image = xr.open_datatree(store, engine="zarr", chunks=None)["0"].image[0, 0]
        reads: dict[str, Callable[[], object]] = {
            "a plane": lambda image=image: image[len(image) // 2].values,
            "64 x 64 x 64": lambda image=image: image[-64:, :64, :64].values,
        }
        for what, read in reads.items():
            each = Row(what, "")
            each.race({OURS: read}, 3)
            row.figures[f"seconds to read {what}"] = each.times[OURS]
        row.figures["files"] = sum(1 for _ in (store / "0" / "image").rglob("*"))
        plane, cube = (row.figures[f"seconds to read {what}"] for what in reads)
        row.measured = (
            f"{nbytes / 1e9 / row.times[OURS]:.2f} GB/s, {nbytes / size_on_disk(store):.2f}x "
            f"smaller, a plane {1e3 * plane:.0f} ms, 64 x 64 x 64 {1e3 * cube:.0f} ms"
        )
        yield row


ROWS = (convert_full, convert_many, convert_planes, choices)
