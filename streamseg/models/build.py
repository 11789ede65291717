"""A name -> a ready model: weights loaded, on its device, compiled and warmed up."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.sam2_video_predictor import SAM2VideoPredictor

from streamseg.errors import BadCheckpointError, ModelUnavailableError, OutOfMemoryError
from streamseg.models.catalog import AUTO, AUTO_ON_GPU, MODELS, NANO, ModelSpec, find_model
from streamseg.models.checkpoint_file import load_state, read_checkpoint, recognise
from streamseg.models.checkpoints import fetch_checkpoint
from streamseg.models.configs import build_architecture
from streamseg.models.devices import Precision, pick_device, pick_precision, set_threads
from streamseg.models.listing import ModelRow as ModelRow
from streamseg.models.nano import WEIGHTS_PATH, optimise_for_cpu, resized

logger = logging.getLogger(__name__)

# The side of a second look's input, in that of the first: 448 px after 384 px, at which `nano` was trained as well.
_SECOND_LOOK_ENLARGEMENT = 7 / 6


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to segment; one per process, shared by all sessions, used by one thread at a time.

    ``predictor``: in eval mode on ``device``; it serves videos itself and single images through `image_predictor`.
    ``reason``: one sentence on why this model was taken. ``image_size``: side of the model's square input, pixels.
    ``clicks_in_turn``: see ``segmentation.decode.decode``. ``second_look``: see ``segmentation.second_look``.
    """

    name: str
    predictor: SAM2VideoPredictor
    device: torch.device
    precision: Precision
    reason: str
    licence: str
    image_size: int
    clicks_in_turn: bool = False
    second_look: bool = False

    @property
    def mask_input_size(self) -> tuple[int, int]:
        """(rows, columns) of the coarse masks that the prompt encoder takes and the decoder gives."""
        rows, columns = self.predictor.sam_prompt_encoder.mask_input_size
        return int(rows), int(columns)

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """The context in which the model is to be called: no gradients, and autocast where the precision is bf16."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.precision == "bf16":
                stack.enter_context(torch.autocast(self.device.type, dtype=torch.bfloat16))
            yield

    def for_second_look(self) -> LoadedModel:
        """The same weights for the larger input of a second look; only for ``nano``, which was trained at both."""
        image_size = 32 * round(_SECOND_LOOK_ENLARGEMENT * self.image_size / 32)
        return replace(self, predictor=resized(self.predictor, image_size), image_size=image_size)

    def image_predictor(self) -> SAM2ImagePredictor:
        """A new `SAM2ImagePredictor` on the shared weights, with feature sizes that fit the model's input."""
        with warnings.catch_warnings():
            # sam2 scripts its resize, which torch has deprecated.
            warnings.filterwarnings("ignore", message=".*torch.jit.script", category=Warning)
            image_predictor = SAM2ImagePredictor(self.predictor)
        # sam2 assumes 1024 px; the strides of the three levels are 4, 8 and 16.
        cells = self.image_size // 16
        image_predictor._bb_feat_sizes = [(4 * cells, 4 * cells), (2 * cells, 2 * cells), (cells, cells)]
        return image_predictor


def load_model(
    name: str = AUTO,
    *,
    checkpoint: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    threads: int | None = None,
    cache_dir: Path | None = None,
    warm_up: bool = True,
    image_size: int | None = None,
) -> LoadedModel:
    """Load a model by name.

    Args:
        name: a key of `streamseg.models.catalog.MODELS`, or ``auto``: `AUTO_ON_GPU` where there is a CUDA GPU and
            its checkpoint is cached or can be downloaded, otherwise the embedded model. With a ``checkpoint``,
            ``auto`` takes the model that the checkpoint belongs to.
        checkpoint: a ``.pt`` or ``.safetensors`` file instead of the published weights.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto`` (bf16 autocast on CUDA, else fp32), ``fp32`` or ``bf16``.
        compile: compile the image encoder with ``torch.compile``: faster frames for a slow first one. Where that
            fails, the model runs uncompiled and the log says so.
        threads: CPU threads of torch; None leaves the choice to `streamseg.models.devices.set_threads`.
        cache_dir: the hub's cache folder; None takes the hub's own default (``HF_HOME``, ``HF_HUB_CACHE``).
        warm_up: segment one grey picture, so that the first real frame is not the slow one.
        image_size: another side of the square input in pixels, a multiple of 32; the published weights are at their
            best at their own size.

    Raises:
        ModelUnavailableError: unknown name, or the weights cannot be had; the message says what to do.
        BadCheckpointError: the checkpoint is damaged, unsafe or does not fit its config.
        BadSettingError: a device, precision, thread count or image size that cannot be.
        OutOfMemoryError: the accelerator's memory is too small for the model.
    """
    started = time.perf_counter()
    chosen_device = pick_device(device)
    chosen_precision = pick_precision(precision, chosen_device)
    choice = _choose(name, checkpoint, chosen_device, cache_dir)
    set_threads(threads, chosen_device)
    predictor = _with_weights(choice, image_size)
    try:
        predictor = predictor.to(chosen_device)
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"The model {choice.spec.name!r} does not fit into the memory of {chosen_device}; take a smaller one."
        ) from error
    model = LoadedModel(
        name=choice.spec.name,
        predictor=predictor,
        device=chosen_device,
        precision=chosen_precision,
        reason=choice.reason,
        licence=choice.licence,
        image_size=int(predictor.image_size),
        clicks_in_turn=choice.spec.clicks_in_turn,
        second_look=choice.spec.second_look,
    )
    if compile:
        _compile_encoder(model)
    if warm_up:
        _warm_up(model)
    logger.info(
        "model %s on %s in %s, loaded in %.1f s: %s",
        model.name,
        model.device,
        model.precision,
        time.perf_counter() - started,
        model.reason,
    )
    return model


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which model, with what is in which checkpoint file, under whose terms, and why."""

    spec: ModelSpec
    file: Path
    state: dict[str, torch.Tensor]
    licence: str
    reason: str


def _choose(name: str, checkpoint: Path | None, device: torch.device, cache_dir: Path | None) -> _Choice:
    if checkpoint is not None:
        return _chosen_by_file(name, Path(checkpoint).expanduser())
    nano = MODELS[NANO]
    if name != AUTO:
        spec, reason = find_model(name), f"{name} was asked for."
    elif device.type == "cuda":
        spec, reason = MODELS[AUTO_ON_GPU], f"auto takes {AUTO_ON_GPU} on a CUDA GPU."
    else:
        spec, reason = nano, f"auto takes {NANO} where no CUDA GPU is in use."
    try:
        file = WEIGHTS_PATH if spec.embedded else fetch_checkpoint(spec, cache_dir)
        return _Choice(spec, file, read_checkpoint(file), spec.licence, reason)
    except (ModelUnavailableError, BadCheckpointError) as error:
        if name != AUTO or spec.embedded:
            raise
        logger.warning("auto falls back to %s: %s", NANO, error)
        reason = f"auto takes {NANO} although there is a CUDA GPU, since {spec.name} could not be had. {error}"
        return _Choice(nano, WEIGHTS_PATH, read_checkpoint(WEIGHTS_PATH), nano.licence, reason)


def _chosen_by_file(name: str, file: Path) -> _Choice:
    """The model that was asked for, or the one whose weights are in the file."""
    asked = None if name == AUTO else find_model(name)
    state = read_checkpoint(file)
    licence = f"that of {file.name}"
    if asked is not None:
        return _Choice(asked, file, state, licence, f"{name} was asked for, with the checkpoint {file.name}.")
    known = recognise(state)
    if known is None:
        raise BadCheckpointError(
            f"The checkpoint {file.name!r} fits none of the configs of {', '.join(MODELS)}; is it a SAM 2 checkpoint?"
        )
    return _Choice(MODELS[known], file, state, licence, f"The checkpoint {file.name} belongs to {known}.")


def _with_weights(choice: _Choice, image_size: int | None) -> SAM2VideoPredictor:
    """The model on the CPU, float32, in eval mode."""
    spec = choice.spec
    model = build_architecture(spec, image_size)
    alike = recognise(choice.state)
    hint = f"It looks like a checkpoint of {alike}." if alike not in (None, spec.name) else ""
    load_state(model, choice.state, file=choice.file.name, config=spec.config, hint=hint)
    model.eval()
    return optimise_for_cpu(model) if spec.embedded else model


def _compile_encoder(model: LoadedModel) -> None:
    """Compile the image encoder and run it once for each size of its input; keep it as it was where that fails."""
    encoder = model.predictor.image_encoder
    plain = encoder.forward
    encoder.forward = torch.compile(plain, dynamic=False)
    try:
        _warm_up(model)
        if model.second_look:
            # Another size is compiled anew, which is not to be waited for at the first picture.
            _warm_up(model.for_second_look())
    except Exception as error:  # the compiler's failures have many unrelated types
        logger.warning("torch.compile does not work on this machine, the model runs uncompiled: %s", error)
        encoder.forward = plain


def _warm_up(model: LoadedModel) -> None:
    """Segment one grey picture with one click.

    Raises:
        BadCheckpointError: the scores are not finite: the weights are not those of a trained model.
        OutOfMemoryError: the accelerator's memory is too small for one picture.
    """
    side = model.image_size
    image_predictor = model.image_predictor()
    try:
        with model.inference():
            image_predictor.set_image(np.full((side, side, 3), 128, np.uint8))
            _, scores, _ = image_predictor.predict(
                point_coords=np.array([[side / 2, side / 2]]), point_labels=np.array([1]), multimask_output=True
            )
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"The memory of {model.device} is too small to run {model.name!r}; take a smaller one."
        ) from error
    if not np.isfinite(scores).all():
        raise BadCheckpointError(f"The weights of {model.name!r} are damaged: the model's scores are not finite.")
