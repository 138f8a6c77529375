"""Where the files of a source are: a folder, a glob or a list of paths; no file is opened."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeAlias

from xarray_tiffstack.messages import first_lines, user_stacklevel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Source: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"

SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8")
STORES = (".zarr", ".n5")  # folders that hold no TIFFs, and perhaps millions of files


def list_files(source: Source) -> tuple[str, list[str]]:
    """Find the TIFFs of a source.

    Returns
    -------
    root : str
        The folder that holds them all, absolute.
    names : list of str
        Paths below it, separated by "/", sorted.
    """
    if isinstance(source, (str, os.PathLike)):
        if "://" in os.fspath(source):
            raise ValueError(f"URLs are not read: mount or download {source}")
        path = os.path.abspath(os.path.expanduser(source))
        if os.path.isdir(path):
            denied: list[str] = []
            root, names = path, list(_walk(path, denied))
            if denied:
                warnings.warn(
                    f"{len(denied)} folders may not be listed, and are left out:\n"
                    f"{first_lines(denied)}\nGive a glob of the others to be told no more.",
                    UserWarning,
                    stacklevel=user_stacklevel(),
                )
            where = f"the folder {path}"
        elif os.path.exists(path):
            root, names = os.path.dirname(path), [os.path.basename(path)]
            where = f"the file {path}"
        elif glob.has_magic(path):
            found = glob.glob(path, recursive=True)
            root, names = _relative(p for p in found if _is_tiff(os.path.basename(p)))
            where = f"the glob {path}"
        else:
            raise FileNotFoundError(f"no such file or folder: {path}")
    elif isinstance(source, Iterable) and not isinstance(source, bytes):
        paths = [os.path.abspath(os.path.expanduser(p)) for p in source]
        if folders := [p for p in paths if not _is_tiff(os.path.basename(p)) and os.path.isdir(p)]:
            raise ValueError(
                f"{len(folders)} of {len(paths)} paths are folders; give files, or one folder:\n"
                + first_lines(folders)
            )
        root, names = _relative(paths)
        where = "the list of paths"
    else:
        raise TypeError(f"a source is a folder, a glob, a list of paths or a table, not {source!r}")
    if not names:
        raise FileNotFoundError(
            f"no TIFF in {where}; names that end in {', '.join(SUFFIXES)} are looked for"
        )
    return root, sorted(names)


def _is_tiff(name: str) -> bool:
    """Whether a file is a TIFF by its name; hidden ones (``._img.tif``) are no images."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _walk(root: str, denied: list[str]) -> Iterator[str]:
    """Names of all TIFFs below a folder; every folder is listed once, links to folders too.

    Those that may not be listed are added to `denied`; the folder itself has to be.
    """
    seen = {os.path.realpath(root)}
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            listing = os.scandir(os.path.join(root, folder))
        except PermissionError:
            if not folder:
                raise
            denied.append(folder)
            continue
        with listing as entries:
            for entry in entries:
                name = entry.name
                if _is_tiff(name) and not entry.is_dir():
                    yield folder + name
                elif entry.is_dir() and not name.startswith(".") and not name.endswith(STORES):
                    real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                    if real not in seen:
                        seen.add(real)
                        folders.append(f"{folder}{name}/")


def _relative(paths: Iterable[str]) -> tuple[str, list[str]]:
    """Split paths into their common folder and what is below it."""
    found = list(paths)
    if not found:
        return "", []
    root = common_folder(found)
    names = [path.removeprefix(root).removeprefix(os.sep) for path in found]
    return root, names if os.sep == "/" else [PurePath(name).as_posix() for name in names]


def common_folder(paths: Sequence[str]) -> str:
    """Find the innermost folder that holds all files."""
    # By characters: of a million names in 0.05 s, where commonpath() takes 2 s; dirname() drops
    # the last, cut name.
    return os.path.dirname(os.path.commonprefix(list(paths)))  # noqa: RUF071
