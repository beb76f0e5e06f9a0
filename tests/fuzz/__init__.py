"""Files made to be wrong, for each reader: what the tests try for seconds and `make fuzz` for minutes.

targets.py: one target a reader, a genuine small file and what it is read by. damage.py: wrong copies of a file.
hostile.py: files made to do harm. isolate.py: a copy of the process with its memory and time limited. __main__.py: the
loop, by atheris where it is installed, else by random.
"""
