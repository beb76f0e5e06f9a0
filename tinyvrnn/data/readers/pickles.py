"""Pickles of lists, numbers and NumPy's arrays of numbers, read in such a way that a file cannot call anything.

A pickle is a program for a machine with a stack and a memo, and Python's machine calls whatever a file names. Here it
has only the instructions that make lists, tuples, dicts with string keys, strings and numbers. For the names of NumPy
it finds the classes below, which check what they are given.

Source: PEP 3154; the comments in Python's pickletools.
"""

import io
import pickle
import pickletools
import re
import warnings
from math import prod

import numpy as np

from tinyvrnn.errors import DataError
from tinyvrnn.io.npz import MEMORY

MOST = MEMORY // 128  # instructions, each of which creates at most one object
MOST_OF_OBJECTS = 3  # arrays; NumPy frees nested ones recursively, so 10,000 of them could end the process
NEEDED = set(  # by their names in pickletools
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING "
    "BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS "
    "PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET "
    "GLOBAL STACK_GLOBAL REDUCE BUILD".split()
)
NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


def load(stored):
    """The object in a pickle, given as bytes. Raises DataError for forbidden contents, other exceptions for damage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in a damaged string warn
        return _Unpickler(io.BytesIO(stored), encoding="latin1").load()


class _Instructions(dict):
    """Instruction -> method, for those in NEEDED. Counts how often one is looked up."""

    count = 0

    def __getitem__(self, code):
        self.count += 1
        if self.count > MOST:
            raise DataError(f"holds more than {MOST:,} objects, too many for a pickle: save it as .npz")
        return super().__getitem__(code)

    def __missing__(self, code):
        raise DataError(f"holds the instruction {NAMES.get(code, code)}, which numbers do not need: save them alone")


class _Unpickler(pickle._Unpickler):  # the one in Python, whose instructions can be restricted
    objects = 0  # arrays of objects so far

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        functions = {code: f for code, f in super().dispatch.items() if NAMES[code] in NEEDED}
        self.dispatch = _Instructions((code, getattr(type(self), f.__name__)) for code, f in functions.items())

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise DataError(
                f"holds {f'{module}.{name}'!r:.40}, but only lists and arrays of numbers are read, since anything else "
                "could run code: save the numbers alone"
            )
        return ALLOWED[module, name]

    def load_reduce(self):
        arguments, made = self.stack.pop(), self.stack.pop()
        if not any(made is known for known in ALLOWED.values()) or type(arguments) is not tuple:
            raise TypeError
        self.append(made(*arguments))

    def load_build(self):
        state, made = self.stack.pop(), self.stack[-1]
        if type(made) is _Dtype:
            made.order = state[1]
        elif type(made) is np.ndarray:
            made.__setstate__((1, *_array_state(*state)))
            self.objects += made.dtype == object
            if self.objects > MOST_OF_OBJECTS:
                raise DataError("holds arrays of arrays, but one array of arrays of numbers is needed")
        else:
            raise TypeError

    def load_dict(self):
        values = self.pop_mark()
        self.append({})
        self._set(values)

    def load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self):
        self._set(self.pop_mark())

    def _set(self, values):
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not str or type(self.stack[-1]) is not dict or key in self.stack[-1]:
                raise TypeError  # hashing nested tuples can take exponential time
            self.stack[-1][key] = value


class _Dtype:
    """A NumPy dtype in a pickle: a code such as "i8", and a byte order."""

    def __init__(self, code, *_):
        self.code, self.order = code, "="

    def of_numbers(self):
        if not (re.fullmatch("b1|[iu][1248]|f[248]", self.code) and self.order in ("<", ">", "=", "|")):
            raise DataError(f"holds a number of type {self.code!r:.20}, but plain numbers are needed")
        return np.dtype(self.order.replace("|", "=") + self.code)


def _array_state(_, shape, dtype, by_columns, values):
    """(shape, dtype, by_columns, values) for the __setstate__ of an array, checked: the numbers fill the shape."""
    are_objects = type(values) is list and dtype.code in ("O", "O4", "O8")
    dtype = np.dtype(object) if are_objects else dtype.of_numbers()
    values = values if are_objects else _bytes(values)
    if min(shape, default=0) < 0 or prod(shape) * (1 if are_objects else dtype.itemsize) != len(values):
        raise ValueError
    return shape, dtype, bool(by_columns), values


def _scalar(dtype, stored):
    (number,) = np.frombuffer(_bytes(stored), dtype.of_numbers())
    return number


def _bytes(stored, *_):
    return stored.encode("latin1") if isinstance(stored, str) else stored  # text is how old protocols write bytes


ALLOWED = {  # what a pickle may name, with NumPy's old and new module paths, and what is called instead
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): None,
    ("_codecs", "encode"): _bytes,
} | {
    (f"numpy.{core}.multiarray", name): made
    for core in ("core", "_core")
    for name, made in (("scalar", _scalar), ("_reconstruct", lambda *_: np.empty(0, np.int8)))
}
