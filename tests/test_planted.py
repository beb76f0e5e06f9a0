"""Tests of the tests: common mistakes, each planted in the package for a moment, make a named check fail.

A row of PLANTED is (the mistake, how to plant it, the check that must catch it). The same checks pass on the unchanged
package. A mistake that the gradient check misses, because forward and backward agree in it, is also in
GRADIENT_CHECK_IS_BLIND, and that is tested: it is why each claim has a second, independent check.
"""

import sys
from functools import partial

import checks
import numpy as np
import pytest

from tinyvrnn import bounds, distributions
from tinyvrnn.arrays import backend, noise
from tinyvrnn.arrays.params import views
from tinyvrnn.data import scale
from tinyvrnn.data.baselines import _previous_symbol
from tinyvrnn.distributions import bernoulli, categorical, gaussian, mixture, pen
from tinyvrnn.gradcheck import all_pairs
from tinyvrnn.models import (
    batch,
    equations,
    filtering,
    linear_gaussian,
    lookahead,
    particles,
    rnn,
    sampling,
    schedule,
    vae,
    vrnn,
)
from tinyvrnn.models.vrnn import VRNN
from tinyvrnn.nn import activations, cells, gru, linear, lstm, mlp
from tinyvrnn.training import loop, optim, parallel


def replace(right, wrong):
    """Plant `wrong` wherever the package refers to the function `right`: in modules and in tables of functions."""

    def plant(monkeypatch):
        for module in [m for name, m in sys.modules.items() if name.partition(".")[0] == "tinyvrnn"]:
            for name in [name for name, value in vars(module).items() if value is right]:
                monkeypatch.setattr(module, name, wrong)
        for table in (distributions.LIKELIHOODS, cells.CELLS):
            for name, old in list(table.items()):
                new = old._replace(**{field: wrong for field, value in old._asdict().items() if value is right})
                monkeypatch.setitem(table, name, new)
        for name, pair in list(all_pairs.PAIRS.items()):
            functions = {field: swapped(getattr(pair, field), right, wrong) for field in ("forward", "backward")}
            monkeypatch.setitem(all_pairs.PAIRS, name, pair._replace(**functions))

    return plant


def swapped(function, right, wrong):
    if isinstance(function, partial):
        likelihood = distributions.LIKELIHOODS[function.keywords["likelihood"].name]
        return partial(swapped(function.func, right, wrong), likelihood=likelihood)
    return wrong if function is right else function


def method(owner, name, wrong):
    return lambda monkeypatch: monkeypatch.setattr(owner, name, wrong)


def all_of(*plants):
    def plant(monkeypatch):
        for one in plants:
            one(monkeypatch)

    return plant


# ---- data ----------------------------------------------------------------------------------------

pen_moments = scale._pen_moments


def scale_by_variances(train, how):
    mean, std, units = pen_moments(train, how)
    return mean, std**2, units


def symbol_of_another_text(sequences):
    return np.roll(sequences.values.argmax(axis=1), 1)


# ---- distributions -------------------------------------------------------------------------------

reparameterise, reparameterise_backward = gaussian.reparameterise_forward, gaussian.reparameterise_backward
kl, kl_backward = gaussian.gaussian_kl_forward, gaussian.gaussian_kl_backward
log_normal, log_normal_backward = gaussian.gaussian_log_density_forward, gaussian.gaussian_log_density_backward
log_coin = bernoulli.bernoulli_log_density_forward


def draw_with_variance(mu, sigma, eps):
    return mu + sigma**2 * eps, (eps, sigma)


def draw_with_variance_backward(cache, dz):
    eps, sigma = cache
    return dz, dz * eps * 2 * sigma, dz * sigma**2


def kl_with_variances(mu_z, sigma_z, mu_0, sigma_0):
    value, cache = kl(mu_z, sigma_z**2, mu_0, sigma_0**2)
    return value, (cache, sigma_z, sigma_0)


def kl_with_variances_backward(cache, dkl):
    cache, sigma_z, sigma_0 = cache
    dmu_z, dvariance_z, dmu_0, dvariance_0 = kl_backward(cache, dkl)
    return dmu_z, dvariance_z * 2 * sigma_z, dmu_0, dvariance_0 * 2 * sigma_0


def kl_without_its_constant(mu_z, sigma_z, mu_0, sigma_0):
    value, cache = kl(mu_z, sigma_z, mu_0, sigma_0)
    return value + 0.5 * mu_z.shape[-1], cache


def kl_other_way_round(mu_z, sigma_z, mu_0, sigma_0):
    return kl(mu_0, sigma_0, mu_z, sigma_z)


def kl_other_way_round_backward(cache, dkl):
    d = kl_backward(cache, dkl)
    return (*d[2:], *d[:2])


def kl_backward_with_wrong_sign(cache, dkl):
    dmu_z, dsigma_z, dmu_0, dsigma_0 = kl_backward(cache, dkl)
    return dmu_z, -dsigma_z, dmu_0, dsigma_0


def kl_backward_with_detached_prior(cache, dkl):
    dmu_z, dsigma_z, dmu_0, dsigma_0 = kl_backward(cache, dkl)
    return dmu_z, dsigma_z, 0 * dmu_0, 0 * dsigma_0


def kl_backward_with_missing_term(cache, dkl):
    dmu_z, dsigma_z, dmu_0, _ = kl_backward(cache, dkl)
    return dmu_z, dsigma_z, dmu_0, -dkl[..., None] * cache.ratio_minus_1 / cache.sigma_0


def draw_backward_without_deps(cache, dz):
    return reparameterise_backward(cache, dz)[:2]


def log_coin_of_probabilities(x, a):
    p = activations.sigmoid(a)
    return (x * np.log(p + 1e-10) + (1 - x) * np.log(1 - p - 1e-10)).sum(axis=-1), (x, a)


def log_normal_without_2_pi(x, mu, sigma):
    value, cache = log_normal(x, mu, sigma)
    return value + x.shape[-1] * gaussian.HALF_LOG_2PI, cache


def log_normal_of_variance(x, mu, sigma):
    value, cache = log_normal(x, mu, sigma**2)
    return value, (cache, sigma)


def log_normal_of_variance_backward(cache, dlog_p):
    cache, sigma = cache
    dx, dmu, dvariance = log_normal_backward(cache, dlog_p)
    return dx, dmu, dvariance * 2 * sigma


def heads_on_the_wrong_side(uniforms, a):
    return (uniforms > activations.sigmoid(a)).astype(a.dtype)


log_gmm, log_gmm_backward = mixture.gmm_log_density_forward, mixture.gmm_log_density_backward
log_pen, log_pen_backward = pen.pen_log_density_forward, pen.pen_log_density_backward
mix_backward, pick, pen_sample = mixture.mix_backward, categorical.pick, pen.pen_sample
pen_head, log_categorical_backward = pen.pen_head_forward, categorical.categorical_log_density_backward


def gmm_of_weights_not_normalised(x, logits, mu, sigma):
    """exp(logits) used as weights without normalising, with a gradient that agrees."""
    log_p, cache = log_gmm(x, logits, mu, sigma)
    largest = np.max(logits, axis=-1)
    return log_p + largest + np.log(np.exp(logits - largest[..., None]).sum(axis=-1)), cache


def gmm_of_weights_not_normalised_backward(cache, dlog_p):
    dx, _, dmu, dsigma = log_gmm_backward(cache, dlog_p)
    return dx, dlog_p[..., None] * cache.mix.r, dmu, dsigma


def gmm_drawn_with_variance(noise, logits, mu, sigma):
    return right_gmm_sample(noise, logits, mu, sigma**2)


def mix_backward_of_the_prior_weights(cache, dlog_p):
    dlogits, dlog_n = mix_backward(cache, dlog_p)
    return dlogits, dlog_n * 0 + dlog_p[..., None] * cache.pi


def pick_of_logits_not_weights(uniforms, weights):
    return pick(uniforms, np.ones_like(weights) / weights.shape[-1])


def pen_with_negative_correlation(x, logits, mu, sigma, rho, a):
    return log_pen(x, logits, mu, sigma, -rho, a)


def pen_with_negative_correlation_backward(cache, dlog_p):
    dx, dlogits, dmu, dsigma, drho, da = log_pen_backward(cache, dlog_p)
    return dx, dlogits, dmu, dsigma, -drho, da


def pen_drawn_without_correlation(noise, logits, mu, sigma, rho, a):
    return pen_sample(noise, logits, mu, sigma, 0 * rho, a)


def pen_drawn_with_one_uniform(noise, logits, mu, sigma, rho, a):
    """Component and pen are drawn with the same uniform, so they are dependent."""
    return pen_sample(noise[..., [0, 0, 2, 3]], logits, mu, sigma, rho, a)


def pen_head_with_a_full_correlation(p, y):
    (logits, mu, sigma, rho, a), cache = pen_head(p, y)
    return (logits, mu, sigma, rho / pen.RHO_MAX, a), cache


def categorical_backward_without_softmax(cache, dlog_p):
    dx, _ = log_categorical_backward(cache, dlog_p)
    return dx, dlog_p[..., None] * cache[0]


right_gmm_sample = mixture.gmm_sample

# ---- layers --------------------------------------------------------------------------------------

relu_backward, gru_gates = activations.relu_backward, gru.gru_gates_forward
gru_forward, gru_backward = gru.gru_forward, gru.gru_backward
params_backward, mlp_data, slopes = linear.linear_backward_params, mlp.mlp_backward_data, gru.gru_slopes


def negative_relu(a, out=None):
    return backend.namespace(a).minimum(a, 0, out=out)


def negative_relu_backward(y, dy, out=None):
    return backend.namespace(dy).multiply(dy, y < 0, out=out)


def relu_backward_that_lets_all_through(y, dy, out=None):
    return relu_backward(y + 1, dy, out=out)


def relu_backward_into_the_upstream(y, dy, out=None):
    return relu_backward(y, dy, out=dy)


def softplus_backward_of_1(a, dy):
    return dy


def bias_gradient_of_the_first_row(cache, dy):
    grads = params_backward(cache, dy)
    return grads | {"b": dy.reshape(-1, dy.shape[-1])[0]}


def bias_gradient_as_a_mean(cache, dy):
    grads = params_backward(cache, dy)
    return grads | {"b": grads["b"] / (dy.size // dy.shape[-1])}


def mlp_data_with_weights_not_transposed(p, ys, dy, out=None):
    return mlp_data({name: W.T for name, W in p.items()}, ys, dy, out)


def gradients_that_accumulate():
    kept = {}

    def backward(cache, dy):
        for name, g in params_backward(cache, dy).items():
            kept[name, g.shape] = kept.get((name, g.shape), 0) + g
        return {name: g for (name, shape), g in kept.items() if shape[-1:] == dy.shape[-1:]}

    return backward


def gru_without_bias_c(p, *inputs):
    return gru_forward(p | {"c": 0 * p["c"]}, *inputs)


def gru_without_bias_c_backward(p, cache, dh_next):
    dinputs, grads = gru_backward(p, cache, dh_next)
    return dinputs, grads | {"c": 0 * grads["c"]}


def gru_that_resets_before_the_product(p, *inputs):
    h_next, cache = gru_forward(p, *inputs)
    h, H = inputs[-1], inputs[-1].shape[-1]
    r, u = cache.ru[..., :H], cache.ru[..., H:]
    a_n = sum(linear.matmul(x, W[:, 2 * H :]) for x, W in zip(inputs, linear.row_blocks(p["W"], inputs[:-1])))
    n = np.tanh(a_n + p["b"][2 * H :] + (r * h) @ p["U"][:, 2 * H :] + p["c"][2 * H :])
    return (1 - u) * n + u * h, cache


def gru_gates_with_u_swapped(a, g, h, out=(None, None, None)):
    """h' = u n + (1 - u) h: another parameterisation, incompatible with torch's weights."""
    _, rest = gru_gates(a, g, h, out)
    ru, n, _ = rest
    u = ru[..., h.shape[-1] :]
    h_next = u * n + (1 - u) * h
    if out[0] is not None:
        out[0][...] = h_next
    return h_next, rest


def slopes_with_detached_update_gate(cache):
    s, H = slopes(cache), cache.h.shape[-1]
    s[..., H : 2 * H] = 0
    return s


def slopes_with_detached_reset_gate(cache):
    s, H = slopes(cache), cache.h.shape[-1]
    s[..., :H] = 0
    return s


lstm_forward, lstm_backward, lstm_slopes = lstm.lstm_forward, lstm.lstm_backward, lstm.lstm_slopes


def input_and_forget_swapped(leaves):
    """The blocks i and f are swapped."""
    H = leaves["b"].shape[0] // 4
    order = np.r_[H : 2 * H, :H, 2 * H : 4 * H]
    return {name: a[..., order] for name, a in leaves.items()}


def lstm_that_forgets_the_new(p, *inputs):
    """m' = i * m + f * n: the forget gate on the candidate."""
    return lstm_forward(input_and_forget_swapped(p), *inputs)


def lstm_that_forgets_the_new_backward(p, cache, dstate_next):
    dinputs, grads = lstm_backward(input_and_forget_swapped(p), cache, dstate_next)
    return dinputs, input_and_forget_swapped(grads)


def memory_in_place_of_h(p, state):
    return state[..., state.shape[-1] - p["U"].shape[0] :]


def slopes_with_detached_forget_gate(cache):
    s, H = lstm_slopes(cache), cache.tanh_m.shape[-1]
    s[..., H : 2 * H] = 0
    return s


def memory_that_hands_on_no_gradient(slopes, ifno, dstate_next, out=None, dstate=None, right=lstm.lstm_gates_backward):
    da, dstate = right(slopes, ifno, dstate_next, out, dstate)
    dstate *= 0
    return da, dstate


# ---- the sequence --------------------------------------------------------------------------------

sequence_forward, sequence_backward = schedule.sequence_forward, schedule.sequence_backward
loop_forward, loop_backward, gates_backward = schedule.loop_forward, schedule.loop_backward, gru.gru_gates_backward
parts = batch.bound_terms
sampling_prior, standard_normal = sampling.prior_forward, noise.standard_normal


def prior_of_the_state_after(params, x, eps, likelihood, mask=None, state=None, x_in=None):
    """The prior gets h_t instead of h_{t-1}, and so the x_t that it should predict."""
    log_p, _, cache = sequence_forward(params, x, eps, likelihood)
    phi_x, _ = mlp.mlp_forward(params["phi_x"], x)
    c = loop_forward(params, phi_x, eps)
    (mu_0, sigma_0), _ = schedule.prior_forward(params["prior"], c.h[1:])
    mu_z, s = gaussian.split(c.o)
    return log_p, kl(mu_z, gaussian.sigma_of(s), mu_0, sigma_0)[0], cache


def target_shifted_by_a_step(params, x, eps, likelihood, mask=None, state=None, x_in=None):
    """q gets x_t, but the likelihood is that of x_{t-1}."""
    _, kl_terms, cache = sequence_forward(params, x, eps, likelihood)
    c = loop_forward(params, mlp.mlp_forward(params["phi_x"], x)[0], eps)
    outputs, _ = schedule.generate_forward(params["generate"], c.phi_z, c.h[:-1], likelihood)
    log_p, log_p_cache = likelihood.log_density_forward(np.roll(x, 1, axis=0), *outputs)
    return log_p, kl_terms, cache._replace(log_p=log_p_cache)


def gradient_of_the_state_a_step_late(params, c, dphi_z, dh, *rest, **options):
    return loop_backward(params, c, dphi_z, np.roll(dh, 1, axis=0), *rest, **options)


def truncated_after_one_step(params, c, dphi_z, dh, dmu_z, dsigma_z, dstate=None, before=None):
    """The reverse loop is cut into single steps, so no gradient passes from a step to the previous one."""
    total = None
    for t in range(len(dh)):
        step = c._replace(state=c.state[t : t + 2], h=c.h[t : t + 2])
        step = step._replace(**{name: tuple(a[t : t + 1] for a in getattr(c, name)) for name in ("ys", "gates")})
        names = [name for name in c._fields if name not in ("state", "h", "ys", "gates", "ahead")]
        step = step._replace(**{name: getattr(c, name)[t : t + 1] for name in names})
        given = [a[t : t + 1].copy() for a in (dphi_z, dh, dmu_z, dsigma_z)]
        (dphi_x, _), grads = loop_backward(params, step, *given)
        if total is None:
            dphi_xs, total = [dphi_x.copy()], grads
        else:
            dphi_xs.append(dphi_x.copy())
            total = {g: {k: total[g][k] + grads[g][k] for k in grads[g]} for g in grads}
    return (np.concatenate(dphi_xs), None), total


def padding_that_counts(log_p, kl_terms, mask):
    return parts(log_p, kl_terms, np.ones_like(mask))


def mean_over_the_steps_of_each_sequence(log_p, kl_terms, mask):
    return parts(log_p, kl_terms, mask / mask.sum(axis=0))


def state_carried_over():
    """The state after a batch is the state before the next: hidden state kept in the model."""
    kept = {}

    def wrong(params, phi_x, eps, *rest):
        offset = kept.get(phi_x.shape, 0.0)
        c = loop_forward(params, phi_x + offset, eps, *rest)
        kept[phi_x.shape] = c.h[-1].mean()
        return c

    return wrong


def gradient_divided_by_steps_too(right=VRNN.loss_and_grads):
    def wrong(self, x, *args, **kwargs):
        loss, grads, terms = right(self, x, *args, **kwargs)
        return loss, grads / len(x), terms

    return wrong


def gradient_that_forgets_beta(right=VRNN.loss_and_grads):
    def wrong(self, x, lengths=None, eps=None, beta=1.0, recompute=False):
        loss, _, terms = right(self, x, lengths, eps, beta)
        return loss, right(self, x, lengths, eps)[1], terms

    return wrong


def bias_gradients_swapped(right=VRNN.loss_and_grads):
    """The b and the c of the GRU are swapped in the flat gradient."""

    def wrong(self, *args, **kwargs):
        loss, grads, terms = right(self, *args, **kwargs)
        recur = views(grads, self.shapes)["recur"]
        recur["b"][...], recur["c"][...] = recur["c"].copy(), recur["b"].copy()
        return loss, grads, terms

    return wrong


def sequence_backward_into_its_arguments(params, cache, dlog_p, dkl, likelihood):
    grads = sequence_backward(params, cache, dlog_p, dkl, likelihood)
    dkl *= 2
    return grads


def means_fed_back(params, likelihood, h, eps, v):
    """Samples are returned, but their mean is fed to the next step."""
    x, outputs, _ = sampling.sample_step(params, likelihood, h, eps, v)
    same = likelihood._replace(sample=lambda v, *outputs: likelihood.mean(*outputs))
    return x, outputs, sampling.sample_step(params, same, h, eps, v)[2]


def prior_without_noise(mu, sigma, eps):
    return mu + 0 * sigma, (eps, sigma)


def the_same_latent_noise_in_every_step(shape, dtype, seed, stream, step=0, backend=None):
    return standard_normal(shape, dtype, seed, stream, backend=backend)


def prior_of_no_state(p, h):
    return sampling_prior(p, 0 * h)


rnn_forward, rnn_backward = rnn.sequence_forward, rnn.sequence_backward_with_state
rnn_loop_backward = rnn.loop_backward
vae_forward, vae_backward = vae.terms_forward, vae.terms_backward


def rnn_that_sees_its_target(params, x, likelihood, state=None, x_in=None):
    """p(x_t | x_<=t): the prediction is made from h_t, which depends on x_t. Forward and backward agree."""
    _, cache = rnn_forward(params, x, likelihood)
    outputs, predict_cache = rnn.predict_forward(params["predict"], cache.loop.h[1:], likelihood)
    log_p, log_p_cache = likelihood.log_density_forward(x, *outputs)
    return log_p, cache._replace(predict=predict_cache, log_p=log_p_cache)


def rnn_that_sees_its_target_backward(params, cache, dlog_p, likelihood, dstate=None):
    _, *doutputs = likelihood.log_density_backward(cache.log_p, dlog_p)
    dh, predict = rnn.predict_backward(params["predict"], cache.predict, *doutputs, likelihood=likelihood)
    # dh of h_t passes back through step t: an additional last step without a prediction receives it
    zero = np.zeros_like(dh[:1])
    c = cache.loop
    phi_xs, states, hs, *gates = (np.concatenate([a, a[-1:]]) for a in (c.phi_x, c.state, c.h, *c.gates))
    longer = rnn.LoopCache(phi_xs, states, hs, tuple(gates))
    (dphi_x, _), recur = rnn_loop_backward(params["recur"], longer, np.concatenate([zero, dh]))
    _, phi_x = rnn.features_backward(params["phi_x"], cache.phi_x, dphi_x[:-1])
    return None, {"phi_x": phi_x, "predict": predict, "recur": recur}


def rnn_truncated(p, c, dh, dstate=None):
    """No gradient passes from a step to the previous one."""
    total, dphi_xs = None, []
    for t in range(len(dh)):
        gates = tuple(kept[t : t + 1] for kept in c.gates)
        step = rnn.LoopCache(c.phi_x[t : t + 1], c.state[t : t + 2], c.h[t : t + 2], gates)
        (dphi_x, _), grads = rnn_loop_backward(p, step, dh[t : t + 1])
        dphi_xs.append(dphi_x)
        total = grads if total is None else {name: total[name] + grads[name] for name in grads}
    return (np.concatenate(dphi_xs), None), total


def rnn_means_fed_back(params, likelihood, h, eps, v, step=rnn.RNN._sample_step):
    x, outputs, _ = step(params, likelihood, h, eps, v)
    same = likelihood._replace(sample=lambda v, *outputs: likelihood.mean(*outputs))
    return x, outputs, step(params, same, h, eps, v)[2]


def prior_twice_as_wide(p, h, right=equations.prior_forward):
    """N(0, 4 I) instead of N(0, I): a constant has no gradient."""
    (mu_0, sigma_0), cache = right(p, h)
    return (mu_0, 2 * sigma_0 if not p else sigma_0), cache


def gradient_that_stops_at_the_cuts(self, cache, dlog_p, dkl, dstate=None, right=VRNN._backward_terms):
    return right(self, cache, dlog_p, dkl)


def state_that_stops_at_the_cuts(self, piece, right=VRNN._state_after):
    return 0 * right(self, piece)


def state_of_the_neighbour(self, *args, right=parallel.Workers.gradient):
    found = right(self, *args)
    return found._replace(state=np.roll(found.state, 1, axis=0))


def state_left_behind(self, model, chunk, objective, right=parallel.Workers.gradient):
    return right(self, model, chunk._replace(state=None), objective)


def state_kept_for_the_next_batch():
    kept = {}

    def wrong(self, model, chunk, objective, right=parallel.Workers.gradient):
        B = chunk.x.shape[1]
        found = right(self, model, chunk._replace(state=kept.get(B)) if chunk.state is None else chunk, objective)
        kept[B] = found.state
        return found

    return wrong


def state_dropped_in_evaluation(self, x, lengths=None, eps=None, state=None, right=VRNN.chunk_parts):
    return right(self, x, lengths, eps)


def state_of_the_neighbour_in_evaluation(self, *args, right=VRNN.chunk_parts):
    parts, state = right(self, *args)
    return parts, np.roll(state, 1, axis=0)


def noise_that_starts_again(*address, first=0):
    return standard_normal(*address)


def kl_without_a_bound(mu_z, sigma_z, mu_0, sigma_0):
    d, delta = np.log(sigma_z) - np.log(sigma_0), (mu_z - mu_0) / sigma_0
    ratio_minus_1 = np.expm1(2 * d)
    value = np.sum(0.5 * delta * delta + 0.5 * ratio_minus_1 - d, axis=-1)
    return value, gaussian.KLCache(delta, ratio_minus_1, sigma_z, sigma_0)


def norm_of_squares(grads):
    with np.errstate(over="ignore"):
        return np.sqrt((grads**2).sum())


def vae_of_the_mean(params, x, eps, likelihood, x_in=None):
    """z = mu_z instead of a draw: an autoencoder with a penalty, whose objective is no bound. Backward agrees."""
    return vae_forward(params, x, 0 * eps, likelihood)


def vae_whose_steps_share_their_noise(params, x, eps, likelihood, x_in=None):
    return vae_forward(params, x, np.broadcast_to(eps[:1], eps.shape), likelihood)


turned, look_ahead_forward = lookahead.turned, lookahead.look_ahead_forward


def order_from_the_end_of_the_padding(phi_x, mask, right=lookahead.reversed_order):
    return right(phi_x, None)


def not_turned(a, order):
    """The backward recurrence reads x forwards, so q depends on no later step. Forward and backward agree."""
    return a


def look_ahead_a_step_late(p, phi_x, mask=None):
    """b_{t+1} instead of b_t: q depends on the future, but not on x_t."""
    _, cache = look_ahead_forward(p, phi_x, mask)
    return turned(cache.loop.h[:-1], cache.order), cache


def look_ahead_a_step_late_backward(p, cache, db):
    (dphi_x, _), grads = rnn.loop_backward(p, cache.loop, turned(db, cache.order))
    return turned(dphi_x, cache.order), grads


def look_ahead_that_hands_on_no_gradient(p, cache, db, right=lookahead.look_ahead_backward):
    dphi_x, grads = right(p, cache, db)
    return 0 * dphi_x, grads


# ---- particles, and the exact case ---------------------------------------------------------------

log_ratio, log_ratio_backward = gaussian.gaussian_log_ratio_forward, gaussian.gaussian_log_ratio_backward
filter_backward, particles_of = filtering.filter_backward, vrnn._particles
kalman, exact_noise, linear_prior = linear_gaussian.kalman_filter, linear_gaussian.exact_noise, linear_gaussian.prior


def log_ratio_without_density_of_eps(*inputs):
    value, cache = log_ratio(*inputs)
    return value + 0.5 * (inputs[-1] ** 2).sum(axis=-1), cache


def log_ratio_without_density_of_eps_backward(cache, dratio):
    *rest, deps = log_ratio_backward(cache, dratio)
    return *rest, deps + dratio[..., None] * cache.eps


def log_ratio_backward_with_a_draw_that_stays(cache, dratio):
    """z is treated as a constant: the gradient through the draw is lost."""
    dmu_z, _, dmu_0, dsigma_0, deps = log_ratio_backward(cache, dratio)
    return 0 * dmu_z, -dratio[..., None] / cache.sigma_z, dmu_0, dsigma_0, deps


def analytic_kl_in_the_weights(mu_z, sigma_z, mu_0, sigma_0, eps):
    return kl(mu_z, sigma_z, mu_0, sigma_0)


def mean_of_the_logs(log_w):
    return log_w.mean(axis=1)


def log_sum_for_log_mean(log_w, right=particles.log_mean_exp):
    return right(log_w) + np.log(log_w.shape[1])


def equal_shares(log_w):
    return np.full_like(log_w, 1 / log_w.shape[1])


def resampling_by_fixed_points(shares, uniforms, right=particles.systematic):
    return right(shares, 0 * uniforms)


def resampling_of_the_best(shares, uniforms):
    return np.broadcast_to(shares.argmax(axis=1)[:, None], shares.shape)


def filter_backward_without_ancestors(params, cache, *args, **kwargs):
    stay = np.broadcast_to(np.arange(cache.shares[0].shape[1]), cache.shares[0].shape)
    choices = [choice._replace(ancestors=stay) for choice in cache.choices]
    return filter_backward(params, cache._replace(choices=choices), *args, **kwargs)


def filter_backward_with_the_last_shares(params, cache, *args, **kwargs):
    """The weights from before a resampling are used as if there had been none."""
    return filter_backward(params, cache._replace(shares=[cache.shares[-1]] * len(cache.shares)), *args, **kwargs)


def particles_that_walk_into_the_padding(padded):
    (x, eps, mask), x_in = particles_of(padded)
    return (x, eps, np.ones_like(mask)), x_in


def kalman_score_without_noise_of_x(chain, x):
    return kalman(chain, x)._replace(log_p=kalman(chain._replace(info=1e6 * chain.info), x).log_p)


def points_of_length_1(T):
    return exact_noise(T) / np.sqrt(T)


def prior_with_variance_for_deviation(chain, x):
    head = linear_prior(chain, x)
    return head | {"sigma": head["sigma"] ** 2}


# ---- training ------------------------------------------------------------------------------------


def clipping_after_the_step(monkeypatch):
    clip, step, waiting = loop.clip_by_global_norm, optim.Adam.step, []

    def only_the_norm(grads, max_norm):
        waiting.append(max_norm)
        return np.linalg.norm(grads)

    def step_then_clip(self, theta, grads, *args, **kwargs):
        step(self, theta, grads, *args, **kwargs)
        clip(grads, waiting.pop())

    monkeypatch.setattr(loop, "clip_by_global_norm", only_the_norm)
    monkeypatch.setattr(optim.Adam, "step", step_then_clip)


def best_weights_that_alias_the_live_ones(right=loop.train):
    """`best = model.theta` without a copy: the restored weights are the last ones."""

    def wrong(model, data, on_epoch, **options):
        last = []
        right(model, data, on_epoch=lambda *given: (last.append(model.theta.copy()), on_epoch(*given)), **options)
        model.theta[...] = last[-1]

    return wrong


def evaluation_as_a_mean_of_means(right=bounds.evaluate_elbo):
    def wrong(model, sequences, *args, **kwargs):
        found = right(model, sequences, *args, **kwargs)
        means = [right(model, sequences[[i]], *args, **kwargs).elbo_per_step for i in range(len(sequences))]
        return found._replace(elbo_per_step=float(np.mean(means)))

    return wrong


def evaluation_per_padded_step(right=bounds.evaluate_elbo):
    def wrong(model, sequences, *args, **kwargs):
        found = right(model, sequences, *args, **kwargs)
        return found._replace(elbo_per_step=found.elbo_per_sequence / sequences.max_steps)

    return wrong


def adam_without_bias_correction(self, theta, grads, lr=None):
    self.m += (1 - self.b1) * (grads - self.m)
    self.v += (1 - self.b2) * (grads * grads - self.v)
    theta -= (lr or self.lr) * self.m / (np.sqrt(self.v) + self.eps)


# ---- the table ----------------------------------------------------------------------------------

variance_drawn = all_of(
    replace(reparameterise, draw_with_variance), replace(reparameterise_backward, draw_with_variance_backward)
)
kl_variance = all_of(replace(kl, kl_with_variances), replace(kl_backward, kl_with_variances_backward))
reverse_kl = all_of(replace(kl, kl_other_way_round), replace(kl_backward, kl_other_way_round_backward))
loose_weights = all_of(
    replace(log_gmm, gmm_of_weights_not_normalised), replace(log_gmm_backward, gmm_of_weights_not_normalised_backward)
)
negative_rho = all_of(
    replace(log_pen, pen_with_negative_correlation), replace(log_pen_backward, pen_with_negative_correlation_backward)
)
seeing_rnn = all_of(
    replace(rnn_forward, rnn_that_sees_its_target), replace(rnn_backward, rnn_that_sees_its_target_backward)
)
wide_prior = replace(equations.prior_forward, prior_twice_as_wide)
forgetful = all_of(
    replace(lstm_forward, lstm_that_forgets_the_new), replace(lstm_backward, lstm_that_forgets_the_new_backward)
)
late_look = all_of(
    replace(look_ahead_forward, look_ahead_a_step_late),
    replace(lookahead.look_ahead_backward, look_ahead_a_step_late_backward),
)
forward_look = replace(turned, not_turned)
density = all_of(
    replace(log_normal, log_normal_of_variance), replace(log_normal_backward, log_normal_of_variance_backward)
)
dark_relu = all_of(replace(activations.relu, negative_relu), replace(relu_backward, negative_relu_backward))
half_a_ratio = all_of(
    replace(log_ratio, log_ratio_without_density_of_eps),
    replace(log_ratio_backward, log_ratio_without_density_of_eps_backward),
)
no_c = all_of(replace(gru_forward, gru_without_bias_c), replace(gru_backward, gru_without_bias_c_backward))

# the mistake, how to plant it, the check that must catch it
PLANTED = [
    (
        "sigma^2 in place of sigma in a pen's scale",
        replace(scale._pen_moments, scale_by_variances),
        checks.scale_moves_the_nats_that_it_states,
    ),
    (
        "a text that begins with what the last one ended with",
        replace(_previous_symbol, symbol_of_another_text),
        checks.short_texts_have_probability_1,
    ),
    ("sigma^2 in place of sigma in the draw", variance_drawn, checks.reparameterise_moments),
    (
        "sigma^2 in place of sigma in the draw's forward alone",
        replace(reparameterise, draw_with_variance),
        partial(checks.pair_gradients, "reparameterise"),
    ),
    ("KL without its -1", replace(kl, kl_without_its_constant), checks.kl_textbook),
    ("KL without its -1, by Monte Carlo", replace(kl, kl_without_its_constant), checks.kl_monte_carlo),
    ("sigma^2 in place of sigma in the KL", kl_variance, checks.kl_monte_carlo),
    ("KL(p || q) in place of KL(q || p)", reverse_kl, checks.kl_monte_carlo),
    (
        "sign of a gradient of the KL",
        replace(kl_backward, kl_backward_with_wrong_sign),
        partial(checks.pair_gradients, "gaussian KL"),
    ),
    ("prior detached in the KL", replace(kl_backward, kl_backward_with_detached_prior), checks.elbo_gradients),
    (
        "missing term in the gradient of the KL",
        replace(kl_backward, kl_backward_with_missing_term),
        partial(checks.pair_gradients, "gaussian KL"),
    ),
    (
        "gradient of eps missing",
        replace(reparameterise_backward, draw_backward_without_deps),
        partial(checks.pair_gradients, "reparameterise"),
    ),
    ("log(1 - p - eps)", replace(log_coin, log_coin_of_probabilities), checks.finite_at_extremes),
    ("log-density without log 2 pi", replace(log_normal, log_normal_without_2_pi), checks.densities_integrate_to_1),
    ("log-density of sigma^2", density, checks.log_densities_textbook),
    (
        "coin with its sides swapped",
        replace(bernoulli.bernoulli_sample, heads_on_the_wrong_side),
        checks.bernoulli_moments,
    ),
    ("weights of a mixture that sum to anything", loose_weights, checks.mixtures_integrate_to_1),
    (
        "a mixture drawn with variances",
        replace(right_gmm_sample, gmm_drawn_with_variance),
        checks.gmm_moments,
    ),
    ("a mixture whose components are picked alike", replace(pick, pick_of_logits_not_weights), checks.gmm_moments),
    ("a category picked from no weights", replace(pick, pick_of_logits_not_weights), checks.categorical_moments),
    (
        "prior weights in place of responsibilities",
        replace(mix_backward, mix_backward_of_the_prior_weights),
        partial(checks.pair_gradients, "gmm log-density"),
    ),
    (
        "categorical gradient without its softmax",
        replace(log_categorical_backward, categorical_backward_without_softmax),
        partial(checks.pair_gradients, "categorical log-density"),
    ),
    ("correlation of the wrong sign", negative_rho, checks.mixtures_textbook),
    (
        "pen drawn without its correlation",
        replace(pen_sample, pen_drawn_without_correlation),
        checks.pen_moments,
    ),
    ("pen and component drawn alike", replace(pen_sample, pen_drawn_with_one_uniform), checks.pen_moments),
    (
        "correlation that reaches 1",
        replace(pen_head, pen_head_with_a_full_correlation),
        partial(checks.finite_at_extremes, "pen"),
    ),
    ("prior of a VRNN-I twice as wide", wide_prior, partial(checks.elbo_equals_plain_rewrite, model="vrnn-i")),
    ("samples of a VRNN-I from a wider prior", wide_prior, partial(checks.sample_moments, "gaussian", model="vrnn-i")),
    ("RNN that sees its target", seeing_rnn, checks.rnn_probabilities_sum_to_1),
    (
        "second recurrence that starts in the padding",
        replace(lookahead.reversed_order, order_from_the_end_of_the_padding),
        partial(checks.batch_equals_mean_of_singles, posterior="smoothing"),
    ),
    (
        "b of the next step in place of b of this one",
        late_look,
        partial(checks.elbo_equals_plain_rewrite, posterior="smoothing"),
    ),
    (
        "second recurrence that reads forwards",
        forward_look,
        partial(checks.batched_equals_stepwise, posterior="smoothing"),
    ),
    (
        "no gradient to x through b",
        replace(lookahead.look_ahead_backward, look_ahead_that_hands_on_no_gradient),
        partial(checks.elbo_gradients, posterior="smoothing"),
    ),
    (
        "no gradient through the cuts of a recomputation",
        method(VRNN, "_backward_terms", gradient_that_stops_at_the_cuts),
        checks.recomputation_equals_plain,
    ),
    (
        "no state through the cuts of a recomputation",
        method(VRNN, "_state_after", state_that_stops_at_the_cuts),
        checks.recomputation_equals_plain,
    ),
    (
        "a chunk that starts from the state of another sequence",
        method(parallel.Workers, "gradient", state_of_the_neighbour),
        checks.chunks_follow_their_sequences,
    ),
    (
        "a chunk that starts from no state",
        method(parallel.Workers, "gradient", state_left_behind),
        checks.chunks_follow_their_sequences,
    ),
    (
        "a batch that starts from the state of the one before",
        method(parallel.Workers, "gradient", state_kept_for_the_next_batch()),
        checks.chunks_follow_their_sequences,
    ),
    (
        "an evaluation whose chunks start from no state",
        method(VRNN, "chunk_parts", state_dropped_in_evaluation),
        checks.evaluation_in_chunks_is_that_of_the_whole,
    ),
    (
        "an evaluation whose chunks start from the state of another sequence",
        method(VRNN, "chunk_parts", state_of_the_neighbour_in_evaluation),
        checks.evaluation_in_chunks_is_that_of_the_whole,
    ),
    (
        "an evaluation whose chunks all have the same noise",
        method(noise, "standard_normal", noise_that_starts_again),
        checks.evaluation_in_chunks_is_that_of_the_whole,
    ),
    ("KL that overflows", replace(kl, kl_without_a_bound), checks.padding_that_overflows_changes_nothing),
    (
        "a norm whose squares overflow",
        replace(optim.global_norm, norm_of_squares),
        checks.a_gradient_too_long_to_square_keeps_its_direction,
    ),
    ("RNN truncated after one step", replace(rnn_loop_backward, rnn_truncated), checks.rnn_equals_its_literal_steps),
    (
        "RNN that is fed its means",
        method(rnn.RNN, "_sample_step", staticmethod(rnn_means_fed_back)),
        partial(checks.samples_are_fed_back, model="rnn"),
    ),
    ("VAE that draws nothing", replace(vae_forward, vae_of_the_mean), checks.vae_elbo_lies_below_the_evidence),
    (
        "VAE whose steps share their noise",
        replace(vae_forward, vae_whose_steps_share_their_noise),
        checks.steps_of_a_vae_are_unrelated,
    ),
    ("relu of the wrong sign", dark_relu, checks.activation_values),
    (
        "gradient of relu lets all through",
        replace(relu_backward, relu_backward_that_lets_all_through),
        partial(checks.pair_gradients, "relu"),
    ),
    (
        "gradient of relu written into the upstream gradient",
        replace(relu_backward, relu_backward_into_the_upstream),
        partial(checks.pair_gradients, "relu"),
    ),
    (
        "gradient of softplus is 1",
        replace(activations.softplus_backward, softplus_backward_of_1),
        partial(checks.pair_gradients, "softplus"),
    ),
    (
        "bias gradient of one row",
        replace(params_backward, bias_gradient_of_the_first_row),
        partial(checks.pair_gradients, "linear"),
    ),
    (
        "bias gradient as a mean",
        replace(params_backward, bias_gradient_as_a_mean),
        partial(checks.pair_gradients, "linear"),
    ),
    (
        "weights not transposed in backward",
        replace(mlp_data, mlp_data_with_weights_not_transposed),
        partial(checks.pair_gradients, "mlp"),
    ),
    (
        "gradients that accumulate from call to call",
        replace(params_backward, gradients_that_accumulate()),
        partial(checks.pair_gradients, "linear"),
    ),
    ("GRU without the bias c", no_c, checks.gru_equals_literal),
    (
        "GRU that resets before the product",
        replace(gru_forward, gru_that_resets_before_the_product),
        checks.gru_equals_literal,
    ),
    ("u and 1 - u swapped", replace(gru_gates, gru_gates_with_u_swapped), checks.gru_equals_literal),
    ("update gate detached", replace(slopes, slopes_with_detached_update_gate), partial(checks.pair_gradients, "gru")),
    ("reset gate detached", replace(slopes, slopes_with_detached_reset_gate), checks.elbo_gradients),
    ("forget gate on the candidate", forgetful, checks.lstm_equals_literal),
    ("forget gate on the candidate, in a sequence", forgetful, partial(checks.batched_equals_stepwise, cell="lstm")),
    (
        "forget gate detached",
        replace(lstm_slopes, slopes_with_detached_forget_gate),
        partial(checks.pair_gradients, "lstm"),
    ),
    (
        "memory that hands on no gradient",
        replace(lstm.lstm_gates_backward, memory_that_hands_on_no_gradient),
        partial(checks.elbo_gradients, cell="lstm"),
    ),
    (
        "the LSTM's memory handed to the other networks",
        replace(cells.h_of, memory_in_place_of_h),
        partial(checks.elbo_equals_plain_rewrite, cell="lstm"),
    ),
    (
        "the LSTM's memory handed to the other networks of an RNN",
        replace(cells.h_of, memory_in_place_of_h),
        partial(checks.elbo_equals_plain_rewrite, model="rnn", cell="lstm"),
    ),
    (
        "h_t in place of h_{t-1} in the prior",
        replace(sequence_forward, prior_of_the_state_after),
        checks.batched_equals_stepwise,
    ),
    ("target shifted by a step", replace(sequence_forward, target_shifted_by_a_step), checks.elbo_equals_plain_rewrite),
    (
        "gradient of the state a step late",
        replace(loop_backward, gradient_of_the_state_a_step_late),
        checks.elbo_gradients,
    ),
    (
        "backpropagation truncated after one step",
        replace(loop_backward, truncated_after_one_step),
        checks.batched_equals_stepwise,
    ),
    ("padding that counts", replace(parts, padding_that_counts), checks.padding_changes_nothing),
    (
        "mean over the steps of each sequence",
        replace(parts, mean_over_the_steps_of_each_sequence),
        checks.elbo_equals_plain_rewrite,
    ),
    (
        "state carried over from batch to batch",
        replace(loop_forward, state_carried_over()),
        checks.batches_are_unrelated,
    ),
    (
        "gradient divided by the steps too",
        method(VRNN, "loss_and_grads", gradient_divided_by_steps_too()),
        checks.elbo_equals_plain_rewrite,
    ),
    (
        "gradient that forgets the weight of the KL",
        method(VRNN, "loss_and_grads", gradient_that_forgets_beta()),
        checks.elbo_gradients,
    ),
    (
        "gradients under each other's names",
        method(VRNN, "loss_and_grads", bias_gradients_swapped()),
        checks.elbo_gradients,
    ),
    (
        "upstream gradient changed in place",
        replace(sequence_backward, sequence_backward_into_its_arguments),
        checks.sequence_backward_is_pure,
    ),
    (
        "decoder means fed back",
        method(VRNN, "_sample_step", staticmethod(means_fed_back)),
        checks.samples_are_fed_back,
    ),
    (
        "the same latent noise in every step",
        method(noise, "standard_normal", the_same_latent_noise_in_every_step),
        partial(checks.sample_moments, "gaussian"),
    ),
    (
        "prior of no state in sampling",
        method(sampling, "prior_forward", prior_of_no_state),
        partial(checks.sample_moments, "gaussian"),
    ),
    (
        "prior means in place of draws",
        method(sampling, "reparameterise_forward", prior_without_noise),
        partial(checks.sample_moments, "gaussian"),
    ),
    ("log-ratio without the density of eps", half_a_ratio, checks.log_ratio_monte_carlo),
    (
        "gradient of the log-ratio that takes the draw as constant",
        replace(log_ratio_backward, log_ratio_backward_with_a_draw_that_stays),
        partial(checks.pair_gradients, "gaussian log-ratio"),
    ),
    (
        "KL in place of the log-ratio in a weight",
        replace(log_ratio, analytic_kl_in_the_weights),
        partial(checks.estimate_is_unbiased, "iwae", "filtering"),
    ),
    ("mean of logs for a log of means", replace(particles.log_mean_exp, mean_of_the_logs), checks.bounds_are_in_order),
    (
        "sum of the weights for their mean",
        replace(particles.log_mean_exp, log_sum_for_log_mean),
        checks.bounds_are_in_order,
    ),
    (
        "equal shares of the gradient",
        replace(particles.shares_of, equal_shares),
        partial(checks.particle_bound_gradients, "iwae"),
    ),
    (
        "resampling by points that do not move",
        replace(particles.systematic, resampling_by_fixed_points),
        checks.resampled_shares,
    ),
    (
        "resampling of the best particle alone",
        replace(particles.systematic, resampling_of_the_best),
        checks.estimate_is_unbiased,
    ),
    (
        "gradient to the particle in place of its ancestor",
        replace(filter_backward, filter_backward_without_ancestors),
        partial(checks.particle_bound_gradients, "fivo"),
    ),
    (
        "gradient of a filter weighed by its last shares",
        replace(filter_backward, filter_backward_with_the_last_shares),
        partial(checks.particle_bound_equals_plain_rewrite, "fivo"),
    ),
    (
        "particles that walk into the padding",
        replace(particles_of, particles_that_walk_into_the_padding),
        checks.ended_sequences_stay,
    ),
    ("KL without its -1, by the exact case", replace(kl, kl_without_its_constant), checks.table_of_gaps),
    ("sigma^2 in place of sigma in the draw, by the exact case", variance_drawn, checks.table_of_gaps),
    ("no log 2 pi, by the exact case", replace(log_normal, log_normal_without_2_pi), checks.exact_elbo_by_moments),
    ("Kalman score without the noise of x", replace(kalman, kalman_score_without_noise_of_x), checks.table_of_gaps),
    ("points of length 1", replace(exact_noise, points_of_length_1), checks.exact_elbo_by_moments),
    (
        "sigma^2 for sigma in a linear prior",
        replace(linear_prior, prior_with_variance_for_deviation),
        checks.exact_elbo_by_moments,
    ),
    ("clipping after the step", clipping_after_the_step, checks.clipped_before_the_step),
    (
        "best weights that alias the live ones",
        replace(loop.train, best_weights_that_alias_the_live_ones()),
        checks.training_keeps_the_best_weights,
    ),
    (
        "nats per step as a mean of means",
        replace(bounds.evaluate_elbo, evaluation_as_a_mean_of_means()),
        checks.units_are_exact,
    ),
    ("nats per padded step", replace(bounds.evaluate_elbo, evaluation_per_padded_step()), checks.units_are_exact),
    (
        "Adam without its bias correction",
        method(optim.Adam, "step", adam_without_bias_correction),
        checks.adam_textbook,
    ),
]

# mistakes in which forward and backward agree, and the pair whose gradient check still passes
GRADIENT_CHECK_IS_BLIND = [
    ("sigma^2 in place of sigma in the draw", variance_drawn, "reparameterise"),
    ("KL without its -1", replace(kl, kl_without_its_constant), "gaussian KL"),
    ("sigma^2 in place of sigma in the KL", kl_variance, "gaussian KL"),
    ("KL(p || q) in place of KL(q || p)", reverse_kl, "gaussian KL"),
    ("log-density of sigma^2", density, "gaussian log-density"),
    ("weights of a mixture that sum to anything", loose_weights, "gmm log-density"),
    ("correlation of the wrong sign", negative_rho, "pen log-density"),
    ("log-ratio without the density of eps", half_a_ratio, "gaussian log-ratio"),
    ("relu of the wrong sign", dark_relu, "relu"),
    ("GRU without the bias c", no_c, "gru"),
    ("forget gate on the candidate", forgetful, "lstm"),
]


# the same, for the gradient check of a whole model
WHOLE_CHECK_IS_BLIND = [
    ("RNN that sees its target", seeing_rnn, {"model": "rnn"}),
    ("prior of a VRNN-I twice as wide", wide_prior, {"model": "vrnn-i"}),
    ("b of the next step in place of b of this one", late_look, {"posterior": "smoothing"}),
    ("second recurrence that reads forwards", forward_look, {"posterior": "smoothing"}),
]


def name_of(check):
    function, given = (
        (check.func, (*check.args, *check.keywords.values())) if isinstance(check, partial) else (check, ())
    )
    return " ".join([function.__name__, *given])


CHECKS = {name_of(check): check for _, _, check in PLANTED}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_check_passes_on_the_package_as_it_is(check):
    check()


@pytest.mark.parametrize(
    "plant, check",
    [pytest.param(plant, check, id=f"{mistake}: {name_of(check)}") for mistake, plant, check in PLANTED],
)
@pytest.mark.one_in(2)
def test_a_planted_mistake_makes_the_check_fail(monkeypatch, plant, check):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize(
    "plant, name", [pytest.param(plant, name, id=mistake) for mistake, plant, name in GRADIENT_CHECK_IS_BLIND]
)
def test_the_gradient_check_alone_would_not_see_it(monkeypatch, plant, name):
    plant(monkeypatch)
    checks.pair_gradients(name)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "plant, options", [pytest.param(plant, options, id=mistake) for mistake, plant, options in WHOLE_CHECK_IS_BLIND]
)
def test_the_gradient_check_of_a_whole_model_would_not_see_it(monkeypatch, plant, options):
    plant(monkeypatch)
    checks.elbo_gradients(**options)


def test_every_mistake_has_a_name_of_its_own_and_there_are_at_least_15():
    names = [mistake for mistake, *_ in PLANTED]
    assert len(set(names)) == len(names) >= 15
    assert {mistake for mistake, *_ in GRADIENT_CHECK_IS_BLIND + WHOLE_CHECK_IS_BLIND} <= set(names)
