"""What the functions of NumPy and of this package were when the course was loaded.

A right result is computed with them. Who replaces one, on purpose or by a slip (`np.sum = ...`, a trial version put in
the place of the package's), would otherwise be compared with himself.
"""

import sys

_kept = {}


def remember():
    """Called once, when all is loaded. What a notebook has put in by then is no original."""
    for name in [name for name, module in sys.modules.items() if _watched(name) and module is not None]:
        for key, value in vars(sys.modules[name]).items():
            if callable(value):
                _kept[name, key] = value if getattr(value, "__module__", None) != "__main__" else None


def replaced():
    """The dotted name of one that is no longer what it was; None where all are."""
    for (module, key), value in _kept.items():
        if module in sys.modules and vars(sys.modules[module]).get(key) is not value:
            return f"{module}.{key}"
    return None


def _watched(name):
    return name in ("numpy", "numpy.linalg") or name.partition(".")[0] == "tinyvrnn"
