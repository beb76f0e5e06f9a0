"""The stable names of docs/api.md: docstrings in numpydoc's form, and type hints as a user's type checker sees them.

Catches: a public name that is renamed, an argument without a hint or a description, a section for results or errors
that is missing, a hint that changes, and a package that is no longer marked as typed.
"""

import ast
import builtins
import dataclasses
import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tinyvrnn

pytest.importorskip("numpydoc", reason="needs numpydoc")
pytest.importorskip("mypy", reason="needs mypy")

from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = re.findall(r"^\| `tv\.([\w.]+)` \|", PAGE, re.MULTILINE)
ERRORS = [name for name in NAMES if name.endswith("Error")]
CODES = {  # of numpydoc.validate; the others are taste
    "GL06": "unknown section",
    "GL07": "sections in a wrong order",
    "GL08": "no docstring",
    "SS01": "no summary",
    "SS06": "a summary of two lines",
    "PR01": "a parameter is missing",
    "PR02": "an unknown parameter",
    "PR03": "parameters in a wrong order",
    "PR04": "a parameter without a type",
    "PR07": "a parameter without a description",
    "RT01": "no section Returns",
    "RT03": "a result without a description",
}
RIGHT = """
from pathlib import Path
from typing import Any, assert_type

import numpy as np

import tinyvrnn as tv
from tinyvrnn.arrays.backend import Array

x: Array = np.zeros((4, 2, 3), dtype="float32")
model = tv.VRNN(x_dim=3, h_dim=8, z_dim=2, features=None, likelihood="gaussian", dtype=np.float64, cell="lstm")
others: list[tv.Model] = [tv.VRNNI(3, 8, 2), tv.RNN(3, 8), tv.VAE(3, 2)]
assert_type(model.theta, Array)
model.theta = 0.5 * model.theta
assert_type(model.params["phi_x"]["W1"], Array)
named: dict[str, Array] = dict(tv.params.leaves(model.params))
loss, grads, terms = model.loss_and_grads(x, [4, 2], beta=0.5, bound="iwae", particles=4)
assert_type(loss, Array)
assert_type(grads, Array)
assert_type(terms, tv.BoundTerms)
assert_type(terms.kl, Array)
number: float = float(loss)
chunk_loss, chunk_grads, chunk_terms, state = model.chunk_loss_and_grads(x)
assert_type(state, Array)
assert_type(model.elbo(x, np.array([4, 2])), Array)
assert_type(model.parts(x), tv.BoundTerms)
assert_type(model.standardise(x), Array)
assert_type(model.infer(x, [4, 2]), tv.Inference)
assert_type(model.infer(x).mu_z, Array)
assert_type(model.chunk_parts(x, state=state), tuple[tv.BoundTerms, Array | None])
assert_type(model.reconstruct(x), Array)
assert_type(model.sample(4, steps=8, prime=x), Array)
assert_type(model.forecast(x, 3, lengths=[4, 2]), Array)
eps = tv.noise.standard_normal((4, 2, 8, 2), "float32", seed=0, stream="mine", backend=tv.backend.get_backend())
assert_type(eps, Array)
assert_type(model.log_weights(x, eps=eps), Array)
assert_type(model.particle_filter(x, None, eps, x[..., 0]), Array)
data = tv.load_data(Path("digits8"), standardise=(True, True, False))
assert_type(data, tv.Data)
assert_type(data.split("test"), tv.Sequences)
assert_type(tv.Data.from_sequences("mine", [x[0]], data.valid, x, medium={}), tv.Data)
assert_type(tv.Sequences.from_list([x[0], x[1]]), tv.Sequences)
assert_type(tv.pad([[[1.0, 2.0]], x[0]]), tuple[Array, Array])
assert_type(data.train.padded([0, 1], "float32"), tuple[Array, Array])
adam = tv.Adam(model.theta, lr=1e-3)
with tv.Workers(2) as workers:
    for batch, lengths, index in tv.batches(data.train, 16, seed=0):
        loss, grads, terms = workers.loss_and_grads(model, batch, lengths, beta=0.5)
        assert_type(terms, tv.BoundTerms)
        assert_type(tv.clip_by_global_norm(grads, 50), Array)
        adam.step(model.theta, grads)
assert_type(tv.data.baselines(data, "valid"), dict[str, float])
with tv.Run(Path("runs"), resume=True) as run:
    records = tv.train(model, data, on_epoch=lambda record, is_best: print(record), run=run, epochs=2, lr=1e-3)
assert_type(records, list[dict[str, Any]])
assert_type(tv.Options(epochs=3).minutes, float | None)
assert_type(tv.save(model, "runs", step=3), Path)
assert_type(tv.load("runs", backend="numpy"), tv.Model)
assert_type(tv.bounds.evaluate_elbo(model, data.test).standard_error, float)
assert_type(tv.bounds.evaluate(model, data.test, "fivo", 8).per_sequence, float)
assert_type(tv.bounds.iwae(model, x, [4, 2]), Array)
assert_type(tv.bounds.fivo(model, x), Array)
assert_type(tv.gradcheck.check_model(model, x, eps=eps)[0].leaf, str)
rows = tv.gradcheck.check_pair(tv.nn.mlp.mlp_forward, tv.nn.mlp.mlp_backward, {"W": x[0]}, x, x, tol=1e-6)
assert_type(rows, list[tv.gradcheck.Row])
assert_type(tv.gradcheck.numerical_gradient(np.sum, x), Array)
assert_type(tv.gradcheck.rel_error(x, [0.0]), float)
assert_type(tv.to_host(x), Array)
assert_type(tv.course.check("06.1", np.tanh).title, str)
try:
    raise tv.DivergedError("no")
except tv.TinyvrnnError as error:
    print(error)
"""
WRONG = """
import numpy as np

import tinyvrnn as tv

x = np.zeros((4, 2, 3))
model = tv.VRNN(x_dim=3, h_dim="8", z_dim=2)  # arg-type
other = tv.VRNN(3, 8)  # call-arg
bound: str = model.elbo(x)  # assignment
loss, grads = model.loss_and_grads(x)  # misc
model.loss_and_grads(x, beta="1")  # arg-type
model.terms(x)  # attr-defined
tv.RNN(3, 8).log_weights(x)  # attr-defined
model.parts(x).likelihood  # attr-defined
tv.train(model, [x])  # arg-type
tv.Options(epochs="3")  # arg-type
tv.load_data(3)  # arg-type
tv.bounds.evaluate_elbo(model, x)  # arg-type
tv.bounds.iwae(tv.RNN(3, 8), x)  # arg-type
count: int = tv.save(model, "runs")  # assignment
tv.noise.standard_normal((2, 3), "float32", seed=0)  # call-arg
"""


def resolve(name):
    """The object called tinyvrnn.name; a property is not called, and a class method is its function."""
    found = tinyvrnn
    for part in name.split("."):
        found = inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
    return getattr(found, "__func__", found)


def is_record(name):
    """Whether the package makes it, so that its docstring has Attributes instead of Parameters."""
    return inspect.isclass(resolve(name)) and not NumpyDocString(inspect.getdoc(resolve(name)))["Parameters"]


def called(found):
    """The function whose arguments and errors a docstring describes."""
    if isinstance(found, property):
        return found.fget
    return found.__init__ if inspect.isclass(found) else found


def annotations(found):
    """{name: annotation} of a class and its bases."""
    return {name: hint for base in reversed(found.__mro__) for name, hint in inspect.get_annotations(base).items()}


def raised_in(function):
    """The names of the exceptions that a function raises itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {call.func.id for call in calls}


def test_the_page_lists_every_name_of_the_package_and_none_twice():
    assert len(NAMES) == len(set(NAMES)) > 45 and len(ERRORS) == 7
    for name in tinyvrnn.__all__:
        is_listed = re.search(rf"`(tv\.)?{name}`", PAGE)
        assert is_listed or name == "__version__" or inspect.ismodule(getattr(tinyvrnn, name)), name


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_has_the_sections_that_the_signature_needs(name):
    found, excused = resolve(name), {"PR01"} if is_record(name) else set()
    wrong = {code: text for code, text in validate(f"tinyvrnn.{name}")["errors"] if code in CODES.keys() - excused}
    assert not wrong
    text = inspect.getdoc(found)
    before_the_sections = re.split(r"\n\w+\n---", text)[0]
    assert not re.search(r"\b(Raises|Returns) ", before_the_sections), "write a section instead"
    assert "Source:" not in text, "a source is a section: References"


@pytest.mark.parametrize("name", [name for name in NAMES if is_record(name) and name not in ERRORS])
def test_a_record_documents_each_of_its_fields(name):
    record, entries = resolve(name), NumpyDocString(inspect.getdoc(resolve(name)))["Attributes"]
    documented = [one for entry in entries for one in entry.name.split(", ")]
    assert documented and all(entry.type and entry.desc for entry in entries)
    if name == "Model":  # its other attributes are internal
        assert set(documented) <= annotations(record).keys() | {"theta"}
        return
    is_data = dataclasses.is_dataclass(record)
    assert documented == ([field.name for field in dataclasses.fields(record)] if is_data else list(record._fields))
    assert object not in annotations(record).values()


@pytest.mark.parametrize("name", [name for name in NAMES if not is_record(name)])
def test_every_argument_and_result_has_a_hint(name):
    function = called(resolve(name))
    if not inspect.isfunction(function):  # Options, a NamedTuple: its fields are its arguments
        assert annotations(resolve(name)).keys() == set(resolve(name)._fields)
        return
    signature = inspect.signature(function)
    without = [
        a.name for a in signature.parameters.values() if a.annotation is a.empty and a.name not in ("self", "cls")
    ]
    assert not without and signature.return_annotation is not signature.empty


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ERRORS])
def test_every_error_is_documented_and_exists(name):
    entries = NumpyDocString(inspect.getdoc(resolve(name)))["Raises"]
    documented = {one for entry in entries for one in (entry.name or entry.type).split(", ")}
    assert all(entry.desc for entry in entries)
    for error in documented:
        kind = getattr(tinyvrnn, error, None) or getattr(builtins, error, None) or getattr(tinyvrnn.course, error)
        assert issubclass(kind, BaseException)
    function = called(resolve(name))
    assert is_record(name) or not inspect.isfunction(function) or raised_in(function) <= documented


def test_the_package_is_marked_as_typed():
    assert (ROOT / "tinyvrnn" / "py.typed").is_file()
    assert "\ntinyvrnn = py.typed\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found_by_mypy(tmp_path_factory):
    """{file: {(line, code of the error)}} for a right and a wrong script of a user, in mypy's strict mode."""
    folder = tmp_path_factory.mktemp("user")
    for name, script in (("right.py", RIGHT), ("wrong.py", WRONG)):
        (folder / name).write_text(script, encoding="utf-8")
    options = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={folder / 'cache'}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "right.py", "wrong.py"],
        cwd=folder,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    found = re.findall(r"^(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    assert done.stdout.count(": error: ") == len(found) > 0, done.stdout + done.stderr
    return {file: {(int(line), code) for f, line, code in found if f == file} for file in ("right.py", "wrong.py")}


@pytest.mark.xdist_group("mypy")
@pytest.mark.slow
def test_a_script_that_uses_the_names_rightly_passes_mypy(found_by_mypy):
    lines = RIGHT.splitlines()
    assert not [(lines[number - 1], code) for number, code in sorted(found_by_mypy["right.py"])]


@pytest.mark.xdist_group("mypy")
@pytest.mark.slow
def test_mypy_finds_every_wrong_use_and_no_other(found_by_mypy):
    expected = {
        (number, line.partition("  # ")[2]) for number, line in enumerate(WRONG.splitlines(), 1) if "  # " in line
    }
    assert found_by_mypy["wrong.py"] == expected
