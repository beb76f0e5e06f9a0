"""`make gpu` from end to end, on the test double of CuPy: every stage but the benchmarks that need PyTorch.

Catches: a stage that does not start or that fails, a missing report, a failure that the exit code hides, wheels that
are not found, and a line that names CuPy and has never run.
"""

import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "gpu.py"


@pytest.fixture
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_stage_runs_on_the_double(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, "--double", "--out", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + (tmp_path / "report.md").read_text()
    results = json.loads((tmp_path / "results.json").read_text())
    outcomes = {name: result["outcome"] for name, result in results.items()}
    peers = {"step", "memory", "rnn", "sampling", "elbo", "compile"}
    assert {name: outcome for name, outcome in outcomes.items() if name not in peers} == dict.fromkeys(
        ("gradcheck", "parity", "launches", "suite"), "ok"
    )
    assert {outcomes[name] for name in peers} <= {"ok", "left out: needs torch"}
    assert re.search(r"\n[5-9]\d\d passed", (tmp_path / "report.md").read_text())
    assert "EXCEEDED" not in (tmp_path / "parity.log").read_text()


def test_a_stage_that_fails_or_hangs_is_said_and_ends_with_exit_code_1(gpu, tmp_path, monkeypatch, capsys):
    wrong = {
        "fails": gpu.Stage([sys.executable, "-c", "print('why'); raise SystemExit(3)"], 1),
        "hangs": gpu.Stage([sys.executable, "-c", "while True: pass"], 0.01),
        "works": gpu.Stage([sys.executable, "-c", "pass"], 1),
        "needs": gpu.Stage([sys.executable, "-c", "pass"], 1, "no-such-package"),
    }
    monkeypatch.setattr(gpu, "stages", lambda *_: wrong)
    assert gpu.main(["--double", "--out", str(tmp_path)]) == 1
    report = (tmp_path / "report.md").read_text()
    for expected in ("| fails | FAILED with exit code 3 |", "| hangs | FAILED: over its limit of 0.01 minutes |",
                     "| works | ok |", "| needs | left out: needs no-such-package |", "```\nwhy\n```"):  # fmt: skip
        assert expected in report
    assert gpu.main(["--double", "--out", str(tmp_path), "works"]) == 0
    assert set(json.loads((tmp_path / "results.json").read_text())) == set(wrong), "earlier results stay"
    with pytest.raises(SystemExit):
        gpu.main(["--out", str(tmp_path), "stepp"])
    assert "unknown stage stepp: choose from fails" in capsys.readouterr().err


def test_wheels_are_unpacked_for_what_is_missing_only(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "WHEELS", tmp_path)
    for name in ("tomli_w", "tqdm"):
        with zipfile.ZipFile(tmp_path / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
    monkeypatch.setattr(gpu, "is_missing", lambda package: package == "tomli_w")
    variables = gpu.environment("cupy", True, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out" / "site").iterdir()] == ["tomli_w"]
    paths = variables["PYTHONPATH"].split(":")
    assert paths[:3] == [str(ROOT), str(tmp_path / "out" / "site"), str(ROOT / "tests" / "double")]
