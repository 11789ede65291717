"""The Python face: ``streamseg.load(...)`` and what one does with a model in one's own process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

from numpy.typing import NDArray

from streamseg.backwards import EarlierAnswers, track_backwards
from streamseg.closable import Closable
from streamseg.engine import Engine
from streamseg.errors import BadPromptError, BadSettingError
from streamseg.live import Session, with_rejected
from streamseg.media.addresses import is_stream_url
from streamseg.media.frame import Frame
from streamseg.media.image import ImageLimits, decode_image
from streamseg.media.network import NetworkOptions
from streamseg.media.network_reader import NetworkReader
from streamseg.media.sampling import Choice, Sampling
from streamseg.media.video import VideoLimits, VideoReader
from streamseg.models.build import LoadedModel, load_model
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.segmentation.prompts import BoxLike, LabelsLike, PointsLike, Prompt, PromptLimits
from streamseg.segmentation.refine import RefineOptions
from streamseg.segmentation.segmenter import Mode
from streamseg.segmentation.track_options import TrackOptions
from streamseg.streaming import segment_stream

if TYPE_CHECKING:
    from PIL.Image import Image

    from streamseg.segmentation.masks import FrameResult

ImageLike: TypeAlias = "str | Path | bytes | BinaryIO | Image | NDArray[Any]"


def load(
    name: str = "auto",
    *,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    threads: int | None = None,
) -> Model:
    """A model that is ready to segment.

    ``name``: ``auto``, ``nano`` or one of the SAM 2 models; ``checkpoint``: a file of that model instead of a download.
    Raises ModelUnavailableError or BadCheckpointError.
    """
    path = None if checkpoint is None else Path(checkpoint)
    return Model(
        load_model(name, checkpoint=path, device=device, precision=precision, compile=compile, threads=threads)
    )


class Model(Closable):
    """A loaded model with an inference thread of its own. Also a context manager."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.engine = Engine(loaded)

    def segment(
        self,
        image: ImageLike,
        *,
        points_xy_px: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box_xyxy_px: BoxLike | None = None,
        prompts: Sequence[Prompt] | None = None,
        multimask: bool = False,
        second_look: bool = True,
        score_threshold: float | None = None,
        refine: RefineOptions | None = None,
        window: tuple[float, float] | None = None,
        limits: ImageLimits | None = None,
    ) -> FrameResult:
        """Masks of the objects that are pointed at in one picture.

        ``image``: path, file object, bytes of an image file, PIL image, or RGB array uint8 (H, W, 3). One object:
        ``points_xy_px`` [(x, y), ...] with ``labels`` (1 object, 0 background; all 1 if left out) and/or
        ``box_xyxy_px``. Several: ``prompts``. ``window``: (low, high) values of a 16-bit picture that become black and
        white. ``second_look``: let a model that gains from it (``nano``) look at the objects a second time, for a
        second encoding. Raises BadPromptError, UnsupportedMediaError, TooLargeError, NotFoundError.
        """
        asked = list(prompts or ())
        if not all(isinstance(prompt, Prompt) for prompt in asked):
            raise BadPromptError("prompts must be a list of streamseg.Prompt")
        if points_xy_px is not None or box_xyxy_px is not None:
            points = () if points_xy_px is None else points_xy_px
            if labels is None:
                labels = [1] * (len(points) if hasattr(points, "__len__") else 0)
            asked.append(Prompt(points_xy_px=points, labels=labels, box_xyxy_px=box_xyxy_px))
        elif labels is not None:
            raise BadPromptError("labels without points: give points_xy_px as well")
        if not asked:
            raise BadPromptError("nothing to segment: give points_xy_px, box_xyxy_px or prompts")
        frame = decode_image(image, window=window, limits=limits)
        options = StreamOptions(
            multimask=multimask,
            second_look=second_look,
            score_threshold=score_threshold,
            refine=refine or RefineOptions(),
        )
        pipeline = Pipeline(self.engine, options)
        try:
            for prompt in asked:
                prompt.check(frame.width, frame.height)
                pipeline.add_prompt(prompt)
            return pipeline.process(frame)
        finally:
            pipeline.close()

    def stream(
        self,
        source: str | Path | BinaryIO | Iterable[NDArray[Any] | Frame],
        *,
        prompts: Sequence[Prompt],
        mode: Mode = "track",
        carry: bool = True,
        track: TrackOptions | None = None,
        every: int = 1,
        fps: float | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        hold: bool = False,
        backwards: bool = False,
        multimask: bool = False,
        score_threshold: float | None = None,
        refine: RefineOptions | None = None,
        limits: VideoLimits | None = None,
        network: NetworkOptions | None = None,
    ) -> Iterator[FrameResult]:
        """Masks on every frame of a recording or stream, as they come; memory does not grow with its length.

        ``source``: path or file object of a video, or RGB arrays uint8 (H, W, 3) (their time is their index, as they
        have none) or Frames. Each prompt is applied to its own frame. ``mode``: ``track`` follows objects with SAM 2's
        video memory, as ``track`` says; ``image`` segments each frame by itself, with ``carry`` from the object's mask
        on the one before. ``every`` Nth frame, or at most ``fps`` a second, from ``start_s`` to ``end_s``; with
        ``hold`` the frames between are given too, with the last masks and marked ``held``. ``backwards``: first track
        each object from its first prompt back to the start, which needs a path or a file object and the mode ``track``.
        An address (``rtsp://``, ``rtsps://``, ``http://``, ``https://``), read as ``network`` says, is a live stream:
        each result is of the newest picture, those between are left out (``index`` counts them), a lost connection is
        tried again, and it goes on until the iterator is closed, ``end_s`` is reached or what is there ends. Closing
        the iterator ends its threads. Raises UnsupportedMediaError, TooLargeError, NotFoundError,
        BadPromptError (a prompt that does not fit the frame, or under which nothing is found, where there is no other
        object; otherwise it is in ``rejected`` of that frame's result), BadSettingError, and of addresses
        AddressRefusedError and StreamUnavailableError.
        """
        asked = list(prompts)
        if not asked:
            raise BadPromptError("nothing to follow: give at least one prompt")
        sampling = Sampling(every=every, fps=fps, start_s=start_s, end_s=end_s, hold=hold)
        always = {prompt.frame for prompt in asked}
        options = StreamOptions(
            mode=mode,
            carry=carry,
            multimask=multimask,
            score_threshold=score_threshold,
            refine=refine or RefineOptions(),
            track=track or TrackOptions(),
        )
        if backwards and (mode != "track" or not _is_file(source) or _is_address(source)):
            raise BadSettingError('backwards needs a path or a file object, and the mode "track"')
        if network is None:
            network = NetworkOptions(max_pixels=(limits or VideoLimits()).max_pixels)
        return self._stream(source, asked, sampling, always, options, limits, backwards, network)

    def _stream(
        self,
        source: str | Path | BinaryIO | Iterable[NDArray[Any] | Frame],
        prompts: list[Prompt],
        sampling: Sampling,
        always: set[int],
        options: StreamOptions,
        limits: VideoLimits | None,
        backwards: bool,
        network: NetworkOptions,
    ) -> Iterator[FrameResult]:
        is_live = _is_address(source)
        with ExitStack() as stack:
            pipeline = Pipeline(self.engine, options)
            stack.callback(pipeline.close)
            earlier = None
            if backwards:
                answers = self._earlier(
                    pipeline, cast("str | Path | BinaryIO", source), prompts, sampling, always, limits
                )
                earlier = stack.enter_context(closing(answers)).get
            if _is_file(source):
                reader: VideoReader | NetworkReader
                if is_live:
                    reader = NetworkReader(cast("str", source), options=network)
                else:
                    reader = VideoReader(cast("str | Path | BinaryIO", source), limits=limits)
                stack.enter_context(closing(reader))
                for prompt in prompts:
                    prompt.check(reader.info.width, reader.info.height)
                frames = reader.frames(sampling, always)
            else:
                frames = _sampled(cast("Iterable[NDArray[Any] | Frame]", source), sampling, always)
            results = stack.enter_context(closing(segment_stream(pipeline, frames, prompts, earlier, live=is_live)))
            for _, result in results:
                yield with_rejected(result, pipeline.take_rejected())

    def session(
        self,
        *,
        mode: Mode = "track",
        carry: bool = True,
        multimask: bool = False,
        score_threshold: float | None = None,
        refine: RefineOptions | None = None,
        track: TrackOptions | None = None,
        limits: PromptLimits | None = None,
    ) -> Session:
        """Frames of the caller's own, one after the other, with prompts, corrections and removals in between.

        The options are those of ``stream``. Close it, or use it in a ``with``.
        """
        options = StreamOptions(
            mode=mode,
            carry=carry,
            multimask=multimask,
            score_threshold=score_threshold,
            refine=refine or RefineOptions(),
            track=track or TrackOptions(),
        )
        return Session(Pipeline(self.engine, options, limits))

    @staticmethod
    def _earlier(
        pipeline: Pipeline,
        source: str | Path | BinaryIO,
        prompts: list[Prompt],
        sampling: Sampling,
        always: set[int],
        limits: VideoLimits | None,
    ) -> EarlierAnswers:
        @contextmanager
        def reopen() -> Iterator[Iterator[tuple[Frame, Choice]]]:
            with VideoReader(source, limits=limits) as reader:
                for prompt in prompts:
                    prompt.check(reader.info.width, reader.info.height)
                yield reader.frames(replace(sampling, hold=False), always)

        with closing(pipeline.beside()) as behind:
            return track_backwards(behind, reopen, prompts)

    def close(self) -> None:
        """End the inference thread."""
        self.engine.close()


def _is_file(source: object) -> bool:
    return isinstance(source, str | Path) or hasattr(source, "read")


def _is_address(source: object) -> bool:
    return isinstance(source, str) and is_stream_url(source)


def _sampled(
    source: Iterable[NDArray[Any] | Frame], sampling: Sampling, always: set[int]
) -> Iterator[tuple[Frame, Choice]]:
    choose = sampling.sampler(always)
    for index, given in enumerate(source):
        frame = given if isinstance(given, Frame) else decode_image(given, index=index, time_s=float(index))
        choice = choose(frame.index, frame.time_s)
        if choice is Choice.STOP:
            return
        if choice is not Choice.SKIP:
            yield frame, choice
