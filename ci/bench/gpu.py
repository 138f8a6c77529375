"""Run the GPU benchmark: ``sh ci/gpu.sh``. What a card gets of the files, and how fast."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import date
from functools import cache, partial
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cupy as cp
import dask
import numpy as np
import tifffile
from scipy import ndimage

from bench import peers
from bench.data import Workshop
from bench.measure import OURS, Row, cores
from bench.page import as_text, measured_table, replace, targets_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import dask.array as da
    import xarray as xr

ROOT = Path(__file__).resolve().parents[2]
WORKERS = min(cores(), 8)  # each has a file on the card
SEED, ASARRAY = "seed script, map_blocks(cp.asarray)", "ours, map_blocks(cp.asarray)"
COPY, READ = "pinned copy of the same bytes", "the read alone"
KVIKIO, NVIMGCODEC = "kvikio", "nvImageCodec"
PSF = (2, 1.5, 1.5)
MIB = 2**20


# --- the contenders -------------------------------------------------------------------------


def first_block(array: da.Array) -> Any:
    """Compute the only chunk in this thread, without the copy that `compute` makes of it."""
    block = array.to_delayed().item().compute(scheduler="synchronous")
    cp.cuda.Device().synchronize()
    return block


def largest(array: da.Array) -> int:
    """Read all, and reduce it on the card."""
    found = int(array.max().compute(num_workers=WORKERS))
    cp.cuda.Device().synchronize()
    return found


def copier(nbytes: int, times: int = 1) -> Callable[[], None]:
    """Copy pinned memory to the card, as often as that, into the same place."""
    pinned = cp.cuda.alloc_pinned_memory(nbytes)
    np.frombuffer(pinned, np.uint8, nbytes)[...] = 1
    target, stream = cp.empty(nbytes, np.uint8), cp.cuda.Stream(non_blocking=True)

    def copy() -> None:
        for _ in range(times):
            target.data.copy_from_host_async(pinned.ptr, nbytes, stream)
        stream.synchronize()

    return copy


def reader(files: Sequence[Path], workers: int) -> Callable[[], None]:
    """Read whole files in threads, each into memory of its own that is there already."""
    size = max(path.stat().st_size for path in files)
    parts = [files[i::workers] for i in range(min(workers, len(files)))]
    buffers = [np.ones(size, np.uint8) for _ in parts]

    def of(part: Sequence[Path], buffer: np.ndarray) -> None:
        for path in part:
            with path.open("rb", buffering=0) as file:
                view = memoryview(buffer)[: os.fstat(file.fileno()).st_size]
                while view:
                    view = view[file.readinto(view) or len(view) :]

    def read() -> None:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(of, parts, buffers))

    return read


def runs(path: Path) -> list[tuple[int, int]]:
    """Offset and length of what is stored in one piece in an uncompressed file."""
    with tifffile.TiffFile(path) as tif:
        pages = sorted((page.dataoffsets[0], page.nbytes) for page in tif.pages)
    starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(pages)) if sum(a) != b[0]), len(pages)]
    return [(pages[i][0], sum(n for _, n in pages[i:j])) for i, j in pairwise(starts)]


def kvikio(path: Path) -> Callable[[], Any]:
    """Read one file to the card by kvikio, whose place in the file is known."""
    pieces = runs(path)

    def read() -> Any:
        import kvikio

        target = cp.empty(sum(n for _, n in pieces), np.uint8)
        with kvikio.CuFile(str(path), "r") as file:
            at, pending = 0, []
            for offset, nbytes in pieces:
                pending.append(file.pread(target[at : at + nbytes], nbytes, offset))
                at += nbytes
            for each in pending:
                each.get()
        cp.cuda.Device().synchronize()
        return target

    return read


def nvimgcodec(path: Path) -> Callable[[], Any]:
    """Decode all pages of one file on the card by nvImageCodec."""

    @cache
    def decoder() -> Any:
        from nvidia import nvimgcodec

        return nvimgcodec.Decoder()

    def decode() -> Any:
        from nvidia import nvimgcodec

        params = nvimgcodec.DecodeParams(
            allow_any_depth=True, color_spec=nvimgcodec.ColorSpec.UNCHANGED
        )
        stream = nvimgcodec.CodeStream(str(path))
        pages = [stream.get_sub_code_stream(i) for i in range(stream.num_images)]
        images = decoder().decode(pages, params=params)
        if any(image is None for image in images):
            raise ValueError("it cannot decode these pages")
        cp.cuda.Device().synchronize()
        return images

    return decode


def where_installed(module: str, name: str, run: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """Contend where the package is there."""
    root = module.partition(".")[0]
    return {name: run} if find_spec(root) is not None and find_spec(module) is not None else {}


# --- the rows -------------------------------------------------------------------------------


def one_stack(shop: Workshop) -> Iterator[Row]:
    """Bring one file of 316 MB to the card."""
    path = sorted(shop.noisy.iterdir())[0]
    at = {"channel": 0, "stack": 0}
    card = peers.ours(shop.noisy, device="cuda").isel(at).data
    host = peers.ours(shop.noisy).isel(at).data
    seed = peers.seed(shop.noisy)[0, 0]
    row = Row("file to card, one stack", "0.8x of the smaller limit; 2x the seed's line")
    row.race(
        {
            OURS: lambda: first_block(card),
            SEED: lambda: first_block(seed.map_blocks(cp.asarray)),
            ASARRAY: lambda: first_block(host.map_blocks(cp.asarray)),
            COPY: copier(card.nbytes),
            READ: reader([path], 1),
            **where_installed("kvikio", KVIKIO, kvikio(path)),
        },
        3 if shop.quick else 15,
    )
    np.testing.assert_array_equal(first_block(card).get(), tifffile.imread(path))
    _judge(row, card.nbytes)
    yield row


def pass_over_many(shop: Workshop) -> Iterator[Row]:
    """Find the largest pixel of many files, which are in the page cache."""
    folder = many(shop)
    files = sorted(folder.iterdir())
    card, host = peers.ours(folder, device="cuda").data, peers.ours(folder).data
    seed = peers.seed(folder)
    row = Row(
        f"file to card, {len(files)} stacks, their max() there",
        "0.8x of the smaller limit; 2x the seed's line",
    )
    row.race(
        {
            OURS: lambda: largest(card),
            SEED: lambda: largest(seed.map_blocks(cp.asarray)),
            ASARRAY: lambda: largest(host.map_blocks(cp.asarray)),
            COPY: copier(card.nbytes // len(files), len(files)),
            READ: reader(files, WORKERS),
        },
        2 if shop.quick else 7,
    )
    assert largest(card) == max(int(tifffile.imread(path).max()) for path in shop.noisy.iterdir())
    _judge(row, card.nbytes)
    yield row


def many(shop: Workshop) -> Path:
    """The few noisy files under many names."""
    folder = shop.folder / "many"
    stacks = 2 if shop.small else 8 if shop.quick else 27
    return folder if folder.exists() else shop.noisy_as(folder.name, stacks)


def _judge(row: Row, nbytes: int) -> None:
    """Compare with the smaller limit, and with the seed."""
    limit = max((COPY, READ), key=lambda name: row.times[name])
    rate = {name: nbytes / seconds / 1e9 for name, seconds in row.times.items()}
    row.figures |= {f"GB/s, {name}": each for name, each in rate.items()}
    row.reached = row.ratio(limit) >= 0.8 and row.ratio(SEED) >= 2
    row.measured = (
        f"{rate[OURS]:.2f} GB/s: {row.ratio(limit):.2f}x of {limit} ({rate[limit]:.2f} GB/s), "
        f"{row.ratio(SEED):.1f}x the seed's line ({rate[SEED]:.2f} GB/s)"
    )


def compressed_stacks(shop: Workshop) -> Iterator[Row]:
    """Bring compressed files to the card, decoded on the host and, where installed, there."""
    for kind, folder in shop.compressed.items():
        path = sorted(folder.iterdir())[0]
        card = peers.ours(folder, device="cuda").isel(channel=0, stack=0).data
        row = Row(f"compressed file to card, {kind}", "")
        row.race(
            {
                OURS: lambda card=card: first_block(card),
                **where_installed("nvidia.nvimgcodec", NVIMGCODEC, nvimgcodec(path)),
            },
            2 if shop.quick else 7,
        )
        row.measured = f"{card.nbytes / row.times[OURS] / 1e9:.2f} GB/s, decoded on the host"
        if NVIMGCODEC in row.rounds:
            row.measured += f"; {1 / row.ratio(NVIMGCODEC):.2f}x as fast by nvImageCodec"
        yield row


def deconvolution(shop: Workshop) -> Iterator[Row]:
    """Run the example of docs/gpu.md on part of a stack, on the card and on the host."""
    blur = partial(ndimage.gaussian_filter, sigma=PSF)
    size = {d: min(n, m) for d, n, m in zip("zyx", shop.shape, (96, 512, 512), strict=True)}
    part = {d: slice(0, n) for d, n in size.items()}
    margin = 3 if shop.small else 16

    def restored(device: str | None) -> xr.DataArray:
        image = peers.ours(shop.noisy, device=device).isel(channel=0, stack=0).isel(part)
        parts = 2 if device else math.ceil(math.sqrt(cores()))
        image = image.chunk({d: -(-size[d] // parts) for d in "yx"}).astype("float32")
        on = gpu_blur if device else blur
        blocks = image.data.map_overlap(
            partial(richardson_lucy, blur=on, iterations=10),
            depth=margin,
            boundary="reflect",
            meta=image.data._meta,
        )
        return image.copy(data=blocks)

    gpu_blur = partial(card_ndimage().gaussian_filter, sigma=PSF)
    row = Row(f"Richardson-Lucy of {' x '.join(map(str, size.values()))}", "")
    cpu = f"the same on {cores()} cores"
    row.race(
        {
            OURS: lambda: restored("cuda").compute(num_workers=2).as_numpy(),
            cpu: lambda: restored(None).compute(num_workers=cores()),
        },
        1 if shop.quick else 3,
    )
    there, here = restored("cuda").compute().as_numpy(), restored(None).compute()
    row.figures["largest difference, of the largest pixel"] = float(
        abs(there - here).max() / here.max()
    )
    assert row.figures["largest difference, of the largest pixel"] < 1e-3
    row.measured = f"{row.times[OURS]:.2f} s, {row.ratio(cpu):.1f}x as fast as {cpu}"
    yield row


def richardson_lucy(block: Any, blur: Callable[[Any], Any], iterations: int) -> Any:
    """Deconvolve by a Gaussian, which is its own mirror image."""
    estimate = block
    for _ in range(iterations):
        estimate = estimate * blur(block / (blur(estimate) + 1e-3))
    return estimate


def card_ndimage() -> Any:
    """The filters that run on the card."""
    from cupyx.scipy import ndimage

    return ndimage


def memory(shop: Workshop) -> Iterator[Row]:
    """Bring 1,000 blocks to the card, and see what memory that takes."""
    image = peers.ours(many(shop), device="cuda").chunk(z=1 if shop.small else 16)
    blocks = image.data.to_delayed().ravel()[:1000]
    block = int(np.prod(image.data.chunksize)) * image.dtype.itemsize
    cp.get_default_memory_pool().free_all_blocks()
    before, used = _taken(), {}
    sizes = dask.delayed(lambda part: part.size)
    tenth = max(1, len(blocks) // 10)
    for at in range(0, len(blocks), tenth):
        some = blocks[at : at + tenth]
        dask.compute(*map(sizes, some), scheduler="threads", num_workers=WORKERS)
        used[at + len(some)] = [now - then for now, then in zip(_taken(), before, strict=True)]
    first, last = (used[n] for n in (min(used), max(used)))
    row = Row(f"memory over {len(blocks):,} blocks of {block / MIB:.0f} MiB", "no growth")
    row.figures = {
        "card, bytes after the first tenth": first[0],
        "card, bytes after all": last[0],
        "host, bytes after the first tenth": first[1],
        "host, bytes after all": last[1],
    }
    # Threads do not always hold a block all at once; one a thread is no growth.
    row.reached = all(b - a <= WORKERS * block for a, b in zip(first, last, strict=True))
    row.measured = (
        f"card {first[0] / MIB:.0f} MiB after the first tenth, {last[0] / MIB:.0f} MiB after all; "
        f"host {first[1] / MIB:.0f} and {last[1] / MIB:.0f} MiB"
    )
    yield row


def _taken() -> tuple[int, int]:
    """Bytes in use: of the card, and of this process."""
    free, total = cp.cuda.runtime.memGetInfo()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return total - free, pages * os.sysconf("SC_PAGE_SIZE")


ROWS = (one_stack, pass_over_many, compressed_stacks, deconvolution, memory)


# --- the run --------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """Say what the figures were measured on."""
    properties = cp.cuda.runtime.getDeviceProperties(0)
    modules = {"cupy", "cupy_xarray", "xarray", "dask", "numpy", "scipy", "kvikio"}
    found = {name: packages_distributions().get(name, ()) for name in sorted(modules)}
    ram = Path("/proc/meminfo").read_text().split()[1]
    return {
        "card": properties["name"].decode(),
        "its memory": f"{properties['totalGlobalMem'] / 2**30:.0f} GiB",
        "driver": driver(),
        "CUDA": str(cp.cuda.runtime.runtimeGetVersion()),
        "date": date.today().isoformat(),
        "cores": str(cores()),
        "memory": f"{int(ram) / 2**20:.0f} GiB",
        **{owners[0]: version(owners[0]) for owners in found.values() if owners},
    }


def driver() -> str:
    """Version of the driver."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return f"for CUDA {cp.cuda.runtime.driverGetVersion()}"


def write_page(page: Path, rows: Sequence[Row], found: Mapping[str, str]) -> None:
    """Put the figures into the page."""
    parts = {
        "machine": ", ".join(f"{name} {value}" for name, value in found.items()) + ".",
        "figures": targets_table([row for row in rows if row.target]),
        "beside": measured_table([row for row in rows if not row.target]),
    }
    replace(page, parts, "ci/gpu.sh")


def main() -> None:
    """Measure every row, print it at once, and write the results down."""
    parser = argparse.ArgumentParser(prog="sh ci/gpu.sh", description=__doc__)
    parser.add_argument("--folder", help="where to build the data (4 GB; a temporary folder)")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "gpu.json")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tiffstack-gpu-", dir=args.folder) as folder:
        shop = Workshop(Path(folder), quick=False)
        for measure in ROWS:
            for row in measure(shop):
                print(as_text(row), flush=True)
                rows.append(row)
    found = machine()
    args.json.parent.mkdir(parents=True, exist_ok=True)
    results = {"machine": found, "rows": [asdict(row) for row in rows]}
    args.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_page(ROOT / "docs" / "gpu.md", rows, found)
    print(f"results in {args.json}; docs/gpu.md has the figures")


if __name__ == "__main__":
    main()
