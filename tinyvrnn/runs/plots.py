"""Plots in one style: colour-blind safe (Okabe and Ito's colours), readable in print, without global state.

Functions import matplotlib and pillow, which are slow to import, so that a command without a picture does not wait.
"""

import re
import textwrap

import numpy as np

from tinyvrnn.data.bach import LOWEST
from tinyvrnn.errors import shown

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
CELL = 2.2  # height of the cell of one drawing, in units of the drawings' common half-height
WIDEST = 12  # width of a cell in heights
MOST_LINES = 64  # columns of numbers drawn as lines; more are drawn as an image
SHOWN = {"ink": 48, "piano roll": 8, "binary": 64, "real": 12}  # sequences in a picture of samples


def write(figure, file):
    """Write a figure as PNG: its ticks are made only now, in the style too."""
    with _style():
        figure.savefig(file, format="png", dpi="figure")


def use_style():
    """Set this style in pyplot, for figures that a notebook makes itself."""
    from matplotlib import rcParams

    rcParams.update(STYLE | {"figure.dpi": 110, "figure.constrained_layout.use": True})


def curves(records, units="nats", exact=False):
    """ELBO, log-likelihood and KL by epoch, for training and validation. records: as `train` returns them.

    exact: the model has no latent variables, so plot the log-likelihood only.
    """
    steps = records[0]["step"] / records[0]["epoch"]  # the last epoch may be a partial one
    epochs = [record["step"] / steps for record in records]
    titles = {"elbo": "ELBO", "log_likelihood": "log-likelihood", "kl": "KL(q || p)"}
    titles = {"log_likelihood": "log p(x)"} if exact else titles
    with _style():
        figure = _figure(7.6, 2.8)
        for axes, (term, title) in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles.items()):
            for split, style in (("train", "--"), ("valid", "-")):
                axes.plot(epochs, [record[split][term] for record in records], style, label=split)
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_ylim(*_limits([record[split][term] for record in records for split in ("train", "valid")]))
        figure.supylabel(textwrap.fill(f"{re.split(r'[;,]| [(]', units)[0]} per sequence", 24))
        figure.axes[0].legend(loc="lower right")
    return figure


def gaps(rows):
    """Bar charts of log p(x) - ELBO for the rows of `linear_gaussian.table`: all, and those below 2 nats enlarged."""
    near, colours = [row for row in rows if row.gap < 2], dict(zip((row.posterior for row in rows), COLOURS))
    titles = {"Four posteriors, one model": rows, "Those within 2 nats, enlarged": near}
    with _style():
        figure = _figure(11, 2.9)
        for axes, (title, own) in zip(figure.subplots(1, 2), titles.items()):
            names = [row.posterior.replace(", ", ",\n") for row in own]
            widths = [max(row.gap, 0) for row in own]
            bars = axes.barh(names, widths, color=[colours[row.posterior] for row in own], height=0.6)
            axes.bar_label(bars, [f"{width:.3f}" for width in widths], padding=4)
            axes.set(title=title, xlabel="log p(x) - ELBO, nats per sequence")
            axes.set_xlim(0, 1.25 * max([*widths, 1e-9]))
            axes.invert_yaxis()
            axes.tick_params(axis="y", length=0)
    return figure


def samples(x, binary, title="", columns=None, medium=None):
    """A grid of sequences, x (T, n, X) or a list of (T_i, X): if binary, images of X pixels a row, else X lines.

    With a medium of "ink", "piano roll" or "sound": drawings, piano rolls, or waveforms in frames of X samples.
    """
    sequences = x if isinstance(x, list) else list(np.moveaxis(x, 1, 0))
    if medium == "ink":
        return ink(sequences, title, columns)
    if medium == "piano roll":
        return piano_roll(padded(sequences), title, columns)
    if medium == "sound":
        sequences = [one.reshape(-1, 1) for one in sequences]
    n = len(sequences)
    columns = columns or min(n, 16 if binary else 4)
    with _style():
        figure, grid = _grid(-(-n // columns), columns, binary, title)
        for axes, sequence in zip(grid, sequences):
            _draw(axes, sequence, binary)
    return figure


def fan(past, draws, rows=3, columns=4, names=None):
    """Fan charts of draws (K, steps, B, X) after past, B arrays (T_b, X): their median and 50% and 90% bands.

    A row for each of the first sequences, a column for each of their first values, with titles from `names` (X). Step 0
    is the last one of a sequence.
    """
    steps, n, X = draws.shape[1:]
    rows, columns = min(rows, n), min(columns, X)
    levels = np.quantile(draws[:, :, :rows, :columns], (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
    with _style():
        figure = _figure(max(3 * columns, 5.4) + 0.6, 1.9 * rows + 0.9)
        grid = figure.subplots(rows, columns, sharex=True, sharey="col", squeeze=False)
        for i, j in np.ndindex(rows, columns):
            _draw_fan(grid[i, j], past[i][-max(2 * steps, 10) :, j], levels[:, :, i, j])
        grid[0, 0].xaxis.get_major_locator().set_params(integer=True)
        for j, axes in enumerate(grid[0]):
            axes.set_title(f"{shown(names[j]):.30}" if names else f"value {j + 1} of {X}", fontsize=10)
        for i, axes in enumerate(grid[:, 0]):
            axes.set_ylabel(f"sequence {i + 1} of {n}")
        figure.supxlabel("steps after the end of the given sequence", fontsize=10)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4, columnspacing=1)
    return figure


def _draw_fan(axes, known, levels):
    """The known values (T,), and levels (5, steps) of what follows, which all start from the last known value."""
    ahead = np.arange(levels.shape[1] + 1)
    low, lower, median, upper, high = (np.append(known[-1], level) for level in levels)
    axes.fill_between(ahead, low, high, color=COLOURS[0], alpha=0.2, linewidth=0, label="90%")
    axes.fill_between(ahead, lower, upper, color=COLOURS[0], alpha=0.4, linewidth=0, label="50%")
    axes.plot(ahead, median, color=COLOURS[0], label="median")
    axes.plot(np.arange(1 - len(known), 1), known, color="black", marker=".", markersize=3, label="given")
    axes.axvline(0, color="0.7", linewidth=0.8, linestyle=":")


def reconstructions(x, mean, lengths, binary, title="", medium=None):
    """Sequences x (T, n, X), and below each the mean of p(x_t | z_<=t, x_<t), with z from the posterior."""
    names = ("data", "mean")
    n = min(x.shape[1], 3) if medium == "piano roll" else x.shape[1]
    above, below = ([part[: lengths[i], i] for i in range(n)] for part in (x, mean))
    if medium == "piano roll":
        return piano_roll(padded(above + below), title, n, names=names)
    if medium == "ink":
        fit = min(n, 12 // _aspect(*map(_path, above)))
        starts = range(0, n // fit * fit, fit)
        rows = [part[i : i + fit] for i in starts for part in (above, below)]
        return ink([x for row in rows for x in row], title, fit, names=names * len(starts))
    figure = samples(above + below, binary, title, n)
    for data, model in zip(figure.axes[:n], figure.axes[n:]):
        model.sharey(data)
    for axes, name in zip(figure.axes[::n], names):
        axes.set_ylabel(name, fontsize=9)
    return figure


def ink(sequences, title="", columns=None, size=0.9, names=()):
    """A grid of drawings, each a sequence (T_i, 3) of a pen's steps (dx, dy, pen-up), in any unit, y downwards.

    The first step draws nothing, nor does a step after a pen-up of at least 1/2: they move the pen to where it is set
    down. Each drawing is centred in its cell; lines of handwriting get wide cells. All drawings have one scale, except
    that those too large for their cell are shrunk. size: height of a cell in inches. names: of the rows, at their left.
    """
    with _style():
        figure, lines, paths = _ink_figure(sequences, title, columns, size)
        lines.set_segments([stroke for path, x in zip(paths, sequences) for stroke in _strokes(path, x[:, 2])])
        figure.set_figwidth(figure.get_figwidth() + 0.07 * max(map(len, names), default=0))
        for i, name in enumerate(names):
            figure.axes[0].text(0, CELL * (i + 0.5), name, ha="right", va="center", fontsize=9)
    return figure


def animate(sequences, title="", columns=None, size=0.9):
    """`ink` as it is written: a PIL.Image for each step and a final one, in a list; the current stroke is coloured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    with _style():
        figure, lines, paths = _ink_figure(sequences, title, columns, size)
        canvas, frames = FigureCanvasAgg(figure), []
        for t in range(1, max(len(x) for x in sequences) + 2):
            segments, colours = [], []
            for path, x in zip(paths, sequences):
                strokes = _strokes(path[:t], x[:t, 2])
                segments += strokes
                colours += ["black"] * (len(strokes) - 1) + [COLOURS[1] if t <= len(x) else "black"]
            lines.set_segments(segments)
            lines.set_color(colours)
            canvas.draw()
            frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(32))
    return frames


def piano_roll(x, title="", columns=None, lowest=LOWEST, width=5.5, names=()):
    """A grid of piano rolls x (T, n, K), from 0 to 1: time to the right, pitch upwards; key 0 is MIDI note `lowest`.

    width: of a roll in inches. names: of the rows, at their left.
    """
    steps, n, keys = x.shape
    columns = columns or min(n, 2)
    used = np.flatnonzero((x > 0.5).any(axis=(0, 1)))
    low, high = (lowest + used[0], lowest + used[-1]) if len(used) else (lowest, lowest + keys - 1)
    with _style():
        figure = _figure(width * columns, 1.8 * -(-n // columns) + 0.4, title)
        grid = figure.subplots(-(-n // columns), columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, roll in zip(grid, np.moveaxis(x, 1, 0)):
            axes.imshow(
                roll.T, cmap="gray_r", vmin=0, vmax=1, origin="lower", aspect="auto", interpolation="nearest",
                extent=(0, steps, lowest - 0.5, lowest + keys - 0.5),
            )  # fmt: skip
            octaves = range(12 * -(-low // 12), high + 1, 12)
            axes.set(ylim=(low - 1.5, high + 1.5), yticks=octaves, yticklabels=[f"C{c // 12 - 1}" for c in octaves])
            axes.hlines([c - 0.5 for c in octaves], 0, steps, color="0.85", linewidth=0.5)  # between keys
        for axes in grid[n:]:
            axes.axis("off")
        for axes, name in zip(grid[::columns], names):
            axes.set_ylabel(name, fontsize=9)
        figure.supxlabel("step", fontsize=9)
    return figure


def padded(rolls):
    """Piano rolls (T_i, K) as one array (T, n, K), zero-padded."""
    steps = max(len(roll) for roll in rolls)
    return np.stack([np.pad(roll, ((0, steps - len(roll)), (0, 0))) for roll in rolls], axis=1)


def _ink_figure(sequences, title, columns, size):
    """A figure with a cell for each drawing, its empty LineCollection, and the path of each drawing in its cell."""
    from matplotlib import collections

    paths = [_path(x) for x in sequences]
    aspect = _aspect(*paths)
    columns = columns or min(len(sequences), 12 // aspect)
    rows = -(-len(sequences) // columns)
    figure = _figure(size * aspect * columns, size * rows + (0.35 if title else 0), title)
    axes = figure.subplots()
    axes.set(xlim=(0, CELL * aspect * columns), ylim=(CELL * rows, 0), aspect="equal")
    axes.axis("off")
    lines = axes.add_collection(collections.LineCollection([], colors="black", linewidths=1.6 * size, capstyle="round"))
    reach = np.array([max(np.ptp(path, axis=0) / (2 * aspect, 2)) for path in paths])
    scale = np.maximum(reach, 1.05 * np.median(reach) or 1.0)
    middles = [(path.min(axis=0) + path.max(axis=0)) / 2 for path in paths]
    centres = [CELL * np.array([aspect * (i % columns + 0.5), i // columns + 0.5]) for i in range(len(paths))]
    return figure, lines, [c + (path - m) / s for path, m, s, c in zip(paths, middles, scale, centres)]


def _path(x):
    return np.nancumsum(x[:, :2], axis=0, dtype=np.float64)  # a missing step moves nothing


def _aspect(*paths):
    """The width of a cell in heights."""
    width, height = np.transpose([np.ptp(path, axis=0) for path in paths])
    return int(np.clip(np.median(width) // max(np.median(height), 1e-9), 1, WIDEST))


def _strokes(path, lifted):
    """Cut path (T, 2) into lines after each step with the pen lifted; a line of one point becomes a dot."""
    lines = np.split(path, np.flatnonzero(lifted[:-1] >= 0.5) + 1)
    return [line if len(line) > 1 else np.concatenate([line, line + [0.03, 0]]) for line in lines]


def _style():
    from matplotlib import style  # not a user's own settings; a $ is no formula, as names can hold it

    return style.context(["default", STYLE, {"text.parse_math": False}])


def _figure(width, height, title=""):
    from matplotlib.figure import Figure

    width = max(width, 4) if title else width  # inches, of 12 letters of the title each
    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        title = textwrap.fill(title, int(12 * width), replace_whitespace=False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    return figure


def _draw(axes, sequence, binary):
    axes.axis("on")
    if binary:
        axes.imshow(sequence, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="0.85")
    elif sequence.shape[1] > MOST_LINES:
        axes.imshow(sequence.T, aspect="auto", origin="lower", interpolation="nearest")
    else:
        axes.plot(sequence, linewidth=1)


def _grid(rows, columns, binary, title):
    side = 0.75 if binary else 2.0
    figure = _figure(side * columns, side * rows + (0.35 if title else 0), title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
        axes.tick_params(labelsize=7)
    return figure, grid


def _limits(values):
    """Limits of the y axis without the steep first epochs: from the 5th percentile to the maximum, with a margin."""
    low, high = np.percentile(values, 5), np.max(values)
    margin = 0.08 * (high - low) + 1e-3
    return low - margin, high + margin
