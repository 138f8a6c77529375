"""How often each brightness occurs in a channel, as a small drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_tiffstack.look.planes import Picture

BINS = 96
WIDTH, HEIGHT = 288, 72


def counts_of(pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels sampled from all pictures; also gives the borders of the bins."""
    samples = [p.sample[np.isfinite(p.sample)] for p in pictures if p.sample.size]
    pixels = np.concatenate(samples) if samples else np.zeros(1)
    low, high = float(pixels.min()), float(pixels.max())
    whole = bool((pixels[:1000] % 1 == 0).all())
    # Integers fall into bins of the same number of values each, or the drawing has teeth.
    step = max(1.0, np.ceil((high - low + 1) / BINS)) if whole else max(high - low, 1e-9) / BINS
    borders = low - 0.5 * whole + step * np.arange(int(np.ceil((high - low) / step)) + 2)
    return np.histogram(pixels, borders)


def histogram_svg(pictures: Sequence[Picture], colour: str, black: float, white: float) -> str:
    """Draw the counts, in steps of ten times as many, and where black and full colour are."""
    counts, borders = counts_of(pictures)
    span = borders[-1] - borders[0]
    height = np.log10(counts + 1) / max(np.log10(counts.max() + 1), 1e-9) * (HEIGHT - 4)
    left = (borders - borders[0]) / span * WIDTH
    steps = "".join(
        f"V{HEIGHT - h:.1f}H{x:.1f}"
        for h, x in zip(height.tolist(), left[1:].tolist(), strict=True)
    )
    marks = "".join(
        f"<path d='M{(at - borders[0]) / span * WIDTH:.1f} 0V{HEIGHT}' class=ts-mark />"
        for at in (black, white)
        if borders[0] <= at <= borders[-1]
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width={WIDTH} height={HEIGHT} role=img>"
        f"<path d='M0 {HEIGHT}{steps}V{HEIGHT}Z' fill='#{colour}' class=ts-bars />{marks}</svg>"
    )
