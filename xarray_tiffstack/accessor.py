"""What is done to an opened Dataset: ``ds.tiffstack``, and the door to cupy-xarray.

Imported with every engine that xarray looks up, so it imports nothing heavy itself.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import MethodType
from typing import TYPE_CHECKING, Any

import xarray as xr

from xarray_tiffstack.array.device import INSTALL

if TYPE_CHECKING:
    import pandas as pd

    from xarray_tiffstack.report import Report


class _ConvertMethod:
    """Function of `_convert` as a method on the Dataset, imported when it is asked for."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: TiffstackAccessor | None, owner: type) -> Any:
        if instance is None:
            return self
        function = getattr(import_module("xarray_tiffstack.ome_zarr.convert"), self.name)
        return MethodType(function, instance._dataset)


@xr.register_dataset_accessor("tiffstack")  # type: ignore[no-untyped-call]
class TiffstackAccessor:
    """What a Dataset from a folder of TIFFs knows of its files.

    Works on what ``xarray.open_dataset(..., engine="tiffstack")`` gives, after any selection,
    and on a Dataset read back from a store, as far as the coordinates ``path`` and ``present``
    are still there.
    """

    to_ome_zarr = _ConvertMethod()
    verify = _ConvertMethod()

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    @property
    def files(self) -> pd.DataFrame:
        """The file of every cell: one row a cell, indexed by the labels of the dimensions.

        Costs no IO. The column ``path`` holds absolute paths, None where there is no file. The
        tiles of a mosaic, and the parts of a volume, are listed along ``tile_z``, ``tile_y``
        and ``tile_x``.

        Raises
        ------
        ValueError
            The Dataset has no coordinate ``path``.

        Examples
        --------
        >>> import numpy as np, tifffile, xarray as xr
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> folder = TemporaryDirectory()
        >>> for t in (0, 2):
        ...     path = Path(folder.name, f"cell_t{t}.tif")
        ...     tifffile.imwrite(path, np.full((8, 8), t, "uint16"))
        >>> ds = xr.open_dataset(folder.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
        >>> files = ds.tiffstack.files
        >>> files.path.map(lambda path: Path(path).name)
        t
        0    cell_t0.tif
        2    cell_t2.tif
        Name: path, dtype: ...
        >>> folder.cleanup()
        """
        from xarray_tiffstack.report import file_table

        return file_table(self._dataset)

    def report(self) -> Report:
        """Say what was understood, and what is missing or was left out.

        Costs one ``stat`` of each file, to find those of another size; none is opened.

        Returns
        -------
        Report
            Prints as text, and as a table in a notebook; its fields are lists.

        Examples
        --------
        >>> import numpy as np, tifffile, xarray as xr
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> folder = TemporaryDirectory()
        >>> for t in (0, 1, 3):
        ...     path = Path(folder.name, f"cell_t{t}.tif")
        ...     tifffile.imwrite(path, np.full((8, 8), t, "uint16"))
        >>> ds = xr.open_dataset(folder.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
        >>> report = ds.tiffstack.report()
        >>> report.matched, report.missing, report.gaps
        (3, [], {'t': [2]})
        >>> folder.cleanup()
        """
        from xarray_tiffstack.report import make_report

        return make_report(self._dataset)


class _CupyDoor:
    """Makes the accessor of `array.cupy_accessor`, which is cupy-xarray's, when it is asked for.

    On the class it looks absent, so that cupy-xarray, imported sooner or later, puts its own in
    this place without a warning. It asks for ``as_cupy`` only after that: then this comes back.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: xr.DataArray | xr.Dataset | None, owner: type) -> Any:
        if instance is None:
            _open_door()
            raise AttributeError(f"{owner.__name__}.{self.name} is there on its instances")
        absent = [name for name in ("cupy", "cupy_xarray") if find_spec(name) is None]
        if absent:
            raise ImportError(f".{self.name} needs {' and '.join(absent)}: {INSTALL}")
        accessor = import_module("xarray_tiffstack.array.cupy_accessor").accessor_of(instance)
        return accessor if self.name == "cupy" else accessor.as_cupy


def _open_door() -> None:
    """Put the doors in their places."""
    for cls in (xr.DataArray, xr.Dataset):
        for name, door in _DOORS.items():
            if name == "cupy" or name not in vars(cls):
                setattr(cls, name, door)


_DOORS = {name: _CupyDoor(name) for name in ("cupy", "as_cupy")}
_open_door()
