"""How well missing entries are imputed, next to the last value and linear interpolation, as a table and a picture.

    python scripts/imputation.py --out docs/images/imputation.png

It trains a VRNN with a filtering and one with a smoothing posterior on copies of the training split of each set, every
copy without another 30% of its entries, and then removes 10, 30 and 50% of the entries of the test split. It prints the
root mean square error of the removed entries (digits8: pixels are 0 or 1; vowels: standard deviations), how many real
numbers lie in the central 90% interval, and the ELBO of the complete test split next to baselines.
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
COPIES = {"digits8": 2, "vowels": 8}
OPTIONS = {"batch": 64, "dropout": 0.2}


def with_gaps(sequences, share, seed=0):
    """The arrays of Sequences, with NaN in place of a share of their entries."""
    rng = np.random.default_rng(seed)
    return [np.where(rng.random(x.shape) < share, np.float32(np.nan), x) for x in sequences]


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


def imputed(model, gappy):
    """Draws (K, steps, X) of arrays with NaN, one after another."""
    x, lengths = tv.pad([np.nan_to_num(one) for one in gappy])
    observed, _ = tv.pad([~np.isnan(one) for one in gappy])
    draws = tv.to_host(model.impute(x, observed, DRAWS, lengths))
    return np.concatenate([draws[:, :n, i] for i, n in enumerate(lengths)], axis=1)


def errors(models, clean, share, seed):
    """Name -> root mean square error of the removed entries, and how many lie in the 90% interval, or None."""
    gappy = with_gaps(clean, share, seed)
    removed = np.concatenate([np.isnan(x) for x in gappy])
    truth = np.concatenate(list(clean))[removed]

    def rms(filled):
        return float(np.sqrt(np.mean((filled[removed] - truth) ** 2)))

    found = {
        "last value": (rms(np.concatenate([last_value(x) for x in gappy])), None),
        "linear interpolation": (rms(np.concatenate([linear(x) for x in gappy])), None),
    }
    for name, model in models.items():
        draws = imputed(model, gappy)
        low, high = np.quantile(draws, (0.05, 0.95), axis=0)[:, removed]
        found[name] = rms(draws.mean(axis=0)), float(np.mean((low <= truth) & (truth <= high)))
    return found


def trained(data, posterior, epochs, warmup):
    """A model trained on copies of the training split, with 30% of the entries removed, other ones in each copy."""
    copies = COPIES[data.name]
    train = [x for seed in range(copies) for x in with_gaps(data.train, 0.3, seed)]
    valid = with_gaps(data.valid, 0.3, copies)
    gappy = tv.Data.from_sequences(data.name, train, valid, data.test, standardise=False, missing="nan")
    likelihood = "bernoulli" if data.kind == "binary" else "gaussian"
    model = tv.VRNN(data.x_dim, 64, 16, likelihood=likelihood, posterior=posterior)
    tv.train(model, gappy, progress=False, epochs=epochs, warmup=warmup, **OPTIONS)
    return model


def picture(model, clean, number=6, column=1, share=0.5):
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
        draws = imputed(model, [gappy])[:, :, column]
        axes.plot(steps, draws.mean(axis=0), color=COLOURS[0], label="VRNN, smoothing")
        low, high = np.quantile(draws, (0.05, 0.95), axis=0)
        axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.2, lw=0, label="its 90% interval")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="step", ylabel="standard deviations", title=f"Half of the entries removed; column {column}")
        axes.legend(fontsize=8)
    return figure


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--warmup", type=int, default=30, help="epochs; with 0 the models make no use of z")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="a picture of vowels")
    a = parser.parse_args(words)
    for name in COPIES:
        data = tv.load_data(name)
        models = {f"VRNN, {kind}": trained(data, kind, a.epochs, a.warmup) for kind in ("filtering", "smoothing")}
        scores = [f"{baseline} {score:.1f}" for baseline, score in tv.data.baselines(data).items()]
        for who, model in models.items():
            found = tv.bounds.evaluate_elbo(model, data.test)
            scores.append(f"{who} {found.elbo_per_sequence:.1f} (KL {found.kl_per_sequence:.2f})")
        print(f"\n{name}: {', '.join(scores)} nats per sequence\n")
        print("| removed | imputed by | error | in the 90% interval |\n|---|---|---|---|")
        for seed, share in enumerate(SHARES):
            for who, (error, inside) in errors(models, data.test, share, 10 + seed).items():
                inside = "" if inside is None or data.kind == "binary" else f"{inside:.1%}"
                print(f"| {share:.0%} | {who} | {error:.3f} | {inside} |", flush=True)
    if a.out:
        picture(models["VRNN, smoothing"], data.test).savefig(a.out)


if __name__ == "__main__":
    main()
