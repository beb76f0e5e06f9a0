"""python tests/checkpoints/make.py FOLDER: a small checkpoint of numbers that everybody can say.

version-1/checkpoint.npz was written so by tinyvrnn 0.1.0, and stays as it is: later versions have to read it. A later
form of checkpoint gets a folder of its own beside it.
"""

import sys
from pathlib import Path

import numpy as np

import tinyvrnn as tv

FOLDER = Path(__file__).parent / "version-1"
SHA256 = "f92c7999a9b5ba4361b4ff03eb0f800cf6edfbb80c4ff6b6bfb8096835f8b7c9"
CONFIG = {
    "x_dim": 2,
    "h_dim": 3,
    "z_dim": 1,
    "features": 4,
    "layers": 1,
    "cell": "gru",
    "posterior": "filtering",
    "likelihood": "gaussian",
    "dtype": "float32",
    "seed": 5,
}


def theta(size):
    """Eighths from -1 to 1, which are the same on every machine."""
    return ((np.arange(size) % 17 - 8) / 8).astype(np.float32)


def main(folder):
    model = tv.VRNN(**CONFIG)
    model.theta[...] = theta(model.theta.size)
    model.mean, model.std, model.units = np.array([0.5, -1.25]), np.array([2.0, 0.125]), "nats of something"
    tv.save(model, folder, step=7, data="vowels", steps=29)


if __name__ == "__main__":
    main(sys.argv[1])
