"""The VRNN: its parameters, the bound of Eq. 11 and its gradient, and sampling.

    ELBO = E_q [ sum_t  log p(x_t | z_<=t, x_<t) - KL( q(z_t | x_<=t, z_<t) || p(z_t | x_<t, z_<t) ) ]  <=  log p(x)

with q factorised as in Eq. 10. The expectation is estimated with one draw of z, given by the noise eps.
"""

from tinyvrnn.distributions import COMPONENTS
from tinyvrnn.distributions.gaussian import head_shapes as gaussian_head_shapes
from tinyvrnn.models import schedule
from tinyvrnn.models.base import Model
from tinyvrnn.models.equations import generate_forward
from tinyvrnn.models.sampling import ancestral_sample, state_after
from tinyvrnn.nn.gru import shapes as gru_shapes
from tinyvrnn.nn.mlp import shapes as mlp_shapes


class VRNN(Model):
    """A VRNN with a GRU, for x (T, B, X) time-major.

    x_dim X, h_dim H (state), z_dim Z (latent), features F (width of every hidden layer; default H),
    layers (hidden ones in phi_x, encoder and decoder; phi_z and prior have one), likelihood "bernoulli", "gaussian",
    "gmm", "categorical" or "pen", backend "numpy", "cupy" or "strict" (None: $TINYVRNN_BACKEND, or "numpy"), dtype
    "float32" or "float64", seed of the initial weights and of all noise, components K of a mixture (gmm, pen).
    Raises ConfigError for options that make no model, BackendError where the backend is not there.
    """

    name = "vrnn"
    sizes = ("x_dim", "h_dim", "z_dim", "features", "layers")

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
    ):
        self.x_dim, self.h_dim, self.z_dim, self.layers = x_dim, h_dim, z_dim, layers
        self.features = h_dim if features is None else features
        super().__init__(likelihood, backend, dtype, seed, components)

    def _shapes(self):
        X, H, Z, F, L = (getattr(self, name) for name in self.sizes)
        hidden = [F] * L
        return {
            "phi_x": mlp_shapes([X, *hidden]),
            "phi_z": mlp_shapes([Z, F]),
            "prior": mlp_shapes([H, F]) | gaussian_head_shapes(F, Z),
            "infer": mlp_shapes([F + H, *hidden]) | gaussian_head_shapes(F, Z),
            "generate": mlp_shapes([F + H, *hidden]) | self.likelihood.head_shapes(F, X),
            "recur": gru_shapes(2 * F, H),
        }

    def _forward_terms(self, x, eps):
        return schedule.sequence_forward(self.params, x, eps, self.likelihood)

    def _backward_terms(self, cache, dlog_p, dkl):
        return schedule.sequence_backward(self.params, cache, dlog_p, dkl, self.likelihood)

    def _outputs(self, cache):
        return generate_forward(self.params["generate"], cache.loop.phi_z, cache.loop.h[:-1], self.likelihood)[0]

    def _draw(self, n, steps, seed, prime, eps):
        """Eq. 8, from h_0 = 0 or from the state after the prime (Eq. 9)."""
        h = self.backend.xp.zeros((n, self.h_dim), dtype=self.dtype)
        if prime is not None:
            h = state_after(self.params, prime, eps, h)
        return ancestral_sample(self.params, h, steps, seed, self.likelihood, self.backend, self.x_dim, self.dtype)
