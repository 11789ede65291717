"""A segmented frame in the form that a client asked for. Runs off the event loop."""

from __future__ import annotations

import time
from typing import Any

from streamseg.media.frame import Frame
from streamseg.render import draw_overlay, encode_jpeg
from streamseg.segmentation.masks import FrameResult, MaskRegion
from streamseg.service.codec import encode_binary
from streamseg.service.effects import Segmented
from streamseg.service.protocol.client_messages import MaskForm, Start
from streamseg.service.protocol.fields import Rle
from streamseg.service.protocol.server_messages import (
    CandidateFields,
    MaskHeader,
    ObjectFields,
    OverlayHeader,
    PictureHeader,
)


def encode_result(frame: Frame, result: FrameResult, start: Start) -> Segmented:
    """The objects of ``result``, and the binary messages that go with them."""
    began = time.perf_counter()
    attachments: list[bytes] = []
    objects: list[ObjectFields] = []
    for one in result.objects:
        box = one.box_xyxy_px
        objects.append(
            ObjectFields(
                object_id=one.object_id,
                state=one.state,
                score=round(one.score, 4),
                area_px=one.area_px,
                box_xyxy_px=None if box is None else list(box),
                candidates=[
                    CandidateFields(score=round(other.score, 4), **_mask_fields(other.region, start.masks))
                    for other in one.candidates
                ]
                if start.multimask
                else None,
                **_mask_fields(one.region, start.masks),
            )
        )
        if start.masks == "png":
            attachments.append(_png(result.index, one.object_id, one.region, None))
            for place, other in enumerate(one.candidates):
                attachments.append(_png(result.index, one.object_id, other.region, place))
    if start.picture:
        picture = encode_jpeg(frame.rgb, start.overlay_quality)
        attachments.append(encode_binary(PictureHeader(type="picture", index=result.index, format="jpeg"), picture))
    if start.overlay:
        picture = encode_jpeg(draw_overlay(frame, result), start.overlay_quality)
        attachments.append(encode_binary(OverlayHeader(type="overlay", index=result.index, format="jpeg"), picture))
    timings_ms = dict(result.timings_ms) | {"encode": 1e3 * (time.perf_counter() - began)}
    return Segmented(
        width=result.width,
        height=result.height,
        timings_ms={stage: round(ms, 3) for stage, ms in timings_ms.items()},
        objects=objects,
        attachments=tuple(attachments),
    )


def _mask_fields(region: MaskRegion, form: MaskForm) -> dict[str, Any]:
    match form:
        case "rle":
            return {"rle": Rle(**region.to_rle())}
        case "polygons":
            return {"polygons": region.to_polygons()}
        case "png" | "none":
            return {}


def _png(index: int, object_id: int, region: MaskRegion, candidate: int | None) -> bytes:
    header = MaskHeader(type="mask", index=index, object_id=object_id, format="png", candidate=candidate)
    return encode_binary(header, region.to_png())
