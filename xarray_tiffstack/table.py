"""The file table: one row a file, one column a token of its name; no file is opened."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from xarray_tiffstack.messages import first_lines, user_stacklevel
from xarray_tiffstack.names.conventions import INFERRED, Convention
from xarray_tiffstack.names.dependencies import determines
from xarray_tiffstack.names.infer import units_beside
from xarray_tiffstack.names.reading import read_names
from xarray_tiffstack.source import list_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xarray_tiffstack.names.pattern import Pattern
    from xarray_tiffstack.source import Source


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
    reading = read_names(names, pattern)
    if reading.warning:
        warnings.warn(reading.warning, UserWarning, stacklevel=user_stacklevel())
    chosen, convention, aside = reading.pattern, reading.convention, dict(reading.aside)
    names = [name for name in names if name not in aside]
    fits, columns = reading.parsed or chosen.parse_names(names)
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
    if len(set(folders)) > 1 and not _repeat_tokens(folders, columns):
        columns = {"folder": np.array(folders, object), **columns}
    below = root.rstrip(os.sep) + os.sep
    table = pd.DataFrame({"path": [below + name for name in kept], **columns})
    table.attrs = {
        "source": root,
        "pattern": chosen.text,
        "convention": convention.name if convention is not None else None,
        "unmatched": rest,
        "aside": aside,
        "reasons": list(reading.reasons),
    }
    if convention is None and (units := units_beside(chosen)):
        table.attrs["units"] = units
    if convention is not None and convention.name == INFERRED:
        table.attrs["tokens"] = {name: asdict(token) for name, token in convention.tokens.items()}
    return table


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


def _repeat_tokens(
    folders: Sequence[str], columns: Mapping[str, pd.Series[Any] | np.ndarray]
) -> bool:
    """Whether folders say no more than the tokens do, as ch0/, 488nm/ or CamA/."""
    codes, own = pd.factorize(np.array(folders, object))
    first = np.unique(codes, return_index=True)[1]
    if len({folder.count("/") for folder in own}) > 1 or len(own) == len(folders):
        return False
    values = {
        name: [str(value) for value in np.asarray(column, object)[first]]
        for name, column in columns.items()
        if determines([codes], pd.factorize(np.asarray(column, object), use_na_sentinel=False)[0])
    }
    parts = list(zip(*(str(folder).split("/") for folder in own), strict=True))
    return all(
        len(set(part)) == 1 or any(_spell(part, texts) for texts in values.values())
        for part in parts
    )


def _spell(parts: Sequence[str], values: Sequence[str]) -> bool:
    """Whether texts are a word of their own each, but for a value in it, as ch0 and ch1."""
    left = set()
    for part, value in zip(parts, values, strict=True):
        word = rf"(?<![0-9])0*{re.escape(value)}(?![0-9])"
        found = re.search(word if value.isdecimal() else re.escape(value), part)
        if found is None:
            return False
        left.add(part[: found.start()] + "*" + part[found.end() :])
    return len(left) == 1


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
