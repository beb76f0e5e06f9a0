"""Runs survive interruptions: a resumed run gives the same bits, files are intact, one process writes at a time."""

import asyncio
import errno
import fcntl
import hashlib
import json
import math
import os
import platform
import pty
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import checks
import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.image import imread

import tinyvrnn as tv
from runs import OPTIONS, record_of, small_data, small_model
from tinyvrnn import cli
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.io import files
from tinyvrnn.models import MODELS
from tinyvrnn.runs import checkpoint
from tinyvrnn.runs import run as run_folder
from tinyvrnn.runs.run import Run
from tinyvrnn.training import loop
from tinyvrnn.training.options import NEW, RECIPES, Options
from tinyvrnn.training.state import COUNTS, NEW_COUNTS, VECTORS


def train(model, data, folder=None, stop=None, resume=False, overwrite=False, **options):
    """Train, stopping the loop after so many batches (None: never). Returns the records."""
    own, count = loop._Training._batch, [0]

    def batch(self, *given):
        if stop is not None and count[0] == stop:
            self.interrupt.noted = True
        count[0] += 1
        return own(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Training, "_batch", batch)
        run = Run(folder, overwrite, resume) if folder else None
        return tv.train(model, data, run=run, **OPTIONS | options)


def without_seconds(records):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def read_records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(model, records, other, other_records):
    assert (model.backend.to_host(model.theta) == other.backend.to_host(other.theta)).all()
    assert without_seconds(records) == without_seconds(other_records)


def stopped_and_taken_up(folder, data, stops, make, **options):
    """The model and the records of a run that was stopped after so many batches, each time counted from the last."""
    for i, stop in enumerate(stops):
        with pytest.raises(KeyboardInterrupt):
            train(make(), data, folder, stop, resume=i > 0, **options)
    model = make()
    return model, train(model, data, folder, resume=True, **options)


# ---- bit for bit ---------------------------------------------------------------------------------


@pytest.mark.one_in(7)
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("name", MODELS)
def test_a_run_goes_on_bit_for_bit(name, likelihood, workers, tmp_path):
    """Stopped within an epoch, at the end of one, and right after resuming: 3 batches an epoch, 12 in all."""
    data, options = small_data(likelihood), {"workers": workers, "warmup": 2}
    whole = small_model(name, likelihood)
    records = train(whole, data, **options)
    again = stopped_and_taken_up(tmp_path, data, (1, 3, 0, 2), lambda: small_model(name, likelihood), **options)
    assert_same_run(*again, whole, records)
    assert len(records) == 4 and (tv.load(tmp_path).theta == whole.theta).all()
    assert read_records(tmp_path) == again[1]


@pytest.mark.parametrize(
    "options",
    [
        {"bound": "iwae", "particles": 3},
        {"bound": "fivo", "particles": 3},
        {"chunk": 2},
        {"recompute": True},
        {"dropout": 0.3, "weight_decay": 0.5},
        {"patience": 1, "lr": 0.5, "epochs": 9},
        {"warmup": 1, "warmup_cycles": 2, "beta": 0.5, "free_bits": 0.1},
        {"freeze": "prior,phi_x", "lr_schedule": "constant"},
        {"lr_schedule": "step", "lr_every": 1, "lr_factor": 0.5},
    ],
    ids=str,
)
def test_a_run_with_other_options_goes_on_bit_for_bit(options, tmp_path):
    data, whole = small_data("gaussian"), small_model()
    records = train(whole, data, **options)
    assert_same_run(*stopped_and_taken_up(tmp_path, data, (1, 1), small_model, **options), whole, records)


@pytest.mark.parametrize("options", [{"cell": "lstm"}, {"posterior": "smoothing"}, {"backend": checks.DEVICE}], ids=str)
def test_a_run_of_another_kind_goes_on_bit_for_bit(options, tmp_path):
    def make():
        return small_model(**options)

    data, whole = small_data("gaussian"), make()
    records = train(whole, data)
    assert_same_run(*stopped_and_taken_up(tmp_path, data, (2, 2), make), whole, records)


def test_a_stopped_run_that_forgets_a_count_is_another_run(tmp_path):
    """The comparison can fail: if Adam loses its step count, the numbers differ."""
    data, whole = small_data("gaussian"), small_model()
    records = train(whole, data)
    with pytest.MonkeyPatch.context() as patch:
        restore = loop.State.restore

        def forgetful(self, arrays, counts):
            restore(self, arrays, counts | {"k": 0})

        patch.setattr(loop.State, "restore", forgetful)
        again, others = stopped_and_taken_up(tmp_path, data, (4,), small_model)
    assert not (again.theta == whole.theta).all() and without_seconds(others) != without_seconds(records)


def test_ctrl_c_after_the_last_batch_is_no_interruption(tmp_path):
    """Of 12 batches; after the end of an epoch, before it is saved."""
    assert len(train(small_model(), small_data("gaussian"), tmp_path / "last", stop=11)) == 4
    with pytest.raises(KeyboardInterrupt, match="^after step 9; the last save in .* is intact, and --resume "):
        train(small_model(), small_data("gaussian"), tmp_path / "before", stop=8)
    with pytest.raises(KeyboardInterrupt, match="^after step 9$"):
        train(small_model(), small_data("gaussian"), stop=8)


def test_a_run_that_is_out_of_time_before_an_epoch_ended_leaves_the_weights_as_they_are(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), small_data("gaussian"), tmp_path, 1)
    _, arrays = checkpoint.read_file(tmp_path / "resume.npz", (), VECTORS, lambda *_: True)
    model = small_model()
    assert train(model, small_data("gaussian"), tmp_path, resume=True, minutes=1e-9) == []
    assert (model.theta == arrays["theta"]).all() and not (model.theta == arrays["best_theta"]).all()


def test_a_finished_run_goes_on_when_it_is_given_more_epochs(tmp_path):
    data, model = small_data("gaussian"), small_model()
    first = train(model, data, tmp_path)
    longer = train(small_model(), data, tmp_path, resume=True, epochs=6)
    assert len(longer) == 6 and longer[:4] == first
    same = small_model()
    assert train(same, data, tmp_path, resume=True, epochs=6) == longer
    assert (same.theta == tv.load(tmp_path).theta).all()


def test_minutes_are_counted_over_all_parts_of_a_run(tmp_path):
    data, options = small_data("gaussian"), {"epochs": None, "minutes": 0.01, "patience": 10**6}
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), data, tmp_path, 5, **options)
    time.sleep(0.5)
    records = train(small_model(), data, tmp_path, resume=True, **options)
    assert 0.55 < records[-1]["seconds"] < 0.9


@pytest.mark.parametrize(
    "seconds, moments", [(0.0, [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]), (60.0, [(1, 0), (2, 0)])]
)
def test_a_long_epoch_is_saved_within(seconds, moments, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", seconds)
    kept = []
    monkeypatch.setattr(Run, "keep", lambda self, state: kept.append((state.epoch, state.batch)))
    train(small_model(), small_data("gaussian"), tmp_path, epochs=2)
    assert kept == moments


# ---- what can't go on ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, says",
    [
        (
            {"data": small_data("gaussian", seed=1)},
            "holds a run on small, but small is different data, has changed since",
        ),
        ({"model": {"seed": 3}}, "a run with seed = 0, which can't be resumed with 3"),
        ({"options": {"batch": 9}}, "a run with batch = 8, which can't be resumed with 9"),
        ({"options": {"seed": 9}}, "a run with seed = 0, which can't be resumed with 9"),
        ({"options": {"freeze": "prior"}}, "a run with freeze = None, which can't be resumed with prior"),
        (
            {"options": {"lr_schedule": "constant"}},
            "a run with lr_schedule = cosine, which can't be resumed with constant",
        ),
    ],
)
def test_another_run_does_not_go_on_here(change, says, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), small_data("gaussian"), tmp_path, 4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    data, model = change.get("data", small_data("gaussian")), small_model(**change.get("model", {}))
    with pytest.raises(tv.CheckpointError, match=says):
        train(model, data, tmp_path, resume=True, **change.get("options", {}))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_began_without_a_recipe_goes_on_without_it(tmp_path, monkeypatch, capsys):
    """As after an update of the package whose recipe differs."""
    np.save(tmp_path / "long.npy", checks.rng(0).normal(size=(4, 120, 1)))
    words = ["train", str(tmp_path / "long.npy"), "--hidden", "3", "--latent", "2", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as before:
        before.setattr("tinyvrnn.training.options.RECIPES", RECIPES[:1])
        assert cli.main([*words, "--epochs", "1"]) == 0
    assert "chunk" not in capsys.readouterr().out
    assert cli.main([*words, "--epochs", "2", "--resume"]) == 0
    said = capsys.readouterr().out
    assert "epoch 2" in said and "chunk" not in said and "batch 64" in said
    assert cli.main([*words, "--epochs", "3", "--resume", "--chunk", "50"]) == 2
    assert "a run with chunk = None, which can't be resumed with 50: give the original" in capsys.readouterr().err
    assert cli.main([*words, "--hidden", "5", "--resume"]) == 2
    assert "a run with h_dim (--hidden) = 3, which can't be resumed with 5" in capsys.readouterr().err


def test_a_run_of_data_on_another_scale_does_not_go_on(tmp_path):
    """The same numbers once standardised, of raw data that are three times as large."""
    splits = [list(small_data("gaussian").split(name)) for name in ("train", "valid", "test")]
    one, other = (
        tv.Data.from_sequences("s", *([a * s for a in x] for x in splits), standardise=(np.zeros(3), s * np.ones(3)))
        for s in (2.0, 4.0)
    )
    assert np.array_equal(one.train.values, other.train.values)
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), one, tmp_path, 4)
    with pytest.raises(tv.CheckpointError, match="is different data, has changed since"):
        train(small_model(), other, tmp_path, resume=True)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_single_number_that_changed_is_other_data(split, tmp_path):
    splits = {name: list(small_data("gaussian").split(name)) for name in ("train", "valid", "test")}
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), small_data("gaussian"), tmp_path, 4)
    splits[split][3] = splits[split][3] + 1e-6
    data = tv.Data.from_sequences("small", *splits.values(), standardise=False)
    with pytest.raises(tv.CheckpointError, match="is different data, has changed since"):
        train(small_model(), data, tmp_path, resume=True)


def stopped_and_changed(folder, change):
    """A run stopped after 4 batches, with change(manifest, arrays) applied to its resume.npz."""
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), small_data("gaussian"), folder, 4)
    path, names = folder / "resume.npz", (*VECTORS, "mean", "std")
    manifest, arrays = checkpoint.read_file(path, ("config", "counts"), names, lambda *_: True)
    change(manifest, arrays)
    checkpoint.write(path, manifest, arrays)


def test_a_record_of_options_that_is_none_is_refused(tmp_path):
    stopped_and_changed(tmp_path, lambda m, a: m["config"].update(training=5))
    with pytest.raises(tv.CheckpointError, match="resume.npz is damaged"):
        tv.Run(tmp_path, resume=True).recorded  # noqa: B018


def test_a_run_goes_on_with_another_version_name_of_the_data_and_backend(tmp_path):
    whole, again = small_model(), small_model()
    records = train(whole, small_data("gaussian"))
    stopped_and_changed(
        tmp_path,
        lambda m, a: (
            m["config"].update(tinyvrnn="0.0.1"),
            m["config"]["data"].update(source="elsewhere.npz", window=5),
            m["config"]["model"].update(backend="strict"),
            [m["config"]["training"].pop(name) for name in NEW],
            [m["counts"].pop(name) for name in NEW_COUNTS],
        ),
    )
    assert_same_run(again, train(again, small_data("gaussian"), tmp_path, resume=True), whole, records)


@pytest.mark.parametrize("first, second", [("numpy", checks.DEVICE), (checks.DEVICE, "numpy")])
def test_weights_go_from_one_backend_to_another_and_back_bit_for_bit(first, second, tmp_path):
    model, saved = small_model(backend=first), []
    train(model, small_data("gaussian"), tmp_path)
    for name in (second, first):
        loaded = tv.load(tmp_path, backend=name)
        assert loaded.backend.name == name
        saved.append(to_host(loaded.theta).tobytes())
        tv.save(loaded, tmp_path)
    assert saved == 2 * [to_host(model.theta).tobytes()]


@pytest.mark.parametrize("first, second", [("numpy", checks.DEVICE), (checks.DEVICE, "numpy")])
def test_a_finished_run_is_taken_up_on_another_backend_bit_for_bit(first, second, tmp_path):
    model, again = small_model(backend=first), small_model(backend=second)
    records = train(model, small_data("gaussian"), tmp_path)
    assert_same_run(again, train(again, small_data("gaussian"), tmp_path, resume=True), model, records)


@pytest.mark.parametrize("first, second", [("numpy", checks.DEVICE), (checks.DEVICE, "numpy")])
def test_a_stopped_run_goes_on_with_another_backend_and_place_of_its_data(first, second, tmp_path):
    """On strict with NumPy's bits; a GPU rounds differently."""
    data, whole = small_data("gaussian"), small_model()
    train(whole, data)
    for i, (name, wanted) in enumerate([(first, "no"), (second, "yes"), (first, "auto")]):
        model = small_model(backend=name)
        stop = 4 if i < 2 else None  # in the middle of an epoch of 3
        with pytest.raises(KeyboardInterrupt) if stop else nullcontext():
            train(model, data, tmp_path, stop, resume=i > 0, device_data=wanted)
    tolerance = 0 if checks.DEVICE == "strict" else 1e-4
    np.testing.assert_allclose(to_host(model.theta), whole.theta, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda options: options.pop("weight_decay"), "weight_decay = None, which can't be resumed with 0.0"),
        (lambda options: options.update(colour=1), "colour = 1, which can't be resumed with None"),
    ],
)
def test_options_that_one_of_two_versions_does_not_know_are_no_agreement(change, says, tmp_path):
    stopped_and_changed(tmp_path, lambda manifest, arrays: change(manifest["config"]["training"]))
    with pytest.raises(tv.CheckpointError, match=says):
        train(small_model(), small_data("gaussian"), tmp_path, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(config=[]),
        lambda m: m["counts"].update(step=-1),
        lambda m: m["counts"].update(stale=1.0),
        lambda m: m["counts"].update(skipped=True),
        *(lambda m, name=n: m["counts"].update({name: 10**6}) for n, k in COUNTS.items() if k is int),
        *(lambda m, name=n: m["counts"].update({name: 2**60}) for n, k in (COUNTS | {"k": int}).items() if k is int),
        lambda m: m["counts"].update(epoch=0, step=0, batch=0, best_step=0, stale=0),
        lambda m: m["counts"].update(fall_from=1.1),
        lambda m: m["counts"].update(fall_from=-0.1),
        lambda m: m["counts"].update(best=math.nan),
        lambda m: m["counts"].update(best=math.inf),
        lambda m: m["counts"].update(seconds=math.inf),
        lambda m: m["counts"].update(seconds=math.nan),
        lambda m: m["counts"].update(totals=[0.0, 0.0, math.nan]),
        lambda m: m["counts"]["records"][0].update(lr=math.inf),
        lambda m: m["counts"]["records"][0]["valid"].update(elbo=math.nan),
        lambda m: m["counts"].update(best="1"),
        lambda m: m["counts"].update(k=None),
        lambda m: m["counts"].update(totals=[0.0, 0.0]),
        lambda m: m["counts"].update(totals=[0.0, 0.0, 0]),
        lambda m: m["counts"].update(records={}),
        lambda m: m["counts"]["records"][0].pop("step"),
        lambda m: m["counts"]["records"][0].pop("seconds"),
        lambda m: m["counts"]["records"][0].pop("epoch"),
        lambda m: m["counts"]["records"][0].pop("train"),
        lambda m: m["counts"]["records"][0].update(lr="1"),
        lambda m: m["counts"]["records"][0]["train"].update(elbo=[]),
        lambda m: m["counts"]["records"][0]["valid"].update(kl={}),
    ],
)
def test_a_state_that_no_run_has_saved_is_refused(change, tmp_path):
    stopped_and_changed(tmp_path, lambda manifest, arrays: change(manifest))
    with pytest.raises(tv.CheckpointError, match="resume.npz is damaged"):
        train(small_model(), small_data("gaussian"), tmp_path, resume=True)


@pytest.mark.parametrize("name, value", [(n, v) for n in VECTORS for v in (math.nan, math.inf)] + [("v", -1.0)])
def test_vectors_that_no_run_has_saved_are_refused(name, value, tmp_path):
    stopped_and_changed(tmp_path, lambda manifest, arrays: arrays[name].__setitem__(-1, value))
    with pytest.raises(tv.CheckpointError, match="resume.npz is damaged: its weights or metadata"):
        train(small_model(), small_data("gaussian"), tmp_path, resume=True)


def test_weights_that_are_not_finite_do_not_replace_the_last_save(tmp_path, monkeypatch):
    """They come from a last step before the minute's save; the next batch reports them."""
    monkeypatch.setattr(loop, "SAVE_EVERY", 0)
    own = loop._Training._keep

    def keep(training):
        if training.state.step == 4:
            training.model.theta[:] = math.nan
        own(training)

    monkeypatch.setattr(loop._Training, "_keep", keep)
    with pytest.raises(tv.DivergedError, match="at step 4 .*the last save in .* is intact"):
        train(small_model(), small_data("gaussian"), tmp_path)
    monkeypatch.setattr(loop._Training, "_keep", own)
    again, whole = small_model(), small_model()
    records = train(again, small_data("gaussian"), tmp_path, resume=True)
    assert_same_run(again, records, whole, train(whole, small_data("gaussian")))


def test_a_state_at_its_limits_goes_on(tmp_path):
    """Counts of 0, a norm that is not a number, integers in records, and more records than 1 MiB."""
    long = [record_of(epoch) | {"grad_norm": None} for epoch in range(1, 7001)]
    changes = {"stale": 0, "skipped": 0, "best_step": 0, "best": -math.inf, "records": long}
    changes |= {"epoch": 7000, "step": 21_001, "batch": 1, "seen": 22}
    stopped_and_changed(tmp_path, lambda manifest, arrays: manifest["counts"].update(changes))
    assert len(train(small_model(), small_data("gaussian"), tmp_path, resume=True, epochs=7002)) == 7002


def test_weights_of_another_shape_are_refused(tmp_path):
    stopped_and_changed(tmp_path, lambda manifest, arrays: arrays.update(v=arrays["v"][:1]))
    with pytest.raises(tv.CheckpointError, match="its weights or counts are not those of this model and data"):
        train(small_model(), small_data("gaussian"), tmp_path, resume=True)


def test_config_toml_says_what_decides_the_run(tmp_path):
    data, model = small_data("gaussian"), small_model(seed=2)
    train(model, replace(data, origin="/set.npz", scale="axes"), tmp_path, epochs=1, lr=0.25)
    found = tomllib.loads((tmp_path / "config.toml").read_text())
    arrays = [array for own in (data.train, data.valid, data.test) for array in (own.lengths, own.values)]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays))
    splits = {"sequences": [22, 5, 5], "sha256": digest.hexdigest()}
    assert found["data"] == {"source": "/set.npz", "units": data.units, "scale": "axes"} | splits
    assert found["model"] == {"name": "vrnn", "backend": "numpy"} | model.config and model.config["seed"] == 2
    options = Options(epochs=1, batch=8, lr=0.25)._asdict()
    assert found["training"] == {name: value for name, value in options.items() if value is not None}
    assert found["tinyvrnn"] == tv.__version__ and len(found) == 4


def test_the_checkpoint_holds_the_best_weights_also_where_a_run_goes_on_from_others(tmp_path):
    """It also names the training data; it is written for better weights, and when a run is resumed."""
    data, file = replace(small_data("gaussian"), origin="/set.npz"), tmp_path / "checkpoint.npz"
    for resume in (False, True):
        model = small_model()
        state = loop.State(model, loop.Adam(model.theta))
        with Run(tmp_path, resume=resume) as run:
            run.start(model, data, Options(epochs=9, batch=8), state)
            if not resume:
                one_more_epoch(state)
                run.keep(state)
                best, before = model.theta.copy(), file.stat().st_mtime_ns
                state.vectors["theta"] *= 2
                state.step, state.batch = state.step + 1, 1
                run.keep(state)
                assert file.stat().st_mtime_ns == before
    assert (model.theta == 2 * best).all() and (tv.load(tmp_path).theta == best).all()
    manifest, _ = checkpoint.read(tmp_path)
    assert (manifest["step"], manifest["data"], manifest["steps"]) == (3, "/set.npz", data.train.max_steps)


def test_a_state_saves_all_that_it_holds():
    state = loop.State(small_model(), loop.Adam(small_model().theta))
    assert set(vars(state)) == {"backend", "optimiser", "vectors", "totals", *COUNTS}
    numbers = {name: kind(i + 3) if kind is not list else [] for i, (name, kind) in enumerate(COUNTS.items())}
    counts = numbers | {"k": 40, "totals": [41.0, 42.0, 43.0]}
    arrays = {name: np.full_like(vector, i) for i, (name, vector) in enumerate(state.vectors.items())}
    state.restore(arrays, counts)
    assert state.saved()[1] == counts and state.optimiser.k == 40
    assert all((state.vectors[name] == array).all() for name, array in arrays.items())
    assert state.vectors["m"] is state.optimiser.m and state.vectors["v"] is state.optimiser.v


def test_only_a_better_bound_is_the_best():
    """An equal bound is not better; nor is NaN."""
    state = loop.State(model := small_model(), loop.Adam(model.theta))
    first = model.theta.copy()
    found = []
    for value in (-3.0, -3.0, np.nan, -4.0, -2.0):
        state.step += 1
        found.append((state.score(value), state.best, state.best_step, state.stale))
        model.theta += 1
    assert found == [
        (True, -3.0, 1, 0), (False, -3.0, 1, 1), (False, -3.0, 1, 2), (False, -3.0, 1, 3), (True, -2.0, 5, 0)
    ]  # fmt: skip
    assert np.allclose(state.vectors["best_theta"], first + 4)


def test_a_run_takes_one_training(tmp_path):
    with Run(tmp_path / "run") as run:
        tv.train(small_model(), small_data("gaussian"), run=run, **OPTIONS)
        with pytest.raises(tv.CheckpointError, match="make another Run"):
            tv.train(small_model(), small_data("gaussian"), run=run, **OPTIONS)


def test_numbers_of_numpy_are_options_too(tmp_path):
    options = {"epochs": np.int64(2), "lr": np.float32(1e-3), "seed": np.uint8(1)}
    records = train(small_model(), small_data("gaussian"), tmp_path, **options)
    assert len(records) == 2 and len(read_records(tmp_path)) == 2


def test_a_run_stays_where_it_was_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Run("run") as run:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        tv.train(small_model(), small_data("gaussian"), run=run, **OPTIONS)
    assert (tmp_path / "run" / "checkpoint.npz").exists() and not list((tmp_path / "elsewhere").iterdir())


def test_overwriting_takes_away_what_the_old_run_left(tmp_path):
    """Stopped within the first epoch: no picture and no checkpoint of the old run may remain."""
    train(small_model(), small_data("gaussian"), tmp_path)
    (tmp_path / "curves.png").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        train(small_model(seed=5), small_data("gaussian"), tmp_path, stop=0, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "metrics.jsonl", "resume.npz"]
    manifest, _ = checkpoint.read_file(tmp_path / "resume.npz", ("counts",), VECTORS, lambda *_: True)
    assert (manifest["counts"]["epoch"], manifest["counts"]["batch"]) == (0, 1)


@pytest.mark.parametrize("epochs", [1, 0])
def test_a_run_whose_files_are_not_in_their_places_yet_is_read(epochs, tmp_path, monkeypatch):
    """Saved after an epoch, or within the first; --resume then moves them."""
    train(small_model(), small_data("gaussian"), tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_folder, "settle", lambda folder: None)
        train(small_model(seed=5), small_data("gaussian"), tmp_path, stop=2 if epochs else 0, overwrite=True)
    for _ in range(2):
        if epochs:
            assert checkpoint.read(tmp_path)[0]["config"]["seed"] == 5
        else:
            with pytest.raises(tv.CheckpointError, match="There is no checkpoint.npz"):
                tv.load(tmp_path)
        with Run(tmp_path, resume=True):
            assert not (tmp_path / ".written").exists()


def test_a_damaged_state_is_one_sentence(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), small_data("gaussian"), tmp_path, 4)
    path = tmp_path / "resume.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(tv.CheckpointError, match="resume.npz is damaged"):
        train(small_model(), small_data("gaussian"), tmp_path, resume=True)


def test_an_older_runs_folder_can_not_go_on(tmp_path):
    tv.save(small_model(), tmp_path)
    with pytest.raises(tv.CheckpointError, match="no resume.npz: choose another folder .--out., or give --overwrite"):
        train(small_model(), small_data("gaussian"), tmp_path, resume=True)


# ---- signals -------------------------------------------------------------------------------------

SIGNALS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
numbers = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


@pytest.fixture
def handled():
    """handled(number, handler) sets a handler for the test; they begin as Python sets them, without nohup."""
    before = {number: signal.signal(number, handler) for number, handler in SIGNALS.items()}
    yield signal.signal
    for number, handler in before.items():
        signal.signal(number, handler)


def kill_me(number):
    """Send a signal to this process, whose handler may raise."""
    os.kill(os.getpid(), number)
    for _ in range(100):
        time.sleep(0.001)


@numbers
@pytest.mark.usefixtures("handled")
def test_a_signal_waits_for_the_end_of_a_batch_and_ctrl_c_after_it_does_not(number, capsys):
    """A scheduler may send its signal to the process and to its group."""
    with loop.Interrupt() as interrupt:
        kill_me(number)
        assert interrupt.noted == number
        if number != signal.SIGINT:
            kill_me(number)
        with pytest.raises(KeyboardInterrupt):
            kill_me(signal.SIGINT)
    assert {number: signal.getsignal(number) for number in SIGNALS} == SIGNALS
    more = "; press Ctrl-C again to stop at once" if number == signal.SIGINT else f", as {number.name} asks"
    assert set(capsys.readouterr().err.splitlines()) == {f"Stopping after this batch{more}."}


@numbers
@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *given: None], ids=["ignored", "own"])
def test_a_signal_that_is_ignored_or_handled_is_left_as_it_is(number, handler, handled):
    """nohup ignores SIGHUP, and a shell SIGINT of a job in the background."""
    handled(number, handler)
    with loop.Interrupt() as interrupt:
        assert signal.getsignal(number) is handler
        kill_me(number)
        assert not interrupt.noted
    assert signal.getsignal(number) is handler


@contextmanager
def interrupted_after(number, batches):
    """The process gets a signal within a batch, after so many others."""
    own, count = loop._Training._batch, [0]

    def batch(self, *given):
        count[0] += 1
        if count[0] == batches + 1:
            kill_me(number)
        return own(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Training, "_batch", batch)
        yield


@pytest.mark.usefixtures("handled")
def test_the_first_ctrl_c_counts_under_asyncio(tmp_path):
    async def work():
        train(small_model(), small_data("gaussian"), tmp_path)

    with interrupted_after(signal.SIGINT, 4), pytest.raises(KeyboardInterrupt, match="^after step 5;"):
        asyncio.run(work())
    assert Run(tmp_path).can_go_on


def test_the_first_ctrl_c_counts_in_a_cell_that_awaits(handled):
    """ipykernel's handler, which notes that it shall cancel the cell."""

    def handle_sigint(*given): ...

    handle_sigint.__module__ = "ipykernel.ipkernel"
    handled(signal.SIGINT, handle_sigint)
    with loop.Interrupt() as interrupt:
        kill_me(signal.SIGINT)
    assert interrupt.noted and signal.getsignal(signal.SIGINT) is handle_sigint


@pytest.mark.usefixtures("handled")
def test_ctrl_c_in_the_validation_says_that_it_waits_for_that(tmp_path, monkeypatch, capsys):
    own = loop.evaluate_elbo

    def evaluate(*given, **options):
        kill_me(signal.SIGINT)
        return own(*given, **options)

    monkeypatch.setattr(loop, "evaluate_elbo", evaluate)
    with pytest.raises(KeyboardInterrupt, match="^after step 3;"):
        train(small_model(), small_data("gaussian"), tmp_path)
    assert capsys.readouterr().err.startswith("Stopping after the validation; press Ctrl-C again")


@numbers
@pytest.mark.usefixtures("handled")
def test_a_signal_that_stops_the_command_is_in_its_exit_code(number, tmp_path, capsys):
    with interrupted_after(number, 2):
        assert cli.main([*COMMAND[3:], "--workers", "1", "--out", str(tmp_path)]) == 128 + number
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("Stopping after this batch") and f"saved in {tmp_path}; resume with: tinyvrnn" in last
    with pytest.raises(tv.CheckpointError, match="already holds a run .config.toml, metrics.jsonl, resume.npz.:"):
        Run(tmp_path).__enter__()


def test_another_thread_trains_without_signals(handled):
    with ThreadPoolExecutor(1) as pool:
        records = pool.submit(train, small_model(), small_data("gaussian"), epochs=1).result()
    assert len(records) == 1 and signal.getsignal(signal.SIGINT) is signal.default_int_handler


COMMAND = [sys.executable, "-m", "tinyvrnn", "train", "digits8", "--hidden", "16", "--latent", "2", "--epochs", "20"]


def start(folder, *more):
    words = [*COMMAND, "--workers", "1", "--out", str(folder), *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """The exit code of a process; its standard error must be empty unless it was killed."""
    _, err = process.communicate()
    assert process.returncode < 0 or err == "", err
    return process.returncode


def wait_for(process, line):
    for text in process.stdout:
        if text.startswith(line):
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
def test_each_signal_saves_and_says_how_to_go_on(tmp_path, monkeypatch):
    """One after the other; the run then equals one that was never stopped."""
    monkeypatch.setattr(cli.report, "draw_pictures", lambda *given: None)  # takes seconds
    longer = ["--workers", "1", "--epochs", "40", "--out"]
    assert cli.main([*COMMAND[3:], *longer, str(tmp_path / "whole")]) == 0
    for number in SIGNALS:
        process = start(tmp_path / "run", "--epochs", "40", "--resume")
        wait_for(process, "epoch ")  # a busy machine may finish some more
        process.send_signal(number)
        out, err = process.communicate()
        assert process.returncode == 128 + number and err.startswith("Stopping after this batch"), err
        assert "resume with: tinyvrnn train digits8" in err and err.count("\n") == 2
        assert err.endswith(f"--workers 1 --out {tmp_path}/run --epochs 40 --resume.\n")
    assert cli.main([*COMMAND[3:], *longer, str(tmp_path / "run"), "--resume"]) == 0
    assert_same_checkpoints(tmp_path / "run", tmp_path / "whole")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("number, both", [(None, False), (signal.SIGINT, False), (signal.SIGTERM, True)])
def test_output_that_breaks_stops_no_training_and_hides_no_save(number, both, tmp_path):
    """As in `tinyvrnn train | tee log`, where Ctrl-C or something else ends tee; both: with 2>&1."""
    reader, writer = os.pipe()
    words = [*COMMAND, "--workers", "1", "--out", str(tmp_path), "--epochs", "500" if number else "5"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    err = writer if both else subprocess.PIPE
    process = subprocess.Popen(words, stdout=writer, stderr=err, text=True, env=environment)
    os.close(writer)
    with open(reader) as pipe:
        next(line for line in pipe if line.startswith("epoch 1:"))
    if number:
        process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == (128 + number if number else 0), err
    assert both or (f"saved in {tmp_path}; resume with" in err if number else err == "")
    assert Run(tmp_path).can_go_on and (number or (tmp_path / "samples.png").exists())


def test_a_terminal_that_is_closed_saves(tmp_path):
    """With the bar, which is drawn on it, and the SIGHUP that the system sends."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(COMMAND[0], [*COMMAND, "--workers", "1", "--out", str(tmp_path), "--epochs", "500"])
    termios.tcsetwinsize(terminal, (24, 80))
    while not Run(tmp_path).can_go_on:
        os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP


@pytest.mark.parametrize("stream", ["broken", "closed", None])
@pytest.mark.usefixtures("handled")
def test_bar_and_message_of_a_training_need_no_stream(stream, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as broken:
        if stream == "closed":
            broken.close()
        monkeypatch.setattr(sys, "stderr", broken if stream else None)
        assert len(train(small_model(), small_data("gaussian"), progress=True)) == 4
        with interrupted_after(signal.SIGTERM, 4), pytest.raises(KeyboardInterrupt, match="after step 5"):
            train(small_model(), small_data("gaussian"), progress=True)


def assert_same_checkpoints(folder, other):
    (manifest, arrays), (manifest_of_other, arrays_of_other) = (checkpoint.read(f) for f in (folder, other))
    assert manifest == manifest_of_other and (arrays["theta"] == arrays_of_other["theta"]).all()
    assert without_seconds(read_records(folder)) == without_seconds(read_records(other))


# ---- killed --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_run_killed_at_random_moments_goes_on(seed, tmp_path):
    """SIGKILL, up to six times, at random moments from the start of the process."""
    rng = random.Random(seed)
    assert finish(start(tmp_path / "whole")) == 0
    for _ in range(6):
        process = start(tmp_path / "run", "--resume")
        time.sleep(rng.uniform(0.3, 2.5))
        process.kill()
        if finish(process) == 0:
            break
    assert finish(start(tmp_path / "run", "--resume")) == 0
    assert_same_checkpoints(tmp_path / "run", tmp_path / "whole")
    assert not list((tmp_path / "run").glob(".*"))


def kills(folder, every):
    """The state that `tests/kills.py` found after each kill."""
    script = Path(__file__).with_name("kills.py")
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # threads do not survive a fork
    words = [sys.executable, str(script), str(folder), str(every)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


STATES = {  # way of writing -> the runs that `evaluate` and --resume may find
    "fresh": [(None, None), ("A1", "A1")],
    "resume": [("A1", "A1"), ("A1", "A2"), ("A2", "A2")],  # the checkpoint may be older, but of the same run
    "overwrite": [("A1", "A1"), ("B1", "B1")],
    "overwrite within the first epoch": [("A1", "A1"), (None, "B0")],
    "pictures": [("A1", "A1")],
}


def assert_the_old_or_the_new(results):
    for result in results:
        assert tuple(result["found"]) in STATES[result["way"]], result
    assert {result["way"] for result in results} == set(STATES)


def test_a_kill_or_a_full_disk_while_writing_leaves_the_old_or_the_new(tmp_path):
    assert_the_old_or_the_new(kills(tmp_path, every=61))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_kill_while_writing_mixes_or_loses_anything(tmp_path):
    """Before, within and after each write, flush, fsync, rename, making and removing, in each way to write a run."""
    results = kills(tmp_path, every=1)
    assert_the_old_or_the_new(results)
    found = {(result["way"], *result["found"]) for result in results}
    assert found == {(way, *state) for way, states in STATES.items() for state in states}
    assert len(results) > 2000 and {result["moment"].split()[1] for result in results} == {
        "open", "write", "flush", "fsync", "replace", "mkdir", "rmdir", "unlink"
    }  # fmt: skip


# ---- a disk that refuses -------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path):
    """A run that has saved one epoch, still entered, and its state."""
    model, data = small_model(), small_data("gaussian")
    with Run(tmp_path / "run") as run:
        state = loop.State(model, loop.Adam(model.theta))
        run.start(model, data, Options(epochs=9), state)
        one_more_epoch(state)
        run.keep(state)
        yield run, state


def one_more_epoch(state):
    state.vectors["theta"] *= 2
    state.step, state.epoch = state.step + 3, state.epoch + 1
    state.records.append(record_of(state.epoch))
    state.score(float(state.epoch))


def assert_the_old_is_whole(run, state, epoch=1):
    assert (tv.load(run.folder).theta == state.vectors["theta"] * 0.5 ** (state.epoch - epoch)).all()
    manifest, arrays = checkpoint.read_file(run.folder / "resume.npz", ("counts",), ("theta",), lambda *_: True)
    assert manifest["counts"]["epoch"] == epoch and len(read_records(run.folder)) == epoch
    assert not list(run.folder.glob(".*.part"))


def test_a_full_disk_keeps_the_old_and_says_so(kept, monkeypatch):
    run, state = kept
    one_more_epoch(state)
    monkeypatch.setattr(files, "open", lambda path, mode: open("/dev/full", "wb"), raising=False)
    with pytest.raises(tv.CheckpointError, match="resume.npz: No space left on device; the last save is intact"):
        run.keep(state)
    assert_the_old_is_whole(run, state)
    monkeypatch.undo()
    run.keep(state)
    assert_the_old_is_whole(run, state, epoch=2)


def test_a_full_disk_keeps_the_run_that_was_to_be_overwritten_and_says_so(tmp_path, monkeypatch):
    train(small_model(), small_data("gaussian"), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(files, "open", lambda path, mode: open("/dev/full", "wb"), raising=False)
    with pytest.raises(tv.CheckpointError, match="No space left on device; what it held before is intact.$"):
        train(small_model(seed=5), small_data("gaussian"), tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_disk_that_fills_within_a_file_keeps_the_old(kept):
    run, state = kept
    one_more_epoch(state)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(tv.CheckpointError, match="resume.npz: File too large; the last save is intact"):
            run.keep(state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_the_old_is_whole(run, state)


def test_a_folder_that_turns_read_only_keeps_the_old():
    """As another user if this one is root, who can write everywhere."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        with a_user_without_rights():
            model, data = small_model(), small_data("gaussian")
            with Run(Path(folder) / "run") as run:
                state = loop.State(model, loop.Adam(model.theta))
                run.start(model, data, Options(epochs=9), state)
                one_more_epoch(state)
                run.keep(state)
                one_more_epoch(state)
                run.folder.chmod(0o555)
                with pytest.raises(tv.CheckpointError, match="Permission denied; the last save is intact"):
                    run.keep(state)
                assert_the_old_is_whole(run, state)
                run.folder.chmod(0o755)
            run.folder.chmod(0o555)
            with pytest.raises(tv.CheckpointError, match="Cannot write a run into .*: Permission denied; choose"):
                Run(run.folder, resume=True).__enter__()
            run.folder.chmod(0o755)


@contextmanager
def a_user_without_rights():
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_is_removed_is_written_anew(kept):
    run, state = kept
    shutil.rmtree(run.folder)
    one_more_epoch(state)
    with pytest.warns(UserWarning, match="run was removed while it was in use: it is created again"):
        run.keep(state)
    assert_the_old_is_whole(run, state, epoch=2)
    assert (run.folder / "config.toml").exists()


def test_records_that_can_not_be_written_are_named(kept):
    run, state = kept
    one_more_epoch(state)
    (run.folder / "metrics.jsonl").unlink()
    (run.folder / "metrics.jsonl").mkdir()
    says = f"Cannot continue writing into {run.folder}: Is a directory; the last save is intact: fix the cause, then "
    with pytest.raises(tv.CheckpointError, match=says):
        run.keep(state)


def test_another_thread_may_keep_what_this_one_began(kept):
    run, state = kept
    one_more_epoch(state)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run.keep, state).result()
    assert_the_old_is_whole(run, state, epoch=2)


def test_a_picture_is_whole_or_not_there_and_says_so(kept, monkeypatch):
    run, _ = kept
    figure = Figure(figsize=(1, 2), dpi=50)
    with rc_context({"savefig.format": "svg"}):
        run.picture("curves.png", figure)
    assert imread(run.folder / "curves.png").shape == (100, 50, 4)
    before = (run.folder / "curves.png").read_bytes()
    monkeypatch.setattr(files, "open", lambda path, mode: open("/dev/full", "wb"), raising=False)
    says = f"Cannot write curves.png into {run.folder}: No space left on device; the weights and records are intact.$"
    with pytest.raises(tv.CheckpointError, match=says):
        run.picture("curves.png", figure)
    assert (run.folder / "curves.png").read_bytes() == before


def test_records_are_appended_to_what_is_there(kept):
    run, state = kept
    path = run.folder / "metrics.jsonl"
    path.write_text("a line\n")
    one_more_epoch(state)
    run.keep(state)
    assert path.read_text() == f"a line\n{json.dumps(state.records[1])}\n"


# ---- one process at a time -----------------------------------------------------------------------


def test_a_second_process_is_refused_with_the_id_of_the_first(tmp_path):
    process = start(tmp_path / "run", "--epochs", "10000", "--patience", "10000")
    wait_for(process, "epoch 1:")
    for second in [start(tmp_path / "run", *more) for more in ([], ["--resume"], ["--overwrite"])]:
        _, err = second.communicate()
        assert second.returncode == 2 and err.count("\n") == 1
        assert f"is in use by the process {process.pid} on " in err and "wait until it ends" in err
    process.kill()
    finish(process)


@pytest.mark.parametrize("removed", ["run/.lock", "run", "."])
def test_a_lock_that_was_removed_is_taken_again(removed, tmp_path):
    """The file alone, the folder, or the one that it is in; by a run that is entered twice, as the command does."""
    with Run(tmp_path / "runs" / "run") as run, run:
        state = loop.State(model := small_model(), loop.Adam(model.theta))
        run.start(model, small_data("gaussian"), Options(epochs=9), state)
        gone = tmp_path / "runs" / removed
        gone.unlink() if gone.is_file() else shutil.rmtree(gone)
        run.keep(state)
        assert (run.folder / ".lock").read_text().startswith(str(os.getpid()))
    assert not (run.folder / ".lock").exists() and run.can_go_on


HOST, HERE = platform.node(), f"{os.getpid()}\n{platform.node()}\n"


@pytest.mark.parametrize(
    "left",
    ["", "7\nnode-3\n1\n", f"{HERE}123\n", f"{HERE}{run_folder.TOKEN}\n", "\0\xff" * 99],
    ids=["empty", "another host", "another container", "this process", "rubbish"],
)
def test_a_lock_file_that_was_left_is_no_lock(left, tmp_path):
    """Also of an earlier container on this host, where a process had the same number."""
    (tmp_path / ".lock").write_text(left)
    with Run(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{HERE}{run_folder.TOKEN}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "marker, says",
    [
        (b"", "another process"),
        (b"\xff\xfe\n\n\n", "another process"),
        (b"one\nnode-3\n1\n", "another process"),
        (b"7\nnode-3\n1\n", "the process 7 on node-3"),
        (f"{HERE}1\n".encode(), "another process"),
        (f"1{HERE}1\n".encode(), f"the process 1{os.getpid()} on {HOST}"),
    ],
    ids=["empty", "rubbish", "no number", "another host", "another container", "this host"],
)
def test_whatever_a_lock_holds_is_said_in_a_sentence(marker, says, tmp_path, monkeypatch):
    """The file may belong to a container, which has its own numbers of processes."""
    monkeypatch.setattr(run_folder, "WAIT", 0)
    (tmp_path / ".lock").write_bytes(marker)
    with open(tmp_path / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(tv.CheckpointError, match=f"in use by {says}: wait until it ends, or choose another folder"):
            Run(tmp_path).__enter__()
    with Run(tmp_path):
        pass


def test_another_run_of_this_process_is_said_to_be_one(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "WAIT", 0)
    with Run(tmp_path), pytest.raises(tv.CheckpointError, match="is in use by another Run of this process: wait"):
        Run(tmp_path).__enter__()


@pytest.mark.parametrize(
    "code, says", [(errno.ENOLCK, "No locks available"), (errno.ENOSYS, "Function not implemented"), (None, "director")]
)
def test_a_folder_that_cannot_be_locked_is_refused(code, says, tmp_path, monkeypatch):
    """A network's file system may have no locks. None: .lock is a folder."""
    if code is None:
        (tmp_path / "run" / ".lock").mkdir(parents=True)
    else:
        monkeypatch.setattr(fcntl, "flock", lambda *given: (_ for _ in ()).throw(OSError(code, os.strerror(code))))
    with pytest.raises(tv.CheckpointError, match=f"Cannot write a run into .*/run because of its .lock: .*{says}"):
        Run(tmp_path / "run").__enter__()
    assert code is None or not (tmp_path / "run" / "checkpoint.npz").exists()


def test_a_child_neither_keeps_nor_takes_away_the_lock(tmp_path, monkeypatch):
    """A process of `multiprocessing` that was forked within a Run, and one that was started there, outlive it."""
    monkeypatch.setattr(run_folder, "WAIT", 0)
    ready, told = os.pipe()
    if (parent := os.fork()) == 0:
        try:
            run = Run(tmp_path / "run").__enter__()
            if (child := os.fork()) == 0:
                run.__exit__()
            else:
                os.write(told, b"%d %d\n" % (child, subprocess.Popen(["sleep", "20"]).pid))
            time.sleep(20)
        finally:
            os._exit(1)
    os.close(told)
    with open(ready) as pipe:
        children = [int(pid) for pid in pipe.readline().split()]
    time.sleep(0.1)  # the child leaves the Run
    with pytest.raises(tv.CheckpointError, match=f"in use by the process {parent} on "):
        Run(tmp_path / "run").__enter__()
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    with Run(tmp_path / "run"):
        for pid in children:
            os.kill(pid, signal.SIGKILL)  # fails if it has ended


def test_what_a_dead_process_was_writing_is_cleared_and_nothing_else(tmp_path, monkeypatch):
    for name in (".resume.npz.1a.part", ".writing/.resume.npz.1a.part", ".mine", "my.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with Run(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".mine", "my.part"]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [self / "gone"] * (pattern != "*"))  # just removed
    with Run(tmp_path):
        pass


def test_a_folder_that_another_process_took_after_its_removal_is_left_to_it(kept):
    run, state = kept
    shutil.rmtree(run.folder)
    other = start(run.folder, "--epochs", "10000", "--patience", "10000")
    wait_for(other, "epoch 1:")
    config = (run.folder / "config.toml").read_bytes()
    with pytest.raises(tv.CheckpointError, match=f"in use by the process {other.pid} on"):
        run.keep(state)
    assert (run.folder / "config.toml").read_bytes() == config
    other.kill()
    finish(other)


def test_a_folder_is_free_again_after_a_run_and_after_a_mistake(tmp_path):
    with pytest.raises(tv.ConfigError), Run(tmp_path / "new") as run:
        tv.train(small_model(), small_data("gaussian"), run=run, epochs=0)
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    with Run(tmp_path / "mine"), Run(tmp_path / "new") as run, run:
        pass
    assert not (tmp_path / "new").exists() and (tmp_path / "mine").exists()
    train(small_model(), small_data("gaussian"), tmp_path / "new", epochs=1)
    says = r"already holds a run \(checkpoint.npz, config.toml, metrics.jsonl, resume.npz\): choose another folder"
    with pytest.raises(tv.CheckpointError, match=says):
        Run(tmp_path / "new").__enter__()
    with Run(tmp_path / "new", resume=True):
        pass
