"""Fused kernels: each operation against its NumPy function, and the launches of a step, counted.

Catches: an operation that differs from the function below it, blocks in another order, NaN that a kernel swallows, a
loop that launches more than it must, an implicit copy on a device, and a counter that misses it.
Without a GPU the operations are compiled for the CPU (double/cupy), and strict counts.
"""

from types import SimpleNamespace

import checks
import numpy as np
import pytest

from tinyvrnn.arrays import kernels
from tinyvrnn.arrays.backend import get_backend, namespace, to_host
from tinyvrnn.arrays.kernels import KERNELS
from tinyvrnn.arrays.strict import StrictArray, launches, transfers
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.models import rnn, schedule
from tinyvrnn.nn import linear
from tinyvrnn.training.optim import Adam, clip_by_global_norm

EXTREMES = [0.0, 1e-30, 1e-4, 1, 39.9, 40, 40.1, 88, 90, 700, 1e4, 1e15, 1e30, np.inf, np.nan]


# ---- operations ----------------------------------------------------------------------------------


def ordinary(draw, shape):
    return 2 * draw.standard_normal(shape)


def extreme(draw, shape):
    return draw.choice(EXTREMES, shape) * draw.choice([1, -1], shape)


def arguments(kernel, values, dtype, seed=0, rows=200, H=5):
    """Arrays for each input and output, with H columns for each block; outputs have values, as they may be read."""
    draw = checks.rng(seed)
    arrays = [values(draw, (rows, H * len(names))).astype(dtype) for names in kernel.inputs + kernel.outputs]
    arrays = [abs(a) if names[0].startswith("sigma") else a for a, names in zip(arrays, kernel.inputs + kernel.outputs)]
    if kernel.name == "adam_step":
        scalars = [1e-3, 0.9, 1 - 0.9, 0.999, 1 - 0.999, 1 - 0.999**3, 1e-8]
        return [arrays[0], *scalars, *arrays[8:10], abs(arrays[10])]
    if kernel.name == "scale_down":
        return [abs(arrays[0]), 0.7, arrays[2]]
    return arrays


def differences(kernel, arrays, backend):
    """The error of each output, in units of the last place of the largest input or output."""
    twin, device = (
        [copy(a) if isinstance(a, np.ndarray) else a for a in arrays] for copy in (np.copy, backend.asarray)
    )
    inputs = [np.broadcast_to(abs(b), arrays[-1][..., :5].shape) for b in kernels.blocks_of(kernel, arrays)]
    largest = np.max([np.where(np.isfinite(a), a, 0) for a in (*inputs, np.ones_like(inputs[0]))], axis=0)
    first = len(kernel.inputs)
    with np.errstate(all="ignore"):
        kernel.twin(*twin)
        kernels.launch(kernel, backend, device, {})
        device = [to_host(a) for a in device[first:]]
        expected, actual = ([*kernels.blocks_of(kernel._replace(inputs=()), a)] for a in (twin[first:], device))
        for name, a, e in zip(sum(kernel.outputs, ()), actual, expected, strict=True):
            same = (a == e) | (np.isnan(a) & np.isnan(e))
            off = np.where(same, 0, abs(a - e) / np.maximum(largest, abs(e)))
            yield name, np.max(np.nan_to_num(off, nan=np.inf)) / np.finfo(a.dtype).eps


def given(kernel):
    """Whether the outputs are positional arguments of the function; others have `out`, or return new arrays."""
    return kernel.twin.__code__.co_argcount == len(kernel.inputs + kernel.outputs)


def twin_that_writes(kernel):
    """The kernel with a function that writes into its last arguments, even if it returns new arrays."""

    def write(*arrays):
        first = len(kernel.inputs)
        results = kernel.twin(*arrays[:first])
        for a, result in zip(arrays[first:], results if isinstance(results, tuple) else (results,), strict=True):
            a[...] = result

    return kernel if given(kernel) and "out" not in kernel.twin.__code__.co_varnames else kernel._replace(twin=write)


def require_parity(name, backend):
    kernel = twin_that_writes(KERNELS[name])
    for values in (ordinary, extreme):
        for dtype, ulps in (("float64", 400), ("float32", 6)):  # 400 are 1e-13
            for what, off in differences(kernel, arguments(kernel, values, dtype), backend):
                limit = max(ulps, LIMITS.get(name, 0))
                assert off <= limit, f"{name}: {what} is {off:.3g} units off at {values.__name__} {dtype}"


@pytest.mark.parametrize("name", KERNELS)
def test_an_operation_is_what_numpy_does_in_its_place(name, cupy_backend):
    require_parity(name, cupy_backend)


LIMITS = {"kl_of_each": 300}  # exp(2 d), 2 d up to 2 * 69, multiplies an error in the last place of d by so much

WRONG = {  # function: (text in its operation, the mistake that replaces it)
    "relu_backward": ("y > 0", "y >= 0"),
    "add_relu": ("sum < 0 ? 0 : sum", "sum > 0 ? sum : 0"),  # swallows NaN
    "gru_step": ("g_r + c_r", "g_r + c_u"),
    "gru_step_backward": ("da_n * ru_r", "da_n"),
    "lstm_step": ("ifno_f * state_m", "ifno_f * state_h"),
    "lstm_step_backward": ("dstate_h = 0;", ""),
    "draw": ("T(1e-4)", "T(1e-3)"),
    "draw_backward": ("dz * ds_dz + ds", "dz * ds_dz"),
    "add_to": ("+ c", ""),
    "kl_of_each": ("2 * d", "d"),
    "kl_of_each_backward": ("(delta * delta + ratio_minus_1)", "delta * delta"),
    "adam_step": ("/ correction", ""),
    "scale_down": ("scale > 1 ? 1 : scale", "scale"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_operation_is_seen(name, cupy_backend, monkeypatch):
    right, wrong = WRONG[name]
    assert KERNELS[name].operation.count(right) == 1
    planted = KERNELS[name]._replace(operation=KERNELS[name].operation.replace(right, wrong))
    monkeypatch.setitem(KERNELS, name, planted)
    kernels.elementwise_kernel.cache_clear()
    with pytest.raises(AssertionError, match=f"{name}: .* units off"):
        require_parity(name, cupy_backend)
    kernels.elementwise_kernel.cache_clear()


@pytest.mark.parametrize("options", [{}, {"cell": "lstm"}, {"posterior": "smoothing"}, {"model": "vrnn-i"}], ids=str)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_step_of_training_in_kernels_is_that_of_numpy(likelihood, options, cupy_backend):
    results = []
    for backend in ("numpy", cupy_backend.name):
        model, *batch = checks.small(likelihood, backend, **options)
        optimiser = Adam(model.theta)
        loss, grads, _ = model.loss_and_grads(*batch)
        before = grads.copy()
        clip_by_global_norm(grads, 0.1)
        optimiser.step(model.theta, grads, 1e-2)
        results.append([to_host(a) for a in (loss, before, grads, model.theta)])
    for actual, expected, what in zip(results[1], results[0], ("loss", "gradient", "clipped", "theta")):
        checks.assert_close(actual, expected, 1e-12, what)


# ---- launches ------------------------------------------------------------------------------------


def count(function, *args, **options):
    launches.reset()
    result = function(*args, **options)
    return launches.total, result


def launches_of(module, T, likelihood="bernoulli", **options):
    """(forward, backward) of a whole sequence on strict."""
    model, x, _, eps = checks.small(likelihood, "strict", T=T, **options)
    x, eps = checks.device("strict", x, eps)
    given = (x, eps, model.likelihood) if module is schedule else (x, model.likelihood)
    forward, (*terms, cache) = count(module.sequence_forward, model.params, *given)
    backward, _ = count(module.sequence_backward, model.params, cache, *terms, likelihood=model.likelihood)
    return forward, backward


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(
    "module, options, most",
    [
        (schedule, {}, (10, 12)),
        (schedule, {"posterior": "smoothing"}, (10 + 2, 12 + 3)),  # and the second recurrence
        (schedule, {"cell": "lstm"}, (11, 14)),  # h is half of its state: CuPy copies it; so it does da, twice
        (schedule, {"layers": 1}, (8, 10)),
        (rnn, {"model": "rnn"}, (2, 3)),
        (rnn, {"model": "rnn", "cell": "lstm"}, (3, 4)),
    ],
    ids=str,
)
def test_launches_of_a_time_step(module, options, most, likelihood):
    few, many = (launches_of(module, T, likelihood, **options) for T in (4, 5))
    assert (many[0] - few[0], many[1] - few[1]) == most


def test_no_transfer_in_a_time_step():
    model, x, _, eps = checks.small(backend="strict")
    x, eps = checks.device("strict", x, eps)
    transfers.reset()
    log_p, kl, cache = schedule.sequence_forward(model.params, x, eps, model.likelihood)
    schedule.sequence_backward(model.params, cache, log_p, kl, model.likelihood)
    assert transfers.total == 0


def test_an_optimiser_step_is_four_launches_and_no_transfer():
    theta, grads = checks.device("strict", *checks.rng().standard_normal((2, 1000)))
    optimiser = Adam(theta)
    transfers.reset()
    assert count(clip_by_global_norm, grads, 0.1)[0] == 3  # dot, root, scale
    assert count(optimiser.step, theta, grads)[0] == 1
    assert transfers.total == 0


def test_what_counts_as_a_launch():
    a, b = checks.device("strict", *checks.rng().standard_normal((2, 4, 4)))
    xp, (index,) = namespace(a), checks.device("strict", np.array([2, 0]))
    free = {
        "view": lambda: a[1:, ::2],
        "number": lambda: a[0, 0],
        "new axis": lambda: a[:, None],
        "reshape": lambda: a.reshape(2, 8),
        "T": lambda: a.T,
        "transpose": lambda: a.transpose(1, 0),
        "contiguous": lambda: xp.ascontiguousarray(a),
        "rows": lambda: list(a),
        "empty": lambda: (xp.empty((3, 3)), xp.empty_like(a)),
        "to host": lambda: to_host(a),
    }
    one = {
        "+": lambda: a + b,
        "1 -": lambda: 1 - a,
        "@": lambda: a @ b.T,
        "matmul": lambda: xp.matmul(a, b, out=xp.empty_like(a)),
        "sum": lambda: xp.sum(a, axis=0),
        "method": lambda: a.max(),
        "zeros": lambda: xp.zeros((3, 3)),
        "copy": lambda: a.copy(),
        "reshape with a copy": lambda: a.T.reshape(16),
        "rows by columns": lambda: xp.ascontiguousarray(a.T),
        "index": lambda: a[index],
        "set": lambda: a.__setitem__(0, 1.0),
        "in place": lambda: a.__iadd__(b),
        "in place, by its own": lambda: xp.multiply(a, b, out=a),
    }
    two = {
        "matmul of a strided matrix": lambda: a[:, :2] @ b[:2],
        "a row to an overlapping one": lambda: xp.multiply(a[:3], 2, out=a[1:]),
        "in place, by a part of it": lambda: a.__iadd__(a[0]),
    }
    counted = {name: count(call)[0] for calls in (free, one, two) for name, call in calls.items()}
    assert counted == {name: n for n, calls in enumerate((free, one, two)) for name in calls}


@pytest.mark.parametrize("name", KERNELS)
def test_a_fused_function_is_one_launch_on_strict_and_writes_what_numpy_does(name):
    kernel = KERNELS[name]
    arrays = arguments(kernel, ordinary, "float64")
    if not given(kernel):
        arrays = arrays[: len(kernel.inputs)]
    twin = [np.copy(a) if isinstance(a, np.ndarray) else a for a in arrays]
    on_device = [checks.device("strict", a)[0] if isinstance(a, np.ndarray) else a for a in arrays]
    expected = kernel.twin(*twin)
    n, found = count(kernels.launch, kernel, get_backend("strict"), on_device, {})
    assert n == 1
    for a, e in zip(on_device, twin):
        assert not isinstance(a, StrictArray) or np.array_equal(to_host(a), e)
    if not given(kernel):
        found, expected = (v if isinstance(v, tuple) else (v,) for v in (found, expected))
        assert all(np.array_equal(to_host(a), e) for a, e in zip(found, expected, strict=True))


def test_a_fused_function_refuses_what_cupy_refuses():
    add = linear.add_to
    a, b, total = checks.device("strict", *np.ones((3, 4)))
    with pytest.raises(TypeError, match="host array"):
        add(a, np.ones(4), None, total)
    with pytest.raises(TypeError):
        add(a, b, None, np.ones(4))
    with pytest.raises(TypeError, match="Type is mismatched in add_to: T is float32 and float64"):
        add(a, b.astype("float32"), None, total)
    add(a, b, None, total)
    assert to_host(total).tolist() == [3] * 4


def test_names_with_blocks():
    assert kernels.named("a[r u n] h ru[r u]") == (("a_r", "a_u", "a_n"), ("h",), ("ru_r", "ru_u"))


@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_products_side_by_side_are_the_products(backend):
    x, W, U = checks.device(backend, *(checks.rng().standard_normal(s) for s in ((4, 3), (3, 5), (3, 2))))
    for call in (linear.side_by_side(W, U), linear.products_with(W, U)):
        n, found = count(call, x)
        assert n == (backend == "strict")
        for actual, each in zip(found, linear.products(x, W, U), strict=True):
            checks.assert_close(to_host(actual), to_host(each), 1e-14)


def test_products_are_one_on_a_device_and_several_on_the_host(monkeypatch):
    x, W, U = (checks.rng().standard_normal(s) for s in ((4, 3), (3, 5), (3, 2)))
    matmul, widths = linear.matmul, []
    monkeypatch.setattr(linear, "matmul", lambda x, W: widths.append(W.shape[1]) or matmul(x, W))
    linear.products_with(W, U)(x)
    assert widths == [5, 2]
    monkeypatch.setattr(linear, "backend_of", lambda a: SimpleNamespace(name="cupy"))
    linear.products_with(W, U)(x)
    assert widths == [5, 2, 7]
