"""Arrays, wherever they live: everything that differs between NumPy and a GPU, and the flat vector of parameters.

backend.py    numpy, cupy or strict: creating arrays and finding the functions for them; the only import of cupy
strict.py     the test double of a device
kernels.py    elementwise functions that a device runs as one kernel
noise.py      random numbers that depend on (seed, stream, step) alone
params.py     named views of one flat vector
cpu.py        BLAS threads, cores, freed memory

Imports errors.py only. To add an elementwise kernel: `@fused(...)` above its NumPy function.
"""
