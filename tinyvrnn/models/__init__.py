"""The models, built from pairs: the equations first (equations.py), then whole sequences (schedule.py, stepwise.py)."""

from tinyvrnn.models import equations, linear_gaussian, schedule, stepwise, vrnn

__all__ = ["equations", "linear_gaussian", "schedule", "stepwise", "vrnn"]
