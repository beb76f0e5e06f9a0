"""The command line: what it writes and prints, and one sentence with exit code 2 for a mistake."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

import tinyvrnn as tv
from tinyvrnn import cli
from tinyvrnn.arrays.strict import strict_namespace
from tinyvrnn.gradcheck import all_pairs
from tinyvrnn.models import linear_gaussian
from tinyvrnn.training import Options

QUICK = ["--hidden", "16", "--latent", "3", "--epochs", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits8, trained once for this module."""
    folder = tmp_path_factory.mktemp("runs") / "digits8"
    assert cli.main(["train", "digits8", *QUICK, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def refused(capsys):
    """Call the command and return the one line on stderr; asserts exit code 2 and an empty stdout."""

    def call(*arguments):
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert code == 2 and out == ""
        assert err.startswith("tinyvrnn: ") and err.count("\n") == 1
        return err

    return call


def test_train_leaves_a_whole_run(run):
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint.npz", "config.toml", "curves.png", "metrics.jsonl", "reconstructions.png", "resume.npz",
        "samples.png",
    ]  # fmt: skip
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["data"]["source"] == "digits8" and config["model"]["h_dim"] == 16
    assert config["training"]["epochs"] == 2 and config["tinyvrnn"] == tv.__version__
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    for name in ("curves.png", "samples.png", "reconstructions.png"):
        assert imread(run / name)[..., :3].std() > 0.05, f"{name} is blank"


def test_train_prints_the_test_elbo_next_to_two_baselines(tmp_path, capsys):
    assert cli.main(["train", "vowels", *QUICK, "--out", str(tmp_path / "v")]) == 0
    out = capsys.readouterr().out
    for name in ("VRNN (elbo, a lower bound)", "marginal Gaussian", "AR(1)"):
        line = next(line for line in out.splitlines() if line.strip().startswith(name))
        assert float(line[len(name) + 4 :].split()[0]) < 0
    assert "370 sequences, nats of standardised data" in out


def test_evaluate_prints_json_with_its_units(run, capsys):
    assert cli.main(["evaluate", str(run), "--json", "--split", "valid"]) == 0
    result = json.loads(capsys.readouterr().out)
    names = "elbo_per_sequence elbo_per_step kl_per_sequence log_likelihood_per_sequence sequences steps units"
    assert set(names.split()) <= set(result)
    assert result["sequences"] == 180 and result["steps"] == 180 * 8 and result["bound"] == "elbo"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert result["elbo_per_sequence"] == pytest.approx(max(r["valid"]["elbo"] for r in records), rel=1e-6)


def test_evaluate_prints_the_baselines_that_training_printed(tmp_path, capsys):
    np.savez(tmp_path / "text.npz", x=np.eye(4)[np.random.default_rng(0).integers(0, 4, (20, 5))])
    run, text = str(tmp_path / "run"), str(tmp_path / "text.npz")
    assert cli.main(["train", text, *QUICK, "--likelihood", "categorical", "--out", run]) == 0
    out = capsys.readouterr().out
    assert cli.main(["evaluate", run, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["baselines"]
    assert set(found) == {"unigram", "Markov chain"}
    for name, value in found.items():
        assert re.search(rf"{name} +{value:.2f} +[0-9,]+ parameters\n", out)
    assert cli.main(["evaluate", run]) == 0
    assert re.search(rf"unigram +{found['unigram']:.4f} per sequence, trivial", capsys.readouterr().out)
    np.save(tmp_path / "other.npy", np.eye(4)[[[0, 0, 0]]])
    assert cli.main(["evaluate", run, "--data", str(tmp_path / "other.npy"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baselines"] != found
    (tmp_path / "text.npz").unlink()
    assert cli.main(["evaluate", run, "--data", str(tmp_path / "other.npy"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baselines"] == {}, "what they are fitted on is gone"


def test_baselines_are_on_the_scale_of_the_model(tmp_path, capsys):
    run = str(tmp_path / "run")
    assert cli.main(["train", "vowels", *QUICK, "--out", run]) == 0
    out = capsys.readouterr().out
    assert cli.main(["evaluate", run, "--json"]) == 0
    for name, value in json.loads(capsys.readouterr().out)["baselines"].items():
        assert re.search(rf"{re.escape(name)} +{value:.2f} +[0-9,]+ parameters\n", out)


@pytest.mark.filterwarnings("default:These data are far from")
def test_evaluate_on_another_set_uses_the_models_own_scale(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, scale in (("a", 1.0), ("b", 100.0)):
        np.save(tmp_path / f"{name}.npy", scale * rng.standard_normal((20, 5, 2)))
    assert cli.main(["train", str(tmp_path / "a.npy"), *QUICK, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    elbos = []
    for name in "ab":
        assert cli.main(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / f"{name}.npy"), "--json"]) == 0
        elbos.append(json.loads(capsys.readouterr().out)["elbo_per_sequence"])
    assert elbos[1] < 20 * elbos[0] < 0, "the second set was standardised by itself, not by the model's training data"


def test_evaluate_as_text(run, capsys):
    assert cli.main(["evaluate", str(run)]) == 0
    assert "per sequence" in (out := capsys.readouterr().out) and "test split: 180 sequences, 1440 steps" in out


@pytest.mark.parametrize("bound", ["iwae", "fivo"])
def test_evaluate_another_bound_says_which_with_its_units_and_errors(run, bound, capsys):
    assert cli.main(["evaluate", str(run), "--bound", bound, "--particles", "16", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["bound"], result["particles"], result["sequences"]) == (f"{bound}-16", 16, 180)
    assert result["per_step"] == pytest.approx(result["per_sequence"] / 8) and result["units"].startswith("nats")
    assert 0 < result["standard_error_draws"] < result["standard_error"]
    assert cli.main(["evaluate", str(run), "--json"]) == 0
    elbo = json.loads(capsys.readouterr().out)
    assert result["per_sequence"] > elbo["elbo_per_sequence"] and elbo["standard_error"] > 0
    assert cli.main(["evaluate", str(run), "--bound", bound, "--particles", "2"]) == 0
    assert f"standard error of {bound}-2 per sequence" in capsys.readouterr().out


def test_what_is_exact_can_be_asked_for(run, refused, tmp_path, capsys):
    rnn = ["digits8", "--model", "rnn", "--hidden", "4", "--epochs", "1", "--out", str(tmp_path)]
    assert cli.main(["train", *rnn]) == 0
    found = []
    for more in ([], ["--bound", "exact"]):
        capsys.readouterr()
        assert cli.main(["evaluate", str(tmp_path), "--json", *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] and found[0]["bound"] == "exact"
    says = "log p(x) of a vrnn has bounds, but no exact value: use --bound elbo or iwae or fivo."
    assert says in refused("evaluate", run, "--bound", "exact")
    tv.save(tv.VAE(8, 2, features=4), tmp_path / "vae")
    named = refused("evaluate", tmp_path / "vae", "--data", "digits8", "--bound", "exact").partition("use --bound ")[2]
    assert named == "elbo.\n", "a vae has no other bound"


def test_the_elbo_takes_no_particles(run, refused):
    assert "leave --particles out" in refused("evaluate", run, "--particles", "4")


def test_one_sequence_has_no_standard_error(run, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((1, 5, 8)))
    for given in ([], ["--bound", "iwae", "--particles", "2"]):
        assert cli.main(["evaluate", str(run), "--data", str(tmp_path / "x.npy"), "--json", *given]) == 0
        assert json.loads(capsys.readouterr().out)["standard_error"] is None
        assert cli.main(["evaluate", str(run), "--data", str(tmp_path / "x.npy"), *given]) == 0
        assert "unknown for one sequence" in capsys.readouterr().out


def test_one_of_a_thing_is_one(tmp_path, capsys):
    """In what the commands print; and an option of a part that a model does not have is said to be left out."""
    x, run = np.random.default_rng(0).standard_normal((12, 1, 2)), str(tmp_path / "run")
    np.save(tmp_path / "x.npy", x)
    given = ["--model", "rnn", "--hidden", "4", "--latent", "3", "--epochs", "1"]
    assert cli.main(["train", str(tmp_path / "x.npy"), *given, "--out", run]) == 0
    out, err = capsys.readouterr()
    for part in (
        "training: 1 epoch,",
        "best of 1 epoch:",
        "split, 1 sequence,",
        "exact unknown for one sequence)",
    ):
        assert part in out
    assert "--latent is left out: a model of kind rnn has no latent variables" in err
    file, prime = str(tmp_path / "o.npz"), ["--prime", str(tmp_path / "x.npy"), "--steps", "1"]
    for words, says in (
        (["evaluate", run], "test split: 1 sequence, 1 step;"),
        (["infer", run, "--out", file], "1 sequence of up to 1 step\n"),
        (["sample", run, "-n", "1", "--out", file], "1 sequence of 1 step\n"),
        (["forecast", run, *prime, "--draws", "1", "--out", file], "1 step after 12 sequences, 1 draw of each\n"),
    ):
        assert cli.main(words) == 0 and says in capsys.readouterr().out


def test_the_file_of_a_checkpoint_is_no_folder(run, refused, tmp_path):
    assert f"checkpoint.npz is a file: give the folder of a run, {run}." in refused("evaluate", run / "checkpoint.npz")
    (tmp_path / "mine.csv").touch()
    for other in ("mine.csv", "nowhere"):
        assert "give the folder of a run, such as runs/digits." in refused("evaluate", tmp_path / other)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("bound", ["iwae", "fivo"])
def test_train_with_another_bound(bound, tmp_path, capsys):
    options = [*QUICK, "--bound", bound, "--particles", "3", "--out", str(tmp_path / "run")]
    assert cli.main(["train", "digits8", *options]) == 0
    out = capsys.readouterr().out
    assert f"VRNN ({bound}-3, a lower bound)" in out and "VRNN (elbo, a lower bound)" in out
    assert f"valid {bound}-3 -" in out and "standard errors over the sequences" in out
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert (config["training"]["bound"], config["training"]["particles"]) == (bound, 3)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["valid"][f"{bound}-3"] > records[0]["valid"][f"{bound}-3"]


def test_exact_prints_the_table_with_its_units(capsys):
    assert cli.main(["exact"]) == 0
    out = capsys.readouterr().out
    for number in ("-22.457023", "-23.596896", "4.571337", "1.139873", "0.874069", "42.891720", "nats per sequence"):
        assert number in out
    assert cli.main(["exact", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["units"] == "nats per sequence" and result["model"] == "LinearGaussian(a=0.9, q=0.5, r=0.5)"
    assert [round(row["gap"], 6) for row in result["rows"]] == [0, 1.139873, 0.874069, 42.891720]


def test_exact_draws_the_gaps(tmp_path, capsys):
    assert cli.main(["exact", "--json", "--out", str(tmp_path / "new" / "gaps.png")]) == 0
    assert json.loads(capsys.readouterr().out), "the JSON is all there is on standard output"
    assert imread(tmp_path / "new" / "gaps.png")[..., :3].std() > 0.05
    bars = [[bar.get_width() for bar in axes.patches] for axes in tv.plots.gaps(linear_gaussian.table()).axes]
    np.testing.assert_allclose(bars[0], [0, 1.139873, 0.874069, 42.891720], atol=1e-6)
    np.testing.assert_allclose(bars[1], [0, 1.139873, 0.874069], atol=1e-6)


def test_samples_are_samples_not_means(run, tmp_path):
    assert cli.main(["sample", str(run), "-n", "5", "--steps", "11", "--out", str(tmp_path / "s.npz")]) == 0
    x = np.load(tmp_path / "s.npz")["x"]
    assert x.shape == (5, 11, 8) and set(np.unique(x)) == {0.0, 1.0}


def test_sample_repeats_with_its_seed(run, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert cli.main(["sample", str(run), "--seed", str(seed), "--out", str(tmp_path / f"{name}.npz")]) == 0
    a, b, c = (np.load(tmp_path / f"{name}.npz")["x"] for name in "abc")
    assert (a == b).all() and not (a == c).all()


def test_a_prime_is_continued(run, tmp_path):
    prime = tv.load_data("digits8").test[:3].values.reshape(3, 8, 8)[:, :4].astype("float32")
    np.save(tmp_path / "prime.npy", prime)
    out = tmp_path / "s.npz"
    assert cli.main(["sample", str(run), "--prime", str(tmp_path / "prime.npy"), "--out", str(out)]) == 0
    x = np.load(out)["x"]
    assert x.shape == (3, 8, 8) and (x[:, :4] == prime).all()
    assert cli.main(["sample", str(run), "--prime", str(out), "--steps", "2", "--out", str(tmp_path / "t.npz")]) == 0
    assert np.load(tmp_path / "t.npz")["x"].shape == (3, 10, 8), "what sample writes, --prime reads"
    given = ["--prime", str(tmp_path / "prime.npy"), "-n", "5", "--mean", "--temperature", "0.5"]
    assert cli.main(["sample", str(run), *given, "--out", str(out)]) == 0
    x = np.load(out)["x"].swapaxes(0, 1)
    assert x.shape == (8, 15, 8) and (x[:4] == np.repeat(prime, 5, axis=0).swapaxes(0, 1)).all(), "5 for each prime"
    expected = tv.load(run).sample(5, 4, prime=prime.swapaxes(0, 1), temperature=0.5, mean=True)
    assert np.array_equal(x, expected) and ((0 < x[4:]) & (x[4:] < 1)).any()


def test_real_valued_samples_come_back_on_the_scale_of_the_data(tmp_path):
    x = 1000 + 10 * np.random.default_rng(0).standard_normal((40, 6, 2))
    np.save(tmp_path / "x.npy", x)
    assert cli.main(["train", str(tmp_path / "x.npy"), *QUICK, "--out", str(tmp_path / "run")]) == 0
    out = tmp_path / "s.npz"
    assert cli.main(["sample", str(tmp_path / "run"), "-n", "50", "--out", str(out)]) == 0
    drawn = np.load(out)["x"]
    assert drawn.shape == (50, 6, 2) and 950 < drawn.mean() < 1050
    assert cli.main(["sample", str(tmp_path / "run"), "--prime", str(tmp_path / "x.npy"), "--steps", "1",
                     "--out", str(out)]) == 0  # fmt: skip
    np.testing.assert_allclose(np.load(out)["x"][:, :6], x, rtol=1e-5)


def test_samples_keep_the_digits_of_data_far_from_0(tmp_path):
    """Coordinates in metres: float32 has steps of half a metre there."""
    x = 5.2e6 + 0.05 * np.random.default_rng(0).standard_normal((40, 6, 2))
    np.save(tmp_path / "x.npy", x)
    assert cli.main(["train", str(tmp_path / "x.npy"), *QUICK, "--out", str(tmp_path / "run")]) == 0
    out, prime = tmp_path / "s.npz", ["--prime", str(tmp_path / "x.npy"), "--steps", "2"]
    assert cli.main(["sample", str(tmp_path / "run"), *prime, "--out", str(out)]) == 0
    drawn = np.load(out)["x"]
    assert np.array_equal(drawn[:, :6], x) and len(np.unique(drawn[:, 6:])) == 160
    assert 0.01 < drawn[:, 6:].std() < 0.2


def test_samples_end_at_lengths_of_the_training_data(tmp_path, capsys):
    """3 sequences of 2 steps for each of 5: 400 samples have these lengths in this proportion; --steps overrides."""
    lengths = np.array([2, 2, 2, 5] * 25)
    rng, folder = np.random.default_rng(0), str(tmp_path / "run")
    np.savez(tmp_path / "x.npz", values=rng.normal(size=(lengths.sum(), 2)), lengths=lengths)
    assert cli.main(["train", str(tmp_path / "x.npz"), *QUICK, "--out", folder]) == 0
    out = tmp_path / "s.npz"
    assert cli.main(["sample", folder, "-n", "400", "--out", str(out)]) == 0
    assert "400 sequences of 2 to 5 steps" in capsys.readouterr().out
    drawn = tv.data.read_sequences(out)
    assert set(drawn.lengths) == {2, 5} and 0.6 < (drawn.lengths == 2).mean() < 0.9
    assert not np.load(out)["x"][drawn.lengths == 2, 2:].any()
    assert cli.main(["sample", folder, "-n", "4", "--steps", "3", "--out", str(out)]) == 0
    assert np.load(out)["x"].shape == (4, 3, 2) and "lengths" not in np.load(out)


@pytest.mark.parametrize("latent, bias, says", [(3, 0.0, True), (3, 3.0, False)])
def test_latents_that_carry_nothing_are_reported(latent, bias, says, capsys):
    """Without weights posterior and prior are equal; a bias of the posterior's mean makes a KL of about a nat."""
    data, model = tv.load_data("digits8"), tv.VRNN(8, 4, latent)
    model.theta[:] = 0
    model.params["infer"]["b_out"][:latent] = bias
    terms = dict.fromkeys(("elbo", "kl", "log_likelihood"), 0.0)
    record = {"epoch": 1, "step": 3, "seconds": 0.1, "train": terms, "valid": terms}
    cli.commands.report.print_training(model, data, [record], tv.training.Options())
    out = capsys.readouterr().out
    sentence = "The latents carry nothing: their KL is 0.0000 nats a step; try --warmup 20, --beta 0.5 or --free-bits"
    assert (sentence in out) == says and "Markov                             -22.37   120 parameters" in out


def test_sample_draws_a_picture(run, tmp_path):
    assert cli.main(["sample", str(run), "--out", str(tmp_path / "new" / "s.png")]) == 0
    assert imread(tmp_path / "new" / "s.png")[..., :3].std() > 0.05


@pytest.mark.slow
def test_gradcheck_prints_every_leaf(capsys):
    assert cli.main(["gradcheck"]) == 0
    out = capsys.readouterr().out
    assert "gaussian KL" in out and "recur.U" in out and out.splitlines()[-1] == "41 of 41 passed"


@pytest.mark.parametrize("model, whole", [("rnn", "log p(x), Eq. 2, pen"), ("vae", "ELBO, Eq. 3, gmm")])
@pytest.mark.slow
def test_gradcheck_of_another_model(model, whole, monkeypatch, capsys):
    monkeypatch.setattr(all_pairs, "PAIRS", {})
    assert cli.main(["gradcheck", "--model", model]) == 0
    out = capsys.readouterr().out
    assert whole in out and out.splitlines()[-1] == "5 of 5 passed"


@pytest.fixture
def strokes(tmp_path):
    """A file of 30 sequences of (dx, dy, pen-up), with standard deviations of dx and dy far from 1."""
    draw = np.random.default_rng(0)
    x = 40 * draw.standard_normal((30, 6, 3))
    x[..., 2] = draw.integers(0, 2, (30, 6))
    np.save(tmp_path / "strokes.npy", x)
    return tmp_path / "strokes.npy"


@pytest.mark.parametrize("model, says", [("vrnn", "VRNN (elbo, a lower bound)"), ("rnn", "RNN (exact log-likelihood)")])
def test_a_pen_is_trained_evaluated_and_sampled(model, says, strokes, tmp_path, capsys):
    folder, out = str(tmp_path / "run"), tmp_path / "s.npz"
    options = ["--model", model, "--likelihood", "pen", "--components", "3", *QUICK, "--out", folder]
    assert cli.main(["train", str(strokes), *options]) == 0
    printed = capsys.readouterr().out
    assert says in printed and "components=3" in printed and "dx and dy divided by one scale" in printed
    assert cli.main(["evaluate", folder]) == 0
    assert ("exact log-likelihood" in capsys.readouterr().out) == (model == "rnn")
    assert cli.main(["sample", folder, "-n", "40", "--steps", "4", "--out", str(out)]) == 0
    x = np.load(out)["x"]
    assert x.shape == (40, 4, 3) and set(np.unique(x[..., 2])) <= {0.0, 1.0} and 10 < x[..., :2].std() < 160
    assert cli.main(["sample", folder, "--prime", str(strokes), "--steps", "1", "--out", str(out)]) == 0
    np.testing.assert_allclose(np.load(out)["x"][:, :6], np.load(strokes), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "model", ["vrnn", *(pytest.param(m, marks=pytest.mark.slow) for m in ("vrnn-i", "rnn", "vae"))]
)
def test_every_model_has_a_run_of_mixtures(model, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--model", model, "--likelihood", "gmm", "--components", "2", *QUICK[:4], "--epochs", "1"]
    assert cli.main(["train", "vowels", *options, "--out", str(folder)]) == 0
    assert f"    {model.upper()} (" in capsys.readouterr().out
    assert tomllib.loads((folder / "config.toml").read_text())["model"]["name"] == model
    assert cli.main(["evaluate", str(folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["model"], result["bound"]) == (model, "exact" if model == "rnn" else "elbo")
    assert (result["kl_per_sequence"] == 0) == (model == "rnn")


def test_a_run_with_an_lstm_and_a_smoothing_posterior_is_trained_evaluated_and_sampled(tmp_path, capsys):
    folder, chosen = tmp_path / "run", ["--cell", "lstm", "--posterior", "smoothing"]
    assert cli.main(["train", "vowels", *chosen, *QUICK[:4], "--epochs", "1", "--out", str(folder)]) == 0
    assert "cell='lstm', posterior='smoothing'" in capsys.readouterr().out
    config = tomllib.loads((folder / "config.toml").read_text())["model"]
    assert (config["cell"], config["posterior"]) == ("lstm", "smoothing")
    assert cli.main(["evaluate", str(folder)]) == 0
    assert cli.main(["sample", str(folder), "-n", "2", "--out", str(tmp_path / "s.npz")]) == 0


@pytest.mark.one_in(2)
@pytest.mark.parametrize("model", ["vrnn", "rnn"])
def test_a_run_by_chunks_with_recomputation_says_so(model, tmp_path, capsys):
    folder, long = tmp_path / "run", ["--chunk", "5", "--recompute"]
    options = ["--model", model, *long, *QUICK[:4], "--epochs", "1", "--out", str(folder)]
    assert cli.main(["train", "vowels", *options]) == 0
    assert "chunk 5, recompute True" in capsys.readouterr().out
    training = tomllib.loads((folder / "config.toml").read_text())["training"]
    assert (training["chunk"], training["recompute"]) == (5, True)


def test_a_categorical_run_draws_one_hot_steps(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(4)[np.random.default_rng(0).integers(0, 4, (30, 5))])
    options = ["--likelihood", "categorical", *QUICK, "--out", str(tmp_path / "run")]
    assert cli.main(["train", str(tmp_path / "x.npy"), *options]) == 0
    assert cli.main(["sample", str(tmp_path / "run"), "--out", str(tmp_path / "s.npz")]) == 0
    x = np.load(tmp_path / "s.npz")["x"]
    assert x.shape == (16, 5, 4) and np.all(x.sum(axis=-1) == 1) and set(np.unique(x)) == {0.0, 1.0}


@pytest.mark.parametrize(
    "options, says",
    [
        (["--likelihood", "categorical"], "a categorical likelihood needs a single 1"),
        (["--likelihood", "pen"], "8 numbers in each step, but a pen's step has 3"),
        (["--likelihood", "gmm", "--components", "0"], "components must be"),
        (["--likelihood", "bernoulli", "--components", "3"], "leave it out"),
        (["--model", "vrn"], 'did you mean "vrnn"'),
        (["--cell", "lstn"], 'did you mean "lstm"'),
        (["--model", "vae", "--recompute"], "a vae has none"),
        (["--posterior", "smoothing", "--chunk", "5"], "reads each as a whole"),
        (["--chunk", "0"], "at least 1"),
        (["--posterior", "smooth"], 'did you mean "smoothing"'),
        (["--model", "rnn", "--posterior", "smoothing"], "--posterior is not for a model of kind rnn"),
        (["--model", "vae", "--cell", "lstm"], "not for a model of kind vae"),
        (["--model", "rnn", "--bound", "iwae"], "of kind rnn: leave bound out"),
    ],
)
def test_choices_that_do_not_suit_the_data_are_one_sentence(options, says, refused, tmp_path):
    assert says in refused("train", "digits8", *options, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_gradcheck_fails_on_a_wrong_backward(monkeypatch, capsys):

    wrong = all_pairs.PAIRS["tanh"]._replace(backward=lambda y, dy: dy * (1 - y))
    monkeypatch.setattr(all_pairs, "PAIRS", {"linear": all_pairs.PAIRS["linear"], "tanh": wrong})
    monkeypatch.setattr(cli.commands, "LIKELIHOODS", {})
    assert cli.main(["gradcheck"]) == 1
    out = capsys.readouterr().out
    assert "FAILED: input 0" in out and out.splitlines()[-1] == "1 of 2 passed; failed: tanh"


def test_data_lists_the_embedded_sets(capsys):
    assert cli.main(["data"]) == 0
    out = capsys.readouterr().out
    for word in ("digits:", "digits8:", "vowels:", "CC BY", "4,000 train", "7 to 29 steps of 12"):
        assert word in out
    assert cli.main(["data", "vowels"]) == 0
    assert "digits" not in capsys.readouterr().out


def test_the_help_of_train_has_every_option_of_training_with_its_default(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(f" --{name.replace('_', '-')} " in text for name in Options._fields)
    for default in ("30; 200 below 1,000 sequences", "50; 1000 for ink", "0; 0.2 below 1,000 sequences if binary"):
        assert f"(default {default})" in text
    for default in ("gru", "4", "0: stop at the first"):
        assert f"(default {default})" in text


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "tinyvrnn", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == f"tinyvrnn {tv.__version__}\n"


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_stays(run, refused):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert "already holds a run" in refused("train", "digits8", *QUICK, "--out", run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_overwrite_replaces_a_run(tmp_path):
    for epochs in ("2", "1"):
        options = [*QUICK[:4], "--epochs", epochs, "--out", str(tmp_path), "--overwrite"]
        assert cli.main(["train", "digits8", *options]) == 0
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["train", "digit"], "did you mean 'digits'"),
        (["train", "nowhere/x.npz"], "check the path"),
        (["train", "digits8", "--likelihood", "bernouli"], 'did you mean "bernoulli"'),
        (["train", "digits8", "--model", "vrn"], 'did you mean "vrnn"'),
        (["train", "digits8", "--backend", "nunpy"], 'did you mean "numpy"'),
        (["train", "vowels", "--likelihood", "bernoulli"], "needs values in [0, 1]"),
        (["train", "digits8", "--hidden", "0"], "h_dim must be a whole number of at least 1"),
        (["train", "digits8", "--epochs", "0"], "epochs must be"),
        (["train", "digits8", "--lr", "nan"], "lr must be a positive number"),
        (["train", "digits8", "--workers", "many"], "workers must be"),
        (["train", "digits8", "--workers", "²"], "workers must be"),
        (["sample", "nowhere", "--out", "x.png", "--steps", "x"], "whole number from 1 to"),
        (["train", "digits8", "--seed", "-1"], "seed must be"),
        (["train", "digits8", "--epochs", "1", "--minutes", "1"], "not allowed with"),
        (["train"], "required: DATA"),
        (["evaluate", "nowhere"], "no checkpoint.npz in nowhere"),
        (["evaluate", "nowhere", "--split", "tset"], 'did you mean "test"'),
        (["sample", "nowhere", "--out", "x.jpg"], "must be a name that ends in .png, .npz, .gif, .mid, .wav or .txt"),
        (["sample", "nowhere", "--out", "x.png", "-n", "0"], "whole number from 1 to"),
        (["sample", "nowhere", "--out", "x.png", "--temperature", "x"], "invalid float value: 'x'"),
        (["train", "digits8", "--bound", "iwea"], 'did you mean "iwae"'),
        (["train", "digits8", "--device-data", "maybe"], 'Unknown device_data "maybe": known are yes, no, auto.'),
        (["train", "digits8", "--particles", "3"], "leave --particles out"),
        (["train", "digits8", "--bound", "fivo", "--particles", "0"], "at least 1"),
        (["exact", "--out", "gaps.gif"], "must be a name that ends in .png"),
        (["data", "vowel"], 'did you mean "vowels"'),
        (["trian", "digits"], 'Unknown command "trian": did you mean "train"'),
        (["train", "digits8", "--model", "q"], "known are vrnn, vrnn-i, rnn, vae; see `tinyvrnn train --help`."),
        (["train", "digits8", "--minuts", "3"], "unrecognized arguments: --minuts 3; see `tinyvrnn train --help`."),
        (["course", "status", "x"], "unrecognized arguments: x; see `tinyvrnn course status --help`."),
        (["--q", "exact"], "unrecognized arguments: --q; see `tinyvrnn --help`."),
    ],
)
def test_a_mistake_gets_one_sentence(arguments, words, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(*arguments)
    assert list(tmp_path.iterdir()) == [], "something was written"


FILES = {
    "nan.npy": (lambda path: np.save(path, np.full((5, 3, 2), np.nan)), "holds nan"),
    "infinite.npy": (lambda path: np.save(path, np.full((5, 3, 2), np.inf)), "holds inf"),
    "flat.npy": (lambda path: np.save(path, np.zeros((5, 3))), "--window N"),
    "empty.npy": (lambda path: np.save(path, np.zeros((0, 3, 2))), "at least one"),
    "short.npz": (lambda path: np.savez(path, x=np.zeros((5, 3, 2)), lengths=[3, 0, 3, 3, 3]), "at least 1 step"),
    "objects.npz": (
        lambda path: np.savez(path, x=np.array([{"a": 1}, {"b": 2}])),
        "object array of (2,), but one of arrays (T, X) of numbers is needed",
    ),
    "cut.npz": (lambda path: path.write_bytes(b"PK\x03\x04 and no more"), "truncated"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_gets_one_sentence_and_no_run(name, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, words = FILES[name]
    write(tmp_path / name)
    assert words in refused("train", name, *QUICK)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_wrong_dimensions_are_named(run, refused, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5, 3, 2)))
    assert "2 values a step, the model takes 8" in refused("evaluate", run, "--data", tmp_path / "x.npy")
    out = tmp_path / "s.npz"
    assert "2 values a step" in refused("sample", run, "--prime", tmp_path / "x.npy", "--out", out)
    assert not out.exists()


def test_a_ragged_prime_is_refused(run, refused, tmp_path):
    np.savez(tmp_path / "x.npz", values=np.zeros((5, 8)), lengths=[2, 3])
    assert "unequal lengths" in refused("sample", run, "--prime", tmp_path / "x.npz", "--out", tmp_path / "s.npz")


def test_a_picture_of_very_many_sequences_is_refused(run, refused, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((129, 3, 8)))
    many = ["sample", run, "--out", tmp_path / "s.png"]
    assert "at most 256 sequences, got 257" in refused(*many, "-n", "257")
    assert "at most 256 sequences, got 258" in refused(*many, "-n", "2", "--prime", tmp_path / "x.npy")
    assert not (tmp_path / "s.png").exists()


def test_a_run_folder_that_is_a_file_is_refused(refused, tmp_path):
    (tmp_path / "taken").write_text("")
    said = refused("train", "digits8", *QUICK, "--out", tmp_path / "taken")
    assert "taken is a file, but a folder is needed: choose another" in said


def test_cupy_without_a_gpu_is_one_sentence(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    tv.backend._cupy_backend.cache_clear()
    assert 'use backend="numpy"' in refused("train", "digits8", "--backend", "cupy")


@pytest.fixture
def strict_too(monkeypatch):
    """The command with --backend strict."""
    monkeypatch.setattr(cli.options, "BACKENDS", ("numpy", "cupy", "strict"))


def fail_to_allocate(*arguments, **options):
    raise MemoryError("Out of memory allocating 4,096 bytes (allocated so far: 512 bytes).")


@pytest.mark.usefixtures("strict_too")
@pytest.mark.parametrize("backend", ["numpy", "strict"])
@pytest.mark.parametrize(
    "name, arguments",
    [
        ("parts", ["evaluate", "RUN"]),
        ("_sample_step", ["sample", "RUN", "--out", "x.npz"]),
        ("gradient", ["train", "digits8", *QUICK, "--out", "new"]),
        ("reconstruct", ["train", "digits8", *QUICK, "--out", "new"]),
        ("_shapes", ["train", "digits8", *QUICK, "--out", "new"]),
    ],
)
def test_out_of_memory_is_one_sentence(name, arguments, backend, run, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tv.VRNN, name, fail_to_allocate)
    arguments = [str(run) if one == "RUN" else one for one in arguments]
    workers = ["--workers", "1"] if arguments[0] == "train" else []
    assert cli.main([*arguments, "--backend", backend, *workers]) == 2
    said = capsys.readouterr().err.splitlines()[-1:]
    assert said[0].startswith("tinyvrnn: Out of memory allocating 4,096 bytes (allocated so far: 512 bytes): use a ")


def test_out_of_memory_without_a_size_is_said_too(refused, run, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(cli.commands.checkpoint, "read", fail)
    assert refused("evaluate", run).startswith("tinyvrnn: Out of memory: use a smaller model, --batch, -n or --draws,")


@pytest.mark.usefixtures("strict_too")
@pytest.mark.parametrize(
    "free, more, says",
    [
        (2**30, [], "particles 1\n"),
        (1000, [], "particles 1, data too large for the GPU\n"),
        (1000, ["--device-data", "yes"], "particles 1, device_data yes\n"),
        (2**30, ["--device-data", "no"], "particles 1, device_data no\n"),
        (1000, ["--backend", "numpy"], "particles 1\n"),
    ],
    ids=["fits", "too large", "yes", "no", "numpy"],
)
@pytest.mark.slow
def test_train_says_where_the_data_are_if_that_is_not_the_usual(free, more, says, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tv.backend, "STRICT_FREE", free)
    out = ["--out", str(tmp_path / "run")]
    assert cli.main(["train", "digits8", *QUICK[:4], "--epochs", "1", "--backend", "strict", *more, *out]) == 0
    assert says in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("strict_too")
def test_a_slow_float64_is_one_line_and_training_goes_on(monkeypatch, tmp_path, capsys):
    device = SimpleNamespace(attributes={"SingleToDoublePrecisionPerfRatio": 32})
    monkeypatch.setattr(strict_namespace, "cuda", SimpleNamespace(Device=lambda: device), raising=False)
    words = ["train", "digits8", *QUICK[:4], "--epochs", "1", "--backend", "strict", "--dtype", "float64"]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    says = "float64 takes up to 32 times as long as float32 on this GPU: train a model of dtype float32"
    assert capsys.readouterr().err == f"tinyvrnn: {says} (--dtype float32).\n"


def test_interrupting_leaves_what_was_written(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.commands, "train_model", interrupted)
    assert cli.main(["train", "digits8", "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "tinyvrnn: Interrupted; what was written so far is whole.\n"
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        assert cli.main(["train", "digits8", "--out", str(tmp_path / "run")]) == 130


DIVERGES = ["--hidden", "4", "--latent", "2", "--epochs", "1", "--lr", "1e30"]


def test_a_run_that_diverges_at_once_leaves_no_folder(tmp_path):
    assert "a number that is not finite at step" in refused_but_printed("digits8", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def refused_but_printed(data, out, *more):
    done = subprocess.run(
        [sys.executable, "-m", "tinyvrnn", "train", data, *DIVERGES, "--out", str(out), *more],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_overwrite_keeps_the_old_run_until_the_new_one_has_something(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refused_but_printed("digits8", folder, "--overwrite")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_constant_data_are_real_valued_and_teach_nothing(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.full((30, 4, 2), 7.0))
    assert cli.main(["train", str(tmp_path / "x.npy"), *QUICK, "--out", str(tmp_path / "run")]) == 2
    assert "tinyvrnn: all columns of x are constant in its train split, so there is" in capsys.readouterr().err


def test_a_file_to_evaluate_is_scored_whole(run, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((2, 5, 8)))
    assert cli.main(["evaluate", str(run), "--data", str(tmp_path / "x.npy"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["split"], result["sequences"], result["steps"]) == ("all", 2, 10)


def test_a_run_does_not_score_its_data_once_they_have_changed(tmp_path, capsys):
    """One more sequence gives another split at random. Data that are named are scored; those as they were, too."""
    x = np.sign(np.random.default_rng(0).standard_normal((40, 6, 1)))
    x[:, :3] = -x[:, 3:]  # mean 0 and standard deviation 1: standardising changes only the type
    file, run = tmp_path / "x.npy", str(tmp_path / "run")
    np.save(file, x)
    assert cli.main(["train", str(file), *QUICK, "--out", run]) == 0
    infer = ["infer", run, "--out", str(tmp_path / "z.npz")]
    assert cli.main(["evaluate", run]) == 0 and cli.main(infer) == 0
    np.save(file, np.concatenate([x, x[:1]]))
    for words in (["evaluate", run], ["evaluate", run, "--split", "valid"], infer):
        capsys.readouterr()
        assert cli.main(words) == 2
        err = capsys.readouterr().err
        assert f"x.npy are not those that {run} was trained on" in err and "name it by --data to score all" in err
    assert cli.main(["evaluate", run, "--data", str(file)]) == 0
    (tmp_path / "run" / "config.toml").unlink()
    assert cli.main(["evaluate", run]) == 0, "a checkpoint alone knows nothing of the data"


@pytest.mark.filterwarnings("default")
def test_a_command_says_that_a_file_has_other_units(tmp_path, capsys):
    """It has standardised the data itself: the advice to do so is for Python."""
    x = 1000 + 100 * np.random.default_rng(0).standard_normal((40, 6, 2))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "scaled.npy", x / 1000)
    np.save(tmp_path / "large.npy", x * 1000)
    run = str(tmp_path / "run")
    assert cli.main(["train", str(tmp_path / "x.npy"), *QUICK, "--out", run]) == 0
    for name in ("scaled.npy", "large.npy"):
        capsys.readouterr()
        assert cli.main(["evaluate", run, "--data", str(tmp_path / name)]) == 0
        err = capsys.readouterr().err
        assert "in Python" not in err and "model.standardise" not in err
    assert "far from the standardised training data" in err and "units" in err


def test_a_disk_that_fails_is_one_sentence(run, refused, monkeypatch, tmp_path):
    def fail(*arguments):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(cli.commands.checkpoint, "read", fail)
    assert refused("evaluate", run) == "tinyvrnn: somewhere: No space left on device.\n"


@pytest.mark.parametrize("value", ["0", "-1", "1e20", str(2**63), "9" * 5000, "nan", "inf", "1e-320"])
@pytest.mark.parametrize(
    "command",
    [
        *(f"train digits8 {option} {{value}}" for option in ("--epochs", "--batch", "--bound iwae --particles")),
        *(
            f"train digits8 {option} {{value}}"
            for option in ("--hidden", "--latent", "--layers", "--chunk", "--patience")
        ),
        *(f"evaluate {{run}} --bound iwae {option} {{value}}" for option in ("--particles",)),
        *(f"evaluate {{run}} {option} {{value}}" for option in ("--chunk",)),
        *(f"sample {{run}} --out {{out}} {option} {{value}}" for option in ("-n", "--steps")),
    ],
)
@pytest.mark.one_in(5)
def test_no_count_beyond_64_bits_is_taken(command, value, run, tmp_path, refused):
    words = command.format(run=run, out=tmp_path / "x.npz", value=value).split()
    assert re.search("must be|invalid", refused(*words)) and not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize(
    "command, says",
    [
        ("train digits8 --hidden 1000000000", "A model of [0-9,]+ parameters would need .* GiB, and this machine has"),
        ("train digits8 --latent 1000000000000", "A model of [0-9,]+ parameters would need"),
        ("train digits8 --layers 100000", "layers must be at most 1000"),
        ("sample {run} --out {out} -n 1000000000000", "1,000,000,000,000 sequences of 8 steps would need"),
        ("sample {run} --out {out} --steps 1000000000000", "16 sequences of 1,000,000,000,000 steps would need"),
        ("evaluate {run} --bound iwae --particles 1000000000000", "1,000,000,000,000 weights of .* would need"),
        ("evaluate {run} --bound fivo --particles 1000000000000", "1,000,000,000,000 particles of .* would need"),
        ("train digits8 --seed " + str(2**64), "seed must be a whole number from 0 to"),
        ("train digits8 --minutes nan", "minutes must be a positive number"),
        ("train digits8 --minutes inf", "minutes must be a positive number"),
    ],
)
def test_more_than_the_machine_holds_is_refused_with_the_limit(command, says, run, tmp_path, refused):
    assert re.search(says, refused(*command.format(run=run, out=tmp_path / "x.npz").split()))
