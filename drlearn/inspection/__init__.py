"""Pictures of fitted recommenders, in the manner of scikit-learn's displays."""

from drlearn.inspection._beam import BeamCurveDisplay
from drlearn.inspection._history import TrainingHistoryDisplay
from drlearn.inspection._map import PathMapDisplay
from drlearn.inspection._sizes import PathSizeDisplay

__all__ = ["BeamCurveDisplay", "PathMapDisplay", "PathSizeDisplay", "TrainingHistoryDisplay"]
