"""The runs: in each, everyone is measured once, so that what disturbs the machine disturbs all alike."""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence

from bench.serving.cases import Case, of_bare, serving
from bench.serving.contenders import Contender
from bench.serving.environments import InstallError, install
from bench.serving.limits import BARE
from bench.serving.processes import ServerError
from bench.serving.subject import Subject

Figures = dict[str, dict[str, list[float]]]
"""Figures of the runs, by contender and case."""


def installed(contenders: Sequence[Contender]) -> list[Contender]:
    """Install the peers, and leave out with a notice those that cannot be.

    Args:
        contenders: the wanted ones.

    Returns:
        Those that are there.
    """
    there = []
    for contender in contenders:
        try:
            if contender.is_peer:
                install(contender.group)
        except InstallError as error:
            _notice(f"{contender.name} is left out: it cannot be installed: {error}")
        else:
            there.append(contender)
    return there


def measure(
    subject: Subject,
    contenders: Sequence[Contender],
    cases: Sequence[Case],
    *,
    with_bare: bool,
    runs: int,
    seconds: float,
) -> Figures:
    """Measure everyone in turns.

    Args:
        subject: what is served.
        contenders: the servers; one that fails is left out from then on, with a notice.
        cases: what is measured.
        with_bare: measure ONNX Runtime with nothing around it too.
        runs: rounds.
        seconds: of each figure.

    Returns:
        The figures, a list entry a run.
    """
    figures: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    remaining = list(contenders)
    for run in range(runs):
        if with_bare:
            for case in cases:
                _note(figures, BARE, case, of_bare(subject, case.key, seconds))
        for contender in list(remaining):
            try:
                with serving(contender, subject) as served:
                    for case in cases:
                        _note(figures, contender.name, case, served.measure(case.key, seconds))
            except ServerError as error:
                _notice(f"{contender.name} is left out: {error}")
                remaining.remove(contender)
        _notice(f"run {run + 1} of {runs} done")
    return {name: dict(of_one) for name, of_one in figures.items()}


def _note(figures: Mapping[str, Mapping[str, list[float]]], name: str, case: Case, value: float | None) -> None:
    """Keep a figure and tell of it."""
    if value is not None:
        figures[name][case.key].append(value)
        _notice(f"{name}, {case.title}: {value:.{case.digits}f}")


def _notice(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
