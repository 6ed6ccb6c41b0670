"""One call of every recipe of softmap.systems: arguments and options, for checks of all of them."""

import numpy as np

from ops.fit import ANCHORS, PREFERENCES

RNG = np.random.default_rng(9)
ANCHORS = np.asarray(ANCHORS, dtype=np.float64)
PREFERENCES = np.asarray(PREFERENCES, dtype=np.float64)
FIVE = np.array([[12.5, 18.0, 21.25, 16.5, 9.0], [3.0, 9.5, 14.0, 24.5, 19.0]])
OPINIONS = [np.array([50.0, 40.0, 30.0]), np.array([3.0, 4.0, 0.5])]

CASES = {
    "compare2score.levels": ([*OPINIONS, *OPINIONS[::-1]], {}),
    "compare2score.select_anchors": (OPINIONS, {"n_intervals": 2}),
    "compare2score.preference": ([FIVE], {"temperature": 2.0}),
    "compare2score.comparison_matrix": ([PREFERENCES, ANCHORS], {}),
    "compare2score.score": ([FIVE[:, None] + np.linspace(0, 30, 25).reshape(5, 5), ANCHORS], {}),
}
