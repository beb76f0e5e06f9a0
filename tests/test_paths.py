"""The paths that a person gives: to a command, to a function, in the environment.

Catches: an entrance that does not expand ~, or answers a path that cannot be with a traceback; a folder named "~"; a
run, a prime or data that are overwritten; an ending in capitals that is refused; a name without a stem that becomes
another folder.
"""

import shutil
import sys

import nbformat
import numpy as np
import pytest
from fuzz.targets import assert_one_sentence
from test_submissions import NAME, notebook

import runs
import tinyvrnn as tv
from tinyvrnn import cli
from tinyvrnn.course import progress, submissions
from tinyvrnn.data import read_sequences
from tinyvrnn.data.cache import CACHE, cache_folder
from tinyvrnn.runs.run import FILES

QUICK = ["--hidden", "4", "--latent", "2", "--epochs", "1", "--workers", "1"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current folder, which is the home folder too, with a run, data, a plugin, and a class to grade."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cli.commands.report, "draw_pictures", lambda *arguments: None)
    monkeypatch.setattr(submissions, "_require_box", lambda: None)
    monkeypatch.setattr(submissions, "grade_notebook", lambda *arguments: ({"06.2": 1, "06.6": 1}, ""))
    tv.save(tv.VRNN(x_dim=2, h_dim=4, z_dim=2, likelihood="bernoulli"), tmp_path / "run", data="x.npy")
    np.save(tmp_path / "x.npy", np.arange(60).reshape(10, 3, 2) % 2)
    (tmp_path / "plugin.py").write_text("raise ValueError('it ran')")
    (tmp_path / "class" / "ada").mkdir(parents=True)
    nbformat.write(notebook(), tmp_path / NAME)
    shutil.copy(NAME, tmp_path / "class" / "ada")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


COMMANDS = {  # PATH: what is given; the name of something suitable in `place`, or None for a file that is written
    "train DATA": (["train", "PATH", *QUICK, "--out", "new"], "x.npy"),
    "train --out": (["train", "digits8", *QUICK, "--out", "PATH"], "new"),
    "evaluate RUN": (["evaluate", "PATH"], "run"),
    "evaluate --data": (["evaluate", "run", "--data", "PATH"], "x.npy"),
    "sample RUN": (["sample", "PATH", "--out", "new.npz"], "run"),
    "sample --out": (["sample", "run", "--out", "PATH"], "new.npz"),
    "sample --prime": (["sample", "run", "--prime", "PATH", "--steps", "1", "--out", "new.npz"], "x.npy"),
    "forecast RUN": (["forecast", "PATH", "--prime", "x.npy", "--steps", "1", "--out", "new.npz"], "run"),
    "forecast --prime": (["forecast", "run", "--prime", "PATH", "--steps", "1", "--out", "new.npz"], "x.npy"),
    "forecast --out": (["forecast", "run", "--prime", "x.npy", "--steps", "1", "--out", "PATH"], "new.npz"),
    "exact --out": (["exact", "--out", "PATH"], "new.png"),
    "course grade NOTEBOOK": (["course", "grade", "PATH", "class"], NAME),
    "course grade FOLDER": (["course", "grade", NAME, "PATH"], "class"),
    "course grade --out": (["course", "grade", NAME, "class", "--out", "PATH"], "new.csv"),
}
PLUGIN = ["gradcheck", "--plugin", "PATH"]
FUNCTIONS = {
    "load": tv.load,
    "save": lambda path: tv.save(runs.small_model(), path),
    "Run": tv.Run,
    "load_data": tv.load_data,
    "read_sequences": read_sequences,
}
IMPOSSIBLE = {
    "empty": ("", "it is empty"),
    "zero byte": ("a\0b", "embedded null"),
    "too long": ("x" * 5000, "File name too long"),
    "through a file": ("x.npy/new", "Not a directory"),
    "loop": ("loop/x", "Too many levels of symbolic links"),
    "unknown user": ("~nobody-of-this-name/x", "no home folder is known"),
    "no Unicode": ("\ud800", "surrogates not allowed"),
}
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="messages of Linux")


def given(arguments, path):
    return [path if one == "PATH" else one for one in arguments]


@linux
@pytest.mark.parametrize("kind", IMPOSSIBLE)
@pytest.mark.parametrize("command", [*COMMANDS, "gradcheck --plugin"])
@pytest.mark.one_in(4)
def test_a_path_that_cannot_be_is_one_sentence_of_every_command(command, kind, place, capsys):
    path, words = IMPOSSIBLE[kind]
    before = sorted(place.rglob("*"))
    arguments, _ = COMMANDS.get(command, (PLUGIN, None))
    assert cli.main(given(arguments, path)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err and "can't be used" in err
    assert_one_sentence(err.strip())
    assert sorted(place.rglob("*")) == before


@linux
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("path, words", [*IMPOSSIBLE.values(), (None, "not NoneType"), (5, "not int")])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_path_that_cannot_be_is_one_sentence_of_every_function(name, path, words):
    with pytest.raises(tv.DataError if "data" in name or "seq" in name else tv.CheckpointError, match=words) as caught:
        FUNCTIONS[name](path)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_expands_the_home_folder(command, place, monkeypatch, tmp_path_factory):
    arguments, name = COMMANDS[command]
    assert cli.main(given(arguments, f"~/{name}")) == 0
    assert (place / name).exists() and not (place / "~").exists()


def test_the_plugin_of_the_home_folder_runs(place, capsys):
    assert cli.main(given(PLUGIN, "~/plugin.py")) == 2
    assert "with ValueError: it ran" in capsys.readouterr().err


def test_every_function_expands_the_home_folder(place):
    assert tv.load("~/run").x_dim == 2 and tv.load_data("~/x.npy").name == "x" and len(read_sequences("~/x.npy")) == 10
    assert tv.save(runs.small_model(), "~/new") == place / "new" / "checkpoint.npz"
    assert tv.Run("~/other").folder == place / "other" and tv.Run(b"~/other").folder == place / "other"


@pytest.fixture
def homeless(monkeypatch):
    """No home folder: HOME is not set, and the system does not know the user, as in some containers."""

    def unknown(*user):
        raise KeyError

    for name in ("HOME", "XDG_CACHE_HOME", "TINYVRNN_HOME", CACHE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pytest.importorskip("pwd"), "getpwuid", unknown)


def test_the_folders_of_the_environment_are_expanded(place, monkeypatch):
    monkeypatch.setenv(CACHE, "~/c")
    monkeypatch.setenv("TINYVRNN_HOME", "~/h")
    progress.record("01.1", passed=True)
    assert cache_folder() == place / "c" and progress.path() == place / "h" / "course.json" and progress.path().exists()


@pytest.mark.usefixtures("place", "homeless")
def test_without_a_home_folder_only_what_needs_it_is_refused(capsys):
    assert cli.main(["train", "x.npy", *QUICK]) == 0
    assert cli.main(["sample", "run", "--out", "new.npz"]) == 0
    with pytest.raises(tv.course.NotYet, match="wrong"):
        tv.course.check("06.2", lambda a, dy: dy)
    capsys.readouterr()
    for call in (cache_folder, progress.path, lambda: tv.load("~/run"), lambda: tv.Run("~/new")):
        with pytest.raises(tv.TinyvrnnError, match="home folder"):
            call()
    assert cli.main(["course", "status"]) == 2
    assert capsys.readouterr().err.startswith("tinyvrnn: The path '~/.tinyvrnn' can't be used: no home folder is known")


# ---- what must not be overwritten


@pytest.mark.parametrize(
    "arguments",
    [
        *(["sample", "run", "--out", f"run/{name}"] for name in FILES if name[-3:] in ("npz", "png")),
        ["sample", "run", "--out", "run/RESUME.NPZ"],
        ["exact", "--out", "run/curves.png"],
        ["sample", "run", "--prime", "x.npz", "--out", "x.npz"],
        ["sample", "run", "--prime", "x.npz", "--out", "run/../x.npz"],
        ["sample", "run", "--prime", "csv", "--out", "csv/new.npz"],
        ["forecast", "run", "--prime", "csv", "--steps", "1", "--out", "csv/new.npz"],
        ["forecast", "run", "--prime", "csv", "--steps", "1", "--out", "run/curves.png"],
        ["train", "csv", *QUICK, "--out", "csv"],
        ["train", "csv", *QUICK, "--out", "csv/train/new/deep"],
        ["train", "link", *QUICK, "--out", "csv/new"],
        ["train", "run/resume.npz", *QUICK, "--out", "run", "--overwrite"],
        ["course", "grade", NAME, "class", "--out", NAME],
        ["course", "grade", NAME, "class", "--out", f"class/ada/{NAME}"],
        ["course", "grade", NAME, "class", "--out", "/dev/null"],
    ],
    ids=" ".join,
)
def test_no_run_or_data_are_overwritten(arguments, place, capsys):
    for split in ("train", "valid", "test"):
        (place / "csv" / split).mkdir(parents=True)
        (place / "csv" / split / "a.csv").write_text("1,1\n0,1\n")
    (place / "link").symlink_to("csv")
    for name in ("x.npz", "run/resume.npz"):
        np.savez(place / name, x=np.load("x.npy"))
    before = {path: path.is_file() and path.read_bytes() for path in place.rglob("*")}
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if not line.startswith("tinyvrnn: note: ")]
    assert len(lines) == 1 and ("would write into" in err or "cannot be written" in err)
    assert {path: path.is_file() and path.read_bytes() for path in place.rglob("*")} == before


def test_any_other_file_is_replaced(place):
    for name in ("samples.png", "new.npz", "curves.png"):
        (place / name).write_text("old")
        assert cli.main(["sample", "run", "--prime", "x.npy", "--steps", "1", "--out", name]) == 0
        assert (place / name).read_bytes()[:3] != b"old"


# ---- endings and names


@pytest.mark.parametrize("name", ["a.PNG", "a.Npz", "a b.png", "..a.png", "a..npz", "é.npz", " .png"])
def test_an_ending_counts_in_any_case(name, place):
    assert cli.main(["sample", "run", "--out", name]) == 0 and (place / name).is_file()


@pytest.mark.parametrize("name", [".png", "..png", "...npz", "a.png ", "a.png.", "a", "png", "a.jpg", ".", "..", "run"])
def test_a_name_without_a_stem_or_an_ending_is_refused(name, place, capsys):
    before = sorted(place.rglob("*"))
    for command in (["sample", "run"], ["exact"], ["forecast", "run", "--prime", "x.npy", "--steps", "1"]):
        assert cli.main([*command, "--out", name]) == 2
        err = capsys.readouterr().err
        assert err.startswith("tinyvrnn: --out must be a name that ends in .png") and err.count("\n") == 1
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("name", ["d.png", "d.npz"])
def test_a_folder_is_not_replaced_by_a_file(name, place, capsys):
    (place / name).mkdir()
    assert cli.main(["sample", "run", "--out", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and list((place / name).iterdir()) == []


@pytest.mark.parametrize(
    "name, run",
    [
        ("...npy", "...npy"),
        ("...", "data"),
        (".npy", ".npy"),
        ("x .npy", "x "),
        ("x.y.NPY", "x.y"),
        ("x.npy ", "x"),
        ("x.", "x"),
        (" ", " "),
    ],
)
def test_data_of_any_name_get_a_run_of_their_own(name, run, place):
    (place / "x.npy").rename(place / name)
    before = {path.name for path in place.iterdir()}
    assert cli.main(["train", f"./{name}", *QUICK]) == 0
    assert {path.name for path in place.iterdir()} == before | {"runs"}
    assert [path.name for path in (place / "runs").iterdir()] == [run]


@pytest.mark.parametrize("folder", [".", "sub/..", "../csv"])
def test_a_folder_names_its_run_by_its_own_name(folder, tmp_path, monkeypatch):
    (tmp_path / "mine" / "sub").mkdir(parents=True)
    (tmp_path / "csv").symlink_to("mine")
    for i in range(3):
        (tmp_path / "mine" / f"{i}.csv").write_text("1,0\n0,1\n")
    monkeypatch.chdir(tmp_path / "mine")
    assert tv.load_data(folder).name == "mine"
