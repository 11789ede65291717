"""The Python face on single pictures (embedded nano model)."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import streamseg
from streamseg.errors import (
    AddressRefusedError,
    BadPromptError,
    BadSettingError,
    NotFoundError,
    StreamUnavailableError,
    TooLargeError,
    UnsupportedMediaError,
)
from streamseg.media.image import ImageLimits
from streamseg.media.video import VideoLimits
from tests.media.network_servers import HttpServer, mjpeg, square


def picture() -> np.ndarray:
    rgb = np.full((160, 240, 3), 90, dtype=np.uint8)
    rgb[50:110, 40:100] = (220, 40, 30)
    return rgb


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_kind_of_image_gives_the_same_mask(face: streamseg.Model, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    sources = [picture(), png(), path, str(path), io.BytesIO(png()), Image.fromarray(picture())]
    masks = [face.segment(source, box_xyxy_px=(40, 50, 100, 110)).objects[0].mask for source in sources]
    assert masks[0].any()
    for mask in masks[1:]:
        assert np.array_equal(mask, masks[0])


def test_the_second_look_at_a_small_object_can_be_left_out(face: streamseg.Model) -> None:
    large = np.pad(picture(), ((0, 320), (0, 480), (0, 0)), mode="edge")
    given = [
        face.segment(large, points_xy_px=[(70, 80)], second_look=second_look).objects[0].mask
        for second_look in (True, False)
    ]
    assert not np.array_equal(*given)


def test_points_without_labels_belong_to_the_object(face: streamseg.Model) -> None:
    bare = face.segment(picture(), points_xy_px=[(70, 80)]).objects[0]
    labelled = face.segment(picture(), points_xy_px=np.array([[70, 80]]), labels=np.array([1])).objects[0]
    assert np.array_equal(bare.mask, labelled.mask)


def test_several_objects_come_back_in_order_with_conversions(face: streamseg.Model) -> None:
    result = face.segment(
        picture(),
        prompts=[
            streamseg.Prompt(9, box_xyxy_px=(40, 50, 100, 110)),
            streamseg.Prompt(4, points_xy_px=[(200, 20)], labels=[1]),
        ],
    )
    assert [one.object_id for one in result.objects] == [9, 4]
    assert [one["attributes"]["object_id"] for one in result.to_coco()] == [9, 4]
    assert result.to_polygons()[9]
    overlay = result.overlay(picture())
    assert overlay.shape == (160, 240, 3)
    assert not np.array_equal(overlay, picture())
    again = streamseg.FrameResult.from_json(result.to_json())
    assert np.array_equal(again.objects[0].mask, result.objects[0].mask)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, BadPromptError),
        ({"labels": [1]}, BadPromptError),
        ({"points_xy_px": 5}, BadPromptError),
        ({"prompts": [1]}, BadPromptError),
        ({"points_xy_px": [(70, 80)], "labels": [1, 0]}, BadPromptError),
        ({"points_xy_px": [(240, 80)]}, BadPromptError),
        ({"box_xyxy_px": (0, 0, 241, 10)}, BadPromptError),
    ],
)
def test_impossible_prompts_are_refused(face: streamseg.Model, arguments: dict, error: type) -> None:
    with pytest.raises(error):
        face.segment(picture(), **arguments)


def test_impossible_images_are_refused(face: streamseg.Model) -> None:
    for image, error in [
        (b"not an image", UnsupportedMediaError),
        (b"", UnsupportedMediaError),
        ("nowhere.jpg", NotFoundError),
    ]:
        with pytest.raises(error):
            face.segment(image, points_xy_px=[(0, 0)])
    with pytest.raises(TooLargeError):
        face.segment(picture(), points_xy_px=[(0, 0)], limits=ImageLimits(max_pixels=100))


def test_a_camera_at_an_address_gives_the_newest_picture_until_it_is_closed(face: streamseg.Model) -> None:
    prompt = streamseg.Prompt(1, box_xyxy_px=(10, 25, 40, 55))
    with HttpServer({"/video": mjpeg(40, square)}) as server:
        results = face.stream(f"{server.origin}/video", prompts=[prompt])
        first = next(results)
        time.sleep(1.0)
        second, third = next(results), next(results)
        results.close()  # type: ignore[attr-defined]
        assert not [one for one in threading.enumerate() if one.name == "streamseg-network"]
    assert first.index < second.index - 5
    assert second.index < third.index
    assert first.time_s < second.time_s < third.time_s
    assert first.objects[0].state == "tracked"
    assert first.objects[0].mask.shape == (80, 120)


def test_a_stream_has_an_end_where_one_is_asked_for(face: streamseg.Model) -> None:
    prompt = streamseg.Prompt(1, box_xyxy_px=(10, 25, 40, 55))
    with HttpServer({"/video": mjpeg(25, square)}) as server:
        times_s = [one.time_s for one in face.stream(f"{server.origin}/video", prompts=[prompt], end_s=1.0)]
        with pytest.raises(BadPromptError, match="does not fit"):
            list(face.stream(f"{server.origin}/video", prompts=[streamseg.Prompt(1, box_xyxy_px=(0, 0, 500, 9))]))
        with pytest.raises(TooLargeError):
            list(face.stream(f"{server.origin}/video", prompts=[prompt], limits=VideoLimits(max_pixels=1000)))
        with pytest.raises(StreamUnavailableError):
            list(face.stream(f"{server.origin}/other", prompts=[prompt]))
    assert times_s
    assert times_s[-1] < 1.0
    with pytest.raises(AddressRefusedError):
        list(face.stream("ftp://127.0.0.1/clip.mp4", prompts=[prompt]))
    with pytest.raises(BadSettingError, match="backwards"):
        face.stream("rtsp://127.0.0.1/clip.mp4", prompts=[prompt], backwards=True)


def test_importing_streamseg_is_cheap_and_its_names_are_complete() -> None:
    program = (
        "import sys, streamseg; assert 'torch' not in sys.modules; [getattr(streamseg, n) for n in streamseg.__all__]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
