"""The command: tinyvrnn train | evaluate | sample | gradcheck | exact | data | course.

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

from tinyvrnn.cli import commands
from tinyvrnn.cli.options import parser
from tinyvrnn.errors import TinyvrnnError, out_of_memory
from tinyvrnn.io.streams import Steady


def main(argv=None):
    """Runs one command. Returns the exit code: 0 done, 1 a check failed, 2 a mistake, 128 + the number of a signal."""
    arguments = parser().parse_args(argv)
    arguments.given = sys.argv[1:] if argv is None else argv
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show
            commands.load_plugin(arguments)
            return arguments.run(arguments) or 0
    except TinyvrnnError as error:
        print(f"tinyvrnn: {error}", file=sys.stderr)
    except MemoryError as error:
        print(f"tinyvrnn: {out_of_memory(error)}", file=sys.stderr)
    except BrokenPipeError:
        return 141 if arguments.run is commands.train else 0  # as a shell says of SIGPIPE: the training did not end
    except OSError as error:
        print(f"tinyvrnn: {error.filename or 'Reading or writing'}: {error.strerror or error}.", file=sys.stderr)
    except KeyboardInterrupt as interrupt:
        why = str(interrupt) or "what was written so far is whole"
        print(f"tinyvrnn: Interrupted; {why}.", file=Steady(sys.stderr), flush=True)
        return 128 + getattr(interrupt, "number", signal.SIGINT)
    return 2


def _show(message, *where):
    """A warning as a person reads it."""
    print(f"tinyvrnn: {message}.", file=sys.stderr)
