# %% [markdown]
# # 12 · Speech, handwriting, music
#
# The paper ends with a table: five data sets, five models, one number each. Here is that experiment at course size. You
# train the VRNN and the plain RNN on speech, handwriting and music, and ask the same question of each data set: **is
# $z$ worth its KL?** The three answers differ, but for the same reason.
#
# *You need*: [01](01_sequences_and_the_rnn.ipynb) for mixtures, [05](05_the_elbo_line_by_line.ipynb) for the bound,
# [08](08_training.ipynb) for warm-up and collapse. *It takes* about 1 h 25 min; the training takes half a
# minute.

# %%
# %matplotlib inline
import contextlib
import copy
import io
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Audio, display

import tinyvrnn as tv
from tinyvrnn.arrays import noise
from tinyvrnn.arrays.params import views
from tinyvrnn.distributions import pen
from tinyvrnn.models import equations, rnn, sampling, schedule
from tinyvrnn.runs import export

tv.plots.use_style()
blue, orange, green, *_ = tv.plots.COLOURS


def trained(kind, data, model_options, **options):
    """A model of `kind` trained on data. With one worker the order of summation does not depend on the cores."""
    model = kind(data.x_dim, **({"z_dim": 8} if kind is tv.VRNN else {}), layers=1, **model_options)
    tv.train(model, data, lr=1e-2, workers=1, progress=False, seed=model.seed, **options)
    return model


# %% [markdown]
# ## What Table 1 of the paper measured
#
# Four of its data sets are speech: recordings at 16,000 samples per second, where a step $x_t$ is 200 samples of the
# **waveform**. The fifth is handwriting, the path of a pen on a whiteboard. Each data set has five models: an RNN whose
# output is one Gaussian or a mixture of twenty, a VRNN with either, and a VRNN whose prior does not depend on the past.
# The table gives the mean of $\log p(x)$ over the test sequences, in nats. For an RNN it is exact. For a VRNN the table
# has the bound, marked $\ge$, and an estimate from 40 importance samples, marked $\approx$. (Details that the authors'
# published code does not contain are quoted from memory; [deviations.md](../docs/deviations.md) says what was
# compared.)
#
# The main result: **$z$ helps most if the output is a single Gaussian. A mixture alone closes much of that gap**, on
# handwriting nearly all of it. You will see the same result below, on other data.
#
# But you will not see the paper's numbers. A density has a **unit**. Let $y$ be the data divided by a scale, $y_{tj} =
# x_{tj} / \sigma_j$ (a shift changes nothing). A small box around $x$ corresponds to a small box around $y$, with the
# same probability:
#
# $$p_x(x) \prod_{t,j} \mathrm d x_{tj} = p_y(y) \prod_{t,j} \mathrm d y_{tj}
# = p_y(y) \prod_{t,j} \frac{\mathrm d x_{tj}}{\sigma_j}
# \quad\Rightarrow\quad
# \log p_x(x) = \log p_y(y) - T \sum_{j=1}^{X} \log \sigma_j .$$
#
# The last term does not depend on the model and can be arbitrarily large:

# %%
half_a_second = 8000  # samples
print(f"half a second of sound, twice as loud: {half_a_second * np.log(2):.0f} nats less, with the same model")
assert half_a_second * np.log(2) > 5000

# %% [markdown]
# So compare two log-likelihoods only on the same data and in the same unit. And remember which of them is exact (an
# RNN's) and which is a bound (a VRNN's). `Data.units` states the unit of each data set of this package.
#
# > **Function** `tinyvrnn.data.load_data` · **held by**
# > `tests/test_data_baselines.py::test_raw_and_standardised_differ_by_the_change_of_variables`
#
# Is the formula right? The `marginal Gaussian` baseline fits a mean and a standard deviation to each number. Fit it to
# raw data and to standardised data: the two results differ only in the unit.

# %%
vowels, raw = tv.load_data("vowels"), tv.load_data("vowels", standardise=False)
standard_nats, raw_nats = (tv.data.baselines(d)["marginal Gaussian"] for d in (vowels, raw))
shift = vowels.test.lengths.mean() * np.log(vowels.std).sum()
print(f"nats per test utterance: {standard_nats:.1f} standardised, {raw_nats:.1f} raw")
print(f"they differ by {standard_nats - raw_nats:.1f}, the formula says {shift:.1f}")
assert abs(standard_nats - raw_nats - shift) < 1e-2 < abs(shift)

# %% [markdown]
# ### Exercise 12.1 (derive): from one unit to the other
#
# `log_p` $(B,)$ are log-densities of $B$ sequences of **standardised** data, in nats. Return those of the **raw** data,
# $(B,)$, in nats; and the number of **bits per step** of raw data for the whole set: $- \log_2 p$, total over total.
# (`np.log(2)` is a float64 and promotes float32 arrays; `float(np.log(2))` does not.)


# %%
def my_raw_units(log_p, lengths, std):
    """raw (B,), bits. log_p (B,) of standardised data, lengths (B,) as floats, std (X,) that it was divided by."""
    ### BEGIN SOLUTION
    raw = log_p - lengths * np.log(std).sum()
    return raw, -raw.sum() / lengths.sum() / float(np.log(2))
    ### END SOLUTION


# %%
tv.course.check("12.1", my_raw_units)

# %% [markdown]
# ## Speech
#
# In `vowels` nine men say the two Japanese vowels *ae*: 230 utterances to train on. A step is a frame of 25.6
# milliseconds, and a new frame starts every 6.4 milliseconds. The twelve numbers of a frame are not a waveform: they
# are *cepstrum coefficients*, which describe the frame's smoothed spectrum. They do not contain the pitch of the voice
# or the phases, so the waveform cannot be reconstructed from them. There is nothing to listen to in this section, and
# the package says so:

# %%
print(vowels)
print("what the numbers are:", vowels.medium or "plain numbers")
try:
    export.check_ending(Path("vowel.wav"), vowels.medium)
except tv.ConfigError as error:
    refusal = str(error)
print(refusal)
assert "sound" in refusal and not vowels.medium

# %% [markdown]
# We model each of the twelve numbers with one Gaussian, in an RNN and in a VRNN of the same size. Each is trained
# twice, with different initial weights and a different order of the data:

# %%
warmup = {tv.RNN: 0, tv.VRNN: 5}
speech = {
    (kind.name.upper(), seed): trained(
        kind, vowels, {"h_dim": 32, "likelihood": "gaussian", "seed": seed}, epochs=30, batch=16, warmup=warmup[kind]
    )
    for kind in (tv.RNN, tv.VRNN)
    for seed in (0, 1)
}
x, lengths = tv.pad(vowels.test)
scores = {name: tv.to_host(model.elbo(x, lengths)).astype(float) for name, model in speech.items()}
floors = tv.data.baselines(vowels)

# %%
print("nats per test utterance, rounded")
for name, value in floors.items():
    print(f"{name:18} exact  {value:5.0f}")
for (name, seed), value in scores.items():
    what = "bound" if name == "VRNN" else "exact"
    print(f"{name + ', seed ' + str(seed):18} {what}  {value.mean():5.0f}")

# %% [markdown]
# How much of that is noise? There are two sources. First, the test set is a sample of 370 utterances. Both models see
# the same ones, so take the difference **utterance by utterance**, and its standard error. Second, training is random:
# the initial weights and the order of the data vary. This shows only between seeds, and no standard error over
# utterances includes it.

# %%
between = {seed: scores["VRNN", seed] - scores["RNN", seed] for seed in (0, 1)}
errors = {seed: d.std(ddof=1) / np.sqrt(len(d)) for seed, d in between.items()}

figure, axes = plt.subplots(figsize=(6.4, 2.6))
for seed, style in ((0, "o"), (1, "s")):
    axes.errorbar(between[seed].mean(), seed, xerr=2 * errors[seed], fmt=style, capsize=4, color=(blue, orange)[seed])
axes.axvline(0, color="0.6", linewidth=1)
axes.set(yticks=[0, 1], yticklabels=["seed 0", "seed 1"], ylim=(-0.6, 1.6), xlim=(-20, 20))
axes.set(xlabel="VRNN's bound - RNN's log p(x), nats per utterance, ± 2 standard errors")
axes.set_title("On vowels, z gains little or nothing")

assert min(v.mean() for v in scores.values()) > floors["AR(1)"] + 5 > floors["marginal Gaussian"] + 100
assert max(abs(d.mean()) for d in between.values()) < 15

# %%
drawn = tv.to_host(speech["VRNN", 0].sample(4, 18, seed=1))
figure, grid = plt.subplots(2, 4, figsize=(7.4, 4), sharex=True, sharey=True)
for place, utterance in zip(grid.ravel(), [*vowels.test[:4], *np.moveaxis(drawn, 1, 0)]):
    extent = (0, len(utterance), 0.5, 12.5)
    picture = place.imshow(utterance.T, cmap="PuOr", vmin=-3, vmax=3, origin="lower", aspect="auto", extent=extent)
for place in grid[1]:
    place.set(xlabel="step")
for place, who in zip(grid[:, 0], ("test data", "VRNN")):
    place.set(ylabel=f"{who}: coefficient", yticks=(4, 8, 12))
figure.colorbar(picture, ax=grid, label="standard deviations")
figure.suptitle("Four utterances, and four samples of the VRNN", x=0.01, ha="left")
assert drawn.shape == (18, 4, 12)

# %% [markdown]
# Both models beat the autoregression. Utterances and samples alike drift slowly, in all twelve coefficients at once.
#
# But look at the two intervals together: one seed may favour a model that the other seed does not, although each
# interval is correct for the test set. Two training runs differ by several nats. To call one of these models better,
# you would need many seeds or a larger difference.
#
# Is that a failure of the VRNN? Its output consists of twelve independent Gaussians, and $z$ could make them dependent.
# Is there any dependence to model? Take the best Gaussian for numbers with mean $m$ and covariance $S$. Its mean
# log-density is
#
# $$\begin{aligned}
# &{- \tfrac12} \log \det(2 \pi S) - \tfrac12 \mathrm E\big[(x - m)^\top S^{-1} (x - m)\big] \\
# &\quad = - \tfrac12 \log \det(2 \pi S) - \tfrac X2 ,
# \end{aligned}$$
#
# since the last mean is the trace of $S^{-1} S$. Without correlations only the diagonal of $S$ is left, with the
# variances $s_j^2$. With the correlation matrix $C$, $S_{ij} = s_i C_{ij} s_j$, so $\det S = \det C \prod_j s_j^2$, and
# the correlations are worth
#
# $$- \tfrac12 \log \det S + \tfrac12 \sum_j \log s_j^2 = - \tfrac12 \log \det C \quad \text{nats per step.}$$
#
# Apply it to the data, and to the residuals of the RNN's prediction, $(x_t - \mu_t) / \sigma_t$:

# %%
real = np.arange(len(x))[:, None] < lengths
model = speech["RNN", 0]
params = views(tv.to_host(model.theta).copy(), model.shapes)
_, cache = rnn.sequence_forward(params, x, model.likelihood)
(mu, sigma), _ = equations.predict_forward(params["predict"], cache.loop.h[:-1], model.likelihood)
tie = {
    name: -0.5 * np.linalg.slogdet(np.corrcoef(values[real].T))[1]
    for name, values in (("the data", x), ("the residuals", (x - mu) / sigma))
}
for name, worth in tie.items():
    print(f"{name:14} correlations are worth {worth:.0f} nats per step, rounded")
assert tie["the residuals"] < 1 < 2.5 < tie["the data"]

# %% [markdown]
# The twelve coefficients are strongly correlated, but the past explains most of that correlation. Modelling the rest
# would gain at most about one nat per step, and $z$ would have to pay its KL from that. In the paper's waveforms a step
# is 200 neighbouring samples that oscillate together. 200 independent Gaussians cannot model that, so there $z$ is
# useful.
#
# > **Rule of thumb** $z$ pays off if the output distribution is too simple for the data. If it is not, a VRNN is an RNN
# > with extra noise, and it learns to ignore that noise.
#
# ## Handwriting
#
# `strokes` contains kana and kanji as written with a pen. A step is $(\Delta x, \Delta y, \text{pen-up})$: how far the
# pen moved, and whether it leaves the paper **after** this point.

# %%
strokes = tv.load_data("strokes")
print(f"{len(strokes.train)} characters of {strokes.train.lengths.min()} to {strokes.train.max_steps} steps")
tv.plots.ink([strokes.test[i] for i in range(24)], title="Twenty-four test characters, drawn as ink", size=0.6)

# %% [markdown]
# The drawing is a cumulative sum, interrupted where the pen is up: point $t$ is $\sum_{s \le t} (\Delta x_s, \Delta
# y_s)$, and a line goes from point $t$ to point $t + 1$ unless the pen was lifted after point $t$.
#
# ### Exercise 12.2 (bug): spilled ink
#
# This function should return all lines from point to point, and for each line whether it is drawn. It runs, and the
# shapes are right. The next cell shows what it draws.
#
# ```python
# def lines_of_ink(x):
#     path = np.cumsum(x[:, :2], axis=0)
#     return np.concatenate([path[:-1], path[1:]], axis=1), 1 - x[1:, 2]
# ```


# %%
def spilled_ink(x):
    path = np.cumsum(x[:, :2], axis=0)
    return np.concatenate([path[:-1], path[1:]], axis=1), 1 - x[1:, 2]


figure, grid = plt.subplots(1, 6, figsize=(7.4, 1.6), sharex=True, sharey=True)
for axes, x in zip(grid, strokes.test[:6]):
    for (x0, y0, x1, y1), drawn in zip(*spilled_ink(x)):
        if drawn:
            axes.plot([x0, x1], [y0, y1], color=orange, linewidth=1.5)
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
axes.invert_yaxis()
figure.suptitle("The first six, spilled: which lines are missing, and which are wrong?", x=0.01, ha="left")
assert all(len(lines) == len(drawn) == len(x) - 1 for x in strokes.test[:6] for lines, drawn in [spilled_ink(x)])


# %%
def my_lines_of_ink(x):
    """lines (T - 1, 4) of x0, y0, x1, y1, and ink (T - 1,), 1 where a line is drawn. x (T, 3) of (dx, dy, pen-up)."""
    ### BEGIN SOLUTION
    path = np.cumsum(x[:, :2], axis=0)
    return np.concatenate([path[:-1], path[1:]], axis=1), 1 - x[:-1, 2]
    ### END SOLUTION


# %%
tv.course.check("12.2", my_lines_of_ink)

# %% [markdown]
# ## The density of a pen's step
#
# $\Delta x$ and $\Delta y$ are correlated: strokes slant. So each component is a Gaussian in the plane, with a
# correlation $\rho$, and pen-up is a coin. Following Graves, and as in the paper,
#
# $$\begin{aligned}
# p(x_t \mid \cdot) = {} & \sum_{k=1}^{K} \pi_k\, \mathcal N\big((\Delta x, \Delta y); \mu_k, \sigma_k, \rho_k\big) \\
# & \cdot \mathrm{Bernoulli}(\text{pen-up}; \mathrm{sigmoid}(a)) .
# \end{aligned}$$
#
# What is $\mathcal N(\cdot; \mu, \sigma, \rho)$? Let $e_1, e_2$ be two independent standard normal numbers, and
#
# $$\Delta x = \mu_1 + \sigma_1 e_1, \qquad \Delta y = \mu_2 + \sigma_2 (\rho\, e_1 + c\, e_2),
# \qquad c = \sqrt{1 - \rho^2} .$$
#
# Both have the right mean and, as $\rho^2 + c^2 = 1$, the right standard deviation. Their correlation is $\mathrm E[e_1
# (\rho e_1 + c e_2)] = \rho$. Now solve for the noise. With $\delta_i = (x_i - \mu_i) / \sigma_i$,
#
# $$e_1 = \delta_1, \qquad e_2 = \frac{\delta_2 - \rho\, \delta_1}{c} =: w .$$
#
# The density of the noise is $e^{-(e_1^2 + e_2^2)/2} / 2\pi$. The map's matrix is triangular, so its determinant is the
# product of the diagonal, $\sigma_1 \cdot \sigma_2 c$. The map multiplies areas by that factor, so the density is
# divided by it:
#
# $$\log \mathcal N = - \tfrac12 (\delta_1^2 + w^2) - \log \sigma_1 - \log \sigma_2 - \log c - \log 2 \pi .$$
#
# > **Function** `tinyvrnn.distributions.pen.pen_log_density_forward` · **held by**
# > `tests/test_distributions.py::test_mixtures_equal_the_textbook` and
# > `tests/test_distributions.py::test_mixtures_integrate_to_1`
#
# A test of this formula: with $\rho = 0.9$, the density must integrate to 1 over the whole plane and both states of the
# pen.

# %%
line = np.linspace(-8, 8, 401)
plane = np.stack(np.meshgrid(line, line), axis=-1)
two = {
    "mu": np.array([[-1.0, 0.5], [2.0, 0.0]]),
    "sigma": np.array([[0.5, 1.0], [1.0, 0.4]]),
    "rho": np.array([0.9, -0.3]),
}
total = 0.0
for up in (0.0, 1.0):
    x = np.concatenate([plane, np.full((*plane.shape[:2], 1), up)], axis=-1)
    log_p, _ = pen.pen_log_density_forward(x, np.array([0.3, -0.2]), *two.values(), np.array([-1.7]))
    total += np.exp(log_p).sum() * (line[1] - line[0]) ** 2
print(f"total probability: {total:.9f}")
assert abs(total - 1) < 1e-8

# %% [markdown]
# ### Exercise 12.3 (write): the log-density of a pen's step
#
# The $K$ components are given by `logits`, $\pi = \mathrm{softmax}$ of them. The result must stay finite far away from
# the components ([01](01_sequences_and_the_rnn.ipynb) shows the trick) and for any logit $a$ of the coin: $\log
# \mathrm{sigmoid}(a) = - \log (1 + e^{-a})$, and `np.logaddexp(0, -a)` never overflows.


# %%
def my_pen_log_density(x, logits, mu, sigma, rho, a):
    """log p (N,) in nats. x (N, 3), logits and rho (N, K), mu and sigma (N, K, 2), a (N, 1)."""
    ### BEGIN SOLUTION
    delta = (x[:, None, :2] - mu) / sigma
    c2 = 1 - rho**2
    w2 = (delta[..., 1] - rho * delta[..., 0]) ** 2 / c2
    log_n = -0.5 * (delta[..., 0] ** 2 + w2 + np.log(c2)) - np.log(sigma).sum(axis=-1) - float(np.log(2 * np.pi))
    joint = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True) + log_n
    lifted = x[:, 2]
    log_pen = -lifted * np.logaddexp(0, -a[:, 0]) - (1 - lifted) * np.logaddexp(0, a[:, 0])
    return np.logaddexp.reduce(joint, axis=1) + log_pen
    ### END SOLUTION


# %%
tv.course.check("12.3", my_pen_log_density)

# %% [markdown]
# Here is the package's version, which also returns a cache for the backward pass:

# %%
tv.course.show(pen.pen_log_density_forward)

# %% [markdown]
# ## Four models of ink
#
# This is the paper's table in miniature: an RNN and a VRNN, each with one component and with ten. All have a state of
# 64 and train for five epochs; the VRNNs have eight latents and a warm-up of one epoch.

# %%
ink = {
    (kind.name.upper(), K): trained(
        kind,
        strokes,
        {"h_dim": 64, "likelihood": "pen", "components": K},
        epochs=5,
        batch=16,
        warmup=1 if kind is tv.VRNN else 0,
        clip=1000,  # gradients are large on ink: the default, 50, would clip most of them
    )
    for K in (1, 10)
    for kind in (tv.RNN, tv.VRNN)
}
test = {name: tv.bounds.evaluate_elbo(model, strokes.test) for name, model in ink.items()}
nats = {name: found.elbo_per_sequence for name, found in test.items()}

# %%
print("nats per test character, standardised; those of trained models to the nearest 10")
for name, value in tv.data.baselines(strokes).items():
    print(f"{name:29} exact {value:5.0f}")
for (name, K), found in test.items():
    what = "bound" if name == "VRNN" else "exact"
    row = f"{name}, {K} Gaussian{'s' * (K > 1)}"
    print(f"{row:29} {what} {10 * round(found.elbo_per_sequence / 10):5d}")
kl = {K: test["VRNN", K].kl_per_sequence for K in (1, 10)}
print("the VRNN's KL: more than 12 nats with one Gaussian, less than 10 with ten")
assert kl[1] > 12 and kl[10] < 10

# %%
gain = {K: nats["VRNN", K] - nats["RNN", K] for K in (1, 10)}
assert 20 < gain[1] < 50 and abs(gain[10]) < 12
assert nats["RNN", 1] < nats["VRNN", 1] < nats["RNN", 10]

# %% [markdown]
# With one Gaussian, $z$ is worth some thirty nats per character; with ten, next to nothing. That is the paper's result.
# But why? A hypothesis: the **next stroke** can start in many places, and one Gaussian cannot represent "here or
# there". Let us test it. Here are the gains over the RNN with one Gaussian, separately for moves between strokes and
# for steps of ink:

# %%
x, lengths = tv.pad(strokes.test)
lifted = np.concatenate([np.ones((1, x.shape[1])), x[:-1, :, 2]])  # before the first step the pen is up
real = np.arange(len(x))[:, None] < lengths
kinds = {"moves": real & (lifted == 1), "steps of ink": real & (lifted == 0)}


def per_step(model):
    """log p(x_t | ...), or its bound, (T, B)."""
    params, xs = views(tv.to_host(model.theta).copy(), model.shapes), x.astype("float32")
    if model.name == "rnn":
        return rnn.sequence_forward(params, xs, model.likelihood)[0]
    eps = noise.standard_normal((*x.shape[:2], model.z_dim), "float32", 0, "notebook 12")
    log_p, kl, _ = schedule.sequence_forward(params, xs, eps, model.likelihood)
    return log_p - kl


steps = {name: per_step(ink[name]) for name in (("RNN", 1), ("RNN", 10), ("VRNN", 1))}
gains = {
    (name, kind): float(((steps[name] - steps["RNN", 1]) * chosen).sum() / len(lengths))
    for name in (("RNN", 10), ("VRNN", 1))
    for kind, chosen in kinds.items()
}
assert all(abs(gains[name, "moves"]) < 8 and gains[name, "steps of ink"] > 15 for name in (("RNN", 10), ("VRNN", 1)))

# %%
print("gains in nats per character, to the nearest 10")
for name, K in (("RNN", 10), ("VRNN", 1)):
    print(f"{name}, {K:2}: " + ", ".join(f"{kind} {10 * round(gains[(name, K), kind] / 10):+d}" for kind in kinds))


# %% [markdown]
# The hypothesis is wrong. The place where the pen lands is uncertain, but a wide Gaussian represents that well enough.
# All of the gain is **within** the strokes. Look at one such step: the pen has gone to the right four times. What comes
# next? The first panel shows what came next in the training data; the others show $p(\Delta x, \Delta y \mid
# \text{past})$ for three models. For an RNN this is its output. For a VRNN it is an average,
#
# $$p(x_t \mid x_{<t}, z_{<t}) = \int p(x_t \mid z_{\le t}, x_{<t})\; p(z_t \mid x_{<t}, z_{<t})\, \mathrm d z_t :$$
#
# a mixture with one Gaussian component for each value of $z$. We average over 400 draws of $z$.

# %%
R, N = 1.3, 91
line = np.linspace(-R, R, N)
plane = np.stack(np.meshgrid(line, line, [0.0]), axis=-1).reshape(-1, 3)


def what_next(model, past, places, draws=400):
    """p(dx, dy) at the places, with the pen staying down, given past (t, 1, 3)."""
    params = views(tv.to_host(model.theta).copy(), model.shapes)
    if model.name == "rnn":
        phi_x, _ = equations.features_forward(params["phi_x"], past)
        h = rnn.loop_forward(params["recur"], phi_x).h[-1]
        (*step, _), _ = equations.predict_forward(params["predict"], h, model.likelihood)
    else:
        eps = noise.standard_normal((len(past) + 1, draws, model.z_dim), "float32", 0, "notebook 12")
        h = np.zeros((draws, model.h_dim), "float32")
        h = sampling.state_after(params, np.repeat(past, draws, axis=1), eps[:-1], h)
        (mu_0, sigma_0), _ = equations.prior_forward(params["prior"], h)
        phi_z, _ = equations.features_forward(params["phi_z"], mu_0 + sigma_0 * eps[-1])
        (*step, _), _ = equations.generate_forward(params["generate"], phi_z, h, model.likelihood)
    sure = np.array([-40.0])  # the logit of a pen that stays down: only the density of the plane is left
    each = (np.exp(pen.pen_log_density_forward(places, *outputs, sure)[0]) for outputs in zip(*step))
    return sum(each) / len(step[0])


# %%
past, star = x[:5, 2:3].astype("float32"), x[5, 2]  # the third test character: set down, then four steps to the right
panels = {
    "RNN, one Gaussian": ink["RNN", 1],
    "RNN, ten Gaussians": ink["RNN", 10],
    "VRNN, one for each z": ink["VRNN", 1],
}
maps = {name: what_next(model, past, plane).reshape(N, N) for name, model in panels.items()}
at_star = {name: np.log(what_next(model, past, star[None])[0]) for name, model in panels.items()}
one, ten, sliding = at_star.values()
assert min(ten, sliding) > one + 1  # nats, for the actual next step
assert (past[1:, 0, 0] > 0.6).all() and np.abs(past[1:, 0, 1]).max() < 0.1

# %%
values, t = strokes.train.values, strokes.train.time()
right = (values[:, 0] > 0.6) & (np.abs(values[:, 1]) < 0.1) & (values[:, 2] == 0)
follows = np.flatnonzero(right[:-1] & (t[:-1] > 0)) + 1
figure, grid = plt.subplots(2, 2, figsize=(6.4, 6.4), sharex=True, sharey=True)
axes = grid.ravel()
axes[0].plot(*values[follows, :2].T, ".", color=blue, markersize=3)
axes[0].set(title="Data, after a step to the right", xlim=(-R, R), ylim=(R, -R), aspect="equal")
for place, (name, p) in zip(axes[1:], maps.items()):
    place.imshow(np.log10(p + 1e-9), cmap="gray_r", extent=(-R, R, R, -R), vmin=-2, vmax=2)
    place.set(title=name)
for place in axes:
    place.plot(*star[:2], "*", color=orange, markersize=9)
for below, beside in zip(grid[1], grid[:, 0]):
    below.set(xlabel=r"$\Delta x$")
    beside.set(ylabel=r"$\Delta y$, downwards")
figure.suptitle("What comes next; star: the actual step", x=0.01, ha="left")
figure.supxlabel("density on a log scale, from 0.01 (white) to 100 (black)", fontsize=10)
assert len(follows) > 1000

# %% [markdown]
# The points of a stroke are evenly spaced, so its steps lie on a **ring**. The pen most often goes straight on;
# other steps are bends, up to the sharp corner of a box. A single ellipse that covers a corner has to be wide
# everywhere. Ten Gaussians lie along the ring like beads. The VRNN has only one, but it draws $z$ first, and $z$ moves
# the Gaussian along the ring. The KL is the price of that position.
#
# With ten Gaussians in the output, $z$ has little left to add, and in the table it gains nothing.
#
# ## Drawings by the models
#
# A sample has no end: nothing in $p(x)$ says "this character is finished". (The lengths are given, not modelled.) So
# each drawing gets the length of a random training character, and is cut after its last complete stroke.


# %%
def characters(model, n, bias=0.0, seed=0):
    """n drawings, a list of (T_i, 3). bias: how much neater than the model (0: the model itself)."""
    tidy = copy.copy(model)
    tidy.likelihood = model.likelihood._replace(
        sample=lambda noise, logits, mu, sigma, rho, a: pen.pen_sample(
            noise, (1 + bias) * logits, mu, float(np.exp(-bias)) * sigma, rho, a
        )
    )
    x = tv.to_host(tidy.sample(n, strokes.train.max_steps, seed))
    lengths = np.random.default_rng(seed).choice(strokes.train.lengths, n)
    cut = [x[:length, i] for i, length in enumerate(lengths)]
    return [c[: np.flatnonzero(c[:, 2])[-1] + 1] if c[:, 2].any() else c for c in cut]


# %% tags=["volatile"]
rows = {"data": [strokes.test[i] for i in range(10)]}
for name, K in (("RNN", 1), ("VRNN", 1), ("RNN", 10), ("VRNN", 10)):
    rows[f"{name}, {K}"] = characters(ink[name, K], 10)
drawings = sum(rows.values(), [])
tv.plots.ink(
    drawings, title="Characters: data, and samples of models with 1 or 10 Gaussians", columns=10, size=0.65, names=rows
)

# %% [markdown]
# After seconds of training these are characters of no language, but they resemble this script: crosses, boxes, dots and
# sweeps in their usual places. In the lower two rows most strokes are straight and turn sharply. The RNN with one
# Gaussian bends them and smears the corners. The VRNN with one Gaussian is in between, in the picture as in the table.
# (All samples in a column use the same noise.)
#
# No model has learned the **whole**. Parts appear side by side that never occur together, some overlap, and the lower
# half is often missing. Five epochs over 2,016 characters are not enough for that.
#
# **Neater than the model.** Graves sharpens the distribution before sampling, by a bias $b \ge 0$: he multiplies logits
# by $1 + b$ and standard deviations by $e^{-b}$. With $b = 0$ it is the model itself.

# %% tags=["volatile"]
rows = {f"bias {bias:g}": characters(ink["RNN", 10], 10, bias, seed=1) for bias in (0.0, 0.5, 2.0)}
drawings = sum(rows.values(), [])
tv.plots.ink(drawings, title="Characters of the RNN with ten Gaussians", columns=10, size=0.65, names=rows)

# %% [markdown]
# A bias makes strokes neater and characters less varied. Use it to make a picture, but not to judge a model: the
# drawings no longer come from the distribution whose likelihood is reported.
#
# ## Music
#
# In a piano roll a step is a quarter note, and $x_t \in \{0, 1\}^{88}$ is 1 where a key is down. The output
# distribution is one Bernoulli per key, and the keys are **independent** given $h_{t-1}$ (and $z_t$). But the keys of a
# chord depend strongly on each other. How much can that cost? Consider a world of two chords.
#
# ### Exercise 12.4 (predict): two chords
#
# At each step either C-E-G or D-F-A sounds, each with probability 1/2, whatever came before. There are six keys, and
# the model gives each key its own probability, the best possible one, independently of the others. How many **nats per
# step** does it lose against the true distribution? (A number, correct to two per cent.)

# %%
prediction = None
### BEGIN SOLUTION
prediction = 5 * np.log(2)  # six coins instead of one
### END SOLUTION

# %%
tv.course.check("12.4", prediction)

# %% [markdown]
# Each key sounds half of the time, so the best independent model is six fair coins: every step costs $6 \log 2$ nats.
# The true distribution is one fair coin, $\log 2$.
#
# Now give the model a $z_t$ that names the chord: a prior of $\tfrac12, \tfrac12$, and a deterministic decoder. Then
# the posterior is deterministic too, and the bound of one step is
#
# $$\underbrace{\log p(x_t \mid z_t)}_{= 0} - \mathrm{KL}(q \,\|\, p) = - \Big( 1 \cdot \log \frac{1}{1/2} + 0 \Big)
# = - \log 2 .$$
#
# This equals the true value: nothing is lost. **The KL is the price of naming the chord: one coin instead of six.**
# Given $z$ the keys are independent, but averaged over $z$ they are dependent.

# %%
chords = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
every = np.array(list(np.ndindex(*[2] * 6)))  # all 64 sets of keys
six_coins = np.full(64, 0.5**6)
with_z = sum(0.5 * (every == chord).all(axis=1) for chord in chords)
nats_of = {
    name: np.mean([np.log(p[(every == c).all(axis=1)][0]) for c in chords])
    for name, p in {"six coins": six_coins, "with z": with_z}.items()
}
print("nats per step:", {name: round(float(v), 3) for name, v in nats_of.items()})
assert six_coins.sum() == with_z.sum() == 1 and abs(nats_of["with z"] - nats_of["six coins"] - 5 * np.log(2)) < 1e-12

# %% [markdown]
# Bach's four-part chorales come with the extra `music`; reading them for the first time takes half a minute.
# Without it, the next cells say so and do nothing.

# %% tags=["volatile"]
try:
    with contextlib.redirect_stderr(io.StringIO()):  # hide the progress bar of the first reading
        bach = tv.load_data("bach")
    print(bach)
except tv.DataError as error:
    bach = None
    print(f"No chorales: {error}")

# %% tags=["volatile"]
music = {}
if bach:
    for kind, warmup in ((tv.RNN, 0), (tv.VRNN, 3)):
        music[kind.name.upper()] = trained(kind, bach, {"h_dim": 64}, epochs=7, batch=8, warmup=warmup)
    test = {name: tv.bounds.evaluate_elbo(model, bach.test) for name, model in music.items()}
    print("nats per test chorale")
    for name, value in tv.data.baselines(bach).items():
        print(f"{name:19} exact {value:7.1f}")
    for name, found in test.items():
        what = "bound" if name == "VRNN" else "exact"
        print(f"{name:19} {what} {found.elbo_per_sequence:7.1f}   of it KL {found.kl_per_sequence:.1f}")
    assert test["VRNN"].elbo_per_sequence > test["RNN"].elbo_per_sequence + 15

# %% [markdown]
# As in the world of two chords, the VRNN pays a KL and gets back more than that, even though its figure is only a
# bound. Do its samples show it? We count, step by step, three things that independent keys model badly:
#
# - **a known chord**: exactly these keys sound together somewhere in the training chorales;
# - **three or four keys**: there are four voices, and two may share a key;
# - **a clash**: two neighbouring keys sound at once.

# %% tags=["volatile"]
if bach:
    known = {row.tobytes() for row in bach.train.values}

    def counts(roll):
        steps = roll.reshape(-1, 88).astype(np.uint8)
        return [
            np.mean([row.tobytes() in known for row in steps]),
            np.isin(steps.sum(axis=1), (3, 4)).mean(),
            (steps[:, :-1] & steps[:, 1:]).any(axis=1).mean(),
        ]

    rolls = {"Bach, test": tv.pad(bach.test)[0][:64, bach.test.lengths >= 64]}
    rolls |= {f"drawn from the {name}": tv.to_host(model.sample(48, 64, 0)) for name, model in music.items()}
    shares = {name: counts(roll) for name, roll in rolls.items()}
    figure, axes = plt.subplots(figsize=(7, 3))
    for i, (name, share) in enumerate(shares.items()):
        axes.bar(np.arange(3) + 0.28 * (i - 1), share, 0.26, label=name, hatch=("", "//", "..")[i], edgecolor="white")
    axes.set(
        ylabel="share of the steps", xticks=range(3), xticklabels=["a known chord", "three or four keys", "a clash"]
    )
    axes.set_title("With z the keys agree more often, but not as in Bach")
    axes.legend()
    rnn_known, vrnn_known = (shares[f"drawn from the {name}"][0] for name in ("RNN", "VRNN"))
    assert rnn_known < vrnn_known < 0.5 < shares["Bach, test"][0]

# %% tags=["volatile"]
if bach:
    rows = np.concatenate([roll[:, :2] for roll in rolls.values()], axis=1)
    names = ["Bach", "RNN", "VRNN"]
    display(tv.plots.piano_roll(rows, title="Piano rolls: Bach, and samples of two models", width=3.7, names=names))

# %% [markdown]
# Both models have learned the range of the voices and the scale, and that notes are held. With $z$ more of the chords
# are real ones than without, but most are still not: eight latents and a few seconds of training are not enough to
# compose.
#
# To listen, write a MIDI file. A key that stays down becomes one held note.
#
# > **Function** `tinyvrnn.runs.export.write_samples` · **held by**
# > `tests/test_export.py::test_midi_holds_notes_and_rests_between_pieces`

# %% tags=["volatile"]
if bach:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vrnn.mid"
        try:
            export.write_samples(path, rolls["drawn from the VRNN"][:, :2], bach.medium, binary=True)
            print(f"{path.name}: {path.stat().st_size} bytes of music, in a temporary folder")
        except tv.ConfigError as error:
            print(f"No file: {error}")

# %% [markdown]
# Or listen right here. Key $k$ is MIDI note $21 + k$; note 69 is A4 at 440 Hz, and twelve notes up double the
# frequency: $f = 440 \cdot 2^{(21 + k - 69) / 12}$. Each key that is down sounds as a sine with two overtones.
#
# > **Function** `tinyvrnn.runs.export.write_sound` · **held by**
# > `tests/test_export.py::test_a_wav_holds_the_frames_one_after_another`

# %%
tv.course.show(export.write_sound)

# %%
RATE, SAMPLES = 8000, 2400  # samples per second, and per step (0.3 s)


def waves(roll):
    """Frames of a waveform, (T, n, SAMPLES) between -1 and 1, of piano rolls (T, n, 88)."""
    t = np.arange(len(roll) * SAMPLES) / RATE
    out = np.zeros((roll.shape[1], len(t)))
    for i, k in zip(*np.nonzero(roll.any(axis=0))):
        down = np.convolve(np.repeat(roll[:, i, k], SAMPLES), np.ones(80) / 80, mode="same")  # 10 ms fades
        f = 440 * 2 ** ((k - 48) / 12)
        out[i] += down * sum(np.sin(2 * np.pi * n * f * t) / 2**n for n in (1, 2, 3))
    return np.moveaxis(out.reshape(roll.shape[1], len(roll), SAMPLES), 0, 1) / max(1, np.abs(out).max())


a_and_c = np.zeros((4, 1, 88))
a_and_c[..., [48, 63]] = 1  # A4 and the C that is fifteen keys higher
spectrum = np.abs(np.fft.rfft(waves(a_and_c).ravel()))
loudest = np.sort(np.argsort(spectrum)[-2:]) * RATE / (4 * SAMPLES)
print(f"loudest: {loudest[0]:.0f} and {loudest[1]:.0f} Hz")
assert abs(loudest - [440, 440 * 2 ** (15 / 12)]).max() < RATE / (4 * SAMPLES)

# %% tags=["volatile"]
if bach:  # sixteen steps of Bach, half a second of silence, sixteen steps of the VRNN
    heard = np.concatenate([rolls[name][:16, :1] for name in ("Bach, test", "drawn from the VRNN")], axis=1)
else:  # the two chords of exercise 12.4, alternating
    heard = np.zeros((8, 1, 88))
    for step, chord in enumerate([[39, 43, 46], [41, 44, 48]] * 4):
        heard[step, 0, chord] = 1
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "heard.wav"
    medium = {"name": "sound", "rate": RATE, "full_scale": 1.0}
    export.write_samples(path, waves(heard), medium, binary=False)
    display(Audio(filename=path))

# %% [markdown]
# If the chorales are installed, you hear Bach first and then the model. You may hear at once what the bars above show.
#
# ## What to try next
#
# Half a minute of training is not much. The following commands run in a terminal, and each run leaves a folder
# `runs/...` with curves and samples (`tinyvrnn train --help` lists the options):
#
# ```bash
# tinyvrnn train vowels --likelihood gmm --components 5 --hidden 32 --layers 1 --lr 0.01 --batch 16 --epochs 60
# tinyvrnn train strokes --components 20 --hidden 200 --warmup 5 --epochs 60 --batch 32 --clip 1000
# tinyvrnn sample runs/strokes -n 24 --out characters.gif
# tinyvrnn train bach --hidden 200 --warmup 20 --epochs 100 --batch 16
# tinyvrnn sample runs/bach -n 4 --steps 64 --out chorales.mid
# ```
#
# - **Speech**: 230 utterances are few. Compare train and valid in the run's `metrics.jsonl`: does a mixture help, or
#   does it overfit?
# - **Sound**: a recording of your own, cut into steps of 200 samples as in the paper, lets you generate a `.wav`. If
#   `wave` is an array of samples at 16,000 Hz, `np.savez("speech.npz", x=wave[: n * 40 * 200].reshape(n, 40, 200),
#   sample_rate=16000)` stores $n$ sequences of half a second. Then run `tinyvrnn train speech.npz` and `tinyvrnn sample
#   runs/speech --out speech.wav`.
# - **Warm-up**: train the VRNN with one Gaussian on ink without warm-up. What is its bound at the end, and why?
#
# ## What you now know
#
# - A density has a unit, and a log-likelihood changes with it: by $T \sum_j \log \sigma_j$. Compare on the same data,
#   in the same unit, and say whether a figure is a bound.
# - $z$ pays off if the output distribution is too simple for the data: one Gaussian for a fork, independent keys for a
#   chord. With a mixture in the output, or unimodal data, there is nothing for $z$ to do, and it does nothing.
# - The KL is a price, not a loss: what counts is what it buys.
# - To compare two models, measure the noise of the test set **and** the noise of training.
#
# You have derived the bound, checked each line of it, written its gradient, trained the model and found out what it is
# good for. In [13 · Your VRNN](13_your_vrnn.ipynb) your own functions become the model. `tinyvrnn course status` shows
# which exercises are left; [00 · Start here](00_start_here.ipynb) has the map.
