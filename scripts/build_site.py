"""Builds the site in build/site/html, with JupyterLite in its folder lite/ (docs/browser.md).

    python scripts/build_site.py
    python scripts/build_site.py --repository https://github.com/OWNER/NAME   links to files, badges, colab/
    python scripts/build_site.py --pyodide FOLDER                             a Pyodide beside the site, not a CDN's

The pages are those of docs/ and notebooks/, copied to build/site/pages and changed in three ways: links between them
become links of the site; the name of a function or a test links to its source; and a notebook shows the outputs of the
solutions, but the gaps and none of the answers.
"""

import argparse
import ast
import functools
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import nbformat

from tinyvrnn.course import EXERCISES

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
PAGES, HTML, LITE = SITE / "pages", SITE / "html", SITE / "lite"
GOALS = ROOT / "docs" / "course.toml"
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
BROWSER = tomllib.loads((ROOT / "docs" / "browser.toml").read_text(encoding="utf-8"))  # shorter training
MOVED = {  # file of the repository -> page
    "README.md": "index.md",
    "notebooks/README.md": "notebooks/index.md",
    "docs/derivations/README.md": "derivations/index.md",
    "benchmarks/README.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
TOP = {  # the navigation: page -> its name there
    "notebooks/index": "Course",
    "how_to": "How-to",
    "derivations/index": "Derivations",
    "equation_map": "Equation map",
    "api": "API",
    "performance": "Performance",
    "instructors": "For instructors",
    "more": "More",
}
CHILDREN = {  # page -> the pages below it
    "notebooks/index.md": [*NOTEBOOKS, "/browser"],
    "how_to.md": ["data", "runs", "scale", "extend", "gpu", "reproducibility"],
    "derivations/index.md": sorted(p.stem for p in (ROOT / "docs/derivations").glob("*.md") if p.stem != "README"),
    "equation_map.md": ["notation", "deviations"],
    "performance.md": ["benchmarks"],
    "index.md": [f"{name} <{page}>" for page, name in TOP.items()],
    "more.md": ["architecture", "decisions", "testing", "contributing", "changelog"],
}
SHOWN = ("benchmarks", "scripts", "tests", "tinyvrnn")  # folders whose Python has pages
PACKAGED = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg")  # beside tinyvrnn/, to build the wheel
PURE = "comm defusedxml filelock ipywidgets jupyterlab-widgets".split()  # Pyodide has the rest
EXTENSIONS = ("@jupyter-widgets/jupyterlab-manager", "@jupyterlite/pyodide-kernel-extension")
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^()\s]+)\)")


# ---- links and names -------------------------------------------------------------------------------------------------


def has_source_page(path):
    """Whether the site shows a file's source: not if it holds answers to exercises."""
    shown = path.startswith(tuple(f"{folder}/" for folder in SHOWN)) and path.endswith(".py")
    return shown and not path.startswith(("tests/answers/", "tinyvrnn/course/exercises/")) and (ROOT / path).is_file()


def source_page(path, line=1):
    return f"site:source/{path.removesuffix('.py')}.html" + (f"#L-{line}" if line > 1 else "")


def linked(match, file, repository):
    """One Markdown link of a file of the repository, as the site has it."""
    image, text, target = match.groups()
    path, _, anchor = target.partition("#")
    if "://" in target or not path:
        return match[0]
    found = os.path.relpath((ROOT / file).parent / path, ROOT).replace(os.sep, "/")
    page = MOVED.get(found, found.removeprefix("docs/"))
    if (ROOT / found).suffix in (".md", ".ipynb", ".png") and not found.startswith("notebooks/solutions"):
        here = PurePosixPath(MOVED.get(file, file.removeprefix("docs/"))).parent
        target = os.path.relpath(page, here).replace(os.sep, "/") + (f"#{anchor}" if anchor else "")
        return f"{image}[{text}]({target})"
    if has_source_page(found):
        return f"[{text}]({source_page(found)})"
    return f"[{text}]({repository}/blob/main/{found})" if repository else text


@functools.cache
def place(name):
    """(file, line) of the function, class or module that a dotted name means, or None."""
    try:
        found = inspect.unwrap(pkgutil.resolve_name(name))
        file = os.path.relpath(inspect.getsourcefile(found), ROOT).replace(os.sep, "/")
        line = 1 if inspect.ismodule(found) else inspect.getsourcelines(found)[1]
    except (ImportError, AttributeError, TypeError, OSError):
        return None
    return (file, line) if has_source_page(file) else None


@functools.cache
def place_of_test(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return file, next((node.lineno for node in ast.walk(tree) if getattr(node, "name", None) == name), 1)


def named(match):
    """A name in backticks, linked to its source where it has one."""
    if match["test"]:
        found = place_of_test(match["test"], match["function"])
    elif match["file"]:
        found = (match["file"], 1) if has_source_page(match["file"]) else None
    else:
        found = place(match["name"])
    return f"[{label(match)}]({source_page(*found)})" if found else match[0]


def label(match):
    """The name as a link shows it: in a table, which has little room, without its module or file."""
    in_table = match.string[match.string.rfind("\n", 0, match.start()) + 1] == "|"
    short = match["function"] or re.search(r"(?:[A-Z]\w*\.)?\w+$", match["name"] or "")
    return f"`{short if isinstance(short, str) else short[0]}`" if in_table and short else match[0]


NAME = re.compile(
    r"(?<!\[)`(?:(?P<test>tests/\w+\.py)::(?P<function>\w+)|(?P<file>\w+(?:/\w+)+\.py)|(?P<name>tinyvrnn(?:\.\w+)+))`"
)


def page(text, file, repository):
    """Markdown of a file of the repository as a page of the site; code blocks and headings stay as they are."""
    parts = re.split(r"(^```.*?^```|^#+ .*?$)", text, flags=re.DOTALL | re.MULTILINE)
    for i in range(0, len(parts), 2):
        parts[i] = NAME.sub(named, LINK.sub(lambda match: linked(match, file, repository), parts[i]))
    return "".join(parts)


# ---- pages -----------------------------------------------------------------------------------------------------------


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def toctree(names):
    return "\n```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"


def write_pages(repository):
    """All Markdown pages and pictures."""
    shutil.copytree(ROOT / "docs" / "images", PAGES / "images")
    shutil.copytree(ROOT / "docs" / "_static", PAGES / "_static")
    files = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/derivations/*.md"), *(ROOT / file for file in MOVED)]
    for path in {*files} - {ROOT / "README.md"}:
        file = path.relative_to(ROOT).as_posix()
        name = MOVED.get(file, file.removeprefix("docs/"))
        text = page(path.read_text(encoding="utf-8"), file, repository)
        if name == "api.md":
            text, children = with_reference(text)
        else:
            children = CHILDREN.get(name)
        write(PAGES / name, text + (toctree(children) if children else ""))


def with_reference(text):
    """The API page with its names linked to their docstrings, and the pages that hold these, one for each section."""
    children = []
    for title, section in re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", text, re.MULTILINE):
        if names := re.findall(r"^\| `tv\.([\w.]+)`", section, re.MULTILINE):
            children.append("reference/" + re.sub(r"\W+", "_", title.lower()))
            blocks = "\n\n".join(directive(name) for name in names)
            write(PAGES / f"{children[-1]}.rst", f"{title}\n{'=' * len(title)}\n\n{blocks}\n")
    return re.sub(r"^\| `tv\.([\w.]+)`", r"| {py:obj}`tv.\1 <tinyvrnn.\1>`", text, flags=re.MULTILINE), children


def directive(name):
    """The autodoc directive of a public name."""
    found = pkgutil.resolve_name(f"tinyvrnn:{name}")
    if inspect.ismodule(found):
        return f".. py:module:: tinyvrnn.{name}\n.. automodule:: tinyvrnn.{name}\n   :noindex:"
    if inspect.isclass(found):
        return f".. autoclass:: tinyvrnn.{name}"
    owner = name.rpartition(".")[0]
    method = owner and inspect.isclass(pkgutil.resolve_name(f"tinyvrnn:{owner}"))
    kind = ("method" if callable(found) else "attribute") if method else "function"
    return f".. auto{kind}:: tinyvrnn.{name}"


# ---- notebooks -------------------------------------------------------------------------------------------------------


def course_page(stem, repository):
    """A student's notebook with the outputs that the solutions have, after an overview."""
    notebook, solved = student(stem), solution(stem)
    lines, heading = answers(notebook, solved), ""
    for cell, answer in zip(notebook.cells, solved.cells, strict=True):
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE) or [heading])[-1]
            cell.source = page(cell.source, f"notebooks/{stem}.ipynb", repository)
        elif not cell.metadata.get("nbgrader", {}).get("grade"):  # a check may print the answer to a prediction
            cell.outputs = [output for output in answer.outputs if not any(line in str(output) for line in lines)]
            cell.metadata["mystnb"] = {"image": {"alt": alternative(heading, cell.source)}}
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(overview(stem, repository), id=f"{stem[:2]}-overview"))
    return notebook


def answers(notebook, solved):
    """The longer lines of the answers: the source of a function, which a cell shows, can contain them."""
    pairs = zip(notebook.cells, solved.cells, strict=True)
    answered = (cell for gap, cell in pairs if gap.metadata.get("nbgrader", {}).get("solution"))
    lines = (line.strip() for cell in answered for line in cell.source.split("\n"))
    given = "\n".join(cell.source for cell in notebook.cells)
    return [line for line in lines if len(line) > 20 and line not in given]


def alternative(heading, code):
    """What a picture shows, in words: its section and the words of its titles and labels."""
    words = re.findall(r"""(?:title|label|ylabel|xlabel)\w*(?:=|\()f?["']([^"'{}$]+)["']""", code)
    return re.sub(r"[$`\\*]", "", "; ".join([heading, *dict.fromkeys(words)]))


def overview(stem, repository):
    """Goals, exercises and the ways to run a notebook; its first cell tells time and prerequisites."""
    exercises = [f"{n} {e.title} ({e.kind}, {e.points})" for n, e in EXERCISES.items() if n.startswith(stem[:2])]
    goals = "\n".join(f"- {goal}" for goal in tomllib.loads(GOALS.read_text(encoding="utf-8"))[stem[:2]])
    badges = [f"[**Run this in your browser**](site:lite/lab/index.html?path={stem}.ipynb)"]
    if repository:
        owner_and_name = "/".join(repository.split("/")[-2:])
        badges.append(f"[Colab](https://colab.research.google.com/github/{owner_and_name}/blob/colab/{stem}.ipynb)")
        lab = f"?urlpath=lab/tree/notebooks/{stem}.ipynb"
        badges.append(f"[Binder](https://mybinder.org/v2/gh/{owner_and_name}/main{lab})")
    return f"""\
:::{{admonition}} About this notebook
:class: tip

{" · ".join(badges)}

You will be able to

{goals}

**Exercises** (kind, points): {"; ".join(exercises) or "none"}.

The outputs below are those of a solved notebook. The answers are left out; a check shows its verdict when you run it.
:::"""


SETUP = """\
# Installs the package where it is missing: in a browser from the wheel beside the site, on Colab from the repository
import importlib.util, os, sys

if sys.platform == "emscripten":
    %pip install -q tinyvrnn ipywidgets
    os.environ["TINYVRNN_HOME"] = "/drive"  # the browser's storage: your progress survives a reload
elif importlib.util.find_spec("tinyvrnn") is None:
    %pip install -q "git+REPOSITORY"
"""
NOTE = "*In a browser, this notebook trains less than its text says, so its figures are worse.*"


def portable(notebook, number, repository):
    """The notebook with a cell that installs the package."""
    setup = SETUP.replace("REPOSITORY", repository) if repository else SETUP.partition("elif")[0]
    notebook.cells.insert(1, nbformat.v4.new_code_cell(setup.rstrip(), id=f"{number}-setup"))
    return notebook


def shorter(notebook, number):
    """The notebook with the shorter training of a browser, and without assertions about trained models."""
    changes, changed = BROWSER.get(number, []), False
    for cell in notebook.cells if changes else ():
        source = cell.source
        for old, new in changes:
            cell.source = cell.source.replace(old, new)
        changed |= cell.source != source
        if changed and cell.cell_type == "code" and not cell.metadata.get("nbgrader"):
            cell.source = without_assertions(cell.source)
    if changes:
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(NOTE, id=f"{number}-note"))
    return notebook


def without_assertions(code):
    """Code whose assertions are left out."""
    lines = code.split("\n")
    tree = ast.parse(re.sub("^[%!]", "#", code, flags=re.MULTILINE))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    for node in sorted(found, key=lambda node: node.lineno, reverse=True):
        lines[node.lineno - 1 : node.end_lineno] = [" " * node.col_offset + "pass"] if node.col_offset else []
    return "\n".join(lines).rstrip()


def write_notebooks(repository):
    for stem in NOTEBOOKS:
        write(PAGES / "notebooks" / f"{stem}.ipynb", nbformat.writes(course_page(stem, repository)))
        if repository:
            write(SITE / "colab" / f"{stem}.ipynb", nbformat.writes(portable(student(stem), stem[:2], repository)))


def student(stem):
    return nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", 4)


def solution(stem):
    return nbformat.read(ROOT / "notebooks" / "solutions" / f"{stem}.ipynb", 4)


# ---- building --------------------------------------------------------------------------------------------------------


def run(*command, **options):
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True, cwd=SITE, **options)


def build_html(repository):
    environment = os.environ | {"TINYVRNN_REPOSITORY": repository}
    run("sphinx", "-W", "--keep-going", "-q", "-c", ROOT / "docs", PAGES, HTML, env=environment)


def build_lite(output, pyodide, notebooks=student, **config):
    """JupyterLite with the notebooks, the wheel of this checkout and what this needs that is pure Python."""
    for name in PACKAGED:
        write(SITE / "source" / name, (ROOT / name).read_text(encoding="utf-8"))
    shutil.copytree(ROOT / "tinyvrnn", SITE / "source" / "tinyvrnn", ignore=shutil.ignore_patterns("__pycache__"))
    run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", LITE / "pypi", SITE / "source", *PURE)
    for stem in NOTEBOOKS:
        notebook = portable(shorter(notebooks(stem), stem[:2]), stem[:2], "")
        write(LITE / "files" / f"{stem}.ipynb", nbformat.writes(notebook, split_lines=False))
    if pyodide:
        shutil.copytree(pyodide, LITE / "static" / "pyodide")
    extensions = [str(Path(sys.prefix, "share/jupyter/labextensions", name)) for name in EXTENSIONS]
    settings = {"ignore_sys_prefix": ["federated_extensions"], "federated_extensions": extensions}
    settings |= {"apps": ["lab"], "no_sourcemaps": True, "no_unused_shared_packages": True}
    write(LITE / "jupyter_lite_config.json", json.dumps({"LiteBuildConfig": settings}))
    write(LITE / "jupyter-lite.json", json.dumps({"jupyter-lite-schema-version": 0, "jupyter-config-data": config}))
    (SITE / ".jupyterlite.doit.db").unlink(missing_ok=True)  # it remembers files that are gone
    run("jupyterlite_core.app", "build", "--lite-dir", LITE, "--output-dir", output, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", default="", metavar="URL", help="where the checkout is published")
    parser.add_argument("--pyodide", type=Path, metavar="FOLDER", help="pyodide.js and the wheels of its distribution")
    parser.add_argument("--no-lite", action="store_true", help="only the pages")
    arguments = parser.parse_args()
    shutil.rmtree(SITE, ignore_errors=True)
    repository = arguments.repository.rstrip("/")
    write_pages(repository)
    write_notebooks(repository)
    build_html(repository)
    if not arguments.no_lite:
        build_lite(HTML / "lite", arguments.pyodide)
    write(SITE / "finished", "")  # for the tests: the files of JupyterLite keep the times of their archive
    print(f"{(HTML / 'index.html').relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
