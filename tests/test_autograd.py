"""The whole ELBO against plain.py, an independent rewrite from the paper that the `autograd` package differentiates.

Catches what a numeric check cannot: a wrong forward whose backward agrees with it (sigma^2 for sigma, a KL without its
-1, another form of GRU, a target shifted by a step, h_t instead of h_{t-1}), and mistakes with padding or means.
"""

import checks
import pytest

from tinyvrnn.distributions import LIKELIHOODS


@pytest.mark.one_in(3)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_loss_and_gradient_equal_the_plain_rewrite(likelihood, layers):
    checks.elbo_equals_plain_rewrite(likelihood, layers)


@pytest.mark.parametrize("beta", [0.0, 0.3, 2.0])
def test_loss_and_gradient_equal_the_plain_rewrite_for_other_weights_of_the_kl(beta):
    checks.elbo_equals_plain_rewrite("gaussian", beta=beta)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_loss_and_gradient_equal_the_plain_rewrite_for_more_seeds(likelihood, seed):
    checks.elbo_equals_plain_rewrite(likelihood, seed=seed)
