"""Masks drawn over their frame; every object costs as much as its window."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from streamseg.errors import BadSettingError
from streamseg.media.frame import Frame, RgbImage

Color: TypeAlias = tuple[int, int, int]
Effect: TypeAlias = Literal["overlay", "outline", "blur", "grey", "color"]
Points: TypeAlias = tuple[tuple[int, int], ...]

# Object n has entry (n - 1) modulo the length. clients/web/js/palette.js is the same list: change both together.
PALETTE_HEX = (
    "#1e90ff", "#ff7f0e", "#2ecc40", "#e6194b", "#b14aed", "#ffd60a", "#00c2c7", "#ff5fa8",
    "#8c6d31", "#a6e22e", "#3b3fd8", "#ff9f80", "#007f5f", "#c9184a", "#7fb3ff", "#9a7b00",
    "#d896ff", "#4f772d", "#ff3d00", "#94d2bd",
)  # fmt: skip

MAX_OUTLINE_PX = 16


class Window(Protocol):
    """A mask as a window of its frame: ``bits`` bool (h, w), the pixels from column ``x0`` and row ``y0`` on."""

    @property
    def x0(self) -> int: ...
    @property
    def y0(self) -> int: ...
    @property
    def bits(self) -> NDArray[np.bool_]: ...


class Drawable(Protocol):
    """An object as far as drawing asks: which one it is, and where."""

    @property
    def object_id(self) -> int: ...
    @property
    def region(self) -> Window: ...


class Masks(Protocol):
    """The masks of one frame, as ``FrameResult`` has them: drawing knows no more of the room that makes them."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def objects(self) -> Sequence[Drawable]: ...


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How masks are drawn.

    ``effect``: ``overlay`` tints each object in its colour, ``outline`` draws only its edge; ``blur``, ``grey`` and
    ``color`` leave the objects as they are and change the rest of the picture. ``opacity``: 0 to 1, of the tint.
    ``outline_px``: width of the edge line, 0 for none. ``background``: RGB of the effect ``color``. ``blur_px``:
    standard deviation of the effect ``blur``. Raises BadSettingError for values outside these ranges.
    """

    effect: Effect = "overlay"
    opacity: float = 0.5
    outline_px: int = 2
    background: Color = (0, 177, 64)
    blur_px: float = 12.0

    def __post_init__(self) -> None:
        if self.effect not in get_args(Effect):
            raise BadSettingError(f"effect must be one of {', '.join(get_args(Effect))}, not {self.effect!r}")
        if not 0.0 <= self.opacity <= 1.0:
            raise BadSettingError(f"opacity must be from 0 to 1, not {self.opacity!r}")
        if self.outline_px not in range(MAX_OUTLINE_PX + 1):
            raise BadSettingError(f"outline_px must be a whole number from 0 to {MAX_OUTLINE_PX}")
        if len(self.background) != 3 or any(value not in range(256) for value in self.background):
            raise BadSettingError(f"background must be three whole numbers from 0 to 255, not {self.background!r}")
        if not (math.isfinite(self.blur_px) and 0.0 < self.blur_px <= 200.0):
            raise BadSettingError(f"blur_px must be over 0 and at most 200, not {self.blur_px!r}")


def color_of(object_id: int) -> Color:
    """RGB of an object; depends on nothing but its id."""
    digits = PALETTE_HEX[(object_id - 1) % len(PALETTE_HEX)]
    return int(digits[1:3], 16), int(digits[3:5], 16), int(digits[5:7], 16)


def draw_overlay(frame: Frame | RgbImage, result: Masks, options: RenderOptions | None = None) -> RgbImage:
    """A new uint8 (H, W, 3) RGB picture with the masks of ``result`` drawn over ``frame``.

    Objects are drawn in the order of ``result``, so a later one lies over an earlier one; outlines come last and stay
    visible everywhere. Raises BadSettingError if the result belongs to a frame of another size.
    """
    options = options or RenderOptions()
    rgb = _pixels(frame, result)
    if options.effect in ("overlay", "outline"):
        out = rgb.copy()
        if options.effect == "overlay":
            for object_id, region in _regions(result):
                _tint(out, region, color_of(object_id), options.opacity)
    else:
        out = _background(rgb, options)
        for _, region in _regions(result):
            window = _window(region)
            cv2.copyTo(rgb[window], region.bits.view(np.uint8), out[window])
    if options.outline_px and options.effect in ("overlay", "outline"):
        for object_id, region in _regions(result):
            _outline(out, region, color_of(object_id), options.outline_px)
    return out


def cut_out(frame: Frame | RgbImage, result: Masks) -> NDArray[np.uint8]:
    """The objects alone: uint8 (H, W, 4) RGBA, alpha 255 on any mask and 0 elsewhere, where the colour is black."""
    rgb = _pixels(frame, result)
    out = np.zeros((*rgb.shape[:2], 4), dtype=np.uint8)
    for _, region in _regions(result):
        window = _window(region)
        cv2.copyTo(cv2.cvtColor(rgb[window], cv2.COLOR_RGB2RGBA), region.bits.view(np.uint8), out[window])
    return out


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """A uint8 picture as PNG: (H, W) grey or (H, W, 4) RGBA."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def encode_jpeg(rgb: RgbImage, quality: int = 85) -> bytes:
    """A uint8 (H, W, 3) RGB picture as JPEG; ``quality`` 1 to 100."""
    if quality not in range(1, 101):
        raise BadSettingError(f"the JPEG quality must be a whole number from 1 to 100, not {quality!r}")
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    if not done:
        raise BadSettingError(f"a picture of {rgb.shape[1]} x {rgb.shape[0]} cannot be a JPEG: at most 65,500 a side")
    return data.tobytes()


def _pixels(frame: Frame | RgbImage, result: Masks) -> RgbImage:
    rgb = frame.rgb if isinstance(frame, Frame) else frame
    if rgb.shape != (result.height, result.width, 3) or rgb.dtype != np.uint8:
        raise BadSettingError(
            f"the result belongs to a uint8 frame of shape {(result.height, result.width, 3)}, "
            f"not to a {rgb.dtype} one of {rgb.shape}"
        )
    return np.ascontiguousarray(rgb)


def _regions(result: Masks) -> Iterator[tuple[int, Window]]:
    return ((one.object_id, one.region) for one in result.objects if one.region.bits.size)


def _window(region: Window) -> tuple[slice, slice]:
    h, w = region.bits.shape
    return slice(region.y0, region.y0 + h), slice(region.x0, region.x0 + w)


def _tint(out: RgbImage, region: Window, color: Color, opacity: float) -> None:
    pixels = out[_window(region)]
    mix = np.zeros((3, 4), dtype=np.float32)
    mix[:, :3] = np.eye(3) * (1.0 - opacity)
    mix[:, 3] = np.array(color) * opacity
    cv2.copyTo(cv2.transform(pixels, mix), region.bits.view(np.uint8), pixels)


def _outline(out: RgbImage, region: Window, color: Color, width_px: int) -> None:
    contours, _ = cv2.findContours(region.bits.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # A thin line drawn at each point of a disc is the thick line, and far cheaper than OpenCV's own thick segments.
    for dx, dy in _disc(width_px):
        cv2.drawContours(out, contours, -1, color, 1, offset=(region.x0 + dx, region.y0 + dy))


@lru_cache(maxsize=MAX_OUTLINE_PX)
def _disc(width_px: int) -> Points:
    """Offsets whose outer shell is a disc ``width_px`` wide; a line drawn at each leaves no gap."""
    if width_px <= 2:
        return tuple((x, y) for y in range(width_px) for x in range(width_px))
    disc: Any = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px))
    rows, columns = np.nonzero(disc)
    half = width_px // 2
    return tuple((int(x) - half, int(y) - half) for y, x in zip(rows, columns, strict=True))


def _background(rgb: RgbImage, options: RenderOptions) -> RgbImage:
    if options.effect == "grey":
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    if options.effect == "color":
        out = np.empty_like(rgb)
        out[:] = np.array(options.background, dtype=np.uint8)
        return out
    # A blur this wide shows no detail: done at a quarter of the size it looks the same and costs a sixteenth.
    height, width = rgb.shape[:2]
    shrink = max(1, min(int(options.blur_px // 3), width, height))
    small = cv2.resize(rgb, (math.ceil(width / shrink), math.ceil(height / shrink)), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), options.blur_px / shrink)
    return np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
