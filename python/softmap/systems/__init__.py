"""Scoring systems of published papers, as recipes over the families of softmap.

One module a paper, for instance ``softmap.systems.qbench``. A recipe is a few lines over the
primitives: it takes arrays of any library that can be read in place, gives results of the same
library, and never raises for a wrong value inside a batch, which makes its own result NaN.
"""
