"""The recurrences f of Eq. 1 and 7. A Cell holds the functions that the loops over time need of one of them.

A state is one array (..., S H). Its first H columns are h, the only part that other networks read; a GRU has no others
(S = 1), an LSTM stores its memory there (S = 2). The shapes of the parameters tell a GRU (U (H, 3H)) from an LSTM
(U (H, 4H)). The parameters of a registered cell are a `params.Group` that names it, so that a cell as wide as a GRU is
not mistaken for one.
"""

from collections.abc import Callable
from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.arrays.params import Group
from tinyvrnn.errors import ConfigError, how_to_register, unknown_name
from tinyvrnn.nn import gru, lstm


class Cell(NamedTuple):
    """One recurrence state' = f(x, state) of Eq. 1 and 7, for `tinyvrnn.register_cell`.

    The first four fields are required. The inputs enter through x W + b alone, U multiplies h, and other leaves are
    allowed. The loops over time call the six fields from `gate_widths` on; without them they call forward and backward,
    which gives the same numbers and takes longer. docs/extend.md has a complete example.

    Parameters
    ----------
    name : str
        One word, as an option of the command takes it.
    shapes : function
        (D, H) -> {"W": (D, C), "b": (C,), "U": (H, C), ...}, with C a multiple of H.
    forward, backward : function
        One step, on the last axis alone: (p, *inputs, state) -> state' (..., S H), cache; (p, cache, dstate') ->
        (*dinputs, dstate), grads.
    states : int
        S, the parts of a state, of which h is the first.
    initialise : function
        (p) -> None: sets biases of fresh parameters that do not start at 0.
    gate_widths : tuple of int
        Widths of the arrays `gates` that step saves for the backward pass, in units of H.
    cache : function
        (inputs, state, *gates) -> the cache that slopes and backward_params take.
    step : function
        (a, x, g, c, state, state', *gates): writes state' and the gates of a + x and g + c.
    slopes : function
        (cache) -> the gates' derivatives that need no incoming gradient, for all T steps at once.
    step_backward : function
        (slopes, gates, dstate', da) -> dg, dstate without the part through h U; writes da.
    backward_params : function
        (cache, da) -> grads; can overwrite da.
    """

    name: str
    shapes: Callable
    forward: Callable
    backward: Callable
    states: int = 1
    initialise: Callable = lambda p: None
    gate_widths: tuple = ()
    cache: Callable | None = None
    step: Callable | None = None
    slopes: Callable | None = None
    step_backward: Callable | None = None
    backward_params: Callable | None = None


def get_cell(name):
    """The Cell with this name. Raises ConfigError if there is none."""
    if isinstance(name, Cell):
        raise ConfigError(f'cell must be a name: register the record first, then give "{name.name}".')
    if not isinstance(name, str) or name not in CELLS:
        raise ConfigError(unknown_name("cell", name, CELLS, f"; {how_to_register('cell')}"))
    return CELLS[name]


def cell_shapes(name, x_width, h_width):
    """The parameter shapes of the cell with this name, a Group unless the cell is built in."""
    shapes = get_cell(name).shapes(x_width, h_width)
    return shapes if name in BUILT_IN else Group(shapes, name)


def cell_of(p):
    """The Cell of a recurrence's parameters: the one that a Group names, or the built-in one that has their shapes.

    Raises ConfigError for a plain dict with the shapes of no built-in cell.
    """
    if isinstance(p, Group):
        return get_cell(p.cell)
    found = {leaf: array.shape for leaf, array in p.items()}
    for name in BUILT_IN:
        if CELLS[name].shapes(found["W"][0], found["U"][0]) == found:
            return CELLS[name]
    how = "take them from model.params, or name their cell with tinyvrnn.params.Group(p, cell=name)"
    raise ConfigError(f"A recurrence has parameters of shapes {found}, which are no built-in cell's: {how}.")


def loop_cell(p):
    """The Cell of a recurrence's parameters, with the functions that the loops call."""
    cell = cell_of(p)
    return cell if cell.step else with_loop_functions(cell, p)


class PlainCache(NamedTuple):
    """What the loop functions of `with_loop_functions` save for all steps."""

    inputs: tuple  # x_i (T, B, D_i)
    state: object  # before each step, (T, B, S H)
    a: object  # x W + b, (T, B, C)
    dstate: object  # of the state after each step, (T, B, S H): written by step_backward


def with_loop_functions(cell, p):
    """The cell with loop functions built from its forward and backward, for the parameters p.

    A step gets a = x W + b, so forward is called on a with W = I and b = 0. forward also computes h U, so step_backward
    returns dg = 0.
    """
    xp, (H, C) = namespace(p["U"]), p["U"].shape
    same = (xp.arange(C)[:, None] == xp.arange(C)).astype(p["U"].dtype)
    of_a = {**p, "W": same, "b": xp.zeros_like(p["b"])}

    def step(a, x, g, c, state, state_next, a_out, dstate_out):
        a_out[...] = a if x is None else a + x
        state_next[...] = cell.forward(of_a, a_out, state)[0]

    def step_backward(slopes, gates, dstate_next, da):
        gates[1][...] = dstate_next
        _, cache = cell.forward(of_a, slopes[..., :C], slopes[..., C:])
        (da_found, dstate), _ = cell.backward(of_a, cache, dstate_next)
        da[...] = da_found
        return xp.zeros_like(da), dstate.copy()  # the loop adds to it

    def backward_params(cache, da):
        return cell.backward(p, cell.forward(p, *cache.inputs, cache.state)[1], cache.dstate)[1]

    return cell._replace(
        gate_widths=(C // H, cell.states),
        cache=PlainCache,
        step=step,
        slopes=lambda cache: xp.concatenate([cache.a, cache.state], axis=-1),
        step_backward=step_backward,
        backward_params=backward_params,
    )


def h_of(p, state):
    """h (..., H), the part of a state (..., S H) that other networks read: a view. p: the cell's parameters."""
    return state[..., : p["U"].shape[0]]


def state_width(p):
    """S H."""
    return cell_of(p).states * p["U"].shape[0]


def _gru_step_backward(slopes, gates, dh_next, da):
    dg, dh = (namespace(a).empty_like(a) for a in (da, dh_next))
    gru.gru_step_backward(slopes, gates[0], dh_next, da, dg, dh)
    return dg, dh


def _lstm_step_backward(slopes, gates, dstate_next, da):
    dstate = namespace(da).empty_like(dstate_next)
    lstm.lstm_step_backward(slopes, gates[0], dstate_next, da, dstate)
    return da, dstate


CELLS = {
    "gru": Cell(
        "gru",
        gru.shapes,
        gru.gru_forward,
        gru.gru_backward,
        gate_widths=(2, 1, 1),
        cache=gru.GruCache,
        step=gru.gru_step,
        slopes=gru.gru_slopes,
        step_backward=_gru_step_backward,
        backward_params=lambda cache, da: gru.gru_backward_params(cache, da, out=da),
    ),
    "lstm": Cell(
        "lstm",
        lstm.shapes,
        lstm.lstm_forward,
        lstm.lstm_backward,
        states=2,
        initialise=lstm.initialise,
        gate_widths=(4, 1),
        cache=lstm.LstmCache,
        step=lstm.lstm_step,
        slopes=lstm.lstm_slopes,
        step_backward=_lstm_step_backward,
        backward_params=lstm.lstm_backward_params,
    ),
}
BUILT_IN = tuple(CELLS)
