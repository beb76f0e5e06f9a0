# %% [markdown]
# # 03 · The generative story
#
# A VRNN makes a sequence by repeating three moves: draw a latent variable, draw an observation, update the state. Each
# move is a small network. Together they define a distribution over whole sequences, and we check that they do: the
# probabilities sum to 1, and the frequencies of samples agree with them. Keep `tinyvrnn/one_page.py` open next to this
# notebook: it has the same three moves in plain NumPy.
#
# *You need*: Gaussians, the chain rule of probability (recalled here), [02](02_the_vae.ipynb) for $z$ and its draw.
# *It takes* about 1 h 35 min.

# %%
# %matplotlib inline
from itertools import product

import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn.arrays import noise
from tinyvrnn.arrays.params import views
from tinyvrnn.models import equations

tv.plots.use_style()
blue, orange, *_ = tv.plots.COLOURS
bernoulli = tv.distributions.LIKELIHOODS["bernoulli"]

# %% [markdown]
# ## One step, in three moves
#
# We observe $x_1, \dots, x_T$, say the rows of a picture; we do not observe the latents $z_1, \dots, z_T$. One vector,
# the state $h_{t-1}$, summarises everything before step $t$. Step $t$ has three moves:
#
# 1. **prior**: draw $z_t$, given the state;
# 2. **generation**: draw $x_t$, given $z_t$ and the state;
# 3. **recurrence**: update the state with both.
#
# The paper's Figure 1 draws the three moves as arrows. A circle is a random variable; a diamond is computed
# deterministically.


# %%
def panel(axes, title, arrows):
    """One panel of Fig. 1. arrows: pairs of nodes, (from, to)."""
    where = {"h_{t-1}": (0, 0), "h_t": (2, 0), "z_t": (1, 1), "x_t": (1, -1)}
    for name, (across, up) in where.items():
        marker, face = ("D", "0.9") if name[0] == "h" else ("o", "white")
        axes.plot(across, up, marker, markersize=29 if marker == "D" else 34, markerfacecolor=face, color="black")
        axes.text(across, up, f"${name}$", ha="center", va="center", fontsize=12)
    for start, end in arrows:
        style = dict(arrowstyle="-|>", color=blue, linewidth=2, shrinkA=20, shrinkB=20, mutation_scale=14)
        axes.annotate("", where[end], where[start], arrowprops=style)
    axes.set(title=title, xlim=(-0.55, 2.55), ylim=(-1.6, 1.6))
    axes.axis("off")


FIGURE_1 = {
    "a  prior, Eq. 5": [("h_{t-1}", "z_t")],
    "b  generation, Eq. 6": [("h_{t-1}", "x_t"), ("z_t", "x_t")],
    "c  recurrence, Eq. 7": [("h_{t-1}", "h_t"), ("z_t", "h_t"), ("x_t", "h_t")],
}
figure, grid = plt.subplots(1, 3, figsize=(7.4, 2.9))
figure.suptitle("One step of a VRNN: what each move reads and what it sets", x=0.01, ha="left", fontsize=11)
for axes, (title, arrows) in zip(grid, FIGURE_1.items()):
    panel(axes, title, arrows)

# %% [markdown]
# ## Eq. 5, the prior
#
# $$z_t \sim \mathcal N\big(\mu_{0,t}, \mathrm{diag}(\sigma_{0,t}^2)\big), \qquad
# [\mu_{0,t}, \sigma_{0,t}] = \varphi^{\text{prior}}(h_{t-1}) .$$
#
# A network reads the state **before** the step and outputs the distribution of $z_t$. In a VAE this prior is always
# $\mathcal N(0, 1)$. Here it is learned and changes along the sequence: after three rows of a 7, the model expects a
# different $z_4$ than after three rows of a 0.
#
# > **Function** `tinyvrnn.models.equations.prior_forward` · **held by**
# > `tests/test_equations.py::test_each_equation_equals_the_plain_rewrite`

# %%
tv.course.show(equations.prior_forward)

# %% [markdown]
# ## Eq. 6, generation
#
# $$x_t \mid z_t \sim p\big(\,\cdot \,; \tau_t\big), \qquad
# \tau_t = \varphi^{\text{dec}}\big(\varphi^z(z_t), h_{t-1}\big) ,$$
#
# where $\tau_t$ are the parameters of the output distribution: $\mu_{x,t}$ and $\sigma_{x,t}$ of a Gaussian, or, for
# binary pixels, one logit $a$ per pixel, with $P(x = 1) = 1 / (1 + e^{-a})$.
#
# > **Function** `tinyvrnn.models.equations.generate_forward` · **held by**
# > `tests/test_equations.py::test_first_step_has_the_moments_of_prior_and_generation`

# %%
tv.course.show(equations.generate_forward)

# %% [markdown]
# ## Eq. 7, recurrence
#
# $$h_t = f\big(\varphi^x(x_t), \varphi^z(z_t), h_{t-1}\big), \qquad h_0 = 0 ,$$
#
# where $f$ is a GRU ([07](07_backward_by_hand_2.ipynb) takes it apart). It is deterministic: a diamond in the figure.
#
# > **Function** `tinyvrnn.models.equations.recur_forward` · **held by**
# > `tests/test_equations.py::test_gru_equals_a_loop_over_scalars`

# %%
tv.course.show(equations.recur_forward)

# %% [markdown]
# ## What the state depends on
#
# Unroll Eq. 7: $h_1$ is a function of $(x_1, z_1)$; if $h_{t-1}$ is a function of $(x_{\lt t}, z_{\lt t})$, then $h_t$
# is a function of $(x_{\le t}, z_{\le t})$. So by induction
#
# $$h_{t-1} = \text{a function of } x_{\lt t}, z_{\lt t} .$$
#
# This is why the paper can write the conditional densities on the left for the distributions on the right:
#
# $$p(z_t \mid x_{\lt t}, z_{\lt t}) = \mathcal N(\mu_{0,t}, \sigma_{0,t}^2), \qquad
# p(x_t \mid z_{\le t}, x_{\lt t}) = p(\,\cdot\,; \tau_t) .$$
#
# Given the past, the state is a known vector, and each distribution depends on the past only through that vector.
#
# Here is a VRNN small enough to inspect, with two pixels per step, and a function that runs it along a given $x$ and
# $z$:

# %%
model = tv.VRNN(x_dim=2, h_dim=6, z_dim=1, features=5, layers=1, dtype="float64")
weights = np.random.default_rng(0).standard_normal(model.theta.shape)  # large ones: all effects are visible
model.theta[...] = model.backend.asarray(weights)
params = views(tv.to_host(model.theta).copy(), model.shapes)


def walk(params, x, z):
    """Eq. 5, 6, 7 along given x (T, B, X), z (T, B, Z): mu_0, sigma_0, logits and h_t, each (T, B, .)."""
    h, steps = np.zeros((x.shape[1], len(params["recur"]["U"]))), []
    for x_t, z_t in zip(x, z):
        (mu_0, sigma_0), _ = equations.prior_forward(params["prior"], h)
        phi_z, _ = equations.features_forward(params["phi_z"], z_t)
        (logits,), _ = equations.generate_forward(params["generate"], phi_z, h, bernoulli)
        phi_x, _ = equations.features_forward(params["phi_x"], x_t)
        h, _ = equations.recur_forward(params["recur"], phi_x, phi_z, h)
        steps.append((mu_0, sigma_0, logits, h))
    return [np.stack(a) for a in zip(*steps)]


# %% [markdown]
# ### Exercise 03.1 (predict): who reads $x_2$?
#
# There are three steps, and every $z$ is held fixed. We change $x_2$ and nothing else. Which of these change? Answer
# with a set of words.
#
# - `"prior 2"`, `"prior 3"`: $\mu_{0,2}$, $\mu_{0,3}$, the distributions of $z_2$ and $z_3$;
# - `"generation 2"`, `"generation 3"`: the logits of $x_2$ and of $x_3$;
# - `"state 2"`: $h_2$.

# %%
prediction = None
### BEGIN SOLUTION
prediction = {"state 2", "prior 3", "generation 3"}
### END SOLUTION

# %%
tv.course.check("03.1", prediction)

# %%
rng = np.random.default_rng(0)
x, z = rng.integers(0, 2, (3, 1, 2)).astype(float), rng.standard_normal((3, 1, 1))
other = x.copy()
other[1] = 1 - x[1]

for name, a, b in zip(("mu_0", "sigma_0", "logits", "h"), walk(params, x, z), walk(params, other, z)):
    changed = [bool(np.any(a[t] != b[t])) for t in range(3)]
    print(f"{name:8} changed at steps 1, 2, 3: {changed}")
    assert changed == ([False, True, True] if name == "h" else [False, False, True])

# %% [markdown]
# The distributions of step 2 are computed *before* $x_2$ exists. This is the order of the story, and of the code.
#
# ## Eq. 8, the joint
#
# By the definition of a conditional density, $p(a, b) = p(a)\, p(b \mid a)$. Apply it to $(a_1, \dots, a_{n-1})$ and
# $a_n$, then to the first factor, and so on down to $p(a_1)$:
#
# $$\begin{aligned}
# p(a_1, \dots, a_n) &= p(a_1)\, p(a_2 \mid a_1) \cdots p(a_n \mid a_1, \dots, a_{n-1}) \\
# &= \prod_{i=1}^{n} p(a_i \mid a_{\lt i}) .
# \end{aligned}$$
#
# This is the **chain rule of probability**. It holds for any variables in any order, and makes no assumption. Now take
# the variables in the order of the story,
#
# $$a = (z_1, x_1, \; z_2, x_2, \; \dots, \; z_T, x_T) .$$
#
# Before $z_t$ come $z_{\lt t}$ and $x_{\lt t}$; before $x_t$ come $z_{\le t}$ and $x_{\lt t}$. So the $2T$ factors are
#
# $$p(x_{\le T}, z_{\le T}) = \prod_{t=1}^{T} p(x_t \mid z_{\le t}, x_{\lt t}) \; p(z_t \mid x_{\lt t}, z_{\lt t}) ,
# \tag{8}$$
#
# and Eq. 6 and Eq. 5 are those factors.
#
# ## Which independence is assumed, and where
#
# | factor | assumes | does not assume |
# |---|---|---|
# | Eq. 8 | nothing: the chain rule | that $z_t$ is independent of anything |
# | Eq. 5 | **given the past**, the entries of $z_t$ are independent Gaussians | that $z_t$ ignores $z_{t-1}$ |
# | Eq. 6 | **given $z_t$ and the past**, the entries of $x_t$ are independent | that pixels of a row are independent |
# | Eq. 7 | $H$ numbers hold all that matters of the past | that $z$ is a Markov chain: $h$ can carry the distant past |
#
# Eq. 5 could assume more: in the paper's variant VRNN-I, $z_t \sim \mathcal N(0, 1)$ at every step, independent of the
# past. The assumption of Eq. 6 is subtle, so we compute its effect.
#
# ## Independent given $z$ is not independent
#
# Given $z$, two pixels are separate coins. Without conditioning on $z$ they are dependent: a $z$ that means "thick pen"
# turns both on. How large is their covariance? Write $p_i(z)$ for the mean of $x_i$ given $z$. Then
#
# $$\mathrm E[x_i x_j] = \mathrm E_z\big[\mathrm E[x_i x_j \mid z]\big]
# = \mathrm E_z\big[p_i(z)\, p_j(z)\big] \quad (i \ne j) ,$$
#
# where the last step used independence given $z$. Subtract
# $\mathrm E[x_i]\, \mathrm E[x_j] = \mathrm E_z[p_i]\, \mathrm E_z[p_j]$:
#
# $$\mathrm{Cov}(x_i, x_j) = \mathrm{Cov}_z\big(p_i(z), p_j(z)\big) \quad (i \ne j) .$$
#
# ### Exercise 03.2 (derive): the covariance of pixels
#
# Let $z$ have $K$ values with probabilities `weights` $(K,)$, and let `p[k, i]` be $P(x_i = 1 \mid z = k)$. Return the
# covariance matrix of $x$, $(X, X)$. Off the diagonal it is the formula above. On the diagonal, $i = j$ and the step
# that used independence fails: $x_i$ is 0 or 1, so what is $\mathrm E[x_i x_i \mid z]$?


# %%
def my_covariance(weights, p):
    """Cov(x_i, x_j) (X, X) of pixels that are independent given z. weights (K,), p (K, X)."""
    ### BEGIN SOLUTION
    mean = weights @ p
    second = (p * weights[:, None]).T @ p  # E[x_i x_j] for i != j
    np.fill_diagonal(second, mean)  # x_i^2 = x_i, so E[x_i^2] = E[x_i]
    return second - np.outer(mean, mean)
    ### END SOLUTION


# %%
tv.course.check("03.2", my_covariance)

# %% [markdown]
# So a decoder that treats its pixels independently can still draw rows whose pixels are correlated: the correlation
# comes from $z$. A plain RNN has no $z$, and its pixels of one row **are** independent given the previous rows
# ([01](01_sequences_and_the_rnn.ipynb)).
#
# ## The log-joint
#
# The logarithm turns a product of many small numbers into a sum:
#
# $$\log p(x, z) = \sum_{t=1}^{T} \Big( \log p(x_t \mid z_{\le t}, x_{\lt t}) + \log p(z_t \mid x_{\lt t}, z_{\lt t})
# \Big) \quad \text{in nats} .$$
#
# ### Exercise 03.3 (write): the log-joint
#
# Given the outputs of the networks, return $\log p(x, z)$ of each sequence. Sequences end at different steps: of
# sequence `b` only the first `lengths[b]` steps count, and the values after them are arbitrary. You may call
# `tv.distributions.gaussian.gaussian_log_density_forward(z, mu, sigma)` and
# `tv.distributions.bernoulli.bernoulli_log_density_forward(x, logits)`: both sum over the last axis, and return the
# density and a cache, also for logits of $\pm 800$.


# %%
def my_log_joint(mu_0, sigma_0, logits, z, x, lengths):
    """log p(x, z) (B,) in nats. mu_0, sigma_0, z (T, B, Z); logits, x (T, B, X); lengths (B,)."""
    ### BEGIN SOLUTION
    log_p_z, _ = tv.distributions.gaussian.gaussian_log_density_forward(z, mu_0, sigma_0)
    log_p_x, _ = tv.distributions.bernoulli.bernoulli_log_density_forward(x, logits)
    real = np.arange(len(x))[:, None] < lengths
    return np.where(real, log_p_z + log_p_x, 0).sum(axis=0)
    ### END SOLUTION


# %%
tv.course.check("03.3", my_log_joint)

# %% [markdown]
# ## Is it a distribution?
#
# A joint distribution must sum to 1. Two steps of two binary pixels have $2^4 = 16$ possible $x$, and $(z_1, z_2)$ is a
# point in the plane. So sum over every $x$, and over a fine grid on the plane:
#
# $$\sum_{x} \int\!\!\int p(x, z_1, z_2) \, dz_1 \, dz_2 = 1 \; ?$$
#
# This test catches mistakes: a missing factor, a missing $\log 2\pi$ or a prior that reads $x_t$ changes the sum.


# %%
def log_joint(params, x, z):
    mu_0, sigma_0, logits, _ = walk(params, x, z)
    log_p_z, _ = tv.distributions.gaussian.gaussian_log_density_forward(z, mu_0, sigma_0)
    return (log_p_z + bernoulli.log_density_forward(x, logits)[0]).sum(axis=0)


points = np.linspace(-9, 9, 121)
plane = np.stack(np.meshgrid(points, points, indexing="ij")).reshape(2, -1, 1)  # z_1, z_2: (T, 121 * 121, Z)
area = (points[1] - points[0]) ** 2

every_x = np.array(list(product((0.0, 1.0), repeat=4))).reshape(16, 2, 1, 2)  # (16, T, 1, X)
p_of_x = np.empty(16)
for i, x in enumerate(every_x):
    p_of_x[i] = np.exp(log_joint(params, np.repeat(x, plane.shape[1], axis=1), plane)).sum() * area

print(f"sum over x of the integral over z: {p_of_x.sum():.6f}")
assert abs(p_of_x.sum() - 1) < 1e-6

# %% [markdown]
# It is a distribution. The sum also gave us the exact **marginal** $p(x) = \int p(x, z)\, dz$ of each of the 16
# sequences. A grid can do that for one latent and two steps; for 28 steps with 16 latents each it would need more
# points than there are atoms. That is why we need the bound of [05](05_the_elbo_line_by_line.ipynb).
#
# The two pixels of a row are dependent, although Eq. 6 makes them independent given $z$. Sum the table over $x_2$ to
# get $p(x_1)$, and compare its covariance with $\mathrm{Cov}_z(p_1(z_1), p_2(z_1))$ on the grid:

# %%
p_first = p_of_x.reshape(2, 2, 4).sum(axis=-1)  # rows: first pixel of x_1, columns: second
from_the_table = p_first[1, 1] - p_first[1].sum() * p_first[:, 1].sum()

z_1 = points[None, :, None]
mu_0, sigma_0, logits, _ = walk(params, np.zeros((1, len(points), 2)), z_1)
weights = np.exp(tv.distributions.gaussian.gaussian_log_density_forward(z_1, mu_0, sigma_0)[0][0])
weights *= points[1] - points[0]
mean = bernoulli.mean(logits)[0]  # (121, 2)
from_z = weights @ mean.prod(axis=1) - np.prod(weights @ mean)

print(f"covariance of the pixels of x_1: {from_the_table:.6f} from the table, {from_z:.6f} through z")
assert abs(from_the_table - from_z) < 1e-6 and abs(from_z) > 0.01

# %% [markdown]
# ## Ancestral sampling
#
# Eq. 8 is also a recipe for sampling: draw $z_1, x_1, z_2, x_2, \dots$ in this order, each from its factor, given those
# already drawn. These are exact draws from the joint; none is rejected.
#
# ### Exercise 03.4 (write): one step of it
#
# The noise is given: `eps` $(n, Z)$ standard normal, `u` $(n, X)$ uniform in $[0, 1)$. A pixel is 1 where $u$ is
# **below** its probability. Return $z_t$, $x_t$, $h_t$. Call the networks through `equations` (as `walk` does above);
# `bernoulli.mean(logits)` turns logits into probabilities.


# %%
def my_step(params, h, eps, u):
    """z_t (n, Z), x_t (n, X) of 0 and 1, h_t (n, H) from h_{t-1} (n, H) and the noise."""
    ### BEGIN SOLUTION
    (mu_0, sigma_0), _ = equations.prior_forward(params["prior"], h)
    z = mu_0 + sigma_0 * eps
    phi_z, _ = equations.features_forward(params["phi_z"], z)
    (logits,), _ = equations.generate_forward(params["generate"], phi_z, h, bernoulli)
    x = (u < bernoulli.mean(logits)).astype(h.dtype)
    phi_x, _ = equations.features_forward(params["phi_x"], x)
    h_next, _ = equations.recur_forward(params["recur"], phi_x, phi_z, h)
    return z, x, h_next
    ### END SOLUTION


# %%
tv.course.check("03.4", my_step)

# %% [markdown]
# The package's own step has the same lines.
#
# > **Function** `tinyvrnn.models.sampling.sample_step` · **held by**
# > `tests/test_equations.py::test_samples_have_the_moments_of_draws_by_the_plain_rewrite`

# %%
tv.course.show(tv.models.sampling.sample_step)

# %% [markdown]
# Its loop adds two things. First, noise has an **address**: seed, purpose and step identify a block of random numbers.
# So the same call gives the same draw on every machine and every backend, and there is no generator state to save.
# Second, sequences are independent of each other, so a large batch is shared among the cores, 500 sequences to a part
# and a stretch of steps at a time.

# %%
tv.course.show(tv.models.sampling.ancestral_sample)


# %% [markdown]
# With the same addresses, our own few lines must give the same samples, bit for bit. The argument `feed` chooses what
# the recurrence reads: the sample $x_t$ or its mean (we need that below):


# %%
def sample_by_hand(params, n, steps, seed, feed=lambda x, mean: x):
    """x (steps, n, X) and the probabilities it was drawn with."""
    dtype, h = params["recur"]["U"].dtype, np.zeros((n, len(params["recur"]["U"])), params["recur"]["U"].dtype)
    X, Z, xs, means = len(params["phi_x"]["W1"]), len(params["phi_z"]["W1"]), [], []
    for t in range(steps):
        (mu_0, sigma_0), _ = equations.prior_forward(params["prior"], h)
        z = mu_0 + sigma_0 * noise.standard_normal((n, Z), dtype, seed, "sample z", t)
        phi_z, _ = equations.features_forward(params["phi_z"], z)
        (logits,), _ = equations.generate_forward(params["generate"], phi_z, h, bernoulli)
        u = noise.generator(seed, "sample x", t).random((n, X), dtype=dtype)
        means.append(bernoulli.mean(logits))
        xs.append((u < means[-1]).astype(dtype))
        phi_x, _ = equations.features_forward(params["phi_x"], feed(xs[-1], means[-1]))
        h, _ = equations.recur_forward(params["recur"], phi_x, phi_z, h)
    return np.stack(xs), np.stack(means)


ours, _ = sample_by_hand(params, 500, steps=2, seed=0)
assert np.array_equal(ours, tv.to_host(model.sample(n=500, steps=2, seed=0)))
print("500 sequences by hand and by model.sample: equal in every pixel")

# %% [markdown]
# They agree, but both could be wrong in the same way. So count how often each of the 16 sequences occurs, and compare
# with the integral, which uses no sampling. A frequency among $n$ draws has the standard error $\sqrt{p(1-p)/n}$.

# %%
n = 20_000
theirs = tv.to_host(model.sample(n=n, steps=2, seed=0))
code = theirs.transpose(1, 0, 2).reshape(n, 4) @ [8, 4, 2, 1]  # the number whose binary digits are the pixels
frequency = np.bincount(code.astype(int), minlength=16) / n
error = np.sqrt(p_of_x * (1 - p_of_x) / n)

away = np.abs(frequency - p_of_x) / error
print(f"largest deviation of the 16: {away.max():.1f} standard errors")
assert away.max() < 4

# %%
figure, axes = plt.subplots(figsize=(7.4, 3.2))
axes.bar(range(16), p_of_x, color="0.85", label="p(x) by the integral over z")
axes.errorbar(range(16), frequency, 4 * error, fmt="o", color=orange, capsize=3, label="frequency in 20,000 samples")
axes.set_xticks(range(16), [f"{i:04b}"[:2] + "\n" + f"{i:04b}"[2:] for i in range(16)])
axes.set(xlabel="the sequence: pixels of $x_1$ above those of $x_2$", ylabel="probability")
axes.set_title("Samples have the frequencies of Eq. 8 (bars: 4 standard errors)")
axes.legend()
plt.show()

# %% [markdown]
# ## A prior that peeks
#
# A common mistake in a VRNN is to update the state before computing the prior: the prior has then read what it should
# predict. The code below, which has this mistake, collects the prior of each step along a given $x$ and $z$.


# %%
def peeking_priors(params, x, z):
    """mu_0, sigma_0 (T, B, Z) along x (T, B, X), z (T, B, Z). It has a bug."""
    h, priors = np.zeros((x.shape[1], len(params["recur"]["U"])), x.dtype), []
    for x_t, z_t in zip(x, z):
        phi_x, _ = equations.features_forward(params["phi_x"], x_t)
        phi_z, _ = equations.features_forward(params["phi_z"], z_t)
        h, _ = equations.recur_forward(params["recur"], phi_x, phi_z, h)
        priors.append(equations.prior_forward(params["prior"], h)[0])
    return tuple(np.stack(part) for part in zip(*priors))


# %% [markdown]
# ### Exercise 03.5 (bug): fix it
#
# A model with this prior trains well, and its KL can become tiny: a prior that has read $x_t$ can copy the posterior.
# But it is not the model of Eq. 8, and its "bound" bounds nothing. No shape check and no gradient check fails. Write
# the correct function.


# %%
def my_priors(params, x, z):
    """mu_0, sigma_0 (T, B, Z) along x (T, B, X), z (T, B, Z), from the states before each step."""
    ### BEGIN SOLUTION
    h, priors = np.zeros((x.shape[1], len(params["recur"]["U"])), x.dtype), []
    for x_t, z_t in zip(x, z):
        priors.append(equations.prior_forward(params["prior"], h)[0])
        phi_x, _ = equations.features_forward(params["phi_x"], x_t)
        phi_z, _ = equations.features_forward(params["phi_z"], z_t)
        h, _ = equations.recur_forward(params["recur"], phi_x, phi_z, h)
    return tuple(np.stack(part) for part in zip(*priors))
    ### END SOLUTION


# %%
tv.course.check("03.5", my_priors)

# %% [markdown]
# The sum over everything catches this bug. With the peeking prior, the parameters of the "conditional"
# $p(z_t \mid \dots)$ depend on $z_t$ itself, so the product is not a distribution:


# %%
def log_peeking(params, x, z):
    *_, logits, _ = walk(params, x, z)
    log_p_z, _ = tv.distributions.gaussian.gaussian_log_density_forward(z, *peeking_priors(params, x, z))
    return (log_p_z + bernoulli.log_density_forward(x, logits)[0]).sum(axis=0)


total = sum(np.exp(log_peeking(params, np.repeat(x, plane.shape[1], axis=1), plane)).sum() * area for x in every_x)
print(f"sum over x of the integral over z, with the prior that peeks: {total:.3f}")
assert abs(total - 1) > 0.01

# %% [markdown]
# ## Feed back the sample, not the mean
#
# When it generates, some public code feeds back the **mean** of $p(x_t \mid \cdot)$ instead of a draw. That may
# seem the cleaner choice. The smallest model that shows the effect is a coin that never changes sides.
#
# Set the weights by hand so that $z$ has no influence, $h_t = \tanh(20 x_t - 10)$ is close to $+1$ or $-1$, and the
# logit of $x_t$ is $50\, h_{t-1}$. At the first step $h_0 = 0$, so the coin is fair. After that, it shows the same side
# every time.

# %%
coin = tv.VRNN(x_dim=1, h_dim=1, z_dim=1, features=2, layers=1, dtype="float64")
coin.theta[...] = 0
p = coin.params
p["phi_x"]["W1"][...] = [[1, 0]]
p["recur"]["W"][0, 2], p["recur"]["b"][...] = 20, [0, -60, -10]
p["generate"]["W1"][2], p["generate"]["W_out"][...] = [1, -1], [[50], [-50]]

x = tv.to_host(coin.sample(n=1000, steps=6, seed=0))[..., 0]
assert np.all(x == x[0])
print(f"1,000 sequences: all constant, {x[0].mean():.2f} of them ones (standard error {0.5 / 1000**0.5:.2f})")
assert abs(x[0].mean() - 0.5) < 4 * 0.5 / 1000**0.5

# %% [markdown]
# > **Held by** `tests/test_equations.py::test_samples_are_fed_back_not_means`
#
# ### Exercise 03.6 (predict): the mean fed back
#
# Now feed back the mean, and draw $x_1, \dots, x_6$ from the resulting distributions. The mean of the first coin is
# $1/2$: insert it into $h_1 = \tanh(20 \cdot \tfrac12 - 10)$ and continue. What fraction of the sequences of six is
# constant? (A number, correct to two per cent; `2**-3` is fine.)

# %%
prediction = None
### BEGIN SOLUTION
prediction = 2**-5  # h stays 0, so all six coins are fair: the five after the first must agree with it
### END SOLUTION

# %%
tv.course.check("03.6", prediction)

# %%
by_hand = views(tv.to_host(coin.theta).copy(), coin.shapes)
right, _ = sample_by_hand(by_hand, 1000, 6, seed=0)
wrong, _ = sample_by_hand(by_hand, 1000, 6, seed=0, feed=lambda x, mean: mean)
constant = np.mean(np.all(wrong == wrong[0], axis=0))
error = np.sqrt(1 / 32 * 31 / 32 / 1000)
print(f"constant, with the mean fed back: {constant:.3f} (1/32 = {1 / 32:.5f}, standard error {error:.3f})")
assert abs(constant - 1 / 32) < 4 * error

# %%
figure, grid = plt.subplots(1, 2, figsize=(7.4, 2.4))
for axes, x in zip(grid, (right, wrong)):
    axes.imshow(x[:, :30, 0], cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set(xlabel="30 sequences", ylabel="step t", xticks=[], yticks=range(6), yticklabels=range(1, 7))
    axes.spines[:].set(visible=True)
grid[0].set_title("Sample fed back: always one side")
grid[1].set_title("Mean fed back: six fair coins")
plt.show()

# %% [markdown]
# The mean of "all heads" and "all tails" is a sequence that the model never generates, and feeding it back leads to a
# state that no sequence of the model reaches. How does the model itself score sequences drawn in this way? Here $z$ has
# no influence, so the bound is $\log p(x)$ exactly:

# %%
log_p = tv.to_host(coin.elbo(coin.backend.asarray(right)))
log_p_wrong = tv.to_host(coin.elbo(coin.backend.asarray(wrong)))
print(f"log p(x) of right samples: each {log_p[0]:.3f} nats, that is log 1/2")
print(f"log p(x) of the others:    {log_p_wrong.mean():.0f} nats on average")
assert np.allclose(log_p, -np.log(2), atol=1e-12) and log_p_wrong.mean() < -50

# %% [markdown]
# Each of the five later coins differs from the one before it half of the time, and each change costs 50 nats.
#
# Now the same on digits of 8 by 8 pixels, one row per step, after a few seconds of training ([08](08_training.ipynb)
# covers training).

# %%
data = tv.load_data("digits8")
digits = tv.VRNN(x_dim=8, h_dim=64, z_dim=8, layers=1, dtype="float64")
tv.train(digits, data, epochs=12, lr=4e-3, workers=1, progress=False)
by_hand = views(tv.to_host(digits.theta).copy(), digits.shapes)
samples, _ = sample_by_hand(by_hand, 500, 8, seed=0)
means, _ = sample_by_hand(by_hand, 500, 8, seed=0, feed=lambda x, mean: mean)

elbo_samples, elbo_means = (tv.to_host(digits.elbo(digits.backend.asarray(x))) for x in (samples, means))
for name, elbo in (("samples", elbo_samples), ("means", elbo_means)):
    print(f"{name:8} fed back: ELBO {elbo.mean():6.2f} nats per sequence, standard error {elbo.std() / 500**0.5:.2f}")

difference = elbo_samples.mean() - elbo_means.mean()
assert difference > 4 * np.sqrt((elbo_samples.var() + elbo_means.var()) / 500) and difference > 3

# %%
figure, grid = plt.subplots(2, 1, figsize=(7.4, 1.9))
for axes, x in zip(grid, (samples, means)):
    side_by_side = np.hstack([np.pad(x[:, i], 1, constant_values=0.15) for i in range(16)])
    axes.imshow(side_by_side, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.axis("off")
grid[0].set_title("Samples fed back", fontsize=10)
grid[1].set_title("Means fed back", fontsize=10)
plt.show()

# %% [markdown]
# In the bottom row, parts of different digits meet in one picture: a state that has read grey rows has not settled on a
# digit, so each row may belong to a different one. The model also scores such pictures lower than its own samples:
# their bound is several nats lower.
#
# ## What you now know
#
# - A step draws $z_t$ (Eq. 5), draws $x_t$ (Eq. 6) and computes $h_t$ (Eq. 7), in that order.
# - $h_{t-1}$ is a function of the whole past. So Eq. 5 and 6 **are** the factors of the chain rule, and Eq. 8 assumes
#   nothing beyond them.
# - Independent given $z$ is not independent: the pixels of a row are correlated through $z$.
# - You can check a joint distribution: it sums to 1, and samples have the frequencies of its marginal.
# - The prior reads the state before the step, and the sample is fed back, not the mean.
#
# On to [04 · The approximate posterior](04_the_approximate_posterior.ipynb): the inverse problem, from the observations
# back to the latents.
