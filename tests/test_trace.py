"""How far it is to the mathematics: the frames above the first matrix product, and the lines that one gradient runs.

Catches: a layer of forwarding that grows back between a call and the first product, and helpers that multiply.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn import cli

PACKAGE = str(Path(tv.__file__).parent)


class Stop(Exception):
    pass


def frames_to_the_first_product(monkeypatch, call):
    """The functions of the package on the stack at the first call of NumPy's matmul, the outermost first."""

    def matmul(*arguments, **options):
        frame, names = sys._getframe(1), []
        while frame is not None:
            names.insert(0, frame.f_code.co_name)
            frame = frame.f_back if frame.f_code.co_filename.startswith(PACKAGE) else None
        raise Stop(names[1:])  # the first is this file's

    monkeypatch.setattr(np, "matmul", matmul)
    with pytest.raises(Stop) as stopped:
        call()
    return stopped.value.args[0]


def test_six_frames_from_loss_and_grads_to_the_first_product(monkeypatch):
    model, x = tv.VRNN(8, 6, 3), np.zeros((4, 2, 8), "float32")
    names = frames_to_the_first_product(monkeypatch, lambda: model.loss_and_grads(x))
    assert names[0] == "loss_and_grads" and len(names) <= 6, names


def test_twelve_frames_from_the_command_to_the_first_product(monkeypatch, tmp_path):
    words = ["train", "digits8", "--hidden", "4", "--latent", "2", "--epochs", "1", "--workers", "1"]
    names = frames_to_the_first_product(monkeypatch, lambda: cli.main([*words, "--out", str(tmp_path / "run")]))
    assert names[0] == "main" and len(names) <= 12, names


def lines_run(call):
    """The (file, line) pairs of the package that a call runs."""
    lines = set()

    def trace(frame, event, _):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines


def test_one_gradient_runs_at_most_400_lines():
    """Bernoulli, GRU, no lengths, as a student calls it first."""
    model, x = tv.VRNN(8, 6, 3), np.zeros((4, 2, 8), "float32")
    model.loss_and_grads(x)  # what is done once for a process is not counted
    lines = lines_run(lambda: model.loss_and_grads(x))
    assert len(lines) <= 400, f"{len(lines)} lines of {len({file for file, _ in lines})} files"
