"""The gated recurrent unit in its reset-after form (torch.nn.GRUCell, cuDNN), with both biases.

    r = sigmoid(x W_r + b_r + h U_r + c_r)        reset
    u = sigmoid(x W_u + b_u + h U_u + c_u)        update
    n = tanh(x W_n + b_n + r * (h U_n + c_n))     candidate
    h' = (1 - u) * n + u * h

The columns of W (D, 3H), b (3H,), U (H, 3H), c (3H,) are the blocks r, u, n. `a = x W + b` and `g = h U + c` are the
two sides of the gates. All that is not linear is in `gru_gates_*`, which a loop over time calls by itself.
Source: Cho et al., 2014, arXiv:1406.1078; the reset-after form as in the cuDNN and PyTorch documentation.
"""

from typing import NamedTuple

from tinyvrnn.backend import namespace
from tinyvrnn.nn.activations import sigmoid
from tinyvrnn.nn.linear import LinearCache, linear_backward_params, linear_forward, matmul, row_blocks


class GruCache(NamedTuple):
    inputs: tuple  # x_i (..., D_i)
    h: object  # the state before, (..., H)
    ru: object  # gates r and u, (..., 2H)
    n: object  # candidate, (..., H)
    g_n: object  # h U_n + c_n, (..., H)


class GruSlopes(NamedTuple):
    """The derivatives of the gates that do not depend on the gradient that arrives, so all steps' at once."""

    dh: object  # dh'/dh along the direct path: u
    da_n: object  # dh'/da_n: (1 - u)(1 - n^2)
    da_u: object  # dh'/da_u: (h - n) u (1 - u)
    da_r: object  # da_r per unit of da_n: g_n r (1 - r)
    r: object  # dg_n per unit of da_n


def shapes(x_width, h_width):
    """{"W": (D, 3H), "b": (3H,), "U": (H, 3H), "c": (3H,)}."""
    return {"W": (x_width, 3 * h_width), "b": (3 * h_width,), "U": (h_width, 3 * h_width), "c": (3 * h_width,)}


def gru_forward(p, *inputs):
    """h' from the inputs x_1, x_2, ... (..., D_i) and, last, h (..., H). Returns h' (..., H), cache."""
    *xs, h = inputs
    a, _ = linear_forward({"W": p["W"], "b": p["b"]}, *xs)
    g, _ = linear_forward({"W": p["U"], "b": p["c"]}, h)
    h_next, (ru, n, g_n) = gru_gates_forward(a, g, h)
    return h_next, GruCache(tuple(xs), h, ru, n, g_n)


def gru_gates_forward(a, g, h, out=(None, None, None)):
    """The gates from a = x W + b (..., 3H), g = h U + c (..., 3H) and h (..., H).

    Returns h' (..., H) and (ru, n, g_n); `out` gives arrays for h', ru and n.
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


def gru_slopes(cache):
    """All of the gates' backward pass that needs no incoming gradient; works on one step or on all T at once."""
    h, ru, n, g_n = cache[1:]
    H = h.shape[-1]
    r, u = ru[..., :H], ru[..., H:]
    not_ru = 1 - ru
    return GruSlopes(
        dh=u,
        da_n=not_ru[..., H:] * (1 - n * n),
        da_u=(h - n) * u * not_ru[..., H:],
        da_r=g_n * r * not_ru[..., :H],
        r=r,
    )


def gru_gates_backward(slopes, dh_next, out=(None, None)):
    """dL/da, dL/dg (..., 3H) and the direct part of dL/dh (..., H), from dh_next (..., H)."""
    xp, H = namespace(dh_next), dh_next.shape[-1]
    da, dg = (xp.empty((*dh_next.shape[:-1], 3 * H), dh_next.dtype) if o is None else o for o in out)
    da_n = xp.multiply(dh_next, slopes.da_n, out=da[..., 2 * H :])
    xp.multiply(da_n, slopes.da_r, out=da[..., :H])
    xp.multiply(dh_next, slopes.da_u, out=da[..., H : 2 * H])
    dg[..., : 2 * H] = da[..., : 2 * H]
    xp.multiply(da_n, slopes.r, out=dg[..., 2 * H :])
    return da, dg, dh_next * slopes.dh


def gru_backward_data(p, cache, dh_next):
    """dinputs (dx_1, ..., dh) and the gates' (da, dg) that `gru_backward_params` needs."""
    da, dg, dh = gru_gates_backward(gru_slopes(cache), dh_next)
    dxs = tuple(matmul(da, W.T) for W in row_blocks(p["W"], cache.inputs))
    return (*dxs, dh + matmul(dg, p["U"].T)), (da, dg)


def gru_backward_params(cache, da, dg):
    """{"W": x^T da, "b": sum da, "U": h^T dg, "c": sum dg}."""
    x_side = linear_backward_params(LinearCache(cache.inputs), da)
    h_side = linear_backward_params(LinearCache((cache.h,)), dg)
    return {"W": x_side["W"], "b": x_side["b"], "U": h_side["W"], "c": h_side["b"]}


def gru_backward(p, cache, dh_next):
    """Both halves: (dx_1, ..., dh), grads of W, b, U, c. dh_next (..., H)."""
    dinputs, (da, dg) = gru_backward_data(p, cache, dh_next)
    return dinputs, gru_backward_params(cache, da, dg)
