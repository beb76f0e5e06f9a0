"""The grader's messages and verdicts: hand-made exercises, and students who want a pass without the answer.

Catches: a message that misleads (a stub that "returns nothing", a right number "of the wrong type", NaN before the
cause), a hint that depends on the order of the mistakes, and a pass for shapes, objects, threads, replaced functions or
prints that only look like an answer.
"""

import linecache
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

from tinyvrnn import one_page
from tinyvrnn.course import EXERCISES, NotYet, sandbox, tampering
from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.course.exercises import ch02
from tinyvrnn.course.grader import grade
from tinyvrnn.models import particles
from tinyvrnn.nn import linear


def scale(x, w):
    """The toy's answer: y (..., D), and the sum of y along its last axis."""
    y = x * w
    return y, y.sum(axis=-1)


def mine(x, w):
    """A student's answer, right but written differently."""
    return w * x, np.einsum("...d,d->...", x, w)


def draw(rng):
    leading = [(5,), (3, 4)][rng.integers(2)]
    return rng.standard_normal((*leading, 3)), rng.standard_normal(3)


def toy(reference=scale, names=("y", "s"), mistakes=(), draw=draw, **options):
    return Task("the toy", "write", reference, draw, names, mistakes, **options)


def refusal(answer, exercise=None):
    with pytest.raises(NotYet) as caught:
        grade("00.0", exercise or toy(), answer)
    return str(caught.value)


# ---- nothing written, nothing returned -----------------------------------------------------------


def stub(x, w):
    """y and s."""
    ...  # YOUR CODE HERE


def stub_of_names(x, w):
    y = s = ...
    return y, s


def to_be_done(x, w):
    raise NotImplementedError


def forgets_to_return(x, w):
    mine(x, w)


@pytest.mark.parametrize("answer", [None, ..., stub, lambda *a: ..., stub_of_names, to_be_done])
def test_what_is_untouched_is_not_written_yet(answer):
    assert refusal(answer) == sandbox.NOT_WRITTEN and "not written yet" in sandbox.NOT_WRITTEN


BODIES = ["...", "pass", "return", "return None", "return ...", "'y, s.'", "'y, s.'\n    ...  # YOUR CODE HERE"]


@pytest.mark.parametrize(("body", "idle"), [*((b, True) for b in BODIES), ("return 0", False), ("y = 0", False)])
def test_a_stub_is_known_by_its_source_whatever_python_compiles_it_to(body, idle):
    source, space, name = f"def answer(x, w):\n    {body}\n", {}, f"<cell {body}>"
    linecache.cache[name] = len(source), None, source.splitlines(True), name  # as IPython does for a cell
    exec(compile(source, name, "exec"), space)
    assert sandbox.untouched(space["answer"]) is idle


@pytest.mark.parametrize("answer", [None, ...])
def test_a_prediction_that_is_not_made_is_not_written_yet(answer):
    assert refusal(answer, EXERCISES["06.6"]) == sandbox.NOT_WRITTEN


def test_what_computes_and_does_not_return_is_told_so():
    assert "returns nothing" in refusal(forgets_to_return)
    assert refusal(lambda *a: 0).startswith("Expected 2 results")
    assert "in every branch?" in refusal(lambda x, w: mine(x, w) if x.ndim == 2 else None)


def test_a_result_that_was_never_computed_is_named():
    assert refusal(lambda x, w: (x * w, None)) == "s should hold real numbers, got None."


# ---- structure -----------------------------------------------------------------------------------


class Pair(NamedTuple):
    y: np.ndarray
    s: np.ndarray


def rows(x, w):
    return [list(row) for row in x * w] if x.ndim == 2 else [[list(row) for row in rows] for rows in x * w]


@pytest.mark.parametrize("answer", [mine, lambda x, w: list(mine(x, w)), lambda x, w: Pair(*mine(x, w))])
def test_several_results_may_come_as_tuple_list_or_namedtuple(answer):
    assert grade("00.0", toy(), answer)


def test_several_results_of_one_shape_may_come_as_one_array():
    two = toy(lambda x, w: (x * w, x + w), ("y", "s"))
    assert grade("00.0", two, lambda x, w: np.stack([x * w, x + w]))
    assert "s has the wrong sign. (y is right.)" == refusal(lambda x, w: np.stack([x * w, -x - w]), two)
    assert "got one array" in refusal(lambda x, w: np.stack([x * w] * 3), two)
    assert "got one array" in refusal(lambda x, w: (x * w)[:2])


def test_one_result_may_come_as_a_list_of_rows_and_not_in_company():
    alone = toy(lambda x, w: x * w, ("y",))
    assert grade("00.0", alone, rows)
    assert grade("00.0", alone, lambda x, w: (x * w).tolist())
    assert "y alone, got a tuple of 2" in refusal(mine, alone)
    assert "y alone, got a dict of 1" in refusal(lambda x, w: {"y": x * w}, alone)


# ---- scalars and types ---------------------------------------------------------------------------

LOSS = toy(lambda x, w: (x * w).sum(), ("loss",))


@pytest.mark.parametrize(
    "answer", [lambda x, w: float((x * w).sum()), lambda x, w: (x * w).sum().item(), lambda x, w: np.sum(x * w)[...]]
)
def test_a_number_may_be_a_python_float(answer):
    assert grade("00.0", LOSS, answer)


def test_a_number_of_numpys_may_be_a_float64_and_a_wrong_float_is_wrong():
    assert grade("00.0", LOSS, lambda x, w: np.float64((x * w).sum()))
    assert refusal(lambda x, w: 0.0 * w[0], LOSS) == "loss is 0."
    assert "1.001 times" in refusal(lambda x, w: 1.001 * float((x * w).sum()), LOSS)
    assert "shape ()" in refusal(lambda x, w: (float(x.sum()), float(w.sum())))


def test_a_whole_number_is_a_number():
    assert grade("00.0", toy(lambda x, w: 0 * w.sum(), ("zero",)), lambda x, w: 0 * len(x))
    assert "loss holds NaN or infinity" in refusal(lambda x, w: 10**400, LOSS)


LOG_2PI = np.log(2 * np.pi)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, w: (x * w + 0 * LOG_2PI, (x * w).sum(axis=-1)),
        lambda x, w: (x * w / np.ones(3, dtype=int), (x * w).sum(axis=-1)),
        lambda x, w: (x * w + np.zeros(3), (x * w).sum(axis=-1)),
    ],
)
def test_float64_from_float32_is_told_gently_and_with_its_causes(answer):
    assert grade("00.0", toy(), answer)  # right, unless the exercise is about dtypes
    said = refusal(answer, toy(dtypes=True)).removeprefix("With float32 numbers: ")
    assert (
        said.startswith("y has the right values") and "np.log(2 * np.pi)" in said and "integers and new arrays" in said
    )
    assert len(said) < 240


def test_a_rounding_error_where_all_should_be_0_is_no_relative_error_of_1():
    exercise = toy(lambda x: 0 * x, ("y",), draw=lambda rng: (rng.random(3),))
    assert grade("00.0", exercise, lambda x: (x + 0.1 - x - 0.1).astype(x.dtype)).figures.endswith("y to 1e-12.")


def test_float32_is_told_as_such_and_not_as_a_rounded_constant():
    exercise = toy(lambda x, w: np.exp(x * w), ("y",))
    said = refusal(lambda x, w: np.exp((x * w).astype(np.float32)), exercise)
    assert said == "y is float32 while the arguments are float64: which line changes the dtype?"
    assert "float32 used?" in refusal(lambda x, w: (1 + 1e-7) * np.exp(x * w), exercise)
    assert "y is wrong at" in refusal(lambda x, w: (2 * np.exp(x * w)).astype(np.float32), exercise)


def test_a_wrong_value_comes_before_a_wrong_type():
    assert "2 times" in refusal(lambda x, w: (2 * LOG_2PI / LOG_2PI * x * w, (x * w).sum(axis=-1)))
    assert "y is wrong at" in refusal(lambda x, w: (np.rint(10 * x * w).astype(int), (x * w).sum(axis=-1)))


# ---- NaN, and which mistake it is ----------------------------------------------------------------


def surprise(p):
    return np.where(p > 0, -np.log(np.where(p > 0, p, 1)), np.zeros_like(p))


def draw_p(rng):
    return (np.maximum(rng.standard_normal(6), 0),)


NAIVE = Mistake("0 log 0 is 0.", lambda p: -np.log(p) * (p > 0))


def test_nan_that_a_mistake_explains_gets_its_hint():
    said = refusal(lambda p: np.log(1 / p) * (p > 0), toy(surprise, ("nats",), (NAIVE,), draw_p))
    assert said == "0 log 0 is 0."


def test_other_nan_and_infinity_are_named():
    exercise = toy(surprise, ("nats",), (NAIVE,), draw_p)
    for wrong in (lambda p: p * np.nan, lambda p: -np.log(p), lambda p: np.log(p)):
        assert "nats holds NaN or infinity" in refusal(wrong, exercise)


def test_nan_may_come_from_a_negative_number_or_be_written_and_infinity_may_not():
    exercise = toy(lambda x, w: x * w, ("y",))
    for wrong in (lambda x, w: np.sqrt(x), lambda x, w: np.full_like(x, np.nan)):
        said = refusal(wrong, exercise)
        assert "root or logarithm gets a negative number" in said and "NaN from the start" in said
    assert "negative" not in refusal(lambda x, w: np.full_like(x, np.inf), exercise)


def twice(*which):
    def answer(x, w):
        return tuple(2 * v if name in which else v for name, v in zip("ys", mine(x, w)))

    return answer


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_the_mistakes_does_not_decide(order):
    mistakes = (Mistake("y alone", twice("y")), Mistake("y and s", twice("y", "s")), Mistake("s alone", twice("s")))
    exercise = toy(mistakes=mistakes[::order])
    assert refusal(twice("y"), exercise) == "y alone"
    assert refusal(twice("s"), exercise) == "s alone"
    assert refusal(twice("y", "s"), exercise) == "y and s"


def test_a_hint_about_several_results_is_not_given_where_some_of_them_are_right():
    said = refusal(lambda W, x, dy: (dy @ W.T, W, dy.reshape(-1, dy.shape[-1]).sum(axis=0)), EXERCISES["06.1"])
    assert said.startswith("dW is wrong at") and "(dx, db are right.)" in said
    negated = toy(mistakes=(Mistake("y and s carry the wrong sign.", lambda x, w: [-v for v in mine(x, w)]),))
    assert refusal(lambda x, w: (mine(x, w)[0], -mine(x, w)[1]), negated) == "s has the wrong sign. (y is right.)"
    assert refusal(lambda x, w: [-v for v in mine(x, w)], negated) == "y and s carry the wrong sign."


# ---- what is seen without a mistake --------------------------------------------------------------


def test_a_multiple_is_called_one_only_where_it_is_no_chance():
    """One wrong number is always a multiple of the right one; a true factor is the same on each draw."""
    assert "loss is wrong: yours is" in refusal(lambda x, w: float((x * w).sum()) + 0.5, LOSS)
    assert "loss is 0.5 times" in refusal(lambda x, w: (x * w).sum() / 2, LOSS)
    pair = toy(lambda x, w: w[:2], ("pair",))
    assert "pair is wrong at" in refusal(lambda x, w: w[:2] * w[2], pair)
    assert "pair is 3 times" in refusal(lambda x, w: w[:2] * 3, pair)
    tripled = toy(lambda x, w: w, ("w",))
    assert "times" in refusal(lambda x, w: w * x.ravel()[0], tripled)  # three numbers in step are no chance
    same = toy(lambda x, w: np.full_like(w, w.sum()), ("same",))  # but three times the same number is one number
    assert "same is wrong at" in refusal(lambda x, w: np.ones_like(w), same)
    assert "same is 3 times" in refusal(lambda x, w: np.full_like(w, 3 * w.sum()), same)


def test_a_missing_path_is_for_gradients():
    names = ("dy", "g_s")
    assert "dy is all zeros: a path of the gradient" in refusal(
        lambda x, w: [0 * v for v in mine(x, w)], toy(names=names)
    )
    assert "g_s is all zeros: a path of the gradient" in refusal(lambda x, w: (x * w, 0 * x[..., 0]), toy(names=names))
    assert refusal(lambda x, w: [0 * v for v in mine(x, w)]) == "y is all zeros."


def test_of_several_wrong_arrays_that_with_the_fewest_wrong_entries_is_described():
    """A mistake in one block spoils all of dx but a third of the weights, so the weights show it best."""

    def spoils_a_column(x, w):
        y, s = mine(x, w)
        return s + y[..., 0] * y[..., 1], y * np.array([2, 1, 1], x.dtype)

    said = refusal(spoils_a_column, toy(lambda x, w: scale(x, w)[::-1], ("s", "y")))
    assert said.startswith("y is wrong at") and "33% of its entries are wrong" in said


def named_results(x, w):
    return x * w, {"W": x.sum(axis=-1), "b": w}


GRADS = toy(named_results, ("dx", "grads"))


@pytest.mark.parametrize(
    "answer, said",
    [
        (lambda x, w: (x * w, {"dW": x, "db": w}), "grads should have the keys W, b; yours are dW, db."),
        (lambda x, w: (x * w, {"W": x}), "grads should have the keys W, b; yours are W."),
        (lambda x, w: (x * w, {}), "grads should have the keys W, b; yours are none."),
        (
            lambda x, w: ({"W": x.sum(axis=-1), "b": w}, x * w),
            "The results are in the wrong order: expected dx, grads.",
        ),
        (lambda x, w: (x * w, w), "grads should be a dict with the keys W, b, got an array of float64."),
        (lambda x, w: ({"x": x}, {"W": x}), "dx should be an array, got a dict."),
        (lambda x, w: (..., ...), sandbox.NOT_WRITTEN),
        (lambda x, w: x * w, "Expected 2 results (dx, grads), got one array of float64."),
        (lambda x, w: {"W": x}, "Expected 2 results (dx, grads), got one dict."),
    ],
)
def test_names_and_order_of_results_are_told_before_their_values(answer, said):
    assert refusal(answer, GRADS) == said


def test_the_keys_of_a_single_dict_are_told():
    exercise = toy(lambda x, w: {"W": x, "b": w}, ("grads",))
    assert refusal(lambda x, w: {"W": x, "c": w}, exercise) == "It should have the keys W, b; yours are W, c."


@pytest.mark.parametrize(
    "answer, said",
    [
        (lambda x, w: (x * w).sum(axis=-1, keepdims=True), "an axis of length 1 too many: keepdims, or an index None?"),
        (lambda x, w: (x * w).sum(axis=-1)[None], "an axis of length 1 too many"),
        (lambda x, w: (x * w).sum(axis=-1)[None, None], "2 axes of length 1 too many"),
        (lambda x, w: x * w, "It has kept an axis that should be gone."),
        (lambda x, w: x[..., 0].max(axis=-1), "It has lost an axis that should stay."),
    ],
)
def test_a_wrong_number_of_axes_is_told_and_not_that_a_sum_is_missing_where_it_is_there(answer, said):
    assert said in refusal(answer, toy(lambda x, w: (x * w).sum(axis=-1), ("s",)))


def test_numbers_in_a_row_and_in_a_column_give_a_square_and_are_told_so():
    said = refusal(lambda x, w: w + w[:, None], toy(lambda x, w: 2 * w, ("y",)))
    assert said.startswith("y has shape (3, 3), expected (3,).") and "(3,) and (3, 1) were broadcast to (3, 3)" in said


def test_axes_in_another_order_are_told_so():
    first_axes = toy(lambda x, w: np.multiply.outer(x.ravel()[:4], np.multiply.outer(w[:2], w)), ("y",))
    said = refusal(lambda x, w: np.multiply.outer(w[:2], np.multiply.outer(x.ravel()[:4], w)), first_axes)
    assert said == "y has shape (2, 4, 3), expected (4, 2, 3). It looks transposed."


def test_results_in_another_order_are_told_so_and_not_that_an_axis_is_wrong():
    assert "shapes are right but in the wrong order: expected y, s." in refusal(lambda x, w: mine(x, w)[::-1])
    alike = toy(lambda x, w: (w, 2 * w, 3 * w), ("a", "b", "c"))
    said = "The results are in the wrong order: expected a, b, c."
    assert refusal(lambda x, w: (2 * w, 3 * w, w), alike) == said
    assert refusal(lambda x, w: (2 * w, 3 * w, 4 * w), alike) != said
    both = toy(lambda x, w: (np.outer(w, w[:2]), np.outer(w[:2], w)), ("A", "B"))
    assert "transposed" in refusal(lambda x, w: (np.outer(w[:2], w), np.outer(w, w[:2])), both)


def test_chance_is_seen_in_two_bits_which_are_often_the_same_twice():
    bits = toy(lambda x, w: w[:2], ("bits",))
    for _ in range(7):
        assert "random numbers" in refusal(lambda x, w: np.random.binomial(1, 0.5, 2), bits)


def test_an_answer_with_chance_in_it_is_told_that_and_not_a_number():
    rng = np.random.default_rng(0)
    said = refusal(lambda x, w: (x * w + 0.01 * rng.standard_normal(), (x * w).sum(axis=-1)))
    assert "two different results" in said and "random numbers" in said and "np.empty" in said


@pytest.mark.parametrize("draw_one", [np.random.randn, random.random])
def test_chance_from_the_common_generators_is_told_too_and_leaves_their_states_alone(draw_one):
    before = random.getstate(), np.random.get_state()[1].tolist()
    assert "does it draw random numbers" in refusal(lambda x, w: (x * w + draw_one(), (x * w).sum(axis=-1)))
    assert before == (random.getstate(), np.random.get_state()[1].tolist())


@pytest.mark.parametrize(
    "number, answer",
    [
        ("05.1", lambda log_w: particles.log_mean_exp(log_w.T)),
        ("05.4", lambda p_x, p_z, q, kl: particles.log_mean_exp((p_x + p_z - q).sum(axis=0).T)),
    ],
)
def test_the_packages_own_mean_of_weights_is_no_answer(number, answer):
    assert "log_mean_exp, which is the answer itself" in refusal(answer, EXERCISES[number])


def test_no_size_of_05_1_makes_one_mistake_look_like_another():
    """Divided by K twice is divided by B where B = K^2."""
    shapes = {EXERCISES["05.1"].draw(np.random.default_rng(seed))[0].shape for seed in range(200)}
    assert len(shapes) > 5 and not [(K, B) for K, B in shapes if K**2 == B or B**2 == K]


# ---- shapes that do not fit ----------------------------------------------------------------------


def raises(x, w):
    raise KeyError("W")


def test_an_error_about_shapes_names_those_of_the_arguments():
    said = refusal(lambda x, w: x @ x)
    assert "ValueError" in said and "x (" in said and "w (3,)" in said and "count axes from the end" in said
    fixed = toy(lambda p, x: x @ p["W"], ("y",), draw=lambda rng: ({"W": rng.random((3, 2))}, rng.random((4, 3))))
    said = refusal(lambda p, x: p["W"] @ x, fixed)
    assert 'Here the shapes are p["W"] (3, 2), x (4, 3).' in said and "count axes" not in said
    said = refusal(lambda x, w: np.einsum("d,d->d", np.stack([x, x]), w))
    assert ".." not in said.replace("'...'", "") and "Here the shapes are" in said
    assert "shapes" not in refusal(raises)


# ---- predictions ---------------------------------------------------------------------------------

WORDS = Prediction("words", lambda: {"deviation", "mean"}, (Mistake("Shape?", {"shape"}), Mistake("None?", set())))
ORDER = Prediction("order", lambda: ("up", "down", "down"), (Mistake("All three.", ("down", "up", "up")),))
NUMBER = Prediction("number", lambda: 0.5, (Mistake("That is the variance.", 0.25),), tol=0.01)
NUMBERS = Prediction("numbers", lambda: {3, 4}, (Mistake("Four?", {3}),))
WORD = Prediction("word", lambda: "up", (Mistake("The other way.", "down"),))


@pytest.mark.parametrize(
    "exercise, answer, said",
    [
        (WORDS, "deviation", "A set of words is expected, in braces, even for a single one"),
        (WORDS, 3, "A set of words"),
        (WORDS, {"deviation": 1}, "A set of words"),
        (WORDS, {"deviation"}, "right so far, but something is missing"),
        (WORDS, {"deviation", "mean", "shape"}, ": something does not belong"),
        (WORDS, {"deviation", "shape"}, "something is missing, and something does not belong"),
        (WORDS, {"deviation", "maen"}, "Is maen spelled as in the question?"),
        (WORDS, [["deviation"], "mean"], "does not belong"),
        (WORDS, ["Shape "], "Shape?"),
        (WORDS, np.array(["shape"]), "Shape?"),
        (WORDS, (), "None?"),
        (WORDS, {("deviation", "mean")}, "something is missing, and something does not belong"),
        (WORDS, {frozenset({"deviation", "mean"})}, "does not belong"),
        (NUMBER, {("up", "down")}, "A number is expected, with a decimal point: 0.5; got {('up', 'down')}."),
        (ORDER, np.array({("up", "down")}), "3 answers are expected, in order"),
        (NUMBER, ["up"], "got ['up']."),
        (ORDER, ("up", "up", "down"), "2 of 3 are right"),
        (ORDER, ["down", "up", "up"], "All three."),
        (ORDER, ("up", "down"), "3 answers are expected, in order"),
        (ORDER, {"up", "down"}, "3 answers are expected, in order"),
        (ORDER, "up", "3 answers are expected, in order"),
        (NUMBER, 0.7, "less than a factor of 2 away"),
        (NUMBER, 1.5, "too large"),
        (NUMBER, -1, "too small: should it be negative?"),
        (NUMBER, "1/2", "with a decimal point and without quotes: 0.5; got '1/2'."),
        (NUMBERS, {"t=3", "t=4"}, "Numbers are expected, without words or quotes: {..., ...}; got {'t="),
        (NUMBERS, {"3"}, "Four?"),
        (NUMBERS, {"3", "5"}, "something is missing, and something does not belong"),
        (NUMBERS, set(), "The answer is not empty: something belongs in it."),
        (NUMBER, np.float32(0.25), "the variance"),
        (NUMBER, "0,5", "A number is expected, with a decimal point"),
        (NUMBER, "half", "A number is expected"),
        (NUMBER, [0.5], "A number is expected"),
        (NUMBER, float("nan"), "nan is not right"),
        (NUMBER, {0.5}, "A number is expected"),
        (WORD, {"up"}, "One word is expected"),
        (WORD, "Down", "The other way."),
        (WORD, "sideways", "sideways spelled"),
    ],
)
def test_a_wrong_prediction_is_told_what_is_wrong_about_it(exercise, answer, said):
    assert said in refusal(answer, exercise)


def test_the_kind_of_answer_is_explained_only_where_it_is_wrong():
    for exercise, answer in ((WORDS, {"mean"}), (ORDER, ("down", "down", "down")), (NUMBER, 0.7), (WORD, "left")):
        assert "expected" not in refusal(answer, exercise)


@pytest.mark.parametrize(
    "exercise, answer",
    [
        (WORDS, [" Mean", "deviation"]),
        (WORDS, np.array(["mean", "deviation"])),
        (ORDER, ["up", "down", "down"]),
        (NUMBER, np.float32(0.5)),
        (WORD, " UP "),
        (Prediction("numbers", lambda: {3, 4}, ()), set(np.arange(3, 5))),
        (NUMBERS, range(3, 5)),
        (NUMBERS, {"3", " 4 "}),
        (WORD, np.array(["up"])[0]),
        (Prediction("in order", lambda: (3, 4, 5), ()), range(3, 6)),
        (Prediction("numbers", lambda: {0.5, 4}, ()), {Fraction(1, 2), Decimal(4)}),
        (Prediction("in order", lambda: (0.5, 4), ()), [Fraction(1, 2), Decimal(4)]),
        (Prediction("numbers", lambda: {0.5, 4}, ()), [Fraction(1, 2), Decimal(4)]),
    ],
)
def test_a_right_prediction_passes_in_any_clothes(exercise, answer):
    assert grade("00.0", exercise, answer)


# ---- a pass without the answer -------------------------------------------------------------------


def in_a_thread(x, w):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(scale, x, w).result()


def by_the_authors(*arguments):
    return ch02.wrong_kl()(*arguments)


def unwatched_for_a_moment(x, w):
    from sys import getprofile, setprofile

    watch = getprofile()
    setprofile(None)
    result = scale(x, w)
    setprofile(watch)
    return result


class Everything:
    """Equal to everything, with any shape and type."""

    shape, dtype, ndim = (5, 3), np.dtype(float), 2

    def __eq__(self, other):
        return True

    def __array__(self, dtype=None, copy=None):
        return np.zeros((5, 3))

    def __len__(self):
        return 2

    def __iter__(self):
        return iter((self, self))

    __hash__ = None


class Agrees(np.ndarray):
    """An array that subtracts to 0 from anything."""

    def __sub__(self, other):
        return np.zeros(self.shape)

    __rsub__ = __sub__

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return np.zeros(self.shape)

    def __array_function__(self, function, types, args, kwargs):
        return True


class AsLong(tuple):
    def __len__(self):
        return 2


def fails_when_read(x, w):
    class Trap:
        def __array__(self, dtype=None, copy=None):
            raise KeyError("not for you")

    return Trap(), x


def counts_calls():
    calls = []

    def answer(x, w):
        calls.append(1)
        y, s = mine(x, w)
        return y, s * len(calls)

    return answer


def yields(x, w):
    yield from mine(x, w)


def never_ends_in_itself(x, w):
    nested = []
    nested.append(nested)
    return nested, nested


def changes_the_shape(x, w):
    y, s = mine(x, w)
    x.shape = (-1,)
    return y, s


@pytest.mark.parametrize(
    "answer, said",
    [
        (in_a_thread, "the answer itself"),
        (unwatched_for_a_moment, "sys.setprofile"),
        (lambda x, w: Everything(), "Expected 2 results"),
        (lambda x, w: (Everything(), Everything()), ""),
        (lambda x, w: tuple(np.zeros_like(v).view(Agrees) for v in (x * w, x[..., 0])), "all zeros"),
        (lambda x, w: AsLong((x * w,)), "got 1 items"),
        (fails_when_read, "KeyError"),
        (counts_calls(), "two different results"),
        (yields, "Expected 2 results (y, s), got one generator"),
        (never_ends_in_itself, "without end"),
        (changes_the_shape, "It changes x"),
        (lambda x, w: (x, w), ""),
        (lambda x, w: (x * w * (1 + 0j), (x * w).sum(axis=-1)), "got an array of complex128"),
        (lambda x, w: [v.astype(object) for v in (x * w, (x * w).sum(axis=-1))], "got an array of object"),
        (lambda x, w: np.empty(10**15), "Error"),
    ],
)
def test_no_pass_without_the_answer(answer, said):
    assert said in refusal(answer)


def test_the_functions_behind_the_mistakes_are_no_answer():
    with pytest.raises(NotYet, match="the answer itself"):
        grade("02.4", EXERCISES["02.4"], by_the_authors)


def test_one_page_is_no_answer():
    """Its functions compute what many exercises ask for, under names of their own."""

    def by_the_page(x, w):
        one_page.network({}, x)
        return mine(x, w)

    assert "It calls network of one_page.py: write it out" in refusal(by_the_page)


@pytest.mark.parametrize(
    "module, name",
    [(linear, "linear_backward"), (np, "array_equal"), (sys.modules["tinyvrnn.course.grader"], "_close")],
)
def test_a_function_put_in_the_place_of_another_is_found(module, name, monkeypatch):
    assert tampering.replaced() is None
    monkeypatch.setattr(module, name, lambda *arguments, **options: True)
    for exercise, answer in ((toy(), mine), (WORDS, {"mean", "deviation"})):
        assert f"{module.__name__}.{name} is no longer" in refusal(answer, exercise)


def test_a_function_replaced_before_the_course_was_loaded_is_found(tmp_path):
    lines = "import tinyvrnn as tv", "tv.nn.linear.linear_backward = lambda p, cache, dy: (dy, {'W': dy, 'b': dy})"
    check = "tv.course.check('06.1', lambda W, x, dy: (dy, dy, dy))"
    command, home = [sys.executable, "-c", "\n".join([*lines, check])], {"TINYVRNN_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | home)
    assert "tinyvrnn.nn.linear.linear_backward is no longer" in done.stderr


def test_what_the_right_one_returns_is_shared_with_nobody():
    """A student who keeps the arguments and results of all calls holds nothing that the grader still uses."""
    kept = []

    def answer(x, w):
        for old in kept:
            old[...] = 0
        kept[:] = mine(x, w)
        return tuple(kept)

    assert grade("00.0", toy(), answer)


def test_a_flood_of_prints_is_dammed(capsys):
    def answer(x, w):
        print("here")
        print("x" * 100_000)
        return mine(x, w)

    assert grade("00.0", toy(), answer)
    said = capsys.readouterr().out
    assert said.startswith("here") and len(said) < sandbox.CHARACTERS + 100
    assert said.count("output of this check is omitted") == 1
    print("after")
    assert capsys.readouterr().out == "after\n"


def test_no_watch_is_left_in_new_threads():
    grade("00.0", toy(), mine)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(sys.getprofile()))
    thread.start()
    thread.join()
    assert seen == [None]
