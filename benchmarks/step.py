"""Times one training step of tinyvrnn against PyTorch and JAX.

    python benchmarks/step.py                              the sizes course and music
    python benchmarks/step.py --compile course             against torch.compile too, at course: minutes of compiling
    python benchmarks/step.py --backend cupy               against PyTorch and JAX on the same GPU
    python benchmarks/step.py --model rnn                  the plain RNN, against nn.GRU too: on a GPU cuDNN's
    python benchmarks/step.py --quick --sizes tiny         check that it runs

First it checks that all compute the same loss and gradients from the same weights, data and noise; then they take
turns. benchmarks/README.md explains what is measured and how to read it.
"""

import os
import sys
import time
from contextlib import contextmanager
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory

import report
import verify
from rounds import LEAST_ROUNDS, MIN_SECONDS, QUICK_SECONDS, Contender, faster, large_products, ratio, time_in_turns
from sizes import LAYERS, SIZES, make_batch
from trainers import JaxTrainer, TinyTrainer, TorchTrainer, new_model, ready_workers, torch_settings

TARGETS = {  # the project's targets: our seconds over a peer's, and the share of the peak
    "course": {"PyTorch": 3.0, "PyTorch, batched": 2.4, "JAX": 1.7, "PyTorch, compiled": 1.5, "tinyvrnn": 0.60},
    "music": {"PyTorch": 2.2, "PyTorch, batched": 1.8, "JAX": 1.4, "tinyvrnn": 0.75},
    "speech": {"PyTorch": 1.8, "PyTorch, batched": 1.5, "JAX": 1.1, "tinyvrnn": 0.85},
}

ON_A_GPU = {size: {"PyTorch": 2.0, "PyTorch, batched": 1.2} for size in ("course", "music")}
REQUIRED = ("PyTorch", "PyTorch, batched", "PyTorch, nn.GRU")  # others are left out if they fail

# ----------------------------------------------------------------------------------------------------------- contenders


class Peer:
    """A trainer and the settings to time it with, {name of the contender: function that applies it}."""

    def __init__(self, trainer, settings):
        self.trainer, self.settings = trainer, settings


def peers(model, with_jax, with_compile):
    """{name in messages: Peer}, each with a copy of the model's weights."""
    batched = "PyTorch, batched" if model.z_dim else "PyTorch, nn.GRU"
    torch_peers = {"PyTorch": {}, batched: {"schedule": "batched"}}
    if with_compile:
        torch_peers["PyTorch, compiled"] = {"schedule": "batched", "compiled": True}
    settings = torch_settings(model.backend.name)
    made = {
        name: Peer(TorchTrainer(model, **options), {f"{name}, {s}": prepare for s, prepare in settings.items()})
        for name, options in torch_peers.items()
    }
    if with_jax:
        for schedule in ("loop", "batched"):
            made[f"JAX, {schedule}"] = Peer(JaxTrainer(model, schedule), {f"JAX, {schedule}": lambda: None})
    return made


def competitors(names):
    """{peer in the table: its contenders}; JAX's schedules and PyTorch's threads are settings of one peer."""
    found = {}
    for name in names:
        peer = "JAX" if name.startswith("JAX") else name.rpartition(", ")[0]
        found.setdefault(peer, []).append(name)
    return found


# -------------------------------------------------------------------------------------------------------------- measure


def benchmark(name, args, with_jax):
    """All results for one size as plain values: seconds, flop, ratios."""
    size = SIZES[name] if args.model == "vrnn" else SIZES[name]._replace(Z=0)
    measured = verify_and_time(size, args, with_jax, with_compile=name in args.compile)
    peaks = measured.pop("peak_flops_per_second")
    return {
        "size": name,
        "model": args.model,
        "dimensions": size._asdict() | {"F": size.H, "layers": LAYERS},
        "workers": args.workers,
        "backend": args.backend,
        "flops": size.flops,
        "peak_flops_per_second": peaks,
        "targets": targets(args).get(name, {}),
        **measured,
        **summary(measured["seconds"], peaks, size.flops),
    }


def targets(args):
    """The TARGETS of a device, which are of the VRNN."""
    return {} if args.model == "rnn" else ON_A_GPU if args.backend == "cupy" else TARGETS


def verify_and_time(size, args, with_jax, with_compile):
    """Each peer's relative differences, compile times or failure; the seconds of each contender and round; the peak."""
    model, (x, eps) = new_model(size, backend=args.backend), make_batch(size)
    products, work = large_products(model.backend)
    found = {"relative_differences": {}, "compile_seconds": {}, "failures": {}}
    with ready_workers(model, size.B, args.workers) as pool:
        others = peers(model, with_jax, with_compile)  # before tinyvrnn changes the weights
        tiny = TinyTrainer(model, pool)
        batch = tiny.batch(x, eps)
        ours, contenders = verify.results(tiny, batch), {"tinyvrnn": Contender(partial(tiny.step, *batch))}
        for name, peer in others.items():
            batch = peer.trainer.batch(x, eps)
            if verified(name, peer, batch, ours, found):
                step = partial(peer.trainer.step, *batch)
                contenders |= {setting: Contender(step, prepare) for setting, prepare in peer.settings.items()}
        seconds = time_in_turns(contenders | {"sgemm": Contender(products)}, args.rounds, args.min_seconds)
    peaks = [work / s for s in seconds.pop("sgemm")]
    return found | {"seconds": seconds, "peak_flops_per_second": peaks}


def verified(name, peer, batch, ours, found):
    """Whether a peer computes the same; what it did is noted in `found`, and printed. Exits for one of REQUIRED."""
    try:
        found["compile_seconds"] |= seconds_of_first_calls(name, peer, batch)
        apart = verify.compare(ours, verify.results(peer.trainer, batch), name)
    except (Exception, SystemExit) as error:  # compilers raise classes of their own
        if name in REQUIRED:
            raise
        found["failures"][name] = report.first_line(error)
        print(f"{name} is left out: {found['failures'][name]}", flush=True)
        return False
    found["relative_differences"][name] = apart
    print(f"{name} computes the same (relative differences: {verify.sentence(apart)})", flush=True)
    return True


@contextmanager
def nothing_compiled_before():
    """Context: an empty cache for torch.compile, so earlier runs do not shorten the compile time."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # the compiler reads this when it is first used
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": folder, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
        yield


def seconds_of_first_calls(name, peer, batch):
    """{setting: seconds} of compiling, which torch.compile repeats for each number of threads. Changes no weights."""
    if name != "PyTorch, compiled":
        return {}
    found = {}
    for setting, prepare in peer.settings.items():
        prepare()
        start = time.perf_counter()
        peer.trainer.loss_and_grads(*batch)
        found[setting] = time.perf_counter() - start
    return found


def summary(seconds, peaks, work):
    """Medians, and each peer's ratio, round by round, with the faster of its settings."""
    found = {"median_seconds": {name: median(values) for name, values in seconds.items()}}
    best = {peer: faster(seconds, names) for peer, names in competitors(n for n in seconds if n != "tinyvrnn").items()}
    shares = {peer: share_of_peak(seconds[name], peaks, work) for peer, name in best.items()}
    return found | {
        "faster_setting": best,
        "ratios": {peer: ratio(seconds[name], seconds["tinyvrnn"])._asdict() for peer, name in best.items()},
        "share_of_peak": {"tinyvrnn": share_of_peak(seconds["tinyvrnn"], peaks, work)} | shares,
    }


def share_of_peak(seconds, peaks, work):
    return median(work / (s * peak) for s, peak in zip(seconds, peaks))


# ------------------------------------------------------------------------------------------------------------- printing


def seconds_rows(results):
    """A row for each size and contender."""
    for result in results:
        for name, seconds in result["median_seconds"].items():
            compiling = result["compile_seconds"].get(name)
            yield [
                ("size", "", result["size"]),
                ("contender", "", name),
                ("step", "ms", f"{1e3 * seconds:.2f}"),
                ("compiling", "s", "" if compiling is None else f"{compiling:.0f}"),
            ]
        for name in result["failures"]:
            yield [
                ("size", "", result["size"]),
                ("contender", "", name),
                ("step", "ms", "failed"),
                ("compiling", "s", ""),
            ]


def ratio_rows(results):
    """A row for each size and peer."""
    for result in results:
        for peer, found in result["ratios"].items():
            target = result["targets"].get(peer)
            yield [
                ("size", "", result["size"]),
                ("against", "", result["faster_setting"][peer]),
                ("ratio", "x", f"{found['median']:.2f}"),
                ("quartiles", "x", f"{found['low']:.2f} - {found['high']:.2f}"),
                ("target", "x", f"{target:.1f}" if target else "-"),
                ("its share of peak", "%", f"{100 * result['share_of_peak'][peer]:.0f}"),
            ]


def peak_rows(results):
    for result in results:
        target = result["targets"].get("tinyvrnn")
        yield [
            ("size", "", result["size"]),
            ("workers", "", str(result["workers"])),
            ("products", "GFLOP", f"{result['flops'] / 1e9:.3g}"),
            ("sgemm peak", "GFLOP/s", f"{median(result['peak_flops_per_second']) / 1e9:.0f}"),
            ("tinyvrnn's share", "%", f"{100 * result['share_of_peak']['tinyvrnn']:.0f}"),
            ("target", "%", f"{100 * target:.0f}" if target else "-"),
        ]


def draw(results, ratios, shares):
    """Ratios with quartiles, and shares of the peak; a black line is the target."""
    sizes = [result["size"] for result in results]
    names = list(dict.fromkeys(name for result in results for name in result["ratios"]))
    found = {n: [result["ratios"].get(n) for result in results] for n in names}
    heights = {n: [one and one["median"] for one in each] for n, each in found.items()}
    errors = {n: [one and span(one) for one in each] for n, each in found.items()}
    mark_targets(ratios, report.grouped_bars(ratios, sizes, heights, errors), results)
    ratios.axhline(1, color="grey", linewidth=0.8)
    ratios.set(title="Seconds of a training step, times tinyvrnn's", ylabel="ratio")
    of_peak = {n: [result["share_of_peak"].get(n) for result in results] for n in ["tinyvrnn", *names]}
    mark_targets(shares, {"tinyvrnn": report.grouped_bars(shares, sizes, of_peak)["tinyvrnn"]}, results)
    shares.set(title="Share of the matrix-product peak", ylim=(0, 1))
    shares.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)


def span(found):
    """Distances of the quartiles from the median, below and above."""
    return found["median"] - found["low"], found["high"] - found["median"]


def mark_targets(axes, places, results):
    for name, xs in places.items():
        for x, result in zip(xs, results):
            if name in result["targets"]:
                axes.hlines(result["targets"][name], x - 0.12, x + 0.12, color="black", linewidth=2)


# -------------------------------------------------------------------------------------------------------------- command


def parse(arguments):
    parser = report.parser(__doc__, backends=("numpy", "cupy", "strict"))
    parser.add_argument("--model", choices=["vrnn", "rnn"], default="vrnn", help="rnn: the plain one, on the same data")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["course", "music"], metavar="SIZE")
    parser.add_argument("--rounds", type=report.positive, help=f"at least {LEAST_ROUNDS} (default 11; --quick: 2)")
    parser.add_argument(
        "--compile",
        nargs="+",
        choices=SIZES,
        default=[],
        metavar="SIZE",
        help="torch.compile of the batched schedule too",
    )
    args = parser.parse_args(arguments)
    report.check_rounds(parser, args, LEAST_ROUNDS, 11)
    if missing := sorted(set(args.compile) - set(args.sizes)):
        parser.error(f"--compile {' '.join(missing)}: name that size in --sizes, too.")
    if args.model == "rnn" and args.compile:
        parser.error("--compile is for the VRNN: torch.compile leaves nn.GRU as it is.")
    args.min_seconds = QUICK_SECONDS if args.quick else MIN_SECONDS
    return args


def main(arguments=None):
    args = parse(arguments)
    if report.cannot_compare(args.backend):
        return 2
    with_jax = args.model == "vrnn" and report.has_jax(args.backend)
    about, results = report.begin(args.backend), []
    with nothing_compiled_before():
        for name in args.sizes:
            print(f"\n{name}:", flush=True)
            results.append(benchmark(name, args, with_jax))
    print(f"\nOne training step, median of {args.rounds} rounds.\n\n{report.table(list(seconds_rows(results)))}")
    print(f"\nThe peer's seconds over tinyvrnn's, its faster setting.\n\n{report.table(list(ratio_rows(results)))}")
    print(f"\nMatrix products.\n\n{report.table(list(peak_rows(results)))}")
    name = "step" if args.model == "vrnn" else "step_rnn"
    report.save(args.out, name, about, args, results, report.figure(2, lambda *axes: draw(results, *axes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
