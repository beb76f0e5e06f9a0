"""The pictures, in one style: colour-blind safe (Okabe and Ito's colours), readable in print, no global state."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE = {
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "font.size": 10,
    "savefig.dpi": 150,
    "legend.frameon": False,
}


def curves(records, units="nats"):
    """ELBO, log-likelihood and KL against the epoch, train and validation. records: what `train` returns."""
    epochs = [record["epoch"] for record in records]
    titles = {"elbo": "ELBO", "log_likelihood": "log-likelihood", "kl": "KL(q || p)"}
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        for axes, (term, title) in zip(figure.subplots(1, 3), titles.items()):
            for split, style in (("train", "--"), ("valid", "-")):
                axes.plot(epochs, [record[split][term] for record in records], style, label=split)
            axes.set(title=title, xlabel="epoch")
            axes.set_ylim(*_limits([record[split][term] for record in records for split in ("train", "valid")]))
        figure.supylabel(f"{units.split(';')[0]} per sequence")
        figure.axes[0].legend(loc="lower right")
    return figure


def gaps(rows):
    """How far each posterior's ELBO is below log p(x): all of them, and those below 2 nats again, larger.

    rows: what `linear_gaussian.table` returns.
    """
    near, colours = [row for row in rows if row.gap < 2], dict(zip((row.posterior for row in rows), COLOURS))
    titles = {"Four posteriors, one model": rows, "Those within 2 nats, enlarged": near}
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 2.9), layout="constrained")
        for axes, (title, shown) in zip(figure.subplots(1, 2), titles.items()):
            names, widths = [_wrapped(row.posterior) for row in shown], [max(row.gap, 0) for row in shown]
            bars = axes.barh(names, widths, color=[colours[row.posterior] for row in shown], height=0.6)
            axes.bar_label(bars, [f"{width:.3f}" for width in widths], padding=4)
            axes.set(title=title, xlabel="log p(x) - ELBO, nats per sequence")
            axes.set_xlim(0, 1.25 * max([*widths, 1e-9]))
            axes.invert_yaxis()
            axes.tick_params(axis="y", length=0)
    return figure


def _wrapped(name):
    return name.replace(", ", ",\n")


def samples(x, binary, title="", columns=None):
    """A grid of sequences x (T, n, X): pictures of T rows of X pixels where binary, else X lines over time."""
    n = x.shape[1]
    columns = columns or min(n, 16 if binary else 4)
    with rc_context(STYLE):
        figure, grid = _grid(-(-n // columns), columns, binary, title)
        for axes, sequence in zip(grid, np.moveaxis(x, 1, 0)):
            _draw(axes, sequence, binary)
    return figure


def reconstructions(x, mean, lengths, binary, title=""):
    """Above: sequences x (T, n, X). Below each: the mean of p(x_t | z_<=t, x_<t) with z from the posterior."""
    n = x.shape[1]
    with rc_context(STYLE):
        figure, grid = _grid(2, n, binary, title)
        for i in range(n):
            _draw(grid[i], x[: lengths[i], i], binary)
            _draw(grid[n + i], mean[: lengths[i], i], binary)
            grid[n + i].sharey(grid[i])
    return figure


def _draw(axes, sequence, binary):
    axes.axis("on")
    if binary:
        axes.imshow(sequence, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="0.85")
    else:
        axes.plot(sequence, linewidth=1)
        axes.tick_params(labelsize=7)


def _grid(rows, columns, binary, title):
    side = 0.75 if binary else 2.0
    figure = Figure(figsize=(side * columns, side * rows + (0.35 if title else 0)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    return figure, grid


def _limits(values):
    """All but the first, steep epochs: from the 5th percentile to the greatest value, with a margin."""
    low, high = np.percentile(values, 5), np.max(values)
    margin = 0.08 * (high - low) + 1e-3
    return low - margin, high + margin
