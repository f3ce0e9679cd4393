"""Claim: serving costs little beside running: latentd, bare ONNX Runtime and other frameworks, measured in turns."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from bench import arguments
from bench.serving.cases import CASES
from bench.serving.contenders import CONTENDERS, LATENTD
from bench.serving.limits import verdicts
from bench.serving.plot import plot
from bench.serving.rounds import installed, measure
from bench.serving.subject import STORES, subject
from bench.serving.table import claims, table

_BARE = "bare"
_GROUPS = (_BARE, *dict.fromkeys(contender.group for contender in CONTENDERS))
_DEFAULT = "bench-encoder"


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and print the table and what it proves.

    Args:
        words: those after the program's name; None for those of this process.

    Returns:
        The exit status: 1 where the service failed or misses a limit. Limits are those of the benchmark's own model.
    """
    options = _parser().parse_args(words)
    cases = [case for case in CASES if case.key in options.cases]
    contenders = installed([contender for contender in CONTENDERS if contender.group in options.only])
    with subject(options.model, options.threads) as served:
        results = measure(
            served,
            contenders,
            cases,
            with_bare=_BARE in options.only,
            runs=options.runs,
            seconds=options.seconds,
        )
    setting = (
        f"{options.model}, pictures of 64x64 pixels, graph on {options.threads} of {os.cpu_count()} cores, "
        f"load from the same machine; medians of {options.runs} runs, with the least and the most"
    )
    judged = verdicts(results) if options.model == _DEFAULT else []
    text = "\n\n".join([setting, table(results, cases), *([claims(judged)] if judged else [])])
    print(text)
    if options.output:
        options.output.write_text(text + "\n", "utf-8")
    if options.plot:
        plot(results, setting, options.plot)
    is_missing = LATENTD in options.only and LATENTD not in results
    return 1 if is_missing or not all(limit.holds(value) for limit, value in judged) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_serving", description=__doc__)
    add = parser.add_argument
    every = tuple(case.key for case in CASES)
    add("--model", choices=tuple(STORES), default=_DEFAULT, help="what is served (default: %(default)s)")
    add("--threads", type=arguments.count, default=1, help="of one run of the graph (default: %(default)s)")
    add("--runs", type=arguments.count, default=7, help="rounds (default: %(default)s)")
    add("--seconds", type=arguments.positive, default=5.0, help="of each figure (default: %(default)g)")
    add("--only", type=arguments.some_of(_GROUPS), default=_GROUPS, help=f"some of {','.join(_GROUPS)}")
    add("--cases", type=arguments.some_of(every), default=every, help=f"some of {','.join(every)}")
    add("--output", type=Path, metavar="FILE", help="write the tables there too")
    add("--plot", type=Path, metavar="FILE", help="draw them there, as PNG")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
