"""Training: the optimiser, the loop, the checkpoint, and the splitting of a batch over workers."""

from tinyvrnn.training.loop import train
from tinyvrnn.training.options import PARTICLES, Options, recipe

__all__ = ["PARTICLES", "Options", "recipe", "train"]
