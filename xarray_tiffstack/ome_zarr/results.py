"""What comes back from a conversion and from a verification, and how it reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from xarray_tiffstack.messages import DAMAGED, FIRST, counted, first_lines

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Failure:
    """A file that could not be converted."""

    path: str
    """The file."""
    error: str
    """Why."""


@dataclass(frozen=True)
class Difference:
    """A place of a store that does not hold what it should."""

    place: str
    """Array and chunk, as the key of the chunk in the store, or the file of the source."""
    paths: tuple[str, ...]
    """Files that these pixels come from."""
    reason: str
    """What is wrong."""


@dataclass(frozen=True)
class Proof:
    """Whether a store gives back each file of a folder, bit by bit."""

    folder: str
    """The folder."""
    files: int
    """Files in it, and below it: all that are there, whatever they are."""
    nbytes: int
    """Their size in bytes."""
    failed: tuple[str, ...] = ()
    """Files that the store does not give back, with the reason."""
    gone: int = 0
    """Files that the store gives back, and that are not in the folder any more."""
    encoded: int = 0
    """Files that need encoders which make the same bytes again."""
    made_by: str = ""
    """Whose encoders."""

    @property
    def ok(self) -> bool:
        """Whether each file of the folder is given back."""
        return not self.failed

    def __str__(self) -> str:
        """Say exactly what was compared, and what follows from it."""
        lines = []
        if self.failed:
            lines += [
                f"{len(self.failed)} of {counted(self.files, 'file')} in {self.folder} cannot be "
                "restored:",
                first_lines(self.failed),
                "Do not delete the raw folder; or copy these files first.",
            ]
            if any(DAMAGED in line for line in self.failed):
                lines.append("Convert again: what is damaged in the store is written anew.")
        else:
            lines += [
                f"restorable: each of {counted(self.files, 'file')} in {self.folder} "
                f"({self.nbytes / 1e6:,.1f} MB), of any kind, was made again from this store, and "
                "has the SHA-256 of the file in the folder",
                "not compared: empty folders, permissions, extended attributes, links",
                "The raw folder can be deleted.",
            ]
        if self.encoded:
            lines.append(
                f"{counted(self.encoded, 'file')} among them with compressed pixels: to restore "
                f"them, use {self.made_by}, as another version may compress otherwise"
            )
        if self.gone:
            lines.append(f"{counted(self.gone, 'file')} of the store not in the folder any more")
        return "\n".join(lines)


@dataclass(frozen=True)
class VerifyResult:
    """Outcome of comparing a store, pixel by pixel, with what was to be written."""

    blocks: int
    """Blocks compared."""
    differences: tuple[Difference, ...] = ()
    """What differs."""
    rechecked: int = 0
    """Files that were read a second way, and compared."""
    restorable: Proof | None = None
    """Whether the store gives back each file of the folder, where that was asked for."""
    part: tuple[int, int] | None = None
    """Which part of the verification this was, and of how many."""
    missing: tuple[int, ...] = ()
    """Numbers of the parts whose outcome is not known yet; without them this is that of all."""

    def as_dict(self) -> dict[str, Any]:
        """Give the outcome as it is kept in a store."""
        differences = [asdict(difference) for difference in self.differences]
        return {"blocks": self.blocks, "differences": differences, "rechecked": self.rechecked}

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def __str__(self) -> str:
        """Return the outcome in words, with the first differences."""
        if self.restorable is not None:
            return f"{replace(self, restorable=None)}\n{self.restorable}"
        if self.part is None:
            return self._said()
        number, of = self.part
        if not self.missing:
            return f"part {number} of {of} was the last\n{self._said()}"
        return f"part {number} of {of}: {self._said()}\nnot verified yet: {_parts(self.missing)}"

    def _said(self) -> str:
        second = f"; {counted(self.rechecked, 'file')} read a second way" if self.rechecked else ""
        if self.ok and self.blocks == 1:
            return f"verified: the 1 block holds the pixels of its files{second}"
        if self.ok:
            return f"verified: all {self.blocks} blocks hold the pixels of their files{second}"
        found = [f"{d.place}: {d.reason} ({', '.join(d.paths)})" for d in self.differences]
        return (
            f"{counted(len(found), 'difference')} in {counted(self.blocks, 'block')}{second}\n"
            f"{first_lines(found)}\n"
            "Convert again: the blocks that differ are written again."
        )


@dataclass(frozen=True)
class Kept:
    """What a store keeps of the files of its source, so that they can be written back."""

    files: int
    """Files of which all bytes are kept: as pixels, and beside them."""
    others: int
    """Files among them that are not of the array, and are kept as they are."""
    left: tuple[str, ...] = ()
    """Files of the folder that are not kept, with the reason."""

    def __str__(self) -> str:
        """Return it in a few lines."""
        text = f"can be written back: {counted(self.files, 'file')}"
        text += f", {self.others} of them not of the array" if self.others else ""
        if not self.left:
            return text
        return (
            f"{text}\nnot kept: {counted(len(self.left), 'file')} of the source, which "
            f"keep_whole=True keeps too:\n{first_lines(self.left)}"
        )


@dataclass(frozen=True)
class Summary:
    """What a conversion did."""

    store: str
    """The store."""
    files: int
    """Files of the source."""
    missing: int
    """Slots without a file, filled."""
    failed: tuple[Failure, ...]
    """Files that could not be read, filled."""
    blocks: int
    """Blocks of the store."""
    written: int
    """Blocks written by this call; the others were complete already."""
    nbytes: int
    """Bytes of pixels read by this call."""
    seconds: float
    """Time it took, without the verification."""
    memory: int | None
    """Most memory that this process ever held, in bytes; None where the system does not tell."""
    verified: VerifyResult | None = None
    """Outcome of the verification, where it was asked for."""
    kept: Kept | None = None
    """What is kept of the files beside their pixels, where it was asked for."""
    part: tuple[int, int] | None = None
    """Which part of the conversion this was, and of how many."""
    left: int = 0
    """Blocks of other parts that are not written."""
    left_parts: tuple[int, ...] = ()
    """Numbers of these parts."""

    def __str__(self) -> str:
        """Return the summary in a few lines."""
        rate = self.nbytes / 1e6 / max(self.seconds, 1e-3)
        memory = f", peak memory {self.memory / 1e9:.2f} GB" if self.memory else ""
        lines = [
            f"{self.store}: {counted(self.files, 'file')}, {self.nbytes / 1e9:.2f} GB in "
            f"{self.seconds:.1f} s ({rate:.0f} MB/s){memory}"
        ]
        if self.part is not None:
            lines.append(self._of_part())
        elif self.written < self.blocks:
            lines.append(
                f"already complete: {self.blocks - self.written} of {counted(self.blocks, 'block')}"
            )
        if self.missing:
            lines.append(f"slots without a file, filled: {self.missing}")
        if self.kept is not None:
            lines.append(str(self.kept))
        if self.verified is not None:
            lines.append(str(self.verified))
        if self.failed:
            failed = [  # most errors name the file
                each.error if each.path in each.error else f"{each.path}: {each.error}"
                for each in self.failed
            ]
            lines.append(f"files that could not be read, filled: {len(failed)}")
            lines.append(first_lines(failed))
        return "\n".join(lines)

    def _of_part(self) -> str:
        """Say what a part did, and what is left."""
        number, of = self.part or (1, 1)
        did = f"part {number} of {of}: {counted(self.written, 'block')} written"
        if not self.left:
            return f"{did}; the store is complete"
        return (
            f"{did}\nnot written yet: {self.left} of {counted(self.blocks, 'block')}, of "
            f"{_parts(self.left_parts)}; the part that ends last completes the store"
        )


def _parts(numbers: Sequence[int]) -> str:
    """Name the first parts of some."""
    names = ", ".join(map(str, numbers[:FIRST]))
    return f"part{'s' if len(numbers) > 1 else ''} {names}{', ...' if numbers[FIRST:] else ''}"
