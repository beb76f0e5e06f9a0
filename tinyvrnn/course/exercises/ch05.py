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
            "The sum of the weights is divided by K - 1, as for a variance: how many weights are there?",
            lambda log_w: log_of_the_sum(log_w) - float(np.log(len(log_w) - 1)),
        ),
        Mistake(
            "The largest log-weight was factored out, so that exp neither under- nor overflows: add it back.",
            lambda log_w: log_mean_exp(log_w) - log_w.max(axis=0),
        ),
        Mistake(
            "The largest log-weight is subtracted from the result: e^m was factored out, so m is added.",
            lambda log_w: log_mean_exp(log_w) - 2 * log_w.max(axis=0),
        ),
        Mistake(
            "That is the mean of exp(log_w - m): take its logarithm, and add m.",
            lambda log_w: np.exp(log_mean_exp(log_w) - log_w.max(axis=0)),
        ),
        Mistake(
            "m is added to a mean of weights: first take its logarithm.",
            lambda log_w: log_w.max(axis=0) + np.exp(log_mean_exp(log_w) - log_w.max(axis=0)),
        ),
        Mistake(
            "Log-weights below -700 are cut off there: factor out the largest of each column instead.",
            lambda log_w: log_mean_exp(np.maximum(log_w, -700)),
        ),
        *(
            Mistake(
                f"{small:.0e} is added inside the logarithm, and hides every smaller weight: factor out the largest.",
                lambda log_w, small=small: np.log(np.exp(log_w).mean(axis=0) + small),
            )
            for small in (1e-12, 1e-10, 1e-8)
        ),
        Mistake("That is the largest weight alone: the others count too.", lambda log_w: log_w.max(axis=0)),
        Mistake(
            "log K is added: a division by K subtracts it.",
            lambda log_w: 2 * log_of_the_sum(log_w) - log_mean_exp(log_w),
        ),
        Mistake(
            "The logarithm of the sum is divided by K: it is the sum that is divided, inside the logarithm.",
            lambda log_w: log_of_the_sum(log_w) / len(log_w),
        ),
        Mistake(
            "You divide by all K B entries, but each column has K weights.",
            lambda log_w: log_mean_exp(log_w) - np.asarray(np.log(log_w.shape[1]), log_w.dtype),
        ),
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


def wrong_density(log=1.0, half=0.5, power=2, square=2):
    """log N(z; mu, sigma^2) with one thing changed, without its constant, which cancels in w."""

    def answer(z, mu, sigma):
        return (-half * (z - mu) ** square / sigma**power - log * np.log(sigma)).sum(axis=-1)

    return answer


def by_the_kl(log_p_x, z, mu_0, sigma_0, mu_z, sigma_z):
    kl = gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)[0]
    return (log_p_x - kl).sum(axis=0)


def mean_over_latents(z, mu, sigma):
    return log_density(z, mu, sigma) / z.shape[-1]


def each_latent(log_p_x, z, mu_0, sigma_0, mu_z, sigma_z):
    return log_weight(log_p_x, z, mu_0, sigma_0, mu_z, sigma_z) + (z.shape[-1] - 1) * log_p_x.sum(axis=0)


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
        Mistake("log q is added: by line 3, w divides by q.", wrong_weight(q=1, density=wrong_density())),
        Mistake(
            "The prior's density is missing: the joint of Eq. 8 has two factors for each step.",
            wrong_weight(prior=0, density=wrong_density()),
        ),
        Mistake("q is missing: by line 3, w divides by q.", wrong_weight(q=0, density=wrong_density())),
        Mistake(
            "log p(x_t | ...) has the wrong sign: it belongs to the numerator, as the prior does.", wrong_weight(x=-1)
        ),
        Mistake(
            "The first step's log p(x_t | ...) is missing: the sum runs over all T steps.",
            lambda log_p_x, *a: log_weight(log_p_x, *a) - log_p_x[0] * (len(log_p_x) > 1),
        ),
        Mistake("Only the last step is left: w is a product over all steps.", wrong_weight(over_t=lambda v: v[-1])),
        Mistake("log p(x_t | ...) is added once for each latent dimension: sum over Z before you add it.", each_latent),
        Mistake("That is w itself: return its logarithm.", wrong_weight(over_t=lambda v: np.exp(v.sum(axis=0)))),
        Mistake(
            "The prior is N(0, 1), as in a VAE: in a VRNN it has mu_0 and sigma_0.",
            lambda x, z, mu_0, sigma_0, *q: log_weight(x, z, 0 * mu_0, 1 + 0 * sigma_0, *q),
        ),
        Mistake(
            "The deviations from the mean are not squared.",
            wrong_weight(density=wrong_density(square=1, power=1)),
        ),
        Mistake(
            "The exponents have the wrong sign: a density falls with the distance from its mean.",
            wrong_weight(density=wrong_density(half=-0.5)),
        ),
        Mistake(
            "Each log density is twice what it should be: a factor in front of both of its terms is missing.",
            wrong_weight(density=wrong_density(log=2.0, half=1.0)),
        ),
        Mistake(
            "The squares are divided by (2 sigma)^2: the 2 of a Gaussian's exponent is not squared.",
            wrong_weight(density=wrong_density(half=0.25)),
        ),
        Mistake(
            "Both densities treat sigma as a variance: it is a standard deviation.",
            wrong_weight(density=wrong_density(log=0.5, power=1)),
        ),
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
        Mistake(
            "The normaliser of N(v; m, s^2) is left over: the completed square has the same s, so it integrates to 1.",
            lambda s: s**2 / 2 + 0.5 * np.log(2 * np.pi * s**2),
        ),
        Mistake(
            "That is the variance of w, relative to E[w]^2: the gap compares two means.",
            lambda s: np.expm1(s**2),
        ),
        Mistake(
            "That is the logarithm of the variance of w, relative to E[w]^2: the gap compares two means.",
            lambda s: np.log(np.expm1(s**2)),
        ),
        Mistake(
            "That is the standard deviation of log w: which power of s appears when you complete the square?",
            lambda s: 1 * s,
        ),
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


def log_weights(log_p_x, log_p_z, log_q, kl):
    return log_p_x + log_p_z - log_q


def in_bound(log_p_x, log_p_z, log_q, kl):
    return log_p_x - kl


def mean_over_draws(terms):
    return terms.sum(axis=0).mean(axis=0)


def step_by_step(terms):
    return sum(log_mean_exp(v) for v in terms)


def wrong_importance(terms=log_weights, estimate=lambda terms: log_mean_exp(terms.sum(axis=0))):
    """The estimate from other terms (T, K, B), or another estimate from the terms."""
    return lambda *arguments: estimate(terms(*arguments))


def last_step(terms):
    return log_mean_exp(terms[-1])


def without_top(terms):
    return log_mean_exp(terms.sum(axis=0)) - terms.sum(axis=0).max(axis=0)


def self_normalised(terms):
    log_w = terms.sum(axis=0)
    return (np.exp(log_w - log_of_the_sum(log_w)) * log_w).sum(axis=0)


def divided_by(axis):
    return lambda terms: log_of_the_sum(terms.sum(axis=0)) - float(np.log(terms.shape[axis]))


INSIDE = Task(
    "the KL inside the logarithm",
    "bug",
    importance,
    draw_importance,
    ("log_p",),
    (
        Mistake(
            "The KL is still inside the logarithm: it is the mean of log q - log p, and each draw needs its own value.",
            wrong_importance(in_bound),
        ),
        Mistake(
            "Both log p - log q and the KL are there: the KL is the mean of log q - log p, so it is counted twice.",
            wrong_importance(lambda p_x, p_z, q, kl: p_x + p_z - q - kl),
        ),
        Mistake(
            "The KL is still inside the logarithm, and its sign has changed: replace it.",
            wrong_importance(lambda p_x, p_z, q, kl: p_x + kl),
        ),
        Mistake(
            "That is the mean of the logarithms, the ELBO, which is a bound: return an estimate of log p(x) itself.",
            wrong_importance(estimate=mean_over_draws),
        ),
        Mistake(
            "That is the ELBO by Eq. 11, which is a bound: return an estimate of log p(x) itself.",
            wrong_importance(in_bound, mean_over_draws),
        ),
        Mistake(
            "Prior and posterior have their signs swapped.",
            wrong_importance(lambda p_x, p_z, q, kl: p_x - p_z + q),
        ),
        Mistake(
            "Each step is averaged separately, and the logarithms are added: a weight belongs to a whole sequence z.",
            wrong_importance(estimate=step_by_step),
        ),
        Mistake(
            "The KL is still inside the logarithm, and each step is averaged separately.",
            wrong_importance(in_bound, step_by_step),
        ),
        Mistake(
            "Steps and draws go into one mean: first multiply the steps of a draw, then average over the K draws.",
            wrong_importance(estimate=lambda terms: log_mean_exp(terms.reshape(-1, terms.shape[-1]))),
        ),
        Mistake(
            "The axes of steps and draws are mixed up: the terms are summed over K and averaged over T.",
            wrong_importance(estimate=lambda terms: log_mean_exp(terms.sum(axis=1))),
        ),
        Mistake(
            "log w is the mean over the steps: the logarithm of a product over t is a sum.",
            wrong_importance(estimate=lambda terms: log_mean_exp(terms.mean(axis=0))),
        ),
        Mistake("Only the last step counts: log w is the sum over all steps.", wrong_importance(estimate=last_step)),
        Mistake(
            "The largest log-weight was factored out, so that exp does not underflow: add it back.",
            wrong_importance(estimate=without_top),
        ),
        Mistake(
            "That is the largest of the K weights alone: average all of them.",
            wrong_importance(estimate=lambda terms: terms.sum(axis=0).max(axis=0)),
        ),
        Mistake(
            "The logarithm of the sum is divided by K: it is the sum that is divided, inside the logarithm.",
            wrong_importance(estimate=lambda terms: log_of_the_sum(terms.sum(axis=0)) / terms.shape[1]),
        ),
        Mistake(
            "With neither the KL nor p/q, z is treated as a draw from the prior: it was drawn from q.",
            wrong_importance(lambda p_x, p_z, q, kl: p_x),
        ),
        Mistake(
            "log w is averaged, with the weights themselves as shares: the mean belongs inside the logarithm.",
            wrong_importance(estimate=self_normalised),
        ),
        Mistake(
            "The K weights are summed, not averaged: more draws would make x more probable.",
            wrong_importance(estimate=lambda terms: log_of_the_sum(terms.sum(axis=0))),
        ),
        Mistake(
            "The sum of the weights is divided by the number of steps: how many weights does a sequence have?",
            wrong_importance(estimate=divided_by(0)),
        ),
        Mistake(
            "The sum of the weights is divided by the number of sequences: how many weights does a sequence have?",
            wrong_importance(estimate=divided_by(2)),
        ),
        Mistake(
            "q is missing: z was drawn from q, and the weights have to correct for that.",
            wrong_importance(lambda p_x, p_z, q, kl: p_x + p_z),
        ),
        Mistake(
            "The prior is missing: the weight's numerator is p(x, z), not p(x | z).",
            wrong_importance(lambda p_x, p_z, q, kl: p_x - q),
        ),
        Mistake(
            "log p(x_t | ...) is missing: without it the weights say nothing about x.",
            wrong_importance(lambda p_x, p_z, q, kl: p_z - q),
        ),
        Mistake(
            "The KL is now outside the logarithm, but still a mean: each draw has its own log p - log q.",
            lambda log_p_x, log_p_z, log_q, kl: log_mean_exp(log_p_x.sum(axis=0)) - kl.sum(axis=0).mean(axis=0),
        ),
        Mistake(
            "log q is added: w has q in the denominator.",
            wrong_importance(lambda p_x, p_z, q, kl: p_x + p_z + q),
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


def wrong_masked(terms=lambda log_p, kl, mask: (log_p - kl) * mask, mask=np.copy, elbo=None, per_step=None):
    """elbo and per_step with one thing changed; elbo and per_step are functions of elbo, mask and the masked terms."""

    def answer(log_p, kl, real):
        real = mask(real)
        found = terms(log_p, kl, real)
        total = found.sum(axis=0)
        step = per_step(total, real, found) if per_step else total.sum() / real.sum()
        return elbo(total, real) if elbo else total, step

    return answer


def by_length(elbo, mask):
    return elbo / mask.sum(axis=0)


def mean_of_means(elbo, mask, _):
    return by_length(elbo, mask).mean()


MASKED = Task(
    "masks and units",
    "write",
    masked,
    draw_masked,
    ("elbo", "per_step"),
    (
        Mistake("The padded steps are counted: they are not data.", wrong_masked(mask=np.ones_like)),
        Mistake(
            "The padded steps are counted in the sums, though not in the number of steps: multiply by the mask.",
            wrong_masked(lambda log_p, kl, mask: log_p - kl),
        ),
        Mistake(
            "The KL of the padded steps is counted: the mask applies to both terms.",
            wrong_masked(lambda log_p, kl, mask: log_p * mask - kl),
        ),
        Mistake(
            "log_p of the padded steps is counted: the mask applies to both terms.",
            wrong_masked(lambda log_p, kl, mask: log_p - kl * mask),
        ),
        Mistake("The KL is added: the bound subtracts it.", wrong_masked(lambda log_p, kl, mask: (log_p + kl) * mask)),
        Mistake("The KL is missing: each step pays it.", wrong_masked(lambda log_p, kl, mask: log_p * mask)),
        Mistake(
            "The mask is used the wrong way round: only the padded steps are left.",
            wrong_masked(mask=lambda mask: 1 - mask),
        ),
        Mistake(
            "per_step is the mean of the sequences' means: it gives the steps of short sequences more weight.",
            wrong_masked(per_step=mean_of_means),
        ),
        Mistake(
            "per_step divides by T times B, padding included.", wrong_masked(per_step=lambda e, m, _: e.sum() / m.size)
        ),
        Mistake(
            "per_step divides as if all sequences were as long as the longest: count the real steps.",
            wrong_masked(per_step=lambda e, m, _: e.mean() / m.sum(axis=0).max()),
        ),
        Mistake(
            "per_step is in nats per sequence: how many real steps are there?",
            wrong_masked(per_step=lambda e, m, _: e.mean()),
        ),
        Mistake(
            "per_step is the total of the whole batch: divide it by the number of real steps.",
            wrong_masked(per_step=lambda e, m, _: e.sum()),
        ),
        Mistake(
            "per_step divides the total by T: the batch has more than one sequence, and padding.",
            wrong_masked(per_step=lambda e, m, _: e.sum() / len(m)),
        ),
        Mistake(
            "per_step divides twice, by B and by the number of real steps of all sequences.",
            wrong_masked(per_step=lambda e, m, _: e.mean() / m.sum()),
        ),
        Mistake(
            "per_step is divided by the number of terms that are not 0, but a real step can have exactly 0 nats: "
            "count with the mask.",
            wrong_masked(per_step=lambda e, _, terms: e.sum() / np.count_nonzero(terms)),
        ),
        Mistake(
            "elbo is right, but per_step adds up the padded steps too.",
            lambda log_p, kl, mask: (masked(log_p, kl, mask)[0], (log_p - kl).sum() / mask.sum()),
        ),
        Mistake(
            "per_step is right, but elbo adds up the padded steps too.",
            lambda log_p, kl, mask: ((log_p - kl).sum(axis=0), masked(log_p, kl, mask)[1]),
        ),
        Mistake(
            "elbo is divided by each sequence's length: it should be in nats per sequence.",
            wrong_masked(elbo=by_length),
        ),
        Mistake(
            "elbo is divided by each sequence's length, and per_step is the mean of that: neither has the right unit.",
            wrong_masked(elbo=by_length, per_step=mean_of_means),
        ),
        Mistake(
            "elbo is the mean over all T steps, padding included: it should be in nats per sequence.",
            wrong_masked(elbo=lambda e, mask: e / len(mask)),
        ),
        Mistake(
            "One padded step of each sequence is counted: the mask is off by one.",
            wrong_masked(mask=lambda mask: np.concatenate([mask[:1], mask[:-1]])),
        ),
        Mistake(
            "The last real step of each sequence is left out: the mask is off by one.",
            wrong_masked(mask=lambda mask: np.concatenate([mask[1:], 0 * mask[:1]])),
        ),
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
        Mistake(
            "Three of the four are random, and one is the exact expectation: which one has to lie below log p(x)?",
            {"w", "eq11", "elbo"},
        ),
        Mistake("It is the other way round: only the expectation must lie below log p(x).", {"elbo"}),
    ),
)

EXERCISES = {"05.1": LOG_MEAN, "05.2": WEIGHT, "05.3": GAP, "05.4": INSIDE, "05.5": MASKED, "05.6": ABOVE}
