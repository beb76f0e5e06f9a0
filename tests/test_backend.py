"""The backends, on a machine without a GPU.

Catches: host arrays that meet device arrays, transfers to the host in a training step, functions that CuPy lacks, an
unhelpful message without a GPU, BLAS threads that stay changed, imports that point upwards.
"""

import ast
import copy
import importlib
import pickle
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import checks
import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

import tinyvrnn as tv
from tinyvrnn.arrays import backend, cpu, strict
from tinyvrnn.arrays.backend import get_backend, namespace, to_host
from tinyvrnn.arrays.cpu import one_blas_thread
from tinyvrnn.arrays.strict import transfers
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.errors import BackendError, how_to_install
from tinyvrnn.nn.activations import relu
from tinyvrnn.training.optim import Adam, clip_by_global_norm

PACKAGE = Path(tv.__file__).parent
OPERATORS = "+ - * / ** @ < <= > >= == !=".split()


@pytest.fixture
def array():
    return get_backend("strict").asarray(np.eye(2) + 1)


# ---- strict --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["a {} b", "b {} a"])
@pytest.mark.parametrize("op", OPERATORS)
def test_strict_refuses_a_host_array_in_every_operator(array, op, order):
    with pytest.raises(TypeError, match="host array"):
        eval(order.format(op), {"a": array, "b": np.eye(2)})


@pytest.mark.parametrize("op", "+= -= *= /=".split())
def test_strict_refuses_a_host_array_in_every_operator_in_place(array, op):
    with pytest.raises(TypeError, match="host array"):
        exec(f"a {op} b", {"a": array, "b": np.eye(2)})
    with pytest.raises(TypeError):
        exec(f"b {op} a", {"a": array, "b": np.eye(2)})


@pytest.mark.parametrize("op", [*OPERATORS, "&", "|"])
def test_strict_computes_in_every_operator_what_numpy_does(op):
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 2.0], [1.0, 5.0]])
    if op in "&|":
        a, b = a > 2, b > 1
    expected = eval(f"a {op} b", {"a": a, "b": b})
    actual = eval(f"a {op} b", dict(zip("ab", checks.device("strict", a, b))))
    assert isinstance(actual, strict.StrictArray)
    assert np.array_equal(to_host(actual), expected)


@pytest.mark.parametrize("op", "+ - * / **".split())
def test_strict_takes_scalars_on_both_sides_as_numpy_does(op):
    a = np.array([1.0, 2.0])
    for order in (f"a {op} 3", f"3 {op} a"):
        assert np.array_equal(to_host(eval(order, {"a": checks.device("strict", a)[0]})), eval(order, {"a": a}))


@pytest.mark.parametrize("name", strict.FUNCTIONS)
def test_strict_refuses_a_host_array_in_every_function(array, name):
    function = getattr(strict.strict_namespace, name)
    with pytest.raises(TypeError, match="host array"):
        function(np.eye(2))
    with pytest.raises(TypeError, match="host array"):
        function(array, np.eye(2))


def test_strict_refuses_a_host_array_as_out_and_inside_a_list(array):
    xp = strict.strict_namespace
    with pytest.raises(TypeError, match="host array"):
        xp.exp(array, out=np.eye(2))
    for function in (xp.stack, xp.concatenate):
        with pytest.raises(TypeError, match="host array"):
            function([array, np.eye(2)])


@pytest.mark.parametrize(
    "line",
    [
        *("min([n, 1.0])", "max((n, n))", "sum([a, a])", "exp([n, n])", "sqrt([[n]])", "min([0.5, 1.0])"),
        *("maximum([n], 1.0)", "maximum(a, [1.0, 2.0])", "where(a > 0, a, [n])"),
        *("stack([n, 1.0])", "concatenate([a, [1.0]])", "stack([[n, n]])"),
    ],
)
def test_strict_refuses_a_list_as_cupy_does(array, line):
    xp = strict.strict_namespace
    with pytest.raises(TypeError, match="a list is no array|joins device arrays"):
        eval(f"xp.{line}", {"xp": xp, "a": array, "n": xp.sum(array)})


def test_strict_refuses_a_list_in_an_operator(array):
    with pytest.raises(TypeError, match="a list is no array"):
        array + [1.0, 2.0]
    with pytest.raises(TypeError, match="a list is no array"):
        array *= [1.0, 2.0]


def test_strict_takes_lists_of_whole_numbers_and_joins_device_arrays(array):
    xp = strict.strict_namespace
    n = xp.sum(array)
    assert xp.stack([n, n]).shape == (2,) and xp.concatenate((array, array)).shape == (4, 2)
    assert xp.zeros([3, 2]).shape == (3, 2) and xp.sum(array, axis=(0, 1)).shape == ()


def test_strict_refuses_a_host_array_as_index_and_as_value(array):
    with pytest.raises(TypeError, match="host array"):
        array[np.array([0, 1])]
    with pytest.raises(TypeError, match="host array"):
        array[...] = np.eye(2)


@pytest.mark.parametrize("name", "asarray array exp sqrt stack mean median shape".split())
def test_strict_refuses_implicit_conversion_and_says_what_to_use(array, name):
    with pytest.raises(TypeError, match=r"use the functions of namespace\(a\)"):
        getattr(np, name)(array)


def test_strict_refuses_numpy_functions_of_both(array):
    for function in (np.add, np.multiply, np.matmul, np.maximum):
        with pytest.raises(TypeError, match=r"use the functions of namespace\(a\)"):
            function(np.eye(2), array)


def test_strict_lacks_what_is_not_in_its_list_and_says_so(array):
    with pytest.raises(AttributeError, match="`median` is not on strict's list"):
        _ = strict.strict_namespace.median
    with pytest.raises(AttributeError, match="A strict array has no `sort`: use a function"):
        array.sort()
    assert not hasattr(array, "__array_interface__")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_strict_array_can_be_copied_and_pickled(array, copied):
    assert np.array_equal(to_host(copied(array)), to_host(array))


def test_strict_takes_the_scalars_of_numpy(array):
    for result in (np.float64(2) * array, array * np.float64(2)):
        assert isinstance(result, strict.StrictArray) and np.array_equal(to_host(result), 2 * to_host(array))


@pytest.mark.parametrize("line", ["a.squeeze(0)", "a.ravel()", "a.flatten()"])
def test_strict_has_the_methods_for_shapes(line):
    a = np.arange(3.0)[None]
    assert np.array_equal(to_host(eval(line, {"a": checks.device("strict", a)[0]})), eval(line, {"a": a}))


def test_strict_keeps_reductions_on_the_device(array):
    transfers.reset()
    for value in (array.sum(), array.mean(), array.max(), strict.strict_namespace.sum(array), array[0, 0]):
        assert isinstance(value, strict.StrictArray) and value.shape == ()
    assert transfers.total == 0


@pytest.mark.parametrize("fetch", [float, int, bool, to_host, lambda a: a.item(), lambda a: a.tolist()])
def test_strict_counts_each_scalar_that_is_fetched(array, fetch):
    transfers.reset()
    fetch(array.sum())
    assert (transfers.to_device, transfers.to_host) == (0, 1)


def test_strict_counts_each_array_that_is_sent_and_none_that_is_there():
    transfers.reset()
    a = get_backend("strict").asarray(np.eye(2))
    get_backend("strict").asarray(a, dtype="float32")
    assert (transfers.to_device, transfers.to_host) == (1, 0)


def test_strict_arrays_do_not_share_memory_with_the_host():
    host = np.zeros(3)
    a = get_backend("strict").asarray(host)
    a += 1
    fetched = to_host(a)
    fetched += 1
    assert host.tolist() == [0, 0, 0] and to_host(a).tolist() == [1, 1, 1]


def test_every_strict_function_is_in_numpy():
    assert [name for name in vars(strict.strict_namespace) if not hasattr(np, name)] == []


def test_every_strict_function_is_in_cupy():
    cupy = pytest.importorskip("cupy")
    assert [name for name in vars(strict.strict_namespace) if not hasattr(cupy, name)] == []


# ---- transfers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_loss_and_grads_sends_three_arrays_and_fetches_none(likelihood):
    model, *given = checks.small(likelihood, "strict")
    transfers.reset()
    model.loss_and_grads(*given)
    assert transfers.to_device <= 3 and transfers.to_host == 0


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_transfers_do_not_grow_with_the_number_of_steps(likelihood):
    model, *given = checks.small(likelihood, "strict", T=40)
    transfers.reset()
    model.loss_and_grads(*given)
    model.parts(*given)
    model.reconstruct(*given)
    assert transfers.to_device <= 9 and transfers.to_host == 0


def test_a_training_step_crosses_four_times():
    """x, lengths and eps in, the loss out."""
    model, *given = checks.small(backend="strict", dtype="float32")
    optimiser = Adam(model.theta)
    transfers.reset()
    loss, grads, _ = model.loss_and_grads(*given)
    clip_by_global_norm(grads, 1.0)
    optimiser.step(model.theta, grads, 1e-3)
    float(loss)
    assert transfers.total <= 4 and transfers.to_host <= 1


def test_arrays_that_are_on_the_device_are_not_sent_again():
    model, x, _, eps = checks.small(backend="strict")
    x, eps = checks.device("strict", x, eps)
    transfers.reset()
    model.loss_and_grads(x, None, eps)
    assert transfers.total == 0


@checks.on_device
def test_training_on_a_device_equals_training_on_numpy():
    thetas = []
    for name in checks.BACKENDS:
        model, *given = checks.small(backend=name, dtype="float32")
        optimiser = Adam(model.theta)
        for _ in range(3):
            _, grads, _ = model.loss_and_grads(*given)
            clip_by_global_norm(grads, 0.1)
            optimiser.step(model.theta, grads, 1e-2)
        thetas.append(model.theta)
    checks.assert_as_on_numpy(thetas[1], thetas[0])


# ---- the choice ----------------------------------------------------------------------------------


def test_arrays_carry_their_backend(array):
    assert namespace(np.eye(2)) is np and namespace(np.float64(1)) is np
    assert namespace(array) is strict.strict_namespace
    assert backend.backend_of(array).name == "strict"
    assert isinstance(relu(array), strict.StrictArray) and isinstance(relu(np.eye(2)), np.ndarray)


@pytest.mark.parametrize("value", [[1.0], 1.0, None, "a"], ids=repr)
def test_what_is_no_array_is_refused(value):
    with pytest.raises(BackendError, match=f"got {type(value).__name__}: convert it first"):
        namespace(value)


def test_a_tuple_of_results_is_to_be_unpacked():
    with pytest.raises(BackendError, match="got tuple: unpack or convert it first"):
        namespace((np.eye(2),))


@pytest.mark.parametrize("name", ["", "gpu", "NumPy", 3])
def test_an_unknown_backend_is_refused_by_name(name):
    with pytest.raises(BackendError, match=f'"{name}"'):
        tv.VRNN(x_dim=2, h_dim=2, z_dim=1, backend=name)


def fake_cupy(monkeypatch, get_device_count):
    """A stub of cupy that can only count devices, or no module."""
    real, runtime = importlib.import_module, SimpleNamespace(getDeviceCount=get_device_count)

    def import_module(name, *args):
        if name != "cupy":
            return real(name, *args)
        if get_device_count is None:
            raise ImportError("No module named 'cupy'")
        return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime), asarray=np.asarray, asnumpy=np.asarray)

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setitem(sys.modules, "cupy", None)
    backend._cupy_backend.cache_clear()


def no_driver():
    raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")


@pytest.fixture
def forget_cupy():
    yield
    backend._cupy_backend.cache_clear()


@pytest.mark.usefixtures("forget_cupy")
@pytest.mark.parametrize(
    "get_device_count, says",
    [(None, "not installed"), (lambda: 0, "no GPU"), (no_driver, "cudaErrorInsufficientDriver")],
    ids=["not installed", "no device", "no driver"],
)
def test_cupy_without_a_device_is_one_clear_sentence(monkeypatch, get_device_count, says):
    fake_cupy(monkeypatch, get_device_count)
    for _ in range(2):  # twice, since a failure must not be cached as a success
        with pytest.raises(BackendError) as error:
            tv.VRNN(x_dim=2, h_dim=2, z_dim=1, backend="cupy")
        message = str(error.value)
        assert says in message and 'use backend="numpy"' in message
        assert message.endswith(".") and "\n" not in message and ". " not in message
    if get_device_count is None:
        assert how_to_install("cuda13") in message and "cuda12" in message


@pytest.mark.usefixtures("forget_cupy")
def test_cupy_with_a_device_is_used(monkeypatch):
    fake_cupy(monkeypatch, lambda: 1)
    assert get_backend("cupy").name == "cupy"


# ---- the device's memory -------------------------------------------------------------------------


def stub_of_a_device(said, **attributes):
    """A Backend whose pools append to `said` when they are emptied, with 1,000 bytes free."""

    def pool(name):
        return lambda: SimpleNamespace(free_all_blocks=lambda: said.append(name))

    runtime = SimpleNamespace(memGetInfo=lambda: (1000, 4000))
    cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(attributes=attributes))
    pools = {f"get_default_{kind}": pool(kind) for kind in ("memory_pool", "pinned_memory_pool")}
    return get_backend("strict")._replace(name="cupy", xp=SimpleNamespace(cuda=cuda, **pools))


@pytest.mark.parametrize("error", [None, MemoryError, KeyboardInterrupt, BackendError, ZeroDivisionError])
def test_both_pools_are_emptied_once_at_the_end_of_the_outermost_context(error):
    said = []
    device = stub_of_a_device(said)
    expected = {None: (), MemoryError: BackendError}.get(error, error)
    with suppress(expected) if error is None else pytest.raises(expected):
        with backend.device_memory(device):
            with backend.device_memory(device):
                pass
            assert said == []
            if error:
                raise error
    assert said == ["memory_pool", "pinned_memory_pool"]


def test_the_free_memory_of_a_device_is_what_cuda_states():
    assert backend.free_memory(stub_of_a_device([])) == 1000


def test_numpy_keeps_its_own_memory_error():
    with pytest.raises(MemoryError, match="^full$"), backend.device_memory(get_backend("numpy")):
        raise MemoryError("full")


class Kept:
    """An object that says when it is released."""

    def __init__(self, said):
        self.said = said

    def __del__(self):
        self.said.append("released")


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, tv.DivergedError])
def test_the_arrays_of_a_failed_call_are_released_while_its_exception_is_kept(error):
    said = []

    def fail():
        array = Kept(said)
        raise error(f"{type(array).__name__} is in the way")

    with pytest.raises((BackendError, error)) as kept, backend.device_memory(stub_of_a_device(said)):
        fail()
    assert said == ["released", "memory_pool", "pinned_memory_pool"] and kept.value


def test_what_is_a_mistake_in_a_users_function_keeps_its_frames():
    def fail():
        number = 0
        return 1 / number

    with pytest.raises(ZeroDivisionError) as kept, backend.device_memory(get_backend("strict")):
        fail()
    assert kept.traceback[-1].locals["number"] == 0


@pytest.mark.parametrize("ratio, warned", [({"SingleToDoublePrecisionPerfRatio": n}, n >= 16) for n in (2, 16, 64)])
def test_a_slow_float64_is_warned_about(ratio, warned):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        backend.warn_of_slow_float64(stub_of_a_device([], **ratio))
    said = [str(one.message) for one in found]
    times = ratio["SingleToDoublePrecisionPerfRatio"]
    start = f"float64 takes up to {times} times as long as float32 on this GPU: train a model of dtype float32"
    assert len(said) == warned and all(one.startswith(start) for one in said)


@pytest.mark.parametrize("device", [stub_of_a_device([]), get_backend("strict"), get_backend("numpy")])
def test_a_device_that_states_no_ratio_is_not_warned_about(device, recwarn):
    backend.warn_of_slow_float64(device)
    assert not recwarn.list


OUT_OF_MEMORY = "Out of memory allocating 4,096 bytes (allocated so far: 512 bytes)"


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


@pytest.fixture
def full(monkeypatch):
    """Call it with a model, or without: from then on the device takes no array."""

    def asarray(array, dtype=None):
        raise OutOfMemoryError(f"{OUT_OF_MEMORY}.")

    def fill(model=None):
        monkeypatch.setattr(backend, "_STRICT", backend._STRICT._replace(asarray=asarray))
        if model is not None:
            vars(model)["backend"] = get_backend("strict")

    return fill


@pytest.mark.parametrize(
    "call",
    [
        lambda model, data, folder: tv.train(model, data, epochs=1, progress=False),
        lambda model, data, folder: tv.train(model, data, epochs=1, progress=False, device_data="no"),
        lambda model, data, folder: tv.bounds.evaluate_elbo(model, data.test),
        lambda model, data, folder: tv.bounds.evaluate(model, data.test, "iwae", 2),
        lambda model, data, folder: model.sample(2, 3),
        lambda model, data, folder: model.sample(2, 3, prime=np.zeros((2, 1, 4), "float32")),
        lambda model, data, folder: model.forecast(np.zeros((2, 1, 4), "float32"), 3, 2),
        lambda model, data, folder: setattr(model, "theta", to_host(model.theta)),
        lambda model, data, folder: tv.load(folder, backend="strict"),
        lambda model, data, folder: tv.VRNN(4, 3, 2, backend="strict"),
    ],
    ids="train train_no elbo iwae sample prime forecast theta load create".split(),
)
def test_out_of_memory_on_a_device_is_one_sentence(call, full, tmp_path):
    model, data = checks.small(backend="strict", dtype="float32")[0], checks.toy_data()
    tv.save(model, tmp_path)
    full(model)
    with pytest.raises(BackendError) as error:
        call(model, data, tmp_path)
    message = str(error.value)
    assert message.startswith(f"{OUT_OF_MEMORY}: use a smaller model, --batch, -n or --draws, fewer --particles,")
    assert message.endswith(" or --device-data no.") and "\n" not in message and ". " not in message


# ---- BLAS threads --------------------------------------------------------------------------------


def blas_threads():
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


BLAS_THREADS_AT_START = blas_threads()  # while tests are collected, before any of them runs


@pytest.fixture
def several():
    """The number of BLAS threads, restored even if a test fails."""
    before = BLAS_THREADS_AT_START
    if before <= {1}:
        pytest.skip("BLAS has one thread already")
    assert blas_threads() == before, "a test that ran before this one left BLAS changed"
    yield before
    if blas_threads() != before:
        for library in ThreadpoolController().lib_controllers:
            release = getattr(library, "clear_controlling_thread", lambda force: None)
            release(force=True)
            library.set_num_threads(max(before))
            release(force=True)


def in_another_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(timeout=10)


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(cpu.os, "process_cpu_count", lambda: 5, raising=False)  # Python 3.13
    assert cpu.available_cores() == 5
    monkeypatch.delattr(cpu.os, "process_cpu_count")
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda pid: {0, 5, 6} if pid == 0 else {0}, raising=False)
    assert cpu.available_cores() == 3
    monkeypatch.delattr(cpu.os, "sched_getaffinity")
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: 7)
    assert cpu.available_cores() == 7
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: None)
    assert cpu.available_cores() == 1


def test_one_blas_thread_inside_and_the_former_number_outside(several):
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == several


def test_one_blas_thread_can_be_nested(several):
    with one_blas_thread():
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == several


def test_one_blas_thread_is_undone_after_an_exception(several):
    with pytest.raises(ZeroDivisionError):
        with one_blas_thread():
            raise ZeroDivisionError
    assert blas_threads() == several


def test_one_blas_thread_works_in_any_thread_after_the_main_thread_used_it(several):
    def inside():
        with one_blas_thread():
            return blas_threads()

    assert inside() == {1}
    assert in_another_thread(inside) == {1}
    assert inside() == {1}
    assert blas_threads() == several


@pytest.mark.parametrize("first_to_leave", ["the one that came first", "the one that came last"])
def test_one_blas_thread_is_undone_when_all_threads_have_left(several, first_to_leave):
    came, leave = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            inside = blas_threads()
            came.set()
            leave.wait(10)
        return inside

    with ThreadPoolExecutor(1) as pool:
        if first_to_leave == "the one that came first":
            with one_blas_thread():
                result = pool.submit(other)
                assert came.wait(10)
        else:
            result = pool.submit(other)
            assert came.wait(10)
            with one_blas_thread():
                assert blas_threads() == {1}
        leave.set()
        assert result.result(10) == {1}
    assert blas_threads() == several


def test_one_blas_thread_leaves_threadpoolctl_to_the_user(several):
    """A limit that the user sets in another thread, after the main thread used ours, still takes effect."""
    with one_blas_thread():
        pass

    def users_own():
        with threadpool_limits(limits=1, user_api="blas"):
            return blas_threads()

    assert in_another_thread(users_own) == {1}
    assert blas_threads() == several


def test_no_call_of_the_model_leaves_the_number_of_blas_threads_changed(several):
    model, x, lengths, eps = checks.small()
    model.loss_and_grads(x, lengths, eps)
    model.elbo(x)
    model.reconstruct(x)
    model.sample(n=2, steps=2)
    with pytest.raises(tv.DataError):
        model.loss_and_grads(x[..., :1], lengths, eps)
    assert blas_threads() == several


# ---- imports -------------------------------------------------------------------------------------

# from the lowest to the highest; a module may import from its own room and from those before it
ROOMS = (
    "version errors io arrays data nn distributions models gradcheck bounds training runs __init__ one_page course "
    "cli __main__"
).split()


def module_paths():
    return sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """Absolute dotted names of all imports anywhere in a file that can be executed; `from a import b` counts as a.b."""
    for node in executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func) and node.args:
            if isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)


def executed(tree):
    """All nodes of a tree but those in `if TYPE_CHECKING:`, which only a type checker reads."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from executed(child)


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", module_paths(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_downwards(path):
    assert room(path) in ROOMS, f"give {room(path)} its place among the rooms in this test"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "tinyvrnn":
            target = parts[1] if parts[1] in ROOMS else "__init__"  # a name of the package itself, as __version__
            assert ROOMS.index(target) <= ROOMS.index(room(path)), f"{room(path)} imports {name}, which stands above it"


def test_only_the_seam_imports_cupy():
    assert [p.name for p in module_paths() if "cupy" in {n.split(".")[0] for n in imports(p)}] == ["backend.py"]


@pytest.mark.one_in(6)
@pytest.mark.parametrize("library", "autograd torch jax tensorflow scipy sklearn".split())
def test_the_package_imports_no_autodiff_and_no_other_library(library):
    """Except to read a .mat, a file format; pianoroll.py checks that it is installed."""
    found = {(p.name, n) for p in module_paths() for n in imports(p) if n.split(".")[0] == library}
    assert found == ({("mat.py", "scipy.io.loadmat"), ("pianoroll.py", "scipy")} if library == "scipy" else set())


def test_the_environment_names_the_default_backend(monkeypatch):
    monkeypatch.setenv("TINYVRNN_BACKEND", "strict")
    assert tv.VRNN(2, 3, 2).backend.name == get_backend().name == "strict"
    assert tv.VRNN(2, 3, 2, backend="numpy").backend.name == "numpy"
    monkeypatch.delenv("TINYVRNN_BACKEND")
    assert tv.VRNN(2, 3, 2).backend.name == "numpy"
