"""Write docs/conventions.md from the conventions themselves; `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from xarray_tiffstack.names.conventions import Convention, conventions
from xarray_tiffstack.names.vocabulary import LETTERS, MARKERS, VOCABULARY, Letter, Token

PAGE = Path(__file__).resolve().parents[1] / "docs" / "conventions.md"

INTRODUCTION = """\
# Naming conventions

<!-- Written by ci/conventions_page.py from names/conventions.toml; edit that file. -->

Files that are named as below need no pattern. `xr.open_dataset(folder, engine="tiffstack")`
compares the names in the folder with every convention and takes the one that gives a meaning to the
most characters of the names, if it explains more than half of them. To ask for one, give its name:
`pattern="aollsm"`. The patterns are explained in [Patterns](patterns.md).

Names may say more than a convention knows. Then they are read [by their own
words](#names-of-your-own), as names are that follow no convention. This happens in two cases: the
convention explains only some of the names, and all of them can be read in one way; or it says
little (`weak` below), and more parts of the names change than it has tokens for. Files that were
made of others in the folder (`_MIP_z`, `decon/`, `masks/`) are left out before.

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
pages = "time"                      # what the pages of a file are, where it does not say
weak = false                        # true: it gives way where names say more

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
dimension only where nothing else places the files. A token that is not here is an `axis`.

| token | role | units |
|---|---|---|
"""


OWN = """\
## Names of your own

Names that follow no convention are cut into words, and words into letters and numbers. What
changes is a token, and the letters or the word beside it give its name. A word of the table below
gives a standard name, unless something contradicts it: a unit of another kind (`exp10ms` is no
time), a value that such a number cannot have (`F-2` is no field), or another token with a better
right to the name. Then, and for every other word, the token keeps the word that is in the names
(`mouse3`: `mouse`), and it is called `n` only where there is none. Where no reading is certain,
none is chosen: an error shows templates to choose from. What was guessed is told in a warning, and
in `ds.tiffstack.report()`.

| name | words that mark it |
|---|---|
"""

LETTERS_TEXT = """
Single letters mean something only in company:

| letter | means | where |
|---|---|---|
"""


def marker_rows() -> str:
    names = dict.fromkeys(MARKERS.values())
    words = {name: [f"`{w}`" for w, own in MARKERS.items() if own == name] for name in names}
    rows = "".join(f"| `{name}` | {', '.join(own)} |\n" for name, own in words.items())
    letters = "".join(
        f"| `{letter}` | `{one.name}` | {company(one)} |\n"
        for letter, many in LETTERS.items()
        for one in many
    )
    return rows + LETTERS_TEXT + letters


def company(one: Letter) -> str:
    """Say in which company a letter means something."""
    marked = [
        (one.beside, "one of {} marks another number"),
        (one.before, "{} marks the number before it"),
        (one.after, "{} marks the number after it"),
    ]
    parts = [
        text.format(", ".join(f"`{word}`" for word in words.split()))
        for words, text in marked
        if words
    ]
    parts += [f"it has {one.digits} digits or more"] if one.digits else []
    parts += [f"no other letter is there, and at most {one.alone} values"] if one.alone else []
    parts += ["it is a small letter"] if one.lower else []
    parts += ["values count from 0 or 1"] if one.counted else []
    return "; ".join(parts)


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
        + (f"; pages that nothing else names are `{convention.pages}`" if convention.pages else "")
        + (". It is weak: it gives way where names say more.\n" if convention.weak else ".\n")
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
    parts = [INTRODUCTION + table, *map(section, known), OWN + marker_rows(), ADD + words]
    return "\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE.name} is not current: run python ci/conventions_page.py")
