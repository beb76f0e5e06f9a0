# %% [markdown]
# # 14 · Tighter bounds
#
# [09](09_how_tight.ipynb) measured the gap between the ELBO and $\log p(x)$. Here we narrow it, without changing $q$:
# we draw several times instead of once and average the weights before taking the logarithm (IWAE), then resample
# along the way (FIVO). At the end both bounds judge two trained VRNNs.
#
# You can read it directly after 09: nothing here needs 10 to 13.
#
# *You need*: the linear VRNN, its four posteriors and their gaps from [09](09_how_tight.ipynb), the weights $w$ from
# [05](05_the_elbo_line_by_line.ipynb), warm-up and collapse from [08](08_training.ipynb). *It takes* about 1 h 5 min.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn.models import linear_gaussian as lg
from tinyvrnn.models import particles

tv.plots.use_style()
rng = np.random.default_rng(0)
BLUE, RED, GREEN, PINK = tv.plots.COLOURS[:4]

# %% [markdown]
# The model, the data and the exact answer are those of 09: a drifting number $z_t = a z_{t-1} + \mathcal N(0, q)$,
# observed with noise, $x_t = z_t + \mathcal N(0, r)$; 20 steps of a sine wave; $a = 0.9$ and $q = r = 0.5$ (variances).
# So are the four posteriors. **Smoothing** is the true posterior, which knows the future. **Filtering** is the best
# guess from the past and present. The third has the filter's mean and the smoother's smaller variance. The **prior**
# ignores the data.

# %%
x, T = lg.sine(), 20
model = lg.LinearGaussian(a=0.9, q=0.5, r=0.5, posterior="filtering")
exact = float(model.log_prob(x)[0])
rows = lg.table()
print(f"log p(x) = {exact:.6f}")
for row in rows:
    print(f"{row.posterior:36} ELBO {row.elbo:12.6f}   gap {abs(row.gap):12.6f}")

NARROW = "filtering mean, smoothing variance"
STYLES = {"smoothing": (BLUE, "-"), "filtering": (RED, "--"), NARROW: (GREEN, "-."), "prior": (PINK, ":")}

# %% [markdown]
# ## More draws: the importance-weighted bound
#
# In [05](05_the_elbo_line_by_line.ipynb) the weight $w = p(x, z) / q(z \mid x)$ has mean $\mathbb E_q[w] = p(x)$, and
# the ELBO is $\mathbb E \log w$. Take $K$ independent draws and average their weights *before* taking the logarithm:
#
# $$\mathrm{IWAE}_K = \mathbb E \log \frac1K \sum_{k=1}^{K} w_k, \qquad
# \log w_k = \sum_{t=1}^{T} \Big( \log p(x_t \mid z^{(k)}_{\le t}, x_{\lt t})
# - \log \frac{q(z^{(k)}_t \mid x_{\le t}, z^{(k)}_{\lt t})}{p(z^{(k)}_t \mid x_{\lt t}, z^{(k)}_{\lt t})} \Big) .$$
#
# ([Burda et al., 2016](https://arxiv.org/abs/1509.00519).) Note the log-ratio at the draw where Eq. 11 has a KL: 05
# shows what goes wrong if you put the KL there.
#
# **It is a bound.** The average of $K$ weights also has mean $p(x)$. By Jensen's inequality the mean of its logarithm
# is below $\log p(x)$.
#
# **It rises with $K$.** Let $\bar w$ be the mean of $K + 1$ weights, and $\bar w_{-i}$ the mean of the $K$ weights
# without the $i$-th. Each $w_k$ occurs in $K$ of these $K + 1$ means, so
#
# $$\frac{1}{K + 1} \sum_{i=1}^{K+1} \bar w_{-i} = \frac{1}{K + 1} \sum_{k=1}^{K+1} K \cdot \frac{w_k}{K} = \bar w ,
# \qquad\text{and by Jensen}\qquad
# \log \bar w \ge \frac{1}{K + 1} \sum_{i=1}^{K+1} \log \bar w_{-i} .$$
#
# The left-hand side has mean $\mathrm{IWAE}_{K+1}$; each term on the right has mean $\mathrm{IWAE}_K$. Hence
# $\mathrm{IWAE}_{K+1} \ge \mathrm{IWAE}_K$, and $\mathrm{IWAE}_1$ is the ELBO.
#
# **It converges.** By the law of large numbers the mean of many weights tends to $p(x)$. How fast? Write $\frac1K \sum
# w_k = p(x) (1 + \delta)$, with $\mathbb E\, \delta = 0$ and $\mathbb E\, \delta^2 = \mathrm{Var}[w] / (K p(x)^2)$.
# Then $\log(1 + \delta) = \delta - \frac12 \delta^2 + \dots$ gives
#
# $$\log p(x) - \mathrm{IWAE}_K \approx \frac{1}{2K} \frac{\mathrm{Var}[w]}{p(x)^2} . \tag{rate}$$
#
# > **Function** `tinyvrnn.bounds.iwae` · **held by** `tests/test_bounds.py::test_bounds_are_in_order`

# %%
tv.course.show(particles.log_mean_exp)

# %% [markdown]
# **Run it.** For each posterior we draw 65,536 weights and average them in groups of $K$. Each group is one estimate,
# so fewer groups mean a larger standard error.

# %%
KS = 4 ** np.arange(7)
climbs, log_ws = {}, {}
for name in lg.POSTERIORS:
    posterior = lg.LinearGaussian(posterior=name)
    log_ws[name] = posterior.log_weights(x, eps=rng.standard_normal((T, 1, 2**16, 1)))[0]
    groups = [particles.log_mean_exp(log_ws[name].reshape(-1, K)) - exact for K in KS]
    climbs[name] = np.array([(g.mean(), g.std(ddof=1) / len(g) ** 0.5) for g in groups]).T

figure, panels = plt.subplots(1, 2, figsize=(10.5, 3.6))
for axes, names in zip(panels, (("smoothing", NARROW, "filtering"), ("prior",))):
    for name, marker in zip(names, "^so"):
        colour, style = STYLES[name]
        mean, error = climbs[name]
        axes.errorbar(KS, mean, 4 * error, color=colour, ls=style, marker=marker, ms=5, label=name)
    axes.axhline(0, color="k", lw=0.8)
    axes.set(xscale="log", xticks=KS, xticklabels=KS, xlabel="draws K")
    axes.minorticks_off()
    axes.legend(loc="lower right")
panels[0].set(ylabel="IWAE-K minus log p(x), nats", title="IWAE rises to the exact value (bars: 4 s.e.)")
panels[1].set(title="... from far below, if q ignores the data")

for name, (mean, error) in climbs.items():
    gap = next(row.gap for row in rows if row.posterior == name)
    assert abs(mean[0] + gap) < 4 * error[0] + 1e-12  # K = 1 is the ELBO
    assert np.all(mean - 4 * error < 1e-12)  # a bound
    assert abs(mean[-1]) < 4 * error[-1] + 1e-12  # it has converged
    assert name == "smoothing" or mean[0] + 4 * error[0] < mean[2] - 4 * error[2]  # it has risen
(filtering, error), (narrow, _), (prior, error_prior) = (climbs[name] for name in ("filtering", NARROW, "prior"))
assert abs(filtering[3]) < 0.06 and abs(filtering[3] - narrow[3]) < 4 * 2**0.5 * error[3]  # equal from 64 draws on
assert prior[4] + 4 * error_prior[4] < -0.5  # 256 draws are not enough

# %% [markdown]
# With the true posterior there is nothing to gain: every weight is $p(x)$, so one draw is enough. With a filter 64
# draws close nearly all of the gap, and the two filters become equal. With the prior it takes thousands of draws.
#
# The inequality behind the rise holds for **every** set of weights, not only on average. And `tv.bounds.iwae`, which
# draws its own noise, agrees with our groups:

# %%
w = np.exp(log_ws["filtering"][:50_000].reshape(-1, 5) - exact)
without_one = (w.sum(axis=1, keepdims=True) - w) / 4
assert np.all(np.log(w.mean(axis=1)) >= np.log(without_one).mean(axis=1))

estimates = tv.bounds.iwae(model, np.tile(x, (1, 2000, 1)), particles=16) - exact
error = np.hypot(estimates.std(ddof=1) / 2000**0.5, climbs["filtering"][1][2])
print(f"IWAE-16 minus log p(x): {estimates.mean():.2f} by tv.bounds.iwae, {climbs['filtering'][0][2]:.2f} above")
assert abs(estimates.mean() - climbs["filtering"][0][2]) < 4 * error

# %% [markdown]
# ## Why long sequences need so many draws
#
# By the rate above, $K$ must be about as large as $\mathrm{Var}[w] / p(x)^2 = \rho - 1$, with $\rho = \mathbb E[w^2] /
# p(x)^2$. How does $\rho$ depend on $T$? First consider a model without memory, $a = 0$. Then $w = \prod_t w_t$ with
# independent $w_t$, so the mean of the product is the product of the means:
#
# $$\rho = \prod_{t=1}^{T} \frac{\mathbb E[w_t^2]}{\mathbb E[w_t]^2} = \prod_{t=1}^{T} \rho_t, \qquad \rho_t \ge 1 .$$
#
# It grows **exponentially in $T$**. With memory the factors are not independent, but for the prior as $q$ we can still
# compute $\rho$: there $w = \prod_t \mathcal N(x_t; z_t, r)$, and a squared Gaussian is a Gaussian with half the
# variance, times a factor,
#
# $$\mathcal N(x_t; z_t, r)^2 = \frac{e^{-(x_t - z_t)^2 / r}}{2 \pi r}
# = \frac{1}{2 \sqrt{\pi r}}\; \mathcal N(x_t; z_t, \tfrac r2) .$$
#
# So, up to that factor for each step, $\mathbb E[w^2]$ is the $p(x)$ of a model with $r/2$ instead of $r$. The Kalman
# filter computes that one as well.


# %%
def log_rho(x):
    """log E[w^2] / p(x)^2 for q = prior, exact."""
    model, halved = lg.LinearGaussian(), lg.LinearGaussian(r=0.25)
    return float(halved.log_prob(x)[0] - len(x) * np.log(2 * np.sqrt(np.pi * model.r)) - 2 * model.log_prob(x)[0])


blind = lg.LinearGaussian(posterior="prior")  # q ignores the data
short = lg.sine(4)
ratio = np.exp(blind.log_weights(short, eps=rng.standard_normal((4, 1, 200_000, 1)))[0] - blind.log_prob(short)[0])
error = (ratio**2).std(ddof=1) / len(ratio) ** 0.5
print(f"T = 4: rho is {np.exp(log_rho(short)):.3f} exactly, {np.mean(ratio**2):.2f} ± {error:.2f} by 200,000 draws")
assert abs(np.mean(ratio**2) - np.exp(log_rho(short))) < 4 * error

many = np.log(ratio[: 64 * 3000].reshape(-1, 64).mean(axis=1))
error = many.std(ddof=1) / len(many) ** 0.5
rate = np.expm1(log_rho(short)) / (2 * 64)
print(f"T = 4: the gap of IWAE-64 is {-many.mean():.3f} ± {error:.3f}; the rate says {rate:.3f}")
assert abs(-many.mean() - rate) < 4 * error

# %%
lengths = np.array([1, 2, 5, 10, 20, 30, 40, 60, 80])
needed = np.array([log_rho(lg.sine(n)) for n in lengths]) / np.log(10)
figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.5))
for n, colour, style in ((5, BLUE, "-"), (20, RED, "--"), (80, GREEN, "-.")):
    log_w = blind.log_weights(lg.sine(n), eps=rng.standard_normal((n, 1, 4000, 1)))[0]
    log_w -= blind.log_prob(lg.sine(n))[0]
    left.hist(log_w, np.linspace(-250, 20, 109), color=colour, histtype="step", ls=style, lw=1.6, label=f"T = {n}")
left.set(xlabel="log w - log p(x) of a draw, nats", ylabel="draws of 4000", yscale="log", xlim=(-245, 20))
left.set_title("Weights spread out with T")
left.legend(loc="upper left")
right.plot(lengths, needed, "o-", color=BLUE)
right.set(xlabel="steps T", ylabel=r"$\log_{10} \rho$", title=r"Draws needed, about $\rho$: exponential in T")
print(f"rho: a thousand at T = 20, 10^{needed[-1]:.0f} at T = 80")
assert 3 < needed[4] < 3.3 and 12 < needed[-1] < 12.6 and np.all(np.diff(needed) > 0)
slopes = np.diff(needed) / np.diff(lengths)
assert slopes.max() < 2 * slopes.min() and 6 < 70 / (needed[-1] - needed[3]) < 7  # steps for a factor of ten

# %% [markdown]
# The points lie on a nearly straight line on a logarithmic scale: every six or seven additional steps require ten times
# as many draws. No computer can keep up with that. Most of the work is wasted: a draw that goes astray at step 5 is
# carried along to step 80.
#
# ## Resampling
#
# A **particle filter** looks at the weights during the run and keeps the draws that have explained the data so far. Let
# $w_k$ be the weight that particle $k$ has accumulated so far, and $\bar w_k = w_k / \sum_i w_i$ its **share**.
#
# How uneven are the shares? Suppose we estimate a mean by $\sum_k \bar w_k g_k$, with independent $g_k$ of variance
# $\sigma^2$. The estimate has variance $\sigma^2 \sum_k \bar w_k^2$; with $n$ equal shares of $1/n$ it would be
# $\sigma^2 / n$. So $K$ unequal shares are worth as much as $K_{\mathrm{eff}}$ equal ones, the **effective sample
# size**:
#
# $$K_{\mathrm{eff}} = \frac{1}{\sum_k \bar w_k^2} .$$
#
# It is $K$ for equal shares, and 1 if one particle has everything. When it falls below $K / 2$, we *resample*: each of
# the $K$ slots chooses an **ancestor**, particle $k$ with probability $\bar w_k$, and continues from its state. The
# mean weight so far is recorded, and all weights are reset to 1. (With $K = 2$ the effective size is at least $1 = K /
# 2$, so nothing is ever resampled.)
#
# > **Function** `tinyvrnn.models.particles.choose` · **held by**
# > `tests/test_bounds.py::test_a_sequence_is_resampled_below_half_its_particles_and_while_it_lasts`

# %%
tv.course.show(particles.choose)

# %% [markdown]
# We run thirty particles with the prior as $q$ and with the same noise, once without and once with resampling. The
# package's filter stores its choices and shares in its cache. (`copies` places the particles side by side, as columns
# of a batch.)

# %%
K, chain, draws = 30, model.chain(x), np.random.default_rng(4)
wide, mask = particles.copies(x, K), np.ones((T, 1), bool)
eps, uniforms = draws.standard_normal((T, K, 1)), draws.random((T, 1))
nobody = [particles.Choice(np.zeros(1, bool), np.arange(K)[None])] * T
caches = {}
for title, choices in (("Without resampling", nobody), ("With resampling", None)):
    arguments = (blind.bind(wide), wide, eps, mask, uniforms, blind.likelihood, lg.LINEAR)
    _, caches[title] = particles.filter_forward(*arguments, choices=choices)

effective = {title: 1 / (np.array(cache.shares)[1:, 0] ** 2).sum(axis=1) for title, cache in caches.items()}
again = sum(int(choice.again[0]) for choice in caches["With resampling"].choices)
for title, numbers in effective.items():
    print(f"{title:20} effective sample size at the end: {numbers[-1]:4.1f} of {K}")
print(f"resampled {again} times")
assert effective["Without resampling"][-1] < 1.5 and 5 < effective["With resampling"].min() and again > 5

# %% [markdown]
# In the figure each particle is a disc whose area is its share, and grey lines connect ancestors to descendants.


# %%
def draw_walk(axes, cache):
    z = np.zeros(K)
    for t, (choice, shares) in enumerate(zip(cache.choices, cache.shares[1:])):
        parents = z[choice.ancestors[0]]
        z = chain.a[t, 0] * parents + np.sqrt(chain.q[t, 0]) * eps[t, :, 0]  # Eq. 5, from each ancestor
        if t:
            axes.plot([t, t + 1], [parents, z], color="0.8", lw=0.7, zorder=0)
        axes.scatter(np.full(K, t + 1), z, s=4 + 250 * shares[0], color=BLUE, alpha=0.6, lw=0)
    axes.plot(range(1, T + 1), x.ravel(), "k.", ms=5)


figure, grid = plt.subplots(2, 2, figsize=(10.5, 5.2), sharex=True, sharey="row", height_ratios=(1.6, 1))
for (upper, lower), (title, cache) in zip(grid.T, caches.items()):
    draw_walk(upper, cache)
    upper.set_title(title)
    lower.plot(range(1, T + 1), effective[title], "o-", color=RED, ms=4)
    lower.axhline(K / 2, color="0.5", lw=0.8, ls=":")
    for t in np.flatnonzero([choice.again[0] for choice in cache.choices]):
        lower.axvline(t + 0.5, color=GREEN, lw=1, ls="--")
    lower.set(xlabel="step t", ylim=(0, K), xticks=(1, 5, 10, 15, 20))
grid[0, 0].set_ylabel("$z_t$ (dots: $x_t$)")
grid[1, 0].set_ylabel("effective size")
grid[1, 0].text(20.5, 15.6, "K / 2", color="0.4", fontsize=9, ha="right");

# %% [markdown]
# Without resampling, a single particle out of thirty ends up with almost the whole weight (with other noise, sometimes
# two or three). With resampling (at the dashed lines) the particles stay close to the data.
#
# ### How the ancestors are chosen
#
# $K$ independent choices would work. **Systematic** resampling is less random: lay the shares end to end, as intervals
# on a stick of length 1, and mark the $K$ points $(u + i) / K$, $i = 0, \dots, K - 1$, with a single $u \sim \mathcal
# U(0, 1)$ for all. Particle $k$ gets as many slots as there are points in its interval.
#
# On average that is $K \bar w_k$: point $i$ is uniform on $[i/K, (i + 1)/K)$ with density $K$, so it falls into the
# interval with probability $K$ times the length of their overlap. Summed over $i$ that is $K$ times the whole interval.
# And the number of slots never differs from $K \bar w_k$ by a whole slot, as the points are evenly spaced.
#
# > **Function** `tinyvrnn.models.particles.systematic` · **held by**
# > `tests/test_bounds.py::test_systematic_resampling_keeps_the_shares`
#
# ### Exercise 14.1 (write): systematic resampling
#
# `h` $(B, K)$ are states, `shares` $(B, K)$ add up to 1 in each row, `uniforms` is $(B,)$. Return the states from which
# the $K$ slots of each row continue, in the order of the points, $(B, K)$. A point on the border of two intervals
# belongs to the second. Round-off can put the last point at or past the end: it belongs to the last particle.


# %%
def my_resample(h, shares, uniforms):
    """The states of the chosen ancestors, (B, K)."""
    ### BEGIN SOLUTION
    B, K = h.shape
    points = (uniforms[:, None] + np.arange(K)) / K
    ends = np.cumsum(shares, axis=1)
    ancestors = (ends[:, None, :] <= points[:, :, None]).sum(axis=2).clip(max=K - 1)
    return np.take_along_axis(h, ancestors, axis=1)
    ### END SOLUTION


# %%
tv.course.check("14.1", my_resample)

# %% [markdown]
# ## The filtering bound
#
# Let $W_0, W_1, \dots, W_n$ be the mean weights recorded at the resamplings and at the end. Then
#
# $$\mathrm{FIVO}_K = \mathbb E \log \hat p(x), \qquad \hat p(x) = \prod_{i=0}^{n} W_i .$$
#
# ([Maddison et al., 2017](https://arxiv.org/abs/1705.09279).) By Jensen's inequality it is a bound **if** $\mathbb E\,
# \hat p(x) = p(x)$. That is not obvious: after a resampling the particles are neither independent nor draws from $q$.
#
# **Two steps**, with one resampling in between. First step: $z^{(k)}_1 \sim q$, with weights $w_{1,k}$. Then ancestors
# $a_k$ are chosen, then $z_2^{(k)} \sim q(\cdot \mid z_1^{(a_k)})$, with weights $w_{2,k}$, and
#
# $$\hat p = \Big( \frac1K \sum_k w_{1,k} \Big) \Big( \frac1K \sum_k w_{2,k} \Big) .$$
#
# Fix the particles of the first step and average over the rest. The weight of the second step, given the state it
# starts from, has mean
#
# $$g(z_1) = \int q(z_2 \mid \cdot)\, \frac{p(x_2 \mid z_2)\, p(z_2 \mid z_1)}{q(z_2 \mid \cdot)}\, dz_2
# = p(x_2 \mid z_1) .$$
#
# On average, particle $j$ is chosen for $K \bar w_{1,j}$ slots. So the second bracket has mean $\frac1K \sum_j K \bar
# w_{1,j}\, g(z_1^{(j)})$, and the first bracket cancels the normalisation of the shares:
#
# $$\Big( \frac1K \sum_k w_{1,k} \Big) \sum_j \frac{w_{1,j}}{\sum_k w_{1,k}}\, g(z_1^{(j)})
# = \frac1K \sum_j w_{1,j}\, g(z_1^{(j)}) .$$
#
# Now average over the first step. All terms have the same mean:
#
# $$\begin{aligned}
# \mathbb E\, \hat p
# &= \int q(z_1 \mid x_1)\, \frac{p(x_1 \mid z_1)\, p(z_1)}{q(z_1 \mid x_1)}\, p(x_2 \mid z_1)\, dz_1 \\
# &= \int p(z_1)\, p(x_1 \mid z_1)\, p(x_2 \mid z_1)\, dz_1 = p(x_1, x_2) .
# \end{aligned}$$
#
# **Any number of steps.** Look again at $\frac1K \sum_j w_{1,j}\, g(z_1^{(j)})$. It is exactly the mean **without**
# resampling: each particle keeps its weight and has the mean future $g$. So, conditioned on everything up to a
# resampling, the resampling does not change the mean. Remove the resamplings one after another, the last one first,
# always with $g(z_t) = p(x_{t+1}, \dots, x_T \mid z_t)$, and the mean of $K$ plain weights is left, which is $p(x)$.
# The decision *whether* to resample may depend on the weights, since they are part of what we condition on. $\square$
#
# > **Function** `tinyvrnn.bounds.fivo` · **held by** `tests/test_bounds.py::test_the_estimate_of_p_is_unbiased`

# %%
tv.course.show(particles.filter_forward)

# %% [markdown]
# **Run it.** Is the mean of $\hat p(x) / p(x)$ equal to 1? We test it for $T = 5$ and four particles, within four
# standard errors. (Both functions use the same noise, so wherever their results differ, a resampling took place.)

# %%
N, five = 50_000, lg.sine(5)
exact_five, repeated = blind.log_prob(five)[0], np.tile(five, (1, N, 1))
found = {name: getattr(tv.bounds, name)(blind, repeated, particles=4) - exact_five for name in ("iwae", "fivo")}
for name, log_ratio in found.items():
    ratio, error = np.exp(log_ratio), np.exp(log_ratio).std(ddof=1) / N**0.5
    print(f"{name}: estimate / p(x) has mean {ratio.mean():.3f} ± {error:.3f}, its logarithm {log_ratio.mean():.2f}")
    assert abs(ratio.mean() - 1) < 4 * error and log_ratio.mean() < -0.1
resampled = np.mean(abs(found["iwae"] - found["fivo"]) > 1e-9)
print(f"resampled in {resampled:.0%} of the runs")
assert resampled > 0.7 and found["fivo"].mean() > found["iwae"].mean()

# %% [markdown]
# ### Exercise 14.2 (bug): the particle filter's bookkeeping
#
# Here is someone's bookkeeping for a particle filter. `log_w` $(T, B, K)$ are the log-weights of the individual steps,
# and `again` $(T, B)$ is 1 for the sequences that are resampled **before** step $t$, else 0. Their bound is wrong, and
# the error grows with the number of resamplings.


# %%
def buggy_ledger(again, log_w):
    """log of the estimate of p(x), (B,)."""
    gathered, total = np.zeros_like(log_w[0]), np.zeros_like(log_w[0, :, 0])
    for t in range(len(log_w)):
        total = total + np.where(again[t] > 0, particles.log_mean_exp(gathered), 0)  # recorded
        gathered = gathered + log_w[t]
    return total + particles.log_mean_exp(gathered)


# %% [markdown]
# Find the bug, and write the correct version.


# %%
def my_ledger(again, log_w):
    """log of the estimate of p(x), (B,)."""
    ### BEGIN SOLUTION
    gathered, total = np.zeros_like(log_w[0]), np.zeros_like(log_w[0, :, 0])
    for t in range(len(log_w)):
        total = total + np.where(again[t] > 0, particles.log_mean_exp(gathered), 0)
        gathered = np.where(again[t][:, None] > 0, 0, gathered)  # what was recorded must not be counted again
        gathered = gathered + log_w[t]
    return total + particles.log_mean_exp(gathered)
    ### END SOLUTION


# %%
tv.course.check("14.2", my_ledger)

# %% [markdown]
# ### FIVO against IWAE
#
# We compute both bounds with the **prior** as $q$, the worst choice. Left: more particles. Right: longer sequences,
# with 64 particles throughout.

# %%
def score(name, x, n, particles):
    """Mean and standard error of n estimates of a bound, less log p(x)."""
    found = getattr(tv.bounds, name)(blind, np.tile(x, (1, n, 1)), particles=particles) - blind.log_prob(x)[0]
    return found.mean(), found.std(ddof=1) / n**0.5


fivo = np.array([score("fivo", x, n, K) for K, n in ((1, 4000), (4, 4000), (16, 2000), (64, 600), (256, 200))]).T
lengths = (5, 10, 20, 40, 80)
by_length = {name: np.array([score(name, lg.sine(n), 150, 64) for n in lengths]).T for name in ("iwae", "fivo")}

print(f"T = 20: FIVO-16 {fivo[0][2]:.1f}, IWAE-256 {climbs['prior'][0][4]:.1f} nats from the exact value")
print(f"T = 80: FIVO-64 {by_length['fivo'][0][-1]:.1f}, IWAE-64 {by_length['iwae'][0][-1]:.0f}")
assert np.all(fivo[0] - 4 * fivo[1] < 0) and np.all(np.diff(fivo[0][:4]) > 0)
assert fivo[0][2] - 4 * fivo[1][2] > climbs["prior"][0][4] + 4 * climbs["prior"][1][4]
assert by_length["fivo"][0][-1] - 4 * by_length["fivo"][1][-1] > -1
assert by_length["iwae"][0][-1] + 4 * by_length["iwae"][1][-1] < -40

# %%
figure, panels = plt.subplots(1, 2, figsize=(10.5, 3.6), sharey=True)
left = {"IWAE": climbs["prior"][:, :5], "FIVO": fivo}
right = {"IWAE": by_length["iwae"], "FIVO": by_length["fivo"]}
for axes, found, across in zip(panels, (left, right), (KS[:5], lengths)):
    for name, colour, style, marker in (("IWAE", PINK, ":", "o"), ("FIVO", BLUE, "-", "s")):
        mean, error = found[name]
        axes.errorbar(across, mean, 4 * error, color=colour, ls=style, marker=marker, label=name)
    axes.axhline(0, color="k", lw=0.8)
panels[0].set(xscale="log", xticks=KS[:5], xticklabels=KS[:5], xlabel="particles K")
panels[0].set(ylabel="bound minus log p(x), nats", title="T = 20: FIVO rises faster (bars: 4 s.e.)")
panels[0].minorticks_off()
panels[0].legend(loc="lower right")
panels[1].set(xlabel="steps T", xticks=lengths, title="K = 64: FIVO copes with long sequences");

# %% [markdown]
# Sixteen particles with resampling beat 256 without it. And at $T = 80$, where IWAE is more than 40 nats off, the same
# number of particles in a filter comes within one nat: the weights are reset again and again, so the errors of the
# segments roughly add up, whereas in IWAE they multiply.
#
# So is a filter always better? Look once more at the true posterior, which has no gap at all.
#
# ### Exercise 14.3 (predict): the perfect $q$ in a filter
#
# Let $q$ be the **smoothing** posterior, and $T = 20$. Which of these equal $\log p(x)$ for *every* noise, to all
# digits? Answer with a set of words, e.g. `{"w", "fivo"}`.
#
# - `"w"`: $\log w$ of one draw;
# - `"eq11"`: the sum in the brackets of Eq. 11, with its KL in closed form, for one draw;
# - `"iwae"`: $\log \frac18 \sum_k w_k$ of eight draws;
# - `"fivo"`: the filter's $\log \hat p(x)$, with eight particles.

# %%
prediction = None
### BEGIN SOLUTION
prediction = {"w", "iwae"}
### END SOLUTION

# %%
tv.course.check("14.3", prediction)

# %%
perfect, repeated = lg.LinearGaussian(posterior="smoothing"), np.tile(x, (1, 500, 1))
eps = rng.standard_normal((T, 500, 1))
spread = {
    "w": perfect.log_weights(repeated, eps=eps[:, :, None]).std(),
    "eq11": perfect.elbo(repeated, eps=eps).std(),
    "iwae": tv.bounds.iwae(perfect, repeated, particles=8).std(),
    "fivo": tv.bounds.fivo(perfect, repeated, particles=8).std(),
}
for name, value in spread.items():
    print(f"{name:5} spread over 500 runs: {value:.3f} nats")
assert max(spread["w"], spread["iwae"]) < 1e-9 and min(spread["eq11"], spread["fivo"]) > 1e-3

# %% [markdown]
# For each $z$, $w = p(x, z) / p(z \mid x) = p(x)$: a constant, and so is any mean of such weights. Eq. 11 averages only
# one of its two terms over $z$, so its value for one draw varies (like line 9 in 05).
#
# And the filter? It looks at the weights *during* the run. After step $t$ a particle has accumulated the weight
# $p(x_{\le t}, z_{\le t}) / q(z_{\le t})$, and with $q(z_{\le t}) = p(z_{\le t} \mid x_{\le T})$ that is
#
# $$\frac{p(x_{\le t}, z_{\le t})\; p(x)}{p(x_{\le t}, z_{\le t})\; p(x_{t+1}, \dots, x_T \mid z_t)}
# = \frac{p(x)}{p(x_{t+1}, \dots, x_T \mid z_t)} :$$
#
# which is small if $z_t$ will explain the future **well**. So the filter sometimes discards particles it should have
# kept. A filter suits a $q$ that does not look ahead, and the $q$ of Eq. 10 does not.
#
# ## Consequences for a trained VRNN
#
# With neural networks $\log p(x)$ is out of reach, but IWAE and FIVO are not: both are lower bounds, and tighter ones.
# At the end of [08](08_training.ipynb) a collapsed VRNN had a higher ELBO than one that used its latents. But a
# collapsed VRNN has hardly any gap: if $z$ carries no information, its posterior is easy to match. So was it better, or
# did the ELBO only *measure* it better? Train both, on the small digits.

# %%
data = tv.load_data("digits8")
trained = {}
for name, warmup in (("no warm-up", 0), ("warm-up", 6)):
    trained[name] = tv.VRNN(x_dim=8, h_dim=32, z_dim=8, dtype="float64", seed=0)
    tv.train(trained[name], data, epochs=20, lr=5e-3, warmup=warmup, seed=0, workers=1, progress=False)
    kl = tv.bounds.evaluate_elbo(trained[name], data.test).kl_per_sequence
    print(f"{name:11} KL {kl:.1f} nats per digit")

# %% [markdown]
# `tv.bounds.evaluate` computes any of the bounds over a data set, with two standard errors that answer two questions:
#
# - `standard_error`: how much would the figure change with **other test digits**? This one is by far the larger.
# - `standard_error_draws`: how much would it change with the same digits and **other noise**? Use this one to compare
#   bounds on the same test set, as we do here.
#
# > **Function** `tinyvrnn.bounds.evaluate` · **held by**
# > `tests/test_bounds.py::test_the_standard_error_of_the_draws_is_how_evaluations_differ`

# %%
asked = [("elbo", 8), ("iwae", 4), ("iwae", 16), ("iwae", 64), ("fivo", 16), ("fivo", 64)]
scores = {n: {a: tv.bounds.evaluate(m, data.test, *a) for a in asked} for n, m in trained.items()}
print("nats per digit")
print(f"{'± by draws':12}{'no warm-up':>16}{'warm-up':>16}")
for bound, K in asked:
    cells = (scores[name][bound, K] for name in trained)
    label = "ELBO" if bound == "elbo" else f"{bound.upper()}-{K}"
    print(f"{label:12}" + "".join(f"{s.per_sequence:9.2f} ± {s.standard_error_draws:.2f}" for s in cells))
print("± by digits".ljust(12) + "".join(f"{s['iwae', 64].standard_error:16.2f}" for s in scores.values()))

# %%
figure, axes = plt.subplots(figsize=(7.5, 3.6))
places = {("elbo", 8): 1, **{("iwae", K): K for K in (4, 16, 64)}}
for (name, found), (colour, style, marker) in zip(scores.items(), ((RED, "--", "s"), (BLUE, "-", "o"))):
    points = {a: (s.per_sequence, 4 * s.standard_error_draws) for a, s in found.items()}
    mean, bars = np.array([points[a] for a in places]).T
    axes.errorbar(list(places.values()), mean, bars, color=colour, ls=style, marker=marker, label=f"{name}, IWAE-K")
    mean, bars = np.array([points["fivo", 16], points["fivo", 64]]).T
    axes.errorbar((18, 72), mean, bars, color=colour, ls="", marker="x", ms=7, label=f"{name}, FIVO-K")
axes.set(xscale="log", xticks=list(places.values()), xticklabels=["ELBO", 4, 16, 64], xlabel="draws K")
axes.minorticks_off()
axes.set(ylabel="nats per digit", title="Part of the lead in ELBO is gap (bars: 4 s.e. by draws)")
axes.legend(fontsize=9, loc="lower right")

gain = {}
for name, found in scores.items():
    low, high = found["elbo", 8], found["iwae", 64]
    gain[name] = high.per_sequence - low.per_sequence
    assert gain[name] > 4 * np.hypot(low.standard_error_draws, high.standard_error_draws)
ahead = {a: scores["no warm-up"][a].per_sequence - scores["warm-up"][a].per_sequence for a in (asked[0], asked[3])}
print(f"IWAE-64 above ELBO: {gain['no warm-up']:.1f} without warm-up, {gain['warm-up']:.1f} with it")
print(f"difference of the two models: {ahead['elbo', 8]:.2f} nats by ELBO, {ahead['iwae', 64]:.2f} by IWAE-64")
assert gain["warm-up"] > 2 * gain["no warm-up"] and ahead["iwae", 64] < 0.8 * ahead["elbo", 8]

# %% [markdown]
# By the ELBO, the model without warm-up is clearly ahead. By a tighter bound, a good part of that lead disappears: the
# other model does not explain digits so much worse, but its latents carry information, and the $q$ of a filter misses
# part of it. (With other seeds, more or less of the lead is gap, or there is no lead. Measure yours.) Three conclusions
# for reading tables of results, and for making them:
#
# - An ELBO is $\log p(x)$ **minus a gap**. A published ELBO understates $\log p(x)$ by that gap, and nobody knows how
#   large it is. The comparison with an autoregressive model, whose $\log p(x)$ is exact, is not fair.
# - IWAE and FIVO are **also lower bounds**, only tighter. The paper gives both: the ELBO, and an importance-sampled
#   estimate with 40 draws. State which bound, which $K$, and which standard error you report.
# - You can train with them: `tv.train(model, data, bound="fivo", particles=4)` maximises the tighter bound.
#
# ## What you now know
#
# - Averaging $K$ weights before the logarithm gives a bound that rises with $K$ to $\log p(x)$.
# - For long sequences it needs exponentially many draws. Resampling avoids that, and keeps the estimate of $p(x)$
#   unbiased.
# - A filter suits a $q$ that does not look ahead.
# - State the bound, $K$ and the standard error with each result, and compare models by a tight bound.
#
# This is the last notebook, but if you came from 09, [10](10_one_code_two_backends.ipynb) to
# [13](13_your_vrnn.ipynb) are still ahead. The gradients of both bounds are in
# [docs/derivations/importance.md](../docs/derivations/importance.md).
