"""Training: the optimiser, the loop, the checkpoint, and the splitting of a batch over workers."""

from tinyvrnn.training.loop import train
from tinyvrnn.training.options import PARTICLES, Options, default_text, described, recipe

__all__ = ["PARTICLES", "Options", "default_text", "described", "recipe", "train"]
