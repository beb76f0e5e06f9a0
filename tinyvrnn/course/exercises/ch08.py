"""The exercises of notebook 08, Training: units, clipping, Adam, and the warm-up of the KL."""

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.training import optim
from tinyvrnn.training.optim import Adam, clip_by_global_norm

# ---- 08.1: nats per sequence and per step --------------------------------------------------------


def bounds_of(elbo, mask):
    total = (elbo * mask).sum()
    return total / elbo.shape[1], total / mask.sum()


def draw_ragged(rng):
    T, B = rng.permutation([4, 5, 7])[:2]
    lengths = rng.permutation(np.arange(B) % T + 1)  # all kinds of lengths, so that means of means differ
    mask = (np.arange(T)[:, None] < lengths).astype(float)
    return rng.standard_normal((T, B)) - 3, mask


def of_means(elbo, mask):
    return (elbo * mask).sum() / elbo.shape[1], ((elbo * mask).sum(axis=0) / mask.sum(axis=0)).mean()


def of_padding(elbo, mask):
    return elbo.sum() / elbo.shape[1], elbo.sum() / mask.sum()


UNITS = Task(
    "nats per sequence and per step",
    "write",
    bounds_of,
    draw_ragged,
    ("per_sequence", "per_step"),
    (
        Mistake(
            "per_step is a mean of the sequences' means: that gives a step of a short sequence more weight than one "
            "of a long sequence.",
            of_means,
        ),
        Mistake("The sum includes the padding: what is the mask for?", of_padding),
        Mistake(
            "per_step divides by T B, the padded size: longer padding would make the model look better.",
            lambda elbo, mask: ((elbo * mask).sum() / elbo.shape[1], (elbo * mask).mean()),
        ),
        Mistake("per_sequence and per_step are swapped.", lambda elbo, mask: bounds_of(elbo, mask)[::-1]),
        Mistake(
            "per_sequence is the total over the batch: it has to be divided by the number of sequences.",
            lambda elbo, mask: ((elbo * mask).sum(), bounds_of(elbo, mask)[1]),
        ),
        Mistake(
            "Both have the wrong sign: report the bound, not the loss.",
            lambda elbo, mask: tuple(-v for v in bounds_of(elbo, mask)),
        ),
        Mistake(
            "per_sequence divides by T: there are B sequences.",
            lambda elbo, mask: ((elbo * mask).sum() / len(elbo), bounds_of(elbo, mask)[1]),
        ),
        Mistake(
            "per_step divides the total of all sequences by T, the steps of only one: how many real steps are there in "
            "the batch?",
            lambda elbo, mask: (bounds_of(elbo, mask)[0], (elbo * mask).sum() / len(elbo)),
        ),
        Mistake(
            "per_step divides the total by the mean length of a sequence: a total has to be divided by a total.",
            lambda elbo, mask: (bounds_of(elbo, mask)[0], (elbo * mask).sum() / mask.sum(axis=0).mean()),
        ),
        Mistake(
            "per_sequence averages each sequence over its steps: the bound of a sequence is a sum over its steps.",
            lambda elbo, mask: (of_means(elbo, mask)[1], bounds_of(elbo, mask)[1]),
        ),
        Mistake(
            "The padding counts in both, in the sums and in the number of steps: what is the mask for?",
            lambda elbo, mask: (elbo.sum() / elbo.shape[1], elbo.mean()),
        ),
        Mistake(
            "The steps are counted where elbo is not 0: a real step may have exactly 0 nats. Which array marks them?",
            lambda elbo, mask: (bounds_of(elbo, mask)[0], (elbo * mask).sum() / np.count_nonzero(elbo * mask)),
        ),
    ),
)

# ---- 08.2: clipping by the global norm -----------------------------------------------------------


def clip(grads, max_norm):
    """The package's clipping, which works in place on one flat vector, applied to a dict of gradients."""
    flat = np.concatenate([g.ravel() for g in grads.values()])
    clip_by_global_norm(flat, max_norm)
    ends = np.cumsum([g.size for g in grads.values()])
    return {name: part.reshape(grads[name].shape) for name, part in zip(grads, np.split(flat, ends[:-1]))}


def draw_grads(rng):
    D, E = rng.permutation([2, 3, 5])[:2]
    size = 10 ** rng.uniform(-0.7, 1.3)
    return {"W": size * rng.standard_normal((D, E)), "b": size * rng.standard_normal(E)}, float(rng.uniform(2, 6))


def norm_of(grads):
    return np.sqrt(sum((g * g).sum() for g in grads.values()))


def scaled(grads, factor):
    return {name: g * factor for name, g in grads.items()}


CLIP = Task(
    "clipping by the global norm",
    "write",
    clip,
    draw_grads,
    ("grads",),
    (
        Mistake(
            "Each array is clipped by its own norm: W and b are scaled by different factors, which changes the "
            "direction. Use one norm for all.",
            lambda grads, max_norm: {n: g * min(max_norm / np.sqrt((g * g).sum()), 1.0) for n, g in grads.items()},
        ),
        Mistake(
            "Each entry is clipped separately: that changes the direction.",
            lambda grads, max_norm: {n: np.clip(g, -max_norm, max_norm) for n, g in grads.items()},
        ),
        Mistake(
            "Short gradients become longer: what should happen where the norm is below max_norm?",
            lambda grads, max_norm: scaled(grads, max_norm / norm_of(grads)),
        ),
        Mistake(
            "That is the square of the norm: the root is missing.",
            lambda grads, max_norm: scaled(grads, min(max_norm / norm_of(grads) ** 2, 1.0)),
        ),
        Mistake(
            "The largest entry is not the Euclidean norm: the result is longer than max_norm.",
            lambda grads, max_norm: scaled(grads, min(max_norm / max(abs(g).max() for g in grads.values()), 1.0)),
        ),
        Mistake(
            "The norms of the arrays are added: it is their squares that add up.",
            lambda grads, max_norm: scaled(
                grads, min(max_norm / sum(np.sqrt((g * g).sum()) for g in grads.values()), 1.0)
            ),
        ),
        Mistake(
            "Short gradients are stretched and long ones stay long: should the factor be at least 1, or at most?",
            lambda grads, max_norm: scaled(grads, max(max_norm / norm_of(grads), 1.0)),
        ),
        Mistake(
            "Nothing is clipped, though the norm exceeds max_norm: that is the root of the sum of the squares of all "
            "entries, in all arrays.",
            lambda grads, max_norm: grads,
        ),
        Mistake(
            "The norm is that of one array: all of them count.",
            lambda grads, max_norm: scaled(grads, min(max_norm / norm_of({"W": grads["W"]}), 1.0)),
        ),
        Mistake(
            "The absolute values are added: the norm is the root of the sum of squares.",
            lambda grads, max_norm: scaled(grads, min(max_norm / sum(abs(g).sum() for g in grads.values()), 1.0)),
        ),
    ),
    forbidden=(clip_by_global_norm,),
)

# ---- 08.3: clipping after the step ---------------------------------------------------------------


def moved_by_a_step_clipped_too_late():
    """How far theta moves: |g| = 50, learning rate 0.1, max_norm 2, with the two lines in the wrong order."""
    theta, g = np.zeros(2), np.array([30.0, 40.0])
    theta -= 0.1 * g
    clip_by_global_norm(g, 2.0)
    return float(np.sqrt((theta * theta).sum()))


TOO_LATE = Prediction(
    "clipping after the step",
    moved_by_a_step_clipped_too_late,
    (
        Mistake("That would be right if the two lines were swapped. Which g does the update of theta use?", 0.2),
        Mistake("That is the norm of g at the end. theta moved before that.", 2.0),
        Mistake("That is the norm of g before clipping: where is the learning rate?", 50.0),
        Mistake("theta does move: the first line runs before the second.", 0.0),
        Mistake("That is the difference of two norms: work through the two lines by hand.", 4.8),
        Mistake("The norm of (30, 40) is not the sum of its entries.", 7.0),
        Mistake("That is how far the first entry of theta moves: there are two.", 3.0),
        Mistake("That is how far the second entry of theta moves: there are two.", 4.0),
        Mistake("That is the sum of the squares: the norm is its root.", 25.0),
    ),
    tol=1e-6,
)

# ---- 08.4: Adam's mean in closed form ------------------------------------------------------------


def corrected_mean(g, b1):
    m = np.zeros_like(g[0])
    for g_k in g:
        m = b1 * m + (1 - b1) * g_k
    return m / (1 - b1 ** len(g))


def draw_gradients(rng):
    K, P = rng.permutation([3, 4, 5, 6])[:2]
    return rng.standard_normal((K, P)) + 1, float(rng.uniform(0.4, 0.9))


def weighted(weights, g):
    return np.asarray(weights, dtype=g.dtype) @ g


def corrected_each_time(g, b1):
    m = 0 * g[0]
    for k, g_k in enumerate(g, 1):
        m = (b1 * m + (1 - b1) * g_k) / (1 - b1**k)
    return m


def from_the_first(g, b1):
    m = g[0]
    for g_k in g[1:]:
        m = b1 * m + (1 - b1) * g_k
    return m


def ages(g):
    """How many steps ago each gradient came: K - k."""
    return np.arange(len(g))[::-1]


MEAN = Task(
    "Adam's mean in closed form",
    "derive",
    corrected_mean,
    draw_gradients,
    ("m_hat",),
    (
        Mistake(
            "The oldest gradient has the largest weight: which gradient has been multiplied by b1 most often?",
            lambda g, b1: weighted((1 - b1) * b1 ** ages(g)[::-1] / (1 - b1 ** len(g)), g),
        ),
        Mistake(
            "That is m_K itself: its weights do not add up to 1.",
            lambda g, b1: weighted((1 - b1) * b1 ** ages(g), g),
        ),
        Mistake("That is the plain mean: it weights all gradients equally.", lambda g, b1: g.mean(axis=0)),
        Mistake(
            "The factor 1 - b1 of each new gradient is missing: the weights add up to more than 1.",
            lambda g, b1: weighted(b1 ** ages(g) / (1 - b1 ** len(g)), g),
        ),
        Mistake(
            "The newest gradient is multiplied by b1: in m_K it is not.",
            lambda g, b1: weighted((1 - b1) * b1 ** (ages(g) + 1) / (1 - b1 ** len(g)), g),
        ),
        Mistake(
            "The correction has the exponent K - 1: after one step, m is (1 - b1) g_1.",
            lambda g, b1: weighted((1 - b1) * b1 ** ages(g) / (1 - b1 ** (len(g) - 1)), g),
        ),
        Mistake(
            "The correction has the exponent K + 1: how many gradients are in the sum?",
            lambda g, b1: weighted((1 - b1) * b1 ** ages(g) / (1 - b1 ** (len(g) + 1)), g),
        ),
        Mistake(
            "The sum is multiplied by the correction: m_K is too small already.",
            lambda g, b1: weighted((1 - b1) * b1 ** ages(g) * (1 - b1 ** len(g)), g),
        ),
        Mistake(
            "The weights are the powers of b1 alone: they have to add up to 1.",
            lambda g, b1: weighted(b1 ** ages(g), g),
        ),
        Mistake(
            "m is corrected in every step, and the next step continues from the corrected one: correct the last m "
            "alone.",
            corrected_each_time,
        ),
        Mistake(
            "m starts from g_1. In Adam it starts from 0, which is why it has to be corrected.",
            from_the_first,
        ),
        Mistake(
            "m starts from g_1, and is corrected as if it had started from 0.",
            lambda g, b1: from_the_first(g, b1) / (1 - b1 ** len(g)),
        ),
        Mistake(
            "The weights run along the parameters: there is one for each gradient, a row of g.",
            lambda g, b1: g.sum(axis=0) * b1 ** ages(g[0]) / (b1 ** ages(g[0])).sum(),
        ),
    ),
)

# ---- 08.5: a step of Adam ------------------------------------------------------------------------


def adam_step(theta, g, m, v, k, lr, b1, b2, eps):
    optimiser = Adam(theta, lr, b1, b2, eps)
    theta, optimiser.m, optimiser.v, optimiser.k = theta.copy(), m.copy(), v.copy(), k - 1
    optimiser.step(theta, g)
    return theta, optimiser.m, optimiser.v


def draw_adam(rng):
    P = int(rng.integers(3, 8))
    theta, g, m = rng.standard_normal((3, P))
    k, lr, eps = int(rng.integers(1, 6)), float(rng.uniform(0.1, 0.5)), float(rng.uniform(0.01, 0.1))
    return theta, g, m, rng.random(P) + 0.1, k, lr, float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.85, 0.95)), eps


def wrong_adam(
    squared=lambda g, m: g * g,
    corrections=lambda b1, b2, k: (1 - b1**k, 1 - b2**k),
    inside=False,
    root=True,
    swap=False,
    sign=-1.0,
    eps_weight=1,
    new_m=lambda m, g, b1: b1 * m + (1 - b1) * g,
    new_v=lambda v, square, b2: b2 * v + (1 - b2) * square,
    stale="",
    keep=False,
):
    """A step of Adam with one thing changed. stale: the moments, "m", "v" or both, that the step takes too early."""

    def step(theta, g, m, v, k, lr, b1, b2, eps):
        if swap:
            b1, b2 = b2, b1
        old, m = {"m": m, "v": v}, new_m(m, g, b1)
        v = new_v(v, squared(g, m), b2)
        of_m, of_v = corrections(b1, b2, k)
        mean, spread = (old["m"] if "m" in stale else m) / of_m, (old["v"] if "v" in stale else v) / of_v
        inner = eps**inside if inside else 0
        deviation = (np.sqrt(spread + inner) if root else spread) + (0 if inside else eps * eps_weight)
        theta = theta + sign * lr * mean / deviation
        return (theta, mean, spread) if keep else (theta, m, v)

    return step


ADAM = Task(
    "a step of Adam",
    "write",
    adam_step,
    draw_adam,
    ("theta", "m", "v"),
    (
        Mistake(
            "eps has no effect on this step: it is added to the root everywhere, whether v is 0 or not.",
            wrong_adam(eps_weight=0),
        ),
        Mistake("eps is added to the root's argument, as its square: it stands outside.", wrong_adam(inside=2)),
        Mistake("m and v start at 0, and this is not corrected.", wrong_adam(corrections=lambda b1, b2, k: (1, 1))),
        Mistake(
            "m is corrected for its start at 0, but v is not.", wrong_adam(corrections=lambda b1, b2, k: (1 - b1**k, 1))
        ),
        Mistake(
            "k already includes this step: the correction is one step ahead.",
            wrong_adam(corrections=lambda b1, b2, k: (1 - b1 ** (k + 1), 1 - b2 ** (k + 1))),
        ),
        Mistake("eps is inside the root: it adds sqrt(eps) where v is 0.", wrong_adam(inside=True)),
        Mistake("The step divides by v: what has the units of a gradient, v or its root?", wrong_adam(root=False)),
        Mistake("b1 and b2 are swapped: the mean forgets faster than the square.", wrong_adam(swap=True)),
        Mistake("v averages |g|: it should average squares.", wrong_adam(squared=lambda g, m: abs(g))),
        Mistake("theta goes uphill.", wrong_adam(sign=1.0)),
        Mistake(
            "v is corrected for its start at 0, but m is not.",
            wrong_adam(corrections=lambda b1, b2, k: (1, 1 - b2**k)),
        ),
        Mistake(
            "k already includes this step: the correction is one step behind.",
            wrong_adam(corrections=lambda b1, b2, k: (1 - b1 ** (k - 1), 1 - b2 ** (k - 1))),
        ),
        Mistake(
            "The correction of v is one step behind that of m: both count this step.",
            wrong_adam(corrections=lambda b1, b2, k: (1 - b1**k, 1 - b2 ** max(k - 1, 1))),
        ),
        Mistake(
            "v is corrected with b1: it forgets at the rate b2.",
            wrong_adam(corrections=lambda b1, b2, k: (1 - b1**k, 1 - b1**k)),
        ),
        Mistake(
            "The corrected m and v are returned: the next step continues from the uncorrected ones.",
            wrong_adam(keep=True),
        ),
        Mistake("The step uses m from before this gradient: update m first.", wrong_adam(stale="m")),
        Mistake("The step uses v from before this gradient: update v first.", wrong_adam(stale="v")),
        Mistake("The step uses m and v from before this gradient: update both first.", wrong_adam(stale="mv")),
        Mistake(
            "m adds the whole gradient: a running mean gives it the weight 1 - b1.",
            wrong_adam(new_m=lambda m, g, b1: b1 * m + g),
        ),
        Mistake(
            "In m the weights b1 and 1 - b1 are swapped: b1 is the share of the past.",
            wrong_adam(new_m=lambda m, g, b1: (1 - b1) * m + b1 * g),
        ),
        Mistake(
            "In v the weights b2 and 1 - b2 are swapped: b2 is the share of the past.",
            wrong_adam(new_v=lambda v, square, b2: (1 - b2) * v + b2 * square),
        ),
        Mistake(
            "In m and v the weights are swapped: b1 and b2 are the shares of the past.",
            wrong_adam(
                new_m=lambda m, g, b1: (1 - b1) * m + b1 * g,
                new_v=lambda v, square, b2: (1 - b2) * v + b2 * square,
            ),
        ),
        Mistake(
            "eps is added to the root of a v that is not yet corrected: correct v first.",
            lambda theta, g, m, v, k, lr, b1, b2, eps: adam_step(
                theta, g, m, v, k, lr, b1, b2, eps / float(np.sqrt(1 - b2**k))
            ),
        ),
        Mistake(
            "lr is missing: theta moves by the whole ratio of m and the root of v.",
            lambda theta, g, m, v, k, lr, *rest: adam_step(theta, g, m, v, k, 1.0, *rest),
        ),
        Mistake("v averages the squares of g - m: take those of g.", wrong_adam(squared=lambda g, m: (g - m) ** 2)),
        Mistake(
            "v never falls, as in AMSGrad: in Adam it follows the squares of g up and down.",
            wrong_adam(new_v=lambda v, square, b2: np.maximum(v, b2 * v + (1 - b2) * square)),
        ),
    ),
    forbidden=(Adam.step, optim.adam_step),
    points=3,
)

# ---- 08.6: warm-up -------------------------------------------------------------------------------


def loss_and_bound(log_likelihood, kl, step, warm_steps):
    beta = min(1.0, (step + 1) / warm_steps) if warm_steps else 1.0
    return (beta * kl - log_likelihood).mean(), (log_likelihood - kl).mean()


def draw_warm(rng):
    B = int(rng.integers(3, 7))
    step, warm_steps = [(2, 10), (30, 10), (4, 0), (7, 20), (9, 10)][rng.integers(5)]
    return -20 - 5 * rng.random(B), 3 + 4 * rng.random(B), step, warm_steps


def wrong_warm(
    late=1,
    limit=min,
    sign=1.0,
    in_bound=lambda beta: 1,
    reduce=np.mean,
    falls=False,
    least=1,
    weighted=lambda beta, kl, log_likelihood: beta * kl - log_likelihood,
):
    """The loss and the bound with one thing changed."""

    def loss_and_bound(log_likelihood, kl, step, warm_steps):
        beta = limit(1.0, (step + late) / max(warm_steps, least)) if warm_steps else 1.0
        beta = max(0.0, 1 - beta) if falls else beta
        loss = weighted(beta, sign * kl, log_likelihood)
        return reduce(loss), reduce(log_likelihood - in_bound(beta) * kl)

    return loss_and_bound


WARM = Task(
    "warm-up of the KL",
    "bug",
    loss_and_bound,
    draw_warm,
    ("loss", "bound"),
    (
        Mistake(
            "beta keeps growing after the warm-up: soon the KL counts ten times as much as it should.",
            wrong_warm(limit=lambda one, beta: beta),
        ),
        Mistake(
            "The bound uses the weighted KL: with beta < 1 it is not a bound.", wrong_warm(in_bound=lambda beta: beta)
        ),
        Mistake("In the first step, counted from 0, beta would be 0: the KL would have no effect.", wrong_warm(late=0)),
        Mistake(
            "beta multiplies the likelihood: which term should be warmed up?",
            wrong_warm(weighted=lambda beta, kl, log_p: kl - beta * log_p),
        ),
        Mistake("The loss rewards a large KL: check its sign.", wrong_warm(sign=-1.0)),
        Mistake("These are sums over the batch: the exercise asks for nats per sequence.", wrong_warm(reduce=np.sum)),
        Mistake("beta falls from 1 to 0: a warm-up rises.", wrong_warm(falls=True)),
        Mistake(
            "beta multiplies the whole loss: it should weight the KL only.",
            wrong_warm(weighted=lambda beta, kl, log_p: beta * (kl - log_p)),
        ),
        Mistake("The KL counts in full from the start: where is beta?", wrong_warm(limit=lambda one, beta: 1.0)),
        Mistake(
            "Both bugs are still there: how large can beta become, and which KL does the bound subtract?",
            wrong_warm(limit=lambda one, beta: beta, in_bound=lambda beta: beta),
        ),
        Mistake("beta is at least 1: a warm-up starts below 1, and stops there.", wrong_warm(limit=max)),
        Mistake(
            "The bound is the log-likelihood alone: it subtracts the KL in full.", wrong_warm(in_bound=lambda beta: 0)
        ),
        Mistake(
            "The warm-up takes at least two steps: with S = 1, what is beta in the first step?", wrong_warm(least=2)
        ),
        Mistake(
            "During the warm-up beta is 0, although it should rise with each step: does a division lose its fraction?",
            wrong_warm(limit=lambda one, beta: min(one, float(beta // 1))),
        ),
        Mistake(
            "After the warm-up beta starts again from a small value: it should stay at 1.",
            lambda p, kl, s, S: loss_and_bound(p, kl, s % S if S else s, S),
        ),
        Mistake(
            "Without a warm-up the KL should count in full.",
            lambda p, kl, s, S: (loss_and_bound(p, kl * (S > 0), s, S)[0], (p - kl).mean()),
        ),
    ),
)

EXERCISES = {"08.1": UNITS, "08.2": CLIP, "08.3": TOO_LATE, "08.4": MEAN, "08.5": ADAM, "08.6": WARM}
