"""Patterns take names apart and put them together, and say where they do not fit."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xarray_tiffstack.names.pattern import Pattern
from xarray_tiffstack.names.template import read_template, template_regex

TEMPLATES = [
    # template, name, tokens
    ("{name}_ch{ch:d}.tif", "cell_a_ch2.tif", {"name": "cell_a", "ch": 2}),
    ("{name}_ch{ch:d}", "raw/day1/cell_ch2.OME.TIFF", {"name": "cell", "ch": 2}),
    ("{name}_ch{ch:d}.tif", "cell_ch2.TIF", {"name": "cell", "ch": 2}),
    ("{name}_ch{ch:d}.tif", "cell_Ch2.tif", None),
    ("{name}_ch{ch:d}.tif", "cell_ch2.tiff", None),
    ("{name}_ch{ch:d}.tif", "cell_ch2.tif.txt", None),
    ("{n:s}_{v}", "007_007.tif", {"n": "007", "v": 7}),
    ("{a}_{b}", "1.50_1E05.tif", {"a": 1.5, "b": "1E05"}),
    ("{a}_{b:d}", "1234567890123456789_-3.tif", {"a": "1234567890123456789", "b": -3}),
    ("x{x:03d}x", "x000x.tif", {"x": 0}),
    ("x{x:03d}x", "x-01x.tif", {"x": -1}),
    ("x{x:03d}x", "x12345x.tif", {"x": 12345}),
    ("x{x:03d}x", "x01x.tif", None),
    ("T{t:4d}F{f:3d}L{l:2d}", "T0001F036L01.tif", {"t": 1, "f": 36, "l": 1}),
    ("{s:2d}{t:2d}", "0412.tif", {"s": 4, "t": 12}),
    ("{s:2d}{t:2d}", "04123.tif", None),
    ("z{z:f}um", "z-0.50um.tif", {"z": -0.5}),
    ("z{z:f}um", "z12um.tif", {"z": 12.0}),
    ("z{z:f}um", "z0p25um.tif", {"z": 0.25}),
    ("z{z:f}um", "z0,25um.tif", {"z": 0.25}),
    ("{a}", "0p25.tif", {"a": "0p25"}),
    ("x{x:d}_y{y:f}_{a}", "x+5_y-2.5_+3.tif", {"x": 5, "y": -2.5, "a": 3}),
    ("x{x:03d}_y{y:03d}", "x+05_y005.tif", {"x": 5, "y": 5}),
    ("{row:l}{col:d}", "B07.tif", {"row": "B", "col": 7}),
    ("{well:w}_{}_{c:d}", "B07__2.tif", {"well": "B07", "c": 2}),
    ("a[_t{t:d}[_z{z:d}]]", "a.tif", {"t": None, "z": None}),
    ("a[_t{t:d}[_z{z:d}]]", "a_t1.tif", {"t": 1, "z": None}),
    ("a[_t{t:d}[_z{z:d}]]", "a_t1_z2.tif", {"t": 1, "z": 2}),
    ("a[_t{t:d}[_z{z:d}]]", "a_z2.tif", None),
    ("s[[[{r:2d} x {c:2d}]]]_{{{n}}}", "s[01 x 02]_{a}.tif", {"r": 1, "c": 2, "n": "a"}),
    ("s[[[{r:2d} x {c:2d}]]]_{{{n}}}", "s_{a}.tif", {"r": None, "c": None, "n": "a"}),
    ("{well}/z{z:d}", "plate/A1/z3.tif", {"well": "A1", "z": 3}),
    ("{well}/z{z:d}", "z3.tif", None),
    ("[t{t:d}/][z{z:d}/]{c}", "z5/t1/z2/red.tif", {"t": 1, "z": 2, "c": "red"}),
    ("[t{t:d}/][z{z:d}/]{c}", "z2/red.tif", {"t": None, "z": 2, "c": "red"}),
    ("[t{t:d}/][z{z:d}/]{c}", "red.tif", {"t": None, "z": None, "c": "red"}),
    (r"ch(?P<ch>\d+).*?(?P<w>\d+)nm", "a/ch01_488nm_x.tif", {"ch": 1, "w": 488}),
    (r"(x)?(?P<ch>\d*)_(?P<n>\D)", "_a", {"ch": None, "n": "a"}),
    (r"^ch(?P<ch>\d+)", "a/ch01.tif", None),
]


@pytest.mark.parametrize(("text", "name", "tokens"), TEMPLATES)
def test_parse(text, name, tokens):
    assert Pattern(text).parse(name) == tokens


@pytest.mark.parametrize(("text", "name", "tokens"), TEMPLATES)
def test_parse_names_agrees_with_parse(text, name, tokens):
    fits, columns = Pattern(text).parse_names(["no", name])
    assert fits.tolist() == [False, tokens is not None]
    if tokens:
        assert {token: column.tolist()[0] for token, column in columns.items()} == tokens


def test_the_column_decides_the_type():
    names = ["1_1.5_B1_7", "02_2_1E05_", "-3_10_C3_9", "4_0.25_D4"]
    fits, columns = Pattern("{a}_{b}_{well:w}[_{d:d}]").parse_names([f"{n}.tif" for n in names])
    assert fits.tolist() == [True, False, True, True]
    assert columns["a"].dtype == np.int64
    assert columns["b"].tolist() == [1.5, 10.0, 0.25]
    assert columns["well"].tolist() == ["B1", "C3", "D4"]
    pd.testing.assert_series_equal(columns["d"], pd.Series([7, 9, None], dtype="Int64"))


def test_a_gap_in_a_column_of_text_or_decimals():
    _, columns = Pattern("{n:s}[_z{z:f}][-{v:l}]").parse_names(["1_z0.5.tif", "2-raw.tif"])
    assert columns["n"].tolist() == ["1", "2"]
    pd.testing.assert_series_equal(columns["z"], pd.Series([0.5, None], dtype="Float64"))
    assert columns["v"].tolist() == [None, "raw"]


def test_one_identifier_too_long_keeps_the_column_text():
    _, columns = Pattern("{id:d}.tif").parse_names(["1.tif", "1234567890123456789.tif"])
    assert columns["id"].tolist() == ["1", "1234567890123456789"]


def test_no_name_fits():
    fits, columns = Pattern("{a}_{b:d}").parse_names(["x", "y"])
    assert not fits.any()
    assert [len(column) for column in columns.values()] == [0, 0]


def test_more_names_than_one_block():
    names = [f"p{i // 100}_{i:05d}.tif" if i % 7 else "x" for i in range(3000)]
    fits, columns = Pattern("p{p}_{i}").parse_names(names)
    index = np.flatnonzero(np.arange(3000) % 7)
    assert np.flatnonzero(fits).tolist() == index.tolist()
    assert columns["i"].tolist() == index.tolist()
    assert columns["p"].tolist() == (index // 100).tolist()


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a_{ch:d_stack{s:d}.tif", 2, "unbalanced"),
        ("a_ch}.tif", 4, "unbalanced"),
        ("a[_{b}", 1, "never closed"),
        ("a_{b}]", 5, "closes nothing"),
        ("{a}_{b}_{a}", 8, "twice"),
        ("{a:x}", 0, "no such type"),
        ("{a:04s}", 0, "no such type"),
        ("{a:0d}", 0, "no such type"),
        ("x{1a}", 1, "cannot be the name"),
        ("x{:d}", 1, "cannot be the name"),
        ("(?P<a>[0-9]", 0, "regular expression"),
        ("x(?P<1>.)", 5, "regular expression"),
    ],
)
def test_an_invalid_pattern_is_pointed_at(text, place, problem):
    with pytest.raises(ValueError, match=problem) as error:
        Pattern(text)
    _, shown, caret, how = str(error.value).split("\n")
    assert (shown.strip(), caret.index("^") - 2) == (text, place)
    assert "write" in how or "written" in how


def test_identity():
    pattern = Pattern("{a}_{b:d}")
    assert pattern == Pattern("{a}_{b:d}") == pickle.loads(pickle.dumps(pattern))
    assert len({pattern, Pattern("{a}_{b:d}"), Pattern("{a}")}) == 2
    assert (pattern.tokens, pattern.is_template, str(pattern)) == (("a", "b"), True, "{a}_{b:d}")
    assert not Pattern("(?P<a>.)").is_template


LOOSE = ["{a}", "{b:s}", "{}", "{c}", "{d}"]
BETWEEN = [
    "_",
    "-",
    "",
    "_x",
    "{n:d}",
    "_{n:d}_",
    "-{n:l}-",
    "_{n:f}.",
    "{n:w}_",
    "{n:2d}",
    "[_{n:d}]",
]


@given(
    fields=st.lists(st.sampled_from(LOOSE), min_size=2, max_size=5, unique=True),
    between=st.lists(st.sampled_from(BETWEEN), min_size=4, max_size=4),
    name=st.text("a1x_-./", min_size=1, max_size=14),
)
def test_what_is_tried_once_only_fits_as_if_all_were_tried(fields, between, name):
    between = [text.replace("{n", f"{{n{place}") for place, text in enumerate(between)]
    template = fields[0] + "".join(map("".join, zip(between, fields[1:], strict=False))) + ".tif"
    expression = template_regex(read_template(template))
    everything = re.search(expression.replace("(?>", "(?:"), f"{name}.tif")
    found = re.search(expression, f"{name}.tif")
    assert (found and found.groups()) == (everything and everything.groups())


@pytest.mark.parametrize("name", ["_" * 240, "a_1" * 80, "_1" * 120, "1." * 120])
@pytest.mark.parametrize("end", ["", "x"])
def test_a_long_name_of_separators_is_taken_apart_at_once(name, end):
    """In an hour, where all ways to part it were tried; the suite would not end."""
    fits = Pattern("{a}_{b}_{c}_{d}_{e}_{f:d}_{g}_{h}" + end).parse(f"{name}.tif")
    assert (fits is not None) == (name[:2] == "_1" and not end)


COMPOSED = [
    ("{name}_ch{ch:02d}.tif", {"name": "c", "ch": np.int64(3)}, "c_ch03.tif"),
    ("x{x:03d}x", {"x": -1}, "x-01x.tif"),
    ("z{z:f}", {"z": 1e-7}, "z0.0000001.tif"),
    ("z{z:f}", {"z": np.float32(2.5)}, "z2.5.tif"),
    ("a[_t{t:d}[_z{z:d}]]", {"t": 1, "z": None}, "a_t1.tif"),
    ("a[_t{t:d}[_z{z:d}]]", {"t": pd.NA}, "a.tif"),
    ("a[_raw][_[{v}]]", {"v": "x"}, "a_x.tif"),
    ("[[{a:d}]]{{}}.TIF", {"a": 1}, "[1]{}.TIF"),
]


@pytest.mark.parametrize(("text", "values", "name"), COMPOSED)
def test_compose(text, values, name):
    assert Pattern(text).compose(**values) == name


@pytest.mark.parametrize(
    ("text", "values", "problem"),
    [
        ("{a}_{b}", {"a": 1}, "needs a value for: b"),
        ("{a}", {"a": 1, "c": 1}, "no such token in {a}: c"),
        ("{a}", {"a": "007"}, "a='007' cannot be read back"),
        ("{a}_{b}", {"a": "x_y", "b": "z_1"}, "b='z_1' cannot be read back"),
        ("{a:2d}{b:d}", {"a": 100, "b": 1}, "a=100 cannot be read back"),
        ("{a:d}", {"a": 1.5}, "not an integer"),
        ("{a}/b", {"a": "x/y"}, "cannot be read back"),
        ("a[_t{t:d}_z{z:d}]", {"t": 1}, "t=1 cannot be read back"),
        ("a{}", {}, "keeps nothing"),
        ("(?P<a>.)", {"a": 1}, "regular expression cannot compose"),
    ],
)
def test_compose_refuses_what_would_not_come_back(text, values, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        Pattern(text).compose(**values)


@given(
    name=st.from_regex(r"[A-Za-z][A-Za-z0-9 +.-]{0,8}", fullmatch=True),
    t=st.integers(-99, 10**6),
    z=st.none() | st.floats(-1e6, 1e6, allow_nan=False),
)
def test_what_is_composed_is_parsed_back(name, t, z):
    pattern = Pattern("{name:s}_t{t:03d}[_z{z:f}um]")
    assert pattern.parse(pattern.compose(name=name, t=t, z=z)) == {"name": name, "t": t, "z": z}


def test_explain_points_at_the_place():
    told = Pattern("{name}_ch{ch:d}[_z{z:d}]_t{t:d}").explain("raw/cell_ch0_zA_t4.tif")
    name, caret, text, where = told.split("\n")
    assert name == "cell_ch0_zA_t4.tif"
    assert name[caret.index("^") :] == "zA_t4.tif"
    assert text[where.index("^") :] == "t{t:d}"


def test_explain_regular_expressions_case_and_agreement():
    told = Pattern(r"ch(?P<ch>\d+)_z(?P<z>\d+)").explain("a/ch12_t3.tif")
    assert told.split("\n")[1].index("^") == 7
    assert "upper and lower case" in Pattern("{n}_ch{ch:d}").explain("cell_CH0.tif")
    assert "upper" not in Pattern("{n}_ch{ch:d}").explain("cell_c0.tif")
    assert Pattern("{n}_ch{ch:d}").explain("a_ch0.tif").endswith("fits {n}_ch{ch:d}")
    assert "the end of the name" in Pattern("{n}_ch{ch:d}").explain("a_ch0.txt")


def test_folder_is_what_the_pattern_leaves():
    assert Pattern("{a}").folder("x/y/b.tif") == "x/y"
    assert Pattern("{w}/{a}").folder("x/y/b.tif") == "x"
    assert Pattern("[t{t:d}/]{a}").folder("x/t1/b.tif") == "x"
    assert Pattern("[t{t:d}/]{a}").folder("x/y/b.tif") == "x/y"
    assert Pattern(r"b(?P<n>\d)").folder("x/ab1.tif") == "x"
    assert Pattern(r"^(?P<w>.)/y").folder("x/y/b.tif") == Pattern("{a}").folder("b.txt") == ""
