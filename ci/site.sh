#!/bin/sh
# Build the site into build/site, from the README, docs/ and the docstrings.
#
#   sh ci/site.sh
#
# Builds its own environment. A broken link is an error.
set -eu
cd "$(dirname "$0")/.."
. ci/venv.sh

make_venv .venv-site "${PYTHON:-python3}" --group site
rm -rf build/site-pages
mkdir -p build/site-pages
cp -r README.md LICENSE docs ci/site.css build/site-pages
cat > build/site-pages/docs/api.md <<'END'
# API

## Opening

::: xarray_tiffstack.backend.TiffstackBackendEntrypoint
    options:
      members: [open_dataset, open_groups_as_dict, open_datatree]
      show_root_heading: false

## On a Dataset: `ds.tiffstack`

::: xarray_tiffstack.accessor.TiffstackAccessor
    options:
      inherited_members: true
      show_root_heading: false

## The package

::: xarray_tiffstack.scan

::: xarray_tiffstack.Pattern

::: xarray_tiffstack.Convention

::: xarray_tiffstack.Token

::: xarray_tiffstack.conventions

::: xarray_tiffstack.load_conventions

::: xarray_tiffstack.follow

::: xarray_tiffstack.Report

::: xarray_tiffstack.Summary

::: xarray_tiffstack.Failure

::: xarray_tiffstack.VerifyResult

::: xarray_tiffstack.Difference
END
# mkdocs takes "<!" for the beginning of a comment, in code too.
.venv-site/bin/python - <<'END'
import re
from pathlib import Path


def escaped(match):
    return "<code>" + re.sub("[<>&*_]", lambda m: f"&#{ord(m[0])};", match[1]) + "</code>"


page = Path("build/site-pages/docs/conventions.md")
page.write_text(re.sub(r"`([^`\n]*<![^`\n]*)`", escaped, page.read_text()))
END
NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build -f ci/site.yml
# An option is not to be cut after its hyphens.
.venv-site/bin/python - <<'END'
import re
from pathlib import Path


def kept(match):
    return re.sub(r"(?<![^\s>])--[\w-]+", r'<span class="option">\g<0></span>', match[0])


for page in Path("build/site").rglob("*.html"):
    page.write_text(re.sub(r"<code>[^<]*</code>", kept, page.read_text()))
END
echo "build/site/index.html"
