# %% [markdown]
# # 02 · The bound for one step: the VAE
#
# Each step of a VRNN contains a variational autoencoder (VAE). This notebook treats one step alone: a latent $z$, an
# observed $x$, a probability that cannot be computed, and a bound that can. At the end, a small VAE draws digits, and
# you compute by brute force how far its bound is from the true value.
#
# *You need*: integrals, Gaussians, expectations. *It takes* about 1 h 30 min.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn import one_page
from tinyvrnn.distributions import gaussian
from tinyvrnn.models import equations, vae

tv.plots.use_style()
rng = np.random.default_rng(0)
BLUE, RED, GREEN = tv.plots.COLOURS[:3]

# %% [markdown]
# ## An integral that cannot be computed
#
# The model draws $z \sim p(z) = \mathcal N(0, I)$, which we never see, and then $x \sim p(x \mid z)$, which we do see.
# How probable is an $x$? Integrate over every $z$ that may have produced it:
#
# $$p(x) = \int p(x \mid z)\, p(z)\, dz .$$
#
# With one or two latents, a fine grid is enough. With $Z = 16$ and ten points per axis, the grid has $10^{16}$ points.
# Why not draw $z$ from $p(z)$ and average $p(x \mid z)$? That estimate is unbiased. Try it where the answer is known:
# with $p(x_j \mid z_j) = \mathcal N(z_j, 0.2^2)$, $p(x_j) = \mathcal N(0, 1 + 0.2^2)$.


# %%
def log_density(x, mu, sigma):
    """log N(x; mu, sigma^2), elementwise."""
    return gaussian.gaussian_log_density_forward(x[..., None], mu[..., None], (sigma + 0 * mu)[..., None])[0]


def log_mean_exp(a):
    return np.log(np.mean(np.exp(a - a.max()))) + a.max()


sizes = [1, 2, 3, 5, 8, 12, 16, 24, 32]
one = log_density(np.ones(1), np.zeros(1), np.sqrt(1.04))[0]  # log p(x_j) for x_j = 1
tries = np.array([[log_mean_exp(log_density(1.0 + 0 * z, z, 0.2).sum(axis=1))
                   for z in rng.standard_normal((12, 5000, Z))] for Z in sizes])  # fmt: skip
for i in (0, 4, -1):
    print(f"Z = {sizes[i]:2}: exact {one * sizes[i]:6.1f} nats, the best of 12 estimates {tries[i].max():6.1f}")
assert abs(tries[0].mean() - one) < 4 * tries[0].std(ddof=1) / np.sqrt(12)
assert tries[-1].max() < one * 32 - 20

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.6))
axes.plot(sizes, one * np.array(sizes), color=BLUE, label=r"$\log p(x)$, exact")
axes.plot(sizes, tries, ".", color=RED, alpha=0.6)
axes.plot([], [], ".", color=RED, label="12 estimates, each from 5,000 draws of the prior")
axes.set(xlabel="number of latents Z", ylabel="nats", title="Draws from the prior suffice for a handful of latents")
axes.legend()
plt.show()

# %% [markdown]
# Almost no draw from the prior explains this $x$, and the few that do dominate the average. It is better to draw $z$
# where the **posterior** $p(z \mid x) = p(x \mid z) p(z) / p(x)$ is large. The posterior contains $p(x)$, so it cannot
# be computed either, but an approximation $q(z \mid x)$ is enough. Multiply and divide by it:
#
# $$\log p(x) = \log \int q(z \mid x)\, \frac{p(x, z)}{q(z \mid x)}\, dz
# = \log \mathbb E_q\left[ \frac{p(x, z)}{q(z \mid x)} \right] .$$
#
# If the logarithm were inside the expectation, products would become sums. It can be moved there, at a price.
#
# ## Jensen's inequality in a picture
#
# The logarithm is **concave**: it lies below each of its tangents and above each of its chords. Let $v$ be 1 or 6, each
# with probability $\frac12$. The mean of $\log v$ is the midpoint of the chord; the logarithm of the mean is the point
# on the curve above it.

# %%
v, middle = np.array([1.0, 6.0]), 3.5
along = np.linspace(0.4, 7.5, 200)
figure, axes = plt.subplots(figsize=(6.4, 3.8))
axes.plot(along, np.log(along), color=BLUE, lw=2, label=r"$\log v$")
axes.plot(v, np.log(v), "o--", color=RED, label="chord between the two values")
axes.plot(along, np.log(middle) + (along - middle) / middle, ":", color="0.3", label="tangent at the mean")
axes.plot([middle, middle], [np.log(v).mean(), np.log(middle)], color=GREEN, lw=4, solid_capstyle="butt")
thin = {"arrowstyle": "-", "color": "0.3", "shrinkB": 0}
axes.annotate(r"$\log \mathbb{E}[v]$", (middle, np.log(middle)), (1.5, 2.1), arrowprops=thin)
axes.annotate("the gap", (middle - 0.05, 1.1), (1.5, 1.5), color=GREEN, arrowprops=thin | {"color": GREEN})
axes.annotate(r"$\mathbb{E}[\log v]$", (middle, np.log(v).mean()), (4.2, 0.45), arrowprops=thin)
axes.set(xlabel="v", ylim=(-1, 2.6), title="The mean of logs lies below the log of the mean")
axes.legend(loc="lower right")

assert np.log(v).mean() < np.log(v.mean())

# %% [markdown]
# Now in general, for any positive random variable $v$ with mean $c = \mathbb E[v]$. The tangent at $c$ lies above the
# curve:
#
# $$\log v \le \log c + \frac{v - c}{c} \quad \text{for all } v > 0,$$
#
# since the difference of the two sides, $\log c + v/c - 1 - \log v$, has the derivative $1/c - 1/v$: it falls until
# $v = c$, where it is 0, and rises after that. Take the expectation of both sides. The mean of $v - c$ is 0, so
#
# $$\mathbb E[\log v] \le \log \mathbb E[v] ,$$
#
# with equality if and only if $v$ is constant.
#
# ## The bound, the first way
#
# Let $v = p(x, z) / q(z \mid x)$ with $z \sim q$. By Jensen's inequality,
#
# $$\log p(x) = \log \mathbb E_q\left[ \frac{p(x, z)}{q(z \mid x)} \right]
# \ge \mathbb E_q\left[ \log \frac{p(x, z)}{q(z \mid x)} \right] .$$
#
# The right-hand side is the **evidence lower bound**, ELBO. Insert $p(x, z) = p(x \mid z)\, p(z)$ and split the
# logarithm:
#
# $$\mathbb E_q\left[ \log \frac{p(x \mid z)\, p(z)}{q(z \mid x)} \right]
# = \mathbb E_q[\log p(x \mid z)] - \mathbb E_q\left[ \log \frac{q(z \mid x)}{p(z)} \right] ,$$
#
# and the last expectation is a KL divergence by definition. This is the paper's Eq. 3:
#
# $$\log p(x) \ge -\mathrm{KL}\big(q(z \mid x) \,\|\, p(z)\big)
# + \mathbb E_{q(z \mid x)}\big[\log p(x \mid z)\big] . \tag{3}$$
#
# The second term rewards a $q$ whose $z$ explain $x$. The first penalises a $q$ that moves away from the prior.
#
# ## The bound, the second way: what is the gap?
#
# Jensen's inequality gives the sign of the gap but not its size. Take the difference, and use
# $p(x, z) = p(z \mid x)\, p(x)$:
#
# $$\begin{aligned}
# \log p(x) - \text{ELBO}
# &= \mathbb E_q\left[ \log p(x) - \log \frac{p(z \mid x)\, p(x)}{q(z \mid x)} \right] \\
# &= \mathbb E_q\left[ \log \frac{q(z \mid x)}{p(z \mid x)} \right] \\
# &= \mathrm{KL}\big(q(z \mid x) \,\|\, p(z \mid x)\big) .
# \end{aligned}$$
#
# So $\log p(x) = \text{ELBO} + \mathrm{KL}(q \,\|\, \text{posterior})$, exactly. Since $\log p(x)$ does not depend on
# $q$, changing $q$ to raise the ELBO lowers that KL: $q$ approaches the posterior, although nobody can compute the
# posterior.
#
# ## The gap in numbers
#
# Take one latent, so that integrals can be computed on a grid: $p(z) = \mathcal N(0, 1)$,
# $p(x \mid z) = \mathcal N(\tfrac12 z^2, 0.3^2)$, and the observation $x = 1$. Both $z \approx \sqrt 2$ and
# $z \approx -\sqrt 2$ explain it, so the posterior has two modes, and a Gaussian has one.

# %%
z = np.linspace(-8, 8, 4001)
step = z[1] - z[0]
log_joint = log_density(1.0 + 0 * z, z**2 / 2, 0.3) + log_density(z, 0 * z, 1.0)
log_p = np.log(np.sum(np.exp(log_joint)) * step)
posterior = np.exp(log_joint - log_p)
guesses = {"wide": (0.0, 1.0), "one mode": (1.28, 0.24), "off-mode": (-0.9, 0.4)}
gaps, curves = {}, {}
print("q            ELBO  +  KL to the posterior  =  log p(x)    the ELBO from 20,000 draws")
for name, (mu, sigma) in guesses.items():
    log_q = log_density(z, mu + 0 * z, sigma)
    curves[name] = q = np.exp(log_q)
    gaps[name] = kl = np.sum(q * (log_q - (log_joint - log_p))) * step
    elbo = np.sum(q * (log_joint - log_q)) * step
    draws = mu + sigma * rng.standard_normal(20_000)
    terms = log_density(1.0 + 0 * draws, draws**2 / 2, 0.3) + log_density(draws, 0 * draws, 1.0)
    terms -= log_density(draws, mu + 0 * draws, sigma)
    error = terms.std() / np.sqrt(len(terms))
    print(f"{name:9} {elbo:8.3f}  +  {kl:19.3f}  =  {elbo + kl:8.3f}    {terms.mean():8.3f} ± {error:.3f}")
    assert abs(elbo + kl - log_p) < 1e-6 and kl > 0 and abs(terms.mean() - elbo) < 4 * error
print(f"log p(x) by quadrature: {log_p:.3f}")
assert gaps["one mode"] == min(gaps.values()) and 0 < gaps["one mode"] - np.log(2) < 0.1

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.4))
axes.fill_between(z, posterior, color="0.85", label=r"$p(z \mid x)$")
for (name, q), style, colour in zip(curves.items(), ("--", "-", ":"), (RED, BLUE, GREEN)):
    axes.plot(z, q, style, color=colour, lw=2, label=f"q, {name}")
axes.set(xlim=(-4, 4), xlabel="z", ylabel="density", title="A posterior with two modes, and three choices of q")
axes.legend()
plt.show()

# %% [markdown]
# The best of the three covers **one** mode and misses half of the posterior: its gap is a little more than
# $\log 2 \approx 0.69$ nats. (Around that mode the posterior has the shape of $q$ but half its height: the ratio of 2
# gives the $\log 2$.) The KL with $q$ as its first argument penalises $q$ heavily for mass where the posterior has
# none, as the wide $q$ has in the middle. It penalises $q$ only mildly for what it leaves out.
#
# > **Function** `tinyvrnn.models.vae.terms_forward`, the terms of Eq. 3 · **held by**
# > `tests/test_models.py::test_the_elbo_of_a_vae_lies_below_log_p_by_the_kl_to_the_posterior`
#
# ### Exercise 02.1 (derive): the first term by hand
#
# Sometimes $\mathbb E_q[\log p(x \mid z)]$ has a closed form. Let $q = \mathcal N(\mu_z, \sigma_z^2)$ and
# $p(x \mid z) = \mathcal N(x;\, z, \sigma_x^2)$, all in one dimension. Find the expectation (of the whole log-density,
# including its constant). What is the mean of $(x - z)^2$? (`np.log(2 * np.pi)` is a float64 and promotes float32
# arrays; `float(np.log(2 * np.pi))` does not.)


# %%
def my_expected_log_density(x, mu_z, sigma_z, sigma_x):
    """E_q[log N(x; z, sigma_x^2)], of the same shape as the arguments."""
    ### BEGIN SOLUTION
    # x - z = (x - mu_z) - sigma_z eps: its square has the mean (x - mu_z)^2 + sigma_z^2, as E[eps] = 0, E[eps^2] = 1
    square = (x - mu_z) ** 2 + sigma_z**2
    return -0.5 * square / sigma_x**2 - np.log(sigma_x) - 0.5 * float(np.log(2 * np.pi))
    ### END SOLUTION


# %%
tv.course.check("02.1", my_expected_log_density)

# %% [markdown]
# ### Exercise 02.2 (predict): the best $\sigma_z$
#
# $p(z) = \mathcal N(0, 1)$, $p(x \mid z) = \mathcal N(z, 1)$, and the observation is $x = 2$. The best mean is
# $\mu_z = 1$, half-way between prior and data. Which $\sigma_z$ maximises the bound? Answer with a number, correct to
# two per cent.

# %%
prediction = None
### BEGIN SOLUTION
prediction = 0.5**0.5
### END SOLUTION

# %%
tv.course.check("02.2", prediction)

# %%
sigmas = np.linspace(0.15, 2, 371)
fit = -0.5 * np.log(2 * np.pi) - 0.5 * (1 + sigmas**2)
pull, _ = gaussian.gaussian_kl_forward(
    1 + 0 * sigmas[:, None], sigmas[:, None], 0 * sigmas[:, None], 1 + 0 * sigmas[:, None]
)
exact = log_density(np.array([2.0]), np.zeros(1), np.sqrt(2.0))[0]

figure, axes = plt.subplots(figsize=(6.4, 3.4))
axes.plot(sigmas, fit, "--", color=GREEN, label=r"$\mathbb{E}_q[\log p(x|z)]$")
axes.plot(sigmas, -pull, ":", color=RED, label="-KL to the prior")
axes.plot(sigmas, fit - pull, color=BLUE, lw=2, label="their sum, the ELBO")
axes.axhline(exact, color="0.3", lw=1)
axes.text(2.0, exact + 0.05, r"$\log p(x)$", ha="right")
axes.set(xlabel=r"$\sigma_z$", ylabel="nats", title="Two terms that pull q in opposite directions")
axes.legend(loc="lower left")

best = sigmas[np.argmax(fit - pull)]
print(f"highest at sigma_z = {best:.3f}, in steps of 0.005; the posterior's own is {0.5**0.5:.4f}")
assert abs((fit - pull).max() - exact) < 1e-4

# %% [markdown]
# Here the posterior **is** a Gaussian, so the best $q$ equals the posterior, and the bound equals $\log p(x)$.
#
# ## Differentiating through a random draw: Eq. 4
#
# With networks, $\mathbb E_q[\log p(x \mid z)]$ must be estimated from draws, and training needs its derivatives with
# respect to $\mu_z$ and $\sigma_z$, the parameters of the very distribution we draw from. Substitute
# $z = \mu_z + \sigma_z \epsilon$ in the integral (in one dimension; the others work the same way). With
# $dz = \sigma_z\, d\epsilon$,
#
# $$\begin{aligned}
# \mathbb E_q[f(z)] &= \int f(z)\, \frac{1}{\sqrt{2\pi}\,\sigma_z}\, e^{-(z - \mu_z)^2 / 2\sigma_z^2}\, dz \\
# &= \int f(\mu_z + \sigma_z \epsilon)\, \frac{1}{\sqrt{2\pi}}\, e^{-\epsilon^2/2}\, d\epsilon .
# \end{aligned}$$
#
# The two $\sigma_z$ cancel. What remains is an expectation over a **standard** normal, which has no parameters:
#
# $$\mathbb E_{q(z \mid x)}[\log p(x \mid z)]
# = \mathbb E_{\epsilon \sim \mathcal N(0, I)}[\log p(x \mid z = \mu_z + \sigma_z \odot \epsilon)] . \tag{4}$$
#
# Now the derivative can move inside the expectation, with $\partial z / \partial \mu_z = 1$ and
# $\partial z / \partial \sigma_z = \epsilon$. The substitution multiplies $\epsilon$ by the **standard deviation**, not
# by the variance.
#
# > **Function** `tinyvrnn.distributions.gaussian.reparameterise_forward` · **held by**
# > `tests/test_distributions.py::test_reparameterised_draws_have_mean_mu_and_deviation_sigma`

# %%
tv.course.show(gaussian.reparameterise_forward)

# %%
mu, sigma, eps = np.full(20_000, 1.0), np.full(20_000, 2.0), rng.standard_normal(20_000)
right, _ = gaussian.reparameterise_forward(mu, sigma, eps)
wrong, _ = gaussian.reparameterise_forward(mu, sigma**2, eps)
error = right.std() / np.sqrt(2 * len(right))
print(f"std of the draws: {right.std():.2f} ± {error:.2f} with sigma, {wrong.std():.2f} with sigma squared")
assert abs(right.std() - 2) < 4 * error < abs(wrong.std() - 2)

# %%
bins = np.linspace(-14, 16, 91)
figure, axes = plt.subplots(figsize=(6.4, 3.4))
axes.hist(right, bins, density=True, color=BLUE, alpha=0.6, label=r"$\mu + \sigma\epsilon$")
axes.hist(wrong, bins, density=True, histtype="step", color=RED, lw=1.8, label=r"$\mu + \sigma^2\epsilon$")
axes.plot(bins, np.exp(log_density(bins, 1 + 0 * bins, 2.0)), "k--", label=r"$\mathcal{N}(1, 2^2)$, wanted")
axes.set(xlabel="z", ylabel="density", title="With the variance as factor, the draws spread too far")
axes.legend(title=r"$\mu = 1$, $\sigma = 2$", alignment="left")
plt.show()

# %% [markdown]
# At $\sigma = 1$ the two agree, so a test at that value cannot find the mistake. Nor can a gradient check at any
# $\sigma$, as [06](06_backward_by_hand_1.ipynb) shows. A test of the moments of the draws can.
#
# ## The alternative, and why it is not used here
#
# Another estimator of the gradient does not even need $f$ to be differentiable. For a parameter $\theta$ of $q$,
# differentiate under the integral, and use $\partial_\theta q = q\, \partial_\theta \log q$:
#
# $$\begin{aligned}
# \frac{\partial}{\partial \theta} \int q(z)\, f(z)\, dz
# &= \int \frac{\partial q(z)}{\partial \theta} f(z)\, dz \\
# &= \int q(z)\, \frac{\partial \log q(z)}{\partial \theta} f(z)\, dz \\
# &= \mathbb E_q\left[ f(z)\, \frac{\partial \log q(z)}{\partial \theta} \right] .
# \end{aligned}$$
#
# This is the **score-function** estimator. Draw $z$, weight the score $\partial_\theta \log q(z)$ by $f(z)$, and
# average.
#
# ### Exercise 02.3 (write): the score function
#
# $q = \mathcal N(\mu, \sigma^2)$ and $z = \mu + \sigma \epsilon$, elementwise; `f` holds the values $f(z)$. Return the
# two estimates for each single draw, with respect to $\mu$ and to $\sigma$. Do not average.


# %%
def my_score_function(mu, sigma, eps, f):
    """g_mu, g_sigma, of the same shape as the arguments."""
    ### BEGIN SOLUTION
    # log q = -(z - mu)^2 / (2 sigma^2) - log sigma + const, with z fixed: the derivatives are
    # (z - mu) / sigma^2 = eps / sigma and (z - mu)^2 / sigma^3 - 1 / sigma = (eps^2 - 1) / sigma
    return f * eps / sigma, f * (eps**2 - 1) / sigma
    ### END SOLUTION


# %%
tv.course.check("02.3", my_score_function)

# %% [markdown]
# Both estimators are unbiased. How large is their variance? Take $f(z) = -\frac12 \sum_j (z_j - 1)^2$ with $d$ latents
# and $q = \mathcal N(0, 0.5^2 I)$. The exact derivative with respect to $\mu_1$ is $1$: $\mathbb E[-(z_1 - 1)] = 1$.

# %%
dims, n = np.array([1, 2, 4, 8, 16, 32, 64]), 40_000
scatter = {"score function": [], "reparameterised": []}
for d in dims:
    z = 0.5 * rng.standard_normal((n, d))
    f = -0.5 * np.sum((z - 1) ** 2, axis=1)
    for name, estimate in (("score function", f * z[:, 0] / 0.5**2), ("reparameterised", 1 - z[:, 0])):
        error = estimate.std() / np.sqrt(n)
        scatter[name].append(estimate.var())
        assert abs(estimate.mean() - 1) < 4 * error

ratio = np.array(scatter["score function"]) / scatter["reparameterised"]
print(f"variance, score function over reparameterised: {ratio[0]:.0f} for d = 1, {ratio[-1]:.0f} for d = 64")
assert ratio[0] > 3 and ratio[4] > 1000

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.4))
axes.loglog(dims, scatter["score function"], "o--", color=RED, label="score function")
axes.loglog(dims, scatter["reparameterised"], "s-", color=BLUE, label="reparameterised")
axes.set(xlabel="number of latents d", ylabel="variance of one estimate", title="Gradient estimates from one draw each")
axes.set(xticks=dims, xticklabels=dims, ylim=(0.1, None))
axes.minorticks_off()
axes.legend()
plt.show()

# %% [markdown]
# The score-function estimator uses only the value of $f$, and credits all latents alike for it. The reparameterised
# estimator uses the derivative of $f$, which says which latent to change and in which direction. The VAE and the VRNN
# work with one draw per $x$; here, with 16 latents, the score function would need more than a thousand draws for the
# same variance.
#
# ## The KL of two Gaussians
#
# The other term of Eq. 3 needs no draws at all. Let $q = \mathcal N(\mu_z, \sigma_z^2)$ and
# $p = \mathcal N(\mu_0, \sigma_0^2)$, first in one dimension. (In the VAE, $\mu_0 = 0$ and $\sigma_0 = 1$; the VRNN
# learns them.) The two log-densities are
#
# $$\log q(z) = -\log \sigma_z - \frac{(z - \mu_z)^2}{2\sigma_z^2} - \tfrac12 \log 2\pi, \qquad
# \log p(z) = -\log \sigma_0 - \frac{(z - \mu_0)^2}{2\sigma_0^2} - \tfrac12 \log 2\pi .$$
#
# Subtract, and take the mean over $q$:
#
# $$\begin{aligned}
# \mathrm{KL}(q \,\|\, p) &= \mathbb E_q[\log q - \log p] \\
# &= \log \sigma_0 - \log \sigma_z \\
# &\quad - \frac{\mathbb E_q[(z - \mu_z)^2]}{2\sigma_z^2} + \frac{\mathbb E_q[(z - \mu_0)^2]}{2\sigma_0^2} .
# \end{aligned}$$
#
# Two second moments remain. The first is the variance of $q$, $\sigma_z^2$. For the second, expand around $\mu_z$:
#
# $$(z - \mu_0)^2 = (z - \mu_z)^2 + 2 (z - \mu_z)(\mu_z - \mu_0) + (\mu_z - \mu_0)^2 .$$
#
# The middle term has mean 0. So the second moment is $\sigma_z^2 + (\mu_z - \mu_0)^2$, and
#
# $$\mathrm{KL}(q \,\|\, p) = \log \sigma_0 - \log \sigma_z
# + \frac{\sigma_z^2 + (\mu_z - \mu_0)^2}{2\sigma_0^2} - \frac12 .$$
#
# With $Z$ independent dimensions, $\log q$ and $\log p$ are sums over them, and so is the KL.
#
# ### Exercise 02.4 (write): the KL
#
# All four arguments are $(\dots, Z)$. Return the KL, $(\dots)$, summed over the last axis.


# %%
def my_kl(mu_z, sigma_z, mu_0, sigma_0):
    """KL(N(mu_z, sigma_z^2) || N(mu_0, sigma_0^2)) in nats, (...)."""
    ### BEGIN SOLUTION
    ratio = (sigma_z**2 + (mu_z - mu_0) ** 2) / (2 * sigma_0**2)
    return np.sum(np.log(sigma_0) - np.log(sigma_z) + ratio - 0.5, axis=-1)
    ### END SOLUTION


# %%
tv.course.check("02.4", my_kl)

# %% [markdown]
# Below is the version of `tinyvrnn/one_page.py`, whose arguments are the outputs of two networks. It uses
# $d = \log\sigma_z - \log\sigma_0$, and its `expm1` keeps the digits that $(\sigma_z/\sigma_0)^2 - 1$ would lose where
# the two are close. It also returns the gradients `do_z` and `do_0`; skip those two lines until
# [06](06_backward_by_hand_1.ipynb). The package's `gaussian_kl_forward` computes the same KL from means and standard
# deviations.
#
# > **Function** `tinyvrnn.distributions.gaussian.gaussian_kl_forward` · **held by**
# > `tests/test_distributions.py::test_kl_equals_monte_carlo`

# %%
tv.course.show(one_page.kl_divergence)

# %% [markdown]
# A derivation can be wrong, so check the formula against the definition, on ten pairs of Gaussians in three dimensions:
# draw from $q$, and average $\log q - \log p$.

# %%
mu_z, mu_0 = rng.standard_normal((2, 10, 3))
sigma_z, sigma_0 = np.exp(0.5 * rng.standard_normal((2, 10, 3)))
closed, _ = gaussian.gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)
z, _ = gaussian.reparameterise_forward(mu_z, sigma_z, rng.standard_normal((4000, 10, 3)))
log_ratio = [
    gaussian.gaussian_log_density_forward(z, m + 0 * z, s + 0 * z)[0] for m, s in ((mu_z, sigma_z), (mu_0, sigma_0))
]
samples = log_ratio[0] - log_ratio[1]
estimate, error = samples.mean(axis=0), samples.std(axis=0) / np.sqrt(len(samples))
print(f"largest difference: {np.max(abs(estimate - closed) / error):.1f} standard errors")
assert np.all(abs(estimate - closed) < 4 * error)
assert np.all(closed > 0) and gaussian.gaussian_kl_forward(mu_z, sigma_z, mu_z, sigma_z)[0].max() == 0

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.2))
axes.errorbar(closed, estimate - closed, 2 * error, fmt="o", color=BLUE, capsize=3)
axes.axhline(0, color="0.3", lw=1)
axes.set(
    xlabel="KL in closed form, nats",
    ylabel="Monte Carlo - closed form, nats",
    title="4,000 draws each (bars: two standard errors)",
)
plt.show()

# %% [markdown]
# ## The whole VAE
#
# Two networks complete the model. The **encoder** gives $q$: $[\mu_z, \sigma_z]$ from $x$. The **decoder** gives
# $p(x \mid z)$: for binary pixels, one logit per pixel. Eq. 3, with its expectation estimated by Eq. 4 from one draw,
# then takes six lines:

# %%
tv.course.show(vae.terms_forward)

# %% [markdown]
# ### Exercise 02.5 (bug): a loss from the web
#
# Much public code uses `log_var` $= \log \sigma_z^2$ instead of $\sigma_z$. This loss, with a linear decoder
# $a = z W + b$ of logits, should be the negative bound of Eq. 3, in nats per picture, averaged over the batch. It has
# **two** bugs. (The KL is correct: it is your formula with $\mu_0 = 0$, $\sigma_0 = 1$. So is `np.logaddexp(0, a)`,
# which is $\log(1 + e^a)$, also for logits of $\pm 800$.)


# %%
def vae_loss_with_bugs(x, mu_z, log_var, eps, W, b):
    z = mu_z + np.exp(log_var) * eps
    a = z @ W + b
    log_p = np.mean(x * a - np.logaddexp(0, a), axis=-1)
    kl = -0.5 * np.sum(1 + log_var - mu_z**2 - np.exp(log_var), axis=-1)
    return np.mean(kl - log_p)


# %%
def my_vae_loss(x, mu_z, log_var, eps, W, b):
    """One number, from x (B, X), mu_z, log_var, eps (B, Z), W (Z, X), b (X,)."""
    ### BEGIN SOLUTION
    z = mu_z + np.exp(0.5 * log_var) * eps
    a = z @ W + b
    log_p = np.sum(x * a - np.logaddexp(0, a), axis=-1)
    kl = -0.5 * np.sum(1 + log_var - mu_z**2 - np.exp(log_var), axis=-1)
    return np.mean(kl - log_p)
    ### END SOLUTION


# %%
tv.course.check("02.5", my_vae_loss)

# %% [markdown]
# ## Digits from two numbers
#
# The pictures have 8 by 8 pixels, black or white, and $Z = 2$, so that the whole latent plane fits in one figure. A
# picture is one step: $T = 1$.

# %%
digits = tv.load_data("digits8")
pictures = {name: np.stack([a.reshape(1, 64) for a in digits.split(name)]) for name in ("train", "valid", "test")}
data = tv.Data.from_sequences("pictures", **pictures, standardise=False, units=digits.units)

model = vae.VAE(x_dim=64, z_dim=2, features=64, layers=1, backend=None, dtype="float64")
records = tv.train(model, data, progress=False, epochs=60, batch=128, lr=8e-3, patience=60, workers=1)
first, best = records[0]["valid"]["elbo"], max(record["valid"]["elbo"] for record in records)
print(f"ELBO of the validation pictures: {first:.1f} nats per picture after one epoch, {best:.1f} at the best")
assert best > first + 8

# %% [markdown]
# Look at the means of $p(x \mid z)$ on a grid over the latent plane (left) and at samples, with $z$ drawn from the
# prior and then each pixel from $p(x \mid z)$ (right):

# %%
side = np.linspace(-2.2, 2.2, 13)
plane = model.backend.asarray(np.stack(np.meshgrid(side, side[::-1]), axis=-1).reshape(-1, 2))
mean = model.likelihood.mean(*equations.decode_forward(model.params["decode"], plane, model.likelihood)[0])
drawn = model.sample(n=49, steps=1, seed=1)[0]
assert drawn.shape == (49, 64) and set(np.unique(tv.to_host(drawn))) <= {0.0, 1.0}


# %%
def mosaic(flat, columns):
    """One picture made of many, each with a margin of one pixel."""
    tiles = np.pad(tv.to_host(flat).reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    return tiles.reshape(-1, columns, 10, 10).swapaxes(1, 2).reshape(-1, columns * 10)


figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.8))
left.imshow(mosaic(mean, 13), cmap="gray_r", extent=(-2.38, 2.38, -2.38, 2.38))
left.set(xlabel="$z_1$", ylabel="$z_2$", title="Mean of p(x | z) at each z")
right.imshow(mosaic(drawn, 7), cmap="gray_r")
right.set(title="49 samples of the model")
for axes in (left, right):
    axes.spines[:].set(visible=False)
right.axis("off")
plt.show()

# %% [markdown]
# Neighbouring points of the plane decode to similar pictures: the KL keeps each $q$ wide, so each $z$ must serve more
# than one picture.
#
# ## How tight is the bound?
#
# With two latents, a grid over the plane gives the integral of the first section: $\log p(x)$ of this trained VAE, and
# its posterior. So we can compute both sides of
# $\log p(x) = \text{ELBO} + \mathrm{KL}(q \,\|\, \text{posterior})$: the ELBO from 2,000 draws of $q$, as in training,
# and the KL and $\log p(x)$ by quadrature.

# %%
x = pictures["test"][:5, 0]
line = np.linspace(-6, 6, 241)
area = (line[1] - line[0]) ** 2
grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
logits = tv.to_host(
    equations.decode_forward(model.params["decode"], model.backend.asarray(grid), model.likelihood)[0][0]
)
(mu_z, sigma_z), _ = equations.encode_forward(model.params["encode"], model.backend.asarray(x))
mu_z, sigma_z = tv.to_host(mu_z), tv.to_host(sigma_z)

many = model.backend.asarray(np.repeat(x[None], 2000, axis=0))
log_px_z, kl, _ = vae.terms_forward(
    model.params, many, model.backend.asarray(rng.standard_normal((2000, 5, 2))), model.likelihood
)
draws = tv.to_host(log_px_z - kl)
elbo, error = draws.mean(axis=0), draws.std(axis=0) / np.sqrt(len(draws))

log_joint = x @ logits.T - tv.nn.activations.softplus(logits).sum(axis=1)
log_joint += log_density(grid, 0 * grid, 1.0).sum(axis=1)
log_p = np.array([log_mean_exp(row) for row in log_joint]) + np.log(len(grid) * area)
log_q = log_density(grid, mu_z[:, None] + 0 * grid, sigma_z[:, None]).sum(axis=2)
gap = np.sum(np.exp(log_q) * (log_q - (log_joint - log_p[:, None])), axis=1) * area

lines = ["picture    ELBO ± error      +  KL to the posterior  =  their sum    log p(x)   (nats)"]
for i in range(5):
    both = f"{elbo[i]:7.2f} ± {error[i]:.2f}      +  {gap[i]:19.2f}"
    lines.append(f"   {i + 1}     {both}  =  {elbo[i] + gap[i]:9.2f}   {log_p[i]:9.2f}")
print("\n".join(lines))
assert np.all(abs(elbo + gap - log_p) < 4 * error) and np.all(gap > 0)
assert np.all(abs(np.exp(log_q).sum(axis=1) * area - 1) < 1e-6)

# %% [markdown]
# Every row adds up, within the error of its draws. Where does the gap come from? Compare the posterior and $q$ in the
# plane:

# %%
figure, panels = plt.subplots(2, 5, figsize=(7.4, 3.4), height_ratios=[1, 1.5])
for i, (above, below) in enumerate(panels.T):
    above.imshow(x[i].reshape(8, 8), cmap="gray_r")
    above.set_title(f"picture {i + 1}", fontsize=10)
    above.set(xticks=[], yticks=[])
    above.spines[:].set(visible=False)
    posterior, q = (np.exp(a - a.max()).reshape(241, 241) for a in (log_joint[i], log_q[i]))
    below.contourf(line, line, posterior, levels=[0.05, 0.2, 0.4, 0.6, 0.8, 1], cmap="Greys")
    below.contour(line, line, q, levels=[0.135, 0.607], colors=RED, linestyles="--")
    (left, right), (low, high) = (centre + np.array([-1.2, 1.2]) for centre in mu_z[i])
    below.set(xlim=(left, right), ylim=(low, high), aspect="equal", xlabel="$z_1$")
panels[0, 0].set_ylabel("x", rotation=0, labelpad=12, va="center")
panels[1, 0].set_ylabel("$z_2$", rotation=0, labelpad=8, va="center")
figure.suptitle("Posterior (grey); q at one and two standard deviations (dashed)", x=0.01, ha="left", fontsize=11)
plt.show()

# %% [markdown]
# There are two reasons for the gap. The encoder can only produce ellipses aligned with the axes, and one network must
# find them for every picture.
#
# ## What you now know
#
# - $\log p(x)$ is an integral over every $z$; the bound needs only those that explain $x$, which $q$ proposes.
# - $\log p(x) = \text{ELBO} + \mathrm{KL}(q \,\|\, \text{posterior})$: the bound is as tight as $q$ is accurate.
# - A draw is $\mu + \sigma\epsilon$ with the standard deviation, and its derivatives are $1$ and $\epsilon$. The
#   score-function estimator is unbiased too, but its variance makes it useless here.
# - The KL of two Gaussians follows from their second moments, and Monte Carlo confirms it.
#
# On to [03 · The generative story](03_the_generative_story.ipynb): a VAE in every step of a sequence, with a prior that
# depends on the past.
