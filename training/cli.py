"""The command line: `python -m training fit|fit-prior|fit-exact|fit-classifier|evaluate|rate-distortion|export`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from artifact.errors import ArtifactError
from artifact.manifest import Precision
from artifact.store import Store
from training.data import load
from training.errors import ExportError, RecipeError, TrainingError
from training.evaluate import IMPORTANCE_SAMPLES, evaluate_run, table
from training.evaluation import rate_distortion
from training.evaluation.ais import Annealing, Start
from training.evaluation.disentanglement import disentanglement_of_run
from training.evaluation.estimates import Asked, estimates_of_run
from training.evaluation.fit_classifier import ClassifierRecipe, fit_classifier
from training.evaluation.report import curves_of_folder, curves_of_split, judge_run
from training.exact.fit_exact import fit_exact
from training.exact.vae import fit_exact_vae
from training.export import export
from training.fit import Progress
from training.fit_model import fit
from training.fit_prior import fit_prior
from training.recipe import read_recipe, read_table
from training.run import Run
from training.team import leads

_RUNS = Path("runs")
_OVERRIDES = "Any key of the recipe can be set as --table.key VALUE, such as --data.root PATH or --fit.steps 100."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the program's name; None for those of this process.

    Returns:
        The exit status: 0, or 1 after an error that was told in one line.
    """
    options, rest = _parser().parse_known_args(arguments)
    try:
        return _COMMANDS[options.command](options, _overrides(rest))
    except (TrainingError, ArtifactError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    """Declare the commands."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Fit, evaluate and export models.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("fit", help="fit a recipe", epilog=_OVERRIDES)
    one.add_argument("recipe", type=Path, help="recipe (.toml), or the folder of a run to resume")
    one.add_argument("--output", type=Path, help="folder of the run (default: runs/<name>)")
    one.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    between = commands.add_parser("fit-prior", help="fit a prior to the codes of a fitted run", epilog=_OVERRIDES)
    between.add_argument("run", type=Path, help="folder of the run, or the recipe that it was fitted from")
    between.add_argument("--resume", action="store_true", help="go on from the prior's last checkpoint")
    between.add_argument("--link", type=int, help="only the prior of this grid of codes, from 0 (default: of all)")
    exact = commands.add_parser("fit-exact", help="make a run's prior exact, or a VAE, to code with", epilog=_OVERRIDES)
    exact.add_argument("run", type=Path, help="folder of the run, or the recipe that it was fitted from")
    exact.add_argument("--resume", action="store_true", help="go on from the last checkpoint of this fit")
    two = commands.add_parser("evaluate", help="measure a run on a split and store the figures", epilog=_OVERRIDES)
    two.add_argument("run", type=Path, help="folder of the run, or the recipe that it was fitted from")
    two.add_argument("--split", choices=("train", "validation", "test"), default="test")
    two.add_argument("--samples", type=int, help="importance samples of the IWAE bound (default: 100)")
    two.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    two.add_argument("--limit", type=int, help="only the first so many examples")
    two.add_argument(
        "--curves", action="store_true", help="measure JPEG and WebP, or Opus, on the same files, and draw all"
    )
    two.add_argument(
        "--folder", type=Path, help="as --curves, on the pictures or sounds of a folder in place of a split"
    )
    two.add_argument("--classifier", type=Path, help="run of a classifier, to judge reconstructions and samples by")
    two.add_argument("--draws", type=int, default=500, help="samples that it judges (default: 500)")
    _add_estimates(two)
    other = commands.add_parser("fit-classifier", help="fit a classifier, to judge models by", epilog=_OVERRIDES)
    other.add_argument("recipe", type=Path, help="recipe (.toml) with a [classifier] table")
    other.add_argument("--output", type=Path, help="folder of the run (default: runs/<name>)")
    other.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    several = commands.add_parser("rate-distortion", help="draw evaluated runs by rate and distortion")
    several.add_argument("runs", type=Path, nargs="+", help="folders of runs of models of real-valued latents")
    several.add_argument("--output", type=Path, default=Path("rate-distortion.png"), help="picture, beside it JSON")
    three = commands.add_parser("export", help="write a run's graphs and publish them", epilog=_OVERRIDES)
    three.add_argument("run", type=Path, help="folder of the run, or the recipe that it was fitted from")
    three.add_argument("--store", type=Path, default=Path("pretrained"), help="where to publish (default: pretrained)")
    three.add_argument("--variants", default="", help="precisions to publish it in as well, by commas: fp16")
    three.add_argument("--show", type=Path, help="folder of pictures to show in the card, in place of the test split's")
    return parser


def _add_estimates(parser: argparse.ArgumentParser) -> None:
    """Declare what `evaluate` can measure besides of models of real-valued latents."""
    parser.add_argument("--monte-carlo", type=int, default=0, help="draws from the prior, to estimate log p(x) by")
    parser.add_argument("--ais", type=int, default=0, metavar="CHAINS", help="annealed chains an example, for log p(x)")
    parser.add_argument("--ais-steps", type=int, default=500, help="steps of each chain (default: 500)")
    parser.add_argument("--leapfrogs", type=int, default=10, help="leapfrog steps of each of these (default: 10)")
    parser.add_argument(
        "--ais-start", choices=get_args(Start), default="prior", help="where they start (default: prior)"
    )
    parser.add_argument("--bdmc", action="store_true", help="with --ais, chains from both sides on simulated data")
    parser.add_argument("--estimated", type=int, default=100, help="examples for these estimates (default: 100)")
    parser.add_argument("--disentanglement", action="store_true", help="score latents by the known factors of the data")


def _overrides(words: Sequence[str]) -> dict[str, str]:
    """Read `--table.key VALUE` or `--table.key=VALUE` pairs."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in key:
            raise RecipeError(f"unknown argument {word!r}; recipe keys are given as --table.key VALUE")
        if not equals:
            if not rest:
                raise RecipeError(f"{word} needs a value")
            value = rest.pop(0)
        found[key] = value
    return found


def _fit(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Fit from the start, or go on with the recipe that the run was started with."""
    given: Path = options.recipe
    if given.is_dir():
        if options.output is not None:
            raise RecipeError(f"{given} is a run, which goes on where it is; leave --output out, or give a recipe")
        run, options.resume = Run(given), True
        recipe = run.recipe(overrides)
    else:
        recipe = read_recipe(given, overrides)
        run = Run(options.output or _RUNS / recipe.name)
        if options.resume and run.recipe_file.exists():
            recipe = run.recipe(overrides)
        elif options.resume:
            options.resume = False
    progress = fit(run, recipe, resume=options.resume)
    _tell(_summary(run, progress))
    return 0


def _fit_prior(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Fit a prior to the codes of a run's model."""
    _refuse(overrides, ("prior.", "data."), "the model is fitted, only its prior is to be")
    run = _run_of(options.run, overrides)
    ends = fit_prior(run, run.recipe(overrides), resume=options.resume, link=options.link)
    for link, progress in ends.items():
        _tell(_summary(link, progress))
    return 0


def _fit_exact(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Make the prior of a run exact, or its networks where they are to archive with."""
    _refuse(overrides, ("exact.", "data."), "the run is fitted, only its exact counterpart is to be")
    run = _run_of(options.run, overrides)
    recipe = run.recipe(overrides)
    if recipe.prior is None:
        progress = fit_exact_vae(run, recipe, resume=options.resume)
        _tell(f"{run.exact}: best validation ELBO {progress.best_nats:.3f} nats at step {progress.best_step}")
        return 0
    for link, figures in fit_exact(run, recipe, resume=options.resume).items():
        _tell(f"{link.exact}: {figures}")
    return 0


def _tell(text: str) -> None:
    """Print how a fit ended, once where several processes fit together."""
    if leads():
        print(text)


def _summary(run: Run, progress: Progress) -> str:
    """Say how a fit ended."""
    figures = ", ".join(f"{name} {value:.4g}" for name, value in progress.figures.items())
    return (
        f"{run.path}: {progress.step} steps, {progress.skipped} skipped, best validation {progress.score_name} "
        f"{progress.best_nats:.3f} nats at step {progress.best_step}; means over the last steps: {figures}"
    )


def _refuse(overrides: dict[str, str], allowed: tuple[str, ...], reason: str) -> None:
    """Refuse to set what can no longer be."""
    for key in overrides:
        if not key.startswith(allowed):
            tables = " and ".join(f"--{prefix}*" for prefix in allowed)
            raise RecipeError(f"--{key} cannot be set here, {reason}; only {tables} can")


def _run_of(path: Path, overrides: dict[str, str]) -> Run:
    """Find a run by its folder, or by its recipe in the folder where fits are kept."""
    return Run(_RUNS / read_recipe(path, overrides).name) if path.is_file() else Run(path)


def _evaluate(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Measure a run and print the figures."""
    if (
        (options.samples is not None and options.samples < 1)
        or options.draws < 2
        or (options.limit is not None and options.limit < 1)
    ):
        raise RecipeError("--samples and --limit are at least 1, --draws is at least 2")
    asked = _asked(options)
    _refuse(overrides, ("data.",), "the model is fitted")
    run = _run_of(options.run, overrides)
    splits = load(run.recipe(overrides).data)
    if options.folder is not None:
        print(curves_of_folder(run, splits, options.folder, options.limit).table())
        return 0
    metrics = evaluate_run(
        run, splits, split=options.split, samples=options.samples, seed=options.seed, limit=options.limit
    )
    print(table(metrics))
    if options.curves:
        print(curves_of_split(run, splits, options.split, options.limit).table())
    if options.classifier is not None:
        print(table(judge_run(run, splits, options.split, Run(options.classifier), options.draws, options.seed)))
    if asked is not None:
        print(table(estimates_of_run(run, splits, options.split, asked)))
    if options.disentanglement:
        print(table(disentanglement_of_run(run, splits, options.split, options.seed)))
    return 0


def _asked(options: argparse.Namespace) -> Asked | None:
    """Read which estimates of log p(x) are asked for."""
    if min(options.monte_carlo, options.ais) < 0 or min(options.ais_steps, options.leapfrogs, options.estimated) < 1:
        raise RecipeError(
            "--ais-steps, --leapfrogs and --estimated are at least 1, --monte-carlo and --ais at least 0, for none"
        )
    if options.bdmc and not options.ais:
        raise RecipeError("--bdmc needs chains; add --ais CHAINS, such as --ais 16")
    if not options.monte_carlo and not options.ais:
        return None
    chains = Annealing(options.ais, options.ais_steps, options.leapfrogs, options.ais_start) if options.ais else None
    samples = options.samples or IMPORTANCE_SAMPLES
    return Asked(options.estimated, samples, options.monte_carlo, chains, options.bdmc, options.seed)


def _rate_distortion(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Draw runs by rate and distortion."""
    if overrides:
        raise RecipeError(f"--{next(iter(overrides))} cannot be set here, the runs are evaluated; leave it out")
    note, points = rate_distortion.points_of_runs([Run(path) for path in options.runs])
    rate_distortion.write(note, points, options.output)
    print(rate_distortion.table(points))
    return 0


def _fit_classifier(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Fit a classifier, and print how often it is right."""
    recipe = read_table(options.recipe, ClassifierRecipe, overrides)
    run = Run(options.output or _RUNS / recipe.name)
    progress, accuracy = fit_classifier(run, recipe, resume=options.resume)
    _tell(f"{_summary(run, progress)}; accuracy on the test split {accuracy:.4f}")
    return 0


def _export(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Publish a run."""
    _refuse(overrides, ("data.",), "the model is fitted")
    run = _run_of(options.run, overrides)
    variants = _precisions(options.variants)
    data = load(run.recipe(overrides).data)
    artifact = export(run, data, Store(options.store), show=options.show, variants=variants)
    print(f"published {artifact.reference} in {artifact.path}")
    return 0


def _precisions(words: str) -> tuple[Precision, ...]:
    """Read the names of precisions."""
    known: tuple[Precision, ...] = get_args(Precision)
    for word in filter(None, words.split(",")):
        if word not in known:
            raise ExportError(
                f"--variants {word!r} is unknown, expected {', '.join(known)}: of another precision ONNX Runtime's CPU "
                "provider has no kernels, so that its parity could not be measured"
            )
    return tuple(precision for precision in known if precision in words.split(","))


_COMMANDS = {
    "fit": _fit,
    "fit-prior": _fit_prior,
    "fit-exact": _fit_exact,
    "fit-classifier": _fit_classifier,
    "evaluate": _evaluate,
    "rate-distortion": _rate_distortion,
    "export": _export,
}
