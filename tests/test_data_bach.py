"""The chorales: rolls of hand-made scores, the cache, and Bach's own if music21 is installed."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tinyvrnn import cli
from tinyvrnn.data import bach, load_data, read_like
from tinyvrnn.errors import DataError, how_to_install


def score(parts, tonic=0, mode="major", bar=4.0, padding=0.0):
    """A stub of music21's score for `piano_roll`. parts: lists of (start, quarters, *MIDI pitches)."""

    def note(start, quarters, *pitches):
        pitches = [SimpleNamespace(midi=p) for p in pitches]
        return SimpleNamespace(offset=start, quarterLength=quarters, pitches=pitches)

    measure = SimpleNamespace(barDuration=SimpleNamespace(quarterLength=bar), paddingLeft=padding)
    parts = [
        SimpleNamespace(
            flatten=lambda notes=notes: SimpleNamespace(notes=[note(*n) for n in notes]),
            getElementsByClass=lambda name: SimpleNamespace(first=lambda: measure),
        )
        for notes in parts
    ]
    end = max(n[0] + n[1] for notes in parts for n in ((x.offset, x.quarterLength) for x in notes.flatten().notes))
    key = SimpleNamespace(mode=mode, tonic=SimpleNamespace(pitchClass=tonic))
    return SimpleNamespace(parts=parts, highestTime=end, analyze=lambda what: key)


def sounding(roll):
    return [[int(k) + 21 for k in np.flatnonzero(step)] for step in roll]


def test_a_step_holds_what_sounds_at_its_beginning():
    melody = [(0, 1.5, 72), (1.5, 0.5, 74), (2, 2, 76)]  # the eighth note 74 falls between two beats
    bass = [(0, 1, 48), (1, 1, 50), (3, 1, 48)]  # and rests on the third
    assert sounding(bach.piano_roll(score([melody, bass]))) == [[48, 72], [50, 72], [76], [48, 76]]


def test_a_triplet_ends_on_the_beat():
    third = 1 / 3
    notes = [(0, third, 60), (third, third, 62), (2 * third, 1 - 2 * third + 1e-9, 64), (1, 1, 65)]
    assert sounding(bach.piano_roll(score([notes]))) == [[60], [65]]


@pytest.mark.parametrize(
    "tonic, mode, shift",
    [
        (0, "major", 0),
        (7, "major", 5),
        (5, "major", -5),
        (6, "major", -6),
        (9, "minor", 0),
        (2, "minor", -5),
        (3, "minor", -6),
    ],
)
def test_chorales_are_brought_to_c_major_or_a_minor_by_the_shortest_way(tonic, mode, shift):
    roll = bach.piano_roll(score([[(0, 1, 60 + tonic, 80)]], tonic, mode))
    assert sounding(roll) == [[60 + tonic + shift, 80 + shift]]


@pytest.mark.parametrize(
    "padding, expected", [(0.0, [[60], [62], [64]]), (3.0, [[60], [62], [64]]), (3.5, [[61], [63]])]
)
def test_steps_are_the_quarters_of_the_bars(padding, expected):
    """An upbeat of a quarter is a step; one of an eighth is dropped."""
    eighths = [(k / 2, 0.5, 60 + k) for k in range(5)]
    assert sounding(bach.piano_roll(score([eighths], padding=padding))) == expected


def fake(scores, counted):
    def parse(path):
        counted.append(path)
        return scores[path]

    return SimpleNamespace(
        __version__="1.2",
        corpus=SimpleNamespace(getComposer=lambda name, fileExtensions: list(scores)),
        converter=SimpleNamespace(parse=parse),
    )


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Twenty chorales, the first of them twice, and a duet; and the list of the files that were read."""
    scores = {f"{i:02}": score([[(k, 1, 60 + p)] for k, p in enumerate((0, i, 3, 7))]) for i in range(20)}
    scores |= {"again": scores["00"], "duet": score([[(0, 1, 60)]] * 2)}
    counted = []
    monkeypatch.setitem(sys.modules, "music21", fake(scores, counted))
    monkeypatch.setenv("TINYVRNN_CACHE", str(tmp_path))
    return counted


def test_bach_is_read_once_and_then_from_the_cache(corpus, tmp_path, capsys):
    data = load_data("bach")
    assert len(corpus) == 22 and [p.name for p in tmp_path.rglob("*.*z")] == ["bach.npz"]
    assert "reading Bach's chorales into" in capsys.readouterr().err
    again = load_data("bach")
    assert len(corpus) == 22
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(data.split(split).values, again.split(split).values)
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [12, 4, 4]
    assert data.name == "bach" and data.kind == "binary" and data.x_dim == 88 and "a quarter note" in data.units
    assert data.medium == {"name": "piano roll", "steps_per_quarter": 1}


def test_the_split_of_the_chorales_is_that_of_the_first_release(corpus):
    assert [int(np.flatnonzero(x[1])[0]) + 21 - 60 for x in load_data("bach").test] == [0, 5, 9, 17]


def test_another_music21_has_another_cache(corpus, tmp_path):
    assert bach.cached() == tmp_path / "music21-1.2" / "bach.npz"


def test_a_reading_that_is_interrupted_leaves_no_cache(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(bach.np, "savez_compressed", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        bach.cached()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_cache_that_can_not_be_written_is_one_sentence(corpus, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINYVRNN_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="can't write .* set TINYVRNN_CACHE to a writable folder"):
        bach.cached()
    assert corpus == [], "the chorales were read before it was found out"


@pytest.mark.parametrize("command", [["train", "bach"], ["data", "bach"]])
def test_without_music21_there_is_one_sentence(command, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "music21", None)
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"tinyvrnn: bach needs music21, which is not installed: {how_to_install('music')}.\n"


def test_the_cache_is_where_the_variable_says_or_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("TINYVRNN_CACHE", raising=False)
    monkeypatch.setitem(sys.modules, "platformdirs", SimpleNamespace(user_cache_path=lambda name: tmp_path / name))
    assert bach.cache_folder() == tmp_path / "tinyvrnn"
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(DataError, match="pip install .* or set TINYVRNN_CACHE to a folder"):
        bach.cache_folder()


def test_a_run_on_bach_samples_midi_and_is_evaluated_by_name(corpus, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert cli.main(["train", "bach", "--hidden", "8", "--latent", "2", "--epochs", "1", "--out", run]) == 0
    assert cli.main(["evaluate", run]) == 0
    assert "bach, test split: 4 sequences" in capsys.readouterr().out
    assert cli.main(["sample", run, "-n", "2", "--out", str(tmp_path / "x.mid")]) == 0
    assert (tmp_path / "x.mid").read_bytes()[:4] == b"MThd"


def test_the_first_chorale_of_riemenschneiders_collection():
    """BWV 269, Aus meines Herzens Grunde, G major: it opens with the chord of G, here of C, and closes in it."""
    music21 = pytest.importorskip("music21")
    roll = bach.piano_roll(music21.corpus.parse("bach/bwv269"))
    steps = sounding(roll)
    assert {p % 12 for p in steps[0]} == {p % 12 for p in steps[-1]} == {0, 4, 7}
    assert steps[0][-1] == 72 and min(map(min, filter(None, steps))) > 35 and len(steps[0]) == 4


@pytest.mark.parametrize("form", ["musicxml", "mxl", "midi"])
def test_a_chorale_that_music21_writes(tmp_path, form):
    """Four parts in C major with a rest, an eighth and a tie over the bar, as MusicXML for `bach`, or as MIDI."""
    music21 = pytest.importorskip("music21")
    parts = [
        [("c5", 1), ("d5", 1), ("e5", 1.5), ("f5", 0.5), ("e5", 2), ("d5", 1), ("c5", 1)],
        [("g4", 2), ("g4", 2), ("g4", 3), ("g4", 1)],
        [("e4", 1), ("f4", 1), ("c4", 4), (None, 1), ("e4", 1)],
        [("c3", 1), ("b2", 1), ("c3", 2), ("c3", 2), ("g2", 1), ("c3", 1)],
    ]
    chorale, expected = music21.stream.Score(), np.zeros((8, 88), np.uint8)
    for part in parts:
        start, stream = 0, music21.stream.Part()
        for name, quarters in part:
            note = music21.note.Rest() if name is None else music21.note.Note(name)
            note.quarterLength = quarters
            stream.append(note)
            if name:
                expected[int(np.ceil(start)) : int(np.ceil(start + quarters)), note.pitch.midi - 21] = 1
            start += quarters
        chorale.insert(0, stream.makeNotation())
    path = chorale.write(form, tmp_path / f"x.{form.replace('midi', 'mid')}")
    if form == "midi":
        roll = read_like(path, {"steps_per_quarter": 2})[0][::2]  # what sounds at each quarter
    else:
        roll = bach.build(music21, [path])["values"]
    np.testing.assert_array_equal(roll, expected)
