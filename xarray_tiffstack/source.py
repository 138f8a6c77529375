"""Where the files of a source are: a folder, a glob, a URL or a list; no file is opened."""

from __future__ import annotations

import glob
import io
import os
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeAlias

from xarray_tiffstack.messages import counted, first_lines, user_stacklevel
from xarray_tiffstack.storage import (
    Access,
    is_index,
    is_store,
    is_url,
    list_url,
    local_path,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Source: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"

SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".stk")
STORES = (".zarr", ".n5")  # folders that hold no TIFFs, and perhaps millions of files
IRREGULAR = "not a regular file"


@dataclass(frozen=True)
class Listing:
    """The TIFFs of a source."""

    root: str
    """The folder that holds them all, absolute, or its URL."""
    names: list[str]
    """Paths below it, separated by "/", sorted."""
    aside: Mapping[str, str] = field(default_factory=dict)
    """What was left out of the listing, with the reason."""
    sizes: Mapping[str, int] | None = None
    """Bytes of each file, by path, where the listing tells them: of a URL it does."""


def list_files(source: Source, access: Access | None = None) -> Listing:
    """Find the TIFFs of a source.

    Costs one listing of the folders, and one ``stat`` of each folder; at a URL a request for each
    folder, or for each 1,000 objects of one. How a URL is reached is remembered.

    Raises
    ------
    FileNotFoundError
        The source does not exist, or holds no TIFF.
    TypeError
        It is neither a path nor a list of paths.
    ValueError
        It is a URL of a kind that is not read, or a list that names folders.
    """
    access = access or Access()
    if isinstance(source, (str, os.PathLike)):
        found, where = _list_path(os.fspath(source), access)
    elif isinstance(source, Iterable) and not isinstance(source, (bytes, io.IOBase)):
        found, where = _list_paths(list(source), access), "the list of paths"
    else:
        raise TypeError(
            "a source is a folder, a glob, a list of paths or a file table, not "
            f"{type(source).__name__}: {source!r}"
        )
    if not found.names:
        raise FileNotFoundError(_nothing(source, where))
    return replace(found, names=sorted(found.names))


def _list_path(source: str, access: Access) -> tuple[Listing, str]:
    """List a folder, a glob or one file; and say which it is."""
    if is_url(source):
        local = local_path(source)
        if local is None:
            root, sizes = list_url(source, access, is_tiff, _is_entered)
            access.remember(root)
            full = dict(zip(inside(root, list(sizes)), sizes.values(), strict=True))
            return Listing(root, list(sizes), sizes=full), source
        source = local
    path = os.path.abspath(os.path.expanduser(source))
    if os.path.isdir(path):
        return _list_folder(path), f"the folder {path}"
    if os.path.exists(path):
        return Listing(os.path.dirname(path), [os.path.basename(path)]), f"the file {path}"
    if not glob.has_magic(path):
        raise FileNotFoundError(f"no such file or folder: {path}")
    found = [p for p in glob.glob(path, recursive=True) if is_tiff(os.path.basename(p))]
    return _relative([p for p in found if os.path.isfile(p)]), f"the glob {path}"


def _list_folder(path: str) -> Listing:
    """List a folder and those below it; warn of those that may not be listed."""
    aside: dict[str, str] = {}
    names = list(_walk(path, aside))
    denied = [name for name, reason in aside.items() if reason != IRREGULAR]
    if denied:
        warnings.warn(
            f"{counted(len(denied), 'folder')} cannot be listed, and will be left out:\n"
            f"{first_lines(denied)}\nGive a glob of the others to silence this.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
    return Listing(path, names, aside)


def _list_paths(source: list[str | os.PathLike[str]], access: Access) -> Listing:
    """List paths that were given one by one; all must be files."""
    wrong = [p for p in source if not isinstance(p, (str, os.PathLike))]
    if wrong:
        raise TypeError(f"a list of paths holds text or paths, not {wrong[0]!r}")
    source = [local_path(p) or p if is_url(p) else p for p in source]
    if urls := [p for p in source if is_url(p)]:
        return _list_urls(urls, len(source), access)
    paths = [os.path.abspath(os.path.expanduser(p)) for p in source]
    folders = [p for p in paths if os.path.isdir(p)]
    if folders:
        raise ValueError(
            f"{len(folders)} of {counted(len(paths), 'path')} are folders; give files, or one "
            f"folder:\n{first_lines(folders)}"
        )
    return _relative(paths)


def _list_urls(urls: list[str], total: int, access: Access) -> Listing:
    """List files at URLs that were given one by one; nothing is asked of their server."""
    places = {split(url).base for url in urls}
    if len(urls) < total:
        places.add("paths")
    if len(places) > 1:
        raise ValueError(
            "the files of one source are on this computer, or on one server or in one bucket; "
            f"these are in:\n{first_lines(sorted(places))}"
        )
    found = _relative(urls)
    access.remember(found.root)
    return found


def _nothing(source: Source, where: str) -> str:
    """Say that there is no TIFF, and what there is instead."""
    if isinstance(source, (str, os.PathLike)) and is_store(os.path.expanduser(source)):
        what, how = "a Zarr store", f"xarray.open_datatree({os.fspath(source)!r}, engine='zarr')"
        if is_index(os.path.expanduser(source)):
            what, how = "an index of TIFFs", f"xarray_tiffstack.open_index({os.fspath(source)!r})"
        return (
            f"{where} is {what}, not TIFFs: {how} opens it, and "
            "tiffstack info, preview, view and serve do. What converts or indexes takes the folder "
            "of the TIFFs"
        )
    there: Counter[str] = Counter()
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(os.path.expanduser(source)):
        for _, _, files in os.walk(os.path.expanduser(source)):
            there.update("".join(PurePath(name).suffixes[-2:]) or "no dot" for name in files)
    lines = [f"{counted(n, 'file')} ending in {end}" for end, n in there.most_common(5)]
    return f"no TIFF in {where}; names ending in {', '.join(SUFFIXES)} are looked for" + (
        "; there are:\n" + first_lines(lines) if lines else ""
    )


def is_tiff(name: str) -> bool:
    """Whether a file is a TIFF by its name; hidden ones (``._img.tif``) are no images."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _is_entered(name: str) -> bool:
    """Whether a folder is looked into."""
    return not name.startswith(".") and not name.endswith(STORES)


def _walk(root: str, aside: dict[str, str]) -> Iterator[str]:
    """Names of all TIFFs below a folder; every folder is listed once, links to folders too.

    What cannot be listed, and what is no regular file, is added to `aside`; the folder itself
    has to be listed.
    """
    seen = set()
    folders = [""]
    while folders:
        folder = folders.pop()
        path = os.path.join(root, folder)
        try:
            stat = os.stat(path)  # the same folder may be reached by several links
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            listing = os.scandir(path)
        except OSError as error:
            if not folder:
                raise
            aside[folder] = f"cannot be listed: {error.strerror}"
            continue
        with listing as entries:
            for entry in entries:
                name = entry.name
                if is_tiff(name) and _is_file(entry):
                    yield folder + name
                elif _is_folder(entry) and _is_entered(name):
                    folders.append(f"{folder}{name}/")
                elif is_tiff(name):
                    aside[folder + name] = IRREGULAR


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a regular file, or a link to nothing (which is a missing file)."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:  # a link to itself
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _relative(paths: Sequence[str]) -> Listing:
    """Split paths into their common folder and what is below it."""
    if not paths:
        return Listing("", [])
    root = common_folder(paths)
    return Listing(root, [below(root, path) for path in paths])


def below(root: str, path: str, sep: str = os.sep) -> str:
    r"""Path relative to the source, with "/".

    Examples
    --------
    >>> below("/data/raw", "/data/raw/day 1/a.tif"), below(r"D:\raw", r"D:\raw\b\a.tif", "\\")
    ('day 1/a.tif', 'b/a.tif')
    """
    sep = "/" if is_url(root) else sep
    return path.removeprefix(root).removeprefix(sep).replace(sep, "/")


def inside(root: str, names: Sequence[str], sep: str = os.sep) -> list[str]:
    r"""Paths of what `below` gave, as the file system spells them.

    Examples
    --------
    >>> inside("/data/raw", ["day 1/a.tif"]), inside("D:", ["b/a.tif"], "\\")
    (['/data/raw/day 1/a.tif'], ['D:\\b\\a.tif'])
    """
    sep = "/" if is_url(root) else sep
    start = root.removesuffix(sep) + sep
    return (
        [start + name for name in names]
        if sep == "/"
        else [start + name.replace("/", sep) for name in names]
    )


def common_folder(paths: Sequence[str]) -> str:
    """Find the innermost folder that holds all files; URLs are all of one server."""
    # By characters: of a million names in 0.05 s, where commonpath() takes 2 s; dirname() drops
    # the last, cut name.
    return os.path.dirname(os.path.commonprefix(list(paths)))  # noqa: RUF071
