# %% [markdown]
# # 11 · The bug museum
#
# Fourteen bugs of kinds found in public VRNN and VAE code, rebuilt here in a few lines each. None of them stops the
# program, and most let the loss fall as it should. For each exhibit: read the code, write down a guess, run the checks,
# and only then read the explanation. In the last room all checks run on all bugs.
#
# *You need*: [05](05_the_elbo_line_by_line.ipynb) for the bound, [06](06_backward_by_hand_1.ipynb) for the numerical
# gradient check. *It takes* about 1 h 30 min.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn.course import museum

tv.plots.use_style()
blue, red, green, *_ = tv.plots.COLOURS

# %% [markdown]
# ## The model
#
# All exhibits are parts of one small VRNN that models a pen. A frame $x_t$ is a position (Gaussian) and a pen-up flag
# (a coin), $z_t$ has two dimensions, and every network is one linear layer. The code follows the habits of public code:
# heads output log-variances $s = \log \sigma^2$, and gradients come from automatic differentiation.
#
# The forward pass is Eq. 5, 6, 7 and 9 in a loop. Every part called as `program.…` can be replaced, one at a time.

# %%
tv.course.show(museum.terms)

# %% [markdown]
# One line replaces automatic differentiation: move $\theta$ by a tiny **imaginary** step, and the derivative appears as
# the imaginary part,
#
# $$f(\theta + i h v) = f(\theta) + i h \, \nabla f \cdot v - \tfrac12 h^2 \, v^\top \nabla^2 f \, v + \dots
# \qquad \frac{\mathrm{Im}\, f(\theta + i h v)}{h} = \nabla f \cdot v + O(h^2) .$$
#
# Nothing is subtracted, so $h$ may be $10^{-30}$ and every digit is correct. PyTorch's `detach` corresponds to dropping
# the imaginary part: it keeps the value and removes the derivative.
#
# > **Function** `tinyvrnn.course.museum.slope` · **held by**
# > `tests/test_museum.py::test_a_complex_step_is_the_derivative_and_a_detached_part_has_none`

# %%
tv.course.show(museum.slope)

# %% [markdown]
# ## The checks
#
# There are fourteen checks. Each takes a program and raises an `AssertionError` if it finds a fault. The correct
# program passes all of them.

# %%
assert not any(museum.sees(name, right) for name in museum.CHECKS for right in (museum.RIGHT, museum.RIGHT_LSTM))
print("\n".join(f"{name:16} {' '.join(check.__doc__.split())}" for name, check in museum.CHECKS.items()))

# %% [markdown]
# One of them needs an explanation. In the **exact case** the weights are set by hand so that $\log p(x)$ is known:
#
# $$z_t \sim \mathcal N(w^\top h_{t-1}, 1), \qquad \text{position}_t \sim \mathcal N(z_t, \tfrac12)
# \quad\Rightarrow\quad \text{position}_t \mid x_{\lt t} \sim \mathcal N(w^\top h_{t-1}, \tfrac32),$$
#
# where $h_{t-1}$ depends on past frames only (no weight leads from $z$ to it). A product of two Gaussians in $z_t$ is a
# Gaussian, so the posterior is known too, with the gain $k = 1 / (1 + \frac12)$:
#
# $$z_t \mid x_{\le t} \sim \mathcal N\big((1 - k)\, w^\top h_{t-1} + k \, \text{position}_t, \; \tfrac12 k\big) .$$
#
# The weights of `infer` are set to exactly this posterior. A bound is tight at the exact posterior, so the ELBO must
# equal $\log p(x)$ up to the noise of the draws. The right-hand side is computed one scalar at a time, by code that is
# independent of the program.

# %%
elbos, log_p = museum.elbos_and_log_p(museum.RIGHT)
error = elbos.std() / len(elbos) ** 0.5
print(f"log p(x) {log_p:.3f}, ELBO {elbos.mean():.3f} with a standard error of {error:.3f}: nats per sequence")
assert abs(elbos.mean() - log_p) < 4 * error

# %% [markdown]
# ## Room 1: the Gaussian
#
# ### Exhibit 1 · Standard deviation computed as exp(log_var)
#
# This first exhibit is explained right away. From the next one on, guess before you read the explanation.

# %%
tv.course.show(museum.draw_with_exp_log_var)

# %% [markdown]
# - **What it says.** $z = \mu + e^{s} \epsilon$ with $s = \log \sigma^2$: the noise is multiplied by the variance.
# - **Why people write it.** $e^{\log \text{something}}$ is something, and the factor $\frac12$ looks like clutter.
# - **What it does.** At $s = 0$, where training begins, nothing: $1^2 = 1$. For $s < 0$ the draws are too narrow, for
#   $s > 0$ too wide.

# %%
sigma, eps = np.geomspace(0.1, 3, 25), np.random.default_rng(0).standard_normal((5000, 1))
drawn = {f.__name__: f(0.0, 2 * np.log(sigma), eps).std(axis=0) for f in (museum.draw, museum.draw_with_exp_log_var)}

figure, axes = plt.subplots(figsize=(5.4, 3.3))
axes.loglog(sigma, drawn["draw"], "-", color=green, label="right")
axes.loglog(sigma, drawn["draw_with_exp_log_var"], "o--", color=red, markersize=4, label="exp(log_var)")
axes.axvline(1, color="0.8", zorder=0)
axes.set(
    xlabel=r"$\sigma$ in the KL", ylabel="standard deviation of the draws", title="They agree where training begins"
)
axes.legend()

np.testing.assert_allclose(drawn["draw_with_exp_log_var"], sigma**2 * eps.std())
np.testing.assert_allclose(drawn["draw"], sigma * eps.std())

# %% [markdown]
# **The fixed line:** `std = np.exp(0.5 * log_var)`. Better still, use $\sigma$ itself, as this package does: then there
# is no factor to forget. **Which check sees it?**

# %%
print(museum.verdict("std drawn as exp(log_var)"))
assert museum.seen_by("std drawn as exp(log_var)") == {"moments", "exact case", "samples"}

# %% [markdown]
# The gradient check misses it: automatic differentiation correctly differentiates the wrong formula. You will see this
# again.
#
# > **Function** `tinyvrnn.distributions.gaussian.reparameterise_forward` · **held by**
# > `tests/test_distributions.py::test_reparameterised_draws_have_mean_mu_and_deviation_sigma`
#
# ### Exhibit 2 · The KL without its -1

# %%
tv.course.show(museum.kl_without_its_1)

# %% [markdown]
# **Your guess.** Which gradients does the missing $-1$ change? Which number does it change? Go through the list of
# checks above, and note the names of those that will fail.

# %%
print(museum.verdict("KL without its -1"))

# %% [markdown]
# - **What it says.** $\frac12 \sum \big(s_0 - s_z + (e^{s_z} + (\mu_z - \mu_0)^2) / e^{s_0}\big)$.
# - **Why people write it.** The $-1$ is a constant. It changes no gradient, so the trained model is the same.
# - **What it does.** The KL of two equal distributions should be 0. Here it is $\frac12$ per latent dimension.

# %%
same = np.full((2, museum.Z), 0.7)
wrong_kl, right_kl = museum.kl_without_its_1(*same, *same), museum.kl(*same, *same)
print(f"KL(q || q): {wrong_kl:.1f} without the -1, {right_kl:.1f} with it; latent dimensions: {museum.Z}")
assert abs(wrong_kl - museum.Z / 2) < 1e-12 and abs(right_kl) < 1e-12

s_z, other = np.array([0.3, -1.0]), np.array([0.1, 0.4])


def constant(s):
    """The difference of the two KLs, as a function of the log-variances of q."""
    return museum.kl_without_its_1(other, s, *same) - museum.kl(other, s, *same)


assert abs(museum.slope(constant, s_z, np.ones(2))) < 1e-12  # no gradient changes
assert museum.seen_by("KL without its -1") == {"Monte Carlo KL", "exact case"}

# %% [markdown]
# Half a nat per dimension looks harmless. With 200 latent dimensions it is 100 nats for **every step**, in a number
# that will be compared with other people's.
#
# **The fixed line:** `return 0.5 * (log_var_0 - log_var_z + ratio - 1).sum(axis=-1)`.
#
# > **Function** `tinyvrnn.distributions.gaussian.gaussian_kl_forward` · **held by**
# > `tests/test_planted.py::test_a_planted_mistake_makes_the_check_fail`
#
# ### Exhibit 3 · ReLU on a log-variance

# %%
tv.course.show(museum.log_var_by_relu)

# %% [markdown]
# **Your guess.** The ReLU follows the heads of prior and posterior. Which values of $\sigma$ are possible now, and
# which are not? Which check would notice?

# %%
print(museum.verdict("ReLU on a log-variance"))

# %% [markdown]
# - **What it says.** The head for $s = \log \sigma^2$ ends in a ReLU, like all other layers of the network.
# - **Why people write it.** A helper builds "linear, then ReLU", and the head was built with that helper. Or: a
#   variance must be positive, and the ReLU ensures that. But this is the **log**-variance, which may well be negative.
# - **What it does.** Always $\sigma \ge 1$, and wherever the head outputs $s < 0$, its gradient is 0, so training
#   cannot correct it for that input.

# %%
s = np.linspace(-4, 3, 141)
figure, axes = plt.subplots(figsize=(5.4, 3.3))
axes.plot(s, np.exp(0.5 * museum.log_var_of(s)), "-", color=green, label="right")
axes.plot(s, np.exp(0.5 * museum.log_var_by_relu(s)), "--", color=red, label="with ReLU")
axes.axhline(3**-0.5, color="0.6", linestyle=":")
axes.annotate(r"$\sigma$ of the exact posterior", (-0.9, 3**-0.5), (-0.8, 0.15), color="0.35")
axes.set(xlabel="output of the head, s", ylabel=r"$\sigma$", title="No standard deviation below 1", ylim=(0, 4.6))
axes.legend()

slopes = [museum.slope(lambda v: museum.log_var_by_relu(v).sum(), np.array([at]), np.ones(1)) for at in (-2.0, 2.0)]
assert slopes == [0.0, 1.0] and np.exp(0.5 * museum.log_var_by_relu(s)).min() == 1.0
assert museum.seen_by("ReLU on a log-variance") == {"moments", "exact case"}

# %% [markdown]
# **The fixed line:** `log_var = s`.
#
# > **Function** `tinyvrnn.distributions.gaussian.sigma_of` · **held by**
# > `tests/test_distributions.py::test_sigma_never_falls_below_its_floor`
#
# ### Exercise 11.1 (predict): above or below?
#
# In the exact case the ELBO should be $\log p(x)$, and each of the three bugs moves it. In which direction? Answer with
# three words, in the order of the exhibits, each `"above"` or `"below"`. Two facts help: the exact posterior has
# $\sigma_z < 1$, and a correctly computed bound never exceeds $\log p(x)$. With which of the three
# bugs is the result still a true bound?

# %%
prediction = None
### BEGIN SOLUTION
prediction = ("above", "below", "below")
### END SOLUTION

# %%
tv.course.check("11.1", prediction)

# %%
gaps, lines = {}, []
for bug in list(museum.EXHIBITS)[:3]:
    elbos, log_p = museum.elbos_and_log_p(museum.EXHIBITS[bug][0])
    gaps[bug], error = elbos.mean() - log_p, elbos.std() / len(elbos) ** 0.5
    lines.append(f"{bug:26} ELBO - log p(x) = {gaps[bug]:6.2f} ± {error:.2f} nats per sequence of 6 steps")
    assert abs(gaps[bug]) > 4 * error
print("\n".join(lines))
assert gaps["std drawn as exp(log_var)"] > 0 > max(gaps["KL without its -1"], gaps["ReLU on a log-variance"])

# %% [markdown]
# The first bug makes the number **better**: it draws from a narrow $q$ and pays the KL of a wide one. Such a bug
# survives, since nobody questions good news. With the ReLU the program computes a true bound, for a poor $q$, so no
# check of the bound's validity can detect it. It takes a case with a known answer.
#
# ## Room 2: the likelihood
#
# ### Exhibit 4 · log(1 - p - eps)

# %%
tv.course.show(museum.log_coin_of_probabilities)

# %% [markdown]
# `a` is the logit, `sigmoid(a)` the probability of $x = 1$.
#
# **Your guess.** Take $x = 0$ and let $a$ grow. When does something go wrong, and what? Which check sees it?

# %%
print(museum.verdict("log(1 - p - eps)"))

# %% [markdown]
# - **What it says.** The Bernoulli log-density computed from the probability $p$, with $\varepsilon$ against $\log 0$.
# - **Why people write it.** $\log(p + \varepsilon)$ is safe, so $\log(1 - p - \varepsilon)$ looks like its counterpart.
#   It is not: as $p \to 1$ its argument becomes **negative**. It should be $1 - p + \varepsilon$, and even that is only
#   a workaround.
# - **What it does.** Nothing, for hours. Then the model becomes certain about one pixel, and the loss is NaN.

# %%
a = np.linspace(-40, 40, 321)
with np.errstate(invalid="ignore"):
    wrong = museum.log_coin_of_probabilities(np.zeros_like(a), a)
right = -np.log1p(np.exp(a))

figure, axes = plt.subplots(figsize=(5.8, 3.3))
axes.plot(a, right, "-", color=green, label="right")
axes.plot(a, wrong, "--", color=red, label="log(1 - p - eps)")
axes.axvspan(a[np.isnan(wrong)].min(), 40, color="0.9", zorder=0)
axes.text(39, -4, "NaN", color=red, ha="right")
axes.set(xlabel="logit a", ylabel="log p(x = 0), nats", title="NaN from a logit of about 23 on")
axes.legend(loc="lower left")

print(f"first NaN at a = {a[np.isnan(wrong)].min():.2f}; log(1e10) = {np.log(1e10):.2f}")
assert np.isnan(wrong[a > 24]).all() and np.isfinite(wrong[a < 22]).all()
assert np.float32(1) - np.float32(1e-10) == 1  # float32 has no digits for this epsilon
assert museum.seen_by("log(1 - p - eps)") == {"extremes"}

# %% [markdown]
# In float32 it is worse: $1 - 10^{-10}$ **is** 1 there, so the $\varepsilon$ has no effect at all on that side.
#
# Even the exact case misses it: its coin is never that certain. A check sees only the inputs it is given, so give it
# extreme ones.
#
# ### Exercise 11.2 (bug): the coin
#
# Fix it. With $p = 1 / (1 + e^{-a})$, write $\log p$ and $\log (1 - p)$ in terms of $\mathrm{softplus}$, and compute $x
# \log p + (1 - x) \log (1 - p)$ without $p$, accurately for logits up to $\pm 800$. `x` contains zeros and ones.


# %%
def my_log_coin(x, a):
    """log p (...) of x (...) given logits a (...), elementwise."""
    ### BEGIN SOLUTION
    # log p = a - softplus(a) and log(1 - p) = -softplus(a)
    softplus = np.maximum(a, 0) + np.log1p(np.exp(-abs(a)))
    return x * a - softplus
    ### END SOLUTION


# %%
tv.course.check("11.2", my_log_coin)

# %% [markdown]
# > **Function** `tinyvrnn.distributions.bernoulli.bernoulli_log_density_forward` · **held by**
# > `tests/test_planted.py::test_a_planted_mistake_makes_the_check_fail`
#
# ### Exhibit 5 · The target shifted by one step

# %%
tv.course.show(museum.next_step)

# %% [markdown]
# `target` is what the decoder's output is compared with. Everything else reads `x` as before.
#
# **Your guess.** What does the decoder have to predict at step $t$ now, and what does its $z_t$ encode? Three of the
# checks fail. Which? (One is predictable; the other two react to an effect at the sequence's end.)

# %%
print(museum.verdict("target shifted by a step"))

# %% [markdown]
# - **What it says.** At step $t$ the decoder is scored on $x_{t+1}$, while $q(z_t \mid x_{\le t}, z_{\lt t})$ has seen
#   $x_t$.
# - **Why people write it.** A language model reads $x_t$ and predicts $x_{t+1}$: `inputs, targets = x[:-1], x[1:]`. In
#   a VRNN the shift is already built in: $h_{t-1}$ ends at $x_{t-1}$, and $z_t$ encodes $x_t$.
# - **What it does.** The KL pays for information about $x_t$, but the decoder needs information about $x_{t+1}$. In the
#   exact case, where $q$ is the posterior given $x_t$, that costs nats immediately.

# %%
elbos, log_p = museum.elbos_and_log_p(museum.RIGHT)
shifted, _ = museum.elbos_and_log_p(museum.RIGHT._replace(target=museum.next_step))
print(f"log p(x) {log_p:.2f}; ELBO {elbos.mean():.2f}, shifted {shifted.mean():.2f}: nats per sequence of 6 steps")
assert shifted.mean() < log_p - 1
assert museum.seen_by("target shifted by a step") == {"exact case", "batch = singles", "padding"}

# %% [markdown]
# The batch check and the padding check see it because of the sequence's end: the last frame of a short sequence gets a
# target from the padding.
#
# **The fixed line:** `return x`.
#
# > **Function** `tinyvrnn.models.schedule.sequence_forward` · **held by**
# > `tests/test_schedule.py::test_later_steps_do_not_change_earlier_terms`
#
# ## Room 3: the state
#
# ### Exhibit 6 · The cell state instead of h

# %%
tv.course.show(museum.read_c)

# %% [markdown]
# `read` selects the part of an LSTM's state, the pair $(h, c)$ with $h = o \tanh(c)$, that encoder, decoder and prior
# read.
#
# **Your guess.** $h$ and $c$ have the same shape, and both depend on the past. What goes wrong, if anything? Which
# check would notice?

# %%
print(museum.verdict("cell state in place of h"))

# %% [markdown]
# - **What it says.** Encoder, decoder and prior read the LSTM's memory $c$ instead of its output $h = o \tanh(c)$.
# - **Why people write it.** PyTorch's LSTM returns `(h, c)`, TensorFlow's state was `(c, h)`. Both have the same shape.
# - **What it does.** Both summarise the past, so everything works, a little worse: $|h| < 1$, while $c$ can grow with
#   every step, and with it everything that is computed from it.

# %%
weights = tv.params.views(np.zeros(museum.random_theta().size), museum.SHAPES)
in_gate, forget, out, candidate = 2, 6, 1, 1  # a cell that adds up: the forget gate is almost open
weights["lstm"]["b"][...] = np.repeat([in_gate, forget, out, candidate], museum.H)
state, seen = (np.zeros((1, museum.H)), np.zeros((1, museum.H))), {"h": [], "c": []}
for _ in range(60):
    state = museum.lstm(weights, np.zeros((1, museum.X + museum.Z)), state)
    seen["h"].append(state[0].max())
    seen["c"].append(state[1].max())

figure, axes = plt.subplots(figsize=(5.4, 3.1))
axes.plot(seen["h"], "-", color=green, label="h, which the networks should read")
axes.plot(seen["c"], "--", color=red, label="c, which they do read")
axes.set(xlabel="step t", ylabel="largest entry", title="h stays below 1; c is unbounded")
axes.legend()

assert max(seen["h"]) < 1 < 20 < seen["c"][-1]
assert museum.seen_by("cell state in place of h") == {"exact case"}

# %% [markdown]
# **The fixed line:** `h, c = state`.
#
# Only an independent second computation sees it: the exact case computes $h$ with its own LSTM, one scalar at a time.
# (When this exhibit was first built, the matrix at the end showed **no** check for this bug. The reason: the exhibit
# itself was wrong and read $h$ after all. If no check sees a bug, there may be no bug.)
#
# > **Function** `tinyvrnn.nn.gru.gru_forward` · **held by**
# > `tests/test_equations.py::test_gru_equals_a_loop_over_scalars`
#
# ### Exhibit 7 · A GRU that ignores its biases

# %%
tv.course.show(museum.gru_without_bias)

# %% [markdown]
# **Your guess.** Is the gradient of the biases correct? What can this cell not do? Two checks fail: one that knows what
# the state should be, and one that needs the state for something.

# %%
print(museum.verdict("GRU without bias"))

# %% [markdown]
# - **What it says.** The biases are created, saved, counted and trained, but not used.
# - **Why people write it.** `bias=False` was the default in a cell that was copied; or the biases got lost when the six
#   products were merged into two.
# - **What it does.** On inputs of zeros the state stays at zero. The cell cannot count, wait, or start by itself.

# %%
theta = museum.random_theta()


def slope_of_loss(program, v, x, eps, lengths):
    """The slope of a program's loss at theta, in the direction v."""
    return museum.slope(lambda th: museum.loss(program._replace(kept={}), th, x, eps, lengths), theta, v)


for cell in (museum.gru, museum.gru_without_bias):
    state = museum.zeros(museum.RIGHT, 1)
    for _ in range(20):
        state = cell(tv.params.views(theta, museum.SHAPES), np.zeros((1, museum.X + museum.Z)), state)
    print(f"{cell.__name__:17} state after 20 frames of zeros: {np.round(state[0][0], 2) + 0.0}")
assert not state[0].any()

biases = np.zeros_like(theta)
for name in "bc":
    tv.params.views(biases, museum.SHAPES)["gru"][name][...] = 1
wrong, right = (slope_of_loss(program, biases, *museum.batch()) for program in museum.EXHIBITS["GRU without bias"])
print(f"slope of the loss in the direction of all GRU biases: {wrong:.4f} without, {right:.4f} with them")
assert wrong == 0 != right
assert museum.seen_by("GRU without bias") == {"exact case", "samples"}

# %% [markdown]
# A gradient that is **exactly** zero deserves a look: it means that the parameter does not occur in the formula. The
# numerical check agrees with it, of course.
#
# **The fixed line:** `return gru_forward(p["gru"], x, h)[0], c`.
#
# > **Function** `tinyvrnn.nn.gru.gru_forward` · **held by**
# > `tests/test_planted.py::test_the_gradient_check_alone_would_not_see_it`
#
# ### Exhibit 8 · The state carried over between unrelated sequences

# %%
tv.course.show(museum.last_state)

# %% [markdown]
# `start` returns the state before the first step of a batch; `kept` is what the object stores between calls, like
# `self.hidden`.
#
# **Your guess.** What does the loss of a batch depend on now? Four checks fail, two of them by accident.

# %%
print(museum.verdict("state carried over"))

# %% [markdown]
# - **What it says.** A batch starts from the final state of the previous batch.
# - **Why people write it.** For one long text cut into pieces it is correct, and the code came from there.
# - **What it does.** Row 3 of this batch begins with the final state of row 3 of the previous batch, an unrelated
#   sequence. The loss of a sequence depends on the batches before it, and a test score on the order of the test set.

# %%
x, eps, lengths = museum.batch(T=6)
for name, start in (("carried", museum.last_state), ("zeros", museum.zeros)):
    program = museum.RIGHT._replace(start=start, kept={})
    losses = [museum.loss(program, theta, x, eps, lengths) for _ in range(4)]
    print(f"{name:8} the loss of one batch, four times: {np.round(losses, 4)}")
    assert (len(set(losses)) == 1) == (name == "zeros")
assert museum.seen_by("state carried over") == {"gradient", "long gradient", "batch = singles", "same again"}

# %% [markdown]
# The gradient checks see it by accident: if the loss changes from call to call, a difference of two losses is
# meaningless.
#
# **The fixed line:** `return zeros(program, B)`.
#
# > **Function** `tinyvrnn.models.schedule.loop_forward` · **held by**
# > `tests/test_schedule.py::test_batches_are_unrelated`
#
# ### Exercise 11.3 (bug): one state, many sequences
#
# Many data sets concatenate their sequences into long tracks: `x` $(T, B, D)$ has $B$ tracks, and `first` $(T, B)$ is
# `True` where the frame is the first of a new sequence. This RNN carries its state across those boundaries:


# %%
def glued_states(W, U, b, first, x):
    h, hs = np.zeros((x.shape[1], len(b)), dtype=x.dtype), []
    for t in range(len(x)):
        h = np.tanh(x[t] @ W + h @ U + b)
        hs.append(h)
    return np.stack(hs)


# %% [markdown]
# Fix it: each sequence must begin with the state 0, in its own track, without affecting the other tracks.


# %%
def my_states(W, U, b, first, x):
    """h (T, B, H) from x (T, B, D), W (D, H), U (H, H), b (H,), first (T, B) of True and False."""
    ### BEGIN SOLUTION
    h, hs = np.zeros((x.shape[1], len(b)), dtype=x.dtype), []
    for t in range(len(x)):
        h = np.where(first[t][:, None], 0, h)
        h = np.tanh(x[t] @ W + h @ U + b)
        hs.append(h)
    return np.stack(hs)
    ### END SOLUTION


# %%
tv.course.check("11.3", my_states)

# %% [markdown]
# ### Exhibit 9 · Truncated backpropagation, and a test that cannot see it

# %%
tv.course.show(museum.cut)

# %% [markdown]
# `WINDOW` is 5: the state is detached every five steps. The author did write a gradient check. Its sequences have 4
# steps, because unit tests should be fast.
#
# ### Exercise 11.4 (predict): which checks see the cut?
#
# Which of these five fail? Answer with a set of names: `"loss falls"`, `"gradient"` (4 steps), `"long gradient"` (15
# steps), `"exact case"`, `"same again"`.

# %%
prediction = None
### BEGIN SOLUTION
prediction = {"long gradient"}
### END SOLUTION

# %%
tv.course.check("11.4", prediction)

# %%
print(museum.verdict("truncated backpropagation"))

# %% [markdown]
# - **What it says.** Every five steps values pass and gradients stop.
# - **Why people write it.** On purpose, to save memory on long sequences; or through a leftover `.detach()` or `.data`.
# - **What it does.** The loss is correct. The gradient is that of another function, in which no dependency is longer
#   than five steps. The model cannot learn dependencies over a longer span.

# %%
wrong, right = museum.EXHIBITS["truncated backpropagation"]
spans, off = np.arange(1, 21), []
for T in spans:
    rng = np.random.default_rng(1)
    x, eps = rng.standard_normal((T, 3, museum.X)), rng.standard_normal((T, 3, museum.Z))
    v, full = rng.standard_normal(theta.size), np.full(3, T)
    own, true = (slope_of_loss(program, v, x, eps, full) for program in (wrong, right))
    off.append(abs(own - true) / abs(true))

figure, axes = plt.subplots(figsize=(5.8, 3.2))
axes.semilogy(spans, np.maximum(off, 1e-16), "o-", color=red, markersize=4)
axes.axvline(4, color="0.6", linestyle=":")
axes.text(3.8, 1e-9, "the length of\nthe unit test", color="0.35", ha="right")
axes.set(xlabel="steps T of the sequences", ylabel="relative error of the slope", title="Correct up to step five")
axes.set_xticks(range(0, 21, 5))

assert museum.WINDOW == 5 and max(off[: museum.WINDOW]) < 1e-14 and min(off[museum.WINDOW :]) > 1e-6
assert museum.seen_by("truncated backpropagation") == {"long gradient"}

# %% [markdown]
# **The fixed line:** `return state`; or, if the truncation is on purpose, a test with sequences longer than one window,
# and a name for the result other than "the gradient".
#
# > **Function** `tinyvrnn.models.schedule.loop_backward` · **held by**
# > `tests/test_schedule.py::test_batched_schedule_equals_the_literal_steps`
#
# ## Room 4: sampling
#
# ### Exhibit 10 · Means fed back instead of samples

# %%
tv.course.show(museum.feed_mean)

# %% [markdown]
# `feed` is called after each step of sampling: it decides whether the drawn $x_t$ or its mean enters the next state.
#
# **Your guess.** What do the sequences look like if the coins are 0 or 1? Which check could see it, given that training
# never samples from the decoder?

# %%
print(museum.verdict("means fed back"))

# %% [markdown]
# - **What it says.** After each step the model is fed $E[x_t]$ instead of the $x_t$ that was drawn.
# - **Why people write it.** Means look smoother and make nicer pictures. Or the decoder's output is simply what is at
#   hand.
# - **What it does.** A model of coins that are 0 or 1 reads a 0.5, which it has never seen. Eq. 8 says: draw $x_t$,
#   then condition on **that draw**.
#
# Below is a pen set by hand: its first coin is fair, and each later one repeats the previous one. So each row, which is
# one sequence, must be all black or all white.

# %%
figure, panels = plt.subplots(1, 2, figsize=(7.4, 2.9), sharey=True)
changes = []
for axes, feed, title in zip(panels, (museum.feed_sample, museum.feed_mean), ("Samples fed back", "Means fed back")):
    x = museum.sample(museum.RIGHT._replace(feed=feed), museum.pen_that_stays(), n=16, steps=24)
    axes.imshow(x[..., 1].T, cmap="gray_r", aspect="auto", interpolation="nearest")
    axes.set(title=title, xlabel="step t", yticks=[])
    changes.append(int((x[1:, :, 1] != x[:-1, :, 1]).sum()))
panels[0].set_ylabel("16 sequences")

print(f"coins that changed: {changes[0]} with samples fed back, {changes[1]} with means, of {16 * 23}")
assert changes[0] == 0 and changes[1] > 100
assert museum.seen_by("means fed back") == {"samples"}

# %% [markdown]
# **The fixed line:** `return sample`. No check that looks at the loss sees it: the loss does not use the decoder's
# samples.
#
# > **Function** `tinyvrnn.models.sampling.sample_step` · **held by**
# > `tests/test_planted.py::test_a_planted_mistake_makes_the_check_fail`
#
# ## Room 5: training
#
# ### Exhibit 11 · Clipping after the step

# %%
tv.course.show(museum.step_then_clip)

# %% [markdown]
# `clip` scales `grads` in place to a norm of at most `max_norm`.
#
# **Your guess.** How long can a step be? When does the bug show, and which check covers that case?

# %%
print(museum.verdict("clipping after the step"))

# %% [markdown]
# - **What it says.** Take the step, and then clip a gradient that is not used again.
# - **Why people write it.** `loss.backward()`, `optimizer.step()` are a pair in every tutorial; clipping was added
#   later, at the end.
# - **What it does.** Nothing. The log even says "clipped". Then comes a cliff: one batch whose gradient is a thousand
#   times as long as the others.

# %%
figure, axes = plt.subplots(figsize=(5.8, 3.1))
for name, step, style, colour in (
    ("clipped before", museum.clip_then_step, "o-", green),
    ("clipped after", museum.step_then_clip, "s--", red),
):
    moved, rng = [], np.random.default_rng(3)
    for k in range(12):
        theta_k, grads = np.zeros(20), rng.standard_normal(20) * (300 if k == 7 else 0.3)
        step(theta_k, grads, lr=0.1, max_norm=1.0)
        moved.append(np.linalg.norm(theta_k))
    axes.semilogy(moved, style, color=colour, markersize=4, label=name)
    print(f"{name:15} longest step {max(moved):7.2f}, where lr * max_norm = 0.10")
axes.set(xlabel="step", ylabel="length of the step", title="One cliff destroys the weights")
axes.legend(loc="upper left")

assert moved[7] > 100 and np.median(moved) < 0.2
assert museum.seen_by("clipping after the step") == {"step length"}

# %% [markdown]
# ### Exercise 11.5 (bug): clipping
#
# The same mistake in a step with momentum. The function returns the new `theta` and `m`, all $(P,)$; `lr` and
# `max_norm` are numbers.


# %%
def step_with_momentum(theta, m, lr, max_norm, grads):
    m = 0.9 * m + grads
    theta = theta - lr * m
    norm = np.sqrt((grads * grads).sum())
    grads = grads * min(1.0, max_norm / norm)
    return theta, m


# %% [markdown]
# Fix it: scale gradients longer than `max_norm` down to it, leave shorter ones unchanged, and do not change what `m`
# contains from earlier steps.


# %%
def my_step(theta, m, lr, max_norm, grads):
    """theta (P,), m (P,) after one step of gradient descent with momentum 0.9 and clipping by norm."""
    ### BEGIN SOLUTION
    norm = np.sqrt((grads * grads).sum())
    grads = grads * min(1.0, max_norm / norm)
    m = 0.9 * m + grads
    return theta - lr * m, m
    ### END SOLUTION


# %%
tv.course.check("11.5", my_step)

# %% [markdown]
# > **Function** `tinyvrnn.training.optim.clip_by_global_norm` · **held by**
# > `tests/test_planted.py::test_a_planted_mistake_makes_the_check_fail`
#
# ### Exhibit 12 · "Best" weights that alias the current ones
#
# The second function uses the first one as `program.keep`.

# %%
tv.course.show(museum.keep_alias)

# %%
tv.course.show(museum.train)

# %% [markdown]
# **Your guess.** Which weights does `train` return, and which loss does it report for them? (`clip_then_step` executes
# `theta -= lr * grads`.)

# %%
print(museum.verdict("best weights that alias"))

# %% [markdown]
# - **What it says.** `best = theta`: a second name for the same memory, which the next step changes in place.
# - **Why people write it.** In Python `=` copies nothing, and PyTorch's `state_dict()` doesn't either.
# - **What it does.** Early stopping returns the last weights, together with the score of the best ones.
#
# Below, training pulls two weights towards 1, while the validation loss is lowest at 0.3 and rises from there.

# %%
history, runs = [], {}


def pull(theta, k):
    """The gradient of half the squared distance to 1; also records the validation loss."""
    history.append(valid(theta))
    return theta - 1


def valid(theta):
    return ((theta - 0.3) ** 2).sum()


for name, keep in (("copy", museum.keep_copy), ("alias", museum.keep_alias)):
    history.clear()
    best, lowest = museum.train(museum.RIGHT._replace(keep=keep), np.zeros(2), pull, valid)
    runs[name] = valid(best)
    print(f"{name:6} reported {lowest:.3f}, actual {valid(best):.3f}")

figure, axes = plt.subplots(figsize=(5.4, 3.1))
axes.plot(history, "-", color=blue, label="validation loss")
axes.plot(np.argmin(history), runs["copy"], "o", color=green, label="kept as a copy")
axes.plot(len(history), runs["alias"], "s", color=red, label="kept as an alias")
axes.set(xlabel="step", ylabel="validation loss", title="The alias has moved on")
axes.set_xticks(range(0, 21, 5))
axes.legend(loc="upper left")

assert runs["copy"] == lowest < runs["alias"] / 10
assert museum.seen_by("best weights that alias") == {"kept weights"}

# %% [markdown]
# **The fixed line:** `return theta.copy()`. Only a check that evaluates the **returned** weights sees the bug.
#
# > **Function** `tinyvrnn.training.loop.train` · **held by**
# > `tests/test_planted.py::test_a_planted_mistake_makes_the_check_fail`
#
# ## Room 6: the numbers in the table
#
# ### Exhibit 13 · Per frame mixed with per sequence

# %%
tv.course.show(museum.frames_and_sequences)

# %% [markdown]
# The correct version is `((kl - log_p) * mask).sum() / mask.shape[1]`.
#
# ### Exercise 11.6 (predict): which checks see the wrong units?
#
# Which of these six checks fail? Answer with a set of names: `"loss falls"`, `"gradient"`, `"exact case"`, `"batch =
# singles"` (its sequences differ in length), `"same again"`, `"padding"`. Their one-line descriptions are at the
# beginning of the notebook.

# %%
prediction = None
### BEGIN SOLUTION
prediction = {"exact case", "batch = singles"}
### END SOLUTION

# %%
tv.course.check("11.6", prediction)

# %%
print(museum.verdict("per frame next to per sequence"))

# %% [markdown]
# - **What it says.** The reconstruction is a mean over frames, the KL a sum over the frames of each sequence.
# - **Why people write it.** `binary_cross_entropy` takes the mean unless told otherwise, and the KL is written by hand.
# - **What it does.** The KL gets too much weight, by a factor of the number of frames $n$. That is an accidental
#   $\beta$-VAE with $\beta = n$, and how much of $z$ is used depends on the length of the sequences.
#
# How much? Take one latent of the exact case, $z \sim \mathcal N(0, 1)$, $x \sim \mathcal N(z, r)$ with $r = \frac12$,
# and find the $q = \mathcal N(m, v)$ that minimises
#
# $$F = \frac1n \, \frac{(x - m)^2 + v}{2 r} + \frac12 \big(m^2 + v - 1 - \log v\big) .$$
#
# $\partial F / \partial m = -\frac{x - m}{n r} + m = 0$ gives $m = x / (1 + n r)$, and $\partial F / \partial v =
# \frac{1}{2 n r} + \frac12 - \frac{1}{2 v} = 0$ gives $v = n r / (1 + n r)$. This is the posterior of a model whose
# noise variance is $n r$ instead of $r$. With $E[x^2] = 1 + r$ we can average the KL,
# $\frac12 (m^2 + v - 1 - \log v)$, over $x$:

# %%
r, n = 0.5, np.arange(1, 41)
gain, v = 1 / (1 + n * r), n * r / (1 + n * r)
kl_of_best = 0.5 * (gain**2 * (1 + r) + v - 1 - np.log(v))


def F(gain, v, n):
    """F, averaged over x, for q = N(gain x, v), with E x^2 = 1 + r."""
    return ((1 - gain) ** 2 * (1 + r) + v) / (2 * r * n) + 0.5 * (gain**2 * (1 + r) + v - 1 - np.log(v))


figure, axes = plt.subplots(figsize=(5.4, 3.1))
axes.plot(n, np.full(len(n), kl_of_best[0]), "-", color=green, label="both per sequence")
axes.plot(n, kl_of_best, "o--", color=red, markersize=3, label="per frame mixed with per sequence")
axes.set(
    xlabel="frames n in a sequence",
    ylabel="KL, nats per step",
    title="Longer sequences use z less",
    ylim=(0, None),
)
axes.legend()

nudges = [F(gain + d, v * (1 + e), n) for d in (-0.01, 0, 0.01) for e in (-0.01, 0, 0.01)]
assert all((F(gain, v, n) <= nudged).all() for nudged in nudges)  # no neighbour of the best q is better
assert np.isclose(kl_of_best[0], 0.5 * np.log(3)) and kl_of_best[-1] < 0.01
assert museum.seen_by("per frame next to per sequence") == {"exact case", "batch = singles"}

# %% [markdown]
# The correct value is $\frac12 \log 3$ nats per step, the information of $x$ about $z$. With the bug, sequences of 40
# frames keep less than a hundredth of a nat. It looks like posterior collapse, and changing one word cures it.
#
# **The fixed line:** `reconstruction = -(log_p * mask).sum() / mask.shape[1]`.
#
# > **Function** `tinyvrnn.models.vrnn.VRNN.loss_and_grads` · **held by**
# > `tests/test_schedule.py::test_loss_is_minus_the_weighted_bound_in_nats_per_sequence`
#
# ### Exhibit 14 · A mean of means, called nats per step

# %%
tv.course.show(museum.mean_of_means)

# %% [markdown]
# `nats` $(B,)$ are the log-likelihoods of $B$ sequences, and the result goes into the table.
#
# **Your guess.** Is the result in nats per step? Is it larger or smaller than it should be? Which check sees that?

# %%
print(museum.verdict("mean of per-sequence means"))

# %% [markdown]
# - **What it says.** Each sequence is divided by its own length, and then the mean is taken.
# - **Why people write it.** A loop over the test set with `losses.append(nll / length)` produces it.
# - **What it does.** A step of a short sequence has more weight than one of a long sequence. The result is called nats
#   per step, but multiplied by the number of steps it does not give the total nats.
#
# Take coins that all repeat the first one: the first costs $\log 2$ nats, the others nothing. Consider four such
# sequences, of 1, 2, 5 and 8 steps:

# %%
nats, lengths = np.full(4, -np.log(2)), np.array([1, 2, 5, 8])
right, wrong = museum.nats_per_step(nats, lengths), museum.mean_of_means(nats, lengths)
print(f"total over total {right:.4f}, mean of means {wrong:.4f} nats per step")
print(f"times 16 steps   {16 * right:.4f}               {16 * wrong:.4f}, where the nats are {nats.sum():.4f}")
assert np.isclose(16 * right, nats.sum()) and wrong < 1.5 * right

harder = -0.1 * lengths**2  # sequences that get harder towards the end
assert museum.mean_of_means(harder, lengths) > museum.nats_per_step(harder, lengths)
assert museum.seen_by("mean of per-sequence means") == {"units"}

# %% [markdown]
# Here it makes the model look worse. If the long sequences are the hard ones, it makes the model look better. The
# numbers of two papers are comparable only if both say which of the two they report.
#
# **The fixed line:** `return nats.sum() / lengths.sum()`, total over total ([08](08_training.ipynb)).
#
# > **Function** `tinyvrnn.bounds.evaluate_elbo` · **held by**
# > `tests/test_planted.py::test_a_planted_mistake_makes_the_check_fail`
#
# ## The last room: which check sees which bug
#
# Every check, run on every bug. A filled square means that the check fails, so it sees the bug. All squares are results
# of actual runs.
#
# > **Function** `tinyvrnn.course.museum.matrix` · **held by**
# > `tests/test_museum.py::test_every_check_sees_a_bug_except_the_falling_loss_which_sees_none`

# %%
seen = museum.matrix()
bugs, guards = list(museum.EXHIBITS), list(museum.CHECKS)

figure, axes = plt.subplots(figsize=(8.2, 5.6))
rows, columns = np.nonzero(seen)
axes.scatter(columns, rows, marker="s", s=150, color=blue)
rows, columns = np.nonzero(~seen)
axes.scatter(columns, rows, marker=".", s=12, color="0.75")
axes.set_xticks(range(len(guards)), guards, rotation=40, ha="left")
axes.set_yticks(range(len(bugs)), [f"{bug}  {i + 1:2d}" for i, bug in enumerate(bugs)])
axes.xaxis.tick_top()
axes.tick_params(length=0)
axes.set(xlim=(-0.6, len(guards) - 0.4), ylim=(len(bugs) - 0.4, -0.6))
axes.spines[:].set_visible(False)
axes.set_xlabel("square: the check fails, so it sees the bug     dot: it passes")

for check, count in zip(guards, seen.sum(axis=0)):
    print(f"{check:16} sees {count:2d} of {len(bugs)}")
assert seen.any(axis=1).all() and not seen[:, guards.index("loss falls")].any()
assert seen.sum(axis=0).argmax() == guards.index("exact case") and seen.sum(axis=1).min() == 1
by_gradient = [bug for bug, row in zip(bugs, seen) if row[guards.index("gradient") : guards.index("moments")].any()]
assert by_gradient == ["state carried over", "truncated backpropagation"]

# %% [markdown]
# Read it by columns.
#
# - **The loss falls** for every one of these bugs. It is the check that everybody runs.
# - **The gradient check** sees the truncation, if its sequences are long enough, and by accident a loss that changes
#   from call to call. It passes every other wrong forward pass.
# - **The exact case** sees the most bugs, because it compares with the truth and not with the same code.
# - Still, half of the bugs are seen by only one check. No single check is enough.

# %%
alone = {bugs[i]: guards[int(seen[i].argmax())] for i in range(len(bugs)) if seen[i].sum() == 1}
for bug, check in alone.items():
    print(f"{bug:28} seen only by: {check}")
assert len(alone) >= len(bugs) // 2 and len(set(alone.values())) >= 6

# %% [markdown]
# ## What you now know
#
# - Most bugs of this kind stop neither the program nor the fall of the loss. Some make the number **better**.
# - Automatic differentiation computes correct gradients of wrong formulas. A gradient check sees only detached parts
#   and derivatives written by hand.
# - Five questions find most of them. Are the moments what the names promise? Is there a case with a known answer? Does
#   a batch give the same result as its sequences one by one, in any order, with any padding? What happens at the
#   extremes? In which unit is this number?
# - A check that has never failed has not shown anything yet. Plant a bug, and see whether the check fails.
#
# Continue with [12 · Speech, handwriting, music](12_speech_handwriting_music.ipynb): the paper's experiments at laptop
# size.
