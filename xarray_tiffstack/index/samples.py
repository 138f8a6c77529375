"""What an index remembers of the bytes of files, to know them again where their times are new."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from xarray_tiffstack.index.files import of_each
from xarray_tiffstack.ome_zarr.pool import PROCESSORS
from xarray_tiffstack.storage import Remote, access_of, is_url

if TYPE_CHECKING:
    from collections.abc import Sequence

PIECES, PIECE = 8, 4096  # how many samples of a file, and bytes of each
SHORT, ENTIRE = 8, 32  # bytes of a hash: of samples, and of a complete file (SHA-256)
BLOCK = 1 << 23  # bytes that are read at once of an object


def fingerprints(paths: Sequence[str], sizes: Sequence[int], entire: bool) -> np.ndarray:
    """Hash samples of each file, or all of it.

    Samples are 4 KiB each at 8 places, from the first byte to the last one, at equal distances; of
    a file of 32 KiB or less that is all of it.

    Returns
    -------
    numpy.ndarray
        A row of bytes for each file; of one that cannot be read they are 0.
    """
    width = ENTIRE if entire else SHORT
    items = list(zip(paths, sizes, strict=True))

    def one(item: tuple[str, int]) -> bytes:
        try:
            return (_of_object if is_url(item[0]) else _of_file)(*item, entire)
        except OSError:
            return bytes(width)

    at_url = bool(items) and is_url(items[0][0])
    if entire and not at_url:
        with ThreadPoolExecutor(PROCESSORS) as pool:
            found = list(pool.map(one, items))
    else:
        found = of_each(one, items, at_url=at_url)
    return np.frombuffer(b"".join(found), np.uint8).reshape(len(items), width)


def places(size: int) -> list[tuple[int, int]]:
    """Where the samples of a file of some size begin and end.

    Examples
    --------
    >>> places(1000), places(1_000_000)[-1]
    ([(0, 1000)], (995904, 1000000))
    """
    if size <= PIECES * PIECE:
        return [(0, size)]
    starts = (k * (size - PIECE) // (PIECES - 1) for k in range(PIECES))
    return [(start, start + PIECE) for start in starts]


def _of_file(path: str, size: int, entire: bool) -> bytes:
    if entire:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    made = hashlib.blake2b(digest_size=SHORT)
    file_ = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        for start, stop in places(size):
            if start:
                os.lseek(file_, start, os.SEEK_SET)
            made.update(os.read(file_, stop - start))
    finally:
        os.close(file_)
    return made.digest()


def _of_object(url: str, size: int, entire: bool) -> bytes:
    remote = Remote.of(url, access_of(url))
    if entire:
        made = hashlib.sha256()
        for start in range(0, size, BLOCK):
            made.update(remote.get(start, min(start + BLOCK, size)))
        return made.digest()
    return hashlib.blake2b(b"".join(remote.gather(places(size))), digest_size=SHORT).digest()
