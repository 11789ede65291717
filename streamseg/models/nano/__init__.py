"""The embedded model: a small SAM 2 for CPUs and for tests, its weights in the package.

See `README.md` beside this file for what it can and cannot do, and `LICENSE-WEIGHTS` for the terms.
"""

from __future__ import annotations

from sam2.sam2_video_predictor import SAM2VideoPredictor

from streamseg.models.nano.architecture import IMAGE_SIZE, build_nano, resized
from streamseg.models.nano.optimise import optimise_for_cpu
from streamseg.models.nano.weights_file import WEIGHTS_PATH, load_into

__all__ = ["IMAGE_SIZE", "WEIGHTS_PATH", "build_nano", "load_nano", "optimise_for_cpu", "resized"]


def load_nano(*, optimise: bool = True) -> SAM2VideoPredictor:
    """Load the embedded model with the weights of the package.

    Args:
        optimise: fold batch norm and use channels-last order (`optimise_for_cpu`); turn it off to
            train the model further.

    Returns:
        The model on the CPU, float32, in eval mode, ready for `SAM2ImagePredictor` (see
        `build_nano`) and as a `SAM2VideoPredictor`.

    Raises:
        FileNotFoundError: the package was installed without its weights.
        RuntimeError: the weights do not fit the architecture.
    """
    model = build_nano()
    load_into(model)
    model.eval()
    return optimise_for_cpu(model) if optimise else model
