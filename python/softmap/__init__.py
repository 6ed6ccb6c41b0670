"""Logits and comparisons in, scores out."""

from softmap.softmax import LevelScores, level_scores, log_softmax, logsumexp, softmax
