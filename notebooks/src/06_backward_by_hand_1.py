# %% [markdown]
# # 06 · Backward by hand I
#
# A gradient of the VRNN is a few small derivatives, each carried out once, in the right order. Here you write them:
# linear layer, activation, MLP, KL, reparameterised draw. The next notebook joins them over time.
#
# *You need*: the chain rule, matrix products, [02](02_the_vae.ipynb) for the KL. *It takes* about an hour and a half.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv

tv.plots.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## What a backward pass is asked
#
# Let $L$ be a number and $y = f(x)$ something on the way to it. For an array $a$ we write $da$ for
# $\partial L / \partial a$, an array of $a$'s own shape. A **backward pass** answers one question:
#
# > given $dy$, what is $dx$?
#
# By the chain rule, $dx_i = \sum_j dy_j \, \partial y_j / \partial x_i$. It needs to know nothing of $L$ but $dy$:
# the **upstream gradient**. That is why the pieces can be written one at a time.

# %% [markdown]
# ## The linear layer
#
# $y = x W + b$, with $x$ $(N, D)$, $W$ $(D, E)$, $b$ $(E,)$. One entry is
#
# $$y_{ne} = \sum_d x_{nd} W_{de} + b_e .$$
#
# Now differentiate, index by index.
#
# - $x_{nd}$ sits in every entry of row $n$, with the weight $W_{de}$: $\; dx_{nd} = \sum_e dy_{ne} W_{de}$, so
#   $dx = dy\, W^\top$.
# - $W_{de}$ sits in every row of column $e$, with the weight $x_{nd}$: $\; dW_{de} = \sum_n x_{nd}\, dy_{ne}$, so
#   $dW = x^\top dy$.
# - $b_e$ sits in every row of column $e$, with the weight 1: $\; db_e = \sum_n dy_{ne}$.
#
# The shapes leave you no choice but these, which is a good way to remember them and a bad way to derive them.
#
# > **Function** `tinyvrnn.nn.linear.linear_forward` · **held by**
# > `tests/test_pairs.py::test_gradients_of_a_pair_equal_numeric_ones`

# %%
tv.course.show(tv.nn.linear.linear_forward)

# %% [markdown]
# ### Exercise 06.1 (write): the linear layer
#
# Return `dx, dW, db`. The leading axes may be more than one: `x` $(..., D)$ and `dy` $(..., E)$, since the VRNN calls
# this with $(T, B, D)$ as well as with $(B, D)$. Sums over rows are sums over **all** leading axes.


# %%
def my_linear_backward(W, x, dy):
    """dx (..., D), dW (D, E), db (E,) from dy (..., E)."""
    ### BEGIN SOLUTION
    rows_x, rows_dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return dy @ W.T, rows_x.T @ rows_dy, rows_dy.sum(axis=0)
    ### END SOLUTION


# %%
tv.course.check("06.1", my_linear_backward)

# %% [markdown]
# ## Is it right? The numeric check
#
# A derivative is a limit of differences, so differences can check it:
#
# $$\frac{\partial L}{\partial x_i} \approx \frac{L(x + h e_i) - L(x - h e_i)}{2h} .$$
#
# The error has two parts: the limit has not been taken, $O(h^2)$, and the two values of $L$ have only 16 digits,
# which the subtraction eats up, $O(10^{-16}/h)$. Somewhere between them lies the best $h$. Where?


# %%
def error_at(h, derivative):
    return abs(derivative(h) - np.cos(1.0))


steps = 10.0 ** np.arange(-13, 0)
one_sided = [error_at(h, lambda h: (np.sin(1 + h) - np.sin(1)) / h) for h in steps]
two_sided = [error_at(h, lambda h: (np.sin(1 + h) - np.sin(1 - h)) / (2 * h)) for h in steps]

figure, axes = plt.subplots(figsize=(6, 3.4))
axes.loglog(steps, one_sided, "o--", label="one-sided")
axes.loglog(steps, two_sided, "s-", label="two-sided")
axes.set(xlabel="step h", ylabel="error of d sin(x) / dx at 1", title="A difference is best where its two errors meet")
axes.legend()

best = steps[int(np.argmin(two_sided))]
assert 1e-7 < best < 1e-3 and min(two_sided) < 1e-9 < min(one_sided) * 10

# %% [markdown]
# The two-sided difference is best near $h = 10^{-5}$, where about ten digits are right. So a check asks for agreement
# to $10^{-7}$, in float64; float32 has no digits to spare for it.
#
# `check_pair` does this for every entry of every input. $L$ is $\sum_j g_j y_j$ with random $g$, so that $dy = g$: a
# mistake that one fixed $dy$ (all ones, say) would hide has nowhere to hide.

# %%
tv.course.show(tv.gradcheck.numerical_gradient)

# %% [markdown]
# > **Function** `tinyvrnn.gradcheck.numerical_gradient` · **held by**
# > `tests/test_gradcheck.py::test_numerical_gradient_of_known_functions`

# %%
p = {"W": rng.standard_normal((4, 3)), "b": rng.standard_normal(3)}
x = rng.standard_normal((5, 4))
rows = tv.gradcheck.check_pair(tv.nn.linear.linear_forward, tv.nn.linear.linear_backward, p, x)
for row in rows:
    print(f"{row.leaf:8} worst entry {str(row.index):8} analytic {row.analytic:9.5f}   numeric {row.numeric:9.5f}")
    assert row.rel_error < 1e-7

# %% [markdown]
# ## Activations
#
# An activation works entry by entry, so its backward does too: $da_i = dy_i\, f'(a_i)$. The four of the package, with
# slopes written by the **output** $y$ where that is cheaper (it is already there):
#
# | $f(a)$ | $f'(a)$ |
# |---|---|
# | $\mathrm{relu}(a) = \max(a, 0)$ | 1 where $y > 0$, else 0 |
# | $\tanh(a)$ | $1 - y^2$ |
# | $\mathrm{sigmoid}(a) = 1/(1 + e^{-a})$ | $y (1 - y)$ |
# | $\mathrm{softplus}(a) = \log(1 + e^a)$ | for you to find |
#
# Softplus makes a deviation out of any number: $\sigma = \mathrm{softplus}(s) + 10^{-4} > 0$.

# %%
a = np.linspace(-5, 5, 201)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
for name in ("relu", "tanh", "sigmoid", "softplus"):
    forward, backward = (getattr(tv.nn.activations, f"{name}_{way}") for way in ("forward", "backward"))
    y, cache = forward(a)
    left.plot(a, y, label=name)
    right.plot(a, backward(cache, np.ones_like(a)))
left.legend()
left.set(title="f(a)", xlabel="a", ylim=(-1.5, 5))
right.set(title="its slope: what the backward multiplies dy by", xlabel="a");

# %% [markdown]
# ### Exercise 06.2 (derive): softplus
#
# Derive $\frac{d}{da} \log(1 + e^a)$, and write `da` so that it stays finite and right at $a = \pm 800$, where $e^a$
# does not: $e^{800}$ is infinity in float64. (A hint for that part: $\tanh$ never overflows.)


# %%
def my_softplus_backward(a, dy):
    """da (...) from a (...) and dy (...)."""
    ### BEGIN SOLUTION
    # d/da log(1 + e^a) = e^a / (1 + e^a) = 1 / (1 + e^-a): the sigmoid, here by its tanh form
    return dy * (0.5 * np.tanh(0.5 * a) + 0.5)
    ### END SOLUTION


# %%
tv.course.check("06.2", my_softplus_backward)

# %% [markdown]
# ## Two layers: the order is the whole trick
#
# $y_1 = \mathrm{relu}(x W_1 + b_1)$, $\; y_2 = \mathrm{relu}(y_1 W_2 + b_2)$. Backward walks the same path in the
# other direction, and each station needs only what the one above hands down:
#
# $$dy_2 \;\to\; da_2 \;\to\; (dW_2, db_2),\; dy_1 \;\to\; da_1 \;\to\; (dW_1, db_1),\; dx .$$
#
# > **Function** `tinyvrnn.nn.mlp.mlp_backward` · **held by**
# > `tests/test_pairs.py::test_gradients_of_a_pair_equal_numeric_ones`
#
# ### Exercise 06.3 (write): the MLP
#
# `p` holds `W1, b1, W2, b2`. Return `dx` and a dict of gradients with the same four keys. Here `x` is $(N, D)$.


# %%
def my_mlp_backward(p, x, dy):
    """dx (N, D), {"W1": ..., "b1": ..., "W2": ..., "b2": ...} from dy (N, E)."""
    ### BEGIN SOLUTION
    y1 = np.maximum(x @ p["W1"] + p["b1"], 0)
    y2 = np.maximum(y1 @ p["W2"] + p["b2"], 0)
    da2 = dy * (y2 > 0)
    da1 = (da2 @ p["W2"].T) * (y1 > 0)
    return da1 @ p["W1"].T, {
        "W1": x.T @ da1,
        "b1": da1.sum(axis=0),
        "W2": y1.T @ da2,
        "b2": da2.sum(axis=0),
    }
    ### END SOLUTION


# %%
tv.course.check("06.3", my_mlp_backward)

# %% [markdown]
# ## The KL between two Gaussians
#
# From [02](02_the_vae.ipynb), for each latent dimension,
#
# $$\mathrm{KL}\big(\mathcal N(\mu_z, \sigma_z^2) \,\|\, \mathcal N(\mu_0, \sigma_0^2)\big)
# = \log \sigma_0 - \log \sigma_z + \frac{\sigma_z^2 + (\mu_z - \mu_0)^2}{2 \sigma_0^2} - \frac12 ,$$
#
# and the dimensions add up. All four arguments are outputs of networks (in a VAE, the last two are constants; in a
# VRNN the prior learns as well), so the backward owes four gradients.

# %%
tv.course.show(tv.distributions.gaussian.kl_of_each)  # gaussian_kl_forward adds its first result up

# %% [markdown]
# > **Function** `tinyvrnn.distributions.gaussian.gaussian_kl_forward` · **held by**
# > `tests/test_distributions.py::test_kl_equals_monte_carlo`
#
# ### Exercise 06.4 (derive): the KL
#
# Differentiate the formula by each argument. `dkl` has one axis less than `mu_z`, because the KL is summed over the
# last: `dkl[..., None]` puts it back.


# %%
def my_kl_backward(mu_z, sigma_z, mu_0, sigma_0, dkl):
    """dmu_z, dsigma_z, dmu_0, dsigma_0 (..., Z) from dkl (...)."""
    ### BEGIN SOLUTION
    dkl = dkl[..., None]
    dmu_z = dkl * (mu_z - mu_0) / sigma_0**2
    dsigma_z = dkl * (sigma_z / sigma_0**2 - 1 / sigma_z)
    dsigma_0 = dkl * (1 / sigma_0 - (sigma_z**2 + (mu_z - mu_0) ** 2) / sigma_0**3)
    return dmu_z, dsigma_z, -dmu_z, dsigma_0
    ### END SOLUTION


# %%
tv.course.check("06.4", my_kl_backward)

# %% [markdown]
# The slopes say what the KL wants. Below, the prior is $\mathcal N(0, 1)$. Each arrow is a step downhill in the KL,
# and they all lead to the prior itself: that pull is what the likelihood has to work against.

# %%
mu_z, sigma_z = np.meshgrid(np.linspace(-2, 2, 17), np.linspace(0.35, 2.2, 15))
zero, one = np.zeros_like(mu_z)[..., None], np.ones_like(mu_z)[..., None]
kl, cache = tv.distributions.gaussian.gaussian_kl_forward(mu_z[..., None], sigma_z[..., None], zero, one)
dmu_z, dsigma_z, _, _ = tv.distributions.gaussian.gaussian_kl_backward(cache, np.ones_like(kl))

figure, axes = plt.subplots(figsize=(6, 3.8))
axes.contourf(mu_z, sigma_z, kl, levels=14, cmap="Greys", alpha=0.8)
axes.quiver(mu_z, sigma_z, -dmu_z[..., 0], -dsigma_z[..., 0], color=tv.plots.COLOURS[0], scale=45)
axes.plot(0, 1, "o", color=tv.plots.COLOURS[1])
axes.annotate("the prior", (0, 1), (0.12, 1.06), color=tv.plots.COLOURS[1])
axes.set(xlabel=r"$\mu_z$", ylabel=r"$\sigma_z$", title="KL to N(0, 1) in nats (darker is more), and the way down")

assert kl.min() < 0.02 and dsigma_z[sigma_z < 1].max() < 0 < dsigma_z[sigma_z > 1].min()

# %% [markdown]
# ## Through a random draw
#
# $z = \mu + \sigma \epsilon$ with $\epsilon \sim \mathcal N(0, 1)$ drawn outside. Given $\epsilon$, nothing here is
# random, and $z$ has slopes like any other function. That is the whole of the reparameterisation trick.
#
# > **Function** `tinyvrnn.distributions.gaussian.reparameterise_backward` · **held by**
# > `tests/test_distributions.py::test_reparameterised_draws_have_mean_mu_and_deviation_sigma`
#
# ### Exercise 06.5 (write): the draw


# %%
def my_reparameterise_backward(mu, sigma, eps, dz):
    """dmu, dsigma (..., Z) from dz (..., Z)."""
    ### BEGIN SOLUTION
    return dz, dz * eps
    ### END SOLUTION


# %%
tv.course.check("06.5", my_reparameterise_backward)

# %% [markdown]
# ## How the check can fool you
#
# Here is a draw with a mistake that is found in public code: it multiplies $\epsilon$ by the **variance**. Its author
# also wrote the backward pass, correctly, for what the forward pass does.


# %%
def draw_with_variance(mu, sigma, eps):
    return mu + sigma**2 * eps, (eps, sigma)


def draw_with_variance_backward(cache, dz):
    eps, sigma = cache
    return dz, 2 * dz * sigma * eps, dz * sigma**2


# %% [markdown]
# ### Exercise 06.6 (predict): who sees the variance?
#
# With $\mu = 1$, $\sigma = 2$, which of these checks fail? Answer with a set of words, e.g. `{"gradient", "shape"}`,
# before you run the cell after the next.
#
# - `"gradient"`: `check_pair` of the two functions above;
# - `"mean"`: is the mean of 10,000 draws $\mu$, within four standard errors?
# - `"deviation"`: is their standard deviation $\sigma$, within four standard errors?
# - `"shape"`: has $z$ the shape of $\mu$?

# %%
prediction = None
### BEGIN SOLUTION
prediction = {"deviation"}
### END SOLUTION

# %%
tv.course.check("06.6", prediction)

# %%
mu, sigma, eps = np.full((3, 2), 1.0), np.full((3, 2), 2.0), rng.standard_normal((3, 2))
rows = tv.gradcheck.check_pair(draw_with_variance, draw_with_variance_backward, None, mu, sigma, eps)
print(f"gradient check: passes, worst relative error below 1e-7: {max(row.rel_error for row in rows) < 1e-7}")

z, _ = draw_with_variance(np.full(10_000, 1.0), np.full(10_000, 2.0), rng.standard_normal(10_000))
print(f"mean {z.mean():.2f} (should be 1), deviation {z.std():.2f} (should be 2)")
assert abs(z.mean() - 1) < 4 * z.std() / 100 and z.std() > 3.5

# %% [markdown]
# A gradient check proves that **backward matches forward**, and nothing about the forward. So every claim in this
# package is held from a second side: the moments of the draws, the KL against Monte Carlo, the whole bound against an
# exact answer ([09](09_how_tight.ipynb)).
#
# ## What you now know
#
# - A backward pass turns $dy$ into $dx$ and the parameters' gradients, and needs to know nothing else.
# - Where an array is used many times, its shares add up: hence the sums over rows in $dW$ and $db$.
# - A two-sided difference with $h = 10^{-5}$ gives about ten digits; a check asks for seven.
# - The check is blind to a forward that is wrong, and blind means to any number of digits.
#
# On to [07 · Backward by hand II](07_backward_by_hand_2.ipynb): the GRU, and all of this through time.
