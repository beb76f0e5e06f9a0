"""Sphinx's settings. scripts/build_site.py writes the pages that these settings build (`make docs`)."""

import os
import re
import sys
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import build_site  # noqa: E402

from tinyvrnn.version import __version__  # noqa: E402

REPOSITORY = os.environ.get("TINYVRNN_REPOSITORY", "")  # of `make docs REPOSITORY=https://...`; empty: no links to it

project = "tinyvrnn"
author = "The tinyvrnn authors"
version = release = __version__
language = "en"
extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx-mathjax-offline",
    "sphinx.ext.autodoc",
    "sphinx.ext.linkcode",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
myst_url_schemes = ["http", "https", "mailto", "site"]
mathjax3_config = {"chtml": {"scale": 0.9}}
nb_execution_mode = "off"  # the outputs are those that are committed
nb_merge_streams = True

default_role = "code"  # a docstring's `x`
autodoc_typehints = "none"  # numpydoc's tables have them
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "tinyvrnn"
html_static_path = [str(ROOT / "docs" / "_static")]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer", "priority": 400})]  # before MathJax
html_sidebars = dict.fromkeys(("index", "instructors", "equation_map", "deviations"), [])  # wide tables; nothing below
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 8,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "show_prev_next": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "secondary_sidebar_items": {"**": ["page-toc"], "equation_map": [], "deviations": []},
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    **({"github_url": REPOSITORY} if "github.com" in REPOSITORY else {}),
}
copyright = "the tinyvrnn authors, MIT licence"


def linkcode_resolve(domain, info):
    """The page with the source of a documented name; `resolve_site_links` makes the link relative."""
    found = build_site.place(f"{info['module']}.{info['fullname']}") if info["module"] else None
    return build_site.source_page(*found) if found else None


def keep_plain(app, what, name, item, options, lines):
    """Docstrings are written for a terminal: a star or a bar is itself and not reStructuredText's."""
    lines[:] = [re.sub(r"`[^`]*`|[*|]", lambda m: m[0] if m[0][0] == "`" else "\\" + m[0], line) for line in lines]


def resolve_site_links(app, doctree, docname):
    """Turn site:PATH into a path that is relative to the page."""
    for node in doctree.findall(lambda node: getattr(node, "attributes", {}).get("refuri", "").startswith("site:")):
        node["refuri"] = "../" * docname.count("/") + node["refuri"].removeprefix("site:")


def source_pages(app):
    """A page for each source file, which the search does not index."""
    formatter = HtmlFormatter(lineanchors="L", anchorlinenos=True, linenos="inline", wrapcode=True)
    for path in sorted(path for folder in build_site.SHOWN for path in ROOT.glob(f"{folder}/**/*.py")):
        name = path.relative_to(ROOT).as_posix()
        if build_site.has_source_page(name):
            body = highlight(path.read_text(encoding="utf-8"), PythonLexer(), formatter)
            context = {"title": name, "body": f"<h1>{name}</h1>\n{body}"}
            yield f"source/{name.removesuffix('.py')}", context, "page.html"


def setup(app):
    app.connect("autodoc-process-docstring", keep_plain, priority=400)  # before numpydoc
    app.connect("doctree-resolved", resolve_site_links)
    app.connect("html-collect-pages", source_pages)
