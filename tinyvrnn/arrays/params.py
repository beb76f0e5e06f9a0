"""Parameters: named views of one flat vector.

`params["prior"]["W1"]` is a view of part of `theta`, so a write to one shows in the other. Gradients have the same
layout. Adam, clipping, a checkpoint, a numeric check and a sum over workers are then operations on one vector.
"""

from collections.abc import Iterator, Mapping
from math import prod

import numpy as np

from tinyvrnn.arrays.backend import Array, as_array, backend_of, get_backend, namespace
from tinyvrnn.arrays.noise import generator
from tinyvrnn.errors import BackendError, ConfigError


class Group(dict):
    """A group of leaves, {"W": ..., "b": ...}, with the name of the cell that it belongs to. A copy keeps the name."""

    def __init__(self, named, cell):
        super().__init__(named)
        self.cell = cell

    def __reduce__(self):
        return Group, (dict(self), self.cell)

    def __or__(self, other):
        return Group(super().__or__(other), self.cell)

    def copy(self):
        """A Group of the same leaves."""
        return Group(self, self.cell)


class Fixed(dict):
    """Named arrays, or groups of them, to which assigning copies numbers; no name can be added or removed.

    So `params["prior"]["b1"] = b` changes theta, of which it is a view. A copy is a plain dict, or a Group.
    """

    name = "params"

    def __setitem__(self, key, value):
        self.update({key: value})

    def update(self, *other, **named):
        """Assign each entry of another dict, or none of them if one does not fit."""
        pairs = [pair for key, value in dict(*other, **named).items() for pair in self._pairs(key, value)]
        for own, value in pairs:
            own[...] = value

    def __ior__(self, other):
        self.update(other)
        return self

    def _pairs(self, key, value):
        """[(an array, the numbers to copy into it)] for an entry and its new value."""
        if key not in self:
            raise ConfigError(f'{self.name} has no "{key}": it has {", ".join(self) or "nothing"}.')
        own, name = self[key], f'{self.name}["{key}"]'
        if value is own:  # after an operation in place
            return []
        if not isinstance(own, dict):
            return [(own, fitting(value, own, name))]
        if not isinstance(value, dict) or value.keys() != own.keys():
            raise ConfigError(f"{name} can only be replaced by a dict of {', '.join(own) or 'nothing'}.")
        return [pair for leaf in own for pair in own._pairs(leaf, value[leaf])]

    def _refuse(self, *arguments):
        raise ConfigError(f"{self.name} are views of theta, and none can be removed or added: assign numbers to one.")

    __delitem__ = pop = popitem = clear = setdefault = _refuse

    def __reduce__(self):
        return dict, (dict(self),)


class FixedGroup(Fixed, Group):
    """Fixed, for the leaves of a Group."""

    __reduce__ = Group.__reduce__


def fixed(params):
    """Named views of a vector as Fixed dicts."""
    whole = Fixed({})
    for name, group in params.items():
        own = FixedGroup(group, group.cell) if isinstance(group, Group) else Fixed(group)
        own.name = f'{whole.name}["{name}"]'
        dict.__setitem__(whole, name, own)
    return whole


def fitting(value, own, name):
    """A copy of `value` as numbers for the array `own`. Raises a TinyvrnnError if it does not fit."""
    value, backend = as_array(value, name), backend_of(own)
    if getattr(value, "shape", None) != own.shape:
        raise ConfigError(f"{name} has shape {own.shape}, got {getattr(value, 'shape', value)}: give as many numbers.")
    if backend_of(value).name not in (backend.name, "numpy"):
        raise BackendError(f"{name} is on {backend.name}, got an array on {backend_of(value).name}: use to_host(a).")
    with np.errstate(over="ignore"):
        value = backend.asarray(value).astype(own.dtype)
    if not backend.xp.isfinite(value).all():
        raise ConfigError(f"{name} must hold finite numbers of {own.dtype}, got NaN or infinity.")
    return value


def like(group, named):
    """The leaves `named`, as a Group of the same cell where `group` is one."""
    return Group(named, group.cell) if isinstance(group, Group) else named


def size(shapes):
    """The number of parameters in a two-level dict of shapes, {"prior": {"W1": (H, F), ...}, ...}."""
    return sum(prod(shape) for group in shapes.values() for shape in group.values())


def views(vector, shapes):
    """Named views of a flat vector, in the order of `shapes`: {"prior": {"W1": (H, F) view, ...}, ...}.

    A Group of shapes gives a Group of views, of the same cell.
    """
    named, start = {}, 0
    for group, leaves in shapes.items():
        named[group] = like(leaves, {})
        for leaf, shape in leaves.items():
            stop = start + prod(shape)
            named[group][leaf] = vector[start:stop].reshape(shape)
            start = stop
    return named


def leaves(params: Mapping[str, Mapping[str, Array]]) -> Iterator[tuple[str, Array]]:
    """Iterate over named parameters, in the order of the flat vector.

    Parameters
    ----------
    params : dict of dict
        `model.params`.

    Returns
    -------
    iterator of (name, array)
        Pairs such as ("prior.W1", array).
    """
    for group, named in params.items():
        for leaf, array in named.items():
            yield f"{group}.{leaf}", array


def matrices(vector, shapes):
    """A vector like `vector`: 1 for the entries of weight matrices, 0 for those of biases."""
    is_weight = namespace(vector).zeros_like(vector)
    for _, leaf in leaves(views(is_weight, shapes)):
        leaf[...] = leaf.ndim > 1
    return is_weight


def set_to_zero(vector, shapes, groups):
    """Set the entries of some groups of a flat vector to 0."""
    named = views(vector, shapes)
    for group in groups:
        for leaf in named[group].values():
            leaf[...] = 0


def initialise(shapes, seed, backend="numpy", dtype="float32"):
    """Initial theta, a flat vector on the backend: W ~ N(0, 2 / (rows + columns)) (Glorot and Bengio, 2010), biases 0.

    Drawn on the host, so all backends and dtypes start from the same numbers, up to rounding.
    """
    rng, host = generator(seed, "init"), np.zeros(size(shapes))
    for _, leaf in leaves(views(host, shapes)):
        if leaf.ndim == 2:
            leaf[...] = rng.standard_normal(leaf.shape) * (2.0 / sum(leaf.shape)) ** 0.5
    return get_backend(backend).asarray(host.astype(dtype))
