"""The five models of the paper's Table 1, at one number of parameters, on `strokes` and on `vowels`.

    python benchmarks/table1.py                             all: hours
    python benchmarks/table1.py --sets vowels --seeds 1     some: minutes
    python benchmarks/table1.py --show                      the table of the results so far

Each finished run is saved in benchmarks/results/table1.json and not repeated, so this can be stopped and restarted.
benchmarks/README.md explains how to read the table.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path
from statistics import mean

import machine

import tinyvrnn as tv
from tinyvrnn.models import MODELS
from tinyvrnn.training.options import recipe

RESULTS = Path(__file__).parent / "results" / "table1.json"
PARAMETERS = 150_000
LATENT, PARTICLES = 16, 64
SETS = {"strokes": {"epochs": 80}, "vowels": {"epochs": 150}}  # other options: the defaults of `tinyvrnn train`
TRAINING = {"lr": 3e-3, "patience": 25, "workers": 1}
GAUSS, GMM = {"strokes": ("pen", 1), "vowels": ("gaussian", None)}, {"strokes": ("pen", 20), "vowels": ("gmm", 20)}
ROWS = {  # in the paper's order: kind of model, output for each set
    "RNN-Gauss": ("rnn", GAUSS),
    "RNN-GMM": ("rnn", GMM),
    "VRNN-I-Gauss": ("vrnn-i", GAUSS),
    "VRNN-Gauss": ("vrnn", GAUSS),
    "VRNN-GMM": ("vrnn", GMM),
}


def new_model(row, data, parameters, seed):
    """The model of a row, with the width that brings its number of parameters closest to `parameters`."""
    kind, outputs = ROWS[row]
    likelihood, components = outputs[data.name]
    options = {"likelihood": likelihood, "seed": seed, "backend": "numpy"}
    options |= {"components": components} if components else {}
    options |= {"z_dim": LATENT} if "z_dim" in MODELS[kind].sizes else {}

    def of_width(h):
        return MODELS[kind](data.x_dim, h_dim=h, **options)

    low, high = 4, 2000
    while high - low > 1:  # the number grows with the width
        middle = (low + high) // 2
        low, high = (middle, high) if of_width(middle).theta.size <= parameters else (low, middle)
    return min((of_width(low), of_width(high)), key=lambda model: abs(model.theta.size - parameters))


def run(row, data, seed, parameters):
    """Train and evaluate one model. Returns plain values."""
    model = new_model(row, data, parameters, seed)
    start = time.perf_counter()
    records = tv.train(model, data, progress=False, seed=seed, **recipe(data) | SETS[data.name] | TRAINING)
    seconds = time.perf_counter() - start
    least = tv.bounds.evaluate_elbo(model, data.test)
    found = {"at_least": least.elbo_per_sequence, "standard_error": least.standard_error, "about": None}
    if model.bound == "elbo":
        about = tv.bounds.evaluate(model, data.test, "iwae", PARTICLES)
        found |= {"about": about.per_sequence, "standard_error_draws": about.standard_error_draws}
    about_run = {"set": data.name, "row": row, "seed": seed, "parameters": model.theta.size, "width": model.h_dim}
    return about_run | found | {"epochs": len(records), "seconds": round(seconds, 1), "units": data.units}


def table(runs, name):
    """Markdown: means over the seeds, with minimum and maximum."""
    lines = [
        "| model | parameters | width | at least (ELBO) | about (IWAE-64) | standard error | training |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        own = [r for r in runs if (r["set"], r["row"]) == (name, row)]
        if own:
            lines.append(
                f"| {row} | {own[0]['parameters']:,} | {own[0]['width']} | {spread(own, 'at_least')} | "
                f"{spread(own, 'about')} | {mean(r['standard_error'] for r in own):.1f} | "
                f"{mean(r['seconds'] for r in own):.0f} s |"
            )
    return "\n".join(lines)


def spread(runs, key):
    values = [r[key] for r in runs if r[key] is not None]
    if not values:
        return "(exact)"
    return f"{mean(values):.1f}" + (f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else "")


def show(kept):
    for name in SETS:
        runs = [r for r in kept["runs"] if r["set"] == name]
        if runs:
            seeds = len({r["seed"] for r in runs})
            print(f"\n{name}: nats per sequence of the test split; {runs[0]['units']}; {seeds} seeds\n")
            print(table(runs, name))
            print("\nbaselines: " + ", ".join(f"{k} {v:.1f}" for k, v in tv.data.baselines(tv.load_data(name)).items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parameters", type=int, default=PARAMETERS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="print the table of the saved runs, train nothing")
    a = parser.parse_args()
    kept = json.loads(a.results.read_text()) if a.results.exists() else {"machine": machine.describe(), "runs": []}
    done = {(r["set"], r["row"], r["seed"]) for r in kept["runs"]}
    for seed, name, row in product(range(a.seeds), a.sets, a.rows):
        if a.show or (name, row, seed) in done:
            continue
        kept["runs"].append(run(row, tv.load_data(name), seed, a.parameters))
        a.results.write_text(json.dumps(kept, indent=1) + "\n")
        print({k: v for k, v in kept["runs"][-1].items() if k != "units"}, flush=True)
    show(kept)


if __name__ == "__main__":
    main()
