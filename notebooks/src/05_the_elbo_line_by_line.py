# %% [markdown]
# # 05 · The ELBO, line by line
#
# This notebook derives Eq. 11 of the paper from $\log p(x)$, in nine lines. Each line is stated, proved, and then
# **run**: both sides are computed on a small model and have to agree.
#
# There are three kinds of lines:
#
# - some hold for **every draw** of $z$, to all digits;
# - some hold **on average** over draws, and are checked to within four standard errors;
# - one is an **inequality**, the only place where the bound loses anything.
#
# *You need*: [03](03_the_generative_story.ipynb) for Eq. 5 to 8, [04](04_the_approximate_posterior.ipynb) for Eq. 9
# and 10, [02](02_the_vae.ipynb) for the KL of two Gaussians. *It takes* about 1 h 50 min.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn.distributions import gaussian
from tinyvrnn.models import equations
from tinyvrnn.training.optim import Adam

tv.plots.use_style()
BLUE, RED, GREEN, PINK, AMBER = tv.plots.COLOURS[:5]

# %% [markdown]
# ## A model small enough to know completely
#
# A lamp is on or off. Two unreliable sensors observe it at three times. Each reading is wrong with probability 1/10,
# and between two times the lamp is switched with probability 1/5. So $x$ is three steps of two bits, and there are only
# $2^6 = 64$ different $x$. (The lamp itself is not in the data: $z$ has to represent it.)
#
# The model has **one** latent number per step. So $z = (z_1, z_2, z_3)$ is a point in three-dimensional space, and an
# integral over $z$ can be computed on a grid. In a VRNN of realistic size it cannot.


# %%
def lamps(rng, n):
    """n sequences x (3, n, 2) of the two sensors."""
    lamp = [rng.random((1, n)) < 0.5]
    for _ in range(2):
        lamp.append(lamp[-1] ^ (rng.random((1, n)) < 0.2))
    return (np.concatenate(lamp)[..., None] ^ (rng.random((3, n, 2)) < 0.1)).astype(float)


# %% [markdown]
# Train it briefly, for 300 steps of Adam, so that its $q$ is sensible. Two things are set by hand, so that the lines of
# the derivation are easy to tell apart:
#
# - the GRU's weights on $x_t$ are 0, so the state depends on the past **only through** $z$;
# - after training, $q$ is made a bit wider than the optimum.
#
# No line below depends on the training or on these two settings: each holds for every $p$ and every $q$. (Only the
# grids do: they need densities that are not too narrow, like those of this seed.)

# %%
rng = np.random.default_rng(0)
model = tv.VRNN(x_dim=2, h_dim=4, z_dim=1, features=8, layers=1, dtype="float64", seed=12)
asarray = model.backend.asarray
model.theta += asarray(0.1 * tv.noise.generator(5, "biases").standard_normal(model.theta.shape))
optimiser = Adam(model.theta, lr=0.01)
for _ in range(300):
    loss, gradient, _ = model.loss_and_grads(asarray(lamps(rng, 128)))
    optimiser.step(model.theta, gradient)
    model.params["recur"]["W"][: model.features] = 0
model.params["infer"]["b_out"][1:] += 0.4

x = np.array([[1, 1], [1, 1], [0, 0]], dtype=float)  # (T, X): on, on, off
print("x_1, x_2, x_3 =", *(f"({a:.0f}, {b:.0f})" for a, b in x))

# %% [markdown]
# One function runs the model along time, with the package's Eq. 5, 9, 6 and 7, and records the quantities of the
# derivation. Its argument `v` $(T, N)$ is either the noise $\epsilon$ of $N$ draws from $q$, or $z$ itself.


# %%
def walk(x, v, z_is_given=False):
    """log p(x_t|.), log p(z_t|.), log q(z_t|.), KL_t, z_t, sigma_z / sigma_0: (T, N) each. x (T, X) or (T, N, X)."""
    p, N, rows = model.params, v.shape[1], []
    h = asarray(np.zeros((N, model.h_dim)))
    x = np.broadcast_to(x if x.ndim == 3 else x[:, None], (len(x), N, model.x_dim))
    for x_t, v_t in zip(asarray(x), asarray(v[..., None])):
        prior, _ = equations.prior_forward(p["prior"], h)  # Eq. 5
        phi_x, _ = equations.features_forward(p["phi_x"], x_t)
        q, _ = equations.infer_forward(p["infer"], phi_x, h)  # Eq. 9
        z = v_t if z_is_given else gaussian.reparameterise_forward(*q, v_t)[0]
        phi_z, _ = equations.features_forward(p["phi_z"], z)
        outputs, _ = equations.generate_forward(p["generate"], phi_z, h, model.likelihood)  # Eq. 6
        log_p_x, _ = model.likelihood.log_density_forward(x_t, *outputs)
        log_p_z, _ = gaussian.gaussian_log_density_forward(z, *prior)
        log_q, _ = gaussian.gaussian_log_density_forward(z, *q)
        kl, _ = gaussian.gaussian_kl_forward(*q, *prior)
        rows.append((log_p_x, log_p_z, log_q, kl, z[:, 0], q[1][:, 0] / prior[1][:, 0]))
        h, _ = equations.recur_forward(p["recur"], phi_x, phi_z, h)  # Eq. 7
    return [np.stack([tv.to_host(row) for row in column]) for column in zip(*rows)]


# %% [markdown]
# Three small tools complete the setup: a grid over $z$, the mean of draws with its standard error, and a function that
# prints both sides of a line and **asserts** that they agree.


# %%
def grid(n, reach=6.0):
    """All n^3 points z (3, n^3) of a cube, and the volume of one cell."""
    axis = np.linspace(-reach, reach, n)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1), (axis[1] - axis[0]) ** 3


def mean(values):
    """(mean, standard error) of independent draws."""
    return values.mean(), values.std(ddof=1) / len(values) ** 0.5


LINES = {}


def line(number, left, right, sign="="):
    """Print left and right, each (value, standard error); assert "=" within four of them, or ">" beyond four."""
    (a, s), (b, r) = left, right
    print(f"line {number}:  {a:8.4f} ± {s:.4f}   {sign}   {b:8.4f} ± {r:.4f}")
    LINES[number] = right
    assert abs(a - b) < 4 * np.hypot(s, r) if sign == "=" else a - b > 4 * np.hypot(s, r)


# %% [markdown]
# ## Line 1: integrate over every $z$
#
# The model generates $z_1$, then $x_1$, then $z_2$, and so on. We call $(z, x)$ a **story**; we observe $x$ but not
# $z$. The probability of $x$ is the total probability of all stories with this $x$:
#
# $$\log p(x) = \log \int p(x, z)\, dz . \tag{line 1}$$
#
# This is the sum rule of probability.
#
# ## Line 2: the story, factor by factor (Eq. 8)
#
# Any joint distribution of a list of variables is the product of each variable's distribution given those before it.
# With the list $z_1, x_1, z_2, x_2, \dots$:
#
# $$\begin{aligned}
# p(x, z) &= p(z_1)\, p(x_1 \mid z_1)\, p(z_2 \mid x_1, z_1)\, p(x_2 \mid z_1, z_2, x_1) \cdots \\
# &= \prod_{t=1}^{T} p(x_t \mid z_{\le t}, x_{\lt t})\; p(z_t \mid x_{\lt t}, z_{\lt t}) .
# \end{aligned} \tag{line 2}$$
#
# This makes no assumption. The model's assumptions are in how each factor is computed: everything before step $t$
# enters through $h_{t-1}$.
#
# > **Function** `tinyvrnn.models.equations.prior_forward` · **held by**
# > `tests/test_equations.py::test_each_equation_equals_the_plain_rewrite`
#
# **Run it.** By lines 1 and 2, the product of six factors, integrated over $z$, is $p(x)$. The other side needs no
# integral: draw 200,000 sequences from the model, and count how many equal our $x$.


# %%
def log_p(x, n):
    """Line 1 on a grid of n^3 points."""
    z, cell = grid(n)
    log_p_x, log_p_z, *_ = walk(x, z, z_is_given=True)
    return np.log(np.exp((log_p_x + log_p_z).sum(axis=0)).sum() * cell)


exact = log_p(x, 41)
exact = exact, abs(exact - log_p(x, 25))  # a bound on its error: the difference to a coarser grid
stories = tv.to_host(model.sample(n=200_000, steps=3, seed=1))
share = np.mean((stories == x[:, None]).all(axis=(0, 2)))
counted = np.log(share), ((1 - share) / share / stories.shape[1]) ** 0.5
line(1, counted, exact)
assert exact[1] < 5e-3

# %% [markdown]
# So we know $\log p(x)$ of this $x$ to three digits, in two ways. We will compare the bound with it.
#
# Now do the same for all 64 sequences. This allows a second check: the 64 integrals must sum to 1.

# %%
bits = (np.arange(64) >> np.arange(6)[:, None]) & 1
every_x = bits.reshape(3, 2, 64).transpose(0, 2, 1).astype(float)
z, cell = grid(17, reach=5.0)
log_p_x, log_p_z, *_ = walk(np.repeat(every_x, z.shape[1], axis=1), np.tile(z, 64), z_is_given=True)
p_exact = np.exp((log_p_x + log_p_z).sum(axis=0)).reshape(64, -1).sum(axis=1) * cell
code = (stories * (2 ** np.arange(6)).reshape(3, 1, 2)).sum(axis=(0, 2)).astype(int)
p_counted = np.bincount(code, minlength=64) / len(code)
error = (p_exact * (1 - p_exact) / len(code)) ** 0.5
print(f"sum of p(x) over all 64 x: {p_exact.sum():.3f}")
assert abs(p_exact.sum() - 1) < 5e-3 and np.all(abs(p_counted - p_exact) < 4 * error + 0.01 * p_exact)

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.6))
axes.plot([5e-4, 0.3], [5e-4, 0.3], color="0.7", zorder=0)
axes.errorbar(p_exact, p_counted, 4 * error, fmt="o", ms=4, color=BLUE, ecolor="0.6")
mine = int((x * (2 ** np.arange(6)).reshape(3, 2)).sum())
axes.plot(p_exact[mine], p_counted[mine], "s", ms=8, color=RED)
axes.annotate("our x: on, on, off", (p_exact[mine], p_counted[mine]), (0.055, 0.022), color=RED)
axes.set(xscale="log", yscale="log", xlabel="p(x) by integration over z", ylabel="share of 200,000 stories")
axes.set_title("64 sequences: integrals and counts (bars: 4 standard errors)")
plt.show()

# %% [markdown]
# ## Line 3: multiply by one
#
# For a VRNN of realistic size, the integral cannot be computed: 28 steps with 16 latents each make 448 dimensions, and
# almost all of that space contributes nothing. We need to know *where to look*, and $q(z \mid x)$ is our guess (Eq. 9
# and 10):
#
# $$q(z \mid x) = \prod_{t=1}^{T} q(z_t \mid x_{\le t}, z_{\lt t}) .$$
#
# Multiply and divide by it. Where $q > 0$, which for Gaussians is everywhere, this changes nothing:
#
# $$\log p(x) = \log \int q(z \mid x)\; \underbrace{\frac{p(x, z)}{q(z \mid x)}}_{w(z)}\; dz . \tag{line 3}$$
#
# The ratio $w$ is called the **weight** of $z$.
#
# **Run it.** Multiplying by one is trivial. But $q$, a product of Gaussians each of which depends on the previous
# draws, must be a *distribution*: if it did not integrate to 1, line 4 would be wrong.

# %%
z, cell = grid(41)
log_p_x, log_p_z, log_q, *_ = walk(x, z, z_is_given=True)
log_q_grid, log_joint_grid = log_q.sum(axis=0), (log_p_x + log_p_z).sum(axis=0)
total = np.exp(log_q_grid).sum() * cell
print(f"integral of q(z | x) over z: {total:.6f}")
assert abs(total - 1) < 1e-4

# %% [markdown]
# ## Line 4: an integral against $q$ is a mean over draws of $q$
#
# This is the definition of an expectation:
#
# $$\log p(x) = \log \mathbb{E}_{q(z \mid x)}\big[ w(z) \big] . \tag{line 4}$$
#
# So draw $z^{(1)}, \dots, z^{(K)}$ from $q$ and average the weights. The code computes the logarithms of the weights.
# For a long sequence $e^{\log w}$ underflows: at $\log w = -1000$ it is 0 in float64, and $\log 0$ is $-\infty$.
#
# ### Exercise 05.1 (write): the logarithm of a mean
#
# Given $\log w$ of shape $(K, B)$, return $\log \frac1K \sum_k w_{kb}$ for each column, $(B,)$, also correct for
# $\log w = -1000$. (Hint: $\sum_k e^{a_k} = e^{m} \sum_k e^{a_k - m}$, for any $m$. `np.log(K)` is a float64 and
# promotes float32 arrays; `float(np.log(K))` does not.)


# %%
def my_log_mean_exp(log_w):
    """log of the mean of exp(log_w) over axis 0: (K, B) -> (B,)."""
    ### BEGIN SOLUTION
    top = log_w.max(axis=0)
    return top + np.log(np.mean(np.exp(log_w - top), axis=0))
    ### END SOLUTION


# %%
tv.course.check("05.1", my_log_mean_exp)

# %% [markdown]
# What is the weight of a draw? By lines 2 and 3 it is a product, so its logarithm is a sum.
#
# ### Exercise 05.2 (write): $\log w$ of a draw
#
# `log_p_x` $(T, B)$ holds $\log p(x_t \mid z_{\le t}, x_{\lt t})$. The other arguments are $(T, B, Z)$: a draw `z`, and
# the means and standard deviations of prior and posterior at each step. Return $\log w$, $(B,)$. (The factors of $2\pi$
# in the two densities cancel.)


# %%
def my_log_weight(log_p_x, z, mu_0, sigma_0, mu_z, sigma_z):
    """log p(x, z) - log q(z | x), (B,)."""

    ### BEGIN SOLUTION
    def log_density(mu, sigma):
        return -np.sum(0.5 * ((z - mu) / sigma) ** 2 + np.log(sigma), axis=-1)

    return np.sum(log_p_x + log_density(mu_0, sigma_0) - log_density(mu_z, sigma_z), axis=0)
    ### END SOLUTION


# %%
tv.course.check("05.2", my_log_weight)

# %% [markdown]
# **Run it**, with 40,000 draws of $q$. The error of $\log \bar w$ follows from that of $\bar w$: a small change
# $\delta$ of $\bar w$ changes its logarithm by $\delta / \bar w$.

# %%
K = 40_000
log_p_x, log_p_z, log_q, kl, z, spread = walk(x, rng.standard_normal((3, K)))
log_w = (log_p_x + log_p_z - log_q).sum(axis=0)
w = np.exp(log_w)


def log_of_mean(w):
    value, error = mean(w)
    return np.log(value), error / value


line(4, exact, log_of_mean(w))

# %% [markdown]
# **Can you trust this standard error?** Only if $w$ has a variance, that is, if
# $\mathbb{E}_q[w^2] = \int p(x, z)^2 / q(z \mid x)\, dz$ is finite. In the tails, $p(z_t)^2$ falls like
# $e^{-z^2 / \sigma_0^2}$, while $1/q$ grows like $e^{+z^2 / 2\sigma_z^2}$. The product falls only if
#
# $$\frac{1}{\sigma_0^2} > \frac{1}{2 \sigma_z^2} , \quad \text{that is} \quad \sigma_z > \frac{\sigma_0}{\sqrt 2} .$$
#
# If $q$ is too narrow, a few rare weights are huge, and a finite sample may contain none of them. This is why we
# widened $q$. (This is a known problem of importance sampling, and an argument for the bound that comes next: in the
# tails $\log w$ grows only like $z^2$, so it has a variance for any $q$.)

# %%
print(f"smallest sigma_z / sigma_0 in all draws and steps: {spread.min():.2f}, needed: {0.5**0.5:.2f}")
assert spread.min() > 0.5**0.5

# %% [markdown]
# ## Line 5: Jensen's inequality
#
# In $\log \mathbb{E}_q[w]$ the mean is *inside* the logarithm, so the logarithm does not reach the product over time
# and cannot split it into steps. A mean of logarithms can be split. So swap the two, and see what it costs.
#
# The logarithm is concave: it lies below each of its tangents. At the point $c$,
#
# $$\log w \le \log c + \frac{w - c}{c} \quad \text{for all } w > 0, \text{ with equality only at } w = c .$$
#
# Set $c = \mathbb{E}_q[w]$ and take the mean of both sides over $q$. The fraction on the right has mean 0, which leaves
#
# $$\log p(x) = \log \mathbb{E}_q[w] \;\ge\; \mathbb{E}_q[\log w] =: \mathrm{ELBO} . \tag{line 5}$$

# %%
line(5, exact, mean(log_w), ">")

# %%
tangent = np.exp(exact[0])
figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.4))
points = np.linspace(0.001, 0.2, 400)
left.plot(points, np.log(points), color=BLUE, label="log w")
left.plot(points, exact[0] + (points - tangent) / tangent, "--", color=AMBER, label="tangent at E[w] = p(x)")
left.plot(w[:150], log_w[:150], "|", ms=9, color="0.45", label="150 draws")
left.plot(tangent, exact[0], "o", color=RED, ms=7)
left.plot(tangent, log_w.mean(), "s", color=GREEN, ms=7)
left.annotate("log E[w]", (tangent, exact[0]), (tangent - 0.04, exact[0] + 0.5), color=RED)
left.annotate("E[log w]", (tangent, log_w.mean()), (tangent + 0.008, log_w.mean() - 0.5), color=GREEN)
left.set(
    xlim=(0, 0.2), ylim=(-7.5, 0.3), xlabel="weight w", ylabel="nats", title="The logarithm and its tangent"
)
left.set_xticks([0, 0.05, 0.1, 0.15, 0.2])
left.legend(loc="lower right")
right.hist(log_w, np.linspace(-8, -1, 71), color="0.8")
right.axvline(exact[0], color=RED, label="log p(x)")
right.axvline(log_w.mean(), color=GREEN, ls="--", label="ELBO, the mean")
right.set(xlabel="log w of a draw, nats", ylabel="draws", title="The bound is a mean of draws")
right.legend(loc="upper left")

assert np.all(log_w <= exact[0] + (w - tangent) / tangent + 1e-12)  # every draw lies below the tangent

# %% [markdown]
# **What did it cost?** Insert $p(x, z) = p(z \mid x)\, p(x)$ into $w$. Then
# $\log w = \log p(x) + \log p(z \mid x) - \log q(z \mid x)$ for every $z$, and the mean over $q$ is
#
# $$\begin{aligned}
# \log p(x) - \mathrm{ELBO} &= \mathbb{E}_q\big[\log q(z \mid x) - \log p(z \mid x)\big] \\
# &= \mathrm{KL}\big(q(z \mid x) \,\|\, p(z \mid x)\big) .
# \end{aligned}$$
#
# So the cost is exactly the KL from the guess $q$ to the true posterior. **Run it**: on the grid we know the true
# posterior, $p(z \mid x) = p(x, z) / p(x)$, and can integrate the right side without a single draw.

# %%
posterior_gap = np.sum(np.exp(log_q_grid) * (log_q_grid - (log_joint_grid - exact[0]))) * cell
elbo, error = mean(log_w)
print(f"log p(x) - ELBO, by draws:         {exact[0] - elbo:.4f} ± {error:.4f}")
print(f"KL(q || p(z | x)), by integration: {posterior_gap:.4f}")
assert abs(exact[0] - elbo - posterior_gap) < 4 * error + exact[1] and posterior_gap > 0.1

# %% [markdown]
# ### Exercise 05.3 (derive): Jensen's gap
#
# How large is the gap, given the spread of $\log w$? Let $\log w \sim \mathcal N(m, s^2)$. Derive
#
# $$\log \mathbb{E}[w] - \mathbb{E}[\log w]$$
#
# as a function of $s$. (Write $\mathbb{E}[w] = \int e^{v}\, \mathcal N(v; m, s^2)\, dv$ and complete the square in the
# exponent.) `s` is an array; return an array of the same shape.


# %%
def my_jensen_gap(s):
    """log E[w] - E[log w] for log w ~ N(m, s^2)."""
    ### BEGIN SOLUTION
    # v - (v - m)^2 / 2 s^2 = m + s^2 / 2 - (v - m - s^2)^2 / 2 s^2, so E[w] = exp(m + s^2 / 2), and E[log w] = m
    return s**2 / 2
    ### END SOLUTION


# %%
tv.course.check("05.3", my_jensen_gap)

# %% [markdown]
# Half the variance of $\log w$ is a rule of thumb for any bound of this kind. It is exact for a Gaussian $\log w$, as
# the first line of output confirms by integration. Our $\log w$ has a long left tail (see the histogram). The tail adds
# much to its variance and little to $\mathbb{E}[w]$, so the rule overestimates our gap.

# %%
eps = np.linspace(-12, 12, 4001)
weight = np.exp(-0.5 * eps**2) / np.exp(-0.5 * eps**2).sum()
gaps = [np.log(weight @ np.exp(s * eps)) - weight @ (s * eps) for s in (0.5, 1.0, 2.0)]
print("Gaussian log w, s = 0.5, 1, 2:", *(f"{gap:.4f}" for gap in gaps))
print(f"our log w: half its variance {log_w.var() / 2:.2f}, the gap {posterior_gap:.2f}")
assert np.allclose(gaps, [0.125, 0.5, 2.0], atol=1e-9) and log_w.var() / 2 > posterior_gap

# %% [markdown]
# ## Line 6: the logarithm of products is a sum over time
#
# Now for the benefit. Insert line 2 and Eq. 10:
#
# $$\begin{aligned}
# \mathrm{ELBO} = \mathbb{E}_q\bigg[ \sum_{t=1}^{T} \Big( & \log p(x_t \mid z_{\le t}, x_{\lt t}) \\
# {} + {} & \log p(z_t \mid x_{\lt t}, z_{\lt t}) \\
# {} - {} & \log q(z_t \mid x_{\le t}, z_{\lt t}) \Big) \bigg] .
# \end{aligned} \tag{line 6}$$
#
# This holds for **every draw**, so the check is to all digits: multiply nine densities and take one logarithm, or take
# nine logarithms and add them.

# %%
by_products = np.log(np.prod(np.exp(log_p_x) * np.exp(log_p_z) / np.exp(log_q), axis=0))
print(f"largest difference in {K:,} draws below 1e-12: {abs(by_products - log_w).max() < 1e-12}")
line(6, mean(by_products), mean(log_w))
assert abs(by_products - log_w).max() < 1e-12

# %% [markdown]
# ## Line 7: each step by itself
#
# The mean of a sum is the sum of the means. The term of step $t$ does not depend on later latents: it contains only
# $z_1, \dots, z_t$. Write out its mean, with the latest integral innermost:
#
# $$\begin{aligned}
# &\int q(z_1 \mid \cdot) \cdots \int q(z_t \mid \cdot)\, f_t(z_{\le t}) \\
# &\quad \underbrace{\int q(z_{t+1} \mid \cdot) \cdots \int q(z_T \mid \cdot)\, dz_T \cdots dz_{t+1}}_{=\,1}\;
# dz_t \cdots dz_1 .
# \end{aligned}$$
#
# Starting from the last, each integral over a later $z_s$ is 1, because $q(z_s \mid \cdot)$ is a distribution. Split
# the rest into the steps before $t$ and step $t$ itself. This is the **tower rule**:
#
# $$\mathbb{E}_q[f_t] = \mathbb{E}_{q(z_{\lt t})}\Big[\, \mathbb{E}_{q(z_t \mid x_{\le t}, z_{\lt t})}[f_t]\, \Big] .
# \tag{line 7}$$
#
# **Run it** for the last step. The left side is a mean over 40,000 whole draws. The right side uses 1,000 pasts
# $z_{\lt 3}$, each with 100 draws of $z_3$: first the inner mean, then the outer one, whose spread gives the error.

# %%
past = np.repeat(rng.standard_normal((2, 1000)), 100, axis=1)
nested = walk(x, np.concatenate([past, rng.standard_normal((1, 100_000))]))
inner = (nested[0] + nested[1] - nested[2])[2].reshape(1000, 100).mean(axis=1)
line(7, mean((log_p_x + log_p_z - log_q)[2]), mean(inner))

# later draws have no influence: with another z_3 the terms of steps 1 and 2 are the same, bit for bit
eps = rng.standard_normal((3, 1000))
one, other = walk(x, eps), walk(x, np.concatenate([eps[:2], rng.standard_normal((1, 1000))]))
assert all(np.array_equal(a[:2], b[:2]) and not np.array_equal(a[2], b[2]) for a, b in zip(one[:3], other[:3]))

# %% [markdown]
# ## Line 8: the inner mean has a closed form
#
# At step $t$, fix the past $z_{\lt t}$. Then $q(z_t \mid \cdot)$ and $p(z_t \mid \cdot)$ are two Gaussians with known
# parameters, and
#
# $$\begin{aligned}
# &\mathbb{E}_{q(z_t \mid \cdot)}\big[ \log p(z_t \mid x_{\lt t}, z_{\lt t})
# - \log q(z_t \mid x_{\le t}, z_{\lt t}) \big] \\
# &\quad = -\mathrm{KL}\big( q(z_t \mid x_{\le t}, z_{\lt t}) \,\|\, p(z_t \mid x_{\lt t}, z_{\lt t}) \big) .
# \end{aligned} \tag{line 8}$$
#
# This is the definition of the KL, and for Gaussians it has a closed form ([02](02_the_vae.ipynb)): no draw is needed.
#
# > **Function** `tinyvrnn.distributions.gaussian.gaussian_kl_forward` · **held by**
# > `tests/test_distributions.py::test_kl_equals_monte_carlo`
#
# The draw of $z_t$ has been integrated out, but the past has **not**: the KL of step $t$ is a *function of
# $z_{\lt t}$*, because both networks read $h_{t-1}$. **Run it** at the second step: for eleven values of $z_1$, compare
# the mean over 4,000 draws of $z_2$ with the formula.

# %%
first, eps_1 = walk(x[:1], np.linspace(-3, 3, 11)[None])[4], np.linspace(-3, 3, 11)
eps = np.stack([np.repeat(eps_1, 4000), rng.standard_normal(44_000)])
_, log_p_z2, log_q2, kl_2, *_ = walk(x[:2], eps)
minus = (log_q2 - log_p_z2)[1].reshape(11, 4000)
drawn, errors = minus.mean(axis=1), minus.std(axis=1, ddof=1) / 4000**0.5
formula = kl_2[1].reshape(11, 4000)[:, 0]
print(f"KL of step 1: spread {kl[0].std():.3f};  of step 2: {kl[1].std():.3f};  of step 3: {kl[2].std():.3f} nats")
assert np.all(abs(drawn - formula) < 4 * errors)
assert kl[0].std() < 1e-12 and kl[1].std() > 0.05 and kl[2].std() > 0.05

# %%
fine = np.linspace(-4, 4, 200)
smooth = walk(x[:2], np.stack([fine, 0 * fine]))
figure, axes = plt.subplots(figsize=(6.6, 3.6))
axes.plot(smooth[4][0], smooth[3][1], color=BLUE, label="right side of line 8: formula")
axes.errorbar(first[0], drawn, 4 * errors, fmt="o", color=RED, ms=4, label="left side: mean of draws (4 s.e.)")
axes.fill_between(
    smooth[4][0], 0, 0.25 * np.exp(-0.5 * fine**2), color="0.88", label="density of $z_1$ under q (not to scale)"
)
axes.set(
    xlabel="$z_1$", ylabel="KL of step 2, nats", ylim=(0, None), title="The KL of a step depends on the draws before it"
)
axes.legend()
plt.show()

# %% [markdown]
# The first step has no past, so its KL is one number. From the second step on, the KL is a random variable, and the
# bound contains its **mean over pasts**: the expectation stays *outside* the KL.
#
# Insert line 8 into line 7, and sum over the steps:

# %%
eps = rng.standard_normal((3, K))
log_p_x_9, _, _, kl_9, *_ = walk(x, eps)
line(8, mean((log_p_z - log_q).sum(axis=0)), mean(-kl_9.sum(axis=0)))

# %% [markdown]
# ## Line 9: Eq. 11
#
# Collect the terms. The likelihood needs a draw of $z_t$, the KL does not, and both depend on the past:
#
# $$\begin{aligned}
# &\mathrm{ELBO} = \mathbb{E}_{q(z_{\le T} \mid x_{\le T})}\bigg[ \sum_{t=1}^{T} \Big( \\
# &\quad {-\mathrm{KL}}\big( q(z_t \mid x_{\le t}, z_{\lt t}) \,\|\, p(z_t \mid x_{\lt t}, z_{\lt t}) \big) \\
# &\quad + \log p(x_t \mid z_{\le t}, x_{\lt t}) \Big) \bigg] .
# \end{aligned} \tag{line 9}$$
#
# This is Eq. 11 of the paper, and the derivation is complete. Here is one step of it in the package, in the literal
# version:
#
# > **Function** `tinyvrnn.models.stepwise.step_forward` · **held by**
# > `tests/test_autograd.py::test_loss_and_gradient_equal_the_plain_rewrite`

# %%
tv.course.show(tv.models.stepwise.step_forward)

# %% [markdown]
# **Run it.** `model.elbo` is the sum in the brackets for one draw, so its mean over draws is the ELBO. It must agree
# with line 6, which used other draws and no KL formula. It must also agree with the exact value, $\log p(x)$ minus the
# KL to the true posterior, which used integration and no draws.

# %%
eq_11 = tv.to_host(model.elbo(asarray(np.repeat(x[:, None], K, axis=1)), eps=asarray(eps[..., None])))
assert np.allclose(eq_11, (log_p_x_9 - kl_9).sum(axis=0), atol=1e-12)  # the package and our walk, draw by draw
line(9, mean(log_w), mean(eq_11))
line("9, exact", (exact[0] - posterior_gap, exact[1]), mean(eq_11))

# %% [markdown]
# ## The lines in one picture

# %%
figure, axes = plt.subplots(figsize=(7.4, 3.6))
names = {
    "counting\nstories": counted,
    "lines 1, 2\nintegral": LINES[1],
    "line 4\nlog E[w]": LINES[4],
    "lines 5, 6\nE[log w]": LINES[5],
    "line 9\nEq. 11": LINES[9],
}
for i, (value, error) in enumerate(names.values()):
    above = i < 3
    axes.errorbar(i, value, 4 * error, fmt="o" if above else "s", color=RED if above else GREEN, capsize=5, ms=7)
axes.axhline(exact[0], color=RED, lw=0.8, xmax=0.6)
axes.axhline(elbo, color=GREEN, lw=0.8, ls="--", xmin=0.2)
axes.annotate("", (2.5, elbo), (2.5, exact[0]), arrowprops={"arrowstyle": "<->"})
axes.text(2.56, (elbo + exact[0]) / 2, "Jensen's step:\nKL(q || true posterior)", va="center")
axes.set_xticks(range(len(names)), names)
axes.set(ylabel="nats per sequence", xlim=(-0.5, 4.5), title="Nine lines, two values (bars: 4 standard errors)")

assert min(value for value, _ in list(names.values())[:3]) > max(value for value, _ in list(names.values())[3:]) + 0.3

# %% [markdown]
# Lines 1 to 4 have one value, lines 5 to 9 another. Eight of the nine lines are equalities.
#
# | line | step | holds |
# |---|---|---|
# | 1 | sum rule: integrate over all $z$ | exactly |
# | 2 | chain rule: the factors of Eq. 8 | for every $z$ |
# | 3 | multiply by one, $q/q$ | for every $z$ |
# | 4 | an integral against $q$ is a mean over $q$ | exactly |
# | 5 | **Jensen: the logarithm moves inside the mean** | **as an inequality** |
# | 6 | logarithm of products, Eq. 8 and Eq. 10 | for every $z$ |
# | 7 | later latents integrate to 1 | on average |
# | 8 | the inner mean is a KL, by definition | on average over $z_t$ |
# | 9 | collect: Eq. 11 | on average |
#
# **Which line should a program use**, 6 or 9? They have the same mean, but different spreads, and the larger spread may
# not be the one you expect:

# %%
print(f"spread of one draw: line 6 {log_w.std():.2f} nats, line 9 (Eq. 11) {eq_11.std():.2f} nats")
assert log_w.std() < eq_11.std()

# %% [markdown]
# The formula has removed some of the randomness, and yet the result varies *more*. In line 6 the terms of one draw
# compensate each other: for a $z$ that explains $x$ well, $\log p - \log q$ is low. In the limit where $q$ is the true
# posterior, $\log w = \log p(x)$ for every $z$, and line 6 does not vary at all, while $\log p(x_t \mid \cdot)$ still
# does. The opposite is possible too: where neither the decoder nor the state reads $z$, Eq. 11 does not vary. The paper
# uses Eq. 11, and so does the package.
#
# ## The bug: a KL inside the logarithm
#
# In line 9 the logarithm is inside the mean, and the KL is outside the logarithm. Two ways of misplacing the KL are
# common.
#
# The **first** happens on paper, with misplaced brackets: $\log\big(p(x_t \mid \cdot) - \mathrm{KL}\big)$. A
# probability minus nats has no meaning, and where the KL is larger than the probability, the logarithm does not exist:

# %%
inside = np.exp(log_p_x_9) - kl_9
print(f"p(x_t | ...) - KL is negative in {np.mean((inside < 0).any(axis=0)):.0%} of the draws: no logarithm")
assert np.mean((inside < 0).any(axis=0)) > 0.5

# %% [markdown]
# The **second** happens in code, and is harder to see. Line 4 says $p(x) = \mathbb{E}_q[w]$, and line 8 says that
# $\log p(z_t) - \log q(z_t)$ averages to $-\mathrm{KL}$. So why not insert the formula into the weight, and average
# *that*?
#
# $$\log p(x) \overset{?}{=} \log \mathbb{E}_q\left[ \prod_t p(x_t \mid \cdot)\, e^{-\mathrm{KL}_t} \right]$$
#
# Because line 8 is about a mean of logarithms, and here it is used inside an exponential: the mean of $e^v$ is not
# $e^{\text{mean of } v}$. This is Jensen's inequality again, this time **against** us. Take one step, and let $q$ be
# the true posterior, where $\log p(x) = \mathbb{E}_q[\log p(x \mid z)] - \mathrm{KL}$ exactly. Then the bug gives
#
# $$\log \mathbb{E}_q[p(x \mid z)] - \mathrm{KL} \;\ge\; \mathbb{E}_q[\log p(x \mid z)] - \mathrm{KL} = \log p(x) .$$
#
# For a perfect $q$ this is never below $\log p(x)$. So it is not a lower bound, and a model that reports it looks
# better than it is. For our model:

# %%
slip = log_of_mean(np.exp(eq_11))
print(f"ELBO {elbo:.3f}  <  log p(x) {exact[0]:.3f}  <  with the bug {slip[0]:.3f} ± {slip[1]:.3f}")
assert slip[0] - exact[0] > 4 * np.hypot(slip[1], exact[1])

# %% [markdown]
# Here is the bug in practice, in a function that should estimate $\log p(x)$ by line 4. Its arguments are $(T, K, B)$:
# the terms of each step, draw and sequence.


# %%
def buggy_log_p(log_p_x, log_p_z, log_q, kl):
    """log p(x), (B,), from K draws of z."""
    log_w = (log_p_x - kl).sum(axis=0)  # the KL is the mean of log q - log p, so this has less noise
    return np.logaddexp.reduce(log_w, axis=0) - float(np.log(len(log_w)))


# %% [markdown]
# ### Exercise 05.4 (bug): the KL inside the logarithm
#
# Write the function correctly, also for log-weights of $-1000$.


# %%
def my_log_p(log_p_x, log_p_z, log_q, kl):
    """log p(x), (B,), from K draws of z."""
    ### BEGIN SOLUTION
    log_w = (log_p_x + log_p_z - log_q).sum(axis=0)
    top = log_w.max(axis=0)
    return top + np.log(np.exp(log_w - top).mean(axis=0))
    ### END SOLUTION


# %%
tv.course.check("05.4", my_log_p)

# %% [markdown]
# ## What each step pays and earns
#
# Eq. 11 is a sum over time, so you can read it step by step. Each step earns its log-likelihood (negative for bits: at
# best 0) and pays its KL. Three sequences:

# %%
sequences = {
    "on, on, on": [[1, 1], [1, 1], [1, 1]],
    "on, on, off": [[1, 1], [1, 1], [0, 0]],
    "on, sensors disagree, on": [[1, 1], [1, 0], [1, 1]],
}
figure, panels = plt.subplots(1, 3, figsize=(7.4, 3.5), sharey=True)
terms = {}
for axes, (name, bits) in zip(panels, sequences.items()):
    result = walk(np.array(bits, dtype=float), rng.standard_normal((3, 10_000)))
    earned, paid = result[0].mean(axis=1), result[3].mean(axis=1)
    terms[name] = earned, paid
    steps = np.arange(1, 4)
    axes.bar(steps, earned, 0.6, color=BLUE, label="log p($x_t$ | ...)")
    axes.bar(steps, -paid, 0.6, bottom=earned, color=AMBER, hatch="//", edgecolor="white", label="- KL of step t")
    axes.plot(steps, earned - paid, "k_", ms=22, mew=2, label="the step's share of the ELBO")
    axes.set(xlabel="step t", xticks=steps)
    axes.set_title(f"{name}\nELBO {np.sum(earned - paid):.2f}", fontsize=10)
panels[0].set_ylabel("nats")
figure.suptitle("What each step earns in likelihood and pays in KL", x=0.01, ha="left", fontsize=11)
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
plt.show()
assert terms["on, on, off"][1][2] > 2 * terms["on, on, on"][1][2]  # a surprise costs KL
assert terms["on, sensors disagree, on"][0][1] < min(terms["on, on, on"][0])  # what z can't say costs likelihood

# %% [markdown]
# In the middle panel, the lamp is switched off. The prior, which has seen only "on", does not expect it; $q$, which
# sees $x_3$, moves $z_3$, and the step pays for that in **KL**. In the right panel, two sensors disagree. No $z$
# explains this noise, and the step pays in **likelihood**. Which of the two terms pays shows what the latent has
# learned to represent.
#
# ## Units, and sequences of different lengths
#
# The sum over $t$ gives **nats per sequence**. Long sequences pay more, so to compare data sets, divide by the number
# of steps. Two rules keep these numbers correct when a batch is ragged, that is, padded to its longest sequence:
#
# - a padded step is not data: a mask $m_{tb}$, 1 for real steps and 0 for padding, multiplies **both** terms;
# - **nats per step** are the total nats divided by the number of real steps,
#   $\sum_{t,b} m_{tb} (\ell_{tb} - k_{tb}) \,/ \sum_{t,b} m_{tb}$. They are not the mean of each sequence's own mean,
#   in which the steps of short sequences would weigh more.
#
# > **Function** `tinyvrnn.bounds.evaluate_elbo` · **held by** `tests/test_schedule.py::test_padding_changes_nothing`
#
# ### Exercise 05.5 (write): masks and units
#
# All arguments are $(T, B)$. Return the ELBO of each sequence, $(B,)$, in nats per sequence, and one number in nats per
# step.


# %%
def my_units(log_p, kl, mask):
    """elbo (B,) in nats per sequence, per_step () in nats per step. mask: 1.0 for real steps, 0.0 for padding."""
    ### BEGIN SOLUTION
    elbo = np.sum((log_p - kl) * mask, axis=0)
    return elbo, np.sum(elbo) / np.sum(mask)
    ### END SOLUTION


# %%
tv.course.check("05.5", my_units)

# %% [markdown]
# Now both units, on our own model. Half of the sequences have 1 step, the others have 3. Padding changes nothing,
# whatever values it holds, and the mean of means is a different number.

# %%
draws, lengths = np.random.default_rng(1), np.tile([1, 3], 15_000)
batch, eps = lamps(draws, 30_000), draws.standard_normal((3, 30_000, 1))
elbos = tv.to_host(model.elbo(asarray(batch), lengths, asarray(eps)))
real = np.arange(3)[:, None] < lengths
garbage = np.where(real[..., None], batch, 0.5)
again = tv.to_host(model.elbo(asarray(garbage), lengths, asarray(eps)))
assert np.array_equal(elbos, again)
assert np.allclose(
    elbos[lengths == 1], tv.to_host(model.elbo(asarray(batch[:1]), None, asarray(eps[:1])))[lengths == 1]
)

print(f"nats per sequence             {elbos.mean():.3f}")
print(f"nats per step                 {elbos.sum() / lengths.sum():.3f}")
print(f"mean of the sequences' means  {(elbos / lengths).mean():.3f}   (not a unit)")
print(f"mean of the first steps       {elbos[lengths == 1].mean():.3f}")
assert elbos[lengths == 1].mean() < (elbos / lengths).mean() < elbos.sum() / lengths.sum() - 0.005

# %% [markdown]
# The first step costs the most, because nothing is known yet. A sequence of one step consists of this step alone, and
# the mean of means gives it the same weight as a long sequence.
#
# ## One last question
#
# ### Exercise 05.6 (predict): what can lie above $\log p(x)$?
#
# The ELBO is a *lower* bound. So which of these can come out **above** $\log p(x)$? Answer with a set of words, e.g.
# `{"w", "elbo"}`, before you run the cell after the next.
#
# - `"w"`: $\log w(z)$ for one draw of $z$;
# - `"eq11"`: the sum in the brackets of Eq. 11, for one draw;
# - `"ten"`: $\log \frac{1}{10} \sum_k w(z^{(k)})$ of ten draws;
# - `"elbo"`: the ELBO itself, the exact mean over $q$.

# %%
prediction = None
### BEGIN SOLUTION
prediction = {"w", "eq11", "ten"}
### END SOLUTION

# %%
tv.course.check("05.6", prediction)

# %%
ten = np.log(w.reshape(10, -1).mean(axis=0))
shares = {name: np.mean(values > exact[0]) for name, values in (("w", log_w), ("eq11", eq_11), ("ten", ten))}
for name, values in (("w", log_w), ("eq11", eq_11), ("ten", ten)):
    print(
        f"{name:5} above log p(x) in {shares[name]:3.0%} of the draws; its mean {values.mean():7.3f} < {exact[0]:.3f}"
    )
    assert shares[name] > 0.2 and values.mean() < exact[0] - exact[1]

# %% [markdown]
# A bound holds for the mean. A single evaluation may lie above $\log p(x)$ by chance. With several draws inside the
# logarithm, the mean approaches $\log p(x)$ from below: that is the importance-weighted bound of
# [14](14_tighter_bounds.ipynb).
#
# ## What you now know
#
# - From $\log p(x)$ to Eq. 11 there are nine lines: sum rule, chain rule, multiply by one, expectation, **Jensen**,
#   logarithm of a product, tower rule, definition of the KL, collect.
# - Jensen's inequality is the only loss, and the loss is exactly $\mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))$.
# - The KL of a step depends on the past that was drawn. It stays inside the mean over $q$ and outside every logarithm.
# - With the KL inside a weight, the result can exceed $\log p(x)$, and no gradient check catches that.
# - Nats per sequence sum over the real steps; nats per step are a total divided by a total.
#
# So far, nothing has been differentiated. On to [06 · Backward by hand I](06_backward_by_hand_1.ipynb).
