"""Writes or reads the streams of a campaign by the torch modules of a run; prints what came of it as JSON."""

import argparse
import json
from pathlib import Path

import torch

from artifact.exact import ExactPrior
from artifact.golden import Run as GraphRun
from artifact.manifest import EXACT_PRIOR
from bench.compression.worker import prior_of, work
from training import links
from training.data import load
from training.errors import RunError
from training.graphs import prior as prior_graphs
from training.graphs.spec import run_modules
from training.run import Run


def main() -> int:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path, help="folder of a model with an exact prior")
    parser.add_argument("run", type=Path, help="folder of the run that it was exported from")
    parser.add_argument("root", help="where the run's data are")
    parser.add_argument("streams", type=Path, help="npz of the campaign")
    parser.add_argument("way", choices=("rewrite", "read"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--count", type=int, help="of the first streams; left out: all")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prior = prior_of(options.artifact)
    run = modules(prior, Run(options.run), options.root)
    print(json.dumps(work(prior, run, options.streams, options.way, options.batch, options.count)))
    return 0


def modules(prior: ExactPrior, run: Run, root: str) -> GraphRun:
    """Give the modules of a run in place of the written graphs.

    Raises:
        RunError: the run has no exact prior, or another one.
    """
    recipe = run.recipe({"data.root": root})
    splits = load(recipe.data)
    model = run.model(recipe, splits.train.shape)
    chain = run.exact_chain(recipe, model, splits)
    if chain is None:
        raise RunError(f"{run.path} has no exact prior; run fit-exact {run.path}")
    any_size = any(link.any_size for link in prior.links)
    specs = prior_graphs.graphs(chain, links.codes_of(model).strides, any_size=any_size, prefix=EXACT_PRIOR)
    return run_modules(specs)


if __name__ == "__main__":
    raise SystemExit(main())
