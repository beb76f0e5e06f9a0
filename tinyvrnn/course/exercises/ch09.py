"""The exercises of notebook 09, How tight is the bound?: a Kalman step, three posteriors, the best filter."""

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions.gaussian import gaussian_kl_forward
from tinyvrnn.models import linear_gaussian as lg

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
    gain=lambda P_, r, P: P_ / (P_ + r),
    variance=lambda k, P_, P: (1 - k) * P_,
    spread=lambda P, r: P + r,
    score_at=lambda m_, m: m_,
    innovation=lambda x, m_, m: x - m_,
    halves=(0.5, 0.5),
    pi=np.pi,
):
    """A step of the filter with one thing changed."""

    def step(m, P, x, a, q, r):
        m_, P_ = predict(m, P, a, q)
        k, S = gain(P_, r, P), spread(P_, r)
        new = m_ + k * innovation(x, m_, m)
        log_p = -halves[0] * (x - score_at(m_, new)) ** 2 / S - halves[1] * np.log(2 * pi * S)
        return new, variance(k, P_, P), log_p

    return step


def update_first(m, P, x, a, q, r):
    m, P, log_p = wrong_step()(m, P, x, 1.0, 0.0, r)
    return a * m, a * a * P + q, log_p


def density(m, P, x, a, q, r):
    m, P, log_p = wrong_step()(m, P, x, a, q, r)
    return m, P, np.exp(log_p)


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
            wrong_step(gain=lambda P_, r, P: P_ / r),
        ),
        Mistake(
            "The gain is inverted: when the noise r is small, should the data or the prediction count more?",
            wrong_step(gain=lambda P_, r, P: r / (P_ + r)),
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
            wrong_step(innovation=lambda x, m_, m: m_ - x),
        ),
        Mistake("Nothing is predicted: z_t is a z_{t-1} plus noise.", wrong_step(predict=lambda m, P, a, q: (m, P))),
        Mistake(
            "The gain uses the variance before the prediction: the innovation corrects the predicted state.",
            wrong_step(gain=lambda P_, r, P: P / (P + r)),
        ),
        Mistake(
            "The gain is a ratio of standard deviations: it should be one of variances.",
            wrong_step(gain=lambda P_, r, P: np.sqrt(P_ / (P_ + r))),
        ),
        Mistake(
            "The gain is 1, as if x_t had no noise: where is r?", wrong_step(gain=lambda P_, r, P: np.ones_like(P_))
        ),
        Mistake(
            "The gain has a small constant in place of r: the noise of x_t has the variance r.",
            wrong_step(gain=lambda P_, r, P: P_ / (P_ + 1e-3)),
        ),
        Mistake(
            "The innovation is the distance from the old mean: measure it from the predicted one.",
            wrong_step(innovation=lambda x, m_, m: x - m),
        ),
        Mistake(
            "The new variance has the factor k: the larger the gain, the less of the variance remains.",
            wrong_step(variance=lambda k, P_, P: k * P_),
        ),
        Mistake(
            "The variance shrinks twice: there is one observation, and one factor 1 - k.",
            wrong_step(variance=lambda k, P_, P: (1 - k) ** 2 * P_),
        ),
        Mistake("The squared innovation in the score lacks the factor 1/2.", wrong_step(halves=(1, 0.5))),
        Mistake("The logarithm in the score lacks the factor 1/2.", wrong_step(halves=(0.5, 1))),
        Mistake("The score lacks the logarithm of a normal density's normalising factor.", wrong_step(halves=(0.5, 0))),
        Mistake("The score lacks the constant with 2 pi of a normal density.", wrong_step(pi=0.5)),
        Mistake(
            "x_t updates the old mean and variance, and the prediction comes after that: predict z_t first.",
            update_first,
        ),
        Mistake(
            "The score uses the variance after the update: it asks how well x_t was predicted before that.",
            wrong_step(spread=lambda P, r: P * r / (P + r) + r),
        ),
        Mistake(
            "The score uses the mean and the variance after the update: it asks how well x_t was predicted.",
            wrong_step(spread=lambda P, r: P * r / (P + r) + r, score_at=lambda m_, m: m),
        ),
        Mistake("log_p is the density of x_t itself: take its logarithm.", density),
        Mistake(
            "The variance grows with the observation: observing x_t reduces it.",
            wrong_step(variance=lambda k, P_, P: (1 + k) * P_),
        ),
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
        Mistake(
            "sigma adds a standard deviation to s. Set the derivative of the expected price with respect to sigma to "
            "0: does v appear in it?",
            wrong_prices(sigma=lambda s, v: s + np.sqrt(v)),
        ),
        Mistake(
            "sigma adds the precisions 1/s^2 and 1/v, but nothing is observed here: minimise the expected price.",
            wrong_prices(sigma=lambda s, v: s * np.sqrt(v / (s**2 + v))),
        ),
        Mistake(
            "Both prices are too large by 1/2: the KL ends with -1/2.",
            wrong_prices(best=lambda ratio: ratio / 2 + 0.5, exact=lambda ratio: ratio - 0.5 * np.log1p(ratio) + 0.5),
        ),
        Mistake(
            "The smallest price is too large by 1/2: the KL ends with -1/2.",
            wrong_prices(best=lambda ratio: ratio / 2 + 0.5),
        ),
        Mistake(
            "The exact filter's price is too large by 1/2: the KL ends with -1/2.",
            wrong_prices(exact=lambda ratio: ratio - 0.5 * np.log1p(ratio) + 0.5),
        ),
        Mistake(
            "sigma and the smallest price are those of the other KL, whose arguments are swapped: q comes first.",
            wrong_prices(lambda s, v: np.sqrt(s**2 + v), lambda ratio: 0.5 * np.log1p(ratio)),
        ),
        Mistake(
            "That sigma is the exact filter's, and the two prices are swapped.",
            lambda s, v: (np.sqrt(s**2 + v), *filter_prices(s, v)[:0:-1]),
        ),
        Mistake("v is squared: it is a variance already.", lambda s, v: filter_prices(s, v**2)),
        Mistake("v is divided by s: the variance is s^2.", lambda s, v: (s, *filter_prices(np.sqrt(s), v)[1:])),
    ),
    forbidden=(gaussian_kl_forward,),
)

EXERCISES = {"09.1": KALMAN, "09.2": ORDER, "09.3": PRICES}
