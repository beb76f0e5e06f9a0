"""The exercises of notebook 01, Sequences and the plain RNN: padding, units, Eq. 1 and 2, a fork and a mixture."""

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions import LIKELIHOODS, gaussian, mixture
from tinyvrnn.models import equations, rnn
from tinyvrnn.nn.activations import sigmoid

# ---- 01.1: padding -------------------------------------------------------------------------------


def pad(sequences):
    T, B = max(len(s) for s in sequences), len(sequences)
    real = np.arange(T)[:, None] < np.array([len(s) for s in sequences])
    x = np.zeros((T, B, sequences[0].shape[1]), sequences[0].dtype)
    x.swapaxes(0, 1)[real.T] = np.concatenate(sequences)
    return x, real.astype(x.dtype)


def draw_ragged(rng):
    X, n = int(rng.integers(2, 5)), int(rng.integers(3, 6))
    sequences = [rng.standard_normal((int(length), X)) for length in rng.permutation(np.arange(2, 9))[:n]]
    for sequence in sequences:
        sequence[rng.integers(len(sequence))] = 0  # a real step that is all zeros
    return (sequences,)


def wrong_pad(x=lambda x, mask: x, mask=lambda x, mask: mask):
    """`pad` with its array or its mask changed."""

    def answer(sequences):
        right = pad(sequences)
        return x(*right), mask(*right)

    return answer


def at_the_end(a, mask):
    """Each sequence shifted to the end of its column."""
    moved = np.zeros_like(a)
    for b, length in enumerate(mask.sum(axis=0).astype(int)):
        moved[len(a) - length :, b] = a[:length, b]
    return moved


def last_step_on(x, mask):
    last = np.stack([x[length - 1, b] for b, length in enumerate(mask.sum(axis=0).astype(int))])
    return np.where(mask[..., None] > 0, x, last)


def round_again(sequences):
    """Each sequence begins anew after its end."""
    x, mask = pad(sequences)
    return np.stack([np.resize(s, x[:, 0].shape) for s in sequences], axis=1), mask


def shifted(mask, by):
    """The mask of sequences that are longer by `by` steps."""
    return (np.arange(len(mask))[:, None] < mask.sum(axis=0) + by).astype(mask.dtype)


PAD = Task(
    "padding",
    "write",
    pad,
    draw_ragged,
    ("x", "mask"),
    (
        Mistake(
            "The padding comes before the sequences: every sequence should begin at step 1.",
            wrong_pad(at_the_end, lambda x, mask: at_the_end(mask, mask)),
        ),
        Mistake("The padding repeats the last step: it should hold zeros.", wrong_pad(last_step_on)),
        Mistake("After its end each sequence begins again: the padding should hold zeros.", round_again),
        Mistake(
            "x and the mask were filled sequence by sequence and then reshaped: does reshape exchange two axes, or "
            "keep the numbers in their order?",
            wrong_pad(
                lambda x, mask: x.swapaxes(0, 1).reshape(x.shape),
                lambda x, mask: mask.swapaxes(0, 1).reshape(mask.shape),
            ),
        ),
        Mistake(
            "The mask is computed from the values: a step of zeros can be real.",
            wrong_pad(mask=lambda x, mask: x.any(axis=-1).astype(x.dtype)),
        ),
        Mistake(
            "The mask is one step too long: should it be `t < length` or `t <= length`?",
            wrong_pad(mask=lambda x, mask: shifted(mask, 1)),
        ),
        Mistake("The mask is one step too short.", wrong_pad(mask=lambda x, mask: shifted(mask, -1))),
        Mistake(
            "The mask marks every step as real: which steps are padding?",
            wrong_pad(mask=lambda x, mask: np.ones_like(mask)),
        ),
        Mistake("The mask is 1 in the padding and 0 in the real steps.", wrong_pad(mask=lambda x, mask: 1 - mask)),
        Mistake("The sequences are reversed in time.", lambda sequences: pad([s[::-1] for s in sequences])),
        Mistake(
            "The sequences are sorted by length, longest first: keep the order in which they came.",
            lambda sequences: pad(sorted(sequences, key=len, reverse=True)),
        ),
        Mistake(
            "The sequences are sorted by length, shortest first: keep the order in which they came.",
            lambda sequences: pad(sorted(sequences, key=len)),
        ),
        *(
            Mistake(
                f"The padding of x holds {value}: it should hold zeros.",
                wrong_pad(lambda x, mask, value=value: np.where(mask[..., None] > 0, x, x.dtype.type(value))),
            )
            for value in (1, -1)
        ),
    ),
    dtypes=True,
)

# ---- 01.2: units ---------------------------------------------------------------------------------


def nats(log_p, mask):
    total = np.sum(log_p * mask)
    return total / log_p.shape[1], total / np.sum(mask)


def draw_log_p(rng):
    T, B = (int(size) for size in rng.permutation([3, 4, 5, 7])[:2])
    lengths = np.append(rng.integers(1, T, B - 1), T)
    return rng.standard_normal((T, B)) - 2, (np.arange(T)[:, None] < lengths).astype(float)


NATS = Task(
    "nats per step",
    "bug",
    nats,
    draw_log_p,
    ("nats per sequence", "nats per step"),
    (
        Mistake(
            "Nats per step are divided by T times B: how many of these steps are real?",
            lambda log_p, mask: (nats(log_p, mask)[0], (log_p * mask).mean()),
        ),
        Mistake(
            "Nats per step are the mean of the sequences' means: short sequences get too much weight.",
            lambda log_p, mask: (nats(log_p, mask)[0], ((log_p * mask).sum(axis=0) / mask.sum(axis=0)).mean()),
        ),
        Mistake(
            "Nats per step are divided by the number of sequences as well.",
            lambda log_p, mask: (nats(log_p, mask)[0], nats(log_p, mask)[1] / log_p.shape[1]),
        ),
        Mistake(
            "The padded steps are counted.",
            lambda log_p, mask: (log_p.sum() / log_p.shape[1], log_p.sum() / mask.sum()),
        ),
        Mistake(
            "The padded steps are counted in nats per sequence, though not in nats per step.",
            lambda log_p, mask: (log_p.sum() / log_p.shape[1], nats(log_p, mask)[1]),
        ),
        Mistake(
            "The padded steps are counted in the sum for nats per step, though not in nats per sequence.",
            lambda log_p, mask: (nats(log_p, mask)[0], log_p.sum() / mask.sum()),
        ),
        Mistake(
            "Nats per sequence are the total over the batch: divide by the number of sequences.",
            lambda log_p, mask: ((log_p * mask).sum(), nats(log_p, mask)[1]),
        ),
        Mistake("The two numbers are swapped.", lambda log_p, mask: nats(log_p, mask)[::-1]),
        Mistake(
            "Nats per step count the steps whose log-probability is not 0, but a real step can cost 0 nats: "
            "which array says which steps are real?",
            lambda p, mask: (nats(p, mask)[0], (p * mask).sum() / np.count_nonzero(p * mask)),
        ),
        Mistake(
            "Nats per sequence are a median: the mean is needed, so that the sequences add up to the total.",
            lambda p, mask: (np.median((p * mask).sum(axis=0)), nats(p, mask)[1]),
        ),
        Mistake(
            "Nats per sequence were correct before: the sum over each sequence, then the mean over sequences.",
            lambda log_p, mask: ((log_p * mask).mean(), nats(log_p, mask)[1]),
        ),
        Mistake(
            "The total is divided by T: there are B sequences.",
            lambda p, mask: ((p * mask).sum() / len(p), nats(p, mask)[1]),
        ),
    ),
    points=1,
)

# ---- 01.3: the likelihood of a sequence ----------------------------------------------------------


def log_likelihood(params, x, mask):
    return (rnn.literal_forward(params, x, LIKELIHOODS["bernoulli"])[0] * mask).sum(axis=0)


def draw_rnn(rng):
    X, H, F = (int(size) for size in rng.permutation([2, 3, 4, 5])[:3])
    T, B = (int(size) for size in rng.permutation([3, 4, 6])[:2])
    model = rnn.RNN(X, H, features=F, layers=1, backend="numpy", dtype="float64")
    model.theta[...] = 0.7 * rng.standard_normal(model.theta.shape)
    for group in ("phi_x", "predict"):
        model.params[group]["b1"][...] = 0.5 + abs(model.params[group]["b1"])  # no network has all its ReLUs off
    lengths = np.append(rng.integers(1, T, B - 1), T)
    x = rng.integers(0, 2, (T, B, X)).astype(float)
    return {k: dict(v) for k, v in model.params.items()}, x, (np.arange(T)[:, None] < lengths).astype(float)


def wrong_walk(
    peek=False,
    moves=True,
    h_0=0.0,
    fed=lambda x, t, logits: x[t],
    over=np.sum,
    steps=slice(None),
    real=lambda mask: mask,
    seen=lambda logits: logits,
):
    """The likelihood of a sequence with one thing changed."""

    def answer(params, x, mask):
        h, terms = np.full((x.shape[1], len(params["recur"]["U"])), h_0, x.dtype), []
        for t, x_t in enumerate(x):
            (logits,), _ = equations.predict_forward(params["predict"], h, LIKELIHOODS["bernoulli"])
            phi_x, _ = equations.features_forward(params["phi_x"], fed(x, t, logits))
            later = equations.remember_forward(params["recur"], phi_x, h)[0] if moves else h
            if peek:
                (logits,), _ = equations.predict_forward(params["predict"], later, LIKELIHOODS["bernoulli"])
            terms.append(LIKELIHOODS["bernoulli"].log_density_forward(x_t, seen(logits))[0])
            h = later
        return over((np.stack(terms) * real(mask))[steps], axis=0)

    return answer


def through_p(low):
    """The logits of probabilities that are clipped to low and 1 - low."""

    def seen(logits):
        p = np.clip(sigmoid(logits), low, 1 - low)
        return np.log(p) - np.log(1 - p)

    return seen


LIKELIHOOD = Task(
    "the likelihood of a sequence",
    "write",
    log_likelihood,
    draw_rnn,
    ("log p(x)",),
    (
        Mistake("The prediction of x_t reads x_t: Eq. 2 reads the state before the step.", wrong_walk(peek=True)),
        Mistake("Every step is predicted from h_0: Eq. 1 is missing.", wrong_walk(moves=False)),
        Mistake("The padded steps are counted: apply the mask.", wrong_walk(real=np.ones_like)),
        Mistake(
            "x is set to 0 in the padding, but zeros have a log-probability too: what should the mask multiply?",
            lambda params, x, mask: wrong_walk(real=np.ones_like)(params, x * mask[..., None], mask),
        ),
        Mistake(
            "Sequences without padding are left out: is a length found by the first 0 of the mask? They have no 0.",
            wrong_walk(real=lambda mask: (np.arange(len(mask))[:, None] < mask.argmin(axis=0)).astype(mask.dtype)),
        ),
        Mistake("log p(x) is the sum over the steps, not their mean.", wrong_walk(over=np.mean)),
        Mistake(
            "The state reads the model's own mean: x is given here, and the state must read x.",
            wrong_walk(fed=lambda x, t, logits: sigmoid(logits)),
        ),
        Mistake(
            "The first step is missing: x_1 has a probability too, given an empty past.",
            wrong_walk(steps=slice(1, None)),
        ),
        Mistake("The last step is missing.", wrong_walk(steps=slice(-1))),
        Mistake(
            "All sequences stop where the shortest one ends: the mask has a column for each sequence.",
            wrong_walk(real=lambda mask: mask.all(axis=1, keepdims=True)),
        ),
        Mistake(
            "The mask is one step late: its first row belongs to x_1.",
            wrong_walk(real=lambda mask: np.append(np.zeros_like(mask[:1]), mask[:-1], axis=0)),
        ),
        Mistake(
            "The state reads x_{t-1} where Eq. 1 reads x_t.",
            wrong_walk(fed=lambda x, t, logits: x[t - 1] if t else np.zeros_like(x[0])),
        ),
        Mistake(
            "That is divided by the number of values in a step: log p(x_t) is their sum.",
            lambda p, x, mask: log_likelihood(p, x, mask) / x.shape[2],
        ),
        Mistake("That is p(x): return its logarithm.", lambda *a: np.exp(log_likelihood(*a))),
        *(
            Mistake(
                f"The logits are clipped at {limit}: a sure prediction that is wrong must cost more. Which form of "
                "log p(x_t) needs no clipping?",
                wrong_walk(seen=lambda logits, limit=limit: np.clip(logits, -limit, limit)),
            )
            for limit in (10, 15, 20, 30, 50, 100)
        ),
        *(
            Mistake(
                f"The probabilities are clipped {small:g} away from 0 and 1: which form of log p(x_t) needs no clip?",
                wrong_walk(seen=through_p(small)),
            )
            for small in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15)
        ),
        Mistake("The first state is not h_0 = 0.", wrong_walk(h_0=1.0)),
        Mistake(
            "That is per step: add up the steps.", lambda p, x, mask: log_likelihood(p, x, mask) / mask.sum(axis=0)
        ),
    ),
    forbidden=(rnn.literal_forward, rnn.sequence_forward),
    points=3,
)

# ---- 01.4: the best Gaussian ---------------------------------------------------------------------


def best_gaussian(pi, mu, sigma):
    m = np.sum(pi * mu, axis=1)
    return m, np.sqrt(np.sum(pi * (sigma**2 + (mu - m[:, None]) ** 2), axis=1))


def draw_mixture(rng):
    N, K = (int(size) for size in rng.permutation([2, 3, 4, 5])[:2])
    pi = rng.random((N, K)) + 0.2
    return (
        pi / pi.sum(axis=1, keepdims=True),
        2 * rng.standard_normal((N, K)),
        np.exp(0.5 * rng.standard_normal((N, K))),
    )


def with_deviation(s):
    """The right mean, with another standard deviation."""
    return lambda pi, mu, sigma: (best_gaussian(pi, mu, sigma)[0], s(pi, mu, sigma))


def evenly(pi, mu, sigma):
    return best_gaussian(np.full_like(pi, 1 / pi.shape[1]), mu, sigma)


BEST_GAUSSIAN = Task(
    "the best Gaussian for a mixture",
    "derive",
    best_gaussian,
    draw_mixture,
    ("m", "s"),
    (
        Mistake(
            "s is the variance: return the standard deviation.", with_deviation(lambda *a: best_gaussian(*a)[1] ** 2)
        ),
        Mistake(
            "s contains only the widths of the components: how far apart are their means?",
            with_deviation(lambda pi, mu, sigma: np.sqrt((pi * sigma**2).sum(axis=1))),
        ),
        Mistake(
            "s contains only the distances between the components: how wide are they?",
            with_deviation(lambda pi, mu, sigma: best_gaussian(pi, mu, 0 * sigma)[1]),
        ),
        Mistake(
            "s is the mean of the standard deviations: add variances, and the spread of the means.",
            with_deviation(lambda pi, mu, sigma: (pi * sigma).sum(axis=1)),
        ),
        Mistake(
            "s is the root of E[x^2], which is the standard deviation only if the mean is 0.",
            with_deviation(lambda pi, mu, sigma: np.sqrt((pi * (sigma**2 + mu**2)).sum(axis=1))),
        ),
        Mistake(
            "sigma is used as a variance: E[x^2 | k] contains sigma squared.",
            with_deviation(lambda pi, mu, sigma: best_gaussian(pi, mu, np.sqrt(sigma))[1]),
        ),
        Mistake("All components have the same weight: where is pi?", evenly),
        Mistake(
            "Only the component with the largest weight is left: the others are part of the mixture too.",
            lambda pi, mu, sigma: best_gaussian(
                np.equal(pi, pi.max(axis=1, keepdims=True)).astype(pi.dtype), mu, sigma
            ),
        ),
        Mistake(
            "The spread of the means is computed without their weights.",
            with_deviation(lambda pi, mu, sigma: np.sqrt((pi * sigma**2).sum(axis=1) + mu.var(axis=1))),
        ),
        Mistake(
            "s is the spread of the means plus the mean of the widths: which quantities add up, if not standard "
            "deviations?",
            with_deviation(
                lambda pi, mu, sigma: (pi * sigma).sum(axis=1) + best_gaussian(pi, mu, np.zeros_like(sigma))[1]
            ),
        ),
        Mistake(
            "s contains only the widths, and the weights are squared, as in the variance of a sum of independent "
            "numbers: here one component is chosen.",
            with_deviation(lambda pi, mu, sigma: np.sqrt((pi**2 * sigma**2).sum(axis=1))),
        ),
        Mistake(
            "s is a sum of two standard deviations: add the variances, then take the root.",
            with_deviation(
                lambda pi, mu, sigma: (
                    np.sqrt((pi * sigma**2).sum(axis=1)) + best_gaussian(pi, mu, np.zeros_like(sigma))[1]
                )
            ),
        ),
        Mistake(
            "The distances between the means and m are not squared.",
            with_deviation(
                lambda pi, mu, sigma: np.sqrt((pi * (sigma**2 + abs(mu - (pi * mu).sum(1)[:, None]))).sum(axis=1))
            ),
        ),
        Mistake(
            "The distances between the components count in full for each: weight them with pi.",
            with_deviation(
                lambda pi, mu, sigma: np.sqrt((pi * sigma**2 + (mu - (pi * mu).sum(1)[:, None]) ** 2).sum(axis=1))
            ),
        ),
        Mistake(
            "The weights are squared in s, as in the variance of a sum of independent numbers: here one component is "
            "chosen.",
            with_deviation(
                lambda pi, mu, sigma: np.sqrt((pi**2 * (sigma**2 + (mu - (pi * mu).sum(1)[:, None]) ** 2)).sum(axis=1))
            ),
        ),
        *(
            Mistake(
                f"{added} is added to the variance: it is never negative, so nothing is needed.",
                with_deviation(lambda *a, added=added: np.sqrt(best_gaussian(*a)[1] ** 2 + added)),
            )
            for added in (1e-2, 1e-3)
        ),
    ),
)

# ---- 01.5: a wider fork --------------------------------------------------------------------------


def cost_of_a_wider_fork():
    """Nats per step that the best Gaussian loses when two equal components of width 0.1 move from +-1 to +-10."""
    pi, sigma = np.full((2, 2), 0.5), np.full((2, 2), 0.1)
    _, s = best_gaussian(pi, np.array([[-1.0, 1.0], [-10.0, 10.0]]), sigma)
    log_density = -np.log(s) - 0.5 * np.log(2 * np.pi * np.e)
    return float(log_density[0] - log_density[1])


WIDER = Prediction(
    "a wider fork",
    cost_of_a_wider_fork,
    (
        Mistake("That is the increase of the log of the variance: which power of s is in L?", float(np.log(100))),
        Mistake("That is the factor by which s grows. L contains the logarithm of s.", 10.0),
        Mistake("That is the factor by which the variance grows. L contains the logarithm of s.", 100.0),
        Mistake("That is the logarithm to base 10: nats use base e.", 1.0),
        Mistake("That is how much s grows, as a difference. L contains the logarithm of s.", 9.0),
        Mistake("That is the logarithm of a difference: L changes by a difference of logarithms.", float(np.log(9))),
        Mistake("That holds for the true distribution and for a mixture. What happens to s?", 0.0),
        Mistake("The size is right, but the sign is not: the loss is a positive number.", -float(np.log(10))),
        Mistake("That is in bits: answer in nats.", float(np.log2(10))),
    ),
    tol=0.02,
    next_cell=False,
)

# ---- 01.6: the log-density of a mixture ----------------------------------------------------------


def gmm_log_density(x, logits, mu, sigma):
    return mixture.gmm_log_density_forward(x, logits, mu, sigma)[0]


def draw_gmm(rng):
    N, K, X = (int(size) for size in rng.permutation([3, 4, 5, 6])[:3])
    x, logits = rng.standard_normal((N, X)), rng.standard_normal((N, K))
    x[0] *= 60  # so far away that exp of every component's log-density is 0
    return x, logits, rng.standard_normal((N, K, X)), np.exp(0.3 * rng.standard_normal((N, K, X)))


def log_components(x, mu, sigma):
    """log N(x_j; mu_kj, sigma_kj^2), (N, K, X)."""
    return -0.5 * ((x[:, None, :] - mu) / sigma) ** 2 - np.log(sigma) - gaussian.HALF_LOG_2PI


def log_sum(a, axis):
    top = a.max(axis=axis, keepdims=True)
    return (top + np.log(np.exp(a - top).sum(axis=axis, keepdims=True))).squeeze(axis)


def log_pi(logits):
    return logits - log_sum(logits, 1)[:, None]


def wrong_mixture(one=lambda x, mu, sigma: log_components(x, mu, sigma).sum(axis=-1), total=lambda a: log_sum(a, 1)):
    """The log-density with the components, or their sum, changed."""
    return lambda x, logits, mu, sigma: total(log_pi(logits) + one(x, mu, sigma))


def summed_from(floor):
    """`log_sum` whose exponents, after the largest is taken out, are at least `floor`."""
    return lambda a: a.max(axis=1) + np.log(np.exp(np.maximum(a - a.max(axis=1)[:, None], floor)).sum(axis=1))


GMM = Task(
    "the log-density of a mixture",
    "write",
    gmm_log_density,
    draw_gmm,
    ("log p(x)",),
    (
        Mistake(
            "The weights do not sum to 1: which function turns logits into pi?",
            lambda x, logits, mu, sigma: log_sum(logits + log_components(x, mu, sigma).sum(axis=-1), 1),
        ),
        Mistake(
            "That is the mean of the logarithms: return the logarithm of the mean.",
            lambda x, logits, mu, sigma: (np.exp(log_pi(logits)) * log_components(x, mu, sigma).sum(axis=-1)).sum(
                axis=1
            ),
        ),
        Mistake(
            "Each entry of x chooses its own component: there is one choice for the whole vector.",
            lambda x, logits, mu, sigma: log_sum(log_pi(logits)[..., None] + log_components(x, mu, sigma), 1).sum(
                axis=-1
            ),
        ),
        Mistake(
            "Only the largest component is left: factor it out of the sum, but keep the sum.",
            lambda x, logits, mu, sigma: (log_pi(logits) + log_components(x, mu, sigma).sum(axis=-1)).max(axis=1),
        ),
        Mistake(
            "sigma is used as a variance: it is a standard deviation.",
            lambda x, logits, mu, sigma: gmm_log_density(x, logits, mu, np.sqrt(sigma)),
        ),
        Mistake(
            "The constant of the Gaussian is missing: each entry of x contributes -log(2 pi) / 2.",
            lambda x, logits, mu, sigma: gmm_log_density(x, logits, mu, sigma) + x.shape[1] * gaussian.HALF_LOG_2PI,
        ),
        Mistake(
            "The constant -log(2 pi) / 2 is there once: each entry of x contributes one.",
            lambda x, logits, mu, sigma: (
                gmm_log_density(x, logits, mu, sigma) + (x.shape[1] - 1) * gaussian.HALF_LOG_2PI
            ),
        ),
        Mistake(
            "log sigma has the wrong sign: a wider Gaussian is lower at its top.",
            wrong_mixture(lambda x, mu, sigma: (log_components(x, mu, sigma) + 2 * np.log(sigma)).sum(axis=-1)),
        ),
        Mistake(
            "log sigma is missing: a wider Gaussian is lower at its top.",
            wrong_mixture(lambda x, mu, sigma: (log_components(x, mu, sigma) + np.log(sigma)).sum(axis=-1)),
        ),
        Mistake(
            "The squared distance is not halved.",
            wrong_mixture(
                lambda x, mu, sigma: (log_components(x, mu, sigma) - 0.5 * ((x[:, None] - mu) / sigma) ** 2).sum(-1)
            ),
        ),
        Mistake(
            "The distance is divided by sigma only after it was squared: divide by sigma squared.",
            wrong_mixture(
                lambda x, mu, sigma: (
                    log_components(x, mu, sigma) + 0.5 * (x[:, None] - mu) ** 2 * (1 / sigma**2 - 1 / sigma)
                ).sum(-1)
            ),
        ),
        Mistake(
            "The log-density of a component is a mean over the entries of x: it should be a sum.",
            wrong_mixture(lambda x, mu, sigma: log_components(x, mu, sigma).mean(axis=-1)),
        ),
        Mistake(
            "The logits are normalised over N: each x has K components, on the second axis.",
            lambda x, logits, mu, sigma: log_sum(
                logits - log_sum(logits, 0) + log_components(x, mu, sigma).sum(axis=-1), 1
            ),
        ),
        Mistake(
            "The sum over components is divided by K: pi holds the weights already.",
            wrong_mixture(total=lambda a: log_sum(a, 1) - np.log(a.shape[1])),
        ),
        *(
            Mistake(
                f"The exponents are at least {floor}: a component far below the largest should count for next to "
                "nothing, and exp does not mind.",
                wrong_mixture(total=summed_from(floor)),
            )
            for floor in (-5, -10)
        ),
        *(
            Mistake(
                f"{small:g} is added inside the logarithm: far from all components p(x) is smaller than that. How can "
                "the sum be kept from underflowing?",
                wrong_mixture(total=lambda a, small=small: np.log(np.exp(a).sum(axis=1) + small)),
            )
            for small in (1e-6, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15, 1e-16)
        ),
        Mistake(
            "All components have the same probability: where are the logits?",
            lambda x, logits, mu, sigma: gmm_log_density(x, 0 * logits, mu, sigma),
        ),
    ),
    forbidden=(mixture.gmm_log_density_forward, mixture.mix_forward),
    points=3,
)

EXERCISES = {
    "01.1": PAD,
    "01.2": NATS,
    "01.3": LIKELIHOOD,
    "01.4": BEST_GAUSSIAN,
    "01.5": WIDER,
    "01.6": GMM,
}
