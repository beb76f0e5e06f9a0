"""One training step in each library: forward, backward, clipping by the global norm, Adam; float32.

All trainers have the same methods: `batch` converts host arrays to the library's, outside any timing; `loss_and_grads`,
`step` and `elbos` take such a batch (JAX has no `elbos`). PyTorch and JAX are imported only where they are used, so
that a process with one library does not hold the memory of another.
"""

from functools import cache, cached_property, partial

import numpy as np
from machine import peer_device
from sizes import LAYERS

from tinyvrnn import RNN, VRNN
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.models.batch import Batch, Objective
from tinyvrnn.training.optim import Adam, clip_by_global_norm
from tinyvrnn.training.parallel import Workers, split_for

LR, MAX_NORM = 1e-3, 50.0
LIBRARIES = ("tinyvrnn", "torch loop", "torch batched", "jax loop", "jax batched")


def new_model(size, seed=0, **options):
    """A tinyvrnn VRNN, or RNN where Z = 0, with non-zero biases, so that swapped biases show in the loss."""
    options |= {"features": size.H, "layers": LAYERS, "likelihood": "bernoulli", "seed": seed}
    model = VRNN(size.X, size.H, size.Z, **options) if size.Z else RNN(size.X, size.H, **options)
    rng = np.random.default_rng(seed)
    for _, leaf in leaves(model.params):
        if leaf.ndim == 1:
            leaf += model.backend.asarray(0.1 * rng.standard_normal(leaf.shape, dtype=np.float32))
    return model


def new_trainer(library, model, workers, lr=LR):
    """The trainer for one of LIBRARIES, starting from the weights of a tinyvrnn model. workers: for tinyvrnn."""
    if library == "tinyvrnn":
        return TinyTrainer(model, workers, lr)
    name, schedule = library.split()
    return (TorchTrainer if name == "torch" else JaxTrainer)(model, schedule, lr)


def ready_workers(model, sequences, workers):
    """The Workers that training would use for the model, once their processes are ready."""
    pool = Workers(split_for(model, sequences, workers))
    pool.wait(model)
    return pool


class TinyTrainer:
    """tinyvrnn as in its training loop: the batch split over workers, a flat gradient, a flat Adam."""

    def __init__(self, model, workers, lr=LR):
        self.model, self.workers, self.lr = model, workers, lr

    @cached_property
    def optimiser(self):
        """Adam; the other libraries allocate its moments in the first step, too."""
        return Adam(self.model.theta, lr=self.lr)

    def batch(self, x, eps, lengths=None):
        """Transfer x (T, B, X) and eps (T, B, Z) from the host; lengths (B,), or None for all T, stay there."""
        lengths = np.full(x.shape[1], x.shape[0]) if lengths is None else lengths
        return self.model.backend.asarray(x), lengths, self.model.backend.asarray(eps)

    def loss_and_grads(self, x, lengths, eps):
        """The loss and {"prior.W1": gradient, ...}."""
        loss, grads, *_ = self.workers.gradient(self.model, Batch(x, lengths, eps), Objective())
        return float(loss), dict(leaves(views(to_host(grads), self.model.shapes)))

    def step(self, x, lengths, eps):
        """One training step. Returns the loss before it."""
        loss, grads, *_ = self.workers.gradient(self.model, Batch(x, lengths, eps), Objective())
        clip_by_global_norm(grads, MAX_NORM)
        self.optimiser.step(self.model.theta, grads)
        return float(loss)

    def elbos(self, x, lengths, eps):
        """The ELBO of each sequence, (B,), without gradient."""
        return to_host(self.model.parts(x, lengths, eps).elbo)


class TorchTrainer:
    """PyTorch, eager, in the schedule "loop" or "batched", or with `torch.compile`; on the GPU if the model is."""

    def __init__(self, model, schedule="loop", lr=LR, compiled=False):
        import torch
        from torch_vrnn import net_of

        self.device = peer_device(model.backend.name)
        self.net = net_of(model)
        self.loss = self.net.loss_in_loop if schedule == "loop" else self.net.loss_batched
        self.loss = torch.compile(self.loss) if compiled else self.loss
        self.elbos_of = self.net.elbos_in_loop if schedule == "loop" else self.net.elbos_batched
        # not the default, but one argument away and faster
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=lr, fused=True)
        self.clip = torch.nn.utils.clip_grad_norm_

    def batch(self, x, eps, lengths=None):
        """The tensors x, eps and the mask, or None where no step is padding."""
        import torch

        mask = None
        if lengths is not None and (lengths < len(x)).any():
            mask = (torch.arange(len(x))[:, None] < torch.from_numpy(lengths)).float().to(self.device)
        return torch.from_numpy(x).to(self.device), torch.from_numpy(eps).to(self.device), mask

    def loss_and_grads(self, *batch):
        """The loss and {"prior.W1": gradient, ...}, with tinyvrnn's names and orientation."""
        from torch_vrnn import named_gradients

        loss = self._backward(batch)
        return loss.item(), named_gradients(self.net)

    def step(self, *batch):
        """One training step. Returns the loss before it."""
        loss = self._backward(batch)
        self.clip(self.net.parameters(), MAX_NORM)
        self.optimiser.step()
        return loss.item()

    def elbos(self, *batch):
        """The ELBO of each sequence, (B,), without gradient."""
        import torch

        with torch.no_grad():
            return self.elbos_of(*batch).cpu().numpy()

    def _backward(self, batch):
        self.optimiser.zero_grad()
        loss = self.loss(*batch)
        loss.backward()
        return loss


class JaxTrainer:
    """JAX: the whole step one jitted function, in the schedule "loop" or "batched"; on the GPU if the model is."""

    def __init__(self, model, schedule="loop", lr=LR):
        import jax_vrnn

        jax_vrnn.use(peer_device(model.backend.name))
        self.params, self.state = jax_vrnn.copied(views(to_host(model.theta), model.shapes)), None
        self.loss = jax_vrnn.loss_in_loop if schedule == "loop" else jax_vrnn.loss_batched
        self._step = jax_vrnn.training_step(self.loss, lr, MAX_NORM)

    def batch(self, x, eps, lengths=None):
        import jax.numpy as jnp

        if lengths is not None and (lengths != len(x)).any():
            raise ValueError("The peer in JAX knows no sequences of different lengths.")
        return jnp.array(x), jnp.array(eps)

    def compile(self, *batch):
        """Compile the step for batches of this shape without running it."""
        import jax
        import jax_vrnn

        state = jax.eval_shape(jax_vrnn.new_state, self.params)
        self._step = self._step.lower(state, *batch).compile()

    def loss_and_grads(self, *batch):
        """The loss and {"prior.W1": gradient, ...} at the initial weights."""
        import jax

        loss, grads = jax.jit(jax.value_and_grad(self.loss))(self.params, *batch)
        return float(loss), dict(leaves(jax.tree.map(np.asarray, grads)))

    def step(self, *batch):
        """One training step. Returns the loss before it."""
        import jax
        import jax_vrnn

        if self.state is None:
            self.state, self.params = jax_vrnn.new_state(self.params), None
        loss, self.state = self._step(self.state, *batch)
        jax.block_until_ready(self.state)
        return float(loss)


@cache
def torch_default_threads():
    """PyTorch's default number of threads; read once, before anything here changes it."""
    import torch

    return torch.get_num_threads()


def torch_settings(backend="numpy"):
    """{"2 threads": function that sets it, ...}: PyTorch's own choice of threads, and one. On a GPU: {"GPU": ...}.

    Small products can lose more by a second thread than they gain. The number is a setting of the whole process, so
    each timing sets its own.
    """
    import torch

    if peer_device(backend) == "cuda":
        return {"GPU": lambda: None}
    counts = sorted({torch_default_threads(), 1}, reverse=True)
    return {f"{n} thread{'s' * (n > 1)}": partial(torch.set_num_threads, n) for n in counts}
