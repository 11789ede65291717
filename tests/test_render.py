"""Drawing masks: colours, blending, outlines, backgrounds."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from streamseg.errors import BadSettingError
from streamseg.media.frame import Frame
from streamseg.render import PALETTE_HEX, RenderOptions, color_of, cut_out, draw_overlay, encode_jpeg
from streamseg.segmentation.masks import FrameResult, MaskRegion, ObjectResult

HEIGHT, WIDTH = 20, 30
PLAIN = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
FLAT = RenderOptions(outline_px=0)


def box(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def result(*masks: tuple[int, NDArray[np.bool_]]) -> FrameResult:
    objects = tuple(ObjectResult(number, MaskRegion.from_mask(mask), 0.9) for number, mask in masks)
    return FrameResult(0, 0.0, WIDTH, HEIGHT, objects)


def mixed(below: NDArray[Any] | tuple[int, ...], color: tuple[int, int, int], opacity: float = 0.5) -> NDArray[Any]:
    return np.asarray(below) * (1 - opacity) + np.array(color) * opacity


def test_the_tint_covers_the_mask_and_nothing_else() -> None:
    mask = box(5, 4, 12, 9)
    mask[6, 8] = False
    out = draw_overlay(PLAIN, result((3, mask)), FLAT)
    assert np.abs(out[mask] - mixed((100, 100, 100), color_of(3))).max() <= 0.5
    assert (out[~mask] == 100).all()


@pytest.mark.parametrize("opacity", [0.0, 0.25, 1.0])
def test_opacity(opacity: float) -> None:
    out = draw_overlay(PLAIN, result((1, box(0, 0, 30, 20))), RenderOptions(opacity=opacity, outline_px=0))
    assert np.abs(out[0, 0] - mixed((100, 100, 100), color_of(1), opacity)).max() <= 0.5


def test_overlapping_objects_blend_in_the_order_of_the_result() -> None:
    first, second = box(0, 0, 20, 20), box(10, 0, 30, 20)
    out = draw_overlay(PLAIN, result((1, first), (2, second)), FLAT)
    once = mixed((100, 100, 100), color_of(1))
    assert np.abs(out[5, 5] - once).max() <= 1
    assert np.abs(out[5, 15] - mixed(once, color_of(2))).max() <= 1


def test_the_outline_runs_along_the_edge_and_around_holes() -> None:
    mask = box(5, 4, 25, 16)
    mask[8:12, 12:18] = False
    out = draw_overlay(PLAIN, result((2, mask)), RenderOptions(effect="outline", outline_px=1))
    line = (out == color_of(2)).all(axis=2)
    assert line[4, 5:25].all()
    assert line[15, 5:25].all()
    assert line[4:16, 5].all()
    assert line[4:16, 24].all()
    assert line[7, 13:17].all(), "the edge of the hole"
    assert (out[~line] == 100).all()
    assert not line[6, 7:23].any()


@pytest.mark.parametrize("width_px", [1, 2, 3, 4, 5, 8])
def test_an_outline_is_as_wide_as_asked(width_px: int) -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[:, 15:] = True
    options = RenderOptions(effect="outline", outline_px=width_px)
    line = (draw_overlay(PLAIN, result((1, mask)), options) == color_of(1)).all(axis=2)
    assert line[10, 5:25].sum() == width_px


def test_an_outline_at_the_frames_edge_is_cut_off_there() -> None:
    out = draw_overlay(PLAIN, result((1, box(0, 0, 30, 20))), RenderOptions(outline_px=8))
    assert out.shape == PLAIN.shape


def test_neither_frame_nor_result_is_changed() -> None:
    frame = Frame(PLAIN.copy())
    given = result((1, box(2, 2, 9, 9)))
    before = given.objects[0].mask
    for effect in ("overlay", "outline", "blur", "grey", "color"):
        draw_overlay(frame, given, RenderOptions(effect=effect))
    cut_out(frame, given)
    assert (frame.rgb == 100).all()
    assert np.array_equal(given.objects[0].mask, before)


def test_empty_and_lost_objects_draw_nothing() -> None:
    lost = ObjectResult(1, MaskRegion.empty(WIDTH, HEIGHT), 0.2, "lost")
    for given in (result(), FrameResult(0, 0.0, WIDTH, HEIGHT, (lost,))):
        assert np.array_equal(draw_overlay(PLAIN, given), PLAIN)
        assert not cut_out(PLAIN, given).any()


def test_backgrounds_leave_the_object_alone() -> None:
    noise = np.random.default_rng(0).integers(0, 256, PLAIN.shape, dtype=np.uint8)
    mask = box(8, 3, 20, 15)
    given = result((1, mask))
    grey = draw_overlay(noise, given, RenderOptions(effect="grey"))
    color = draw_overlay(noise, given, RenderOptions(effect="color", background=(1, 2, 3)))
    blur = draw_overlay(noise, given, RenderOptions(effect="blur", blur_px=6))
    for out in (grey, color, blur):
        assert np.array_equal(out[mask], noise[mask])
    assert (grey[~mask] == grey[~mask][:, :1]).all()
    assert (color[~mask] == (1, 2, 3)).all()
    assert blur[~mask].std() < noise[~mask].std() / 3
    assert abs(float(blur[~mask].mean()) - float(noise[~mask].mean())) < 8


def test_a_cut_out_is_transparent_elsewhere() -> None:
    mask = box(8, 3, 20, 15)
    out = cut_out(PLAIN, result((1, mask), (2, box(0, 0, 2, 2))))
    both = mask | box(0, 0, 2, 2)
    assert np.array_equal(out[..., 3], both * 255)
    assert (out[both][:, :3] == 100).all()
    assert not out[~both].any()


def test_colours_depend_on_the_id_alone_and_differ() -> None:
    colors = [color_of(number) for number in range(1, len(PALETTE_HEX) + 1)]
    assert colors[0] == (0x1E, 0x90, 0xFF)
    assert color_of(len(PALETTE_HEX) + 1) == colors[0]
    assert color_of(0) == colors[-1]
    table = np.array(colors).astype(int)
    distances = np.abs(table[:, None] - table[None]).sum(axis=2) + 999 * np.eye(len(table), dtype=int)
    assert distances[:10, :10].min() > 90, "the first ten, which are seen together most, differ clearly"
    assert distances.min() > 30


def test_the_web_page_holds_the_same_palette() -> None:
    page = (Path(__file__).parents[1] / "clients/web/js/palette.js").read_text(encoding="utf-8")
    listed = page.partition("PALETTE_HEX = [")[2].partition("]")[0]
    assert tuple(re.findall(r"#[0-9a-f]{6}", listed)) == PALETTE_HEX


def test_the_result_must_belong_to_the_frame() -> None:
    with pytest.raises(BadSettingError, match="shape"):
        draw_overlay(np.zeros((5, 5, 3), np.uint8), result())


@pytest.mark.parametrize(
    "settings",
    [
        {"effect": "sparkle"},
        {"opacity": 1.5},
        {"opacity": float("nan")},
        {"outline_px": -1},
        {"outline_px": 1.5},
        {"background": (1, 2)},
        {"background": (1, 2, 300)},
        {"blur_px": 0},
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(BadSettingError, match=next(iter(settings))):
        RenderOptions(**settings)


def test_jpeg_has_the_right_channels_and_obeys_quality() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[:, :, 0] = 220
    with Image.open(io.BytesIO(encode_jpeg(red))) as picture:
        assert picture.format == "JPEG"
        assert np.abs(np.asarray(picture)[16, 16].astype(int) - (220, 0, 0)).max() < 6
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(encode_jpeg(noise, 20)) < len(encode_jpeg(noise, 95))
    for quality in (0, 101, 50.5):
        with pytest.raises(BadSettingError, match="quality"):
            encode_jpeg(noise, quality)  # type: ignore[arg-type]
