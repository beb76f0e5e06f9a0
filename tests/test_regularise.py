"""Input dropout, weight decay and the default recipes of `tinyvrnn train`.

Catches: a bound of the dropped-out input instead of the data, a gradient that ignores the dropout mask, dropout that
stays on after training, workers or chunks with another mask, decay of biases, and decay inside Adam's adaptive step.
"""

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from runs import small_data, small_model
from tinyvrnn import cli
from tinyvrnn.arrays.params import leaves, matrices, views
from tinyvrnn.bounds import evaluate_elbo
from tinyvrnn.data import pad
from tinyvrnn.gradcheck import rel_error
from tinyvrnn.models import MODELS, schedule, stepwise
from tinyvrnn.models.batch import Batch, Objective
from tinyvrnn.training.loop import with_noise
from tinyvrnn.training.optim import Adam
from tinyvrnn.training.options import Options, recipe
from tinyvrnn.training.parallel import Workers

FIRST = {"vae": "encode"}  # where x enters; phi_x in the others
WAYS = [("vrnn", {}), ("vrnn", {"recompute": True}), ("vrnn", {"bound": "iwae"}), ("vrnn", {"bound": "fivo"})]
WAYS += [("vrnn-i", {}), ("rnn", {}), ("rnn", {"recompute": True}), ("vae", {})]


def case(name, options, **sizes):
    """A small model, x, lengths, and the other arguments of its loss."""
    if options.get("bound"):
        model, x, lengths, eps, uniforms = checks.small_with_particles(**sizes)
        return (
            model,
            x,
            lengths,
            {"eps": eps, **options} | ({"uniforms": uniforms} if options["bound"] == "fivo" else {}),
        )
    model, x, lengths, eps = checks.small(model=name, **sizes)
    return model, x, lengths, {"eps": eps, "beta": 0.7, **options}


@pytest.mark.parametrize("name, options", WAYS)
def test_to_drop_a_number_is_to_scale_its_row_of_the_first_weights(name, options):
    """Networks get x_j k_j through W1[j]: with k_j constant over steps this is W1 with scaled rows, without dropout."""
    model, x, lengths, given = case(name, options)
    k = np.array([0.0, 1.25, 1.0, 2.0])
    loss, grads, _ = model.loss_and_grads(x, lengths, input_mask=np.broadcast_to(k, x.shape), **given)
    group = FIRST.get(name, "phi_x")
    model.params[group]["W1"][...] *= k[:, None]
    scaled_loss, scaled_grads, _ = model.loss_and_grads(x, lengths, **given)
    assert loss == pytest.approx(scaled_loss, rel=1e-12)
    expected = views(scaled_grads, model.shapes)
    expected[group]["W1"][...] *= k[:, None]
    assert rel_error(grads, scaled_grads) < 1e-11


@pytest.mark.parametrize("name", ["vrnn", "rnn", "vae"])
def test_each_step_has_factors_of_its_own(name):
    model, x, lengths, given = case(name, {})
    keep = 2.0 * (checks.rng(3).random(x.shape) < 0.5)
    loss, grads, _ = model.loss_and_grads(x, lengths, input_mask=keep, **given)
    direction = checks.rng(4).standard_normal(model.theta.shape)
    theta, ends = model.theta.copy(), []
    for step in (1e-6, -1e-6):
        model.theta[...] = theta + step * direction
        ends.append(float(model.loss_and_grads(x, lengths, input_mask=keep, **given)[0]))
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(grads @ direction, rel=1e-6)
    model.theta[...] = theta
    other = keep.copy()
    other[1] = 2 - other[1]
    assert model.loss_and_grads(x, lengths, input_mask=other, **given)[0] != pytest.approx(loss, rel=1e-6)


def test_the_literal_steps_see_the_same():
    model, x, _, eps = checks.small()
    keep = 2.0 * (checks.rng(3).random(x.shape) < 0.5)
    log_p, kl, _ = schedule.sequence_forward(model.params, x, eps, model.likelihood, x_in=x * keep)
    state = np.zeros((x.shape[1], model.h_dim))
    for t in range(len(x)):
        (log_p_t, kl_t, state), _ = stepwise.step_forward(
            model.params, x[t], state, eps[t], model.likelihood, x_in=x[t] * keep[t]
        )
        np.testing.assert_allclose(log_p[t], log_p_t, rtol=1e-12)
        np.testing.assert_allclose(kl[t], kl_t, rtol=1e-12)


def test_factors_of_another_shape_are_refused():
    model, x, lengths, given = case("vrnn", {})
    with pytest.raises(tv.DataError, match="Expected input_mask of shape"):
        model.loss_and_grads(x, lengths, input_mask=np.ones(x.shape[1:]), **given)


def test_workers_and_chunks_drop_what_one_worker_drops():
    data = tv.load_data("digits8")
    model = tv.VRNN(8, h_dim=12, z_dim=3, dtype="float64")
    x, _ = pad(data.train[:10], dtype="float64")
    lengths, rng = np.array([8, 3, 1, 5, 8, 2, 7, 8, 4, 6]), np.random.default_rng(0)
    eps, keep = rng.standard_normal((8, 10, 3)), 2.0 * (rng.random(x.shape) < 0.5)
    with Workers(1) as one, Workers(3) as three:
        (loss, grads, *_), (others_loss, others_grads, *_) = (
            workers.gradient(model, Batch(x, lengths, eps, None, keep), Objective()) for workers in (one, three)
        )
    np.testing.assert_allclose(others_loss, loss, rtol=1e-12)
    np.testing.assert_allclose(others_grads, grads, rtol=1e-9, atol=1e-12)
    runs = []
    for options in ({"workers": 1}, {"workers": 3}, {"workers": 3, "chunk": 8}):
        again = tv.VRNN(8, h_dim=12, z_dim=3, dtype="float64")
        runs.append(tv.train(again, data, epochs=1, dropout=0.3, progress=False, **options)[0]["valid"]["elbo"])
    np.testing.assert_allclose(runs, runs[0], rtol=1e-9)  # a chunk of all eight steps is the whole sequence
    again = tv.VRNN(8, h_dim=12, z_dim=3, dtype="float64")
    assert tv.train(again, data, epochs=1, progress=False)[0]["valid"]["elbo"] != pytest.approx(runs[0], rel=1e-6)


def test_on_average_the_networks_see_as_much_as_is_there():
    options = Options(epochs=1, dropout=0.3)
    keep = with_noise(tv.VRNN(8, h_dim=4, z_dim=2), Batch(np.zeros((40, 50, 8))), options, 0).input_mask
    assert keep.dtype == np.float32 and set(np.unique(keep)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs(keep.mean() - 1) < 4 * keep.std() / keep.size**0.5


def test_evaluation_drops_nothing():
    data = tv.load_data("digits8")
    model = tv.VRNN(8, h_dim=12, z_dim=3)
    (record,) = tv.train(model, data, epochs=1, dropout=0.6, progress=False)
    assert record["valid"]["elbo"] == evaluate_elbo(model, data.valid).elbo_per_sequence


# ---- weight decay --------------------------------------------------------------------------------


def test_a_step_of_decay_is_beside_the_gradient():
    """theta - lr w theta - Adam's step, for any size of the gradient."""
    theta, g, w = np.array([2.0, -3.0, 0.5]), np.array([1e-3, 5.0, -40.0]), np.array([0.1, 0.1, 0.0])
    plain, decayed = theta.copy(), theta.copy()
    Adam(plain, lr=0.01).step(plain, g)
    Adam(decayed, lr=0.01, decay=w).step(decayed, g)
    np.testing.assert_allclose(plain - decayed, 0.01 * w * theta, rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_matrices_decay_and_biases_do_not(name):
    model, *_ = checks.small(model=name)
    chosen = views(matrices(model.theta, model.shapes), model.shapes)
    for leaf, array in leaves(chosen):
        assert np.all(array == (leaf.split(".")[1][0] in "WU")), leaf


def test_a_step_of_training_takes_its_share_of_the_matrices():
    thetas = []
    for decay in (0.0, 5.0):
        model = small_model()
        first = model.theta.copy()
        tv.train(model, small_data("gaussian"), epochs=1, batch=99, lr=0.01, weight_decay=decay, progress=False)
        thetas.append(model.theta)
    share = 0.05 * matrices(first, model.shapes) * first
    np.testing.assert_allclose(thetas[0] - thetas[1], share, atol=1e-7)
    assert np.abs(share).max() > 0.01


def test_training_with_decay_leaves_smaller_weights():
    data, norms = tv.load_data("digits8"), []
    for decay in (0.0, 5.0):
        model = tv.VRNN(8, h_dim=12, z_dim=3)
        tv.train(model, data, epochs=3, weight_decay=decay, progress=False)
        norms.append(float((matrices(model.theta, model.shapes) * model.theta**2).sum()))
    assert norms[1] < 0.8 * norms[0]


# ---- recipes -------------------------------------------------------------------------------------


def test_a_small_set_gets_what_keeps_it_from_being_learnt_by_heart():
    small = recipe(tv.load_data("vowels"))
    assert small["weight_decay"] > 0 and small["batch"] < 64 and "dropout" not in small
    ones = [np.ones((3, 2))] * 5
    assert recipe(tv.Data.from_sequences("ones", ones, ones, ones))["dropout"] > 0
    assert set(recipe(tv.load_data("digits8"))) == {"epochs"}
    for count, options in ((999, {"epochs", "batch", "weight_decay", "dropout"}), (1000, {"epochs"})):
        assert set(recipe(tv.Data.from_sequences("ones", [np.ones((1, 2))] * count, ones, ones))) == options


@pytest.mark.parametrize(
    "steps, words, chunk",
    [
        (101, [], 50),
        (100, [], None),
        (101, ["--chunk", "30"], 30),
        (101, ["--chunk", "50"], -50),
        (101, ["--recompute"], None),
        (101, ["--bound", "iwae", "--particles", "2"], None),
        (101, ["--posterior", "smoothing"], None),
        (101, ["--model", "vae"], None),
        (101, ["--model", "rnn"], 50),
    ],
)
@pytest.mark.one_in(4)
def test_long_sequences_are_cut_where_the_model_can_be(tmp_path, capsys, steps, words, chunk):
    """By the average of the training split; the report says it and why."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(4, steps, 1)))
    given = ["train", str(tmp_path / "x.npy"), "--hidden", "2", "--latent", "1", "--epochs", "1", *words]
    assert cli.main([*given, "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    given = chunk is not None and chunk < 0
    assert (f"chunk {chunk and abs(chunk)}" in out) == (chunk is not None) and ("chunk" in out) == (chunk is not None)
    assert ("chunk 50 for sequences of more than 100 steps on average" in out) == (chunk == 50 and not given)


def test_the_gradients_of_ink_are_not_all_cut():
    data = tv.load_data("strokes")
    model = tv.VRNN(3, h_dim=32, z_dim=4, likelihood="pen", components=4)
    records = tv.train(model, data, progress=False, **recipe(data) | {"epochs": 2})
    assert tv.training.options.Options().clip < records[-1]["grad_norm"] < recipe(data)["clip"]


@pytest.mark.parametrize(
    "options", [{"dropout": 1.0}, {"dropout": -0.1}, {"weight_decay": -1}, {"weight_decay": np.nan}]
)
def test_shares_that_are_none_are_refused(options):
    with pytest.raises(tv.ConfigError, match=f"{next(iter(options))} must be"):
        tv.train(tv.VRNN(8, h_dim=4, z_dim=2), tv.load_data("digits8"), epochs=1, progress=False, **options)
