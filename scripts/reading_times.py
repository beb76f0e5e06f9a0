"""How long each notebook takes: reading, exercises, and waiting for its cells.

    python scripts/reading_times.py          prints the minutes
    python scripts/reading_times.py --write  states them, rounded to 5, in notebooks/src/ and docs/instructors.md
    python scripts/reading_times.py --run    measures SECONDS again

Then `python scripts/build_notebooks.py --keep`. tests/test_notebooks.py holds the stated times within 5 minutes.
"""

import os
import re
import sys
import time
from pathlib import Path

import nbformat

from tinyvrnn.course import EXERCISES
from tinyvrnn.course.exercises import chapter_of

ROOT = Path(__file__).resolve().parent.parent
PLAN = ROOT / "docs" / "instructors.md"
STATED = re.compile(r"\*It takes\*([^.;]*)")
ASIDE = r"\b(\d\d) \(about ([^;,]*)"  # of a notebook outside the plan
WORDS, LINES, FORMULAS, PICTURES = 200, 15, 1, 3  # read in a minute; formulas: those of a line of their own
EXERCISE = {"predict": 5, "bug": 10, "write": 12, "derive": 15}  # minutes, with the tries
SECONDS = {  # to run all cells, as --run prints them: by the clock, or of processor where other load makes that less
    **{"00": 34, "01": 10, "02": 9, "03": 12, "04": 5, "05": 14, "06": 3, "07": 6, "08": 55, "09": 5, "10": 6},
    **{"11": 15, "12": 63, "13": 8, "14": 27},
}


def minutes(number):
    """Minutes that a student needs for the notebook of a two-digit number."""
    exercises = sum(EXERCISE[exercise.kind] for key, exercise in EXERCISES.items() if chapter_of(key) == number)
    return exercises + SECONDS[number] / 60 + sum(_reading(cell) for cell in _cells(number))


def _cells(number):
    (path,) = (ROOT / "notebooks" / "solutions").glob(f"{number}_*.ipynb")
    return nbformat.read(path, as_version=4).cells


def _reading(cell):
    """Minutes for one cell: its text, or its code, if it is not folded, and the code and pictures that it shows."""
    if cell.cell_type == "markdown":
        formulas = cell.source.count("$$") / 2
        text = re.sub(r"\$\$.*?\$\$|\]\([^)]*\)", "", cell.source, flags=re.DOTALL)
        return len(re.sub(r"\$.*?\$", "x", text, flags=re.DOTALL).split()) / WORDS + formulas / FORMULAS
    code = re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", "", cell.source, flags=re.DOTALL)
    code = "" if "hide-input" in cell.metadata.get("tags", []) else code
    data = [output.data for output in cell.outputs if "data" in output]
    shown = "\n".join(shown.get("text/markdown", "") for shown in data)
    lines = [line for line in f"{code}\n{shown}".splitlines() if line.strip()]
    return len(lines) / LINES + sum("image/png" in shown for shown in data) / PICTURES


# ---- what is stated --------------------------------------------------------------------------------------------------


def stated(path):
    """The minutes that a notebook's source states."""
    return _minutes(STATED.search(path.read_text(encoding="utf-8"))[1])


def in_plan():
    """{("00", "01"): minutes, ...} of docs/instructors.md."""
    text = PLAN.read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| ([\d, ]+) \| ([^|]+) \|", text, re.MULTILINE)
    return {tuple(numbers.split(", ")): _minutes(told) for numbers, told in rows + re.findall(ASIDE, text)}


def _minutes(text):
    hours, rest = re.search(r"(\d+) h\b", text), re.search(r"(\d+) min", text)
    return 60 * int(hours[1] if hours else 0) + int(rest[1] if rest else 0)


def in_words(number_of_minutes):
    hours, rest = divmod(5 * round(number_of_minutes / 5), 60)
    return " ".join([f"{hours} h"] * bool(hours) + [f"{rest} min"] * bool(rest))


def write(paths):
    for path in paths:
        text = STATED.sub(f"*It takes* about {in_words(minutes(path.name[:2]))}", path.read_text(encoding="utf-8"), 1)
        long = re.compile(r"^(?=.{121})(# .*) (\*It takes\*)", re.MULTILINE)
        path.write_text(long.sub(r"\1\n# \2", text), encoding="utf-8")
    told = {path.name[:2]: in_words(minutes(path.name[:2])) for path in paths}
    plan = re.sub(ASIDE, lambda m: f"{m[1]} (about {told[m[1]]}", PLAN.read_text("utf-8"))
    for numbers in in_plan():
        total = in_words(sum(_minutes(told[number]) for number in numbers))
        row = ", ".join(numbers)
        plan = re.sub(rf"^(\| \d+ \| {row} \|) [^|]+ \|", rf"\1 {total} |", plan, flags=re.MULTILINE)
    PLAN.write_text(plan, encoding="utf-8")


def measure(build):
    for path in build.sources():
        before = time.perf_counter(), sum(os.times()[2:4])
        build.executed(build.read(path))
        after = time.perf_counter(), sum(os.times()[2:4])
        print(f'"{path.name[:2]}": {min(b - a for a, b in zip(before, after)):.0f}', flush=True)


def main():
    import build_notebooks as build

    if "--run" in sys.argv:
        measure(build)
    elif "--write" in sys.argv:
        write(build.sources())
    for path in build.sources():
        print(f"{path.stem}: {minutes(path.name[:2]):.0f} min; stated: {stated(path)} min")


if __name__ == "__main__":
    main()
