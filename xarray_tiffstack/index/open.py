"""An index opened, after a look at its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr

from xarray_tiffstack.index import ice
from xarray_tiffstack.index.files import Files, read_files
from xarray_tiffstack.storage import Access, is_url, local_path, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zarr.abc.store import Store

KERCHUNK = (".json", ".parq", ".parquet")


def open_index(
    index: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    snapshot: str | None = None,
    check: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> Store:
    """Open an index that `to_virtual` wrote, when all of its files are as they were.

    Costs one ``stat`` of each file, or a request for each 1,000 objects. icechunk alone checks, as
    it reads, that a file was not changed later than it was indexed; here sizes and exact times
    count, so that an older file in its place is found too. References of kerchunk are checked
    nowhere else.

    Parameters
    ----------
    index : str or path
        ``NAME.icechunk``, also at a URL; ``NAME.json`` or ``NAME.parq``.
    source : str or path, optional
        Folder of the files, or its URL, where it moved; by default where it was, or the same way
        from the index as then.
    snapshot : str, optional
        An earlier state of an index of icechunk: the name of its commit.
    check : bool
        Whether to look at the files.
    storage_options : mapping, optional
        How a URL is reached, as for ``xarray.open_dataset``.

    Returns
    -------
    zarr.abc.store.Store
        For `xarray.open_datatree`, with ``engine="zarr"``, and everything else that reads Zarr.

    Raises
    ------
    ValueError
        Files have another size or time, or are gone; the message names them.
    FileNotFoundError
        There is no index, or no such folder.
    ImportError
        icechunk is missing.

    Examples
    --------
    >>> import pytest; _ = pytest.importorskip("icechunk", "2.3")
    >>> import numpy as np, tifffile, xarray as xr
    >>> from tempfile import TemporaryDirectory
    >>> from xarray_tiffstack import open_index
    >>> raw, saved = TemporaryDirectory(), TemporaryDirectory()
    >>> for t in (0, 1):
    ...     tifffile.imwrite(f"{raw.name}/cell_t{t}.tif", np.full((8, 8), t, "uint16"))
    >>> ds = xr.open_dataset(raw.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
    >>> ds.tiffstack.to_virtual(f"{saved.name}/cell.icechunk").references
    2
    >>> store = open_index(f"{saved.name}/cell.icechunk")
    >>> xr.open_datatree(store, engine="zarr")["0"].image.sel(t=1).values.max()
    np.uint16(1)
    >>> raw.cleanup(), saved.cleanup()
    (None, None)
    """
    target = place_of(index)
    store: Store
    store, files = _opened(target, source, snapshot, storage_options)
    if check:
        files.check(target)
    return store


def check_index(
    index: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Say which files of an index are gone, or have another size or time; one ``stat`` of each.

    Parameters
    ----------
    index, source, storage_options
        As for `open_index`.

    Returns
    -------
    list of str
        A line for each file; none where all are as they were.
    """
    return _opened(place_of(index), source, None, storage_options)[1].changed()


def place_of(place: str | os.PathLike[str]) -> str:
    """Spell a place as an absolute path, or as a URL."""
    place = os.fspath(place)
    if is_url(place):
        if (local := local_path(place)) is None:
            return place.rstrip("/")
        place = local
    return os.path.abspath(os.path.expanduser(place))


def _opened(
    target: str,
    source: str | os.PathLike[str] | None,
    snapshot: str | None,
    options: Mapping[str, Any] | None,
) -> tuple[Any, Files]:
    """Open an index where its files are now."""
    if os.path.splitext(target)[1] in KERCHUNK:
        return _references(target, source, options)
    repository, files = repository_of(target, source, options, snapshot)
    return _session(repository.open(), snapshot).store, files


def _references(
    target: str, source: str | os.PathLike[str] | None, options: Mapping[str, Any] | None
) -> tuple[Any, Files]:
    from xarray_tiffstack.index.kerchunk import open_store

    if is_url(target):
        raise ValueError(
            f"references of kerchunk are opened on a disk: download {target} first, or read it "
            "with fsspec"
        )
    if not os.path.exists(target):
        raise FileNotFoundError(f"{target} does not exist")
    return open_store(Path(target), None if source is None else _folder(source), options)


def _folder(source: str | os.PathLike[str]) -> str:
    found = place_of(source)
    if not is_url(found) and not os.path.isdir(found):
        raise FileNotFoundError(f"{source} is no folder")
    return found


def repository_of(
    target: str,
    source: str | os.PathLike[str] | None,
    options: Mapping[str, Any] | None,
    snapshot: str | None = None,
) -> tuple[ice.Repository, Files]:
    """Find an index of icechunk, and its files where they are now."""
    given = None if source is None else _folder(source)
    _remember(options, target, given)
    if not is_url(target):
        if not os.path.exists(target):
            raise FileNotFoundError(f"{target} does not exist")
        if not ice.is_repository(Path(target)):
            raise ValueError(f"{target} is no index that to_virtual wrote")
    first = ice.Repository(target, given or os.path.dirname(target))
    session = _session(first.open(), snapshot)
    files = read_files(zarr.open_group(session.store, mode="r"), target)
    root = given or files.root
    if not is_url(target) or target.partition("://")[0] == root.partition("://")[0]:
        _remember(options, root)
    if not is_url(root) and not os.path.isdir(root):
        raise FileNotFoundError(
            f"{root}, the folder of the files, is not there: name the place where it is now, "
            f"open_index({target!r}, source)"
        )
    return ice.Repository(target, root), files.at(root)


def _remember(options: Mapping[str, Any] | None, *places: str | None) -> None:
    """Have those URLs among places be reached with these options."""
    for url in filter(is_url, places):
        if options is not None:
            Access(options).remember(split(url).base)


def _session(repo: Any, snapshot: str | None) -> Any:
    """Read one state, by default the last one."""
    if snapshot is None:
        return repo.readonly_session("main")
    return repo.readonly_session(snapshot_id=snapshot)
