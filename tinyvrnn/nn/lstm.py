"""The long short-term memory in the form of torch.nn.LSTMCell, with both biases.

    i = sigmoid(x W_i + b_i + h U_i + c_i)        input
    f = sigmoid(x W_f + b_f + h U_f + c_f)        forget
    n = tanh(x W_n + b_n + h U_n + c_n)           candidate (torch's g)
    o = sigmoid(x W_o + b_o + h U_o + c_o)        output
    m' = f * m + i * n                            memory, the cell state
    h' = o * tanh(m')

The state is [h, m], one array (..., 2H); the memory is called m, since c is a bias. The columns of W (D, 4H), b (4H,),
U (H, 4H), c (4H,) are the blocks i, f, n, o; a and g as in gru.py. The forget bias starts at 1, to keep memory.
Source: Hochreiter and Schmidhuber, 1997; Gers et al., 2000 (forget gate); Jozefowicz et al., 2015 (its bias of 1).
"""

from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.arrays.kernels import fused
from tinyvrnn.nn.activations import sigmoid
from tinyvrnn.nn.linear import LinearCache, linear_backward_params, linear_forward, matmul, row_blocks


class LstmCache(NamedTuple):
    inputs: tuple  # x_i (..., D_i)
    state: object  # the previous [h, m], (..., 2H)
    ifno: object  # the gates and the candidate, (..., 4H)
    tanh_m: object  # tanh of the new memory m', (..., H)


def shapes(x_width, h_width):
    """{"W": (D, 4H), "b": (4H,), "U": (H, 4H), "c": (4H,)}."""
    return {"W": (x_width, 4 * h_width), "b": (4 * h_width,), "U": (h_width, 4 * h_width), "c": (4 * h_width,)}


def initialise(p):
    """Set the forget bias of new parameters to 1, in place, so that f starts near 0.73 instead of 0.5."""
    H = p["U"].shape[0]
    p["b"][H : 2 * H] = 1


def lstm_forward(p, *inputs):
    """[h', m'] (..., 2H), cache, from the inputs x_1, x_2, ... (..., D_i) and, as the last one, [h, m] (..., 2H)."""
    *xs, state = inputs
    a, _ = linear_forward({"W": p["W"], "b": p["b"]}, *xs)
    g, _ = linear_forward({"W": p["U"], "b": p["c"]}, state[..., : p["U"].shape[0]])
    state_next, gates = lstm_gates_forward(a, g, state)
    return state_next, LstmCache(tuple(xs), state, *gates)


def lstm_gates_forward(a, g, state, out=(None, None, None)):
    """The gates from a = x W + b (..., 4H), g = h U + c (..., 4H) and the state [h, m] (..., 2H).

    Returns [h', m'] (..., 2H) and (ifno, tanh_m). out: arrays for the three.
    """
    xp, H = namespace(state), state.shape[-1] // 2
    state_out, ifno_out, tanh_out = out
    ifno = xp.add(a, g, out=ifno_out)
    sigmoid(ifno[..., : 2 * H], out=ifno[..., : 2 * H])
    xp.tanh(ifno[..., 2 * H : 3 * H], out=ifno[..., 2 * H : 3 * H])
    sigmoid(ifno[..., 3 * H :], out=ifno[..., 3 * H :])
    state_next = xp.empty(state.shape, dtype=state.dtype) if state_out is None else state_out
    m = xp.multiply(ifno[..., H : 2 * H], state[..., H:], out=state_next[..., H:])
    m += ifno[..., :H] * ifno[..., 2 * H : 3 * H]
    tanh_m = xp.tanh(m, out=tanh_out)
    xp.multiply(ifno[..., 3 * H :], tanh_m, out=state_next[..., :H])
    return state_next, (ifno, tanh_m)


@fused(
    "a[i f n o] x[i f n o] g[i f n o] c[i f n o] state[h m]",
    "state_next[h m] ifno[i f n o] tanh_m",
    """
    ifno_i = sigmoid(a_i + x_i + (g_i + c_i));
    ifno_f = sigmoid(a_f + x_f + (g_f + c_f));
    ifno_n = tanh(a_n + x_n + (g_n + c_n));
    ifno_o = sigmoid(a_o + x_o + (g_o + c_o));
    state_next_m = ifno_f * state_m + ifno_i * ifno_n;
    tanh_m = tanh(state_next_m);
    state_next_h = ifno_o * tanh_m;
    """,
)
def lstm_step(a, x, g, c, state, state_next, ifno, tanh_m):
    """One step of a loop: `lstm_gates_forward` of a + x (x may be None) and g + c, into state_next, ifno and tanh_m.

    Overwrites g, and a unless x is None.
    """
    if x is not None:
        a += x
    g += c
    lstm_gates_forward(a, g, state, (state_next, ifno, tanh_m))


@fused(
    "slopes[i f n o m] ifno[i f n o] dstate_next[h m]",
    "da[i f n o] dstate[h m]",
    """
    T dm = dstate_next_h * slopes_m + dstate_next_m;
    da_i = dm * slopes_i;
    da_f = dm * slopes_f;
    da_n = dm * slopes_n;
    da_o = dstate_next_h * slopes_o;
    dstate_h = 0;
    dstate_m = dm * ifno_f;
    """,
)
def lstm_step_backward(slopes, ifno, dstate_next, da, dstate):
    """One step of a reverse loop: `lstm_gates_backward` into da and dstate. da may be slopes[..., : 4 * H]."""
    lstm_gates_backward(slopes, ifno, dstate_next, out=da, dstate=dstate)


def lstm_slopes(cache):
    """The gates' derivatives that need no incoming gradient, for one step or all T at once. Returns (..., 5H).

    Blocks: the factors of dm' in da_i, da_f, da_n, which are n i (1 - i), m f (1 - f), i (1 - n^2); the factor of dh'
    in da_o, tanh(m') o (1 - o); and dh'/dm' = o (1 - tanh(m')^2).
    """
    xp, H = namespace(cache.ifno), cache.tanh_m.shape[-1]
    i, n, o = (cache.ifno[..., k * H : (k + 1) * H] for k in (0, 2, 3))
    slopes = xp.empty((*cache.tanh_m.shape[:-1], 5 * H), dtype=cache.ifno.dtype)
    xp.subtract(1, cache.ifno, out=slopes[..., : 4 * H])
    slopes[..., : 4 * H] *= cache.ifno
    slopes[..., :H] *= n
    slopes[..., H : 2 * H] *= cache.state[..., H:]
    xp.multiply(1 - n * n, i, out=slopes[..., 2 * H : 3 * H])
    slopes[..., 3 * H : 4 * H] *= cache.tanh_m
    xp.multiply(1 - cache.tanh_m * cache.tanh_m, o, out=slopes[..., 4 * H :])
    return slopes


def lstm_gates_backward(slopes, ifno, dstate_next, out=None, dstate=None):
    """da = dL/da (..., 4H), and the part of dL/d[h, m] (..., 2H) that does not pass through h U: 0 and dm' f.

    dstate_next: dL/d[h', m'] (..., 2H). out, dstate: arrays for the two; out may be slopes[..., : 4 * H], which is not
    needed afterwards.
    """
    xp, H = namespace(dstate_next), dstate_next.shape[-1] // 2
    dh, dstate = dstate_next[..., :H], xp.empty_like(dstate_next) if dstate is None else dstate
    dstate[..., :H] = 0
    dm = xp.multiply(dh, slopes[..., 4 * H :], out=dstate[..., H:])
    dm += dstate_next[..., H:]
    da = xp.empty(ifno.shape, dtype=ifno.dtype) if out is None else out
    for k in range(3):
        xp.multiply(dm, slopes[..., k * H : (k + 1) * H], out=da[..., k * H : (k + 1) * H])
    xp.multiply(dh, slopes[..., 3 * H : 4 * H], out=da[..., 3 * H :])
    dm *= ifno[..., H : 2 * H]
    return da, dstate


def lstm_backward_data(p, cache, dstate_next):
    """dinputs (dx_1, ..., d[h, m]), and the gates' da that `lstm_backward_params` needs."""
    da, dstate = lstm_gates_backward(lstm_slopes(cache), cache.ifno, dstate_next)
    dxs = tuple(matmul(da, W.T) for W in row_blocks(p["W"], cache.inputs))
    dstate[..., : p["U"].shape[0]] = matmul(da, p["U"].T)
    return (*dxs, dstate), da


def lstm_backward_params(cache, da):
    """{"W": x^T da, "b": sum da, "U": h^T da, "c": sum da}; a and g enter as a sum, so dg = da."""
    x_side = linear_backward_params(LinearCache(cache.inputs), da)
    h = cache.state[..., : cache.tanh_m.shape[-1]]
    h_side = linear_backward_params(LinearCache((h,)), da)
    return {"W": x_side["W"], "b": x_side["b"], "U": h_side["W"], "c": h_side["b"]}


def lstm_backward(p, cache, dstate_next):
    """Both halves: (dx_1, ..., d[h, m]), grads of W, b, U, c. dstate_next = dL/d[h', m'] (..., 2H)."""
    dinputs, da = lstm_backward_data(p, cache, dstate_next)
    return dinputs, lstm_backward_params(cache, da)
