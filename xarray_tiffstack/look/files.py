"""Which file each slot of a Dataset has, and in what state the files are."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from xarray_tiffstack.look.image import noted, source_of
from xarray_tiffstack.look.plate import wells_of
from xarray_tiffstack.look.words import in_bytes, label_text, ranges
from xarray_tiffstack.storage import is_url, joined
from xarray_tiffstack.storage import sizes as sizes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from xarray_tiffstack.look.plate import Wells

State: TypeAlias = Literal[
    "present", "missing", "empty", "short", "other size", "unreadable", "no longer there"
]
STATES: tuple[State, ...] = (
    "present", "other size", "short", "empty", "unreadable", "no longer there", "missing",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Files:
    """The files of a Dataset, and what the disk says of them."""

    source: str
    """Folder that holds them; empty where the Dataset does not say."""
    labels: dict[str, np.ndarray]
    """Labels along the dimensions that files differ in."""
    paths: np.ndarray
    """Path of the file in each slot, None where there is none."""
    sizes: np.ndarray
    """Bytes of each file, -1 where there is none."""
    states: np.ndarray
    """Position in `STATES` for each slot."""
    present: np.ndarray
    """Whether pixels of each slot are read from a file."""
    usual: int | None
    """Size that more than half of the files have, None where there is no such size."""
    wells: Wells
    """Where each well lies on its plate, and its position along the dimensions; empty elsewhere."""

    def are(self, state: State) -> np.ndarray:
        """Where files are in a state."""
        return np.asarray(self.states == STATES.index(state))

    @cached_property
    def filled(self) -> np.ndarray:
        """Where pixels are filled in, because there is no file, an empty or an unreadable one."""
        return np.asarray(self.are("missing") | self.are("empty") | ~self.present)

    @cached_property
    def elsewhere(self) -> bool:
        """Whether none of the files is on this computer, as of a store that was carried here."""
        named = ~self.are("missing")
        return bool(named.any()) and not (named & ~self.are("no longer there")).any()

    def names(self, state: State) -> list[str]:
        """Names of the files in a state, below the source; sizes beside those of another size."""
        where = self.are(state)
        found = [self.below(path) for path in self.paths[where]]
        if state != "other size":
            return found
        usual = f" (most have {in_bytes(self.usual or 0)})"
        sizes = self.sizes[where].tolist()
        return [f"{name}: {in_bytes(n)}{usual}" for name, n in zip(found, sizes, strict=True)]

    def below(self, path: str) -> str:
        """Path relative to the source, with "/"."""
        sep = "/" if is_url(path) else os.sep
        if self.source and path.startswith(self.source):
            path = path[len(self.source) :].lstrip(sep)
        return path.replace(sep, "/")

    def slot(self, at: Sequence[int]) -> str:
        """Labels of a slot in words: "channel 560, stack 3"."""
        along = zip(self.labels.items(), at, strict=True)
        return ", ".join(f"{name} {label_text(labels[i])}" for (name, labels), i in along)

    def missing(self) -> list[str]:
        """Slots without a file, in as few lines as can be: "channel 642: stack 6, 9-12"."""
        holes = self.are("missing")
        if not holes.any() or not self.labels:
            return ["the only file"] if holes.any() else []
        ways = (self._missing_along(axis, holes) for axis in _longest_first(holes.shape))
        return min(ways, key=len)

    def _missing_along(self, axis: int, holes: np.ndarray) -> list[str]:
        """Slots without a file as ranges along a dimension, a line for rows that lack the same."""
        name = list(self.labels)[axis]
        others = {k: v for k, v in self.labels.items() if k != name}
        rows = np.moveaxis(holes, axis, -1)
        alike: dict[bytes, list[tuple[int, ...]]] = {}
        for at in np.ndindex(rows.shape[:-1]):
            if rows[at].any():
                alike.setdefault(rows[at].tobytes(), []).append(at)
        lines = []
        for where in alike.values():
            row = rows[where[0]]
            which = ranges(self.labels[name], np.flatnonzero(row))
            what = f"all of {name}" if row.all() and len(row) > 1 else f"{name} {which}"
            lines.append(_rows_in_words(others, where) + what)
        return lines


def _rows_in_words(labels: dict[str, np.ndarray], rows: Sequence[tuple[int, ...]]) -> str:
    """Begin a line: "channel 488, 642: " of one dimension, "channel 488, position 1: " of more."""
    if not labels:
        return ""
    if len(labels) == 1:
        (name, along), taken = next(iter(labels.items())), [at[0] for at in rows]
        every = len(taken) == len(along) > 1
        return f"every {name}: " if every else f"{name} {ranges(along, taken)}: "
    if len(rows) == np.prod([len(along) for along in labels.values()]):
        return f"every {' and '.join(labels)}: "
    texts = [
        ", ".join(f"{n} {label_text(v[i])}" for (n, v), i in zip(labels.items(), at, strict=True))
        for at in rows[:3]
    ]
    more = f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
    return "; ".join(texts) + more + ": "


def _longest_first(shape: Sequence[int]) -> list[int]:
    return sorted(range(len(shape)), key=lambda axis: -shape[axis])


def files_of(ds: xr.Dataset, *, sizes: bool = True) -> Files:
    """Find the file of each slot, and ask the disk for its size; no file is opened.

    Parameters
    ----------
    ds
        The Dataset.
    sizes
        Whether to ask the disk; otherwise every file counts as present.

    Raises
    ------
    ValueError
        The Dataset has no coordinate ``path``.
    """
    if "path" not in ds.variables:
        raise ValueError(
            "this Dataset has no coordinate 'path'; open the files with "
            'xarray.open_dataset(source, engine="tiffstack")'
        )
    order = [d for v in ds.data_vars.values() for d in v.dims if d in ds["path"].dims]
    path = ds["path"].variable.compute().transpose(*dict.fromkeys(order), ...)
    known = [isinstance(p, str) and p != "" for p in path.values.ravel()]  # else "", or NaN
    paths = np.full(path.shape, None, object)
    held = np.flatnonzero(known)
    paths.flat[held] = path.values.ravel()[held]
    found = np.full(paths.shape, -1, np.int64)
    if sizes:
        asked = sizes_of(paths.flat[held].tolist())
        found.flat[held] = [-1 if size is None else size for size in asked]
    labels = {str(d): ds[d].values for d in path.dims}
    usual = _usual(found[found > 0])
    source = source_of(ds)
    if sizes:
        states = _states(ds, source, paths, found, usual)
    else:
        states = np.where(np.reshape(known, paths.shape), 0, STATES.index("missing"))
    present = np.full(paths.shape, True)
    if "present" in ds.variables and set(ds["present"].dims) <= set(path.dims):
        there = ds["present"].variable.compute()
        values = there.transpose(*(d for d in path.dims if d in there.dims)).values
        along = [n if d in there.dims else 1 for d, n in path.sizes.items()]
        # By NumPy: xarray would copy all labels, at which old NumPy crashes if they are text.
        flags = values.reshape(along) == True  # noqa: E712 - a new label of `reindex` is NaN
        present = np.broadcast_to(flags, paths.shape)
    return Files(source, labels, paths, found, states, present, usual, wells_of(ds))


def _states(
    ds: xr.Dataset, source: str, paths: np.ndarray, sizes: np.ndarray, usual: int | None
) -> np.ndarray:
    """State of every file, those that say more over those that say less."""
    named = np.asarray(paths != None)  # noqa: E711 - of each entry
    states = np.zeros(paths.shape, np.int8)
    states[~named] = STATES.index("missing")
    if usual is not None:
        states[(sizes >= 0) & (sizes != usual)] = STATES.index("other size")
    states[sizes == 0] = STATES.index("empty")
    states[named & (sizes < 0)] = STATES.index("no longer there")
    kinds: tuple[State, ...] = ("short", "unreadable")
    noticed: dict[str, State] = {}
    for kind in kinds:
        for line in noted(ds, kind):  # each begins with the file, and a colon
            noticed[_normal(joined(source, line.split(": ")[0]))] = kind
    for slot in np.flatnonzero(named) if noticed else ():
        state = noticed.get(_normal(paths.flat[slot]))
        if state is not None and sizes.flat[slot] > 0:
            states.flat[slot] = STATES.index(state)
    return states


def _normal(path: str) -> str:
    """Spell a path in one way."""
    return path if is_url(path) else os.path.normpath(path)


def _usual(sizes: np.ndarray) -> int | None:
    """Size of more than half of the files: those of compressed files differ, and say nothing."""
    (size, share), *_ = Counter(sizes.tolist()).most_common(1) or [(0, 0)]
    return size if share * 2 > len(sizes) else None
