"""The exercises of notebook 03, The generative story: dependencies, Eq. 8, sampling, a prior that peeks."""

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions import LIKELIHOODS, bernoulli, gaussian
from tinyvrnn.models import equations, sampling
from tinyvrnn.models.vrnn import VRNN
from tinyvrnn.nn.activations import sigmoid


def draw_params(rng):
    """Parameters of a small VRNN, all random, and its sizes X, H, Z. All widths differ."""
    X, H, Z, F = (int(size) for size in rng.permutation([2, 3, 4, 5]))
    model = VRNN(X, H, Z, features=F, layers=1, backend="numpy", dtype="float64")
    model.theta[...] = 0.7 * rng.standard_normal(model.theta.shape)
    for group in ("phi_x", "phi_z", "prior", "generate"):
        model.params[group]["b1"][...] = 0.5 + abs(model.params[group]["b1"])  # no network has all its ReLUs off
    return {group: dict(leaves) for group, leaves in model.params.items()}, X, H, Z


def start(params, x):
    return np.zeros((x.shape[1], len(params["recur"]["U"])), x.dtype)


def remember(params, x_t, z_t, h):
    phi_x, _ = equations.features_forward(params["phi_x"], x_t)
    phi_z, _ = equations.features_forward(params["phi_z"], z_t)
    return equations.recur_forward(params["recur"], phi_x, phi_z, h)[0]


def generation(params, z, h):
    phi_z, _ = equations.features_forward(params["phi_z"], z)
    return equations.generate_forward(params["generate"], phi_z, h, LIKELIHOODS["bernoulli"])[0][0]


# ---- 03.1: who reads x_2? ------------------------------------------------------------------------


def who_reads_x_2():
    """The distributions and states that change when only x_2 changes, with every z held fixed."""
    rng = np.random.default_rng(0)
    params, X, _, Z = draw_params(rng)
    x, z = rng.integers(0, 2, (3, 1, X)).astype(float), rng.standard_normal((3, 1, Z))
    other = x.copy()
    other[1] = 1 - x[1]
    seen = []
    for values in (x, other):
        h, found = start(params, x), {}
        for t in range(3):
            found[f"prior {t + 1}"] = equations.prior_forward(params["prior"], h)[0][0]
            found[f"generation {t + 1}"] = generation(params, z[t], h)
            found[f"state {t + 1}"] = h = remember(params, values[t], z[t], h)
        seen.append(found)
    asked = "prior 2", "generation 2", "state 2", "prior 3", "generation 3"
    return {name for name in asked if not np.array_equal(seen[0][name], seen[1][name])}


READS = Prediction(
    "who reads x_2?",
    who_reads_x_2,
    (
        Mistake(
            "z_2 is drawn before x_2 exists: which state does its prior read?",
            {"prior 2", "state 2", "prior 3", "generation 3"},
        ),
        Mistake(
            "x_2 is drawn from its logits, so they are computed before x_2 exists.",
            {"generation 2", "state 2", "prior 3", "generation 3"},
        ),
        Mistake(
            "Not everything in step 2 comes after x_2: what is the order of the three moves?",
            {"prior 2", "generation 2", "state 2", "prior 3", "generation 3"},
        ),
        Mistake("What reads h_2, one step later?", {"state 2"}),
        Mistake("How does x_2 reach step 3? Something in between must change.", {"prior 3", "generation 3"}),
        Mistake("Follow the arrows that leave h in panel b of the figure.", {"state 2", "prior 3"}),
        Mistake("Follow the arrows that leave h in panel a of the figure.", {"state 2", "generation 3"}),
        Mistake("If nothing changed, the model would forget its observations.", set()),
    ),
)

# ---- 03.2: the covariance of pixels --------------------------------------------------------------


def covariance(weights, p):
    """The law of total covariance: Cov_z of the means, plus on the diagonal the mean of each pixel's own variance."""
    away = p - weights @ p
    own = np.diag(weights @ (p * (1 - p)))
    return away.T @ (weights[:, None] * away) + own


def draw_mixture(rng):
    K, X = (int(size) for size in rng.permutation([2, 3, 4, 5])[:2])
    weights = rng.random(K) + 0.2
    return weights / weights.sum(), rng.random((K, X))


def between(weights, p):
    away = p - weights @ p
    return away.T @ (weights[:, None] * away)


def coin(p):
    return np.diag(p * (1 - p))


COVARIANCE = Task(
    "the covariance of pixels",
    "derive",
    covariance,
    draw_mixture,
    ("covariance",),
    (
        Mistake("The diagonal has E[p_i p_i] instead of E[x_i x_i]: a pixel varies even when z is known.", between),
        Mistake(
            "The off-diagonal entries are 0: that is the covariance given z, and z is not given.",
            lambda weights, p: coin(weights @ p),
        ),
        Mistake(
            "Those are second moments: subtract the product of the means.",
            lambda weights, p: covariance(weights, p) + np.outer(weights @ p, weights @ p),
        ),
        Mistake(
            "All values of z have the same weight: where are the weights?",
            lambda weights, p: covariance(np.ones_like(weights) / len(weights), p),
        ),
        Mistake(
            "The diagonal counts the variance over z twice: E[p] (1 - E[p]) already contains it.",
            lambda weights, p: between(weights, p) + coin(weights @ p),
        ),
        Mistake(
            "The covariance over z has the wrong sign: pixels that z turns on together are positively correlated.",
            lambda weights, p: 2 * coin(weights @ p) - covariance(weights, p),
        ),
        Mistake(
            "The weights are squared: E_z uses each weight once.",
            lambda weights, p: covariance(weights**2, p),
        ),
        Mistake(
            "The diagonal is 0: a pixel has a variance.",
            lambda weights, p: between(weights, p) * (1 - np.eye(len(p[0]))),
        ),
        Mistake(
            "That is the correlation.", lambda w, p: covariance(w, p) / np.sqrt(np.outer(*2 * [coin(w @ p).diagonal()]))
        ),
    ),
)

# ---- 03.3: the log-joint -------------------------------------------------------------------------


def log_joint(mu_0, sigma_0, logits, z, x, lengths):
    terms = log_p_z(mu_0, sigma_0, z) + log_p_x(logits, x)
    return np.where(real(x, lengths), terms, 0).sum(axis=0)


def log_p_z(mu_0, sigma_0, z):
    return gaussian.gaussian_log_density_forward(z, mu_0, sigma_0)[0]


def log_p_x(logits, x):
    return bernoulli.bernoulli_log_density_forward(x, logits)[0]


def real(x, lengths):
    return np.arange(len(x))[:, None] < lengths


def draw_walk(rng):
    T, B, Z, X = (int(size) for size in rng.permutation([3, 4, 5, 6]))
    mu_0, z = rng.standard_normal((2, T, B, Z))
    lengths = np.append(rng.integers(1, T, B - 1), T)
    x = rng.integers(0, 2, (T, B, X)).astype(float)  # ones and zeros in the padding too: it is not cleared
    return mu_0, np.exp(0.5 * rng.standard_normal(z.shape)), rng.standard_normal((T, B, X)), z, x, lengths


def wrong_log_joint(terms=lambda z, x: z + x, mask=real, over=np.sum, sigma=lambda s: s):
    """The log-joint with one thing changed."""

    def answer(mu_0, sigma_0, logits, z, x, lengths):
        found = terms(log_p_z(mu_0, sigma(sigma_0), z), log_p_x(logits, x))
        return over(np.where(mask(x, lengths), found, 0), axis=0)

    return answer


LOG_JOINT = Task(
    "the log-joint",
    "write",
    log_joint,
    draw_walk,
    ("log p(x, z)",),
    (
        Mistake(
            "Steps after the end of a sequence are counted: use `lengths`.",
            wrong_log_joint(mask=lambda x, lengths: np.ones_like(lengths, dtype=bool)),
        ),
        Mistake("Only the factors of x are there: Eq. 8 has two factors per step.", wrong_log_joint(lambda z, x: x)),
        Mistake("Only the factors of z are there: Eq. 8 has two factors per step.", wrong_log_joint(lambda z, x: z)),
        Mistake(
            "The prior's term is subtracted: the logarithm of a product is a sum.",
            wrong_log_joint(lambda z, x: x - z),
        ),
        Mistake("That is a mean over the steps: Eq. 8 is a product of all of them.", wrong_log_joint(over=np.mean)),
        Mistake(
            "One step too many is counted in each sequence: the first step has index 0.",
            wrong_log_joint(mask=lambda x, lengths: np.arange(len(x))[:, None] <= lengths),
        ),
        Mistake(
            "One step too few is counted in each sequence: the first step has index 0.",
            wrong_log_joint(mask=lambda x, lengths: np.arange(len(x))[:, None] < lengths - 1),
        ),
        Mistake(
            "sigma_0 is used as a variance: it is a standard deviation.",
            wrong_log_joint(sigma=np.sqrt),
        ),
        Mistake("That is per step: add up the steps.", lambda *arguments: log_joint(*arguments) / arguments[-1]),
    ),
)

# ---- 03.4: one step of sampling ------------------------------------------------------------------


def step(params, h, eps, u):
    (mu_0, sigma_0), _ = equations.prior_forward(params["prior"], h)
    z, _ = gaussian.reparameterise_forward(mu_0, sigma_0, eps)
    x = bernoulli.bernoulli_sample(u, generation(params, z, h))
    return z, x, remember(params, x, z, h)


def draw_step(rng):
    params, X, H, Z = draw_params(rng)
    n = int(rng.integers(6, 9))
    return params, np.tanh(rng.standard_normal((n, H))), rng.standard_normal((n, Z)), rng.random((n, X))


def wrong_step(latent=lambda mu, sigma, eps: mu + sigma * eps, above=False, fed="sample", moved=True, likelier=False):
    """A step of sampling with one thing changed."""

    def answer(params, h, eps, u):
        (mu_0, sigma_0), _ = equations.prior_forward(params["prior"], h)
        z = latent(mu_0, sigma_0, eps)
        mean = sigmoid(generation(params, z, h))
        x = (mean > 0.5 if likelier else u > mean if above else u < mean).astype(h.dtype)
        back = {"sample": x, "mean": mean, "noise": u.astype(h.dtype)}[fed]
        return z, x, remember(params, back, z, h) if moved else h

    return answer


def late_step(params, h, eps, u):
    """Generation reads a state that has been updated with z but not yet with x."""
    (mu_0, sigma_0), _ = equations.prior_forward(params["prior"], h)
    z = mu_0 + sigma_0 * eps
    later = remember(params, np.zeros_like(u), z, h)
    x = bernoulli.bernoulli_sample(u, generation(params, z, later))
    return z, x, remember(params, x, z, h)


def swapped_step(params, h, eps, u):
    z, x, _ = step(params, h, eps, u)
    phi_x, _ = equations.features_forward(params["phi_x"], x)
    phi_z, _ = equations.features_forward(params["phi_z"], z)
    return z, x, equations.recur_forward(params["recur"], phi_z, phi_x, h)[0]


STEP = Task(
    "one step of ancestral sampling",
    "write",
    step,
    draw_step,
    ("z", "x", "h"),
    (
        Mistake(
            "x is the likelier value: it should be drawn, 1 where u is below its probability.",
            wrong_step(likelier=True),
        ),
        Mistake("h_t reads the mean of x_t: it should read the draw.", wrong_step(fed="mean")),
        Mistake("h_t reads the uniform noise: it should read x_t.", wrong_step(fed="noise")),
        Mistake(
            "z is drawn with the variance: what is the standard deviation of N(mu, sigma^2)?",
            wrong_step(lambda mu, sigma, eps: mu + sigma**2 * eps),
        ),
        Mistake("z is the mean of its prior: the noise is not used.", wrong_step(lambda mu, sigma, eps: mu)),
        Mistake("z is the noise alone: use mu_0 and sigma_0 of the prior.", wrong_step(lambda mu, sigma, eps: eps)),
        Mistake(
            "x is 1 where u is above the probability: then a pixel of probability 1 is never on.",
            wrong_step(above=True),
        ),
        Mistake("h does not change: Eq. 7 is missing.", wrong_step(moved=False)),
        Mistake(
            "phi_x and phi_z are swapped in the recurrence: in which order does Eq. 7 name them?",
            swapped_step,
        ),
        Mistake("x is drawn from a different state than z: both read h_{t-1}, as panels a and b show.", late_step),
    ),
    forbidden=(sampling.ancestral_sample, sampling.sample_stretch, sampling.sample_step),
    points=3,
)

# ---- 03.5: a prior that peeks --------------------------------------------------------------------


def priors(params, x, z):
    return _priors(params, x, z)


def _priors(params, x, z, peek=False, move=remember, h=None, late=0):
    h = start(params, x) if h is None else h
    states = [h]
    for x_t, z_t in zip(x, z):
        states.append(move(params, x_t, z_t, states[-1]))
    read = states[1:] if peek else [states[max(t - late, 0)] for t in range(len(x))]
    return equations.prior_forward(params["prior"], np.stack(read))[0]


def draw_sequence(rng):
    params, X, _, Z = draw_params(rng)
    T, B = (int(size) for size in rng.permutation([3, 4, 6])[:2])
    return params, rng.integers(0, 2, (T, B, X)).astype(float), rng.standard_normal((T, B, Z))


def swapped(params, x_t, z_t, h):
    phi_x, _ = equations.features_forward(params["phi_x"], x_t)
    phi_z, _ = equations.features_forward(params["phi_z"], z_t)
    return equations.recur_forward(params["recur"], phi_z, phi_x, h)[0]


def guessed(params, x_t, z_t, h):
    """Update the state with the prior's mean instead of z."""
    return remember(params, x_t, equations.prior_forward(params["prior"], h)[0][0], h)


PRIORS = Task(
    "a prior that peeks",
    "bug",
    priors,
    draw_sequence,
    ("mu_0", "sigma_0"),
    (
        Mistake(
            "The prior of step t still reads x_t and z_t: which state exists before step t?",
            lambda params, x, z: _priors(params, x, z, peek=True),
        ),
        Mistake(
            "Every step reads h_0: the state must be updated from step to step.",
            lambda params, x, z: _priors(params, x, z, move=lambda params, x_t, z_t, h: h),
        ),
        Mistake(
            "The prior is now one step late: the prior of step t should depend on x_{t-1} and z_{t-1}.",
            lambda params, x, z: _priors(params, x, z, late=1),
        ),
        Mistake(
            "The first state should be h_0 = 0: nothing has happened before step 1.",
            lambda params, x, z: _priors(params, x, z, h=np.ones_like(start(params, x))),
        ),
        Mistake(
            "phi_x and phi_z are swapped in the recurrence.",
            lambda params, x, z: _priors(params, x, z, move=swapped),
        ),
        Mistake(
            "The state reads the prior's mean: it should read the given z.",
            lambda params, x, z: _priors(params, x, z, move=guessed),
        ),
    ),
)

# ---- 03.6: the mean fed back ---------------------------------------------------------------------


def coin_that_stays():
    """A VRNN with weights set by hand: x_1 is a fair coin, and x_t repeats x_{t-1}."""
    model = VRNN(x_dim=1, h_dim=1, z_dim=1, features=2, layers=1, backend="numpy", dtype="float64")
    model.theta[...] = 0
    p = model.params
    p["phi_x"]["W1"][...] = [[1, 0]]
    p["recur"]["W"][0, 2], p["recur"]["b"][...] = 20, [0, -60, -10]
    p["generate"]["W1"][2], p["generate"]["W_out"][...] = [1, -1], [[50], [-50]]
    return p


def constant_with_the_mean_fed_back(steps=6):
    """P(x_1 = ... = x_6) where each coin is drawn from its distribution, but its mean is fed back."""
    params, h, ones, zeros = coin_that_stays(), np.zeros((1, 1)), 1.0, 1.0
    for _ in range(steps):
        mean = sigmoid(generation(params, np.zeros((1, 1)), h))
        ones, zeros = ones * mean[0, 0], zeros * (1 - mean[0, 0])
        h = remember(params, mean, np.zeros((1, 1)), h)
    return float(ones + zeros)


FED_BACK = Prediction(
    "the mean fed back",
    constant_with_the_mean_fed_back,
    (
        Mistake("That holds when samples are fed back. With h_1 = tanh(20 / 2 - 10), what is the second logit?", 1.0),
        Mistake("That is the probability of one constant sequence: how many constant sequences are there?", 2**-6),
        Mistake("That is the probability that x_1 and x_2 agree: four more coins follow.", 0.5),
        Mistake("Six fair coins sometimes agree: how often?", 0.0),
        Mistake("One coin is missing: the first can be either side, and how many have to agree with it?", 2**-4),
        Mistake("Too few coins: there are six, and five have to agree with the first.", 2**-3),
    ),
    tol=1e-3,
)

EXERCISES = {
    "03.1": READS,
    "03.2": COVARIANCE,
    "03.3": LOG_JOINT,
    "03.4": STEP,
    "03.5": PRIORS,
    "03.6": FED_BACK,
}
