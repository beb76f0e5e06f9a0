# %% [markdown]
# # 06 · Backward by hand I
#
# The gradient of the VRNN is built from a few small derivatives. Here you write them: linear layer, activation, MLP,
# KL, reparameterised draw. The next notebook connects them over time.
#
# *You need*: the chain rule, matrix products, [02](02_the_vae.ipynb) for the KL. *It takes* about 1 h 30 min.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv

tv.plots.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## What a backward pass computes
#
# Let $L$ be a scalar and $y = f(x)$ an intermediate result. For an array $a$ we write $da$ for
# $\partial L / \partial a$, an array of the same shape as $a$. A **backward pass** answers one question:
#
# > given $dy$, what is $dx$?
#
# By the chain rule, $dx_i = \sum_j dy_j \, \partial y_j / \partial x_i$. Of $L$ we need only $dy$, the **upstream
# gradient**, so we can write the parts one at a time.

# %% [markdown]
# ## The linear layer
#
# $y = x W + b$, with $x$ $(N, D)$, $W$ $(D, E)$, $b$ $(E,)$. One entry is
#
# $$y_{ne} = \sum_d x_{nd} W_{de} + b_e .$$
#
# Differentiate index by index:
#
# - $x_{nd}$ occurs in every entry of row $n$, with the coefficient $W_{de}$: $\; dx_{nd} = \sum_e dy_{ne} W_{de}$, so
#   $dx = dy\, W^\top$.
# - $W_{de}$ occurs in every row of column $e$, with the coefficient $x_{nd}$: $\; dW_{de} = \sum_n x_{nd}\, dy_{ne}$,
#   so $dW = x^\top dy$.
# - $b_e$ occurs in every row of column $e$, with the coefficient 1: $\; db_e = \sum_n dy_{ne}$.
#
# No other products have the right shapes. That helps you remember the formulas, but it is not a derivation.
#
# > **Function** `tinyvrnn.nn.linear.linear_forward` · **held by**
# > `tests/test_pairs.py::test_gradients_of_a_pair_equal_numeric_ones`

# %%
tv.course.show(tv.nn.linear.linear_forward)

# %% [markdown]
# ### Exercise 06.1 (write): the linear layer
#
# Return `dx, dW, db`. There may be more than one leading axis: `x` $(..., D)$ and `dy` $(..., E)$, since the VRNN calls
# this function with $(T, B, D)$ as well as with $(B, D)$. Sums over rows are sums over **all** leading axes.


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
# ## Is it correct? The numeric check
#
# A derivative is a limit of difference quotients, so a difference quotient can check it:
#
# $$\frac{\partial L}{\partial x_i} \approx \frac{L(x + h e_i) - L(x - h e_i)}{2h} .$$
#
# The error has two parts. The truncation error, $O(h^2)$, shrinks with $h$. The rounding error, $O(10^{-16}/h)$, grows
# as $h$ shrinks: the two values of $L$ have only 16 digits, and most of them cancel in the subtraction. The best $h$
# lies in between. Where?


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
# The two-sided difference is best near $h = 10^{-5}$, where about ten digits are correct. The check therefore requires
# agreement to $10^{-7}$. It works in float64; float32 has too few digits.
#
# `check_pair` does this for every entry of every input. It uses $L = \sum_j g_j y_j$ with random $g$, so $dy = g$. A
# random $g$ exposes mistakes that a constant $dy$ (all ones, say) would hide.

# %%
tv.course.show(tv.gradcheck.numerical_gradient)

# %%
tv.course.show(tv.gradcheck.numeric.slope)

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
# An activation works elementwise, and so does its backward pass: $da_i = dy_i\, f'(a_i)$. The package has four. Where
# it is cheaper, the derivative uses the **output** $y$, which the forward pass has already computed:
#
# | activation $f(a)$ | derivative $f'(a)$ |
# |---|---|
# | $\mathrm{relu}(a) = \max(a, 0)$ | 1 where $y > 0$, else 0 |
# | $\tanh(a)$ | $1 - y^2$ |
# | $\mathrm{sigmoid}(a) = 1/(1 + e^{-a})$ | $y (1 - y)$ |
# | $\mathrm{softplus}(a) = \log(1 + e^a)$ | the next exercise |
#
# Softplus turns any number into a standard deviation: $\sigma = \mathrm{softplus}(s) + 10^{-4} > 0$.

# %%
a = np.linspace(-5, 5, 201)
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9))
for name, style in (("relu", "-"), ("tanh", "--"), ("sigmoid", "-."), ("softplus", ":")):
    forward, backward = (getattr(tv.nn.activations, f"{name}_{way}") for way in ("forward", "backward"))
    y, cache = forward(a)
    left.plot(a, y, style, label=name)
    right.plot(a, backward(cache, np.ones_like(a)), style)
left.legend()
left.set(title="The activation f(a)", xlabel="a", ylim=(-1.5, 5))
right.set(title="Its derivative, which multiplies dy", xlabel="a");

# %% [markdown]
# ### Exercise 06.2 (derive): softplus
#
# Derive $\frac{d}{da} \log(1 + e^a)$, and write `da` so that it stays finite and correct at $a = \pm 800$, where $e^a$
# does not: $e^{800}$ is infinity in float64. (Hint for that part: $\tanh$ never overflows.)


# %%
def my_softplus_backward(a, dy):
    """da (...) from a (...) and dy (...)."""
    ### BEGIN SOLUTION
    # d/da log(1 + e^a) = e^a / (1 + e^a) = 1 / (1 + e^-a): the sigmoid, here in its tanh form
    return dy * (0.5 * np.tanh(0.5 * a) + 0.5)
    ### END SOLUTION


# %%
tv.course.check("06.2", my_softplus_backward)

# %% [markdown]
# ## Two layers: reverse the order
#
# $y_1 = \mathrm{relu}(x W_1 + b_1)$, $\; y_2 = \mathrm{relu}(y_1 W_2 + b_2)$. The backward pass visits the same
# operations in reverse, and each one needs only the gradient from the one above it:
#
# $$dy_2 \;\to\; da_2 \;\to\; (dW_2, db_2),\; dy_1 \;\to\; da_1 \;\to\; (dW_1, db_1),\; dx .$$
#
# > **Function** `tinyvrnn.nn.mlp.mlp_backward` · **held by**
# > `tests/test_pairs.py::test_gradients_of_a_pair_equal_numeric_ones`
#
# ### Exercise 06.3 (write): the MLP
#
# `p` holds `W1, b1, W2, b2`. Return `dx` and a dict of gradients with the same four keys. Here `x` is $(N, D)$.
# Where a pre-activation is exactly 0, the ReLU's gradient is 0.


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
# $$\begin{aligned}
# &\mathrm{KL}\big(\mathcal N(\mu_z, \sigma_z^2) \,\|\, \mathcal N(\mu_0, \sigma_0^2)\big) \\
# &\quad = \log \sigma_0 - \log \sigma_z + \frac{\sigma_z^2 + (\mu_z - \mu_0)^2}{2 \sigma_0^2} - \frac12 ,
# \end{aligned}$$
#
# and the KL is the sum over the dimensions. In a VAE the prior, $\mu_0$ and $\sigma_0$, is constant. In a VRNN all four
# arguments are outputs of networks, so the backward pass must return four gradients. The code writes the formula with
# $d = \log\sigma_z - \log\sigma_0$, which is more accurate where the two are close; `kl_of_each` computes the terms of
# the sum.

# %%
tv.course.show(tv.distributions.gaussian.gaussian_kl_forward)

# %% [markdown]
# > **Function** `tinyvrnn.distributions.gaussian.gaussian_kl_forward` · **held by**
# > `tests/test_distributions.py::test_kl_equals_monte_carlo`
#
# ### Exercise 06.4 (derive): the KL
#
# Differentiate the formula with respect to each argument. `dkl` has one axis fewer than `mu_z`, because the KL is
# summed over the last axis: `dkl[..., None]` restores it.


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
# The derivatives show in which direction the KL falls. Below, the prior is $\mathcal N(0, 1)$, and each arrow is a step
# of gradient descent on the KL. All arrows lead to the prior: the likelihood has to work against this pull.

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
axes.set(xlabel=r"$\mu_z$", ylabel=r"$\sigma_z$", title="The KL to N(0, 1), darker where larger, and its descent")

assert kl.min() < 0.02 and dsigma_z[sigma_z < 1].max() < 0 < dsigma_z[sigma_z > 1].min()

# %% [markdown]
# ## Through a random draw
#
# $z = \mu + \sigma \epsilon$, where $\epsilon \sim \mathcal N(0, 1)$ is drawn outside the function. Given $\epsilon$,
# nothing here is random, and $z$ has derivatives like any other function. That is the whole reparameterisation trick.
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
# ## What the check cannot see
#
# Here is a draw with a mistake from public code: it multiplies $\epsilon$ by the **variance**. The author's backward
# pass is correct for this forward pass.


# %%
def draw_with_variance(mu, sigma, eps):
    return mu + sigma**2 * eps, (eps, sigma)


def draw_with_variance_backward(cache, dz):
    eps, sigma = cache
    return dz, 2 * dz * sigma * eps, dz * sigma**2


# %% [markdown]
# ### Exercise 06.6 (predict): which checks fail?
#
# With $\mu = 1$, $\sigma = 2$, which of these checks fail? Answer with a set of words, e.g. `{"gradient", "shape"}`,
# before you run the cell after the next.
#
# - `"gradient"`: `check_pair` of the two functions above;
# - `"mean"`: is the mean of 10,000 draws $\mu$, within four standard errors?
# - `"deviation"`: is their standard deviation $\sigma$, within four standard errors?
# - `"shape"`: does $z$ have the shape of $\mu$?

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
print(f"mean {z.mean():.2f} (should be 1), standard deviation {z.std():.2f} (should be 2)")
assert abs(z.mean() - 1) < 4 * z.std() / 100 and z.std() > 3.5

# %% [markdown]
# A gradient check proves that **backward matches forward**. It says nothing about the forward pass. So each claim of
# this package has a second, independent test: the moments of the draws, the KL against Monte Carlo, the whole bound
# against an exact answer ([09](09_how_tight.ipynb)).
#
# ## What you now know
#
# - A backward pass turns $dy$ into $dx$ and the gradients of the parameters. It needs nothing else from the loss.
# - Where an array is used many times, the contributions to its gradient add up: hence the sums over rows in $dW$ and
#   $db$.
# - A two-sided difference with $h = 10^{-5}$ gives about ten digits; a check asks for seven.
# - A gradient check cannot see a wrong forward pass, however many digits it compares.
#
# On to [07 · Backward by hand II](07_backward_by_hand_2.ipynb): the GRU, and all of this through time.
