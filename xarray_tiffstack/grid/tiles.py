"""Which tokens place tiles, and along which image axes the tiles are put together."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING

import pandas as pd

from xarray_tiffstack.array.mosaic import Join

if TYPE_CHECKING:
    from collections.abc import Sequence

PIECE = "part"  # the token whose files continue the pages of the file before them

# Tokens that count tiles along an axis, where mosaic=True has to find them.
_TILE_TOKENS = {"z": ("z_offset",), "y": ("y_offset", "row"), "x": ("x_offset", "col")}


def tile_tokens(
    table: pd.DataFrame, mosaic: bool | Mapping[str, str] | pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Find the token that counts tiles along each axis; "-" before it turns its order round."""
    if isinstance(mosaic, pd.DataFrame):
        axes = [axis for axis in "zyx" if axis in mosaic]
        on = [name for name in mosaic if name in table and name not in axes]
        if not axes or not on:
            raise ValueError(
                "a table for mosaic= needs a column that the file table has "
                f"({', '.join(map(str, table.columns.drop('path')))}) and columns among x, y, z"
            )
        renamed = mosaic[[*on, *axes]].rename(columns={axis: f"{axis}_position" for axis in axes})
        table = table.merge(renamed, on=on, how="left", validate="m:1")
        return table, {axis: f"{axis}_position" for axis in axes}
    if isinstance(mosaic, Mapping):
        known = [str(name) for name in table.columns.drop("path")]
        wrong = {
            a: t for a, t in mosaic.items() if a not in _TILE_TOKENS or t.lstrip("-") not in known
        }
        if wrong:
            raise ValueError(
                f"mosaic={dict(mosaic)!r} takes the axes x, y, z and the tokens "
                f"{', '.join(known)}; not {wrong}"
            )
        return table, dict(mosaic)
    if not isinstance(mosaic, bool):
        raise ValueError(
            "mosaic must be True, False, a mapping of axes to tokens, such as "
            f'{{"x": "col", "y": "row"}}, or a table of positions, not {mosaic!r}'
        )
    return table, {
        axis: next(token for token in tokens if token in table)
        for axis, tokens in _TILE_TOKENS.items()
        if mosaic and any(token in table for token in tokens)
    }


def find_joins(
    dims: Sequence[str],
    tiles: Mapping[str, str],
    overlap: float | Mapping[str, float],
    outermost: str = "z",
) -> list[Join]:
    """Decide along which axes tiles are put together, of a grid with some dimensions.

    The pages of a file continue those of the file before along its `outermost` axis.
    """
    shared = dict(overlap) if isinstance(overlap, Mapping) else dict.fromkeys(tiles, overlap)
    if any(not isinstance(n, Real) or isinstance(n, bool) for n in (*shared.values(), 0)):
        raise ValueError(f"overlap must be pixels, or a fraction below 1, not {overlap!r}")
    extra = [axis for axis in shared if axis not in tiles]
    if extra or (overlap and not tiles):
        named = f"names {', '.join(tiles)}" if tiles else "names no tiles"
        raise ValueError(f"overlap={overlap!r} goes with mosaic=, which {named}")
    joins = [
        Join(axis, token.lstrip("-"), token.startswith("-"), shared.get(axis, 0))
        for axis, token in tiles.items()
        if token.lstrip("-") in dims
    ]
    if PIECE in dims:
        if any(join.axis == outermost for join in joins):
            raise ValueError(
                f"{PIECE!r} continues the files along {outermost}, where mosaic= puts tiles too"
            )
        joins.append(Join(outermost, PIECE))
    return joins
