"""Counts the kernel launches and the transfers of one training step on a device, and compares with what strict counts.

    python benchmarks/launches.py --backend cupy           on a GPU, counted by PyTorch's profiler
    python benchmarks/launches.py                          what strict counts, on any machine

The step is forward, backward, clipping and Adam. The launches of a time step are the difference of a step with T + 1
time steps and one with T; the others are those beside the loops. A copy or a filling of device memory is a launch, too.
"""

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import report
from machine import peer_device
from sizes import SIZES, make_batch
from trainers import TinyTrainer, TorchTrainer, new_model, ready_workers

from tinyvrnn.arrays import strict
from tinyvrnn.arrays.backend import get_backend

MODELS = {"VRNN, GRU": {}, "VRNN, LSTM": {"cell": "lstm"}, "RNN, GRU": {"Z": 0}}
TRANSFERS = ("to device", "to host")
OF_CATEGORY = {"kernel": "kernels", "gpu_memset": "fills"}  # in the profiler's trace

# -------------------------------------------------------------------------------------------------------------- measure


def counter_of(backend):
    """A function that counts what a call asks of the device: {"kernels": n, "to device": n, ...}."""
    if peer_device(backend) == "cuda":
        return counted_by_profiler
    return partial(counted_by_double, strict if backend == "strict" else get_backend(backend).xp)


def counted_by_double(double, call):
    double.launches.reset()
    double.transfers.reset()
    call()
    transfers = double.transfers
    return Counter({"kernels": double.launches.total, "to device": transfers.to_device, "to host": transfers.to_host})


def counted_by_profiler(call):
    """The profiler records everything that this process does on the GPU, whichever library asked for it."""
    from torch.profiler import ProfilerActivity, profile

    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            call()
        profiler.export_chrome_trace(str(trace))
        return counted_in(json.loads(trace.read_text())["traceEvents"])


def counted_in(events):
    """The Counter of a trace's events."""
    found = Counter(OF_CATEGORY.get(event.get("cat")) for event in events)
    for event in events:
        if event.get("cat") == "gpu_memcpy":  # "Memcpy HtoD (Pageable -> Device)"
            found["to device" if "HtoD" in event["name"] else "to host" if "DtoH" in event["name"] else "copies"] += 1
    del found[None]
    return found


def counts_of(new_trainer, size, count):
    """The counts of a training step with T and with T + 1 time steps."""
    found = []
    for steps in (size.T, size.T + 1):
        trainer, batch = new_trainer(), make_batch(size._replace(T=steps))
        step = partial(trainer.step, *trainer.batch(*batch))
        step()  # compiles kernels and allocates Adam's moments
        count(step)  # starts the profiler
        found.append(dict(count(step)))
    return found


def counts_of_tinyvrnn(size, backend, **options):
    model = new_model(size, backend=backend, **options)
    with ready_workers(model, size.B, 1) as pool:
        return counts_of(partial(TinyTrainer, model, pool), size, counter_of(backend))


def benchmark(name, args):
    """A plain dict for each of MODELS, and on a GPU one for PyTorch."""
    for model, options in MODELS.items():
        size = SIZES[name]._replace(Z=options.get("Z", SIZES[name].Z))
        counts = partial(counts_of_tinyvrnn, size, **{key: value for key, value in options.items() if key != "Z"})
        yield {"size": name, "T": size.T, "of": model, "measured": counts(args.backend), "predicted": counts("strict")}
    if peer_device(args.backend) == "cuda":
        new_trainer = partial(TorchTrainer, new_model(SIZES[name], backend=args.backend))
        measured = counts_of(new_trainer, SIZES[name], counted_by_profiler)
        yield {"size": name, "T": SIZES[name].T, "of": "PyTorch's VRNN, loop", "measured": measured, "predicted": None}


# ------------------------------------------------------------------------------------------------------------- printing


def figures(counts, T):
    """[launches of a time step, other launches, transfers to the device, to the host], from `counts_of`."""
    few, many = (sum(n for what, n in each.items() if what not in TRANSFERS) for each in counts)
    return [many - few, few - T * (many - few), *(counts[0].get(what, 0) for what in TRANSFERS)]


def columns(result):
    yield "size", "", result["size"]
    yield "training step of", "", result["of"]
    measured = figures(result["measured"], result["T"])
    predicted = figures(result["predicted"], result["T"]) if result["predicted"] else ["-"] * len(measured)
    for what, found, expected in zip(("a time step", "all else", *TRANSFERS), measured, predicted):
        yield what, "measured | predicted", f"{found} | {expected}"


# -------------------------------------------------------------------------------------------------------------- command


def main(arguments=None):
    parser = report.parser(__doc__, workers=False, backends=("strict", "cupy"))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["course"], metavar="SIZE")
    args = parser.parse_args(arguments)
    if report.is_unusable(args.backend) or (peer_device(args.backend) == "cuda" and report.cannot_compare("cupy")):
        return 2
    about = report.begin(args.backend)
    results = [result for name in args.sizes for result in benchmark(name, args)]
    print(f"\nLaunches and transfers of one training step.\n\n{report.table([list(columns(r)) for r in results])}")
    report.save(args.out, "launches", about, args, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
