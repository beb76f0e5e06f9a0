"""The multi-layer perceptron with rectified linear units: y_i = relu(y_{i-1} W_i + b_i), i = 1..n.

The first layer may take several inputs, as in [phi_x, h] W_1. A loop over time can compute its product beforehand.
"""

from typing import NamedTuple

from tinyvrnn.nn.activations import add_relu, relu_backward
from tinyvrnn.nn.linear import LinearCache, linear_backward_params, matmul, row_blocks


class MlpCache(NamedTuple):
    inputs: tuple  # x_i (..., D_i)
    ys: tuple  # y_1 .. y_n, each (..., F)


def shapes(widths):
    """{"W1": (D, F), "b1": (F,), ...} for widths D, F, F, ..."""
    named = {}
    for i, (rows, columns) in enumerate(zip(widths, widths[1:]), start=1):
        named |= {f"W{i}": (rows, columns), f"b{i}": (columns,)}
    return named


def mlp_forward(p, *inputs):
    """y_n of the layers W1, b1 .. Wn, bn in p. inputs: x_i (..., D_i). Returns y_n (..., F), cache."""
    first, *others = zip(inputs, row_blocks(p["W1"], inputs))
    a = matmul(*first)
    for x, W in others:
        a += matmul(x, W)
    ys = mlp_tail_forward(p, a, p["b1"])
    return ys[-1], MlpCache(inputs, ys)


def mlp_tail_forward(p, a, b, out=None):
    """Everything after the first product a (..., F): relu(a + b), then layers 2..n. Overwrites a.

    b: b1, or b1 plus the other part of the first product. Returns y_1 .. y_n, in `out` if given.
    """
    ys = [add_relu(a, b, out=out[0] if out else None)]
    i = 2
    while f"W{i}" in p:
        y = matmul(ys[-1], p[f"W{i}"], out=out[i - 1] if out else None)
        ys.append(add_relu(y, p[f"b{i}"], out=y))
        i += 1
    return tuple(ys)


def mlp_backward_data(p, ys, dy, out=None):
    """Gradients dL/da_1 .. dL/da_n of the pre-activations from dy = dL/dy_n (..., F), in `out` if given."""
    das = [None] * len(ys)
    for i in range(len(ys), 0, -1):
        das[i - 1] = relu_backward(ys[i - 1], dy, out=out[i - 1] if out else None)
        if i > 1:
            dy = matmul(das[i - 1], p[f"W{i}"].T)
    return tuple(das)


def mlp_backward_params(cache, das):
    """dW_i = y_{i-1}^T da_i, db_i = sum da_i."""
    grads = {}
    layer_inputs = [cache.inputs] + [(y,) for y in cache.ys]
    for i, (inputs, da) in enumerate(zip(layer_inputs, das), start=1):
        g = linear_backward_params(LinearCache(inputs), da)
        grads |= {f"W{i}": g["W"], f"b{i}": g["b"]}
    return grads


def mlp_backward(p, cache, dy):
    """Both halves: dinputs (a tuple for several inputs), {"W1": dW1, "b1": db1, ...}."""
    das = mlp_backward_data(p, cache.ys, dy)
    dinputs = tuple(matmul(das[0], W.T) for W in row_blocks(p["W1"], cache.inputs))
    return dinputs if len(dinputs) > 1 else dinputs[0], mlp_backward_params(cache, das)
