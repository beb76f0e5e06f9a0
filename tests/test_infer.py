"""`infer`: the latents and the terms of every step are those of the equations, and sum to the ELBO.

Catches: a moment of the wrong distribution, h a step too early, the memory of an LSTM for its h, a mean for the draw,
padding that is not 0, another noise than `elbo`'s, and a set whose sequences come back in another order.
"""

import importlib.util
import json
import re
from pathlib import Path

import checks
import numpy as np
import pytest

import runs
import tinyvrnn as tv
from tinyvrnn import bounds, cli, one_page
from tinyvrnn.arrays import cpu
from tinyvrnn.arrays.backend import get_backend, to_host
from tinyvrnn.bounds.evaluation import infer_all
from tinyvrnn.data import read_sequences
from tinyvrnn.distributions.gaussian import gaussian_kl_forward
from tinyvrnn.errors import ConfigError, DataError
from tinyvrnn.models import equations, stepwise
from tinyvrnn.models import linear_gaussian as lg
from tinyvrnn.nn.cells import h_of

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = {
    "gru": {},
    "lstm": {"cell": "lstm"},
    "smoothing": {"posterior": "smoothing", "cell": "lstm"},
    "vrnn-i": {"model": "vrnn-i"},
    "vae": {"model": "vae"},
    "rnn": {"model": "rnn", "cell": "lstm"},
}
TITLES = (
    "What does the model infer at each step?",
    "Which sequences, and which steps, are unusual?",
    "My data are raw: how do they get onto the model's scale?",
)
every = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


def literal(model, x, mask, eps):
    """mu_z, sigma_z, mu_0, sigma_0, z, h of every step, in a loop of the equations."""
    p, T, rows = model.params, len(x), []
    if model.name == "vae":
        (mu, sigma), _ = equations.encode_forward(p["encode"], x)
        return mu, sigma, 0 * mu, 0 * mu + 1, mu + sigma * eps, mu[..., :0]
    state = np.zeros((x.shape[1], 2 * model.h_dim if model.cell == "lstm" else model.h_dim), x.dtype)
    aheads = stepwise.ahead_forward(p, x, mask)[0] if "backward" in p else [None] * T
    for x_t, ahead, eps_t in zip(x, aheads, eps):
        phi_x, h = equations.features_forward(p["phi_x"], x_t)[0], h_of(p["recur"], state)
        if model.name == "rnn":
            state, _ = equations.remember_forward(p["recur"], phi_x, state)
            rows.append((*[eps_t] * 5, h_of(p["recur"], state)))
            continue
        (mu_0, sigma_0), _ = equations.prior_forward(p["prior"], h)
        (mu_z, sigma_z), _ = equations.infer_forward(p["infer"], phi_x if ahead is None else ahead, h)
        z = mu_z + sigma_z * eps_t
        state, _ = equations.recur_forward(p["recur"], phi_x, equations.features_forward(p["phi_z"], z)[0], state)
        rows.append((mu_z, sigma_z, mu_0 + 0 * mu_z, sigma_0 + 0 * mu_z, z, h_of(p["recur"], state)))
    return [np.stack(steps) for steps in zip(*rows)]


@every
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_every_array_is_that_of_the_equations_and_the_steps_sum_to_the_elbo(options, dtype, backend):
    model, x, lengths, eps = checks.small("gaussian", backend, dtype=dtype, **options)
    host = checks.small("gaussian", dtype=dtype, **options)[0]
    mask = (np.arange(len(x))[:, None] < lengths).astype(dtype)
    found = tv.Inference(*map(to_host, model.infer(x, lengths, eps)))
    for name, wanted in zip(found._fields, literal(host, x, mask, eps)):
        checks.assert_close(getattr(found, name), wanted * mask[..., None], TOLERANCE[dtype], name)
    assert {a.dtype for a in found} == {np.dtype(dtype)}
    for name, part in model.parts(x, lengths, eps)._asdict().items():
        steps = getattr(found, {"log_likelihood": "log_p"}.get(name, name))
        checks.assert_close(steps.sum(axis=0), to_host(part), TOLERANCE[dtype], name)
        assert not steps[mask == 0].any()
    if model.z_dim:
        kl, _ = gaussian_kl_forward(*(a + (mask == 0)[..., None] for a in found[:4]))
        checks.assert_close(found.kl, kl, TOLERANCE[dtype], "KL of the moments")


@every
def test_without_noise_two_calls_agree_with_each_other_and_with_elbo(options):
    model, x, lengths, _ = checks.small("gaussian", **options)
    first, second = model.infer(x, lengths), model.infer(x, lengths)
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    checks.assert_close(first.elbo.sum(axis=0), model.elbo(x, lengths), 1e-12, "ELBO")


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_page_for_a_newcomer_finds_the_same_steps(likelihood):
    model, x, _, eps = checks.small(likelihood)
    found, (log_p, kl, (_, ys, *_)) = model.infer(x, None, eps), one_page.forward(model.params, x, eps, likelihood)
    moments = [moment for group in ("infer", "prior") for moment in one_page.gaussian(ys[group][-1])[:2]]
    wanted = (*moments, ys["phi_z"][0], log_p, kl, log_p - kl)
    for name, array in zip([name for name in found._fields if name != "h"], wanted):
        checks.assert_close(getattr(found, name), array, 1e-12, name)
    checks.assert_close(found.h[:-1], ys["recur"][1][1:], 1e-12, "h_t is what step t + 1 reads")


def test_one_step_of_a_vae_can_be_given_alone():
    model, x, _, eps = checks.small("gaussian", model="vae")
    for whole, step in zip(model.infer(x, None, eps), model.infer(x[1], None, eps[1])):
        assert np.array_equal(whole[1:2], step)


@pytest.mark.parametrize("posterior", lg.POSTERIORS)
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_the_linear_gaussian_model_infers_its_smoothed_moments(posterior, backend):
    x, lengths = checks.rng(0).standard_normal((6, 3, 1)), np.array([6, 2, 4])
    model = lg.LinearGaussian(0.8, 0.4, 0.7, posterior)
    on = get_backend(backend).asarray
    exact = tv.Inference(*map(to_host, model.infer(on(x), lengths)))
    checks.assert_close(exact.elbo.sum(axis=0), to_host(model.elbo(on(x), lengths)), 1e-12, "ELBO")
    eps = checks.rng(1).standard_normal((6, 3, 1))
    drawn = tv.Inference(*map(to_host, model.infer(on(x), lengths, on(eps))))
    checks.assert_close(drawn.elbo.sum(axis=0), to_host(model.elbo(on(x), lengths, on(eps))), 1e-12, "ELBO")
    checks.assert_close(drawn.z, drawn.mu_z + drawn.sigma_z * eps, 1e-12, "z")
    assert np.array_equal(drawn.z, drawn.h) and not drawn.sigma_0[2:, 1].any()
    if posterior == "smoothing":  # E z_t under the true posterior
        chain = model.chain(x, lengths)
        mean, _ = lg.rts_smoother(chain, lg.kalman_filter(chain, x))
        real = np.arange(6)[:, None] < lengths
        checks.assert_close(exact.z, mean * real[..., None], 1e-12, "smoothed mean")
        checks.assert_close(exact.elbo.sum(axis=0), model.log_prob(x, lengths), 1e-12, "log p(x)")


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["vrnn", "rnn", "vae"])
def run(request, tmp_path_factory):
    """The folder of a run on raw data of another scale, and those data, sequences of 1 to 6 steps, as a file."""
    folder, draw = tmp_path_factory.mktemp("runs"), checks.rng(3)
    lengths = draw.integers(1, 7, 150)
    lengths[:140:7] = 6
    np.savez(folder / "mine.npz", values=100 + 5 * draw.standard_normal((lengths.sum(), 3)), lengths=lengths)
    model = runs.small_model(request.param, seed=1)
    model.mean, model.std = np.full(3, 100.0), np.full(3, 5.0)
    tv.save(model, folder / "run", data=str(folder / "mine.npz"))
    return folder


def infer(*words):
    return cli.main(["infer", *map(str, words)])


@pytest.mark.parametrize("words, split", [((), "test"), (("--split", "train"), "train"), (("--data",), "all")])
def test_the_command_writes_each_sequence_in_the_order_of_the_data(run, words, split, capsys):
    path, out, raw = run / "mine.npz", run / "new" / "latents.npz", tv.load_data(run / "mine.npz", standardise=False)
    words = [*words, path] if words == ("--data",) else words
    assert infer(run / "run", *words, "--out", out) == 0
    message = capsys.readouterr().out
    assert message.startswith(f"wrote {out}: mu_z, ") and f"; mine ({split}), " in message
    assert cli.main(["evaluate", str(run / "run"), *map(str, words), "--json"]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    sequences, model = read_sequences(path) if split == "all" else raw.split(split), tv.load(run / "run")
    with np.load(out) as file:
        found = dict(file)
    assert set(found) == {*tv.Inference._fields, "lengths"}
    assert np.array_equal(found["lengths"], sequences.lengths)
    checks.assert_close(found["elbo"].sum(axis=1).mean(), evaluation["elbo_per_sequence"], 1e-5, "ELBO")
    for i, (x, n) in enumerate(zip(sequences, sequences.lengths)):  # alone, with the same noise
        mu, sigma, z = (found[name][i, :n] for name in ("mu_z", "sigma_z", "z"))
        alone = model.infer(((x - 100) / 5)[:, None], None, ((z - mu) / sigma)[:, None])
        for name, array in alone._asdict().items():
            checks.assert_close(found[name][i, :n], array[:, 0], 1e-4, name)
            assert not found[name][i, n:].any()


@pytest.mark.parametrize(
    "out, words, message",
    [
        ("latents.csv", (), "must be a name that ends in .npz"),
        ("mine.npz", (), "would write into a run or the data"),
        ("mine.npz", ("--data", "mine.npz"), "would write into a run or the data"),
        ("run/checkpoint.npz", (), "would write into a run or the data"),
        ("latents.npz", ("--data", "nothing.npz"), "nothing.npz"),
        ("latents.npz", ("--data", "wide.npy"), "has 4 values a step, the model takes 3"),
        ("mine.npz/latents.npz", (), "can't be used"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(run, out, words, message, capsys, monkeypatch):
    monkeypatch.chdir(run)
    np.save("wide.npy", np.zeros((2, 3, 4)))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert infer("run", *words, "--out", out) == 2
    printed, said = capsys.readouterr()
    assert message in said and said.count("\n") == 1 and not printed
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_result_beyond_the_memory_is_refused(run, monkeypatch):
    model, sequences = tv.load(run / "run"), tv.load_data(run / "mine.npz").train
    monkeypatch.setattr(cpu, "_memory", lambda: 20_000)
    with pytest.raises(ConfigError, match="120 sequences of 6 steps would need .* GiB"):
        infer_all(model, sequences)


# ---- the scale of the training data ------------------------------------------------------------------

SCALES = {"large": (300.0, 20.0), "shifted": (5.0, 1.0), "small": (0.0, 0.05), "small, shifted": (1.0, 0.2)}
CALLS = {
    "elbo": lambda model, x: model.elbo(x, [5, 3, 4, 1]),
    "infer": lambda model, x: model.infer(x, [5, 3, 4, 1]),
    "reconstruct": lambda model, x: model.reconstruct(x, [5, 3, 4, 1]),
    "chunk_parts": lambda model, x: model.chunk_parts(x, [5, 3, 4, 1]),
    "sample": lambda model, x: model.sample(steps=1, prime=x),
    "iwae": lambda model, x: bounds.iwae(model, x, [5, 3, 4, 1], 2),
    "fivo": lambda model, x: bounds.fivo(model, x, [5, 3, 4, 1], 2),
}
WARNING = r"far from the standardised training data .* raw data need model\.standardise\(x\)"
TWICE = r"far from the standardised training data .* look standardised twice"


def scaled(mean, std, **options):
    """A model of data of a mean and standard deviation, and such data, on the model's scale and raw."""
    model, x, _, _ = checks.small("gaussian", **options)
    model.mean, model.std = np.full(model.x_dim, mean), np.full(model.x_dim, std)
    x = checks.rng(1).standard_normal(x.shape)
    return model, x, std * x + mean


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.one_in(5)
def test_raw_data_of_any_scale_are_noticed_and_standardised_data_are_not(scale, call, backend):
    model, x, raw = scaled(*scale, backend=backend, dtype="float32")
    call(model, x)  # a warning is an error in the tests
    call(model, model.standardise(raw))
    with pytest.warns(UserWarning, match=WARNING) as warned:
        call(model, raw.astype("float32"))
    assert len(warned) == 1


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_data_that_were_standardised_twice_are_noticed(scale):
    model, x, _ = scaled(*scale)
    with pytest.warns(UserWarning, match=TWICE):
        model.elbo(model.standardise(x))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("call", [tv.VRNN.infer, tv.VRNN.elbo, lambda model, x: tv.bounds.iwae(model, x, particles=2)])
def test_each_line_that_gives_raw_data_is_warned_itself(call):
    model, _, raw = scaled(300, 20)
    with pytest.warns(UserWarning, match=WARNING) as warned:
        call(model, raw)
    assert warned[0].filename == __file__


@every
def test_every_model_notices_raw_data(options):
    model, x, raw = scaled(300, 20, **options)
    model.infer(x)
    with pytest.warns(UserWarning, match=WARNING):
        model.infer(raw)


def test_data_of_a_model_without_a_scale_are_taken_as_they_are():
    model, _, raw = scaled(0.0, 1.0)
    model.infer(300 * raw)


@pytest.mark.parametrize("silence", [0.0, 0.001])
def test_silence_padding_and_one_outlier_are_no_other_scale(silence):
    model, x, _ = scaled(0.0, 0.05)
    model.elbo(np.full_like(x, silence))
    x[3:, 0], x[1, 1, 2] = 1e6, 30  # padding, and a value that an anomaly could have
    model.elbo(x, [3, 5, 5, 5])


@pytest.mark.parametrize("mean", [0.0, 0.6, 1.0, 5.0])
@pytest.mark.parametrize("factor", [1, 6, 8])
def test_a_tiny_scale_is_no_reason_to_think_that_data_were_standardised_twice(mean, factor):
    """All columns, or one of several, hardly vary in the training data, and move by some standard deviations here."""
    model, x, _ = scaled(mean, 1e-6)
    model.elbo(factor * x)
    model.std = [1e-6, 1, 1, 1]
    x[..., 0] *= factor
    model.elbo(x)


def test_one_column_that_moves_far_does_not_make_all_data_raw():
    model, x, _ = scaled(0.0, 1.0)
    model.std = [1e-6, 1, 1, 1]
    x[..., 0] = 1e5
    with pytest.warns(UserWarning, match="far from the standardised training data .*: check their units"):
        model.elbo(x)


def test_raw_data_are_noticed_among_much_padding():
    model, _, raw = scaled(*SCALES["small, shifted"], T=30, B=8)
    with pytest.warns(UserWarning, match=WARNING):
        model.elbo(raw, [30, *[1] * 7])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_standardise_does_what_was_done_to_the_training_data(dtype, backend):
    arrays = [1e6 + checks.rng(i).standard_normal((3, 9, 4)) for i in range(3)]
    data, model = tv.Data.from_sequences("far", *arrays), checks.small("gaussian", backend, dtype=dtype)[0]
    model.mean, model.std = data.mean, data.std
    raw = arrays[2].swapaxes(0, 1)
    for x in (raw, raw.tolist(), get_backend(backend).asarray(raw), raw[0]):
        found = model.standardise(x)
        wanted = tv.pad(data.test, "float64")[0]
        checks.assert_close(to_host(found), wanted if found.ndim == 3 else wanted[0], 1e-6, "x")
        assert found.dtype == dtype and type(found) is type(model.theta)
    for wrong in (raw[..., :3], 3.0, np.zeros(0)):
        with pytest.raises(DataError, match=r"Expected x of shape \(\.\.\., 4\) to standardise, got"):
            model.standardise(wrong)


@pytest.mark.filterwarnings("default")
def test_the_command_warns_once_of_data_on_another_scale(run, capsys):
    np.save(run / "other.npy", 1e5 * checks.rng(0).standard_normal((300, 2, 3)))
    assert infer(run / "run", "--out", run / "latents.npz") == 0
    assert capsys.readouterr().err == ""
    assert infer(run / "run", "--data", run / "other.npy", "--out", run / "latents.npz") == 0
    said = capsys.readouterr().err
    assert said.startswith("tinyvrnn: These data are far from the standardised") and said.count("\n") == 1


# ---- docs/how_to.md and its script -----------------------------------------------------------------


@pytest.fixture(scope="module")
def vowels(tmp_path_factory):
    """A folder with runs/vowels, an untrained model."""
    folder, data = tmp_path_factory.mktemp("how_to"), tv.load_data("vowels")
    model = tv.VRNN(12, 6, 2, likelihood="gaussian")
    model.mean, model.std = data.mean, data.std
    tv.save(model, folder / "runs" / "vowels", data="vowels")
    return folder


def test_the_python_of_the_how_to_runs(vowels, monkeypatch, capsys):
    text, namespace = (ROOT / "docs" / "how_to.md").read_text(encoding="utf-8"), {}
    sections = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    monkeypatch.chdir(vowels)
    for title in TITLES:
        for code in re.findall(r"^```python\n(.*?)^```$", sections[title], re.MULTILINE | re.DOTALL):
            exec(code, namespace)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sequence")]
    assert all(re.fullmatch(r"sequence \d+: \S+ nats a step, most at step \d+", line) for line in lines)
    worst = [float(line.split(": ")[1].split()[0]) for line in lines]
    assert worst == sorted(worst, reverse=True) and len(worst) == 5


@pytest.fixture(scope="module")
def anomalies():
    spec = importlib.util.spec_from_file_location("anomalies", ROOT / "scripts" / "anomalies.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def test_the_auroc_is_the_share_of_pairs_in_the_right_order(anomalies):
    draw = checks.rng(0)
    score, bad = draw.integers(0, 9, 60).astype(float), draw.random(60) < 0.3
    pairs = [(a > b) + (a == b) / 2 for a in score[bad] for b in score[~bad]]
    assert anomalies.auroc(score, bad) == pytest.approx(np.mean(pairs), rel=1e-12)


def test_anomalies_are_where_they_are_said_to_be(anomalies):
    clean = tv.load_data("vowels").test
    for kind in anomalies.KINDS.values():
        sequences, bad = anomalies.planted(clean, kind)
        changed = (sequences.values != clean.values).any(axis=1)
        assert np.array_equal(sequences.lengths, clean.lengths) and not (changed & ~bad).any()
        for i, (start, stop) in enumerate(zip(clean.offsets, clean.offsets[1:])):
            assert bad[start:stop].any() == (i % 2 == 0)
            assert bad[start:stop].sum() in (0, 1, anomalies.N)


def test_the_script_prints_the_table_of_the_how_to_and_draws_its_picture(anomalies, vowels, capsys):
    anomalies.main([str(vowels / "runs" / "vowels"), "--out", str(vowels / "a.png")])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    page = (ROOT / "docs" / "how_to.md").read_text(encoding="utf-8")
    for what, name, *values in rows:
        assert f"| {what} | VRNN |" in page and all(0 <= float(value) <= 1 for value in values)
        if name == "AR(1)":  # it depends on no training
            assert f"| | AR(1) | {' | '.join(values)} |" in page
    assert len(rows) == 2 * len(anomalies.KINDS) and (vowels / "a.png").stat().st_size > 10_000
