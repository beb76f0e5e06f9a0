"""Extremes: weights and data ten thousand times too large give finite and correct numbers in float32.

Draw i uses model i mod 8, likelihood (i / 8) mod 5, and factors from 1 to 10^4, uniform in their logarithm, for its
weights and for its data; T, B and the number of layers vary too. "group" scales the weights of one of Eq. 5, 6, 7, 9 or
their features; "all" scales every weight at once, so nine matrices in a row are 10^4 times too large, and a gradient
that is truly 10^50 has no float32. The truth is the result in float64.

Catches: a square, an exponential or a product that overflows although its result does not; a logarithm of 0; a NaN
gradient of a finite loss; digits lost in float32; a norm that overflows although its vector does not.
"""

import checks
import numpy as np
import pytest
from test_shapes import VARIANTS

import tinyvrnn as tv
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.training.optim import Adam, clip_by_global_norm

MODELS, NAMES = list(VARIANTS.values()), sorted(LIKELIHOODS)
MOVED = {"gaussian": slice(None), "gmm": slice(None), "pen": slice(0, 2)}  # columns of x that have a scale
LOSS, GRADIENT = 5e-6, 5e-5  # float32 against float64 at weights of the usual size; measured: 1.9e-6 and 1.1e-5
FITS = 1e35  # larger results may have intermediate values beyond float32's 3.4e38; measured: 2.7e35


def drawn(number, scaled):
    """Draw `number`: a float32 model, the same in float64, and x, lengths, eps. scaled: "group", "all" or None."""
    draw, likelihood = checks.rng(number), NAMES[number // len(MODELS) % len(NAMES)]
    sizes = {"T": draw.integers(1, 7), "B": draw.integers(1, 5), "layers": draw.integers(1, 4)}
    options = MODELS[number % len(MODELS)] | {name: int(size) for name, size in sizes.items()}
    model, x, lengths, eps = checks.small(likelihood, seed=number, dtype="float32", **options)
    of_weights, of_data = 10 ** draw.uniform(0, 4, 2)
    model.theta[...] = 0.5 * draw.standard_normal(model.theta.shape)
    groups = [group for group in model.params.values() if group]
    if scaled:
        chosen = groups if scaled == "all" else [groups[draw.integers(len(groups))]]
        for leaf in (leaf for group in chosen for leaf in group.values()):
            leaf *= np.float32(of_weights)
    moved = MOVED.get(likelihood, slice(0))
    x[..., moved] = (of_data if scaled else 1.0) * draw.standard_normal(x.shape)[..., moved]
    wide = type(model)(**(model.config | {"dtype": "float64"}))
    wide.theta[...] = model.theta
    return model, wide, (x, lengths, eps)


def both(number, scaled):
    """(loss, gradient, largest part) in float32 and in float64."""
    *models, given = drawn(number, scaled)
    with np.errstate(all="ignore"):  # what counts is the result
        results = [model.loss_and_grads(*given, beta=0.7) for model in models]
    return [(float(loss), g.astype("float64"), float(np.abs(np.array(parts)).max())) for loss, g, parts in results]


def errors(found, expected):
    """Errors of the loss relative to its largest term, and of the gradient relative to its norm."""
    (loss, grads, _), (true_loss, true_grads, part) = found, expected
    of_gradient = np.linalg.norm(grads - true_grads) / max(np.linalg.norm(true_grads), 1e-30)
    return abs(loss - true_loss) / max(part, 1e-30), of_gradient


def finite(result):
    return all(np.isfinite(value).all() for value in result)


def scaled(numbers, what, loss, least):
    """Results that fit float32, with a margin for intermediate values, are finite; finite losses are right to `loss`.

    Returns the errors of the gradients. At least the fraction `least` of the draws fits float32.
    """
    fits, of_gradients = 0, []
    for number in numbers:
        narrow, wide = both(number, what)
        if finite(wide) and max(abs(wide[0]), np.abs(wide[1]).max(), wide[2]) < FITS:
            fits += 1
            assert finite(narrow), f"draw {number}: loss {narrow[0]}, true {wide[0]}"
            of_gradients.append(errors(narrow, wide)[1])
        if finite(narrow):
            error = abs(narrow[0] - wide[0])
            assert error <= loss * wide[2], f"draw {number}: loss {narrow[0]}, true {wide[0]}"
    assert fits >= least * len(numbers)
    return of_gradients


def factors_of_one_group(numbers):
    # where a gate is saturated, 1 - n^2 has few digits left, and all of the gradient may pass through it
    assert np.quantile(scaled(numbers, "group", loss=2e-4, least=0.998), 0.99) < 1e-2


def factors_of_all(numbers):
    scaled(numbers, "all", loss=1e-3, least=0.89)


def usual_sizes(numbers):
    for number in numbers:
        of_loss, of_gradient = errors(*both(number, None))
        assert of_loss < LOSS and of_gradient < GRADIENT, f"draw {number}: {of_loss:.1e}, {of_gradient:.1e}"


EXPERIMENTS = pytest.mark.parametrize("experiment", [factors_of_one_group, factors_of_all, usual_sizes])


@EXPERIMENTS
def test_400_draws(experiment):
    experiment(range(400))


@pytest.mark.slow
@pytest.mark.timeout(600)
@EXPERIMENTS
def test_10_000_draws(experiment):
    """250 of each of the 40 pairs of a model and a likelihood."""
    experiment(range(10_000))


def test_draws_are_what_they_say():
    """Each pair is drawn equally often, factors reach 10^4, and scaling a group leaves the others."""
    kinds, largest = [], 0.0
    for number in range(400):
        model, _, (x, *_) = drawn(number, "group")
        usual, *_ = drawn(number, None)
        kinds.append((number % len(MODELS), model.likelihood.name))
        ratio = model.theta / usual.theta
        scaled = [
            g for g, own in views(ratio, model.shapes).items() if own and np.abs(next(iter(own.values()))).max() > 1
        ]
        assert len(scaled) == 1
        largest = max(largest, ratio.max())
    assert len(set(kinds)) == 40 and {kinds.count(kind) for kind in kinds} == {10} and largest > 9000


@pytest.mark.parametrize("likelihood", MOVED)
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("size", [1e6, 1e9, 1e12])
@pytest.mark.parametrize("narrow", [False, True], ids=["", "sigma at its floor"])
@pytest.mark.one_in(5)
def test_all_data_that_are_taken_have_a_finite_loss_and_gradient(likelihood, options, size, narrow):
    """x up to the accepted limit, in many columns and steps, also with every sigma 1e-4."""
    wide = {} if likelihood == "pen" else {"x_dim": 30}
    model, x, lengths, eps = checks.small(likelihood, dtype="float32", T=20, B=8, **options, **wide)
    if narrow:
        for name, leaf in leaves(model.params):
            if name.endswith("b_out"):
                leaf[leaf.size // 2 :] -= 20
    x[..., MOVED[likelihood]] = size * np.sign(x[..., MOVED[likelihood]] - 0.5)
    loss, grads, parts = model.loss_and_grads(x, lengths, eps)
    assert np.isfinite(loss) and np.isfinite(np.array(parts)).all() and np.isfinite(grads).all()


def test_padding_that_overflows_changes_nothing():
    checks.padding_that_overflows_changes_nothing()


def test_a_gradient_whose_squares_overflow_is_clipped_in_its_direction():
    checks.a_gradient_too_long_to_square_keeps_its_direction()
    grads = np.float32([3e25, -4e25, 0])
    clip_by_global_norm(grads, 10.0)
    theta = np.ones(3, "float32")
    Adam(theta, lr=0.1).step(theta, grads)
    np.testing.assert_allclose(theta, [0.9, 1.1, 1.0], rtol=1e-5)


def test_data_beyond_the_limit_are_refused_in_one_sentence():
    with pytest.raises(tv.DataError, match="beyond 1e\\+12, where float32 overflows"):
        tv.RNN(2, 4, likelihood="gaussian").elbo(np.full((2, 1, 2), -2e12))
