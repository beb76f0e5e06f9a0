"""Elementwise activations: `f_forward(a)` returns (y, cache), and `f_backward(cache, dy)` returns da = dL/da.

The cache is y if the derivative can be written in terms of y.
"""

import numpy as np

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.arrays.kernels import fused


def relu(a, out=None):
    """max(a, 0)."""
    return namespace(a).maximum(a, 0, out=out)


@fused("a b", "y", "T sum = a + b; y = sum < 0 ? 0 : sum;")
def add_relu(a, b, out=None):
    """max(a + b, 0), for a matrix product a and its bias or its other part b. Overwrites a."""
    a += b
    return np.maximum(a, 0, out=out)


@fused("a", "y", "y = sigmoid(a);")
def sigmoid(a, out=None):
    """1 / (1 + exp(-a)), as 0.5 tanh(a / 2) + 0.5: tanh saturates where exp would overflow."""
    y = np.multiply(a, 0.5, out=out)
    np.tanh(y, out=y)
    y *= 0.5
    y += 0.5
    return y


@fused("a", "y", "y = softplus(a);")
def softplus(a):
    """log(1 + exp(a)), as max(a, log1p(exp(min(a, 40)))): for a >= 40 it equals a to floating-point precision."""
    y = np.minimum(a, 40)
    np.exp(y, out=y)
    np.log1p(y, out=y)
    return np.maximum(a, y, out=y)


def log_softmax(a):
    """log( exp(a_k) / sum_i exp(a_i) ) over the last axis. a (..., K). At least about -1e30, so 0 times it is 0."""
    xp = namespace(a)
    b = xp.maximum(a - xp.max(a, axis=-1, keepdims=True), -1e30)
    b -= xp.log(xp.sum(xp.exp(b), axis=-1, keepdims=True))
    return b


def relu_forward(a):
    """y = max(a, 0). a (...). Returns y (...), cache."""
    y = relu(a)
    return y, y


@fused("y dy", "da", "da = dy * (y > 0);")
def relu_backward(y, dy, out=None):
    """da = dy where a > 0, else 0 (also at the kink)."""
    return np.multiply(dy, y > 0, out=out)


@fused("y dy more", "da", "da = (dy + more) * (y > 0);")
def add_relu_backward(y, dy, more, out=None):
    """da = dy + more where a > 0, else 0, for a y that is used twice. Overwrites dy."""
    dy += more
    return np.multiply(dy, y > 0, out=out)


def tanh_forward(a):
    """y = tanh(a). a (...). Returns y (...), cache."""
    y = namespace(a).tanh(a)
    return y, y


def tanh_backward(y, dy):
    """da = dy (1 - y^2)."""
    return dy * (1 - y * y)


def sigmoid_forward(a):
    """y = 1 / (1 + exp(-a)). a (...). Returns y (...), cache."""
    y = sigmoid(a)
    return y, y


def sigmoid_backward(y, dy):
    """da = dy y (1 - y)."""
    return dy * y * (1 - y)


def softplus_forward(a):
    """y = log(1 + exp(a)). a (...). Returns y (...), cache."""
    return softplus(a), a


def softplus_backward(a, dy):
    """da = dy sigmoid(a)."""
    return dy * sigmoid(a)
