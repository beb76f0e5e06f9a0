"""What all models share: the flat vector of parameters, and the public calls from a bound to a sample.

A model defines the shapes of its parameters (`_shapes`), the terms of its bound (`_forward_terms`) and their gradient
(`_backward_terms`), the distribution that it reconstructs from (`_outputs`) and how it samples (`_sample`).
"""

from numbers import Integral

import numpy as np

from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import get_backend
from tinyvrnn.arrays.cpu import one_blas_thread
from tinyvrnn.arrays.params import initialise, size, views
from tinyvrnn.distributions import COMPONENTS, get_likelihood
from tinyvrnn.errors import ConfigError, DataError
from tinyvrnn.models import recompute as recomputation
from tinyvrnn.models.batch import (
    Batch,
    Gradient,
    Objective,
    bound_terms,
    check_can_be_cut,
    check_objective,
    shape_of,
    validate,
)
from tinyvrnn.nn.cells import cell_of


class Model:
    """The base of VRNN, VRNN-I, RNN and VAE; not a model by itself. x is (T, B, X), time-major."""

    name = None  # its key in MODELS
    bound = "elbo"  # or "exact", where `elbo` is log p(x) itself
    bounds = ("elbo",)  # what it can be trained on and evaluated with
    sizes = ()  # names of the arguments that are sizes, each an attribute
    choices = ()  # names of the arguments that are one of a few words, each an attribute too
    z_dim = 0  # a model without latent variables takes no noise: eps is (T, B, 0), and the KL is 0

    def __init__(self, likelihood, backend, dtype, seed, components):
        self.seed, self.dtype = seed, _name_of(dtype)
        self._check_sizes()
        self.likelihood = get_likelihood(likelihood, components)
        self.backend = get_backend(backend)
        self.shapes = self._shapes()
        self._theta = initialise(self.shapes, seed, self.backend.name, dtype)
        self.params = views(self._theta, self.shapes)
        for group in self.params.values():
            if "U" in group:
                cell_of(group).initialise(group)
        self.mean, self.std = np.zeros(self.x_dim), np.ones(self.x_dim)  # of standardised training data
        self.units, self.medium = "nats", {}  # of that data too
        self._draws = 0

    @property
    def theta(self):
        """All parameters, one flat vector (P,); `params` are named views of it. Assigning copies into it."""
        return self._theta

    @theta.setter
    def theta(self, value):
        if getattr(value, "shape", None) != self._theta.shape:
            raise ConfigError(f"theta has shape {self._theta.shape}, got {shape_of(value)}.")
        self._theta[...] = self.backend.asarray(value, dtype=self.dtype)

    @property
    def config(self):
        """The arguments that make this model again (backend apart), as plain values."""
        config = {name: int(getattr(self, name)) for name in self.sizes}
        config |= {name: getattr(self, name) for name in self.choices} | {"likelihood": self.likelihood.name}
        if self.likelihood.components is not None:
            config["components"] = self.likelihood.components
        return config | {"dtype": self.dtype, "seed": int(self.seed)}

    @classmethod
    def parameters(cls, config, most):
        """How many parameters the model of a `config` would have, with none allocated; no size may be above `most`.

        Raises ConfigError, KeyError or TypeError for a config that makes no model.
        """
        plan = cls.__new__(cls)
        plan.__dict__.update({name: config[name] for name in cls.sizes}, cell="gru", posterior="filtering")
        plan.__dict__.update({name: config[name] for name in cls.choices if name in config})
        plan._check_sizes()
        plan.likelihood = get_likelihood(config["likelihood"], config.get("components", COMPONENTS))
        if max(getattr(plan, name) for name in cls.sizes) > most:
            raise ConfigError(f"A model of {most} parameters can't be as wide as {config}.")
        return size(plan._shapes())

    def __repr__(self):
        options = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        kind = type(self).__name__
        return f"{kind}({options}, backend={self.backend.name!r}): {self.theta.size:,} parameters"

    @property
    def bound_name(self):
        """What a person calls the figure that is trained on."""
        return "ELBO" if self.bound == "elbo" else "log p(x)"

    @property
    def has_state(self):
        """Whether a recurrent state connects the steps."""
        return "cell" in self.choices

    def loss_and_grads(
        self,
        x,
        lengths=None,
        eps=None,
        beta=1.0,
        bound="elbo",
        particles=1,
        uniforms=None,
        recompute=False,
        input_mask=None,
    ):
        """The negative bound and its gradient, by the hand-written backward pass.

            loss = -(1/B) sum_b [ log-likelihood_b - beta KL_b ]        (bound "elbo", Eq. 11)

        Parameters
        ----------
        x : array (T, B, X)
            Sequences, time-major and padded; finite numbers that the likelihood can score.
        lengths : integers (B,), optional
            Real steps of each sequence, 1 to T. None: all have T.
        eps : array (T, B, Z) or, for "iwae" and "fivo", (T, B, particles, Z), optional
            Standard normal noise. None: drawn from the model's seed, anew in each call.
        beta : float
            Weight of the KL, for warm-up.
        bound : "elbo", "iwae" or "fivo"
            What the loss is the negative of; the latter two are for VRNN and VRNNI, see `tinyvrnn.bounds`.
        particles : int
            Draws of z in "iwae" and "fivo", where eps is None.
        uniforms : array (T, B), optional
            Numbers in [0, 1) that "fivo" resamples with; needed with its eps.
        recompute : bool
            Compute the same gradient in memory that grows as sqrt(T), for about a fifth more time.
        input_mask : array (T, B, X), optional
            Dropout mask on the networks' input. The bound scores x itself.

        Returns
        -------
        loss : 0-d array
            Nats per sequence.
        grads : array (P,)
            Arranged like `theta`.
        terms : BoundTerms
            ELBO, KL and log-likelihood with beta = 1, (B,) each, nats per sequence.

        Raises
        ------
        DataError
            x, lengths, eps, uniforms or input_mask do not fit the model.
        ConfigError
            beta, bound, particles or recompute are not possible for it.
        """
        batch, objective = (
            self._batch(x, lengths, eps, uniforms, input_mask),
            Objective(bound, particles, beta, recompute),
        )
        return self.gradient(batch if eps is not None else self._with_fresh_noise(batch, objective), objective)[:3]

    def chunk_loss_and_grads(self, x, lengths=None, eps=None, beta=1.0, state=None, recompute=False, input_mask=None):
        """As `loss_and_grads`, for a chunk of longer sequences: it starts from `state` and returns the next one too.

        state (B, S H): returned by the call for the previous chunk of the SAME sequences; None: their first chunk. No
        gradient flows back through it. Returns loss, grads, terms, state. Raises ConfigError for a model without state,
        DataError also for a state of other sequences.
        """
        check_can_be_cut(self, "chunk")
        batch, objective = (
            self._batch(x, lengths, eps, None, input_mask, state),
            Objective(beta=beta, recompute=recompute),
        )
        return self.gradient(batch if eps is not None else self._with_fresh_noise(batch, objective), objective)

    def gradient(self, batch, objective):
        """The Gradient of an Objective on a Batch: what `loss_and_grads` and training call."""
        with one_blas_thread():
            batch, beta = validate(self, batch, objective), float(objective.beta)  # a NumPy scalar promotes float32
            if objective.bound != "elbo":
                return self._particle_gradient(batch, objective.bound, beta)
            weight = batch.mask / batch.mask.shape[1]
            if objective.recompute:
                log_p, kl, grads, state = recomputation.terms_and_grads(self, batch, -weight, beta * weight)
            else:
                log_p, kl, cache = self._forward_terms(batch)
                state = self._last_state(cache)
                grads = self._flat(self._backward_terms(cache, -weight, beta * weight)[1])
            terms = bound_terms(log_p, kl, batch.mask)
            return Gradient(self.backend.xp.mean(beta * terms.kl - terms.log_likelihood), grads, terms, state)

    def to_array(self, a):
        """On the backend, in the model's dtype and contiguous: sums round differently in another memory order."""
        return self.backend.xp.ascontiguousarray(self.backend.asarray(a, dtype=self.dtype))

    def elbo(self, x, lengths=None, eps=None):
        """One-draw estimate of the ELBO of each sequence, (B,), in nats per sequence. Arguments as in `loss_and_grads`.

        With eps=None the noise is the same in every call, so that two calls compare.
        """
        return self.parts(x, lengths, eps).elbo

    def parts(self, x, lengths=None, eps=None):
        """As `elbo`, with its two terms: BoundTerms(elbo, kl, log_likelihood), (B,) each."""
        log_p, kl, _, batch = self._forward(x, lengths, eps)
        return bound_terms(log_p, kl, batch.mask)

    def chunk_parts(self, x, lengths=None, eps=None, state=None):
        """As `parts`, for a chunk of longer sequences: from `state` on. Returns BoundTerms and the next state.

        state (B, S H): as in `chunk_loss_and_grads`; a model without one is given None and returns None.
        Raises ConfigError for a smoothing posterior, which reads each sequence as a whole.
        """
        if self.has_state:
            check_can_be_cut(self, "chunk")
        log_p, kl, cache, batch = self._forward(x, lengths, eps, state)
        return bound_terms(log_p, kl, batch.mask), self._last_state(cache)

    def reconstruct(self, x, lengths=None, eps=None):
        """E[x_t | z_<=t, x_<t], (T, B, X), with z drawn from the posterior: what the latents keep of x."""
        _, _, cache, _ = self._forward(x, lengths, eps)
        with one_blas_thread():
            return self.likelihood.mean(*self._outputs(cache))

    def sample(self, n=16, steps=28, seed=0, prime=None):
        """n sequences (steps, n, X) drawn from the model.

        With prime (T0, n, X), the sequences are continued: the result is (T0 + steps, n, X) and begins with them.
        """
        for name, value in (("n", n), ("steps", steps)):
            if not isinstance(value, Integral) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}.")
        noise.check_seed(seed)
        if prime is not None:
            prime = validate(self, self._batch(prime, None, self._draw_eps(prime, "prime", seed)), Objective())
            n = prime.x.shape[1]
        with one_blas_thread():
            x = self._sample(n, steps, seed, prime)
        return x if prime is None else self.backend.xp.concatenate([prime.x, x])

    def _batch(self, *fields):
        return Batch(*fields)

    def _forward(self, x, lengths, eps, state=None):
        """log_p, kl (T, B), the cache and the validated Batch; without eps the noise is the same in every call."""
        eps = self._draw_eps(x, "elbo", 0) if eps is None else eps
        with one_blas_thread():
            batch = validate(self, self._batch(x, lengths, eps, None, None, state), Objective())
            return *self._forward_terms(batch), batch

    def _last_state(self, cache):
        return cache.loop.state[-1].copy() if self.has_state else None

    def _with_fresh_noise(self, batch, objective):
        """The Batch with noise of its own for each call."""
        step, self._draws = self._draws, self._draws + 1
        if objective.bound == "elbo":
            return batch._replace(eps=self._draw_eps(batch.x, "loss_and_grads", step))
        check_objective(self, objective)
        eps = self._draw_eps(batch.x, "loss_and_grads", step, objective.particles)
        uniforms = noise.uniform(batch.x.shape[:2], "float64", self.seed, "resample", step, self.backend)
        return batch._replace(eps=eps, uniforms=uniforms)

    def _draw_eps(self, x, stream, step, *particles):
        if getattr(x, "ndim", None) != 3:
            raise DataError(f"Expected x of shape (T, B, {self.x_dim}), got {shape_of(x)}: see tinyvrnn.data.pad.")
        shape = (*x.shape[:2], *particles, self.z_dim)
        return noise.standard_normal(shape, self.dtype, self.seed, stream, step, self.backend)

    def _flat(self, named):
        grads = self.backend.xp.empty(self.theta.shape, dtype=self.theta.dtype)
        for (group, own), target in zip(self.shapes.items(), views(grads, self.shapes).values()):
            for leaf in own:
                target[leaf][...] = named[group][leaf]
        return grads

    def _check_sizes(self):
        for name in self.sizes:
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}.")


_DTYPES = ("float32", "float64", np.float32, np.float64, np.dtype("float32"), np.dtype("float64"))


def _name_of(dtype):
    if dtype is not None and dtype in _DTYPES:  # NumPy holds None for float64
        return np.dtype(dtype).name
    raise ConfigError(f'dtype must be "float32" or "float64", got {dtype!r}.')
