"""A run folder: config.toml, metrics.jsonl, checkpoint.npz and the pictures of one training run."""

import json
import os
from contextlib import suppress
from pathlib import Path

import tomli_w

from tinyvrnn.errors import CheckpointError
from tinyvrnn.files import write_atomically
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
        self.config, self.begun = config, False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"Cannot write a run into {folder}: {error.strerror or error}.") from error
        if not os.access(self.folder, os.W_OK):
            raise CheckpointError(f"Cannot write a run into {folder}: the folder is read-only for you.")

    def begin(self):
        """Writes config.toml and clears what an older run left, but its checkpoint: the new one replaces that whole."""
        text = tomli_w.dumps(_without_none(self.config)).encode()
        write_atomically(self.folder / "config.toml", lambda file: file.write(text))
        for name in FILES:
            if name not in ("config.toml", checkpoint.FILE):
                (self.folder / name).unlink(missing_ok=True)
        self.begun = True

    def abandon(self):
        """Takes the folder away again where nothing was written into it."""
        with suppress(OSError):
            self.folder.rmdir()

    def record(self, record):
        """Appends one line to metrics.jsonl; the first one begins the run."""
        if not self.begun:
            self.begin()
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def picture(self, name, figure):
        """Writes a matplotlib Figure as folder/name."""
        write_atomically(self.folder / name, lambda file: figure.savefig(file, format="png"))


def _without_none(config):
    if not isinstance(config, dict):
        return config
    return {key: _without_none(value) for key, value in config.items() if value is not None}
