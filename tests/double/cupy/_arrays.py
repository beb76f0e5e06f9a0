"""ndarray of the test double, and how a function of NumPy becomes one of device arrays."""

import operator

import numpy as np

from tinyvrnn.arrays.strict import Launches, Transfers

from .cuda import memory

launches, transfers = Launches(), Transfers()

_VIEWS = "reshape transpose swapaxes ascontiguousarray asfortranarray".split()


class ndarray:
    """An array on the device."""

    __slots__ = ("_host",)
    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, host):
        self._host = memory.pool.count(host)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} of a device array: use the function of cupy.")

    def get(self):
        transfers.to_host += 1
        return self._host.copy()

    def set(self, host):
        if type(host) is not np.ndarray or host.shape != self.shape or host.dtype != self.dtype:
            raise ValueError(f"set() needs a numpy.ndarray {self.shape} of {self.dtype}.")
        transfers.to_device += 1
        self._host[...] = host

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return len(self._host)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        index = host_of(index)
        selected = self._host[index]
        if isinstance(selected, np.generic):  # CuPy's is a view, 0-d
            selected = self._host[(*index, ...) if isinstance(index, tuple) else (index, ...)]
        return device_of(selected, launched=not np.may_share_memory(selected, self._host))

    def __setitem__(self, index, value):
        launches.total += 1
        target, value = self._host[host_of(index)], host_of(value)
        if isinstance(value, np.ndarray) and np.shares_memory(target, value) and not same_view(target, value):
            raise ValueError("an assignment to overlapping memory, whose result is undefined")
        self._host[host_of(index)] = value

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __bool__(self):
        return bool(self.get())

    def __repr__(self):
        return f"cupy.{self.get()!r}"

    def __format__(self, form):
        return format(self.get(), form)

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return array, (self.get(),)

    def fill(self, value):
        self[...] = value

    def tolist(self):
        return self.get().tolist()

    item = property(lambda self: self.get().item)


for _name in "shape ndim size dtype nbytes strides flags".split():
    setattr(ndarray, _name, property(operator.attrgetter(f"_host.{_name}")))
ndarray.__module__ = "cupy"
ndarray.T = property(lambda self: ndarray(self._host.T))


def host_of(value):
    """The host array of each device array in nested tuples; scalars stay, host arrays are refused."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, (np.ndarray, list)):  # CuPy takes both as an index, by a hidden transfer
        raise TypeError(f"Unsupported type {type(value)} of shape {np.shape(value)}")
    if isinstance(value, tuple):
        return tuple(map(host_of, value))
    return value


def device_of(host, launched=True):
    """A device array of a result, which is 0-d where NumPy would return a scalar."""
    launches.total += launched
    return ndarray(np.asarray(host))


def on_device(function, sequence=False):
    """A function of NumPy as one of device arrays. sequence: its first argument is a list of arrays."""

    def call(*args, out=None, **kwargs):
        if sequence:
            args = (tuple(args[0]), *args[1:])
        hosts, kwargs = host_of(args), {name: host_of(value) for name, value in kwargs.items()}
        if out is not None:
            kwargs["out"] = host_of(out)
            check_out(function, hosts, kwargs["out"])
        result = function(*hosts, **kwargs)
        free = function.__name__ in _VIEWS and np.may_share_memory(result, hosts[0])
        launches.total += _copies(function, hosts, kwargs.get("out"))
        made = device_of(result, launched=not free)
        return made if out is None else out

    return call


def check_out(function, hosts, out):
    """CuPy computes a product into `out` only where it has the dtype of the result."""
    if function is np.matmul and {h.dtype for h in hosts} != {out.dtype}:
        raise TypeError(f"output array has wrong dtype, {out.dtype}")


def _copies(function, hosts, out):
    """How many arguments CuPy copies: matrices with gaps, and inputs that overlap the output."""
    arrays = [h for h in hosts if isinstance(h, np.ndarray)]
    if function in (np.matmul, np.dot):
        return sum(not (h.flags.c_contiguous or h.flags.f_contiguous) for h in arrays)
    return sum(out is not None and not same_view(h, out) and np.may_share_memory(h, out) for h in arrays)


def same_view(a, b):
    """Whether two host arrays are the same elements in the same order."""
    return isinstance(a, np.ndarray) and a.__array_interface__ == b.__array_interface__


def _in_place(function):
    def call(self, other):
        launches.total += 1 + _copies(function, (host_of(other),), self._host)
        function(self._host, host_of(other))
        return self

    return call


for _name in "reshape sum mean max min any all astype copy transpose swapaxes argmax dot clip take".split():
    setattr(ndarray, _name, on_device(getattr(np.ndarray, _name)))
for _name in "neg pos abs invert lt le gt ge eq ne and_ or_ add sub mul truediv pow matmul".split():
    setattr(ndarray, f"__{_name.rstrip('_')}__", on_device(getattr(operator, _name)))
for _name in "add sub mul truediv pow matmul".split():
    _forward = getattr(operator, _name)
    setattr(ndarray, f"__r{_name}__", on_device(lambda a, b, _forward=_forward: _forward(b, a)))
for _name in "iadd isub imul itruediv".split():
    setattr(ndarray, f"__{_name}__", _in_place(getattr(operator, _name)))


def empty(shape, dtype=float):
    """Filled with NaN, or with a large number, so that a result that depends on it shows."""
    wanted = np.dtype(dtype)
    return device_of(np.full(shape, np.nan if wanted.kind == "f" else 99, wanted), launched=False)


def empty_like(a, dtype=None):
    return empty(a.shape, a.dtype if dtype is None else dtype)


def array(values, dtype=None):
    """A copy on the device."""
    if isinstance(values, ndarray):
        return values.astype(values.dtype if dtype is None else dtype)
    transfers.to_device += 1
    return ndarray(np.array(values, dtype))


def asarray(values, dtype=None):
    """The array itself where it is on the device already."""
    same = isinstance(values, ndarray) and dtype in (None, values.dtype)
    return values if same else array(values, dtype)


def asnumpy(values):
    return values.get() if isinstance(values, ndarray) else np.asarray(values)
