"""The grading process's end of a box: starts `box.py` behind walls, and calls a submission's functions in it.

Walls are those of bubblewrap (bwrap): no network, no other process, no file but Python's and the package's, read-only,
and a folder in memory. The exercises and with them the references are not among the files. Nothing that comes back is
executed or unpickled, and it takes no part in the verdict: it is data, which the grader compares.
"""

import functools
import inspect
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from tinyvrnn.course import exercises
from tinyvrnn.course.array_trees import restore, unpacked
from tinyvrnn.course.sandbox import NotYet
from tinyvrnn.io.streams import NO_WINDOW

PACKAGE = Path(__file__).resolve().parents[1]
MEMORY, FILE, DISK, PROCESSES, REPLY = 4 << 30, 64 << 20, 256 << 20, 100, 8 << 20  # limits, in bytes and numbers
GRACE = 5  # seconds beyond a limit that the box itself keeps, after which it is ended
SYSTEM = "/usr /bin /lib /lib64 /etc/alternatives /etc/fonts /etc/ld.so.cache".split()
OPEN = (
    "Submissions run without walls, since bubblewrap (bwrap 0.7 or newer) is not here or cannot be used: they can read "
    "and change what this account can, use the network, and end this command; see docs/instructors.md"
)
AS_ROOT = "As root a submission's processes are not limited in number: grade as an ordinary user"


class Lost(Exception):
    """A box that gave no answer; the message says why."""


class Box:
    """A process for one submission; a context that ends it. seconds: its limit in all."""

    def __init__(self, seconds):
        self._end, self._folder = time.monotonic() + seconds, Path(tempfile.mkdtemp(prefix="tinyvrnn-"))
        for path in () if walled() else _fonts():
            shutil.copy(path, self._folder)
        limits = {"AS": MEMORY, "CPU": seconds, "FSIZE": FILE, "CORE": 0, "NOFILE": 256}
        limits |= {"NPROC": PROCESSES} if walled() else {}  # else it counts the user's other processes too
        command = [*(_walls() if walled() else ()), *_python(), str(PACKAGE / "course" / "box.py"), json.dumps(limits)]
        own = {"env": _environment("/tmp" if walled() else str(self._folder)), "cwd": self._folder}
        own |= {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "bufsize": 0}
        own |= {"start_new_session": True, "creationflags": NO_WINDOW}
        self._process = subprocess.Popen(command, **own)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._kill()
        self._process.stdin.close()
        self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _kill(self):
        if hasattr(os, "killpg") and self._process.poll() is None:
            os.killpg(self._process.pid, 9)
        self._process.kill()
        self._process.wait()

    def ask(self, what, *arguments, seconds):
        """The reply to a request. Raises NotYet if the box refused it, Lost if none came in time or at all."""
        replies = []
        exchange = functools.partial(self._exchange, pickle.dumps([what, *arguments]), replies)
        thread = threading.Thread(target=exchange, daemon=True)  # a pipe that a lost child holds never ends
        thread.start()
        thread.join(max(0, min(seconds, self._end - time.monotonic())))
        if thread.is_alive():
            self._kill()
            raise Lost("ran too long and was ended")
        if not replies:
            raise Lost("Python died (memory, or an exit)")
        if isinstance(replies[0], dict) and "refused" in replies[0]:
            raise NotYet(_in_words(replies[0]["refused"]))
        return replies[0]

    def _exchange(self, request, replies):
        try:
            while request:
                request = request[self._process.stdin.write(request) :]
            size = int.from_bytes(self._read(8), "big")
            if 0 < size <= REPLY:
                replies.append(json.loads(self._read(size)))
        except (OSError, EOFError, ValueError, RecursionError, MemoryError):
            pass

    def _read(self, size):
        parts = bytearray()
        while len(parts) < size:
            part = self._process.stdout.read(size - len(parts))
            if not part:
                raise EOFError
            parts += part
        return parts


class Boxed:
    """A function of the submission. `sandbox.run` calls it by `run_in_box`, with its limits and rules, in the box."""

    def __init__(self, box, code, seconds):
        self._box, self._seconds = box, seconds
        self.__code__ = SimpleNamespace(co_code=bytes.fromhex(code))  # some of its cases depend on that

    def __call__(self, *arguments):
        return self.run_in_box(arguments)

    def run_in_box(self, arguments, forbidden=()):
        """The result; the arguments are changed as the function has changed its own. Raises NotYet or Lost."""
        reply = self._box.ask("call", arguments, [*_names(forbidden)], self._seconds, seconds=self._seconds + GRACE)
        try:
            restore(arguments, unpacked(reply["arguments"]))
            return unpacked(reply["result"])
        except Exception:  # it can be anything
            raise NotYet("The answer came back in no known form.") from None


def _in_words(refused):
    """The message of an error in a box, with its name unless it is a sentence of the package's own."""
    kind, message = (str(word) for word in refused)
    return message if kind in ("NotYet", "Raised") else f"{kind}: {message}".rstrip(": ")


def _names(functions):
    """(module, name) of each function that a box has too."""
    for function in functions:
        function = inspect.unwrap(getattr(function, "func", function))
        module = getattr(function, "__module__", "")
        if module.startswith("tinyvrnn.") and not module.startswith(exercises.__name__):
            yield module, function.__qualname__


# ---- the walls ----


@functools.cache
def walled():
    """Whether bubblewrap works here."""
    quiet = {"capture_output": True, "creationflags": NO_WINDOW}
    return bool(shutil.which("bwrap")) and not subprocess.run([*_walls(), *_python(), "-c", ""], **quiet).returncode


def undefended():
    """Sentences on what submissions are not kept from here."""
    return ([AS_ROOT] if os.geteuid() == 0 else []) if walled() else [OPEN]


def _python():
    return sys.executable, "-s", "-P"


def _walls():
    """The command line of bubblewrap, up to the command."""
    alone = "--unshare-all --cap-drop ALL --die-with-parent --new-session --proc /proc --dev /dev --remount-ro /dev"
    memory = f"--perms 1777 --size {DISK} --tmpfs /tmp --chdir /tmp"
    words = [str(shutil.which("bwrap")), *alone.split(), *memory.split()]
    for path in dict.fromkeys([*SYSTEM, sys.base_prefix, sys.prefix, str(PACKAGE)]):
        words += ["--ro-bind-try", path, path]
    hidden = str(Path(exercises.__file__).parent)
    words += ["--size", "4096", "--tmpfs", hidden, "--remount-ro", hidden]
    for path in _fonts():
        words += ["--ro-bind", str(path), f"/tmp/{path.name}"]
    return [*words, "--remount-ro", "/"]  # at the end, since the folders above are made in it


def _fonts():
    """Matplotlib's list of fonts, which takes seconds to make."""
    import matplotlib.font_manager  # makes it, at the first time

    return list(Path(matplotlib.get_cachedir()).glob("fontlist*.json"))


def _environment(home):
    """The variables of a box, none of which is the instructor's."""
    places = dict.fromkeys(("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR", "TINYVRNN_HOME"), home)
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    needed = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # by Python on Windows
    python = {"PYTHONPATH": str(PACKAGE.parent), "MPLBACKEND": "agg", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    return places | threads | needed | python
