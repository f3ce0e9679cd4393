"""Pictures stored to the bit by a model, beside PNG, WebP, gzip and bz2 on the same pixels, all in whole files.

A model of codes stores each picture by itself; one with real-valued latents puts all of them into one archive, and so
do gzip and bz2 then, and PNG and WebP one sheet of all of them if that is smaller.
"""

import argparse
import bz2
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from bench.arguments import count
from bench.compression.pictures import Picture, read_pictures
from bench.compression.served import Served
from bench.compression.table import markdown
from media.images import contact_sheet, to_pillow
from service.residuals import MOST_VALUES

_OTHERS = ("PNG", "WebP lossless", "gzip", "bz2")


def main() -> int:
    """Store, read again, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path, help="folder of a model that stores pictures to the bit")
    parser.add_argument("pictures", type=Path, help="zip file, folder, or npy of pictures [N, H, W, C]")
    parser.add_argument("--every", type=count, default=1, help="take pictures whose position is a multiple of it")
    parser.add_argument("--limit", type=count, help="take the first so many; left out: all")
    parser.add_argument("--each", action="store_true", help="a row of the table for each picture")
    options = parser.parse_args()
    pictures = [one for one in _read(options) if one.size <= MOST_VALUES]
    with Served(options.artifact) as served:
        is_archive = served.model.manifest.exact_latents is not None
        sizes, figures = _archived(served, pictures) if is_archive else _one_by_one(served, pictures)
        name = served.reference
    dimensions = [sum(one.size for one in pictures)] if is_archive else [one.size for one in pictures]
    if options.each:
        rows = [
            (str(index), *(f"{8 * parts[index] / size:.3f}" for parts in sizes.values()))
            for index, size in enumerate(dimensions)
        ]
        print(markdown(("picture", *(name if key == "" else key for key in sizes)), rows))
    total = sum(dimensions)
    rows = [
        (key or name, f"{sum(parts):,}", f"{8 * sum(parts) / total:.4f}", f"{sum(parts) / sum(sizes['']):.3f}")
        for key, parts in sizes.items()
    ]
    print(f"{len(pictures)} pictures of {options.pictures.name}, {total:,} values; every one came back to the bit")
    print(markdown(("", "bytes", "bits a value", f"over {name}"), rows))
    print("; ".join(f"{key} {value:.4f}" for key, value in figures.items()))
    return 0


def _read(options: argparse.Namespace) -> list[Picture]:
    """Read the pictures."""
    if options.pictures.suffix == ".npy":
        return list(np.load(options.pictures, allow_pickle=False)[:: options.every][: options.limit])
    return read_pictures(options.pictures, every=options.every, count=options.limit)


def _one_by_one(served: Served, pictures: Sequence[Picture]) -> tuple[dict[str, list[int]], dict[str, float]]:
    """Store each picture by itself: bytes by codec, that of the model first, and its figures over all values."""
    sizes: dict[str, list[int]] = {"": [], **{name: [] for name in _OTHERS}}
    bits = dict.fromkeys(("token_bits", "residual_bits"), 0.0)
    for picture in tqdm(pictures, unit="picture"):
        (written,) = served.store([picture])
        _check(served, written.container, [picture])
        sizes[""].append(len(written.container))
        for name, size in zip(_OTHERS, _sizes(picture, picture.tobytes()), strict=True):
            sizes[name].append(size)
        for name in bits:
            bits[name] += written.figures[name]
    total = sum(picture.size for picture in pictures)
    return sizes, {f"{name.removesuffix('_bits')} bits a value": value / total for name, value in bits.items()}


def _archived(served: Served, pictures: Sequence[Picture]) -> tuple[dict[str, list[int]], dict[str, float]]:
    """Store all pictures together: see `_one_by_one`."""
    (written,) = served.store(pictures)
    _check(served, written.container, pictures)
    sheet, alone = contact_sheet(np.stack(pictures)), np.array([_sizes(one, b"")[:2] for one in pictures]).sum(0)
    is_binary = all(np.isin(one, (0, 255)).all() for one in pictures)
    plain = np.packbits(np.stack(pictures) > 0).tobytes() if is_binary else np.stack(pictures).tobytes()
    png, webp, zipped, squeezed = _sizes(sheet, plain)
    sizes = (len(written.container), min(png, int(alone[0])), min(webp, int(alone[1])), zipped, squeezed)
    return {name: [size] for name, size in zip(("", *_OTHERS), sizes, strict=True)}, dict(written.figures)


def _check(served: Served, container: bytes, pictures: Sequence[Picture]) -> None:
    """Read a container again.

    Raises:
        SystemExit: a picture differs.
    """
    if not all(map(np.array_equal, served.restore(container), pictures)):
        raise SystemExit("a picture that was stored to the bit came back as another one")


def _sizes(picture: Picture, plain: bytes) -> tuple[int, int, int, int]:
    """Give the bytes that others need: of two values alone, at one bit a pixel."""
    image = to_pillow(picture)
    binary = image.convert("1") if picture.shape[2] == 1 and np.isin(picture, (0, 255)).all() else image
    png = _saved(binary, format="PNG", optimize=True)
    webp = _saved(image.convert("RGB"), format="WEBP", lossless=True, quality=100, method=6)
    return png, webp, len(gzip.compress(plain, 9, mtime=0)), len(bz2.compress(plain, 9))


def _saved(image: Image.Image, **how: str | int | bool) -> int:
    """Give the bytes of a file."""
    file = io.BytesIO()
    image.save(file, **how)  # type: ignore[arg-type]
    return file.tell()


if __name__ == "__main__":
    raise SystemExit(main())
