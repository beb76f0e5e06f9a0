"""Other systems, faked here: Python in a browser (no threads, processes or home, 32-bit indices), Windows and macOS.

Catches: a count that is int64 where NumPy needs an index; a thread or a process without which a command, a check or a
training stops; a warning of a library that looks for either; an endless answer that takes the only thread with it; a
start that waits for matplotlib; a file that a viewer has open; a worker with a console window.
"""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn.arrays import cpu
from tinyvrnn.course import EXERCISES, sandbox, tampering
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.data.sequences import Sequences, rows_of
from tinyvrnn.errors import DataError
from tinyvrnn.io import files, streams
from tinyvrnn.models import sampling
from tinyvrnn.training import worker

ROOT = Path(__file__).parent.parent


def refuses(error):
    def start(*arguments, **options):
        raise error

    return start


@pytest.fixture
def browser(monkeypatch):
    """No threads, processes or home folder, and indices of 32 bits."""
    repeat = np.repeat

    def repeat_32(a, repeats, axis=None):
        if not np.can_cast(getattr(repeats, "dtype", np.int32), np.int32, "safe"):
            raise TypeError("Cannot cast array data from dtype('int64') to dtype('int32') according to the rule 'safe'")
        return repeat(a, repeats, axis)

    monkeypatch.setattr(threading.Thread, "start", refuses(RuntimeError("can't start new thread")))
    monkeypatch.setattr(subprocess.Popen, "__init__", refuses(OSError("emscripten does not support processes.")))
    monkeypatch.setattr(files, "BROWSER", True)
    monkeypatch.setitem(sys.modules, "filelock", None)  # it warns that it has no locks
    monkeypatch.setattr(np, "intp", np.int32)
    monkeypatch.setattr(np, "repeat", repeat_32)
    monkeypatch.setattr(tampering, "replaced", lambda: None)  # NumPy's functions are, here
    for name in ("sched_getaffinity", "process_cpu_count"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # as Pyodide says
    monkeypatch.setattr(worker, "_resting", [])
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("TINYVRNN_HOME", raising=False)


# ---- a browser -------------------------------------------------------------------------------------------------------


def test_in_a_browser_a_model_trains_and_samples(browser, monkeypatch):
    monkeypatch.setattr(sampling, "ROWS", 3)  # more than one part
    data = tv.load_data("digits8")
    model = tv.VRNN(data.x_dim, 4, 2, likelihood="bernoulli")
    assert len(tv.train(model, data, epochs=1, batch=500, workers=2, progress=True)) == 1
    assert model.sample(7, 2).shape == (2, 7, data.x_dim)


def test_in_a_browser_a_run_is_kept_and_resumed(browser, tmp_path):
    data = tv.load_data("digits8")
    for resume, epochs in ((False, 1), (True, 2)):
        model = tv.VRNN(data.x_dim, 4, 2, likelihood="bernoulli")
        with tv.Run(tmp_path / "run", resume=resume) as run:
            assert len(tv.train(model, data, run=run, epochs=epochs, batch=500, workers=1)) == epochs
    assert ".lock" not in os.listdir(tmp_path / "run")


def test_in_a_browser_progress_is_kept_whatever_a_closed_page_left(browser, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYVRNN_HOME", str(tmp_path))
    (tmp_path / ".course.json.lock").touch()
    tv.course.progress.record("06.1", True)
    assert tv.course.progress.read() == {"06.1": {"passed": True, "tries": 1}}


def test_in_a_browser_all_lengths_are_indices(browser):
    values, lengths = np.arange(12.0).reshape(6, 2), np.array([1, 3, 2])
    for sequences in (Sequences(values, lengths), Mapped.of_rows(values, lengths, "here")):
        assert sequences.lengths.dtype == sequences[1:].lengths.dtype == np.int32
        assert sequences.time().tolist() == [0, 0, 1, 2, 0, 1]
    assert rows_of(np.array([4, 0]), sequences.lengths[:2]).tolist() == [4, 0, 1, 2]


def test_a_length_beyond_the_systems_indices_is_refused(browser):
    with pytest.raises(DataError, match="overflows int32"):
        Sequences(np.ones((2, 1)), np.array([1, 2**31]))


@pytest.mark.parametrize("number", ["01.1", "06.1"])
def test_in_a_browser_exercises_are_graded(browser, number):
    right = EXERCISES[number].reference
    assert "right" in repr(tv.course.grader.grade(number, EXERCISES[number], right, trusted=True))
    with pytest.raises(sandbox.NotYet, match="the answer itself"):
        tv.course.check(number, right)


def loops():
    while True:
        pass


@pytest.mark.parametrize("answer", [loops, lambda: [0 for _ in iter(int, 1)]])
def test_in_a_browser_an_endless_loop_is_stopped(browser, answer):
    start, before = time.perf_counter(), sys.gettrace()
    with pytest.raises(sandbox.NotYet, match="still running"):
        sandbox.run(answer, (), seconds=0.1)
    assert time.perf_counter() - start < 5 and sys.gettrace() is before


def test_in_a_browser_endless_recursion_ends_far_from_the_interpreters_limit(browser):
    limit, deepest = sys.getrecursionlimit(), []

    def nests():
        deepest.append(sys.getrecursionlimit())
        return nests()

    with pytest.raises(sandbox.NotYet, match="calls itself without end"):
        sandbox.run(nests, ())
    assert len(deepest) <= sandbox.DEPTH < limit and sys.getrecursionlimit() == limit


def test_in_a_browser_a_mat_is_refused_in_a_sentence(browser, tmp_path):
    pytest.importorskip("scipy")
    (tmp_path / "roll.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(DataError, match="a process of its own, and none can start here: save it as .npz"):
        tv.load_data(tmp_path / "roll.mat")


def test_no_thread_watches_a_progress_bar(browser):
    bar = streams.bar(range(3))
    assert list(bar) == [0, 1, 2] and type(bar).monitor is None


def test_the_largest_size_is_that_of_the_machine():
    assert 2**tv.errors.SIZE - 1 == sys.maxsize


# ---- a fast start ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "not_loaded"),
    [
        ("import tinyvrnn", {"matplotlib", "tqdm", "filelock", "tinyvrnn.course", "PIL", "scipy", "IPython"}),
        ("from tinyvrnn import cli; cli.main(['data', 'digits8'])", {"matplotlib", "nbclient", "IPython"}),
        ("from tinyvrnn import cli; cli.main(['gradcheck', '--help'])", {"matplotlib", "nbclient", "IPython"}),
    ],
)
def test_nothing_is_imported_that_is_not_used(code, not_loaded):
    code = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not not_loaded & set(loaded)


# ---- Windows and macOS -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusals", [1, 20, 21])
def test_a_file_that_a_viewer_has_open_is_replaced_when_it_is_free(tmp_path, monkeypatch, refusals):
    replace, tries = os.replace, []

    def busy(new, path):
        tries.append(path)
        if len(tries) <= refusals:
            raise PermissionError(13, "Access is denied", str(path))
        replace(new, path)

    monkeypatch.setattr(files, "RETRIES", 20)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(os, "replace", busy)
    (tmp_path / "file").write_text("old")
    if refusals > 20:
        with pytest.raises(PermissionError):
            files.write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    else:
        files.write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert (tmp_path / "file").read_text() == ("old" if refusals > 20 else "new")
    assert os.listdir(tmp_path) == ["file"]


def test_every_file_is_replaced_by_the_function_that_retries():
    for path in (ROOT / "tinyvrnn").rglob("*.py"):
        expected = 2 if path.name == "files.py" else 0
        assert path.read_text(encoding="utf-8").count("os.replace(") == expected, path


def test_processes_have_no_console_and_ctrl_c_does_not_reach_a_worker(monkeypatch):
    given = {}

    def popen(program, **options):
        given.update(options)
        raise OSError

    monkeypatch.setattr(worker, "NO_WINDOW", 0x08000000)
    monkeypatch.setattr(subprocess, "Popen", popen)
    assert worker.Worker().ended
    assert given["creationflags"] == 0x08000000 and given["start_new_session"]
    assert given["env"] == os.environ | {"VECLIB_MAXIMUM_THREADS": "1"}
    for path in (ROOT / "tinyvrnn").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(re.findall(r"subprocess\.(?:run|Popen)\(", text)) == text.count('"creationflags": NO_WINDOW'), path


@pytest.mark.parametrize("sysconf", [refuses(AttributeError()), refuses(ValueError()), refuses(OSError())])
def test_memory_that_a_system_does_not_tell_is_no_limit(monkeypatch, sysconf):
    monkeypatch.setattr(os, "sysconf", sysconf, raising=False)
    cpu._memory.cache_clear()
    cpu.check_memory(2**50, "float32", "This model")
    cpu._memory.cache_clear()
