"""One fit for each group of comparisons."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from softmap import _runtime
from softmap.comparisons import Comparisons, check_comparisons, compared_items
from softmap.diagnostics import listed
from softmap.errors import DataWarning
from softmap.fit import fit
from softmap.result import Fit

_MANY_PAIRS = 3000  # of a group: below, threads would only wait for each other's Python


class FitGroups(Mapping[Hashable, Fit]):
    """Fits by group, as `fit_groups` returns them.

    Attributes
    ----------
    failed : dict of group to message
        Groups that could not be fitted, and why; they are not among the keys.
    """

    def __init__(self, fits: dict[Hashable, Fit], failed: dict[Hashable, str]) -> None:
        self._fits, self.failed = fits, failed

    def __getitem__(self, group: Hashable) -> Fit:
        if group in self.failed:
            raise KeyError(f"{group!r} failed: {self.failed[group]}")
        return self._fits[group]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._fits)

    def __len__(self) -> int:
        return len(self._fits)

    def __repr__(self) -> str:
        return (
            f"FitGroups({listed(self)}" + f"; {len(self.failed)} failed" * bool(self.failed) + ")"
        )


def fit_groups(
    comparisons: Comparisons,
    *,
    link: str = "logit",
    ties: str = "half",
    tie_strength: float | str = "estimate",
    first_advantage: float | str = 0.0,
    prior_sd: float = 10.0,
    prior_mean: float = 0.0,
    anchors: Mapping[Any, float] | None = None,
    level: float = 0.95,
    errors: str | None = None,
    tol: float = 1e-10,
    max_iter: int = 100,
    on_trouble: str = "warn",
) -> FitGroups:
    """Fit each group of the comparisons by itself, with the items that it compares.

    Parameters
    ----------
    comparisons : Comparisons
        Made with `groups`.
    link, ties, tie_strength, first_advantage, prior_sd, prior_mean, anchors, level, errors, tol, \
    max_iter
        As in `fit`. Anchors that a group does not compare are left out there.
    on_trouble : "warn", "raise" or "ignore", default "warn"
        One `DataWarning` for all groups with findings and all that failed.

    Returns
    -------
    FitGroups
        A mapping of group to `Fit`. A group that cannot be fitted is in `failed`, not raised.

    Raises
    ------
    ValueError
        Comparisons without groups.

    Examples
    --------
    >>> c = Comparisons.from_pairs(["a", "b", "b"], ["b", "a", "a"], groups=["x", "x", "y"])
    >>> found = fit_groups(c, prior_sd=float("inf"), on_trouble="ignore")
    >>> found
    FitGroups(x; 1 failed)
    >>> found.failed["y"].partition(": ")[2]
    'prior_sd = inf, no unique maximum exists: b never lost; a never won (give a finite prior_sd)'
    """
    check_comparisons("fit_groups", comparisons)
    if not comparisons.groups:
        cure = "use Comparisons.from_pairs with groups="
        raise ValueError(f"fit_groups: these comparisons have no groups ({cure})")

    def fitted(part: Comparisons) -> Fit | ValueError:
        used = compared_items(part)
        if used.size < len(part.items):
            part = part.among(tuple(part.items[k] for k in used))
        known = {*part.items} if anchors else set()
        try:
            return fit(
                part,
                link=link,
                ties=ties,
                tie_strength=tie_strength,
                first_advantage=first_advantage,
                prior_sd=prior_sd,
                prior_mean=prior_mean,
                anchors={k: v for k, v in (anchors or {}).items() if k in known},
                level=level,
                errors=errors,
                tol=tol,
                max_iter=max_iter,
                on_trouble="ignore",
            )
        except ValueError as error:
            return error

    fits: dict[Hashable, Fit] = {}
    failed: dict[Hashable, str] = {}
    trouble = []
    names, parts = zip(*comparisons.groups, strict=True)
    n_threads = 1
    if sum(part.left.size for part in parts) > _MANY_PAIRS * len(parts):
        n_threads = min(_runtime.num_threads(), len(parts))
    with ThreadPoolExecutor(n_threads) as pool:
        for name, result in zip(names, pool.map(fitted, parts), strict=True):
            if isinstance(result, ValueError):
                failed[name] = str(result)
                trouble.append(f"{name}: {result}")
                continue
            fits[name] = result
            codes = dict.fromkeys(f.code for f in result.diagnostics.findings)
            trouble += [f"{name}: {', '.join(codes)}"] * bool(codes)
    if trouble and on_trouble != "ignore":
        message = DataWarning("fit_groups: " + "; ".join(trouble))
        if on_trouble == "raise":
            raise message
        warnings.warn(message, stacklevel=2)
    return FitGroups(fits, failed)
