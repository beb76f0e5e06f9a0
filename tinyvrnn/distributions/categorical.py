"""The categorical distribution, x one-hot: P(x = e_j) = softmax(a)_j. Its head, a linear layer, is the Bernoulli's."""

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.nn.activations import log_softmax


def categorical_log_density_forward(x, a):
    """log p(x; a) = sum_j x_j log softmax(a)_j, x one-hot, logits a. Both (..., X). Returns nats (...), cache."""
    log_w = log_softmax(a)
    return namespace(x).sum(x * log_w, axis=-1), (x, log_w)


def categorical_log_density_backward(cache, dlog_p):
    """dx = dlog_p log softmax(a), da = dlog_p (x - softmax(a) sum_j x_j), (..., X) each; the sum is 1 for one-hot x."""
    x, log_w = cache
    xp = namespace(x)
    da = x - xp.exp(log_w) * xp.sum(x, axis=-1, keepdims=True)
    return dlog_p[..., None] * log_w, dlog_p[..., None] * da


def categorical_mean(a):
    """E[x] = softmax(a), (..., X)."""
    return namespace(a).exp(log_softmax(a))


def pick(uniforms, weights):
    """One-hot (..., K): k with probability weights_k, by inverting the cumulative sum. uniforms (..., 1) in [0, 1).

    k is the number of cumulative sums that are at most `uniforms`. The last sum, 1 up to rounding, is excluded, so
    there is always a k.
    """
    xp = namespace(weights)
    k = xp.sum(uniforms >= xp.cumsum(weights, axis=-1)[..., :-1], axis=-1)
    return (xp.arange(weights.shape[-1]) == k[..., None]).astype(weights.dtype)


def categorical_sample(uniforms, a):
    """x one-hot (..., X), category j with probability softmax(a)_j. uniforms (..., 1) in [0, 1), logits a (..., X)."""
    return pick(uniforms, categorical_mean(a))
