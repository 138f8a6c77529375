"""How something is measured: contenders in turns, bytes read, memory.

The machine is seldom idle. So contenders take turns, and ratios are taken round by round.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OURS, LIMIT = "xarray_tiffstack", "limit"
CORES = len(os.sched_getaffinity(0))
LONG = 20  # seconds after which a contender runs only once


@dataclass
class Row:
    """One line of the table."""

    what: str
    measured: str
    race: Race | None = None
    target: str = ""
    reached: bool | None = None
    """None where there is no target."""

    def __str__(self) -> str:
        verdict = {True: "yes", False: "**no**", None: ""}[self.reached]
        others = self.race.others() if self.race else ""
        return f"| {self.what} | {self.measured} | {others} | {self.target} | {verdict} |"


HEAD = "| what | this package | others: times as long | target | reached |\n|---|---|---|---|---|"


class Race:
    """Seconds of each round of each contender."""

    def __init__(
        self, contenders: Mapping[str, Callable[[], object]], rounds: int, *, fastest: bool = False
    ) -> None:
        """Let contenders take turns. One of the others that fails is noted and drops out.

        The first round fills caches and does not count, unless it takes very long. `fastest`
        counts the fastest round instead of the median: the memory of a new store costs the kernel
        as much time as a conversion, in some rounds and not in others.
        """
        self.rounds: dict[str, list[float]] = {}
        self.failed: dict[str, str] = {}
        self._typical: Callable[[list[float]], float] = min if fastest else statistics.median
        running = dict(contenders)
        gc.collect()
        for turn in range(rounds + 1):
            for name, run in list(running.items()):
                begin = time.perf_counter()
                try:
                    run()
                except Exception as error:
                    if name in {OURS, LIMIT}:
                        raise
                    self.failed[name] = type(error).__name__
                    del running[name]
                    continue
                took = time.perf_counter() - begin
                if turn or took > LONG:
                    self.rounds.setdefault(name, []).append(took)
                if took > LONG:
                    del running[name]

    def seconds(self, name: str = OURS) -> float:
        """Time of one contender."""
        return self._typical(self.rounds[name])

    def ratio(self, other: str) -> float:
        """How many times as long another contender takes."""
        if self._typical is min:
            return self.seconds(other) / self.seconds()
        pairs = zip(self.rounds[other], self.rounds[OURS], strict=False)
        return statistics.median(theirs / own for theirs, own in pairs)

    def others(self) -> str:
        """Spell the ratios of all others."""
        ratios = [f"{name} {self.ratio(name):.2g}x" for name in self.rounds if name != OURS]
        return ", ".join(ratios + [f"{name} fails ({why})" for name, why in self.failed.items()])


def bytes_read(run: Callable[[], object]) -> int:
    """Bytes that this process reads for a call, from disk and from the page cache (rchar)."""

    def rchar() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    asking = -rchar() + rchar()
    before = rchar()
    run()
    return rchar() - before - asking


def alone(run: Callable[..., object], *args: object) -> tuple[int, int]:
    """Call a function in a new process; gives its peak memory, and what the call added to it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_with_memory, run, args).result()


def _with_memory(run: Callable[..., object], args: tuple[object, ...]) -> tuple[int, int]:
    before = _status("VmRSS")
    run(*args)
    peak = _status("VmHWM")
    return peak, peak - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def spell(seconds: float) -> str:
    """Spell a time."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
