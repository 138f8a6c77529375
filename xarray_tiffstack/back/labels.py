"""Which file is in each slot of a store, and which a selection names, as its labels say."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr

from xarray_tiffstack.messages import first_lines, unreadable
from xarray_tiffstack.ome_zarr.journal import NOTES
from xarray_tiffstack.source import below

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from xarray_tiffstack.ome_zarr.pixels import Target

REQUESTS = 16  # objects that are asked for at once: those of a store at a URL take long to come


@dataclass(frozen=True)
class Named:
    """Names of the files of a store, as its labels say them."""

    slots: dict[tuple[int, ...], str] = field(default_factory=dict)
    """Of the file of each slot that has one, as far as that is known."""
    every: set[str] = field(default_factory=set)
    """Of all files."""
    unread: dict[str, str] = field(default_factory=dict)
    """Labels that cannot be read, and why."""


def groups_of(target: Target) -> list[str]:
    """Name the groups of the images of a store at full resolution."""
    own: Any = zarr.open_group(target, path=NOTES, mode="r", use_consolidated=False).attrs["images"]
    return [f"{path}/0".lstrip("/") for path in own]


def dims_of(array: Any) -> tuple[str, ...]:
    """Names of the dimensions of an array, in either format of Zarr."""
    if array.metadata.zarr_format == 3:
        return tuple(array.metadata.dimension_names or ())
    return tuple(array.attrs["_ARRAY_DIMENSIONS"])


def named(target: Target, slots: Mapping[str, int] | None) -> Named:
    """Read the names of all files.

    Parameters
    ----------
    target
        The store.
    slots
        Dimensions along which there is a slot at each position, and their lengths; None where they
        are not known.
    """
    found = Named()
    groups = groups_of(target)

    def one(group: str) -> tuple[tuple[str, ...], np.ndarray] | str:
        try:
            node: Any = zarr.open_group(target, path=group, mode="r", use_consolidated=False)
            source, array = str(node.attrs.get("source", "")), node["path"]
            names = [below(source, str(p)) if p else "" for p in np.ravel(array[...])]
            return dims_of(array), np.reshape(np.array(names, object), array.shape)
        except Exception as error:  # damaged labels can raise anything
            return unreadable(error)

    with ThreadPoolExecutor(REQUESTS) as pool:
        read = dict(zip(groups, pool.map(one, groups), strict=True))
    found.unread.update({f"{group}/path": r for group, r in read.items() if isinstance(r, str)})
    images = [None if isinstance(each, str) else each for each in read.values()]
    for each in images:
        found.every.update(name for name in (np.ravel(each[1]) if each else ()) if name)
    if slots is not None:
        found.slots.update((index, name) for index, name in _placed(images, slots) if name)
    return found


def _placed(
    images: Sequence[tuple[tuple[str, ...], np.ndarray] | None], slots: Mapping[str, int]
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Find the slot of each name: images follow each other in the order of their labels.

    Several have the same files where dimensions of a file are no axes of an image.
    """
    there = next((dims for dims, _ in filter(None, images)), ())
    apart = [dim for dim in slots if dim not in there]  # along these there are several images
    number = math.prod(slots[dim] for dim in apart)
    distinct: dict[Any, int] = {}
    for each in images:
        key = len(distinct) if each is None or len(images) == number else tuple(each[1].flat)
        distinct.setdefault(key, len(distinct))
    if len(distinct) != number:
        return
    for i, each in enumerate(images):
        if each is None:
            continue
        at = i if len(images) == number else distinct[tuple(each[1].flat)]
        fixed = np.unravel_index(at, [slots[dim] for dim in apart]) if apart else ()
        where = dict(zip(apart, map(int, fixed), strict=True))
        for index, name in np.ndenumerate(each[1]):
            here = where | dict(zip(each[0], index, strict=True))
            if here.keys() == slots.keys():
                yield tuple(here[dim] for dim in slots), name


def selected(target: Target, selection: Mapping[str, Any]) -> set[str]:
    """Names of the files with some labels.

    Raises
    ------
    ValueError
        There are no such labels, or they cannot be read.
    """
    paths: set[str] = set()
    seen: dict[str, list[Any]] = {name: [] for name in selection}
    wanted = {
        name: list(values) if isinstance(values, (list, tuple)) else [values]
        for name, values in selection.items()
    }
    for group in groups_of(target):
        ds = _labels(target, group)
        here: Any = ds["path"]
        for name, values in wanted.items():
            if name not in here.coords:
                raise ValueError(
                    f"{name}={values[0]} selects nothing: the labels of the files are "
                    f"{', '.join(map(str, here.coords))}"
                )
            labels = ds[name]
            seen[name] += np.ravel(labels.values).tolist()
            same = [any(_same(each, v) for v in values) for each in np.ravel(labels.values)]
            kept = xr.DataArray(np.reshape(same, labels.shape), dims=labels.dims)
            here = here.where(kept, "")
        source = str(ds.attrs.get("source", ""))
        paths |= {below(source, str(p)) for p in np.ravel(here.values) if p}
    for name, values in wanted.items():
        if lacking := [v for v in values if not any(_same(each, v) for each in seen[name])]:
            there = list(dict.fromkeys(map(str, seen[name])))
            raise ValueError(
                f"{name}={lacking[0]} is no label; those of {name} are:\n{first_lines(there)}"
            )
    return paths


def _labels(target: Target, group: str) -> xr.Dataset:
    """Labels of an image."""
    store: Any = target
    try:
        ds: xr.Dataset = xr.open_zarr(store, group=group, chunks=None, consolidated=False)
        return ds.drop_vars("image").load()
    except Exception as error:  # damaged labels can raise anything
        raise ValueError(
            f"labels of {group} in the store: something {unreadable(error)}, so files cannot be "
            "chosen by sel= (--sel): leave it out, and all files are written that the store holds"
        ) from error


def _same(label: Any, wanted: Any) -> bool:
    """Whether a label is the one that is wanted, which a shell gives as text."""
    if str(label) == str(wanted):
        return True
    try:
        return float(label) == float(wanted)
    except (TypeError, ValueError):
        return False


def spelled(path: str) -> str:
    """Spell a path as labels of a store do, which hold UTF-8 alone."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
