"""Training under mpiexec (arrays/ranks.py): 1 to 4 processes train as one does, and end together.

Catches: a slice that is left out or counted twice; noise, order, learning rate or a stop that differs between ranks; a
rank that writes or prints as well; ranks that wait for one that has died, hangs or raised; a run that does not resume.
"""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import checks
import numpy as np
import pytest
import test_determinism

import tinyvrnn as tv
from runs import OPTIONS, small_data, small_model
from tinyvrnn import cli
from tinyvrnn.arrays import ranks
from tinyvrnn.runs import run
from tinyvrnn.training import loop

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
RUNS = sorted(test_determinism.RUNS)
RANKS = (1, 2, 3, 4)
BOUNDS = {"float64": 1e-12, "float32": 2e-5}
pytestmark = [
    pytest.mark.skipif(MPIEXEC is None, reason="needs mpiexec, of the extra `mpi`"),
    pytest.mark.xdist_group("mpiexec"),
]


def mpiexec(size, call):
    """The finished process of `size` ranks of Python that evaluate `call` in this module."""
    pytest.importorskip("mpi4py")
    paths = os.pathsep.join(map(str, [Path(tv.__file__).parent.parent, Path(__file__).parent]))
    command = [MPIEXEC, "-n", str(size), sys.executable, "-c", f"import test_ranks; test_ranks.{call}"]
    told = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=60)


# ---- the same numbers --------------------------------------------------------------------------------


def train_all(path):
    """Write the weights, the records and an evaluation of each run, from rank 0."""
    found = {}
    for name in RUNS:
        model, records = test_determinism.trained(name, 1)
        for record in records:
            del record["seconds"]
        found |= {f"{name} theta": model.theta, f"{name} records": np.array(json.dumps(records))}
    found["strict"] = train_on("strict").get()
    if ranks.world().rank == 0:
        np.savez(path, **found)


def train_on(backend):
    """The weights of a short run on a backend."""
    model, *_ = checks.small(backend=backend, dtype="float32")
    tv.train(model, checks.toy_data(), progress=False, epochs=1, batch=5)
    return model.theta


@functools.cache
def found(size, folder, attempt=0):
    path = folder / f"{size}-{attempt}.npz"
    done = mpiexec(size, f"train_all({str(path)!r})")
    assert done.returncode == 0 and done.stdout == done.stderr == "", done.stderr[-2000:]
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.mark.parametrize("size", RANKS)
@pytest.mark.one_in(3)
def test_ranks_train_as_one_process(size, folder):
    """Weights after two epochs, relative to the largest, and each number of the records. One rank: the same bits."""
    arrays = found(size, folder)
    checks.assert_close(arrays["strict"], train_on("numpy"), BOUNDS["float32"], "on a device")
    for name in RUNS:
        model, records = test_determinism.trained(name, 1)
        bound = BOUNDS[model.dtype]
        checks.assert_close(arrays[f"{name} theta"], model.theta, bound, f"{name} of {size} ranks")
        assert size > 1 or np.array_equal(arrays[f"{name} theta"], model.theta)
        for record, other in zip(records, json.loads(str(arrays[f"{name} records"])), strict=True):
            for part in ("train", "valid"):
                assert other[part] == pytest.approx(record[part], rel=bound, abs=bound)
            assert [other[key] for key in ("epoch", "step", "lr")] == [record[key] for key in ("epoch", "step", "lr")]


@pytest.mark.parametrize("size", [3])
@pytest.mark.slow
def test_a_number_of_ranks_gives_the_same_bits_twice(size, folder):
    first, second = (found(size, folder, attempt) for attempt in (0, 1))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_ranks_agree_on_the_time_that_a_learning_rate_follows(tmp_path):
    """Otherwise their weights would differ at the end of the epoch."""
    call = f"train_small({str(tmp_path / 'run')!r}, epochs=None, minutes=0.01, patience=10**6)"
    assert mpiexec(2, call).returncode == 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) > 1


def command(*words):
    raise SystemExit(cli.main(words))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("bound", ["elbo", "fivo"])
def test_ranks_evaluate_as_one_process_and_one_prints(bound, run_folder, capsys):
    words = ["evaluate", run_folder, "--json", "--bound", bound, *(["--particles", "3"] if bound == "fivo" else [])]
    assert cli.main(words) == 0
    expected = json.loads(capsys.readouterr().out)
    done = json.loads(mpiexec(3, f"command(*{words})").stdout)
    assert done.keys() == expected.keys() and len(done["baselines"]) == 2
    for name, value in done.items():
        plain = isinstance(value, str)
        assert value == (expected[name] if plain else pytest.approx(expected[name], rel=1e-5)), name


@pytest.fixture(scope="module")
def run_folder(folder):
    with pytest.raises(SystemExit, match="0"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "total", loop.total)
        patch.setattr(cli.commands.report, "draw_pictures", None)
        run_command(str(folder / "run"))
    return str(folder / "run")


# ---- stopping and resuming ---------------------------------------------------------------------------


def train_small(folder, stop=None, **given):
    """A run in `folder`; stop: a signal that the last rank alone gets, in the fourth batch."""
    model, gradient, calls = small_model(), tv.VRNN.gradient, []

    def counted(self, *arguments):
        calls.append(1)
        if stop and len(calls) == 4 and ranks.world().rank == ranks.world().size - 1:
            signal.raise_signal(stop)
        return gradient(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tv.VRNN, "gradient", counted)
        try:
            tv.train(model, small_data("gaussian"), run=tv.Run(folder, resume=True), **OPTIONS | given)
        except KeyboardInterrupt as stopped:
            assert stop and "is intact, and --resume" in str(stopped) and ranks.world().rank == 0 or ranks.world().rank
    return model.theta


@pytest.mark.one_in(2)
@pytest.mark.parametrize("first, then", [(2, 1), (1, 3)])
def test_a_run_is_stopped_by_a_signal_to_one_rank_and_resumed_by_another_number(first, then, tmp_path):
    for size, stop in ((first, int(signal.SIGTERM)), (then, None)):
        done = mpiexec(size, f"train_small({str(tmp_path / 'run')!r}, {stop})")
        assert done.returncode == 0 and done.stderr.count("Stopping after this batch") == (stop is not None)
    with np.load(tmp_path / "run" / "checkpoint.npz") as arrays:
        checks.assert_close(arrays["theta"], train_small(tmp_path / "other"), BOUNDS["float32"], "resumed")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == [3, 6, 9, 12]


# ---- an end of all, in one sentence ------------------------------------------------------------------


def raising(error):
    def fail(*arguments, **options):
        raise error

    return fail


def weights_change(model):
    model.theta += 1e-3


def disk_fills(*_):
    run.checkpoint.write = raising(OSError(28, "No space left on device"))


def is_nan(model):
    model.theta[:] = np.nan


FAULTS = {  # name -> rank, what happens in its third epoch, the exit code, a part of the only line on standard error
    "hangs": (1, lambda *_: os.kill(os.getpid(), signal.SIGSTOP), 2, "A rank of 2 has not answered for"),
    "hangs at the head": (0, lambda *_: os.kill(os.getpid(), signal.SIGSTOP), 2, "A rank of 2 has not answered"),
    "dies": (1, lambda *_: os.kill(os.getpid(), signal.SIGKILL), 9, None),
    "cannot read": (1, raising(OSError(5, "Input/output error", "x.npy")), 2, "x.npy: Input/output error"),
    "refuses": (1, raising(tv.DataError("No.")), 2, "tinyvrnn: No."),
    "fills the disk": (0, disk_fills, 2, "No space left on device; the last save is intact"),
    "has other weights": (1, weights_change, 2, "The weights differ between the 2 ranks"),
    "meets NaN": (1, is_nan, 2, "Training met a number that is not finite at step 50"),
}


def run_command(out, fault=None, *more):
    """The command `train` in a rank, with a fault; exits with its code."""
    at, what, *_ = FAULTS[fault] if fault else (None, None)
    total, calls = loop.total, []

    def faulty(model, found, count):
        calls.append(1)
        if len(calls) == 50 and ranks.world().rank == at:
            what(model)
        return total(model, found, count)

    if fault and "hangs" in fault:
        ranks.PATIENCE = 2.0
    loop.total, cli.commands.report.draw_pictures = faulty, lambda *_: None
    small = ["--hidden", "4", "--latent", "2", "--layers", "1", "--epochs", "4", "--workers", "1"]
    raise SystemExit(cli.main(["train", "digits8", *small, "--out", out, *more]))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_rank_that_fails_ends_all_with_one_sentence_and_a_run_that_resumes(fault, tmp_path):
    out, (_, _, code, says) = str(tmp_path / "run"), FAULTS[fault]
    began = time.monotonic()
    done = mpiexec(2, f"run_command({out!r}, {fault!r})")
    assert done.returncode == code and time.monotonic() - began < 30
    assert "epoch 2" in done.stdout and "epoch 3" not in done.stdout
    if says:  # mpiexec itself names a process that was killed
        assert says in done.stderr and len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr
    again = mpiexec(1, f"run_command({out!r}, None, '--resume')")
    assert again.returncode == 0 and "holds a run: it is resumed" in again.stdout and "of 4 epochs" in again.stdout


@pytest.mark.parametrize("words", [["--epoch", "3"], ["--overwrite", "--bound", "eblo"]])
def test_a_mistake_in_all_ranks_is_explained_once(words, tmp_path):
    done = mpiexec(3, f"run_command({str(tmp_path)!r}, None, *{words})")
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_ranks_of_other_options_are_found_at_once(tmp_path):
    call = f"run_command({str(tmp_path / 'run')!r}, None, '--seed', str(int(test_ranks.ranks.world().rank == 1)))"
    done = mpiexec(2, call)
    assert done.returncode == 2 and "The model, data or options differ between the 2 ranks" in done.stderr


def test_without_mpi4py_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    ranks.world.cache_clear()
    try:
        assert cli.main(["data"]) == 2
    finally:
        ranks.world.cache_clear()
    assert "2 processes were started, but mpi4py fails: run pip install" in capsys.readouterr().err
