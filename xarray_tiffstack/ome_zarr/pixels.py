"""How pixels get into the chunks and shards of an array, and back: by tensorstore, or by zarr.

tensorstore takes half the processor time of zarr, and writes the same bytes (the tests compare
them). It is an optional package, it knows local folders, Amazon S3 and Google Cloud Storage, and
not every codec; zarr does the rest. Either way what was written survives a power failure when the
assignment returns.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import zarr

from xarray_tiffstack.ome_zarr.levels import Memory
from xarray_tiffstack.ome_zarr.metadata import zarr_format

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zarr.abc.store import Store

    from xarray_tiffstack.ome_zarr.images import Image
    from xarray_tiffstack.ome_zarr.plan import Plan

Target: TypeAlias = "Path | str | Store"
Slices: TypeAlias = tuple[slice, ...]

PARTIAL = ("*.partial", "*.__lock")  # what a killed write of zarr, or of tensorstore, leaves


class Pixels(Protocol):
    """Pixels of one level of one image."""

    def __getitem__(self, region: Slices) -> np.ndarray:
        """Read a region; what the same thread read before may be gone then."""

    def __setitem__(self, region: Slices, pixels: np.ndarray) -> None:
        """Write a region that is made of entire stored objects, or reaches the end."""


class Arrays:
    """Arrays of all levels of all images, each opened when it is needed."""

    def __init__(
        self, plan: Plan, target: Target, engine: str = "auto", workers: int | None = None
    ) -> None:
        self.plan, self.target, self.engine, self.workers = plan, target, engine, workers
        self._open: dict[tuple[str, int], Pixels] = {}

    def __getitem__(self, place: tuple[Image, int]) -> Pixels:
        """Open a level of an image."""
        image, level = place
        key = image.path, level
        if key not in self._open:
            path = f"{image.group(level)}/image"
            driver = "zarr3" if zarr_format(self.plan.settings.ngff_version) == 3 else "zarr"
            self._open[key] = open_pixels(self.target, path, driver, self.engine, self.workers)
        return self._open[key]


def open_pixels(
    target: Target,
    path: str,
    driver: str,
    engine: str = "auto",
    workers: int | None = None,
    memory: Memory | None = None,
) -> Pixels:
    """Open an array with tensorstore where that can, or with zarr.

    Parameters
    ----------
    target
        The store.
    path
        Of the array in it.
    driver
        ``"zarr"`` of format 2, or ``"zarr3"``.
    engine
        ``"zarr"`` leaves tensorstore aside.
    workers
        Threads that compress; by default one a processor.
    memory
        What is read is in it until the same thread reads again; by default that of all arrays.
    """
    store = _kvstore(target, path) if engine != "zarr" else None
    found = _tensorstore(store, driver, workers, memory or _read) if store else None
    return found or _zarr(target, path)


def _kvstore(target: Target, path: str) -> dict[str, Any] | None:
    """Name a place as tensorstore does; None where it cannot."""
    if find_spec("tensorstore") is None:
        return None
    if isinstance(target, Path):
        return {"driver": "file", "path": f"{(target / path).as_posix()}/"}
    scheme, _, rest = target.partition("://") if isinstance(target, str) else ("", "", "")
    bucket, _, prefix = rest.partition("/")
    store = {"bucket": bucket, "path": f"{prefix.rstrip('/')}/{path}/".lstrip("/")}
    if scheme in ("gs", "gcs"):
        return {"driver": "gcs", **store}
    if scheme in ("s3", "s3a"):
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "FSSPEC_S3_ENDPOINT_URL")
        endpoint = next(filter(None, map(os.environ.get, names)), None)
        return {"driver": "s3", **store, **({"endpoint": endpoint} if endpoint else {})}
    return None


@lru_cache(maxsize=4)
def _context(workers: int | None) -> Any:
    """Give all arrays the same so many threads."""
    import tensorstore

    return tensorstore.Context({"data_copy_concurrency": {"limit": workers or "shared"}})


def _tensorstore(
    store: dict[str, Any], driver: str, workers: int | None, memory: Memory
) -> Pixels | None:
    """Open an array with tensorstore; None where it knows not its codec, or not the way there."""
    import tensorstore

    try:
        spec = {"driver": driver, "kvstore": store}
        array = tensorstore.open(spec, open=True, context=_context(workers)).result()
    except (ValueError, NotImplementedError, RuntimeError, OSError):
        return None
    return (_Tensorstore if driver == "zarr3" else _TensorstoreZarr2)(array, memory)


_read = Memory()  # half the processor time of memory that is new


class _Tensorstore:
    def __init__(self, array: Any, memory: Memory) -> None:
        self.array, self.memory = array, memory

    def __getitem__(self, region: Slices) -> np.ndarray:
        import tensorstore

        shape = [along.stop - along.start for along in region]
        pixels = self.memory.array(shape, self.array.dtype.numpy_dtype)
        tensorstore.array(pixels).write(self.array[region]).result()
        return pixels

    def __setitem__(self, region: Slices, pixels: np.ndarray) -> None:
        self.array[region].write(pixels).result()


class _TensorstoreZarr2(_Tensorstore):
    """Leaves out chunks of zeros, as zarr does; tensorstore only where a fill value is named."""

    def __setitem__(self, region: Slices, pixels: np.ndarray) -> None:
        done = []
        for index, inside in met(region, self.array.chunk_layout.write_chunk.shape):
            part = np.ascontiguousarray(pixels[inside])
            if part.view(np.uint8).any():  # byte by byte: -0.0 is not 0
                at = tuple(
                    slice(along.start + s.start, along.start + s.stop)
                    for along, s in zip(region, inside, strict=True)
                )
                done.append(self.array[at].write(part))
            else:
                key = "/".join(map(str, index))
                done.append(self.array.kvstore.write(key, None))
        for each in done:
            each.result()


def _zarr(target: Target, path: str) -> Pixels:
    try:
        array: Any = zarr.open_array(target, path=path, mode="r+")
    except (PermissionError, OSError):
        array = zarr.open_array(target, path=path, mode="r")
    return _OnDisk(array, target / path) if isinstance(target, Path) else array


class _OnDisk:
    """An array of zarr in a local folder, whose chunks are on the disk when it returns."""

    def __init__(self, array: Any, folder: Path) -> None:
        self.array = array
        self.folder = folder / "c" if array.metadata.zarr_format == 3 else folder

    def __getitem__(self, region: Slices) -> Any:
        return self.array[region]

    def __setitem__(self, region: Slices, pixels: np.ndarray) -> None:
        self.array[region] = pixels
        for index, _ in met(region, self.array.shards or self.array.chunks):
            path = self.folder.joinpath(*map(str, index))
            if path.exists():
                settle(path)


def settle(path: Path) -> None:
    """Have a file or folder on the disk, not in memory only."""
    if path.is_dir() and os.name == "nt":  # Windows has no such thing
        return
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def met(region: Slices, unit: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Slices]]:
    """Objects of a regular grid that a region meets.

    Yields
    ------
    index
        Position in the grid.
    inside
        Which part of the region it is.
    """
    axes = [
        [
            (i, slice(max(s.start, i * n) - s.start, min(s.stop, (i + 1) * n) - s.start))
            for i in range(s.start // n, -(-s.stop // n))
        ]
        for s, n in zip(region, unit, strict=True)
    ]
    for along in product(*axes):
        index, inside = zip(*along, strict=True)
        yield index, inside
