"""How a placed grid of files becomes an `xarray.Dataset`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Number, Real
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from xarray_tiffstack.array.mosaic import Join, find_joins, stitch, tile_tokens
from xarray_tiffstack.array.reads import FileGrid
from xarray_tiffstack.array.variable import FileVariable, TokenVariable
from xarray_tiffstack.grid import Grid, make_grid
from xarray_tiffstack.messages import first_lines
from xarray_tiffstack.names.vocabulary import VOCABULARY
from xarray_tiffstack.source import common_folder
from xarray_tiffstack.tiff import reading as _tiff
from xarray_tiffstack.tiff.lattice_settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import dask.array as da

    from xarray_tiffstack.names.conventions import Convention
    from xarray_tiffstack.open import Options
    from xarray_tiffstack.tiff.reading import Layout


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

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the array."""
        return (*self.outer, *self.inner)


def make_dataset(
    table: pd.DataFrame, convention: Convention | None, options: Options
) -> xr.Dataset:
    """Make the Dataset of one sample: opens one file, or one of each tile of a mosaic."""
    notes = _Notes(table, convention)
    pages = options.pages_of(convention)
    path, layout = _probe(table["path"], pages, notes)
    layout = table.attrs.get("whole", layout)
    table, tiles = tile_tokens(_without_clashes(table, layout), options.mosaic)
    grid = make_grid(table, convention, tiles=tiles.values(), duplicates=options.duplicates)
    broken = list(table.attrs.get("unreadable", ()))  # where every header was read
    grid.paths[np.isin(grid.paths, broken)] = None
    if options.missing == "raise":
        _refuse_holes(grid)
    _check_fill(options.fill_value, layout.dtype)
    joins = find_joins(grid, tiles, options.overlap)
    image = _lazy_image(grid, joins, layout, pages, notes, options.fill_value)
    _check_names((*image.dims, *grid.coords))
    coords = _coordinates(grid, joins, image, convention, table.attrs.get("units", {}))
    coords |= _scales(image, path, options.voxel_size, notes)
    coords |= _lasers(coords.get("wavelength"), notes.settings.get("channels", []))
    notes.compare(grid)
    attrs = {
        "source": notes.root,
        "pattern": table.attrs.get("pattern"),
        "convention": convention.name if convention is not None else None,
        **{key: notes.settings.get(key) for key in ("z_motion", "stage_step", "stage_angle")},
    }
    variable = FileVariable(image.dims, image.array, {k: v for k, v in attrs.items() if v})
    variable = variable.on(options.device)
    # Of the grid, and 1: any chunks= is then as good as any other, and xarray says nothing. Where
    # tiles are put together also their own: a chunk of all tiles would be too much.
    tiled = {axis: image.array.chunks[image.dims.index(axis)] for axis in image.lengths}
    variable.encoding["preferred_chunks"] = {**dict.fromkeys(image.outer, 1), **tiled}
    # Coordinates are promoted afterwards: given as such, xarray makes plain variables of them.
    return xr.Dataset(
        {"image": variable, **coords}, attrs={"source": notes.root, **notes.lists()}
    ).set_coords(list(coords))


# --- what the report will say ---------------------------------------------------------------


class _Notes:
    """What was noticed on the way, as lists of text that a Dataset's attributes can hold."""

    def __init__(self, table: pd.DataFrame, convention: Convention | None) -> None:
        known = table.attrs
        self.root: str = known.get("source") or common_folder(table["path"].tolist())
        lattice = convention is not None and convention.settings
        self.settings: dict[str, Any] = read_settings(self.root) if lattice else {}
        own = set(table["path"]) if "planes" in known else set()  # of all samples' headers
        self.planes: dict[str, int] = {p: n for p, n in known.get("planes", {}).items() if p in own}
        self.reasons: list[str] = list(known.get("reasons", []))
        self.unmatched: list[str] = list(known.get("unmatched", []))
        self.aside = [f"{path}: {why}" for path, why in known.get("aside", {}).items()]
        self.unreadable: dict[str, str] = dict(known.get("unreadable", {}))
        self.duplicates: list[str] = []
        self.short: list[str] = []
        self.disagreements: list[str] = []

    def lists(self) -> dict[str, list[str]]:
        """Those that are not empty."""
        names = ("reasons", "unmatched", "aside", "duplicates", "short", "disagreements")
        lists = {name: getattr(self, name) for name in names}
        lists["unreadable"] = list(self.unreadable.values())
        return {name: found for name, found in lists.items() if found}

    def compare(self, grid: Grid) -> None:
        """Note what the grid left out, and where it differs from what was to be recorded."""
        self.duplicates += [below(self.root, path) for path in grid.duplicates]
        self.short += [f"{below(self.root, path)}: {n} planes" for path, n in self.planes.items()]
        if self.settings:
            stacks = self.settings.get("stacks")
            found = len(grid.labels.get("stack", ()))
            if stacks is not None and stacks > found:
                self.disagreements.append(f"{stacks} stacks in Settings.txt, {found} in the names")


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
    grid: Grid,
    joins: Sequence[Join],
    layout: Layout,
    pages: str,
    notes: _Notes,
    fill_value: float,
) -> _Image:
    """Build the lazy array over all files; of a mosaic, probe one file of each tile."""
    outer = tuple(d for d in grid.dims if d not in {join.token for join in joins})
    inner = _inner(layout.axes, {*outer, *grid.coords})
    if not joins:
        planes = np.vectorize(notes.planes.get, [object])(grid.paths) if notes.planes else None
        files = FileGrid(grid.paths, layout, fill_value, planes)
        return _Image(files.array(), outer, inner, {})

    def probe(paths: np.ndarray) -> Layout | None:
        found = paths[pd.notna(paths)]
        return _probe(found, pages, notes)[1] if len(found) else None

    order = [grid.dims.index(d) for d in (*outer, *(join.token for join in joins))]
    turned = tuple(len(outer) + i for i, join in enumerate(joins) if join.descending)
    paths = np.flip(grid.paths.transpose(order), turned)
    array, lengths = stitch(paths, joins, probe, fill_value)
    return _Image(array, outer, inner, lengths)


def _probe(paths: Iterable[str], pages: str, notes: _Notes) -> tuple[str, Layout]:
    """Find the first file that can be read, and its layout."""
    errors: dict[str, str] = {}
    for path in paths:
        if path in notes.unreadable:
            continue
        try:
            layout = _tiff.probe(path, pages=pages)
        except (OSError, ValueError) as error:
            errors[path] = str(error)
        else:
            notes.unreadable |= errors
            return path, layout
    raise OSError(f"none of {len(errors)} files can be read:\n{first_lines(errors.values())}")


def _without_clashes(table: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Rename tokens called like an axis of the files: x in a name says where the file lies."""
    spatial = [name for name in ("z", "y", "x") if name in layout.axes and name in table]
    return table.rename(columns={name: f"{name}_offset" for name in spatial})


def _inner(axes: tuple[str, ...], taken: Collection[str]) -> tuple[str, ...]:
    """Names for the dimensions of one file, where tokens have taken some already."""
    return tuple(f"{axis}_in_file" if axis in taken else axis for axis in axes)


def _voxel_size(
    given: float | Sequence[float] | Mapping[str, float] | None,
) -> dict[str, float]:
    """Normalize the keyword to micrometers by axis."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        sizes = dict(given)
    elif isinstance(given, Real):
        sizes = dict.fromkeys("zyx", float(given))
    elif not isinstance(given, str) and np.shape(given) == (3,):
        sizes = dict(zip("zyx", np.asarray(given).tolist(), strict=True))
    else:
        raise ValueError(
            f"voxel_size={given!r} is neither a number, nor (z, y, x), nor a mapping such as "
            '{"z": 0.5, "y": 0.1, "x": 0.1}, in micrometers'
        )
    bad = {k: v for k, v in sizes.items() if k not in {"z", "y", "x"} or not float(v) > 0}
    if bad:
        raise ValueError(f"voxel_size takes positive micrometers for z, y and x, not {bad}")
    return {axis: float(size) for axis, size in sizes.items()}


def _check_fill(fill_value: float, dtype: np.dtype[Any]) -> None:
    """Refuse a fill value that the pixels cannot hold."""
    fits = isinstance(fill_value, Number)
    if fits:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            cast = np.asarray(fill_value).astype(dtype)
        fits = bool(cast == fill_value or (cast != cast and fill_value != fill_value))
    if not fits:
        raise ValueError(f"fill_value={fill_value!r} is no {dtype} (the pixels keep their dtype)")


# --- coordinates ----------------------------------------------------------------------------


def _coordinates(
    grid: Grid,
    joins: Sequence[Join],
    image: _Image,
    convention: Convention | None,
    beside: Mapping[str, str],
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
        return TokenVariable(dims, turned, _units(name, values, grid, convention, beside))

    coords: dict[str, xr.Variable] = {}
    for name, labels in grid.labels.items():
        label = variable(name, (name,), labels)
        if name in joined:
            axis = joined[name].axis
            coords[name] = TokenVariable(axis, label.values.repeat(image.lengths[axis]))
        coords[joined[name].dim if name in joined else name] = label
    for name, (dims, values) in grid.coords.items():
        coords[name] = variable(name, dims, values)
    # Absolute: a Dataset may lose its attributes, or be joined with one of another folder.
    coords["path"] = variable("path", grid.dims, np.where(grid.present, grid.paths, ""))
    coords["present"] = variable("present", grid.dims, grid.present)
    coords["present"].attrs["long_name"] = "whether there is a file"
    return coords


def _scales(
    image: _Image,
    path: str,
    given: float | Sequence[float] | Mapping[str, float] | None,
    notes: _Notes,
) -> dict[str, xr.Variable]:
    """Coordinates along the axes of a file, from what the user, the program or the file says."""
    wanted = _voxel_size(given)
    absent = [axis for axis in wanted if axis not in image.inner]
    if absent and isinstance(given, Mapping):
        raise ValueError(f"voxel_size names {', '.join(absent)}; the files have {image.inner}")
    said = _tiff.metadata(path)
    in_settings = notes.settings.get("voxel_size", {})
    sizes = {**said.voxel_size, **in_settings}
    sources = {**said.source, **dict.fromkeys(in_settings, "Settings.txt")}
    for axis, size in wanted.items():
        if axis in sizes and abs(sizes[axis] - size) > 0.01 * size:
            notes.disagreements.append(
                f"voxel_size {axis}: {size} given, {sizes[axis]:.6g} in {sources[axis]}"
            )
    sizes |= wanted
    sources |= dict.fromkeys(wanted, "voxel_size=")
    coords: dict[str, xr.Variable] = {}
    for axis, length in zip(image.inner, image.array.shape[len(image.outer) :], strict=True):
        if axis in sizes:
            attrs = {"units": "micrometer", "voxel_size_from": sources[axis]}
            coords[axis] = TokenVariable(axis, np.arange(length) * sizes[axis], attrs)
        elif axis == "channel" and len(said.channels) == length == len(set(said.channels)):
            coords[axis] = TokenVariable(axis, np.array(said.channels, object))
        elif axis == "time" and said.time_interval:
            times = np.arange(length) * said.time_interval
            coords[axis] = TokenVariable(axis, times, {"units": "millisecond"})
    return coords


def _lasers(
    wavelength: xr.Variable | None, channels: Sequence[Mapping[str, Any]]
) -> dict[str, xr.Variable]:
    """Coordinates beside the wavelength: how each laser was set, where Settings tell it of all."""
    lasers = {channel.get("wavelength"): channel for channel in channels}
    shown = [] if wavelength is None else wavelength.values.ravel().tolist()
    if wavelength is None or len(lasers) < len(channels) or not lasers.keys() >= {*shown}:
        return {}
    coords: dict[str, xr.Variable] = {}
    for name, key, attrs in (
        ("exposure", "exposure", {"units": "millisecond"}),
        ("laser_power", "power", {"units": "percent"}),
        ("excitation_filter", "filter", {}),
    ):
        values = [lasers[each].get(key) for each in shown]
        if None not in values:
            kind = object if isinstance(values[0], str) else float
            laid_out = np.array(values, kind).reshape(wavelength.shape)
            coords[name] = TokenVariable(wavelength.dims, laid_out, attrs)
    return coords


def below(root: str, path: str) -> str:
    """Path relative to the source, with "/"."""
    path = path.removeprefix(root).removeprefix(os.sep)
    return path if os.sep == "/" else PurePath(path).as_posix()


def _units(
    name: str,
    values: np.ndarray,
    grid: Grid,
    convention: Convention | None,
    beside: Mapping[str, str],
) -> dict[str, str]:
    """Attributes of a coordinate: its unit where it has one."""
    if values.dtype.kind not in "iuf":
        return {}
    if name == "channel":  # labelled by a wavelength
        _, wavelength = grid.coords.get("wavelength", ((), np.array(None)))
        name = "wavelength" if np.array_equal(np.atleast_1d(wavelength), values) else name
    token = (convention.tokens if convention is not None else {}).get(name) or VOCABULARY.get(name)
    unit = (token.units if token is not None else None) or beside.get(name)
    return {"units": unit} if unit else {}


def _check_names(names: tuple[str, ...]) -> None:
    """Refuse tokens whose names this Dataset needs for something else."""
    taken = {n for n in names if n in {"image", "path", "present"} or names.count(n) > 1}
    if taken:
        raise ValueError(
            f"tokens cannot be called {' or '.join(sorted(taken))}, which stands for something "
            "else in the Dataset; name them otherwise in pattern="
        )
