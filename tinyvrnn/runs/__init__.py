"""The folder of a run (lock, checkpoint, records, pictures), and the files that `sample` and `forecast` write.

run.py           Run: the folder of one training run
checkpoint.py    save and load
plots.py         matplotlib figures
export.py        samples as .png, .npz, .gif, .mid, .wav or .txt

Imports training/ and the rooms below. To add a format for `sample`: a function and an entry in WRITERS of export.py.
"""
