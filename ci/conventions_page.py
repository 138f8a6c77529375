"""Write docs/conventions.md from the conventions themselves; `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from xarray_tiffstack.names.conventions import Convention, conventions
from xarray_tiffstack.names.vocabulary import VOCABULARY, Token

PAGE = Path(__file__).resolve().parents[1] / "docs" / "conventions.md"

INTRODUCTION = """\
# Naming conventions

<!-- Written by ci/conventions_page.py from xarray_tiffstack/conventions.toml; edit that file. -->

Files that are named as below need no pattern. `xr.open_dataset(folder, engine="tiffstack")`
compares the names in the folder with every convention and takes the one that gives a meaning to the
most characters of the names, if it explains more than half of them. To ask for one, give its name:
`pattern="aollsm"`. The patterns are explained in [patterns.md](patterns.md).

| name | microscope or program | dimensions |
|---|---|---|
"""

ADD = """\
## Add your own

A convention is a table in a TOML file. Nothing but `title`, `link`, `patterns` and `dims` is
required; a token that the file does not describe has the meaning of its name in the list below.

```toml
[convention.mouse]
title = "Our two-photon rig"
link = "https://example.org/wiki/names"
patterns = ["{mouse:s}_day{day:d}_{channel:l}[_z{z:d}]"]
dims = ["day", "channel", "z"]      # order of the dimensions
always = ["channel"]                # dimensions that are there at length 1, too
pages = "time"                      # what the pages of a file are, where it does not say; else "z"

[convention.mouse.tokens]
mouse = {role = "sample", title = "number of the mouse"}
day = {role = "axis", units = "day"}

[[convention.mouse.aside]]          # files of the format that are no part of the array
pattern = "{mouse}_day{day:d}_average"
reason = "average over time"
alone = false                       # true: they are the images where there are no others

[[convention.mouse.examples]]       # real names; tested for the conventions that are built in
name = "m12_day3_green_z004.tif"
tokens = {mouse = "m12", day = 3, channel = "green", z = 4}
source = "our lab"
```

`load_conventions("names.toml")` reads the file, and any entry of what it returns can be given as
`pattern=`. Missing here: a convention that others use, too? Send its table.

### Roles

| role | what the token does |
|---|---|
| `axis` | counts something; a dimension where it varies |
| `tile` | an axis that is a place in a mosaic |
| `channel` | part of the identity of a channel; together they make the dimension `channel` |
| `label` | names the channel, but is not its identity |
| `clock` | was measured, or repeats what others say: a coordinate, never a dimension |
| `piece` | a file that continues another |
| `variant` | tells a processed version of a file from the raw one |
| `sample` | what was imaged; different ones are different groups |
| `random` | says nothing, and is dropped |

### Tokens known by their name

These also hold for the patterns that you give as `pattern=`; there a `clock`, as `time`, becomes a
dimension only where nothing else tells the files apart. A token that is not here is an `axis`.

| token | role | units |
|---|---|---|
"""


def meaning(name: str, token: Token, form: str = "| `{}` | {} | {} |\n") -> str:
    return form.format(name, token.role, token.units or "")


def section(convention: Convention) -> str:
    parts = [f"## {convention.name}\n\n{convention.title} ([more]({convention.link})).\n"]
    text = "\n".join(pattern.text for pattern in convention.patterns)
    parts.append(f"```text\n{text}\n```\n")
    rows = "".join(
        f"| `{name}` | {token.role} | {token.title or ''} | {token.units or ''} |\n"
        for name, token in convention.tokens.items()
    )
    parts.append("| token | role | meaning | units |\n|---|---|---|---|\n" + rows)
    dims = ", ".join(f"`{dim}`" for dim in convention.dims)
    always = ", ".join(f"`{dim}`" for dim in convention.always)
    parts.append(
        f"Dimensions: {dims}"
        + (f" ({always} also at length 1)" if always else "")
        + f"; unlabelled pages are `{convention.pages}`.\n"
    )
    if convention.aside:
        asides = "".join(
            f"- {aside.reason}: `{aside.pattern}`"
            + (", unless there are no other files" if aside.alone else "")
            + "\n"
            for aside in convention.aside
        )
        parts.append(f"Set aside:\n\n{asides}")
    examples = "".join(f"- `{one.name}`  \n  ({one.source})\n" for one in convention.examples)
    parts.append(f"Real names:\n\n{examples}")
    return "\n".join(parts)


def page() -> str:
    known = conventions().values()
    table = "".join(
        f"| [{one.name}](#{one.name}) | {one.title} | {', '.join(one.dims)} |\n" for one in known
    )
    words = "".join(meaning(*item) for item in VOCABULARY.items())
    return "\n".join([INTRODUCTION + table, *map(section, known), ADD + words])


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE.name} is not current: run python ci/conventions_page.py")
