# %% [markdown]
# # 09 · How tight is the bound?
#
# Training raises a number that lies below $\log p(x)$. How far below? For a VRNN with neural networks nobody knows,
# because $\log p(x)$ cannot be computed. So we take a VRNN for which it *can* be computed, and measure what the
# posterior's family costs. [14 · Tighter bounds](14_tighter_bounds.ipynb) then recovers part of it with several draws.
#
# *You need*: the gap in Jensen's inequality from [05](05_the_elbo_line_by_line.ipynb), filter and smoother from
# [04](04_the_approximate_posterior.ipynb). *It takes* about 1 h 10 min.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn.distributions.gaussian import gaussian_log_density_forward
from tinyvrnn.models import linear_gaussian as lg

tv.plots.use_style()
rng = np.random.default_rng(0)
BLUE, RED, GREEN, PINK = tv.plots.COLOURS[:4]

# %% [markdown]
# ## A linear VRNN
#
# Let every variable be a scalar and every network a linear function:
#
# - **features**: $\varphi^x(x_t) = x_t$ and $\varphi^z(z_t) = z_t$;
# - **Eq. 7**, recurrence: $h_t = z_t$, so the state is just the last latent;
# - **Eq. 5**, prior: $\mu_{0,t} = a\, h_{t-1}$ and $\sigma_{0,t}^2 = q$;
# - **Eq. 6**, generation: $\mu_{x,t} = z_t$ and $\sigma_{x,t}^2 = r$;
# - **Eq. 9**, inference: $\mu_{z,t} = A_t h_{t-1} + K_t x_t + c_t$ and $\sigma_{z,t} = s_t$, where we may choose the
#   numbers $A_t, K_t, c_t, s_t$.
#
# Substitute Eq. 7 into Eq. 5, and the generative process of this VRNN is
#
# $$z_1 \sim \mathcal N(0, 1), \qquad z_t = a\, z_{t-1} + \mathcal N(0, q), \qquad x_t = z_t + \mathcal N(0, r) .$$
#
# A hidden number drifts over time, and we observe it with noise. Engineers know this as the **linear-Gaussian
# state-space model**; it has been used to track aircraft since 1960. Careful: $q$ and $r$ are variances, as is usual in
# that literature. (At $t = 1$ the rule is the same with $a_1 = 0$, $q_1 = 1$.)
#
# The data of this notebook are a sine wave, $x_t = \sin(t/2)$, of 20 steps, and $a = 0.9$, $q = r = 0.5$.

# %%
x, T = lg.sine(), 20
model = lg.LinearGaussian(a=0.9, q=0.5, r=0.5, posterior="filtering")
print(model, "  x:", x.shape)

# %% [markdown]
# ### The model as one big Gaussian
#
# Each $z_t$ is a sum of independent noise terms, $z_t = \sum_{s \le t} a^{t-s} u_s$, with $u_1 \sim \mathcal N(0, 1)$
# and later $u_s \sim \mathcal N(0, q)$. In matrix form, $z = L u$ with $L_{ts} = a^{t-s}$ for $s \le t$, else 0. So
# with $D = \mathrm{diag}(1, q, q, \dots)$,
#
# $$\mathrm{Cov}[z] = L D L^\top =: C, \qquad \mathrm{Cov}[z, x] = C, \qquad \mathrm{Cov}[x] = C + r I ,$$
#
# because $x$ is $z$ plus independent noise. That is the whole model, straight from its definition, without a filter. It
# will be our **brute force** reference: correct, slow ($T^3$ operations), and independent of everything below.

# %%
lag = np.arange(T)[:, None] - np.arange(T)
L = np.tril(model.a ** np.maximum(lag, 0))
C = L @ np.diag([1.0] + (T - 1) * [model.q]) @ L.T
cov_x = C + model.r * np.eye(T)


def log_normal(v, cov):
    """log N(v; 0, cov) of a vector v."""
    return -0.5 * (v @ np.linalg.solve(cov, v) + np.linalg.slogdet(2 * np.pi * cov)[1])


# %% [markdown]
# **Does the package's VRNN define the same model?** Evaluate Eq. 5, 6 and 7 of the package along a random $z$, add up
# the log-densities as in Eq. 8, and compare with the big Gaussian over all 40 numbers.

# %%
z, h, log_joint, f = rng.standard_normal((T, 1, 1)), np.zeros((1, 1)), 0.0, lg.LINEAR
for t in range(T):
    p = f.at(model.bind(x), t)
    prior, _ = f.prior_forward(p["prior"], h)  # Eq. 5
    outputs, _ = f.generate_forward(p["generate"], z[t], h, model.likelihood)  # Eq. 6
    h, _ = f.recur_forward(p["recur"], x[t], z[t], h)  # Eq. 7
    log_joint += gaussian_log_density_forward(z[t], *prior)[0] + gaussian_log_density_forward(x[t], *outputs)[0]

both = np.concatenate([z, x]).ravel()
big = log_normal(both, np.block([[C, C], [C, cov_x]]))
print(f"log p(x, z): by Eq. 5, 6, 7 and 8 {log_joint[0]:.6f}, by one Gaussian of 40 dimensions {big:.6f}")
assert abs(log_joint[0] - big) < 1e-9

# %% [markdown]
# ## The Kalman filter
#
# Brute force already gives $\log p(x)$. But we want it step by step, for any length, and we also want the distribution
# of $z_t$ at each step. One lemma is enough.
#
# ### The lemma
#
# Let $z \sim \mathcal N(m', P')$ and $x = z + \mathcal N(0, r)$. As a function of $z$, the product of the two densities
# is again a Gaussian, times a factor:
#
# $$\mathcal N(z; m', P')\, \mathcal N(x; z, r) = \mathcal N(x; m', P' + r)\; \mathcal N(z; m, P),$$
#
# $$\frac1P = \frac1{P'} + \frac1r, \qquad \frac mP = \frac{m'}{P'} + \frac xr .$$
#
# *Proof.* The exponent on the left-hand side is $-\frac12$ times
#
# $$\begin{aligned}
# &\frac{(z - m')^2}{P'} + \frac{(x - z)^2}{r} \\
# &= z^2 \underbrace{\Big(\frac1{P'} + \frac1r\Big)}_{1/P}
# - 2 z \underbrace{\Big(\frac{m'}{P'} + \frac xr\Big)}_{m/P} + \frac{m'^2}{P'} + \frac{x^2}{r} \\
# &= \frac{(z - m)^2}{P} + R, \qquad R = \frac{m'^2}{P'} + \frac{x^2}{r} - \frac{m^2}{P} .
# \end{aligned}$$
#
# With $P = P' r / (P' + r)$ and $m / P = (m' r + x P') / (P' r)$,
#
# $$\begin{aligned}
# R &= \frac{m'^2 r (P' + r) + x^2 P' (P' + r) - (m' r + x P')^2}{P' r\, (P' + r)} \\
# &= \frac{m'^2 r P' + x^2 P' r - 2 m' x\, r P'}{P' r\, (P' + r)} = \frac{(x - m')^2}{P' + r} .
# \end{aligned}$$
#
# That is the exponent of $\mathcal N(x; m', P' + r)$. The normalising factors agree as well, since $P (P' + r) = P' r$:
# on the left $1 / (2 \pi \sqrt{P' r})$, on the right $1 / (2 \pi \sqrt{P (P' + r)})$. $\square$
#
# The two sides are $p(z)\, p(x \mid z) = p(x)\, p(z \mid x)$. So the lemma answers two questions at once: how likely
# $x$ is, and what we know about $z$ after observing it. In words: **precisions**, that is $1/P$, **add up**.
#
# ### The filter
#
# Suppose that $p(z_{t-1} \mid x_{\lt t}) = \mathcal N(m, P)$. Three steps lead to the distribution of $z_t$.
#
# **Predict.** $z_t = a z_{t-1} + \mathcal N(0, q)$: a Gaussian times $a$, plus an independent Gaussian:
#
# $$p(z_t \mid x_{\lt t}) = \mathcal N(m', P'), \qquad m' = a m, \quad P' = a^2 P + q .$$
#
# **Score.** The first factor of the lemma. The prediction error $x_t - m'$ is called the **innovation**:
#
# $$p(x_t \mid x_{\lt t}) = \mathcal N(x_t; m', P' + r) .$$
#
# **Update.** The second factor of the lemma. The **gain** $k = P' / (P' + r)$ is the fraction of the innovation that
# corrects the mean. With it, $P = P' r / (P' + r) = (1 - k) P'$, and $m = P (m'/P' + x_t / r) = (1 - k) m' + k x_t$:
#
# $$p(z_t \mid x_{\le t}) = \mathcal N(m, P), \qquad m = m' + k (x_t - m'), \quad P = (1 - k) P' .$$
#
# This is a Gaussian, as assumed, so the induction continues. By the chain rule of probability the scores are all we
# need:
#
# $$\log p(x) = \sum_{t=1}^{T} \log p(x_t \mid x_{\lt t}) = \sum_{t=1}^{T} \log \mathcal N(x_t; m'_t, P'_t + r) .$$
#
# > **Function** `tinyvrnn.models.linear_gaussian.kalman_filter` · **held by**
# > `tests/test_linear_gaussian.py::test_kalman_filter_equals_one_big_gaussian`
#
# ### Exercise 09.1 (write): one step of the filter
#
# `m` and `P` $(B,)$ are the mean and variance of $z_{t-1}$ given $x_{\lt t}$, for $B$ sequences; `x` $(B,)$ is $x_t$.
# Return the new `m`, the new `P`, and the score $\log p(x_t \mid x_{\lt t})$.


# %%
def my_kalman_step(m, P, x, a, q, r):
    """m, P of z_t given x_<=t, and log p(x_t | x_<t), each (B,)."""
    ### BEGIN SOLUTION
    m, P = a * m, a**2 * P + q
    S = P + r
    log_p = -0.5 * ((x - m) ** 2 / S + np.log(2 * np.pi * S))
    k = P / S
    return m + k * (x - m), (1 - k) * P, log_p
    ### END SOLUTION


# %%
tv.course.check("09.1", my_kalman_step)

# %% [markdown]
# The package's filter does the same for whole batches. The only difference: it uses $1/r$, called `info`, so that a
# padded step is simply a step with information 0.

# %%
tv.course.show(lg.kalman_filter)

# %% [markdown]
# **Run it** against brute force: the filter's $\log p(x)$, and at every step its mean and variance of $z_t$, against
# the rule for jointly Gaussian vectors, $\mathbb E[z \mid x] = \mathrm{Cov}[z, x]\, \mathrm{Cov}[x]^{-1} x$.

# %%
chain = model.chain(x)
filtered = lg.kalman_filter(chain, x)
exact = float(model.log_prob(x)[0])
print(f"log p(x): Kalman filter {exact:.6f}, one Gaussian of 20 dimensions {log_normal(x.ravel(), cov_x):.6f}")
assert abs(exact - log_normal(x.ravel(), cov_x)) < 1e-10 and abs(exact + 22.457023) < 1e-6

for t in range(T):
    gain = np.linalg.solve(cov_x[: t + 1, : t + 1], C[: t + 1, t])  # of x_<=t
    assert abs(filtered.mean[t, 0, 0] - gain @ x[: t + 1].ravel()) < 1e-12
    assert abs(filtered.variance[t, 0, 0] - (C[t, t] - gain @ C[: t + 1, t])) < 1e-12

# %% [markdown]
# All bounds in this notebook lie below this number: $\log p(x) = -22.457$ nats.
#
# ## Information from the future
#
# At step $t$ the filter has seen $x_{\le t}$. The later data also carry information about $z_t$: if $x_{t+1}$ is high,
# $z_t$ was probably high. That information is the likelihood $p(x_{t+1}, \dots, x_T \mid z_t)$, as a function of $z_t$.
# The claim:
#
# $$p(x_{t+1}, \dots, x_T \mid z_t) = \text{const} \cdot \exp\big( {-\tfrac12} j_t z_t^2 + e_t z_t \big) .$$
#
# *Proof*, by induction from the end. At $t = T$ there is no future: $j_T = e_T = 0$. Suppose the claim holds at $t +
# 1$. To obtain the likelihood of $z_{t+1}$ given the future including $x_{t+1}$, multiply by $\mathcal N(x_{t+1};
# z_{t+1}, r)$, whose exponent is $-\frac12 z_{t+1}^2 / r + z_{t+1} x_{t+1} / r$ plus a constant:
#
# $$J = j_{t+1} + \frac1r, \qquad E = e_{t+1} + \frac{x_{t+1}}{r} .$$
#
# As $J > 0$, this is a Gaussian function of $z_{t+1}$: it is equivalent to one observation $E / J$ with noise variance
# $1 / J$. And given $z_t$ we know $z_{t+1} \sim \mathcal N(a z_t, q)$. By the first factor of the lemma, the likelihood
# of that observation is $\mathcal N(E/J;\, a z_t,\, q + 1/J)$. Its exponent as a function of $z_t$ has
#
# $$j_t = \frac{a^2}{q + 1/J} = \frac{a^2 J}{1 + q J}, \qquad
# e_t = \frac{a\, E / J}{q + 1/J} = \frac{a E}{1 + q J} . \qquad \square$$
#
# > **Function** `tinyvrnn.models.linear_gaussian.future_information` · **held by**
# > `tests/test_linear_gaussian.py::test_smoothing_posterior_walks_through_the_moments_of_the_rts_smoother`
#
# Past and future combined give the **smoother**. By Bayes' rule $p(z_t \mid x_{\le T}) \propto p(z_t \mid x_{\le t})\,
# p(x_{t+1}, \dots, x_T \mid z_t)$, and precisions add:
#
# $$\frac{1}{\hat P_t} = \frac{1}{P_t} + j_t, \qquad \frac{\hat m_t}{\hat P_t} = \frac{m_t}{P_t} + e_t .$$
#
# **Run it** against two other methods: brute force, and the package's `rts_smoother`, which goes backwards through the
# filter's moments and does not use $j$ and $e$.

# %%
j, e = lg.future_information(chain, x)
P_hat = 1 / (1 / filtered.variance + j)
m_hat = P_hat * (filtered.mean / filtered.variance + e)

gain = np.linalg.solve(cov_x, C)  # (x, z)
assert np.allclose(m_hat.ravel(), gain.T @ x.ravel(), atol=1e-12)
assert np.allclose(P_hat.ravel(), np.diag(C - gain.T @ C), atol=1e-12)
assert np.allclose([m_hat, P_hat], lg.rts_smoother(chain, filtered), atol=1e-12)
assert np.all(P_hat[:-1] < filtered.variance[:-1]) and P_hat[-1] == filtered.variance[-1]
print("smoother: three methods agree to 1e-12; its variance is below the filter's at every step but the last")


# %%
steps = np.arange(1, T + 1)


def band(axes, mean, variance, colour, label, style="-"):
    """A mean over time, plus and minus two standard deviations: a band, or thin lines if the style is not "-"."""
    mean, two = mean.ravel(), 2 * np.sqrt(variance.ravel())
    if style == "-":
        axes.fill_between(steps, mean - two, mean + two, color=colour, alpha=0.2, lw=0)
    else:
        axes.plot(steps, np.stack([mean - two, mean + two], axis=1), style, color=colour, lw=0.8)
    axes.plot(steps, mean, style, color=colour, label=label, lw=2)


figure, axes = plt.subplots(figsize=(8.5, 3.4))
band(axes, filtered.mean, filtered.variance, RED, r"filter, $p(z_t \mid x_1 \ldots x_t)$", "--")
band(axes, m_hat, P_hat, BLUE, r"smoother, $p(z_t \mid x_1 \ldots x_T)$")
axes.plot(steps, x.ravel(), "k.", label="$x_t$")
axes.set(xlabel="step t", xticks=steps, ylabel="$z_t$", ylim=(-2.9, 3.4))
axes.set_title("The filter lags behind; the smoother is more certain (bands: 2 standard deviations)")
axes.legend(ncol=3, loc="upper right")

assert abs(m_hat - x).mean() < abs(filtered.mean - x).mean()

# %% [markdown]
# ## Four posteriors
#
# Now to $q$. Which $q(z \mid x)$ would leave no gap? The true posterior. By the chain rule it is a product over time,
# and given $z_{t-1}$, earlier data and latents carry no further information about $z_t$:
#
# $$p(z \mid x) = \prod_{t=1}^{T} p(z_t \mid z_{\lt t}, x_{\le T})
# = \prod_{t=1}^{T} p(z_t \mid z_{t-1}, x_t, \dots, x_T) .$$
#
# Each factor combines three sources: the prior, the present, the future. Multiply them, and precisions add once more:
#
# $$\frac{1}{s_t^2} = \frac{1}{q_t} + \frac1r + j_t, \qquad
# \frac{\mu_{z,t}}{s_t^2} = \frac{a_t z_{t-1}}{q_t} + \frac{x_t}{r} + e_t .$$
#
# Compare with Eq. 9 in the list at the top: $A_t = s_t^2 a_t / q_t$, $K_t = s_t^2 / r$, and $c_t = s_t^2 e_t$ **is the
# information from the future**. Eq. 10 has no place for it, because $q(z_t \mid x_{\le t}, z_{\lt t})$ cannot look
# ahead. So the best that a VRNN can have is something like the second or third of these:
#
# | posterior | mean | standard deviation | possible in a VRNN? |
# |---|---|---|---|
# | **smoothing**, $p(z_t \mid z_{t-1}, x_t, \dots, x_T)$ | as above | as above | no |
# | **filtering**, $p(z_t \mid z_{t-1}, x_t)$ | as above, without the future | without the future | yes |
# | **filtering mean, smoothing variance** | of filtering | of smoothing | yes |
# | **prior**, $p(z_t \mid z_{t-1})$ | of the prior | of the prior | yes |
#
# "Without the future" means $j_t = e_t = 0$. The third row is possible because here $j_t$ does not depend on the data,
# only on the number of remaining steps.
#
# > **Function** `tinyvrnn.models.linear_gaussian.smoothing` · **held by**
# > `tests/test_linear_gaussian.py::test_only_the_smoothing_posterior_reads_the_future`

# %%
tv.course.show(lg.smoothing)

# %% [markdown]
# The four distributions of $z_{10}$, given the draw $z_9 = 0.5$:

# %%
NARROW = "filtering mean, smoothing variance"
STYLES = {"smoothing": (BLUE, "-"), "filtering": (RED, "--"), NARROW: (GREEN, "-."), "prior": (PINK, ":")}
figure, axes = plt.subplots(figsize=(7, 3.2))
at, points = 9, np.linspace(-2.5, 2.5, 401)
for name, posterior in lg.POSTERIORS.items():
    head = {key: value[at, 0, 0] for key, value in posterior(chain, x).items()}
    mean = head["A"] * 0.5 + head["K"] * x[at, 0, 0] + head["c"]
    log_q, _ = gaussian_log_density_forward(points[:, None], *(np.full((401, 1), v) for v in (mean, head["sigma"])))
    axes.plot(points, np.exp(log_q), STYLES[name][1], color=STYLES[name][0], label=name)
axes.plot(x[at, 0, 0], 0, "ko", clip_on=False)
axes.annotate("$x_{10}$", (x[at, 0, 0], 0), (x[at, 0, 0] - 0.12, 0.06))
axes.set(xlabel="$z_{10}$", ylabel="density", ylim=(0, 1.15), title="Four posteriors of one step, given $z_9 = 0.5$")
axes.legend(loc="upper right", fontsize=9);

# %% [markdown]
# ### Exercise 09.2 (predict): which bound is best?
#
# All four make Eq. 11 a lower bound of $\log p(x)$. With smoothing it equals $\log p(x)$. Order the other three by
# their ELBO, best first, e.g. `("filtering", "narrow", "prior")`, where `"narrow"` is the third row: the exact filter's
# mean, but a standard deviation that is too small for a filter.

# %%
prediction = None
### BEGIN SOLUTION
prediction = ("narrow", "filtering", "prior")
### END SOLUTION

# %%
tv.course.check("09.2", prediction)

# %% [markdown]
# ### The expectation in Eq. 11, without sampling
#
# To compare bounds to six digits, we cannot estimate $\mathbb E_q$ by sampling. Here we do not need to. All randomness
# of a draw is in $n = T$ standard normal numbers $\epsilon$. Each $z_t$ is linear in them, each $\log p(x_t \mid z_t)$
# quadratic in $z_t$, each KL quadratic in $h_{t-1}$. So the sum is some $f(\epsilon) = f_0 + b^\top \epsilon + \frac12
# \epsilon^\top M \epsilon$. Since $\mathbb E\, \epsilon_i = 0$, and $\mathbb E\, \epsilon_i \epsilon_k$ is 1 for $i =
# k$ and 0 otherwise,
#
# $$\mathbb E f = f_0 + \tfrac12 \sum_i M_{ii} .$$
#
# Now average $f$ over the $2n$ points $\pm\sqrt n\, e_i$. The linear terms of $+$ and $-$ cancel, and each $i$
# contributes $\frac12 n M_{ii}$ twice:
#
# $$\frac{1}{2n} \sum_{i} \sum_{\pm} f(\pm \sqrt n\, e_i) = f_0 + \frac{1}{2n} \sum_i n M_{ii}
# = f_0 + \tfrac12 \sum_i M_{ii} .$$
#
# Both are the same. So 40 well-chosen noise vectors give the ELBO to all digits. **Run it** against 20,000 random
# draws.
#
# > **Function** `tinyvrnn.models.linear_gaussian.exact_noise` · **held by**
# > `tests/test_linear_gaussian.py::test_expectation_over_the_points_equals_monte_carlo`

# %%
N = 20_000
elbo = float(model.elbo(x)[0])
draws = model.elbo(np.tile(x, (1, N, 1)), eps=rng.standard_normal((T, N, 1)))
error = draws.std(ddof=1) / N**0.5
print(f"ELBO with the filtering posterior: 40 points {elbo:.6f}, {N:,} draws {draws.mean():.3f} ± {error:.3f}")
assert abs(draws.mean() - elbo) < 4 * error and draws.std() > 1

# %% [markdown]
# ### The table
#
# > **Function** `tinyvrnn.models.linear_gaussian.table`, and `tinyvrnn exact` in a terminal · **held by**
# > `tests/test_linear_gaussian.py::test_the_table_of_the_design`

# %%
rows = lg.table()
print(f"{'posterior':36}{'ELBO':>12}{'sum of KL':>12}{'gap':>12}")
for row in rows:
    print(f"{row.posterior:36}{row.elbo:12.6f}{row.kl:12.6f}{abs(row.gap):12.6f}")
for row, gap in zip(rows, (0, 1.139873, 0.874069, 42.891720)):
    assert abs(row.gap - gap) < 1e-6

tv.plots.gaps(rows)

# %% [markdown]
# The table shows three things.
#
# - The true posterior has the **largest** KL from the prior of all four, and the best bound. The KL in Eq. 11 is the
#   price of information; a small KL is not a merit in itself.
# - A posterior that ignores the data is not slightly worse but useless: it loses 43 nats.
# - The exact filter loses to a filter with the "wrong" standard deviation. To explain that, we first need a formula.
#
# ## A formula for the gap
#
# From [05](05_the_elbo_line_by_line.ipynb), $\log p(x) - \mathrm{ELBO}$ is the mean of $\log q(z \mid x) - \log p(z
# \mid x)$ over $q$. Both logarithms are sums over $t$. In term $t$ the latents after $t$ integrate to 1 (line 7 there).
# What remains is a mean over $z_t$ inside a mean over the earlier latents:
#
# $$\begin{aligned}
# &\log p(x) - \mathrm{ELBO} \\
# &= \sum_{t=1}^{T} \mathbb{E}_{q(z_{\lt t})}\,
# \mathrm{KL}\big( q(z_t \mid z_{\lt t}, x_{\le t}) \,\|\, p(z_t \mid z_{\lt t}, x_{\le T}) \big) .
# \end{aligned} \tag{gap}$$
#
# **Does Eq. 10 assume that $z_t$ is independent of the future?** Here is the answer. The right-hand side contains the
# future, in the condition of $p$. Nothing is assumed: Eq. 10 restricts $q$ to a family, and this sum is the price.
#
# **Run it**, as a second way to compute the last column of the table. Write $s^\ast$, $A^\ast$, ... for the smoothing
# posterior, and $d = (A - A^\ast) z_{t-1} + (K - K^\ast) x_t + c - c^\ast$ for the difference of the two means. The KL
# of two Gaussians is $\log \frac{s^\ast}{s} + \frac{s^2 + d^2}{2 s^{\ast 2}} - \frac12$. If $z_{t-1}$ has mean $m$ and
# variance $v$ under $q$, then $\mathbb E[d^2]$ is $d^2$ at $m$, plus $(A - A^\ast)^2 v$; for the next step, $m$ becomes
# $A m + K x_t + c$ and $v$ becomes $A^2 v + s^2$. This needs no draw, no likelihood and no prior.


# %%
def price_by_step(name):
    """E_q KL of each step (T,), and mean and variance of z_t under q, (T,) each."""
    truth, head = lg.smoothing(chain, x), lg.POSTERIORS[name](chain, x)
    m, v, found = 0.0, 0.0, []
    for t in range(T):
        A, K, c, s = (head[key][t, 0, 0] for key in ("A", "K", "c", "sigma"))
        A_, K_, c_, s_ = (truth[key][t, 0, 0] for key in ("A", "K", "c", "sigma"))
        d2 = ((A - A_) * m + (K - K_) * x[t, 0, 0] + c - c_) ** 2 + (A - A_) ** 2 * v
        m, v = A * m + K * x[t, 0, 0] + c, A**2 * v + s**2
        found.append((np.log(s_ / s) + (s**2 + d2) / (2 * s_**2) - 0.5, m, v))
    return np.array(found).T


prices = {row.posterior: price_by_step(row.posterior) for row in rows}
for row in rows:
    price = prices[row.posterior][0].sum()
    print(f"{row.posterior:36} log p(x) - ELBO {abs(row.gap):10.6f}   sum of KLs {abs(price):10.6f}")
    assert abs(price - row.gap) < 1e-10

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.5), width_ratios=(1, 1.25))
for name, shift in (("filtering", -0.2), (NARROW, 0.2)):
    hatch = "" if shift < 0 else "///"
    left.bar(steps + shift, prices[name][0], 0.4, color=STYLES[name][0], hatch=hatch, edgecolor="white", label=name)
left.set(xlabel="step t", ylabel="nats", title="Where the gap arises", xticks=(1, 5, 10, 15, 20), ylim=(0, 0.165))
left.legend(fontsize=9, loc="upper right")
band(right, m_hat, P_hat, BLUE, "the truth: smoother")
band(right, prices["filtering"][1], prices["filtering"][2], RED, "q filtering", "--")
right.plot(steps, prices["prior"][1], ":", color=PINK, label="q prior (mean only)", lw=2)
right.set(xlabel="step t", ylabel="$z_t$", title="Mean and spread of draws from q", xticks=(1, 5, 10, 15, 20))
right.set_ylim(-2.2, 3.6)
right.legend(fontsize=9, ncol=2, loc="upper right")

assert abs(prices["filtering"][0][-1]) < 1e-12 < prices["filtering"][0][:-1].min()
assert set(np.argsort(-prices["filtering"][0])[:4] + 1) == {6, 7, 12, 13}  # where the sine is steepest
assert abs(prices["filtering"][1] - filtered.mean.ravel()).max() > 0.05  # draws from q do not follow the Kalman filter
assert np.allclose(prices["smoothing"][1:], [m_hat.ravel(), P_hat.ravel()], atol=1e-12)  # its draws follow the smoother

# %% [markdown]
# At the last step the filter's price is zero: there is no future to miss. Before that it pays a little at each step,
# and most where the wave is steepest (steps 6, 7, 12 and 13): there the later data all lie on one side of its mean.
#
# (Do not confuse two things: the Kalman filter's $p(z_t \mid x_{\le t})$ is *averaged* over $z_{t-1}$, while the factor
# $p(z_t \mid z_{t-1}, x_t)$ is conditioned on it. That is why this red curve differs from the red curve in the first
# figure: once $z_{t-1}$ is drawn, $q$ cannot correct it, even if $x_t$ makes it look wrong.)
#
# ## The exact filter is not the best filter
#
# Consider step $t$. The true posterior, which knows the future, is $\mathcal N(m, s^2)$. Its standard deviation $s$
# does not depend on the data; its mean $m$ does. Given only $x_{\le t}$, $m$ is therefore random, with some mean $\mu$
# and variance $v$ over the possible futures. A filter must choose a single $\mathcal N(\mu_z, \sigma^2)$ for all of
# them. Its expected price is
#
# $$\begin{aligned}
# &\mathbb E_m\, \mathrm{KL}\big(\mathcal N(\mu_z, \sigma^2) \,\|\, \mathcal N(m, s^2)\big) \\
# &\quad = \log \frac{s}{\sigma} + \frac{\sigma^2 + (\mu_z - \mu)^2 + v}{2 s^2} - \frac12 ,
# \end{aligned}$$
#
# as $\mathbb E (\mu_z - m)^2 = (\mu_z - \mu)^2 + v$. So $\mu_z = \mu$ is optimal, and this is the exact filter's mean.
# The exact filter's *variance* is $\mathrm{Var}[z_t] = \mathbb E[\mathrm{Var}] + \mathrm{Var}[\mathbb E] = s^2 + v$: it
# covers the uncertainty about the future.
#
# ### Exercise 09.3 (derive): the best filter's standard deviation
#
# Set $\mu_z = \mu$. Derive the $\sigma$ that minimises the expected price, that minimum, and the price that the exact
# filter pays, with $\sigma^2 = s^2 + v$. All three are short formulas in $s$ and $v$ (arrays).


# %%
def my_filter_prices(s, v):
    """sigma of the best filter, its price, the exact filter's price: three arrays like s."""
    ### BEGIN SOLUTION
    # d/dsigma: -1 / sigma + sigma / s^2 = 0, so sigma = s, whatever v is. Put it in: 1/2 + v / 2 s^2 - 1/2.
    # With sigma^2 = s^2 + v: -log(1 + v / s^2) / 2 + (s^2 + 2 v) / 2 s^2 - 1/2 = v / s^2 - log(1 + v / s^2) / 2.
    ratio = v / s**2
    return s, ratio / 2, ratio - 0.5 * np.log(1 + ratio)
    ### END SOLUTION


# %%
tv.course.check("09.3", my_filter_prices)

# %% [markdown]
# The best filter has the standard deviation of the **smoother**: it is as narrow as if it knew the future, and ignores
# what it does not know. The reason is the direction of the KL. $\mathrm{KL}(q \,\|\, p)$ penalises $q$ for mass where
# $p$ has none, and for each particular future the true posterior is narrow. [Bayer et al.,
# 2021](https://arxiv.org/abs/2101.07046) pointed this out: maximising the ELBO over filters does not lead to the exact
# filter.
#
# **Run it.** With $T = 2$ only the first step has a future, so the formulas give the whole gap, averaged over data.
# Draw 20,000 sequences from the model, and let the package compute the gap of each.

# %%
N = 20_000
z_1 = rng.standard_normal(N)
z_2 = model.a * z_1 + model.q**0.5 * rng.standard_normal(N)
pairs = (np.stack([z_1, z_2]) + model.r**0.5 * rng.standard_normal((2, N)))[..., None]

two = model.chain(pairs[:, :1])
s = lg.smoothing(two, pairs[:, :1])["sigma"][0, 0, 0]
v = lg.filtering(two, pairs[:, :1])["sigma"][0, 0, 0] ** 2 - s**2
formulas = {"filtering": v / s**2 - 0.5 * np.log(1 + v / s**2), NARROW: v / (2 * s**2)}
for name, formula in formulas.items():
    filter_ = lg.LinearGaussian(posterior=name)
    gaps = filter_.log_prob(pairs) - filter_.elbo(pairs)
    error = gaps.std(ddof=1) / N**0.5
    print(f"{name:36} formula {formula:.4f}, mean gap {gaps.mean():.4f} ± {error:.4f} nats")
    assert abs(gaps.mean() - formula) < 4 * error
assert formulas[NARROW] < formulas["filtering"]

# %% [markdown]
# In a longer chain the $\sigma$ of a step also affects where the next step starts, so there may be a filter that is
# even better than the third row of the table. It is not the exact filter, which pays more.
#
# ## What you now know
#
# - A VRNN with linear functions for networks is a linear-Gaussian state-space model, and a Kalman filter computes its
#   $\log p(x)$ exactly: predict, score the innovation, update.
# - The gap of Eq. 11 is $\sum_t \mathbb E_q\, \mathrm{KL}$ from each factor of $q$ to a factor that knows the future.
#   Eq. 10 assumes nothing; it restricts $q$ to a family and pays for it.
# - Within that family the exact filter is not optimal: the optimum is as narrow as the smoother.
#
# Continue with [14 · Tighter bounds](14_tighter_bounds.ipynb), which narrows the gap without changing $q$, or with
# [10 · One code, two backends](10_one_code_two_backends.ipynb).
