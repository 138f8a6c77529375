"""What others do for the same job, and the least that the machine can do it with."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from glob import glob
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.request import Request, urlopen

import dask
import dask.array as da
import fsspec
import numpy as np
import tifffile
import xarray as xr

from bench.measure import CORES, LIMIT, OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SEED, UNSAMPLED = "seed script", "seed script, shape known"
TIFFFILE, BIOIO, TENSORSTORE = "tifffile", "bioio", "tensorstore"
BUCKET = "s3://bench"


def ours(folder: Path, **keywords: object) -> xr.DataArray:
    """Open with this project."""
    return xr.open_dataset(folder, engine="tiffstack", **keywords).image


def indexed(image: xr.DataArray, place: Path) -> None:
    """Index with this project, in place of what is there."""
    shutil.rmtree(place, ignore_errors=True)
    image.tiffstack.to_virtual(place)


def index_reader(place: Path) -> Callable[[int, int, int], np.ndarray]:
    """Read planes of an index by zarr."""
    from xarray_tiffstack import open_index

    tree = xr.open_datatree(open_index(place), engine="zarr")
    image = tree["0"].image
    return lambda c, stack, z: image.isel(channel=c, stack=stack, z=z).to_numpy()


# --- the peers, each as its own documentation says ------------------------------------------


def seed(folder: Path, sample: np.ndarray | None = None) -> da.Array:
    """Do what everybody writes: glob, split at "_", one delayed read a file, block."""
    files = sorted(glob(f"{folder}/*.tif"))
    channels, stacks = (
        sorted({os.path.basename(file).split("_")[i] for file in files}) for i in (2, 4)
    )
    sample = tifffile.imread(files[0]) if sample is None else sample
    read = dask.delayed(tifffile.imread)
    arrays = np.empty((len(channels), len(stacks), 1, 1, 1), dtype=object)
    for file in files:
        fields = os.path.basename(file).split("_")
        array = da.from_delayed(read(file), shape=sample.shape, dtype=sample.dtype)
        arrays[channels.index(fields[2]), stacks.index(fields[4]), 0, 0, 0] = array
    return da.block(arrays.tolist())


def tifffile_zarr(folder: Path) -> da.Array:
    """`tifffile.TiffSequence` as a Zarr store, read by dask."""
    sequence = tifffile.TiffSequence(f"{folder}/*.tif", pattern=r"_(ch)(\d+)_CAM1_(stack)(\d+)_")
    return da.from_zarr(sequence.aszarr())


def bioio(folder: Path, shape: tuple[int, int, int]) -> xr.DataArray:
    """bioio with bioio-tiff-glob; the caller has to read the names."""
    import pandas as pd
    from bioio_tiff_glob import Reader

    def index(path: str) -> pd.Series:
        ch, stack = re.search(r"_ch(\d+)_CAM1_stack(\d+)_", path).groups()
        return pd.Series({"S": 0, "T": int(stack), "C": int(ch), "Z": 0})

    reader = Reader(
        f"{folder}/*.tif",
        indexer=index,
        chunk_dims=["Z", "Y", "X"],
        single_file_dims=["Z", "Y", "X"],
        single_file_shape=shape,
    )
    return reader.xarray_dask_data


# --- writing, all to a folder or a URL that is emptied first --------------------------------


def writers(folder: Path, where: str) -> dict[str, Callable[[], object]]:
    """Write full resolution to stores in a folder or bucket, all of the same chunks and codecs."""
    ours_to(folder, f"{where}/ours", levels=1)
    with fsspec.open(f"{where}/ours/0/image/zarr.json") as file:
        like = json.load(file)
    return {
        OURS: lambda: ours_to(folder, f"{where}/ours", levels=1),
        TENSORSTORE: lambda: tensorstore_to(folder, f"{where}/tensorstore", like),
        LIMIT: lambda: bare_to(folder, f"{where}/bare", like),
    }


def ours_to(folder: Path, store: str, **options: Any) -> None:
    """Convert with this package."""
    ds = xr.open_dataset(folder, engine="tiffstack", unmatched="ignore")
    ds.tiffstack.to_ome_zarr(emptied(store), overwrite=True, progress=False, **options)


def seed_to(folder: Path, store: str) -> None:
    """Do what everybody writes."""
    seed(folder).to_zarr(emptied(store))


def tensorstore_to(folder: Path, store: str, like: dict[str, Any]) -> None:
    """Write the same array with tensorstore; each thread takes a file."""
    import tensorstore as ts

    kvstore: dict[str, Any] = {"driver": "file", "path": f"{emptied(store)}/"}
    if store.startswith(BUCKET):
        server = {"bucket": "bench", "endpoint": os.environ["AWS_ENDPOINT_URL"]}
        kvstore = {"driver": "s3", "path": f"{store.removeprefix(BUCKET)[1:]}/", **server}
    drop = ("attributes", "dimension_names", "storage_transformers", "consolidated_metadata")
    metadata = {key: value for key, value in like.items() if key not in drop}
    spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata}
    array = ts.open(spec, create=True, delete_existing=True).result()

    def write(i: int, pixels: np.ndarray) -> None:
        channel, stack = divmod(i, like["shape"][0])
        array[stack, channel].write(pixels).result()

    _each_file(folder, write)


def bare_to(folder: Path, store: str, like: dict[str, Any]) -> None:
    """Compress the same chunks with the same codec, and write each to a file. Nothing else."""
    from numcodecs import Blosc

    Path(emptied(store)).mkdir()
    blosc = next(codec for codec in like["codecs"] if codec["name"] == "blosc")["configuration"]
    codec = Blosc(blosc["cname"], blosc["clevel"], Blosc.BITSHUFFLE)
    chunk = like["chunk_grid"]["configuration"]["chunk_shape"][2:]

    def write(i: int, pixels: np.ndarray) -> None:
        starts = (range(0, n, c) for n, c in zip(pixels.shape, chunk, strict=True))
        for n, start in enumerate(product(*starts)):
            part = tuple(slice(s, s + c) for s, c in zip(start, chunk, strict=True))
            data = codec.encode(np.ascontiguousarray(pixels[part]))
            Path(store, f"{i}.{n}").write_bytes(data)

    _each_file(folder, write)


def _each_file(folder: Path, write: Callable[[int, np.ndarray], None]) -> None:
    """Threads that read each file and write it."""
    files = sorted(folder.iterdir())
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda i: write(i, tifffile.imread(files[i])), range(len(files))))


def emptied(store: str) -> str:
    """Make room for a store in a folder; every contender pays for that."""
    if not store.startswith(BUCKET):
        shutil.rmtree(store, ignore_errors=True)
    return store


@contextmanager
def s3_server() -> Iterator[None]:
    """Run moto's S3 server, with an empty bucket, for whoever looks at the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    endpoint = f"http://127.0.0.1:{port}"
    leads = {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
    leads |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    leads |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    log = subprocess.DEVNULL
    command = [sys.executable, "-m", "moto.server", "-p", port]
    with patch.dict(os.environ, leads), subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _wait_for(port)
            urlopen(Request(f"{endpoint}/{BUCKET.removeprefix('s3://')}", method="PUT")).close()
            yield
        finally:
            server.terminate()


def _wait_for(port: str) -> None:
    for _ in range(600):
        with socket.socket() as trial:
            if not trial.connect_ex(("127.0.0.1", int(port))):
                return
        time.sleep(0.1)
    raise TimeoutError("moto's server did not start")


# --- the limits -----------------------------------------------------------------------------


def listing(folder: Path) -> list[str]:
    """List and sort."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


def plane_reader(path: Path, page: int) -> Callable[[], bytes]:
    """One `pread` of the bytes of a page."""
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[page].dataoffsets[0], tif.pages[page].nbytes

    def read() -> bytes:
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.pread(fd, count, offset)
        finally:
            os.close(fd)

    return read


def read_and_max(files: Sequence[Path]) -> int:
    """Threads that read each file at once and take its largest pixel."""

    def of(path: Path) -> int:
        return int(np.fromfile(path, np.uint16).max())

    with ThreadPoolExecutor(CORES) as pool:
        return max(pool.map(of, files))


def decode_and_max(files: Sequence[Path]) -> int:
    """Threads that decode the strips or tiles of open files one by one. Nothing else."""

    def of(path: Path) -> int:
        with tifffile.TiffFile(path) as tif:
            decode, largest = tif.pages[0].keyframe.decode, 0
            for page in tif.pages:
                segments = zip(page.dataoffsets, page.databytecounts, strict=True)
                for number, (offset, count) in enumerate(segments):
                    tif.filehandle.seek(offset)
                    pixels = decode(tif.filehandle.read(count), number)[0]
                    largest = max(largest, int(pixels.max()))
        return largest

    with ThreadPoolExecutor(CORES) as pool:
        return max(pool.map(of, files))
