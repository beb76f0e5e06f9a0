"""The exercises of notebook 10, One code, two backends: neutral functions, transfers, and what a device is paid for."""

import operator
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.backend import get_backend
from tinyvrnn.arrays.strict import strict_namespace, transfers
from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.models.vrnn import VRNN
from tinyvrnn.training.optim import Adam, clip_by_global_norm

# ---- the grader's own device ---------------------------------------------------------------------


class DeviceArray(NamedTuple):
    """An array of a device that refuses what a GPU's arrays refuse, and all that would fetch it.

    A tuple of one field, so that the grader copies it, halves its precision and compares it like any other argument.
    """

    host: np.ndarray

    __array_ufunc__ = None

    def __array__(self, *args, **kwargs):
        raise TypeError("a NumPy function got a device array: only xp's functions know it")

    def __bool__(self):
        raise TypeError("`if` has to fetch the array: the device waits for the host")

    def __float__(self):
        raise TypeError("float() has to fetch the array: the device waits for the host")

    __int__ = __index__ = __float__

    def __getitem__(self, index):
        return _on_device(self.host[_off_device(index)])

    shape, ndim, size, dtype = (
        property(lambda self, n=n: getattr(self.host, n)) for n in "shape ndim size dtype".split()
    )
    T = property(lambda self: DeviceArray(self.host.T))


def _on_device(value):
    return DeviceArray(np.asarray(value)) if isinstance(value, (np.ndarray, np.generic)) else value


def _off_device(value):
    if isinstance(value, DeviceArray):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError(f"a host array of shape {value.shape} met a device array")
    return type(value)(_off_device(v) for v in value) if isinstance(value, (list, tuple)) else value


def _lift(function):
    def call(*args, **kwargs):
        return _on_device(function(*map(_off_device, args), **{k: _off_device(v) for k, v in kwargs.items()}))

    return call


for _name in "neg abs add sub mul truediv pow matmul lt le gt ge eq ne".split():
    _function = getattr(operator, _name)
    setattr(DeviceArray, f"__{_name}__", _lift(_function))
    setattr(DeviceArray, f"__r{_name}__", _lift(lambda a, b, f=_function: f(b, a)))
for _name in "sum mean max min any all astype reshape copy transpose".split():
    setattr(DeviceArray, _name, _lift(getattr(np.ndarray, _name)))


class Device:
    """xp: the functions of the strict backend, for DeviceArray."""

    def __init__(self):
        for name in vars(strict_namespace):
            setattr(self, name, _lift(getattr(np, name)))


DEVICE = Device()

# ---- 10.1: one function for every backend --------------------------------------------------------


def log_mean_exp(xp, a):
    top = xp.max(a, axis=0)
    return top + xp.log(xp.mean(xp.exp(a - top), axis=0))


def draw_logs(rng):
    K, B = rng.permutation([3, 4, 6])[:2]
    return DEVICE, DeviceArray(2 * rng.standard_normal((K, B)) + rng.uniform(-900, 900, B))


def shifted(xp, a):
    return xp.exp(a - xp.max(a, axis=0))


NEUTRAL = Task(
    "one function for every backend",
    "write",
    log_mean_exp,
    draw_logs,
    ("y",),
    (
        Mistake(
            "That is the logarithm of the sum. (K is a.shape[0].)",
            lambda xp, a: xp.max(a, axis=0) + xp.log(xp.sum(shifted(xp, a), axis=0)),
        ),
        Mistake("That is the mean of the logarithms, which is never more: Jensen.", lambda xp, a: xp.mean(a, axis=0)),
        Mistake("The largest term alone: what do the others add?", lambda xp, a: xp.max(a, axis=0)),
        Mistake(
            "What was taken off before exp has to come back after log.",
            lambda xp, a: xp.log(xp.mean(shifted(xp, a), axis=0)),
        ),
        Mistake(
            "The logarithm is divided by K: the mean stands inside it.",
            lambda xp, a: (xp.max(a, axis=0) + xp.log(xp.sum(shifted(xp, a), axis=0))) / a.shape[0],
        ),
        Mistake(
            "What was taken off before exp is taken off once more: mind the sign.",
            lambda xp, a: xp.log(xp.mean(shifted(xp, a), axis=0)) - xp.max(a, axis=0),
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
        Mistake("A number is no host array: a device takes it with the launch.", {"A", "B", "C", "E", "G"}),
        Mistake("F does fetch something. But does it do so behind your back?", {"B", "C", "E", "F", "G"}),
        Mistake("Look at G again: which of its arrays is on the host?", {"B", "C", "E"}),
        Mistake("Look at C again: whose function is it, and whose array?", {"B", "E", "G"}),
        Mistake("Look at E again: that is a transfer, with nothing that says so.", {"B", "C", "G"}),
        Mistake("Look at B again: where should the sum be computed?", {"C", "E", "G"}),
        Mistake("Indexing and maximum are the device's own work: it does them.", {"B", "C", "D", "E", "G", "H"}),
    ),
)

# ---- 10.3: counting transfers --------------------------------------------------------------------


def transfers_of_ten_steps():
    """What crosses in ten steps that look at the norm, and one look at the loss after them."""
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
        Mistake("x and eps cross in each step, and the loss once. What does the `if` ask for?", 21),
        Mistake("The `if` crosses in each step. Do x and eps not?", 11),
        Mistake("One of x and eps is forgotten: each is a host array.", 20),
        Mistake("Nearly: what does the last line do?", 30),
        Mistake("That is one step. There are ten.", 3),
        Mistake("The loss is looked at once, after the loop.", 40),
        Mistake("Clip and step read and write arrays that are on the device: what crosses there?", 51),
        Mistake("The model's parameters are on the device from the start: they never cross.", 41),
    ),
)

# ---- 10.4: the transfer that nobody wrote --------------------------------------------------------


def clip_there(xp, g, max_norm):
    return g * xp.minimum(max_norm / xp.sqrt(xp.sum(g * g)), 1.0)


def draw_gradient(rng):
    P, size = int(rng.integers(3, 9)), 10 ** rng.uniform(-0.5, 1.2)
    return DEVICE, DeviceArray(size * rng.standard_normal(P)), float(rng.uniform(2, 6))


TRANSFER = Task(
    "the transfer that nobody wrote",
    "bug",
    clip_there,
    draw_gradient,
    ("g",),
    (
        Mistake(
            "Short gradients are made longer: what took the place of the `if`?",
            lambda xp, g, max_norm: g * (max_norm / xp.sqrt(xp.sum(g * g))),
        ),
        Mistake(
            "The entries' sizes are added: by Pythagoras it is their squares that add up.",
            lambda xp, g, max_norm: g * xp.minimum(max_norm / xp.sum(xp.abs(g)), 1.0),
        ),
        Mistake("Each entry is cut off by itself.", lambda xp, g, max_norm: xp.clip(g, -max_norm, max_norm)),
        Mistake(
            "That is the square of the norm: where is the root?",
            lambda xp, g, max_norm: g * xp.minimum(max_norm / xp.sum(g * g), 1.0),
        ),
        Mistake(
            "The factor is upside down: the longer the gradient, the more it is stretched.",
            lambda xp, g, max_norm: g * (xp.sqrt(xp.sum(g * g)) / max_norm),
        ),
        Mistake("Nothing is clipped any more.", lambda xp, g, max_norm: 1 * g),
    ),
)

# ---- 10.5: what a device is paid for -------------------------------------------------------------


def step_time(work, in_loop, once, T, launch, rate):
    waiting = launch * (T * in_loop + once)
    seconds = waiting + work / rate
    return seconds, waiting / seconds


def draw_costs(rng):
    work = 10 ** rng.uniform(8, 11, int(rng.integers(3, 7)))
    counts = (int(n) for n in (rng.integers(10, 50), rng.integers(20, 90), rng.integers(5, 60)))
    return work, *counts, float(rng.uniform(4e-6, 2e-5)), float(10 ** rng.uniform(11, 13.5))


def wrong_time(waits=lambda tau, a, b, T: tau * (T * a + b), joined=np.add, of_work=False, per=False):
    """The cost with one thing changed."""

    def step_time(work, in_loop, once, T, launch, rate_):
        waiting, working = waits(launch, in_loop, once, T) + 0 * work, work / rate_
        seconds = joined(waiting, working)
        return seconds, (working if of_work else waiting) / (working if per else seconds)

    return step_time


COST = Task(
    "what a device is paid for",
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
            "The larger of the two is no sum: in this estimate the host launches, then the device works.",
            wrong_time(joined=np.maximum),
        ),
        Mistake("share is that of the work: the launches' is asked for.", wrong_time(of_work=True)),
        Mistake("share compares the launches with the work: a share is one of the whole.", wrong_time(per=True)),
        Mistake("The launches outside the loop are missing.", wrong_time(lambda tau, a, b, T: tau * T * a)),
        Mistake("The launches inside the loop are missing.", wrong_time(lambda tau, a, b, T: tau * b)),
    ),
)

EXERCISES = {"10.1": NEUTRAL, "10.2": REFUSED, "10.3": COUNTED, "10.4": TRANSFER, "10.5": COST}
