"""Checkpoints: one `.npz` without pickle, whose manifest holds version, configuration, step and a hash of each array.

A checkpoint is written to a temporary file in the same folder, flushed to the disk and renamed over the old one, so
that at any moment there is a whole one, the old or the new.
"""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np

from tinyvrnn.backend import to_host
from tinyvrnn.errors import CheckpointError, TinyvrnnError
from tinyvrnn.files import write_atomically
from tinyvrnn.models import MODELS

FORMAT, VERSION = "tinyvrnn checkpoint", 1
FILE = "checkpoint.npz"
NEEDED = ("version", "model", "config", "units", "medium", "data", "step", "steps", "arrays")


def save(model, folder, step=0, data=None, steps=None, theta=None):
    """Writes folder/checkpoint.npz, and the folder where it is missing. Returns the file's path.

    step: training steps done; data: name or path of the data it was trained on; steps: T of its longest sequence;
    theta (P,): weights other than the live ones.
    Raises CheckpointError where the disk refuses; what was there before is then still whole.
    """
    arrays = {
        "theta": to_host(model.theta if theta is None else theta),
        "mean": np.asarray(model.mean),
        "std": np.asarray(model.std),
    }
    manifest = {
        "model": model.name,
        "config": model.config,
        "units": model.units,
        "medium": model.medium,
        "data": data,
        "steps": steps,
        "step": step,
    }
    path = Path(folder) / FILE
    write(path, manifest, arrays)
    return path


def write(path, manifest, arrays):
    """Writes a file of this format: manifest, a dict of plain values, and host arrays. Raises CheckpointError."""
    described = {name: _describe(array) for name, array in arrays.items()}
    manifest = {"format": FORMAT, "version": VERSION} | manifest | {"arrays": described}
    text = np.frombuffer(json.dumps(manifest, indent=1).encode(), dtype=np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: np.savez(file, manifest=text, **arrays))
    except OSError as error:
        raise CheckpointError(f"Cannot write {path}: {error.strerror or error}.") from error


def load(folder, backend=None):
    """The model that was saved in `folder`, on the given backend.

    Raises CheckpointError where there is none, or where it is damaged, foreign or of a newer version.
    """
    return restore(*read(folder), folder, backend)


def restore(manifest, arrays, folder, backend=None):
    """The model of what `read` returned; `folder` is named where it makes none."""
    try:
        model = MODELS[manifest["model"]](**manifest["config"], backend=backend)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder} holds a damaged checkpoint ({error}): train again or restore a copy."
        ) from error
    if arrays["theta"].shape != model.theta.shape:
        raise CheckpointError(f"{folder} holds {arrays['theta'].size} parameters, its model has {model.theta.size}.")
    model.theta[...] = model.backend.asarray(arrays["theta"])
    model.mean, model.std = arrays["mean"], arrays["std"]
    model.units, model.medium = manifest["units"], manifest["medium"]
    return model


def read(folder):
    """(manifest, {"theta", "mean", "std"}) of the checkpoint in `folder`, every array checked against its hash."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise CheckpointError(f"There is no {FILE} in {folder}: give the folder of a run, such as runs/digits.")
    return read_file(path, NEEDED, ("theta", "mean", "std"))


def read_file(path, needed, names):
    """(manifest, arrays) that `write` wrote: what is needed of the manifest, and the named arrays, checked by hash."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            manifest = json.loads(archive["manifest"].tobytes())
            _check_version(manifest, path)
            manifest = {"medium": {}} | manifest  # which the first ones did not have
            arrays = {name: archive[name] for name in names}
            intact = all(_describe(arrays[name]) == manifest["arrays"][name] for name in names)
            manifest = {name: manifest[name] for name in needed}
    except TinyvrnnError:
        raise
    except PermissionError as error:
        raise CheckpointError(f"{path} may not be read by you: ask for the permission.") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is damaged or no checkpoint ({error}): train again or restore a copy."
        ) from error
    if not intact:
        raise CheckpointError(f"{path} is damaged: an array differs from its hash; train again or restore a copy.")
    return manifest, arrays


def _describe(array):
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": digest}


def _check_version(manifest, path):
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a tinyvrnn checkpoint.")
    if manifest["version"] > VERSION:
        raise CheckpointError(
            f"{path} is of version {manifest['version']}, this tinyvrnn reads up to {VERSION}: install a newer one."
        )
