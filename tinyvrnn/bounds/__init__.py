"""Bounds of log p(x), with their units: the ELBO over a whole set, and two tighter ones that weigh several draws of z.

    ELBO  =  E log w_1   <=   IWAE-K  =  E log (1/K) sum_k w_k   <=   log p(x),        w_k = p(x, z_k) / q(z_k | x)

FIVO-K is the log of a particle filter's estimate: the K draws are resampled on the way, so that none is wasted on a
past that the data refute. All three are bounds because each is the log of an unbiased estimate of p(x), and the mean of
a log lies below the log of the mean. A model is a VRNN or a LinearGaussian.
Derivations: docs/derivations/importance.md.
"""

from tinyvrnn.bounds.estimates import fivo, iwae
from tinyvrnn.bounds.evaluation import BoundEvaluation, Evaluation, evaluate, evaluate_elbo
from tinyvrnn.models.batch import BOUNDS, check_bound

__all__ = ["BOUNDS", "BoundEvaluation", "Evaluation", "check_bound", "evaluate", "evaluate_elbo", "fivo", "iwae"]
