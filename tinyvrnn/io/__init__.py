"""Files: atomic writes, a lock, array files from untrusted sources; and streams that may break.

files.py    given_path, write_atomically, replace_together, one_at_a_time
streams.py  Steady and progress bars, for prints that must not stop a training
npz.py      .npy and .npz files, checked before memory is allocated for them

Imports errors.py only. To add a file format for data: see data/readers/__init__.py.
"""
