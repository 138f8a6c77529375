"""How pixels become the bytes of a Zarr array's chunks and shards in a local folder, and back.

zarr itself takes a chunk through several copies, an event loop and threads of its own. Where a
conversion has its threads anyway, one call of the codec a chunk takes a third of the time. The
bytes are those that zarr would write (the tests compare them). Formats: Zarr 2 and 3, and the codec
``sharding_indexed``, https://zarr-specs.readthedocs.io.
"""

from __future__ import annotations

import math
import sys
import threading
from itertools import product
from struct import pack
from typing import TYPE_CHECKING, Any, TypeAlias

import google_crc32c
import imagecodecs
import numcodecs
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import zarr

Slices: TypeAlias = tuple[slice, ...]

ABSENT = 2**64 - 1  # offset and size of a chunk that a shard lacks
OVERHEAD = 16  # bytes by which Blosc can make a chunk longer (BLOSC_MAX_OVERHEAD in its blosc.h)
SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")  # Zarr 3 has names for Blosc's numbers


def codec_of(compressors: Sequence[Mapping[str, Any]] | None, dtype: np.dtype[Any]) -> Any:
    """Codec that compresses as an array's metadata say.

    Raises
    ------
    NotImplementedError
        It is none of those that are written here: none, Blosc, Zstandard and gzip, or with Zarr 2
        any one of numcodecs.
    """
    if sys.byteorder != "little" or dtype.kind not in "iuf":
        raise NotImplementedError
    if not compressors:
        return None
    first, *more = compressors
    if more:
        raise NotImplementedError
    if "id" in first:  # of Zarr 2
        options = dict(first)
        if options.pop("id") == "blosc":
            return _blosc(options, dtype)
        return numcodecs.get_codec(dict(first))
    options = dict(first.get("configuration", {}))
    if first["name"] == "blosc":
        return _blosc({**options, "shuffle": SHUFFLES.index(options["shuffle"])}, dtype)
    if first["name"] == "zstd":
        return numcodecs.Zstd(**options)
    if first["name"] == "gzip":
        return numcodecs.GZip(**options)
    raise NotImplementedError


def _blosc(options: Mapping[str, Any], dtype: np.dtype[Any]) -> Any:
    """Blosc with options of numcodecs, which does itself what imagecodecs has no option for."""
    codec = numcodecs.Blosc(**options)
    common = options["shuffle"] >= 0 and options.get("typesize") in (None, dtype.itemsize)
    return _Blosc(codec) if common else codec


def write_file(path: Path, data: Any) -> None:
    """Write bytes to a file of a store, and make its folders; others see all of it or nothing."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
    partial.replace(path)


class Memory(threading.local):
    """Memory of each thread that is used again: the kernel has to clear what is new."""

    held = np.empty(0, np.uint8)

    def array(self, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
        """Give an array, in the place of the one that this thread was given before."""
        nbytes = math.prod(shape) * dtype.itemsize
        if self.held.size < nbytes:
            self.held = np.empty(nbytes, np.uint8)
        return self.held[:nbytes].view(dtype).reshape(shape)


class _Blosc:
    """Blosc, which writes into memory that is used again, as numcodecs cannot."""

    def __init__(self, codec: numcodecs.Blosc) -> None:
        self.codec = codec

    def encode(self, pixels: np.ndarray) -> Any:
        """Bytes of a chunk, until the next one of this thread."""
        room: Any = _encoded.array([pixels.nbytes + OVERHEAD], np.dtype(np.uint8))
        encode: Any = imagecodecs.blosc_encode  # whose types differ from version to version
        return encode(
            pixels,
            level=self.codec.clevel,
            compressor=self.codec.cname,
            shuffle=self.codec.shuffle,
            typesize=pixels.itemsize,
            blocksize=self.codec.blocksize,
            numthreads=1,
            out=room,
        )

    def decode(self, data: bytes) -> Any:
        """Bytes of the pixels."""
        return imagecodecs.blosc_decode(data, numthreads=1)


_padded, _encoded = Memory(), Memory()


class Chunks:
    """Pixels of an array, written in whole chunks, or shards; in any thread.

    Parameters
    ----------
    folder
        Of the array.
    array
        Of numbers, with a fill value of 0 or none, its chunks in folders.
    codec
        As from `codec_of`.
    """

    def __init__(self, folder: Path, array: zarr.Array[Any], codec: Any) -> None:
        self.folder = folder / "c" if array.metadata.zarr_format == 3 else folder
        self.dtype, self.codec = array.dtype, codec
        self.chunk: tuple[int, ...] = array.chunks
        self.shard: tuple[int, ...] | None = array.shards

    def __setitem__(self, region: Slices, pixels: np.ndarray) -> None:
        """Write a region that is made of whole stored objects, or reaches the end of the array."""
        for index, inside, _ in met(region, self.shard or self.chunk):
            part = pixels[inside]
            data = self._encode(part) if self.shard is None else self._join(part)
            path = self._path(index)
            if data is None:
                path.unlink(missing_ok=True)
            else:
                write_file(path, data)

    def __getitem__(self, region: Slices) -> np.ndarray:
        """Read a region; what is not stored is 0."""
        pixels = np.empty([along.stop - along.start for along in region], self.dtype)
        for index, inside, part in met(region, self.shard or self.chunk):
            try:
                data = self._path(index).read_bytes()
            except FileNotFoundError:
                pixels[inside] = 0
                continue
            if self.shard is None:
                pixels[inside] = self._decode(data)[part]
            else:
                self._split(data, part, pixels[inside])
        return pixels

    def _path(self, index: tuple[int, ...]) -> Path:
        return self.folder.joinpath(*map(str, index))

    def _encode(self, pixels: np.ndarray) -> Any:
        """Bytes of a chunk, until the next one of this thread; None where all pixels are 0.

        A chunk that reaches over the end of the array is filled up.
        """
        whole = pixels
        if pixels.shape != self.chunk or not pixels.flags.c_contiguous:
            whole = _padded.array(self.chunk, self.dtype)
            if pixels.shape != self.chunk:
                whole[...] = 0
            whole[tuple(map(slice, pixels.shape))] = pixels
        if not whole.view(bool).any():  # byte by byte: -0.0 is not 0
            return None
        return whole.reshape(-1).view(np.uint8) if self.codec is None else self.codec.encode(whole)

    def _decode(self, data: Any) -> np.ndarray:
        """Pixels of a chunk."""
        found = data if self.codec is None else self.codec.decode(data)
        return np.frombuffer(found, self.dtype).reshape(self.chunk)

    def _join(self, pixels: np.ndarray) -> bytes | None:
        """Bytes of a shard: those of its chunks, then where each is, and a checksum of that."""
        assert self.shard is not None
        table = np.full((*self._counts, 2), ABSENT, "<u8")
        parts, end = [], 0
        for index, inside, _ in met(tuple(map(slice, [0] * pixels.ndim, pixels.shape)), self.chunk):
            data = self._encode(pixels[inside])
            if data is not None:
                table[index] = end, len(data)
                parts.append(bytes(data))
                end += len(data)
        if not parts:
            return None
        where = table.tobytes()
        return b"".join([*parts, where, pack("<I", google_crc32c.value(where))])

    def _split(self, data: bytes, part: Slices, out: np.ndarray) -> None:
        """Read part of a shard."""
        size = 16 * int(np.prod(self._counts))
        where, check = data[-size - 4 : -4], data[-4:]
        if pack("<I", google_crc32c.value(where)) != check:
            raise ValueError("the index of the shard is damaged")
        table = np.frombuffer(where, "<u8").reshape(*self._counts, 2)
        for index, inside, local in met(part, self.chunk):
            start, length = map(int, table[index])
            if start == ABSENT:
                out[inside] = 0
            else:
                out[inside] = self._decode(data[start : start + length])[local]

    @property
    def _counts(self) -> tuple[int, ...]:
        """Chunks of a shard along each axis."""
        return tuple(n // by for n, by in zip(self.shard or self.chunk, self.chunk, strict=True))


def met(region: Slices, unit: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Slices, Slices]]:
    """Objects of a regular grid that a region meets.

    Yields
    ------
    index
        Position in the grid.
    inside
        Which part of the region it is.
    part
        Which part of the object that is.
    """
    axes = [
        [
            (i, slice(start - s.start, stop - s.start), slice(start - i * n, stop - i * n))
            for i in range(s.start // n, -(-s.stop // n))
            for start, stop in [(max(s.start, i * n), min(s.stop, (i + 1) * n))]
        ]
        for s, n in zip(region, unit, strict=True)
    ]
    for along in product(*axes):
        index, inside, part = zip(*along, strict=True)
        yield index, inside, part
