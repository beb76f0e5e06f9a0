# %% [markdown]
# # 09 · How tight is the bound?
#
# Training raises a number that lies below $\log p(x)$. How far below? For a VRNN with neural networks this is unknown,
# because $\log p(x)$ cannot be computed. So we take a VRNN for which it *can* be computed, and measure two things: what
# the posterior's family costs, and how much of that several draws instead of one recover.
#
# *You need*: the gap in Jensen's inequality and the weights $w$ from [05](05_the_elbo_line_by_line.ipynb), filter and
# smoother from [04](04_the_approximate_posterior.ipynb). *It takes* about two hours.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn.distributions.gaussian import gaussian_log_density_forward
from tinyvrnn.models import linear_gaussian as lg
from tinyvrnn.models import particles

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
# $$\frac{(z - m')^2}{P'} + \frac{(x - z)^2}{r}
# = z^2 \underbrace{\Big(\frac1{P'} + \frac1r\Big)}_{1/P} - 2 z \underbrace{\Big(\frac{m'}{P'} + \frac xr\Big)}_{m/P}
# + \frac{m'^2}{P'} + \frac{x^2}{r} = \frac{(z - m)^2}{P} + R, \qquad
# R = \frac{m'^2}{P'} + \frac{x^2}{r} - \frac{m^2}{P} .$$
#
# With $P = P' r / (P' + r)$ and $m / P = (m' r + x P') / (P' r)$,
#
# $$R = \frac{m'^2 r (P' + r) + x^2 P' (P' + r) - (m' r + x P')^2}{P' r\, (P' + r)}
# = \frac{m'^2 r P' + x^2 P' r - 2 m' x\, r P'}{P' r\, (P' + r)} = \frac{(x - m')^2}{P' + r} .$$
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
# So this is the number that all bounds of this notebook bound: $\log p(x) = -22.457$ nats.
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
# - A posterior that ignores the data is not slightly worse but useless: 43 nats.
# - The exact filter loses to a filter with the "wrong" standard deviation. To explain that, we first need a formula.
#
# ## A formula for the gap
#
# From [05](05_the_elbo_line_by_line.ipynb), $\log p(x) - \mathrm{ELBO}$ is the mean of $\log q(z \mid x) - \log p(z
# \mid x)$ over $q$. Both logarithms are sums over $t$. In term $t$ the latents after $t$ integrate to 1 (line 7 there).
# What remains is a mean over $z_t$ inside a mean over the earlier latents:
#
# $$\log p(x) - \mathrm{ELBO} = \sum_{t=1}^{T} \mathbb{E}_{q(z_{\lt t})}\,
# \mathrm{KL}\big( q(z_t \mid z_{\lt t}, x_{\le t}) \,\|\, p(z_t \mid z_{\lt t}, x_{\le T}) \big) . \tag{gap}$$
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
left.legend(fontsize=8, loc="upper right")
band(right, m_hat, P_hat, BLUE, "the truth: smoother")
band(right, prices["filtering"][1], prices["filtering"][2], RED, "q filtering", "--")
right.plot(steps, prices["prior"][1], ":", color=PINK, label="q prior (mean only)", lw=2)
right.set(xlabel="step t", ylabel="$z_t$", title="Mean and spread of draws from q", xticks=(1, 5, 10, 15, 20))
right.set_ylim(-2.2, 3.2)
right.legend(fontsize=8, ncol=3, loc="upper right")

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
# $$\mathbb E_m\, \mathrm{KL}\big(\mathcal N(\mu_z, \sigma^2) \,\|\, \mathcal N(m, s^2)\big)
# = \log \frac{s}{\sigma} + \frac{\sigma^2 + (\mu_z - \mu)^2 + v}{2 s^2} - \frac12 ,$$
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
# even better than the third row of the table. It is not the exact filter: the table shows that the exact filter pays
# more.
#
# ## More draws: the importance-weighted bound
#
# The other way to a tighter bound keeps $q$ and draws more often. In [05](05_the_elbo_line_by_line.ipynb) the weight $w
# = p(x, z) / q(z \mid x)$ has mean $\mathbb E_q[w] = p(x)$, and the ELBO is $\mathbb E \log w$. Take $K$ independent
# draws and average their weights *before* taking the logarithm:
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
# $\sigma^2 / n$. So $K$ unequal shares are worth
# $$K_{\mathrm{eff}} = \frac{1}{\sum_k \bar w_k^2}$$
#
# equal ones: the **effective sample size**. It is $K$ for equal shares, and 1 if one particle has everything. When it
# falls below $K / 2$, we *resample*: each of the $K$ slots chooses an **ancestor**, particle $k$ with probability $\bar
# w_k$, and continues from its state. The mean weight so far is recorded, and all weights are reset to 1. (Two particles
# are worth at least 1, so with $K = 2$ nothing is ever resampled.)
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
K = 30
wide, mask = particles.copies(x, K), np.ones((T, 1), bool)
eps, uniforms = rng.standard_normal((T, K, 1)), rng.random((T, 1))
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
    axes.plot(steps, x.ravel(), "k.", ms=5)


figure, grid = plt.subplots(2, 2, figsize=(10.5, 5.2), sharex=True, sharey="row", height_ratios=(1.6, 1))
for (upper, lower), (title, cache) in zip(grid.T, caches.items()):
    draw_walk(upper, cache)
    upper.set_title(title)
    lower.plot(steps, effective[title], "o-", color=RED, ms=4)
    lower.axhline(K / 2, color="0.5", lw=0.8, ls=":")
    for t in np.flatnonzero([choice.again[0] for choice in cache.choices]):
        lower.axvline(t + 0.5, color=GREEN, lw=1, ls="--")
    lower.set(xlabel="step t", ylim=(0, K), xticks=(1, 5, 10, 15, 20))
grid[0, 0].set_ylabel("$z_t$ (dots: $x_t$)")
grid[1, 0].set_ylabel("effective size")
grid[1, 0].text(20.5, 15.6, "K / 2", color="0.4", fontsize=8, ha="right");

# %% [markdown]
# Without resampling, a single particle out of thirty ends up with almost the whole weight. With resampling (at the
# dashed lines) the particles stay close to the data.
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
# ### Exercise 09.4 (write): systematic resampling
#
# `h` $(B, K)$ are states, `shares` $(B, K)$ add up to 1 in each row, `uniforms` is $(B,)$. Return the states from which
# the $K$ slots of each row continue, in the order of the points, $(B, K)$. A point on the border of two intervals
# belongs to the second.


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
tv.course.check("09.4", my_resample)

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
# $$\mathbb E\, \hat p
# = \int q(z_1 \mid x_1)\, \frac{p(x_1 \mid z_1)\, p(z_1)}{q(z_1 \mid x_1)}\, p(x_2 \mid z_1)\, dz_1
# = \int p(z_1)\, p(x_1 \mid z_1)\, p(x_2 \mid z_1)\, dz_1 = p(x_1, x_2) .$$
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
# ### Exercise 09.5 (bug): the particle filter's bookkeeping
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
tv.course.check("09.5", my_ledger)

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
# ### Exercise 09.6 (predict): the perfect $q$ in a filter
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
tv.course.check("09.6", prediction)

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
axes.legend(fontsize=8, loc="lower right")

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
# - A VRNN with linear functions for networks is a linear-Gaussian state-space model, and a Kalman filter computes its
#   $\log p(x)$ exactly: predict, score the innovation, update.
# - The gap of Eq. 11 is $\sum_t \mathbb E_q\, \mathrm{KL}$ from each factor of $q$ to a factor that knows the future.
#   Eq. 10 assumes nothing; it restricts $q$ to a family and pays for it.
# - Within that family the exact filter is not optimal: the optimum is as narrow as the smoother.
# - Averaging $K$ weights before the logarithm gives a bound that rises with $K$ to $\log p(x)$. For long sequences it
#   needs exponentially many draws; resampling fixes that and keeps the estimate of $p(x)$ unbiased.
# - A bound without an estimate of its gap is half a result.
#
# Continue with [10 · One code, two backends](10_one_code_two_backends.ipynb).
