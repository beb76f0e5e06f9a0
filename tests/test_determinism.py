"""The same seed gives the same bits: twice, in another process, with any BLAS setting. The exceptions differ little.

Catches: noise or order that depends on a clock, a hash, an address or earlier runs; sums whose order depends on thread
timing or the number of BLAS threads; a number of workers that changes more than rounding.
These tests back the promises of docs/reproducibility.md.
"""

import functools
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn import bounds
from tinyvrnn.arrays import noise

ROOT = Path(__file__).resolve().parent.parent
WORKERS = (1, 2, 3, 4)
WIDE = {"h_dim": 64, "features": 64, "scale": 0.1}  # more parameters than BLAS adds up in one thread
RUNS = {  # each trains something else
    "wide": (WIDE, {"clip": 0.5}),
    "wide, float64": (WIDE | {"dtype": "float64"}, {"clip": 0.5}),
    "vrnn, lstm": ({"cell": "lstm"}, {"dropout": 0.2, "weight_decay": 0.1}),
    "smoothing": ({"posterior": "smoothing"}, {"warmup": 1}),
    "vrnn-i, iwae": ({"model": "vrnn-i"}, {"bound": "iwae", "particles": 3}),
    "vrnn, fivo": ({}, {"bound": "fivo", "particles": 3}),
    "rnn, chunks": ({"model": "rnn"}, {"chunk": 2}),
    "vrnn, recompute": ({}, {"recompute": True}),
    "vae": ({"model": "vae"}, {}),
}


def trained(name, workers, dtype="float32", **given):
    """The model and the records of a run of two epochs."""
    options, training = RUNS[name]
    model, *_ = checks.small(**{"dtype": dtype} | options)
    training = {"epochs": 2, "batch": 5, "workers": workers, "seed": 3} | training | given
    return model, tv.train(
        model, checks.toy_data(lengths=(9, 1, 5, 2, 4, 7, 2, 1, 6, 3, 8)), progress=False, **training
    )


def digest(name, workers):
    """A hash of all results of a run except its seconds."""
    model, records = trained(name, workers)
    for record in records:
        del record["seconds"]
    drawn = (model.sample(3, 4, seed=1), model.elbo(np.ones((3, 2, model.x_dim), "float32")))
    found = [model.theta.tobytes(), *(a.tobytes() for a in drawn), json.dumps(records).encode()]
    return hashlib.sha256(b"".join(found)).hexdigest()


def digests():
    """ "name workers" -> digest, of all runs."""
    return {f"{name} {workers}": digest(name, workers) for name in RUNS for workers in WORKERS}


@functools.cache
def in_a_fresh_process(hash_seed, blas_threads):
    program = "import json, test_determinism; print(json.dumps(test_determinism.digests()))"
    told = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), blas_threads)
    paths = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | told | paths
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("name", RUNS)
def test_a_run_twice_gives_the_same_bits(name, workers):
    assert digest(name, workers) == digest(name, workers)


@pytest.mark.slow
def test_another_process_gives_the_same_bits():
    """With another hash seed for strings and another limit of BLAS threads."""
    first = in_a_fresh_process("1", "1")
    assert len(first) == len(RUNS) * len(WORKERS)
    assert in_a_fresh_process("2", "4") == first
    assert digests() == first


@pytest.mark.parametrize("name", RUNS)
def test_another_seed_gives_another_run(name):
    """Otherwise equal bits would prove nothing."""
    assert not np.array_equal(trained(name, 1, seed=3)[0].theta, trained(name, 1, seed=4)[0].theta)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("dtype, bound", [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("name", sorted(set(RUNS) - {"wide, float64"}))
def test_the_number_of_workers_changes_roundings_alone(name, dtype, bound):
    """Weights after two epochs, relative to the largest; measured: 1.0e-14 in float64, 1.4e-6 in float32."""
    one = trained(name, 1, dtype)
    for workers in WORKERS[1:]:
        several = trained(name, workers, dtype)
        checks.assert_close(several[0].theta, one[0].theta, bound, f"{workers} workers")
        for record, plain in zip(several[1], one[1], strict=True):
            assert record["valid"]["elbo"] == pytest.approx(plain["valid"]["elbo"], rel=bound)


def test_what_ran_before_changes_nothing():
    """Neither another model's training nor NumPy's global random state has an effect."""
    first = digest("vrnn, lstm", 2)
    np.random.seed(7)
    trained("vae", 1)
    checks.small()[0].sample(2, 3)
    assert digest("vrnn, lstm", 2) == first


@pytest.mark.parametrize("bound", ["elbo", "iwae", "fivo"])
def test_an_evaluation_twice_is_the_same_and_another_seed_another(bound):
    model, x, lengths, _ = checks.small("gaussian", dtype="float32")
    sequences = tv.Sequences.from_list([x[:n, b] for b, n in enumerate(lengths)])
    first, again, other = (bounds.evaluate(model, sequences, bound, 3, seed=seed) for seed in (1, 1, 2))
    assert first == again and first.per_sequence != other.per_sequence
    assert bounds.evaluate_elbo(model, sequences, seed=1) == bounds.evaluate_elbo(model, sequences, seed=1)


def test_weights_and_noise_have_addresses():
    """Noise of the first steps does not depend on the number of steps; nor do weights and a sample's first steps."""
    few, many = (noise.standard_normal((T, 2, 3), "float32", 5, "train", 9) for T in (4, 7))
    assert np.array_equal(few, many[:4])
    model = tv.VRNN(3, 5, 2, seed=8)
    assert np.array_equal(model.theta, tv.VRNN(3, 5, 2, seed=8).theta)
    assert np.array_equal(model.sample(2, 3, seed=1), model.sample(2, 6, seed=1)[:3])
