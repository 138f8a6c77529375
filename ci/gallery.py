"""Run the pages of the gallery, and keep the pictures that they draw in docs/images/gallery/.

    python ci/gallery.py [page ...]      for example: python ci/gallery.py look

Needs the dependency groups `test` and `gallery`. Without arguments it runs every page.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))
os.environ["MPLBACKEND"] = "agg"  # no window

from test_docs import GALLERY, pictures, run_page  # noqa: E402

from xarray_tiffstack.demo import write_acquisition  # noqa: E402

COLOURS = 256  # of a picture; this makes it a third of the size


def keep_pictures(page: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        folder = Path(scratch)
        write_acquisition(folder / "raw")
        run_page(page, folder)
        for name, kept in pictures(page).items():
            kept.parent.mkdir(exist_ok=True)
            with Image.open(folder / name) as picture:
                picture.convert("RGB").quantize(COLOURS).save(kept, optimize=True)
            print(f"docs/images/gallery/{name}: {kept.stat().st_size / 1000:.0f} kB")
        os.chdir(ROOT)


if __name__ == "__main__":
    asked = sys.argv[1:] or [page.stem for page in GALLERY if page.stem != "index"]
    unknown = {*asked} - {page.stem for page in GALLERY}
    if unknown:
        sys.exit(f"no page of docs/gallery/ is called {', '.join(sorted(unknown))}")
    for page in GALLERY:
        if page.stem in asked:
            keep_pictures(page)
