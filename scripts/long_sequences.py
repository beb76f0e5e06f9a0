"""What shorter pieces of long sequences gain in the same number of epochs: sets joined to long sequences, by --chunk.

    python scripts/long_sequences.py

The table is in docs/data.md. It takes about fifteen minutes on one core.
"""

import argparse

import numpy as np

import tinyvrnn as tv

SETS = (("strokes", 2, "pen"), ("digits", 5, "bernoulli"), ("strokes", 5, "pen"), ("digits", 14, "bernoulli"),
        ("strokes", 14, "pen"))  # fmt: skip
CHUNKS = (None, 200, 100, 50, 25)
MOST = 300  # training sequences of digits


def joined(name, count):
    """The Data of a set with each `count` sequences joined to one."""
    data = tv.load_data(name)
    splits = [
        [np.concatenate([part[i + j] for j in range(count)]) for i in range(0, len(part) - count + 1, count)]
        for part in (data.train, data.valid, data.test)
    ]
    if name == "digits":
        splits[0] = splits[0][:MOST]
        return tv.Data.from_sequences(f"{name} x {count}", *splits, standardise=False)
    return tv.Data.from_sequences(f"{name} x {count}", *splits, kind="pen")


def best(data, likelihood, chunk, epochs, seed):
    """The best validation ELBO, in nats per step."""
    small = {"batch": 16, "weight_decay": 0.3} if len(data.train) < 1000 else {}
    options = small | {"clip": 1000.0 if likelihood == "pen" else 50.0, "chunk": chunk, "patience": epochs}
    model = tv.VRNN(data.x_dim, 64, 16, likelihood=likelihood, seed=seed)
    records = tv.train(model, data, progress=False, epochs=epochs, seed=seed, workers=1, **options)
    return max(record["valid"]["elbo"] for record in records) / data.valid.lengths.mean()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| set | sequences | steps | " + " | ".join(f"{chunk or 'whole'}" for chunk in CHUNKS) + " |")
    print("|---" * (3 + len(CHUNKS)) + "|")
    for name, count, likelihood in SETS:
        data = joined(name, count)
        steps = data.train.lengths.mean()
        cells = [
            f"{best(data, likelihood, chunk, given.epochs, given.seed):.2f}" if not chunk or chunk < steps else ""
            for chunk in CHUNKS
        ]
        print(f"| {data.name} | {len(data.train):,} | {steps:.0f} | {' | '.join(cells)} |", flush=True)
