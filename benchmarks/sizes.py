"""The sizes to time, their data, and the minimum arithmetic of a training step."""

from typing import NamedTuple

import numpy as np

LAYERS = 2  # hidden layers in phi_x, encoder and decoder; phi_z and prior have one


class Size(NamedTuple):
    """Dimensions of a model and its batch. Hidden layers are as wide as the state: F = H. Z = 0: a plain RNN."""

    X: int  # values in a step of a sequence
    H: int  # state
    Z: int  # latent
    B: int  # sequences in a batch
    T: int  # steps of a sequence

    @property
    def flops(self):
        return flops(self.X, self.H, self.Z, self.H, LAYERS, self.B, self.T)

    def flops_of_sampling(self, sequences, steps):
        """For sampling: forward only, without inference."""
        per_row = weights_per_row(self.X, self.H, self.Z, self.H, LAYERS)
        return 2 * sequences * steps * (sum(per_row.values()) - per_row["infer"])


SIZES = {
    "tiny": Size(8, 16, 4, 6, 5),  # not for timing: shows that the benchmark runs
    "course": Size(28, 100, 16, 128, 28),
    "music": Size(88, 256, 64, 64, 64),
    "speech": Size(200, 1200, 200, 64, 40),
}


def make_batch(size, seed=0):
    """Binary sequences x (T, B, X) and noise eps (T, B, Z), float32. Their values do not affect the time of a step."""
    rng = np.random.default_rng(seed)
    x = rng.random((size.T, size.B, size.X), dtype=np.float32) < 0.3
    return x.astype(np.float32), rng.standard_normal((size.T, size.B, size.Z), dtype=np.float32)


def weights_per_row(X, H, Z, F, L):
    """{network: the number of weights that multiply one row (one step of one sequence) in a forward pass}."""
    if Z == 0:
        return {
            "phi_x": X * F + (L - 1) * F * F,
            "predict": H * F + (L - 1) * F * F + F * X,
            "recur": F * 3 * H + H * 3 * H,
        }
    return {
        "phi_x": X * F + (L - 1) * F * F,
        "phi_z": Z * F,
        "prior": H * F + F * 2 * Z,
        "infer": (F + H) * F + (L - 1) * F * F + F * 2 * Z,
        "generate": (F + H) * F + (L - 1) * F * F + F * X,
        "recur": 2 * F * 3 * H + H * 3 * H,  # the GRU's three blocks, on [phi_x, phi_z] and on h
    }


def flops(X, H, Z, F, L, B, T):
    """Floating-point operations of the matrix products in one forward and backward pass.

    A product (n, D) @ (D, K) takes n D K multiplications and as many additions, and there are n = T B rows. Let M be
    the sum of `weights_per_row`. For each y = x W, backward needs two products of the same cost: dx = dy W^T and
    dW = x^T dy. Only the data gradient of phi_x's first layer, X F, is nobody's input. In all: 2 T B (3 M - X F).
    Activations, the loss, clipping and Adam are not counted: they are no matrix products.
    """
    M = sum(weights_per_row(X, H, Z, F, L).values())
    return 2 * T * B * (3 * M - X * F)
