# %% [markdown]
# # 01 · Sequences and the plain RNN
#
# A sequence model is a probability distribution over sequences of any length. A recurrent network is the plainest one:
# it reads, it remembers, and it says what may come next. How good it can be depends on what it is allowed to say, and
# one bell curve is too little when the next step is a fork.
#
# *You need*: NumPy, probability densities, logarithms. *It takes* about an hour.

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
# Nine people said the Japanese vowels *ae*, again and again. Each utterance is a sequence of steps, each step twelve
# numbers that describe its sound, and no two utterances need be equally long:

# %%
data = tv.load_data("vowels")
print(data)

# %% [markdown]
# Arrays are not ragged. So a batch is cut to the longest: **padded**, with a **mask** $w$ that says which steps are
# real,
#
# $$w_{t,b} = \begin{cases} 1 & t \le T_b \\ 0 & \text{otherwise,} \end{cases}$$
#
# where $T_b$ is the length of sequence $b$. Time comes first, `x` is $(T, B, X)$: then `x[t]` is everything that
# happens at one step, and it lies together in memory.

# %%
x, lengths = tv.pad(data.train[:6])
T, B, X = x.shape
mask = np.arange(T)[:, None] < lengths  # code counts steps from 0
print(f"x has shape {x.shape}, lengths {lengths.tolist()}; {mask.mean():.0%} of the steps are real")
assert T == lengths.max() and np.array_equal(mask.sum(axis=0), lengths) and not x[~mask].any()

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
for b in range(B):
    left.plot(np.arange(1, lengths[b] + 1), x[: lengths[b], b, 0] + 3 * b, marker=".", linewidth=1)
left.set(title="Six utterances, first coefficient", xlabel="step t", ylabel="sequence, one above another", yticks=[])
right.imshow(mask.T, cmap="Greys", vmin=-0.3, vmax=1.6, aspect="auto", origin="lower", extent=(0.5, T + 0.5, 0.5, 6.5))
right.set(title="Their mask: real steps (dark) and padding", xlabel="step t", ylabel="sequence b");

# %% [markdown]
# ### Exercise 01.1 (write): padding
#
# Make `x` $(T, B, X)$ and `mask` $(T, B)$ of a list of arrays $(T_b, X)$. Zeros in the padding, ones and zeros in the
# mask, both in the type of the data. A real step may well be all zeros.


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
# ## What a log-likelihood is measured in
#
# A model is judged by $\log p(x)$ of sequences that it has not seen. Natural logarithms give **nats**; one nat is
# $1 / \log 2 \approx 1.44$ bits. Two units are in use, and they must not be mixed up:
#
# $$\underbrace{\frac1B \sum_{b} \sum_{t} w_{t,b} \log p_{t,b}}_{\text{nats per sequence}}
# \qquad\qquad
# \underbrace{\frac{\sum_b \sum_t w_{t,b} \log p_{t,b}}{\sum_b \sum_t w_{t,b}}}_{\text{nats per step}}$$
#
# The second is a ratio of totals. It is **not** the mean of each sequence's own mean: that would let a short sequence
# count as much as a long one.
#
# ### Exercise 01.2 (bug): nats per step
#
# Here is code as one finds it. One of its two numbers is wrong as soon as the batch is ragged. Mend it.


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
# A density has units of its own: it is a probability **per unit of $x$**. Measure lengths in millimetres and not in
# metres, and it falls by a factor of 1000. So a log-likelihood of real-valued data means nothing without their scale.
# With $x = m + s \odot x'$, each step's density is divided by $\prod_j s_j$:
#
# $$\log p(x_t) = \log p'(x'_t) - \sum_j \log s_j .$$
#
# The vowels are standardised by the training split. The same baseline on raw data must differ by exactly that:

# %%
raw = tv.load_data("vowels", standardise=False)
standardised, unstandardised = (tv.data.baselines(d)["marginal Gaussian"] for d in (data, raw))
predicted = standardised - data.test.lengths.mean() * np.log(data.std).sum()
print(f"one Gaussian for all: {standardised:8.2f} nats per sequence, {data.units}")
print(f"the same fit:         {unstandardised:8.2f} nats per sequence, {raw.units}")
assert abs(predicted - unstandardised) < 1e-3 and unstandardised - standardised > 200

# %% [markdown]
# The same model of the same data, and one number is hundreds of nats "better". Always say which.
#
# ## Eq. 1 and 2, the recurrent network
#
# By the chain rule of probability, for any distribution at all,
#
# $$p(x_1, \dots, x_T) = \prod_{t=1}^{T} p(x_t \mid x_{\lt t}) .$$
#
# Indeed, $p(x_1, x_2) = p(x_1)\, p(x_2 \mid x_1)$ is what "conditional" means, and the rest follows step by step. What
# has to be chosen is how $p(x_t \mid x_{\lt t})$ gets hold of a past that grows. A recurrent network keeps a vector
# $h$:
#
# $$h_t = f(x_t, h_{t-1}), \quad h_0 = 0, \tag{1}$$
#
# $$p(x_t \mid x_{\lt t}) = g(h_{t-1}) . \tag{2}$$
#
# $h_{t-1}$ is made of $x_1, \dots, x_{t-1}$ by (1), nothing else, so (2) is indeed conditioned on the past. Here $f$ is
# a GRU that reads features $\varphi(x_t)$, and $g$ a network that gives the parameters of an output distribution.
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
# Walk along $x$ with the three functions of `equations` that an RNN is made of,
#
# - `equations.predict_forward(params["predict"], h, bernoulli)` returns `(logits,), cache`,
# - `equations.features_forward(params["phi_x"], x_t)` returns `phi_x, cache`,
# - `equations.remember_forward(params["recur"], phi_x, h)` returns `h, cache`,
#
# and add up $\log p(x_t \mid x_{\lt t})$ of the real steps. `bernoulli.log_density_forward(x_t, logits)` gives the
# log-density of one step $(B,)$, and a cache. The width of the state is `len(params["recur"]["U"])`.


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
# The package has this as `literal_forward`, and next to it a faster arrangement that gives the same numbers: only Eq. 1
# has to go step by step, all else is done for all steps at once.

# %%
tv.course.show(rnn.literal_forward)

# %% [markdown]
# **Is it a distribution?** Take two pixels a step and two steps. There are 16 possible sequences, so their
# probabilities must add up to 1, whatever the weights:

# %%
small = tv.RNN(x_dim=2, h_dim=5, features=4, layers=1, dtype="float64")
weights = np.random.default_rng(0).standard_normal(small.theta.shape)
small.theta[...] = small.backend.asarray(weights)

every_x = np.array(list(product((0.0, 1.0), repeat=4))).reshape(16, 2, 2).transpose(1, 0, 2)  # (T, B, X)
log_p = tv.to_host(small.elbo(every_x))
p = np.exp(log_p)
print(f"16 probabilities, the smallest {p.min():.4f}, the largest {p.max():.4f}, all together {p.sum():.12f}")
assert abs(p.sum() - 1) < 1e-12

# %% [markdown]
# > **Held by** `tests/test_models.py::test_the_probabilities_of_all_sequences_of_an_rnn_sum_to_1`
#
# (What all models of the package call `elbo` is for an RNN no bound but $\log p(x)$ itself: nothing in it is hidden.)
#
# **Does it look ahead?** A prediction that has seen its answer would score wonderfully. Change $x_2$, and see which
# terms $\log p(x_t \mid x_{\lt t})$ of four steps move:

# %%
params = views(tv.to_host(small.theta).copy(), small.shapes)
x = np.random.default_rng(1).integers(0, 2, (4, 1, 2)).astype(float)
other = x.copy()
other[1] = 1 - x[1]
before, after = (rnn.literal_forward(params, values, bernoulli)[0][:, 0] for values in (x, other))
print("moved at steps 1 to 4:", (before != after).tolist())
assert (before != after).tolist() == [False, True, True, True]

# %% [markdown]
# Step 2 moves because it is the probability **of** $x_2$, steps 3 and 4 because they remember it. Step 1 does not.
#
# ## What may come next: a fork
#
# Now for what the output distribution can say. Here is a world with forks. From wherever it is, the next value is
# pulled half-way to zero and then pushed up or down by 1, as a coin decides, with a little noise:
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
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
for i, style in zip(range(5), ("o-", "s--", "^:", "v-.", "D-")):
    left.plot(np.arange(1, 1 + data.train.lengths[i]), data.train[i], style, markersize=4, linewidth=1)
left.set(title="Five sequences", xlabel="step t", ylabel="$x_t$")
pairs = np.concatenate([np.hstack([s[:-1], s[1:]]) for s in data.train[:300]])
right.plot(*pairs.T, ".", color=blue, markersize=2)
right.set(title="The next step: two bands, nothing between", xlabel="$x_{t-1}$", ylabel="$x_t$");

# %% [markdown]
# ## The best that one Gaussian can do
#
# Suppose the truth at some step is $p$, any density, and the model may only say $\mathcal N(m, s^2)$. Training
# maximises the mean log-density
#
# $$L(m, s) = \mathrm E_p \log \mathcal N(x; m, s^2)
# = -\log s - \tfrac12 \log 2\pi - \frac{\mathrm E_p (x - m)^2}{2 s^2} .$$
#
# Set the slopes to zero:
#
# $$\frac{\partial L}{\partial m} = \frac{\mathrm E_p[x] - m}{s^2} = 0 \;\Rightarrow\; m = \mathrm E_p[x] ,
# \qquad
# \frac{\partial L}{\partial s} = -\frac1s + \frac{\mathrm E_p (x - m)^2}{s^3} = 0 \;\Rightarrow\;
# s^2 = \mathrm{Var}_p[x] .$$
#
# So it takes the mean and the variance of the truth, and what it gets is $L = -\tfrac12 \log(2 \pi e\, s^2)$.
#
# ### Exercise 01.4 (derive): the best Gaussian for a mixture
#
# Let the truth be a mixture, component $k$ with probability $\pi_k$ being $\mathcal N(\mu_k, \sigma_k^2)$. Derive its
# mean $m$ and its **deviation** $s$. (Of each component you know $\mathrm E[x] = \mu_k$ and
# $\mathrm E[x^2] = \mu_k^2 + \sigma_k^2$.)


# %%
def my_best_gaussian(pi, mu, sigma):
    """m, s (N,) of the best Gaussian for each of N mixtures. pi, mu, sigma (N, K), each row of pi adding up to 1."""
    ### BEGIN SOLUTION
    m = (pi * mu).sum(axis=1)
    second = (pi * (mu**2 + sigma**2)).sum(axis=1)
    return m, np.sqrt(second - m**2)
    ### END SOLUTION


# %%
tv.course.check("01.4", my_best_gaussian)

# %% [markdown]
# For the fork, seen from $x_{t-1} = 0$: $m = 0$, $s^2 = 1 + 0.01$. The truth itself reaches the mean log-density
# $\mathrm E_p \log p$, minus its entropy. Integrate it on a grid, and check $L$ on the same grid:

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
axes.annotate("its mean,\nwhere nothing\never is", (0, 0), (0, 0.9), ha="center", arrowprops={"arrowstyle": "-"})
axes.set(xlim=(-3, 3), ylim=(0, None), xlabel="$x_t$, given $x_{t-1} = 0$", ylabel="density")
axes.set_title("The best single Gaussian is most sure of what never happens")
axes.legend()
assert p[len(p) // 2] < 1e-20 and np.exp(best).argmax() == len(p) // 2

# %% [markdown]
# ### Exercise 01.5 (predict): a wider fork
#
# Let the coin push by 10 in place of 1, the noise staying at 0.1. The truth keeps its entropy. By how many nats per
# step does the best Gaussian get **worse**? (A number, right to two per cent; no computer needed.)

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
# Let the network name $K$ bells, how probable each is, where it stands and how wide it is:
#
# $$p(x) = \sum_{k=1}^{K} \pi_k\, \mathcal N(x; \mu_k, \sigma_k^2), \qquad
# \pi_k = \frac{e^{l_k}}{\sum_j e^{l_j}} .$$
#
# Its logarithm is not a sum of logarithms. With $a_k = \log \pi_k + \log \mathcal N(x; \mu_k, \sigma_k^2)$ it is
# $\log \sum_k e^{a_k}$, and there is a trap: 40 deviations away from all bells, $e^{a_k} = e^{-800}$ is 0 in
# float64, and the logarithm $-\infty$. Take the largest, $a^\star = \max_k a_k$, out of the sum:
#
# $$\log \sum_k e^{a_k} = \log \Big( e^{a^\star} \sum_k e^{a_k - a^\star} \Big)
# = a^\star + \log \sum_k e^{a_k - a^\star} .$$
#
# Now one term of the sum is $e^0 = 1$, none is more, and the logarithm lies between 0 and $\log K$.

# %%
a = np.array([-800.0, -801.0])
with np.errstate(divide="ignore"):
    straight_on = np.log(np.exp(a).sum())
taken_out = a.max() + np.log(np.exp(a - a.max()).sum())
print(f"straight on: {straight_on}, largest taken out: {taken_out:.3f}")
assert straight_on == -np.inf and abs(taken_out - (-800 + np.log(1 + np.exp(-1)))) < 1e-12

# %% [markdown]
# > **Function** `tinyvrnn.distributions.mixture.gmm_log_density_forward` · **held by**
# > `tests/test_distributions.py::test_mixtures_equal_the_textbook`

# %%
tv.course.show(tv.distributions.mixture.gmm_log_density_forward)

# %% [markdown]
# ### Exercise 01.6 (write): the log-density of a mixture
#
# For $x$ with $X$ entries each component is a product over them: one choice of $k$ for the **whole** vector. Let far
# away stay finite. (Checks run in float32 too. `np.log(2 * np.pi)` is a float64, and makes one of a float32;
# `float(np.log(2 * np.pi))` does not.)


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
# ## Both, fitted
#
# Two networks, the same in all but their output: one Gaussian, or a mixture of two. The data are the sequences of
# forks; $x_{t-1}$ has to be remembered, that is the network's job. What training does is the matter of
# [08](08_training.ipynb).

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
exact = (log_truth(x, before[..., None, :]) * mask).sum(axis=0)  # of each sequence, by the rule that made them

best = -0.5 * np.log(2 * np.pi * np.e * 1.01)  # what the derivation allows to one Gaussian
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
# The Gaussian network has learned all that a Gaussian can, and stops a nat and a half per step short of the mixture.
# No more data, no larger network and no longer training will help it: it has the wrong words. Look at what each
# says after one test sequence, and at sequences drawn from each:

# %%
def foretold(model, prefix):
    """The density of the next step on the grid, after a prefix (T, 1, 1)."""
    params = views(tv.to_host(model.theta).copy(), model.shapes)
    phi_x, _ = equations.features_forward(params["phi_x"], prefix)
    h = rnn.loop_forward(params["recur"], phi_x).h[-1]
    outputs, _ = equations.predict_forward(params["predict"], h, model.likelihood)
    return np.exp(model.likelihood.log_density_forward(grid, *outputs)[0])


prefix = x[: lengths[0] - 1, :1]
figure, grid_of_axes = plt.subplots(1, 3, figsize=(10, 3.2))
left = grid_of_axes[0]
left.fill_between(grid[:, 0], np.exp(log_truth(grid, prefix[-1])), color="0.85", label="truth")
between = {}
for (name, model), axes, colour, style in zip(models.items(), grid_of_axes[1:], (orange, blue), ("--", "-")):
    left.plot(grid[:, 0], foretold(model, prefix), style, color=colour, label=name)
    drawn = tv.to_host(model.sample(n=300, steps=8, seed=0))
    axes.plot(drawn[:-1].ravel(), drawn[1:].ravel(), ".", color=colour, markersize=2)
    axes.set(title=f"Drawn: {name}", xlabel="$x_{t-1}$", ylabel="$x_t$", xlim=(-4, 4), ylim=(-4, 4))
    between[name] = np.mean(np.abs(drawn[1:] - 0.5 * drawn[:-1]) < 0.5)  # in the data it is near 1, always
left.set(title="The next step", xlim=(-3, 3), ylim=(0, None), xlabel="$x_t$", ylabel="density")
left.legend(fontsize=8)

print("steps that end between the bands:", ", ".join(f"{name} {share:.0%}" for name, share in between.items()))
assert between["gaussian"] > 0.2 and between["gmm"] < 0.03

# %% [markdown]
# The two bands of the data are there on the right, and a cloud is in the middle: sequences drawn from the Gaussian
# network are of a kind that does not exist.
#
# ## And with more than one number a step?
#
# A step of speech is hundreds of samples, a row of a picture 28 pixels. Two ways to give $p(x_t \mid x_{\lt t})$ more
# words:
#
# - a **mixture** over the whole step, as above: $K$ bells, so $K$ ways in which a step can turn out. Cheap and exact,
#   and $K$ must be as large as there are ways;
# - a **hidden variable** $z_t$, drawn before $x_t$: $p(x_t \mid x_{\lt t}) = \int p(x_t \mid z_t, x_{\lt t})\,
#   p(z_t \mid x_{\lt t})\, dz_t$. That is a mixture with a component for every value of $z_t$: infinitely many,
#   arranged by a network. The price is an integral that nobody can do.
#
# The second is the VRNN, and the integral is why it needs a bound.
#
# ## What you now know
#
# - A ragged batch is padded and carries a mask; a log-likelihood says nats per sequence, or per real step, and of
#   which scale.
# - Eq. 1 and 2 are the chain rule with a state for the past; $\log p(x)$ is exact, and the probabilities of all
#   sequences add up to 1.
# - The best single Gaussian has the mean and variance of the truth, and for a fork these describe what never happens.
# - A mixture says "either, or", in nats: here a nat and a half a step.
#
# On to [02 · The bound for one step: the VAE](02_the_vae.ipynb): a hidden variable, and a bound for the integral.
