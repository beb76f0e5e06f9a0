"""Mutation testing: change the code in one place at a time, and see whether the tests notice.

    python scripts/mutation.py [ROOM ...] [--again]

Each room is copied to build/mutation/ROOM. There mutmut creates the mutants and runs, for each, the room's tests that
reach the function, fastest first. Results are kept there; --again starts over. The room `sample` takes mutant number 60
of each function in all rooms, if there is one, and quick tests only. The exit code is 1 if fewer than 95 % of a room's
mutants are killed, or a survivor is not listed in docs/testing.md.
"""

import argparse
import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutation"
PAGE = ROOT / "docs" / "testing.md"
LEAST = 0.95
LIVES = ("survived", "no tests", "suspicious")


class Room(NamedTuple):
    paths: str  # of the modules to mutate, below tinyvrnn/
    tests: str  # files that guard them, without test_ and .py
    chosen: str  # pytest's -k, which skips slow tests that kill no further mutants
    mutants: str = "*"  # pattern of the names of mutants to try


# a function under mutmut has another code object than its source; the rest are the sums of what others look at singly
PAIRS = " and ".join(f"not {part}" for part in "every_public_forward whole_elbo more_seeds the_command plugin".split())
# numeric gradients of whole models, thousands of draws, training, and all likelihoods where the model is what counts;
# a warning that names the caller's line, which mutmut moves
SLOW = """strict more_seeds numeric draws_by_the_plain memory_grows fivo_is_closer training raises_the_bound
          two_posteriors unbiased ink constant on_average how_evaluations_differ every_public_forward
          warned_itself"""
QUICK = " and ".join(f"not {part}" for part in SLOW.split())
STEP = "(adam or clip or worker or cut or cores or threads or norm) and not among_the_answers"
# tests that start processes, which know no mutants; trainings of a second and more; of a grid of models all but one
LONG = """killed second_process another_process saves_and_says kill_while beats_the_baselines among_the_answers
          best_weights_are_those same_seed ink leaves_smaller as_a_copy ends_in_time strict stays_on_the_device
          lock_of_nobody numeric memory_grows plain_gradient raises_the_bound evaluation_divides plugin"""
RUNS = (
    " and ".join(f"not {part}" for part in LONG.split())
    + " and (not goes_on_bit_for_bit or vrnn-gaussian-1 or chunk or iwae)"
)
ROOMS = {
    "nn": Room("nn/*.py", "equations distributions pairs schedule kernels autograd register", PAIRS),
    "distributions": Room(
        "distributions/*.py", "equations distributions pairs schedule autograd register missing", PAIRS
    ),
    "models": Room(
        "models/*.py",
        "equations schedule models linear_gaussian long variants bounds autograd regularise infer forecast missing",
        QUICK + " and (not plain_rewrite or gaussian or particles_equal)",
    ),
    "noise": Room("arrays/noise.py", "noise", "not wrong_kernel"),
    "bounds": Room(
        "bounds/*.py", "bounds load infer missing", QUICK + " and not at_once_are_each and not lost_between"
    ),
    "gradcheck": Room("gradcheck/numeric.py", "gradcheck", "not every_public_forward"),
    "training": Room("training/optim.py training/parallel.py training/worker.py", "training extremes worker", STEP),
    "runs": Room(
        " ".join(f"training/{name}.py" for name in "loop state options diagnosis interrupt".split())
        + " runs/run.py runs/checkpoint.py",
        "checkpoint resume diagnosis training regularise long strangers data_mapped",
        RUNS + " and (not test_long or chunks or training or optimiser) and (not test_strangers or version)"
        " and (not test_data_mapped or mapped_file)",
    ),
}
SAMPLE = Room(
    " ".join(room.paths for room in ROOMS.values()),
    "equations distributions pairs schedule linear_gaussian models variants long regularise bounds infer forecast "
    "missing register gradcheck training checkpoint diagnosis resume",
    f"{QUICK} and not plain_rewrite and {RUNS} or held_fixed or gradients_of_a_pair and not strict and not more_seeds "
    f"or {STEP} and not strict or test_training and options or first_number_that or record_holds",
    "*__mutmut_60",
)


def prepare(name):
    """Make the copy that mutmut works in, with the room's files and tests in its settings. Returns folder, Room."""
    room, folder = (ROOMS | {"sample": SAMPLE})[name], WORK / name
    for part in ("tinyvrnn", "tests", "docs", "scripts"):
        shutil.copytree(ROOT / part, folder / part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    tests = [f"tests/test_{part}.py" for part in room.tests.split()]
    settings["mutmut"]["only_mutate"] = "\n".join(["", *(f"tinyvrnn/{path}" for path in room.paths.split())])
    settings["mutmut"]["pytest_add_cli_args_test_selection"] = "\n".join(["", "-k", room.chosen, *tests])
    with open(folder / "setup.cfg", "w", encoding="utf-8") as f:
        settings.write(f)
    return folder, room


def mutmut(folder, *arguments, **options):
    """Run mutmut in a folder. Raises CalledProcessError if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment | {"OPENBLAS_NUM_THREADS": "1"}, check=True, text=True, **options
    )


def run(name, again):
    """Try the mutants of a room, including earlier survivors. Returns {mutant: status} of those tried."""
    if again:
        shutil.rmtree(WORK / name, ignore_errors=True)
    folder, room = prepare(name)
    lived = [mutant for mutant, status in statuses(folder).items() if status in LIVES]
    (folder / "mutants" / "mutmut-stats.json").unlink(
        missing_ok=True
    )  # stale statistics would leave changed functions without tests
    chosen = [] if room.mutants == "*" else [room.mutants]
    mutmut(folder, "run", "--max-children", "1", *chosen)
    found = statuses(folder)
    lived = [mutant for mutant in lived if found.get(mutant) in LIVES]
    if lived:
        mutmut(folder, "run", "--max-children", "1", *lived)
    return statuses(folder)


def statuses(folder):
    """{mutant: status} of the mutants tried."""
    if not (folder / "mutants").exists():
        return {}
    lines = mutmut(folder, "results", "--all", "true", stdout=subprocess.PIPE).stdout.splitlines()
    found = dict(line.strip().rsplit(": ", 1) for line in lines if "__mutmut_" in line)
    return {mutant: status for mutant, status in found.items() if status != "not checked"}


def difference(name, mutant):
    """(file below tinyvrnn/, the line of code, what it became) of a mutant."""
    lines = mutmut(WORK / name, "show", mutant, stdout=subprocess.PIPE).stdout.splitlines()
    file = next(line for line in lines if line.startswith("--- ")).removeprefix("--- tinyvrnn/").strip()
    changed = [line for line in lines if not line.startswith(("--- ", "+++ "))]
    before, after = (" ".join(line[1:].strip() for line in changed if line.startswith(sign)) for sign in "-+")
    return file, before, after


def listed():
    """{(file, line of code, mutated line)} of the survivors listed in docs/testing.md with a reason."""
    rows = re.findall(r"^\| `([a-z_/]+\.py)` \| `` (.*?) `` \| `` (.*?) `` \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    return {(file, before.replace("\\|", "|"), after.replace("\\|", "|")) for file, before, after in rows}


def report(name, found):
    """Print the room's row, and each survivor that is not listed. Returns whether the room passes."""
    lives = [mutant for mutant, status in found.items() if status in LIVES]
    late, share = sum(status == "timeout" for status in found.values()), 1 - len(lives) / len(found)
    print(f"| `{name}` | {len(found)} | {len(found) - len(lives) - late} | {late} | {len(lives)} | {share:.1%} |")
    unknown = [found for found in (difference(name, mutant) for mutant in lives) if found not in listed()]
    for file, before, after in unknown:
        print(f"  lives, and is not listed: {file}\n    - {before}\n    + {after}")
    return share >= LEAST and not (unknown and name != "sample")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = ", ".join(ROOMS)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"{names} (all of these), or sample")
    parser.add_argument("--again", action="store_true", help="start over, ignoring earlier results")
    options = parser.parse_args()
    if unknown := set(options.rooms) - {*ROOMS, "sample"}:
        parser.error(f"no room {', '.join(sorted(unknown))}: choose of {names}, sample")
    found = {name: run(name, options.again) for name in options.rooms or ROOMS}
    print("| room | mutants | killed | timed out | survived | killed or timed out |\n|---|---|---|---|---|---|")
    return 0 if all([report(name, statuses) for name, statuses in found.items()]) else 1


if __name__ == "__main__":
    sys.exit(main())
