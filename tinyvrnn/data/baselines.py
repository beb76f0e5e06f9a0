"""What a model has to beat: for each kind of data one baseline without memory and one that remembers a single step.

All are fitted on the training split in closed form, dimension by dimension.
"""

import numpy as np

from tinyvrnn.data.sequences import Sequences
from tinyvrnn.errors import ConfigError

_STEP, _LIFT = slice(0, 2), slice(2, 3)  # columns of (dx, dy, pen-up)
SIGMA_MIN = 1e-4  # the models' own floor, so that a constant dimension gives nobody an infinite density


def baselines(data, split="test", kind=None):
    """name -> log-likelihood of a split in nats per sequence (mean over its sequences), in the units of the data.

    kind: "binary" or "real", that is a Bernoulli or a Gaussian likelihood, or "pen", a Gaussian for (dx, dy) and a
    Bernoulli for pen-up; None: the data's own.
    """
    fits = {
        "binary": {"marginal Bernoulli": marginal_bernoulli, "Markov": markov},
        "real": {"marginal Gaussian": marginal_gaussian, "AR(1)": autoregressive},
        "pen": {
            "marginal Gaussian, Bernoulli": _of_a_pen(marginal_gaussian, marginal_bernoulli),
            "AR(1), Markov": _of_a_pen(autoregressive, markov),
        },
    }
    kind = data.kind if kind is None else kind
    if kind not in fits:
        raise ConfigError(f"got the kind {kind!r}, but 'binary', 'real' or 'pen' is needed")
    return {name: log_p(data.train, data.split(split)) for name, log_p in fits[kind].items()}


def marginal_bernoulli(train, other):
    """Each pixel x_tj alone: p_tj = (k_tj + 1/2) / (n_t + 1), k_tj of n_t training sequences having it on.

    That is the posterior mean under Jeffreys' prior Beta(1/2, 1/2): Beta(k + 1/2, n - k + 1/2) has this mean.
    """
    return _bernoulli(train, other, lambda s: np.zeros(s.values.shape, dtype=np.intp))


def markov(train, other):
    """Each pixel given the same pixel one step before: p_tj|c = (k_tjc + 1/2) / (n_tjc + 1), c = x_{t-1,j} in {0, 1}.

    By the chain rule log p(x_1j .. x_Tj) = log p(x_1j) + sum_t log p(x_tj given x_{t-1,j}); the first is the marginal.
    """
    return _bernoulli(train, other, _previous_pixel)


def marginal_gaussian(train, other):
    """Each number alone, N(mu_j, sigma_j^2), with the mean and deviation of all training steps (maximum likelihood)."""
    mu, sigma = _moments(train.values.astype(np.float64))
    return float(_log_normal(other.values, mu, sigma).sum() / len(other))


def autoregressive(train, other):
    """x_tj = mu_j + a_j (x_{t-1,j} - nu_j) + N(0, s_j^2), mu and nu the means of the present and the previous step.

    Setting to 0 the derivatives of the training log-likelihood in mu + a nu, a and s gives a = cov(x_t, x_{t-1}) /
    var(x_{t-1}), and s^2 the mean square of what is left. The first step has the marginal density.
    """
    mu, sigma = _moments(train.values.astype(np.float64))
    a, intercept, s = _regress(train, mu, sigma)
    now, before = _pairs(other)
    first = other.values[other.offsets[:-1]]
    total = _log_normal(first, mu, sigma).sum() + _log_normal(now, intercept + a * before, s).sum()
    return float(total / len(other))


def _of_a_pen(of_steps, of_lifts):
    """The sum of a baseline of (dx, dy) and one of pen-up."""

    def log_p(train, other):
        steps, lifts = ([Sequences(s.values[:, part], s.lengths) for s in (train, other)] for part in (_STEP, _LIFT))
        return of_steps(*steps) + of_lifts(*lifts)

    return log_p


def _bernoulli(train, other, context):
    """Nats per sequence of `other` under p[c, t, j], one probability for each context c, step t and dimension j."""
    p = _probabilities(context(train), train, max(train.max_steps, other.max_steps))
    p = p[context(other), other.time()[:, None], np.arange(other.x_dim)]
    x = other.values.astype(np.float64)
    return float((x * np.log(p) + (1 - x) * np.log1p(-p)).sum() / len(other))


def _probabilities(c, train, steps):
    """p (C, steps, X) by counting; a step that no training sequence reaches takes the counts of all steps together."""
    t, j = train.time(), np.arange(train.x_dim)
    k, n = np.zeros((2, 3, steps, train.x_dim))
    np.add.at(k, (c, t[:, None], j), train.values)
    np.add.at(n, (c, t[:, None], j), 1.0)
    p = (k + 0.5) / (n + 1)
    p[:, train.max_steps :] = ((k.sum(axis=1) + 0.5) / (n.sum(axis=1) + 1))[:, None]
    return p


def _previous_pixel(sequences):
    """(steps, X): 1 or 0, the pixel one step before on or off (on from 1/2, for grey levels); 2 where there is none."""
    c = np.roll(sequences.values >= 0.5, 1, axis=0).astype(np.intp)
    c[sequences.offsets[:-1]] = 2
    return c


def _pairs(sequences):
    """x_t and x_{t-1}, each (pairs, X), for every step that has one before it."""
    now = np.flatnonzero(sequences.time() > 0)
    return sequences.values[now].astype(np.float64), sequences.values[now - 1].astype(np.float64)


def _regress(train, mu, sigma):
    """a, intercept, s, each (X,); with no pair of steps to learn from, the marginal."""
    now, before = _pairs(train)
    if len(now) == 0:
        return np.zeros_like(mu), mu, sigma
    d_now, d_before = now - now.mean(axis=0), before - before.mean(axis=0)
    variance = (d_before**2).mean(axis=0)
    a = (d_now * d_before).mean(axis=0) / np.where(variance > 0, variance, 1.0)
    s = np.sqrt(((d_now - a * d_before) ** 2).mean(axis=0))
    return a, now.mean(axis=0) - a * before.mean(axis=0), np.maximum(s, SIGMA_MIN)


def _moments(values):
    return values.mean(axis=0), np.maximum(values.std(axis=0), SIGMA_MIN)


def _log_normal(x, mu, sigma):
    return -0.5 * ((x - mu) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi)
