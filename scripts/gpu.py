"""All that a machine with a GPU can tell in one go: tests, checks, launches and speed, into build/gpu/ (docs/gpu.md).

    make gpu                                  every stage
    make gpu STAGES="gradcheck parity"        some; results of earlier stages stay
    make gpu-double                           on the test double of CuPy, without a GPU
    python scripts/gpu.py --strict            on the backend strict, without a GPU

Nothing is installed. What the machine lacks is taken from the wheels in build/gpu-wheels, if there are any. Each stage
is a process with a time limit. One that fails does not stop the others; then the exit code is 1.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OUT, WHEELS = ROOT / "build" / "gpu", ROOT / "build" / "gpu-wheels"
DOUBLE = ROOT / "tests" / "double"
ON_DEVICE = re.compile(r"checks\.(DEVICE|BACKENDS|on_device)|cupy_backend")
SHOWN = 45  # lines of a stage's output in the report


class Stage(NamedTuple):
    """A part of the run. needs: a library without which it is left out on the double."""

    command: list
    minutes: float
    needs: str | None = None


def suite():
    """The tests that run on a device, by name of file, since others import what a GPU machine may lack."""
    files = [p for p in sorted((ROOT / "tests").glob("test_*.py")) if ON_DEVICE.search(p.read_text(encoding="utf-8"))]
    processes = str(min(8, os.cpu_count() or 1))
    marks = ["-m", "device and not slow", "-W", "default::DeprecationWarning", "-n", processes, "--dist", "loadgroup"]
    return [sys.executable, "-m", "pytest", "-q", *marks, *map(str, files)]


def benchmark(name, *options, minutes=3.0, peer="torch"):
    """A command of benchmarks/."""
    program = ROOT / "benchmarks" / f"{name}.py"
    return Stage([sys.executable, str(program), "--backend", "cupy", *options], minutes, peer)


def without_a_gpu(stage, backend):
    """The stage quick and small, with patience: the double is slower than a GPU, and other tests may run beside it."""
    words = dict.fromkeys(("course", "music", "speech"), "tiny") | {"cupy": backend}
    small = [words.get(word, word) for word in stage.command]
    quick = ["--quick"] if "benchmarks" in stage.command[1] else []
    return stage._replace(command=[word for word, _ in groupby(small)] + quick, minutes=4 * stage.minutes)


def stages(backend="cupy", quick=False, out=OUT):
    """{name: Stage}, in the order of their worth."""
    check = [sys.executable, "-m", "tinyvrnn", "gradcheck", "--backend", "cupy", "--model", "vae" if quick else "vrnn"]
    all_sizes = ("--sizes", "course", "music", "speech")
    made = {
        "gradcheck": Stage(check, 4),
        "parity": benchmark("parity", peer=None),
        "launches": benchmark("launches", *all_sizes[:3], peer=None),
        "suite": Stage(suite(), 8),
        "step": benchmark("step", *all_sizes, "--rounds", "7", minutes=6),
        "memory": benchmark("memory", *all_sizes, "--rounds", "1"),
        "rnn": benchmark("step", "--model", "rnn", *all_sizes[:3], "--rounds", "7"),
        "sampling": benchmark("sampling", *all_sizes[:2], "--rounds", "7", minutes=2),
        "elbo": benchmark("time_to_elbo", "--size", "course", "--rounds", "2", minutes=4),
        "compile": benchmark("step", *all_sizes[:2], "--compile", "course", "--rounds", "7", minutes=5),
    }
    for name, stage in made.items():
        if "benchmarks" in stage.command[1]:
            stage.command.extend(["--out", str(out / name)])
    return {name: without_a_gpu(stage, backend) for name, stage in made.items()} if quick else made


# ---------------------------------------------------------------------------------------------------------- environment


def is_missing(package):
    """Whether this Python lacks a package."""
    try:
        version(package)
    except PackageNotFoundError:
        return True
    return False


def unpacked_wheels(site):
    """The folder `site` with each wheel whose package is missing. They are pure Python: to unpack is to install."""
    for wheel in WHEELS.glob("*.whl"):
        if is_missing(wheel.name.partition("-")[0]):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
    return site


def environment(backend, double, out):
    """The variables of every stage."""
    paths = [ROOT, unpacked_wheels(out / "site"), *([DOUBLE] if double else [])]
    inherited = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    path = os.pathsep.join([*map(str, paths), *inherited])
    return os.environ | {"PYTHONPATH": path, "TINYVRNN_TEST_DEVICE": backend, "PYTHONUNBUFFERED": "1"}


# ------------------------------------------------------------------------------------------------------------------ run


def run(stage, variables, log):
    """Run a stage, with its output in the file `log`. Returns its result, a dict."""
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        try:
            options = {"stdout": file, "stderr": subprocess.STDOUT, "cwd": ROOT, "env": variables}
            code = subprocess.run(stage.command, timeout=60 * stage.minutes, **options).returncode
            outcome = "ok" if code == 0 else f"FAILED with exit code {code}"
        except subprocess.TimeoutExpired:
            outcome = f"FAILED: over its limit of {stage.minutes:g} minutes"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return {"outcome": outcome, "seconds": round(time.monotonic() - start, 1), "output": lines[-SHOWN:]}


def write_report(results, out):
    """results.json and report.md, after each stage, so that a run that is stopped leaves what it has."""
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    lines = ["# tinyvrnn on a GPU", "", "| stage | outcome | seconds |", "|---|---|---|"]
    lines += [f"| {name} | {result['outcome']} | {result['seconds']} |" for name, result in results.items()]
    for name, result in results.items():
        lines += ["", f"## {name}", "", "```", *result["output"], "```"]
    (out / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(stages())} (default: all)")
    on = parser.add_mutually_exclusive_group()
    on.add_argument("--double", action="store_true", help="on the test double of CuPy, quick and small")
    on.add_argument("--strict", action="store_true", help="on the backend strict, quick and small")
    parser.add_argument("--out", type=Path, help="folder of the results (default build/gpu, gpu-double or gpu-strict)")
    args = parser.parse_args(arguments)
    backend, quick = "strict" if args.strict else "cupy", args.double or args.strict
    args.out = args.out or OUT.with_name(f"gpu-{'strict' if args.strict else 'double'}" if quick else "gpu")
    known = stages(backend, quick, args.out)
    if wrong := sorted(set(args.stages) - set(known)):
        parser.error(f"unknown stage {wrong[0]}: choose from {', '.join(known)}.")
    args.out.mkdir(parents=True, exist_ok=True)
    variables, kept = environment(backend, args.double, args.out), args.out / "results.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if args.stages and kept.exists() else {}
    chosen = args.stages or list(known)
    for name in chosen:
        print(f"{name} ...", end=" ", flush=True)
        if quick and known[name].needs and is_missing(known[name].needs):
            results[name] = {"outcome": f"left out: needs {known[name].needs}", "seconds": 0.0, "output": []}
        else:
            results[name] = run(known[name], variables, args.out / f"{name}.log")
        print(results[name]["outcome"], f"({results[name]['seconds']} s)", flush=True)
        write_report(results, args.out)
    print(f"Written: {args.out / 'report.md'}")
    return int(any(results[name]["outcome"].startswith("FAILED") for name in chosen))


if __name__ == "__main__":
    sys.exit(main())
