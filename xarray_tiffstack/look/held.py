"""What a server of pixels keeps in memory, and how it sees that a file has changed."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

Place: TypeAlias = dict[str, Any]  # an int or a slice along dimensions


class FileStates:
    """The file of each slot, and whether it has changed."""

    def __init__(self, ds: xr.Dataset) -> None:
        self.known = "path" in ds.coords
        self.dims: tuple[Any, ...] = ()
        self.paths = np.zeros(0, object)
        if self.known:
            self.dims = ds["path"].dims
            self.paths = ds["path"].values.astype(object)
            if "present" in ds.coords:
                present = ds["present"].transpose(*self.dims).values
                self.paths = np.where(present == True, self.paths, "")  # noqa: E712 - or NaN

    def of(self, place: Place) -> list[str]:
        """List the files of a part of the image."""
        taken = self.paths[tuple(place.get(d, slice(None)) for d in self.dims)]
        return [p for p in np.ravel(taken) if isinstance(p, str) and p]

    def any(self, place: Place) -> bool:
        """Whether a part of the image has any file, as far as the Dataset knows them."""
        return not self.known or bool(self.of(place))

    def tag(self, place: Place) -> str:
        """Sum up the state of the files of a part of the image."""
        states = []
        for path in self.of(place):
            try:
                state = os.stat(path)
                states.append((path, state.st_size, state.st_mtime_ns))
            except OSError:
                states.append((path, -1, 0))
        return hashlib.blake2b(repr(states).encode(), digest_size=16).hexdigest()


class Cache:
    """Arrays by key, the last used ones up to a number of bytes; each is made once."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self.arrays: OrderedDict[str, tuple[np.ndarray, ...]] = OrderedDict()
        self.lock = threading.Lock()
        self.making: dict[str, threading.Lock] = {}

    def get(self, key: str, make: Callable[[], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        """Find arrays, or make them; who asks for the same meanwhile waits for it."""
        with self.lock:
            own = self.making.setdefault(key, threading.Lock())
        with own:
            with self.lock:
                if key in self.arrays:
                    self.arrays.move_to_end(key)
                    return self.arrays[key]
            arrays = make()
            with self.lock:
                self.arrays[key] = arrays
                self.held += sum(array.nbytes for array in arrays)
                while self.held > self.limit and len(self.arrays) > 1:
                    _, old = self.arrays.popitem(last=False)
                    self.held -= sum(array.nbytes for array in old)
                self.making.pop(key, None)
            return arrays
