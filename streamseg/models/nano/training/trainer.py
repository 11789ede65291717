"""The training loop: optimiser, schedule, averaged weights, checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor, nn

_LOG = logging.getLogger(__name__)

TRUNK = "image_encoder.trunk."
MEMORY = ("memory_attention.", "memory_encoder.", "maskmem_tpos_enc", "obj_ptr", "no_obj", "mask_downsample")
_OBJECT_SCORE = "sam_mask_decoder.pred_obj_score_head."


@dataclass(frozen=True)
class Schedule:
    """How a stage runs.

    Attributes:
        steps: number of steps of the stage.
        trunk_lr: peak learning rate of the trunk.
        memory_lr: peak learning rate of memory attention, memory encoder and pointers.
        lr: peak learning rate of the rest.
        lr_scale: a factor for all three; for larger steps.
        warmup_steps: linear rise at the start.
        decay_share: the last part of the stage, in which the rates fall to 2 % of their peak.
        averaging: decay of the averaged weights per step.
    """

    steps: int
    trunk_lr: float = 1.5e-4
    memory_lr: float = 6e-4
    lr: float = 3e-4
    lr_scale: float = 1.0
    warmup_steps: int = 100
    decay_share: float = 0.35
    averaging: float = 0.998

    def factor(self, step: int) -> float:
        """The learning rates at a step, relative to their peaks."""
        rising = (step + 1) / self.warmup_steps
        left = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        falling = 0.02 + 0.98 * 0.5 * (1 - math.cos(math.pi * min(1.0, max(0.0, left))))
        return min(1.0, rising, falling)


class Trainer:
    """A model in training, with all that a checkpoint must hold to go on.

    Args:
        model: the model, unfolded, on its device.
        schedule: how to train it.
        beside: parts that only the training needs; they are trained and kept in the checkpoint with the model, but
            their gradients are not clipped and their weights not averaged.
    """

    def __init__(self, model: SAM2VideoPredictor, schedule: Schedule, beside: nn.Module | None = None) -> None:
        self.model = model
        self.schedule = schedule
        self.beside = nn.Module() if beside is None else beside
        self.step = 0
        groups = _parameter_groups(model, schedule)
        if rest := list(self.beside.parameters()):
            groups.append({"params": rest, "lr": schedule.lr * schedule.lr_scale})
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.02)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.averaged = {key: value.detach().clone() for key, value in model.state_dict().items()}

    def run(
        self,
        batches: Iterable[Any],
        loss_of: Callable[[Any, int], Tensor],
        checkpoint: Path,
        save_every: int,
    ) -> None:
        """Train until the batches or the steps end; the checkpoint is written now and then and at the end.

        Args:
            batches: one per step, from the present step on.
            loss_of: a batch and its step -> a scalar loss.
            checkpoint: file to write.
            save_every: steps between two checkpoints.

        Raises:
            FloatingPointError: the loss stayed infinite or undefined for several steps.
        """
        recent, odd, began = 0.0, 0, time.monotonic()
        for batch in batches:
            if self.step >= self.schedule.steps:
                break
            factor = self.schedule.factor(self.step)
            for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
                group["lr"] = peak * factor
            self.optimizer.zero_grad(set_to_none=True)
            loss = loss_of(batch, self.step)
            if torch.isfinite(loss):
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self._average()
                recent, odd = recent + loss.item(), 0
            else:
                odd += 1
                if odd == 5:
                    raise FloatingPointError(f"the loss is not finite at step {self.step}")
            self.step += 1
            if self.step % 10 == 0:
                _LOG.info("step %d  loss %.4f  %.2f s", self.step, recent / 10, (time.monotonic() - began) / 10)
                recent, began = 0.0, time.monotonic()
            if self.step % save_every == 0:
                self.save(checkpoint)
        self.save(checkpoint)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.schedule.averaging, (1 + self.step) / (10 + self.step))
        values = {key: value for key, value in self.model.state_dict().items() if value.is_floating_point()}
        torch._foreach_lerp_([self.averaged[key] for key in values], list(values.values()), 1 - decay)

    def save(self, path: Path) -> None:
        """Write everything that is needed to go on; replaced in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(
            {
                "step": self.step,
                "model": self.model.state_dict(),
                "averaged": self.averaged,
                "beside": self.beside.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
            partial,
        )
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same stage.

        Raises:
            FileNotFoundError: there is none.
            RuntimeError: it belongs to another architecture, or to a run that trained other parts.
        """
        stored = torch.load(path, map_location=self.model.device, weights_only=True)
        try:
            self.optimizer.load_state_dict(stored["optimizer"])
        except ValueError as error:
            raise RuntimeError(f"{path} is of a run that trained other parts (--only-memory, --retention)") from error
        self.model.load_state_dict(stored["model"])
        self.averaged = stored["averaged"]
        self.beside.load_state_dict(stored.get("beside", {}))
        self.step = stored["step"]


def freeze_all_but_memory(model: nn.Module) -> None:
    """Leave only the memory parts and the object score to train, so that single images are answered as before."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith((*MEMORY, _OBJECT_SCORE)))


def _parameter_groups(model: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith(TRUNK):
            lr = schedule.trunk_lr
        elif name.startswith(MEMORY):
            lr = schedule.memory_lr
        else:
            lr = schedule.lr
        lr *= schedule.lr_scale
        # Biases, norms and embeddings have no scale that decay should hold down.
        decays = parameter.ndim >= 2 and "embed" not in name and "token" not in name
        groups.setdefault((lr, decays), []).append(parameter)
    return [
        {"params": parameters, "lr": lr, **({} if decays else {"weight_decay": 0.0})}
        for (lr, decays), parameters in groups.items()
        if lr > 0
    ]
