"""One training step in each library: forward, backward, clipping by the global norm, Adam; float32.

Every trainer has the same methods: `batch` brings arrays of the host into the library's form, outside of any timing;
`loss_and_grads`, `step` and `elbos` take such a batch (JAX has no `elbos`). PyTorch and JAX are imported only where
they are used, so that the memory of a process that trains with one library is its own.
"""

from functools import cache, partial

import numpy as np
from sizes import LAYERS

from tinyvrnn import VRNN
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.models.batch import Batch, Objective
from tinyvrnn.training.optim import Adam, clip_by_global_norm
from tinyvrnn.training.parallel import Workers, split_for

LR, MAX_NORM = 1e-3, 50.0
LIBRARIES = ("tinyvrnn", "torch loop", "torch batched", "jax loop", "jax batched")


def new_model(size, seed=0, backend="numpy"):
    """A tinyvrnn model whose biases are not zero, as after some training: two biases mixed up then show in the loss."""
    options = {"features": size.H, "layers": LAYERS, "likelihood": "bernoulli", "seed": seed, "backend": backend}
    model = VRNN(size.X, size.H, size.Z, **options)
    rng = np.random.default_rng(seed)
    for _, leaf in leaves(model.params):
        if leaf.ndim == 1:
            leaf += model.backend.asarray(0.1 * rng.standard_normal(leaf.shape, dtype=np.float32))
    return model


def new_trainer(library, model, workers, lr=LR):
    """The trainer of one of LIBRARIES, which starts from the weights of a tinyvrnn model. workers: for tinyvrnn."""
    if library == "tinyvrnn":
        return TinyTrainer(model, workers, lr)
    name, schedule = library.split()
    return (TorchTrainer if name == "torch" else JaxTrainer)(model, schedule, lr)


def ready_workers(model, sequences, workers):
    """The Workers that training would have for the model, once their processes are up."""
    pool = Workers(split_for(model, sequences, workers))
    pool.wait(model)
    return pool


class TinyTrainer:
    """tinyvrnn as its own training loop uses it: the batch split over workers, one flat gradient, one flat Adam."""

    def __init__(self, model, workers, lr=LR):
        self.model, self.workers = model, workers
        self.optimiser = Adam(model.theta, lr=lr)

    def batch(self, x, eps, lengths=None):
        """x (T, B, X), eps (T, B, Z), lengths (B,) of the host; lengths None: all T. lengths stay there."""
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
        return self.model.parts(x, lengths, eps).elbo


class TorchTrainer:
    """PyTorch, eager, in the schedule "loop" or "batched", or with `torch.compile`; on the GPU of a model on cupy."""

    def __init__(self, model, schedule="loop", lr=LR, compiled=False):
        import torch
        from torch_vrnn import net_of

        self.device = "cuda" if model.backend.name == "cupy" else "cpu"
        self.net = net_of(model).to(self.device)
        self.loss = self.net.loss_in_loop if schedule == "loop" else self.net.loss_batched
        self.loss = torch.compile(self.loss) if compiled else self.loss
        self.elbos_of = self.net.elbos_in_loop if schedule == "loop" else self.net.elbos_batched
        # not the default, but one word away and the faster one
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
        """The loss and {"prior.W1": gradient, ...}, in tinyvrnn's names and orientation."""
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
    """JAX: the whole step one jitted function, in the schedule "loop" or "batched"."""

    def __init__(self, model, schedule="loop", lr=LR):
        import jax_vrnn

        self.params, self.state = jax_vrnn.copied(model.params), None
        self.loss = jax_vrnn.loss_in_loop if schedule == "loop" else jax_vrnn.loss_batched
        self._step = jax_vrnn.training_step(self.loss, lr, MAX_NORM)

    def batch(self, x, eps, lengths=None):
        import jax.numpy as jnp

        if lengths is not None and (lengths != len(x)).any():
            raise ValueError("The peer in JAX knows no sequences of different lengths.")
        return jnp.array(x), jnp.array(eps)

    def compile(self, *batch):
        """Compiles the step for batches of this shape, and runs nothing."""
        import jax
        import jax_vrnn

        state = jax.eval_shape(jax_vrnn.new_state, self.params)
        self._step = self._step.lower(state, *batch).compile()

    def loss_and_grads(self, *batch):
        """The loss and {"prior.W1": gradient, ...}; with the weights as they were given."""
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
    """What PyTorch chose when it started; asked for once, before anything here changes it."""
    import torch

    return torch.get_num_threads()


def torch_settings(backend="numpy"):
    """{"2 threads": function that sets it, ...}: PyTorch's own choice of threads, and one. On a GPU that is no matter.

    Small products can lose more by a second thread than they gain. The number is a setting of the whole process, so
    each timing sets its own.
    """
    import torch

    if backend == "cupy":
        return {"GPU": lambda: None}
    counts = sorted({torch_default_threads(), 1}, reverse=True)
    return {f"{n} thread{'s' * (n > 1)}": partial(torch.set_num_threads, n) for n in counts}
