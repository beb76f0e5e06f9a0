"""Functions on nested tuples, NamedTuples, lists and dicts of arrays: map, copy, pair, name."""

import numpy as np


def map_arrays(function, value):
    """A copy of a nested structure with `function` applied to each array."""
    if isinstance(value, (np.ndarray, np.generic)):
        return function(value)
    if isinstance(value, dict):
        return {key: map_arrays(function, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_arrays(function, item) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_arrays(function, item) for item in value)
    return value


def to_float32(array):
    return array.astype(np.float32) if array.dtype.kind == "f" else np.copy(array)


def plain(value):
    """A deep copy with built-in containers and numbers and plain NumPy arrays only.

    It contains no instances of a student's classes, and shares no memory with the original.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return (tuple if isinstance(value, tuple) else list)(plain(item) for item in value)
    if value is None or value is Ellipsis or type(value) in (bool, int, float, complex, str):
        return value
    return np.array(value)


def paired_arrays(a, b, path):
    """(path, array of a, array of b) for each array in two structures of the same form; a path: p["W1"] or cache.h."""
    if isinstance(a, (np.ndarray, np.generic)):
        yield path, a, b
    elif isinstance(a, dict):
        for key in a:
            yield from paired_arrays(a[key], b.get(key), f'{path}["{key}"]')
    elif isinstance(a, (tuple, list)):
        fields = [f".{field}" for field in a._fields] if hasattr(a, "_fields") else [f"[{i}]" for i in range(len(a))]
        for field, x, y in zip(fields, a, b):
            yield from paired_arrays(x, y, path + field)


def named(value, names):
    """{name: array} of a result, which is one array, a tuple or list of arrays and dicts, or a dict."""
    if isinstance(value, dict):
        return dict(value)
    if not isinstance(value, (tuple, list)):
        return {names[0]: value}
    leaves = {}
    for name, item in zip(names, value):
        leaves |= {f"d{key}": leaf for key, leaf in item.items()} if isinstance(item, dict) else {name: item}
    return leaves
