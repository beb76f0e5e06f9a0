"""The code of docs/how_to.md does what its section says.

Catches: a section whose code no longer runs, and a training loop of a user's own that computes something else than
`train`.
"""

import re
import shlex
from pathlib import Path

import checks
import numpy as np
import pytest
from test_infer import TITLES

import tinyvrnn as tv
from runs import small_model
from tinyvrnn import cli
from tinyvrnn.cli import report
from tinyvrnn.nn import gru
from tinyvrnn.training import parallel

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "how_to.md").read_text(encoding="utf-8")


def blocks(section):
    """(language, text) of each fenced block of a section."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(section, old="", new=""):
    """The names that the Python of a section leaves behind; `old` in its text is replaced first."""
    code, names = "\n".join(text for language, text in blocks(section) if language == "python"), {}
    assert old in code
    exec(compile(code.replace(old, new), section, "exec"), names)
    return names


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loop_of_ones_own_has_the_weights_of_train_bit_for_bit(workers):
    found = run("Write your own training loop", "Workers()", f"Workers({workers})")["model"]
    data = tv.load_data("digits8")
    model = tv.VRNN(x_dim=data.x_dim, h_dim=16, z_dim=4)
    tv.train(model, data, progress=False, epochs=2, workers=workers, lr_schedule="constant")
    assert (found.theta == model.theta).all()


ELSEWHERE = [*TITLES, "What comes next? (forecast)"]  # run by tests/test_infer.py and tests/test_forecast.py
SECTIONS = [title for title in re.findall(r"^## (.*)$", PAGE, re.MULTILINE) if title not in ELSEWHERE]


@pytest.mark.parametrize("section", SECTIONS)
def test_the_commands_and_the_python_of_a_section_run_in_their_order(section, tmp_path, monkeypatch):
    """With smaller models than the page's, and without pictures, which take seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "draw_pictures", lambda *_: None)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    names = {}
    for language, code in blocks(section):
        if language == "sh":
            commands = [shlex.split(line)[1:] for line in code.splitlines()]
            assert all(cli.main([*words, "--hidden", "8", "--latent", "2"]) == 0 for words in commands)
        elif "import torch" not in code or pytest.importorskip("torch"):
            exec(compile(code, section, "exec"), names)


def test_weights_from_keras_give_the_step_of_keras():
    """With reset_after=True: blocks update, reset, new; bias (2, 3H) of the input and of the state."""
    draw = np.random.default_rng(0)
    kernel, recurrent, bias = (draw.standard_normal(shape) for shape in ((4, 9), (3, 9), (2, 9)))
    x, h = draw.standard_normal((5, 4)), draw.standard_normal((5, 3))
    (x_u, x_r, x_n), (h_u, h_r, h_n) = (np.split(a, 3, axis=1) for a in (x @ kernel + bias[0], h @ recurrent + bias[1]))
    u, r = (1 / (1 + np.exp(-a)) for a in (x_u + h_u, x_r + h_r))
    expected = u * h + (1 - u) * np.tanh(x_n + r * h_n)
    p = run("Take weights from another VRNN")["from_keras"](kernel, recurrent, bias)
    checks.assert_close(gru.gru_forward(p, x, h)[0], expected, 1e-12, "h'")


@pytest.mark.parametrize("backend", ["numpy", "strict"])
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("model", sorted(tv.models.MODELS))
@pytest.mark.parametrize("workers", ["auto", 3])
def test_workers_return_what_the_model_returns(workers, model, dtype, tolerance, backend, monkeypatch):
    """With each argument of `loss_and_grads`, and with fresh noise, which both draw alike."""
    monkeypatch.setattr(parallel, "LEAST_SLICE", 2)
    monkeypatch.setattr(parallel, "available_cores", lambda: 2)
    ours, x, lengths, _ = checks.small("gaussian", backend, model=model, dtype=dtype, B=6)
    theirs, draw = checks.small("gaussian", backend, model=model, dtype=dtype, B=6)[0], np.random.default_rng(0)
    options = {"beta": 0.5, "input_mask": 2.0 * (draw.random(x.shape) < 0.5)}
    if "iwae" in ours.bounds:
        options |= {"bound": "iwae", "particles": 3}
    with tv.Workers(workers) as pool:
        for given in ({}, options):
            loss, grads, terms = pool.loss_and_grads(ours, x, lengths, **given)
            expected = theirs.loss_and_grads(x, lengths, **given)
            assert type(grads) is type(expected[1]) and grads.dtype == dtype and len(pool._others) <= 1
            for one, other in zip((loss, grads, *terms), (*expected[:2], *expected[2])):
                checks.assert_close(tv.to_host(one), tv.to_host(other), tolerance, workers)


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda model, x: tv.Workers("many"), 'workers must be "auto" or a whole number of at least 1'),
        (lambda model, x: tv.Workers(0), "workers must be"),
        (lambda model, x: tv.Workers(2).loss_and_grads(model, x[0]), r"Expected x of shape \(T, B, 3\)"),
        (lambda model, x: tv.Workers(2).loss_and_grads(model, x, [9, 1]), "Expected lengths of shape"),
        (lambda model, x: tv.Workers(2).loss_and_grads(model, x, [4]), "Expected lengths of shape"),
        (lambda model, x: tv.Workers(2).loss_and_grads(model, None, eps=x), r"Expected x of shape \(T, B, 3\)"),
        (lambda model, x: tv.Workers(2).loss_and_grads(model, x, eps=0.5), "Expected eps of shape"),
        (lambda model, x: tv.Workers(2).loss_and_grads(model, x, beta="1"), "beta must be a finite number"),
        (lambda model, x: tv.clip_by_global_norm(model.theta.copy(), 0), "max_norm must be a positive number, got 0"),
        (lambda model, x: tv.clip_by_global_norm(model.theta.copy(), np.nan), "max_norm must be a positive number"),
        (lambda model, x: tv.Adam(model.theta).step(model.theta, x), "Expected theta and grads"),
        (lambda model, x: tv.Adam(model.theta).step(model.theta, 1.0), "Expected theta and grads .* float"),
        (lambda model, x: tv.Workers(2).loss_and_grads(x, model), "Expected a model and then x, got ndarray"),
        (lambda model, x: tv.Adam(model.theta, lr=-1), "lr must be a number from 0 to below inf, got -1"),
        (lambda model, x: tv.Adam(model.theta, b1=1), "b1 must be a number from 0 to below 1, got 1"),
        (lambda model, x: tv.Adam(model.theta, decay=0.1), r"decay must be an array of shape \(\d+,\), as theta"),
        (lambda model, x: tv.Adam(model.theta).step(model.theta, model.theta, lr=np.nan), "lr must be a number"),
        (lambda model, x: tv.batches(None, 2), "got NoneType, but a list of arrays"),
    ],
)
def test_a_mistake_in_a_loop_is_one_sentence(call, error, monkeypatch):
    monkeypatch.setattr(parallel.worker, "hire", lambda: pytest.fail("a process was started"))
    monkeypatch.setattr(parallel, "available_cores", lambda: 1)
    with pytest.raises(tv.TinyvrnnError, match=error):
        call(small_model(), np.zeros((4, 2, 3), "float32"))
