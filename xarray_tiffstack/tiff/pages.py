"""The bytes of a plain TIFF: where in the file the pixels of each page lie.

Walks the chain of directories (IFDs) of classic TIFF and BigTIFF in either byte order (TIFF 6.0;
the BigTIFF design of 2007), and takes from each only what says how its pixels are stored. Files
whose pages mean something else than one stack of like images are left to tifffile.
"""

from __future__ import annotations

import io
import math
import operator
import os
import re
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct, pack
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

# Offsets in a page table that are none: not looked up yet, to be decoded, not in the file.
ASK, ENCODED, ABSENT = -1, -2, -3


class _Format(NamedTuple):
    """How numbers are packed in one of the four kinds of TIFF."""

    endian: Literal["little", "big"]
    start: int  # where the offset of the first directory stands
    length: Struct  # number of entries of a directory
    entry: Struct  # code, type, count, value or its offset
    link: Struct


_ORDERS: dict[bytes, tuple[str, Literal["little", "big"]]]
_ORDERS = {b"II": ("<", "little"), b"MM": (">", "big")}
_FORMATS = {
    mark + pack(order + "H", version): _Format(endian, start, *(Struct(order + s) for s in parts))
    for mark, (order, endian) in _ORDERS.items()
    for version, start, parts in ((42, 4, ("H", "HHI4s", "I")), (43, 8, ("Q", "HHQ8s", "Q")))
}

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 16: 8}  # of BYTE, ASCII, SHORT, LONG, LONG8

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_DESCRIPTION, _OFFSETS, _SAMPLES, _ROWS, _COUNTS, _PLANAR = 270, 273, 277, 278, 279, 284
_SOFTWARE, _PREDICTOR, _TILE, _TILE_LENGTH, _TILE_OFFSETS = 305, 317, 322, 323, 324
_TILE_COUNTS, _FORMAT = 325, 339

# What all pages of one image share, beside the type of their samples.
_SHARED = [_WIDTH, _LENGTH, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER]
_SHARED += [_SAMPLES, _ROWS, _PLANAR, _PREDICTOR, _TILE, _TILE_LENGTH]

# Tags that give pages another meaning (SubIFDs, ImageDepth, MD Gel, SIS, STK, FluoView, LSM, NIH,
# Micro-Manager, AVS, EER, NDPI), and the descriptions and software that do so.
_FOREIGN = {330, 32997, 33445, 33471, 33560, 33628, 34362, 34412, 43314, 51123}
_FOREIGN |= {65000, 65001, 65420}
_TELLING = re.compile(
    rb"OME>|</scn>|Aperio |state\.|scanimage|SI\.|PerkinElmer-QPI|IndicaLabs|Philips DP"
    rb"|Ventana|ScanOutputManager|ISS Vista"
)

_Tag: TypeAlias = tuple[int, int, bytes]
_Tags: TypeAlias = dict[int, _Tag]


class File(io.FileIO):
    """An open TIFF that is read without a buffer; equal to another as long as it is unchanged."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(os.fspath(path))
        self.path = os.fspath(path)
        stat = os.fstat(super().fileno())
        self.size = stat.st_size
        self._identity = (self.path, stat.st_size, stat.st_mtime_ns, stat.st_ino)
        self.head = self.at(0, 16)
        if len(self.head) < 16 or self.head[:4] not in _FORMATS:
            self.close()
            if not self.size:
                raise OSError(f"{self.path} is empty (0 bytes)")
            raise ValueError(f"{self.path} is not a TIFF: it begins with {self.head!r}")

    def __eq__(self, other: object) -> bool:
        """Whether both are the same file in the same state."""
        return isinstance(other, File) and self._identity == other._identity

    def __hash__(self) -> int:
        """Hash the file and its state."""
        return hash(self._identity)

    def fileno(self) -> int:
        """Refuse, so that tifffile takes this for a lone stream and opens no file beside it."""
        raise io.UnsupportedOperation("fileno")

    def at(self, offset: int, size: int) -> bytes:
        """Return the bytes at an offset; fewer where the file ends."""
        size = min(size, self.size - offset)
        return os.pread(super().fileno(), size, offset) if size > 0 else b""

    def into(self, offset: int, target: np.ndarray) -> None:
        """Fill the contiguous bytes of `target` from an offset."""
        self.seek(offset)
        rest = memoryview(target.data)
        while rest:
            n = self.readinto(rest)
            if not n:
                raise self.cut_short(offset + target.nbytes)
            rest = rest[n:]

    def cut_short(self, end: int) -> OSError:
        """Return the error for what would lie beyond the end of the file."""
        return OSError(f"{self.path} is cut short: it has {self.size} bytes, refers to byte {end}")


@dataclass(frozen=True)
class Table:
    """Where the pages of one file lie, in the order of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """Type of the pixels, in the byte order of the file."""
    data: np.ndarray
    """Offset of the pixels of each page; ASK, ENCODED or ABSENT where there is none."""
    ifds: np.ndarray
    """Offset of the directory of each page; empty where pages cannot be decoded one by one."""
    alike: bool = False
    """Whether the directories of all pages are known to say the same, but for where things lie."""
    broken: bool = False
    """Whether the chain of directories leads out of the file."""

    @property
    def page_nbytes(self) -> int:
        """Size of one decoded page in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize // len(self.data)

    def resolve(self, file: File, numbers: np.ndarray) -> np.ndarray:
        """Offsets of the pixels of some pages; strips are looked up when first asked for."""
        unknown = numbers[self.data[numbers] == ASK]
        if unknown.size:
            for k in np.unique(unknown).tolist():
                self.data[k] = _run(*segments(file, int(self.ifds[k])), self.page_nbytes)
        offsets: np.ndarray = self.data[numbers]
        return offsets


def page_ndim(shape: tuple[int, ...], count: int) -> int:
    """How many of the innermost axes make one of `count` pages."""
    sizes = list(accumulate(reversed(shape), operator.mul))
    return sizes.index(math.prod(shape) // count) + 1


def walk(file: File) -> Table | None:
    """Page table of a plain file; None where tifffile has to judge."""
    chain = _Chain(file)
    found = chain.directory(chain.first)
    if found is None:
        return None
    first, link = found
    image = _image(chain, first)
    if image is None:
        return None
    shared = _shared(chain, first) if link else []
    pages = {chain.first: _pixels(chain, first, image)}  # offset of the directory -> of the pixels
    mold, pixels = None, ENCODED
    while link:
        if mold and (like := mold.fullmatch(file.at(link, chain.guess))):
            after = chain.integer(like["link"])
            pages[link] = pixels if pixels < 0 else chain.integer(like["pixels"])
        elif found := chain.directory(link):
            tags, after = found
            if _shared(chain, tags) != shared:
                return None
            pages[link] = pixels = _pixels(chain, tags, image)
            mold = _mold(chain, tags)
        else:
            break
        link = 0 if after in pages else after  # a loop ends the chain
    data, ifds = (np.fromiter(each, np.int64, len(pages)) for each in (pages.values(), pages))
    shape = _stack_shape(chain, first, image.shape, len(pages))
    count = math.prod(shape) // math.prod(image.shape) if shape else 0
    if link and count != len(pages):
        return Table((len(pages), *image.shape), image.dtype, data, ifds, broken=True)
    if shape is None:
        return None
    if count > len(pages):  # the one directory describes a run of pages
        step = math.prod(image.shape) * image.dtype.itemsize
        if data[0] < 0 or count * step > file.size:
            return None
        data = ifds = data[0] + step * np.arange(count)
    return Table(shape, image.dtype, data, ifds, alike=True, broken=link != 0)


def segments(file: File, ifd: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and sizes of the strips or tiles of a page; none where its directory lacks them."""
    chain = _Chain(file)
    tags, _ = chain.directory(ifd) or ({}, 0)
    offsets, counts = (
        (_TILE_OFFSETS, _TILE_COUNTS) if _TILE_OFFSETS in tags else (_OFFSETS, _COUNTS)
    )
    if offsets not in tags or counts not in tags:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return chain.numbers(tags[offsets]), chain.numbers(tags[counts])


class _Chain:
    """The directories of one file, each read in one piece."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.format = _FORMATS[file.head[:4]]
        self.first: int = self.format.link.unpack_from(file.head, self.format.start)[0]
        self.guess = 512  # bytes of a directory: as many as the one before had

    def directory(self, offset: int) -> tuple[_Tags, int] | None:
        """Tags at an offset and the offset of the next directory; None outside of the file."""
        _, _, length, entry, link = self.format
        block = self.file.at(offset, self.guess)
        if len(block) < length.size:
            return None
        (n,) = length.unpack_from(block)
        end = length.size + n * entry.size
        if n > 4096:
            return None
        self.guess = end + link.size
        if len(block) < self.guess:
            block = self.file.at(offset, self.guess)
            if len(block) < self.guess:
                return None
        entries = list(entry.iter_unpack(block[length.size : end]))
        entries.reverse()  # of a tag that is given twice, the first counts
        tags = {code: (kind, count, value) for code, kind, count, value in entries}
        return tags, link.unpack_from(block, end)[0]

    def integer(self, value: bytes) -> int:
        """Return the number that some bytes spell."""
        return int.from_bytes(value, self.format.endian)

    def bytes(self, tag: _Tag) -> bytes:
        """Return the value of a tag."""
        kind, count, value = tag
        size = count * _SIZES.get(kind, 0)
        if size <= len(value):
            return value[:size]
        (where,) = self.format.link.unpack(value)
        if where + size > self.file.size:
            raise self.file.cut_short(where + size)
        return self.file.at(where, size)

    def numbers(self, tag: _Tag) -> np.ndarray:
        """Integers of a tag."""
        size = _SIZES.get(tag[0], 1)
        value = self.bytes(tag)
        order = "<" if self.format.endian == "little" else ">"
        return np.frombuffer(value, f"{order}u{size}").astype(np.int64)

    def number(self, tags: _Tags, code: int, default: int) -> int:
        """Integer of a tag with one value."""
        if code not in tags:
            return default
        return self.integer(self.bytes((tags[code][0], 1, tags[code][2])))


class _Image(NamedTuple):
    """What the directory of a page says about its pixels."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    raw: bool  # stored as they are


def _image(chain: _Chain, tags: _Tags) -> _Image | None:
    """Shape, type and storage of a page; None where tifffile has to judge."""
    width = chain.number(tags, _WIDTH, 0)
    length = chain.number(tags, _LENGTH, 0)
    samples = chain.number(tags, _SAMPLES, 1)
    compression = chain.number(tags, _COMPRESSION, 1)
    photometric = chain.number(tags, _PHOTOMETRIC, 0)
    bits, form = (_common(chain, tags.get(code), samples) for code in (_BITS, _FORMAT))
    dtype = _dtype(form, bits)
    old_jpeg, ycbcr, rgb = compression == 6, photometric == 6, photometric == 2
    if dtype is None or not width or not length or old_jpeg or not _FOREIGN.isdisjoint(tags):
        return None
    shape: tuple[int, ...] = (length, width)
    if samples > 1 or rgb:
        planar = chain.number(tags, _PLANAR, 1) == 2
        shape = (samples, *shape) if planar else (*shape, samples)
    raw = (
        compression == 1
        and bits == 8 * dtype.itemsize
        and not ycbcr  # its colours may be subsampled
        and _TILE not in tags
        and chain.number(tags, _FILL_ORDER, 1) == 1
        and chain.number(tags, _PREDICTOR, 1) == 1
    )
    return _Image(shape, dtype.newbyteorder("<" if chain.format.endian == "little" else ">"), raw)


def _common(chain: _Chain, tag: _Tag | None, samples: int) -> int:
    """Return the one value that a tag gives for all samples (1 by default), else 0."""
    if tag is None:
        return 1
    if tag[1] == 1:
        return chain.number({0: tag}, 0, 0)
    values = chain.numbers(tag)[:samples]
    return int(values[0]) if values.size and (values == values[0]).all() else 0


def _dtype(form: int, bits: int) -> np.dtype[Any] | None:
    """Type of decoded samples (SampleFormat 1: unsigned, 2: signed, 3: float, 6: complex)."""
    if form == 1 and bits == 1:
        return np.dtype(bool)
    if form == 1 and 1 < bits <= 32:
        return np.dtype(f"u{1 if bits <= 8 else 2 if bits <= 16 else 4}")
    names = {1: (64,), 2: (8, 16, 32, 64), 3: (16, 32, 64), 6: (64, 128)}
    return np.dtype(f"{'?uif??c'[form]}{bits // 8}") if bits in names.get(form, ()) else None


def _shared(chain: _Chain, tags: _Tags) -> list[Any]:
    """Return what must be equal in all pages of one image."""
    found: list[Any] = [tags.get(code) for code in _SHARED]
    for code in (_BITS, _FORMAT):
        tag = tags.get(code)
        found.append(tag if tag is None or tag[1] == 1 else chain.bytes(tag))
    return found


def _mold(chain: _Chain, tags: _Tags) -> re.Pattern[bytes] | None:
    """Pattern of the directories that differ from one only in where things lie.

    Most pages of a stack are such, and to match one costs a third of taking it apart.
    """
    _, _, length, entry, link = chain.format
    parts = [re.escape(length.pack(len(tags)))]
    for code, (kind, count, value) in reversed(tags.items()):
        same = entry.pack(code, kind, count, value)
        size = _SIZES.get(kind, 0)
        if code in (_BITS, _FORMAT) and count * size > len(value):
            return None  # must be equal, and lies elsewhere
        if code == _OFFSETS:
            size = min(size, len(value))
            rest = len(value) - size
            parts.append(re.escape(same[: -len(value)]) + b"(?P<pixels>.{%d}).{%d}" % (size, rest))
        elif code in (*_SHARED, _BITS, _FORMAT):
            parts.append(re.escape(same))
        else:
            parts.append(re.escape(same[:2]) + b".{%d}" % (len(same) - 2))
    return re.compile(b"".join(parts) + b"(?P<link>.{%d})" % link.size, re.DOTALL)


def _pixels(chain: _Chain, tags: _Tags, image: _Image) -> int:
    """Offset of the pixels of a page that lie in a single strip."""
    if not image.raw or _OFFSETS not in tags:
        return ENCODED
    return chain.number(tags, _OFFSETS, 0) if tags[_OFFSETS][1] == 1 else ASK


def _run(offsets: np.ndarray, counts: np.ndarray, nbytes: int) -> int:
    """Offset of the pixels of a page if its strips follow each other."""
    if not offsets.size == counts.size > 0 or counts.sum() != nbytes:
        return ENCODED
    return int(offsets[0]) if (np.diff(offsets) == counts[:-1]).all() else ENCODED


def _stack_shape(
    chain: _Chain, tags: _Tags, page: tuple[int, ...], count: int
) -> tuple[int, ...] | None:
    """Shape of the stack of `count` like pages; None where tifffile has to judge."""
    text = chain.bytes(tags[_DESCRIPTION]) if _DESCRIPTION in tags else b""
    text = text.rstrip(b"\0 \n")
    if text.startswith(b"ImageJ="):
        said = dict(re.findall(rb"^(frames|slices|channels|order)=(\w+)", text, re.MULTILINE))
        if b"order" in said or len(page) > 2:
            return None
        lead = tuple(int(said.get(key, 1)) for key in (b"frames", b"slices", b"channels"))
        planes = math.prod(lead)
        if planes == 1:
            return (count, *page)
        return (*lead, *page) if planes and count in (1, planes) else None
    if shaped := re.match(rb'\{"shape": \[([\d, ]+)\]', text):
        shape = tuple(map(int, shaped[1].split(b",")))
        planes, rest = divmod(math.prod(shape), math.prod(page))
        return shape if planes and not rest and count in (1, planes) else None
    if count > 1:
        software = chain.bytes(tags[_SOFTWARE]) if _SOFTWARE in tags else b""
        if _TELLING.search(text) or _TELLING.search(software):
            return None
    return (count, *page)
