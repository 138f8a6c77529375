"""Which objects there are below a URL, and how long they are; none is opened."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatch
from functools import cache
from typing import TYPE_CHECKING

from xarray_tiffstack.storage.access import Access, access_of
from xarray_tiffstack.storage.address import split
from xarray_tiffstack.storage.remote import asked, gone, naming, noticed, stat, together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from obstore import ObjectMeta

_FEW = 32  # objects that are asked one by one for their size
_OTHERS = 20  # objects in a folder for each one that is wanted, up to which it is listed


def list_url(
    url: str,
    access: Access,
    wanted: Callable[[str], bool],
    entered: Callable[[str], bool],
) -> tuple[str, dict[str, int]]:
    """List the objects below a URL, or those that a glob names, or the one that it is of.

    Costs a request for each folder, or for each 1,000 objects of one.

    Parameters
    ----------
    url
        The folder, glob or object.
    access
        How it is reached.
    wanted
        Whether an object is listed, by the last part of its key.
    entered
        Whether the objects of a folder are, by its name.

    Returns
    -------
    root : str
        URL of the folder that holds them all.
    sizes : dict
        Size in bytes of each, by its key below the root.

    Raises
    ------
    FileNotFoundError
        There is no such object.
    OSError
        The server cannot be reached, or gives no listing.
    """
    kind, base, key = split(url)
    start, name = key.rpartition("/")[::2]
    magic = re.search(r"[*?\[]" if kind != "http" else r"[*\[]", key)
    if not magic and wanted(name) and not url.endswith("/"):
        return _root(base, start), {name: stat(url, access)[0]}
    folder = key[: magic.start()].rpartition("/")[0] if magic else key
    found = _walk(_root(base, folder), access, wanted, entered)
    if magic:
        fits = _matcher(key[len(folder) :].lstrip("/"))
        found = {name: size for name, size in found.items() if fits(name)}
    return _root(base, folder), found


def _root(base: str, key: str) -> str:
    return f"{base}/{key}".rstrip("/")


def _walk(
    root: str, access: Access, wanted: Callable[[str], bool], entered: Callable[[str], bool]
) -> dict[str, int]:
    """List folder after folder, those of one depth at once."""
    found: dict[str, int] = {}
    folders = [""]
    prefix = split(root).key
    start = len(prefix) + 1 if prefix else 0
    while folders:
        below: list[str] = []
        for inner, objects in together(lambda folder: _listed(root, folder, access), folders):
            below += [path[start:] for path in inner if entered(path.rpartition("/")[2])]
            for each in objects:
                path = each["path"][start:]
                if wanted(path.rpartition("/")[2]):
                    found[path] = noticed(f"{root}/{path}", access, each)[0]
        folders = below
    return found


def _listed(root: str, folder: str, access: Access) -> tuple[Sequence[str], Sequence[ObjectMeta]]:
    """Folders and objects in one folder."""
    url = f"{root}/{folder}"
    store, key = access.store(url)
    try:
        with naming(url):
            found = store.list_with_delimiter(key or None)
    except OSError as error:
        if split(root).kind == "http" and not isinstance(error, PermissionError):
            raise OSError(
                f"{url} gives no listing: give a list of the URLs of files ({error})"
            ) from error
        raise
    return found["common_prefixes"], found["objects"]


def _matcher(glob: str) -> Callable[[str], bool]:
    """Make a test of names by a glob, in which "*" stays in one folder and "**" does not.

    Examples
    --------
    >>> fits = _matcher("**/a_*.tif")
    >>> fits("a_1.tif"), fits("day 1/a_1.tif"), fits("day 1/b_1.tif")
    (True, True, False)
    """
    parts = glob.split("/")

    @cache
    def fits(at: int, names: tuple[str, ...]) -> bool:
        if at == len(parts):
            return not names
        if parts[at] == "**":
            return fits(at + 1, names) or bool(names and fits(at, names[1:]))
        return bool(names) and fnmatch(names[0], parts[at]) and fits(at + 1, names[1:])

    return lambda name: fits(0, tuple(name.split("/")))


def listed(paths: Sequence[str]) -> list[tuple[int, str] | None]:
    """Size and state of objects, None where there is none; of many by listing their folder."""
    return [None if seen is None else seen[:2] for seen in dated(paths)]


def dated(paths: Sequence[str]) -> list[tuple[int, str, int] | None]:
    """Size and state of objects, and when each was last changed, in nanoseconds since 1970.

    That is 0 where the server does not say it.
    """
    found: dict[str, tuple[int, str, int]] = {}
    access = access_of(paths[0])
    if len(paths) > _FEW and split(paths[0]).kind != "http":
        found, every = _flat(os.path.commonprefix(list(paths)), access, len(paths))  # noqa: RUF071
        if every:
            for path in set(paths).difference(found):
                gone(path, access)
            return [found.get(path) for path in paths]
    rest = [path for path in paths if path not in found]
    states = together(lambda path: _stat(path, access), rest)
    found |= {path: each for path, each in zip(rest, states, strict=True) if each is not None}
    return [found.get(path) for path in paths]


def _flat(start: str, access: Access, wanted: int) -> tuple[dict[str, tuple[int, str, int]], bool]:
    """List all objects below a folder, unless there are too many others; and whether it did."""
    found: dict[str, tuple[int, str, int]] = {}
    root = start.rpartition("/")[0]
    store, key = access.store(root)
    base = split(root).base
    with naming(root):
        for objects in store.list(key or None, chunk_size=1000):
            for each in objects:
                url = f"{base}/{each['path']}"
                found[url] = (*noticed(url, access, each), _nanoseconds(each))
            if len(found) > _OTHERS * wanted + 1000:
                return found, False
    return found, True


def _stat(url: str, access: Access) -> tuple[int, str, int] | None:
    try:
        meta = asked(url, access)
    except FileNotFoundError:
        return None
    return (*noticed(url, access, meta), _nanoseconds(meta))


def _nanoseconds(meta: ObjectMeta) -> int:
    return round(meta["last_modified"].timestamp() * 10**6) * 1000


def texts_in(root: str, glob: str) -> list[str]:
    """Texts of the objects in a folder whose names fit, in the order of their names."""
    access = access_of(root)
    try:
        _, objects = _listed(root, "", access)
    except OSError:  # of a server without listing
        return []
    keys = sorted(each["path"] for each in objects if fnmatch(each["path"].rsplit("/")[-1], glob))
    return [_text(f"{split(root).base}/{key}", access) for key in keys]


def _text(url: str, access: Access) -> str:
    store, key = access.store(url)
    with naming(url):
        return bytes(store.get(key).bytes()).decode("utf-8", "replace")
