"""Times drawing 1,000 sequences of 100 steps from tinyvrnn and from PyTorch, eager, with the same weights.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --backend cupy
    python benchmarks/sampling.py --quick --sizes tiny

First it checks that the parts of a step agree: the prior, the outputs of the likelihood and the next state for the same
h, z and x. Each library uses its own random numbers.
"""

import sys
from functools import partial
from statistics import median

import numpy as np
import report
import verify
from rounds import LEAST_ROUNDS, QUICK_SECONDS, Contender, faster, large_products, ratio, time_in_turns
from sizes import SIZES
from trainers import new_model, torch_settings

from tinyvrnn.arrays.backend import to_host
from tinyvrnn.models.equations import features_forward, generate_forward, prior_forward, recur_forward

SEQUENCES, STEPS = 1000, 100
TARGET = 5.0
STANDARD_ERRORS = 6  # allowed difference of the fractions of ones among the samples

# ----------------------------------------------------------------------------------------------------------- same model


def verify_step(model, net, n=64):
    """Exit unless both give the same results for one h (n, H), z (n, Z), x (n, X). Returns relative differences."""
    import torch

    rng = np.random.default_rng(0)
    h, z = (rng.standard_normal((n, width), dtype=np.float32) for width in (model.h_dim, model.z_dim))
    x = (rng.random((n, model.x_dim)) < 0.5).astype(np.float32)
    ours = step_of_tinyvrnn(model, *map(model.backend.asarray, (h, z, x)))
    with torch.no_grad():
        theirs = step_of_torch(net, *(torch.from_numpy(a).to(net.recur.weight_hh.device) for a in (h, z, x)))
    apart = {name: verify.distance(to_host(ours[name]), theirs[name].cpu().numpy()) for name in ours}
    for name, relative in apart.items():
        verify.check(name, relative, 1e-5, "PyTorch")
    return apart


def step_of_tinyvrnn(model, h, z, x):
    p = model.params
    (mu_0, sigma_0), _ = prior_forward(p["prior"], h)
    phi_z, _ = features_forward(p["phi_z"], z)
    (logits,), _ = generate_forward(p["generate"], phi_z, h, model.likelihood)
    phi_x, _ = features_forward(p["phi_x"], x)
    h_next, _ = recur_forward(p["recur"], phi_x, phi_z, h)
    return {"mu_0": mu_0, "sigma_0": sigma_0, "logits": logits, "next_h": h_next}


def step_of_torch(net, h, z, x):
    mu_0, sigma_0 = net.prior_of(h)
    phi_z, logits = net.generation_of(h, z)
    return {"mu_0": mu_0, "sigma_0": sigma_0, "logits": logits, "next_h": net.next_state(x, phi_z, h)}


def verify_samples(ours, theirs):
    """Exit unless the fractions of ones agree, which detects a sampler that draws wrongly from right outputs.

    x (steps, n, X) of each. Sequences are independent, steps and values of one are not: the standard error is of the
    means of whole sequences. Returns the difference in standard errors.
    """
    means = [x.mean(axis=(0, 2), dtype="float64") for x in (ours, theirs)]
    error = np.sqrt(sum(m.var(ddof=1) / len(m) for m in means))
    apart = float(abs(means[0].mean() - means[1].mean()) / error)
    if not apart <= STANDARD_ERRORS:
        raise SystemExit(
            f"The samples of tinyvrnn and PyTorch differ by {apart:.1f} standard errors: nothing is timed."
        )
    return apart


# -------------------------------------------------------------------------------------------------------------- measure


def draw_all(sample, n, steps):
    """Draw and wait: reading a number ends when a device has finished."""
    float(sample(n, steps)[-1, -1, -1])


def benchmark(name, args):
    """All figures of one size as plain values."""
    from torch_vrnn import net_of

    model = new_model(SIZES[name], backend=args.backend)
    net = net_of(model)
    apart = verify_step(model, net)
    n, steps = (50, 5) if args.quick else (SEQUENCES, STEPS)
    standard_errors = verify_samples(to_host(model.sample(n, steps)), net.sample(n, steps).cpu().numpy())
    print(f"\n{name}: both compute the same (relative differences: {verify.sentence(apart)})")
    print(f"{name}: the fractions of ones in their samples differ by {standard_errors:.1f} standard errors", flush=True)
    contenders = {"tinyvrnn": Contender(partial(draw_all, model.sample, n, steps))}
    for setting, prepare in torch_settings(args.backend).items():
        contenders[f"PyTorch, {setting}"] = Contender(partial(draw_all, net.sample, n, steps), prepare)
    products, work = large_products(model.backend)
    seconds = time_in_turns(contenders | {"sgemm": Contender(products)}, args.rounds, args.min_seconds)
    peak = work / median(seconds.pop("sgemm"))
    best = faster(seconds, [name for name in seconds if name != "tinyvrnn"])
    return {
        "size": name,
        "backend": args.backend,
        "sequences": n,
        "steps": steps,
        "relative_differences": apart,
        "standard_errors_between_samples": standard_errors,
        "seconds_at_the_peak": SIZES[name].flops_of_sampling(n, steps) / peak,
        "seconds": seconds,
        "median_seconds": {name: median(values) for name, values in seconds.items()},
        "faster_torch": best,
        "ratio": ratio(seconds[best], seconds["tinyvrnn"])._asdict(),
    }


# ------------------------------------------------------------------------------------------------------------- printing


def columns(result):
    yield "size", "", result["size"]
    yield "drawn", "", f"{result['sequences']} x {result['steps']}"
    for name, seconds in result["median_seconds"].items():
        yield name, "s", f"{seconds:.3f}"
    yield "products at the peak", "s", f"{result['seconds_at_the_peak']:.3f}"
    yield "ratio", "x", f"{result['ratio']['median']:.2f}"
    yield "quartiles", "x", f"{result['ratio']['low']:.2f} - {result['ratio']['high']:.2f}"
    yield "target", "x", f"{TARGET:.1f}" if result["backend"] == "numpy" else "-"


def draw(results, axes):
    names = list(results[0]["median_seconds"])
    heights = {name: [result["median_seconds"][name] for result in results] for name in names}
    report.grouped_bars(axes, [result["size"] for result in results], heights)
    drawn = f"{results[0]['sequences']} sequences of {results[0]['steps']} steps"
    at_peak = [result["seconds_at_the_peak"] for result in results]
    axes.hlines(
        at_peak, *zip(*((i - 0.4, i + 0.4) for i in range(len(results)))), color="black", label="products at the peak"
    )
    axes.set(title=f"Drawing {drawn}", ylabel="seconds")
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)


# -------------------------------------------------------------------------------------------------------------- command


def main(arguments=None):
    parser = report.parser(__doc__, workers=False, backends=("numpy", "cupy", "strict"))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["course"], metavar="SIZE")
    parser.add_argument("--rounds", type=report.positive, help=f"at least {LEAST_ROUNDS} (default 9; --quick: 2)")
    args = parser.parse_args(arguments)
    report.check_rounds(parser, args, LEAST_ROUNDS, 9)
    args.min_seconds = QUICK_SECONDS if args.quick else 1.0
    if report.cannot_compare(args.backend):
        return 2
    about = report.begin(args.backend)
    results = [benchmark(name, args) for name in args.sizes]
    print(f"\nMedian of {args.rounds} rounds; the ratio is PyTorch's faster setting over tinyvrnn.\n")
    print(report.table([list(columns(result)) for result in results]))
    report.save(args.out, "sampling", about, args, results, report.figure(1, lambda axes: draw(results, axes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
