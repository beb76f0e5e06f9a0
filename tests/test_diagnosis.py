"""Training that meets a non-finite number stops and names where it first arose."""

from types import SimpleNamespace

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from runs import OPTIONS, small_data, small_model
from tinyvrnn.arrays import noise
from tinyvrnn.data import batches
from tinyvrnn.models.batch import Batch, Objective
from tinyvrnn.training import diagnosis, loop

HUGE = 1e35
LENGTHS, INDEX = np.array([4, 2, 4, 3, 1, 4]), np.array([10, 11, 12, 13, 14, 15])
R, U, N = (np.repeat(np.eye(3)[i], 5) for i in range(3))  # the columns of a GRU's gates
# n = tanh(x + r (U h + c)) is finite for x or U h = inf, but not for r = 0 and U h = inf: h = 1, r = 0 at the spot
RESET = {"recur__b": 50 * N - 50 * U, "recur__U": 3e38 * N, "recur__W": -HUGE * R}
ANY = "sequences 10, 11, 12, 13, 14 and 1 more of the training split"


def diagnose(model, x, lengths, index, eps, beta=1.0, bound="elbo", **given):
    return diagnosis.diagnose(model, Batch(x, lengths, eps, **given), Objective(bound, beta=beta), index)


def batch(spot=1e10):
    """x, lengths, index: zeros except step 2 of the third sequence, number 12 of its split."""
    x = np.zeros((4, 6, 3), "float32")
    x[2, 2] = spot
    return x, LENGTHS, INDEX


def fill(model, **values):
    """Fill leaves, infer_W1=1.0; for leaves with two inputs only the rows of the first, the others with 0."""
    for name, value in values.items():
        group, leaf = name.rsplit("__", 1)
        array = model.params[group][leaf]
        array[...] = 0
        rows = 6 if leaf in ("W1", "W") and group in ("infer", "recur") else len(array)
        array[:rows] = value


@pytest.mark.parametrize(
    "name, values, says",
    [
        ("vrnn", {"infer__b1": np.nan}, "the weights infer.b1 already contain it"),
        ("vrnn", {"infer__W1": HUGE}, "mu_z, sigma_z of Eq. 9 at step t = 2 of sequence 12 of the training split"),
        ("vrnn", RESET, "h of Eq. 7 at step t = 2 of sequence 12 of the"),
        ("vrnn", {"prior__b1": HUGE, "prior__W_out": HUGE}, f"mu_0, sigma_0 of Eq. 5 at step t = 0 of {ANY}"),
        ("vrnn", {"generate__b1": HUGE, "generate__W_out": HUGE}, f"p(x_t | ...) of Eq. 6 at step t = 0 of {ANY}"),
        ("vrnn-i", {"infer__W1": HUGE}, "mu_z, sigma_z of Eq. 9 at step t = 2 of sequence 12 of the training split"),
        ("rnn", {"phi_x__W1": HUGE}, "phi_x at step t = 2 of sequence 12 of the training split"),
        ("rnn", {"predict__b1": HUGE, "predict__W_out": HUGE}, f"p(x_t | ...) of Eq. 2 at step t = 0 of {ANY}"),
        ("rnn", RESET, "h of Eq. 1 at step t = 2 of sequence 12 of the"),
        ("vae", {"encode__W1": HUGE}, "mu_z, sigma_z of Eq. 3 at step t = 2 of sequence 12 of the training split"),
        ("vae", {"decode__b1": HUGE, "decode__W_out": HUGE}, f"p(x | z) of Eq. 3 at step t = 0 of {ANY}"),
    ],
)
def test_the_first_number_that_is_not_finite_is_found(name, values, says):
    model = small_model(name)
    if "phi_x" in model.params:
        model.params["phi_x"]["W1"][...] = 1.0
    fill(model, **values)
    x, lengths, index = batch()
    eps = np.zeros((*x.shape[:2], model.z_dim), "float32")
    assert diagnose(model, x, lengths, index, eps).startswith(says)


@pytest.mark.parametrize("bound", ["iwae", "fivo"])
def test_particles_are_counted_as_the_sequences_they_are_of(bound):
    model = small_model()
    model.params["phi_x"]["W1"][...] = 1.0
    fill(model, infer__W1=HUGE)
    x, lengths, index = batch()
    given = {"bound": bound, "uniforms": np.zeros((4, 6)), "input_mask": np.ones_like(x)}
    found = diagnose(model, x, lengths, index, np.zeros((4, 6, 3, 2), "float32"), **given)
    assert found == "mu_z, sigma_z of Eq. 9 at step t = 2 of sequence 12 of the training split"


@pytest.mark.parametrize(
    "name, eps, values, says",
    [
        ("vrnn", 3e38, {"infer__b_out": 10.0}, "z at step t = 2 of sequence 12 of the"),
        ("vrnn", 1e10, {"phi_z__W1": HUGE}, "phi_z at step t = 2 of sequence 12 of the"),
        ("vae", 3e38, {"encode__b_out": 10.0}, "z of Eq. 4 at step t = 2 of sequence 12 of the"),
    ],
)
def test_noise_that_is_too_large_is_found_in_what_it_is_added_to(name, eps, values, says):
    model = small_model(name)
    fill(model, **values)
    x, lengths, index = batch(0.0)
    noise = np.zeros((*x.shape[:2], 2), "float32")
    noise[2, 2] = eps
    assert diagnose(model, x, lengths, index, noise).startswith(says)


def test_a_score_that_is_not_finite_is_found():
    """Three numbers in a step, each with a finite log-density of -3e38."""
    model = small_model(likelihood="bernoulli")
    fill(model, generate__W_out=0, generate__b_out=3e38)
    x, lengths, index = batch(0.0)
    eps = np.zeros((4, 6, 2), "float32")
    assert diagnose(model, x, lengths, index, eps) == f"log p(x_t | ...) at step t = 0 of sequences {ANY[10:]}"


def test_a_kl_that_is_not_finite_is_found(monkeypatch):
    """Inserted by hand, since the KL of finite numbers is finite (tests/test_distributions.py)."""
    model = small_model()
    terms = model._forward_terms

    def bad(*given):
        log_p, kl, cache = terms(*given)
        kl[1, 3] = np.inf
        return log_p, kl, cache

    monkeypatch.setattr(model, "_forward_terms", bad)
    found = diagnose(model, *batch(0.0), np.zeros((4, 6, 2), "float32"))
    assert found == "the KL of Eq. 11 at step t = 1 of sequence 13 of the training split"


WELL = "a number that does not recur when the batch is recomputed"


@pytest.mark.parametrize("particles", [(), (3,)])
def test_what_dropout_hides_is_not_blamed(particles):
    """Dropout masks the number that would overflow; without dropout it overflows."""
    model = small_model()
    model.params["phi_x"]["W1"][...] = 1.0
    fill(model, infer__W1=HUGE)
    x, lengths, index = batch()
    keep = np.ones_like(x)
    keep[2, 2] = 0
    given = {"bound": "iwae", "uniforms": np.zeros((4, 6))} if particles else {}
    eps = np.zeros((4, 6, *particles, 2), "float32")
    spot = "mu_z, sigma_z of Eq. 9 at step t = 2 of sequence 12 of the training split"
    assert diagnose(model, x, lengths, index, eps, **given) == spot
    assert diagnose(model, x, lengths, index, eps, input_mask=keep, **given) != spot


@pytest.mark.parametrize("what", ["x", "h"])
def test_what_stands_behind_the_end_of_a_sequence_is_not_blamed(what):
    """A huge x in the padding is not read; a prediction there, from a non-zero h, is not scored."""
    model = small_model("rnn")
    x, lengths, index = batch(0.0)
    if what == "x":
        fill(model, phi_x__W1=HUGE)
        x[3, 1] = 1e10
    else:
        fill(model, predict__W1=HUGE, predict__W_out=HUGE, recur__b=1.0)
        lengths = np.ones_like(lengths)
    assert diagnose(model, x, lengths, index, np.zeros((4, 6, 0), "float32")) == WELL


def test_what_a_smoothing_posterior_sees_ends_with_the_sequence():
    """b = 1/2 of an only step, 15/16 where three more are looked at: 0.95e38 of each of six are 2.9e38, or overflow."""
    model = small_model(posterior="smoothing")
    fill(model, backward__W=0, backward__U=0, backward__b=np.repeat([0, 0, 50], 6), infer__W1=0.95e38, infer__W_out=0)
    x, _, index = batch(0.0)
    eps, one = np.zeros((4, 6, 2), "float32"), np.ones(6, int)
    assert "mu_z" not in diagnose(model, x, one, index, eps)
    assert diagnose(model, x, 4 * one, index, eps).startswith("mu_z, sigma_z of Eq. 9 at step t = 0")


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_the_gradients_that_are_looked_at_are_those_of_training(bound, monkeypatch):
    """For each sequence alone, at its length, and for all: with the noise, KL weight and dropout of training."""
    model, own, calls = small_model(), tv.VRNN.gradient, []

    def spy(self, batch, objective):
        calls.append(batch._asdict() | objective._asdict())
        return own(self, batch, objective)

    monkeypatch.setattr(tv.VRNN, "gradient", spy)
    rng, (x, lengths, index) = np.random.default_rng(0), batch(1.0)
    arrays = {"x": x, "eps": rng.standard_normal((4, 6, *([3] if bound == "iwae" else []), 2))}
    arrays |= {"input_mask": rng.random(x.shape)} | ({"uniforms": rng.random((4, 6))} if bound == "iwae" else {})
    given = {name: array for name, array in arrays.items() if name not in ("x", "eps")}
    given |= {"bound": bound} if bound == "iwae" else {}
    assert diagnose(model, x, lengths, index, arrays["eps"], 0.3, **given) == WELL
    assert [call["lengths"].tolist() for call in calls] == [*([length] for length in lengths), lengths.tolist()]
    for call, s in zip(calls, [*(slice(b, b + 1) for b in range(6)), slice(None)]):
        assert call["beta"] == 0.3 and call.get("bound", "elbo") == bound
        for name, array in arrays.items():
            assert np.array_equal(call[name], array[: lengths[s].max(), s]), name
    calls.clear()
    diagnose(model, x, lengths, index, np.zeros((4, 6, 2)))
    assert {call["beta"] for call in calls} == {1.0}


@pytest.mark.parametrize("count, says", [(1, " 10"), (2, "s 10, 11"), (5, "s 10, 11, 12, 13, 14")])
def test_as_many_sequences_are_named_as_fit_into_a_sentence(count, says):
    model = small_model("rnn")
    fill(model, predict__b1=HUGE, predict__W_out=HUGE)
    x, lengths, index = (a[:, :count] if a.ndim == 3 else a[:count] for a in batch(0.0))
    found = diagnose(model, x, lengths, index, np.zeros((4, count, 0), "float32"))
    assert found == f"p(x_t | ...) of Eq. 2 at step t = 0 of sequence{says} of the training split"


def bad_gradient(model, y=1e-15, W_out=1e10):
    """A loss that is finite, with ds = 5e29 for x = 1e12: at sigma = 2e-4, and y, W_out of the head that it meets."""
    fill(model, generate__W1=0, generate__b1=y, generate__W_out=W_out, generate__b_out=np.log(1e-4))


@pytest.mark.parametrize(
    "y, W_out, leaf",
    [
        (1e-15, 1e10, "generate.W1"),
        (1e10, 0, "generate.W_out"),
        # both, and what comes after: the first that the gradient comes to
        (np.array([1e-15, 1e10, 0, 0, 0, 0]), np.array([[1e10], [0], [0], [0], [0], [0]]), "generate.W_out"),
    ],
    ids=["W1", "W_out", "both"],
)
def test_a_gradient_is_traced_to_its_leaf_and_sequence(y, W_out, leaf):
    model = small_model()
    bad_gradient(model, y, W_out)
    x, lengths, index = batch(1e12)
    eps = np.zeros((4, 6, 2), "float32")
    with np.errstate(all="ignore"):
        assert np.isfinite(model.loss_and_grads(x, lengths, eps)[0])
    found = diagnose(model, x, lengths, index, eps)
    assert found == f"the gradient of {leaf} (Eq. 6), for sequence 12 of the training split"


def test_a_gradient_that_is_only_too_long_is_named_with_its_greatest_number():
    model = small_model()
    bad_gradient(model, y=2e8, W_out=0)
    x, lengths, index = (a[..., 2:3, :] if a.ndim == 3 else a[2:3] for a in batch(1e12))
    found = diagnose(model, x, lengths, index, np.zeros((4, 1, 2), "float32"))
    assert found.startswith("the norm of the gradient, whose greatest number is 1e+38 in generate.W_out (Eq. 6)")


def data_with_a_bad_sequence():
    splits = {name: list(small_data("gaussian").split(name)) for name in ("train", "valid", "test")}
    splits["train"][7] = np.full((3, 3), 1e12)
    return tv.Data.from_sequences("bad", *splits.values(), standardise=False)


def test_training_stops_before_the_step_and_names_the_sequence():
    model, data = small_model(), data_with_a_bad_sequence()
    bad_gradient(model)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        step = loop.Adam.step
        patch.setattr(loop.Adam, "step", lambda self, *given: (seen.append(1), step(self, *given)))
        with pytest.raises(tv.DivergedError) as caught:
            tv.train(model, data, **OPTIONS | {"lr": 1e-30})
    said = str(caught.value)
    assert f"not finite at step {len(seen)} (epoch 1)" in said and "for sequence 7 of the training split" in said
    assert np.isfinite(model.theta).all()


def test_so_many_bad_batches_are_left_out_and_no_more(tmp_path):
    """One bad batch per epoch: with one tolerated the second epoch stops, the first is saved; with more it goes on."""
    model, data = small_model(), data_with_a_bad_sequence()
    bad_gradient(model)
    with (
        pytest.raises(
            tv.DivergedError,
            match=r"\(epoch 2\).*--skip-nonfinite 2 .skip_nonfinite. or more; the last save in .* is intact",
        ),
        tv.Run(tmp_path) as run,
    ):
        tv.train(model, data, run=run, **OPTIONS | {"lr": 1e-30, "skip_nonfinite": 1})
    assert np.isfinite(tv.load(tmp_path).theta).all()
    again = small_model()
    with tv.Run(tmp_path, resume=True) as run:
        records = tv.train(again, data, run=run, **OPTIONS | {"lr": 1e-30, "skip_nonfinite": 4})
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert all(np.isfinite(record["train"]["elbo"]) for record in records)


def test_bad_weights_are_never_left_out():
    model = small_model()
    model.theta[:] = np.nan
    says = r"the weights phi_x.W1 already contain it; .* --skip-nonfinite 1 \(skip_nonfinite\) or more\.$"
    with pytest.raises(tv.DivergedError, match=says):
        tv.train(model, small_data("gaussian"), **OPTIONS | {"skip_nonfinite": 1000})


def test_an_epoch_of_which_nothing_is_left_makes_no_record():
    model = small_model()
    bad_gradient(model)
    data = tv.Data.from_sequences("bad", *([np.full((3, 3), 1e12)] * 2 for _ in range(3)), standardise=False)
    with pytest.raises(tv.DivergedError, match="Every batch was skipped in epoch 1"):
        tv.train(model, data, **OPTIONS | {"lr": 1e-30, "skip_nonfinite": 1000})


def test_a_validation_bound_that_is_no_number_is_not_saved(tmp_path):
    """One step with a learning rate that gives weights of 1e38, so validation overflows before the next gradient."""
    with pytest.raises(
        tv.DivergedError, match="The validation bound became nan after epoch 1: try a smaller learning rate"
    ):
        tv.train(
            small_model(), small_data("gaussian"), run=tv.Run(tmp_path / "r"), **OPTIONS | {"lr": 1e38, "batch": 99}
        )
    assert not (tmp_path / "r").exists()


def test_a_bound_that_is_trained_and_is_no_number_is_not_saved_either(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "evaluate", lambda *given: SimpleNamespace(per_sequence=np.nan))
    options = OPTIONS | {"bound": "iwae", "particles": 2}
    with pytest.raises(tv.DivergedError, match="The validation bound became nan after epoch 1"):
        tv.train(small_model(), small_data("gaussian"), run=tv.Run(tmp_path / "r"), **options)
    assert not (tmp_path / "r").exists()


def test_a_batch_that_is_well_is_not_blamed():
    x, lengths, index = batch(1.0)
    assert diagnose(small_model(), x, lengths, index, np.zeros((4, 6, 2), "float32")) == WELL


def test_a_very_long_batch_is_not_computed_again(monkeypatch):
    x, lengths, index = batch(1.0)
    for most, says in (
        (23, "somewhere in 6 sequences of 4 steps, too many to compute again at once"),
        (24, WELL),
    ):
        monkeypatch.setattr("tinyvrnn.training.diagnosis.MOST_STEPS", most)
        assert diagnose(small_model(), x, lengths, index, np.zeros((4, 6, 2), "float32")) == says


def test_the_batch_that_failed_is_the_one_that_is_looked_at(monkeypatch):
    """The third batch of a warm-up of two epochs: half the weight of the KL, its own noise, dropout and uniforms."""
    seen, step = [], loop.Adam.step
    monkeypatch.setattr(loop, "diagnose", lambda *given, **more: seen.append((given, more)) or "something")

    def ruin(self, theta, grads, lr):
        step(self, theta, grads, lr)
        theta[:] = np.nan if self.k == 2 else theta

    monkeypatch.setattr(loop.Adam, "step", ruin)
    model, data = small_model(), small_data("gaussian")
    options = OPTIONS | {"warmup": 2, "dropout": 0.2, "bound": "iwae", "particles": 3, "workers": 1, "seed": 5}
    with pytest.raises(
        tv.DivergedError, match=r"not finite at step 2 \(epoch 1\): something; try a smaller learning rate"
    ):
        tv.train(model, data, **options)
    (own, batch, objective, index), _ = seen[0]
    x, lengths, eps = batch.x, batch.lengths, batch.eps
    third = list(batches(data.train, 8, seed=5, epoch=0, dtype="float32"))[2]
    assert own is model and objective == Objective("iwae", 3, 0.5)
    assert all(np.array_equal(a, b) for a, b in zip((x, lengths, index), third))
    assert np.array_equal(eps, noise.standard_normal((*x.shape[:2], 3, 2), "float32", 5, "train", 2))
    assert np.array_equal(batch.uniforms, noise.generator(5, "resample", 2).random(x.shape[:2]))
    kept = noise.generator(5, "dropout", 2).random(x.shape) >= 0.2
    assert np.array_equal(batch.input_mask, kept.astype("float32") / np.float32(0.8))


@checks.on_device
@pytest.mark.parametrize("options", [{}, {"chunk": 2, "dropout": 0.2}, {"bound": "fivo", "particles": 2}], ids=str)
def test_on_a_device_the_same_is_found(options):
    said = []
    for backend in checks.BACKENDS:
        model = tv.VRNN(3, 5, 2, likelihood="gaussian", backend=backend, seed=1)
        with pytest.raises(tv.DivergedError) as caught:
            tv.train(model, small_data("gaussian"), **OPTIONS | options | {"lr": 1e30, "workers": 1})
        said.append(str(caught.value))
    assert said[0] == said[1] and "not finite at step " in said[0]
