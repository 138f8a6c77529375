"""How a block of a Dataset is read, whose files may be broken, and may change meanwhile."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np

from xarray_tiffstack.ome_zarr.levels import Memory
from xarray_tiffstack.ome_zarr.results import Failure
from xarray_tiffstack.storage import joined, states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import xarray as xr

    from xarray_tiffstack.ome_zarr.images import Slot
    from xarray_tiffstack.ome_zarr.plan import Block, Plan, Region

Result = TypeVar("Result")
Broken: TypeAlias = "dict[Slot, Failure]"  # slots of a block that are zeros, and why


@runtime_checkable
class ReadsInto(Protocol):
    """A variable that can be read into memory that is there already."""

    def read_into(self, memory: np.ndarray) -> np.ndarray | None:
        """Read all pixels into the beginning of some bytes; None where that is not possible."""


class BrokenError(Exception):
    """A file turned out to be broken: what was read of its slot before is not to be kept."""


class Source:
    """Pixels of a Dataset and the state of its files; in any thread."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._slab = Memory()

    def read(self, image: int, region: Region, broken: Broken) -> np.ndarray:
        """Read a region; of slots that are known to be broken it is zeros.

        Raises
        ------
        BrokenError
            More slots turned out to be, which may have been read in part by then.
        """
        part = self.plan.variable.isel(self.plan.images[image].at).isel(region)
        slots = self.plan.slots(image, region)
        if broken.keys().isdisjoint(slots):
            try:
                return self._compute(part)
            except Exception as error:  # a damaged file can raise anything
                if len(slots) == 1:
                    raise self.give_up(slots[0], error, broken) from error
        pixels = np.zeros(part.shape, part.dtype)
        found = None
        for slot in slots:
            here = dict(zip(self.plan.collection.slot_dims, slot, strict=True))
            index = tuple(
                slice(here[d] - region[d].start, here[d] - region[d].start + 1)
                if d in here
                else slice(None)
                for d in self.plan.axes
            )
            if slot not in broken:
                try:
                    pixels[index] = self._compute(part[index])
                except Exception as error:
                    found = self.give_up(slot, error, broken)
        if found is not None:
            raise found
        return pixels

    def _compute(self, part: xr.Variable) -> np.ndarray:
        """Read lazy pixels in this thread; what it read before may be gone then."""
        if isinstance(part, ReadsInto):
            pixels = part.read_into(self._slab.array([part.nbytes], np.dtype(np.uint8)))
            if pixels is not None:
                return np.ascontiguousarray(pixels)
        options: Any = {"scheduler": "synchronous"} if part.chunks else {}
        return np.ascontiguousarray(part.compute(**options).values)

    def give_up(self, slot: Slot, error: Exception, broken: Broken) -> BrokenError:
        """Note that the file of a slot is broken."""
        text = str(error) or type(error).__name__
        broken[slot] = Failure(", ".join(self.plan.paths([slot])) or "the source", text)
        return BrokenError(text)

    def fingerprint(self, block: Block) -> int:
        """Names, sizes and times of change (or ETags) of the files of a block, as one number."""
        paths, source = self.plan.files(block), self.plan.collection.source
        lines = []
        for path, state in zip(paths, states([joined(source, p) for p in paths]), strict=True):
            lines.append(f"{path}\n" if state is None else f"{path} {state[0]} {state[1]}\n")
        return zlib.crc32("".join(lines).encode(errors="surrogateescape"))

    def changed(self, blocks: Iterable[Block], fingerprints: Iterable[float]) -> list[str]:
        """Files of blocks that are not what they were when they were read."""
        found: dict[str, None] = {}
        for block, before in zip(blocks, fingerprints, strict=True):
            if before != self.fingerprint(block):
                found |= dict.fromkeys(self.plan.files(block))
        return list(found)


def without_broken(work: Callable[[Broken], Result]) -> Result:
    """Do something with a block, and again from the beginning when a file is broken."""
    broken: Broken = {}
    while True:
        try:
            return work(broken)
        except BrokenError:
            continue
