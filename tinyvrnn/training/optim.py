"""Clipping and Adam, each one operation on the flat vectors of gradients and parameters."""

import numpy as np

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.arrays.cpu import one_blas_thread
from tinyvrnn.arrays.kernels import fused

BLOCK = 2**17  # parameters; with whole vectors each pass would go to main memory and back


def clip_by_global_norm(grads, max_norm):
    """Scales grads in place to a norm of at most max_norm (Pascanu et al., 2013). Returns the norm before, 0-d.

    It must come BEFORE the optimiser's step: clipping afterwards changes nothing that was stepped with.
    """
    norm = global_norm(grads)
    scale_down(norm, max_norm, grads)
    return norm


@fused("norm max_norm", "grads", "T scale = max_norm / (norm + T(1e-12)); grads = grads * (scale > 1 ? 1 : scale);")
def scale_down(norm, max_norm, grads):
    """grads *= min(max_norm / norm, 1), where a device knows the norm and the host does not."""
    grads *= np.minimum(max_norm / (norm + 1e-12), 1.0)


def global_norm(grads):
    """The Euclidean norm of a vector, 0-d. On the host also of one whose squares leave the range of its dtype."""
    xp = namespace(grads)
    with one_blas_thread(), np.errstate(all="ignore"):  # several threads would add up in another order
        norm = xp.sqrt(xp.dot(grads, grads))
    if isinstance(grads, np.ndarray) and np.isinf(norm):  # to look at a device's number would stop the device
        largest = np.abs(grads).max()
        if np.isfinite(largest):
            unit = grads / largest
            return largest * np.sqrt(np.dot(unit, unit))
    return norm


class Adam:
    """Adam (Kingma and Ba, 2015, arXiv:1412.6980) on one flat vector theta, which `step` changes in place.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  theta -= lr (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)

    decay (P,): in the same step theta -= lr decay theta, beside the gradient and not within it, where v
    would divide it away (AdamW; Loshchilov and Hutter, 2019, arXiv:1711.05101). None: none.
    """

    def __init__(self, theta, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, decay=None):
        xp = namespace(theta)
        self.lr, self.b1, self.b2, self.eps, self.k = lr, b1, b2, eps, 0
        self.decay = decay
        self.m, self.v = xp.zeros_like(theta), xp.zeros_like(theta)
        # a core works on a block that fits its cache; a device takes the whole vector in one go
        block = BLOCK if isinstance(theta, np.ndarray) else theta.size
        self.blocks = [slice(start, start + block) for start in range(0, theta.size, block)]

    def step(self, theta, grads, lr=None):
        """One step with the gradients `grads`, (P,) like theta; lr overrides the rate for this step."""
        self.k += 1
        lr = self.lr if lr is None else lr
        rate, seen = lr / (1 - self.b1**self.k), 1 - self.b2**self.k
        for block in self.blocks:
            if self.decay is not None:
                theta[block] -= lr * self.decay[block] * theta[block]
            of_block = (vector[block] for vector in (theta, self.m, self.v))
            adam_step(grads[block], rate, self.b1, 1 - self.b1, self.b2, 1 - self.b2, seen, self.eps, *of_block)


@fused(
    "g rate b1 new_1 b2 new_2 seen eps",
    "theta m v",
    """
    m = b1 * m + new_1 * g;
    v = b2 * v + new_2 * g * g;
    theta -= rate * m / (sqrt(v / seen) + eps);
    """,
)
def adam_step(g, rate, b1, new_1, b2, new_2, seen, eps, theta, m, v):
    """Adam on one block, in place. new: 1 - b; seen: 1 - b2^k; rate: lr / (1 - b1^k)."""
    m *= b1
    m += new_1 * g
    v *= b2
    v += new_2 * g * g
    deviation = np.sqrt(v / seen)
    deviation += eps
    theta -= rate * m / deviation
