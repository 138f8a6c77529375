"""The page that shows an acquisition: HTML with pictures in it, without any script or request."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from xarray_tiffstack.look.filemap import map_html
from xarray_tiffstack.look.histogram import histogram_svg
from xarray_tiffstack.look.picture import data_uri
from xarray_tiffstack.look.planes import NO_FILE, saturated
from xarray_tiffstack.look.words import label_text
from xarray_tiffstack.wells import letters

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from xarray_tiffstack.look.findings import Finding
    from xarray_tiffstack.look.planes import Channel, Picture
    from xarray_tiffstack.look.preview import Preview

SIDE = 176  # longest side of a picture, in pixels of the page
LISTED = 100  # names of one kind that a page lists
STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
# Nothing may be loaded or run, even if a name of a file should get past the escaping.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def whole_page(shown: Preview) -> str:
    """Make a file that needs no other."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(shown.title)}</title>\n<style>body{{margin:0;background:#fff}}</style>\n"
        f"</head><body>\n{body(shown)}\n</body></html>\n"
    )


def body(shown: Preview) -> str:
    """Make the part that a notebook shows."""
    good = not any(finding.serious for finding in shown.findings)
    verdict = "<br>".join(map(escape, shown.verdict))
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in shown.facts.items())
    parts = [
        f"<h1>{escape(shown.title)}</h1>",
        f"<p class='ts-verdict {'ts-good' if good else 'ts-bad'}'>{verdict}</p>",
        f"<dl class=ts-facts>{facts}</dl>",
    ]
    if shown.findings:
        parts.append(f"<h2>Not like the others</h2>{''.join(map(finding_html, shown.findings))}")
    parts.append(f"<h2>Planes</h2>{_film(shown)}<p class=ts-note>{escape(shown.caption)}</p>")
    if shown.files is not None:
        parts.append(f"<h2>Files</h2>{map_html(shown.files)}")
    parts.append(f"<h2>Brightness</h2>{_histograms(shown)}")
    parts.append(f"<h2>Open it in Python</h2><pre>{escape(shown.call)}</pre>")
    return f"<style>{STYLE}</style><div class=ts-page>{''.join(parts)}</div>"


def finding_html(finding: Finding) -> str:
    """One kind of thing that is not as it should be; long lists are folded."""
    items = "".join(f"<li>{escape(item)}</li>" for item in finding.items[:LISTED])
    if len(finding.items) > LISTED:
        items += f"<li>... and {len(finding.items) - LISTED:,} more</li>"
    opened = " open" if len(finding.items) <= 10 else ""
    head = f"<summary><b>{escape(finding.name)}</b> {finding.number:,}</summary>"
    return f"<details{opened}>{head}<ul>{items}</ul></details>"


# --- planes -----------------------------------------------------------------------------------


def _film(shown: Preview) -> str:
    """Draw the pictures: a row for each channel, or for each channel a plate."""
    rows = list(zip(shown.chosen.channels, shown.pictures, shown.drawn, strict=True))
    if shown.chosen.wells:
        plates = (
            f"<p>{_dot(c)}</p><div class=ts-film>{_plate(shown, p, d)}</div>" for c, p, d in rows
        )
        return "".join(plates)
    wide = 900 // len(shown.chosen.columns) - 4
    side = max(64, min(SIDE, wide * max(shown.shape) // shown.shape[1]))
    heads = "".join(f"<th>{'<br>'.join(map(escape, head))}</th>" for head in shown.heads)
    lines = [
        _row(
            _dot(channel), [_shot(shown, *each, side) for each in zip(pictures, drawn, strict=True)]
        )
        for channel, pictures, drawn in rows
    ]
    if shown.overlaid:
        box = _box(shown, side)
        shots = (
            f"<span class=ts-shot {box}><img src='{data_uri(rgb)}' alt=''></span>"
            if rgb is not None
            else f"<span class='ts-shot ts-none' {box}></span>"
            for rgb in shown.overlaid
        )
        lines.append(_row("overlaid", shots))
    head = f"<thead><tr><th></th>{heads}</tr></thead>" if shown.heads else ""
    return f"<div class=ts-film><table>{head}<tbody>{''.join(lines)}</tbody></table></div>"


def _row(head: str, shots: Iterable[str]) -> str:
    return f"<tr><th>{head}</th>{''.join(f'<td>{shot}</td>' for shot in shots)}</tr>"


def _plate(shown: Preview, pictures: Sequence[Picture], drawn: Sequence[np.ndarray | None]) -> str:
    """Draw the wells where they lie, without the empty rim of the plate."""
    wells = dict(zip(shown.chosen.wells, zip(pictures, drawn, strict=True), strict=True))
    rows, columns = (sorted({well[i] for well in wells}) for i in (0, 1))
    across = range(columns[0], columns[-1] + 1)
    side = max(28, min(128, 900 // len(across) - 4))
    nothing = f"<span class='ts-shot ts-well' {_box(shown, side)}></span>"
    lines = [
        _row(
            letters(row),
            [_shot(shown, *wells[row, c], side) if (row, c) in wells else nothing for c in across],
        )
        for row in range(rows[0], rows[-1] + 1)
    ]
    heads = "".join(f"<th>{column + 1}</th>" for column in across)
    return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _dot(channel: Channel) -> str:
    if not channel.name:
        return "all"
    return f"<span class=ts-dot style='background:#{channel.colour}'></span>{escape(channel.name)}"


def _box(shown: Preview, side: int) -> str:
    """Size of a picture on the page."""
    height, width = (max(12, round(side * n / max(shown.shape))) for n in shown.shape)
    return f"style='width:{width}px;height:{height}px'"


def _shot(shown: Preview, picture: Picture, drawn: np.ndarray | None, side: int) -> str:
    """Draw one picture, or what is wrong with it; its file is in the tooltip."""
    box = _box(shown, side)
    below = shown.files.below(picture.file) if shown.files is not None else picture.file
    tip = ": ".join(filter(None, (picture.where, below)))
    if drawn is None:
        missing = picture.problem == NO_FILE
        kind, said = ("ts-none", NO_FILE) if missing else ("ts-fault", "cannot be read")
        tip = escape(tip if missing else f"{picture.where}: {picture.problem}")
        return f"<span class='ts-shot {kind}' title='{tip}' {box}>{said}</span>"
    tip = escape(f"{tip} ({label_text(picture.low)} to {label_text(picture.high)})")
    scale = "" if shown.bar is None else f"<s style='width:{100 * shown.bar[0]:.1f}%'></s>"
    image = f"<img src='{data_uri(drawn)}' alt=''>"
    return f"<span class=ts-shot title='{tip}' {box}>{image}{scale}</span>"


# --- brightness -------------------------------------------------------------------------------


def _histograms(shown: Preview) -> str:
    figures = []
    for channel, pictures, limits in zip(
        shown.chosen.channels, shown.pictures, shown.limits, strict=True
    ):
        seen = [p for p in pictures if not p.problem]
        if not seen:
            figures.append(f"<figure><figcaption>{_dot(channel)}: no plane</figcaption></figure>")
            continue
        low, high = min(p.low for p in seen), max(p.high for p in seen)
        said = [f"{_dot(channel)}: {label_text(low)} to {label_text(high)}"]
        if (full := saturated(seen, shown.dtype)) is not None:
            share = f"{100 * full[1]:.2g} %" if full[1] >= 1e-6 else "a few"
            said.append(f"<b>saturated</b>: {share} of the pixels are {full[0]}")
        drawing = histogram_svg(seen, _dark(channel.colour), *limits)
        figures.append(f"<figure>{drawing}<figcaption>{'<br>'.join(said)}</figcaption></figure>")
    note = "How often each value occurs in the planes above, by powers of ten. Dashed: what is "
    note += "drawn black, and in full colour."
    return f"<div class=ts-histograms>{''.join(figures)}</div><p class=ts-note>{note}</p>"


def _dark(colour: str) -> str:
    """White bars would not be seen on a white page."""
    return "66707F" if colour == "FFFFFF" else colour
