"""The documentation as a site: `sphinx-build -W --keep-going -b html docs build/docs`.

Pages are plain Markdown with relative links, so that a code host shows them as well. What only the site has is in
`index.md`, its table of contents, and in `site/`, where papers from the top of the repository become pages.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sphinx import addnodes

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from moeplan.version import __version__ as release  # noqa: E402 - found once the path is set

project = "moeplan"
author = "The moeplan contributors"
project_copyright = author
version = release

extensions = ["myst_parser"]
exclude_patterns = ["README.md"]  # index.md has its text
myst_heading_anchors = 4  # links to headings, named as code hosts name them

html_theme = "furo"
html_title = f"moeplan {release}"
html_static_path = ["site/static"]
html_css_files = ["moeplan.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"


PAPERS = {f"{ROOT}/{name}": f"site/{name}" for name in ("README", "CONTRIBUTING", "CHANGELOG")}
"""Papers outside of `docs/` as Sphinx names them, and the page that each is."""
PAGES = PAPERS | {"README": "index", "LICENSE": "site/LICENSE"}


def to_pages(app: Any, doctree: Any) -> None:
    """Links that lead to papers on a code host lead to their pages on the site; those to folders are plain words there."""
    here = Path(doctree["source"]).parent
    for link in list(doctree.findall(addnodes.pending_xref)):
        target = link["reftarget"]
        if target in PAGES:
            link.update_all_atts({"refdomain": "doc", "reftarget": PAGES[target]}, replace=True)
            link.setdefault("reftargetid", None)
        elif target.startswith("../") and (here / target).is_dir():
            link.replace_self(link.children)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", to_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
