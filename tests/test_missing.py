"""Missing values: the networks read 0 for them, and the bound is that of log p(observed x given the mask).

Catches: a missing entry that is scored or read, its gradient, a constant left over from the neutral outputs, a mixture
whose responsibilities see missing entries, a mask that is lost in chunks, pieces, workers, particles or columns, and a
partly observed step of a likelihood that scores whole steps.
"""

import math
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn import bounds, cli
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.data import mapped
from tinyvrnn.data.readers import arrays, content
from tinyvrnn.distributions import LIKELIHOODS, get_likelihood
from tinyvrnn.distributions.observed import observed_only
from tinyvrnn.models import linear_gaussian as lg
from tinyvrnn.models import stepwise
from tinyvrnn.training import parallel

ENTRYWISE = ("bernoulli", "gaussian", "gmm")
VARIANTS = {
    "gru": {},
    "lstm": {"cell": "lstm"},
    "smoothing": {"posterior": "smoothing"},
    "vrnn-i": {"model": "vrnn-i", "posterior": "smoothing", "cell": "lstm"},
    "vae": {"model": "vae"},
    "rnn": {"model": "rnn"},
}
CASES = [(likelihood, {}) for likelihood in LIKELIHOODS] + [("gmm", options) for options in VARIANTS.values()]
every = pytest.mark.parametrize("likelihood, options", CASES, ids=str)


def gappy(likelihood="gaussian", backend="numpy", share=0.6, **options):
    """model, x, lengths, eps and observed, in which the first sequence has an observed and a missing step."""
    model, x, lengths, eps = checks.small(likelihood, backend, **options)
    observed = (checks.rng(7).random(x.shape) < share).astype("uint8")
    observed[0, 0], observed[1, 0], observed[2] = 1, 0, 1
    return model, x, lengths, eps, observed


def whole_steps(observed, likelihood):
    return observed if likelihood in ENTRYWISE else observed * observed.all(axis=-1, keepdims=True)


# ---- the gradient --------------------------------------------------------------------------------


def has(how, options):
    """Whether the model of these options has a bound, or can be recomputed."""
    of_particles = options.get("model", "vrnn") in ("vrnn", "vrnn-i")
    filters = options.get("posterior") != "smoothing" and options.get("model") != "vae"
    return {"elbo": True, "recompute": filters, "iwae": of_particles, "fivo": of_particles}[how]


WAYS = [(*case, how) for case in CASES for how in ("elbo", "recompute", "iwae", "fivo") if has(how, case[1])]


@pytest.mark.parametrize("likelihood, options, how", WAYS, ids=str)
def test_the_gradient_is_that_of_the_loss(likelihood, options, how):
    model, x, lengths, eps, observed = gappy(likelihood, **options)
    given = {"observed": observed, "beta": 0.7, "input_mask": 2.0 * (checks.rng(3).random(x.shape) < 0.5)}
    if how in ("iwae", "fivo"):
        draw = checks.rng(5)
        eps = draw.standard_normal((*x.shape[:2], 3, model.z_dim))
        eps *= 0.1  # no sequence is resampled, so that the gradient of fivo is exact
        given |= {"bound": how, "uniforms": draw.random(x.shape[:2])}
    if how == "recompute":
        given |= {"recompute": True}
    _, grads, _ = model.loss_and_grads(x, lengths, eps, **given)
    direction, theta, ends = checks.rng(4).standard_normal(model.theta.shape), model.theta.copy(), []
    for step in (1e-6, -1e-6):
        model.theta[...] = theta + step * direction
        ends.append(float(model.loss_and_grads(x, lengths, eps, **given)[0]))
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(grads @ direction, rel=2e-6)


# ---- the value -----------------------------------------------------------------------------------


def textbook(name, x, seen, outputs):
    """log p of the entries of one step x (X,) in `seen`, entry by entry, from its outputs."""
    if name == "bernoulli":
        p = [1 / (1 + math.exp(-a)) for a in outputs[0]]
        return sum(x[j] * math.log(p[j]) + (1 - x[j]) * math.log(1 - p[j]) for j in seen)

    def log_normal(x, mu, sigma):
        return -0.5 * ((x - mu) / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))

    if name == "gaussian":
        return sum(log_normal(x[j], outputs[0][j], outputs[1][j]) for j in seen)
    logits, mu, sigma = outputs
    weights = np.exp(logits) / np.exp(logits).sum()
    each = [sum(log_normal(x[j], mu[k, j], sigma[k, j]) for j in seen) for k in range(len(weights))]
    return math.log(sum(w * math.exp(one) for w, one in zip(weights, each))) if seen else 0.0


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-13), ("float32", 3e-6)])
def test_the_log_density_is_that_of_the_observed_entries(name, backend, dtype, tolerance):
    model, x, _, _, observed = gappy(name, backend, dtype=dtype)
    likelihood, width = observed_only(get_likelihood(name, 3)), x.shape[-1]
    observed = whole_steps(observed, name).astype(bool)
    y = checks.rng(2).standard_normal((*x.shape[:2], 3)).astype(dtype)
    outputs, _ = likelihood.head_forward(model.params["generate"], model.backend.asarray(y))
    host = [to_host(output) for output in outputs]
    log_p, cache = likelihood.log_density_forward(model.backend.asarray(np.where(observed, x, np.nan)), *outputs)
    whole, _ = likelihood.log_density_forward(model.backend.asarray(x), *outputs)
    assert log_p.dtype == dtype
    _, *doutputs = likelihood.log_density_backward(cache, log_p + 1)
    assert [(d.shape, d.dtype) for d in doutputs] == [(o.shape, o.dtype) for o in outputs]
    for at in np.ndindex(x.shape[:2]):
        seen = np.flatnonzero(observed[at]).tolist()
        if name in ENTRYWISE:
            expected = textbook(name, x[at].astype(float), seen, [o[at].astype(float) for o in host])
        else:
            expected = float(to_host(whole)[at]) if len(seen) == width else 0.0
        assert float(to_host(log_p)[at]) == pytest.approx(expected, rel=tolerance, abs=tolerance)


@every
def test_infer_scores_and_reads_what_is_observed(likelihood, options):
    """Against the model without gaps: it reads x with zeros, and its outputs are scored by the textbook."""
    model, x, lengths, eps, observed = gappy(likelihood, **options)
    seen = whole_steps(observed, likelihood)
    found = model.infer(x, lengths, eps, observed=observed)
    filled = np.where(seen, x, 0)
    if likelihood in ENTRYWISE:
        for name, a in model.infer(filled, lengths, eps)._asdict().items():
            if name not in ("log_p", "elbo"):
                checks.assert_close(getattr(found, name), a, 1e-12, name)
        whole = model.infer(filled, lengths, eps).log_p
        only = model.infer(x, lengths, eps, observed=np.ones_like(observed)).log_p
        assert (found.log_p[2, lengths > 2] != 0).all() and whole.shape == only.shape
    assert found.log_p[1, 0] == 0 and found.elbo[1, 0] == -found.kl[1, 0]
    assert (found.log_p[(seen.sum(axis=-1) == 0)] == 0).all()
    checks.assert_close(found.elbo.sum(axis=0), model.elbo(x, lengths, eps, observed), 1e-12, "the sum")


@every
def test_what_stands_at_a_missing_entry_does_not_matter(likelihood, options):
    model, x, lengths, eps, observed = gappy(likelihood, **options)
    other = np.where(observed, x, np.where(checks.rng(1).random(x.shape) < 0.5, np.nan, 1e30))
    for a, b in zip(
        model.loss_and_grads(x, lengths, eps, observed=observed),
        model.loss_and_grads(other, lengths, eps, observed=observed > 0),
    ):
        assert np.array_equal(a, b)


@every
def test_a_mask_of_ones_is_no_mask_and_a_mask_of_zeros_scores_nothing(likelihood, options):
    model, x, lengths, eps, observed = gappy(likelihood, **options)
    for a, b in zip(
        model.loss_and_grads(x, lengths, eps), model.loss_and_grads(x, lengths, eps, observed=np.ones(x.shape))
    ):
        assert np.array_equal(a, b)
    observed[:, 1] = 0
    terms = model.parts(x, lengths, eps, observed)
    assert terms.log_likelihood[1] == 0 and (terms.log_likelihood[[0, 2, 3]] != 0).all()


# ---- the same along every way --------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gmm", "pen"])
@pytest.mark.parametrize("options", [{}, {"cell": "lstm"}, {"model": "rnn"}], ids=str)
def test_chunks_pieces_and_workers_skip_the_same(likelihood, options, monkeypatch):
    monkeypatch.setattr(parallel, "LEAST_SLICE", 2)
    model, x, lengths, eps, observed = gappy(likelihood, **options)
    lengths = np.full_like(lengths, len(x))
    loss, grads, terms = model.loss_and_grads(x, lengths, eps, observed=observed)
    again = model.loss_and_grads(x, lengths, eps, observed=observed, recompute=True)
    with tv.Workers(2) as workers:
        sliced = workers.loss_and_grads(model, x, lengths, eps, observed=observed)
    for other in (again, sliced):
        for a, b in zip((loss, grads, *terms), (*other[:2], *other[2])):
            checks.assert_close(b, a, 1e-11, "the way")
    state, parts, losses = None, 0, 0
    for s in (slice(0, 2), slice(2, 5)):
        given = x[s], None, eps[s]
        losses += model.chunk_loss_and_grads(*given, state=state, observed=observed[s])[0]
        part, state = model.chunk_parts(*given, state, observed[s])
        parts = parts + part.elbo
    checks.assert_close(parts, terms.elbo, 1e-12, "chunks")
    assert losses == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("bound", ["iwae", "fivo"])
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("likelihood, posterior", [("gmm", "filtering"), ("categorical", "smoothing")])
def test_particles_skip_the_same(bound, backend, likelihood, posterior):
    """The estimate of the public function, and of training, and of the literal steps in a loop of particles."""
    model, x, lengths, eps, observed = gappy(likelihood, backend, posterior=posterior)
    K, seen = 3, whole_steps(observed, likelihood)
    eps = bounds.estimates.particle_noise(model, x, range(K), 0, "particles")
    found = to_host(getattr(bounds, bound)(model, x, lengths, K, observed=observed))
    uniforms = tv.noise.uniform(x.shape[:2], model.dtype, 0, "particles resampled", backend=model.backend)
    loss, _, terms = model.loss_and_grads(x, lengths, eps, bound=bound, uniforms=uniforms, observed=observed)
    first = model.backend.xp.ascontiguousarray(eps[:, :, 0])
    checks.assert_close(to_host(terms.elbo), to_host(model.elbo(x, lengths, first, observed)), 1e-12, "the terms")
    assert -float(loss) == pytest.approx(found.mean(), rel=1e-12)
    if bound == "iwae":
        log_w = [to_host(model.log_weights(x, lengths, eps[:, :, k : k + 1], observed)) for k in range(K)]
        params = checks.host_params(model)
        for k in range(K):
            mask = (np.arange(len(x))[:, None] < lengths).astype(float)
            state, total = np.zeros((x.shape[1], model.h_dim)), 0
            filled, gaps = np.where(seen, x, 0) * mask[..., None], np.where(seen, x, np.nan)
            aheads = stepwise.ahead_forward(params, filled, mask)[0] if posterior == "smoothing" else [None] * len(x)
            for t in range(len(x)):
                (log_p, ratio, state), _ = stepwise.step_forward(
                    params, gaps[t], state, to_host(eps)[t, :, k], observed_only(model.likelihood),
                    sampled=True, ahead=aheads[t], x_in=filled[t],
                )  # fmt: skip
                total = total + (log_p - ratio) * mask[t]
            checks.assert_close(log_w[k][:, 0], total, 1e-12, "log w")


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("model", sorted(tv.models.MODELS))
def test_both_backends_and_float32(backend, model):
    results = []
    for dtype in ("float64", "float32"):
        own, x, lengths, eps, observed = gappy("gmm", backend, model=model, dtype=dtype)
        x[observed == 0] = np.nan
        loss, grads, terms = own.loss_and_grads(x, lengths, eps, observed=own.backend.asarray(observed))
        assert {loss.dtype, grads.dtype, terms.elbo.dtype} == {np.dtype(dtype)}
        results.append(np.concatenate([[float(loss)], to_host(grads)]))
        found = own.infer(x, lengths, eps, observed)
        assert all(np.isfinite(to_host(a)).all() for a in found)
    checks.assert_close(results[1], results[0], 2e-4, "float32")


@checks.on_device
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_x_on_the_device_may_have_gaps(likelihood):
    model, x, lengths, eps, observed = gappy(likelihood, checks.DEVICE)
    x, observed = to_host(x), to_host(observed)
    found = model.elbo(model.backend.asarray(x), lengths, eps, observed)
    assert np.array_equal(to_host(found), to_host(model.elbo(x, lengths, eps, observed)))


# ---- the exact value -----------------------------------------------------------------------------


def bound_with_gaps(posterior, x, observed):
    """The exact ELBO of a LinearGaussian, by the mean over `exact_noise`, and its exact log p(observed x)."""
    model = lg.LinearGaussian(posterior=posterior)
    chain, filled = model.chain(x), np.where(observed, x, 0)
    chain = chain._replace(info=chain.info * observed)
    noise = lg.exact_noise(len(x))
    n = noise.shape[1]
    wide = [np.repeat(a, n, axis=1) for a in (np.where(observed, x, np.nan), filled)]
    params = model.bind(filled) | {"infer": lg.POSTERIORS[posterior](chain, filled)}
    params = {group: {name: np.repeat(a, n, axis=1) for name, a in p.items()} for group, p in params.items()}
    state, total = np.zeros((n, 1)), 0
    for t in range(len(x)):
        (log_p, kl, state), _ = stepwise.step_forward(
            lg.LINEAR.at(params, t), wide[0][t], state, noise[t], observed_only(model.likelihood), lg.LINEAR,
            x_in=wide[1][t],
        )  # fmt: skip
        total = total + log_p - kl
    return total.mean(), float(lg.kalman_filter(chain, filled).log_p[0])


@pytest.mark.parametrize("posterior", lg.POSTERIORS)
def test_the_exact_likelihood_of_the_observed_steps_is_above_the_bound(posterior):
    x, observed = lg.sine(), np.ones((20, 1, 1))
    observed[[0, 5, 6, 7, 12, 19]] = 0
    elbo, exact = bound_with_gaps(posterior, x, observed)
    joint = np.subtract.outer(np.arange(20), np.arange(20))
    variance = [1.0]
    for _ in range(19):
        variance.append(0.81 * variance[-1] + 0.5)
    cov = np.array([[variance[min(i, j)] * 0.9 ** abs(joint[i, j]) for j in range(20)] for i in range(20)])
    seen = np.flatnonzero(observed[:, 0, 0])
    cov, y = cov[np.ix_(seen, seen)] + 0.5 * np.eye(len(seen)), x[seen, 0, 0]
    gauss = -0.5 * (y @ np.linalg.solve(cov, y) + np.linalg.slogdet(cov)[1] + len(y) * math.log(2 * math.pi))
    assert exact == pytest.approx(gauss, rel=1e-12)
    if posterior == "smoothing":
        assert elbo == pytest.approx(exact, rel=1e-12)
    else:
        assert elbo < exact - 0.1


# ---- mistakes ------------------------------------------------------------------------------------


def test_a_mistake_with_observed_is_one_sentence():
    model, x, lengths, eps, observed = gappy()
    calls = (
        lambda **given: model.loss_and_grads(x, lengths, eps, **given),
        lambda **given: model.chunk_loss_and_grads(x, lengths, eps, **given),
        lambda **given: model.infer(x, lengths, eps, **given),
        lambda **given: tv.Workers(1).loss_and_grads(model, x, lengths, eps, **given),
        lambda **given: bounds.iwae(model, x, lengths, 2, **given),
        lambda **given: bounds.fivo(model, x, lengths, 2, **given),
    )
    for call in calls:
        for wrong in (observed[:, :2], observed[..., :1], observed[0], 1):
            with pytest.raises(tv.DataError, match=r"Expected observed of shape \(5, 4, 4\) as x, got "):
                call(observed=wrong)
        for value in (2, -1, 0.5, np.nan):
            with pytest.raises(tv.DataError, match="observed holds other values than 0, missing, and 1"):
                call(observed=np.where(observed, 1.0, value))
    x[0, 0, 0] = np.nan
    for call in calls:
        with pytest.raises(tv.DataError, match="x holds NaN or infinite .* or mark them by observed"):
            call(observed=observed)
    with pytest.raises(tv.ConfigError, match="this model is a LinearGaussian"):
        bounds.iwae(lg.LinearGaussian(), np.zeros((3, 1, 1)), observed=np.ones((3, 1, 1)))


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "pen"])
def test_what_a_likelihood_cannot_score_is_refused_where_it_is_observed(likelihood):
    model, x, lengths, eps, observed = gappy(likelihood)
    x[1, 0] = 7.5
    assert np.isfinite(model.loss_and_grads(x, lengths, eps, observed=observed)[0])
    x[0, 0] = 7.5
    with pytest.raises(tv.DataError, match="x holds 7.5 to 7.5, but a"):
        model.loss_and_grads(x, lengths, eps, observed=observed)


def test_the_warning_of_another_scale_judges_observed_entries():
    model, x, lengths, eps, observed = gappy("gaussian")
    model.mean, model.std = np.full(4, 50.0), np.full(4, 10.0)
    far = np.where(observed, checks.rng().standard_normal(x.shape), 1e6)
    model.elbo(far, lengths, eps, observed)
    with pytest.warns(UserWarning, match="far from the standardised training data"):
        model.elbo(50 + 10 * far, lengths, eps, observed)


# ---- NaN in files --------------------------------------------------------------------------------


def file_with_gaps(path, kind="npz", low=0.0):
    """A file of 30 sequences of 6 steps of 3 numbers, a quarter NaN; the first column of the last step always is."""
    x = low + 3 * checks.rng(8).standard_normal((30, 6, 3)).cumsum(axis=1)
    x[checks.rng(9).random(x.shape) < 0.25] = np.nan
    x[:, -1, 0] = np.nan
    if kind == "csv":
        path = path / "tables"
        path.mkdir()
        for i, one in enumerate(x):
            np.savetxt(path / f"{i:02}.csv", one, delimiter=",")
        return path, x
    path = path / f"gaps.{kind}"
    (np.savez if kind == "npz" else np.save)(path, **({"x": x} if kind == "npz" else {"arr": x}))
    return path, x


@pytest.mark.parametrize("kind", ["npz", "npy", "csv", "mapped"])
def test_nan_in_a_file_is_refused_unless_it_marks_missing_values(kind, tmp_path, monkeypatch):
    if kind == "mapped":
        monkeypatch.setattr(arrays, "LARGE", 0)
    path, x = file_with_gaps(tmp_path, "npy" if kind == "mapped" else kind)
    with pytest.raises(tv.DataError, match=r"holds .?nan.?, but .* give --missing nan \(.*missing=\"nan\"\)"):
        tv.load_data(path)
    with pytest.raises(tv.DataError, match="missing"):
        tv.load_data(path, missing="zero")
    raw, data = (tv.load_data(path, standardise, missing="nan") for standardise in (False, True))
    assert np.isnan(raw.train.values).any() and data.kind == "real"
    np.testing.assert_allclose(data.mean, np.nanmean(raw.train.values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.std, np.nanstd(raw.train.values, axis=0), rtol=1e-12)
    expected = (raw.train.values - data.mean) / data.std
    np.testing.assert_allclose(data.train.values, expected, rtol=1e-6)
    assert np.isnan(data.test[:2].columns(slice(0, 1)).values).any()
    one, _ = tv.pad(data.valid)
    assert np.isnan(one).any()


def test_a_column_without_any_value_and_infinity():
    x = np.zeros((5, 2, 2))
    x[..., 0] = np.nan
    x[..., 1] = np.arange(10).reshape(5, 2)
    data = tv.Data.from_sequences("mine", x, x, x, True, missing="nan")
    assert data.mean.tolist() == [0, 4.5] and data.std[0] == 0 and not np.nan_to_num(data.train.values[:, 0]).any()
    x[0, 0, 1] = np.inf
    with pytest.raises(tv.DataError, match="holds inf"):
        tv.Data.from_sequences("mine", x, x, x, True, missing="nan")
    with pytest.raises(tv.DataError, match="holds nan"):
        tv.Data.from_sequences("mine", np.full((2, 2, 2), np.nan), x, x)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_data_with_gaps_train_and_score(likelihood):
    """Training lowers the loss; each evaluation is the sum of what the model says of each batch."""
    _, x, *_ = checks.small(likelihood, B=24)
    x = np.where(checks.rng(5).random(x.shape) < 0.8, x, np.nan).swapaxes(0, 1)
    sets = x[:16], x[16:20], x[20:]
    data = tv.Data.from_sequences("mine", *sets, standardise=False, missing="nan")
    model = tv.VRNN(x.shape[-1], 6, 2, likelihood=likelihood, components=2, dtype="float64")
    records = tv.train(model, data, epochs=3, batch=8, lr=1e-2, progress=False)
    assert records[-1]["train"]["elbo"] > records[0]["train"]["elbo"]
    whole = bounds.evaluate_elbo(model, data.test)
    assert bounds.evaluate_elbo(model, data.test, chunk=2)[0] == pytest.approx(whole[0], rel=1e-12)
    one, lengths = tv.pad(data.test, dtype="float64")
    eps = tv.noise.standard_normal((*one.shape[:2], 2), "float64", 0, "evaluate", 0)
    expected = model.elbo(one, lengths, eps, ~np.isnan(one))
    assert whole.elbo_per_sequence == pytest.approx(expected.mean(), rel=1e-12)
    for bound in ("elbo", "iwae", "fivo"):
        assert np.isfinite(bounds.evaluate(model, data.test, bound, 2).per_sequence)
    assert tv.data.baselines(data) == {}  # none can score a gap


def test_the_commands_take_gaps(tmp_path, capsys):
    path, _ = file_with_gaps(tmp_path)
    run, out = tmp_path / "run", tmp_path / "found.npz"
    words = ["train", str(path), "--epochs", "1", "--hidden", "4", "--latent", "2", "--out", str(run)]
    assert cli.main(words) == 2
    assert "give --missing nan" in capsys.readouterr().err and not run.exists()
    assert cli.main([*words, "--missing", "nan"]) == 0
    assert "AR(1)" not in capsys.readouterr().out
    assert tomllib.loads((run / "config.toml").read_text())["data"]["missing"] == "nan"
    for more in ([], ["--data", str(path)], ["--missing", "nan"]):
        for bound in ("elbo", "fivo"):
            assert cli.main(["evaluate", str(run), "--bound", bound, *more]) == 0
        assert "nan" not in capsys.readouterr().out
    assert cli.main(["infer", str(run), "--out", str(out)]) == 0
    with np.load(out) as found:
        assert all(np.isfinite(a).all() for a in found.values())


@pytest.mark.parametrize("remembered", [True, False])
def test_the_commands_continue_a_past_with_gaps(remembered, tmp_path, capsys):
    """sample and forecast, of a run that knows of gaps and of another one, write what the model draws."""
    path, x = file_with_gaps(tmp_path)
    model = tv.VRNN(3, 4, 2, likelihood="gaussian")
    model.mean, model.std = np.nanmean(x, axis=(0, 1)), np.nanstd(x, axis=(0, 1))
    model.medium = {"missing": "nan"} if remembered else {}
    tv.save(model, tmp_path / "run")
    given = [str(tmp_path / "run"), "--prime", str(path), "--steps", "2", "--out"]
    known = [] if remembered else ["--missing", "nan"]
    past = ((x - model.mean) / model.std).swapaxes(0, 1).astype("float32")
    observed = ~np.isnan(past)
    if not remembered:
        assert cli.main(["forecast", *given, str(tmp_path / "no.npz")]) == 2
        assert "give --missing nan" in capsys.readouterr().err
    assert cli.main(["forecast", *given, str(tmp_path / "f.npz"), *known]) == 0
    expected = model.forecast(past, 2, observed=observed)
    assert np.array_equal(np.load(tmp_path / "f.npz")["draws"], expected) and np.isfinite(expected).all()
    assert cli.main(["forecast", *given, str(tmp_path / "f.png"), *known]) == 0
    assert cli.main(["sample", *given, str(tmp_path / "s.npz"), *known]) == 0
    drawn = np.load(tmp_path / "s.npz")["x"]
    assert np.array_equal(drawn[:, :6], x, equal_nan=True)
    expected = model.in_raw_units(model.sample(steps=2, prime=past, observed=observed))
    assert np.array_equal(drawn[:, 6:], expected[6:].swapaxes(0, 1)) and np.isfinite(expected).all()


@pytest.mark.parametrize("options", [{}, {"posterior": "smoothing"}, {"model": "rnn"}, {"model": "vae"}], ids=str)
def test_a_past_is_continued_from_what_is_observed_of_it(options):
    """What stands at a missing entry does not matter; the networks read it as the mean, 0."""
    model, x, lengths, _, observed = gappy(**options)
    expected = model.forecast(np.where(observed, x, 0), 2, 3, lengths)
    for other in (7.0, np.nan):
        found = model.forecast(np.where(observed, x, other), 2, 3, lengths, observed=observed)
        np.testing.assert_array_equal(found, expected)
        found = model.sample(2, 3, prime=np.where(observed, x, other), observed=observed)
        np.testing.assert_array_equal(found, model.sample(2, 3, prime=np.where(observed, x, 0)))
    with pytest.raises(tv.DataError, match="observed says what of a prime is observed, and there is no prime"):
        model.sample(observed=observed)
    with pytest.raises(tv.DataError, match="Expected observed of shape"):
        model.forecast(x, 2, observed=observed[:2])


# ---- imputing ------------------------------------------------------------------------------------


@every
def test_draws_of_missing_entries_are_those_of_the_equations(likelihood, options):
    """Draw k is the likelihood's, given z_k; a mixture's weights are multiplied by the observed densities."""
    model, x, lengths, _, observed = gappy(likelihood, **options)
    found = model.impute(np.where(observed, x, np.nan), observed > 0, 3, lengths, seed=4)
    seen, real = whole_steps(observed, likelihood).astype(bool), np.arange(len(x))[:, None] < lengths
    assert found.shape == (3, *x.shape) and found.dtype == "float64"
    assert np.array_equal(found[:, real][:, seen[real]], np.stack([x[real][seen[real]]] * 3))
    eps = model._draw_eps(x, "impute", 4, 3)
    for k, draw in enumerate(found):
        outputs = list(model._outputs(model._forward(x, lengths, eps[:, :, k].copy(), observed)[2]))
        if likelihood == "gmm":
            for at in np.ndindex(x.shape[:2]):
                for j in np.flatnonzero(seen[at]):
                    of_k = ((x[at][j] - outputs[1][at][:, j]) / outputs[2][at][:, j]) ** 2
                    outputs[0][at] += -of_k / 2 - np.log(outputs[2][at][:, j])
        v = model.likelihood.noise(tv.noise.generator(4, "impute x", k), x.shape, "float64")
        gaps = ~seen & real[..., None]
        checks.assert_close(draw[gaps], model.likelihood.sample(v, *outputs)[gaps], 1e-10, "draw")
    assert not np.array_equal(model.impute(x, observed, 3, lengths, seed=5), found, equal_nan=True)


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_are_in_raw_units_as_those_of_forecast(backend, dtype):
    model, x, lengths, _, observed = gappy("gaussian", backend, dtype=dtype)
    plain = to_host(model.impute(x, model.backend.asarray(observed), 4, lengths))
    model.mean, model.std = np.arange(4.0), np.arange(1.0, 5)
    raw = model.impute(x, observed, 4, lengths)
    assert raw.dtype == "float64"
    checks.assert_close(to_host(raw), plain * np.arange(1, 5) + np.arange(4), 1e-12, "raw units")
    gaps = (observed == 0) & (np.arange(len(x))[:, None, None] < lengths[:, None])
    assert (plain.std(axis=0)[gaps] > 0).all()


def test_a_smoothing_posterior_imputes_with_what_comes_later():
    for posterior, changes in (("filtering", False), ("smoothing", True)):
        model, x, *_ = gappy(posterior=posterior)
        observed, other = np.ones_like(x), x.copy()
        observed[1], other[3] = 0, 5
        draws = [model.impute(a, observed, 2)[:, 1] for a in (x, other)]
        assert np.array_equal(*draws) != changes


def test_a_mistake_in_impute_is_one_sentence():
    model, x, lengths, _, observed = gappy()
    for draws in (0, 1.5, "9"):
        with pytest.raises(tv.ConfigError, match="draws must be a whole number"):
            model.impute(x, observed, draws)
    with pytest.raises(tv.ConfigError, match="seed must be"):
        model.impute(x, observed, seed=-1)
    with pytest.raises(tv.DataError, match="impute needs observed"):
        model.impute(x, None)
    with pytest.raises(tv.DataError, match="Expected x of shape"):
        model.impute(None, observed)
    with pytest.raises(tv.DataError, match="Expected observed of shape"):
        model.impute(x, observed[:2])
    with pytest.raises(tv.ConfigError, match="memory"):
        model.impute(x, observed, 10**12)


def test_the_script_fills_gaps_and_its_models_beat_interpolation_on_digits8(capsys, tmp_path, monkeypatch):
    """After three epochs of 500 digits, with half of the entries removed; of vowels a few sequences for the picture."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent / "scripts")
    import imputation

    x = np.array([[np.nan, 1.0], [2, np.nan], [np.nan, 5], [6, np.nan]])
    assert imputation.last_value(x).tolist() == [[0, 1], [2, 1], [2, 5], [6, 5]]
    assert imputation.linear(x).tolist() == [[2, 1], [2, 3], [4, 5], [6, 5]]
    assert imputation.linear(x * np.nan).tolist() == np.zeros((4, 2)).tolist()
    for name, value in {"DRAWS": 3, "SHARES": (0.5,), "COPIES": {"digits8": 1, "vowels": 1}}.items():
        monkeypatch.setattr(imputation, name, value)
    monkeypatch.setattr(imputation, "OPTIONS", {"batch": 32, "lr": 2e-2, "workers": 1})
    sets = {name: tv.load_data(name) for name in imputation.COPIES}
    for (name, data), n in zip(sets.items(), (500, 40)):
        sets[name] = replace(data, train=data.train[:n], valid=data.valid[: n // 5], test=data.test[: n // 5])
    monkeypatch.setattr(tv, "load_data", sets.get)
    imputation.main(["--epochs", "3", "--warmup", "1", "--out", str(tmp_path / "a.png")])
    rows = [row.split(" | ") for row in capsys.readouterr().out.splitlines() if row.startswith("| 50%")]
    assert [row[1] for row in rows[:4]] == ["last value", "linear interpolation", "VRNN, filtering", "VRNN, smoothing"]
    last, line, *models = (float(row[2]) for row in rows[:4])
    assert max(models) < min(last, line) and len(rows) == 8
    assert (tmp_path / "a.png").stat().st_size > 0


def test_a_split_without_any_observed_value_is_refused():
    x = np.zeros((4, 3, 2))
    with pytest.raises(tv.DataError, match="the valid split of gaps holds no observed value"):
        tv.Data.from_sequences("gaps", x, x * np.nan, x, missing="nan")


@pytest.mark.parametrize("bound", ["elbo", "iwae", "fivo"])
def test_a_linear_gaussian_model_takes_complete_sequences_only(bound):
    x = np.ones((4, 3, 1))
    x[0, 1] = np.nan
    data = tv.Data.from_sequences("gaps", x, x, x, standardise=False, missing="nan")
    evaluate = bounds.evaluate_elbo if bound == "elbo" else partial(bounds.evaluate, bound=bound, particles=4)
    with pytest.raises(tv.DataError, match="A LinearGaussian takes complete sequences, got missing values"):
        evaluate(lg.LinearGaussian(), data.test)


def test_gaps_in_a_sequence_that_is_mapped_and_cut_into_windows(tmp_path, monkeypatch):
    x = checks.rng(0).standard_normal((1000, 3)).astype("float32")
    x[17, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    for module, name, value in ((arrays, "LARGE", 1000), (mapped, "LONGEST", 5000), (content, "LONGEST", 5000)):
        monkeypatch.setattr(module, name, value)
    data = tv.load_data(tmp_path / "x.npy", window=100, missing="nan", standardise=False)
    np.testing.assert_array_equal(data.train[0], x[:100])


def test_uniforms_on_the_host_and_lengths_on_a_device():
    model, x, lengths, eps, uniforms = checks.small_with_particles(backend="strict")
    model.particle_filter(x, model.backend.asarray(lengths), eps, np.asarray(uniforms))
