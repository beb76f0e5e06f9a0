"""The models, built from pairs: the equations first (equations.py), then whole sequences (schedule.py, stepwise.py)."""

from tinyvrnn.models import base, equations, linear_gaussian, rnn, schedule, stepwise, vae, vrnn
from tinyvrnn.models.vrnn import POSTERIORS

MODELS = {model.name: model for model in (vrnn.VRNN, vrnn.VRNNI, rnn.RNN, vae.VAE)}

__all__ = ["MODELS", "POSTERIORS", "base", "equations", "linear_gaussian", "rnn", "schedule", "stepwise", "vae", "vrnn"]
