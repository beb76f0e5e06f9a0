"""Every forward/backward pair and the whole ELBO against central differences.

Catches: any wrong, missing or transposed gradient; a backward that writes to its arguments or remembers a call; a pair
that works for (B, .) only, or with NumPy only; a new pair that nobody checks; an `out=` that changes the result. Does
not catch a wrong forward whose backward agrees: test_equations.py and test_autograd.py do.
"""

import importlib
import inspect
import pkgutil
import tracemalloc
from functools import partial

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn import distributions, gradcheck, nn
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.distributions import gaussian
from tinyvrnn.gradcheck import all_pairs
from tinyvrnn.models import equations
from tinyvrnn.nn import activations, cells, gru, linear, lstm, mlp

LEADING = {"(B,)": (3,), "(T, B)": (2, 3), "()": (), "(1,)": (1,)}
# the nonlinear halves of two pairs, which a loop over time calls directly: the pair that uses each
HALVES = {
    "gru_gates_forward": gru.gru_forward,
    "lstm_gates_forward": lstm.lstm_forward,
    "mlp_tail_forward": mlp.mlp_forward,
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("leading", LEADING.values(), ids=LEADING)
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("name", all_pairs.PAIRS)
def test_gradients_of_a_pair_equal_numeric_ones(name, backend, leading):
    checks.pair_gradients(name, backend, leading=leading)


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("name", all_pairs.PAIRS)
@pytest.mark.one_in(7)
def test_gradients_of_a_pair_equal_numeric_ones_for_more_seeds(name, seed):
    checks.pair_gradients(name, seed=seed)


def public_forwards():
    modules = [equations]
    for room in (nn, distributions):
        names = [m.name for m in pkgutil.iter_modules(room.__path__) if m.name != "recurrence"]  # a loop, of no pair
        modules += [importlib.import_module(f"{room.__name__}.{name}") for name in names]
    return {
        name: function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.endswith("_forward") and not name.startswith("_") and function.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", public_forwards())
def test_every_public_forward_is_in_the_table_of_pairs(name):
    checked = {p.forward.func if isinstance(p.forward, partial) else p.forward for p in all_pairs.PAIRS.values()}
    if name in HALVES:
        assert name in HALVES[name].__code__.co_names and HALVES[name] in checked
    else:
        assert public_forwards()[name] in checked


@pytest.mark.parametrize("name", all_pairs.PAIRS)
def test_forward_and_backward_of_a_pair_have_matching_names(name):
    forward, backward = (f.func if isinstance(f, partial) else f for f in all_pairs.PAIRS[name][:2])
    assert forward.__name__.removesuffix("_forward") == backward.__name__.removesuffix("_backward")
    assert forward.__module__ == backward.__module__


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("leading", [(3,), (2, 3)], ids=str)
def test_gradients_of_the_gru_gates_alone_equal_numeric_ones(backend, leading):
    def forward(a, g, h):
        h_next, (ru, n, g_n) = gru.gru_gates_forward(a, g, h)
        return h_next, gru.GruCache((), h, ru, n, g_n)

    def backward(cache, dh_next):
        da = gru.gru_gates_backward(gru.gru_slopes(cache), dh_next)
        return da, gru.gru_h_side(da, cache.ru), dh_next * cache.ru[..., cache.h.shape[-1] :]

    a, g = checks.rng().standard_normal((2, *leading, 12))
    inputs = checks.device(backend, a, g, checks.rng(1).standard_normal((*leading, 4)))
    assert len(gradcheck.check_pair(forward, backward, None, *inputs, tol=1e-7)) == 3


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("leading", [(3,), (2, 3)], ids=str)
def test_gradients_of_the_lstm_gates_alone_equal_numeric_ones(backend, leading):
    def forward(a, g, state):
        state_next, gates = lstm.lstm_gates_forward(a, g, state)
        return state_next, lstm.LstmCache((), state, *gates)

    def backward(cache, dstate_next):
        da, dstate = lstm.lstm_gates_backward(lstm.lstm_slopes(cache), cache.ifno, dstate_next)
        return da, da.copy(), dstate

    a, g = checks.rng().standard_normal((2, *leading, 16))
    inputs = checks.device(backend, a, g, checks.rng(1).standard_normal((*leading, 8)))
    assert len(gradcheck.check_pair(forward, backward, None, *inputs, tol=1e-7)) == 3


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "likelihood, layers", [*((name, 1) for name in distributions.LIKELIHOODS), ("gaussian", 2), ("bernoulli", 3)]
)
@pytest.mark.parametrize("backend", checks.DEVICE_LATER)
def test_gradients_of_the_whole_elbo_equal_numeric_ones(likelihood, layers, backend):
    checks.elbo_gradients(likelihood, backend, layers)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.one_in(3)
def test_gradients_of_the_whole_elbo_equal_numeric_ones_for_more_seeds(seed):
    checks.elbo_gradients("gaussian", seed=seed, beta=1.6)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("backend, options", [("numpy", {}), ("numpy", {"model": "vae"}), (checks.DEVICE, {})], ids=str)
def test_free_bits_charge_each_step_at_least_so_much(backend, options):
    """The loss is that of max(free_bits, KL) of each step, some above and some below, with its numeric gradient."""
    model, x, lengths, eps = checks.small("gaussian", backend, T=3, B=3, layers=1, **options)
    found = model.infer(x, lengths, eps)
    kl, log_p, real = (to_host(a) for a in (found.kl, found.log_p, found.kl != 0))
    bits = float(np.median(kl[real]))
    loss, _, terms = model.loss_and_grads(x, lengths, eps, 0.7, free_bits=bits)
    assert float(loss) == pytest.approx((0.7 * np.maximum(bits, kl)[real].sum() - log_p.sum()) / 3, rel=1e-12)
    np.testing.assert_allclose(to_host(terms.kl), kl.sum(axis=0))
    gradcheck.check_model(model, x, lengths, eps, beta=0.7, tol=1e-6, free_bits=bits)


def test_free_bits_are_those_of_recomputation_and_of_slices():
    model, *given = checks.small("gaussian", T=9)
    bits = float(np.median(model.infer(*given).kl))
    expected = model.loss_and_grads(*given, 0.7, free_bits=bits)
    again = model.loss_and_grads(*given, 0.7, free_bits=bits, recompute=True)
    with tv.Workers(2) as workers:
        sliced = workers.loss_and_grads(model, *given, 0.7, free_bits=bits)
    for other in (again, sliced):
        np.testing.assert_allclose(other[0], expected[0], rtol=1e-12)
        checks.assert_close(other[1], expected[1], 1e-12, "gradient")


def arrays_in(value):
    """All arrays in nested tuples and dicts."""
    if isinstance(value, dict):
        value = tuple(value.values())
    return [array for one in value for array in arrays_in(one)] if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("name", all_pairs.PAIRS)
@pytest.mark.one_in(3)
def test_float32_stays_float32_in_outputs_cache_and_gradients(name, backend):
    pair = all_pairs.PAIRS[name]
    p, inputs = all_pairs.random_inputs(pair, backend)
    p, inputs = {leaf: a.astype("float32") for leaf, a in p.items()}, tuple(a.astype("float32") for a in inputs)
    outputs, cache = pair.forward(p, *inputs) if p else pair.forward(*inputs)
    upstream = outputs if isinstance(outputs, tuple) else (outputs,)
    gradients = pair.backward(p, cache, *upstream) if p else pair.backward(cache, *upstream)
    assert {str(a.dtype) for a in arrays_in((outputs, cache, gradients))} == {"float32"}


@pytest.mark.parametrize("name", cells.CELLS)
def test_the_slopes_of_a_cell_keep_float32(name):
    cell, draw = cells.CELLS[name], checks.rng()
    p = {leaf: draw.standard_normal(shape).astype("float32") for leaf, shape in cell.shapes(4, 3).items()}
    state = np.zeros((2, 3 * cell.states), "float32")
    assert cell.slopes(cell.forward(p, np.ones((2, 4), "float32"), state)[1]).dtype == "float32"


@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("name", cells.CELLS)
def test_what_a_loop_calls_of_a_cell_is_the_whole_cell_for_any_leading_axes(name, leading, H=3):
    cell, draw = cells.CELLS[name], checks.rng()
    p = {leaf: draw.standard_normal(shape) for leaf, shape in cell.shapes(4, H).items()}
    x, (state, dnext) = draw.standard_normal((*leading, 4)), draw.standard_normal((2, *leading, cell.states * H))
    expected, cache = cell.forward(p, x, state)
    (dx, dstate), grads = cell.backward(p, cache, dnext)

    found, *gates = (np.full((*leading, width * H), np.nan) for width in (cell.states, *cell.gate_widths))
    given = (cells.h_of(p, state) @ p["U"], p["c"], state, found, *gates)
    for a, x_side in ((x @ p["W"] + p["b"], None), (x @ p["W"], p["b"])):
        found[...] = np.nan
        cell.step(a, x_side, *(v.copy() if v is given[0] else v for v in given))
        checks.assert_close(found, expected, 1e-14, "state")
    cache = cell.cache((x,), state, *gates)
    da = np.full_like(a, np.nan)
    dg, dbefore = cell.step_backward(cell.slopes(cache), gates, dnext, da)
    dbefore[..., :H] += dg @ p["U"].T
    checks.assert_close(da @ p["W"].T, dx, 1e-13, "dx")
    checks.assert_close(dbefore, dstate, 1e-13, "dstate")
    checks.assert_same_tree({"cell": cell.backward_params(cache, da)}, {"cell": grads}, 1e-13)
    assert cells.cell_of(p) is cell and cells.state_width(p) == cell.states * H


# variants that write into given arrays: (plain call, call with out, shapes of the arrays in out)


def _gru_case(draw):
    p = {name: draw.standard_normal(shape) for name, shape in gru.shapes(4, 3).items()}
    return p, draw.standard_normal((5, 4)), draw.standard_normal((5, 3))


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("function", [activations.relu, activations.sigmoid], ids=lambda f: f.__name__)
def test_activation_into_a_given_array_equals_the_plain_one(function, backend):
    (a,) = checks.device(backend, checks.rng().standard_normal((4, 3)))
    (out,) = checks.device(backend, np.full((4, 3), np.nan))
    plain = function(a)
    assert function(a, out=out) is out
    assert np.array_equal(to_host(out), to_host(plain))
    assert function(a, out=a) is a and np.array_equal(to_host(a), to_host(plain)), "in place"


@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_relu_backward_into_a_given_array_equals_the_plain_one(backend):
    y, dy, out = checks.device(backend, *checks.rng().standard_normal((3, 4, 5)))
    plain = activations.relu_backward(y, dy)
    assert activations.relu_backward(y, dy, out=out) is out
    assert np.array_equal(to_host(out), to_host(plain))


@pytest.mark.parametrize("leading", [(3,), (2, 3)], ids=str)
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_matmul_into_a_given_array_equals_the_plain_one(backend, leading):
    x, W = checks.device(backend, checks.rng().standard_normal((*leading, 4)), checks.rng(1).standard_normal((4, 5)))
    (out,) = checks.device(backend, np.full((*leading, 5), np.nan))
    plain = linear.matmul(x, W)
    assert np.array_equal(to_host(linear.matmul(x, W, out=out)), to_host(plain))
    assert np.array_equal(to_host(out), to_host(plain))


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (5, 2, 3, 4)], ids=str)
def test_a_matmul_is_one_product_of_two_matrices(shape, monkeypatch):
    products = []

    class Spy:
        @staticmethod
        def matmul(a, b, out=None):
            products.append((a.ndim, b.ndim))
            return np.matmul(a, b, out=out)

    monkeypatch.setattr(linear, "namespace", lambda x: Spy)
    x, W = checks.rng().standard_normal(shape), checks.rng(1).standard_normal((4, 6))
    checks.assert_close(linear.matmul(x, W), np.einsum("...i,ij->...j", x, W), 1e-14, "product")
    assert products == [(2, 2)]


def test_a_layer_of_three_inputs_is_that_of_their_concatenation():
    draw = checks.rng()
    p = {"W": draw.standard_normal((9, 5)), "b": draw.standard_normal(5)}
    x, dy = draw.standard_normal((6, 9)), draw.standard_normal((6, 5))
    y, cache = linear.linear_forward(p, x[:, :2], x[:, 2:6], x[:, 6:])
    (whole, whole_cache) = linear.linear_forward(p, x)
    checks.assert_close(y, whole, 1e-14, "y")
    (dxs, grads), (dx, expected) = linear.linear_backward(p, cache, dy), linear.linear_backward(p, whole_cache, dy)
    checks.assert_close(np.concatenate(dxs, axis=1), dx, 1e-14, "dx")
    checks.assert_same_tree({"linear": grads}, {"linear": expected}, 1e-14)


@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_mlp_into_given_arrays_equals_the_plain_one(backend):
    draw = checks.rng()
    p = {n: checks.device(backend, draw.standard_normal(s))[0] for n, s in mlp.shapes([4, 5, 5]).items()}
    a, dy, *outs = checks.device(backend, *draw.standard_normal((6, 3, 5)))
    ys = mlp.mlp_tail_forward(p, a.copy(), p["b1"])
    given_ys = mlp.mlp_tail_forward(p, a.copy(), p["b1"], out=outs[:2])
    das, given_das = mlp.mlp_backward_data(p, ys, dy), mlp.mlp_backward_data(p, ys, dy, out=outs[2:])
    for plain, given, out in zip((*ys, *das), (*given_ys, *given_das), outs, strict=True):
        assert given is out or np.shares_memory(getattr(given, "_host", given), getattr(out, "_host", out))
        assert np.array_equal(to_host(out), to_host(plain))


@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_gru_gates_into_given_arrays_equal_the_plain_ones(backend):
    draw = checks.rng()
    a, g = checks.device(backend, *draw.standard_normal((2, 4, 9)))
    h, dh, h_out, n_out = checks.device(backend, *draw.standard_normal((4, 4, 3)))
    ru_out, da_out = checks.device(backend, *(np.full((4, width), np.nan) for width in (6, 9)))
    h_next, (ru, n, g_n) = gru.gru_gates_forward(a, g, h)
    gru.gru_gates_forward(a, g, h, out=(h_out, ru_out, n_out))
    slopes = gru.gru_slopes(gru.GruCache((), h, ru, n, g_n))
    da = gru.gru_gates_backward(slopes, dh)
    gru.gru_gates_backward(slopes, dh, out=da_out)
    for plain, out in ((h_next, h_out), (ru, ru_out), (n, n_out), (da, da_out)):
        assert np.array_equal(to_host(out), to_host(plain))
    dg = gru.gru_h_side(da, ru)
    assert np.array_equal(to_host(da), to_host(da_out)), "gru_h_side changed its argument"
    for in_place in (gru.gru_gates_backward(slopes, dh, out=slopes), gru.gru_h_side(da_out, ru, out=da_out)):
        assert np.array_equal(to_host(in_place), to_host(da if in_place is slopes else dg))
    assert np.array_equal(to_host(da_out), to_host(dg))


@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_lstm_gates_into_given_arrays_equal_the_plain_ones(backend):
    draw = checks.rng()
    a, g = checks.device(backend, *draw.standard_normal((2, 4, 12)))
    state, dstate = checks.device(backend, *draw.standard_normal((2, 4, 6)))
    outs = checks.device(backend, *(np.full((4, width), np.nan) for width in (6, 12, 3)))
    state_next, gates = lstm.lstm_gates_forward(a, g, state)
    lstm.lstm_gates_forward(a, g, state, out=outs)
    for plain, out in zip((state_next, *gates), outs, strict=True):
        assert np.array_equal(to_host(out), to_host(plain))
    slopes = lstm.lstm_slopes(lstm.LstmCache((), state, *gates))
    da, dbefore = lstm.lstm_gates_backward(slopes, gates[0], dstate)
    again, dbefore_again = lstm.lstm_gates_backward(slopes, gates[0], dstate, out=slopes[..., :12])
    assert np.array_equal(to_host(again), to_host(da)) and np.array_equal(to_host(dbefore_again), to_host(dbefore))
    assert np.array_equal(to_host(slopes)[..., :12], to_host(da))


# ---- what is promised to be written in place makes no array ---------------------------------------

N = 200_000  # rows: one block, (N, 1), is 1.6 MB, large compared with NumPy's buffers


def blocks(*widths):
    return tuple(checks.rng(width).standard_normal((N, width)) for width in widths)


def steps(width):
    return checks.rng(width).standard_normal((100, N // 100, width))


def small_mlp():
    return {name: checks.rng(1).standard_normal(shape) for name, shape in mlp.shapes([1, 1, 1]).items()}


def gru_params_into_da():
    (da,) = blocks(3)
    return partial(gru.gru_backward_params, gru.GruCache(blocks(2), *blocks(1, 2, 1, 1)), da, out=da)


# name: (blocks that the call may hold at once, including its results and unavoidable temporaries, the call)
HELD = {
    "sigmoid": (1, lambda: partial(activations.sigmoid, *blocks(1))),
    "softplus": (1, lambda: partial(activations.softplus, *blocks(1))),
    "sigmoid into": (0, lambda: partial(activations.sigmoid, *blocks(1), out=blocks(1)[0])),
    "relu into": (0, lambda: partial(activations.relu, *blocks(1), out=blocks(1)[0])),
    # y > 0 is made, a byte for each 8 of a float64
    "relu backward into": (0.2, lambda: partial(activations.relu_backward, *blocks(1, 1), out=blocks(1)[0])),
    "matmul into": (0, lambda: partial(linear.matmul, blocks(2)[0], np.ones((2, 1)), out=blocks(1)[0])),
    "matmul of steps into": (0, lambda: partial(linear.matmul, steps(2), np.ones((2, 1)), out=steps(1))),
    "mlp into": (0, lambda: partial(mlp.mlp_tail_forward, small_mlp(), *blocks(1), np.ones(1), out=blocks(1, 1))),
    "mlp backward into": (
        1.2,  # dL/dy_1
        lambda: partial(mlp.mlp_backward_data, small_mlp(), blocks(1, 1), *blocks(1), out=blocks(1, 1)),
    ),
    "gru gates": (4, lambda: partial(gru.gru_gates_forward, *blocks(3, 3, 1))),
    "gru gates into": (0, lambda: partial(gru.gru_gates_forward, *blocks(3, 3, 1), out=blocks(1, 2, 1))),
    "gru slopes": (5, lambda: partial(gru.gru_slopes, gru.GruCache((), *blocks(1, 2, 1, 1)))),
    "gru gates backward into": (0, lambda: partial(gru.gru_gates_backward, *blocks(3, 1), out=blocks(3)[0])),
    "gru h side into": (0, lambda: partial(gru.gru_h_side, *blocks(3, 2), out=blocks(3)[0])),
    "gru backward params into": (0, gru_params_into_da),
    "lstm gates": (8, lambda: partial(lstm.lstm_gates_forward, *blocks(4, 4, 2))),
    "lstm gates into": (1, lambda: partial(lstm.lstm_gates_forward, *blocks(4, 4, 2), out=blocks(2, 4, 1))),
    "lstm slopes": (7, lambda: partial(lstm.lstm_slopes, lstm.LstmCache((), *blocks(2, 4, 1)))),
    "lstm gates backward into": (2, lambda: partial(lstm.lstm_gates_backward, *blocks(5, 4, 2), out=blocks(4)[0])),
    "distances": (1, lambda: partial(gaussian.distances, *blocks(1, 1), 1 + blocks(1)[0] ** 2)),
}


@pytest.mark.parametrize("name", HELD)
def test_a_call_holds_no_more_memory_than_stated(name):
    allowed, call = HELD[name][0], HELD[name][1]()
    call()
    tracemalloc.start()
    try:
        kept = call()
        most = tracemalloc.get_traced_memory()[1] / blocks(1)[0].nbytes
    finally:
        tracemalloc.stop()
    assert kept is not None and most < allowed + 0.15
