"""The VRNN: its parameters, the bound of Eq. 11 and its gradient, and sampling.

    ELBO = E_q [ sum_t  log p(x_t | z_<=t, x_<t) - KL( q(z_t | x_<=t, z_<t) || p(z_t | x_<t, z_<t) ) ]  <=  log p(x)

with q factorised as in Eq. 10. The expectation is estimated with one draw of z, given by the noise eps. With several
draws, particles, the tighter bounds of `bounds/` take its place.
"""

from tinyvrnn.arrays.cpu import one_blas_thread
from tinyvrnn.distributions import COMPONENTS
from tinyvrnn.distributions.gaussian import head_shapes as gaussian_head_shapes
from tinyvrnn.errors import ConfigError, unknown_name
from tinyvrnn.models import schedule
from tinyvrnn.models.base import Model
from tinyvrnn.models.batch import BOUNDS, Batch, Gradient, Objective, bound_terms, validate
from tinyvrnn.models.equations import features_forward, generate_forward
from tinyvrnn.models.particles import filter_backward, filter_forward, importance_backward, importance_forward
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

    def log_weights(self, x, lengths=None, eps=None):
        """log p(x, z_k) - log q(z_k | x), (B, K), in nats, for the noise eps (T, B, K, Z) of K particles."""
        with one_blas_thread():
            batch = validate(self, Batch(x, lengths, eps), Objective("iwae"))
            return importance_forward(self.params, *_particles(batch), self.likelihood)[1].log_w

    def particle_filter(self, x, lengths=None, eps=None, uniforms=None):
        """log of a particle filter's estimate of p(x), (B,), in nats. eps (T, B, K, Z), uniforms (T, B) in [0, 1)."""
        with one_blas_thread():
            batch = validate(self, Batch(x, lengths, eps, uniforms), Objective("fivo"))
            return filter_forward(self.params, *_particles(batch), batch.uniforms, self.likelihood)[0]

    def _particle_gradient(self, batch, bound, beta):
        """The Gradient of IWAE or FIVO. The terms are those of the ELBO, with the first particle's noise."""
        log_p, kl, _ = self._forward_terms(batch._replace(eps=batch.eps[:, :, 0], input_mask=None))
        given, x_in = (self.params, *_particles(batch)), batch.widened().x_in
        if bound == "iwae":
            backward = importance_backward
            bounds, cache = importance_forward(*given, self.likelihood, beta, x_in)
        else:
            backward = filter_backward
            bounds, cache = filter_forward(*given, batch.uniforms, self.likelihood, beta=beta, x_in=x_in)
        weight = -self.backend.xp.ones_like(bounds) / len(bounds)
        grads = self._flat(backward(self.params, cache, weight, self.likelihood, beta=beta))
        return Gradient(-self.backend.xp.mean(bounds), grads, bound_terms(log_p, kl, batch.mask))

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

    def _forward_terms(self, batch):
        given = {"mask": batch.mask, "state": batch.state, "x_in": batch.x_in}
        return schedule.sequence_forward(self.params, batch.x, batch.eps, self.likelihood, **given)

    def _backward_terms(self, cache, dlog_p, dkl, dstate=None):
        return schedule.sequence_backward_with_state(self.params, cache, dlog_p, dkl, self.likelihood, dstate=dstate)

    def _state_after(self, batch):
        phi_x, _ = features_forward(self.params["phi_x"], batch.x_in)
        return schedule.loop_forward(self.params, phi_x, batch.eps, batch.state).state[-1].copy()

    def _outputs(self, cache):
        return generate_forward(self.params["generate"], cache.loop.phi_z, cache.loop.h[:-1], self.likelihood)[0]

    def _sample(self, n, steps, seed, prime):
        """Eq. 8, from h_0 = 0 or from the state after the prime (Eq. 9)."""
        state = self.backend.xp.zeros((n, state_width(self.params["recur"])), dtype=self.dtype)
        if prime is not None:
            state = state_after(self.params, prime.x, prime.eps, state)
        return ancestral_sample(self.params, state, steps, seed, self.likelihood, self.backend, self.x_dim, self.dtype)


class VRNNI(VRNN):
    """The VRNN-I, the paper's ablation: p(z_t | x_<t, z_<t) is N(0, I) at every step, in place of Eq. 5.

    Arguments as for VRNN. Its group of parameters "prior" is empty, which is all that the equations need to know.
    Source: Chung et al., 2015, arXiv:1506.02216, section 4.
    """

    name = "vrnn-i"

    def _shapes(self):
        return super()._shapes() | {"prior": {}}


def _particles(batch):
    """What both particle bounds take: x (T, B K, X), eps (T, B K, Z), mask (T, B)."""
    wide = batch.widened()
    return wide.x, wide.eps, batch.mask
