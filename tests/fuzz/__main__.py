"""python -m fuzz [READER ...] [--seconds N] [--tries N] [--seed N] [--engine atheris | random]: reads invalid files
until one does harm.

Each reader gets N seconds or tries. Files come from atheris, a coverage-guided fuzzer, if it is installed
(`pip install ".[fuzz]"`, Linux), else from the changes of damage.py. A file that fails is saved as
fuzz-READER.bin in the working folder, and the exit code is 1.
"""

import argparse
import subprocess
import sys
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz import damage

try:
    import atheris
except ImportError:  # there are wheels for Linux alone
    atheris = None
WATCHED = ["tinyvrnn.data.readers", "tinyvrnn.io.npz", "tinyvrnn.runs.checkpoint", "zipfile", "pickletools"]
with atheris.instrument_imports(include=WATCHED) if atheris else nullcontext():
    from fuzz.targets import TARGETS, attempt


def main():
    a = _arguments()
    if len(a.readers) > 1:  # a process each, as atheris ends the one that it runs in
        return max(subprocess.call([sys.executable, "-m", "fuzz", name, *a.rest]) for name in a.readers)
    (name,) = a.readers
    print(f"{name}: {a.seconds} s of {a.engine}", flush=True)
    with TemporaryDirectory() as folder:
        # What reads a .mat is a process of its own, of which atheris sees nothing.
        return (_by_atheris if a.engine == "atheris" and name != "mat" else _by_random)(name, folder, a)


def _by_random(name, folder, a):
    target, begun, tries = TARGETS[name], time.monotonic(), 0
    for content in islice(damage.mutations(target.make(), target.words, a.seed), a.tries):
        if time.monotonic() - begun > a.seconds:
            break
        try:
            attempt(target, folder, content)
        except BaseException:
            Path(f"fuzz-{name}.bin").write_bytes(content)
            print(f"{name}: failed at try {tries}, see fuzz-{name}.bin", flush=True)
            raise
        tries += 1
    print(f"{name}: {tries} files, none did harm", flush=True)
    return 0


def _by_atheris(name, folder, a):
    target = TARGETS[name]
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    (corpus / "genuine").write_bytes(target.make())
    words = Path(folder) / "words"
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words if len(word) < 60)
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    (place := Path(folder) / "place").mkdir()
    limits = [f"-max_total_time={a.seconds}", *([f"-runs={a.tries}"] if a.tries else []), "-max_len=4096"]
    libfuzzer = [f"-seed={a.seed + 1}", f"-dict={words}", f"-artifact_prefix=fuzz-{name}-", "-verbosity=0", *limits]
    atheris.Setup([sys.argv[0], *libfuzzer, str(corpus)], lambda content: attempt(target, place, content) and None)
    atheris.Fuzz()


def _arguments():
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--tries", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=["atheris", "random"], default="atheris" if atheris else "random")
    a = parser.parse_args()
    a.readers = a.readers or list(TARGETS)
    a.rest = ["--seconds", str(a.seconds), "--seed", str(a.seed), "--engine", a.engine]
    a.rest += ["--tries", str(a.tries)] if a.tries else []
    return a


if __name__ == "__main__":
    sys.exit(main())
