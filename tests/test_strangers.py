"""Files from strangers: whatever is in one, it is read right or refused in one sentence, soon and in little memory.

The files come from tests/fuzz/; `make fuzz` tries the same for minutes. TRIES says how many, for docs/testing.md.
"""

import sys
from itertools import islice

import pytest
from fuzz import damage, targets
from fuzz.hostile import HOSTILE, LITTLE
from fuzz.isolate import forked
from fuzz.targets import TARGETS, attempt, same

TRIES = {"flips": 2000, "mutations": 300, "mutations, slow": 20_000}
SLOW = pytest.mark.slow
ALL = [pytest.param(name, marks=[SLOW] * (name == "mat")) for name in TARGETS]  # a fork for each .mat
FACTORS = dict.fromkeys(("json", "pickle", "xml"), 64)  # bytes of memory for a byte of a file
READ_WHEN_CUT = ("csv", "xml")  # a .csv of fewer lines is one, and an .xml without its last newline
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")


@pytest.mark.parametrize("name", ALL)
def test_cut_at_any_length_it_is_refused(tmp_path, name):
    target = TARGETS[name]
    whole = target.make()
    genuine = attempt(target, tmp_path, whole)
    assert same(genuine, attempt(target, tmp_path, whole))
    for content in damage.truncations(whole):
        value = attempt(target, tmp_path, content)
        assert value is None or name == "csv" or (name in READ_WHEN_CUT and same(value, genuine)), len(content)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ALL)
def test_with_any_wrong_byte_it_is_the_same_or_refused(tmp_path, name):
    """Or, where no sum is kept of the bytes, other data of the right form."""
    target = TARGETS[name]
    whole = target.make()
    genuine, refused = attempt(target, tmp_path, whole), 0
    for content in damage.flips(whole, TRIES["flips"]):
        value = attempt(target, tmp_path, content)
        refused += value is None
        assert value is None or not target.checked or same(value, genuine)
    assert refused > TRIES["flips"] / 20


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("amount", ["mutations", pytest.param("mutations, slow", marks=SLOW)])
@pytest.mark.parametrize("name", ALL)
def test_changed_in_some_places_it_is_read_or_refused(tmp_path, name, amount):
    target = TARGETS[name]
    tries = TRIES[amount] // 10 if name == "mat" else TRIES[amount]
    for content in islice(damage.mutations(target.make(), target.words, seed=1), tries):
        attempt(target, tmp_path, content)


@LINUX
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_little_memory(tmp_path, name):
    form, make = HOSTILE[name]
    content = make()
    target = TARGETS[form]
    if form == "mat":
        target = target._replace(read=targets.read_sequences_of("a.mat"))  # in a process of its own, as for a user
    outcome = forked(
        lambda: attempt(target, tmp_path, content) is None, memory=LITTLE + FACTORS.get(form, 8) * len(content)
    )
    assert outcome == (True, None, "", 0)
