"""cupy.cuda of the test double: one device, whose work is done when a call returns."""

from types import SimpleNamespace

from . import memory
from .memory import OutOfMemoryError  # noqa: F401

TOTAL = 8 * 2**30  # bytes


class Device:
    id = 0
    compute_capability = "90"
    attributes = {"SingleToDoublePrecisionPerfRatio": 2}

    def __init__(self, device=0):
        pass

    @property
    def mem_info(self):
        return runtime.memGetInfo()

    def synchronize(self):
        pass


runtime = SimpleNamespace(
    getDeviceCount=lambda: 1,
    getDevice=lambda: 0,
    getDeviceProperties=lambda device: {"name": b"test double", "major": 9, "minor": 0},
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13000,
    memGetInfo=lambda: (TOTAL - memory.pool.total_bytes(), TOTAL),
    deviceSynchronize=lambda: None,
)
Stream = SimpleNamespace(null=SimpleNamespace(synchronize=lambda: None))


def get_current_stream():
    return Stream.null
