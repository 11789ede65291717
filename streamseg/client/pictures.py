"""From what a caller has in hand to the bytes of a picture file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from streamseg.errors import NotFoundError, UnsupportedMediaError

ImageLike: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[Any]

# Above this a PNG takes longer to write than a small model takes to segment.
MAX_PNG_PIXELS = 4_000_000
JPEG_QUALITY = 95
LIVE_JPEG_QUALITY = 90
_JPEG_MODES = {"L", "RGB"}
_PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}


def picture_bytes(image: ImageLike, *, live: bool = False) -> bytes:
    """The picture file to send.

    Files, file objects and bytes are sent as they are. Arrays and PIL images become PNG, which loses nothing, so that
    the server sees the pixels that the caller has; above 4 megapixels they become JPEG (quality 95, no chroma
    subsampling), because there PNG costs more time than it is worth. ``live``: always JPEG (quality 90), for frames of
    a camera.

    Arrays are uint8 (H, W, 3) RGB; uint8 (H, W) and (H, W, 4), bool and uint16 (H, W) are taken too.
    Raises NotFoundError or UnsupportedMediaError.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return _read(Path(image))
    if isinstance(image, Image.Image):
        return _encode(ImageOps.exif_transpose(image), live)
    if isinstance(image, np.ndarray):
        return _encode(_from_array(image), live)
    if callable(getattr(image, "read", None)):
        return bytes(image.read())
    raise UnsupportedMediaError(
        f"an image is a path, bytes, a PIL image or an RGB array (H, W, 3), not {type(image).__name__}"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"the picture {path} does not exist") from None
    except OSError as error:
        raise UnsupportedMediaError(f"the picture {path} cannot be read: {error.strerror}") from None


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    coloured = array.ndim == 3 and array.dtype == np.uint8 and array.shape[2] in (3, 4)
    if not (grey or coloured) or 0 in array.shape:
        raise UnsupportedMediaError(f"a picture array is uint8 (H, W, 3) RGB, not {array.dtype} {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def _encode(picture: Image.Image, live: bool) -> bytes:
    buffer = io.BytesIO()
    large = picture.width * picture.height > MAX_PNG_PIXELS
    if picture.mode in _JPEG_MODES and (live or large):
        quality = LIVE_JPEG_QUALITY if live else JPEG_QUALITY
        picture.save(buffer, "JPEG", quality=quality, subsampling=2 if live else 0)
    elif picture.mode in _PNG_MODES:
        picture.save(buffer, "PNG", compress_level=1)
    else:
        # CMYK and more than 8 bits: TIFF holds them as they are, and the server knows how to show them.
        picture.save(buffer, "TIFF")
    return buffer.getvalue()
