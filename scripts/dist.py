"""Builds the sdist and the wheel into dist/, checks them, and tries them in fresh environments.

    python scripts/dist.py                        build, check, and try with the lowest and the newest dependencies
    python scripts/dist.py --tests tests/         the same with all tests; the default is a few of each kind
    python scripts/dist.py --no-trials            build and check only (a minute)
    python scripts/dist.py --repository https://github.com/OWNER/NAME

A package index has no files beside the README. Only with --repository are its links and pictures absolute there, at the
tag of this version, and does the metadata name the repository. What git does not track is not in either file.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST, WORK = ROOT / "dist", ROOT / "build" / "dist"
BIN = "Scripts" if sys.platform == "win32" else "bin"
LOWEST, NEWEST = "lowest-direct", "highest"  # uv's names
TESTS = ["tests/test_cli.py", "tests/test_load.py", "tests/test_pairs.py", "tests/test_submissions.py"]
ANSWERS = re.compile(r"answers|solutions|notebooks/src|tests?/")  # belongs in no wheel


def run(*command, folder=ROOT):
    """Run a command; a failure ends this program with its exit code."""
    print("$", *command, flush=True)
    done = subprocess.run([str(word) for word in command], cwd=folder)
    if done.returncode:
        sys.exit(done.returncode)


def tracked():
    """The files of the working tree that git tracks, relative to it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def stage(files, repository):
    """A copy of the tracked files, so that nothing else gets into a package; with absolute links for a repository."""
    shutil.rmtree(WORK, ignore_errors=True)
    for name in files:
        (WORK / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, WORK / "source" / name)
    if repository:
        readme, config = WORK / "source" / "README.md", WORK / "source" / "setup.cfg"
        readme.write_text(with_absolute_links(readme.read_text(encoding="utf-8"), repository), encoding="utf-8")
        config.write_text(with_urls(config.read_text(encoding="utf-8"), repository), encoding="utf-8")
    return WORK / "source"


def version():
    return re.search(r'__version__ = "(.+)"', (ROOT / "tinyvrnn" / "version.py").read_text(encoding="utf-8"))[1]


def with_absolute_links(text, repository):
    """A README whose relative links and pictures point into the repository, at the tag of this version."""

    def absolute(match):
        kind = "raw" if match[1].startswith("!") else "blob"
        return f"{match[1]}({repository}/{kind}/v{version()}/{match[2]})"

    return re.sub(r"(!?\[[^\]]*\])\((?!https?:|#)([^)]+)\)", absolute, text)


def with_urls(text, repository):
    """A setup.cfg that names the repository."""
    pages = {"Source": repository, "Changelog": f"{repository}/blob/v{version()}/CHANGELOG.md"}
    lines = "".join(f"\n    {name} = {page}" for name, page in pages.items())
    return text.replace("\nproject_urls =", f"\nproject_urls ={lines}", 1)


def build(source):
    """Build the sdist, and the wheel from it. Returns both paths."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, source)
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    return sdist, wheel


def check(sdist, wheel, files):
    """Check the form of both, that the sdist has every file, and the wheel the package without answers."""
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    run(sys.executable, "-m", "check_wheel_contents", wheel)
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        installed = set(archive.namelist())
    wrong = [f"not in the sdist: {name}" for name in files if name not in packed]
    wrong += [f"not in the wheel: {n}" for n in files if n.startswith("tinyvrnn/") and n not in installed]
    wrong += [f"in the wheel: {name}" for name in installed if ANSWERS.search(name)]
    if wrong:
        sys.exit("\n".join(wrong))


def try_out(resolution, source, sdist, wheel, tests):
    """Install the wheel with its lowest or newest dependencies, train, and run tests of the unpacked sdist."""
    place, uv = WORK / resolution, [sys.executable, "-m", "uv"]
    python, pins = place / "env" / BIN / "python", place / "pins.txt"
    run(*uv, "venv", "--quiet", "--python", sys.executable, place / "env")
    resolve = ["pip", "compile", "--quiet", "--python", python, "--resolution", resolution, "--extra", "test"]
    run(*uv, *resolve, "--no-header", "--no-annotate", "--output-file", pins, source / "setup.cfg")
    run(*uv, "pip", "install", "--quiet", "--python", python, "--constraint", pins, f"{wheel}[test]")
    run(python, "-m", "tinyvrnn", "train", "digits8", "--epochs", "1", "--out", place / "run", folder=place)
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    pytest = [python, "-m", "pytest", "-q", *(["-W", "ignore"] if resolution == LOWEST else [])]  # old packages warn
    run(*pytest, "--collect-only", "-qq", "-m", "", folder=place / sdist.name.removesuffix(".tar.gz"))
    run(*pytest, "-x", "-n", "1", *tests, folder=place / sdist.name.removesuffix(".tar.gz"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", metavar="URL", help="where the tag of this version is")
    parser.add_argument("--no-trials", action="store_true", help="do not install anything")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="tests that the trials run")
    a = parser.parse_args()
    files = tracked()
    source = stage(files, a.repository and a.repository.rstrip("/"))
    sdist, wheel = build(source)
    check(sdist, wheel, files)
    for resolution in () if a.no_trials else (LOWEST, NEWEST):
        try_out(resolution, source, sdist, wheel, a.tests)
    print(f"dist/{sdist.name} and dist/{wheel.name} are ready{'' if a.repository else ', without absolute links'}")


if __name__ == "__main__":
    main()
