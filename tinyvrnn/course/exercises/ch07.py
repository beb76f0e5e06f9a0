"""The exercises of notebook 07, Backward by hand II: the GRU, backpropagation through time, the batched schedule."""

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions import LIKELIHOODS, gaussian
from tinyvrnn.gradcheck.all_pairs import small_model
from tinyvrnn.models import equations, stepwise
from tinyvrnn.nn import gru, linear
from tinyvrnn.nn.activations import sigmoid


def draw_gru(rng, D, H):
    return {name: 0.6 * rng.standard_normal(shape) for name, shape in gru.shapes(D, H).items()}


def two_sizes(rng):
    return (int(n) for n in rng.permutation([2, 3, 4, 6])[:2])


def blocks(v):
    H = v.shape[-1] // 3
    return v[..., :H], v[..., H : 2 * H], v[..., 2 * H :]


# ---- 07.1: the gates -----------------------------------------------------------------------------


def gates(a, g, h):
    return gru.gru_gates_forward(a, g, h)[0]


def draw_gates(rng):
    leading, H = [(5,), (3, 4), (2, 3, 2)][rng.integers(3)], int(rng.integers(2, 7))
    return (*rng.standard_normal((2, *leading, 3 * H)), rng.standard_normal((*leading, H)))


def wrong_gates(
    candidate=lambda a, g, r: a + r * g,
    squash=np.tanh,
    mix=lambda u, n, h: (1 - u) * n + u * h,
    swap=0,
    both=np.add,
    gate=sigmoid,
):
    """The gates with one thing changed."""

    def answer(a, g, h):
        (a_r, a_u, a_n), (g_r, g_u, g_n) = blocks(a), blocks(g)
        r, u = gate(both(a_r, g_r)), gate(both(a_u, g_u))
        r, u = (u, r) if swap else (r, u)
        return mix(u, squash(candidate(a_n, g_n, r)), h)

    return answer


GATES = Task(
    "the gates",
    "write",
    gates,
    draw_gates,
    ("h_next",),
    (
        Mistake(
            "u and 1 - u are swapped: with u = 1 the old state is kept.",
            wrong_gates(mix=lambda u, n, h: u * n + (1 - u) * h),
        ),
        Mistake(
            "r multiplies both sides of the candidate: the x side is not reset.",
            wrong_gates(lambda a, g, r: r * (a + g)),
        ),
        Mistake("The reset gate has no effect.", wrong_gates(lambda a, g, r: a + g)),
        Mistake(
            "r multiplies the x side: the reset gate applies to the h side.", wrong_gates(lambda a, g, r: r * a + g)
        ),
        Mistake("The candidate goes through a sigmoid, but a state can be negative.", wrong_gates(squash=sigmoid)),
        Mistake(
            "The candidate has no activation: which function keeps it inside (-1, 1)?", wrong_gates(squash=np.copy)
        ),
        Mistake("The blocks r and u are swapped: the columns are r, u, n.", wrong_gates(swap=1)),
        Mistake("The old state's term is missing.", wrong_gates(mix=lambda u, n, h: (1 - u) * n)),
        Mistake(
            "The gates are computed from the x side alone: r and u also depend on h.", wrong_gates(both=lambda a, g: a)
        ),
        Mistake(
            "The gates are computed from the h side alone: r and u also depend on x.", wrong_gates(both=lambda a, g: g)
        ),
        Mistake(
            "The gates are sigmoids of the negative sum: check the sign in the exponent.",
            wrong_gates(gate=lambda s: sigmoid(-s)),
        ),
        Mistake("The gates go through tanh, but a gate lies between 0 and 1.", wrong_gates(gate=np.tanh)),
        Mistake("The candidate lacks its x side.", wrong_gates(lambda a, g, r: r * g)),
        Mistake(
            "The candidate contains r * h: h already enters through g, and r multiplies a block of g.",
            lambda a, g, h: wrong_gates(lambda a_n, g_n, r: a_n + g_n + r * h)(a, g, h),
        ),
        Mistake(
            "u (h - n) is added to h: with u = 0, should h or n be left?",
            wrong_gates(mix=lambda u, n, h: h + u * (h - n)),
        ),
        Mistake(
            "Each gate is a sum of two sigmoids, so it can exceed 1: add the two sides first.",
            wrong_gates(both=lambda a, g: sigmoid(a) + sigmoid(g), gate=np.copy),
        ),
        *(
            Mistake(
                f"The gates' arguments are clipped to ±{top}: far out a sigmoid still changes. Avoid the overflow in "
                "another way.",
                wrong_gates(gate=lambda s, top=top: sigmoid(np.clip(s, -top, top))),
            )
            for top in (5, 8, 10, 15)
        ),
        *(
            Mistake(
                f"The gates are a hard sigmoid, piecewise linear with slope {slope:.2g}: use the sigmoid itself.",
                wrong_gates(gate=lambda s, slope=slope: np.clip(slope * s + 0.5, 0, 1)),
            )
            for slope in (1 / 6, 0.2, 0.25)
        ),
    ),
    forbidden=(gru.gru_gates_forward, gru.gru_forward),
)

# ---- 07.2: the GRU's backward --------------------------------------------------------------------


def gru_backward(p, x, h, dh_next):
    (dx, dh), grads = gru.gru_backward(p, gru.gru_forward(p, x, h)[1], dh_next)
    return dx, dh, grads


def draw_cell(rng):
    D, H = two_sizes(rng)
    leading = [(5,), (7,), (3, 4)][rng.integers(3)]
    h, dh_next = rng.standard_normal((2, *leading, H))
    return draw_gru(rng, D, H), rng.standard_normal((*leading, D)), h, dh_next


def rows(v):
    return v.reshape(-1, v.shape[-1])


def wrong_gru(
    direct=lambda dh, u: dh * u,
    slope_n=lambda u, n: (1 - u) * (1 - n * n),
    slope_u=lambda h, n, u: (h - n) * u * (1 - u),
    slope_r=lambda g_n, h, r, c_n, a_n: g_n * r * (1 - r),
    sides=lambda da, dg: (da, da, dg, dg, dg),
    to_r=lambda da_n, dn, r: da_n,
    flat=rows,
    reset=lambda r: r,
    squash=np.tanh,
    reset_h=False,
    total=np.sum,
    through_U=lambda d, U, r: d @ U.T,
):
    """The GRU's backward with one thing changed. sides: the gradients that W, b, U, c and h get, from (da, dg)."""

    def backward(p, x, h, dh_next):
        (a_r, a_u, a_n), (g_r, g_u, g_n) = blocks(x @ p["W"] + p["b"]), blocks(h @ p["U"] + p["c"])
        r, u = sigmoid(a_r + g_r), sigmoid(a_u + g_u)
        n = squash(a_n + r * g_n)
        da_n = dh_next * slope_n(u, n)
        da_r = to_r(da_n, dh_next * (1 - u), r) * slope_r(g_n, h, r, blocks(p["c"])[2], a_n)
        da_u = dh_next * slope_u(h, n, u)
        da, dg = np.concatenate([da_r, da_u, da_n], axis=-1), np.concatenate([da_r, da_u, da_n * reset(r)], axis=-1)
        to_W, to_b, to_U, to_c, to_h = sides(da, dg)
        grads = {"W": flat(x).T @ flat(to_W), "b": total(rows(to_b), axis=0)}
        grads |= {"U": flat(h).T @ flat(to_U), "c": total(rows(to_c), axis=0)}
        if reset_h:
            blocks(grads["U"])[2][...] = rows(r * h).T @ rows(da_n)
        return to_W @ p["W"].T, direct(dh_next, u) + through_U(to_h, p["U"], r), grads

    return backward


def reset_before(d, U, r):
    """The gradient at h where r multiplies h itself, before the product with U_n."""
    H = r.shape[-1]
    return d[..., : 2 * H] @ U[:, : 2 * H].T + r * (d[..., 2 * H :] @ U[:, 2 * H :].T)


def all_reset(p, x, h, dh_next):
    dx, dh, grads = gru_backward(p, x, h, dh_next)
    return dx, dh * gru.gru_forward(p, x, h)[1].ru[..., : h.shape[-1]], grads


def sigmoid_again(y):
    """The sigmoid's derivative, taken at its result instead of its argument."""
    return sigmoid(y) * (1 - sigmoid(y))


def update_first(p, x, h, dh_next):
    """The GRU's backward with the columns read as u, r, n."""

    def turned(arrays):
        return {name: np.concatenate([blocks(v)[k] for k in (1, 0, 2)], axis=-1) for name, v in arrays.items()}

    dx, dh, grads = wrong_gru()(turned(p), x, h, dh_next)
    return dx, dh, turned(grads)


BACKWARD = Task(
    "the GRU's backward",
    "derive",
    gru_backward,
    draw_cell,
    ("dx", "dh", "grads"),
    (
        Mistake(
            "dc equals db. That is right for the blocks r and u; is it for n?",
            wrong_gru(sides=lambda da, dg: (da, da, dg, da, dg)),
        ),
        Mistake(
            "dh is right but dU and dc are not: they also belong to the side that the reset gate multiplies.",
            wrong_gru(sides=lambda da, dg: (da, da, da, da, dg)),
        ),
        Mistake(
            "dL/dU_n is off by a factor of r: which product does the reset gate multiply?",
            wrong_gru(reset=np.ones_like),
        ),
        Mistake(
            "W and b get the gradient of the h side: r multiplies h U_n + c_n but not x W_n + b_n.",
            wrong_gru(sides=lambda da, dg: (dg, dg, dg, dg, dg)),
        ),
        Mistake("dh lacks the direct path: h is also a term of the mixture.", wrong_gru(direct=lambda dh, u: 0 * dh)),
        Mistake(
            "The direct path has the factor 1 - u: what multiplies h in the mixture?",
            wrong_gru(direct=lambda dh, u: dh * (1 - u)),
        ),
        Mistake(
            "The candidate's gradient ignores u: h' contains (1 - u) n.",
            wrong_gru(slope_n=lambda u, n: 1 - n * n),
        ),
        Mistake("The derivative of tanh is not 1 - n.", wrong_gru(slope_n=lambda u, n: (1 - u) * (1 - n))),
        Mistake("The derivative of tanh is missing.", wrong_gru(slope_n=lambda u, n: 1 - u)),
        Mistake(
            "The update gate's gradient has the wrong sign: does a larger u move h' towards h or towards n?",
            wrong_gru(slope_u=lambda h, n, u: (n - h) * u * (1 - u)),
        ),
        Mistake(
            "The update gate's gradient lacks n: h' = n + u (h - n).",
            wrong_gru(slope_u=lambda h, n, u: h * u * (1 - u)),
        ),
        Mistake(
            "The reset gate's gradient has h where h U_n + c_n belongs: that would be a reset before the product.",
            wrong_gru(slope_r=lambda g_n, h, r, c_n, a_n: h * r * (1 - r)),
        ),
        Mistake(
            "The reset gate's gradient lacks the derivative of the sigmoid.",
            wrong_gru(slope_r=lambda g_n, h, r, c_n, a_n: g_n),
        ),
        Mistake(
            "The reset gate's gradient has only h U_n: what else is in the term that r multiplies?",
            wrong_gru(slope_r=lambda g_n, h, r, c_n, a_n: (g_n - c_n) * r * (1 - r)),
        ),
        Mistake(
            "No gradient reaches the reset gate: r is treated as a constant, but it is computed from x and h.",
            wrong_gru(slope_r=lambda g_n, h, r, c_n, a_n: 0 * g_n),
        ),
        Mistake(
            "No gradient reaches the update gate: u is treated as a constant, but it is computed from x and h.",
            wrong_gru(slope_u=lambda h, n, u: 0 * u),
        ),
        Mistake(
            "The update gate's gradient stops at u itself: which function computes u from its sum? Use its derivative.",
            wrong_gru(slope_u=lambda h, n, u: h - n),
        ),
        Mistake(
            "The update gate's gradient has the derivative of tanh: is that the function that computes u?",
            wrong_gru(slope_u=lambda h, n, u: (h - n) * (1 - u * u)),
        ),
        Mistake(
            "The candidate's gradient has the derivative of a sigmoid: is that the function that computes n?",
            wrong_gru(slope_n=lambda u, n: (1 - u) * n * (1 - n)),
        ),
        Mistake(
            "The candidate goes through a sigmoid, both forward and backward: look at the equation of n.",
            wrong_gru(slope_n=lambda u, n: (1 - u) * n * (1 - n), squash=sigmoid),
        ),
        Mistake("The columns are read as u, r, n: in which order do W, b, U and c store the gates?", update_first),
        Mistake(
            "That is the other convention, h' = u n + (1 - u) h: what does u multiply here?",
            wrong_gru(lambda dh, u: dh * (1 - u), lambda u, n: u * (1 - n * n), lambda h, n, u: (n - h) * u * (1 - u)),
        ),
        Mistake(
            "dh has only the direct path: h also enters r, u and n through U.",
            wrong_gru(sides=lambda da, dg: (da, da, dg, dg, 0 * dg)),
        ),
        Mistake(
            "The direct path passes back all of dh': how much of h is kept in h'?", wrong_gru(direct=lambda dh, u: dh)
        ),
        Mistake(
            "dU_n is computed from r * h: does the gate multiply h before U_n, or the product h U_n + c_n?",
            wrong_gru(reset_h=True),
        ),
        Mistake(
            "In dh, r multiplies the product of da_n and U_n: that would be right if r multiplied h before U_n does.",
            wrong_gru(sides=lambda da, dg: (da, da, dg, dg, da), through_U=reset_before),
        ),
        Mistake(
            "dU_n is computed from r * h, and in dh r multiplies the product of da_n and U_n: does the gate multiply h "
            "before U_n, or the product h U_n + c_n?",
            wrong_gru(sides=lambda da, dg: (da, da, dg, dg, da), through_U=reset_before, reset_h=True),
        ),
        Mistake("All of dh is multiplied by r: h' also depends on h in ways that r does not reset.", all_reset),
        Mistake("db and dc are means over the rows: they should be sums.", wrong_gru(total=np.mean)),
        Mistake(
            "The derivative of tanh is taken at n, but n has been through tanh: 1 - n^2 needs no second tanh.",
            wrong_gru(slope_n=lambda u, n: (1 - u) * (1 - np.tanh(n) ** 2)),
        ),
        Mistake(
            "The derivative of the sigmoid is taken at the gates, which have been through the sigmoid: write it in "
            "terms of r and u themselves.",
            wrong_gru(
                slope_r=lambda g_n, h, r, c_n, a_n: g_n * sigmoid_again(r),
                slope_u=lambda h, n, u: (h - n) * sigmoid_again(u),
            ),
        ),
        Mistake(
            "The reset gate's gradient skips tanh: r is inside the candidate's tanh, so start from da_n, not from dn.",
            wrong_gru(to_r=lambda da_n, dn, r: dn),
        ),
        Mistake(
            "The reset gate's gradient has a factor r too much: it starts from da_n, not from dg_n.",
            wrong_gru(to_r=lambda da_n, dn, r: da_n * r),
        ),
        Mistake(
            "The reset gate's gradient has the x side of the candidate: which of its terms does r multiply?",
            wrong_gru(slope_r=lambda g_n, h, r, c_n, a_n: a_n * r * (1 - r)),
        ),
        Mistake(
            "dh goes through U with da: h enters by g, so its gradient comes from dg.",
            wrong_gru(sides=lambda da, dg: (da, da, dg, dg, da)),
        ),
        Mistake(
            "With two leading axes, dW and dU sum over the first before the product: a product of sums is not the sum "
            "of the products.",
            wrong_gru(flat=lambda v: v.sum(axis=tuple(range(v.ndim - 2)))),
        ),
    ),
    forbidden=(
        gru.gru_backward,
        gru.gru_backward_data,
        gru.gru_backward_params,
        gru.gru_gates_backward,
        gru.gru_slopes,
        gru.gru_h_side,
    ),
    points=4,
)

# ---- 07.3: backpropagation through time ----------------------------------------------------------


def walk_back(
    handed_on=lambda dh, u: dh,
    masked=lambda t, lengths: t < lengths,
    late=False,
    add=True,
    order=reversed,
    read=lambda h, h_0: h,
    cell=lambda t: t,
    last=0,
    handed=1,
    own_of=lambda t: t,
):
    """Backpropagation through time over a ragged batch; other arguments change one thing."""

    def backward(p, x, h_0, dh, lengths):
        T, h, caches = len(x), h_0, []
        for t in range(T):
            h, cache = gru.gru_forward(p, x[t], read(h, h_0))
            caches.append(cache)
        dx, dh_next, total = np.zeros_like(x), np.zeros_like(h_0), {name: np.zeros_like(v) for name, v in p.items()}
        for t in order(range(T)):
            own = dh[own_of(t)] * masked(t, lengths)[:, None]
            arriving = dh_next if late else handed * dh_next + own
            (dx[t], dh_cell), grads = gru.gru_backward(p, caches[cell(t)], arriving)
            u = caches[cell(t)].ru[:, h_0.shape[1] :]
            dh_next = handed_on(dh_cell, arriving * u) + (own if late else 0)
            total = {name: total[name] + grads[name] if add else grads[name] for name in p}
        return dx, dh_next + last * dh[0], total

    return backward


through_time = walk_back()


def draw_time(rng):
    D, H = two_sizes(rng)
    T, B = (int(n) for n in rng.permutation([3, 4, 5, 7])[:2])
    lengths = np.append(rng.permutation(T)[:2] + 1, rng.integers(1, T + 1, B - 2))
    p, x, h_0 = draw_gru(rng, D, H), rng.standard_normal((T, B, D)), rng.standard_normal((B, H))
    return p, x, h_0, rng.standard_normal((T, B, H)), lengths


def mean_over_time(p, x, h_0, dh, lengths):
    dx, dh_0, grads = through_time(p, x, h_0, dh, lengths)
    return dx, dh_0, {name: value / np.asarray(len(x), x.dtype) for name, value in grads.items()}


TIME = Task(
    "backpropagation through time",
    "write",
    through_time,
    draw_time,
    ("dx", "dh_0", "grads"),
    (
        Mistake(
            "No gradient is passed back between steps: later losses reach h_{t-1} only through h_t.",
            walk_back(handed_on=lambda dh, direct: 0 * dh),
        ),
        Mistake(
            "Step t's gradient at h_{t-1} is not used in step t - 1: later losses reach h_{t-1} only through h_t.",
            walk_back(handed=0),
        ),
        Mistake(
            "Step t reads dh[t - 1]: with t counted from 0, which state comes out of cell t?",
            walk_back(own_of=lambda t: t - 1),
        ),
        Mistake(
            "Step t reads dh[t - 1] and the mask of step t - 1: counted from 0, which state comes out of cell t?",
            walk_back(own_of=lambda t: t - 1, masked=lambda t, lengths: t - 1 < lengths),
        ),
        Mistake(
            "The mask is the wrong way round: dh is used only beyond each sequence's end.",
            walk_back(masked=lambda t, lengths: t >= lengths),
        ),
        Mistake(
            "Only the direct path passes the gradient back: h_{t-1} also enters the gates of step t.",
            walk_back(handed_on=lambda dh, direct: direct),
        ),
        Mistake(
            "The values of dh beyond a sequence's end are used: no loss reads those states.",
            walk_back(masked=lambda t, lengths: lengths > 0),
        ),
        Mistake(
            "Each sequence ends one step too late: with t counted from 0 its last real step is lengths - 1.",
            walk_back(masked=lambda t, lengths: t <= lengths),
        ),
        Mistake(
            "Each sequence ends one step too early: with t counted from 0 its last real step is lengths - 1.",
            walk_back(masked=lambda t, lengths: t < lengths - 1),
        ),
        Mistake(
            "Only the last real step gets a direct gradient: every h_t has one.",
            walk_back(masked=lambda t, lengths: t == lengths - 1),
        ),
        Mistake(
            "The weights' gradient is that of a single step: every step uses the same weights.",
            walk_back(add=False),
        ),
        Mistake("The weights' gradient is a mean over the steps: it should be a sum.", mean_over_time),
        Mistake(
            "dh[t] is added one step too late: it belongs to h after step t, so it also passes through that cell.",
            walk_back(late=True),
        ),
        Mistake("The loop runs forward: the gradient of step t needs that of step t + 1 first.", walk_back(order=iter)),
        Mistake(
            "Every sequence ends where the first one does: lengths has one entry per sequence.",
            walk_back(masked=lambda t, lengths: 0 * lengths + t < lengths[0]),
        ),
        Mistake(
            "Every sequence ends where the shortest one does: lengths has one entry per sequence.",
            walk_back(masked=lambda t, lengths: 0 * lengths + t < lengths.min()),
        ),
        Mistake(
            "Every step uses the cache of the last step: each cell has a cache of its own.",
            walk_back(cell=lambda t: -1),
        ),
        Mistake(
            "The loop stops before step 0: the first step also has a dx, and its share of the weights' gradient.",
            walk_back(order=lambda steps: reversed(steps[1:])),
        ),
        Mistake(
            "The caches are taken from the last to the first, but dh and dx from the first to the last: count t down.",
            walk_back(order=iter, cell=lambda t: -1 - t),
        ),
        Mistake(
            "In the forward pass each cell reads h_0: cell t reads the state that cell t - 1 returned.",
            walk_back(read=lambda h, h_0: h_0),
        ),
        Mistake(
            "The forward pass starts from a state of zeros: it should start from h_0.",
            walk_back(read=lambda h, h_0: 0 * h if h is h_0 else h),
        ),
        Mistake(
            "dh[0] is added to dh_0, but it belongs to the state after the first cell: no loss reads h_0 directly.",
            walk_back(last=1),
        ),
    ),
    points=4,
)

# ---- 07.4: weight gradients after the loop -------------------------------------------------------


def after_the_loop(x, h, r, da):
    dg = da.copy()
    dg[..., 2 * r.shape[-1] :] *= r
    x_side = linear.linear_backward_params(linear.LinearCache((x,)), da)
    h_side = linear.linear_backward_params(linear.LinearCache((h[:-1],)), dg)
    return x_side["W"], x_side["b"], h_side["W"], h_side["b"]


def draw_after(rng):
    D, H = two_sizes(rng)
    T, B = (int(n) for n in rng.permutation([3, 4, 5, 7])[:2])
    x, h = rng.standard_normal((T, B, D)), rng.standard_normal((T + 1, B, H))
    return x, h, rng.random((T, B, H)), rng.standard_normal((T, B, 3 * H))


def wrong_after(before=lambda h: h[:-1], reset=lambda da, r: scaled(da, r, 2), side=0, b=np.sum, bias=1):
    """The four gradients with one thing changed."""

    def answer(x, h, r, da):
        dg = reset(da, r)
        dW, dU = rows(x).T @ rows(dg if side else da), rows(before(h)).T @ rows(dg)
        return dW, b(rows(dg if side else da), axis=0), dU, b(rows(dg if bias else da), axis=0)

    return answer


def scaled(da, r, block):
    """da with one block of columns times r."""
    H, dg = r.shape[-1], da.copy()
    dg[..., block * H : (block + 1) * H] *= r
    return dg


def reset_first(x, h, r, da):
    """The four gradients where r multiplies h_{t-1} before the product with U_n."""
    before, H = rows(h[:-1]), r.shape[-1]
    of_n = (rows(r) * before).T @ rows(da)[:, 2 * H :]
    dW, db, dU, _ = after_the_loop(x, h, r, da)
    return dW, db, np.concatenate([dU[:, : 2 * H], of_n], axis=1), db


def last_step(x, h, r, da):
    return after_the_loop(x[-1:], h[-2:], r[-1:], da[-1:])


AFTER = Task(
    "weight gradients after the loop",
    "write",
    after_the_loop,
    draw_after,
    ("dW", "db", "dU", "dc"),
    (
        Mistake(
            "dU pairs each da with the state AFTER its step: the product is h_{t-1} U.", wrong_after(lambda h: h[1:])
        ),
        Mistake("dc equals db: c_n is inside the term that r multiplies.", wrong_after(bias=0)),
        Mistake("dU and dc lack r: what does the reset gate multiply?", wrong_after(reset=lambda da, r: da)),
        Mistake(
            "r multiplies its own block r: it belongs to the block n.",
            wrong_after(reset=lambda da, r: scaled(da, r, 0)),
        ),
        Mistake(
            "r multiplies the block u: it belongs to the block n.", wrong_after(reset=lambda da, r: scaled(da, r, 1))
        ),
        Mistake(
            "r multiplies the whole h side: only the block n is reset.",
            wrong_after(reset=lambda da, r: da * np.concatenate([r, r, r], axis=-1)),
        ),
        Mistake(
            "dU_n pairs da_n with r * h_{t-1}, and dc_n lacks r: does the gate multiply h before U_n, or the product "
            "h U_n + c_n?",
            reset_first,
        ),
        Mistake(
            "dU_n pairs da_n with r * h_{t-1}: does the gate multiply h before U_n, or the product h U_n + c_n?",
            lambda *arguments: (*reset_first(*arguments)[:3], after_the_loop(*arguments)[3]),
        ),
        Mistake(
            "In dW, x has its axes of steps and sequences swapped, but da has not: the rows no longer belong together.",
            lambda x, h, r, da: (rows(x.swapaxes(0, 1)).T @ rows(da), *after_the_loop(x, h, r, da)[1:]),
        ),
        Mistake("W and b get the gradient of the h side: r does not multiply x W_n + b_n.", wrong_after(side=1)),
        Mistake("db and dc are means over the rows: they should be sums.", wrong_after(b=np.mean)),
        Mistake("That is the contribution of the last step only: all T steps use the weights.", last_step),
        Mistake(
            "The block n has the factor 1 - r: the reset gate r itself multiplies the h side.",
            wrong_after(reset=lambda da, r: scaled(da, 1 - r, 2)),
        ),
        Mistake(
            "da has been multiplied by r before dg is computed from it: da itself stays as it is, and dg has r once.",
            lambda x, h, r, da: after_the_loop(x, h, r, scaled(da, r, 2)),
        ),
        Mistake(
            "All four are divided by T: they should be sums over the steps.",
            lambda x, h, r, da: tuple(value / x.shape[0] for value in after_the_loop(x, h, r, da)),
        ),
        Mistake(
            "All four are divided by B: they should be sums over the sequences as well as over the steps.",
            lambda x, h, r, da: tuple(value / x.shape[1] for value in after_the_loop(x, h, r, da)),
        ),
    ),
    forbidden=(
        gru.gru_backward_params,
        linear.linear_backward_params,
        linear.linear_backward,
    ),
)

# ---- 07.5: what has to stay in the loop ----------------------------------------------------------

PIECES = ("phi_x", "prior", "infer", "draw", "phi_z", "generate", "kl", "likelihood", "recur")


def nudged_step(model, x, h, eps, moved):
    """One step of the VRNN, with the result of the piece `moved` perturbed: {piece: its results}, h_t."""
    p, seen = model.params, {}

    def keep(name, *values):
        seen[name] = [v + 0.01 for v in values] if name == moved else list(values)
        return seen[name]

    (phi_x,) = keep("phi_x", equations.features_forward(p["phi_x"], x)[0])
    prior = keep("prior", *equations.prior_forward(p["prior"], h)[0])
    q = keep("infer", *equations.infer_forward(p["infer"], phi_x, h)[0])
    (z,) = keep("draw", gaussian.reparameterise_forward(*q, eps)[0])
    (phi_z,) = keep("phi_z", equations.features_forward(p["phi_z"], z)[0])
    outputs = keep("generate", *equations.generate_forward(p["generate"], phi_z, h, model.likelihood)[0])
    keep("kl", gaussian.gaussian_kl_forward(*q, *prior)[0])
    keep("likelihood", model.likelihood.log_density_forward(x, *outputs)[0])
    (h_t,) = keep("recur", equations.recur_forward(p["recur"], phi_x, phi_z, h)[0])
    return seen, h_t


def what_stays():
    """The pieces that depend on h_{t-1} and that h_t depends on, found by perturbing each."""
    model, x, _, eps = small_model()
    h = np.random.default_rng(0).standard_normal((x.shape[1], model.h_dim))
    before, h_t = nudged_step(model, x[0], h, eps[0], None)
    other, _ = nudged_step(model, x[0], h + 0.1, eps[0], None)
    reacts = {name for name in PIECES if any(not np.array_equal(a, b) for a, b in zip(before[name], other[name]))}
    moves = {name for name in PIECES if not np.array_equal(nudged_step(model, x[0], h, eps[0], name)[1], h_t)}
    return reacts & moves


LOOP = Prediction(
    "what has to stay in the loop?",
    what_stays,
    (
        Mistake("All of them? Look for a piece whose result the next step does not read.", set(PIECES)),
        Mistake("h_t depends on phi_x, but does phi_x need h_{t-1}?", {"phi_x", "infer", "draw", "phi_z", "recur"}),
        Mistake(
            "The prior needs h_{t-1}, but which piece needs the prior?", {"prior", "infer", "draw", "phi_z", "recur"}
        ),
        Mistake(
            "Generation needs h_{t-1}, but in training x_t is given: which piece of the recurrence needs its outputs?",
            {"infer", "draw", "phi_z", "generate", "recur"},
        ),
        Mistake("h_t is also a function of z_t. Where does z_t come from?", {"recur"}),
        Mistake("There are two more pieces between infer and recur.", {"infer", "recur"}),
        Mistake("Does the recurrence read z_t itself?", {"infer", "draw", "recur"}),
        Mistake(
            "Only the loss reads the two terms of the bound.",
            {"infer", "draw", "phi_z", "recur", "kl", "likelihood"},
        ),
        Mistake(
            "That would be a model without q: in training, z_t comes from the posterior.",
            {"prior", "draw", "phi_z", "recur"},
        ),
        Mistake(
            "Those are the pieces that read h_{t-1} directly. Does h_t need all of them, and where does z_t come from?",
            {"prior", "infer", "generate", "recur"},
        ),
        Mistake(
            "All of these depend on h_{t-1}. But two of them do not affect h_t when x_t is given.",
            {"prior", "infer", "draw", "phi_z", "generate", "recur"},
        ),
        Mistake("The noise eps is drawn in advance, but z_t also needs mu_z and sigma_z.", {"infer", "phi_z", "recur"}),
    ),
    next_cell=False,
)

# ---- 07.6: the path through the posterior --------------------------------------------------------

BERNOULLI = LIKELIHOODS["bernoulli"]


def roads(params, cache, dlog_p, dkl, dh_t):
    return stepwise.step_backward(params, cache, dlog_p, dkl, dh_t, BERNOULLI)[0]


def draw_roads(rng, B=None):
    X, H, Z, F = (int(n) for n in rng.permutation([2, 3, 4, 5]))
    B = B or int(rng.integers(3, 7))
    model, *_ = small_model(
        x_dim=X, h_dim=H, z_dim=Z, features=F, layers=int(rng.integers(1, 3)), seed=int(rng.integers(99))
    )
    model.theta += 0.4 * rng.standard_normal(model.theta.shape)
    x, h, eps = rng.random((B, X)), rng.standard_normal((B, H)), rng.standard_normal((B, Z))
    _, cache = stepwise.step_forward(model.params, x, h, eps, BERNOULLI)
    dlog_p, dkl = rng.standard_normal((2, B))
    return model.params, cache, dlog_p, dkl, rng.standard_normal((B, H))


def wrong_roads(prior=1, generate=1, infer=1, recur=1, kl=1, future=1, own=1, sigma=1, eps=1, of_q=slice(2), feature=1):
    """The gradient at h_{t-1} with some of its parts multiplied by 0, or with a result of another place."""

    def answer(params, cache, dlog_p, dkl, dh_t):
        _, prior_cache, infer_cache, z_cache, phi_z_cache, generate_cache, log_p_cache, kl_cache, recur_cache = cache
        *dphi, dh_recur = equations.recur_backward(params["recur"], recur_cache, dh_t)[0]
        _, dlogits = BERNOULLI.log_density_backward(log_p_cache, dlog_p)
        (dphi_z, dh_generate), _ = equations.generate_backward(
            params["generate"], generate_cache, dlogits, likelihood=BERNOULLI
        )
        of_kl = gaussian.gaussian_kl_backward(kl_cache, dkl)
        dmu_kl, dsigma_kl = of_kl[of_q]
        dh_prior, _ = equations.prior_backward(params["prior"], prior_cache, *of_kl[2:])
        dz, _ = equations.features_backward(params["phi_z"], phi_z_cache, own * dphi_z + future * dphi[feature])
        dmu_z, dsigma_z, _ = gaussian.reparameterise_backward(z_cache, dz)
        dsigma_z = dsigma_z if eps else dz
        dmu_z, dsigma_z = dmu_z + kl * dmu_kl, sigma * dsigma_z + kl * dsigma_kl
        (_, dh_infer), _ = equations.infer_backward(params["infer"], infer_cache, dmu_z, dsigma_z)
        return recur * dh_recur + generate * dh_generate + infer * dh_infer + prior * dh_prior

    return answer


ROADS = Task(
    "the path through the posterior",
    "bug",
    roads,
    draw_roads,
    ("dh",),
    (
        Mistake(
            "The path through the posterior is still missing: q(z_t | ...) also reads h_{t-1}.", wrong_roads(infer=0)
        ),
        Mistake("The path is there, but mu_z and sigma_z also get a gradient from the KL.", wrong_roads(kl=0)),
        Mistake("z_t is also read by the GRU: its contribution to dphi_z is missing.", wrong_roads(future=0)),
        Mistake("z_t is also read by the decoder: its contribution to dphi_z is missing.", wrong_roads(own=0)),
        Mistake("sigma_z gets a gradient only from the KL: z_t depends on sigma_z as well.", wrong_roads(sigma=0)),
        Mistake(
            "mu_z and sigma_z get a gradient only from the KL: z_t depends on both of them too.",
            wrong_roads(own=0, future=0),
        ),
        Mistake(
            "From the KL, mu_z and sigma_z get the gradients of mu_0 and sigma_0: in which order are they returned?",
            wrong_roads(of_q=slice(2, 4)),
        ),
        Mistake(
            "From the GRU, phi_z gets the gradient of phi_x: in which order are they returned?",
            wrong_roads(feature=0),
        ),
        Mistake("The prior's contribution, which the buggy version had, is missing.", wrong_roads(prior=0)),
        Mistake("The decoder's contribution, which the buggy version had, is missing.", wrong_roads(generate=0)),
        Mistake("The GRU's contribution, which the buggy version had, is missing.", wrong_roads(recur=0)),
        Mistake(
            "That is the path through the posterior alone: add it to those of the buggy version.",
            wrong_roads(recur=0, generate=0, prior=0),
        ),
        Mistake("sigma_z gets dz itself: in z_t, what multiplies sigma_z?", wrong_roads(eps=0)),
        Mistake("The KL's gradient is subtracted: dkl already has its sign.", wrong_roads(kl=-1)),
        Mistake(
            "dh_t is returned as it came: that is the gradient at h_t, not at h_{t-1}.",
            lambda params, cache, dlog_p, dkl, dh_t: dh_t,
        ),
    ),
    forbidden=(stepwise.step_backward, stepwise.sequence_backward),
    points=3,
)

EXERCISES = {"07.1": GATES, "07.2": BACKWARD, "07.3": TIME, "07.4": AFTER, "07.5": LOOP, "07.6": ROADS}
