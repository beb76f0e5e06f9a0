# %% [markdown]
# # 08 · Training
#
# You have the bound and its gradient. You still need a training loop of a few lines, and some judgement: which units to
# report, when to clip, what Adam divides by, and how to tell whether the latents are used at all. At the end a model
# writes digits, and you vary its latents by hand.
#
# *You need*: [05](05_the_elbo_line_by_line.ipynb) for the bound, [07](07_backward_by_hand_2.ipynb) for its gradient.
# *It takes* about 1 h 50 min; the training itself takes half a minute.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn import one_page
from tinyvrnn.arrays import noise
from tinyvrnn.distributions.gaussian import gaussian_kl_forward, sigma_of, split
from tinyvrnn.models import schedule
from tinyvrnn.models.equations import features_forward, prior_forward
from tinyvrnn.training.optim import Adam, clip_by_global_norm

tv.plots.use_style()

# %% [markdown]
# ## The data and the baselines
#
# A digit is read row by row: step $t$ is a row of 28 pixels, $x_t \in \{0, 1\}^{28}$, and there are $T = 28$ steps.
#
# Before you train anything, find out what a model without any network achieves. The *marginal* baseline knows how often
# each pixel is black. The *Markov* baseline also knows the pixel above. Both come from counting, without training.

# %%
data = tv.load_data("digits")
x, _ = tv.pad(data.test[:16])
assert len(data.test) == 500
tv.plots.samples(x, binary=True, columns=8, title="Sixteen of 500 test digits: time runs from top to bottom")

# %%
floors = tv.data.baselines(data, "test")
for name, log_p in floors.items():
    print(f"{name:20} {log_p:7.1f} nats per digit")
assert floors["Markov"] > floors["marginal Bernoulli"]

# %% [markdown]
# ## The loss and its units
#
# From [05](05_the_elbo_line_by_line.ipynb): the bound of one sequence is a sum over its steps,
#
# $$\begin{aligned}
# \mathrm{ELBO} = \sum_{t=1}^{T} \Big( & \log p(x_t \mid z_{\le t}, x_{<t}) \\
# {} - {} & \mathrm{KL}\big(q(z_t \mid x_{\le t}, z_{<t}) \,\|\, p(z_t \mid x_{<t}, z_{<t})\big) \Big) .
# \end{aligned}$$
#
# The loss is the negative bound, averaged over the $B$ sequences of a batch: **nats per sequence**. Papers on speech or
# music report **nats per step** instead. That requires care, because sequences differ in length.
#
# Take one sequence of 2 steps and 20 nats, and one of 8 steps and 40 nats. A step costs 10 nats in the first and 5 in
# the second. The mean of the two is 7.5. But there are 10 steps in all, and they cost 60 nats: 6 nats per step.
#
# > **total over total, never a mean of means**
#
# Total over total is the average cost of a step. The mean of means overweights the steps of short sequences, and it
# changes when a long sequence is cut in two.

# %%
nats, steps = np.array([20.0, 40.0]), np.array([2, 8])
print(f"mean of means {np.mean(nats / steps):.1f}, total over total {nats.sum() / steps.sum():.1f}")
assert nats.sum() / steps.sum() == 6.0 != np.mean(nats / steps)

# %% [markdown]
# > **Function** `tinyvrnn.bounds.evaluate_elbo` · **held by**
# > `tests/test_training.py::test_an_evaluation_divides_by_real_steps`
#
# ### Exercise 08.1 (write): nats per sequence and per step
#
# `elbo` $(T, B)$ holds the bound of each step, in nats; `mask` $(T, B)$ is 1 at real steps and 0 in the padding, where
# the values of `elbo` are arbitrary. Return both figures, per sequence and per step.


# %%
def my_bounds(elbo, mask):
    """per_sequence, per_step: two numbers, from elbo (T, B) and mask (T, B)."""
    ### BEGIN SOLUTION
    total = (elbo * mask).sum()
    return total / elbo.shape[1], total / mask.sum()
    ### END SOLUTION


# %%
tv.course.check("08.1", my_bounds)

# %% [markdown]
# ## Exploding gradients
#
# A recurrent network multiplies by the same matrices again and again, so occasionally a gradient is huge. One step
# along it can undo hours of training. The remedy of Pascanu, Mikolov and Bengio keeps the direction of the gradient and
# limits its length. Put **all** gradients into one vector $g$:
#
# $$g \;\leftarrow\; g \cdot \min\!\left(1, \frac{c}{\lVert g \rVert}\right), \qquad
# \lVert g \rVert = \sqrt{\textstyle\sum_i g_i^2} .$$
#
# Where $\lVert g \rVert \le c$ the factor is 1. Otherwise the new length is $\lVert g \rVert \cdot c / \lVert g \rVert
# = c$. All entries share one factor, so the direction does not change.

# %%
tv.course.show(clip_by_global_norm)

# %% [markdown]
# > **Function** `tinyvrnn.training.optim.clip_by_global_norm` · **held by**
# > `tests/test_training.py::test_clipping_limits_the_norm_and_keeps_the_direction`

# %%
g = np.array([3.0, 0.4])
flat = g.copy()
clip_by_global_norm(flat, 1.0)
by_entry = np.clip(g, -1, 1)

figure, axes = plt.subplots(figsize=(5.6, 2.9))
for v, colour, style, label in (
    (g, 6, ":", "the gradient"),
    (flat, 0, "-", "clipped by its norm"),
    (by_entry, 1, "--", "clipped entry by entry"),
):
    axes.plot([0, v[0]], [0, v[1]], style, color=tv.plots.COLOURS[colour], marker="o", markevery=[1], label=label)
circle = np.linspace(-0.25 * np.pi, 0.5 * np.pi, 99)
axes.plot(np.cos(circle), np.sin(circle), color="0.7", linewidth=1)
axes.set(
    xlabel="$g_1$",
    ylabel="$g_2$",
    title="Only clipping by the norm keeps the direction",
    aspect="equal",
    ylim=(-0.2, 1.25),
)
axes.legend(loc="upper right")

assert np.isclose(np.linalg.norm(flat), 1) and np.isclose(flat[1] / flat[0], g[1] / g[0])
assert not np.isclose(by_entry[1] / by_entry[0], g[1] / g[0])

# %% [markdown]
# ### Exercise 08.2 (write): clipping by the global norm
#
# `grads` is a dict of arrays, as in any code that does not store its parameters in one vector. Return a new dict. (The
# arrays belong to the caller: do not modify them.)


# %%
def my_clip(grads, max_norm):
    """{"W": ..., "b": ...} with a global norm of at most max_norm."""
    ### BEGIN SOLUTION
    norm = np.sqrt(sum((g * g).sum() for g in grads.values()))
    factor = np.minimum(max_norm / norm, 1)
    return {name: g * factor for name, g in grads.items()}
    ### END SOLUTION


# %%
tv.course.check("08.2", my_clip)

# %% [markdown]
# ### Exercise 08.3 (predict): the order of two lines
#
# Public code contains both orders of the last two lines. Here is one of them:
#
# ```python
# theta, g = np.zeros(2), np.array([30.0, 40.0])
# theta -= 0.1 * g
# clip_by_global_norm(g, 2.0)
# ```
#
# How far from 0 is `theta` afterwards? Give the distance, $\lVert \theta \rVert$.

# %%
prediction = None
### BEGIN SOLUTION
prediction = 5.0
### END SOLUTION

# %%
tv.course.check("08.3", prediction)

# %%
for order in ("step, clip", "clip, step"):
    theta, g = np.zeros(2), np.array([30.0, 40.0])
    for line in order.split(", "):
        if line == "step":
            theta -= 0.1 * g
        else:
            clip_by_global_norm(g, 2.0)
    print(f"{order}: theta moves by {np.linalg.norm(theta):.1f}")
assert np.isclose(np.linalg.norm(theta), 0.1 * 2.0)

# %% [markdown]
# In the wrong order nothing fails and no loss looks odd, but nothing is clipped. You notice only when the first huge
# gradient arrives.
#
# ## Adam
#
# Plain gradient descent has one learning rate for all parameters. In a narrow valley, the learning rate that is safe
# across the valley is far too small along it. **Adam** (Kingma and Ba) divides each parameter's gradient by its typical
# size:
#
# $$m_k = \beta_1 m_{k-1} + (1 - \beta_1)\, g_k, \qquad v_k = \beta_2 v_{k-1} + (1 - \beta_2)\, g_k^2 ,$$
#
# $$\theta_k = \theta_{k-1} - \eta \; \frac{\hat m_k}{\sqrt{\hat v_k} + \epsilon}, \qquad
# \hat m_k = \frac{m_k}{1 - \beta_1^k}, \quad \hat v_k = \frac{v_k}{1 - \beta_2^k} .$$
#
# $m$ is a running mean of the gradient, $v$ one of its square. $\sqrt{v}$ has the units of a gradient, so the quotient
# has none: it is about $\pm 1$ where the gradient always has the same sign, and about 0 where the sign keeps changing.
#
# Why divide by $1 - \beta^k$? Unroll the recursion from $m_0 = 0$:
#
# $$\begin{aligned}
# m_K &= (1 - \beta_1)\, g_K + \beta_1 m_{K-1} \\
# &= (1 - \beta_1) \big( g_K + \beta_1 g_{K-1} + \beta_1^2 g_{K-2} + \dots + \beta_1^{K-1} g_1 \big) .
# \end{aligned}$$
#
# The weights form a geometric series, and they add up to
#
# $$(1 - \beta_1) \sum_{i=0}^{K-1} \beta_1^i = (1 - \beta_1) \cdot \frac{1 - \beta_1^K}{1 - \beta_1}
# = 1 - \beta_1^K < 1 .$$
#
# So $m_K$ is a weighted mean times $1 - \beta_1^K$. Because $m$ starts at zero, it is too small, at first by a large
# factor. Dividing by the sum makes the weights add up to 1.
#
# The next cell shows the whole step in the one-page VRNN, `tinyvrnn.one_page`, which clips first. The one after it
# shows the package's optimiser, which updates one flat parameter vector in place. Its arithmetic is in `adam_step`,
# which a GPU runs as a single kernel (see [10](10_one_code_two_backends.ipynb)).

# %%
tv.course.show(one_page.adam)

# %%
tv.course.show(Adam)

# %% [markdown]
# > **Function** `tinyvrnn.training.optim.Adam` · **held by** `tests/test_training.py::test_adam_follows_its_formula`
#
# ### Exercise 08.4 (derive): the corrected mean, without the recursion
#
# Write $\hat m_K$ as a single weighted sum of the gradients $g_1 \dots g_K$, which are the rows of `g` $(K, P)$.


# %%
def my_corrected_mean(g, b1):
    """m_hat (P,) from g (K, P), the oldest gradient first, and b1."""
    ### BEGIN SOLUTION
    age = np.arange(len(g))[::-1]  # the newest gradient has age 0
    weights = ((1 - b1) * b1**age / (1 - b1 ** len(g))).astype(g.dtype)
    return weights @ g
    ### END SOLUTION


# %%
tv.course.check("08.4", my_corrected_mean)

# %% [markdown]
# ### Exercise 08.5 (write): a step of Adam
#
# `k` counts the steps including this one: in the first step it is 1. `eps` is outside the square root.


# %%
def my_adam_step(theta, g, m, v, k, lr, b1, b2, eps):
    """theta, m, v after the step, (P,) each; new arrays."""
    ### BEGIN SOLUTION
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g * g
    theta = theta - lr * (m / (1 - b1**k)) / (np.sqrt(v / (1 - b2**k)) + eps)
    return theta, m, v
    ### END SOLUTION


# %%
tv.course.check("08.5", my_adam_step)

# %% [markdown]
# Here is such a valley, $L(\theta) = \frac12 (\theta_1^2 + 100\, \theta_2^2)$, with the gradient $(\theta_1, 100\,
# \theta_2)$. Plain descent multiplies $\theta_2$ by $1 - 100 \eta$ in each step, so it needs $\eta < 0.02$, and then
# $\theta_1$ shrinks by less than 2 per cent per step.


# %%
def gradient(theta):
    return theta * np.array([1.0, 100.0])


plain, adam = [np.array([-4.0, 1.0])], [np.array([-4.0, 1.0])]
theta = adam[0].copy()
optimiser = Adam(theta)
for _ in range(60):
    plain.append(plain[-1] - 0.019 * gradient(plain[-1]))
    optimiser.step(theta, gradient(theta), lr=0.25)
    adam.append(theta.copy())
plain, adam = np.array(plain), np.array(adam)

first = adam[1] - adam[0]
ratio = abs(gradient(adam[0])[1] / gradient(adam[0])[0])
print(f"Adam's first step: {first.round(4)}, though one gradient is {ratio:g} times the other")
assert np.allclose(np.abs(first), 0.25) and abs(plain[-1][0]) > 1 > abs(adam[-1][0])

# %%
a, b = np.meshgrid(np.linspace(-4.6, 1.2, 99), np.linspace(-1.25, 1.25, 99))
figure, axes = plt.subplots(figsize=(7, 3))
axes.contour(a, b, 0.5 * (a**2 + 100 * b**2), levels=[0.5, 2, 8, 20, 40, 70], colors="0.8", linewidths=0.8)
axes.plot(*plain.T, "s--", markersize=3, linewidth=1, color=tv.plots.COLOURS[1], label="plain descent")
axes.plot(*adam.T, "o-", markersize=3, linewidth=1, color=tv.plots.COLOURS[0], label="Adam")
axes.plot(0, 0, "k*", markersize=10)
axes.set(xlabel=r"$\theta_1$", ylabel=r"$\theta_2$", title="Sixty steps: one step size for all, or one per parameter")
axes.legend(loc="upper right");
# %% [markdown]
# The first step shows the principle: $\hat m_1 = g_1$ and $\hat v_1 = g_1^2$, so each parameter moves by $\eta$ towards
# lower loss, whatever the size of its gradient.
#
# This has a consequence for clipping. Multiply **all** gradients by 1000: $m$ and $\sqrt v$ grow by the same factor,
# and Adam's path stays the same except for $\epsilon$. So gradients that are always large need no clipping. A single
# **outlier** does: it would dominate $v$. Since $v$ forgets slowly ($\beta_2 = 0.999$, about a thousand steps), all
# steps would then be too short for a long time.

# %%
rng = np.random.default_rng(0)
gradients = rng.standard_normal((200, 3)) + 0.3
ends = {}
for scale in (1.0, 1000.0):
    theta = np.zeros(3)
    optimiser = Adam(theta)
    for g in gradients:
        optimiser.step(theta, scale * g)
    ends[scale] = theta
print("the two paths end at", ends[1.0].round(3), "and at", ends[1000.0].round(3))
assert np.abs(ends[1.0] - ends[1000.0]).max() < 1e-6 < np.abs(ends[1.0]).min()

# %% [markdown]
# ## KL warm-up
#
# At the start of training the decoder ignores $z$, so a $z$ that carries information about $x$ costs KL and gains
# nothing. The fastest way to reduce the loss is to make $q$ equal to the prior. By the time the decoder can use $z$,
# there is no information in it. The usual remedy is a weight on the KL that rises from 0 to 1 over the first steps:
#
# $$\mathrm{loss}_\beta = \frac1B \sum_b \big( \beta\, \mathrm{KL}_b - \log p_b \big), \qquad
# \beta_s = \min\!\Big(1, \frac{s + 1}{S}\Big), \quad s = 0, 1, 2, \dots$$
#
# With $\beta < 1$, the negative loss is not a bound: it can exceed $\log p(x)$. So the **reported** bound always uses
# $\beta = 1$. Otherwise a run would look best right after its start.
#
# ### Exercise 08.6 (bug): warm-up, with two bugs
#
# The function below should return the loss and the bound. It has two bugs. Find and fix them.
#
# ```python
# def loss_and_bound(log_likelihood, kl, step, warm_steps):
#     beta = (step + 1) / warm_steps if warm_steps else 1.0
#     loss = (beta * kl - log_likelihood).mean()
#     return loss, -loss
# ```


# %%
def my_loss_and_bound(log_likelihood, kl, step, warm_steps):
    """loss, bound: nats per sequence, from log_likelihood and kl (B,), the step s (counted from 0) and S."""
    ### BEGIN SOLUTION
    beta = min(1.0, (step + 1) / warm_steps) if warm_steps else 1.0
    return (beta * kl - log_likelihood).mean(), (log_likelihood - kl).mean()
    ### END SOLUTION


# %%
tv.course.check("08.6", my_loss_and_bound)

# %% [markdown]
# ## Digits from scratch
#
# `tv.train` combines all of this: batches in a new order each epoch, fresh noise for each step, the gradient, clipping,
# and a step of Adam. After each epoch it computes the bound on the validation digits, and it keeps the best weights.
# This takes about twenty seconds.

# %% tags=["volatile"]
model = tv.VRNN(x_dim=28, h_dim=80, z_dim=16, seed=0)
records = tv.train(
    model, data, epochs=8, warmup=2, batch=32, lr=6e-3, seed=0, workers=1, progress=False
)  # one worker: the order of summation does not depend on the number of cores

# %% [markdown]
# ### Learning curves: ELBO, log-likelihood and KL by epoch

# %% tags=["volatile"]
tv.plots.curves(records, data.units)

# %%
test = tv.bounds.evaluate_elbo(model, data.test)
print("nats per test digit, to the nearest 10:")
print(f"  ELBO, a lower bound of log p(x)  {10 * round(test.elbo_per_sequence / 10)}")
print(f"  log p(x), Markov baseline        {10 * round(floors['Markov'] / 10)}")
assert test.elbo_per_sequence > floors["Markov"] + 40
assert np.isclose(test.elbo_per_step * 28, test.elbo_per_sequence)
assert records[0]["beta"] == 0.5 and records[1]["beta"] == records[-1]["beta"] == 1.0
assert records[0]["train"]["kl"] > 2 * records[-1]["train"]["kl"] and (
    records[0]["grad_norm"] > max(50, records[-1]["grad_norm"])
)

# %% [markdown]
# Look at the plot on the right. While $\beta$ is small, KL is cheap and the model uses a lot of it. As $\beta$ reaches
# 1, the KL falls to the amount that still pays off in likelihood. Early gradients are longer than the clipping
# threshold of 50, so clipping is active at the start and less and less often later.
#
# The comparison with the baseline is fair: a lower bound of $\log p(x)$ exceeds the baseline's exact $\log p(x)$.

# %% [markdown]
# ### Samples

# %% tags=["volatile"]
tv.plots.samples(
    tv.to_host(model.sample(n=48, steps=28, seed=1)),
    binary=True,
    columns=8,
    title="48 samples of the model, not selected",
)

# %% [markdown]
# Most digits are legible, some are not. Compare them with the test digits at the top of the notebook: the difference is
# what the bound measures.
#
# ### What the latents store
#
# The upper row shows test digits, the lower one the mean of $p(x_t \mid z_{\le t}, x_{<t})$ with $z$ from the
# posterior. These are not reconstructions from $z$ alone: the model has seen all rows above the one it draws. It has
# seen *this* row only through $z_t$. Fewer than 5 pixels in 100 are on the wrong side of 1/2.

# %%
x, lengths = tv.pad(data.test[:12])
mean = tv.to_host(model.reconstruct(x, lengths))
wrong = np.mean((mean > 0.5) != x)
assert wrong < 0.05
tv.plots.reconstructions(
    x[:, :8], mean[:, :8], lengths, binary=True, title="Test digits, and the mean of each row given z"
)

# %% [markdown]
# ### Completing a digit
#
# `sample(prime=...)` runs the posterior (Eq. 9) over the given rows, then continues by ancestral sampling (Eq. 8). Many
# lower halves fit an upper half, and a good model produces several. The left column is the test digit.

# %% tags=["volatile"]
chosen, half, n = [4, 5, 8, 1, 14], 14, 9
figure, grid = plt.subplots(len(chosen), n + 1, figsize=(7.2, 4))
figure.suptitle("Nine continuations of a test digit: the part above the line is given", x=0.01, ha="left", fontsize=10)
grid[0, 0].set_title("data", fontsize=9, loc="center")
for row, index in zip(grid, chosen):
    digit = np.asarray(data.test[index], dtype="float32")
    prime = np.repeat(digit[:half, None], n, axis=1)
    continued = tv.to_host(model.sample(steps=28 - half, seed=3, prime=prime))
    for axes, picture in zip(row, [digit, *np.moveaxis(continued, 1, 0)]):
        axes.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
        axes.axhline(half - 0.5, color=tv.plots.COLOURS[1], linewidth=1)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="0.85")
    assert (continued[:half] == prime).all()

# %% [markdown]
# ## Where the KL is spent
#
# The total KL does not show at which step and in which latent it arises. The KL of diagonal Gaussians is a sum over the
# latent dimensions, so we can plot it for each step $t$ and each $z_j$. This needs only the encoder's loop.


# %%
def kl_by_step_and_latent(model, sequences):
    """(T, Z): the KL at each step and latent, in nats, averaged over sequences of equal length."""
    x, _ = tv.pad(sequences)
    eps = noise.standard_normal((*x.shape[:2], model.z_dim), model.dtype, 0, "look")
    p, asarray = model.params, model.backend.asarray
    phi_x, _ = features_forward(p["phi_x"], asarray(x))
    loop = schedule.loop_forward(p, phi_x, asarray(eps))
    mu_z, s = split(loop.o)
    (mu_0, sigma_0), _ = prior_forward(p["prior"], loop.h[:-1])
    four = [v[..., None] for v in (mu_z, sigma_of(s), mu_0, sigma_0)]  # the KL sums over the last axis
    kl, _ = gaussian_kl_forward(*four)
    return tv.to_host(kl.mean(axis=1))


kl = kl_by_step_and_latent(model, data.test)
assert abs(kl.sum() / test.kl_per_sequence - 1) < 0.02  # different noise, the same total
carried = np.sort(kl.sum(axis=0))[::-1]
assert carried[:4].sum() > 0.8 * carried.sum() and kl.sum(axis=1)[:3].sum() < kl.sum(axis=1)[4:7].sum()

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.9))
left.bar(np.arange(28), kl.sum(axis=1), color=tv.plots.COLOURS[0])
left.set(xlabel="step t (row of the digit, from the top)", ylabel="KL, nats", title="Spent where the pen comes down")
right.bar(np.arange(16), kl.sum(axis=0), color=tv.plots.COLOURS[0])
right.set(xlabel="latent dimension j", ylabel="KL, nats per digit", xticks=range(0, 16, 3))
right.set_title("A few latents carry the KL");

# %% [markdown]
# The first rows of a digit are nearly always empty: there is little to encode, so the KL is small. Then the pen comes
# down, and the rows above do not determine where it goes: that is the information in $z_t$.
#
# The model uses only a handful of its 16 latents. The posterior of the others equals their prior, which costs nothing.
# That is the optimum for this model, not a fault. But what if **all** latents do that?
#
# ## Posterior collapse
#
# If $q(z_t \mid \cdot) = p(z_t \mid \cdot)$ for all latents, then KL = 0, $z$ is noise, and the VRNN is a plain RNN
# with an expensive random input. This is **posterior collapse**. It has two causes: a decoder strong enough to do
# without $z$, and an early phase in which $z$ does not yet pay for its KL.
#
# Both are easy to produce. The digits of `digits8` have 8 steps of 8 pixels, and $h_{t-1}$ remembers all earlier rows.
# We write the training loop out once, with the KL weights as an argument. The step is **your** Adam of 08.5 (the
# package's, until yours has passed):


# %%
def by_the_package(theta, g, m, v, k, lr, b1, b2, eps):
    optimiser, theta = Adam(theta, lr, b1, b2, eps), theta.copy()
    optimiser.m[...], optimiser.v[...], optimiser.k = m, v, k - 1
    optimiser.step(theta, g)
    return theta, optimiser.m, optimiser.v


my_adam = tv.course.mine("08.5", otherwise=by_the_package)


def fit(model, data, betas, epochs=40, batch=64, lr=5e-3):
    """Train with the KL weight betas[s] in step s; the learning rate falls to 0 along half a cosine."""
    theta, s = tv.to_host(model.theta).copy(), 0
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for epoch in range(epochs):
        for x, lengths, _ in tv.data.batches(data.train, batch, seed=0, epoch=epoch):
            eps = noise.standard_normal((*x.shape[:2], model.z_dim), model.dtype, 0, "train", s)
            _, grads, _ = model.loss_and_grads(x, lengths, eps, beta=float(betas[s]))
            clip_by_global_norm(grads, 50.0)
            rate = lr * 0.5 * (1 + float(np.cos(np.pi * s / len(betas))))
            s += 1
            theta, m, v = my_adam(theta, tv.to_host(grads), m, v, s, rate, 0.9, 0.999, 1e-8)
            model.theta[...] = model.backend.asarray(theta.astype(model.dtype))
    assert s == len(betas)


small = tv.load_data("digits8")
steps_per_epoch = -(-len(small.train) // 64)
s = np.arange(40 * steps_per_epoch)
plans = {
    "KL at once": np.ones(len(s)),
    "KL four times": np.full(len(s), 4.0),
    "warm-up": np.minimum(1, (s + 1) / (10 * steps_per_epoch)),
}
fitted = {name: tv.VRNN(x_dim=8, h_dim=32, z_dim=8, seed=0) for name in plans}
for name, betas in plans.items():
    fit(fitted[name], small, betas)

# %% [markdown]
# A latent is called **active** if its KL, averaged over the steps, is above 0.01 nats.

# %% tags=["volatile"]
bars = {name: kl_by_step_and_latent(m, small.valid) for name, m in fitted.items()}
active = {name: int((kl.mean(axis=0) > 0.01).sum()) for name, kl in bars.items()}
bound = {name: tv.bounds.evaluate_elbo(m, small.valid) for name, m in fitted.items()}
for name in plans:
    print(f"{name:14} active latents {active[name]} of 8, KL {bound[name].kl_per_sequence:4.1f} nats per digit")

figure, grid = plt.subplots(1, 3, figsize=(7.4, 2.6), sharey=True)
for axes, (name, kl), colour in zip(grid, bars.items(), (1, 3, 2)):
    axes.bar(np.arange(8), kl.sum(axis=0), color=tv.plots.COLOURS[colour])
    axes.set(xlabel="latent dimension j", xticks=range(8))
    axes.set_title(f"{name}: {active[name]} active", fontsize=11)
    axes.axhline(0.01 * 8, color="0.5", linewidth=0.8, linestyle=":")
grid[0].set_ylabel("KL, nats per digit")
figure.suptitle("Without warm-up, every latent collapses", x=0.01, ha="left")

assert active["KL at once"] == active["KL four times"] == 0 < 2 <= active["warm-up"]
assert bound["KL at once"].kl_per_sequence < 0.3 and bound["warm-up"].kl_per_sequence > 3

# %% [markdown]
# In two models every latent has collapsed. The warm-up prevents it, with the same model, the same seed and the same
# number of steps.
#
# But is the model with warm-up better? Look at the bound.

# %% tags=["volatile"]
for name in ("KL at once", "KL four times"):
    ahead = bound[name].elbo_per_sequence - bound["warm-up"].elbo_per_sequence
    print(f"{name:14} validation ELBO {ahead:.1f} nats per digit above that with warm-up")
    assert 0 < ahead < 1

# %% [markdown]
# Both **collapsed** models have the higher bound, though by less than a nat. This is no contradiction: the bound
# measures how well the model predicts $x$, not how it does so. On eight rows of eight pixels the recurrence alone
# predicts well, and every nat that goes through $z$ costs KL. Warm-up gives you latents that carry information, but
# here it does not give you a better bound. (The large digits may differ: train them with `warmup=0` and compare.)
#
# Two conclusions follow. A good bound does not mean that the latents are used: count the active ones. And if you want
# latents (to inspect, to control, to continue in several ways), put that into the objective, because the bound does not
# ask for them.
#
# ## The latent explorer
#
# Back to the large digits. Take one drawing, keep all its noise fixed, and shift one latent at every step by -2 to 2
# standard deviations of the prior:
#
# $$z_{t,j} = \mu_{0,j} + \sigma_{0,j}\, (\epsilon_{t,j} + \text{move}) .$$
#
# All changes along a row come from that one latent. The rows show the latents that change the drawing most.
#
# > **Function** `tinyvrnn.course.explorer.explore` · **held by**
# > `tests/test_explorer.py::test_nothing_moved_is_a_sample_of_the_model`

# %% tags=["volatile"]
tv.course.explore(model, dims=4, seed=0, sliders=False)

# %% [markdown]
# One of the latents changes the amount of ink more than threefold. No term of the objective asks for that. But the
# amount of ink is not determined by the digit's upper rows, and it is among the cheapest such facts to encode.
#
# Now shift $z$ at one step only, at row 6. The rows above do not change, and the amount of ink changes less. But even
# one step can turn the drawing into another digit, and the rows below follow, because the state remembers the digit
# that it is drawing.

# %% tags=["volatile"]
tv.course.explore(model, dims=3, seed=0, at=6, sliders=False)

# %%
inks = {}
for j in tv.course.explorer.strongest(model)[:4]:
    moves = np.zeros((9, model.z_dim))
    moves[:, j] = np.linspace(-2, 2, 9)
    _, everywhere = tv.course.explorer.moved(model, moves)
    _, once = tv.course.explorer.moved(model, moves, at=6)
    assert (once[:6] == once[:6, :1]).all()
    inks[int(j)] = everywhere.sum(axis=(0, 2)), once.sum(axis=(0, 2))
everywhere, once = max(inks.values(), key=lambda pair: np.ptp(pair[0]))
assert everywhere.max() > 3 * everywhere.min() and np.ptp(once) < np.ptp(everywhere)

# %% [markdown]
# In an environment with widgets (JupyterLab, Notebook, VS Code) the next cell shows sliders. Choose another `seed` for
# another digit. Without widgets, use the pictures above.

# %% tags=["volatile"]
figure = tv.course.explore(model, dims=4, seed=0)

# %% [markdown]
# ## What you now know
#
# - Nats per step are a total divided by a total, not a mean of means.
# - Clipping multiplies all gradients by one factor, before the step. After the step it has no effect, and nothing warns
#   you.
# - Adam's step has no units: it is the mean of the gradient divided by its root mean square, both corrected for their
#   start at 0.
# - With a KL weight below 1 the negative loss is not a bound. Report the bound with weight 1.
# - A good bound does not show that the latents are used. Count the active ones.
#
# Continue with [09 · How tight is the bound?](09_how_tight.ipynb): training maximises something *below* $\log p(x)$.
# How far below?
