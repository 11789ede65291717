"""Prompts on the command line, where order matters: each ``--object`` opens a group for what comes after it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from streamseg.cli.console import WrongUsageError
from streamseg.errors import StreamsegError

if TYPE_CHECKING:
    from streamseg.segmentation.prompts import Prompt

PROMPT_OPTIONS_KEY = "streamseg.prompt_options"
_TIME = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?|\.\d+)")
_NAMES = {"point": "--point", "box": "--box", "mask": "--mask", "object_id": "--object", "frame": "--frame"}


class PromptCommand(TyperCommand):
    """A command that also leaves its prompt options, in their order, as (name, value) in the context's ``meta``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # The parser empties the list that it is given.
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        remaining: dict[str, Iterator[str]] = {name: iter(values.get(name) or ()) for name in _NAMES}
        ctx.meta[PROMPT_OPTIONS_KEY] = [
            (_NAMES[one.name], next(remaining[one.name])) for one in order if one.name in _NAMES
        ]
        return super().parse_args(ctx, args)


@dataclass
class PromptGroup:
    """What was said about one object on one frame."""

    object_id: int
    frame: int
    points: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: tuple[float, ...] | None = None
    mask: Path | None = None

    @property
    def empty(self) -> bool:
        return not self.points and self.box is None and self.mask is None

    def to_prompt(self) -> Prompt:
        """The prompt; raises the StreamsegError that says what is wrong with it."""
        from streamseg.segmentation.prompts import Prompt

        mask = None
        if self.mask is not None:
            from streamseg.media.image import decode_image

            mask = decode_image(self.mask).rgb.max(axis=2) > 127
        return Prompt(self.object_id, self.frame, self.points, self.labels, self.box, mask)


def read_prompts(options: Iterable[tuple[str, str]]) -> list[Prompt]:
    """The prompts of the options in their order; raises WrongUsageError."""
    groups = read_groups(options)
    try:
        return [group.to_prompt() for group in groups]
    except StreamsegError as error:
        raise WrongUsageError(error.message) from None


def read_groups(options: Iterable[tuple[str, str]]) -> list[PromptGroup]:
    """Options in their order -> one group for each object and frame, in order of appearance."""
    groups: dict[tuple[int, int], PromptGroup] = {}
    object_id, frame = 1, 0
    opened: tuple[str, tuple[int, int]] | None = None
    boxes: dict[tuple[int, int], int] = defaultdict(int)
    for name, value in options:
        if name == "--object":
            _check_opened(opened, groups)
            object_id, frame = _whole(name, value), 0
            opened = (f"--object {value}", (object_id, frame))
            continue
        if name == "--frame":
            frame = _whole(name, value)
            opened = (f"{opened[0]} --frame {value}" if opened else f"--frame {value}", (object_id, frame))
            continue
        key = (object_id, frame)
        group = groups.setdefault(key, PromptGroup(object_id, frame))
        if name == "--point":
            x, y, label = _point(value)
            group.points.append((x, y))
            group.labels.append(label)
        elif name == "--box":
            boxes[key] += 1
            if boxes[key] > 1:
                raise WrongUsageError(
                    f"a second box for object {object_id}; open a group with --object ID for another one"
                )
            group.box = _numbers(name, value, 4, "X1,Y1,X2,Y2")
        else:
            if group.mask is not None:
                raise WrongUsageError(
                    f"a second mask for object {object_id}; open a group with --object ID for another one"
                )
            group.mask = Path(value)
    _check_opened(opened, groups)
    return list(groups.values())


def _check_opened(opened: tuple[str, tuple[int, int]] | None, groups: dict[tuple[int, int], PromptGroup]) -> None:
    if opened is not None and opened[1] not in groups:
        raise WrongUsageError(f"{opened[0]} has no prompt: put --point, --box or --mask after it")


def _point(value: str) -> tuple[float, float, int]:
    parts = value.split(",")
    label = 1
    if len(parts) == 3:
        if parts[2].strip() not in ("0", "1"):
            raise WrongUsageError(f"--point {value}: the label is 1 (object) or 0 (background)")
        label = int(parts[2])
        value = ",".join(parts[:2])
    x, y = _numbers("--point", value, 2, "X,Y or X,Y,LABEL")
    return x, y, label


def _numbers(name: str, value: str, count: int, form: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise WrongUsageError(f"{name} takes {form}, not {value!r}")
    return numbers


def _whole(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise WrongUsageError(f"{name} takes a whole number from 0 on, not {value!r}")
    return int(value)


def read_window(value: str | None) -> tuple[float, float] | None:
    """``LO,HI`` -> two numbers, the first the smaller; raises WrongUsageError."""
    if value is None:
        return None
    low, high = _numbers("--window", value, 2, "LO,HI")
    if not low < high:
        raise WrongUsageError(f"--window takes LO,HI with LO < HI, not {value!r}")
    return low, high


def read_time(name: str, value: str | None) -> float | None:
    """Seconds, or ``M:SS``, or ``H:MM:SS``, each with decimals where wanted -> seconds; raises WrongUsageError."""
    if value is None:
        return None
    match = _TIME.fullmatch(value.strip()) if value.isascii() else None
    if match is None:
        raise WrongUsageError(f"{name} takes a time as 83.5 (seconds), 1:23.5 or 0:01:23.5, not {value!r}")
    hours, minutes, seconds = match.groups(default="0")
    if match[2] is not None and float(seconds) >= 60:
        raise WrongUsageError(f"{name} {value}: a minute has 60 seconds")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
