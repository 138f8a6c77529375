"""How a placed grid of files becomes an `xarray.Dataset`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from xarray_tiffstack import _tiff
from xarray_tiffstack._array import FileGrid
from xarray_tiffstack._conventions import VOCABULARY, Convention, find_convention
from xarray_tiffstack._grid import Grid, first_lines, make_grid
from xarray_tiffstack._mosaic import block
from xarray_tiffstack._scan import scan
from xarray_tiffstack._variable import FileVariable

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
    drop_variables: str | Iterable[str] | None,
) -> xr.Dataset:
    """Run the whole line: source, scan, grid, lazy array, Dataset; see the backend's docstring."""
    _one_of("missing", missing, ("fill", "raise"))
    _one_of("duplicates", duplicates, ("raise", "first", "last"))
    _one_of("unmatched", unmatched, ("warn", "ignore", "raise"))
    spacing = _voxel_size(voxel_size)
    table, convention = _file_table(source, pattern, unmatched)
    grid = make_grid(table, convention, duplicates=duplicates)
    if missing == "raise":
        _refuse_holes(grid)
    image, inner, unreadable = _lazy_image(grid, convention, fill_value)
    root = table.attrs.get("source") or os.path.commonpath(
        [os.path.dirname(p) for p in table["path"]]
    )
    coords = _coordinates(grid, root, convention)
    dims = (*(d for d in grid.dims if d != PIECE), *inner)
    _check_names(dims)
    for axis, size in spacing.items():
        if axis not in inner:
            raise ValueError(f"voxel_size names {axis!r}; the files have {', '.join(inner)}")
        length = image.shape[dims.index(axis)]
        coords[axis] = FileVariable(axis, np.arange(length) * size, {"units": "micrometer"})
    attrs = {
        "source": root,
        "pattern": table.attrs.get("pattern"),
        "convention": convention.name if convention is not None else None,
    }
    variable = FileVariable(dims, image, {k: v for k, v in attrs.items() if v is not None})
    notes = {
        "reasons": table.attrs.get("reasons", []),
        "unmatched": table.attrs.get("unmatched", []),
        "aside": [f"{path}: {why}" for path, why in table.attrs.get("aside", {}).items()]
        + [f"{_below(root, path)}: processed version of a raw file" for path in grid.aside],
        "duplicates": [_below(root, path) for path in grid.duplicates],
        "unreadable": unreadable,
    }
    # Of the grid alone, and 1: any chunks= is then as good as any other, and xarray says nothing.
    variable.encoding["preferred_chunks"] = {dim: 1 for dim in dims if dim not in inner}
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


# --- pixels ---------------------------------------------------------------------------------


def _lazy_image(
    grid: Grid, convention: Convention | None, fill_value: float
) -> tuple[da.Array, tuple[str, ...], list[str]]:
    """Probe one file (one of each piece), and build the lazy array over all of them.

    Returns
    -------
    image
        The array; its dimensions are the grid's (but for pieces), then those of one file.
    inner
        Names of the dimensions of one file.
    unreadable
        Files that were tried as the probe and cannot be read, with the reason.
    """
    pages = convention.pages if convention is not None else "z"
    unreadable: list[str] = []
    if PIECE not in grid.dims:
        layout = _probe(grid.paths, pages, unreadable)
        files = FileGrid(grid.paths, layout, _checked_fill(fill_value, layout.dtype))
        return files.array(), _inner(layout.axes, grid.dims), unreadable
    pieces = np.moveaxis(grid.paths, grid.dims.index(PIECE), 0)
    layouts = [_probe(piece, pages, unreadable) for piece in pieces]
    inner = _inner(layouts[0].axes, grid.dims)
    shape = [1] * (grid.paths.ndim - 1 + len(inner))
    at = grid.paths.ndim - 1 + inner.index("z")
    shape[at] = len(pieces)
    tiles = np.empty(len(pieces), object)
    for i, (piece, layout) in enumerate(zip(pieces, layouts, strict=True)):
        fill = _checked_fill(fill_value, layout.dtype)
        tiles[i] = FileGrid(np.ascontiguousarray(piece), layout, fill).array()
    return block(tiles.reshape(shape)), inner, unreadable


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


def _checked_fill(fill_value: float, dtype: np.dtype[Any]) -> float:
    """Refuse a fill value that the pixels cannot hold."""
    with np.errstate(all="ignore"):
        cast = np.asarray(fill_value).astype(dtype)
    if cast != fill_value and not (cast != cast and fill_value != fill_value):
        raise ValueError(f"fill_value={fill_value!r} is no {dtype} (the pixels keep their dtype)")
    return fill_value


# --- coordinates ----------------------------------------------------------------------------


def _coordinates(grid: Grid, root: str, convention: Convention | None) -> dict[str, xr.Variable]:
    """Labels, tokens, and for every cell whether it has a file and which."""
    coords: dict[str, xr.Variable] = {}
    for name, labels in grid.labels.items():
        if name != PIECE:
            coords[name] = FileVariable(name, labels, _units(name, labels, grid, convention))
    for name, (dims, values) in grid.coords.items():
        if PIECE in dims:  # differs from piece to piece: a volume has the first one's
            values, dims = values.take(0, dims.index(PIECE)), tuple(d for d in dims if d != PIECE)
        coords[name] = FileVariable(dims, values, _units(name, values, grid, convention))
    present = grid.present
    below = np.frompyfunc(lambda path: "" if path is None else _below(root, path), 1, 1)
    coords["path"] = FileVariable(grid.dims, np.asarray(below(grid.paths), object))
    if PIECE in grid.dims:
        axis = grid.dims.index(PIECE)
        present = np.asarray(present.all(axis))
    dims = tuple(d for d in grid.dims if d != PIECE)
    coords["present"] = FileVariable(dims, present, {"long_name": "whether there is a file"})
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
