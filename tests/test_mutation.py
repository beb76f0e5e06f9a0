"""Mutation testing (`make mutation`): its list of survivors matches the code, and the mutants of a sample are killed.

Catches: a survivor whose line is no longer in the code, one without a reason, and tests that no longer notice mistakes.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import mutation  # noqa: E402

sys.path.pop(0)


def squeezed(text):
    return "".join(text.split())


def test_survivors_are_listed_in_the_form_that_is_read():
    rows = [
        line
        for line in mutation.PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and "`` |" in line
    ]
    assert len(rows) == len(mutation.listed()) > 0


@pytest.mark.parametrize("file, before, after", sorted(mutation.listed()))
def test_the_line_of_each_listed_survivor_is_in_the_code(file, before, after):
    assert squeezed(before) in squeezed((ROOT / "tinyvrnn" / file).read_text(encoding="utf-8"))


def test_a_room_has_files_and_tests_that_exist():
    for room in (*mutation.ROOMS.values(), mutation.SAMPLE):
        for pattern in room.paths.split():
            assert list((ROOT / "tinyvrnn").glob(pattern)), pattern
        for name in room.tests.split():
            assert (ROOT / "tests" / f"test_{name}.py").exists(), name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_of_a_sample_of_mutants_at_least_95_percent_die():
    pytest.importorskip("mutmut", reason="needs mutmut, which runs where there is os.fork")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "mutation.py"), "sample", "--again"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
