"""What is done to opened data: ``ds.tiffstack``, and ``.cupy`` where cupy-xarray is missing.

Imported with every engine that xarray looks up, so it imports nothing heavy itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from xarray_tiffstack.array import device

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    from zarr.abc.store import Store

    from xarray_tiffstack.look.preview import Preview
    from xarray_tiffstack.look.report import Report
    from xarray_tiffstack.look.view import View
    from xarray_tiffstack.ome_zarr import Summary, VerifyResult


class TiffstackAccessor:
    """What a Dataset or DataArray from a folder of TIFFs knows of its files, and how it is saved.

    Works on what ``xarray.open_dataset(..., engine="tiffstack")`` gives, after any selection,
    and on data read back from a store, as far as the coordinates ``path`` and ``present`` are
    still there.
    """

    def __init__(self, data: xr.Dataset | xr.DataArray) -> None:
        """Keep the data; a DataArray is taken for the variable ``image`` of a Dataset."""
        if isinstance(data, xr.DataArray):
            data = data.to_dataset(name="image")
        self._dataset = data

    @property
    def files(self) -> pd.DataFrame:
        """The file of every slot: one row a slot, indexed by the labels of the dimensions.

        Costs no IO. The column ``path`` holds absolute paths, None where there is no file. The
        tiles of a mosaic, and the parts of a volume, are listed along ``tile_z``, ``tile_y``
        and ``tile_x``.

        Raises
        ------
        ValueError
            There is no coordinate ``path``.

        Examples
        --------
        >>> import numpy as np, tifffile, xarray as xr
        >>> from tempfile import TemporaryDirectory
        >>> folder = TemporaryDirectory()
        >>> for t in (0, 2):
        ...     tifffile.imwrite(f"{folder.name}/cell_t{t}.tif", np.full((8, 8), t, "uint16"))
        >>> ds = xr.open_dataset(folder.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
        >>> ds.tiffstack.files.index.tolist()
        [0, 2]
        >>> folder.cleanup()
        """
        from xarray_tiffstack.look.report import file_table

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
        >>> from tempfile import TemporaryDirectory
        >>> folder = TemporaryDirectory()
        >>> for t in (0, 1, 3):
        ...     tifffile.imwrite(f"{folder.name}/cell_t{t}.tif", np.full((8, 8), t, "uint16"))
        >>> ds = xr.open_dataset(folder.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
        >>> report = ds.tiffstack.report()
        >>> report.matched, report.missing, report.gaps
        (3, [], {'t': [2]})
        >>> folder.cleanup()
        """
        from xarray_tiffstack.look.report import make_report

        return make_report(self._dataset)

    def preview(
        self,
        *,
        plane: int | Literal["middle", "max"] = "middle",
        along: str | None = None,
        count: int | None = None,
        contrast: tuple[float, float] | Literal["auto", "each"] = "auto",
    ) -> Preview:
        """Show on one page whether the acquisition is all right.

        The page has what is not like the others, planes of each channel, a map of the files, and
        the brightness. Costs one ``stat`` of each file, and the reading of the planes that are
        shown; a file that cannot be read costs its own picture alone.

        Parameters
        ----------
        plane : int, "middle" or "max"
            Which plane along z; "max" reads all planes and takes the maximum.
        along : str, optional
            Dimension of the columns; by default the longest, and wells lie as on their plate.
        count : int, optional
            Planes of each channel, spread along that dimension; 8 by default.
        contrast : (float, float), "auto" or "each"
            What is black and what has full colour: two gray values, the same for all planes of a
            channel, or for each plane its own.

        Returns
        -------
        Preview
            Shows itself in a notebook; ``save("page.html")`` writes a page without any script,
            which loads nothing from elsewhere; ``save("page.png")`` needs matplotlib.

        Raises
        ------
        ValueError
            There is no such plane or dimension.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xarray_tiffstack
        >>> ds = xr.Dataset({"image": (("t", "y", "x"), np.zeros((3, 8, 8), "uint8"))})
        >>> ds.tiffstack.preview().verdict
        ['Look at: planes of one value (3).']
        """
        from xarray_tiffstack.look.preview import preview

        return preview(self._dataset, plane=plane, along=along, count=count, contrast=contrast)

    def view(
        self,
        layout: Literal["xy", "4panel", "3d"] = "xy",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        direction: Literal[1, -1] | None = None,
        browser: bool = True,
    ) -> View:
        """Look at the pixels in neuroglancer, in a browser; nothing is converted.

        Each channel is a layer in its colour; stripes are where a file is missing.

        Parameters
        ----------
        layout : {"xy", "4panel", "3d"}
            Planes, planes from three sides, or the volume rendered.
        host, port : str, int
            Where to listen; by default at a free port that only this computer reaches.
        direction : {1, -1}, optional
            Show a skewed volume upright: which way the stage moved, as in `affine`.
        browser : bool
            Whether to open a browser, where there is one.

        Returns
        -------
        View
            Has the address in ``url``, shows itself in a notebook, and ends with ``close()``.

        Raises
        ------
        ImportError
            neuroglancer is missing: ``pip install "xarray-tiffstack[view]"``.
        """
        from xarray_tiffstack.look.commands import open_in_browser
        from xarray_tiffstack.look.view import View

        view = View(self._dataset, layout, host=host, port=port, direction=direction)
        if browser:
            open_in_browser(view.url)
        return view

    def affine(self, *, direction: Literal[1, -1] = 1) -> np.ndarray:
        """Give the matrix that sets a skewed volume upright, as of a lattice light-sheet.

        A stage that moves through a tilted light sheet skews volumes. Viewers show them upright by
        this matrix. Needs ``ds.image.attrs["stage_angle"]``, which is read in ``Settings.txt``.

        Parameters
        ----------
        direction : {1, -1}
            Which way the stage moved. No file says it: if it gets more skewed, take the other.

        Returns
        -------
        numpy.ndarray
            4 x 4, for column vectors (z, y, x, 1) in micrometers. Upright, x is the way of the
            stage and z the height above the cover slip.

        Raises
        ------
        ValueError
            Nothing says at which angle the stage moved.
        """
        from xarray_tiffstack.look.skew import affine

        return affine(self._dataset, direction)

    def to_ome_zarr(
        self,
        store: str | os.PathLike[str] | Store,
        *,
        levels: int | Literal["auto"] = "auto",
        chunks: Mapping[str, int] | Literal["auto"] = "auto",
        shards: Mapping[str, int] | Literal["auto"] | None = None,
        compressors: Any = "auto",
        ngff_version: Literal["0.5", "0.4"] = "0.5",
        voxel_size: Mapping[str, float] | None = None,
        method: Literal["mean", "nearest", "mode"] = "mean",
        workers: int | None = None,
        overwrite: bool = False,
        verify: bool = False,
        strict: bool = False,
        progress: bool | Literal["auto"] = "auto",
    ) -> Summary:
        """Write OME-Zarr that viewers open, and that xarray opens with every label.

        ``xr.open_datatree(store, engine="zarr")["0"]`` is the Dataset again, its dimensions in
        the order of OME-NGFF: time, channel, space. Further dimensions have one image for each
        label, in numbered groups, or in the wells of a plate. Each file is read once; its coarser
        levels are made from the pixels in memory. After an interruption the same call resumes
        from the finished blocks, writes those again that `verify` found damaged, and ends with
        the same store.

        Parameters
        ----------
        store : str, path or zarr store
            Where to write; never inside the folder of the source, nor around it.
        levels : int or "auto"
            Resolution levels; 1 is full resolution alone. Each halves y and x, and z where that
            brings the voxel closer to a cube, by the mean of pairs of pixels. By default until a
            plane is at most 256 pixels wide.
        chunks : mapping or "auto"
            Chunk length along dimensions, in pixels; those not named keep the default, about 64
            planes of 256 x 256, and 1 along time and channel.
        shards : mapping, "auto" or None
            Shard length along dimensions, multiples of the chunks'; "auto" puts the chunks of one
            volume in one file; None writes every chunk as its own file.
        compressors : Zarr codecs, "auto" or None
            As in `zarr.create_array`; by default Blosc with LZ4 and bitshuffle, None for raw
            pixels.
        ngff_version : {"0.5", "0.4"}
            0.5 is Zarr 3; 0.4 is Zarr 2, for older viewers.
        voxel_size : mapping, optional
            Micrometers by axis, such as ``{"z": 0.5, "y": 0.1, "x": 0.1}``; by default what the
            coordinates say.
        method : {"mean", "nearest", "mode"}
            How coarser levels are made: the mean of pairs of pixels; of label images the first
            pixel of each pair, or the most frequent label, so that no label is made up.
        workers : int, optional
            Threads; by default one a processor. Each holds a slab of a file as deep as a chunk,
            and its coarser levels, in memory.
        overwrite : bool
            Replace a store that is complete, or that another source or other settings made. A
            store that this very call began is resumed all the same.
        verify : bool
            Read the store back and compare every pixel's checksum with that of what was written.
        strict : bool
            Stop at the first file that cannot be read. By default its slot is filled with zeros,
            ``present`` is False there, and the conversion continues.
        progress : bool or "auto"
            Show progress on standard error; "auto" does on a terminal and in a notebook.

        Returns
        -------
        Summary
            What was written, and which files failed.

        Raises
        ------
        FileExistsError
            The store exists and was made otherwise; ``overwrite=True`` replaces it.
        BlockingIOError
            Another conversion writes to this store.
        ValueError
            Options that do not fit the data, or files that changed since their block was written.
        OSError
            The store cannot be written (full disk, no permission), or with ``strict`` a file
            cannot be read. Finished blocks stay, and the same call resumes.

        Examples
        --------
        >>> import numpy as np, tifffile, xarray as xr
        >>> from tempfile import TemporaryDirectory
        >>> raw, saved = TemporaryDirectory(), TemporaryDirectory()
        >>> for t in (0, 1):
        ...     tifffile.imwrite(f"{raw.name}/cell_t{t}.tif", np.full((8, 8), t, "uint16"))
        >>> ds = xr.open_dataset(raw.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
        >>> store = f"{saved.name}/cell.ome.zarr"
        >>> ds.tiffstack.to_ome_zarr(store, verify=True).verified.ok
        True
        >>> xr.open_datatree(store, engine="zarr")["0"].image.sel(t=1).values.max()
        np.uint16(1)
        >>> raw.cleanup(), saved.cleanup()
        (None, None)
        """
        from xarray_tiffstack.array.variable import on_host
        from xarray_tiffstack.ome_zarr.convert import to_ome_zarr

        return to_ome_zarr(
            on_host(self._dataset),
            store,
            levels=levels,
            chunks=chunks,
            shards=shards,
            compressors=compressors,
            ngff_version=ngff_version,
            voxel_size=voxel_size,
            method=method,
            workers=workers,
            overwrite=overwrite,
            verify=verify,
            strict=strict,
            progress=progress,
        )

    def verify(
        self,
        store: str | os.PathLike[str] | Store,
        *,
        workers: int | None = None,
        progress: bool | Literal["auto"] = "auto",
    ) -> VerifyResult:
        """Compare every pixel of a store with its source, by the checksums kept while writing.

        Reads all of the source and all of the store. Where pixels are those of complete files, the
        pages of each file are also counted by tifffile alone, and two of them, drawn at random, are
        read that way and compared with what is stored. The result is kept in the attribute
        ``tiffstack`` of the store; `to_ome_zarr` then writes the blocks that differ again.

        Parameters
        ----------
        store : str, path or zarr store
            What `to_ome_zarr` wrote of these data, complete.
        workers : int, optional
            Threads; by default one a processor.
        progress : bool or "auto"
            As for `to_ome_zarr`.

        Returns
        -------
        VerifyResult
            Every chunk that differs, and the files that it comes from.

        Raises
        ------
        ValueError
            The store is not complete, or not of this source.
        FileNotFoundError
            There is no such store.

        Examples
        --------
        >>> import numpy as np, tifffile, xarray as xr
        >>> from tempfile import TemporaryDirectory
        >>> raw, saved = TemporaryDirectory(), TemporaryDirectory()
        >>> tifffile.imwrite(f"{raw.name}/cell_t0.tif", np.ones((8, 8), "uint16"))
        >>> ds = xr.open_dataset(raw.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
        >>> summary = ds.tiffstack.to_ome_zarr(f"{saved.name}/cell.ome.zarr")
        >>> ds.tiffstack.verify(f"{saved.name}/cell.ome.zarr").ok
        True
        >>> raw.cleanup(), saved.cleanup()
        (None, None)
        """
        from xarray_tiffstack.array.second_reading import second_reading
        from xarray_tiffstack.array.variable import on_host
        from xarray_tiffstack.ome_zarr.convert import verify

        ds = on_host(self._dataset)
        recheck = second_reading(ds)
        return verify(ds, store, workers=workers, progress=progress, recheck=recheck)


class MissingCupyAccessor:
    """Says what to install: ``.cupy`` is the accessor of cupy-xarray, which is not here."""

    def __init__(self, data: xr.Dataset | xr.DataArray) -> None:
        """Raise the error that says what is missing."""
        raise ImportError(f".cupy needs {' and '.join(device.absent())}: {device.INSTALL}")


for register in (xr.register_dataset_accessor, xr.register_dataarray_accessor):
    register("tiffstack")(TiffstackAccessor)  # type: ignore[no-untyped-call]
    if device.absent():
        register("cupy")(MissingCupyAccessor)  # type: ignore[no-untyped-call]
