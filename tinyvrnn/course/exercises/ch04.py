"""The exercises of notebook 04, The approximate posterior: encoder, dependencies, the loop, any q, the price."""

import numpy as np

from tinyvrnn.arrays.params import views
from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions.gaussian import SIGMA_MIN
from tinyvrnn.models import equations, sampling, schedule, stepwise
from tinyvrnn.models.equations import features_forward, infer_forward, recur_forward
from tinyvrnn.models.vrnn import VRNN
from tinyvrnn.nn.activations import relu, sigmoid, softplus

# ---- 04.1: the encoder ---------------------------------------------------------------------------


def infer(p, phi_x, h):
    return infer_forward(p, phi_x, h)[0]


def draw_infer(rng):
    F, H, Z = (int(n) for n in rng.permutation([3, 4, 5]))
    leading = [(6,), (7, 2)][rng.integers(2)]
    shapes = {"W1": (F + H, F), "b1": (F,), "W_out": (F, 2 * Z), "b_out": (2 * Z,)}
    p = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return p, rng.standard_normal((*leading, F)), rng.standard_normal((*leading, H))


def positive(s, squash=softplus):
    return squash(s) + np.asarray(SIGMA_MIN, dtype=s.dtype)


def halves(o):
    return np.split(o, 2, axis=-1)


def wrong_infer(join=lambda x, h: [x, h], hidden=relu, split=halves, mu=np.copy, sigma=positive, without=None, late=0):
    """The encoder with one thing changed."""

    def encoder(p, phi_x, h):
        p = p | {without: 0.0}
        y = hidden(np.concatenate(join(phi_x, h), axis=-1) @ p["W1"] + (1 - late) * p["b1"]) + late * p["b1"]
        mu_z, s = split(y @ p["W_out"] + p["b_out"])
        return mu(mu_z), sigma(s)

    return encoder


INFER = Task(
    "the encoder",
    "write",
    infer,
    draw_infer,
    ("mu_z", "sigma_z"),
    (
        Mistake(
            "The first rows of W1 multiply phi_x, the others h: in which order did you concatenate them?",
            wrong_infer(lambda x, h: [h, x]),
        ),
        Mistake("Your hidden layer is linear: what comes between the two matrices?", wrong_infer(hidden=np.copy)),
        Mistake("Your hidden layer is a tanh layer: the exercise asks for a ReLU layer.", wrong_infer(hidden=np.tanh)),
        Mistake(
            "Your hidden layer uses softplus, which is meant for sigma_z: the hidden layer is a ReLU layer.",
            wrong_infer(hidden=softplus),
        ),
        Mistake(
            "Your hidden layer is a leaky ReLU: below 0 the ReLU is exactly 0.",
            wrong_infer(hidden=lambda a: np.where(a > 0, a, 0.01 * a)),
        ),
        Mistake("b1 is added after the ReLU: it belongs to the pre-activation.", wrong_infer(late=1)),
        Mistake("The hidden layer has no bias: where is b1?", wrong_infer(without="b1")),
        Mistake("The head has no bias: where is b_out?", wrong_infer(without="b_out")),
        Mistake(
            "The first half of the head's output is mu_z, the second half s.",
            wrong_infer(split=lambda o: halves(o)[::-1]),
        ),
        Mistake(
            "mu_z and s take the head's columns in turn: mu_z is the first half of them, s the second.",
            wrong_infer(split=lambda o: (o[..., ::2], o[..., 1::2])),
        ),
        Mistake("mu_z has gone through softplus as well: a mean may be negative.", wrong_infer(mu=positive)),
        Mistake(
            "mu_z and s have gone through a ReLU: the head is a linear layer.",
            wrong_infer(mu=relu, sigma=lambda s: positive(relu(s))),
        ),
        Mistake(
            "sigma_z lacks its floor of 1e-4, which keeps 1 / sigma finite.",
            wrong_infer(sigma=softplus),
        ),
        Mistake(
            "The floor is applied as a maximum: here 1e-4 is added to softplus(s).",
            wrong_infer(sigma=lambda s: np.maximum(softplus(s), SIGMA_MIN)),
        ),
        Mistake(
            "sigma_z is exp(s): it is positive too, but this package uses softplus.",
            wrong_infer(sigma=np.exp),
        ),
        Mistake(
            "sigma_z is exp(s) + 1e-4: the floor is right, but this package uses softplus.",
            wrong_infer(sigma=lambda s: positive(s, np.exp)),
        ),
        Mistake(
            "sigma_z is exp(s / 2), as if s were a log-variance: this package uses softplus.",
            wrong_infer(sigma=lambda s: np.exp(s / 2)),
        ),
        Mistake(
            "sigma_z is a sigmoid, so it never exceeds 1: this package uses softplus.",
            wrong_infer(sigma=lambda s: positive(s, sigmoid)),
        ),
        Mistake(
            "sigma_z is max(s, 0) + 1e-4, a ReLU: softplus is its smooth version.",
            wrong_infer(sigma=lambda s: positive(s, relu)),
        ),
        Mistake(
            "From s = 5 on, sigma_z is s itself: there softplus is still larger than s by 0.007.",
            wrong_infer(sigma=lambda s: positive(s, lambda a: np.where(a > 5, a, softplus(a)))),
        ),
        Mistake(
            "sigma_z holds variances: the package uses standard deviations everywhere.",
            wrong_infer(sigma=lambda s: positive(s) ** 2),
        ),
        Mistake(
            "sigma_z is a root: softplus already gives a standard deviation, not a variance.",
            wrong_infer(sigma=lambda s: np.sqrt(positive(s))),
        ),
        Mistake(
            "sigma_z is the root of softplus(s), plus the floor: softplus already gives a standard deviation.",
            wrong_infer(sigma=lambda s: positive(s, lambda a: np.sqrt(softplus(a)))),
        ),
        Mistake("sigma_z holds log sigma_z: return sigma_z itself.", wrong_infer(sigma=lambda s: np.log(positive(s)))),
        Mistake(
            "sigma_z is s itself and can be negative: which function makes it positive?", wrong_infer(sigma=np.copy)
        ),
    ),
    forbidden=(equations.infer_forward, equations._network_forward),
)

# ---- 04.2: who reads x_3 -------------------------------------------------------------------------


def small_model(rng, X, H, Z, F, scale=0.7):
    """Random parameters of a VRNN, biases too, as dicts of float64 arrays."""
    model = VRNN(X, H, Z, F, layers=1, backend="numpy", dtype="float64")
    return views(scale * rng.standard_normal(model.theta.shape), model.shapes)


def who_reads_x_3():
    """The steps t, counted from 1 to 5, whose mu_z changes when only x_3 changes, with the noise held fixed."""
    rng = np.random.default_rng(0)
    params = small_model(rng, 3, 6, 2, 5)
    x, eps = rng.standard_normal((5, 4, 3)), rng.standard_normal((5, 4, 2))
    changed = x.copy()
    changed[2] += 1.0
    mu, mu_changed = (
        schedule.loop_forward(params, features_forward(params["phi_x"], v)[0], eps).o[..., :2] for v in (x, changed)
    )
    moved = np.abs(mu - mu_changed).max(axis=(1, 2))
    return {t + 1 for t in range(5) if moved[t] > 1e-9}


READERS = Prediction(
    "who reads x_3?",
    who_reads_x_3,
    (
        Mistake("Step 3 reads x_3 itself. How does it affect the following steps?", {3}),
        Mistake("The state does carry x_3 to later steps. But what does the encoder of step 3 read?", {4, 5}),
        Mistake("Steps 1 and 2 come before x_3: which of their arguments could depend on it?", {1, 2, 3, 4, 5}),
        Mistake("Those steps come before x_3. In which direction does the state carry information?", {1, 2, 3}),
        Mistake("Step 5 reads h_4: does h_4 not depend on x_3?", {3, 4}),
        Mistake("The steps are counted from 1 here, not from 0.", {2, 3, 4}),
        Mistake("Step 4 reads x_3 through h_3. Which step reads x_3 itself, and how far does the state carry it?", {4}),
        Mistake("Check the arguments of the encoder at step 3: x_3 is one of them.", {1, 2, 4, 5}),
    ),
    next_cell=False,
)

# ---- 04.3: the loop ------------------------------------------------------------------------------


def draw_z(params, x, eps):
    loop = schedule.loop_forward(params, features_forward(params["phi_x"], x)[0], eps)
    return loop.z, loop.h


def draw_draw_z(rng):
    X, H, Z, F = (int(n) for n in rng.permutation([2, 3, 4, 5]))
    T, B = [(3, 6), (4, 7), (2, 8)][rng.integers(3)]
    params = small_model(rng, X, H, Z, F)
    params = {name: params[name] for name in ("phi_x", "infer", "phi_z", "recur")}
    return params, rng.standard_normal((T, B, X)), rng.standard_normal((T, B, Z))


def wrong_loop(
    fed=lambda zs, mu, sigma, eps: zs[-1],
    noise=lambda eps, t: eps[t],
    draw=lambda mu, sigma, eps: mu + sigma * eps,
    seen=lambda x, t: x[t],
    read=lambda hs: hs[-1],
    carried=lambda hs: hs[-1],
    turned=1,
):
    """The loop with something changed."""

    def loop(params, x, eps):
        hs, zs = [np.zeros((x.shape[1], params["recur"]["U"].shape[0]), dtype=x.dtype)], []
        for t in range(len(x)):
            phi_x, _ = features_forward(params["phi_x"], seen(x, t))
            (mu_z, sigma_z), _ = infer_forward(params["infer"], phi_x, read(hs))
            zs.append(draw(mu_z, sigma_z, noise(eps, t)))
            phi_z, _ = features_forward(params["phi_z"], fed(zs, mu_z, sigma_z, eps[t]))
            hs.append(recur_forward(params["recur"], *(phi_x, phi_z)[::turned], carried(hs))[0])
        return np.stack(zs), np.stack(hs)

    return loop


def fed_the_mean(zs, mu, sigma, eps):
    return mu


def first(values, t=0):
    return values[0]


LOOP = Task(
    "the loop that draws z",
    "bug",
    draw_z,
    draw_draw_z,
    ("z", "h"),
    (
        Mistake(
            "Each step draws with the noise of another step: step t needs eps[t].",
            wrong_loop(noise=lambda e, t: e[t - 1]),
        ),
        Mistake("Every step draws with the last noise.", wrong_loop(noise=lambda e, t: e[-1])),
        Mistake(
            "After the first step, the noise is taken from the end of eps: step t needs eps[t].",
            wrong_loop(noise=lambda e, t: e[-t]),
        ),
        Mistake(
            "All sequences share the noise of the first one: each has its own.",
            wrong_loop(noise=lambda e, t: e[t, :1]),
        ),
        Mistake(
            "Both bugs are still there: compare each line with Eq. 9, the draw and Eq. 7.",
            wrong_loop(fed_the_mean, first),
        ),
        Mistake("One bug is left: does the recurrence read the draw of z?", wrong_loop(fed_the_mean)),
        Mistake("One bug is left: are the draws of two steps independent of each other?", wrong_loop(noise=first)),
        Mistake(
            "The state is never passed on: each step starts from h_0 again.", wrong_loop(read=first, carried=first)
        ),
        Mistake("The encoder reads h_0 at every step, so it does not depend on x_<t and z_<t.", wrong_loop(read=first)),
        Mistake(
            "The recurrence reads h_0 at every step: Eq. 7 reads the state of the step before.",
            wrong_loop(carried=first),
        ),
        Mistake(
            "The noise is multiplied by the variance: multiply it by the standard deviation.",
            wrong_loop(draw=lambda mu, sigma, eps: mu + sigma**2 * eps),
        ),
        Mistake(
            "The noise is multiplied by the root of sigma_z, which is a standard deviation already.",
            wrong_loop(draw=lambda mu, sigma, eps: mu + np.sqrt(sigma) * eps),
        ),
        Mistake("z is the mean mu_z: where is the noise?", wrong_loop(draw=lambda mu, sigma, eps: mu)),
        Mistake(
            "The noise is not scaled: each draw has the standard deviation 1.",
            wrong_loop(draw=lambda mu, sigma, eps: mu + eps),
        ),
        Mistake(
            "The noise is subtracted: as random as added, but then z is not the draw that belongs to eps.",
            wrong_loop(draw=lambda mu, sigma, eps: mu - sigma * eps),
        ),
        Mistake(
            "The recurrence reads the noise: eps does not depend on mu_z and sigma_z.",
            wrong_loop(lambda zs, mu, sigma, eps: eps),
        ),
        Mistake(
            "The recurrence reads the first z at every step: h_t depends on z_t.", wrong_loop(lambda zs, *_: zs[0])
        ),
        Mistake(
            "The recurrence reads the z of the step before: h_t depends on z_t.",
            wrong_loop(lambda zs, *_: ([0 * zs[0]] + zs)[-2]),
        ),
        Mistake("Every step reads x_1: step t needs x[t].", wrong_loop(seen=first)),
        Mistake("The recurrence reads phi_x and phi_z in the wrong order: phi_x comes first.", wrong_loop(turned=-1)),
    ),
    forbidden=(
        schedule.loop_forward,
        schedule.sequence_forward,
        stepwise.step_forward,
        stepwise.sequence_forward,
        sampling.state_after,
    ),
)

# ---- 04.4: a bound for any q ---------------------------------------------------------------------


def kl(q, p):
    return (q * np.log(q / p)).sum(axis=-1)


def what_can_be_above():
    """Of five recipes for q and the bound, those that come out above log p(x) for some random two-step model."""
    rng, above = np.random.default_rng(0), set()
    for _ in range(400):
        p_z1, p_z2 = rng.dirichlet([1, 1]), rng.dirichlet([1, 1], size=2)
        p_x1, p_x2 = np.clip(rng.beta(0.3, 0.3, (2, 2)), 1e-6, 1)  # of the x that was seen, by the state
        log_p = np.log(np.einsum("a,a,ab,b->", p_z1, p_x1, p_z2, p_x2))
        q1, q2, far = rng.dirichlet([1, 1]), rng.dirichlet([1, 1], size=2), rng.dirichlet([1, 1])
        bounds = {
            "prior": _bound(p_z1, p_z2, p_x1, p_x2, p_z1, p_z2),
            "random": _bound(p_z1, p_z2, p_x1, p_x2, q1, q2),
            "future": _bound(p_z1, p_z2, p_x1, p_x2, far * p_x2 / (far @ p_x2), q2),
            "half": _bound(p_z1, p_z2, p_x1, p_x2, q1 / 2, q2),
            "swapped": _bound(p_z1, p_z2, p_x1, p_x2, q1, q2, swapped=True),
        }
        above |= {name for name, value in bounds.items() if value > log_p + 1e-9}
    return above


def _bound(p_z1, p_z2, p_x1, p_x2, q1, q2, swapped=False):
    kl_1, kl_2 = (kl(p_z1, q1), kl(p_z2, q2)) if swapped else (kl(q1, p_z1), kl(q2, p_z2))
    return q1 @ np.log(p_x1) - kl_1 + q1 @ (q2 @ np.log(p_x2) - kl_2)


ABOVE = Prediction(
    "what can come out above log p(x)?",
    what_can_be_above,
    (
        Mistake('"swapped": the derivation has E_q of log q - log p. Is that KL(p || q)?', {"half"}),
        Mistake('"half": where did the derivation need that q adds up to 1?', {"swapped"}),
        Mistake("Two of the five break a line of the derivation: go through its lines.", set()),
        Mistake(
            '"future": which line of the derivation depends on what q was computed from?', {"future", "half", "swapped"}
        ),
        Mistake(
            '"future": which line of the derivation depends on what q was computed from? And two others fail.',
            {"future"},
        ),
        Mistake(
            '"random": a bad q gives a low bound. Can it give one that is too high?', {"random", "half", "swapped"}
        ),
        Mistake("Does any line of the derivation require a good q? A bad q gives a low bound.", {"random"}),
        Mistake(
            '"prior": with q = p every KL is 0. What is left, and is it at most log p(x)?', {"prior", "half", "swapped"}
        ),
        Mistake(
            "The bound holds for any q that adds up to 1: which of the five have such a q, and the right KLs?",
            {"prior", "random", "future", "half", "swapped"},
        ),
        Mistake(
            '"half" is one of two. "future": does any line of the derivation depend on what q was computed from?',
            {"future", "half"},
        ),
        Mistake(
            '"swapped" is one of two. "future": does any line of the derivation depend on what q was computed from?',
            {"future", "swapped"},
        ),
    ),
    next_cell=False,
)

# ---- 04.5: the price, step by step ---------------------------------------------------------------


def price(joint, q_1, q_2):
    post_1 = joint.sum(axis=1) / joint.sum()
    post_2 = joint / joint.sum(axis=1, keepdims=True)
    return kl(q_1, post_1), (q_1 * kl(q_2, post_2)).sum()


def draw_price(rng):
    K, M = (int(n) for n in rng.permutation([2, 3, 4])[:2])
    return rng.dirichlet(np.ones(K * M)).reshape(K, M) * 0.3, rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(M), K)


def wrong_price(of_1=None, of_2=None):
    """The price with the given parts replaced."""

    def answer(joint, q_1, q_2):
        right = price(joint, q_1, q_2)
        return of_1(joint, q_1) if of_1 else right[0], of_2(joint, q_1, q_2) if of_2 else right[1]

    return answer


def posteriors(joint):
    return joint.sum(axis=1) / joint.sum(), joint / joint.sum(axis=1, keepdims=True)


PRICE = Task(
    "the price, step by step",
    "derive",
    price,
    draw_price,
    ("price_1", "price_2"),
    (
        Mistake(
            "price_2 is averaged over the true posterior of z_1: E_q averages over another distribution of z_1.",
            wrong_price(of_2=lambda joint, q_1, q_2: posteriors(joint)[0] @ kl(q_2, posteriors(joint)[1])),
        ),
        Mistake(
            "Both KLs have their arguments swapped: the mean is over q, so q comes first.",
            lambda joint, q_1, q_2: (kl(posteriors(joint)[0], q_1), q_1 @ kl(posteriors(joint)[1], q_2)),
        ),
        Mistake(
            "price_1 compares with p(z_1, x), which does not sum to 1: what is p(z_1 | x)?",
            wrong_price(of_1=lambda joint, q_1: kl(q_1, joint.sum(axis=1))),
        ),
        Mistake(
            "price_2 compares with p(z_2 | x): the factor of the posterior is conditioned on z_1 too.",
            wrong_price(of_2=lambda joint, q_1, q_2: q_1 @ kl(q_2, joint.sum(axis=0) / joint.sum())),
        ),
        Mistake(
            "price_2 is the plain sum of the KLs over z_1: how likely is each z_1 under q?",
            wrong_price(of_2=lambda joint, q_1, q_2: kl(q_2, posteriors(joint)[1]).sum()),
        ),
        Mistake(
            "price_2 is the plain mean over z_1: how likely is each z_1 under q?",
            wrong_price(of_2=lambda joint, q_1, q_2: kl(q_2, posteriors(joint)[1]).mean()),
        ),
        Mistake(
            "price_1's KL has its arguments swapped: the mean is over q, so q comes first.",
            wrong_price(of_1=lambda joint, q_1: kl(posteriors(joint)[0], q_1)),
        ),
        Mistake(
            "price_2's KL has its arguments swapped: the mean is over q, so q comes first.",
            wrong_price(of_2=lambda joint, q_1, q_2: q_1 @ kl(posteriors(joint)[1], q_2)),
        ),
        Mistake(
            "The means of both prices are over the true posterior: the gap is a mean over q.",
            lambda joint, q_1, q_2: (
                kl(posteriors(joint)[0], q_1),
                posteriors(joint)[0] @ kl(posteriors(joint)[1], q_2),
            ),
        ),
        Mistake(
            "Both prices compare with the joint, which is not a distribution of z: normalise it to the posterior.",
            wrong_price(lambda joint, q_1: kl(q_1, joint.sum(axis=1)), lambda joint, q_1, q_2: q_1 @ kl(q_2, joint)),
        ),
        Mistake(
            "price_2 compares with p(z_1, z_2, x): what is p(z_2 | z_1, x)?",
            wrong_price(of_2=lambda joint, q_1, q_2: q_1 @ kl(q_2, joint)),
        ),
        Mistake(
            "price_2 divides the joint by its sums over z_1: p(z_2 | z_1, x) sums to 1 over z_2.",
            wrong_price(of_2=lambda joint, q_1, q_2: q_1 @ kl(q_2, joint / joint.sum(axis=0))),
        ),
        Mistake(
            "price_2 is the whole gap, the KL of the joint distributions: price_1 is in it once more.",
            wrong_price(of_2=lambda joint, q_1, q_2: sum(price(joint, q_1, q_2))),
        ),
        Mistake(
            "price_2 compares q(z_2) with p(z_2 | x), both summed over z_1: first the KL for each z_1, then the mean.",
            wrong_price(of_2=lambda joint, q_1, q_2: kl(q_1 @ q_2, joint.sum(axis=0) / joint.sum())),
        ),
        Mistake(
            "The log ratios are summed without their probabilities: a KL is a mean over q.",
            wrong_price(
                lambda joint, q_1: np.log(q_1 / posteriors(joint)[0]).sum(),
                lambda joint, q_1, q_2: q_1 @ np.log(q_2 / posteriors(joint)[1]).sum(axis=1),
            ),
        ),
        Mistake(
            "price_2 compares with p(z_1, z_2 | x): condition on z_1.",
            wrong_price(of_2=lambda joint, q_1, q_2: q_1 @ kl(q_2, joint / joint.sum())),
        ),
    ),
    points=3,
)

# ---- 04.6: the best filter -----------------------------------------------------------------------


def best_filter(posts, weights):
    log_mean = weights @ np.log(posts)
    total = np.exp(log_mean).sum()
    return np.exp(log_mean) / total, -np.log(total)


def draw_best_filter(rng):
    M, K = (int(n) for n in rng.permutation([2, 3, 4, 5])[:2])
    return rng.dirichlet(2 * np.ones(K), M), rng.dirichlet(2 * np.ones(M))


def filter_and_price(q, posts, weights):
    return q, weights @ kl(q, posts)


def normalised(q):
    return q / q.sum()


def wrong_filter(mix=lambda posts, weights: np.exp(weights @ np.log(posts)), cost=lambda u, *_: -np.log(u.sum())):
    """The filter with another average u of the posteriors, or another price, from u, posts and weights."""

    def answer(posts, weights):
        u = mix(posts, weights)
        return normalised(u), cost(u, posts, weights)

    return answer


BEST = Task(
    "the best filter",
    "derive",
    best_filter,
    draw_best_filter,
    ("q", "price"),
    (
        Mistake(
            "All futures have the same weight: where are the weights?",
            wrong_filter(lambda posts, weights: np.exp(np.log(posts).mean(axis=0))),
        ),
        Mistake(
            "That q is the mean of the posteriors, p(z_1 | x_1): compare it in the sum with a nearby q.",
            lambda posts, weights: filter_and_price(weights @ posts, posts, weights),
        ),
        Mistake(
            "That q averages the posteriors' reciprocals, a harmonic mean: compare it in the sum with a nearby q.",
            lambda posts, weights: filter_and_price(normalised(1 / (weights @ (1 / posts))), posts, weights),
        ),
        Mistake(
            "q does not sum to 1: which multiplier enforces that?",
            lambda posts, weights: (np.exp(weights @ np.log(posts)), best_filter(posts, weights)[1]),
        ),
        Mistake(
            "All futures have the same weight: how likely is each?",
            lambda posts, weights: filter_and_price(normalised(np.exp(np.log(posts).mean(axis=0))), posts, weights),
        ),
        Mistake(
            "q is right, but the price has the wrong sign: a KL is never negative.",
            wrong_filter(cost=lambda u, *_: np.log(u.sum())),
        ),
        Mistake(
            "q is right, but the KLs in the price have their arguments swapped.",
            wrong_filter(cost=lambda u, posts, weights: weights @ kl(posts, normalised(u))),
        ),
        Mistake(
            "q is right, but the price adds the KLs of the futures without their weights.",
            wrong_filter(cost=lambda u, posts, weights: kl(normalised(u), posts).sum()),
        ),
        Mistake(
            "q is right, but the price is the plain mean of the KLs: how likely is each future?",
            wrong_filter(cost=lambda u, posts, weights: kl(normalised(u), posts).mean()),
        ),
        Mistake(
            "q is right, but the price is its normalising constant: what is left of the sum when you put q in?",
            wrong_filter(cost=lambda u, *_: u.sum()),
        ),
        Mistake(
            "q is right, but the price is too high by 1: the 1 of the derivative is part of the normalising constant.",
            wrong_filter(cost=lambda u, *_: 1 - np.log(u.sum())),
        ),
        Mistake(
            "q is right, but the price is its entropy: compare it with the posteriors.",
            wrong_filter(cost=lambda u, *_: -normalised(u) @ np.log(normalised(u))),
        ),
        Mistake(
            "The price is right, but q is the mean of the posteriors, p(z_1 | x_1): does it reach that price?",
            lambda posts, weights: (weights @ posts, best_filter(posts, weights)[1]),
        ),
        Mistake(
            "That q minimises the sum with the KLs' arguments swapped: q comes first.",
            wrong_filter(lambda posts, weights: weights @ posts, lambda q, posts, weights: weights @ kl(posts, q)),
        ),
        Mistake(
            "q does not sum to 1, and for this q the price comes out as 0.",
            lambda posts, weights: (np.exp(weights @ np.log(posts)), 0.0 * weights.sum()),
        ),
        Mistake(
            "Where the posteriors are small, q is large: the exponent has the wrong sign.",
            wrong_filter(lambda posts, weights: np.exp(-weights @ np.log(posts))),
        ),
        Mistake(
            "The logarithms are added without the weights, and the price is computed from that sum.",
            wrong_filter(lambda posts, weights: np.prod(posts, axis=0)),
        ),
        Mistake(
            "The logarithms are added without the weights: then more futures make q sharper and sharper.",
            lambda posts, weights: filter_and_price(normalised(np.prod(posts, axis=0)), posts, weights),
        ),
        Mistake(
            "That is the posterior given the most likely future: the other futures can still happen.",
            lambda posts, weights: filter_and_price(posts[np.argmax(weights)], posts, weights),
        ),
    ),
    points=3,
)

EXERCISES = {"04.1": INFER, "04.2": READERS, "04.3": LOOP, "04.4": ABOVE, "04.5": PRICE, "04.6": BEST}
