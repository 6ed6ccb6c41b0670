"""Logits and comparisons in, scores out.

The softmax family (`softmax`, `log_softmax`, `logsumexp`, `level_scores`, `choice_probabilities`,
`row_filter`, `row_root`), pairwise likelihoods (`preference`, `preference_matrix`,
`outcome_matrices`, `log_likelihood`) and maximum a posteriori scores (`fit_many`,
`score_against_anchors`; `Comparisons` and `fit` for labelled data). The scoring systems of papers
are in `softmap.systems`.
"""

from softmap._cycles import Intransitivity, intransitivity
from softmap.choices import ChoiceProbabilities, choice_probabilities
from softmap.comparisons import Comparisons
from softmap.diagnostics import Diagnostics, Finding, diagnose
from softmap.errors import BackendMissingError, DataWarning, NoMaximumError
from softmap.fit import fit
from softmap.fit_many import AnchorScores, FitMany, Status, fit_many, score_against_anchors
from softmap.groups import FitGroups, fit_groups
from softmap.io import read_comparisons
from softmap.outcomes import OutcomeMatrices, outcome_matrices
from softmap.pairwise import LogLikelihood, log_likelihood, preference, preference_matrix
from softmap.result import Estimate, Fit
from softmap.row_filter import row_filter
from softmap.row_root import row_root
from softmap.runtime import info, preload, release_memory, set_num_threads, supports, threads
from softmap.softmax import LevelScores, level_scores, log_softmax, logsumexp, softmax
from softmap.softmax_statistics import (
    RowStatistics,
    logsumexp_partial,
    merge_partials,
    partial_to_logsumexp,
    row_statistics,
)

__all__ = [
    "AnchorScores",
    "BackendMissingError",
    "ChoiceProbabilities",
    "Comparisons",
    "DataWarning",
    "Diagnostics",
    "Estimate",
    "Finding",
    "Fit",
    "FitGroups",
    "FitMany",
    "Intransitivity",
    "LevelScores",
    "LogLikelihood",
    "NoMaximumError",
    "OutcomeMatrices",
    "RowStatistics",
    "Status",
    "__version__",
    "choice_probabilities",
    "diagnose",
    "fit",
    "fit_groups",
    "fit_many",
    "info",
    "intransitivity",
    "level_scores",
    "log_likelihood",
    "log_softmax",
    "logsumexp",
    "logsumexp_partial",
    "merge_partials",
    "outcome_matrices",
    "partial_to_logsumexp",
    "preference",
    "preference_matrix",
    "preload",
    "read_comparisons",
    "release_memory",
    "row_filter",
    "row_root",
    "row_statistics",
    "score_against_anchors",
    "set_num_threads",
    "softmax",
    "supports",
    "threads",
]


def __getattr__(name: str) -> object:
    if name == "systems":  # recipes, which most do not need
        from importlib import import_module

        return import_module("softmap.systems")
    if name == "__version__":  # reading the metadata takes longer than all other imports
        from softmap._version import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
