"""The test double of CuPy behaves as CuPy does; where tests run on CuPy itself (docs/gpu.md), so does this file.

Catches: a double that accepts what CuPy refuses, so that tests on it pass and a GPU fails, and the reverse.
"""

import subprocess
import sys
from pathlib import Path

import checks
import numpy as np
import pytest

import tinyvrnn as tv

HERE = Path(__file__).parent
REFUSED = """
    a + h|h + a|a - h|a * h|h / a|a @ h|h @ a|a < h|h == a|a & h|a + [1, 2]|a + None|xp.exp(h)|xp.maximum(a, h)
    xp.maximum(h, a)|xp.where(a > 0, a, h)|xp.exp(a, out=h)|xp.matmul(a, h)|xp.stack([a, h])|xp.concatenate([a, h])
    np.asarray(a)|np.array([a, a])|h.__setitem__(..., a)|h[i]|a.__iadd__(h)|a.__setitem__(..., h)|len(a[0, 0])
    iter(a[0, 0])|hash(a)|range(a[0, 0])|float(a)|bool(a)|a + "x"
"""
SAME = """
    a + 2|2 - a|a * 2.0|a * np.float32(2)|np.float32(2) * a|a * np.float64(2)|a / b|a ** 2|a @ b|-a|abs(a)|a < b
    a == b|~(a < b)|(a < b) & (b < 3)|a.sum()|a.sum(axis=0)|a.sum(axis=0, dtype="float64")|a.mean()|a.max(axis=-1)
    (a > 1).sum()|xp.where(a > 1, a, 0)|xp.where(a > 1, 0, 1)|xp.exp(a)|xp.log1p(a)|xp.stack([a, b])
    xp.concatenate([a, b])|xp.dot(a, b)|xp.cumsum(a, axis=1)|xp.argmax(a, axis=1)|xp.clip(a, 1, 2)
    xp.full((2, 3), 0.5, dtype="float32")|xp.arange(4)|xp.zeros((2, 0)).sum()|a[0]|a[0, 1]|a[:, ::2]|a[::-1]
    a[..., 1:]|a[:, None]|a[i]|a[:, i]|a[a > 1]|a.T|a.reshape(4, 1)|a.astype("float64")|xp.asarray(a, dtype="float64")
    xp.ascontiguousarray(a.T)|xp.asfortranarray(a)|a.copy()|xp.max(a, axis=0)|xp.isfinite(a)|xp.sign(a)|a.any()
    a.all()|xp.ones_like(a)|xp.sqrt(a).dtype == "float32"
"""


def expressions(text):
    return [part.strip() for line in text.strip().splitlines() for part in line.split("|")]


@pytest.fixture
def names(cupy_backend):
    """Arrays of both sides: a, b and the index i on the device, h and the index j on the host."""
    hosts = {"a": np.array([[0.5, 1.5], [2.5, 3.5]], "float32"), "b": np.array([[1, 2], [3, 1]], "float32")}
    devices = {name: cupy_backend.asarray(host) for name, host in hosts.items()}
    i = np.array([1, 0])
    return {
        "device": devices | {"i": cupy_backend.asarray(i), "h": hosts["a"].copy(), "np": np, "xp": cupy_backend.xp},
        "host": hosts | {"i": i, "np": np, "xp": np},
    }


@pytest.mark.parametrize("expression", expressions(REFUSED))
def test_it_refuses_what_cupy_refuses(expression, names):
    with pytest.raises((TypeError, ValueError)):
        eval(expression, names["device"])


@pytest.mark.parametrize("expression", expressions(SAME))
def test_it_computes_what_numpy_computes_in_the_same_dtype(expression, names):
    found, expected = eval(expression, names["device"]), np.asarray(eval(expression, names["host"]))
    if isinstance(found, bool):
        assert found == expected
        return
    assert type(found) is names["device"]["xp"].ndarray and type(found).__module__ == "cupy"
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(tv.to_host(found), expected, rtol=1e-6)


def test_slices_are_views_and_index_arrays_copies(names):
    a, i = names["device"]["a"], names["device"]["i"]
    a[0][...] = 7.0
    view, copy = a[1, 0], a[i]
    view[...] = 9.0
    copy[...] = 0.0
    assert tv.to_host(a).tolist() == [[7, 7], [9, 3.5]]


def test_what_is_on_the_device_is_not_copied_and_what_is_fetched_is(names):
    a, xp = names["device"]["a"], names["device"]["xp"]
    assert xp.asarray(a) is a and xp.asarray(a, dtype="float64") is not a
    tv.to_host(a)[...] = 0
    assert tv.to_host(a).tolist() == [[0.5, 1.5], [2.5, 3.5]]


def test_a_kernel_reads_its_arguments_by_reference(names):
    """An input that is also the output has its new value once that is written."""
    xp, a = names["device"]["xp"], names["device"]["a"]
    xp.ElementwiseKernel("T x", "T y", "y = 2 * x; y += x", "tinyvrnn_test")(a, a)
    np.testing.assert_allclose(tv.to_host(a), 4 * names["host"]["a"])


def test_a_kernel_broadcasts_and_takes_numbers_and_refuses_what_does_not_fit(names):
    xp, a = names["device"]["xp"], names["device"]["a"]
    kernel = xp.ElementwiseKernel("T x, T c", "T y", "y = x + c", "tinyvrnn_sum")
    np.testing.assert_allclose(tv.to_host(kernel(a, a[0])), names["host"]["a"] + names["host"]["a"][0])
    np.testing.assert_allclose(tv.to_host(kernel(a, 0.5)), names["host"]["a"] + 0.5)
    assert kernel(a[:, :0], 1.0).shape == (2, 0)
    for wrong in ((a, a.astype("float64")), (a, names["device"]["h"])):
        with pytest.raises(TypeError):
            kernel(*wrong)
    for out in (xp.empty((3, 2), dtype="float32"), xp.empty((2,), dtype="float32")):
        with pytest.raises(ValueError):
            kernel(a, a, out)


def test_the_pool_keeps_what_is_freed_until_it_is_given_back(names):
    xp = names["device"]["xp"]
    pool = xp.get_default_memory_pool()
    pool.free_all_blocks()
    before, held = pool.used_bytes(), pool.total_bytes()
    array = xp.zeros((2**20,), dtype="float32")
    assert pool.used_bytes() - before == 2**22 and pool.total_bytes() >= held
    view = array[1:]
    del array
    assert pool.used_bytes() - before == 2**22, "a view holds the memory"
    del view
    assert pool.used_bytes() == before and pool.total_bytes() >= before + 2**22
    pool.free_all_blocks()
    assert pool.total_bytes() <= held


def test_the_pool_has_a_limit(names):
    xp = names["device"]["xp"]
    pool = xp.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + 2**20)
    try:
        with pytest.raises(xp.cuda.memory.OutOfMemoryError, match="Out of memory allocating 8,388,608 bytes"):
            xp.zeros((2**20,), dtype="float64")
    finally:
        pool.set_limit(size=0)
    assert issubclass(xp.cuda.memory.OutOfMemoryError, MemoryError)


# ---- the command, in a process of its own --------------------------------------------------------


def command(*arguments):
    variables = {"PYTHONPATH": f"{HERE / 'double'}:{HERE.parent}", "PATH": "/usr/bin:/bin", "COLUMNS": "100"}
    done = subprocess.run([sys.executable, "-m", "tinyvrnn", *map(str, arguments)], env=variables, capture_output=True)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.skipif(checks.DEVICE == "cupy", reason="the double stands beside the GPU's own module")
@pytest.mark.slow
def test_a_run_on_the_device_goes_on_and_is_read_on_the_host(tmp_path, cupy_backend):
    run, small = tmp_path / "run", ("--hidden", 8, "--latent", 2, "--epochs", 1, "--device-data", "yes")
    assert command("train", "digits8", "--out", run, "--backend", "cupy", *small)[0] == 0
    scores = [command("evaluate", run, "--json", "--backend", backend) for backend in ("cupy", "numpy")]
    assert [code for code, *_ in scores] == [0, 0]
    assert command("sample", run, "--out", tmp_path / "x.npz", "--backend", "cupy")[0] == 0
    there, here = tv.load(run), np.load(tmp_path / "x.npz")
    assert there.backend.name == "numpy" and here
