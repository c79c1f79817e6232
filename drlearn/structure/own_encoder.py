"""A caller's own encoder: what is asked of it, and how the weights that a file holds come back into it."""

from __future__ import annotations

import copy

import numpy as np
import torch

from drlearn._storage import Mismatch


@torch.no_grad()
def check_encoder(encoder, dim):
    """Raise where a caller's own encoder makes other shapes, or its vectors know of later events.

    It is left in evaluation mode.
    """
    events = _probe(dim)  # (B, T, dim)
    shape, must = tuple(events.shape), "encoder must map (batch, time, dim) to the same shape, but"
    try:
        hidden = encoder.eval()(events)  # (B, T, dim)
    except Exception as error:  # whatever a caller's code raises
        raise ValueError(f"{must} of {shape} it raised {type(error).__name__}: {error}") from error
    made = tuple(hidden.shape) if isinstance(hidden, torch.Tensor) else f"a {type(hidden).__name__}"
    if made != shape:
        raise ValueError(f"{must} of {shape} it made {made}; give it `embedding_dim` outputs at every time.")
    later = events.clone()  # (B, T, dim)
    later[:, -1] += 1
    if not torch.allclose(encoder(later)[:, :-1], hidden[:, :-1], atol=1e-4, equal_nan=True):
        raise ValueError(
            "encoder must give vectors that know the events up to their time only, but those before the last "
            "event changed with it: it would learn from what it is to predict. Make it causal."
        )


@torch.no_grad()
def answer_of(encoder, dim):
    """Return what a copy of `encoder` makes of events that are always the same, as an array.

    Two encoders may have weights of the same shapes, and do other things with them.
    """
    return copy.deepcopy(encoder).eval()(_probe(dim)).numpy()  # (B, T, dim)


def with_own_weights(encoder, weights, answer):
    """Return a copy of `encoder` that has these weights.

    Parameters
    ----------
    encoder : nn.Module
    weights : dict of ndarrays
        By their names in its state.
    answer : ndarray of shape (2, 3, dim)
        `answer_of` the encoder whose weights they were.

    Raises
    ------
    Mismatch
        Where names, shapes or dtypes are not the encoder's, or its answer is another, or none.
    """
    encoder = copy.deepcopy(encoder)
    held = {name: getattr(tensor, "dtype", None) for name, tensor in encoder.state_dict().items()}
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    other = [name for name, tensor in tensors.items() if tensor.dtype != held.get(name, tensor.dtype)]
    if other:
        raise Mismatch(f"{other[0]} was of {tensors[other[0]].dtype}, and is of {held[other[0]]}")
    try:
        encoder.load_state_dict(tensors)  # copied, so that tied ones stay tied
        again = answer_of(encoder, answer.shape[-1])
    except Exception as error:  # whatever a caller's code raises
        raise Mismatch(" ".join(str(error).split())) from error
    near = 1e-3 * np.abs(answer).max()  # other machines round otherwise
    if again.shape != answer.shape or not np.allclose(again, answer, rtol=0, atol=near, equal_nan=True):
        raise Mismatch("its weights fit, but with them it makes other vectors of the same events")
    return encoder


def _probe(dim):
    return torch.linspace(-1, 1, 2 * 3 * dim).view(2, 3, dim)  # (B, T, dim)
