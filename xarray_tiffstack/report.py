"""What the coordinates and attributes of a Dataset say about its files."""

from __future__ import annotations

import html
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xarray_tiffstack.messages import FIRST

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray as xr


@dataclass(frozen=True)
class Report:
    """What was understood of a source, and what is missing or was left out."""

    source: str
    """Folder that holds the files."""
    convention: str | None
    """Name of the naming convention, None for a pattern of the user's own."""
    pattern: str | None
    """Pattern that read the names."""
    reasons: list[str] = field(default_factory=list)
    """Why that pattern was chosen, and what came second."""
    cells: int = 0
    """Combinations of labels."""
    matched: int = 0
    """Files that stand in a cell."""
    missing: list[dict[str, Any]] = field(default_factory=list)
    """Labels of the cells without a file."""
    gaps: dict[str, list[int]] = field(default_factory=dict)
    """Counts that no file has, between the first and the last of a dimension's labels."""
    duplicates: list[str] = field(default_factory=list)
    """Files left out because another stands in their cell."""
    unmatched: list[str] = field(default_factory=list)
    """TIFFs whose names do not fit the pattern."""
    aside: list[str] = field(default_factory=list)
    """Files of the format that are no raw image data, with the reason."""
    unreadable: list[str] = field(default_factory=list)
    """Files that could not be opened to find the shape, with the reason."""
    short: list[str] = field(default_factory=list)
    """Files that hold fewer planes than the others, and how many."""
    disagreements: list[str] = field(default_factory=list)
    """What was given or recorded otherwise than it was found."""
    other_size: list[str] = field(default_factory=list)
    """Files whose size in bytes differs from most others'."""
    absent: list[str] = field(default_factory=list)
    """Files that are no longer there."""

    def as_dict(self) -> dict[str, Any]:
        """Give the fields as plain lists, numbers and text, as JSON takes them."""
        return asdict(self)

    def _lines(self) -> list[tuple[str, str, list[str]]]:
        """Heading, figure and items of each section."""
        named = f"{self.convention}: " if self.convention else ""
        head = [
            ("source", self.source, []),
            ("names read by", f"{named}{self.pattern}", self.reasons),
            ("files", f"{self.matched} in {self.cells} cells", []),
        ]
        missing = [", ".join(f"{k}={v}" for k, v in cell.items()) for cell in self.missing]
        gaps = [f"{name}: {', '.join(map(str, n[:20]))}" for name, n in self.gaps.items()]
        lists = [
            ("missing", missing),
            ("gaps in counters", gaps),
            ("duplicates", self.duplicates),
            ("unmatched", self.unmatched),
            ("set aside", self.aside),
            ("unreadable", self.unreadable),
            ("short", self.short),
            ("disagreements", self.disagreements),
            ("of another size", self.other_size),
            ("no longer there", self.absent),
        ]
        nothing = [name for name, items in lists if not items]
        return [
            *head,
            *((name, str(len(items)), items) for name, items in lists if items),
            *([("none", ", ".join(nothing), [])] if nothing else []),
        ]

    def __str__(self) -> str:
        """Return the report as text."""
        lines = []
        for name, figure, items in self._lines():
            lines.append(f"{name:>17}  {figure}")
            lines += [f"{'':>19}- {item}" for item in items[:FIRST]]
            if len(items) > FIRST:
                lines.append(f"{'':>19}... and {len(items) - FIRST} more")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = []
        for name, figure, items in self._lines():
            listed = "".join(f"<li>{html.escape(item)}</li>" for item in items)
            if len(items) > FIRST:
                listed = f"<details><summary>all</summary><ul>{listed}</ul></details>"
            elif items:
                listed = f"<ul>{listed}</ul>"
            rows.append(
                f"<tr><th style='text-align:right'>{name}</th>"
                f"<td style='text-align:left'>{html.escape(figure)}{listed}</td></tr>"
            )
        return f"<table>{''.join(rows)}</table>"


def file_table(dataset: xr.Dataset) -> pd.DataFrame:
    """Path of the file of every cell, indexed by labels; see ``ds.tiffstack.files``."""
    cells = _coordinate(dataset, "path")
    paths = [path if isinstance(path, str) and path else None for path in cells.values.ravel()]
    index = None
    if cells.dims:
        labels = [
            cells.indexes[d] if d in cells.indexes else pd.RangeIndex(cells.sizes[d], name=d)
            for d in cells.dims
        ]
        index = pd.MultiIndex.from_product(labels) if len(labels) > 1 else labels[0]
    return pd.DataFrame({"path": pd.Series(paths, index=index, dtype=object)})


def make_report(dataset: xr.Dataset) -> Report:
    """Read the report off a Dataset, and the files' sizes off the disk."""
    files = file_table(dataset)
    images = [v for v in dataset.data_vars.values() if "source" in v.attrs]
    image = images[0].attrs if images else {}
    paths = files["path"].dropna().tolist()
    sizes = {path: _size(path) for path in paths}
    present = _coordinate(dataset, "present")
    holes = np.argwhere(present.values != True)  # noqa: E712 - a new label of reindex is NaN
    labels = {str(d): present[d].values for d in present.dims}
    usual, share = next(iter(Counter(sizes.values()).most_common(1)), (None, 0))
    uneven = [p for p, n in sizes.items() if n is not None and n != usual]
    lists = ["reasons", "duplicates", "unmatched", "aside", "unreadable", "short", "disagreements"]
    source = dataset.attrs.get("source") or image.get("source", "")

    def names(paths: Iterable[str]) -> list[str]:
        return [os.path.relpath(path, source) if source else path for path in paths]

    return Report(
        source=source,
        convention=image.get("convention"),
        pattern=image.get("pattern"),
        cells=len(files),
        matched=len(paths),
        missing=[
            {d: _plain(values[i]) for (d, values), i in zip(labels.items(), at, strict=True)}
            for at in holes
        ],
        gaps={d: gap for d in labels if len(gap := counter_gaps(np.asarray(labels[d]))) > 0},
        # Sizes of compressed files all differ, which says nothing about the pixels.
        other_size=names(uneven) if share * 2 > len(paths) else [],
        absent=names(path for path, size in sizes.items() if size is None),
        **{name: _items(dataset.attrs.get(name)) for name in lists},
    )


def _coordinate(dataset: xr.Dataset, name: str) -> xr.DataArray:
    if name not in dataset.variables:
        raise ValueError(
            f"this Dataset has no coordinate {name!r}; open the files with "
            'xarray.open_dataset(source, engine="tiffstack")'
        )
    return dataset[name]


def _items(lines: Any) -> list[str]:
    """Items of a list that is kept as text, a line each, or as a list in stores made before."""
    if isinstance(lines, str):
        return lines.split("\n")
    return [] if lines is None else np.atleast_1d(lines).tolist()


def _plain(label: Any) -> Any:
    """Give a label as a Python number or text."""
    return label.item() if isinstance(label, np.generic) else label


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def counter_gaps(labels: np.ndarray) -> list[int]:
    """Integers left out of a counter that otherwise steps by one: [1] of 0, 2, 3, 4."""
    if labels.dtype.kind not in "iu" or len(labels) < 3:
        return []
    steps = np.diff(labels)
    if (steps == 1).mean() < 0.5 or labels[-1] - labels[0] > 2 * len(labels):
        return []
    return [int(n) for a, b in pairwise(labels) for n in range(a + 1, b)]
