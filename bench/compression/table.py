"""Tables as the README has them."""

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Set rows as a Markdown table: the first column to the left, the others to the right.

    Args:
        head: names of the columns.
        rows: as many cells each.

    Returns:
        The table.
    """
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
