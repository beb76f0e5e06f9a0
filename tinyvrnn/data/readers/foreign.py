"""Files of other forms: what they are, and the line of Python or of a shell that converts them."""

from tinyvrnn.errors import DataError

TABLE = 'pandas.read_{}("NAME").to_csv("STEM.csv", index=False)'
CONVERSIONS = {  # endings -> line; NAME and STEM are those of the file, KEY is one that only the user knows
    ".xlsx .xls .ods": TABLE.format("excel"),
    ".parquet": TABLE.format("parquet"),
    ".feather": TABLE.format("feather"),
    ".jsonl .ndjson": 'pandas.read_json("NAME", lines=True).to_csv("STEM.csv", index=False)',
    ".h5 .hdf5 .nc": 'numpy.save("STEM.npy", h5py.File("NAME")["KEY"][:])',
    ".pt .pth": 'numpy.save("STEM.npy", torch.load("NAME").numpy())',
    ".mp3 .m4a .aac .wma .aif .aiff .mp4": "ffmpeg -i NAME -ac 1 STEM.wav",
    ".mxl .musicxml .krn .abc": 'music21.converter.parse("NAME").write("midi", "STEM.mid")',
    ".zip .tar .tgz": 'shutil.unpack_archive("NAME", "STEM")',
    ".gz": "gunzip NAME",
}
LINES = {ending: line for endings, line in CONVERSIONS.items() for ending in endings.split()}
SOUND = ("sound", ".wav .sph .flac .ogg .opus")
KINDS = {  # the first bytes of a file -> what it is, and the endings that it may have
    b"\x93NUMPY": ("an array of NumPy", ".npy .npz"),
    b"PK\x03\x04": ("a zip archive, as .npz, .xlsx and .zip are", ".npz .npy"),
    b"\x89HDF": ("HDF5", ".h5"),
    b"PAR1": ("Parquet", ".parquet"),
    b"\x1f\x8b": ("packed by gzip", ".gz"),
    b"\xd0\xcf\x11\xe0": ("a file of Excel", ".xls"),
    b"MThd": ("MIDI", ".mid .midi"),
    b"MATLAB": ("a .mat of MATLAB", ".mat"),
    **dict.fromkeys((b"RIFF", b"fLaC", b"OggS", b"NIST_1A"), SOUND),
    **dict.fromkeys((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), ("a pickle", ".pickle .pkl")),
}
TEXT = ("text", ".csv")  # what is no array but printable


def is_array(path):
    """Whether a file begins as a .npy or a .npz does, whatever its ending."""
    return _kind(path)[1].startswith((".npy", ".npz"))


def refusal(path, forms):
    """The DataError for a file with an ending that no reader has."""
    line = _line(path, path.suffix.lower())
    how = f"convert it, for example by `{line}`, to" if line else "save it as"
    return DataError(f"{path.name} is not of a form that is read: {how} {forms}")


def check_kind(path):
    """Raise DataError for a file of another kind than its ending says."""
    ending = path.suffix.lower()
    kind, own = _kind(path, ending in (".npy", ".npz"))
    if own and ending not in own.split():
        is_it = own.split()[0]
        how = (
            f"convert it, for example by `{_line(path, is_it)}`"
            if is_it in LINES
            else f"rename it to {path.stem}{is_it}"
        )
        raise DataError(f"{path.name} is {kind}, not what its ending {ending} says: {how}")


def _kind(path, binary=False):
    """What a file is, and its endings, or empty strings. binary: whether text would be wrong."""
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
    known = next((kind for begin, kind in KINDS.items() if start.startswith(begin)), None)
    plain = start.translate(None, b"\t\r\n")
    return known or (TEXT if binary and plain and plain.isascii() and plain.decode().isprintable() else ("", ""))


def _line(path, ending):
    return LINES.get(ending, "").replace("NAME", path.name).replace("STEM", path.stem)
