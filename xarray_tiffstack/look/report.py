"""What a Dataset says of its files, in lists for programs and in lines for people."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xarray_tiffstack.look.facts import INFERRED, facts, python_call
from xarray_tiffstack.look.filemap import map_html
from xarray_tiffstack.look.files import files_of
from xarray_tiffstack.look.findings import Finding, findings, gaps
from xarray_tiffstack.look.image import noted, source_of
from xarray_tiffstack.messages import FIRST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr

    from xarray_tiffstack.look.files import Files

HEAD = 16  # characters for what a line is about
RED, PLAIN = "\x1b[31m", "\x1b[0m"


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
    slots: int = 0
    """Combinations of labels."""
    matched: int = 0
    """Files that have a slot."""
    missing: list[dict[str, Any]] = field(default_factory=list)
    """Labels of the slots without a file."""
    gaps: dict[str, list[int]] = field(default_factory=dict)
    """Counts that no file has, between the first and the last of a dimension's labels."""
    duplicates: list[str] = field(default_factory=list)
    """Files left out because another file has the same labels."""
    unmatched: list[str] = field(default_factory=list)
    """TIFFs whose names do not fit the pattern."""
    aside: list[str] = field(default_factory=list)
    """Files of the format that are not raw image data, with the reason."""
    unreadable: list[str] = field(default_factory=list)
    """Files that could not be opened, with the reason."""
    short: list[str] = field(default_factory=list)
    """Files that hold fewer planes than the others, and how many."""
    disagreements: list[str] = field(default_factory=list)
    """What was given or recorded otherwise than it was found."""
    other_size: list[str] = field(default_factory=list)
    """Files whose size in bytes differs from most others', and both sizes."""
    absent: list[str] = field(default_factory=list)
    """Files that are no longer there."""
    _facts: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    _findings: list[Finding] = field(default_factory=list, repr=False, compare=False)
    _files: Files | None = field(default=None, repr=False, compare=False)
    _call: str = field(default="", repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Give the fields as plain lists, numbers and text, as JSON takes them."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def text(self, *, width: int | None = None, verbose: bool = False, colour: bool = False) -> str:
        """Say it in lines.

        Parameters
        ----------
        width : int, optional
            Characters of a line; what is longer is cut. By default nothing is cut.
        verbose : bool
            List all names of a kind, not the first five, and cut nothing.
        colour : bool
            Print what is missing in red, by the codes of a terminal.
        """
        width = None if verbose else width
        lines = [_line(name, value, width) for name, value in self._about(verbose)]
        for finding in self._findings:
            head = f"{finding.name:>{HEAD}}  {finding.number:,}"
            red = colour and finding.serious
            lines.append(f"{RED}{head}{PLAIN}" if red else head)
            shown = finding.items if verbose else finding.items[:FIRST]
            lines += [_line("", f"- {item}", width) for item in shown]
            if len(finding.items) > len(shown):
                more = len(finding.items) - len(shown)
                lines.append(f"{'':{HEAD}}  ... and {more:,} more")
        return "\n".join([*lines, "", self._call] if self._call else lines)

    def _about(self, verbose: bool = False) -> Iterator[tuple[str, str]]:
        """Give name and value of each line of what was understood."""
        yield "source", self.source
        known = self.convention not in (None, INFERRED)
        if self.pattern:
            yield "names read by", str(self.convention if known else self.pattern)
        if verbose:
            yield from (("", f"- {reason}") for reason in self.reasons)
            yield from [("pattern", str(self.pattern))] if known else []
        yield from self._facts.items()

    def __str__(self) -> str:
        """Return the report as text."""
        return self.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Show facts, findings and the map of the files."""
        from xarray_tiffstack.look.page import STYLE, finding_html

        rows = "".join(
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
            for name, value in self._about()
        )
        listed = "".join(map(finding_html, self._findings))
        drawn = map_html(self._files) if self._files is not None else ""
        call = f"<pre>{html.escape(self._call)}</pre>" if self._call else ""
        return (
            f"<style>{STYLE}</style><div class='ts-page ts-report'>"
            f"<dl class=ts-facts>{rows}</dl>{listed}{drawn}{call}</div>"
        )


def _line(name: str, value: str, width: int | None) -> str:
    """One line of text; what is too long for it is cut at its end."""
    line = f"{name:>{HEAD}}  {value}"
    return line if width is None or len(line) <= width else f"{line[: width - 3]}..."


def file_table(dataset: xr.Dataset) -> pd.DataFrame:
    """List the file of every slot, indexed by labels; see ``ds.tiffstack.files``."""
    files = files_of(dataset, sizes=False)
    index = None
    if files.labels:
        labels = [
            dataset.indexes[name] if name in dataset.indexes else pd.RangeIndex(n, name=name)
            for name, n in zip(files.labels, files.paths.shape, strict=True)
        ]
        index = pd.MultiIndex.from_product(labels) if len(labels) > 1 else labels[0]
    return pd.DataFrame({"path": pd.Series(files.paths.ravel(), index=index, dtype=object)})


def make_report(dataset: xr.Dataset, keywords: Mapping[str, Any] | None = None) -> Report:
    """Read the report off a Dataset, and the files' sizes off the disk.

    `keywords` are those that the Dataset was opened with, for the call that opens it again.
    """
    labels = {name: dataset[name].variable.compute() for name in dataset.coords}
    dataset = dataset.assign_coords(labels)
    files = files_of(dataset)
    images = [v.attrs for v in dataset.data_vars.values() if "source" in v.attrs]
    image = images[0] if images else {}
    lists = ["reasons", "duplicates", "unmatched", "aside", "unreadable", "short", "disagreements"]
    missing = files.filled
    return Report(
        source=source_of(dataset),
        convention=image.get("convention"),
        pattern=image.get("pattern"),
        slots=files.paths.size,
        matched=int((~missing).sum()),
        missing=[
            {
                name: _plain(along[i])
                for (name, along), i in zip(files.labels.items(), at, strict=True)
            }
            for at in np.argwhere(missing)
        ],
        gaps=gaps(files),
        other_size=files.names("other size"),
        absent=files.names("no longer there"),
        **{name: noted(dataset, name) for name in lists},
        _facts=facts(dataset, files),
        _findings=findings(dataset, files),
        _files=files,
        _call=python_call(dataset, keywords),
    )


def _plain(label: Any) -> Any:
    """Give a label as a Python number or text."""
    return label.item() if isinstance(label, np.generic) else label
