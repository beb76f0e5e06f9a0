"""Forecasts: draws of what follows sequences of unequal lengths, their intervals, the fan chart and the command.

Catches: a sequence that continues from the padding, draws that share the latents of the past (intervals too narrow),
draws that are paired with another sequence, standardised numbers called raw, bands drawn around another sequence.
"""

import re
from pathlib import Path

import checks
import numpy as np
import pytest
from matplotlib.image import imread

import tinyvrnn as tv
from tinyvrnn import cli, data
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.data import read_sequences
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.models import MODELS
from tinyvrnn.runs import plots

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = [*({"model": model} for model in MODELS), {"posterior": "smoothing"}, {"cell": "lstm", "model": "rnn"}]


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.one_in(7)
def test_draws_are_in_raw_units_and_padding_is_nothing(options, likelihood, dtype, backend):
    m, x, lengths, _ = checks.small(likelihood, backend, dtype=dtype, **options)
    drawn = m.forecast(x, 2, 3, lengths)
    assert drawn.shape == (3, 2, *x.shape[1:]) and drawn.dtype == "float64"
    assert tv.backend.backend_of(drawn) == m.backend
    x = x.copy()
    x[np.arange(len(x))[:, None] >= lengths] = np.nan
    m.mean, m.std = np.full(m.x_dim, 5.0), np.arange(1.0, m.x_dim + 1)
    raw = to_host(drawn) * np.arange(1, m.x_dim + 1) + 5
    np.testing.assert_allclose(to_host(m.forecast(x, 2, 3, lengths)), raw, rtol=1e-6)
    assert not np.array_equal(to_host(m.forecast(x, 2, 3, lengths, seed=1)), raw)


@pytest.mark.parametrize("model", ["vrnn", "rnn"])
def test_each_sequence_continues_from_its_own_end(model):
    coins, lengths = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0.0]])[..., None], np.array([1, 2, 3, 1])
    drawn = checks.coin_that_stays(model).forecast(coins, 3, 2, lengths)
    last = coins[lengths - 1, np.arange(4)]
    assert np.array_equal(drawn, np.broadcast_to(last, drawn.shape))


def of_a_hidden_coin():
    """A VRNN-I whose x_1 says nothing of z_1, on which x_2 depends: its posterior N(0, I) of z_1 is the exact one."""
    model, *_ = checks.small("gaussian", model="vrnn-i", scale=1.0, seed=2)
    p = model.params
    p["generate"]["W1"][: model.features] = 0  # x_t depends on h_{t-1} alone
    p["infer"]["W_out"][...] = 0
    p["infer"]["b_out"][...] = [0, 0, *[np.log(np.expm1(1 - 1e-4))] * 2]
    return model, np.ones(600, int)


def of_the_past():
    model, *_ = checks.small("gaussian", model="rnn", scale=1.0)
    return model, checks.rng(3).integers(1, 6, 600)


@pytest.mark.parametrize("make", [of_a_hidden_coin, of_the_past])
def test_intervals_cover_data_from_the_model_itself_as_often_as_they_say(make):
    """One number of each sequence, so that they are independent. With 199 draws, 200 ranks are equally likely."""
    model, lengths = make()
    n, steps = len(lengths), 2
    x = model.sample(n, lengths.max() + steps, seed=8)
    drawn = np.sort(model.forecast(x[: lengths.max()], steps, 199, lengths, seed=9), axis=0)
    for step, share in ((0, 0.5), (0, 0.9), (1, 0.5), (1, 0.9)):
        truth, column = x[lengths + step, np.arange(n)], step + 1
        low, high = (drawn[round(200 * q) - 1, step, :, column] for q in (0.5 - share / 2, 0.5 + share / 2))
        covered = ((low < truth[:, column]) & (truth[:, column] < high)).mean()
        assert abs(covered - share) < 3.5 * np.sqrt(share * (1 - share) / n), f"{share:.0%} covers {covered:.1%}"


def test_numbers_of_any_whole_type_do():
    m, x, *_ = checks.small("gaussian")
    assert m.forecast(x, np.uint8(3), np.uint8(200)).shape == (200, 3, 4, 4)
    assert m.sample(np.int8(100), prime=x).shape == (33, 400, 4)


@pytest.mark.parametrize(
    "given, says",
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"draws": 0}, "draws must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be"),
        ({"lengths": [1, 2]}, r"lengths of shape \(4,\), whole numbers from 1 to 5"),
        ({"lengths": [1, 2, 3, 6]}, r"lengths of shape \(4,\), whole numbers from 1 to 5"),
        ({"x": None}, r"x of shape \(T, B, 4\), got NoneType: sample draws without a past"),
        ({"x": np.zeros((5, 4))}, r"x of shape \(T, B, 4\)"),
        ({"x": np.zeros((5, 4, 2))}, r"x of shape \(T, B, 4\)"),
        ({"x": np.full((5, 4, 4), np.nan)}, "x holds NaN"),
        ({"steps": 10**15}, "sequences of 1,000,000,000,000,000 steps"),
        ({"draws": 10**15}, r"Random numbers of shape \(5, 4, 1000000000000000, 2\) would need"),
        ({"draws": 2.0}, "draws must be a whole number of at least 1, got 2.0"),
        ({"draws": True}, "draws must be a whole number of at least 1, got True"),
    ],
    ids=str,
)
def test_a_forecast_of_nothing_is_refused(given, says):
    m, x, *_ = checks.small("gaussian")
    with pytest.raises(tv.TinyvrnnError, match=says):
        m.forecast(**({"x": x, "steps": 2} | given))


# ---- the fan chart and the command ---------------------------------------------------------------


def test_a_fan_is_that_of_its_sequence_and_value():
    past = [100 * b + np.arange(3.0 * b + 1)[:, None] * [1, -1] for b in range(4)]
    draws = checks.rng().random((50, 3, 4, 2))
    figure = plots.fan(past, draws)
    for place, axes in enumerate(figure.axes):
        i, j = divmod(place, 2)
        lines = {line.get_label(): line.get_xydata() for line in axes.lines}
        assert np.array_equal(lines["given"], [*zip(range(-3 * i, 1), past[i][:, j])])
        for label, shares in (("50%", (0.25, 0.75)), ("90%", (0.05, 0.95)), ("median", 0.5)):
            levels = np.atleast_2d(np.quantile(draws[:, :, i, j], shares, axis=0))
            band = [c for c in axes.collections if c.get_label() == label]
            drawn = band[0].get_paths()[0].vertices if band else lines["median"]
            expected = {(0, past[i][-1, j]), *((t + 1, level) for row in levels for t, level in enumerate(row))}
            assert {tuple(point) for point in drawn.tolist()} == expected, label
    assert len(figure.axes) == 6 and figure.axes[2].get_ylabel() == "sequence 2 of 4"
    assert [axes.get_title("left") for axes in figure.axes[:2]] == ["value 1 of 2", "value 2 of 2"]
    named = plots.fan(past, draws, names=["load", "temp\n"])
    assert [axes.get_title("left") for axes in named.axes[:2]] == ["load", r"temp\n"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with the run of a model of real numbers with moments of their own, and sequences of unequal lengths."""
    folder = tmp_path_factory.mktemp("forecast")
    model, *_ = checks.small("gaussian", dtype="float32")
    model.mean, model.std = np.array([5.0, -3, 0, 1000]), np.array([1.0, 2, 3, 10])
    tv.save(model, folder / "run")
    np.savez(folder / "x.npz", values=checks.rng().normal(model.mean, model.std, (9, 4)), lengths=[2, 1, 6])
    return folder


def test_the_command_writes_the_draws_of_the_model(run, capsys, monkeypatch):
    given = ["forecast", str(run / "run"), "--prime", str(run / "x.npz"), "--steps", "4", "--seed", "3"]
    assert cli.main([*given, "--draws", "7", "--out", str(run / "new" / "draws.npz")]) == 0
    assert capsys.readouterr().out.endswith("draws.npz: 4 steps after 3 sequences, 7 draws of each\n")
    model, raw = tv.load(run / "run"), read_sequences(run / "x.npz")
    x, lengths = tv.pad(data.standardised(raw, model.mean, model.std, "x"))
    draws = np.load(run / "new" / "draws.npz")["draws"]
    assert np.array_equal(draws, model.forecast(x, 4, 7, lengths, seed=3)) and draws.shape == (7, 4, 3, 4)
    assert cli.main([*given, "--draws", "1", "--out", str(run / "new" / "one.png")]) == 2
    assert "a fan chart need at least 2 draws" in capsys.readouterr().err and not (run / "new" / "one.png").exists()
    seen, fan = [], plots.fan
    monkeypatch.setattr(plots, "fan", lambda *what, names: seen.append(what) or fan(*what, 1, 1, names))
    assert cli.main([*given, "--out", str(run / "fan.PNG")]) == 0
    assert imread(run / "fan.PNG", format="png")[..., :3].std() > 0.05
    ((past, draws),) = seen
    assert [sequence.tolist() for sequence in past] == [sequence.tolist() for sequence in raw]
    assert np.array_equal(draws, model.forecast(x, 4, 100, lengths, seed=3))


@pytest.mark.parametrize(
    "likelihood, arguments, says",
    [
        ("bernoulli", ["--steps", "1", "--out", "x.png"], "likelihood bernoulli draws 0s and 1s: use .npz, or `sample"),
        ("gaussian", ["--steps", "1", "--out", "x.gif"], "--out must be a name that ends in .png or .npz, got"),
        ("gaussian", ["--steps", "0", "--out", "x.png"], "--steps: must be a whole number from 1 to"),
        ("gaussian", ["--steps", "1", "--draws", "no", "--out", "x.png"], "--draws: must be a whole number from 1 to"),
        ("gaussian", ["--steps", "1", "--seed", "-1", "--out", "x.png"], "seed must be"),
        ("gaussian", ["--steps", "9" * 15, "--out", "x.npz"], "sequences of 999,999,999,999,999 steps"),
        ("gaussian", ["--out", "x.png"], "required: --steps"),
        ("pen", ["--steps", "1", "--out", "x.png"], "has 4 values a step, the model takes 3"),
    ],
)
def test_a_forecast_that_cannot_be_is_one_sentence(likelihood, arguments, says, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tv.save(checks.small(likelihood)[0], "run")
    try:
        code = cli.main(["forecast", "run", "--prime", str(run / "x.npz"), *arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and says in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """With an untrained model; the command continues what it saves."""
    page = (ROOT / "docs" / "how_to.md").read_text(encoding="utf-8").split("\n## What comes next? (forecast)\n")[1]
    code = re.findall(r"^```python\n(.*?)^```$", page.split("\n## ")[0], re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    vowels = tv.load_data("vowels")
    model = tv.VRNN(12, 4, 2, likelihood="gaussian")
    model.mean, model.std = vowels.mean, vowels.std
    tv.save(model, "runs/vowels")
    space, fewer = {}, "\n".join(code).replace("x, steps, 400, known", "x, steps, 20, known")
    exec(compile(fewer, "how_to.md", "exec"), space)
    assert capsys.readouterr().out.count("% interval: [0.") == 2
    raw = tv.load_data("vowels", standardise=False).test
    np.testing.assert_allclose(read_sequences("past.npz")[2], raw[2][: len(raw[2]) // 2], atol=1e-5)
    assert space["draws"].shape == (20, 3, 370, 12) and space["drawn"].shape == (13, 20, 12)
    assert space["means"].shape == (13, 2, 12) and space["calm"][5:].std() < space["drawn"][5:].std()
    assert cli.main(["forecast", "runs/vowels", "--prime", "past.npz", "--steps", "8", "--out", "draws.npz"]) == 0
