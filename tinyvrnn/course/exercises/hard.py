"""Hard cases of the exercises, the same for everyone: HARD[number](rng) returns {what is hard: arguments}.

Most wrong answers that agree with the right one on ordinary numbers differ on one of these: saturated gates and logits,
weights of very different sizes, axes of length 1, axes of equal length, zeros, and ties.
"""

import numpy as np

from tinyvrnn.course.exercises import ch01, ch03, ch04, ch06, ch07, ch10

ONE_SEQUENCE, ONE_STEP, EQUAL = "a single sequence", "a single step", "axes of equal length"
PICTURES = {"a single pixel": (1, 1, 1), EQUAL: (3, 3, 3), "sequences of 1,200 pixels": (40, 2, 30)}
FAR = np.array([-800.0, -40.0, -16.0, 0.0, 16.0, 40.0, 800.0])


def _mask(lengths):
    return (np.arange(max(lengths))[:, None] < np.array(lengths)).astype(float)


def _positive(rng, *shape):
    return np.exp(0.5 * rng.standard_normal(shape))


def _with(arguments, **entries):
    """The arguments with entries of the dicts of parameters in the first one replaced: group_leaf=value."""
    params, *rest = arguments
    changed = {group: dict(leaves) for group, leaves in params.items()}
    for name, value in entries.items():
        group, _, leaf = name.partition("__")
        changed[group][leaf] = np.zeros_like(changed[group][leaf]) + value
    return changed, *rest


def padding(rng):
    n = rng.standard_normal
    return {
        ONE_SEQUENCE: ([n((4, 2))],),
        ONE_STEP: ([n((1, 1)), n((1, 1)), n((1, 1))],),
        "sequences of equal length": ([n((3, 2)) for _ in range(3)],),
    }


def masked(rng, copies=1):
    """`copies` arrays of terms, and a mask; among the terms are steps that cancel to 0."""

    def case(*lengths):
        return *[-np.exp(rng.standard_normal((max(lengths), len(lengths)))) for _ in range(copies)], _mask(lengths)

    zero = case(3, 2, 3)
    zero[0][0] = zero[1][0] if copies > 1 else 0.0
    return {ONE_SEQUENCE: case(4), ONE_STEP: case(1, 1, 1), "a real step of 0 nats": zero, EQUAL: case(3, 3, 3)}


def likelihood(rng):
    p, x, mask = ch01.draw_rnn(rng)
    logits = FAR[np.arange(x.shape[2]) % 2 * 6]
    return {
        ONE_SEQUENCE: (p, x[:, :1], np.ones_like(mask[:, :1])),
        ONE_STEP: (p, x[:1], mask[:1]),
        "logits up to 800": _with((p, x, mask), predict__b_out=logits),
    }


def best_gaussian(rng):
    n, third = rng.standard_normal, np.full((3, 3), 1 / 3)
    return {
        EQUAL: (third, n((3, 3)), _positive(rng, 3, 3)),
        "one component": (np.ones((2, 1)), n((2, 1)), _positive(rng, 2, 1)),
        "narrow components": (third, np.full((3, 3), 0.5), np.full((3, 3), 0.05)),
        "a single mixture": (third[:1], n((1, 3)), _positive(rng, 1, 3)),
    }


def mixture(rng):
    n, arguments = rng.standard_normal, ch01.draw_gmm(rng)
    logits = np.resize(FAR, arguments[1].shape)
    return {
        EQUAL: (n((3, 3)), n((3, 3)), n((3, 3, 3)), _positive(rng, 3, 3, 3)),
        "one component of one number": (n((2, 1)), n((2, 1)), n((2, 1, 1)), _positive(rng, 2, 1, 1)),
        "logits up to 800": (arguments[0], logits, *arguments[2:]),
        "a single x": (n((1, 2)), n((1, 3)), n((1, 3, 2)), _positive(rng, 1, 3, 2)),
    }


def expected(rng):
    x, mu = rng.standard_normal((2, 1))
    return {"one number, and small standard deviations": (x, mu, np.full(1, 0.02), np.full(1, 0.01))}


def score(rng):
    mu, eps, f = rng.standard_normal((3, 4))
    return {"a small sigma": (mu, np.full(4, 0.01), eps, 100 * f), "one number": (mu[:1], np.ones(1), eps[:1], f[:1])}


def kl(rng):
    def case(*shape, narrow=1.0):
        mu_z, mu_0 = narrow * rng.standard_normal((2, *shape))
        return mu_z, narrow * _positive(rng, *shape), mu_0, narrow * _positive(rng, *shape)

    same = rng.standard_normal((2, 3)), _positive(rng, 2, 3)
    return {
        EQUAL: case(3, 3),
        "axes of length 1": case(1, 1),
        "small standard deviations": case(2, 3, narrow=0.003),
        "two equal distributions": (*same, *same),
    }


def kl_backward(rng):
    return {what: (*case, rng.standard_normal(case[0].shape[:-1])) for what, case in kl(rng).items()}


def vae_loss(rng):
    def case(B, X, Z, b=0.0):
        x = (rng.random((B, X)) < 0.5).astype(float)
        return x, *rng.standard_normal((3, B, Z)), rng.standard_normal((Z, X)), b + rng.standard_normal(X)

    return {EQUAL: case(3, 3, 3), "one picture": case(1, 4, 2), "logits up to 800": case(3, 7, 2, FAR)}


def covariance(rng):
    return {
        EQUAL: (np.array([0.2, 0.3, 0.5]), rng.random((3, 3))),
        "one value of z": (np.ones(1), rng.random((1, 3))),
        "one pixel": (np.array([0.4, 0.6]), rng.random((2, 1))),
        "probabilities of 0 and 1": (np.array([0.4, 0.6]), np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])),
    }


def log_joint(rng):
    def case(lengths, Z=2, X=7, logits=None):
        T, B = max(lengths), len(lengths)
        mu_0, z = rng.standard_normal((2, T, B, Z))
        logits = rng.standard_normal((T, B, X)) if logits is None else np.zeros((T, B, X)) + logits
        x = rng.integers(0, 2, (T, B, X)).astype(float)
        return mu_0, _positive(rng, T, B, Z), logits, z, x, np.array(lengths)

    return {
        EQUAL: case([3, 3, 3], 3, 3),
        ONE_SEQUENCE: case([4]),
        ONE_STEP: case([1, 1]),
        "logits up to 800": case([2, 3], logits=FAR),
    }


def step(rng):
    params, h, eps, u = arguments = ch03.draw_step(rng)
    half = _with(arguments, generate__W_out=0.0, generate__b_out=0.0)
    return {
        "pixels of probability 0": (*_with(arguments, generate__b_out=-800.0)[:3], 0 * u),
        "u equal to the probability": (*half[:3], 0 * u + 0.5),
        ONE_SEQUENCE: (params, h[:1], eps[:1], u[:1]),
    }


def walk(draw):
    def cases(rng):
        params, x, z = draw(rng)
        return {ONE_SEQUENCE: (params, x[:, :1], z[:, :1]), ONE_STEP: (params, x[:1], z[:1])}

    return cases


def encoder(rng):
    def case(n, F, H, Z, outputs=0.0):
        shapes = {"W1": (F + H, F), "b1": (F,), "W_out": (F, 2 * Z), "b_out": (2 * Z,)}
        p = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        return p | {"b_out": p["b_out"] + outputs}, rng.standard_normal((n, F)), rng.standard_normal((n, H))

    return {
        EQUAL: case(3, 3, 3, 3),
        "one row": case(1, 4, 2, 1),
        "outputs up to 800": case(4, 3, 2, 7, np.tile(FAR, 2)),
    }


def price(rng):
    def case(K, M):
        joint, q_2 = rng.dirichlet(np.ones(K * M)).reshape(K, M), rng.dirichlet(np.ones(M), K)
        return 0.3 * joint, rng.dirichlet(np.ones(K)), q_2

    return {EQUAL: case(3, 3), "one z_1": case(1, 3), "one z_2": case(3, 1)}


def best_filter(rng):
    rare = np.array([[1e-12, 1 - 1e-12], [0.5, 0.5], [0.9, 0.1]])
    return {
        EQUAL: (rng.dirichlet(np.ones(3), 3), rng.dirichlet(np.ones(3))),
        "one future": (rng.dirichlet(np.ones(4), 1), np.ones(1)),
        "a nearly impossible z_1": (rare, np.array([0.2, 0.3, 0.5])),
        "one z_1": (np.ones((3, 1)), rng.dirichlet(np.ones(3))),
    }


def log_weights(rng, wrap=lambda a: (a,)):
    n = rng.standard_normal
    return {
        "log-weights spread by 1,000": wrap(n((5, 4)) + np.c_[[-1e3, 0, -500, -1e3, -10]] + [0, 800, -800, 5]),
        "one draw": wrap(n((1, 3))),
        ONE_SEQUENCE: wrap(n((4, 1))),
        EQUAL: wrap(n((3, 3))),
    }


def weight_of_a_draw(rng):
    def case(T, B, Z, narrow=1.0):
        mu_0, mu_z, eps = rng.standard_normal((3, T, B, Z))
        sigma_0, sigma_z = narrow * _positive(rng, 2, T, B, Z)
        return -_positive(rng, T, B), mu_z + sigma_z * eps, mu_z + narrow * mu_0, sigma_0, mu_z, sigma_z

    return {EQUAL: case(3, 3, 3), "axes of length 1": case(1, 1, 1), "small standard deviations": case(2, 3, 4, 0.01)}


def importance(rng):
    shift = np.array([0.0, -1000, -900, -1000, 0])[:, None] + np.array([0.0, 800, -800])

    def case(T, K, B, shift=0.0):
        log_p_z, log_q = rng.standard_normal((2, T, K, B))
        return shift - np.exp(rng.standard_normal((T, K, B))), log_p_z, log_q, _positive(rng, T, K, B)

    return {
        EQUAL: case(3, 3, 3),
        "one draw of one step": case(1, 1, 2),
        "log-weights spread by 1,000": case(1, 5, 3, shift),
        ONE_SEQUENCE: case(2, 3, 1, 0.0),
    }


def linear(rng):
    n = rng.standard_normal
    return {
        "a square W": (n((3, 3)), n((4, 3)), n((4, 3))),
        "axes of length 1": (n((1, 1)), n((1, 1, 1)), n((1, 1, 1))),
        "one row": (n((3, 2)), n((1, 3)), n((1, 2))),
    }


def mlp(rng):
    p, x, dy = ch06.draw_mlp(rng)
    tie = p | {"b1": 0 * p["b1"], "b2": 1.0 * (np.arange(len(p["b2"])) > 0)}
    square = {name: rng.standard_normal((3, 3) if name[0] == "W" else 3) for name in p}
    return {
        "pre-activations of exactly 0": (tie, 0 * x, dy),
        EQUAL: (square, *rng.standard_normal((2, 3, 3))),
        "one row": (p, x[:1], dy[:1]),
    }


def reparameterise(rng):
    mu, eps, dz = rng.standard_normal((3, 1, 1))
    return {"one number": (mu, np.ones((1, 1)), eps, dz), "a small sigma": (mu, np.full((1, 1), 0.01), eps, dz)}


def _saturated(rng, rows, H):
    """Pre-activations (rows, 3H) in which each gate takes each value of FAR."""
    return FAR[(np.arange(rows)[:, None] + np.arange(3 * H)) % len(FAR)] + 0.1 * rng.standard_normal((rows, 3 * H))


def gates(rng):
    n = rng.standard_normal
    return {
        "saturated gates, |a| up to 800": (_saturated(rng, 7, 2), n((7, 6)), n((7, 2))),
        "axes of length 1": (*n((2, 1, 3)), n((1, 1))),
        "a batch as large as H": (*n((2, 3, 9)), n((3, 3))),
    }


def gru_backward(rng):
    def case(n, D, H, b=0.0, scale=1.0):
        p = ch07.draw_gru(rng, D, H)
        h, dh = rng.standard_normal((2, n, H))
        return p | {"b": p["b"] + b, "c": scale * p["c"]}, scale * rng.standard_normal((n, D)), scale * h, dh

    zero = case(2, 3, 2, scale=0.0)
    return {
        "saturated gates, |a| up to 800": case(3, 2, 7, FAR[np.arange(21) % 7]),
        "a state of 0": (zero[0] | {"b": 0 * zero[0]["b"]}, *zero[1:]),
        EQUAL: case(3, 3, 3),
        "one row": case(1, 2, 3),
    }


def through_time(rng):
    def case(lengths, D, H):
        T, B = max(lengths), len(lengths)
        dh, h_0 = rng.standard_normal((T, B, H)), rng.standard_normal((B, H))
        return ch07.draw_gru(rng, D, H), rng.standard_normal((T, B, D)), h_0, dh, np.array(lengths)

    return {ONE_SEQUENCE: case([4], 2, 3), ONE_STEP: case([1, 1], 2, 3), EQUAL: case([3, 3, 3], 3, 3)}


def after_the_loop(rng):
    def case(T, B, D, H):
        x, h = rng.standard_normal((T, B, D)), rng.standard_normal((T + 1, B, H))
        return x, h, rng.random((T, B, H)), rng.standard_normal((T, B, 3 * H))

    cases = {ONE_SEQUENCE: case(4, 1, 2, 3), ONE_STEP: case(1, 4, 2, 3), EQUAL: case(3, 3, 3, 3)}
    return cases | {"one number in x and h": case(4, 3, 1, 1)}


def gradients(rng, wrap):
    """Gradients below, above and at the limit of 2, and zero, for three ways to hold them."""
    g = rng.standard_normal(6)
    g /= np.linalg.norm(g)
    sizes = {
        "a short gradient": 0.5,
        "a long gradient": 500.0,
        "a gradient just above the limit": 2.1,
        "no gradient": 0.0,
    }
    return {what: wrap(size * g, 2.0) for what, size in sizes.items()}


def corrected_mean(rng):
    g = rng.standard_normal((3, 3))
    cases = {"one gradient": (g[:1], 0.9), EQUAL: (g, 0.9), "b1 near 1": (g[:2], 0.999)}
    return cases | {"a single parameter": (1 + abs(g[:, :1]), 0.9)}


def adam(rng):
    theta, g, m, zero = *rng.standard_normal((3, 4)), np.zeros(4)
    return {
        "a first step": (theta, g, zero, zero, 1, 0.1, 0.9, 0.999, 1e-8),
        "a parameter without gradient": (theta, g * [1, 0, 1, 0], zero, zero, 1, 0.1, 0.9, 0.999, 1e-3),
        "step 1,000": (theta, g, m, m * m, 1000, 0.1, 0.9, 0.999, 1e-8),
        "a single parameter": (*(v[:1] for v in (theta, g, m, m * m)), 3, 0.1, 0.9, 0.999, 1e-3),
    }


def warm_up(rng):
    what = {"an empty warm-up": (3, 0), "a warm-up of one step": (0, 1), "the first step after the warm-up": (5, 5)}
    ends = {"the first step": (0, 10), "the first step of an empty warm-up": (0, 0)}
    return {name: (*-_positive(rng, 1, 1) * 20, *_positive(rng, 1, 1), *steps) for name, steps in (what | ends).items()}


def kalman(rng):
    m, x = rng.standard_normal((2, 3))
    one = (m[:1], np.ones(1), x[:1])
    return {
        ONE_SEQUENCE: (*one, 0.9, 0.5, 0.3),
        "a well-known state": (m, np.full(3, 1e-3), x, 0.9, 0.01, 0.02),
        "precise observations": (m, np.ones(3), x, 0.0, 0.5, 0.01),
    }


def prices(rng):
    cases = {"v = 0": (_positive(rng, 3), np.zeros(3)), "small s": (np.full(2, 0.03), np.array([1e-3, 1.0]))}
    return cases | {"one number": (np.full(1, 0.5), np.ones(1))}


def resample(rng):
    n, quarters = rng.standard_normal, np.full((2, 4), 0.25)
    tenths = np.array([[0.05, *[0.1] * 9, 0.05]])  # their sum is 1 - 1e-16; all other ends are far from the points
    return {
        "points on the ends of intervals": (n((2, 4)), quarters, np.array([0.0, 0.0])),
        "points just after the ends": (n((2, 4)), quarters, np.array([0.002, 0.001])),
        "one particle with everything": (n((3, 3)), np.eye(3), np.array([0.0, 0.5, 0.999])),
        "one particle": (n((2, 1)), np.ones((2, 1)), np.array([0.1, 0.9])),
        "a point past the end of the stick": (n((1, 11)), tenths, np.nextafter(np.ones(1), 0)),
    }


def ledger(rng):
    n, again = rng.standard_normal, np.array([[0.0, 0, 0], [1, 0, 1], [0, 0, 1]])
    return {
        "log-weights spread by 1,000": (again, n((3, 3, 4)) + np.array([0.0, -1000, -500, -2])),
        ONE_STEP: (np.zeros((1, 2)), n((1, 2, 3))),
        ONE_SEQUENCE: (again[:, :1], n((3, 1, 4))),
        "one particle": (again, n((3, 3, 1))),
        EQUAL: (again, n((3, 3, 3))),
    }


def step_time(rng):
    work = 10 ** rng.uniform(8, 11, 1)
    return {
        "one step, and nothing outside the loop": (work, 20, 0, 1, 1e-5, 1e12),
        "no work": (0 * work, 20, 9, 5, 1e-5, 1e12),
    }


def coin(rng):
    return {
        "logits up to 800": (np.repeat([0.0, 1.0], 7).reshape(2, 7), np.tile(FAR, (2, 1))),
        "one number": (np.ones(1), np.zeros(1)),
    }


def states(rng):
    def case(first):
        T, B = first.shape
        W, U, b = rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), rng.standard_normal(3)
        return W, U, b, first, rng.standard_normal((T, B, 3))

    every = np.ones((3, 3)) > 0
    one_track = case(np.array([[1], [0], [1], [0]]) > 0)
    return {"one track": one_track, "sequences of one step": case(every), ONE_STEP: case(every[:1])}


def momentum(rng):
    one = np.full(1, -3.0)
    cases = gradients(rng, lambda g, top: (*rng.standard_normal((2, 6)), 0.1, top, g))
    return cases | {"a single parameter": (0.5 * one, 0.1 * one, 0.1, 2.0, one)}


def raw_units(rng):
    def case(lengths, X, small=1.0):
        lengths = np.array(lengths, dtype=float)
        return -lengths * _positive(rng, len(lengths)), lengths, small * _positive(rng, X)

    few = {ONE_SEQUENCE: case([5], 3), "one number": case([1, 1], 1), EQUAL: case([2, 5, 3], 3, 0.01)}
    long = {f"sequences of 1,000 steps, std about {s:g}": case([990, 1001], 3, s) for s in (0.1, 10)}
    return few | long


def ink(rng):
    def case(*lifted):
        return (np.column_stack([rng.standard_normal((len(lifted), 2)), lifted]).astype(float),)

    return {"two points": case(0, 1), "a dot after each point": case(1, 1, 1), "one stroke": case(0, 0, 0, 1)}


def pen(rng):
    def case(N, K, logits=0.0, a=0.0, rho=0.5):
        x = np.column_stack([rng.standard_normal((N, 2)), np.arange(N) % 2])
        mu, sigma = rng.standard_normal((N, K, 2)), _positive(rng, N, K, 2)
        return x, rng.standard_normal((N, K)) + logits, mu, sigma, np.full((N, K), rho), np.zeros((N, 1)) + a

    return {
        "logits of components up to 800": case(3, 7, FAR),
        "pen-up logits up to 800": case(7, 2, a=FAR[:, None]),
        "a correlation of 0.99": case(3, 2, rho=0.99),
        EQUAL: case(3, 3),
        "one component": case(2, 1),
        ONE_STEP: case(1, 2),
    }


HARD = {
    "00.1": lambda rng: {what: (rng.random(shape).round(),) for what, shape in PICTURES.items()},
    "01.1": padding,
    "01.2": masked,
    "01.3": likelihood,
    "01.4": best_gaussian,
    "01.6": mixture,
    "02.1": expected,
    "02.3": score,
    "02.4": kl,
    "02.5": vae_loss,
    "03.2": covariance,
    "03.3": log_joint,
    "03.4": step,
    "03.5": walk(ch03.draw_sequence),
    "04.1": encoder,
    "04.3": walk(ch04.draw_draw_z),
    "04.5": price,
    "04.6": best_filter,
    "05.1": log_weights,
    "05.2": weight_of_a_draw,
    "05.3": lambda rng: {"s from 0 to 5": (np.array([0.0, 1e-3, 1.0, 5.0]),), "one number": (np.ones(1),)},
    "05.4": importance,
    "05.5": lambda rng: masked(rng, 2),
    "06.1": linear,
    "06.2": lambda rng: {"a from -800 to 800": (FAR, rng.standard_normal(7)), "one number": (np.ones(1), np.ones(1))},
    "06.3": mlp,
    "06.4": kl_backward,
    "06.5": reparameterise,
    "07.1": gates,
    "07.2": gru_backward,
    "07.3": through_time,
    "07.4": after_the_loop,
    "07.6": lambda rng: {ONE_SEQUENCE: ch07.draw_roads(rng, 1)},
    "08.1": masked,
    "08.2": lambda rng: gradients(rng, lambda g, top: ({"W": g[:4].reshape(2, 2), "b": g[4:]}, top)),
    "08.4": corrected_mean,
    "08.5": adam,
    "08.6": warm_up,
    "09.1": kalman,
    "09.3": prices,
    "10.1": lambda rng: log_weights(rng, lambda a: (ch10.DEVICE, ch10.DeviceArray(a))),
    "10.4": lambda rng: gradients(rng, lambda g, top: (ch10.DEVICE, ch10.DeviceArray(g), top)),
    "10.5": step_time,
    "11.2": coin,
    "11.3": states,
    "11.5": momentum,
    "12.1": raw_units,
    "12.2": ink,
    "12.3": pen,
    "14.1": resample,
    "14.2": ledger,
}
