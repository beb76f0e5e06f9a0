"""A VRNN with an exact log p(x): identity features, linear heads and a linear cell.

    z_1 ~ N(0, 1)      z_t = a z_{t-1} + N(0, q)      x_t = z_t + N(0, r)          all numbers, q and r variances

is a VRNN: phi_x and phi_z are the identity, the state is h_t = z_t (Eq. 7), prior (Eq. 5) and generation (Eq. 6) are
linear in it, and q (Eq. 9) is Gaussian with a mean linear in h_{t-1} and x_t. It is also the textbook linear-Gaussian
state-space model, so a Kalman filter gives the exact log p(x), with which every bound can be compared.

x, moments and coefficients are time-major arrays (T, B, 1). Derivations: docs/derivations/linear_gaussian.md.
Sources: Kalman, 1960; Rauch, Tung and Striebel, 1965.
"""

import math
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.backend import as_array, backend_of, get_backend, namespace, to_host
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.distributions.gaussian import gaussian_log_density_forward
from tinyvrnn.errors import ConfigError, is_finite, unknown_name
from tinyvrnn.models import stepwise
from tinyvrnn.models.batch import BOUNDS, Inference, bound_terms, check_shape, check_x, copies, inference
from tinyvrnn.models.particles import filter_forward


class Chain(NamedTuple):
    """p(z_t | z_{t-1}) = N(a_t z_{t-1}, q_t) and p(x_t | z_t) = N(z_t, 1 / info_t). Each (T, B, 1).

    a_1 = 0 and q_1 = 1 mean z_1 ~ N(0, 1); info_t = 0 means that x_t is padding and not observed.
    """

    a: object
    q: object
    info: object


class Filtered(NamedTuple):
    """Results of the Kalman filter."""

    log_p: object  # log p(x_1..x_T), (B,), nats
    mean: object  # of p(z_t | x_1..x_t), (T, B, 1)
    variance: object
    predicted_mean: object  # of p(z_t | x_1..x_{t-1}), (T, B, 1)
    predicted_variance: object


class Row(NamedTuple):
    """A row of the table of gaps, in nats per sequence."""

    posterior: str  # a key of POSTERIORS
    elbo: float
    kl: float  # the second term of the ELBO
    gap: float  # exact - elbo
    exact: float  # log p(x)


def kalman_filter(chain, x):
    """log p(x) and the moments of p(z_t | x_1..x_t). x (T, B, 1). Returns Filtered.

    predict:  m' = a_t m,                        P' = a_t^2 P + q_t
    score:    log p(x_t | x_<t) = log N(x_t; m', P' + r)
    update:   k = P' / (P' + r),  m = m' + k (x_t - m'),  P = (1 - k) P'          r = 1 / info_t
    """
    xp = namespace(x)
    m, P, log_p, moments = xp.zeros_like(x[0]), xp.zeros_like(x[0]), 0.0, []
    for a, q, info, x_t in zip(*chain, x):
        m_, P_ = a * m, a * a * P + q
        share = P_ * info  # P' / r, so that an unobserved step (r infinite) needs no special case
        k = share / (1 + share)
        m, P = m_ + k * (x_t - m_), P_ / (1 + share)
        score, _ = gaussian_log_density_forward(x_t, m_, xp.sqrt(P_ + 1 / xp.where(info > 0, info, 1)))
        log_p = log_p + xp.where(info[:, 0] > 0, score, 0)
        moments.append((m, P, m_, P_))
    return Filtered(log_p, *(xp.stack(values) for values in zip(*moments)))


def rts_smoother(chain, filtered):
    """Mean and variance of p(z_t | x_1..x_T), (T, B, 1) each.

    Backwards from the filter's last step, with ' for predicted and ^ for smoothed:
    G = P_t a_{t+1} / P'_{t+1},  m^_t = m_t + G (m^_{t+1} - m'_{t+1}),  P^_t = P_t + G^2 (P^_{t+1} - P'_{t+1})
    """
    _, mean, variance, predicted_mean, predicted_variance = filtered
    m, P = mean[-1], variance[-1]
    smoothed = [(m, P)]
    for t in reversed(range(len(mean) - 1)):
        G = variance[t] * chain.a[t + 1] / predicted_variance[t + 1]
        m = mean[t] + G * (m - predicted_mean[t + 1])
        P = variance[t] + G * G * (P - predicted_variance[t + 1])
        smoothed.append((m, P))
    return tuple(namespace(mean).stack(values[::-1]) for values in zip(*smoothed))


def future_information(chain, x):
    """Backward messages j, e (T, B, 1): p(x_{t+1}..x_T | z_t) = const exp(-j_t z_t^2 / 2 + e_t z_t).

    Backwards from j_T = e_T = 0. With x_{t+1} the message about z_{t+1} is J = j_{t+1} + 1/r, E = e_{t+1} + x_{t+1}/r.
    Passing it through z_{t+1} = a z_t + N(0, q) gives j_t = a^2 J / (1 + q J), e_t = a E / (1 + q J).
    """
    xp = namespace(x)
    j = e = xp.zeros_like(x[0])
    messages = [(j, e)]
    for t in range(len(x) - 1, 0, -1):
        a, q, info = (values[t] for values in chain)
        J, E = j + info, e + info * x[t]
        j, e = a * a * J / (1 + q * J), a * E / (1 + q * J)
        messages.append((j, e))
    return tuple(xp.stack(values[::-1]) for values in zip(*messages))


def linear_head(A, K, c, sigma):
    """The parameters of N(A_t h_{t-1} + K_t phi_x(x_t) + c_t, sigma_t^2), each (T, B, 1)."""
    return {"A": A, "K": K, "c": c, "sigma": sigma}


def smoothing(chain, x):
    """q(z_t) = p(z_t | z_{t-1}, x_t..x_T), the true posterior. Its c_t depends on the future, which Eq. 10 excludes.

    Its precision is 1/q_t + 1/r + j_t; precision times mean is (a_t / q_t) z_{t-1} + x_t / r + e_t.
    """
    j, e = future_information(chain, x)
    variance = 1 / (1 / chain.q + chain.info + j)
    return linear_head(variance * chain.a / chain.q, variance * chain.info, variance * e, namespace(x).sqrt(variance))


def filtering(chain, x):
    """q(z_t) = p(z_t | z_{t-1}, x_t), the true posterior without the future: as smoothing, with j = e = 0."""
    variance = 1 / (1 / chain.q + chain.info)
    c = namespace(x).zeros_like(x)
    return linear_head(variance * chain.a / chain.q, variance * chain.info, c, namespace(x).sqrt(variance))


def filtering_mean_smoothing_variance(chain, x):
    """The mean of `filtering` with the standard deviation of `smoothing`: in the family of Eq. 10, and better."""
    return filtering(chain, x) | {"sigma": smoothing(chain, x)["sigma"]}


def prior(chain, x):
    """q(z_t) = p(z_t | z_{t-1}), which ignores x."""
    zero = namespace(x).zeros_like(x)
    return linear_head(chain.a, zero, zero, namespace(x).sqrt(chain.q))


POSTERIORS = {
    "smoothing": smoothing,
    "filtering": filtering,
    "filtering mean, smoothing variance": filtering_mean_smoothing_variance,
    "prior": prior,
}


def _head(p, phi_x, h):
    moments = p["A"] * h + p["K"] * phi_x + p["c"], p["sigma"]
    return moments, moments  # nothing goes backward: the caches are what `LinearGaussian.infer` returns


LINEAR = stepwise.Equations(
    features_forward=lambda p, v: (v, v),
    prior_forward=lambda p, h: _head(p, 0, h),  # Eq. 5
    infer_forward=_head,  # Eq. 9
    generate_forward=lambda p, phi_z, h, likelihood: ((phi_z, p["sigma"]), None),  # Eq. 6
    recur_forward=lambda p, phi_x, phi_z, h: (phi_z, None),  # Eq. 7
    state_dim=lambda params: 1,
    at=lambda params, t: {group: {name: rows[t] for name, rows in head.items()} for group, head in params.items()},
)


class LinearGaussian:
    """The linear-Gaussian state-space model as a VRNN, with one of four posteriors.

    a, q, r: as above; posterior: a key of POSTERIORS. Raises ConfigError for other values.
    """

    name, bounds = "linear-gaussian", BOUNDS
    x_dim = z_dim = h_dim = 1
    dtype, units, equations = "float64", "nats", LINEAR
    backend = get_backend("numpy")  # for drawn noise; computations use the backend of x

    def __init__(self, a=0.9, q=0.5, r=0.5, posterior="smoothing"):
        for name, value in (("a", a), ("q", q), ("r", r)):
            if not is_finite(value) or (name != "a" and value <= 0):
                kind = "finite" if name == "a" else "positive"
                raise ConfigError(f"{name} must be a {kind} number, got {value!r}.")
        if posterior not in POSTERIORS:
            raise ConfigError(unknown_name("posterior", posterior, POSTERIORS))
        self.a, self.q, self.r, self.posterior = float(a), float(q), float(r), posterior
        self.likelihood = LIKELIHOODS["gaussian"]

    def __repr__(self):
        return f"LinearGaussian(a={self.a:g}, q={self.q:g}, r={self.r:g}, posterior={self.posterior!r})"

    def chain(self, x, lengths=None):
        """The Chain for x (T, B, 1); steps from lengths[b] on are unobserved. Raises DataError as a VRNN does."""
        lengths = check_x(x, 1, lengths, self.likelihood)
        one = namespace(x).ones_like(x)
        a, q, info = self.a * one, self.q * one, one / self.r
        a[0], q[0] = 0, 1
        if lengths is not None:
            info = info * (namespace(x).arange(len(x))[:, None] < backend_of(x).asarray(lengths))[..., None]
        return Chain(a, q, info)

    def log_prob(self, x, lengths=None):
        """The exact log p(x) of each sequence, (B,), nats per sequence. x (T, B, 1)."""
        return kalman_filter(self.chain(x, lengths), x).log_p

    def bind(self, x, lengths=None):
        """The VRNN's parameters for x (T, B, 1): linear heads with coefficients for each step."""
        chain, xp = self.chain(x, lengths), namespace(x)
        return {
            "phi_x": {},
            "phi_z": {},
            "prior": prior(chain, x),
            "infer": POSTERIORS[self.posterior](chain, x),
            "generate": {"sigma": xp.ones_like(x) * math.sqrt(self.r)},
            "recur": {},
        }

    def infer(self, x, lengths=None, eps=None):
        """The Inference of x (T, B, 1), with h_t = z_t, by `stepwise.sequence_forward`.

        eps (T, B, 1): the noise of one draw; None: the exact expectation over the noise, see `exact_noise`.
        """
        x = as_array(x, "x")
        check_x(x, 1, lengths, self.likelihood)
        if eps is not None:
            return self._infer(x, lengths, backend_of(x).asarray(eps))
        (T, B, _), points = x.shape, backend_of(x).asarray(exact_noise(len(x)))
        n = points.shape[1]
        noise = namespace(x).concatenate([points] * B, axis=1)
        each = self._infer(copies(x, n), _repeated(lengths, n), noise)
        return Inference(*(a.reshape(T, B, n, *a.shape[2:]).mean(axis=2) for a in each))

    def parts(self, x, lengths=None, eps=None):
        """The terms of Eq. 11 for each sequence, the sums of `infer`. Returns BoundTerms, (B,) each."""
        found = self.infer(x, lengths, eps)
        return bound_terms(found.log_p, found.kl, namespace(found.kl).ones_like(found.kl))

    def elbo(self, x, lengths=None, eps=None):
        """The ELBO of each sequence, (B,), nats per sequence: exact without eps, from one draw with it."""
        return self.parts(x, lengths, eps).elbo

    def log_weights(self, x, lengths=None, eps=None):
        """log p(x, z_k) - log q(z_k | x), (B, K), nats, for x (T, B, 1) and the noise eps (T, B, K, 1)."""
        *wide, mask = self._widened(x, lengths, eps)
        log_p, ratio, _ = stepwise.sequence_forward(*wide, self.likelihood, LINEAR, sampled=True)
        return ((log_p - ratio).reshape(eps.shape[:3]) * mask[..., None]).sum(axis=0)

    def particle_filter(self, x, lengths=None, eps=None, uniforms=None):
        """Log of the particle filter's estimate of p(x), (B,), nats. eps (T, B, K, 1), uniforms (T, B)."""
        check_shape("uniforms", uniforms, x.shape[:2], " for resampling")
        wide, uniforms = self._widened(x, lengths, eps), backend_of(x).asarray(uniforms)
        return filter_forward(*wide, uniforms, self.likelihood, LINEAR)[0]

    def _widened(self, x, lengths, eps):
        """Parameters, x and eps (T, B K, 1) with a column for each particle, and the mask (T, B)."""
        T, B, K = *x.shape[:2], eps.shape[2] if getattr(eps, "ndim", 0) == 4 else 1
        check_shape("eps", eps, (T, B, K, 1), ", axis 2 being the particles")
        wide = copies(x, K)
        params, eps = self.bind(wide, _repeated(lengths, K)), backend_of(x).asarray(eps).reshape(T, B * K, 1)
        return params, wide, eps, self.chain(x, lengths).info[..., 0] > 0

    def _infer(self, x, lengths, eps):
        mask = self.chain(x, lengths).info[..., 0] > 0
        log_p, kl, caches = stepwise.sequence_forward(self.bind(x, lengths), x, eps, self.likelihood, LINEAR)
        steps = ((*infer, *prior, z, z) for _, prior, infer, _, z, *_ in caches)
        return inference(map(namespace(x).stack, zip(*steps)), log_p, kl, mask.astype(log_p.dtype))


def exact_noise(T):
    """The points +sqrt(n) e_i and -sqrt(n) e_i for the n = T numbers in eps, as (T, 2n, 1).

    The mean over them of f(eps) = f_0 + b eps + eps M eps / 2 is f_0 + (1 / 2n) sum_i 2 n M_ii / 2 = f_0 + tr(M) / 2,
    since b cancels between + and -. This equals E f for eps ~ N(0, I). With linear heads z is linear in eps, each
    log-density is quadratic in z and each KL quadratic in h, so every term of Eq. 11 has the form of f: the mean over
    these 2n columns is the exact expectation, without Monte Carlo error.
    """
    points = math.sqrt(T) * np.eye(T)
    return np.concatenate([points, -points], axis=1)[..., None]


def sine(T=20):
    """x_t = sin(t / 2), t = 1..T, as (T, 1, 1): the data of the table."""
    return np.sin(0.5 * np.arange(1, T + 1))[:, None, None]


def table(x=None, a=0.9, q=0.5, r=0.5):
    """The ELBO of one sequence x (T, 1, 1) with each of POSTERIORS, and its exact log p(x): a list of Row."""
    x, rows = sine() if x is None else x, []
    for name in POSTERIORS:
        model = LinearGaussian(a, q, r, name)
        parts, exact = model.parts(x), float(model.log_prob(x)[0])
        rows.append(Row(name, float(parts.elbo[0]), float(parts.kl[0]), exact - float(parts.elbo[0]), exact))
    return rows


def _repeated(lengths, n):
    return None if lengths is None else np.repeat(to_host(as_array(lengths, "lengths")), n)
