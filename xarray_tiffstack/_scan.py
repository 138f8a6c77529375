"""Where the files are, and the table of what their names say; no file is opened."""

from __future__ import annotations

import glob
import os
import re
import sys
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from xarray_tiffstack._conventions import (
    INFERRED,
    Convention,
    find_convention,
    inferred_convention,
    recognise,
)
from xarray_tiffstack._grid import first_lines
from xarray_tiffstack._infer import Inference, infer, units_beside
from xarray_tiffstack._pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    Source = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8")
STORES = (".zarr", ".n5")  # folders that hold no TIFFs, and perhaps millions of files


def scan(
    source: Source,
    pattern: str | Pattern | Convention | None = None,
    *,
    unmatched: Literal["warn", "ignore", "raise"] = "warn",
) -> pd.DataFrame:
    """List the TIFFs of a source and read their names into a file table.

    Costs one listing of the folders; no file is opened.

    Parameters
    ----------
    source : str, path, or iterable of paths
        A folder (read with its subfolders), a glob such as ``"raw/*_ch0_*.tif"``, or the paths
        of files.
    pattern : str, Pattern or Convention, optional
        How the names are read: a template such as ``"img_t{t:d}_c{c:d}.tif"``, a regular
        expression with named groups, or the name of a convention. By default the convention is
        recognised from the names.
    unmatched : {"warn", "ignore", "raise"}
        What to do about TIFFs whose names do not fit. They are listed in
        ``table.attrs["unmatched"]`` in any case.

    Returns
    -------
    pandas.DataFrame
        One row a file: ``path``, and one typed column a token of the names, in the order of the
        sorted paths. It can be edited and handed to ``xarray.open_dataset(table,
        engine="tiffstack")``. Its ``attrs`` keep ``source``, ``pattern``, ``convention``,
        ``unmatched`` and ``aside`` (files of the format that are no image data: a dict of path
        and reason).

    Raises
    ------
    FileNotFoundError
        The source is absent, or holds no TIFF.
    ValueError
        No name fits the pattern, or no convention is recognised; the message shows a name and
        where it and the pattern part.

    Examples
    --------
    >>> import xarray_tiffstack
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("cell_t2_c0.tif", "cell_t10_c0.tif"):
    ...         Path(folder, name).touch()
    ...     table = xarray_tiffstack.scan(folder, "{name}_t{t:d}_c{c:d}.tif")
    >>> table.drop(columns="path").sort_values("t", ignore_index=True)
       name   t  c
    0  cell   2  0
    1  cell  10  0
    """
    if unmatched not in {"warn", "ignore", "raise"}:
        raise ValueError(f'unmatched={unmatched!r} is none of "warn", "ignore", "raise"')
    root, names = list_files(source)
    chosen, convention, reasons = _choose(pattern, names)
    aside = convention.set_aside(names) if convention is not None else {}
    names = [name for name in names if name not in aside]
    fits, columns = chosen.parse_names(names)
    if not fits.any():
        hint = r'; a regular expression has named groups, such as "ch(?P<ch>\d+)"'
        raise ValueError(
            f"none of {len(names)} TIFF names fits the pattern {chosen.text!r}"
            f"{'' if chosen.tokens else hint}\n"
            + (chosen.explain(names[0]) if names else f"{len(aside)} are no image data of it")
        )
    if "path" in columns:
        raise ValueError("a token cannot be called path: name it otherwise in pattern=")
    kept = [names[i] for i in np.flatnonzero(fits)]
    rest = [names[i] for i in np.flatnonzero(~fits)]
    _tell(rest, len(names), chosen, unmatched)
    columns = _without_absent(columns, convention)
    folders = [chosen.folder(name) if "/" in name else "" for name in kept]
    if len(set(folders)) > 1:
        columns = {"folder": np.array(folders, object), **columns}
    below = root.rstrip(os.sep) + os.sep
    table = pd.DataFrame({"path": [below + name for name in kept], **columns})
    table.attrs = {
        "source": root,
        "pattern": chosen.text,
        "convention": convention.name if convention is not None else None,
        "unmatched": rest,
        "aside": aside,
        "reasons": reasons,
    }
    if convention is None and (units := units_beside(chosen)):
        table.attrs["units"] = units
    if convention is not None and convention.name == INFERRED:
        table.attrs["tokens"] = {name: asdict(token) for name, token in convention.tokens.items()}
    return table


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


def _choose(
    pattern: str | Pattern | Convention | None, names: Sequence[str]
) -> tuple[Pattern, Convention | None, list[str]]:
    """Find the pattern that reads the names, what its tokens mean, and why it was chosen."""
    if pattern is None:
        known = recognise(names)
        if known.convention is None or known.pattern is None:
            return _inferred(infer(names), names)
        if known.convention.fallback and (found := infer(names)).has_markers:
            return _inferred(found, names)
        return known.pattern, known.convention, list(known.reasons)
    if isinstance(pattern, str):
        if not re.search(r"[{}()\\]", pattern):
            pattern = find_convention(pattern)
        else:
            pattern = Pattern(pattern)
    if isinstance(pattern, Pattern):
        return pattern, None, []
    best = max(pattern.patterns, key=lambda p: p.parse_names(names)[0].sum())
    return best, pattern, []


def _inferred(found: Inference, names: Sequence[str]) -> tuple[Pattern, Convention, list[str]]:
    """Read names that no convention explains, where that can be done in one way only."""
    why = "\n".join(f"  {reason}" for reason in found.reasons)
    if found.pattern is None:
        ways = [f"pattern={template!r}" for template in found.candidates]
        ways = ways or ["a template of your own, such as pattern='{name}_t{t:d}_z{z:d}.tif'"]
        raise ValueError(
            f"no known convention explains these {len(names)} names, and they cannot be read "
            f"without guessing:\n{first_lines(names)}\n{why}\nSay how they are read:\n"
            + first_lines(ways)
        )
    warnings.warn(
        f"no known convention explains these {len(names)} names; they are read as\n"
        f"  pattern={found.template!r}\n{why}\nPass that, or what is right, to say so yourself.",
        UserWarning,
        stacklevel=user_stacklevel(),
    )
    return found.pattern, inferred_convention(found.pattern, found.tokens), list(found.reasons)


def _tell(
    rest: Sequence[str], total: int, pattern: Pattern, unmatched: Literal["warn", "ignore", "raise"]
) -> None:
    """Warn of, or refuse, names that do not fit."""
    if not rest or unmatched == "ignore":
        return
    message = (
        f"{len(rest)} of {total} TIFF names do not fit the pattern and are left out:\n"
        f"{first_lines(rest)}\n{pattern.explain(rest[0])}\n"
        'Narrow the source (a glob), widen pattern=, or pass unmatched="ignore".'
    )
    if unmatched == "raise":
        raise ValueError(message)
    warnings.warn(message, UserWarning, stacklevel=user_stacklevel())


def user_stacklevel() -> int:
    """Stack level of the first caller outside this package and xarray, for warnings."""
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in {
        "xarray_tiffstack",
        "xarray",
    }:
        frame, level = frame.f_back, level + 1
    return level


def _without_absent(
    columns: Mapping[str, pd.Series[Any] | np.ndarray], convention: Convention | None
) -> dict[str, pd.Series[Any] | np.ndarray]:
    """Drop optional tokens that no name has, and fill in what absence stands for."""
    kept: dict[str, pd.Series[Any] | np.ndarray] = {}
    for name, column in columns.items():
        absent = pd.isna(column)
        if absent.all():
            continue
        token = convention.tokens.get(name) if convention is not None else None
        if token is not None and token.missing is not None and absent.any():
            kept[name] = pd.Series(column).fillna(token.missing).to_numpy(type(token.missing))
        else:
            kept[name] = column
    return kept
