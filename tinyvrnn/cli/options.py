"""The parser of the command: MODEL_OPTIONS has the options of a model; those of training are `training.Options`."""

import argparse
import csv
import inspect
import sys

from tinyvrnn.bounds import BOUNDS
from tinyvrnn.cli import commands
from tinyvrnn.course.submissions import SECONDS
from tinyvrnn.data import FORMS, NAMES, SCALES, SPLITS
from tinyvrnn.data.sequences import MISSING
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.errors import SIZE, shown, unknown_name
from tinyvrnn.models import MODELS, POSTERIORS
from tinyvrnn.nn.cells import CELLS
from tinyvrnn.runs.run import MAY_CHANGE
from tinyvrnn.training import Options, default_text, described
from tinyvrnn.version import __version__

BACKENDS = ("numpy", "cupy")
STEPS = ("4", "8", "12", "16", "24", "32", "48")


MODEL_OPTIONS = {  # arguments of the model's class: their help, and how they differ from those of `_add_model_option`
    "likelihood": (f"{' | '.join(LIKELIHOODS)} (default bernoulli, gaussian or pen, by data)", {"type": str}),
    "cell": (f"{' | '.join(CELLS)}: f of Eq. 1 and 7", {"type": str}),
    "posterior": (f"{' | '.join(POSTERIORS)}: q of z_t is given x up to t, or all of x", {"type": str}),
    "components": ("of a mixture, gmm or pen", {}),
    "hidden": ("width of the state h; of all layers of a vae", {"dest": "h_dim", "default": 100}),
    "latent": ("width of z; an rnn has none", {"dest": "z_dim", "default": 16}),
    "features": ("width of the hidden layers (default --hidden)", {}),
    "layers": ("hidden layers in phi_x, encoder and decoder", {}),
}


def parser():
    """The argparse parser of the whole command; the namespace holds the function to call as `run`."""
    whole = _Parser(prog="tinyvrnn", description="The Variational Recurrent Neural Network, from scratch in NumPy.")
    whole.add_argument("--version", action="version", version=f"tinyvrnn {__version__}")
    room = whole.add_subparsers(required=True, metavar="COMMAND")
    _train_options(_command(room, "train", commands.train, "train a model and write a run folder", BACKENDS))
    about = "the ELBO or another bound of a run on a data set"
    _evaluate_options(_command(room, "evaluate", commands.evaluate, about, BACKENDS))
    about = "write posterior, prior, z, h and the terms of the ELBO of every step"
    p = _command(room, "infer", commands.infer, about, BACKENDS)
    _data_options(p)
    p.add_argument("--out", required=True, metavar="FILE.npz", help="arrays (N, T, .), 0 after the end, and lengths")
    about = "draw sequences from a run's model, or continue given ones"
    _sample_options(_command(room, "sample", commands.sample, about, BACKENDS))
    about = "draw what follows given sequences, and chart it"
    _forecast_options(_command(room, "forecast", commands.forecast, about, BACKENDS))
    about = "numeric check of every pair and of the whole bound"
    _gradcheck_options(_command(room, "gradcheck", commands.gradcheck, about, (*BACKENDS, "strict")))
    p = _command(room, "exact", commands.exact, "the bound of a linear VRNN next to its exact log p(x)")
    p.add_argument("--out", metavar="FILE.png", help="draw the gaps")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    p = _command(room, "data", commands.data_sets, "the data sets in the package")
    p.add_argument("name", nargs="?", type=_one_of("data set", NAMES), metavar="NAME")
    _course_commands(room.add_parser("course", help="your progress in the course, and grading submissions"))
    return whole


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(None, unknown_name("command", value, action.choices))

    def parse_known_args(self, args=None, namespace=None):
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:  # said by the parser of the command itself, whose --help lists what it takes
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message):
        print(f"tinyvrnn: {shown(message).removesuffix('.')}; see `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(2)


def _command(room, name, function, text, backends=()):
    """The parser of one command; with backends, of a command that makes a model, which also takes a plugin."""
    p = room.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    p.set_defaults(run=function)
    if backends:
        p.add_argument("--backend", type=_one_of("backend", backends), default="numpy", help=" | ".join(backends))
        about = "a .py file that registers likelihoods or cells of your own; it runs first"
        p.add_argument("--plugin", metavar="FILE.py", help=about)
    return p


def _train_options(p):
    p.add_argument("data", metavar="DATA", help=f"{', '.join(NAMES)}, or the path of {FORMS}")
    model = p.add_argument_group("the model")
    model.add_argument("--model", type=_one_of("model", MODELS), default="vrnn", help=" | ".join(MODELS))
    for name in MODEL_OPTIONS:
        _add_model_option(model, name)
    model.add_argument("--dtype", type=_one_of("dtype", ("float32", "float64")), default="float32")
    about = (
        "of a pen's dx and dy: one, for both (default); authors, one as in the code of the paper's authors "
        "(default for IAM-OnDB); axes, one each"
    )
    p.add_argument("--scale", type=_one_of("scale", SCALES), help=about)
    p.add_argument("--window", type=_positive, metavar="N", help="cut long sequences into windows of N steps")
    p.add_argument("--stride", type=_positive, metavar="M", help="a window every M steps (default: --window)")
    p.add_argument("--columns", type=_names, metavar="A,B", help="of .csv: read these columns only")
    p.add_argument("--skip-columns", type=_names, metavar="A,B", help="of .csv: read all columns but these")
    about = f"of MIDI: the part of a whole note, {', '.join(STEPS)} (default 16, a sixteenth)"
    p.add_argument("--step", type=_one_of("step", STEPS), help=about)
    _missing_option(p)
    training = p.add_argument_group("training")
    length = training.add_mutually_exclusive_group()
    for name in Options._fields:
        _add_training_option(length if name in ("epochs", "minutes") else training, name)
    _run_options(p.add_argument_group("the run"))


def _run_options(p):
    p.add_argument("--out", help="run folder (default runs/DATA)")
    taken = p.add_mutually_exclusive_group()
    taken.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    about = "continue the run in --out, bit for bit; all other options as at its start"
    taken.add_argument("--resume", action="store_true", help=f"{about} (except {', '.join(MAY_CHANGE)})")


def _add_model_option(p, name):
    """An option with a whole number, None unless given, which stands for the default of the VRNN."""
    about, others = MODEL_OPTIONS[name]
    if "(default" not in about:
        default = others.get("default") or inspect.signature(MODELS["vrnn"]).parameters[name].default
        about += f" (default {default})"
    p.add_argument(f"--{name}", help=about, **{"type": int, "metavar": name.upper()} | others)


def _add_training_option(p, name):
    flag, (kinds, about), default = "--" + name.replace("_", "-"), described(name), default_text(name)
    if bool in kinds:
        p.add_argument(flag, action="store_true", help=about.help)
        return
    text = f"{about.help} (default {default})" if default else about.help
    p.add_argument(flag, type=_number_or_word if len(kinds) > 1 else kinds[0], metavar=about.metavar, help=text)


def _data_options(p):
    p.add_argument("run_folder", metavar="RUN", help="folder of a run")
    p.add_argument("--data", help="set or file (default: what the run was trained on)")
    p.add_argument("--split", type=_one_of("split", SPLITS), help="default: test; of a file, all")
    _missing_option(p)


def _missing_option(p):
    about = "nan: NaN marks missing values, which are read as the mean and not scored; a run remembers it"
    p.add_argument("--missing", type=_one_of("missing", MISSING), help=about)


def _evaluate_options(p):
    bounds = (*BOUNDS, "exact")
    _data_options(p)
    p.add_argument("--json", action="store_true", help="print one JSON object")
    about = "compute N steps at once and carry the state on: the same ELBO in less memory, for very long sequences"
    p.add_argument("--chunk", type=_positive, metavar="N", help=about)
    p.add_argument("--bound", type=_one_of("bound", bounds), default="elbo", help=" | ".join(bounds))
    about = f"draws of z in iwae and fivo; fivo is iwae up to 2 (default {commands.PARTICLES_TO_EVALUATE})"
    p.add_argument("--particles", type=_positive, metavar="K", help=about)


def _sample_options(p):
    p.add_argument("run_folder", metavar="RUN", help="folder of a run")
    p.add_argument("-n", type=_positive, help="how many sequences (default 16); draws for each of --prime (default 1)")
    about = "(default: for each a length drawn from the training data; with --prime, up to the longest, at least 1)"
    p.add_argument("--steps", type=_positive, help=f"steps to draw {about}")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--prime", metavar="FILE", help="file or folder of sequences to continue, of one length")
    about = "scales standard deviations and divides logits: below 1 draws are more alike (default 1)"
    p.add_argument("--temperature", type=float, default=1.0, metavar="TAU", help=about)
    p.add_argument("--mean", action="store_true", help="write the mean that each step was drawn around")
    _missing_option(p)
    p.add_argument("--out", required=True, help="FILE.png, .npz; ink: .gif, piano rolls: .mid, sound: .wav, text: .txt")


def _forecast_options(p):
    p.add_argument("run_folder", metavar="RUN", help="folder of a run")
    p.add_argument("--prime", required=True, metavar="FILE", help="file or folder of sequences, of any lengths")
    p.add_argument("--steps", required=True, type=_positive, help="steps to forecast")
    p.add_argument("--draws", type=_positive, default=100, help="futures of each sequence (default 100)")
    p.add_argument("--seed", type=int, default=0)
    _missing_option(p)
    p.add_argument("--out", required=True, help="FILE.png, a fan chart, or .npz, draws (K, steps, N, X)")


def _gradcheck_options(p):
    p.add_argument("--model", type=_one_of("model", MODELS), default="vrnn", help=" | ".join(MODELS))
    _add_model_option(p, "cell")
    _add_model_option(p, "posterior")
    p.add_argument("--seed", type=int, default=0)


def _course_commands(parser):
    room = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(room, "status", commands.course_status, "which exercises you have passed")
    p = _command(room, "grade", commands.course_grade, "run and grade a class's notebooks, and write their marks")
    p.add_argument("notebook", metavar="NOTEBOOK", help="the notebook as it was handed out")
    p.add_argument("folder", metavar="FOLDER", help="with a folder for each student, or files STUDENT_NAME.ipynb")
    about = f"how long a cell or a call of an answer may run (default {SECONDS})"
    p.add_argument("--seconds", type=int, default=SECONDS, help=about)
    p.add_argument("--jobs", type=_positive, default=1, metavar="N", help="how many notebooks at once (default 1)")
    p.add_argument("--out", default="grades.csv", help="the table of marks (default grades.csv)")
    p.add_argument("--resume", action="store_true", help="keep the rows that the table has, and grade the others")
    p.add_argument("--moodle", metavar="FILE", help="write the totals for Moodle's import as well")
    p.add_argument("--canvas", metavar="FILE", help="write the totals for Canvas's import as well")
    p = _command(room, "start", commands.course_start, "make a folder to work in: the notebooks, and your progress")
    p.add_argument("folder", metavar="FOLDER", help="a new folder, or yours: what is in it stays")


def _one_of(kind, known):
    def convert(name):
        if name not in known:
            raise argparse.ArgumentTypeError(unknown_name(kind, name, known))
        return name

    return convert


def _names(text):
    """The names in a line of a table: one with a comma is in double quotes."""
    return next(csv.reader([text]), [])


def _number_or_word(text):
    return int(text[:4300]) if text.isdecimal() else text


def _positive(text):
    if not text.isdecimal() or not 1 <= int(text[:4300]) < 2**SIZE:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 2**{SIZE} - 1, got {text:.40}")
    return int(text)
