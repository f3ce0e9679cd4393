"""The results in Markdown."""

from collections.abc import Sequence
from statistics import median

from bench.serving.cases import Case
from bench.serving.limits import Limit, Results


def table(results: Results, cases: Sequence[Case]) -> str:
    """Write medians with their extremes, a line a contender.

    Args:
        results: the figures.
        cases: the columns.

    Returns:
        A table.
    """
    lines = [_row(["", *(case.title for case in cases)]), _row(["---"] * (len(cases) + 1))]
    for name, figures in results.items():
        lines.append(_row([name, *(_spread(figures.get(case.key, []), case.digits) for case in cases)]))
    return "\n".join(lines)


def claims(judged: Sequence[tuple[Limit, float]]) -> str:
    """Write what the service must reach, and whether it does.

    Args:
        judged: limits with the figures that were found.

    Returns:
        A table.
    """
    lines = [_row(["latentd", "limit", "found", "holds"]), _row(["---"] * 4)]
    for limit, value in judged:
        sign = "at most" if limit.is_most else "at least"
        found = f"{value:.2f}"
        lines.append(_row([limit.text, f"{sign} {limit.bound:g}", found, "yes" if limit.holds(value) else "NO"]))
    return "\n".join(lines)


def _spread(values: Sequence[float], digits: int) -> str:
    """Write a median and its extremes."""
    if not values:
        return "–"
    middle, least, most = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})" if len(values) > 1 else middle


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
