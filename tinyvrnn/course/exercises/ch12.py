"""The exercises of notebook 12, Speech, handwriting, music: units, lines of ink, a pen's density, what z is worth."""

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions import bernoulli, pen

# ---- 12.1: units ---------------------------------------------------------------------------------


def raw_units(log_p, lengths, std):
    raw = log_p - lengths * np.log(std).sum()
    return raw, -raw.sum() / (lengths.sum() * np.log(2).astype(raw.dtype))


def draw_units(rng):
    B, X = (int(size) for size in rng.permutation([3, 4, 5])[:2])
    lengths = rng.permutation(np.arange(2, 12))[:B].astype(float)
    return -lengths * (2 + rng.random(B)), lengths, np.exp(0.7 + 0.5 * rng.standard_normal(X))


def wrong_units(log_scale=lambda lengths, std: lengths * np.log(std).sum(), bits=None, each=lambda std: 1):
    """The change of units with one thing changed."""

    def answer(log_p, lengths, std):
        raw = log_p - log_scale(lengths, std)
        return raw, bits(log_p, raw, lengths) if bits else -raw.sum() / lengths.sum() / each(std) / np.log(2)

    return answer


UNITS = Task(
    "from one unit to the other",
    "derive",
    raw_units,
    draw_units,
    ("raw", "bits"),
    (
        Mistake(
            "The scale term has the wrong sign: dividing by a large standard deviation makes the density larger.",
            wrong_units(lambda lengths, std: -lengths * np.log(std).sum()),
        ),
        Mistake(
            "The scale term counts once per sequence: how many of its numbers were divided?",
            wrong_units(lambda lengths, std: np.log(std).sum() + 0 * lengths),
        ),
        Mistake(
            "The scale term is a mean over the numbers of a step: what is the logarithm of a product of X factors?",
            wrong_units(lambda lengths, std: lengths * np.log(std).mean()),
        ),
        Mistake(
            "The scale term is in bits and log p in nats: take the natural logarithm.",
            wrong_units(lambda lengths, std: lengths * np.log2(std).sum()),
        ),
        Mistake(
            "The first std stands for all: each of the X numbers has its own.",
            wrong_units(lambda lengths, std: lengths * len(std) * np.log(std[0])),
        ),
        Mistake(
            "Those are logarithms of variances.", wrong_units(lambda lengths, std: 2 * lengths * np.log(std).sum())
        ),
        Mistake("You subtract the scale itself: subtract its logarithm.", wrong_units(lambda n, std: n * std.sum())),
        Mistake(
            "bits is a mean of each sequence's bits per step: the exercise asks for total over total.",
            wrong_units(bits=lambda log_p, raw, lengths: -(raw / lengths).mean() / np.log(2)),
        ),
        Mistake(
            "bits is per sequence: the exercise asks for bits per step.",
            wrong_units(bits=lambda log_p, raw, lengths: -raw.mean() / np.log(2)),
        ),
        Mistake("raw is still that of the standardised data.", wrong_units(lambda lengths, std: 0 * lengths)),
        Mistake(
            "That is the logarithm of the mean of std, not the mean of its logarithms.",
            wrong_units(lambda lengths, std: lengths * len(std) * np.log(std.mean())),
        ),
        Mistake(
            "Each sequence gets the mean length: it has its own.",
            wrong_units(lambda lengths, std: lengths.mean() * np.log(std).sum() + 0 * lengths),
        ),
        Mistake(
            "raw is per step: the exercise asks for whole sequences.",
            lambda log_p, n, std: (raw_units(log_p, n, std)[0] / n, raw_units(log_p, n, std)[1]),
        ),
        Mistake(
            "bits is that of the whole set: divide it by the steps.",
            wrong_units(bits=lambda log_p, raw, lengths: -raw.sum() / np.log(2)),
        ),
        Mistake(
            "bits counts the longest sequence's steps for each: count the real ones.",
            wrong_units(bits=lambda log_p, raw, lengths: -raw.sum() / (lengths.max() * len(raw)) / np.log(2)),
        ),
        Mistake("bits is per number: a step has X of them.", wrong_units(each=len)),
        Mistake(
            "bits is multiplied by log 2: is a bit more or less than a nat?",
            wrong_units(bits=lambda log_p, raw, lengths: -raw.sum() / lengths.sum() * np.log(2)),
        ),
        Mistake(
            "bits is still in nats.",
            wrong_units(bits=lambda log_p, raw, lengths: -raw.sum() / lengths.sum()),
        ),
        Mistake(
            "bits is that of the standardised data: the exercise asks for the raw data.",
            wrong_units(bits=lambda log_p, raw, lengths: -log_p.sum() / lengths.sum() / np.log(2)),
        ),
        Mistake(
            "bits has the sign of log p: an unlikely sequence needs many bits.",
            wrong_units(bits=lambda log_p, raw, lengths: raw.sum() / lengths.sum() / np.log(2)),
        ),
        Mistake(
            "That is the logarithm of the sum, not the sum of the logarithms.",
            wrong_units(lambda n, std: n * np.log(std.sum())),
        ),
        Mistake(
            "A power of std with so large an exponent is 0 or infinity in the computer: can you do without the power?",
            wrong_units(lambda n, std: np.log(np.prod(std) ** n)),
        ),
    ),
)

# ---- 12.2: lines of ink --------------------------------------------------------------------------


def lines_of_ink(x):
    path = np.cumsum(x[:, :2], axis=0)
    return np.concatenate([path[:-1], path[1:]], axis=1), 1 - x[:-1, 2]


def draw_character(rng):
    """Two to four strokes of two to five points; the last point of each has the pen up."""
    strokes = [int(n) for n in rng.integers(2, 6, int(rng.integers(2, 5)))]
    lifted = np.concatenate([np.arange(n) == n - 1 for n in strokes])
    return (np.column_stack([rng.standard_normal((len(lifted), 2)), lifted]).astype(float),)


def between(points, steps):
    return points[:-1], points[1:]


def wrong_ink(path=lambda steps: np.cumsum(steps, axis=0), ink=lambda lifted: 1 - lifted[:-1], ends=between):
    """Lines of ink with one thing changed."""

    def answer(x):
        return np.concatenate(ends(path(x[:, :2]), x[:, :2]), axis=1), ink(x[:, 2])

    return answer


def restarted(x):
    """The path starts anew at the origin after each lift."""
    path = x[:, :2].copy()
    for t in range(1, len(x)):
        if not x[t - 1, 2]:
            path[t] += path[t - 1]
    return np.concatenate([path[:-1], path[1:]], axis=1), 1 - x[:-1, 2]


INK = Task(
    "spilled ink",
    "bug",
    lines_of_ink,
    draw_character,
    ("lines", "ink"),
    (
        Mistake(
            "ink still has the bug. Does pen-up at point t concern the line to t or the line from t?",
            wrong_ink(ink=lambda lifted: 1 - lifted[1:]),
        ),
        Mistake(
            "Every line has ink, even the moves between strokes.", wrong_ink(ink=lambda lifted: 1 + 0 * lifted[1:])
        ),
        Mistake(
            "The moves have ink and the strokes have none: which value of pen-up means ink?",
            wrong_ink(ink=lambda lifted: lifted[:-1]),
        ),
        Mistake(
            "Ink is missing on both sides of each pen-up: only one of the two lines is a move.",
            wrong_ink(ink=lambda lifted: (1 - lifted[:-1]) * (1 - lifted[1:])),
        ),
        Mistake(
            "The steps are not added up: they are movements, not positions.",
            wrong_ink(path=lambda steps: steps),
        ),
        Mistake(
            "Each point is one step behind: after the first step the pen is no longer at the origin.",
            wrong_ink(path=lambda steps: np.cumsum(steps, axis=0) - steps),
        ),
        Mistake(
            "The cumulative sum runs from dx to dy: which axis is time?",
            wrong_ink(path=lambda steps: np.cumsum(steps, axis=1)),
        ),
        Mistake(
            "The path starts at 0: its first point is the first step.",
            wrong_ink(lambda steps: np.cumsum(steps, axis=0) - steps[0]),
        ),
        Mistake(
            "The columns are y0, x0, y1, x1: dx comes first.",
            wrong_ink(path=lambda steps: np.cumsum(steps[:, ::-1], axis=0)),
        ),
        Mistake(
            "x1 and y1 hold the step from the first point: they should be the point where the line ends.",
            wrong_ink(ends=lambda points, steps: (points[:-1], steps[1:])),
        ),
        Mistake(
            "Each line runs backwards: x0, y0 is the point at which the pen was first.",
            wrong_ink(ends=lambda points, steps: (points[1:], points[:-1])),
        ),
        Mistake(
            "The columns are x0, x1, y0, y1: swap the middle ones.",
            lambda x: (lines_of_ink(x)[0][:, [0, 2, 1, 3]], lines_of_ink(x)[1]),
        ),
        Mistake(
            "The path starts anew at the origin after each lift: the pen also moves while it is up.",
            restarted,
        ),
        Mistake(
            "The lifts are added up as well: of the three columns only dx and dy are movements.",
            wrong_ink(ink=lambda lifted: 1 - np.cumsum(lifted)[:-1]),
        ),
    ),
)

# ---- 12.3: the log-density of a pen's step -------------------------------------------------------


def pen_log_density(x, logits, mu, sigma, rho, a):
    return pen.pen_log_density_forward(x, logits, mu, sigma, rho, a)[0]


def draw_pen(rng):
    N, K = (int(size) for size in rng.permutation([4, 5, 6, 7])[:2])
    x = np.column_stack([rng.standard_normal((N, 2)), np.arange(N) % 2])
    x[0, :2] *= 60  # so far away that the density of every component underflows to 0
    a = rng.standard_normal((N, 1))
    a[1], a[2] = -200.0, 300.0  # e^300 is infinity in float32
    mu, sigma = rng.standard_normal((N, K, 2)), np.exp(0.3 * rng.standard_normal((N, K, 2)))
    return x, rng.standard_normal((N, K)), mu, sigma, rng.uniform(-0.8, 0.8, (N, K)), a


def log_sum(v):
    top = v.max(axis=1, keepdims=True)
    return (top + np.log(np.exp(v - top).sum(axis=1, keepdims=True)))[:, 0]


def log_softmax(logits):
    return logits - log_sum(logits)[:, None]


def log_coin(chance, a):
    return bernoulli.bernoulli_log_density_forward(chance, a)[0]


def wrong_pen(
    bell=lambda d1, d2, rho, c: d1**2 + ((d2 - rho * d1) / c) ** 2,
    log_c=1.0,
    two_pi=2.0,
    log_sigma=1.0,
    log_pi=log_softmax,
    mix=log_sum,
    log_pen=log_coin,
    root=lambda rho: np.sqrt(1 - rho * rho),
    deviation=lambda sigma: sigma,
):
    """The log-density with one thing changed."""

    def answer(x, logits, mu, sigma, rho, a):
        d1, d2 = np.moveaxis((x[:, None, :2] - mu) / deviation(sigma), -1, 0)
        c = root(rho)
        log_n = -0.5 * bell(d1, d2, rho, c) - (log_sigma * np.log(sigma)).sum(axis=-1) - log_c * np.log(c)
        log_n = log_n - two_pi * 0.5 * float(np.log(2 * np.pi))
        return mix(log_pi(logits) + log_n) + log_pen(x[:, 2:], a)

    return answer


def padded_mixture(eps):
    message = f"An eps of {eps:g} in the logarithm keeps it finite, but far from all components log p is much lower: "
    message += "take out the largest term instead."
    return Mistake(message, wrong_pen(mix=lambda joint: np.log(np.exp(joint).sum(axis=1) + eps)))


def padded_pen(eps):
    def log_pen(lifted, a):
        p = 1 / (1 + np.exp(-a))
        return (lifted * np.log(p + eps) + (1 - lifted) * np.log(1 - p + eps))[:, 0]

    message = f"A clip or an eps of {eps:g} limits the logarithm of the coin's p to {np.log(eps):.3g}: "
    return Mistake(message + "can you avoid p?", wrong_pen(log_pen=log_pen))


def mean_of_logs(x, logits, mu, sigma, rho, a):
    log_pi = log_softmax(logits)

    def mix(joint):
        return (np.exp(log_pi) * (joint - log_pi)).sum(axis=1)

    return wrong_pen(mix=mix)(x, logits, mu, sigma, rho, a)


SMALL = (1e-12, 1e-10, 1e-8, 1e-7, 1e-6)

PEN = Task(
    "the log-density of a pen's step",
    "write",
    pen_log_density,
    draw_pen,
    ("log p",),
    (
        Mistake(
            "rho has the wrong sign: a falling stroke would rise.",
            wrong_pen(lambda d1, d2, rho, c: d1**2 + ((d2 + rho * d1) / c) ** 2),
        ),
        Mistake(
            "rho is not used: are dx and dy independent within a component?",
            wrong_pen(lambda d1, d2, rho, c: d1**2 + d2**2, log_c=0),
        ),
        Mistake("log c is missing: correlation shrinks areas by the factor c.", wrong_pen(log_c=0)),
        Mistake(
            "w is not divided by c: its standard deviation must be 1.",
            wrong_pen(lambda d1, d2, rho, c: d1**2 + (d2 - rho * d1) ** 2),
        ),
        Mistake(
            "w is divided by 1 - rho^2: c is the root of that.",
            wrong_pen(lambda d1, d2, rho, c: d1**2 + ((d2 - rho * d1) / c**2) ** 2),
        ),
        Mistake(
            "The cross term in the exponent lacks a factor of 2: expand (delta_2 - rho delta_1)^2.",
            wrong_pen(lambda d1, d2, rho, c: (d1**2 - rho * d1 * d2 + d2**2) / c**2),
        ),
        Mistake(
            "The factor 1/2 in the exponent is missing.",
            wrong_pen(lambda d1, d2, rho, c: 2 * (d1**2 + ((d2 - rho * d1) / c) ** 2)),
        ),
        Mistake("log c counts twice: c is the square root of 1 - rho^2.", wrong_pen(log_c=2.0)),
        Mistake("log c has the wrong sign: the density is divided by c.", wrong_pen(log_c=-1.0)),
        Mistake(
            "c is the square root of 1 - rho^2, everywhere in the formula.", wrong_pen(root=lambda rho: 1 - rho * rho)
        ),
        Mistake("rho is not squared in c.", wrong_pen(root=lambda rho: np.sqrt(1 - rho))),
        Mistake(
            "Your c is 1 - rho: square rho before you subtract it from 1, and take the root after that.",
            wrong_pen(root=lambda rho: 1 - rho),
        ),
        Mistake(
            "c has a plus: the variance that delta_1 explains is taken away.",
            wrong_pen(root=lambda rho: np.sqrt(1 + rho * rho)),
        ),
        Mistake(
            "w is delta_2 / c: the part of delta_2 that delta_1 explains is not taken out.",
            wrong_pen(lambda d1, d2, rho, c: d1**2 + (d2 / c) ** 2),
        ),
        Mistake(
            "x - mu is divided by the variance: delta is a number of standard deviations.",
            wrong_pen(deviation=lambda sigma: sigma**2),
        ),
        Mistake(
            "x - mu is divided by the root of sigma: sigma is a standard deviation already.",
            wrong_pen(deviation=np.sqrt),
        ),
        Mistake("Half of log 2 pi is missing: there are two dimensions.", wrong_pen(two_pi=1.0)),
        Mistake("log 2 pi counts twice: each dimension has half of it.", wrong_pen(two_pi=4.0)),
        Mistake(
            "log sigma has the factor 1/2: sigma is a standard deviation, not a variance.", wrong_pen(log_sigma=0.5)
        ),
        Mistake("log sigma is missing: a wide component has a low density.", wrong_pen(log_sigma=0.0)),
        Mistake("log sigma has the wrong sign: the density is divided by sigma.", wrong_pen(log_sigma=-1.0)),
        Mistake("log sigma of dy is missing: there are two standard deviations.", wrong_pen(log_sigma=np.eye(2)[0])),
        Mistake(
            "The weights do not add up to 1: which function turns the logits into pi?",
            wrong_pen(log_pi=lambda logits: logits),
        ),
        Mistake(
            "The weights are all equal: where are the logits?",
            wrong_pen(log_pi=lambda logits: 0 * logits - np.log(logits.shape[1])),
        ),
        Mistake(
            "The softmax runs over the N steps: the weights of a step's components add up to 1.",
            wrong_pen(log_pi=lambda logits: log_softmax(logits.T).T),
        ),
        Mistake("That is the mean of the logarithms: the exercise asks for the logarithm of the mean.", mean_of_logs),
        Mistake(
            "Only the component that fits best counts: add up all of them.",
            wrong_pen(mix=lambda joint: joint.max(axis=1)),
        ),
        *map(padded_mixture, (1e-300, 1e-100, 1e-30, 1e-20, 1e-16, *SMALL)),
        Mistake(
            "The weights pi are added to log-densities: take their logarithm.",
            wrong_pen(log_pi=lambda logits: np.exp(log_softmax(logits))),
        ),
        Mistake(
            "The largest term is taken out of the sum and not put back.",
            wrong_pen(mix=lambda joint: log_sum(joint) - joint.max(axis=1)),
        ),
        *map(padded_pen, SMALL),
        Mistake("The coin is missing: a step consists of dx, dy and pen-up.", wrong_pen(log_pen=lambda x, a: 0)),
        Mistake(
            "The coin is inverted: a is the logit of a lifted pen.",
            wrong_pen(log_pen=lambda x, a: log_coin(1 - x, a)),
        ),
        Mistake(
            "The coin counts only when the pen is lifted: staying down has a probability too.",
            wrong_pen(log_pen=lambda x, a: x[:, 0] * log_coin(x, a)),
        ),
        Mistake(
            "The coin counts only when the pen stays down: lifting has a probability too.",
            wrong_pen(log_pen=lambda x, a: (1 - x[:, 0]) * log_coin(x, a)),
        ),
        Mistake(
            "The coin's term is a where the pen is lifted, else 0: that is no log-probability.",
            wrong_pen(log_pen=lambda x, a: (x * a)[:, 0]),
        ),
        Mistake("The coin's term has the wrong sign.", wrong_pen(log_pen=lambda x, a: -log_coin(x, a))),
        Mistake(
            "The coin counts once for each component: a step has one pen.",
            lambda x, logits, mu, sigma, rho, a: (
                pen_log_density(x, logits, mu, sigma, rho, a) + (logits.shape[1] - 1) * log_coin(x[:, 2:], a)
            ),
        ),
    ),
    forbidden=(pen.pen_log_density_forward,),
    points=3,
)

# ---- 12.4: two chords ----------------------------------------------------------------------------

CHORDS = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=float)  # C E G and D F A, equally probable


def cost_of_independent_keys():
    """Nats per step that the best model with six independent keys loses against the true distribution."""
    chance = CHORDS.mean(axis=0)
    log_keys = (CHORDS * np.log(chance) + (1 - CHORDS) * np.log(1 - chance)).sum(axis=1)
    return float((np.log(0.5) - log_keys).mean())


KEYS = Prediction(
    "two chords",
    cost_of_independent_keys,
    (
        Mistake(
            "That is the cost of six independent keys. The true distribution has a cost too.", float(6 * np.log(2))
        ),
        Mistake(
            "That is the cost of the true distribution. How much more do six independent keys cost?", float(np.log(2))
        ),
        Mistake("That is in bits: the exercise asks for nats.", 5.0),
        Mistake("That is the cost of all six keys, in bits.", 6.0),
        Mistake("A silent key has a probability too: count all six keys.", float(2 * np.log(2))),
        Mistake(
            "Each key by itself is predicted optimally. But how probable is C-E-A, which never sounds?",
            0.0,
        ),
        Mistake("The magnitude is right, but the loss is a positive number.", float(-5 * np.log(2))),
    ),
    tol=0.02,
    next_cell=False,
)

EXERCISES = {"12.1": UNITS, "12.2": INK, "12.3": PEN, "12.4": KEYS}
