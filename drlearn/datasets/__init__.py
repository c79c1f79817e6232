"""Public interaction data by name, and generated data with planted paths where none can be had."""

from drlearn.datasets._amazon import fetch_amazon_books
from drlearn.datasets._generate import make_interactions
from drlearn.datasets._movielens import fetch_movielens

__all__ = ["fetch_amazon_books", "fetch_movielens", "make_interactions"]
