"""Frames of a program's own, with clicks in between (embedded nano model)."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import streamseg
from streamseg.errors import (
    BadMessageError,
    BadPromptError,
    BadSettingError,
    BadStateError,
    FrameSizeError,
    NotFoundError,
)
from streamseg.media.frame import Frame

RED = streamseg.Prompt(1, box_xyxy_px=(20, 30, 60, 70))
BLUE = streamseg.Prompt(2, box_xyxy_px=(90, 20, 130, 60))


def picture(number: int) -> np.ndarray:
    rgb = np.full((96, 160, 3), 90, dtype=np.uint8)
    rgb[30:70, 20 + 2 * number : 60 + 2 * number] = (220, 40, 30)
    rgb[20:60, 90:130] = (30, 60, 220)
    return rgb


@pytest.fixture
def session(face: streamseg.Model) -> Iterator[streamseg.Session]:
    with face.session() as session:
        yield session


def states(result: streamseg.FrameResult) -> dict[int, str]:
    return {one.object_id: one.state for one in result.objects}


def test_objects_come_and_go_between_frames(session: streamseg.Session) -> None:
    assert session.process(picture(0)).objects == ()
    session.prompt(RED)
    assert states(session.process(picture(0))) == {1: "tracked"}
    session.prompt(BLUE)
    result = session.process(picture(1))
    assert (result.index, result.time_s) == (2, 2.0)
    assert states(result) == {1: "tracked", 2: "tracked"}
    assert session.object_ids == (1, 2)
    session.remove(1)
    assert states(session.process(picture(2))) == {2: "tracked"}
    with pytest.raises(NotFoundError):
        session.remove(1)
    session.reset()
    assert session.process(picture(3)).objects == ()


def test_a_frame_that_passed_is_corrected_and_the_object_tracked_anew_from_there(session: streamseg.Session) -> None:
    session.process(picture(0))
    session.process(picture(1))
    session.prompt(streamseg.Prompt(1, box_xyxy_px=(20, 30, 60, 70)), frame=0)
    one = session.process(picture(2)).objects[0]
    assert one.state == "tracked"
    wanted = np.zeros((96, 160), bool)
    wanted[30:70, 24:64] = True
    assert (one.mask & wanted).sum() / (one.mask | wanted).sum() > 0.7


def test_a_frame_too_far_back_cannot_be_corrected(face: streamseg.Model) -> None:
    with face.session(track=streamseg.TrackOptions(correction_window_frames=2)) as session:
        for number in range(4):
            session.process(picture(number))
        with pytest.raises(BadPromptError, match="frame 1 has passed"):
            session.prompt(RED, frame=1)
        session.prompt(RED, frame=2)


@pytest.mark.parametrize("mode", ["image", "track"])
def test_undo_takes_back_the_last_prompt(face: streamseg.Model, mode: Literal["image", "track"]) -> None:
    with face.session(mode=mode) as session:
        session.prompt(RED)
        session.process(picture(0))
        session.prompt(BLUE)
        session.process(picture(1))
        assert session.undo() == 2
        assert states(session.process(picture(2))) == {1: "tracked"}
        assert session.undo() == 1
        assert session.process(picture(3)).objects == ()
        with pytest.raises(BadStateError, match="no prompt left"):
            session.undo()


def test_a_frame_of_another_shape_fails_alone(session: streamseg.Session) -> None:
    session.prompt(RED)
    session.process(picture(0))
    with pytest.raises(FrameSizeError, match="96 x 160"):
        session.process(np.ascontiguousarray(picture(1).transpose(1, 0, 2)))
    assert states(session.process(picture(1))) == {1: "tracked"}


def test_a_saved_session_goes_on_in_another_one(face: streamseg.Model, session: streamseg.Session) -> None:
    session.prompt(RED)
    for number in range(4):
        session.process(picture(number))
    with face.session() as other:
        other.restore(session.save())
        np.testing.assert_array_equal(
            other.process(picture(4)).objects[0].mask, session.process(picture(4)).objects[0].mask
        )


def test_there_is_no_state_to_save_without_tracking(face: streamseg.Model) -> None:
    with face.session(mode="image") as session, pytest.raises(BadStateError, match='mode "track"'):
        session.save()


def test_indices_must_grow(session: streamseg.Session) -> None:
    session.process(Frame(picture(0), 5, 0.5))
    assert session.process(picture(1)).index == 6
    with pytest.raises(BadMessageError, match="at least 7, not 6"):
        session.process(Frame(picture(0), 6, 0.6))


def test_options_that_cannot_be_are_refused(face: streamseg.Model) -> None:
    with pytest.raises(BadSettingError, match="image, track"):
        face.session(mode="auto")  # type: ignore[arg-type]
    with pytest.raises(BadSettingError, match="multimask"):
        face.session(multimask=True)
    for wrong in ({"max_conditioning_frames": 0}, {"correction_window_frames": True}, {"keep_corrections": 1}):
        with pytest.raises(BadSettingError, match=next(iter(wrong))):
            streamseg.TrackOptions(**wrong)  # type: ignore[arg-type]


def test_after_a_reset_frames_may_have_another_shape(session: streamseg.Session) -> None:
    turned = np.ascontiguousarray(picture(0).transpose(1, 0, 2))
    session.prompt(RED)
    session.process(picture(0))
    session.reset()
    session.prompt(streamseg.Prompt(1, box_xyxy_px=(30, 20, 70, 60)))
    assert states(session.process(turned)) == {1: "tracked"}


def test_a_restored_session_can_be_corrected_on_its_own_frames(
    face: streamseg.Model, session: streamseg.Session
) -> None:
    session.prompt(RED)
    for number in range(5):
        session.process(picture(number))
    with face.session() as other:
        other.restore(session.save())
        result = other.process(picture(5))
        assert result.index == 0
        other.prompt(streamseg.Prompt(1, points_xy_px=[(50, 50)], labels=[1]), frame=0)
        assert states(other.process(picture(6))) == {1: "tracked"}


def test_what_is_rejected_does_not_cost_the_other_objects(session: streamseg.Session) -> None:
    nothing_said = streamseg.Prompt(2, points_xy_px=[(3, 3)], labels=[0])
    session.prompt(nothing_said)
    with pytest.raises(BadPromptError, match="say first what belongs"):
        session.process(picture(0))
    session.prompt(RED)
    session.prompt(nothing_said)
    result = session.process(picture(0))
    assert states(result) == {1: "tracked"}
    ((object_id, error),) = result.rejected
    assert object_id == 2
    assert "say first what belongs" in error.message


def test_large_pictures_without_objects_are_kept_small(face: streamseg.Model) -> None:
    large = np.zeros((2400, 3200, 3), np.uint8)
    with face.session() as session:
        before = rss_bytes()
        for _ in range(8):
            session.process(large)
        assert rss_bytes() - before < 3 * large.nbytes


def rss_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
