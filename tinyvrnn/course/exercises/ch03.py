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


def with_diagonal(diagonal):
    def answer(weights, p):
        return between(weights, p) * (1 - np.eye(len(p[0]))) + np.diag(diagonal(weights, p))

    return answer


def from_moments(weights, p, of_products, of_means):
    """The covariance from E[x_i x_j] and E[x_i], each with weights of its own."""
    second = (of_products[:, None] * p).T @ p
    np.fill_diagonal(second, weights @ p)
    return second - np.outer(of_means @ p, of_means @ p)


def equal(weights):
    return np.full_like(weights, 1 / len(weights))


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
            lambda weights, p: covariance(equal(weights), p),
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
            with_diagonal(lambda weights, p: 0 * p[0]),
        ),
        Mistake(
            "The diagonal holds E[x_i^2]: subtract the square of the mean there too.",
            with_diagonal(lambda weights, p: weights @ p),
        ),
        Mistake(
            "The diagonal holds the variance given z, averaged: the mean of a pixel varies with z as well.",
            with_diagonal(lambda weights, p: weights @ (p * (1 - p))),
        ),
        Mistake(
            "The diagonal holds standard deviations: a covariance matrix has variances there.",
            with_diagonal(lambda weights, p: np.sqrt(weights @ p * (1 - weights @ p))),
        ),
        Mistake(
            "E[x_i] is a mean over z without the weights, E[x_i x_j] one with them.",
            lambda weights, p: from_moments(weights, p, weights, equal(weights)),
        ),
        Mistake(
            "E[x_i x_j] is a mean over z without the weights, E[x_i] one with them.",
            lambda weights, p: from_moments(weights, p, equal(weights), weights),
        ),
        Mistake(
            "All values of z have the same weight, and the diagonal lacks the variance of a pixel whose z is known.",
            lambda weights, p: between(equal(weights), p),
        ),
        Mistake(
            "E[p (1 - p)] is added to every entry: two different pixels are independent when z is known.",
            lambda weights, p: between(weights, p) + (weights @ (p * (1 - p)))[:, None],
        ),
        Mistake(
            "The entries off the diagonal are divided by 1 minus the sum of the squared weights, as np.cov does by "
            "default: here the weights are probabilities.",
            lambda weights, p: (
                between(weights, p) / (1 - weights @ weights) * (1 - np.eye(len(p[0]))) + coin(weights @ p)
            ),
        ),
        Mistake(
            "E[x_i x_j] has the square of each weight: the product of two pixels has one z, so one weight.",
            lambda weights, p: from_moments(weights, p, weights**2, weights),
        ),
        Mistake(
            "E[x_i] is a mean over z without the weights, on the diagonal too.",
            lambda weights, p: (
                from_moments(weights, p, weights, equal(weights)) + np.diag((equal(weights) - weights) @ p)
            ),
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


def step_of(x):
    return np.arange(len(x))[:, None]


def always(x, lengths):
    return np.ones_like(lengths, dtype=bool)


def wrong_log_joint(
    terms=lambda z, x: z + x,
    mask=real,
    over=np.sum,
    mu=np.asarray,
    sigma=np.asarray,
    fit=log_p_x,
    after=lambda z, x: 0,
):
    """The log-joint with one thing changed. after: the terms of steps that the mask leaves out."""

    def answer(mu_0, sigma_0, logits, z, x, lengths):
        of_z, of_x = log_p_z(mu(mu_0), sigma(sigma_0), z), fit(logits, x)
        return over(np.where(mask(x, lengths), terms(of_z, of_x), after(of_z, of_x)), axis=0)

    return answer


def log_joint_of_cleared(mu_0, sigma_0, logits, z, x, lengths, logits_too=False):
    inside = real(x, lengths)[..., None]
    logits = logits * inside if logits_too else logits
    return wrong_log_joint(mask=always)(mu_0, sigma_0, logits, z * inside, x * inside, lengths)


def through_p(low=0.0, added=0.0):
    """log p(x) from probabilities that are clipped to low and 1 - low, or with a number added in each logarithm."""

    def log_p(logits, x):
        p = np.clip(1 / (1 + np.exp(-logits)), low, 1 - low)
        return np.sum(x * np.log(p + added) + (1 - x) * np.log(1 - p + added), axis=-1)

    return log_p


LOG_JOINT = Task(
    "the log-joint",
    "write",
    log_joint,
    draw_walk,
    ("log p(x, z)",),
    (
        Mistake(
            "Steps after the end of a sequence are counted: use `lengths`.",
            wrong_log_joint(mask=always),
        ),
        Mistake("Only the factors of x are there: Eq. 8 has two factors per step.", wrong_log_joint(lambda z, x: x)),
        Mistake("Only the factors of z are there: Eq. 8 has two factors per step.", wrong_log_joint(lambda z, x: z)),
        Mistake(
            "The prior's term is subtracted: the logarithm of a product is a sum.",
            wrong_log_joint(lambda z, x: x - z),
        ),
        Mistake(
            "The two log-densities of a step are multiplied: what is the logarithm of a product?",
            wrong_log_joint(lambda z, x: x * z),
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
        Mistake(
            "The square of sigma_0 is used as a standard deviation: which one does the log-density take?",
            wrong_log_joint(sigma=np.square),
        ),
        Mistake(
            "z is scored under N(0, 1), the prior of a VAE: where do mu_0 and sigma_0 enter?",
            wrong_log_joint(mu=np.zeros_like, sigma=np.ones_like),
        ),
        Mistake(
            "x and the logits are swapped in the log-density of x.",
            wrong_log_joint(fit=lambda logits, x: log_p_x(x, logits)),
        ),
        Mistake(
            "The terms of z are counted after the end of a sequence: only those of x stop there.",
            wrong_log_joint(after=lambda z, x: z),
        ),
        Mistake(
            "The terms of x are counted after the end of a sequence: only those of z stop there.",
            wrong_log_joint(after=lambda z, x: x),
        ),
        Mistake(
            "z and x are set to 0 after the end, but those zeros still have a density: leave out the terms instead.",
            log_joint_of_cleared,
        ),
        Mistake(
            "z, x and the logits are set to 0 after the end, but those zeros still have a density: leave out the terms "
            "instead.",
            lambda *arguments: log_joint_of_cleared(*arguments, logits_too=True),
        ),
        Mistake(
            "The last lengths[b] steps are counted: the padding is at the end, so the first ones are real.",
            wrong_log_joint(mask=lambda x, lengths: step_of(x)[::-1] < lengths),
        ),
        Mistake(
            "Only the last step of each sequence is counted.",
            wrong_log_joint(mask=lambda x, lengths: step_of(x) == lengths - 1),
        ),
        Mistake(
            "The first step is left out: z_1 and x_1 have factors too.",
            wrong_log_joint(mask=lambda x, lengths: real(x, lengths) & (step_of(x) > 0)),
        ),
        Mistake(
            "All sequences stop at the shortest one: each has its own length.",
            wrong_log_joint(mask=lambda x, lengths: step_of(x) < lengths.min()),
        ),
        Mistake(
            "A step is counted where x is not all 0: real steps can be 0, and padding need not be. Use `lengths`.",
            wrong_log_joint(mask=lambda x, lengths: x.any(axis=-1)),
        ),
        *(
            Mistake(
                f"The probabilities are clipped {small:g} away from 0 and 1: compute log p from the logits themselves.",
                wrong_log_joint(fit=through_p(small)),
            )
            for small in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15)
        ),
        *(
            Mistake(
                f"The logarithms of p and 1 - p have {small:g} added inside: compute log p from the logits themselves.",
                wrong_log_joint(fit=through_p(added=small)),
            )
            for small in (1e-10, 1e-12, 1e-15, 1e-16)
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


def below(u, mean):
    return u < mean


def wrong_step(
    latent=lambda mu, sigma, eps: mu + sigma * eps,
    draw=below,
    fed="sample",
    moved=True,
    code=lambda z, mu: z,
    prior=1,
    decoder=1,
    state=1,
):
    """A step of sampling with one thing changed. prior, decoder, state: factors of the h that Eq. 5, 6 and 7 read."""

    def answer(params, h, eps, u):
        (mu_0, sigma_0), _ = equations.prior_forward(params["prior"], prior * h)
        z = latent(mu_0, sigma_0, eps)
        read = code(z, mu_0)
        mean = sigmoid(generation(params, read, decoder * h))
        x = draw(u, mean).astype(h.dtype)
        back = {"sample": x, "mean": mean, "noise": u.astype(h.dtype)}[fed]
        return z, x, remember(params, back, read, state * h) if moved else h

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
            "x is 1 where p is above 1/2: it should be 1 where u is below p, its probability.",
            wrong_step(draw=lambda u, mean: mean > 0.5),
        ),
        Mistake(
            "x is 1 where 1 - u is below p. That is as random, but here x is 1 where u is below p.",
            wrong_step(draw=lambda u, mean: 1 - u < mean),
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
            wrong_step(draw=lambda u, mean: u > mean),
        ),
        Mistake("h does not change: Eq. 7 is missing.", wrong_step(moved=False)),
        Mistake(
            "phi_x and phi_z are swapped in the recurrence: in which order does Eq. 7 name them?",
            swapped_step,
        ),
        Mistake("x is drawn from a different state than z: both read h_{t-1}, as panels a and b show.", late_step),
        Mistake(
            "x is 1 also where u equals its probability: then a pixel of probability 0 can be on.",
            wrong_step(draw=lambda u, mean: u <= mean),
        ),
        Mistake(
            "u is compared with the logits: they are no probabilities.",
            wrong_step(draw=lambda u, mean: u < np.log(mean / (1 - mean))),
        ),
        Mistake(
            "x is the toss of a fair coin: where does its probability enter?",
            wrong_step(draw=lambda u, mean: u < 0.5 + 0 * mean),
        ),
        Mistake(
            "All pixels of a row share one uniform number: each has its own in u.",
            wrong_step(draw=lambda u, mean: u[:, :1] < mean),
        ),
        Mistake("x holds probabilities: it should hold 0 and 1, drawn with u.", wrong_step(draw=lambda u, mean: mean)),
        Mistake(
            "z is drawn with the root of sigma_0, which is a standard deviation already.",
            wrong_step(lambda mu, sigma, eps: mu + np.sqrt(sigma) * eps),
        ),
        Mistake("phi_z reads the mean of the prior: it should read z, the draw.", wrong_step(code=lambda z, mu: mu)),
        Mistake("The prior reads a state of 0: it should read h, the state before the step.", wrong_step(prior=0)),
        Mistake("x is drawn from a state of 0: Eq. 6 reads h, the state before the step.", wrong_step(decoder=0)),
        Mistake("h_t is computed from a state of 0: Eq. 7 reads h_{t-1}.", wrong_step(state=0)),
    ),
    forbidden=(sampling.ancestral_sample, sampling.sample_stretch, sampling.sample_step),
    points=3,
)

# ---- 03.5: a prior that peeks --------------------------------------------------------------------


def priors(params, x, z):
    return _priors(params, x, z)


def _priors(params, x, z, read="before", move=remember, h=None):
    """read: which states the priors read."""
    h = start(params, x) if h is None else h
    states = [h]
    for x_t, z_t in zip(x, z):
        states.append(move(params, x_t, z_t, states[-1]))
    before, after = states[:-1], states[1:]
    order = {"before": before, "after": after, "late": [h, *before[:-1]], "rolled": [after[-1], *after[:-1]]}
    return equations.prior_forward(params["prior"], np.stack(order[read]))[0]


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


def half_blind(x_factor=1, z_factor=1, h_factor=1):
    """Update the state without one of the three it reads."""

    def move(params, x_t, z_t, h):
        phi_x, _ = equations.features_forward(params["phi_x"], x_t)
        phi_z, _ = equations.features_forward(params["phi_z"], z_t)
        return equations.recur_forward(params["recur"], x_factor * phi_x, z_factor * phi_z, h_factor * h)[0]

    return move


def half_a_peek(**factors):
    """The priors read the state after their step, without the part that `half_blind(**factors)` leaves out."""

    def answer(params, x, z):
        h, peeks = start(params, x), []
        for x_t, z_t in zip(x, z):
            peeks.append(half_blind(**factors)(params, x_t, z_t, h))
            h = remember(params, x_t, z_t, h)
        return equations.prior_forward(params["prior"], np.stack(peeks))[0]

    return answer


def with_first(mu, sigma):
    """The priors with another one at the first step."""

    def answer(params, x, z):
        found = _priors(params, x, z)
        return tuple(np.concatenate([0 * part[:1] + first, part[1:]]) for part, first in zip(found, (mu, sigma)))

    return answer


def without_the_first(params, x, z):
    """The first update of the state is left out."""
    return tuple(np.concatenate([part[:1], part]) for part in _priors(params, x[1:], z[1:]))


def delayed(v, first=1):
    """Each step has the value of the one before; the first has its own, or 0."""
    return np.concatenate([first * v[:1], v[:-1]])


PRIORS = Task(
    "a prior that peeks",
    "bug",
    priors,
    draw_sequence,
    ("mu_0", "sigma_0"),
    (
        Mistake(
            "The prior of step t still reads x_t and z_t: which state exists before step t?",
            lambda params, x, z: _priors(params, x, z, read="after"),
        ),
        Mistake(
            "Every step reads h_0: the state must be updated from step to step.",
            lambda params, x, z: _priors(params, x, z, move=lambda params, x_t, z_t, h: h),
        ),
        Mistake(
            "The prior is now one step late: the prior of step t should depend on x_{t-1} and z_{t-1}.",
            lambda params, x, z: _priors(params, x, z, read="late"),
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
        Mistake(
            "In the update of the state, x is one step late: h_t reads x_t.",
            lambda params, x, z: _priors(params, delayed(x), z),
        ),
        Mistake(
            "In the update of the state, x is one step late, and 0 at first: h_t reads x_t.",
            lambda params, x, z: _priors(params, delayed(x, 0), z),
        ),
        Mistake(
            "In the update of the state, z is one step late: h_t reads z_t.",
            lambda params, x, z: _priors(params, x, delayed(z)),
        ),
        Mistake(
            "The state never reads x: Eq. 7 has three arguments.",
            lambda params, x, z: _priors(params, x, z, move=half_blind(x_factor=0)),
        ),
        Mistake(
            "The state never reads z: Eq. 7 has three arguments.",
            lambda params, x, z: _priors(params, x, z, move=half_blind(z_factor=0)),
        ),
        Mistake(
            "Each update starts from 0: Eq. 7 reads h_{t-1} as well.",
            lambda params, x, z: _priors(params, x, z, move=half_blind(h_factor=0)),
        ),
        Mistake(
            "The prior of step t still reads x_t, though not z_t: which state exists before step t?",
            half_a_peek(z_factor=0),
        ),
        Mistake(
            "The prior of step t still reads z_t, though not x_t: which state exists before step t?",
            half_a_peek(x_factor=0),
        ),
        Mistake(
            "x_1 and z_1 are never read: the prior of step 2 should depend on them.",
            without_the_first,
        ),
        Mistake("The first prior is N(0, 1): Eq. 5 computes it from h_0, like the others.", with_first(0.0, 1.0)),
        Mistake(
            "The first prior reads the state after the last step: what is the state before step 1?",
            lambda params, x, z: _priors(params, x, z, read="rolled"),
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
        Mistake("That is in per cent: give a probability, between 0 and 1.", 100 * 2**-5),
        Mistake("That is 1 divided by the probability: a probability is at most 1.", 2.0**5),
    ),
    tol=0.02,
)

EXERCISES = {
    "03.1": READS,
    "03.2": COVARIANCE,
    "03.3": LOG_JOINT,
    "03.4": STEP,
    "03.5": PRIORS,
    "03.6": FED_BACK,
}
