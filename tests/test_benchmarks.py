"""The commands of benchmarks/ run, compare the same model, and count the arithmetic correctly.

Catches: a benchmark broken by a change of the package, a peer that trains another model than tinyvrnn, a wrong count
behind "share of the peak", a traceback if a library is missing.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"
COMMANDS = {
    "step": ["--quick", "--sizes", "tiny"],
    "time_to_elbo": ["--quick", "--size", "tiny", "--sets", "vowels"],
    "sampling": ["--quick", "--sizes", "tiny"],
    "scaling": ["--quick", "--size", "tiny"],
    "breakdown": ["--quick", "--sizes", "tiny"],
    "memory": ["--quick", "--sizes", "tiny"],
    "launches": ["--sizes", "tiny"],
    "workers": ["--quick", "--sizes", "tiny"],
    "ranks": ["--quick", "--sizes", "tiny"],
}
BACKENDS = ["strict"]  # on which the commands for a device run here
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture
def benchmarks(monkeypatch):
    """Make the folder's modules importable, as they are for its commands."""
    monkeypatch.syspath_prepend(str(FOLDER))


def run(command, *arguments, without=()):
    """A command in another process, in which some libraries are missing."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({list(without)}))\n"
        f"sys.path.insert(0, {str(FOLDER)!r})\n"
        f"import {command}; sys.exit({command}.main({list(arguments)}))"
    )
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}
    )


def run_to_end(command, folder, *options, without=(), name=None):
    """Its standard output, its JSON, and its standard error. name: of the files, if not the command's."""
    done = run(command, *COMMANDS[command], *options, "--out", str(folder), without=without)
    assert done.returncode == 0, done.stdout + done.stderr
    if command != "launches":
        assert (folder / f"{name or command}.png").read_bytes().startswith(b"\x89PNG")
    return done.stdout, json.loads((folder / f"{name or command}.json").read_text()), done.stderr


# ---- the commands --------------------------------------------------------------------------------


@needs_torch
@pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", ["step", "memory", "scaling", "breakdown"])
def test_a_command_runs_to_its_end_and_writes_table_json_and_figure(command, tmp_path):
    out, written, _ = run_to_end(command, tmp_path / "new")
    assert written["machine"]["PyTorch"] in out and written["machine"]["JAX"] in out
    assert written["arguments"]["quick"] is True and len(written["results"]) >= 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command, library", [("workers", "joblib"), ("ranks", "mpi4py")])
def test_a_command_without_a_peer_runs_to_its_end(command, library, tmp_path):
    pytest.importorskip(library)
    out, written, _ = run_to_end(command, tmp_path)
    assert "tiny" in out and written["arguments"]["quick"] is True and written["results"]


@needs_torch
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_jax_the_step_is_timed_against_pytorch_and_says_what_is_missing(tmp_path):
    out, written, err = run_to_end("step", tmp_path, without=["jax"])
    assert err == 'JAX is not installed, so its columns are missing: run pip install ".[bench]"\n'
    assert set(written["results"][0]["ratios"]) == {"PyTorch", "PyTorch, batched"}
    assert "JAX, " not in out


@needs_torch
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("command", ["step", "time_to_elbo", "sampling", "memory"])
def test_a_command_runs_on_a_device(command, backend, tmp_path):
    """On a double of a GPU: arrays are transferred, and the results agree with the peers'."""
    options = ["--backend", backend, *(["--model", "rnn"] if command == "step" else [])]
    name = f"{'step_rnn' if command == 'step' else command}_{backend}"
    out, written, _ = run_to_end(command, tmp_path, *options, name=name)
    assert command == "memory" or "the same (relative differences" in out
    assert written["results"][0]["backend"] == backend


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_launches_of_a_step_are_counted_without_a_peer(backend, tmp_path):
    options, name = ["--backend", backend], f"launches_{backend}"
    out, written, _ = run_to_end("launches", tmp_path, *options, without=["torch", "jax"], name=name)
    assert all(f" {n} | {n} " in out for n in (22, 25, 5))  # as tests/test_kernels.py
    assert all(result["measured"] == result["predicted"] for result in written["results"])


def test_what_a_trace_of_a_gpu_counts(benchmarks):
    from launches import counted_in

    copies = ["HtoD (Pageable -> Device)", "DtoH (Device -> Pageable)", "DtoD (Device -> Device)"]
    events = [{"cat": "gpu_memcpy", "name": f"Memcpy {what}"} for what in copies]
    events += [{"cat": cat, "name": ""} for cat in ("kernel", "kernel", "gpu_memset", "cuda_runtime", "cpu_op")]
    found = counted_in([*events, {"ph": "M", "name": "process_name"}])
    assert found == {"kernels": 2, "fills": 1, "copies": 1, "to device": 1, "to host": 1}


def test_without_a_gpu_the_step_on_cupy_is_refused_in_one_sentence():
    done = run("step", "--quick", "--backend", "cupy", without=["cupy"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('backend="cupy" needs CuPy') and done.stderr.count("\n") == 1


@needs_torch
def test_a_gpu_is_not_compared_with_a_pytorch_on_the_cpu(benchmarks, monkeypatch, capsys):
    import machine
    import report

    monkeypatch.setattr(machine, "peer_device", lambda backend: "cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert report.cannot_compare("strict")
    assert "sees no GPU, and a GPU is not compared with a CPU.\n" in capsys.readouterr().err


def test_scaling_needs_no_peer(tmp_path):
    out, written, _ = run_to_end("scaling", tmp_path, without=["torch", "jax"])
    assert [result["variable"] for result in written["results"]] == ["T", "B"]
    assert "seconds ~ T^" in out and "seconds ~ B^" in out


def test_the_breakdown_needs_no_peer_and_counts_each_product(tmp_path, benchmarks):
    from breakdown import PARTS, PRODUCTS
    from sizes import LAYERS, SIZES, weights_per_row

    out, written, _ = run_to_end("breakdown", tmp_path, without=["torch", "jax"])
    (result,) = written["results"]
    assert result["sequences"] == SIZES["tiny"].B and all(part in out for part in PARTS)
    for found in result["rounds"]:
        assert sum(found[part] for part in PARTS) == pytest.approx(found["step"])
        work = {part: found[f"{part}, at the peak"] * found["peak_flops_per_second"] for part in PRODUCTS}
        assert sum(work.values()) == pytest.approx(SIZES["tiny"].flops)
        X, H, Z, B, T = SIZES["tiny"]
        forward = sum(weights_per_row(X, H, Z, H, LAYERS).values())
        assert work["weight gradients"] == pytest.approx(2 * T * B * forward)


@pytest.mark.parametrize("command", ["memory", "sampling", "step", "time_to_elbo"])
@pytest.mark.one_in(3)
def test_without_torch_a_command_says_what_it_needs(command):
    done = run(command, "--quick", without=["torch"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'This benchmark needs PyTorch: run pip install ".[bench]"\n'


@pytest.mark.parametrize("command", ["step", "sampling"])
def test_too_few_rounds_for_a_median_are_refused(command):
    done = run(command, "--rounds", "3", without=["torch"])
    assert done.returncode == 2 and "--rounds must be at least 7, or fewer with --quick." in done.stderr


def test_a_size_to_compile_must_be_one_that_is_timed():
    done = run("step", "--quick", "--sizes", "tiny", "--compile", "tiny", "speech", without=["torch"])
    assert done.returncode == 2 and "--compile speech: name that size in --sizes, too." in done.stderr


# ---- the peers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("schedule", ["loop", "batched"])
@pytest.mark.parametrize("Z", [2, 0])
def test_pytorch_trains_the_same_with_ragged_batches(benchmarks, Z, schedule, likelihood):
    """Against the model itself, with padding that is not zero, so a forgotten mask would show."""
    pytest.importorskip("torch")
    from trainers import TorchTrainer

    from tinyvrnn import RNN, VRNN
    from tinyvrnn.arrays.params import leaves, views

    options, rng = {"features": 5, "likelihood": likelihood, "seed": 1}, np.random.default_rng(0)
    model = VRNN(3, 5, Z, **options) if Z else RNN(3, 5, **options)
    x, eps = (rng.random((6, 4, 3)) < 0.5).astype("float32"), rng.standard_normal((6, 4, Z), dtype="float32")
    lengths = np.array([6, 1, 4, 2])
    loss, grads, parts = model.loss_and_grads(x, lengths, eps)
    peer = TorchTrainer(model, schedule)
    batch = peer.batch(x, eps, lengths)
    np.testing.assert_allclose(peer.elbos(*batch), parts.elbo, rtol=1e-5)
    peer_loss, peer_grads = peer.loss_and_grads(*batch)
    np.testing.assert_allclose(peer_loss, loss, rtol=1e-5)
    for name, gradient in leaves(views(grads, model.shapes)):
        np.testing.assert_allclose(peer_grads[name], gradient, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("wrong", ["loss", "grads", "loss_after_3_steps"])
def test_a_peer_that_computes_something_else_is_not_timed(benchmarks, wrong):
    import verify

    right = verify.Results(2.0, {"prior.W1": np.ones(3), "prior.b1": np.ones(3)}, 1.5)
    assert verify.compare(right, right, "PyTorch") == {"loss": 0, "gradient": 0, "loss_after_3_steps": 0}
    for value in (1.01, np.nan):
        changed = {"prior.W1": np.ones(3), "prior.b1": np.array([1, 1, value])}
        other = right._replace(**{wrong: changed if wrong == "grads" else getattr(right, wrong) * value})
        with pytest.raises(SystemExit, match="PyTorch does not compute what tinyvrnn does and is not timed: the "):
            verify.compare(right, other, "PyTorch")


@pytest.mark.parametrize("error", [RuntimeError("no compiler\nand much more"), SystemExit("another loss")])
def test_a_peer_that_fails_is_left_out_and_a_required_one_ends_the_command(benchmarks, error):
    import step

    class Broken:
        def loss_and_grads(self):
            raise error

    peer, found = step.Peer(Broken(), {}), {"compile_seconds": {}, "failures": {}}
    assert not step.verified("JAX, loop", peer, (), None, found)
    assert found["failures"] == {"JAX, loop": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    with pytest.raises(type(error)):
        step.verified("PyTorch, batched", peer, (), None, found)


# ---- the count of arithmetic ---------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """2 n D K for each np.matmul (n, D) @ (D, K), as it runs."""
    found, matmul = [], np.matmul

    def counting(a, b, **options):
        found.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return matmul(a, b, **options)

    monkeypatch.setattr(np, "matmul", counting)
    return found


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("Z", [3, 0])
def test_the_count_of_flops_is_what_a_step_multiplies(benchmarks, counted, Z, layers):
    from sizes import flops

    from tinyvrnn import RNN, VRNN

    X, H, F, B, T = 7, 5, 11, 4, 6
    options, rng = {"features": F, "layers": layers}, np.random.default_rng(0)
    model = VRNN(X, H, Z, **options) if Z else RNN(X, H, **options)
    x, eps = rng.integers(0, 2, (T, B, X)).astype("float32"), rng.standard_normal((T, B, Z), dtype="float32")
    model.loss_and_grads(x, eps=eps)
    of_x = 0 if Z else 2 * T * B * X * F  # the RNN also forms the gradient of x, which nobody needs
    assert sum(counted) == flops(X, H, Z, F, layers, B, T) + of_x


def test_the_count_of_flops_of_sampling_is_what_a_sample_multiplies(benchmarks, counted):
    from sizes import SIZES
    from trainers import new_model

    new_model(SIZES["tiny"]).sample(9, 5)
    assert sum(counted) == SIZES["tiny"].flops_of_sampling(9, 5)


def test_the_count_of_flops_is_what_pytorch_counts_but_for_the_edges(benchmarks):
    """Autograd omits unneeded products: the gradients of h_0, and the last step of the GRU backward."""
    pytest.importorskip("torch")
    from sizes import LAYERS, SIZES, flops, make_batch
    from torch.utils.flop_counter import FlopCounterMode
    from trainers import TorchTrainer, new_model

    X, H, Z, B, T = SIZES["tiny"]
    peer = TorchTrainer(new_model(SIZES["tiny"]))
    batch = peer.batch(*make_batch(SIZES["tiny"]))
    with FlopCounterMode(display=False) as counter:
        peer.loss_and_grads(*batch)
    of_h_0 = H * H + H * 3 * H  # in the prior and in the GRU; the encoder's and the decoder's come with phi's
    last_gru = 2 * (2 * H * 3 * H + H * 3 * H)
    assert counter.get_total_flops() == flops(X, H, Z, H, LAYERS, B, T) - 2 * B * (of_h_0 + last_gru)
