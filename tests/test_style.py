"""Style: `ruff check` finds nothing (`make lint`)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUFF = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")


@pytest.mark.skipif(RUFF is None, reason="ruff is not on the path")
def test_ruff_has_nothing_to_say():
    root = Path(__file__).parent.parent
    done = subprocess.run([RUFF, "check", str(root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
