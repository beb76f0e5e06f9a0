"""Columns that are constant in the training split: no model or baseline reads or scores them, and samples repeat them.

Catches: a constant that earns its density, a column that ruins a score or a standardised value where it moves, weights
of such a column that draws are fed through, a mask lost in workers, chunks, particles, forecasts or checkpoints.
"""

import json

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn import bounds, cli
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.data import SCALES, mapped

COLUMN = 1  # of the wide data, the constant one
MODELS = ("vrnn", "vrnn-i", "rnn", "vae")
WAYS = [("elbo", model, {}) for model in MODELS] + [(bound, "vrnn", {}) for bound in ("iwae", "fivo")]
WAYS += [("elbo", "vrnn", {"posterior": "smoothing"}), ("elbo", "rnn", {"cell": "lstm"})]
every_way = pytest.mark.parametrize("bound, kind, options", WAYS, ids=str)


def wide_and_narrow(kind="vrnn", likelihood="gaussian", backend="numpy", dtype="float64", **options):
    """Two models with equal weights, the first with one column more, which is constant."""
    sizes = {"h_dim": 5, "z_dim": 2, "features": 7, "layers": 1, "likelihood": likelihood, "dtype": dtype} | options
    sizes.pop({"vae": "h_dim", "rnn": "z_dim"}.get(kind), None)
    likes = {"components": 2} if likelihood == "gmm" else {}
    wide, narrow = (tv.models.MODELS[kind](x, **sizes, **likes, backend=backend, seed=3) for x in (4, 3))
    for group, leaves in narrow.params.items():
        for leaf, own in leaves.items():
            more = to_host(wide.params[group][leaf])
            if more.shape != own.shape and more.shape[0] != own.shape[0]:  # the inputs, or a bias
                more = np.delete(more.reshape(-1, 4, *more.shape[1:]), COLUMN, axis=1).reshape(own.shape)
            elif more.shape != own.shape:
                more = np.delete(more.reshape(len(more), -1, 4), COLUMN, axis=2).reshape(own.shape)
            leaves[leaf] = narrow.backend.asarray(more)
    wide.mean, wide.std = [1.0, 0.1, 2.0, 3.0], [1.0, 0.0, 1.0, 2.0]
    narrow.mean, narrow.std = np.delete(wide.mean, COLUMN), np.delete(wide.std, COLUMN)
    return wide, narrow


def batch(model, bound="elbo", T=6, B=4):
    """x of the narrow model, and the other arguments of a bound."""
    rng, K = checks.rng(5), () if bound == "elbo" else (3,)
    eps = rng.standard_normal((T, B, *K, model.z_dim))
    given = {"lengths": [6, 3, 4, 1], "eps": model.backend.asarray(eps, dtype=model.dtype)}
    if bound == "fivo":
        given["uniforms"] = model.backend.asarray(rng.random((T, B)))
    return rng.standard_normal((T, B, 3)), given | ({} if bound == "elbo" else {"bound": bound, "particles": 3})


def with_column(x, value):
    """x with a column of this value, or values."""
    return np.insert(x, COLUMN, value, axis=-1)


def sets(moving=False, seed=0, **options):
    """Data with a constant column, and without it; moving: not constant in the test split."""
    x = [checks.rng(seed + k).normal(1, 2, (n, 8, 3)) for k, n in enumerate((12, 5, 5))]
    wide = [with_column(each, 0.1) for each in x]
    if moving:
        wide[2][..., COLUMN] = 1e30 * checks.rng(9).random(wide[2].shape[:2])
    return tv.Data.from_sequences("wide", *wide, **options), tv.Data.from_sequences("narrow", *x)


# ---- models ---------------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_loss_and_gradient_are_those_without_the_column(bound, kind, options, backend):
    wide, narrow = wide_and_narrow(kind, backend=backend, **options)
    x, given = batch(narrow, bound)
    expected, grads, _ = narrow.loss_and_grads(narrow.to_array(x), **given)
    for value in (0.0, 7.0, 1e11):
        loss, more, _ = wide.loss_and_grads(wide.to_array(with_column(x, value)), **given)
        assert float(loss) == pytest.approx(float(expected), rel=1e-12)
        assert np.linalg.norm(to_host(more)) == pytest.approx(np.linalg.norm(to_host(grads)), rel=1e-12)


def test_a_mixture_too_leaves_the_column_out():
    wide, narrow = wide_and_narrow(likelihood="gmm")
    x, given = batch(narrow)
    assert wide.elbo(with_column(x, 5.0), **given) == pytest.approx(narrow.elbo(x, **given), rel=1e-12)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_draws_repeat_the_constant_and_do_not_depend_on_its_weights(kind, backend):
    wide, _ = wide_and_narrow(kind, backend=backend)
    raw = np.full((5, 2, 4), 0.1) + [0.9, 0, 2, 3]
    x = wide.standardise(raw)

    def draws():
        given = {"steps": 4, "seed": 2}
        moved = wide.standardise(raw + [0, 9, 0, 0])
        observed = np.ones(raw.shape)
        observed[2, :, 0] = 0
        return [
            wide.in_raw_units(wide.sample(3, **given)),
            wide.in_raw_units(wide.sample(2, **given, prime=moved, mean=True)),
            wide.forecast(moved, 4, 3, seed=2),
            wide.impute(moved, observed, 2),
            wide.in_raw_units(wide.reconstruct(x)),
        ]

    first = [to_host(a) for a in draws()]
    assert all((a[..., COLUMN] == 0.1).all() and np.isfinite(a).all() for a in first)
    assert (to_host(wide.reconstruct(x))[..., COLUMN] == 0).all()
    group = wide.params[{"rnn": "predict", "vae": "decode"}.get(kind, "generate")]
    for bias in (leaf for leaf in group.values() if leaf.ndim == 1 and leaf.size % 4 == 0):
        bias.reshape(-1, 4)[:, COLUMN] += 50
    for leaf in (wide.params["phi_x"]["W1"],) if kind in ("vrnn", "rnn", "vrnn-i") else ():
        leaf[COLUMN] += 3
    for a, b in zip(first, draws(), strict=True):
        np.testing.assert_array_equal(a, to_host(b))


def test_a_likelihood_that_scores_whole_steps_takes_no_constant_column():
    model = tv.VRNN(3, 4, 2, likelihood="pen", components=2)
    with pytest.raises(tv.ConfigError, match="std of a vrnn is 0 for a column that is constant .* the likelihood pen"):
        model.std = [1.0, 0.0, 1.0]
    with pytest.raises(tv.ConfigError, match="std of a vrnn must hold no negative numbers"):
        model.std = [1.0, -1.0, 1.0]


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"chunk": 3}, {"bound": "fivo", "particles": 3}], ids=str)
def test_training_is_that_without_the_column(options):
    found = []
    for model, data in zip(wide_and_narrow(), sets(moving=True)):
        records = tv.train(model, data, epochs=2, batch=5, lr=0.01, **options)
        after = bounds.evaluate_elbo(model, data.test, batch_size=5, chunk=options.get("chunk")).elbo_per_sequence
        found.append([*(record["valid"]["elbo"] for record in records), after])
        assert (model.std == 0).any() == (model.x_dim == 4)
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_checkpoint_keeps_the_column_out(tmp_path):
    wide, narrow = wide_and_narrow()
    tv.save(wide, tmp_path)
    x, given = batch(narrow)
    found = tv.load(tmp_path).elbo(with_column(x, 3.0), **given)
    assert found == pytest.approx(narrow.elbo(x, **given), rel=1e-12)


# ---- data and baselines ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moving", [False, True])
def test_a_constant_column_is_0_everywhere_and_said_once(moving):
    wide, narrow = sets(moving, medium={"columns": ["a", "level", "b", "c"]})
    assert wide.std[COLUMN] == 0 and wide.mean[COLUMN] == 0.1 and wide.units == narrow.units
    for split in tv.data.SPLITS:
        np.testing.assert_array_equal(wide.split(split).values, with_column(narrow.split(split).values, 0))
    said = ["columns that have one value in the training data, or none, and so are read as 0 and not scored: level"]
    assert (
        list(wide.notes) == said + ["columns of these that have other values in the data to be scored: level"] * moving
    )
    assert sets()[0].notes[0].endswith("not scored: 1 (counted from 0)")


@pytest.mark.parametrize("split", tv.data.SPLITS)
def test_baselines_are_exactly_those_without_the_column(split):
    (wide, narrow) = sets(moving=True)
    found, expected = tv.data.baselines(wide, split), tv.data.baselines(narrow, split)
    assert found == expected and len(found) == 2
    assert [v.parameters for v in found.values()] == [v.parameters for v in expected.values()]


def test_a_column_that_is_always_0_in_binary_training_data_costs_little():
    x = (checks.rng().random((40, 6, 3)) < 0.4).astype("uint8")
    x[:30, :, 1], x[30:, :, 1] = 0, 1
    data = tv.Data.from_sequences("border", x[:30], x[30:35], x[35:])
    per_step = [nats / 6 for nats in tv.data.baselines(data).values()]
    assert all(-20 < nats < 0 for nats in per_step) and (data.std == 1).all() and not data.notes


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
def test_a_column_is_constant_up_to_rounding(dtype):
    x = checks.rng().integers(0, 2, (30, 6, 3)).astype(dtype)
    one = np.asarray(3.3, dtype)
    x[..., 0], x[..., 1] = (
        np.where(x[..., 0], one, np.nextafter(one, 4) if x.dtype.kind == "f" else one),
        200 + x[..., 1],
    )
    data = tv.Data.from_sequences("rounded", x[:20], x[20:25], x[25:], kind="real")
    assert data.std[0] == 0 and (data.std[1:] > 0.4).all() and len(data.notes) == 1


def test_a_column_without_a_value_in_training_is_not_scored():
    x = checks.rng().standard_normal((30, 6, 2))
    x[:20, :, 1], x[20:, :, 1] = np.nan, 1e9
    with pytest.raises(tv.DataError, match="the test split of late holds no observed value in the columns that vary"):
        tv.Data.from_sequences("late", x[:20], x[20:25], np.where([False, True], x, np.nan)[25:], missing="nan")
    data = tv.Data.from_sequences("late", x[:20], x[20:25], x[25:], missing="nan")
    assert data.std[1] == 0 and len(data.notes) == 2
    assert all(abs(baseline) < 100 for baseline in tv.data.baselines(data).values())
    x[:20, :, 0] = 4
    with pytest.raises(tv.DataError, match="nothing to learn"):
        tv.Data.from_sequences("late", x[:20], x[20:25], x[25:], missing="nan")


def test_a_memory_mapped_column_is_0_too(monkeypatch):
    x = with_column(checks.rng().standard_normal((9, 4, 3)), 5.0)
    x[8, :, COLUMN] = 6
    whole = mapped.Mapped.of(x, 4 * np.arange(9), np.full(9, 4), "x")
    data = tv.Data.from_sequences("mapped", whole[:5], whole[5:7], whole[7:])
    assert all((each[:, COLUMN] == 0).all() for each in data.test) and len(data.notes) == 2
    assert (tv.pad(data.test)[0][..., COLUMN] == 0).all()


def test_data_without_any_spread_are_refused():
    x = np.full((4, 3, 2), 5.0)
    with pytest.raises(tv.DataError, match="all columns of flat are constant in its train split, so there is nothing"):
        tv.Data.from_sequences("flat", x, x + 1, x)


# ---- the commands ---------------------------------------------------------------------------------------------------


def test_the_commands_leave_the_column_out_and_write_the_constant(tmp_path, capsys):
    for split, n in {"train": 6, "valid": 2, "test": 2}.items():
        (tmp_path / "data" / split).mkdir(parents=True)
        for i in range(n):
            rows = with_column(checks.rng(10 * n + i).normal(3, 2, (7, 2)), 5.0 if split != "test" else 1e9 * (i + 1))
            np.savetxt(tmp_path / "data" / split / f"{i}.csv", rows, delimiter=",", header="a,level,b", comments="")
    data, run, out = str(tmp_path / "data"), str(tmp_path / "run"), tmp_path / "out.npz"

    def call(*words):
        assert cli.main([*map(str, words)]) == 0
        return capsys.readouterr()

    said = call("train", data, "--epochs", 1, "--hidden", 3, "--latent", 2, "--out", run)
    assert said.out.count("level") == 2 and said.out.count("data to be scored: level") == 1 and not said.err
    score = json.loads(call("evaluate", run, "--json").out)
    assert -100 < score["elbo_per_sequence"] < 0 and all(-100 < v < 0 for v in score["baselines"].values())
    past = tmp_path / "data" / "test"
    call("infer", run, "--out", out)
    call("sample", run, "-n", 3, "--out", tmp_path / "s.npz")
    call("sample", run, "--prime", past, "--steps", 2, "--out", tmp_path / "p.npz")
    call("forecast", run, "--prime", past, "--steps", 2, "--draws", 3, "--out", tmp_path / "f.npz")
    for name in ("s", "p", "f"):
        with np.load(tmp_path / f"{name}.npz") as found:
            values = found[found.files[0]][..., COLUMN]
        if name == "p":  # a prime is written as it was given
            assert (values[:, :7] == [[1e9], [2e9]]).all()
            values = values[:, 7:]
        assert (values == 5).all(), name


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8"])
@pytest.mark.parametrize("medium", [None, {"name": "sound", "rate": 8, "full_scale": 128.0}])
def test_integers_over_the_whole_range_of_their_type_are_no_constant(dtype, medium):
    limits = np.iinfo(dtype)
    x = checks.rng(0).integers(limits.min, limits.max, (8, 5, 3), dtype, endpoint=True)
    x[0, :2, 0] = limits.min, limits.max
    given, expected = (tv.Data.from_sequences("loud", own, own, own, medium=medium) for own in (x, x.astype(float)))
    np.testing.assert_allclose([given.mean, given.std], [expected.mean, expected.std], rtol=1e-12)
    assert given.notes == () and given.std.min() > limits.max / 8


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_sound_that_is_constant_in_training_is_refused(tmp_path, dtype):
    """Silence too: it is no binary data."""
    x = np.zeros((6, 3, 4), dtype)
    x[5] = 1
    np.savez(tmp_path / "a.npz", x=x, split=[0, 0, 0, 1, 1, 2], sample_rate=8000)
    with pytest.raises(tv.DataError, match="all columns of a are constant in its train split, so there is nothing"):
        tv.load_data(tmp_path / "a.npz")
    x[0, 0, 0] = 1
    np.savez(tmp_path / "a.npz", x=x, split=[0, 0, 0, 1, 1, 2], sample_rate=8000)
    words = ["train", str(tmp_path / "a.npz"), "--epochs", "1", "--hidden", "3", "--latent", "2"]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    assert tv.load(tmp_path / "run").likelihood.name == "gaussian"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("axis, value", [(0, 0.0), (1, 0.1)])
def test_a_pen_that_moves_along_one_axis_is_refused(scale, axis, value):
    x = checks.rng(0).normal(size=(5, 6, 3))
    x[..., 2] = x[..., 2] > 0
    x[..., axis] = value
    with pytest.raises(
        tv.DataError, match=f"d{'xy'[axis]} is {value:g} in every step of the train split, but a pen moves"
    ):
        tv.Data.from_sequences("ink", x, x, x, kind="pen", scale=scale)
