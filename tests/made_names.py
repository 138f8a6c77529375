"""Families of file names as labs write them, and what is true of them; made, never parsed.

Each family crosses a few axes, writes every combination in one of many styles, and knows what each
file is because it wrote the name. Traps put beside them what looks like an axis and is none.
"""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xarray_tiffstack.grid.placing import Grid, make_grid
from xarray_tiffstack.grid.samples import split_samples, without_variants
from xarray_tiffstack.table import read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


Outcome = Literal["right", "own word", "refused", "wrong label", "wrong structure"]

# What an axis may be called, first the standard name; then words that mark it and say no more.
TIME = {"t", "time", "frame"}
AXES: dict[str, tuple[set[str], list[str]]] = {
    "time": (TIME, ["t", "T", "time", "Time", "tp", "timepoint", "frame", "TP"]),
    "z": ({"z"}, ["z", "Z", "slice", "plane", "zstack", "Slice"]),
    "channel": ({"channel", "ch"}, ["ch", "c", "C", "channel", "Ch", "CH", "Channel"]),
    "position": ({"position"}, ["pos", "xy", "Pos", "Position", "XY", "position"]),
    "field": ({"field"}, ["fov", "field", "FOV"]),
    "site": ({"site"}, ["site", "Site"]),
    "stack": ({"stack"}, ["stack", "vol", "volume", "stk"]),
    "angle": ({"angle"}, ["angle", "ang", "rot"]),
    "camera": ({"camera", "channel"}, ["cam", "Camera", "CAM"]),
    "cycle": ({"cycle"}, ["cycle", "cyc"]),
    "round": ({"round"}, ["round", "rnd"]),
    "view": ({"view"}, ["view"]),
    "tile": ({"tile"}, ["tile", "Tile"]),
    "region": ({"region"}, ["roi", "region", "ROI"]),
    "scene": ({"scene"}, ["scene", "Scene"]),
}
# Words that mean nothing to a program: the axis keeps them.
OWN = [
    "mouse", "rep", "day", "fish", "embryo", "section", "cell", "trial", "run", "exp", "patient",
    "gen", "dose", "step", "block", "line", "replicate", "animal", "larva", "organoid", "chip",
]  # fmt: skip
DYES = ["DAPI", "GFP", "mCherry", "Cy5", "RFP", "FITC", "TRITC", "BF", "Cy3", "TxRed"]
LASERS = [405, 488, 561, 640]
SAMPLES = ["WT", "KO", "ctrl", "mutant", "DMSO", "treated", "siRNA", "HeLa", "U2OS", "drugA"]
PREFIXES = ["", "", "exp", "20240301", "2024-03-01_test", "HeLa_10x", "488_300mW", "fish3", "a1b2"]
SUFFIXES = ["", "", "", "_raw", "_v2", "_20x", "_final"]


@dataclass
class Axis:
    """One thing that changes in names, and what is true of it."""

    names: set[str]
    """What it may be called."""
    values: list[Any]
    """Its values, one for each step."""
    write: Callable[[Any], str]
    """How one value is written, with its marker."""
    own: set[str] = field(default_factory=set)
    """What it may be called by the words in the names."""
    sample: bool = False
    """Whether its values may be samples: arrays of their own."""


@dataclass
class Family:
    """Names, and what is true of each."""

    style: str
    axes: list[Axis]
    names: list[str]
    truth: list[tuple[Any, ...]]
    """Value of each axis, a file."""
    refusable: bool = False
    """Whether a careful reader would not know either."""


def families(count: int, seed: int) -> list[Family]:
    """Make some families; the same for the same seed."""
    return [_family(random.Random(1_000_003 * seed + number)) for number in range(count)]


def _family(rng: random.Random) -> Family:
    """Make one family."""
    maker = rng.choice([_plain, _plain, _plain, _words, _plate, _folders, _trap, _measured])
    return maker(rng)


def _numbers(rng: random.Random, most: int = 12) -> list[int]:
    start = rng.choice([0, 0, 1, 1, rng.randint(2, 97)])
    return list(range(start, start + rng.randint(2, most)))


def _padding(rng: random.Random, values: Sequence[int]) -> int:
    wide = len(str(max(values)))
    return rng.choice([1, wide, wide + 1, 3, 4]) if max(values) < 1000 else 1


def _counter(rng: random.Random, kind: str, most: int = 12) -> Axis:
    """An axis that counts, marked by one of the words of its kind."""
    names, words = AXES[kind]
    word, values = rng.choice(words), _numbers(rng, 4 if kind in ("channel", "camera") else most)
    if kind == "channel" and word in "cC":
        values = list(range(rng.choice([0, 1]), 4))
    width = _padding(rng, values)
    between = rng.choice(["", "", "", "", "_", "-", "="])
    return Axis(names, values, lambda v: f"{word}{between}{v:0{width}d}", {word})


def _own(rng: random.Random) -> Axis:
    """An axis whose word no program knows."""
    word, values = rng.choice(OWN), _numbers(rng, 6)
    word = rng.choice([word, word.capitalize(), word.upper()])
    width, between = _padding(rng, values), rng.choice(["", "", "_", "-"])
    return Axis({word}, values, lambda v: f"{word}{between}{v:0{width}d}", {word, "n"})


def _dyes(rng: random.Random) -> Axis:
    return Axis({"channel", "dye"}, rng.sample(DYES, rng.randint(2, 4)), str)


def _lasers(rng: random.Random) -> Axis:
    end = rng.choice(["", "nm"])
    return Axis({"channel", "wavelength"}, LASERS[: rng.randint(2, 4)], lambda v: f"{v}{end}")


def _samples(rng: random.Random) -> Axis:
    names = {"name", "sample", "folder"}
    return Axis(names, rng.sample(SAMPLES, rng.randint(2, 3)), str, sample=True)


def _written(
    rng: random.Random, style: str, axes: list[Axis], *, holes: bool = True, fixed: str = ""
) -> Family:
    """Write a family: all its axes crossed, perhaps with a few files missing."""
    between = rng.choice(["_", "_", "_", "-", " ", "__", "."])
    prefix, suffix = rng.choice(PREFIXES), rng.choice(SUFFIXES)
    ending = rng.choice([".tif", ".tif", ".tiff", ".ome.tif", ".TIF"])
    truth = list(product(*(axis.values for axis in axes)))
    if holes and len(truth) > 20 and rng.random() < 0.3:
        truth = [cell for cell in truth if rng.random() > 0.05]
    names = []
    for cell in truth:
        words = [axis.write(value) for axis, value in zip(axes, cell, strict=True)]
        names.append(between.join(filter(None, [prefix, fixed, *words])) + suffix + ending)
    return Family(style, axes, names, truth)


def _plain(rng: random.Random) -> Family:
    """Counters with markers, perhaps with a dye, a laser or a word of the lab's own."""
    kinds = rng.sample(sorted(AXES), rng.randint(1, 3))
    axes = [_counter(rng, kind) for kind in kinds]
    if not {"channel", "camera"} & set(kinds):
        extra = rng.choice([_dyes, _lasers, None, None])
        axes += [extra(rng)] if extra else []
    if rng.random() < 0.3:
        axes.append(_own(rng))
    rng.shuffle(axes)
    return _written(rng, "plain", axes)


def _words(rng: random.Random) -> Family:
    """Samples in words, then counters."""
    axes = [_samples(rng), *rng.sample([_own(rng), _counter(rng, "time"), _counter(rng, "z")], 2)]
    axes.append(rng.choice([_dyes, _lasers])(rng))
    return _written(rng, "words", axes)


def _plate(rng: random.Random) -> Family:
    """Wells, sites and channels."""
    rows = rng.sample("ABCDEFGH", 2)
    width = rng.choice([1, 2])
    wells = [f"{row}{col:0{width}d}" for row in sorted(rows) for col in (2, 3, 11)]
    head = rng.choice(["", "", "Well", "well", "Well_"])
    axes = [Axis({"well"}, wells, lambda v: f"{head}{v}")]
    site = rng.choice(["s", "f", "site", "Site", "fov", "field"])
    names = {"s": {"site"}, "f": {"field"}, "fov": {"field"}}.get(site, {site.lower()})
    axes.append(Axis(names, [1, 2, 3], lambda v: f"{site}{v}", {site}))
    channel = rng.choice(["w", "ch", "dye"])
    if channel == "dye":
        axes.append(_dyes(rng))
    else:
        axes.append(Axis({"channel", "ch"}, [1, 2], lambda v: f"{channel}{v}"))
    return _written(rng, "plate", axes)


def _folders(rng: random.Random) -> Family:
    """Folders that count, and files that count in them."""
    kinds = rng.sample(["time", "position", "region", "round", "stack", "field"], 2)
    outer, inner = (_counter(rng, kind, 5) for kind in kinds)
    last = rng.choice([_dyes(rng), _counter(rng, "z", 5)])
    truth = list(product(outer.values, inner.values, last.values))
    again, middle = rng.random() < 0.3, rng.choice(["_", "-"])
    names = []
    for a, b, c in truth:
        own = [outer.write(a)] if again else []
        stem = middle.join([*own, inner.write(b), last.write(c)])
        names.append(f"{outer.write(a)}/{stem}.tif")
    return Family("folders", [outer, inner, last], names, truth)


def _measured(rng: random.Random) -> Family:
    """Numbers with units or signs, which are values and no counters."""
    step = rng.choice([0.25, 0.5, 1.5])
    point = rng.choice([".", ".", "p", ","])
    kinds: dict[str, Axis] = {
        "z": Axis(
            {"z"},
            [round(step * i, 2) for i in range(1, 6)],
            lambda v: f"z{v:.2f}um".replace(".", point),
            {"um"},
        ),
        "temperature": Axis({"C"}, [20, 25, 37], lambda v: f"{v}C", {"C"}),
        "dose": Axis({"dose"}, [1, 5, 10], lambda v: f"dose{v}uM", {"dose", "uM"}),
        "exposure": Axis({"exp"}, [10, 20, 50], lambda v: f"exp{v}ms", {"exp", "ms"}),
        "time": Axis(TIME, [0, 5, 10, 15], lambda v: f"t{v}min", {"min"}),
        "focus": Axis({"z"}, [-2, -1, 0, 1], lambda v: f"z{v:d}", {"z"}),
        "signed": Axis(
            {"x_offset", "x_position", "x"}, [-5, 0, 5], lambda v: f"x{v:+d}", {"x_offset"}
        ),
        "duration": Axis(
            {"timestamp", "time"},
            ["00h00m", "00h30m", "01h00m", "01h30m", "02h15m"],
            str,
            {"timestamp"},
        ),
        "date": Axis(
            {"timestamp", "date"},
            ["2024_03_30", "2024_03_31", "2024_04_01"],
            str,
            {"timestamp"},
        ),
    }
    axes = [kinds[rng.choice(sorted(kinds))], _counter(rng, rng.choice(["position", "channel"]))]
    if rng.random() < 0.5:
        axes.append(_own(rng))
    rng.shuffle(axes)
    return _written(rng, "measured", axes)


def _trap(rng: random.Random) -> Family:
    """Letters that mean something else here, and numbers that count nothing."""
    kind = rng.choice(["letters", "running", "well", "linked", "common", "size", "bare"])
    if kind == "letters":
        letter, other = rng.sample(["m", "Q", "d", "R", "k", "g", "e", "u", "s", "f", "v"], 2)
        axes = [
            Axis({letter}, _numbers(rng, 5), lambda v: f"{letter}{v}", {letter}),
            Axis({other}, _numbers(rng, 5), lambda v: f"{other}{v:02d}", {other}),
        ]
        return _written(rng, kind, axes)
    if kind == "running":
        made = _written(
            rng, kind, [_counter(rng, "time"), _counter(rng, "position", 4)], holes=False
        )
        made.names = [f"{i:05d}_{name}" for i, name in enumerate(made.names)]
        return made
    if kind == "well":
        noun = rng.choice(["section", "mouse", "slide", "core", "case"])
        values = [f"{row}{n}" for row in "AB" for n in (1, 2, 12)]
        axes = [Axis({noun}, values, lambda v: f"{noun}_{v}", {noun, "name", "sample", "n"})]
        return _written(rng, kind, [*axes, _own(rng)], holes=False)
    if kind == "linked":
        lines = dict(zip([0, 1, 2], rng.sample(LASERS, 3), strict=True))
        channel = Axis({"channel", "ch"}, [0, 1, 2], lambda v: f"ch{v}_{lines[v]}nm")
        return _written(rng, kind, [channel, _counter(rng, "stack")])
    if kind == "common":
        words = rng.choice([("Control", "Chloroquine"), ("pre", "post"), ("tumor", "tissue")])
        axes = [Axis({"name", "sample", "folder"}, list(words), str, sample=True)]
        return _written(rng, kind, [*axes, _own(rng)])
    if kind == "size":
        size = rng.choice(["512x512", "2x2", "10x", "1024x1024px"])
        return _written(rng, kind, [_counter(rng, "time"), _dyes(rng)], fixed=size)
    axes = [Axis({"n"}, list(range(1, 5)), lambda v: f"{v:03d}") for _ in range(2)]
    for number, axis in enumerate(axes):
        axis.names = {"n", "n2", "exp"} if number == 0 else {"n", "n2"}
        axis.own = {word for word in PREFIXES if word.isalpha()}
    return _written(rng, kind, axes, holes=False)


# --- what is made of them -------------------------------------------------------------------


def read(family: Family) -> tuple[Outcome, str]:
    """Read a family as a user would, and compare with what is true of it."""
    try:
        return _compared(family, grids_of(family.names))
    except ValueError as error:
        return "refused", str(error)


def grids_of(names: Sequence[str]) -> dict[str, Grid]:
    """Place the files of some names, one grid a sample; nothing is opened."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        table = read_table([f"/{name}" for name in names])
    samples = split_samples(without_variants(table))
    return {name: make_grid(own.rows, own.convention) for name, own in samples.items()}


def _compared(family: Family, grids: dict[str, Grid]) -> tuple[Outcome, str]:
    """Find each axis among the labels of the arrays."""
    labels: dict[str, dict[str, Any]] = {}
    for sample, grid in grids.items():
        for place in np.argwhere(grid.present):
            at = dict(zip(grid.dims, place, strict=True))
            values = {dim: grid.labels[dim][index] for dim, index in at.items()}
            for name, (dims, coordinate) in grid.coords.items():
                values[name] = coordinate[tuple(at[dim] for dim in dims)]
            labels[str(grid.paths[tuple(place)]).lstrip("/")] = {**values, "": sample}
    told = ", ".join(
        f"{dim} {size}"
        for grid in grids.values()
        for dim, size in zip(grid.dims, grid.present.shape, strict=True)
    )
    if set(labels) != set(family.names):
        return "wrong structure", f"{len(labels)} of {len(family.names)} files: {told}"
    return _graded(family, labels, grids, told)


def _graded(
    family: Family, labels: dict[str, dict[str, Any]], grids: dict[str, Grid], told: str
) -> tuple[Outcome, str]:
    """Grade the structure first, then the names."""
    slots = sum(grid.present.size for grid in grids.values())
    full = len({tuple(map(str, cell)) for cell in product(*(a.values for a in family.axes))})
    if slots > full or (slots > len(family.names) and len(family.names) == full):
        return "wrong structure", f"{slots} slots for {len(family.names)} files: {told}"
    outcome: Outcome = "right"
    for number, axis in enumerate(family.axes):
        truth = [cell[number] for cell in family.truth]
        found = [
            name
            for name in {key for values in labels.values() for key in values}
            if all(
                _equal(labels[path].get(name), value)
                for path, value in zip(family.names, truth, strict=True)
            )
        ]
        if not found:
            return "wrong structure", f"no label is {truth[:3]}...: {told}"
        dims = set().union(*(grid.dims for grid in grids.values()))
        if axis.sample and "" in found:
            continue
        if axis.names & set(found):
            if not (axis.names & dims or _is_along_channel(axis, dims)) and len(set(truth)) > 1:
                return "wrong structure", f"{found} is no dimension: {told}"
        elif any(_own_word(name, axis) for name in found):
            outcome = "own word" if outcome == "right" else outcome
        else:
            outcome = "wrong label"
            told = f"{sorted(found)} for {sorted(axis.names)}: {told}"
            return outcome, told
    return outcome, told


def _is_along_channel(axis: Axis, dims: set[str]) -> bool:
    return "channel" in axis.names and "channel" in dims


def _own_word(name: str, axis: Axis) -> bool:
    word = name.rstrip("0123456789").lower()
    return word == "n" or word in {own.lower() for own in axis.own}


def _equal(found: Any, value: Any) -> bool:
    """Whether a label is a value, as a number or as text."""
    if isinstance(value, str):
        return str(found) == value
    try:
        return float(found) == float(value)
    except (TypeError, ValueError):
        return False


def figures(count: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """Count the outcomes of some families, and tell of those that are not right."""
    counts = dict.fromkeys(("right", "own word", "refused", "wrong label", "wrong structure"), 0)
    told = []
    for family in families(count, seed):
        outcome, why = read(family)
        counts[outcome] += 1
        if outcome not in ("right", "own word"):
            shown = f"{family.names[0]} .. {family.names[-1]} ({len(family.names)})"
            told.append(f"{outcome} ({family.style}): {shown}\n    {why}")
    return counts, told
