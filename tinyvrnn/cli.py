"""The command: tinyvrnn train | evaluate | sample | gradcheck | exact | data | course.

A mistake of the user's ends in one sentence on standard error and exit code 2; a failed gradient check in exit code 1.
"""

import argparse
import json
import math
import shlex
import sys
import warnings
from pathlib import Path

from tinyvrnn import course
from tinyvrnn.bounds import evaluate, evaluate_elbo
from tinyvrnn.course.submissions import grade_folder
from tinyvrnn.data import (
    FORMS,
    NAMES,
    SCALES,
    SPLITS,
    baselines,
    check_rate,
    check_suits,
    embedded,
    in_unit_interval,
    load_data,
    pad,
    read_like,
    standardised,
)
from tinyvrnn.distributions import COMPONENTS, LIKELIHOODS
from tinyvrnn.errors import ConfigError, DataError, GradientError, TinyvrnnError, unknown_name
from tinyvrnn.gradcheck import check_model
from tinyvrnn.gradcheck.all_pairs import PAIRS, check, small_model
from tinyvrnn.models import MODELS, linear_gaussian
from tinyvrnn.models.batch import BOUNDS
from tinyvrnn.models.vrnn import POSTERIORS
from tinyvrnn.nn.cells import CELLS
from tinyvrnn.runs import checkpoint, plots
from tinyvrnn.runs.export import check_ending, write_figure, write_samples
from tinyvrnn.runs.run import FILES, MAY_CHANGE, Run
from tinyvrnn.training.loop import train
from tinyvrnn.training.options import (
    CLIP_OF_INK,
    DROPOUT_OF_A_SMALL_SET,
    RECIPE,
    RECIPE_OF_A_SMALL_SET,
    SMALL_SET,
    Options,
    recipe,
)
from tinyvrnn.version import __version__

BASELINES = {  # the kind of baselines that suits a likelihood
    "bernoulli": "binary",
    "gaussian": "real",
    "gmm": "real",
    "pen": "pen",
    "categorical": "categorical",
}
NAMES_OF_BOUNDS = {"elbo": "elbo, a lower bound", "exact": "exact log-likelihood"}
WHOLE = {"vrnn": "ELBO, Eq. 11", "vrnn-i": "ELBO of VRNN-I", "rnn": "log p(x), Eq. 2", "vae": "ELBO, Eq. 3"}
UNITS = "nats per sequence"


def main(argv=None):
    """Runs one command. Returns the exit code: 0 done, 1 a check failed, 2 a mistake of the user's, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    arguments.given = sys.argv[1:] if argv is None else argv
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show
            return arguments.run(arguments) or 0
    except TinyvrnnError as error:
        print(f"tinyvrnn: {error}", file=sys.stderr)
    except MemoryError:
        print("tinyvrnn: This needs more memory than there is: use a smaller model or batch.", file=sys.stderr)
    except BrokenPipeError:
        return 141 if arguments.run is command_train else 0  # as a shell says of SIGPIPE: the training did not end
    except OSError as error:
        print(f"tinyvrnn: {error.filename or 'Reading or writing'}: {error.strerror or error}.", file=sys.stderr)
    except KeyboardInterrupt as interrupt:
        print(f"tinyvrnn: Interrupted; {str(interrupt) or 'what was written so far is whole'}.", file=sys.stderr)
        return 130
    return 2


def _show(message, *where):
    """A warning as a person reads it."""
    print(f"tinyvrnn: {message}.", file=sys.stderr)


# ---- commands ------------------------------------------------------------------------------------


def command_train(a):
    data, likelihood = _load_for(a.data, a.likelihood, a.scale)
    check_suits(data, LIKELIHOODS[likelihood])
    options = _training_options(a, data)
    model = _model(a, data.x_dim, likelihood)
    options.check_for(model)
    live = sys.stderr.isatty()

    def on_epoch(record, is_best):
        if not live:  # a log has no use for a bar that redraws itself
            score = record["valid"][options.score]
            print(f"epoch {record['epoch']}: valid {options.score_name(model)} {score:.2f}", flush=True)

    folder = Path(a.out or f"runs/{data.name}")
    with Run(folder, a.overwrite, a.resume) as run:
        print(f"{model}\n{data}\n{options.describe()}", flush=True)
        if a.resume:
            print(f"{folder} holds {'a run: it goes on' if run.can_go_on else 'no run yet: it begins'}", flush=True)
        try:
            records = train(model, data, live, on_epoch, run, **options._asdict())
        except KeyboardInterrupt:
            if run.has_kept:
                raise KeyboardInterrupt(f"saved in {folder}; go on with: {_command_to_go_on(a)}") from None
            raise
        if not records:
            raise ConfigError("There was no time for an epoch: give more --minutes, and --resume to go on.")
        _report(model, data, records, options)
        _pictures(run, model, data, records)
        print(f"wrote {folder}/: {', '.join(name for name in FILES if (run.folder / name).exists())}")


def command_evaluate(a):
    manifest, arrays = checkpoint.read(a.run_folder)
    model = checkpoint.restore(manifest, arrays, a.run_folder, a.backend)
    source = a.data or manifest["data"]
    if source is None:
        raise DataError(f"{a.run_folder} does not say what it was trained on: name a set or file with --data.")
    whole = a.data is not None and a.split is None and a.data not in NAMES
    data = None if whole else load_data(source, standardise=False)
    name, split, sequences = _to_score(source, data, a.split or "test", model)
    check_suits(sequences, model.likelihood)
    particles = _particles(a.bound, a.particles, default=64)
    if a.bound == "exact" and model.bound != "exact":
        raise ConfigError(
            f"log p(x) of a {model.name} has bounds, but no exact value: give --bound elbo, iwae or fivo."
        )
    if a.bound in ("elbo", "exact"):
        result = evaluate_elbo(model, sequences, chunk=a.chunk)._asdict() | {"bound": model.bound}
    elif a.chunk is not None:
        raise ConfigError(f"--chunk is for the bound elbo, got {a.bound}: leave one out.")
    else:
        result = evaluate(model, sequences, a.bound, particles)._asdict()
    result = _plain(result | {"units": model.units, "model": model.name, "data": name, "split": split})
    result["baselines"] = _trivial(model, manifest["data"], data if source == manifest["data"] else None, sequences)
    print(json.dumps(result) if a.json else _evaluation_text(result) + _baselines_text(result["baselines"]))


def command_sample(a):
    check_ending(Path(a.out))
    manifest, arrays = checkpoint.read(a.run_folder)
    check_ending(Path(a.out), manifest["medium"])
    model = checkpoint.restore(manifest, arrays, a.run_folder, a.backend)
    prime = None if a.prime is None else _prime(a.prime, model, a.n)
    known = 0 if prime is None else prime.shape[0]
    steps = a.steps or max(1, (manifest["steps"] or 28) - known)
    x = model.backend.to_host(model.sample(a.n or 16, steps, a.seed, prime))
    raw = (x * model.std + model.mean).astype("float32")
    write_samples(Path(a.out), raw, model.medium, model.likelihood.name == "bernoulli")
    print(f"wrote {a.out}: {x.shape[1]} sequences of {x.shape[0]} steps")


def command_gradcheck(a):
    get_rows = {name: lambda name=name: check(name, a.backend, a.seed) for name in PAIRS}
    for likelihood in LIKELIHOODS:
        whole = f"{WHOLE[a.model]}, {likelihood}"
        get_rows[whole] = lambda name=likelihood: _check_whole(a, name)
    print(f"{'pair':<30}{'leaf':<20}{'analytic':>16}{'numeric':>16}{'rel. to leaf':>13}")
    failed = [name for name, rows in get_rows.items() if not _print_rows(name, rows)]
    print(
        f"{len(get_rows) - len(failed)} of {len(get_rows)} passed" + (f"; failed: {', '.join(failed)}" * bool(failed))
    )
    return 1 if failed else 0


def command_exact(a):
    if a.out is not None and Path(a.out).suffix != ".png":
        raise ConfigError(f"--out must end in .png, got {a.out}.")
    rows = linear_gaussian.table()
    if a.json:
        about = {"model": repr(linear_gaussian.LinearGaussian()).partition(", posterior")[0] + ")", "units": UNITS}
        print(json.dumps(about | {"data": "sin(t / 2), t = 1..20", "rows": [row._asdict() for row in rows]}))
    else:
        print(_exact_text(rows))
    if a.out is not None:
        write_figure(Path(a.out), plots.gaps(rows))
        print(f"wrote {a.out}", file=sys.stderr if a.json else sys.stdout)


def command_data(a):
    sets = embedded()
    if a.name is not None and a.name not in NAMES:
        raise DataError(unknown_name("data set", a.name, NAMES))
    if a.name not in sets and a.name is not None:  # reading it may take long, so it is done for who asks by name
        print(load_data(a.name))
        return
    for name in sets if a.name is None else [a.name]:
        about = sets[name]
        counts = ", ".join(f"{n:,} {split}" for split, n in about["sequences"].items())
        shortest, longest = about["steps"]
        length = f"{longest}" if shortest == longest else f"{shortest} to {longest}"
        print(f"{name}: {counts} sequences of {length} steps of {about['x_dim']} values; {about['bytes']:,} bytes")
        print(f"    source   {about['source']}\n    licence  {about['licence']}\n    units    {about['units']}")
    if a.name is None:
        others = ", ".join(name for name in NAMES if name not in sets)
        print(f"{others}: with the extra tinyvrnn[music], read at its first use; `tinyvrnn data {others}` reads it")


def command_course_status(a):
    print(course.status())


def command_course_grade(a):
    for student, points, most, remark in grade_folder(a.folder, a.notebook, a.out, a.seconds):
        print(f"{student:<24} {points:>3} of {most} points   {remark}".rstrip(), flush=True)
    print(f"wrote {a.out}")


# ---- the parts -----------------------------------------------------------------------------------


def _training_options(a, data):
    """Options: the recipe that suits the data, less what was given."""
    given = {name: getattr(a, name) for name in Options._fields}
    given |= {"workers": _workers(a.workers), "particles": _particles(a.bound, a.particles, default=8)}
    options = Options(**recipe(data) | {name: value for name, value in given.items() if value is not None})
    if a.minutes is not None:
        options = options._replace(epochs=None)
    options.check()
    return options


def _command_to_go_on(a):
    words = [word for word in map(str, a.given) if word not in ("--overwrite", "--resume")]
    return shlex.join(["tinyvrnn", *words, "--resume"])


def _load_for(source, likelihood, scale=None):
    """The data as the likelihood needs it (standardised or not), and the likelihood that suits the data if None."""
    raw = load_data(source, standardise=False)
    if likelihood is None:
        likelihood = "bernoulli" if all(in_unit_interval(raw.split(s)) for s in SPLITS) else "gaussian"
        likelihood = "pen" if raw.kind == "pen" else likelihood
    standardise, kind = LIKELIHOODS[likelihood].standardise, "pen" if likelihood == "pen" else None
    if scale is not None and not standardise:
        raise ConfigError(
            f'--scale is for what is standardised, but "{likelihood}" takes data as they are: leave it out.'
        )
    return (raw.standardised(bool(standardise), kind, scale) if standardise else raw), likelihood


def _model(a, x_dim, likelihood):
    """The model that the options of `train` ask for."""
    if a.components is not None and LIKELIHOODS[likelihood].components is None:
        raise ConfigError(f'--components is for mixtures, gmm or pen, got the likelihood "{likelihood}": leave it out.')
    kind, features = MODELS[a.model], a.hidden if a.features is None else a.features
    sizes = {"x_dim": x_dim, "h_dim": a.hidden, "z_dim": a.latent, "features": features, "layers": a.layers}
    chosen = {name: getattr(a, name) for name in ("cell", "posterior") if getattr(a, name) is not None}
    for name in set(chosen) - set(kind.choices):
        raise ConfigError(f"--{name} is not for a model of kind {a.model}: leave it out.")
    return kind(
        **{name: sizes[name] for name in kind.sizes} | chosen,
        likelihood=likelihood,
        backend=a.backend,
        dtype=a.dtype,
        seed=a.seed,
        components=COMPONENTS if a.components is None else a.components,
    )


def _to_score(source, data, split, model):
    """The name, the split and the sequences to evaluate, on the model's scale; without data all of a user's file."""
    if data is None:
        path, sequences = Path(source), read_like(source, model.medium)
        return path.name if path.is_dir() else path.stem, "all", _on_scale(sequences, model, source)
    check_rate(data.medium, model.medium, source)
    return data.name, split, _on_scale(data.split(split), model, source)


def _trivial(model, trained_on, data, sequences):
    """The baselines of `sequences`, fitted on what the model was trained on; {} where that can't be read any more.

    data: that, raw, where it is there already.
    """
    kind = BASELINES[model.likelihood.name]
    try:
        data = data or load_data(trained_on or "", standardise=False)
        data = data.standardised((model.mean, model.std), kind="pen" if kind == "pen" else None)
    except DataError:
        return {}
    return baselines(data, sequences, kind)


def _report(model, data, records, options):
    test = evaluate_elbo(model, data.test, chunk=options.chunk_to_evaluate(data.test))
    best = max(records, key=lambda record: record["valid"][options.score])
    print(f"best of {len(records)} epochs: {best['epoch']}, after {records[-1]['seconds']:.1f} s in all")
    print(f"{data.name}, test split, {test.sequences} sequences, {data.units}, per sequence:")
    kind, name = BASELINES[model.likelihood.name], model.name.upper()
    rows = {f"{name} ({NAMES_OF_BOUNDS[model.bound]})": test.elbo_per_sequence}
    errors = f"{model.bound} {test.standard_error:.2f}"
    if options.bound != "elbo":
        tighter = evaluate(model, data.test, options.bound, options.particles)
        rows[f"{name} ({tighter.bound}, a lower bound)"] = tighter.per_sequence
        errors += f", {tighter.bound} {tighter.standard_error:.2f}"
    rows |= baselines(data, kind=kind)
    for name, value in rows.items():
        print(f"    {name:<31}{value:>10.2f}")
    print(f"    (standard errors over the sequences: {errors})")


def _pictures(run, model, data, records):
    binary, n, host = _is_binary(model), 10, model.backend.to_host
    medium = model.medium.get("name")
    x, lengths = pad(data.test[:n], dtype=model.dtype)
    mean = host(model.reconstruct(x, lengths))
    drawn = host(model.sample(plots.how_many(binary, medium), data.train.max_steps, model.seed))
    run.picture("curves.png", plots.curves(records, data.units, exact=model.bound == "exact"))
    title = f"{data.name}: sequences drawn from the model"
    run.picture("samples.png", plots.samples(drawn, binary, title, medium=medium))
    given = "x_t | x_<t)" if model.name == "rnn" else "x | z), z drawn from q"
    title = f"{data.name}, test split. Above: data; below: mean of p({given}"
    run.picture("reconstructions.png", plots.reconstructions(x, mean, lengths, binary, title, medium))


def _is_binary(model):
    """Whether a sequence is a picture of 0s and 1s."""
    return model.likelihood.name in ("bernoulli", "categorical")


def _plain(result):
    """What JSON can hold: a standard error that a single sequence does not have is null."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in result.items()}


def _evaluation_text(r):
    error = "unknown for one sequence" if r["standard_error"] is None else f"{r['standard_error']:.4f} over sequences"
    head = f"{r['data']}, {r['split']} split: {r['sequences']} sequences, {r['steps']} steps; {r['units']}\n"
    if r["bound"] == "exact":
        per_sequence, per_step = r["elbo_per_sequence"], r["elbo_per_step"]
        return (
            f"{head}    exact log-likelihood {per_sequence:12.4f} per sequence {per_step:12.5f} per step\n"
            f"    standard error per sequence: {error}"
        )
    if r["bound"] != "elbo":
        return (
            f"{head}    {r['bound']:<15} {r['per_sequence']:12.4f} per sequence {r['per_step']:12.5f} per step\n"
            f"    standard error of {r['bound']} per sequence: {error}, {r['standard_error_draws']:.4f} over draws of z"
        )
    return head + (
        f"    elbo            {r['elbo_per_sequence']:12.4f} per sequence {r['elbo_per_step']:12.5f} per step\n"
        f"    log-likelihood  {r['log_likelihood_per_sequence']:12.4f} per sequence\n"
        f"    KL              {r['kl_per_sequence']:12.4f} per sequence\n"
        f"    standard error of elbo per sequence: {error}"
    )


def _baselines_text(values):
    """A line for each trivial baseline."""
    about = "per sequence, trivial, fitted on the training split"
    return "".join(f"\n    {name:<28} {value:12.4f} {about}" for name, value in values.items())


def _exact_text(rows):
    model = linear_gaussian.LinearGaussian()
    lines = [
        f"z_1 ~ N(0, 1), z_t = {model.a:g} z_(t-1) + N(0, {model.q:g}), x_t = z_t + N(0, {model.r:g}); "
        f"data x_t = sin(t / 2), t = 1..20; {UNITS}",
        f"{'posterior':<36}{'ELBO':>14}{'sum of KL':>14}{'gap':>14}",
        *(f"{row.posterior:<36}{row.elbo:>14.6f}{row.kl:>14.6f}{round(row.gap, 9) + 0:>14.6f}" for row in rows),
        f"{'exact log p(x), by a Kalman filter':<36}{rows[0].exact:>14.6f}",
        "gap = exact log p(x) - ELBO; all numbers are exact expectations, without sampling",
    ]
    return "\n".join(lines)


def _on_scale(sequences, model, source):
    """Raw sequences as the model sees them: standardised by the mean and deviation of its own training data."""
    if sequences.x_dim != model.x_dim:
        raise DataError(f"{source} has {sequences.x_dim} values a step, the model takes {model.x_dim}.")
    return standardised(sequences, model.mean, model.std, source)


def _prime(path, model, n):
    """The first n (None: all) sequences of a file as x (T0, n, X), in the model's units."""
    sequences = read_like(path, model.medium)
    if n is not None and n > len(sequences):
        raise DataError(f"{path} holds {len(sequences)} sequences, fewer than the {n} of -n: leave -n out.")
    sequences = _on_scale(sequences[:n], model, path)
    if sequences.lengths.min() != sequences.lengths.max():
        raise DataError(f"{path} holds sequences of unequal lengths: give --prime sequences of one length.")
    return pad(sequences)[0]


def _check_whole(a, likelihood):
    options = {name: getattr(a, name) for name in MODELS[a.model].choices}
    model, x, lengths, eps = small_model(likelihood, a.backend, a.seed, a.model, **options)
    return check_model(model, x, lengths, eps, beta=0.7)


def _print_rows(name, get_rows):
    try:
        for row in get_rows():
            numbers = f"{row.analytic:>16.8g}{row.numeric:>16.8g}{row.rel_error:>13.1e}"
            print(f"{name:<30}{row.leaf:<20}{numbers}")
    except GradientError as error:
        print(f"{name:<30}FAILED: {error}")
        return False
    return True


# ---- the options ---------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(None, unknown_name("command", value, action.choices))

    def error(self, message):
        print(f"tinyvrnn: {message}; see `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(2)


def _one_of(kind, known):
    def convert(name):
        if name not in known:
            raise argparse.ArgumentTypeError(unknown_name(kind, name, known))
        return name

    return convert


def _workers(value):
    return int(value) if value.isdecimal() else value


def _parser():
    parser = _Parser(prog="tinyvrnn", description="The Variational Recurrent Neural Network, from scratch in NumPy.")
    parser.add_argument("--version", action="version", version=f"tinyvrnn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _train_options(_command(commands, "train", command_train, "train a model and write a run folder"))

    p = _command(commands, "evaluate", command_evaluate, "the ELBO or another bound of a run on a data set")
    p.add_argument("run_folder", metavar="RUN", help="folder of a run")
    p.add_argument("--data", help="set or file (default: what the run was trained on)")
    p.add_argument("--split", type=_one_of("split", ("train", "valid", "test")), help="default: test; of a file, all")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    about = "compute N steps at once, the state carried on: the same ELBO in less memory, for very long sequences"
    p.add_argument("--chunk", type=_positive, metavar="N", help=about)
    _bound_options(p, 64, (*BOUNDS, "exact"))

    p = _command(commands, "sample", command_sample, "draw sequences from a run's model, or continue given ones")
    p.add_argument("run_folder", metavar="RUN", help="folder of a run")
    p.add_argument("-n", type=_positive, help="how many sequences (default: 16, or all of --prime)")
    p.add_argument("--steps", type=_positive, help="steps to draw (default: up to the training data's longest)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--prime", metavar="FILE", help="file or folder of sequences to continue, of one length")
    p.add_argument("--out", required=True, help="FILE.png or .npz; of ink .gif, of piano rolls .mid, of sound .wav")

    p = _command(commands, "gradcheck", command_gradcheck, "numeric check of every pair and of the whole bound")
    p.add_argument("--model", type=_one_of("model", MODELS), default="vrnn", help=" | ".join(MODELS))
    p.add_argument("--cell", type=_one_of("cell", CELLS), default="gru", help=" | ".join(CELLS))
    choices = " | ".join(POSTERIORS)
    p.add_argument("--posterior", type=_one_of("posterior", POSTERIORS), default="filtering", help=choices)
    p.add_argument("--seed", type=int, default=0)

    p = _command(commands, "exact", command_exact, "the bound of a linear VRNN next to its exact log p(x)")
    p.add_argument("--out", metavar="FILE.png", help="draw the gaps")
    p.add_argument("--json", action="store_true", help="print one JSON object")

    p = _command(commands, "data", command_data, "the data sets in the package")
    p.add_argument("name", nargs="?", metavar="NAME")

    _course_commands(commands.add_parser("course", help="your progress in the course, and grading submissions"))
    return parser


def _course_commands(parser):
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    p = commands.add_parser("status", help="which exercises you have passed")
    p.set_defaults(run=command_course_status)
    p = commands.add_parser("grade", help="run and grade submitted notebooks, FOLDER/STUDENT/NAME.ipynb")
    p.add_argument("notebook", metavar="NOTEBOOK", help="the notebook as it was handed out")
    p.add_argument("folder", metavar="FOLDER", help="one folder a student")
    p.add_argument("--seconds", type=int, default=120, help="how long a cell may run (default 120)")
    p.add_argument("--out", default="grades.csv", help="the report (default grades.csv)")
    p.set_defaults(run=command_course_grade)


def _command(commands, name, function, text):
    p = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    p.set_defaults(run=function)
    if name not in ("data", "exact"):
        known = ("numpy", "cupy", "strict") if name == "gradcheck" else ("numpy", "cupy")
        p.add_argument("--backend", type=_one_of("backend", known), default="numpy", help=" | ".join(known))
    return p


def _train_options(p):
    d, small = Options(**RECIPE), RECIPE_OF_A_SMALL_SET
    below = f"below {SMALL_SET:,} sequences"

    def default(name):
        both = f"{getattr(d, name):g}" + (f"; {small[name]:g} {below}" if name in small else "")
        return f"(default {both})"

    p.add_argument("data", metavar="DATA", help=f"{', '.join(NAMES)}, or the path of {FORMS}")
    p.add_argument("--model", type=_one_of("model", MODELS), default="vrnn", help=" | ".join(MODELS))
    p.add_argument(
        "--likelihood",
        type=_one_of("likelihood", LIKELIHOODS),
        help=f"{' | '.join(LIKELIHOODS)} (default: bernoulli, gaussian or pen, by data)",
    )
    p.add_argument("--cell", type=_one_of("cell", CELLS), help=f"{' | '.join(CELLS)}: f of Eq. 1 and 7 (default gru)")
    about = "(default filtering): what q of z_t sees, x up to t, or all of x"
    p.add_argument("--posterior", type=_one_of("posterior", POSTERIORS), help=f"{' | '.join(POSTERIORS)} {about}")
    p.add_argument(
        "--scale",
        type=_one_of("scale", SCALES),
        help="of a pen's dx and dy: one, for both (default); authors, one as in the code of the paper's authors "
        "(default for IAM-OnDB); axes, one each",
    )
    p.add_argument("--components", type=int, help=f"of a mixture, gmm or pen (default {COMPONENTS})")
    p.add_argument("--hidden", type=int, default=100, help="width of the state h; of all layers of a vae (default 100)")
    p.add_argument("--latent", type=int, default=16, help="width of z; an rnn has none (default 16)")
    p.add_argument("--features", type=int, help="width of the hidden layers (default: --hidden)")
    p.add_argument("--layers", type=int, default=2, help="hidden layers in phi_x, encoder and decoder (default 2)")
    length = p.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, help=f"passes over the training split {default('epochs')}")
    length.add_argument("--minutes", type=float, help="train for this long")
    p.add_argument("--batch", type=int, help=f"sequences in a batch {default('batch')}")
    p.add_argument("--lr", type=float, help=f"Adam's rate at the start, decaying as half a cosine {default('lr')}")
    p.add_argument("--warmup", type=int, help=f"epochs of KL warm-up {default('warmup')}")
    p.add_argument("--clip", type=float, help=f"greatest gradient norm (default {d.clip:g}; {CLIP_OF_INK:g} for ink)")
    about = "share of each step's numbers that the networks do not see in training"
    p.add_argument("--dropout", type=float, help=f"{about} (default 0; {DROPOUT_OF_A_SMALL_SET} {below} if binary)")
    about = "each step takes lr times this share of every weight away"
    p.add_argument("--weight-decay", type=float, help=f"{about} {default('weight_decay')}")
    about = "stop early: epochs without a better validation bound"
    p.add_argument("--patience", type=int, help=f"{about} {default('patience')}")
    about = "truncated backpropagation: a step of the optimiser after each N steps of the sequences, state carried on"
    p.add_argument("--chunk", type=_positive, metavar="N", help=about)
    about = "exact backpropagation of long sequences in less memory, for about a fifth more time"
    p.add_argument("--recompute", action="store_true", help=about)
    about = "leave out up to N batches whose loss or gradient is not finite (default 0: stop at the first)"
    p.add_argument("--skip-nonfinite", type=int, default=0, metavar="N", help=about)
    p.add_argument("--workers", default=d.workers, help="slices of a batch at once (default: by cores and sizes)")
    p.add_argument("--seed", type=int, default=0, help="of weights, noise and order (default 0)")
    p.add_argument("--dtype", type=_one_of("dtype", ("float32", "float64")), default="float32")
    _bound_options(p, 8, BOUNDS)
    p.add_argument("--out", help="run folder (default runs/DATA)")
    taken = p.add_mutually_exclusive_group()
    taken.add_argument("--overwrite", action="store_true", help="replace the run that --out holds")
    about = "go on with the run that --out holds, bit for bit; all else as at its start"
    taken.add_argument("--resume", action="store_true", help=f"{about} (but {', '.join(MAY_CHANGE)})")


def _bound_options(p, particles, bounds):
    p.add_argument("--bound", type=_one_of("bound", bounds), default="elbo", help=" | ".join(bounds))
    about = f"draws of z in iwae and fivo (default {particles})"
    p.add_argument("--particles", type=_positive, metavar="K", help=about)


def _particles(bound, given, default):
    one = bound in ("elbo", "exact")
    if one and given is not None:
        raise ConfigError(f"--bound {bound} takes no particles: leave --particles out, or give --bound iwae or fivo.")
    return 1 if one else given or default


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)
