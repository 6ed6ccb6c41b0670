"""What softmap is compared with. A library that is not installed is left out.

Every adapter takes the inputs as the library likes them and returns a call without arguments.
"""

import importlib
import importlib.util

import numpy as np
import scipy.optimize
import scipy.special


def installed(name):
    """The module of that name, or None."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


torch = installed("torch")
choix = installed("choix")
evalica = installed("evalica")


def copy(x):
    """The floor: the same bytes, copied into memory that exists."""
    out = np.empty_like(x)

    def call():
        np.copyto(out, x)
        return out

    return call


# Softmax family: rows along the last axis


def softmax_calls(name, x, axis=-1):
    """By library, the operation of that name over an axis of x."""
    plain = getattr(scipy.special, name)
    calls = {"scipy": lambda: plain(x, axis=axis)}
    if torch:
        t, function = torch.from_numpy(x), getattr(torch, name)
        calls["torch"] = lambda: function(t, axis)
        if name != "logsumexp":
            out = torch.empty_like(t)
            calls["torch out="] = lambda: function(t, axis, out=out)
    return calls


def filter_calls(x, rule, amount):
    """The logits processors of transformers, as masks of what is kept: each row is sorted."""
    if not torch:
        return {}
    t = torch.from_numpy(x)

    def top_p():
        ordered, index = torch.sort(t)
        removed = ordered.softmax(-1).cumsum(-1) <= 1 - amount
        removed[..., -1:] = False
        return ~removed.scatter(1, index, removed)

    def typical():
        log_p = torch.log_softmax(t, -1)
        entropy = -(log_p * log_p.exp()).nansum(-1, keepdim=True)
        ordered, index = torch.sort(abs(-log_p - entropy))
        last = (t.gather(-1, index).softmax(-1).cumsum(-1) < amount).sum(1)
        removed = ordered > ordered.gather(1, last.clamp(max=t.shape[-1] - 1)[:, None])
        return ~removed.scatter(1, index, removed)

    def top_k():
        return t >= torch.topk(t, amount)[0][..., -1:]

    return {"torch": {"top_p": top_p, "typical": typical, "top_k": top_k}[rule]}


def root_calls(x, function, target):
    """The official loops: 32 bisections for soft top-k, 10 steps of Newton for TempNet."""
    if not torch:
        return {}
    t = torch.from_numpy(x)
    size = x.shape[-1]

    def sigmoid_sum():
        low, high = -t.amax(-1, keepdim=True) - 10, -t.amin(-1, keepdim=True) + 10
        for _ in range(32):
            middle = (low + high) / 2
            above = torch.sigmoid(t + middle).sum(-1, keepdim=True) > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return ((low + high) / 2)[:, 0]

    def divergence():
        z = t - t.amax(-1, keepdim=True)
        tau = torch.ones_like(z[:, :1])
        for _ in range(10):
            p = torch.softmax(z / tau, -1)
            mean = (p * z).sum(-1, keepdim=True)
            spread = (p * z * z).sum(-1, keepdim=True) - mean**2
            value = torch.logsumexp(z / tau, -1, keepdim=True) + target - np.log(size) - mean / tau
            tau = tau - value / (spread / tau**3)
        return tau[:, 0]

    return {"torch": {"sigmoid_sum": sigmoid_sum, "divergence": divergence}[function]}


def level_calls(x, tokens, levels):
    """Gather the columns, softmax, expectation."""
    weights = np.asarray(levels, x.dtype)

    def plain():
        z = x[:, tokens]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e @ weights / e.sum(axis=1)

    calls = {"numpy": plain}
    if torch:
        t, columns, w = torch.from_numpy(x), torch.tensor(tokens), torch.from_numpy(weights)
        calls["torch"] = lambda: torch.softmax(t[:, columns], -1) @ w
    return calls


# Pairwise likelihood


def preference_calls(scores, link):
    """All pairs, from broadcast differences."""
    function = {"logit": scipy.special.expit, "probit": scipy.special.ndtr}[link]
    calls = {"scipy": lambda: function(scores[..., :, None] - scores[..., None, :])}
    if torch:
        t = torch.from_numpy(scores)
        function_t = {"logit": torch.sigmoid, "probit": torch.special.ndtr}[link]
        calls["torch"] = lambda: function_t(t[..., :, None] - t[..., None, :])
    return calls


def likelihood_calls(scores, wins):
    """Value and gradient from a list of (winner, loser)."""
    if not choix:
        return {}
    data = [(int(i), int(j)) for i, j in np.argwhere(wins) for _ in range(int(wins[i, j]))]
    functions = importlib.import_module("choix.opt").PairwiseFcts(data, 0.0)

    def call():
        return np.r_[-functions.objective(scores), -functions.gradient(scores)]

    return {"choix": call}


# Fits


def newton_numpy(wins, prior_sd, steps=8):
    """Batched Newton for Bradley-Terry with a normal prior, in plain NumPy."""
    wins = np.where(np.eye(wins.shape[-1], dtype=bool), 0, wins)
    games, precision = wins + np.swapaxes(wins, 1, 2), 1 / prior_sd**2
    index = np.arange(wins.shape[-1])

    def call():
        s = np.zeros(wins.shape[:-1])
        for _ in range(steps):
            p = scipy.special.expit(s[:, :, None] - s[:, None, :])
            gradient = (wins - games * p).sum(axis=2) - precision * s
            curve = games * p * (1 - p)
            hessian = -curve
            hessian[:, index, index] = curve.sum(axis=2) - curve[:, index, index] + precision
            s = s + np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        return s

    return call


def newton_scipy(wins, prior_sd):
    """One problem after the other by scipy.optimize.minimize, method trust-exact."""
    n, index = wins.shape[-1], np.arange(wins.shape[-1])
    wins = np.where(np.eye(n, dtype=bool), 0, wins)

    def solve(table):
        games = table + table.T

        def value(s):
            d = s[:, None] - s
            return (s @ s) / (2 * prior_sd**2) - (table * scipy.special.log_expit(d)).sum()

        def gradient(s):
            p = scipy.special.expit(s[:, None] - s)
            return s / prior_sd**2 - (table - games * p).sum(axis=1)

        def hessian(s):
            p = scipy.special.expit(s[:, None] - s)
            h = -games * p * (1 - p)
            h[index, index] = -h.sum(axis=1) + 1 / prior_sd**2
            return h

        start = np.zeros(n)
        options = {"gtol": 1e-8}
        fit = scipy.optimize.minimize(
            value, start, jac=gradient, hess=hessian, method="trust-exact", options=options
        )
        return fit.x

    return lambda: np.array([solve(table) for table in wins])


def adam_torch(preferences, anchors, steps=100):
    """The loop of Compare2Score for one image: Adam on the 6 x 6 table, min-max to 0..100."""

    def call():
        m = len(preferences)
        table = torch.zeros((m + 1, m + 1))
        table[:m, :m] = torch.from_numpy(anchors)
        table[m, :m] = torch.from_numpy(preferences)
        table[:m, m] = 1 - table[m, :m]
        generator = torch.Generator().manual_seed(0)
        s = torch.rand(m + 1, generator=generator).requires_grad_()
        optimizer = torch.optim.Adam([s], lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            p = torch.sigmoid(s[:, None] - s[None, :])
            loss = (s**2).sum() / 2 - (table * torch.log(p.clamp(min=1e-6))).sum()
            loss.backward()
            optimizer.step()
        r = s.detach()
        return float(100 * (r[-1] - r.min()) / (r.max() - r.min()))

    return call


def leaderboard_calls(left, right, n_items):
    """Maximum likelihood where left[k] beat right[k], as centred log strengths."""
    calls = {}
    if choix:
        data = list(zip(left.tolist(), right.tolist(), strict=True))
        calls["choix ilsr"] = lambda: choix.ilsr_pairwise(n_items, data)
    if evalica:
        xs, ys = left.tolist(), right.tolist()
        winners = [evalica.Winner.X] * len(xs)

        def bradley_terry():
            scores = evalica.bradley_terry(xs, ys, winners, limit=1000).scores
            logs = np.log(np.asarray(scores.sort_index()))
            return logs - logs.mean()

        calls["evalica"] = bradley_terry
    return calls
