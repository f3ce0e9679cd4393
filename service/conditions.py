"""Classes that a caller names, as the condition that a prior takes."""

import difflib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from service.engine.opening import ServedModel
from service.errors import ParameterError

NO_CLASS = "none"
"""The label of no class in particular."""


def to_condition(model: ServedModel, labels: Sequence[str | int] | None, rows: int) -> Int64[np.ndarray, " B"] | None:
    """Give the condition of each row.

    Args:
        model: whose prior is asked.
        labels: names of classes, their numbers, or `none`; one for all rows, or one a row; None for no class at all.
        rows: B.

    Returns:
        0 .. C - 1 for a class, C for none; None for a prior that takes no condition.

    Raises:
        ParameterError: the model has no classes, no such class, or there are neither one nor B labels.
    """
    classes = model.manifest.prior.classes if model.manifest.prior is not None else ()
    if not classes:
        if labels is not None:
            raise ParameterError(f"{model.reference} knows no classes; leave labels out")
        return None
    given = labels or (NO_CLASS,)
    if len(given) not in (1, rows):
        raise ParameterError(f"there are {len(given)} labels for {rows} rows; give one for all, or one a row")
    indices = np.array([_index(model, classes, label) for label in given], dtype=np.int64)
    return np.repeat(indices, rows) if len(given) == 1 else indices


def _index(model: ServedModel, classes: tuple[str, ...], label: str | int) -> int:
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
        f"{model.reference} has no class {text[:80]!r}; {guess}expected 0 .. {len(classes) - 1}, {NO_CLASS} or "
        f"one of: {shown}"
    )
