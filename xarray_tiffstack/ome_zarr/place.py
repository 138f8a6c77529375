"""Where a store may be: never in or around its source; nothing of somebody else's is deleted."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import zarr

from xarray_tiffstack.messages import first_lines
from xarray_tiffstack.ome_zarr.cloud import Cloud
from xarray_tiffstack.ome_zarr.journal import NOTES
from xarray_tiffstack.ome_zarr.pixels import Target, settle
from xarray_tiffstack.storage import is_url, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zarr.abc.store import Store as ZarrStore

    from xarray_tiffstack.ome_zarr.plan import Plan

METADATA = {"zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"}
ROOTS = ("zarr.json", ".zgroup")  # what makes a place a group of Zarr
_ATTRIBUTES = ("zarr.json", ".zattrs")  # where a group says something of itself
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # of those who only looked at a folder
CHUNK = re.compile(r"c|(c[./])?\d+([./]\d+)*")
LEFT = re.compile(r".*\.partial|.*\.__lock|\.lock")  # of a killed process
RUN = re.sub(r"[^A-Za-z0-9-]", "-", f"{socket.gethostname()}-{os.getpid()}")


def target_of(store: str | os.PathLike[str] | ZarrStore) -> Target:
    """Local folders as absolute paths, through links; what zarr knows better as it is."""
    if isinstance(store, str) and store.startswith("file://"):
        store = url2pathname(urlsplit(store).path)
    if isinstance(store, os.PathLike) or (isinstance(store, str) and "://" not in store):
        return Path(store).expanduser().resolve()
    return store


def check(target: Target, plan: Plan) -> None:
    """Refuse a place where a store would do harm, or where something else is.

    Raises
    ------
    ValueError
        The store would be in its source, around it, or be what the Dataset was read from.
    FileExistsError
        Something else is there.
    """
    if not isinstance(target, Path):
        if isinstance(target, str):
            _check_url(target, plan.collection.source)
        held = set(Cloud(target).names())
        if held and held.isdisjoint((*ROOTS, NOTES)):
            raise FileExistsError(f"{target} holds something else than a Zarr store")
        return
    check_source(target, plan.collection.source, plan.collection.paths)
    for origin in _origins(plan):
        if _same(target, origin):
            raise ValueError(
                f"the Dataset was read from {target}, which would be overwritten by itself: "
                "write to another store"
            )
    if os.path.ismount(target):
        raise FileExistsError(f"{target} is the root of a disk: name a folder in it, as the store")
    here = Path.cwd()
    if here == target or here.is_relative_to(target):
        raise FileExistsError(f"{target} is the folder that you are in: name another, as the store")
    if not target.exists():
        return
    if not target.is_dir():
        raise FileExistsError(f"{target} is a file; a store is a folder")
    held = {path.name for path in target.iterdir()} - LITTER
    if held and not any((target / f).exists() for f in ROOTS):
        raise FileExistsError(f"{target} is a folder of something else than a Zarr store")


def check_source(target: Path, source: str, paths: Any) -> None:
    """Nothing is ever written to the source, nor deleted around it."""
    if not source or is_url(source):
        return
    folders = {source}
    if paths is not None:
        folders |= {os.path.dirname(os.path.join(source, str(p))) for p in paths.flat if p}
    for folder in map(Path, folders):
        if not folder.is_dir():  # of a store whose source is somewhere else, or no more
            continue
        here, there = _identities(folder), _identities(target)
        if here and there and here[0] in there and folder.parent != folder:
            raise ValueError(
                f"{target} is inside the source {folder}, and nothing is written there: write "
                "elsewhere"
            )
        if there and target.exists() and there[0] in here:
            raise ValueError(f"{target} holds the source {folder}: write elsewhere, beside it")


def _check_url(target: str, source: str) -> None:
    """Nothing is ever written to a source at a URL, nor deleted around it."""
    store, folder = target.rstrip("/") + "/", source.rstrip("/") + "/"
    if is_url(source) and split(source).key and store.startswith(folder):
        raise ValueError(
            f"{target} is inside the source {source}, and nothing is written there: put the "
            "store elsewhere"
        )
    if is_url(source) and folder.startswith(store):
        raise ValueError(f"{target} holds the source {source}: put the store elsewhere, beside it")


def _identities(path: Path) -> list[tuple[int, int]]:
    """Which folders a path is and lies in, as the file system numbers them, those that exist."""
    found = []
    path = path.resolve()
    for folder in (path, *path.parents):
        with suppress(OSError):
            stat = folder.stat()
            found.append((stat.st_dev, stat.st_ino))
    return found


def _same(target: Path, other: str) -> bool:
    """Whether a place is the store, or in it, or around it."""
    if is_url(other):
        return False
    path = Path(other).resolve()
    return path.is_relative_to(target) or target.is_relative_to(path)


def _origins(plan: Plan) -> Iterator[str]:
    """Places of the Zarr stores that a Dataset reads its pixels from."""
    yield from plan.collection.origins
    image: Any = plan.collection.ds["image"]
    found: list[Any] = [getattr(image.variable, "_data", None)]
    found += dict(image.__dask_graph__() or {}).values()
    seen: set[int] = set()
    while found:
        item = found.pop()
        if item is None or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, zarr.Array):
            root = getattr(item.store, "root", None)
            if root is not None:
                yield os.path.join(str(root), item.path)
        else:  # what xarray and dask wrap around an array
            found += [getattr(item, name, None) for name in ("value", "array", "_array")]
            found += [a for a in getattr(item, "args", ()) if not isinstance(a, (str, int, tuple))]


# --- what may be deleted ------------------------------------------------------------------------


def remove(target: Target, plan: Plan) -> None:
    """Delete a store that this program wrote.

    Raises
    ------
    FileExistsError
        There is something in it that this program did not write.
    """
    keys = [] if isinstance(target, Path) else Cloud(target).keys()
    if not keys and not isinstance(target, Path):
        return
    nodes = _nodes(target, plan)
    if isinstance(target, Path):
        foreign = list(_foreign(target, nodes))
    else:
        foreign = [key for key in keys if not _is_own(key, nodes)]
    if foreign:
        raise FileExistsError(
            f"{target} holds what this program did not write, and nothing is deleted:\n"
            f"{first_lines(foreign)}\nMove it away, or write to another store."
        )
    if not isinstance(target, Path):
        Cloud(target).remove(keys)
        return
    # Deleting takes time, and half a store must not be taken for a finished one.
    doomed = beside(target, "deleted")
    target.replace(doomed)
    shutil.rmtree(doomed)


def _nodes(target: Target, plan: Plan) -> set[str]:
    """Paths of the groups and arrays that were written to a store."""
    images, names = [image.path for image in plan.images], plan.nodes
    # In the cloud two requests, where zarr needs eight.
    files = {} if isinstance(target, Path) else read(target, (f"{NOTES}/{n}" for n in _ATTRIBUTES))
    found: Any = {}
    for data in files.values():
        with suppress(ValueError):
            said = json.loads(data)
            said = said.get("attributes", said)
            found = said if "images" in said else found
    for path in () if found else (NOTES, ""):
        with suppress(FileNotFoundError, ValueError):
            group = zarr.open_group(target, path=path, mode="r")
            if "images" in group.attrs:
                found = dict(group.attrs)
                break
            consolidated = group.metadata.consolidated_metadata
            if NOTES in group.attrs and consolidated is not None:  # of an earlier version
                return set(consolidated.flattened_metadata) | {"OME"}
    if found:
        images, names = found["images"], found["names"]
    levels = {f"{level}/{name}" for level, own in names.items() for name in own}
    return {f"{image}/{name}".lstrip("/") for image in images for name in levels} | {"OME"}


def _foreign(target: Path, nodes: set[str]) -> Iterator[str]:
    """List what is in a folder and no part of the store."""
    known = _with_parents(nodes)
    for folder, folders, files in os.walk(target):
        here = Path(folder).relative_to(target).as_posix()
        here = "" if here == "." else here
        for name in folders.copy():
            path = f"{here}/{name}".lstrip("/")
            if os.path.islink(os.path.join(folder, name)):
                yield path
            elif not (path in known or path.startswith(f"{NOTES}/") or _in_array(path, nodes)):
                yield f"{path}/"
                folders.remove(name)
        for name in files:
            path = f"{here}/{name}".lstrip("/")
            if name not in METADATA and not _is_own(path, nodes):
                yield path


def _is_own(path: str, nodes: set[str]) -> bool:
    """Whether a file of a store may be one that this program wrote, or that means nothing."""
    folder, _, name = path.rpartition("/")
    if path.startswith(f"{NOTES}/") or path == "OME/METADATA.ome.xml":
        return True
    if name in METADATA:
        return folder in _with_parents(nodes)
    return name in LITTER or LEFT.fullmatch(name) is not None or _in_array(path, nodes)


def _with_parents(nodes: set[str]) -> set[str]:
    """Give the groups that nodes lie in, too."""
    known = {NOTES, "", *nodes}
    for node in nodes:
        while "/" in node:
            node = node.rpartition("/")[0]
            known.add(node)
    return known


def _in_array(path: str, nodes: set[str]) -> bool:
    """Whether a path is that of a chunk of one of the arrays, or of a folder of chunks."""
    parts = path.split("/")
    return any(
        "/".join(parts[:i]) in nodes and CHUNK.fullmatch("/".join(parts[i:])) is not None
        for i in range(1, len(parts))
    )


# --- beside a store -----------------------------------------------------------------------------


def beside(target: Path, what: str) -> Path:
    """Folder of this process beside a store."""
    return target.with_name(f".{target.name}.{RUN}.{what}")


def clear(target: Path) -> None:
    """Delete what killed processes of this program left beside a store; its lock is held."""
    own = re.compile(re.escape(f".{target.name}.") + r"[A-Za-z0-9-]+-\d+\.(new|deleted)")
    for path in target.parent.glob(f".{glob_escape(target.name)}.*"):
        if own.fullmatch(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def glob_escape(name: str) -> str:
    """Have a name mean itself in a glob."""
    return re.sub(r"([*?[])", r"[\1]", name)


def read(target: Target, keys: Iterable[str]) -> dict[str, bytes]:
    """Read those files of a store that are there."""
    if not isinstance(target, Path):
        return Cloud(target).read(keys)
    files = {}
    for key in keys:
        with suppress(FileNotFoundError, NotADirectoryError):
            files[key] = (target / key).read_bytes()
    return files


def publish(target: Target, files: Iterable[tuple[str, bytes]], sync: bool = False) -> None:
    """Write those files of a store that are not there as they should be, in this order.

    With `sync` everything is on the disk before the last one is.
    """
    if not isinstance(target, Path):
        Cloud(target).publish(files)
        return
    files = list(files)
    for key, data in files:
        if sync and key == files[-1][0] and hasattr(os, "sync"):
            os.sync()
        path = target / key
        try:
            same = path.read_bytes() == data
        except FileNotFoundError:
            same = False
        if not same:
            write_file(path, data)
            if sync and key == files[-1][0]:
                settle(path)


def write_file(path: Path, data: bytes) -> None:
    """Write a file of a store, and make its folders; others see all of it or nothing."""
    partial = path.with_name(f"{path.name}.{RUN}.partial")
    try:
        partial.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
    partial.replace(path)


def create(target: Target, files: Iterable[tuple[str, bytes]], growing: bool) -> dict[str, bytes]:
    """Write all files of a store, which appears at once; in the cloud, when it is complete.

    One that grows is looked at meanwhile. Returns what was written.
    """
    if not isinstance(target, Path):
        return Cloud(target).create(files, whole=growing)
    files = list(files)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = beside(target, "new")
    try:
        publish(fresh, files)
        fresh.replace(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return dict(files)
