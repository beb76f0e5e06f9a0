"""The source of one function, for a cell that discusses it."""

import inspect
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Source:
    """What `show` returns: Markdown in a notebook, plain text elsewhere."""

    def __init__(self, text, where):
        self.text, self.where = text, where

    def __repr__(self):
        return f"# {self.where}\n{self.text}"

    def _repr_markdown_(self):
        return f"```python\n{self.text}\n```\n*{self.where}*"


def show(function):
    """The source of a function or class of the package, as it stands, with its file. Raises TypeError for others."""
    text = textwrap.dedent(inspect.getsource(function)).rstrip()
    file = Path(inspect.getsourcefile(function)).resolve()
    return Source(text, file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name)
