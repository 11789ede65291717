"""Training clips: still images set in motion, and annotated clips.

Objects move over a moving background, deform, hide behind one another, leave the picture and come
back, some of them beside a look-alike; now and then something passes in front and hides one. In other
clips the camera moves over a still image, so that the object stands in surroundings of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from streamseg.models.nano.training.dataset import AnnotatedClips, ImageRgb, Mask
from streamseg.models.nano.training.scenes import CutOut, SceneMaker, paste, photometric_noise, placing_matrix

_FRAMES_PER_WAYPOINT = 4
_SMALLEST_START_SHARE = 0.003
_STILL_SHARE = 0.45
_ANNOTATED_SHARE = 0.1
_PASSER_SHARE = 0.3

Path2d = NDArray[np.float64]


@dataclass(frozen=True)
class Clip:
    """A square training clip.

    Attributes:
        rgbs: uint8 (T, S, S, 3).
        masks_ntw: uint8 (N, T, S, S) of 0 and 1, N >= 1; every object is visible on the first frame.
    """

    rgbs: NDArray[np.uint8]
    masks_ntw: NDArray[np.uint8]


@dataclass(frozen=True)
class _Mover:
    """A cut-out under way: where, how large, how turned and how bent it is on each frame."""

    piece: CutOut
    centres_xy_px: Path2d
    sides_px: NDArray[np.float64]
    angles_deg: NDArray[np.float64]
    bend_px: NDArray[np.float32]
    bend_phases: NDArray[np.float64]
    mirrored: bool


class ClipMaker:
    """Draws random clips.

    Args:
        scenes: where images, cut-outs and backgrounds come from.
        annotated: clips with masks, if there are any to train on.
    """

    def __init__(self, scenes: SceneMaker, annotated: AnnotatedClips | None = None) -> None:
        self._scenes = scenes
        self._annotated = annotated
        self._size = scenes.size_px

    def draw(self, rng: Generator, frames: int, objects: int = 2) -> Clip:
        """One random clip.

        Args:
            rng: the source of chance.
            frames: its length T.
            objects: at most so many objects are to be tracked.
        """
        while True:
            if self._annotated is not None and rng.random() < _ANNOTATED_SHARE:
                rgbs, masks = self._from_annotated(rng, frames)
            else:
                rgbs, masks = self._composed(rng, frames)
            start = masks[:, 0].sum(axis=(1, 2))
            fit = np.flatnonzero(start >= _SMALLEST_START_SHARE * self._size**2)
            if fit.size:
                chosen = rng.permutation(fit)[:objects]
                return Clip(_film(rgbs, rng), masks[chosen].astype(np.uint8))

    def _composed(self, rng: Generator, frames: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        in_place = rng.random() < _STILL_SHARE
        if in_place:
            rgb, targets = self._scenes.whole_scene(rng)
            still_mask: Mask | None = targets[rng.integers(len(targets))].mask
        else:
            rgb, _ = self._scenes.background(rng)
            still_mask = None
        rgbs, still_masks = self._camera_over(photometric_noise(rgb, rng), still_mask, rng, frames)
        movers = self._movers(rng, frames, int(rng.integers(0, 3) if in_place else rng.integers(1, 5)))
        layers: list[NDArray[np.bool_]] = [still_masks] if still_masks is not None else []
        for mover in movers:
            covered = np.zeros((frames, self._size, self._size), bool)
            for t in range(frames):
                rgbs[t], covered[t] = paste(rgbs[t], _bent(mover, t), _placed(mover, t))
            layers = [layer & ~covered for layer in layers]
            layers.append(covered)
        if rng.random() < _PASSER_SHARE:
            covered = self._pass_in_front(rgbs, layers[rng.integers(len(layers))], rng)
            layers = [layer & ~covered for layer in layers]
        return rgbs, np.stack(layers)

    def _pass_in_front(
        self, rgbs: NDArray[np.uint8], passed_thw: NDArray[np.bool_], rng: Generator
    ) -> NDArray[np.bool_]:
        """Draw a piece of some other picture that hides an object for some frames; gives the pixels that it covers."""
        frames = len(rgbs)
        meeting = int(rng.integers(1, frames))
        seen = passed_thw[meeting] if passed_thw[meeting].any() else passed_thw[0]
        ys, xs = np.nonzero(seen if seen.any() else np.ones_like(seen))
        extent = np.array([np.ptp(xs) + 1, np.ptp(ys) + 1])
        # From hiding half of it on one frame to hiding all of it on several.
        size = np.clip(extent * rng.uniform([0.6, 0.8], [2.0, 3.0]), 12, self._size).astype(int)
        rgb, _ = self._scenes.background(rng)
        piece = photometric_noise(_random_part(rgb, int(size[0]), int(size[1]), rng), rng)
        wall = CutOut(piece, np.full(piece.shape[:2], 255, np.uint8))
        # Apart on the first frame, where the object must be seen; then it comes, may stay a while, and goes on.
        apart = (extent + size) / 2 * rng.uniform(0.9, 1.3)
        way = apart * (rng.choice([-1, 1]), 0) if rng.random() < 0.7 else apart * (0, rng.choice([-1, 1]))
        stays = rng.uniform(0, 0.6) if rng.random() < 0.5 else 0.0
        since = (np.arange(frames) - meeting) / meeting
        progress = np.sign(since) * np.maximum(np.abs(since) - stays, 0) / (1 - stays)
        corners = np.array([xs.min() + xs.max(), ys.min() + ys.max()]) / 2 - size / 2 + progress[:, None] * way
        covered = np.zeros(passed_thw.shape, bool)
        for t in range(frames):
            matrix = np.concatenate([np.eye(2), corners[t][:, None]], axis=1)
            rgbs[t], covered[t] = paste(rgbs[t], wall, matrix)
        return covered

    def _camera_over(
        self, rgb: ImageRgb, mask: Mask | None, rng: Generator, frames: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        """Move the camera over a still image; with a mask, the image also bends a little over time."""
        size, (height, width) = self._size, rgb.shape[:2]
        zooms = np.exp(_walk(rng, frames, 1, 0.06)[:, 0] + rng.uniform(0.1, 0.45))
        zooms = np.maximum(zooms, 1.02)
        angles = np.deg2rad(_walk(rng, frames, 1, rng.choice([0.0, 1.5, 4.0]))[:, 0])
        room = 0.5 * (1 - 1 / zooms)[:, None] * np.array([width, height])
        centres = _walk(rng, frames, 2, rng.choice([0.01, 0.04, 0.09])) * (width, height)
        middle = np.array([width / 2, height / 2])
        centres = middle + np.clip(centres + rng.uniform(-1, 1, 2) * room[0], -room, room)
        bend = _random_bend(rng, 0.03 if mask is not None else 0.0)
        phases = np.cumsum(np.full(frames, rng.uniform(0.1, 0.5)))
        rgbs = np.empty((frames, size, size, 3), np.uint8)
        masks = np.empty((frames, size, size), bool) if mask is not None else None
        for t in range(frames):
            cos, sin = np.cos(angles[t]), np.sin(angles[t])
            linear = zooms[t] * size * np.array([[cos / width, -sin / height], [sin / width, cos / height]])
            matrix = np.concatenate([linear, (size / 2 - linear @ centres[t])[:, None]], axis=1)
            frame = cv2.warpAffine(rgb, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE).astype(
                np.uint8, copy=False
            )
            field = bend * np.sin(phases[t]) * size if mask is not None else None
            rgbs[t] = _remap(frame, field)
            if mask is not None and masks is not None:
                soft = cv2.warpAffine(mask.astype(np.uint8) * 255, matrix, (size, size))
                masks[t] = _remap(soft.astype(np.uint8, copy=False), field) >= 128
        return rgbs, masks

    def _movers(self, rng: Generator, frames: int, count: int) -> list[_Mover]:
        pieces: list[CutOut] = []
        for _ in range(count):
            # A look-alike now and then teaches to keep to the right one of two.
            if pieces and rng.random() < 0.25:
                pieces.append(pieces[-1])
            else:
                piece = self._scenes.cut_out(rng)
                pieces.append(CutOut(photometric_noise(piece.rgb, rng), piece.alpha))
        return [self._mover(piece, rng, frames) for piece in pieces]

    def _mover(self, piece: CutOut, rng: Generator, frames: int) -> _Mover:
        size = self._size
        side = size * np.exp(rng.uniform(np.log(0.12), np.log(0.6)))
        start = rng.uniform(0.12, 0.88, 2) * size
        path = start + _walk(rng, frames, 2, rng.choice([0.03, 0.08, 0.16])) * size
        if rng.random() < 0.2:
            # Out of the picture and back.
            away = rng.uniform(0.6, 1.0) * (size + side) * _unit_vector(rng)
            hump = np.sin(np.pi * np.clip((np.arange(frames) / max(frames - 1, 1) - 0.15) / 0.7, 0, 1))
            path = path + hump[:, None] * away
        sides = side * np.exp(_walk(rng, frames, 1, 0.1)[:, 0])
        angles = rng.normal(0, 6) + _walk(rng, frames, 1, rng.choice([0.0, 4.0, 12.0]))[:, 0]
        phases = np.cumsum(np.full(frames, rng.uniform(0.2, 0.9)))
        return _Mover(
            piece, path, sides, angles, _random_bend(rng, rng.choice([0.0, 0.08])), phases, bool(rng.random() < 0.5)
        )

    def _from_annotated(self, rng: Generator, frames: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        assert self._annotated is not None
        name = self._annotated.names[rng.integers(len(self._annotated.names))]
        length = self._annotated.length(name)
        stride = int(rng.integers(1, max(2, min(5, length // frames) + 1)))
        first = int(rng.integers(length - stride * (frames - 1)))
        loaded = [self._annotated.load(name, first + stride * t) for t in range(frames)]
        if rng.random() < 0.3:
            loaded = loaded[::-1]
        height, width = loaded[0][1].shape
        share = rng.uniform(0.6, 1.0)
        h, w = round(share * height), round(share * width)
        y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
        step = -1 if rng.random() < 0.5 else 1
        rgbs = np.empty((frames, self._size, self._size, 3), np.uint8)
        masks = np.empty((1, frames, self._size, self._size), bool)
        for t, (rgb, mask) in enumerate(loaded):
            view = np.ascontiguousarray(rgb[y : y + h, x : x + w][:, ::step])
            soft = np.ascontiguousarray(mask[y : y + h, x : x + w][:, ::step]).astype(np.uint8) * 255
            rgbs[t] = cv2.resize(view, (self._size, self._size), interpolation=cv2.INTER_AREA)
            masks[0, t] = cv2.resize(soft, (self._size, self._size), interpolation=cv2.INTER_AREA) >= 128
        return rgbs, masks


def _random_part(rgb: ImageRgb, width: int, height: int, rng: Generator) -> ImageRgb:
    """A piece of a picture of that size, enlarged where the picture is smaller."""
    scale = max(1.0, width / rgb.shape[1], height / rgb.shape[0])
    if scale > 1:
        enlarged = (max(width, round(rgb.shape[1] * scale)), max(height, round(rgb.shape[0] * scale)))
        rgb = cv2.resize(rgb, enlarged).astype(np.uint8, copy=False)
    y, x = rng.integers(rgb.shape[0] - height + 1), rng.integers(rgb.shape[1] - width + 1)
    return np.ascontiguousarray(rgb[y : y + height, x : x + width])


def _walk(rng: Generator, frames: int, dimensions: int, spread: float) -> Path2d:
    """A smooth random path (T, D) that starts at 0 and moves by about `spread` a waypoint."""
    count = -(-frames // _FRAMES_PER_WAYPOINT) + 1
    waypoints = np.concatenate([np.zeros((1, dimensions)), rng.normal(0, spread, (count, dimensions)).cumsum(axis=0)])
    times = np.arange(frames) / _FRAMES_PER_WAYPOINT
    before = times.astype(int)
    share = times - before
    share = (0.5 - 0.5 * np.cos(np.pi * share)) if rng.random() < 0.3 else share
    path: Path2d = waypoints[before] + (waypoints[before + 1] - waypoints[before]) * share[:, None]
    return path


def _unit_vector(rng: Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _random_bend(rng: Generator, spread: float) -> NDArray[np.float32]:
    """Displacements (4, 4, 2) on a coarse grid, as shares of the side."""
    return rng.normal(0, 1, (4, 4, 2)).astype(np.float32) * np.float32(spread)


def _remap(image: NDArray[np.uint8], field: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """Displace an image by a coarse field (4, 4, 2) in pixels."""
    if field is None or not field.any():
        return image
    height, width = image.shape[:2]
    fine = cv2.resize(field.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    xs = fine[..., 0] + np.arange(width, dtype=np.float32)
    ys = fine[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    border = cv2.BORDER_REPLICATE if image.ndim == 3 else cv2.BORDER_CONSTANT
    return cv2.remap(image, xs, ys, cv2.INTER_LINEAR, borderMode=border).astype(np.uint8, copy=False)


def _bent(mover: _Mover, t: int) -> CutOut:
    if not mover.bend_px.any():
        return mover.piece
    height, width = mover.piece.alpha.shape
    margin = round(0.15 * np.sqrt(height * width))
    # Room around the object, so that bending does not cut it off at its box.
    sides = (margin, margin, margin, margin)
    rgb = cv2.copyMakeBorder(mover.piece.rgb, *sides, cv2.BORDER_REPLICATE)
    alpha = cv2.copyMakeBorder(mover.piece.alpha, *sides, cv2.BORDER_CONSTANT, value=0)
    field = mover.bend_px * np.float32(np.sin(mover.bend_phases[t]) * np.sqrt(height * width))
    return CutOut(_remap(rgb.astype(np.uint8), field), _remap(alpha.astype(np.uint8), field))


def _placed(mover: _Mover, t: int) -> NDArray[np.float64]:
    return placing_matrix(
        mover.piece if not mover.bend_px.any() else _bent(mover, t),
        float(mover.sides_px[t]),
        mover.centres_xy_px[t],
        float(mover.angles_deg[t]),
        mover.mirrored,
    )


def _film(rgbs: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    """What a camera adds: exposure that wanders, some softness, some noise."""
    gains = np.exp(_walk(rng, len(rgbs), 1, rng.choice([0.0, 0.05]))[:, 0])
    soft = rng.choice([0.0, 0.0, 0.8, 1.3])
    noise = rng.choice([0.0, 0.0, 4.0])
    filmed = np.empty_like(rgbs)
    for t, rgb in enumerate(rgbs):
        x = rgb.astype(np.float32) * np.float32(gains[t])
        if soft:
            x = cv2.GaussianBlur(x, (0, 0), soft).astype(np.float32, copy=False)
        if noise:
            x += rng.normal(0, noise, x.shape).astype(np.float32)
        filmed[t] = np.clip(x, 0, 255).astype(np.uint8)
    return filmed
