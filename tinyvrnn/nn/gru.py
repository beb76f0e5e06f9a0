"""The gated recurrent unit in its reset-after form (torch.nn.GRUCell, cuDNN), with both biases.

    r = sigmoid(x W_r + b_r + h U_r + c_r)        reset
    u = sigmoid(x W_u + b_u + h U_u + c_u)        update
    n = tanh(x W_n + b_n + r * (h U_n + c_n))     candidate
    h' = (1 - u) * n + u * h

The columns of W (D, 3H), b (3H,), U (H, 3H), c (3H,) are the blocks r, u, n. `a = x W + b` and `g = h U + c` are the
two terms of the gates' pre-activations. `gru_gates_*` hold everything non-linear; a loop over time calls them directly.
Source: Cho et al., 2014, arXiv:1406.1078; the reset-after form as in the cuDNN and PyTorch documentation.
"""

from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.arrays.kernels import fused
from tinyvrnn.nn.activations import sigmoid
from tinyvrnn.nn.linear import LinearCache, linear_backward_params, linear_forward, matmul, row_blocks


class GruCache(NamedTuple):
    inputs: tuple  # x_i (..., D_i)
    h: object  # the previous state, (..., H)
    ru: object  # gates r and u, (..., 2H)
    n: object  # candidate, (..., H)
    g_n: object  # h U_n + c_n, (..., H)


def shapes(x_width, h_width):
    """{"W": (D, 3H), "b": (3H,), "U": (H, 3H), "c": (3H,)}."""
    return {"W": (x_width, 3 * h_width), "b": (3 * h_width,), "U": (h_width, 3 * h_width), "c": (3 * h_width,)}


def gru_forward(p, *inputs):
    """h' from the inputs x_1, x_2, ... (..., D_i) and, as the last one, h (..., H). Returns h' (..., H), cache."""
    *xs, h = inputs
    a, _ = linear_forward({"W": p["W"], "b": p["b"]}, *xs)
    g, _ = linear_forward({"W": p["U"], "b": p["c"]}, h)
    h_next, (ru, n, g_n) = gru_gates_forward(a, g, h)
    return h_next, GruCache(tuple(xs), h, ru, n, g_n)


def gru_gates_forward(a, g, h, out=(None, None, None)):
    """The gates from a = x W + b (..., 3H), g = h U + c (..., 3H) and h (..., H).

    Returns h' (..., H) and (ru, n, g_n). out: arrays for h', ru and n.
    """
    xp, H = namespace(h), h.shape[-1]
    h_out, ru_out, n_out = out
    ru = xp.add(a[..., : 2 * H], g[..., : 2 * H], out=ru_out)
    r, u = sigmoid(ru, out=ru)[..., :H], ru[..., H:]
    n = xp.multiply(r, g[..., 2 * H :], out=n_out)
    n += a[..., 2 * H :]
    xp.tanh(n, out=n)
    h_next = xp.subtract(h, n, out=h_out)
    h_next *= u
    h_next += n
    return h_next, (ru, n, g[..., 2 * H :])


@fused(
    "a[r u n] x[r u n] g[r u n] c[r u n] h",
    "h_next ru[r u] n g_n_out",
    """
    ru_r = sigmoid(a_r + x_r + (g_r + c_r));
    ru_u = sigmoid(a_u + x_u + (g_u + c_u));
    g_n_out = g_n + c_n;
    n = tanh(ru_r * g_n_out + (a_n + x_n));
    h_next = (h - n) * ru_u + n;
    """,
)
def gru_step(a, x, g, c, h, h_next, ru, n, g_n_out):
    """One step of a loop: `gru_gates_forward` of a + x (x may be None) and g + c. Overwrites g, and a unless x is None.

    h_next, ru, n and g_n_out receive h', ru, n and g_n.
    """
    if x is not None:
        a += x
    g += c
    g_n_out[...] = gru_gates_forward(a, g, h, (h_next, ru, n))[1][2]


@fused(
    "slopes[r u n] ru[r u] dh_next",
    "da[r u n] dg[r u n] dh",
    """
    da_n = dh_next * slopes_n;
    da_u = dh_next * slopes_u;
    da_r = da_n * slopes_r;
    dg_r = da_r;
    dg_u = da_u;
    dg_n = da_n * ru_r;
    dh = dh_next * ru_u;
    """,
)
def gru_step_backward(slopes, ru, dh_next, da, dg, dh):
    """One step of a reverse loop: fills da, dg, and dh except for its part through h U. da may be slopes."""
    gru_gates_backward(slopes, dh_next, out=da)
    np.multiply(dh_next, ru[..., dh.shape[-1] :], out=dh)
    dg[...] = da
    gru_h_side(dg, ru, out=dg)


def gru_slopes(cache):
    """The gates' derivatives that need no incoming gradient, for one step or all T at once. Returns (..., 3H).

    Blocks r, u, n: the factor of da_n in da_r, g_n r (1 - r); dh'/da_u = (h - n) u (1 - u); and
    dh'/da_n = (1 - u)(1 - n^2).
    """
    xp, H = namespace(cache.h), cache.h.shape[-1]
    slopes = xp.empty((*cache.h.shape[:-1], 3 * H), dtype=cache.h.dtype)
    xp.subtract(1, cache.ru, out=slopes[..., : 2 * H])
    xp.multiply(slopes[..., H : 2 * H], 1 - cache.n * cache.n, out=slopes[..., 2 * H :])
    slopes[..., : 2 * H] *= cache.ru
    slopes[..., :H] *= cache.g_n
    slopes[..., H : 2 * H] *= cache.h - cache.n
    return slopes


def gru_gates_backward(slopes, dh_next, out=None):
    """da = dL/da (..., 3H) from dh_next (..., H). out may be `slopes`, which is not needed afterwards."""
    xp, H = namespace(dh_next), dh_next.shape[-1]
    da = xp.empty(slopes.shape, dtype=slopes.dtype) if out is None else out
    da_n = xp.multiply(dh_next, slopes[..., 2 * H :], out=da[..., 2 * H :])
    xp.multiply(dh_next, slopes[..., H : 2 * H], out=da[..., H : 2 * H])
    xp.multiply(da_n, slopes[..., :H], out=da[..., :H])
    return da


def gru_h_side(da, ru, out=None):
    """dg = dL/dg (..., 3H): equal to da, except dg_n = da_n r, since r multiplies g_n. out may be da."""
    H = ru.shape[-1] // 2
    dg = da.copy() if out is None else out
    dg[..., 2 * H :] *= ru[..., :H]
    return dg


def gru_backward_data(p, cache, dh_next):
    """dinputs (dx_1, ..., dh), and the gates' da that `gru_backward_params` needs."""
    da = gru_gates_backward(gru_slopes(cache), dh_next)
    dxs = tuple(matmul(da, W.T) for W in row_blocks(p["W"], cache.inputs))
    u = cache.ru[..., cache.h.shape[-1] :]
    return (*dxs, dh_next * u + matmul(gru_h_side(da, cache.ru), p["U"].T)), da


def gru_backward_params(cache, da, out=None):
    """{"W": x^T da, "b": sum da, "U": h^T dg, "c": sum dg}. out: array for dg; da itself, if it is not needed later."""
    x_side = linear_backward_params(LinearCache(cache.inputs), da)
    h_side = linear_backward_params(LinearCache((cache.h,)), gru_h_side(da, cache.ru, out=out))
    return {"W": x_side["W"], "b": x_side["b"], "U": h_side["W"], "c": h_side["b"]}


def gru_backward(p, cache, dh_next):
    """Both halves: (dx_1, ..., dh), grads of W, b, U, c. dh_next (..., H)."""
    dinputs, da = gru_backward_data(p, cache, dh_next)
    return dinputs, gru_backward_params(cache, da)
