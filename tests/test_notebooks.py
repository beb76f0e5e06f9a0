"""The notebooks: the committed ones are built from the sources, the solutions run, students' stubs are refused.

Catches: a notebook edited by hand or not rebuilt, an output that depends on the machine or the backend, a warning, a
claim in a cell that no longer holds, an exercise without a grader or a grader without an exercise, and a name, test or
link that does not exist. Tests marked slow execute all notebooks (`make test-all`); `make test` the quickest one.
"""

import base64
import copy
import functools
import io
import os
import re
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from test_docs import functions_in, resolve

from tinyvrnn.course import EXERCISES, NOTEBOOKS
from tinyvrnn.course.exercises import chapter_of
from tinyvrnn.course.sandbox import NOT_WRITTEN

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import build_notebooks as build  # noqa: E402
import build_site as site  # noqa: E402
import reading_times  # noqa: E402

SOURCES = build.sources()
README = (build.STUDENTS / "README.md").read_text(encoding="utf-8")
QUICKEST = ("06",)
SECONDS, SECONDS_IN_ALL = 60, 8 * 60
took = {}


def name(path):
    return path.stem


def executions():
    """All sources; long ones are marked slow."""
    return [pytest.param(path, marks=[] if path.name[:2] in QUICKEST else pytest.mark.slow) for path in SOURCES]


def built(folder, path):
    return nbformat.read(folder / f"{path.stem}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@functools.cache
def markdown(path):
    return "\n\n".join(cell.source for cell in build.read(path).cells if cell.cell_type == "markdown")


# ---- what is committed ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_the_students_notebook_is_the_one_that_the_source_builds(path):
    expected = nbformat.writes(build.student(build.read(path)), indent=1) + "\n"
    assert (build.STUDENTS / f"{path.stem}.ipynb").read_text(encoding="utf-8") == expected, "run `make notebooks`"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_the_solutions_notebook_has_the_cells_of_the_source(path):
    expected, found = build.read(path), built(build.SOLUTIONS, path)
    assert [(c.id, c.source, c.metadata) for c in found.cells] == [(c.id, c.source, c.metadata) for c in expected.cells]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_the_committed_outputs_are_clean(path):
    require_clean(built(build.SOLUTIONS, path))


def test_every_notebook_has_its_two_built_versions_and_a_title():
    for folder in (build.STUDENTS, build.SOLUTIONS):
        assert sorted(p.stem for p in folder.glob("*.ipynb")) == [path.stem for path in SOURCES]
    for path in SOURCES:
        assert markdown(path).startswith(f"# {path.name[:2]} · {NOTEBOOKS[path.name[:2]]}\n")


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_less_than_8_percent_of_the_code_in_sight_draws(path):
    cells = code_cells(build.read(path))
    seen = [cell.source for cell in cells if "hide-input" not in cell.metadata.get("tags", [])]
    lines = sum(len(source.splitlines()) for source in seen)
    drawing = sum(map(build.drawing_lines, seen))
    assert 0 < drawing < 0.08 * lines, "draw in cells that only draw: these are folded"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_notebook_takes_as_long_as_it_says(path):
    told = reading_times.stated(path)
    assert told % 5 == 0 and abs(told - reading_times.minutes(path.name[:2])) < 5, "reading_times.py --write"


def test_the_instructors_plan_has_the_times_of_the_notebooks():
    told, plan = {path.name[:2]: reading_times.stated(path) for path in SOURCES}, reading_times.in_plan()
    assert sorted(number for numbers in plan for number in numbers) == sorted(told)
    assert plan == {numbers: sum(told[number] for number in numbers) for numbers in plan}


# ---- exercises -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_the_exercises_of_a_notebook_are_those_that_have_a_grader(path):
    wanted = [(number, exercise.kind) for number, exercise in EXERCISES.items() if chapter_of(number) == path.name[:2]]
    assert re.findall(r"^### Exercise (\d\d\.\d+) \((\w+)\)", markdown(path), re.MULTILINE) == wanted
    cells = build.read(path).cells
    grades = [cell.metadata.nbgrader.grade_id for cell in cells if "nbgrader" in cell.metadata]
    assert grades == [f"{what}-{number.replace('.', '-')}" for number, _ in wanted for what in ("solution", "check")]
    assert len(wanted) in (range(3, 7) if "01" <= path.name[:2] <= "11" else range(7))


def test_the_text_says_how_exact_a_predicted_number_has_to_be():
    for path in SOURCES:
        for part in markdown(path).split("### Exercise ")[1:]:
            if getattr(EXERCISES[part[:4]], "truth", None) and EXERCISES[part[:4]].tol > 1e-3:
                assert "correct to two per cent" in " ".join(part.split()) and EXERCISES[part[:4]].tol == 0.02, part[:4]


def test_no_solution_is_left_in_a_students_notebook():
    for path in SOURCES:
        for cell in code_cells(built(build.STUDENTS, path)):
            assert "SOLUTION" not in cell.source and not cell.outputs
            assert cell.metadata.get("nbgrader", {}).get("solution", False) == (build.STUB in cell.source)


# ---- what the text names -------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_names_tests_and_links_in_a_notebook_exist(path):
    text = markdown(path)
    for dotted in set(re.findall(r"\btinyvrnn(?:\.[A-Za-z_]\w*)+", text)):
        resolve(dotted)
    for file, function in set(re.findall(r"\b(tests/\w+\.py)::(\w+)", text)):
        assert function in functions_in(ROOT / file), f"{file}::{function}"
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        assert target.startswith("https://") or leads_somewhere(target), target


def leads_somewhere(target):
    """To a file, or to a planned notebook, which notebooks/README.md then lists as planned."""
    return (build.STUDENTS / target).exists() or f"`{target}` (to come)" in README


# ---- execution -----------------------------------------------------------------------------------


def require_clean(notebook):
    for cell in code_cells(notebook):
        assert cell.execution_count is not None, f"{cell.id} was not run"
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", f"{cell.id}: {output}"
            text = "".join(output.get("text", "")) + "".join(output.get("data", {}).get("text/plain", ""))
            assert not re.search(r"0x[0-9a-f]{6}|Warning\b", text), f"{cell.id}: {text}"


def require_same_outputs(notebook, expected):
    for cell, kept in zip(code_cells(notebook), code_cells(expected), strict=True):
        if "volatile" in cell.metadata.get("tags", []):
            continue
        assert printed(cell) == printed(kept), cell.id
        shown, kept_shown = ([o.data for o in c.outputs if "data" in o] for c in (cell, kept))
        assert [sorted(data) for data in shown] == [sorted(data) for data in kept_shown], cell.id
        for data, kept_data in zip(shown, kept_shown):
            if "image/png" in data:  # beside a picture stands its size in pixels, which fonts decide
                assert pixels_apart(data["image/png"], kept_data["image/png"]) < 2, cell.id
            else:
                assert without_errors(data) == without_errors(kept_data), cell.id


def without_errors(data):
    """What a cell shows, less the errors of a right answer, which are of other decades on other processors."""
    return {kind: re.sub(r"(?<=float64 and float32): [^<]*", "", str(value)) for kind, value in data.items()}


def printed(cell):
    """The printed output of a cell, which a kernel may send in several pieces."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def pixels_apart(a, b):
    """Mean absolute difference of two pictures, from 0 to 255."""
    a, b = (np.asarray(Image.open(io.BytesIO(base64.b64decode(x))).convert("L"), dtype=float) for x in (a, b))
    return abs(a - b).mean() if a.shape == b.shape else np.inf


def clocks():
    """Wall-clock and CPU seconds; other load on the machine affects only the first."""
    kernels = os.times()
    return time.perf_counter(), kernels.children_user + kernels.children_system


@pytest.mark.xdist_group("solutions")  # in one process, which sums their times
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", executions(), ids=name)
def test_the_solutions_run_clean_and_as_committed(path):
    start = clocks()
    notebook = build.executed(build.read(path))
    took[path.stem] = min(now - then for now, then in zip(clocks(), start))
    require_clean(notebook)
    require_same_outputs(notebook, built(build.SOLUTIONS, path))
    assert took[path.stem] < SECONDS and sum(took.values()) < SECONDS_IN_ALL, took


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_the_solutions_run_on_the_strict_backend_with_the_same_outputs(path):
    """Those that train for long are run on both backends as in a browser, with shorter training."""
    source = site.shorter(build.read(path), path.name[:2])
    expected = build.executed(source) if path.name[:2] in site.BROWSER else built(build.SOLUTIONS, path)
    notebook = build.executed(source, TINYVRNN_BACKEND="strict")
    require_clean(notebook)
    require_same_outputs(notebook, expected)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", build.sources(["05"]), ids=name)
def test_each_cell_can_be_run_twice(path):
    notebook = build.read(path)
    notebook.cells = [copy.deepcopy(c) for c in notebook.cells for _ in range(1 + (c.cell_type == "code"))]
    for i, cell in enumerate(notebook.cells):
        cell.id = f"{cell.id}-{i}"
    require_clean(build.executed(notebook))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", executions(), ids=name)
def test_a_students_notebook_runs_to_its_end_and_every_stub_is_refused(path):
    student = site.shorter(build.student(build.read(path)), path.name[:2])
    notebook = build.executed(student)  # it stops at an error in an untagged cell
    reached = False
    for cell in code_cells(notebook):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        about = cell.metadata.get("nbgrader", {})
        reached = reached or bool(about)
        assert reached or not errors, f"{cell.id}: {errors}"
        if about.get("grade"):
            (error,) = errors
            number = about.grade_id.removeprefix("check-").replace("-", ".")
            assert error.ename == "NotYet" and error.evalue == f"{number} {EXERCISES[number].title}: {NOT_WRITTEN}"
