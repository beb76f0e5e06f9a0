"""A recurrence over a whole sequence: the loop of one cell over time, forward and backward.

The RNN (Eq. 1) and the second recurrence of a smoothing posterior run this loop. The VRNN has a loop of its own
(models/schedule.py), since its recurrence takes a draw of z_t at every step.
"""

from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.nn.cells import cell_of, h_of, state_width
from tinyvrnn.nn.linear import add_to, matmul


class LoopCache(NamedTuple):
    """What the loop leaves behind, for all T steps."""

    phi_x: object  # (T, B, F)
    state: object  # (T + 1, B, S H): state[t] is that before step t; an LSTM's has S = 2 parts
    h: object  # (T + 1, B, H): the part of it that other networks are given, a view
    gates: tuple  # what the cell keeps: of a GRU r and u (T, B, 2H), n and h U_n + c_n (T, B, H)


def loop_forward(p, phi_x, state=None):
    """Eq. 1, step after step. phi_x (T, B, F), state (B, S H) before the first (None: zeros). Returns LoopCache."""
    (T, B, _), H, cell = phi_x.shape, p["U"].shape[0], cell_of(p)
    a = matmul(phi_x, p["W"])
    a += p["b"]

    def empty(width, steps=T):
        return namespace(phi_x).empty((steps, B, width * H), dtype=phi_x.dtype)

    states, gates = empty(cell.states, T + 1), tuple(empty(width) for width in cell.kept)
    h = h_of(p, states)
    states[0] = 0 if state is None else state
    for t in range(T):
        g = matmul(h[t], p["U"])
        cell.step(a[t], None, g, p.get("c"), states[t], states[t + 1], *(kept[t] for kept in gates))
    return LoopCache(phi_x, states, h, gates)


def loop_backward(p, c, dh, dstate=None):
    """The reverse loop, which carries only dstate, then the weight gradients, one product over all T*B rows each.

    dh (T, B, H): what the predictions ask of the states before each step; dstate (B, S H): what is asked of the last
    state (None: nothing). Returns dphi_x (T, B, F) and dstate of the first state; grads.
    """
    xp, (T, B, _), cell = namespace(dh), dh.shape, cell_of(p)
    cache = cell.cache((c.phi_x,), c.state[:-1], *c.gates)
    U_T, slopes = xp.ascontiguousarray(p["U"].T), cell.slopes(cache)
    d_a = slopes[..., : p["U"].shape[1]]  # each step's slopes give way to its gradient
    dstate = xp.zeros((B, state_width(p)), dtype=dh.dtype) if dstate is None else dstate
    for t in reversed(range(T)):
        dg, dstate = cell.step_backward(slopes[t], [kept[t] for kept in c.gates], dstate, d_a[t])
        add_to(dh[t], matmul(dg, U_T), None, h_of(p, dstate))
    return (matmul(d_a, p["W"].T), dstate), cell.backward_params(cache, d_a)
