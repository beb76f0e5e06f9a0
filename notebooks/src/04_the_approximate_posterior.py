# %% [markdown]
# # 04 · The approximate posterior
#
# A VRNN explains a sequence by latents that nobody observed. Which latents are likely, given the observations? The
# exact answer cannot be computed, so a network approximates it: Eq. 9 and 10. In this notebook you see what the network
# reads, draw from it in a loop, and compute the cost of never looking ahead.
#
# *You need*: the bound and its gap from [02](02_the_vae.ipynb), the model from
# [03](03_the_generative_story.ipynb). *It takes* about 1 h 35 min.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn import one_page
from tinyvrnn.models import equations, schedule, stepwise

tv.plots.use_style()
rng = np.random.default_rng(0)
BLUE, RED, GREEN = tv.plots.COLOURS[:3]

# %% [markdown]
# ## Eq. 10: one factor for each step
#
# Write $x_{\le T}$ for a whole sequence and $z_{\le T}$ for its latents. The approximate posterior is a product over
# time:
#
# $$q(z_{\le T} \mid x_{\le T}) = \prod_{t=1}^{T} q(z_t \mid x_{\le t}, z_{<t}) . \tag{10}$$
#
# Factor $t$ may read the past and present of $x$, $x_{\le t}$, and the past draws $z_{<t}$. It may not read
# $x_{t+1}, \dots, x_T$. Such a posterior, which can be computed while the data come in, is called a **filter**; one
# that waits for the end of the sequence is called a **smoother**.
#
# ## Eq. 9: each factor is a Gaussian
#
# $$z_t \mid x_t \sim \mathcal N\big(\mu_{z,t}, \mathrm{diag}(\sigma_{z,t}^2)\big), \qquad
# [\mu_{z,t}, \sigma_{z,t}] = \varphi^{\mathrm{enc}}\big(\varphi^x(x_t), h_{t-1}\big) . \tag{9}$$
#
# The present enters through the features $\varphi^x(x_t)$. The whole past, $x_{<t}$ and $z_{<t}$, enters through one
# vector, the state $h_{t-1}$: by Eq. 7 it is a function of them. Eq. 5 and 6 read the same state. Below is the paper's
# Fig. 1d, with the arrows of Eq. 9 in colour and the rest of the step in grey.

# %%
places = {"$h_{t-1}$": (0, 1), "$z_t$": (1, 2), "$x_t$": (1, 0), "$h_t$": (2, 1)}


def arrow(axes, start, end, colour, bend=0.0, **style):
    style = {"arrowstyle": "-|>", "shrinkA": 20, "shrinkB": 20, "mutation_scale": 16} | style
    how = dict(color=colour, connectionstyle=f"arc3,rad={bend}", **style)
    axes.annotate("", places[end], places[start], arrowprops=how)


figure, axes = plt.subplots(figsize=(6.4, 3.6))
for start, end in [("$z_t$", "$h_t$"), ("$x_t$", "$h_t$"), ("$h_{t-1}$", "$h_t$"), ("$h_{t-1}$", "$x_t$")]:
    arrow(axes, start, end, "0.8")
arrow(axes, "$z_t$", "$x_t$", "0.8", bend=0.35)
arrow(axes, "$x_t$", "$z_t$", RED, bend=0.35, lw=2.2, ls="--")
arrow(axes, "$h_{t-1}$", "$z_t$", RED, lw=2.2, ls="--")
for name, (x, y) in places.items():
    shape = dict(boxstyle="square,pad=0.5" if "h" in name else "circle,pad=0.4", fc="white", ec="0.2", lw=1.2)
    axes.text(x, y, name, ha="center", va="center", bbox=shape, fontsize=13, zorder=3)
axes.text(1.3, 2, "inferred, Eq. 9", color=RED, va="center")
axes.text(1.3, 0, "observed", va="center", color="0.3")
axes.set(xlim=(-0.4, 2.6), ylim=(-0.4, 2.4), title="Fig. 1d: inference from observation and state")
axes.axis("off")
plt.show()

# %% [markdown]
# > **Function** `tinyvrnn.models.equations.infer_forward` · **held by**
# > `tests/test_equations.py::test_each_equation_equals_the_plain_rewrite`

# %%
tv.course.show(equations.infer_forward)

# %% [markdown]
# `_network_forward` is an MLP that reads both inputs, followed by a **head**: a linear layer whose output is split into
# two halves, $\mu$ and $s$, with $\sigma = \mathrm{softplus}(s) + 10^{-4}$.
#
# ### Exercise 04.1 (write): the encoder
#
# Write Eq. 9 with one hidden layer. `p` holds `W1` $(F + H, F)$, whose first $F$ rows multiply $\varphi^x(x_t)$ and
# whose last $H$ rows multiply $h_{t-1}$; the bias `b1`; and the head's `W_out` $(F, 2Z)$ and `b_out`. The hidden layer
# is a ReLU layer, $\max(\cdot, 0)$. Return `mu_z, sigma_z`. (Where the head gives $\pm 800$, $e^a$ overflows: use
# `tv.nn.activations.softplus`.)


# %%
def my_infer(p, phi_x, h):
    """mu_z, sigma_z (..., Z) from phi_x (..., F) and h_{t-1} (..., H)."""
    ### BEGIN SOLUTION
    y = np.maximum(np.concatenate([phi_x, h], axis=-1) @ p["W1"] + p["b1"], 0)
    mu_z, s = np.split(y @ p["W_out"] + p["b_out"], 2, axis=-1)
    return mu_z, tv.nn.activations.softplus(s) + 1e-4
    ### END SOLUTION


# %%
tv.course.check("04.1", my_infer)

# %% [markdown]
# ## What each step depends on
#
# Take a VRNN with random weights and fixed noise. Change one $x_s$, and see which $\mu_{z,t}$ change. Then change one
# draw $z_s$, through its noise $\epsilon_s$, and see again.
#
# ### Exercise 04.2 (predict): who reads $x_3$?
#
# $T = 5$, and only $x_3$ changes. For which $t$, counted from 1, does $\mu_{z,t}$ change? Answer with a set, e.g.
# `{1, 5}`.

# %%
prediction = None
### BEGIN SOLUTION
prediction = {3, 4, 5}
### END SOLUTION

# %%
tv.course.check("04.2", prediction)

# %% [markdown]
# Now do this for all $s$ at once, in a batch of $T$ sequences: in sequence $s$, step $s$ is changed.

# %%
T = 6
model = tv.VRNN(x_dim=3, h_dim=16, z_dim=2, features=16, likelihood="gaussian", dtype="float64", seed=1)
model.theta = 1.5 * rng.standard_normal(model.theta.shape) / 4


def means(x, eps):
    """mu_z (T, B, Z) for x (T, B, X) and eps (T, B, Z), all on the host."""
    x, eps = (model.backend.asarray(a) for a in (x, eps))
    phi_x, _ = equations.features_forward(model.params["phi_x"], x)
    return tv.to_host(schedule.loop_forward(model.params, phi_x, eps).o)[..., :2]


x, eps = (np.repeat(rng.standard_normal((T, 1, width)), T, axis=1) for width in (3, 2))
one_each = np.eye(T)[:, :, None]
by_x, by_eps = (
    abs(moved - means(x, eps)).max(axis=-1) for moved in (means(x + one_each, eps), means(x, eps + one_each))
)
ahead, ahead_or_now = np.triu(np.ones((T, T)), 1) > 0, np.triu(np.ones((T, T))) > 0
assert by_x[ahead].max() < 1e-12 and by_x[~ahead].min() > 1e-6
assert by_eps[ahead_or_now].max() < 1e-12 and by_eps[~ahead_or_now].min() > 1e-6

# %%
figure, panels = plt.subplots(1, 2, figsize=(7.4, 3.7))
figure.suptitle("How far each posterior mean moves (a dot: not at all)", x=0.01, ha="left", fontsize=11)
for axes, moved, name in zip(panels, (by_x, by_eps), ("x_s", "z_s")):
    axes.imshow(np.where(moved > 1e-9, 0.35 + moved / moved.max(), 0), cmap="Blues", vmin=0, vmax=1.6)
    for t, s in np.ndindex(T, T):
        text, ink = f"{moved[t, s]:.2f}" if moved[t, s] > 1e-9 else "·", "wk"[bool(moved[t, s] < 0.7 * moved.max())]
        axes.text(s, t, text, ha="center", va="center", fontsize=9, color=ink)
    axes.set(xlabel=f"step s of the ${name}$ that is changed", ylabel=r"step t of $\mu_{z,t}$")
    axes.set(xticks=range(T), yticks=range(T), xticklabels=range(1, T + 1), yticklabels=range(1, T + 1))
plt.show()

# %% [markdown]
# The left triangle includes its diagonal: $q(z_t \mid \cdot)$ reads $x_{\le t}$. The right one does not: it reads
# $z_{<t}$. These are the conditions of Eq. 10, measured on the running code.
#
# ## What this family can express
#
# Each factor is a Gaussian with independent entries, which sounds restrictive. But the parameters of $z_2$ depend,
# through a network, on the $z_1$ that was drawn. So over many draws, the $z$ of two steps are **not** independent, and
# $z_2$ alone is **not** Gaussian: it is a mixture of infinitely many Gaussians, one for each $z_1$.

# %%
draws, own = 4000, np.random.default_rng(1)
bendy = tv.VRNN(x_dim=3, h_dim=16, z_dim=1, features=16, likelihood="gaussian", dtype="float64")
bendy.theta = 0.5 * own.standard_normal(bendy.theta.shape)
one_x = np.repeat(own.standard_normal((2, 1, 3)), draws, axis=1)
noise = bendy.backend.asarray(own.standard_normal((2, draws, 1)))
phi_x, _ = equations.features_forward(bendy.params["phi_x"], bendy.backend.asarray(one_x))
loop = schedule.loop_forward(bendy.params, phi_x, noise)
(z_1, z_2), mu_2 = tv.to_host(loop.z)[..., 0], tv.to_host(loop.o)[1, :, 0]
skew, error = np.mean((z_2 - z_2.mean()) ** 3) / z_2.std() ** 3, np.sqrt(6 / draws)
print(f"skewness of z_2: {skew:.2f}; a Gaussian's would be 0 ± {error:.2f}")
assert abs(skew) > 4 * error

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.4), sharey=True, width_ratios=[2, 1])
left.plot(z_1, z_2, ".", markersize=2, alpha=0.5, color=BLUE, label="draws")
left.plot(np.sort(z_1), mu_2[np.argsort(z_1)], color=RED, label=r"$\mu_{z,2}$")
left.set(xlabel="$z_1$", ylabel="$z_2$", title="4,000 draws of q, given one x")
left.legend(markerscale=5)
right.hist(z_2, bins=60, density=True, orientation="horizontal", color=BLUE)
right.set(xlabel="density", title="Step 2 alone")
plt.show()

# %% [markdown]
# ## The loop that draws $z$
#
# To draw $z_t$ you need $h_{t-1}$, and to compute that you need $z_{t-1}$. So this part of the model cannot run for all
# $t$ at once: it alternates between a draw and the recurrence. Here is the literal version of a whole step, in the
# paper's order:
#
# > **Function** `tinyvrnn.models.stepwise.step_forward` · **held by**
# > `tests/test_autograd.py::test_loss_and_gradient_equal_the_plain_rewrite`

# %%
tv.course.show(stepwise.step_forward)

# %% [markdown]
# For training, the loop contains only Eq. 9, the draw and Eq. 7. Everything else runs outside the loop, for all $T$
# steps at once: before it the features $\varphi^x(x_t)$, since $x$ is known; after it the prior, the generation and the
# terms of the bound. Below is this arrangement in `tinyvrnn/one_page.py`. The package's `loop_forward` is the same
# loop, made fast: it writes into preallocated arrays, and also takes the products with $\varphi^x(x_t)$ out of the
# loop.
#
# > **Function** `tinyvrnn.models.schedule.loop_forward` · **held by**
# > `tests/test_schedule.py::test_batched_schedule_equals_the_literal_steps`

# %%
tv.course.show(one_page.forward)

# %% [markdown]
# Do the literal steps and `loop_forward` give the same states?

# %%
T, B = 8, 5
x, eps = (model.backend.asarray(rng.standard_normal((T, B, width))) for width in (3, 2))
phi_x, _ = equations.features_forward(model.params["phi_x"], x)
loop = schedule.loop_forward(model.params, phi_x, eps)

h, worst = model.backend.xp.zeros((B, 16), dtype="float64"), 0.0
for t in range(T):
    (_, _, h), _ = stepwise.step_forward(model.params, x[t], h, eps[t], model.likelihood)
    worst = max(worst, abs(tv.to_host(h) - tv.to_host(loop.h[t + 1])).max())
print(f"{T} steps of {B} sequences: the states agree to 1e-12: {worst < 1e-12}")
assert worst < 1e-12

# %% [markdown]
# ### Exercise 04.3 (bug): the loop that draws $z$
#
# This loop runs and returns arrays of the right shapes, but it has **two** bugs. Find them, and write a correct loop.


# %%
def draw_z_with_bugs(params, x, eps):
    z, h = [], [np.zeros((x.shape[1], params["recur"]["U"].shape[0]), dtype=x.dtype)]
    for x_t in x:
        phi_x, _ = equations.features_forward(params["phi_x"], x_t)
        (mu_z, sigma_z), _ = equations.infer_forward(params["infer"], phi_x, h[-1])
        z.append(mu_z + sigma_z * eps[0])
        phi_z, _ = equations.features_forward(params["phi_z"], mu_z)
        h_t, _ = equations.recur_forward(params["recur"], phi_x, phi_z, h[-1])
        h.append(h_t)
    return np.stack(z), np.stack(h)


# %%
def my_draw_z(params, x, eps):
    """z (T, B, Z) and h (T + 1, B, H) with h[0] = 0, from x (T, B, X) and eps (T, B, Z)."""
    ### BEGIN SOLUTION
    z, h = [], [np.zeros((x.shape[1], params["recur"]["U"].shape[0]), dtype=x.dtype)]
    for x_t, eps_t in zip(x, eps):
        phi_x, _ = equations.features_forward(params["phi_x"], x_t)
        (mu_z, sigma_z), _ = equations.infer_forward(params["infer"], phi_x, h[-1])
        z.append(mu_z + sigma_z * eps_t)
        phi_z, _ = equations.features_forward(params["phi_z"], z[-1])
        h_t, _ = equations.recur_forward(params["recur"], phi_x, phi_z, h[-1])
        h.append(h_t)
    return np.stack(z), np.stack(h)
    ### END SOLUTION


# %%
tv.course.check("04.3", my_draw_z)

# %% [markdown]
# ## Is $z_t$ assumed independent of the future?
#
# Eq. 10 has no $x_{>t}$ among its conditions. Does the VRNN claim that the future says nothing about $z_t$? **No.**
# Take a model so small that everything in it can be summed exactly.
#
# The weather $z_t$ is dry or rainy (0 or 1), and we do not see it. On each of two days somebody comes in with a coat
# $x_t$ that looks dry or wet. On day 1 the hall is dark, and we often misjudge the coat; on day 2 the lamp is on. The
# weather tends to stay the same. This is Eq. 8 for $T = 2$:
#
# $$p(x, z) = p(z_1)\, p(x_1 \mid z_1)\, p(z_2 \mid z_1)\, p(x_2 \mid z_2) .$$

# %%
p_z1 = np.array([0.5, 0.5])
p_x1 = np.array([[0.65, 0.35], [0.35, 0.65]])  # [z_1, x_1]: an unreliable observation
p_z2 = np.array([[0.9, 0.1], [0.1, 0.9]])  # [z_1, z_2]: the weather stays
p_x2 = np.array([[0.95, 0.05], [0.05, 0.95]])  # [z_2, x_2]: a reliable observation

joint = np.einsum("a,ax,ab,by->xyab", p_z1, p_x1, p_z2, p_x2)  # [x_1, x_2, z_1, z_2]
p_x = joint.sum(axis=(2, 3))
filtering = joint.sum(axis=(1, 3)) / joint.sum(axis=(1, 2, 3))[:, None]  # p(z_1 | x_1)
smoothing = joint.sum(axis=3) / p_x[..., None]  # p(z_1 | x_1, x_2)
second = joint / joint.sum(axis=3, keepdims=True)  # p(z_2 | z_1, x_1, x_2)

heights = [filtering[1, 1], smoothing[1, 0, 1], smoothing[1, 1, 1]]  # P(rain on day 1 | wet coat on day 1, ...)
assert abs(joint.sum() - 1) < 1e-12 and heights[1] < heights[0] < heights[2]

# %%
figure, axes = plt.subplots(figsize=(6.6, 3.2))
names = ["no data of day 2", "day 2: dry coat", "day 2: wet coat"]
bars = axes.bar(names, heights, width=0.5, color=[RED, BLUE, BLUE], hatch=["//", "", ""], edgecolor="white")
axes.bar_label(bars, fmt="%.2f")
axes.set(
    ylim=(0, 1.05), ylabel="P(rain on day 1)", title="Wet coat on day 1: did it rain that day?"
)
plt.show()

# %% [markdown]
# The true posterior of $z_1$ depends strongly on $x_2$: tomorrow's clear observation says more about today's weather
# than today's unclear one. In the **model**, $z_t$ and the future are dependent, and Eq. 10 does not deny it. It
# only chooses the **family** of $q$, and $q$ need not be the posterior. Why is that allowed?
#
# ## Eq. 11 is a bound for any $q$
#
# Let $q(z)$ be any distribution over the latents of one sequence $x$. We want $\log p(x)$. It does not depend on $z$,
# so it equals its mean over $q$; and $p(x) = p(x, z) / p(z \mid x)$ for every $z$:
#
# $$\begin{aligned}
# \log p(x) &= \mathbb E_q[\log p(x)] = \mathbb E_q\left[\log \frac{p(x, z)}{p(z \mid x)}\right] \\
# &= \underbrace{\mathbb E_q\left[\log \frac{p(x, z)}{q(z)}\right]}_{\text{ELBO}}
# + \underbrace{\mathbb E_q\left[\log \frac{q(z)}{p(z \mid x)}\right]}_{\mathrm{KL}(q \,\|\, p(z \mid x))} .
# \end{aligned}$$
#
# The last step multiplied and divided by $q(z)$. The KL is never negative: since $\log v \le v - 1$,
#
# $$-\mathrm{KL} = \mathbb E_q\left[\log \frac{p(z \mid x)}{q(z)}\right]
# \le \mathbb E_q\left[\frac{p(z \mid x)}{q(z)} - 1\right] \le 1 - 1 = 0 .$$
#
# (The mean over $q$ of $p(z \mid x) / q(z)$ is the sum of $p(z \mid x)$ over those $z$ that $q$ can draw: 1, or less if
# $q$ leaves some out.)
#
# So $\text{ELBO} \le \log p(x)$. Where did we use what $q$ reads? **Nowhere.** $q$ may read all of $x$, a part of it,
# or nothing. For two steps, the ELBO in the form of Eq. 11 is:


# %%
def kl(q, p):
    return np.sum(q * np.log(q / p), axis=-1)


def elbo(x1, x2, q1, q2):
    """Eq. 11 for T = 2, in nats: q1 [z_1], q2 [z_1, z_2]."""
    step_1 = q1 @ np.log(p_x1[:, x1]) - kl(q1, p_z1)
    step_2 = q1 @ (q2 @ np.log(p_x2[:, x2]) - kl(q2, p_z2))
    return step_1 + step_2


bounds = {}
for x1, x2 in np.ndindex(2, 2):
    bounds[x1, x2] = [elbo(x1, x2, rng.dirichlet([1, 1]), rng.dirichlet([1, 1], size=2)) for _ in range(500)]
    highest, exact = elbo(x1, x2, smoothing[x1, x2], second[x1, x2]), np.log(p_x[x1, x2])
    print(f"x = {x1}, {x2}: log p(x) {exact:.4f}, ELBO {max(bounds[x1, x2]):.4f} at most for 500 random q,", end=" ")
    print(f"{highest:.4f} for the true posterior")
    assert max(bounds[x1, x2]) < exact and abs(highest - exact) < 1e-12

# %%
figure, axes = plt.subplots(figsize=(6.6, 3.4))
for place, ((x1, x2), some) in enumerate(bounds.items()):
    axes.plot(place + np.random.default_rng(0).uniform(-0.25, 0.25, 500), some, ".", color="0.6", markersize=3)
    axes.plot([place - 0.35, place + 0.35], [np.log(p_x[x1, x2])] * 2, color=BLUE, lw=2)
axes.set(
    xticks=range(4), xticklabels=["0, 0", "0, 1", "1, 0", "1, 1"], xlabel="$x_1, x_2$", ylabel="nats", ylim=(-4.5, 0)
)
axes.set_title("The ELBO of 500 random q is never above log p(x) (lines)")
plt.show()

# %% [markdown]
# ### Exercise 04.4 (predict): what can come out above $\log p(x)$?
#
# Here are five recipes for the value of `elbo`, each tried on many random two-step models. Which of them come out
# **above** $\log p(x)$ for some model? Answer with a set of the words.
#
# - `"prior"`: q is the prior, $q(z_1) = p(z_1)$ and $q(z_2 \mid z_1) = p(z_2 \mid z_1)$;
# - `"random"`: q is drawn at random;
# - `"future"`: $q(z_1)$ is computed from $x_2$, which the filter may not see;
# - `"half"`: a factor of 2 is missing, and $q(z_1)$ sums to one half;
# - `"swapped"`: the KLs have their arguments swapped, $\mathrm{KL}(p \,\|\, q)$.

# %%
prediction = None
### BEGIN SOLUTION
prediction = {"half", "swapped"}
### END SOLUTION

# %%
tv.course.check("04.4", prediction)

# %% [markdown]
# ## What the family costs
#
# The gap is $\mathrm{KL}\big(q(z_{\le T} \mid x_{\le T}) \,\|\, p(z_{\le T} \mid x_{\le T})\big)$, between
# distributions over whole sequences of latents. Factorise both with the chain rule. For $q$ this is Eq. 10. For the
# true posterior, all of $x$ stays in the condition of each factor:
#
# $$p(z_{\le T} \mid x_{\le T}) = \prod_{t=1}^T p(z_t \mid z_{<t}, x_{\le T}) .$$
#
# The logarithm turns both products into sums, and the mean of a sum is the sum of the means:
#
# $$\begin{aligned}
# \mathrm{KL} &= \mathbb E_q \left[ \log \frac{\prod_t q(z_t \mid z_{<t}, x_{\le t})}
# {\prod_t p(z_t \mid z_{<t}, x_{\le T})} \right] \\
# &= \sum_{t=1}^T \mathbb E_{q(z_{\le T})} \left[
# \log \frac{q(z_t \mid z_{<t}, x_{\le t})}{p(z_t \mid z_{<t}, x_{\le T})} \right] .
# \end{aligned}$$
#
# Term $t$ contains no $z_s$ with $s > t$. So integrate those out, starting from the last: each factor
# $q(z_s \mid z_{<s}, x_{\le s})$ is alone under its integral and gives 1. A mean over $z_{\le t}$ remains. Take it in
# two stages, $z_{<t}$ outside and $z_t$ inside. The inner mean is a KL by definition:
#
# $$\mathbb E_{q(z_{<t})} \left[ \int q(z_t \mid z_{<t}, x_{\le t})
# \log \frac{q(z_t \mid z_{<t}, x_{\le t})}{p(z_t \mid z_{<t}, x_{\le T})} \, dz_t \right] . $$
#
# Altogether:
#
# $$\boxed{\begin{aligned}
# &\log p(x_{\le T}) - \text{ELBO} \\
# &= \sum_{t=1}^T \mathbb E_{q(z_{<t})}
# \mathrm{KL}\big( q(z_t \mid z_{<t}, x_{\le t}) \,\|\, p(z_t \mid z_{<t}, x_{\le T}) \big)
# \end{aligned}}$$
#
# Each step pays for what the future says about its $z_t$. The **last** step pays nothing for that, because there
# $x_{\le t}$ is $x_{\le T}$. A step also pays nothing if, once $z_{<t}$ and $x_{\le t}$ are known, the future says
# nothing more about $z_t$. In addition, each step pays if its factor is not the best one possible: if no Gaussian fits,
# or if the network has not learned enough.
#
# ### Exercise 04.5 (derive): the price, step by step
#
# $T = 2$, and $x$ is fixed. You are given `joint` $(K, M)$, the numbers $p(z_1, z_2, x)$ for this $x$ (they sum to
# $p(x)$, not to 1), and any `q_1` $(K,)$ and `q_2` $(K, M)$, one row for each $z_1$. Return the two terms of the sum.


# %%
def my_price(joint, q_1, q_2):
    """The terms t = 1 and t = 2 of the gap, in nats, each a number."""
    ### BEGIN SOLUTION
    posterior_1 = joint.sum(axis=1) / joint.sum()  # p(z_1 | x)
    posterior_2 = joint / joint.sum(axis=1, keepdims=True)  # p(z_2 | z_1, x)
    price_1 = np.sum(q_1 * np.log(q_1 / posterior_1))
    price_2 = np.sum(q_1 * np.sum(q_2 * np.log(q_2 / posterior_2), axis=1))
    return price_1, price_2
    ### END SOLUTION


# %%
tv.course.check("04.5", my_price)

# %% [markdown]
# Now compute both sides of the boxed equation, the left side from `elbo` and the right side from the posteriors. Do it
# for the filter $q(z_1) = p(z_1 \mid x_1)$ with the exact second factor, and for a random $q$.

# %%
random_q2, random_q1 = rng.dirichlet([1, 1], size=2), rng.dirichlet([1, 1])
paid = {}
lines = ["x_1 x_2   q        gap      =  price of step 1 + price of step 2     (nats)"]
for x1, x2 in np.ndindex(2, 2):
    for name, q1, q2 in (("filter", filtering[x1], second[x1, x2]), ("random", random_q1, random_q2)):
        gap = np.log(p_x[x1, x2]) - elbo(x1, x2, q1, q2)
        of_1, of_2 = kl(q1, smoothing[x1, x2]), q1 @ kl(q2, second[x1, x2])
        lines.append(f" {x1}   {x2}    {name}  {gap:7.4f}   =      {of_1:7.4f}     +   {abs(of_2):7.4f}")
        assert abs(gap - (of_1 + of_2)) < 1e-12
        assert name == "random" or abs(of_2) < 1e-12
        paid[name, x1, x2] = gap
print("\n".join(lines))
assert max(paid["filter", 0, 0], paid["filter", 1, 1]) < min(paid["filter", 0, 1], paid["filter", 1, 0])

# %% [markdown]
# The filter pays on day 1 only, and it pays most when day 2 is a surprise ($x_1 \ne x_2$).
#
# ## The best filter is not the filtering distribution
#
# Training moves $q$ to the maximum of the bound. Which $q(z_1 \mid x_1)$ is that in our small model? An obvious
# candidate is $p(z_1 \mid x_1)$, the exact posterior given all that the filter reads. To find out, average the gap over
# the futures with their probabilities $p(x_2 \mid x_1)$, and try every $q$.

# %%
x1 = 1
weights = p_x[x1] / p_x[x1].sum()  # p(x_2 | x_1)
grid = np.linspace(0.002, 0.998, 499)
gaps = np.array([weights @ kl(np.array([1 - rain, rain]), smoothing[x1]) for rain in grid])
exact = filtering[x1, 1]
best = grid[np.argmin(gaps)]
print(f"mean gap: {gaps.min():.4f} nats at the minimum, {np.interp(exact, grid, gaps):.4f} at p(z_1 | x_1)")
assert gaps.min() > 0.1 and abs(best - exact) > 0.02

# %%
figure, axes = plt.subplots(figsize=(6.6, 3.4))
axes.plot(grid, gaps, color="0.3")
axes.plot(exact, np.interp(exact, grid, gaps), "s", color=RED, label=r"$p(z_1 \mid x_1)$")
axes.plot(best, gaps.min(), "o", color=BLUE, label="the minimum")
for x2, style in ((0, ":"), (1, "--")):
    axes.axvline(smoothing[x1, x2, 1], ls=style, color=GREEN, label=rf"$p(z_1 \mid x_1, x_2={x2})$")
axes.set(
    xlabel="q(rain on day 1 | wet coat)",
    ylabel="mean gap, nats",
    ylim=(0, 1.6),
    title="Every filter has a gap, and the best is not the obvious one",
)
axes.legend(loc="upper center")
plt.show()

# %% [markdown]
# ### Exercise 04.6 (derive): the best filter
#
# There are $M$ possible futures; future $m$ has probability `weights[m]`, and `posts[m]` is $p(z_1 \mid x_1, x_2 = m)$,
# a row of $K$ probabilities. The second factor is exact. Find the $q$ that minimises
#
# $$\sum_m w_m\, \mathrm{KL}(q \,\|\, p_m) = \sum_m w_m \sum_k q_k \log \frac{q_k}{p_{mk}}$$
#
# subject to $\sum_k q_k = 1$ (use a Lagrange multiplier; since $v \log v$ is convex, the sum is convex in $q$, so a
# point where its derivative vanishes **is** the minimum). Return `q` $(K,)$ and the minimum itself, the **price of not
# looking ahead**. Both have short formulas.


# %%
def my_best_filter(posts, weights):
    """q (K,), and the price, from posts (M, K) and weights (M,)."""
    ### BEGIN SOLUTION
    # d/dq_k of [sum_m w_m sum_k q_k (log q_k - log p_mk) + lam (sum_k q_k - 1)], with sum_m w_m = 1:
    #   log q_k + 1 - sum_m w_m log p_mk + lam = 0, so q_k = exp(sum_m w_m log p_mk) / C.
    # The sum over k is 1: C = sum_k exp(sum_m w_m log p_mk).
    # Put it in: log q_k - sum_m w_m log p_mk = -log C for every k, and its mean over q is -log C.
    unnormalised = np.exp(weights @ np.log(posts))
    return unnormalised / unnormalised.sum(), -np.log(unnormalised.sum())
    ### END SOLUTION


# %%
tv.course.check("04.6", my_best_filter)

# %% [markdown]
# Compare your formula with the curve above, for which we tried every $q$:

# %%
q, price = my_best_filter(smoothing[1], weights)
print(f"q(rain | wet coat): {q[1]:.3f} by formula, {best:.3f} on the grid; price {price:.4f} and {gaps.min():.4f}")
assert abs(q[1] - best) < 0.002 and 0 <= gaps.min() - price < 1e-4

# %% [markdown]
# ## What this means for a VRNN
#
# - The bound is valid for any $q$: a filter makes it looser, never wrong. A reported ELBO never overstates $\log p(x)$.
# - $q$ could look ahead, with a second network that reads $x$ from the end: Eq. 11 does not change. Such models exist,
#   e.g. [Fraccaro et al., 2016](https://arxiv.org/abs/1605.07571), and in the package `posterior="smoothing"` is one.
#   They need a second pass, and give no latents while the sequence is still coming in.
# - A filter runs as the data arrive, with the state that the generator needs anyway. To continue a sequence, draw
#   $z_{\le T}$ from $q$ and continue with the prior from $h_T$: `model.sample(prime=...)` does that.
# - Training raises $\log p(x) - \text{gap}$. So between two models that explain the data equally well, it chooses the
#   one whose true posterior a filter can match. The family not only loosens the bound; it also shapes what the model
#   learns.
#
# How large is the price in a VRNN with Gaussian latents? For a linear model, [09](09_how_tight.ipynb) computes it
# exactly, with a filter, a smoother and the bound of each.
#
# ## What you now know
#
# - Eq. 9 is one Gaussian, computed from $\varphi^x(x_t)$ and $h_{t-1}$; Eq. 10 is the product of these Gaussians, and
#   reads $x_{\le t}$ and $z_{<t}$.
# - Drawing from it takes a loop: $z_t$ needs $h_{t-1}$, and $h_{t-1}$ needs $z_{t-1}$.
# - Eq. 11 holds for any $q$ that sums to 1. Eq. 10 chooses a family and assumes nothing about the model.
# - The cost of that choice is a sum over the steps: each term is the KL between the filter's factor and the true
#   posterior given the whole sequence.
#
# On to [05 · The ELBO, line by line](05_the_elbo_line_by_line.ipynb), which puts it all together.
