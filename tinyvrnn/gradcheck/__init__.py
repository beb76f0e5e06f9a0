"""Numeric checks of hand-written gradients, and the table of every forward/backward pair of the package.

numeric.py      check_pair, check_model: central differences against a backward pass
arguments.py    what a check demands of its arrays and functions
all_pairs.py    PAIRS: each pair of the package with small random inputs, for `tinyvrnn gradcheck` and the tests
register.py     register_likelihood, register_cell: a user's own, checked numerically before models can use them

Imports models/ and the rooms below. To add a pair: an entry in PAIRS and a page in docs/derivations/.
"""

from tinyvrnn.gradcheck.numeric import Row, check_model, check_pair, compare, numerical_gradient, rel_error

__all__ = ["Row", "check_model", "check_pair", "compare", "numerical_gradient", "rel_error"]
