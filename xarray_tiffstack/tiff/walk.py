"""How the directories of a TIFF are reached: one after the other on a disk, many at once at a URL.

At a URL each step is a request. So directories at equal distances are asked for at once, those
that are close to each other are read with what is between them, and where others are likely to be,
windows are read at once. Each is still reached from the one before. Of a file of the same length as
one that was read before, whose pages and directories lie at equal distances, the first and the last
directory are compared.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xarray_tiffstack.tiff.directory import LOOK, PLACES, SIZES, directory, tags_of
from xarray_tiffstack.tiff.file import File

if TYPE_CHECKING:
    from collections.abc import Hashable

    from xarray_tiffstack.tiff.file import Tiff

_MOST_GUESSES = 4  # at the distance of directories of one file
_FIRST_GUESS, _NEXT_GUESS = 256, 4096  # directories that are asked for at once
_CLOSE = 1 << 16  # bytes from a directory to the next that cost less time than a request
_FIRST_AHEAD, _MOST_AHEAD = 4, 1 << 23  # directories, and bytes, that are read ahead
_PERIODS = 1, 2, 3, 4, 0  # pages after which lengths repeat, such as channels; 0 for a trend
_SHARE = 10  # one part in so many, at most, of what lies between directories is read around them
_OFF = 2048  # least bytes on each side of a likely place
_FIRST_ROOM = 3 << 14  # bytes of the first windows, which may all be in vain
_PAST = 512  # steps from which the next are guessed
_BESIDE = 1 << 16  # bytes from a directory, within which its values are read with it
_KINDS = 64  # of files whose directories are remembered


class Walk(NamedTuple):
    """The directories of a file, by their offsets, in their order."""

    blocks: dict[int, bytes]
    broken: bool
    """Whether the chain leads out of the file."""
    circle: bool
    """Whether the last page leads back to one before."""


def walk(file: Tiff) -> Walk:
    """Read each directory, with the link to the next, in one piece."""
    return _step_by_step(file) if isinstance(file, File) else _far(file)


def _step_by_step(file: File) -> Walk:
    blocks: dict[int, bytes] = {}
    size, count = 0, b""
    link, wide, read = file.format.link, file.format.length.size, super(File, file).read
    (at,) = link.unpack_from(file.head, file.format.start)
    while at:
        if at in blocks:
            return Walk(blocks, False, True)
        block = b""
        if at < file.size:
            file.seek(at)
            block = read(size)
        # Unless it is as long as the one before:
        if not block or len(block) < size or block[:wide] != count:
            if not (block := directory(file, at)):
                return Walk(blocks, True, False)
            size, count = len(block), block[:wide]
        blocks[at] = block
        (at,) = link.unpack_from(block, size - link.size)
    return Walk(blocks, False, False)


# --- at a URL


@lru_cache(maxsize=_KINDS)  # a file in one state is walked for its pages, and for its scale
def _far(file: Tiff) -> Walk:
    """Walk in few round trips: what is asked for at once is a guess, and each link decides."""
    if (blocks := _remembered(file)) is not None:
        return Walk(blocks, False, False)
    blocks, ahead = {}, _Ahead(file)
    link, guesses, guessed = file.format.link, 0, -1
    (at,) = link.unpack_from(file.head, file.format.start)
    places: list[int] = []
    while at:
        if at in blocks:
            return Walk(blocks, False, True)
        if not (block := ahead.directory(at)):
            return Walk(blocks, True, False)
        blocks[at] = block
        places.append(at)
        (at,) = link.unpack_from(block, len(block) - link.size)
        step = at - places[-1]
        equal = len(places) > 1 and step == places[-1] - places[-2] > 0
        guessed = guessed if equal else -1
        if equal and at > guessed and guesses < _MOST_GUESSES and not ahead.holds(at, LOOK):
            most = _NEXT_GUESS if guessed > 0 and guessed == places[-1] else _FIRST_GUESS
            guesses += most == _FIRST_GUESS
            guessed = _ask_for(file, block, places[-1], step, most)
        elif len(places) > 2 and at > guessed:
            ahead.look(places, at, *_beside(file, block, places[-1]))
    _remember(file, blocks)
    return Walk(blocks, False, False)


class _Ahead:
    """Bytes in which directories at unequal distances lie, and pixels around them.

    Where pages are compressed, nothing says where the next directory but one is. If they lie close
    to each other, to read what is between them takes less time than a request for each. If they
    are farther apart, a window is read around each place where one is likely. Of what is read only
    the directories are kept.
    """

    def __init__(self, file: Tiff) -> None:
        self.file, self.many = file, _FIRST_AHEAD
        self.pieces: list[tuple[int, bytes]] = []
        self.around = 0, LOOK
        self.worth, self.room = 0, _FIRST_ROOM
        """Bytes that the next windows may have in all. Each window that holds a directory adds its
        own as often as `worth` says, so that the bytes of those that hold none stay few."""

    def look(self, places: list[int], at: int, before: int, behind: int) -> None:
        """Read ahead from a directory, unless its bytes are there."""
        self.around = before, behind
        step = (at - places[-3]) // 3
        if step <= 0 or at >= self.file.size or self.holds(at, behind):
            return
        if step <= _CLOSE:
            self.many *= 2
            self.worth, wanted = 0, [(at, min(step * self.many + behind, _MOST_AHEAD))]
        else:
            # The first page is often unlike the others.
            last = places[max(1, len(places) - _PAST) :]
            wanted = self._windows([*last, at], before, behind)
        if wanted:
            wanted = [(max(0, start - before), before + size) for start, size in wanted]
            starts = [start for start, _ in wanted]
            self.pieces = list(zip(starts, self.file.several(wanted), strict=True))

    def _windows(self, places: list[int], before: int, behind: int) -> list[tuple[int, int]]:
        """Where the last directory is, and where others behind it are likely, if that is known."""
        if len(places) < 4 or self.room < 2 * _OFF:
            return []
        steps = np.diff(np.array(places, np.float64))
        likely = _likely(steps, before + behind, min(self.room, _MOST_AHEAD)).astype(np.int64)
        found = [(places[-1], behind)]
        for far, off in likely.tolist():
            if places[-1] + far - off < self.file.size:
                found.append((places[-1] + far - off, 2 * off + behind))
        if len(found) == 1:
            return []
        self.worth, self.room = 2, self.room - sum(before + size for _, size in found)
        return found

    def directory(self, at: int) -> bytes:
        """Bytes of a directory, which are kept with what lies beside it."""
        if found := self._piece(at, LOOK):
            start, data = found
            before, behind = self.around
            first = max(0, at - before - start)
            self.file.keep(start + first, data[first : at + behind - start])
            self.room += self.worth * len(data)
        return directory(self.file, at)

    def holds(self, at: int, behind: int) -> bool:
        """Whether the bytes from a place on were read."""
        return self._piece(at, behind) is not None

    def _piece(self, at: int, behind: int) -> tuple[int, bytes] | None:
        stop = min(at + behind, self.file.size)
        return next((p for p in self.pieces if p[0] <= at and stop <= p[0] + len(p[1])), None)


def _likely(steps: np.ndarray, beside: int, room: int) -> np.ndarray:
    """How far the next directories are likely to be, and how far off that may be, row by row.

    Each of some ways to go on from steps is tried on the last of them: how far off it would have
    been there tells how wide its windows have to be. The way that leaves the most windows counts.
    """
    best, widest = np.empty((0, 2)), min(_CLOSE, steps.mean() / _SHARE)
    count = 2
    while count == 2 or 2 * count <= len(steps):
        past, true = steps[:-count], steps[-count:].cumsum()
        n, last = np.arange(1, 2 * count + 1), max(4, count)
        for period in _PERIODS:
            if len(past) < (period or 3):
                continue
            off = np.abs(_onward(past[-last:], count, period) - true).max()
            offs = np.maximum(_OFF, 3 * off * np.maximum(1, n / count))
            sizes = 2 * offs + beside
            bad = (sizes > widest) | (sizes.cumsum() > room)
            many = int(bad.argmax()) if bad.any() else len(n)
            if many > len(best):
                best = np.column_stack([_onward(steps[-last:], many, period), offs[:many]])
        count *= 2
    return best


def _onward(steps: np.ndarray, many: int, period: int) -> np.ndarray:
    """Go on from some steps, as their means with a period, or without one as their trend, do."""
    if period:
        means = steps[len(steps) % period :].reshape(-1, period).mean(axis=0)
        return np.resize(means, many).cumsum()
    slope, start = np.polyfit(np.arange(-len(steps), 0), steps, 1)
    return np.cumsum(start + slope * np.arange(many))


def _ask_for(file: Tiff, block: bytes, at: int, step: int, most: int) -> int:
    """Ask for the directories at equal distances behind one, and return where the last is."""
    before, behind = _beside(file, block, at)
    last = at + step * min(most, (file.size - 1 - at) // step)
    file.prefetch(
        (max(0, start - before), before + behind) for start in range(at + step, last + 1, step)
    )
    return last


def _beside(file: Tiff, block: bytes, at: int) -> tuple[int, int]:
    """How many bytes before and from a directory on hold it and where it says its pixels are."""
    before, behind = 0, max(LOOK, len(block))
    for code, (kind, count, value) in tags_of(file, block).items():
        size = count * SIZES.get(kind, 0)
        if code in PLACES and size > len(value):
            (where,) = file.format.link.unpack(value)
            if at - _BESIDE <= where and where + size <= at + _BESIDE:
                before, behind = max(before, at - where), max(behind, where + size - at)
    return before, behind


# --- files that are alike

_lock = threading.Lock()
_seen: OrderedDict[Hashable, dict[int, bytes]] = OrderedDict()


def _first_of(file: Tiff) -> tuple[int, bytes]:
    """Offset of the first directory, and the directory."""
    (at,) = file.format.link.unpack_from(file.head, file.format.start)
    return at, directory(file, at)


def _remembered(file: Tiff) -> dict[int, bytes] | None:
    """Directories of a file of this length that begins and ends as this one does."""
    at, first = _first_of(file)
    with _lock:
        known = _seen.get((file.size, file.head, at, first))
    if known is None:
        return None
    last = next(reversed(known))
    return known if directory(file, last) == known[last] else None


def _remember(file: Tiff, blocks: dict[int, bytes]) -> None:
    """Remember the directories of a file where nothing in it can lie otherwise."""
    if len(blocks) < 4 or not _even(file, blocks):
        return
    at, first = next(iter(blocks.items()))
    with _lock:
        _seen[file.size, file.head, at, first] = blocks
        if len(_seen) > _KINDS:
            _seen.popitem(last=False)


def _even(file: Tiff, blocks: dict[int, bytes]) -> bool:
    """Whether pages of one strip, stored as they are, follow each other like their directories.

    Compressed pages may be of other lengths in a file of the same length, and are walked.
    """
    places = np.fromiter(blocks, np.int64, len(blocks))[1:]
    starts = []
    for block in list(blocks.values())[1:]:
        tags = tags_of(file, block)
        if tags.get(259, (3, 1, b"\1\0"))[2][:2] not in (b"\1\0", b"\0\1"):
            return False
        kind, count, value = tags.get(273, (0, 0, b""))
        size = SIZES.get(kind, 0)
        if count != 1 or not 0 < size <= len(value):
            return False
        starts.append(int.from_bytes(value[:size], file.format.endian))
    steps, moves = np.diff(places), np.diff(np.array(starts, np.int64))
    return bool((steps == steps[0]).all() and (moves == moves[0]).all() and moves[0] > 0)
