"""Long sequences: recomputation between saved states, and chunks of one sequence.

Catches: a state or its gradient lost at a cut, memory that grows with the length, a state passed to another sequence or
to the next batch, sequences that continue after their end, a chunk with the gradient of another.
"""

import tracemalloc

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.bounds import evaluate_elbo
from tinyvrnn.gradcheck import compare, numerical_gradient
from tinyvrnn.models import recompute
from tinyvrnn.models.batch import Batch, Objective
from tinyvrnn.training import loop
from tinyvrnn.training.parallel import Workers

VARIANTS = {
    "vrnn": {},
    "lstm": {"cell": "lstm"},
    "vrnn-i": {"model": "vrnn-i"},
    "rnn": {"model": "rnn"},
    "rnn, lstm": {"model": "rnn", "cell": "lstm"},
}
every = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
both = pytest.mark.parametrize("backend", ["numpy", "strict"])


@every
@both
@pytest.mark.parametrize("T", [1, 2, 5, 17])
def test_recomputation_gives_the_plain_gradient(options, backend, T):
    checks.recomputation_equals_plain(backend, T=T, **options)


@every
@pytest.mark.parametrize("T", [1, 2, 5, 17])
def test_a_chunk_with_recomputation_starts_from_its_state_and_returns_the_next_one(options, T):
    model, x, lengths, eps = checks.small("gaussian", T=T, **options)
    state = None
    for _ in range(2):
        plainly = model.chunk_loss_and_grads(x, lengths, eps, 0.7, state)
        again = model.chunk_loss_and_grads(x, lengths, eps, 0.7, state, recompute=True)
        for found, expected, what in zip(again, plainly, ("loss", "gradient", "parts", "state"), strict=True):
            checks.assert_close(found, expected, 1e-12, what)
        state = again[3]
    assert not np.shares_memory(again[3], model.theta)


CHUNKED = {**VARIANTS, "vae": {"model": "vae"}}


@pytest.mark.parametrize("options", CHUNKED.values(), ids=CHUNKED)
def test_parts_of_chunks_add_up_to_those_of_the_whole(options):
    model, x, lengths, eps = checks.small("gaussian", T=7, B=3, **options)
    lengths, state, total = np.array([7, 2, 5]), None, np.zeros((3, 3))
    for start in (0, 3, 6):
        going = lengths > start
        state = None if state is None else state[going[lengths > start - 3]]
        own = np.minimum(lengths[going] - start, 3)
        chunk = x[start : start + 3, going], own, eps[start : start + 3, going]
        parts, after = model.chunk_parts(*chunk, state)
        total[:, going] += np.stack(parts)
        if model.choices:
            expected = model.chunk_loss_and_grads(*chunk, 1.0, state)
            assert np.array_equal(np.stack(parts), np.stack(expected[2])) and np.array_equal(after, expected[3])
        else:
            assert after is None
        state = after
    checks.assert_close(total, np.stack(model.parts(x, lengths, eps)), 1e-12, "parts")
    assert np.array_equal(np.stack(model.chunk_parts(x, lengths)[0]), np.stack(model.parts(x, lengths))), "fresh noise"


def test_parts_of_chunks_refuse_the_state_of_others_and_a_posterior_that_sees_the_whole():
    model, x, lengths, eps = checks.small("gaussian", B=3)
    for wrong in (np.zeros((4, 5)), np.zeros((3, 4)), [[0.0] * 4] * 3):
        with pytest.raises(tv.DataError, match="Expected the state of 3 sequences"):
            model.chunk_parts(x, lengths, eps, wrong)
    model, *given = checks.small("gaussian", posterior="smoothing")
    with pytest.raises(tv.ConfigError, match="smoothing posterior reads each as a whole"):
        model.chunk_parts(*given)


def test_recomputation_is_done_where_it_is_asked_for(monkeypatch):
    model, x, lengths, eps = checks.small("gaussian", T=9)
    calls, right = [], recompute.terms_and_grads
    monkeypatch.setattr(recompute, "terms_and_grads", lambda *a: calls.append(a) or right(*a))
    for wanted in (True, False):
        calls.clear()
        model.loss_and_grads(x, lengths, eps, recompute=wanted)
        model.chunk_loss_and_grads(x, lengths, eps, recompute=wanted)
        assert len(calls) == 2 * wanted
    model.loss_and_grads(x, lengths, eps)
    model.chunk_loss_and_grads(x, lengths, eps)
    assert not calls


@pytest.mark.parametrize("T", [1, 2, 3, 4, 9, 10, 1000])
def test_pieces_cover_all_steps_once_and_are_about_the_root_of_their_number(T):
    pieces = recompute.cut(T)
    assert [t for piece in pieces for t in range(T)[piece]] == list(range(T))
    assert max(len(range(T)[piece]) for piece in pieces) <= T**0.5 + 1 and len(pieces) <= T**0.5 + 1


def test_memory_grows_as_the_square_root_of_the_length():
    """Four times the steps take twice the peak memory, and four times without recomputation."""

    def peak(T, **options):
        model = tv.VRNN(x_dim=4, h_dim=24, z_dim=2)
        x, eps = np.zeros((T, 8, 4), "float32"), np.zeros((T, 8, 2), "float32")
        model.loss_and_grads(x, None, eps, **options)
        tracemalloc.start()
        model.loss_and_grads(x, None, eps, **options)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(1024) > 3.5 * peak(256)
    assert peak(1024, recompute=True) < 2.4 * peak(256, recompute=True)
    assert peak(1024, recompute=True) < 0.1 * peak(1024)


@every
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 9])
def test_chunks_follow_their_sequences(options, workers, chunk):
    checks.chunks_follow_their_sequences(chunk, workers, **options)


@pytest.mark.one_in(3)
@every
def test_the_gradient_of_a_chunk_takes_its_state_as_constant(options):
    model, x, _, eps = checks.small("gaussian", **options)
    *_, state = model.chunk_loss_and_grads(x[:2], None, eps[:2])
    state = state + 0.1 * checks.rng().standard_normal(state.shape)

    def loss(_):
        return model.chunk_loss_and_grads(x[2:], None, eps[2:], 0.7, state)[0]

    _, grads, *_ = model.chunk_loss_and_grads(x[2:], None, eps[2:], 0.7, state)
    for name, leaf in leaves(model.params):
        group, own = name.split(".")
        compare(name, views(grads, model.shapes)[group][own], numerical_gradient(loss, leaf), 1e-6)
    again = model.chunk_loss_and_grads(x[2:], None, eps[2:], 0.7, state, recompute=True)
    checks.assert_close(again[1], grads, 1e-12, "gradient")
    checks.assert_close(again[3], model.chunk_loss_and_grads(x[2:], None, eps[2:], 0.7, state)[3], 1e-12, "state")


def test_one_chunk_is_the_whole_gradient():
    model, *given = checks.small()
    assert np.array_equal(model.chunk_loss_and_grads(*given)[1], model.loss_and_grads(*given)[1])


@pytest.mark.one_in(3)
@every
@both
def test_training_by_chunks_and_with_recomputation_raises_the_bound(options, backend):
    model, *_ = checks.small(backend=backend, dtype="float32", **options)
    given = {"epochs": 30, "lr": 0.05, "batch": 4, "workers": 2, "chunk": 2, "recompute": True}
    records = tv.train(model, checks.toy_data(), progress=False, **given)
    elbos = [record["train"]["elbo"] for record in records]
    assert elbos[-1] > elbos[0] + 1


@pytest.mark.parametrize("options, steps", [({"recompute": True}, 3), ({"chunk": 2}, 2), ({}, None)])
def test_validation_is_as_sparing_of_memory_as_training(options, steps, monkeypatch):
    """The validation sequences have up to 5 steps, the root of which, rounded up, is 3."""
    seen = []
    monkeypatch.setattr(loop, "evaluate_elbo", lambda *given, chunk: seen.append(chunk) or evaluate_elbo(*given))
    model, *_ = checks.small()
    data = checks.toy_data()
    assert data.valid.max_steps == 5
    tv.train(model, data, progress=False, epochs=1, **options)
    assert seen == [steps]


def test_training_with_recomputation_is_the_same_training():
    thetas = []
    for recomputed in (False, True):
        model, *_ = checks.small()
        tv.train(model, checks.toy_data(), progress=False, epochs=2, batch=4, workers=1, recompute=recomputed)
        thetas.append(model.theta)
    checks.assert_close(*thetas, 1e-9, "theta")


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("recomputed", [False, True])
def test_training_asks_for_what_it_was_told(recomputed, chunk, monkeypatch):
    """With and without recomputation, with the scheduled weight of the KL: two epochs of warm-up, two batches each."""
    seen = []

    own = tv.VRNN.gradient

    def spy(self, batch, objective):
        seen.append((objective.beta, objective.recompute))
        return own(self, batch, objective)

    monkeypatch.setattr(tv.VRNN, "gradient", spy)
    model, *_ = checks.small(dtype="float32")
    options = {"epochs": 2, "batch": 4, "workers": 1, "warmup": 2, "chunk": chunk, "recompute": recomputed}
    tv.train(model, checks.toy_data(lengths=(3,) * 8), progress=False, **options)
    calls = 1 if chunk is None else 2
    assert seen == [(beta, recomputed) for beta in (0.25, 0.5, 0.75, 1.0) for _ in range(calls)]


def test_the_optimiser_steps_once_for_each_chunk(monkeypatch):
    steps, step = [], loop.Adam.step
    monkeypatch.setattr(loop.Adam, "step", lambda self, *given: (steps.append(1), step(self, *given)))
    model, *_ = checks.small(dtype="float32")
    data = checks.toy_data(lengths=(5,) * 8)
    records = tv.train(model, data, progress=False, epochs=1, batch=4, workers=1, chunk=2)
    assert len(steps) == 2 * 3 and records[0]["step"] == 2, "two batches, of three chunks each"


@pytest.mark.parametrize(
    "options, given, says",
    [
        ({"model": "vae"}, {"chunk": 2}, "chunk is for a model that has a state, and a vae has none"),
        ({"model": "vae"}, {"recompute": True}, "recompute is for a model that has a state, and a vae has none"),
        ({"posterior": "smoothing"}, {"chunk": 2}, "a smoothing posterior reads each as a whole"),
        ({"posterior": "smoothing"}, {"recompute": True}, "a smoothing posterior reads each as a whole"),
        ({}, {"chunk": 2, "bound": "iwae"}, "chunk is for the bound elbo, got iwae"),
        ({}, {"recompute": True, "bound": "fivo"}, "recompute is for the bound elbo, got fivo"),
        ({}, {"chunk": 0}, "chunk must be a whole number of at least 1"),
    ],
)
def test_what_can_not_be_cut_is_refused(options, given, says):
    model, *_ = checks.small(**options)
    with pytest.raises(tv.ConfigError, match=says):
        tv.train(model, checks.toy_data(), progress=False, **given)


@pytest.mark.parametrize("options", [{"model": "vae"}, {"posterior": "smoothing"}], ids=str)
def test_a_model_refuses_it_too(options):
    model, *given = checks.small(**options)
    with pytest.raises(tv.ConfigError, match="recompute"):
        model.loss_and_grads(*given, recompute=True)
    with pytest.raises(tv.ConfigError, match="chunk"):
        model.chunk_loss_and_grads(*given)


def test_a_state_of_other_sequences_is_refused():
    model, x, _, eps = checks.small(cell="lstm")
    *_, state = model.chunk_loss_and_grads(x, None, eps)
    with pytest.raises(tv.DataError, match=r"Expected the state of 4 sequences, got one of shape \(3, 10\)"):
        model.chunk_loss_and_grads(x, None, eps, state=state[1:])
    state[0, 0] = np.nan
    with pytest.raises(tv.DataError, match="state holds NaN"):
        model.chunk_loss_and_grads(x, None, eps, state=state)


@checks.on_device
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_state_on_the_host_goes_to_the_device_of_the_model(cell):
    model, x, lengths, eps = checks.small(backend=checks.DEVICE, cell=cell)
    *_, state = model.chunk_loss_and_grads(x, None, eps)
    right = model.chunk_loss_and_grads(x, lengths, eps, state=state)
    found = model.chunk_loss_and_grads(x, lengths, eps, state=to_host(state))
    assert found[0] == right[0] and np.array_equal(to_host(found[1]), to_host(right[1]))


def test_workers_hand_back_the_states_of_all_slices():
    model, x, lengths, eps = checks.small()
    *_, state = model.chunk_loss_and_grads(x, None, eps)
    full = np.full(x.shape[1], len(x))
    with Workers(3) as workers:
        found = workers.gradient(model, Batch(x, full, eps), Objective()).state
    checks.assert_close(to_host(found), state, 1e-13, "state")
