"""Clipping and Adam on the flat vectors of gradients and parameters."""

import numpy as np

from tinyvrnn.arrays.backend import Array, namespace
from tinyvrnn.arrays.cpu import one_blas_thread
from tinyvrnn.arrays.kernels import fused
from tinyvrnn.errors import ConfigError, DataError, is_number
from tinyvrnn.models.batch import shape_of

BLOCK = 2**17  # parameters; a pass over whole vectors would be limited by main memory


def clip_by_global_norm(grads: Array, max_norm: float) -> Array:
    """Scale grads in place to a norm of at most max_norm (Pascanu et al., 2013).

    Call it before the optimiser's step: clipping afterwards has no effect.

    Parameters
    ----------
    grads : array (P,)
        From `loss_and_grads`.
    max_norm : float
        Positive.

    Returns
    -------
    0-d array
        The norm before.

    Raises
    ------
    ConfigError
        max_norm is not a positive number.
    DataError
        grads is not a vector of floating-point numbers that can be changed.
    """
    _check_vector("grads", grads)
    if not (is_number(max_norm) and max_norm > 0):
        raise ConfigError(f"max_norm must be a positive number, got {max_norm!r}.")
    norm = global_norm(grads)
    scale_down(norm, max_norm, grads)
    return norm


@fused("norm max_norm", "grads", "T scale = max_norm / (norm + T(1e-12)); grads = grads * (scale > 1 ? 1 : scale);")
def scale_down(norm, max_norm, grads):
    """grads *= min(max_norm / norm, 1), without a transfer of the norm from a device."""
    grads *= np.minimum(max_norm / (norm + 1e-12), 1.0)


def global_norm(grads):
    """The Euclidean norm of a vector, 0-d. On the host the squares may exceed the range of the dtype."""
    xp = namespace(grads)
    with one_blas_thread(), np.errstate(all="ignore"):  # several threads would sum in another order
        norm = xp.sqrt(xp.dot(grads, grads))
    if isinstance(grads, np.ndarray) and np.isinf(norm):  # on a device, reading the norm would synchronise
        largest = np.abs(grads).max()
        if np.isfinite(largest):
            unit = grads / largest
            return largest * np.sqrt(np.dot(unit, unit))
    return norm


def _check_vector(name, a):
    kind, flags = getattr(getattr(a, "dtype", None), "kind", None), getattr(a, "flags", None)
    if getattr(a, "ndim", None) != 1 or kind != "f" or not getattr(flags, "writeable", True):
        what = "a read-only one" if kind == "f" and a.ndim == 1 else f"{getattr(a, 'dtype', '')} {shape_of(a)}".strip()
        raise DataError(f"{name} must be a vector of floating-point numbers that can be changed, got {what}.")


def _check_number(name, value, end):
    if not (is_number(value) and 0 <= value < end):
        raise ConfigError(f"{name} must be a number from 0 to below {end}, got {value!r}.")


class Adam:
    """Adam (Kingma and Ba, 2015, arXiv:1412.6980) on one flat vector theta, which `step` changes in place.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  theta -= lr (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)

    Parameters
    ----------
    theta : array (P,)
        The vector that is to be trained, such as `model.theta`; only its shape, dtype and backend are read.
    lr : float
        The learning rate.
    b1, b2, eps : float
        As in the formula.
    decay : array (P,), optional
        Also theta -= lr decay theta, decoupled from the adaptive step, in which dividing by v would weaken it (AdamW;
        Loshchilov and Hutter, 2019, arXiv:1711.05101).

    Raises
    ------
    ConfigError
        A number is out of range, or decay has another shape than theta.
    DataError
        theta is not a vector of floating-point numbers that can be changed.
    """

    def __init__(
        self,
        theta: Array,
        lr: float = 1e-3,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-8,
        decay: Array | None = None,
    ) -> None:
        _check_vector("theta", theta)
        xp = namespace(theta)
        for name, value, end in (("lr", lr, np.inf), ("b1", b1, 1), ("b2", b2, 1), ("eps", eps, np.inf)):
            _check_number(name, value, end)
        if decay is not None and shape_of(decay) != theta.shape:
            raise ConfigError(f"decay must be an array of shape {theta.shape}, as theta, got {shape_of(decay)}.")
        self.lr, self.b1, self.b2, self.eps, self.k = lr, b1, b2, eps, 0
        self.decay = decay
        self.m, self.v = xp.zeros_like(theta), xp.zeros_like(theta)
        # on the host a block fits the cache of a core; a device takes the whole vector at once
        block = BLOCK if isinstance(theta, np.ndarray) else theta.size
        self.blocks = [slice(start, start + block) for start in range(0, theta.size, block)]

    def step(self, theta: Array, grads: Array, lr: float | None = None) -> None:
        """Change theta in place by one step.

        Parameters
        ----------
        theta, grads : array (P,)
            The vector and its gradient.
        lr : float, optional
            Overrides the learning rate for this step.

        Raises
        ------
        DataError
            theta or grads has another shape than the vector that this Adam was made for.
        ConfigError
            lr is no number of at least 0.
        """
        if not shape_of(theta) == shape_of(grads) == self.m.shape:
            raise DataError(f"Expected theta and grads {self.m.shape}, got {shape_of(theta)} and {shape_of(grads)}.")
        lr = self.lr if lr is None else lr
        _check_number("lr", lr, np.inf)
        self.k += 1
        step_size, correction = lr / (1 - self.b1**self.k), 1 - self.b2**self.k
        for block in self.blocks:
            if self.decay is not None:
                theta[block] -= lr * self.decay[block] * theta[block]
            weights = self.b1, 1 - self.b1, self.b2, 1 - self.b2
            of_block = (vector[block] for vector in (theta, self.m, self.v))
            adam_step(grads[block], step_size, *weights, correction, self.eps, *of_block)


@fused(
    "g step_size b1 new_1 b2 new_2 correction eps",
    "theta m v",
    """
    m = b1 * m + new_1 * g;
    v = b2 * v + new_2 * g * g;
    theta -= step_size * m / (sqrt(v / correction) + eps);
    """,
)
def adam_step(g, step_size, b1, new_1, b2, new_2, correction, eps, theta, m, v):
    """Adam on one block, in place. step_size: lr / (1 - b1^k); new_i: 1 - b_i; correction: 1 - b2^k."""
    m *= b1
    m += new_1 * g
    v *= b2
    v += new_2 * g * g
    standard_deviation = np.sqrt(v / correction)
    standard_deviation += eps
    theta -= step_size * m / standard_deviation
