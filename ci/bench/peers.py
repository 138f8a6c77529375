"""What others do for the same job, and the least that the machine can do it with."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from typing import TYPE_CHECKING

import dask
import dask.array as da
import numpy as np
import tifffile
import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SEED, UNSAMPLED = "seed script", "seed, shape known"
TIFFFILE, DASK_IMAGE, BIOIO = "tifffile", "dask-image", "bioio"


def ours(folder: Path, **keywords: object) -> xr.DataArray:
    """Open with this project."""
    return xr.open_dataset(folder, engine="tiffstack", **keywords).image


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


def dask_image(folder: Path) -> da.Array:
    """`dask_image.imread`: one axis of files."""
    from dask_image.imread import imread

    return imread(f"{folder}/*.tif")


def bioio(folder: Path, shape: tuple[int, int, int]) -> xr.DataArray:
    """bioio with bioio-tiff-glob; names must be indexed by hand."""
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


def rows_of(files: Sequence[str], page: int, row: int) -> np.ndarray:
    """One row of a page of each file, whose place in the first file holds for all."""
    with tifffile.TiffFile(files[0]) as tif:
        first = tif.pages[page]
        nbytes = first.nbytes // first.shape[0]
        offset = first.dataoffsets[0] + row * nbytes
    found = np.empty((len(files), nbytes), np.uint8)
    for line, file in zip(found, files, strict=True):
        fd = os.open(file, os.O_RDONLY)
        os.preadv(fd, [line], offset)
        os.close(fd)
    return found


def read_and_max(files: Sequence[Path], workers: int) -> int:
    """Threads that read each file as a whole and take the largest pixel."""

    def of(path: Path) -> int:
        with path.open("rb", buffering=0) as file:
            buffer = np.empty(os.fstat(file.fileno()).st_size // 2, np.uint16)
            view = memoryview(buffer).cast("B")
            while view:
                view = view[file.readinto(view) or len(view) :]
        return int(buffer.max())

    with ThreadPoolExecutor(workers) as pool:
        return max(pool.map(of, files))


def page_decoder(path: Path, page: int) -> tuple[Callable[[], np.ndarray], Callable[[], None]]:
    """Decode one page, whose place in the open file is known; and close that file."""
    tif = tifffile.TiffFile(path)
    found = tif.pages[page]
    return (lambda: found.asarray(maxworkers=1)), tif.close


def decode_and_max(files: Sequence[Path], workers: int) -> int:
    """Threads that each decode pages of one open file, bare of all else."""

    def of(path: Path) -> int:
        with tifffile.TiffFile(path) as tif:
            pages = list(tif.pages)
            keyframe = pages[0].keyframe
            largest = 0
            for page in pages:
                segments = zip(page.dataoffsets, page.databytecounts, strict=True)
                for number, (offset, count) in enumerate(segments):
                    tif.filehandle.seek(offset)
                    decoded = keyframe.decode(tif.filehandle.read(count), number)[0]
                    largest = max(largest, int(decoded.max()))
        return largest

    with ThreadPoolExecutor(workers) as pool:
        return max(pool.map(of, files))


def decode_whole_and_max(files: Sequence[Path], workers: int) -> int:
    """Threads that decode each file as a whole and take the largest pixel."""

    def of(path: Path) -> int:
        return int(tifffile.imread(path, maxworkers=1).max())

    with ThreadPoolExecutor(workers) as pool:
        return max(pool.map(of, files))


def open_and_max(files: Sequence[Path], offset: int, nbytes: int, workers: int) -> int:
    """Threads that open each small file, read its pixels, and take the largest one."""

    def of(some: Sequence[Path]) -> int:
        buffer = np.empty((len(some), nbytes // 2), np.uint16)
        for line, path in zip(buffer, some, strict=True):
            fd = os.open(path, os.O_RDONLY)
            os.preadv(fd, [line], offset)
            os.close(fd)
        return int(buffer.max())

    parts = [files[at : at + 1000] for at in range(0, len(files), 1000)]
    with ThreadPoolExecutor(workers) as pool:
        return max(pool.map(of, parts))
