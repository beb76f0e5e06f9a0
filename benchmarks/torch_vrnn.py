"""The peer: the same VRNN in PyTorch, eager, with everything in the loop over time, as it is usually written.

It takes its weights from a tinyvrnn model, so that both can be held to the same ELBO before anything is timed.
"""

import torch
from torch import nn
from torch.nn import functional as F

SIGMA_MIN = 1e-4


def mlp(widths):
    layers = []
    for rows, columns in zip(widths, widths[1:]):
        layers += [nn.Linear(rows, columns), nn.ReLU()]
    return nn.Sequential(*layers)


class TorchVRNN(nn.Module):
    """Eq. 5, 6, 7, 9 and 11 with nn.Linear and nn.GRUCell; Bernoulli likelihood."""

    def __init__(self, x_dim, h_dim, z_dim, features, layers):
        super().__init__()
        hidden = [features] * layers
        self.h_dim = h_dim
        self.phi_x, self.phi_z = mlp([x_dim, *hidden]), mlp([z_dim, features])
        self.prior, self.prior_out = mlp([h_dim, features]), nn.Linear(features, 2 * z_dim)
        self.infer, self.infer_out = mlp([features + h_dim, *hidden]), nn.Linear(features, 2 * z_dim)
        self.generate, self.generate_out = mlp([features + h_dim, *hidden]), nn.Linear(features, x_dim)
        self.recur = nn.GRUCell(2 * features, h_dim)

    def loss(self, x, eps):
        """Minus the ELBO, mean over the batch. x (T, B, X), eps (T, B, Z)."""
        h = x.new_zeros(x.shape[1], self.h_dim)
        loss = 0.0
        for x_t, eps_t in zip(x, eps):
            phi_x = self.phi_x(x_t)
            mu_0, sigma_0 = gaussian(self.prior_out(self.prior(h)))
            mu_z, sigma_z = gaussian(self.infer_out(self.infer(torch.cat([phi_x, h], -1))))
            phi_z = self.phi_z(mu_z + sigma_z * eps_t)
            logits = self.generate_out(self.generate(torch.cat([phi_z, h], -1)))
            h = self.recur(torch.cat([phi_x, phi_z], -1), h)
            kl = torch.log(sigma_0 / sigma_z) + (sigma_z**2 + (mu_z - mu_0) ** 2) / (2 * sigma_0**2) - 0.5
            loss = loss + F.binary_cross_entropy_with_logits(logits, x_t, reduction="sum") + kl.sum()
        return loss / x.shape[1]


def gaussian(o):
    mu, s = o.chunk(2, -1)
    return mu, F.softplus(s) + SIGMA_MIN


@torch.no_grad()
def copy_weights(params, net):
    """Fills a TorchVRNN with the weights of a tinyvrnn model, given as host arrays."""
    for name, parameter in _tinyvrnn_names(net):
        group, leaf = name.split(".")
        parameter.copy_(torch.tensor(params[group][leaf].T))


def named_gradients(net):
    """{"prior.W1": gradient, ...} of a TorchVRNN, in the names and the orientation of tinyvrnn."""
    return {name: parameter.grad.numpy().T for name, parameter in _tinyvrnn_names(net)}


def _tinyvrnn_names(net):
    """Every parameter with its name in tinyvrnn, where matrices are stored transposed."""
    for group in ("phi_x", "phi_z", "prior", "infer", "generate"):
        linears = [layer for layer in getattr(net, group) if isinstance(layer, nn.Linear)]
        for i, linear in enumerate(linears, start=1):
            yield from ((f"{group}.W{i}", linear.weight), (f"{group}.b{i}", linear.bias))
        if hasattr(net, f"{group}_out"):
            out = getattr(net, f"{group}_out")
            yield from ((f"{group}.W_out", out.weight), (f"{group}.b_out", out.bias))
    yield from (("recur.W", net.recur.weight_ih), ("recur.b", net.recur.bias_ih))
    yield from (("recur.U", net.recur.weight_hh), ("recur.c", net.recur.bias_hh))
