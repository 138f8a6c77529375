"""How the way in which TIFF stores pixels is said in Zarr's words."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.errors import ZarrUserWarning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import zarr

    from xarray_tiffstack.index.references import References


def create_array(
    root: zarr.Group,
    path: str,
    refs: References,
    shape: Sequence[int],
    dims: Sequence[str] | None,
    dtype: np.dtype[Any],
    attributes: Mapping[str, Any],
    zarr_format: int,
) -> None:
    """Create the array whose chunks are byte ranges of files, in place of what is there."""
    with warnings.catch_warnings():
        # That other programs may not know these codecs: the documentation says which do.
        warnings.simplefilter("ignore", ZarrUserWarning)
        warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr", UserWarning)
        options = _zarr3(refs, dims) if zarr_format == 3 else _zarr2(refs, dtype)
        about = dict(attributes)
        if zarr_format == 2:
            about["_ARRAY_DIMENSIONS"] = list(dims or ())
        # Any: zarr before 3.2 declares regular chunks only, and `allow_irregular` was asked before.
        chunks: Any = refs.edges(shape) if refs.irregular else refs.chunks
        root.create_array(
            path,
            shape=tuple(shape),
            chunks=chunks,
            fill_value=dtype.type(refs.fill_value) if zarr_format == 3 else None,
            attributes=about,
            overwrite=True,
            **{"dtype": dtype, **options},
        )


def allow_irregular() -> Any:
    """Let zarr read and write arrays whose last chunks are shorter than the others.

    Raises
    ------
    ImportError
        It is older than 3.2.
    """
    import zarr

    if zarr.config.get("array.rectilinear_chunks", None) is None:
        raise ImportError(
            f"irregular chunks need zarr 3.2, and this is {zarr.__version__}: "
            "pip install --upgrade zarr"
        )
    return zarr.config.set({"array.rectilinear_chunks": True})


def needs_imagecodecs(refs: References) -> bool:
    """Whether a reader has to register the codecs of imagecodecs first."""
    return refs.storage.compression == "lzw" or refs.storage.predictor != 1


def register() -> None:
    """Let zarr know the codecs of imagecodecs."""
    import imagecodecs.numcodecs
    import imagecodecs.zarr

    imagecodecs.numcodecs.register_codecs(verbose=False)
    imagecodecs.zarr.register_codecs(verbose=False)


def _zarr3(refs: References, dims: Sequence[str] | None) -> dict[str, Any]:
    """Give filters, order of bytes and compression, as Zarr 3 has them."""
    from zarr.codecs import BytesCodec, TransposeCodec, ZstdCodec
    from zarr.codecs.numcodecs import Zlib

    storage, filters, across = refs.storage, [], refs.across
    if not _in_order(refs):
        filters.append(TransposeCodec(order=refs.order))
        across = refs.order.index(across)
    compressors: list[Any] = []
    if needs_imagecodecs(refs):
        register()
        from imagecodecs.zarr import Delta, Lzw

        filters += [Delta(axis=across)] if storage.predictor == 2 else []
        compressors = [Lzw()] if storage.compression == "lzw" else []
    compressors += [Zlib(level=1)] if storage.compression == "zlib" else []
    compressors += [ZstdCodec()] if storage.compression == "zstd" else []
    endian: Any = {"<": "little", ">": "big", "|": None}[storage.order]
    return {
        "filters": filters,
        "serializer": BytesCodec(endian=endian),
        "compressors": compressors,
        "dimension_names": dims,
    }


def _zarr2(refs: References, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Give type, filter and compressor, as Zarr 2 has them."""
    import numcodecs

    storage = refs.storage
    if not _in_order(refs):
        raise ValueError(
            "Zarr 2, which kerchunk's references are, cannot say that the samples of a pixel lie "
            'side by side: write an index of icechunk, to_virtual("NAME.icechunk")'
        )
    dtype = np.dtype(storage.order + dtype.str[1:])
    filters: list[Any] = []
    compressor: Any = None
    if needs_imagecodecs(refs):
        register()
        from imagecodecs.numcodecs import Delta, Lzw

        if storage.predictor == 2:
            filters = [Delta(shape=refs.chunks, dtype=dtype.str, axis=refs.across)]
        compressor = Lzw() if storage.compression == "lzw" else None
    if storage.compression in ("zlib", "zstd"):
        compressor = {"zlib": numcodecs.Zlib, "zstd": numcodecs.Zstd}[storage.compression](1)
    return {
        "dtype": dtype,
        "filters": filters or None,
        "compressors": compressor,
        "chunk_key_encoding": {"name": "v2", "separator": "."},
    }


def _in_order(refs: References) -> bool:
    """Whether the pixels of a chunk follow each other in the order of its dimensions."""
    wide = [dim for dim in refs.order if refs.chunks[dim] > 1]
    return wide == sorted(wide)
