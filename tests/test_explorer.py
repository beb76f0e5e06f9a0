"""The latent explorer: its drawings are samples of the model with the right latent moved, and it works without widgets.

Catches: other noise than `sample`'s, a move of the wrong latent or step, a move in units of z instead of the prior's, a
slider that changes nothing, and a traceback on a machine without ipywidgets.
"""

import sys

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn.course import explore, explorer
from tinyvrnn.errors import ConfigError, how_to_install
from tinyvrnn.models.equations import prior_forward


@pytest.fixture(params=["bernoulli", "gaussian"])
def model(request):
    """Weights large enough that z matters, as in a trained model."""
    model = tv.VRNN(3, 5, 4, likelihood=request.param, dtype="float64", seed=2)
    model.theta[...] = 2.5 * model.theta
    return model


@pytest.fixture
def binary():
    model = tv.VRNN(6, 5, 4, seed=2)
    model.theta[...] = 2.5 * model.theta
    return model


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_nothing_moved_is_a_sample_of_the_model(likelihood, backend):
    model = tv.VRNN(3, 5, 2, likelihood=likelihood, backend=backend, dtype="float64", seed=1)
    x, means = explorer.moved(model, np.zeros((3, 2)), steps=7, seed=5)
    expected = tv.to_host(model.sample(1, 7, seed=5))
    np.testing.assert_allclose(x, np.repeat(expected, 3, axis=1), rtol=1e-12)
    assert means.shape == x.shape


def test_means_are_probabilities_of_what_is_drawn(binary):
    """Over many seeds the pixels have the probabilities in the grey picture, within 5 standard errors."""
    drawn = [explorer.moved(binary, np.zeros((1, 4)), steps=3, seed=seed) for seed in range(400)]
    x, p = (np.concatenate(arrays, axis=1) for arrays in zip(*drawn))
    error = np.sqrt((p * (1 - p)).sum()) / x.size
    assert abs(x.mean() - p.mean()) < 5 * error


def test_a_move_is_counted_in_deviations_of_the_prior(monkeypatch):
    """At step 0 the state is 0, so z_0 = mu_0 + sigma_0 (eps + move) can be written down."""
    model, seen = tv.VRNN(3, 5, 2, dtype="float64", seed=1), []
    kept = explorer.features_forward
    monkeypatch.setattr(explorer, "features_forward", lambda p, v: seen.append(v) or kept(p, v))
    moves = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, -2.0]])
    explorer.moved(model, moves, steps=1)
    _, sigma_0 = prior_forward(model.params["prior"], np.zeros((3, 5)))[0]
    np.testing.assert_allclose(seen[0] - seen[0][0], sigma_0 * moves, atol=1e-12)


@pytest.mark.parametrize("at", [0, 3, 5])
def test_a_move_at_one_step_leaves_the_steps_before_as_they_were(model, at):
    moves = np.array([[0, 0, 0, 0], [2, -2, 2, -2]])
    x, means = explorer.moved(model, moves, steps=6, at=at)
    assert (means[:at, 0] == means[:at, 1]).all() and (x[:at, 0] == x[:at, 1]).all()
    assert (means[at, 0] != means[at, 1]).any()


def test_the_strongest_latent_comes_first(model):
    """Only the weights from z_2 are non-zero, so no other latent has an effect."""
    model.params["phi_z"]["W1"][[0, 1, 3]] = 0
    assert explorer.strongest(model, steps=4)[0] == 2
    low_high = np.zeros((2, 4))
    low_high[:, 1] = -2, 2
    _, means = explorer.moved(model, low_high, steps=4)
    assert (means[:, 0] == means[:, 1]).all()


@pytest.mark.one_in(4)
@pytest.mark.parametrize("dims, rows", [(1, 1), (3, 3), ([2, 0], 2), (9, 4)])
def test_the_picture_has_a_row_for_each_latent(model, dims, rows):
    figure = explore(model, dims=dims, steps=5, sliders=False)
    assert len(figure.axes) == rows * len(explorer.SIGMAS)
    if isinstance(dims, list):
        labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
        assert labels == [f"z[{d}]" for d in dims]


def test_the_picture_shows_the_moved_sequences(binary):
    figure = explore(binary, dims=[1, 3], steps=5, sliders=False, at=2)
    for row, d in enumerate([1, 3]):
        moves = np.zeros((9, 4))
        moves[:, d] = np.linspace(-2, 2, 9)
        _, means = explorer.moved(binary, moves, steps=5, at=2)
        for axes, sequence in zip(figure.axes[9 * row :], np.moveaxis(means, 1, 0)):
            np.testing.assert_allclose(axes.images[0].get_array(), sequence, rtol=1e-6)


@pytest.mark.parametrize("options", [{"dims": [4]}, {"dims": []}, {"dims": 0}, {"dims": "all"}, {"at": 5}, {"at": -1}])
def test_what_does_not_exist_is_refused(model, options):
    with pytest.raises(ConfigError, match="dims must be|at must be"):
        explore(model, steps=5, sliders=False, **options)


def test_a_slider_draws_anew_and_back(binary):
    pytest.importorskip("ipywidgets")
    # with this seed a latent moved at the first step alone changes the picture enough to be seen in 256 greys
    dims = explorer.strongest(binary, steps=5, seed=3)[:2].tolist()
    box = explorer.panel(binary, dims, steps=5, seed=3)
    (controls, picture), before = box.children, bytes(box.children[1].value)
    first, second, step = controls.children
    assert before.startswith(b"\x89PNG") and [first.description, second.description] == [f"z[{d}] / σ" for d in dims]
    first.value = 2.0
    everywhere = bytes(picture.value)
    assert everywhere != before
    step.value = 0
    assert picture.value not in (before, everywhere)
    first.value = 0.0
    assert picture.value == before
    second.value = -2.0
    assert picture.value != before


def test_without_ipywidgets_there_is_a_sentence_and_the_picture(binary, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    figure = explore(binary, dims=2, steps=4)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "ipywidgets" in said and how_to_install("course") in said
    assert len(figure.axes) == 2 * len(explorer.SIGMAS)


def test_with_ipywidgets_the_box_is_displayed(binary, monkeypatch, capsys):
    pytest.importorskip("ipywidgets")
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    explore(binary, dims=2, steps=4)
    (box,) = shown
    assert len(box.children[0].children) == 3 and capsys.readouterr().out == ""
