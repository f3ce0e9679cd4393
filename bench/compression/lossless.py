"""Pictures stored to the bit by a model, beside PNG, WebP, gzip and bz2, or sounds beside FLAC, all in whole files.

A model of codes stores each item by itself; one with real-valued latents puts all of them into one archive, and so
do gzip and bz2 then, and PNG and WebP one sheet of all of them if that is smaller.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from tqdm import tqdm

from artifact.manifest import AudioGeometry
from bench.arguments import count
from bench.compression.others import OF_PICTURES, OF_SOUNDS, of_picture, of_sound
from bench.compression.pictures import Picture, read_pictures
from bench.compression.served import Data, Served
from bench.compression.table import markdown
from media.images import contact_sheet
from service.residuals import MOST_VALUES
from training.data import Recordings, load
from training.recipe import read_recipe

_FULL_SCALE = 32768


def main() -> int:
    """Store, read again, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path, help="folder of a model that stores its inputs to the bit")
    parser.add_argument("data", type=Path, help="zip file, folder, or npy [N, H, W, C]; sounds: the data of its recipe")
    parser.add_argument("--every", type=count, default=1, help="take items whose position is a multiple of it")
    parser.add_argument("--limit", type=count, help="take the first so many; left out: all")
    parser.add_argument("--each", action="store_true", help="a row of the table for each item")
    options = parser.parse_args()
    with Served(options.artifact) as served:
        is_archive = served.model.manifest.exact_latents is not None
        is_of_sounds = isinstance(served.model.manifest.geometry, AudioGeometry)
        items = _sounds(options) if is_of_sounds else _pictures(options)
        if is_archive:
            sizes, figures = _archived(served, items)
        else:
            sizes, figures = _one_by_one(served, items, OF_SOUNDS if is_of_sounds else OF_PICTURES, _others(served))
        name = served.reference
    dimensions = [sum(one.size for one in items)] if is_archive else [one.size for one in items]
    if options.each:
        rows = [
            (str(index), *(f"{8 * parts[index] / size:.3f}" for parts in sizes.values()))
            for index, size in enumerate(dimensions)
        ]
        print(markdown(("", *(name if key == "" else key for key in sizes)), rows))
    total = sum(dimensions)
    rows = [
        (key or name, f"{sum(parts):,}", f"{8 * sum(parts) / total:.4f}", f"{sum(parts) / sum(sizes['']):.3f}")
        for key, parts in sizes.items()
    ]
    print(f"{len(items)} of {options.data.name}, {total:,} values; every one came back to the bit")
    print(markdown(("", "bytes", "bits a value", f"over {name}"), rows))
    print("; ".join(f"{key} {value:.4f}" for key, value in figures.items()))
    return 0


def _pictures(options: argparse.Namespace) -> list[Data]:
    """Read the pictures; those that are too large to be stored to the bit are left out."""
    if options.data.suffix == ".npy":
        return list(np.load(options.data, allow_pickle=False)[:: options.every][: options.limit])
    return [
        one for one in read_pictures(options.data, every=options.every, count=options.limit) if one.size <= MOST_VALUES
    ]


def _sounds(options: argparse.Namespace) -> list[Data]:
    """Read the sounds of the test split."""
    test = load(read_recipe(options.artifact / "recipe.toml", {"data.root": str(options.data)}).data).test
    recordings = cast("Recordings", test)
    return [recordings[index] for index in range(0, len(recordings), options.every)][: options.limit]


def _others(served: Served) -> Callable[[Data], tuple[int, ...]]:
    """Give what counts the bytes that others need for an item."""
    geometry = served.model.manifest.geometry
    if isinstance(geometry, AudioGeometry):
        rate_hz = geometry.sample_rate_hz
        return lambda sound: of_sound((sound * _FULL_SCALE).astype(np.int16), rate_hz)
    return lambda picture: of_picture(picture, picture.tobytes())


def _one_by_one(
    served: Served, items: Sequence[Data], names: Sequence[str], others: Callable[[Data], tuple[int, ...]]
) -> tuple[dict[str, list[int]], dict[str, float]]:
    """Store each item by itself: bytes by codec, that of the model first, and its figures over all values."""
    sizes: dict[str, list[int]] = {"": [], **{name: [] for name in names}}
    bits = dict.fromkeys(("token_bits", "residual_bits"), 0.0)
    for item in tqdm(items, unit="item"):
        (written,) = served.store([item])
        _check(served, written.container, [item])
        sizes[""].append(len(written.container))
        for name, size in zip(names, others(item), strict=True):
            sizes[name].append(size)
        for name in bits:
            bits[name] += written.figures[name]
    total = sum(item.size for item in items)
    return sizes, {f"{name.removesuffix('_bits')} bits a value": value / total for name, value in bits.items()}


def _archived(served: Served, pictures: Sequence[Picture]) -> tuple[dict[str, list[int]], dict[str, float]]:
    """Store all pictures together: see `_one_by_one`."""
    (written,) = served.store(pictures)
    _check(served, written.container, pictures)
    sheet, alone = contact_sheet(np.stack(pictures)), np.array([of_picture(one, b"")[:2] for one in pictures]).sum(0)
    is_binary = all(np.isin(one, (0, 255)).all() for one in pictures)
    plain = np.packbits(np.stack(pictures) > 0).tobytes() if is_binary else np.stack(pictures).tobytes()
    png, webp, zipped, squeezed = of_picture(sheet, plain)
    sizes = (len(written.container), min(png, int(alone[0])), min(webp, int(alone[1])), zipped, squeezed)
    return {name: [size] for name, size in zip(("", *OF_PICTURES), sizes, strict=True)}, dict(written.figures)


def _check(served: Served, container: bytes, items: Sequence[Data]) -> None:
    """Read a container again.

    Raises:
        SystemExit: an item differs.
    """
    if not all(map(np.array_equal, served.restore(container), items)):
        raise SystemExit("what was stored to the bit came back as something else")


if __name__ == "__main__":
    raise SystemExit(main())
