"""A user's files: each format is read, and each mistake gets one sentence that says how to fix it."""

import json
import os
import re
import wave
import zipfile

import numpy as np
import pytest
from damage import refused

import tinyvrnn as tv
import tinyvrnn.data.load as load
from tinyvrnn.data import SPLITS, Data, Sequences, check_suits, embedded, load_data, read_sequences
from tinyvrnn.data.readers import at_random, content
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.errors import DataError

RNG = np.random.default_rng(0)
CUBE = RNG.normal(3.0, 2.0, size=(20, 5, 2)).astype(np.float32)

BERNOULLI = LIKELIHOODS["bernoulli"]


@pytest.fixture
def save(tmp_path):
    """save(array) or save(name=array, ...) -> the path of a .npy or .npz that holds it."""

    def write(array=None, **arrays):
        path = tmp_path / ("mine.npz" if array is None else "mine.npy")
        np.save(path, array) if array is not None else np.savez(path, **arrays)
        return path

    return write


# ---- formats


@pytest.mark.parametrize("ending", ["npy", "NPY", "Npz", "JSON", "Csv", "WAV"])
def test_an_ending_counts_in_any_case(tmp_path, ending):
    path = tmp_path / f"mine.{ending}"
    with open(path, "wb") as file:
        if ending.lower() == "npz":
            np.savez(file, x=CUBE)
        elif ending.lower() == "npy":
            np.save(file, CUBE)
        elif ending == "WAV":
            with wave.open(file, "wb") as sound:
                sound.setnchannels(1)
                sound.setsampwidth(2)
                sound.setframerate(8000)
                sound.writeframes(bytes(800))
        else:
            chords = [[[60], [62, 64]]]
            file.write(b"1,2\n3,4\n" if ending == "Csv" else json.dumps(dict.fromkeys(SPLITS, chords)).encode())
    assert read_sequences(path).steps > 0


def test_npy_cube_is_split_80_10_10_and_always_the_same(save):
    path = save(CUBE)
    data, again = load_data(path, standardise=False), load_data(str(path), standardise=False)
    assert [len(data.split(s)) for s in load.SPLITS] == [16, 2, 2]
    np.testing.assert_array_equal(data.train.values, again.train.values)
    every = np.concatenate([data.split(s).values for s in load.SPLITS])
    np.testing.assert_array_equal(np.sort(every.ravel()), np.sort(CUBE.ravel()))
    assert data.name == "mine" and "mine.npy" in data.source and data.labels == dict.fromkeys(load.SPLITS)


def test_the_split_is_that_of_the_first_release():
    """The split must not change with NumPy's version, or a model would be tested on training data."""
    assert np.flatnonzero(at_random(20, "") == 2).tolist() == [15, 17]


def test_three_sequences_are_enough(save):
    data = load_data(save(CUBE[:3]))
    assert [len(data.split(s)) for s in load.SPLITS] == [1, 1, 1]


def test_npz_of_three_splits(save):
    lengths = np.arange(10) % 5 + 1
    data = load_data(save(train=CUBE[:10], train_lengths=lengths, valid=CUBE[10:12], test=CUBE[12:]), standardise=False)
    assert [len(data.split(s)) for s in load.SPLITS] == [10, 2, 8]
    assert data.train.lengths.tolist() == lengths.tolist() and data.valid.lengths.tolist() == [5, 5]
    np.testing.assert_array_equal(data.train[3], CUBE[3, :4])
    np.testing.assert_array_equal(data.test[-1], CUBE[-1])


def test_npz_of_values_and_lengths_with_split_and_labels(save):
    values = np.arange(12.0).reshape(6, 2)
    path = save(values=values, lengths=[1, 2, 3], split=[2, 0, 1], labels=[7, 8, 9])
    data = load_data(path, standardise=False)
    np.testing.assert_array_equal(data.test[0], values[:1])
    np.testing.assert_array_equal(data.train[0], values[1:3])
    np.testing.assert_array_equal(data.valid[0], values[3:])
    assert {s: y.tolist() for s, y in data.labels.items()} == {"train": [8], "valid": [9], "test": [7]}


def test_npz_of_x_and_lengths(save):
    lengths = np.arange(20) % 5 + 1
    whole = read_sequences(save(x=CUBE, lengths=lengths))
    assert whole.lengths.tolist() == lengths.tolist()
    np.testing.assert_array_equal(whole[8], CUBE[8, :4])


def test_padding_may_hold_anything(save):
    x = CUBE.copy()
    x[:, 3:] = np.nan
    assert load_data(save(x=x, lengths=np.full(20, 3))).train.max_steps == 3


def test_read_sequences_ignores_splits_and_keeps_raw_values(save):
    one = read_sequences(save(CUBE[:1]))
    np.testing.assert_array_equal(one[0], CUBE[0])
    three = read_sequences(save(train=CUBE[:4], valid=CUBE[4:5], test=CUBE[5:]))
    np.testing.assert_array_equal(three.values, CUBE.reshape(-1, 2))


def test_a_name_wins_and_an_embedded_file_is_read_like_any_other():
    path = load.FOLDER / "vowels.npz"
    np.testing.assert_array_equal(load_data("vowels").test.values, load_data(path).test.values)


# ---- standardising


def test_standardising_uses_the_training_split_alone(save):
    data = load_data(save(train=CUBE[:10], valid=CUBE[10:15] + 50, test=CUBE[15:] * 9))
    flat = CUBE[:10].reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(data.mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.std, flat.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.train.values.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(data.train.values.std(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(data.test[0] * data.std + data.mean, CUBE[15] * 9, rtol=1e-5)
    assert data.kind == "real" and data.units == "nats of standardised data (training split's mean and deviation)"


def test_moments_are_summed_in_float64():
    x = np.full((3, 100_000, 1), 1000.0, np.float32)
    x[:, ::2] += 0.5
    data = Data.from_sequences("offset", x, x[:1], x[:1])
    np.testing.assert_allclose([data.mean[0], data.std[0]], [1000.25, 0.25], rtol=1e-9)


@pytest.mark.parametrize("standardise, expected", [(None, False), (True, True), (False, False)])
def test_values_in_the_unit_interval_are_left_unless_asked(standardise, expected):
    grey = np.linspace(0, 1, 30).reshape(3, 5, 2)
    data = Data.from_sequences("grey", grey, grey, grey, standardise)
    assert (data.std != 1).any() == expected and data.kind == "real"
    assert data.units == (
        "nats of standardised data (training split's mean and deviation)" if expected else "nats of raw data"
    )


def test_one_value_outside_the_unit_interval_in_any_split_standardises():
    grey = np.linspace(0, 1, 30).reshape(3, 5, 2)
    assert (Data.from_sequences("grey", grey, grey, 2 * grey).std != 1).any()


def test_a_given_pair_is_applied_as_it_is(save):
    data = load_data(save(CUBE), standardise=([1.0, 2.0], [4.0, 0.5]))
    raw = load_data(save(CUBE), standardise=False)
    np.testing.assert_allclose(data.test.values, (raw.test.values - [1, 2]) / [4, 0.5], rtol=1e-6)
    assert data.mean.tolist() == [1, 2] and data.std.tolist() == [4, 0.5] and "given mean" in data.units


def test_the_pair_of_unstandardised_data_changes_nothing():
    """Evaluation passes the pair saved by training, with any values."""
    data = load_data("digits8")
    again = load_data("digits8", standardise=(data.mean, data.std))
    assert again.kind == "binary" and again.units == data.units and again.train.values.dtype == np.uint8


@pytest.mark.parametrize(
    "pair, message",
    [
        (([0.0], [1.0]), r"a mean \(1,\) and a standard deviation \(1,\) .* 2 numbers"),
        (([0.0, 0.0], [1.0, -0.5]), "a standard deviation that is negative"),
        (([np.nan, 0.0], [1.0, 1.0]), "not finite"),
        (([0.0, 0.0], [1e-60, 1.0]), "standardised: sequence 0, step 0, dimension 0 .*finite float32"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused(pair, message):
    with pytest.raises(DataError, match=message):
        Data.from_sequences("mine", CUBE, CUBE, CUBE, standardise=pair)


INK = np.array([[3, 4, 0], [0, 0, 1], [-5, 0, 0], [0, 5, 1]], np.int16)


def pen_data(train=INK, other=INK, **options):
    return Data.from_sequences("ink", [train], [other], [other], kind="pen", **options)


def test_a_pen_has_one_scale_no_shift_and_stays_binary():
    data = pen_data(other=10 * INK * [1, 1, 0] + [0, 0, 1])
    scale = np.sqrt((3**2 + 4**2 + 5**2 + 5**2) / 8)
    np.testing.assert_allclose(data.mean, 0)
    np.testing.assert_allclose(data.std, [scale, scale, 1], rtol=1e-12)
    np.testing.assert_allclose(data.train.values, INK / [scale, scale, 1], rtol=1e-6)
    assert data.kind == "pen" and set(data.test.values[:, 2]) == {1.0}
    again = pen_data(standardise=(data.mean, data.std))
    np.testing.assert_array_equal(again.train.values, data.train.values)


def test_units_of_a_pen_say_what_the_scale_moves():
    """log p of raw data = log p of standardised data - 2 ln s a step: the density of s x is p(x) / s for each axis."""
    data = load_data("strokes")
    (more,) = re.findall(r"2 ln [0-9.]+ = ([0-9.]+) a step more", data.units)
    assert float(more) == pytest.approx(np.log(data.std[0]) + np.log(data.std[1]), rel=1e-3)
    assert "raw data" in load_data("strokes", standardise=False).units


def test_strokes_are_a_pens_by_their_card_and_a_file_when_asked(save):
    assert load_data("strokes", standardise=False).kind == "pen"
    x = np.tile(INK, (4, 1, 1))
    assert load_data(save(x)).kind == "real"
    data = load_data(save(x), kind="pen")
    assert data.kind == "pen" and data.std[0] == data.std[1] != 1


def test_what_is_no_pen_is_refused():
    with pytest.raises(DataError, match="ink has 2 numbers in each step, but a pen's step has 3"):
        pen_data(INK[:, :2], INK[:, :2])
    with pytest.raises(DataError, match="valid split of ink: sequence 0, step 0, dimension 2 .*holds 3, .*put it last"):
        pen_data(other=INK[:, [2, 1, 0]])


# ---- Data


def test_zeros_and_ones_are_binary():
    bits = np.array([[[0.0], [1.0]]])
    data = Data.from_sequences("bits", bits, list(bits), Sequences.from_list(bits))
    assert data.kind == "binary" and data.x_dim == 1
    assert Data.from_sequences("no bits", bits, bits, bits / 2).kind == "real"


def test_repr_tells_what_there_is_in_few_lines():
    text = repr(load_data("vowels"))
    assert len(text.splitlines()) == 5
    for part in ("vowels", "real", "standardised", "230 of 9..26 steps of 12", "370", "CC BY 4.0"):
        assert part in text


def test_data_is_frozen():
    with pytest.raises(AttributeError):
        load_data("digits8").name = "other"


def test_embedded_tells_units_of_what_load_data_gives():
    assert {name: card["units"] for name, card in embedded().items()} == {
        name: load_data(name).units for name in ("digits", "digits8", "strokes", "vowels")
    }


def test_an_unknown_split_is_refused():
    with pytest.raises(DataError, match="'dev', but the splits are train, valid, test"):
        load_data("digits8").split("dev")


# ---- columns


def test_columns_left_out_of_standardising_stay_as_they_are():
    x = last_is_a_pen(3)
    data = Data.from_sequences("pen", x, x, x, standardise=(True, True, False))
    whole = Data.from_sequences("pen", x, x, x, standardise=True)
    assert np.array_equal(data.train.values[:, 2], x.reshape(-1, 3)[:, 2])
    assert np.array_equal(data.train.values[:, :2], whole.train.values[:, :2])
    assert data.mean[2] == 0 and data.std[2] == 1 and np.array_equal(data.mean[:2], whole.mean[:2])
    assert data.units == "nats of standardised data (training split's mean and deviation), column 2 as given"


@pytest.mark.parametrize("whole", [True, False])
def test_all_columns_or_none_are_the_plain_choices(whole):
    x = last_is_a_pen(2)
    plain = Data.from_sequences("d", x, x, x, standardise=whole)
    for standardise in ([whole] * 2, np.bool_(whole)):
        data = Data.from_sequences("d", x, x, x, standardise=standardise)
        assert data.units == plain.units and np.array_equal(data.train.values, plain.train.values)


@pytest.mark.parametrize("columns", [(True, False), (1, 0, 1), [True] * 4])
def test_columns_that_are_not_one_boolean_each_are_refused(columns):
    x = last_is_a_pen(3)
    with pytest.raises(DataError, match="3 numbers in each step: give True or False for each"):
        Data.from_sequences("d", x, x, x, standardise=columns)


def last_is_a_pen(x_dim):
    """(N, T, X) with a last column of 0 or 1."""
    draw = np.random.default_rng(0)
    x = 5 + 3 * draw.standard_normal((4, 6, x_dim))
    x[..., -1] = draw.integers(0, 2, (4, 6))
    return x


# ---- check_suits


def test_check_suits_passes_greys_and_bits():
    check_suits(load_data("digits8"), BERNOULLI)
    check_suits(Sequences([[0.0], [0.5], [1.0]], [3]), BERNOULLI)


@pytest.mark.parametrize("value", [-0.25, 255.0])
def test_check_suits_says_where(value):
    values = np.zeros((5, 2))
    values[3, 1] = value
    sequences, zeros = Sequences(values, [2, 3]), np.zeros((1, 1, 2))
    where = rf"sequence 1, step 1, dimension 1 .*holds {value}, but a Bernoulli .* use --likelihood gaussian"
    with pytest.raises(DataError, match=f"the sequences: {where}"):
        check_suits(sequences, BERNOULLI)
    with pytest.raises(DataError, match=f"the valid split of mine: {where}"):
        check_suits(Data.from_sequences("mine", zeros, sequences, zeros, standardise=False), BERNOULLI)


# ---- mistakes in files


@pytest.mark.parametrize("name, near", [("digit", "digits"), ("digits-8", "digits8"), ("vowel", "vowels"), ("q", "")])
def test_unknown_name(name, near):
    with pytest.raises(DataError, match="no data set named") as caught:
        load_data(name)
    for part in ("digits", "digits8", "vowels", "a .npy, .npz, .csv, ") if name == "q" else (f"did you mean '{near}'",):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["absent.npz", "no/such/absent"])
def test_missing_file(tmp_path, name):
    refused(tmp_path / name, "does not exist or is not a file")


def test_folder(tmp_path):
    refused(tmp_path, "is not a folder of files of one format, as it holds none of them")


@pytest.mark.parametrize("shape", [(4,), (3, 4, 5, 6)])
def test_wrong_number_of_axes(save, shape):
    refused(save(np.zeros(shape)), rf"x of mine.npy has shape {re.escape(str(shape))}, but \(N, T, X\).*or \(T, X\)")


def test_an_empty_file(tmp_path):
    (tmp_path / "mine.npy").touch()
    refused(tmp_path / "mine.npy", "mine.npy can't be read and .*no .npy or .npz file")


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    refused(tmp_path / "mine.npz", r"mine.npz holds \['notes.txt'\], but x \(N, T, X\), or values")


FLAT = {"values": np.ones((6, 2)), "lengths": [1, 2, 3]}
NAN = CUBE.copy()
NAN[4, 3, 1] = np.nan
MISTAKES = {
    "missing keys": ({"a": CUBE}, r"holds \['a'\], but x"),
    "no lengths": ({"values": np.ones((6, 2))}, r"holds \['values'\], but x"),
    "no test": ({"train": CUBE, "valid": CUBE}, "has no test, but train, valid and test"),
    "only valid": ({"valid": CUBE}, "has no train and no test"),
    "split dims": ({"train": CUBE, "valid": CUBE, "test": CUBE[..., :1]}, r"differ \(train 2, valid 2, test 1\)"),
    "split empty": ({"train": CUBE, "valid": CUBE[:0], "test": CUBE}, "valid of mine.npz: got no sequences"),
    "split unused": (FLAT | {"split": [0, 0, 2]}, "the valid split is empty"),
    "split values": (FLAT | {"split": [0, 1, 3]}, r"split holds \[0, 1, 3\]"),
    "split count": (FLAT | {"split": [0, 1]}, "split has 2 numbers, but there are 3 sequences"),
    "labels count": (FLAT | {"labels": [0, 1]}, "labels has 2 numbers, but there are 3 sequences"),
    "too few": ({"x": CUBE[:2]}, "holds 2 sequences and no split, but at least three"),
    "single": ({"x": CUBE[:1]}, "holds 1 sequence and no split, .* --window N"),
    "empty": ({"x": CUBE[:0]}, "no sequences at all"),
    "no steps": ({"x": CUBE[:, :0]}, "sequence 0 has length 0"),
    "length 0": ({"x": CUBE, "lengths": [0] + [5] * 19}, "sequence 0 has length 0"),
    "length negative": ({"x": CUBE, "lengths": [5] * 19 + [-2]}, "sequence 19 has length -2"),
    "length above T": ({"x": CUBE, "lengths": [6] + [5] * 19}, "at most 5 steps, but the lengths .* up to 6"),
    "lengths count": ({"x": CUBE, "lengths": [5]}, "20 sequences .* the lengths are 1 numbers"),
    "lengths type": ({"x": CUBE, "lengths": [5.0] * 20}, r"the lengths of x of mine.npz.*\(N,\) integers"),
    "lengths sum": (FLAT | {"lengths": [1, 2, 2]}, "add up to 5 steps, but there are 6"),
    "overflow": (FLAT | {"lengths": np.full(3, 2**63, np.uint64)}, "overflows int64"),
    "nan": ({"x": NAN}, "x of mine.npz: sequence 4, step 3, dimension 1 .*holds nan"),
    "nan in test": ({"train": CUBE, "valid": CUBE, "test": NAN}, "test of mine.npz: sequence 4, step 3, dimension 1"),
    "inf": (FLAT | {"values": np.full((6, 2), np.inf)}, "mine.npz: sequence 0, step 0, dimension 0 .*holds inf"),
    "complex": ({"x": CUBE * 1j}, "type complex64, but real"),
    "text": ({"x": CUBE.astype(str)}, "but real numbers"),
    "three splits 1-D": ({"train": CUBE[0, 0], "valid": CUBE, "test": CUBE}, r"train of mine.npz has shape \(2,\)"),
}


@pytest.mark.parametrize("arrays, message", MISTAKES.values(), ids=MISTAKES)
def test_mistake_in_an_archive(save, arrays, message):
    refused(save(**arrays), message)


def test_splits_of_different_dimension_in_memory():
    with pytest.raises(DataError, match=r"mine: the numbers in each step differ \(train 2, valid 1, test 2\)"):
        Data.from_sequences("mine", CUBE, CUBE[..., :1], CUBE)


def test_a_folder_of_too_many_files_is_not_searched_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "MOST_FILES", 3)
    for i in range(3):
        (tmp_path / f"{i}.csv").write_text("1\n2\n")
    assert len(read_sequences(tmp_path)) == 3
    (tmp_path / "more.txt").touch()
    refused(tmp_path, "holds more than 3 files: give the folder of the data alone")


def test_a_file_with_the_name_of_a_set_is_not_read_in_silence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", CUBE)
    (tmp_path / "vowels").mkdir()
    (note,) = load_data("vowels").notes
    assert note == f"vowels is the set of that name: for the file or folder here, give {os.path.join('.', 'vowels')}"
    assert load_data("digits8").notes == ()


@pytest.mark.parametrize(
    "given", [np.zeros((5, 4, 2)), [np.zeros((3, 2))], {"x": 1}, None], ids=lambda g: type(g).__name__
)
def test_what_is_no_path_is_refused_with_what_takes_it(given):
    says = rf"takes a name or a path, not {type(given).__name__}: make Data .* tv.Data.from_sequences\(name, train"
    with pytest.raises(DataError, match=says):
        load_data(given)


def test_data_in_place_of_a_split_are_refused():
    data = load_data("digits8")
    model = tv.VRNN(8, 4, 2)
    bounds = (lambda d: tv.bounds.evaluate_elbo(model, d)), (lambda d: tv.bounds.evaluate(model, d))
    for call in (tv.pad, lambda d: tv.batches(d, 8), *bounds):
        with pytest.raises(DataError, match="got Data, which has three splits: give one, as data.test"):
            call(data)


def test_nan_at_the_ends_alone_is_taken_for_padding(save):
    x = CUBE.copy()
    x[3, 2:], x[7, 4:], x[19, 1:] = np.nan, np.nan, np.nan
    refused(save(x), r"sequence 3, step 2, .* holds nan, .* pads shorter sequences, .*lengths=lengths\)$")
    for place in ((0, 2), (5, 0), (7, 4, 1), (4,)):
        other = x.copy()
        other[place] = np.nan if place != (7, 4, 1) else 1.0
        refused(save(other), "if NaN marks missing values, give --missing nan")
    refused(save(x[3]), "if NaN marks missing values, give --missing nan")


def test_a_misspelt_kind_is_refused(save):
    with pytest.raises(DataError, match='Unknown kind "Pen": did you mean "pen"'):
        load_data(save(CUBE), kind="Pen")


def test_arrays_of_other_names_are_named(save):
    (note,) = load_data(save(x=CUBE, mask=CUBE > 3)).notes
    assert note == "mask of mine.npz is not read beside x; missing values are NaN, with --missing nan"
    (note,) = load_data(save(train=CUBE, valid=CUBE + 1, test=CUBE + 2, lengths=np.ones(20, int))).notes
    assert note.startswith("lengths of mine.npz is not read beside test, train, valid;"), "it is not train_lengths"
    (note,) = load_data(save(x=CUBE, values=CUBE[0])).notes
    assert note.startswith("values of mine.npz is not read beside x;")
    assert load_data(save(x=CUBE, labels=np.arange(20))).notes == ()


def test_zeros_that_may_be_padding_are_noted(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 9, 2))
    np.save(tmp_path / "whole.npy", x)
    np.save(tmp_path / "even.npy", np.pad(x, ((0, 0), (0, 2), (0, 0))))
    np.save(tmp_path / "bits.npy", np.tri(20, 9)[..., None])
    for i in range(12):
        x[i, 3 + i % 4 :] = 0
    np.save(tmp_path / "padded.npy", x)
    said = "12 of 20 sequences end in zeros, which count as data: if they are padding, save the data as a .npz with x"
    for name in ("whole", "even", "bits", "padded"):
        notes = " ".join(tv.load_data(tmp_path / f"{name}.npy").notes)
        assert (said in notes) == ("end in zeros" in notes) == (name == "padded")
