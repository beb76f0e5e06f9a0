"""A run folder: config.toml, metrics.jsonl, checkpoint.npz and the pictures of one training run."""

import json
from pathlib import Path

import tomli_w

from tinyvrnn.errors import CheckpointError
from tinyvrnn.training import checkpoint

FILES = ("config.toml", "metrics.jsonl", checkpoint.FILE, "curves.png", "samples.png", "reconstructions.png")


class Run:
    """Writes one run into `folder`. config: nested dict of plain values; those that are None are left out.

    Raises CheckpointError where the folder holds another run (unless overwrite) or can't be written.
    """

    def __init__(self, folder, config, overwrite=False):
        self.folder = Path(folder)
        taken = [name for name in FILES if (self.folder / name).exists()]
        if taken and not overwrite:
            raise CheckpointError(
                f"{folder} already holds a run ({', '.join(taken)}): choose another --out, or give --overwrite."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in taken:
                (self.folder / name).unlink()
            text = tomli_w.dumps(_without_none(config)).encode()
            checkpoint.write_atomically(self.folder / "config.toml", lambda file: file.write(text))
        except OSError as error:
            raise CheckpointError(f"Cannot write a run into {folder}: {error.strerror or error}.") from error

    def record(self, record):
        """Appends one line to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def picture(self, name, figure):
        """Writes a matplotlib Figure as folder/name."""
        checkpoint.write_atomically(self.folder / name, lambda file: figure.savefig(file, format="png"))


def _without_none(config):
    if not isinstance(config, dict):
        return config
    return {key: _without_none(value) for key, value in config.items() if value is not None}
