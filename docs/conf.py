"""The documentation as a site with a search box: sphinx-build -W -c docs . site

The pages are the Markdown files as a code host shows them, so the source folder is the repository and README.md is
the start page.
"""

import shutil
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

# The menu of the site; every page must be in it.
MENU = {
    "Use": [
        "docs/start",
        "docs/commands",
        "docs/live",
        "docs/files",
        "docs/unattended",
        "docs/watch",
        "docs/in-your-program",
        "docs/api",
        "docs/providers",
        "docs/deploy",
    ],
    "Train": [
        "docs/own-class",
        "docs/labelling-tools",
        "docs/data",
        "docs/open-images",
        "docs/training",
        "docs/matterport",
        "docs/shipped-models",
        "runtime/pumpseg/models/README",
    ],
    "Get help": ["docs/troubleshooting", "docs/faq", "docs/glossary", "docs/reliability"],
    "Look inside": ["docs/how-it-works", "docs/model-file", "docs/performance", "benchmarks/README"],
    "The project": ["CONTRIBUTING", "SECURITY", "CHANGELOG"],
}

project = "pumpseg"
version = release = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"][
    "version"
]
html_title = f"pumpseg {version.rpartition('.dev')[0] or version}"
extensions = ["myst_parser"]
include_patterns = ["README.md", *(f"{page}.md" for pages in MENU.values() for page in pages), "docs/*.md"]
exclude_patterns = [".*", "site", "data", "runs"]
root_doc = "README"
html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
# The anchors that code hosts give headings.
myst_heading_anchors = 4


def add_menu(app: Sphinx, page: str, text: list[str]) -> None:
    if page == root_doc:
        for caption, pages in MENU.items():
            text[0] += "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}", *pages, "```\n"])


def copy_start_page(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        shutil.copy(Path(app.outdir, "README.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_menu)
    app.connect("build-finished", copy_start_page)
