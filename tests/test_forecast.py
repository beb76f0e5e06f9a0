"""Forecasts: draws of what follows sequences of unequal lengths, their intervals, the fan chart and the command.

Catches: a sequence that continues from the padding, draws that share the latents of the past (intervals too narrow),
draws that are paired with another sequence, standardised numbers called raw, bands drawn around another sequence.
"""

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.models import MODELS

VARIANTS = [*({"model": model} for model in MODELS), {"posterior": "smoothing"}, {"cell": "lstm", "model": "rnn"}]


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_draws_are_in_raw_units_and_padding_is_nothing(options, likelihood, dtype, backend):
    m, x, lengths, _ = checks.small(likelihood, backend, dtype=dtype, **options)
    drawn = m.forecast(x, 2, 3, lengths)
    assert drawn.shape == (3, 2, *x.shape[1:]) and drawn.dtype == dtype
    assert tv.backend.backend_of(drawn) == m.backend
    x = x.copy()
    x[np.arange(len(x))[:, None] >= lengths] = np.nan
    m.mean, m.std = np.full(m.x_dim, 5.0), np.arange(1.0, m.x_dim + 1)
    raw = to_host(drawn) * np.arange(1, m.x_dim + 1) + 5
    np.testing.assert_allclose(to_host(m.forecast(x, 2, 3, lengths)), raw, rtol=1e-6)
    assert not np.array_equal(to_host(m.forecast(x, 2, 3, lengths, seed=1)), raw)


@pytest.mark.parametrize("model", ["vrnn", "rnn"])
def test_each_sequence_continues_from_its_own_end(model):
    coins, lengths = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0.0]])[..., None], np.array([1, 2, 3, 1])
    drawn = checks.coin_that_stays(model).forecast(coins, 3, 2, lengths)
    last = coins[lengths - 1, np.arange(4)]
    assert np.array_equal(drawn, np.broadcast_to(last, drawn.shape))


def of_a_hidden_coin():
    """A VRNN-I whose x_1 says nothing of z_1, on which x_2 depends: its posterior N(0, I) of z_1 is the exact one."""
    model, *_ = checks.small("gaussian", model="vrnn-i", scale=1.0, seed=2)
    p = model.params
    p["generate"]["W1"][: model.features] = 0  # x_t depends on h_{t-1} alone
    p["infer"]["W_out"][...] = 0
    p["infer"]["b_out"][...] = [0, 0, *[np.log(np.expm1(1 - 1e-4))] * 2]
    return model, np.ones(600, int)


def of_the_past():
    model, *_ = checks.small("gaussian", model="rnn", scale=1.0)
    return model, checks.rng(3).integers(1, 6, 600)


@pytest.mark.parametrize("make", [of_a_hidden_coin, of_the_past])
def test_intervals_cover_data_from_the_model_itself_as_often_as_they_say(make):
    """One number of each sequence, so that they are independent. With 199 draws, 200 ranks are equally likely."""
    model, lengths = make()
    n, steps = len(lengths), 2
    x = model.sample(n, lengths.max() + steps, seed=8)
    drawn = np.sort(model.forecast(x[: lengths.max()], steps, 199, lengths, seed=9), axis=0)
    for step, share in ((0, 0.5), (0, 0.9), (1, 0.5), (1, 0.9)):
        truth, column = x[lengths + step, np.arange(n)], step + 1
        low, high = (drawn[round(200 * q) - 1, step, :, column] for q in (0.5 - share / 2, 0.5 + share / 2))
        covered = ((low < truth[:, column]) & (truth[:, column] < high)).mean()
        assert abs(covered - share) < 3.5 * np.sqrt(share * (1 - share) / n), f"{share:.0%} covers {covered:.1%}"


@pytest.mark.parametrize(
    "given, says",
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"draws": 0}, "draws must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be"),
        ({"lengths": [1, 2]}, r"lengths of shape \(4,\), whole numbers from 1 to 5"),
        ({"lengths": [1, 2, 3, 6]}, r"lengths of shape \(4,\), whole numbers from 1 to 5"),
        ({"x": np.zeros((5, 4))}, r"x of shape \(T, B, 4\)"),
        ({"x": np.zeros((5, 4, 2))}, r"x of shape \(T, B, 4\)"),
        ({"x": np.full((5, 4, 4), np.nan)}, "x holds NaN"),
        ({"steps": 10**15}, "sequences of 1,000,000,000,000,000 steps"),
    ],
    ids=str,
)
def test_a_forecast_of_nothing_is_refused(given, says):
    m, x, *_ = checks.small("gaussian")
    with pytest.raises(tv.TinyvrnnError, match=says):
        m.forecast(**({"x": x, "steps": 2} | given))
