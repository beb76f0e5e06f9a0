"""The figures show the data they are given: read back from matplotlib's objects.

Catches: validation drawn as training, a term under another's title, a standard deviation drawn as a reconstruction.
"""

import io
from types import SimpleNamespace

import checks
import matplotlib
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn.cli import report
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


UNITS = ["nats", "nats of standardised data (training split's mean and deviation)", "nats of raw data, dx in tenths"]


@pytest.mark.parametrize("units", UNITS)
def test_all_text_lies_within_the_picture(units):
    """Labels and titles are cut nowhere, however narrow the picture."""
    title = "measurements_of_2026, standardised, test split. Above: data; below: mean of p(x_t | x_<t)"
    x = checks.rng().standard_normal((30, 1, 2))
    narrow = plots.reconstructions(x, x, [30], True, title), plots.reconstructions(x, x, [30], False, title)
    for figure in (plots.curves(records(), units), *narrow):
        plots.write(figure, io.BytesIO())
        width, height = figure.get_size_inches() * figure.dpi
        boxes = [text.get_window_extent() for text in figure.texts]
        assert boxes and all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in boxes)
    assert figure.get_suptitle().replace("\n", " ") == title


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


def handwriting(steps, width):
    """A line (steps, 3) that wanders from (7, -3) to the right by `width`, within a height of 2."""
    t = np.linspace(0, 1, steps)
    path = np.stack([7 + width * t, -3 + np.sin(40 * t)], axis=1)
    return np.column_stack([np.diff(path, axis=0, prepend=0), np.arange(steps) % 9 == 8])


@pytest.mark.parametrize("width, columns", [(2.0, 6), (40.0, 1), (10.0, 2)])
def test_ink_is_centred_in_cells_as_wide_as_it_is(width, columns):
    figure = plots.ink([handwriting(600, width * scale) for scale in (0.9, 1, 1, 1, 1, 1.1)])
    segments = np.array([segment.mean(axis=0) for segment in figure.axes[0].collections[0].get_segments()])
    (left, right), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert figure.get_figwidth() / figure.get_figheight() == pytest.approx((right - left) / (bottom - top), rel=0.01)
    rows = -(-6 // columns)
    assert bottom == pytest.approx(plots.CELL * rows)
    cell = (segments // [right / columns, plots.CELL]).astype(int)
    assert len(np.unique(cell, axis=0)) == 6, "each in a cell of its own"
    filled = np.ptp(np.concatenate(figure.axes[0].collections[0].get_segments()), axis=0) / [right, bottom]
    assert (filled > 0.6).all() and (filled <= 1).all()


def test_lines_of_ink_and_their_reconstructions_are_above_each_other():
    x = np.stack([handwriting(300, 40.0)] * 3, axis=1)
    axes = plots.reconstructions(x, x / 2, np.full(3, 300), False, medium="ink").axes[0]
    tops = [np.ptp(part[:, 0]) for part in np.split(np.concatenate(axes.collections[0].get_segments()), 6)]
    assert axes.get_ylim()[0] == pytest.approx(6 * plots.CELL) and tops == pytest.approx([*tops[:2]] * 3)
    assert tops[1] < 0.7 * tops[0]


@pytest.mark.parametrize("medium, names", [(None, 2), ("ink", 6), ("piano roll", 2)])
def test_the_rows_of_reconstructions_are_named(medium, names):
    x = np.stack([handwriting(300, 40.0)] * 3, axis=1)
    axes = plots.reconstructions(x, x / 2, np.full(3, 300), False, medium=medium).axes
    shown = [text.get_text() for text in axes[0].texts] or [one.get_ylabel() for one in axes if one.get_ylabel()]
    assert shown == ["data", "mean"] * (names // 2)


@pytest.mark.parametrize("columns", [plots.MOST_LINES, 4096])
def test_wide_data_are_an_image(columns):
    axes = plots.samples(np.zeros((5, 2, columns)), binary=False).axes
    assert [(len(one.lines), len(one.images)) for one in axes] == [(columns, 0) if columns < 4096 else (0, 1)] * 2


def test_a_users_settings_and_dollars_in_names_do_not_reach_a_picture():
    """LaTeX would be needed, and the name is no formula."""
    file, plain = io.BytesIO(), io.BytesIO()
    title = r"cost $\frac{$: sequences"
    plots.write(plots.samples(np.zeros((5, 2, 3)), False, title), plain)
    with matplotlib.rc_context({"text.usetex": True, "font.family": "no such font", "figure.dpi": 20}):
        plots.write(plots.samples(np.zeros((5, 2, 3)), False, title), file)
    assert file.getvalue() == plain.getvalue()


def test_a_picture_that_fails_is_a_warning(monkeypatch):
    data, model = tv.load_data("digits8"), tv.VRNN(8, 4, 2)
    written, run = [], SimpleNamespace(picture=lambda name, figure: written.append(name))
    monkeypatch.setattr(plots, "reconstructions", lambda *a, **k: 1 / 0)
    given = [record | {"seconds": 1.0} for record in records()]
    with pytest.warns(UserWarning, match="reconstructions.png is not drawn: ZeroDivisionError: division by zero"):
        report.draw_pictures(run, model, data, given)
    assert written == ["curves.png", "samples.png"]


def test_pictures_of_a_run_end_where_their_sequences_end(monkeypatch):
    """Reconstructions at the lengths of the test sequences, samples at lengths of training sequences."""
    data, model, seen = tv.load_data("vowels"), tv.VRNN(12, 4, 2, likelihood="gaussian"), {}
    for name in ("samples", "reconstructions"):
        monkeypatch.setattr(plots, name, lambda *given, name=name: seen.update({name: given}))
    report.draw_pictures(SimpleNamespace(picture=lambda *a: None), model, data, records())
    x, mean, lengths = seen["reconstructions"][:3]
    assert lengths.tolist() == data.test.lengths[:10].tolist() and x.shape == mean.shape
    drawn = [len(one) for one in seen["samples"][0]]
    assert set(drawn) <= set(data.train.lengths.tolist()) and len(set(drawn)) > 3
