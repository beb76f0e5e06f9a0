"""The linear layer, y = [x_1, x_2, ...] W + b, and its backward pass in two halves."""

from typing import NamedTuple

from tinyvrnn.arrays.backend import backend_of, namespace
from tinyvrnn.arrays.kernels import fused
from tinyvrnn.arrays.strict import counted_as_one_launch


class LinearCache(NamedTuple):
    inputs: tuple  # x_i (..., D_i)


def matmul(x, W, out=None):
    """x W for x (..., D) and W (D, E), as one matrix product over all leading axes."""
    if x.ndim == 2:
        return namespace(x).matmul(x, W, out=out)
    rows = x.reshape(-1, x.shape[-1])
    flat_out = None if out is None else out.reshape(-1, W.shape[1])
    y = namespace(x).matmul(rows, W, out=flat_out)
    return y.reshape(*x.shape[:-1], W.shape[1])


def products(x, *Ws):
    """(x W_1, x W_2, ...) of x (B, D) and W_i (D, E_i)."""
    return tuple(matmul(x, W) for W in Ws)


def products_with(*Ws):
    """The function x -> products(x, W_1, W_2, ...), for repeated calls.

    On a device it is one product with [W_1 | W_2 | ...], which saves launches. On the host separate products are faster
    (docs/decisions.md).
    """
    if backend_of(Ws[0]).name == "cupy":
        return side_by_side(*Ws)
    each = counted_as_one_launch(products)
    return lambda x: each(x, *Ws)


def side_by_side(*Ws):
    """`products_with` as one product; the results are views of it."""
    joined, widths = namespace(Ws[0]).concatenate(Ws, axis=1), [W.shape[1] for W in Ws]
    columns = [slice(sum(widths[:k]), sum(widths[: k + 1])) for k in range(len(Ws))]

    def call(x):
        y = matmul(x, joined)
        return tuple(y[..., block] for block in columns)

    return call


@fused("a b c", "total", "total = total + a + b + c;")
def add_to(a, b, c, total):
    """total += a + b + c; c may be None."""
    total += a
    total += b
    if c is not None:
        total += c


def row_blocks(W, inputs):
    """Cut W (D_1 + D_2 + ..., E) into the row blocks that multiply the inputs x_i (..., D_i)."""
    start = 0
    for x in inputs:
        yield W[start : start + x.shape[-1]]
        start += x.shape[-1]


def output_layer(p):
    """The linear layer of a head, whose leaves are called W_out and b_out."""
    return {"W": p["W_out"], "b": p["b_out"]}


def linear_forward(p, *inputs):
    """y = [x_1, x_2, ...] W + b, without concatenating the inputs.

    p: W (D_1 + D_2 + ..., E), b (E,). inputs: x_i (..., D_i). Returns y (..., E), cache.
    """
    y = sum(matmul(x, W) for x, W in zip(inputs, row_blocks(p["W"], inputs)))
    y += p["b"]
    return y, LinearCache(inputs)


def linear_backward_data(p, cache, dy):
    """dx_i = dy W_i^T. dy (..., E). Returns the tuple of dx_i (..., D_i)."""
    return tuple(matmul(dy, W.T) for W in row_blocks(p["W"], cache.inputs))


def linear_backward_params(cache, dy):
    """dW_i = x_i^T dy and db = sum of dy over all leading axes: one matrix product for each input."""
    xp = namespace(dy)
    rows = dy.reshape(-1, dy.shape[-1])
    dW = xp.empty((sum(x.shape[-1] for x in cache.inputs), dy.shape[-1]), dtype=dy.dtype)
    for x, block in zip(cache.inputs, row_blocks(dW, cache.inputs)):
        xp.matmul(x.reshape(-1, x.shape[-1]).T, rows, out=block)
    return {"W": dW, "b": xp.sum(rows, axis=0)}


def linear_backward(p, cache, dy):
    """Both halves: dinputs (a tuple for several inputs), {"W": dW, "b": db}."""
    dinputs = linear_backward_data(p, cache, dy)
    return dinputs if len(dinputs) > 1 else dinputs[0], linear_backward_params(cache, dy)
