"""The entry point of `xarray.open_dataset(..., engine="tiffstack")`.

xarray loads this module whenever it looks for any engine, so it imports nothing heavy: tifffile,
dask, pandas and the rest come in when a folder is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from xarray.backends import BackendEntrypoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    import xarray as xr

    from xarray_tiffstack.names.conventions import Convention
    from xarray_tiffstack.names.pattern import Pattern
    from xarray_tiffstack.source import Source


class TiffstackBackendEntrypoint(BackendEntrypoint):
    """Open a folder of microscopy TIFFs, by the names of its files, as one labelled Dataset.

    Use it as ``xarray.open_dataset(source, engine="tiffstack")``.
    """

    description = "Open a folder of microscopy TIFFs by the names of its files"
    open_dataset_parameters = (
        "filename_or_obj",
        "pattern",
        "missing",
        "duplicates",
        "unmatched",
        "fill_value",
        "voxel_size",
        "mosaic",
        "overlap",
        "pages",
        "group",
        "validate",
        "device",
        "storage_options",
        "drop_variables",
    )
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Never claim a source unasked: a TIFF or a folder may be another reader's."""
        return False

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: Source | pd.DataFrame,
        *,
        pattern: str | Pattern | Convention | None = None,
        missing: Literal["fill", "raise"] = "fill",
        duplicates: Literal["raise", "first", "last", "position"] = "raise",
        unmatched: Literal["warn", "ignore", "raise"] = "warn",
        fill_value: float = 0,
        voxel_size: float | Sequence[float] | Mapping[str, float] | None = None,
        mosaic: bool | Mapping[str, str] | pd.DataFrame = False,
        overlap: float | Mapping[str, float] = 0,
        pages: str | None = None,
        group: str | None = None,
        validate: Literal["headers"] | None = None,
        device: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        drop_variables: str | Iterable[str] | None = None,
    ) -> xr.Dataset:
        """Open a source as one labelled, lazy, dask-backed Dataset.

        Costs one listing of the folders, one ``stat`` of each file, and the opening of one file;
        pixels are read when they are asked for, and only as far as they are asked for.

        Parameters
        ----------
        filename_or_obj : str, path, iterable of paths, or pandas.DataFrame
            A folder (with its subfolders), a glob, paths of files, or a file table from
            `xarray_tiffstack.scan`. Each may be at a URL: ``s3://``, ``gs://``, ``az://``,
            ``https://``, ``file://``.
        pattern : str, Pattern or Convention, optional
            How names are read: a template (``"img_t{t:d}_c{c:d}.tif"``), a regular expression
            with named groups, or the name of a convention. By default the convention is
            recognised from the names.
        missing : {"fill", "raise"}
            What to do where a combination of labels has no file: fill its pixels with
            `fill_value` and set ``present`` to False there, or refuse.
        duplicates : {"raise", "first", "last", "position"}
            What to do where two files have the same labels: refuse; keep the first or the last in
            the order of their paths; or take them for positions that the names do not show,
            numbered along a dimension ``position`` in the order of their clocks.
        unmatched : {"warn", "ignore", "raise"}
            What to do about TIFFs whose names do not fit the pattern. They are listed in
            ``ds.tiffstack.report()`` in any case.
        fill_value : number
            Pixel value where there is no file.
        voxel_size : number, sequence or mapping, optional
            Distance of neighbouring voxels in micrometers, for the coordinates ``z``, ``y`` and
            ``x``: one number for all, (z, y, x), or ``{"z": 0.5, "y": 0.1, "x": 0.1}``.
        mosaic : bool, mapping or pandas.DataFrame
            Put tiles together along x, y and z instead of keeping them as dimensions. True finds
            the tokens that count them (``x_offset``, ``y_offset``, ``z_offset``, or ``col`` and
            ``row``); a mapping names them, ``{"x": "col", "y": "-row"}``, with "-" where counts
            run against the axis; a table gives tile indices or stage coordinates in columns
            ``x``, ``y``, ``z`` for the values of a token, such as ``position``. One file of each
            tile is opened.
        overlap : number or mapping
            What neighbouring tiles share, in pixels, or below 1 as a fraction of a tile; half of
            it is trimmed from either. A mapping gives it by axis, ``{"x": 100, "y": 0.1}``.
        pages : str, optional
            What the pages of a file are where it does not say, such as ``"time"``; by default
            what the convention says, else ``"z"``.
        group : str, optional
            Which sample to open, where names or folders give several.
        validate : {None, "headers"}
            Read the header of every file, in parallel, before any pixel is asked for: files that
            cannot be read count as missing, those with fewer planes are filled up, those of
            another shape or dtype are a sample of their own, and it is told which files name
            other channels or have another scale than the first. By default one header is read,
            and a file that differs, or names its channels otherwise, is an error when it is read.
        device : str, optional
            Where pixels are read to: the host, or ``"cuda"`` (``"cuda:1"``), a graphics card;
            blocks are then cupy arrays. Labels stay on the host.
        storage_options : mapping, optional
            How a URL is reached, as s3fs, gcsfs and adlfs spell it (``{"anon": True}``,
            ``{"key": ..., "secret": ..., "endpoint_url": ...}``), or as obstore does. By default
            what the environment says, such as ``AWS_ACCESS_KEY_ID``.
        drop_variables : str or iterable of str, optional
            Variables to leave out.

        Returns
        -------
        xarray.Dataset
            With the variable ``image``: one dimension for each token that makes files differ,
            then those of one file (``z``, ``y``, ``x``).

        Raises
        ------
        FileNotFoundError
            The source is absent or holds no TIFF, or a list or table names files that do not
            exist.
        OSError
            No file of it can be read.
        ValueError
            A keyword has no such value, no name fits the pattern, or files cannot be placed
            without guessing.
        ImportError, RuntimeError
            A `device` was asked for, and cupy or the card is missing; or a URL, and obstore is.

        Examples
        --------
        >>> import numpy as np, tifffile, xarray as xr
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> folder = TemporaryDirectory()
        >>> for t in range(12):
        ...     path = Path(folder.name, f"cell_t{t}.tif")
        ...     tifffile.imwrite(path, np.full((8, 8), t, "uint16"))
        >>> ds = xr.open_dataset(folder.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
        >>> ds.image.sizes
        Frozen({'t': 12, 'y': 8, 'x': 8})
        >>> int(ds.image.sel(t=10).max())
        10
        >>> folder.cleanup()
        """
        from xarray_tiffstack.open import open_one
        from xarray_tiffstack.options import Options

        options = Options(
            pattern=pattern,
            missing=missing,
            duplicates=duplicates,
            unmatched=unmatched,
            fill_value=fill_value,
            voxel_size=voxel_size,
            mosaic=mosaic,
            overlap=overlap,
            pages=pages,
            validate=validate,
            device=device,
            storage_options=storage_options,
        )
        return _dropped(open_one(filename_or_obj, options, group), drop_variables)

    def open_groups_as_dict(  # type: ignore[override]
        self,
        filename_or_obj: Source | pd.DataFrame,
        *,
        pattern: str | Pattern | Convention | None = None,
        missing: Literal["fill", "raise"] = "fill",
        duplicates: Literal["raise", "first", "last", "position"] = "raise",
        unmatched: Literal["warn", "ignore", "raise"] = "warn",
        fill_value: float = 0,
        voxel_size: float | Sequence[float] | Mapping[str, float] | None = None,
        mosaic: bool | Mapping[str, str] | pd.DataFrame = False,
        overlap: float | Mapping[str, float] = 0,
        pages: str | None = None,
        validate: Literal["headers"] | None = None,
        device: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        drop_variables: str | Iterable[str] | None = None,
    ) -> dict[str, xr.Dataset]:
        """Open every sample of a source: `xarray.open_groups`.

        The keywords are those of `open_dataset`, without ``group``; the samples are the keys.
        """
        from xarray_tiffstack.open import open_all
        from xarray_tiffstack.options import Options

        options = Options(
            pattern=pattern,
            missing=missing,
            duplicates=duplicates,
            unmatched=unmatched,
            fill_value=fill_value,
            voxel_size=voxel_size,
            mosaic=mosaic,
            overlap=overlap,
            pages=pages,
            validate=validate,
            device=device,
            storage_options=storage_options,
        )
        samples = open_all(filename_or_obj, options)
        return {f"/{name}": _dropped(ds, drop_variables) for name, ds in samples.items()}

    def open_datatree(  # type: ignore[override]
        self,
        filename_or_obj: Source | pd.DataFrame,
        *,
        pattern: str | Pattern | Convention | None = None,
        missing: Literal["fill", "raise"] = "fill",
        duplicates: Literal["raise", "first", "last", "position"] = "raise",
        unmatched: Literal["warn", "ignore", "raise"] = "warn",
        fill_value: float = 0,
        voxel_size: float | Sequence[float] | Mapping[str, float] | None = None,
        mosaic: bool | Mapping[str, str] | pd.DataFrame = False,
        overlap: float | Mapping[str, float] = 0,
        pages: str | None = None,
        validate: Literal["headers"] | None = None,
        device: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        drop_variables: str | Iterable[str] | None = None,
    ) -> xr.DataTree:
        """Open every sample of a source as a node of its own: `xarray.open_datatree`.

        The keywords are those of `open_dataset`, without ``group``; nodes are named by what
        differs between the samples.
        """
        from xarray import DataTree

        samples = self.open_groups_as_dict(
            filename_or_obj,
            pattern=pattern,
            missing=missing,
            duplicates=duplicates,
            unmatched=unmatched,
            fill_value=fill_value,
            voxel_size=voxel_size,
            mosaic=mosaic,
            overlap=overlap,
            pages=pages,
            validate=validate,
            device=device,
            storage_options=storage_options,
            drop_variables=drop_variables,
        )
        return DataTree.from_dict(samples)


def _dropped(ds: xr.Dataset, names: str | Iterable[str] | None) -> xr.Dataset:
    """Leave variables out."""
    return ds if names is None else ds.drop_vars(names, errors="ignore")
