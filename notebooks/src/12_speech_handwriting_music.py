# %% [markdown]
# # 12 · Speech, handwriting, music
#
# The paper ends with a table: five data sets, five models, one number each. Here is that experiment at course size.
# You train the VRNN and the plain RNN on speech, on handwriting and on music, and ask of each the same question:
# **does $z$ pay for itself?** Three data sets, three answers, and one reason behind them.
#
# *You need*: [01](01_sequences_and_the_rnn.ipynb) for mixtures, [05](05_the_elbo_line_by_line.ipynb) for the bound,
# [08](08_training.ipynb) for warm-up and collapse. *It takes* about an hour and a half; the training, half a minute.

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
    """A model of `kind` trained on data, with one worker: the same sums in the same order on any number of cores."""
    model = kind(data.x_dim, **({"z_dim": 8} if kind is tv.VRNN else {}), layers=1, **model_options)
    tv.train(model, data, lr=1e-2, workers=1, progress=False, seed=model.seed, **options)
    return model


# %% [markdown]
# ## What Table 1 of the paper measured
#
# Four of its data sets are speech: recordings at 16,000 samples a second, a step $x_t$ being 200 samples of the
# **waveform**. The fifth is handwriting, the path of a pen on a whiteboard. On each, five models: an RNN whose output
# is one Gaussian or a mixture of twenty, a VRNN with either, and a VRNN whose prior does not look at the past. What
# is printed is the mean of $\log p(x)$ over test sequences, in nats. For an RNN it is exact. For a VRNN there is the
# bound, marked $\ge$, and an estimate from 40 importance samples, marked $\approx$.
#
# Its message: **$z$ helps most where the output is a single Gaussian. A mixture alone closes much of that gap**, on
# handwriting nearly all of it. You will see that message again below, on other data.
#
# But you will see none of its numbers. A density has a **unit**. Let $y$ be the data divided by a scale, $y_{tj} =
# x_{tj} / \sigma_j$ (a shift changes nothing). A small box of $x$ is a small box of $y$, with the same probability:
#
# $$p_x(x) \prod_{t,j} \mathrm d x_{tj} = p_y(y) \prod_{t,j} \mathrm d y_{tj}
# = p_y(y) \prod_{t,j} \frac{\mathrm d x_{tj}}{\sigma_j}
# \quad\Rightarrow\quad
# \log p_x(x) = \log p_y(y) - T \sum_{j=1}^{X} \log \sigma_j .$$
#
# The last term has nothing to do with how good a model is, and it can be as large as you like:

# %%
half_a_second = 8000  # samples
print(f"half a second of sound, twice as loud: {half_a_second * np.log(2):.0f} nats less, with the same model")
assert half_a_second * np.log(2) > 5000

# %% [markdown]
# So compare two log-likelihoods only where the data are the same, in the same unit, and (an RNN's figure being exact
# and a VRNN's a bound) remember which is which. `Data.units` says what a set of this package is measured in.
#
# > **Function** `tinyvrnn.data.load_data` · **held by**
# > `tests/test_data_baselines.py::test_raw_and_standardised_differ_by_the_change_of_variables`
#
# Is the formula right? The `marginal Gaussian` baseline fits a mean and a deviation to each number. It can be fitted
# to raw data or to standardised ones, and that makes no difference to it but the unit:

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
# `log_p` $(B,)$ are log-densities of $B$ sequences of **standardised** data, in nats. Return those of the **raw**
# data, $(B,)$, in nats; and one number, how many **bits per step** of raw data the whole set takes: $- \log_2 p$,
# total over total. (`np.log(2)` is a float64, and makes one of a float32; `float(np.log(2))` does not.)


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
# `vowels` holds nine men saying the two Japanese vowels *ae*: 230 utterances to train on. A step is a frame of 25.6
# milliseconds, every 6.4 milliseconds. But its twelve numbers are no waveform: they are *cepstrum coefficients*, a
# smooth outline of the frame's spectrum. The pitch of the voice and the phases are gone, and a sound cannot be had
# back from what is left. So there is nothing to listen to in this section, and the package says so:

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
# One Gaussian for each of the twelve numbers, in an RNN and in a VRNN of the same size, each trained twice, from
# other weights, in another order:

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
print("nats per test utterance, to the nearest whole")
for name, value in floors.items():
    print(f"{name:18} exact  {value:5.0f}")
for (name, seed), value in scores.items():
    what = "bound" if name == "VRNN" else "exact"
    print(f"{name + ', seed ' + str(seed):18} {what}  {value.mean():5.0f}")

# %% [markdown]
# How much of that is noise? There are two kinds. The test set is a draw of 370 utterances: since both models see the
# same ones, take the difference **utterance by utterance**, and its standard error. And training is a draw, of
# initial weights and order: that shows only between seeds, and no standard error over utterances contains it.

# %%
between = {seed: scores["VRNN", seed] - scores["RNN", seed] for seed in (0, 1)}
errors = {seed: d.std(ddof=1) / np.sqrt(len(d)) for seed, d in between.items()}

figure, axes = plt.subplots(figsize=(6.4, 2.6))
for seed, style in ((0, "o"), (1, "s")):
    axes.errorbar(between[seed].mean(), seed, xerr=2 * errors[seed], fmt=style, capsize=4, color=(blue, orange)[seed])
axes.axvline(0, color="0.6", linewidth=1)
axes.set(yticks=[0, 1], yticklabels=["seed 0", "seed 1"], ylim=(-0.6, 1.6), xlim=(-20, 20))
axes.set(xlabel="VRNN's bound - RNN's log p(x), nats per utterance, ± 2 standard errors")
axes.set_title("On vowels, z earns little or nothing")

assert min(v.mean() for v in scores.values()) > floors["AR(1)"] + 5 > floors["marginal Gaussian"] + 100
assert max(abs(d.mean()) for d in between.values()) < 15

# %%
drawn = tv.to_host(speech["VRNN", 0].sample(4, 18, seed=1))
figure, grid = plt.subplots(2, 4, figsize=(10, 3.6), sharex=True, sharey=True)
for place, utterance in zip(grid.ravel(), [*vowels.test[:4], *np.moveaxis(drawn, 1, 0)]):
    extent = (0, len(utterance), 0.5, 12.5)
    picture = place.imshow(utterance.T, cmap="PuOr", vmin=-3, vmax=3, origin="lower", aspect="auto", extent=extent)
for place in grid[1]:
    place.set(xlabel="step")
for place, who in zip(grid[:, 0], ("test", "VRNN")):
    place.set(ylabel=f"{who}: coefficient")
figure.colorbar(picture, ax=grid, label="deviations")
figure.suptitle("Four utterances, and four drawn from the VRNN: slow drifts, all twelve at once", x=0.01, ha="left")
assert drawn.shape == (18, 4, 12)

# %% [markdown]
# Both models beat the autoregression. But read the two intervals together: whatever the one seed says in favour of a
# model, the other need not say, though each interval is honest about the test set. Between two runs lie several nats.
# To call one of these models better would take many seeds, or a larger difference.
#
# Is that a failure of the VRNN? Its output has twelve independent Gaussians, and $z$ could tie them together. Is
# there anything to tie? Take the best Gaussian for numbers with mean $m$ and covariance $S$. Its mean log-density is
#
# $$- \tfrac12 \log \det(2 \pi S) - \tfrac12 \mathrm E\big[(x - m)^\top S^{-1} (x - m)\big]
# = - \tfrac12 \log \det(2 \pi S) - \tfrac X2 ,$$
#
# since the last mean is the trace of $S^{-1} S$. Without ties only the diagonal of $S$ is left, the squares of the
# deviations $s_j$. With $C$ the correlations, $S_{ij} = s_i C_{ij} s_j$, so $\det S = \det C \prod_j s_j^2$, and what
# the ties are worth is
#
# $$- \tfrac12 \log \det S + \tfrac12 \sum_j \log s_j^2 = - \tfrac12 \log \det C \quad \text{nats per step.}$$
#
# Apply it to the data, and to what the RNN's prediction leaves over, $(x_t - \mu_t) / \sigma_t$:

# %%
real = np.arange(len(x))[:, None] < lengths
model = speech["RNN", 0]
params = views(tv.to_host(model.theta).copy(), model.shapes)
_, cache = rnn.sequence_forward(params, x, model.likelihood)
(mu, sigma), _ = equations.predict_forward(params["predict"], cache.loop.h[:-1], model.likelihood)
tie = {
    name: -0.5 * np.linalg.slogdet(np.corrcoef(values[real].T))[1]
    for name, values in (("the data", x), ("what prediction leaves over", (x - mu) / sigma))
}
for name, worth in tie.items():
    print(f"{name:28} ties are worth {worth:.0f} nats per step, to the nearest whole")
assert tie["what prediction leaves over"] < 1 < 2.5 < tie["the data"]

# %% [markdown]
# Twelve coefficients say a lot about one another. But once the past is known, most of that is known too: a tie
# between them would gain a nat at most, and $z$ would have to pay its KL from that. In the paper's waveforms a step
# is 200 neighbouring samples that swing together, and 200 independent Gaussians cannot say "together". There $z$ has
# work to do.
#
# > **Rule of thumb** $z$ earns where the output distribution is too simple for the data. Where it is not, a VRNN is
# > an RNN with extra noise, and it learns to ignore that noise.
#
# ## Handwriting
#
# `strokes` holds kana and kanji as a pen writes them. A step is $(\Delta x, \Delta y, \text{pen-up})$: how far the
# pen moved, and whether it leaves the paper **after** this point.

# %%
strokes = tv.load_data("strokes")
print(f"{len(strokes.train)} characters of {strokes.train.lengths.min()} to {strokes.train.max_steps} steps")
tv.plots.ink([strokes.test[i] for i in range(24)], "Twenty-four test characters, drawn as ink", columns=12)

# %% [markdown]
# The drawing is a running sum, cut where the pen is up: point $t$ is $\sum_{s \le t} (\Delta x_s, \Delta y_s)$, and a
# line goes from point $t$ to point $t + 1$ unless the pen was lifted after point $t$.
#
# ### Exercise 12.2 (bug): spilled ink
#
# This function should return all lines from point to point, and for each whether it is drawn. It runs, the shapes are
# right, and the next cell shows what it draws.
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


figure, grid = plt.subplots(1, 6, figsize=(10.8, 1.9), sharex=True, sharey=True)
for axes, x in zip(grid, strokes.test[:6]):
    for (x0, y0, x1, y1), drawn in zip(*spilled_ink(x)):
        if drawn:
            axes.plot([x0, x1], [y0, y1], color=orange, linewidth=2)
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
axes.invert_yaxis()
figure.suptitle("The first six, spilled: which lines are missing, and which should not be there?", x=0.01, ha="left")
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
# $\Delta x$ and $\Delta y$ hang together: strokes slant. So each component is a Gaussian in the plane, with a
# correlation $\rho$, and the pen is a coin. After Graves, and as in the paper,
#
# $$p(x_t \mid \cdot) = \sum_{k=1}^{K} \pi_k\, \mathcal N\big((\Delta x, \Delta y); \mu_k, \sigma_k, \rho_k\big)
# \cdot \mathrm{Bernoulli}(\text{pen-up}; \mathrm{sigmoid}(a)) .$$
#
# What is $\mathcal N(\cdot; \mu, \sigma, \rho)$? Let $e_1, e_2$ be two independent standard normal numbers, and
#
# $$\Delta x = \mu_1 + \sigma_1 e_1, \qquad \Delta y = \mu_2 + \sigma_2 (\rho\, e_1 + c\, e_2),
# \qquad c = \sqrt{1 - \rho^2} .$$
#
# Both have the right means and deviations, as $\rho^2 + c^2 = 1$, and $\mathrm E[e_1 (\rho e_1 + c e_2)] = \rho$ is
# their correlation. Now solve for the noise. With $\delta_i = (x_i - \mu_i) / \sigma_i$,
#
# $$e_1 = \delta_1, \qquad e_2 = \frac{\delta_2 - \rho\, \delta_1}{c} =: w .$$
#
# Their density is $e^{-(e_1^2 + e_2^2)/2} / 2\pi$. A box in $(e_1, e_2)$ becomes one in $(\Delta x, \Delta y)$ that
# is $\sigma_1 \cdot \sigma_2 c$ times as large (the matrix of the map is triangular: its determinant is the product
# of the diagonal, $\sigma_1$ and $\sigma_2 c$), so the density is that many times as small:
#
# $$\log \mathcal N = - \tfrac12 (\delta_1^2 + w^2) - \log \sigma_1 - \log \sigma_2 - \log c - \log 2 \pi .$$
#
# > **Function** `tinyvrnn.distributions.pen.pen_log_density_forward` · **held by**
# > `tests/test_distributions.py::test_mixtures_equal_the_textbook` and
# > `tests/test_distributions.py::test_mixtures_integrate_to_1`
#
# One line that could come out wrong: with $\rho = 0.9$, all of the plane and both states of the pen together must
# hold probability 1.

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
print(f"in all: {total:.9f}")
assert abs(total - 1) < 1e-8

# %% [markdown]
# ### Exercise 12.3 (write): the log-density of a pen's step
#
# The $K$ components are given by `logits`, $\pi = \mathrm{softmax}$ of them. Let far away stay finite
# ([01](01_sequences_and_the_rnn.ipynb) has the trick), and the logit $a$ of the coin be as large as it likes: $\log
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
# The package's, which keeps for the backward pass what it has already:

# %%
tv.course.show(pen.pen_log_density_forward)

# %% [markdown]
# ## Four models of ink
#
# The paper's table in miniature: an RNN and a VRNN, with one component or with ten. All have a state of 64 and five
# passes over the data; the VRNNs have eight latents, and a warm-up of one epoch.

# %%
ink = {
    (kind.name.upper(), K): trained(
        kind,
        strokes,
        {"h_dim": 64, "likelihood": "pen", "components": K},
        epochs=5,
        batch=16,
        warmup=1 if kind is tv.VRNN else 0,
        clip=1000,  # of ink the gradients are long: the default, 50, would cut most of them
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
# With one Gaussian $z$ is worth some thirty nats per character, with ten next to nothing. That is the paper's
# message. Now why? A guess: where the pen is set down for the **next stroke** is a choice among
# many places, and one Gaussian cannot say "here or there". Guesses are to be checked. Here are the gains over the RNN
# of one Gaussian, step by step, moves between strokes and steps of ink apart:

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
# The guess was wrong. A landing place is uncertain, but a wide Gaussian is not bad at saying so. All of the gain is
# **within** the strokes. Look at one such step: the pen has gone to the right four times. What comes next? On the
# left is what came next in the training data; then three models' $p(\Delta x, \Delta y \mid \text{past})$. For an RNN
# this is its output. For a VRNN it is an average,
#
# $$p(x_t \mid x_{<t}, z_{<t}) = \int p(x_t \mid z_{\le t}, x_{<t})\; p(z_t \mid x_{<t}, z_{<t})\, \mathrm d z_t :$$
#
# a mixture with as many components as there are values of $z$, each of them one Gaussian. Take 400 draws of $z$.

# %%
R, N = 1.3, 91
line = np.linspace(-R, R, N)
plane = np.stack(np.meshgrid(line, line, [0.0]), axis=-1).reshape(-1, 3)


def what_next(model, past, places, draws=400):
    """p(dx, dy) at the places, the pen staying down, given past (t, 1, 3)."""
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
    sure = np.array([-40.0])  # of a pen that stays down: what is left is the density of the plane
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
assert min(ten, sliding) > one + 1  # nats, for what really came next
assert (past[1:, 0, 0] > 0.6).all() and np.abs(past[1:, 0, 1]).max() < 0.1

# %%
values, t = strokes.train.values, strokes.train.time()
right = (values[:, 0] > 0.6) & (np.abs(values[:, 1]) < 0.1) & (values[:, 2] == 0)
follows = np.flatnonzero(right[:-1] & (t[:-1] > 0)) + 1
figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), sharex=True, sharey=True)
axes[0].plot(*values[follows, :2].T, ".", color=blue, markersize=3)
axes[0].set(title="Data, after a step to the right", xlim=(-R, R), ylim=(R, -R), aspect="equal")
for place, (name, p) in zip(axes[1:], maps.items()):
    place.imshow(np.log10(p + 1e-9), cmap="gray_r", extent=(-R, R, R, -R), vmin=-2, vmax=2)
    place.set(title=name)
for place in axes:
    place.plot(*star[:2], "*", color=orange, markersize=9)
    place.set(xlabel=r"$\Delta x$")
axes[0].set(ylabel=r"$\Delta y$, downwards")
figure.suptitle(
    "What comes next: log density, from 0.01 (white) to 100 (black); the star is what came", x=0.01, ha="left"
)
assert len(follows) > 1000

# %% [markdown]
# The points of a stroke are evenly spaced, so its steps lie on a **ring**: straight on is the most frequent, and then
# there are bends, down to the sharp corner of a box. One ellipse that is to hold a corner must be wide everywhere.
# Ten Gaussians lie along the ring like beads. The VRNN has only one, but draws $z$ first, and so slides it along the
# ring. Its KL pays for saying where.
#
# With ten Gaussians in the output there is little left to say, and in the table $z$ earns nothing.
#
# ## Ink drawn from the models
#
# A sample has no end: nothing in $p(x)$ says "this character is finished". (The data's lengths are given, not
# modelled.) So each drawing gets the length of some training character and is cut after its last complete stroke.


# %%
def characters(model, n, bias=0.0, seed=0):
    """n drawings, lists of (T_i, 3). bias: how much tidier than the model (0: the model itself)."""
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
rows = [strokes.test[i] for i in range(12)]
for name in (("RNN", 1), ("VRNN", 1), ("RNN", 10), ("VRNN", 10)):
    rows += characters(ink[name], 12)
title = "From above: data; RNN, one Gaussian; VRNN, one Gaussian; RNN, ten; VRNN, ten"
tv.plots.ink(rows, title, columns=12)

# %% [markdown]
# After seconds of training these are characters of no language, but nearly of this script: crosses, boxes, dots and
# sweeps in their usual places. In the lower two rows most strokes are straight and turn sharply; the RNN of one
# Gaussian bends them and smears its corners; the VRNN of one Gaussian stands between, in the picture as in the table.
# (The pictures of one column were drawn with the same noise.)
#
# What no model has learned is the **whole**. Parts stand beside one another that never meet, some lie on top of each
# other, and the lower half is often missing. Five passes over 2,016 characters are not enough for that.
#
# **Tidier than the model.** Graves sharpens the distribution before drawing from it, by a bias $b \ge 0$: logits
# times $1 + b$, deviations times $e^{-b}$. With $b = 0$ it is the model.

# %% tags=["volatile"]
rows = [c for bias in (0.0, 0.5, 2.0) for c in characters(ink["RNN", 10], 12, bias, seed=1)]
tv.plots.ink(rows, "RNN, ten Gaussians. From above: bias 0, 0.5, 2", columns=12)

# %% [markdown]
# A bias makes neater strokes and fewer kinds of characters. It is a good way to make a picture and a bad way to judge
# a model: what is drawn is no longer the distribution whose likelihood was printed.
#
# ## Music
#
# A piano roll: a step is a quarter note, $x_t \in \{0, 1\}^{88}$, 1 where a key is down. The output distribution is a
# Bernoulli for each key, **independent** of one another given $h_{t-1}$ (and $z_t$). But chords are anything but
# independent keys. How much can that cost? Take a world of two chords.
#
# ### Exercise 12.4 (predict): two chords
#
# At each step sounds either C-E-G or D-F-A, each with probability 1/2, whatever came before. There are six keys, and
# a model that gives each key its own probability, as good as can be, independently of the others. How many **nats per
# step** does it lose against the truth?

# %%
prediction = None
### BEGIN SOLUTION
prediction = 5 * np.log(2)  # six coins, where the truth is one
### END SOLUTION

# %%
tv.course.check("12.4", prediction)

# %% [markdown]
# Each key sounds half of the time, so the best independent model is six coins, $6 \log 2$ for any step. The truth is
# one coin, $\log 2$.
#
# Now give the model a $z_t$ that says which chord: a prior of $\tfrac12, \tfrac12$, a decoder that is sure. Then the
# posterior is sure too, and the bound of one step is
#
# $$\underbrace{\log p(x_t \mid z_t)}_{= 0} - \mathrm{KL}(q \,\|\, p) = - \Big( 1 \cdot \log \frac{1}{1/2} + 0 \Big)
# = - \log 2 .$$
#
# That is the truth: nothing is lost. **The KL is the price of naming the chord: one coin in place of six.**
# A sum, over $z$, of independent keys is a distribution of keys that depend on one another.

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
# Bach's four-part chorales come with the extra `tinyvrnn[music]`: the first time, reading them takes half a minute.
# Without it, the next cells say so and do nothing.

# %% tags=["volatile"]
try:
    with contextlib.redirect_stderr(io.StringIO()):  # the bar of the first reading
        bach = tv.load_data("bach")
    print(bach)
except tv.DataError as error:
    bach = None
    print(f"No chorales here: {error}")

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
# As in the world of two chords: the VRNN pays a KL and gets more than that back, and what is printed for it is only a
# bound. Do its samples show it? Count, step by step, three things that independent keys are bad at:
#
# - **a known chord**: exactly these keys sound together somewhere in the training chorales;
# - **three or four keys**: there are four voices, and two may meet on one key;
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
    axes.set_title("z helps the keys to agree. Bach is far away")
    axes.legend()
    rnn_known, vrnn_known = (shares[f"drawn from the {name}"][0] for name in ("RNN", "VRNN"))
    assert rnn_known < vrnn_known < 0.5 < shares["Bach, test"][0]

# %% tags=["volatile"]
if bach:
    rows = np.concatenate([roll[:, :2] for roll in rolls.values()], axis=1)
    display(tv.plots.piano_roll(rows, "From above: Bach; drawn from the RNN; drawn from the VRNN"))

# %% [markdown]
# Both have learned the range of the voices, the scale, and that notes are held. More chords are real ones with $z$
# than without, and still most are not: eight latents and a few seconds do not make a composer.
#
# To listen, write a MIDI file. A key that stays down is one held note.
#
# > **Function** `tinyvrnn.runs.export.write_samples` · **held by**
# > `tests/test_export.py::test_midi_holds_notes_and_rests_between_pieces`

# %% tags=["volatile"]
if bach:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vrnn.mid"
        try:
            export.write_samples(path, rolls["drawn from the VRNN"][:, :2], bach.medium, binary=True)
            print(f"{path.name}: {path.stat().st_size} bytes of music, in a folder that is gone after this cell")
        except tv.ConfigError as error:
            print(f"No file: {error}")

# %% [markdown]
# Or listen right here. Key $k$ is MIDI note $21 + k$; note 69 is the a' of 440 Hz, and twelve notes up are twice the
# frequency: $f = 440 \cdot 2^{(21 + k - 69) / 12}$. Let each key that is down sound as a sine and two overtones.
#
# > **Function** `tinyvrnn.runs.export.write_sound` · **held by**
# > `tests/test_export.py::test_a_wav_holds_the_frames_one_after_another`

# %%
tv.course.show(export.write_sound)

# %%
RATE, SAMPLES = 8000, 2400  # samples a second, and a step: 0.3 s


def waves(roll):
    """Frames of a waveform, (T, n, SAMPLES) between -1 and 1, of piano rolls (T, n, 88)."""
    t = np.arange(len(roll) * SAMPLES) / RATE
    out = np.zeros((roll.shape[1], len(t)))
    for i, k in zip(*np.nonzero(roll.any(axis=0))):
        down = np.convolve(np.repeat(roll[:, i, k], SAMPLES), np.ones(80) / 80, mode="same")  # 10 ms to begin and end
        f = 440 * 2 ** ((k - 48) / 12)
        out[i] += down * sum(np.sin(2 * np.pi * n * f * t) / 2**n for n in (1, 2, 3))
    return np.moveaxis(out.reshape(roll.shape[1], len(roll), SAMPLES), 0, 1) / max(1, np.abs(out).max())


a_and_c = np.zeros((4, 1, 88))
a_and_c[..., [48, 63]] = 1  # an a' and the c that is fifteen keys higher
spectrum = np.abs(np.fft.rfft(waves(a_and_c).ravel()))
loudest = np.sort(np.argsort(spectrum)[-2:]) * RATE / (4 * SAMPLES)
print(f"loudest: {loudest[0]:.0f} and {loudest[1]:.0f} Hz")
assert abs(loudest - [440, 440 * 2 ** (15 / 12)]).max() < RATE / (4 * SAMPLES)

# %% tags=["volatile"]
if bach:  # sixteen steps of Bach, half a second of silence, sixteen steps of the VRNN
    heard = np.concatenate([rolls[name][:16, :1] for name in ("Bach, test", "drawn from the VRNN")], axis=1)
else:  # the two chords of exercise 12.4, in turn
    heard = np.zeros((8, 1, 88))
    for step, chord in enumerate([[39, 43, 46], [41, 44, 48]] * 4):
        heard[step, 0, chord] = 1
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "heard.wav"
    medium = {"name": "sound", "rate": RATE, "full_scale": 1.0}
    export.write_samples(path, waves(heard), medium, binary=False)
    display(Audio(filename=path))

# %% [markdown]
# Where the chorales are there, that is Bach first and then the model. You may hear at once what the bars above say.
#
# ## What to try next
#
# Half a minute is not much. These run from a terminal, and each leaves a folder `runs/...` with curves and samples
# (`tinyvrnn train --help` lists the options):
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
#   does it learn them by heart?
# - **Sound**: a recording of your own, cut into steps of 200 samples as in the paper, gives a `.wav` back. With
#   `wave` an array of samples at 16,000 Hz, `np.savez("speech.npz", x=wave[: n * 40 * 200].reshape(n, 40, 200),
#   sample_rate=16000)` holds $n$ sequences of half a second; then `tinyvrnn train speech.npz` and `tinyvrnn sample
#   runs/speech --out speech.wav`.
# - **Warm-up**: train the VRNN of one Gaussian on ink without it. Where does its bound end up, and why there?
#
# ## What you now know
#
# - A density has a unit, and a log-likelihood moves with it: $T \sum_j \log \sigma_j$. Compare on the same data, in
#   the same unit, and say whether it is a bound.
# - $z$ earns where the output distribution is too simple for the data: one Gaussian for a fork, independent keys for
#   a chord. With a mixture in the output, or data of one bump, there is nothing for it to do, and it does nothing.
# - The KL is a price, not a loss: what counts is what it buys.
# - A difference of two models needs the noise of the test set **and** that of the training beside it.
#
# This was the last notebook. You have derived the bound, checked each line of it, written its gradient, trained the
# model and found out what it is good for. `tinyvrnn course status` shows what is left to do;
# [00 · Start here](00_start_here.ipynb) has the map.
