"""The exercises of notebook 06, Backward by hand I: linear layer, softplus, MLP, KL, reparameterisation."""

from types import SimpleNamespace

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions import gaussian
from tinyvrnn.errors import GradientError
from tinyvrnn.gradcheck import check_pair
from tinyvrnn.nn import activations, linear, mlp
from tinyvrnn.nn.activations import sigmoid

# ---- 06.1: the linear layer ----------------------------------------------------------------------


def linear_backward(W, x, dy):
    dx, grads = linear.linear_backward({"W": W, "b": W[0]}, linear.LinearCache((x,)), dy)
    return dx, grads["W"], grads["b"]


def draw_linear(rng):
    leading, D, E = [(5,), (3, 4), (2, 3, 2)][rng.integers(3)], *rng.permutation([2, 3, 6])[:2]
    return rng.standard_normal((D, E)), rng.standard_normal((*leading, D)), rng.standard_normal((*leading, E))


def rows(v):
    return v.reshape(-1, v.shape[-1])


def wrong_linear(dx=lambda W, dy: dy @ W.T, dW=lambda x, dy: rows(x).T @ rows(dy), db=lambda dy: rows(dy).sum(axis=0)):
    return lambda W, x, dy: (dx(W, dy), dW(x, dy), db(dy))


LINEAR = Task(
    "the linear layer",
    "write",
    linear_backward,
    draw_linear,
    ("dx", "dW", "db"),
    (
        Mistake(
            "db is the mean over the rows: it should be their sum, because each row uses b once.",
            wrong_linear(db=lambda dy: rows(dy).mean(axis=0)),
        ),
        Mistake(
            "dW is the mean over the rows: it should be their sum, because L depends on W through every row.",
            wrong_linear(dW=lambda x, dy: rows(x).T @ rows(dy) / len(rows(x))),
        ),
        Mistake(
            "dW and db are means over the rows: they should be sums, because each row uses W and b.",
            wrong_linear(dW=lambda x, dy: rows(x).T @ rows(dy) / len(rows(x)), db=lambda dy: rows(dy).mean(axis=0)),
        ),
        Mistake(
            "dW and db are divided by the length of the first axis: they should be sums over the rows.",
            wrong_linear(dW=lambda x, dy: rows(x).T @ rows(dy) / len(x), db=lambda dy: rows(dy).sum(axis=0) / len(dy)),
        ),
        Mistake(
            "dx multiplies by W instead of its transpose: with a square W the shapes fit all the same.",
            wrong_linear(lambda W, dy: dy @ (W if W.shape[0] == W.shape[1] else W.T)),
        ),
        Mistake(
            "dx ignores dy: it is the row sums of W. What multiplies each column of W?",
            wrong_linear(lambda W, dy: np.ones_like(dy) @ W.T),
        ),
        Mistake(
            "dW ignores the values of x: which factor multiplies W_ij in y_j?",
            wrong_linear(dW=lambda x, dy: rows(np.ones_like(x)).T @ rows(dy)),
        ),
        Mistake(
            "dW has only the last row's share: every row of x and dy is multiplied by the same W.",
            wrong_linear(dW=lambda x, dy: rows(x)[-1:].T @ rows(dy)[-1:]),
        ),
        Mistake(
            "In dW, x.T reverses all axes: with several leading axes its columns do not follow dy's rows.",
            wrong_linear(dW=lambda x, dy: x.T.reshape(x.shape[-1], -1) @ rows(dy)),
        ),
        Mistake(
            "dx is multiplied by x: y is linear in x, so dx does not depend on x.",
            lambda W, x, dy: (x * (dy @ W.T), *linear_backward(W, x, dy)[1:]),
        ),
        Mistake(
            "In dW, x has been reshaped to D rows: that shuffles its entries, a transpose does not.",
            wrong_linear(dW=lambda x, dy: x.reshape(x.shape[-1], -1) @ rows(dy)),
        ),
        Mistake(
            "db sums over the columns too: each column has its own bias.",
            wrong_linear(db=lambda dy: np.full_like(dy[..., :1], dy.sum(), shape=dy.shape[-1])),
        ),
        Mistake(
            "db ignores dy: it is the number of rows.",
            wrong_linear(db=lambda dy: rows(np.ones_like(dy)).sum(axis=0)),
        ),
        Mistake(
            "dx, dW and db all have the wrong sign.",
            lambda W, x, dy: (-(dy @ W.T), -(rows(x).T @ rows(dy)), -rows(dy).sum(axis=0)),
        ),
    ),
    forbidden=(linear.linear_backward, linear.linear_backward_data, linear.linear_backward_params),
)

# ---- 06.2: softplus ------------------------------------------------------------------------------


def softplus_backward(a, dy):
    return activations.softplus_backward(activations.softplus_forward(a)[1], dy)


def draw_softplus(rng):
    a = rng.standard_normal((3, 4)) * 3
    a[0, 0], a[1, 1] = 800.0, -800.0
    return a, rng.standard_normal((3, 4))


SOFTPLUS = Task(
    "softplus",
    "derive",
    softplus_backward,
    draw_softplus,
    ("da",),
    (
        Mistake(
            "Far from 0 the derivative is cut off to 0: for large a it is 1.",
            lambda a, dy: np.where(abs(a) > 15, 0 * a, dy * sigmoid(a)),
        ),
        Mistake(
            "That is the derivative of the sigmoid: you differentiated once too often.",
            lambda a, dy: dy * sigmoid(a) * sigmoid(-a),
        ),
        Mistake("That is the sigmoid of -a: check the sign in the exponent.", lambda a, dy: dy * sigmoid(-a)),
        Mistake(
            "That is the derivative of relu, which softplus only approaches far from 0.", lambda a, dy: dy * (a > 0)
        ),
        Mistake("A factor of the chain rule is missing: where does dy enter?", lambda a, dy: sigmoid(a)),
        Mistake("That is softplus times dy, not its derivative.", lambda a, dy: dy * activations.softplus(a)),
        Mistake("tanh runs from -1 to 1: where does the sigmoid run?", lambda a, dy: dy * np.tanh(a)),
        Mistake(
            "tanh(a / 2) is the sigmoid, stretched: it runs from -1 to 1, the sigmoid from 0 to 1.",
            lambda a, dy: dy * np.tanh(a / 2),
        ),
        Mistake("That is the sigmoid of 2a: it is twice as steep as it should be.", lambda a, dy: dy * sigmoid(2 * a)),
        Mistake("That is the derivative of tanh.", lambda a, dy: dy * (1 - np.tanh(a) ** 2)),
        Mistake(
            "The sigmoid is taken of softplus(a): the derivative is a function of a itself.",
            lambda a, dy: dy * sigmoid(activations.softplus(a)),
        ),
        Mistake("The sign of a is lost: for negative a the derivative goes to 0.", lambda a, dy: dy * sigmoid(abs(a))),
        Mistake(
            "That is e^a, the derivative of the inner function alone: the logarithm has one too.",
            lambda a, dy: dy * np.exp(a),
        ),
        *(
            Mistake(
                f"a is clipped at {c}: farther out the derivative still changes. The hint's function needs no clip.",
                lambda a, dy, c=c: dy * sigmoid(np.clip(a, -c, c)),
            )
            for c in (10, 20)
        ),
    ),
    forbidden=(activations.softplus_backward,),
    points=1,
)

# ---- 06.3: an MLP --------------------------------------------------------------------------------


def mlp_backward(p, x, dy):
    dx, grads = mlp.mlp_backward(p, mlp.mlp_forward(p, x)[1], dy)
    return dx, grads


def draw_mlp(rng):
    widths = [int(w) for w in rng.permutation([3, 4, 5, 6])[:3]]
    p = {name: rng.standard_normal(shape) for name, shape in mlp.shapes(widths).items()}
    return p, rng.standard_normal((7, widths[0])), rng.standard_normal((7, widths[-1]))


MLP_STEPS = {
    "a1": lambda v: v.x @ v.W1 + v.b1,
    "y1": lambda v: np.maximum(v.a1, 0),
    "a2": lambda v: v.y1 @ v.W2 + v.b2,
    "y2": lambda v: np.maximum(v.a2, 0),
    "da2": lambda v: v.dy * (v.a2 > 0),
    "dy1": lambda v: v.da2 @ v.W2.T,
    "da1": lambda v: v.dy1 * (v.a1 > 0),
    "dx": lambda v: v.da1 @ v.W1.T,
    "dW1": lambda v: v.x.T @ v.da1,
    "db1": lambda v: v.da1.sum(axis=0),
    "dW2": lambda v: v.y1.T @ v.da2,
    "db2": lambda v: v.da2.sum(axis=0),
}


def computed(steps, **given):
    """The given values, and those of the steps: name=step(values so far)."""
    v = SimpleNamespace(**given)
    for name, step in steps.items():
        setattr(v, name, step(v))
    return v


def wrong_mlp(**changed):
    """The MLP, forward and backward, with some of its steps changed."""

    def backward(p, x, dy):
        v = computed(MLP_STEPS | changed, x=x, dy=dy, **p)
        return v.dx, {name: getattr(v, f"d{name}") for name in p}

    return backward


MLP = Task(
    "the MLP",
    "write",
    mlp_backward,
    draw_mlp,
    ("dx", "grads"),
    (
        Mistake("The upper ReLU passes every gradient: where a_2 < 0, y_2 is constant.", wrong_mlp(da2=lambda v: v.dy)),
        Mistake(
            "The lower ReLU passes every gradient: where a_1 < 0, y_1 is constant.", wrong_mlp(da1=lambda v: v.dy1)
        ),
        Mistake(
            "Neither ReLU blocks a gradient: this is the backward pass of two linear layers.",
            wrong_mlp(da2=lambda v: v.dy, da1=lambda v: v.dy1),
        ),
        Mistake(
            "The upper ReLU passes a gradient where a_2 is exactly 0: use > 0.",
            wrong_mlp(da2=lambda v: v.dy * (v.a2 >= 0)),
        ),
        Mistake(
            "The lower ReLU passes a gradient where a_1 is exactly 0: use > 0.",
            wrong_mlp(da1=lambda v: v.dy1 * (v.a1 >= 0)),
        ),
        Mistake(
            "Both ReLUs pass a gradient where the pre-activation is exactly 0: use > 0.",
            wrong_mlp(da2=lambda v: v.dy * (v.a2 >= 0), da1=lambda v: v.dy1 * (v.a1 >= 0)),
        ),
        Mistake(
            "Where a pre-activation is exactly 0, half of the gradient passes: use > 0.",
            wrong_mlp(
                da2=lambda v: v.dy * np.heaviside(v.a2, v.a2.dtype.type(0.5)),
                da1=lambda v: v.dy1 * np.heaviside(v.a1, v.a1.dtype.type(0.5)),
            ),
        ),
        *(
            Mistake(
                f"Where a pre-activation is negative, {slope:g} of the gradient passes, as in a leaky ReLU: how "
                "steep is the ReLU there?",
                wrong_mlp(
                    da2=lambda v, slope=slope: np.where(v.a2 > 0, v.dy, slope * v.dy),
                    da1=lambda v, slope=slope: np.where(v.a1 > 0, v.dy1, slope * v.dy1),
                ),
            )
            for slope in (0.01, 0.1, 0.2)
        ),
        Mistake(
            "The upper ReLU blocks negative gradients: what counts is the sign of a_2, not that of dy.",
            wrong_mlp(da2=lambda v: np.maximum(v.dy, 0)),
        ),
        Mistake(
            "The lower ReLU blocks negative gradients: what counts is the sign of a_1, not that of dy_1.",
            wrong_mlp(da1=lambda v: np.maximum(v.dy1, 0)),
        ),
        Mistake(
            "Both ReLUs block negative gradients: what counts is the sign of the pre-activation.",
            wrong_mlp(da2=lambda v: np.maximum(v.dy, 0), da1=lambda v: np.maximum(v.dy1, 0)),
        ),
        Mistake(
            "dy is multiplied by y_2, the ReLU's value: its derivative is 0 or 1.", wrong_mlp(da2=lambda v: v.dy * v.y2)
        ),
        Mistake(
            "dy_1 is multiplied by y_1, the ReLU's value: its derivative is 0 or 1.",
            wrong_mlp(da1=lambda v: v.dy1 * v.y1),
        ),
        Mistake(
            "Both gradients are multiplied by the ReLU's value instead of its derivative, which is 0 or 1.",
            wrong_mlp(da2=lambda v: v.dy * v.y2, da1=lambda v: v.dy1 * v.y1),
        ),
        Mistake("db1 is the mean over the rows: it should be their sum.", wrong_mlp(db1=lambda v: v.da1.mean(axis=0))),
        Mistake("db2 is the mean over the rows: it should be their sum.", wrong_mlp(db2=lambda v: v.da2.mean(axis=0))),
        Mistake(
            "db1 and db2 are means over the rows: they should be sums.",
            wrong_mlp(db1=lambda v: v.da1.mean(axis=0), db2=lambda v: v.da2.mean(axis=0)),
        ),
        Mistake(
            "All gradients of the parameters are divided by the number of rows: they should be sums over the rows.",
            lambda p, x, dy: (mlp_backward(p, x, dy)[0], mlp_backward(p, x, dy / len(x))[1]),
        ),
        Mistake(
            "dW2 uses a_1: does layer 2 read the value before or after the ReLU?",
            wrong_mlp(dW2=lambda v: v.a1.T @ v.da2),
        ),
        Mistake(
            "dW2 and db2 are computed from dy: they need da_2, the gradient below the ReLU.",
            wrong_mlp(dW2=lambda v: v.y1.T @ v.dy, db2=lambda v: v.dy.sum(axis=0)),
        ),
        Mistake("dW2 is computed from dy: it needs da_2, as db2 does.", wrong_mlp(dW2=lambda v: v.y1.T @ v.dy)),
        Mistake("db2 is computed from dy: it needs da_2, as dW2 does.", wrong_mlp(db2=lambda v: v.dy.sum(axis=0))),
        Mistake(
            "dW1 and db1 are computed from dy_1: they need da_1, the gradient below the ReLU.",
            wrong_mlp(dW1=lambda v: v.x.T @ v.dy1, db1=lambda v: v.dy1.sum(axis=0)),
        ),
        Mistake("dW1 is computed from dy_1: it needs da_1, as db1 does.", wrong_mlp(dW1=lambda v: v.x.T @ v.dy1)),
        Mistake(
            "dy_1 is computed from dy: it needs da_2, the gradient below the upper ReLU.",
            wrong_mlp(dy1=lambda v: v.dy @ v.W2.T),
        ),
        Mistake("dx is computed from dy_1: it needs da_1, as dW1 does.", wrong_mlp(dx=lambda v: v.dy1 @ v.W1.T)),
        Mistake(
            "dx is blocked where x < 0, but x has not gone through a ReLU.",
            wrong_mlp(dx=lambda v: (v.da1 @ v.W1.T) * (v.x > 0)),
        ),
        Mistake("The forward pass lacks the first ReLU: layer 2 reads a_1.", wrong_mlp(y1=lambda v: v.a1)),
        Mistake("The forward pass lacks b1.", wrong_mlp(a1=lambda v: v.x @ v.W1)),
        Mistake("The forward pass lacks b2, and the ReLU's mask depends on it.", wrong_mlp(a2=lambda v: v.y1 @ v.W2)),
        Mistake("The forward pass lacks both biases.", wrong_mlp(a1=lambda v: v.x @ v.W1, a2=lambda v: v.y1 @ v.W2)),
        Mistake("dy1 uses |W2|: keep the signs of W2.", wrong_mlp(dy1=lambda v: v.da2 @ abs(v.W2).T)),
    ),
    forbidden=(mlp.mlp_backward, mlp.mlp_backward_data, mlp.mlp_backward_params),
    points=3,
)

# ---- 06.4: the KL --------------------------------------------------------------------------------


def kl_backward(mu_z, sigma_z, mu_0, sigma_0, dkl):
    return gaussian.gaussian_kl_backward(gaussian.gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)[1], dkl)


def draw_kl(rng):
    shape = [(3, 2), (4, 2, 5)][rng.integers(2)]
    mu_z, mu_0 = rng.standard_normal((2, *shape))
    sigma_z, sigma_0 = np.exp(0.5 * rng.standard_normal((2, *shape)))
    return mu_z, sigma_z, mu_0, sigma_0, rng.standard_normal(shape[:-1])


KL_STEPS = {
    "g": lambda v: v.dkl[..., None],
    "far": lambda v: v.mu_z - v.mu_0,
    "pull": lambda v: v.far / v.sigma_0**2,
    "own": lambda v: 1 / v.sigma_z,
    "wide": lambda v: v.sigma_z / v.sigma_0**2,
    "prior": lambda v: 1 / v.sigma_0,
    "squares": lambda v: (v.sigma_z**2 + v.far**2) / v.sigma_0**3,
    "dmu_z": lambda v: v.g * v.pull,
    "dsigma_z": lambda v: v.g * (v.wide - v.own),
    "dmu_0": lambda v: -v.g * v.pull,
    "dsigma_0": lambda v: v.g * (v.prior - v.squares),
}


def wrong_kl(in_z=None, in_0=None, **changed):
    """The backward pass of the KL with some of its steps changed; in_z, in_0: what the dsigmas are multiplied by."""

    def backward(mu_z, sigma_z, mu_0, sigma_0, dkl):
        v = computed(KL_STEPS | changed, mu_z=mu_z, sigma_z=sigma_z, mu_0=mu_0, sigma_0=sigma_0, dkl=dkl)
        scale_z, scale_0 = in_z(sigma_z) if in_z else 1.0, in_0(sigma_0) if in_0 else 1.0
        return v.dmu_z, v.dsigma_z * scale_z, v.dmu_0, v.dsigma_0 * scale_0

    return backward


def variance(sigma):
    return 1 / (2 * sigma)


KL = Task(
    "the Gaussian KL",
    "derive",
    kl_backward,
    draw_kl,
    ("dmu_z", "dsigma_z", "dmu_0", "dsigma_0"),
    (
        Mistake(
            "dsigma_z lacks the derivative of -log sigma_z: without it the best sigma_z would be 0.",
            wrong_kl(own=lambda v: 0.0),
        ),
        Mistake(
            "dsigma_z has the derivative of +log sigma_z: in the KL, log sigma_z has a minus.",
            wrong_kl(own=lambda v: -1 / v.sigma_z),
        ),
        Mistake(
            "In dsigma_z the derivative of log sigma_z is 1: it should be 1 / sigma_z.", wrong_kl(own=lambda v: 1.0)
        ),
        Mistake(
            "dsigma_z has 1 / sigma_z^2: the derivative of a logarithm has the power -1.",
            wrong_kl(own=lambda v: v.sigma_z**-2),
        ),
        Mistake(
            "In dsigma_z the 2 of the denominator is left: the derivative of the square cancels it.",
            wrong_kl(wide=lambda v: v.sigma_z / (2 * v.sigma_0**2)),
        ),
        Mistake(
            "In dsigma_z the factor 1/2 of the squares is lost.",
            wrong_kl(wide=lambda v: 2 * v.sigma_z / v.sigma_0**2),
        ),
        Mistake(
            "In dsigma_z, sigma_z^2 is divided by the wrong power of sigma_0.",
            wrong_kl(wide=lambda v: v.sigma_z / v.sigma_0),
        ),
        Mistake(
            "dmu_0 has the sign of dmu_z: moving the prior towards q must decrease the KL.",
            wrong_kl(dmu_0=lambda v: v.g * v.pull),
        ),
        Mistake(
            "dmu_z and dmu_0 are not divided by the prior's variance.",
            wrong_kl(pull=lambda v: v.far),
        ),
        Mistake(
            "dmu_z and dmu_0 are divided by sigma_0: it should be a variance.",
            wrong_kl(pull=lambda v: v.far / v.sigma_0),
        ),
        Mistake(
            "dmu_z and dmu_0 are divided by sigma_z^2: which variance divides the squares in the KL?",
            wrong_kl(pull=lambda v: v.far / v.sigma_z**2),
        ),
        Mistake(
            "dmu_z and dmu_0 are half of what they should be: the derivative of the square has a factor 2.",
            wrong_kl(pull=lambda v: v.far / (2 * v.sigma_0**2)),
        ),
        Mistake(
            "dmu_z and dmu_0 are twice what they should be: the squares in the KL have a factor 1/2.",
            wrong_kl(pull=lambda v: 2 * v.far / v.sigma_0**2),
        ),
        Mistake(
            "dmu_z and dmu_0 have each other's sign: moving q away from the prior must increase the KL.",
            wrong_kl(pull=lambda v: -v.far / v.sigma_0**2),
        ),
        Mistake(
            "dsigma_0 lacks the derivative of log sigma_0: without it the best prior would be infinitely wide.",
            wrong_kl(prior=lambda v: 0.0),
        ),
        Mistake(
            "Those are derivatives with respect to the variances: the code uses standard deviations.",
            wrong_kl(variance, variance),
        ),
        Mistake(
            "Those are derivatives with respect to log sigma_z and log sigma_0: the arguments are standard deviations.",
            wrong_kl(np.copy, np.copy),
        ),
        Mistake("dsigma_z is the derivative with respect to log sigma_z: the argument is sigma_z.", wrong_kl(np.copy)),
        Mistake(
            "Those are derivatives with respect to log-variances: the arguments are standard deviations.",
            wrong_kl(lambda sigma: sigma / 2, lambda sigma: sigma / 2),
        ),
        Mistake(
            "dsigma_0 lacks the derivative of the squares: a wider prior makes distant means cheaper.",
            wrong_kl(squares=lambda v: 0.0),
        ),
        Mistake(
            "dsigma_0 lacks one of two squares: sigma_0 also divides the distance of the means.",
            wrong_kl(squares=lambda v: v.sigma_z**2 / v.sigma_0**3),
        ),
        Mistake(
            "dsigma_0 lacks one of two squares: sigma_0 also divides q's own spread.",
            wrong_kl(squares=lambda v: v.far**2 / v.sigma_0**3),
        ),
        Mistake(
            "The squares in dsigma_0 are divided by the wrong power of sigma_0: what is the derivative of 1 / sigma^2?",
            wrong_kl(squares=lambda v: (v.sigma_z**2 + v.far**2) / v.sigma_0**2),
        ),
        Mistake(
            "dsigma_0 has 1 / sigma_0^4: differentiating 1 / sigma^2 lowers the power by one, not by two.",
            wrong_kl(squares=lambda v: (v.sigma_z**2 + v.far**2) / v.sigma_0**4),
        ),
        Mistake(
            "The squares in dsigma_0 are half of what they should be: the power -2 of sigma_0 comes down as a factor.",
            wrong_kl(squares=lambda v: (v.sigma_z**2 + v.far**2) / (2 * v.sigma_0**3)),
        ),
        Mistake(
            "The squares in dsigma_0 have the wrong sign: a wider prior makes them smaller.",
            wrong_kl(squares=lambda v: -(v.sigma_z**2 + v.far**2) / v.sigma_0**3),
        ),
        Mistake(
            "dsigma_0 has the wrong sign: a prior that is far too wide must become more expensive with more width.",
            wrong_kl(in_0=lambda sigma: -1.0),
        ),
        Mistake(
            "dsigma_z has the wrong sign: once q is wider than the prior, more width must increase the KL.",
            wrong_kl(in_z=lambda sigma: -1.0),
        ),
        Mistake(
            "Those are the derivatives of KL(prior || q): the KL of the bound is KL(q || prior).",
            lambda mu_z, sigma_z, mu_0, sigma_0, dkl: (lambda d: (*d[2:], *d[:2]))(
                kl_backward(mu_0, sigma_0, mu_z, sigma_z, dkl)
            ),
        ),
        Mistake(
            "Those are the derivatives of the KL to N(0, 1), and dmu_0 is -dmu_z: where do mu_0 and sigma_0 enter?",
            wrong_kl(
                dmu_z=lambda v: v.g * v.mu_z,
                dsigma_z=lambda v: v.g * (v.sigma_z - v.own),
                dmu_0=lambda v: -v.g * v.mu_z,
                dsigma_0=lambda v: 0 * v.sigma_0,
            ),
        ),
        Mistake("dkl is not used.", wrong_kl(g=lambda v: 1.0)),
        Mistake(
            "dkl is missing in dsigma_z and dsigma_0.",
            wrong_kl(dsigma_z=lambda v: v.wide - v.own, dsigma_0=lambda v: v.prior - v.squares),
        ),
        Mistake(
            "dkl is divided by the number of latent dimensions: the KL is a sum over them, not a mean.",
            wrong_kl(g=lambda v: v.dkl[..., None] / v.mu_z.shape[-1]),
        ),
        Mistake("dkl is averaged over the rows: each row has its own.", wrong_kl(g=lambda v: v.dkl.mean())),
        Mistake("dkl is summed over the rows: each row has its own.", wrong_kl(g=lambda v: v.dkl.sum())),
        Mistake(
            "dkl multiplies the latent dimensions instead of the rows: restore the last axis, as the text says.",
            wrong_kl(g=lambda v: v.dkl if v.dkl.shape == v.mu_z.shape[1:] else v.dkl[..., None]),
        ),
    ),
    forbidden=(gaussian.gaussian_kl_backward, gaussian.kl_of_each_backward),
    points=3,
)

# ---- 06.5: reparameterisation --------------------------------------------------------------------


def reparameterise_backward(mu, sigma, eps, dz):
    return gaussian.reparameterise_backward((eps, sigma), dz)[:2]


def draw_reparameterise(rng):
    shape = [(3, 2), (4, 2, 5)][rng.integers(2)]
    mu, eps, dz = rng.standard_normal((3, *shape))
    return mu, np.exp(0.5 * rng.standard_normal(shape)), eps, dz


REPARAMETERISE = Task(
    "the reparameterised draw",
    "write",
    reparameterise_backward,
    draw_reparameterise,
    ("dmu", "dsigma"),
    (
        Mistake(
            "dsigma is the derivative of mu + sigma^2 eps, a draw with the variance.",
            lambda mu, sigma, eps, dz: (dz, 2 * dz * sigma * eps),
        ),
        Mistake("dsigma lacks eps: how far does z move when sigma grows by 1?", lambda mu, sigma, eps, dz: (dz, dz)),
        Mistake(
            "dsigma multiplies by sigma: that is the derivative with respect to eps.",
            lambda mu, sigma, eps, dz: (dz, dz * sigma),
        ),
        Mistake(
            "dsigma multiplies by sigma too: that is the derivative with respect to log sigma.",
            lambda mu, sigma, eps, dz: (dz, dz * eps * sigma),
        ),
        Mistake(
            "dmu multiplies by eps: how far does z move when mu grows by 1?",
            lambda mu, sigma, eps, dz: (dz * eps, dz * eps),
        ),
        Mistake("No gradient reaches sigma: it is treated as a constant.", lambda mu, sigma, eps, dz: (dz, 0 * dz)),
        Mistake(
            "dsigma has |eps|: a draw below the mean moves down when sigma grows.",
            lambda mu, sigma, eps, dz: (dz, dz * abs(eps)),
        ),
        Mistake("dz is not used.", lambda mu, sigma, eps, dz: (np.ones_like(dz), eps.copy())),
        Mistake(
            "dmu is dz_i / dmu_i alone: multiply it by the upstream gradient.",
            lambda mu, sigma, eps, dz: (np.ones_like(dz), dz * eps),
        ),
        Mistake(
            "dsigma is dz_i / dsigma_i alone: multiply it by the upstream gradient.",
            lambda mu, sigma, eps, dz: (dz, eps.copy()),
        ),
        Mistake(
            "dmu multiplies by mu: how far does z move when mu grows by 1?",
            lambda mu, sigma, eps, dz: (dz * mu, dz * eps),
        ),
        Mistake(
            "dsigma multiplies by z itself, but mu is not scaled by sigma.",
            lambda mu, sigma, eps, dz: (dz, dz * (mu + sigma * eps)),
        ),
        Mistake(
            "dsigma has eps^2: z is linear in eps.",
            lambda mu, sigma, eps, dz: (dz, dz * eps**2),
        ),
        Mistake(
            "dsigma is the derivative with respect to the log-variance: the argument is sigma.",
            lambda mu, sigma, eps, dz: (dz, 0.5 * dz * eps * sigma),
        ),
        Mistake(
            "dsigma is the derivative with respect to the variance: the argument is sigma.",
            lambda mu, sigma, eps, dz: (dz, 0.5 * dz * eps / sigma),
        ),
        Mistake(
            "dsigma is divided by sigma: z is linear in sigma, so its derivative does not depend on sigma.",
            lambda mu, sigma, eps, dz: (dz, dz * eps / sigma),
        ),
        Mistake(
            "Those are the derivatives of log N(z; mu, sigma^2), which the score estimator uses: z itself is a "
            "function of mu and sigma here.",
            lambda mu, sigma, eps, dz: (dz * eps / sigma, dz * (eps**2 - 1) / sigma),
        ),
    ),
    forbidden=(gaussian.reparameterise_backward,),
    points=1,
)

# ---- 06.6: how the check can fool you ------------------------------------------------------------


def draw_with_variance(mu, sigma, eps):
    return mu + sigma**2 * eps, (eps, sigma)


def draw_with_variance_backward(cache, dz):
    eps, sigma = cache
    return dz, 2 * dz * sigma * eps, dz * sigma**2


def who_sees_the_variance():
    """The names of the checks that fail for a draw with sigma^2, wrong in forward and backward alike."""
    rng = np.random.default_rng(0)
    mu, sigma, eps = np.full((200, 50), 1.0), np.full((200, 50), 2.0), rng.standard_normal((200, 50))
    seen = set()
    try:
        few = mu[:3, :2].copy(), sigma[:3, :2].copy(), eps[:3, :2].copy()
        check_pair(draw_with_variance, draw_with_variance_backward, None, *few)
    except GradientError:
        seen.add("gradient")
    z, n = draw_with_variance(mu, sigma, eps)[0], mu.size
    if abs(z.mean() - 1) > 4 * z.std() / n**0.5:
        seen.add("mean")
    if abs(z.std() - 2) > 4 * z.std() / (2 * n) ** 0.5:
        seen.add("deviation")
    if z.shape != mu.shape:
        seen.add("shape")
    return seen


FOOLED = Prediction(
    "which checks fail?",
    who_sees_the_variance,
    (
        Mistake(
            "The gradient check compares the backward with the forward pass. Both are wrong in the same way.",
            {"gradient"},
        ),
        Mistake(
            "The gradient check compares the backward with the forward pass. Do those two disagree?",
            {"gradient", "deviation"},
        ),
        Mistake("eps has mean 0, whatever factor multiplies it: what is the mean of z?", {"mean"}),
        Mistake("eps has mean 0, whatever factor multiplies it: is the mean of z wrong too?", {"mean", "deviation"}),
        Mistake("One check fails: with sigma = 2, how far do the draws spread?", set()),
        Mistake("sigma^2 has the same shape as sigma.", {"shape"}),
        Mistake("One of the two fails. The other: sigma^2 has the same shape as sigma.", {"shape", "deviation"}),
        Mistake(
            "One of the three fails: eps has mean 0 whatever multiplies it, and the two passes belong together.",
            {"gradient", "mean", "deviation"},
        ),
        Mistake(
            "eps has mean 0 whatever multiplies it, and the two passes belong together: what is left?",
            {"gradient", "mean"},
        ),
    ),
)

EXERCISES = {"06.1": LINEAR, "06.2": SOFTPLUS, "06.3": MLP, "06.4": KL, "06.5": REPARAMETERISE, "06.6": FOOLED}
