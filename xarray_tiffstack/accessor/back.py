"""Methods of ``ds.tiffstack`` that lead back to TIFFs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from xarray_tiffstack.accessor.data import Data

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from xarray_tiffstack.back.export import Exported


class Back(Data):
    """How a Dataset is written as TIFFs."""

    def to_tiff(
        self,
        folder: str | os.PathLike[str],
        pattern: str | None = None,
        *,
        kind: Literal["imagej", "ome"] = "imagej",
        inside: Sequence[str] = ("z",),
        existing: Literal["raise", "skip"] = "raise",
        workers: int | None = None,
        progress: bool | Literal["auto"] = "auto",
    ) -> Exported:
        """Write new TIFFs that ImageJ and readers of OME understand, with labels and scale.

        For people and programs that need TIFFs. The files are not those that the data came from:
        `xarray_tiffstack.restore` writes those. ``xr.open_dataset(folder, engine="tiffstack",
        pattern=exported.pattern)`` reads pixels, labels and voxel size again. What it does not
        read is listed in ``exported.lost``, with the reason: labels that are neither a dimension
        nor in the names (the files say them as text alone), where positions begin, uneven times,
        attributes.

        Parameters
        ----------
        folder : str or path
            Where to write; never into the folder of the source, nor into a store.
        pattern : str, optional
            Template of the names, such as ``"mouse_t{time:03d}_{channel}.tif"``. It says at least
            the labels of all dimensions that are not inside a file; by default one is made.
        kind : {"imagej", "ome"}
            ImageJ's metadata (uint8, uint16, float32; less than 4.2 GB a file), or OME-XML.
        inside : sequence of str
            Dimensions inside a file, besides y and x: "z", "time", "channel", or what time is
            called here. By default there is a file for each slot; ``("time", "z", "channel")``
            makes hyperstacks. There a missing slot is filled, and no file says so.
        existing : {"raise", "skip"}
            What to do about files that are there already: refuse, or leave them as they are.
        workers : int, optional
            Threads; by default one a processor. Each holds about 64 MB of planes.
        progress : bool or "auto"
            Show progress on standard error; "auto" does on a terminal and in a notebook.

        Returns
        -------
        Exported
            How many files, the ``pattern`` of their names, and what is ``lost``.

        Raises
        ------
        FileExistsError
            Files of these names are there, and nothing was written.
        ValueError
            The kind of file cannot hold such pixels, or names would not give the labels back.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xarray_tiffstack
        >>> from tempfile import TemporaryDirectory
        >>> pixels = np.zeros((2, 3, 8, 8), "uint16")
        >>> image = ("channel", "z", "y", "x"), pixels
        >>> ds = xr.Dataset({"image": image}, {"channel": [488, 560]})
        >>> folder = TemporaryDirectory()
        >>> written = ds.tiffstack.to_tiff(folder.name)
        >>> written.pattern
        'channel{channel:03d}.tif'
        >>> again = xr.open_dataset(folder.name, engine="tiffstack", pattern=written.pattern)
        >>> dict(again.image.sizes)
        {'channel': 2, 'z': 3, 'y': 8, 'x': 8}
        >>> folder.cleanup()
        """
        from xarray_tiffstack.array.variable import on_host
        from xarray_tiffstack.back.export import to_tiff

        return to_tiff(
            on_host(self._dataset),
            folder,
            pattern,
            kind=kind,
            inside=inside,
            existing=existing,
            workers=workers,
            progress=progress,
        )
