"""The exercises of notebook 02, The bound for one step: expected log-density, best q, score function, KL, a loss."""

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions import bernoulli, gaussian
from tinyvrnn.models import vae

HALF_LOG_2PI = float(0.5 * np.log(2 * np.pi))

# ---- 02.1: the first term of the bound -----------------------------------------------------------


def expected_log_density(x, mu_z, sigma_z, sigma_x):
    return -HALF_LOG_2PI - np.log(sigma_x) - ((x - mu_z) ** 2 + sigma_z**2) / (2 * sigma_x**2)


def draw_expected(rng):
    shape = [(5,), (3, 4), (2, 6)][rng.integers(3)]
    x, mu_z = rng.standard_normal((2, *shape))
    return x, mu_z, *np.exp(0.5 * rng.standard_normal((2, *shape)))


def wrong_expected(spread=lambda sigma_z: sigma_z**2, half=0.5, constant=HALF_LOG_2PI, sign=1, norm=np.log):
    """The expected log-density with one thing changed."""

    def answer(x, mu_z, sigma_z, sigma_x):
        return -constant - norm(sigma_x) - half * ((x - mu_z) ** 2 + sign * spread(sigma_z)) / sigma_x**2

    return answer


EXPECTED = Task(
    "the expected log-density",
    "derive",
    expected_log_density,
    draw_expected,
    ("the expectation",),
    (
        Mistake(
            "That is the log-density at the mean of q. z spreads about it: what is E[(x - z)^2]?",
            wrong_expected(spread=np.zeros_like),
        ),
        Mistake("sigma_z enters as a deviation: which power of it is the mean of a square?", wrong_expected(np.copy)),
        Mistake("A wider q should make the fit worse here, not better: look at a sign.", wrong_expected(sign=-1)),
        Mistake(
            "The square has a factor in front of it in a Gaussian's exponent: it is missing.",
            wrong_expected(half=1),
        ),
        Mistake("The constant of the density is missing, the one with pi.", wrong_expected(constant=0.0)),
        Mistake(
            "The constant is that of two dimensions: one number x has half of it.",
            wrong_expected(constant=2 * HALF_LOG_2PI),
        ),
        Mistake("The density is divided by sigma_x: where is its logarithm?", wrong_expected(norm=np.zeros_like)),
        Mistake(
            "sigma_z^2 is not divided by sigma_x^2: both parts of E[(x - z)^2] are.",
            lambda x, mu_z, sigma_z, sigma_x: (
                -HALF_LOG_2PI - np.log(sigma_x) - ((x - mu_z) / sigma_x) ** 2 / 2 - sigma_z**2 / 2
            ),
        ),
        Mistake(
            "sigma_z^2 stands where E[z^2] belongs: that is the mean of a square about 0, and z has a mean of its own.",
            lambda x, mu_z, sigma_z, sigma_x: wrong_expected(lambda s: s**2 - mu_z**2)(x, mu_z, sigma_z, sigma_x),
        ),
        Mistake(
            "The logarithm is that of the variance, without its half.",
            wrong_expected(norm=lambda sigma_x: np.log(sigma_x**2)),
        ),
        Mistake(
            "The squares are divided by a deviation: an exponent has no unit, and here one is left over.",
            lambda x, mu_z, sigma_z, sigma_x: (
                -HALF_LOG_2PI - np.log(sigma_x) - ((x - mu_z) ** 2 + sigma_z**2) / (2 * sigma_x)
            ),
        ),
        Mistake(
            "That is a density, never negative: asked is the mean of its logarithm.",
            lambda *arguments: np.exp(expected_log_density(*arguments)),
        ),
        Mistake(
            "That is log E_q[p(x | z)], the logarithm of a mean: here the logarithm stands inside.",
            lambda x, mu_z, sigma_z, sigma_x: wrong_expected(np.zeros_like)(
                x, mu_z, sigma_z, np.sqrt(sigma_x**2 + sigma_z**2)
            ),
        ),
    ),
)

# ---- 02.2: the best q ----------------------------------------------------------------------------


def best_sigma():
    """The sigma_z of the highest bound for p(z) = N(0, 1), p(x | z) = N(z, 1), x = 2 and mu_z = 1: by search."""
    sigma_z = np.linspace(0.01, 3, 299_001)
    fit = expected_log_density(2.0, 1.0, sigma_z, 1.0)
    kl = gaussian.gaussian_kl_forward(1.0 + 0 * sigma_z[:, None], sigma_z[:, None], 0.0, 1.0)[0]
    return float(sigma_z[np.argmax(fit - kl)])


SIGMA = Prediction(
    "the best sigma",
    best_sigma,
    (
        Mistake("That is the posterior's variance. What does q carry?", 0.5),
        Mistake("That is the prior's deviation. x has told something since.", 1.0),
        Mistake("That is the variance of x itself, p(x) = N(0, 2). Asked is what is left of z once x is known.", 2.0),
        Mistake("That is the deviation of x itself. Asked is what is left of z once x is known.", 2**0.5),
        Mistake("q as a spike on the best z: then the KL is infinite.", 0.0),
        Mistake(
            "Precisions add up, one of the prior and one of the look at x: 1 + 1. What is then the variance?",
            0.25,
        ),
    ),
    tol=0.01,
)

# ---- 02.3: the score function --------------------------------------------------------------------


def score_function(mu, sigma, eps, f):
    return f * eps / sigma, f * (eps**2 - 1) / sigma


def draw_score(rng):
    shape = [(5,), (3, 4), (2, 6)][rng.integers(3)]
    mu, eps, f = rng.standard_normal((3, *shape))
    return mu, np.exp(0.5 * rng.standard_normal(shape)), eps, f


def density(eps, sigma):
    """q(z) at z = mu + sigma eps."""
    return np.exp(-0.5 * eps**2 - HALF_LOG_2PI) / sigma


SCORE = Task(
    "the score function",
    "write",
    score_function,
    draw_score,
    ("g_mu", "g_sigma"),
    (
        Mistake(
            "g_sigma lacks the slope of -log sigma: also the height of the density changes with sigma.",
            lambda mu, sigma, eps, f: (f * eps / sigma, f * eps**2 / sigma),
        ),
        Mistake(
            "Both have the wrong sign: log q rises when mu moves towards z.",
            lambda mu, sigma, eps, f: (-f * eps / sigma, -f * (eps**2 - 1) / sigma),
        ),
        Mistake(
            "g_mu is divided by sigma^2 with z - mu already in deviations: (z - mu) / sigma^2 in terms of eps?",
            lambda mu, sigma, eps, f: (f * eps / sigma**2, f * (eps**2 - 1) / sigma),
        ),
        Mistake(
            "g_mu has z where it needs z - mu.",
            lambda mu, sigma, eps, f: (f * (mu + sigma * eps) / sigma**2, f * (eps**2 - 1) / sigma),
        ),
        Mistake(
            "f is missing: that is the slope of log q alone, whose mean is 0.",
            lambda mu, sigma, eps, f: (eps / sigma, (eps**2 - 1) / sigma),
        ),
        Mistake(
            "g_sigma is the slope by the variance.",
            lambda mu, sigma, eps, f: (f * eps / sigma, f * (eps**2 - 1) / (2 * sigma**2)),
        ),
        Mistake("g_sigma is the slope by log sigma.", lambda mu, sigma, eps, f: (f * eps / sigma, f * (eps**2 - 1))),
        Mistake(
            "That is the road through z = mu + sigma eps, on which f's slope travels: here f is known as a value only.",
            lambda mu, sigma, eps, f: (f, f * eps),
        ),
        Mistake(
            "g_sigma has a sigma too many below the line: (z - mu)^2 / sigma^3 in terms of eps?",
            lambda mu, sigma, eps, f: (f * eps / sigma, f * (eps**2 - 1) / sigma**2),
        ),
        Mistake(
            "Those are the slopes of q itself: the score is the slope of its logarithm.",
            lambda mu, sigma, eps, f: score_function(mu, sigma, eps, f * density(eps, sigma)),
        ),
        Mistake(
            "The two have changed places: first the slope by mu, then that by sigma.",
            lambda mu, sigma, eps, f: score_function(mu, sigma, eps, f)[::-1],
        ),
    ),
)

# ---- 02.4: the KL --------------------------------------------------------------------------------


def gaussian_kl(mu_z, sigma_z, mu_0, sigma_0):
    return gaussian.gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)[0]


def draw_kl(rng):
    shape = [(3, 2), (4, 2, 5), (6, 3)][rng.integers(3)]
    mu_z, mu_0 = rng.standard_normal((2, *shape))
    return mu_z, np.exp(0.5 * rng.standard_normal(shape)), mu_0, np.exp(0.5 * rng.standard_normal(shape))


def wrong_kl(log=1.0, half=0.5, one=0.5, square=lambda v: v**2, mean=1.0, reduce=np.sum, below=None):
    """The KL with one thing changed. below: what the squares are divided by, of sigma_z and sigma_0."""

    def answer(mu_z, sigma_z, mu_0, sigma_0):
        under = below(sigma_z, sigma_0) if below else square(sigma_0)
        ratio = (square(sigma_z) + mean * (mu_z - mu_0) ** 2) / under
        return reduce(log * np.log(sigma_0 / sigma_z) + half * ratio - one, axis=-1)

    return answer


KL = Task(
    "the Gaussian KL",
    "write",
    gaussian_kl,
    draw_kl,
    ("kl",),
    (
        Mistake("The latent dimensions are averaged: independent ones add up their KLs.", wrong_kl(reduce=np.mean)),
        Mistake("The logarithm is the other way round: a narrow q must cost more.", wrong_kl(log=-1.0)),
        Mistake("The logarithm is that of variances, without its half.", wrong_kl(log=2.0)),
        Mistake("It is not 0 for two equal Gaussians: a constant is missing.", wrong_kl(one=0.0)),
        Mistake("Deviations stand where variances belong.", wrong_kl(square=np.copy)),
        Mistake("The distance of the means is missing.", wrong_kl(mean=0.0)),
        Mistake("The fraction has lost its half.", wrong_kl(half=1.0)),
        Mistake(
            "That is KL(p || q): which of the two does the average go over?",
            lambda mu_z, sigma_z, mu_0, sigma_0: wrong_kl()(mu_0, sigma_0, mu_z, sigma_z),
        ),
        Mistake(
            "That is the KL to N(0, 1), whatever the prior: where do mu_0 and sigma_0 enter?",
            lambda mu_z, sigma_z, mu_0, sigma_0: wrong_kl()(mu_z, sigma_z, 0 * mu_0, sigma_0 / sigma_0),
        ),
        Mistake(
            "The squares are multiplied by sigma_0^2: Python reads a / 2 * b from left to right.",
            wrong_kl(below=lambda sigma_z, sigma_0: sigma_0**-2),
        ),
        Mistake(
            "The constant comes once for all latent dimensions: is the KL of two equal Gaussians 0 then?",
            lambda *arguments: wrong_kl(one=0.0)(*arguments) - 0.5,
        ),
        Mistake(
            "The squares are divided by a deviation: a KL has no unit, and here one is left over.",
            wrong_kl(below=lambda sigma_z, sigma_0: sigma_0),
        ),
        Mistake(
            "The squares are divided by q's own variance: in whose exponent do they stand?",
            wrong_kl(below=lambda sigma_z, sigma_0: sigma_z**2),
        ),
    ),
    forbidden=(gaussian.gaussian_kl_forward, gaussian.kl_of_each),
)

# ---- 02.5: a loss with bugs ----------------------------------------------------------------------


def vae_loss(x, mu_z, log_var, eps, W, b):
    sigma_z = np.exp(0.5 * log_var)
    logits = (mu_z + sigma_z * eps) @ W + b
    log_p = bernoulli.bernoulli_log_density_forward(x, logits)[0]
    kl = gaussian.gaussian_kl_forward(mu_z, sigma_z, np.zeros_like(mu_z), np.ones_like(mu_z))[0]
    return np.mean(kl - log_p)


def draw_loss(rng):
    B, X, Z = (int(n) for n in rng.permutation([3, 4, 5, 6])[:3])
    mu_z, log_var, eps = rng.standard_normal((3, B, Z))
    x = (rng.random((B, X)) < 0.5).astype(float)
    return x, mu_z, log_var, eps, rng.standard_normal((Z, X)), rng.standard_normal(X)


def wrong_loss(half=0.5, over_x=np.sum, over_z=np.sum, over_b=np.mean, sign=1.0, own=1.0, shared=False):
    """The loss with something changed."""

    def answer(x, mu_z, log_var, eps, W, b):
        eps = eps[:1] if shared else eps
        a = (mu_z + np.exp(half * log_var) * eps) @ W + b
        log_p = over_x(x * a - np.logaddexp(np.zeros_like(a), a), axis=-1)
        kl = -0.5 * over_z(own + log_var - mu_z**2 - np.exp(log_var), axis=-1)
        return over_b(sign * kl - log_p)

    return answer


LOSS = Task(
    "a loss with two bugs",
    "bug",
    vae_loss,
    draw_loss,
    ("loss",),
    (
        Mistake("Both bugs are still there: check one term of the bound, then the other.", wrong_loss(1.0, np.mean)),
        Mistake(
            "One bug is left: a sum over pixels is one log-probability. What is a mean over pixels, beside a KL?",
            wrong_loss(over_x=np.mean),
        ),
        Mistake("One bug is left: which deviation belongs to this log-variance?", wrong_loss(half=1.0)),
        Mistake("That deviation is still not it: sqrt(exp(v)) = exp(?)", wrong_loss(half=2.0)),
        Mistake("The latent dimensions are averaged in the KL: they should add up.", wrong_loss(over_z=np.mean)),
        Mistake(
            "Pixels and latents are both averaged: then neither term is in nats.",
            wrong_loss(0.5, np.mean, np.mean),
        ),
        Mistake("The pictures of the batch are added up: the loss is a mean over them.", wrong_loss(over_b=np.sum)),
        Mistake("The KL has the wrong sign: the loss is minus the bound.", wrong_loss(sign=-1.0)),
        Mistake("All pictures get the noise of the first.", wrong_loss(shared=True)),
    ),
    forbidden=(vae.terms_forward,),
    points=3,
)

EXERCISES = {"02.1": EXPECTED, "02.2": SIGMA, "02.3": SCORE, "02.4": KL, "02.5": LOSS}
