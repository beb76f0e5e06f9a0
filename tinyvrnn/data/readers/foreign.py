"""Files of other forms: what they are, and the line of Python or of a shell that converts them."""

from tinyvrnn.errors import DataError

TABLE = 'pandas.read_{}("NAME").to_csv("STEM.csv", index=False)'
CONVERSIONS = {  # endings -> line, in which NAME and STEM are those of the file, and KEY is for the user to choose
    ".xlsx .xls .ods": TABLE.format("excel"),
    ".parquet": TABLE.format("parquet"),
    ".feather": TABLE.format("feather"),
    ".jsonl .ndjson": 'pandas.read_json("NAME", lines=True).to_csv("STEM.csv", index=False)',
    ".h5 .hdf5 .nc": 'numpy.save("STEM.npy", h5py.File("NAME")["KEY"][:])',
    ".pt .pth": 'numpy.save("STEM.npy", torch.load("NAME").numpy())',
    ".mp3 .m4a .aac .wma .aif .aiff .mp4": "ffmpeg -i NAME -ac 1 STEM.wav",
    ".mxl .musicxml .krn .abc": 'music21.converter.parse("NAME").write("midi", "STEM.mid")',
    ".tar .tgz": 'shutil.unpack_archive("NAME", "STEM")',
    ".zip": 'shutil.unpack_archive("NAME", "STEM", "zip")',
    ".gz": "gunzip NAME",
}
LINES = {ending: line for endings, line in CONVERSIONS.items() for ending in endings.split()}
ARRAYS, SOUNDS, PICKLES = (".npy", ".npz"), (".wav", ".sph", ".flac", ".ogg", ".opus"), (".pickle", ".pkl")
STARTS = {  # the first bytes of a file -> the endings that it may have, the first being the likely one
    b"\x93NUMPY": ARRAYS,
    b"PK\x03\x04": (".zip", ".npz", ".npy"),
    b"\x89HDF": (".h5",),
    b"PAR1": (".parquet",),
    b"\x1f\x8b": (".gz",),
    b"\xd0\xcf\x11\xe0": (".xls",),
    b"MThd": (".mid", ".midi"),
    b"MATLAB": (".mat",),
    b"RIFF": (*SOUNDS, ".mid", ".midi"),  # which can be packed in RIFF too
    **dict.fromkeys((b"fLaC", b"OggS", b"NIST_1A"), SOUNDS),
    **dict.fromkeys((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), PICKLES),
}


def check_kind(path, endings, forms):
    """Raise DataError for a file of a form that is not read, or of another one than its ending says.

    endings: those that are read. A .npy or .npz can have any other ending.
    """
    ending, likely = path.suffix.lower(), _endings_by_content(path)
    not_read = f"{path.name} is not of a form that is read"
    if ending in LINES:
        raise DataError(f"{not_read}: convert it, for example by `{_line(path)}`, to {forms}")
    if likely and ending not in likely and (ending in endings or likely is not ARRAYS):
        line = _line(path, likely[0])
        how = f"convert it, for example by `{line}`" if line else f"rename it to {path.stem}{likely[0]}"
        raise DataError(f"{path.name} seems to be a file of the form {likely[0]} in spite of its ending: {how}")
    if ending not in endings and likely is not ARRAYS:
        raise DataError(f"{not_read}: save it as {forms}")


def _endings_by_content(path):
    """The endings that suit the beginning of a file; () for any."""
    try:
        with open(path, "rb") as file:
            start = file.read(64)
            file.seek(max(0, path.stat().st_size - 2**16))
            contents = file.read()  # of an archive, which are listed at its end
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
    text = start.translate(None, b"\t\r\n")
    if path.suffix.lower() in ARRAYS and text and text.isascii() and text.decode().isprintable():
        return (".csv",)
    if start.startswith(b"PK") and b"[Content_Types].xml" in contents:
        return (".xlsx",)
    return next((endings for begin, endings in STARTS.items() if start.startswith(begin)), ())


def _line(path, ending=None):
    """The line that converts a file of this ending, or of its own; empty if none is known."""
    line = LINES.get(ending or path.suffix.lower(), "")
    line = f"gunzip -c NAME > STEM-unpacked{path.suffix}" if ending == ".gz" else line  # gunzip needs the ending .gz
    return line.replace("NAME", path.name).replace("STEM", path.stem)
