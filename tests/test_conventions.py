"""Conventions read real names right, and are told apart by them."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xarray_tiffstack.names.conventions import (
    conventions,
    find_convention,
    load_conventions,
)
from xarray_tiffstack.names.pattern import Pattern
from xarray_tiffstack.names.recognise import recognise
from xarray_tiffstack.names.vocabulary import DIMS, VOCABULARY, Token

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not here")

EXAMPLES = [(one, example) for one in conventions().values() for example in one.examples]
TIFF = re.compile(r"\.(tiff?|btf)$", re.IGNORECASE)

# Folders of real files, and the convention that is to be recognised.
FOLDERS = {
    "aollsm_psf642": "aollsm",
    "bdp2_microglia_sparse_t84_105_122": "bigdataprocessor",
    "bdp2_nc2_nt6": "bigdataprocessor",
    "bdp2_planes_t_c_subfolders": None,
    "brainglobe_cubes_zyx_ch": None,
    "broken_pillow": None,
    "cellvoyager_cv8000": "cellvoyager",
    "codex_cytokit": "codex",
    "cp_human_arrayscan": "arrayscan",
    "cp_sbs_channel_index_well": "sbs",
    "ctc_traccuracy_mask": "cell_tracking_challenge",
    "flavours_imagej": None,
    "flavours_skimage": None,
    "hipsc_uneven_bare_frame": "sequence",
    "leica_matrix_screener": "matrix_screener",
    "merlin_round_pos": None,
    "metaxpress_1well_tzmix": "metaxpress",
    "metaxpress_projection_mix": "metaxpress",
    "microfilm_good_t_unpadded": None,
    "mm_alpha20_singleplane": "micromanager_2",
    "mm_mmstack_14compat": "mmstack",
    "mm_scifio_zero_byte": "micromanager_1",
    "phenix_jump": "phenix",
    "thunder_tiny_lzw": None,
    "viv_companion_ome_Z": None,
    "wipp_tiles_4x4": "mist",
}

# Lists of real names: which convention has which of them.
LISTS = {
    "aollsm_petakit5d_demo": {"aollsm": ""},
    "cellvoyager_cptools2_full": {"cellvoyager": ""},
    "embl_scanr_metaxpress_plateviewer": {
        "embl": "ALMF",
        "scanr": "SCANR",
        "metaxpress": r"^MD-.*w\d\.tif",
    },
    "incell_ge": {"incell": ""},
    "incucyte": {"incucyte": ""},
    "lavision_ultramicroscope": {"ultramicroscope": ""},
    "leica_lasx": {"matrix_screener": "--E", "leica": "(?<!C00).ome|_ch"},
    "lls_llspy_docs": {"aollsm": ""},
    "lls_misc_public_code": {"aollsm": ""},
    "mesospim": {"mesospim": ""},
    "metamorph_nd": {"metamorph": ""},
    "metaxpress_faim_ipa_all": {"metaxpress": ""},
    "micromanager_mmstack_split": {"mmstack": ""},
    "micromanager_separate_files": {"micromanager_2": "img_channel", "micromanager_1": "img_0"},
    "nikon_keyence_codex": {"codex": "cyc", "keyence": "^(?!cyc)"},
    "phenix_cytation_cytodataframe": {"phenix": "r0", "cytation": "NF1_"},
    "phenix_jump_cpg0016": {"phenix": ""},
    "prairieview_bruker": {"prairieview": ""},
    "spim_openspim_simview": {"openspim": ""},
    "thorlabs_thorimage": {"thorimage": ""},
    "yokogawa_cq1_cv7000": {"cq1": "W0001", "cellvoyager": "L01A"},
    "zeiss_zen_export": {"zen": ""},
}


def tiffs_in(folder: Path) -> list[str]:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    return [name for path in paths if TIFF.search(name := path.removesuffix(".gz"))]


def listed(name: str, wanted: str) -> list[str]:
    lines = (DATA / "filenames" / f"{name}.txt").read_text().splitlines()
    return [
        line
        for line in lines
        if line[0] != "#" and TIFF.search(line) and re.search(wanted, line)
    ]  # fmt: skip


def best_pattern(convention, name):
    """The pattern of a convention that explains most of one name."""
    return recognise([name], among=[convention]).pattern


@pytest.mark.parametrize(
    ("convention", "example"), EXAMPLES, ids=[example.name[-60:] for _, example in EXAMPLES]
)
def test_example(convention, example):
    pattern = best_pattern(convention, example.name)
    assert pattern is not None, convention.patterns[0].explain(example.name)
    found = pattern.parse(example.name)
    assert {token: value for token, value in found.items() if value is not None} == example.tokens


@pytest.mark.parametrize(
    ("convention", "example"), EXAMPLES, ids=[example.name[-60:] for _, example in EXAMPLES]
)
def test_example_is_recognised(convention, example):
    assert recognise([example.name]).convention is convention


@pytest.mark.parametrize(
    ("convention", "example"), EXAMPLES, ids=[example.name[-60:] for _, example in EXAMPLES]
)
def test_an_example_can_be_written(convention, example):
    pattern = best_pattern(convention, example.name)
    if pattern.is_template:
        assert pattern.parse(pattern.compose(**example.tokens)) == pattern.parse(example.name)


@pytest.mark.parametrize("convention", conventions().values(), ids=conventions())
def test_a_convention_is_whole(convention):
    tokens = {token for pattern in convention.patterns for token in pattern.tokens}
    assert tokens == set(convention.tokens)
    assert convention.examples
    assert all(example.source for example in convention.examples)
    assert convention.link.startswith("https://")
    # Every token that may become a dimension has its place among them.
    axes = {token for token, one in convention.tokens.items() if one.role in ("axis", "tile")}
    if any(one.role == "channel" for one in convention.tokens.values()):
        axes.add("channel")
    assert axes <= {*convention.dims, *DIMS} - {"x", "y"}
    assert {*convention.always} <= {*convention.dims}
    roles = {one.role for token, one in convention.tokens.items() if token in convention.dims}
    assert roles <= {"axis", "tile", "channel"}


@needs_data
@pytest.mark.parametrize(("folder", "convention"), FOLDERS.items())
def test_real_files_are_recognised(folder, convention):
    found = recognise(tiffs_in(DATA / folder))
    assert (found.convention.name if found.convention else None) == convention, found.reasons


@needs_data
@pytest.mark.parametrize(
    ("name", "convention", "wanted"),
    [(name, *one) for name, parts in LISTS.items() for one in parts.items()],
)
def test_real_names_follow_their_convention(name, convention, wanted):
    names = listed(name, wanted)
    one = find_convention(convention)
    aside = one.set_aside(names)
    strays = [
        name
        for name in names
        if name not in aside
        and all(pattern.accounts_for(name) is None for pattern in one.patterns)
    ]  # fmt: skip
    assert not strays
    assert len(names) > len(aside)


@needs_data
@pytest.mark.parametrize(
    ("name", "convention", "wanted"),
    [(name, *one) for name, parts in LISTS.items() for one in parts.items()],
)
def test_no_other_convention_claims_a_real_name(name, convention, wanted):
    names = listed(name, wanted)
    aside = find_convention(convention).set_aside(names)
    for one in names[:: max(1, len(names) // 50)]:
        if one not in aside:
            assert recognise([one]).convention.name == convention, one


TRUTH = json.loads((DATA / "truth.json").read_text()) if DATA.is_dir() else {}


@needs_data
@pytest.mark.parametrize("folder", [name for name in FOLDERS if FOLDERS[name] and name in TRUTH])
def test_tokens_agree_with_the_truth_written_by_hand(folder):
    """Each field of the hand-written expression is a column here, whatever its name."""
    truth = TRUTH[folder]
    expression = re.compile(truth["regex"].replace(r"\.gz$", "$"))
    names = [name for name in tiffs_in(DATA / folder) if expression.search(name)]
    assert len(names) == truth["files_used"]
    found = recognise(names)
    fits, columns = found.pattern.parse_names(names)
    assert fits.all()
    values = [
        ["" if value is None or value is pd.NA else str(value) for value in column.tolist()]
        for column in columns.values()
    ]
    for field in truth["dims"]:
        expected = [expression.search(name)[field] or "" for name in names]
        numbers = [str(int(text)) if text.isdecimal() else text for text in expected]
        assert numbers in values, field


def columns_of(names):
    found = recognise(names)
    _, columns = found.pattern.parse_names(names)
    return {token: column.tolist() for token, column in columns.items()}


@needs_data
def test_metaxpress_number_and_identifier_are_told_apart():
    columns = columns_of(tiffs_in(DATA / "metaxpress_1well_tzmix"))
    assert sorted(set(columns["channel"])) == [1, 2, 3]
    assert sorted(set(columns["position"])) == [1, 2]
    assert sorted(set(columns["time"])) == [1, 2]
    assert set(columns["well"]) == {"C07"}
    assert {len(guid) for guid in columns["guid"]} == {36}


@needs_data
def test_metaxpress_thumbnails_are_set_aside():
    names = tiffs_in(DATA / "metaxpress_projection_mix")
    aside = find_convention("metaxpress").set_aside(names)
    assert len(aside) == 24
    assert set(aside.values()) == {"thumbnail"}
    pattern = find_convention("metaxpress").patterns[0]
    _, columns = pattern.parse_names([name for name in names if name not in aside])
    assert columns["z"].isna().sum() == 3  # the projections above the folders of the slices
    assert sorted(columns["z"].dropna().unique()) == list(range(1, 11))


@needs_data
def test_cellvoyager_corrections_are_set_aside():
    names = tiffs_in(DATA / "cellvoyager_cv8000")
    aside = find_convention("cellvoyager").set_aside(names)
    assert sorted(aside.values()) == ["dark correction"] * 2 + ["shading correction"] * 4


@needs_data
def test_aollsm_tokens_of_a_tiled_time_series():
    columns = columns_of(listed("aollsm_petakit5d_demo", ""))
    assert set(columns["name"]) == {"Scan"}
    assert sorted(set(columns["y_offset"])) == [0, 1, 2, 3]
    assert columns["sub_iter"] == columns["t"]
    assert set(columns["camera"]) == {"A", "B"}


def test_aollsm_counters_outgrow_their_width_and_go_below_zero():
    pattern = find_convention("aollsm").patterns[0]
    name = pattern.compose(
        name="a_b", ch=0, stack=12345, wavelength=488, time=12345678, time_abs=12345678901,
        x_offset=-1, y_offset=-1, z_offset=0,
    )  # fmt: skip
    assert name == "a_b_ch0_stack12345_488nm_12345678msec_12345678901msecAbs_-01x_-01y_000z.tif"
    assert pattern.parse(name)["x_offset"] == -1


def test_files_that_are_images_only_where_they_are_alone():
    cq1 = find_convention("cq1")
    slices = [f"W0001F0001T0001Z{z:03d}C1.tif" for z in range(3)]
    assert cq1.set_aside(slices) == {slices[0]: "projection"}
    assert cq1.set_aside(slices[:1]) == {}
    assert recognise(slices).fraction == 1


def test_folders_are_no_tokens_unless_the_convention_says_so():
    parse = find_convention("micromanager_1").patterns[0].parse
    assert parse("Pos3/img_000000000_GFP_001.tif")["position"] == 3
    assert parse("Pos3_aligned/img_000000000_GFP_001.tif")["position"] is None
    assert parse("Pos3/sub/img_000000000_GFP_001.tif")["position"] is None


def test_a_sequence_comes_last():
    found = recognise([f"mask{t:03d}.tif" for t in range(9)])
    assert found.convention.name == "cell_tracking_challenge"
    assert recognise(["a/img_001.tif", "b/img_001.tif"]).convention is None
    assert recognise(["multifile-Z1.tif", "multifile-Z2.tif"]).convention is None


def test_most_names_must_follow():
    right = [f"r01c01f{f:02d}p01-ch1sk1fk1fl1.tiff" for f in range(10)]
    strays = [f"notes {i} of the day.tif" for i in range(10)]
    found = recognise([*right, *strays[:3]])
    assert found.convention.name == "phenix"
    assert found.fraction == pytest.approx(10 / 13)
    found = recognise([*right, *strays])
    assert (found.convention, found.pattern, found.fraction) == (None, None, 0.5)
    assert "no convention explains more than half" in found.reasons[-1]
    assert recognise([]).convention is None


def test_the_sample_stands_for_many_names():
    names = [f"r01c01f{f:04d}p01-ch{c}sk1fk1fl1.tiff" for f in range(1000) for c in range(4)]
    found = recognise(names)
    assert (found.convention.name, found.fraction) == ("phenix", 1)
    fits, columns = found.pattern.parse_names(names)
    assert fits.all()
    assert np.unique(columns["position"]).size == 1000


def test_an_unknown_convention_is_answered_with_close_ones():
    with pytest.raises(ValueError, match=r"'phenics'. Did you mean phenix\? Known: aollsm, "):
        find_convention("phenics")
    with pytest.raises(ValueError, match=r"named 'zzz'\. Known: aollsm"):
        find_convention("zzz")


MINE = """
[convention.mine]
title = "Ours"
link = "https://example.org"
patterns = ["{mouse:s}_{day:d}_{channel:l}"]
dims = ["day", "channel"]
tokens.mouse = {role = "sample"}
tokens.day = {role = "axis", units = "day"}
"""


def test_conventions_of_a_user(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    mine = load_conventions(path)["mine"]
    assert mine.patterns == (Pattern("{mouse:s}_{day:d}_{channel:l}"),)
    assert mine.tokens["day"] == Token("axis", units="day")
    assert mine.tokens["channel"] == VOCABULARY["channel"]
    assert recognise(["m1_1_GFP.tif"], among=[mine]).convention is mine


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('role = "sample"', 'role = "mouse"', "has the role 'mouse'; roles are axis, tile"),
        ("tokens.mouse = {", "tokens.rat = {", "tokens without a meaning: mouse"),
        ("_{channel:l}", "", None),
        ("_{day:d}", "", "tokens that no pattern has: day"),
        ("{day:d}", "{day:q}", "no such type of token"),
        ("dims =", "dim =", "'dims' is missing"),
        ("[convention.mine]", "[conventions.mine]", "has no table"),
        ('units = "day"', 'unit = "day"', "unit"),
        ("title =", "titel =", "titel"),
        ("[convention.mine]", "[convention.mine", "is not TOML"),
    ],
)
def test_what_is_wrong_with_a_file_of_conventions(tmp_path, old, new, problem):
    path = tmp_path / "mine.toml"
    path.write_text(MINE.replace(old, new, 1))
    if problem is None:
        assert load_conventions(path)
        return
    with pytest.raises(ValueError, match=problem) as error:
        load_conventions(path)
    assert "mine.toml" in str(error.value)


def test_the_page_of_conventions_is_current():
    command = [sys.executable, ROOT / "ci" / "conventions_page.py", "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_convention_travels() -> None:
    for convention in conventions().values():
        again = pickle.loads(pickle.dumps(convention))
        assert again == convention
        assert copy.deepcopy(convention) == convention


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('title = "A"\nlink = ""\npatterns = ["a{t:d}"]\ndims = ["t"]\nallways = ["t"]', "allways"),
        ('link = ""\npatterns = ["a{t:d}"]\ndims = ["t"]', "'title' is missing"),
        ('title = "A"\nlink = ""\npatterns = ["a{t:d}"]\ndims = "t"', "dims is a list"),
    ],
)
def test_a_convention_of_ones_own_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"[convention.mine]\n{text}\n")
    with pytest.raises(ValueError, match=message):
        load_conventions(file)
