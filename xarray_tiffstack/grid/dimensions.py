"""Which tokens of a table are dimensions, and what makes a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xarray_tiffstack.grid.columns import Column, all_determine, all_distinct, encode
from xarray_tiffstack.names.dependencies import combined
from xarray_tiffstack.names.vocabulary import DIMS, VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    from xarray_tiffstack.names.conventions import Convention
    from xarray_tiffstack.names.vocabulary import Token


def choose_dimensions(
    columns: dict[str, Column],
    tokens: Mapping[str, Token],
    convention: Convention | None,
    tiles: Collection[str],
) -> tuple[tuple[str, ...], dict[str, Column]]:
    """Choose the dimensions; gives the columns back with `channel` among them."""
    columns = _with_channel(columns, tokens)
    always = convention.always if convention is not None else ()
    rank = _rank(convention)
    role = {name: tokens[name].role if name in tokens else "axis" for name in columns}
    if "channel" in columns:
        role["channel"] = "axis"
    axes = [n for n in columns if role[n] in {"axis", "tile", "piece", "variant"}]
    rows = len(next(iter(columns.values())).codes) if columns else 1
    if convention is None and not all_distinct([columns[n] for n in axes], rows):
        axes += [n for n in columns if role[n] == "clock"]
    axes.sort(key=lambda n: rank.get(n, rank["z_offset"] - 0.5))
    kept = [n for n in axes if columns[n].varies or n in always]
    known = {*rank, *VOCABULARY}
    for name in reversed([n for n in kept if n not in {"channel", *always, *tiles}]):
        # Of tokens with a meaning of their own, only those of a tile are given up that easily.
        jointly = [n for n in kept if n != name and (name not in known or n in tiles)]
        if _follows(name, kept, columns, jointly):
            kept.remove(name)
    return tuple(kept), columns


def _follows(
    name: str, kept: Sequence[str], columns: Mapping[str, Column], jointly: Sequence[str]
) -> bool:
    """Whether a token is given by another dimension, or by several `jointly`.

    Of two that move together the first is the dimension.
    """
    own = columns[name]
    for other in kept:
        if other != name and all_determine([columns[other]], own):
            together = all_determine([own], columns[other])
            if not together or kept.index(other) < kept.index(name):
                return True
    return bool(jointly) and all_determine([columns[n] for n in jointly], own)


def _rank(convention: Convention | None) -> dict[str, int]:
    """Order of the dimensions by name."""
    own = convention.dims if convention is not None else ()
    return {name: i for i, name in enumerate([*own, *(n for n in DIMS if n not in own)])}


def _with_channel(columns: dict[str, Column], tokens: Mapping[str, Token]) -> dict[str, Column]:
    """Add the dimension `channel`, labelled, where tokens tell channels apart."""
    role = {name: tokens[name].role for name in columns}
    identity = [n for n in columns if role[n] == "channel"]
    label = [n for n in columns if role[n] == "label"]
    if not identity and not label:
        return columns
    differing = [n for n in identity if columns[n].varies]
    # Of tokens that tell the same, the one that comes first in the vocabulary stays.
    place = {name: i for i, name in enumerate(VOCABULARY)}
    for name in sorted(differing, key=lambda n: place.get(n, len(place)), reverse=True):
        rest = [columns[n] for n in differing if n != name]
        if rest and all_determine(rest, columns[name]):
            differing.remove(name)
    differing += [
        n for n in label if not all_determine([columns[t] for t in differing], columns[n])
    ]
    rows = len(next(iter(columns.values())).codes)
    codes = combined([columns[n].codes for n in differing], rows)
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    names = _channel_labels(first, columns, differing, label, identity)
    sorted_names = encode(pd.Series(names))
    return {**columns, "channel": Column(sorted_names.codes[codes], sorted_names.values)}


def _channel_labels(
    rows: np.ndarray,
    columns: Mapping[str, Column],
    differing: Sequence[str],
    label: Sequence[str],
    identity: Sequence[str],
) -> np.ndarray:
    """Label each channel (one row of each is given).

    By its wavelength or dye where that is unique, else by all in which channels differ.
    """

    def of(name: str) -> np.ndarray:
        column = columns[name]
        values: np.ndarray = column.values[column.codes[rows]]
        return values

    own = differing if len(differing) == 1 else () if differing else identity
    for name in label or own:
        values = of(name)
        if len(set(values.tolist())) == len(values):
            return values
    parts = [*(n for n in label if n not in differing), *differing]
    texts = [[channel_part(n, v) for v in of(n)] for n in parts]
    return np.array(["_".join(words) for words in zip(*texts, strict=True)], object)


def channel_part(name: str, value: Hashable) -> str:
    """Spell one field of a channel's label: 488nm, CamA, ch0."""
    prefix = {"camera": "Cam", "wavelength": "", "channel": "ch"}.get(name, name)
    return f"{prefix}{value}{'nm' if name == 'wavelength' else ''}"
