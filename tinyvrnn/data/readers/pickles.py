"""Pickles of lists of numbers, read without Python's unpickler, so that a file cannot call anything.

A pickle is a program for a machine with a stack and a memo. Python's machine calls whatever a file names. This one has
only the instructions for lists, tuples, dicts with string keys, strings and numbers, and builds NumPy's numbers itself.
`pickletools` disassembles the file and never returns an argument longer than the rest of the file.

Source: PEP 3154; the comments in Python's pickletools.
"""

import pickletools
import re
import warnings

import numpy as np

from tinyvrnn.errors import DataError
from tinyvrnn.io.npz import MEMORY

MOST = MEMORY // 128  # instructions, each of which creates at most one object
MARK = object()
MAKES = {  # instruction without an argument -> constructor of what it pushes
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "MARK": lambda: MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
VALUES = set(  # instructions whose argument is the value
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES".split()
)
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MEMO = {"PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"}
ALLOWED = {  # names that may be called, with NumPy's old and new module paths
    "numpy dtype": "dtype",
    "numpy._core.multiarray scalar": "scalar",
    "numpy.core.multiarray scalar": "scalar",
    "_codecs encode": "encode",  # how old protocols write bytes
}


def load(stored):
    """The object in a pickle, given as bytes. Raises DataError for forbidden contents, other exceptions for damage."""
    machine = _Machine()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in a damaged string warn
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stored)):
            if count > MOST:
                raise DataError(f"holds more than {MOST:,} objects, too many for a pickle: save it as .npz")
            machine.step(opcode.name, argument)
    (result,) = machine.stack
    return result


class _Name:
    """A function that a pickle names, one of ALLOWED."""

    def __init__(self, name):
        if name not in ALLOWED:
            raise DataError(
                f"holds {name.replace(' ', '.')!r:.60}, but only lists of numbers are read from a pickle, since "
                "it could run any code: save it as .json"
            )
        self.function = ALLOWED[name]


class _Dtype:
    """A NumPy dtype in a pickle: a code such as "i8", and a byte order."""

    def __init__(self, code):
        self.code, self.order = code, "="

    def number(self, stored):
        if not (re.fullmatch("b1|[iu][1248]|f[248]", self.code) and self.order in ("<", ">", "=", "|")):
            raise DataError(f"holds a number of type {self.code!r:.20}, but plain whole numbers are needed")
        stored = stored.encode("latin1") if isinstance(stored, str) else stored
        (number,) = np.frombuffer(stored, self.order.replace("|", "=") + self.code)
        return number


class _Machine:
    """The stack and the memo. An invalid program raises IndexError, TypeError, KeyError or ValueError."""

    def __init__(self):
        self.stack, self.memo = [], {}

    def step(self, name, argument):
        if name in VALUES:
            self.stack.append(argument)
        elif name in MAKES:
            self.stack.append(MAKES[name]())
        elif name in TUPLES:
            self.stack.append(tuple(self._pop(TUPLES[name])))
        elif name in MEMO or name == "MEMOIZE":
            self._remember(name, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise DataError(f"holds the instruction {name}, which lists of numbers do not need: save it as .json")
            method(argument)

    def _remember(self, name, place):
        if "GET" in name:
            self.stack.append(self.memo[place])
        else:
            self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def _pop(self, n):
        """Pop the last n values."""
        if n > len(self.stack):
            raise IndexError
        taken = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return taken

    def _from_mark(self):
        """Pop all values above the last mark, and the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
            if at < 0:
                raise IndexError
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def _top(self, kind):
        if type(self.stack[-1]) is not kind:
            raise TypeError
        return self.stack[-1]

    # Instructions that take values from the stack, by their names in pickletools.

    def _append(self, _):
        (value,) = self._pop(1)
        self._top(list).append(value)

    def _appends(self, _):
        values = self._from_mark()
        self._top(list).extend(values)

    def _list(self, _):
        self.stack.append(self._from_mark())

    def _tuple(self, _):
        self.stack.append(tuple(self._from_mark()))

    def _dict(self, _):
        values = self._from_mark()
        self.stack.append({})
        self._set(values)

    def _setitem(self, _):
        self._set(self._pop(2))

    def _setitems(self, _):
        self._set(self._from_mark())

    def _set(self, values):
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not str or key in self._top(dict):
                raise TypeError  # hashing nested tuples can take exponential time
            self._top(dict)[key] = value

    def _global(self, name):
        self.stack.append(_Name(name))

    def _stack_global(self, _):
        self.stack.append(_Name(" ".join(self._pop(2))))

    def _reduce(self, _):
        name, arguments = self._pop(2)
        if type(name) is not _Name or type(arguments) is not tuple:
            raise TypeError
        if name.function == "dtype":
            self.stack.append(_Dtype(arguments[0]))
        elif name.function == "scalar":
            self.stack.append(_Dtype.number(*arguments))
        else:
            self.stack.append(arguments[0].encode("latin1"))

    def _build(self, _):
        (state,) = self._pop(1)
        self._top(_Dtype).order = state[1]
