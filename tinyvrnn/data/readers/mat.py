"""A program that writes the checked piano rolls of a .mat as a .npz to standard output, or a refusal to standard error.

`read_mat` runs it as another process, because one wrong byte in a file can make scipy's reader crash its process. It
imports nothing else of the package, so it starts fast. Exit code: 0 done, REFUSED refused, any other a damaged file.
"""

import io
import sys

import numpy as np

SPLITS, KEYS, REFUSED = ("train", "valid", "test"), 88, 3


def main(path, name, memory, most_steps):
    """Write train (steps, 88) uint8, train_lengths (N,), and so on for each split.

    memory: limit of the process's address space in bytes. most_steps: limit of the steps of all splits together.
    """
    limit_memory(int(memory))
    from scipy.io import loadmat

    try:
        contents = loadmat(path, variable_names=[f"{s}data" for s in SPLITS])
    except NotImplementedError:
        refuse(f"{name} is a .mat of version 7.3, which is not read: save it with -v7")
    missing = [f"{s}data" for s in SPLITS if f"{s}data" not in contents]
    if missing:
        refuse(f"{name} has no {' and no '.join(missing)}, but traindata, validdata and testdata are needed together")
    arrays, steps = {}, 0
    for split in SPLITS:
        several = matrices(contents[f"{split}data"])
        steps += sum(len(x) for x in several if isinstance(x, np.ndarray) and x.ndim)
        if steps > int(most_steps):
            refuse(f"{name} holds more than {int(most_steps):,} steps, too many for a .mat: save it as .npz")
        rolls = of_matrices(several, f"{split}data of {name}")
        arrays |= {split: np.concatenate(rolls), f"{split}_lengths": np.array([len(roll) for roll in rolls])}
    np.savez(stored := io.BytesIO(), **arrays)
    sys.stdout.buffer.write(stored.getvalue())


def limit_memory(most):
    """Make allocations beyond `most` bytes fail, on systems that support it (Linux)."""
    if sys.platform.startswith("linux"):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))


def refuse(sentence):
    """End the program with a sentence for the user."""
    print(sentence, file=sys.stderr)
    raise SystemExit(REFUSED)


def matrices(value):
    """A list of the matrices in a cell array or an array (N, T, 88); a single matrix (T, 88) as a list of one."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return list(value.ravel())
    return list(value) if isinstance(value, np.ndarray) and value.ndim == 3 else [value]


def of_matrices(values, where):
    """The matrices as uint8; refuses the first that is not a piano roll."""
    if not values:
        refuse(f"{where} is empty, but at least one matrix (T, {KEYS}) is needed")
    for i, x in enumerate(values):
        if not (isinstance(x, np.ndarray) and x.dtype.kind in "buif" and x.ndim == 2 and x.shape[1] == KEYS):
            found = f"{x.dtype} {x.shape}" if type(x) is np.ndarray else type(x).__name__
            refuse(f"{where}: matrix {i} is {found:.60}, but numbers (T, {KEYS}), a column for each key, are needed")
        if not ((x == 0) | (x == 1)).all():
            refuse(f"{where}: matrix {i} holds numbers other than 0 and 1, but a key is up or down")
    return [x.astype(np.uint8) for x in values]


if __name__ == "__main__":
    main(*sys.argv[1:])
