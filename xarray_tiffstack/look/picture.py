"""How gray values become a coloured PNG, and how long a scale bar is."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

GRAYS = 48  # steps of brightness; fewer make smaller files


def coloured(
    small: np.ndarray, low: float, high: float, colour: str, *, pure: bool = False
) -> np.ndarray:
    """Colour a picture: black, the channel's colour at 3/4, and towards white at the end.

    Or, `pure`, the channel's colour at the end: red, green and blue add up to a photograph.
    """
    span = high - low if high > low else 1.0
    level = np.clip((np.nan_to_num(small, nan=low) - low) / span, 0, 1)
    level = (level * (GRAYS - 1)).round().astype(np.uint8)
    return np.asarray(ramp(colour, pure)[level])


def ramp(colour: str, pure: bool = False) -> np.ndarray:
    """Colours from dark to bright, (steps, 3), uint8."""
    full = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)], float)
    level = np.linspace(0, 1, GRAYS)[:, None]
    if pure or full.min() == full.max():
        return np.asarray((level * full).round().astype(np.uint8))
    bright = full + (255 - full) * 0.6
    rising = np.minimum(level / 0.75, 1) * full
    return np.asarray((rising + np.clip(level - 0.75, 0, 1) * 4 * (bright - full)).astype(np.uint8))


def overlaid(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Add coloured pictures as light adds."""
    height, width = (min(layer.shape[axis] for layer in layers) for axis in (0, 1))
    total = sum(layer[:height, :width].astype(np.uint16) for layer in layers)
    return np.minimum(total, 255).astype(np.uint8)


def data_uri(rgb: np.ndarray) -> str:
    """PNG within an address, so that a page needs no other file."""
    png = imagecodecs.png_encode(np.ascontiguousarray(rgb), level=9)
    return "data:image/png;base64," + base64.b64encode(png).decode()


def bar(width: float) -> tuple[float, str]:
    """Length of a scale bar that fits in a fifth to a half of a width, both in micrometers.

    Examples
    --------
    >>> bar(78.3), bar(4210), bar(0.9)
    ((20.0, '20 µm'), (1000.0, '1 mm'), (0.2, '200 nm'))
    """
    power = 10.0 ** np.floor(np.log10(width / 2))
    length = float(max(n * power for n in (1, 2, 5) if n * power <= width * 0.45 or n == 1))
    if length >= 1000:
        return length, f"{length / 1000:g} mm"
    return (length, f"{length:g} µm") if length >= 1 else (length, f"{length * 1000:g} nm")
