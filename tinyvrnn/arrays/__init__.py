"""Arrays on the host or a GPU: everything that differs between NumPy and CuPy, and the flat parameter vector.

backend.py    numpy, cupy or strict: creates arrays and finds their functions; the only import of cupy
strict.py     the test double of a device
kernels.py    elementwise functions that run as one kernel on a device
noise.py      random numbers that depend on (seed, stream, step) only
ranks.py      the processes of mpiexec, and what they share
params.py     named views of one flat vector
cpu.py        BLAS threads, cores, freed memory

Imports errors.py only. To add an elementwise kernel: `@fused(...)` above its NumPy function, which
tests/test_kernels.py then compares with it.
"""
