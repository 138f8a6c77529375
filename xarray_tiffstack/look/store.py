"""A store as one Dataset: its images, positions and wells put together by their labels."""

from __future__ import annotations

import os
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.ome_zarr.images import PLATE
from xarray_tiffstack.storage import Access, is_index, is_url, local_path, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import xarray as xr
    import zarr


def open_store(
    path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Open a Zarr store that was written of a Dataset, or an index, at full resolution.

    Parameters
    ----------
    path
        What ``ds.to_zarr``, ``ds.tiffstack.to_ome_zarr`` or ``ds.tiffstack.to_virtual`` wrote.
    storage_options
        How a URL is reached: that of the store, or of the files of an index.

    Raises
    ------
    ValueError
        It holds no variable with axes y and x, or files of an index changed.
    """
    import zarr

    # Of an index of icechunk chunks may be shorter where pages end, which older versions refuse.
    known = zarr.config.get("array.rectilinear_chunks", None) is not None
    with zarr.config.set({"array.rectilinear_chunks": True} if known else {}):
        groups, parts = _opened(path, storage_options)
    for group, part in zip(groups, parts, strict=True):
        if not any({"y", "x"} <= set(v.dims) for v in part.data_vars.values()):
            raise ValueError(f"{path}{'/' if group else ''}{group} holds no image with labels")
    ds = parts[0] if len(parts) == 1 else _joined(parts)
    ds.encoding["source"] = str(path) if is_url(path) else os.path.abspath(path)
    if groups[0]:
        ds.encoding["group"] = groups[0] if len(groups) == 1 else ""
    return ds


def _opened(
    path: str | os.PathLike[str], options: Mapping[str, Any] | None
) -> tuple[list[str], list[xr.Dataset]]:
    """Open the groups of all images, at full resolution."""
    import xarray as xr
    import zarr

    store: Any = str(path)
    reached: dict[str, Any] = {}
    if is_index(path):
        from xarray_tiffstack.index import open_index

        store = open_index(path, storage_options=options)
    elif options and is_url(store) and local_path(store) is None:
        kind, base, _ = split(store)
        reached = {"storage_options": Access(options).remember(base).fsspec(kind)}
    root = zarr.open_group(store, mode="r", **reached)
    groups = [f"{image}/0".lstrip("/") for image in _images(root)] or [""]
    parts = []
    for group in groups:
        part = xr.open_zarr(store, group=group, chunks={}, consolidated=False, **reached)
        parts.append(part.assign_coords({n: c.compute() for n, c in part.coords.items()}))
    return groups, parts


def _images(root: zarr.Group) -> Iterator[str]:
    """Paths of the images of an OME-Zarr store; none of another store."""
    said = _ome(root.attrs)
    if "multiscales" in said:
        yield ""
    elif "plate" in said:
        for well in said["plate"]["wells"]:
            for image in _ome(_group(root, well["path"]).attrs)["well"]["images"]:
                yield f"{well['path']}/{image['path']}"
    elif "bioformats2raw.layout" in said:
        yield from _ome(_group(root, "OME").attrs)["series"]


def _group(root: zarr.Group, path: str) -> zarr.Group:
    import zarr

    found = root[path]
    if not isinstance(found, zarr.Group):
        raise ValueError(f"{path} is an array, not a group")
    return found


def _ome(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of either version: under ``ome`` since 0.5, bare before."""
    return dict(attrs.get("ome", attrs))


def _along(part: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """Make dimensions of labels of an image; its row and column are along the well."""
    given = {n: part[n].variable.expand_dims("well") for n in PLATE if n in part.coords}
    return part.expand_dims(list(names)).assign_coords(given if "well" in names else {})


def _joined(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put images together along the labels that they differ in."""
    import xarray as xr

    scalars = {
        name: [part[name].item() for part in parts]
        for name, coord in parts[0].coords.items()
        if not coord.dims and all(name in part.coords for part in parts)
    }
    varying = {str(n): labels for n, labels in scalars.items() if len(set(labels)) > 1}
    # What is beside a label is none: the file, and the row and column of a well.
    beside = {"path", "present", *(PLATE if "well" in varying else ())}
    varying = {n: labels for n, labels in varying.items() if n not in beside}
    for number in range(1, len(varying) + 1):
        for names in combinations(varying, number):
            told = set(zip(*(varying[name] for name in names), strict=True))
            grid = np.prod([len(set(varying[name])) for name in names])
            if len(told) == len(parts) == grid:
                expanded = [_along(part, names) for part in parts]
                joined = xr.combine_by_coords(
                    expanded, coords="different", compat="equals", join="outer",
                    combine_attrs="override",
                )  # fmt: skip
                assert isinstance(joined, xr.Dataset)  # as it is of Datasets
                return joined
    return xr.concat(
        parts, "image_number", coords="different", compat="equals", join="outer",
        combine_attrs="override",
    )  # fmt: skip
