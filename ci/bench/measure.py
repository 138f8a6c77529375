"""How something is timed here: side by side, round after round, and what it costs in IO and memory.

The machine is seldom idle, so contenders take turns and only ratios of their medians are judged.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    T = TypeVar("T")

OURS = "xarray_tiffstack"
LIMIT = "limit"


@dataclass
class Row:
    """One line of the result: what was measured, against which target."""

    what: str
    target: str
    measured: str = "not run"
    reached: bool | None = None
    """None where there is no target, or where it was not run (then `notes` say why)."""
    fastest: bool = False
    """Whether the fastest round counts instead of the median: what the kernel takes for memory that
    was not in use lately is as long as a conversion, and hits the one or the other."""
    times: dict[str, float] = field(default_factory=dict)
    """Seconds by contender."""
    rounds: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each round by contender."""
    figures: dict[str, float] = field(default_factory=dict)
    """Everything else that was counted, in bytes, files or ratios."""
    notes: list[str] = field(default_factory=list)

    def race(self, contenders: Mapping[str, Callable[[], object]], rounds: int) -> None:
        """Let contenders take turns; a peer that fails is noted and drops out.

        The first round fills caches and does not count, unless it takes longer than 20 s: such a
        contender runs once.
        """
        running = dict(contenders)
        gc.collect()
        for round_ in range(rounds + 1):
            for name, run in list(running.items()):
                begin = time.perf_counter()
                try:
                    result = run()
                except Exception as error:
                    if name in {OURS, LIMIT}:
                        raise
                    self.notes.append(f"{name}: {type(error).__name__}: {str(error)[:120]}")
                    del running[name]
                    continue
                took = time.perf_counter() - begin
                del result
                if round_ or took > 20:
                    self.rounds.setdefault(name, []).append(took)
                if took > 20:
                    del running[name]
        count: Callable[[list[float]], float] = min if self.fastest else statistics.median
        self.times = {name: count(each) for name, each in self.rounds.items()}

    def ratio(self, other: str) -> float:
        """How many times longer another contender takes than this project.

        The median of the ratios round by round: whatever else the machine did then, it did to both.
        Where the fastest rounds count, the ratio of those.
        """
        if self.fastest:
            return min(self.rounds[other]) / min(self.rounds[OURS])
        pairs = list(zip(self.rounds[other], self.rounds[OURS], strict=False))
        return statistics.median(theirs / own for theirs, own in pairs)


def bytes_read(run: Callable[[], object]) -> int:
    """Bytes that this process reads for a call, from files and the page cache alike (rchar)."""

    def rchar() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    empty = -rchar() + rchar()  # what the question itself costs
    before = rchar()
    run()
    return rchar() - before - empty


@contextmanager
def tiffs_opened() -> Iterator[list[str]]:
    """Paths of the TIFFs that are opened meanwhile."""
    paths: list[str] = []
    _HEARING.append(paths)
    try:
        yield paths
    finally:
        _HEARING.remove(paths)


_HEARING: list[list[str]] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and _HEARING and str(args[0]).endswith(".tif"):
        for paths in _HEARING:
            paths.append(str(args[0]))


sys.addaudithook(_hear)


def alone(run: Callable[..., T], *args: object) -> tuple[T, int, int]:
    """Call a function in a fresh process.

    Returns
    -------
    result
        Of the call.
    peak : int
        Largest resident memory of the process, in bytes.
    grown : int
        By how much that is more than it was before the call (libraries are imported by then).
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_with_memory, run, args).result()


def _with_memory(run: Callable[..., T], args: tuple[object, ...]) -> tuple[T, int, int]:
    before = _status("VmRSS")
    result = run(*args)
    peak = _status("VmHWM")
    return result, peak, peak - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def ms(seconds: float) -> str:
    """Spell a time."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
