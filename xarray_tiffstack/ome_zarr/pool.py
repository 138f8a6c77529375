"""Where work is done: by threads, or by any executor; the death of a worker is a retry."""

from __future__ import annotations

import os
import sys
from collections import deque
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

from zarr.storage import MemoryStore

from xarray_tiffstack.messages import counted, first_lines
from xarray_tiffstack.ome_zarr.task import Item, Outcome, Result, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from xarray_tiffstack.ome_zarr.pixels import Target

# An executor, a client of dask, or a function that makes an executor and is called again when that
# breaks.
Given: TypeAlias = "Executor | Callable[[], Executor] | Any | None"

PROCESSORS = getattr(os, "process_cpu_count", os.cpu_count)() or 1
FEW = 16  # tasks in hand while nobody knows how many workers there are
CHECK = 5.0  # seconds between looks whether anything can still come back
TRIES = 3  # how often a task may end with its worker
RESUMES = "What is complete stays there; the same call resumes from it."


def threads(workers: int | None) -> int:
    """Say how many threads work: as many as were asked for, or one a processor.

    Raises
    ------
    ValueError
        Fewer than one were asked for.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers!r} must be at least 1")
    return workers or PROCESSORS


class Pool:
    """An executor, and what is known of its workers.

    Parameters
    ----------
    make
        Makes the executor.
    owned
        Whether it is shut down in the end.
    near
        Whether its workers are threads of this process.
    cancels
        Whether it says of a task if that still can be cancelled.
    alive
        Whether what is being done can still end: a client that lost its scheduler never hears.
    """

    def __init__(
        self,
        make: Callable[[], Executor],
        *,
        owned: bool = False,
        near: bool = False,
        cancels: bool = True,
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        self._make, self.owned, self.near, self.cancels = make, owned, near, cancels
        self.alive = alive
        self.executor = make()
        self.seen: set[str] = set()

    @property
    def window(self) -> int:
        """How many tasks are in hand at once: enough for the workers that were heard of."""
        return max(FEW, 2 * len(self.seen))

    def renew(self, broken: Executor) -> bool:
        """Make another executor in the place of a broken one, where that is possible."""
        if self.executor is not broken:
            return True
        if not self.owned and not isinstance(broken, ProcessPoolExecutor):
            return False
        self.executor = self._make() if self.owned else _like(broken)
        self.owned = True
        return True

    def close(self) -> None:
        """Shut down what was made here."""
        if self.owned:
            self.executor.shutdown()


def _like(broken: Any) -> ProcessPoolExecutor:
    """Make another pool of processes, as the broken one was."""
    return ProcessPoolExecutor(
        broken._max_workers, broken._mp_context, broken._initializer, broken._initargs
    )


@contextmanager
def pool_of(given: Given, workers: int | None, target: Target, source: str = "") -> Iterator[Pool]:
    """Give the executor that was asked for, of a client of dask that runs, or threads.

    Raises
    ------
    ValueError
        There are no workers, or they cannot reach the source or the store.
    """
    number = threads(workers)
    held = [name for name, at in (("source", source), ("store", target)) if _in_memory(at)]
    if given is None and workers is None and not held:
        given = _running_client()
    pool = _pool(given, number)
    if not pool.near and held:
        raise ValueError(
            f"other processes cannot reach a {held[0]} in the memory of this one: leave out "
            "executor="
        )
    try:
        yield pool
    finally:
        pool.close()


def _in_memory(place: Target) -> bool:
    """Whether a source or store is in the memory of this process."""
    return isinstance(place, MemoryStore) or str(place).startswith("memory://")


def _pool(given: Given, number: int) -> Pool:
    if given is None:
        return Pool(partial(ThreadPoolExecutor, number), owned=True, near=True)
    if hasattr(given, "get_executor"):  # of dask; equal tasks are not one when they are retried
        make = partial(given.get_executor, pure=False)
        return Pool(make, cancels=False, alive=partial(_is_connected, given))
    if isinstance(given, Executor):
        client = getattr(given, "_client", None)  # of an executor of dask
        alive = partial(_is_connected, client)
        near = type(given) is ThreadPoolExecutor
        return Pool(lambda: given, near=near, cancels=client is None, alive=alive)
    if not callable(given) or isinstance(given, type):
        raise ValueError(
            f"executor={given!r} must be an executor of concurrent.futures, a client of dask, or a "
            "function that makes an executor"
        )
    return Pool(given, owned=True)


def _is_connected(client: Any) -> bool:
    """Whether a client of dask has its scheduler, or tries to find it again."""
    return getattr(client, "status", "running") in ("running", "connecting")


def _running_client() -> Any:
    """Give the client of dask that runs in this process, if there is one."""
    distributed = sys.modules.get("distributed")
    try:
        client: Any = distributed.default_client() if distributed is not None else None
    except ValueError:
        return None
    ready = client is not None and client.status == "running" and not client.asynchronous
    return client if ready else None


# --- a run --------------------------------------------------------------------------------------


def run(
    items: Iterable[Item], task: Task[Item, Result], pool: Pool, names: Callable[[Item], list[str]]
) -> Generator[tuple[Item, Result]]:
    """Do something with pieces of a store, in any order; stops cleanly when interrupted.

    Parameters
    ----------
    items
        The pieces.
    task
        What is done.
    pool
        Where.
    names
        Gives the files of a piece, for the error that names them.

    Raises
    ------
    OSError
        Workers died again and again.
    """
    hand = _Hand(items, task, pool, names)
    try:
        yield from hand.results()
    finally:
        hand.put_down()


@dataclass
class _Try(Generic[Item]):
    item: Item
    deaths: int = 0
    known: bool = True
    executor: Executor | None = None


class _Hand(Generic[Item, Result]):
    """What is being done, of what there is to do."""

    def __init__(
        self,
        items: Iterable[Item],
        task: Task[Item, Result],
        pool: Pool,
        names: Callable[[Item], list[str]],
    ) -> None:
        self.task, self.pool, self.names = task, pool, names
        self.waiting = deque(_Try(item) for item in items)
        self.suspects: deque[_Try[Item]] = deque()  # each is done alone: one of them kills
        self.running: dict[Future[Outcome[Result]], _Try[Item]] = {}
        self.done: SimpleQueue[Future[Outcome[Result]]] = SimpleQueue()

    def results(self) -> Generator[tuple[Item, Result]]:
        """Give what comes back, until nothing is left."""
        while self.waiting or self.suspects or self.running:
            self._submit()
            try:
                future = self.done.get(timeout=CHECK)
            except Empty:
                if not self.pool.alive():
                    raise OSError(f"the scheduler is lost\n{RESUMES}") from None
                continue
            one = self.running.pop(future)
            try:
                outcome = future.result()
            except Exception as error:  # of the executor: a task raises none
                if self.pool.near:
                    raise
                self._die(one, error)
                continue
            self.pool.seen.add(outcome.who)
            if outcome.error is not None:
                raise outcome.error
            if outcome.unknown:
                one.known = False
                self.waiting.appendleft(one)
                continue
            yield one.item, outcome.result  # type: ignore[misc]

    def _submit(self) -> None:
        """Have enough in hand."""
        if self.suspects:
            if not self.running:
                self._begin(self.suspects.popleft())
            return
        while self.waiting and len(self.running) < self.pool.window and not self.suspects:
            self._begin(self.waiting.popleft())

    def _begin(self, one: _Try[Item]) -> None:
        one.executor = self.pool.executor
        do: Any = self.task.here if self.pool.near else self.task.away(one.known)
        try:
            future = one.executor.submit(do, one.item, one.deaths)
        except Exception as error:  # it is broken, or shut down
            self._die(one, error)
            return
        self.running[future] = one
        future.add_done_callback(self.done.put)

    def _die(self, one: _Try[Item], error: Exception) -> None:
        """Have another try, unless there were enough."""
        one.deaths += 1
        broken = isinstance(error, BrokenExecutor)
        if one.deaths >= TRIES or (broken and not self.pool.renew(one.executor)):  # type: ignore[arg-type]
            raise self._killed(one, error, broken) from error
        (self.suspects if broken else self.waiting).append(one)

    def _killed(self, one: _Try[Item], error: Exception, broken: bool) -> OSError:
        suspects = [one] if one.deaths >= TRIES else [one, *self.running.values()]
        files = [name for each in suspects for name in self.names(each.item)]
        advice = (
            "\nAn executor that broke is not used again: give a function that makes one, such as\n"
            "  executor=lambda: ProcessPoolExecutor(4)"
            if broken and one.deaths < TRIES
            else ""
        )
        return OSError(
            f"workers died {counted(one.deaths, 'time')} at work on these files "
            f"({type(error).__name__}: {error}):\n{first_lines(files)}{advice}\n{RESUMES}"
        )

    def put_down(self) -> None:
        """Let go of what is in hand: afterwards nobody writes any more."""
        left = {f for f in self.running if not (self.pool.cancels and f.cancel())}
        while left and self.pool.alive():
            left = wait(left, timeout=CHECK).not_done
