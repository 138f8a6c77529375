"""``python -m xarray_tiffstack`` is the command ``tiffstack``."""

import sys

from xarray_tiffstack.cli import main

if __name__ == "__main__":
    sys.exit(main())
