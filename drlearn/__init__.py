"""Candidate retrieval with learned structures, in scikit-learn's manner."""

from drlearn._version import __version__

__all__ = ["__version__"]
