"""Folders of MIDI: the notes that mido writes, on a grid of one's choice, at whose speed samples play."""

import mido
import numpy as np
import pytest
from damage import refused

import tinyvrnn as tv
from tinyvrnn import cli
from tinyvrnn.data import load_data, read_sequences

NOTES = [(0, 2, 60), (0, 1, 64), (1, 3, 67), (4, 5, 60), (5, 6, 60), (8, 9.6, 21), (8, 8.1, 108)]  # in quarters


def write_midi(path, notes=NOTES, channel=0, ticks=480, kind=1, offs=True, more=()):
    """Notes (start, end, key) in quarters, a track for each; without `offs`, they end by a velocity of 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=300000), *more]))
    for start, end, key in notes:
        begin, length = round(start * ticks), round((end - start) * ticks)
        end = mido.Message("note_off" if offs else "note_on", note=key, velocity=0, time=length, channel=channel)
        file.tracks.append(mido.MidiTrack([mido.Message("note_on", note=key, time=begin, channel=channel), end]))
    file.save(path)
    return path


def roll(notes, per_quarter):
    """(T, 88), note by note."""
    spans = [(round(s * per_quarter), round(e * per_quarter), key - 21) for s, e, key in notes]
    x = np.zeros((max(max(e, s + 1) for s, e, _ in spans), 88))
    for start, end, key in spans:
        x[start : max(end, start + 1), key] = 1
    return x


@pytest.mark.parametrize("per_quarter", [None, 1, 2, 3, 12])
@pytest.mark.parametrize("options", [{}, {"ticks": 96, "offs": False}, {"ticks": 1000, "channel": 3}])
def test_notes_are_rows_of_88_keys(tmp_path, per_quarter, options):
    for name in ("a.mid", "b.MID", "c.midi"):
        write_midi(tmp_path / name, **options)
    data = load_data(tmp_path, medium=per_quarter and {"steps_per_quarter": per_quarter})
    for x in (data.train[0], data.test[0]):
        np.testing.assert_array_equal(x, roll(NOTES, per_quarter or 4))
    assert data.medium == {"name": "piano roll", "steps_per_quarter": per_quarter or 4}
    assert data.units == f"nats; piano rolls, {per_quarter or 4} steps a quarter note" and data.kind == "binary"


def test_notes_of_one_track_that_overlap_or_never_end(tmp_path):
    events = [(0, 60, 64), (120, 62, 64), (120, 60, 64), (0, 60, 0), (240, 64, 64)]
    track = mido.MidiTrack([mido.Message("note_on", note=n, velocity=v, time=t) for t, n, v in events])
    track.append(mido.MetaMessage("end_of_track", time=480))
    mido.MidiFile(type=0, tracks=[track]).save(tmp_path / "a.mid")
    expected = roll([(0, 0.5, 60), (0.5, 0.5, 60), (0.25, 2, 62), (1, 2, 64)], 4)
    np.testing.assert_array_equal(read_sequences(tmp_path / "a.mid")[0], expected)


def test_percussion_and_other_notes_are_left_out_and_counted(tmp_path):
    drums = [mido.Message("note_on", note=40, channel=9), mido.Message("note_off", note=40, channel=9, time=9)]
    for i in range(3):
        write_midi(tmp_path / f"{i}.mid", [*NOTES, (0, 1, 20), (2, 3, 109)], more=drums)
    data = load_data(tmp_path)
    np.testing.assert_array_equal(data.test[0], roll(NOTES, 4))
    assert "3 files; 9 notes of percussion or outside the keys of a piano are left out" in data.source


def test_samples_play_at_the_speed_of_the_files(tmp_path, capsys):
    for i in range(4):
        write_midi(tmp_path / "songs" / f"{i}.mid")
    songs, run, out = str(tmp_path / "songs"), str(tmp_path / "run"), str(tmp_path / "x.mid")
    small = ["--hidden", "8", "--latent", "2", "--epochs", "1"]
    assert cli.main(["train", songs, *small, "--step", "12", "--out", run]) == 0
    assert tv.load(run).medium["steps_per_quarter"] == 3
    prime = str(write_midi(tmp_path / "prime.mid", [(0, 2, 60), (2, 5, 61)]))
    for words, steps in (([], 29), (["--data", songs], 4 * 29), (["--data", prime], 15)):
        capsys.readouterr()
        assert cli.main(["evaluate", run, *words]) == 0
        assert f" {steps} steps; nats; piano rolls, 3 steps a quarter note" in capsys.readouterr().out
    assert cli.main(["sample", run, "--prime", prime, "--steps", "1", "--out", out]) == 0
    primed = read_sequences(out)[0]  # in sixteenths
    assert primed[:20, 60 - 21].tolist() == [1] * 8 + [0] * 12 and primed[:20, 61 - 21].tolist() == [0] * 8 + [1] * 12
    assert cli.main(["train", "digits8", "--step", "12", "--out", str(tmp_path / "no")]) == 2
    assert "--step is for MIDI files: leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        ({"notes": []}, "a.mid holds no notes of a piano: remove the file"),
        ({"notes": [(0, 1, 60)], "channel": 9}, "a.mid holds no notes of a piano"),
        ({"kind": 2}, "a.mid has independent tracks, or time in seconds: export it as MIDI of type 1"),
        ({"notes": [(0, 10**6, 60), (10**6, 10**7, 60)], "ticks": 1}, "a.mid makes more than 6,100,805 steps"),
    ],
)
def test_other_midi_is_refused(tmp_path, options, message):
    refused(write_midi(tmp_path / "a.mid", **options), message)


@pytest.mark.parametrize("ticks", [0, 0x8000, 0xE728])
def test_time_in_seconds_is_refused(tmp_path, ticks):
    path = write_midi(tmp_path / "a.mid")
    content = path.read_bytes()
    path.write_bytes(content[:12] + ticks.to_bytes(2, "big") + content[14:])
    refused(path, "a.mid has independent tracks, or time in seconds")


@pytest.mark.parametrize(
    "content", [b"", b"MThd", b"RIFF" + bytes(90), b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\4\0\x90"]
)
def test_what_is_no_midi(tmp_path, content):
    (tmp_path / "a.mid").write_bytes(content)
    refused(tmp_path / "a.mid", "a.mid is not valid MIDI and may be damaged or truncated: export it again")


def test_without_mido_there_is_one_sentence(tmp_path, monkeypatch):
    path = write_midi(tmp_path / "a.mid")
    monkeypatch.setitem(__import__("sys").modules, "mido", None)
    refused(path, r"MIDI needs mido, which is not installed: run pip install .\.\[music\]. in a")
