"""Rate and distortion of containers, as the service writes them, beside JPEG, WebP and Opus on the same files.

Rates are of whole files: a container with its header, a JPEG, a WebP, an Opus stream in Ogg. The model's own curve in
bits of codes, without a header, is that of `training evaluate --curves`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from bench.arguments import count
from bench.compression.pictures import read_pictures
from bench.compression.served import Data, Served
from models.code_priors import Conditions
from service.bitstreams import Wish
from training.data import Recordings, load
from training.evaluation.curves import Curves, Item, picture_curves, sound_curves
from training.evaluation.plot import plot
from training.evaluation.reconstruct import Reconstruction, Reconstructor
from training.recipe import read_recipe


class Containers:
    """What `Reconstructor` gives, by containers of the service: every number of codebooks that can be kept.

    Args:
        served: the model.
    """

    def __init__(self, served: Served) -> None:
        self.served = served
        self.codebooks = max(getattr(level, "num_codebooks", 1) for level in served.model.manifest.latent)

    def each_rate(self, x: Data, conditions: Conditions | None = None) -> Iterator[Reconstruction]:
        """Send one example through the service; see `Reconstructor.each_rate`."""
        del conditions
        for kept in range(1, self.codebooks + 1):
            written = self.served.compress(x, Wish(codebooks=kept if self.codebooks > 1 else None))
            answer = self.served.decompress(written.container)
            yield Reconstruction(kept, answer, {"containers": 8.0 * len(written.container)})


def main() -> int:
    """Measure, print the table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path, help="folder of a model of codes")
    parser.add_argument("data", type=Path, help="pictures: zip file or folder; sounds: the data of its recipe")
    parser.add_argument("--every", type=count, default=1, help="of pictures, take each whose position is a multiple")
    parser.add_argument("--limit", type=count, help="take the first so many; left out: all")
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    options = parser.parse_args()
    with Served(options.artifact) as served:
        curves = replace(_measure(served, options), counted="Rates are of whole files, headers and all")
    print(curves.table())
    if options.plot:
        plot(curves, options.plot)
    return 0


def _measure(served: Served, options: argparse.Namespace) -> Curves:
    """Measure by the modality of the model."""
    name = served.model.manifest.name
    containers = cast("Reconstructor", Containers(served))
    geometry = served.model.manifest.geometry
    if geometry.modality == "image":
        pictures = read_pictures(options.data, every=options.every, count=options.limit)
        return picture_curves(name, options.data.name, containers, [Item(one, {}) for one in pictures])
    splits = load(read_recipe(options.artifact / "recipe.toml", {"data.root": str(options.data)}).data)
    test = cast("Recordings", splits.test)
    number = len(test) if options.limit is None else min(options.limit, len(test))
    items = [Item(test[index], {}) for index in range(number)]
    return sound_curves(name, f"the test split of {splits.name}", containers, items, test.sample_rate_hz)


if __name__ == "__main__":
    raise SystemExit(main())
