"""Parameters: named views of one flat vector.

`theta` is one vector of all parameters, and `params["prior"]["W1"]` is a view of part of it, so a write to one shows in
the other. Gradients have the same layout. Adam, clipping, a norm, a checkpoint, a numeric check and a sum over workers
are then each one operation on one vector.
"""

from math import prod

from tinyvrnn.arrays.backend import get_backend, namespace
from tinyvrnn.arrays.noise import generator


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


def leaves(params):
    """Iterate over pairs ("prior.W1", array) in the order of the flat vector."""
    for group, named in params.items():
        for leaf, array in named.items():
            yield f"{group}.{leaf}", array


def matrices(vector, shapes):
    """A vector like `vector`: 1 for the entries of weight matrices, 0 for those of biases."""
    is_weight = namespace(vector).zeros_like(vector)
    for _, leaf in leaves(views(is_weight, shapes)):
        leaf[...] = leaf.ndim > 1
    return is_weight


def initialise(shapes, seed, backend="numpy", dtype="float32"):
    """Initial theta, a flat vector on the backend: W ~ N(0, 2 / (rows + columns)) (Glorot and Bengio, 2010), biases 0.

    Drawn on the host, so all backends and dtypes start from the same numbers, up to rounding.
    """
    rng = generator(seed, "init")
    device = get_backend(backend)
    host = get_backend("numpy").xp.zeros(size(shapes))
    for _, leaf in leaves(views(host, shapes)):
        if leaf.ndim == 2:
            leaf[...] = rng.standard_normal(leaf.shape) * (2.0 / sum(leaf.shape)) ** 0.5
    return device.asarray(host.astype(dtype))
