"""The checker itself: right gradients pass, each kind of wrong one is refused by name.

Catches: a checker that passes what it should refuse (NaN, a wrong shape, a missing gradient, an impure backward),
refuses what is right, changes what it checks, or does not say where the error is.
"""

import re
from types import SimpleNamespace

import autograd
import autograd.numpy as anp
import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.arrays.noise import generator
from tinyvrnn.arrays.params import views
from tinyvrnn.arrays.strict import StrictArray
from tinyvrnn.errors import GradientError
from tinyvrnn.gradcheck import all_pairs, check_model, check_pair, compare, numerical_gradient, rel_error
from tinyvrnn.models import MODELS
from tinyvrnn.nn.linear import linear_backward, linear_forward


def linear():
    """p, x of a linear layer of 3 inputs and 2 outputs."""
    draw = checks.rng()
    return {"W": draw.standard_normal((3, 2)), "b": draw.standard_normal(2)}, draw.standard_normal((4, 3))


# ---- rel_error -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1.0, 2.0], [1.0, 1.0], 0.5),
        ([1e-12, 4.0], [0.0, 4.0], 2.5e-13),
        ([1.0], [-1.0], 2.0),
        ([0.0], [1e-30], 1.0),
        (3.0, 4.0, 0.25),
        ([], [], 0.0),
        (np.int8([-128]), np.int8([-127]), 1 / 128),  # whose absolute value is no int8
    ],
)
def test_rel_error_is_the_largest_difference_over_the_largest_entry(a, b, expected):
    assert rel_error(a, b) == pytest.approx(expected, rel=1e-14)
    assert rel_error(b, a) == rel_error(a, b)
    assert isinstance(rel_error(a, b), float)


@pytest.mark.parametrize("a, b", [([np.nan], [1.0]), ([1.0, 2.0], [np.nan, 2.0]), ([np.nan], [np.nan])])
def test_rel_error_of_nan_is_no_small_number(a, b):
    assert not rel_error(a, b) < 1


# ---- numerical_gradient --------------------------------------------------------------------------


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize(
    "f, df",
    [
        (lambda x: (x * x).sum(), lambda x: 2 * x),
        (lambda x: (x * x * x).sum() + x[0, 1] * 3.0, lambda x: 3 * x**2 + np.array([[0, 3.0, 0], [0, 0, 0]])),
        (lambda x: x[1, 2] * x[0, 0], lambda x: np.array([[x[1, 2], 0, 0], [0, 0, x[0, 0]]])),
    ],
    ids=["squares", "cubes", "product"],
)
def test_numerical_gradient_of_known_functions(f, df, backend):
    host = checks.rng().standard_normal((2, 3))
    (x,) = checks.device(backend, host)
    gradient = numerical_gradient(f, x)
    assert type(gradient) is type(x)
    checks.assert_close(to_host(gradient), df(host), 1e-9, "gradient")


def test_numerical_gradient_puts_every_entry_back():
    x = checks.rng().standard_normal((3, 4))
    before = x.tobytes()
    numerical_gradient(lambda v: np.sin(v).sum(), x)
    assert x.tobytes() == before


def test_numerical_gradient_errs_with_the_square_of_the_step():
    x = np.array([1.0])
    errors = [abs(numerical_gradient(lambda v: np.exp(v[0]), x, h=h)[0] - np.e) for h in (1e-2, 1e-3)]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.01)


def test_numerical_gradient_of_a_scalar_array():
    assert numerical_gradient(lambda v: v**3, np.array(2.0)) == pytest.approx(12)


def read_only():
    x = np.ones(2)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    "x, says",
    [
        (np.ones(2, "float32"), r"x is float32, whose differences agree to about 2e-05 at best: convert it"),
        (np.ones(2, "float16"), r"x is float16, whose differences agree to about 1e-02 at best: convert it"),
        (np.ones(2, int), "x is int64, which has no small steps: convert it"),
        (np.ones(2, bool), "x is bool, which has no small steps: convert it"),
        (np.ones(2, complex), "x is complex128: check its real and its imaginary part as two inputs"),
        (np.ones(2, object), "x is object, which has no small steps: convert it"),
        ([1.0, 2.0], r"x is of type list: convert it with np.array"),
        ((1.0, 2.0), r"x is of type tuple: convert it with np.array"),
        (1.0, "x is of type float: convert it"),
        (np.float64(1), "x is of type float64: convert it"),
        (None, "x is of type NoneType: convert it"),
        ({"W": np.ones(2)}, "x is a dict: check its arrays one at a time"),
        (np.array([1.0, np.nan]), "x holds NaN or infinity"),
        (np.ones((0, 3)), r"x is empty, of shape \(0, 3\), so there is nothing to check"),
        (read_only(), "x is read-only, as a broadcast array is: give a copy"),
        (np.broadcast_to(np.ones(1), 3), "x is read-only, as a broadcast array is: give a copy"),
        (StrictArray(read_only()), "x is read-only"),
        (np.lib.stride_tricks.as_strided(np.ones(1), (3,), (0,)), "Entries of x share memory, .* give a copy"),
        (np.lib.stride_tricks.as_strided(np.arange(4.0), (3, 2), (8, 8)), "Entries of x share memory"),
        (StrictArray(np.lib.stride_tricks.as_strided(np.ones(1), (3,), (0,))), "Entries of x share memory"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_what_cannot_be_moved_is_refused_with_the_way_out(x, says):
    for check in (numerical_gradient, lambda f, x: check_pair(lambda v: (f(v), None), relu, None, x)):
        with pytest.raises(GradientError, match=says.replace("x ", "(x|input 0) ")):
            check(lambda v: v.sum(), x)


@pytest.mark.parametrize("make", [lambda x: x.T, lambda x: x[::2], lambda x: x[:, ::-1], np.asfortranarray])
def test_any_layout_of_memory_is_checked(make):
    x = make(checks.rng().standard_normal((4, 3)))
    checks.assert_close(numerical_gradient(lambda v: (v**2).sum(), x), 2 * x, 1e-9, "gradient")


@pytest.mark.parametrize(
    "value, says",
    [
        (np.ones(2), r"must return one number, got an array of shape \(2,\): return a sum"),
        (None, "must return one number of float64, got NoneType"),
        (1j, "must return one number of float64, got complex"),
        ("1", "must return one number of float64, got str"),
        (3, "must return one number of float64, got int"),  # as int(x.sum()), whose differences are 0
        (True, "must return one number of float64, got bool"),
        (np.float32(3), "must return one number of float64, got float32"),
        (np.nan, "The function is nan where"),
        (np.inf, "The function is inf where"),
    ],
)
def test_a_function_must_return_one_finite_number(value, says):
    with pytest.raises(GradientError, match=says):
        numerical_gradient(lambda v: value, np.ones(2))


def test_a_function_may_return_any_kind_of_one_float64_number():
    for make in (float, np.float64, np.array, lambda v: np.array([v])):
        assert numerical_gradient(lambda v: make(0.0), np.ones(2)).tolist() == [0, 0]  # noqa: B023


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_x_is_put_back_whatever_ends_the_function(stop):
    x, calls = checks.rng().standard_normal(5), []

    def f(v):
        calls.append(0)
        if len(calls) == 7:
            raise stop
        return v.sum()

    before = x.copy()
    with pytest.raises(stop):
        numerical_gradient(f, x)
    assert (x == before).all()


def test_a_function_that_writes_into_x_is_caught_and_x_put_back():
    def f(v):
        v *= 2
        return v.sum()

    x = checks.rng().standard_normal(5)
    before = x.copy()
    with pytest.raises(GradientError, match="The function changed its argument x"):
        numerical_gradient(f, x)
    assert (x == before).all()


def test_a_function_with_two_answers_is_caught():
    noise = np.random.default_rng(0)
    with pytest.raises(
        GradientError, match="Two calls of the function with the same x returned .* draw its noise once"
    ):
        numerical_gradient(lambda v: v.sum() + noise.standard_normal(), np.ones(2))


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e8])
def test_the_step_is_relative_to_large_entries(size):
    """And is divided by the distance of the two points as they were rounded."""
    x = size * np.array([1.0, -0.3])
    checks.assert_close(numerical_gradient(lambda v: (v**2).sum() + v[0], x), 2 * x + [1, 0], 1e-9, "gradient")


# ---- check_pair ----------------------------------------------------------------------------------


def test_a_right_pair_passes_with_a_row_for_each_leaf_and_input():
    p, x = linear()
    rows = check_pair(linear_forward, linear_backward, p, x)
    assert [row.leaf for row in rows] == ["input 0", "W", "b"]
    assert all(row.rel_error < 1e-7 for row in rows)


@pytest.mark.parametrize("p", [None, {}], ids=repr)
def test_a_pair_without_parameters_is_called_without_p(p):
    assert len(check_pair(lambda x: (x * x, x), lambda x, dy: 2 * x * dy, p, np.ones((2, 3)))) == 1


def test_float32_is_refused():
    p, x = linear()
    with pytest.raises(GradientError, match="float32"):
        check_pair(linear_forward, linear_backward, p, x.astype("float32"))


def test_the_message_names_leaf_index_analytic_and_numeric():
    p, x = linear()

    def backward(p, cache, dy):
        dx, grads = linear_backward(p, cache, dy)
        grads["W"][2, 1] += 0.5
        return dx, grads

    with pytest.raises(GradientError) as error:
        check_pair(linear_forward, backward, p, x)
    found = re.match(r"W\[2, 1\]: analytic (\S+), numeric (\S+), relative error (\S+) of the leaf", str(error.value))
    assert found
    analytic, numeric, relative = (float(number) for number in found.groups())
    assert analytic == pytest.approx(numeric + 0.5, abs=1e-6)
    assert relative > 1e-7


def wrong_sign(p, cache, dy):
    dx, grads = linear_backward(p, cache, dy)
    return -dx, grads


def without_b(p, cache, dy):
    dx, grads = linear_backward(p, cache, dy)
    return dx, {"W": grads["W"]}


def with_one_too_many(p, cache, dy):
    dx, grads = linear_backward(p, cache, dy)
    return dx, grads | {"c": grads["b"]}


def b_not_summed(p, cache, dy):
    dx, grads = linear_backward(p, cache, dy)
    return dx, grads | {"b": dy}


def b_kept_2d(p, cache, dy):
    dx, grads = linear_backward(p, cache, dy)
    return dx, grads | {"b": grads["b"][None]}


def nan(p, cache, dy):
    dx, grads = linear_backward(p, cache, dy)
    return dx * np.nan, grads


def changes_the_upstream(p, cache, dy):
    result = linear_backward(p, cache, dy.copy())
    dy *= 2
    return result


def changes_p(p, cache, dy):
    result = linear_backward(p, cache, dy)
    p["W"] -= 0.1 * result[1]["W"]
    return result


def changes_x(p, cache, dy):
    result = linear_backward(p, cache, dy)
    cache.inputs[0][...] = 0
    return result


def remembers():
    kept = {"b": 0.0}

    def backward(p, cache, dy):
        dx, grads = linear_backward(p, cache, dy)
        kept["b"] = kept["b"] + grads["b"]  # as a framework that accumulates into .grad
        return dx, grads | {"b": kept["b"]}

    return backward


@pytest.mark.parametrize(
    "backward, says",
    [
        (wrong_sign, "input 0.*analytic"),
        (without_b, "backward returned gradients of"),
        (with_one_too_many, "backward returned gradients of"),
        (b_not_summed, r"b: the gradient has shape \(4, 2\), its array \(2,\)"),
        (b_kept_2d, r"b: the gradient has shape \(1, 2\), its array \(2,\)"),
        (nan, "input 0.*nan"),
        (changes_the_upstream, "changed its argument doutput 0"),
        (changes_p, "changed its argument W"),
        (changes_x, "changed its argument input 0"),
        (remembers(), "called twice returned two different gradients of b"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_wrong_backward_is_refused_by_name(backward, says):
    p, x = linear()
    with pytest.raises(GradientError, match=says):
        check_pair(linear_forward, backward, p, x)


def test_a_missing_gradient_of_an_input_is_refused():
    x, y = checks.rng().standard_normal((2, 3, 4))
    with pytest.raises(GradientError, match="backward returned gradients of"):
        check_pair(lambda a, b: (a * b, (a, b)), lambda cache, d: d * cache[1], None, x, y)


def test_every_output_has_an_upstream_gradient_of_its_own():
    """The two gradients of this backward are swapped; the same upstream for both outputs would hide it."""
    x, y = checks.rng().standard_normal((2, 3, 4))
    with pytest.raises(GradientError, match="input 0"):
        check_pair(lambda a, b: ((a + 0, b + 0), None), lambda cache, da, db: (db, da), None, x, y)


@pytest.mark.parametrize("error, passes", [(1e-9, True), (1e-6, False)])
def test_the_tolerance_is_the_one_stated(error, passes):
    analytic = np.array([1.0, 2.0])
    if passes:
        assert compare("W", analytic * (1 + error), analytic, tol=1e-7).rel_error < 1e-7
    else:
        with pytest.raises(GradientError):
            compare("W", analytic * (1 + error), analytic, tol=1e-7)


# ---- check_model ---------------------------------------------------------------------------------


def test_check_model_has_a_row_for_each_leaf():
    model, *given = checks.small(T=2, B=2, features=1, h_dim=2)
    rows = check_model(model, *given)
    assert len(rows) == sum(len(group) for group in model.shapes.values())


@pytest.mark.parametrize("leaf", ["phi_x.W1", "phi_z.b1", "prior.W_out", "infer.W2", "generate.b_out", "recur.c"])
def test_check_model_names_the_leaf_that_is_wrong(leaf, monkeypatch):
    model, *given = checks.small(T=2, B=2, features=2, h_dim=2)
    right, (group, name) = model._flat, leaf.split(".")

    def wrong(named):
        return right(named | {group: named[group] | {name: named[group][name] + 0.01}})

    monkeypatch.setattr(model, "_flat", wrong)
    with pytest.raises(GradientError, match=re.escape(leaf)):
        check_model(model, *given)


def test_check_model_refuses_float32():
    model, *given = checks.small(dtype="float32")
    with pytest.raises(GradientError, match="float32"):
        check_model(model, *given)


def test_small_model_is_ragged_and_has_random_biases():
    model, x, lengths, eps = all_pairs.small_model()
    assert model.dtype == "float64" and len(set(lengths.tolist())) > 1
    assert all(np.all(leaf != 0) for group in model.params.values() for leaf in group.values())
    assert x.shape[:2] == eps.shape[:2]


@pytest.mark.parametrize("each", [False, True])
def test_only_each_finds_a_mistake_in_an_entry_that_is_small_beside_its_leaf(each):
    slope = np.array([1e6, 1.0, 1e-3])

    def check(wrong):
        return check_pair(
            lambda x: ((slope * x).sum(), None),
            lambda cache, dy: slope * wrong * dy,
            None,
            np.ones(3),
            tol=1e-5,
            each=each,
        )

    check(np.ones(3))
    if not each:
        check(np.array([1, 1, 2]))
        return
    with pytest.raises(GradientError, match=r"input 0\[2\].* of the entry"):
        check(np.array([1, 1, 2]))


def test_a_gradient_within_the_rounding_of_the_function_is_not_called_wrong():
    """1e9 + 1e-9 x has no digit of its slope left."""
    for slope in (1e-9, 2e-9):
        with pytest.raises(GradientError, match=r"input 0: cannot decide any entry \(2 undecided"):
            check_pair(lambda x: (1e9 + 1e-9 * x, None), lambda cache, dy: slope * dy, None, np.ones(2))  # noqa: B023


# functions whose differences with the usual step are off by more than 1e-7, and their derivatives
STEEP = {
    "oscillates": (lambda x: np.sin(1e4 * x), lambda x: 1e4 * np.cos(1e4 * x), [0.3, 0.7]),
    "grows fast": (lambda x: np.exp(1e3 * x), lambda x: 1e3 * np.exp(1e3 * x), [0.03, 0.07]),
    "not defined a step below": (np.log, lambda x: 1 / x, [1e-8, 3e-8]),
    "vertical a step below": (np.sqrt, lambda x: 0.5 / np.sqrt(x), [1e-8, 1.0]),
    "flat beside its size": (lambda x: 1e3 + 1e-6 * x, lambda x: 1e-6 + 0 * x, [1.0, 2.0]),
}


@pytest.mark.parametrize("name", STEEP)
def test_a_step_that_does_not_suit_the_function_is_no_mistake_and_hides_none(name):
    f, df, x = STEEP[name]
    for wrong in (1.0, 1.0001):

        def check(wrong=wrong):
            return check_pair(lambda x: (f(x), x), lambda x, dy: wrong * df(x) * dy, None, np.array(x))

        if wrong == 1:
            assert check()[0].rel_error < 1e-7
        else:
            with pytest.raises(GradientError, match="analytic"):
                check()


def relu(x):
    return np.maximum(x, 0), x


@pytest.mark.parametrize("x", [[0.0, 1.0], [3e-6, -3e-6], [1e-7, -1.0]], ids=str)
@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_a_kink_is_noted_and_any_slope_between_its_sides_is_right(x, at_zero):
    (row,) = check_pair(relu, lambda x, dy: dy * np.where(x == 0, at_zero, x > 0), None, np.array(x))
    noted = 0.0 in x and at_zero != 0.5  # 0.5 is the central difference of a rectifier at 0
    assert row.rel_error < 1e-7 and (row.note == "1 at a kink, so checked beside it too" or not noted)


@pytest.mark.parametrize("x", [[0.0, 1.0], [3e-6, -3e-6], [0.0, 0.0]], ids=str)
@pytest.mark.parametrize(
    "wrong", [lambda x, dy: 1.001 * dy * (x > 0), lambda x, dy: dy * (x > 0) + 1e-3, lambda x, dy: -dy]
)
def test_a_kink_hides_no_mistake(x, wrong):
    x = np.array(x)
    with pytest.raises(GradientError, match="analytic"):
        check_pair(relu, wrong, None, x)


@pytest.mark.parametrize(
    "check, says",
    [
        (lambda: check_model(None, np.ones((2, 1, 2))), "Expected a model, got NoneType"),
        (lambda: check_pair(relu, 3, None, np.ones(2)), "backward must be a function, got int"),
        (lambda: check_model(tv.VRNN, np.ones((2, 1, 2))), "Expected a model, got type"),
        (lambda: numerical_gradient(None, np.ones(2)), "f must be a function, got NoneType"),
        (lambda: numerical_gradient(relu, np.ones(2), h="a"), "The step h must be between"),
        (lambda: check_pair(relu, relu, None, np.ones(2), tol="a"), "The tolerance tol must be above 0"),
        (lambda: numerical_gradient(relu, SimpleNamespace(dtype="torch.float64")), "x is of type SimpleNamespace"),
    ],
)
def test_what_is_no_model_or_function_is_refused(check, says):
    with pytest.raises(GradientError, match=says):
        check()


@pytest.mark.parametrize("side", [1, -1])
def test_a_mistake_that_is_0_on_one_side_of_a_kink_is_found_on_the_other(side):
    with pytest.raises(GradientError, match="analytic"):
        check_pair(lambda x: relu(side * x), lambda x, dy: -side * dy * (x > 0), None, np.zeros(1))


@pytest.mark.parametrize("kink", [3e-6, -3e-6, 1e-5])
def test_a_kink_that_is_weak_beside_curvature_is_no_mistake(kink):
    """As in a fresh VRNN: the loss 12, its slope 3e-3, and the unit's square enters the loss."""
    (row,) = check_pair(
        lambda x: (12 + 3e-3 * x + kink * np.maximum(x, 0) + 0.4 * np.maximum(x, 0) ** 2, x),
        lambda x, dy: dy * (3e-3 + kink * (x > 0) + 0.8 * np.maximum(x, 0)),
        None,
        np.zeros(1),
        tol=1e-6,
    )
    assert row.note == "1 at a kink, so checked beside it too"


@pytest.mark.parametrize("near, far", [(4e-6, 2e-3), (4e-4, 2e-2)])
def test_a_unit_that_is_off_until_a_longer_step_turns_it_on_has_the_gradient_0(near, far):
    def f(x):
        return 12 + 0.07 * np.maximum(x - near, 0) - 0.4 * np.maximum(x - far, 0), x

    def df(x, dy):
        return dy * (0.07 * (x > near) - 0.4 * (x > far))

    x = np.array([0.0, 0.1])
    assert check_pair(f, df, None, x)[0].rel_error < 1e-7
    with pytest.raises(GradientError, match="analytic"):
        check_pair(f, lambda x, dy: df(x, dy) + 0.05 * (x == 0), None, x)


@pytest.mark.parametrize("right", [True, False])
def test_a_gradient_at_a_jump_is_that_beside_it(right):
    def check():
        return check_pair(lambda x: (x + (x > 0), x), lambda x, dy: right * dy, None, np.zeros(1))

    if right:
        assert check()[0].note == "1 undecided, so checked beside it too"
    else:
        with pytest.raises(GradientError, match="analytic -?0, numeric"):
            check()


@pytest.mark.parametrize(
    "forward, backward, says",
    [
        (lambda p, x: x * p["w"], relu, r"forward must return \(outputs, cache\), got ndarray"),
        (lambda p, x: None, relu, r"forward must return \(outputs, cache\), got NoneType"),
        (lambda p, x: (x.astype("float32"), None), relu, "forward returned float32 as output 0, expected float64"),
        (lambda p, x: (3, None), relu, "forward returned int as output 0, expected float64"),
        (None, lambda p, cache, dy: None, "backward must return .* got NoneType"),
        (None, lambda p, cache, dy: dy, "backward must return .* got ndarray"),
        (None, lambda p, cache, dy: (dy, [dy]), "backward must return .* with a dict grads"),
        (None, lambda p, cache, dy: (dy, {"w": 1.0}), "w: the gradient is of type float, expected an array"),
        (None, lambda p, cache, dy: (dy, {"w": None}), "backward returned gradients of"),
    ],
)
def test_functions_that_return_something_else_are_named(forward, backward, says):
    with pytest.raises(GradientError, match=says):
        check_pair(forward or (lambda p, x: (x * p["w"], None)), backward, {"w": np.ones(2)}, np.ones(2))


@pytest.mark.parametrize("p", [[np.ones(2)], np.ones(2)], ids=["list", "array"])
def test_parameters_that_are_no_dict_are_refused(p):
    with pytest.raises(GradientError, match="p must be a dict of arrays or None"):
        check_pair(relu, relu, p, np.ones(2))


@pytest.mark.parametrize("h", [0, -1e-5, np.nan, 1e-20, 10])
def test_a_step_of_no_use_is_refused(h):
    with pytest.raises(GradientError, match="The step h must be between 1e-9 and 1"):
        numerical_gradient(lambda v: v.sum(), np.ones(2), h)


@pytest.mark.parametrize("tol", [0, -1, np.nan])
def test_a_tolerance_of_no_use_is_refused(tol):
    with pytest.raises(GradientError, match="The tolerance tol must be above 0"):
        check_pair(linear_forward, linear_backward, *linear(), tol=tol)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "model, backend", [("vrnn", "numpy"), ("vrnn-i", "numpy"), ("rnn", "numpy"), ("rnn", "strict"), ("vae", "strict")]
)
def test_a_fresh_model_is_not_accused_and_left_as_it_was(model, backend):
    """Its biases are 0, so with h_0 = 0 the prior's rectifiers are at their kinks at the first step."""
    model, x, eps = fresh(model, backend=backend)
    before = to_host(model.theta).copy()
    rows = check_model(model, x, None, eps)
    assert (to_host(model.theta) == before).all() and all(row.rel_error < 1e-6 for row in rows)


def fresh(name="vrnn", likelihood="bernoulli", **options):
    sizes = {"x_dim": 2, "h_dim": 2, "z_dim": 1, "features": 2, "layers": 1}
    kind = MODELS[name]
    sizes = {size: n for size, n in sizes.items() if size in kind.sizes}
    model, rng = kind(**sizes, likelihood=likelihood, dtype="float64", **options), checks.rng()
    return model, rng.random((2, 2, 2)).round(), rng.standard_normal((2, 2, 1)) if model.z_dim else None


def test_a_kink_of_a_fresh_model_hides_no_mistake(monkeypatch):
    """Of 1e-4 in any leaf: the check beside the kinks finds it."""
    model, x, eps = fresh()
    assert any("at a kink" in row.note for row in check_model(model, x, None, eps))
    right = type(model)._flat
    for group, leaf in (("prior", "b1"), ("prior", "W_out"), ("infer", "b1"), ("recur", "c")):

        def wrong(named, group=group, leaf=leaf):
            return right(model, named | {group: named[group] | {leaf: named[group][leaf] + 1e-4}})

        monkeypatch.setattr(model, "_flat", wrong)
        with pytest.raises(GradientError, match=re.escape(f"{group}.{leaf}")):
            check_model(model, x, None, eps)


def test_a_model_without_its_noise_is_refused_by_name():
    model, x, _ = fresh()
    with pytest.raises(GradientError, match="eps is None, so each call would draw other noise: give eps"):
        check_model(model, x)


@pytest.mark.parametrize(
    "inputs",
    [
        lambda x: (x, x),
        lambda x: (x[:3], x[1:4]),
        lambda x: (x, x.reshape(2, 2).T.ravel("F")[:1]),
        lambda x: (StrictArray(x), StrictArray(x[1:])),
    ],
)
def test_arguments_that_share_memory_are_refused(inputs):
    first, second = inputs(np.ones(4))
    with pytest.raises(GradientError, match="input 0 and input 1 share memory, but must be moved alone"):
        check_pair(lambda a, b: (a.sum() * b.sum(), None), relu, None, first, second)


def test_a_forward_that_writes_into_an_argument_is_caught():
    def forward(p, x):
        x -= x.mean()
        return linear_forward(p, x)

    p, x = linear()
    before = x.copy()
    with pytest.raises(GradientError, match="forward changed its argument input 0"):
        check_pair(forward, linear_backward, p, x)
    assert (x == before).all()


def test_a_gradient_of_few_digits_is_named():
    with pytest.raises(GradientError, match="input 0: the gradient has dtype float32, its array float64"):
        check_pair(lambda x: (x * x, x), lambda x, dy: (2 * x * dy).astype("float32"), None, np.ones(3))


SCALARS = {  # autograd's own functions of an array (3, 4), with derivatives that are not written here
    "sum of exp": lambda n, x: n.sum(n.exp(x)),
    "log-sum-exp": lambda n, x: n.sum(n.log(n.sum(n.exp(x), axis=1))),
    "tanh of a product": lambda n, x: n.sum(n.tanh(n.dot(x, x.T))),
    "norm": lambda n, x: n.sqrt(n.sum(x**2)),
    "softplus": lambda n, x: n.sum(n.logaddexp(0, 30 * x)),
    "rectifiers": lambda n, x: n.sum(n.maximum(x, 0) * x[::-1]),
    "absolute values": lambda n, x: n.sum(n.abs(x)) ** 2,
    "sin of large numbers": lambda n, x: n.sum(n.sin(100 * x)) / 100,
    "fourth power": lambda n, x: n.mean(x**4) * 1e6,
    "tiny": lambda n, x: 1e-12 * n.sum(n.cos(x)),
    "constant": lambda n, x: 0.0 * n.sum(x),
    "one entry": lambda n, x: x[1, 2] * x[0, 0],
}


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("each", [False, True])
def test_verdicts_are_those_on_gradients_of_another_library(name, each):
    """Right ones pass; with any one entry wrong by a thousandth of the largest, they do not."""
    f, x = SCALARS[name], checks.rng().standard_normal((3, 4))
    right = autograd.grad(lambda v: f(anp, v))(x)

    def check(gradient):
        return check_pair(lambda v: (f(np, v), None), lambda cache, dy: gradient * dy, None, x, each=each, tol=1e-6)

    note = check(right)[0].note
    assert note == "0 everywhere" if name == "constant" else each or not note  # entries of 1e-9 are within rounding
    for index in np.ndindex(x.shape):
        wrong = right.copy()
        wrong[index] += 1e-3 * (np.abs(right).max() or 1)
        with pytest.raises(GradientError, match=re.escape(f"input 0{list(index)}")):
            check(wrong)


def test_an_input_without_a_gradient_is_a_failure():
    with pytest.raises(GradientError, match="expected"):
        check_pair(lambda a, b: (a * b, None), lambda cache, d: (None, None), None, np.ones(3), np.ones(3))


def test_rel_error_does_not_broadcast():
    with pytest.raises(GradientError, match="one shape"):
        rel_error(np.zeros((3, 1)), np.zeros(3))


# ---- what is stated of the numbers ---------------------------------------------------------------


def cube(x):
    return x**3, x


def cube_backward(x, dy):
    return 3 * x**2 * dy


def test_a_row_has_the_worst_entry_with_the_upstream_gradient_of_its_seed():
    """(x + h)^3 - (x - h)^3 over 2h is 3 x^2 + h^2: too large by h^2 times the upstream gradient."""
    x = checks.rng().standard_normal((2, 3))
    for seed in (0, 1):
        upstream = generator(seed, "upstream").standard_normal((2, 3))
        (row,) = check_pair(cube, cube_backward, None, x, seed=seed, tol=1.0, h=0.1)
        worst = np.unravel_index(np.argmax(np.abs(upstream)), (2, 3))
        assert row.index == tuple(worst) and row.leaf == "input 0"
        assert row.analytic == pytest.approx(3 * x[worst] ** 2 * upstream[worst], rel=1e-12)
        assert row.numeric - row.analytic == pytest.approx(0.01 * upstream[worst], rel=1e-9)
        largest = np.abs((3 * x**2 + 0.01) * upstream).max()
        assert row.rel_error == pytest.approx(0.01 * abs(upstream[worst]) / largest, rel=1e-9)


def test_a_step_and_a_tolerance_that_are_not_told_are_fine_enough_for_a_cube():
    x = checks.rng().standard_normal((2, 3))
    (row,) = check_pair(cube, cube_backward, None, x)
    assert row.rel_error < 1e-9
    upstream = generator(0, "upstream").standard_normal((2, 3))
    assert row.analytic == pytest.approx(3 * x[row.index] ** 2 * upstream[row.index], rel=1e-12)
    with pytest.raises(GradientError):
        check_pair(cube, lambda x, dy: cube_backward(x, dy) * (1 + 2e-7), None, x)


class Cubic:
    """A model whose loss is beta times the sum of theta^3, times a factor in the options; it records its arguments."""

    shapes = {"a": {"W": (2,), "b": (1,)}}

    def __init__(self):
        self.theta, self.asked = np.array([1.0, -2.0, 0.5]), []
        self.params = views(self.theta, self.shapes)

    def loss_and_grads(self, x, lengths, eps, beta, factor=1.0):
        self.asked.append((x, lengths, eps, beta))
        return beta * factor * (self.theta**3).sum(), 3 * beta * factor * self.theta**2, None


def test_check_model_asks_with_what_it_is_given_and_steps_as_told():
    model = Cubic()
    rows = check_model(model, "x", "lengths", "eps", 0.5, tol=1.0, h=0.1, factor=4.0)
    assert set(model.asked) == {("x", "lengths", "eps", 0.5)} and len(model.asked) == 1 + 2 * 3 + 2 * 2
    assert [row.leaf for row in rows] == ["a.W", "a.b"]
    assert rows[0].analytic == 6 * model.theta[rows[0].index] ** 2 and rows[1].analytic == 1.5
    for row, step in zip(rows, (0.2, 0.1)):  # relative to an entry larger than 1
        assert row.numeric - row.analytic == pytest.approx(2 * step**2, rel=1e-9)
    model = Cubic()
    assert all(row.rel_error < 1e-9 for row in check_model(model, "x"))
    assert set(model.asked) == {("x", None, None, 1.0)}


def test_an_entry_that_is_nan_is_the_worst_one():
    with pytest.raises(GradientError, match=r"W\[1\]: analytic nan"):
        compare("W", np.array([1.0, np.nan, 5.0]), np.array([1.0, 2.0, -5.0]), tol=1e-7)


def test_an_error_of_exactly_the_tolerance_is_too_much():
    assert compare("W", np.array([1.0]), np.array([0.5]), tol=0.51).rel_error == 0.5
    with pytest.raises(GradientError, match="more than 0.5"):
        compare("W", np.array([1.0]), np.array([0.5]), tol=0.5)
