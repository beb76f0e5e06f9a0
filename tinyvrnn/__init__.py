"""tinyvrnn: the Variational Recurrent Neural Network, every forward and backward pass by hand, on NumPy or CuPy.

docs/api.md lists the stable names. Every other name of every module is internal and can change in any release.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tinyvrnn import bounds, data, distributions, gradcheck, models, nn
from tinyvrnn.arrays import backend, noise, params
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.data import Data, Sequences, batches, load_data, pad
from tinyvrnn.distributions import Likelihood
from tinyvrnn.errors import (
    BackendError,
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    GradientError,
    TinyvrnnError,
)
from tinyvrnn.gradcheck.register import register_cell, register_likelihood
from tinyvrnn.models.base import Model
from tinyvrnn.models.batch import BoundTerms, Inference
from tinyvrnn.models.rnn import RNN
from tinyvrnn.models.vae import VAE
from tinyvrnn.models.vrnn import VRNN, VRNNI
from tinyvrnn.nn.cells import Cell
from tinyvrnn.runs.checkpoint import load, save
from tinyvrnn.runs.run import Run
from tinyvrnn.training.loop import train
from tinyvrnn.training.optim import Adam, clip_by_global_norm
from tinyvrnn.training.options import Options
from tinyvrnn.training.parallel import Workers
from tinyvrnn.version import __version__

if TYPE_CHECKING:
    from tinyvrnn import course
    from tinyvrnn.runs import plots

__all__ = [
    "RNN",
    "VAE",
    "VRNN",
    "VRNNI",
    "Adam",
    "__version__",
    "BackendError",
    "Cell",
    "BoundTerms",
    "CheckpointError",
    "ConfigError",
    "Data",
    "DataError",
    "DivergedError",
    "GradientError",
    "Inference",
    "Likelihood",
    "Model",
    "Options",
    "Run",
    "Sequences",
    "TinyvrnnError",
    "Workers",
    "backend",
    "batches",
    "bounds",
    "clip_by_global_norm",
    "course",
    "data",
    "distributions",
    "gradcheck",
    "load",
    "load_data",
    "models",
    "nn",
    "noise",
    "pad",
    "params",
    "plots",
    "register_cell",
    "register_likelihood",
    "save",
    "to_host",
    "train",
]


def __getattr__(name: str) -> Any:
    """tv.course and tv.plots, imported when first used: most programs need neither them nor matplotlib."""
    if name in (rooms := {"course": "tinyvrnn.course", "plots": "tinyvrnn.runs.plots"}):
        return importlib.import_module(rooms[name])
    raise AttributeError(f"module 'tinyvrnn' has no attribute {name!r}")
