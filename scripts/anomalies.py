"""How well the ELBO finds planted anomalies, next to AR(1): AUROC for steps and for sequences, and a picture.

    tinyvrnn train vowels
    python scripts/anomalies.py runs/vowels --out docs/images/anomalies.png

Every second sequence of the test split gets one anomaly. The score of a step is -elbo, that of a sequence its mean or
its highest step. AR(1) was fitted on the same training split.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

import tinyvrnn as tv
from tinyvrnn.data.baselines import autoregressive_steps
from tinyvrnn.runs.plots import COLOURS, STYLE

N = 4  # steps of a stretch


def spike(x, t, column, donor):
    x[t, column] += 1.5
    return slice(t, t + 1)


def reverse(x, t, column, donor):
    x[t : t + N] = x[t : t + N][::-1].copy()
    return slice(t, t + N)


def flip(x, t, column, donor):
    x[t : t + N, column] *= -1
    return slice(t, t + N)


def stick(x, t, column, donor):
    x[t : t + N] = x[t]
    return slice(t, t + N)


def start(x, t, column, donor):
    x[0] = donor[t % len(donor)]
    return slice(0, 1)


KINDS = {
    "one value of one step moved by 1.5 standard deviations": spike,
    f"{N} steps in reverse order": reverse,
    f"the sign of one column flipped for {N} steps": flip,
    f"{N} steps stuck at the first of them": stick,
    "the first step is one of another sequence": start,
}


def planted(clean, kind, seed=0):
    """Sequences with an anomaly in every second one, and which steps, (steps,) bool, are anomalous."""
    rng, arrays = np.random.default_rng(seed), [x.astype("float32") for x in clean]
    bad = [np.zeros(len(x), bool) for x in arrays]
    for i in range(0, len(arrays), 2):
        t, column = rng.integers(0, len(arrays[i]) - N + 1), rng.integers(clean.x_dim)
        bad[i][kind(arrays[i], t, column, clean[rng.integers(len(clean))])] = True
    return tv.Sequences.from_list(arrays), np.concatenate(bad)


def scores(model, train, sequences):
    """Name -> minus log p of each step, (steps,): the model's bound, and AR(1)."""
    x, lengths = tv.pad(sequences, model.dtype)
    elbo = tv.to_host(model.infer(x, lengths).elbo)  # (T, B)
    of_model = -np.concatenate([elbo[:n, i] for i, n in enumerate(lengths)])
    return {model.name.upper(): of_model, "AR(1)": -autoregressive_steps(train)(sequences)}


def auroc(score, bad):
    """The probability that something bad has a higher score than something good; a tie counts half."""
    good = np.sort(score[~bad])
    below, up_to = (np.searchsorted(good, score[bad], side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(good))


def rows(model, data):
    """(kind, name of the score, AUROC of steps, of sequences by their mean, by their highest step)."""
    for what, kind in KINDS.items():
        sequences, bad = planted(data.test, kind)
        first = sequences.offsets[:-1]
        of_sequence = np.maximum.reduceat(bad, first)
        for name, score in scores(model, data.train, sequences).items():
            mean = np.add.reduceat(score, first) / sequences.lengths
            highest = np.maximum.reduceat(score, first)
            yield what, name, auroc(score, bad), auroc(mean, of_sequence), auroc(highest, of_sequence)


def picture(model, data, kind=reverse, number=6):
    """The scores of the steps of one sequence, with and without the anomaly."""
    sequences, bad = planted(data.test, kind)
    steps = slice(*sequences.offsets[number : number + 2])
    where = np.flatnonzero(bad[steps])
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 3), layout="constrained")
        axes = figure.subplots()
        for dashes, given in (("--", data.test), ("-", sequences)):
            for colour, (name, score) in zip(COLOURS, scores(model, data.train, given).items()):
                label = name if dashes == "-" else f"{name}, before planting"
                axes.plot(score[steps], dashes, color=colour, label=label)
        axes.axvspan(where[0] - 0.5, where[-1] + 0.5, color="#DDDDDD", zorder=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="step", ylabel="nats", title=f"The score of each step; grey: {N} steps in reverse order")
        axes.legend(fontsize=8)
    return figure


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", metavar="RUN", help="a run on real-valued data, such as runs/vowels")
    parser.add_argument("--data", default="vowels", help="what it was trained on (default vowels)")
    parser.add_argument("--out", type=Path, metavar="FILE.png")
    a = parser.parse_args(words)
    model, data = tv.load(a.run), tv.load_data(a.data)
    print("| planted | score | steps | sequences, mean | sequences, highest step |\n|---|---|---|---|---|")
    for what, name, *values in rows(model, data):
        print(f"| {what} | {name} | {' | '.join(f'{value:.3f}' for value in values)} |")
    if a.out:
        picture(model, data).savefig(a.out)


if __name__ == "__main__":
    main()
