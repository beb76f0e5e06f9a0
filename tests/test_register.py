"""Likelihoods and cells of a user's own: docs/extend.md, run as a student would, in a notebook and from the command.

Catches: a wrong backward pass that is registered, a cell that runs as another one of its width, loop functions made of
a step that compute something else, a run that cannot be resumed or read again, an unknown name without its remedy.
"""

import math
import pickle
import re
import subprocess
import sys

import checks
import numpy as np
import pytest
from test_docs import ROOT, blocks
from test_resume import assert_same_run, stopped_and_taken_up, train

import tinyvrnn as tv
from runs import small_data, small_model
from tinyvrnn import cli
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.gradcheck import all_pairs
from tinyvrnn.models.equations import features_forward, predict_forward
from tinyvrnn.nn import gru, lstm
from tinyvrnn.nn.activations import sigmoid
from tinyvrnn.nn.cells import BUILT_IN, CELLS, cell_of
from tinyvrnn.training.parallel import can_be_made_again

EXAMPLES = [text for _, text in blocks(ROOT / "docs" / "extend.md", "python")]
OWN = ["--likelihood", "laplace", "--cell", "plain"]


@pytest.fixture(autouse=True)
def tables():
    """What a test registers is gone after it."""
    every = LIKELIHOODS, CELLS, all_pairs.PAIRS
    before = [dict(table) for table in every]
    yield
    for table, old in zip(every, before):
        table.clear()
        table.update(old)


@pytest.fixture
def page():
    """The names that the examples of the page define; their likelihood and their cell are registered."""
    names = {}
    for text in EXAMPLES[:2]:
        exec(text, names)
    return names


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "my_file.py"
    path.write_text("".join(EXAMPLES[:2]), encoding="utf-8")
    return str(path)


def command(*arguments):
    """The command in a process of its own."""
    return subprocess.run([sys.executable, "-m", "tinyvrnn", *map(str, arguments)], capture_output=True, text=True)


# ---- from the command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(plugin, tmp_path_factory):
    """The folder of a run of two epochs, what was printed, and the arguments but for epochs and plugin."""
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "x.npy", checks.rng().standard_normal((40, 6, 3)))
    given = ["train", folder / "x.npy", *OWN, "--hidden", 6, "--latent", 2, "--out", folder / "run"]
    done = command(*given, "--epochs", 2, "--plugin", plugin)
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout, [str(word) for word in given]


def test_the_command_trains_and_reports_with_a_plugin(run):
    folder, out, _ = run
    assert "likelihood='laplace'" in out and "cell='plain'" in out
    (best,) = [line for line in out.splitlines() if line.startswith("best of 2 epochs")]
    assert best.startswith("best of 2 epochs: 2, ")
    assert "marginal Gaussian" in out and "standardised data" in out
    assert {"samples.png", "reconstructions.png", "curves.png"} <= {path.name for path in folder.iterdir()}


def test_with_a_plugin_a_fresh_process_evaluates_and_the_command_samples(run, plugin, tmp_path):
    evaluated = command("evaluate", run[0], "--plugin", plugin)
    assert evaluated.returncode == 0 and "elbo" in evaluated.stdout, evaluated.stderr
    assert cli.main(["sample", str(run[0]), "--plugin", plugin, "--out", str(tmp_path / "s.npz"), "-n", "3"]) == 0
    with np.load(tmp_path / "s.npz") as drawn:
        assert drawn["x"].shape[0] == 3 and np.isfinite(drawn["x"]).all()


def test_the_command_resumes_with_a_plugin_and_asks_for_it_without(run, plugin, capsys):
    given = [*run[2], "--epochs", "3", "--resume"]
    assert cli.main(given) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and 'Unknown likelihood "laplace"' in err and "or give --plugin" in err
    assert cli.main([*given, "--plugin", plugin]) == 0
    assert "it is resumed" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["evaluate"], ["sample", "--out", "s.png"]], ids=" ".join)
def test_a_run_whose_plugin_is_not_given_is_one_sentence(run, arguments, capsys):
    assert cli.main([arguments[0], str(run[0]), *arguments[1:]]) == 2
    err = capsys.readouterr().err
    assert 'the unknown cell "plain": register it with tv.register_cell(...) first, or give --plugin.' in err


def test_gradcheck_includes_what_a_plugin_registers(plugin, monkeypatch, capsys):
    for name in list(all_pairs.PAIRS):
        monkeypatch.delitem(all_pairs.PAIRS, name)
    monkeypatch.setattr(cli.commands, "LIKELIHOODS", {"laplace": None})
    assert cli.main(["gradcheck", "--model", "rnn", "--plugin", plugin]) == 0
    out = capsys.readouterr().out
    for name in (
        "laplace head",
        "laplace log-density",
        "generate, Eq. 6, laplace",
        "loop, plain",
        "recur, Eq. 7, plain",
    ):
        assert name in out
    assert "log p(x), Eq. 2, laplace" in out and "log p(x), Eq. 2, cell plain" in out and "8 of 8 passed" in out


@pytest.mark.parametrize("name, says", [("a.txt", "must name a .py file"), ("a.py", "a .py file that exists, got")])
def test_a_plugin_that_is_none_is_one_sentence(name, says, tmp_path, capsys):
    assert cli.main(["gradcheck", "--plugin", str(tmp_path / name)]) == 2
    assert says in capsys.readouterr().err


MISTAKES = {  # of a student, and the sentence: (a replaced text of the page, its replacement, the message)
    "no last axis": ("dlog_p = dlog_p[..., None]", "pass", "The likelihood laplace stopped in laplace_backward, line"),
    "no sum": (").sum(axis=-1), (delta, b)", "), (delta, b)", "laplace"),
    "no cache": (
        "return -(abs(delta) + np.log(2 * b)).sum(axis=-1), (delta, b)",
        "return -abs(delta).sum(-1)",
        "laplace",
    ),
    "a word for noise": ("mean=lambda mu, b: mu)", "mean=lambda mu, b: mu, noise='unifrom')", 'did you mean "uniform"'),
    "no such baselines": ("mean=lambda mu, b: mu)", "mean=lambda mu, b: mu, baselines='reel')", 'did you mean "real"'),
    "misfits of all": (
        "mean=lambda mu, b: mu)",
        "mean=lambda mu, b: mu, misfits=lambda x: (x > 9).any())",
        "without any()",
    ),
    "no record": (
        "tv.register_likelihood(laplace)",
        "tv.register_likelihood('laplace')",
        "Expected a tv.Likelihood, got str",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_likelihood_is_one_sentence_that_names_it(mistake):
    right, wrong, says = MISTAKES[mistake]
    assert right in EXAMPLES[0]
    with pytest.raises((tv.ConfigError, tv.GradientError), match=re.escape(says)):
        exec(compile(EXAMPLES[0].replace(right, wrong), "my_file.py", "exec"), {})


def test_a_record_in_place_of_its_name_is_one_sentence(page):
    laplace = tv.distributions.LIKELIHOODS["laplace"]
    with pytest.raises(tv.ConfigError, match='register the record first, then give "laplace"'):
        tv.VRNN(3, 4, 2, likelihood=laplace)
    with pytest.raises(tv.ConfigError, match='register the record first, then give "gru"'):
        tv.VRNN(3, 4, 2, cell=tv.nn.cells.CELLS["gru"])


@pytest.mark.parametrize(
    "code, says",
    [
        ("import math\nmath.log(0)", "stopped in <module>, line 2, with ValueError"),
        ("def f(:", "stopped in line 1, with SyntaxError"),
    ],
)
def test_an_error_of_a_plugin_is_one_sentence_with_its_line(code, says, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["gradcheck", "--plugin", "mine.py"]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


# ---- in a notebook -------------------------------------------------------------------------------


def test_the_page_trains_in_a_notebook(page):
    exec(EXAMPLES[2], page)
    assert page["model"].cell == "plain" and np.isfinite(page["model"].theta).all()


def test_a_run_goes_on_bit_for_bit_and_is_read_again(page, tmp_path):
    def make():
        return small_model(likelihood="laplace", cell="plain")

    data, whole = small_data("laplace"), make()
    records = train(whole, data, workers=2)
    again = stopped_and_taken_up(tmp_path, data, (1, 3), make, workers=2)
    assert_same_run(*again, whole, records)
    read = tv.load(tmp_path)
    x, lengths = tv.pad(data.test[:4])
    assert np.array_equal(read.elbo(x, lengths), again[0].elbo(x, lengths))
    assert not can_be_made_again(whole) and can_be_made_again(small_model())
    assert not can_be_made_again(small_model(likelihood="laplace")) and not can_be_made_again(small_model(cell="plain"))


def test_a_checkpoint_with_an_unknown_name_says_what_to_register(page, tmp_path):
    tv.save(small_model(likelihood="laplace"), tmp_path)
    del LIKELIHOODS["laplace"]
    with pytest.raises(tv.CheckpointError, match=r'unknown likelihood "laplace": register it with tv.register_likelih'):
        tv.load(tmp_path)


def test_counts_have_a_likelihood_and_negative_ones_are_refused():
    log_factorial = np.vectorize(lambda k: math.lgamma(k + 1), otypes=["float64"])

    def density(x, a):
        rate = np.exp(a)
        return (x * a - rate - log_factorial(x).astype(a.dtype)).sum(axis=-1), (x, rate)

    def backward(cache, dlog_p):
        return None, dlog_p[..., None] * (cache[0] - cache[1])

    def sample(u, a):
        x, p = np.zeros_like(a), np.exp(-np.exp(a))
        total = p
        for k in range(1, 50):
            x, p = x + (u > total), p * np.exp(a) / k
            total = total + p
        return x

    poisson = tv.Likelihood(
        "poisson", density, backward, sample, np.exp, head="bernoulli", standardise=False, baselines=None,
        misfits=lambda x: (x < 0) | (x != np.round(x)), needs="but a Poisson likelihood needs counts",
        example=lambda x: np.floor(5 * x),
    )  # fmt: skip
    tv.register_likelihood(poisson)
    model, x, lengths, eps = all_pairs.small_model("poisson")
    assert np.isfinite(model.loss_and_grads(x, lengths, eps)[0])
    assert (model.sample(40, 3) % 1 == 0).all()
    u, rate = checks.rng().random(40_000), 1.7
    drawn = LIKELIHOODS["poisson"].sample(u[:, None], np.full((len(u), 1), math.log(rate)))
    checks.assert_mean(drawn[:, 0], rate, "mean")
    with pytest.raises(tv.DataError, match="x holds -1 to -1, but a Poisson likelihood needs counts"):
        model.elbo(np.where(np.arange(x.size).reshape(x.shape) == 5, -1, x))
    data = tv.Data.from_sequences("counts", *[[x[:, 0]] * 2] * 3, standardise=False)
    assert cli.report.baselines_of(model, data, data.test) == {}


# ---- cells ---------------------------------------------------------------------------------------


def gated(p, *inputs):
    """Three blocks that are no GRU's: h' = f h + i tanh(n)."""
    *xs, h = inputs
    a = sum(x @ W for x, W in zip(xs, np.split(p["W"], np.cumsum([x.shape[-1] for x in xs])[:-1])))
    f, i, n = np.split(a + p["b"] + h @ p["U"] + p["c"], 3, axis=-1)
    f, i, n = sigmoid(f), sigmoid(i), np.tanh(n)
    return f * h + i * n, (xs, h, f, i, n)


def gated_backward(p, cache, dnext):
    xs, h, f, i, n = cache
    da = np.concatenate([dnext * h * f * (1 - f), dnext * n * i * (1 - i), dnext * i * (1 - n * n)], axis=-1)
    x, rows = np.concatenate(xs, axis=-1), da.reshape(-1, da.shape[-1])
    grads = {"W": x.reshape(len(rows), -1).T @ rows, "U": h.reshape(len(rows), -1).T @ rows}
    dx = np.split(da @ p["W"].T, np.cumsum([x.shape[-1] for x in xs])[:-1], axis=-1)
    return (*dx, dnext * f + da @ p["U"].T), grads | {"b": rows.sum(axis=0), "c": rows.sum(axis=0)}


def test_a_cell_of_three_blocks_is_not_taken_for_a_gru():
    tv.register_cell(tv.Cell("gated", gru.shapes, gated, gated_backward))
    model, x, _, _ = all_pairs.small_model("gaussian", model="rnn", cell="gated")
    assert model.params["recur"].keys() == small_model("rnn").params["recur"].keys()
    p, h, expected = model.params, np.zeros((x.shape[1], 6)), 0
    for x_t in x:
        outputs, _ = predict_forward(p["predict"], h, model.likelihood)
        expected = expected + model.likelihood.log_density_forward(x_t, *outputs)[0]
        h, _ = gated(p["recur"], features_forward(p["phi_x"], x_t)[0], h)
    checks.assert_close(model.elbo(x), expected, 1e-12, "log p")
    checks.assert_close(-model.loss_and_grads(x)[0], expected.mean(), 1e-12, "loss")


def test_parameters_name_their_cell_wherever_they_go(tmp_path):
    tv.register_cell(tv.Cell("gated", gru.shapes, gated, gated_backward))
    model = small_model(cell="gated", posterior="smoothing")
    for p in (model.params["recur"], model.params["backward"]):
        for one in (p, p.copy(), p | {"b": p["b"]}, pickle.loads(pickle.dumps(p))):
            assert cell_of(one).forward is gated
    tv.save(model, tmp_path)
    assert cell_of(tv.load(tmp_path).params["recur"]).forward is gated
    assert not isinstance(small_model().params["recur"], tv.params.Group)
    with pytest.raises(tv.ConfigError, match="no built-in cell's: take them from model.params"):
        cell_of({leaf: a for leaf, a in model.params["recur"].items() if leaf != "c"})


@pytest.mark.parametrize("options", [{}, {"posterior": "smoothing"}, {"backend": checks.DEVICE}], ids=str)
def test_the_schedule_of_a_plain_step_equals_the_literal_steps(page, options):
    step = cell_with_namespaces(page) if "backend" in options else None
    if step:
        tv.register_cell(step)
    checks.batched_equals_stepwise("laplace" if not step else "gaussian", cell="plain", **options)
    if "posterior" not in options and not step:
        checks.rnn_equals_its_literal_steps("laplace", cell="plain")


def cell_with_namespaces(page):
    """The cell of the page for any backend."""

    def step(p, *inputs):
        *xs, h = inputs
        a, cache = page["linear_forward"](p, *xs)
        h_next = tv.backend.namespace(h).tanh(a + page["matmul"](h, p["U"]))
        return h_next, (cache, h, h_next)

    return tv.Cell("plain", page["shapes"], step, page["plain_backward"])


def test_every_way_through_a_model_knows_the_cell(page):
    checks.recomputation_equals_plain(likelihood="laplace", cell="plain")
    checks.chunks_follow_their_sequences(cell="plain")
    model, x, _, _ = all_pairs.small_model("laplace", cell="plain")
    (T, B, _), draw = x.shape, checks.rng()
    given = {"eps": draw.standard_normal((T, B, 5, 2)), "bound": "fivo", "uniforms": draw.random((T, B))}
    theta, direction, h = model.theta.copy(), checks.rng(2).standard_normal(model.theta.shape), 1e-6
    slope, losses = model.loss_and_grads(x, **given)[1] @ direction, []
    for sign in (1, -1):
        model.theta = theta + sign * h * direction
        losses.append(model.loss_and_grads(x, **given)[0])
    checks.assert_close((losses[0] - losses[1]) / (2 * h), slope, 1e-6, "slope of fivo")
    assert model.sample(2, 4, prime=model.sample(3, 2)).shape == (6, 6, 4)
    with pytest.raises(tv.ConfigError, match="laplace has no temperature: add `tempered` to its record"):
        model.sample(temperature=0.5)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype, tol", [("float64", 1e-12), ("float32", 1e-4)])
@pytest.mark.parametrize("name, module", [("gru", gru), ("lstm", lstm)])
def test_loop_functions_made_of_a_step_compute_what_those_of_the_package_do(name, module, dtype, tol):
    built_in = CELLS[name]
    fields = {field: getattr(built_in, field) for field in ("states", "initialise")}
    tv.register_cell(tv.Cell("slow", module.shapes, built_in.forward, built_in.backward, **fields))
    tv.register_cell(built_in._replace(name="fast"))
    x = checks.rng().standard_normal((5, 4, 3)).astype(dtype)
    lengths, (expected, *others) = (
        np.array([5, 1, 3, 5]),
        (small_model(cell=cell, dtype=dtype, posterior="smoothing") for cell in (name, "slow", "fast")),
    )
    loss, grads, _ = expected.loss_and_grads(x, lengths)
    for other in others:
        found, own, _ = other.loss_and_grads(x, lengths)
        assert own.dtype == dtype
        checks.assert_close(found, loss, tol, "loss")
        checks.assert_close(own, grads, tol, "gradient")


# ---- what is refused -----------------------------------------------------------------------------


def test_a_wrong_backward_of_a_likelihood_is_refused_with_the_leaf_and_both_numbers(page):
    wrong = page["laplace"]._replace(
        name="wrong", log_density_backward=lambda c, d: (None, d[..., None] / c[1], d[..., None] / c[1])
    )
    says = (
        r'likelihood wrong has a wrong backward pass, in "wrong log-density": input 0\[\d, \d\]: analytic .*, numeric '
    )
    with pytest.raises(tv.GradientError, match=says):
        tv.register_likelihood(wrong)
    assert "wrong" not in LIKELIHOODS and "wrong log-density" not in all_pairs.PAIRS


def test_a_wrong_backward_of_a_cell_is_refused_and_the_right_one_stays(page):
    def wrong(p, cache, dh_next):
        dinputs, grads = page["plain_backward"](p, cache, dh_next)
        return dinputs, grads | {"U": 2 * grads["U"]}

    right = CELLS["plain"]
    with pytest.raises(
        tv.GradientError, match=r'cell plain has a wrong .*, in "plain cell": U\[\d, \d\]: analytic .*, numer'
    ):
        tv.register_cell(right._replace(backward=wrong))
    assert CELLS["plain"] is right


def test_a_step_that_is_not_the_forward_is_refused():
    def step(a, x, g, c, state, state_next, *gates):
        CELLS["gru"].step(a, x, g, c, state, state_next, *gates)
        state_next += 1e-3

    with pytest.raises(tv.GradientError, match="step that computes another state"):
        tv.register_cell(CELLS["gru"]._replace(name="off", step=step))


def along_axis_1(x, mu, b):
    """The density of the page for (B, X) alone."""
    delta = (x - mu) / b
    return -(abs(delta) + np.log(2 * b)).sum(axis=1), (delta, b)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"name": "gaussian"}, '"gaussian" is a likelihood of tinyvrnn itself'),
        ({"name": "two words"}, "must be one word"),
        ({"name": 3}, "must be one word"),
        ({"head": "gauss"}, 'did you mean "gaussian"'),
        ({"misfits": lambda x: x < 1}, "makes values that its misfits refuses"),
        ({"mean": lambda mu, b: mu[..., 0]}, "a mean of shape"),
        ({"sample": lambda u, mu, b: mu * np.float64(2)}, "a sample of dtype float64"),
        ({"tempered": lambda tau, mu, b: (mu, np.float64(tau) * b)}, "a tempered output 1 of dtype float64"),
        (
            {"log_density_forward": along_axis_1},
            r"a log p of shape \(2, 4\), but \(2, 3\) is expected",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_record_that_is_no_likelihood_is_refused(page, changes, says):
    with pytest.raises(tv.ConfigError, match=says):
        tv.register_likelihood(page["laplace"]._replace(**{"name": "other"} | changes))
    assert "other" not in LIKELIHOODS


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"name": "gru"}, '"gru" is a cell of tinyvrnn itself'),
        ({"step": lambda *a: None}, "has some of the fields"),
        ({"shapes": lambda D, H: {"W": (D, H), "b": (H,)}}, "W must be"),
        ({"shapes": lambda D, H: {"W": (D, H + 1), "b": (H + 1,), "U": (H, H + 1)}}, "C a multiple of H"),
        ({"forward": lambda p, x, h: (np.float64(1) * h, None)}, "state of dtype float64"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_record_that_is_no_cell_is_refused(page, changes, says, monkeypatch):
    if "forward" in changes:  # what looks at the arrays comes after the gradients
        monkeypatch.setattr("tinyvrnn.gradcheck.register._check_pairs", lambda *a: None)
        monkeypatch.setattr("tinyvrnn.gradcheck.register._check_loop", lambda *a: None)
    with pytest.raises(tv.ConfigError, match=says):
        tv.register_cell(CELLS["plain"]._replace(**{"name": "other"} | changes))
    assert set(CELLS) == {*BUILT_IN, "plain"}


def test_a_cell_may_have_the_name_of_a_layer(page):
    before = all_pairs.PAIRS["tanh"]
    tv.register_cell(CELLS["plain"]._replace(name="tanh"))
    assert all_pairs.PAIRS["tanh"] is before and all_pairs.check("tanh cell")


def test_a_name_may_be_registered_again_and_the_new_record_counts(page):
    model = small_model(likelihood="laplace")
    tv.register_likelihood(page["laplace"]._replace(mean=lambda mu, b: mu + b))
    assert LIKELIHOODS["laplace"].mean(1, 2) == 3 and model.likelihood.mean(1, 2) == 1
