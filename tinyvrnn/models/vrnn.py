"""The VRNN: its parameters, the bound of Eq. 11 and its gradient, and sampling.

    ELBO = E_q [ sum_t  log p(x_t | z_<=t, x_<t) - KL( q(z_t | x_<=t, z_<t) || p(z_t | x_<t, z_<t) ) ]  <=  log p(x)

with q factorised as in Eq. 10. The expectation is estimated with one draw of z, given by the noise eps. With several
draws, particles, the tighter bounds of `bounds/` take its place.
"""

import numpy as np

from tinyvrnn.arrays import noise
from tinyvrnn.arrays.cpu import one_blas_thread
from tinyvrnn.distributions import COMPONENTS
from tinyvrnn.distributions.gaussian import head_shapes as gaussian_head_shapes
from tinyvrnn.errors import ConfigError, DataError, unknown_name
from tinyvrnn.models import schedule
from tinyvrnn.models.base import Model, check_x, finite, shape_of
from tinyvrnn.models.equations import features_forward, generate_forward
from tinyvrnn.models.particles import (
    BOUNDS,
    check_bound,
    copies,
    filter_backward,
    filter_forward,
    importance_backward,
    importance_forward,
)
from tinyvrnn.models.recompute import check as check_long
from tinyvrnn.models.sampling import ancestral_sample, state_after
from tinyvrnn.nn.cells import cell_shapes, state_width
from tinyvrnn.nn.mlp import shapes as mlp_shapes

POSTERIORS = ("filtering", "smoothing")


class VRNN(Model):
    """A VRNN, for x (T, B, X) time-major.

    x_dim X, h_dim H (state), z_dim Z (latent), features F (width of every hidden layer; default H),
    layers (hidden ones in phi_x, encoder and decoder; phi_z and prior have one), likelihood "bernoulli", "gaussian",
    "gmm", "categorical" or "pen", backend "numpy", "cupy" or "strict" (None: $TINYVRNN_BACKEND, or "numpy"), dtype
    "float32" or "float64", seed of the initial weights and of all noise, components K of a mixture (gmm, pen), cell
    "gru" or "lstm" (Eq. 7), posterior "filtering" (Eq. 10) or "smoothing" (q sees x_<=T: lookahead.py).
    Raises ConfigError for options that make no model, BackendError where the backend is not there.
    """

    name, bounds = "vrnn", BOUNDS
    sizes = ("x_dim", "h_dim", "z_dim", "features", "layers")
    choices = ("cell", "posterior")

    def __init__(
        self,
        x_dim,
        h_dim,
        z_dim,
        features=None,
        layers=2,
        likelihood="bernoulli",
        backend=None,
        dtype="float32",
        seed=0,
        components=COMPONENTS,
        cell="gru",
        posterior="filtering",
    ):
        if posterior not in POSTERIORS:
            raise ConfigError(unknown_name("posterior", posterior, POSTERIORS))
        self.x_dim, self.h_dim, self.z_dim, self.layers, self.cell = x_dim, h_dim, z_dim, layers, cell
        self.features, self.posterior = h_dim if features is None else features, posterior
        super().__init__(likelihood, backend, dtype, seed, components)

    def loss_and_grads(
        self,
        x,
        lengths=None,
        eps=None,
        beta=1.0,
        bound="elbo",
        particles=1,
        uniforms=None,
        recompute=False,
        keep=None,
    ):
        """As `Model.loss_and_grads`, for minus the ELBO or, by `bound`, minus "iwae" or "fivo" of `tinyvrnn.bounds`.

        Those take as many particles as said, or as eps (T, B, particles, Z) holds; fivo takes uniforms (T, B) for
        resampling with its eps. Parts are those of the ELBO, with the first particle's noise.
        """
        check_bound(bound, particles)
        check_long(self, recompute=recompute, bound=bound)
        if bound == "elbo":
            return super().loss_and_grads(x, lengths, eps, beta, recompute, keep)
        if eps is None:
            eps = self._draw_eps(x, "loss_and_grads", self._draws, particles)
            uniforms = noise.uniform(x.shape[:2], "float64", self.seed, "resample", self._draws, self.backend)
            self._draws += 1
        return self._loss_of_particles(x, lengths, eps, finite(beta), bound, uniforms, keep)

    def log_weights(self, x, lengths=None, eps=None):
        """log p(x, z_k) - log q(z_k | x), (B, K), in nats, for the noise eps (T, B, K, Z) of K particles."""
        with one_blas_thread():
            x, eps, mask = self._prepare_particles(x, lengths, eps)
            return importance_forward(self.params, x, eps, mask, self.likelihood)[1].log_w

    def particle_filter(self, x, lengths=None, eps=None, uniforms=None):
        """log of a particle filter's estimate of p(x), (B,), in nats. eps (T, B, K, Z), uniforms (T, B) in [0, 1)."""
        with one_blas_thread():
            x, eps, mask = self._prepare_particles(x, lengths, eps)
            return filter_forward(self.params, x, eps, mask, self._uniforms(uniforms, mask), self.likelihood)[0]

    def _loss_of_particles(self, x, lengths, eps, beta, bound, uniforms, keep):
        with one_blas_thread():
            wide, eps_of_all, mask = self._prepare_particles(x, lengths, eps)
            parts = self.parts(x, lengths, eps[:, :, 0])
            read = self._read(wide, None if keep is None else copies(keep, eps.shape[2]))
            if bound == "iwae":
                bounds, cache = importance_forward(self.params, wide, eps_of_all, mask, self.likelihood, beta, read)
                backward = importance_backward
            else:
                uniforms, backward = self._uniforms(uniforms, mask), filter_backward
                bounds, cache = filter_forward(
                    self.params, wide, eps_of_all, mask, uniforms, self.likelihood, beta=beta, read=read
                )
            weight = -self.backend.xp.ones_like(bounds) / len(bounds)
            named = backward(self.params, cache, weight, self.likelihood, beta=beta)
            return -self.backend.xp.mean(bounds), self._flat(named), parts

    def _prepare_particles(self, x, lengths, eps):
        """x and eps with a column for each particle, (T, B K, .), and the mask of real steps (T, B)."""
        if getattr(eps, "ndim", None) != 4:
            raise DataError(f"Expected eps of shape (T, B, particles, {self.z_dim}), got {shape_of(eps)}.")
        T, B, K, _ = eps.shape
        lengths = check_x(x, self.x_dim, lengths, self.likelihood)
        wide_lengths = None if lengths is None else np.repeat(lengths, K)
        x = copies(self._array(x), K)
        x, eps, mask = self._prepare(x, wide_lengths, eps.reshape(T, B * K, -1))
        return x, eps, mask.reshape(T, B, K)[:, :, 0]

    def _uniforms(self, uniforms, mask):
        if getattr(uniforms, "shape", None) != mask.shape:
            raise DataError(f"Expected uniforms of shape {mask.shape} for resampling, got {shape_of(uniforms)}.")
        return self._array(uniforms)

    def _shapes(self):
        X, H, Z, F, L = (getattr(self, name) for name in self.sizes)
        hidden = [F] * L
        backward = {"backward": cell_shapes(self.cell, F, F)} if self.posterior == "smoothing" else {}
        return {
            "phi_x": mlp_shapes([X, *hidden]),
            "phi_z": mlp_shapes([Z, F]),
            "prior": mlp_shapes([H, F]) | gaussian_head_shapes(F, Z),
            "infer": mlp_shapes([F + H, *hidden]) | gaussian_head_shapes(F, Z),
            "generate": mlp_shapes([F + H, *hidden]) | self.likelihood.head_shapes(F, X),
            "recur": cell_shapes(self.cell, 2 * F, H),
            **backward,
        }

    def _forward_terms(self, x, eps, mask, state=None, read=None):
        return schedule.sequence_forward(self.params, x, eps, self.likelihood, mask=mask, state=state, read=read)

    def _backward_terms(self, cache, dlog_p, dkl, dstate=None):
        return schedule.sequence_backward_with_state(self.params, cache, dlog_p, dkl, self.likelihood, dstate=dstate)

    def _state_after(self, x, eps, state):
        phi_x, _ = features_forward(self.params["phi_x"], x)
        return schedule.loop_forward(self.params, phi_x, eps, state).state[-1].copy()

    def _outputs(self, cache):
        return generate_forward(self.params["generate"], cache.loop.phi_z, cache.loop.h[:-1], self.likelihood)[0]

    def _draw(self, n, steps, seed, prime, eps):
        """Eq. 8, from h_0 = 0 or from the state after the prime (Eq. 9)."""
        state = self.backend.xp.zeros((n, state_width(self.params["recur"])), dtype=self.dtype)
        if prime is not None:
            state = state_after(self.params, prime, eps, state)
        return ancestral_sample(self.params, state, steps, seed, self.likelihood, self.backend, self.x_dim, self.dtype)


class VRNNI(VRNN):
    """The VRNN-I, the paper's ablation: p(z_t | x_<t, z_<t) is N(0, I) at every step, in place of Eq. 5.

    Arguments as for VRNN. Its group of parameters "prior" is empty, which is all that the equations need to know.
    Source: Chung et al., 2015, arXiv:1506.02216, section 4.
    """

    name = "vrnn-i"

    def _shapes(self):
        return super()._shapes() | {"prior": {}}
