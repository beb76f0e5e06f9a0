"""The exercises of notebook 10, One code, two backends: backend-neutral functions, transfers, and launches."""

import numpy as np

from tinyvrnn.arrays.backend import get_backend
from tinyvrnn.arrays.strict import transfers
from tinyvrnn.course.device import DEVICE, DeviceArray
from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.models.vrnn import VRNN
from tinyvrnn.training.optim import Adam, clip_by_global_norm

# ---- 10.1: one function for every backend --------------------------------------------------------


def log_mean_exp(xp, a):
    top = xp.max(a, axis=0)
    return top + xp.log(xp.mean(xp.exp(a - top), axis=0))


def draw_logs(rng):
    K, B = rng.permutation([3, 4, 6])[:2]
    return DEVICE, DeviceArray(2 * rng.standard_normal((K, B)) + rng.uniform(-900, 900, B))


def shifted(xp, a):
    return xp.exp(a - xp.max(a, axis=0))


def log_sum_exp(xp, a):
    return xp.max(a, axis=0) + xp.log(xp.sum(shifted(xp, a), axis=0))


NEUTRAL = Task(
    "one function for every backend",
    "write",
    log_mean_exp,
    draw_logs,
    ("y",),
    (
        Mistake(
            "That is the logarithm of the sum, not of the mean. (K is a.shape[0].)",
            log_sum_exp,
        ),
        Mistake(
            "That is the mean of the logarithms, which by Jensen's inequality is never larger.",
            lambda xp, a: xp.mean(a, axis=0),
        ),
        Mistake("That is only the largest term: the others contribute too.", lambda xp, a: xp.max(a, axis=0)),
        Mistake(
            "What you subtract before exp has to be added back after log.",
            lambda xp, a: xp.log(xp.mean(shifted(xp, a), axis=0)),
        ),
        Mistake(
            "The logarithm is divided by K: the mean is inside the logarithm.",
            lambda xp, a: log_sum_exp(xp, a) / a.shape[0],
        ),
        Mistake(
            "What you subtract before exp is subtracted again after log: check the sign.",
            lambda xp, a: xp.log(xp.mean(shifted(xp, a), axis=0)) - xp.max(a, axis=0),
        ),
        Mistake(
            "The sum is divided by B: the mean is over the K entries of a column.",
            lambda xp, a: log_sum_exp(xp, a) - float(np.log(a.shape[1])),
        ),
        Mistake(
            "log K is added: a mean is smaller than a sum.",
            lambda xp, a: log_sum_exp(xp, a) + float(np.log(a.shape[0])),
        ),
        Mistake(
            "The largest entry of all columns is subtracted, so that exp underflows in the others: each column needs "
            "its own.",
            lambda xp, a: xp.max(a) + xp.log(xp.mean(xp.exp(a - xp.max(a)), axis=0)),
        ),
    ),
)

# ---- 10.2: what strict refuses -------------------------------------------------------------------

LINES = {
    "A": lambda xp, a, h: a + 1.0,
    "B": lambda xp, a, h: a + h,
    "C": lambda xp, a, h: np.exp(a),
    "D": lambda xp, a, h: a[0] * 2,
    "E": lambda xp, a, h: np.asarray(a),
    "F": lambda xp, a, h: float(a.sum()),
    "G": lambda xp, a, h: xp.where(h > 0, a, 0),
    "H": lambda xp, a, h: xp.maximum(a, 0),
}


def refused():
    """The letters of the lines that the strict backend refuses."""
    device, found = get_backend("strict"), set()
    for letter, line in LINES.items():
        h = np.ones((3, 2))
        try:
            line(device.xp, device.asarray(h), h)
        except TypeError:
            found.add(letter)
    return found


REFUSED = Prediction(
    "what strict refuses",
    refused,
    (
        Mistake(
            "A Python number is not a host array: it is passed to the device with the launch.",
            {"A", "B", "C", "E", "G"},
        ),
        Mistake("F does transfer a value. But is that transfer implicit?", {"B", "C", "E", "F", "G"}),
        Mistake("Look at G again: which of its arrays is on the host?", {"B", "C", "E"}),
        Mistake("Look at C again: which library's function is it, and where is the array?", {"B", "E", "G"}),
        Mistake("Look at E again: that is an implicit transfer.", {"B", "C", "G"}),
        Mistake("Look at B again: where would the sum be computed?", {"C", "E", "G"}),
        Mistake("Indexing and maximum run on the device, so both are allowed.", {"B", "C", "D", "E", "G", "H"}),
        Mistake(
            "A Python number is not a host array. And is the transfer in F implicit?", {"A", "B", "C", "E", "F", "G"}
        ),
        Mistake("Look at H again: is its 0 a host array?", {"B", "C", "E", "G", "H"}),
        Mistake(
            "Both lines copy values to the host. Is the copy in F implicit? And which lines mix host and device?",
            {"E", "F"},
        ),
        Mistake(
            "Those lines mix host and device arrays. But what do NumPy's own functions do with a device array?",
            {"B", "G"},
        ),
        Mistake("Those lines call NumPy on `a`. Which lines give the device the host array `h`?", {"C", "E"}),
    ),
)

# ---- 10.3: counting transfers --------------------------------------------------------------------


def transfers_of_ten_steps():
    """The transfers of ten steps that compare the norm, and of reading the loss once after them."""
    rng = np.random.default_rng(0)
    model = VRNN(3, 5, 2, backend="strict")
    x, eps = rng.random((6, 4, 3), dtype="float32"), rng.standard_normal((6, 4, 2), dtype="float32")
    optimiser, clipped = Adam(model.theta), 0
    transfers.reset()
    for _ in range(10):
        loss, grads, _ = model.loss_and_grads(x, None, eps)
        norm = clip_by_global_norm(grads, 50.0)
        if norm > 50.0:
            clipped += 1
        optimiser.step(model.theta, grads)
    float(loss)
    return transfers.total


COUNTED = Prediction(
    "counting transfers",
    transfers_of_ten_steps,
    (
        Mistake("x and eps stay on the host: each call of loss_and_grads copies them again.", 13),
        Mistake("That is the last line alone. What does each of the ten steps transfer?", 1),
        Mistake("The `if` makes a transfer in each step. What else crosses, in the steps and after them?", 10),
        Mistake("x and eps are transferred in each step, and the loss once. What does the `if` need?", 21),
        Mistake("The `if` makes a transfer in each step. What about x and eps?", 11),
        Mistake("Two in each step are too few: x and eps are both host arrays, and what does the `if` need?", 20),
        Mistake("Almost: what does the last line do?", 30),
        Mistake("That is one step. There are ten.", 3),
        Mistake("That is one step, and reading the loss. There are ten steps.", 4),
        Mistake("None? x and eps are arrays of NumPy, and the parameters are on the device.", 0),
        Mistake("The loss is read only once, after the loop.", 40),
        Mistake("Clipping and the optimiser step work on arrays that are on the device: they need no transfer.", 51),
        Mistake("The model's parameters are on the device from the start: they are never transferred.", 41),
    ),
)

# ---- 10.4: the implicit transfer -----------------------------------------------------------------


def clip_there(xp, g, max_norm):
    return g * xp.minimum(max_norm / xp.sqrt(xp.sum(g * g)), 1.0)


def draw_gradient(rng):
    P, size = int(rng.integers(3, 9)), 10 ** rng.uniform(-0.5, 1.2)
    return DEVICE, DeviceArray(size * rng.standard_normal(P)), float(rng.uniform(2, 6))


TRANSFER = Task(
    "the implicit transfer",
    "bug",
    clip_there,
    draw_gradient,
    ("g",),
    (
        Mistake(
            "Short gradients become longer: what replaces the `if`?",
            lambda xp, g, max_norm: g * (max_norm / xp.sqrt(xp.sum(g * g))),
        ),
        Mistake(
            "The absolute values are added: the norm is the root of the sum of squares.",
            lambda xp, g, max_norm: g * xp.minimum(max_norm / xp.sum(xp.abs(g)), 1.0),
        ),
        Mistake("Each entry is clipped separately.", lambda xp, g, max_norm: xp.clip(g, -max_norm, max_norm)),
        Mistake(
            "That is the square of the norm: the root is missing.",
            lambda xp, g, max_norm: g * xp.minimum(max_norm / xp.sum(g * g), 1.0),
        ),
        Mistake(
            "The factor is inverted: the longer the gradient, the more it is stretched.",
            lambda xp, g, max_norm: g * (xp.sqrt(xp.sum(g * g)) / max_norm),
        ),
        Mistake(
            "Short gradients are stretched and long ones stay long: should the factor be at least 1, or at most?",
            lambda xp, g, max_norm: g * xp.maximum(max_norm / xp.sqrt(xp.sum(g * g)), 1.0),
        ),
        Mistake(
            "g is multiplied by a norm: it needs a factor, which is 1 where nothing should change.",
            lambda xp, g, max_norm: g * xp.minimum(xp.sqrt(xp.sum(g * g)), max_norm),
        ),
        Mistake(
            "The norm is limited to 1, whatever max_norm is.",
            lambda xp, g, max_norm: g / xp.maximum(xp.sqrt(xp.sum(g * g)), 1.0),
        ),
        Mistake(
            "That is the root of the mean square: the norm has the sum of the squares.",
            lambda xp, g, max_norm: g * xp.minimum(max_norm / xp.sqrt(xp.mean(g * g)), 1.0),
        ),
        Mistake(
            "The largest entry is not the norm: the result is longer than max_norm.",
            lambda xp, g, max_norm: g * xp.minimum(max_norm / xp.max(xp.abs(g)), 1.0),
        ),
        Mistake("Nothing is clipped.", lambda xp, g, max_norm: 1 * g),
        Mistake(
            "The smaller of two numbers is taken entry by entry, and of two negative ones that is the longer: what "
            "should be limited instead of the entries?",
            lambda xp, g, max_norm: xp.minimum(g, g * (max_norm / xp.sqrt(xp.sum(g * g)))),
        ),
    ),
)

# ---- 10.5: the time of a training step -----------------------------------------------------------


def step_time(work, in_loop, once, T, launch, rate):
    waiting = launch * (T * in_loop + once)
    seconds = waiting + work / rate
    return seconds, waiting / seconds


def draw_costs(rng):
    work = 10 ** rng.uniform(8, 11, int(rng.integers(3, 7)))
    counts = (int(n) for n in (rng.integers(10, 50), rng.integers(20, 90), rng.integers(5, 60)))
    return work, *counts, float(rng.uniform(4e-6, 2e-5)), float(10 ** rng.uniform(11, 13.5))


def wrong_time(waits=lambda tau, a, b, T: tau * (T * a + b), joined=np.add, of_work=False, per=False, each=False):
    """The time with one thing changed."""

    def step_time(work, in_loop, once, T, launch, rate_):
        waiting, working = waits(launch, in_loop, once, T) + 0 * work, work * (T if each else 1) / rate_
        seconds = joined(waiting, working)
        return seconds, (working if of_work else waiting) / (working if per else seconds)

    return step_time


COST = Task(
    "the time of a training step",
    "derive",
    step_time,
    draw_costs,
    ("seconds", "share"),
    (
        Mistake("The loop runs T times: count its launches T times.", wrong_time(lambda tau, a, b, T: tau * (a + b))),
        Mistake(
            "T multiplies the launches outside the loop as well.", wrong_time(lambda tau, a, b, T: tau * T * (a + b))
        ),
        Mistake(
            "That is the larger of the two times: in this estimate they add up.",
            wrong_time(joined=np.maximum),
        ),
        Mistake(
            "share is that of the arithmetic: the exercise asks for that of the launches.", wrong_time(of_work=True)
        ),
        Mistake("share divides the launches' time by the arithmetic's: divide it by the total.", wrong_time(per=True)),
        Mistake("The launches outside the loop are missing.", wrong_time(lambda tau, a, b, T: tau * T * a)),
        Mistake(
            "The work is counted T times: `work` is that of the whole training step, with all its time steps.",
            wrong_time(each=True),
        ),
        Mistake(
            "The arithmetic's time is missing: these are the launches alone.",
            wrong_time(joined=lambda waiting, working: waiting),
        ),
        Mistake(
            "The number of launches is added to a time: how many seconds do they take?",
            wrong_time(lambda tau, a, b, T: T * a + b),
        ),
        Mistake(
            "share is in per cent: give a fraction of 1.",
            lambda *costs: (step_time(*costs)[0], 100 * step_time(*costs)[1]),
        ),
        Mistake(
            "share counts only the launches in the loop.",
            lambda work, a, b, T, tau, rate: (
                step_time(work, a, b, T, tau, rate)[0],
                tau * T * a / step_time(work, a, b, T, tau, rate)[0],
            ),
        ),
        Mistake("The launches inside the loop are missing.", wrong_time(lambda tau, a, b, T: tau * b)),
        Mistake(
            "The work is multiplied by the rate.",
            lambda work, a, b, T, tau, rate: step_time(work * rate, a, b, T, tau, 1.0),
        ),
    ),
)

EXERCISES = {"10.1": NEUTRAL, "10.2": REFUSED, "10.3": COUNTED, "10.4": TRANSFER, "10.5": COST}
