"""The GRU, the LSTM and the distributions against torch, if torch is installed (the tests do not require it).

Catches: a GRU or an LSTM other than torch's and cuDNN's, so that weights could not be compared; a density, a KL or a
gradient that differs from another library's.
"""

import checks
import numpy as np
import pytest

from tinyvrnn.distributions import bernoulli, gaussian
from tinyvrnn.nn import gru, lstm
from tinyvrnn.training.optim import Adam

torch = pytest.importorskip("torch")


def tensors(*arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def test_gru_and_its_gradients_equal_torch_grucell():
    """torch keeps W transposed; its blocks are r, z, n with h' = (1 - z) n + z h, so its z is u here."""
    draw = checks.rng()
    p = {name: draw.standard_normal(shape) for name, shape in gru.shapes(4, 3).items()}
    x, h, dh_next = draw.standard_normal((5, 4)), draw.standard_normal((5, 3)), draw.standard_normal((5, 3))
    cell = torch.nn.GRUCell(4, 3, dtype=torch.float64)
    names = {"W": "weight_ih", "b": "bias_ih", "U": "weight_hh", "c": "bias_hh"}
    for name, theirs in names.items():
        getattr(cell, theirs).data = torch.tensor(p[name].T.copy())
    x_t, h_t = tensors(x, h)
    h_next_t = cell(x_t, h_t)
    h_next_t.backward(torch.tensor(dh_next))

    h_next, cache = gru.gru_forward(p, x, h)
    (dx, dh), grads = gru.gru_backward(p, cache, dh_next)
    checks.assert_close(h_next, h_next_t.detach().numpy(), 1e-14, "h'")
    checks.assert_close(dx, x_t.grad.numpy(), 1e-13, "dx")
    checks.assert_close(dh, h_t.grad.numpy(), 1e-13, "dh")
    for name, theirs in names.items():
        checks.assert_close(grads[name], getattr(cell, theirs).grad.numpy().T, 1e-13, name)


def test_lstm_and_its_gradients_equal_torch_lstmcell():
    """torch keeps W transposed; its blocks are i, f, g, o, and its g is n here."""
    draw = checks.rng()
    p = {name: draw.standard_normal(shape) for name, shape in lstm.shapes(4, 3).items()}
    x, state, dstate_next = draw.standard_normal((5, 4)), draw.standard_normal((5, 6)), draw.standard_normal((5, 6))
    cell = torch.nn.LSTMCell(4, 3, dtype=torch.float64)
    names = {"W": "weight_ih", "b": "bias_ih", "U": "weight_hh", "c": "bias_hh"}
    for name, theirs in names.items():
        getattr(cell, theirs).data = torch.tensor(p[name].T.copy())
    x_t, state_t = tensors(x, state)
    state_next_t = torch.cat(cell(x_t, (state_t[:, :3], state_t[:, 3:])), dim=1)
    state_next_t.backward(torch.tensor(dstate_next))

    state_next, cache = lstm.lstm_forward(p, x, state)
    (dx, dstate), grads = lstm.lstm_backward(p, cache, dstate_next)
    checks.assert_close(state_next, state_next_t.detach().numpy(), 1e-14, "[h', m']")
    checks.assert_close(dx, x_t.grad.numpy(), 1e-13, "dx")
    checks.assert_close(dstate, state_t.grad.numpy(), 1e-13, "d[h, m]")
    for name, theirs in names.items():
        checks.assert_close(grads[name], getattr(cell, theirs).grad.numpy().T, 1e-13, name)


def test_gaussian_log_density_and_its_gradients_equal_torch():
    mu, sigma, x, _ = checks.two_gaussians(0)
    given = tensors(x, mu, sigma)
    theirs = torch.distributions.Normal(given[1], given[2]).log_prob(given[0]).sum(-1)
    theirs.sum().backward()
    log_p, cache = gaussian.gaussian_log_density_forward(x, mu, sigma)
    checks.assert_close(log_p, theirs.detach().numpy(), 1e-13, "log p")
    for name, d, tensor in zip("x mu sigma".split(), gaussian.gaussian_log_density_backward(cache, np.ones(6)), given):
        checks.assert_close(d, tensor.grad.numpy(), 1e-13, name)


def test_kl_and_its_gradients_equal_torch():
    given = checks.two_gaussians(1)
    mz, sz, m0, s0 = tensors(*given)
    normal = torch.distributions.Normal
    theirs = torch.distributions.kl_divergence(normal(mz, sz), normal(m0, s0)).sum(-1)
    theirs.sum().backward()
    kl, cache = gaussian.gaussian_kl_forward(*given)
    checks.assert_close(kl, theirs.detach().numpy(), 1e-12, "KL")
    for d, tensor in zip(gaussian.gaussian_kl_backward(cache, np.ones(6)), (mz, sz, m0, s0)):
        checks.assert_close(d, tensor.grad.numpy(), 1e-12, "gradient")


def test_bernoulli_log_density_and_its_gradient_equal_torch():
    draw = checks.rng()
    x, a = draw.integers(0, 2, (6, 3)).astype(float), 3 * draw.standard_normal((6, 3))
    (logits,) = tensors(a)
    theirs = torch.distributions.Bernoulli(logits=logits).log_prob(torch.tensor(x)).sum(-1)
    theirs.sum().backward()
    log_p, cache = bernoulli.bernoulli_log_density_forward(x, a)
    checks.assert_close(log_p, theirs.detach().numpy(), 1e-13, "log p")
    checks.assert_close(
        bernoulli.bernoulli_log_density_backward(cache, np.ones(6))[1], logits.grad.numpy(), 1e-13, "da"
    )


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_equals_torch_on_a_parameter_that_shares_theta(decay, dtype, tolerance):
    model, draw = checks.small(dtype=dtype)[0], checks.rng()
    ours, theta = model.theta.copy(), torch.nn.Parameter(torch.from_numpy(model.theta))
    adam = Adam(ours, lr=0.01, decay=np.full_like(ours, decay))
    theirs = torch.optim.AdamW([theta], lr=0.01, weight_decay=decay)
    for _ in range(20):
        grads = draw.standard_normal(ours.shape).astype(dtype)
        adam.step(ours, grads)
        theta.grad = torch.from_numpy(grads)
        theirs.step()
    checks.assert_close(model.theta, ours, tolerance, "theta")
