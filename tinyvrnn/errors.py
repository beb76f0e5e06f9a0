"""The exceptions of tinyvrnn. A message is one sentence: what was given, what was expected, what to do."""

import difflib
import importlib
import sys
import traceback
from numbers import Integral, Real
from pathlib import Path

SIZE = sys.maxsize.bit_length()  # of the largest size that this machine can count: 63, in a browser 31


class TinyvrnnError(Exception):
    """Base of all errors that a user can fix; the command line prints the message and exits with code 2."""

    def __str__(self):
        return shown(super().__str__())


class DataError(TinyvrnnError, ValueError):
    """A data set, file or array that cannot be used as sequences."""


class ConfigError(TinyvrnnError, ValueError):
    """An invalid option or combination of options."""


class CheckpointError(TinyvrnnError, ValueError):
    """A run folder or checkpoint that is missing, damaged, foreign or already in use."""


class BackendError(TinyvrnnError, RuntimeError):
    """A backend that is not available or lacks memory, arrays of two backends together, or ranks that fail."""


class DivergedError(TinyvrnnError, ArithmeticError):
    """A training run whose loss is no longer a finite number."""


class GradientError(TinyvrnnError, AssertionError):
    """An analytic gradient that differs from the numeric one; names leaf, index and both numbers."""


def shown(text):
    """A text of unknown origin, such as the name of a file, with escapes for what a terminal could act on.

    These are control characters, other unprintable ones, and bytes that are not valid in the system's encoding.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def out_of_memory(error):
    """The message for a MemoryError; those of NumPy and CuPy state the size that was asked for."""
    what = str(error).rstrip(".") or "Out of memory"
    less = "a smaller model, --batch, -n or --draws, fewer --particles, --chunk, --recompute or --device-data no"
    return f"{what}: use {less}."


def counted(n, what):
    """A number of things in words: 1 step, 2 steps."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def is_number(value):
    """Whether a value is a real number. True and False do not count: where a number belongs, they are mistakes."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite(value):
    """Whether a value is a real number that a float can hold."""
    return is_number(value) and abs(value) <= sys.float_info.max


def check_whole(name, value, least=1, bits=SIZE):
    """`value` as an int. Raises ConfigError unless it is a whole number from `least` to 2**bits - 1."""
    if isinstance(value, Integral) and abs(value) >= 2**bits:  # it can have too many digits to print
        raise ConfigError(f"{name} must be a whole number from {least} to 2**{bits} - 1, got one beyond it.")
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def unknown_name(kind, name, known, otherwise=""):
    """The message for an unknown name, with the nearest known one, or all of them and what else can be done."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}{otherwise}."
    return f'Unknown {kind} "{name}": {hint}'


def of_user_code(error, *files):
    """`in f, line 3, with ValueError: ...` of an exception in a user's function: the last frame outside the package.

    files: the user's files, if they are known; a frame of another one does not count then.
    """
    package = str(Path(__file__).parent), str(Path(traceback.__file__).parent), "<frozen"
    frames = traceback.extract_tb(error.__traceback__)
    frames = [f for f in frames if (f.filename in files if files else not f.filename.startswith(package))]
    where = f"in {frames[-1].name}, line {frames[-1].lineno}, " if frames else ""
    if isinstance(error, SyntaxError):
        where = f"in line {error.lineno}, "
    return f"{where}with {type(error).__name__}: {getattr(error, 'msg', str(error)).strip().rstrip('.')}"


def is_word(name):
    """Whether `name` can be the name of a user's own cell or likelihood: letters, digits, - and _."""
    return isinstance(name, str) and name.isascii() and name.replace("-", "_").isidentifier()


def how_to_install(extra):
    """What to do about a library that comes with an extra: the end of a message."""
    return f'run pip install ".[{extra}]" in a checkout of tinyvrnn, or with its wheel for the dot'


def library(name, extra, what, otherwise=""):
    """The module `name`, which comes with an extra. Raises DataError if it is not installed. what: needs it."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):  # OSError: its C library is missing
        raise DataError(f"{what} needs {name}, which is not installed: {how_to_install(extra)}{otherwise}") from None


def how_to_register(kind):
    """What to do about the name of a cell or likelihood that is not the package's own: the end of a message."""
    return f"register it with tv.register_{kind}(...) first, or give --plugin"
