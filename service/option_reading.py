"""Options read from the query and from the members of a JSON body, and refused where they mean nothing."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.datastructures import QueryParams

from service.errors import ParameterError

O = TypeVar("O", bound=BaseModel)  # noqa: E741 - options


def read_options(
    kind: type[O], query: Iterable[tuple[str, str]], members: Mapping[str, object], place: str = "the query"
) -> O:
    """Merge the options of the query with those of a JSON body.

    Args:
        kind: the endpoint's options.
        query: pairs of the query string.
        members: members of a JSON body other than its items.
        place: where the pairs stand, for messages.

    Returns:
        The options; an option that neither names has its default.

    Raises:
        ParameterError: an option is unknown, out of range, given twice, or differs between query and body.
    """
    asked = _validate(kind, _once(query), place, strict=False)
    given = _validate(kind, members, "the JSON body", strict=True)
    for name in sorted(asked.model_fields_set & given.model_fields_set):
        in_query, in_body = getattr(asked, name), getattr(given, name)
        if in_query != in_body:
            raise ParameterError(f"{name} is {in_query!r} in the query and {in_body!r} in the JSON body; give one")
    return given.model_copy(update={name: getattr(asked, name) for name in asked.model_fields_set})


@lru_cache(maxsize=1024)
def read_query(kind: type[O], query: bytes) -> O:
    """Read options that the query alone gives; of options that draw nothing the same query always means the same.

    Args:
        kind: the endpoint's options; no option's default may be drawn.
        query: the query string.

    Returns:
        The options, shared between requests.

    Raises:
        ParameterError: see `read_options`.
    """
    return read_options(kind, QueryParams(query.decode("latin-1")).multi_items(), {})


@lru_cache
def draws(kind: type[BaseModel]) -> bool:
    """Tell whether the default of one of the options is drawn anew for each request."""
    return any(field.default_factory is not None for field in kind.model_fields.values())


def choose_output(asked: Sequence[str] | None, available: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
    """Hold the names of the option `output` against what there is.

    Args:
        asked: as the caller wrote them; None where the option was left out.
        available: what the model can answer.
        default: what it answers where nothing is asked.

    Returns:
        Each name once, in the order asked for.

    Raises:
        ParameterError: a name that there is not.
    """
    names = tuple(dict.fromkeys(asked or default))
    for name in names:
        if name not in available:
            raise unknown(name, available, "output")
    return names


def refuse_options(options: BaseModel, names: Iterable[str], reason: str) -> None:
    """Refuse options that the model could only ignore.

    Args:
        options: of a request.
        names: of those that must not be given.
        reason: why the model has no use for them.

    Raises:
        ParameterError: one is given.
    """
    for name in names:
        value = getattr(options, name)
        if name in options.model_fields_set and value is not None and value is not False:
            raise ParameterError(f"{name} is given, and {reason}; leave {name} out")


def unknown(name: str, known: Iterable[str], place: str) -> ParameterError:
    """Name what an unknown name was probably meant to be.

    Args:
        name: as the caller wrote it.
        known: the names that there are.
        place: where it stands, for the message.
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.5)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    return ParameterError(f"{place} has an unknown name {name[:80]!r}; {guess}known: {', '.join(names) or 'none'}")


def _once(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in query:
        if name in values:
            raise ParameterError(f"the query gives {name[:80]!r} twice; give it once")
        values[name] = value
    return values


def _validate(kind: type[O], values: Mapping[str, object], place: str, *, strict: bool) -> O:
    for name in values:
        if name not in kind.model_fields:
            raise unknown(name, kind.model_fields, place)
    try:
        return kind.model_validate(dict(values), strict=strict)
    except ValidationError as error:
        faults = "; ".join(_describe(fault) for fault in error.errors(include_url=False))
        raise ParameterError(f"{place}: {faults}") from error


def _describe(fault: ErrorDetails) -> str:
    found = repr(fault["input"])
    shown = found if len(found) <= 60 else f"{found[:57]}..."
    return f"{'.'.join(map(str, fault['loc']))} is {shown}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
