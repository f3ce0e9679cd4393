"""Classes that a caller names, as the conditions that a model's decoder and its prior take."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from artifact.manifest import condition_input
from service.engine.opening import ServedModel
from service.errors import ParameterError

NO_CLASS = "none"
"""The label of no class in particular."""

Asked = Mapping[str, Sequence[str | int] | None]
"""Of each condition by its name what the caller gave: names of classes, their numbers, or `none`; one for all rows, or
one a row; None for no class at all."""

Inputs = dict[str, Int64[np.ndarray, " B"]]
"""Inputs of a graph: 0 .. C - 1 for a class, C for none."""

_WORDS = {"label": ("class", "classes", "labels")}
"""What messages call one class of a condition, several, and what the caller gives; of any other condition its name."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of all rows of a request, as inputs of the graphs.

    Attributes:
        decoder: of `decode` and `log_likelihood`.
        prior: of the graphs of the prior.
    """

    decoder: Inputs = field(default_factory=dict)
    prior: Inputs = field(default_factory=dict)

    def rows(self, part: slice) -> "Conditions":
        """Give those of some of the rows."""
        return Conditions(
            {name: values[part] for name, values in self.decoder.items()},
            {name: values[part] for name, values in self.prior.items()},
        )


def to_conditions(
    model: ServedModel, asked: Asked, rows: int, *, with_prior: bool, is_exact: bool = False
) -> Conditions:
    """Give the conditions of each row.

    Args:
        model: whose decoder, and perhaps prior, is asked.
        asked: by the name of the condition.
        rows: B.
        with_prior: whether the prior is asked as well.
        is_exact: whether that is the exact one.

    Returns:
        Every condition that the model takes; one that nobody asked for is none.

    Raises:
        ParameterError: the model has no such condition, no such class, or there are neither one nor B of them.
    """
    of_decoder = model.manifest.conditions
    prior = model.manifest.exact_prior if is_exact else model.manifest.prior
    of_prior = prior.conditions if with_prior and prior is not None else {}
    for name, wish in asked.items():
        if wish is not None and name not in of_decoder and name not in of_prior:
            _, classes, given_as = _words(name)
            raise ParameterError(f"{model.reference} knows no {classes}; leave {given_as} out")
    return Conditions(
        {name: _to_input(model, name, classes, asked.get(name), rows) for name, classes in of_decoder.items()},
        {
            condition_input(name): _to_input(model, name, classes, asked.get(name), rows)
            for name, classes in of_prior.items()
        },
    )


def _to_input(
    model: ServedModel, name: str, classes: tuple[str, ...], asked: Sequence[str | int] | None, rows: int
) -> Int64[np.ndarray, " B"]:
    """Give one condition of each row."""
    given = asked or (NO_CLASS,)
    if len(given) not in (1, rows):
        raise ParameterError(
            f"there are {len(given)} {_words(name)[1]} for {rows} rows; give one for all, or one a row"
        )
    indices = np.array([_index(model, name, classes, label) for label in given], dtype=np.int64)
    return np.repeat(indices, rows) if len(given) == 1 else indices


def _index(model: ServedModel, name: str, classes: tuple[str, ...], label: str | int) -> int:
    """Find a class: by its name, else as `none`, else by its number."""
    text = str(label)
    if isinstance(label, str) and text in classes:
        return classes.index(text)
    if text == NO_CLASS:
        return len(classes)
    if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < len(classes):
        return int(text)
    nearest = difflib.get_close_matches(text[:80], [*classes, NO_CLASS], n=1, cutoff=0.5)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    raise ParameterError(
        f"{model.reference} has no {_words(name)[0]} {text[:80]!r}; {guess}expected 0 .. {len(classes) - 1}, "
        f"{NO_CLASS} or one of: {shown}"
    )


def _words(name: str) -> tuple[str, str, str]:
    """Give the words of messages for a condition."""
    return _WORDS.get(name, (name, f"{name}s", name))
