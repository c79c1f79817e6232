"""Learned structures: paths, the network over them, their scores and their assignment."""
