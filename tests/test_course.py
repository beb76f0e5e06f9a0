"""The graders of the course: right answers pass in any form, wrong ones never do.

Catches: a grader that accepts a wrong answer or refuses a right one, a hint that belongs to another mistake, student
code that ends the session (errors, endless loops, exit), and an answer that calls, remembers or looks up the reference.
"""

import importlib.util
import json
import re
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinyvrnn import cli, course
from tinyvrnn.arrays.kernels import KERNELS
from tinyvrnn.arrays.strict import StrictArray
from tinyvrnn.course import EXERCISES, NOTEBOOKS, NotYet, progress, sandbox
from tinyvrnn.course.exercise import Prediction, Task
from tinyvrnn.course.exercises import chapter_of
from tinyvrnn.course.grader import GREEN, grade
from tinyvrnn.course.sandbox import NOT_WRITTEN
from tinyvrnn.errors import ConfigError
from tinyvrnn.models.vrnn import VRNN
from tinyvrnn.nn import activations
from tinyvrnn.nn.linear import LinearCache, linear_backward

ANSWERS = Path(__file__).parent / "answers"
TASKS = [number for number, exercise in EXERCISES.items() if isinstance(exercise, Task)]
EXAMPLE = "06.1"


def right_answers(number):
    path = ANSWERS / f"ch{number[:2]}.py"
    spec = importlib.util.spec_from_file_location(f"answers_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RIGHT[number]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYVRNN_HOME", str(tmp_path))
    return tmp_path


def refusal(number, answer, trusted=False):
    with pytest.raises(NotYet) as caught:
        grade(number, EXERCISES[number], answer, trusted)
    return str(caught.value)


# ---- every exercise ------------------------------------------------------------------------------


@pytest.mark.one_in(6)
@pytest.mark.parametrize("number", EXERCISES)
def test_right_answers_pass_however_they_are_written(number):
    answers = right_answers(number)
    assert len(answers) >= 2
    for answer in answers:
        assert grade(number, EXERCISES[number], answer).number == number


@pytest.mark.one_in(8)
@pytest.mark.parametrize("number", EXERCISES)
def test_wrong_answers_fail_and_each_gets_its_own_hint(number):
    mistakes = EXERCISES[number].mistakes
    assert len(mistakes) >= 5 and len({mistake.message for mistake in mistakes}) == len(mistakes)
    for mistake in mistakes:
        said = refusal(number, mistake.answer, trusted=True)
        in_hard_case = said.startswith("With ") and said.endswith(f": {mistake.message}")
        assert said == mistake.message or in_hard_case, said


def nested(function, value):
    """The function applied to the arrays of a result."""
    if isinstance(value, dict):
        return {key: nested(function, item) for key, item in value.items()}
    return (
        tuple(nested(function, item) for item in value)
        if isinstance(value, tuple)
        else function(np.asarray(getattr(value, "_host", value)))
    )


SPOILED = {
    "the sign": lambda v: -v,
    "a factor": lambda v: (1.001 * v).astype(v.dtype),
    "nothing but zeros": np.zeros_like,
    "NaN": lambda v: v * np.nan,
    "one axis too many": lambda v: v[None],
    "float64 always": lambda v: v.astype("float64"),
    "off by one": lambda v: v + 1,
    "rounded": lambda v: v.astype("float16").astype(v.dtype),
}


@pytest.mark.parametrize("spoil", SPOILED)
@pytest.mark.parametrize("number", TASKS)
@pytest.mark.one_in(5)
def test_a_spoiled_right_answer_fails(number, spoil):
    right = EXERCISES[number].reference

    def answer(*arguments):
        return nested(SPOILED[spoil], right(*arguments))

    if spoil == "float64 always" and not EXERCISES[number].dtypes:
        assert grade(number, EXERCISES[number], answer, trusted=True)
    else:
        refusal(number, answer, trusted=True)


def arrays_in(value):
    if isinstance(value, (np.ndarray, StrictArray)):
        yield getattr(value, "_host", value)
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from arrays_in(item)


@pytest.mark.parametrize("number", TASKS)
def test_an_answer_that_writes_to_its_arguments_fails(number):
    right = EXERCISES[number].reference

    def answer(*arguments):
        result = nested(np.copy, right(*arguments))
        last = list(arrays_in(arguments))[-1]
        last += 1
        return result

    assert "must not modify its arguments" in refusal(number, answer, trusted=True)


@pytest.mark.parametrize("number", TASKS)
def test_the_reference_is_no_answer(number):
    exercise = EXERCISES[number]
    for function in (exercise.reference, *exercise.forbidden):
        assert "the answer itself" in refusal(number, lambda *arguments: exercise.reference(*arguments))
        assert function is exercise.reference or hasattr(function, "__code__")


def not_written(*arguments):
    """What it returns."""
    ...  # YOUR CODE HERE


@pytest.mark.parametrize("number", EXERCISES)
@pytest.mark.parametrize("stub", [None, ..., not_written, lambda *arguments: ...])
@pytest.mark.one_in(3)
def test_a_stub_is_told_that_it_is_not_written_yet(number, stub):
    message = refusal(number, stub)
    assert message == NOT_WRITTEN or callable(stub) and isinstance(EXERCISES[number], Prediction)


# ---- what students' code can do ------------------------------------------------------------------


def right(W, x, dy):
    rows = dy.reshape(-1, dy.shape[-1])
    return dy @ W.T, x.reshape(-1, x.shape[-1]).T @ rows, rows.sum(axis=0)


def endless(*arguments):
    return endless(*arguments)


def leaves(*arguments):
    raise SystemExit


def raises(*arguments):
    raise KeyError("W3")


def by_the_package(W, x, dy):
    dx, grads = linear_backward({"W": W}, LinearCache((x,)), dy)
    return dx, grads["W"], grads["b"]


def swallows(W, x, dy):
    try:
        return by_the_package(W, x, dy)
    except BaseException:
        return right(W, x, dy)


def unwatched(W, x, dy):
    import sys

    sys.setprofile(None)
    return by_the_package(W, x, dy)


def remembers():
    seen = []

    def answer(W, x, dy):
        seen.append(right(W, x, dy))
        return seen[0]

    return answer


@pytest.mark.parametrize(
    "answer, said",
    [
        (endless, "without end"),
        (leaves, "SystemExit"),
        (raises, "KeyError"),
        (lambda W, x, dy: x @ x @ x, "ValueError"),
        (lambda W, x: x, "TypeError"),
        (by_the_package, "linear_backward, which is the answer itself"),
        (linear_backward, "the answer itself"),
        (partial(EXERCISES[EXAMPLE].reference), "the answer itself"),
        (swallows, "the answer itself"),
        (unwatched, "sys.setprofile"),
        (remembers(), "expected"),
        (lambda W, x, dy: right(W, x, dy)[:2], "3 results"),
        (lambda W, x, dy: right(W, x, dy)[0], "3 results"),
        (lambda W, x, dy: ("a", "b", "c"), "real numbers"),
        (lambda W, x, dy: [right(W, x, dy)] * 3, ""),
        (lambda W, x, dy: [2 * v for v in right(W, x, dy)], "is 2 times"),
        (lambda W, x, dy: (right(W, x, dy)[0], right(W, x, dy)[1].T, right(W, x, dy)[2]), "transposed"),
        (3, "a function"),
        ("right", "a function"),
    ],
)
def test_whatever_student_code_does_becomes_a_sentence(answer, said):
    assert said in refusal(EXAMPLE, answer)


def test_an_endless_loop_is_stopped():
    start = time.perf_counter()
    with pytest.raises(NotYet, match="still running"):
        sandbox.run(lambda: [0 for _ in iter(int, 1)], (), seconds=0.2)
    assert time.perf_counter() - start < 5


def test_no_watch_is_left_behind():
    import sys

    grade(EXAMPLE, EXERCISES[EXAMPLE], right)
    assert sys.getprofile() is None


# ---- check, progress, status ---------------------------------------------------------------------


def test_check_says_the_figures_and_records_the_pass(home):
    passed = course.check(EXAMPLE, right)
    assert "dx, dW, db to 1e-12" in repr(passed)
    with pytest.raises(NotYet, match="06.1 the linear layer: "):
        course.check(EXAMPLE, None)
    assert json.loads((home / "course.json").read_text()) == {EXAMPLE: {"passed": True, "tries": 2}}


def test_a_failed_try_is_none_that_passed(home):
    with pytest.raises(NotYet):
        course.check(EXAMPLE, None)
    assert json.loads((home / "course.json").read_text()) == {EXAMPLE: {"passed": False, "tries": 1}}
    assert f"0 of {len(EXERCISES)} exercises passed" in course.status()


def test_every_chapter_has_exercises_and_its_notebook_checks_them():
    """But 13, which uses those of others; and no notebook checks an exercise that is not there."""
    assert {chapter_of(number) for number in EXERCISES} == set(NOTEBOOKS) - {"13"}
    for path in sorted((Path(__file__).parent.parent / "notebooks" / "src").glob("*.py")):
        text, chapter = path.read_text(encoding="utf-8"), path.name[:2]
        checked = set(re.findall(r'course\.check\("(\d\d\.\d)"', text))
        assert checked == {number for number in EXERCISES if chapter_of(number) == chapter}


def test_an_unknown_exercise_is_named():
    with pytest.raises(ConfigError, match="06.1"):
        course.check("06.11", right)


@pytest.mark.parametrize("content", ["", "[]", "[1]", "[" * 99_999, "{", '{"1": 3}', '{"1": {"passed": "yes"}}', "\0"])
def test_a_damaged_progress_file_is_set_aside_and_never_stops_a_check(home, content, capsys):
    (home / "course.damaged-1.json").write_text("an earlier one")
    (home / "course.json").write_text(content)
    course.status()
    course.check(EXAMPLE, right)
    valid = content == "[]" or "yes" in content  # nothing is lost
    assert valid or (home / "course.damaged-2.json").read_text() == content
    assert capsys.readouterr().out.count("course.json is damaged: it is now course.damaged-2.json, and") == (not valid)
    assert (home / "course.damaged-1.json").read_text() == "an earlier one"
    assert progress.read()[EXAMPLE]["passed"] is True


@pytest.mark.parametrize(
    "kept, passed",
    [
        ({"09.4": True}, {"14.1"}),
        ({"09.6": True, "09.5": False}, {"14.3"}),
        ({"09.4": True, "14.1": False}, {"14.1"}),  # tried again in the new notebook, or in an old one since
        ({"09.5": False, "14.2": True}, {"14.2"}),
        ({"09.3": True}, {"09.3"}),
    ],
)
def test_progress_under_an_old_number_counts_under_the_new_one_and_for_nothing_else(home, kept, passed):
    entries = {number: {"passed": value, "tries": 1} for number, value in kept.items()}
    (home / "course.json").write_text(json.dumps(entries))
    for _ in range(2):
        known = progress.read()
        assert {number for number in known if known[number]["passed"]} == passed and set(known) <= set(EXERCISES)
        progress.record("14.2", passed="14.2" in passed)
    assert f"{len(passed)} of {len(EXERCISES)} exercises passed" in course.status()


def test_a_check_under_an_old_number_is_that_of_the_new_one(home):
    """In a student's copy of the first edition of notebook 09."""
    assert not set(progress.RENUMBERED) & set(EXERCISES) and set(progress.RENUMBERED.values()) <= set(EXERCISES)
    for old, new in progress.RENUMBERED.items():
        assert course.check(old, right_answers(new)[0])
        with pytest.raises(NotYet, match=new):
            course.check(old, None)
    assert set(json.loads((home / "course.json").read_text())) == set(progress.RENUMBERED.values())


@pytest.mark.parametrize("place", ["{home}/file", "{home}/file/in_it", "~no-such-user/home"])
def test_progress_that_cannot_be_written_never_fails_a_check(home, monkeypatch, place):
    (home / "file").write_text("")
    monkeypatch.setenv("TINYVRNN_HOME", place.format(home=home))
    assert "Not kept for other notebooks: " in course.check(EXAMPLE, right).figures
    assert course.mine(EXAMPLE, otherwise=right) is right


def test_the_command_prints_the_status(capsys):
    course.check(EXAMPLE, right)
    assert cli.main(["course", "status"]) == 0
    said = capsys.readouterr().out
    assert "06 Backward by hand I" in said and f"1 of {len(EXERCISES)}" in said


def test_a_refusal_shows_in_a_notebook_without_traceback():
    assert NotYet("Look again.")._render_traceback_() == ["\x1b[31m✗ Look again.\x1b[0m"]


def test_in_a_notebook_a_refusal_is_a_box_like_the_green_one_and_is_readable(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=None))
    monkeypatch.setattr("IPython.display.display", lambda html: shown.append(html.data))
    assert NotYet("W < b")._render_traceback_() == [" "]  # an empty one would show its name and message as well
    refusal = NotYet("Once.")
    assert [refusal._render_traceback_() for _ in range(2)] == [[" "]] * 2 and len(shown) == 2  # IPython 9 asks twice
    assert "W &lt; b" in shown[0] and "word-break: normal" in shown[0]
    for box in (shown[0], sandbox.box(GREEN, "right")):
        for ink in re.findall(r"#[0-9A-Fa-f]{6}", box):
            assert contrast_on_white(ink) >= 4.5


def contrast_on_white(colour):
    """WCAG's ratio."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


def test_show_takes_a_method_out_of_its_class():
    assert repr(course.show(VRNN.log_weights)).splitlines()[1].startswith("def log_weights(")


@pytest.mark.parametrize("thing", [np.exp, 3, len, "print"])
def test_show_of_what_has_no_source_is_a_sentence(thing):
    with pytest.raises(ConfigError, match="show takes a function or class written in Python, got .*: "):
        course.show(thing)


def test_show_of_a_fused_function_is_its_formula_and_its_own_file():
    shown = course.show(activations.softplus)
    assert shown.text.startswith("def softplus(a):") and shown.where == "tinyvrnn/nn/activations.py"
    for name, kernel in KERNELS.items():
        assert course.show(getattr(sys.modules[kernel.twin.__module__], name)).text.startswith(f"def {name}(")


def test_show_shows_the_source_as_it_stands():
    shown = course.show(linear_backward)
    assert shown._repr_markdown_().startswith("```python\ndef linear_backward(p, cache, dy):")
    assert "tinyvrnn/nn/linear.py" in repr(shown)


def test_there_are_forty_exercises_of_four_kinds():
    assert len(EXERCISES) >= 40
    kinds = [exercise.kind for exercise in EXERCISES.values()]
    assert {kind for kind in kinds if kinds.count(kind) >= 5} == {"write", "derive", "bug", "predict"}


def test_every_exercise_has_a_kind_a_title_and_points():
    for exercise in EXERCISES.values():
        assert exercise.kind in ("predict" if isinstance(exercise, Prediction) else "write derive bug")
        assert exercise.title and exercise.points >= 1
