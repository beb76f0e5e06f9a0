"""Files: atomic writes, a lock, and array files from untrusted sources.

files.py    write_atomically and one_at_a_time
npz.py      .npy and .npz files, checked before memory is allocated for them

Imports errors.py only. To add a file format for data: see data/readers/__init__.py.
"""
