"""tinyvrnn: the Variational Recurrent Neural Network, every forward and backward pass by hand, on NumPy or CuPy."""

import importlib

from tinyvrnn import backend, bounds, data, distributions, gradcheck, models, nn
from tinyvrnn.backend import to_host
from tinyvrnn.data import Data, Sequences, load_data, pad
from tinyvrnn.errors import (
    BackendError,
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    GradientError,
    TinyvrnnError,
)
from tinyvrnn.models.rnn import RNN
from tinyvrnn.models.vae import VAE
from tinyvrnn.models.vrnn import VRNN, VRNNI
from tinyvrnn.training.checkpoint import load, save
from tinyvrnn.training.loop import train
from tinyvrnn.training.run import Run
from tinyvrnn.version import __version__

__all__ = [
    "RNN",
    "VAE",
    "VRNN",
    "VRNNI",
    "__version__",
    "BackendError",
    "CheckpointError",
    "ConfigError",
    "Data",
    "DataError",
    "DivergedError",
    "GradientError",
    "Run",
    "Sequences",
    "TinyvrnnError",
    "backend",
    "bounds",
    "course",
    "data",
    "distributions",
    "gradcheck",
    "load",
    "load_data",
    "models",
    "nn",
    "pad",
    "plots",
    "save",
    "to_host",
    "train",
]


def __getattr__(name):
    """tv.course and tv.plots, imported when first asked for: most programs need neither them nor matplotlib."""
    if name in ("course", "plots"):
        return importlib.import_module(f"tinyvrnn.{name}")
    raise AttributeError(f"module 'tinyvrnn' has no attribute {name!r}")
