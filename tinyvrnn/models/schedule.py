"""The VRNN over a whole sequence (Fig. 1e) in the batched schedule.

Only inference (Eq. 9) and recurrence (Eq. 7) are sequential. Everything else runs for all T steps at once:

    x --> phi_x --> [ loop over t: infer (9) -> z = mu_z + sigma_z * eps -> phi_z -> recur (7) ] --> h, z, q
                                                                                 |
          log p(x_t | ...)  <-- generate (6), all T at once <--------------------+
          KL(q || p)        <-- prior (5), all T at once    <--------------------+

Backward runs the same picture right to left: likelihood, generation, KL and prior for all T at once; one reverse loop
that carries dh and forms no weight gradient; then each weight gradient as one matrix product over T*B rows.
`stepwise.py` computes the same numbers a step at a time; tests hold the two equal. `one_page.py` is this schedule
without preallocated arrays.
"""

from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.distributions.gaussian import (
    draw,
    draw_backward,
    gaussian_kl_backward,
    gaussian_kl_forward,
    gaussian_log_ratio_backward,
    gaussian_log_ratio_forward,
    sigma_of,
    split,
)
from tinyvrnn.models.equations import generate_backward, generate_forward, prior_backward, prior_forward
from tinyvrnn.models.lookahead import look_ahead_backward, look_ahead_forward
from tinyvrnn.nn.activations import add_relu, add_relu_backward, sigmoid
from tinyvrnn.nn.cells import h_of, loop_cell, state_width
from tinyvrnn.nn.linear import LinearCache, add_to, linear_backward_params, matmul, products_with
from tinyvrnn.nn.mlp import MlpCache, mlp_backward_data, mlp_backward_params, mlp_forward, mlp_tail_forward


class LoopCache(NamedTuple):
    """What the loop keeps for the backward pass, for all T steps."""

    phi_x: object  # (T, B, F)
    infer_in: object  # the x-side input of Eq. 9, (T, B, F): phi_x, or for a smoothing posterior b of lookahead.py
    ahead: object  # the cache of b, or None
    eps: object  # (T, B, Z)
    state: object  # (T + 1, B, S H): state[t] is the state before step t; an LSTM's has S = 2 parts
    h: object  # (T + 1, B, H): the part that other networks read, a view of state
    ys: tuple  # hidden layers of the encoder, each (T, B, F)
    o: object  # the encoder's outputs [mu_z, s], (T, B, 2Z)
    z: object  # (T, B, Z)
    phi_z: object  # (T, B, F)
    gates: tuple  # the cell's gates: for a GRU r and u (T, B, 2H), n and g_n = h U_n + c_n (T, B, H)


class LoopGradients(NamedTuple):
    """dL with respect to the loop's pre-activations, for all T steps."""

    a: object  # of the gates' x-side, (T, B, 3H), or 4H
    az: object  # of phi_z, (T, B, F)
    o: object  # of the encoder's outputs [mu_z, s], (T, B, 2Z)
    ys: tuple  # of the encoder's hidden layers, each (T, B, F)
    state: object  # of the state before the first step, (B, S H)


class SequenceCache(NamedTuple):
    phi_x: MlpCache
    loop: LoopCache
    prior: NamedTuple
    generate: NamedTuple
    kl: NamedTuple
    log_p: tuple


def sequence_forward(params, x, eps, likelihood, sampled=False, mask=None, state=None, x_in=None, before=None):
    """log p(x_t | z_<=t, x_<t) and KL(q(z_t | ...) || p(z_t | ...)) of every step: the terms of Eq. 11.

    x (T, B, X), eps (T, B, Z). Returns log_p (T, B) and kl (T, B) in nats, and the cache. sampled: in place of each KL
    return log q(z_t | ...) - log p(z_t | ...) at the drawn z_t, whose mean is the KL: importance weights need it.
    mask (T, B): 1 in the real steps (None: all are real), for a smoothing posterior, which starts at a sequence's end.
    state (B, S H): before the first step (None: zeros); that after the last is cache.loop.state[-1].
    x_in (T, B, X): the networks' input, x with dropout; None: x. log p always scores x. before: as in `loop_forward`.
    """
    phi_x, phi_x_cache = mlp_forward(params["phi_x"], x if x_in is None else x_in)
    loop = loop_forward(params, phi_x, eps, state, mask, before)
    log_p, kl, caches = terms_forward(params, x, loop, likelihood, sampled)
    return log_p, kl, SequenceCache(phi_x_cache, loop, *caches)


def terms_forward(params, x, loop, likelihood, sampled=False, t=slice(None)):
    """log_p and kl as in `sequence_forward`, and caches, of all steps of a loop or of its step t: (T, B) or (B,)."""
    mu_z, sigma_z = split(loop.o[t])[0], sigma_of(split(loop.o[t])[1])
    (mu_0, sigma_0), prior_cache = prior_forward(params["prior"], loop.h[:-1][t])
    outputs, generate_cache = generate_forward(params["generate"], loop.phi_z[t], loop.h[:-1][t], likelihood)
    if sampled:
        kl, kl_cache = gaussian_log_ratio_forward(mu_z, sigma_z, mu_0, sigma_0, loop.eps[t])
    else:
        kl, kl_cache = gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)
    log_p, log_p_cache = likelihood.log_density_forward(x[t], *outputs)
    return log_p, kl, (prior_cache, generate_cache, kl_cache, log_p_cache)


def sequence_backward(params, cache, dlog_p, dkl, likelihood, sampled=False):
    """The gradient of every parameter, from dlog_p (T, B) and dkl (T, B). Returns grads, arranged as params."""
    return sequence_backward_with_state(params, cache, dlog_p, dkl, likelihood, sampled)[1]


def sequence_backward_with_state(params, cache, dlog_p, dkl, likelihood, sampled=False, dstate=None, before=None):
    """As `sequence_backward`, from dstate (B, S H) of the last state too. Returns dstate of the first state, and grads.

    before: as in `reverse_loop`.
    """
    _, *doutputs = likelihood.log_density_backward(cache.log_p, dlog_p)
    (dphi_z, dh), generate = generate_backward(params["generate"], cache.generate, *doutputs, likelihood=likelihood)
    kl_backward = gaussian_log_ratio_backward if sampled else gaussian_kl_backward
    dmu_z, dsigma_z, dmu_0, dsigma_0, *_ = kl_backward(cache.kl, dkl)
    dh_prior, prior_grads = prior_backward(params["prior"], cache.prior, dmu_0, dsigma_0)
    dh += dh_prior
    del dh_prior  # (T, B, H) that the loop can use
    (dphi_x, dstate), grads = loop_backward(params, cache.loop, dphi_z, dh, dmu_z, dsigma_z, dstate, before)
    phi_x_grads = mlp_backward_params(cache.phi_x, mlp_backward_data(params["phi_x"], cache.phi_x.ys, dphi_x))
    return dstate, {"phi_x": phi_x_grads, "prior": prior_grads, "generate": generate, **grads}


def loop_forward(params, phi_x, eps, state=None, mask=None, before=None):
    """Eq. 9, reparameterisation, phi_z, Eq. 7, step after step. phi_x (T, B, F), eps (T, B, Z). Returns LoopCache.

    state (B, S H): before the first step; None: zeros. mask (T, B) as in `sequence_forward`. before(t, cache): called
    before each step, and can change the state that the step starts from, cache.state[t].
    """
    infer, phi_z, recur = params["infer"], params["phi_z"], params["recur"]
    (T, _, F), cell = phi_x.shape, loop_cell(recur)
    infer_in, ahead = look_ahead_forward(params["backward"], phi_x, mask) if "backward" in params else (phi_x, None)
    x_infer = matmul(infer_in, infer["W1"][:F])  # the x-side of Eq. 9 and Eq. 7, for all T steps
    x_infer += infer["b1"]
    x_recur = matmul(phi_x, recur["W"][:F])
    x_recur += recur["b"]
    c = _empty_loop_cache(params, phi_x, infer_in, ahead, eps, cell)
    c.state[0] = 0 if state is None else state
    products_of_h = products_with(infer["W1"][F:], recur["U"])
    # Each step writes its own row of the cache, once. a and g are new in every step, so they can be overwritten.
    for t in range(T):
        if before:
            before(t, c)
        a, g = products_of_h(c.h[t])  # the h-side of Eq. 9 (B, F) and of Eq. 7 (B, 3H)
        ys = mlp_tail_forward(infer, a, x_infer[t], out=[y[t] for y in c.ys])  # Eq. 9: hidden layers; overwrites a
        o, z = matmul(ys[-1], infer["W_out"], out=c.o[t]), c.z[t]  # Eq. 9: [mu_z, s] without its bias
        draw(infer["b_out"], eps[t], o, z)  # adds the bias to o; z = mu_z + sigma_z * eps
        y = add_relu(matmul(z, phi_z["W1"]), phi_z["b1"], out=c.phi_z[t])  # phi_z(z_t)
        a, states = matmul(y, recur["W"][F:]), c.state[t : t + 2]
        cell.step(a, x_recur[t], g, recur.get("c"), *states, *(gate[t] for gate in c.gates))  # Eq. 7; overwrites a, g
    return c


def loop_backward(params, c, dphi_z, dh, dmu_z, dsigma_z, dstate=None, before=None):
    """The reverse loop, then the weight gradients of Eq. 9, phi_z and Eq. 7, each one product over all T*B rows.

    dphi_z (T, B, F), dh (T, B, H), dmu_z, dsigma_z (T, B, Z): gradients that generation, prior and KL send to the
    loop's results. dstate (B, S H): that of the last state; None: zero. before: as in `reverse_loop`.
    Returns dphi_x (T, B, F) and dstate of the first state; grads of "infer", "phi_z" and "recur", and of "backward"
    for a smoothing posterior.
    """
    infer, recur, F = params["infer"], params["recur"], c.phi_x.shape[-1]
    cell = loop_cell(recur)
    cache = cell.cache((c.phi_x, c.phi_z), c.state[:-1], *c.gates)
    d = reverse_loop(params, c, cell.slopes(cache), dphi_z, dh, dmu_z, dsigma_z, dstate, before)
    dphi_x = matmul(d.a, recur["W"][:F].T)
    dinfer_in, look_ahead_grads = matmul(d.ys[0], infer["W1"][:F].T), {}
    if c.ahead is not None:
        dinfer_in, look_ahead_grads["backward"] = look_ahead_backward(params["backward"], c.ahead, dinfer_in)
    dphi_x += dinfer_in
    head = linear_backward_params(LinearCache((c.ys[-1],)), d.o)
    return (dphi_x, d.state), look_ahead_grads | {
        "infer": mlp_backward_params(MlpCache((c.infer_in, c.h[:-1]), c.ys), d.ys)
        | {"W_out": head["W"], "b_out": head["b"]},
        "phi_z": mlp_backward_params(MlpCache((c.z,), (c.phi_z,)), (d.az,)),
        "recur": cell.backward_params(cache, d.a),  # overwrites d.a, which has no later use
    }


def reverse_loop(params, c, slopes, dphi_z, dh, dmu_z, dsigma_z, dstate=None, before=None):
    """The loop backward, from t = T - 1 to 0: Eq. 7, phi_z, reparameterisation and Eq. 9. It carries only dstate.

    Arguments as in `loop_backward`; slopes (T, B, .): derivatives of the cell's gates. before(t, dstate): the backward
    pass of what `loop_forward` called before step t. Returns LoopGradients.
    """
    xp, (T, B, F), Z = namespace(dh), c.phi_x.shape, c.eps.shape[-1]
    infer, phi_z, recur = params["infer"], params["phi_z"], params["recur"]
    cell = loop_cell(recur)
    # Contiguous copies: with transposed views the loop's small products take 1.5 times as long.
    W1_h_T, W_z_T, U_T = (xp.ascontiguousarray(W.T) for W in (infer["W1"][F:], recur["W"][F:], recur["U"]))
    infer = {name: xp.asfortranarray(W) for name, W in infer.items() if name != "W1"}
    ds_dsigma = sigmoid(split(c.o)[1])
    ds_dz, ds_kl = c.eps * ds_dsigma, dsigma_z * ds_dsigma
    d_a = slopes[..., : recur["U"].shape[1]]  # da overwrites slopes: step t is the only one that reads slopes[t]
    d_az, d_o, *d_ys = (xp.empty((T, B, width), dtype=dh.dtype) for width in (F, 2 * Z, *[F] * len(c.ys)))
    dstate = xp.zeros((B, state_width(recur)), dtype=dh.dtype) if dstate is None else dstate
    for t in reversed(range(T)):
        # Eq. 7: da, dg, dstate without the h U part
        dg, dstate = cell.step_backward(slopes[t], [gate[t] for gate in c.gates], dstate, d_a[t])
        add_relu_backward(c.phi_z[t], matmul(d_a[t], W_z_T), dphi_z[t], out=d_az[t])  # phi_z, read by Eq. 6 and Eq. 7
        draw_backward(matmul(d_az[t], phi_z["W1"].T), dmu_z[t], ds_dz[t], ds_kl[t], d_o[t])  # z = mu_z + sigma_z * eps
        dy = matmul(d_o[t], infer["W_out"].T)
        mlp_backward_data(infer, [y[t] for y in c.ys], dy, out=[d_y[t] for d_y in d_ys])  # Eq. 9
        add_to(dh[t], matmul(dg, U_T), matmul(d_ys[0][t], W1_h_T), h_of(recur, dstate))  # all readers of h_{t-1}
        dstate = before(t, dstate) if before else dstate
    return LoopGradients(d_a, d_az, d_o, tuple(d_ys), dstate)


def _empty_loop_cache(params, phi_x, infer_in, ahead, eps, cell):
    xp, recur = namespace(phi_x), params["recur"]
    (T, B, F), H, Z = phi_x.shape, recur["U"].shape[0], eps.shape[-1]

    def empty(width, steps=T):
        return xp.empty((steps, B, width), dtype=phi_x.dtype)

    state = empty(cell.states * H, T + 1)
    ys = tuple(empty(F) for name in params["infer"] if name.startswith("W") and name != "W_out")
    gates = tuple(empty(width * H) for width in cell.gate_widths)
    return LoopCache(phi_x, infer_in, ahead, eps, state, h_of(recur, state), ys, *map(empty, (2 * Z, Z, F)), gates)
