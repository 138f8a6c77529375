"""What the pages of a TIFF mean: which of them make an array, in which order, along which axes.

tifffile knows the programs that write TIFFs, and is asked. What it says of the number and the
places of pages is believed only where the chain of directories says the same.
"""

from __future__ import annotations

import math
import operator
import os
from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tifffile

from xarray_tiffstack.messages import counted
from xarray_tiffstack.storage import is_url
from xarray_tiffstack.tiff.directory import ENCODED, start_of
from xarray_tiffstack.tiff.judge import asking, page_at, series_of
from xarray_tiffstack.tiff.scale import channel_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xarray_tiffstack.tiff.chain import Chain
    from xarray_tiffstack.tiff.file import Tiff

ABSENT = -1  # in place of the number of a page: announced, and not in the file

_AXES = {"X": "x", "Y": "y", "Z": "z", "T": "time", "C": "channel", "S": "sample"}
_AXES |= {"R": "position", "A": "angle"}
_MICRO_MANAGER = 51123  # tag of every page: which one it is
_INDICES = {"FrameIndex": "time", "PositionIndex": "position", "SliceIndex": "z"}
_INDICES |= {"ChannelIndex": "channel"}
_COLUMNS = {"column": "col"}  # of NDTiff, as this package calls it

# Series whose pages are counted here; of all other kinds tifffile knows better which count.
_COUNTED = {"uniform", "generic", "shaped", "imagej", "ome", "mmstack", "scanimage", "nih"}
_UNNAMED = {"uniform", "generic"}  # of which tifffile knows no more than is seen here
_RUNNING = {"imagej", "shaped", *_UNNAMED}  # whose pages may follow one directory
# Series that the first directory, and how the others are stored, tell all about.
_LASTING = {"uniform", "generic", "shaped", "imagej", "ome", "stk"}

# Of packed bits, LZW, deflate, and runs of bytes; of all others 65536: empty images pack well.
_TIGHTEST = {1: 8, 5: 4096, 8: 1100, 32946: 1100, 32773: 130}


@dataclass(frozen=True)
class Meaning:
    """The array that the pages of a file make."""

    axes: tuple[str, ...]
    """Names of the dimensions; empty of those that nothing names."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: np.ndarray
    """Number in the chain of each page of the array, or ABSENT."""
    page_size: int
    """Number of values of a page."""
    tightest: np.ndarray
    """How many bytes of pixels one stored byte may hold, in pages of each kind: 1 of those whose
    pixels are stored as they are."""
    run: int = 0
    """Where the array begins that goes on behind its one page, without directories; else 0."""
    entire: bool = False
    """Whether pages mean nothing on their own, so that tifffile has to read the whole array."""
    notes: tuple[str, ...] = ()
    """What was left out or not believed."""
    channels: tuple[str, ...] = ()
    """Names of the channels, where there are several and the file names each."""
    lasting: bool = False
    """Whether other files that are just like this one mean the same."""


def page_ndim(shape: tuple[int, ...], count: int) -> int:
    """How many of the innermost axes make one of `count` pages."""
    sizes = list(accumulate(reversed(shape), operator.mul))
    return sizes.index(math.prod(shape) // count) + 1


def understand(file: Tiff, chain: Chain) -> Meaning:
    """Find the array of a file; reads its descriptions."""
    if not len(chain):
        raise OSError(f"{file.path} is cut short: it has no page")
    ends = not (chain.broken or chain.circle)
    with asking(file, ends=ends) as tif:
        stack = _stack(tif, chain)
        found = _told(tif, file, chain, stack) if ends else None
        found = found or _one_after_the_other(stack, chain)
        return replace(found, channels=_channels(tif, found)) if "channel" in found.axes else found


def _channels(tif: tifffile.TiffFile, found: Meaning) -> tuple[str, ...]:
    """Names of the channels, if each has one of its own."""
    names, count = channel_names(tif), found.shape[found.axes.index("channel")]
    return names if 1 < count == len(names) == len(set(names)) else ()


# --- Which pages


class _Stack(NamedTuple):
    """The pages that make the array: those of the shape and type that most pages have."""

    page: tifffile.TiffPage
    numbers: np.ndarray
    tightest: np.ndarray
    notes: tuple[str, ...]


def _stack(tif: tifffile.TiffFile, chain: Chain) -> _Stack:
    """Sort pages by shape and type; lower levels and thumbnails that say so do not count."""
    firsts = np.unique(chain.which, return_index=True)[1].tolist()
    pages = [page_at(tif, int(chain.ifds[k]), k) for k in firsts]
    tightest = np.array([_tightest(p) for p in pages])
    for k, p, most in zip(firsts, pages, tightest.tolist(), strict=True):
        if p.nbytes > most * tif.filehandle.size:
            raise ValueError(f"page {k + 1} is damaged: it claims to have {p.nbytes} bytes")
    looks = [(p.shape, p.dtype, p.axes) for p in pages]
    counts: Counter[Any] = Counter()
    for look, n in zip(looks, np.bincount(chain.which).tolist(), strict=True):
        counts[look] += n
    full = {look for look, p in zip(looks, pages, strict=True) if not p.is_reduced} or set(looks)
    best = max(full, key=lambda look: (counts[look], math.prod(look[0])))
    member = np.array([look == best for look in looks])
    numbers = np.flatnonzero(member[chain.which])
    page = pages[looks.index(best)]
    notes = [
        f"{counted(n, 'page')} of {len(chain)} left out: shape {look[0]}, type {look[1]}; "
        f"most pages have shape {page.shape}, type {page.dtype}"
        for look, n in counts.items()
        if look in full and look != best
    ]
    return _Stack(page, numbers, tightest, tuple(notes))


def _tightest(page: tifffile.TiffPage) -> int:
    """How many bytes of pixels one stored byte may hold: 1 where they are stored as they are."""
    assert page.dtype is not None
    raw = (
        page.compression == 1
        and page.fillorder == 1
        and page.predictor == 1
        and not page.is_tiled
        and not page.is_subsampled
        and page.bitspersample == 8 * page.dtype.itemsize
    )
    return 1 if raw else _TIGHTEST.get(page.compression, 1 << 16)


# --- Along which axes


def _one_after_the_other(stack: _Stack, chain: Chain, *notes: str) -> Meaning:
    """Stack the pages in the order of the chain."""
    page, k = stack.page, len(stack.numbers)
    shape, axes = tuple(page.shape), _names(page.axes)
    if k > 1:
        shape, axes = (k, *shape), ("", *axes)
    if chain.circle:
        notes = (*notes, f"its last page, page {len(chain)}, leads back to an earlier one")
    notes = (*stack.notes, *notes)
    dtype = page.dtype.newbyteorder(page.parent.byteorder)
    return Meaning(axes, shape, dtype, stack.numbers, page.size, stack.tightest, notes=notes)


def _names(letters: str) -> tuple[str, ...]:
    """Dimension names of tifffile's letters."""
    return tuple(_AXES.get(letter, "") for letter in letters)


def _told(tif: tifffile.TiffFile, file: Tiff, chain: Chain, stack: _Stack) -> Meaning | None:
    """Arrange pages as the file or its index tells, if that fits their number."""
    plain = _one_after_the_other(stack, chain)
    if frames := _ndtiff(tif, file, chain, stack):
        return _arranged(plain, frames) or _untold(plain, 0)
    series = series_of(tif)
    kind = series[0].kind if series else ""
    if series and kind not in _COUNTED:
        return _as_told(series[0], file, chain, plain)
    if kind in _UNNAMED and _MICRO_MANAGER in stack.page.tags:
        labels = [_indices(page_at(tif, int(chain.ifds[i]), i)) for i in stack.numbers.tolist()]
        return _arranged(plain, labels) or _untold(plain, 0)
    alike = [s for s in series if s.keyframe.shape == stack.page.shape]
    alike = [s for s in alike if (s.shape, s.axes) == (alike[0].shape, alike[0].axes)]
    sizes = [max(1, math.prod(s.shape) // s.keyframe.size) for s in alike]
    n = _in_a_run(tif, sizes[0]) if len(chain) == 1 and kind in _RUNNING and sizes else 1
    if n > 1:
        return _run(file, chain, plain, alike[0], n)
    if kind not in _UNNAMED:
        found = _in_series(alike, sizes, chain, plain)
        found = found or _untold(plain, sizes[0] if sizes else 0)
    elif len(plain.order) > 1 and (tif.is_imagej or tif.is_ome or tif.is_shaped):
        found = _untold(plain, 0)
    else:
        found = plain
    return replace(found, lasting=kind in _LASTING)


def _untold(plain: Meaning, said: int) -> Meaning:
    """Note that what the file says of its pages does not fit them."""
    pages = counted(len(plain.order), "page")
    claim = f"describes {counted(said, 'page')}, but it has {pages}"
    claim = claim if said else f"does not fit its {pages}"
    note = f"its metadata {claim}; they are opened one after the other"
    return replace(plain, notes=(*plain.notes, note))


def _in_series(
    alike: Sequence[tifffile.TiffPageSeries], sizes: Sequence[int], chain: Chain, plain: Meaning
) -> Meaning | None:
    """Take the arrangement of series that hold just the pages of the stack."""
    place = {int(ifd): i for i, ifd in enumerate(chain.ifds)}
    orders = []
    for s, n in zip(alike, sizes, strict=True):
        pages = list(s) if s.kind in {"ome", "mmstack"} else []
        if len(pages) == n:
            orders.append(_numbers(pages, place))
        else:  # one after the other from its first page on
            first = np.searchsorted(plain.order, place.get(s.keyframe.offset, len(chain)))
            orders.append(plain.order[first : first + n])
    order = np.concatenate(orders) if orders else np.empty(0, np.int64)
    present = order[order != ABSENT]
    fits = len(present) == len(plain.order) and np.array_equal(np.sort(present), plain.order)
    if not fits or len(order) != sum(sizes):
        return None
    axes, shape = _names(alike[0].axes), tuple(alike[0].shape)
    if len(alike) > 1:
        many = "position" if alike[0].kind == "ome" else "" if sizes[0] == 1 else "volume"
        axes, shape = (many, *axes), (len(alike), *shape)
    return _held(replace(plain, axes=axes, shape=shape, order=order))


def _numbers(pages: Sequence[Any], place: Mapping[int, int]) -> np.ndarray:
    """Numbers in the chain of the pages of a series."""
    return np.array([ABSENT if p is None else place.get(p.offset, ABSENT) for p in pages])


def _held(meaning: Meaning) -> Meaning:
    """Narrow the array of a set of files to the indices that this one file holds."""
    shape, order = meaning.shape, meaning.order
    ndim = len(shape) - page_ndim(shape, len(order))
    present = (order != ABSENT).reshape(shape[:ndim])
    if present.all():
        return meaning
    held = [np.unique(indices) for indices in present.nonzero()]
    kept = [axis for axis, indices in enumerate(held) if len(indices) > 1]
    order = order.reshape(present.shape)[np.ix_(*held)].ravel()
    notes = meaning.notes
    if absent := int((order == ABSENT).sum()):
        notes += (f"{counted(absent, 'page')} of {len(order)} are not in the file: filled with 0",)
    return replace(
        meaning,
        axes=tuple(meaning.axes[axis] for axis in kept) + meaning.axes[ndim:],
        shape=tuple(len(held[axis]) for axis in kept) + shape[ndim:],
        order=order,
        notes=notes,
    )


def _in_a_run(tif: tifffile.TiffFile, said: int) -> int:
    """Count the pages that the one directory of a file announces."""
    images = (tif.imagej_metadata or {}).get("images") if said == 1 and tif.is_imagej else None
    return images if isinstance(images, int) else said


def _run(
    file: Tiff, chain: Chain, plain: Meaning, series: tifffile.TiffPageSeries, n: int
) -> Meaning:
    """Take pages that follow the pixels of the first without directories of their own."""
    nbytes = math.prod(plain.shape) * plain.dtype.itemsize
    start = int(chain.starts[0])
    if start < 0:
        start = start_of(file, int(chain.ifds[0]), nbytes)
    if plain.tightest[0] != 1:
        start = ENCODED
    if start < 0 or start + 2 * nbytes > file.size:
        note = f"its metadata describes {counted(n, 'page')}, but it has 1 page"
        return replace(plain, notes=(*plain.notes, note))
    file.check(start, n * nbytes)
    axes, shape = _names(series.axes), tuple(series.shape)
    if math.prod(shape) != n * math.prod(plain.shape):
        axes, shape = ("", *plain.axes), (n, *plain.shape)
    return replace(plain, axes=axes, shape=shape, run=start)


def _as_told(series: tifffile.TiffPageSeries, file: Tiff, chain: Chain, plain: Meaning) -> Meaning:
    """Take the first image of a format that only tifffile knows."""
    shape, page = tuple(series.shape), series.keyframe
    if series.dtype is None or not math.prod(shape):
        raise ValueError(f"{file.path} holds no pixels of a known type")
    count = max(1, math.prod(shape) // page.size)
    dtype = series.dtype.newbyteorder(page.parent.byteorder)
    found = replace(plain, axes=_names(series.axes), shape=shape, dtype=dtype, notes=())
    if len(chain) == 1 and count > 1 and series.transform is None:
        return _run(file, chain, plain, series, count)
    place = {int(ifd): i for i, ifd in enumerate(chain.ifds)}
    pages = list(series)
    order = _numbers(pages, place)
    special = series.transform or series.kind in {"lsm", "ndpi", "eer"} or len(pages) != count
    if special or (order == ABSENT).any():
        return replace(found, order=np.empty(0, np.int64), entire=True)
    return replace(found, order=order)


# --- By an index of pages


def _ndtiff(
    tif: tifffile.TiffFile, file: Tiff, chain: Chain, stack: _Stack
) -> list[dict[str, int | str]]:
    """Say which frame each page of an NDTiff file is, by the index beside it."""
    if is_url(file.path):  # only what is in the file counts
        return []
    folder, name = os.path.split(file.path)
    index = os.path.join(folder, "NDTiff.index")
    said = (tif.micromanager_metadata if tif.is_micromanager else None) or {}
    if "MajorVersion" not in said or not os.path.isfile(index):
        return []
    frames = {entry[2]: entry[0] for entry in tifffile.read_ndtiff_index(index) if entry[1] == name}
    found = [frames.get(int(chain.starts[k]), {}) for k in stack.numbers]
    return [{_COLUMNS.get(key, key): label for key, label in each.items()} for each in found]


def _indices(page: tifffile.TiffPage) -> dict[str, int | str]:
    """Say which frame a page of Micro-Manager is."""
    said = page.tags.valueof(_MICRO_MANAGER)
    said = said if isinstance(said, dict) else {}
    return {axis: said[key] for key, axis in _INDICES.items() if isinstance(said.get(key), int)}


def _arranged(plain: Meaning, frames: Sequence[dict[str, int | str]]) -> Meaning | None:
    """Arrange pages by the labels of each, if they fill an array."""
    axes = [axis for axis in frames[0] if len({frame.get(axis) for frame in frames}) > 1]
    if any(axis not in frame for axis in axes for frame in frames):
        return None
    # What changes last is outermost.
    changes = {a: [frame[a] != frames[0][a] for frame in frames].index(True) for a in axes}
    axes.sort(key=lambda axis: -changes[axis])
    labels = [list(dict.fromkeys(frame[axis] for frame in frames)) for axis in axes]
    labels = [each if isinstance(each[0], str) else sorted(each) for each in labels]
    lead = tuple(map(len, labels))
    ranks = [{label: i for i, label in enumerate(each)} for each in labels]
    places = [
        tuple(rank[frame[axis]] for rank, axis in zip(ranks, axes, strict=True)) for frame in frames
    ]
    if math.prod(lead) != len(frames) or len(set(places)) != len(frames):
        return None
    order = np.empty(lead, np.int64)
    for place, number in zip(places, plain.order.tolist(), strict=True):
        order[place] = number
    many = len(frames) > 1
    return replace(
        plain,
        axes=(*axes, *plain.axes[many:]),
        shape=(*lead, *plain.shape[many:]),
        order=order.ravel(),
    )
