"""A stand-in for cupy: no card is needed, and what comes too late comes too late.

It is not cupy and proves nothing of a card. It is there because the ways to get an upload wrong
(a buffer filled again while it still travels, an array handed over before its pixels are there,
memory given to a new array while the last one is still read) show no fault on a card that happens
to be fast enough. Here all work is done late, by a thread for each stream, in the order in which
it was queued; memory of deleted arrays is given at once to the next array on the same stream, as
cupy's pool does, and is overwritten first. So each of these gives wrong pixels.

The names are those of cupy 14 that are needed; what is none of them is NumPy's, done late.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time
import types
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.array import dispatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__version__ = "0+standin"
LATE = 0.002  # seconds from queueing to doing
DEVICES = 2
_local = threading.local()


class CUDARuntimeError(RuntimeError):
    """As cupy raises it."""


# --- streams --------------------------------------------------------------------------------


class Event:
    """Done when all that was queued on its stream before has been done."""

    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        self._done = threading.Event()
        self._done.set()

    def synchronize(self) -> None:
        assert self._done.wait(60)
        if failures:
            raise failures.pop()


class Stream:
    """Does what is queued, late and in order."""

    def __init__(self, *, non_blocking: bool = False) -> None:
        self.device = Device().id
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        threading.Thread(target=_work, args=(self._queue,), daemon=True).start()

    def __del__(self) -> None:
        self._queue.put(None)

    def put(self, work: Callable[[], object]) -> None:
        self._queue.put(work)

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event._done = done = threading.Event()
        self.put(done.set)
        return event

    def wait_event(self, event: Event) -> None:
        self.put(lambda done=event._done: done.wait(60))

    def synchronize(self) -> None:
        self.record().synchronize()

    def __enter__(self) -> Stream:
        self._before = getattr(_local, "stream", None)
        _local.stream = self
        return self

    def __exit__(self, *error: object) -> None:
        _local.stream = self._before


def _work(waiting: queue.SimpleQueue[Callable[[], object] | None]) -> None:
    while (work := waiting.get()) is not None:
        time.sleep(LATE)
        try:
            work()
        except Exception as error:
            failures.append(error)


failures: list[Exception] = []  # of what was done late, raised at the next wait


def get_current_stream() -> Stream:
    return getattr(_local, "stream", None) or _default(Device().id)


def _default(device: int) -> Stream:
    with _lock:
        if device not in _defaults:
            with Device(device):
                _defaults[device] = Stream()
        return _defaults[device]


_lock = threading.RLock()
_defaults: dict[int, Stream] = {}


class Device:
    """The current device of a thread, or another."""

    def __init__(self, device: int | None = None) -> None:
        self.id = getattr(_local, "device", 0) if device is None else device

    def __enter__(self) -> Device:
        self._before = getattr(_local, "device", 0)
        _local.device = self.id
        return self

    def __exit__(self, *error: object) -> None:
        _local.device = self._before

    def synchronize(self) -> None:
        _default(self.id).synchronize()


# --- memory ---------------------------------------------------------------------------------


class _Block:
    """Memory on a device, given back to its stream's pool when nobody holds it any more."""

    def __init__(self, nbytes: int) -> None:
        stream = get_current_stream()
        self.device, self.key = Device().id, (id(stream), nbytes)
        with _lock:
            free = _pool[self.key]
            self.memory = free.pop() if free else np.empty(nbytes, "u1")
            _held[self.device] += nbytes
            _peak[self.device] = max(_peak[self.device], _held[self.device])
        # Undefined, and not what was there by chance; in the order of the stream, where others
        # may still be reading.
        stream.put(lambda memory=self.memory: memory.fill(0xA5))

    def __del__(self) -> None:
        with _lock:
            _held[self.device] -= self.memory.nbytes
            _pool[self.key].append(self.memory)


_pool: defaultdict[object, list[np.ndarray]] = defaultdict(list)
_held: defaultdict[int, int] = defaultdict(int)
_peak: defaultdict[int, int] = defaultdict(int)


class MemoryPointer:
    """A place in the memory of a device."""

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.ptr + offset)

    def copy_from_host_async(self, mem: int, size: int, stream: Stream) -> None:
        assert _pinned[mem] >= size, "not in pinned memory"
        copies.append(size)
        stream.put(lambda to=self.ptr: ctypes.memmove(to, mem, size))


def alloc_pinned_memory(size: int) -> Any:
    memory = (ctypes.c_char * size)()
    memory.ptr = ctypes.addressof(memory)
    _pinned[memory.ptr] = size
    pinned.append(size)
    return memory


_pinned: dict[int, int] = {}
pinned: list[int] = []  # bytes of each buffer that was allocated
copies: list[int] = []  # bytes of each copy that was queued


class _MemoryPool:
    def total_bytes(self) -> int:
        return _peak[Device().id]

    def used_bytes(self) -> int:
        return _held[Device().id]

    def free_all_blocks(self) -> None:
        _peak[Device().id] = _held[Device().id]


def get_default_memory_pool() -> _MemoryPool:
    return _MemoryPool()


# --- arrays ---------------------------------------------------------------------------------


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on a device; never a NumPy array, unless `get` is asked for."""

    __array_priority__ = 100

    def __init__(self, block: _Block, view: np.ndarray) -> None:
        self._block, self._view = block, view

    shape = property(lambda self: self._view.shape)
    dtype = property(lambda self: self._view.dtype)
    ndim = property(lambda self: self._view.ndim)
    size = property(lambda self: self._view.size)
    nbytes = property(lambda self: self._view.nbytes)
    itemsize = property(lambda self: self._view.itemsize)
    T = property(lambda self: self.transpose())
    device = property(lambda self: Device(self._block.device))
    data = property(lambda self: MemoryPointer(self._view.ctypes.data))

    def __len__(self) -> int:
        return len(self._view)

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return asarray, (self.get(),)

    def get(self) -> np.ndarray:
        found: list[np.ndarray] = []
        with Device(self._block.device):
            stream = get_current_stream()
        stream.put(lambda view=self._view: found.append(view.copy()))
        stream.synchronize()
        return found[0]

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    item = __int__

    def __getitem__(self, key: Any) -> ndarray:
        if not _basic(key):
            return _late(lambda view: view[key], self)
        parts = key if isinstance(key, tuple) else (key,)
        whole = parts if ... in parts else (*parts, ...)  # of one item: an array all the same
        return ndarray(self._block, self._view[whole])

    def __setitem__(self, key: Any, value: Any) -> None:
        at, what = _mapped((key, value), lambda array: array._view)
        get_current_stream().put(lambda view=self._view: view.__setitem__(at, what))

    def transpose(self, *axes: Any) -> ndarray:
        return ndarray(self._block, self._view.transpose(*axes))

    def reshape(self, *shape: Any) -> ndarray:
        return _late(lambda view: view.reshape(*shape), self)

    def copy(self, order: str = "C") -> ndarray:  # to the current device, as cupy's
        return _late(np.copy, self)

    def astype(self, dtype: Any, copy: bool = True, order: str = "K") -> ndarray:
        return _late(lambda view: view.astype(dtype), self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(name)
        return lambda *args, **kw: _late(lambda view: getattr(view, name)(*args, **kw), self)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        kwargs.pop("out", None)
        return _late(getattr(ufunc, method), *inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in (np.array, np.asarray, np.asanyarray):
            return asarray(args[0])
        return _late(function, *args, **kwargs)


ndarray.__qualname__ = ndarray.__name__ = "ndarray"


def _basic(key: Any) -> bool:
    parts = key if isinstance(key, tuple) else (key,)
    return all(p is None or p is ... or isinstance(p, int | slice | np.integer) for p in parts)


def _late(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Queue a computation; only its shape and type are found out at once."""

    def as_zeros(value: Any) -> Any:
        return _mapped(value, lambda array: np.ones(array.shape, array.dtype))

    with np.errstate(all="ignore"):
        known = np.asarray(function(*as_zeros(args), **as_zeros(kwargs)))
    out = empty(known.shape, known.dtype)
    # Views of the memory and not the arrays: these may be deleted meanwhile, as on a card.
    held = _mapped((args, kwargs), lambda array: array._view)

    def work() -> None:
        out_view[...] = function(*held[0], **held[1])

    out_view = out._view
    get_current_stream().put(work)
    return out


def _mapped(value: Any, change: Callable[[ndarray], Any]) -> Any:
    if isinstance(value, ndarray):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(each, change) for each in value)
    if isinstance(value, dict):
        return {key: _mapped(each, change) for key, each in value.items()}
    return value


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    nbytes = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    block = _Block(nbytes)
    return ndarray(block, block.memory.view(dtype).reshape(shape))


def asarray(array: Any, dtype: Any = None) -> ndarray:
    if isinstance(array, ndarray):
        return array
    host = np.array(array, dtype)
    out = empty(host.shape, host.dtype)
    get_current_stream().put(lambda view=out._view: view.__setitem__(..., host))
    return out


def asnumpy(array: Any) -> np.ndarray:
    return array.get() if isinstance(array, ndarray) else np.asarray(array)


def concatenate(arrays: Any, axis: int = 0) -> ndarray:
    return _late(np.concatenate, list(arrays), axis=axis)


def get_default_pinned_memory_pool() -> Any:
    return types.SimpleNamespace(free_all_blocks=lambda: None, n_free_blocks=lambda: 0)


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return _numpys(getattr(np, name))


def _numpys(value: Any) -> Any:
    """Do NumPy's function late; its types and constants are what they are."""
    if isinstance(value, type) or not callable(value):
        return value
    return lambda *args, **kwargs: _late(value, *args, **kwargs)


fft = types.SimpleNamespace(
    **{name: _numpys(getattr(np.fft, name)) for name in ("rfftn", "irfftn", "ifftshift")}
)
runtime = types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDeviceCount=lambda: DEVICES,
    getDeviceProperties=lambda device: {"name": b"stand-in", "totalGlobalMem": 2**30},
    memGetInfo=lambda: (2**30 - _held[Device().id], 2**30),
    driverGetVersion=lambda: 0,
    runtimeGetVersion=lambda: 0,
)
cuda = types.SimpleNamespace(
    Device=Device,
    Event=Event,
    Stream=Stream,
    alloc_pinned_memory=alloc_pinned_memory,
    get_current_stream=get_current_stream,
    runtime=runtime,
)

# As dask does for cupy; it knows this one by no name.
dispatch.concatenate_lookup.register(ndarray, concatenate)
dispatch.numel_lookup.register(
    ndarray, lambda array, **kw: dispatch.numel_lookup(_like(array), **kw)
)


def _like(array: ndarray) -> np.ndarray:
    return np.empty(array.shape, array.dtype)


@contextmanager
def without_card() -> Iterator[None]:
    """Behave as cupy does where there is no driver."""

    def fail() -> int:
        raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    before, runtime.getDeviceCount = runtime.getDeviceCount, fail
    try:
        yield
    finally:
        runtime.getDeviceCount = before
