"""The exceptions of tinyvrnn. A message is one sentence for a person: what was given, what was expected, what to do."""

import difflib


class TinyvrnnError(Exception):
    """Base of all errors that a user can mend; the command prints the message and exits with code 2."""


class DataError(TinyvrnnError, ValueError):
    """A data set, file or array that cannot be used as sequences."""


class ConfigError(TinyvrnnError, ValueError):
    """An option or a combination of options that makes no model or no run."""


class CheckpointError(TinyvrnnError, ValueError):
    """A run folder or checkpoint that is missing, damaged, foreign or already in use."""


class BackendError(TinyvrnnError, RuntimeError):
    """A backend that is not there, or arrays of two backends in one operation."""


class DivergedError(TinyvrnnError, ArithmeticError):
    """A training run whose loss is no longer a finite number."""


class GradientError(TinyvrnnError, AssertionError):
    """An analytic gradient that differs from the numeric one; names leaf, index and both numbers."""


def unknown_name(kind, name, known, otherwise=""):
    """The sentence for a name that is not known, with the nearest that is, or all of them and what else can be done."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}{otherwise}."
    return f'Unknown {kind} "{name}": {hint}'


def is_word(name):
    """Whether `name` can be the name of a user's own cell or likelihood: letters, digits, - and _."""
    return isinstance(name, str) and name.isascii() and name.replace("-", "_").isidentifier()


def how_to_register(kind):
    """What a user does about the name of a cell or a likelihood that is none of the package's."""
    return f"register it with tv.register_{kind}(...) first, or give --plugin"
