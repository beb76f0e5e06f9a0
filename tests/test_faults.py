"""scripts/plant_faults.py has a fault for each module without mutation testing, and a test fails for each."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import plant_faults  # noqa: E402

sys.path.pop(0)
FAULTS = plant_faults.FAULTS


def test_every_module_with_code_has_a_fault_and_no_other():
    assert sorted(FAULTS) == plant_faults.modules()


@pytest.mark.parametrize("module", FAULTS)
def test_a_fault_can_still_be_planted_and_is_python(module):
    source = (ROOT / "tinyvrnn" / module).read_text(encoding="utf-8")
    planted = plant_faults.faulty(source, FAULTS[module], module)
    assert planted != source
    compile(planted, module, "exec")


@pytest.mark.parametrize("module", FAULTS)
def test_the_tests_that_guard_a_module_are_there(module):
    files = [name for name in plant_faults.guards(FAULTS[module]) if name.endswith(".py")]
    assert files and all((ROOT / file).is_file() for file in files)


def test_a_text_that_is_gone_is_said():
    fault = plant_faults.Fault("gone", "no such text", "", "test_style")
    with pytest.raises(ValueError, match="errors.py holds 'no such text' 0 times, not once"):
        plant_faults.faulty("", fault, "errors.py")


@pytest.mark.slow
def test_a_fault_that_no_test_sees_is_said(monkeypatch, capsys):
    """A changed comment is no fault: the script must not report a failing test."""
    harmless = plant_faults.Fault("harmless", '"""Atomic writes', '"""The files that', "test_data_table")
    monkeypatch.setitem(FAULTS, "io/files.py", harmless)
    assert plant_faults.main(["io/files.py"]) == 1
    assert "GREEN" in capsys.readouterr().out


@pytest.mark.slow
def test_a_fault_that_a_test_sees_is_found(capsys):
    assert plant_faults.main(["course/progress.py"]) == 0
    out = capsys.readouterr().out
    assert "tests/test_course.py::" in out and "1 of 1 faults found" in out


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_fault_is_found():
    assert plant_faults.main([]) == 0
