"""The exercises of notebook 05, the ELBO line by line: weights, Jensen's gap, masks and units, where the KL belongs."""

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions.gaussian import gaussian_kl_forward, gaussian_log_density_forward
from tinyvrnn.models import particles

# ---- 05.1: the logarithm of a mean of weights ----------------------------------------------------


def log_mean_exp(log_w):
    top = log_w.max(axis=0)
    return top + np.log(np.exp(log_w - top).mean(axis=0))


def draw_log_w(rng):
    K, B = (int(n) for n in rng.permutation([3, 4, 6, 7])[:2])
    log_w = 2 * rng.standard_normal((K, B))
    log_w[:, 0] -= 1000.0
    return (log_w,)


def log_of_the_sum(log_w):
    return log_mean_exp(log_w) + np.asarray(np.log(len(log_w)), log_w.dtype)


LOG_MEAN = Task(
    "the logarithm of a mean",
    "write",
    log_mean_exp,
    draw_log_w,
    ("log_mean",),
    (
        Mistake(
            "Only the largest weight is left: factor it out of the sum, but keep the sum.",
            lambda log_w: log_w.max(axis=0) - np.asarray(np.log(len(log_w)), log_w.dtype),
        ),
        Mistake(
            "That is the mean of the logarithms, the other side of Jensen's inequality: average the weights first.",
            lambda log_w: log_w.mean(axis=0),
        ),
        Mistake("The K weights are summed, not averaged: the result grows with the number of draws.", log_of_the_sum),
        Mistake(
            "The largest log-weight was factored out, so that exp neither under- nor overflows: add it back.",
            lambda log_w: log_mean_exp(log_w) - log_w.max(axis=0),
        ),
        Mistake("That is the largest weight alone: the others count too.", lambda log_w: log_w.max(axis=0)),
        Mistake(
            "You divide by the number of columns, B, but each column has K weights.",
            lambda log_w: log_of_the_sum(log_w) - np.asarray(np.log(log_w.shape[1]), log_w.dtype),
        ),
        Mistake(
            "That averages 1/w: the two minus signs do not cancel inside an exp.",
            lambda log_w: -log_mean_exp(-log_w),
        ),
    ),
    forbidden=(particles.log_mean_exp,),
    tol=1e-9,
)

# ---- 05.2: log w of a draw -----------------------------------------------------------------------


def log_density(z, mu, sigma):
    return gaussian_log_density_forward(z, mu, sigma)[0]


def log_weight(log_p_x, z, mu_0, sigma_0, mu_z, sigma_z):
    return (log_p_x + log_density(z, mu_0, sigma_0) - log_density(z, mu_z, sigma_z)).sum(axis=0)


def draw_weight(rng):
    T, B, Z = (int(n) for n in rng.permutation([2, 3, 4, 5])[:3])
    log_p_x, (mu_0, mu_z, eps) = -np.exp(rng.standard_normal((T, B))), rng.standard_normal((3, T, B, Z))
    sigma_0, sigma_z = np.exp(0.4 * rng.standard_normal((2, T, B, Z)))
    return log_p_x, mu_z + sigma_z * eps, mu_0, sigma_0, mu_z, sigma_z


def wrong_weight(prior=1, q=-1, x=1, density=log_density, over_t=lambda v: v.sum(axis=0)):
    """log w with one thing changed."""

    def answer(log_p_x, z, mu_0, sigma_0, mu_z, sigma_z):
        return over_t(x * log_p_x + prior * density(z, mu_0, sigma_0) + q * density(z, mu_z, sigma_z))

    return answer


def wrong_density(log=1.0, half=0.5, power=2):
    """log N(z; mu, sigma^2) with one thing changed, without its constant, which cancels in w."""

    def answer(z, mu, sigma):
        return (-half * (z - mu) ** 2 / sigma**power - log * np.log(sigma)).sum(axis=-1)

    return answer


def by_the_kl(log_p_x, z, mu_0, sigma_0, mu_z, sigma_z):
    kl = gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)[0]
    return (log_p_x - kl).sum(axis=0)


def mean_over_latents(z, mu, sigma):
    return log_density(z, mu, sigma) / z.shape[-1]


WEIGHT = Task(
    "log w of a draw",
    "write",
    log_weight,
    draw_weight,
    ("log_w",),
    (
        Mistake("log q is added: w has q in the denominator.", wrong_weight(q=1)),
        Mistake(
            "Prior and posterior have their signs swapped: which of the two is in the numerator?", wrong_weight(-1, 1)
        ),
        Mistake("Where is p(z_t | ...)? The joint of Eq. 8 has two factors for each step.", wrong_weight(prior=0)),
        Mistake("q is missing: that is log p(x, z), not the weight.", wrong_weight(q=0)),
        Mistake("log p(x_t | ...) is missing: your weight contains only the latents.", wrong_weight(x=0)),
        Mistake(
            "A density N(z; mu, sigma^2) also has a factor 1 / sigma, and it does not cancel between p and q.",
            wrong_weight(density=wrong_density(log=0.0)),
        ),
        Mistake(
            "log sigma has the wrong sign: a wider density is lower.",
            wrong_weight(density=wrong_density(log=-1.0)),
        ),
        Mistake(
            "That has log sigma^2 instead of log sigma: the factor is 1 / sigma.",
            wrong_weight(density=wrong_density(log=2.0)),
        ),
        Mistake(
            "The factor in front of the square in a Gaussian's exponent is missing.",
            wrong_weight(density=wrong_density(half=1.0)),
        ),
        Mistake(
            "The squares are divided by sigma, not by a variance: an exponent must be dimensionless.",
            wrong_weight(density=wrong_density(power=1)),
        ),
        Mistake(
            "The closed-form KL is a mean over all z: the weight belongs to the one z that was drawn.",
            by_the_kl,
        ),
        Mistake(
            "sigma is squared before it enters the density: it is a standard deviation.",
            wrong_weight(density=lambda z, mu, sigma: log_density(z, mu, sigma**2)),
        ),
        Mistake(
            "The steps are averaged: the logarithm of a product over t is a sum.",
            wrong_weight(over_t=lambda v: v.mean(axis=0)),
        ),
        Mistake(
            "The latent dimensions are averaged: independent densities multiply.",
            wrong_weight(density=mean_over_latents),
        ),
        Mistake(
            "log sigma has the factor 1/2: sigma is a standard deviation, not a variance.",
            wrong_weight(density=lambda z, mu, sigma: log_density(z, mu, sigma) + 0.5 * np.log(sigma).sum(axis=-1)),
        ),
    ),
)

# ---- 05.3: Jensen's gap of a log-normal weight ---------------------------------------------------


def jensen_gap(s):
    """log E[w] - E[log w] for log w ~ N(m, s^2); the notebook checks it against an integral."""
    return s**2 / 2


GAP = Task(
    "Jensen's gap",
    "derive",
    jensen_gap,
    lambda rng: (0.2 + rng.random(int(rng.integers(2, 7))) * 2,),
    ("gap",),
    (
        Mistake("That is the variance of log w: a factor is missing. Complete the square again.", lambda s: s**2),
        Mistake("It is linear in s: which power of s appears when you complete the square?", lambda s: s / 2),
        Mistake("That is E[w] itself for m = 0: take its logarithm.", lambda s: np.exp(s**2 / 2)),
        Mistake(
            "Jensen's gap is log E[w] minus E[log w], and the first term is the larger one.", lambda s: -(s**2) / 2
        ),
        Mistake("That is E[w] - 1 for m = 0: the first term is the logarithm of E[w].", lambda s: np.expm1(s**2 / 2)),
        Mistake("The gap is not 0: w varies, so E[log w] is less than log E[w].", lambda s: 0 * s),
    ),
    points=1,
)

# ---- 05.4: the KL inside the logarithm -----------------------------------------------------------


def importance(log_p_x, log_p_z, log_q, kl):
    return log_mean_exp((log_p_x + log_p_z - log_q).sum(axis=0))


def draw_importance(rng):
    T, K, B = (int(n) for n in rng.permutation([2, 3, 5, 7])[:3])
    log_p_z, log_q = rng.standard_normal((2, T, K, B))
    return -np.exp(rng.standard_normal((T, K, B))), log_p_z, log_q, np.exp(rng.standard_normal((T, K, B)) - 1)


INSIDE = Task(
    "the KL inside the logarithm",
    "bug",
    importance,
    draw_importance,
    ("log_p",),
    (
        Mistake(
            "The KL is still inside the logarithm: it is the mean of log q - log p, and each draw needs its own value.",
            lambda log_p_x, log_p_z, log_q, kl: log_mean_exp((log_p_x - kl).sum(axis=0)),
        ),
        Mistake(
            "Both log p - log q and the KL are there: the KL is the mean of log q - log p, so it is counted twice.",
            lambda log_p_x, log_p_z, log_q, kl: log_mean_exp((log_p_x + log_p_z - log_q - kl).sum(axis=0)),
        ),
        Mistake(
            "That is the mean of the logarithms, the ELBO, which is a bound: return an estimate of log p(x) itself.",
            lambda log_p_x, log_p_z, log_q, kl: (log_p_x + log_p_z - log_q).sum(axis=0).mean(axis=0),
        ),
        Mistake(
            "That is the ELBO by Eq. 11, which is a bound: return an estimate of log p(x) itself.",
            lambda log_p_x, log_p_z, log_q, kl: (log_p_x - kl).sum(axis=0).mean(axis=0),
        ),
        Mistake(
            "Prior and posterior have their signs swapped.",
            lambda log_p_x, log_p_z, log_q, kl: log_mean_exp((log_p_x - log_p_z + log_q).sum(axis=0)),
        ),
        Mistake(
            "Each step is averaged separately, and the logarithms are added: a weight belongs to a whole sequence z.",
            lambda log_p_x, log_p_z, log_q, kl: sum(log_mean_exp(v) for v in log_p_x + log_p_z - log_q),
        ),
        Mistake(
            "With neither the KL nor p/q, z is treated as a draw from the prior: it was drawn from q.",
            lambda log_p_x, log_p_z, log_q, kl: log_mean_exp(log_p_x.sum(axis=0)),
        ),
        Mistake(
            "The K weights are summed, not averaged: more draws would make x more probable.",
            lambda log_p_x, log_p_z, log_q, kl: log_of_the_sum((log_p_x + log_p_z - log_q).sum(axis=0)),
        ),
        Mistake(
            "The sum of the weights is divided by the number of steps: how many weights does a sequence have?",
            lambda log_p_x, log_p_z, log_q, kl: (
                log_of_the_sum((log_p_x + log_p_z - log_q).sum(axis=0)) - float(np.log(len(log_q)))
            ),
        ),
        Mistake(
            "q is missing: z was drawn from q, and the weights have to correct for that.",
            lambda log_p_x, log_p_z, log_q, kl: log_mean_exp((log_p_x + log_p_z).sum(axis=0)),
        ),
        Mistake(
            "The KL is now outside the logarithm, but still a mean: each draw has its own log p - log q.",
            lambda log_p_x, log_p_z, log_q, kl: log_mean_exp(log_p_x.sum(axis=0)) - kl.sum(axis=0).mean(axis=0),
        ),
        Mistake(
            "log q is added: w has q in the denominator.",
            lambda p_x, p_z, q, kl: log_mean_exp((p_x + p_z + q).sum(axis=0)),
        ),
    ),
    forbidden=(particles.log_mean_exp,),
)

# ---- 05.5: masks and units -----------------------------------------------------------------------


def masked(log_p, kl, mask):
    elbo = ((log_p - kl) * mask).sum(axis=0)
    return elbo, elbo.sum() / mask.sum()


def draw_masked(rng):
    T, B = (int(n) for n in rng.permutation([3, 4, 6, 7])[:2])
    lengths = np.append(rng.permutation(T)[:2] + 1, rng.integers(1, T + 1, B - 2))
    mask = (np.arange(T)[:, None] < lengths).astype(float)
    return -np.exp(rng.standard_normal((T, B))), np.exp(rng.standard_normal((T, B))), mask


def mean_of_means(log_p, kl, mask):
    elbo, _ = masked(log_p, kl, mask)
    return elbo, (elbo / mask.sum(axis=0)).mean()


def one_too_many(log_p, kl, mask):
    return masked(log_p, kl, np.concatenate([mask[:1], mask[:-1]]))


def padded_division(log_p, kl, mask):
    elbo, _ = masked(log_p, kl, mask)
    return elbo, elbo.mean() / len(mask)


def per_sequence(log_p, kl, mask):
    elbo, _ = masked(log_p, kl, mask)
    return elbo, elbo.mean()


MASKED = Task(
    "masks and units",
    "write",
    masked,
    draw_masked,
    ("elbo", "per_step"),
    (
        Mistake(
            "The padded steps are counted: they are not data.",
            lambda log_p, kl, mask: masked(log_p, kl, 0 * mask + 1),
        ),
        Mistake(
            "The KL of the padded steps is counted: the mask applies to both terms.",
            lambda log_p, kl, mask: ((log_p * mask - kl).sum(axis=0), (log_p * mask - kl).sum() / mask.sum()),
        ),
        Mistake("The KL is added: the bound subtracts it.", lambda log_p, kl, mask: masked(log_p, -kl, mask)),
        Mistake(
            "per_step is the mean of the sequences' means: it gives the steps of short sequences more weight.",
            mean_of_means,
        ),
        Mistake("per_step divides by T times B, padding included.", padded_division),
        Mistake("per_step is in nats per sequence: how many real steps are there?", per_sequence),
        Mistake(
            "elbo is divided by each sequence's length: it should be in nats per sequence.",
            lambda log_p, kl, mask: (masked(log_p, kl, mask)[0] / mask.sum(axis=0), masked(log_p, kl, mask)[1]),
        ),
        Mistake("One padded step of each sequence is counted: the mask is off by one.", one_too_many),
    ),
)

# ---- 05.6: what can lie above log p(x)? ----------------------------------------------------------


def above():
    """The values above log p(x), for z ~ N(0, 1), x given z ~ N(z, 1), x = 1.5, and q slightly off the posterior."""
    x, mu, sigma = np.array([1.5]), np.array([0.9]), np.array([0.8])
    zero, one = np.zeros(1), np.ones(1)
    eps = np.random.default_rng(0).standard_normal((10, 20_000, 1))
    z = mu + sigma * eps
    log_w = log_density(x + 0 * z, z, one) + log_density(z, zero, one) - log_density(z, mu, sigma)
    kl = -np.log(sigma[0]) + (sigma[0] ** 2 + mu[0] ** 2) / 2 - 0.5
    eq_11 = log_density(x + 0 * z, z, one) - kl
    elbo = -0.5 * np.log(2 * np.pi) - 0.5 * ((x[0] - mu[0]) ** 2 + sigma[0] ** 2) - kl
    log_p = log_density(x, zero, np.sqrt(2) * one)
    values = {"w": log_w, "eq11": eq_11, "ten": log_mean_exp(log_w), "elbo": elbo}
    return {word for word, value in values.items() if np.max(value) > log_p}


ABOVE = Prediction(
    "what can lie above log p(x)?",
    above,
    (
        Mistake(
            "log w of one draw is a random number; the bound holds for its mean. Must each draw lie below log p(x)?",
            set(),
        ),
        Mistake("One more is random: which part of Eq. 11 still depends on the draw?", {"w"}),
        Mistake("One more is random: log w, the sum without the closed-form KL.", {"eq11"}),
        Mistake(
            "A mean of ten weights is random too, and its expectation is p(x): must each one lie below p(x)?",
            {"w", "eq11"},
        ),
        Mistake("One draw is the mean of a single weight.", {"ten"}),
        Mistake("Eq. 11 with one draw is random too: look at log p(x_t | ...).", {"w", "ten"}),
        Mistake("One draw of log w is the mean of a single weight, in a logarithm.", {"eq11", "ten"}),
        Mistake(
            "The exact expectation is not random: the bound holds for it.",
            {"w", "eq11", "ten", "elbo"},
        ),
        Mistake("It is the other way round: only the expectation must lie below log p(x).", {"elbo"}),
    ),
)

EXERCISES = {"05.1": LOG_MEAN, "05.2": WEIGHT, "05.3": GAP, "05.4": INSIDE, "05.5": MASKED, "05.6": ABOVE}
