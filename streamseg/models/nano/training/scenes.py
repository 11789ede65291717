"""Training images: crops, mosaics, clutter and crowds, with photometric noise.

Mosaics, clutter and crowds put several objects into one image, so that ignoring the prompt never
pays and small objects among others are seen (copy-paste after Ghiasi et al., CVPR 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from streamseg.models.nano.training.dataset import (
    AnnotatedImages,
    ImageRgb,
    Mask,
    Target,
    source_of,
)

# How often an image of each source is drawn: whole objects are the core of what people click.
_SOURCE_SHARES = {
    "ecssd": 0.25,
    "duts": 0.2,
    "horse": 0.08,
    "human": 0.08,
    "ccp": 0.14,
    "bsds": 0.15,
    "camvid": 0.06,
    "nuclei": 0.04,
}
_CUT_OUT_SHARES = {"ecssd": 0.3, "duts": 0.25, "horse": 0.1, "human": 0.1, "ccp": 0.25}
_BACKGROUND_SHARES = {"bsds": 0.45, "camvid": 0.25, "duts": 0.15, "ecssd": 0.15}
# Crowds are mostly people, in streets.
_CROWD_SHARES = {"ccp": 0.5, "human": 0.15, "horse": 0.15, "duts": 0.1, "ecssd": 0.1}
_CROWD_BACKGROUND_SHARES = {"camvid": 0.5, "bsds": 0.3, "duts": 0.1, "ecssd": 0.1}
_SMALLEST_VISIBLE_PX = 120
_ROOM_PX = 3  # of blurring and rounding


@dataclass(frozen=True)
class Scene:
    """A square training image and what may be asked for in it.

    Attributes:
        rgb: uint8 (S, S, 3).
        masks_nhw: uint8 (N, S, S) of 0 and 1, N >= 1.
        weights: float (N,), how often to ask for each, summing to 1.
    """

    rgb: ImageRgb
    masks_nhw: NDArray[np.uint8]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class CutOut:
    """An object with its surroundings' box cut away: RGB uint8 (h, w, 3), alpha uint8 (h, w)."""

    rgb: ImageRgb
    alpha: NDArray[np.uint8]


class SceneMaker:
    """Draws random scenes from annotated images.

    Args:
        images: where they come from.
        keys: the images to use, for instance those not held out.
        size_px: side of the scenes.
    """

    def __init__(self, images: AnnotatedImages, keys: list[str], size_px: int) -> None:
        self._images = images
        self.size_px = size_px
        self._keys: dict[str, list[str]] = {}
        for key in keys:
            self._keys.setdefault(source_of(key), []).append(key)

    def draw(self, rng: Generator) -> Scene:
        """One random scene with at least one object."""
        while True:
            kind = rng.random()
            if kind < 0.33:
                rgb, targets = self._single(rng)
            elif kind < 0.47:
                rgb, targets = self._mosaic(rng)
            elif kind < 0.76:
                rgb, targets = self.clutter(rng)
            else:
                rgb, targets = self.crowd(rng)
            targets = [target for target in targets if target.mask.sum() >= _SMALLEST_VISIBLE_PX]
            if targets:
                weights = np.array([target.weight for target in targets])
                masks = np.stack([target.mask for target in targets]).astype(np.uint8)
                return Scene(photometric_noise(rgb, rng), masks, weights / weights.sum())

    def pick(self, rng: Generator, shares: dict[str, float]) -> str:
        """A random key, its source drawn by share."""
        sources = [source for source in shares if self._keys.get(source)]
        shares_array = np.array([shares[source] for source in sources])
        source = sources[rng.choice(len(sources), p=shares_array / shares_array.sum())]
        return self._keys[source][rng.integers(len(self._keys[source]))]

    def background(self, rng: Generator) -> tuple[ImageRgb, list[Target]]:
        """A random image to paste on, at its own size."""
        return self._load(self.pick(rng, _BACKGROUND_SHARES))

    def cut_out(self, rng: Generator, shares: dict[str, float] = _CUT_OUT_SHARES) -> CutOut:
        """A random whole object, its source drawn by share."""
        while True:
            rgb, targets = self._load(self.pick(rng, shares))
            whole = [target for target in targets if target.whole]
            if whole:
                mask = whole[rng.integers(len(whole))].mask
                ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                rows, columns = slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)
                alpha = mask[rows, columns].astype(np.uint8) * np.uint8(255)
                return CutOut(np.ascontiguousarray(rgb[rows, columns]), alpha)

    def whole_scene(self, rng: Generator) -> tuple[ImageRgb, list[Target]]:
        """A random image with whole objects, at its own size."""
        while True:
            rgb, targets = self._load(self.pick(rng, _CUT_OUT_SHARES))
            targets = [target for target in targets if target.whole]
            if targets:
                return rgb, targets

    def _load(self, key: str) -> tuple[ImageRgb, list[Target]]:
        rgb, ids = self._images.load(key)
        return rgb, self._images.targets(key, ids)

    def _single(self, rng: Generator) -> tuple[ImageRgb, list[Target]]:
        rgb, targets = self._load(self.pick(rng, _SOURCE_SHARES))
        return _random_view(rgb, targets, self.size_px, self.size_px, rng, crop_rate=0.6)

    def _mosaic(self, rng: Generator) -> tuple[ImageRgb, list[Target]]:
        size = self.size_px
        count = 3 if rng.random() < 0.15 else 2
        edges = [
            np.array([0, *(round(size * (i + rng.uniform(-0.15, 0.15)) / count) for i in range(1, count)), size])
            for _ in range(2)
        ]
        rgb = np.zeros((size, size, 3), np.uint8)
        placed: list[Target] = []
        for row in range(count):
            for column in range(count):
                y1, y2, x1, x2 = edges[0][row], edges[0][row + 1], edges[1][column], edges[1][column + 1]
                tile, targets = self._load(self.pick(rng, _SOURCE_SHARES))
                tile, targets = _random_view(tile, targets, y2 - y1, x2 - x1, rng, crop_rate=0.3)
                rgb[y1:y2, x1:x2] = tile
                # Tiles count alike however many parts each has.
                total = sum(target.weight for target in targets)
                for target in targets:
                    mask = np.zeros((size, size), bool)
                    mask[y1:y2, x1:x2] = target.mask
                    placed.append(Target(mask, target.weight / total, target.whole))
        return rgb, placed

    def _ground(self, rng: Generator, shares: dict[str, float], crop_rate: float) -> tuple[ImageRgb, list[Target]]:
        """A picture of the scene's size to paste on, and the whole objects that are in it."""
        rgb, targets = self._load(self.pick(rng, shares))
        rgb, targets = _random_view(rgb, targets, self.size_px, self.size_px, rng, crop_rate)
        return rgb, [target for target in targets if target.whole]

    def clutter(self, rng: Generator) -> tuple[ImageRgb, list[Target]]:
        """Things of all kinds, from two large ones that hide one another to ten small ones; without noise.

        Returns:
            RGB uint8 (S, S, 3) and the objects that can be seen, those of the ground among them.
        """
        size = self.size_px
        rgb, targets = self._ground(rng, _BACKGROUND_SHARES, crop_rate=0.5)
        typical = np.exp(rng.uniform(np.log(0.1), np.log(0.7)))
        # To cover about 0.1 to 1.2 of the picture, where a thing fills half of its box, as far as two to ten can.
        count = round(np.clip(2 * rng.uniform(0.1, 1.2) / typical**2, 2, 10))
        blending = max(0.0, rng.uniform(-0.5, 0.5))
        pieces = []
        for _ in range(count):
            piece = _blended(self.cut_out(rng), rgb, blending)
            side = size * typical * np.exp(rng.normal(0, 0.4))
            centre = rng.uniform(0, 1, 2) * size
            pieces.append((piece, placing_matrix(piece, side, centre, rng.normal(0, 12), rng.random() < 0.5)))
        return _with_pieces(rgb, targets, pieces)

    def crowd(self, rng: Generator) -> tuple[ImageRgb, list[Target]]:
        """Several of a kind, mostly people, on one ground, the near ones over the far ones; without noise.

        Returns:
            RGB uint8 (S, S, 3) and the objects that can be seen, at least one.
        """
        size = self.size_px
        source = source_of(self.pick(rng, _CROWD_SHARES))
        rgb, targets = self._ground(rng, _CROWD_BACKGROUND_SHARES, crop_rate=0.7)
        # Pictures are squashed into the square: so are the ones in them.
        squeeze = np.exp(rng.uniform(np.log(0.6), np.log(1.2)))
        height_px = size * np.exp(rng.uniform(np.log(0.3), np.log(0.85)))
        ground_y_px = size * rng.uniform(0.75, 1.05)
        blending = rng.uniform(0, 0.6)
        pieces = []
        for _ in range(rng.integers(2, 7)):
            piece = _blended(self.cut_out(rng, {source: 1.0}), rgb, blending)
            nearness = rng.normal(0, 0.15)
            tall = height_px * np.exp(nearness)
            side = tall * np.sqrt(piece.alpha.shape[1] / piece.alpha.shape[0])
            centre = np.array([rng.uniform(0.03, 0.97) * size, ground_y_px + 0.3 * nearness * height_px - tall / 2])
            matrix = placing_matrix(piece, side, centre, rng.normal(0, 3), rng.random() < 0.5)
            matrix[0] *= squeeze
            matrix[0, 2] += (1 - squeeze) * centre[0]
            pieces.append((nearness, piece, matrix))
        pieces.sort(key=lambda item: item[0])
        return _with_pieces(rgb, targets, [(piece, matrix) for _, piece, matrix in pieces])


def _with_pieces(
    rgb: ImageRgb, targets: list[Target], pieces: list[tuple[CutOut, NDArray[np.float64]]]
) -> tuple[ImageRgb, list[Target]]:
    """Paste cut-outs one over the other; of each object what the later ones leave to see."""
    areas = [int(target.mask.sum()) for target in targets]
    for piece, matrix in pieces:
        rgb, covered = paste(rgb, piece, matrix)
        targets = [Target(target.mask & ~covered, target.weight, target.whole) for target in targets]
        targets.append(Target(covered, 1.0, True))
        areas.append(int(covered.sum()))
    # What others have mostly hidden is no fair question.
    return rgb, [target for target, area in zip(targets, areas, strict=True) if target.mask.sum() > 0.35 * max(area, 1)]


def _blended(piece: CutOut, background: ImageRgb, share: float) -> CutOut:
    """The cut-out with its mean and contrast moved towards the background's, so that colour alone does not tell it."""
    inside = piece.rgb[piece.alpha > 0].astype(np.float32)
    mean, deviation = inside.mean(axis=0), inside.std() + 1
    sample = background[::4, ::4].reshape(-1, 3)
    gain = (sample.std() / deviation) ** share
    wanted = mean + share * (sample.mean(axis=0) - mean)
    # The same gain and another offset for each channel: a table of the 256 values does it.
    table = (np.arange(256)[:, None] - mean) * gain + wanted
    rgb = cv2.LUT(piece.rgb, np.clip(np.rint(table), 0, 255).astype(np.uint8)[None])
    return CutOut(rgb.astype(np.uint8, copy=False), piece.alpha)


def placing_matrix(
    piece: CutOut, side_px: float, centre_xy_px: NDArray[np.float64], angle_deg: float, mirrored: bool
) -> NDArray[np.float64]:
    """The affine map (2, 3) that puts a cut-out's centre and size where they shall be.

    Args:
        piece: the object.
        side_px: the square root of its box's area after placing.
        centre_xy_px: where its box's centre goes.
        angle_deg: rotation about that centre.
        mirrored: flip it left to right.
    """
    height, width = piece.alpha.shape
    scale = side_px / np.sqrt(height * width)
    angle = np.deg2rad(angle_deg)
    flip = np.diag([-1.0 if mirrored else 1.0, 1.0])
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ flip
    offset = centre_xy_px - linear @ np.array([width / 2, height / 2])
    return np.concatenate([linear, offset[:, None]], axis=1)


def paste(rgb: ImageRgb, piece: CutOut, matrix: NDArray[np.float64]) -> tuple[ImageRgb, Mask]:
    """Draw a cut-out over an image with a soft edge; also gives the pixels that it covers."""
    full, covered = rgb.copy(), np.zeros(rgb.shape[:2], bool)
    window, matrix = _window_of(piece, matrix, rgb.shape)
    rgb = full[window]
    height, width = rgb.shape[:2]
    if not rgb.size:
        return full, covered
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    source: NDArray[np.uint8] = piece.rgb
    alpha_source: NDArray[np.uint8] = piece.alpha
    if shrink < 0.6:
        # Linear sampling skips pixels when it shrinks; average first.
        to = (max(2, round(source.shape[1] * shrink)), max(2, round(source.shape[0] * shrink)))
        back = np.diag([source.shape[1] / to[0], source.shape[0] / to[1]])
        source = cv2.resize(source, to, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        alpha_source = cv2.resize(alpha_source, to, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        matrix = np.concatenate([matrix[:, :2] @ back, matrix[:, 2:]], axis=1)
    layer = cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(alpha_source, matrix, (width, height), flags=cv2.INTER_LINEAR)
    covered[window] = alpha >= 128
    soft = cv2.GaussianBlur(alpha, (3, 3), 0)[..., None].astype(np.float32) / 255
    # Outside the cut-out's own outline its picture shows the old background: keep the edge inside.
    soft = np.minimum(soft, alpha[..., None].astype(np.float32) / 255)
    blended = layer * soft + rgb * (1 - soft)
    full[window] = np.rint(blended)
    return full, covered


def _window_of(
    piece: CutOut, matrix: NDArray[np.float64], shape_hwc: tuple[int, ...]
) -> tuple[tuple[slice, slice], NDArray[np.float64]]:
    """Where in an image of that shape a placed cut-out lies, with some room, and the map into that window."""
    height, width = piece.alpha.shape
    # Between the first pixel and the nothing before it, linear sampling still sees something.
    corners_xy_px = matrix @ np.array([[-1, width, width, -1], [-1, -1, height, height], [1, 1, 1, 1]])
    limit_xy_px = (shape_hwc[1], shape_hwc[0])
    x1, y1 = np.clip(np.floor(corners_xy_px.min(axis=1)) - _ROOM_PX, 0, limit_xy_px).astype(int)
    x2, y2 = np.clip(np.ceil(corners_xy_px.max(axis=1)) + _ROOM_PX, 0, limit_xy_px).astype(int)
    moved = matrix - np.array([[0, 0, x1], [0, 0, y1]])
    return (slice(y1, y2), slice(x1, x2)), moved


def _random_view(
    rgb: ImageRgb, targets: list[Target], height: int, width: int, rng: Generator, crop_rate: float
) -> tuple[ImageRgb, list[Target]]:
    """Crop, mirror and squash an image into a rectangle; targets cut away mostly are dropped."""
    full_height, full_width = rgb.shape[:2]
    if targets and rng.random() < crop_rate:
        for _ in range(5):
            crop_height = round(full_height * np.sqrt(rng.uniform(0.3, 1.0)))
            crop_width = round(full_width * np.sqrt(rng.uniform(0.3, 1.0)))
            y, x = rng.integers(full_height - crop_height + 1), rng.integers(full_width - crop_width + 1)
            window = (slice(y, y + crop_height), slice(x, x + crop_width))
            kept = [t for t in targets if t.mask[window].sum() > 0.4 * t.mask.sum()]
            if kept:
                rgb = rgb[window]
                targets = [Target(t.mask[window], t.weight, t.whole) for t in kept]
                break
    if rng.random() < 0.5:
        rgb = rgb[:, ::-1]
        targets = [Target(t.mask[:, ::-1], t.weight, t.whole) for t in targets]
    shrinking = height * width < rgb.shape[0] * rgb.shape[1]
    interpolation = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(rgb), (int(width), int(height)), interpolation=interpolation)
    return resized.astype(np.uint8, copy=False), [
        Target(_resize_mask(t.mask, height, width), t.weight, t.whole) for t in targets
    ]


def _resize_mask(mask: Mask, height: int, width: int) -> Mask:
    soft = cv2.resize(mask.astype(np.uint8) * 255, (int(width), int(height)), interpolation=cv2.INTER_LINEAR)
    return soft >= 128


def photometric_noise(rgb: ImageRgb, rng: Generator, strength: float = 1.0) -> ImageRgb:
    """Vary brightness, contrast, saturation, tint, sharpness and noise."""
    x = rgb.astype(np.float32)
    if rng.random() < 0.8:
        x *= rng.uniform(1 - 0.35 * strength, 1 + 0.35 * strength)
        x += (x.mean() - x) * rng.uniform(-0.3, 0.3) * strength
        grey = (x @ np.full(3, 1 / 3, np.float32))[..., None]
        x += (grey - x) * rng.uniform(-0.4, 0.5) * strength
        x *= 1 + rng.uniform(-0.1, 0.1, 3).astype(np.float32) * strength
    if rng.random() < 0.05 * strength:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.15 * strength:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.6)).astype(np.float32, copy=False)
    if rng.random() < 0.15 * strength:
        x += rng.normal(0, rng.uniform(2, 10), x.shape).astype(np.float32)
    return np.clip(x, 0, 255).astype(np.uint8)
