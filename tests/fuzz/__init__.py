"""Invalid files for each reader; the tests try them for seconds and `make fuzz` for minutes.

targets.py      a target for each reader: a small valid file, and how it is read
damage.py       damaged copies of a file
hostile.py      files made to do harm
isolate.py      runs code in a copy of the process, with limited memory and time
__main__.py     the loop, by atheris if it is installed, else by random changes
"""
