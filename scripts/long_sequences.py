"""What shorter pieces of long sequences gain for the same number of steps: the best validation ELBO by --chunk.

    python scripts/long_sequences.py --seeds 0 1 2

Each run passes over the training set until it has seen `--budget` steps, at least once. The sets: waves with a
frequency and an amplitude drawn for each sequence, which a model must remember; sets of the package joined
to longer sequences; and bach. The table is in docs/data.md. It takes about an hour on one core.
"""

import argparse

import numpy as np

import tinyvrnn as tv

WAVES = ((20, 20), (20, 10_000), (100, 20), (100, 1_000), (500, 20), (500, 1_000), (5_000, 20), (5_000, 100))
JOINED = (("digits", 1, 1_000, "bernoulli"), ("digits", 14, 280, "bernoulli"), ("strokes", 5, 400, "pen"),
          ("strokes", 100, 20, "pen"))  # fmt: skip
CHUNKS = (None, 200, 100, 50, 25)


def waves(steps, count):
    """The Data of `count` training sequences of two noisy sine waves."""
    rng = np.random.default_rng(steps + count)
    frequency, amplitude, phase = rng.uniform(
        [[[0.05]], [[0.2]], [[0]]], [[[0.5]], [[2.0]], [[6.28]]], (3, count + 40, 2)
    )
    t = np.arange(steps)[None, :, None]
    x = amplitude[:, None] * np.sin(frequency[:, None] * t + phase[:, None]) + 0.1 * rng.standard_normal(
        (count + 40, steps, 2)
    )
    return tv.Data.from_sequences(f"waves, {steps:,} steps", list(x[40:]), list(x[:20]), list(x[20:40]))


def joined(name, count, most, kind):
    """The Data of a set with each `count` sequences joined to one, at most `most` for training."""
    data = tv.load_data(name)
    splits = [
        [np.concatenate([part[i + j] for j in range(count)]) for i in range(0, len(part) - count + 1, count)]
        for part in (data.train, data.valid, data.test)
    ]
    splits[0] = splits[0][:most]
    options = {"kind": "pen"} if kind == "pen" else {"standardise": False}
    return tv.Data.from_sequences(f"{name} x {count}", *splits, **options)


def best(data, likelihood, chunk, budget, seed):
    """The best validation ELBO, in nats per step."""
    small = {"batch": 16, "weight_decay": 0.3} if len(data.train) < 1000 else {}
    epochs = max(1, round(budget / data.train.lengths.sum()))
    options = small | {"clip": 50.0 if likelihood == "bernoulli" else 1000.0, "chunk": chunk, "patience": epochs}
    model = tv.VRNN(data.x_dim, 64, 16, likelihood=likelihood, seed=seed)
    records = tv.train(model, data, progress=False, epochs=epochs, seed=seed, workers=1, **options)
    return max(record["valid"]["elbo"] for record in records) / data.valid.lengths.mean()


def cell(data, likelihood, chunk, budget, seeds):
    """The median over the seeds, and the distance from it to the farther end of their range."""
    if chunk and chunk >= data.train.lengths.mean():
        return ""
    bounds = [best(data, likelihood, chunk, budget, seed) for seed in seeds]
    return f"{np.median(bounds):.2f} ± {np.abs(bounds - np.median(bounds)).max():.2f}"


def sets():
    """Each set's Data and likelihood."""
    yield from ((waves(*size), "gaussian") for size in WAVES)
    yield from ((joined(*one), one[-1]) for one in JOINED)
    yield tv.load_data("bach"), "bernoulli"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=int, default=200_000, help="training steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    print("| set | sequences | steps | " + " | ".join(f"{chunk or 'whole'}" for chunk in CHUNKS) + " |")
    print("|---" * (3 + len(CHUNKS)) + "|")
    for data, likelihood in sets():
        cells = [cell(data, likelihood, chunk, given.budget, given.seeds) for chunk in CHUNKS]
        head = f"| {data.name} | {len(data.train):,} | {data.train.lengths.mean():.0f} | "
        print(head + " | ".join(cells) + " |", flush=True)
