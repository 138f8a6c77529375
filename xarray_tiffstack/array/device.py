"""The graphics card: whether there is one, and how pixels get into its memory while they are read.

The only module that imports cupy, and only once a device was asked for. Files are read into
pinned host memory, which the card fetches from by itself, piece by piece: while one piece travels
the next is read. A device is the text ``"cuda"`` (the current card of the thread that reads) or
``"cuda:1"``, so that a task that is sent elsewhere carries nothing of this process.
"""

from __future__ import annotations

import math
import re
import threading
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# What fills the memory of one piece of an array, and the shape of that piece.
Piece: TypeAlias = "tuple[tuple[int, ...], Callable[[np.ndarray], None]]"

PIECE = 32 * 2**20  # bytes that are read, and then travel, in one go
LANES = 16  # blocks on their way at once; each holds two pieces, so 1 GiB is pinned at most

INSTALL = (
    "install cupy for your CUDA version (pip install cupy-cuda12x, or cupy-cuda13x) and "
    'cupy-xarray (pip install "xarray-tiffstack[gpu]")'
)


def check(device: str | None) -> str | None:
    """Raise where there is no such device, and spell it: None is the host.

    Raises
    ------
    ValueError
        It is no name of a device.
    ImportError
        cupy is missing.
    RuntimeError
        This machine has no such card, or no driver for it.
    """
    if device is None or device == "cpu":
        return None
    if not isinstance(device, str) or not re.fullmatch(r"cuda(:\d+)?", device):
        raise ValueError(
            f"device={device!r} is none of None (the host), 'cuda', and 'cuda:0', 'cuda:1', ..."
        )
    try:
        import cupy
    except ImportError as error:
        raise ImportError(f"{device!r} needs cupy ({error}): {INSTALL}") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        raise RuntimeError(
            f"{device!r} needs an NVIDIA card and its driver, and CUDA finds none: {error}"
        ) from error
    if (_ordinal(device) or 0) >= count:
        cards = ", ".join(f"'cuda:{i}'" for i in range(count)) or "no card"
        raise RuntimeError(f"there is no {device!r}: this machine has {cards}")
    return device


def empty(shape: tuple[int, ...], dtype: np.dtype[Any], device: str) -> Any:
    """Make an array on a device."""
    import cupy

    with cupy.cuda.Device(_ordinal(device)):
        return cupy.empty(shape, dtype)


def upload(
    shape: tuple[int, ...], dtype: np.dtype[Any], device: str, pieces: Iterable[Piece]
) -> Any:
    """Make an array on a device of pieces that follow each other in C order.

    Returns when all pixels are there, whatever stream the caller goes on with: dask hands the
    array to other threads, which know nothing of the stream here.
    """
    import cupy

    with cupy.cuda.Device(_ordinal(device)) as card, _borrowed_lane() as lane:
        array = cupy.empty(shape, dtype)
        stream = lane.stream(card.id)
        # cupy takes memory back as soon as its array is deleted, and gives it to the next one on
        # the same stream, although kernels queued there may still use it. What they wait for is
        # not ours to know: the first copy waits for all of them.
        stream.wait_event(cupy.cuda.get_current_stream().record())
        at = 0
        try:
            for half, (part, fill) in zip(cycle(lane.halves), pieces, strict=False):
                nbytes = math.prod(part) * dtype.itemsize
                fill(half.memory(nbytes).view(dtype).reshape(part))
                (array.data + at).copy_from_host_async(half.pinned.ptr, nbytes, stream)
                half.sent = stream.record(cupy.cuda.Event(block=True, disable_timing=True))
                at += nbytes
        finally:
            # After an error too: neither the buffers nor the array may go while a copy runs.
            stream.synchronize()
        return array


def on_host(array: Any) -> Any:
    """Bring an array, or each block of a dask array, to the host where it is not there yet."""
    meta = getattr(array, "_meta", array)
    if isinstance(meta, np.ndarray) or not hasattr(meta, "get"):
        return array
    return array.get() if meta is array else array.map_blocks(_get, dtype=array.dtype)


def _get(block: Any) -> Any:
    return block.get()


def _ordinal(device: str) -> int | None:
    """Give the number of a card; None is the current one."""
    _, _, number = device.partition(":")
    return int(number) if number else None


class _Half:
    """A pinned buffer, and when its last copy will have left."""

    def __init__(self) -> None:
        self.pinned: Any = None
        self.sent: Any = None
        self.size = 0

    def memory(self, nbytes: int) -> np.ndarray:
        """Give as many bytes to write to, when what they held before has left."""
        import cupy

        if self.sent is not None:
            self.sent.synchronize()
            self.sent = None
        if self.size < nbytes:  # first use, or a plane larger than a piece
            self.size = max(nbytes, PIECE)
            self.pinned = cupy.cuda.alloc_pinned_memory(self.size)
        return np.frombuffer(self.pinned, np.uint8, nbytes)


class _Lane:
    """Two buffers that take turns, and the streams that empty them; for one block at a time."""

    def __init__(self) -> None:
        self.halves = (_Half(), _Half())
        self.streams: dict[int, Any] = {}

    def stream(self, card: int) -> Any:
        """Give the stream of a card; it and the default stream do not wait for each other."""
        import cupy

        if card not in self.streams:
            self.streams[card] = cupy.cuda.Stream(non_blocking=True)
        return self.streams[card]


# Lanes and not threads own the buffers: threads come and go, in each scheduler others, and pinned
# memory is taken from all programs. Both buffers are lent at once, so that no two threads wait for
# each other's second one.
_turns = threading.BoundedSemaphore(LANES)
_idle: list[_Lane] = []


@contextmanager
def _borrowed_lane() -> Iterator[_Lane]:
    with _turns:
        try:
            lane = _idle.pop()
        except IndexError:
            lane = _Lane()
        try:
            yield lane
        finally:
            _idle.append(lane)
