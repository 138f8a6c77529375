"""What is measured: each function gives rows of the result, with the limit and the peers beside."""

from __future__ import annotations

import pickle
import time
from functools import cache, partial
from itertools import count
from typing import TYPE_CHECKING

import dask
import numpy as np
import pandas as pd
import xarray as xr

from bench import peers
from bench.measure import LIMIT, OURS, Row, alone, bytes_read, cores, ms, tiffs_opened
from xarray_tiffstack.tiff import reading as _tiff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bench.data import Workshop

KIB, MIB, GIB = 2**10, 2**20, 2**30
WORKERS = cores()
READER, WHOLE, PIECES = "reader alone", "whole files in memory", "after .chunk(z=16)"


# --- opening --------------------------------------------------------------------------------


def open_reference(shop: Workshop) -> Iterator[Row]:
    """Open the reference acquisition."""
    folder = shop.reference
    sample = np.empty(shop.shape, "uint16")
    row = Row("open 597 files of 316 MB", "at most 1/4 of the seed script")
    row.race(
        {
            OURS: lambda: peers.ours(folder),
            peers.SEED: lambda: peers.seed(folder),
            peers.UNSAMPLED: lambda: peers.seed(folder, sample),
            peers.TIFFFILE: lambda: peers.tifffile_zarr(folder),
            peers.DASK_IMAGE: lambda: peers.dask_image(folder),
            LIMIT: lambda: peers.listing(folder),
        },
        3 if shop.quick else 7,
    )
    # bioio takes minutes: it is timed on a few of the files, and scaled.
    few = shop.links("few", 4)
    sample_of = Row("open a few files", "")
    sample_of.race({peers.BIOIO: lambda: peers.bioio(few, shop.shape)}, 1)
    share = len(peers.listing(folder)) / len(peers.listing(few))
    row.notes += sample_of.notes
    for name, seconds in sample_of.rounds.items():
        row.rounds[name] = [share * each for each in seconds]
        row.times[name] = share * sample_of.times[name]
    row.reached = row.ratio(peers.SEED) >= 4
    row.measured = (
        f"1/{row.ratio(peers.SEED):.1f} of it, 1/{row.ratio(peers.UNSAMPLED):.1f} of one that "
        f"is told the shape ({ms(row.times[OURS])})"
    )
    yield row


def open_many(shop: Workshop) -> Iterator[Row]:
    """Open ever more names of the same file."""
    sizes = (30, 90) if shop.small else (600, 2_000 if shop.quick else 6_000, 100_000)
    sample = np.empty(shop.shape, "uint16")
    seed = 0.0
    for files in sizes:
        folder = shop.links(f"links{files}", -(-files // 3))
        row = Row(f"open {files:,} files", "")
        contenders: dict[str, Callable[[], object]] = {
            OURS: partial(peers.ours, folder),
            LIMIT: partial(peers.listing, folder),
        }
        if files < sizes[-1]:
            contenders[peers.UNSAMPLED] = partial(peers.seed, folder, sample)
            contenders[peers.TIFFFILE] = partial(peers.tifffile_zarr, folder)
        row.race(contenders, 1 if shop.quick else 3)
        seed = row.times.get(peers.UNSAMPLED, 0) / files or seed
        with tiffs_opened() as opened:
            image = peers.ours(folder)
        begin = time.perf_counter()
        image.isel(channel=1, stack=slice(3, None, 7), z=2)
        row.figures = {
            "times the scandir": 1 / row.ratio(LIMIT),
            "files opened": len(set(opened)),
            "seconds to select": time.perf_counter() - begin,
        }
        row.measured = f"{ms(row.times[OURS])}, {row.figures['times the scandir']:.1f}x a scandir"
        if files == sizes[-1]:
            row.target = "at most 12x a sorted scandir; one file opened"
            row.reached = row.figures["times the scandir"] <= 12 and len(set(opened)) == 1
            row.times[f"{peers.UNSAMPLED}, extrapolated"] = seed * files
            row.measured += (
                f"; {len(set(opened))} file opened; the seed script would take "
                f"{ms(seed * files)} (linear from {sizes[-2]:,} files)"
            )
        yield row


def open_table(shop: Workshop) -> Iterator[Row]:
    """Open a file table, in a process of its own for the sake of its memory."""
    sizes = (100, 1_000) if shop.small else (100_000, 1_000_000)
    (few, many), peak, grown = alone(_open_tables, shop.stack, sizes)
    row = Row(
        f"open a file table of {sizes[1]:,} rows",
        f"linear from {sizes[0]:,}; peak memory below 1.5 GB",
        f"{few:.2f} s for {sizes[0]:,} and {many:.2f} s for {sizes[1]:,}: {many / few:.1f}x; "
        f"peak {peak / 1e9:.2f} GB, libraries and table included",
        # Linear, with a quarter for caches that no longer hold everything.
        many / few <= 1.25 * sizes[1] / sizes[0] and peak < 1.5e9,
        {OURS: many},
        {"seconds for a tenth": few, "peak bytes": peak, "grown bytes": grown},
    )
    yield row


def _open_tables(first: Path, sizes: Sequence[int]) -> list[float]:
    """Open tables of which only the first file exists; gives the least seconds of five each."""
    least = []
    for rows in sizes:
        i = np.arange(rows)
        paths = [str(first), *(f"{first.parent}/img_{k:09d}.tif" for k in range(1, rows))]
        columns = {"time": i // 100, "position": i // 4 % 25, "channel": i % 4}
        table = pd.DataFrame({"path": paths, **columns})
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            dataset = xr.open_dataset(table, engine="tiffstack")
            seconds.append(time.perf_counter() - begin)
            del dataset
        least.append(min(seconds))
    return least


# --- selecting ------------------------------------------------------------------------------


def one_plane(shop: Workshop) -> Iterator[Row]:
    """Read one plane of 1.5 MB of one file of 316 MB."""
    folder, z = shop.reference, shop.shape[0] // 2
    image = peers.ours(folder)
    nbytes = shop.shape[1] * shop.shape[2] * 2
    # The others are opened in the first round, which does not count.
    seeded = cache(partial(peers.seed, folder, np.empty(shop.shape, "uint16")))
    sequence = cache(partial(peers.tifffile_zarr, folder))
    listed = cache(partial(peers.dask_image, folder))
    globbed = cache(partial(peers.bioio, shop.folder / "few", shop.shape))
    contenders: dict[str, Callable[[], object]] = {
        OURS: lambda: image.sel(channel=560).isel(stack=3).isel(z=z).compute(),
        peers.SEED: lambda: seeded()[1, 3, z].compute(),
        peers.TIFFFILE: lambda: sequence()[1, 3, z].compute(),
        peers.DASK_IMAGE: lambda: listed()[4, z].compute(),
        peers.BIOIO: lambda: globbed().isel(C=1, T=3, Z=z).compute(),
        LIMIT: peers.plane_reader(shop.stack, z),
    }
    row = Row("one plane of a 316 MB file", "5 ms or 5x a bare pread; 20x faster than the seed")
    row.race(contenders, 7 if shop.quick else 15)
    row.reached = (
        row.times[OURS] <= max(0.005, 5 * row.times[LIMIT]) and row.ratio(peers.SEED) >= 20
    )
    row.measured = (
        f"{ms(row.times[OURS])}, {1 / row.ratio(LIMIT):.0f}x a bare pread; "
        f"{row.ratio(peers.SEED):.0f}x faster than the seed script"
    )
    yield row

    opened = peers.ours(folder, chunks={"z": 1})
    part = slice(shop.shape[1] // 8, shop.shape[1] // 4)
    selections: dict[str, Callable[[int], xr.DataArray]] = {
        "as opened": lambda n: image.sel(channel=642).isel(stack=n).isel(z=z),
        "after .chunk(z=16)": lambda n: image.chunk(z=16).sel(channel=642).isel(stack=n).isel(z=z),
        'with chunks={"z": 1}': lambda n: opened.sel(channel=642).isel(stack=n).isel(z=z),
        "after .transpose": lambda n: image.transpose("x", "z", ...).isel(channel=2, stack=n, z=z),
        "part of y and x": lambda n: image.isel(y=part, x=part).sel(channel=642)[n, z],
    }
    counted = Row(
        "bytes read for that plane, page table included",
        "the plane and 256 KiB; after chunk, transpose, y/x slice no whole file",
    )
    stacks = count(1)  # each time a file that was not read before
    for name, select in selections.items():
        counted.figures[name] = bytes_read(lambda select=select: select(next(stacks)).compute())
    worst = max(counted.figures.values())
    counted.reached = worst <= nbytes + 256 * KIB
    counted.measured = (
        f"the plane and {(counted.figures['as opened'] - nbytes) / KIB:.0f} KiB; with any of "
        f"{len(selections) - 1} steps before, at most {(worst - nbytes) / KIB:.0f} KiB more than it"
    )
    yield counted


def longer_files(shop: Workshop) -> Iterator[Row]:
    """Read one plane of ever longer files; the first of a file has to find its pages."""
    for pages in (2, 5) if shop.small else (20, 200, 2_000):
        folder = shop.stacks(pages)
        image = peers.ours(folder)
        fresh = count()
        row = Row(f"one plane of a file of {pages:,} pages", "")
        row.race(
            {
                OURS: lambda image=image: image.isel(channel=1, stack=0, z=-1).compute(),
                "first of its file": lambda image=image, fresh=fresh: image.isel(
                    channel=2, stack=next(fresh), z=-1
                ).compute(),
                LIMIT: peers.plane_reader(folder / peers.listing(folder)[0], pages - 1),
            },
            3 if shop.quick else 9,
        )
        row.measured = f"{ms(row.times['first of its file'])}, then {ms(row.times[OURS])}"
        yield row


def kymograph(shop: Workshop) -> Iterator[Row]:
    """Read one row of pixels of each file."""
    image = peers.ours(shop.reference)
    files = [f"{shop.reference}/{name}" for name in peers.listing(shop.reference)]
    z, y = min(5, shop.shape[0] - 1), 7
    nbytes = shop.shape[1] * shop.shape[2] * 2
    image.isel(channel=0, stack=0, z=z, y=y).compute()
    row = Row("one pixel row of every file", "one plane or less per file")
    row.figures["bytes per file"] = bytes_read(lambda: image.isel(z=z, y=y).compute()) / len(files)
    row.race(
        {
            OURS: lambda: image.isel(z=z, y=y).compute(),
            LIMIT: lambda: peers.rows_of(files, z, y),
        },
        1 if shop.quick else 3,
    )
    row.reached = row.figures["bytes per file"] <= nbytes
    row.measured = (
        f"{row.figures['bytes per file'] / KIB:.0f} KiB per file, "
        f"1/{nbytes / row.figures['bytes per file']:.0f} plane "
        f"({1e3 * row.times[OURS] / len(files):.2g} ms per file)"
    )
    yield row


def compressed_plane(shop: Workshop) -> Iterator[Row]:
    """Read one plane of compressed stacks."""
    row = Row("one plane of compressed, tiled and BigTIFF stacks", "1.5x decoding that page alone")
    for kind, folder in shop.compressed.items():
        image = peers.ours(folder)
        path = folder / peers.listing(folder)[0]
        z = image.sizes["z"] // 2
        decode, close = peers.page_decoder(path, z)
        layout = _tiff.probe(path)
        each = Row(f"one plane, {kind}", "")
        each.race(
            {
                OURS: lambda image=image, z=z: image.isel(channel=0, stack=0, z=z).compute(),
                READER: lambda path=path, layout=layout, z=z: _tiff.read(
                    path, layout, (z, slice(None), slice(None))
                ),
                LIMIT: decode,
            },
            5 if shop.quick else 15,
        )
        close()
        each.figures = {
            "call": 1 / each.ratio(LIMIT),
            "reader": each.ratio(READER) / each.ratio(LIMIT),
        }
        each.measured = (
            f"{each.figures['call']:.2f}x decoding alone ({ms(each.times[LIMIT])}); "
            f"the reader without xarray and dask {each.figures['reader']:.2f}x"
        )
        row.figures[kind] = each.figures["call"]
        yield each
    row.reached = max(row.figures.values()) <= 1.5
    row.measured = ", ".join(f"{kind} {ratio:.2f}x" for kind, ratio in row.figures.items())
    yield row


# --- everything -----------------------------------------------------------------------------


def full_pass(shop: Workshop) -> Iterator[Row]:
    """Find the largest pixel of a few files of 316 MB."""
    folder = shop.noisy
    files = sorted(folder.iterdir())
    image, seeded, sequence = peers.ours(folder), peers.seed(folder), peers.tifffile_zarr(folder)
    row = Row("max() over whole files", "0.85x of threads with readinto + max")
    row.race(
        {
            OURS: lambda: image.max().compute(),
            LIMIT: lambda: peers.read_and_max(files, WORKERS),
            peers.SEED: lambda: seeded.max().compute(),
            peers.TIFFFILE: lambda: sequence.max().compute(),
            PIECES: lambda: image.chunk(z=16).max().compute(),
        },
        1 if shop.quick else 7,
    )
    row.reached = row.ratio(LIMIT) >= 0.85
    rate = image.nbytes / row.times[OURS] / 1e9
    row.measured = (
        f"{row.ratio(LIMIT):.2f}x ({rate:.1f} GB/s on {WORKERS} cores); "
        f"{row.ratio(LIMIT) / row.ratio(PIECES):.2f}x {PIECES}"
    )
    yield row

    chunk = int(np.prod(shop.shape)) * 2
    _, _, grown = alone(_largest, folder)
    memory = Row("memory of that max()", "at most 1.3x of workers x chunk")
    memory.figures = {"grown bytes": grown, "workers x chunk": WORKERS * chunk}
    memory.reached = grown <= 1.3 * WORKERS * chunk
    memory.measured = f"{grown / WORKERS / chunk:.2f}x ({grown / 1e6:.0f} MB)"
    yield memory


def _largest(folder: Path) -> int:
    return int(peers.ours(folder).max().compute())


def compressed_pass(shop: Workshop) -> Iterator[Row]:
    """Find the largest pixel of compressed stacks."""
    row = Row("max() over compressed files", "0.9x of the codec's own rate on all cores")
    for kind, folder in shop.compressed.items():
        image = peers.ours(folder)
        files = sorted(folder.iterdir())
        each = Row(f"max(), {kind}", "")
        each.race(
            {
                OURS: lambda image=image: image.max().compute(),
                LIMIT: lambda files=files: peers.decode_and_max(files, WORKERS),
                WHOLE: lambda files=files: peers.decode_whole_and_max(files, WORKERS),
                PIECES: lambda image=image: image.chunk(z=16).max().compute(),
            },
            1 if shop.quick else 3,
        )
        row.figures[kind] = each.ratio(LIMIT)
        each.measured = (
            f"{each.ratio(LIMIT):.2f}x of the codec, {each.ratio(WHOLE):.2f}x of threads that "
            f"decode whole files into memory, {each.ratio(LIMIT) / each.ratio(PIECES):.2f}x "
            f"{PIECES} ({image.nbytes / each.times[OURS] / 1e6:.0f} MB/s)"
        )
        yield each
    row.reached = min(row.figures.values()) >= 0.9
    row.measured = ", ".join(f"{kind} {ratio:.2f}x" for kind, ratio in row.figures.items())
    yield row


# --- small files ----------------------------------------------------------------------------


def planes_as_files(shop: Workshop) -> Iterator[Row]:
    """Open, select from and read 100,000 files of one plane each."""
    folder = shop.planes
    names = peers.listing(folder)
    files = [folder / name for name in names]
    image = peers.ours(folder)
    plane = image.isel(well=1, time=0, position=0, channel=2, z=3)
    plane.compute()
    row = Row(
        f"{len(files):,} files of one 8 KB plane, grid of {image.ndim - 2} dimensions",
        "small files grouped to tens of MiB; a selection reads only the files it names",
    )
    row.figures["files per chunk"] = len(files) / image.data.npartitions
    row.figures["MiB per chunk"] = image.nbytes / image.data.npartitions / MIB
    with tiffs_opened() as opened:
        plane.compute()
    row.figures["files opened for one plane"] = len(opened)
    with tiffs_opened() as opened:
        line = image.isel(well=0, position=0, channel=1, z=3)
        line.compute()
    row.figures["files opened for a time series"] = len(opened)
    some = image.isel(time=slice(0, max(1, image.sizes["time"] // (10 if shop.quick else 2))))
    singly = some.chunk(dict.fromkeys(some.dims[:-2], 1))
    part = [folder / path for path in some.path.values.ravel() if path]
    offset = _pixels_at(part[0])
    nbytes = image.sizes["y"] * image.sizes["x"] * 2
    row.race(
        {
            OURS: lambda: some.max().compute(),
            LIMIT: lambda: peers.open_and_max(part, offset, nbytes, WORKERS),
            "one file a chunk": lambda: singly.max().compute(),
        },
        1 if shop.quick else 3,
    )
    tasks = (row.times["one file a chunk"] - row.times[OURS]) / len(part)
    row.figures["microseconds per file"] = 1e6 * row.times[OURS] / len(part)
    row.figures["microseconds per file, bare"] = 1e6 * row.times[LIMIT] / len(part)
    row.figures["microseconds per task"] = 1e6 * tasks
    row.reached = (
        10 <= row.figures["MiB per chunk"] <= 64
        and row.figures["files opened for one plane"] == 1
        and row.figures["files opened for a time series"] == line.sizes["time"]
        and 1e6 * tasks * image.data.npartitions < 0.05e6 * row.times[OURS] * len(files) / len(part)
    )
    row.measured = (
        f"{row.figures['files per chunk']:.0f} files, {row.figures['MiB per chunk']:.0f} MiB a "
        f"chunk; 1 plane opens {row.figures['files opened for one plane']:.0f} file; "
        f"{row.figures['microseconds per file']:.0f} µs per file "
        f"(bare open + pread {row.figures['microseconds per file, bare']:.0f} µs), "
        f"{row.figures['microseconds per task']:.0f} µs per task"
    )
    yield row


def _pixels_at(path: Path) -> int:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        return int(tif.pages[0].dataoffsets[0])


# --- processes and mosaics ------------------------------------------------------------------


def task_size(shop: Workshop) -> Iterator[Row]:
    """Pickle what one worker gets, of ever more files."""
    row = Row("what a worker gets for one chunk", "below 5 kB beside its own paths")
    image = peers.ours(shop.reference)
    (graph,) = dask.optimize(image.isel(channel=1, stack=3).data)
    tasks = dict(graph.__dask_graph__())
    sizes = [len(pickle.dumps(task, 5)) for task in tasks.values()]
    row.figures["bytes"] = max(sizes)
    row.reached = max(sizes) < 5000
    row.measured = f"{max(sizes):,} bytes"
    yield row


def mosaic(shop: Workshop) -> Iterator[Row]:
    """Read one plane through a mosaic of 2 x 2 tiles, and a part that lies in one tile."""
    image = peers.ours(shop.tiles, mosaic=True)
    nbytes = shop.shape[1] * shop.shape[2] * 2
    z, y, x = shop.shape[0] // 2, shop.shape[1] // 2, shop.shape[2] // 2
    plane = image.isel(channel=1, stack=1).isel(z=z)
    corner = image.isel(z=z).isel(y=slice(0, y), x=slice(0, x)).isel(channel=2, stack=0)
    row = Row("one plane in a mosaic of 4 tiles", "no whole file read")
    row.figures["bytes for the plane"] = bytes_read(plane.compute)
    with tiffs_opened() as opened:
        row.figures["bytes for a corner in one tile"] = bytes_read(corner.compute)
    row.figures["files opened for the corner"] = len(opened)
    row.race({OURS: plane.compute}, 3 if shop.quick else 9)
    beside = row.figures["bytes for the plane"] - 4 * nbytes
    row.reached = (
        beside <= 4 * 256 * KIB
        and row.figures["bytes for a corner in one tile"] <= nbytes + 256 * KIB
        and len(opened) == 1
    )
    row.measured = (
        f"the plane and {beside / KIB:.0f} KiB for 4 page tables ({ms(row.times[OURS])}); a corner "
        f"in one tile opens {len(opened)} file"
    )
    yield row


ROWS: tuple[Callable[[Workshop], Iterator[Row]], ...] = (
    open_reference,
    open_many,
    open_table,
    one_plane,
    longer_files,
    kymograph,
    mosaic,
    compressed_plane,
    full_pass,
    compressed_pass,
    planes_as_files,
    task_size,
)
