"""Files made to do harm: sizes that lie, bombs, nesting, and instructions that need gigabytes or never end.

HOSTILE: name -> (target, function that returns the file's bytes). Each file is far smaller than what it asks for, and
is refused before more than LITTLE is allocated.
"""

import io
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np

from fuzz.targets import TARGETS, XML, make_flac, make_npz, make_sphere, make_wav, npy

LITTLE = 64 * 2**20  # bytes
HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}"


def archive(members, compression=zipfile.ZIP_DEFLATED, **sizes):
    """A .npz of (name, bytes) pairs; file_size, compress_size: false sizes in its directory."""
    with zipfile.ZipFile(stored := io.BytesIO(), "w", compression) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, compression)
        for info in file.infolist():
            for key, value in sizes.items():
                setattr(info, key, value)
    return stored.getvalue()


def npy_of(descr, shape, data=b"", **options):
    return npy(HEADER.format(repr(descr), shape), data, **options)


def in_npz(member):
    return archive([("x.npy", member)])


def with_manifest(change, name="checkpoint"):
    """A checkpoint or resume.npz whose manifest is change(manifest): bytes, or a value for JSON."""
    with np.load(io.BytesIO(TARGETS[name].make())) as found:
        arrays = dict(found)
    manifest = change(json.loads(arrays.pop("manifest").tobytes()))
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    np.savez(stored := io.BytesIO(), manifest=np.frombuffer(text, np.uint8), **arrays)
    return stored.getvalue()


def config(**sizes):
    return lambda: with_manifest(lambda m: m | {"config": m["config"] | sizes})


def packed_checkpoint():
    with np.load(io.BytesIO(TARGETS["checkpoint"].make())) as found:
        np.savez_compressed(stored := io.BytesIO(), **(dict(found) | {"theta": np.zeros(2**25, np.float32)}))
    return stored.getvalue()


def doubled(opcodes, times):
    """Instructions for lists (tuples) that each hold the previous one twice, so the last has 2**times elements."""
    return opcodes[0] + opcodes[1] * times


LISTS = (b"]q\0", b"](h\0h\0eq\0")
TUPLES = (b")q\0", b"h\0h\0\x86q\0")


def in_train(value, before=b""):
    """A pickle with [value] as train; `value` and `before` are instructions, and `before` fills the memo."""
    rest = pickle.dumps([[[60]]], 0)[:-1]
    start = b"\x80\x02}(X\x04\0\0\0more](" + before + b"eX\x05\0\0\0train](" + value + b"e"
    return start + b"X\x05\0\0\0valid" + rest + b"X\x04\0\0\0test" + rest + b"u."


def npy_of_pickle(stored):
    return npy_of("|O", (1,)) + stored


DTYPE = b"cnumpy\ndtype\n(U\2%sK\0K\1tR(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR(K\1"  # then its state, and tb


def array_of(shape, values):
    """A .npy that holds a pickle of an array of bytes; shape, values: instructions."""
    return npy_of_pickle(b"\x80\2" + ARRAY + shape + DTYPE % b"u1" + b"I00\n" + values + b"tb.")


def arrays_in_arrays(depth):
    """An array that holds an array that holds an array."""
    before, after = b"]" + ARRAY + b"(K\1t" + DTYPE % b"O8" + b"I00\n", b"tba"
    return npy_of_pickle(b"\x80\2" + (before * depth)[1:] + b"]K\1a" + (after * depth)[:-1] + b".")


def a_midi(track, ticks=480):
    start = b"MThd" + struct.pack(">IHHH", 6, 1, 1, ticks)
    return start + b"MTrk" + struct.pack(">I", len(track)) + track


def lying_flac():
    content = bytearray(make_flac())
    content[21:26] = bytes([content[21] | 0x0F, *b"\xff\xff\xff\xff"])
    return bytes(content)


def mat_element(kind, size, content=b""):
    return struct.pack("<II", kind, size) + content


def mat_file(*elements):
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49) + b"".join(elements)


def mat_array(rows, columns, kind=6, stored=b"", size=None, name=b"traindata"):
    """A miMATRIX of the given dims; kind: 6 double, 1 cells. size: the declared size of its data."""
    parts = mat_element(6, 8, struct.pack("<II", kind, 0)) + mat_element(5, 8, struct.pack("<ii", rows, columns))
    parts += mat_element(1, len(name), name.ljust(16, b"\0"))
    parts += mat_element(9, len(stored) if size is None else size, stored)
    return mat_element(14, len(parts) if size is None else 2**31, parts)


def lying_wav(at, value, content=None):
    whole = bytearray(content or make_wav())
    whole[at : at + 4] = struct.pack("<I", value)
    return bytes(whole)


DECLARATIONS = ("laughs", "a long entity, often", "somebody's file", "an address", "parameters")
ENTITIES = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))

HOSTILE = {
    "a trillion rows": ("npy", lambda: npy_of("<f4", (10**12, 1, 1))),
    "rows that overflow": ("npy", lambda: npy_of("<f4", (2**62, 4, 1))),
    "a header of 4 GB": ("npy", lambda: b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + b"{"),
    "negative rows": ("npy", lambda: npy_of("<f4", (-1, -1, 1), bytes(4))),
    "nothing, a trillion times": ("npy", lambda: npy_of("<f4", (10**12, 0, 1))),
    "steps of nothing": ("npy", lambda: npy_of("<f4", (1, 10**12, 0))),
    "text of a GB each": ("npy", lambda: npy_of("<U250000000", (1, 1, 1))),
    "a type of types": ("npy", lambda: npy(HEADER.format("[('a', '<f4', (99999, 99999))]", "(9, 9, 9)"))),
    "a nested header": ("npy", lambda: npy("(" * 9000, bytes(64))),
    "a header of signs": ("npy", lambda: npy(HEADER.format("'<f4'", "-" * 9000 + "1"), bytes(64))),
    "more numbers than said": ("npy", lambda: npy_of("<f4", (3, 1, 1), bytes(16))),
    "more sequences than there may be": ("npy", lambda: npy_of("|u1", (2**24 + 1, 1, 1), bytes(2**24 + 1))),
    "a trillion rows in an archive": ("npz", lambda: in_npz(npy_of("<f4", (10**12, 1, 1)))),
    "a directory that says 250 MB": (
        "npz",
        lambda: archive([("x.npy", npy_of("<f4", (9, 1, 1)))], file_size=250 * 10**6),
    ),
    "a directory that says a TB": ("npz", lambda: archive([("x.npy", npy_of("<f4", (9, 1, 1)))], file_size=2**40)),
    "packed sizes that lie": ("npz", lambda: archive([("x.npy", bytes(99))], compress_size=2**40, file_size=2**40)),
    "a bomb that is no array": ("npz", lambda: in_npz(bytes(2**27))),
    "a dictionary of 4 GB": ("npz", lambda: lzma_of_4_gb()),
    "another way to pack": ("npz", lambda: archive([("x.npy", npy_of("<f4", (1, 1, 1), bytes(4)))], zipfile.ZIP_BZIP2)),
    "two of one name": ("npz", lambda: two_of_one_name()),
    "two thousand members": ("npz", lambda: archive([(f"{i}.npy", b"") for i in range(2000)])),
    "an end that says fewer": ("npz", lambda: make_npz()[:-14] + b"\2\0\2\0" + make_npz()[-10:]),
    "a wide model": ("checkpoint", config(h_dim=10**6, features=10**6)),
    "a model as wide as its parameters": ("checkpoint", config(h_dim=40, features=40)),
    "a deep model": ("checkpoint", config(layers=10**9)),
    "a mixture without end": ("checkpoint", config(likelihood="gmm", components=10**12)),
    "a packed theta": ("checkpoint", packed_checkpoint),
    "a state of brackets": ("resume", lambda: with_manifest(lambda m: b"[" * 10**6, "resume")),
    "a state of 70 MB": ("resume", lambda: with_manifest(lambda m: m | {"more": "x" * 70 * 10**6}, "resume")),
    "a manifest of brackets": ("checkpoint", lambda: with_manifest(lambda m: b"[" * 10**6)),
    "a manifest of 2 MB": ("checkpoint", lambda: with_manifest(lambda m: m | {"more": "x" * 2 * 10**6})),
    "a million brackets": ("json", lambda: b"[" * 10**6),
    "a million brackets and their ends": ("json", lambda: b"[" * 10**6 + b"]" * 10**6),
    "a million objects": ("json", lambda: b'{"a":' * 10**6),
    "a number of a million digits": ("json", lambda: b'{"train": [[[' + b"9" * 10**6 + b"]]]}"),
    "a json too large": ("json", lambda: b" " * (2**25 + 1)),
    "bytes of a TB": ("pickle", lambda: b"\x80\4\x8e" + struct.pack("<Q", 2**40) + b"."),
    "text of a TB": ("pickle", lambda: b"\x80\4\x8d" + struct.pack("<Q", 2**40) + b"."),
    "a bytearray of a TB": ("pickle", lambda: b"\x80\5\x96" + struct.pack("<Q", 2**40) + b"."),
    "bytes of 4 GB": ("pickle", lambda: b"\x80\3B" + struct.pack("<I", 2**32 - 1) + b"."),
    "a number of 2 GB": ("pickle", lambda: b"\x80\2\x8b" + struct.pack("<i", 2**31 - 1) + b"."),
    "a frame without end": ("pickle", lambda: b"\x80\4\x95" + struct.pack("<Q", 2**62) + b"]."),
    "a place far away": ("pickle", lambda: b"\x80\2]r" + struct.pack("<I", 2**32 - 1) + b"."),
    "2**40 lists": ("pickle", lambda: in_train(b"](h\0e", doubled(LISTS, 40))),
    "2**40 lists as splits": ("pickle", lambda: b"\x80\2](" + doubled(LISTS, 40) + b"e."),
    "a name of 2**60 tuples": ("pickle", lambda: b"\x80\2](" + doubled(TUPLES, 60) + b"}h\0Nse."),
    "a note of 2**40 tuples": ("pickle", lambda: in_train(b"]](h\0ea", doubled(TUPLES, 40))),
    "a deep note": ("pickle", lambda: in_train(b"]]" + b"]" * 10**5 + b"a" * (10**5 + 1))),
    "a list that holds itself": ("pickle", lambda: in_train(b"]q\0h\0a")),
    "a note of 40,000 bits": ("pickle", lambda: in_train(b"]]\x8b" + struct.pack("<i", 5000) + b"\1" * 5000 + b"aa")),
    "objects of a process": ("pickle", lambda: b"\x80\4\x82\1."),
    "an array of a TB": ("drawings", lambda: array_of(b"(\x8a\6" + bytes(5) + b"\1t", b"U\1a")),
    "a shape of lists": ("drawings", lambda: array_of(b"(]K\1aJ\xff\xff\xff\x7ft", b"U\1a")),
    "arrays in arrays": ("drawings", lambda: arrays_in_arrays(4 * 10**4)),
    "cells without end": ("mat", lambda: mat_file(mat_array(2**31 - 1, 2**31 - 1, kind=1))),
    "a matrix without end": ("mat", lambda: mat_file(mat_array(2**31 - 1, 2**31 - 1))),
    "numbers of 4 GB": ("mat", lambda: mat_file(mat_array(2**24, 88, size=2**32 - 8, stored=bytes(88)))),
    "a variable of 4 GB": ("mat", lambda: mat_file(mat_element(14, 2**32 - 8, bytes(64)))),
    "a packed variable of 4 GB": ("mat", lambda: mat_file(mat_element(15, 2**32 - 8, zlib.compress(bytes(64))))),
    "a chunk of 4 GB": ("wav", lambda: lying_wav(40, 2**32 - 1)),
    "a format of 4 GB": ("wav", lambda: lying_wav(16, 2**32 - 1)),
    "two billion samples a second": ("wav", lambda: lying_wav(24, 2**32 - 1)),
    "a quadrillion samples": ("sphere", lambda: make_sphere(sample_count="-i 999999999999999")),
    "samples of 4 GB": ("sphere", lambda: make_sphere(sample_n_bytes="-i 4294967295")),
    "a header as large as the disk": ("sphere", lambda: make_sphere(size=9999999)[:300]),
    "a flac of 2**36 samples": ("flac", lying_flac),
    "a delay of a million bytes": ("midi", lambda: a_midi(b"\xff" * 10**6)),
    "text of a GB in midi": ("midi", lambda: a_midi(b"\0\xff\1\x84\x80\x80\x80\0")),
    "a note of weeks": ("midi", lambda: a_midi(b"\0\x90\x40\x40\xff\xff\xff\x7f\x80\x40\x40", ticks=1)),
    "a hundred thousand characters": (
        "txt",
        lambda: "".join(map(chr, (*range(32, 0xD800), *range(0xE000, 10**5)))).encode(),
    ),
    "laughs": ("xml", lambda: f'<!DOCTYPE a [<!ENTITY a0 "ha">{ENTITIES}]><a>&a9;</a>'.encode()),
    "a long entity, often": (
        "xml",
        lambda: f'<!DOCTYPE a [<!ENTITY a "{"x" * 10**6}">]><a>{"&a;" * 10**5}</a>'.encode(),
    ),
    "somebody's file": ("xml", lambda: b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'),
    "an address": ("xml", lambda: b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a/>'),
    "parameters": ("xml", lambda: b'<!DOCTYPE a [<!ENTITY % x "y">]><a/>'),
    "a hundred thousand elements deep": ("xml", lambda: b"<a>" * 10**5 + b"</a>" * 10**5),
    "escapes": ("xml", lambda: XML.replace("ISO-8859-1", "unicode_escape").encode()),
    "a codec that packs": ("xml", lambda: XML.replace("ISO-8859-1", "zlib_codec").encode()),
    "an xml too large": ("xml", lambda: b"<a>" + b" " * 2**25 + b"</a>"),
    "a line without end": ("csv", lambda: b"12," * 10**7),
    "a cell without end": ("csv", lambda: b"1" * 10**6),
    "a quote without end": ("csv", lambda: b'"1,2\n' * 10**6),
}


def lzma_of_4_gb():
    """A member compressed by LZMA, whose header asks for a dictionary of 4 GB."""
    content = bytearray(archive([("x.npy", npy_of("<f4", (3, 1, 1), bytes(12)))], zipfile.ZIP_LZMA))
    at = content.index(b"x.npy") + 5 + 4 + 1  # after the name, the version and size of the properties, and lc lp pb
    content[at : at + 4] = b"\xff\xff\xff\xff"
    return bytes(content)


def two_of_one_name():
    """Two members of one name, of which readers could choose either."""
    a, b = (npy_of("<f4", (3, 1, 1), np.float32([k, k, k]).tobytes()) for k in (1, 2))
    return archive([("x.npy", a), ("y.npy", b)]).replace(b"y.npy", b"x.npy")
