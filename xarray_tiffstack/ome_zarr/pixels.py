"""How pixels get into the chunks and shards of an array, and back: by tensorstore, or by zarr.

tensorstore takes half the processor time of zarr, and writes the same bytes (the tests compare
them). It is an optional package, it knows local folders, Amazon S3 and Google Cloud Storage, and
not every codec; zarr does the rest. Either way what was written to a disk survives a power failure
when the assignment returns. What goes to the cloud may still be on its way then, see `arrived`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
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

ON_THEIR_WAY = 2  # writes of a thread to the cloud that it does not wait for
PARTIAL = ("*.partial", "*.__lock")  # what a killed write of zarr, or of tensorstore, leaves


class Pixels(Protocol):
    """Pixels of one level of one image."""

    def __getitem__(self, region: Slices) -> np.ndarray:
        """Read a region; what the same thread read before may be gone then."""

    def __setitem__(self, region: Slices, pixels: np.ndarray) -> None:
        """Write a region that is made of entire stored objects, or reaches the end.

        In the cloud it may still be on its way: see `arrived`.
        """


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
    store = kvstore_of(target, path) if engine != "zarr" else None
    found = _tensorstore(store, driver, workers, memory or _read) if store else None
    return found or _zarr(target, path)


def kvstore_of(target: Target, path: str) -> dict[str, Any] | None:
    """Name a place in a store as tensorstore does; None where it cannot."""
    if find_spec("tensorstore") is None:
        return None
    if isinstance(target, Path):
        return {"driver": "file", "path": f"{(target / path).as_posix()}/"}
    scheme, _, rest = target.partition("://") if isinstance(target, str) else ("", "", "")
    bucket, _, prefix = rest.partition("/")
    inside = f"{prefix.strip('/')}/{path}".strip("/")
    store = {"bucket": bucket, "path": f"{inside}/" if inside else ""}
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
    make = _Tensorstore if driver == "zarr3" else _TensorstoreZarr2
    return make(array, memory, far=store["driver"] != "file")


_read = Memory()  # half the processor time of memory that is new


class _Sent(threading.local):
    """What a thread has sent to a store in the cloud, and not heard of yet."""

    def __init__(self) -> None:
        self.left: deque[Any] = deque()


_sent = _Sent()


def arrived() -> None:
    """Wait until all that this thread wrote is in the store; raises what went wrong."""
    try:
        while _sent.left:
            _sent.left.popleft().result()
    finally:
        _sent.left.clear()


class _Tensorstore:
    """An array; in the cloud a thread goes on while what it wrote is on its way."""

    def __init__(self, array: Any, memory: Memory, *, far: bool) -> None:
        self.array, self.memory, self.far = array, memory, far

    def __getitem__(self, region: Slices) -> np.ndarray:
        import tensorstore

        shape = [along.stop - along.start for along in region]
        pixels = self.memory.array(shape, self.array.dtype.numpy_dtype)
        tensorstore.array(pixels).write(self.array[region]).result()
        return pixels

    def __setitem__(self, region: Slices, pixels: np.ndarray) -> None:
        self._put([self.array[region].write(pixels)])

    def _put(self, writes: Sequence[Any]) -> None:
        """Have writes done, or on their way, with no more than a few of them at once."""
        if not self.far:
            for each in writes:
                each.result()
            return
        for each in writes:
            each.copy.result()  # the memory of the pixels is used again
            each.commit.force()
        _sent.left.extend(writes)
        while len(_sent.left) > ON_THEIR_WAY:
            _sent.left.popleft().result()


class _TensorstoreZarr2(_Tensorstore):
    """Leaves out chunks of zeros, as zarr does; tensorstore only where a fill value is named."""

    def __setitem__(self, region: Slices, pixels: np.ndarray) -> None:
        done, none = [], []
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
                none.append(self.array.kvstore.write(key, None))
        for each in none:
            each.result()
        self._put(done)


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
