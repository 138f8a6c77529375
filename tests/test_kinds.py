"""Kinds of names that were once read wrongly: each stands for many."""

from __future__ import annotations

import pickle
import random
from itertools import product
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from made_names import grids_of

from xarray_tiffstack.cli.spelling import as_options
from xarray_tiffstack.names.infer import infer
from xarray_tiffstack.names.pattern import Pattern
from xarray_tiffstack.names.reading import UnreadableError, read_names


def made(template: str, *values: Any) -> list[str]:
    """Write every combination of some values."""
    return [template.format(*cell) for cell in product(*values)]


def lattice(
    folder: str, ch: int, wavelength: int, stack: int, camera: str = "", end: str = ""
) -> str:
    """Write a name of the lattice light-sheet convention."""
    return (
        f"{folder}c1{camera}_ch{ch}_stack{stack:04d}_{wavelength}nm_{100 * stack:07d}msec_"
        f"{100 * stack + ch:010d}msecAbs{end}.tif"
    )


GUIDS = [str(UUID(int=(1 << 127) + (n * 977 << 60))).upper() for n in range(6)]
LINES = [(0, 488), (1, 560)]
TILES = [("x0", "y0", "h80"), ("x256", "y0", "h80"), ("x0", "y80", "h90"), ("x256", "y80", "h90")]

# Names, and the labels along each dimension of the one array that they are.
ARRAYS: dict[str, tuple[list[str], dict[str, list[Any]]]] = {
    "padding ends at 10": (
        made("larva--C00--T{}.tif", range(7, 20)),
        {"time": [*range(7, 20)]},
    ),
    "padding ends at 100": (
        made("mov_t{}_z001_c001.tif", range(98, 103)),
        {"time": [*range(98, 103)]},
    ),
    "channels end at 10": (
        made("CH{}_{:06d}.tif", (9, 10, 11), (0, 1)),
        {"time": [0, 1], "channel": [9, 10, 11]},
    ),
    "positions end at 10": (
        made("tissue_XY{}_CH{}.tif", range(8, 14), (1, 2)),
        {"position": [*range(8, 14)], "channel": [1, 2]},
    ),
    "wells of one row beside a wavelength": (
        [
            f"77_0012_StrainB_20110204_{well}_w{channel}_{guid}.tif"
            for (well, channel), guid in zip(
                product(("C03", "C07", "C11"), (1, 2)), GUIDS, strict=True
            )
        ],
        {"well": ["C03", "C07", "C11"], "channel": [1, 2]},
    ),
    "W of five digits": (
        made("siRNA7--W{:05d}--P00001--T{:05d}--Z00000--C.tif", (12, 13, 27), range(3)),
        {"well": [12, 13, 27], "t": [0, 1, 2]},
    ),
    "W of four digits": (
        made("screen_W{:04d}_P001.tif", (12, 13, 27)),
        {"well": [12, 13, 27]},
    ),
    "a word glued to a well": (
        made("TL_Well{}_Site{}.tif", ("B03", "B04", "E04"), (1, 2)),
        {"well": ["B03", "B04", "E04"], "site": [1, 2]},
    ),
    "a word glued to a well without padding": (
        made("Plate1_Well{}_DAPI.tif", ("A1", "A2", "C7")),
        {"well": ["A1", "A2", "C7"]},
    ),
    "a folder's number glued to the index": (
        [f"cam{cam}/cam{cam}0000{n}.tif" for cam in (1, 2) for n in range(3)],
        {"channel": [1, 2], "n": [0, 1, 2]},
    ),
    "a channel's number glued to the index": (
        [f"ch{ch}/ch{ch}000{n}.tif" for ch in (1, 2) for n in range(3)],
        {"channel": [1, 2], "n": [0, 1, 2]},
    ),
    "a counter in a free name": (
        made("img{:04d}_ch{:02d}.tif", (1, 2, 3), (0, 1)),
        {"channel": [0, 1], "n": [1, 2, 3]},
    ),
    "a counter behind a free name": (
        made("scan_{:04d}_CH{}.tif", (1, 2, 3), (1, 2)),
        {"channel": [1, 2], "scan": [1, 2, 3]},
    ),
    "a position in a free name": (
        made("exp1_Position {}_t{:02d}_ch{:02d}.tif", (1, 2), (0, 1), (0, 1)),
        {"position": [1, 2], "channel": [0, 1], "t": [0, 1]},
    ),
    "a mosaic in a free name": (
        made("B 0_X {}_Y {}_Job(Scan) 2 01 01_002_z{}_ch{:02d}.tif", *[(0, 1)] * 4),
        {"channel": [0, 1], "y_offset": [0, 1], "x_offset": [0, 1], "z": [0, 1]},
    ),
    "a text that every folder repeats": (
        made("roi_{}/{}.tif", (1, 2, 3), ("CD20", "CD68", "PanCK", "SMA")),
        {"channel": ["CD20", "CD68", "PanCK", "SMA"], "region": [1, 2, 3]},
    ),
    "a text that two numbers tell": (
        ["c1_ch1_DAPI.tif", "c1_ch2_CD4.tif", "c2_ch1_DAPI.tif", "c2_ch2_PanCK.tif"],
        {"channel": [1, 2], "c": [1, 2]},
    ),
    "a text of two words in brackets": (
        made(
            "PMT [{}] [{:02d}]_Time{:04d}.tif",
            ("AX1_BLUE", "AX2_GREEN", "QX3_RED"),
            (0, 1),
            range(3),
        ),
        {"channel": ["AX1_BLUE", "AX2_GREEN", "QX3_RED"], "t": [0, 1, 2], "n": [0, 1]},
    ),
    "sections are no wells": (made("section_A{}.tif", range(1, 5)), {"section": [1, 2, 3, 4]}),
    "mice are no wells": (
        made("mouse_{}_day1.tif", ("B12", "B13", "C2")),
        {"mouse": ["B12", "B13", "C2"]},
    ),
    "bands of a satellite are no wells": (
        made("T32ABC_20200615T072631_{}_10m.tif", ("B02", "B03", "B08")),
        {"B": [2, 3, 8]},
    ),
    "a temperature": (
        made("film_{}C_{:03d}.tif", (20, 25), (1, 2)),
        {"C": [20, 25], "n": [1, 2]},
    ),
    "a concentration": (
        made("dye_c{}mM_t{}.tif", (1, 5, 10), (0, 1)),
        {"t": [0, 1], "c": [1, 5, 10]},
    ),
    "an exposure": (
        made("cal_exp{}ms_{:03d}.tif", (10, 20), (1, 2)),
        {"exp": [10, 20], "n": [1, 2]},
    ),
    "a pulse": (
        made("opto_pulse{}ms_t{:03d}.tif", (5, 10), range(3)),
        {"t": [0, 1, 2], "pulse": [5, 10]},
    ),
    "a distance": (made("site_{}m_rep{}.tif", (10, 20), (1, 2)), {"m": [10, 20], "rep": [1, 2]}),
    "a counter below zero": (
        made("F{}_R{:02d}.tif", (-2, 0, 2), (1, 2)),
        {"F": [-2, 0, 2], "R": [1, 2]},
    ),
    "sizes beside places": (
        [f"tile_{x}_{y}_w256_{h}.tif" for x, y, h in TILES],
        {"y_offset": [0, 80], "x_offset": [0, 256]},
    ),
    "a dye behind a marker": (
        made("mosaic_{}_z{}.tif", ("DAPI", "GFP"), range(3)),
        {"channel": ["DAPI", "GFP"], "z": [0, 1, 2]},
    ),
    "p for a decimal point": (
        made("bead_z{}um.tif", ("0p25", "0p50", "1p00")),
        {"z": [0.25, 0.5, 1.0]},
    ),
    "a comma for a decimal point": (
        made("bead_z{}um.tif", ("0,25", "0,50", "1,00")),
        {"z": [0.25, 0.5, 1.0]},
    ),
    "hours and minutes": (
        made("w3_{}.tif", ("01h30m", "02h00m", "02h15m")),
        {"timestamp": ["01h30m", "02h00m", "02h15m"]},
    ),
    "hours and minutes that are parted, and not padded": (
        made("plate_{}_c{}.tif", ("2h_5min", "2h_30min", "10h_0min"), (0, 1)),
        {"timestamp": ["2h_5min", "2h_30min", "10h_0min"], "channel": [0, 1]},
    ),
    "an exponent": (
        made("power_{}_{}.tif", ("1e-1", "1e-2", "2.5e-3"), (1, 2)),
        {"power": [0.0025, 0.01, 0.1], "n": [1, 2]},
    ),
    "an exponent glued to a word and a unit": (
        made("laser{}mW_t{}.tif", ("1E+02", "5E-01"), (0, 1)),
        {"laser": [0.5, 100.0], "t": [0, 1]},
    ),
    "the row E of a plate, and no exponent": (
        made("1{}-{}.tif", "DEF", (1, 2)),
        {"row": ["D", "E", "F"], "col": [1, 2]},
    ),
    "a date": (
        made("plant_{}.tif", ("2024_03_30", "2024_03_31", "2024_04_01")),
        {"timestamp": ["2024_03_30", "2024_03_31", "2024_04_01"]},
    ),
    "a time of day": (
        made("drop_{}.tif", ("14-30-35", "14-30-45", "14-31-05")),
        {"timestamp": ["14-30-35", "14-30-45", "14-31-05"]},
    ),
    "ordinals": (made("{}_scan.tif", ("1st", "2nd", "3rd", "4th")), {"n": [1, 2, 3, 4]}),
    "two markers of one meaning": (
        ["plane_0010_z=1.70um.tif", "plane_0011_z=1.87um.tif", "plane_0012_z=2.04um.tif"],
        {"plane": [10, 11, 12]},
    ),
    "plus signs": (
        made("stage_x{}_y{}.tif", ("+5", "-5", "0"), ("+2", "-2")),
        {"y_offset": [-2, 2], "x_offset": [-5, 0, 5]},
    ),
    "signs of one letter only": (
        made("stage_x{}_y{}.tif", ("+5", "-5"), ("-2", "-4")),
        {"y_offset": [-4, -2], "x_offset": [-5, 5]},
    ),
    "plus signs of decimals": (
        made("tilt_{:+06.2f}.tif", (-3, -1.5, 0, 1.5, 3)),
        {"tilt": [-3, -1.5, 0, 1.5, 3]},
    ),
    "channels of one word or two": (
        made("fov{}_{}.tif", (1, 2), ("Far Red", "Green", "Trans Light")),
        {"field": [1, 2], "channel": ["Far Red", "Green", "Trans Light"]},
    ),
    "channels with punctuation": (
        [
            f"Time{t:05d}_Channel{name}_Seq{2 * t + i:04d}.tif"
            for t in range(3)
            for i, name in enumerate(("Brightfield LEB", "SS_FITC1"))
        ],
        {"time": [0, 1, 2], "channel": ["Brightfield LEB", "SS_FITC1"]},
    ),
    "channels of a projection": (["C1-MAX_cell.tif", "C2-MAX_cell.tif"], {"channel": [1, 2]}),
    "r and c of rounds": (
        made("hyb_r{:03d}_c{:03d}.tif", (1, 2), (1, 2, 3)),
        {"r": [1, 2], "c": [1, 2, 3]},
    ),
    "patients are no frames": (["patient_03.tif", "patient_07.tif"], {"patient": [3, 7]}),
    "grids, tiles and sections": (
        [f"t{t:04d}/vol_g0001_t{t:04d}_s{s:05d}.tif" for t in (0, 1) for s in (10, 11, 12)],
        {"tile": [0, 1], "z": [10, 11, 12]},
    ),
    "tiles and time stamps": (
        made("S_000_1752450056/Tile_r{}-c{}_S_000_1752450056.tif", (1, 2), (1, 2)),
        {"row": [1, 2], "col": [1, 2]},
    ),
    "passages": (made("HEK_P{}_D{}.tif", (3, 4), (1, 2)), {"P": [3, 4], "D": [1, 2]}),
    "flies": (made("wing_F{}_{:02d}.tif", (1, 2), (1, 2)), {"F": [1, 2], "n": [1, 2]}),
    "mice and sections": (
        made("m{}_s{}_z{:02d}.tif", (101, 102), (1, 2), (0, 1)),
        {"m": [101, 102], "s": [1, 2], "z": [0, 1]},
    ),
    "days after birth": (made("P{}_z{}.tif", (7, 14, 21), (0, 1)), {"P": [7, 14, 21], "z": [0, 1]}),
    "folders of channels": (
        [lattice(f"ch{ch}/", ch, w, s) for ch, w in LINES for s in range(3)],
        {"channel": [488, 560], "stack": [0, 1, 2]},
    ),
    "folders of wavelengths": (
        [lattice(f"{w}nm/", ch, w, s) for ch, w in LINES for s in range(3)],
        {"channel": [488, 560], "stack": [0, 1, 2]},
    ),
    "folders of cameras": (
        [lattice(f"Cam{c}/", 0, 488, s, f"_Cam{c}") for c in "AB" for s in range(3)],
        {"channel": ["488nm_CamA", "488nm_CamB"], "stack": [0, 1, 2]},
    ),
    "folders of stacks": (
        [lattice(f"stack{s:04d}/", ch, w, s) for ch, w in LINES for s in range(3)],
        {"channel": [488, 560], "stack": [0, 1, 2]},
    ),
    "folders of sections": (
        [f"W1_Sec00{s}_Montage/Tile_r1-c{c}_W1_sec00{s}.tif" for s in (1, 2) for c in (1, 2)],
        {"section": [1, 2], "col": [1, 2]},
    ),
    "projections beside what they are of": (
        [lattice("", 0, 488, s) for s in range(6)]
        + [lattice("MIPs/", 0, 488, s, end="_MIP_z") for s in range(6)],
        {"channel": [488], "stack": [*range(6)]},
    ),
    "deconvolved files in folders of their own": (
        [lattice("488/", 0, 488, s) for s in range(6)]
        + [lattice("decon/488/", 0, 488, s, end="_decon") for s in range(6)],
        {"channel": [488], "stack": [*range(6)]},
    ),
    "overlays beside channels": (
        made("img_t{:02d}_{}.tif", range(9), ("ch00", "ch01", "overlay")),
        {"time": [*range(9)], "channel": [0, 1]},
    ),
    "merged channels beside dyes": (
        made("img_t{:02d}_{}.tif", range(9), ("DAPI", "GFP", "merge")),
        {"t": [*range(9)], "channel": ["DAPI", "GFP"]},
    ),
    "masks beside images": (
        made("{:03d}_{}.tif", range(5), ("img", "masks")),
        {"n": [*range(5)]},
    ),
    "red, green and blue": (
        made("img_{:03d}_{}.tif", range(3), "RGB"),
        {"n": [0, 1, 2], "channel": ["B", "G", "R"]},
    ),
    "a running number": (
        [f"{n:04d}_t{t}_z{z}.tif" for n, (t, z) in enumerate(product(range(3), range(4)))][:-2],
        {"t": [0, 1, 2], "z": [0, 1, 2, 3]},
    ),
    "places of the stage that are never the same": (
        [f"p{p}_t{t}_x{100 * p + t}_y{50 * p - t}.tif" for p in (1, 2, 3) for t in range(3)],
        {"position": [1, 2, 3], "t": [0, 1, 2]},
    ),
    "dots that part words": (
        made("fish3.TP{:03d}.{}nm.tif", (88, 89, 90), (405, 488)),
        {"channel": [405, 488], "t": [88, 89, 90]},
    ),
    "dots that part numbers from lasers": (
        made("frame{}.{}.tif", range(8), (405, 488)),
        {"channel": [405, 488], "t": [*range(8)]},
    ),
}  # fmt: skip


# Names of several samples, and what these are called.
SAMPLES: dict[str, tuple[list[str], list[str]]] = {
    "words that begin with one letter": (
        made("{0}/{0}_t{1:02d}.tif", ("Control", "Chloroquine"), range(3)),
        ["Chloroquine", "Control"],
    ),
    "words that begin with a marker": (
        made("{}_{:02d}.tif", ("pre", "post"), (1, 2)),
        ["post", "pre"],
    ),
    "letters after a number": (["ctrl_1a.tif", "ctrl_1b.tif"], ["a", "b"]),
    "texts of any words": (
        made("a{}_{}_B.tif", (1, 2), ("one of us", "them - or not", "you+me")),
        ["one of us", "them - or not", "you+me"],
    ),
    "folders that say what the names do not": (
        [lattice(f"{day}/", 0, 488, s) for day in ("monday", "tuesday") for s in range(3)],
        ["monday", "tuesday"],
    ),
}

# Names that nobody can read for certain, and what is said of them.
REFUSED: dict[str, tuple[list[str], str]] = {
    "dates that do not sort": (
        made("scan_{}.tif", ("31-03-2024", "01-04-2024", "15-04-2024")),
        "do not sort as text",
    ),
    "months that do not sort": (
        made("{}_a.tif", ("30Mar2024", "31Mar2024", "01Apr2024")),
        "do not sort as text",
    ),
    "files that a convention leaves out though they are made alike": (
        [*made("img_t{:02d}_ch{:02d}.tif", range(9), (0, 1)), "img_t_ch.tif"],
        "1 of 19 names",
    ),
    "numbers and texts in one place": (
        [*made("raw/img_t{:03d}.tif", range(5)), *made("flat/flat_{:03d}.tif", range(2))],
        "count in 2 ways",
    ),
    "glued numbers of several lengths": (
        ["cam1/cam10.tif", "cam1/cam1100.tif", "cam2/cam20.tif", "cam2/cam2100.tif"],
        "lengths differ",
    ),
}


@pytest.mark.parametrize(("names", "labels"), ARRAYS.values(), ids=ARRAYS)
def test_one_array(names: list[str], labels: dict[str, list[Any]]) -> None:
    grids = grids_of(names)
    assert list(grids) == [""], grids
    found = {dim: values.tolist() for dim, values in grids[""].labels.items()}
    assert {dim: own for dim, own in found.items() if len(own) > 1 or dim in labels} == labels
    assert grids[""].present.sum() >= 0.8 * np.prod([len(own) for own in labels.values()])


@pytest.mark.parametrize(("names", "samples"), SAMPLES.values(), ids=SAMPLES)
def test_samples(names: list[str], samples: list[str]) -> None:
    assert list(grids_of(names)) == samples


@pytest.mark.parametrize(("names", "why"), REFUSED.values(), ids=REFUSED)
def test_refused(names: list[str], why: str) -> None:
    with pytest.raises(UnreadableError, match=why) as error:
        grids_of(names)
    for template in error.value.templates:
        assert Pattern(template).parse_names(names)[0].mean() >= 0.5
    assert len(error.value.templates) <= 3


def test_what_a_number_measures_is_kept() -> None:
    names, _ = ARRAYS["two markers of one meaning"]
    dims, z = grids_of(names)[""].coords["z"]
    assert (dims, z.tolist()) == (("plane",), [1.7, 1.87, 2.04])
    names, _ = ARRAYS["a text that two numbers tell"]
    dims, dyes = grids_of(names)[""].coords["dye"]
    assert (dims, dyes.tolist()) == (("channel", "c"), [["DAPI", "DAPI"], ["CD4", "PanCK"]])


@pytest.mark.parametrize(
    ("names", "units"),
    [
        (ARRAYS["a temperature"][0], {"C": "degree_Celsius"}),
        (ARRAYS["a concentration"][0], {"c": "millimolar"}),
        (ARRAYS["an exposure"][0], {"exp": "millisecond"}),
        (ARRAYS["p for a decimal point"][0], {"z": "micrometer"}),
    ],
)
def test_units_are_kept(names: list[str], units: dict[str, str]) -> None:
    convention = read_names(sorted(names)).convention
    assert convention is not None
    assert {n: token.units for n, token in convention.tokens.items() if token.units} == units


def test_what_is_set_aside_is_told() -> None:
    names, _ = ARRAYS["projections beside what they are of"]
    aside = read_names(sorted(names)).aside
    assert sorted(aside) == sorted(name for name in names if "MIP" in name)
    assert set(aside.values()) == {"processed version of a raw file"}
    assert read_names(sorted(name for name in names if "MIP" in name)).aside == {}


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ([f"scan_s{s}_m{m}_ORG.tif" for s in (1, 2) for m in range(4)], {"s": 2, "m": 4}),
        ([f"scan_m{m}_s1c{c}_ORG.tif" for m in (1, 2) for c in (1, 2)], {"m": 2, "c": 2}),
        (
            [f"scan_c{c}_z{z}_t{t}_ORG.tif" for c in (1, 2) for z in range(3) for t in (1, 2)],
            {"channel": 2, "z": 3, "t": 2},
        ),
    ],
)
def test_a_text_of_a_convention_does_not_swallow_what_it_marks(names, read) -> None:
    reading = read_names(names)
    assert "no known convention" in reading.warning
    assert reading.parsed
    columns = reading.parsed[1]
    assert {name: len(set(values)) for name, values in columns.items()} == read


def test_a_refusal_names_the_options_of_the_command_line() -> None:
    names = ["a_1.tif", "a_2.tif", "b-x.tif", "c.d.e.tif"]
    with pytest.raises(UnreadableError) as error:
        read_names(names)
    assert "pattern='" in str(error.value)
    assert "--pattern '" in as_options(str(error.value))
    assert "pattern=" not in as_options(str(error.value))
    again = pickle.loads(pickle.dumps(error.value))
    assert str(again) == str(error.value)


def test_long_names_of_separators_are_read_or_refused_at_once() -> None:
    """In hours, where all ways to cut them were tried; the suite would not end."""
    rng = random.Random(0)
    for text in ("_-", "1.", "a1_", "1_", "_", "+-", "0p1,"):
        names = [text * (236 // len(text)) + f"{n}.tif" for n in range(50)]
        assert infer(names).reasons
    names = ["_".join(str(rng.randrange(10)) for _ in range(118)) + ".tif" for _ in range(200)]
    assert infer(names).template is None


ODD = [
    *"tzCW1_-.+ [](){}/%=,px",
    *(
        "02",
        "0p5",
        "um",
        "GFP",
        "2024_03_01",
        "14-30-05",
        "1st",
        "01h30m",
        "2h_5min",
        "1e-3",
        "B03",
        "well",
        "nM",
    ),
    *("é", "细", "Δ", "\U0001d7d8", "\ue000", "\ua000"),
]


@pytest.mark.parametrize("seed", range(200))
def test_odd_names_are_placed_or_refused(seed: int) -> None:
    rng = random.Random(seed)
    parts = [rng.choice(ODD) for _ in range(rng.randint(1, 9))]
    changing = [rng.random() < 0.4 for _ in parts]
    names = set()
    for _ in range(rng.randint(1, 12)):
        others = [str(rng.randint(0, 12)), f"{rng.randint(0, 99):02d}", rng.choice(ODD)]
        own = [
            rng.choice(others) if new else part for part, new in zip(parts, changing, strict=True)
        ]
        folders = filter(None, "".join(own).split("/"))
        names.add(("/".join(folders) or "a") + ".tif")
    try:
        grids = grids_of(sorted(names))
    except ValueError:
        return
    paths = [path for grid in grids.values() for path in grid.paths.ravel() if path]
    assert len(paths) == len(set(paths)) <= len(names)
