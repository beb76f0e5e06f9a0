"""The exercises of notebook 06, Backward by hand I: linear layer, softplus, MLP, KL, reparameterisation."""

import numpy as np

from tinyvrnn.course.exercise import Mistake, Prediction, Task
from tinyvrnn.distributions import gaussian
from tinyvrnn.errors import GradientError
from tinyvrnn.gradcheck import check_pair
from tinyvrnn.nn import activations, linear, mlp

# ---- 06.1: the linear layer ----------------------------------------------------------------------


def linear_backward(W, x, dy):
    dx, grads = linear.linear_backward({"W": W, "b": W[0]}, linear.LinearCache((x,)), dy)
    return dx, grads["W"], grads["b"]


def draw_linear(rng):
    leading, D, E = [(5,), (3, 4), (2, 3, 2)][rng.integers(3)], *rng.permutation([2, 3, 6])[:2]
    return rng.standard_normal((D, E)), rng.standard_normal((*leading, D)), rng.standard_normal((*leading, E))


def rows(v):
    return v.reshape(-1, v.shape[-1])


LINEAR = Task(
    "the linear layer",
    "write",
    linear_backward,
    draw_linear,
    ("dx", "dW", "db"),
    (
        Mistake(
            "db is the mean over the rows: it should be their sum, because each row uses b once.",
            lambda W, x, dy: (dy @ W.T, rows(x).T @ rows(dy), rows(dy).mean(axis=0)),
        ),
        Mistake(
            "dW is the mean over the rows: it should be their sum, because L depends on W through every row.",
            lambda W, x, dy: (dy @ W.T, rows(x).T @ rows(dy) / len(rows(x)), rows(dy).sum(axis=0)),
        ),
        Mistake(
            "dx ignores dy: it is the row sums of W. What multiplies each column of W?",
            lambda W, x, dy: (np.ones_like(dy) @ W.T, rows(x).T @ rows(dy), rows(dy).sum(axis=0)),
        ),
        Mistake(
            "dW ignores the values of x: which factor multiplies W_ij in y_j?",
            lambda W, x, dy: (dy @ W.T, rows(np.ones_like(x)).T @ rows(dy), rows(dy).sum(axis=0)),
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


def sigmoid(a):
    return 0.5 * np.tanh(0.5 * a) + 0.5


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


def wrong_mlp(second=True, first=True, W2=lambda W: W, b1=np.sum):
    """The backward pass of an MLP with one thing changed."""

    def backward(p, x, dy):
        a1 = x @ p["W1"] + p["b1"]
        y1 = np.maximum(a1, 0)
        da2 = dy * (y1 @ p["W2"] + p["b2"] > 0) if second else dy
        dy1 = da2 @ W2(p["W2"]).T
        da1 = dy1 * (a1 > 0) if first else dy1
        return da1 @ p["W1"].T, {"W1": x.T @ da1, "b1": b1(da1, axis=0), "W2": y1.T @ da2, "b2": da2.sum(axis=0)}

    return backward


def wrong_mlp_input(p, x, dy):
    dx, grads = wrong_mlp()(p, x, dy)
    a2 = np.maximum(x @ p["W1"] + p["b1"], 0) @ p["W2"] + p["b2"]
    return dx, grads | {"W2": (x @ p["W1"] + p["b1"]).T @ (dy * (a2 > 0))}


MLP = Task(
    "the MLP",
    "write",
    mlp_backward,
    draw_mlp,
    ("dx", "grads"),
    (
        Mistake("The upper ReLU passes every gradient: where a_2 < 0, y_2 is constant.", wrong_mlp(second=False)),
        Mistake("The lower ReLU passes every gradient: where a_1 < 0, y_1 is constant.", wrong_mlp(first=False)),
        Mistake(
            "Neither ReLU blocks a gradient: this is the backward pass of two linear layers.", wrong_mlp(False, False)
        ),
        Mistake("db1 is the mean over the rows: it should be their sum.", wrong_mlp(b1=np.mean)),
        Mistake("dW2 uses a_1: does layer 2 read the value before or after the ReLU?", wrong_mlp_input),
        Mistake("dy1 uses |W2|: keep the signs of W2.", wrong_mlp(W2=np.abs)),
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


def wrong_kl(own=1.0, var=False, mean=1.0, prior=1.0, far=1.0, wide=1.0, power=3, sign=1.0):
    """The backward pass of the KL with one thing changed."""

    def backward(mu_z, sigma_z, mu_0, sigma_0, dkl):
        delta, d = (mu_z - mu_0) / sigma_0**2, dkl[..., None]
        dsigma_z = sign * d * (sigma_z / sigma_0**2 - own / sigma_z)
        dsigma_0 = d * (prior / sigma_0 - (wide * sigma_z**2 + far * (mu_z - mu_0) ** 2) / sigma_0**power)
        scale = 1 / (2 * sigma_z), 1 / (2 * sigma_0)
        if var:
            dsigma_z, dsigma_0 = dsigma_z * scale[0], dsigma_0 * scale[1]
        return d * delta, dsigma_z, -mean * d * delta, dsigma_0

    return backward


KL = Task(
    "the Gaussian KL",
    "derive",
    kl_backward,
    draw_kl,
    ("dmu_z", "dsigma_z", "dmu_0", "dsigma_0"),
    (
        Mistake(
            "dsigma_z lacks the derivative of -log sigma_z: without it the best sigma_z would be 0.", wrong_kl(own=0.0)
        ),
        Mistake("dmu_0 has the sign of dmu_z: moving the prior towards q must decrease the KL.", wrong_kl(mean=-1.0)),
        Mistake(
            "dsigma_0 lacks the derivative of log sigma_0: without it the best prior would be infinitely wide.",
            wrong_kl(prior=0.0),
        ),
        Mistake(
            "Those are derivatives with respect to the variances: the code uses standard deviations.",
            wrong_kl(var=True),
        ),
        Mistake(
            "dsigma_0 lacks the derivative of the squares: a wider prior makes distant means cheaper.",
            wrong_kl(far=0.0, wide=0.0),
        ),
        Mistake(
            "dsigma_0 lacks one of two squares: sigma_0 also divides the distance of the means.", wrong_kl(far=0.0)
        ),
        Mistake("dsigma_0 lacks one of two squares: sigma_0 also divides q's own spread.", wrong_kl(wide=0.0)),
        Mistake(
            "The squares in dsigma_0 are divided by the wrong power of sigma_0: what is the derivative of 1 / sigma^2?",
            wrong_kl(power=2),
        ),
        Mistake(
            "dsigma_z has the wrong sign: once q is wider than the prior, more width must increase the KL.",
            wrong_kl(sign=-1.0),
        ),
        Mistake("dkl is not used.", lambda *arguments: kl_backward(*arguments[:4], np.ones_like(arguments[4]))),
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
    ),
)

EXERCISES = {"06.1": LINEAR, "06.2": SOFTPLUS, "06.3": MLP, "06.4": KL, "06.5": REPARAMETERISE, "06.6": FOOLED}
