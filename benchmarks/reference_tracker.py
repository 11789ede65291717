"""``sam2``'s own video predictor, driven as a stream must drive it: what it says may only depend on the past.

Propagate to frame k-1, add the prompts of frame k, go on from k; a correction is added to a frame that was just
tracked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from streamseg.media.frame import Frame
from streamseg.models.build import LoadedModel
from streamseg.segmentation.embedding import to_model_input
from streamseg.segmentation.prompts import Prompt


def say(predictor: Any, state: dict[str, Any], prompt: Prompt) -> None:
    """Give a prompt to a ``SAM2VideoPredictor`` whose inference state is ``state``."""
    if prompt.mask is not None:
        predictor.add_new_mask(state, prompt.frame, prompt.object_id, prompt.mask)
    if prompt.points or prompt.box is not None:
        predictor.add_new_points_or_box(
            state,
            prompt.frame,
            prompt.object_id,
            points=prompt.points or None,
            labels=prompt.point_labels or None,
            box=prompt.box,
            clear_old_points=prompt.box is not None,
        )


class CausalReference:
    """``SAM2VideoPredictor`` on frames in memory.

    Args:
        model: its predictor is used as it is, one object at a time.
        frames: all of one size.
    """

    def __init__(self, model: LoadedModel, frames: Sequence[Frame]) -> None:
        self._predictor: Any = model.predictor
        self._state: dict[str, Any] = {
            "images": _Images(model, frames),
            "num_frames": len(frames),
            "offload_video_to_cpu": False,
            "offload_state_to_cpu": False,
            "video_height": frames[0].height,
            "video_width": frames[0].width,
            "device": model.device,
            "storage_device": model.device,
            "point_inputs_per_obj": {},
            "mask_inputs_per_obj": {},
            "cached_features": {},
            "constants": {},
            "obj_id_to_idx": OrderedDict(),
            "obj_idx_to_id": OrderedDict(),
            "obj_ids": [],
            "output_dict_per_obj": {},
            "temp_output_dict_per_obj": {},
            "frames_tracked_per_obj": {},
        }

    def run(
        self, prompts: Sequence[Prompt], corrections: Sequence[Prompt] = ()
    ) -> Iterator[tuple[int, dict[int, torch.Tensor]]]:
        """Coarse logits (4h, 4w) of every object, frame by frame.

        Args:
            prompts: added before their frame is tracked.
            corrections: added after their frame was tracked; the frame's masks are given as corrected.
        """
        for number in range(self._state["num_frames"]):
            for prompt in (one for one in prompts if one.frame == number):
                say(self._predictor, self._state, prompt)
            if not self._state["obj_ids"]:
                yield number, {}
                continue
            for _ in self._predictor.propagate_in_video(self._state, number, 0):
                pass
            due = [one for one in corrections if one.frame == number]
            for correction in due:
                say(self._predictor, self._state, correction)
            if due:
                self._predictor.propagate_in_video_preflight(self._state)
            yield number, self._coarse(number)

    def _coarse(self, number: int) -> dict[int, torch.Tensor]:
        found = {}
        for place, name in self._state["obj_idx_to_id"].items():
            outputs = self._state["output_dict_per_obj"][place]
            kept = outputs["cond_frame_outputs"].get(number) or outputs["non_cond_frame_outputs"].get(number)
            if kept is not None:
                found[name] = kept["pred_masks"][0, 0].float().cpu()
        return found


class _Images:
    def __init__(self, model: LoadedModel, frames: Sequence[Frame]) -> None:
        self._model, self._frames = model, frames

    def __getitem__(self, number: int) -> torch.Tensor:
        frame = self._frames[number]
        return to_model_input(frame.rgb, self._model.image_size, self._model.device)[0]
