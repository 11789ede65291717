"""Still images of any accepted kind, as one upright RGB frame."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from streamseg.errors import NotFoundError, StreamsegError, TooLargeError, UnsupportedMediaError
from streamseg.media.frame import Frame, RgbImage
from streamseg.media.tones import Window, check_window, to_8_bit

ImageSource: TypeAlias = bytes | bytearray | memoryview | str | Path | BinaryIO | Image.Image | NDArray[Any]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
ACCEPTED = "JPEG, PNG, WebP, BMP, GIF or TIFF"

_DEEP_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I", "F"})
_WHITE_IS_ZERO = 0

# What undoes each value of the EXIF orientation tag; 1 and unknown values are upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What one image may cost: pixels after decoding, bytes of the file before it.

    Pillow refuses more than 178,956,970 pixels whatever ``max_pixels`` says.
    """

    max_pixels: int = 50_000_000
    max_bytes: int = 32 * 2**20


_TILE_SIZE_TAGS = (322, 323)


def decode_image(
    source: ImageSource,
    *,
    limits: ImageLimits | None = None,
    window: Window | None = None,
    index: int = 0,
    time_s: float = 0.0,
) -> Frame:
    """One image as a Frame: RGB, upright (EXIF orientation applied), alpha laid over white.

    ``source``: the bytes of a JPEG, PNG, WebP, BMP, GIF (first frame) or TIFF (first page) file, a path to one, a
    binary file object, a PIL image, or a numpy array: uint8, uint16 or bool, (H, W), (H, W, 1), (H, W, 3) RGB or
    (H, W, 4) RGBA. Text is always a path: nothing is fetched from the network. An array that needs no conversion is
    used as it is, without a copy.

    ``window``: (low, high), the values that become black and white, for grey images of more than 8 bits and uint16
    arrays; it has no meaning for others. Without it 16 bit spans 0 to 65535; see ``tones`` for the rest.

    Raises NotFoundError (no such file), TooLargeError (over ``limits``; sizes are checked from the header, before any
    pixel is decoded), UnsupportedMediaError (everything else that is no usable image), BadSettingError (``window``).
    """
    limits = limits or ImageLimits()
    if window is not None:
        window = check_window(window)
    if isinstance(source, np.ndarray):
        rgb = _from_array(source, limits, window)
    elif isinstance(source, Image.Image):
        rgb = _from_picture(source, limits, window)
    else:
        rgb = _from_file(_read(source, limits.max_bytes), limits, window)
    return Frame(rgb, index, time_s)


def _read(source: Any, max_bytes: int) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        size = source.nbytes if isinstance(source, memoryview) else len(source)
        if size > max_bytes:
            _too_many_bytes(size, max_bytes)
        data = bytes(source)
    elif isinstance(source, str | os.PathLike):
        data = _read_path(source, max_bytes)
    elif callable(getattr(source, "read", None)):
        data = _read_object(source, max_bytes)
    else:
        raise UnsupportedMediaError(
            f"an image is a path, bytes, a binary file, a PIL image or a numpy array, not {type(source).__name__}"
        )
    if not data:
        raise UnsupportedMediaError(f"the image file is empty (0 bytes); give a {ACCEPTED} file")
    return data


def _read_path(source: str | os.PathLike[Any], max_bytes: int) -> bytes:
    name = os.fsdecode(source)
    try:
        status = Path(name).stat()
        if stat.S_ISDIR(status.st_mode):
            raise UnsupportedMediaError(f"{name} is a folder; give an image file inside it")
        if not stat.S_ISREG(status.st_mode):
            raise UnsupportedMediaError(f"{name} is no regular file; give an image file")
        if status.st_size > max_bytes:
            _too_many_bytes(status.st_size, max_bytes)
        with Path(name).open("rb") as file:
            return _read_object(file, max_bytes)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        hint = " (addresses are not fetched: download the image first)" if "://" in name else ""
        raise NotFoundError(f"no such file: {name[:300]}{hint}") from error
    except OSError as error:
        raise UnsupportedMediaError(f"{name[:300]} cannot be read: {error.strerror or error}") from error


def _read_object(file: Any, max_bytes: int) -> bytes:
    data = file.read(max_bytes + 1)
    if not isinstance(data, bytes):
        raise UnsupportedMediaError("the file gives text, not bytes: open it in binary mode ('rb')")
    if len(data) > max_bytes:
        _too_many_bytes(None, max_bytes)
    return data


def _from_file(data: bytes, limits: ImageLimits, window: Window | None) -> RgbImage:
    # A decoder fed by strangers fails in many ways (struct.error, KeyError, SyntaxError, zlib.error, ...): whatever
    # it raises, the file is what is wrong.
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as picture:
            return _from_picture(picture, limits, window)
    except StreamsegError:
        raise
    except UnidentifiedImageError as error:
        raise UnsupportedMediaError(f"this is no image of an accepted format: {ACCEPTED}{_hint(data)}") from error
    except Exception as error:
        _damaged(error, limits)


def _from_picture(picture: Image.Image, limits: ImageLimits, window: Window | None) -> RgbImage:
    _check_size(picture.width, picture.height, limits)
    _check_tiles(picture)
    try:
        picture.load()
        deep = picture.mode in _DEEP_MODES
        flat = _deep_grey(picture, window) if deep else _flatten(picture)
        upright = _UPRIGHT.get(_orientation(picture))
        if upright is not None:
            flat = flat.transpose(upright)
        return np.array(flat.convert("RGB"))
    except (StreamsegError, MemoryError):
        raise
    except Exception as error:
        _damaged(error, limits)


def _check_tiles(picture: Image.Image) -> None:
    """A TIFF of few pixels may be made of tiles that unpack to gigabytes each."""
    tags = getattr(picture, "tag_v2", None)
    if tags is None:
        return
    width, height = (_first_number(tags.get(tag)) for tag in _TILE_SIZE_TAGS)
    # Tiles are padded to multiples of 16, and writers choose up to 1024 whatever the size of the picture.
    if width * height > max(4 * picture.width * picture.height, 2**22):
        raise UnsupportedMediaError(
            f"the TIFF claims tiles of {width} x {height} pixels for a picture of {picture.width} x {picture.height}"
        )


def _first_number(value: Any) -> int:
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else 0


def _orientation(picture: Image.Image) -> int:
    # Damaged EXIF data says nothing about the pixels: the image is then shown as it is stored.
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _flatten(picture: Image.Image) -> Image.Image:
    """The picture as RGB; whatever is transparent shows white."""
    if picture.mode == "LAB":
        raise UnsupportedMediaError("the image is in LAB colours; save it as RGB, grey or CMYK")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    rgba = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
    ground = Image.new("RGB", rgba.size, "white")
    ground.paste(rgba, mask=rgba.getchannel("A"))
    return ground


def _deep_grey(picture: Image.Image, window: Window | None) -> Image.Image:
    grey = to_8_bit(np.asarray(picture), window)
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.mode.startswith("I;16"):
        # Pillow inverts 8-bit files in which white is zero, but not those of 16 bits.
        photometric = picture.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
        if photometric == _WHITE_IS_ZERO:
            grey = 255 - grey
    return Image.fromarray(grey)


def _from_array(array: NDArray[Any], limits: ImageLimits, window: Window | None) -> RgbImage:
    shape = array.shape
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        order = "; this looks like (C, H, W): use array.transpose(1, 2, 0)" if shape[:1] in ((1,), (3,), (4,)) else ""
        raise UnsupportedMediaError(
            f"an image array has shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {shape}{order}"
        )
    height, width = shape[:2]
    _check_size(width, height, limits)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = to_8_bit(array, window)
    elif array.dtype != np.uint8:
        raise UnsupportedMediaError(
            f"an image array holds uint8 (0 to 255), uint16 or bool, not {array.dtype}; "
            "scale it to 0 to 255 and convert it with .astype(numpy.uint8)"
        )
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    if shape[2] == 4:
        return np.array(_flatten(Image.fromarray(np.ascontiguousarray(array), "RGBA")))
    return np.ascontiguousarray(array)


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width < 1 or height < 1:
        raise UnsupportedMediaError(f"the image is {width} x {height}: it must have at least one pixel")
    if width * height > limits.max_pixels:
        raise TooLargeError(
            f"the image has {width} x {height} = {width * height} pixels; at most {limits.max_pixels} are allowed"
        )


def _too_many_bytes(size: int | None, max_bytes: int) -> NoReturn:
    has = f"has {size} bytes" if size is not None else "is longer"
    raise TooLargeError(f"the image file {has}; at most {max_bytes} bytes are allowed")


def _damaged(error: Exception, limits: ImageLimits) -> NoReturn:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        raise TooLargeError(f"the image has too many pixels; at most {limits.max_pixels} are allowed") from error
    text = str(error).lower()
    if "too large" in text or "too much memory" in text or "larger than" in text:
        raise TooLargeError("the image's metadata unpacks to more than is allowed; save it without them") from error
    raise UnsupportedMediaError("the image file is truncated or damaged; save or send it again") from error


def _hint(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return "; this looks like HEIC, AVIF or a video"
    if data[:4] == b"%PDF":
        return "; this is a PDF"
    start = data[:256].lstrip().lower()
    if start.startswith((b"<?xml", b"<svg")):
        return "; this looks like SVG"
    return "; this is a web page" if start.startswith((b"<!doctype html", b"<html")) else ""
