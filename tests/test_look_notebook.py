"""Pages, reports and progress in a real notebook, executed by Jupyter's own client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import write_acquisition

if TYPE_CHECKING:
    from pathlib import Path

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
pytest.importorskip("tqdm")
pytestmark = pytest.mark.filterwarnings("ignore")  # others' packages

CELLS = (
    "import xarray as xr\nds = xr.open_dataset('raw', engine='tiffstack')",
    "ds.tiffstack.report()",
    "ds.tiffstack.preview()",
    "ds.tiffstack.to_ome_zarr('some.zarr').files",
)


def test_in_a_notebook(tmp_path: Path) -> None:
    write_acquisition(tmp_path / "raw")
    cells = [nbformat.v4.new_code_cell(code) for code in CELLS]
    book: Any = nbformat.v4.new_notebook(cells=cells)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3", resources=where).execute()
    _, report, preview, converted = (cell.outputs for cell in book.cells)
    assert "ts-map" in report[0].data["text/html"]  # the map of the files
    assert "ts-film" in preview[0].data["text/html"]
    assert converted[-1].data["text/plain"] == "15"
    shown = "".join(out.get("text", "") for out in converted) + str(
        [out.get("data", {}) for out in converted]
    )
    assert "converted" in shown  # by a bar, in text or as a widget
