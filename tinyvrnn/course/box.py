"""The other end of grading: runs the cells of one submission and calls its functions, as `submissions` asks.

A script, run in a process of its own. It holds no reference and decides nothing: whatever a submission does to it can
only cost its own points. Requests are pickles on standard input, replies JSON on standard output.
"""

import ast
import contextlib
import json
import operator
import os
import pickle
import re
import signal
import symtable
import sys
import types

try:
    import resource
except ImportError:  # not on Windows
    resource = None

PICTURES = re.compile(r"^%matplotlib.*", re.MULTILINE)  # there is no front end to draw them


def main():
    """Serve requests until standard input ends."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    _limit(json.loads(sys.argv[1]))
    box = Box()
    while True:
        what, *arguments = pickle.load(requests)
        try:
            reply = getattr(box, what)(*arguments)
        except BaseException as error:  # SystemExit, and an alarm that comes late
            reply = {"refused": _described(error)}
        data = json.dumps(reply).encode()
        replies.write(len(data).to_bytes(8, "big") + data)
        replies.flush()


def _limit(limits):
    """Set the limits that the system has, {"AS": bytes, ...}."""
    for name, value in limits.items() if resource else ():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


class Box:
    """The state of the process: IPython without a kernel, and the answer at hand. Each public method is a request."""

    def __init__(self):
        hidden = types.ModuleType("tinyvrnn.course.exercises")
        hidden.EXERCISES, hidden.NOTEBOOKS, hidden.chapter_of, hidden.exercise_number = {}, {}, str, str
        sys.modules[hidden.__name__] = hidden  # the references are not here, and cannot be imported
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        from tinyvrnn import course
        from tinyvrnn.course import array_trees, sandbox, tampering

        _no_check.__module__ = course.__name__
        course.check = _no_check
        tampering.remember()
        self._shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        self._shell.showtraceback = self._shell.showsyntaxerror = lambda *args, **kwargs: None
        self._packed, self._run, self._replaced = array_trees.packed, sandbox.run, tampering.replaced
        self._untouched = sandbox.untouched
        self._sources, self._answer = [], None

    def load(self, sources, wanted, own, expressions):
        """Keep the cells. Returns those to run at first, "chosen", and if an answer fails, "more": with all `own`.

        Both are the wanted, and the cells before them that change what they need. expressions: [(index of the cell
        behind which it is evaluated, expression), ...].
        """
        self._sources = [self._shell.transform_cell(PICTURES.sub("", source)) for source in sources]
        cells = [Cell(source) for source in self._sources]
        return {"chosen": _chosen(cells, wanted, expressions), "more": _chosen(cells, [*wanted, *own], expressions)}

    def run(self, index, seconds):
        """Run a cell. Returns the name and the message of its error, or two empty texts."""
        with _alarm(seconds):
            result = self._shell.run_cell(self._sources[index], store_history=False)
        error = result.error_before_exec or result.error_in_exec
        return _described(error) if error else ["", ""]

    def value(self, expression, seconds):
        """Evaluate an answer, and keep it. Returns {"value": ...}, or {"code": ...} of a function."""
        with _alarm(seconds):
            self._answer = eval(expression, self._shell.user_ns)
            if callable(self._answer) and not self._untouched(self._answer):
                return {"code": getattr(getattr(self._answer, "__code__", None), "co_code", b"").hex()}
            return {"value": self._packed(... if callable(self._answer) else self._answer)}

    def call(self, arguments, forbidden, seconds):
        """Call the answer. Returns its result and the arguments after the call, or why there is none."""
        result = self._run(self._answer, arguments, [f for name in forbidden for f in _found(*name)], seconds)
        return {"result": self._packed(result), "arguments": self._packed(arguments)}

    def replaced(self):
        """The name of a function that the submission has replaced, or None."""
        return self._replaced()


def _no_check(number, answer):
    """Stands for `tv.course.check`: grading is not done here."""


def _chosen(cells, wanted, expressions):
    """Indices of the wanted cells, and of those before them that change what these need, as far as can be seen."""
    needed, chosen = set(), []
    modules = set().union(*(cell.imports for cell in cells))
    for i, cell in reversed(list(enumerate(cells))):
        needed = needed.union(*(Cell(expression).uses for place, expression in expressions if place == i))
        if i in wanted or cell.always or needed & cell.changes(modules):
            chosen.insert(0, i)
            needed |= cell.uses
    return chosen


class Cell:
    """The global names that a cell uses, binds, imports, or calls a method of, which may change what it is called on.

    always: it may do any of this by other means, so it is always run.
    """

    def __init__(self, source):
        self.uses, self.binds, self.imports, self.calls = set(), set(), set(), set()
        try:
            tree, table = ast.parse(source), symtable.symtable(source, "cell", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self.always = True  # for its error
            return
        self._look_through(table)
        for node in ast.walk(tree):
            self._look_at(node)
        self.always = bool(self.uses & {"exec", "globals", "locals", "setattr", "vars"} or "*" in self.imports)
        self.always |= "run_cell_magic" in source

    def changes(self, modules):
        """The names that the cell binds, or whose value it may change."""
        return self.binds | self.imports | self.calls - modules

    def _look_through(self, table):
        for symbol in table.get_symbols():
            top, name = table.get_type() == "module", symbol.get_name()
            if symbol.is_referenced() if top else symbol.is_global():
                self.uses.add(name)
            if (symbol.is_assigned() or symbol.is_imported()) and (top or symbol.is_declared_global()):
                (self.imports if symbol.is_imported() else self.binds).add(name)
        for child in table.get_children():
            self._look_through(child)

    def _look_at(self, node):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            self.binds.add(_root(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            self.calls.add(_root(node.func))
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            self.imports.add("*")


def _root(node):
    """The name that an expression such as `a.b[0].c` begins with, or "" for one that begins with none."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


@contextlib.contextmanager
def _alarm(seconds):
    """A KeyboardInterrupt after `seconds`, and again each second; on Windows none."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _described(error):
    """An exception's name and the first line of its message."""
    with contextlib.suppress(BaseException):
        return [type(error).__name__, (str(error).strip().splitlines() or [""])[0][:200]]
    return ["Exception", ""]


def _found(module, name):
    """The function of that name of the package, in a list, or an empty one."""
    with contextlib.suppress(KeyError, AttributeError):
        return [operator.attrgetter(name)(sys.modules[module])]
    return []


if __name__ == "__main__":
    main()
