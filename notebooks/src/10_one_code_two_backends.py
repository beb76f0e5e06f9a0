# %% [markdown]
# # 10 · One code, two backends
#
# Every function you have read in this course runs unchanged on a GPU. This notebook shows how that works without a
# second copy of the code, what "the same result" means on two machines, and how the best workload for a GPU differs
# from that for a CPU.
#
# *You need*: [07](07_backward_by_hand_2.ipynb) for the batched schedule. You do **not** need a GPU: without one, the
# notebook uses a stand-in that refuses whatever a GPU refuses. *It takes* about 1 h 10 min.

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
# ## How arrays carry their backend
#
# A GPU has its own memory. An array there is a different kind of object, with which NumPy itself cannot compute. The
# library CuPy has the same functions, under the same names, for arrays on a GPU. So the code of this package never
# calls `np.exp`. It asks the array for its library:
#
# ```python
# xp = namespace(a)      # numpy for a NumPy array, cupy for a CuPy array
# y = xp.exp(a)
# ```
#
# You choose a backend **once**, where arrays are created. From then on the arrays carry it.

# %%
tv.course.show(namespace)

# %% [markdown]
# > **Function** `tinyvrnn.backend.namespace` · **held by**
# > `tests/test_backend.py::test_arrays_carry_their_backend`
#
# `get_backend(name)` returns a backend: its name, its functions `xp`, and two functions that copy arrays to the device
# (`asarray`) and back (`to_host`). The names are `"numpy"`, `"cupy"` and `"strict"`. The last is the stand-in, which
# computes on the CPU but otherwise behaves like a device.
#
# The next cell uses the GPU if there is one. It is the only line of this notebook that differs between machines.

# %%
host = get_backend("numpy")
try:
    device = get_backend("cupy")
    print("Found a GPU: the device of this notebook is cupy.")
except tv.BackendError:
    device = get_backend("strict")
    print("No GPU found: the device of this notebook is strict, which computes on the CPU.")

# %% [markdown]
# > **Function** `tinyvrnn.backend.get_backend` · **held by**
# > `tests/test_backend.py::test_cupy_without_a_device_is_one_clear_sentence`
#
# Now call one function, the KL of [06](06_backward_by_hand_1.ipynb), on both. It is the same function object, and it
# takes only arrays.

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
# Write $y_b = \log \frac1K \sum_k e^{a_{kb}}$ using only the functions of `xp`, for `a` $(K, B)$. (The tighter bounds
# of [14](14_tighter_bounds.ipynb) end with this.) The entries reach $\pm 900$, where $e^a$ overflows or underflows, so
# subtract something before `exp` and add it back after `log`.
#
# The grader's arrays are on a device of its own. It refuses NumPy's functions and everything that would copy an array
# to the host. Sizes are in `a.shape`.


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
# ## How equal are the results?
#
# Floating-point addition is not associative. A sum of a thousand numbers is rounded a thousand times, and the rounding
# depends on the order. A CPU adds in one order, a GPU with thousands of lanes in another. So two correct programs
# differ in their last digits, and a test for bitwise equality is the wrong test.
#
# How large are the rounding errors? Here we add 4,096 numbers in float32, in 500 random orders, and compare each result
# with the sum in float64.

# %%
values = rng.random(4096).astype(np.float32)
exact = values.astype(np.float64).sum()
sums = np.array([np.cumsum(rng.permutation(values))[-1] for _ in range(500)])  # cumsum adds one number after another
errors = (sums - exact) / exact

figure, axes = plt.subplots(figsize=(6, 2.8))
axes.hist(errors * 1e6, bins=25, color=tv.plots.COLOURS[0])
axes.axvline(0, color="0.4", linewidth=0.8)
axes.set(xlabel="relative error, in millionths", ylabel="number of orders")
axes.set_title("One sum, 500 orders: float32 keeps 5 to 7 digits")

pairwise = abs(float(values.sum()) - exact) / exact
assert len(set(sums.tolist())) > 20 and np.abs(errors).max() < 1e-4 and pairwise < 1e-6

# %% [markdown]
# (The error of `values.sum()` is below one millionth: NumPy adds up blocks, then the sums of blocks, so no number takes
# part in thousands of roundings.)
#
# So the test needs a tolerance: about 12 digits in float64, about 5 in float32. Bugs are seldom that small. We compare
# the whole model: the bound, and every entry of its gradient.


# %%
def decade(a, b, floor):
    """The power of ten above the error of b relative to the largest entry of a, but at least `floor`."""
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
# > `tests/test_schedule.py::test_a_device_gives_the_numbers_of_numpy`
#
# Both backends get the same noise `eps`: two random generators on two machines would give two different results, and
# there would be nothing to compare. In training too, each number of `eps` depends only on its position
# (`tinyvrnn/arrays/noise.py`). So a device computes all of them in parallel and, up to rounding, gets NumPy's numbers.
#
# ## What strict refuses
#
# A GPU works asynchronously: a call puts work into a queue and returns at once. When the host asks for a **value**, it
# waits until the queue is empty, and then the device waits for the host. One such line in a loop makes a fast device
# slow. Nothing fails, so nobody notices.
#
# CuPy refuses the worst cases: mixing host and device arrays, and implicit conversion. `strict` refuses the same on any
# laptop, and is stricter on purpose. On a GPU `np.exp(a)` works, because NumPy hands the call over to CuPy. But NumPy
# cannot hand over every call, and CuPy lacks some functions. Such a line fails only on a GPU, where tests seldom run.
# So `strict` refuses all of NumPy's own functions, and every function that is not on its list of functions known to
# exist in both libraries. Its error messages say what to use instead:


# %%
strict = get_backend("strict")
a, h = strict.asarray(np.ones((3, 2))), np.ones((3, 2))


def refusal(line):
    """The error message of a refused line."""
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

assert "met a device array" in refusal(lambda: a + h) and "use the functions of" in refusal(lambda: np.exp(a))
assert refusal(lambda: to_host(a) + h) == "(no objection)"

# %% [markdown]
# > **Function** `tinyvrnn.arrays.strict.StrictArray` · **held by**
# > `tests/test_backend.py::test_strict_refuses_a_host_array_in_every_operator`
#
# ### Exercise 10.2 (predict): what strict refuses
#
# With `a` on the device, `h` on the host, and `xp = strict.xp`: which of these lines are refused? Answer with a set of
# letters, e.g. `{"A", "D"}`.
#
# | letter | line | letter | line |
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
# F is allowed, although it copies a value to the host: sometimes you need a value, and `float(...)` makes the copy
# visible to the reader. But it is **counted**.
#
# ## Counting transfers
#
# `tinyvrnn.backend.transfers` counts the arrays and scalars that `strict` copies to the device and back. A training
# step should make a small, fixed number of transfers: the batch to the device, the loss back. Above all, the number
# must not grow with the number of steps $T$.


# %%
def crossings(T, per_step=False):
    """(to the device, to the host) for one gradient; per_step: with the KL summed as Python numbers."""
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
print("transfers of loss_and_grads and float(loss), for T = 5 ... 40:", good)
assert len(set(good)) == 1 and good[0] <= 4 and bad == [T + 2 for T in Ts]

# %%
figure, axes = plt.subplots(figsize=(6, 2.9))
axes.plot(Ts, bad, "s--", color=tv.plots.COLOURS[1], label="float() at each step")
axes.plot(Ts, good, "o-", color=tv.plots.COLOURS[0], label="loss_and_grads, one float() at the end")
axes.set(xlabel="steps T", ylabel="transfers", title="Transfers must not grow with T", ylim=(0, None), xticks=Ts)
axes.legend();
# %% [markdown]
# > **Function** `tinyvrnn.models.vrnn.VRNN.loss_and_grads` · **held by**
# > `tests/test_backend.py::test_transfers_do_not_grow_with_the_number_of_steps`
#
# ### Exercise 10.3 (predict): how many transfers?
#
# `model` is on `strict`; `x` and `eps` are host arrays, and no lengths are given. How many transfers, in both
# directions together, does this code make?
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
print("after each step:", *counted, "  and at the end:", transfers.total)

# %% [markdown]
# Look at the `if`. It reads like a mere comparison. But Python needs the **result** to continue, so it waits until the
# whole queue has been processed: an implicit transfer in the middle of the step.
#
# ### Exercise 10.4 (bug): the implicit transfer
#
# This is clipping as it is usually written. Fix it so that it makes no transfer: same results, no `if`, no `float`.
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
# ## The workload a GPU needs
#
# A call on a GPU is a **launch**: the host describes the work and puts it into the queue. That takes some ten
# microseconds, for ten numbers as for ten million. So a GPU needs **few launches with much work each**.
#
# A recurrent network is the opposite: step $t$ cannot begin before step $t - 1$ has ended. That is why the schedule of
# [07](07_backward_by_hand_2.ipynb) moves as much as possible out of the loop. Likelihood, generation, prior and KL, and
# every weight gradient, run once for all $T$ steps, as one product with $T B$ rows. Only the sequential part stays in
# the loop, and that part is **fused**: all elementwise operations between two products form one function, which a GPU
# runs as one launch. In the function below, the decorator contains the C++ code for one entry of the arrays, and the
# body is the NumPy version:
#
# > **Function** `tinyvrnn.distributions.gaussian.draw` · **held by**
# > `tests/test_kernels.py::test_an_operation_is_what_numpy_does_in_its_place`

# %%
tv.course.show(tv.distributions.gaussian.draw)

# %% [markdown]
# `strict` counts the launches that a device would make, in `tinyvrnn.backend.launches`.


# %%
def count(module, T, B=8):
    """Launches of forward and backward over a sequence, in one of the two schedules; and dL/dW of the GRU."""
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
    assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()  # both give the same gradient

literal, batched = [n for n, _ in literal], [n for n, _ in batched]
each = [(counts[-1] - counts[0]) / (Ts[-1] - Ts[0]) for counts in (literal, batched)]
print(f"launches per additional step: {each[0]:.0f} step by step, {each[1]:.0f} in the batched schedule")
assert each[0] > 2 * each[1] and np.allclose(np.diff(batched) / np.diff(Ts), each[1])

# %%
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(Ts, literal, "s--", color=tv.plots.COLOURS[1], label="step by step, as in the paper")
axes.plot(Ts, batched, "o-", color=tv.plots.COLOURS[0], label="batched schedule")
axes.set(xlabel="steps T", ylabel="launches", title="The same gradient, with fewer launches", ylim=(0, None), xticks=Ts)
axes.legend();

# %% [markdown]
# Both lines are straight: a fixed number of launches per step, plus a fixed number outside the loop. Of the 22 launches
# per step in the batched schedule, 11 are matrix products.
#
# ### Exercise 10.5 (derive): the time of a training step
#
# A training step has `in_loop` launches for each of $T$ steps and `once` launches outside the loop. A launch costs
# `launch` seconds. The arithmetic is `work` operations $(N,)$, for $N$ batch sizes, and the device does `rate` of them
# per second. Assume that the two times add up. Derive the time of a training step, in seconds, and the **share** of it
# that is spent on launches.


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
# Now insert numbers: $10^{-5}$ s per launch, $10^{13}$ operations per second, $T = 28$, a model of the course's size,
# and the launch counts from above. The number of launches does not depend on the batch size; the work grows with it.

# %%
batch = 2 ** np.arange(3, 15)
parameters = tv.VRNN(28, 128, 16).theta.size
work = 6.0 * parameters * 28 * batch  # forward: 2 operations per weight and row; backward: twice as many
fixed = batched[0] - each[1] * Ts[0]
waiting = {"step by step": 28 * each[0], "batched schedule": 28 * each[1] + fixed}

figure, axes = plt.subplots(figsize=(6, 3))
for (name, n), style, colour in zip(waiting.items(), ("s--", "o-"), (1, 0)):
    share = 1e-5 * n / (1e-5 * n + work / 1e13)
    axes.semilogx(batch, 100 * share, style, base=2, color=tv.plots.COLOURS[colour], label=name)
    assert share[0] > 0.9 and share[-1] < share[0]
axes.set(xlabel="sequences in a batch", ylabel="time spent on launches, %", ylim=(0, 106))
axes.set_title("An estimate: a small batch leaves a GPU idle")
axes.legend()

assert waiting["step by step"] > 1.5 * waiting["batched schedule"]

# %% [markdown]
# At a batch size of 8, both schedules spend nearly all of their time on launches: this model is too small for a GPU,
# and a CPU may well be faster. Larger batches and wider layers are nearly free until the curves start to fall. This is
# why GPUs need large products.

# %% [markdown]
# ## Timings
#
# Now we measure on this machine. The bars show the speed, in **sequences per second**, relative to the first bar. If
# all time were overhead, a batch twice as large would take no longer, and each bar would be proportional to its batch
# size. If all time were arithmetic, the bars on the left would be equal. (The figures depend on your machine and differ
# from run to run.)

# %% tags=["volatile"]
backends = [host] if device.name == "strict" else [host, device]


def seconds(backend, batch=32, hidden=64, T=20, repeats=5):
    """The fastest of a few gradients; float() waits until the device has finished."""
    model = tv.VRNN(28, hidden, 16, backend=backend.name, seed=0)
    x, eps = np.zeros((T, batch, 28), dtype="float32"), np.zeros((T, batch, 16), dtype="float32")
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        float(model.loss_and_grads(x, None, eps)[0])
        times.append(time.perf_counter() - start)
    return min(times[1:])


batch_sizes, widths = [1, 4, 16, 64, 256], [16, 32, 64, 128, 256]
by_batch = {b.name: np.array([B / seconds(b, batch=B) for B in batch_sizes]) for b in backends}
by_width = {b.name: np.array([32 / seconds(b, hidden=H) for H in widths]) for b in backends}

# %% tags=["volatile"]
figure, grid = plt.subplots(len(backends), 2, figsize=(7.4, 2.8 * len(backends)), squeeze=False)
for (left, right), name, colour in zip(grid, by_batch, tv.plots.COLOURS):
    left.bar([str(B) for B in batch_sizes], by_batch[name] / by_batch[name][0], color=colour)
    left.set(xlabel="sequences in a batch", ylabel="relative speed", title=f"{name}: larger batches")
    right.bar([str(H) for H in widths], by_width[name] / by_width[name][0], color=colour)
    right.set(
        xlabel="width H of state and layers", ylabel="relative speed", title=f"{name}: wider layers (batch of 32)"
    )

# %% [markdown]
# On a CPU the left bars rise at first: a batch of 1 costs nearly as much as one of 4, because Python's overhead per
# call acts like a launch. Then they level off: the cores are busy. On the right, twice the width means four times the
# arithmetic. At first it takes much less than four times as long, because of the same overhead.
#
# ## One thread or many?
#
# NumPy passes matrix products to a BLAS library, which can split a product over all cores. For a product of a thousand
# rows and columns that pays off. For one of 32 rows, as in the loop, it takes longer to distribute the parts and wait
# for all of them than to compute the product, and the waiting threads occupy the cores.
#
# So the package lets BLAS use **one** thread, and uses the cores differently: each core computes a slice of the batch
# for the whole step, and their gradients are added once at the end.

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
# Which of the two figures in a row is smaller depends on the machine and its load. On the machine where the package was
# timed, models of the course's size ran fastest with two slices of the batch in two processes, with one BLAS thread
# each. Large models (2.5 million parameters and more) get all BLAS threads. The figures are in `docs/performance.md`.
#
# For a GPU the opposite holds: it has thousands of lanes, so it needs one large piece of work, not many small ones.
# That is why the batch is sliced on CPUs only and stays whole on a device.
#
# ## What you now know
#
# - Arrays carry their backend; functions ask `namespace(a)`. There is one code base, and one file that imports CuPy.
# - Two correct programs differ by rounding: about $10^{-12}$ in float64, $10^{-5}$ in float32. Test with a tolerance,
#   not for equal bits.
# - `float`, `if` and `np.asarray` transfer data. One of them in a loop over time makes the device wait $T$ times.
# - Transfers can be counted, so they can be tested, even without a GPU.
# - Few launches, large products: only what is sequential belongs in the loop.
#
# Continue with [11 · The bug museum](11_the_bug_museum.ipynb).
