"""The bug museum of notebook 11: its right versions are right, each wrong one has one mistake, its checks work.

Catches: an exhibit with more mistakes than its card says, a check that fails on right code, a bug that no check sees,
and a claim of the notebook about a check that no longer holds.
"""

import checks
import numpy as np
import pytest

from tinyvrnn.course import museum
from tinyvrnn.distributions import bernoulli, gaussian
from tinyvrnn.gradcheck import numerical_gradient, rel_error

PARTS = [name for name in museum.Program._fields if name != "kept"]


@pytest.mark.parametrize("check", museum.CHECKS)
@pytest.mark.parametrize("right", [museum.RIGHT, museum.RIGHT_LSTM], ids=["gru", "lstm"])
def test_every_check_passes_on_the_right_versions(right, check):
    museum.CHECKS[check](right._replace(kept={}))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("bug", museum.EXHIBITS)
def test_an_exhibit_differs_from_its_right_version_in_one_part_and_a_check_sees_it(bug):
    wrong, right = museum.EXHIBITS[bug]
    assert sum(getattr(wrong, part) is not getattr(right, part) for part in PARTS) == 1
    assert museum.seen_by(bug) and not museum.seen_by(bug, 1)


def test_every_check_sees_a_bug_except_the_falling_loss_which_sees_none():
    seen = dict(zip(museum.CHECKS, museum.matrix().any(axis=0)))
    assert [check for check, any_bug in seen.items() if not any_bug] == ["loss falls"]


def test_the_right_parts_equal_those_of_the_package():
    rng = np.random.default_rng(0)
    mu_z, s_z, mu_0, s_0, eps = rng.standard_normal((5, 4, 3))
    x, a = rng.integers(0, 2, (4, 3)), rng.standard_normal((4, 3))
    sigma_z, sigma_0 = np.exp(0.5 * s_z), np.exp(0.5 * s_0)
    z, _ = gaussian.reparameterise_forward(mu_z, sigma_z, eps)
    checks.assert_close(museum.draw(mu_z, s_z, eps), z, 1e-14)
    kl, _ = gaussian.gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)
    checks.assert_close(museum.kl(mu_z, s_z, mu_0, s_0), kl, 1e-13)
    log_coin, _ = bernoulli.bernoulli_log_density_forward(x, a)
    checks.assert_close(museum.log_coin(x, a).sum(axis=-1), log_coin, 1e-14)
    log_normal, _ = gaussian.gaussian_log_density_forward(eps, mu_z, sigma_z)
    checks.assert_close(museum.log_normal(eps, mu_z, s_z).sum(axis=-1), log_normal, 1e-13)


def test_a_complex_step_is_the_derivative_and_a_detached_part_has_none():
    theta, (x, eps, lengths) = museum.random_theta(), museum.batch(T=3)

    def f(th):
        return museum.loss(museum.RIGHT._replace(kept={}), th, x, eps, lengths)

    numeric = numerical_gradient(f, theta.copy())
    exact = [museum.slope(f, theta, v) for v in np.eye(theta.size)]
    assert rel_error(exact, numeric) < 1e-8
    assert museum.slope(lambda v: (museum.detach(v) * v).sum(), np.array([3.0]), np.ones(1)) == pytest.approx(3.0)


@pytest.mark.parametrize("bug, nats", [("KL without its -1", -6.0), ("std drawn as exp(log_var)", 1.316)])
def test_the_exact_case_shows_a_bug_by_its_nats(bug, nats):
    elbos, log_p = museum.elbos_and_log_p(museum.EXHIBITS[bug][0])
    checks.assert_mean(elbos - log_p, nats, bug)
