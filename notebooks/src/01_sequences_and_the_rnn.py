# %% [markdown]
# # 01 · Sequences and the plain RNN
#
# A sequence model is a probability distribution over sequences of any length. A recurrent network is the simplest one:
# it reads a step, updates its state, and predicts the next step. It can be no better than the distributions that it can
# express, and a single Gaussian is not enough where a sequence forks.
#
# *You need*: NumPy, probability densities, logarithms. *It takes* about 1 h 35 min.

# %%
# %matplotlib inline
from itertools import product

import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn.arrays.params import views
from tinyvrnn.models import equations, rnn

tv.plots.use_style()
blue, orange, green, *_ = tv.plots.COLOURS
bernoulli, gaussian, gmm = (tv.distributions.LIKELIHOODS[name] for name in ("bernoulli", "gaussian", "gmm"))

# %% [markdown]
# ## Sequences are ragged
#
# Nine speakers said the Japanese vowels *ae*, again and again. Each utterance is a sequence of steps, and each step is
# twelve numbers that describe its sound. Utterances differ in length:

# %%
data = tv.load_data("vowels")
print(data)

# %% [markdown]
# Arrays are not ragged. So a batch is **padded** to its longest sequence, and a **mask** $w$ marks the real steps:
#
# $$w_{t,b} = \begin{cases} 1 & t \le T_b \\ 0 & \text{otherwise,} \end{cases}$$
#
# where $T_b$ is the length of sequence $b$. Time is the first axis, `x` is $(T, B, X)$: then `x[t]` holds one step of
# all sequences, and is contiguous in memory.

# %%
x, lengths = tv.pad(data.train[:6])
T, B, X = x.shape
mask = np.arange(T)[:, None] < lengths  # the code counts steps from 0
print(f"x has shape {x.shape}, lengths {lengths.tolist()}; {mask.mean():.0%} of the steps are real")
assert T == lengths.max() and np.array_equal(mask.sum(axis=0), lengths) and not x[~mask].any()

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.9))
for b in range(B):
    left.plot(np.arange(1, lengths[b] + 1), x[: lengths[b], b, 0] + 3 * b, marker=".", linewidth=1)
left.set(title="First coefficient of 6 utterances", xlabel="step t", ylabel="sequence b")
left.set(yticks=x[0, :, 0] + 3 * np.arange(B), yticklabels=range(1, B + 1))
right.imshow(mask.T, cmap="Greys", vmin=-0.3, vmax=1.6, aspect="auto", origin="lower", extent=(0.5, T + 0.5, 0.5, 6.5))
right.set(title="Mask: real steps (dark), padding", xlabel="step t", ylabel="sequence b")
for axes in (left, right):
    axes.set_xticks(range(1, T + 1, 4))

# %% [markdown]
# ### Exercise 01.1 (write): padding
#
# From a list of arrays $(T_b, X)$, make `x` $(T, B, X)$ and `mask` $(T, B)$. The padding is zeros, the mask is ones and
# zeros, and both have the dtype of the data. A real step may be all zeros.


# %%
def my_pad(sequences):
    """x (T, B, X), mask (T, B) from a list of arrays (T_b, X)."""
    ### BEGIN SOLUTION
    T, B = max(len(s) for s in sequences), len(sequences)
    x = np.zeros((T, B, sequences[0].shape[1]), sequences[0].dtype)
    mask = np.zeros((T, B), sequences[0].dtype)
    for b, sequence in enumerate(sequences):
        x[: len(sequence), b] = sequence
        mask[: len(sequence), b] = 1
    return x, mask
    ### END SOLUTION


# %%
tv.course.check("01.1", my_pad)

# %% [markdown]
# ## Units of a log-likelihood
#
# We judge a model by $\log p(x)$ of sequences it has not seen. Natural logarithms give **nats**; one nat is
# $1 / \log 2 \approx 1.44$ bits. Two units are in use. Do not confuse them:
#
# $$\underbrace{\frac1B \sum_{b} \sum_{t} w_{t,b} \log p_{t,b}}_{\text{nats per sequence}}
# \qquad\qquad
# \underbrace{\frac{\sum_b \sum_t w_{t,b} \log p_{t,b}}{\sum_b \sum_t w_{t,b}}}_{\text{nats per step}}$$
#
# The second is a ratio of totals. It is **not** the mean of the sequences' means, which would give a short sequence the
# same weight as a long one.
#
# ### Exercise 01.2 (bug): nats per step
#
# This code looks like code you meet in practice. One of its two numbers is wrong as soon as the batch is ragged. Fix
# it.


# %%
def nats_with_a_bug(log_p, mask):
    """Nats per sequence and nats per step from log p (T, B) of each step. It has a bug."""
    return (log_p * mask).sum(axis=0).mean(), (log_p * mask).mean()


# %%
def my_nats(log_p, mask):
    """Nats per sequence and nats per step (two numbers) from log p (T, B) of each step."""
    ### BEGIN SOLUTION
    total = (log_p * mask).sum()
    return total / mask.shape[1], total / mask.sum()
    ### END SOLUTION


# %%
tv.course.check("01.2", my_nats)

# %% [markdown]
# A density has a unit of its own: it is a probability **per unit of $x$**. Measure lengths in millimetres instead of
# metres, and the density falls by a factor of 1000. So a log-likelihood of real-valued data means nothing without the
# scale of the data. With $x = m + s \odot x'$, the density of each step is divided by $\prod_j s_j$:
#
# $$\log p(x_t) = \log p'(x'_t) - \sum_j \log s_j .$$
#
# The vowels are standardised with the statistics of the training split. The same baseline on raw data must differ by
# exactly this term:

# %%
raw = tv.load_data("vowels", standardise=False)
standardised, unstandardised = (tv.data.baselines(d)["marginal Gaussian"] for d in (data, raw))
predicted = standardised - data.test.lengths.mean() * np.log(data.std).sum()
print(f"one Gaussian for all: {standardised:8.2f} nats per sequence, {data.units}")
print(f"the same fit:         {unstandardised:8.2f} nats per sequence, {raw.units}")
assert abs(predicted - unstandardised) < 1e-3 and unstandardised - standardised > 200

# %% [markdown]
# The model and the data are the same, yet one number is hundreds of nats "better". Always state the scale.
#
# ## Eq. 1 and 2, the recurrent network
#
# By the chain rule of probability, every distribution factorises as
#
# $$p(x_1, \dots, x_T) = \prod_{t=1}^{T} p(x_t \mid x_{\lt t}) .$$
#
# For two steps, $p(x_1, x_2) = p(x_1)\, p(x_2 \mid x_1)$ is the definition of a conditional probability; the rest
# follows by induction. It remains to choose how $p(x_t \mid x_{\lt t})$ depends on a past that keeps growing. A
# recurrent network summarises the past in a vector $h$:
#
# $$h_t = f(x_t, h_{t-1}), \quad h_0 = 0, \tag{1}$$
#
# $$p(x_t \mid x_{\lt t}) = g(h_{t-1}) . \tag{2}$$
#
# By (1), $h_{t-1}$ depends on $x_1, \dots, x_{t-1}$ and on nothing else, so (2) conditions on the past alone. Here $f$
# is a GRU that reads features $\varphi(x_t)$, and $g$ is a network that outputs the parameters of a distribution.
#
# > **Functions** `tinyvrnn.models.equations.remember_forward`, `tinyvrnn.models.equations.predict_forward` ·
# > **held by** `tests/test_models.py::test_the_rnn_equals_its_literal_steps`

# %%
tv.course.show(equations.remember_forward)

# %%
tv.course.show(equations.predict_forward)

# %% [markdown]
# ### Exercise 01.3 (write): the likelihood of a sequence
#
# Go through the steps of $x$ with the three functions of `equations` that make up an RNN,
#
# - `equations.predict_forward(params["predict"], h, bernoulli)` returns `(logits,), cache`,
# - `equations.features_forward(params["phi_x"], x_t)` returns `phi_x, cache`,
# - `equations.remember_forward(params["recur"], phi_x, h)` returns `h, cache`,
#
# and sum $\log p(x_t \mid x_{\lt t})$ over the real steps. `bernoulli.log_density_forward(x_t, logits)` returns the
# log-density of one step, $(B,)$, and a cache, also for logits of $\pm 800$. The width of the state is
# `len(params["recur"]["U"])`.


# %%
def my_log_likelihood(params, x, mask):
    """log p(x) of each sequence, (B,), in nats. x (T, B, X) of zeros and ones, mask (T, B)."""
    ### BEGIN SOLUTION
    h, total = np.zeros((x.shape[1], len(params["recur"]["U"])), x.dtype), 0
    for x_t, real in zip(x, mask):
        (logits,), _ = equations.predict_forward(params["predict"], h, bernoulli)
        total = total + real * bernoulli.log_density_forward(x_t, logits)[0]
        phi_x, _ = equations.features_forward(params["phi_x"], x_t)
        h, _ = equations.remember_forward(params["recur"], phi_x, h)
    return total
    ### END SOLUTION


# %%
tv.course.check("01.3", my_log_likelihood)

# %% [markdown]
# The package calls this `literal_forward`. It also has a faster version that gives the same numbers: only Eq. 1 has to
# run step by step, and everything else runs for all steps at once.

# %%
tv.course.show(rnn.literal_forward)

# %% [markdown]
# **Is it a distribution?** Take two steps of two pixels. There are 16 possible sequences, so their probabilities must
# sum to 1, whatever the weights are:

# %%
small = tv.RNN(x_dim=2, h_dim=5, features=4, layers=1, dtype="float64")
weights = np.random.default_rng(0).standard_normal(small.theta.shape)
small.theta[...] = small.backend.asarray(weights)

every_x = np.array(list(product((0.0, 1.0), repeat=4))).reshape(16, 2, 2).transpose(1, 0, 2)  # (T, B, X)
log_p = tv.to_host(small.elbo(every_x))
p = np.exp(log_p)
print(f"16 probabilities, the smallest {p.min():.4f}, the largest {p.max():.4f}, their sum {p.sum():.12f}")
assert abs(p.sum() - 1) < 1e-12

# %% [markdown]
# > **Held by** `tests/test_models.py::test_the_probabilities_of_all_sequences_of_an_rnn_sum_to_1`
#
# (All models of the package have a method `elbo`. For an RNN it returns $\log p(x)$ itself and not a bound, because an
# RNN has no latent variables.)
#
# **Does it look ahead?** A model that sees the step it predicts would score far too well. Change $x_2$, and see which
# of the four terms $\log p(x_t \mid x_{\lt t})$ change:

# %%
params = views(tv.to_host(small.theta).copy(), small.shapes)
x = np.random.default_rng(1).integers(0, 2, (4, 1, 2)).astype(float)
other = x.copy()
other[1] = 1 - x[1]
before, after = (rnn.literal_forward(params, values, bernoulli)[0][:, 0] for values in (x, other))
print("changed at steps 1 to 4:", (before != after).tolist())
assert (before != after).tolist() == [False, True, True, True]

# %% [markdown]
# Term 2 changes because it is the probability **of** $x_2$, terms 3 and 4 because they depend on it. Term 1 does not
# change.
#
# ## What may come next: a fork
#
# Now to the output distribution. Here is a process with forks: each value is half of the previous one, plus or minus 1
# by a coin flip, plus a little noise:
#
# $$x_t = \tfrac12 x_{t-1} \pm 1 + 0.1\, \epsilon_t, \qquad \epsilon_t \sim \mathcal N(0, 1), \quad x_0 = 0 .$$

# %%
rng = np.random.default_rng(0)


def forks(n):
    """n sequences of 4 to 12 steps."""
    sequences = []
    for steps in rng.integers(4, 13, n):
        x = np.zeros(steps + 1)
        for t in range(steps):
            x[t + 1] = 0.5 * x[t] + rng.choice([-1, 1]) + 0.1 * rng.standard_normal()
        sequences.append(x[1:, None])
    return sequences


data = tv.Data.from_sequences("forks", forks(2000), forks(300), forks(500), standardise=False)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3))
for i, style in zip(range(5), ("o-", "s--", "^:", "v-.", "D-")):
    left.plot(np.arange(1, 1 + data.train.lengths[i]), data.train[i], style, markersize=4, linewidth=1)
left.set(title="Five sequences", xlabel="step t", ylabel="$x_t$")
pairs = np.concatenate([np.hstack([s[:-1], s[1:]]) for s in data.train[:300]])
right.plot(*pairs.T, ".", color=blue, markersize=2)
right.set(title="The next step is in one of two bands", xlabel="$x_{t-1}$", ylabel="$x_t$");

# %% [markdown]
# ## The best that one Gaussian can do
#
# Suppose the true distribution at some step is $p$, any density, and the model can only express $\mathcal N(m, s^2)$.
# Training maximises the mean log-density
#
# $$\begin{aligned}
# L(m, s) &= \mathrm E_p \log \mathcal N(x; m, s^2) \\
# &= -\log s - \tfrac12 \log 2\pi - \frac{\mathrm E_p (x - m)^2}{2 s^2} .
# \end{aligned}$$
#
# Set the derivatives to zero:
#
# $$\frac{\partial L}{\partial m} = \frac{\mathrm E_p[x] - m}{s^2} = 0 \;\Rightarrow\; m = \mathrm E_p[x] ,
# \qquad
# \frac{\partial L}{\partial s} = -\frac1s + \frac{\mathrm E_p (x - m)^2}{s^3} = 0 \;\Rightarrow\;
# s^2 = \mathrm{Var}_p[x] .$$
#
# So the best Gaussian has the mean and the variance of the true distribution. Its mean log-density is
# $L = -\tfrac12 \log(2 \pi e\, s^2)$.
#
# ### Exercise 01.4 (derive): the best Gaussian for a mixture
#
# Let the true distribution be a mixture whose component $k$ has probability $\pi_k$ and is
# $\mathcal N(\mu_k, \sigma_k^2)$. Derive its mean $m$ and its **standard deviation** $s$. (For each component,
# $\mathrm E[x] = \mu_k$ and $\mathrm E[x^2] = \mu_k^2 + \sigma_k^2$.)


# %%
def my_best_gaussian(pi, mu, sigma):
    """m, s (N,) of the best Gaussian for each of N mixtures. pi, mu, sigma (N, K); each row of pi sums to 1."""
    ### BEGIN SOLUTION
    m = (pi * mu).sum(axis=1)
    second = (pi * (mu**2 + sigma**2)).sum(axis=1)
    return m, np.sqrt(second - m**2)
    ### END SOLUTION


# %%
tv.course.check("01.4", my_best_gaussian)

# %% [markdown]
# For the fork at $x_{t-1} = 0$, this gives $m = 0$ and $s^2 = 1 + 0.01$. The mean log-density of the true distribution
# itself is $\mathrm E_p \log p$, its negative entropy. Integrate both on a grid:

# %%
grid = np.linspace(-5, 5, 20_001)[:, None]
dx = grid[1, 0] - grid[0, 0]


def log_truth(x, before=0.0):
    """log p(x_t | x_{t-1}) of the fork, (...), for x, before (..., 1): the package's mixture with equal weights."""
    mu = 0.5 * before + np.array([[-1.0], [1.0]]) + 0 * x[..., None, :]
    return gmm.log_density_forward(x, np.zeros(mu.shape[:-1]), mu, np.full(mu.shape, 0.1))[0]


p = np.exp(log_truth(grid))
best = gaussian.log_density_forward(grid, np.zeros_like(grid), np.full_like(grid, np.sqrt(1.01)))[0]
of_truth, of_gaussian = (p * log_truth(grid)).sum() * dx, (p * best).sum() * dx
print(f"mean log-density, nats per step: the truth {of_truth:.3f}, the best Gaussian {of_gaussian:.3f}")
print(f"what one Gaussian costs here: {of_truth - of_gaussian:.3f} nats per step")

assert abs(p.sum() * dx - 1) < 1e-9
assert abs(of_gaussian + 0.5 * np.log(2 * np.pi * np.e * 1.01)) < 1e-6
assert abs(of_truth + np.log(2) + 0.5 * np.log(2 * np.pi * np.e * 0.01)) < 1e-6  # a coin, then a narrow Gaussian

# %%
figure, axes = plt.subplots(figsize=(7, 3.2))
axes.fill_between(grid[:, 0], p, color="0.85", label="truth: two modes")
axes.plot(grid[:, 0], np.exp(best), "--", color=orange, label="best Gaussian")
axes.plot(0, p[len(p) // 2], "v", color="black", clip_on=False, zorder=3)
axes.annotate("its mean,\nwhere no\ndata are", (0, 0), (0, 0.9), ha="center", arrowprops={"arrowstyle": "-"})
axes.set(xlim=(-3, 3), ylim=(0, None), xlabel="$x_t$, given $x_{t-1} = 0$", ylabel="density")
axes.set_title("The density of the best single Gaussian is highest where no data are")
axes.legend()
assert p[len(p) // 2] < 1e-20 and np.exp(best).argmax() == len(p) // 2

# %% [markdown]
# ### Exercise 01.5 (predict): a wider fork
#
# Let the coin push by 10 instead of 1, with the noise still at 0.1. The entropy of the true distribution does not
# change. By how many nats per step does the best Gaussian get **worse**? (A number, correct to two per cent; no
# computer needed.)

# %%
prediction = None
### BEGIN SOLUTION
prediction = np.log(10)  # L = -log s + constant, and s goes from about 1 to about 10
### END SOLUTION

# %%
tv.course.check("01.5", prediction)

# %% [markdown]
# ## A mixture as output
#
# Let the network output $K$ Gaussians: the probability, the mean and the standard deviation of each.
#
# $$p(x) = \sum_{k=1}^{K} \pi_k\, \mathcal N(x; \mu_k, \sigma_k^2), \qquad
# \pi_k = \frac{e^{l_k}}{\sum_j e^{l_j}} .$$
#
# Its logarithm is not a sum of logarithms. With $a_k = \log \pi_k + \log \mathcal N(x; \mu_k, \sigma_k^2)$ it is
# $\log \sum_k e^{a_k}$, and there is a trap: 40 standard deviations away from every component, $e^{a_k} = e^{-800}$ is
# 0 in float64, and the logarithm is $-\infty$. Factor out the largest term, $a^\star = \max_k a_k$:
#
# $$\log \sum_k e^{a_k} = \log \Big( e^{a^\star} \sum_k e^{a_k - a^\star} \Big)
# = a^\star + \log \sum_k e^{a_k - a^\star} .$$
#
# Now the largest term of the sum is $e^0 = 1$, so its logarithm lies between 0 and $\log K$.

# %%
a = np.array([-800.0, -801.0])
with np.errstate(divide="ignore"):
    naive = np.log(np.exp(a).sum())
stable = a.max() + np.log(np.exp(a - a.max()).sum())
print(f"naive: {naive}, with the largest term factored out: {stable:.3f}")
assert naive == -np.inf and abs(stable - (-800 + np.log(1 + np.exp(-1)))) < 1e-12

# %% [markdown]
# > **Function** `tinyvrnn.distributions.mixture.gmm_log_density_forward` · **held by**
# > `tests/test_distributions.py::test_mixtures_equal_the_textbook`

# %%
tv.course.show(tv.distributions.mixture.gmm_log_density_forward)

# %% [markdown]
# ### Exercise 01.6 (write): the log-density of a mixture
#
# For $x$ with $X$ entries, each component is a product over the entries: one choice of $k$ for the **whole** vector.
# The result must stay finite far away from all components. (The grader also runs in float32. `np.log(2 * np.pi)` is a
# float64 and promotes float32 arrays; `float(np.log(2 * np.pi))` does not.)


# %%
def my_gmm_log_density(x, logits, mu, sigma):
    """log p(x) (N,) in nats. x (N, X), logits (N, K), mu and sigma (N, K, X)."""
    ### BEGIN SOLUTION
    delta = (x[:, None, :] - mu) / sigma
    log_n = (-0.5 * delta**2 - np.log(sigma) - 0.5 * float(np.log(2 * np.pi))).sum(axis=-1)
    a = logits + log_n
    top, top_l = a.max(axis=1), logits.max(axis=1)
    log_total = top_l + np.log(np.exp(logits - top_l[:, None]).sum(axis=1))  # turns logits into log pi
    return top + np.log(np.exp(a - top[:, None]).sum(axis=1)) - log_total
    ### END SOLUTION


# %%
tv.course.check("01.6", my_gmm_log_density)

# %% [markdown]
# ## Train both
#
# Train two networks that differ only in their output: one Gaussian, or a mixture of two. The data are the fork
# sequences, so the network has to remember $x_{t-1}$. [08](08_training.ipynb) covers training itself.

# %%
models = {
    name: tv.RNN(x_dim=1, h_dim=16, layers=1, likelihood=name, components=2, dtype="float64")
    for name in ("gaussian", "gmm")
}
for model in models.values():
    tv.train(model, data, epochs=20, lr=1e-2, workers=1, progress=False)

# %%
x, lengths = tv.pad(data.test)
mask = np.arange(len(x))[:, None] < lengths
before = np.concatenate([np.zeros_like(x[:1]), x[:-1]])
exact = (log_truth(x, before[..., None, :]) * mask).sum(axis=0)  # of each sequence, by the process that made it

best = -0.5 * np.log(2 * np.pi * np.e * 1.01)  # the optimum derived for one Gaussian
steps, per_step = lengths.sum(), {"the truth": (exact.sum() / lengths.sum(), 0.0)}
for name, model in models.items():
    log_p = tv.to_host(model.elbo(x, lengths))
    value = log_p.sum() / steps
    per_step[name] = value, np.sqrt(((log_p - value * lengths) ** 2).sum()) / steps
for name, (value, error) in per_step.items():
    print(f"{name:10} {value:7.3f} nats per step" + (f", standard error {error:.3f}" if error else ""))

value, error = per_step["gaussian"]
print(f"the Gaussian should come to {best:.3f}: it is {abs(value - best) / error:.1f} standard errors away")
assert abs(value - best) < 4 * error
assert 0 < per_step["the truth"][0] - per_step["gmm"][0] < 0.1
assert per_step["gmm"][0] - value > 1.4

# %% [markdown]
# The Gaussian network has learned all that a Gaussian can express, and stays a nat and a half per step below the
# mixture. More data, a larger network or longer training will not help: its output distribution cannot express a fork.
# Compare the models' predictions after one test sequence, and sequences drawn from each model:

# %%
def next_density(model, prefix):
    """Density of the next step on the grid, after a prefix (T, 1, 1)."""
    params = views(tv.to_host(model.theta).copy(), model.shapes)
    phi_x, _ = equations.features_forward(params["phi_x"], prefix)
    h = rnn.loop_forward(params["recur"], phi_x).h[-1]
    outputs, _ = equations.predict_forward(params["predict"], h, model.likelihood)
    return np.exp(model.likelihood.log_density_forward(grid, *outputs)[0])


prefix = x[: lengths[0] - 1, :1]
drawn = {name: tv.to_host(model.sample(n=300, steps=8, seed=0)) for name, model in models.items()}
between = {  # in the data, |x_t - x_{t-1} / 2| is always near 1
    name: np.mean(np.abs(a[1:] - 0.5 * a[:-1]) < 0.5) for name, a in drawn.items()
}
print("steps that end between the bands:", ", ".join(f"{name} {share:.0%}" for name, share in between.items()))
assert between["gaussian"] > 0.2 and between["gmm"] < 0.03

# %%
figure, (left, *others) = plt.subplots(1, 3, figsize=(7.4, 2.7))
left.fill_between(grid[:, 0], np.exp(log_truth(grid, prefix[-1])), color="0.85", label="truth")
looks = {"gaussian": ("one Gaussian", orange, "--"), "gmm": ("a mixture", blue, "-")}
for (name, (words, colour, style)), axes in zip(looks.items(), others):
    left.plot(grid[:, 0], next_density(models[name], prefix), style, color=colour, label=words)
    axes.plot(drawn[name][:-1].ravel(), drawn[name][1:].ravel(), ".", color=colour, markersize=1.5)
    axes.set(xlabel="$x_{t-1}$", ylabel="$x_t$", xlim=(-4, 4), ylim=(-4, 4))
others[0].set_title("Drawn: one Gaussian")
others[1].set_title("Drawn: a mixture")
left.set(title="The next step", xlim=(-3, 3), ylim=(0, 3.4), xlabel="$x_t$", ylabel="density")
left.legend(fontsize=9, loc="upper left")
plt.show()

# %% [markdown]
# The samples of the mixture (right) show the two bands of the data. Those of the Gaussian network (middle) form one
# cloud: it draws sequences that the process never produces.
#
# ## And with more than one number per step?
#
# A step of speech is hundreds of samples, and a row of a picture is 28 pixels. There are two ways to make
# $p(x_t \mid x_{\lt t})$ more expressive:
#
# - a **mixture** over the whole step, as above: with $K$ components, a step can turn out in $K$ ways. This is cheap and
#   exact, but needs as many components as there are ways;
# - a **latent variable** $z_t$, drawn before $x_t$:
#   $p(x_t \mid x_{\lt t}) = \int p(x_t \mid z_t, x_{\lt t})\, p(z_t \mid x_{\lt t})\, dz_t$. This is a mixture with one
#   component for each value of $z_t$: infinitely many, all produced by one network. The price is an integral that has
#   no closed form.
#
# The second way is the VRNN, and the integral is the reason it needs a bound.
#
# ## What you now know
#
# - A ragged batch is padded and has a mask. A log-likelihood is in nats per sequence or per real step, at a stated
#   scale of the data.
# - Eq. 1 and 2 are the chain rule with a state that summarises the past; $\log p(x)$ is exact, and the probabilities of
#   all sequences sum to 1.
# - The best single Gaussian has the mean and variance of the true distribution. For a fork, its density is highest
#   where no data are.
# - A mixture can express "either, or". Here it gains a nat and a half per step.
#
# On to [02 · The bound for one step: the VAE](02_the_vae.ipynb): a latent variable, and a bound for the integral.
