"""Methods of ``ds.tiffstack`` that show what there is, and what is not as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from xarray_tiffstack.accessor.data import Data

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from xarray_tiffstack.look.preview import Preview
    from xarray_tiffstack.look.report import Report
    from xarray_tiffstack.look.view import View


class Looking(Data):
    """What a Dataset knows of its files, and how it looks."""

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
        direction : {None, 1, -1}
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
