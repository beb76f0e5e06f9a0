"""The latent explorer: one sample of a model, redrawn with one latent moved; a picture, and sliders.

All drawings share the noise of `model.sample(1, steps, seed)`, so they differ only through the latent. A move is in
standard deviations of the prior: z_t = mu_0 + sigma_0 (eps_t + move).
"""

import importlib
import io

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.arrays.cpu import one_blas_thread
from tinyvrnn.distributions.gaussian import reparameterise_forward
from tinyvrnn.errors import ConfigError, how_to_install
from tinyvrnn.models.equations import features_forward, generate_forward, prior_forward, recur_forward
from tinyvrnn.runs.plots import STYLE

SIGMAS = np.linspace(-2, 2, 9)
NO_WIDGETS = f"The sliders need ipywidgets: {how_to_install('course')}. The picture is drawn without them."


def explore(model, dims=4, steps=28, seed=0, at=None, sliders=True):
    """A matplotlib Figure with a row for each of some latent dimensions, moved from -2 to 2 sigma.

    dims: a list of dimensions, or how many of those with the largest effect. at: the only step t, from 0, at which z is
    moved (None: every step). sliders: in a notebook, also show a slider for each dimension and one for `at`; without
    ipywidgets, print a sentence instead. Raises ConfigError for dims or at out of range.
    """
    dims = _dims(model, dims, steps, seed, at)
    if sliders:
        _show(model, dims, steps, seed, at)
    return _grid(model, dims, steps, seed, at)


def moved(model, moves, steps=28, seed=0, at=None):
    """x and E[x_t | z_<=t, x_<t] of n drawings, each (steps, n, X) on the host, with z_t moved by moves (n, Z) sigma_0.

    A move of 0 gives `model.sample(1, steps, seed)`. at: see `explore`.
    """
    if not (at is None or 0 <= at < steps):
        raise ConfigError(f"at must be a step from 0 to {steps - 1}, or None for all steps, got {at!r}.")
    xp, asarray, p, likelihood = model.backend.xp, model.backend.asarray, model.params, model.likelihood
    moves = asarray(moves, dtype=model.dtype)
    h, xs, means = xp.zeros((len(moves), model.h_dim), dtype=model.dtype), [], []
    with one_blas_thread():
        for t in range(steps):
            eps = noise.standard_normal((1, model.z_dim), model.dtype, seed, "sample z", t, model.backend)
            eps = eps + moves * float(at is None or t == at)
            (mu_0, sigma_0), _ = prior_forward(p["prior"], h)
            z, _ = reparameterise_forward(mu_0, sigma_0, eps)
            phi_z, _ = features_forward(p["phi_z"], z)
            outputs, _ = generate_forward(p["generate"], phi_z, h, likelihood)
            v = likelihood.noise(noise.generator(seed, "sample x", t), (1, model.x_dim), model.dtype)
            xs.append(likelihood.sample(asarray(np.repeat(v, len(moves), axis=0)), *outputs))
            means.append(likelihood.mean(*outputs))
            phi_x, _ = features_forward(p["phi_x"], xs[-1])
            h, _ = recur_forward(p["recur"], phi_x, phi_z, h)
    return to_host(xp.stack(xs)), to_host(xp.stack(means))


def strongest(model, steps=28, seed=0, at=None):
    """(Z,) the latent dimensions, sorted by how much the sequence changes from -2 to 2 sigma, largest first."""
    both = np.concatenate([-2 * np.eye(model.z_dim), 2 * np.eye(model.z_dim)])
    _, means = moved(model, both, steps, seed, at)
    low, high = means[:, : model.z_dim], means[:, model.z_dim :]
    return np.argsort(-np.abs(high - low).mean(axis=(0, 2)), kind="stable")


# ---- the picture ---------------------------------------------------------------------------------


def _dims(model, dims, steps, seed, at):
    if np.ndim(dims) == 0:
        count = dims
        if not (isinstance(count, (int, np.integer)) and 1 <= count):
            raise ConfigError(f"dims must be a number of latents, at least 1, or a list of them, got {dims!r}.")
        return [int(d) for d in strongest(model, steps, seed, at)[:count]]
    wrong = [d for d in dims if not (isinstance(d, (int, np.integer)) and 0 <= d < model.z_dim)]
    if wrong or len(dims) == 0:
        raise ConfigError(f"dims must be latents from 0 to {model.z_dim - 1}, got {list(dims)!r}.")
    return [int(d) for d in dims]


def _grid(model, dims, steps, seed, at):
    moves = np.zeros((len(dims), len(SIGMAS), model.z_dim))
    for row, d in enumerate(dims):
        moves[row, :, d] = SIGMAS
    x, means = moved(model, moves.reshape(-1, model.z_dim), steps, seed, at)
    binary, where = _binary(model), "at every step" if at is None else f"at step {at}"
    width, height = (0.72, 0.78) if binary else (1.4, 1.2)
    with rc_context(STYLE):
        figure = Figure(figsize=(width * len(SIGMAS) + 0.6, height * len(dims) + 0.5), layout="constrained", dpi=110)
        grid = figure.subplots(len(dims), len(SIGMAS), squeeze=False, sharey=not binary)
        for i, axes in enumerate(grid.ravel()):
            _draw(axes, means[:, i] if binary else x[:, i], binary)
        for d, axes in zip(dims, grid[:, 0]):
            axes.set_ylabel(f"z[{d}]", rotation=0, ha="right", va="center")
        for sigma, axes in zip(SIGMAS, grid[0]):
            axes.set_title(f"{sigma:+g} σ" if sigma else "0", loc="center", fontsize=9)
        figure.suptitle(f"One sequence, one latent moved {where}", x=0.01, ha="left", fontsize=10)
    return figure


def _draw(axes, sequence, binary):
    if binary:
        axes.imshow(sequence, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="0.8")
    else:
        axes.plot(sequence, linewidth=1)
        axes.tick_params(labelsize=7)


def _binary(model):
    return model.likelihood.binary


# ---- the sliders ---------------------------------------------------------------------------------


def panel(model, dims, steps=28, seed=0, at=None):
    """An ipywidgets box: a slider for each of `dims`, one for the step (-1: every step), and the resulting picture.

    Raises ImportError without ipywidgets.
    """
    widgets = importlib.import_module("ipywidgets")
    sliders = [widgets.FloatSlider(0.0, min=-3, max=3, step=0.1, description=f"z[{d}] / σ") for d in dims]
    step = widgets.IntSlider(-1 if at is None else at, min=-1, max=steps - 1, description="only step")
    picture = widgets.Image(format="png", width=260)

    def draw(_=None):
        moves = np.zeros((1, model.z_dim))
        moves[0, dims] = [slider.value for slider in sliders]
        x, means = moved(model, moves, steps, seed, None if step.value < 0 else step.value)
        picture.value = _png(means[:, 0] if _binary(model) else x[:, 0], _binary(model))

    for control in (*sliders, step):
        control.observe(draw, names="value")
    draw()
    return widgets.HBox([widgets.VBox([*sliders, step]), picture])


def _png(sequence, binary):
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6, 2.6), layout="constrained", dpi=100)
        _draw(figure.subplots(), sequence, binary)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _show(model, dims, steps, seed, at):
    try:
        box = panel(model, dims, steps, seed, at)
        display = importlib.import_module("IPython.display").display
    except ImportError:
        print(NO_WIDGETS)
        return
    display(box)
