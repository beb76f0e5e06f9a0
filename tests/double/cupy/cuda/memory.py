"""cupy.cuda.memory of the test double: the bytes of all arrays, with a limit."""

import weakref


class OutOfMemoryError(MemoryError):
    def __init__(self, size, total, limit=0):
        limited = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{limited}).")
        self._size, self._total, self._limit = size, total, limit


class MemoryPool:
    """Counts the arrays that are alive; what has been freed stays in the pool until `free_all_blocks`."""

    def __init__(self):
        self._alive, self._used, self._total, self._limit = set(), 0, 0, 0

    def count(self, host):
        """The host array inside a new device array. Raises OutOfMemoryError where it does not fit."""
        if host.base is None and id(host) not in self._alive and host.nbytes:
            self._allocate(id(host), -(-host.nbytes // 512) * 512)
            weakref.finalize(host, self._free, id(host), -(-host.nbytes // 512) * 512).atexit = False
        return host

    def _allocate(self, key, size):
        if self._limit and self._used + size > self._limit:
            raise OutOfMemoryError(size, self._total, self._limit)
        self._alive.add(key)
        self._used += size
        self._total = max(self._total, self._used)

    def _free(self, key, size):
        self._alive.discard(key)
        self._used -= size

    def used_bytes(self):
        return self._used

    def free_bytes(self):
        return self._total - self._used

    def total_bytes(self):
        return self._total

    def free_all_blocks(self):
        self._total = self._used

    def n_free_blocks(self):
        return int(self._total > self._used)

    def set_limit(self, size=0):
        self._limit = size

    def get_limit(self):
        return self._limit


pool, pinned_pool = MemoryPool(), MemoryPool()
