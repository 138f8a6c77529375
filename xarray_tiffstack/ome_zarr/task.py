"""Work on one piece of a store that any process can do: what a task takes along, and what stays.

A task is a few hundred bytes. What it is about (the Dataset with the paths of all files, the
settings, the store) goes to a process once, and is kept there. A small description goes with every
task; a large one only when a process answers that it does not know it.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import zlib
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable

    from xarray_tiffstack.ome_zarr.store import Store

Item = TypeVar("Item")
Result = TypeVar("Result")

SMALL = 2**15  # bytes of a description that every task takes along
KEPT = 2  # descriptions that a process keeps: of a conversion, and of its verification


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What comes back from a task."""

    who: str
    """The thread that did it."""
    result: Result | None = None
    """What it gave."""
    error: Exception | None = None
    """What it raised."""
    unknown: bool = False
    """Whether nothing was done, because the process does not know what the task is about."""


class Task(Generic[Item, Result]):
    """Something that is done with many pieces of a store.

    Parameters
    ----------
    work
        What is done: takes the store, and one piece.
    store
        The store; in another process one that is opened there.
    """

    def __init__(self, work: Callable[[Store, Item], Result], store: Store) -> None:
        self.work, self.store = work, store
        self._token = uuid4().hex

    def here(self, item: Item, attempt: int = 0) -> Outcome[Result]:
        """Do it in this process."""
        return Outcome(who(), self.work(self.store, item))

    def away(self, known: bool) -> Away:
        """Give what another process can do, which may know already what it is about."""
        small = len(self._content) <= SMALL
        return Away(self._token, self._content if small or not known else None)

    @cached_property
    def _content(self) -> bytes:
        return zlib.compress(cloudpickle.dumps((self.work, self.store)), 1)


@dataclass(frozen=True, repr=False)
class Away:
    """Something that is done with a piece of a store, in another process."""

    token: str
    """Names what it is about."""
    content: bytes | None
    """What it is about; None where the process may know."""

    __name__ = "tiffstack"  # under which dask shows its progress

    def __call__(self, item: Any, attempt: int = 0) -> Outcome[Any]:
        """Do it, and return what was raised as well: an executor raises what is its own."""
        try:
            known = _keep(self)
            if known is None:
                return Outcome(who(), unknown=True)
            work, store = known
            return Outcome(who(), work(store, item))
        except Exception as error:
            error.add_note(f"on {socket.gethostname()}, process {os.getpid()}")
            return Outcome(who(), error=_to_send(error))

    def __dask_tokenize__(self) -> object:
        """Name equal tasks equally, without a look at the content."""
        return self.token, self.content is None


_kept: OrderedDict[str, Any] = OrderedDict()
_keeping = threading.Lock()


def _keep(away: Away) -> Any:
    """Give what a task is about; None where it did not bring that, and it is not known."""
    with _keeping:
        if away.token not in _kept:
            if away.content is None:
                return None
            _kept[away.token] = cloudpickle.loads(zlib.decompress(away.content))
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(away.token)
        return _kept[away.token]


def _to_send(error: Exception) -> Exception:
    """Give an error as it is, or in words where it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return OSError(f"{type(error).__name__}: {error}")
    return error


def threads_here() -> int:
    """Say how many tasks this process does at once, as a worker: of dask so many, of others one."""
    distributed = sys.modules.get("distributed")
    with suppress(AttributeError, ValueError):  # it is no worker of dask
        return int(distributed.get_worker().state.nthreads)  # type: ignore[union-attr]
    return 1


def who() -> str:
    """Name this thread, among those of all machines."""
    return f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
