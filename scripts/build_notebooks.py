"""Builds the notebooks from notebooks/src/NN_*.py: the students' with stubs, and the executed ones with solutions.

    python scripts/build_notebooks.py            all
    python scripts/build_notebooks.py 06 07      some
    python scripts/build_notebooks.py --students only those without outputs (seconds)
    python scripts/build_notebooks.py --keep     the same, and the outputs of the others as they are, where code is

Sources are in jupytext's py:percent format. A student's part is between nbgrader's `### BEGIN SOLUTION` and
`### END SOLUTION`; a cell that calls `tv.course.check("NN.i", ...)` is the test of that exercise. Both get nbgrader's
metadata here, and a cell that mostly draws is folded. Cells tagged "volatile" have outputs that vary between runs or
CPUs: timings, widgets, samples of a trained model. A check, and each cell that uses an answer, is tagged "raises-
exception" here, so that "Run All" does not stop there while the answer is not written. Headings start slides (`jupyter
nbconvert --to slides`).
"""

import argparse
import ast
import copy
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbgrader.preprocessors import ClearSolutions

from tinyvrnn.course import EXERCISES
from tinyvrnn.course.box import Cell

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "notebooks" / "src"
STUDENTS = ROOT / "notebooks"
SOLUTIONS = ROOT / "notebooks" / "solutions"
STUB = "...  # YOUR CODE HERE"
DRAWS = re.compile(r"\b(plt|figure|axes|grid|panels)\b\s*[.\[=,(]|\btv\.plots\.|\b(left|right|upper|lower)\.[a-z]+\(")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources(numbers=()):
    """The source files, all or those of the given two-digit numbers."""
    return [path for path in sorted(SOURCES.glob("[0-9]*.py")) if not numbers or path.name[:2] in numbers]


def read(path):
    """The notebook of a source, with stable cell ids and nbgrader's metadata, without outputs."""
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    number = None
    for i, cell in enumerate(notebook.cells):
        cell.id = f"{path.name[:2]}-{i:03d}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {})
        if cell.cell_type == "markdown":
            number = (re.findall(r"^### Exercise (\d\d\.\d+)", cell.source, re.MULTILINE) or [number])[-1]
        elif "### BEGIN SOLUTION" in cell.source:
            cell.metadata["nbgrader"] = _nbgrader(f"solution-{number}", solution=True)
        elif found := re.search(r'tv\.course\.check\("(\d\d\.\d+)"', cell.source):
            cell.metadata["nbgrader"] = _nbgrader(f"check-{found[1]}", grade=True, points=EXERCISES[found[1]].points)
        elif folded(cell.source):
            cell.metadata |= {
                "jupyter": {"source_hidden": True},
                "tags": [*cell.metadata.get("tags", []), "hide-input"],
            }
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            cell.metadata["slideshow"] = {"slide_type": "slide"}
    _tag_what_uses_answers([cell for cell in notebook.cells if cell.cell_type == "code"])
    return notebook


def _tag_what_uses_answers(cells):
    """Tag the cells that fail while an answer is not written."""
    open_names = set()
    for cell in cells:
        code = Cell(re.sub("^%.*", "", cell.source, flags=re.MULTILINE))
        if "### BEGIN SOLUTION" in cell.source:
            open_names |= code.binds
        elif code.uses & open_names or "tv.course.check(" in cell.source:
            open_names |= code.binds
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "raises-exception"]


def folded(source):
    """Whether drawing takes 40% of a cell's lines, and more than three: its picture is the point, and not its code."""
    drawing = drawing_lines(source)
    return drawing > 3 and drawing >= 0.4 * len(source.splitlines())


def drawing_lines(source):
    """The number of lines in a cell's statements that draw."""
    statements = ast.parse(source.replace("%matplotlib inline", "")).body
    plain = ast.Import, ast.ImportFrom
    drawing = [
        s for s in statements if not isinstance(s, plain) and DRAWS.search(ast.get_source_segment(source, s) or "")
    ]
    return sum(s.end_lineno - s.lineno + 1 for s in drawing)


def _nbgrader(name, solution=False, grade=False, points=None):
    about = {"grade_id": name.replace(".", "-"), "grade": grade, "solution": solution, "locked": grade, "task": False}
    return about | {"schema_version": 3} | ({"points": points} if grade else {})


def student(notebook):
    """The student's version: nbgrader's preprocessor replaces solutions by a stub."""
    clear = ClearSolutions(code_stub={"python": STUB})
    return clear.preprocess(copy.deepcopy(notebook), {})[0]


def executed(notebook, timeout=300, **environment):
    """The notebook run from top to bottom in notebooks/, with outputs; raises nbclient's CellExecutionError."""
    notebook = copy.deepcopy(notebook)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        coalesce_streams=True,  # merges the pieces in which a kernel sends its prints
        resources={"metadata": {"path": STUDENTS}},
        extra_arguments=["--log-level=ERROR"],
    )
    with tempfile.TemporaryDirectory() as home:  # keeps the builder's own progress file, and has the earlier answers
        keep_answers(Path(home) / "answers")
        client.execute(env=os.environ | {"TINYVRNN_HOME": home} | environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata.pop("widgets", None)
    return notebook


def with_outputs(notebook, path):
    """The notebook with the outputs that the cells of the one at `path` have, which has the same code."""
    old = nbformat.read(path, as_version=4)
    for cell, kept in zip(notebook.cells, old.cells, strict=True):
        if cell.cell_type == "code":
            assert cell.source == kept.source, f"{path.name}: {cell.id} has changed, run it"
            cell.outputs, cell.execution_count = kept.outputs, kept.execution_count
    return notebook


def keep_answers(folder):
    """The functions of all solutions, as the course keeps a student's that have passed."""
    folder.mkdir()
    for path in sources():
        for cell in read(path).cells:
            about = cell.metadata.get("nbgrader", {})
            if about.get("solution") and "def " in cell.source:
                number = about.grade_id.removeprefix("solution-").replace("-", ".")
                (folder / f"{number}.py").write_text(cell.source, encoding="utf-8")


def write(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", metavar="NN", help="which ones (default: all)")
    parser.add_argument("--students", action="store_true", help="do not execute: write the students' only")
    parser.add_argument("--keep", action="store_true", help="do not execute: keep the outputs of the others")
    arguments = parser.parse_args()
    for path in sources(arguments.numbers):
        notebook, start = read(path), time.perf_counter()
        write(student(notebook), STUDENTS / f"{path.stem}.ipynb")
        solution = SOLUTIONS / f"{path.stem}.ipynb"
        if arguments.keep:
            write(with_outputs(notebook, solution), solution)
        elif not arguments.students:
            write(executed(notebook), solution)
        print(f"{path.stem}: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
