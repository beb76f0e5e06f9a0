"""How well missing entries are imputed, next to the last value and linear interpolation, as a table and a picture.

    python scripts/imputation.py --out docs/images/imputation.png

It trains a VRNN with a filtering and one with a smoothing posterior on eight copies of the training split, with 30% of
all entries removed at random in each, then removes 10, 30 and 50% of the entries of the test split. It prints
the root mean square error of the removed entries, on data with standard deviation 1, and how many of them lie in the
central 90% interval.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

import tinyvrnn as tv
from tinyvrnn.runs.plots import COLOURS, STYLE

SHARES = (0.1, 0.3, 0.5)
DRAWS = 50
COPIES = 8


def with_gaps(sequences, share, seed=0):
    """The arrays of Sequences, with NaN in place of a share of their entries."""
    rng = np.random.default_rng(seed)
    return [np.where(rng.random(x.shape) < share, np.nan, x) for x in sequences]


def last_value(x):
    """The last observed value of each column (T, X); 0, the mean, before the first."""
    filled = x.copy()
    for t in range(len(x)):
        filled[t] = np.where(np.isnan(x[t]), filled[t - 1] if t else 0.0, x[t])
    return filled


def linear(x):
    """Linear interpolation in each column (T, X), constant beyond its ends; 0, the mean, for an empty column."""
    filled, steps = np.zeros_like(x), np.arange(len(x))
    for j, column in enumerate(x.T):
        seen = ~np.isnan(column)
        if seen.any():
            filled[:, j] = np.interp(steps, steps[seen], column[seen])
    return filled


def errors(models, clean, share, seed):
    """Name -> root mean square error, and the coverage of the 90% interval or None, on the removed entries."""
    gappy = with_gaps(clean, share, seed)
    removed = np.concatenate([np.isnan(x) for x in gappy])
    truth = np.concatenate(list(clean))[removed]

    def rms(filled):
        return float(np.sqrt(np.mean((np.concatenate(filled)[removed] - truth) ** 2)))

    found = {
        "last value": (rms([last_value(x) for x in gappy]), None),
        "linear interpolation": (rms([linear(x) for x in gappy]), None),
    }
    x, lengths = tv.pad([np.nan_to_num(one) for one in gappy])
    observed, _ = tv.pad([~np.isnan(one) for one in gappy])
    for name, model in models.items():
        made = model.impute(x, observed, DRAWS, lengths)
        of_each = [
            [a[:n, i] for i, n in enumerate(lengths)] for a in (tv.to_host(made.mean), *made.quantiles(0.05, 0.95))
        ]
        mean, low, high = of_each
        inside = [np.concatenate(a)[removed] for a in (low, high)]
        found[name] = rms(mean), float(np.mean((inside[0] <= truth) & (truth <= inside[1])))
    return found


def trained(data, posterior, epochs):
    """A model trained on COPIES of the training split, with 30% of the entries removed, other ones in each copy."""
    train = [x for seed in range(COPIES) for x in with_gaps(data.train, 0.3, seed)]
    valid = with_gaps(data.valid, 0.3, COPIES)
    gappy = tv.Data.from_sequences(data.name, train, valid, data.test, standardise=False, missing="nan")
    model = tv.VRNN(data.x_dim, 100, 16, likelihood="gaussian", posterior=posterior)
    tv.train(model, gappy, progress=False, epochs=epochs, batch=64)
    return model


def picture(models, clean, number=6, column=1, share=0.5):
    """One column of a sequence with gaps: the truth, linear interpolation, and a model's mean and 90% interval."""
    gappy = with_gaps(clean, share, 7)[number]
    observed, steps = ~np.isnan(gappy), np.arange(len(gappy))
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot(steps, clean[number][:, column], "k:", label="truth")
        seen = observed[:, column]
        axes.plot(steps[seen], gappy[seen, column], "ko", label="observed")
        axes.plot(steps, linear(gappy)[:, column], "--", color="#777777", label="linear interpolation")
        name, model = list(models.items())[-1]
        made = model.impute(np.nan_to_num(gappy)[:, None], observed[:, None], DRAWS)
        low, high = made.quantiles(0.05, 0.95)[:, :, 0, column]
        axes.plot(steps, tv.to_host(made.mean)[:, 0, column], color=COLOURS[0], label=name)
        axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.2, lw=0, label="its 90% interval")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="step", ylabel="standard deviations", title=f"Half of the entries removed; column {column}")
        axes.legend(fontsize=8)
    return figure


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="vowels", help="a set of real numbers (default vowels)")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, metavar="FILE.png")
    a = parser.parse_args(words)
    data = tv.load_data(a.data, standardise=True)
    models = {f"VRNN, {kind}": trained(data, kind, a.epochs) for kind in ("filtering", "smoothing")}
    print("| removed | imputed by | error | in the 90% interval |\n|---|---|---|---|")
    for seed, share in enumerate(SHARES):
        for name, (error, inside) in errors(models, data.test, share, 10 + seed).items():
            print(f"| {share:.0%} | {name} | {error:.3f} | {'' if inside is None else f'{inside:.1%}'} |", flush=True)
    if a.out:
        picture(models, data.test).savefig(a.out)


if __name__ == "__main__":
    main()
