"""The grader's own device, for the exercises of notebook 10."""

import operator
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.strict import strict_namespace


class DeviceArray(NamedTuple):
    """An array of a device that refuses what a GPU's arrays refuse, and every transfer to the host.

    A tuple of one field, so that the grader can copy it, cast it to float32 and compare it like any other argument.
    """

    host: np.ndarray

    __array_ufunc__ = None

    def __array__(self, *args, **kwargs):
        raise TypeError("a NumPy function got a device array: use the functions of xp")

    def __bool__(self):
        raise TypeError("`if` transfers the array to the host and makes the device wait")

    def __float__(self):
        raise TypeError("float() transfers the array to the host and makes the device wait")

    __int__ = __index__ = __float__

    def __getitem__(self, index):
        return _on_device(self.host[_off_device(index)])

    shape, ndim, size, dtype = (
        property(lambda self, n=n: getattr(self.host, n)) for n in "shape ndim size dtype".split()
    )
    T = property(lambda self: DeviceArray(self.host.T))


def _on_device(value):
    return DeviceArray(np.asarray(value)) if isinstance(value, (np.ndarray, np.generic)) else value


def _off_device(value):
    if isinstance(value, DeviceArray):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError(f"a host array of shape {value.shape} met a device array")
    return type(value)(_off_device(v) for v in value) if isinstance(value, (list, tuple)) else value


def _lift(function):
    def call(*args, **kwargs):
        return _on_device(function(*map(_off_device, args), **{k: _off_device(v) for k, v in kwargs.items()}))

    return call


for _name in "neg abs add sub mul truediv pow matmul lt le gt ge eq ne".split():
    _function = getattr(operator, _name)
    setattr(DeviceArray, f"__{_name}__", _lift(_function))
    setattr(DeviceArray, f"__r{_name}__", _lift(lambda a, b, f=_function: f(b, a)))
for _name in "sum mean max min any all astype reshape copy transpose".split():
    setattr(DeviceArray, _name, _lift(getattr(np.ndarray, _name)))


class Device:
    """xp: the functions of the strict backend, for DeviceArray."""

    def __init__(self):
        for name in vars(strict_namespace):
            setattr(self, name, _lift(getattr(np, name)))

    def __reduce__(self):
        return "DEVICE"


DEVICE = Device()
