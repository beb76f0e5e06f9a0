"""What the commands print and draw: baselines, evaluations, gradient checks, pictures of a run."""

import math
import warnings

from tinyvrnn import bounds, data
from tinyvrnn.arrays.noise import generator
from tinyvrnn.data.sequences import observed_in
from tinyvrnn.errors import DataError, GradientError, TinyvrnnError, counted
from tinyvrnn.models import linear_gaussian
from tinyvrnn.models.batch import no_resampling
from tinyvrnn.runs import plots

NAMES_OF_BOUNDS = {"elbo": "elbo, a lower bound", "exact": "exact log-likelihood"}
WHOLE = {"vrnn": "ELBO, Eq. 11", "vrnn-i": "ELBO of VRNN-I", "rnn": "log p(x), Eq. 2", "vae": "ELBO, Eq. 3"}
UNITS = "nats per sequence"
COLLAPSED = 0.03  # nats of KL a step: less tells nothing of x_t


def baselines_of(model, trained_on, sequences):
    """The baselines of `sequences`, fitted to raw Data, or to a set or file; {} where that cannot be read now."""
    try:
        if not isinstance(trained_on, data.Data):
            trained_on = data.load_data(trained_on or "", standardise=False, medium=model.medium)
        fitted_on = trained_on.standardised((model.mean, model.std), kind=kind_of(model.likelihood))
    except DataError:
        return {}
    return _baselines(model.likelihood, fitted_on, sequences)


def _baselines(likelihood, fitted_on, sequences):
    """{} if the likelihood has no baselines."""
    kind = likelihood.baselines
    return {} if kind is None else data.baselines(fitted_on, sequences, kind)


def kind_of(likelihood):
    """The kind of data that a likelihood needs: "pen", or None if the values decide."""
    return "pen" if likelihood.baselines == "pen" else None


def hints(raw):
    """Sentences on what raw data were taken for, where they could be something else."""
    splits = [raw.split(s) for s in data.SPLITS]
    if raw.kind == "real" and all(data.in_unit_interval(s) for s in splits):
        yield "values in [0, 1] are taken for probabilities, as they are: --likelihood gaussian standardises them"
    if raw.kind == "real" and raw.x_dim == 3 and all(data.is_binary(s.columns(slice(2, 3))) for s in splits):
        yield "the last of three columns is 0 or 1: if it lifts a pen that moves by the others, give --likelihood pen"
    parts = (x.values for s in splits for _, x in s.parts())
    if raw.kind == "binary" and raw.x_dim > 1 and all((x.sum(axis=1) == 1).all() for x in parts):
        yield "each step has a single 1: if it is one of some symbols, give --likelihood categorical"


def print_training(model, trained_on, records, options):
    """The best epoch, and the test split's bound next to its baselines."""
    test = trained_on.test
    elbo = bounds.evaluate_elbo(model, test, chunk=options.chunk_to_evaluate(test))
    best = max(records, key=lambda record: record["valid"][options.score])
    print(f"best of {counted(len(records), 'epoch')}: {best['epoch']}, after {records[-1]['seconds']:.1f} s in all")
    print(f"{trained_on.name}, test split, {counted(elbo.sequences, 'sequence')}, {trained_on.units}, per sequence:")
    name, errors = model.name.upper(), f"{model.bound} {_error(elbo)}"
    rows = {f"{name} ({NAMES_OF_BOUNDS[model.bound]})": elbo.elbo_per_sequence}
    if options.bound != "elbo":
        tighter = bounds.evaluate(model, test, options.bound, options.particles)
        rows[f"{name} ({tighter.bound}, a lower bound)"] = tighter.per_sequence
        errors += f", {tighter.bound} {_error(tighter)}"
    rows |= _baselines(model.likelihood, trained_on, test)
    for name, value in rows.items():
        fitted = f"   {value.parameters:,} parameters" if hasattr(value, "parameters") else ""
        print(f"    {name:<31}{value:>10.2f}{fitted}")
    print(f"    (standard errors over the sequences: {errors})")
    kl = elbo.kl_per_sequence * elbo.sequences / elbo.steps
    if model.z_dim and kl < COLLAPSED:
        advice = "try --warmup 20, --beta 0.5 or --free-bits 0.1"
        print(f"    The latents carry nothing: their KL is {kl:.4f} nats a step; {advice}.")


def _error(found):
    """The standard error of an Evaluation or a BoundEvaluation, for a person."""
    return "unknown for one sequence" if found.sequences == 1 else f"{found.standard_error:.2f}"


def drawn_lengths(lengths, n, seed):
    """n lengths for samples, (n,), drawn from those of the training sequences or their percentiles."""
    return generator(seed, "lengths").choice(lengths, n)


def draw_pictures(run, model, trained_on, records):
    """The pictures of a run's folder: the curves, samples, and reconstructions of the first ten test sequences."""
    binary, host, medium = model.likelihood.binary, model.backend.to_host, model.medium.get("name")
    x, lengths = data.pad(trained_on.test[:10], dtype=model.dtype)
    mean = host(model.reconstruct(x, lengths, observed=observed_in(x)))
    n = plots.SHOWN.get(medium) or plots.SHOWN["binary" if binary else "real"]
    ends = drawn_lengths(trained_on.train.lengths, n, model.seed)
    drawn = host(model.sample(n, int(ends.max()), model.seed))
    drawn = [drawn[:end, i] for i, end in enumerate(ends)]
    scale = ", standardised" if model.mean.any() or (model.std != 1).any() else ""
    title = f"{trained_on.name}{scale}: sequences drawn from the model"
    given = "x_t | x_<t)" if model.name == "rnn" else "x | z), z drawn from q"
    about = f"{trained_on.name}{scale}, test split. Above: data; below: mean of p({given}"
    _picture(run, "curves.png", plots.curves, records, trained_on.units, model.bound == "exact")
    _picture(run, "samples.png", plots.samples, drawn, binary, title, None, medium)
    _picture(run, "reconstructions.png", plots.reconstructions, x, mean, lengths, binary, about, medium)


def _picture(run, name, draw, *given):
    """Draw a picture of a run, or warn: fonts and settings of matplotlib can raise anything, and the run is intact."""
    try:
        run.picture(name, draw(*given))
    except TinyvrnnError:
        raise
    except Exception as error:
        warnings.warn(f"{name} is not drawn: {type(error).__name__}: {error!s:.200}", stacklevel=3)


def plain(result):
    """What JSON can hold: a standard error that a single sequence does not have is null."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in result.items()}


def evaluation_text(r):
    """An evaluation, as `evaluate --json` prints it, for a person."""
    error = "unknown for one sequence" if r["standard_error"] is None else f"{r['standard_error']:.4f} over sequences"
    bound, of_elbo = r["bound"], "elbo_" if "elbo_per_sequence" in r else ""
    size = f"{counted(r['sequences'], 'sequence')}, {counted(r['steps'], 'step')}"
    name, of_bound = ("exact log-likelihood", "") if bound == "exact" else (bound, f" of {bound}")
    lines = [
        f"{r['data']}, {r['split']} split: {size}; {r['units']}",
        f"    {name:<15} {r[of_elbo + 'per_sequence']:12.4f} per sequence {r[of_elbo + 'per_step']:12.5f} per step",
    ]
    if bound == "elbo":
        lines.append(f"    log-likelihood  {r['log_likelihood_per_sequence']:12.4f} per sequence")
        lines.append(f"    KL              {r['kl_per_sequence']:12.4f} per sequence")
    lines[1] += no_resampling(bound.partition("-")[0], r.get("particles", 0))
    draws = f", {r['standard_error_draws']:.4f} over draws of z" if "standard_error_draws" in r else ""
    lines.append(f"    standard error{of_bound} per sequence: {error}{draws}")
    for name, value in r["baselines"].items():
        fitted = f"{value.parameters:,} parameters fitted on the training split"
        lines.append(f"    {name:<28} {value:12.4f} per sequence, trivial, {fitted}")
    return "\n".join(lines)


def exact_text(rows):
    """The table of `linear_gaussian.table` for a person."""
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


def exact_json(rows):
    """The same, as plain values."""
    about = {"model": repr(linear_gaussian.LinearGaussian()).partition(", posterior")[0] + ")", "units": UNITS}
    return about | {"data": "sin(t / 2), t = 1..20", "rows": [row._asdict() for row in rows]}


def print_checks(checks):
    """Runs gradient checks, name -> function to call for its rows, and prints them. Returns the names that failed."""
    print(f"{'pair':<30}{'leaf':<20}{'analytic':>16}{'numeric':>16}{'rel. to leaf':>13}")
    failed = []
    for name, rows_of in checks.items():
        try:
            for row in rows_of():
                numbers = f"{row.analytic:>16.8g}{row.numeric:>16.8g}{row.rel_error:>13.1e}"
                print(f"{name:<30}{row.leaf:<20}{numbers}   {row.note}".rstrip())
        except GradientError as error:
            print(f"{name:<30}FAILED: {error}")
            failed.append(name)
    which = f"; failed: {', '.join(failed)}" if failed else ""
    print(f"{len(checks) - len(failed)} of {len(checks)} passed{which}")
    return failed


def print_data_set(name, about):
    """An entry of `data.embedded`."""
    counts = ", ".join(f"{n:,} {split}" for split, n in about["sequences"].items())
    shortest, longest = about["steps"]
    length = f"{longest}" if shortest == longest else f"{shortest} to {longest}"
    print(f"{name}: {counts} sequences of {length} steps of {about['x_dim']} values; {about['bytes']:,} bytes")
    print(f"    source   {about['source']}\n    licence  {about['licence']}\n    units    {about['units']}")
