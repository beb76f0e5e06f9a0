"""The VRNN: its parameters, the bound of Eq. 11 and its gradient, and sampling.

    ELBO = E_q [ sum_t  log p(x_t | z_<=t, x_<t) - KL( q(z_t | x_<=t, z_<t) || p(z_t | x_<t, z_<t) ) ]  <=  log p(x)

with q factorised as in Eq. 10, estimated with one draw of z, given by the noise eps; `bounds/` has tighter bounds.
"""

from numpy.typing import ArrayLike, DTypeLike

from tinyvrnn.arrays.backend import Array
from tinyvrnn.arrays.cpu import one_blas_thread
from tinyvrnn.distributions import COMPONENTS
from tinyvrnn.distributions.gaussian import head_shapes as gaussian_head_shapes
from tinyvrnn.distributions.gaussian import sigma_of, split
from tinyvrnn.errors import ConfigError, unknown_name
from tinyvrnn.models import filtering, schedule
from tinyvrnn.models.base import Model
from tinyvrnn.models.batch import BOUNDS, Gradient, Objective, bound_terms, validate_on_scale
from tinyvrnn.models.equations import features_forward, generate_forward, prior_forward
from tinyvrnn.models.particles import filter_forward, importance_backward, importance_forward
from tinyvrnn.models.sampling import sample_step, state_after
from tinyvrnn.nn.cells import cell_shapes
from tinyvrnn.nn.mlp import shapes as mlp_shapes

POSTERIORS = ("filtering", "smoothing")


class VRNN(Model):
    """The variational recurrent neural network, for x (T, B, X) time-major.

    Parameters
    ----------
    x_dim, h_dim, z_dim : int
        X, the values in a step; H, the width of the state; Z, the latent variables in a step.
    features : int, optional
        F, the width of every hidden layer. None: H.
    layers : int
        Hidden layers in phi_x, encoder and decoder; phi_z and prior have one.
    likelihood : "bernoulli", "gaussian", "gmm", "categorical" or "pen"
        p(x_t | ...).
    backend : "numpy", "cupy" or "strict", optional
        None: the one named by the environment variable TINYVRNN_BACKEND, or "numpy".
    dtype : "float32" or "float64"
        Of the parameters and of all results.
    seed : int
        Of the initial weights and of all noise.
    components : int
        K of a mixture (gmm, pen).
    cell : "gru" or "lstm"
        The recurrence of Eq. 7.
    posterior : "filtering" or "smoothing"
        q(z_t | x_<=t, z_<t) as in Eq. 10, or one that sees all of x (models/lookahead.py).

    Raises
    ------
    ConfigError
        The options make no model.
    BackendError
        The backend is not available.

    References
    ----------
    Chung et al., 2015, arXiv:1506.02216, section 3.
    """

    name, bounds = "vrnn", BOUNDS
    sizes = ("x_dim", "h_dim", "z_dim", "features", "layers")
    choices = ("cell", "posterior")
    _sample_step = staticmethod(sample_step)

    def __init__(
        self,
        x_dim: int,
        h_dim: int,
        z_dim: int,
        features: int | None = None,
        layers: int = 2,
        likelihood: str = "bernoulli",
        backend: str | None = None,
        dtype: DTypeLike = "float32",
        seed: int = 0,
        components: int = COMPONENTS,
        cell: str = "gru",
        posterior: str = "filtering",
    ) -> None:
        if posterior not in POSTERIORS:
            raise ConfigError(unknown_name("posterior", posterior, POSTERIORS))
        self.x_dim, self.h_dim, self.z_dim, self.layers, self.cell = x_dim, h_dim, z_dim, layers, cell
        self.features, self.posterior = h_dim if features is None else features, posterior
        super().__init__(likelihood, backend, dtype, seed, components)

    def log_weights(
        self, x: Array, lengths: ArrayLike | None = None, eps: Array | None = None, observed: Array | None = None
    ) -> Array:
        """The log-weights log p(x, z_k) - log q(z_k | x) of K draws of z.

        Parameters
        ----------
        x, lengths : array (T, B, X), integers (B,)
            As in `loss_and_grads`.
        eps, observed : array (T, B, K, Z), array (T, B, X)
            Standard normal noise of K particles, which is required; as in `loss_and_grads`.

        Returns
        -------
        array (B, K)
            Nats.

        Raises
        ------
        DataError
            An array does not fit the model, or eps is missing.
        """
        with one_blas_thread():
            batch = validate_on_scale(self, self._batch(x, lengths, eps, None, None, observed), Objective("iwae"))
            given, x_in = _particles(batch)
            return importance_forward(self.params, *given, self.scoring(batch).likelihood, x_in=x_in)[1].log_w

    def particle_filter(
        self,
        x: Array,
        lengths: ArrayLike | None = None,
        eps: Array | None = None,
        uniforms: Array | None = None,
        observed: Array | None = None,
    ) -> Array:
        """log of a particle filter's estimate of p(x); the mean of the estimate itself is p(x).

        Parameters
        ----------
        x, lengths, eps : array (T, B, X), integers (B,), array (T, B, K, Z)
            As in `log_weights`.
        uniforms, observed : array (T, B), array (T, B, X)
            Numbers in [0, 1) to resample with, which are required; as in `loss_and_grads`.

        Returns
        -------
        array (B,)
            Nats per sequence.

        Raises
        ------
        DataError
            An array does not fit the model, or eps or uniforms is missing.
        """
        with one_blas_thread():
            batch = validate_on_scale(self, self._batch(x, lengths, eps, uniforms, None, observed), Objective("fivo"))
            (given, x_in), likelihood = _particles(batch), self.scoring(batch).likelihood
            return filter_forward(self.params, *given, batch.uniforms, likelihood, x_in=x_in)[0]

    def _particle_gradient(self, batch, bound, beta):
        """The Gradient of IWAE or FIVO. The terms are those of the ELBO, with the first particle's noise."""
        first = batch._replace(eps=batch.eps[:, :, 0], input_mask=batch.observed)
        log_p, kl = self._forward_terms(first)[:2]  # frees its cache
        given, x_in = _particles(batch)
        if bound == "iwae":
            backward = importance_backward
            bounds, cache = importance_forward(self.params, *given, self.likelihood, beta, x_in)
        else:
            backward = filtering.filter_backward
            given = *given, batch.uniforms
            bounds, cache = filtering.filter_forward(self.params, *given, self.likelihood, beta, x_in=x_in)
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

    def _latents(self, cache):
        loop = cache.loop
        mu_z, s = split(loop.o)
        zeros = self.backend.xp.zeros_like(mu_z)  # the VRNN-I's prior is (T, B, 1)
        prior = (zeros + moment for moment in prior_forward(self.params["prior"], loop.h[:-1])[0])
        return mu_z, sigma_of(s), *prior, loop.z, loop.h[1:]

    def _states_at_end(self, batch):
        """The state (B K, S H) at the end of each sequence, for each of K draws of its latents, eps (T, B, K, Z)."""
        T = int(batch.mask.sum(axis=0).max())  # the longest
        eps = batch.eps[:T].reshape(T, -1, self.z_dim)
        return state_after(self.params, batch.x_in[:T], eps, self._no_state(eps.shape[1]), batch.mask[:T])


class VRNNI(VRNN):
    """The VRNN-I, the paper's ablation: p(z_t | x_<t, z_<t) is N(0, I) at every step, in place of Eq. 5.

    Its parameter group "prior" is empty.

    Parameters
    ----------
    x_dim, h_dim, z_dim, features, layers, likelihood, backend, dtype, seed, components, cell, posterior : various
        As for VRNN.

    Raises
    ------
    ConfigError, BackendError
        As VRNN.

    References
    ----------
    Chung et al., 2015, arXiv:1506.02216, section 4.
    """

    name = "vrnn-i"

    def _shapes(self):
        return super()._shapes() | {"prior": {}}


def _particles(batch):
    """What both particle bounds take: x (T, B K, X), eps (T, B K, Z) and mask (T, B); and x_in (T, B K, X)."""
    wide = batch.widened()
    return (wide.x, wide.eps, batch.mask), wide.x_in
