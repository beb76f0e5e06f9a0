"""Show the source of one function in a notebook."""

import inspect
import textwrap
from pathlib import Path

from tinyvrnn.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


class Source:
    """Source code that displays as Markdown in a notebook and as plain text elsewhere."""

    def __init__(self, text, where):
        self.text, self.where = text, where

    def __repr__(self):
        return f"# {self.where}\n{self.text}"

    def _repr_markdown_(self):
        return f"```python\n{self.text}\n```\n*{self.where}*"


def show(function):
    """The source of a Python function or class, with its file. Raises ConfigError for anything else.

    Of a decorated function it is the plain formula, without the decorator: that of a fused one holds a device's code.
    """
    decorated, function = hasattr(function, "__wrapped__"), inspect.unwrap(function)
    try:
        text = textwrap.dedent(inspect.getsource(function)).rstrip()
    except (TypeError, OSError):
        what = f"got {function!r}, which has no source: look for it in the documentation."
        raise ConfigError(f"show takes a function or class written in Python, {what}") from None
    if decorated:
        text = text[text.index("def ") :]
    file = Path(inspect.getsourcefile(function)).resolve()
    return Source(text, file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name)
