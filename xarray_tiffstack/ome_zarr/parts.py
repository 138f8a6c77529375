"""One conversion in parts, each a process of its own that knows of no other: who does what.

Every part makes the same plan. The blocks are dealt out by it, and the journal in the store says
which are finished. So parts need no scheduler: each does its own blocks, then whatever of the
coarser levels has become possible, and who finds everything written finishes the store.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from xarray_tiffstack.ome_zarr.journal import path_of
from xarray_tiffstack.ome_zarr.lock import PATIENCE
from xarray_tiffstack.ome_zarr.place import RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from xarray_tiffstack.ome_zarr.lease import Lease
    from xarray_tiffstack.ome_zarr.lock import Lock
    from xarray_tiffstack.ome_zarr.plan import Block, Plan
    from xarray_tiffstack.ome_zarr.store import Store

# A part as the caller gives it: its number from 1 and how many there are, or "3/32".
Given: TypeAlias = "tuple[int, int] | str"

LOOK = 1.0  # seconds between looks at a store that part 1 begins
FEW = 16  # blocks of others that the last part takes at once


@dataclass(frozen=True)
class Part:
    """One of so many parts of the work."""

    number: int
    """From 1."""
    of: int
    """How many there are."""

    def share(self, blocks: Iterable[Block], plan: Plan) -> list[Block]:
        """Blocks of this part: of each pass some that follow each other.

        So a large file that has several blocks is opened by one part, or by two.
        """
        return [
            block
            for group in plan.by_pass(blocks)
            for block in group[
                (self.number - 1) * len(group) // self.of : self.number * len(group) // self.of
            ]
        ]

    def __str__(self) -> str:
        """Return it in words."""
        return f"part {self.number} of {self.of}"


def part_of(given: Given | None) -> Part | None:
    """Understand a part as the caller gives it.

    Examples
    --------
    >>> part_of("3/32")
    Part(number=3, of=32)
    """
    if given is None:
        return None
    if isinstance(given, str):
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", given)
        numbers = tuple(map(int, found.groups())) if found else ()
    else:
        numbers = tuple(given)
    if len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1]:
        raise ValueError(f"part={given!r} must be a number from 1 and how many there are: 3/32")
    return Part(*numbers)


def check_part(
    given: Given | None, *, overwrite: bool = False, verify: bool = False
) -> Part | None:
    """Understand a part of a conversion, with which not everything goes together."""
    part = part_of(given)
    if part is not None and overwrite:
        raise ValueError("overwrite=True with part= could delete what other parts wrote: leave it")
    if part is not None and verify:
        raise ValueError("verify=True with part= has to wait for the others: verify afterwards")
    return part


# --- writing ------------------------------------------------------------------------------------


def begin(store: Store, part: Part, lock: Lock | Lease) -> list[Block]:
    """Begin the store, or join who did; returns the blocks that are open, of all parts.

    A local store appears at once: of two that begin it the second one finds it, and joins, also
    where the file system has locks of one machine only, so that both of them hold one. Who holds it
    alone repairs the store, but deletes nothing, for the same reason. In the cloud whoever holds
    the lock alone begins it, and shares the lock then; where there is none, part 1 begins it, and
    the others wait.
    """
    store.part = part
    todo = None
    if isinstance(store.target, Path):
        with suppress(OSError):  # another part was quicker
            todo = store.begin(overwrite=False, join=not lock.alone)
    elif lock.alone:
        todo = store.begin(overwrite=False)
    elif not lock.works and part.number > 1:
        _wait_for_part_1(store)
    if todo is None:
        todo = store.begin(overwrite=False, join=True)
    lock.share()
    return todo


def _wait_for_part_1(store: Store) -> None:
    deadline = time.monotonic() + PATIENCE
    while not store.is_begun():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{store.target} was not begun in {PATIENCE:.0f} s: part 1 begins a store that has "
                "no URL; start it, then this one again"
            )
        time.sleep(LOOK)


def write(
    store: Store, part: Part, todo: Sequence[Block], do: Callable[[list[Block]], int]
) -> tuple[int, int, list[Block]]:
    """Write the blocks of a part, and coarser levels as far as what they are made of is there.

    Parameters
    ----------
    store
        The store.
    part
        This part.
    todo
        Blocks that are open.
    do
        Writes blocks; returns the bytes that were read.

    Returns
    -------
    written
        How many blocks were written.
    nbytes
        Bytes that were read.
    left
        Blocks that are open now, because parts that have them are not there, or are at it.
    """
    own = set(part.share(store.plan.blocks, store.plan))
    chosen = [block for block in todo if block in own and not block.step]
    written = nbytes = 0
    while True:
        nbytes += do(chosen)
        written += len(chosen)
        look_again(store)
        left = store.journal.left(store.plan.blocks)
        chosen = _possible(store.plan, left, own, part)
        if not chosen:
            return written, nbytes, left


def _possible(plan: Plan, left: list[Block], own: set[Block], part: Part) -> list[Block]:
    """Blocks of coarser levels whose finer ones are there: own ones first, then of others.

    Of others only where nothing else is left: they may be at work on them, or never come. Written
    twice, they are the same. A part begins where others do not.
    """
    missing = set(left)
    ready = [b for b in left if b.step and missing.isdisjoint(plan.inputs(b))]
    if mine := [block for block in ready if block in own]:
        return mine
    if any(not block.step for block in left):
        return []
    first = (part.number - 1) * len(ready) // part.of
    return (ready[first:] + ready[:first])[:FEW]


def look_again(store: Store) -> None:
    """Have the machine ask a file server anew which entries others have written meanwhile.

    It remembers for up to a minute which files were not there. It forgets that when it changes the
    folder itself, and learns that others changed it, too.
    """
    if not isinstance(store.target, Path):
        return
    for step in range(len(store.plan.passes)):
        mark = store.target / path_of(step) / f"look.{RUN}.partial"
        with suppress(OSError):
            mark.touch()
            os.unlink(mark)


def finish(store: Store, left: Sequence[Block], lock: Lock | Lease) -> None:
    """Finish the store if nothing is left, and tidy it up if nobody else is there."""
    if not left:
        store.finish_joined()
        if lock.last():
            store.sweep()


def names(plan: Plan, left: Iterable[Block], of: int) -> list[int]:
    """Numbers of the parts that blocks belong to."""
    wanted = set(left)
    return [
        n for n in range(1, of + 1) if not wanted.isdisjoint(Part(n, of).share(plan.blocks, plan))
    ]
