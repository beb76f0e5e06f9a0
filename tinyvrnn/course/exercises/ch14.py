"""The exercises of notebook 14, Tighter bounds: resampling, the bookkeeping of a particle filter, a perfect q."""

from types import SimpleNamespace

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.models import linear_gaussian as lg
from tinyvrnn.models import particles, stepwise

# ---- 14.1: systematic resampling -----------------------------------------------------------------


def resample(h, shares, uniforms):
    return np.take_along_axis(h, particles.systematic(shares, uniforms), axis=1)


def draw_resample(rng):
    B, K = (int(n) for n in rng.permutation([3, 4, 5, 7])[:2])
    weights = rng.gamma(0.7, size=(B, K))
    weights[0, int(rng.integers(K))] = 0.0
    return rng.standard_normal((B, K)), weights / weights.sum(axis=1)[:, None], rng.random(B)


def wrong_resample(
    points=lambda u, K: (u[:, None] + np.arange(K)) / K,
    ends=lambda shares: np.cumsum(shares, axis=1),
    shift=0,
    passed=np.less_equal,
    states=lambda h: h,
    beyond=lambda ancestors, K: ancestors.clip(0, K - 1),
):
    """Resampling with one thing changed. beyond: the particles of points past an end of the stick."""

    def answer(h, shares, uniforms):
        K = h.shape[1]
        ancestors = passed(ends(shares)[:, None, :], points(uniforms, K)[:, :, None]).sum(axis=2) + shift
        return np.take_along_axis(states(h), beyond(ancestors, K), axis=1)

    return answer


def sorted_first(h, shares, uniforms):
    order = np.argsort(-shares, axis=1)
    return resample(np.take_along_axis(h, order, axis=1), np.take_along_axis(shares, order, axis=1), uniforms)


RESAMPLE = Task(
    "systematic resampling",
    "write",
    resample,
    draw_resample,
    ("h",),
    (
        Mistake(
            "All rows use the first row's uniform: each has its own.",
            wrong_resample(points=lambda u, K: (u[:1, None] + np.arange(K)) / K + 0 * u[:, None]),
        ),
        Mistake(
            "The points are the same for any uniform: where is u?",
            wrong_resample(points=lambda u, K: (0.5 + np.arange(K)) / K + 0 * u[:, None]),
        ),
        Mistake(
            "All slots of a row get the same ancestor: there is one uniform number, but there are K points.",
            wrong_resample(points=lambda u, K: np.repeat(u[:, None], K, axis=1)),
        ),
        Mistake(
            "The points are u + i without the division by K: most of them are beyond the stick, whose length is 1.",
            wrong_resample(points=lambda u, K: u[:, None] + np.arange(K)),
        ),
        Mistake(
            "u shifts the points by up to 1, but their distance is 1 / K.",
            wrong_resample(points=lambda u, K: u[:, None] + np.arange(K) / K),
        ),
        Mistake(
            "The points begin one slot too late, with i = 1: the first K-th of the stick has none.",
            wrong_resample(points=lambda u, K: (u[:, None] + np.arange(1, K + 1)) / K),
        ),
        Mistake(
            "The points are 1 / (K - 1) apart, so the last one may be beyond the stick.",
            wrong_resample(points=lambda u, K: (u[:, None] + np.arange(K)) / max(K - 1, 1)),
        ),
        Mistake(
            "The points are 1 / B apart: a row has K slots, however many rows there are.",
            wrong_resample(points=lambda u, K: (u[:, None] + np.arange(K)) / len(u)),
        ),
        Mistake(
            "The last point is always at the end of the stick: all K points move with u.",
            wrong_resample(points=lambda u, K: np.linspace(u / K, 1, K, axis=1)),
        ),
        Mistake("No slot changes its particle: where are the ancestors?", lambda h, shares, uniforms: h.copy()),
        Mistake(
            "Points that leave the stick come back at its start: u moves them all by up to 1, but their distance is "
            "1 / K.",
            wrong_resample(points=lambda u, K: (u[:, None] + np.arange(K) / K) % 1),
        ),
        Mistake(
            "You count the intervals that end beyond a point: count those that end before it.",
            wrong_resample(passed=np.greater),
        ),
        Mistake(
            "Those are the numbers of the ancestors: return their states.",
            wrong_resample(states=lambda h: np.zeros_like(h) + np.arange(h.shape[1])),
        ),
        Mistake(
            "All rows take the states of the first row: each row chooses among its own.",
            wrong_resample(states=lambda h: 0 * h + h[:1]),
        ),
        Mistake(
            "The points do not depend on u: some particles can never be chosen.",
            wrong_resample(points=lambda u, K: 0 * u[:, None] + np.arange(K) / K),
        ),
        Mistake(
            "The points are compared with the shares themselves: compare them with the ends of the intervals.",
            wrong_resample(ends=lambda shares: shares),
        ),
        Mistake(
            "The shares are cumulated over the sequences: each row has its own stick.",
            wrong_resample(ends=lambda shares: np.cumsum(shares, axis=0)),
        ),
        Mistake("It takes the previous particle: off by one.", wrong_resample(shift=-1)),
        Mistake("It takes the next particle: off by one.", wrong_resample(shift=1)),
        Mistake(
            "All slots continue from the particle with the largest share: the others can be chosen too.",
            lambda h, shares, uniforms: 0 * h + np.take_along_axis(h, shares.argmax(axis=1)[:, None], axis=1),
        ),
        Mistake(
            "The states are multiplied by their shares: a particle is chosen or not, and its state is unchanged.",
            lambda h, shares, uniforms: h * shares,
        ),
        Mistake(
            "A point on the border of two intervals belongs to the second.",
            wrong_resample(ends=lambda shares: np.nextafter(np.cumsum(shares, axis=1), 2)),
        ),
        Mistake(
            "By round-off a point can lie at or past the end of the stick. Yours then continues from the first "
            "particle: which one is nearest to it?",
            wrong_resample(beyond=np.mod),
        ),
        Mistake(
            "A point on the border of two intervals belongs to the second: a point at 0, too, is in the first "
            "particle's interval.",
            wrong_resample(
                ends=lambda shares: np.cumsum(shares, axis=1) - shares, passed=np.less, shift=-1, beyond=np.mod
            ),
        ),
        Mistake("The particles are sorted by their shares first: their order on the stick is that of h.", sorted_first),
        Mistake(
            "The slots are in the reverse order: the first one takes the particle of the first point.",
            lambda h, shares, uniforms: resample(h, shares, uniforms)[:, ::-1],
        ),
        Mistake(
            "The points are 1 / (K + 1) apart: there are K of them on a stick of length 1.",
            wrong_resample(points=lambda u, K: (u[:, None] + np.arange(1, K + 1)) / (K + 1)),
        ),
        Mistake(
            "The distance of your points depends on u: it is always 1 / K.",
            wrong_resample(points=lambda u, K: np.linspace(u / K, 1, K, endpoint=False, axis=1)),
        ),
        Mistake(
            "The states are multiplied by K times their shares: a particle is chosen or not, and its state is "
            "unchanged.",
            lambda h, shares, uniforms: h * shares * h.shape[1],
        ),
        Mistake(
            "All rows have the ancestors of the first row: each row has its own shares and its own uniform.",
            lambda h, shares, uniforms: resample(h, shares[:1] + 0 * shares, uniforms[:1] + 0 * uniforms),
        ),
    ),
    forbidden=(particles.systematic, particles.choose),
    points=3,
)

# ---- 14.2: the bookkeeping of a particle filter --------------------------------------------------

# A model whose particles have given log-weights: "x" is the log-weight of a step, and q is the prior.
GIVEN = stepwise.Equations(
    features_forward=lambda p, v: (v, None),
    prior_forward=lambda p, h: ((0 * h, 0 * h + 1), None),
    infer_forward=lambda p, phi_x, h: ((0 * h, 0 * h + 1), None),
    generate_forward=lambda p, phi_z, h, likelihood: ((), None),
    recur_forward=lambda p, phi_x, phi_z, h: (h, None),
    state_dim=lambda params: 1,
)
AS_GIVEN = SimpleNamespace(log_density_forward=lambda x: (x[:, 0], None))


def ledger(again, log_w):
    """The package's particle filter, run with the given log-weights and choices."""
    T, B, K = log_w.shape
    params = dict.fromkeys(("phi_x", "phi_z", "prior", "infer", "generate", "recur"), {})
    x, stay = log_w.reshape(T, B * K, 1), np.zeros((B, 1), int) + np.arange(K)
    choices = [particles.Choice(row > 0, stay) for row in again]
    mask = np.ones((T, B), log_w.dtype)
    return particles.filter_forward(params, x, 0 * x, mask, None, AS_GIVEN, GIVEN, choices=choices)[0]


def draw_ledger(rng):
    T, B, K = (int(n) for n in rng.permutation([4, 5, 3, 7])[:3])
    again = (rng.random((T, B)) < 0.5).astype(float)
    again[0], again[-1, 0], again[1, 0], again[1:, 1] = 0, 1, 0, 0
    log_w = 1.5 * rng.standard_normal((T, B, K)) - 1
    log_w[:, -1] -= 500
    return again, log_w


def wrong_ledger(
    note=particles.log_mean_exp,
    end=particles.log_mean_exp,
    after=lambda v: 0,
    before=True,
    reset=lambda again: again > 0,
    add=lambda total, noted, now: total + np.where(now, noted, 0),
    wipe=False,
):
    """The ledger with one thing changed. after: the log-weights after a resampling; reset: of which sequences."""

    def answer(again, log_w):
        gathered, total = np.zeros(log_w.shape[1:]), np.zeros(log_w.shape[1])
        for t in range(len(log_w)):
            if not before:
                gathered = gathered + log_w[t]
            total = add(total, note(gathered), again[t] > 0)
            gathered = np.where(reset(again[t])[:, None], after(gathered), gathered)
            if before:
                gathered = gathered + log_w[t] * (1 - again[t][:, None] if wipe else 1)
        return (total + end(gathered)).astype(log_w.dtype)

    return answer


def log_sum(v):
    return particles.log_mean_exp(v) + np.log(v.shape[1])


LEDGER = Task(
    "the particle filter's bookkeeping",
    "bug",
    ledger,
    draw_ledger,
    ("log_p",),
    (
        Mistake(
            "What is recorded at a resampling is counted again at the next one, and at the end. "
            "What are the weights after a resampling?",
            wrong_ledger(after=lambda v: v),
        ),
        Mistake(
            "The weights are reset, but their mean is not recorded: each resampling loses a factor.",
            wrong_ledger(note=lambda v: 0 * v[:, 0]),
        ),
        Mistake(
            "At a resampling the mean of the log-weights is recorded: the estimate needs the log of the mean weight.",
            wrong_ledger(note=lambda v: v.mean(axis=1)),
        ),
        Mistake(
            "The weights are summed, not averaged: each W is a mean over particles.",
            wrong_ledger(note=log_sum, end=log_sum),
        ),
        Mistake(
            "After a resampling the weights start at 1 / K: that divides by K twice.",
            wrong_ledger(after=lambda v: -np.log(v.shape[1])),
        ),
        Mistake(
            "Step t is added before the resampling that precedes step t: off by one.",
            wrong_ledger(before=False),
        ),
        Mistake(
            "A sequence is resampled at every step, even where its own `again` is 0.",
            lambda again, w: ledger(np.ones_like(again), w),
        ),
        Mistake(
            "That is the mean of the plain weights, IWAE: where does a resampling make the weights equal?",
            lambda again, log_w: particles.log_mean_exp(log_w.sum(axis=0)),
        ),
        Mistake(
            "After a resampling the log-weights start at 1: it is the weights that are reset to 1.",
            wrong_ledger(after=lambda v: 1),
        ),
        Mistake(
            "After a resampling the weights start at their mean, which is recorded already: it counts twice.",
            wrong_ledger(after=lambda v: particles.log_mean_exp(v)[:, None]),
        ),
        Mistake(
            "The last stretch is missing: what the weights gather after the last resampling counts too.",
            wrong_ledger(end=lambda v: 0),
        ),
        Mistake(
            "At the end the mean of the log-weights is added: the estimate needs the log of the mean weight.",
            wrong_ledger(end=lambda v: v.mean(axis=1)),
        ),
        Mistake(
            "Means of log-weights are added up: the estimate needs the log of each mean weight.",
            wrong_ledger(lambda v: v.mean(axis=1), lambda v: v.mean(axis=1)),
        ),
        Mistake(
            "The largest weight is recorded: each W is a mean over particles.",
            wrong_ledger(lambda v: v.max(axis=1), lambda v: v.max(axis=1)),
        ),
        Mistake(
            "What is recorded replaces the total: log-estimates of stretches add up.",
            wrong_ledger(add=lambda total, noted, now: np.where(now, noted, total)),
        ),
        Mistake(
            "The mean weight is recorded at every step: only a resampling sets the weights back.",
            wrong_ledger(add=lambda total, noted, now: total + noted),
        ),
        Mistake(
            "The weights are kept where a sequence is resampled, and reset where it is not.",
            wrong_ledger(reset=lambda again: again == 0),
        ),
        Mistake(
            "Where a sequence is resampled, the weights of the step that follows are lost.",
            wrong_ledger(wipe=True),
        ),
        Mistake(
            "It resamples one step too early: `again` is about the time before step t.",
            lambda again, w: ledger(np.concatenate([again[1:], 0 * again[:1]]), w),
        ),
        Mistake(
            "That is the estimate itself: the exercise asks for its logarithm.",
            lambda again, w: np.exp(ledger(again, w)),
        ),
        Mistake("It resamples where `again` is 0, and goes on where it is 1.", lambda again, w: ledger(1 - again, w)),
        Mistake(
            "Where one sequence is resampled, the weights of all are reset: each has its own column in `again`.",
            wrong_ledger(reset=lambda again: np.full(len(again), again.any())),
        ),
        Mistake(
            "Rows 0 and 1 are reset, whatever was resampled: as an index, the numbers 0 and 1 in `again` count rows.",
            wrong_ledger(reset=lambda again: np.isin(np.arange(len(again)), again.astype(int))),
        ),
        Mistake(
            "All follow the first sequence: `again` has a column for each.",
            lambda again, w: ledger(again[:, :1] + 0 * again, w),
        ),
    ),
    forbidden=(particles.filter_forward,),
)

# ---- 14.3: the perfect q in a filter -------------------------------------------------------------


def always_exact(n=60, K=8):
    """The estimates that equal log p(x) for every noise when q is the true posterior."""
    model, x = lg.LinearGaussian(posterior="smoothing"), np.tile(lg.sine(), (1, n, 1))
    rng = np.random.default_rng(0)
    eps, uniforms = rng.standard_normal((len(x), n, K, 1)), rng.random((len(x), n))
    log_w = model.log_weights(x, eps=eps)
    found = {
        "w": log_w[:, 0],
        "eq11": model.elbo(x, eps=eps[:, :, 0]),
        "iwae": particles.log_mean_exp(log_w),
        "fivo": model.particle_filter(x, eps=eps, uniforms=uniforms),
    }
    return {name for name, values in found.items() if abs(values - model.log_prob(x)).max() < 1e-9}


PERFECT = Prediction(
    "the perfect q in a filter",
    always_exact,
    (
        Mistake("The weights at the end are all equal. But when does a filter look at them?", {"w", "iwae", "fivo"}),
        Mistake(
            "All four have little or no gap, but that is about their mean. For every noise? In Eq. 11 one term is "
            "averaged over z and the other is not. And when does a filter look at its weights?",
            {"w", "eq11", "iwae", "fivo"},
        ),
        Mistake(
            "Eq. 11 has a closed form for one of its terms and a draw in the other: can the two cancel?",
            {"w", "eq11", "iwae"},
        ),
        Mistake("If one weight is p(x), what is the mean of eight?", {"w"}),
        Mistake("What is one weight p(x, z) / q(z | x), if q is p(z | x)?", {"iwae"}),
        Mistake("What is one weight p(x, z) / q(z | x), if q is p(z | x), and the mean of eight?", {"eq11"}),
        Mistake("None? What is p(x, z) / q(z | x), if q is p(z | x)?", set()),
        Mistake("What is one weight p(x, z) / q(z | x), if q is p(z | x)? No more draws are needed.", {"iwae", "fivo"}),
    ),
)

EXERCISES = {"14.1": RESAMPLE, "14.2": LEDGER, "14.3": PERFECT}
