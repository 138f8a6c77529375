"""How results are shown: as lines on the terminal, and as the figures of docs/performance.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench.measure import LIMIT, OURS, ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.measure import Row

OTHERS = dict.fromkeys(
    ("seed script", "seed, shape known", "tifffile", "dask-image", "bioio", "tensorstore")
).keys()
VERDICT = {True: "reached", False: "not reached", None: ""}


def as_text(row: Row) -> str:
    """Show one row in full."""
    lines = [f"{row.what}: {row.measured}"]
    if row.target:
        lines.append(f"    to reach: {row.target} -> {VERDICT[row.reached] or 'not run'}")
    for name, seconds in row.times.items():
        ratio = f"{row.ratio(name):10.2f}x" if name in row.rounds and OURS in row.rounds else ""
        lines.append(f"    {name:28}{1e3 * seconds:12.3f} ms{ratio}")
    lines += [f"    {name}: {value:,.6g}" for name, value in row.figures.items()]
    lines += [f"    note: {note}" for note in row.notes]
    return "\n".join(lines)


def rewrite(page: Path, rows: Mapping[str, Sequence[Row]], machine: Mapping[str, str]) -> None:
    """Replace the figures between the marks of the page; rows come by what measured them."""
    every = [row for each in rows.values() for row in each]
    others = {name: [row for row in each if not row.target] for name, each in rows.items()}
    parts = {
        "machine": ", ".join(f"{name} {value}" for name, value in machine.items()) + ".",
        "targets": targets_table([row for row in every if row.target]),
        "peers": _contenders([row for row in every if row.rounds.keys() & OTHERS]),
        "files": measured_table(others.get("open_many", ())),
        "pages": measured_table(others.get("longer_files", ())),
        "compressed": measured_table(
            [*others.get("compressed_plane", ()), *others.get("compressed_pass", ())]
        ),
        "writing": measured_table(others.get("choices", ())),
    }
    replace(page, parts, "ci/bench.sh")


def replace(page: Path, parts: Mapping[str, str], script: str) -> None:
    """Replace what a script wrote between the marks of a page."""
    text = page.read_text()
    for name, part in parts.items():
        mark = f"<!-- {name}: written by {script} -->"
        marked = re.compile(f"{re.escape(mark)}\n.*?<!-- end -->", re.DOTALL)
        if len(marked.findall(text)) != 1:
            raise ValueError(f"{page} has no one place for the figures {name!r}")
        written = f"{mark}\n\n{part}\n\n<!-- end -->"
        text = marked.sub(lambda _, written=written: written, text)
    page.write_text(text)


def measured_table(rows: Sequence[Row]) -> str:
    """One line a row: what, measured."""
    lines = ["| what | measured |", "|---|---|"]
    lines += [f"| {row.what} | {row.measured} |" for row in rows]
    return "\n".join(lines)


def targets_table(rows: Sequence[Row]) -> str:
    """One line a row: what, to reach, measured, reached or not."""
    lines = ["| what | to reach | measured | |", "|---|---|---|---|"]
    lines += [f"| {r.what} | {r.target} | {r.measured} | {VERDICT[r.reached]} |" for r in rows]
    return "\n".join(lines)


def _contenders(rows: Sequence[Row]) -> str:
    """One line a row: how many times this project's time each contender takes."""
    names = [*OTHERS, LIMIT]
    lines = [f"| | {OURS} | " + " | ".join(names) + " |", "|---|" + "---|" * (len(names) + 1)]
    for row in rows:
        cells = [_ratio(row.ratio(name)) if name in row.rounds else "" for name in names]
        lines.append(f"| {row.what} | {ms(row.times[OURS])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ratio(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x"
