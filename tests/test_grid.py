"""Dimensions, coordinates and slots, from tables alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from xarray_tiffstack.grid.columns import natural_key
from xarray_tiffstack.grid.placing import Grid, make_grid
from xarray_tiffstack.grid.samples import split_samples, without_variants
from xarray_tiffstack.look.findings import counter_gaps
from xarray_tiffstack.names.conventions import find_convention
from xarray_tiffstack.table import FileTable

AOLLSM = find_convention("aollsm")


def table(**columns: object) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    frame.insert(0, "path", [f"{i}.tif" for i in range(len(frame))])
    return frame


def crossed(**labels: list[object]) -> dict[str, list[object]]:
    index = pd.MultiIndex.from_product(labels.values(), names=labels.keys())
    return {name: list(index.get_level_values(name)) for name in labels}


def row_of(grid: Grid, **at: object) -> str | None:
    index = tuple(list(grid.labels[d]).index(at[d]) for d in grid.dims)
    found: str | None = grid.paths[index]
    return found


def test_channel_is_the_wavelength_where_each_has_its_own() -> None:
    grid = make_grid(
        table(ch=[0, 1, 0, 1], wavelength=[560, 488, 560, 488], stack=[0, 0, 1, 1]), AOLLSM
    )
    assert grid.dims == ("channel", "stack")
    assert grid.labels["channel"].tolist() == [488, 560]
    assert grid.coords["ch"][0] == ("channel",)
    assert grid.coords["ch"][1].tolist() == [1, 0]
    assert row_of(grid, channel=488, stack=1) == "3.tif"


def test_two_cameras_at_one_wavelength_are_two_channels() -> None:
    columns = crossed(camera=["A", "B"], stack=[0, 1])
    grid = make_grid(table(ch=[0] * 4, wavelength=[488] * 4, **columns), AOLLSM)
    assert grid.labels["channel"].tolist() == ["488nm_CamA", "488nm_CamB"]
    dims, camera = grid.coords["camera"]
    assert (dims, camera.tolist()) == (("channel",), ["A", "B"])
    assert grid.coords["wavelength"][0] == ()


def test_a_wavelength_that_two_of_three_channels_share() -> None:
    grid = make_grid(
        table(camera=["A", "A", "B"], ch=[0, 1, 0], wavelength=[488, 560, 488], stack=[0] * 3),
        AOLLSM,
    )
    labels = grid.labels["channel"].tolist()
    assert labels == ["488nm_CamA_ch0", "488nm_CamB_ch0", "560nm_CamA_ch1"]
    assert row_of(grid, channel="488nm_CamB_ch0", stack=0) == "2.tif"


def test_channel_and_stack_are_dimensions_at_length_one() -> None:
    grid = make_grid(table(ch=[0], wavelength=[642], stack=[7]), AOLLSM)
    assert {d: v.tolist() for d, v in grid.labels.items()} == {"channel": [642], "stack": [7]}


def test_time_is_laid_out_along_exactly_the_dims_it_varies_with() -> None:
    columns = crossed(ch=[0, 1], stack=[0, 1, 2])
    time = [0, 40, 80, 5, 45, 85]
    grid = make_grid(table(time=time, time_abs=[9, 10, 11] * 2, **columns), AOLLSM)
    assert grid.coords["time"][0] == ("channel", "stack")
    assert grid.coords["time"][1].tolist() == [[0, 40, 80], [5, 45, 85]]
    dims, clock = grid.coords["time_abs"]
    assert (dims, clock.tolist()) == (("stack",), [9, 10, 11])


def test_tokens_that_move_together_are_one_dimension() -> None:
    columns = crossed(t=[0, 1], y_offset=[0, 1, 2])
    grid = make_grid(table(sub_iter=columns["t"], ch=[0] * 6, stack=[0] * 6, **columns), AOLLSM)
    assert set(grid.dims) == {"channel", "stack", "y_offset", "t"} or "sub_iter" in grid.dims
    assert len(grid.dims) == 4
    assert grid.paths.size == 6


def test_a_running_index_is_a_coordinate_of_row_and_column() -> None:
    columns = crossed(row=["A", "B"], col=[1, 2, 3])
    grid = make_grid(table(index=[1, 2, 3, 13, 14, 15], **columns))
    assert grid.dims == ("row", "col")
    assert grid.coords["index"][1].tolist() == [[1, 2, 3], [13, 14, 15]]


def test_linked_positions_are_one_dimension() -> None:
    columns = {"z": [10, 10, 15, 15], "y": [522, 522, 1004, 1004], "x": [392, 392, 340, 340]}
    grid = make_grid(table(ch=[0, 1, 0, 1], **columns))
    assert grid.paths.shape == (2, 2)
    assert not np.equal(grid.paths, None).any()


def test_a_hole_is_no_file_and_its_time_is_unknown() -> None:
    grid = make_grid(table(ch=[0, 0, 1], stack=[0, 1, 0], time=[0, 9, 1]), AOLLSM)
    assert grid.paths[1, 1] is None
    dims, time = grid.coords["time"]
    assert dims == ("channel", "stack")
    np.testing.assert_array_equal(time, [[0, 9], [1, np.nan]])


def test_numbers_in_text_sort_as_numbers() -> None:
    wells = ["B2", "A10", "A2", "A1"]
    grid = make_grid(table(well=wells))
    assert grid.labels["well"].tolist() == ["A1", "A2", "A10", "B2"]
    assert sorted(["t10", "t9", "t1a"], key=natural_key) == ["t1a", "t9", "t10"]


def test_processed_versions_are_set_aside() -> None:
    frame = table(ch=[0, 0], stack=[0, 0], variant=[None, "deskewed"])
    raw = without_variants(FileTable(frame, "", convention=AOLLSM))
    assert raw.rows.path.tolist() == ["0.tif"]
    assert list(raw.aside) == ["1.tif"]
    processed = without_variants(FileTable(frame.iloc[1:], "", convention=AOLLSM))
    assert make_grid(processed.rows, AOLLSM).paths.tolist() == [["1.tif"]]


def test_duplicates_are_refused_or_chosen() -> None:
    frame = table(ch=[0, 0, 0], stack=[0, 1, 1], time_abs=[1, 2, 3])
    with pytest.raises(
        ValueError, match=r"(?s)1 duplicate: .*1\.tif, 2\.tif.*differ only in time_abs"
    ):
        make_grid(frame, AOLLSM)
    assert make_grid(frame, AOLLSM, duplicates="first").paths.tolist() == [["0.tif", "1.tif"]]
    last = make_grid(frame, AOLLSM, duplicates="last")
    assert last.paths.tolist() == [["0.tif", "2.tif"]]
    assert last.duplicates == ["1.tif"]


def test_several_samples_are_several_tables() -> None:
    frame = table(name=["cell1", "cell1", "cell2"], ch=[0, 0, 0], stack=[0, 1, 2])
    samples = split_samples(FileTable(frame, "", convention=AOLLSM))
    assert {name: len(own.rows) for name, own in samples.items()} == {"cell1": 2, "cell2": 1}
    assert list(split_samples(FileTable(frame.iloc[:2], "", convention=AOLLSM))) == [""]


def test_files_that_only_their_clocks_tell_apart() -> None:
    frame = table(ch=[0, 0, 0, 0], stack=[0, 0, 1, 1], time_abs=[7, 3, 11, 14])
    grid = make_grid(frame, AOLLSM, duplicates="position")
    assert grid.dims == ("position", "channel", "stack")
    assert grid.paths.tolist() == [[["1.tif", "2.tif"]], [["0.tif", "3.tif"]]]


def test_a_dimension_that_some_names_do_not_give_is_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)1 of 3 files have no 't'.*2\.tif"):
        make_grid(table(t=pd.array([0, 1, None], "Int64")))


def test_a_grid_of_mostly_nothing_is_refused() -> None:
    rng = np.random.default_rng(0)
    columns = {k: rng.permutation(3000) for k in ("position", "t", "z")}
    scattered = table(**{k: v % 997 for k, v in columns.items()})
    with pytest.raises(ValueError, match="would fill a grid of"):
        make_grid(scattered, duplicates="first")


@pytest.mark.parametrize(
    ("labels", "gaps"),
    [
        ([0, 1, 2], []),
        ([0, 2, 3], [1]),
        ([3, 4, 7, 8, 9], [5, 6]),
        ([488, 560, 642], []),
        ([84, 105, 122], []),
        ([0, 10, 20, 30], []),
    ],
)
def test_gaps_in_counters(labels: list[int], gaps: list[int]) -> None:
    assert counter_gaps(np.array(labels)) == gaps


def test_names_that_are_all_samples_are_refused_at_once() -> None:
    rows = pd.DataFrame({"path": [f"/a/{n}.tif" for n in range(20_000)]})
    rows["name"] = [f"s{n}" for n in range(20_000)]
    with pytest.raises(ValueError, match=r"20000 samples(.|\n)*s0\n(.|\n)*pattern="):
        split_samples(FileTable(rows, ""))
