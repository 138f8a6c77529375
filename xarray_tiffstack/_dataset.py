"""How a placed grid of files becomes an `xarray.Dataset`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from xarray_tiffstack import _tiff
from xarray_tiffstack._array import FileGrid
from xarray_tiffstack._conventions import VOCABULARY, Convention, find_convention
from xarray_tiffstack._grid import Grid, first_lines, make_grid
from xarray_tiffstack._mosaic import Join, stitch
from xarray_tiffstack._scan import scan
from xarray_tiffstack._variable import FileVariable, TokenVariable

if TYPE_CHECKING:
    import dask.array as da

    from xarray_tiffstack._pattern import Pattern
    from xarray_tiffstack._scan import Source

PIECE = "part"  # the token whose files continue the volume before them, along z


def open_stack(
    source: Source | pd.DataFrame,
    *,
    pattern: str | Pattern | Convention | None,
    missing: Literal["fill", "raise"],
    duplicates: Literal["raise", "first", "last"],
    unmatched: Literal["warn", "ignore", "raise"],
    fill_value: float,
    voxel_size: float | Sequence[float] | Mapping[str, float] | None,
    mosaic: bool | Mapping[str, str] | pd.DataFrame,
    overlap: float | Mapping[str, float],
    drop_variables: str | Iterable[str] | None,
) -> xr.Dataset:
    """Run the whole line: source, scan, grid, lazy array, Dataset; see the backend's docstring."""
    _one_of("missing", missing, ("fill", "raise"))
    _one_of("duplicates", duplicates, ("raise", "first", "last"))
    _one_of("unmatched", unmatched, ("warn", "ignore", "raise"))
    spacing = _voxel_size(voxel_size)
    table, convention = _file_table(source, pattern, unmatched)
    table, tiles = _tile_tokens(table, mosaic)
    grid = make_grid(table, convention, tiles=tiles.values(), duplicates=duplicates)
    if missing == "raise":
        _refuse_holes(grid)
    joins = _joins(grid, tiles, overlap)
    image = _lazy_image(grid, joins, convention, fill_value)
    root = table.attrs.get("source") or os.path.commonpath(
        [os.path.dirname(p) for p in table["path"]]
    )
    coords = _coordinates(grid, joins, image, root, convention)
    dims = (*image.outer, *image.inner)
    _check_names(dims)
    for axis, size in spacing.items():
        if axis not in image.inner:
            raise ValueError(f"voxel_size names {axis!r}; the files have {', '.join(image.inner)}")
        length = image.array.shape[dims.index(axis)]
        coords[axis] = TokenVariable(axis, np.arange(length) * size, {"units": "micrometer"})
    attrs = {
        "source": root,
        "pattern": table.attrs.get("pattern"),
        "convention": convention.name if convention is not None else None,
    }
    variable = FileVariable(dims, image.array, {k: v for k, v in attrs.items() if v is not None})
    notes = {
        "reasons": table.attrs.get("reasons", []),
        "unmatched": table.attrs.get("unmatched", []),
        "aside": [f"{path}: {why}" for path, why in table.attrs.get("aside", {}).items()]
        + [f"{_below(root, path)}: processed version of a raw file" for path in grid.aside],
        "duplicates": [_below(root, path) for path in grid.duplicates],
        "unreadable": image.unreadable,
    }
    # Of the grid alone, and 1: any chunks= is then as good as any other, and xarray says nothing.
    variable.encoding["preferred_chunks"] = dict.fromkeys(image.outer, 1)
    # Coordinates are promoted afterwards: given as such, xarray makes plain variables of them.
    dataset = xr.Dataset(
        {"image": variable, **coords},
        attrs={"source": root, **{k: v for k, v in notes.items() if v}},
    ).set_coords(list(coords))
    if drop_variables is not None:
        dataset = dataset.drop_vars(drop_variables, errors="ignore")
    return dataset


def _one_of(keyword: str, value: object, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise ValueError(f"{keyword}={value!r} is none of {', '.join(map(repr, accepted))}")


def _voxel_size(
    given: float | Sequence[float] | Mapping[str, float] | None,
) -> dict[str, float]:
    """Normalize the keyword to micrometers by axis."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        sizes = dict(given)
    elif isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 3:
        sizes = dict(zip("zyx", given, strict=True))
    elif isinstance(given, (int, float)):
        sizes = dict.fromkeys("zyx", given)
    else:
        raise ValueError(
            f"voxel_size={given!r} is neither a number, nor (z, y, x), nor a mapping such as "
            '{"z": 0.5, "y": 0.1, "x": 0.1}, in micrometers'
        )
    bad = {k: v for k, v in sizes.items() if k not in {"z", "y", "x"} or not float(v) > 0}
    if bad:
        raise ValueError(f"voxel_size takes positive micrometers for z, y and x, not {bad}")
    return {axis: float(size) for axis, size in sizes.items()}


def _file_table(
    source: Source | pd.DataFrame,
    pattern: str | Pattern | Convention | None,
    unmatched: Literal["warn", "ignore", "raise"],
) -> tuple[pd.DataFrame, Convention | None]:
    """Scan the source, or take the table that was handed over."""
    if not isinstance(source, pd.DataFrame):
        table = scan(source, pattern, unmatched=unmatched)
    elif "path" not in source.columns:
        raise ValueError(
            "the file table has no column 'path'; its columns are "
            f"{', '.join(map(str, source.columns))}"
        )
    elif source.empty:
        raise FileNotFoundError("the file table has no rows")
    elif isinstance(pattern, str):
        raise ValueError("pattern= reads names, and a file table has them read already: drop it")
    else:
        table = source
    if isinstance(pattern, Convention):
        return table, pattern
    name = table.attrs.get("convention")
    return table, find_convention(name) if name is not None else None


# --- tiles ----------------------------------------------------------------------------------

# Tokens that count tiles along an axis, where mosaic=True has to find them.
_TILE_TOKENS = {"z": ("z_offset",), "y": ("y_offset", "row"), "x": ("x_offset", "col")}


def _tile_tokens(
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
        attrs, table = table.attrs, table.merge(renamed, on=on, how="left", validate="m:1")
        table.attrs = attrs
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
            f"mosaic={mosaic!r} is none of True, False, a mapping of axes to tokens, such as "
            '{"x": "col", "y": "row"}, or a table of positions'
        )
    return table, {
        axis: next(token for token in tokens if token in table)
        for axis, tokens in _TILE_TOKENS.items()
        if mosaic and any(token in table for token in tokens)
    }


def _joins(
    grid: Grid, tiles: Mapping[str, str], overlap: float | Mapping[str, float]
) -> list[Join]:
    """Decide along which axes tiles are put together."""
    shared = dict(overlap) if isinstance(overlap, Mapping) else dict.fromkeys(tiles, overlap)
    extra = [axis for axis in shared if axis not in tiles]
    if extra or (overlap and not tiles):
        raise ValueError(
            f"overlap={overlap!r} goes with mosaic=, which names {list(tiles) or None}"
        )
    joins = [
        Join(axis, token.lstrip("-"), token.startswith("-"), shared.get(axis, 0))
        for axis, token in tiles.items()
        if token.lstrip("-") in grid.dims
    ]
    if PIECE in grid.dims:
        if any(join.axis == "z" for join in joins):
            raise ValueError(f"{PIECE!r} continues the files along z, where mosaic= puts tiles too")
        joins.append(Join("z", PIECE))
    return joins


def _refuse_holes(grid: Grid) -> None:
    """Refuse cells without a file."""
    holes = np.argwhere(~grid.present)
    if not len(holes):
        return
    cells = (
        ", ".join(
            f"{d}={labels[i]}" for (d, labels), i in zip(grid.labels.items(), at, strict=True)
        )
        for at in holes
    )
    raise ValueError(
        f"{len(holes)} of {grid.paths.size} cells have no file:\n{first_lines(cells)}\n"
        'Open them filled with missing="fill", or drop the labels concerned from the table of '
        "xarray_tiffstack.scan()."
    )


@dataclass(frozen=True, eq=False)
class _Image:
    """The lazy array, and what its dimensions are."""

    array: da.Array
    outer: tuple[str, ...]
    """Dimensions of the grid of files."""
    inner: tuple[str, ...]
    """Dimensions of one file, or of the tiles put together."""
    lengths: dict[str, list[int]]
    """Pixels of each tile, along each axis on which tiles are put together."""
    unreadable: list[str]
    """Files that were tried as the probe and cannot be read, with the reason."""


# --- pixels ---------------------------------------------------------------------------------


def _lazy_image(
    grid: Grid, joins: Sequence[Join], convention: Convention | None, fill_value: float
) -> _Image:
    """Probe one file (one of each tile), and build the lazy array over all of them."""
    pages = convention.pages if convention is not None else "z"
    unreadable: list[str] = []

    def probe(paths: np.ndarray) -> _tiff.Layout | None:
        if not pd.notna(paths).any():
            return None
        layout = _probe(paths, pages, unreadable)
        _check_fill(fill_value, layout.dtype)
        return layout

    outer = tuple(d for d in grid.dims if d not in {join.token for join in joins})
    lengths: dict[str, list[int]] = {}
    if joins:
        order = [grid.dims.index(d) for d in (*outer, *(join.token for join in joins))]
        paths = grid.paths.transpose(order)
        paths = np.flip(paths, tuple(len(outer) + i for i, j in enumerate(joins) if j.descending))
        array, layout, lengths = stitch(paths, joins, probe, fill_value)
    else:
        layout = _probe(grid.paths, pages, unreadable)
        _check_fill(fill_value, layout.dtype)
        array = FileGrid(grid.paths, layout, fill_value).array()
    return _Image(array, outer, _inner(layout.axes, outer), lengths, unreadable)


def _probe(paths: np.ndarray, pages: str, unreadable: list[str]) -> _tiff.Layout:
    """Layout of the first file that can be read."""
    tried = 0
    for path in paths[pd.notna(paths)]:
        try:
            return _tiff.probe(path, pages=pages)
        except (OSError, ValueError) as error:
            unreadable.append(str(error))
            tried += 1
    raise OSError(f"none of {tried} files can be read:\n{first_lines(unreadable)}")


def _inner(axes: tuple[str, ...], outer: tuple[str, ...]) -> tuple[str, ...]:
    """Names for the dimensions of one file, where the grid has taken some already."""
    return tuple(f"{axis}_in_file" if axis in outer else axis for axis in axes)


def _check_fill(fill_value: float, dtype: np.dtype[Any]) -> None:
    """Refuse a fill value that the pixels cannot hold."""
    with np.errstate(all="ignore"):
        cast = np.asarray(fill_value).astype(dtype)
    if cast != fill_value and not (cast != cast and fill_value != fill_value):
        raise ValueError(f"fill_value={fill_value!r} is no {dtype} (the pixels keep their dtype)")


# --- coordinates ----------------------------------------------------------------------------


def _coordinates(
    grid: Grid, joins: Sequence[Join], image: _Image, root: str, convention: Convention | None
) -> dict[str, xr.Variable]:
    """Labels, tokens, and for every cell whether it has a file and which."""
    joined = {join.token: join for join in joins}

    def variable(name: str, dims: tuple[str, ...], values: np.ndarray) -> xr.Variable:
        """Lay values out, those of joined tiles in the order in which they are put together."""
        flip = tuple(
            slice(None, None, -1 if d in joined and joined[d].descending else 1) for d in dims
        )
        dims = tuple(joined[d].dim if d in joined else d for d in dims)
        turned = values[flip] if flip else values
        return TokenVariable(dims, turned, _units(name, values, grid, convention))

    coords: dict[str, xr.Variable] = {}
    for name, labels in grid.labels.items():
        label = variable(name, (name,), labels)
        if name in joined:
            axis = joined[name].axis
            coords[name] = TokenVariable(axis, label.values.repeat(image.lengths[axis]))
        coords[joined[name].dim if name in joined else name] = label
    for name, (dims, values) in grid.coords.items():
        coords[name] = variable(name, dims, values)
    below = np.frompyfunc(lambda path: "" if path is None else _below(root, path), 1, 1)
    coords["path"] = variable("path", grid.dims, np.asarray(below(grid.paths), object))
    coords["present"] = variable("present", grid.dims, grid.present)
    coords["present"].attrs["long_name"] = "whether there is a file"
    return coords


def _below(root: str, path: str) -> str:
    """Path relative to the source, with "/"."""
    if path.startswith(root + os.sep):
        path = path[len(root) + 1 :]
        return path if os.sep == "/" else PurePath(path).as_posix()
    return path


def _units(
    name: str, values: np.ndarray, grid: Grid, convention: Convention | None
) -> dict[str, str]:
    """Attributes of a coordinate: its unit where it has one."""
    if values.dtype.kind not in "iuf":
        return {}
    if name == "channel":  # labelled by a wavelength
        _, wavelength = grid.coords.get("wavelength", ((), np.array(None)))
        name = "wavelength" if np.array_equal(np.atleast_1d(wavelength), values) else name
    token = (convention.tokens if convention is not None else {}).get(name) or VOCABULARY.get(name)
    return {"units": token.units} if token is not None and token.units else {}


def _check_names(dims: tuple[str, ...]) -> None:
    """Refuse tokens whose names xarray or this Dataset needs for something else."""
    taken = [d for d in dims if d in {"image", "path", "present"}]
    if taken or len(set(dims)) < len(dims):
        raise ValueError(
            f"dimensions {dims}: {taken or 'two of them'} cannot be used as names; call the token "
            "otherwise in pattern="
        )
