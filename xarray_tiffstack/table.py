"""The file table: one row a file, one column a token of its name; no file is opened."""

from __future__ import annotations

import logging
import os
import re
import warnings
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from xarray_tiffstack.messages import (
    FIRST,
    counted,
    first_lines,
    one_of,
    timed,
    user_stacklevel,
)
from xarray_tiffstack.names.conventions import (
    INFERRED,
    Convention,
    conventions,
    find_convention,
    inferred_convention,
)
from xarray_tiffstack.names.dependencies import determines
from xarray_tiffstack.names.infer import units_beside
from xarray_tiffstack.names.pattern import Pattern
from xarray_tiffstack.names.reading import UnreadableError, read_names
from xarray_tiffstack.names.vocabulary import Token
from xarray_tiffstack.source import common_folder, inside, list_files
from xarray_tiffstack.storage import Access, is_url, local_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xarray_tiffstack.source import Source

LOG = logging.getLogger(__name__)


def scan(
    source: Source,
    pattern: str | Pattern | Convention | None = None,
    *,
    unmatched: Literal["warn", "ignore", "raise"] = "warn",
    storage_options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """List the TIFFs of a source and read their names into a file table.

    Costs one listing of the folders; no file is opened. At a URL that is a request for each
    folder, or for each 1,000 objects of one.

    Parameters
    ----------
    source : str, path, or iterable of paths
        A folder (read with its subfolders), a glob such as ``"raw/*_ch0_*.tif"``, or the paths
        of files; or URLs of them.
    pattern : str, Pattern or Convention, optional
        How the names are read: a template such as ``"img_t{t:d}_c{c:d}.tif"``, a regular
        expression with named groups, or the name of a convention. By default the convention is
        recognised from the names.
    unmatched : {"warn", "ignore", "raise"}
        What to do about TIFFs whose names do not fit. They are listed in
        ``table.attrs["unmatched"]`` in any case.
    storage_options : mapping, optional
        How URLs are reached; as for ``xarray.open_dataset``.

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
    return read_table(source, pattern, unmatched, Access(storage_options)).frame()


@dataclass(frozen=True, eq=False)
class FileTable:
    """The files of a source, what their names say, and how that was found out."""

    rows: pd.DataFrame
    """One row a file: `path`, and one column a token."""
    source: str
    """Folder that holds the files."""
    pattern: str | None = None
    """Pattern that read the names."""
    convention: Convention | None = None
    """What the tokens mean; None under a pattern of the user's own."""
    reasons: tuple[str, ...] = ()
    """Why that pattern was chosen."""
    unmatched: tuple[str, ...] = ()
    """TIFFs whose names do not fit the pattern."""
    aside: Mapping[str, str] = field(default_factory=dict)
    """Files that are no image data of the array, with the reason."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Units that the names give beside numbers, by token."""
    sizes: Mapping[str, int] | None = None
    """Bytes of each file, by path, where the listing told them."""

    def having(self, rows: pd.DataFrame, **fields: Any) -> FileTable:
        """Give the same with other rows."""
        return replace(self, rows=rows, **fields)

    def frame(self) -> pd.DataFrame:
        """Give the table as users have it, with what is known of it in ``attrs``."""
        rows, convention = self.rows.copy(deep=False), self.convention
        rows.attrs = {
            "source": self.source,
            "pattern": self.pattern,
            "convention": convention.name if convention is not None else None,
            "unmatched": list(self.unmatched),
            "aside": dict(self.aside),
            "reasons": list(self.reasons),
            "units": dict(self.units),
        }
        if convention is not None and convention.name == INFERRED:
            tokens = {name: asdict(token) for name, token in convention.tokens.items()}
            rows.attrs["tokens"] = tokens
        return rows


def read_table(
    source: Source,
    pattern: str | Pattern | Convention | None = None,
    unmatched: Literal["warn", "ignore", "raise"] = "warn",
    access: Access | None = None,
) -> FileTable:
    """List the TIFFs of a source and read their names; see `scan`."""
    one_of("unmatched", unmatched, ("warn", "ignore", "raise"))
    with timed(LOG) as done:
        listing = list_files(source, access)
        done.append(f"{counted(len(listing.names), 'TIFF')} in {listing.root}")
    with timed(LOG) as done:
        reading = read_names(listing.names, pattern)
        how = reading.convention.name if reading.convention else reading.pattern.text
        done.append(f"names read by {how}")
    if reading.warning:
        warnings.warn(reading.warning, UserWarning, stacklevel=user_stacklevel())
    chosen, convention, aside = reading.pattern, reading.convention, reading.aside
    names = listing.names
    names = [name for name in names if name not in aside]
    fits, columns = reading.parsed or chosen.parse_names(names)
    if not fits.any():
        raise ValueError(_no_fit(chosen, names, len(aside)))
    if "path" in columns:
        raise ValueError("a token cannot be called path: give it another name in pattern=")
    kept = [names[i] for i in np.flatnonzero(fits)]
    rest = [names[i] for i in np.flatnonzero(~fits)]
    _tell(rest, len(names), chosen, unmatched)
    columns = _without_absent(columns, convention)
    folders = [chosen.folder(name) if "/" in name else "" for name in kept]
    if len(set(folders)) > 1 and not _repeat_tokens(folders, columns):
        columns = {"folder": np.array(folders, object), **columns}
    return FileTable(
        rows=pd.DataFrame({"path": inside(listing.root, kept), **columns}),
        source=listing.root,
        pattern=chosen.text,
        convention=convention,
        reasons=reading.reasons,
        unmatched=tuple(rest),
        aside={**listing.aside, **aside},
        units=units_beside(chosen) if convention is None else {},
        sizes=listing.sizes,
    )


def table_of(
    frame: pd.DataFrame,
    pattern: str | Pattern | Convention | None,
    access: Access | None = None,
) -> FileTable:
    """Take a file table that `scan` made, edited or not, or one that was made by hand.

    Raises
    ------
    ValueError
        It lacks paths, or names of columns, or was read with a convention of the user's own that
        is not given again.
    FileNotFoundError
        It has no rows.
    """
    if "path" not in frame.columns:
        columns = ", ".join(map(str, frame.columns))
        raise ValueError(f"the file table has no column 'path'; its columns are {columns}")
    if frame.empty:
        raise FileNotFoundError("the file table has no rows")
    if pattern is not None and not isinstance(pattern, Convention):
        raise ValueError("pattern= reads names, and a file table has them read already: drop it")
    rows, known = _checked(frame), frame.attrs
    source = known.get("source") or common_folder(rows["path"].tolist())
    if access is not None and is_url(source):
        access.remember(source)
    return FileTable(
        rows=rows,
        source=source,
        pattern=known.get("pattern"),
        convention=pattern or _convention_of(known),
        reasons=tuple(known.get("reasons", ())),
        unmatched=tuple(known.get("unmatched", ())),
        aside=known.get("aside", {}),
        units=known.get("units", {}),
    )


def _convention_of(attrs: Mapping[Any, Any]) -> Convention | None:
    """Find the convention with which a table was read."""
    name = attrs.get("convention")
    if name == INFERRED:
        tokens = {name: Token(**meaning) for name, meaning in attrs["tokens"].items()}
        return inferred_convention(Pattern(attrs["pattern"]), tokens)
    if name is not None and name not in conventions():
        raise ValueError(
            f"the table was read with a convention of your own, {name!r}: pass it again as pattern="
        )
    return find_convention(name) if name is not None else None


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    """Check a table that was edited, or made by hand, and make its paths absolute."""
    wrong = [name for name in frame if not isinstance(name, str)]
    wrong += frame.columns[frame.columns.duplicated()].tolist()
    if wrong:
        raise ValueError(f"each column of a file table needs a name of its own; not {wrong}")
    without = frame.index[frame["path"].isna()]
    if len(without):
        raise ValueError(
            f"{counted(len(without), 'row')} of the file table without a path: "
            f"{without[:FIRST].tolist()}; drop them"
        )
    paths = [os.fspath(path) for path in frame["path"]]
    if not all(map(os.path.isabs, paths)):
        paths = [_absolute(path) for path in paths]
    return frame.assign(path=paths)


def _absolute(path: str) -> str:
    """Path from the root of a disk, or a URL."""
    local = local_path(path) if is_url(path) else path
    return path if local is None else os.path.abspath(local)


def _no_fit(pattern: Pattern, names: Sequence[str], aside: int) -> str:
    """Say that no name fits, and where the first one and the pattern differ."""
    hint = r'; a regular expression has named groups, such as "ch(?P<ch>\d+)"'
    return (
        f"the pattern {pattern.text!r} fits none of {counted(len(names), 'TIFF name')}"
        f"{'' if pattern.tokens else hint}\n"
        + (pattern.explain(names[0]) if names else f"{aside} are no image data of it")
    )


def suggest(source: Source, access: Access | None = None) -> tuple[list[str], bool]:
    """Say how the names of a source could be read, a line each, and whether one way is certain.

    Lists the folders; opens no file.
    """
    try:
        reading = read_names(list_files(source, access).names)
    except UnreadableError as error:
        templates, reasons, known = error.templates, error.reasons, None
    else:
        templates, reasons, known = [reading.pattern.text], reading.reasons, reading.convention
    named = known is not None and known.name != INFERRED
    lines = [f"convention  {known.name}"] if named and known else []
    lines += [f"template    {template}" for template in templates]
    lines += [f"            {reason}" for reason in reasons]
    return lines, known is not None


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
    """Whether texts are the same word each, but for a value in it, as ch0 and ch1."""
    words = []
    for part, value in zip(parts, values, strict=True):
        number = rf"(?<![0-9])0*{re.escape(value)}(?![0-9])"
        found = re.finditer(number if value.isdecimal() else re.escape(value), part)
        words.append({f"{part[: one.start()]}*{part[one.end() :]}" for one in found})
    return bool(set.intersection(*words))


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
