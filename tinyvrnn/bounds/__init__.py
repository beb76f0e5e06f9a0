"""Lower bounds of log p(x): the ELBO over a whole set, and two tighter bounds that weight several draws of z.

    ELBO  =  E log w_1   <=   IWAE-K  =  E log (1/K) sum_k w_k   <=   log p(x),        w_k = p(x, z_k) / q(z_k | x)

FIVO-K is the log of a particle filter's estimate: the K draws are resampled along the sequence, which discards those
that explain the data badly. Each bound is the mean log of an unbiased estimate of p(x), and by Jensen's inequality the
mean of a log is below the log of the mean. A model is a VRNN or a LinearGaussian.
Derivations: docs/derivations/importance.md.

evaluation.py    a bound over a whole set, with standard errors
estimates.py     one estimate of IWAE or FIVO for each sequence of a batch

Imports models/ and the rooms below. To add a bound: its estimate in estimates.py, its name in evaluation.py and in
BOUNDS (models/batch.py), and a derivation.
"""

from tinyvrnn.bounds.estimates import fivo, iwae
from tinyvrnn.bounds.evaluation import BoundEvaluation, Evaluation, evaluate, evaluate_elbo
from tinyvrnn.models.batch import BOUNDS, check_bound

__all__ = ["BOUNDS", "BoundEvaluation", "Evaluation", "check_bound", "evaluate", "evaluate_elbo", "fivo", "iwae"]
