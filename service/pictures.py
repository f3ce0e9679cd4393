"""Pictures of a request: read at any size, brought to a model's, and taken back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from artifact.manifest import ImageGeometry
from media.arrays import read_npy
from media.geometry import Placement, fit_image
from media.images import read_image
from service.bodies import IMAGES, NPY, SOUNDS, Body, check_kind, files
from service.engine.opening import ServedModel
from service.errors import ParameterError
from service.faults import naming
from service.limits import check_pixels, check_rows, longest_side
from service.options import FitName
from service.settings import Settings


@dataclass(frozen=True)
class Pictures:
    """Pictures of a request, brought to a model's geometry.

    Attributes:
        images: what the model gets.
        placements: how each answer goes back to its original's extent.
    """

    images: UInt8[np.ndarray, "B H W C"]
    placements: tuple[Placement, ...]

    @property
    def x(self) -> UInt8[np.ndarray, "B H W C"]:
        """What the model gets, of whatever kind it is."""
        return self.images

    @property
    def extents(self) -> list[tuple[int, ...]]:
        """The height and width of each picture as it goes back to the caller."""
        restored = (one.restore(image) for one, image in zip(self.placements, self.images, strict=True))
        return [image.shape[:2] for image in restored]


def pictures(
    body: Body, model: ServedModel, fit: FitName | None, settings: Settings, check: Callable[[], None]
) -> Pictures:
    """Read the pictures of a body and bring them to a model's geometry.

    Args:
        body: of a type among `MEDIA_BODIES`.
        model: whose geometry counts.
        fit: what to do with another geometry; None for the model's default.
        settings: the limits.
        check: called between pictures; raises when nobody waits any more.

    Returns:
        The pictures.

    Raises:
        ServiceError: no pictures, too many, or of differing sizes.
        MediaError: a picture cannot be read or does not fit.
    """
    geometry, maximum = model.manifest.geometry, longest_side(settings, model.manifest)
    if not isinstance(geometry, ImageGeometry):
        raise ParameterError(f"{model.reference} is a model of sounds; send it audio, or choose a model of pictures")
    check_kind(body, model, SOUNDS, "a model of pictures", IMAGES)
    if body.media_type == NPY and (as_they_are := _whole_array(body, geometry, maximum, settings)) is not None:
        return as_they_are
    found: list[tuple[UInt8[np.ndarray, "h w C"], Placement]] = []
    total = 0
    readers = _readers(body, geometry, settings)
    for index, read in enumerate(readers):
        check()
        with naming(index, len(readers)):
            found.append(_fitted(read(), geometry, maximum, fit))
            height, width = found[-1][0].shape[:2]
            total += height * width
            check_pixels(settings, height, width, total=total)
    if not found:
        raise ParameterError("the request holds no picture; send a file, a form, an array or JSON items")
    if len({image.shape for image, _ in found}) > 1:
        cure = "bring them to one size, or send them one by one"
        raise ParameterError(f"the pictures of one request differ in size for {model.reference}; {cure}")
    return Pictures(np.stack([image for image, _ in found]), tuple(placement for _, placement in found))


def _whole_array(body: Body, geometry: ImageGeometry, maximum: int, settings: Settings) -> Pictures | None:
    """Take an array as it is where its pictures need no fitting; None where they do."""
    images = _image_array(read_npy(body.data, max_bytes=settings.max_body_bytes), geometry, settings)
    rows, height, width, _ = images.shape
    check_pixels(settings, height, width, total=rows * height * width)
    if not takes(geometry, maximum, height, width):
        return None
    return Pictures(images, (Placement((height, width), padded=False),) * rows)


def takes(geometry: ImageGeometry, maximum: int, height: int, width: int) -> bool:
    """Tell whether a model takes pictures of a size as they are; `maximum` is for sides that are not fixed."""
    return all(
        side == fixed if fixed is not None else side % geometry.multiple_of == 0 and side <= maximum
        for side, fixed in ((height, geometry.height), (width, geometry.width))
    )


def _fitted(
    image: UInt8[np.ndarray, "H W C"], geometry: ImageGeometry, maximum: int, fit: FitName | None
) -> tuple[UInt8[np.ndarray, "h w C"], Placement]:
    """Bring one picture to the geometry; a model of fixed size refuses others unless told how to fit them."""
    fixed = geometry.height is not None
    return fit_image(
        image,
        height=geometry.height,
        width=geometry.width,
        multiple_of=geometry.multiple_of,
        maximum=maximum,
        fit=fit or ("error" if fixed else "pad"),
    )


def _readers(
    body: Body, geometry: ImageGeometry, settings: Settings
) -> Sequence[Callable[[], UInt8[np.ndarray, "H W C"]]]:
    """Give what reads each picture of a body, to be called one after the other."""
    if body.media_type == NPY:
        array = _image_array(read_npy(body.data, max_bytes=settings.max_body_bytes), geometry, settings)
        return [partial(array.__getitem__, index) for index in range(len(array))]
    read = partial(read_image, channels=geometry.channels, max_pixels=settings.max_pixels)
    return [partial(read, data) for data in files(body, "image", settings, taken=IMAGES)]


def _image_array(
    array: NDArray[np.generic], geometry: ImageGeometry, settings: Settings
) -> UInt8[np.ndarray, "B H W C"]:
    """Check an array of pictures."""
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != geometry.channels or 0 in array.shape:
        raise ParameterError(
            f"the array is {array.dtype} {array.shape}, expected uint8 [B, H, W, {geometry.channels}], none of them 0"
        )
    check_rows(settings, len(array))
    return array.astype(np.uint8, copy=False)
