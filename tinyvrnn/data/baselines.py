"""Baselines that a model has to beat: for each kind of data, one without memory and one with a memory of one step.

All are fitted to the training split in closed form, each dimension separately.
"""

from typing import TYPE_CHECKING

import numpy as np

from tinyvrnn.data.sequences import Sequences, has_gaps
from tinyvrnn.errors import ConfigError

if TYPE_CHECKING:
    from tinyvrnn.data.load import Data

_STEP, _LIFT = slice(0, 2), slice(2, 3)  # columns of (dx, dy, pen-up)
SIGMA_MIN = 1e-4  # the models' floor too: a constant dimension would have infinite density


def baselines(data: "Data", split: str | Sequences = "test", kind: str | None = None) -> dict[str, float]:
    """Log-likelihoods of a split that a model has to beat: without memory, and with a memory of one step.

    Parameters
    ----------
    data : Data
        The baselines are fitted to data.train, in closed form.
    split : "train", "valid", "test" or Sequences
        What they score; Sequences are on the scale of the data.
    kind : str, optional
        "binary" (Bernoulli), "real" (Gaussian), "pen" (Gaussian for (dx, dy), Bernoulli for pen-up) or "categorical"
        (one-hot symbols). None: the kind of the data.

    Returns
    -------
    dict of str to float
        Name -> nats per sequence, the mean over the sequences, in the units of the data; {} if an entry is missing.

    Raises
    ------
    ConfigError
        The kind is unknown.
    DataError
        The split is unknown.
    """
    fits = {
        "binary": {"marginal Bernoulli": marginal_bernoulli, "Markov": markov},
        "real": {"marginal Gaussian": marginal_gaussian, "AR(1)": autoregressive},
        "pen": {
            "marginal Gaussian, Bernoulli": _of_a_pen(marginal_gaussian, marginal_bernoulli),
            "AR(1), Markov": _of_a_pen(autoregressive, markov),
        },
        "categorical": {"unigram": unigram, "Markov chain": markov_chain},
    }
    kind = data.kind if kind is None else kind
    if kind not in fits:
        raise ConfigError(f"got the kind {kind!r}, but 'binary', 'real', 'pen' or 'categorical' is needed")
    other = data.split(split) if isinstance(split, str) else split
    if has_gaps(data.train) or has_gaps(other):
        return {}
    return {name: log_p(data.train, other) for name, log_p in fits[kind].items()}


def marginal_bernoulli(train, other):
    """Each pixel x_tj independently: p_tj = (k_tj + 1/2) / (n_t + 1); it is on in k_tj of n_t training sequences.

    This is the posterior mean under Jeffreys' prior Beta(1/2, 1/2): the mean of Beta(k + 1/2, n - k + 1/2).
    """
    return _bernoulli(train, other, lambda s: np.zeros(s.values.shape, dtype=np.intp))


def markov(train, other):
    """Each pixel given the same pixel one step before: p_tj|c = (k_tjc + 1/2) / (n_tjc + 1), c = x_{t-1,j} in {0, 1}.

    By the chain rule log p(x_1j .. x_Tj) = log p(x_1j) + sum_t log p(x_tj given x_{t-1,j}). The first step uses the
    marginal.
    """
    return _bernoulli(train, other, _previous_pixel)


def unigram(train, other):
    """Each symbol independently: p_k = (n_k + 1/2) / (n + K/2), where n_k of n training symbols are k (Jeffreys)."""
    return _categorical(train, other, lambda s: np.zeros(s.steps, dtype=np.intp), contexts=1)


def markov_chain(train, other):
    """Each symbol given the one before: p_k|c = (n_ck + 1/2) / (n_c + K/2), n_ck of n_c training pairs (c, k).

    The start of a sequence is one more context, so log p(x) = log p(x_1) + sum_t log p(x_t given x_{t-1}).
    """
    return _categorical(train, other, _previous_symbol, contexts=train.x_dim + 1)


def marginal_gaussian(train, other):
    """Each number independently, N(mu_j, sigma_j^2), fitted to all training steps by maximum likelihood."""
    mu, sigma = _moments(train)
    return _total(other, lambda s: _log_normal(s.values, mu, sigma).sum()) / len(other)


def autoregressive(train, other):
    """x_tj = mu_j + a_j (x_{t-1,j} - nu_j) + N(0, s_j^2), where mu and nu are the means of x_t and of x_{t-1}.

    Setting the derivatives of the training log-likelihood to 0 gives a = cov(x_t, x_{t-1}) / var(x_{t-1}), and s^2 is
    the mean squared residual. The first step uses the marginal density.
    """
    log_p = autoregressive_steps(train)
    return _total(other, lambda part: log_p(part).sum()) / len(other)


def autoregressive_steps(train):
    """The function of Sequences in memory that gives the terms of `autoregressive`, nats for each step, (steps,)."""
    mu, sigma = _moments(train)
    a, intercept, s = _regress(train, mu, sigma)

    def log_p(part):
        x, first = part.values.astype(np.float64), part.time()[:, None] == 0
        expected = np.where(first, mu, intercept + a * np.roll(x, 1, axis=0))
        return _log_normal(x, expected, np.where(first, sigma, s)).sum(axis=1)

    return log_p


def _of_a_pen(of_steps, of_lifts):
    """The sum of a baseline for (dx, dy) and one for pen-up."""

    def log_p(train, other):
        steps, lifts = ([s.columns(part) for s in (train, other)] for part in (_STEP, _LIFT))
        return of_steps(*steps) + of_lifts(*lifts)

    return log_p


def _total(sequences, of):
    """The sum of of(part) over the parts of a set that may not fit in memory as a whole."""
    total = sum(of(part) for _, part in sequences.parts())
    return float(total) if np.ndim(total) == 0 else total


# ---- Bernoulli and categorical --------------------------------------------------------------------------------------


def _bernoulli(train, other, context):
    """Nats per sequence of `other` under p[c, t, j], a probability for each context c, step t and dimension j."""
    p = _probabilities(context, train, max(train.max_steps, other.max_steps))

    def log_p(part):
        q, x = p[context(part), part.time()[:, None], np.arange(part.x_dim)], part.values.astype(np.float64)
        return (x * np.log(q) + (1 - x) * np.log1p(-q)).sum()

    return _total(other, log_p) / len(other)


def _probabilities(context, train, steps):
    """p (C, steps, X) from counts; a step beyond the longest training sequence uses the counts of all steps."""
    j = np.arange(train.x_dim)
    k, n = np.zeros((2, 3, steps, train.x_dim))
    for _, part in train.parts():
        c, t = context(part), part.time()[:, None]
        np.add.at(k, (c, t, j), part.values)
        np.add.at(n, (c, t, j), 1.0)
    p = (k + 0.5) / (n + 1)
    p[:, train.max_steps :] = ((k.sum(axis=1) + 0.5) / (n.sum(axis=1) + 1))[:, None]
    return p


def _previous_pixel(sequences):
    """(steps, X): the pixel one step before, 1 if it is at least 1/2, else 0; 2 at the first step of a sequence."""
    c = np.roll(sequences.values >= 0.5, 1, axis=0).astype(np.intp)
    c[sequences.offsets[:-1]] = 2
    return c


def _categorical(train, other, context, contexts):
    """Nats per sequence of `other` under p[c, k], a distribution over symbols for each context c."""
    n = np.zeros((contexts, train.x_dim))
    for _, part in train.parts():
        np.add.at(n, (context(part), part.values.argmax(axis=1)), 1.0)
    log_p = np.log((n + 0.5) / (n.sum(axis=1, keepdims=True) + 0.5 * train.x_dim))
    return _total(other, lambda s: log_p[context(s), s.values.argmax(axis=1)].sum()) / len(other)


def _previous_symbol(sequences):
    """(steps,): the symbol one step before; X, which is no symbol, at the first step of a sequence."""
    c = np.roll(sequences.values.argmax(axis=1), 1)
    c[sequences.offsets[:-1]] = sequences.x_dim
    return c


# ---- Gaussian -------------------------------------------------------------------------------------------------------


def _pairs(sequences):
    """x_t and x_{t-1}, each (pairs, X), for every step but the first of each sequence."""
    now = np.flatnonzero(sequences.time() > 0)
    return sequences.values[now].astype(np.float64), sequences.values[now - 1].astype(np.float64)


def _regress(train, mu, sigma):
    """a, intercept, s, each (X,); the marginal if no training sequence has two steps."""
    n = train.steps - len(train)
    if n == 0:
        return np.zeros_like(mu), mu, sigma

    def mean(of):
        return _total(train, lambda part: of(*_pairs(part)).sum(axis=-2)) / n

    nu_now, nu = mean(lambda now, before: np.stack([now, before]))
    variance = mean(lambda now, before: (before - nu) ** 2)
    covariance = mean(lambda now, before: (now - nu_now) * (before - nu))
    a = covariance / np.where(variance > 0, variance, 1.0)
    s = np.sqrt(mean(lambda now, before: (now - nu_now - a * (before - nu)) ** 2))
    return a, nu_now - a * nu, np.maximum(s, SIGMA_MIN)


def _moments(train):
    mu = _total(train, lambda s: s.values.sum(axis=0, dtype=np.float64)) / train.steps
    squares = _total(train, lambda s: ((s.values - mu) ** 2).sum(axis=0))
    return mu, np.maximum(np.sqrt(squares / train.steps), SIGMA_MIN)


def _log_normal(x, mu, sigma):
    return -0.5 * ((x - mu) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi)
