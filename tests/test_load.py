"""Load: many processes at once, a million sequences, a million steps; each within the stated memory.

Catches: processes that overwrite each other's files, a cache or progress file that loses what another process wrote, a
result that depends on how busy the machine is; lists that grow with the number of sequences, arrays that grow with the
number of steps; a state lost between two chunks.
"""

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn import bounds
from tinyvrnn.course import progress
from tinyvrnn.data import batches
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.runs import checkpoint

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory as Linux does")
MEASURED = """
import json, sys
from tinyvrnn import cli
from tinyvrnn.data.readers import arrays
def run():
{}
found = run()
# peak resident memory, including mapped files; getrusage would include the parent's memory before the fork
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps({{"found": found, "peak": int(peak.split()[1]) * 1024}}))
"""


def started(program, *arguments, cache, home=None):
    """A process that runs a program with this package, one BLAS thread, and this cache."""
    env = {"PYTHONPATH": str(ROOT), "TINYVRNN_CACHE": str(cache), "OPENBLAS_NUM_THREADS": "1"}
    env |= {} if home is None else {"TINYVRNN_HOME": str(home)}
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | env)


def ended(process):
    """What it printed."""
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    return out


def measured(body, *arguments, cache):
    """The result of `run` in a program, and its peak memory in bytes."""
    program = MEASURED.format(textwrap.indent(textwrap.dedent(body), "    "))
    found = json.loads(ended(started(program, *arguments, cache=cache)).splitlines()[-1])
    return found["found"], found["peak"]


# ---- many at once --------------------------------------------------------------------------------

RUN = """
    import sys
    from tinyvrnn import cli
    from tinyvrnn.data.readers import arrays
    arrays.LARGE = 0  # so that all unpack into the cache that they share
    data, out, epochs = sys.argv[1:]
    options = ["--hidden", "16", "--latent", "3", "--epochs", epochs, "--workers", "2", "--seed", "4"]
    sys.exit(cli.main(["train", data, "--out", out, *options]))
"""


def runs_at_once(tmp_path, count, epochs, sequences):
    """`count` concurrent runs on one file and an empty cache give the same bits as a single run."""
    data, draw = tmp_path / "mine.npz", checks.rng()
    np.savez(data, values=draw.normal(size=(8 * sequences, 5)).astype("float32"), lengths=np.full(sequences, 8))
    alone = tmp_path / "alone"
    ended(started(RUN, data, alone, epochs, cache=tmp_path / "cache of one"))
    several = [started(RUN, data, tmp_path / f"run {i}", epochs, cache=tmp_path / "cache") for i in range(count)]
    for process in several:
        ended(process)
    expected, lines = checkpoint.read(alone), lines_of(alone)
    for i in range(count):
        manifest, found = checkpoint.read(tmp_path / f"run {i}")
        assert manifest == expected[0] and lines_of(tmp_path / f"run {i}") == lines
        assert all(found[name].tobytes() == expected[1][name].tobytes() for name in expected[1])
    kept = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert sorted(kept) == ["lengths.npy", "values.npy"], "one copy of each, and nothing half written"


def lines_of(run):
    """The records of a run, without their seconds."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


@pytest.mark.slow
def test_three_runs_at_once_are_each_the_run_alone(tmp_path):
    runs_at_once(tmp_path, 3, epochs=1, sequences=60)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_runs_at_once_are_each_the_run_alone(tmp_path):
    runs_at_once(tmp_path, 30, epochs=3, sequences=2000)


TRIES = """
    import sys
    from tinyvrnn.course import progress
    for i in range(25):
        progress.record(f"{i % 5:02}.1", passed=(i + int(sys.argv[1])) % 7 == 0)
"""


def test_no_try_at_an_exercise_is_lost_between_notebooks(tmp_path):
    """Eight processes count 25 tries each, at the same five exercises."""
    for process in [started(TRIES, i, cache=tmp_path, home=tmp_path / "home") for i in range(8)]:
        ended(process)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYVRNN_HOME", str(tmp_path / "home"))
        known = progress.read()
    assert {number: entry["tries"] for number, entry in known.items()} == {f"{i:02}.1": 40 for i in range(5)}
    assert all(entry["passed"] for entry in known.values())


def test_no_try_is_lost_between_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYVRNN_HOME", str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: progress.record("01.1", passed=i == 3), range(80)))
    assert progress.read() == {"01.1": {"passed": True, "tries": 80}}


# ---- chunks of a long sequence -------------------------------------------------------------------

LONG = {
    "vrnn": {},
    "vrnn, lstm": {"cell": "lstm"},
    "vrnn-i": {"model": "vrnn-i"},
    "rnn": {"model": "rnn"},
    "rnn, lstm": {"model": "rnn", "cell": "lstm"},
    "vae": {"model": "vae"},
}


@pytest.mark.parametrize("chunk", [1, 2, 5, 11, 100])
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("options", LONG.values(), ids=LONG)
@pytest.mark.one_in(7)
def test_chunks_give_the_bounds_of_the_whole(options, backend, chunk):
    checks.evaluation_in_chunks_is_that_of_the_whole(chunk, backend, **options)


def test_float32_noise_goes_on_where_a_chunk_ended():
    """64 random bits give two float32 numbers: the draws of chunks of 3 steps equal those of all 10."""
    model, *_ = checks.small("gaussian", dtype="float32", x_dim=3, z_dim=1)
    sequences = tv.Sequences(checks.rng().random((30, 3)).astype("float32"), [10, 10, 10])
    whole, pieces = (bounds.evaluate_elbo(model, sequences, chunk=chunk) for chunk in (None, 3))
    assert pieces == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    "options, chunk, says",
    [
        ({"posterior": "smoothing"}, 2, "a smoothing posterior reads each as a whole"),
        ({}, 0, "chunk must be a whole number of at least 1, got 0"),
        ({}, 2.0, "chunk must be a whole number of at least 1, got 2.0"),
    ],
)
def test_what_can_not_be_evaluated_in_chunks_is_refused(options, chunk, says):
    model, x, *_ = checks.small("gaussian", **options)
    with pytest.raises(tv.ConfigError, match=says):
        bounds.evaluate_elbo(model, tv.Sequences.from_list([x[:, 0]]), chunk=chunk)


def test_a_chunk_takes_the_state_of_its_own_sequences():
    model, x, _, eps = checks.small("gaussian")
    _, state = model.chunk_parts(x, None, eps)
    with pytest.raises(tv.DataError, match="Expected the state of 4 sequences"):
        model.chunk_parts(x, None, eps, state[1:])


def test_a_loss_of_many_steps_is_summed_with_all_its_digits():
    """2^20 steps of log 2 nats in float32: adding them up one after another would be off by some per cent."""
    model, steps = tv.VAE(1, 1, 1), 2**20
    model.theta[...] = 0  # all logits are 0
    found = model.parts(np.zeros((steps, 2, 1), "float32"), eps=np.zeros((steps, 2, 1), "float32"))
    assert found.log_likelihood[0] == pytest.approx(-steps * np.log(2), rel=1e-6)


# ---- parts of a large set ------------------------------------------------------------------------


def test_parts_in_memory_are_views_that_cover_it(monkeypatch):
    monkeypatch.setattr("tinyvrnn.data.sequences.NUMBERS_AT_ONCE", 40)
    values = checks.rng().random((70, 3))
    sequences = tv.Sequences(values, [7, 1, 20, 2, 30, 3, 7])
    parts = list(sequences.parts())
    assert len(parts) > 3 and [i for i, _ in parts] == np.cumsum([0, *(len(p) for _, p in parts[:-1])]).tolist()
    assert np.array_equal(np.concatenate([p.values for _, p in parts]), values)
    assert all(np.shares_memory(p.values, values) for _, p in parts)


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [0, 2, 4], [1, 2], [3]], ids=str)
def test_rows_of_mapped_sequences_are_theirs_in_any_order(order):
    """Next to each other, with gaps, backwards, and from two files."""
    values, lengths = checks.rng().random((15, 2)), np.array([1, 5, 2, 4, 3])
    one = Mapped([values], np.zeros(5, int), np.cumsum(lengths) - lengths, lengths)
    two = Mapped([values, -values], np.array([0, 1, 0, 1, 1]), one.starts, lengths)
    for mapped, sign in ((one, np.ones(5)), (two, [1, -1, 1, -1, -1])):
        chosen = mapped[np.array(order)]
        for found in (chosen, chosen.standardised(0.5, 2.0)):
            expected = [sign[i] * values[one.starts[i] :][: lengths[i]] for i in order]
            expected = expected if found is chosen else [(e - 0.5) / 2.0 for e in expected]
            (part,) = [p for _, p in found.parts()]
            np.testing.assert_allclose(part.values, np.concatenate(expected), rtol=1e-6)
            for x, n, index in batches(found, 2):
                for b, i in enumerate(index):
                    np.testing.assert_allclose(x[: n[b], b], expected[i], rtol=1e-6)


# ---- a million -----------------------------------------------------------------------------------

MILLION = """
    import io, contextlib, time
    data, out = sys.argv[1:]
    start, text = time.perf_counter(), io.StringIO()
    options = ["--hidden", "8", "--latent", "2", "--batch", "1024", "--epochs", "1", "--layers", "1"]
    with contextlib.redirect_stdout(text):
        assert cli.main(["train", data, "--out", out, *options]) == 0
        trained = time.perf_counter() - start
        assert cli.main(["evaluate", out, "--json"]) == 0
    return json.loads(text.getvalue().splitlines()[-1]) | {"seconds": trained}
"""


@linux
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_sequences_stream_through_training_in_one_gibibyte(tmp_path):
    """More bytes than that: 1.15 GB in an archive, unpacked, standardised, trained on, and evaluated with baselines."""
    data, draw, lengths = tmp_path / "million.npz", checks.rng(), checks.rng(1).integers(1, 16, 1_000_000)
    values = np.resize(draw.normal(3, 2, (2**20, 36)).astype("float32"), (lengths.sum(), 36))
    assert values.nbytes > 1.05 * GIB
    np.savez(data, values=values, lengths=lengths)
    del values
    found, peak = measured(MILLION, data, tmp_path / "run", cache=tmp_path / "cache")
    print(f"{peak / GIB:.2f} GiB, {found['seconds']:.0f} s")
    assert found["sequences"] == 100_000 and np.isfinite(found["elbo_per_sequence"])
    assert len(found["baselines"]) == 2 and all(np.isfinite(value) for value in found["baselines"].values())
    assert peak < GIB


LONGEST = """
    import numpy as np, tinyvrnn as tv, io, contextlib
    from tinyvrnn.runs import checkpoint
    data, long, out = sys.argv[1:]
    model = tv.VRNN(x_dim=4, h_dim=64, z_dim=16, likelihood="gaussian")
    checkpoint.save(model, out, data=data)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert cli.main(["evaluate", out, "--data", long, "--chunk", "1000", "--json"]) == 0
    return json.loads(text.getvalue())
"""


@linux
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sequence_of_a_million_steps_is_evaluated_in_chunks_in_one_gibibyte(tmp_path):
    """At once the loop alone would need 5 GB; the baselines run too."""
    data, long = tmp_path / "short.npy", tmp_path / "long.npy"
    np.save(data, checks.rng().random((10, 50, 4)).astype("float32"))
    np.save(long, checks.rng().random((1, 1_000_000, 4)).astype("float32"))
    found, peak = measured(LONGEST, data, long, tmp_path / "run", cache=tmp_path / "cache")
    print(f"{peak / GIB:.2f} GiB")
    assert found["steps"] == 1_000_000 and found["sequences"] == 1 and len(found["baselines"]) == 2
    assert peak < GIB
    few = tmp_path / "few.npy"  # the same model on the beginning, as a whole: the same nats a step, about
    np.save(few, np.load(long)[:, :20_000])
    model = tv.load(tmp_path / "run")
    whole = bounds.evaluate_elbo(model, tv.Sequences.from_list(list(np.load(few))))
    assert found["elbo_per_step"] == pytest.approx(whole.elbo_per_step, rel=0.01)
