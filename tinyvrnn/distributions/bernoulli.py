"""Independent Bernoulli variables, parameterised by logits a: P(x_j = 1) = sigmoid(a_j)."""

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.nn.activations import sigmoid, softplus
from tinyvrnn.nn.linear import LinearCache, linear_backward, linear_forward, output_layer


def head_shapes(features, width):
    """{"W_out": (F, X), "b_out": (X,)}."""
    return {"W_out": (features, width), "b_out": (width,)}


def bernoulli_head_forward(p, y):
    """logits a = y W_out + b_out. y (..., F). Returns (a (..., X),), cache."""
    a, cache = linear_forward(output_layer(p), y)
    return (a,), cache


def bernoulli_head_backward(p, cache, da):
    """dy (..., F) and grads of W_out, b_out, from da (..., X)."""
    dy, g = linear_backward(output_layer(p), LinearCache(cache.inputs), da)
    return dy, {"W_out": g["W"], "b_out": g["b"]}


def bernoulli_log_density_forward(x, a):
    """log p(x; a) = sum_j [ x_j a_j - softplus(a_j) ], x in [0, 1], logits a. Both (..., X). Returns nats (...), cache.

    No probability is computed before its logarithm, so nothing underflows.
    """
    return namespace(x).sum(x * a - softplus(a), axis=-1), (x, a)


def bernoulli_log_density_backward(cache, dlog_p):
    """dx = dlog_p * a, da = dlog_p * (x - sigmoid(a)), (..., X) each."""
    x, a = cache
    return dlog_p[..., None] * a, dlog_p[..., None] * (x - sigmoid(a))


def bernoulli_sample(uniforms, a):
    """x_j = 1 where uniform_j < sigmoid(a_j), else 0. uniforms in [0, 1), logits a: (..., X)."""
    return (uniforms < sigmoid(a)).astype(a.dtype)
