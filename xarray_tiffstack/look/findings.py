"""What is not as it should be, or not like the rest: of the files, their names and their times."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from xarray_tiffstack.look.facts import clock
from xarray_tiffstack.look.image import noted

if TYPE_CHECKING:
    import xarray as xr

    from xarray_tiffstack.look.files import Files


@dataclass(frozen=True)
class Finding:
    """One kind of thing that is not as it should be."""

    name: str
    """What it is, in a word or two."""
    number: int
    """How many there are."""
    items: list[str]
    """Which; of what is missing fewer, as neighbours are put together."""
    serious: bool = True
    """Whether pixels may be lost by it."""


def findings(ds: xr.Dataset, files: Files) -> list[Finding]:
    """List what the Dataset and the disk say; kinds of which there are none are left out."""
    missing, gone = files.missing(), files.names("no longer there")
    empty = tuple(f"{name} is empty" for name in files.names("empty"))
    unreadable = [files.below(line) for line in noted(ds, "unreadable")]
    found = [
        Finding("missing", int(files.are("missing").sum()), missing),
        _listed("empty", files.names("empty")),
        _listed("unreadable", [line for line in unreadable if not line.startswith(empty)]),
        _listed("short", noted(ds, "short")),
        _listed("of another size", files.names("other size")),
        _listed("no longer there", [] if files.elsewhere else gone),
        _listed("duplicates", noted(ds, "duplicates")),
        _listed("unmatched", noted(ds, "unmatched")),
        _listed("gaps in counters", gaps_in_words(files)),
        _listed("gaps in time", gaps_in_time(ds)),
        _listed("disagreements", noted(ds, "disagreements")),
        Finding("set aside", len(noted(ds, "aside")), noted(ds, "aside"), serious=False),
    ]
    return [finding for finding in found if finding.number]


def _listed(name: str, items: list[str]) -> Finding:
    return Finding(name, len(items), items)


def gaps_in_time(ds: xr.Dataset) -> list[str]:
    """Say where the time from one label to the next is far from the usual one."""
    times = clock(ds)
    if times is None:
        return []
    length = ds.sizes[times.dim]
    labels = ds[times.dim].values if times.dim in ds.coords else np.arange(length)
    return times.irregular(labels)


def gaps(files: Files) -> dict[str, list[int]]:
    """Find counts that no file has, between the first and the last of a dimension's labels."""
    found = {name: counter_gaps(np.asarray(labels)) for name, labels in files.labels.items()}
    return {name: counts for name, counts in found.items() if counts}


def gaps_in_words(files: Files) -> list[str]:
    """List counts that no file has, a line for each dimension."""
    return [f"{name}: {', '.join(map(str, counts[:20]))}" for name, counts in gaps(files).items()]


def counter_gaps(labels: np.ndarray) -> list[int]:
    """Integers left out of a counter that otherwise steps by one: [1] of 0, 2, 3, 4."""
    if labels.dtype.kind not in "iu" or len(labels) < 3:
        return []
    steps = np.diff(labels)
    if (steps == 1).mean() < 0.5 or labels[-1] - labels[0] > 2 * len(labels):
        return []
    return [int(n) for a, b in pairwise(labels) for n in range(a + 1, b)]
