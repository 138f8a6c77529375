"""An index opened, after a look at its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr

from xarray_tiffstack.index import ice
from xarray_tiffstack.index.files import Files, read_files

if TYPE_CHECKING:
    from zarr.abc.store import Store


def open_index(
    index: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    snapshot: str | None = None,
    check: bool = True,
) -> Store:
    """Open an index that `to_virtual` wrote, when all of its files are as they were.

    Costs one ``stat`` of each file. icechunk alone checks, as it reads, that a file was not changed
    later than it was indexed; here sizes and exact times count, so that an older file in its place
    is found too. References of kerchunk are checked nowhere else.

    Parameters
    ----------
    index : str or path
        ``NAME.icechunk``, ``NAME.json`` or ``NAME.parq``.
    source : str or path, optional
        Folder of the files, where it moved; by default where it was, or the same way from the
        index as then.
    snapshot : str, optional
        An earlier state of an index of icechunk: the name of its commit.
    check : bool
        Whether to look at the files.

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
    target = Path(os.path.abspath(os.path.expanduser(index)))
    store: Store
    store, files = _opened(target, source, snapshot)
    if check:
        files.check(files.root, target)
    return store


def check_index(
    index: str | os.PathLike[str], source: str | os.PathLike[str] | None = None
) -> list[str]:
    """Say which files of an index are gone, or have another size or time; one ``stat`` of each.

    Parameters
    ----------
    index, source
        As for `open_index`.

    Returns
    -------
    list of str
        A line for each file; none where all are as they were.
    """
    target = Path(os.path.abspath(os.path.expanduser(index)))
    return _opened(target, source, None)[1].changed()


def _opened(
    target: Path, source: str | os.PathLike[str] | None, snapshot: str | None
) -> tuple[Any, Files]:
    """Open an index where its files are now."""
    if not target.exists():
        raise FileNotFoundError(f"{target} does not exist")
    if source is not None and not os.path.isdir(source):
        raise FileNotFoundError(f"{source} is no folder")
    given = None if source is None else os.path.abspath(source)
    if target.suffix in (".json", ".parq", ".parquet"):
        from xarray_tiffstack.index.kerchunk import open_store

        return open_store(target, given)
    if not ice.is_repository(target):
        raise ValueError(f"{target} is no index that to_virtual wrote")
    store = _session(target, given or os.fspath(target.parent), snapshot)
    files = read_files(zarr.open_group(store, mode="r"), str(target))
    root = given or files.root
    if not os.path.isdir(root):
        raise FileNotFoundError(
            f"{root}, the folder of the files, is not there: name the place where it is now, "
            f"open_index({str(target)!r}, source)"
        )
    files = Files(root, files.paths, files.sizes, files.times)
    return _session(target, root, snapshot), files


def _session(target: Path, root: str, snapshot: str | None) -> Any:
    """Open a repository for reading, with its references below a folder."""
    repo = ice.Repository(target, root).open()
    if snapshot is None:
        return repo.readonly_session("main").store
    return repo.readonly_session(snapshot_id=snapshot).store
