"""The page as one picture: a PNG, drawn by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.look.filemap import make_map
from xarray_tiffstack.look.files import STATES
from xarray_tiffstack.look.histogram import counts_of
from xarray_tiffstack.look.planes import NO_FILE

if TYPE_CHECKING:
    import os

    from xarray_tiffstack.look.preview import Preview

COLOURS = dict(
    zip(
        STATES,
        ("#37a868", "#f5d327", "#f0a020", "#d33a2c", "#7d1f86", "#3b6fd4", "#f7cdc9"),
        strict=True,
    )
)
WIDTH = 12.0  # inches
INSTALL = 'a PNG is drawn by matplotlib: pip install "xarray-tiffstack[plot]", or save as .html'


def save_png(shown: Preview, path: str | os.PathLike[str]) -> None:
    """Draw verdict, facts, planes, map and brightness; write it to a file."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(INSTALL) from error
    layers: list[list[np.ndarray | None]] = [
        *shown.drawn,
        *([shown.overlaid] if shown.overlaid else []),
    ]
    columns = len(shown.chosen.columns)
    wide = min(columns, 12)
    deep = len(layers) * -(-columns // wide)
    side = (WIDTH - 1.5) / wide * min(1.5, shown.shape[0] / shown.shape[1])
    heights = [
        0.19 * (len(shown.facts) + len(shown.verdict)) + 0.5,
        min(side, 2.2) * deep,
        _map_height(shown),
        1.4,
    ]
    figure = Figure(figsize=(WIDTH, sum(heights) + 1.2), layout="constrained", dpi=110)
    parts: Any = figure.subfigures(4, 1, height_ratios=heights)
    words, planes, files, brightness = parts
    _words(words, shown)
    _planes(planes, shown, layers, wide)
    if shown.files is not None:
        _files(files, shown)
    _brightness(brightness, shown)
    figure.savefig(path, format="png")


def _map_height(shown: Preview) -> float:
    """Inches for the map of the files."""
    rows = 1 if shown.files is None else len(make_map(shown.files).rows)
    return 0.7 + min(3.0, 0.14 * rows)


def _words(part: Any, shown: Preview) -> None:
    """Title, verdict and facts."""
    bad = any(finding.serious for finding in shown.findings)
    facts = [f"{name:>10}   {value}" for name, value in shown.facts.items()]
    axes = part.subplots()
    axes.axis("off")
    axes.set_title(_plain(shown.title), loc="left", fontsize=16, fontweight="bold")
    colour = "#b3261e" if bad else "#1f7a45"
    axes.text(0, 1, _plain("\n".join(shown.verdict)), color=colour, fontsize=12, va="top")
    lines = "\n".join([*[""] * (len(shown.verdict) + 1), *facts])
    axes.text(0, 1, _plain(lines), family="monospace", fontsize=9, va="top")


def _plain(text: str) -> str:
    r"""Keep matplotlib from reading $ as mathematics."""
    return text.replace("$", r"\$")


def _planes(part: Any, shown: Preview, layers: list[list[np.ndarray | None]], wide: int) -> None:
    """Pictures in rows; a long row goes on below."""
    names = [channel.name for channel in shown.chosen.channels] + ["overlaid"]
    columns = len(shown.chosen.columns)
    deep = -(-columns // wide)
    grid = part.subplots(len(layers) * deep, wide, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for row, drawn in enumerate(layers):
        for column, rgb in enumerate(drawn):
            axes = grid[row * deep + column // wide, column % wide]
            problem = shown.pictures[row][column].problem if row < len(shown.pictures) else NO_FILE
            if rgb is not None:
                axes.imshow(rgb, aspect=shown.shape[0] / shown.shape[1] / _ratio(rgb))
                if shown.bar is not None and row < len(shown.pictures):
                    axes.plot([0.95 - shown.bar[0], 0.95], [0.06, 0.06], color="white",
                              linewidth=2, transform=axes.transAxes)  # fmt: skip
            else:
                said = NO_FILE if problem == NO_FILE else "cannot be\nread"
                axes.text(0.5, 0.5, said, ha="center", va="center", fontsize=8,
                          color="#66707f" if problem == NO_FILE else "#d33a2c")  # fmt: skip
            if row * deep + column // wide == 0 or deep > 1:
                head = "\n".join(shown.heads[column]) if shown.heads else ""
                axes.set_title(_plain(head), fontsize=8)
            if column == 0:
                axes.text(-0.05, 0.5, _plain(names[row]), rotation=90, ha="right", va="center",
                          fontsize=8, transform=axes.transAxes)  # fmt: skip
    part.supxlabel(_plain(shown.caption), fontsize=8, x=0.02, ha="left")


def _ratio(rgb: np.ndarray) -> float:
    return float(rgb.shape[0] / rgb.shape[1])


def _files(part: Any, shown: Preview) -> None:
    """Map of the files."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    assert shown.files is not None
    drawn = make_map(shown.files)
    wide = max(len(squares) for _, squares in drawn.rows)
    cells = np.full((len(drawn.rows), wide), -1)
    for row, (_, squares) in enumerate(drawn.rows):
        for column, square in enumerate(squares):
            if square is not None:
                cells[row, column] = STATES.index(square.state)
    axes = part.subplots()
    colours = ListedColormap(["#eef1f5", *COLOURS.values()])
    axes.pcolormesh(cells, cmap=colours, vmin=-1.5, vmax=len(STATES) - 0.5,
                    edgecolors="#8888" if wide <= 100 else "none", linewidth=0.4)  # fmt: skip
    axes.invert_yaxis()
    few = len(drawn.rows) <= 16
    axes.set_yticks(
        np.arange(len(drawn.rows)) + 0.5 if few else [],
        [_plain(name) for name, _ in drawn.rows] if few else [],
        fontsize=7,
    )
    ends = drawn.columns or [""]
    axes.set_xticks([0.5, wide - 0.5], [_plain(ends[i]) for i in (0, -1)], fontsize=7)
    axes.set_title("Files", loc="left", fontsize=9)
    there = [STATES[i] for i in np.unique(shown.files.states)]
    handles = [Patch(facecolor=COLOURS[s], edgecolor="#888", label=s) for s in there]
    axes.legend(handles=handles, fontsize=7, ncols=len(handles), loc="lower right",
                bbox_to_anchor=(1, 1), frameon=False)  # fmt: skip


def _brightness(part: Any, shown: Preview) -> None:
    """Histogram of each channel."""
    every = part.subplots(1, len(shown.pictures), squeeze=False)[0]
    for axes, channel, pictures, limits in zip(
        every, shown.chosen.channels, shown.pictures, shown.limits, strict=True
    ):
        colour = "#66707f" if channel.colour == "FFFFFF" else f"#{channel.colour}"
        counts, borders = counts_of(pictures)
        axes.stairs(counts, borders, fill=True, color=colour)
        axes.set_yscale("symlog")
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
        for at in limits:
            axes.axvline(at, color="#1d2530", linestyle="--", linewidth=0.8)
        axes.set_title(_plain(channel.name), fontsize=8)
