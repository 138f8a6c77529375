"""Names in the style of nobody: read as they were written, or refused."""

from __future__ import annotations

import json
import re
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from xarray_tiffstack.names.infer import Inference, infer
from xarray_tiffstack.names.pattern import Pattern

if TYPE_CHECKING:
    from pathlib import Path

DYES = ["DAPI", "GFP", "TRITC"]
TWO, FOUR, TWELVE = [0, 1], [1, 2, 3, 4], list(range(12))

# What wrote the names, and what is read from them again; all tokens vary over a full grid.
FAMILIES = [
    ("488_300mW_642_350mW_ch{channel:d}_t{t:04d}.tif", {"channel": TWO, "t": TWELVE}),
    ("img_t{t:d}_z{z:d}.tif", {"t": TWELVE, "z": TWELVE}),
    (
        "20240301_mouse3_10x_XY{position:02d}_T{t:03d}_C{channel:d}.tif",
        {"position": FOUR, "t": TWELVE, "channel": TWO},
    ),
    ("run5-{f:03d}f-{z:02d}z-{channel:d}c.tiff", {"f": FOUR, "z": TWELVE, "channel": TWO}),
    (
        "T{t:04d}F{field:03d}Z{z:02d}C{channel:02d}.tif",
        {"t": TWELVE, "field": FOUR, "z": TWO, "channel": TWO},
    ),
    (
        "{x_offset:03d}x_{y_offset:03d}y_{z_offset:03d}z_{t:04d}t.tif",
        {"x_offset": TWO, "y_offset": FOUR, "z_offset": TWO, "t": TWELVE},
    ),
    ("scan_z={z:f}um_ch={channel:d}.tif", {"z": [-0.5, 0.25, 8.5521], "channel": TWO}),
    ("bead z{z:f}um.tif", {"z": [0.5, 1.5, 10.25]}),
    ("a.t{t:03d}.z{z:03d}.tif", {"t": FOUR, "z": TWELVE}),
    ("embryo.{embryo:03d}.{n:03d}.tif", {"embryo": FOUR, "n": TWELVE}),
    ("angle{angle:d}_view{view:d}_tp{t:d}.tif", {"angle": [0, 45, 270], "view": TWO, "t": FOUR}),
    ("rot{angle:d}_side_{side:d}.tif", {"angle": [-90, 0, 90], "side": TWO}),
    ("slice_{z:03d}.TIF", {"z": TWELVE}),
    (
        "exp_Pos_{position:03d}_time_{t:02d}_channel_{channel:d}.tif",
        {"position": FOUR, "t": TWELVE, "channel": TWO},
    ),
    ("{t:03d}_time_{z:02d}_slice.tif", {"t": FOUR, "z": TWELVE}),
    ("A_{dye:l}_t{t:d}.tif", {"dye": DYES, "t": TWELVE}),
    ("stack{stack:04d}_{wavelength:d}nm.tif", {"stack": TWELVE, "wavelength": [488, 560, 642]}),
    ("exc_{wavelength:d}_p{p:d}.tif", {"wavelength": [405, 488, 561], "p": TWELVE}),
    ("sample_{wavelength:d}_{n:03d}.tif", {"wavelength": [405, 488, 640], "n": TWELVE}),
    (
        "plate7_{well:w}_s{site:d}_w{channel:d}.tif",
        {"well": ["A01", "A02", "H12"], "site": FOUR, "channel": FOUR},
    ),
    ("{well:w}-{dye:l}.tif", {"well": ["B2", "B10", "C2", "C10"], "dye": DYES}),
    (
        "r{row:02d}c{col:02d}f{field:02d}-ch{channel:d}.tiff",
        {"row": FOUR, "col": TWELVE, "field": TWO, "channel": TWO},
    ),
    ("Cam{camera:l}_ch{ch:d}_cyc{cycle:03d}.tif", {"camera": ["A", "B"], "ch": TWO, "cycle": FOUR}),
    (
        "round{round:d}/fov_{field:03d}_{dye:w}.tif",
        {"round": FOUR, "field": TWELVE, "dye": ["Cy3", "Cy5", "DAPI"]},
    ),
    ("t{t:03d}/c{channel:d}/slice{z:03d}.tif", {"t": FOUR, "channel": TWO, "z": TWELVE}),
    ("tile_r{row:d}_c{col:d}_z{z:04d}.tif", {"row": FOUR, "col": FOUR, "z": TWO}),
    (
        "organoid[[{m:d}]]_{{c{c:d}}}.tif".replace("[[{", "[[m{"),
        {"m": FOUR, "c": TWO},
    ),
    ("z5_zoom4_W{well:04d}_CH{channel:d}.tif", {"well": TWELVE, "channel": TWO}),
    ("2 x 3 tiles (xy {position:d}) time {t:02d}.tif", {"position": FOUR, "t": TWELVE}),
    ("Image-{n:d}.tif", {"n": TWELVE}),
    ("x={x_position:f}_y={y_position:f}.tif", {"x_position": [0.5, 13], "y_position": [0, 12.5]}),
    ("drug{drug:d}uM_s{s:d}_site{site:d}.tif", {"drug": FOUR, "s": TWO, "site": FOUR}),
    ("{n:06d}.tif", {"n": TWELVE}),
    ("dish-{dish:d}_{n:d}.tif", {"dish": TWO, "n": TWELVE}),
    ("sk{sk:d}fk{fk:d}.tif", {"sk": TWO, "fk": FOUR}),
    (
        "iter{iter:02d}_stk{stack:03d}_Filter{channel:04d}.ome.tif",
        {"iter": FOUR, "stack": TWELVE, "channel": TWO},
    ),
    ("pos{position:d}_t{time:d}ms.tif", {"position": TWO, "time": [0, 250, 500, 1000]}),
    (
        "region{region:d}_scene{scene:d}_illum{illumination:d}.tif",
        {"region": FOUR, "scene": TWO, "illumination": TWO},
    ),
    ("probe{probe:d}_TL Brightfield_field{field:d}.tif", {"probe": TWELVE, "field": TWO}),
]


def written(template: str, values: dict[str, list[object]]) -> list[str]:
    pattern = Pattern(template)
    return sorted(
        pattern.compose(**dict(zip(values, cell, strict=True)))
        for cell in product(*values.values())
    )


@pytest.mark.parametrize(("template", "values"), FAMILIES, ids=[one[0] for one in FAMILIES])
def test_the_template_that_wrote_the_names_is_found(
    template: str, values: dict[str, list[object]]
) -> None:
    found = infer(written(template, values))
    assert found.template == template, found.reasons
    assert found.unmatched == ()
    assert len(found.reasons) == len(values)


@pytest.mark.parametrize(("template", "values"), FAMILIES, ids=[one[0] for one in FAMILIES])
def test_the_order_of_the_names_and_some_holes_change_nothing(
    template: str, values: dict[str, list[object]]
) -> None:
    names = written(template, values)
    holes = [name for place, name in enumerate(names) if place % 11 != 7][::-1]
    assert infer(holes).template == template
    assert infer(names[::-1]) == infer(names)


MARKERS = {
    "channel": ["ch", "c", "C", "Channel", "CHN"],
    "t": ["t", "T", "tp", "time", "Frame", "TIMEPOINT"],
    "z": ["z", "Z", "slice", "plane", "ZStep"],
    "position": ["pos", "xy", "XY", "Position", "p"],
    "field": ["f", "fov", "Field"],
    "site": ["s", "SITE"],
    "stack": ["stack", "Stk"],
    "angle": ["ang", "Angle"],
    "cycle": ["cyc", "Cycle"],
    "view": ["view"],
}
PREFIXES = [
    "",
    "exp",
    "488_300mW_642_350mW",
    "2024-03-01_test",
    "20240301_mouse3_10x",
    "ex6-2",
    "z5_zoom4-1",
    "A1_B2",
    "0.41_0.1_GEM12",
    "100ms_5um",
    "a.b",
    "Scan_Iter_0000",
    "c3_488nm",
]


@st.composite
def acquisitions(draw: st.DrawFn) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """What names say: values a file of each axis; the marker of each; and the names."""
    axes = draw(st.lists(st.sampled_from(sorted(MARKERS)), min_size=1, max_size=4, unique=True))
    markers = [draw(st.sampled_from(MARKERS[axis])) for axis in axes]
    style = draw(st.sampled_from(["glued", "glued", "after", "=", "_", "-"]))
    between = draw(st.sampled_from(["_", "-", "--", " ", "__", "."]))
    prefix = draw(st.sampled_from(PREFIXES))
    suffix = draw(st.sampled_from(["", "_raw", "_488nm", "_v2"]))
    widths = [draw(st.sampled_from([1, 1, 2, 3, 4])) for _ in axes]
    values = [
        draw(st.integers(0, 120)) + draw(st.sampled_from([1, 1, 2, 5])) * np.arange(draw(size))
        for _ in axes
        for size in [st.integers(2, 9)]
    ]
    cells = np.array(list(product(*values)))
    if draw(st.booleans()):
        cells = cells[draw(st.permutations(range(len(cells))))[: len(cells) * 9 // 10]]
    names = []
    for cell in cells:
        words = [f"{value:0{width}d}" for value, width in zip(cell, widths, strict=True)]
        inner = "" if style in ("glued", "after") else style
        parts = [
            word + marker if style == "after" else marker + inner + word
            for marker, word in zip(markers, words, strict=True)
        ]
        names.append(between.join([prefix, *parts] if prefix else parts) + suffix + ".tif")
    # C10 and C11 beside a field or a site are places in a plate, and were no channels.
    assume(
        "C" not in markers
        or {"field", "site"}.isdisjoint(axes)
        or not any(re.search("(?<![A-Za-z])C[0-9]{2}(?![0-9])", name) for name in names)
    )
    return dict(zip(axes, cells.T, strict=True)), markers, names


def readings(values: np.ndarray, names: list[str]) -> dict[str, list[float]]:
    """Read values as they were meant, and as decimals: "ex6-2.0ang" may be an angle of 2.0.

    The keys are letters before a decimal number, by which it may be called.
    """
    found = [re.findall(r"([A-Za-z]*)(\d+\.(\d+))", name) for name in names]
    right = {"meant": values.tolist()}
    for decimals in zip(*found, strict=False):
        if [int(after) for _, _, after in decimals] == values.tolist():
            right[decimals[0][0].lower()] = [float(number) for _, number, _ in decimals]
    return right


def test_made_up_names_are_read_rightly_or_refused() -> None:
    outcomes = []

    @given(acquisitions())
    @example(({"angle": np.array([0, 1])}, ["ang"], ["ex6-2.0ang.tif", "ex6-2.1ang.tif"]))
    @example(({"angle": np.array([0, 1])}, ["ang"], ["A1_B2.0ang.tif", "A1_B2.1ang.tif"]))
    @example(({"angle": np.array([0, 1])}, ["ang"], ["0.4_GEM2.0ang.tif", "0.4_GEM2.1ang.tif"]))
    @example(
        (
            {"channel": np.array([2, 2, 3, 3]), "field": np.array([0, 1, 0, 1])},
            ["C", "f"],
            ["C2_f0.tif", "C2_f1.tif", "C3_f0.tif", "C3_f1.tif"],
        )
    )  # not wells of row C
    @settings(max_examples=150, deadline=None)
    def check(acquisition: tuple[dict[str, np.ndarray], list[str], list[str]]) -> None:
        truth, markers, names = acquisition
        found = infer(names)
        outcomes.append(found.template is not None)
        if found.template is None:
            assert found.reasons
            return
        fits, columns = Pattern(found.template).parse_names(names)
        assert fits.all()
        own = dict(zip(truth, map(str.lower, markers), strict=True))
        varying = {axis: values for axis, values in truth.items() if len({*values.tolist()}) > 1}
        assert len(columns) == len(varying), found.template
        for axis, values in varying.items():
            right = readings(values, names)
            same = [name for name, column in columns.items() if column.tolist() in right.values()]
            # Bare letters after a number may be a unit or a marker; then the axis is not named, or
            # a decimal number has the name of the letters before it.
            known = {axis, own[axis], *right}
            assert any(
                name.lower() in known or re.fullmatch("n[0-9]*|time", name) for name in same
            ), found.template

    check()
    assert np.mean(outcomes) >= 0.6  # refusing is no answer


def refused(names: list[str], reason: str) -> Inference:
    found = infer(names)
    assert found.template is None
    assert found.pattern is None
    assert reason in "\n".join(found.reasons)
    return found


def test_two_kinds_of_names_half_and_half_are_refused_with_a_template_for_each() -> None:
    names = [f"fish_t{t}.tif" for t in range(9)] + [f"mouse-2-z{z}.tif" for z in range(8)]
    found = refused(names, "several ways")
    assert found.candidates == ("fish_t{t:d}.tif", "mouse-2-z{z:d}.tif")


def test_a_few_other_files_are_left_over() -> None:
    names = [f"img_c{c}_t{t}.tif" for c in range(3) for t in range(9)]
    found = infer([*names, "flatfield.tif", "dark-2.tif"])
    assert found.template == "img_c{channel:d}_t{t:d}.tif"
    assert found.unmatched == ("flatfield.tif", "dark-2.tif")


def test_files_that_continue_others_are_not_left_over() -> None:
    names = [f"img_{n}.tif" for n in range(1, 12)]
    assert refused([*names, "img.tif"], "a part more or less").candidates == ("img_{n:d}.tif",)


def test_two_files_in_one_cell_are_refused() -> None:
    refused(["a_t1_c1.tif", "a_t01_c2.tif", "a_t2_c1.tif", "a_t02_c2.tif"], "padded")
    refused(["a_t1.tif", "a_t1.tiff", "a_t2.tif", "a_t2.tiff"], "in a slot")


def test_a_grid_of_mostly_holes_is_refused() -> None:
    names = [f"a_t{(7 * n) % 31}_z{(11 * n) % 37}.tif" for n in range(40)]
    assert refused(names, "most would be empty").candidates == ("a_t{t:d}_z{z:d}.tif",)


def test_numbers_without_markers_and_with_many_holes_are_refused() -> None:
    names = [f"a_{n}_{m}.tif" for n in range(5) for m in range(7)]
    assert infer(names[:17] + names[18:]).template == "a_{n:d}_{n2:d}.tif"
    holes = [name for place, name in enumerate(names) if place % 3]
    assert refused(holes, "no marker").candidates == ("a_{n:d}_{n2:d}.tif",)


def test_a_dot_that_may_be_a_decimal_point_is_refused() -> None:
    refused([f"a_{n / 4}.tif" for n in range(9)], "decimal point")
    refused([f"a.b_{n}.{m}.tif" for n in range(3) for m in range(3)], "decimal point")


def test_fields_that_move_together_are_all_kept() -> None:
    lines = {0: 488, 1: 560, 2: 642}
    names = [
        f"ch{c}_{w}nm_t{t:02d}_{40 * t + c:05d}msec.tif" for c, w in lines.items() for t in range(9)
    ]
    found = infer(names)
    assert found.template == "ch{ch:d}_{wavelength:d}nm_t{t:02d}_{time:05d}msec.tif"
    assert found.tokens["time"].role == "clock"
    assert found.tokens["time"].units == "millisecond"


def test_a_field_that_repeats_another_is_read_once() -> None:
    names = [f"channel{c}/C{c}_t{t}.tif" for c in (1, 2) for t in range(12)]
    assert infer(names).template == "channel{}/C{channel:d}_t{t:d}.tif"


def test_a_running_number_is_no_reason_to_refuse() -> None:
    cells = product(range(3), range(5), range(4))
    names = [f"{n:05d}_t{t}_z{z}_p{p}.tif" for n, (t, z, p) in enumerate(cells)]
    assert infer(names).template == "{n:05d}_t{t:d}_z{z:d}_p{position:d}.tif"


def test_random_parts_and_dates_are_no_axes() -> None:
    ids = [f"{n:08X}-0F1A-4B2C-8D3E-{n * 977:012X}" for n in range(12)]
    found = infer([f"s{n % 3}_w{n // 3}{one}.tif" for n, one in enumerate(ids)])
    assert found.template == "s{site:d}_w{channel:1d}{guid}.tif"
    names = [f"2024-03-{n + 1:02d}T12-30-59_t{n:02d}.tif" for n in range(12)]
    found = infer(names)
    assert found.template == "{timestamp}_t{t:02d}.tif"
    assert found.tokens["timestamp"].role == "clock"
    found = infer([name.partition("_")[0] + ".tif" for name in names])
    assert found.template == "{timestamp}.tif"
    assert "timestamp" not in found.tokens  # an axis, as there is no other


def test_minus_is_a_sign_only_where_some_have_it() -> None:
    assert infer([f"z{z}.tif" for z in range(-3, 4)]).template == "z{z:d}.tif"
    assert infer([f"t-1_z{z}.tif" for z in range(-3, 4)]).template == "t-1_z{z:d}.tif"
    assert infer([f"z-{z}_t-{t}.tif" for z in range(4) for t in range(3)]).template == (
        "z-{z:d}_t-{t:d}.tif"
    )
    names = [f"Cam{c}-488nm-z{z}-t{t}.tif" for c in "AB" for z in (-5, 0, 5) for t in range(4)]
    assert infer(names).template == "Cam{camera:l}-488nm-z{z:d}-t{t:d}.tif"
    refused([f"z-{z}um.tif" for z in (0.5, 1.0, 1.5)], "minus")
    assert infer([f"a_{x:03d}x_{y:03d}y.tif" for x in (-1, 0, 1) for y in (0, 1)]).template == (
        "a_{x_offset:03d}x_{y_offset:03d}y.tif"
    )


def test_samples_are_no_channels() -> None:
    found = infer([f"{s}_t{t}.tif" for s in ("wildtype", "mutant") for t in range(5)])
    assert found.template == "{name:l}_t{t:d}.tif"
    found = infer([f"{s}/t{t}_c{c}.tif" for s in ("day1", "late") for t in range(5) for c in TWO])
    assert found.template == "{folder:w}/t{t:d}_c{channel:d}.tif"


def test_dyes_may_be_several_words_or_have_digits() -> None:
    dyes = ["TL Brightfield", "EGFP", "Alexa Fluor 488", "mCherry"]
    found = infer([f"{dye}-s{s:02d}.tif" for dye in dyes for s in range(9)])
    assert found.template == "{dye}-s{s:02d}.tif"
    found = infer([f"A1_{dye}_{t}.tif" for dye in ("Cy3", "Cy5") for t in range(4)])
    assert found.template == "A1_{dye:w}_{n:d}.tif"


def test_rows_and_columns_of_a_plate_are_no_tiles() -> None:
    names = [f"{row} - {col:02d}(fld {f}).tif" for row in "ABC" for col in FOUR for f in TWO]
    found = infer(names)
    assert found.template == "{row:l} - {col:02d}(fld {field:d}).tif"
    assert {found.tokens[name].role for name in ("row", "col")} == {"axis"}


def test_what_never_changes_stays_literal() -> None:
    found = infer([f"ex6-2/488_300mW_t{t}.tif" for t in range(3)])
    assert found.template == "488_300mW_t{t:d}.tif"
    assert infer(["only_ch0_t3.tif"]).template == "only_ch0_t3.tif"


def test_what_changes_seldom_is_seen_among_many_names() -> None:
    names = [f"a_p{p:02d}_t{t:05d}_z{z}.tif" for p in range(2) for t in range(6000) for z in TWO]
    assert infer(names).template == "a_p{position:02d}_t{t:05d}_z{z:d}.tif"
    assert infer([*names, "a_p00_t00000_z-1.tif"]).template == infer(names).template
    assert (
        infer([*names, "a_p00_t00000_z0.5.tif"]).template == "a_p{position:02d}_t{t:05d}_z{z:f}.tif"
    )
    found = infer([*names, "b_p00_t00000_z0.tif"])
    assert found.template == "{name:l}_p{position:02d}_t{t:05d}_z{z:d}.tif"
    assert infer([*names, "thumb.tif"]).unmatched == ("thumb.tif",)


@pytest.mark.parametrize("names", [[], ["a\nb.tif"], ["", ""]])
def test_odd_input_is_refused(names: list[str]) -> None:
    assert infer(names).template is None


# --- real names -----------------------------------------------------------------------------

# Sets that names alone do not explain: of several makes, or with derived files beside raw ones.
REFUSED = {"metaxpress_projection_mix", "thunder_tiny_lzw"}


def test_real_sets_are_read_as_the_truth_says(data: Path) -> None:
    truth = json.loads((data / "truth.json").read_text())
    left_out = set()
    for label, entry in truth.items():
        names = sorted(
            path.relative_to(data / label).as_posix()
            for path in (data / label).rglob("*")
            if re.search(r"\.tiff?$", path.name, re.IGNORECASE)
        )
        if not names:
            continue
        found = infer(names)
        if found.template is None:
            left_out.add(label)
            continue
        assert set(found.unmatched) <= set(entry["not_in_array"]), label
        _, columns = Pattern(found.template).parse_names(names)
        read = [name for name in names if name not in found.unmatched]
        groups = [re.search(entry["regex"], name) for name in read]
        for dim in entry["dims"]:
            texts = [match[dim] for match in groups if match]
            assert len(texts) == len(read), label
            if len(set(texts)) > 1:
                assert any(
                    list(map(str, column))
                    == [t.lstrip("0") or "0" if t.isdecimal() else t for t in texts]
                    for column in columns.values()
                ), (label, dim, found.template)
    assert left_out == REFUSED


def test_lists_of_real_names_are_read_or_refused(data: Path) -> None:
    for path in sorted((data / "filenames").glob("*.txt")):
        lines = path.read_text().splitlines()
        names = [line for line in lines if re.search(r"\.tiff?$", line, re.IGNORECASE)]
        names = list(dict.fromkeys(name for name in names if not name.startswith("#")))
        found = infer(names)
        assert found.reasons or len(names) == 1, path.name
        if found.template is None:
            continue
        fits, columns = Pattern(found.template).parse_names(names)
        assert len(found.unmatched) == (~fits).sum()
        rows = list(zip(*columns.values(), strict=True))
        assert len(set(rows)) == len(rows), path.name
