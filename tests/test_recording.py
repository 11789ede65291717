"""A whole recording, from file to files (embedded nano model)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from streamseg.engine import Engine
from streamseg.errors import BadPromptError
from streamseg.export.recording import RecordingSink
from streamseg.media.frame import Frame
from streamseg.media.sampling import Sampling
from streamseg.models.build import LoadedModel
from streamseg.pipeline import Pipeline
from streamseg.recording import Progress, RecordingJob
from streamseg.segmentation.masks import FrameResult
from streamseg.segmentation.prompts import Prompt

FPS = 10
COUNT = 20
WIDTH, HEIGHT = 160, 96


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a red square that moves to the right, with a tone."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=48000)
        for index in range(COUNT):
            rgb = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
            rgb[30:70, 20 + 3 * index : 60 + 3 * index] = (220, 40, 30)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = np.sin(np.arange(2 * 48000) * 2 * np.pi * 440 / 48000).astype(np.float32)
        for start in range(0, len(samples) - 1023, 1024):
            sound = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 48000, start
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


@pytest.fixture
def pipeline(model: LoadedModel) -> Iterator[Pipeline]:
    engine = Engine(model)
    pipeline = Pipeline(engine)
    yield pipeline
    pipeline.close()
    engine.close()


BOX = Prompt(1, box_xyxy_px=(20, 30, 60, 70))


def lines(folder: Path) -> list[FrameResult]:
    return [FrameResult.from_json(json.loads(line)) for line in (folder / "masks.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("untrusted", [False, True], ids=["in process", "in a child process"])
def test_a_recording_becomes_an_overlay_with_its_sound_and_masks(
    clip: Path, tmp_path: Path, pipeline: Pipeline, untrusted: bool
) -> None:
    seen: list[Progress] = []
    job = RecordingJob(clip, [BOX], tmp_path, frozenset({"overlay", "rle", "png", "polygons"}), untrusted=untrusted)
    summary = job.run(pipeline, on_progress=seen.append)
    assert summary.frames == COUNT
    assert summary.problems == ()
    assert summary.lost == {1: 0}
    assert [one.frames for one in seen] == list(range(1, COUNT + 1))
    assert seen[-1].eta_s is not None
    assert seen[-1].eta_s < 1
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert len(container.streams.audio) == 1
        times = [round(float(frame.time), 3) for frame in container.decode(video=0)]
    assert times == [round(index / FPS, 3) for index in range(COUNT)]
    results = lines(tmp_path)
    assert [result.index for result in results] == list(range(COUNT))
    assert results[-1].objects[0].box_xyxy_px is not None
    picture = np.asarray(Image.open(tmp_path / "masks" / "000003_1.png"))
    assert np.array_equal(picture > 0, results[3].objects[0].mask)
    assert len((tmp_path / "polygons.jsonl").read_text().splitlines()) == COUNT
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"overlay.mp4", "masks.jsonl", "polygons.jsonl", "masks"}, "nothing else may stay behind"


def test_cancelling_leaves_valid_partial_results(clip: Path, tmp_path: Path, pipeline: Pipeline) -> None:
    cancelled = threading.Event()

    def after_five(_: object, result: FrameResult) -> None:
        if result.index == 5:
            cancelled.set()

    summary = RecordingJob(clip, [BOX], tmp_path).run(pipeline, on_result=after_five, cancelled=cancelled)
    assert summary.interrupted
    assert 6 <= summary.frames < COUNT
    assert len(lines(tmp_path)) == summary.frames
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == summary.frames


def test_a_disk_that_is_full_leaves_no_writer_behind(tmp_path: Path) -> None:
    (tmp_path / "masks.jsonl").symlink_to("/dev/full")
    sink = RecordingSink(tmp_path, frozenset({"overlay", "rle"}), width=WIDTH, height=HEIGHT)
    frame = Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 0, 0.0)
    sink.write(frame, FrameResult(0, 0.0, WIDTH, HEIGHT))
    with pytest.raises(ValueError, match="the first error"), sink:
        raise ValueError("the first error")
    assert not [thread for thread in threading.enumerate() if thread.name == "video-writer"]
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1


def test_a_prompted_frame_is_segmented_whatever_the_sampling(clip: Path, tmp_path: Path, pipeline: Pipeline) -> None:
    prompt = Prompt(4, frame=7, box_xyxy_px=(41, 30, 81, 70))
    job = RecordingJob(clip, [prompt], tmp_path, frozenset({"rle"}), sampling=Sampling(every=5))
    job.run(pipeline)
    states = {result.index: result.objects[0].state for result in lines(tmp_path)}
    assert list(states) == [0, 5, 7, 10, 15]
    assert [states[index] for index in (0, 5, 7, 10)] == ["lost", "lost", "tracked", "tracked"]


def test_a_prompt_that_cannot_fit_is_refused_before_any_work(clip: Path, tmp_path: Path, pipeline: Pipeline) -> None:
    with pytest.raises(BadPromptError, match="outside the 160 x 96 frame"):
        RecordingJob(clip, [Prompt(1, points_xy_px=[(160, 5)], labels=[1])], tmp_path).run(pipeline)
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_beyond_the_end_is_told(clip: Path, tmp_path: Path, pipeline: Pipeline) -> None:
    late = Prompt(2, frame=500, box_xyxy_px=(0, 0, 10, 10))
    summary = RecordingJob(clip, [BOX, late], tmp_path, frozenset({"rle"})).run(pipeline)
    assert summary.problems == ("the prompt for object 2 on frame 500 was never reached",)
    assert summary.lost == {1: 0, 2: COUNT}
