"""Methods of ``ds.tiffstack`` that let others read the files as Zarr, without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from xarray_tiffstack.accessor.data import Data

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import xarray as xr

    from xarray_tiffstack.index import Indexed


class Indexing(Data):
    """How the files of a Dataset become a virtual Zarr."""

    def to_virtual(
        self,
        index: str | os.PathLike[str],
        *,
        levels: int = 1,
        copy: bool | Literal["auto"] = "auto",
        voxel_size: Mapping[str, float] | None = None,
        method: Literal["mean", "nearest", "mode"] = "mean",
        workers: int | None = None,
        overwrite: bool = False,
        hashes: bool = False,
        irregular: bool = False,
        progress: bool | Literal["auto"] = "auto",
    ) -> Indexed:
        """Write an index: an OME-Zarr whose pixels stay in the TIFF files.

        The index has every label and all metadata of a conversion, and for each plane the place of
        its bytes in a file. It is small, and made in seconds, as no pixels are read but three
        planes of each channel for the display limits. ``open_index(index)`` opens it; other
        programs read it with icechunk (or kerchunk's references with fsspec) and zarr alone.

        Parameters
        ----------
        index : str or path
            ``NAME.icechunk`` is a repository of icechunk. ``NAME.json`` and ``NAME.parq`` are
            references as kerchunk writes them, in Zarr 2, for older programs: these notice no file
            that changed.
        levels : int
            Resolution levels; those below full resolution are stored in the index, and all files
            are read for them.
        copy : bool or "auto"
            Whether the index may hold pixels that cannot be referred to: those of files in another
            byte order or compression than most files have, of the short last strip of compressed
            pages, of 12-bit files. "auto" copies up to 64 MiB, or up to a tenth of all.
        voxel_size : mapping, optional
            Micrometers by axis, as for `to_ome_zarr`.
        method : {"mean", "nearest", "mode"}
            How coarser levels are made, as for `to_ome_zarr`.
        workers : int, optional
            Threads that make coarser levels; by default one a processor.
        overwrite : bool
            Replace an index that is there; in one of icechunk, earlier states can still be read.
        hashes : bool
            Read all files, and keep the SHA-256 of each. By default samples of 32 KiB are kept.
            `renew_index` compares them with those of a copy.
        irregular : bool
            Refer to the short last strip of compressed pages, too: the last chunks of the array are
            then shorter than the others, in what Zarr calls a rectilinear chunk grid. zarr 3.2 and
            newer read it after ``zarr.config.set({"array.rectilinear_chunks": True})``, and few
            other programs do.
        progress : bool or "auto"
            Show progress of the coarser levels, as for `to_ome_zarr`.

        Returns
        -------
        Indexed
            How much is referred to, and which files had to be copied in part.

        Raises
        ------
        FileExistsError
            The index is there already.
        ValueError
            Pixels were computed or cut, so that they are no longer those of files; or more of them
            than `copy` allows cannot be referred to.
        OSError
            Files cannot be read, or changed meanwhile.
        ImportError
            icechunk is missing: ``pip install "xarray-tiffstack[index]"``.

        Examples
        --------
        >>> import numpy as np, tifffile, xarray as xr
        >>> from tempfile import TemporaryDirectory
        >>> raw, saved = TemporaryDirectory(), TemporaryDirectory()
        >>> for t in (0, 1):
        ...     tifffile.imwrite(f"{raw.name}/cell_t{t}.tif", np.full((8, 8), t, "uint16"))
        >>> ds = xr.open_dataset(raw.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
        >>> print(ds.tiffstack.to_virtual(f"{saved.name}/cell.json"))
        /.../cell.json: 2 references to 2 files, 0.00 GB, in ... s
        >>> raw.cleanup(), saved.cleanup()
        (None, None)
        """
        from xarray_tiffstack.array.variable import on_host
        from xarray_tiffstack.index import to_virtual

        return to_virtual(
            on_host(self._dataset),
            index,
            levels=levels,
            copy=copy,
            voxel_size=voxel_size,
            method=method,
            workers=workers,
            overwrite=overwrite,
            hashes=hashes,
            irregular=irregular,
            progress=progress,
        )

    def virtual(self, *, copy: bool | Literal["auto"] = "auto") -> xr.Dataset:
        """Give this Dataset as VirtualiZarr has them: references in place of pixels.

        The result is put together with other virtual datasets by `xarray.concat`, and written by
        the methods of ``.vz``. It has the dimensions of this Dataset, full resolution only, and no
        metadata of OME-Zarr. All labels are in memory. Reads the directories of all files, and no
        pixels but those that are copied.

        Parameters
        ----------
        copy : bool or "auto"
            Whether pixels that cannot be referred to may be kept in memory, as for `to_virtual`.

        Returns
        -------
        xarray.Dataset
            ``image`` is a ``virtualizarr.manifests.ManifestArray``; a chunk is a page of a file, or
            a strip or tile of it.

        Raises
        ------
        ValueError
            Pixels were computed or cut, so that they are no longer those of files; or more of them
            than `copy` allows cannot be referred to.
        OSError
            Files cannot be read.
        ImportError
            VirtualiZarr is missing: ``pip install "xarray-tiffstack[virtual]"``.

        Notes
        -----
        VirtualiZarr keeps no sizes and times of files. What it writes to icechunk notices a file
        that is changed later than it was written (or than ``last_updated_at`` says), and nothing
        else; what it writes as kerchunk's references notices no change.

        Examples
        --------
        >>> import pytest; _ = pytest.importorskip("virtualizarr")
        >>> import numpy as np, tifffile, xarray as xr
        >>> from tempfile import TemporaryDirectory
        >>> raw = TemporaryDirectory()
        >>> for t in (0, 1):
        ...     tifffile.imwrite(f"{raw.name}/cell_t{t}.tif", np.full((8, 8), t, "uint16"))
        >>> ds = xr.open_dataset(raw.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
        >>> ds.tiffstack.virtual().image.data
        ManifestArray<shape=(2, 8, 8), dtype=uint16, chunks=(1, 8, 8)>
        >>> raw.cleanup()
        """
        from xarray_tiffstack.array.variable import on_host
        from xarray_tiffstack.index import virtual

        return virtual(on_host(self._dataset), copy)
