"""The variational autoencoder of Eq. 3 and 4: single steps, no state. With T = 1 and a fixed prior a VRNN is this.

    log p(x) >= E_q [ log p(x | z) ] - KL( q(z | x) || N(0, I) ),      z = mu_z + sigma_z * eps

Source: Chung et al., 2015, arXiv:1506.02216, section 2.2; Kingma and Welling, 2014, arXiv:1312.6114.
"""

from typing import NamedTuple

from numpy.typing import DTypeLike

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.distributions import COMPONENTS
from tinyvrnn.distributions.gaussian import (
    gaussian_kl_backward,
    gaussian_kl_forward,
    reparameterise_backward,
    reparameterise_forward,
)
from tinyvrnn.distributions.gaussian import head_shapes as gaussian_head_shapes
from tinyvrnn.models.base import Model
from tinyvrnn.models.equations import decode_backward, decode_forward, encode_backward, encode_forward
from tinyvrnn.nn.mlp import shapes as mlp_shapes


class VaeCache(NamedTuple):
    encode: NamedTuple
    eps: tuple
    decode: NamedTuple
    kl: NamedTuple
    log_p: tuple
    z: object  # (..., Z)


class VAE(Model):
    """A variational autoencoder for single steps: x (B, X), or (T, B, X), which is T*B independent steps.

    The terms of a bound are sums over T. Every method of a VRNN that takes (T, B, X) takes (B, X) here too.

    Parameters
    ----------
    x_dim, z_dim : int
        X, the values in a step; Z, the latent variables in a step.
    features : int
        F, the width of every hidden layer.
    layers : int
        Hidden layers in encoder and decoder.
    likelihood, backend, dtype, seed, components : various
        As for VRNN.

    Raises
    ------
    ConfigError, BackendError
        As VRNN.

    References
    ----------
    Kingma and Welling, 2014, arXiv:1312.6114; Chung et al., 2015, arXiv:1506.02216, section 2.2 (Eq. 3 and 4).
    """

    name = "vae"
    sizes = ("x_dim", "z_dim", "features", "layers")

    def __init__(
        self,
        x_dim: int,
        z_dim: int,
        features: int = 100,
        layers: int = 2,
        likelihood: str = "bernoulli",
        backend: str | None = None,
        dtype: DTypeLike = "float32",
        seed: int = 0,
        components: int = COMPONENTS,
    ) -> None:
        self.x_dim, self.z_dim, self.features, self.layers = x_dim, z_dim, features, layers
        super().__init__(likelihood, backend, dtype, seed, components)

    def _shapes(self):
        X, Z, F, L = (getattr(self, name) for name in self.sizes)
        hidden = [F] * L
        return {
            "encode": mlp_shapes([X, *hidden]) | gaussian_head_shapes(F, Z),
            "decode": mlp_shapes([Z, *hidden]) | self.likelihood.head_shapes(F, X),
        }

    def _batch(self, *fields):
        batch = super()._batch(*fields)
        given = {name: getattr(batch, name) for name in ("x", "eps", "input_mask", "observed")}
        return batch._replace(**{name: a[None] for name, a in given.items() if getattr(a, "ndim", None) == 2})

    def _forward_terms(self, batch):
        return terms_forward(self.params, batch.x, batch.eps, self.likelihood, batch.x_in)

    def _backward_terms(self, cache, dlog_p, dkl, dstate=None):
        return None, terms_backward(self.params, cache, dlog_p, dkl, self.likelihood)

    def _outputs(self, cache):
        return decode_forward(self.params["decode"], cache.z, self.likelihood)[0]

    def _latents(self, cache):
        (mu_z, sigma_z), _ = encode_forward(self.params["encode"], *cache.encode.mlp.inputs)
        xp = self.backend.xp
        return mu_z, sigma_z, xp.zeros_like(mu_z), xp.ones_like(mu_z), cache.z, mu_z[..., :0]

    def _states_at_end(self, batch):
        return self._no_state(batch.eps.shape[1] * batch.eps.shape[2])  # a prime tells it nothing

    @staticmethod
    def _sample_step(params, likelihood, state, eps, v):
        """x ~ p(x | z) with z = eps ~ N(0, I), afresh at each step, and the outputs that x is drawn from."""
        outputs, _ = decode_forward(params["decode"], eps, likelihood)
        return likelihood.sample(v, *outputs), outputs, state


def terms_forward(params, x, eps, likelihood, x_in=None):
    """The terms of Eq. 3, one draw of z for each step (Eq. 4): log p(x | z) and KL(q(z | x) || N(0, I)).

    x (..., X), eps (..., Z). Returns log_p (...) and kl (...) in nats, and the cache. x_in (..., X): the
    encoder's input, x with dropout; None: x. log p always scores x.
    """
    xp = namespace(x)
    (mu_z, sigma_z), encode_cache = encode_forward(params["encode"], x if x_in is None else x_in)
    z, eps_cache = reparameterise_forward(mu_z, sigma_z, eps)
    outputs, decode_cache = decode_forward(params["decode"], z, likelihood)
    log_p, log_p_cache = likelihood.log_density_forward(x, *outputs)
    kl, kl_cache = gaussian_kl_forward(mu_z, sigma_z, xp.zeros_like(mu_z), xp.ones_like(sigma_z))
    return log_p, kl, VaeCache(encode_cache, eps_cache, decode_cache, kl_cache, log_p_cache, z)


def terms_backward(params, cache, dlog_p, dkl, likelihood):
    """The gradient of every parameter, from dlog_p (...) and dkl (...). Returns grads, arranged as params."""
    _, *doutputs = likelihood.log_density_backward(cache.log_p, dlog_p)
    dz, decode_grads = decode_backward(params["decode"], cache.decode, *doutputs, likelihood=likelihood)
    dmu_z, dsigma_z, _ = reparameterise_backward(cache.eps, dz)
    dmu_kl, dsigma_kl, _, _ = gaussian_kl_backward(cache.kl, dkl)
    _, encode_grads = encode_backward(params["encode"], cache.encode, dmu_z + dmu_kl, dsigma_z + dsigma_kl)
    return {"encode": encode_grads, "decode": decode_grads}
