"""Files: written whole or not at all, read by one process at a time, and arrays that strangers made.

files.py    write_atomically and one_at_a_time
npz.py      .npy and .npz files that are checked before memory is allocated for them

Imports errors.py only.
"""
