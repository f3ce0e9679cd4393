"""The classes that a prior was conditioned on, as one number of a container's header."""

from collections.abc import Sequence

from codec.errors import ContainerLimitError, MalformedContainerError


def write_conditions(chosen: Sequence[int | None], classes: Sequence[int]) -> int:
    """Number a choice of classes: digits d of the bases n + 1, the first condition's lowest; d is 0 for none.

    Args:
        chosen: of each condition, the index of its class; None for none.
        classes: n, how many classes each condition has.

    Returns:
        The number; 0 where all are none.

    Raises:
        ContainerLimitError: a condition has no such class.
    """
    number, base = 0, 1
    for place, (index, count) in enumerate(zip(chosen, classes, strict=True)):
        if index is not None and not 0 <= index < count:
            raise ContainerLimitError(
                f"condition {place} has the class {index}, expected 0 .. {count - 1}: choose a class that the model has"
            )
        number += base * (0 if index is None else index + 1)
        base *= count + 1
    return number


def read_conditions(number: int, classes: Sequence[int]) -> tuple[int | None, ...]:
    """Read what `write_conditions` gave.

    Args:
        number: of a container; 0 where it has none.
        classes: n, how many classes each condition has.

    Returns:
        Of each condition, the index of its class; None for none.

    Raises:
        MalformedContainerError: there are not so many choices.
    """
    chosen: list[int | None] = []
    rest = number
    for count in classes:
        rest, digit = divmod(rest, count + 1)
        chosen.append(digit - 1 if digit else None)
    if rest:
        raise MalformedContainerError(
            f"the container has the conditions number {number}, which the prior's {len(classes)} conditions do not "
            "reach: read it with the model that wrote it"
        )
    return tuple(chosen)
