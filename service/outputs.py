"""Which arrays an answer about codes holds, and the types that can hold them."""

from collections.abc import Sequence

from service.answers import NUMBERS
from service.bodies import NPY
from service.engine.opening import ServedModel
from service.levels import CODES, VECTORS, names_of
from service.negotiation import NotAcceptableError, choose
from service.option_reading import choose_output


def choose_arrays(
    model: ServedModel, asked: Sequence[str] | None, available: Sequence[str], default: Sequence[str]
) -> tuple[str, ...]:
    """Hold the names of the option `output` against what a model of codes has; `codes` means those of all levels.

    Args:
        model: which.
        asked: as the caller wrote them; None where the option was left out.
        available: what there is, `codes` and `z_q` without the numbers of levels.
        default: what is answered where nothing is asked, likewise.

    Returns:
        The names of arrays, each once, the primary one first.

    Raises:
        ParameterError: a name that there is not.
    """
    groups = {name: names_of(model, name) if name in (CODES, VECTORS) else (name,) for name in available}
    each = [name for names in groups.values() for name in names]
    chosen = choose_output(asked, tuple(dict.fromkeys([*available, *each])), default)
    return tuple(dict.fromkeys(name for one in chosen for name in groups.get(one, (one,))))


def offers_for(names: Sequence[str]) -> tuple[str, ...]:
    """Give the types of an answer of numbers: npy holds one array, and so not the codes of several levels.

    Args:
        names: of the arrays, the primary one first.

    Returns:
        Some of `NUMBERS`.
    """
    stem = names[0].rpartition("_")[0]
    is_one_of_several = stem in (CODES, VECTORS) and sum(name.startswith(f"{stem}_") for name in names) > 1
    return tuple(offer for offer in NUMBERS if offer != NPY or not is_one_of_several)


def type_of_arrays(accept: str | None, names: Sequence[str]) -> str:
    """Choose the type of an answer of numbers.

    Args:
        accept: the Accept header; None where there is none.
        names: of the arrays, the primary one first.

    Returns:
        One of `offers_for`.

    Raises:
        NotAcceptableError: none of them is accepted.
    """
    offers = offers_for(names)
    if NPY in offers:
        return choose(accept, offers)
    try:
        return choose(accept, offers)
    except NotAcceptableError as error:
        raise NotAcceptableError(
            f"the answer has {', '.join(names)}, and {NPY} holds one array; accept {' or '.join(offers)}, or ask for "
            f"one with output={names[0]}"
        ) from error
