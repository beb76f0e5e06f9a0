"""The commands: each takes the parsed options and prints; gradcheck returns an exit code."""

import importlib.util
import json
import shlex
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from tinyvrnn import bounds, course
from tinyvrnn import data as data_room
from tinyvrnn.arrays.ranks import shared_out, world
from tinyvrnn.bounds.evaluation import infer_all
from tinyvrnn.cli import report
from tinyvrnn.course import lab, marks, submissions
from tinyvrnn.data import NAMES, SPLITS, check_suits, load_data, read_like
from tinyvrnn.data.load import recorded_source
from tinyvrnn.data.scale import notes_on_constants
from tinyvrnn.data.sequences import observed_in
from tinyvrnn.distributions import LIKELIHOODS, get_likelihood
from tinyvrnn.errors import ConfigError, DataError, TinyvrnnError, counted, of_user_code, shown
from tinyvrnn.gradcheck import all_pairs, check_model
from tinyvrnn.io.files import given_path
from tinyvrnn.models import MODELS, linear_gaussian
from tinyvrnn.nn import cells
from tinyvrnn.runs import checkpoint, export, plots
from tinyvrnn.runs.run import FILES, MAY_CHANGE, Run, fingerprint, recorded_fingerprint
from tinyvrnn.training import PARTICLES, Options, chosen_for, keeps_on_device, recipe
from tinyvrnn.training import train as train_model

PARTICLES_TO_EVALUATE = 64


def load_plugin(a):
    """Runs the file of --plugin, which registers likelihoods and cells, then checks the names that were given."""
    if getattr(a, "plugin", None) is not None:
        path = given_path(a.plugin)
        spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
        if spec is None or not path.is_file():
            raise ConfigError(f"--plugin must name a .py file that exists, got {a.plugin}.")
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
        try:
            spec.loader.exec_module(module)
        except TinyvrnnError:
            raise
        except Exception as error:  # a user's code can raise anything
            where = of_user_code(error, spec.origin)
            raise ConfigError(f"--plugin {a.plugin} stopped {where}: correct it first.") from error
    for kind, get in (("likelihood", get_likelihood), ("cell", cells.get_cell)):
        if getattr(a, kind, None) is not None:
            get(getattr(a, kind))


def train(a):
    """Trains a model, reports its test bound next to baselines, and leaves a run folder."""
    data, likelihood = _load_for(a)
    check_suits(data, likelihood)
    model = _model(a, data.x_dim, likelihood)
    a.run_folder = given_path(f"runs/{data.name}" if a.out is None else a.out)
    run = Run(a.run_folder, a.overwrite, a.resume)
    options = _training_options(a, data, model, run.recorded)
    options.check_for(model)
    with run, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*standardised twice")  # they were standardised here, once
        _print_start(a, data, model, options, run)
        trained, live = [], sys.stderr.isatty()
        on_epoch = _reporter(trained, live, model, options)
        with _told_how_to_go_on(a, run):
            records = train_model(model, data, live, on_epoch, run, **options._asdict())
        if not records:
            raise ConfigError("There was no time for an epoch: give more --minutes, and --resume to continue.")
        if a.resume and not trained:
            print("This run is finished, so nothing was trained: give more --epochs, --minutes or --patience to go on.")
        with shared_out(world()):
            report.print_training(model, data, records, options)
        report.draw_pictures(run, model, data, records)
        print(f"wrote {shown(a.run_folder)}/: {', '.join(name for name in FILES if (run.folder / name).exists())}")


def _print_start(a, data, model, options, run):
    """Prints what will be trained on what, where, and what was chosen for it."""
    wanted = model.backend.name != "numpy" and options.device_data != "no"
    too_large = wanted and not keeps_on_device(model, data, options.device_data)
    print(f"{model}\n{data}\n{options.describe()}{', data too large for the GPU' * too_large}", flush=True)
    if world().size > 1:
        where = "GPU" if world().takes_device and a.backend == "cupy" else "host"
        print(f"{world().size} ranks, gradients summed in {where} memory")
    if why := chosen_for(data, options, [name for name in Options._fields if getattr(a, name) is not None]):
        print(f"chosen for these data: {why}", flush=True)
    if a.resume:
        what = "a run: it is resumed" if run.can_go_on else "no run yet: a new one starts"
        print(f"{shown(a.run_folder)} holds {what}", flush=True)


def _reporter(trained, live, model, options):
    """A function for `train` that adds the record of each epoch to `trained`, and prints its score."""

    def on_epoch(record, is_best):
        trained.append(record)
        if not live:  # a log file cannot show a progress bar
            score = record["valid"][options.score]
            print(f"epoch {record['epoch']}: valid {options.score_name(model)} {score:.2f}", flush=True)

    return on_epoch


@contextmanager
def _told_how_to_go_on(a, run):
    """Context: Ctrl-C says where the run is saved, and the command that resumes it."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if run.has_kept:
            interrupt.args = (f"saved in {a.run_folder}; resume with: {_command_to_go_on(a)}",)
        raise


def evaluate(a):
    """Prints a bound of a run on a split or on a file, and the baselines of the same sequences."""
    model, trained_on, source = _model_and_source(a)
    data, name, split, sequences = _to_score(a, source, model)
    trained_on = data if data is not None and source == trained_on else trained_on
    with shared_out(world()):
        result = report.plain(_evaluation(a, model, sequences) | {"data": name, "split": split})
        result["baselines"] = report.baselines_of(model, trained_on, sequences)
    print(json.dumps(result) if a.json else report.evaluation_text(result))


def infer(a):
    """Writes the latent variables of a run's model, and the terms of its ELBO, for every step of a split or a file."""
    model, _, source = _model_and_source(a)
    export.check_out(out := given_path(a.out), [".npz"], None if source in NAMES else given_path(source))
    _, name, split, sequences = _to_score(a, source, model)
    found = infer_all(model, sequences)
    export.write_npz(out, lengths=sequences.lengths, **found._asdict())
    N, T = found.elbo.shape
    size = f"{counted(N, 'sequence')} of up to {counted(T, 'step')}"
    print(f"wrote {shown(out)}: {', '.join(found._fields)}; {name} ({split}), {size}")


def sample(a):
    """Writes sequences drawn from a run's model, or continued ones, on the scale of the data."""
    out = given_path(a.out)
    export.check_out(out, export.WRITERS, None if a.prime is None else given_path(a.prime))
    manifest, arrays = checkpoint.read(a.run_folder)
    export.check_ending(out, manifest["medium"])
    model = checkpoint.restore(manifest, arrays, a.run_folder, a.backend)
    prime, past = (None, ()) if a.prime is None else _prime(a, model)
    export.check_number(out, (a.n or 1) * (1 if prime is None else prime.shape[1]))
    known, observed = len(past), None if prime is None else observed_in(prime)
    steps = a.steps or max(1, (manifest["steps"] or 28) - known)
    x = model.sample(a.n, steps, a.seed, prime, a.temperature, a.mean, observed)
    drawn = a.steps is None and prime is None and manifest["lengths"]
    lengths = report.drawn_lengths(drawn or [len(x)], x.shape[1], a.seed)
    raw = model.backend.to_host(model.in_raw_units(x))  # float64: a mean can be large beside its std
    if known:
        raw[:known] = past.repeat(a.n or 1, axis=1)  # as given: a constant column of a model is not
    export.write_samples(out, raw, model.medium, model.likelihood.binary, lengths)
    shortest, longest = int(lengths.min()), counted(int(lengths.max()), "step")
    of = longest if shortest == lengths.max() else f"{shortest} to {longest}"
    print(f"wrote {shown(out)}: {counted(x.shape[1], 'sequence')} of {of}")


def forecast(a):
    """Writes draws of what follows the sequences of a file, or a fan chart of them, on the scale of the data."""
    out = given_path(a.out)
    export.check_out(out, [".png", ".npz"], given_path(a.prime))
    model = checkpoint.load(a.run_folder, a.backend)
    export.check_fan(out, model.likelihood, a.draws)
    past = _past(a, model)
    x, lengths = data_room.pad(_on_scale(past, model, a.prime))
    draws = model.backend.to_host(model.forecast(x, a.steps, a.draws, lengths, a.seed, observed_in(x)))
    if out.suffix.lower() == ".png":
        export.write_figure(out, plots.fan(past, draws, names=model.medium.get("columns")))
    else:
        export.write_npz(out, draws=draws)
    after = f"{counted(a.steps, 'step')} after {counted(len(past), 'sequence')}"
    print(f"wrote {shown(out)}: {after}, {counted(a.draws, 'draw')} of each")


def gradcheck(a):
    """Checks every pair, and the whole bound with each likelihood and each registered cell. Returns the exit code."""
    checks = {name: partial(all_pairs.check, name, a.backend, a.seed) for name in all_pairs.PAIRS}
    chosen = {name: getattr(a, name) for name in MODELS[a.model].choices if getattr(a, name) is not None}
    for name in LIKELIHOODS:
        checks[f"{report.WHOLE[a.model]}, {name}"] = partial(_check_whole, a, name, chosen)
    for name in sorted(cells.CELLS.keys() - set(cells.BUILT_IN)) if "cell" in MODELS[a.model].choices else ():
        own = chosen | {"cell": name}
        checks[f"{report.WHOLE[a.model]}, cell {name}"] = partial(_check_whole, a, "gaussian", own)
    return 1 if report.print_checks(checks) else 0


def exact(a):
    """Prints or draws the bounds of a linear VRNN next to its exact log p(x)."""
    if a.out is not None:
        export.check_out(out := given_path(a.out), [".png"])
    rows = linear_gaussian.table()
    print(json.dumps(report.exact_json(rows)) if a.json else report.exact_text(rows))
    if a.out is not None:
        export.write_figure(out, plots.gaps(rows))
        print(f"wrote {shown(out)}", file=sys.stderr if a.json else sys.stdout)


def data_sets(a):
    """Prints the data sets of the package, or one of them."""
    sets = data_room.embedded()
    if a.name in NAMES and a.name not in sets:  # reading it can take long, so only on request
        print(load_data(a.name))
        return
    for name in sets if a.name is None else [a.name]:
        report.print_data_set(name, sets[name])
    if a.name is None:
        others = ", ".join(name for name in NAMES if name not in sets)
        print(f"{others}: with the extra `music`, read at its first use; `tinyvrnn data {others}` reads it")


def course_status(a):
    """Prints which exercises have been passed."""
    print(course.status())


def course_grade(a):
    """Grades a folder of submissions."""
    marks.require_writable(a.out, a.moodle, a.canvas)
    graded = submissions.grade_folder(a.folder, a.notebook, a.out, a.seconds, a.jobs, a.resume, _tell)
    for student, points, most, remark in graded:
        print(f"{student:<24} {points:>3} of {most} points   {remark}".rstrip(), flush=True)
    marks.export(a.out, a.moodle, a.canvas)
    for path in filter(None, (a.out, a.moodle, a.canvas)):
        print(f"wrote {shown(path)}")


def course_start(a):
    """Makes a student's folder, or brings a new edition into it."""
    for name in lab.start(a.folder):
        print(f"wrote {shown(name)}")
    print(f"your folder is {shown(a.folder)}; open it with: jupyter lab {shlex.quote(shown(a.folder))}")


def _load_for(a):
    """The data, prepared for the likelihood, and the likelihood, which the data choose if none is given."""
    name, scale = a.likelihood, a.scale
    wanted = {} if a.step is None else {"steps_per_quarter": int(a.step) // 4}
    how = {key: getattr(a, key) for key in ("window", "stride", "columns", "skip_columns", "missing")}
    raw = load_data(a.data, standardise=False, medium=wanted, **how)
    if not wanted.items() <= raw.medium.items():
        raise ConfigError("--step is for MIDI files: leave it out.")
    if name is None:
        name = "bernoulli" if all(data_room.in_unit_interval(raw.split(s)) for s in SPLITS) else "gaussian"
        by_medium = {"text": "categorical", "sound": "gaussian"}
        name = by_medium.get(raw.medium.get("name"), "pen" if raw.kind == "pen" else name)
    if a.likelihood is None and "name" not in raw.medium:
        _tell(report.hints(raw))
    likelihood = LIKELIHOODS[name]
    if likelihood.standardise:
        return raw.standardised(bool(likelihood.standardise), report.kind_of(likelihood), scale), likelihood
    if scale is not None:
        raise ConfigError(f'--scale is for standardised data, but "{name}" takes data as they are: leave it out.')
    return raw, likelihood


def _training_options(a, data, model, recorded):
    """Options: the recipe for the data, replaced by the options of the run that is resumed, and by those given."""
    given = {name: getattr(a, name) for name in Options._fields}
    given["particles"] = _particles(a.bound or Options().bound, a.particles, recorded.get("particles", PARTICLES))
    chosen, cut = recipe(data), model.has_state and getattr(model, "posterior", None) != "smoothing"
    if not cut or a.recompute or a.bound not in (None, "elbo"):
        chosen.pop("chunk", None)
    chosen |= {name: recorded[name] for name in chosen if name in recorded and name not in MAY_CHANGE}
    options = Options(**chosen | {name: value for name, value in given.items() if value is not None})
    if a.minutes is not None:
        options = options._replace(epochs=None)
    options.check()
    return options


def _model(a, x_dim, likelihood):
    """The model that the options of `train` ask for."""
    name = likelihood.name
    if a.components is not None and likelihood.components is None:
        raise ConfigError(f'--components is for mixtures, gmm or pen, got the likelihood "{name}": leave it out.')
    kind, a.x_dim, a.features = MODELS[a.model], x_dim, a.h_dim if a.features is None else a.features
    given = {name: getattr(a, name) for name in ("layers", "components", "cell", "posterior", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    for choice in given.keys() & {"cell", "posterior"} - set(kind.choices):
        raise ConfigError(f"--{choice} is not for a model of kind {a.model}: leave it out.")
    if "z_dim" not in kind.sizes and any(str(word).startswith("--latent") for word in a.given):
        _tell([f"--latent is left out: a model of kind {a.model} has no latent variables"])
    sizes = {name: getattr(a, name) for name in kind.sizes if name != "layers"}
    return kind(**sizes, **given, likelihood=name, backend=a.backend, dtype=a.dtype)


def _command_to_go_on(a):
    words = [word for word in map(str, a.given) if word not in ("--overwrite", "--resume")]
    return shlex.join(["tinyvrnn", *words, "--resume"])


def _particles(bound, given, default):
    one = bound in ("elbo", "exact")
    if one and given is not None:
        raise ConfigError(f"--bound {bound} takes no particles: leave --particles out, or give --bound iwae or fivo.")
    return 1 if one else default if given is None else given


def _evaluation(a, model, sequences):
    """The bound that `evaluate` asks for, as a dict."""
    particles = _particles(a.bound, a.particles, PARTICLES_TO_EVALUATE)
    if a.bound == "exact" and model.bound != "exact":
        use = " or ".join(model.bounds)
        raise ConfigError(f"log p(x) of a {model.name} has bounds, but no exact value: use --bound {use}.")
    if a.bound in ("elbo", "exact"):
        result = bounds.evaluate_elbo(model, sequences, chunk=a.chunk)._asdict() | {"bound": model.bound}
    elif a.chunk is not None:
        raise ConfigError(f"--chunk is for the bound elbo, got {a.bound}: leave one out.")
    else:
        result = bounds.evaluate(model, sequences, a.bound, particles)._asdict()
    return result | {"units": shown(model.units), "model": model.name}


def _model_and_source(a):
    """A run's model, the name or path of its training data (None: unknown), and of the data to use."""
    manifest, arrays = checkpoint.read(a.run_folder)
    model = checkpoint.restore(manifest, arrays, a.run_folder, a.backend)
    trained_on = recorded_source(manifest["data"], a.run_folder)
    source = trained_on if a.data is None else a.data
    if source is None:
        found = f"says that it was trained on {manifest['data']!a:.200}, which is not here or not safe to search"
        if manifest["data"] is None:
            found = "does not say what it was trained on"
        raise DataError(f"{a.run_folder} {found}: name a set, file or folder with --data.")
    return model, trained_on, source


def _to_score(a, source, model):
    """The raw Data, and name, split and sequences to use, on the model's scale; no Data but all of a user's file."""
    if a.data is not None and a.split is None and a.data not in NAMES:
        data, name, split = None, data_room.name_of(given_path(source)), "all"
        sequences = read_like(source, model.medium, a.missing, _tell)
    else:
        data = load_data(source, standardise=False, medium=model.medium, missing=a.missing)
        split = a.split or "test"
        name, sequences = data.name, data.split(split)
        _tell(data.notes)
    sequences = _on_scale(sequences, model, source)
    check_suits(sequences, model.likelihood)
    if a.data is None and source not in NAMES:
        _check_unchanged(a.run_folder, data, model, source)
    return data, name, split, sequences


def _check_unchanged(folder, data, model, source):
    """Raise DataError unless a run was trained on these raw Data, standardised or as they are."""
    known = recorded_fingerprint(folder)
    if known in (None, fingerprint(data)):
        return
    scaled = {s: data_room.standardised(data.split(s), model.mean, model.std, source) for s in SPLITS}
    if known != fingerprint(replace(data, **scaled)):
        raise DataError(
            f"The data of {source} are not those that {folder} was trained on, so its test split can hold sequences of "
            "the training split: restore them, or name it by --data to score all of it as it is now."
        )


def _on_scale(sequences, model, source):
    """Raw sequences on the model's scale: standardised by the mean and standard deviation of its training data."""
    if sequences.x_dim != model.x_dim:
        raise DataError(f"{source} has {sequences.x_dim} values a step, the model takes {model.x_dim}.")
    _tell(notes_on_constants(model.mean, model.std, model.medium, sequences))
    return data_room.standardised(sequences, model.mean, model.std, source)


def _tell(notes):
    for note in notes:
        print(f"tinyvrnn: note: {shown(note)}.", file=sys.stderr, flush=True)


def _past(a, model):
    """The raw sequences of --prime, whole, not in windows."""
    return read_like(a.prime, model.medium | {"window": None}, a.missing, _tell)


def _prime(a, model):
    """The sequences of --prime as x (T0, B, X), in the model's units and in raw ones."""
    sequences = _on_scale(raw := _past(a, model), model, a.prime)
    if sequences.lengths.min() != sequences.lengths.max():
        raise DataError(f"{a.prime} holds sequences of unequal lengths: give --prime sequences of one length.")
    return data_room.pad(sequences)[0], data_room.pad(raw, "float64")[0]


def _check_whole(a, likelihood, chosen):
    model, x, lengths, eps = all_pairs.small_model(likelihood, a.backend, a.seed, a.model, **chosen)
    return check_model(model, x, lengths, eps, beta=0.7)
