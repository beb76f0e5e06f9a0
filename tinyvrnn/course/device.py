"""The grader's own device, for the exercises of notebook 10."""

import operator
from types import ModuleType

import numpy as np

from tinyvrnn.arrays.strict import StrictArray, refuse_lists


class DeviceArray(StrictArray):
    """A strict array that refuses every transfer to the host, even of one number."""

    __slots__ = ()

    def __array__(self, *args, **kwargs):
        raise TypeError("a NumPy function got a device array: use the functions of xp")

    __array_function__ = __array__

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        return _on_device(self._host[_off_device(index)])

    T = property(lambda self: DeviceArray(self._host.T))


def _on_device(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(_on_device, value))
    return DeviceArray(np.asarray(value)) if isinstance(value, (np.ndarray, np.generic)) else value


def _off_device(value):
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"a host array of shape {value.shape} met a device array")
    return type(value)(_off_device(v) for v in value) if isinstance(value, (list, tuple)) else value


def _refusal(line):
    """A method that refuses what transfers."""

    def refuse(self, *args):
        raise TypeError(f"{line} transfers the array to the host and makes the device wait")

    return refuse


DeviceArray.get = _refusal("to_host() or get()")
for _name in "item tolist __float__ __int__".split():
    setattr(DeviceArray, _name, _refusal(f"{_name.strip('_')}()"))
DeviceArray.__index__ = _refusal("the use of an array as a Python index")
DeviceArray.__bool__ = _refusal("a decision (`if`, `while`, `and`, `or`, `not`, min() or max())")


def _lift(function):
    def call(*args, **kwargs):
        refuse_lists(getattr(function, "__name__", ""), (*args, *kwargs.values()))
        return _on_device(function(*map(_off_device, args), **{k: _off_device(v) for k, v in kwargs.items()}))

    return call


for _name in "neg pos abs invert add sub mul truediv pow matmul lt le gt ge eq ne and_ or_".split():
    _function = getattr(operator, _name)
    setattr(DeviceArray, f"__{_name.rstrip('_')}__", _lift(_function))
    setattr(DeviceArray, f"__r{_name.rstrip('_')}__", _lift(lambda a, b, f=_function: f(b, a)))
for _name in "sum mean max min any all astype reshape ravel flatten squeeze copy transpose swapaxes".split():
    setattr(DeviceArray, _name, _lift(getattr(np.ndarray, _name)))


class Device:
    """xp: NumPy's functions for DeviceArray. CuPy has nearly all of them under the same names."""

    def __init__(self, module):
        self._module = module

    def __reduce__(self):
        return "DEVICE"

    def __getattr__(self, name):
        if not hasattr(self._module, name):
            raise AttributeError(f"xp has no `{name}`")
        value = getattr(self._module, name)
        if isinstance(value, ModuleType):
            return Device(value)
        return _lift(value) if callable(value) and not isinstance(value, type) else value


DEVICE = Device(np)
