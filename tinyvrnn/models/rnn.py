"""The plain recurrent network of Eq. 1 and 2, which the VRNN is with its latent variables taken away.

    h_t = f(phi_x(x_t), h_{t-1})        p(x_t | x_<t) = g(h_{t-1})        log p(x) = sum_t log p(x_t | x_<t)

Nothing is drawn, so log p(x) is exact, no bound. The schedule is the VRNN's: only the recurrence is in the loop;
features, predictions and densities are made for all T steps at once; the reverse loop carries dh and forms no weight
gradient. `literal_*` say the same a step at a time; tests hold the two equal.
Source: Chung et al., 2015, arXiv:1506.02216, section 2.1.
"""

from typing import NamedTuple

from tinyvrnn import noise
from tinyvrnn.backend import namespace
from tinyvrnn.distributions import COMPONENTS
from tinyvrnn.models.base import Model
from tinyvrnn.models.equations import (
    features_backward,
    features_forward,
    predict_backward,
    predict_forward,
    remember_backward,
    remember_forward,
)
from tinyvrnn.nn.gru import (
    GruCache,
    gru_backward_params,
    gru_gates_backward,
    gru_gates_forward,
    gru_h_side,
    gru_slopes,
)
from tinyvrnn.nn.gru import shapes as gru_shapes
from tinyvrnn.nn.linear import matmul
from tinyvrnn.nn.mlp import MlpCache
from tinyvrnn.nn.mlp import shapes as mlp_shapes


class LoopCache(NamedTuple):
    """What the loop leaves behind, for all T steps."""

    phi_x: object  # (T, B, F)
    h: object  # (T + 1, B, H): h[t] is the state before step t
    ru: object  # gates r and u, (T, B, 2H)
    n: object  # candidate state, (T, B, H)
    g_n: object  # h U_n + c_n, (T, B, H)


class SequenceCache(NamedTuple):
    phi_x: MlpCache
    loop: LoopCache
    predict: NamedTuple
    log_p: tuple


class RNN(Model):
    """A recurrent network with a GRU, for x (T, B, X) time-major. What is called its ELBO is log p(x) itself.

    x_dim X, h_dim H (state), features F (width of every hidden layer; default H), layers (hidden ones in phi_x and g),
    likelihood, backend, dtype, seed, components: as for VRNN. It has no z: eps is (T, B, 0) and may be left out, the KL
    is 0, and its weight beta has nothing to weigh. Raises ConfigError and BackendError as VRNN does.
    """

    name = "rnn"
    bound = "exact"
    sizes = ("x_dim", "h_dim", "features", "layers")

    def __init__(
        self,
        x_dim,
        h_dim,
        features=None,
        layers=2,
        likelihood="bernoulli",
        backend=None,
        dtype="float32",
        seed=0,
        components=COMPONENTS,
    ):
        self.x_dim, self.h_dim, self.layers = x_dim, h_dim, layers
        self.features = h_dim if features is None else features
        super().__init__(likelihood, backend, dtype, seed, components)

    def _shapes(self):
        X, H, F, L = (getattr(self, name) for name in self.sizes)
        hidden = [F] * L
        return {
            "phi_x": mlp_shapes([X, *hidden]),
            "predict": mlp_shapes([H, *hidden]) | self.likelihood.head_shapes(F, X),
            "recur": gru_shapes(F, H),
        }

    def _forward_terms(self, x, eps):
        log_p, cache = sequence_forward(self.params, x, self.likelihood)
        return log_p, namespace(x).zeros_like(log_p), cache

    def _backward_terms(self, cache, dlog_p, dkl):
        return sequence_backward(self.params, cache, dlog_p, self.likelihood)

    def _outputs(self, cache):
        return predict_forward(self.params["predict"], cache.loop.h[:-1], self.likelihood)[0]

    def _draw(self, n, steps, seed, prime, eps):
        """Eq. 2 step by step, from h_0 = 0 or from the state after the prime (Eq. 1)."""
        h = self.backend.xp.zeros((n, self.h_dim), dtype=self.dtype)
        if prime is not None:
            h = loop_forward(self.params["recur"], features_forward(self.params["phi_x"], prime)[0]).h[-1]
        return ancestral_sample(self.params, h, steps, seed, self.likelihood, self.backend, self.x_dim, self.dtype)


# ---- all steps at once ---------------------------------------------------------------------------


def sequence_forward(params, x, likelihood):
    """log p(x_t | x_<t) of every step, (T, B) in nats, and the cache. x (T, B, X)."""
    phi_x, phi_x_cache = features_forward(params["phi_x"], x)
    loop = loop_forward(params["recur"], phi_x)
    outputs, predict_cache = predict_forward(params["predict"], loop.h[:-1], likelihood)
    log_p, log_p_cache = likelihood.log_density_forward(x, *outputs)
    return log_p, SequenceCache(phi_x_cache, loop, predict_cache, log_p_cache)


def sequence_backward(params, cache, dlog_p, likelihood):
    """The gradient of every parameter, from dlog_p (T, B). Returns grads, arranged as params."""
    _, *doutputs = likelihood.log_density_backward(cache.log_p, dlog_p)
    dh, predict_grads = predict_backward(params["predict"], cache.predict, *doutputs, likelihood=likelihood)
    dphi_x, recur_grads = loop_backward(params["recur"], cache.loop, dh)
    _, phi_x_grads = features_backward(params["phi_x"], cache.phi_x, dphi_x)
    return {"phi_x": phi_x_grads, "predict": predict_grads, "recur": recur_grads}


def loop_forward(p, phi_x):
    """Eq. 1, step after step from h_0 = 0. phi_x (T, B, F). Returns LoopCache."""
    xp, (T, B, _), H = namespace(phi_x), phi_x.shape, p["U"].shape[0]
    a = matmul(phi_x, p["W"])
    a += p["b"]
    h, ru, n, g_n = (xp.empty((t, B, w), dtype=phi_x.dtype) for t, w in ((T + 1, H), (T, 2 * H), (T, H), (T, H)))
    h[0] = 0
    for t in range(T):
        g = matmul(h[t], p["U"])
        g += p["c"]
        _, (_, _, g_n[t]) = gru_gates_forward(a[t], g, h[t], out=(h[t + 1], ru[t], n[t]))
    return LoopCache(phi_x, h, ru, n, g_n)


def loop_backward(p, c, dh):
    """The reverse loop, which carries only dh, then the weight gradients of Eq. 1, one product over all T*B rows each.

    dh (T, B, H): what the predictions ask of the states. Returns dphi_x (T, B, F), grads.
    """
    xp, (T, B, H) = namespace(dh), dh.shape
    gates = GruCache((c.phi_x,), c.h[:-1], c.ru, c.n, c.g_n)
    U_T = xp.ascontiguousarray(p["U"].T)
    d_a = gru_slopes(gates)  # each step's slopes give way to its gradient
    dh_next = xp.zeros((B, H), dtype=dh.dtype)
    for t in reversed(range(T)):
        gru_gates_backward(d_a[t], dh_next, out=d_a[t])
        dh_next = dh_next * c.ru[t, :, H:]
        dh_next += dh[t]
        dh_next += matmul(gru_h_side(d_a[t], c.ru[t]), U_T)
    return matmul(d_a, p["W"].T), gru_backward_params(gates, d_a, out=d_a)


# ---- a step at a time ----------------------------------------------------------------------------


def literal_forward(params, x, likelihood):
    """As `sequence_forward`, as the paper writes it: at each step predict x_t from h_{t-1}, then remember x_t."""
    h = namespace(x).zeros((x.shape[1], params["recur"]["U"].shape[0]), dtype=x.dtype)
    log_ps, caches = [], []
    for x_t in x:
        outputs, predict_cache = predict_forward(params["predict"], h, likelihood)  # Eq. 2
        log_p, log_p_cache = likelihood.log_density_forward(x_t, *outputs)
        phi_x, phi_x_cache = features_forward(params["phi_x"], x_t)
        h, recur_cache = remember_forward(params["recur"], phi_x, h)  # Eq. 1
        log_ps.append(log_p)
        caches.append((predict_cache, log_p_cache, phi_x_cache, recur_cache))
    return namespace(x).stack(log_ps), caches


def literal_backward(params, caches, dlog_p, likelihood):
    """As `sequence_backward`: the gradient of every parameter, summed over the steps."""
    dh = namespace(dlog_p).zeros((dlog_p.shape[1], params["recur"]["U"].shape[0]), dtype=dlog_p.dtype)
    total = {group: {leaf: 0 for leaf in named} for group, named in params.items()}
    for (predict_cache, log_p_cache, phi_x_cache, recur_cache), dlog_p_t in zip(caches[::-1], dlog_p[::-1]):
        grads = {}
        (dphi_x, dh_recur), grads["recur"] = remember_backward(params["recur"], recur_cache, dh)
        _, grads["phi_x"] = features_backward(params["phi_x"], phi_x_cache, dphi_x)
        _, *doutputs = likelihood.log_density_backward(log_p_cache, dlog_p_t)
        dh_predict, grads["predict"] = predict_backward(
            params["predict"], predict_cache, *doutputs, likelihood=likelihood
        )
        dh = dh_recur + dh_predict
        total = {group: {leaf: total[group][leaf] + g for leaf, g in named.items()} for group, named in grads.items()}
    return total


# ---- sampling ------------------------------------------------------------------------------------


def ancestral_sample(params, h, steps, seed, likelihood, backend, x_dim, dtype):
    """x (steps, n, X), each x_t drawn from Eq. 2 and fed back (Eq. 1), from h (n, H) on. Noise is addressed."""
    xs = []
    for t in range(steps):
        outputs, _ = predict_forward(params["predict"], h, likelihood)
        v = likelihood.noise(noise.generator(seed, "sample x", t), (h.shape[0], x_dim), dtype)
        xs.append(likelihood.sample(backend.asarray(v), *outputs))
        phi_x, _ = features_forward(params["phi_x"], xs[-1])
        h, _ = remember_forward(params["recur"], phi_x, h)
    return backend.xp.stack(xs)
