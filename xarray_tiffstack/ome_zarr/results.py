"""What comes back from a conversion and from a verification, and how it reads."""

from __future__ import annotations

from dataclasses import dataclass

from xarray_tiffstack.messages import FIRST, counted, first_lines


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
class VerifyResult:
    """Outcome of comparing a store, pixel by pixel, with what was to be written."""

    blocks: int
    """Blocks compared."""
    differences: tuple[Difference, ...] = ()
    """What differs."""
    rechecked: int = 0
    """Files that were read a second way, and compared."""

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def __str__(self) -> str:
        """Return the outcome in words, with the first differences."""
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
        if self.verified is not None:
            lines.append(str(self.verified))
        if self.failed:
            failed = [f"{failure.path}: {failure.error}" for failure in self.failed]
            lines.append(f"files that could not be read, filled: {len(failed)}")
            lines.append(first_lines(failed))
        return "\n".join(lines)

    def _of_part(self) -> str:
        """Say what a part did, and what is left."""
        number, of = self.part or (1, 1)
        did = f"part {number} of {of}: {counted(self.written, 'block')} written"
        if not self.left:
            return f"{did}; the store is complete"
        names = ", ".join(map(str, self.left_parts[:FIRST]))
        more = ", ..." if len(self.left_parts) > FIRST else ""
        return (
            f"{did}; of {counted(self.blocks, 'block')} {self.left} are not written yet, those of "
            f"part {names}{more}: the part that ends last completes the store"
        )
