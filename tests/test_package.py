"""What is built and what is said about installing: extras, metadata, links, and commands without make.

Catches: an extra that a message names and setup.cfg lacks; a name that no registry has; a README whose pictures an
index cannot show; a file that the sdist leaves out; a command for Windows that differs from its target of make.
`make dist` builds both files and tries them.
"""

import configparser
import fnmatch
import re
import sys
from pathlib import Path

import pytest

import tinyvrnn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import dist  # noqa: E402

CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")
EXTRAS = CONFIG["options.extras_require"]
REPOSITORY = "https://example.org/owner/name"
SPEAKING = [
    path
    for pattern in (
        "*.md",
        "Makefile",
        ".github/**/*.yml",
        "benchmarks/*.*",
        "docs/**/*.md",
        "notebooks/**/*.*",
        "**/*.py",
    )
    for path in ROOT.glob(pattern)
    if path.is_file() and path.relative_to(ROOT).parts[0] not in (".venv", "build", "dist", "mutants")
]


def lines(text):
    return {re.split("[>=<]", line.strip())[0] for line in text.strip().splitlines()}


def test_every_extra_that_is_named_exists_and_no_registry_is():
    named = set()
    for path in SPEAKING:
        text = path.read_text(encoding="utf-8", errors="replace")
        assert path == Path(__file__) or not re.search(r"tinyvrnn\[[a-z]|pip install [\"']?tinyvrnn\b(?!-)", text), path
        found = re.findall(r"""\.(?:whl)?\[([a-z0-9,]+)\]\\?["']|how_to_install\(["'](\w+)["']|installed-(\w+)""", text)
        named |= {extra for several in found for one in several for extra in one.split(",") if extra}
    assert named <= set(EXTRAS) and {"course", "teach", "music", "scipy", "bench", "dist", "cuda13"} <= named


def test_a_student_needs_less_than_an_instructor():
    assert lines(EXTRAS["course"]) == {"jupyterlab", "ipywidgets"}
    assert lines(EXTRAS["teach"]) == lines(EXTRAS["course"]) | {"nbgrader", "nbclient", "jupytext", "nbconvert"}
    assert lines(EXTRAS["teach"]) < lines(EXTRAS["test"])


def test_without_make_the_commands_are_the_same():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipes = dict(re.findall(r"^([a-z]+):[^\n]*\n\t([^\n]+)", makefile, re.MULTILINE))
    twins = re.findall(
        r"^(python -m .*?) +# make (\w+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {target for _, target in twins} == {"demo", "test", "lab"}
    for command, target in twins:
        assert recipes[target] == command.replace("python", "$(BIN)/python", 1)


def test_an_index_shows_the_readme_with_its_pictures_and_links():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)#]+)[^)]*\)", dist.with_absolute_links(text, REPOSITORY))
    assert all(address.startswith("https://") for _, address in links)
    ours = [(mark, address) for mark, address in links if address.startswith(REPOSITORY)]
    for mark, address in ours:
        kind, tag, name = address.removeprefix(f"{REPOSITORY}/").split("/", 2)
        assert (kind, tag) == ("raw" if mark else "blob", f"v{tinyvrnn.__version__}") and (ROOT / name).exists()
    assert len(ours) > 20 and sum(bool(mark) for mark, _ in ours) == 3


def test_the_metadata_names_the_repository_that_is_given():
    made = configparser.ConfigParser()
    made.read_string(dist.with_urls((ROOT / "setup.cfg").read_text(encoding="utf-8"), REPOSITORY))
    assert f"Source = {REPOSITORY}\n" in made["metadata"]["project_urls"]
    assert "arxiv.org" in made["metadata"]["project_urls"] and CONFIG["metadata"]["author"]


def test_the_sdist_takes_every_folder_and_file_of_the_checkout():
    commands = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines()]
    taken = [pattern for command, *patterns in commands if command in ("graft", "include") for pattern in patterns]
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    built = [
        "tinyvrnn",
        "setup.cfg",
        "pyproject.toml",
        "LICENSE",
        "PKG-INFO",
        "MANIFEST.in",
        ".git",
        ".hypothesis",
        "mutants",
    ]
    for name in (path.name for path in ROOT.iterdir()):
        assert any(fnmatch.fnmatch(name, pattern) for pattern in taken + ignored + built), name


@pytest.mark.parametrize(
    ("name", "is_answer"),
    [
        ("tests/answers/ch01.py", True),
        ("notebooks/solutions/01.ipynb", True),
        ("notebooks/src/01.py", True),
        ("tinyvrnn-0.1.0.data/data/share/tinyvrnn/notebooks/01.ipynb", False),
        ("tinyvrnn/course/answers.py", True),
        ("tinyvrnn/course/exercises/ch01.py", False),
        ("tinyvrnn-0.1.0.dist-info/RECORD", False),
    ],
)
def test_answers_are_known_in_a_wheel(name, is_answer):
    assert bool(dist.ANSWERS.search(name)) is is_answer
