"""How many particles to train FIVO with: 4, 8 and 16 on bach for the same minutes.

    python scripts/particles.py --minutes 5 --seeds 0 1 2

Each row is one training; the table goes into docs/data.md, and the default is PARTICLES in training/options.py. It
takes the minutes times three numbers times the seeds, 45 minutes as above, on an otherwise idle machine.
"""

import argparse
from statistics import mean

import tinyvrnn as tv

RECIPE = {"batch": 16, "weight_decay": 0.3, "dropout": 0.2, "patience": 10**6, "bound": "fivo"}  # of `train bach`
JUDGES = 64  # particles of the bound on the test split, the same for all


def row(data, particles, seed, minutes):
    """Train once. Returns epochs, and the test bounds FIVO-64 and ELBO, in nats per sequence."""
    model = tv.VRNN(data.x_dim, 100, 16, seed=seed)
    records = tv.train(model, data, False, minutes=minutes, particles=particles, seed=seed, **RECIPE)
    fivo = tv.bounds.evaluate(model, data.test, "fivo", JUDGES)
    elbo = tv.bounds.evaluate_elbo(model, data.test)
    return len(records), fivo.per_sequence, elbo.elbo_per_sequence


def main(minutes, seeds, numbers):
    data, found = tv.load_data("bach"), {}
    print(f"| particles | seed | epochs in {minutes:g} min | test FIVO-{JUDGES} | test ELBO |\n|---|---|---|---|---|")
    for seed in seeds:  # a slow spell then affects all numbers of particles
        for particles in numbers:
            found[particles, seed] = epochs, fivo, elbo = row(data, particles, seed, minutes)
            print(f"| {particles} | {seed} | {epochs} | {fivo:.1f} | {elbo:.1f} |", flush=True)
    for particles in numbers:
        epochs, fivo, elbo = map(mean, zip(*(found[particles, seed] for seed in seeds)))
        print(f"| {particles} | mean | {epochs:.0f} | {fivo:.1f} | {elbo:.1f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--particles", type=int, nargs="+", default=[4, 8, 16])
    given = parser.parse_args()
    main(given.minutes, given.seeds, given.particles)
