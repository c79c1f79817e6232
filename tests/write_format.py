"""Write the models that later versions must be able to load: once, when a file format is new."""

import json
import sys
from pathlib import Path

from test_storage import SMALL

from drlearn import DeepRetrievalRecommender, ItemKNNRecommender, PopularityRecommender, SoftmaxRecommender
from drlearn._storage import FORMAT
from drlearn.datasets import make_interactions

FORMATS = Path(__file__).parent / "formats"

if __name__ == "__main__":
    home = FORMATS / str(FORMAT)
    if home.exists():
        sys.exit(f"{home} is there: a format that was released stays as it is; raise FORMAT for a new one")
    X = make_interactions(60, 30, random_state=0)
    wanted = {"histories": [row.tolist() for row in X[:8]]}
    softmax = {name: SMALL[name] for name in ("embedding_dim", "n_epochs", "n_jobs", "random_state")}
    estimators = (
        DeepRetrievalRecommender(**SMALL),
        ItemKNNRecommender(),
        PopularityRecommender(),
        SoftmaxRecommender(**softmax),
    )
    for est in estimators:
        est.fit(X).save(home / type(est).__name__)
        wanted[type(est).__name__] = est.recommend(wanted["histories"], k=5).tolist()
    (home / "wanted.json").write_text(json.dumps(wanted, indent=1))
