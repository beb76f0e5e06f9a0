"""Shared by all commands of this folder: options, the table, the JSON, the figure, and the check for libraries."""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import machine
from matplotlib import rc_context
from matplotlib.figure import Figure

from tinyvrnn.arrays.backend import get_backend
from tinyvrnn.errors import BackendError
from tinyvrnn.runs.plots import COLOURS, STYLE

OUT = Path("build/benchmarks")
COLOUR_OF = {  # of a library, in every figure
    "tinyvrnn": COLOURS[0],
    "PyTorch": COLOURS[1],
    "PyTorch, 2 threads": COLOURS[1],
    "PyTorch, 1 thread": COLOURS[4],
    "PyTorch, GPU": COLOURS[1],
    "PyTorch, nn.GRU": COLOURS[4],
    "PyTorch, batched": COLOURS[4],
    "PyTorch, compiled": COLOURS[3],
    "JAX": COLOURS[2],
}
NEEDED = {
    "mpi4py": 'This benchmark needs MPI: run pip install ".[mpi]"',
    "joblib": 'This benchmark needs joblib, which brings loky: run pip install ".[bench]"',
    "torch": 'This benchmark needs PyTorch: run pip install ".[bench]"',
    "jax": 'JAX is not installed, so its columns are missing: run pip install ".[bench]"',
}

# -------------------------------------------------------------------------------------------------------------- options


def parser(doc, workers=True, backends=()):
    """A parser with the common options. doc: the command's docstring; backends: those it runs on, its default first."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--quick", action="store_true", help="few and short rounds, to check that it runs; not for quoting"
    )
    made.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help=f"for JSON and figure (default {OUT})")
    if backends:
        made.add_argument("--backend", choices=backends, default=backends[0], help="cupy: all libraries on a GPU")
    if workers:
        made.add_argument("--workers", type=worker_count, default="auto", help='slices of a batch: "auto" or N')
    return made


def worker_count(text):
    """The value of --workers: "auto", as in training, or a whole number of at least 1."""
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected "auto" or a whole number of at least 1, got {text!r}')
    return int(text)


def positive(text):
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def check_rounds(parser, args, least, usual, quick=2):
    """Set args.rounds to its default if it is None; end the command if it is too small for a median."""
    least, usual = (quick, quick) if args.quick else (least, usual)
    args.rounds = args.rounds or usual
    if args.rounds < least:
        parser.error(f"--rounds must be at least {least}{'' if args.quick else ', or fewer with --quick'}.")


def is_missing(library):
    """Whether "torch" or "jax" can't be imported; if so, print a sentence."""
    if find_spec(library) is not None:
        return False
    print(NEEDED[library], file=sys.stderr)
    return True


def is_unusable(backend):
    """Whether a backend can't be used here; if so, print a sentence."""
    try:
        get_backend(backend)
    except BackendError as error:
        print(error, file=sys.stderr)
        return True
    return False


def cannot_compare(backend):
    """Whether tinyvrnn or PyTorch can't run on a backend's device here; if so, print a sentence."""
    if is_unusable(backend) or is_missing("torch"):
        return True
    import torch

    if missing := machine.peer_device(backend) == "cuda" and not torch.cuda.is_available():
        print(f"PyTorch {torch.__version__} sees no GPU, and a GPU is not compared with a CPU.", file=sys.stderr)
    return missing


def has_jax(backend):
    """Whether JAX can run on a backend's device here; if not, print a sentence."""
    if is_missing("jax"):
        return False
    import jax_vrnn

    try:
        jax_vrnn.use(machine.peer_device(backend))
    except RuntimeError as error:
        print(f"JAX can't use the GPU, so its columns are missing: {first_line(error)}", file=sys.stderr)
        return False
    return True


def first_line(error):
    """The type and the first line of an exception, which may be a whole page."""
    first, *_ = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first[:300]}"


# -------------------------------------------------------------------------------------------------------------- results


def begin(backend="numpy"):
    """Print the machine and the versions. Returns them."""
    about = machine.describe(backend)
    print("\n".join(f"{what}: {value}" for what, value in about.items()), flush=True)
    return about


def table(rows):
    """Right-aligned columns below two lines of titles and units. rows: for each a list of (title, unit, text)."""
    lines = [[title for title, _, _ in rows[0]], [unit for _, unit, _ in rows[0]]]
    lines += [[text for _, _, text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines)


def save(folder, name, about, args, results, figure=None):
    """Write NAME.json, with all numbers of all rounds, and NAME.png, and print their paths.

    The name is followed by that of a backend other than NumPy.
    """
    given = {key: value for key, value in vars(args).items() if key != "out"}
    name = "_".join([name, *({given.get("backend", "numpy")} - {"numpy"})])
    folder.mkdir(parents=True, exist_ok=True)
    everything = {"machine": about, "arguments": given, "results": results}
    (folder / f"{name}.json").write_text(json.dumps(everything, indent=2) + "\n")
    if figure:
        figure.savefig(folder / f"{name}.png")
    print(f"\nWritten: {folder / name}.json{f', {folder / name}.png' if figure else ''}")


# -------------------------------------------------------------------------------------------------------------- figures


def figure(panels, draw, width=5.0, height=3.4):
    """A figure in the package's style; draw(*axes) fills its panels."""
    with rc_context(STYLE):
        made = Figure(figsize=(width * panels, height), layout="constrained")
        draw(*made.subplots(1, panels, squeeze=False)[0])
    return made


def grouped_bars(axes, groups, series, errors=None):
    """Bars side by side: for each group one of every series, {label: [a height for each group, or None]}.

    errors: {label: [(down, up) for each group, or None]}. Returns {label: [x of each bar]}.
    """
    width, places = 0.8 / len(series), {}
    for i, (label, heights) in enumerate(series.items()):
        xs = places[label] = [g + (i - (len(series) - 1) / 2) * width for g in range(len(groups))]
        there = [k for k, height in enumerate(heights) if height is not None]
        bars = axes.bar([xs[k] for k in there], [heights[k] for k in there], 0.9 * width, label=label)
        for bar in bars:
            bar.set_color(COLOUR_OF.get(label, COLOURS[i % len(COLOURS)]))
        if errors:
            spans = list(zip(*(errors[label][k] for k in there))) or None
            axes.errorbar([xs[k] for k in there], [heights[k] for k in there], spans, fmt="none", ecolor="black", lw=1)
    axes.set_xticks(range(len(groups)), groups)
    return places
