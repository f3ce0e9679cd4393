"""What is exported: a fitted model, its prior, and the held-out data that its graphs are held against."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from artifact import manifest as schema
from models.autoregressive import AutoregressiveModel
from models.chain import Chain
from models.model import LatentVariableModel
from training import codes, links
from training.data import Examples, Recordings, Splits
from training.graphs import prior as prior_graphs
from training.graphs.spec import GraphSpec
from training.parity import Images
from training.prior_parity import Grids
from training.recipe import Recipe
from training.whole import padded

PARITY_EXAMPLES = 1000
_WHOLE_PICTURES = 8
_MAXIMUM_SIDE = 2048
_LONGEST_S = 60
_LONGEST_DRAWN_S = 10
"""Of sounds that are decoded sample by sample, each with a probability of every class."""


@dataclass(frozen=True)
class Draft:
    """What is exported.

    Attributes:
        recipe: of the run.
        model: with its best weights.
        prior: likewise, where there is one.
        splits: the data.
        geometry: of its data.
        exact: the prior in exact integers, frozen, where there is one.
    """

    recipe: Recipe
    model: LatentVariableModel
    prior: Chain | None
    splits: Splits
    geometry: schema.Geometry
    exact: Chain | None = None

    @property
    def any_size(self) -> bool:
        """Whether the model takes data of any size."""
        return not self.splits.train.uniform

    @cached_property
    def images(self) -> list[Images]:
        """The held-out images that parity is measured on."""
        return held_out(self.splits.test, self.geometry)

    @cached_property
    def grids(self) -> list[Grids]:
        """Codes of these, link by link of a prior; of examples of one size where the prior knows no other."""
        books = codes.codebooks(links.codes_of(self.model))
        of_any_size = self.prior is None or all(link.any_size for link in self.prior)
        data = self.images if of_any_size else [self.splits.test.fixed(PARITY_EXAMPLES)]
        encodings = [codes.encode(self.model, images) for images in data]
        return [[book.grid(encoding) for book in books] for encoding in encodings]

    def prior_specs(self) -> tuple[GraphSpec, ...]:
        """List the graphs of the prior; none where there is none."""
        if self.prior is None:
            return ()
        return prior_graphs.graphs(self.prior, links.codes_of(self.model).strides, any_size=self.any_size)

    def exact_specs(self) -> tuple[GraphSpec, ...]:
        """List the graphs of the prior in exact integers; none where there is none."""
        if self.exact is None:
            return ()
        strides, prefix = links.codes_of(self.model).strides, schema.EXACT_PRIOR
        return prior_graphs.graphs(self.exact, strides, any_size=self.any_size, prefix=prefix)


def geometry(model: LatentVariableModel, splits: Splits) -> schema.Geometry:
    """Say what a model takes: images of the size that it was fitted to, or any where it was fitted to crops; sounds."""
    factor = codes.downsampling(model)
    if isinstance(splits.train, Recordings):
        hz = splits.train.sample_rate_hz
        longest_s = _LONGEST_DRAWN_S if isinstance(model, AutoregressiveModel) else _LONGEST_S
        return schema.AudioGeometry(sample_rate_hz=hz, multiple_of=factor, maximum=longest_s * hz // factor * factor)
    height, width, channels = splits.train.shape
    if splits.train.uniform:
        return schema.ImageGeometry(channels=channels, height=height, width=width, multiple_of=factor)
    return schema.ImageGeometry(channels=channels, multiple_of=factor, maximum=_MAXIMUM_SIDE)


def held_out(test: Examples, geometry: schema.Geometry) -> list[Images]:
    """Choose what parity is measured on: of pictures of any size crops, whole ones, and one as long as is taken.

    Args:
        test: the split.
        geometry: of what the model takes.

    Returns:
        Arrays, each of images of one size.
    """
    if test.uniform:
        return [test.fixed(PARITY_EXAMPLES)]
    random, multiple_of = np.random.Generator(np.random.Philox(key=[0, 0])), geometry.multiple_of
    crops = test.batch(np.arange(PARITY_EXAMPLES) % len(test), random)
    whole = [padded(test[index], multiple_of)[0][None].copy() for index in range(min(_WHOLE_PICTURES, len(test)))]
    if isinstance(test, Recordings):
        longest = np.resize(whole[0][0], geometry.maximum)
    else:
        longest = np.resize(whole[0][0].swapaxes(0, 1), (_MAXIMUM_SIDE, *whole[0].shape[1:2], whole[0].shape[3]))
    return [crops, *whole, longest[None]]
