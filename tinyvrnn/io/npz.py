"""Arrays of strangers: a .npy, or a .npz by name. What a header says is held against its file before it is believed.

Pickles inside are never opened, as they can run code; nothing but what is asked for is unpacked, and no name in an
archive ever becomes a path. All here raise ValueError, or what NumPy and zipfile raise, for a file that can't be read.
"""

import io
import warnings
import zipfile
from math import prod
from typing import NamedTuple

import numpy as np

MEMORY = 2**31  # bytes that reading a single file takes up at most, whatever the file holds and says of itself
BIGGEST_HEADER = 2**14  # bytes; NumPy's own limit is 10,000 characters
MOST_MEMBERS = 1000  # of an archive
DEFLATE = 1032  # zlib packs no more bytes than this into one


class ObjectArrayError(ValueError):
    """An array of Python's objects, which is a pickle."""


class Header(NamedTuple):
    """What a .npy says of itself, found to fit its size."""

    dtype: np.dtype
    shape: tuple
    order: str  # "C" or "F"
    offset: int  # bytes before the numbers
    first: bytes  # what was read of the file to know this

    @property
    def nbytes(self):
        return prod(self.shape) * self.dtype.itemsize


def read_header(stream, size):
    """Header of a stream that holds a .npy of `size` bytes. Raises ObjectArrayError for one of objects."""
    first = stream.read(BIGGEST_HEADER)
    start = io.BytesIO(first)
    versions = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    read = versions[np.lib.format.read_magic(start)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of headers that Python 2 wrote, and reads them right
        try:
            shape, by_columns, dtype = read(start)
        except MemoryError:  # Python's parser runs out of depth, and not of memory
            raise ValueError("a nested header") from None
    if dtype.hasobject:
        raise ObjectArrayError
    header = Header(dtype, shape, "F" if by_columns else "C", start.tell(), first)
    if dtype.subdtype or min(shape, default=0) < 0 or header.offset + header.nbytes != size:
        raise ValueError(f"{size} bytes can't hold an array {shape} of {dtype}")
    if 0 in shape and prod(max(n, 1) for n in shape) > MEMORY // 128:
        raise ValueError(f"an array {shape} holds nothing, and makes whoever loops over it do so for ever")
    return header


def read_array(stream, size):
    """The array in a stream that holds a .npy of `size` bytes: `size` are allocated, and only where the header fits."""
    header = read_header(stream, size)
    numbers = bytearray(header.nbytes)
    known = header.first[header.offset :]
    numbers[: len(known)] = known
    rest = memoryview(numbers)[len(known) :]
    while rest:
        n = stream.readinto(rest)
        if not n:
            raise ValueError("the file ends before its numbers do")
        rest = rest[n:]
    return np.ndarray(header.shape, header.dtype, numbers, order=header.order)


def members(archive):
    """name -> ZipInfo of the arrays NAME.npy in an open ZipFile, whose sizes are ones that the file can have."""
    infos = archive.infolist()
    if len(infos) != _said_at_the_end(archive) or len({m.filename for m in infos}) < len(infos):
        raise ValueError("other members than its end says, more than there may be, or two of one name")
    for member in infos:
        _check_member(member)
        archive.open(member).close()  # compares the name with the one that stands before the member's bytes
    return {m.filename.removesuffix(".npy"): m for m in infos if m.filename.endswith(".npy")}


def _said_at_the_end(archive):
    """The number of members as an archive's last bytes say it; with one wrong byte zipfile would leave some out."""
    archive.fp.seek(-22 - len(archive.comment), io.SEEK_END)
    count = int.from_bytes(archive.fp.read(12)[10:], "little")
    return count if count <= MOST_MEMBERS else None


def _check_member(member):
    """np.savez stores and np.savez_compressed deflates; other ways may ask for gigabytes to unpack a few bytes."""
    most = {zipfile.ZIP_STORED: member.compress_size, zipfile.ZIP_DEFLATED: DEFLATE * member.compress_size}
    if not member.file_size <= most.get(member.compress_type, -1):
        raise ValueError(f"{member.compress_size} bytes can't hold {member.file_size}")
