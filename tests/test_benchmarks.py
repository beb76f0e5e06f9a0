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
}
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


def run_to_end(command, folder, without=()):
    """Its standard output, its JSON, and its standard error."""
    done = run(command, *COMMANDS[command], "--out", str(folder), without=without)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / f"{command}.png").read_bytes().startswith(b"\x89PNG")
    return done.stdout, json.loads((folder / f"{command}.json").read_text()), done.stderr


# ---- the commands --------------------------------------------------------------------------------


@needs_torch
@pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_to_its_end_and_writes_table_json_and_figure(command, tmp_path):
    out, written, _ = run_to_end(command, tmp_path / "new")
    assert written["machine"]["PyTorch"] in out and written["machine"]["JAX"] in out
    assert written["arguments"]["quick"] is True and len(written["results"]) >= 1


@needs_torch
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_jax_the_step_is_timed_against_pytorch_and_says_what_is_missing(tmp_path):
    out, written, err = run_to_end("step", tmp_path, without=["jax"])
    assert err == 'JAX is not installed, so its columns are missing: pip install "tinyvrnn[bench]"\n'
    assert set(written["results"][0]["ratios"]) == {"PyTorch", "PyTorch, batched"}
    assert "JAX, " not in out


@needs_torch
@pytest.mark.slow
def test_a_step_on_a_device_is_timed_against_pytorch_alone(tmp_path):
    """On strict instead of a GPU: the batch is transferred before anything is timed, and the results are the same."""
    done = run("step", "--quick", "--sizes", "tiny", "--backend", "strict", "--out", str(tmp_path))
    assert done.returncode == 0 and "PyTorch, batched computes the same" in done.stdout, done.stderr
    (result,) = json.loads((tmp_path / "step_strict.json").read_text())["results"]
    assert result["backend"] == "strict" and set(result["ratios"]) == {"PyTorch", "PyTorch, batched"}


def test_without_a_gpu_the_step_on_cupy_is_refused_in_one_sentence():
    done = run("step", "--quick", "--backend", "cupy", without=["cupy"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('backend="cupy" needs CuPy') and done.stderr.count("\n") == 1


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


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"scaling", "breakdown"}))
def test_without_torch_a_command_says_what_it_needs(command):
    done = run(command, "--quick", without=["torch"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'This benchmark needs PyTorch as the peer: pip install "tinyvrnn[bench]"\n'


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
def test_pytorch_trains_the_same_with_ragged_batches(benchmarks, schedule, likelihood):
    """Against the model itself, with padding that is not zero, so a forgotten mask would show."""
    pytest.importorskip("torch")
    from trainers import TorchTrainer

    from tinyvrnn import VRNN
    from tinyvrnn.arrays.params import leaves, views

    model, rng = VRNN(3, 5, 2, features=5, likelihood=likelihood, seed=1), np.random.default_rng(0)
    x, eps = (rng.random((6, 4, 3)) < 0.5).astype("float32"), rng.standard_normal((6, 4, 2), dtype="float32")
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
        with pytest.raises(SystemExit, match="do not compute the same, so nothing is timed"):
            verify.compare(right, other, "PyTorch")


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
def test_the_count_of_flops_is_what_a_step_multiplies(benchmarks, counted, layers):
    from sizes import flops

    from tinyvrnn import VRNN

    X, H, Z, F, B, T = 7, 5, 3, 11, 4, 6
    model, rng = VRNN(X, H, Z, features=F, layers=layers), np.random.default_rng(0)
    x, eps = rng.integers(0, 2, (T, B, X)).astype("float32"), rng.standard_normal((T, B, Z), dtype="float32")
    model.loss_and_grads(x, eps=eps)
    assert sum(counted) == flops(X, H, Z, F, layers, B, T)


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
