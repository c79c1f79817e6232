"""How much the paths' probability counts beside the softmax in the order of candidates, by held-out users."""

from __future__ import annotations

import numpy as np

from drlearn.recommenders._diagnostics import hits

PATH_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.4)


def fitted_path_weight(path_weight, probe, structure, index, path_vectors, beam_size):
    """Return the weight, chosen on the probe's held-out users where it is "auto", and what was tried."""
    if path_weight != "auto":
        return float(path_weight), np.empty((0, 3))
    n_true = np.diff(probe.truth[0])
    tops = [probe.retrieve(structure, index, path_vectors, beam_size, w)[0] for w in PATH_WEIGHTS]
    f_measures = [2 * hits(top, *probe.truth) / (top.shape[1] + n_true) for top in tops]
    return choose_path_weight(np.array(f_measures))


def choose_path_weight(scores, weights=PATH_WEIGHTS):
    """Choose the weight with the best mean score, 0 unless another gains more than its standard error.

    That is a weak bar with four weights tried: where none helps, one above 0 is chosen now and then.

    Parameters
    ----------
    scores : ndarray of shape (n_weights, n_users)
        Of the same users under each weight.
    weights : sequence of float
        The first is 0.

    Returns
    -------
    weight : float
        The best among those whose mean gain over 0, user by user, exceeds its standard error; else 0.
    curve : ndarray of shape (n_weights, 3)
        Weights, mean scores, standard errors of the gains.

    Examples
    --------
    >>> weight, curve = choose_path_weight(np.array([[0.1, 0.0, 0.2], [0.2, 0.1, 0.2]]), (0.0, 0.1))
    >>> weight, curve.round(3).tolist()
    (0.1, [[0.0, 0.1, 0.0], [0.1, 0.167, 0.047]])
    """
    gains = scores - scores[0]
    # About 0, not about the mean gain: nearly the same, but one user alone never decides.
    errors = np.linalg.norm(gains, axis=1) / gains.shape[1]
    means = gains.mean(axis=1)
    best = np.where(means > errors, means, 0).argmax()
    return float(weights[best]), np.column_stack([weights, scores.mean(axis=1), errors])
