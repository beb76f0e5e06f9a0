# %% [markdown]
# # 00 · Start here
#
# In this course you build a Variational Recurrent Neural Network (VRNN, Chung et al., 2015,
# [arXiv:1506.02216](https://arxiv.org/abs/1506.02216)), a model that learns a distribution over sequences and draws new
# sequences from it. You derive, compute and check every equation, and you write every gradient by hand.
#
# First, see one at work: run the cells from top to bottom (Shift-Enter), and in five minutes you have samples.
#
# *You need*: NumPy and calculus. *It takes* about 25 min.

# %%
# %matplotlib inline
import time

import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn.course.exercise import Mistake, Task
from tinyvrnn.course.grader import grade

tv.plots.use_style()
blue, orange, green, purple, *_ = tv.plots.COLOURS

# %% [markdown]
# ## A picture is a sequence
#
# Take black-and-white handwritten digits and read each one from top to bottom: it is a sequence of 28 steps, and each
# step is a row of 28 pixels.

# %%
data = tv.load_data("digits")
x, lengths = tv.pad(data.train[:32])
print(data)
print("a batch of 32:", x.shape, "= (steps T, sequences B, pixels of a row X)")
assert x.shape == (28, 32, 28) and set(np.unique(x)) == {0.0, 1.0}

tv.plots.samples(x, binary=True, columns=8, title="32 sequences of the training set")

# %% [markdown]
# ## Your first line
#
# A model says how probable each sequence is. The simplest one says that every pixel is a fair coin. The probabilities
# of independent pixels multiply, so their logarithms add; the unit of a natural logarithm is the **nat**.
#
# ### Exercise 00.1 (write): fair coins
#
# Replace `...` by one line that returns $\log p(x)$ of each of the $B$ sequences, $(B,)$, in nats. A fair coin shows
# either side with probability $\tfrac12$, so only the shape of `x` matters. Then run the cell after it: it grades you.


# %%
def my_coins(x):
    """log p(x) (B,) of sequences x (T, B, X) in which every pixel is a fair coin."""
    ### BEGIN SOLUTION
    return np.full(x.shape[1], x.shape[0] * x.shape[2] * np.log(0.5))
    ### END SOLUTION


# %%
tv.course.check("00.1", my_coins)

# %% [markdown]
# Here $T = 28$ and $X = 28$, so a digit has $784 \log \tfrac12 \approx -543$ nats. That is the score to beat.
#
# ## A model, and its score
#
# A VRNN reads a row, updates its state $h_t$, and predicts the next row. At each step it also draws a latent variable
# $z_t$, which decides what all pixels of the row have in common.

# %%
model = tv.VRNN(x_dim=28, h_dim=80, z_dim=16, seed=0)
print(f"{model.theta.size:,} parameters in one vector; by name: {', '.join(model.params)}")

# %% [markdown]
# How probable are the digits under this model? $\log p(x)$ itself cannot be computed, but a lower bound can: the
# **ELBO**, in nats per sequence. It is the difference of two terms. One call returns the bound, both terms and the
# gradient:

# %%
loss, grads, parts = model.loss_and_grads(x, lengths)
elbo, log_likelihood, kl = (tv.to_host(part).mean() for part in (parts.elbo, parts.log_likelihood, parts.kl))
print(f"before training: ELBO {elbo:.0f} = log-likelihood {log_likelihood:.0f} - KL {kl:.0f} nats per sequence")
print(f"784 fair coins would have {784 * np.log(0.5):.0f}")
assert abs(elbo - (log_likelihood - kl)) < 1e-2 and abs(float(loss) + elbo) < 1e-2 and grads.shape == model.theta.shape
assert elbo < 784 * np.log(0.5)

# %% [markdown]
# Before training, the model is no better than a fair coin for each pixel.
#
# ## Training
#
# Ten epochs over four thousand digits take about half a minute. (With one worker and a fixed seed, the result does not
# depend on the number of cores. By default, `tv.train` uses as many workers as make it faster.)

# %%
start = time.perf_counter()
records = tv.train(model, data, epochs=10, warmup=2, batch=32, lr=6e-3, seed=0, workers=1, progress=False)
seconds = time.perf_counter() - start
assert len(records) == 10 and records[-1]["valid"]["elbo"] > records[0]["valid"]["elbo"]

# %% tags=["volatile"]
print(f"{len(records)} epochs in {seconds:.0f} s")

tv.plots.curves(records, units=data.units)

# %% [markdown]
# Is that good? Score the test digits, which the model has not seen, with it and with two trivial models. One treats
# each pixel independently; the other predicts each pixel from the one above it.

# %%
found = tv.bounds.evaluate_elbo(model, data.test)
print("nats per digit, to the nearest 5:")
print(f"{'VRNN (a lower bound)':24}{5 * round(found.elbo_per_sequence / 5):5d}")
for name, log_p in tv.data.baselines(data).items():
    print(f"{name:24}{5 * round(log_p / 5):5d}")
    assert found.elbo_per_sequence > log_p + 20

# %% [markdown]
# ## Samples
#
# Now let the model draw. For each row it draws $z_t$, draws 28 pixels, and updates its state with both. None of these
# samples is in the training set, and none was hand-picked.

# %%
drawn = tv.to_host(model.sample(n=48, steps=28, seed=0))
known, new = (a.transpose(1, 0, 2).reshape(-1, 784) for a in (tv.pad(data.train)[0], drawn))
apart = known.sum(axis=1) + new.sum(axis=1)[:, None] - 2 * new @ known.T  # number of pixels that differ
print("each sample differs from every training digit")
assert drawn.shape == (28, 48, 28) and apart.min() > 0

# %% tags=["volatile"]
tv.plots.samples(drawn, binary=True, columns=8, title="48 samples of the model")

# %% [markdown]
# After half a minute of training, most of them are digits and some are scrawls. The model knows how strokes continue;
# no model of single pixels does. Give it the upper half of a test digit, and let it draw the lower half, eight times:

# %%
tops, _ = tv.pad(data.test[[3, 7]])
primes = np.repeat(tops[:14], 8, axis=1)  # (14, 16, 28)
continued = tv.to_host(model.sample(steps=14, seed=1, prime=model.backend.asarray(primes)))
assert np.array_equal(continued[:14], primes)

# %% tags=["volatile"]
picture = continued.copy()
picture[:14] *= 0.55  # the given half, in grey
tv.plots.samples(picture, binary=True, columns=8, title="upper half given (grey), lower half drawn")

# %% [markdown]
# That is the whole way from data to samples, and the rest of the course takes it apart. The model and its gradients fit
# on one page of plain NumPy, `tinyvrnn/one_page.py`: read it first, and keep it open beside the notebooks
# (`python -m tinyvrnn.one_page` trains it and draws eight small digits).
#
# ## The map
#
# The paper has eleven equations. Each has a function in the package and a notebook that derives it. Read the map from
# left to right: two older models, the parts of the VRNN, the bound that joins them, and what you can do with the bound.
# The numbers below the boxes are those of the notebooks.

# %%
boxes = {  # name: (across, up, text, notebook)
    "rnn": (0, 2, "Eq. 1, 2\nthe RNN", "01"),
    "vae": (0, 0, "Eq. 3, 4\nthe VAE", "02"),
    "gen": (1, 2, "Eq. 5, 6, 7\nprior,\ngeneration,\nrecurrence", "03"),
    "inf": (1, 0, "Eq. 9\ninference", "04"),
    "joint": (2, 2, "Eq. 8\nthe joint\np(x, z)", "03"),
    "q": (2, 0, "Eq. 10\nposterior\nq(z | x)", "04"),
    "elbo": (3, 1, "Eq. 11\nthe ELBO", "05"),
    "grad": (4, 2, "its gradient,\nby hand", "06, 07"),
    "tight": (4, 0, "its gap\nto log p(x)", "09, 14"),
    "train": (5, 2, "training,\nspeech,\nink, notes", "08, 12"),
    "wrong": (5, 0, "bugs,\nbackends", "10, 11"),
}
arrows = "rnn-gen vae-gen vae-inf gen-joint inf-q joint-elbo q-elbo elbo-grad elbo-tight grad-train grad-wrong".split()

figure, axes = plt.subplots(figsize=(7.4, 3.4))
for start, end in (arrow.split("-") for arrow in arrows):
    style = {"arrowstyle": "-|>", "color": "0.45", "shrinkA": 32, "shrinkB": 36, "mutation_scale": 12}
    axes.annotate("", boxes[end][:2], boxes[start][:2], arrowprops=style)
for across, up, text, notebook in boxes.values():
    colour = (blue, green, green, orange, purple, purple)[across]
    frame = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": colour, "linewidth": 2}
    axes.text(across, up, text, ha="center", va="center", fontsize=9, bbox=frame)
    axes.text(across, up - 0.72, notebook, ha="center", va="center", fontsize=10, color=colour, weight="bold")
axes.set(xlim=(-0.45, 5.45), ylim=(-0.9, 2.7), title="From two older models to the ELBO, and what you can do with it")
axes.axis("off");

# %% [markdown]
# | Eq. | what it says | notebook | function |
# |---|---|---|---|
# | 1 | $h_t = f(x_t, h_{t-1})$ | [01] | `tinyvrnn.models.equations.remember_forward` |
# | 2 | $p(x_t \mid x_{\lt t}) = g(h_{t-1})$ | [01] | `tinyvrnn.models.equations.predict_forward` |
# | 3 | the bound of a VAE | [02] | `tinyvrnn.models.vae.VAE` |
# | 4 | $z = \mu + \sigma \epsilon$ | [02] | `tinyvrnn.distributions.gaussian.reparameterise_forward` |
# | 5 | prior of $z_t$, from $h_{t-1}$ | [03] | `tinyvrnn.models.equations.prior_forward` |
# | 6 | generation of $x_t$, from $z_t, h_{t-1}$ | [03] | `tinyvrnn.models.equations.generate_forward` |
# | 7 | $h_t = f(x_t, z_t, h_{t-1})$ | [03] | `tinyvrnn.models.equations.recur_forward` |
# | 8 | the joint $p(x, z)$ | [03] | `tinyvrnn.models.sampling.sample_step` |
# | 9 | inference of $z_t$, from $x_t, h_{t-1}$ | [04] | `tinyvrnn.models.equations.infer_forward` |
# | 10 | the posterior $q(z \mid x)$ | [04] | `tinyvrnn.models.schedule.loop_forward` |
# | 11 | the ELBO | [05] | `tinyvrnn.models.schedule.sequence_forward` |
#
# Then [06](06_backward_by_hand_1.ipynb) and [07](07_backward_by_hand_2.ipynb): its gradient, by hand;
# [08](08_training.ipynb): training; [09](09_how_tight.ipynb): how tight the bound is, which
# [14](14_tighter_bounds.ipynb) continues;
# [10](10_one_code_two_backends.ipynb): the same code on a GPU; [11](11_the_bug_museum.ipynb): fourteen bugs, and which
# checks catch them; [12](12_speech_handwriting_music.ipynb): speech, handwriting, music. You can read 09 to 12 in any
# order, or skip them. In [13](13_your_vrnn.ipynb) the functions that you wrote in 01 to 08 become a VRNN of your own,
# which trains and draws digits.
#
# [01]: 01_sequences_and_the_rnn.ipynb
# [02]: 02_the_vae.ipynb
# [03]: 03_the_generative_story.ipynb
# [04]: 04_the_approximate_posterior.ipynb
# [05]: 05_the_elbo_line_by_line.ipynb
#
# ## How a notebook works
#
# Each cell has one idea. A cell can show the source of a function, so that you read the code that runs.

# %%
tv.course.show(tv.distributions.gaussian.reparameterise_forward)

# %% [markdown]
# > **Function** `tinyvrnn.distributions.gaussian.reparameterise_forward` · **held by**
# > `tests/test_distributions.py::test_reparameterised_draws_have_mean_mu_and_deviation_sigma`
#
# Each function is listed with the test that guards it, and an `assert` in a cell checks each number in the text. Code
# that only draws a picture is folded; click to see it.
#
# Text and code use the paper's notation:
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_t$ | the observation at step $t$: a row, a frame of sound | `x` $(T, B, X)$, time first |
# | $z_t$ | the latent variable | `z` $(T, B, Z)$ |
# | $h_t$ | the state: everything the model remembers | `h` $(T, B, H)$ |
# | $\epsilon_t$ | the noise from which $z_t$ is computed | `eps` $(T, B, Z)$ |
# | $\mu, \sigma$ | mean and **standard deviation** of a Gaussian, never a variance | that of its variable |
# | $da$ | $\partial L / \partial a$, the gradient of a loss $L$ | that of $a$ |
#
# ## How an exercise works
#
# An exercise has a gap to fill, `...  # YOUR CODE HERE`. The cell after the gap grades your code, e.g.
# `tv.course.check("00.1", my_coins)` above. What if an answer is wrong? Here is a small exercise made up for this page,
# with a wrong answer: *given $y = a^2$, elementwise, and the gradient $dy$, write $da$*.

# %%
demo = Task(
    title="the square",
    kind="derive",
    reference=lambda a, dy: 2 * a * dy,
    draw=lambda rng: tuple(rng.standard_normal((2, rng.integers(2, 6), 4))),
    names=("da",),
    mistakes=(Mistake("A factor of the chain rule is missing: where does dy enter?", lambda a, dy: 2 * a),),
)


def my_square_backward(a, dy):
    return 2 * a


try:
    grade("demo", demo, my_square_backward)
except tv.course.NotYet as hint:
    print(hint)

# %% [markdown]
# The hint points to the cause without giving the answer away. (It usually appears in a box below the cell, with a call
# of `tv.course.case` that returns the arguments on which your function failed.) The corrected function:


# %%
def my_square_backward(a, dy):
    return 2 * a * dy


grade("demo", demo, my_square_backward)

# %% [markdown]
# The grader calls your function with random arguments of several sizes and with hard cases, in float64 and in float32.
# It compares values and shapes with the correct ones, and checks that your function does not modify its arguments. If
# your function raises an error, never returns, or returns nothing, a message says so. Try as often as you like.
#
# Your progress is stored in the folder `.tinyvrnn`, inside the folder that `tinyvrnn course start` has made or, without
# it, inside your home folder. To print your progress, run `tinyvrnn course status` in a terminal, or

# %%
print("\n".join(tv.course.status().splitlines()[:-1]))

# %% [markdown]
# ## What you will be able to do
#
# - derive the bound of a VRNN line by line, and name the assumption behind each line;
# - write the backward pass of each of its parts, with a check that catches a wrong one;
# - train a VRNN, read its learning curves, and recognise a dead latent variable;
# - say how loose the bound is, in nats, where the exact answer is known;
# - find the bugs that keep appearing in public code for such models.
#
# You need NumPy and calculus, above all the chain rule. A good pace is one notebook an evening.
#
# ## What you now know
#
# - A VRNN learns a distribution over sequences and draws from it, one step at a time.
# - Its score is the ELBO, a lower bound of $\log p(x)$: log-likelihood minus KL, in nats per sequence.
# - You know which notebook covers each equation, and how your answers are graded.
#
# On to [01 · Sequences and the plain RNN](01_sequences_and_the_rnn.ipynb).
