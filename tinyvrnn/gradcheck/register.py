"""Register a user's likelihoods and cells: check them numerically, then let models, `load` and the command use them."""

from contextlib import contextmanager

import numpy as np

from tinyvrnn import distributions
from tinyvrnn.arrays.noise import generator
from tinyvrnn.arrays.params import like
from tinyvrnn.errors import ConfigError, GradientError, TinyvrnnError, is_word, of_user_code
from tinyvrnn.gradcheck.all_pairs import PAIRS, B, H, X, cell_pairs, example_of, likelihood_pairs, random_inputs
from tinyvrnn.gradcheck.numeric import check_pair, rel_error
from tinyvrnn.nn import cells
from tinyvrnn.nn.recurrence import loop_forward

LOOP = ("gate_widths", "cache", "step", "slopes", "step_backward", "backward_params")  # of a Cell: all or none


def register_likelihood(likelihood: distributions.Likelihood) -> None:
    """Make a likelihood known under its name, to models, `load` and the command.

    Its head and log-density are first checked numerically in float64. Registering a name again replaces it.

    Parameters
    ----------
    likelihood : Likelihood
        The record of its functions.

    Raises
    ------
    GradientError
        A backward pass is wrong; input k of the log-density is output k of the head.
    ConfigError
        The record does not make a likelihood, or its name is that of a built-in one.
    """
    with _explained("likelihood", likelihood, distributions.Likelihood):
        _check_name("likelihood", likelihood.name, distributions.BUILT_IN)
        likelihood = distributions.completed(likelihood)
        with _entered(distributions.LIKELIHOODS, likelihood):
            pairs = likelihood_pairs(likelihood)
            _check_pairs(f"likelihood {likelihood.name}", pairs)
            _check_arrays_of_likelihood(likelihood, pairs[f"{likelihood.name} head"])
            PAIRS.update(pairs)


def register_cell(cell: cells.Cell) -> None:
    """Make a cell known under its name, to models, `load` and the command.

    One step and three steps of the loop over time are first checked numerically in float64. Registering a name again
    replaces it.

    Parameters
    ----------
    cell : Cell
        The record of its functions.

    Raises
    ------
    GradientError
        A backward pass is wrong.
    ConfigError
        The record does not make a cell, or its name is that of a built-in one.
    """
    with _explained("cell", cell, cells.Cell):
        _check_name("cell", cell.name, cells.BUILT_IN)
        _check_fields(cell)
        with _entered(cells.CELLS, cell):
            pairs = cell_pairs(cell)
            _check_pairs(f"cell {cell.name}", pairs)
            _check_loop(cell, pairs[f"loop, {cell.name}"])
            _check_arrays_of_cell(cell, pairs[f"{cell.name} cell"])
            PAIRS.update(pairs)


@contextmanager
def _explained(kind, record, expected):
    """Context: raises ConfigError for another type than the expected one, and for what a user's functions raise."""
    if not isinstance(record, expected):
        raise ConfigError(f"Expected a tv.{expected.__name__}, got {type(record).__name__}: see docs/extend.md.")
    try:
        yield
    except TinyvrnnError:
        raise
    except Exception as error:  # a user's functions can raise anything
        how = f"compare what each of its functions takes and returns with help(tv.{expected.__name__})"
        raise ConfigError(f"The {kind} {record.name} stopped {of_user_code(error)}: {how}.") from error


@contextmanager
def _entered(table, record):
    """Context: the table holds the record; where the body raises, it again holds what it held before."""
    before = table.get(record.name)
    table[record.name] = record
    try:
        yield
    except BaseException:
        table.pop(record.name) if before is None else table.update({record.name: before})
        raise


def _check_name(kind, name, built_in):
    if not is_word(name):
        raise ConfigError(f"The name of a {kind} must be one word, as an option of the command takes it, got {name!r}.")
    if name in built_in:
        raise ConfigError(f'"{name}" is a {kind} of tinyvrnn itself: choose another name.')


def _check_fields(cell):
    if len({getattr(cell, name) in (None, ()) for name in LOOP}) > 1:
        raise ConfigError(f"The cell {cell.name} has some of the fields {', '.join(LOOP)}: give all of them, or none.")
    if type(cell.states) is not int or cell.states < 1:
        raise ConfigError(f"states of the cell {cell.name} must be a whole number of at least 1, got {cell.states!r}.")
    shapes = cell.shapes(X, H)
    if not isinstance(shapes, dict):
        raise ConfigError(f"shapes of the cell {cell.name} must return a dict, got {type(shapes).__name__}.")
    W, b, U = (shapes.get(leaf) for leaf in "WbU")
    C = U[-1] if U else 1
    if (W, b, U) != ((X, C), (C,), (H, C)) or C % H:
        needed = "W must be (D, C), b (C,) and U (H, C), with C a multiple of H"
        raise ConfigError(f"The cell {cell.name} has the shapes {shapes} for D = {X} and H = {H}, but {needed}.")


def _check_pairs(what, pairs):
    for name, pair in pairs.items():
        p, inputs = random_inputs(pair)
        try:
            check_pair(pair.forward, pair.backward, p, *inputs)
        except GradientError as error:
            raise GradientError(f'The {what} has a wrong backward pass, in "{name}": {error}') from None


def _check_loop(cell, pair):
    """Raises GradientError where the loop functions of a cell do not compute what its forward does."""
    p, (x,) = random_inputs(pair)
    state = np.zeros((x.shape[1], cell.states * H))
    for x_t, found in zip(x, loop_forward(p, x).state[1:]):
        state, _ = cell.forward(p, x_t, state)
        if not rel_error(found, state) < 1e-12:
            raise GradientError(f"The cell {cell.name} has a step that computes another state than its forward.")


def _check_arrays_of_likelihood(likelihood, head):
    """Shapes and dtypes for two leading axes, as a model has them: T and B."""
    p, (y,) = _in_float32(*random_inputs(head, leading=(2, B)))
    outputs, head_cache = likelihood.head_forward(p, y)
    x = example_of(likelihood, outputs[0][0])
    _check_misfits(likelihood, x)
    if likelihood.misfits(x).any():
        raise ConfigError(f"The example of the likelihood {likelihood.name} makes values that its misfits refuses.")
    x = np.stack([x, x])
    log_p, cache = likelihood.log_density_forward(x, *outputs)
    _, *doutputs = likelihood.log_density_backward(cache, np.ones((2, B), np.float32))
    noise = likelihood.noise(generator(0, "register"), x.shape, "float32")
    found = {
        "log p": (log_p, (2, B)),
        "sample": (likelihood.sample(noise, *outputs), x.shape),
        "mean": (likelihood.mean(*outputs), x.shape),
        **{f"gradient of output {k}": (d, output.shape) for k, (d, output) in enumerate(zip(doutputs, outputs))},
        "gradient of y": (likelihood.head_backward(p, head_cache, *doutputs)[0], y.shape),
    }
    if likelihood.tempered is not None:
        at = zip(likelihood.tempered(0.5, *outputs), outputs, strict=True)
        found |= {f"tempered output {k}": (warm, output.shape) for k, (warm, output) in enumerate(at)}
    _check_arrays(f"likelihood {likelihood.name}", found)


def _check_misfits(likelihood, x):
    bad = likelihood.misfits(x)
    if getattr(bad, "shape", None) != x.shape or bad.dtype != bool:
        what = f"misfits of the likelihood {likelihood.name} must return an array of bool with the shape of x"
        how = "compare each entry, without any() or all()"
        raise ConfigError(f"{what}, {x.shape}, got {getattr(bad, 'shape', type(bad).__name__)}: {how}.")


def _check_arrays_of_cell(cell, pair):
    p, (x, state) = _in_float32(*random_inputs(pair))
    cell.initialise(p)
    after, cache = cell.forward(p, x, state)
    _check_arrays(f"cell {cell.name}", {"state": (after, state.shape)})
    (dx, dstate), grads = cell.backward(p, cache, np.ones_like(after))
    found = {"gradient of x": (dx, x.shape), "gradient of state": (dstate, state.shape)}
    _check_arrays(f"cell {cell.name}", found | {f"gradient of {leaf}": (g, p[leaf].shape) for leaf, g in grads.items()})


def _in_float32(p, inputs):
    return like(p, {leaf: a.astype("float32") for leaf, a in p.items()}), [a.astype("float32") for a in inputs]


def _check_arrays(what, found):
    """found: name -> array and the shape that it must have. Arrays of a model's dtype must stay of that dtype."""
    for name, (array, shape) in found.items():
        if array.shape != shape:
            how = "work on the last axis alone"
            raise ConfigError(f"The {what} computes a {name} of shape {array.shape}, but {shape} is expected: {how}.")
        if array.dtype != np.float32:
            how = "write np.log(2) as float(np.log(2)), and convert other arrays with .astype(x.dtype)"
            raise ConfigError(f"The {what} computes a {name} of dtype {array.dtype} from float32 arrays: {how}.")
