"""The pictures, in one style: colour-blind safe (Okabe and Ito's colours), readable in print, no global state."""

import numpy as np
from matplotlib import rc_context, rcParams
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


def use_style():
    """Makes this style pyplot's, for a notebook's own figures."""
    rcParams.update(STYLE | {"figure.dpi": 110, "figure.constrained_layout.use": True})


def curves(records, units="nats", exact=False):
    """ELBO, log-likelihood and KL against the epoch, train and validation. records: what `train` returns.

    exact: the model has no latent variables, so there is the log-likelihood alone.
    """
    epochs = [record["epoch"] for record in records]
    titles = {"elbo": "ELBO", "log_likelihood": "log-likelihood", "kl": "KL(q || p)"}
    titles = {"log_likelihood": "log p(x)"} if exact else titles
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        for axes, (term, title) in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles.items()):
            for split, style in (("train", "--"), ("valid", "-")):
                axes.plot(epochs, [record[split][term] for record in records], style, label=split)
            axes.set(title=title, xlabel="epoch")
            axes.set_ylim(*_limits([record[split][term] for record in records for split in ("train", "valid")]))
        figure.supylabel(f"{units.split(';')[0]} per sequence")
        figure.axes[0].legend(loc="lower right")
    return figure


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
