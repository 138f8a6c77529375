"""Write docs/real_data.md from what the tests find in real files; `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "real_data.md"
sys.path.append(str(ROOT / "tests"))

from test_truth import (  # noqa: E402
    LISTS,
    REFUSED,
    SETS,
    folders_of,
    listed,
    open_known,
    open_names,
    open_refused,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray as xr
    from test_truth import Found, Known

SETS_TEXT = """\
# Real files

<!-- Written by ci/truth_page.py from what tests/test_truth.py finds. -->

Files of public repositories, opened as they are: what `xr.open_dataset(folder,
engine="tiffstack")` makes of each folder, without a pattern. What the array should be was written
down by hand before. Compared with that are the place and the labels of every file, the slots that
have none, the files that are left out, and the pixels of up to five slots, picked at random, with
the pages of the file that the slot names. "Differs" says where a label or a dimension is not what
was written down, and why.

| folder | read as | array | files | holes | left out | as it should be |
|---|---|---|---|---|---|---|
"""

REFUSED_TEXT = """
Folders that are no array, and the first line of what `validate="headers"` says of them; the names
of the files follow, and what to do. Each of the flavours' files, opened by itself, is equal to what
tifffile reads:

| folder | files | error |
|---|---|---|
"""

LISTS_TEXT = """
# Real names

Lists of names from public data and code. A tiny TIFF is written under each name, its pixels say
which, and the folder is opened as a tree, without a pattern. Most lists were put together from
several acquisitions, or from anybody's code; so every folder in a list is opened by itself, too.
None may be in a wrong place: each coordinate is what the pattern reads in the file's name, the
pixels are those of the file, and every file is in an array or in the list of those left out.

| list | names | opened together | in arrays | left out | its folders | open | refused |
|---|---|---|---|---|---|---|---|
"""

ERRORS_TEXT = """
The errors, each with the names of the files and what to do about it:

| what was opened | error |
|---|---|
"""


def table(rows: Iterable[tuple[object, ...]]) -> str:
    return "".join(f"| {' | '.join(str(cell) for cell in row)} |\n" for row in rows)


def verbatim(text: str) -> str:
    """Text as it is, in a cell of a table."""
    return f"`{text}`".replace("|", "\\|")


def array(ds: xr.Dataset) -> str:
    sizes = ", ".join(f"{dim} {size}" for dim, size in ds.image.sizes.items())
    return f"({sizes}) {ds.image.dtype}"


def read_as(ds: xr.Dataset) -> str:
    attrs = ds.image.attrs
    return verbatim(attrs["pattern"]) if attrs["convention"] == "inferred" else attrs["convention"]


def set_row(name: str, known: Known, found: Found) -> tuple[object, ...]:
    (ds,) = found.arrays
    said = [f"`{option}={value!r}`" for option, value in known.options.items()]
    given = [f"`{known.part}/` of it"] if known.part else []
    remarks = [", ".join([*given, *said]), known.remark]
    verdict = f"differs: {known.differs}" if known.differs else "yes"
    agrees = "; ".join(found.wrong) or "; ".join([verdict, *filter(None, remarks)])
    counts = found.names, found.holes, found.left_out
    return name, read_as(ds), array(ds), *counts, agrees


def first_line(found: Found) -> str:
    return found.refused.splitlines()[0]


def list_row(name: str, whole: Found, parts: Iterable[Found]) -> tuple[object, ...]:
    refused = [bool(part.refused) for part in parts]
    arrays = len(whole.arrays)
    opens = "refused" if whole.refused else "one array" if arrays == 1 else f"{arrays} arrays"
    counts = (whole.placed, whole.left_out) if arrays else ("", "")
    folders = (len(refused), refused.count(False), refused.count(True))
    return name, whole.names, opens, *counts, *(folders if len(refused) > 1 else ("", "", ""))


def page() -> str:
    sets = [set_row(name, known, open_known(name)) for name, known in SETS.items()]
    refused = {name: open_refused(name) for name in REFUSED}
    no_array = [(name, one.names, verbatim(first_line(one))) for name, one in refused.items()]
    lists, errors = [], []
    for name in LISTS:
        whole = open_names(listed(name))
        parts = {top: open_names(names) for top, names in folders_of(listed(name)).items()}
        lists.append(list_row(name, whole, parts.values()))
        below = parts if len(parts) > 1 else {}
        looked_at = {name: whole} | {f"{name}, `{top or '.'}/`": f for top, f in below.items()}
        errors += [(what, verbatim(first_line(f))) for what, f in looked_at.items() if f.refused]
    return "".join(
        text + table(rows)
        for text, rows in [
            (SETS_TEXT, sets),
            (REFUSED_TEXT, no_array),
            (LISTS_TEXT, lists),
            (ERRORS_TEXT, errors),
        ]
    )


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE.name} is not current: run python ci/truth_page.py")
