"""The exercises of notebook 11, The bug museum: three bugs to fix, and three predictions."""

import numpy as np

from tinyvrnn.course import museum
from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions import bernoulli

# ---- 11.1: which way the bound goes --------------------------------------------------------------

GAUSSIAN_BUGS = ("std drawn as exp(log_var)", "KL without its -1", "ReLU on a log-variance")


def above_or_below():
    """The side of log p(x) on which the exact case's ELBO lies, for the three bugs of the first room."""
    sides = []
    for bug in GAUSSIAN_BUGS:
        elbos, log_p = museum.elbos_and_log_p(museum.EXHIBITS[bug][0], n=2000)
        sides.append("above" if elbos.mean() > log_p else "below")
    return tuple(sides)


DRAW, KL, RELU = (
    "The first: if sigma < 1, is sigma^2 larger or smaller? How does that change log p(x | z)?",
    "The second: without the -1, is the KL larger or smaller, and what is its sign in the bound?",
    "The third: q is no longer the exact posterior. Can a correctly computed bound exceed log p(x) for any q?",
)
SIDES = Prediction(
    "above or below log p(x)?",
    above_or_below,
    (
        Mistake(DRAW, ("below", "below", "below")),
        Mistake(KL, ("above", "above", "below")),
        Mistake(RELU, ("above", "below", "above")),
        Mistake(f"Two are wrong. {DRAW} {KL}", ("below", "above", "below")),
        Mistake(f"Two are wrong. {DRAW} {RELU}", ("below", "below", "above")),
        Mistake(f"Two are wrong. {KL} {RELU}", ("above", "above", "above")),
        Mistake(
            "All three are the other way round: how does each bug change the two terms?", ("below", "above", "above")
        ),
    ),
)

# ---- 11.2: the coin ------------------------------------------------------------------------------


def log_coin(x, a):
    return museum.log_coin(x, a)


def draw_coin(rng):
    shape = [(5,), (3, 4), (2, 3, 5)][rng.integers(3)]
    a, x = 5 * rng.standard_normal(shape), rng.integers(0, 2, shape).astype(float)
    a.flat[:3] = (40.0, -40.0, 800.0) if rng.random() < 0.5 else (30.0, -40.0, 25.0)
    x.flat[:3] = 0.0, 1.0, 1.0
    return x, a


def softplus(a, rest=lambda a: np.log1p(np.exp(-abs(a)))):
    return np.maximum(a, 0) + rest(a)


def coin_of_p(limit=lambda p: p, eps=0.0):
    """The log-density from the probability p."""

    def answer(x, a):
        p = limit(1 / (1 + np.exp(-a)))
        return x * np.log(p + eps) + (1 - x) * np.log(1 - p + eps)

    return answer


def clipped_coin(eps):
    message = f"Clipping p at {eps:g} keeps it finite, but gives {np.log(eps):.3g} where the logit gives -40: "
    return Mistake(message + "can you avoid p?", coin_of_p(lambda p: np.clip(p, eps, 1 - eps)))


def padded_coin(eps):
    message = (
        f"An eps of {eps:g} in both logarithms keeps them finite, but the value is wrong where p or 1 - p is as small: "
    )
    return Mistake(message + "can you avoid p?", coin_of_p(eps=eps))


def limited_logit(top):
    message = f"Limiting the logit to ±{top} gives finite but wrong numbers beyond: softplus does not need it."
    return Mistake(message, lambda x, a: x * np.clip(a, -top, top) - softplus(np.clip(a, -top, top)))


def limited_exponent(top):
    message = f"Limiting the exponent to {top} keeps softplus finite, but it should grow like a beyond: "
    return Mistake(message + "which part of it is large?", lambda x, a: x * a - softplus(np.clip(a, -top, top)))


SMALL, TOPS = (1e-12, 1e-10, 1e-8, 1e-7, 1e-6), (10, 20, 30, 50, 100, 500)

COIN = Task(
    "the coin",
    "bug",
    log_coin,
    draw_coin,
    ("log_p",),
    (
        *map(clipped_coin, SMALL),
        *map(padded_coin, SMALL),
        *map(limited_logit, TOPS),
        Mistake("That is the negative log-density: the cross-entropy, a loss.", lambda x, a: softplus(a) - x * a),
        Mistake("The two sides of the coin are swapped.", lambda x, a: (1 - x) * a - softplus(a)),
        Mistake("Only x = 1 is handled: what is log p of x = 0?", lambda x, a: -x * softplus(-a)),
        Mistake("Only x = 0 is handled: what is log p of x = 1?", lambda x, a: (x - 1) * softplus(a)),
        Mistake(
            "Where x is 0 the sign is wrong: the logarithm of a probability is never positive.",
            lambda x, a: x * a + (1 - 2 * x) * softplus(a),
        ),
        Mistake(
            "softplus(-a) is subtracted from x a: at x = 0 that is log p, not log (1 - p).",
            lambda x, a: x * a - softplus(-a),
        ),
        Mistake(
            "Your softplus is right for a >= 0 only: which exponential is at most 1 for both signs of a?",
            lambda x, a: x * a - softplus(a, lambda a: np.log1p(np.exp(-a))),
        ),
        Mistake(
            "The exponential in your softplus grows with |a|: its exponent should never be positive.",
            lambda x, a: x * a - softplus(a, lambda a: np.log1p(np.exp(abs(a)))),
        ),
        Mistake(
            "Beyond a threshold softplus(a) is replaced by a: then log p is 0 there, although it is only small.",
            lambda x, a: x * a - np.where(a > 20, a, softplus(a)),
        ),
        Mistake("softplus(a) counts twice where x is 1: once is enough.", lambda x, a: x * a - (1 + x) * softplus(a)),
        Mistake("softplus(a) is added to x a: no probability is above 1.", lambda x, a: x * a + softplus(a)),
        Mistake("log p of x = 1 is given for every x: where is x?", lambda x, a: a - softplus(a)),
        Mistake("log p of x = 0 is given for every x: where is x?", lambda x, a: -softplus(a)),
        *map(limited_exponent, (20, 50, 100, 500, 700)),
        Mistake(
            "Your softplus is 0 or a, with a corner at 0: what is softplus(0)?", lambda x, a: x * a - np.maximum(a, 0)
        ),
    ),
    forbidden=(museum.log_coin, bernoulli.bernoulli_log_density_forward),
)

# ---- 11.3: the state, over unrelated sequences ---------------------------------------------------


def states(W, U, b, first, x):
    h, hs = np.zeros_like(x[0] @ W), []
    for x_t, first_t in zip(x, first):
        h = np.tanh(x_t @ W + np.where(first_t[:, None], 0, h) @ U + b)
        hs.append(h)
    return np.stack(hs)


def draw_states(rng):
    T, (B, D, H) = int(rng.integers(6, 9)), (int(n) for n in rng.permutation([2, 3, 4, 5])[:3])
    first = rng.random((T, B)) < 0.3
    first[0], first[3, 0], first[2] = True, True, False
    W, U, b = rng.standard_normal((D, H)), rng.standard_normal((H, H)), rng.standard_normal(H)
    return W, U, b, first, rng.standard_normal((T, B, D))


def wrong_states(before=lambda first, h: h, after=lambda first, h: h, past=lambda first, v: v, shift=0, old=False):
    """The states with another rule for h before a step, after it, or for h @ U + b. old: notes h before the step."""

    def run(W, U, b, first, x):
        h, hs = np.zeros_like(x[0] @ W), []
        for x_t, first_t in zip(x, np.roll(first, shift, axis=0)):
            start = before(first_t, h)
            h = after(first_t, np.tanh(x_t @ W + past(first_t, start @ U + b)))
            hs.append(start if old else h)
        return np.stack(hs)

    return run


def where(condition, a, b):
    return np.where(condition[:, None], a, b).astype(b.dtype)


def states_reset_in_place(W, U, b, first, x):
    h, hs = np.zeros_like(x[0] @ W), []
    for x_t, first_t in zip(x, first):
        h[first_t] = 0
        h = np.tanh(x_t @ W + h @ U + b)
        hs.append(h)
    return np.stack(hs)


def reset_to_the_bias(W, U, b, first, x):
    return wrong_states(before=lambda first, h: where(first, np.tanh(b), h))(W, U, b, first, x)


STATES = Task(
    "the state of unrelated sequences",
    "bug",
    states,
    draw_states,
    ("h",),
    (
        Mistake("The state is still carried from one sequence into the next: what does `first` say?", wrong_states()),
        Mistake(
            "A new sequence in one track resets all tracks: the others are still inside a sequence.",
            wrong_states(before=lambda first, h: 0 * h if first.any() else h),
        ),
        Mistake(
            "The state is reset only where all tracks begin a sequence at once: each has its own column in `first`.",
            wrong_states(before=lambda first, h: 0 * h if first.all() else h),
        ),
        Mistake(
            "The state before a first step is tanh(b): set it to 0, as it was before the very first one.",
            reset_to_the_bias,
        ),
        Mistake(
            "All tracks are reset where the first one begins a sequence: `first` has a column for each.",
            wrong_states(before=lambda first, h: 0 * h if first[0] else h),
        ),
        Mistake(
            "The state is reset where a sequence continues, and kept where one begins.",
            wrong_states(before=lambda first, h: where(~first, 0, h)),
        ),
        Mistake(
            "The state is reset one step too late: the first step of a sequence still reads the previous one's state.",
            wrong_states(before=lambda first, h: where(first, 0, h), shift=1),
        ),
        Mistake(
            "The state is reset one step too early: the last step of a sequence has lost its own past.",
            wrong_states(before=lambda first, h: where(first, 0, h), shift=-1),
        ),
        Mistake(
            "The state is cleared before the last step of a sequence, not after it: row t of `first` is about step t.",
            lambda W, U, b, first, x: states(W, U, b, np.concatenate([first[1:], 0 * first[:1] > 0]), x),
        ),
        Mistake(
            "The state AFTER a first step is set to 0, which loses its x_t: reset the state before that step.",
            wrong_states(after=lambda first, h: where(first, 0, h)),
        ),
        Mistake(
            "The reset writes into an array that your list of states still holds, so it changes the previous step.",
            states_reset_in_place,
        ),
        Mistake(
            "Every step is treated as a first one: the state is never carried on.", wrong_states(lambda first, h: 0 * h)
        ),
        Mistake("U is transposed.", lambda W, U, b, first, x: states(W, U.T, b, first, x)),
        Mistake(
            "The result is 0 at a first step: the state is 0 before that step, and its x_t changes it.",
            lambda W, U, b, first, x: states(W, U, b, first, x) * ~first[..., None],
        ),
        Mistake(
            "The result is 0 at a first step, but the next step still reads the state that was carried over.",
            lambda W, U, b, first, x: wrong_states()(W, U, b, first, x) * ~first[..., None],
        ),
        Mistake(
            "h is noted before it is updated: the state after x_t is asked for.",
            wrong_states(lambda first, h: where(first, 0, h), old=True),
        ),
        Mistake(
            "A first step has lost its bias: clear the state alone, not all that is added to x_t @ W.",
            wrong_states(past=lambda first, v: where(first, 0, v)),
        ),
        Mistake(
            "x_t is cleared too: clear the state alone.",
            lambda W, U, b, first, x: states(W, U, b, first, x * ~first[..., None]),
        ),
    ),
)

# ---- 11.4: which checks see the cut --------------------------------------------------------------

SUSPECTS = {"loss falls", "gradient", "long gradient", "exact case", "same again"}


def who_sees_the_cut():
    """Which of five checks fail when the state is detached every five steps."""
    wrong, _ = museum.EXHIBITS["truncated backpropagation"]
    return {check for check in SUSPECTS if museum.sees(check, wrong)}


CUT = Prediction(
    "which checks see the cut?",
    who_sees_the_cut,
    (
        Mistake("The `gradient` check has sequences of 4 steps. Where does the loop detach?", {"gradient"}),
        Mistake("One of the two has sequences of 4 steps. Where does the loop detach?", {"gradient", "long gradient"}),
        Mistake("`detach` keeps the value. Which of these checks look at more than values?", {"exact case"}),
        Mistake("`detach` keeps the value, so what is the ELBO of the exact case?", {"long gradient", "exact case"}),
        Mistake(
            "A gradient that lacks a part still points downhill, most of the time.", {"long gradient", "loss falls"}
        ),
        Mistake(
            "None? In 15 steps the state is detached twice, but a difference of two losses is not affected.", set()
        ),
        Mistake("The cut is at the same step in every call: the second call agrees with the first.", {"same again"}),
    ),
)

# ---- 11.5: clipping ------------------------------------------------------------------------------


def norm(v):
    return np.sqrt((v * v).sum())


def training_step(theta, m, lr, max_norm, grads):
    clipped = grads * min(1.0, max_norm / norm(grads))
    m = 0.9 * m + clipped
    return theta - lr * m, m


def draw_step(rng):
    P = int(rng.choice([4, 5, 7]))
    theta, m, grads = rng.standard_normal((3, P))
    length = 4.0 if rng.random() < 0.7 else 0.3
    return theta, m, float(rng.uniform(0.01, 0.5)), float(rng.uniform(0.5, 2.0)), grads * length / norm(grads)


def wrong_step(clip=lambda g, c: g, clip_m=lambda m, c: m, decay=0.9, sign=-1, move=lambda m, g, c: m):
    def step(theta, m, lr, max_norm, grads):
        m = clip_m(decay * m + clip(grads, max_norm), max_norm)
        return theta + sign * lr * move(m, clip(grads, max_norm), max_norm), m

    return step


def by_norm(g, c, norm=norm):
    return g * min(1.0, c / norm(g))


STEP = Task(
    "clipping",
    "bug",
    training_step,
    draw_step,
    ("theta", "m"),
    (
        Mistake(
            "A gradient longer than max_norm enters the step at full length: clip it before m takes it up.",
            wrong_step(),
        ),
        Mistake(
            "A gradient shorter than max_norm becomes longer: clipping only shortens.",
            wrong_step(lambda g, c: g * c / norm(g)),
        ),
        Mistake(
            "Each entry is clipped separately, which changes the direction: limit the norm.",
            wrong_step(lambda g, c: np.clip(g, -c, c)),
        ),
        Mistake(
            "The momentum is clipped, including earlier steps: clip only the new gradient.", wrong_step(clip_m=by_norm)
        ),
        Mistake(
            "theta moves by the momentum clipped, and m has the gradient as it was: clip only the new gradient.",
            wrong_step(move=lambda m, g, c: by_norm(m, c)),
        ),
        Mistake(
            "The norm is the sum of the magnitudes: take the Euclidean one.",
            wrong_step(lambda g, c: by_norm(g, c, lambda g: abs(g).sum())),
        ),
        Mistake(
            "That is the root of the mean square: the norm has the sum of the squares.",
            wrong_step(lambda g, c: by_norm(g, c, lambda g: np.sqrt((g * g).mean()))),
        ),
        Mistake(
            "The norm is the largest magnitude: take the Euclidean one.",
            wrong_step(lambda g, c: by_norm(g, c, lambda g: abs(g).max())),
        ),
        Mistake(
            "A long gradient is scaled to length 1: max_norm is missing in the factor.",
            wrong_step(lambda g, c: g if norm(g) <= c else g / norm(g)),
        ),
        Mistake(
            "Short gradients are stretched and long ones stay long: should the factor be at least 1, or at most?",
            wrong_step(lambda g, c: g * max(1.0, c / norm(g))),
        ),
        Mistake(
            "The factor is upside down: it makes short gradients shorter and leaves long ones.",
            wrong_step(lambda g, c: g * min(1.0, norm(g) / c)),
        ),
        Mistake("A long gradient is left out: it should be scaled down.", wrong_step(lambda g, c: g * (norm(g) <= c))),
        Mistake(
            "theta moves by the clipped gradient: it should move by m, which has earlier steps in it.",
            wrong_step(by_norm, move=lambda m, g, c: g),
        ),
        Mistake(
            "That is Nesterov's step, which looks ahead by 0.9 m: here theta moves by m itself.",
            wrong_step(by_norm, move=lambda m, g, c: 0.9 * m + g),
        ),
        Mistake(
            "The squared norm is used as the norm: the root is missing.",
            wrong_step(lambda g, c: g * min(1.0, c / norm(g) ** 2)),
        ),
        Mistake("The step goes uphill.", wrong_step(by_norm, sign=1)),
        Mistake(
            "That momentum is an average with weight 0.1 for the new gradient; the given one is a sum.",
            wrong_step(lambda g, c: 0.1 * by_norm(g, c)),
        ),
        Mistake(
            "The new gradient gets the weight 0.1 even before it is clipped; the given momentum is a sum.",
            wrong_step(lambda g, c: by_norm(0.1 * g, c)),
        ),
        Mistake("The momentum of the earlier steps is lost.", wrong_step(by_norm, decay=0.0)),
        Mistake(
            "theta moves by the clipped gradient and m has the gradient as it was: clip it for m, and move by m.",
            wrong_step(move=lambda m, g, c: by_norm(g, c)),
        ),
        Mistake(
            "m takes up the clipped gradient, but theta moves by the gradient as it was.",
            lambda *a: (wrong_step()(*a)[0], training_step(*a)[1]),
        ),
        Mistake(
            "The step lr m is clipped, and m has the gradient as it was: clip only the new gradient.",
            lambda theta, m, lr, top, grads: (theta - by_norm(lr * (0.9 * m + grads), top), 0.9 * m + grads),
        ),
        Mistake(
            "theta moves by the old momentum: update m first.",
            lambda theta, m, lr, *rest: (theta - lr * m, training_step(theta, m, lr, *rest)[1]),
        ),
        Mistake(
            "lr is in the momentum: here it multiplies m when theta moves.",
            lambda theta, m, lr, top, grads: training_step(theta, m, 1.0, lr * top, lr * grads),
        ),
    ),
)

# ---- 11.6: which checks see the units ------------------------------------------------------------

GUARDS = {"loss falls", "gradient", "exact case", "batch = singles", "same again", "padding"}


def who_sees_the_units():
    """Which of six checks fail where the reconstruction is per frame and the KL per sequence."""
    wrong, _ = museum.EXHIBITS["per frame next to per sequence"]
    return {check for check in GUARDS if museum.sees(check, wrong)}


UNITS = Prediction(
    "which checks see the wrong units?",
    who_sees_the_units,
    (
        Mistake(
            "One more. The exact case asks for log p(x) of a whole sequence: is the reconstruction still in that unit?",
            {"batch = singles"},
        ),
        Mistake(
            "One more. What is a short sequence's reconstruction divided by when it is alone, and what in a batch?",
            {"exact case"},
        ),
        Mistake("Both lines use the mask, so the padding counts in neither.", {"padding"}),
        Mistake(
            "One too many: what does the mask do to the steps after a sequence's end?",
            {"exact case", "batch = singles", "padding"},
        ),
        Mistake(
            "One too many: a sum over the batch does not depend on the order.",
            {"exact case", "batch = singles", "same again"},
        ),
        Mistake(
            "One too many: automatic differentiation and a difference of two losses both use the same, wrong loss.",
            {"exact case", "batch = singles", "gradient"},
        ),
        Mistake(
            "One too many: a wrong function has a gradient too, and a step down that gradient lowers it.",
            {"exact case", "batch = singles", "loss falls"},
        ),
        Mistake("The gradient is the correct one of the wrong loss: can a gradient check notice?", {"gradient"}),
        Mistake("None? There is one case in which the loss has to be a known number.", set()),
        Mistake("Not all of them: which ones only compare the loss with itself, on the same sequences?", GUARDS),
    ),
)

EXERCISES = {"11.1": SIDES, "11.2": COIN, "11.3": STATES, "11.4": CUT, "11.5": STEP, "11.6": UNITS}
