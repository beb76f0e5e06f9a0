"""Checkpoints: one `.npz` without pickles; its manifest holds version, configuration, step and a hash of each array."""

import hashlib
import json
import zipfile
from contextlib import suppress
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tinyvrnn.arrays.backend import Array, to_host
from tinyvrnn.data.sequences import MISSING
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.errors import BackendError, CheckpointError, TinyvrnnError, how_to_register, is_word
from tinyvrnn.io import npz
from tinyvrnn.io.files import given_path, located, write_atomically
from tinyvrnn.models import MODELS
from tinyvrnn.models.base import Model
from tinyvrnn.nn.cells import CELLS

FORMAT, VERSION = "tinyvrnn checkpoint", 1
FILE = "checkpoint.npz"
ARRAYS = ("theta", "mean", "std")
MEDIA = {"sound": {"rate", "full_scale"}, "piano roll": {"steps_per_quarter"}, "text": {"alphabet"}}  # runs/export.py
NUMBERS = {  # of any medium: their types, and what they must be below
    "rate": ({int}, 2**31),
    "full_scale": ({int, float}, 1e300),
    "steps_per_quarter": ({int}, 2**31),
    "window": ({int}, np.inf),
    "stride": ({int}, np.inf),
}
BIGGEST_MANIFEST = 2**20  # bytes
BIGGEST_MEDIUM = BIGGEST_MANIFEST // 2
PERCENT = np.linspace(0, 1, 101)
NEEDED = ("version", "model", "config", "units", "medium", "data", "step", "steps", "lengths", "arrays")
OPTIONAL = {"medium": {}, "lengths": None}  # the first checkpoints had none


def save(
    model: Model,
    folder: str | PathLike[str],
    step: int = 0,
    data: str | None = None,
    steps: int | None = None,
    theta: Array | None = None,
    lengths: ArrayLike | None = None,
) -> Path:
    """Write folder/checkpoint.npz, creating the folder if needed.

    Parameters
    ----------
    model : VRNN, VRNNI, RNN or VAE
        Its weights, options and moments are saved.
    folder : str or path
        Of a run.
    step : int
        Training steps done.
    data : str, optional
        Name or path of the training data.
    steps : int, optional
        T of its longest sequence.
    theta : array (P,), optional
        Weights to save instead of the model's.
    lengths : integers (N,), optional
        Steps of the training sequences, whose percentiles are kept: `tinyvrnn sample` draws its lengths from them.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    CheckpointError
        The weights are not all finite, the medium cannot be read again, or writing fails; a previous checkpoint then
        stays intact.
    """
    theta = to_host(model.theta if theta is None else theta)
    arrays = {"theta": theta, "mean": np.asarray(model.mean), "std": np.asarray(model.std)}
    if not are_finite(theta):
        raise CheckpointError(
            f"The weights hold nan or inf, so they are not saved in {folder}: train with a smaller learning rate."
        )
    check_medium(model.medium, model.x_dim)
    manifest = {
        "model": model.name,
        "config": model.config,
        "units": model.units,
        "medium": model.medium,
        "data": data,
        "steps": steps if lengths is None else int(np.max(lengths)),
        "lengths": None if lengths is None else np.quantile(lengths, PERCENT, method="inverted_cdf").tolist(),
        "step": step,
    }
    path = given_path(folder, CheckpointError) / FILE
    write(path, manifest, arrays)
    return path


def write(path, manifest, arrays):
    """Write a file of this format from a dict of plain values and host arrays. Raises CheckpointError."""
    described = {name: _describe(array) for name, array in arrays.items()}
    manifest = {"format": FORMAT, "version": VERSION} | manifest | {"arrays": described}
    text = np.frombuffer(json.dumps(manifest).encode(), dtype=np.uint8)
    write_file(path, lambda file: np.savez(file, manifest=text, **arrays))


def write_file(path, write):
    """As `write_atomically`, in a folder that is made if needed. Raises CheckpointError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
    except OSError as error:
        raise CheckpointError(f"Cannot write {path}: {error.strerror or error}.") from error


def load(folder: str | PathLike[str], backend: str | None = None) -> Model:
    """The model saved in `folder`.

    Parameters
    ----------
    folder : str or path
        Of a run.
    backend : "numpy", "cupy" or "strict", optional
        As in `VRNN`; it can differ from the one that the model was trained on.

    Returns
    -------
    VRNN, VRNNI, RNN or VAE
        A model of the saved kind.

    Raises
    ------
    CheckpointError
        There is no checkpoint, or it is damaged, foreign or of a newer version.
    BackendError
        The backend is not available.
    """
    return restore(*read(folder), folder, backend)


def restore(manifest, arrays, folder, backend=None):
    """The model described by the results of `read`. folder: for messages."""
    try:
        kind, config, theta = MODELS[manifest["model"]], manifest["config"], arrays["theta"]
        moments, expected = (config["x_dim"],), (kind.parameters(config, most=theta.size),)
        same_shapes = [arrays[name].shape for name in ARRAYS] == [expected, moments, moments]
        fits = same_shapes and theta.dtype.name == config["dtype"]
        model = kind(**config, backend=backend) if fits else None
    except (BackendError, MemoryError):
        raise
    except Exception as error:  # an untrusted configuration can raise anything
        _check_registered(manifest["config"], folder)
        raise CheckpointError(f"{folder} holds a damaged checkpoint: train again or restore a copy.") from error
    if model is None:
        raise CheckpointError(
            f"{folder} holds {theta.size} parameters that are not those of its model: train again, restore a "
            "copy, or register the cell and likelihood as they were."
        )
    model.theta[...] = model.backend.asarray(theta)  # unchecked, as they were saved
    model.mean, model.std = arrays["mean"], arrays["std"]
    model.units, model.medium = manifest["units"], manifest["medium"]
    return model


def _check_registered(config, folder):
    """Raises CheckpointError where a configuration names a cell or a likelihood that could be a user's own."""
    for kind, known in (("cell", CELLS), ("likelihood", LIKELIHOODS)):
        name = config.get(kind) if isinstance(config, dict) else None
        if is_word(name) and name not in known:
            sentence = f'{folder} holds a model with the unknown {kind} "{name:.40}": {how_to_register(kind)}.'
            raise CheckpointError(sentence) from None


def read(folder):
    """(manifest, {"theta", "mean", "std"}) of the checkpoint in `folder`, with each array checked against its hash."""
    for _ in range(2):  # a training may move the file to its place meanwhile
        path = located(given_path(folder, CheckpointError), FILE)
        with suppress(FileNotFoundError):
            if path.is_file():
                return read_file(path, NEEDED, ARRAYS, _is_plain)
    found = f"{folder} is a file" if path.parent.is_file() else f"There is no {FILE} in {folder}"
    above = path.parent.parent
    run = above if (above / FILE).is_file() else "such as runs/digits"
    raise CheckpointError(f"{found}: give the folder of a run, {run}.")


def read_file(path, needed, names, is_plain, biggest=BIGGEST_MANIFEST):
    """(manifest, arrays) from a file written by `write`: the needed keys and the named arrays, checked by hash.

    is_plain(manifest, arrays): whether types and values are valid. biggest: limit of the manifest in bytes.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = npz.members(archive)
            if members["manifest"].file_size > biggest:
                raise ValueError("the manifest is too large")
            manifest = json.loads(_read(archive, members, "manifest").tobytes())
            _check_version(manifest, path)
            manifest = OPTIONAL | manifest
            arrays = {name: _read(archive, members, name) for name in names}
            intact = all(_describe(arrays[name]) == manifest["arrays"][name] for name in names)
            manifest = {name: manifest[name] for name in needed}
            plain = is_plain(manifest, arrays)
    except (TinyvrnnError, MemoryError, FileNotFoundError):
        raise
    except PermissionError as error:
        raise CheckpointError(f"{path} can't be read: ask for permission to read it.") from error
    except Exception as error:  # one wrong byte makes zipfile, zlib, NumPy or json raise any of a dozen types
        raise CheckpointError(f"{path} is damaged or not a checkpoint: train again or restore a copy.") from error
    if not intact or not plain:
        fault = "its weights or metadata have invalid values" if intact else "an array differs from its hash"
        raise CheckpointError(f"{path} is damaged: {fault}; train again or restore a copy.")
    return manifest, arrays


def _read(archive, members, name):
    """The array of a member that is stored uncompressed, as by `save`, so it takes no more memory than the file."""
    if members[name].compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    with archive.open(members[name]) as member:
        return npz.read_array(member, members[name].file_size)


def _is_plain(manifest, arrays):
    """Whether types and values are those that `save` writes, so that later code can rely on them."""
    steps, x_dim = manifest["steps"], arrays["mean"].size
    return (
        isinstance(manifest["units"], str)
        and isinstance(manifest["data"], str | None)
        and type(manifest["step"]) is int
        and (steps is None or type(steps) is int and 1 <= steps * x_dim <= npz.MEMORY)
        and (manifest["lengths"] is None or _are_lengths(manifest["lengths"], steps))
        and _is_medium(manifest["medium"], x_dim)
        and are_finite(*arrays.values())
        and bool((arrays["std"] >= 0).all())
    )


def _is_medium(medium, x_dim):
    """Whether a medium has all that its name needs, and values that readers can rely on, whatever its name."""
    numbers = [(medium[key], *limits) for key, limits in NUMBERS.items() if key in medium]
    columns = medium.get("columns", [""] * x_dim)
    return (
        medium.keys() >= MEDIA.get(medium.get("name"), set())
        and all(type(value) in kinds and 0 < value < end for value, kinds, end in numbers)
        and ("alphabet" not in medium or _is_alphabet(medium["alphabet"], x_dim))
        and isinstance(columns, list)
        and [type(name) for name in columns] == [str] * x_dim
        and medium.get("missing") in (None, *MISSING)
        and "skip_columns" not in medium  # "columns" has those that are left
    )


def check_medium(medium, x_dim):
    """Raise CheckpointError for a medium that `read` would refuse, before time is spent on a model."""
    with suppress(TypeError, ValueError):  # no plain values
        text = json.dumps(medium)
        if len(text) <= BIGGEST_MEDIUM and _is_medium(json.loads(text), x_dim):
            return
    how = f"give plain values that fit the data, of {BIGGEST_MEDIUM:,} bytes at most, see tinyvrnn.runs.export"
    raise CheckpointError(f"The medium {medium!s:.200} cannot be saved: {how}.")


def _are_lengths(lengths, most):
    return len(lengths) == len(PERCENT) and all(type(n) is int and 1 <= n <= most for n in lengths)


def _is_alphabet(text, n):
    """Whether text is n different characters in order, all of which can be written as UTF-8."""
    return isinstance(text, str) and len(text) == n and sorted(set(text.encode().decode())) == list(text)


def are_finite(*arrays):
    """Whether all arrays hold floating-point numbers, all of them finite."""
    return all(array.dtype.kind == "f" and bool(np.isfinite(array).all()) for array in arrays)


def _describe(array):
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": digest}


def _check_version(manifest, path):
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a tinyvrnn checkpoint.")
    version = manifest.get("version")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{path} has the invalid version {version!r:.20}: train again or restore a copy.")
    if version > VERSION:
        raise CheckpointError(
            f"{path} has version {version!r:.20}, but this tinyvrnn reads up to {VERSION}: install a newer one."
        )
