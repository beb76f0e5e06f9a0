"""Assert that a file is refused in one sentence."""

import pytest
from fuzz.targets import assert_one_sentence

from tinyvrnn.data import load_data
from tinyvrnn.errors import DataError


def refused(path, message):
    """Assert that load_data refuses `path` in one sentence that matches the regular expression `message`."""
    with pytest.raises(DataError, match=message) as caught:
        load_data(path)
    assert_one_sentence(caught.value)
