"""How strips and tiles were made of pixels: found by trying, and each try compared with the file.

The encoders are those of imagecodecs. What one of them makes may change with its version, so what
is said of an encoder names that version.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass, replace
from struct import unpack_from
from typing import TYPE_CHECKING, Any, Literal

import imagecodecs
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Shape = tuple[int, int, int, int]
"""Depth, length, width and samples of a strip or tile."""

# Encoders of the compressions that lose nothing, and the levels of each that programs use.
_LEVELS = (6, 9, 1, 2, 3, 4, 5, 7, 8)
_CODECS: dict[int, tuple[tuple[str, tuple[int, ...]], ...]] = {
    1: (("none", (0,)),),
    5: (("lzw", (0,)), ("libtiff_lzw", (0,))),
    8: (("zlib", _LEVELS), ("deflate", (*_LEVELS, 10, 11, 12)), ("zlibng", _LEVELS)),
    32773: (("packbits", (0,)), ("libtiff_packbits", (0,))),
    34925: (("lzma", (6, 9, *range(6), 7, 8)),),
    50000: (("zstd", (3, 9, 1, 2, *range(4, 9), 10, 12, 15, 19, 22)),),
}
_CODECS |= {32946: _CODECS[8], 34926: _CODECS[50000]}
_PREDICTORS = {1: "none", 2: "difference", 3: "float"}
_FILLS: tuple[Literal["zero", "edge"], ...] = ("zero", "edge")


@dataclass(frozen=True)
class Encoder:
    """All that decides which bytes a strip or tile becomes."""

    codec: str
    """Name of the encoder in imagecodecs; ``"libtiff_lzw"`` and the like where libtiff, which many
    programs use, makes other bytes; or ``"none"``."""
    level: int
    predictor: int
    """As the TIFF tag numbers it: 1 none, 2 differences, 3 for floats."""
    order: Literal["<", ">"]
    """Order of the bytes of a number."""
    bits: int = 0
    """Bits of a sample where they are packed; else 0."""
    fill: Literal["zero", "edge"] = "zero"
    """What is in a tile beyond the edge of the page."""

    def encode(self, pixels: np.ndarray, shape: Shape) -> bytes:
        """Make the bytes of a strip or tile.

        Parameters
        ----------
        pixels
            Depth, length, width, samples; in a tile at the edge only those of the page.
        shape
            Of the strip or tile.
        """
        if pixels.shape != shape:
            beyond = [(0, n - m) for n, m in zip(shape, pixels.shape, strict=True)]
            pixels = np.pad(pixels, beyond, "edge" if self.fill == "edge" else "constant")
        data: Any = np.ascontiguousarray(pixels)
        if self.predictor == 2:
            data = imagecodecs.delta_encode(data, axis=-2, dist=1)
        elif self.predictor == 3:
            data = imagecodecs.floatpred_encode(data, axis=-2, dist=1)
        if self.bits:
            raw = imagecodecs.packints_encode(data, self.bits, runlen=shape[2] * shape[3])
        else:
            floats = self.predictor == 3  # which are in the order of their bytes' weight already
            raw = (data if floats else data.astype(data.dtype.newbyteorder(self.order))).tobytes()
        if self.codec == "none":
            return bytes(raw)
        if self.codec == "packbits":  # each row on its own
            return bytes(imagecodecs.packbits_encode(_rows(raw, shape), axis=-1))
        if self.codec.startswith("libtiff_"):
            return _by_libtiff(_rows(raw, shape), self.codec.removeprefix("libtiff_"))
        encode = getattr(imagecodecs, f"{self.codec}_encode")
        return bytes(encode(raw) if self.codec == "lzw" else encode(raw, self.level))

    def as_json(self) -> dict[str, Any]:
        """Say it in numbers and words."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Encoder:
        """Read what `as_json` said."""
        return cls(**said)


def _rows(raw: Any, shape: Shape) -> np.ndarray:
    return np.frombuffer(raw, np.uint8).reshape(shape[0] * shape[1], -1)


def _by_libtiff(rows: np.ndarray, compression: str) -> bytes:
    """Have libtiff write a file of one strip of bytes, and take the strip out of it."""
    data = imagecodecs.tiff_encode(
        rows, compression=compression, rowsperstrip=len(rows), bigtiff=False, byteorder="<"
    )
    (at,) = unpack_from("<I", data, 4)
    (count,) = unpack_from("<H", data, at)
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        code, kind = unpack_from("<HH", data, entry)
        (tags[code],) = unpack_from("<H" if kind == 3 else "<I", data, entry + 8)
    return bytes(data[tags[273] : tags[273] + tags[279]])


VERSION = f"imagecodecs {imagecodecs.__version__}"
"""Whose encoders these are."""

# Encoders that made what was seen before: the files of a folder have one program in common.
_recent: deque[tuple[str, int]] = deque(maxlen=4)
_vain: Counter[int] = Counter()
"""Strips or tiles of a compression that nothing made, one after the other."""
_MOST_VAIN = 3  # after which only the usual levels are tried: the others take too long


def find(
    raw: bytes,
    pixels: np.ndarray,
    shape: Shape,
    compression: int,
    predictor: int,
    order: Literal["<", ">"],
    bits: int,
) -> Encoder | None:
    """Find what makes the bytes of a strip or tile of its pixels; None where nothing does.

    Parameters
    ----------
    raw
        What is in the file.
    pixels, shape
        As for `Encoder.encode`.
    compression, predictor
        As the tags of the page number them.
    order
        Order of the bytes of a number in the file.
    bits
        Of a sample, where they are packed; else 0.
    """
    if predictor not in _PREDICTORS:
        return None
    plain = Encoder("none", 0, predictor, order, bits)
    fills = _FILLS if pixels.shape != shape else _FILLS[:1]
    for codec, level in _tries(compression, raw):
        for fill in fills:
            encoder = replace(plain, codec=codec, level=level, fill=fill)
            if makes(encoder, raw, pixels, shape):
                if (codec, level) not in _recent:
                    _recent.append((codec, level))
                _vain[compression] = 0
                return encoder
    _vain[compression] += 1
    return None


def makes(encoder: Encoder, raw: bytes, pixels: np.ndarray, shape: Shape) -> bool:
    """Whether an encoder makes just these bytes."""
    try:
        return encoder.encode(pixels, shape) == raw
    except Exception:  # an encoder that is not built in, or knows no such pixels
        return False


def _tries(compression: int, raw: bytes) -> Iterator[tuple[str, int]]:
    """List encoders and levels to try, those first that were right before; libtiff's last.

    An older imagecodecs does not have those.
    """
    most = 1 if _vain[compression] >= _MOST_VAIN else None
    known = [(c, level) for c, levels in _CODECS.get(compression, ()) for level in levels[:most]]
    recent = [each for each in tuple(_recent) if each in known]
    yield from (each for each in recent if not each[0].startswith("libtiff_"))
    known = [each for each in known if each not in recent or each[0].startswith("libtiff_")]
    if compression in (8, 32946) and len(raw) > 1:  # zlib's header says of which levels it is
        said = {0: (0, 1), 1: (2, 3, 4, 5), 2: (6,), 3: (7, 8, 9)}[raw[1] >> 6]
        known.sort(key=lambda each: each[0] != "zlib" or each[1] not in said)
        known = [each for each in known if each[0] != "zlib" or each[1] in said]
    yield from known
