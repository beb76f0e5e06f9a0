"""Training: the optimiser against its formula, the loop's records, several workers against one, the best weights."""

import gc
import json
import math
import re
import warnings
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import checks
import numpy as np
import pytest
from threadpoolctl import threadpool_info

import tinyvrnn as tv
from runs import small_data, small_model
from tinyvrnn.arrays import backend as seam
from tinyvrnn.arrays import strict
from tinyvrnn.arrays.backend import get_backend, to_host
from tinyvrnn.arrays.cpu import one_blas_thread
from tinyvrnn.arrays.params import views
from tinyvrnn.bounds import evaluate, evaluate_elbo
from tinyvrnn.data import batches, pad, sequences
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.models.batch import Batch, BoundTerms, Gradient, Objective
from tinyvrnn.training import loop, optim, parallel
from tinyvrnn.training.loop import _Clock
from tinyvrnn.training.optim import Adam, clip_by_global_norm
from tinyvrnn.training.options import Options
from tinyvrnn.training.options import make_options as options_of
from tinyvrnn.training.parallel import Workers, cut
from tinyvrnn.training.state import State


@pytest.fixture(scope="module")
def digits8():
    return tv.load_data("digits8")


def small(data, **options):
    likelihood = "bernoulli" if data.kind == "binary" else "gaussian"
    return tv.VRNN(data.x_dim, h_dim=24, z_dim=4, likelihood=likelihood, **options)


def clock_at_the_start(data, **options):
    model = small(data)
    return _Clock(Options(**options), data, State(model, Adam(model.theta)))


def test_adam_follows_its_formula():
    rng = np.random.default_rng(0)
    theta, m, v = rng.standard_normal(5), np.zeros(5), np.zeros(5)
    optimiser, stepped = Adam(theta, lr=0.1), theta.copy()
    for k in range(1, 6):
        g = rng.standard_normal(5)
        optimiser.step(stepped, g)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        theta = theta - 0.1 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
    np.testing.assert_allclose(stepped, theta, rtol=1e-12)


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("decayed", [False, True])
def test_adam_with_other_constants_over_several_blocks_follows_its_formula(decayed, backend, monkeypatch):
    monkeypatch.setattr(optim, "BLOCK", 3)  # 8 parameters: blocks of 3, 3 and 2
    asarray = get_backend(backend).asarray
    rng = np.random.default_rng(1)
    theta, m, v, decay = rng.standard_normal(8), np.zeros(8), np.zeros(8), np.array([0, 0.5] * 4)
    stepped = asarray(theta.copy())
    optimiser = Adam(stepped, 0.2, b1=0.7, b2=0.8, eps=0.3, decay=asarray(decay) if decayed else None)
    for k, lr in enumerate((None, 0.05, 0.0, 3.0, None), start=1):
        g = 3 * rng.standard_normal(8)
        optimiser.step(stepped, asarray(g), lr)
        lr = 0.2 if lr is None else lr
        m, v = 0.7 * m + 0.3 * g, 0.8 * v + 0.2 * g**2
        theta = theta * (1 - lr * decay * decayed) - lr * (m / (1 - 0.7**k)) / (np.sqrt(v / (1 - 0.8**k)) + 0.3)
    np.testing.assert_allclose(to_host(stepped), theta, rtol=1e-12)
    assert optimiser.k == 5


def test_adam_begins_with_the_constants_of_its_paper():
    optimiser = Adam(np.ones(3))
    assert (optimiser.lr, optimiser.b1, optimiser.b2, optimiser.eps, optimiser.k) == (1e-3, 0.9, 0.999, 1e-8, 0)
    assert optimiser.decay is None and optimiser.m.tolist() == optimiser.v.tolist() == [0, 0, 0]


@checks.on_device
def test_blocks_of_adam_fit_a_cache_on_a_host_and_are_one_on_a_device():
    theta = np.zeros(2 * optim.BLOCK + 1)
    covered = [range(*s.indices(len(theta))) for s in Adam(theta).blocks]
    assert [len(block) for block in covered] == [optim.BLOCK, optim.BLOCK, 1] and covered[1].start == optim.BLOCK
    assert 1 <= 4 * optim.BLOCK / 2**20 * 4 <= 4  # four float32 vectors of a block in 1 to 4 MiB
    device = get_backend(checks.DEVICE).asarray(theta)
    assert [s.indices(len(theta)) for s in Adam(device).blocks] == [(0, len(theta), 1)]


def test_clipping_leaves_a_gradient_of_zeros_and_one_of_exactly_the_norm():
    g = np.zeros(3)
    assert clip_by_global_norm(g, 1.0) == 0 and g.tolist() == [0, 0, 0]
    g = np.array([3e8, -4e8])
    assert clip_by_global_norm(g, 5e8) == 5e8 and g.tolist() == [3e8, -4e8]
    g = np.array([3e-13, -4e-13])  # a norm below the 1e-12 that prevents 0 / 0
    clip_by_global_norm(g, 1.0)
    assert g.tolist() == [3e-13, -4e-13]
    g = np.array([3e-9, -4e-9])
    clip_by_global_norm(g, 5e-12)
    np.testing.assert_allclose(g, [3e-12, -4e-12], rtol=1e-3)


@checks.on_device
def test_the_norm_of_what_has_no_square_and_of_what_is_no_number():
    for scale in (1.0, 1e-15, 1e30):
        norm = optim.global_norm(np.array([3, 0, -4], "float32") * np.float32(scale))
        assert norm.dtype == "float32" and norm == pytest.approx(5 * scale, rel=1e-6)
    for wrong in (np.inf, -np.inf, np.nan):
        assert not np.isfinite(optim.global_norm(np.array([1.0, wrong, 2.0], "float32")))
    device = get_backend(checks.DEVICE).asarray(np.array([3, -4], "float32"))
    assert type(optim.global_norm(device)) is type(device) and to_host(optim.global_norm(device)) == 5


@pytest.mark.parametrize("size, limit", [(3.0, 1.0), (0.5, 1.0)])
def test_clipping_limits_the_norm_and_keeps_the_direction(size, limit):
    g = np.array([0.6, -0.8]) * size
    norm = clip_by_global_norm(g, limit)
    assert norm == pytest.approx(size)
    np.testing.assert_allclose(g, np.array([0.6, -0.8]) * min(size, limit), rtol=1e-9)


@pytest.mark.parametrize(
    "name, call", [("theta", tv.Adam), ("grads", lambda grads: tv.clip_by_global_norm(grads, 1.0))]
)
@pytest.mark.parametrize(
    "bad, got",
    [
        (np.ones((2, 2)), "float64 (2, 2)"),
        (np.ones(2, int), "int64 (2,)"),
        ([1.0, 2.0], "list"),
        (None, "NoneType"),
        (np.broadcast_to(1.0, 3), "a read-only one"),
    ],
    ids=str,
)
def test_adam_and_clipping_say_what_they_got(name, call, bad, got):
    with pytest.raises(tv.DataError) as error:
        call(bad)
    assert str(error.value) == f"{name} must be a vector of floating-point numbers that can be changed, got {got}."


def test_each_step_is_clipped_before_the_optimiser(digits8):
    """With a clip far below every gradient, m after one step is 0.1 of a vector of exactly that norm."""
    seen = []

    class Spy(Adam):
        def step(self, theta, grads, lr=None):
            seen.append(float(np.sqrt((grads**2).sum())))
            super().step(theta, grads, lr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinyvrnn.training.loop.Adam", Spy)
        tv.train(small(digits8), digits8, epochs=1, clip=0.01, progress=False)
    np.testing.assert_allclose(seen, 0.01, rtol=1e-4)


def test_warm_up_rises_linearly_to_one_and_stays(digits8):
    clock = clock_at_the_start(digits8, epochs=10, batch=100, warmup=2)  # 15 steps an epoch
    betas = []
    for clock.state.step in range(40):
        betas.append(clock.beta())
    np.testing.assert_allclose(betas[:30], np.arange(1, 31) / 30)
    assert betas[30:] == [1.0] * 10
    assert clock_at_the_start(digits8, epochs=1).beta() == 1.0


def test_cycles_of_warm_up_rise_and_stay_equally_long_and_the_last_stays(digits8):
    """1,437 sequences in batches of 500 are three steps an epoch: six steps of rise, six at beta, twice."""
    clock, betas = clock_at_the_start(digits8, epochs=99, batch=500, warmup=2, warmup_cycles=2, beta=0.6), []
    for clock.state.step in range(50):
        betas.append(clock.beta())
    cycle = [0.1, 0.2, 0.3, 0.4, 0.5, *[0.6] * 7]
    np.testing.assert_allclose(betas, [*cycle, *cycle, *[0.6] * 26])
    assert clock_at_the_start(digits8, epochs=1, beta=0.6).beta() == 0.6


def test_a_run_is_over_by_steps_or_by_minutes_whichever_comes_first(digits8, monkeypatch):
    """1,437 sequences in batches of 500 are three steps an epoch; 20 seconds were trained before."""
    now = [1000.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    for options, at_once, later in (
        ({"epochs": 2, "minutes": None}, 1 / 6, 1 / 6),
        ({"epochs": None, "minutes": 1.0}, 1 / 3, 50 / 60),
        ({"epochs": 2, "minutes": 1.0}, 1 / 3, 50 / 60),
        ({"epochs": 2, "minutes": 60.0}, 1 / 6, 1 / 6),
    ):
        now[0] = 1000.0
        model = small(digits8)
        state = State(model, Adam(model.theta))
        state.seconds, state.step = 20.0, 1
        clock = _Clock(Options(batch=500, **options), digits8, state)
        assert clock.progress() == pytest.approx(at_once) and clock.seconds == 20.0
        now[0] = 1030.0
        assert clock.progress() == pytest.approx(later) and not clock.over() and clock.seconds == 50.0
        assert clock.lr() == pytest.approx(0.001 * (1 + math.cos(math.pi * later)))
        state.step, now[0] = 6, 1040.0
        assert clock.progress() == pytest.approx(1.0 if options["epochs"] or options["minutes"] == 1.0 else 0.0)
        assert clock.over()
        state.step, now[0] = 99, 99999.0
        assert clock.progress() == 1.0


def test_the_rate_falls_along_half_a_cosine(digits8):
    steps, rates = (0, 359, 718, 1437), []
    clock = clock_at_the_start(digits8, epochs=1, batch=1, lr=0.4)
    for clock.state.step in steps:
        rates.append(clock.lr())
    expected = [0.2 * (1 + math.cos(math.pi * step / 1437)) for step in steps]
    np.testing.assert_allclose(rates, expected, atol=1e-12)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"lr_schedule": "constant"}, [0.4] * 5),
        ({"lr_schedule": "step", "lr_every": 2}, [0.4, 0.4, 0.04, 0.04, 0.004]),
        ({"lr_schedule": "step", "lr_every": 1, "lr_factor": 0.5}, [0.4, 0.2, 0.1, 0.05, 0.025]),
        ({"lr_schedule": "step", "lr_every": 1, "lr_factor": 1}, [0.4] * 5),
    ],
    ids=str,
)
def test_a_rate_that_is_constant_or_falls_in_steps(options, expected):
    records = tv.train(small_model(), small_data("gaussian"), progress=False, epochs=5, batch=8, lr=0.4, **options)
    assert [record["lr"] for record in records] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("backend", ["numpy", checks.DEVICE])
@pytest.mark.parametrize(
    "name, freeze", [("vrnn", "prior, recur"), ("vrnn-i", "phi_z"), ("rnn", "recur"), ("vae", "encode")]
)
def test_frozen_groups_stay_and_only_the_others_have_a_gradient(name, freeze, backend, monkeypatch):
    """Neither Adam nor decay moves them; a gradient in them, even NaN, changes neither norm nor other groups."""
    frozen, own = freeze.split(", "), Workers.gradient

    def spoilt(*arguments):
        result = own(*arguments)
        next(iter(views(result.grads, model.shapes)[frozen[0]].values()))[...] = np.nan
        return result

    thetas = []
    for spoil in (False, True):
        model = small_model(name, backend=backend)
        before = {group: {leaf: to_host(a).copy() for leaf, a in own.items()} for group, own in model.params.items()}
        if spoil:
            monkeypatch.setattr(Workers, "gradient", spoilt)
        tv.train(
            model,
            small_data("gaussian"),
            False,
            epochs=1,
            batch=8,
            clip=0.1,
            weight_decay=0.5,
            workers=1,
            freeze=freeze,
        )
        thetas.append(to_host(model.theta).copy())
        for group, leaves_before in before.items():
            same = [(to_host(model.params[group][leaf]) == a).all() for leaf, a in leaves_before.items()]
            assert all(same) if group in frozen else not any(same), group
    assert (thetas[0] == thetas[1]).all()


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_workers_add_up_to_one(count, dtype, tolerance):
    data = tv.load_data("vowels")
    model = small(data, dtype=dtype)
    x, lengths = pad(data.train[:13], dtype)
    eps = np.random.default_rng(0).standard_normal((*x.shape[:2], 4)).astype(dtype)
    loss, grads, parts = model.loss_and_grads(x, lengths, eps, beta=0.5)
    with Workers(count) as workers:
        many, again = (workers.gradient(model, Batch(x, lengths, eps), Objective(beta=0.5)) for _ in range(2))
    np.testing.assert_allclose(many[0], loss, rtol=tolerance)
    np.testing.assert_allclose(many[1], grads, atol=tolerance * np.abs(grads).max())
    for together, alone in zip(many.terms, parts):
        np.testing.assert_allclose(together, alone, rtol=10 * tolerance)
    assert (many[1] == again[1]).all(), "the same number of workers must give the same bits"


def test_more_workers_than_sequences_is_no_harm():
    assert cut(2, 5) == [slice(0, 1), slice(1, 2)]
    assert [s.stop - s.start for s in cut(11, 3)] == [4, 3, 4]


@pytest.mark.parametrize("count, parts", [(1, 1), (7, 1), (7, 2), (7, 3), (128, 5), (3, 8)])
def test_cuts_follow_each_other_and_cover_all(count, parts):
    slices = cut(count, parts)
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(count))
    assert len(slices) == min(count, parts) and all(type(bound) is int for s in slices for bound in (s.start, s.stop))
    sizes = [s.stop - s.start for s in slices]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    "batch, workers, h_dim, backend, expected",
    [
        (128, "auto", 8, "numpy", (3, 1)),
        (95, "auto", 8, "numpy", (2, 1)),
        (31, "auto", 8, "numpy", (1, 1)),
        (1, "auto", 8, "numpy", (1, 1)),
        (128, "auto", 400, "numpy", (1, 3)),
        (128, 2, 400, "numpy", (2, 1)),
        (31, 5, 8, "numpy", (5, 1)),
        (31, 5000, 8, "numpy", (31, 1)),
        (128, "auto", 8, "strict", (1, 1)),
        (128, 4, 8, "strict", (1, 1)),
    ],
)
def test_a_batch_is_split_by_cores_rows_and_size_unless_told(monkeypatch, batch, workers, h_dim, backend, expected):
    monkeypatch.setattr(parallel, "available_cores", lambda: 3)
    model = tv.VRNN(4, h_dim, 4, backend=backend)
    assert parallel.split_for(model, batch, workers) == expected
    if workers == "auto" and backend == "numpy":
        monkeypatch.setattr(parallel, "LARGE", model.theta.size)
        assert parallel.split_for(model, batch, workers) == (1, 3)


@pytest.mark.parametrize("cores, processes", [(1, 0), (2, 1), (3, 2), (64, 2)])
def test_as_many_workers_as_slices_but_no_more_than_cores(monkeypatch, cores, processes):
    monkeypatch.setattr(parallel, "available_cores", lambda: cores)
    monkeypatch.setattr(parallel.worker, "hire", lambda: SimpleNamespace(ended=True, rest=lambda: None))
    with Workers(1) as alone, Workers(3) as workers:
        assert alone._others == [] and len(workers._others) == processes  # the caller is one of them
        assert alone.split == (1, 1) and workers.split == (3, 1)
    assert workers._others == []


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_has_the_threads_of_the_split_and_then_those_of_before(threads):
    blas = [info for info in threadpool_info() if info["user_api"] == "blas"]
    seen = []

    class Watched(Recorder):
        def gradient(self, *arguments, **options):
            with one_blas_thread():  # as a model does
                seen.extend(info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas")
            return super().gradient(*arguments, **options)

    with Workers(parallel.Split(1, threads)) as workers:
        workers.gradient(Watched(), Batch(np.ones((3, 2, 1)), np.array([3, 3]), np.ones((3, 2, 1))), Objective())
    assert seen == [threads] * len(blas)
    assert [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"] == [
        info["num_threads"] for info in blas
    ]


class Recorder:
    """A stub model: returns its arguments, with numbers that identify the slices."""

    def __init__(self):
        self.calls = []

    def gradient(self, batch, objective):
        self.calls.append((batch, objective, np.geterr()))
        B, state = batch.x.shape[1], None if batch.state is None else batch.state + 1
        return Gradient(float(B), np.full(2, float(B)), BoundTerms(*np.arange(3.0 * B).reshape(3, B)), state)


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_each_worker_is_given_its_own_columns_cut_to_their_longest(count, with_state):
    draw = np.random.default_rng(0)
    x, eps, uniforms, state = (draw.random(shape) for shape in ((9, 5, 2), (9, 5, 4), (9, 5), (5, 3)))
    lengths, keep = np.array([2, 4, 9, 1, 3]), draw.random((9, 5, 6))
    model, objective = Recorder(), Objective("iwae", 1, 0.3)
    given = Batch(x, lengths, eps, uniforms, keep, state=state if with_state else None)
    with Workers(count) as workers:
        results = workers.gradient(model, given, objective)
    calls = sorted(model.calls, key=lambda call: np.flatnonzero(lengths == call[0].lengths[0])[0])
    slices = cut(5, count)
    assert len(calls) == len(slices)
    for s, (own, own_objective, errors) in zip(slices, calls):
        T = max(lengths[s])
        assert np.array_equal(own.x, x[:T, s]) and np.array_equal(own.eps, eps[:T, s])
        assert own.x.flags["C_CONTIGUOUS"] and own.eps.flags["C_CONTIGUOUS"]
        assert own.lengths.tolist() == lengths[s].tolist() and own_objective == objective
        assert np.array_equal(own.input_mask, keep[:T, s]) and np.array_equal(own.uniforms, uniforms[:T, s])
        assert np.array_equal(own.state, state[s]) if with_state else own.state is None
        assert errors["over"] == errors["invalid"] == "ignore" and errors["divide"] == "warn"
    sizes = [s.stop - s.start for s in slices]
    mean = sum(size * size for size in sizes) / 5
    assert results[0] == pytest.approx(mean) and results[1] == pytest.approx([mean, mean])
    joined = [np.concatenate([np.arange(3.0 * size).reshape(3, size)[i] for size in sizes]) for i in range(3)]
    assert [part.tolist() for part in results[2]] == [part.tolist() for part in joined]
    assert np.array_equal(results.state, state + 1) if with_state else results.state is None


def test_the_model_keeps_the_best_weights_as_a_copy(digits8):
    """A learning rate that ruins the model in later epochs: the best epoch's weights are restored, not the last."""
    model, kept = small(digits8), {}

    def on_epoch(record, is_best):
        if is_best:
            kept["elbo"] = record["valid"]["elbo"]
        model.theta[:] += 0 if record["epoch"] < 3 else 0.5

    records = tv.train(model, digits8, epochs=6, progress=False, on_epoch=on_epoch)
    assert max(r["valid"]["elbo"] for r in records) == kept["elbo"] > records[-1]["valid"]["elbo"]
    assert evaluate_elbo(model, digits8.valid).elbo_per_sequence == pytest.approx(kept["elbo"], abs=1e-9)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "options, epochs",
    [
        ({"epochs": 50}, 5 + 3),
        ({"epochs": 7}, 7),
        ({"minutes": 60}, 5 + 3),
        ({"lr_schedule": "constant", "epochs": 50}, 5),
        ({"lr_schedule": "step", "lr_every": 9, "epochs": 50}, 5),
    ],
    ids=str,
)
def test_when_validation_no_longer_improves_the_rest_of_the_cosine_takes_patience_epochs(digits8, options, epochs):
    """The weights are ruined in epoch 2, so patience 3 runs out after epoch 5; 15 steps an epoch."""
    model = small(digits8)

    def ruin(record, is_best):
        model.theta[:] += 0.5 if record["epoch"] == 2 else 0

    options = {"patience": 3, "lr": 1e-9, "batch": 100} | options
    records = tv.train(model, digits8, progress=False, on_epoch=ruin, **options)
    assert len(records) == epochs
    if options.get("epochs") == 50 and epochs == 8:
        done = [*(step / 750 for step in (14, 29, 44, 59, 74)), *(1 - 0.9 * left / 45 for left in (31, 16, 1))]
        expected = [5e-10 * (1 + math.cos(math.pi * p)) for p in done]
        np.testing.assert_allclose([record["lr"] for record in records], expected, rtol=1e-6)


def test_a_better_bound_in_the_fall_neither_ends_nor_prolongs_it(digits8):
    clock = clock_at_the_start(digits8, epochs=100, batch=1437, patience=4)
    clock.state.step, clock.state.stale = 10, 4
    clock.fall_if_stale()
    clock.state.step, clock.state.stale = 12, 0
    assert clock.progress() == pytest.approx(0.55) and not clock.over()
    clock.state.step, clock.state.stale = 13, 9
    clock.fall_if_stale()
    assert clock.progress() == pytest.approx(0.775) and not clock.over()
    clock.state.step = 14
    assert clock.progress() == 1.0 and clock.over()


def test_training_for_minutes_ends_in_time(digits8):
    records = tv.train(small(digits8), digits8, minutes=0.02, progress=False)
    assert 1.2 <= records[-1]["seconds"] < 4


def test_same_seed_same_bits_and_another_seed_another_run(digits8):
    def theta(seed):
        model = small(digits8)
        tv.train(model, digits8, epochs=2, seed=seed, workers=2, progress=False)
        return model.theta

    assert (theta(1) == theta(1)).all()
    assert not (theta(1) == theta(2)).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunk": 3, "dropout": 0.2},
        {"bound": "fivo", "particles": 2, "dropout": 0.2},
        {"bound": "iwae", "particles": 2},
        {"recompute": True},
    ],
    ids=str,
)
@checks.on_device
def test_training_on_a_device_gives_what_numpy_gives(options, digits8):
    few = tv.Data.from_sequences("few", digits8.train[:40], digits8.valid[:10], digits8.test[:10])
    thetas = []
    for backend in checks.BACKENDS:
        model = small(few, backend=backend, dtype="float64")
        tv.train(model, few, epochs=2, batch=16, workers=1, progress=False, **options)
        thetas.append(model.theta)
    checks.assert_as_on_numpy(thetas[1], thetas[0])


def test_a_training_step_stays_on_the_device(digits8):
    """Each step transfers x to the device and the loss, a scalar, back; the rest is fetched once an epoch."""
    few = tv.Data.from_sequences("few", digits8.train[:64], digits8.valid[:2], digits8.test[:2])
    counted = []
    for epochs in (1, 2):
        model = small(few, backend="strict")
        tv.backend.transfers.reset()
        tv.train(model, few, epochs=epochs, batch=8, patience=99, progress=False)
        counted.append(tv.backend.transfers.total)
    evaluation, per_epoch = 4, 2  # the evaluation's x and three terms; the totals and the norm
    assert counted[1] - counted[0] == 2 * 8 + evaluation + per_epoch


def mapped(data):
    """The same Data with sequences as `load_data` maps them from a file."""
    splits = ("train", "valid", "test")
    return replace(data, **{s: Mapped.of_rows(data.split(s).values, data.split(s).lengths, s) for s in splits})


RESIDENT = [
    {},
    {"chunk": 2, "dropout": 0.2},
    {"bound": "fivo", "particles": 2, "dropout": 0.2},
    {"bound": "iwae", "particles": 2},
    {"recompute": True, "weight_decay": 0.1},
]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("as_given", [lambda data: data, mapped], ids=["in memory", "mapped"])
@pytest.mark.parametrize("options", RESIDENT, ids=str)
def test_data_that_stay_on_the_device_give_the_same_bits(options, as_given, monkeypatch):
    """The shortest sequence is the last, so that its padding lies beyond the values; they are loaded in parts."""
    monkeypatch.setattr(sequences, "NUMBERS_AT_ONCE", 20)
    data, found = small_data("gaussian"), []
    longest_first = {s: data.split(s)[np.argsort(-data.split(s).lengths)] for s in ("train", "valid")}
    data = as_given(replace(data, **longest_first))
    for wanted in ("yes", "no"):
        model = small_model(backend=checks.DEVICE)
        records = tv.train(model, data, epochs=2, batch=5, device_data=wanted, progress=False, **options)
        found.append((to_host(model.theta).tobytes(), [record | {"seconds": 0} for record in records]))
    assert found[0] == found[1]


@pytest.fixture
def sent(monkeypatch):
    """The shape and the kind of each array that goes to the device."""
    arrays, own = [], seam._STRICT.asarray

    def asarray(array, dtype=None):
        if not isinstance(array, strict.StrictArray):
            arrays.append((np.shape(array), np.asarray(array).dtype.kind))
        return own(array, dtype)

    monkeypatch.setattr(seam, "_STRICT", seam._STRICT._replace(asarray=asarray))
    return arrays


@pytest.mark.parametrize("options, most", [({}, 2), ({"chunk": 2}, 12), ({"bound": "fivo", "particles": 2}, 2)])
def test_a_step_on_data_that_stay_on_the_device_sends_row_numbers_and_lengths(sent, options, most):
    """Two arrays; the second and third chunk also send which sequences continue, for x, eps and the state."""
    data, counts = small_data("gaussian"), []
    model = small_model(backend="strict")
    for epochs in (1, 2):
        sent.clear()
        tv.train(model, data, epochs=epochs, batch=22, progress=False, **options)
        whole = [shape for shape, kind in sent if kind == "f"]
        assert whole == [(data.train.steps, 3), (data.valid.steps, 3)], "values cross once"
        counts.append([shape for shape, kind in sent if kind != "f" and max(shape, default=0) > 5])
    assert len(counts[1]) - len(counts[0]) <= most and set(counts[1]) <= {(n,) for n in range(6, 23)}


def test_data_stay_on_the_device_where_a_quarter_of_its_memory_holds_them(monkeypatch):
    data, model = small_data("gaussian"), small_model(backend="strict")
    size = 4 * 3 * (data.train.steps + data.valid.steps)
    for free, fits in ((4 * size, True), (4 * size - 1, False)):
        monkeypatch.setattr(seam, "STRICT_FREE", free)
        assert [loop.keeps_on_device(model, data, wanted) for wanted in ("auto", "yes", "no")] == [fits, True, False]
        assert not loop.keeps_on_device(small_model(dtype="float64", backend="strict"), data, "auto")
    assert not any(loop.keeps_on_device(small_model(), data, wanted) for wanted in ("auto", "yes", "no"))


def test_data_that_stay_on_the_device_are_checked_before():
    data = small_data("gaussian")
    data.valid.values[3, 1] = 2e12
    with pytest.raises(tv.DataError, match=r"x reaches from .* to 2e\+12, beyond 1e\+12"):
        tv.train(small_model(backend="strict"), data, epochs=1, progress=False)


def test_a_loss_that_is_not_finite_is_located_in_data_that_stay_on_the_device():
    said = []
    for wanted in ("yes", "no"):
        model = small_model(backend="strict")
        model.params["infer"]["W_out"][...] = 1e30
        with pytest.raises(tv.DivergedError) as error:
            tv.train(model, small_data("gaussian"), epochs=1, device_data=wanted, progress=False)
        said.append(str(error.value))
    assert said[0] == said[1] and "of the training split" in said[0]


def arrays_on_the_device():
    """By id, without views."""
    gc.collect()
    arrays = [a._host for a in gc.get_objects() if type(a) is strict.StrictArray]
    return {id(a): a for a in arrays if a.base is None}


def record_new_arrays(monkeypatch):
    """Of each return of memory, the shapes of the arrays that are not there now (those of other tests may go)."""
    now, found = arrays_on_the_device(), []

    def record(_):
        found.append([a.shape for i, a in arrays_on_the_device().items() if i not in now])

    monkeypatch.setattr(seam, "free_pools", record)
    return found


def interrupt(record, is_best):
    raise KeyboardInterrupt


@pytest.mark.parametrize("on_epoch", [None, interrupt], ids=["whole", "interrupted"])
def test_a_training_gives_its_memory_back_once_and_keeps_theta_alone(on_epoch, monkeypatch):
    data, model = small_data("gaussian"), small_model(backend="strict")
    found = record_new_arrays(monkeypatch)
    with suppress(KeyboardInterrupt) if on_epoch is None else pytest.raises(KeyboardInterrupt):
        tv.train(model, data, epochs=3, batch=8, weight_decay=0.1, progress=False, on_epoch=on_epoch)
    assert found == [[]]


def test_a_training_that_diverges_gives_its_memory_back(monkeypatch):
    data, model = small_data("gaussian"), small_model(backend="strict")
    model.theta[...] = np.nan
    found = record_new_arrays(monkeypatch)
    with pytest.raises(tv.DivergedError):
        tv.train(model, data, epochs=3, progress=False)
    assert found == [[]]


@pytest.mark.parametrize("score", [evaluate_elbo, evaluate])
def test_an_evaluation_gives_its_memory_back(score, monkeypatch):
    data, model = small_data("gaussian"), small_model(backend="strict")
    found = record_new_arrays(monkeypatch)
    score(model, data.test, batch_size=2)
    assert found == [[]]


@pytest.mark.slow
def test_training_in_float64_on_a_slow_device_is_warned_about_and_goes_on(monkeypatch):
    device = SimpleNamespace(attributes={"SingleToDoublePrecisionPerfRatio": 64})
    monkeypatch.setattr(strict.strict_namespace, "cuda", SimpleNamespace(Device=lambda: device), raising=False)
    data = small_data("gaussian")
    with pytest.warns(UserWarning, match="float64 takes up to 64 times as long as float32 on this GPU") as warned:
        records = tv.train(small_model(backend="strict", dtype="float64"), data, epochs=1, progress=False)
    assert len(records) == len(warned) == 1 and warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tv.train(small_model(backend="strict"), data, epochs=1, progress=False)
        assert gradcheck_of("strict")


def gradcheck_of(name):
    model, *given = checks.small(backend=name, T=2, B=1)
    return tv.gradcheck.check_model(model, *given)


def test_an_evaluation_divides_by_real_steps(digits8):
    vowels = tv.load_data("vowels")
    model = small(vowels)
    result = evaluate_elbo(model, vowels.test, batch_size=32)
    assert result.sequences == 370 and result.steps == vowels.test.lengths.sum()
    assert result.elbo_per_step * result.steps == pytest.approx(result.elbo_per_sequence * 370)
    assert result.elbo_per_sequence == pytest.approx(result.log_likelihood_per_sequence - result.kl_per_sequence)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(digits8):
    model = small(digits8)
    model.theta[:] = np.nan
    says = r"not finite at step 0 \(epoch 1\): the weights phi_x.W1 already contain it; try a smaller learning rate"
    with pytest.raises(tv.DivergedError, match=says):
        tv.train(model, digits8, epochs=1, progress=False)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"device_data": True}, 'Unknown device_data "True": known are yes, no, auto'),
        ({"epochs": 1, "lr": -1.0}, "lr must be a positive number, got -1.0"),
        ({"epochs": 1, "lr": 0}, "lr must be a positive number"),
        ({"epochs": 1, "clip": float("nan")}, "clip must be a positive number"),
        ({"epochs": 1, "clip": math.inf}, "clip must be a positive number"),
        ({"minutes": 0.0}, "minutes must be a positive number"),
        ({"minutes": math.inf}, "minutes must be a positive number"),
        ({"epochs": 1, "batch": 2.5}, "batch must be a whole number"),
        ({"epochs": 1, "batch": 0}, "batch must be a whole number of at least 1, got 0"),
        ({"epochs": 1, "patience": 0}, "patience must be a whole number of at least 1, got 0"),
        ({"epochs": 1, "chunk": 0}, "chunk must be a whole number of at least 1, got 0"),
        ({"epochs": 1, "warmup_cycles": 0}, "warmup_cycles must be a whole number of at least 1, got 0"),
        ({"epochs": 1, "beta": -1}, "beta must be a number of at least 0, got -1"),
        ({"epochs": 1, "free_bits": math.nan}, "free_bits must be a number of at least 0, got nan"),
        ({"epochs": 1, "warmup": -1}, "warmup must be a whole number of at least 0, got -1"),
        ({"epochs": 1, "skip_nonfinite": -1}, "skip_nonfinite must be a whole number of at least 0, got -1"),
        ({"epochs": 1, "workers": 0}, "workers must be"),
        ({"epochs": 1, "workers": "all"}, "workers must be"),
        ({"epochs": 1, "weight_decay": math.inf}, "weight_decay must be"),
        ({"lr_schedule": "linear"}, 'Unknown lr_schedule "linear": known are cosine, constant, step'),
        ({"lr_schedule": "step"}, "lr_schedule step needs lr_every, the epochs"),
        ({"lr_schedule": "step", "lr_every": 0}, "lr_every must be a whole number of at least 1, got 0"),
        ({"lr_schedule": "step", "lr_every": 1, "lr_factor": 1.1}, "lr_factor must be a number above 0 and up to 1"),
        ({"lr_schedule": "step", "lr_every": 1, "lr_factor": 0}, "lr_factor must be a number above 0 and up to 1"),
        ({"lr_schedule": "constant", "lr_every": 1}, "lr_every and lr_factor are for lr_schedule step, not"),
        ({"lr_factor": 0.5}, "lr_every and lr_factor are for lr_schedule step, not"),
        ({"recompute": "no"}, "recompute must be True or False, got 'no'"),
        ({"freeze": 1}, 'freeze must be names of groups, "prior,phi_z", got 1'),
        ({"freeze": [*tv.VRNN(1, 1, 1).params]}, "freeze names every group of this vrnn, so nothing is trained"),
        ({"lr": True}, "lr must be a positive number, got True"),
        ({"freeze": "prior,priors"}, 'freeze names "priors", but the groups of this vrnn are phi_x, phi_z, prior, '),
        ({"freeze": ""}, 'freeze names "", but the groups of this vrnn are'),
        ({"epochs": None, "minutes": None}, "give epochs or minutes"),
        ({"epochs": None}, "give epochs or minutes"),
        ({"epohcs": 1}, 'Unknown training option "epohcs": did you mean "epochs"'),
        ({"seeed": 1, "epohcs": 1}, 'Unknown training option "epohcs"'),
    ],
)
def test_options_that_make_no_run_are_refused(digits8, options, match):
    model = small(digits8)
    before = model.theta.copy()
    with pytest.raises(tv.ConfigError, match=match):
        tv.train(model, digits8, progress=False, **options)
    assert (model.theta == before).all()


def test_options_at_their_limits_are_options():
    ones = dict.fromkeys(("epochs", "batch", "patience", "chunk", "workers", "warmup_cycles"), 1)
    zeros = dict.fromkeys(("warmup", "beta", "free_bits", "skip_nonfinite", "dropout", "weight_decay"), 0)
    least = dict.fromkeys(("minutes", "lr", "clip"), 1e-9)
    assert options_of(ones | zeros | least) == Options(**ones, **zeros, **least)
    assert options_of({"freeze": [], "recompute": np.True_}) == Options(epochs=20, recompute=True)


def test_a_bare_call_is_20_epochs_and_numbers_of_numpy_are_plain():
    assert options_of({}) == Options(epochs=20) and options_of({"minutes": 2}) == Options(minutes=2)
    found = options_of({"epochs": np.int64(3), "lr": np.float32(0.5), "bound": "iwae"})
    for freeze in ("b, a", ("a", "b"), ["b", "a", "b"]):  # so that a run can be resumed with any of them
        assert options_of({"freeze": freeze}).freeze == "a,b"
    assert found == Options(epochs=3, lr=0.5, bound="iwae") and {type(found.epochs), type(found.lr)} == {int, float}


def test_a_score_has_a_key_and_a_name():
    exact, bound = tv.RNN(3, 4), tv.VRNN(3, 4, 2)
    assert (Options().score, Options().score_name(bound), Options().score_name(exact)) == ("elbo", "ELBO", "log p(x)")
    assert Options(bound="iwae", particles=8).score == Options(bound="iwae", particles=8).score_name(bound) == "iwae-8"


@pytest.mark.parametrize("longest, steps", [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (101, 11)])
def test_recomputation_evaluates_the_root_of_the_length_at_once(longest, steps):
    sequences = SimpleNamespace(max_steps=longest)
    assert Options(recompute=True).chunk_to_evaluate(sequences) == steps
    assert Options(chunk=7).chunk_to_evaluate(sequences) == 7 and Options().chunk_to_evaluate(sequences) is None


@pytest.mark.parametrize(
    "model, options, says",
    [
        ("rnn", {"bound": "iwae"}, "leave bound out"),
        ("vae", {"chunk": 2}, "chunk is for a model that has a state"),
        ("vae", {"recompute": True}, "recompute is for a model that has a state"),
        ("vrnn", {"chunk": 2, "bound": "iwae"}, "chunk is for the bound elbo, got iwae"),
        ("vrnn", {"recompute": True, "bound": "iwae"}, "recompute is for the bound elbo, got iwae"),
        ("vrnn", {"free_bits": 0.1, "bound": "iwae"}, "free_bits changes the KL, and iwae has none: leave it out"),
        ("vrnn", {"free_bits": 0.1, "bound": "fivo", "particles": 3}, "free_bits changes the KL, and fivo has none"),
        (
            "rnn",
            {"free_bits": 0.1},
            "free_bits is for latent variables, and a model of kind rnn has none: leave it out",
        ),
    ],
)
def test_options_that_do_not_suit_the_model_are_refused(model, options, says):
    with pytest.raises(tv.ConfigError, match=says):
        Options(**options).check_for(small_model(model))


def test_options_are_described_by_what_is_on():
    """One line: duration, then each option; options that are off are omitted."""
    usual = "batch 64, lr 0.002, warmup 0, clip 50.0, dropout 0.0, weight_decay 0.0, patience 20, seed 0, workers auto"
    assert Options(epochs=3).describe() == f"training: 3 epochs, {usual}, bound elbo, particles 1"
    more = Options(minutes=0.5, chunk=7, recompute=True, skip_nonfinite=2, device_data="no").describe()
    on = "chunk 7, recompute True, skip_nonfinite 2, device_data no"
    found = f"training: 0.5 min, {usual}, bound elbo, particles 1, {on}"
    assert more == found


def test_what_is_no_data_is_refused(digits8):
    with pytest.raises(tv.DataError, match="Expected data from load_data or Data.from_sequences, got ndarray"):
        tv.train(small(digits8), np.ones((3, 4, 8)), epochs=1)


@pytest.mark.parametrize(
    "given, says",
    [
        ({"run": "runs/x"}, r"run must be a tv.Run, got str: give run=tv.Run\(folder\)"),
        ({"run": tv.Run}, r"run must be a tv.Run, got type: give run=tv.Run\(folder\)"),
        ({"on_epoch": 3}, r"on_epoch must be a function of \(record, is_best\), got int"),
        ({"model": tv.VRNN}, "model must be a VRNN, VRNNI, RNN or VAE, got type: make one"),
    ],
    ids=str,
)
def test_arguments_of_another_kind_are_refused(given, says, digits8):
    with pytest.raises(tv.ConfigError, match=says):
        tv.train(**{"model": small(digits8), "data": digits8, "epochs": 1} | given)


def test_data_that_do_not_fit_are_refused(digits8):
    with pytest.raises(tv.DataError, match="8 values a step, the model takes 5"):
        tv.train(tv.VRNN(5, 4, 2), digits8, epochs=1)
    vowels = tv.load_data("vowels")
    with pytest.raises(tv.DataError, match="Bernoulli likelihood needs values in"):
        tv.train(tv.VRNN(12, 4, 2), vowels, epochs=1)


def test_records_are_plain_json(digits8):
    records = tv.train(small(digits8), digits8, epochs=1, progress=False)
    assert json.loads(json.dumps(records)) == records
    assert records[0]["train"]["elbo"] == pytest.approx(
        records[0]["train"]["log_likelihood"] - records[0]["train"]["kl"], rel=1e-5
    )


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_a_record_holds_what_the_epoch_was(bound, monkeypatch):
    """With a learning rate that changes nothing: sums over three batches with the noise of their steps, and counts."""
    data, model = small_data("gaussian"), small_model()
    options = {"epochs": 2, "batch": 8, "seed": 3, "warmup": 4, "lr": 1e-30, "workers": 1}
    options |= {"bound": "iwae", "particles": 2} if bound == "iwae" else {}
    now = iter(np.arange(1000.0) / 7)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(now))
    first, second = tv.train(model, data, progress=False, **options)
    totals, step = [], 3
    for x, lengths, _ in batches(data.train, 8, seed=3, epoch=1, dtype="float32"):
        batch = loop.with_noise(model, Batch(x, lengths), Options(**options), step)
        step += 1
        _, grads, parts, _ = model.gradient(batch, Options(**options).objective(step / 12))
        totals.append([term.sum(dtype="float64") for term in parts])
    expected = dict(zip(("elbo", "kl", "log_likelihood"), np.sum(totals, axis=0) / 22))
    assert second["train"] == pytest.approx(expected, rel=1e-12)
    found = evaluate_elbo(model, data.valid)
    per_sequence = found.elbo_per_sequence, found.kl_per_sequence, found.log_likelihood_per_sequence
    score = {"iwae-2": evaluate(model, data.valid, "iwae", 2).per_sequence} if bound == "iwae" else {}
    assert second["valid"] == dict(zip(("elbo", "kl", "log_likelihood"), per_sequence)) | score
    assert (second["epoch"], second["step"], second["beta"]) == (2, 6, 0.5) and first["step"] == 3
    assert second["lr"] == pytest.approx(5e-31 * (1 + math.cos(math.pi * 5 / 6)))
    assert second["grad_norm"] == pytest.approx(np.linalg.norm(grads), rel=1e-5)
    assert second["seconds"] == round(second["seconds"], 3) > first["seconds"] > 0
    assert set(second) == {"epoch", "step", "seconds", "beta", "lr", "grad_norm", "train", "valid"}


def test_the_model_is_told_what_its_data_are():
    data = tv.Data.from_sequences("s", *([np.full((3, 3), 2.0), np.zeros((3, 3))] for _ in range(3)), standardise=True)
    data = replace(data, medium={"name": "sound", "rate": 8000, "full_scale": 1.0})
    model = small_model()
    tv.train(model, data, progress=False, epochs=1)
    assert (model.mean == data.mean).all() and (model.std == data.std).all()
    assert (model.units, model.medium) == (data.units, data.medium)


def test_after_each_epoch_the_model_is_as_it_is_then_and_in_the_end_the_best():
    """Weights that are ruined after the third epoch of six."""
    model, seen = small_model(), []

    def on_epoch(record, is_best):
        seen.append((record, is_best, model.theta.copy()))
        model.theta += 1 if record["epoch"] == 3 else 0

    records = tv.train(model, small_data("gaussian"), False, on_epoch, epochs=6, batch=8)
    bounds = [record["valid"]["elbo"] for record in records]
    assert [record for record, *_ in seen] == records
    assert [is_best for _, is_best, _ in seen] == [bounds[i] > max([-math.inf, *bounds[:i]]) for i in range(6)]
    best = int(np.argmax(bounds))
    assert best < 3 and (model.theta == seen[best][2]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_a_step_is_given_has_the_dtype_of_the_model(dtype, monkeypatch):
    seen, own = set(), Workers.gradient

    def spy(self, model, batch, objective):
        seen.update(array.dtype.name for array in (batch.x, batch.eps, batch.input_mask))
        return own(self, model, batch, objective)

    monkeypatch.setattr(Workers, "gradient", spy)
    tv.train(small_model(dtype=dtype), small_data("gaussian"), progress=False, epochs=1, dropout=0.5)
    assert seen == {dtype}


@pytest.mark.parametrize("backend, count", [("numpy", 3), (checks.DEVICE, 1)])
def test_a_batch_is_shared_out_on_a_host_and_one_on_a_device(backend, count, monkeypatch):
    seen, own = [], loop.Workers
    monkeypatch.setattr(loop, "Workers", lambda split: seen.append(split.slices) or own(split))
    tv.train(small_model(backend=backend), small_data("gaussian"), progress=False, epochs=1, workers=3)
    assert seen == [count]


def test_the_bar_ends_full_and_says_where_the_run_stands(capsys):
    records = tv.train(small_model("rnn"), small_data("gaussian"), epochs=2, batch=8)
    best = max(record["valid"]["elbo"] for record in records)
    bars = capsys.readouterr().err.split("\r")
    bar, last = bars[-1], records[-1]["valid"]["elbo"]
    assert any(bar.startswith(" 50%|") for bar in bars)
    assert re.match(r"100%\|\S*\s*\| \d\d:\d\d<\d\d:\d\d, valid log p", bar), bar  # and no count of steps beside it
    assert f"valid log p(x) {last:.2f}, best {best:.2f} nats/sequence" in bar
    tv.train(small_model("rnn"), small_data("gaussian"), epochs=1, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_short_run_on_digits_beats_the_baselines():
    """12 epochs reach about -80 nats a digit; -136 is the better of the two trivial baselines."""
    data = tv.load_data("digits")
    model = tv.VRNN(x_dim=28, h_dim=100, z_dim=16, features=100, layers=2)
    tv.train(model, data, epochs=12, lr=4e-3, progress=False)
    assert evaluate_elbo(model, data.test).elbo_per_sequence > -83


# ---- other bounds --------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["iwae", "fivo"])
def test_workers_agree_on_bounds_of_several_particles(bound, digits8):
    model = small(digits8, dtype="float64")
    model.theta *= 1.5  # makes the particles differ enough to be resampled
    x, _ = pad(digits8.train[:10], dtype="float64")
    lengths = np.array([8, 3, 1, 5, 8, 2, 7, 8, 4, 6])
    rng = np.random.default_rng(0)
    eps, uniforms = rng.standard_normal((8, 10, 3, 4)), rng.random((8, 10))
    found = [model.particle_filter(x, lengths, eps, u) for u in (uniforms, 1 - uniforms)]
    assert np.any(found[0] != found[1])
    results = []
    for count in (1, 3):
        with Workers(count) as workers:
            given = Batch(x, lengths, eps, uniforms), Objective(bound, beta=0.7)
            results.append(workers.gradient(model, *given)[:3])
    for one, several in zip(*results):
        np.testing.assert_allclose(several, one, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("bound", ["iwae", "fivo"])
def test_the_best_weights_are_those_of_the_bound_that_is_trained(bound, digits8):
    model = small(digits8)
    records = tv.train(model, digits8, epochs=2, bound=bound, particles=3, progress=False)
    found = evaluate(model, digits8.valid, bound, 3)
    assert found.per_sequence == max(record["valid"][found.bound] for record in records)
    again = small(digits8)
    repeated = tv.train(again, digits8, epochs=2, bound=bound, particles=3, progress=False)
    assert [record["valid"] for record in repeated] == [record["valid"] for record in records]


def test_a_bound_that_is_none_is_refused():
    for options, words in (({"bound": "iwea"}, 'did you mean "iwae"'), ({"particles": 0}, "particles must be")):
        with pytest.raises(tv.ConfigError, match=words):
            Options(epochs=1, **options).check()
