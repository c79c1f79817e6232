"""Pictures of fitted recommenders, in the manner of scikit-learn's displays."""

from drlearn.inspection._curves import BeamCurveDisplay, TrainingHistoryDisplay
from drlearn.inspection._structure import PathMapDisplay, PathSizeDisplay

__all__ = ["BeamCurveDisplay", "PathMapDisplay", "PathSizeDisplay", "TrainingHistoryDisplay"]
