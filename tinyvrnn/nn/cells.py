"""What f of Eq. 1 and 7 can be. A Cell is the set of functions that the loops over time need of one recurrence.

A state is one array (..., S H). Its first H columns are h, which is all that other networks are given of it; a GRU has
no others (S = 1), an LSTM keeps its memory there (S = 2). Which cell parameters belong to is read from their shapes:
U (H, 3H) is a GRU's, U (H, 4H) an LSTM's.
"""

from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.errors import ConfigError, unknown_name
from tinyvrnn.nn import gru, lstm
from tinyvrnn.nn.gru import (
    gru_backward,
    gru_backward_params,
    gru_forward,
    gru_slopes,
    gru_step,
    gru_step_backward,
)
from tinyvrnn.nn.lstm import (
    lstm_backward,
    lstm_backward_params,
    lstm_forward,
    lstm_slopes,
    lstm_step,
    lstm_step_backward,
)


class Cell(NamedTuple):
    """One recurrence. `gates` is what step leaves for the backward pass: a tuple of arrays."""

    name: str
    states: int  # S
    blocks: int  # of H columns in W, b, U, c
    kept: tuple  # widths of the gates that are kept, in units of H
    shapes: object  # (D, H) -> shapes of the parameters
    initialise: object  # (p) -> None: what fresh parameters have in place of biases of 0
    forward: object  # (p, *inputs, state) -> state', cache
    backward: object  # (p, cache, dstate') -> (*dinputs, dstate), grads
    cache: object  # (inputs, state, *gates) -> the cache of forward
    step: object  # (a, x, g, c, state, state', *gates): the gates of a + x and g + c, written into the last ones
    slopes: object  # (cache) -> the derivatives that need no incoming gradient, for all T steps at once
    step_backward: object  # (slopes, gates, dstate', da) -> dg, dstate but for what goes through h U; writes da
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


def _gru_step_backward(slopes, gates, dh_next, da):
    xp = namespace(da)
    dg, dh = xp.empty_like(da), xp.empty_like(dh_next)
    gru_step_backward(slopes, gates[0], dh_next, da, dg, dh)
    return dg, dh


def _lstm_step_backward(slopes, gates, dstate_next, da):
    dstate = namespace(da).empty_like(dstate_next)
    lstm_step_backward(slopes, gates[0], dstate_next, da, dstate)
    return da, dstate


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
        step=gru_step,
        slopes=gru_slopes,
        step_backward=_gru_step_backward,
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
        step=lstm_step,
        slopes=lstm_slopes,
        step_backward=_lstm_step_backward,
        backward_params=lstm_backward_params,
    ),
}
