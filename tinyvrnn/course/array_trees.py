"""Functions on nested tuples, NamedTuples, lists and dicts of arrays: map, copy, list, name."""

import numpy as np

from tinyvrnn.arrays.strict import StrictArray


def map_arrays(function, value):
    """A copy of a nested structure with `function` applied to each array."""
    if isinstance(value, (np.ndarray, np.generic)):
        return function(value)
    if isinstance(value, StrictArray):
        return type(value)(function(value._host))
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
    return np.array(value._host if isinstance(value, StrictArray) else value)


def leaves(value, path):
    """(path, leaf) for each array or other value in a structure; a path: p["W1"] or cache.h."""
    if isinstance(value, dict):
        items = [(f'["{key}"]', item) for key, item in value.items()]
    elif isinstance(value, (tuple, list)):
        names = [f".{field}" for field in value._fields] if hasattr(value, "_fields") else []
        items = zip(names or [f"[{i}]" for i in range(len(value))], value)
    else:
        yield path, value._host if isinstance(value, StrictArray) else value
        return
    for name, item in items:
        yield from leaves(item, path + name)


def differences(a, b, path):
    """The paths at which two structures differ: leaves that differ, that were added, or that are gone."""
    before, after = dict(leaves(a, path)), dict(leaves(b, path))
    for name in before | after:
        if name not in before or name not in after or not _equal(before[name], after[name]):
            yield name


def _equal(a, b):
    return np.array_equal(a, b, equal_nan=True) if isinstance(a, (np.ndarray, np.generic)) else a is b or a == b


def named(value, names):
    """{name: array} of a result, which is one array, a tuple or list of arrays and dicts, or a dict."""
    if isinstance(value, dict):
        return dict(value)
    if not isinstance(value, (tuple, list)):
        return {names[0]: value}
    found = {}
    for name, item in zip(names, value):
        found |= {f"d{key}": leaf for key, leaf in item.items()} if isinstance(item, dict) else {name: item}
    return found
