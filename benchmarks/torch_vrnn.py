"""The peers in PyTorch: the same VRNN, and the same RNN, in two schedules, in idiomatic PyTorch.

`loss_in_loop` has everything in the loop over time, as VRNNs are usually written. `loss_batched` is tinyvrnn's
schedule, with only the sequential part in the loop. Both use autograd. The network takes its weights from a tinyvrnn
model, so that the ELBOs can be compared before anything is timed.
"""

import math

import torch
from machine import peer_device
from torch import nn
from torch.nn import functional as F

from tinyvrnn.arrays.backend import to_host
from tinyvrnn.arrays.params import views

SIGMA_MIN = 1e-4
torch.backends.cudnn.allow_tf32 = False  # its default is True, unlike that of matrix products


def mlp(widths):
    layers = []
    for rows, columns in zip(widths, widths[1:]):
        layers += [nn.Linear(rows, columns), nn.ReLU()]
    return nn.Sequential(*layers)


class TorchModel(nn.Module):
    """The losses of both models. likelihood: "bernoulli" or "gaussian"."""

    def __init__(self, h_dim, likelihood):
        super().__init__()
        self.h_dim, self.likelihood = h_dim, likelihood

    def loss_in_loop(self, x, eps, mask=None):
        """Minus the ELBO, mean over the batch. Arguments as in `elbos_in_loop`."""
        return -self.elbos_in_loop(x, eps, mask).mean()

    def loss_batched(self, x, eps, mask=None):
        return -self.elbos_batched(x, eps, mask).mean()

    def log_p(self, x, outputs):
        """log p(x) of each row, summed over the last axis."""
        if self.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(outputs, x, reduction="none").sum(-1)
        mu, sigma = gaussian(outputs)
        return -(0.5 * ((x - mu) / sigma) ** 2 + torch.log(sigma) + 0.5 * math.log(2 * math.pi)).sum(-1)


class TorchVRNN(TorchModel):
    """Eq. 5, 6, 7, 9 and 11 with nn.Linear and nn.GRUCell."""

    def __init__(self, x_dim, h_dim, z_dim, features, layers, likelihood="bernoulli"):
        super().__init__(h_dim, likelihood)
        hidden = [features] * layers
        self.phi_x, self.phi_z = mlp([x_dim, *hidden]), mlp([z_dim, features])
        self.prior, self.prior_out = mlp([h_dim, features]), nn.Linear(features, 2 * z_dim)
        self.infer, self.infer_out = mlp([features + h_dim, *hidden]), nn.Linear(features, 2 * z_dim)
        self.generate = mlp([features + h_dim, *hidden])
        self.generate_out = nn.Linear(features, x_dim if likelihood == "bernoulli" else 2 * x_dim)
        self.recur = nn.GRUCell(2 * features, h_dim)

    def elbos_in_loop(self, x, eps, mask=None):
        """The ELBO of each sequence, (B,). x (T, B, X), eps (T, B, Z); mask (T, B): 1 in real steps, None: all are."""
        h, total = x.new_zeros(x.shape[1], self.h_dim), 0.0
        for t, (x_t, eps_t) in enumerate(zip(x, eps)):
            phi_x = self.phi_x(x_t)
            mu_0, sigma_0 = gaussian(self.prior_out(self.prior(h)))
            mu_z, sigma_z = gaussian(self.infer_out(self.infer(torch.cat([phi_x, h], -1))))
            phi_z = self.phi_z(mu_z + sigma_z * eps_t)
            outputs = self.generate_out(self.generate(torch.cat([phi_z, h], -1)))
            h = self.recur(torch.cat([phi_x, phi_z], -1), h)
            term = self.log_p(x_t, outputs) - kl_divergence(mu_z, sigma_z, mu_0, sigma_0)
            total = total + (term if mask is None else term * mask[t])
        return total

    def elbos_batched(self, x, eps, mask=None):
        """As `elbos_in_loop`, with only inference, reparameterisation, phi_z and the GRU in the loop."""
        h, mu_z, sigma_z, phi_z = self.sequential_part(self.phi_x(x), eps)
        mu_0, sigma_0 = gaussian(self.prior_out(self.prior(h)))
        outputs = self.generate_out(self.generate(torch.cat([phi_z, h], -1)))
        terms = self.log_p(x, outputs) - kl_divergence(mu_z, sigma_z, mu_0, sigma_0)
        return (terms if mask is None else terms * mask).sum(0)

    def sequential_part(self, phi_x, eps):
        """h_{t-1}, mu_z, sigma_z and phi_z of all steps, (T, B, .) each. phi_x (T, B, F), eps (T, B, Z).

        What the first layer of the encoder and the GRU make of phi_x is formed for all T before the loop.
        """
        features, first, cell = phi_x.shape[-1], self.infer[0], self.recur
        x_infer = F.linear(phi_x, first.weight[:, :features], first.bias)
        x_recur = F.linear(phi_x, cell.weight_ih[:, :features], cell.bias_ih)
        # sliced and transposed once: in the loop each step would add a node to autograd's graph
        W_infer, W_recur, U = first.weight[:, features:].t(), cell.weight_ih[:, features:].t(), cell.weight_hh.t()
        h, kept = phi_x.new_zeros(phi_x.shape[1], self.h_dim), []
        for x_infer_t, x_recur_t, eps_t in zip(x_infer, x_recur, eps):
            a = torch.addmm(x_infer_t, h, W_infer)
            mu_z, sigma_z = gaussian(self.infer_out(self.infer[1:](a)))
            phi_z = self.phi_z(torch.addcmul(mu_z, sigma_z, eps_t))
            kept.append((h, mu_z, sigma_z, phi_z))
            h = gru_gates(torch.addmm(x_recur_t, phi_z, W_recur), torch.addmm(cell.bias_hh, h, U), h)
        return [torch.stack(steps) for steps in zip(*kept)]

    @torch.no_grad()
    def sample(self, n, steps):
        """n sequences (steps, n, X), drawn by Eq. 8 with PyTorch's random numbers."""
        weight = self.recur.weight_hh
        h, xs = weight.new_zeros(n, self.h_dim), []
        for _ in range(steps):
            mu_0, sigma_0 = self.prior_of(h)
            phi_z, outputs = self.generation_of(h, torch.addcmul(mu_0, sigma_0, torch.randn_like(mu_0)))
            xs.append(self.draw(outputs))
            h = self.next_state(xs[-1], phi_z, h)
        return torch.stack(xs)

    def prior_of(self, h):
        return gaussian(self.prior_out(self.prior(h)))

    def generation_of(self, h, z):
        phi_z = self.phi_z(z)
        return phi_z, self.generate_out(self.generate(torch.cat([phi_z, h], -1)))

    def next_state(self, x, phi_z, h):
        return self.recur(torch.cat([self.phi_x(x), phi_z], -1), h)

    def draw(self, outputs):
        if self.likelihood == "bernoulli":
            return torch.bernoulli(torch.sigmoid(outputs))
        mu, sigma = gaussian(outputs)
        return torch.addcmul(mu, sigma, torch.randn_like(mu))


class TorchRNN(TorchModel):
    """Eq. 1 and 2. The batched schedule is one call of nn.GRU, on a GPU cuDNN's. eps is (T, B, 0) and not read."""

    def __init__(self, x_dim, h_dim, features, layers, likelihood="bernoulli"):
        super().__init__(h_dim, likelihood)
        hidden = [features] * layers
        self.phi_x, self.recur = mlp([x_dim, *hidden]), nn.GRU(features, h_dim)
        self.predict = mlp([h_dim, *hidden])
        self.predict_out = nn.Linear(features, x_dim if likelihood == "bernoulli" else 2 * x_dim)

    def elbos_in_loop(self, x, eps, mask=None):
        """log p(x) of each sequence, (B,). x (T, B, X); mask (T, B): 1 in real steps, None: all are."""
        h, total, weights = x.new_zeros(x.shape[1], self.h_dim), 0.0, tuple(self.recur.parameters())
        for t, x_t in enumerate(x):
            term = self.log_p(x_t, self.predict_out(self.predict(h)))
            h = torch.gru_cell(self.phi_x(x_t), h, *weights)
            total = total + (term if mask is None else term * mask[t])
        return total

    def elbos_batched(self, x, eps, mask=None):
        h, _ = self.recur(self.phi_x(x[:-1]))
        h = torch.cat([h.new_zeros(1, *h.shape[1:]), h])
        terms = self.log_p(x, self.predict_out(self.predict(h)))
        return (terms if mask is None else terms * mask).sum(0)


def gaussian(o):
    mu, s = o.chunk(2, -1)
    return mu, F.softplus(s) + SIGMA_MIN


def kl_divergence(mu_z, sigma_z, mu_0, sigma_0):
    kl = torch.log(sigma_0 / sigma_z) + (sigma_z**2 + (mu_z - mu_0) ** 2) / (2 * sigma_0**2) - 0.5
    return kl.sum(-1)


def gru_gates(a, g, h):
    """The next state of nn.GRUCell, from a = W x + b and g = U h + c, (B, 3H)."""
    a_ru, a_n = a.split([2 * h.shape[-1], h.shape[-1]], -1)
    g_ru, g_n = g.split([2 * h.shape[-1], h.shape[-1]], -1)
    r, u = torch.sigmoid(a_ru + g_ru).chunk(2, -1)
    return torch.lerp(torch.tanh(torch.addcmul(a_n, r, g_n)), h, u)


def net_of(model):
    """A TorchVRNN or TorchRNN with the sizes and a copy of the weights of a tinyvrnn model, on the GPU if it is."""
    sizes = [getattr(model, name) for name in model.sizes]
    net = (TorchVRNN if model.z_dim else TorchRNN)(*sizes, model.likelihood.name)
    copy_weights(views(to_host(model.theta), model.shapes), net)
    return net.to(peer_device(model.backend.name))


@torch.no_grad()
def copy_weights(params, net):
    """Fill a net with the weights of a tinyvrnn model, given as host arrays."""
    for name, parameter in tinyvrnn_names(net):
        group, leaf = name.split(".")
        parameter.copy_(torch.tensor(params[group][leaf].T))


def named_gradients(net):
    """{"prior.W1": gradient, ...} of a net, with the names and orientation of tinyvrnn."""
    return {name: parameter.grad.cpu().numpy().T for name, parameter in tinyvrnn_names(net)}


def tinyvrnn_names(net):
    """Every parameter with its name in tinyvrnn, which stores the transposed matrices."""
    for group, layers in net.named_children():
        if not isinstance(layers, nn.Sequential):
            continue
        linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
        for i, linear in enumerate(linears, start=1):
            yield from ((f"{group}.W{i}", linear.weight), (f"{group}.b{i}", linear.bias))
        if hasattr(net, f"{group}_out"):
            out = getattr(net, f"{group}_out")
            yield from ((f"{group}.W_out", out.weight), (f"{group}.b_out", out.bias))
    yield from zip(("recur.W", "recur.U", "recur.b", "recur.c"), net.recur.parameters())
