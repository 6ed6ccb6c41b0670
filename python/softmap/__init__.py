"""Logits and comparisons in, scores out.

The softmax family (`softmax`, `log_softmax`, `logsumexp`, `level_scores`), pairwise likelihoods
(`preference`, `preference_matrix`, `log_likelihood`) and maximum a posteriori scores (`fit_many`,
`score_against_anchors`; `Comparisons` and `fit` for labelled data).
"""

from softmap._version import __version__
from softmap.errors import BackendMissingError, DataWarning, NoMaximumError
from softmap.runtime import info, set_num_threads, threads
from softmap.softmax import LevelScores, level_scores, log_softmax, logsumexp, softmax

__all__ = [
    "BackendMissingError",
    "DataWarning",
    "LevelScores",
    "NoMaximumError",
    "__version__",
    "info",
    "level_scores",
    "log_softmax",
    "logsumexp",
    "set_num_threads",
    "softmax",
    "threads",
]
