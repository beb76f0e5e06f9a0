"""Checkpoints: a saved model is restored bit for bit; a damaged, foreign or newer file is refused in one sentence."""

import json
import os
import zipfile
from dataclasses import replace

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from runs import small_data
from tinyvrnn.io import files
from tinyvrnn.runs import checkpoint


@pytest.fixture
def model():
    model = tv.VRNN(3, 4, 2, features=5, likelihood="gaussian", seed=7)
    model.mean, model.std, model.units = np.arange(3.0), np.arange(1.0, 4.0), "nats of something"
    return model


def rewrite(folder, change):
    """Apply change(manifest, arrays) to a checkpoint."""
    path = folder / checkpoint.FILE
    with np.load(path) as archive:
        arrays = dict(archive)
    manifest = json.loads(arrays.pop("manifest").tobytes())
    change(manifest, arrays)
    np.savez(path, manifest=np.frombuffer(json.dumps(manifest).encode(), np.uint8), **arrays)


def test_a_model_comes_back_as_it_was(tmp_path, model):
    tv.save(model, tmp_path / "runs" / "run", step=5, data="vowels", steps=29)
    again = tv.load(tmp_path / "runs" / "run")
    assert (again.theta == model.theta).all() and again.theta.dtype == model.theta.dtype
    assert again.config == model.config and again.units == model.units
    assert (again.mean == model.mean).all() and (again.std == model.std).all()
    x, eps = np.ones((2, 3, 3)), np.ones((2, 3, 2))
    assert (again.elbo(x, eps=eps) == model.elbo(x, eps=eps)).all()
    manifest, _ = checkpoint.read(tmp_path / "runs" / "run")
    assert (manifest["step"], manifest["data"], manifest["steps"]) == (5, "vowels", 29)
    tv.save(model, tmp_path)
    manifest, _ = checkpoint.read(tmp_path)
    assert (manifest["step"], manifest["data"], manifest["steps"]) == (0, None, None)


def test_a_checkpoint_holds_no_pickle(tmp_path, model):
    path = tv.save(model, tmp_path)
    with np.load(path, allow_pickle=False) as archive:
        assert {name: archive[name].dtype.kind for name in archive} == {
            "manifest": "u", "theta": "f", "mean": "f", "std": "f"
        }  # fmt: skip


@checks.on_device
def test_backends_read_each_other(tmp_path, model):
    tv.save(model, tmp_path)
    there = tv.load(tmp_path, backend=checks.DEVICE)
    assert there.backend.name == checks.DEVICE and (tv.to_host(there.theta) == model.theta).all()
    tv.save(there, tmp_path / "again")
    assert (tv.load(tmp_path / "again").theta == model.theta).all()


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda m, a: m.update(format="other"), "not a tinyvrnn checkpoint"),
        (lambda m, a: m.update(version=99), "version 99, but this tinyvrnn reads up to 1"),
        (lambda m, a: a["theta"].__setitem__(3, 1.0), "differs from its hash"),
        (lambda m, a: a.pop("theta"), "damaged"),
        (lambda m, a: m.pop("config"), "damaged"),
        (lambda m, a: m.pop("units"), "damaged"),
        (lambda m, a: m.pop("data"), "damaged"),
        (lambda m, a: m.update(lengths=[1] * 100), "damaged"),
        (lambda m, a: m.update(steps=2, lengths=[1.0] * 101), "damaged"),
        (lambda m, a: m.update(steps=2, lengths=[3] * 101), "damaged"),
        (lambda m, a: m.update(steps=2, lengths=[0] * 101), "damaged"),
        (lambda m, a: m.update(steps=2, lengths=5), "damaged"),
        (lambda m, a: m.pop("steps"), "damaged"),
        (lambda m, a: m["config"].update(h_dim=5), "parameters"),
        (lambda m, a: m["config"].update(h_dim=-5), "damaged"),
        (lambda m, a: m["config"].update(colour=1), "damaged"),
    ],
)
def test_a_foreign_or_altered_checkpoint_is_refused(tmp_path, model, change, match):
    tv.save(model, tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(tv.TinyvrnnError, match=match) as caught:
        tv.load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(tv.CheckpointError, match="no checkpoint.npz in"):
        tv.load(tmp_path / "nowhere")


def test_a_write_that_fails_leaves_the_old_one_whole_and_nothing_else(tmp_path, model, monkeypatch):
    tv.save(model, tmp_path, step=1)
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(tv.CheckpointError, match="No space left on device"):
        tv.save(model, tmp_path, step=2)
    assert checkpoint.read(tmp_path)[0]["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FILE]


def test_a_folder_that_is_a_file_is_refused(tmp_path, model):
    (tmp_path / "taken").write_text("")
    with pytest.raises(tv.CheckpointError, match="Cannot write"):
        tv.save(model, tmp_path / "taken")


def test_a_temporary_file_is_a_new_one(tmp_path, model, monkeypatch):
    """Whatever has its name already, such as a link to another file, is neither written nor removed."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "0")
    (tmp_path / "precious").write_text("mine")
    (tmp_path / f".{checkpoint.FILE}.0.part").symlink_to(tmp_path / "precious")
    with pytest.raises(tv.CheckpointError, match="File exists"):
        tv.save(model, tmp_path)
    assert (tmp_path / "precious").read_text() == "mine" and (tmp_path / f".{checkpoint.FILE}.0.part").is_symlink()


def test_a_checkpoint_may_be_read_by_whom_the_umask_allows(tmp_path, model):
    path = tv.save(model, tmp_path)
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(medium={"name": "sound"}),
        lambda m: m.update(medium={"name": "sound", "rate": 0, "full_scale": 1.0}),
        lambda m: m.update(medium={"name": "sound", "rate": 2**31, "full_scale": 1.0}),
        lambda m: m.update(medium={"name": "piano roll", "steps_per_quarter": "1"}),
        lambda m: m.update(medium=[]),
        lambda m: m.update(medium={"rate": "8000"}),
        lambda m: m.update(medium={"full_scale": float("inf")}),
        lambda m: m.update(medium={"steps_per_quarter": 0}),
        lambda m: m.update(medium={"name": "text"}),
        lambda m: m.update(medium={"alphabet": 5}),
        lambda m: m.update(medium={"alphabet": "cba"}),
        lambda m: m.update(medium={"window": 2.5}),
        lambda m: m.update(medium={"window": 0}),
        lambda m: m.update(medium={"stride": "3"}),
        lambda m: m.update(medium={"columns": [1, 2, 3]}),
        lambda m: m.update(medium={"columns": "abc"}),
        lambda m: m.update(medium={"columns": ["a"]}),
        lambda m: m.update(medium={"skip_columns": 5}),
        lambda m: m.update(units=3),
        lambda m: m.update(data=["vowels"]),
        lambda m: m.update(steps=0),
        lambda m: m.update(steps=1.5),
        lambda m: m.update(steps=2**60),
        lambda m: m.update(steps=2**31),
        lambda m: m.update(step="5"),
        lambda m: m["config"].update(dtype="float64"),
        lambda m: m["config"].update(x_dim=4),
    ],
)
def test_what_no_run_has_said_is_refused(tmp_path, model, change):
    """The format and the length of samples are read from here."""
    tv.save(model, tmp_path)
    rewrite(tmp_path, lambda manifest, arrays: change(manifest))
    with pytest.raises(tv.CheckpointError, match="damaged|not those of its model"):
        tv.load(tmp_path)


def test_the_longest_and_the_shortest_that_a_run_can_say_come_back(tmp_path, model):
    model.medium = {"name": "sound", "rate": 2**31 - 1, "full_scale": 1.0}
    tv.save(model, tmp_path, steps=1)
    assert tv.load(tmp_path).medium == model.medium and checkpoint.read(tmp_path)[0]["steps"] == 1


def test_the_longest_names_of_columns_come_back(tmp_path, model):
    model.medium = {"columns": ["a", "b", "c" * (checkpoint.BIGGEST_MEDIUM - 27)]}
    tv.save(model, tmp_path)
    assert tv.load(tmp_path).medium == model.medium


@pytest.mark.parametrize("full_scale", [1, 2.0**31, 2.0**63])
def test_the_full_scale_of_long_integers_comes_back(tmp_path, model, full_scale):
    """Of sounds of 32 bits, and of arrays of 64."""
    model.medium = {"name": "sound", "rate": 8000, "full_scale": full_scale}
    tv.save(model, tmp_path)
    assert tv.load(tmp_path).medium == model.medium


@pytest.mark.parametrize(
    "medium",
    [
        {"name": "piano roll"},
        {"name": "sound", "rate": np.int64(8000), "full_scale": 1.0},
        {"name": "sound", "rate": True, "full_scale": 1.0},
        {"columns": ["a"]},
        {"skip_columns": ["a"]},
        {"window": np.int64(3)},
        {"mine": {1, 2}},
        {"columns": ["a", "b", "c" * (checkpoint.BIGGEST_MEDIUM - 26)]},
    ],
    ids=lambda medium: str(medium)[:40],
)
def test_a_medium_that_could_not_be_read_again_is_refused_before_training(tmp_path, model, medium):
    data, epochs = replace(small_data("gaussian"), medium=medium), []
    with pytest.raises(tv.CheckpointError, match="The medium .* cannot be saved: give plain values"):
        tv.train(model, data, epochs=1, run=tv.Run(tmp_path / "run"), on_epoch=lambda *record: epochs.append(record))
    assert not epochs and not (tmp_path / "run").exists()
    model.medium = medium
    with pytest.raises(tv.CheckpointError, match="The medium .* cannot be saved: give plain values"):
        tv.save(model, tmp_path)


@pytest.mark.parametrize("name, value", [("mean", np.nan), ("std", -0.5), ("std", np.nan), ("std", np.inf)])
def test_a_scale_that_is_none_is_refused(tmp_path, model, name, value):
    """Samples are taken back to it."""
    getattr(model, name)[1] = value
    tv.save(model, tmp_path)
    with pytest.raises(tv.CheckpointError, match="its weights or metadata have invalid values"):
        tv.load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, model, value):
    tv.save(model, tmp_path, step=1)
    before = (tmp_path / checkpoint.FILE).read_bytes()
    good = model.theta[0]
    model.theta[0] = value
    with pytest.raises(tv.CheckpointError, match="The weights hold nan or inf, so they are not saved"):
        tv.save(model, tmp_path, step=2)
    assert (tmp_path / checkpoint.FILE).read_bytes() == before
    model.theta[0] = good
    manifest, arrays = checkpoint.read(tmp_path)
    checkpoint.write(tmp_path / checkpoint.FILE, manifest, arrays | {"theta": np.full_like(model.theta, value)})
    with pytest.raises(tv.CheckpointError, match="its weights or metadata have invalid values"):
        tv.load(tmp_path)


def test_a_checkpoint_of_before_there_were_media_has_none(tmp_path, model):
    model.medium = {"name": "sound", "rate": 8000, "full_scale": 1.0}
    tv.save(model, tmp_path)
    rewrite(tmp_path, lambda manifest, arrays: manifest.pop("medium"))
    assert tv.load(tmp_path).medium == {}


def test_a_manifest_is_read_up_to_its_limit(tmp_path, model):
    path = tv.save(model, tmp_path)
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("manifest.npy").file_size
    checkpoint.read_file(path, (), (), lambda *_: True, biggest=size)
    with pytest.raises(tv.CheckpointError, match="is damaged or not a checkpoint"):
        checkpoint.read_file(path, (), (), lambda *_: True, biggest=size - 1)
