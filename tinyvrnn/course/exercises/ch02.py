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


def mean_square(x, mu_z, sigma_z):
    return (x - mu_z) ** 2 + sigma_z**2


def wrong_expected(square=mean_square, half=0.5, constant=HALF_LOG_2PI, norm=np.log):
    """The expected log-density with one thing changed. square: in place of E[(x - z)^2]."""

    def answer(x, mu_z, sigma_z, sigma_x):
        return -constant - norm(sigma_x) - half * square(x, mu_z, sigma_z) / sigma_x**2

    return answer


EXPECTED = Task(
    "the expected log-density",
    "derive",
    expected_log_density,
    draw_expected,
    ("the expectation",),
    (
        Mistake(
            "That is the log-density at the mean of q, but z varies around it: what is E[(x - z)^2]?",
            wrong_expected(lambda x, m, s: (x - m) ** 2),
        ),
        Mistake(
            "sigma_z is a standard deviation: which power of it is the mean of a square?",
            wrong_expected(lambda x, m, s: (x - m) ** 2 + s),
        ),
        Mistake(
            "A wider q should make the fit worse here, not better: check a sign.",
            wrong_expected(lambda x, m, s: (x - m) ** 2 - s**2),
        ),
        Mistake(
            "The factor in front of the square in a Gaussian's exponent is missing.",
            wrong_expected(half=1),
        ),
        Mistake("The constant of the density, with pi in it, is missing.", wrong_expected(constant=0.0)),
        Mistake(
            "That is the constant for two dimensions: x has one, and half of this constant.",
            wrong_expected(constant=2 * HALF_LOG_2PI),
        ),
        Mistake(
            "A Gaussian density has the factor 1 / sigma_x: where is its logarithm?", wrong_expected(norm=np.zeros_like)
        ),
        Mistake(
            "sigma_z^2 is not divided by sigma_x^2: divide both terms of E[(x - z)^2].",
            lambda x, mu_z, sigma_z, sigma_x: (
                -HALF_LOG_2PI - np.log(sigma_x) - ((x - mu_z) / sigma_x) ** 2 / 2 - sigma_z**2 / 2
            ),
        ),
        Mistake(
            "sigma_z^2 is not E[z^2]: the mean of z is not 0.",
            wrong_expected(lambda x, m, s: (x - m) ** 2 + s**2 - m**2),
        ),
        Mistake(
            "E[(x - z)^2] is expanded without its cross term: E[x z] = x mu_z is not 0.",
            wrong_expected(lambda x, m, s: x**2 + m**2 + s**2),
        ),
        Mistake(
            "z is put one standard deviation above mu_z: take the mean over all z. What are E[eps] and E[eps^2]?",
            wrong_expected(lambda x, m, s: (x - m - s) ** 2),
        ),
        Mistake(
            "The distance and sigma_z are added before the square: what is the mean of the cross term?",
            wrong_expected(lambda x, m, s: (abs(x - m) + s) ** 2),
        ),
        Mistake(
            "The logarithm of sigma_x has the wrong sign: the density has the factor 1 / sigma_x.",
            wrong_expected(norm=lambda sigma_x: -np.log(sigma_x)),
        ),
        Mistake(
            "That is half of log sigma_x: the root in the density is of 2 pi sigma_x^2, not of 2 pi sigma_x.",
            wrong_expected(norm=lambda sigma_x: np.log(sigma_x) / 2),
        ),
        Mistake(
            "That is the logarithm of the variance, without the factor 1/2.",
            wrong_expected(norm=lambda sigma_x: np.log(sigma_x**2)),
        ),
        Mistake(
            "The squares are divided by sigma, not by a variance: an exponent must be dimensionless.",
            lambda x, mu_z, sigma_z, sigma_x: (
                -HALF_LOG_2PI - np.log(sigma_x) - ((x - mu_z) ** 2 + sigma_z**2) / (2 * sigma_x)
            ),
        ),
        Mistake(
            "That is a density: return the mean of its logarithm.",
            lambda *arguments: np.exp(expected_log_density(*arguments)),
        ),
        Mistake(
            "That is log E_q[p(x | z)], the logarithm of a mean: here the logarithm is inside the mean.",
            lambda x, mu_z, sigma_z, sigma_x: expected_log_density(x, mu_z, 0 * sigma_z, np.hypot(sigma_x, sigma_z)),
        ),
    ),
)

# ---- 02.2: the best q ----------------------------------------------------------------------------


def best_sigma():
    """The sigma_z that maximises the bound for p(z) = N(0, 1), p(x | z) = N(z, 1), x = 2, mu_z = 1, by search."""
    sigma_z = np.linspace(0.01, 3, 299_001)
    fit = expected_log_density(2.0, 1.0, sigma_z, 1.0)
    kl = gaussian.gaussian_kl_forward(1.0 + 0 * sigma_z[:, None], sigma_z[:, None], 0.0, 1.0)[0]
    return float(sigma_z[np.argmax(fit - kl)])


SIGMA = Prediction(
    "the best sigma",
    best_sigma,
    (
        Mistake("That is the variance of the posterior: q uses the standard deviation.", 0.5),
        Mistake("A standard deviation is never negative: check the sign.", -(0.5**0.5)),
        Mistake("That is the standard deviation of the prior: observing x makes it smaller.", 1.0),
        Mistake("That is the variance of x, p(x) = N(0, 2). We want the distribution of z given x.", 2.0),
        Mistake("That is the standard deviation of x. We want the distribution of z given x.", 2**0.5),
        Mistake("That puts all of q on the best z: then the KL is infinite.", 0.0),
        Mistake(
            "The precisions of the prior and of the observation add up: 1 + 1. What is the variance then?",
            0.25,
        ),
    ),
    tol=0.02,
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
            "g_sigma lacks the derivative of -log sigma: the height of the density changes with sigma too.",
            lambda mu, sigma, eps, f: (f * eps / sigma, f * eps**2 / sigma),
        ),
        Mistake(
            "Both have the wrong sign: log q increases when mu moves towards z.",
            lambda mu, sigma, eps, f: (-f * eps / sigma, -f * (eps**2 - 1) / sigma),
        ),
        Mistake(
            "g_mu has one sigma too many in the denominator: what is (z - mu) / sigma^2 in terms of eps?",
            lambda mu, sigma, eps, f: (f * eps / sigma**2, f * (eps**2 - 1) / sigma),
        ),
        Mistake(
            "g_mu has z where it needs z - mu.",
            lambda mu, sigma, eps, f: (f * (mu + sigma * eps) / sigma**2, f * (eps**2 - 1) / sigma),
        ),
        Mistake(
            "eps is taken for z: how are the two related?",
            lambda mu, sigma, eps, f: score_function(mu, sigma, (eps - mu) / sigma, f),
        ),
        Mistake(
            "f is missing: that is the derivative of log q alone, and its mean is 0.",
            lambda mu, sigma, eps, f: (eps / sigma, (eps**2 - 1) / sigma),
        ),
        Mistake(
            "g_sigma is the derivative with respect to the variance.",
            lambda mu, sigma, eps, f: (f * eps / sigma, f * (eps**2 - 1) / (2 * sigma**2)),
        ),
        Mistake(
            "g_sigma is the derivative with respect to log sigma.",
            lambda mu, sigma, eps, f: (f * eps / sigma, f * (eps**2 - 1)),
        ),
        Mistake(
            "That is the derivative through z = mu + sigma eps, which needs the derivative of f: you have only f.",
            lambda mu, sigma, eps, f: (f, f * eps),
        ),
        Mistake(
            "g_sigma has one sigma too many in the denominator: what is (z - mu)^2 / sigma^3 in terms of eps?",
            lambda mu, sigma, eps, f: (f * eps / sigma, f * (eps**2 - 1) / sigma**2),
        ),
        Mistake(
            "Those are the derivatives of q: the score is the derivative of log q.",
            lambda mu, sigma, eps, f: score_function(mu, sigma, eps, f * density(eps, sigma)),
        ),
        Mistake(
            "The two results are swapped: first the one for mu, then the one for sigma.",
            lambda mu, sigma, eps, f: score_function(mu, sigma, eps, f)[::-1],
        ),
        Mistake(
            "The mean of f is subtracted: that is an estimator with a baseline. Weight each score by its own f.",
            lambda mu, sigma, eps, f: score_function(mu, sigma, eps, f - f.mean()),
        ),
        Mistake(
            "A factor 1 / sigma is missing in both: (z - mu) / sigma^2 is not eps.",
            lambda mu, sigma, eps, f: (f * eps, f * (eps**2 - 1)),
        ),
        Mistake(
            "In g_sigma, eps is not squared: the exponent holds (z - mu)^2, and sigma's derivative leaves that square.",
            lambda mu, sigma, eps, f: (f * eps / sigma, f * (eps - 1) / sigma),
        ),
        Mistake(
            "In g_sigma, the derivative of -log sigma has the wrong sign.",
            lambda mu, sigma, eps, f: (f * eps / sigma, f * (eps**2 + 1) / sigma),
        ),
        Mistake(
            "z moves along with mu and sigma: the score is the derivative of log q(z) at a fixed z.",
            lambda mu, sigma, eps, f: (0 * f, -f / sigma),
        ),
        Mistake(
            "g_mu is f times z - mu: the exponent has the variance below, and so has its derivative.",
            lambda mu, sigma, eps, f: (f * eps * sigma, f * (eps**2 - 1) / sigma),
        ),
        Mistake(
            "In g_sigma, (z - mu)^2 is divided by sigma^2: which power does the derivative of 1 / sigma^2 have?",
            lambda mu, sigma, eps, f: (f * eps / sigma, f * (eps**2 - 1 / sigma)),
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


def wrong_kl(log=1.0, half=0.5, one=0.5, square=lambda v: v**2, mean=1.0, reduce=np.sum, below=None, fraction=None):
    """The KL with one thing changed. below(sigma_z, sigma_0): the denominator of the squares; fraction: all of it."""

    def answer(mu_z, sigma_z, mu_0, sigma_0):
        under = below(sigma_z, sigma_0) if below else square(sigma_0)
        ratio = (square(sigma_z) + mean * (mu_z - mu_0) ** 2) / under
        ratio = fraction(mu_z, sigma_z, mu_0, sigma_0) if fraction else half * ratio
        return reduce(log * np.log(sigma_0 / sigma_z) + ratio - one, axis=-1)

    return answer


KL = Task(
    "the Gaussian KL",
    "write",
    gaussian_kl,
    draw_kl,
    ("kl",),
    (
        Mistake(
            "The latent dimensions are averaged: the KLs of independent dimensions add up.", wrong_kl(reduce=np.mean)
        ),
        Mistake("The logarithm has the wrong sign: a narrower q must cost more.", wrong_kl(log=-1.0)),
        Mistake("That is the logarithm of the ratio of variances, without the factor 1/2.", wrong_kl(log=2.0)),
        Mistake("Your KL of two equal Gaussians is not 0: a constant is missing.", wrong_kl(one=0.0)),
        Mistake("The fraction should contain variances, not standard deviations.", wrong_kl(square=np.copy)),
        Mistake("The difference of the means is missing.", wrong_kl(mean=0.0)),
        Mistake("The fraction lacks its factor 1/2.", wrong_kl(half=1.0)),
        Mistake(
            "That is KL(p || q): over which of the two is the mean taken?",
            lambda mu_z, sigma_z, mu_0, sigma_0: wrong_kl()(mu_0, sigma_0, mu_z, sigma_z),
        ),
        *(
            Mistake(
                f"That is the {name} of KL(q || p) and KL(p || q): only one of them is in the bound.",
                lambda m, s, n, t, share=share: share * (wrong_kl()(m, s, n, t) + wrong_kl()(n, t, m, s)),
            )
            for name, share in (("mean", 0.5), ("sum", 1.0))
        ),
        Mistake("The logarithm has base 10: nats use base e.", wrong_kl(log=float(1 / np.log(10)))),
        Mistake(
            "sigma_z and sigma_0 are used as log-variances: they are standard deviations.",
            lambda m, s, n, t: wrong_kl()(m, np.exp(s / 2), n, np.exp(t / 2)),
        ),
        Mistake(
            "That is the KL to N(0, 1) for every prior: where do mu_0 and sigma_0 enter?",
            lambda mu_z, sigma_z, mu_0, sigma_0: wrong_kl()(mu_z, sigma_z, 0 * mu_0, sigma_0 / sigma_0),
        ),
        Mistake(
            "The squares are multiplied by sigma_0^2: Python reads a / 2 * b from left to right.",
            wrong_kl(below=lambda sigma_z, sigma_0: sigma_0**-2),
        ),
        Mistake(
            "The constant is subtracted once, not once per latent dimension: is the KL of two equal Gaussians 0?",
            lambda *arguments: wrong_kl(one=0.0)(*arguments) - 0.5,
        ),
        Mistake(
            "The squares are divided by sigma_0, not by its square: a KL must be dimensionless.",
            wrong_kl(below=lambda sigma_z, sigma_0: sigma_0),
        ),
        Mistake(
            "The squares are divided by the variance of q: whose exponent do they come from?",
            wrong_kl(below=lambda sigma_z, sigma_0: sigma_z**2),
        ),
        Mistake(
            "Only the squared difference of the means is divided, not sigma_z^2: are there parentheses around the sum?",
            wrong_kl(fraction=lambda m, s, n, t: s**2 + (m - n) ** 2 / (2 * t**2)),
        ),
        Mistake(
            "The difference of the means is not squared.",
            wrong_kl(fraction=lambda m, s, n, t: (s**2 + m - n) / (2 * t**2)),
        ),
        Mistake(
            "The difference of the means has lost its sign, but it is not squared.",
            wrong_kl(fraction=lambda m, s, n, t: (s**2 + abs(m - n)) / (2 * t**2)),
        ),
        Mistake(
            "That is a difference of squares, mu_z^2 - mu_0^2: you need the square of a difference.",
            wrong_kl(fraction=lambda m, s, n, t: (s**2 + m**2 - n**2) / (2 * t**2)),
        ),
        Mistake(
            "The ratio of the variances is upside down: a q wider than the prior must make it large.",
            wrong_kl(fraction=lambda m, s, n, t: t**2 / (2 * s**2) + (m - n) ** 2 / (2 * t**2)),
        ),
        Mistake(
            "The factor 1/2 is missing at the difference of the means: it belongs to both squares.",
            wrong_kl(fraction=lambda m, s, n, t: s**2 / (2 * t**2) + (m - n) ** 2 / t**2),
        ),
        Mistake("Your KL of two equal Gaussians is below 0: the constant is too large.", wrong_kl(one=1.0)),
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


def log_bernoulli(x, a):
    return x * a - np.logaddexp(np.zeros_like(a), a)


def wrong_loss(
    half=0.5,
    over_x=np.sum,
    over_z=np.sum,
    over_b=np.mean,
    weight=1,
    bias=1,
    shared=False,
    sigma=lambda half, log_var: np.exp(half * log_var),
    fit=log_bernoulli,
    variance=np.exp,
):
    """The loss with something changed. weight: of the KL; variance: its exp(log_var)."""

    def answer(x, mu_z, log_var, eps, W, b):
        eps = eps[:1] if shared else eps
        z = mu_z + sigma(half, log_var) * eps
        log_p = over_x(fit(x, z @ W + bias * b), axis=-1)
        kl = -0.5 * over_z(1 + log_var - mu_z**2 - variance(log_var), axis=-1)
        return over_b(weight * kl - log_p)

    return answer


LOSS = Task(
    "a loss with two bugs",
    "bug",
    vae_loss,
    draw_loss,
    ("loss",),
    (
        Mistake("Both bugs are still there: check the two terms of the bound one at a time.", wrong_loss(1.0, np.mean)),
        Mistake(
            "One bug is left: the log-probability of a picture is a sum over its pixels, not a mean.",
            wrong_loss(over_x=np.mean),
        ),
        Mistake("One bug is left: which standard deviation belongs to this log-variance?", wrong_loss(half=1.0)),
        Mistake("The standard deviation is still wrong: sqrt(exp(v)) = exp(?)", wrong_loss(half=2.0)),
        Mistake("The KL averages over the latent dimensions: it should sum over them.", wrong_loss(over_z=np.mean)),
        Mistake(
            "Both terms are means, over pixels and over latents: then neither is in nats per picture.",
            wrong_loss(0.5, np.mean, np.mean),
        ),
        Mistake(
            "The loss is summed over the batch: it should be the mean over the pictures.", wrong_loss(over_b=np.sum)
        ),
        Mistake("The KL has the wrong sign: the loss is the negative bound.", wrong_loss(weight=-1)),
        Mistake("All pictures use the noise of the first one.", wrong_loss(shared=True)),
        Mistake(
            "The noise is multiplied by half of the variance: where does the 1/2 of a root go in exp?",
            wrong_loss(sigma=lambda half, log_var: half * np.exp(log_var)),
        ),
        Mistake("The noise is divided by the standard deviation: check a sign in the exponent.", wrong_loss(half=-0.5)),
        Mistake(
            "The noise is multiplied by log_var itself: that is a logarithm.",
            wrong_loss(sigma=lambda half, log_var: log_var),
        ),
        Mistake(
            "z is the mean of q: it should be a draw, with eps.", wrong_loss(sigma=lambda half, log_var: 0 * log_var)
        ),
        Mistake(
            "Only the pixels that are 1 count: a pixel that is 0 has a log-probability too.",
            wrong_loss(fit=lambda x, a: -x * np.logaddexp(np.zeros_like(a), -a)),
        ),
        Mistake("Only log p(x | z) is left: the bound has a second term.", wrong_loss(weight=0)),
        Mistake("The decoder's bias is missing from the logits.", wrong_loss(bias=0)),
        Mistake("The KL is twice as large as it should be: it was correct.", wrong_loss(weight=2)),
        Mistake(
            "The KL now contains exp(log_var / 2): it needs the variance, and was correct.",
            wrong_loss(variance=lambda log_var: np.exp(log_var / 2)),
        ),
    ),
    forbidden=(vae.terms_forward,),
    points=3,
)

EXERCISES = {"02.1": EXPECTED, "02.2": SIGMA, "02.3": SCORE, "02.4": KL, "02.5": LOSS}
