"""Clipping and Adam, each one operation on the flat vectors of gradients and parameters."""

from tinyvrnn.backend import namespace


def clip_by_global_norm(grads, max_norm):
    """Scales grads in place to a norm of at most max_norm (Pascanu et al., 2013). Returns the norm before, 0-d.

    It must come BEFORE the optimiser's step: clipping afterwards changes nothing that was stepped with.
    """
    xp = namespace(grads)
    norm = xp.sqrt(xp.dot(grads, grads))
    grads *= xp.minimum(max_norm / (norm + 1e-12), 1.0)
    return norm


class Adam:
    """Adam (Kingma and Ba, 2015, arXiv:1412.6980) on one flat vector theta, which `step` changes in place.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  theta -= lr (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)
    """

    def __init__(self, theta, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8):
        xp = namespace(theta)
        self.lr, self.b1, self.b2, self.eps, self.k = lr, b1, b2, eps, 0
        self.m, self.v, self._scratch = xp.zeros_like(theta), xp.zeros_like(theta), xp.empty_like(theta)

    def step(self, theta, grads, lr=None):
        """One step with the gradients `grads`, (P,) like theta; lr overrides the rate for this step."""
        xp, s, lr = namespace(theta), self._scratch, self.lr if lr is None else lr
        self.k += 1
        self.m *= self.b1
        self.m += xp.multiply(grads, 1 - self.b1, out=s)
        xp.multiply(grads, grads, out=s)
        s *= 1 - self.b2
        self.v *= self.b2
        self.v += s
        xp.sqrt(self.v, out=s)
        s *= (1 - self.b2**self.k) ** -0.5
        s += self.eps
        xp.divide(self.m, s, out=s)
        s *= lr / (1 - self.b1**self.k)
        theta -= s
