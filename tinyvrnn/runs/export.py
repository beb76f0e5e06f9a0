"""Write samples as arrays, a picture, an animation, MIDI, sound or text, selected by the ending of the file; atomic.

Data and models have a medium, the meaning of the numbers in a step: {} for plain numbers, {"name": "ink"},
{"name": "piano roll", "steps_per_quarter": 1}, {"name": "sound", "rate": 16000, "full_scale": 1.0}, or
{"name": "text", "alphabet": "abc"}, the characters of the columns in order.
"""

import wave

import numpy as np

from tinyvrnn.data.bach import LOWEST
from tinyvrnn.errors import ConfigError, library
from tinyvrnn.io.files import is_within
from tinyvrnn.runs import checkpoint, plots
from tinyvrnn.runs.run import FILES, RESUME

TICKS = 480  # MIDI clock ticks in a quarter note
REST = 4  # steps of silence between two piano rolls in one file
SILENCE = 0.5  # seconds between two sounds in one file
MOST = 256  # sequences in one picture: the time of its layout grows as their square


def write_samples(path, x, medium, binary, lengths=None):
    """Write x (T, n, X), on the scale of the data, to `path` (.png, .npz, .gif, .mid, .wav or .txt).

    lengths (n,): the real steps of each sequence; None: T.

    Raises ConfigError for an ending that does not fit the medium, CheckpointError if writing fails.
    """
    check_ending(path, medium)
    x = np.nan_to_num(x) if path.suffix.lower() in NEEDED else x  # these formats hold no missing values
    lengths = [len(x)] * x.shape[1] if lengths is None else lengths
    sequences = [x[:length, i] for i, length in enumerate(lengths)]
    checkpoint.write_file(path, lambda file: WRITERS[path.suffix.lower()](file, sequences, medium, binary))


def write_figure(path, figure):
    """Write a matplotlib Figure to `path`, a .png. Raises CheckpointError if writing fails."""
    checkpoint.write_file(path, lambda file: plots.write(figure, file))


def write_npz(path, **arrays):
    """Write arrays to `path`, a .npz. Raises CheckpointError if writing fails."""
    checkpoint.write_file(path, lambda file: np.savez(file, **arrays))


def check_fan(path, likelihood, draws):
    """Raise ConfigError if `path` asks for a fan chart of 0s and 1s or of one draw, whose bands would say nothing."""
    if path.suffix.lower() != ".png":
        return
    if draws < 2:
        raise ConfigError("The bands of a fan chart need at least 2 draws, got 1: give more --draws, or use .npz.")
    if likelihood.binary:
        raise ConfigError(
            f"A fan chart is for real numbers, but the likelihood {likelihood.name} draws 0s and 1s: "
            "use .npz, or `sample --prime`."
        )


def check_out(path, endings, source=None):
    """Raise ConfigError for another ending, or if writing `path` would change a run, or the data at `source`."""
    if path.suffix.lower() not in endings or not path.stem.strip("."):
        *others, last = endings
        listed = f"{', '.join(others)} or {last}" if others else last
        raise ConfigError(f"--out must be a name that ends in {listed}, got {path}.")
    is_run = any((path.parent / name).exists() for name in (checkpoint.FILE, RESUME))
    if path.name.lower() in FILES and is_run or source is not None and is_within(path, source):
        raise ConfigError(f"--out {path} would write into a run or the data: choose another file.")


def check_number(path, n):
    """Raise ConfigError if a picture of n sequences would take very long."""
    if path.suffix.lower() in (".png", ".gif") and n > MOST:
        raise ConfigError(f"A picture shows at most {MOST} sequences, got {n:,}: use .npz, or fewer sequences.")


def check_ending(path, medium):
    """Raise ConfigError for an ending that does not fit the medium."""
    needed = NEEDED.get(path.suffix.lower())
    if needed not in (None, medium.get("name")):
        is_now = medium.get("name", "plain numbers")
        raise ConfigError(f"{path.suffix} is for {needed}, but this run's data are {is_now}: use .png or .npz.")


def write_arrays(file, sequences, medium, binary):
    """As x (n, T, X), with lengths (n,) if they differ, which `load_data` and --prime read."""
    lengths = [len(x) for x in sequences]
    ragged = {"lengths": lengths} if len(set(lengths)) > 1 else {}
    np.savez_compressed(file, x=np.swapaxes(plots.padded(sequences), 0, 1), **ragged)


def write_picture(file, sequences, medium, binary):
    """The picture of `plots.samples`, as PNG."""
    title = "" if binary or "name" in medium else "in the units of the data"
    plots.write(plots.samples(sequences, binary, title, medium=medium.get("name")), file)


def write_animation(file, sequences, medium, binary):
    """Ink as it is written, as a looping GIF: 20 steps a second, and a pause of two seconds at the end."""
    first, *others = plots.animate(sequences)
    duration = [50] * len(others) + [2000]
    first.save(file, format="GIF", save_all=True, append_images=others, duration=duration, loop=0)


def write_midi(file, sequences, medium, binary, lowest=LOWEST):
    """Piano rolls, one after another with a rest between, as MIDI at 100 quarter notes a minute, through `mido`.

    A key that is down in consecutive steps becomes one held note, since a roll cannot show a repeated note.
    """
    mido = library("mido", "music", "MIDI")
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(100))])
    ticks, before = TICKS // medium.get("steps_per_quarter", 1), 0
    for step, kind, key in held_notes(sequences):
        track.append(mido.Message(kind, note=int(key) + lowest, velocity=72, time=int(step - before) * ticks))
        before = step
    mido.MidiFile(tracks=[track], ticks_per_beat=TICKS).save(file=file)


def held_notes(rolls):
    """(step, "note_on" or "note_off", key) of rolls (T_i, K), ordered by time; in a step, note_off comes first."""
    down = np.concatenate([np.pad(roll > 0.5, ((0, REST), (0, 0))) for roll in rolls])
    change = np.diff(down.astype(np.int8), axis=0, prepend=0)
    changed = sorted((t, change[t, key], key) for t, key in np.argwhere(change))
    return [(t, "note_on" if up > 0 else "note_off", key) for t, up, key in changed]


def write_sound(file, sequences, medium, binary):
    """Frames of a waveform, one sequence after another with half a second between, as WAV: one channel of 16 bits.

    Values beyond full scale are clipped.
    """
    pause = round(SILENCE * medium["rate"])
    waves = np.concatenate([np.pad(x.ravel(), (0, pause)) for x in sequences]) / medium["full_scale"]
    samples = np.clip(waves * 32768, -32768, 32767)
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(medium["rate"])
        sound.writeframes(np.rint(samples).astype("<i2").tobytes())


def write_text(file, sequences, medium, binary):
    """The most probable character of each step, sequences one after another: lines, or paragraphs if any has lines."""
    alphabet = np.array(list(medium["alphabet"]))
    texts = ["".join(alphabet[x.argmax(axis=-1)]) for x in sequences]
    between = "\n\n" if any("\n" in text for text in texts) else "\n"
    file.write((between.join(texts) + "\n").encode())


WRITERS = {
    ".png": write_picture,
    ".npz": write_arrays,
    ".gif": write_animation,
    ".mid": write_midi,
    ".wav": write_sound,
    ".txt": write_text,
}
NEEDED = {".gif": "ink", ".mid": "piano roll", ".wav": "sound", ".txt": "text"}
