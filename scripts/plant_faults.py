"""Plants one fault in each module without mutation testing, and checks that a test fails.

    python scripts/plant_faults.py [NAME ...]      all modules, or those whose path contains one of the names

A fault replaces a text that occurs once in the module: another sign, another index, a missing half. The module's tests
run on a copy until the first failure. The exit code is 1 if a fault goes unnoticed.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from mutation import ROOMS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tinyvrnn"
COPIED = ("tinyvrnn", "tests", "scripts", "docs", "notebooks", "setup.cfg", "pyproject.toml", "Makefile", "README.md")
SECONDS = 500  # for the tests of one fault


class Fault(NamedTuple):
    """A description, the text to replace, its replacement, and the tests to run (with -k: some of them)."""

    name: str
    text: str
    wrong: str
    tests: str


FAULTS = {
    "arrays/backend.py": Fault(
        "an unknown backend is NumPy", 'if name not in ("numpy", "strict"):', "if False:", "test_backend -k unknown"
    ),
    "arrays/cpu.py": Fault(
        "BLAS keeps its threads", "_blas().limit(limits=count", "_blas().limit(limits=None", "test_backend"
    ),
    "__init__.py": Fault("two names are exchanged", "load, save", "load as save, save as load", "test_checkpoint"),
    "__main__.py": Fault("the exit code is lost", "sys.exit(main())", "main()", "test_cli -k diverges_at_once"),
    "arrays/strict.py": Fault("transfers to the host aren't counted", "transfers.to_host += 1", "pass", "test_backend"),
    "cli/__init__.py": Fault(
        "a user's mistake is a success",
        "    return 2\n\n\ndef _say(",
        "    return 0\n\n\ndef _say(",
        "test_cli -k one_sentence",
    ),
    "cli/commands.py": Fault("samples stay standardised", "model.in_raw_units(x)", "x", "test_cli -k sampl"),
    "cli/options.py": Fault(
        "a latent as wide as the state", '{"dest": "z_dim",', '{"dest": "h_dim",', "test_register test_cli"
    ),
    "cli/report.py": Fault(
        "the worst epoch is the best",
        "best = max(records, key",
        "best = min(records, key",
        "test_register -k command",
    ),
    "errors.py": Fault(
        "no hint at the nearest name", "if near else f", "if not near else f", "test_training -k refused"
    ),
    "runs/export.py": Fault(
        "keys an octave too high", "note=int(key) + lowest", "note=int(key) + lowest + 12", "test_export"
    ),
    "io/streams.py": Fault(
        "a stream that breaks ends the command",
        "        except OSError as error:",
        "        except ConnectionError as error:",
        "test_streams -k breaks_ends",
    ),
    "io/files.py": Fault(
        "the file is there before it is whole",
        "        replace(temporary, path)",
        "        path.write_bytes(temporary.read_bytes())",
        "test_checkpoint test_load test_data_mapped",
    ),
    "arrays/ranks.py": Fault(
        "every rank draws the noise of the first",
        "((before + t) * count + start) * each",
        "((before + t) * count) * each",
        "test_noise -k ranks",
    ),
    "arrays/kernels.py": Fault(
        "blocks in another order",
        "for k in range(len(names)))",
        "for k in reversed(range(len(names))))",
        "test_kernels",
    ),
    "one_page.py": Fault(
        "a variance for a standard deviation", "mu_z + sigma_z * eps[t]", "mu_z + sigma_z**2 * eps[t]", "test_one_page"
    ),
    "gradcheck/register.py": Fault(
        "a wrong backward is registered",
        "check_pair(pair.forward, pair.backward, p, *inputs)",
        "pass",
        "test_register -k refused",
    ),
    "gradcheck/arguments.py": Fault(
        "a function with two answers passes", "if first != second:", "if first is None:", "test_gradcheck -k answers"
    ),
    "gradcheck/all_pairs.py": Fault(
        "the wrong backward", 'way in ("forward", "backward")', 'way in ("forward", "forward")', "test_pairs"
    ),
    "arrays/params.py": Fault("biases count as weights", "leaf.ndim > 1", "leaf.ndim > 0", "test_regularise"),
    "runs/plots.py": Fault(
        "validation drawn as training",
        "[record[split][term] for record in records], style",
        '[record["train"][term] for record in records], style',
        "test_plots",
    ),
    "course/__init__.py": Fault(
        "a failed try is a pass",
        "progress.record(number, False)",
        "progress.record(number, True)",
        "test_course -k failed_try",
    ),
    "course/exercise.py": Fault(
        "a looser tolerance", "tol: float = 1e-8", "tol: float = 1e-2", "test_course test_answers"
    ),
    "course/exercises/__init__.py": Fault(
        "a chapter too few", "for notebook in NOTEBOOKS:", "for notebook in list(NOTEBOOKS)[:-2]:", "test_course"
    ),
    "course/exercises/ch00.py": Fault(
        "bits for nats",
        "np.full(x.shape[1], np.log(0.5) *",
        "np.full(x.shape[1], np.log2(0.5) *",
        "test_course -k 00.",
    ),
    "course/exercises/hard.py": Fault(
        "no saturated logits", "FAR = np.array([", "FAR = 0 * np.array([", "test_answers test_course"
    ),
    "course/kept.py": Fault(
        "what is kept is not checked again",
        "        grade(number, EXERCISES[number], function)\n",
        "",
        "test_answers -k sabotaged",
    ),
    "course/exercises/ch01.py": Fault(
        "the mask is all ones",
        "return x, real.astype(x.dtype)",
        "return x, 0 * real.astype(x.dtype) + 1",
        "test_course -k 01.",
    ),
    "course/exercises/ch02.py": Fault(
        "the reference's sign",
        "return -HALF_LOG_2PI - np.log(sigma_x) - ((x",
        "return HALF_LOG_2PI - np.log(sigma_x) - ((x",
        "test_course -k 02.",
    ),
    "course/exercises/ch03.py": Fault(
        "the cell state is lost",
        'return equations.recur_forward(params["recur"], phi_x, phi_z, h)[0]',
        'return equations.recur_forward(params["recur"], phi_x, phi_z, 0 * h)[0]',
        "test_course -k 03.",
    ),
    "course/exercises/ch04.py": Fault(
        "Eq. 9 without h",
        "return infer_forward(p, phi_x, h)[0]",
        "return infer_forward(p, phi_x, 0 * h)[0]",
        "test_course -k 04.",
    ),
    "course/exercises/ch05.py": Fault(
        "a sum for a mean",
        "np.log(np.exp(log_w - top).mean(axis=0))",
        "np.log(np.exp(log_w - top).sum(axis=0))",
        "test_course -k 05.",
    ),
    "course/exercises/ch06.py": Fault(
        "dx for db", 'return dx, grads["W"], grads["b"]', 'return dx, grads["W"], 2 * grads["b"]', "test_course -k 06."
    ),
    "course/exercises/ch07.py": Fault(
        "the reference's gates",
        "return gru.gru_gates_forward(a, g, h)[0]",
        "return gru.gru_gates_forward(a, 0 * g, h)[0]",
        "test_course -k 07.",
    ),
    "course/exercises/ch08.py": Fault(
        "padding counts",
        "return total / elbo.shape[1], total / mask.sum()",
        "return total / elbo.shape[1], total / mask.size",
        "test_course -k 08.",
    ),
    "course/exercises/ch09.py": Fault(
        "log p of both steps", "both.log_p - first.log_p", "both.log_p", "test_course -k 09."
    ),
    "course/exercises/ch10.py": Fault(
        "the loop runs once",
        "waiting = launch * (T * in_loop + once)\n    seconds",
        "waiting = launch * (in_loop + once)\n    seconds",
        "test_course -k 10.",
    ),
    "course/exercises/ch11.py": Fault(
        "a coin without its tail",
        "return museum.log_coin(x, a)",
        "return museum.log_coin(1 - x, a)",
        "test_course -k 11.",
    ),
    "course/exercises/ch12.py": Fault(
        "bits for nats", "np.log(2).astype(raw.dtype)", "np.log(3).astype(raw.dtype)", "test_course -k 12."
    ),
    "course/exercises/ch14.py": Fault(
        "the ancestors of another u",
        "particles.systematic(shares, uniforms)",
        "particles.systematic(shares, 0.5 * uniforms)",
        "test_course -k 14.",
    ),
    "course/explorer.py": Fault(
        "moved at every step", "moves * float(at is None or t == at)", "moves", "test_explorer"
    ),
    "course/grader.py": Fault(
        "one of the arrays is enough",
        "if not all(_close(mine[name], right[name], tol) for name in right):",
        "if not any(_close(mine[name], right[name], tol) for name in right):",
        "test_grader test_course",
    ),
    "course/museum.py": Fault(
        "a right part is wrong",
        "return mu + np.exp(0.5 * log_var) * eps",
        "return mu + np.exp(log_var) * eps",
        "test_museum",
    ),
    "course/array_trees.py": Fault(
        "float32 is float64", "array.astype(np.float32) if", "array.astype(np.float64) if", "test_grader test_course"
    ),
    "course/tampering.py": Fault("replaced functions pass", "is not value:", "is value and False:", "test_grader"),
    "course/marks.py": Fault(
        "Canvas gets another number",
        'match["id"], "", ""]',
        'match["name"], "", ""]',
        "test_submissions -k forms",
    ),
    "course/notebook_file.py": Fault("the first check counts", ")[-1:]:", ")[:1]:", "test_submissions -k last_check"),
    "course/progress.py": Fault(
        "a pass is lost again",
        'passed or before.get("passed") is True',
        "passed",
        "test_course -k records_the_pass",
    ),
    "course/sandbox.py": Fault(
        "the answer may call the reference", "frame.f_code in codes:", "frame.f_code in ():", "test_grader"
    ),
    "course/source.py": Fault(
        "not dedented",
        "textwrap.dedent(inspect.getsource(function)).rstrip()",
        "inspect.getsource(function)",
        "test_course -k show",
    ),
    "course/box.py": Fault(
        "a helper's cell is not run", "needed |= cell.uses", "needed |= set()", "test_submissions -k only_their"
    ),
    "course/boxed.py": Fault(
        "changes of arguments are lost",
        'restore(arguments, unpacked(reply["arguments"]))',
        "pass",
        "test_submissions -k only_their",
    ),
    "course/device.py": Fault(
        "what comes back is on the host",
        "return _on_device(self._host[_off_device(index)])",
        "return self._host[_off_device(index)]",
        "test_course -k 10.",
    ),
    "course/lab.py": Fault(
        "a new edition replaces work", "        if not place.exists():", "        if True:", "test_lab"
    ),
    "course/submissions.py": Fault(
        "a wrong answer has its points",
        "reason = stopped or _hint(number, error)",
        "return self._marks.award(number)",
        "test_submissions -k wrong",
    ),
    "data/bach.py": Fault("minor is brought to C", '"minor": 9', '"minor": 0', "test_data_bach"),
    "data/baselines.py": Fault(
        "no prior counts", "p = (k + 0.5) / (n + 1)", "p = (k + 0.5) / (n + 2)", "test_data_baselines"
    ),
    "data/cache.py": Fault(
        "the variable is ignored", "if os.environ.get(CACHE):", "if False:", "test_data_bach test_data_mapped"
    ),
    "data/load.py": Fault(
        "test and validation exchanged",
        "members = {s: np.flatnonzero(split == k) for k, s in enumerate(SPLITS)}",
        "members = {s: np.flatnonzero(split == (3 - k) % 3) for k, s in enumerate(SPLITS)}",
        "test_data_load test_data_embedded",
    ),
    "data/mapped.py": Fault(
        "standardised once of two times", "(m + s * mean, s * std))", "(mean, std))", "test_data_mapped"
    ),
    "data/readers/__init__.py": Fault(
        "the ending's case counts",
        "ending = path.suffix.lower()",
        "ending = path.suffix",
        "test_data_load -k ending",
    ),
    "data/readers/arrays.py": Fault(
        "padding is data",
        "Sequences(_without_padding(x, lengths), lengths, where)",
        "Sequences(x.reshape(-1, x.shape[-1]), np.full(n, steps), where)",
        "test_data_load",
    ),
    "data/readers/content.py": Fault(
        "another permutation", 'generator(0, "split")', 'generator(1, "split")', "test_data_load test_data_sequences"
    ),
    "data/readers/iamondb.py": Fault(
        "the pen is lifted a step early", "lifted[1:]", "lifted[:-1]", "test_data_iamondb"
    ),
    "data/readers/mat.py": Fault(
        "numbers are booleans", "if not ((x == 0) | (x == 1)).all():", "if False:", "test_data_pianoroll"
    ),
    "data/readers/pianoroll.py": Fault(
        "another process's refusal is lost", "if done.returncode == mat.REFUSED:", "if False:", "test_data_pianoroll"
    ),
    "data/readers/midi.py": Fault("short notes vanish", "max(end, start + 1)", "end", "test_data_midi"),
    "data/readers/sound.py": Fault(
        "samples stay in the upper bits", "* dtype.itemsize - bits", "* 0", "test_data_sound"
    ),
    "data/readers/text.py": Fault("Windows' line ends stay", '.replace("\\r\\n", "\\n")', "", "test_data_text"),
    "data/readers/foreign.py": Fault(
        "a file is what its ending says", "likely and ending not in likely", "False", "test_data_folders"
    ),
    "data/readers/table.py": Fault("names are not looked at", "own != names[0] or", "False or", "test_data_table"),
    "data/scale.py": Fault(
        "variance for deviation",
        "std = np.sqrt(_mean(train, lambda x: (x - mean) ** 2))",
        "std = _mean(train, lambda x: (x - mean) ** 2)",
        "test_data_load test_data_mapped",
    ),
    "data/sequences.py": Fault(
        "padding is not zero", "x[t >= lengths] = 0", "x[t > lengths] = 0", "test_data_sequences"
    ),
    "data/readers/pickles.py": Fault(
        "any name is found", "if (module, name) not in ALLOWED:", "if False:", "test_data_pianoroll"
    ),
    "io/npz.py": Fault("axes are exchanged", "order=header.order)", 'order="C")', "test_strangers -k any_shape"),
    "version.py": Fault("another version", '__version__ = "0.1.0"', '__version__ = "0.2.0"', "test_docs -k citation"),
}


def modules():
    """The modules with code, as paths in the package, that are in no room of scripts/mutation.py."""
    mutated = [pattern for room in ROOMS.values() for pattern in room.paths.split()]
    found = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    left = (name for name in sorted(found) if not any(fnmatch(name, pattern) for pattern in mutated))
    return [name for name in left if has_code(found[name])]


def has_code(path):
    """Whether a module has more than a docstring, imports and exported names."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    nothing = (ast.Import, ast.ImportFrom, ast.Expr)
    return path.name == "__main__.py" or not all(
        isinstance(node, nothing) or "__all__" in ast.unparse(node) for node in body
    )


def faulty(source, fault, where):
    """The source with the fault. Raises ValueError unless the text occurs exactly once."""
    if source.count(fault.text) != 1:
        raise ValueError(f"{where} holds {fault.text!r} {source.count(fault.text)} times, not once: name another text")
    return source.replace(fault.text, fault.wrong)


def guards(fault):
    """The arguments of pytest: files, and -k."""
    names, _, chosen = fault.tests.partition(" -k ")
    return [f"tests/{name}.py" for name in names.split()] + (["-k", chosen] if chosen else [])


def red_test(module, fault):
    """The first test that fails with the fault planted, or None."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(folder) / name)
        path = Path(folder) / "tinyvrnn" / module
        path.write_text(faulty(path.read_text(encoding="utf-8"), fault, module), encoding="utf-8")
        chosen = ["-p", "no:cacheprovider", "-m", "not slow or one_in", *guards(fault)]
        command = [sys.executable, "-m", "pytest", "-q", "-x", *chosen]
        env = os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS)
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return found and found[1].rstrip(":") if done.returncode else None


def main(names):
    start = time.perf_counter()
    chosen = [m for m in modules() if not names or any(name in m for name in names)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda m: red_test(m, FAULTS[m]), chosen)
        green = [module for module, red in zip(chosen, found) if not report(module, red)]
    minutes = (time.perf_counter() - start) / 60
    print(
        f"{len(chosen) - len(green)} of {len(chosen)} faults found, in {minutes:.0f} min",
        *green[:1] and ["; green:"],
        *green,
    )
    return 1 if green else 0


def report(module, red):
    print(f"{module:<30} {FAULTS[module].name:<40} {red or 'GREEN'}", flush=True)
    return red


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
