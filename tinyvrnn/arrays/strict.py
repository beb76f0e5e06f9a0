"""strict: a test double of a device. It computes with NumPy and refuses what CuPy refuses.

It refuses to mix host and device arrays, to convert implicitly, to take a list for an array, and to call functions that
CuPy lacks. It also refuses NumPy's own functions, although NumPy passes some of their calls on to CuPy. Reductions stay
0-d device arrays, and transfers and kernel launches are counted. Tests on it find mistakes that otherwise only show on
a GPU.
"""

import operator

import numpy as np

FUNCTIONS = """
    abs add all any arange argmax ascontiguousarray asfortranarray clip concatenate copysign cos cumsum divide dot empty
    empty_like exp expm1 full isfinite isnan log log1p matmul max maximum mean min minimum multiply negative ones
    ones_like power reciprocal sign sin sqrt square stack subtract sum tanh where zeros zeros_like
""".split()
_UNARY = "neg pos abs invert".split()
_BINARY = "add sub mul truediv pow matmul lt le gt ge eq ne and_ or_".split()
_INPLACE = "iadd isub imul itruediv".split()
_WITHOUT_CONTENTS = "empty empty_like".split()
_PRODUCTS = "matmul dot products".split()
_JOINING = "column_stack concatenate select stack".split()  # the arrays of a list
_SENDING = "dstack hstack vstack".split()  # join what `asarray` takes, numbers too
_MAKING = "array asarray".split()  # an array from a list
_VIEWS = "reshape ravel squeeze transpose swapaxes ascontiguousarray asfortranarray".split()  # if possible


class Transfers:
    """Counts the arrays transferred between host and device since `reset()`."""

    to_device = to_host = 0

    def reset(self):
        self.to_device = self.to_host = 0

    @property
    def total(self):
        return self.to_device + self.to_host


transfers = Transfers()


class Launches:
    """Counts the launches that a device would have made since `reset()`.

    A kernel, a copy or a product counts 1; a view or an uninitialised array counts 0. CuPy's implicit copies count too:
    of a non-contiguous matrix before a product, and of an input that overlaps the output without being the same object.
    """

    total = 0

    def reset(self):
        self.total = 0


launches = Launches()


def refuse_lists(name, arguments):
    """Raise TypeError for a list that CuPy refuses among the arguments of the function of this name.

    Lists and tuples of whole numbers are shapes and axes.
    """
    refused = StrictArray if name in _MAKING else (StrictArray, float)
    for parts in (a for a in arguments if isinstance(a, (list, tuple))):
        if name in _SENDING:
            refuse_lists("asarray", parts)
            continue
        if name in _JOINING and not all(isinstance(part, (StrictArray, np.ndarray)) for part in parts):
            raise TypeError(f"{name} joins device arrays, but its list holds something else too")
        if name in _JOINING or name in _MAKING and all(isinstance(part, StrictArray) for part in parts):
            continue
        if any(isinstance(part, refused) for part in parts):
            raise TypeError("a list is no array on the device: join its parts with xp.stack")
        refuse_lists(name, parts)


def _unwrap(value):
    if isinstance(value, StrictArray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(
            f"A host array of shape {value.shape} met a device array: send it first, with the backend's asarray."
        )
    if isinstance(value, (list, tuple)):
        return type(value)(_unwrap(v) for v in value)
    return value


def _wrap(value):
    if isinstance(value, tuple):
        return tuple(_wrap(v) for v in value)
    return StrictArray(np.asarray(value)) if isinstance(value, (np.ndarray, np.generic)) else value


def _device_function(function):
    def call(*args, **kwargs):
        refuse_lists(function.__name__, (*args, *kwargs.values()))
        result = function(*_unwrap(args), **{k: _unwrap(v) for k, v in kwargs.items()})
        out = kwargs.get("out")
        if not _is_free(function, args, result):
            launches.total += 1 + _copies(function, args, out)
        return out if out is not None else _wrap(result)

    return call


def _is_free(function, args, result):
    """Whether a call launches nothing: its result is an uninitialised array or a view of its argument."""
    if function.__name__ in _WITHOUT_CONTENTS:
        return True
    return function.__name__ in _VIEWS and np.may_share_memory(result, args[0]._host)


def _copies(function, args, out):
    """The number of implicit copies that CuPy makes."""
    arrays = [a for a in args if isinstance(a, StrictArray)]
    if function.__name__ in _PRODUCTS:
        return sum(not (a._host.flags.c_contiguous or a._host.flags.f_contiguous) for a in arrays)
    return sum(out is not None and a is not out and np.may_share_memory(a._host, out._host) for a in arrays)


def _inplace_operator(function):
    def call(self, other):
        refuse_lists(function.__name__, (other,))
        function(self._host, _unwrap(other))
        launches.total += 1 + _copies(function, (other,), self)
        return self

    return call


def counted_as_one_launch(function):
    """Wrap a function of NumPy arrays that a device runs as one launch: on strict arrays it counts as one."""

    def call(*arrays):
        if type(arrays[0]) is np.ndarray:
            return function(*arrays)
        launches.total += 1 + _copies(function, arrays, None)
        return _wrap(function(*_unwrap(arrays)))

    return call


def _reflected(function):
    return lambda a, b: function(b, a)


class StrictArray:
    """A device array for machines without a device; see the module's docstring."""

    __slots__ = ("_host",)
    __array_priority__ = 1000  # makes the operators of host arrays and NumPy's scalars ask those of this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host):
        self._host = host

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed: use the functions of namespace(a), or copy the array "
            "with tinyvrnn.backend.to_host(a)."
        )

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"NumPy's {function.__name__} got a device array: use the functions of namespace(a).")

    def __getattr__(self, name):
        raise AttributeError(
            f"A strict array has no `{name}`: use a function of namespace(a), or copy the array with "
            "tinyvrnn.backend.to_host(a)."
        )

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (_wrap(row) for row in self._host)

    def __getitem__(self, index):
        selected = self._host[_unwrap(index)]
        launches.total += np.size(selected) > 1 and not np.may_share_memory(selected, self._host)  # a view is free
        return _wrap(selected)

    def __setitem__(self, index, value):
        launches.total += 1
        self._host[_unwrap(index)] = _unwrap(value)

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __bool__(self):
        return bool(self.get())

    def __repr__(self):
        return f"strict({self._host!r})"

    def get(self):
        """A copy of the array on the host; counts as a transfer."""
        transfers.to_host += 1
        return self._host.copy()

    def item(self):
        """The value of an array of one entry; counts as a transfer."""
        return self.get().item()

    def tolist(self):
        """The array as nested lists; counts as a transfer."""
        return self.get().tolist()

    shape, ndim, size = (property(lambda self, n=n: getattr(self._host, n)) for n in ("shape", "ndim", "size"))
    dtype, nbytes = (property(lambda self, n=n: getattr(self._host, n)) for n in ("dtype", "nbytes"))
    T = property(lambda self: StrictArray(self._host.T))


for _name in "reshape ravel flatten squeeze sum mean max min any all astype copy transpose swapaxes fill".split():
    setattr(StrictArray, _name, _device_function(getattr(np.ndarray, _name)))
for _name in _UNARY + _BINARY:
    setattr(StrictArray, f"__{_name.rstrip('_')}__", _device_function(getattr(operator, _name)))
for _name in "add sub mul truediv pow matmul".split():
    setattr(StrictArray, f"__r{_name}__", _device_function(_reflected(getattr(operator, _name))))
for _name in _INPLACE:
    setattr(StrictArray, f"__{_name}__", _inplace_operator(getattr(operator, _name)))


class StrictNamespace:
    """The functions that tinyvrnn may call on a device; each exists in NumPy and CuPy under the same name."""

    pi, inf, nan, newaxis = np.pi, np.inf, np.nan, None

    def __init__(self):
        for name in FUNCTIONS:
            setattr(self, name, _device_function(getattr(np, name)))

    def __getattr__(self, name):
        raise AttributeError(
            f"`{name}` is not on strict's list of functions that NumPy and CuPy surely share: use those of "
            "tinyvrnn.arrays.strict.FUNCTIONS."
        )


strict_namespace = StrictNamespace()


def strict_asarray(array, dtype=None):
    if isinstance(array, StrictArray):
        return array if dtype is None else type(array)(np.asarray(array._host, dtype=dtype))
    transfers.to_device += 1
    return StrictArray(np.array(array, dtype=dtype))
