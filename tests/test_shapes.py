"""Unusual shapes and layouts: the same result as for the plain array, bit for bit, or a sentence on what is wrong.

Catches: an axis of length 1 that broadcasts where it must not, a sequence of one step next to a long one, a result that
depends on the memory layout, a write into an argument, a dtype that turns float32 into float64, and an array taken for
a sequence that is none.
"""

from decimal import Decimal

import checks
import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyvrnn as tv
from tinyvrnn import bounds
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.data import baselines
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.gradcheck import all_pairs
from tinyvrnn.gradcheck.numeric import _as_tuple

VARIANTS = {
    "vrnn": {},
    "vrnn, lstm": {"cell": "lstm"},
    "vrnn, smoothing": {"posterior": "smoothing"},
    "vrnn, smoothing, lstm": {"posterior": "smoothing", "cell": "lstm"},
    "vrnn-i": {"model": "vrnn-i"},
    "rnn": {"model": "rnn"},
    "rnn, lstm": {"model": "rnn", "cell": "lstm"},
    "vae": {"model": "vae"},
}
TERMS = {"rnn": plain.rnn_terms, "vae": plain.vae_terms}
every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS)
every = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def read_only(a):
    a = a.copy(order="K")
    a.flags.writeable = False
    return a


def every_second(a):
    """The same numbers with gaps between them, as in a column of a wider table."""
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), 7, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


LAYOUTS = {
    "plain": np.array,
    "every second": every_second,
    "batch first": lambda a: a.swapaxes(0, a.ndim > 1).copy().swapaxes(0, a.ndim > 1),
    "backwards": lambda a: a[::-1].copy()[::-1],
    "Fortran": np.asfortranarray,
    "read-only": read_only,
    "read-only, Fortran": lambda a: read_only(np.asfortranarray(a)),
    "float64": lambda a: a.astype("float64"),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}
layouts = st.sampled_from(sorted(LAYOUTS))


def given_of(likelihood, backend="numpy", **options):
    """A float32 model and arguments: x, lengths, eps, eps of 3 particles, uniforms, a dropout mask, a state."""
    model, x, lengths, eps = checks.small(likelihood, backend, dtype="float32", **options)
    draw = checks.rng(3)
    arrays = {"x": x, "eps": eps, "keep": (x > 0.3).astype("float32")}
    arrays["particles"] = draw.standard_normal((*x.shape[:2], 3, model.z_dim)).astype("float32")
    arrays["uniforms"] = draw.random(x.shape[:2]).astype("float32")
    arrays["seen"] = np.ones_like(x)
    arrays["seen"][-1] = 0
    if has_state(model):
        arrays["state"] = to_host(model.chunk_loss_and_grads(x, lengths, eps)[3])
    return model, arrays, lengths


def has_state(model):
    return "cell" in model.choices and getattr(model, "posterior", "filtering") == "filtering"


def calls_of(model):
    """name -> function of (the arrays of given_of, lengths): everything that takes a user's arrays."""
    on_device = (lambda state: state) if model.backend.name == "numpy" else model.backend.asarray
    calls = {
        "loss_and_grads": lambda a, n: model.loss_and_grads(a["x"], n, a["eps"], 0.7),
        "keep": lambda a, n: model.loss_and_grads(a["x"], n, a["eps"], input_mask=a["keep"]),
        "observed": lambda a, n: model.loss_and_grads(a["x"], n, a["eps"], observed=a["seen"]),
        "elbo": lambda a, n: (model.elbo(a["x"], n),),
        "parts": lambda a, n: model.parts(a["x"], n, a["eps"]),
        "standardise": lambda a, n: (model.standardise(a["x"]),),
        "infer": lambda a, n: model.infer(a["x"], n, a["eps"]),
        "reconstruct": lambda a, n: (model.reconstruct(a["x"], n, a["eps"]),),
        "sample": lambda a, n: (model.sample(steps=2, prime=a["x"]),),
    }
    if has_state(model):
        calls |= {
            "recompute": lambda a, n: model.loss_and_grads(a["x"], n, a["eps"], recompute=True),
            "chunk": lambda a, n: model.chunk_loss_and_grads(a["x"], n, a["eps"], state=on_device(a["state"])),
        }
    if "iwae" in model.bounds:
        calls |= {
            "train iwae": lambda a, n: model.loss_and_grads(a["x"], n, a["particles"], bound="iwae"),
            "train fivo": lambda a, n: model.loss_and_grads(
                a["x"], n, a["particles"], bound="fivo", uniforms=a["uniforms"]
            ),
            "iwae": lambda a, n: (bounds.iwae(model, a["x"], n, 3),),
            "fivo": lambda a, n: (bounds.fivo(model, a["x"], n, 3),),
        }
    return calls


def bits(results):
    return [to_host(a).tobytes() for result in results for a in (result if isinstance(result, tuple) else (result,))]


# ---- shapes --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(
    options=st.sampled_from(sorted(VARIANTS)),
    likelihood=st.sampled_from(sorted(LIKELIHOODS)),
    sizes=st.fixed_dictionaries(
        {name: st.integers(1, 4) for name in ("B", "x_dim", "h_dim", "z_dim", "features", "layers")}
        | {"T": st.sampled_from([1, 2, 3, 12]), "components": st.integers(1, 3), "seed": st.integers(0, 99)}
    ),
    lengths=st.lists(st.sampled_from([1, 2, 12]), min_size=4, max_size=4),
)
def test_any_shape_has_the_loss_of_the_plain_rewrite(options, likelihood, sizes, lengths):
    """All axes from length 1, a single step beside twelve; the gradient is the loss's slope in a random direction."""
    options = VARIANTS[options]
    taken = {"rnn": ("z_dim",), "vae": ("h_dim",)}.get(options.get("model"), ())
    taken += ("x_dim",) if likelihood == "pen" else ()
    sizes = {name: size for name, size in sizes.items() if name not in taken}
    model, x, _, eps = checks.small(likelihood, scale=0.2, **options, **sizes)  # plain.py underflows at extremes
    lengths = np.minimum([len(x), *lengths[1:]][: x.shape[1]], len(x))
    loss, grads, parts = model.loss_and_grads(x, lengths, eps, 0.7)
    terms = TERMS.get(options.get("model"), plain.terms)
    expected = plain.loss(checks.host_params(model), x, lengths, eps, likelihood, 0.7, terms)
    assert abs(loss - expected) < 1e-10 * max(1, abs(expected))
    assert all(part.shape == (x.shape[1],) for part in parts) and grads.shape == model.theta.shape
    direction, at = checks.rng(sizes["seed"]).standard_normal(model.theta.shape), model.theta.copy()
    along = []
    for h in (1e-6, -1e-6):
        model.theta[...] = at + h * direction
        along.append(model.loss_and_grads(x, lengths, eps, 0.7)[0])
    slope = (along[0] - along[1]) / 2e-6
    assert abs(slope - grads @ direction) < 1e-5 * max(1, np.linalg.norm(grads) * np.linalg.norm(direction))


@every
@every_likelihood
def test_one_step_of_one_sequence_of_one_latent_goes_through_everything(options, likelihood):
    sizes = {"T": 1, "B": 1, **({} if options.get("model") == "rnn" else {"z_dim": 1})}
    model, arrays, lengths = given_of(likelihood, **options, **sizes)
    for name, call in calls_of(model).items():
        found = call(arrays, lengths)
        assert all(np.isfinite(to_host(a)).all() for r in found for a in (r if isinstance(r, tuple) else (r,))), name
    sequences = tv.Sequences.from_list([arrays["x"][:, 0]])
    for bound in model.bounds:
        assert bounds.evaluate(model, sequences, bound, 2).steps == 1
    assert np.isnan(bounds.evaluate_elbo(model, sequences).standard_error)


@pytest.mark.one_in(3)
@every
def test_a_step_beside_a_long_sequence_is_that_step_alone(options):
    """Lengths 1 and 200 in one batch, in every result for each sequence."""
    model, x, _, eps = checks.small("gaussian", T=200, B=3, **options)
    together, alone = model.parts(x, [200, 1, 1], eps), model.parts(x[:1, 1:2], None, eps[:1, 1:2])
    checks.assert_close([p[1] for p in together], [p[0] for p in alone], 1e-12, "parts")
    one = tv.Sequences.from_list([x[:1, 1]])
    both = tv.Sequences.from_list([x[:1, 1], x[:, 0]])
    for bound in model.bounds:
        many, single = (bounds.evaluate(model, s, bound, 4, batch_size=1) for s in (both, one))
        assert many.steps == 201 and single.steps == 1 and many.per_sequence < single.per_sequence


# ---- layouts -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(
    options=st.sampled_from(sorted(VARIANTS)),
    likelihood=st.sampled_from(sorted(LIKELIHOODS)),
    backend=st.sampled_from(["numpy", "strict"]),
    sizes=st.fixed_dictionaries({"T": st.integers(1, 5), "B": st.integers(1, 4)}),
    data=st.data(),
)
def test_no_layout_changes_a_bit_or_is_written_to(options, likelihood, backend, sizes, data):
    model, arrays, lengths = given_of(likelihood, backend, **VARIANTS[options], **sizes)
    calls = calls_of(model)
    call = calls[data.draw(st.sampled_from(sorted(calls)))]
    laid_out = {name: LAYOUTS[data.draw(layouts)](a) for name, a in arrays.items()}
    own_lengths = data.draw(st.sampled_from([list, read_only, every_second, lambda n: n.astype("uint8")]))(lengths)
    before = [np.asarray(a).tobytes() for a in (*laid_out.values(), own_lengths, to_host(model.theta))]
    assert bits(call(laid_out, own_lengths)) == bits(call(arrays, lengths))
    assert before == [np.asarray(a).tobytes() for a in (*laid_out.values(), own_lengths, to_host(model.theta))]


@pytest.mark.one_in(3)
@every
def test_products_of_some_size_sum_in_the_same_order(options):
    """At sizes that BLAS computes in blocks; a small product happens to be the same in any layout."""
    model, arrays, lengths = given_of("gaussian", **options, T=20, B=7, x_dim=33)
    for name, call in calls_of(model).items():
        expected = bits(call(arrays, lengths))
        for layout in ("every second", "batch first", "Fortran"):
            assert bits(call({n: LAYOUTS[layout](a) for n, a in arrays.items()}, lengths)) == expected, (name, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", all_pairs.PAIRS)
@pytest.mark.one_in(5)
def test_no_layout_changes_a_pair(name, layout):
    """Up to rounding, since BLAS chooses the order of summation; no argument is written to."""
    pair, lay = all_pairs.PAIRS[name], LAYOUTS[layout]
    p, inputs = all_pairs.random_inputs(pair, leading=(2, 3))
    results = []
    for own in (np.array, lay):
        own_p, own_inputs = {leaf: own(a) for leaf, a in p.items()}, [own(a) for a in inputs]
        outputs, cache = pair.forward(*([own_p] if p else []), *own_inputs)
        upstream = [own(np.cos(np.arange(a.size)).reshape(a.shape)) for a in _as_tuple(outputs)]
        watched = [*own_p.values(), *own_inputs, *upstream, *checks.arrays_in(cache)]
        before = [a.tobytes() for a in watched]
        found = pair.backward(own_p, cache, *upstream) if p else (pair.backward(cache, *upstream), {})
        assert before == [a.tobytes() for a in watched]
        results.append([*_as_tuple(outputs), *_as_tuple(found[0]), *found[1].values()])
    for expected, found in zip(*results, strict=True):
        checks.assert_close(found, expected, 1e-13, name)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "likelihood, dtype",
    [
        *(("gaussian", dtype) for dtype in ("bool", "int8", "uint8", "int64", "float16", "float64", ">f4", ">i2")),
        *((name, dtype) for name in LIKELIHOODS if name != "gaussian" for dtype in ("bool", ">i2")),
    ],
)
def test_numbers_of_any_dtype_are_those_numbers(likelihood, dtype):
    """Whole numbers as booleans, integers and floats of other widths: the float32 result, bit for bit."""
    for options in VARIANTS.values():
        model, arrays, lengths = given_of(likelihood, **options)
        arrays["x"] = np.round(arrays["x"])
        if likelihood == "categorical":
            arrays["x"] = np.eye(model.x_dim, dtype="float32")[arrays["x"].argmax(axis=-1)]
        for name, call in calls_of(model).items():
            found = bits(call(arrays | {"x": arrays["x"].astype(dtype)}, lengths))
            assert found == bits(call(arrays, lengths)), name


@every
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.one_in(5)
def test_sequences_of_any_layout_have_the_bounds_of_plain_ones(options, layout):
    model, arrays, lengths = given_of("gaussian", **options)
    parts = [arrays["x"][:n, b] for b, n in enumerate(lengths)]
    expected, found = (tv.Sequences.from_list([lay(a) for a in parts]) for lay in (np.array, LAYOUTS[layout]))
    for bound in model.bounds:
        own, plainly = (bounds.evaluate(model, s, bound, 2, batch_size=2) for s in (found, expected))
        np.testing.assert_equal(own, plainly)
    np.testing.assert_equal(bounds.evaluate_elbo(model, found), bounds.evaluate_elbo(model, expected))
    own, plainly = (baselines(tv.Data.from_sequences("mine", s, s, s, False, kind="real")) for s in (found, expected))
    assert own == pytest.approx(plainly, rel=1e-6)


# ---- containers ----------------------------------------------------------------------------------


class With:
    """An object that has an array behind one protocol only, as a tensor or a table of another library does."""

    def __init__(self, a, *names):
        self.a, self.names = a, names

    def __getattr__(self, name):
        if name not in self.names:
            raise AttributeError(name)
        return getattr(self.a, name)


class Table(With):
    def __array__(self, dtype=None, copy=None):
        return np.array(self.a, dtype)

    def __iter__(self):  # as a pandas.DataFrame: the names of its columns
        return iter("abc")


class Exported(With):
    def __dlpack__(self, **options):
        return self.a.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()


class Quiet(np.ndarray):
    """A subclass that finds nothing wrong with its numbers."""

    def min(self, *arguments, **options):
        return np.float32(0)

    max = __lt__ = __gt__ = min


class WithGradient:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.\nUse another call.")


CONTAINERS = {
    "list": np.ndarray.tolist,
    "list of arrays": list,
    "tuple of lists": lambda a: tuple(a.tolist()),
    "__array__": Table,
    "__array_interface__": lambda a: With(a, "__array_interface__"),
    "__dlpack__": Exported,
    "memoryview": lambda a: memoryview(np.ascontiguousarray(a)),
    "masked, none of it": np.ma.array,
    "subclass": lambda a: a.view(Quiet),
}
in_containers = pytest.mark.parametrize("contain", CONTAINERS.values(), ids=CONTAINERS)


def contained(contain, arrays):
    """The arrays in containers, but an empty eps, whose shape a list cannot tell, and a state, which is on a device."""
    return {name: a if a.size == 0 or name == "state" else contain(a) for name, a in arrays.items()}


@in_containers
@pytest.mark.parametrize("options", [{}, {"model": "rnn"}, {"model": "vae"}], ids=str)
@pytest.mark.parametrize("backend", ["numpy", "strict"])
@pytest.mark.one_in(5)
def test_numbers_in_any_container_are_those_numbers(contain, options, backend):
    model, arrays, lengths = given_of("gaussian", backend, **options)
    for name, call in calls_of(model).items():
        assert bits(call(contained(contain, arrays), contain(lengths))) == bits(call(arrays, lengths)), name


BAD = {  # name -> dtype, value
    "NaN": ("float32", np.nan),
    "infinity": ("float64", -np.inf),
    "complex": ("complex64", 1j),
    "text": ("U8", "1"),
    "object": (object, Decimal(1)),
    "date": ("datetime64[s]", 0),
    "above 1": ("float32", 1.5),
}


def takers(model, arrays, lengths):
    """name -> (function, what it is given of x (T, B, X), whether it minds 1.5): all that takes a user's numbers."""
    calls = {name: (lambda x, f=f: f(arrays | {"x": x}, lengths), None, True) for name, f in calls_of(model).items()}
    own = {"theta": model.theta.size, "mean": model.x_dim, "std": model.x_dim}
    for name, size in own.items():
        calls[name] = (lambda x, name=name: setattr(model, name, x), size, False)
    generate = model.params["generate"]
    calls["a leaf"] = (lambda x: generate.update(b1=x), generate["b1"].size, False)
    return calls | {
        "evaluate_elbo": (lambda x: bounds.evaluate_elbo(model, x), "N, T, X", True),
        "evaluate": (lambda x: bounds.evaluate(model, x, "iwae", 2), "N, T, X", True),
        "pad": (tv.pad, "N, T, X", False),
        "Data": (lambda x: tv.Data.from_sequences("mine", arrays["x"], x, arrays["x"]), "N, T, X", False),
        "standardise": (lambda x: tv.Data.from_sequences(*["mine"] + [arrays["x"]] * 3, (x, np.ones(4))), 4, False),
        "Sequences": (lambda x: tv.Sequences(x, [5] * 4), "steps, X", False),
    }


def laid_out(x, size):
    """Numbers of x (T, B, X) that begin with x[0, 0], in another shape."""
    if size == "N, T, X":
        return np.ascontiguousarray(x.swapaxes(0, 1))
    if size == "steps, X":
        return x.reshape(-1, x.shape[2])
    return x if size is None else np.resize(x, size)


@in_containers
@pytest.mark.parametrize("dtype, value", BAD.values(), ids=BAD)
@pytest.mark.one_in(5)
def test_bad_numbers_are_found_in_any_container(contain, dtype, value):
    model, arrays, lengths = given_of("bernoulli")
    bad = np.zeros(arrays["x"].shape, dtype)
    bad[0, 0, 0] = value
    before = to_host(model.theta).tobytes()
    for name, (call, size, minds) in takers(model, arrays, lengths).items():
        try:
            given = contain(laid_out(bad, size))
        except ValueError:  # no buffer can hold dates
            continue
        if minds or value != 1.5:
            with pytest.raises(tv.TinyvrnnError) as raised:
                call(given)
            assert "\n" not in str(raised.value), name
    assert to_host(model.theta).tobytes() == before


@pytest.mark.parametrize("name", ["x", "eps", "keep", "particles", "uniforms", "state", "lengths"])
def test_what_has_no_numbers_to_read_is_refused_in_one_sentence(name):
    """A masked value, also in a list, a tensor with a gradient, an object with nothing but a length and items."""
    model, arrays, lengths = given_of("gaussian")
    calls, a = calls_of(model), lengths if name == "lengths" else arrays[name]
    by_name = {"keep": "keep", "particles": "train iwae", "uniforms": "train fivo", "state": "chunk"}
    masked = np.ma.array(a, mask=np.zeros(a.shape, bool))
    masked[-1:] = np.ma.masked
    for wrong, says in (
        (masked, "a masked array, whose mask would be ignored"),
        (list(masked), "a masked array, whose mask would be ignored"),
        (WithGradient(), "WithGradient that cannot be read as an array .*requires grad"),
        (tv.Sequences.from_list([np.ones((2, 1))] * 3), "Sequences that cannot be read .*: use tinyvrnn.data.pad"),
        ([[1.0], [1.0, 2.0]], "parts of unequal lengths"),
    ):
        given = (arrays, wrong) if name == "lengths" else (arrays | {name: wrong}, lengths)
        with pytest.raises(tv.DataError, match=says) as raised:
            calls[by_name.get(name, "loss_and_grads")](*given)
        assert "\n" not in str(raised.value)


# ---- what is refused -----------------------------------------------------------------------------

X = np.full((5, 4, 4), 0.5, "float32")
REFUSED = {
    "nothing": (None, None, "Expected x of shape"),
    "one sequence": (X[:, 0], None, "Expected x of shape"),
    "four axes": (X[None], None, "Expected x of shape"),
    "no steps": (X[:0], None, "Expected x of shape"),
    "no sequences": (X[:, :0], None, "Expected x of shape"),
    "another width": (X[..., :3], None, "Expected x of shape"),
    "batch first, lengths of it": (X.swapaxes(0, 1), [5, 1, 1, 1], "batch-first.*swapaxes"),
    "complex": (X * 1j, None, "real numbers"),
    "objects": (X.astype(object), None, "real numbers"),
    "text": (X.astype(str), None, "real numbers"),
    "dates": (np.zeros(X.shape, "datetime64[s]"), None, "real numbers"),
    "NaN": (np.where(X == X.max(), np.nan, X), None, "NaN or infinite"),
    "too large for float32": (X.astype("float64") * 1e300, None, "standardise"),
    "a length of 0": (X, [5, 0, 1, 1], "Expected lengths"),
    "a length too large": (X, [5, 6, 1, 1], "Expected lengths"),
    "a negative length": (X, np.array([5, -1, 1, 1], "int8"), "Expected lengths"),
    "lengths as floats": (X, np.array([5.0, 1, 1, 1]), "Expected lengths"),
    "lengths as booleans": (X, [True] * 4, "Expected lengths"),
    "a length too few": (X, [5, 1, 1], "Expected lengths"),
    "one number as lengths": (X, 5, "Expected"),
}


@every
@pytest.mark.parametrize("x, lengths, says", REFUSED.values(), ids=REFUSED)
@pytest.mark.one_in(3)
def test_what_is_no_batch_is_refused_in_one_sentence(options, x, lengths, says):
    if options.get("model") == "vae" and getattr(x, "ndim", None) == 2:
        pytest.skip("a VAE takes single steps (B, X)")
    model, *_ = checks.small("gaussian", dtype="float32", **options)
    for call in (model.loss_and_grads, model.elbo, model.reconstruct):
        with pytest.raises(tv.TinyvrnnError, match=says) as raised:
            call(x, lengths)
        assert "\n" not in str(raised.value).strip()
