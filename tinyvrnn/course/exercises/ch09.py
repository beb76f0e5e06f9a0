"""The exercises of notebook 09, How tight is the bound?: a Kalman step, posteriors, resampling, particle filters."""

from types import SimpleNamespace

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions.gaussian import gaussian_kl_forward
from tinyvrnn.models import linear_gaussian as lg
from tinyvrnn.models import particles, stepwise

# ---- 09.1: one step of the Kalman filter ---------------------------------------------------------


def kalman_step(m, P, x, a, q, r):
    """The second step of the package's filter, whose first step is set up to end with mean m and variance P.

    It starts from N(0, 2P) and observes 2m with noise variance 2P: the precisions add up to 1/P, and the mean is m.
    """
    x = np.stack([2 * m, x])[..., None]
    one = np.ones_like(x[1])
    P = P[:, None]
    chain = lg.Chain(np.stack([0 * P, a * one]), np.stack([2 * P, q * one]), np.stack([1 / (2 * P), one / r]))
    both = lg.kalman_filter(chain, x)
    first = lg.kalman_filter(lg.Chain(*(values[:1] for values in chain)), x[:1])
    return both.mean[1, :, 0], both.variance[1, :, 0], both.log_p - first.log_p


def draw_step(rng):
    B = int(rng.integers(2, 7))
    a, q, r = float(rng.uniform(-1.3, 1.3)), float(np.exp(rng.standard_normal())), float(np.exp(rng.standard_normal()))
    m, x = rng.standard_normal((2, B))
    return m, np.exp(0.5 * rng.standard_normal(B)), x, a, q, r


def wrong_step(
    predict=lambda m, P, a, q: (a * m, a * a * P + q),
    gain=lambda P, r: P / (P + r),
    variance=lambda k, P_, P: (1 - k) * P_,
    spread=lambda P, r: P + r,
    score_at=lambda m_, m: m_,
    innovation=lambda x, m_: x - m_,
):
    """A step of the filter with one thing changed."""

    def step(m, P, x, a, q, r):
        m_, P_ = predict(m, P, a, q)
        k, S = gain(P_, r), spread(P_, r)
        new = m_ + k * innovation(x, m_)
        log_p = -0.5 * ((x - score_at(m_, new)) ** 2 / S + np.log(2 * np.pi * S))
        return new, variance(k, P_, P), log_p

    return step


KALMAN = Task(
    "one step of the filter",
    "write",
    kalman_step,
    draw_step,
    ("m", "P", "log_p"),
    (
        Mistake(
            "The prediction adds no noise: z_t is a z_{t-1} plus noise of variance q.",
            wrong_step(predict=lambda m, P, a, q: (a * m, a * a * P)),
        ),
        Mistake(
            "P is multiplied by a only once: how does a variance change when the variable is multiplied by a?",
            wrong_step(predict=lambda m, P, a, q: (a * m, a * P + q)),
        ),
        Mistake(
            "q is used as a standard deviation: here it is a variance.",
            wrong_step(predict=lambda m, P, a, q: (a * m, a * a * P + q * q)),
        ),
        Mistake(
            "The mean is not predicted: what is the mean of z_t before x_t is observed?",
            wrong_step(predict=lambda m, P, a, q: (m, a * a * P + q)),
        ),
        Mistake(
            "The gain is P' / r: it has to lie between 0 and 1.",
            wrong_step(gain=lambda P, r: P / r),
        ),
        Mistake(
            "The gain is inverted: when the noise r is small, should the data or the prediction count more?",
            wrong_step(gain=lambda P, r: r / (P + r)),
        ),
        Mistake(
            "P is still the predicted variance: observing x_t reduces it.", wrong_step(variance=lambda k, P_, P: P_)
        ),
        Mistake(
            "The update shrinks the old variance: it has to start from the predicted one.",
            wrong_step(variance=lambda k, P_, P: (1 - k) * P),
        ),
        Mistake("The score's variance lacks r: x_t is z_t plus independent noise.", wrong_step(spread=lambda P, r: P)),
        Mistake(
            "The score uses P' + r as a standard deviation: it is a variance.",
            wrong_step(spread=lambda P, r: (P + r) ** 2),
        ),
        Mistake(
            "The score uses the mean after the update, which already depends on x_t: use the predicted mean.",
            wrong_step(score_at=lambda m_, m: m),
        ),
        Mistake(
            "The innovation has the wrong sign: the mean moves away from x_t.",
            wrong_step(innovation=lambda x, m_: m_ - x),
        ),
        Mistake("Nothing is predicted: z_t is a z_{t-1} plus noise.", wrong_step(predict=lambda m, P, a, q: (m, P))),
    ),
    forbidden=(lg.kalman_filter,),
)

# ---- 09.2: which bound is best? ------------------------------------------------------------------


def order_of_bounds():
    """The three posteriors that look at no future, from the best ELBO to the worst."""
    names = {"filtering": "filtering", "filtering mean, smoothing variance": "narrow", "prior": "prior"}
    found = sorted((row for row in lg.table() if row.posterior in names), key=lambda row: row.elbo, reverse=True)
    return tuple(names[row.posterior] for row in found)


ORDER = Prediction(
    "which bound is best?",
    order_of_bounds,
    (
        Mistake(
            "The exact filter is the natural guess for the first place. But which distribution is q compared with in "
            "the gap, and how wide is that distribution?",
            ("filtering", "narrow", "prior"),
        ),
        Mistake(
            "The prior ignores the data completely: can it come second?",
            ("filtering", "prior", "narrow"),
        ),
        Mistake(
            "The prior pays no KL, but how well does z from it explain x? And compare the two standard deviations.",
            ("prior", "filtering", "narrow"),
        ),
        Mistake("The prior pays no KL, but how well does z from it explain x?", ("prior", "narrow", "filtering")),
        Mistake(
            "A standard deviation that is a little too small is a smaller fault than ignoring the data.",
            ("narrow", "prior", "filtering"),
        ),
    ),
    next_cell=False,
)

# ---- 09.3: the best filter's standard deviation --------------------------------------------------


def filter_prices(s, v):
    def price(sigma):  # as E (mu_z - m)^2 = v, the mean KL equals the KL of means sqrt(v) apart
        return gaussian_kl_forward(*(a[..., None] for a in (0 * s, sigma, np.sqrt(v), s)))[0]

    return s.copy(), price(s), price(np.sqrt(s * s + v))


def draw_prices(rng):
    shape = [(4,), (2, 3)][rng.integers(2)]
    s, v = np.exp(0.5 * rng.standard_normal((2, *shape)))
    return s, v


def wrong_prices(sigma=lambda s, v: s, best=lambda ratio: ratio / 2, exact=lambda ratio: ratio - 0.5 * np.log1p(ratio)):
    """The three results with one thing changed. ratio: v / s^2."""
    return lambda s, v: (sigma(s, v), best(v / s**2), exact(v / s**2))


PRICES = Task(
    "the best filter's standard deviation",
    "derive",
    filter_prices,
    draw_prices,
    ("sigma", "best", "exact"),
    (
        Mistake(
            "That is the exact filter's standard deviation, which has the moments of the mixture. Set the derivative "
            "of the expected price with respect to sigma to 0: does v appear in it?",
            wrong_prices(sigma=lambda s, v: np.sqrt(s**2 + v)),
        ),
        Mistake(
            "sigma is a variance here: the exercise asks for a standard deviation.",
            wrong_prices(sigma=lambda s, v: s**2),
        ),
        Mistake(
            "The smallest price lacks a factor: in the KL the squared distance of the means is divided by 2 s^2.",
            wrong_prices(best=lambda ratio: ratio),
        ),
        Mistake(
            "The smallest price is too small by 1/2: the term sigma^2 / 2 s^2 of the KL cancels the -1/2.",
            wrong_prices(best=lambda ratio: (ratio - 1) / 2),
        ),
        Mistake(
            "The smallest price is not 0: even the best filter's mean differs from m, with variance v.",
            wrong_prices(best=lambda ratio: 0 * ratio),
        ),
        Mistake(
            "The exact filter's price lacks the term that comes from log(s / sigma).",
            wrong_prices(exact=lambda ratio: ratio),
        ),
        Mistake(
            "In the exact filter's price the logarithm has the wrong sign: a wider q has log(s / sigma) < 0.",
            wrong_prices(exact=lambda ratio: ratio + 0.5 * np.log1p(ratio)),
        ),
        Mistake(
            "In the exact filter's price the logarithm is of a ratio of variances; the KL has standard deviations.",
            wrong_prices(exact=lambda ratio: ratio - np.log1p(ratio)),
        ),
        Mistake(
            "The exact filter's price counts v once: v widens sigma^2, and is also the squared distance of the means.",
            wrong_prices(exact=lambda ratio: 0.5 * ratio - 0.5 * np.log1p(ratio)),
        ),
        Mistake("v is squared: it is a variance already.", lambda s, v: filter_prices(s, v**2)),
        Mistake("v is divided by s: the variance is s^2.", lambda s, v: (s, *filter_prices(np.sqrt(s), v)[1:])),
    ),
    forbidden=(gaussian_kl_forward,),
)

# ---- 09.4: systematic resampling -----------------------------------------------------------------


def resample(h, shares, uniforms):
    return np.take_along_axis(h, particles.systematic(shares, uniforms), axis=1)


def draw_resample(rng):
    B, K = (int(n) for n in rng.permutation([3, 4, 5, 7])[:2])
    weights = rng.gamma(0.7, size=(B, K))
    weights[0, int(rng.integers(K))] = 0.0
    return rng.standard_normal((B, K)), weights / weights.sum(axis=1)[:, None], rng.random(B)


def wrong_resample(
    points=lambda u, K: (u[:, None] + np.arange(K)) / K,
    ends=lambda shares: np.cumsum(shares, axis=1),
    shift=0,
):
    """Resampling with one thing changed."""

    def answer(h, shares, uniforms):
        K = h.shape[1]
        ancestors = (ends(shares)[:, None, :] <= points(uniforms, K)[:, :, None]).sum(axis=2) + shift
        return np.take_along_axis(h, ancestors.clip(0, K - 1), axis=1)

    return answer


RESAMPLE = Task(
    "systematic resampling",
    "write",
    resample,
    draw_resample,
    ("h",),
    (
        Mistake(
            "All rows use the first row's uniform: each has its own.",
            wrong_resample(points=lambda u, K: (u[:1, None] + np.arange(K)) / K + 0 * u[:, None]),
        ),
        Mistake(
            "The points are the same for any uniform: where is u?",
            wrong_resample(points=lambda u, K: (0.5 + np.arange(K)) / K + 0 * u[:, None]),
        ),
        Mistake(
            "All slots of a row get the same ancestor: there is one uniform number, but there are K points.",
            wrong_resample(points=lambda u, K: np.repeat(u[:, None], K, axis=1)),
        ),
        Mistake(
            "The points are u + i without the division by K: most of them are beyond the stick, whose length is 1.",
            wrong_resample(points=lambda u, K: u[:, None] + np.arange(K)),
        ),
        Mistake(
            "u shifts the points by up to 1, but their distance is 1 / K.",
            wrong_resample(points=lambda u, K: u[:, None] + np.arange(K) / K),
        ),
        Mistake(
            "The points do not depend on u: some particles can never be chosen.",
            wrong_resample(points=lambda u, K: 0 * u[:, None] + np.arange(K) / K),
        ),
        Mistake(
            "The points are compared with the shares themselves: compare them with the ends of the intervals.",
            wrong_resample(ends=lambda shares: shares),
        ),
        Mistake(
            "The shares are cumulated over the sequences: each row has its own stick.",
            wrong_resample(ends=lambda shares: np.cumsum(shares, axis=0)),
        ),
        Mistake("It takes the previous particle: off by one.", wrong_resample(shift=-1)),
        Mistake("It takes the next particle: off by one.", wrong_resample(shift=1)),
        Mistake(
            "All slots continue from the particle with the largest share: the others can be chosen too.",
            lambda h, shares, uniforms: 0 * h + np.take_along_axis(h, shares.argmax(axis=1)[:, None], axis=1),
        ),
        Mistake(
            "The states are multiplied by their shares: a particle is chosen or not, and its state is unchanged.",
            lambda h, shares, uniforms: h * shares,
        ),
        Mistake(
            "A point on the border of two intervals belongs to the second.",
            wrong_resample(ends=lambda shares: np.nextafter(np.cumsum(shares, axis=1), 2)),
        ),
    ),
    forbidden=(particles.systematic, particles.choose),
    points=3,
)

# ---- 09.5: the bookkeeping of a particle filter --------------------------------------------------

# A model whose particles have given log-weights: "x" is the log-weight of a step, and q is the prior.
GIVEN = stepwise.Equations(
    features_forward=lambda p, v: (v, None),
    prior_forward=lambda p, h: ((0 * h, 0 * h + 1), None),
    infer_forward=lambda p, phi_x, h: ((0 * h, 0 * h + 1), None),
    generate_forward=lambda p, phi_z, h, likelihood: ((), None),
    recur_forward=lambda p, phi_x, phi_z, h: (h, None),
    state_dim=lambda params: 1,
)
AS_GIVEN = SimpleNamespace(log_density_forward=lambda x: (x[:, 0], None))


def ledger(again, log_w):
    """The package's particle filter, run with the given log-weights and choices."""
    T, B, K = log_w.shape
    params = dict.fromkeys(("phi_x", "phi_z", "prior", "infer", "generate", "recur"), {})
    x, stay = log_w.reshape(T, B * K, 1), np.zeros((B, 1), int) + np.arange(K)
    choices = [particles.Choice(row > 0, stay) for row in again]
    mask = np.ones((T, B), log_w.dtype)
    return particles.filter_forward(params, x, 0 * x, mask, None, AS_GIVEN, GIVEN, choices=choices)[0]


def draw_ledger(rng):
    T, B, K = (int(n) for n in rng.permutation([4, 5, 3, 7])[:3])
    again = (rng.random((T, B)) < 0.5).astype(float)
    again[0], again[-1, 0], again[1, 0], again[1:, 1] = 0, 1, 0, 0
    log_w = 1.5 * rng.standard_normal((T, B, K)) - 1
    log_w[:, -1] -= 500
    return again, log_w


def wrong_ledger(note=particles.log_mean_exp, keep=0.0, start=0.0, before=True, always=False):
    """The ledger with one thing changed. keep: factor on the log-weights after a resampling; start: times log K."""

    def answer(again, log_w):
        gathered, total = np.zeros(log_w.shape[1:]), np.zeros(log_w.shape[1])
        for t in range(len(log_w)):
            if not before:
                gathered = gathered + log_w[t]
            now = again[t] > 0 if not always else np.full(len(total), t > 0)
            total = total + np.where(now, note(gathered), 0)
            gathered = np.where(now[:, None], keep * gathered + start * np.log(gathered.shape[1]), gathered)
            if before:
                gathered = gathered + log_w[t]
        return (total + (particles.log_mean_exp if note is not log_sum else log_sum)(gathered)).astype(log_w.dtype)

    return answer


def log_sum(v):
    return particles.log_mean_exp(v) + np.log(v.shape[1])


LEDGER = Task(
    "the particle filter's bookkeeping",
    "bug",
    ledger,
    draw_ledger,
    ("log_p",),
    (
        Mistake(
            "What is recorded at a resampling is counted again at the next one, and at the end. "
            "What are the weights after a resampling?",
            wrong_ledger(keep=1.0),
        ),
        Mistake(
            "The weights are reset, but their mean is not recorded: each resampling loses a factor.",
            wrong_ledger(note=lambda v: 0 * v[:, 0]),
        ),
        Mistake(
            "At a resampling the mean of the log-weights is recorded: the estimate needs the log of the mean weight.",
            wrong_ledger(note=lambda v: v.mean(axis=1)),
        ),
        Mistake("The weights are summed, not averaged: each W is a mean over particles.", wrong_ledger(note=log_sum)),
        Mistake("After a resampling the weights start at 1 / K: that divides by K twice.", wrong_ledger(start=-1.0)),
        Mistake(
            "Step t is added before the resampling that precedes step t: off by one.",
            wrong_ledger(before=False),
        ),
        Mistake("It resamples at every step, whatever `again` says.", wrong_ledger(always=True)),
        Mistake(
            "It never resamples: that is the mean of the plain weights, IWAE.",
            lambda again, log_w: particles.log_mean_exp(log_w.sum(axis=0)),
        ),
        Mistake(
            "All follow the first sequence: `again` has a column for each.",
            lambda again, w: ledger(again[:, :1] + 0 * again, w),
        ),
    ),
    forbidden=(particles.filter_forward,),
)

# ---- 09.6: the perfect q in a filter -------------------------------------------------------------


def always_exact(n=60, K=8):
    """The estimates that equal log p(x) for every noise when q is the true posterior."""
    model, x = lg.LinearGaussian(posterior="smoothing"), np.tile(lg.sine(), (1, n, 1))
    rng = np.random.default_rng(0)
    eps, uniforms = rng.standard_normal((len(x), n, K, 1)), rng.random((len(x), n))
    log_w = model.log_weights(x, eps=eps)
    found = {
        "w": log_w[:, 0],
        "eq11": model.elbo(x, eps=eps[:, :, 0]),
        "iwae": particles.log_mean_exp(log_w),
        "fivo": model.particle_filter(x, eps=eps, uniforms=uniforms),
    }
    return {name for name, values in found.items() if abs(values - model.log_prob(x)).max() < 1e-9}


PERFECT = Prediction(
    "the perfect q in a filter",
    always_exact,
    (
        Mistake("The weights at the end are all equal. But when does a filter look at them?", {"w", "iwae", "fivo"}),
        Mistake(
            "All four have little or no gap, but that is about their mean. For every noise? In Eq. 11 one term is "
            "averaged over z and the other is not. And when does a filter look at its weights?",
            {"w", "eq11", "iwae", "fivo"},
        ),
        Mistake(
            "Eq. 11 has a closed form for one of its terms and a draw in the other: can the two cancel?",
            {"w", "eq11", "iwae"},
        ),
        Mistake("If one weight is p(x), what is the mean of eight?", {"w"}),
        Mistake("What is one weight p(x, z) / q(z | x), if q is p(z | x)?", {"iwae"}),
        Mistake("What is one weight p(x, z) / q(z | x), if q is p(z | x), and the mean of eight?", {"eq11"}),
        Mistake("None? What is p(x, z) / q(z | x), if q is p(z | x)?", set()),
        Mistake("What is one weight p(x, z) / q(z | x), if q is p(z | x)? No more draws are needed.", {"iwae", "fivo"}),
    ),
)

EXERCISES = {"09.1": KALMAN, "09.2": ORDER, "09.3": PRICES, "09.4": RESAMPLE, "09.5": LEDGER, "09.6": PERFECT}
