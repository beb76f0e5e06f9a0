"""The baselines against slow, literal computations of the same densities."""

import numpy as np
import pytest

from tinyvrnn.data import Data, Sequences, baselines, load_data
from tinyvrnn.data.baselines import autoregressive_steps
from tinyvrnn.errors import ConfigError, DataError


def ragged(rng, lengths, draw):
    return Sequences(draw(rng, (sum(lengths), 2)), lengths)


def bits(rng, shape):
    return (rng.random(shape) < 0.3).astype(np.uint8)


def walk(rng, shape):
    return np.cumsum(rng.normal(size=shape), axis=0)


def smooth(seen):
    """The mean of Beta(1/2, 1/2) after observing `seen`, from the definition."""
    return (sum(seen) + 0.5) / (len(seen) + 1)


def literal_bernoulli(train, test, remembers, by_step):
    """Sum over sequences, steps, dimensions of log p, each p counted anew from the training sequences."""

    def seen(t, j, c):
        return [s[t, j] for s in train if len(s) > t and (t == 0 or c is None or s[t - 1, j] == c)]

    total = 0.0
    longest = max(len(s) for s in train)
    for x in test:
        for t in range(len(x)):
            for j in range(2):
                c = x[t - 1, j] if remembers and t > 0 else None
                others = [0] if remembers and t == 0 else range(1 if remembers else 0, longest)
                steps = [t] if by_step and t < longest else others
                p = smooth([v for step in steps for v in seen(step, j, c)])
                total += np.log(p if x[t, j] else 1 - p)
    return total / len(test)


@pytest.fixture
def binary():
    rng = np.random.default_rng(3)
    parts = [ragged(rng, lengths, bits) for lengths in ([3, 5, 1, 4, 5, 2], [2], [4, 7, 1, 5])]
    return Data.from_sequences("bits", *parts)


@pytest.mark.parametrize("name, remembers", [("marginal Bernoulli", False), ("Markov", True)])
@pytest.mark.parametrize("split", ["train", "test"])  # test has steps that no training sequence reaches
def test_bernoulli_baselines_are_what_literal_counting_gives(binary, name, remembers, split):
    for steps_differ in (True, False):
        if steps_differ:  # the first two steps are those of the validation split
            values = binary.train.values.copy()
            values[binary.train.time() < 2] = [[0, 1]]
            train, valid = Sequences(values, binary.train.lengths), np.array([[[0, 1], [0, 1]]], dtype=np.uint8)
            data = Data.from_sequences("bits", train, valid, binary.test)
        else:
            data = binary
        expected = {
            by_step: [literal_bernoulli(data.train, data.split(s), remembers, by_step) for s in ("valid", split)]
            for by_step in (True, False)
        }
        assert (expected[True][0] > expected[False][0]) == steps_differ, "validation decides"
        found = baselines(data, split)[name]
        assert found == pytest.approx(expected[steps_differ][1], rel=1e-12)
        assert (
            found.parameters
            == 2 * {(1, True): 5, (1, False): 1, (2, True): 9, (2, False): 3}[1 + remembers, steps_differ]
        )


def test_the_autoregression_of_sound_is_one_of_samples_with_the_order_that_validation_prefers():
    """An AR(2) waveform in frames of 5: literal least squares for each order; before its start it is at its mean."""
    rng, splits = np.random.default_rng(7), []
    for n in (3, 2, 2):
        waves = []
        for _ in range(n):
            w = np.zeros(400)
            for t in range(2, 400):
                w[t] = 1.6 * w[t - 1] - 0.9 * w[t - 2] + rng.normal()
            waves.append(w.reshape(80, 5) + 3)
        splits.append(waves)
    data = Data.from_sequences("sound", *splits, standardise=False, medium={"name": "sound", "rate": 8000})
    mu = np.mean(splits[0])

    def lagged(split, p):
        padded = [np.concatenate([np.zeros(p), np.ravel(w) - mu]) for w in split]
        rows = [(w[t - p : t][::-1], w[t]) for w in padded for t in range(p, len(w))]
        return np.array([r[0] for r in rows]), np.array([r[1] for r in rows])

    nats = {}
    for p in (1, 2, 4, 8, 16, 32):
        x, y = lagged(splits[0], p)
        a = np.linalg.lstsq(x, y, rcond=None)[0]
        s = np.sqrt(np.mean((y - x @ a) ** 2))
        nats[p] = [log_normal(y, x @ a, s).sum() / 2 for x, y in (lagged(split, p) for split in splits[1:])]
    best = max(nats, key=lambda p: nats[p][0])
    found = baselines(data)["AR of samples"]
    assert found == pytest.approx(nats[best][1], rel=1e-9) and found.parameters == best + 2
    assert found > baselines(data)["marginal Gaussian"] + 300


def test_each_baseline_says_how_many_parameters_it_has(real, text):
    kinds = {"real": real, "categorical": text}
    found = [one.parameters for kind, data in kinds.items() for one in baselines(data, kind=kind).values()]
    assert found == [4, 10, 2, 8]


@pytest.fixture
def real():
    rng = np.random.default_rng(4)
    parts = [ragged(rng, lengths, walk) for lengths in ([9, 5, 1, 14], [2], [3, 8])]
    return Data.from_sequences("walk", *parts, standardise=False)


def log_normal(x, mu, sigma):
    return np.log(np.exp(-((x - mu) ** 2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi)))


def test_gaussian_baseline(real):
    expected = 0.0
    for j in range(2):
        column = np.concatenate([s[:, j] for s in real.train])
        expected += sum(log_normal(x, column.mean(), column.std()) for s in real.test for x in s[:, j])
    assert baselines(real)["marginal Gaussian"] == pytest.approx(expected / 2, rel=1e-12)


def test_autoregressive_baseline_is_least_squares(real):
    expected = [np.zeros(len(x)) for x in real.test]
    for j in range(2):
        column = np.concatenate([s[:, j] for s in real.train])
        before, now = (np.concatenate([s[a : len(s) + b, j] for s in real.train]) for a, b in ((0, -1), (1, 0)))
        a, c = np.linalg.lstsq(np.stack([before, np.ones_like(before)], axis=1), now, rcond=None)[0]
        s = np.sqrt(np.mean((now - a * before - c) ** 2))
        for x, log_p in zip(real.test, expected):
            log_p[0] += log_normal(x[0, j], column.mean(), column.std())
            log_p[1:] += [log_normal(x[t, j], a * x[t - 1, j] + c, s) for t in range(1, len(x))]
    steps = np.concatenate(expected)
    assert autoregressive_steps(real.train)(real.test) == pytest.approx(steps, rel=1e-10)
    assert baselines(real)["AR(1)"] == pytest.approx(steps.sum() / 2, rel=1e-10)


def test_with_single_steps_memory_is_worth_nothing():
    x = np.random.default_rng(0).normal(size=(9, 1, 2))
    real = baselines(Data.from_sequences("steps", x, x, x))
    assert real["AR(1)"] == real["marginal Gaussian"]
    longer = Data.from_sequences("longer", x, x, np.ones((2, 3, 2)), standardise=False)
    assert baselines(longer)["AR(1)"] == pytest.approx(baselines(longer)["marginal Gaussian"], rel=1e-12)
    binary = baselines(Data.from_sequences("bits", x > 0, x > 0, x > 0))
    assert binary["Markov"] == pytest.approx(binary["marginal Bernoulli"], rel=1e-12)


def test_a_constant_dimension_stays_finite():
    x = np.random.default_rng(0).normal(size=(9, 4, 2))
    x[..., 0] = 0.0
    assert np.isfinite(list(baselines(Data.from_sequences("flat", x, x, x)).values())).all()


def test_greys_under_a_bernoulli_likelihood():
    """log p = x log p + (1 - x) log(1 - p), and a pixel counts as on from 1/2."""
    grey = np.array([[[0.2], [0.5]], [[0.5], [0.4]]])
    data = Data.from_sequences("grey", grey, grey, grey)
    assert set(baselines(data)) == {"marginal Gaussian", "AR(1)"}
    p_1, p_2 = (0.7 + 0.5) / 3, {0: (0.5 + 0.5) / 2, 1: (0.4 + 0.5) / 2}

    def log_p(x, p):
        return x * np.log(p) + (1 - x) * np.log(1 - p)

    expected = (log_p(0.2, p_1) + log_p(0.5, p_2[0]) + log_p(0.5, p_1) + log_p(0.4, p_2[1])) / 2
    assert baselines(data, kind="binary")["Markov"] == pytest.approx(expected, rel=1e-12)


def test_raw_and_standardised_differ_by_the_change_of_variables():
    """log p(x) = log p((x - mean) / std) - T sum_j log std_j, for one step as for all."""
    raw, standard = load_data("vowels", standardise=False), load_data("vowels")
    shift = np.log(standard.std).sum() * standard.test.steps / len(standard.test)
    for name, value in baselines(raw).items():
        assert value == pytest.approx(baselines(standard)[name] - shift, abs=1e-3)


def test_baselines_of_the_embedded_sets():
    """The numbers printed beside a model's."""
    for name, expected in {
        "digits8": {"marginal Bernoulli": -24.891, "Markov": -22.372},
        "vowels": {"marginal Gaussian": -263.015, "AR(1)": -21.360},
    }.items():
        assert baselines(load_data(name)) == pytest.approx(expected, abs=2e-3)


def test_they_score_lists_of_arrays_too():
    data = load_data("vowels")
    assert baselines(data, list(data.test)) == baselines(data, data.test)


def test_sequences_of_another_width_are_refused():
    with pytest.raises(DataError, match="the numbers in each step differ"):
        baselines(load_data("vowels"), [np.ones((4, 3))])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="'poisson', but 'binary', 'real', 'pen' or 'categorical'"):
        baselines(load_data("digits8"), kind="poisson")


def test_a_pen_has_gaussian_steps_and_a_bernoulli_lift():
    ink = Data.from_sequences("ink", *(pen(RNG_PEN, n) for n in (9, 2, 4)), kind="pen")
    parts = {
        kind: Data.from_sequences(kind, *(cut(ink.split(s), columns) for s in ("train", "valid", "test")), False)
        for kind, columns in (("real", slice(0, 2)), ("binary", slice(2, 3)))
    }
    real, binary = baselines(parts["real"]), baselines(parts["binary"])
    assert baselines(ink) == pytest.approx({
        "marginal Gaussian, Bernoulli": real["marginal Gaussian"] + binary["marginal Bernoulli"],
        "AR(1), Markov": real["AR(1)"] + binary["Markov"],
    })  # fmt: skip


RNG_PEN = np.random.default_rng(5)


def pen(rng, n):
    return [np.column_stack([walk(rng, (t, 2)), bits(rng, (t, 1))]) for t in rng.integers(2, 7, n)]


def cut(sequences, columns):
    return [x[:, columns] for x in sequences]


# ---- symbols


def symbols(rng, lengths, k=3):
    return [
        np.eye(k, dtype=np.uint8)[rng.integers(0, k - (n == 4), n)] for n in lengths
    ]  # with 4 steps, the last is rare


@pytest.fixture
def text():
    rng = np.random.default_rng(6)
    return Data.from_sequences("text", *(symbols(rng, n) for n in ([5, 1, 4, 4, 2], [2], [3, 1, 6])))


def literal_categorical(train, test, remembers):
    """Sum of log p(symbol given the one before), each p the mean of Dirichlet(1/2, ..) after training."""
    train, test = ([x.argmax(axis=1).tolist() for x in s] for s in (train, test))
    total = 0.0
    for x in test:
        for t, k in enumerate(x):
            before = x[t - 1] if t else None
            seen = [s[u] for s in train for u in range(len(s)) if not remembers or (s[u - 1] if u else None) == before]
            total += np.log((seen.count(k) + 0.5) / (len(seen) + 3 * 0.5))
    return total / len(test)


@pytest.mark.parametrize("name, remembers", [("unigram", False), ("Markov chain", True)])
@pytest.mark.parametrize("split", ["train", "test"])
def test_categorical_baselines_are_what_literal_counting_gives(text, name, remembers, split):
    expected = literal_categorical(text.train, text.split(split), remembers)
    assert baselines(text, split, kind="categorical")[name] == pytest.approx(expected, rel=1e-12)


def test_the_probabilities_of_all_short_texts_sum_to_1(text):
    eye, total = np.eye(3), {"unigram": 0.0, "Markov chain": 0.0}
    for a in range(3):
        for b in range(3):
            one = Sequences(eye[[a, b]], [2])
            for name, value in baselines(text, one, kind="categorical").items():
                total[name] += np.exp(value)
    assert total == pytest.approx({"unigram": 1.0, "Markov chain": 1.0}, rel=1e-12)
