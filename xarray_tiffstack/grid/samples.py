"""Which files of a table are set aside, and which belong to one array."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from xarray_tiffstack.grid.columns import meaning
from xarray_tiffstack.messages import FIRST, counted, first_lines
from xarray_tiffstack.source import below

if TYPE_CHECKING:
    from xarray_tiffstack.table import FileTable

MOST_SAMPLES = 10_000  # more are names that nobody understood


def without_variants(table: FileTable) -> FileTable:
    """Set processed versions aside where raw files are there; `FileTable.aside` lists them."""
    rows, aside = table.rows, dict(table.aside)
    for name in [n for n in rows if meaning(str(n), table.convention).role == "variant"]:
        raw = rows[name].isna() | (rows[name] == "")
        if raw.any() and not raw.all():
            processed = [below(table.source, path) for path in rows.loc[~raw, "path"]]
            aside |= dict.fromkeys(processed, "processed version of a raw file")
            rows = rows[raw]
    return table.having(rows, aside=aside)


def split_samples(table: FileTable) -> dict[str, FileTable]:
    """Split a table by what was imaged: each sample is an array of its own, named for it."""
    rows = table.rows
    names = [
        str(n)
        for n in rows
        if meaning(str(n), table.convention).role == "sample" and rows[n].nunique(dropna=False) > 1
    ]
    if not names:
        return {"": table}
    found = rows[names].drop_duplicates()
    if len(found) > MOST_SAMPLES:
        first = found.iloc[:FIRST].astype(str).agg("/".join, axis=1)
        raise ValueError(
            f"{counted(len(rows), 'file')} would be {len(found)} samples, each an array of its "
            f"own, by {' and '.join(names)} in their names:\n{first_lines(first, len(found))}\n"
            f"At most {MOST_SAMPLES} are opened. Say with pattern= in what the files of one array "
            "differ, or open fewer files (a glob)."
        )
    samples: dict[str, FileTable] = {}
    for values, own in rows.groupby(names, dropna=False, sort=True):
        words = [str(value) for value in values if value == value and value not in (None, "")]
        label = "/".join(words) or os.path.basename(table.source) or "files"
        while label in samples:
            label += "_"
        # Without the tokens that only other samples have.
        samples[label] = table.having(own.dropna(axis="columns", how="all"))
    return samples
