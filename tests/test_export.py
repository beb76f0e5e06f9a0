"""The files that `sample` writes, read back by other libraries, and the drawings, read back from their lines."""

import io
import wave

import mido
import numpy as np
import pytest
from PIL import Image

import tinyvrnn as tv
from tinyvrnn import cli
from tinyvrnn.errors import CheckpointError, ConfigError, DataError
from tinyvrnn.runs import export, plots

SQUARE = np.array([[-3, -3, 0], [6, 0, 0], [0, 6, 1], [-6, 0, 0], [0, -6, 1.0]])  # one corner left open at each end
DOT = np.array([[1, 1, 1], [1, 0, 0], [0, 2, 1.0]])


def lines(figure):
    return figure.axes[0].collections[0].get_segments()


# ---- ink


def test_ink_lifts_the_pen_between_strokes():
    """The step to a stroke's first point draws nothing, nor does the step from the centre to the first stroke."""
    first, second = lines(plots.ink([SQUARE]))
    scale = 3 * 1.05
    centre = plots.CELL / 2
    np.testing.assert_allclose((first - centre) * scale, [[-3, -3], [3, -3], [3, 3]], atol=1e-12)
    np.testing.assert_allclose((second - centre) * scale, [[-3, 3], [-3, -3]], atol=1e-12)


def test_ink_is_drawn_downwards_with_equal_scales_and_round_caps():
    (axes,) = (figure := plots.ink([SQUARE] * 3, columns=2)).axes
    assert axes.get_ylim()[0] > axes.get_ylim()[1] and axes.get_xlim()[0] < axes.get_xlim()[1]
    assert axes.get_aspect() == 1 and axes.collections[0].get_capstyle() == "round"
    third = lines(figure)[4] - [plots.CELL / 2, 3 * plots.CELL / 2]
    np.testing.assert_allclose(third, lines(figure)[0] - plots.CELL / 2, atol=1e-12)


def test_a_drawing_that_leaves_its_place_is_shrunk_and_no_other():
    wide = SQUARE * [10, 10, 1]
    far = lines(plots.ink([SQUARE, SQUARE, wide]))
    np.testing.assert_allclose(far[0], lines(plots.ink([SQUARE, SQUARE]))[0])
    assert np.abs(far[4] - [2.5 * plots.CELL, 0.5 * plots.CELL]).max() == pytest.approx(1)


def test_a_missing_step_of_ink_moves_nothing(tmp_path):
    gap = np.full((1, 3), np.nan)
    with_gap, whole = np.insert(SQUARE, 2, gap, axis=0), np.insert(SQUARE, 2, 0, axis=0)
    for a, b in zip(lines(plots.ink([with_gap, DOT])), lines(plots.ink([whole, DOT])), strict=True):
        np.testing.assert_array_equal(a, b)
    export.write_samples(tmp_path / "a.gif", with_gap[:, None], {"name": "ink"}, True)
    assert (tmp_path / "a.gif").stat().st_size


@pytest.mark.filterwarnings("error")
def test_a_missing_sample_of_a_sound_is_silent(tmp_path):
    x, medium = np.array([[[0.5, np.nan]], [[-0.5, 0.25]]]), {"name": "sound", "rate": 8000, "full_scale": 1.0}
    export.write_samples(tmp_path / "a.wav", x, medium, False)
    with wave.open(str(tmp_path / "a.wav")) as sound:
        assert np.frombuffer(sound.readframes(4), "<i2").tolist() == [2**14, 0, -(2**14), 2**13]


def test_a_stroke_of_one_point_is_a_dot_that_can_be_seen():
    dot, line = lines(plots.ink([DOT]))
    assert len(dot) == 2 and 0 < np.ptp(dot, axis=0).max() < 0.05 and len(line) == 2
    buffer = io.BytesIO()
    plots.ink([DOT[:1]]).savefig(buffer, format="png")
    assert np.asarray(Image.open(buffer).convert("L")).min() < 100


def test_ink_covers_the_paper_where_the_pen_was():
    """The picture of a cross from left to right and top to bottom, read pixel by pixel."""
    cross = np.array([[-4, 0, 0], [8, 0, 1], [-4, -4, 0], [0, 8, 1.0]])
    buffer = io.BytesIO()
    plots.ink([cross]).savefig(buffer, format="png")
    dark = np.asarray(Image.open(buffer).convert("L")) < 128
    rows, columns = np.flatnonzero(dark.mean(axis=1) > 0.5), np.flatnonzero(dark.mean(axis=0) > 0.5)
    assert 0 < len(rows) < 6 and 0 < len(columns) < 6
    assert dark.sum() < (len(rows) + len(columns) + 4) * max(dark.shape)


def test_animation_writes_stroke_by_stroke_and_ends_in_the_drawing():
    frames = [np.asarray(frame.convert("L")) < 200 for frame in plots.animate([SQUARE, DOT])]
    assert len(frames) == len(SQUARE) + 1
    ink = [frame.sum() for frame in frames]
    assert all(a <= b for a, b in zip(ink, ink[1:])) and ink[0] < 0.3 * ink[-1]
    colours = [{c for _, c in frame.convert("RGB").getcolors()} for frame in plots.animate([SQUARE])]
    grey = [all(max(c) - min(c) < 8 for c in seen) for seen in colours]
    assert grey == [False] * len(SQUARE) + [True], "what is being written is in colour, what is written is black"


def test_a_gif_plays_all_frames_for_ever(tmp_path):
    x = np.stack([SQUARE, SQUARE * [2, 1, 1]], axis=1)
    export.write_samples(tmp_path / "x.gif", x, {"name": "ink"}, False)
    with Image.open(tmp_path / "x.gif") as gif:
        durations = []
        for i in range(gif.n_frames):
            gif.seek(i)
            durations.append(gif.info["duration"])
        assert gif.info["loop"] == 0 and sum(durations) == 50 * len(SQUARE) + 2000


# ---- piano rolls


def test_a_piano_roll_has_time_to_the_right_pitch_upwards_and_names_at_each_c():
    x = np.zeros((5, 1, 88))
    x[0, 0, 60 - 21] = x[4, 0, 72 - 21] = 1
    (axes,) = plots.piano_roll(x).axes
    (image,) = axes.images
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (0, 5, 20.5, 108.5) and image.origin == "lower"
    assert image.get_array()[60 - 21, 0] == 1 and image.get_array()[72 - 21, 4] == 1
    assert [label.get_text() for label in axes.get_yticklabels()] == ["C4", "C5"]
    assert axes.get_yticks().tolist() == [60, 72] and axes.get_ylim() == (58.5, 73.5)


def test_silence_is_a_piano_roll_too():
    assert len(plots.piano_roll(np.zeros((4, 3, 88))).axes) == 4


def notes(path):
    """(start, end, key) in quarter notes, as mido reads them."""
    file, now, begun, found = mido.MidiFile(path), 0, {}, []
    for message in file.tracks[0]:
        now += message.time
        if message.type == "note_on":
            assert message.note not in begun
            begun[message.note] = now / file.ticks_per_beat
        elif message.type == "note_off":
            found.append((begun.pop(message.note), now / file.ticks_per_beat, message.note))
    assert not begun, "a note without an end"
    return sorted(found)


@pytest.mark.parametrize("per_quarter", [1, 2])
def test_midi_holds_notes_and_rests_between_pieces(tmp_path, per_quarter):
    x = np.zeros((4, 2, 88))
    x[0:3, 0, 60 - 21] = x[1, 0, 64 - 21] = x[3, 0, 64 - 21] = x[3, 1, 0] = x[0, 1, 87] = 1
    medium = {"name": "piano roll", "steps_per_quarter": per_quarter}
    export.write_samples(tmp_path / "x.mid", x, medium, True)
    expected = [(0, 3, 60), (1, 2, 64), (3, 4, 64), (8, 9, 108), (11, 12, 21)]
    assert notes(tmp_path / "x.mid") == [(a / per_quarter, b / per_quarter, key) for a, b, key in expected]


def test_midi_without_mido_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mido", None)
    with pytest.raises(DataError, match=r"needs mido, which is not installed: run pip install .\.\[music\]. in a"):
        export.write_samples(tmp_path / "x.mid", np.zeros((2, 1, 88)), {"name": "piano roll"}, True)
    assert list(tmp_path.iterdir()) == []


# ---- sound


def read_wav(path):
    with wave.open(str(path)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        return sound.getframerate(), np.frombuffer(sound.readframes(sound.getnframes()), "<i2")


def test_a_wav_holds_the_frames_one_after_another(tmp_path):
    x = np.array([[[0.0, 0.25], [1.5, -1]], [[-0.5, -1], [0.5, -2]]])  # (T, n, X)
    export.write_samples(tmp_path / "x.wav", x, {"name": "sound", "rate": 8, "full_scale": 1.0}, False)
    rate, samples = read_wav(tmp_path / "x.wav")
    first, second = [0, 8192, -16384, -32768], [32767, -32768, 16384, -32768]
    assert rate == 8 and samples.tolist() == [*first, 0, 0, 0, 0, *second, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype, unit", [(np.float32, 1 / 32768), (np.int16, 1)])
def test_a_run_on_frames_of_a_waveform_writes_wav_on_the_scale_of_the_data(tmp_path, dtype, unit):
    tone = np.rint(9000 * np.sin(np.arange(12 * 5 * 4) / 3)).astype(np.int16).reshape(12, 5, 4)
    np.savez(tmp_path / "x.npz", x=(tone * unit).astype(dtype), sample_rate=8000)
    options = ["--hidden", "8", "--latent", "2", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert cli.main(["train", str(tmp_path / "x.npz"), *options]) == 0
    prime = (tone[:1] * unit).astype(dtype)
    np.save(tmp_path / "prime.npy", prime)
    arguments = ["sample", str(tmp_path / "run"), "--prime", str(tmp_path / "prime.npy"), "--steps", "1"]
    assert cli.main([*arguments, "--out", str(tmp_path / "x.wav")]) == 0
    rate, samples = read_wav(tmp_path / "x.wav")
    assert rate == 8000 and len(samples) == 6 * 4 + 4000
    assert np.abs(samples[:20] - tone[0].ravel()).max() <= 1


@pytest.mark.parametrize("rate", [0, -1, 16000.0, [8000]])
def test_a_sample_rate_that_is_none_is_refused(tmp_path, rate):
    np.savez(tmp_path / "x.npz", x=np.ones((4, 3, 2)), sample_rate=rate)
    with pytest.raises(tv.DataError, match="sample_rate must be a whole number"):
        tv.load_data(tmp_path / "x.npz")


# ---- what goes with what


@pytest.mark.parametrize(
    "ending, medium, words",
    [
        (".gif", {}, "is for ink, but this run's data are plain numbers: use .png or .npz"),
        (".mid", {"name": "ink"}, "is for piano roll, but this run's data are ink"),
        (".wav", {"name": "piano roll"}, "is for sound"),
    ],
)
def test_an_ending_that_does_not_go_with_the_data_is_refused(ending, medium, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        export.write_samples(tmp_path / f"x{ending}", np.zeros((2, 1, 3)), medium, False)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    def fail(file, *arguments):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export.WRITERS, ".npz", fail)
    (tmp_path / "x.npz").write_text("before")
    with pytest.raises(CheckpointError, match="Cannot write .*No space left"):
        export.write_samples(tmp_path / "x.npz", np.zeros((2, 1, 3)), {}, False)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_media_are_known_from_the_data_and_kept_in_a_checkpoint(tmp_path):
    ink, bits = np.tile(SQUARE, (3, 1, 1)), np.zeros((3, 4, 88))
    assert tv.Data.from_sequences("x", ink, ink, ink, kind="pen").medium == {"name": "ink"}
    assert tv.Data.from_sequences("x", bits, bits, bits).medium["name"] == "piano roll"
    assert tv.Data.from_sequences("x", bits[..., 1:], bits[..., 1:], bits[..., 1:]).medium == {}
    model = tv.VRNN(3, 4, 2, likelihood="gaussian")
    tv.train(model, tv.Data.from_sequences("x", ink, ink, ink, kind="pen"), progress=False, epochs=1)
    tv.save(model, tmp_path)
    assert tv.load(tmp_path).medium == model.medium == {"name": "ink"}


def test_a_run_on_strokes_draws_ink(tmp_path):
    run = tmp_path / "run"
    options = ["--hidden", "8", "--latent", "2", "--epochs", "1", "--likelihood", "gaussian", "--out", str(run)]
    assert cli.main(["train", "strokes", *options]) == 0
    for name in ("x.png", "x.gif", "x.npz"):
        assert cli.main(["sample", str(run), "-n", "2", "--steps", "6", "--out", str(tmp_path / name)]) == 0
    x = np.load(tmp_path / "x.npz")["x"]
    assert x.shape == (2, 6, 3) and np.abs(x[..., :2]).max() > 20, "not in tenths of KanjiVG's unit"
    for path in (run / "samples.png", run / "reconstructions.png", tmp_path / "x.png"):
        assert np.asarray(Image.open(path).convert("L")).std() > 5
    assert cli.main(["sample", str(run), "--out", str(tmp_path / "x.mid")]) == 2
