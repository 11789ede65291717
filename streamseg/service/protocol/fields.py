"""What the messages of both directions are made of."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

# Whole numbers up to here survive a client whose numbers are doubles.
MAX_WHOLE = 2**53
MAX_AREA_PX = 2**31 - 1

T = TypeVar("T")


def _is_none(value: Any) -> bool:
    return value is None


# Left out of the JSON where there is nothing to say; `null` is for values that are known to be none.
Maybe = Annotated[T | None, Field(exclude_if=_is_none)]
Number: TypeAlias = Annotated[int, Field(ge=-MAX_WHOLE, le=MAX_WHOLE)] | float


class Message(BaseModel):
    """Strict: unknown fields, booleans as numbers, texts as numbers, NaN and infinities are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class Rle(Message):
    """A mask as COCO compressed RLE; ``size`` is [height, width]."""

    size: Annotated[list[Annotated[int, Field(ge=1, le=MAX_AREA_PX)]], Field(min_length=2, max_length=2)]
    counts: str
