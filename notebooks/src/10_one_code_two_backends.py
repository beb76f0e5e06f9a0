# %% [markdown]
# # 10 · One code, two backends
#
# Every function you have read in this course runs on a GPU as it stands. Here is how that is done without a second
# copy of anything, what "the same result" can mean on two machines, and what a GPU likes, which is not what a
# processor likes.
#
# *You need*: [07](07_backward_by_hand_2.ipynb) for the batched schedule. A GPU is **not** needed: where there is
# none, a stand-in takes its place that refuses what a GPU refuses. *It takes* about an hour.

# %%
# %matplotlib inline
import time

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

import tinyvrnn as tv
from tinyvrnn.arrays.backend import get_backend, namespace, to_host
from tinyvrnn.arrays.strict import launches, transfers
from tinyvrnn.distributions.gaussian import gaussian_kl_forward
from tinyvrnn.models import schedule, stepwise
from tinyvrnn.training.optim import Adam, clip_by_global_norm

tv.plots.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The seam
#
# A GPU has memory of its own. An array there is another kind of object, and NumPy's functions do not know it. CuPy is
# a library with the same functions, under the same names, for arrays on a GPU. So the code of this package never says
# `np.exp`. It asks the array whose functions to use:
#
# ```python
# xp = namespace(a)      # numpy for a NumPy array, cupy for a CuPy array
# y = xp.exp(a)
# ```
#
# A backend is chosen **once**, where arrays are made. From then on the arrays carry it.

# %%
tv.course.show(namespace)

# %% [markdown]
# > **Function** `tinyvrnn.backend.namespace` · **held by**
# > `tests/test_backend.py::test_arrays_carry_their_backend`
#
# `get_backend(name)` gives the four things that the making of arrays needs: a name, the functions `xp`, a way there
# (`asarray`) and a way back (`to_host`). There are three names: `"numpy"`, `"cupy"`, and `"strict"`, the stand-in,
# which computes on the processor and behaves like a device in all else.
#
# The next cell takes the GPU if there is one. It is the only line of this notebook that differs between machines.

# %%
host = get_backend("numpy")
try:
    device = get_backend("cupy")
    print("A GPU is here: the device of this notebook is cupy.")
except tv.BackendError:
    device = get_backend("strict")
    print("No GPU here: the device of this notebook is strict, which computes on the processor.")

# %% [markdown]
# > **Function** `tinyvrnn.backend.get_backend` · **held by**
# > `tests/test_backend.py::test_cupy_without_a_device_is_one_clear_sentence`
#
# Now one function, [06](06_backward_by_hand_1.ipynb)'s KL, on both. It is the same function object. Nothing is passed
# to it but arrays.

# %%
mu_z, mu_0 = rng.standard_normal((2, 5, 3))
sigma_z, sigma_0 = np.exp(0.5 * rng.standard_normal((2, 5, 3)))

kl_here, _ = gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)
kl_there, _ = gaussian_kl_forward(*(device.asarray(v) for v in (mu_z, sigma_z, mu_0, sigma_0)))

assert isinstance(kl_here, np.ndarray) and not isinstance(kl_there, np.ndarray)
assert namespace(kl_there) is device.xp
assert np.allclose(kl_here, to_host(kl_there), rtol=1e-12)
print("the device's KL equals the host's to 12 digits")

# %% [markdown]
# ### Exercise 10.1 (write): one function for every backend
#
# Write $y_b = \log \frac1K \sum_k e^{a_{kb}}$ with the functions of `xp` alone, for `a` $(K, B)$. (It is what the
# tighter bounds of [09](09_how_tight.ipynb) end with.) The entries reach $\pm 900$, where $e^a$ overflows or
# vanishes, so take something off before `exp` and put it back after `log`.
#
# The grader's arrays live on a device of its own. It refuses NumPy's functions, and whatever would fetch an array.
# Sizes are in `a.shape`.


# %%
def my_log_mean_exp(xp, a):
    """y (B,) from a (K, B), both on the device whose functions are xp."""
    ### BEGIN SOLUTION
    top = xp.max(a, axis=0)
    return top + xp.log(xp.mean(xp.exp(a - top), axis=0))
    ### END SOLUTION


# %%
tv.course.check("10.1", my_log_mean_exp)

# %% [markdown]
# ## The same result: how far?
#
# Floating-point addition is not associative. A sum over a thousand numbers has a thousand roundings, and which ones
# depends on the order. A processor adds in one order, a GPU with thousands of lanes in another. So two right programs
# differ in their last digits, and "equal to the last bit" is the wrong question.
#
# How much is rounding? Here are 4,096 numbers, added in float32 in 500 random orders, and compared with their sum in
# float64.

# %%
values = rng.random(4096).astype(np.float32)
exact = values.astype(np.float64).sum()
sums = np.array([np.cumsum(rng.permutation(values))[-1] for _ in range(500)])  # cumsum adds one after the other
errors = (sums - exact) / exact

figure, axes = plt.subplots(figsize=(6, 2.8))
axes.hist(errors * 1e6, bins=25, color=tv.plots.COLOURS[0])
axes.axvline(0, color="0.4", linewidth=0.8)
axes.set(
    xlabel="relative error, in millionths", ylabel="orders", title="One sum, 500 orders: float32 keeps 5 to 7 digits"
)

pairwise = abs(float(values.sum()) - exact) / exact
assert len(set(sums.tolist())) > 20 and np.abs(errors).max() < 1e-4 and pairwise < 1e-6

# %% [markdown]
# (`values.sum()` stays below one millionth: NumPy adds blocks, then the sums of blocks, so that no number takes part
# in thousands of roundings.)
#
# So parity has a tolerance: in float64 about 12 digits, in float32 about 5. A bug is seldom that small. Compared is
# the whole model: the bound, and every entry of its gradient.


# %%
def decade(a, b, floor):
    """The power of ten above the error of b, relative to the largest entry of a; not below the floor."""
    error = float(np.abs(b - a).max() / np.abs(a).max())
    return int(np.ceil(np.log10(max(error, 10.0**floor))))


x = (rng.random((12, 8, 6)) < 0.4).astype(np.float32)
lengths = np.array([12, 3, 7, 12, 1, 9, 5, 11])
for dtype, floor in (("float64", -12), ("float32", -5)):
    eps = rng.standard_normal((12, 8, 4)).astype(dtype)
    found = []
    for backend in (host, device):
        model = tv.VRNN(6, 10, 4, backend=backend.name, dtype=dtype, seed=1)
        loss, grads, parts = model.loss_and_grads(x, lengths, eps)
        found.append((to_host(parts.elbo), to_host(parts.kl), to_host(grads)))
    for name, a, b in zip(("ELBO", "KL", "gradient"), *found):
        agree = decade(a, b, floor)
        print(f"{dtype}   {name:9} agrees to 1e{agree} or better")
        assert agree == floor

# %% [markdown]
# > **Function** `tinyvrnn.models.schedule.sequence_backward` · **held by**
# > `tests/test_schedule.py::test_numpy_and_strict_give_the_same_bits`
#
# The noise `eps` is the same for both: two random generators on two machines would give two models, and there would be
# nothing to compare. Training works the same way: each number of `eps` depends on its position alone
# (`tinyvrnn/arrays/noise.py`), so a device computes all of them at once and, up to rounding, gets NumPy's numbers.
#
# ## What strict refuses
#
# A GPU works while the host goes on: a call puts work in a queue and returns at once. The queue runs dry when the
# host asks for a **value**. Then the host waits for the device, and the device for the host. One such line in a loop,
# and a fast device is slow. Nothing fails, so nobody looks.
#
# CuPy refuses the worst of it: a host array next to a device array, and conversion that nobody asked for. `strict`
# refuses the same on any laptop, and some more: NumPy's own functions (CuPy lends its own to a few of them), and
# every function that is not on a list of those known to be in both libraries. It does so in words:


# %%
strict = get_backend("strict")
a, h = strict.asarray(np.ones((3, 2))), np.ones((3, 2))


def refusal(line):
    """What is said when it refuses."""
    try:
        line()
    except (TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return "(no objection)"


for text, line in {
    "a + h": lambda: a + h,
    "np.asarray(a)": lambda: np.asarray(a),
    "np.exp(a)": lambda: np.exp(a),
    "strict.xp.median(a)": lambda: strict.xp.median(a),
    "to_host(a) + h": lambda: to_host(a) + h,
}.items():
    print(f"{text}\n    {refusal(line)}")

assert "met a device array" in refusal(lambda: a + h) and "Implicit conversion" in refusal(lambda: np.asarray(a))
assert refusal(lambda: to_host(a) + h) == "(no objection)"

# %% [markdown]
# > **Function** `tinyvrnn.arrays.strict.StrictArray` · **held by**
# > `tests/test_backend.py::test_strict_refuses_a_host_array_in_every_operator`
#
# ### Exercise 10.2 (predict): what strict refuses
#
# With `a` on the device, `h` on the host, and `xp = strict.xp`: which of these lines are refused? Answer with a set
# of letters, e.g. `{"A", "D"}`.
#
# | | line | | line |
# |---|---|---|---|
# | A | `a + 1.0` | E | `np.asarray(a)` |
# | B | `a + h` | F | `float(a.sum())` |
# | C | `np.exp(a)` | G | `xp.where(h > 0, a, 0)` |
# | D | `a[0] * 2` | H | `xp.maximum(a, 0)` |

# %%
prediction = None
### BEGIN SOLUTION
prediction = {"B", "C", "E", "G"}
### END SOLUTION

# %%
tv.course.check("10.2", prediction)

# %%
lines = {
    "A": lambda: a + 1.0,
    "B": lambda: a + h,
    "C": lambda: np.exp(a),
    "D": lambda: a[0] * 2,
    "E": lambda: np.asarray(a),
    "F": lambda: float(a.sum()),
    "G": lambda: strict.xp.where(h > 0, a, 0),
    "H": lambda: strict.xp.maximum(a, 0),
}
print("refused:", ", ".join(letter for letter, line in lines.items() if refusal(line) != "(no objection)"))

# %% [markdown]
# F is allowed, though it fetches: `float(...)` says so to whoever reads it, and now and then a value is needed. But
# it is **counted**.
#
# ## Counting what crosses
#
# `tinyvrnn.backend.transfers` counts the arrays and scalars that go there and come back on `strict`. A step of
# training should cross a fixed, small number of times: the batch in, the loss out. Above all, the number must not
# grow with the number of steps $T$.


# %%
def crossings(T, per_step=False):
    """(there, back) of one gradient; per_step: somebody adds up the KL as Python numbers."""
    model = tv.VRNN(6, 10, 4, backend="strict", seed=1)
    x, eps = np.zeros((T, 8, 6), dtype="float32"), np.zeros((T, 8, 4), dtype="float32")
    transfers.reset()
    if per_step:
        x, eps = (model.backend.asarray(v) for v in (x, eps))
        _, kl, _ = schedule.sequence_forward(model.params, x, eps, model.likelihood)
        total = 0.0
        for t in range(T):
            total += float(kl[t].mean())
    else:
        loss, _, _ = model.loss_and_grads(x, np.full(8, T), eps)
        float(loss)
    return transfers.to_device, transfers.to_host


Ts = [5, 10, 20, 40]
good, bad = [sum(crossings(T)) for T in Ts], [sum(crossings(T, per_step=True)) for T in Ts]

figure, axes = plt.subplots(figsize=(6, 2.9))
axes.plot(Ts, bad, "s--", color=tv.plots.COLOURS[1], label="float() at each step")
axes.plot(Ts, good, "o-", color=tv.plots.COLOURS[0], label="loss_and_grads, and the loss fetched once")
axes.set(xlabel="steps T", ylabel="transfers", title="What crosses must not grow with T", ylim=(0, None), xticks=Ts)
axes.legend()

print("loss_and_grads and one look at the loss, for T = 5 ... 40:", good)
assert len(set(good)) == 1 and good[0] <= 4 and bad == [T + 2 for T in Ts]

# %% [markdown]
# > **Function** `tinyvrnn.models.vrnn.VRNN.loss_and_grads` · **held by**
# > `tests/test_backend.py::test_transfers_do_not_grow_with_the_number_of_steps`
#
# ### Exercise 10.3 (predict): how many?
#
# `model` is on `strict`; `x` and `eps` are host arrays, and no lengths are given. How many transfers, there and back
# together, does this make?
#
# ```python
# for step in range(10):
#     loss, grads, parts = model.loss_and_grads(x, None, eps)
#     norm = clip_by_global_norm(grads, 50.0)
#     if norm > 50.0:
#         clipped += 1
#     optimiser.step(model.theta, grads)
# print(float(loss))
# ```

# %%
prediction = None
### BEGIN SOLUTION
prediction = 31
### END SOLUTION

# %%
tv.course.check("10.3", prediction)

# %%
model = tv.VRNN(3, 5, 2, backend="strict")
x, eps = rng.random((6, 4, 3), dtype="float32"), rng.standard_normal((6, 4, 2), dtype="float32")
optimiser, clipped, counted = Adam(model.theta), 0, []
transfers.reset()
for _ in range(10):
    loss, grads, _ = model.loss_and_grads(x, None, eps)
    norm = clip_by_global_norm(grads, 50.0)
    if norm > 50.0:
        clipped += 1
    optimiser.step(model.theta, grads)
    counted.append(transfers.total)
float(loss)
print("after each step:", *counted, "  and in the end:", transfers.total)

# %% [markdown]
# The `if` is the one to look at. It reads like a comparison, but Python needs to **know** the answer to go on, so the
# whole queue has to be worked off first. That is an implicit transfer, and it stands in the middle of the step.
#
# ### Exercise 10.4 (bug): the transfer that nobody wrote
#
# Clipping, as it is usually written. Mend it so that nothing is fetched: same results, no `if`, no `float`.
#
# ```python
# def clip(xp, g, max_norm):
#     norm = xp.sqrt(xp.sum(g * g))
#     if norm > max_norm:
#         g = g * (max_norm / norm)
#     return g
# ```


# %%
def my_clip(xp, g, max_norm):
    """g (P,), scaled to a norm of at most max_norm, without leaving the device."""
    ### BEGIN SOLUTION
    norm = xp.sqrt(xp.sum(g * g))
    return g * xp.minimum(max_norm / norm, 1.0)
    ### END SOLUTION


# %%
tv.course.check("10.4", my_clip)

# %% [markdown]
# ## What a GPU likes
#
# A call on a GPU is a **launch**: the host describes the work and queues it. That takes some ten microseconds,
# whether the work is ten numbers or ten million. So a GPU likes **few launches, each with much to do**.
#
# A recurrent network is the opposite: step $t$ cannot begin before step $t - 1$ has ended. That is why the schedule
# of [07](07_backward_by_hand_2.ipynb) takes all it can out of the loop. Likelihood, generation, prior and KL, and
# every weight gradient, run once for all $T$ steps, as one product with $T B$ rows. In the loop stays what truly
# waits. And what stays is **fused**: all that a step does to the entries of its arrays between two products is one
# function, of which a GPU makes one launch. Above NumPy's lines stands what it does with each entry, in C++:
#
# > **Function** `tinyvrnn.distributions.gaussian.draw` · **held by**
# > `tests/test_kernels.py::test_an_operation_is_what_numpy_does_in_its_place`

# %%
tv.course.show(tv.distributions.gaussian.draw)

# %% [markdown]
# `strict` counts the launches that a device would have made, in `tinyvrnn.backend.launches`.


# %%
def count(module, T, B=8):
    """Launches of forward and backward of a whole sequence, by one of the two schedules; and dL/dW of the GRU."""
    model = tv.VRNN(6, 10, 4, backend="strict", seed=1)
    draw = np.random.default_rng(T)
    x, eps, ones = (draw.random(shape).astype("float32") for shape in ((T, B, 6), (T, B, 4), (T, B)))
    x, eps, ones = (model.backend.asarray(v) for v in (x, eps, ones))
    upstream = -ones, ones
    launches.reset()
    *_, cache = module.sequence_forward(model.params, x, eps, model.likelihood)
    grads = module.sequence_backward(model.params, cache, *upstream, model.likelihood)
    return launches.total, to_host(grads["recur"]["W"])


# %%
literal, batched = ([count(module, T) for T in Ts] for module in (stepwise, schedule))
for (_, a), (_, b) in zip(literal, batched):
    assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()  # the same gradient, by both

literal, batched = [n for n, _ in literal], [n for n, _ in batched]
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(Ts, literal, "s--", color=tv.plots.COLOURS[1], label="step by step, as the paper writes it")
axes.plot(Ts, batched, "o-", color=tv.plots.COLOURS[0], label="batched schedule")
axes.set(
    xlabel="steps T", ylabel="launches", title="The same gradient, with fewer launches", ylim=(0, None), xticks=Ts
)
axes.legend()

each = [(counts[-1] - counts[0]) / (Ts[-1] - Ts[0]) for counts in (literal, batched)]
print(f"launches for each further step: {each[0]:.0f} step by step, {each[1]:.0f} in the batched schedule")
assert each[0] > 2 * each[1] and np.allclose(np.diff(batched) / np.diff(Ts), each[1])

# %% [markdown]
# The line is straight: so many launches a step, and a fixed number outside the loop. Of the batched schedule's 22 a
# step, 11 are matrix products.
#
# ### Exercise 10.5 (derive): what a device is paid for
#
# A step of training has `in_loop` launches for each of $T$ steps and `once` launches outside the loop. A launch costs
# `launch` seconds. The arithmetic is `work` operations $(N,)$, for $N$ batch sizes, and the device does `rate` of
# them a second. Take the plain estimate that the two add up. Derive the time of a step, in seconds, and the **share**
# of it that goes into launches.


# %%
def my_step_time(work, in_loop, once, T, launch, rate):
    """seconds, share: (N,) each."""
    ### BEGIN SOLUTION
    waiting = launch * (T * in_loop + once)
    seconds = waiting + work / rate
    return seconds, waiting / seconds
    ### END SOLUTION


# %%
tv.course.check("10.5", my_step_time)

# %% [markdown]
# Put numbers in: $10^{-5}$ s a launch, $10^{13}$ operations a second, $T = 28$, a model of the course's size, and the
# counts from above. The number of launches does not depend on the batch. The work grows with it.

# %%
batch = 2 ** np.arange(3, 15)
parameters = tv.VRNN(28, 128, 16).theta.size
work = 6.0 * parameters * 28 * batch  # 2 operations for each weight and row, and twice that backward
fixed = batched[0] - each[1] * Ts[0]
waiting = {"step by step": 28 * each[0], "batched schedule": 28 * each[1] + fixed}

figure, axes = plt.subplots(figsize=(6, 3))
for (name, n), style, colour in zip(waiting.items(), ("s--", "o-"), (1, 0)):
    share = 1e-5 * n / (1e-5 * n + work / 1e13)
    axes.semilogx(batch, 100 * share, style, base=2, color=tv.plots.COLOURS[colour], label=name)
    assert share[0] > 0.9 and share[-1] < share[0]
axes.set(xlabel="sequences in a batch", ylabel="share of launches, per cent", ylim=(0, 102))
axes.set_title("An estimate: a small batch leaves a GPU idle")
axes.legend()

assert waiting["step by step"] > 1.5 * waiting["batched schedule"]

# %% [markdown]
# At a batch of 8, nearly all of the time is launches, by either schedule: this model is too small for a GPU, and a
# processor may well win. Larger batches and wider layers are nearly free until the lines come down. That is the whole
# of "GPUs like large products".

# %% [markdown]
# ## Timings
#
# Now by the clock, on this machine. Bars show **sequences per second**, relative to the first bar. If time were all
# overhead, a batch twice as large would take no longer, and each bar would be twice the one before. If it were all
# arithmetic, the bars would be equal. (These numbers are your machine's, and differ from run to run.)

# %% tags=["volatile"]
backends = [host] if device.name == "strict" else [host, device]


def seconds(backend, batch=32, hidden=64, T=20, repeats=5):
    """The best of a few gradients; fetching the loss makes a device finish its work."""
    model = tv.VRNN(28, hidden, 16, backend=backend.name, seed=0)
    x, eps = np.zeros((T, batch, 28), dtype="float32"), np.zeros((T, batch, 16), dtype="float32")
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        float(model.loss_and_grads(x, None, eps)[0])
        times.append(time.perf_counter() - start)
    return min(times[1:])


batch_sizes, widths = [1, 4, 16, 64, 256], [16, 32, 64, 128, 256]
figure, grid = plt.subplots(len(backends), 2, figsize=(9, 2.9 * len(backends)), squeeze=False)
for (left, right), backend, colour in zip(grid, backends, tv.plots.COLOURS):
    speed = np.array([B / seconds(backend, batch=B) for B in batch_sizes])
    left.bar([str(B) for B in batch_sizes], speed / speed[0], color=colour)
    left.set(
        xlabel="sequences in a batch", ylabel="sequences per second, relative", title=f"{backend.name}: batch size"
    )
    speed = np.array([32 / seconds(backend, hidden=H) for H in widths])
    right.bar([str(H) for H in widths], speed / speed[0], color=colour)
    right.set(xlabel="width H of state and layers", title=f"{backend.name}: width (batch of 32)")

# %% [markdown]
# On a processor the left bars rise at first: a batch of 1 costs nearly as much as one of 4, because Python's own
# overhead is a launch too. Then they level off: the cores are busy. On the right, twice the width is four times the
# arithmetic, but at first much less than four times the time, for the same reason.
#
# ## One thread, or many?
#
# NumPy hands matrix products to a BLAS library, which splits a product over all cores. For a product of a thousand
# rows and columns that pays. For one of 32 rows, as in the loop, handing out the pieces and waiting for all of them
# takes longer than the product, and the waiting threads hold the cores.
#
# So the package asks BLAS for **one** thread, and uses the cores in another way: each takes a slice of the batch, for
# the whole step, and they meet once at the end.

# %%
tv.course.show(tv.backend.blas_threads.__wrapped__)

# %% [markdown]
# `one_blas_thread()` is `blas_threads(1)`.
#
# > **Function** `tinyvrnn.backend.blas_threads` · **held by**
# > `tests/test_backend.py::test_one_blas_thread_inside_and_the_former_number_outside`


# %% tags=["volatile"]
def product_seconds(rows, width, threads, repeats=200):
    a, b = (np.ones(shape, dtype="float32") for shape in ((rows, width), (width, width)))
    with threadpool_limits(threads, user_api="blas"):
        a @ b
        start = time.perf_counter()
        for _ in range(repeats):
            a @ b
    return (time.perf_counter() - start) / repeats


for rows, width, repeats in ((32, 100, 2000), (1024, 1024, 10)):
    one, many = (product_seconds(rows, width, threads, repeats) for threads in (1, None))
    print(f"({rows}, {width}) @ ({width}, {width}):  one thread {1e6 * one:9.1f} µs, all {1e6 * many:9.1f} µs")

# %% [markdown]
# Which of two figures in a row is smaller depends on the machine, and on what else it does. On the one where the
# package was timed, two slices of the batch with one BLAS thread each, in two processes, beat everything else that was
# tried for models of a course's size; large models (2.5 million parameters and more) get all of BLAS's threads. The
# figures are in `docs/performance.md`.
#
# A GPU decides the other way, for the same reason: it has thousands of lanes, so it needs one large piece of work and
# not many small ones. That is why slices of a batch are for processors, and on a device the batch stays whole.
#
# ## What you now know
#
# - Arrays carry their backend; functions ask `namespace(a)`. One code, and one file that imports CuPy.
# - Two right programs differ by rounding: about $10^{-12}$ in float64, $10^{-5}$ in float32. Ask for that, not for
#   bits.
# - `float`, `if` and `np.asarray` fetch. One of them in a loop over time, and the device waits $T$ times.
# - What crosses can be counted, so it can be tested, without a GPU.
# - Few launches, large products: what does not have to wait in the loop should not be in it.
#
# On to [11 · The bug museum](11_the_bug_museum.ipynb).
