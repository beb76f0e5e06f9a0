"""The bug museum of notebook 11: a small VRNN in parts, each part in a correct and a wrong version, and the checks.

The model draws a pen: x_t is a position (Gaussian) and a pen-up flag (a coin); z_t has two dimensions, every network is
one linear layer. It follows the habits of public code: heads output log-variances, and gradients come from automatic
differentiation. `slope` replaces the latter: a complex step, exact to the last digit.

    Program     the model, a NamedTuple of its parts; wrong = RIGHT._replace(kl=kl_without_its_1)
    EXHIBITS    the bugs: {name: (wrong program, correct program)}
    CHECKS      the checks: {name: a function that raises AssertionError if a program fails}
    matrix()    which check sees which bug, found by running every check on every bug
"""

import math
import textwrap
from functools import cache
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.params import size, views
from tinyvrnn.gradcheck import rel_error
from tinyvrnn.nn.activations import sigmoid, softplus
from tinyvrnn.nn.gru import gru_forward

X, Z, H = 2, 2, 3
SHAPES = {
    "gru": {"W": (X + Z, 3 * H), "b": (3 * H,), "U": (H, 3 * H), "c": (3 * H,)},
    "lstm": {"W": (X + Z + H, 4 * H), "b": (4 * H,)},
    "prior": {"W": (H, 2 * Z), "b": (2 * Z,)},
    "infer": {"W": (X + H, 2 * Z), "b": (2 * Z,)},
    "generate": {"W": (Z + H, 3), "b": (3,)},
}
WINDOW = 5  # steps between two cuts of truncated backpropagation


# ---- the Gaussian --------------------------------------------------------------------------------


def log_var_of(s):
    return s


def log_var_by_relu(s):
    return np.where(s.real > 0, s, 0 * s)  # max(s, 0)


def draw(mu, log_var, eps):
    return mu + np.exp(0.5 * log_var) * eps


def draw_with_exp_log_var(mu, log_var, eps):
    std = np.exp(log_var)
    return mu + std * eps


def kl(mu_z, log_var_z, mu_0, log_var_0):
    ratio = (np.exp(log_var_z) + (mu_z - mu_0) ** 2) / np.exp(log_var_0)
    return 0.5 * (log_var_0 - log_var_z + ratio - 1).sum(axis=-1)


def kl_without_its_1(mu_z, log_var_z, mu_0, log_var_0):
    ratio = (np.exp(log_var_z) + (mu_z - mu_0) ** 2) / np.exp(log_var_0)
    return 0.5 * (log_var_0 - log_var_z + ratio).sum(axis=-1)


# ---- the likelihood ------------------------------------------------------------------------------


def log_coin(x, a):
    return x * a - softplus(a)


def log_coin_of_probabilities(x, a, eps=1e-10):
    p = sigmoid(a)
    return x * np.log(p + eps) + (1 - x) * np.log(1 - p - eps)


def log_normal(x, mu, log_var):
    return -0.5 * ((x - mu) ** 2 / np.exp(log_var) + log_var + math.log(2 * math.pi))


def same_step(x):
    return x


def next_step(x):
    return np.roll(x, -1, axis=0)  # targets = x[1:], the habit of language models


# ---- the state -----------------------------------------------------------------------------------


def gru(p, x, state):
    h, c = state
    return gru_forward(p["gru"], x, h)[0], c


def gru_without_bias(p, x, state):
    no_bias = {"b": 0 * p["gru"]["b"], "c": 0 * p["gru"]["c"]}
    h, c = state
    return gru_forward(p["gru"] | no_bias, x, h)[0], c


def lstm(p, x, state):
    h, c = state
    a = np.concatenate([x, h], axis=-1) @ p["lstm"]["W"] + p["lstm"]["b"]
    i, f, o = (sigmoid(a[..., k * H : (k + 1) * H]) for k in range(3))
    c = f * c + i * np.tanh(a[..., 3 * H :])
    return o * np.tanh(c), c


def read_h(state):
    h, c = state
    return h


def read_c(state):
    c, h = state  # the order of another library
    return h


def zeros(program, B):
    return np.zeros((B, H)), np.zeros((B, H))


def last_state(program, B):
    h, c = program.kept.get("state", zeros(program, B))
    return (h, c) if len(h) == B else zeros(program, B)


def linked(t, state):
    return state


def cut(t, state):
    return tuple(detach(s) for s in state) if t % WINDOW == 0 else state


# ---- sampling, training, numbers -----------------------------------------------------------------


def feed_sample(sample, mean):
    return sample


def feed_mean(sample, mean):
    return mean


def clip(grads, max_norm):
    """Scale grads in place to a norm of at most max_norm."""
    grads *= min(1.0, max_norm / np.linalg.norm(grads))


def clip_then_step(theta, grads, lr, max_norm):
    clip(grads, max_norm)
    theta -= lr * grads


def step_then_clip(theta, grads, lr, max_norm):
    theta -= lr * grads
    clip(grads, max_norm)


def keep_copy(theta):
    return theta.copy()


def keep_alias(theta):
    return theta


def total(log_p, kl, mask):
    return ((kl - log_p) * mask).sum() / mask.shape[1]


def frames_and_sequences(log_p, kl, mask):
    reconstruction = -(log_p * mask).sum() / mask.sum()
    return reconstruction + (kl * mask).sum() / mask.shape[1]


def nats_per_step(nats, lengths):
    return nats.sum() / lengths.sum()


def mean_of_means(nats, lengths):
    return (nats / lengths).mean()


# ---- the program ---------------------------------------------------------------------------------


class Program(NamedTuple):
    """A VRNN in parts. `kept`: the state that the object stores between calls."""

    log_var: object = log_var_of
    draw: object = draw
    kl: object = kl
    log_coin: object = log_coin
    target: object = same_step
    cell: object = gru
    read: object = read_h
    start: object = zeros
    link: object = linked
    feed: object = feed_sample
    step: object = clip_then_step
    keep: object = keep_copy
    loss: object = total
    per_step: object = nats_per_step
    kept: dict = {}


RIGHT = Program()
RIGHT_LSTM = Program(cell=lstm)


def heads(p, name, *inputs):
    return np.concatenate(inputs, axis=-1) @ p[name]["W"] + p[name]["b"]


def gaussian(program, o):
    """The mean and the log-variance of a head's output o (..., 2Z)."""
    return o[..., :Z], program.log_var(o[..., Z:])


def terms(program, theta, x, eps):
    """log p(x_t | z_<=t, x_<t) and the KL at every step, (T, B) each. x (T, B, 2), eps (T, B, 2)."""
    p, state = views(theta, SHAPES), program.start(program, x.shape[1])
    log_p, kl, target = [], [], program.target(x)
    for t in range(len(x)):
        state = program.link(t, state)
        h = program.read(state)
        prior = gaussian(program, heads(p, "prior", h))
        posterior = gaussian(program, heads(p, "infer", x[t], h))
        z = program.draw(*posterior, eps[t])
        o = heads(p, "generate", z, h)
        position = log_normal(target[t, :, 0], o[:, 0], o[:, 1])
        log_p.append(position + program.log_coin(target[t, :, 1], o[:, 2]))
        kl.append(program.kl(*posterior, *prior))
        state = program.cell(p, np.concatenate([x[t], z], axis=-1), state)
    program.kept["state"] = tuple(detach(s) for s in state)
    return np.stack(log_p), np.stack(kl)


def loss(program, theta, x, eps, lengths):
    """The negative ELBO, averaged over the sequences, in nats."""
    mask = (np.arange(len(x))[:, None] < lengths).astype(float)
    return program.loss(*terms(program, theta, np.where(mask[..., None] > 0, x, 0), eps), mask)


def sample(program, theta, n, steps, seed=0):
    """x (steps, n, 2), drawn by Eq. 8; program.feed chooses what is fed back into the state."""
    rng, p, state, xs = np.random.default_rng(seed), views(theta, SHAPES), zeros(program, n), []
    for _ in range(steps):
        h = program.read(state)
        z = program.draw(*gaussian(program, heads(p, "prior", h)), rng.standard_normal((n, Z)))
        o = heads(p, "generate", z, h)
        mean = np.stack([o[:, 0], sigmoid(o[:, 2])], axis=-1)
        position = o[:, 0] + np.exp(0.5 * o[:, 1]) * rng.standard_normal(n)
        xs.append(np.stack([position, rng.random(n) < mean[:, 1]], axis=-1))
        state = program.cell(p, np.concatenate([program.feed(xs[-1], mean), z], axis=-1), state)
    return np.stack(xs)


def train(program, theta, gradient, valid, steps=20, lr=0.1, max_norm=1.0):
    """Gradient descent from theta. Returns the weights with the lowest validation loss, and that loss."""
    theta, best, lowest = theta.copy(), None, math.inf
    for k in range(steps):
        program.step(theta, gradient(theta, k), lr, max_norm)
        if valid(theta) < lowest:
            best, lowest = program.keep(theta), valid(theta)
    return best, lowest


# ---- automatic differentiation, in two lines -----------------------------------------------------


def slope(f, theta, v):
    """The derivative of f at theta in the direction v, as automatic differentiation computes it.

    f(theta + i h v) = f(theta) + i h (df . v) - O(h^2): the imaginary part is the slope, and nothing is subtracted.
    """
    h = 1e-30
    return f(theta + 1j * h * v).imag / h


def detach(a):
    """The value without its derivative."""
    return a.real


# ---- models set by hand, with known answers ------------------------------------------------------


def random_theta(seed=0):
    return 0.4 * np.random.default_rng(seed).standard_normal(size(SHAPES))


def batch(T=4, B=3, seed=0):
    """x (T, B, 2), eps (T, B, 2), lengths (B,): a ragged batch, whose first sequence has full length."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.standard_normal((T, B)), rng.integers(0, 2, (T, B))], axis=-1)
    return x, rng.standard_normal((T, B, Z)), np.array([T, *rng.integers(1, T, B - 1)])


NOISE = 0.5  # variance of the position around z, in the exact case


def exact_case(program):
    """theta of a linear-Gaussian pen: z_t ~ N(w.h_{t-1}, 1), position ~ N(z_t, 1/2), and q is the exact posterior.

    The coin depends only on its bias, and h_t only on x_<=t, so the future carries no information about z_t.
    """
    theta, w = 3 * random_theta(7), np.array([0.9, -0.6, 0.4])
    p, gain = views(theta, SHAPES), 1 / (1 + NOISE)
    p["gru"]["W"][X:] = p["lstm"]["W"][X : X + Z] = 0  # z does not reach the state
    for name in ("prior", "infer", "generate"):
        p[name]["W"][...] = p[name]["b"][...] = 0
    p["prior"]["W"][:, 0] = w
    p["infer"]["W"][0, 0], p["infer"]["W"][X:, 0] = gain, (1 - gain) * w
    p["infer"]["b"][Z] = math.log(NOISE * gain)
    p["generate"]["W"][0, 0] = 1
    p["generate"]["b"][1:] = math.log(NOISE), 0.8
    return theta, w


def exact_log_p(program, theta, w, x):
    """log p(x) of the exact case for x (T, 2): each position is N(w.h_{t-1}, 1 + 1/2), each coin has logit 0.8."""
    by_scalars = lstm_by_scalars if program.cell is lstm else gru_by_scalars
    p, state, log_p = views(theta, SHAPES), ([0.0] * H, [0.0] * H), 0.0
    for position, coin in x:
        mean, variance = sum(a * b for a, b in zip(w, state[0])), 1 + NOISE
        log_p -= 0.5 * ((position - mean) ** 2 / variance + math.log(2 * math.pi * variance))
        log_p -= math.log1p(math.exp(-0.8 if coin else 0.8))
        state = by_scalars(p, (position, coin, 0.0, 0.0), state)
    return log_p


def _sigma(a):
    return 1 / (1 + math.exp(-a))


def _row(v, W, b, column):
    return sum(vi * W[i, column] for i, vi in enumerate(v)) + b[column]


def gru_by_scalars(p, x, state):
    h, W, b, U, c = state[0], *(p["gru"][name] for name in "WbUc")
    new = []
    for j in range(H):
        r, u = (_sigma(_row(x, W, b, k * H + j) + _row(h, U, c, k * H + j)) for k in (0, 1))
        n = math.tanh(_row(x, W, b, 2 * H + j) + r * _row(h, U, c, 2 * H + j))
        new.append((1 - u) * n + u * h[j])
    return new, state[1]


def lstm_by_scalars(p, x, state):
    (h, c), W, b = state, p["lstm"]["W"], p["lstm"]["b"]
    new_h, new_c, xh = [], [], (*x, *h)
    for j in range(H):
        i, f, o = (_sigma(_row(xh, W, b, k * H + j)) for k in range(3))
        new_c.append(f * c[j] + i * math.tanh(_row(xh, W, b, 3 * H + j)))
        new_h.append(o * math.tanh(new_c[j]))
    return new_h, new_c


def pen_that_stays():
    """theta of a model whose first coin is fair and whose other coins repeat it; z ~ N(0, 4), position ~ N(z, 1).

    The gates discard the old state, so the state is about tanh(20 coin - 10), and the next coin's logit 50 times that.
    """
    theta = np.zeros(size(SHAPES))
    p = views(theta, SHAPES)
    p["gru"]["W"][1, 2 * H] = p["lstm"]["W"][1, 3 * H] = 20
    p["gru"]["b"][H : 2 * H], p["gru"]["b"][2 * H] = -60, -10
    p["lstm"]["b"][...] = np.repeat([60, -60, 60, 0], H)
    p["lstm"]["b"][3 * H] = -10
    p["prior"]["b"][Z] = math.log(4)
    p["generate"]["W"][0, 0], p["generate"]["W"][Z, 2] = 1, 50
    return theta


# ---- the checks ----------------------------------------------------------------------------------


def loss_falls(program):
    """Two small steps of gradient descent lower the loss: what a training curve shows."""
    theta, (x, eps, lengths) = random_theta(), batch()
    losses, directions = [], np.eye(theta.size)
    for _ in range(3):
        f = lambda th: loss(program, th, x, eps, lengths)  # noqa: E731
        losses.append(f(theta))
        theta = theta - 0.02 * np.array([slope(f, theta, v) for v in directions])
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def gradient_check(program, T=WINDOW - 1):
    """In five random directions the gradient equals a central difference, to 1e-6."""
    theta, (x, eps, lengths), rng = random_theta(), batch(T), np.random.default_rng(1)
    f = lambda th: loss(program, th, x, eps, lengths)  # noqa: E731
    for v in rng.standard_normal((5, theta.size)):
        numeric = (f(theta + 1e-5 * v) - f(theta - 1e-5 * v)) / 2e-5
        assert rel_error(slope(f, theta, v), numeric) < 1e-6


def long_gradient_check(program):
    """The same on sequences longer than the window of truncated backpropagation."""
    gradient_check(program, T=3 * WINDOW)


def moments(program, n=20_000):
    """Draws of N(mu, sigma^2) have mean mu and variance sigma^2, within 4 standard errors."""
    mu, sigma = np.array([-1.0, 2.0]), np.array([0.3, 1.7])
    o = np.tile(np.concatenate([mu, np.log(sigma**2)]), (n, 1))
    z = program.draw(*gaussian(program, o), np.random.default_rng(2).standard_normal((n, Z)))
    within(z, mu)
    within((z - mu) ** 2, sigma**2)


def monte_carlo_kl(program, n=20_000):
    """The KL is the mean of log q(z) - log p(z) over draws from q, within 4 standard errors."""
    rng = np.random.default_rng(3)
    mu_z, log_var_z, mu_0, log_var_0 = 0.5 * rng.standard_normal((4, Z))
    z = mu_z + np.exp(0.5 * log_var_z) * rng.standard_normal((n, Z))
    ratio = log_normal(z, mu_z, log_var_z) - log_normal(z, mu_0, log_var_0)
    within(ratio.sum(axis=-1), program.kl(mu_z, log_var_z, mu_0, log_var_0))


def exact(program):
    """With the exact posterior the ELBO equals log p(x), within 4 standard errors."""
    within(*elbos_and_log_p(program))


def elbos_and_log_p(program, T=6, n=4000):
    """n one-draw ELBOs (n,) of the exact case, and log p(x), which their mean should equal."""
    theta, w = exact_case(program)
    rng, (x, _, _) = np.random.default_rng(4), batch(T, 1, seed=5)
    log_p, kl = terms(program, theta, np.tile(x, (1, n, 1)), rng.standard_normal((T, n, Z)))
    elbos = [-program.loss(log_p[:, [i]], kl[:, [i]], np.ones((T, 1))) for i in range(n)]
    return np.array(elbos), exact_log_p(program, theta, w, x[:, 0])


def batch_is_singles(program):
    """The loss of a batch is the mean of its sequences' losses, each computed alone and without padding."""
    theta, (x, eps, lengths) = random_theta(), batch(T=6)
    singles = [loss(program, theta, x[:n, [i]], eps[:n, [i]], lengths[[i]]) for i, n in enumerate(lengths)]
    assert rel_error(loss(program, theta, x, eps, lengths), np.mean(singles)) < 1e-12


def same_again(program):
    """The same batch again, in another order, has the same loss."""
    theta, (x, eps, lengths), order = random_theta(), batch(T=6), [2, 0, 1]
    first = loss(program, theta, x, eps, lengths)
    assert rel_error(first, loss(program, theta, x[:, order], eps[:, order], lengths[order])) < 1e-12


def padding(program):
    """Steps after a sequence's end do not affect the loss, whatever their values."""
    theta, (x, eps, lengths) = random_theta(), batch(T=6)
    rubbish = np.concatenate([x, 1 + x[:4]]), np.concatenate([eps, eps[:4]])
    fresh = program._replace(kept={})
    assert rel_error(loss(program, theta, x, eps, lengths), loss(fresh, theta, *rubbish, lengths)) < 1e-12


def extremes(program):
    """log p of a coin is finite and accurate even where its probability rounds to 1."""
    with np.errstate(all="ignore"):
        log_p = program.log_coin(np.array([0.0, 1.0, 0.0]), np.array([40.0, 40.0, -40.0]))
    assert np.isfinite(log_p).all() and abs(log_p[0] + 40) < 1e-9


def samples(program, n=4000, steps=4):
    """With the pen that stays, coins stay, half of them up; positions have variance 4 + 1."""
    x = sample(program, pen_that_stays(), n, steps)
    assert (x[..., 1] == x[0, :, 1]).all()
    within(x[0, :, 1], 0.5)
    within(x[-1, :, 0] ** 2, 5.0)


def step_length(program, lr=0.1, max_norm=1.0):
    """No step is longer than lr * max_norm, not even at a cliff."""
    rng = np.random.default_rng(6)
    for norm in (0.1, 1000.0):
        theta, grads = np.zeros(5), rng.standard_normal(5)
        program.step(theta, grads * (norm / np.linalg.norm(grads)), lr, max_norm)
        assert np.linalg.norm(theta) <= lr * max_norm * (1 + 1e-9)


def kept_weights(program):
    """The weights that training returns have the validation loss that it reports."""
    theta, lowest = train(program, np.zeros(2), lambda theta, k: theta - 1, lambda theta: ((theta - 0.3) ** 2).sum())
    assert ((theta - 0.3) ** 2).sum() == lowest


def units(program):
    """Nats per step times the number of steps equals the total nats."""
    nats, lengths = np.array([-3.0, -5.0, -7.0]), np.array([2, 5, 9])
    assert abs(program.per_step(nats, lengths) * lengths.sum() - nats.sum()) < 1e-12


def within(draws, expected, z=4.0):
    """The mean over axis 0 lies within z standard errors of `expected`, in every entry."""
    error = draws.std(axis=0, ddof=1) / math.sqrt(len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - expected) < z * error + 1e-12)


# ---- the catalogue -------------------------------------------------------------------------------

EXHIBITS = {
    "std drawn as exp(log_var)": (RIGHT._replace(draw=draw_with_exp_log_var), RIGHT),
    "KL without its -1": (RIGHT._replace(kl=kl_without_its_1), RIGHT),
    "ReLU on a log-variance": (RIGHT._replace(log_var=log_var_by_relu), RIGHT),
    "log(1 - p - eps)": (RIGHT._replace(log_coin=log_coin_of_probabilities), RIGHT),
    "target shifted by a step": (RIGHT._replace(target=next_step), RIGHT),
    "cell state in place of h": (RIGHT_LSTM._replace(read=read_c), RIGHT_LSTM),
    "GRU without bias": (RIGHT._replace(cell=gru_without_bias), RIGHT),
    "state carried over": (RIGHT._replace(start=last_state), RIGHT),
    "truncated backpropagation": (RIGHT._replace(link=cut), RIGHT),
    "means fed back": (RIGHT._replace(feed=feed_mean), RIGHT),
    "clipping after the step": (RIGHT._replace(step=step_then_clip), RIGHT),
    "best weights that alias": (RIGHT._replace(keep=keep_alias), RIGHT),
    "per frame next to per sequence": (RIGHT._replace(loss=frames_and_sequences), RIGHT),
    "mean of per-sequence means": (RIGHT._replace(per_step=mean_of_means), RIGHT),
}
CHECKS = {
    "loss falls": loss_falls,
    "gradient": gradient_check,
    "long gradient": long_gradient_check,
    "moments": moments,
    "Monte Carlo KL": monte_carlo_kl,
    "exact case": exact,
    "batch = singles": batch_is_singles,
    "same again": same_again,
    "padding": padding,
    "extremes": extremes,
    "samples": samples,
    "step length": step_length,
    "kept weights": kept_weights,
    "units": units,
}


def sees(check, program):
    """True if the check, named as in CHECKS, fails on a program, which starts with an empty `kept`."""
    return _fails(check, program[:-1])


@cache
def _fails(check, parts):
    try:
        CHECKS[check](Program(*parts, kept={}))
    except AssertionError:
        return True
    return False


def seen_by(bug, version=0):
    """The names of the checks that fail on an exhibit: on its wrong version (0) or its correct one (1)."""
    return {check for check in CHECKS if sees(check, EXHIBITS[bug][version])}


def verdict(bug):
    """A text: which checks see the bug, and whether the fixed version passes them."""
    seen, false_alarms = seen_by(bug), seen_by(bug, 1)
    missed = textwrap.fill(", ".join(check for check in CHECKS if check not in seen), 76, subsequent_indent=" " * 11)
    fixed = f"fails {', '.join(false_alarms)}" if false_alarms else f"passes all {len(CHECKS)}"
    return f"seen by:   {', '.join(c for c in CHECKS if c in seen)}\nmissed by: {missed}\nfixed:     {fixed}"


def matrix():
    """seen (bugs, checks): whether each check fails on each bug, found by running every check on every bug."""
    return np.array([[check in seen_by(bug) for check in CHECKS] for bug in EXHIBITS])
