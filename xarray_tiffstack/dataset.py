"""How a placed grid of files becomes an `xarray.Dataset`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from xarray_tiffstack import tiff
from xarray_tiffstack.array import expressions
from xarray_tiffstack.array.mosaic import stitch
from xarray_tiffstack.array.reads import FileGrid
from xarray_tiffstack.array.variable import FileVariable
from xarray_tiffstack.coordinates import Notes, labels_and_tokens, lasers, plate, positions
from xarray_tiffstack.grid.placing import Grid, make_grid
from xarray_tiffstack.grid.tiles import find_joins, tile_tokens
from xarray_tiffstack.messages import counted, first_lines, user_stacklevel
from xarray_tiffstack.source import below

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    import dask.array as da

    from xarray_tiffstack.array.mosaic import Join
    from xarray_tiffstack.headers import Headers
    from xarray_tiffstack.options import Options
    from xarray_tiffstack.table import FileTable
    from xarray_tiffstack.tiff import Layout


@dataclass(frozen=True, eq=False)
class Image:
    """The lazy array, and what its dimensions are."""

    array: da.Array
    outer: tuple[str, ...]
    """Dimensions of the grid of files."""
    inner: tuple[str, ...]
    """Dimensions of one file, or of the tiles put together."""
    lengths: dict[str, list[int]]
    """Pixels of each tile, along each axis on which tiles are put together."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the array."""
        return (*self.outer, *self.inner)

    @property
    def inner_sizes(self) -> dict[str, int]:
        """Length of each dimension of one file, or of the tiles put together."""
        return dict(zip(self.inner, self.array.shape[len(self.outer) :], strict=True))


def make_dataset(table: FileTable, headers: Headers, options: Options) -> xr.Dataset:
    """Make the Dataset of one sample: opens one file, or one of each tile of a mosaic."""
    convention = table.convention
    lattice = convention is not None and convention.settings
    settings = tiff.read_settings(table.source) if lattice else {}
    notes = Notes(dict(headers.unreadable), settings)
    pages = options.pages_of(convention)
    path, layout = _probe(table.rows["path"], pages, notes)
    layout = _with_z(headers.layout or layout, table.rows, notes)
    rows, tiles = tile_tokens(_without_clashes(table.rows, layout), options.mosaic)
    grid = make_grid(rows, convention, tiles=tiles.values(), duplicates=options.duplicates)
    grid = grid.without(headers.unreadable)
    _tell_differences(headers, grid, path, table.source, notes)
    if notes.unnamed or "channel" in {*grid.dims, *grid.coords}:
        layout = replace(layout, channels=())
    if options.missing == "raise":
        _refuse_holes(grid)
    _check_fill(options.fill_value, layout.dtype)
    joins = find_joins(grid.dims, tiles, options.overlap, layout.axes[0])

    def probe(paths: np.ndarray) -> Layout | None:
        found = paths[pd.notna(paths)]
        if not len(found):
            return None
        tile = replace(_with_z(_probe(found, pages, notes)[1], rows), channels=layout.channels)
        if tile.axes == layout.axes[1:]:  # one plane of several has no axis for them
            return replace(tile, axes=layout.axes, shape=(1, *tile.shape))
        return tile

    image = _lazy_image(grid, joins, layout, probe, headers, options.fill_value)
    names = dict(zip(layout.axes, image.inner, strict=True))
    joins = [replace(join, axis=names[join.axis]) for join in joins]
    _check_names((*image.dims, *grid.coords))
    coords = labels_and_tokens(grid, joins, image.lengths, table)
    coords |= positions(image.inner_sizes, path, layout.channels, options.voxel_size, notes)
    coords |= plate(coords.get("well"), (*image.dims, *coords))
    coords |= lasers(coords.get("wavelength"), notes.settings.get("channels", []))
    # Coordinates are promoted afterwards: given as such, xarray makes plain variables of them.
    return xr.Dataset(
        {"image": _variable(image, table, notes, options.device), **coords},
        attrs={"source": table.source, **_report_lists(table, headers, grid, notes, options.pages)},
    ).set_coords(list(coords))


def _tell_differences(headers: Headers, grid: Grid, path: str, root: str, notes: Notes) -> None:
    """Note what files say otherwise than the first one, whose scale is taken for all."""
    own = grid.paths[pd.notna(grid.paths)].tolist()
    found = headers.differences(own, path)
    if not found:
        return
    lines = [
        f"{below(root, each)}: {', '.join(f'{what} {how}' for what, how in said.items())}"
        for each, said in found.items()
    ]
    notes.disagreements += lines
    notes.unnamed = any("channels" in said for said in found.values())
    without = "; their channels are left without names" if notes.unnamed else ""
    warnings.warn(
        f"{len(lines)} of {counted(len(own), 'file')} say otherwise than {below(root, path)}, "
        f"whose scale is taken for all{without}:\n{first_lines(lines)}\n"
        "The report lists them too.",
        UserWarning,
        stacklevel=user_stacklevel(),
    )


def _variable(image: Image, table: FileTable, notes: Notes, device: str | None) -> FileVariable:
    """Make the variable of the pixels."""
    convention, settings = table.convention, notes.settings
    attrs = {
        "source": table.source,
        "pattern": table.pattern,
        "convention": convention.name if convention is not None else None,
        **{key: settings.get(key) for key in ("z_motion", "stage_step", "stage_angle")},
    }
    variable = FileVariable(image.dims, image.array, {k: v for k, v in attrs.items() if v})
    variable = variable.on(device)
    # Of the grid, and 1: any chunks= is then as good as any other, and xarray says nothing. Where
    # tiles are put together also their own: a chunk of all tiles would be too much.
    tiled = {axis: image.array.chunks[image.dims.index(axis)] for axis in image.lengths}
    variable.encoding["preferred_chunks"] = {**dict.fromkeys(image.outer, 1), **tiled}
    return variable


# --- what the report will say ---------------------------------------------------------------


def _report_lists(
    table: FileTable, headers: Headers, grid: Grid, notes: Notes, pages: str | None
) -> dict[str, str]:
    """Say what was left out or differs: lists as text, a line each, that every format can hold."""
    root = table.source
    stacks, found = notes.settings.get("stacks"), len(grid.labels.get("stack", ()))
    if stacks is not None and stacks > found:
        notes.disagreements.append(f"{stacks} stacks in Settings.txt, {found} in the names")
    own = set(table.rows["path"]) if headers.planes or headers.notes else set()
    notes.pages |= {path: found for path, found in headers.notes.items() if path in own}
    odd = [f"{below(root, path)}: {note}" for path, each in notes.pages.items() for note in each]
    if odd and pages is None:
        warnings.warn(
            f"pages of {counted(len(notes.pages), 'file')} are left out, or do not fit the "
            f"metadata:\n{first_lines(odd)}\nThe report lists them too. Name the pages with "
            "pages= to end this warning.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
    planes = {path: n for path, n in headers.planes.items() if path in own}
    lists: dict[str, Iterable[str]] = {
        "reasons": table.reasons,
        "unmatched": table.unmatched,
        "aside": [f"{path}: {why}" for path, why in table.aside.items()],
        "duplicates": [below(root, path) for path in grid.duplicates],
        "short": [f"{below(root, path)}: {counted(n, 'plane')}" for path, n in planes.items()],
        "disagreements": [*notes.disagreements, *odd],
        "unreadable": notes.unreadable.values(),
    }
    return {name: text for name, items in lists.items() if (text := "\n".join(items))}


def _refuse_holes(grid: Grid) -> None:
    """Refuse slots without a file."""
    holes = np.argwhere(~grid.present)
    if not len(holes):
        return
    slots = (
        ", ".join(
            f"{d}={labels[i]}" for (d, labels), i in zip(grid.labels.items(), at, strict=True)
        )
        for at in holes
    )
    raise ValueError(
        f"{len(holes)} of {counted(grid.paths.size, 'file')} missing:\n{first_lines(slots)}\n"
        'Open them filled with missing="fill", or drop these labels from the table of '
        "xarray_tiffstack.scan()."
    )


# --- pixels ---------------------------------------------------------------------------------


def _lazy_image(
    grid: Grid,
    joins: Sequence[Join],
    layout: Layout,
    probe: Callable[[np.ndarray], Layout | None],
    headers: Headers,
    fill_value: float,
) -> Image:
    """Build the lazy array over all files; of a mosaic, probe one file of each tile."""
    outer = tuple(d for d in grid.dims if d not in {join.token for join in joins})
    inner = _inner(layout.axes, {*outer, *grid.coords})
    if not joins:
        known = headers.planes
        planes = np.vectorize(known.get, [object])(grid.readable) if known else None
        planned = expressions.wanted()
        files = FileGrid(grid.readable, layout, fill_value, planes, expressions=planned)
        return Image(files.array(), outer, inner, {})

    order = [grid.dims.index(d) for d in (*outer, *(join.token for join in joins))]
    turned = tuple(len(outer) + i for i, join in enumerate(joins) if join.descending)
    paths = np.flip(grid.readable.transpose(order), turned)
    array, lengths = stitch(paths, joins, probe, fill_value)
    names = dict(zip(layout.axes, inner, strict=True))
    return Image(array, outer, inner, {names[axis]: along for axis, along in lengths.items()})


def _probe(paths: Iterable[str], pages: str | None, notes: Notes) -> tuple[str, Layout]:
    """Find the first file that can be read, and its layout."""
    errors: dict[str, str] = {}
    for path in paths:
        if path in notes.unreadable:
            continue
        try:
            layout = tiff.probe(path, pages=pages)
        except (OSError, ValueError) as error:
            errors[path] = str(error)
        else:
            notes.unreadable |= errors
            if layout.notes:
                notes.pages[path] = layout.notes
            return path, layout
    raise OSError(
        f"none of {counted(len(errors), 'file')} can be read:\n{first_lines(errors.values())}"
    )


def _with_z(layout: Layout, rows: pd.DataFrame, notes: Notes | None = None) -> Layout:
    """Take pages that nothing names for z, as they mostly are, and say so in the report."""
    if "page" not in layout.axes or {"z", "page"} & {*layout.axes, *rows} != {"page"}:
        return layout
    if layout.notes:  # of which the file says what is not so: no scale fits them either
        return layout
    if notes is not None:
        pages = layout.shape[layout.axes.index("page")]
        notes.disagreements.append(
            f"nothing says what the {pages} pages of a file are: taken for z; pages= names them"
        )
    return replace(layout, axes=tuple("z" if axis == "page" else axis for axis in layout.axes))


def _without_clashes(rows: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Rename tokens called like an axis of the files: x in a name says where the file lies."""
    spatial = [name for name in ("z", "y", "x") if name in layout.axes and name in rows]
    return rows.rename(columns={name: f"{name}_offset" for name in spatial})


def _inner(axes: tuple[str, ...], taken: Collection[str]) -> tuple[str, ...]:
    """Names for the dimensions of one file, where tokens have taken some already."""
    return tuple(f"{axis}_in_file" if axis in taken else axis for axis in axes)


def _check_fill(fill_value: float, dtype: np.dtype[Any]) -> None:
    """Refuse a fill value that the pixels cannot hold."""
    fits = isinstance(fill_value, Number)
    if fits:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            cast = np.asarray(fill_value).astype(dtype)
        fits = bool(cast == fill_value or (cast != cast and fill_value != fill_value))
    if not fits:
        raise ValueError(
            f"fill_value must be a value that {dtype} can hold, not {fill_value!r} (the pixels "
            "keep their dtype)"
        )


def _check_names(names: tuple[str, ...]) -> None:
    """Refuse tokens whose names this Dataset needs for something else."""
    taken = {n for n in names if n in {"image", "path", "present"} or names.count(n) > 1}
    if taken:
        raise ValueError(
            f"tokens cannot be called {' or '.join(sorted(taken))}: the Dataset needs that name "
            "for something else; give them other names in pattern="
        )
