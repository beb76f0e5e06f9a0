"""Damaged copies of a file: truncated at each length, with one wrong byte, or changed at random by seed."""

import random

EXTREMES = [0, 1, 2**7 - 1, 2**8 - 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1]


def truncations(whole, most=None):
    """The file truncated to each smaller length, or to `most` evenly spaced ones."""
    most = min(most or len(whole), len(whole))
    return (whole[: (i + 1) * len(whole) // most - 1] for i in range(most))


def flips(whole, tries, seed=0):
    """`tries` copies with one wrong byte each, of a random wrong value: each byte in turn, or evenly spaced ones."""
    draw = random.Random(seed)
    for k in range(tries):
        position = k * max(1, len(whole) // tries) % len(whole)
        yield whole[:position] + bytes([whole[position] ^ draw.randrange(1, 256)]) + whole[position + 1 :]


def mutations(whole, words, seed=0):
    """An infinite series of copies, each changed in one to four places."""
    draw = random.Random(seed)
    while True:
        content = whole
        for _ in range(draw.randint(1, 4)):
            content = draw.choice(CHANGES)(content, words, draw)
        yield content


def _flip(x, words, draw):
    i = draw.randrange(len(x) + 1)
    return x[:i] + bytes(b ^ draw.randrange(1, 256) for b in x[i : i + 1]) + x[i + 1 :]


def _cut(x, words, draw):
    return x[: draw.randrange(len(x) + 1)]


def _leave_out(x, words, draw):
    i = draw.randrange(len(x) + 1)
    return x[:i] + x[i + draw.randint(1, 16) :]


def _repeat(x, words, draw):
    i, n = draw.randrange(len(x) + 1), draw.randint(1, 64)
    return x[:i] + x[i : i + n] * draw.randint(2, 8) + x[i + n :]


def _move(x, words, draw):
    i, j, n = draw.randrange(len(x) + 1), draw.randrange(len(x) + 1), draw.randint(1, 64)
    return x[:i] + x[j : j + n] + x[i + n :]


def _number(x, words, draw):
    """An extreme number, overwriting bytes in binary or inserted as digits."""
    i, value, width = draw.randrange(len(x) + 1), draw.choice(EXTREMES), draw.choice([1, 2, 4, 8])
    if draw.random() < 0.3:
        return x[:i] + str(value).encode() + x[i:]
    stored = (value % 256**width).to_bytes(width, draw.choice(["little", "big"]))
    return x[:i] + stored + x[i + width :]


def _word(x, words, draw):
    i = draw.randrange(len(x) + 1)
    return x[:i] + draw.choice(words) + x[i + draw.choice([0, 0, 1, 4]) :]


CHANGES = (_flip, _cut, _leave_out, _repeat, _move, _number, _word)
