"""What is measured: each function gives rows of the table."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from itertools import count, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import xarray as xr

from bench import peers
from bench.measure import CORES, LIMIT, OURS, Race, Row, alone, bytes_read, spell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.data import Workshop

KIB, MIB = 2**10, 2**20
PIECES = "after chunk(z=16)"


# --- opening --------------------------------------------------------------------------------


def open_files(shop: Workshop) -> Iterator[Row]:
    """Open ever more names of the same file."""
    sizes = (30, 60, 90) if shop.small else (600, 6_000, 12_000 if shop.quick else 60_000)
    sample = np.empty(shop.shape, "uint16")
    for files in sizes:
        folder = shop.hollow(files // 3)
        contenders: dict[str, Callable[[], object]] = {
            OURS: partial(peers.ours, folder),
            peers.UNSAMPLED: partial(peers.seed, folder, sample),
            peers.TIFFFILE: partial(peers.tifffile_zarr, folder),
            LIMIT: partial(peers.listing, folder),
        }
        if files == sizes[0]:
            contenders[peers.SEED] = partial(peers.seed, folder)
            if not shop.quick:
                contenders[peers.BIOIO] = partial(peers.bioio, folder, shop.shape)
        race = Race(contenders, shop.rounds(7))
        scandir = 1 / race.ratio(LIMIT)
        measured = f"{spell(race.seconds())}, {scandir:.1f}x a sorted scandir"
        row = Row(f"open {files:,} files", measured, race)
        if files == sizes[0]:
            row.target = "1/4 of the seed script"
            row.reached = race.ratio(peers.SEED) >= 4
        elif files == sizes[-1]:
            row.target = "12x a scandir"
            row.reached = scandir <= 12
        yield row


# --- selecting ------------------------------------------------------------------------------


def one_plane(shop: Workshop) -> Iterator[Row]:
    """Read one plane of 1.5 MB of one file of 316 MB."""
    folder, z = shop.reference, shop.shape[0] // 2
    few = shop.hollow(4)
    image, fresh = peers.ours(folder), count()
    # The others are opened in the first round, which does not count.
    seeded = cache(partial(peers.seed, folder, np.empty(shop.shape, "uint16")))
    sequence = cache(partial(peers.tifffile_zarr, folder))
    globbed = cache(partial(peers.bioio, few, shop.shape))
    race = Race(
        {
            OURS: lambda: image.sel(channel=560).isel(stack=3).isel(z=z).compute(),
            "first of its file": lambda: image[2, next(fresh) % image.shape[1], z].compute(),
            peers.SEED: lambda: seeded()[1, 3, z].compute(),
            peers.TIFFFILE: lambda: sequence()[1, 3, z].compute(),
            peers.BIOIO: lambda: globbed().isel(C=1, T=3, Z=z).compute(),
            LIMIT: peers.plane_reader(next(folder.iterdir()), z),
        },
        shop.rounds(15),
    )
    yield Row(
        "one plane of a file of 316 MB",
        spell(race.seconds()),
        race,
        "5 ms, 1/20 of the seed script",
        race.seconds() <= 0.005 and race.ratio(peers.SEED) >= 20,
    )


def selections(shop: Workshop) -> Iterator[Row]:
    """Count the bytes that a plane costs, after other steps too, and a row of every file."""
    z, plane = shop.shape[0] // 2, 2 * shop.shape[1] * shop.shape[2]
    image, stacks = peers.ours(shop.reference), count(-1, -1)  # files that were not read before
    chains: dict[str, Callable[[], xr.DataArray]] = {
        "as opened": lambda: image.sel(channel=642).isel(stack=next(stacks), z=z),
        "after chunk(z=16)": lambda: image.chunk(z=16)[2].isel(stack=next(stacks)).isel(z=z),
        "after transpose": lambda: image.transpose("x", "z", ...).isel(z=z)[:, 2, next(stacks)],
        "part of y and x": lambda: image.isel(y=slice(8), x=slice(8))[2, next(stacks), z],
    }
    more = {
        name: bytes_read(lambda select=select: select().compute()) - plane
        for name, select in chains.items()
    }
    yield Row(
        "bytes read for the first plane of a file",
        ", ".join(f"{name}: plane {extra / KIB:+,.0f} KiB" for name, extra in more.items()),
        target="plane + 256 KiB",
        reached=max(more.values()) <= 256 * KIB,
    )
    lines, files = image.isel(z=z, y=7), image[..., 0, 0, 0].size
    nbytes = bytes_read(lines.compute) / files
    race = Race({OURS: lines.compute}, shop.rounds(3))
    yield Row(
        "one row of pixels of every file",
        f"{spell(race.seconds() / files)} and {nbytes / KIB:.0f} KiB a file",
        target="one plane a file",
        reached=nbytes <= plane,
    )


# --- everything -----------------------------------------------------------------------------


def full_pass(shop: Workshop) -> Iterator[Row]:
    """Find the largest pixel of a few files of 316 MB."""
    folder = shop.noisy
    files = sorted(folder.iterdir())
    image, seeded, sequence = peers.ours(folder), peers.seed(folder), peers.tifffile_zarr(folder)
    race = Race(
        {
            OURS: lambda: image.max().compute(),
            LIMIT: lambda: peers.read_and_max(files),
            peers.SEED: lambda: seeded.max().compute(),
            peers.TIFFFILE: lambda: sequence.max().compute(),
            PIECES: lambda: image.chunk(z=16).max().compute(),
        },
        shop.rounds(7),
    )
    yield Row(
        "max() of files of 316 MB",
        f"{image.nbytes / race.seconds() / 1e9:.1f} GB/s",
        race,
        "0.85x the rate of threads with readinto",
        race.ratio(LIMIT) >= 0.85,
    )
    _, grown = alone(_largest, folder)
    share = grown / CORES / shop.nbytes
    yield Row(
        "memory of that max()",
        f"{share:.2f} files a worker ({grown / 1e6:.0f} MB)",
        target="1.3 files a worker",
        reached=share <= 1.3,
    )


def _largest(folder: Path) -> int:
    return int(peers.ours(folder).max().compute())


def compressed(shop: Workshop) -> Iterator[Row]:
    """Read one plane of compressed stacks, and find their largest pixel."""
    for kind, folder in shop.compressed.items():
        image, files = peers.ours(folder), sorted(folder.iterdir())
        plane = image[0, 0, image.sizes["z"] // 2]
        with tifffile.TiffFile(files[0]) as tif:
            page = tif.pages[image.sizes["z"] // 2]
            decode = partial(page.asarray, maxworkers=1)
            one = Race({OURS: plane.compute, LIMIT: decode}, shop.rounds(15))
        every = Race(
            {
                OURS: image.max().compute,
                LIMIT: partial(peers.decode_and_max, files),
                PIECES: image.chunk(z=16).max().compute,
            },
            shop.rounds(3),
        )
        yield Row(
            f"one plane, {kind}",
            spell(one.seconds()),
            one,
            "1.5x decoding that page",
            one.ratio(LIMIT) >= 1 / 1.5,
        )
        yield Row(
            f"max(), {kind}",
            f"{image.nbytes / every.seconds() / 1e6:.0f} MB/s",
            every,
            "0.9x the rate of the codec",
            every.ratio(LIMIT) >= 0.9,
        )


def small_files(shop: Workshop) -> Iterator[Row]:
    """Read many files of one small plane each."""
    image = peers.ours(shop.planes(shop.sized(100_000, 100_000, 320), (64, 64)))
    some = image.isel(time=slice(0, max(1, image.sizes["time"] // (10 if shop.quick else 2))))
    single = some.chunk(dict.fromkeys(some.dims[:-2], 1))
    race = Race(
        {OURS: some.max().compute, "one file a chunk": single.max().compute}, shop.rounds(3)
    )
    chunk = image.nbytes / image.data.npartitions / MIB
    yield Row(
        f"max() of {some[..., 0, 0].size:,} files of one 8 KB plane",
        f"{1e6 * race.seconds() / some[..., 0, 0].size:.0f} µs a file, {chunk:.0f} MiB a chunk",
        race,
        "chunks of 10 to 64 MiB",
        10 <= chunk <= 64,
    )


# --- writing --------------------------------------------------------------------------------


def convert(shop: Workshop) -> Iterator[Row]:
    """Convert files of 316 MB to stores in memory: full resolution, then all levels."""
    folder, where = shop.noisy_as("convert", shop.sized(4, 2, 2)), str(shop.memory)
    nbytes = _size(folder)
    seed = Race({peers.SEED: lambda: peers.seed_to(folder, f"{where}/seed")}, 1)
    contenders = peers.writers(folder, where)
    contenders["all levels"] = lambda: peers.ours_to(folder, f"{where}/levels")
    race = Race(contenders, shop.rounds(9), fastest=True)
    race.rounds |= seed.rounds
    smaller = {name: nbytes / _size(shop.memory / name) for name in ("ours", "seed")}
    yield Row(
        "convert files of 316 MB to memory, full resolution",
        f"{nbytes / race.seconds() / 1e9:.2f} GB/s, {smaller['ours']:.2f}x smaller "
        f"(seed script {smaller['seed']:.2f}x)",
        race,
        "4x the rate of the seed script, 0.75x of the bare codec",
        race.ratio(peers.SEED) >= 4 and race.ratio(LIMIT) >= 0.75,
    )
    _, grown = alone(peers.ours_to, folder, f"{where}/levels")
    levels, share = race.ratio("all levels"), grown / CORES / shop.nbytes
    yield Row(
        "convert with all levels",
        f"{nbytes / race.seconds('all levels') / 1e9:.2f} GB/s, {levels:.2f}x as long; memory "
        f"{share:.2f} files a worker ({grown / 1e6:.0f} MB)",
        target="1.35x as long, 2 files a worker",
        reached=levels <= 1.35 and share <= 2,
    )
    for name in ("ours", "seed", "levels", "tensorstore", "bare"):
        peers.emptied(f"{where}/{name}")


def convert_to_disk(shop: Workshop) -> Iterator[Row]:
    """Convert to a disk, until all is there."""
    writers = peers.writers(shop.noisy, str(shop.folder))
    race = Race({name: partial(_settled, run) for name, run in writers.items()}, shop.rounds(5))
    yield _rate("to a disk", _size(shop.noisy), race)


def convert_to_s3(shop: Workshop) -> Iterator[Row]:
    """Convert to a server for tests, which is as slow as its Python."""
    files = shop.thin(shop.sized(24, 6, 6), pages=14)
    with peers.s3_server():
        writers = peers.writers(files, peers.BUCKET)
        del writers[LIMIT]
        race = Race(writers, shop.rounds(5))
        row = _rate("to moto's S3", _size(files), race)
        reached = race.ratio(peers.TENSORSTORE) >= 0.8
        yield replace(row, target="0.8x of tensorstore", reached=reached)
        places = (f"{peers.BUCKET}/memory", f"{shop.folder}/memory")
        far, near = (alone(peers.ours_to, files, place)[0] for place in places)
    peers.emptied(places[1])
    yield Row(
        "peak memory of converting to S3, all levels",
        f"{far / 1e6:.0f} MB; to a folder {near / 1e6:.0f} MB",
        target="1.3x of a folder",
        reached=far <= 1.3 * near,
    )


def _settled(run: Callable[[], object]) -> None:
    run()
    os.sync()


def _rate(where: str, nbytes: int, race: Race) -> Row:
    rate = f"{nbytes / race.seconds() / 1e6:.0f} MB/s"
    return Row(f"convert {nbytes / 1e6:,.0f} MB {where}", rate, race)


def convert_many(shop: Workshop) -> Iterator[Row]:
    """See whether memory grows with the number of files."""
    few, many = (6, 30) if shop.small else (100, 1_000)
    store = f"{shop.memory}/many"
    peaks = [alone(peers.ours_to, shop.thin(files), store)[0] for files in (few, many)]
    peers.emptied(store)
    yield Row(
        f"peak memory of converting {many:,} files",
        f"{peaks[1] / 1e6:.0f} MB; {few} files {peaks[0] / 1e6:.0f} MB",
        target=f"1.1x of {few} files",
        reached=peaks[1] <= 1.1 * peaks[0],
    )


def convert_planes(shop: Workshop) -> Iterator[Row]:
    """Convert files of a single plane, and as many bytes in large files."""
    files, plane = shop.sized(20_000, 2_000, 60), (64, 64) if shop.small else (512, 512)
    stacks = max(1, round(files * 2 * plane[0] * plane[1] / shop.nbytes / 3))
    frames, large = shop.planes(files, plane), shop.noisy_as("large", stacks)
    small, bulk, store = _size(frames), _size(large), f"{shop.memory}/planes"
    contenders = {OURS: frames, "large files": large}
    race = Race(
        {k: partial(peers.ours_to, v, store, levels=1) for k, v in contenders.items()},
        shop.rounds(3),
    )
    peers.emptied(store)
    share = race.ratio("large files") * small / bulk
    yield Row(
        f"convert {files:,} files of one plane",
        f"{small / race.seconds() / 1e6:.0f} MB/s, {share:.2f}x the rate of large files",
        target="0.5x the rate of large files",
        reached=share >= 0.5,
    )


def index(shop: Workshop) -> Iterator[Row]:
    """Index stacks and single planes, and read planes from the index of the stacks."""
    if find_spec("icechunk") is None:
        yield Row("index files of 316 MB", "no icechunk")
        return
    place, many = shop.memory / "index.icechunk", shop.sized(100_000, 10_000, 60)
    image, planes = peers.ours(shop.reference), peers.ours(shop.planes(many, (64, 64)))
    made = Race({OURS: partial(peers.indexed, image, place)}, shop.rounds(5))
    yield Row(
        f"index {image[..., 0, 0].size:,} planes in {image[..., 0, 0, 0].size} files of 316 MB",
        f"{spell(made.seconds())}, {_size(place) / 1e6:.1f} MB",
        made,
        "2 s",
        made.seconds() <= 2,
    )
    found, rng = peers.index_reader(place), np.random.default_rng(0)
    at = [[*map(rng.integers, image.shape[:3])] for _ in range(64)]
    ours, theirs = (cycle(at) for _ in range(2))
    race = Race(
        {
            "from the index": lambda: found(*next(theirs)),
            OURS: lambda: image[tuple(next(ours))].compute(),
        },
        shop.rounds(31),
    )
    yield Row(
        "one plane from an index",
        spell(race.seconds("from the index")),
        race,
        "1.5x of the folder itself",
        race.ratio("from the index") <= 1.5,
    )
    peers.emptied(str(place))
    made = Race({OURS: partial(peers.indexed, planes, place)}, 1 if shop.quick else 3)
    yield Row(
        f"index {many:,} files of one plane",
        f"{spell(made.seconds())}, {_size(place) / 1e6:.1f} MB",
        target="10 s",
        reached=made.seconds() <= 10,
    )
    peers.emptied(str(place))


def choices(shop: Workshop) -> Iterator[Row]:
    """Compare codecs, chunks and shards: writing, and what reading then costs."""
    from zarr.codecs import BloscCodec, ZstdCodec

    nbytes = _size(shop.noisy)
    zstd = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")
    options: dict[str, dict[str, Any]] = {
        "the default (Blosc LZ4 5, bitshuffle)": {},
        "Blosc Zstd 1, bitshuffle": {"compressors": zstd},
        "Zstd 0, which is zarr's default": {"compressors": ZstdCodec(level=0)},
        "no compression": {"compressors": None},
        "one shard a volume": {"shards": "auto"},
        "a chunk a plane": {"chunks": {"z": 1, "y": shop.shape[1], "x": shop.shape[2]}},
        "columns of 64 x 64": {"chunks": {"z": shop.shape[0], "y": 64, "x": 64}},
    }
    store = f"{shop.memory}/choice"
    for name, option in options.items():
        convert = partial(peers.ours_to, shop.noisy, store, levels=1, **option)
        write = Race({OURS: convert}, shop.rounds(3), fastest=True)
        image = xr.open_dataset(store, group="0", engine="zarr").image[0, 0]
        plane, cube = image[len(image) // 2], image[-64:, :64, :64]
        reads = [Race({OURS: lambda part=part: part.copy().load()}, 3) for part in (plane, cube)]
        smaller = nbytes / _size(Path(store))
        yield Row(
            f"write with {name}",
            f"{nbytes / write.seconds() / 1e9:.2f} GB/s, {smaller:.2f}x smaller; reading a plane "
            f"{spell(reads[0].seconds())}, 64 x 64 x 64 {spell(reads[1].seconds())}",
        )
    peers.emptied(store)


def _size(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


READING: tuple[Callable[[Workshop], Iterator[Row]], ...] = (
    *(open_files, one_plane, selections, full_pass, compressed, small_files),
)
WRITING: tuple[Callable[[Workshop], Iterator[Row]], ...] = (
    *(convert, convert_to_disk, convert_to_s3, convert_many, convert_planes, index, choices),
)
