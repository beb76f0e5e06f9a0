"""One training step in each library: forward, backward, clipping by the global norm, Adam; float32.

PyTorch is imported only where it is used, so that the memory of a process that trains with tinyvrnn is its own.
"""

import numpy as np
from sizes import LAYERS

from tinyvrnn import VRNN
from tinyvrnn.params import leaves, views
from tinyvrnn.training.optim import Adam, clip_by_global_norm

LR, MAX_NORM = 1e-3, 50.0


def new_model(size, seed=0):
    """A tinyvrnn model whose biases are not zero, as after some training: two biases mixed up then show in the loss."""
    model = VRNN(size.X, size.H, size.Z, features=size.H, layers=LAYERS, likelihood="bernoulli", seed=seed)
    rng = np.random.default_rng(seed)
    for _, leaf in leaves(model.params):
        if leaf.ndim == 1:
            leaf += 0.1 * rng.standard_normal(leaf.shape, dtype=np.float32)
    return model


class TinyTrainer:
    """tinyvrnn as its own training loop uses it: the batch split over workers, one flat gradient, one flat Adam."""

    def __init__(self, model, x, eps, workers):
        self.model, self.x, self.eps, self.workers = model, x, eps, workers
        self.lengths = np.full(x.shape[1], x.shape[0])
        self.optimiser = Adam(model.theta, lr=LR)

    def loss_and_grads(self):
        """The loss and {"prior.W1": gradient, ...}."""
        loss, grads = self._backward()
        return float(loss), dict(leaves(views(grads, self.model.shapes)))

    def step(self):
        """One training step. Returns the loss before it."""
        loss, grads = self._backward()
        clip_by_global_norm(grads, MAX_NORM)
        self.optimiser.step(self.model.theta, grads)
        return float(loss)

    def _backward(self):
        loss, grads, _ = self.workers.loss_and_grads(self.model, self.x, self.lengths, self.eps)
        return loss, grads


class TorchTrainer:
    """PyTorch eager, everything in the loop over time; weights from `params` of a tinyvrnn model, else its own."""

    def __init__(self, size, x, eps, params=None):
        import torch
        from torch_vrnn import TorchVRNN, copy_weights

        self.net = TorchVRNN(size.X, size.H, size.Z, features=size.H, layers=LAYERS)
        if params is not None:
            copy_weights(params, self.net)
        self.x, self.eps = torch.from_numpy(x), torch.from_numpy(eps)
        self.clip = torch.nn.utils.clip_grad_norm_
        # not the default, but one word away and the faster one
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=LR, fused=True)

    def loss_and_grads(self):
        """The loss and {"prior.W1": gradient, ...}, in tinyvrnn's names and orientation."""
        from torch_vrnn import named_gradients

        loss = self._backward()
        return loss.item(), named_gradients(self.net)

    def step(self):
        """One training step. Returns the loss before it."""
        loss = self._backward()
        self.clip(self.net.parameters(), MAX_NORM)
        self.optimiser.step()
        return loss.item()

    def _backward(self):
        self.optimiser.zero_grad()
        loss = self.net.loss(self.x, self.eps)
        loss.backward()
        return loss
