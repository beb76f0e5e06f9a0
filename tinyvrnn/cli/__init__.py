"""The command: tinyvrnn train | evaluate | infer | sample | forecast | gradcheck | exact | data | course.

options.py      the parser: one table of a model's options; those of training come from `training.Options`
commands.py     one function for each command: it reads the options, calls the package and prints
report.py       what is printed and drawn: baselines, evaluations, pictures

It stands above all rooms and may import every one of them; none imports it. To add a command: a function in
commands.py, and its name, function and options in options.py. A mistake of the user's ends in one sentence on standard
error and exit code 2, a failed gradient check in exit code 1.
"""

import signal
import sys
import warnings
from functools import partial

from tinyvrnn.arrays.ranks import ALONE, world
from tinyvrnn.cli import commands
from tinyvrnn.cli.options import parser
from tinyvrnn.errors import TinyvrnnError, out_of_memory, shown
from tinyvrnn.io.streams import steady_streams
from tinyvrnn.models.batch import RAW

OTHER = "they seem to have other units than the training data"  # a command standardises raw data itself


def main(argv=None):
    """Runs one command. Returns the exit code: 0 done, 1 a check failed, 2 a mistake, 128 + the number of a signal."""
    with steady_streams() as out:
        ranks = ALONE
        try:
            ranks = world()
            ranks.hush()
            arguments = parser().parse_args(argv)
            arguments.given = sys.argv[1:] if argv is None else argv
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *where: _say(str(message).replace(RAW, OTHER))
                warnings.filterwarnings("ignore", "Glyph .* missing")  # one for each such letter of a picture's title
                commands.load_plugin(arguments)
                shared = ranks.rank == 0 or arguments.run in (commands.train, commands.evaluate)
                code = shared and arguments.run(arguments) or 0
        except (TinyvrnnError, MemoryError, OSError, KeyboardInterrupt) as error:
            code = ranks.abort(partial(_explain, error))
        out.flush()
        if out.error is None or isinstance(out.error, BrokenPipeError):  # who stops reading, as `head`, has enough
            return code
        _say(f"standard output: {out.error.strerror}; what was printed is lost, all else is done")
        return code or 2


def _explain(error):
    """Print one sentence on an error. Returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        _say(f"Interrupted; {str(error) or 'what was written so far is whole'}")
        return 128 + getattr(error, "number", signal.SIGINT)
    if isinstance(error, MemoryError):
        error = out_of_memory(error)
    elif isinstance(error, OSError):
        error = f"{error.filename or 'Reading or writing'}: {error.strerror or error}"
    _say(error)
    return 2


def _say(message):
    """Print an error or a warning as one line, a sentence."""
    print(f"tinyvrnn: {shown(message).removesuffix('.')}.", file=sys.stderr, flush=True)
