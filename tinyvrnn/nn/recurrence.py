"""The loop of one cell over time, forward and backward.

The RNN (Eq. 1) and the backward recurrence of a smoothing posterior use this loop. The VRNN needs its own
(models/schedule.py), since each of its steps takes a draw of z_t.
"""

from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.nn.cells import h_of, loop_cell, state_width
from tinyvrnn.nn.linear import add_to, matmul


class LoopCache(NamedTuple):
    """What the loop keeps for the backward pass, for all T steps."""

    phi_x: object  # (T, B, F)
    state: object  # (T + 1, B, S H): state[t] is the state before step t; an LSTM's has S = 2 parts
    h: object  # (T + 1, B, H): the part that other networks read, a view of state
    gates: tuple  # the cell's gates: for a GRU r and u (T, B, 2H), n and g_n = h U_n + c_n (T, B, H)


def loop_forward(p, phi_x, state=None):
    """Eq. 1 for all steps. phi_x (T, B, F), state (B, S H) before the first step (None: zeros). Returns LoopCache."""
    (T, B, _), H, cell = phi_x.shape, p["U"].shape[0], loop_cell(p)
    a = matmul(phi_x, p["W"])  # the x-side for all T steps; cell.step may overwrite a[t]
    a += p["b"]

    def empty(width, steps=T):
        return namespace(phi_x).empty((steps, B, width * H), dtype=phi_x.dtype)

    states, gates = empty(cell.states, T + 1), tuple(empty(width) for width in cell.gate_widths)
    h = h_of(p, states)
    states[0] = 0 if state is None else state
    for t in range(T):
        g = matmul(h[t], p["U"])  # the h-side, new in every step
        cell.step(a[t], None, g, p.get("c"), states[t], states[t + 1], *(gate[t] for gate in gates))  # Eq. 1
    return LoopCache(phi_x, states, h, gates)


def loop_backward(p, c, dh, dstate=None):
    """The reverse loop, which carries only dstate; then each weight gradient as one product over all T*B rows.

    dh (T, B, H): the gradient that the predictions send to the state before each step; dstate (B, S H): that of the
    last state (None: zero). Returns dphi_x (T, B, F) and dstate of the first state; grads.
    """
    xp, (T, B, _), cell = namespace(dh), dh.shape, loop_cell(p)
    cache = cell.cache((c.phi_x,), c.state[:-1], *c.gates)
    U_T, slopes = xp.ascontiguousarray(p["U"].T), cell.slopes(cache)
    d_a = slopes[..., : p["U"].shape[1]]  # da overwrites slopes: step t is the only one that reads slopes[t]
    dstate = xp.zeros((B, state_width(p)), dtype=dh.dtype) if dstate is None else dstate
    for t in reversed(range(T)):
        gates = [gate[t] for gate in c.gates]
        dg, dstate = cell.step_backward(slopes[t], gates, dstate, d_a[t])  # Eq. 1: da, dg, dstate without the h U part
        add_to(dh[t], matmul(dg, U_T), None, h_of(p, dstate))
    return (matmul(d_a, p["W"].T), dstate), cell.backward_params(cache, d_a)
