"""The pages in docs/ are right: their Python runs, the code they quote is the code, the names they mention exist.

Catches: a renamed function, a moved test, a dead link, a derivation without a page, a page that quotes old code, and a
claim in a page's snippet that no longer holds.
"""

import ast
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

import tinyvrnn
from tinyvrnn.gradcheck.all_pairs import PAIRS

ROOT = Path(__file__).resolve().parent.parent
DERIVATIONS = sorted((ROOT / "docs" / "derivations").glob("*.md"))
PAGES = sorted((ROOT / "docs").glob("*.md")) + DERIVATIONS


def page_name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """(line number, text) of each fenced block of a language."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start(1)), found[1]


def resolve(name):
    """The object called tinyvrnn.module.function: the longest prefix that imports, then attributes."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


def lines_of(code):
    """Code lines without indentation, comments and blank lines."""
    stripped = (re.sub(r"\s*(^|  )# .*$", "", line.strip()) for line in code.splitlines())
    return [line for line in stripped if line]


@functools.cache
def functions_in(path):
    """The names of all functions in a test file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def heading_anchors(text):
    """GitHub's anchors for a page's headings: lower case, punctuation dropped, spaces to hyphens."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


SLOW = ("elbo", "importance", "lstm", "smoothing")  # numeric gradients of whole bounds


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page_name(page), marks=[pytest.mark.slow] * (page.stem in SLOW)) for page in DERIVATIONS],
)
def test_the_python_of_a_derivation_runs(page):
    """All blocks of a page share one namespace; line numbers in a failure are those of the page."""
    namespace, found = {}, list(blocks(page, "python"))
    assert found, "a derivation without a check"
    for line, code in found:
        exec(compile("\n" * line + code, page_name(page), "exec"), namespace)


@pytest.mark.parametrize("page", DERIVATIONS, ids=page_name)
def test_the_python_of_a_derivation_can_fail(page):
    code = "\n".join(text for _, text in blocks(page, "python"))
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize("page", DERIVATIONS, ids=page_name)
def test_quoted_code_is_the_code(page):
    """A ```py block names a function in its first line; its other lines appear in that function, in this order."""
    for line, text in blocks(page, "py"):
        name, *quoted = text.splitlines()
        source = iter(lines_of(inspect.getsource(resolve(name.removeprefix("# ")))))
        for wanted in lines_of("\n".join(quoted)):
            assert wanted in source, f"block at line {line}: {name[2:]} has no such line, or not in this place"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_names_in_a_page_exist(page):
    for name in set(re.findall(r"\btinyvrnn(?:\.[A-Za-z_]\w*)+", page.read_text(encoding="utf-8"))):
        resolve(name)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_functions_in_a_page_exist(page):
    for path, name in set(re.findall(r"\b(tests/\w+\.py)::(\w+)", page.read_text(encoding="utf-8"))):
        assert name in functions_in(ROOT / path), f"{path}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_in_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in heading_anchors(linked.read_text(encoding="utf-8")), target


def test_every_derivation_is_linked_from_its_index():
    index = (ROOT / "docs" / "derivations" / "README.md").read_text(encoding="utf-8")
    for page in DERIVATIONS:
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_is_derived_on_a_page_and_in_the_index(name):
    index, *pages = sorted(DERIVATIONS, key=lambda page: page.name != "README.md")
    assert f"`{name}`" in index.read_text(encoding="utf-8")
    assert any(f"`{name}`" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("equation", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
def test_the_equation_map_has_a_row_for_each_equation_and_a_function_and_a_test_for_each_of_the_vrnn(equation):
    text = (ROOT / "docs" / "equation_map.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {equation} \|.*$", text, re.MULTILINE)
    assert equation < 5 or ("`tinyvrnn." in row and "`tests/" in row and "](derivations/" in row)


def test_the_citation_is_of_the_version_that_is_here():
    assert f"\nversion: {tinyvrnn.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
