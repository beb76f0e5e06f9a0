"""What all models share: the flat vector of parameters, and the public calls from a bound to a sample.

A model defines the shapes of its parameters (`_shapes`), the terms of its bound (`_forward_terms`) and their gradient
(`_backward_terms`), its latent variables (`_latents`), the distribution that it reconstructs from (`_outputs`), a step
of sampling (`_sample_step`) and the states after a prime (`_states_at_end`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import Array, Backend, as_array, device_memory, get_backend, to_host
from tinyvrnn.arrays.cpu import check_memory, one_blas_thread
from tinyvrnn.arrays.params import fitting, fixed, initialise, size, views
from tinyvrnn.distributions import COMPONENTS, get_likelihood
from tinyvrnn.distributions.observed import observed_only, outputs_given, without_constants
from tinyvrnn.errors import ConfigError, DataError, check_whole
from tinyvrnn.models import recompute as recomputation
from tinyvrnn.models.batch import (
    Batch,
    BoundTerms,
    Gradient,
    Inference,
    Objective,
    bound_terms,
    check_can_be_cut,
    check_objective,
    copies,
    inference,
    shape_of,
    validate,
    validate_on_scale,
)
from tinyvrnn.models.sampling import ancestral_sample
from tinyvrnn.nn.cells import cell_of, state_width

LAYERS = 1000  # at most; a deeper network of this kind has never been trained
FIXED = ("params", "shapes", "config", "backend", "dtype", "seed", "z_dim")  # attributes, as all sizes and choices
_drawing = Lock()


class Model:
    """The base of VRNN, VRNN-I, RNN and VAE; not a model by itself. x is (T, B, X), time-major.

    Attributes
    ----------
    theta : array (P,)
        All parameters.
    params : dict
        Named views of theta: group, such as "phi_x", -> leaf, such as "W1", -> array.
    x_dim, z_dim : int
        X and Z; Z is 0 without latent variables: eps is then (T, B, 0), and the KL is 0.
    likelihood : Likelihood
        The output distribution p(x_t | ...).
    backend : Backend
        Where theta is, and where results are returned.
    dtype : "float32" or "float64"
        Of theta and of all results.
    seed : int
        Of the initial weights and of all noise.
    mean, std : numpy.ndarray (X,)
        Of the training data, if standardised: raw data are std * x + mean. Columns with std 0 are never scored.
    units : str
        Units of a log-likelihood of that data.
    medium : dict
        Meaning of its numbers, see `tinyvrnn.runs.export`.
    """

    name: str | None = None  # its key in MODELS
    bound = "elbo"  # or "exact", where `elbo` is log p(x) itself
    bounds: tuple[str, ...] = ("elbo",)  # what it can be trained on and evaluated with
    sizes: tuple[str, ...] = ()  # names of the arguments that are sizes, each an attribute
    choices: tuple[str, ...] = ()  # names of the arguments that are one of a few words, each an attribute too
    x_dim: int
    z_dim: int = 0  # a model without latent variables takes no noise: eps is (T, B, 0), and the KL is 0
    params: Mapping[str, Mapping[str, Array]]
    likelihood: Any
    backend: Backend
    dtype: str
    seed: int
    mean: Array
    std: Array
    units: str
    medium: dict[str, Any]

    def __init__(self, likelihood, backend, dtype, seed, components):
        self.seed, self.dtype = seed, _name_of(dtype)
        self._check_sizes()
        self.likelihood = get_likelihood(likelihood, components)
        self.backend = get_backend(backend)
        shapes = self._shapes()
        check_memory(size(shapes), "float64", f"A model of {size(shapes):,} parameters")  # as they are drawn
        with device_memory(self.backend):
            self._theta = initialise(shapes, seed, self.backend.name, dtype)
        self.shapes, self.params = shapes, fixed(views(self._theta, shapes))
        for group in self.params.values():
            if "U" in group:
                cell_of(group).initialise(group)
        self.mean, self.std = np.zeros(self.x_dim), np.ones(self.x_dim)  # of standardised training data
        self.units, self.medium = "nats", {}  # of that data too
        self._draws = 0

    def __setattr__(self, name, value):
        """Check what a user replaces: moments are copied, and whatever the parameters were made for is refused."""
        own, what = vars(self), f"{name} of a {self.name}"
        if name in ("mean", "std"):
            value = fitting(value, np.zeros(self.x_dim), what)
            if name == "std" and (value < 0).any():
                raise ConfigError(f"{what} must hold no negative numbers.")
            if name == "std" and self.likelihood.neutral is None and not value.all():
                why = f"the likelihood {self.likelihood.name} scores whole steps: leave such columns out of the data"
                raise ConfigError(f"{what} is 0 for a column that is constant in the training data, but {why}.")
        elif name in ("units", "medium"):
            if not isinstance(value, kind := str if name == "units" else dict):
                raise ConfigError(f"{what} must be a {kind.__name__}, got {type(value).__name__}.")
            value = deepcopy(value)
        elif name == "likelihood" and name in own and getattr(value, "name", None) != self.likelihood.name:
            raise ConfigError(f"{what} must be a record named {self.likelihood.name}: make another model.")
        elif "params" in own and name in (*FIXED, *self.sizes, *self.choices):
            raise ConfigError(f"{name} of a {self.name} cannot be replaced: make another model.")
        super().__setattr__(name, value)

    def __getstate__(self):
        """What pickle and copy take: no views, and host arrays."""
        state = {name: value for name, value in vars(self).items() if name not in ("params", "shapes")}
        return state | {"backend": self.backend.name, "_theta": to_host(self._theta)}

    def __setstate__(self, state):
        state = deepcopy(state)  # copy.copy hands over the state itself
        backend = get_backend(state["backend"])
        vars(self).update(state | {"backend": backend, "_theta": backend.asarray(np.array(state["_theta"]))})
        shapes = self._shapes()
        vars(self).update(shapes=shapes, params=fixed(views(self._theta, shapes)))

    def _batch(self, *fields):
        """The Batch of what a user gave."""
        return Batch.of(*fields) if self.std.all() else Batch.of(*fields).without_constants(self.std)

    @property
    def theta(self) -> Array:
        """All parameters, one flat vector (P,); `params` are named views of it.

        Assigning copies the values into it.

        Returns
        -------
        array (P,)
            The vector itself, on the model's backend and in its dtype; writing to it changes the model.

        Raises
        ------
        ConfigError, BackendError
            An array of another shape or backend, or without finite real numbers, is assigned.
        """
        return self._theta

    @theta.setter
    def theta(self, value: Array) -> None:
        with device_memory(self.backend):
            self._theta[...] = fitting(value, self._theta, "theta")

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
    def has_state(self):
        """Whether a recurrent state connects the steps."""
        return "cell" in self.choices

    def loss_and_grads(
        self,
        x: Array,
        lengths: ArrayLike | None = None,
        eps: Array | None = None,
        beta: float = 1.0,
        bound: str = "elbo",
        particles: int = 1,
        uniforms: Array | None = None,
        recompute: bool = False,
        input_mask: Array | None = None,
        observed: Array | None = None,
        free_bits: float = 0.0,
    ) -> tuple[Array, Array, BoundTerms]:
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
        observed : array (T, B, X), optional
            1 or True where x is observed, 0 or False where it is missing, whatever x holds there. The networks read 0
            in place of a missing entry, and only observed entries are scored: log p(observed x given observed).
            "pen" and "categorical" score whole steps. None: all are observed.
        free_bits : float
            The loss charges each step of the bound "elbo" max(free_bits, KL_t) in nats instead of KL_t.

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
            x, lengths, eps, uniforms, input_mask or observed do not fit the model.
        ConfigError
            beta, bound, particles, recompute or free_bits are not possible for it.
        """
        batch = self._batch(x, lengths, eps, uniforms, input_mask, observed)
        objective = Objective(bound, particles, beta, recompute, free_bits)
        return self.gradient(batch if eps is not None else self._with_fresh_noise(batch, objective), objective)[:3]

    def chunk_loss_and_grads(
        self,
        x: Array,
        lengths: ArrayLike | None = None,
        eps: Array | None = None,
        beta: float = 1.0,
        state: Array | None = None,
        recompute: bool = False,
        input_mask: Array | None = None,
        observed: Array | None = None,
    ) -> tuple[Array, Array, BoundTerms, Array]:
        """As `loss_and_grads`, for a chunk of longer sequences: it starts from `state` and returns the next one too.

        Parameters
        ----------
        x, lengths, eps, beta : array (T, B, X), integers (B,), array (T, B, Z), float
            As in `loss_and_grads`, for the T steps of the chunk.
        state : array (B, S H), optional
            Returned by the call for the previous chunk of the SAME sequences; S is 1 for a GRU, 2 for an LSTM. None:
            their first chunk. No gradient flows back through it.
        recompute, input_mask, observed : bool, array (T, B, X), array (T, B, X)
            As in `loss_and_grads`.

        Returns
        -------
        loss, grads, terms : 0-d array, array (P,), BoundTerms
            Of this chunk, as in `loss_and_grads`.
        state : array (B, S H)
            After the last step.

        Raises
        ------
        ConfigError
            The model has no state or a smoothing posterior, or beta or recompute is impossible.
        DataError
            An array does not fit the model, or the state is of another number of sequences.
        """
        check_can_be_cut(self, "chunk")
        batch = self._batch(x, lengths, eps, None, input_mask, observed, state)
        objective = Objective(beta=beta, recompute=recompute)
        return self.gradient(batch if eps is not None else self._with_fresh_noise(batch, objective), objective)

    def gradient(self, batch, objective):
        """The Gradient of an Objective on a Batch: what `loss_and_grads` and training call."""
        with one_blas_thread():
            batch, beta = validate(self, batch, objective), float(objective.beta)  # a NumPy scalar promotes float32
            xp, model, weight = self.backend.xp, self.scoring(batch), batch.mask / batch.mask.shape[1]
            if objective.bound != "elbo":
                return model._particle_gradient(batch, objective.bound, beta)
            if objective.recompute:
                log_p, kl, grads, state = recomputation.terms_and_grads(model, batch, weight, objective)
            else:
                log_p, kl, cache = model._forward_terms(batch)
                state, dkl = self._last_state(cache), objective.dkl(kl, weight)
                _, named = model._backward_terms(cache, -weight, dkl)
                del cache  # before another vector of theta's size is made
                grads = self._flat(named)
            terms = bound_terms(log_p, kl, batch.mask)
            free = objective.free(kl, weight) if objective.free_bits else 0.0
            return Gradient(xp.mean(beta * terms.kl - terms.log_likelihood) + beta * free, grads, terms, state)

    def scoring(self, batch):
        """This model, or for a batch with missing entries a twin with the same weights that does not score them."""
        if batch.observed is None:
            return self
        twin = object.__new__(type(self))
        vars(twin).update(vars(self), likelihood=observed_only(self.likelihood))
        return twin

    def to_array(self, a):
        """On the backend, in the model's dtype and contiguous: sums round differently in another memory order."""
        return self.backend.xp.ascontiguousarray(self.backend.asarray(a, dtype=self.dtype))

    def standardise(self, x: Array) -> Array:
        """Raw data on the scale of the training data: (x - mean) / std.

        Parameters
        ----------
        x : array (..., X)
            In the units of the data that the model was trained on, before they were standardised.

        Returns
        -------
        array, shaped like x
            On the model's backend and in its dtype, as `elbo` and all other calls need it.

        Raises
        ------
        DataError
            x has another number of values in a step.
        """
        x = as_array(x, "x")
        if shape_of(x)[-1:] != (self.x_dim,):
            raise DataError(f"Expected x of shape (..., {self.x_dim}) to standardise, got {shape_of(x)}.")
        scale = np.where(self.std > 0, self.std, np.inf)
        x, mean, scale = (self.backend.asarray(a, dtype="float64") for a in (x, self.mean, scale))
        return self.to_array((x - mean) / scale)

    def elbo(
        self, x: Array, lengths: ArrayLike | None = None, eps: Array | None = None, observed: Array | None = None
    ) -> Array:
        """One-draw estimate of the ELBO (Eq. 11) of each sequence; for an RNN log p(x) itself.

        Parameters
        ----------
        x, lengths, eps, observed : array (T, B, X), integers (B,), array (T, B, Z), array (T, B, X)
            As in `loss_and_grads`, but without eps the noise is the same in every call, so that calls are comparable.

        Returns
        -------
        array (B,)
            Nats per sequence.

        Raises
        ------
        DataError
            An array does not fit the model.
        """
        return self.parts(x, lengths, eps, observed).elbo

    def parts(
        self, x: Array, lengths: ArrayLike | None = None, eps: Array | None = None, observed: Array | None = None
    ) -> BoundTerms:
        """As `elbo`, with its two terms.

        Parameters
        ----------
        x, lengths, eps, observed : array (T, B, X), integers (B,), array (T, B, Z), array (T, B, X)
            As in `elbo`.

        Returns
        -------
        BoundTerms
            ELBO, KL and log-likelihood, (B,) each, nats per sequence.

        Raises
        ------
        DataError
            An array does not fit the model.
        """
        log_p, kl, _, batch = self._forward(x, lengths, eps, observed)
        return bound_terms(log_p, kl, batch.mask)

    def infer(
        self, x: Array, lengths: ArrayLike | None = None, eps: Array | None = None, observed: Array | None = None
    ) -> Inference:
        """The latent variables and the terms of the bound, step by step.

        Parameters
        ----------
        x, lengths, eps, observed : array (T, B, X), integers (B,), array (T, B, Z), array (T, B, X)
            As in `elbo`.

        Returns
        -------
        Inference
            (T, B, .) each; `elbo` of a sequence is the sum of its steps. Without latent variables Z is 0.

        Raises
        ------
        DataError
            An array does not fit the model.
        """
        log_p, kl, cache, batch = self._forward(x, lengths, eps, observed)
        with one_blas_thread():
            return inference(self._latents(cache), log_p, kl, batch.mask)

    def chunk_parts(
        self,
        x: Array,
        lengths: ArrayLike | None = None,
        eps: Array | None = None,
        state: Array | None = None,
        observed: Array | None = None,
    ) -> tuple[BoundTerms, Array | None]:
        """As `parts`, for a chunk of longer sequences: it starts from `state` and returns the next one too.

        Parameters
        ----------
        x, lengths, eps : array (T, B, X), integers (B,), array (T, B, Z)
            As in `elbo`, for the T steps of the chunk. Without eps all chunks have the same noise: give each its own.
        state, observed : array (B, S H), array (T, B, X)
            As in `chunk_loss_and_grads`; state is None for a model without one.

        Returns
        -------
        terms : BoundTerms
            Of this chunk, (B,) each, nats per sequence.
        state : array (B, S H) or None
            After the last step; None for a model without one.

        Raises
        ------
        ConfigError
            The posterior is "smoothing", which reads each sequence as a whole.
        DataError
            An array does not fit the model, or the state is of another number of sequences.
        """
        if self.has_state:
            check_can_be_cut(self, "chunk")
        log_p, kl, cache, batch = self._forward(x, lengths, eps, observed, state)
        return bound_terms(log_p, kl, batch.mask), self._last_state(cache)

    def reconstruct(
        self, x: Array, lengths: ArrayLike | None = None, eps: Array | None = None, observed: Array | None = None
    ) -> Array:
        """E[x_t | z_<=t, x_<t], with z drawn from the posterior: what the latents keep of x.

        Parameters
        ----------
        x, lengths, eps, observed : array (T, B, X), integers (B,), array (T, B, Z), array (T, B, X)
            As in `elbo`.

        Returns
        -------
        array, shaped like x
            In the units of x; the padding is meaningless.

        Raises
        ------
        DataError
            An array does not fit the model.
        """
        _, _, cache, _ = self._forward(x, lengths, eps, observed)
        with one_blas_thread():
            mean = without_constants(self.likelihood, self.std).mean(*self._outputs(cache))
        return mean.reshape(as_array(x, "x").shape)  # a VAE also takes (B, X)

    def sample(
        self,
        n: int | None = None,
        steps: int = 28,
        seed: int = 0,
        prime: Array | None = None,
        temperature: float = 1.0,
        mean: bool = False,
        observed: Array | None = None,
    ) -> Array:
        """Sequences drawn from the model, or continuations of given ones.

        Parameters
        ----------
        n : int, optional
            Number of sequences; of draws for each prime. None: 16; one for each prime.
        steps, seed : int
            Steps to draw; the same seed gives the same sequences.
        prime : array (T0, B, X), optional
            Sequences to continue, all of T0 steps.
        temperature : float
            tau scales the standard deviation of each latent and each Gaussian output; a Bernoulli's logits and those of
            categories and components are divided by it: (tau sigma_0, tau sigma_x, a / tau).
        mean : bool
            Return the mean of the distribution that each x_t is drawn from in its place. The draw is fed back.
        observed : array (T0, B, X), optional
            0 or False where the prime is missing, as in `loss_and_grads`.

        Returns
        -------
        array (steps, n, X), or (T0 + steps, B n, X) with a prime
            On the scale of the training data as standardised; it begins with the prime, with 0 where that is missing.
            Draw k of prime b is sequence b n + k.

        Raises
        ------
        ConfigError
            n, steps, seed or temperature is invalid, or the likelihood has no temperature.
        DataError
            The prime or observed does not fit the model.
        """
        n = check_whole("n", (16 if prime is None else 1) if n is None else n)
        prime = None if prime is None else as_array(prime, "prime")
        if prime is None and observed is not None:
            raise DataError("observed says what of a prime is observed, and there is no prime: leave it out.")
        with device_memory(self.backend), one_blas_thread():
            x, given = self._continued(prime, None, n, steps, seed, observed, temperature, mean)
            return x if given is None else self.backend.xp.concatenate([copies(given.x_in, n), x])

    def forecast(
        self,
        x: Array,
        steps: int,
        draws: int = 100,
        lengths: ArrayLike | None = None,
        seed: int = 0,
        observed: Array | None = None,
    ) -> Array:
        """Draws of what follows each sequence, from p(x_{t+1}, ..., x_{t+steps} | x_<=t) with t its length.

        The latents of the past are drawn from the posterior (Eq. 9), anew for each draw, those of the future from the
        prior (Eq. 5). A VAE has no memory: its forecast does not depend on x.

        Parameters
        ----------
        x : array (T, B, X)
            As in `elbo`: on the scale of the training data as standardised.
        steps, draws : int
            Steps to forecast; K, the futures of each sequence.
        lengths : integers (B,), optional
            Real steps of each sequence, after which it continues. None: all have T.
        seed : int
            The same seed gives the same draws.
        observed : array (T, B, X), optional
            As in `loss_and_grads`.

        Returns
        -------
        array (K, steps, B, X) of float64
            In raw units: on the scale of the data before they were standardised (`mean`, `std`).

        Raises
        ------
        ConfigError
            steps, draws or seed is invalid.
        DataError
            x, lengths or observed do not fit the model.
        """
        draws = check_whole("draws", draws)
        if x is None:
            raise DataError(f"Expected x of shape (T, B, {self.x_dim}), got NoneType: sample draws without a past.")
        with device_memory(self.backend), one_blas_thread():
            drawn, _ = self._continued(x, lengths, draws, steps, seed, observed)
            return self.in_raw_units(drawn).reshape(steps, -1, draws, self.x_dim).transpose(2, 0, 1, 3)

    def impute(
        self, x: Array, observed: Array, draws: int = 100, lengths: ArrayLike | None = None, seed: int = 0
    ) -> Array:
        """Draws of the missing entries: z from the posterior (Eq. 9) given the observed ones, x_t from Eq. 6 given z.

        A filtering posterior knows the observed entries up to step t, a smoothing one all of them.

        Parameters
        ----------
        x, observed : array (T, B, X)
            As in `loss_and_grads`.
        draws, lengths, seed : int, integers (B,), int
            As in `forecast`.

        Returns
        -------
        array (K, T, B, X) of float64
            x in raw units, with other draws in each of the K; the padding is meaningless. "pen" and "categorical" draw
            whole steps.

        Raises
        ------
        ConfigError
            draws or seed is invalid.
        DataError
            An array does not fit the model, or observed is missing.
        """
        draws, batch = check_whole("draws", draws), self._batch(x, lengths, None, None, None, observed)
        check_whole("seed", seed, 0, bits=64)
        if observed is None:
            raise DataError("impute needs observed, 0 or False where x is missing.")
        eps = self._draw_eps(batch.x, "impute", seed, draws)
        check_memory(draws * math.prod(batch.x.shape), "float64", f"{draws:,} draws of x {batch.x.shape}")
        with device_memory(self.backend), one_blas_thread():
            batch = validate_on_scale(self, batch._replace(eps=eps[:, :, 0]), Objective())
            each = (batch._replace(eps=self.to_array(eps[:, :, k])) for k in range(draws))
            return self.in_raw_units(self.backend.xp.stack([self._imputed(b, seed, k) for k, b in enumerate(each)]))

    def _imputed(self, batch, seed, k):
        """x (T, B, X) with draw k of its missing entries."""
        _, _, cache = self.scoring(batch)._forward_terms(batch)
        outputs = outputs_given(self.likelihood, batch.x, self._outputs(cache))
        v = self.likelihood.noise(noise.generator(seed, "impute x", k), batch.x.shape, self.dtype)
        drawn = self.likelihood.sample(self.backend.asarray(v), *outputs)
        return self.backend.xp.where(batch.observed != 0, batch.x, drawn)

    def in_raw_units(self, x):
        """x on the scale of the data before they were standardised, in float64."""
        asarray = self.backend.asarray
        return x.astype("float64") * asarray(self.std) + asarray(self.mean)  # a mean can be large beside its std

    def _continued(self, x, lengths, n, steps, seed, observed=None, temperature=1.0, mean=False):
        """n draws (steps, B n, X) after each x (T, B, X), and the Batch of x; without x, (steps, n, X) and None."""
        steps = check_whole("steps", steps)
        check_whole("seed", seed, 0, bits=64)
        given, count = None, n
        if x is not None:
            batch = self._batch(x, lengths, None, None, None, observed)
            eps = self._draw_eps(batch.x, "prime", seed, n)  # each draw has its own latents of the past
            given = validate_on_scale(self, batch._replace(eps=eps[:, :, 0]), Objective())._replace(eps=eps)
            count = n * given.x.shape[1]
        check_memory(count * steps * self.x_dim, self.dtype, f"{count:,} sequences of {steps:,} steps")
        state = self._no_state(count) if given is None else self._states_at_end(given)
        return ancestral_sample(self, state, steps, seed, temperature, mean), given

    def _no_state(self, n):
        width = state_width(self.params["recur"]) if self.has_state else 0
        return self.backend.xp.zeros((n, width), dtype=self.dtype)

    def _forward(self, x, lengths, eps, observed=None, state=None):
        """log_p, kl (T, B), the cache and the validated Batch; without eps the noise is the same in every call."""
        batch = self._batch(x, lengths, eps, None, None, observed, state)
        if eps is None:
            batch = batch._replace(eps=self._draw_eps(batch.x, "elbo", 0))
        with one_blas_thread():
            batch = validate_on_scale(self, batch, Objective())
            return *self.scoring(batch)._forward_terms(batch), batch

    def _last_state(self, cache):
        return cache.loop.state[-1].copy() if self.has_state else None

    def _with_fresh_noise(self, batch, objective):
        """The Batch with noise of its own for each call; uniforms that the user gave stay."""
        check_objective(self, objective)
        particles = () if objective.bound == "elbo" else (objective.particles,)
        with _drawing:  # no two threads draw the same noise
            eps, uniforms = self._draw_eps(batch.x, "loss_and_grads", self._draws, *particles), batch.uniforms
            if particles and uniforms is None:
                uniforms = noise.uniform(batch.x.shape[:2], "float64", self.seed, "resample", self._draws, self.backend)
            self._draws += 1
        return batch._replace(eps=eps, uniforms=uniforms)

    def _draw_eps(self, x, stream, step, *K):
        if getattr(x, "ndim", None) != 3:
            raise DataError(f"Expected x of shape (T, B, {self.x_dim}), got {shape_of(x)}: see tinyvrnn.data.pad.")
        return noise.standard_normal((*x.shape[:2], *K, self.z_dim), self.dtype, self.seed, stream, step, self.backend)

    def _flat(self, named):
        grads = self.backend.xp.empty(self.theta.shape, dtype=self.theta.dtype)
        for (group, own), target in zip(self.shapes.items(), views(grads, self.shapes).values()):
            for leaf in own:
                target[leaf][...] = named[group][leaf]
        return grads

    def _check_sizes(self):
        for name in self.sizes:
            check_whole(name, getattr(self, name))
        if self.layers > LAYERS:
            raise ConfigError(f"layers must be at most {LAYERS}, got {self.layers}: no deeper model can be trained.")


_DTYPES = ("float32", "float64", np.float32, np.float64, np.dtype("float32"), np.dtype("float64"))


def _name_of(dtype):
    if dtype is not None and dtype in _DTYPES:  # NumPy holds None for float64
        return np.dtype(dtype).name
    raise ConfigError(f'dtype must be "float32" or "float64", got {dtype!r}.')
