"""Baselines that a model has to beat: for each kind of data, one without memory and one with a short memory.

All are fitted to the training split in closed form, each dimension separately; the validation split chooses between
two binary ones, and the order of the autoregression of sound.
"""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tinyvrnn.arrays.ranks import current
from tinyvrnn.data.sequences import Sequences, as_sequences, check_same_dimension, has_gaps
from tinyvrnn.errors import ConfigError

if TYPE_CHECKING:
    from tinyvrnn.data.load import Data

SIGMA_MIN = 1e-4  # the models' floor too: a constant dimension would have infinite density
ORDERS = (1, 2, 4, 8, 16, 32)  # of an autoregression of samples


class Baseline(float):
    """A mean log-likelihood in nats per sequence, with the number of fitted parameters."""

    def __new__(cls, value, parameters):
        self = super().__new__(cls, value)
        self.parameters = int(parameters)
        return self


def baselines(data: "Data", split: str | Sequences = "test", kind: str | None = None) -> dict[str, float]:
    """Log-likelihoods of a split that a model has to beat: without memory, and with a short one.

    Parameters
    ----------
    data : Data
        The baselines are fitted to data.train, in closed form; where there is a choice, data.valid decides.
    split : "train", "valid", "test", Sequences, or list of arrays (T_i, X)
        What they score; sequences are on the scale of the data.
    kind : str, optional
        "binary" (Bernoulli), "real" (Gaussian), "pen" (Gaussian for (dx, dy), Bernoulli for pen-up) or "categorical"
        (one-hot symbols). None: the kind of the data.

    Returns
    -------
    dict of str to float
        Name -> nats per sequence, the mean over the sequences, in the units of the data; {} if an entry is missing.
        Each number has an attribute `parameters`: how many were fitted.

    Raises
    ------
    ConfigError
        The kind is unknown.
    DataError
        The split is unknown, or these are no sequences of as many numbers in a step.
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
    other = data.split(split) if isinstance(split, str) else as_sequences(split)
    check_same_dimension(data.name, {"train": data.train, "what they score": other})
    if any(map(has_gaps, (data.train, data.valid, other))):
        return {}
    if kind == "real" and data.medium.get("name") == "sound":
        fits["real"] = {"marginal Gaussian": marginal_gaussian, "AR of samples": autoregressive_samples}
    elif kind == "real" and not data.std.all():
        fits["real"] = {name: partial(log_p, scored=data.std > 0) for name, log_p in fits["real"].items()}
    found = np.zeros((len(fits[kind]), 2))
    for i, log_p in enumerate(fits[kind].values()):
        if i % current().size == current().rank:  # among ranks, each fits some
            found[i] = (value := log_p(data.train, data.valid, other)), value.parameters
    return {name: Baseline(*row) for name, row in zip(fits[kind], current().sum(found).tolist())}


def marginal_bernoulli(train, valid, other):
    """Each pixel x_tj independently: p_tj = (k_tj + 1/2) / (n_t + 1); it is on in k_tj of n_t training sequences.

    This is the posterior mean under Jeffreys' prior Beta(1/2, 1/2): the mean of Beta(k + 1/2, n - k + 1/2). Or one p_j
    for all steps, if the validation split is likelier under that.
    """
    return _bernoulli(train, valid, other, lambda s: np.zeros(s.values.shape, dtype=np.intp), memory=1)


def markov(train, valid, other):
    """Each pixel given the same pixel one step before: p_tj|c = (k_tjc + 1/2) / (n_tjc + 1), c = x_{t-1,j} in {0, 1}.

    By the chain rule log p(x_1j .. x_Tj) = log p(x_1j) + sum_t log p(x_tj given x_{t-1,j}). The first step uses the
    marginal. Or one p_j|c for all steps, if the validation split is likelier under that.
    """
    return _bernoulli(train, valid, other, _previous_pixel, memory=2)


def unigram(train, valid, other):
    """Each symbol independently: p_k = (n_k + 1/2) / (n + K/2), where n_k of n training symbols are k (Jeffreys)."""
    return _categorical(train, other, lambda s: np.zeros(s.steps, dtype=np.intp), contexts=1)


def markov_chain(train, valid, other):
    """Each symbol given the one before: p_k|c = (n_ck + 1/2) / (n_c + K/2), n_ck of n_c training pairs (c, k).

    The start of a sequence is one more context, so log p(x) = log p(x_1) + sum_t log p(x_t given x_{t-1}).
    """
    return _categorical(train, other, _previous_symbol, contexts=train.x_dim + 1)


def marginal_gaussian(train, valid, other, scored=slice(None)):
    """Each number independently, N(mu_j, sigma_j^2), fitted to all training steps by maximum likelihood.

    scored: the columns to score, (X,) booleans.
    """
    mu, sigma = (moment[scored] for moment in _moments(train))
    total = _total(other, lambda s: _log_normal(s.values[:, scored], mu, sigma).sum())
    return Baseline(total / len(other), 2 * len(mu))


def autoregressive(train, valid, other, scored=slice(None)):
    """x_tj = mu_j + a_j (x_{t-1,j} - nu_j) + N(0, s_j^2), where mu and nu are the means of x_t and of x_{t-1}.

    Setting the derivatives of the training log-likelihood to 0 gives a = cov(x_t, x_{t-1}) / var(x_{t-1}), and s^2 is
    the mean squared residual. The first step uses the marginal density.
    """
    log_p = autoregressive_steps(train, scored)
    parameters = 5 * len(np.arange(train.x_dim)[scored])
    return Baseline(_total(other, lambda part: log_p(part).sum()) / len(other), parameters)


def autoregressive_steps(train, scored=slice(None)):
    """The function of Sequences in memory that gives the terms of `autoregressive`, nats for each step, (steps,)."""
    mu, sigma = _moments(train)
    mu, sigma, a, intercept, s = (each[scored] for each in (mu, sigma, *_regress(train, mu, sigma)))

    def log_p(part):
        x, first = part.values[:, scored].astype(np.float64), part.time()[:, None] == 0
        expected = np.where(first, mu, intercept + a * np.roll(x, 1, axis=0))
        return _log_normal(x, expected, np.where(first, sigma, s)).sum(axis=1)

    return log_p


def autoregressive_samples(train, valid, other):
    """w_n = mu + sum_i a_i (w_{n-i} - mu) + N(0, s^2), n over the samples of a waveform; before its start w is mu.

    a solves the normal equations of the training split; the validation split chooses the order among ORDERS.
    """
    mu = _moments(train)[0].mean()
    fitted_on, chosen_on, scored = ((_products(s, mu, max(ORDERS)), s.steps * s.x_dim) for s in (train, valid, other))

    def nats(order, of):
        k, (G, n) = order + 1, fitted_on
        a = np.append(1.0, -np.linalg.lstsq(G[1:k, 1:k], G[1:k, 0], rcond=None)[0])  # the residual's coefficients
        s = max(np.sqrt(max(a @ G[:k, :k] @ a, 0) / n), SIGMA_MIN)
        G, n = of
        return -0.5 * (a @ G[:k, :k] @ a) / s**2 - n * (np.log(s) + 0.5 * np.log(2 * np.pi))

    order = max(ORDERS, key=lambda order: nats(order, chosen_on))
    return Baseline(nats(order, scored) / len(other), order + 2)


def _products(sequences, mu, longest):
    """G[i, j] = sum_n w_{n-i} w_{n-j} over all samples of all waveforms less mu, i and j up to `longest`."""
    G = np.zeros((longest + 1, longest + 1))
    for _, part in sequences.parts():
        for x in part:
            w = np.pad(x.astype(np.float64).ravel() - mu, (longest, 0))
            lags = np.lib.stride_tricks.sliding_window_view(w, longest + 1)[:, ::-1]
            for some in np.array_split(lags, len(lags) // 2**16 + 1):  # a product copies its operands
                G += some.T @ some
    return G


def _of_a_pen(of_steps, of_lifts):
    """The sum of a baseline for (dx, dy) and one for pen-up."""

    def log_p(*splits):
        steps, lifts = ([s.columns(part) for s in splits] for part in (slice(0, 2), slice(2, 3)))
        both = of_steps(*steps), of_lifts(*lifts)
        return Baseline(sum(both), sum(one.parameters for one in both))

    return log_p


def _total(sequences, of):
    """The sum of of(part) over the parts of a set that may not fit in memory as a whole."""
    return sum(of(part) for _, part in sequences.parts())


def _bernoulli(train, valid, other, context, memory):
    """The Baseline of p[c, t, j] or p[c, j]: context c, one of `memory` after the first step, step t, dimension j."""

    def nats(sequences, p):
        def log_p(part):
            q, x = p[context(part), part.time()[:, None], np.arange(part.x_dim)], part.values.astype(np.float64)
            return (x * np.log(q) + (1 - x) * np.log1p(-q)).sum()

        return _total(sequences, log_p) / len(sequences)

    by_step, alike = _probabilities(context, train, max(s.max_steps for s in (train, valid, other)))
    if nats(valid, by_step) > nats(valid, alike):
        return Baseline(nats(other, by_step), train.x_dim * (1 + memory * (train.max_steps - 1)))
    return Baseline(nats(other, alike), train.x_dim * (1 if memory == 1 else 1 + memory))


def _probabilities(context, train, steps):
    """p (C, steps, X) from counts at each step, and from those of all steps, as are steps beyond the longest."""
    j = np.arange(train.x_dim)
    k, n = np.zeros((2, 3, steps, train.x_dim))
    for _, part in train.parts():
        c, t = context(part), part.time()[:, None]
        np.add.at(k, (c, t, j), part.values)
        np.add.at(n, (c, t, j), 1.0)
    p = (k + 0.5) / (n + 1)
    alike = np.broadcast_to((k.sum(axis=1, keepdims=True) + 0.5) / (n.sum(axis=1, keepdims=True) + 1), p.shape)
    p[:, train.max_steps :] = alike[:, train.max_steps :]
    return p, alike


def _previous_pixel(sequences):
    """(steps, X): the pixel one step before, 1 if it is at least 1/2, else 0; 2 at the first step of a sequence."""
    c = np.roll(sequences.values >= 0.5, 1, axis=0).astype(np.intp)
    c[sequences.offsets[:-1]] = 2
    return c


def _categorical(train, other, context, contexts):
    """The Baseline of p[c, k], a distribution over symbols for each context c."""
    n = np.zeros((contexts, train.x_dim))
    for _, part in train.parts():
        np.add.at(n, (context(part), part.values.argmax(axis=1)), 1.0)
    log_p = np.log((n + 0.5) / (n.sum(axis=1, keepdims=True) + 0.5 * train.x_dim))
    total = _total(other, lambda s: log_p[context(s), s.values.argmax(axis=1)].sum())
    return Baseline(total / len(other), contexts * (train.x_dim - 1))


def _previous_symbol(sequences):
    """(steps,): the symbol one step before; X, which is no symbol, at the first step of a sequence."""
    c = np.roll(sequences.values.argmax(axis=1), 1)
    c[sequences.offsets[:-1]] = sequences.x_dim
    return c


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
