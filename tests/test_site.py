"""The site: its settings, the pages, the notebooks of the browser and, marked slow, what Sphinx and JupyterLite build.

Catches: a page outside of every table of contents; a notebook without goals, time or prerequisites; a picture without
words; a dead link; a page that is cut off on a telephone; a file from another server; an answer to an exercise in a
page or in the search; shorter training that no longer applies; a workflow that calls a target that does not exist.
"""

import ast
import functools
import html
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import build_site as site  # noqa: E402

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
URL = "https://github.com/someone/something"


# ---- pages -----------------------------------------------------------------------------------------------------------


def test_every_page_is_in_a_table_of_contents_once():
    pages = [p.relative_to(ROOT).as_posix() for p in (*ROOT.glob("docs/*.md"), *ROOT.glob("docs/derivations/*.md"))]
    pages = [site.MOVED.get(page, page.removeprefix("docs/")) for page in pages]
    below = [(Path(page).parent / child).as_posix() for page, names in site.CHILDREN.items() for child in names]
    below = [re.sub(r".*<(.*)>", r"\1", name).strip("/") for name in below]
    assert sorted({page.removesuffix(".md") for page in (*pages, *site.MOVED.values())} - {"index"}) == sorted(
        name for name in below if name.removeprefix("notebooks/") not in site.NOTEBOOKS
    )
    assert len(below) == len({*below})


@pytest.mark.parametrize("stem", site.NOTEBOOKS)
def test_every_notebook_has_goals_time_and_prerequisites(stem):
    first = " ".join(site.student(stem).cells[0].source.split())
    assert "*You need*: " in first and "*It takes* " in first
    assert len(tomllib.loads(site.GOALS.read_text(encoding="utf-8"))[stem[:2]]) >= 2


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/**/*.md")) + [ROOT / "README.md"], ids=lambda path: path.name)
def test_every_picture_has_words(path):
    for image, alternative, target in site.LINK.findall(path.read_text(encoding="utf-8")):
        assert not image or len(alternative) > 15, target


@pytest.mark.parametrize(
    ("written", "file", "there"),
    [
        ("[a](../notebooks/README.md)", "docs/how_to.md", "[a](notebooks/index.md)"),
        ("[a](../data.md#forms)", "docs/derivations/gmm.md", "[a](../data.md#forms)"),
        ("[a](../docs/data.md)", "notebooks/README.md", "[a](../data.md)"),
        ("[a](06_backward_by_hand_1.ipynb)", "notebooks/README.md", "[a](06_backward_by_hand_1.ipynb)"),
        ("![a](images/step.png)", "docs/performance.md", "![a](images/step.png)"),
        ("[a](../tinyvrnn/one_page.py)", "docs/index.md", "[a](site:source/tinyvrnn/one_page.html)"),
        ("[a](solutions/)", "notebooks/README.md", "a"),
        ("[a](../tests/answers/ch01.py)", "docs/testing.md", "a"),
        ("[a](https://b.c)", "docs/testing.md", "[a](https://b.c)"),
        ("`tests/answers/ch01.py`", "docs/testing.md", "`tests/answers/ch01.py`"),
        ("`tinyvrnn/nn/gru.py`", "docs/how_to.md", "[`tinyvrnn/nn/gru.py`](site:source/tinyvrnn/nn/gru.html)"),
        ("| `tinyvrnn.nn.gru` |", "docs/how_to.md", "| [`gru`](site:source/tinyvrnn/nn/gru.html) |"),
        ("```py\n[a](b.md) `tinyvrnn/nn/gru.py`\n```", "docs/how_to.md", "```py\n[a](b.md) `tinyvrnn/nn/gru.py`\n```"),
    ],
)
def test_links_are_those_of_the_site(written, file, there):
    assert site.page(written, file, "") == there


def test_a_file_that_has_no_page_is_linked_in_the_repository_if_one_is_known():
    assert site.page("[a](../Makefile)", "docs/how_to.md", "") == "a"
    assert site.page("[a](../Makefile)", "docs/how_to.md", URL) == f"[a]({URL}/blob/main/Makefile)"


def test_a_function_in_the_equation_map_is_linked_to_its_line():
    text = (ROOT / "docs" / "equation_map.md").read_text(encoding="utf-8")
    bare = re.findall(r"(?<!\[)`(?:tinyvrnn\.|tests/)[^`]*`", site.page(text, "docs/equation_map.md", ""))
    assert not bare
    file, line = site.place("tinyvrnn.nn.gru.gru_forward")
    assert (ROOT / file).read_text(encoding="utf-8").splitlines()[line - 1].startswith("def gru_forward")


# ---- notebooks -------------------------------------------------------------------------------------------------------


@functools.cache
def answers():
    """The lines of the solutions that stand nowhere in the students' notebooks."""
    given = "\n".join(cell.source for stem in site.NOTEBOOKS for cell in site.student(stem).cells)
    lines = []
    for path in sorted(ROOT.glob("notebooks/src/*.py")):
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", text, re.DOTALL):
            lines += [line.strip() for line in block.split("\n")]
    return [line for line in dict.fromkeys(lines) if len(line) > 20 and line not in given]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("stem", site.NOTEBOOKS)
def test_a_course_page_has_the_outputs_but_neither_answers_nor_verdicts(stem):
    page = site.course_page(stem, "")
    text = nbformat.writes(page, split_lines=False)
    assert [line for line in answers() if json.dumps(line)[1:-1] in text] == []
    outputs = [len(cell.outputs) for cell in page.cells if cell.cell_type == "code"]
    assert sum(outputs) > 3
    assert not any(c.outputs for c in page.cells if c.metadata.get("nbgrader", {}).get("grade"))


@pytest.mark.parametrize("stem", site.NOTEBOOKS)
def test_every_picture_of_a_course_page_has_words(stem):
    for cell in site.course_page(stem, "").cells:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            assert len(cell.metadata["mystnb"]["image"]["alt"]) > 5


@pytest.mark.parametrize("repository", ["", URL])
def test_badges_need_a_repository(repository):
    overview = site.overview("06_backward_by_hand_1", repository)
    assert "(site:lite/lab/index.html?path=06_backward_by_hand_1.ipynb)" in overview
    assert ("colab.research.google.com" in overview) == ("mybinder.org" in overview) == bool(repository)


@pytest.mark.parametrize(("repository", "installs"), [("", ["tinyvrnn"]), (URL, ["tinyvrnn", f"git+{URL}"])])
def test_a_portable_notebook_installs_what_it_needs_first(repository, installs):
    notebook = site.portable(site.student("00_start_here"), "00", repository)
    setup = next(cell for cell in notebook.cells if cell.cell_type == "code").source
    assert re.findall(r'%pip install -q "?([^\s"]+)', setup) == installs and '"/drive"' in setup
    ast.parse(setup.replace("%pip", "pass #"))
    nbformat.validate(notebook)


@pytest.mark.parametrize("number", site.BROWSER)
def test_shorter_training_applies_and_only_assertions_about_it_are_left_out(number):
    stem = next(stem for stem in site.NOTEBOOKS if stem.startswith(number))
    for notebook in (site.student(stem), site.solution(stem)):
        sources = "\n".join(cell.source for cell in notebook.cells)
        assert [old for old, _ in site.BROWSER[number] if sources.count(old) != 1] == []
        original = [cell.source for cell in notebook.cells]
        first = next(i for i, source in enumerate(original) if any(old in source for old, _ in site.BROWSER[number]))
        shorter = site.shorter(notebook, number).cells
        assert [cell.source for cell in (shorter[0], *shorter[2 : first + 1])] == original[:first]
        for cell in shorter[first + 1 :]:
            if cell.cell_type == "code" and not cell.metadata.get("nbgrader"):
                tree = ast.parse(re.sub("^[%!]", "#", cell.source, flags=re.MULTILINE))
                assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree))


# ---- workflows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_what_exists_and_asks_for_few_rights(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    targets = {*re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)}
    for job in workflow["jobs"].values():
        assert job["runs-on"] and set(job.get("needs", "").split()) <= set(workflow["jobs"])
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert {*re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))} <= targets
            assert {*re.findall(r"(?<!\S)(\.ci/\w+)", step.get("run", ""))} <= {".ci/run"}


def test_the_workflows_cover_systems_and_pythons():
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert jobs["test"]["strategy"]["matrix"]["python"] == re.findall(r"Python :: (3\.\d+)", setup)
    assert {system.split("-")[0] for system in jobs["test"]["strategy"]["matrix"]["system"]} == {
        "ubuntu",
        "macos",
        "windows",
    }


# ---- the built site --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built():
    """The folder of the built site; built here unless it is newer than all that it is made of."""
    made = site.SITE / "finished"
    sources = [path for pattern in ("docs/**/*", "notebooks/**/*", "tinyvrnn/**/*.py") for path in ROOT.glob(pattern)]
    newest = max(path.stat().st_mtime for path in (*sources, Path(site.__file__)) if path.is_file())
    if not made.is_file() or made.stat().st_mtime < newest:
        for name in ("jupyterlite_core", "myst_nb"):
            pytest.importorskip(name)
        subprocess.run([sys.executable, site.__file__], check=True, cwd=ROOT)
    return site.HTML


@functools.cache
def read(path):
    return path.read_text(encoding="utf-8")


@functools.cache
def anchors(path):
    return {html.unescape(name) for name in re.findall(r'\b(?:id|name)="([^"]+)"', read(path))}


def pages(folder):
    found = sorted(folder.rglob("*.html"))
    return [path for path in found if path.relative_to(folder).parts[0] not in ("lite", "_static")]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("site")
def test_no_link_of_the_site_is_dead(built):
    dead = []
    for page in pages(built):
        for target in re.findall(r'<(?:a|link|img|script)\b[^>]*?\b(?:href|src)="([^"]+)"', read(page)):
            path, _, anchor = unquote(html.unescape(target)).partition("#")
            if re.match(r"(https?|mailto|data|javascript):", path):
                continue
            file = (page.parent / path.partition("?")[0]).resolve() if path else page
            if not file.is_file() or (anchor and file.suffix == ".html" and anchor not in anchors(file)):
                dead.append(f"{page.relative_to(built)}: {target}")
    assert dead == []


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_a_page_loads_nothing_from_elsewhere_and_describes_its_pictures(built):
    for page in pages(built):
        text = read(page)
        assert re.findall(r'<(?:script|img|iframe)\b[^>]*src="(?:https?:)?//[^"]*', text) == [], page
        assert re.findall(r'<link\b[^>]*rel="stylesheet"[^>]*href="(?:https?:)?//[^"]*', text) == [], page
        for image in re.findall(r"<img\b[^>]*>", text):
            assert re.search(r'\balt="(?!\.\./|_images)[^"]{6,}"', image), f"{page}: {image}"
    assert (built / "_static" / "mathjax" / "tex-chtml.js").is_file()


# What is beyond the window's edge, and in nothing that scrolls: the theme hides it.
BEYOND = """() => [...document.querySelectorAll(".bd-article *")].filter((element) =>
    element.getBoundingClientRect().right > innerWidth + 1
    && !element.closest("pre, div.math, mjx-assistive-mml, .pst-scrollable-table-container, .cell_output")
).map((element) => element.outerHTML.slice(0, 100))"""
# Displayed formulas that are wider than their paragraph; one with a number widens its own container.
WIDE = """() => [...document.querySelectorAll('.bd-article mjx-container[display="true"]')].filter((formula) =>
    formula.scrollWidth > 1.02 * Math.min(formula.clientWidth, formula.parentElement.clientWidth)
).map((formula) => formula.textContent.slice(0, 100))"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("site")
def test_nothing_is_cut_off_on_a_page_of_400_pixels(built):
    playwright = pytest.importorskip("playwright.sync_api")
    lite_test = pytest.importorskip("lite_test")
    chromium = next(filter(None, map(shutil.which, lite_test.BROWSERS)), None) or pytest.skip("needs Chromium")
    with playwright.sync_playwright() as browsers:
        page = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        page.set_viewport_size({"width": 400, "height": 800})
        for path in pages(built):
            if path.relative_to(built).parts[0] != "source":
                page.goto(path.as_uri(), wait_until="domcontentloaded")
                page.evaluate("() => window.MathJax?.startup?.promise.then(fit)")
                assert page.evaluate(BEYOND) == page.evaluate(WIDE) == [], path


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_neither_the_pages_nor_the_search_have_answers(built):
    written = [page for page in pages(built) if page.relative_to(built).parts[0] in ("notebooks", "reference")]
    assert len(written) > 20
    for page in written:
        text = html.unescape(re.sub(r"<[^>]+>", "", read(page)))
        assert [line for line in answers() if line in text] == [], page
    index = read(built / "searchindex.js")
    assert "tinyvrnn/course/exercises" not in index and "source/tinyvrnn" not in index
    assert "backpropagation" in index or "backpropag" in index


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_jupyterlite_has_the_students_notebooks_and_the_wheel_of_this_checkout(built):
    lite = built / "lite"
    listed = [entry["name"] for entry in json.loads(read(lite / "api" / "contents" / "all.json"))["content"]]
    assert sorted(listed) == [f"{stem}.ipynb" for stem in site.NOTEBOOKS]
    for name in listed:
        text = (lite / "files" / name).read_text(encoding="utf-8")
        assert "%pip install -q tinyvrnn" in text and "### BEGIN SOLUTION" not in text
    (wheel,) = (lite / "pypi").glob("tinyvrnn-*.whl")
    assert wheel.name in read(lite / "pypi" / "all.json")
    names = zipfile.ZipFile(wheel).namelist()
    sources = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("tinyvrnn/**/*.py")]
    assert {*sources} <= {*names} and not any(name.startswith(("tests/", "notebooks/")) for name in names)
