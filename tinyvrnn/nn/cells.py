"""What f of Eq. 1 and 7 can be. A Cell is the set of functions that the loops over time need of one recurrence.

A state is one array (..., S H). Its first H columns are h, which is all that other networks are given of it; a GRU has
no others (S = 1), an LSTM keeps its memory there (S = 2). Which cell parameters belong to is read from their shapes:
U (H, 3H) is a GRU's, U (H, 4H) an LSTM's.
"""

from typing import NamedTuple

from tinyvrnn.errors import ConfigError, unknown_name
from tinyvrnn.nn import gru, lstm
from tinyvrnn.nn.gru import (
    gru_backward,
    gru_backward_params,
    gru_forward,
    gru_gates_backward,
    gru_gates_forward,
    gru_h_side,
    gru_slopes,
)
from tinyvrnn.nn.lstm import (
    lstm_backward,
    lstm_backward_params,
    lstm_forward,
    lstm_gates_backward,
    lstm_gates_forward,
    lstm_slopes,
)


class Cell(NamedTuple):
    """One recurrence. `gates` is what gates_forward leaves for the backward pass: a tuple of arrays."""

    name: str
    states: int  # S
    blocks: int  # of H columns in W, b, U, c
    kept: tuple  # widths of the gates that are kept, in units of H
    shapes: object  # (D, H) -> shapes of the parameters
    initialise: object  # (p) -> None: what fresh parameters have in place of biases of 0
    forward: object  # (p, *inputs, state) -> state', cache
    backward: object  # (p, cache, dstate') -> (*dinputs, dstate), grads
    cache: object  # (inputs, state, *gates) -> the cache of forward
    gates_forward: object  # (a, g, state, out=(state', *gates)) -> None; all written into out
    slopes: object  # (cache) -> the derivatives that need no incoming gradient, for all T steps at once
    gates_backward: object  # (slopes, gates, dstate', out) -> da, and dstate but for what goes through h U
    h_side: object  # (da, gates) -> dg, da itself or a new array
    backward_params: object  # (cache, da) -> grads; may write into da


def get_cell(name):
    """The Cell called `name`. Raises ConfigError where there is none."""
    if name not in CELLS:
        raise ConfigError(unknown_name("cell", name, CELLS))
    return CELLS[name]


def cell_of(p):
    """The Cell that the parameters W, b, U, c belong to."""
    H, columns = p["U"].shape
    return next(cell for cell in CELLS.values() if cell.blocks * H == columns)


def h_of(p, state):
    """h (..., H), the part of a state (..., S H) that other networks are given: a view. p: the cell's parameters."""
    return state[..., : p["U"].shape[0]]


def state_width(p):
    """S H."""
    return cell_of(p).states * p["U"].shape[0]


def _gru_gates_forward(a, g, h, out):
    h_out, ru, n, g_n = out
    g_n[...] = gru_gates_forward(a, g, h, (h_out, ru, n))[1][2]


def _gru_gates_backward(slopes, gates, dh_next, out):
    return gru_gates_backward(slopes, dh_next, out=out), dh_next * gates[0][..., dh_next.shape[-1] :]


CELLS = {
    "gru": Cell(
        "gru",
        states=1,
        blocks=3,
        kept=(2, 1, 1),
        shapes=gru.shapes,
        initialise=lambda p: None,
        forward=gru_forward,
        backward=gru_backward,
        cache=gru.GruCache,
        gates_forward=_gru_gates_forward,
        slopes=gru_slopes,
        gates_backward=_gru_gates_backward,
        h_side=lambda da, gates: gru_h_side(da, gates[0]),
        backward_params=lambda cache, da: gru_backward_params(cache, da, out=da),
    ),
    "lstm": Cell(
        "lstm",
        states=2,
        blocks=4,
        kept=(4, 1),
        shapes=lstm.shapes,
        initialise=lstm.initialise,
        forward=lstm_forward,
        backward=lstm_backward,
        cache=lstm.LstmCache,
        gates_forward=lambda a, g, state, out: lstm_gates_forward(a, g, state, out=out),
        slopes=lstm_slopes,
        gates_backward=lambda slopes, gates, dstate, out: lstm_gates_backward(slopes, gates[0], dstate, out=out),
        h_side=lambda da, gates: da,
        backward_params=lstm_backward_params,
    ),
}
