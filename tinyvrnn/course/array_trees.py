"""Functions on nested tuples, NamedTuples, lists and dicts of arrays: map, copy, list, name, pack."""

import base64
from contextlib import suppress

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


# ---- across a pipe, from a process that is not trusted ----

KINDS = {"tuple": tuple, "list": list, "set": set, "frozenset": frozenset}


def packed(value):
    """A nested value as JSON can hold it; something else becomes a number if it is one, or the name of its type."""
    value = value._host if isinstance(value, StrictArray) else value
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"array": [value.dtype.str, value.shape, data], "scalar": isinstance(value, np.generic)}
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":  # words
        return packed(value.tolist())
    if isinstance(value, dict):
        return {"dict": [[packed(key), packed(item)] for key, item in value.items()]}
    value = list(value) if isinstance(value, range) else value
    for kind, built_in in KINDS.items():
        if isinstance(value, built_in):
            return {kind: [packed(item) for item in value]}
    if value is None or type(value) in (bool, int, float):
        return value
    with suppress(Exception):
        return str(value) if isinstance(value, str) else float(value)
    return {"other": "ellipsis" if value is Ellipsis else type(value).__name__}


def unpacked(value):
    """The value that `packed` has packed. Raises ValueError, TypeError or KeyError for anything else."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        dtype, shape, data = value["array"]
        array = np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()  # which makes no Python objects
        return array[()] if value["scalar"] else array
    ((kind, items),) = value.items()
    if kind == "dict":
        return {unpacked(key): unpacked(item) for key, item in items}
    if kind == "other":
        return Ellipsis if items == "ellipsis" else f"a {items}"
    return KINDS[kind](unpacked(item) for item in items)


def restore(value, changed):
    """Change the arrays, dicts and lists in `value`, in place, into those of `changed`."""
    value = value._host if isinstance(value, StrictArray) else value
    if isinstance(value, np.ndarray) and np.shape(changed) == value.shape:
        value[...] = changed
    elif isinstance(value, dict) and value.keys() != changed.keys():
        value.clear()
        value.update(changed)
    elif isinstance(value, list) and len(value) != len(changed):
        value[:] = changed
    elif isinstance(value, (dict, list, tuple)):
        pairs = ((value[key], changed[key]) for key in value) if isinstance(value, dict) else zip(value, changed)
        for item, new in pairs:
            restore(item, new)
