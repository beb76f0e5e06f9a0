"""The figures show the data they are given: read back from matplotlib's objects.

Catches: validation drawn as training, a term under another's title, a standard deviation drawn as a reconstruction.
"""

import checks
import numpy as np
import pytest

from tinyvrnn.runs import plots


def records(n=5):
    """Records in which all numbers differ."""
    draw = checks.rng()
    terms = ("elbo", "kl", "log_likelihood")
    return [
        {"epoch": i + 1, "step": 8 * i + 8}
        | {split: dict(zip(terms, draw.standard_normal(3).tolist())) for split in ("train", "valid")}
        for i in range(n)
    ]


@pytest.mark.parametrize("exact", [False, True])
def test_curves_are_those_of_the_records(exact):
    given = records()
    figure = plots.curves(given, "nats; of something", exact)
    titles = ["log p(x)"] if exact else ["ELBO", "log-likelihood", "KL(q || p)"]
    assert [axes.get_title("left") for axes in figure.axes] == titles
    terms = ["log_likelihood"] if exact else ["elbo", "log_likelihood", "kl"]
    for axes, term in zip(figure.axes, terms, strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        for split in ("train", "valid"):
            assert lines[split].get_xdata().tolist() == [1, 2, 3, 4, 5]
            np.testing.assert_array_equal(lines[split].get_ydata(), [record[split][term] for record in given])


def test_a_partial_epoch_is_drawn_where_it_ended():
    given = records()
    given[-1]["step"] = 34  # 32 steps are 4 epochs
    assert [list(line.get_xdata()) for line in plots.curves(given).axes[0].lines] == [[1, 2, 3, 4, 4.25]] * 2


@pytest.mark.parametrize("likelihood", ["gaussian", "gmm", "pen", "bernoulli", "categorical"])
def test_a_reconstruction_is_the_mean_of_many_draws(likelihood):
    """E[x | z] against 4,000 draws of x for the same outputs."""
    model, x, _, eps = checks.small(likelihood)
    outputs = model._outputs(model._forward(x, None, eps)[2])
    wide = [np.repeat(o[:1, :1], 4000, axis=1) for o in outputs]
    noise = model.likelihood.noise(checks.rng(1), (1, 4000, model.x_dim), model.dtype)
    drawn = model.likelihood.sample(noise, *wide)[0]
    spread = drawn.std(axis=0) > 0
    checks.assert_mean(drawn[:, spread], model.reconstruct(x, None, eps)[0, 0][spread], "mean of x")
