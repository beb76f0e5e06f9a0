"""Detects replaced functions of NumPy and of this package.

The reference computes the right result with them. If a student replaces one, on purpose or by mistake (`np.sum = ...`,
or a trial version assigned to the package's name), an answer would be compared with itself.
"""

import sys

_originals = {}


def remember():
    """Record the functions, once all modules are loaded. One that a notebook has replaced before is not an original."""
    for name in [name for name, module in sys.modules.items() if _watched(name) and module is not None]:
        for key, value in vars(sys.modules[name]).items():
            if callable(value):
                _originals[name, key] = value if getattr(value, "__module__", None) != "__main__" else None


def replaced():
    """The dotted name of a replaced function; None if there is none."""
    for (module, key), value in _originals.items():
        if module in sys.modules and vars(sys.modules[module]).get(key) is not value:
            return f"{module}.{key}"
    return None


def _watched(name):
    return name in ("numpy", "numpy.linalg") or name.partition(".")[0] == "tinyvrnn"
