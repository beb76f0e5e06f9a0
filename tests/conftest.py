"""Marks the tests that run on a device, and the cases of large grids that are slow.

`TINYVRNN_TEST_DEVICE=cupy pytest -m device` runs the former on a GPU.
"""

from collections import Counter

import checks
import pytest
from double import cupy as double

from tinyvrnn.arrays import backend
from tinyvrnn.runs import plots


def pytest_collection_modifyitems(items):
    seen = Counter()
    for item in items:
        one_in = item.get_closest_marker("one_in")
        if one_in and seen[item.function] % one_in.args[0]:
            item.add_marker(pytest.mark.slow)
        seen[item.function] += 1
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if (
            any(isinstance(value, str) and value == checks.DEVICE for value in _values(parameters))
            or "cupy_backend" in item.fixturenames
        ):
            item.add_marker(pytest.mark.device)


def _values(parameters):
    """The parameters of a test, and the values of those that are dicts of options."""
    for value in parameters:
        yield from value.values() if isinstance(value, dict) else (value,)


@pytest.fixture(scope="session", autouse=True)
def small_pictures():
    """Pictures of runs show 4 samples: a training in a test takes a tenth of the time of drawing 64."""
    with pytest.MonkeyPatch.context() as patch:
        for medium in plots.SHOWN:
            patch.setitem(plots.SHOWN, medium, 4)
        yield


@pytest.fixture
def cupy_backend(monkeypatch):
    """The backend "cupy": on the test double of the module, unless tests run with a `cupy` of their own."""
    if checks.DEVICE != "cupy":
        if double.COMPILER is None:
            pytest.skip("needs g++ or clang++, to compile the kernels")
        twin = backend.Backend("cupy", double, double.asarray, double.asnumpy)
        monkeypatch.setattr(backend, "_cupy_backend", lambda: twin)
    return backend.get_backend("cupy")
