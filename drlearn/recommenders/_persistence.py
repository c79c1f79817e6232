"""Saving a fitted estimator into a directory, and loading it: files that any later version can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from drlearn._storage import Mismatch, read_model, write_model

if TYPE_CHECKING:
    from typing_extensions import Self


_OF_SKLEARN = ("_sklearn_output_config", "_metadata_request")  # `set_output` and metadata routing


class Persistent:
    """`save` and `load` for a recommender, whose `_restored` and `_derived` make its state whole again."""

    _derived_names = ("_recommendable", "_all_met", "_by_popularity")

    def save(self, path: Any) -> None:
        """Write the fitted estimator into a directory.

        Arrays are kept as safetensors, all else as JSON; both are written beside what the directory
        holds and put in its place at the end, so that a crash leaves the old model whole. Those who
        have loaded the old one keep it. Nothing is pickled.

        Parameters
        ----------
        path : path-like
            Directory; made where it is missing. Of an encoder of your own it gets the weights, not the code.

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError
            Where a parameter or an id cannot be kept in a file.
        OSError
            Where the disk refuses; the directory then holds what it held.

        Examples
        --------
        >>> import tempfile
        >>> from drlearn import PopularityRecommender
        >>> est = PopularityRecommender().fit([["a", "b"], ["b"]])
        >>> with tempfile.TemporaryDirectory() as path:
        ...     est.save(path)
        ...     PopularityRecommender.load(path).recommend([["b"]], k=1)
        array([['a']], dtype=object)
        """
        from drlearn.recommenders._state import pack

        check_is_fitted(self)
        self._check_parameters()  # what would not be read back is not written
        facts, arrays, parameters = {"class": type(self).__name__}, {}, self.get_params()
        own, encoder = self._own_code(), parameters.get("encoder")
        if own is not None and type(own) is type(encoder):
            facts["encoder_class"] = type(parameters.pop("encoder")).__name__
        elif own is not None or not isinstance(encoder, (str, type(None))):
            raise TypeError(
                f"encoder was set after fit to {encoder!r}, where fit had {own or 'a built-in one'}: set it "
                "back, or fit anew, before save"
            )
        facts["parameters"] = {
            name: pack(_as_plain(name, value), name, arrays) for name, value in parameters.items()
        }
        facts["state"] = self._packed_state(arrays)
        write_model(path, facts, arrays)

    @classmethod
    def load(cls, path: Any, *, mmap: bool = False, encoder: Any = None) -> Self:
        """Read an estimator that `save` wrote.

        Parameters
        ----------
        path : path-like
            The directory.
        mmap : bool, default=False
            Leave the arrays in the file: loading takes little memory, and processes that load the same
            model share it. The directory may be saved to meanwhile.
        encoder : torch.nn.Module, default=None
            Where the estimator was fitted with an encoder of your own: one made as that was. Its copy gets
            the weights; it becomes the parameter of that name.

        Returns
        -------
        estimator
            As it was when it was saved.

        Raises
        ------
        FileNotFoundError
            Where there is no model.
        ValueError
            Where the model is of another class or a later format, or damaged: cut short, altered, or of
            shapes that disagree; where `encoder` is missing, or is not as the one that was fitted.

        Notes
        -----
        Checksums find damage, not intent: they do not say who wrote the files. Even so no file can make
        `load` run code; it accepts arrays and the few types that estimators consist of.

        Examples
        --------
        >>> import tempfile
        >>> from drlearn import ItemKNNRecommender
        >>> with tempfile.TemporaryDirectory() as path:
        ...     ItemKNNRecommender().fit([["a", "b"], ["b", "a"]]).save(path)
        ...     ItemKNNRecommender.load(path).recommend([["b"]], k=1)
        array([['a']], dtype=object)
        """
        from drlearn.recommenders._state import unpack

        facts, arrays = read_model(path, memory_map=mmap)
        if "class" not in facts:
            raise ValueError(
                f"{str(path)!r} holds no estimator: is it the checkpoint of a fit that was cut short?"
            )
        if facts["class"] != cls.__name__:
            raise ValueError(
                f"the model in {str(path)!r} is a {facts['class']}; load it with {facts['class']}.load"
            )
        _check_encoder_class(path, facts.get("encoder_class"), encoder)
        try:
            parameters = {name: unpack(fact, arrays) for name, fact in facts["parameters"].items()}
            estimator = cls(**parameters, **({} if encoder is None else {"encoder": encoder}))
            estimator._check_parameters()
            estimator._unpack_state(facts["state"], arrays)
        except Mismatch as error:
            raise ValueError(
                f"encoder is not made as the one of the model in {str(path)!r} was: {error}"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
            raise ValueError(
                f"the model in {str(path)!r} makes no sense: {error}; save it anew, or restore it from a copy"
            ) from error
        return estimator

    def __getstate__(self):
        # Facts and arrays as in files: what pickles them need not know torch or the classes in here.
        arrays, parameters = {}, {name: getattr(self, name) for name in self._get_param_names()}
        own_module = any(hasattr(value, "state_dict") for value in parameters.values())
        if not self.__sklearn_is_fitted__() or own_module or self._own_code() is not None:
            return {"whole": vars(self).copy()}
        kept = {name: vars(self)[name] for name in _OF_SKLEARN if name in vars(self)}
        try:
            state = self._packed_state(arrays)
        except TypeError:  # ids of other types, or attributes of a caller's own
            return {"whole": vars(self).copy()}
        return {"parameters": parameters | kept, "state": state, "arrays": arrays}

    def __setstate__(self, state):
        if "whole" in state:
            vars(self).update(state["whole"])
            return
        vars(self).update(state["parameters"])
        self._unpack_state(state["state"], state["arrays"])

    def _own_code(self):
        """A caller's own object in what was fitted, whose code neither files nor facts can hold, or None."""
        return None

    def _packed_state(self, arrays):
        """What `fit` set, as facts; its arrays go into `arrays`."""
        from drlearn.recommenders._state import pack

        left_out = {*self._get_param_names(), *self._derived_names, *_OF_SKLEARN}
        kept = {name: value for name, value in vars(self).items() if name not in left_out}
        return {name: pack(value, name, arrays) for name, value in kept.items()}

    def _unpack_state(self, facts, arrays):
        """Set what `_packed_state` made facts of, checked and made whole."""
        from drlearn.recommenders._state import unpack

        state = self._restored({name: unpack(fact, arrays) for name, fact in facts.items()})
        vars(self).update(state | self._derived(state))


def _check_encoder_class(path, saved, encoder):
    given = None if encoder is None else type(encoder).__name__
    if saved is None and given is not None:
        raise ValueError(f"the model in {str(path)!r} has no encoder of your own: leave out encoder=")
    if saved != given:
        raise ValueError(
            f"the model in {str(path)!r} was fitted with an encoder of your own, whose code no file holds: "
            f"pass encoder={saved}(...), made as then" + ("" if given is None else f"; got a {given}")
        )


def _as_plain(name, value):
    """A parameter as a file can hold it."""
    if name == "device" or (name == "checkpoint_dir" and value is not None):
        return str(value)
    if name == "random_state" and not (value is None or hasattr(value, "__index__")):
        raise TypeError(
            "random_state is a RandomState, which a file cannot hold; set_params(random_state=...) to an "
            "integer or None before save"
        )
    return value
