"""What the final fall of the learning rate gains on bach: test bounds when patience runs out, and at the end.

    python scripts/end_of_run.py --seeds 0 1 2

The table is in docs/data.md. It takes some ten minutes a seed on one core.
"""

import argparse

import tinyvrnn as tv

RECIPE = {"batch": 16, "weight_decay": 0.3, "dropout": 0.2, "patience": 20}  # of `tinyvrnn train bach`


def bounds(model, data):
    """Test ELBO and FIVO-4, in nats per sequence."""
    elbo = tv.bounds.evaluate_elbo(model, data.test).elbo_per_sequence
    return f"{elbo:.1f} | {tv.bounds.evaluate(model, data.test, 'fivo', 4).per_sequence:.1f}"


def row(data, seed, epochs):
    """Train once; the best weights at the moment when patience runs out are those that a run without a fall keeps."""
    model = tv.VRNN(data.train.x_dim, 100, 16, seed=seed)
    best, stale, early = model.theta.copy(), 0, None

    def on_epoch(record, is_best):
        nonlocal best, stale, early
        best, stale = (model.theta.copy(), 0) if is_best else (best, stale + 1)
        if early is None and stale == RECIPE["patience"]:
            now = model.theta.copy()
            model.theta = best
            early = f"{record['epoch']} | {bounds(model, data)}"
            model.theta = now

    records = tv.train(model, data, False, on_epoch, epochs=epochs, seed=seed, workers=1, **RECIPE)
    return f"| {seed} | {early or 'never'} | {len(records)} | {bounds(model, data)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=1000)
    given = parser.parse_args()
    bach = tv.load_data("bach")
    print(
        "| seed | patience ran out after | ELBO | FIVO-4 | run ended after | ELBO | FIVO-4 |",
        "|---" * 7 + "|",
        sep="\n",
    )
    for seed in given.seeds:
        print(row(bach, seed, given.epochs), flush=True)
