"""Folders of sound: the samples that other libraries read, one scale for all, and headers that lie."""

import struct
import sys
import wave

import numpy as np
import pytest
import soundfile
from damage import refused

from tinyvrnn import cli
from tinyvrnn.data import load_data, read_sequences, standardised
from tinyvrnn.data.readers.sound import FRAME
from tinyvrnn.errors import DataError

RNG = np.random.default_rng(0)
WAVE = np.rint(3000 * np.sin(np.arange(5 * FRAME) / 7) + RNG.normal(0, 50, 5 * FRAME) + 100).astype(np.int64)


def as_bytes(samples, width, unsigned_8=False, big=False):
    """Samples as PCM, by int.to_bytes instead of NumPy."""
    offset = 128 if width == 1 and unsigned_8 else 0
    order = "big" if big else "little"
    return b"".join((int(s) + offset).to_bytes(width, order, signed=not offset) for s in samples)


def write_wav(path, samples=WAVE, width=2, rate=16000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(as_bytes(samples, width, unsigned_8=True))
    return path


def write_sphere(path, samples=WAVE, width=2, big=False, extra=b"", **fields):
    """A SPHERE file as in TIMIT; fields replace those of the header, and None removes one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = "01234"[:width][:: -1 if big else 1]
    header = {
        "database_id": "-s5 TIMIT",
        "channel_count": "-i 1",
        "sample_count": f"-i {len(samples)}",
        "sample_rate": "-i 16000",
        "sample_n_bytes": f"-i {width}",
        "sample_byte_format": f"-s{width} {order}",
        "sample_coding": "-s3 pcm",
    } | fields
    lines = [b"NIST_1A", b"   1024", *(f"{k} {v}".encode() for k, v in header.items() if v is not None), b"end_head\n"]
    path.write_bytes(b"\n".join(lines).ljust(1024) + as_bytes(samples, width, big=big) + extra)
    return path


def a_folder(path, n=10, write=write_wav, **options):
    for i in range(n):
        write(path / f"{i:02}.wav", WAVE[: (2 + i % 3) * FRAME] + i, **options)
    return path


# ---- what is read


@pytest.mark.parametrize(
    "write, width", [*((write_wav, width) for width in (1, 2, 3, 4)), (write_sphere, 1), (write_sphere, 2)]
)
def test_samples_of_each_width_are_those_that_were_written(tmp_path, write, width):
    samples = np.concatenate(
        [[-(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1, -1, 0, 1], RNG.integers(-128, 128, 400)]
    )
    read = read_sequences(write(tmp_path / "a.wav", samples, width))
    assert read[0].shape == (2, FRAME) and read.values.dtype.kind == "i"
    assert read.values.ravel().tolist() == samples[: 2 * FRAME].tolist()


def test_sphere_of_either_order_of_bytes(tmp_path):
    for big in (True, False):
        read = read_sequences(write_sphere(tmp_path / "a.sph", big=big))
        assert read.values.ravel().tolist() == WAVE.tolist()


FORMS = [  # format and coding as soundfile calls them, bits of the integers, ending
    ("FLAC", "PCM_S8", 8, "flac"),
    ("FLAC", "PCM_16", 16, "flac"),
    ("FLAC", "PCM_24", 24, "flac"),
    ("WAVEX", "PCM_U8", 8, "wav"),
    ("WAVEX", "PCM_16", 16, "wav"),
    ("WAVEX", "PCM_24", 24, "wav"),
    ("WAVEX", "PCM_32", 32, "wav"),
    ("WAV", "ULAW", 16, "wav"),
    ("NIST", "ALAW", 16, "sph"),
    ("WAV", "FLOAT", 0, "wav"),
    ("WAV", "DOUBLE", 0, "WAV"),
    ("WAVEX", "FLOAT", 0, "wav"),
    ("OGG", "VORBIS", 0, "ogg"),
    ("OGG", "OPUS", 0, "opus"),
]
EACH_FORM = pytest.mark.parametrize("form, coding, bits, ending", FORMS, ids=[f"{f[0]}-{f[1]}" for f in FORMS])


def write_form(path, form, coding, samples=WAVE / 2**15, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, coding, format=form)
    return path


@EACH_FORM
def test_what_soundfile_writes_is_read_as_it_reads_it(tmp_path, monkeypatch, form, coding, bits, ending):
    """As integers where it holds integers. Python's `wave`, which reads more in newer versions, is not asked."""
    monkeypatch.setattr(wave, "open", lambda *_: pytest.fail("wave reads it"))
    for i in range(3):
        path = write_form(tmp_path / "x" / f"{i}.{ending}", form, coding)
    expected, rate = soundfile.read(path, dtype="int32" if bits else "float32")
    expected = expected[: len(expected) // FRAME * FRAME]
    expected = expected >> 32 - bits if bits else expected
    data = load_data(tmp_path / "x", standardise=False)
    assert data.test.values.ravel().tolist() == expected.tolist()
    assert data.train.values.dtype.kind == ("i" if bits else "f") and np.ptp(expected) > 0
    assert data.medium == {"name": "sound", "rate": rate, "full_scale": 2.0 ** (bits - 1) if bits else 1.0}
    assert ("integers" in data.units) == bool(bits)


def test_an_ogg_cut_anywhere_in_its_last_page_is_refused(tmp_path):
    path = write_form(tmp_path / "a.ogg", "OGG", "VORBIS")
    content = path.read_bytes()
    for length in range(content.rindex(b"OggS") + 4, len(content)):
        path.write_bytes(content[:length])
        refused(path, "truncated")


@pytest.mark.parametrize("coding", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("size", [2**32 - 1, 2**31 - 4096])
def test_a_wav_that_was_written_to_a_pipe(tmp_path, coding, size):
    """Its sizes were not known; ffmpeg writes 2**32 - 1, sox 2**31 - 4096."""
    path = write_form(tmp_path / "a.wav", "WAV", coding)
    content, expected = bytearray(path.read_bytes()), read_sequences(path).values
    for at in (4, content.index(b"data") + 4):
        content[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    assert read_sequences(path).values.tolist() == expected.tolist()


def test_a_folder_is_split_by_file_and_always_the_same(tmp_path):
    data, again = (load_data(a_folder(tmp_path / "calls"), standardise=False) for _ in range(2))
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [8, 1, 1]
    np.testing.assert_array_equal(data.test.values, again.test.values)
    every = sorted(x[0, 0] - WAVE[0] for s in ("train", "valid", "test") for x in data.split(s))
    assert every == list(range(10)), "each file is in one split"
    assert data.medium == {"name": "sound", "rate": 16000, "full_scale": 32768.0} and data.x_dim == FRAME
    assert data.name == "calls" and "the folder calls, 10 files" in data.source and data.kind == "real"


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("TRAIN", "VALID", "TEST")])
def test_subfolders_are_splits(tmp_path, names):
    for i, name in enumerate(names):
        write_wav(tmp_path / name / "dr1" / "a.wav", WAVE[: 2 * FRAME] + i)
        write_sphere(tmp_path / name / "B.WAV", WAVE[: 2 * FRAME] + i)
    data = load_data(tmp_path, standardise=False)
    for i, split in enumerate(("train", "valid", "test")):
        assert [x[0, 0] for x in data.split(split)] == [WAVE[0] + i] * 2


def test_with_train_and_test_alone_a_tenth_of_train_validates(tmp_path):
    """The layout of TIMIT."""
    a_folder(tmp_path / "TRAIN" / "DR1", 20), a_folder(tmp_path / "TEST", 3)
    data = load_data(tmp_path, standardise=False)
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [18, 2, 3]


def test_one_mean_and_one_deviation_from_the_training_split(tmp_path):
    a_folder(tmp_path / "train"), a_folder(tmp_path / "test", 3), write_wav(tmp_path / "valid" / "a.wav", 9 * WAVE)
    data, raw = load_data(tmp_path), load_data(tmp_path, standardise=False)
    samples = raw.train.values.astype(np.float64).ravel()
    np.testing.assert_allclose(data.mean, np.full(FRAME, samples.mean()), rtol=1e-12)
    np.testing.assert_allclose(data.std, np.full(FRAME, samples.std()), rtol=1e-12)
    np.testing.assert_allclose(data.test.values, (raw.test.values - samples.mean()) / samples.std(), rtol=1e-5)
    more = FRAME * np.log(samples.std())
    assert f"= {more:.6g} a step more than of raw data" in data.units and "raw data" in raw.units


def test_a_run_on_a_folder_samples_wav(tmp_path, capsys):
    run, folder = str(tmp_path / "run"), str(a_folder(tmp_path / "calls"))
    assert cli.main(["train", folder, "--hidden", "8", "--latent", "2", "--epochs", "1", "--out", run]) == 0
    assert "divided by one deviation" in capsys.readouterr().out
    prime = write_wav(tmp_path / "prime.wav", WAVE[: 2 * FRAME])
    out = str(tmp_path / "x.wav")
    assert cli.main(["sample", run, "--prime", str(prime), "--steps", "3", "--out", out]) == 0
    with wave.open(out) as sound:
        assert sound.getframerate() == 16000
        samples = np.frombuffer(sound.readframes(5 * FRAME), "<i2")
    assert np.abs(samples[: 2 * FRAME] - WAVE[: 2 * FRAME]).max() <= 1
    assert cli.main(["evaluate", run, "--data", str(prime)]) == 0
    assert standardised(read_sequences(prime), 0.0, 2.0, "x").values[0, 1] == WAVE[1] / 2
    slow = str(write_wav(tmp_path / "slow" / "a.wav", rate=8000))
    for words in (["evaluate", run, "--data", slow], ["sample", run, "--prime", slow, "--out", out]):
        capsys.readouterr()
        assert cli.main(words) == 2
        assert (
            "a.wav has 8000 samples a second, but the model was trained on 16000: convert it" in capsys.readouterr().err
        )
    assert cli.main(["evaluate", run, "--data", str(write_form(tmp_path / "a.wav", "WAV", "FLOAT"))]) == 2
    assert "a.wav has 1 as its full scale, but the model was trained on 32768: convert it" in capsys.readouterr().err
    for name in "bcd":
        write_wav(tmp_path / "slow" / f"{name}.wav", rate=8000)
    assert cli.main(["evaluate", run, "--data", str(tmp_path / "slow"), "--split", "test"]) == 2


# ---- what is refused


def test_several_rates_and_widths_in_a_folder_are_named(tmp_path):
    a_folder(tmp_path / "x", 3)
    write_form(tmp_path / "x" / "03.flac", "FLAC", "PCM_16", rate=8000)
    both = "16000 a second with full scale 32768 in 00.wav .of 3., 8000 a second .* in 03.flac .of 1."
    refused(tmp_path / "x", f"x holds samples of different kinds, {both}: convert all to one rate and width")
    write_wav(tmp_path / "x" / "03.flac", width=3)
    refused(tmp_path / "x", "16000 a second with full scale 8388608 in 03.flac .of 1.")


@EACH_FORM
def test_with_half_of_its_bytes_it_is_refused(tmp_path, form, coding, bits, ending):
    path = write_form(tmp_path / f"a.{ending}", form, coding, np.tile(WAVE / 2**15, 50))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(path, "truncated|damaged")


def test_a_flac_that_does_not_say_how_many_samples(tmp_path):
    path = write_form(tmp_path / "a.flac", "FLAC", "PCM_16")
    content = bytearray(path.read_bytes())
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])  # as in a stream
    path.write_bytes(content)
    refused(path, "a.flac has more than 67,108,864 samples, or does not say how many: convert it")


def test_without_soundfile_there_is_one_sentence(tmp_path, monkeypatch):
    path = write_form(tmp_path / "a.flac", "FLAC", "PCM_16")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    refused(path, r"a.flac is not plain PCM of 16 bits and needs soundfile, .*\.\[sound\].*, or convert it")
    assert len(read_sequences(write_wav(tmp_path / "a.wav"))) == 1, "plain PCM needs no library"


@pytest.mark.parametrize("n", [0, 1, FRAME - 1])
def test_a_file_of_less_than_a_frame(tmp_path, n):
    a_folder(tmp_path, 3)
    write_wav(tmp_path / "03.wav", WAVE[:n])
    refused(tmp_path, rf"03.wav holds {n} samples, but a frame has 200")


def test_stereo_is_refused(tmp_path):
    refused(write_wav(tmp_path / "a.wav", channels=2), "a.wav has 2 channels, but one is needed")
    refused(write_sphere(tmp_path / "a.sph", channel_count="-i 2"), "a.sph has 2 channels")
    refused(write_form(tmp_path / "a.flac", "FLAC", "PCM_16", WAVE.reshape(-1, 2) / 2**15), "a.flac has 2 channels")


def test_too_few_files_and_none(tmp_path):
    a_folder(tmp_path / "x", 2)
    refused(tmp_path / "x", "x holds 2 sequences and no split")
    (tmp_path / "none").mkdir()
    refused(tmp_path / "none", "none is not a folder of files of one format, as it holds none of them: give a .npy")


def test_a_file_beside_the_folders_of_the_splits(tmp_path):
    a_folder(tmp_path / "x" / "train", 3), a_folder(tmp_path / "x" / "test", 1)
    write_wav(tmp_path / "x" / "more" / "a.wav")
    refused(tmp_path / "x", "more.a.wav is outside x/train, valid and test")


def test_hidden_files_are_left_out(tmp_path):
    """Some systems put files such as ._00.wav beside each file of a folder."""
    a_folder(tmp_path, 3)
    for name in ("._00.wav", ".trash/00.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"rubbish")
    assert len(read_sequences(tmp_path)) == 3


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"sample_coding": "-s26 pcm,embedded-shorten-v2.00"}, "unknown coding: unpack it with `sph2pipe -p -f wav"),
        ({"sample_count": "-i 999"}, "holds 1000 samples, but its header says otherwise: it was truncated"),
        ({"sample_count": "-i 1001"}, "holds 1000 samples"),
        ({"sample_count": "-i " + "9" * 500}, "holds 1000 samples"),
        ({"sample_count": None}, "holds 1000 samples"),
        ({"sample_rate": None}, "can't be read and may be damaged"),
        ({"sample_rate": "-i 0"}, "can't be read and may be damaged"),
        ({"sample_n_bytes": "-i 8"}, "can't be read and may be damaged"),
        ({"channel_count": "-i 0"}, "can't be read and may be damaged"),
        ({"sample_byte_format": "-s2 00"}, "can't be read and may be damaged"),
    ],
)
def test_a_sphere_header_that_does_not_fit_its_file(tmp_path, fields, message):
    refused(write_sphere(tmp_path / "a.sph", **fields), f"a.sph.*{message}")


def test_what_is_no_sound(tmp_path):
    for content in (b"", b"RIFF", b"NIST_1A", b"NIST_1A\n", b"ID3" + bytes(100), b"RIFF\xff\xff\xff\xffWAVEdata"):
        (tmp_path / "a.wav").write_bytes(content)
        refused(tmp_path / "a.wav", "a.wav (is not |can't be read and may be damaged)")
    with pytest.raises(DataError, match="does not exist"):
        load_data(tmp_path / "b.wav")
