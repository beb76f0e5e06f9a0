"""Verdicts: hundreds of wrong and right answers by kind, hard cases, traces that an answer leaves, and kept answers.

Catches: a wrong answer that passes because the drawn arguments are tame, a right one that is refused for its form, a
verdict that depends on chance, a hint that is wrong for the case at hand, an answer that harms the next one, and a
student's function that is lost, or used although it is wrong.
"""

import functools
import os
import random
import re
import sys
import threading
import time
import warnings
from typing import NamedTuple

import numpy as np
import numpy as onp
import numpy.linalg
import pytest
from answers import right, wrong
from numpy import minimum

from tinyvrnn import course
from tinyvrnn.arrays.noise import generator
from tinyvrnn.course import EXERCISES, NotYet, sandbox
from tinyvrnn.course.array_trees import map_arrays, to_float32
from tinyvrnn.course.exercise import Task
from tinyvrnn.course.exercises.ch10 import DEVICE, DeviceArray
from tinyvrnn.course.exercises.hard import HARD
from tinyvrnn.course.grader import _right, grade
from tinyvrnn.errors import ConfigError

TASKS = [number for number, exercise in EXERCISES.items() if isinstance(exercise, Task)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYVRNN_HOME", str(tmp_path))
    return tmp_path


def each(table):
    return [
        pytest.param(number, answer, id=f"{number} {what}")
        for number in table
        for what, answer in table[number].items()
    ]


def refusal(number, answer):
    with pytest.raises(NotYet) as caught:
        grade(number, EXERCISES[number], answer)
    return str(caught.value)


# ---- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number, answer", each(wrong.WRONG))
@pytest.mark.one_in(6)
def test_a_wrong_answer_never_passes_and_its_hint_fits(number, answer):
    said = refusal(number, answer)
    assert " 0% of" not in said and " is 1 times" not in said and "yours is" not in said
    assert refusal(number, answer) == said


@pytest.mark.one_in(4)
@pytest.mark.parametrize("number, answer", each(right.RIGHT))
def test_a_right_answer_is_never_refused(number, answer):
    assert grade(number, EXERCISES[number], answer)


def test_a_predicted_number_may_be_rounded_to_two_digits():
    for number, exercise in EXERCISES.items():
        if getattr(exercise, "tol", 0) > 1e-3 and exercise.kind == "predict":
            assert grade(number, exercise, float(f"{exercise.truth():.2g}"))


def test_there_are_answers_to_every_exercise():
    assert set(wrong.WRONG) == set(EXERCISES) and sum(map(len, wrong.WRONG.values())) >= 200
    assert sum(map(len, right.RIGHT.values())) >= 50


# ---- hard cases ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", HARD)
def test_the_hard_cases_have_finite_right_results_and_are_the_same_for_everyone(number):
    exercise = EXERCISES[number]
    first, second = (exercise.hard(generator(0, exercise.title)) for _ in range(2))
    for what, arguments in first.items():
        assert not list(course.array_trees.differences(arguments, second[what], "a"))
        assert all(np.isfinite(a).all() for a in _right(exercise, arguments)[1].values()), what


@pytest.mark.parametrize("number", TASKS)
def test_a_reference_keeps_float32_so_that_answers_get_its_tolerance(number):
    exercise = EXERCISES[number]
    arguments = map_arrays(to_float32, exercise.draw(generator(0, exercise.title)))
    assert all(a.dtype == np.float32 for a in _right(exercise, arguments)[1].values() if a.dtype.kind == "f")


def test_every_exercise_has_hard_cases():
    assert set(TASKS) == set(HARD)


def test_the_hint_names_the_hard_case():
    said = refusal("07.1", wrong.WRONG["07.1"]["e^a over 1 + e^a"])
    assert said.startswith("With saturated gates, |a| up to 800: h_next holds NaN or infinity")


@pytest.mark.parametrize(
    "number, what, said",
    [
        ("08.5", "eps where v is 0", "eps has no effect on this step"),  # not "is missing": it is there
        ("08.5", "the larger of the root and eps", "eps has no effect on this step"),
        ("12.1", "a power", "With sequences of 1,000 steps, std about 0.1: A power of std"),
        ("12.3", "one axis less", "With a single step: log p has shape ()"),
        ("14.1", "no limit", "With a point past the end of the stick: It stopped with IndexError"),
        ("14.1", "the first end beyond", "With a point past the end of the stick: By round-off"),
        ("14.2", "one axis less", "With a single sequence: log_p has shape ()"),
    ],
)
def test_the_hint_is_true_of_the_answer(number, what, said):
    assert refusal(number, wrong.WRONG[number][what]).startswith(said)


def test_a_warm_up_that_ends_one_step_late_is_wrong():
    def one_step_late(log_p, kl, step, warm_steps):
        beta = (step + 1) / warm_steps if 0 < warm_steps and step <= warm_steps else 1.0
        return (beta * kl - log_p).mean(), (log_p - kl).mean()

    assert refusal("08.6", one_step_late).startswith("With the first step after the warm-up: loss is wrong: yours is")


HINTS = {
    "is in bits: use the natural logarithm.": lambda b: b / np.log(2),
    "is the square of what it should be.": lambda b: b * b,
    "is in the reverse order.": lambda b: b[::-1],
    "has lost the signs of its entries.": abs,
    "is off by 3 in each entry: which constant is missing, or too much?": lambda b: b + 3,
    "is off by 2e-06 of its value: is a constant rounded, a small number added, a value clipped, or an array of "
    "float32 used?": lambda b: b * (1 + 2e-6),
    "holds its own mean in each entry: nothing should be averaged.": lambda b: np.full_like(b, b.mean()),
    "never rises above 0.5, but should: is a value clipped, or a small number added?": lambda b: np.minimum(b, 0.5),
    "never falls below -0.5, but should: is a value clipped, or a small number added?": lambda b: np.maximum(b, -0.5),
    "never leaves ±0.75, but should: is a value clipped, or a small number added?": lambda b: np.clip(b, -0.75, 0.75),
}


@pytest.mark.parametrize("said", HINTS)
def test_what_a_wrong_array_has_in_common_with_the_right_one_is_told(said):
    exercise = Task("toy", "write", lambda a: 3 + a, lambda rng: (rng.standard_normal((4, 3)) - 3,), ("y",), ())
    with pytest.raises(NotYet) as caught:
        grade("00.0", exercise, lambda a: HINTS[said](3 + a))
    assert str(caught.value) == f"y {said}"


def test_a_limit_is_named_only_where_several_entries_or_another_draw_confirm_it():
    """One entry too small, a constant in the place of all, and the larger one of two values are no limit."""

    def said(wrong, right=lambda a: a):
        exercise = Task("toy", "write", right, lambda rng: (rng.standard_normal((4, 3)),), ("y",), ())
        with pytest.raises(NotYet) as caught:
            grade("00.0", exercise, wrong)
        return str(caught.value)

    first = generator(0, "toy").standard_normal((4, 3))
    second, largest = np.sort(first, axis=None)[-2:]
    assert said(lambda a: np.minimum(a, second + 0.01)).startswith("y never rises above")
    for single in (lambda a: np.where(a == largest, second + 0.01, a), lambda a: np.minimum(a, a.max() - 0.1)):
        assert said(single).startswith("y is wrong at")
    assert said(lambda a: 0 * a + 9).startswith("y is wrong at")
    assert said(lambda a: 0 * a + 1, lambda a: 1.0 * (a > 0)).startswith("y is wrong at")


def test_a_hint_that_only_coincides_is_not_given():
    """With one step, the sum and the mean over steps are one number: the hint must fit another case too."""
    mistake = course.exercise.Mistake("A mean.", lambda a: a.mean(axis=0) + (len(a) == 1))
    hard = {"a single step": (np.ones((1, 2)),)}
    exercise = Task("toy", "write", lambda a: a.sum(axis=0), lambda rng: (rng.random((3, 2)),), ("y",), (mistake,))
    with pytest.raises(NotYet) as caught:
        grade("00.0", exercise._replace(hard=lambda rng: hard), lambda a: a.sum(axis=0) + (len(a) == 1))
    assert "A mean." not in str(caught.value) and "With a single step" in str(caught.value)


def test_a_hint_is_not_confirmed_by_a_draw_on_which_any_answer_is_right():
    """The first of the other draws is after the warm-up, where the KL counts in full."""

    def in_full_at_first(log_p, kl, step, warm_steps):
        beta = min(1.0, (step + 1) / warm_steps) if step and warm_steps else 1.0
        return (beta * kl - log_p).mean(), (log_p - kl).mean()

    said = refusal("08.6", in_full_at_first)
    assert said.startswith("With the first step: loss is wrong: yours is") and said.endswith("(bound is right.)")


def test_the_case_that_failed_can_be_had():
    with pytest.raises(ConfigError, match="No call of an answer to 06.2 has failed"):
        course.case("06.2")
    answer = wrong.WRONG["06.2"]["e^a over 1 + e^a"]
    with pytest.raises(NotYet, match=r'tv\.course\.case\("06.2"\)'):
        course.check("06.2", answer)
    a, dy = course.case("06.2")
    with np.errstate(all="ignore"):
        assert np.isnan(answer(a, dy)).any()
    a[...] = 0
    assert course.case("06.2")[0].any()  # a copy


# ---- what an answer leaves behind ----------------------------------------------------------------


def changes_the_dict(p, x, dy):
    result = wrong.mlp_backward(p, x, dy)
    p["seen"] = 3
    return result


def test_keys_added_and_items_removed_are_changes():
    assert 'It changes p["seen"]' in refusal("06.3", changes_the_dict)
    assert "It changes sequences[" in refusal(
        "01.1", lambda sequences: (right.pad_by_index(sequences), sequences.pop())[0]
    )


def test_the_process_is_as_before(tmp_path):
    def answer(mu, sigma, eps, dz):
        os.chdir(tmp_path)
        os.environ["HOME"] = "elsewhere"
        np.random.seed(0)
        random.seed(0)
        warnings.simplefilter("error")
        return dz, dz * eps

    before = os.getcwd(), dict(os.environ), random.getstate(), np.random.get_state()[1].tolist(), warnings.filters[:]
    grade("06.5", EXERCISES["06.5"], answer)
    after = os.getcwd(), dict(os.environ), random.getstate(), np.random.get_state()[1].tolist(), warnings.filters[:]
    assert after == before


def sleeps():
    time.sleep(1.2)


def catches_everything():
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            while time.monotonic() < end:
                pass
        except BaseException:
            pass


@pytest.mark.parametrize("stuck", [sleeps, catches_everything])
def test_after_an_answer_was_stopped_the_next_one_runs_at_full_speed(stuck):
    def work():
        return sum(i * i for i in range(30_000))

    def seconds():
        start = time.thread_time()
        sandbox.run(lambda: times.append((time.thread_time(), work(), time.thread_time())), ())
        return times[-1][2] - times[-1][0] if start else 0

    times, filters = [], warnings.filters[:]
    before = min(seconds() for _ in range(3))
    with pytest.raises(NotYet, match="still running"):
        sandbox.run(stuck, (), seconds=0.1)
    assert min(seconds() for _ in range(3)) < 3 * before
    assert warnings.filters[:] == filters and threading._profile_hook is None


# ---- the grader's device -------------------------------------------------------------------------


def test_the_graders_device_has_lengths_rows_and_cupys_functions():
    a = DeviceArray(np.arange(6.0).reshape(3, 2))
    assert len(a) == 3 and [type(row) for row in a] == [DeviceArray] * 3 and a.T.shape == (2, 3)
    assert np.array_equal(DEVICE.logaddexp(a, a)._host, np.logaddexp(a._host, a._host))
    assert DEVICE.linalg.norm(a)._host == np.linalg.norm(a._host)
    rows = DEVICE.vstack([a[0], a[1]]), DEVICE.array([a[0], a[1]]), DEVICE.asarray((a[0], a[1]))
    assert all(np.array_equal(row._host, a._host[:2]) for row in rows)
    assert DEVICE.array([[1.0, 2], [3, 4]]).shape == (2, 2) and DEVICE.ones((2, 3)).shape == (2, 3)
    assert DEVICE.hstack([a[0, 0], 1.0]).shape == (2,)  # which CuPy sends
    for mixed in (lambda: DEVICE.array([[a[0, 0], 1.0]]), lambda: DEVICE.vstack([[a[0, 0], 1.0], a[0]])):
        with pytest.raises(TypeError, match="a list is no array on the device: join its parts with xp.stack"):
            mixed()
    with pytest.raises(AttributeError, match="xp has no `logsumexp`"):
        DEVICE.logsumexp(a)
    assert a[:1].squeeze(0).shape == a[0].ravel().shape == a[0].flatten().shape == (2,)
    for transfer in "float(a) int(a) get() item() tolist()".split():
        with pytest.raises(TypeError, match=re.escape(transfer.replace("(a)", "()") + " transfers")):
            eval(transfer if "(a)" in transfer else f"a.{transfer}", {"a": a[0, 0]})
    for decision in (bool, lambda v: min(v, 0.0), lambda v: v or 1):
        with pytest.raises(TypeError, match=r"decision \(`if`, `while`, .* transfers"):
            decision(a[0, 0])
    for function in (np.asarray, np.exp, np.mean):
        with pytest.raises(TypeError, match="a NumPy function got a device array: use the functions of xp"):
            function(a[0, 0])
    with pytest.raises(TypeError, match="met a device array"):
        a + np.ones((3, 2))


# ---- a student's own functions -------------------------------------------------------------------


def half(v):
    return v / 2


def my_softplus_backward(a, dy):
    return dy * (0.5 + 0.5 * np.tanh(half(a)))


def test_a_passed_function_is_kept_with_its_helpers_and_found_again(home):
    course.check("06.2", my_softplus_backward)
    found = course.mine("06.2")
    assert found is not my_softplus_backward and found(np.zeros(1), np.ones(1)) == 0.5
    assert (home / "answers" / "06.2.py").read_text().index("def half") == 0


def test_a_missing_or_sabotaged_function_is_named(home):
    with pytest.raises(NotYet, match=r"Your 06.2 softplus: it is missing. Pass its check"):
        course.mine("06.2")
    course.check("06.2", my_softplus_backward)
    kept = home / "answers" / "06.2.py"
    kept.write_text(kept.read_text().replace("0.5 *", "0.6 *"))
    with pytest.raises(NotYet, match="Your 06.2 softplus: da is wrong at"):
        course.mine("06.2")
    kept.write_text("def (")
    with pytest.raises(NotYet, match="does not run"):
        course.mine("06.2")
    assert course.mine("06.2", otherwise=half) is half


def my_resample(h, shares, uniforms):
    ends, points = np.cumsum(shares, axis=1), (uniforms[:, None] + np.arange(h.shape[1])) / h.shape[1]
    ancestors = (ends[:, None, :] <= points[:, :, None]).sum(axis=2).clip(max=h.shape[1] - 1)
    return np.take_along_axis(h, ancestors, axis=1)


def test_an_answer_that_is_kept_under_an_old_number_is_found_under_both(home):
    course.check("14.1", my_resample)
    kept = home / "answers" / "14.1.py"
    kept.rename(home / "answers" / "09.4.py")
    for number in ("14.1", "09.4"):
        assert course.mine(number).__name__ == "my_resample"
    kept.write_text("def newer(h, shares, uniforms):\n    return my_resample(h, shares, uniforms)\n")
    assert course.mine("14.1").__name__ == "newer"


def test_a_kept_function_finds_the_kept_functions_that_it_calls(home):
    course.check("06.2", my_softplus_backward)
    (home / "answers" / "06.1.py").write_text("def twice(a, dy):\n    return my_softplus_backward(a, dy)\n")
    assert course.kept._read("06.1")(np.zeros(1), np.ones(1)) == 0.5


def test_what_has_no_source_of_its_own_is_not_kept_and_a_good_one_stays(home):
    course.check("06.2", my_softplus_backward)
    before = (home / "answers" / "06.2.py").read_text()
    passed = course.check("06.2", lambda a, dy: dy * (0.5 + 0.5 * np.tanh(a / 2)))
    assert "(Not kept for other notebooks: write the answer as a function with def.)" in passed.figures
    assert (home / "answers" / "06.2.py").read_text() == before


HALF, TWO = 0.5, np.float64(2)
LIMITS = (-np.inf, np.inf)
scaled = lambda v: onp.tanh(v / TWO)  # noqa: E731
TABLE = np.ones(3)


def by_constants_and_imports(a, dy, top=LIMITS[1]):
    return dy * minimum(HALF + HALF * scaled(a), top)


def by_a_submodule(a, dy):
    return dy * (0.5 + 0.5 * np.tanh(a / numpy.linalg.norm([2.0])))


NOTHING, STEPS, WHOLE = None, range(1), slice(None)


def by_other_constants(a, dy):
    for _ in STEPS:
        h = 0.5 if NOTHING is None else 0
    return dy * (h + h * np.tanh(a / 2))[WHOLE]


@functools.cache
def share(n):
    return HALF + 0 * n


@np.errstate(over="ignore")
def by_decorated_functions(a, dy):
    return dy * (share(1) + share(2) * np.tanh(half(a)))


def by_a_table(a, dy):
    return dy * (HALF + HALF * np.tanh(a / TWO)) * TABLE[0]


def by_a_closure(share):
    def backward(a, dy):
        return dy * (share + share * np.tanh(a / 2))

    return backward


CONSTRUCTED = [by_constants_and_imports, by_other_constants, by_a_submodule, by_a_closure(0.5), by_decorated_functions]


@pytest.mark.parametrize("answer", CONSTRUCTED)
def test_constants_imports_and_closures_are_kept_with_a_function(answer):
    assert "Not kept" not in course.check("06.2", answer).figures
    assert course.mine("06.2")(np.zeros(1), np.ones(1)) == 0.5


my_softplus_slope = my_softplus_backward


def by_a_helper(a, dy):
    return via_a_kept_one(a, dy)


def via_a_kept_one(a, dy):
    return my_softplus_slope(a, dy)


def test_a_helper_may_call_a_kept_function_by_any_name(monkeypatch):
    course.check("06.2", my_softplus_backward)
    monkeypatch.setitem(globals(), "my_softplus_slope", course.mine("06.2"))
    assert "Not kept" not in course.check("06.2", by_a_helper).figures
    assert course.mine("06.2")(np.zeros(1), np.ones(1)) == 0.5


def test_a_name_in_a_kept_file_is_taken_for_no_function_that_is_missing(home):
    """Neither an attribute nor a helper of another answer; else two answers could read each other without end."""
    (home / "answers").mkdir()
    for number, helper, other in (("06.1", "exp", "tanh"), ("06.3", "tanh", "exp")):
        source = f"def {helper}(a):\n    return np.{other}(a)\n\n\ndef f{number[-1]}(a):\n    return {helper}(a)\n"
        (home / "answers" / f"{number}.py").write_text(source)
    assert course.kept._read("06.1")(0.0) == 0.0 and course.kept._defining("f3") == ["06.3"]
    (home / "answers" / "06.4.py").write_text("def f4(a):\n    return tanh(a)\n")
    with pytest.raises(NameError, match="tanh"):
        course.kept._read("06.4")(0.0)


class Slope(NamedTuple):
    value: object


def by_a_class(a, dy):
    return Slope(dy * (0.5 + 0.5 * np.tanh(a / 2))).value


def test_a_class_of_the_notebook_is_not_imported_from_it(monkeypatch):
    """In another notebook, which is `__main__` too, that would fail."""
    monkeypatch.setattr(Slope, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Slope", Slope, raising=False)
    assert course.check("06.2", by_a_class).figures.endswith("name 'Slope' is not defined.)")


def test_a_source_that_does_not_run_alone_replaces_none_that_does(home):
    course.check("06.2", my_softplus_backward)
    kept = home / "answers" / "06.2.py"
    kept.write_text("# an older one\n" * 20 + kept.read_text())
    said = course.check("06.2", by_a_table).figures
    assert said.endswith("name 'TABLE' is not defined.)") and "older" not in said
    assert course.mine("06.2").__name__ == "my_softplus_backward"


def test_a_passed_function_that_is_not_used_is_said(capsys):
    assert course.mine("06.2", otherwise=half) is half and not capsys.readouterr().out
    course.check("06.2", by_a_table)
    assert course.mine("06.2", otherwise=half) is half
    assert capsys.readouterr().out.startswith("Not used. Your 06.2 softplus: it is missing. Pass its check")


def test_an_exercise_without_a_function_is_named():
    with pytest.raises(ConfigError, match="02.2 is a prediction"):
        course.mine("02.2")
    for ask in (course.mine, course.case, lambda number: course.check(number, half)):
        with pytest.raises(ConfigError, match='Unknown exercise "6.1": did you mean "06.1"?'):
            ask("6.1")
        with pytest.raises(ConfigError, match='a text such as "06.1", got 14.1'):
            ask(14.1)
        with pytest.raises(ConfigError, match=r"got \['06.1'\]"):
            ask(["06.1"])
        with pytest.raises(ConfigError, match='Unknown exercise "99.1"'):
            ask("99.1")
