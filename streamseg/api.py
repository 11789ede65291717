"""The Python face: ``streamseg.load(...)`` and what one does with a model in one's own process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeAlias

from numpy.typing import NDArray

from streamseg.engine import Engine
from streamseg.errors import BadPromptError
from streamseg.media.image import ImageLimits, decode_image
from streamseg.models.build import LoadedModel, load_model
from streamseg.pipeline import Pipeline, StreamOptions
from streamseg.segmentation.prompts import BoxLike, LabelsLike, PointsLike, Prompt
from streamseg.segmentation.refine import RefineOptions

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


class Model:
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
        score_threshold: float | None = None,
        refine: RefineOptions | None = None,
        window: tuple[float, float] | None = None,
        limits: ImageLimits | None = None,
    ) -> FrameResult:
        """Masks of the objects that are pointed at in one picture.

        ``image``: path, file object, bytes of an image file, PIL image, or RGB array uint8 (H, W, 3). One object:
        ``points_xy_px`` [(x, y), ...] with ``labels`` (1 object, 0 background; all 1 if left out) and/or
        ``box_xyxy_px``. Several: ``prompts``. ``window``: (low, high) values of a 16-bit picture that become black and
        white. Raises BadPromptError, UnsupportedMediaError, TooLargeError, NotFoundError.
        """
        asked = list(prompts or ())
        if points_xy_px is not None or box_xyxy_px is not None:
            points = () if points_xy_px is None else points_xy_px
            asked.append(
                Prompt(
                    points_xy_px=points,
                    labels=[1] * len(points) if labels is None else labels,
                    box_xyxy_px=box_xyxy_px,
                )
            )
        elif labels is not None:
            raise BadPromptError("labels without points: give points_xy_px as well")
        if not asked:
            raise BadPromptError("nothing to segment: give points_xy_px, box_xyxy_px or prompts")
        frame = decode_image(image, window=window, limits=limits)
        options = StreamOptions(multimask=multimask, score_threshold=score_threshold, refine=refine or RefineOptions())
        pipeline = Pipeline(self.engine, options)
        try:
            for prompt in asked:
                prompt.check(frame.width, frame.height)
                pipeline.add_prompt(prompt)
            return pipeline.process(frame)
        finally:
            pipeline.close()

    def close(self) -> None:
        """End the inference thread."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
