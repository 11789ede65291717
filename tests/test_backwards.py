"""Following objects from where they were pointed at back to the start of a recording (embedded nano model)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from streamseg import backwards
from streamseg.api import Model
from streamseg.backwards import track_backwards
from streamseg.errors import BadPromptError, BadSettingError
from streamseg.media.frame import Frame
from streamseg.media.sampling import Choice
from streamseg.models.build import LoadedModel
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.recording import Progress, RecordingJob
from streamseg.segmentation.masks import FrameResult
from streamseg.segmentation.prompts import Prompt

WIDTH, HEIGHT, COUNT = 160, 96, 14


def picture(index: int) -> np.ndarray:
    rgb = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    rgb[30:70, 20 + 4 * index : 60 + 4 * index] = (220, 40, 30)
    return rgb


def box(frame: int, object_id: int = 1) -> Prompt:
    return Prompt(object_id, frame, box_xyxy_px=(20 + 4 * frame, 30, 60 + 4 * frame, 70))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(COUNT):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        container.mux(video.encode(None))
    return path


@pytest.fixture(scope="module")
def here(model: LoadedModel) -> Iterator[Model]:
    with Model(model) as loaded:
        yield loaded


def overlap(result: FrameResult, place: int = 0) -> float:
    """IoU with where the square is."""
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[30:70, 20 + 4 * result.index : 60 + 4 * result.index] = True
    mask = result.objects[place].mask
    return float((mask & wanted).sum() / (mask | wanted).sum())


def test_an_object_is_found_on_the_frames_before_its_prompt(here: Model, clip: Path) -> None:
    results = list(here.stream(clip, prompts=[box(9)], backwards=True))
    assert [result.index for result in results] == list(range(COUNT))
    assert all(overlap(result) > 0.7 for result in results)


def test_without_it_the_object_is_lost_there(here: Model, clip: Path) -> None:
    results = list(here.stream(clip, prompts=[box(9)]))
    assert [result.objects[0].state for result in results[:9]] == ["lost"] * 9


def test_from_the_prompt_on_nothing_changes(here: Model, clip: Path) -> None:
    plain = list(here.stream(clip, prompts=[box(9)]))
    both = list(here.stream(clip, prompts=[box(9)], backwards=True))
    for one, other in zip(plain[9:], both[9:], strict=True):
        np.testing.assert_array_equal(one.objects[0].mask, other.objects[0].mask)


@pytest.mark.parametrize("frames", [2, 5])
def test_stretches_do_not_show(here: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, frames: int) -> None:
    whole = list(here.stream(clip, prompts=[box(9)], backwards=True))
    monkeypatch.setattr(backwards, "STRETCH_BYTES", frames * 3 * here.loaded.image_size**2)
    parts = list(here.stream(clip, prompts=[box(9)], backwards=True))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.objects[0].mask, other.objects[0].mask)


def test_never_more_frames_are_kept_than_a_stretch_has(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backwards, "STRETCH_BYTES", 4 * 3 * model.image_size**2)
    opened: list[int] = []

    @contextmanager
    def reopen() -> Iterator[Iterator[tuple[Frame, Choice]]]:
        opened.append(0)

        def frames() -> Iterator[tuple[Frame, Choice]]:
            for index in range(COUNT):
                opened[-1] += 1
                yield Frame(picture(index), index, index / 10), Choice.SEGMENT

        yield frames()

    with Model(model) as loaded:
        pipeline = Pipeline(loaded.engine, StreamOptions(mode="track"))
        answers = track_backwards(pipeline, reopen, [box(9)])
        pipeline.close()
    # Ten frames in stretches of four: read to the end of each, the last one first.
    assert opened == [10, 7, 3]
    assert [[one.object_id for one in answers.get(index)] for index in range(COUNT)] == [[1]] * 9 + [[]] * 5
    assert answers.get(3) == []
    answers.close()


def test_each_object_goes_back_from_its_own_first_prompt(here: Model, clip: Path) -> None:
    prompts = [box(3, object_id=1), box(8, object_id=2), box(12, object_id=1)]
    results = list(here.stream(clip, prompts=prompts, backwards=True))
    assert all(overlap(result, place) > 0.7 for result in results for place in (0, 1))
    assert [[one.object_id for one in result.objects] for result in results] == [[1, 2]] * COUNT


def test_sampled_and_held_frames_have_masks_too(here: Model, clip: Path) -> None:
    results = list(here.stream(clip, prompts=[box(9)], backwards=True, every=3, hold=True))
    assert [result.held for result in results] == [index % 3 != 0 for index in range(COUNT)]
    assert all(overlap(result) > 0.7 for result in results if not result.held)


def test_a_file_object_is_read_again(here: Model, clip: Path) -> None:
    with clip.open("rb") as file:
        results = list(here.stream(file, prompts=[box(9)], backwards=True))
    assert len(results) == COUNT
    assert overlap(results[0]) > 0.7


def test_pictures_that_come_once_cannot_be_gone_back_through(here: Model) -> None:
    with pytest.raises(BadSettingError, match="a path or a file object"):
        here.stream([picture(0)], prompts=[box(0)], backwards=True)
    with pytest.raises(BadSettingError, match='mode "track"'):
        here.stream("clip.mp4", prompts=[box(0)], backwards=True, mode="image")


def test_a_prompt_outside_the_picture_is_refused(here: Model, clip: Path) -> None:
    with pytest.raises(BadPromptError, match="outside"):
        next(iter(here.stream(clip, prompts=[Prompt(1, 5, points_xy_px=[(500, 5)], labels=[1])], backwards=True)))


def test_a_job_tells_how_far_back_it_is(model: LoadedModel, clip: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    with Model(model) as loaded:
        pipeline = Pipeline(loaded.engine, StreamOptions(mode="track"))
        job = RecordingJob(clip, [box(9)], tmp_path, frozenset({"rle"}), backwards=True)
        summary = job.run(pipeline, on_progress=told.append)
        pipeline.close()
    assert summary.lost == {1: 0}
    assert told[0].backwards > 0
    assert told[-1].frames == COUNT


def test_a_job_that_is_ended_on_the_way_back_ends(model: LoadedModel, clip: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def tell(progress: Progress) -> None:
        stop.set()

    with Model(model) as loaded:
        pipeline = Pipeline(loaded.engine, StreamOptions(mode="track"))
        job = RecordingJob(clip, [box(9)], tmp_path, frozenset({"rle"}), backwards=True)
        summary = job.run(pipeline, on_progress=tell, cancelled=stop)
        pipeline.close()
    assert summary.interrupted
    assert summary.frames == 0
