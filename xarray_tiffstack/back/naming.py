"""Names for new files that say the labels of each, and can be read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.messages import counted, first_lines
from xarray_tiffstack.names.pattern import Pattern
from xarray_tiffstack.source import is_tiff

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import xarray as xr


class Names:
    """The name of the file of each slot.

    Parameters
    ----------
    pattern
        Template of the names.
    paths
        Name of the file of each slot, below a folder.
    """

    def __init__(self, pattern: str, paths: np.ndarray) -> None:
        self.pattern, self.paths = pattern, paths
        self.tokens = tuple(Pattern(pattern).tokens)

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], str]]:
        """Each slot and the name of its file."""
        return np.ndenumerate(self.paths)


def names_of(ds: xr.Dataset, dims: Sequence[str], pattern: str | None = None) -> Names:
    """Name the file of each position along some dimensions.

    Parameters
    ----------
    ds
        Whose labels they say.
    dims
        Dimensions along which there is a file at each position.
    pattern
        Template that says at least the labels of these dimensions; by default one is made.

    Raises
    ------
    ValueError
        A name would not give its labels back, or two files would have the same one.
    """
    labels = {dim: _labels(ds, dim) for dim in dims}
    template = pattern or _template(labels)
    made = Pattern(template)
    further = [token for token in made.tokens if token not in dims]
    if lacking := [dim for dim in dims if dim not in made.tokens]:
        raise ValueError(
            f"pattern={template!r} does not say {', '.join(lacking)}: put "
            f"{', '.join('{' + dim + '}' for dim in lacking)} into it"
        )
    if unknown := [token for token in further if token not in ds.coords]:
        raise ValueError(
            f"pattern={template!r} names {', '.join(unknown)}; the labels of a file are "
            f"{', '.join(map(str, ds.coords))}"
        )
    paths = np.empty([len(each) for each in labels.values()], object)
    wrong = []
    for at in np.ndindex(paths.shape):
        values = {dim: labels[dim][i] for dim, i in zip(dims, at, strict=True)}
        here = ds[further].isel(dict(zip(dims, at, strict=True)), missing_dims="ignore")
        try:
            values |= {token: _plain(here[token].values.item()) for token in further}
            paths[at] = made.compose(**values)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError(
            f"{counted(len(wrong), 'name')} cannot be written:\n{first_lines(wrong)}\n"
            "Pass another pattern=."
        )
    _check(template, paths)
    return Names(template, paths)


def _check(template: str, paths: np.ndarray) -> None:
    """Refuse names that are no names of TIFFs, and files of the same name."""
    folded: dict[str, list[str]] = {}
    for path in paths.flat:
        folded.setdefault(path.casefold(), []).append(path)
    same = [", ".join(each) for each in folded.values() if len(each) > 1]
    if same:
        raise ValueError(
            f"pattern={template!r} gives {counted(len(same), 'name')} to several files, as file "
            f"systems see it:\n{first_lines(same)}"
        )
    odd = [
        path
        for path in paths.flat
        if not is_tiff(path.rpartition("/")[2])
        or any(part in ("", ".", "..") or part.startswith(".") for part in path.split("/"))
    ]
    if odd:
        raise ValueError(
            f"pattern={template!r} gives {counted(len(odd), 'name')} that would not be read:\n"
            f"{first_lines(odd)}"
        )


def _labels(ds: xr.Dataset, dim: str) -> list[Any]:
    """Labels along a dimension; its positions where there are none."""
    if dim not in ds.coords or ds[dim].dims != (dim,):
        return list(range(ds.sizes[dim]))
    return [_plain(value) for value in ds[dim].values.tolist()]


def _plain(value: Any) -> Any:
    """Spell a label as a name can say it: a number, or text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return value


def _template(labels: dict[str, list[Any]]) -> str:
    """Make a template that says these labels; what may hold any text is a folder of its own."""
    folders, parts = [], []
    for dim, values in labels.items():
        if not dim.isidentifier():
            raise ValueError(f"the dimension {dim!r} cannot be a token of a name: rename it")
        if all(isinstance(value, int) for value in values):
            width = max(len(str(value)) for value in values) if min(values) >= 0 else 1
            parts.append(f"{dim}{{{dim}:{f'0{width}' if width > 1 else ''}d}}")
        elif all(isinstance(value, (int, float)) for value in values):
            parts.append(f"{dim}{{{dim}:f}}")
        elif all(value.isascii() and value.isalnum() for value in map(str, values)):
            parts.append(f"{dim}-{{{dim}:s}}")
        else:
            folders.append(f"{dim}-{{{dim}:s}}")
    return "/".join([*folders, "_".join(parts or ["image"]) + ".tif"])
