"""Methods of ``ds.tiffstack`` that write a store, and prove that it holds the pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from xarray_tiffstack.accessor.data import Data

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import xarray as xr
    from zarr.abc.store import Store

    from xarray_tiffstack.ome_zarr import Summary, VerifyResult
    from xarray_tiffstack.ome_zarr.keeping import Keeper


def keeper_of(ds: xr.Dataset, restorable: bool, keep_whole: bool) -> Keeper | None:
    """Make what keeps of files beside their pixels; None where that is not asked for.

    Raises
    ------
    ValueError
        The pixels are not those of complete files.
    """
    if not restorable and not keep_whole:
        return None
    from xarray_tiffstack.array.complete import complete_files
    from xarray_tiffstack.back.keeping import keeping

    return keeping(complete_files(ds), keep_whole)


class Saving(Data):
    """How a Dataset is written to Zarr."""

    def to_ome_zarr(
        self,
        store: str | os.PathLike[str] | Store,
        *,
        levels: int | Literal["auto"] = "auto",
        chunks: Mapping[str, int] | Literal["auto"] = "auto",
        shards: Mapping[str, int] | Literal["auto"] | None = None,
        compressors: Any = "auto",
        ngff_version: Literal["0.6", "0.5", "0.4"] = "0.5",
        voxel_size: Mapping[str, float] | None = None,
        method: Literal["mean", "nearest", "mode"] = "mean",
        workers: int | None = None,
        overwrite: bool = False,
        verify: bool = False,
        strict: bool = False,
        restorable: bool = False,
        keep_whole: bool = False,
        progress: bool | Literal["auto"] = "auto",
        executor: Any = None,
        part: tuple[int, int] | str | None = None,
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
        ngff_version : {"0.5", "0.4", "0.6"}
            0.5 is Zarr 3; 0.4 is Zarr 2, for older viewers. 0.6 is Zarr 3 with coordinate systems:
            it says how a volume that the stage moved through a tilted light sheet is set upright,
            and few programs read it yet.
        voxel_size : mapping, optional
            Micrometers by axis, such as ``{"z": 0.5, "y": 0.1, "x": 0.1}``; by default what the
            coordinates say.
        method : {"mean", "nearest", "mode"}
            How coarser levels are made: the mean of pairs of pixels; of label images the first
            pixel of each pair, or the most frequent label, so that no label is made up.
        workers : int, optional
            Threads of this process; by default one a processor. Each holds a slab of a file as
            deep as a chunk, and its coarser levels, in memory.
        overwrite : bool
            Replace a store that is complete, or that another source or other settings made. A
            store that this very call began is resumed all the same.
        verify : bool
            Read the store back and compare every pixel's checksum with that of what was written.
        strict : bool
            Stop at the first file that cannot be read. By default its slot is filled with zeros,
            ``present`` is False there, and the conversion continues.
        restorable : bool
            Keep of each file also what is not pixels, so that `xarray_tiffstack.restore` writes it
            back with the SHA-256 that it had. Of the other files of the folder, and of TIFFs that
            their pixels do not give back, up to 16 MiB in total are kept as they are.
        keep_whole : bool
            With `restorable`: keep all such files as they are, however large.
        progress : bool or "auto"
            Show progress on standard error; "auto" does on a terminal and in a notebook.
        executor : concurrent.futures.Executor, distributed.Client or function, optional
            Who works: processes, or other machines, that reach the files and the store by the same
            paths. A function makes an executor, and is called again when that breaks. By default
            the client of dask that runs in this process, if no `workers` are named; else threads.
            When a worker dies, its block is done again; after three times it is an error.
        part : (int, int) or "3/32", optional
            Convert a part: its number, from 1, and how many there are. Each part is a call of its
            own, anywhere, at any time; the one that ends last completes the store.

        Returns
        -------
        Summary
            What was written, and which files failed; of a part, also what is not written yet.

        Raises
        ------
        FileExistsError
            The store exists and was made otherwise; ``overwrite=True`` replaces it.
        BlockingIOError
            Another conversion writes to this store.
        ValueError
            Options that do not fit the data, files that changed since their block was written, or
            with `restorable` files whose pixels do not give them back.
        OSError
            The store cannot be written (full disk, no permission), workers died again and again
            at work on the same files, or with ``strict`` a file cannot be read. Finished blocks
            stay, and the same call resumes.

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

        ds = on_host(self._dataset)
        return to_ome_zarr(
            ds,
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
            keeper=keeper_of(ds, restorable, keep_whole),
            executor=executor,
            part=part,
        )

    def verify(
        self,
        store: str | os.PathLike[str] | Store,
        *,
        workers: int | None = None,
        restorable: bool = False,
        progress: bool | Literal["auto"] = "auto",
        executor: Any = None,
        part: tuple[int, int] | str | None = None,
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
        restorable : bool
            Also make each file of the folder again from the store, hidden files and those that are
            no TIFFs too, and compare its SHA-256 with that of the file: whether the folder can be
            deleted. Reads both once more. Needs a store that was written with
            ``restorable=True``.
        progress : bool or "auto"
            As for `to_ome_zarr`.
        executor : concurrent.futures.Executor, distributed.Client or function, optional
            As for `to_ome_zarr`.
        part : (int, int) or "3/32", optional
            Verify a part. Its outcome is kept in the store; the part that finds those of all
            others there puts them together.

        Returns
        -------
        VerifyResult
            Every chunk that differs, and the files that it comes from: those of this part, or
            those of all parts if it is the last one; in ``restorable`` the files that the store
            does not give back.

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
        if restorable and part is not None:
            raise ValueError(
                "restorable=True looks at the whole folder: verify the parts, and then once more "
                "with restorable=True and without part="
            )
        result = verify(
            ds, store, workers=workers, progress=progress, executor=executor, part=part,
            recheck=recheck,
        )  # fmt: skip
        if not restorable:
            return result
        from xarray_tiffstack.back.proof import prove

        proof = prove(str(ds.attrs.get("source", "")), store, workers, progress)
        return replace(result, restorable=proof)
