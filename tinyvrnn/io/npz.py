"""Untrusted .npy and .npz files: headers are checked against the size of the file before memory is allocated.

Pickles inside are not opened here, since they can run code. Only requested members are unpacked, and no name in an
archive becomes a path. Functions raise ValueError, or what NumPy and zipfile raise, for an invalid file.
"""

import io
import warnings
import zipfile
from collections import namedtuple
from math import prod

import numpy as np

MEMORY = 2**31  # bytes of memory that reading any one file takes, at most
BIGGEST_HEADER = 2**14  # bytes; NumPy's own limit is 10,000 characters
MOST_MEMBERS = 1000  # of an archive
DEFLATE = 1032  # the highest compression ratio of zlib


class ObjectArrayError(ValueError):
    """An array of Python objects, which is a pickle that begins after `offset` bytes."""

    def __init__(self, offset):
        super().__init__("an array of objects")
        self.offset = offset


# of an array in a .npy; order: "C" or "F"; offset: bytes before the data; first: the bytes read so far
Header = namedtuple("Header", "dtype shape order offset first")


def read_header(stream, size):
    """Header of a stream that holds a .npy of `size` bytes. Raises ObjectArrayError for an array of objects."""
    first = stream.read(BIGGEST_HEADER)
    start = io.BytesIO(first)
    versions = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    read = versions[np.lib.format.read_magic(start)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy reads headers from Python 2 correctly, but warns
        try:
            shape, by_columns, dtype = read(start)
        except MemoryError:  # raised when Python's parser exceeds its depth
            raise ValueError("a nested header") from None
    if dtype.hasobject:
        raise ObjectArrayError(start.tell())
    header = Header(dtype, shape, "F" if by_columns else "C", start.tell(), first)
    if dtype.subdtype or min(shape, default=0) < 0 or header.offset + prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{size} bytes can't hold an array {shape} of {dtype}")
    if 0 in shape and prod(max(n, 1) for n in shape) > MEMORY // 128:
        raise ValueError(f"an array {shape} is empty, but looping over it would take for ever")
    return header


def read_array(stream, size):
    """The array in a stream that holds a .npy of `size` bytes, read in pieces: a header that lies allocates nothing."""
    header = read_header(stream, size)
    numbers = bytearray(header.first[header.offset :])
    while piece := stream.read(2**20):
        numbers += piece
    return np.ndarray(header.shape, header.dtype, numbers, order=header.order)


def members(archive):
    """name -> ZipInfo of the arrays NAME.npy in an open ZipFile, with their sizes checked."""
    infos = archive.infolist()
    archive.fp.seek(-22 - len(archive.comment), io.SEEK_END)
    declared = int.from_bytes(archive.fp.read(12)[10:], "little")  # after one wrong byte zipfile would skip members
    if len(infos) != declared or declared > MOST_MEMBERS or len({m.filename for m in infos}) < len(infos):
        raise ValueError("a wrong number of members, too many, or two with the same name")
    for member in infos:  # a method other than stored and deflated may need gigabytes
        most = {zipfile.ZIP_STORED: member.compress_size, zipfile.ZIP_DEFLATED: DEFLATE * member.compress_size}
        if not member.file_size <= most.get(member.compress_type, -1):
            raise ValueError(f"{member.compress_size} bytes can't hold {member.file_size}")
        archive.open(member).close()  # checks the name against the one before the member's data
    return {m.filename.removesuffix(".npy"): m for m in infos if m.filename.endswith(".npy")}
