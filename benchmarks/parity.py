"""How far a device's numbers are from NumPy's: noise, gradients of every kind of model, and a short training.

    python benchmarks/parity.py --backend cupy

Prints the largest difference relative to the largest entry beside its bound, and ends with exit code 1 where one is
exceeded. Kernels are compared by tests/test_kernels.py.
"""

import sys
from itertools import product

import numpy as np
import report

import tinyvrnn as tv
from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import get_backend, to_host
from tinyvrnn.gradcheck import rel_error

BOUNDS = {  # relative to the largest entry
    "noise": {"float32": 1e-5, "float64": 1e-13},
    "gradient": {"float32": 1e-4, "float64": 1e-11},
    "sample": {"float32": 1e-3, "float64": 1e-10},
    "training": {"float32": 1e-3, "float64": 1e-8},
}
VRNN = {"x_dim": 4, "h_dim": 20, "z_dim": 3}
KINDS = {
    "VRNN": (tv.VRNN, VRNN),
    "VRNN lstm": (tv.VRNN, VRNN | {"cell": "lstm"}),
    "VRNN smoothing": (tv.VRNN, VRNN | {"posterior": "smoothing"}),
    "RNN": (tv.RNN, {"x_dim": 4, "h_dim": 20}),
    "VAE": (tv.VAE, {"x_dim": 4, "z_dim": 3, "features": 20}),
}
T, B = 12, 10


def difference(found, expected):
    """The largest difference relative to the largest entry."""
    return float(rel_error(to_host(found), to_host(expected)))


def noises(backend, dtype):
    for name, make in (("normal", noise.standard_normal), ("uniform", noise.uniform)):
        found, expected = (make((1000, 999), dtype, 3, "parity", 5, get_backend(b)) for b in (backend, "numpy"))
        yield "noise", name, difference(found, expected)


def models(backend, dtype):
    """The gradient of one ragged batch, and samples."""
    lengths = np.random.default_rng(0).integers(1, T + 1, B)
    lengths[0] = T
    for (name, (kind, options)), likelihood in product(KINDS.items(), ("bernoulli", "gaussian", "gmm")):
        options = options | {"likelihood": likelihood, "dtype": dtype}
        pair = [kind(**options, backend=b) for b in (backend, "numpy")]
        draw = np.random.default_rng(1)
        x, eps = draw.random((T, B, 4)).round(), draw.standard_normal((T, B, pair[0].z_dim))
        yield "gradient", f"{name}, {likelihood}", difference(*(m.loss_and_grads(x, lengths, eps)[1] for m in pair))
        if likelihood == "gaussian":
            yield "sample", f"{name}, {likelihood}", difference(*(m.sample(50, 10, seed=1) for m in pair))


def training(backend, dtype):
    """The validation ELBO after two epochs of `digits8`."""
    data, elbos = tv.load_data("digits8"), []
    for b in (backend, "numpy"):
        model = tv.VRNN(data.train.x_dim, 32, 4, dtype=dtype, backend=b)
        elbos.append(tv.train(model, data, progress=False, epochs=2, workers=1)[-1]["valid"]["elbo"])
    yield "training", "validation ELBO", difference(*map(np.array, elbos))


def compare(backend):
    """A dict for each comparison."""
    for dtype, part in product(("float32", "float64"), (noises, models, training)):
        for what, name, value in part(backend, dtype):
            bound = BOUNDS[what][dtype]
            yield {"what": what, "of": name, "dtype": dtype, "difference": value, "bound": bound, "ok": value <= bound}


def rows(results):
    for result in results:
        yield [
            ("what", "", result["what"]),
            ("of", "", result["of"]),
            ("dtype", "", result["dtype"]),
            ("difference", "relative", f"{result['difference']:.1e}"),
            ("bound", "relative", f"{result['bound']:.0e}{'' if result['ok'] else '  EXCEEDED'}"),
        ]


def main(arguments=None):
    args = report.parser(__doc__, backends=("cupy", "strict"), workers=False).parse_args(arguments)
    if report.is_unusable(args.backend):
        return 2
    about, results = report.begin(args.backend), list(compare(args.backend))
    print(f"\nDistance from NumPy.\n\n{report.table(list(rows(results)))}")
    report.save(args.out, "parity", about, args, results)
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
