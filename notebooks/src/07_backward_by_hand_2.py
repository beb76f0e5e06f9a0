# %% [markdown]
# # 07 · Backward by hand II
#
# The pieces of [06](06_backward_by_hand_1.ipynb) had no memory. This notebook adds one, the GRU, and with it the time
# axis: first a single cell, then a chain of cells, then the whole VRNN. At the end you will know why this package runs
# almost nothing inside its loop over time, and why that does not change the result.
#
# *You need*: [06](06_backward_by_hand_1.ipynb), and Eq. 7 from [03](03_the_generative_story.ipynb).
# *It takes* about 1 h 45 min; the second exercise is the longest of the course.

# %%
# %matplotlib inline
import sys

import matplotlib.pyplot as plt
import numpy as np

import tinyvrnn as tv
from tinyvrnn import one_page
from tinyvrnn.distributions import gaussian
from tinyvrnn.gradcheck import all_pairs
from tinyvrnn.models import equations, schedule, stepwise
from tinyvrnn.nn import gru, linear

tv.plots.use_style()
rng = np.random.default_rng(0)
BLUE, RED, GREEN, PINK, AMBER, SKY, BLACK = tv.plots.COLOURS


def error(a, b):
    """The largest difference of two arrays, relative to the largest entry."""
    return tv.gradcheck.rel_error(tv.to_host(a), tv.to_host(b))


# %% [markdown]
# ## The cell
#
# A GRU has a state $h$, reads an input $x$, and returns the next state $h'$, a mixture of a candidate $n$ and the old
# state. Two gates control it. The reset gate $r$ says how much the candidate sees of $h$, and the update gate $u$ how
# much of $h$ stays:
#
# $$\begin{aligned}
# r &= \mathrm{sigmoid}(x W_r + b_r + h U_r + c_r) \\
# u &= \mathrm{sigmoid}(x W_u + b_u + h U_u + c_u) \\
# n &= \tanh\big(x W_n + b_n + r \odot (h U_n + c_n)\big) \\
# h' &= (1 - u) \odot n + u \odot h
# \end{aligned}$$
#
# The products with $W$ are computed together, and so are those with $U$; the columns are the blocks $r, u, n$. Call the
# two results the **sides** of the cell:
#
# $$a = x W + b = [a_r, a_u, a_n], \qquad g = h U + c = [g_r, g_u, g_n] .$$
#
# Given $a$ and $g$, the rest is elementwise:
#
# $$r = \mathrm{sigmoid}(a_r + g_r), \quad u = \mathrm{sigmoid}(a_u + g_u), \quad
# n = \tanh(a_n + r \odot g_n), \quad h' = n + u \odot (h - n) .$$
#
# > **Function** `tinyvrnn.nn.gru.gru_forward` · **held by**
# > `tests/test_equations.py::test_gru_equals_a_loop_over_scalars`

# %%
tv.course.show(gru.gru_forward)

# %% [markdown]
# ### Exercise 07.1 (write): the gates
#
# Compute $h'$ from `a` and `g`, $(..., 3H)$, and `h` $(..., H)$. There may be more than one leading axis.


# %%
def my_gates(a, g, h):
    """h' (..., H) from a = x W + b (..., 3H), g = h U + c (..., 3H) and h (..., H)."""
    ### BEGIN SOLUTION
    H = h.shape[-1]
    r, u = (1 / (1 + np.exp(-(a + g)[..., k * H : (k + 1) * H])) for k in (0, 1))
    n = np.tanh(a[..., 2 * H :] + r * g[..., 2 * H :])
    return (1 - u) * n + u * h
    ### END SOLUTION


# %%
tv.course.check("07.1", my_gates)

# %% [markdown]
# **Reset after or before?** In the first GRU (Cho et al., 2014) the candidate contains $(r \odot h) U_n$: the reset
# comes *before* the product. Here, as in cuDNN and PyTorch, it comes *after*, which needs one product with $U$ instead
# of two. The two variants are different functions, and their weights are not interchangeable:

# %%
H = 6
p = {name: 0.7 * rng.standard_normal(shape) for name, shape in gru.shapes(4, H).items()}
x, h = rng.standard_normal((5, 4)), rng.standard_normal((5, H))
h_next, cache = gru.gru_forward(p, x, h)
r = cache.ru[:, :H]
after = np.tanh((x @ p["W"] + p["b"])[:, 2 * H :] + r * (h @ p["U"] + p["c"])[:, 2 * H :])
before = np.tanh((x @ p["W"] + p["b"])[:, 2 * H :] + (r * h) @ p["U"][:, 2 * H :] + p["c"][2 * H :])
print(f"largest difference of the two candidates: {abs(after - before).max():.1f}")
assert np.allclose(after, cache.n, atol=1e-14) and abs(after - before).max() > 0.1

# %% [markdown]
# ## The cell's backward pass
#
# Draw the cell as a graph whose arrows carry derivatives. Given $dh'$, we walk back along the arrows. At each arrow the
# gradient is multiplied by the arrow's derivative; where two arrows leave a node, their gradients are added.

# %%
places = """h' 8 2.3, n 6 3.3, \\bar{n} 4.2 3.3, u 6 2, a_u+g_u 3.7 2, a_n 2.2 4.1, g_n 2.2 3.1, r 2.2 2,
            a_r+g_r 0 2, h 4.2 0.5"""
slopes = """n h' 1-u; u h' h-n; h h' u; \\bar{n} n 1-n^2; a_u+g_u u u(1-u); a_n \\bar{n} 1;
            g_n \\bar{n} r; r \\bar{n} g_n; a_r+g_r r r(1-r)"""
nodes = {name: (float(across), float(up)) for name, across, up in map(str.split, places.split(","))}
arrows = [arrow.split() for arrow in slopes.split(";")]

figure, axes = plt.subplots(figsize=(7.4, 3.4))
for start, end, slope in arrows:
    (x0, y0), (x1, y1) = nodes[start], nodes[end]
    style = {"arrowstyle": "-|>", "color": "0.55", "shrinkA": 20, "shrinkB": 20}
    axes.annotate("", (x1, y1), (x0, y0), arrowprops=style)
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    axes.text(0.5 * (x0 + x1), 0.5 * (y0 + y1), f"${slope}$", color=RED, ha="center", va="center", bbox=paper)
for name, place in nodes.items():
    box = {"boxstyle": "round", "facecolor": "white", "edgecolor": BLUE}
    axes.text(*place, f"${name}$", ha="center", va="center", fontsize=12, bbox=box)
axes.text(6.4, 1.05, "the direct path", color="0.4", style="italic")
axes.set(xlim=(-0.6, 8.6), ylim=(0.1, 4.5), title="The GRU cell: values in boxes, derivatives on arrows")
axes.axis("off")
assert len(arrows) == len(nodes) - 1  # a tree: so far each gradient has only one path

# %% [markdown]
# Now follow the arrows back.
#
# **The mixture** $h' = n + u \odot (h - n)$ has three arguments:
#
# $$dn = dh' \odot (1 - u), \qquad du = dh' \odot (h - n), \qquad dh \mathrel{+}= dh' \odot u .$$
#
# **The candidate.** Let $\bar n = a_n + r \odot g_n$ be the argument of tanh. The derivative of tanh is $1 - n^2$, and
# $\partial \bar n / \partial a_n = 1$, so
#
# $$da_n = dn \odot (1 - n^2) = dh' \odot (1 - u) \odot (1 - n^2) .$$
#
# The rest is yours: the other two arguments of $\bar n$, the two gates, and the two linear layers.
#
# ### Exercise 07.2 (derive): the GRU's backward
#
# Derive $dg_n$, $da_r$, $dg_r$, $da_u$ and $dg_u$ (the derivative of a sigmoid is $y(1 - y)$), and concatenate them to
# $da$ and $dg$, $(\dots, 3H)$. In which block do $da$ and $dg$ differ? The layers $a = xW + b$ and $g = hU + c$ are
# those of exercise 06.1, so call your function of that exercise, twice. How many paths lead to $h$?
#
# `p` holds `W, b, U, c`. Recompute the forward pass (or call `gru.gru_forward(p, x, h)`, whose cache has `ru`, `n` and
# `g_n`), then walk back. Return `dx`, `dh`, and a dict of gradients with the keys of `p`. There may be two leading
# axes.


# %%
def by_the_package(W, x, dy):
    dx, grads = linear.linear_backward({"W": W}, linear.LinearCache((x,)), dy)
    return dx, grads["W"], grads["b"]


my_linear_backward = tv.course.mine("06.1", otherwise=by_the_package)  # yours, if you have passed 06.1


# %%
def my_gru_backward(p, x, h, dh_next):
    """dx (..., D), dh (..., H), {"W": ..., "b": ..., "U": ..., "c": ...} from dh_next (..., H)."""
    ### BEGIN SOLUTION
    _, cache = gru.gru_forward(p, x, h)
    H = h.shape[-1]
    r, u, n, g_n = cache.ru[..., :H], cache.ru[..., H:], cache.n, cache.g_n
    da_n = dh_next * (1 - u) * (1 - n**2)
    da_r = da_n * g_n * r * (1 - r)
    da_u = dh_next * (h - n) * u * (1 - u)
    da = np.concatenate([da_r, da_u, da_n], axis=-1)
    dg = np.concatenate([da_r, da_u, da_n * r], axis=-1)
    dx, dW, db = my_linear_backward(p["W"], x, da)
    dh, dU, dc = my_linear_backward(p["U"], h, dg)
    return dx, dh + dh_next * u, {"W": dW, "b": db, "U": dU, "c": dc}
    ### END SOLUTION


# %%
tv.course.check("07.2", my_gru_backward)

# %% [markdown]
# Compare your derivation:
#
# $$dg_n = da_n \odot r , \qquad da_r = dg_r = da_n \odot g_n \odot r (1 - r), \qquad
# da_u = dg_u = dh' \odot (h - n) \odot u (1 - u) .$$
#
# So $da = [\,da_r, da_u, da_n\,]$ and $dg = [\,da_r, da_u, da_n \odot r\,]$ differ **only** in the last block. That
# is the only effect of "reset after" on the backward pass. $h$ is used twice, in the mixture and in $g$, so
# $dh = dh' \odot u + dg\, U^\top$. And $dc \ne db$ in the block $n$: the biases $b_n$ and $c_n$ look interchangeable
# but are not, since $r$ multiplies only one of them.
#
# Here is the same backward pass in `tinyvrnn.one_page`, which contains the whole VRNN, forward and backward, in one
# short file of plain NumPy. It returns $da$ and $dg$ and leaves the weight gradients for later; you will see why below.
#
# > **Function** `tinyvrnn.nn.gru.gru_backward` · **held by**
# > `tests/test_torch.py::test_gru_and_its_gradients_equal_torch_grucell`

# %%
tv.course.show(one_page.gru_backward)

# %%
for row in tv.gradcheck.check_pair(gru.gru_forward, gru.gru_backward, p, x, h):
    print(f"{row.leaf:8} worst entry {str(row.index):9} analytic {row.analytic:9.5f}   numeric {row.numeric:9.5f}")
    assert row.rel_error < 1e-7

dh_next = rng.standard_normal(h.shape)
_, grads = gru.gru_backward(p, cache, dh_next)
assert np.allclose(grads["b"][: 2 * H], grads["c"][: 2 * H]) and not np.allclose(
    grads["b"][2 * H :], grads["c"][2 * H :]
)

# %% [markdown]
# ## Many cells in a row: backpropagation through time
#
# Now the cell runs over a sequence, $h_t = f(x_t, h_{t-1})$ for $t = 1, \dots, T$, and the loss reads the states. The
# state $h_{t-1}$ is used in two places:
#
# - the loss of step $t - 1$ reads it directly: call this contribution $dh_{t-1}^{\text{own}}$;
# - cell $t$ reads it, and through that cell it affects all later steps.
#
# Contributions add up. This gives a recursion that runs **backwards**:
#
# $$dh_T = dh_T^{\text{own}}, \qquad
# dh_{t-1} = dh_{t-1}^{\text{own}} + \Big(\frac{\partial h_t}{\partial h_{t-1}}\Big)^{\!\top} dh_t , $$
#
# where the last term comes from the cell's backward pass. That pass turns $dh_t$ into three results: $dx_t$, a
# contribution to the weights' gradient, and the $dh$ for step $t - 1$. The weights are the same at every step, so their
# gradient is the **sum** of the contributions.
#
# **Where does it end?** At $dh_0$. If $h_0$ is a parameter, that is its gradient (summed over the batch, if all
# sequences start from the same $h_0$). In the VRNN $h_0 = 0$ is not a parameter, so $dh_0$ is computed and discarded.
#
# **A ragged batch** is padded to its longest sequence. No loss reads a padded step, so its $dh_t^{\text{own}}$ is 0,
# whatever the array contains there. The recursion passes back zeros until it reaches the sequence's last real step, so
# padding neither receives nor contributes any gradient.
#
# ### Exercise 07.3 (write): backpropagation through time
#
# `x` $(T, B, D)$, `h_0` $(B, H)$, `lengths` $(B,)$. `dh[t]` $(T, B, H)$ is the loss's direct gradient with respect to
# the state *after* cell `t` (counted from 0); beyond the end of a sequence its values are arbitrary. Return `dx` $(T,
# B, D)$, `dh_0` $(B, H)$ and the gradients of `W, b, U, c`. You may call `gru.gru_forward(p, x_t, h)`, which returns
# `h_t, cache`, and `gru.gru_backward(p, cache, dh_t)`, which returns `(dx_t, dh), grads`.


# %%
def my_backward_through_time(p, x, h_0, dh, lengths):
    """dx (T, B, D), dh_0 (B, H), {"W": ..., "b": ..., "U": ..., "c": ...}."""
    ### BEGIN SOLUTION
    h, caches = h_0, []
    for x_t in x:
        h, cache = gru.gru_forward(p, x_t, h)
        caches.append(cache)
    dx, handed_on, total = np.zeros_like(x), np.zeros_like(h_0), {name: np.zeros_like(v) for name, v in p.items()}
    for t in reversed(range(len(x))):
        own = dh[t] * (t < lengths)[:, None]
        (dx[t], handed_on), grads = gru.gru_backward(p, caches[t], own + handed_on)
        total = {name: total[name] + grads[name] for name in p}
    return dx, handed_on, total
    ### END SOLUTION


# %%
tv.course.check("07.3", my_backward_through_time)

# %% [markdown]
# ## Why the direct path matters
#
# A gradient that goes back through 40 cells is multiplied 40 times. In a plain RNN each factor is a matrix times a
# derivative of tanh, so the gradient vanishes or explodes. The GRU has the direct path $dh \mathrel{+}= dh' \odot u$:
# with $u$ near 1, a gradient passes through the cell almost unchanged. Below, the loss reads only the last state, and
# the bias of the update gate decides how far back its gradient reaches.

# %%
T, B, D, H = 40, 16, 3, 12
p_long = {name: rng.standard_normal(shape) / 12**0.5 for name, shape in gru.shapes(D, H).items()}
x_long, last = rng.standard_normal((T, B, D)), rng.standard_normal((B, H))
figure, axes = plt.subplots(figsize=(6.5, 3.6))
felt = {}
for bias, style in ((-2, "o-"), (0, "s--"), (2, "^-."), (4, "D:")):
    p_long["b"][H : 2 * H] = bias
    state, caches, size, d = np.zeros((B, H)), [], [], last
    for x_t in x_long:
        state, cell = gru.gru_forward(p_long, x_t, state)
        caches.append(cell)
    for cell in reversed(caches):
        size.append(np.linalg.norm(d))
        (_, d), _ = gru.gru_backward(p_long, cell, d)
    felt[bias] = size[-1] / size[0]
    axes.semilogy(range(T), np.array(size) / size[0], style, markevery=5, label=f"update bias {bias}")
axes.set(xlabel="steps back from the last", ylabel="norm of dh, relative to the last", ylim=(1e-9, 3))
axes.set_title("An open update gate carries the gradient")
axes.legend()
assert felt[-2] < felt[0] < felt[2] < felt[4] and felt[4] > 0.01 > 1e4 * felt[-2]

# %% [markdown]
# ## The weights' gradient needs no loop
#
# Look again at the sum of contributions. Step $t$ contributes $x_t^\top da_t$ to $dW$, so with $B$ rows in each step
#
# $$dW_{ij} = \sum_{t=1}^{T} \sum_{b=1}^{B} x_{tb,i}\; da_{tb,j} = \sum_{m=1}^{TB} x_{m,i}\; da_{m,j} .$$
#
# The double sum is a single sum over all rows. Stack all $T B$ rows, and $dW$ is **one** product, $X^\top A$ with $X$
# $(TB, D)$ and $A$ $(TB, 3H)$. So the loop computes no weight gradient: it keeps the $da_t$, and one product per weight
# follows after the loop.
#
# ### Exercise 07.4 (write): weight gradients after the loop
#
# You get all steps at once: `x` $(T, B, D)$; `h` $(T + 1, B, H)$, where `h[t]` is the state **before** step `t`; the
# reset gates `r` $(T, B, H)$; and `da` $(T, B, 3H)$. Return `dW, db, dU, dc`, without a loop.


# %%
def my_weight_gradients(x, h, r, da):
    """dW (D, 3H), db (3H,), dU (H, 3H), dc (3H,)."""
    ### BEGIN SOLUTION
    H = r.shape[-1]
    dg = np.concatenate([da[..., : 2 * H], da[..., 2 * H :] * r], axis=-1)
    X, S, A, G = (v.reshape(-1, v.shape[-1]) for v in (x, h[:-1], da, dg))
    return X.T @ A, A.sum(axis=0), S.T @ G, G.sum(axis=0)
    ### END SOLUTION


# %%
tv.course.check("07.4", my_weight_gradients)

# %% [markdown]
# **Run it** with the package: contributions added step by step, against one product after the loop.

# %%
shares, kept, d = None, [], last
for cell in reversed(caches):
    (_, d_before), da_t = gru.gru_backward_data(p_long, cell, d)
    _, share = gru.gru_backward(p_long, cell, d)
    shares = share if shares is None else {name: shares[name] + share[name] for name in share}
    kept.append(da_t)
    d = d_before
stacked = gru.GruCache(
    (np.stack([cell.inputs[0] for cell in caches]),),
    *(np.stack([getattr(cell, name) for cell in caches]) for name in ("h", "ru", "n", "g_n")),
)
at_once = gru.gru_backward_params(stacked, np.stack(kept[::-1]))
for name in shares:
    print(f"d{name}: step by step and at once agree to 1e-12: {error(shares[name], at_once[name]) < 1e-12}")
    assert error(shares[name], at_once[name]) < 1e-12

# %% [markdown]
# ## The whole VRNN: what has to wait?
#
# A step of the VRNN consists of nine pieces (`tinyvrnn.models.stepwise.step_forward`; you met it in
# [05](05_the_elbo_line_by_line.ipynb)):
#
# | piece | reads | returns |
# |---|---|---|
# | phi_x | $x_t$ | $\phi_x(x_t)$ |
# | prior, Eq. 5 | $h_{t-1}$ | $\mu_0, \sigma_0$ |
# | infer, Eq. 9 | $\phi_x(x_t), h_{t-1}$ | $\mu_z, \sigma_z$ |
# | draw | $\mu_z, \sigma_z, \epsilon_t$ | $z_t$ |
# | phi_z | $z_t$ | $\phi_z(z_t)$ |
# | generate, Eq. 6 | $\phi_z(z_t), h_{t-1}$ | the parameters of $p(x_t \mid \cdot)$ |
# | kl | $\mu_z, \sigma_z, \mu_0, \sigma_0$ | $\mathrm{KL}_t$ |
# | likelihood | $x_t$, the result of generate | $\log p(x_t \mid \cdot)$ |
# | recur, Eq. 7 | $\phi_x(x_t), \phi_z(z_t), h_{t-1}$ | $h_t$ |
#
# A literal program runs all nine at step 1, then all nine at step 2, and so on. But a piece has to stay in the loop
# only if **both** of these hold: it needs $h_{t-1}$ (otherwise it can run before the loop), and $h_t$ needs it
# (otherwise it can run after the loop).
#
# ### Exercise 07.5 (predict): what has to stay in the loop?
#
# Assume training, where $x$ is given. Answer with a set of names from the first column, e.g. `{"phi_x", "kl"}`. (The
# grader finds the answer by experiment: it changes $h_{t-1}$ slightly and sees which pieces react, then changes each
# piece and sees whether $h_t$ reacts.)

# %%
prediction = None
### BEGIN SOLUTION
prediction = {"infer", "draw", "phi_z", "recur"}
### END SOLUTION

# %%
tv.course.check("07.5", prediction)

# %% [markdown]
# This is the **batched schedule**: the pieces before and after the loop run for all $T$ steps in one call. In the
# figure each box is one call, in order of execution from left to right, for $T = 4$.

# %%
shades = dict(phi_x=BLUE, prior=RED, generate=GREEN, likelihood=PINK, kl=AMBER, infer=SKY)
shades |= dict(draw="0.45", phi_z="0.62", recur="0.8")
loop = ["infer", "draw", "phi_z", "recur"]
literal = ["phi_x", "prior", "infer", "draw", "phi_z", "generate", "likelihood", "kl", "recur"]
steps = 4
calls = {"literal": [(name, t, 1) for t in range(steps) for name in literal]}
calls["batched"] = [
    ("phi_x", 0, steps),
    *((name, t, 1) for t in range(steps) for name in loop),
    *((name, 0, steps) for name in ("prior", "generate", "likelihood", "kl")),
]
figure, panels = plt.subplots(2, 1, figsize=(7.4, 7.8), sharex=True)
for axes, (title, boxes) in zip(panels, calls.items()):
    for i, (name, t, height) in enumerate(boxes):
        axes.bar(i, height * 0.9, 0.92, bottom=t + 0.55, color=shades[name], edgecolor="white")
        ink = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 9}
        axes.text(i, t + 0.55 + height * 0.45, name, color="white" if name in ("phi_x", "draw") else "black", **ink)
    axes.set(ylabel="time step t", yticks=range(1, steps + 1), xlim=(-0.7, 35.7), ylim=(steps + 0.6, 0.4))
    axes.set_title(f"{title}: {len(boxes)} calls")
figure.suptitle("The calls of a literal and of a batched program, four steps", x=0.01, ha="left")
panels[1].set_xlabel("order of execution (one column: one call)")
assert len(calls["literal"]) == 9 * steps and len(calls["batched"]) == 4 * steps + 5

# %% [markdown]
# **Why it is exact.** Each piece acts on every row of its input separately: row $(t, b)$ of the result depends only on
# row $(t, b)$ of the arguments. Whether rows are computed together or one after the other, the arithmetic is the same.
# Nothing is approximated, and no gradient is cut.
#
# The package's loop is `schedule.loop_forward`; here is the whole forward pass in its short form, from `one_page.py`:
#
# > **Function** `tinyvrnn.models.schedule.loop_forward` · **held by**
# > `tests/test_schedule.py::test_batched_schedule_equals_the_literal_steps`
#
# > **Function** `tinyvrnn.one_page.forward` · **held by**
# > `tests/test_one_page.py::test_loss_and_every_gradient_equal_the_package`

# %%
tv.course.show(one_page.forward)

# %% [markdown]
# The package moves one more thing out of the loop. A product with two concatenated inputs splits, $[\phi_x, h]\, W =
# \phi_x W_{\text{top}} + h W_{\text{bottom}}$, and the first term does not need $h$, so it is computed for all steps
# before the loop.
#
# Backward is the same picture from right to left: likelihood, generation, KL and prior for all $T$ at once; then one
# **reverse loop** that carries only $dh$; then each weight gradient as one product (07.4). `one_page.py` has all three
# in one function. (The package's reverse loop also serves an LSTM, whose state is more than $h$. It therefore calls the
# carried gradient `dstate` and leaves the gates to a `cell`.)
#
# > **Function** `tinyvrnn.models.schedule.reverse_loop` · **held by**
# > `tests/test_schedule.py::test_each_term_of_the_bound_has_the_literal_gradient_alone`

# %%
tv.course.show(one_page.loss_and_grads)

# %% [markdown]
# **Run it.** We compare the literal steps with the batched schedule on a ragged batch with random upstream gradients:
# both terms of the bound at every step, and the gradient of every parameter.

# %%
model = tv.VRNN(x_dim=5, h_dim=8, z_dim=3, features=7, layers=2, dtype="float64", seed=1)
asarray = model.backend.asarray
model.theta += asarray(0.2 * rng.standard_normal(model.theta.shape))
T, B = 20, 6
x, eps = asarray(rng.random((T, B, 5))), asarray(rng.standard_normal((T, B, 3)))
mask = np.arange(T)[:, None] < np.array([20, 3, 11, 1, 17, 8])
dlog_p, dkl = (asarray(rng.standard_normal((T, B)) * mask) for _ in range(2))


def run(way):
    """Terms and gradients, computed by one of the two modules."""
    log_p, kl, caches = way.sequence_forward(model.params, x, eps, model.likelihood)
    return log_p, kl, way.sequence_backward(model.params, caches, dlog_p, dkl, model.likelihood)


literal, batched = run(stepwise), run(schedule)
worst = {"log p(x_t | ...)": error(literal[0], batched[0]), "KL": error(literal[1], batched[1])}
for group, leaves in literal[2].items():
    worst[f"gradient of {group}"] = max(error(leaves[leaf], batched[2][group][leaf]) for leaf in leaves)
for name, value in worst.items():
    print(f"{name:20} equal to 1e-12: {value < 1e-12}")
    assert value < 1e-12

# %% [markdown]
# **Count the products.** We run forward and backward with both schedules and record each matrix product and its number
# of rows. (`sys.setprofile` installs a callback that Python runs at every function call: handy for questions like
# this.)


# %%
def products(way):
    """The number of rows of each matrix product, in order."""
    rows = []

    def watch(frame, event, _):
        if event == "call" and frame.f_code is linear.matmul.__code__:
            v = frame.f_locals["x"]
            rows.append(v.size // v.shape[-1])
        if event == "call" and frame.f_code is linear.linear_backward_params.__code__:
            dy = frame.f_locals["dy"]
            rows.extend([dy.size // dy.shape[-1]] * len(frame.f_locals["cache"].inputs))

    sys.setprofile(watch)
    try:
        run(way)
    finally:
        sys.setprofile(None)
    return np.array(rows)


few, many = products(schedule), products(stepwise)
print(f"literal: {len(many):4} products, all of {B} rows")
small, large = np.sum(few == B), np.sum(few == T * B)
print(f"batched: {len(few):4} products, {small} of {B} rows (the loops) and {large} of {T * B} rows")
assert set(many) == {B} and set(few) == {B, T * B} and len(few) < 0.4 * len(many)

# %% [markdown]
# Large products run near a processor's peak performance, and small ones do not. On a GPU every call, however small,
# costs a launch. So the clear way to write the model, one function per equation, is also the fast way.
# [10](10_one_code_two_backends.ipynb) measures how fast.
#
# ## Five paths lead to $h_{t-1}$
#
# One question is left: which gradients does the reverse loop have to add up? According to the table, $h_{t-1}$ is read
# by prior, generate and infer, and twice by the GRU (through its gates and through its direct path). So **five**
# gradients arrive, each along its own path:
#
# $$\begin{aligned}
# dh_{t-1} = {} & \underbrace{dh^{\text{prior}}}_{\text{Eq. 5, by the KL}}
# + \underbrace{dh^{\text{dec}}}_{\text{Eq. 6, by } \log p(x_t)} \\
# & + \underbrace{dh_t \odot u_t + dg_t U^\top}_{\text{Eq. 7, direct and by the gates}}
# + \underbrace{dh^{\text{enc}}}_{\text{Eq. 9}} .
# \end{aligned}$$
#
# The last path is the longest. The parameters of $q$ are used twice: in the KL (06.4), and to draw $z_t$ (06.5). And
# $z_t$ in turn is read twice, by the decoder (Eq. 6) and by the GRU (Eq. 7):
#
# $$\begin{aligned}
# d\phi_z &= d\phi_z^{\text{dec}} + da_t W_z^\top \\
# dz_t &= \phi_z\text{'s backward}(d\phi_z) \\
# d\mu_z &= dz_t + d\mu_z^{\mathrm{KL}} \\
# d\sigma_z &= dz_t \odot \epsilon_t + d\sigma_z^{\mathrm{KL}} \\
# dh^{\text{enc}} &= \text{Eq. 9's backward}(d\mu_z, d\sigma_z)
# \end{aligned}$$
#
# ## A bug that its own test cannot see
#
# Here is a step's backward in which one path is missing. "$z_t$ is a random draw", its author thought, "and a draw has
# no gradient with respect to the past."


# %%
def buggy_dh(params, cache, dlog_p, dkl, dh_t):
    """dh (B, H): the gradient that arrives at h_{t-1}."""
    _, prior_cache, infer_cache, z_cache, phi_z_cache, generate_cache, log_p_cache, kl_cache, recur_cache = cache
    (_, dphi_z_recur, dh_recur), _ = equations.recur_backward(params["recur"], recur_cache, dh_t)
    _, dlogits = model.likelihood.log_density_backward(log_p_cache, dlog_p)
    (dphi_z, dh_generate), _ = equations.generate_backward(
        params["generate"], generate_cache, dlogits, likelihood=model.likelihood
    )
    _, _, dmu_0, dsigma_0 = gaussian.gaussian_kl_backward(kl_cache, dkl)
    dh_prior, _ = equations.prior_backward(params["prior"], prior_cache, dmu_0, dsigma_0)
    return dh_recur + dh_generate + dh_prior


# %% [markdown]
# The author's test compares the gradient of every **parameter** with the correct one, on a sequence of one step. It
# passes. Repeat that test, and then make the sequence longer. `backward` is the package's literal loop, except that
# `dh_of_step` computes the gradient that is passed back.


# %%
def added(a, b):
    return {group: {leaf: a[group][leaf] + b[group][leaf] for leaf in a[group]} for group in a}


def backward(caches, dlog_p, dkl, dh_of_step):
    """The gradients of all parameters, as `stepwise.sequence_backward`, but dh_{t-1} comes from dh_of_step."""
    d, total = model.backend.xp.zeros((dkl.shape[1], model.h_dim)), None
    for cache, dlog_p_t, dkl_t in zip(caches[::-1], dlog_p[::-1], dkl[::-1]):
        _, grads = stepwise.step_backward(model.params, cache, dlog_p_t, dkl_t, d, model.likelihood)
        d = dh_of_step(model.params, cache, dlog_p_t, dkl_t, d)
        total = grads if total is None else added(total, grads)
    return total


def worst_error(T, dh_of_step):
    """Largest relative error of any parameter's gradient, on the first T steps."""
    *_, caches = stepwise.sequence_forward(model.params, x[:T], eps[:T], model.likelihood)
    right = stepwise.sequence_backward(model.params, caches, dlog_p[:T], dkl[:T], model.likelihood)
    mine = backward(caches, dlog_p[:T], dkl[:T], dh_of_step)
    return max(error(mine[group][leaf], right[group][leaf]) for group in right for leaf in right[group])


def cut(params, cache, dlog_p, dkl, dh_t):
    """Truncated to one step: no gradient is passed back."""
    return 0 * dh_t


lengths = [1, 2, 3, 4, 6, 8, 12, 16, 20]
ways = {"one path missing": buggy_dh, "truncated: nothing passed back": cut}
errors = {name: [worst_error(T, hand_on) for T in lengths] for name, hand_on in ways.items()}
assert all(e[0] < 1e-12 and min(e[1:]) > 1e-3 for e in errors.values())
print(f"T = 1: {worst_error(1, buggy_dh):.0e};  T = 2: {worst_error(2, buggy_dh):.1%} off")

# %%
figure, axes = plt.subplots(figsize=(6.5, 3.6))
for (name, found), style in zip(errors.items(), ("o-", "s--")):
    axes.semilogy(lengths, np.maximum(found, 1e-16), style, label=name)
axes.axhline(1e-7, color="0.6", lw=1, ls=":")
axes.text(20, 1.6e-7, "tolerance of a gradient check", ha="right", color="0.4")
axes.set(xlabel="steps T in the test", ylabel="worst relative error", xticks=lengths, ylim=(1e-17, 10))
axes.set_title("At T = 1 nothing is passed back, and the bug is invisible")
axes.legend(loc="lower right");

# %% [markdown]
# At $T = 1$ the gradient that is passed back reaches only $h_0$, which is not a parameter. So the test passes, whatever
# that gradient is. The test also misses **truncated** backpropagation, where the state is detached from its past at
# some point: the forward pass is unchanged and the loss falls, but the model never learns dependencies further back.
# Two rules follow:
#
# - test a recurrence at $T \ge 3$, so that a gradient is passed back *and* passed back again;
# - test with different lengths, so that the recursion starts at different steps.
#
# ### Exercise 07.6 (bug): restore the missing path
#
# Fix `buggy_dh`: add the gradient that arrives through the posterior. You need `features_backward` (of `phi_z`),
# `reparameterise_backward(z_cache, dz)`, which returns `dmu, dsigma, deps`, and `infer_backward`, which returns
# `(dphi_x, dh), grads`. They take their caches as the existing lines do. (The likelihood is `model.likelihood`.)


# %%
def my_dh(params, cache, dlog_p, dkl, dh_t):
    """dh (B, H): the gradient that arrives at h_{t-1}."""
    ### BEGIN SOLUTION
    _, _, infer_cache, z_cache, phi_z_cache, generate_cache, log_p_cache, kl_cache, recur_cache = cache
    (_, dphi_z_recur, _), _ = equations.recur_backward(params["recur"], recur_cache, dh_t)
    _, dlogits = model.likelihood.log_density_backward(log_p_cache, dlog_p)
    (dphi_z, _), _ = equations.generate_backward(
        params["generate"], generate_cache, dlogits, likelihood=model.likelihood
    )
    dz, _ = equations.features_backward(params["phi_z"], phi_z_cache, dphi_z + dphi_z_recur)
    dmu_z, dsigma_z, _ = gaussian.reparameterise_backward(z_cache, dz)
    dmu_kl, dsigma_kl, _, _ = gaussian.gaussian_kl_backward(kl_cache, dkl)
    (_, dh_infer), _ = equations.infer_backward(params["infer"], infer_cache, dmu_z + dmu_kl, dsigma_z + dsigma_kl)
    return buggy_dh(params, cache, dlog_p, dkl, dh_t) + dh_infer
    ### END SOLUTION


# %%
tv.course.check("07.6", my_dh)

# %% [markdown]
# Finally, the complete check: every parameter of a small VRNN, on a ragged batch of four steps, against numerical
# gradients of the loss.
#
# > **Function** `tinyvrnn.gradcheck.check_model` · **held by**
# > `tests/test_gradcheck.py::test_check_model_names_the_leaf_that_is_wrong`

# %%
sizes = {"h_dim": 3, "features": 3, "z_dim": 2}
small, x_small, lengths_small, eps_small = all_pairs.small_model(**sizes, backend=model.backend.name)
rows = tv.gradcheck.check_model(small, x_small, lengths_small, eps_small)
agree = max(row.rel_error for row in rows) < 1e-6
print(f"{len(rows)} leaves, lengths {lengths_small.tolist()}: all agree to 1e-6: {agree}")
assert agree and len(rows) == sum(len(group) for group in small.params.values())

# %% [markdown]
# ## What you now know
#
# - The GRU's backward is elementwise down to the two sides $da$ and $dg$, which differ by a factor $r$ in one block.
# - Through time, the gradient of a state is its direct gradient plus the one passed back from the next step; weight
#   gradients are summed over all steps.
# - A sum over steps is one product over all rows, so weight gradients need no loop.
# - Only infer, draw, phi_z and recur have to run step by step. Everything else runs for all steps at once, with the
#   same arithmetic.
# - A test of a recurrence at $T = 1$ tests everything except the recurrence.
#
# You have now derived every gradient yourself. Continue with [08 · Training](08_training.ipynb), where you use them.
