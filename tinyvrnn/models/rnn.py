"""The plain recurrent network of Eq. 1 and 2, which the VRNN is with its latent variables taken away.

    h_t = f(phi_x(x_t), h_{t-1})        p(x_t | x_<t) = g(h_{t-1})        log p(x) = sum_t log p(x_t | x_<t)

Nothing is drawn, so log p(x) is exact, no bound. The schedule is the VRNN's (schedule.py), with only the recurrence in
the loop. `literal_forward` says the same a step at a time; tests hold the two equal.
Source: Chung et al., 2015, arXiv:1506.02216, section 2.1.
"""

from typing import NamedTuple

from numpy.typing import DTypeLike

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.distributions import COMPONENTS
from tinyvrnn.models.base import Model
from tinyvrnn.models.batch import copies
from tinyvrnn.models.equations import (
    features_backward,
    features_forward,
    predict_backward,
    predict_forward,
    remember_forward,
)
from tinyvrnn.nn.cells import cell_shapes, h_of, state_width
from tinyvrnn.nn.mlp import MlpCache
from tinyvrnn.nn.mlp import shapes as mlp_shapes
from tinyvrnn.nn.recurrence import LoopCache, loop_backward, loop_forward


class SequenceCache(NamedTuple):
    phi_x: MlpCache
    loop: LoopCache
    predict: NamedTuple
    log_p: tuple


class RNN(Model):
    """A recurrent network without latent variables, for x (T, B, X) time-major; its `elbo` is log p(x) itself.

    It takes no noise: eps is (T, B, 0) and can be omitted, the KL is 0, and beta has no effect.

    Parameters
    ----------
    x_dim, h_dim : int
        X, the values in a step; H, the width of the state.
    features : int, optional
        F, the width of every hidden layer. None: H.
    layers : int
        Hidden layers in phi_x and in g.
    likelihood, backend, dtype, seed, components, cell : various
        As for VRNN.

    Raises
    ------
    ConfigError, BackendError
        As VRNN.

    References
    ----------
    Chung et al., 2015, arXiv:1506.02216, section 2.1 (Eq. 1 and 2).
    """

    name = "rnn"
    bound = "exact"
    sizes = ("x_dim", "h_dim", "features", "layers")
    choices = ("cell",)

    def __init__(
        self,
        x_dim: int,
        h_dim: int,
        features: int | None = None,
        layers: int = 2,
        likelihood: str = "bernoulli",
        backend: str | None = None,
        dtype: DTypeLike = "float32",
        seed: int = 0,
        components: int = COMPONENTS,
        cell: str = "gru",
    ) -> None:
        self.x_dim, self.h_dim, self.layers, self.cell = x_dim, h_dim, layers, cell
        self.features = h_dim if features is None else features
        super().__init__(likelihood, backend, dtype, seed, components)

    def _shapes(self):
        X, H, F, L = (getattr(self, name) for name in self.sizes)
        hidden = [F] * L
        return {
            "phi_x": mlp_shapes([X, *hidden]),
            "predict": mlp_shapes([H, *hidden]) | self.likelihood.head_shapes(F, X),
            "recur": cell_shapes(self.cell, F, H),
        }

    def _forward_terms(self, batch):
        log_p, cache = sequence_forward(self.params, batch.x, self.likelihood, batch.state, batch.x_in)
        return log_p, namespace(log_p).zeros_like(log_p), cache

    def _backward_terms(self, cache, dlog_p, dkl, dstate=None):
        return sequence_backward_with_state(self.params, cache, dlog_p, self.likelihood, dstate)

    def _state_after(self, batch):
        phi_x, _ = features_forward(self.params["phi_x"], batch.x_in)
        return loop_forward(self.params["recur"], phi_x, batch.state).state[-1].copy()

    def _outputs(self, cache):
        return predict_forward(self.params["predict"], cache.loop.h[:-1], self.likelihood)[0]

    def _latents(self, cache):
        h = cache.loop.h[1:]
        return *[h[..., :0]] * 5, h  # mu_z, sigma_z, mu_0, sigma_0 and z of width 0

    def _states_at_end(self, batch):
        """The state (B K, S H) at the end of each sequence, K times; eps (T, B, K, 0)."""
        phi_x, _ = features_forward(self.params["phi_x"], batch.x_in)
        states, ends = loop_forward(self.params["recur"], phi_x).state, batch.mask.sum(axis=0).astype("int64")
        return copies(states[ends, self.backend.xp.arange(len(ends))][None], batch.eps.shape[2])[0]

    @staticmethod
    def _sample_step(params, likelihood, state, eps, v):
        """x_t (n, X), drawn from Eq. 2, the outputs that it is drawn from, and the state that has read it (Eq. 1)."""
        outputs, _ = predict_forward(params["predict"], h_of(params["recur"], state), likelihood)
        x = likelihood.sample(v, *outputs)
        phi_x, _ = features_forward(params["phi_x"], x)
        return x, outputs, remember_forward(params["recur"], phi_x, state)[0]


def sequence_forward(params, x, likelihood, state=None, x_in=None):
    """log p(x_t | x_<t) of every step, (T, B) in nats, and the cache. x (T, B, X).

    state (B, S H): before the first step (None: zeros); that after the last is cache.loop.state[-1].
    x_in (T, B, X): the networks' input, x with dropout; None: x. log p always scores x.
    """
    phi_x, phi_x_cache = features_forward(params["phi_x"], x if x_in is None else x_in)
    loop = loop_forward(params["recur"], phi_x, state)
    outputs, predict_cache = predict_forward(params["predict"], loop.h[:-1], likelihood)
    log_p, log_p_cache = likelihood.log_density_forward(x, *outputs)
    return log_p, SequenceCache(phi_x_cache, loop, predict_cache, log_p_cache)


def sequence_backward(params, cache, dlog_p, likelihood):
    """The gradient of every parameter, from dlog_p (T, B). Returns grads, arranged as params."""
    return sequence_backward_with_state(params, cache, dlog_p, likelihood)[1]


def sequence_backward_with_state(params, cache, dlog_p, likelihood, dstate=None):
    """As `sequence_backward`, from dstate (B, S H) of the last state too. Returns that of the first, and grads."""
    _, *doutputs = likelihood.log_density_backward(cache.log_p, dlog_p)
    dh, predict_grads = predict_backward(params["predict"], cache.predict, *doutputs, likelihood=likelihood)
    (dphi_x, dstate), recur_grads = loop_backward(params["recur"], cache.loop, dh, dstate)
    _, phi_x_grads = features_backward(params["phi_x"], cache.phi_x, dphi_x)
    return dstate, {"phi_x": phi_x_grads, "predict": predict_grads, "recur": recur_grads}


def literal_forward(params, x, likelihood):
    """As `sequence_forward`, as the paper writes it: at each step predict x_t from h_{t-1}, then remember x_t."""
    state = namespace(x).zeros((x.shape[1], state_width(params["recur"])), dtype=x.dtype)
    log_ps, caches = [], []
    for x_t in x:
        h = h_of(params["recur"], state)
        outputs, predict_cache = predict_forward(params["predict"], h, likelihood)  # Eq. 2
        log_p, log_p_cache = likelihood.log_density_forward(x_t, *outputs)
        phi_x, phi_x_cache = features_forward(params["phi_x"], x_t)
        state, recur_cache = remember_forward(params["recur"], phi_x, state)  # Eq. 1
        log_ps.append(log_p)
        caches.append((predict_cache, log_p_cache, phi_x_cache, recur_cache))
    return namespace(x).stack(log_ps), caches
