"""Settings: built-in defaults < a YAML file < STREAMSEG_* environment variables < command line flags.

Nested values take a double underscore in the environment: ``STREAMSEG_LIMITS__MAX_SESSIONS=4``.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, IPvAnyAddress, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from streamseg.errors import AddressRefusedError, BadMessageError, BadSettingError
from streamseg.media.addresses import AddressRule, StreamUrl, is_stream_url
from streamseg.media.image import ImageLimits
from streamseg.media.network import NetworkOptions
from streamseg.media.video import VideoLimits
from streamseg.segmentation.prompts import PromptLimits
from streamseg.segmentation.refine import RefineOptions
from streamseg.segmentation.track_options import TrackOptions

ENV_PREFIX = "STREAMSEG_"
MEBIBYTE = 2**20
GIBIBYTE = 2**30
# Names of shared streams are part of addresses.
STREAM_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class Limits(BaseModel):
    """Every limit of the service. A client may lower the ones marked so, never raise one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_image_pixels: int = Field(
        50_000_000, ge=1, description="Larger pictures are `too_large`, read from the header. A client may lower it."
    )
    max_image_bytes: int = Field(32 * MEBIBYTE, ge=1, description="Longer image files are `too_large`.")
    max_message_bytes: int = Field(
        33 * MEBIBYTE, ge=1024, description="A longer websocket message closes the connection with 1009."
    )
    max_objects: int = Field(
        64, ge=1, le=1024, description="More objects in one session are `bad_prompt`. A client may lower it."
    )
    max_points: int = Field(
        64, ge=1, le=4096, description="More points of one object are `bad_prompt`. A client may lower it."
    )
    max_mask_pixels: int = Field(
        400_000_000,
        ge=1,
        description="A frame whose objects together have more pixels of masks is `too_large`, and so are prompts whose "
        "masks do; a byte of memory each.",
    )
    max_sessions: int = Field(
        16,
        ge=1,
        description="One connection more is refused with 503 and Retry-After; sessions that wait for a client count.",
    )
    queue_length: int = Field(32, ge=1, description="Works waiting for the model; one more is `overloaded`.")
    messages_per_s: float = Field(
        120.0,
        gt=0,
        description="More messages of one connection (bursts of twice this) are `rate_limited`, close 1008. One of "
        "more than 256 values counts as several.",
    )
    idle_timeout_s: float = Field(
        120.0, gt=0, description="A connection that sends nothing for so long is closed, 1001."
    )
    handshake_timeout_s: float = Field(
        10.0, gt=0, description="A connection without a message so long is closed, 1001."
    )
    send_timeout_s: float = Field(20.0, gt=0, description="A client that reads nothing for so long is dropped.")
    resume_s: float = Field(
        30.0,
        ge=0,
        description="A live session whose connection broke waits so long for its client, in its place; 0: not at all.",
    )
    max_video_bytes: int = Field(
        2 * GIBIBYTE, ge=1, description="Larger video files are `too_large`, before they are uploaded."
    )
    max_video_seconds: float = Field(3600.0, gt=0, description="Longer videos are `too_large`.")
    max_video_decode_s: float = Field(
        3600.0, gt=0, description="A video whose decoding takes more seconds than this is `too_large`."
    )
    max_video_frames: int = Field(200_000, ge=1, description="Videos of more frames are `too_large`.")
    files_quota_bytes: int = Field(
        8 * GIBIBYTE,
        ge=1,
        description="All uploads and results together; the oldest results give way, then uploads are `overloaded`.",
    )
    files_ttl_s: float = Field(3600.0, gt=0, description="The results of a video are deleted after this.")
    max_file_jobs: int = Field(
        2, ge=1, description="Videos processed at a time; three times as many may wait, one more is `overloaded`."
    )

    def image(self) -> ImageLimits:
        return ImageLimits(max_pixels=self.max_image_pixels, max_bytes=self.max_image_bytes)

    def video(self) -> VideoLimits:
        return VideoLimits(
            max_pixels=self.max_image_pixels,
            max_frames=self.max_video_frames,
            max_seconds=self.max_video_seconds,
            max_wall_s=self.max_video_decode_s,
            max_bytes=self.max_video_bytes,
        )

    def prompts(self) -> PromptLimits:
        return PromptLimits(
            max_objects=self.max_objects, max_points=self.max_points, max_mask_pixels=self.max_mask_pixels
        )

    def lowered(self, wanted: Mapping[str, int]) -> Limits:
        """These limits with a client's lower ones; values above ours leave ours in place."""
        unknown = set(wanted) - {"max_objects", "max_points", "max_image_pixels"}
        if unknown:
            raise BadMessageError(f"a client cannot set the limit {sorted(unknown)[0]}")
        return self.model_copy(update={name: min(getattr(self, name), value) for name, value in wanted.items()})


class ModelSettings(BaseModel):
    """Which model, and how it runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("auto", description="`auto`, `nano` or a SAM 2 model; see `streamseg models`.")
    checkpoint: Path | None = Field(None, description="A checkpoint file of the operator's own, instead of a download.")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1`, `mps`.")
    precision: str = Field("auto", description="`auto` (bf16 on CUDA, fp32 elsewhere), `fp32`, `bf16`.")
    compile: bool = Field(False, description="torch.compile the image encoder: a slow start, then faster frames.")
    threads: int | None = Field(None, ge=1, description="CPU threads of the model; default: all cores.")
    min_work_ms: float = Field(
        0.0, ge=0, le=60_000, description="Every step takes at least so long: to see how a slower machine would do."
    )
    cache_dir: Path | None = Field(None, description="Where downloaded checkpoints are kept; default: the hub's cache.")


class TlsSettings(BaseModel):
    """Encryption by the service itself, for phones and others that come over a network without a proxy before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate: Path | None = Field(
        None, description="Certificate chain as a PEM file; with it the service speaks https and wss only."
    )
    key: Path | None = Field(None, description="Its private key as a PEM file; default: the certificate's file.")
    key_password: SecretStr | None = Field(None, description="What the key is encrypted with, if it is.")


class IceServer(BaseModel):
    """A STUN or TURN server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: list[str] = Field(min_length=1)
    username: str | None = None
    credential: SecretStr | None = None

    @field_validator("urls")
    @classmethod
    def _check_urls(cls, urls: list[str]) -> list[str]:
        for url in urls:
            if not re.fullmatch(r"(stun|turns?):[^\s?@/]+(\?transport=(udp|tcp))?", url):
                raise ValueError(f"{url!r} is no address like stun:host:3478 or turn:host:3478?transport=udp")
        return urls


class WebrtcSettings(BaseModel):
    """Live camera over WebRTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(True, description="Whether sessions of the source `webrtc`, WHIP and WHEP are taken.")
    announce: list[IPvAnyAddress] = Field(
        default_factory=list,
        description="Addresses under which clients reach this machine, where it does not know them itself (NAT).",
    )
    loopback: bool = Field(False, description="Also offer 127.0.0.1, to clients on this very machine.")
    ice_servers: list[IceServer] = Field(
        default_factory=list,
        description="STUN and TURN servers (`urls`, `username`, `credential`), for the server and its clients.",
    )
    max_bitrate: int = Field(
        8_000_000, ge=250_000, description="Bits per second that the overlay track may take, if the network has them."
    )
    connect_timeout_s: float = Field(
        15.0, gt=0, description="A connection that takes longer than this is `webrtc_failed`."
    )
    lost_after_s: float = Field(
        8.0, ge=3, description="A peer that has not answered for so long is given up: `webrtc_failed`."
    )


class NetworkSettings(BaseModel):
    """Streams of network cameras, opened by the service where a client asks for them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(False, description="Whether clients may name an address.")
    allow: list[str] = Field(
        default_factory=list,
        description="Hosts that may be opened: names, addresses, networks like `192.168.1.0/24`; all else is refused.",
    )
    max_streams: int = Field(4, ge=1, description="Streams open at a time; one more is `overloaded`.")
    connect_timeout_s: float = Field(
        10.0, gt=0, le=120, description="A host that has not answered for so long is `stream_unavailable`."
    )
    read_timeout_s: float = Field(10.0, gt=0, le=120, description="A stream without a picture for so long is lost.")
    reconnect_max_s: float = Field(
        30.0, ge=0.5, le=3600, description="A lost stream is tried again after waits that grow up to this."
    )

    @field_validator("allow")
    @classmethod
    def _check_allow(cls, allow: list[str]) -> list[str]:
        try:
            AddressRule(allow)
        except BadSettingError as error:
            raise ValueError(error.message) from None
        return allow

    def rule(self) -> AddressRule:
        return AddressRule(self.allow)

    def options(self, max_pixels: int) -> NetworkOptions:
        return NetworkOptions(
            connect_timeout_s=self.connect_timeout_s,
            read_timeout_s=self.read_timeout_s,
            reconnect_max_s=self.reconnect_max_s,
            max_pixels=max_pixels,
        )


class StreamsSettings(BaseModel):
    """Streams that several clients share: cameras of the operator's, and what is published over WHIP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cameras: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Network cameras by name, as addresses (`rtsp://...`), opened while somebody looks at them.",
    )
    keep_s: float = Field(
        30.0,
        gt=0,
        description="How long a stream keeps its objects while its publisher is away, or nobody looks at its camera.",
    )
    max_watchers: int = Field(8, ge=0, description="Players that watch over WHEP at a time; each costs an encoder.")

    @field_validator("cameras")
    @classmethod
    def _check_names(cls, cameras: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, url in cameras.items():
            if not re.fullmatch(STREAM_NAME, name):
                raise ValueError(f"{name!r} is no name for a stream: letters, digits, '.', '_' and '-'")
            if not is_stream_url(url.get_secret_value()):
                raise ValueError(f"the camera {name!r} has no address like rtsp://host/path")
            try:
                StreamUrl.parse(url.get_secret_value())
            except AddressRefusedError as error:
                raise ValueError(f"the camera {name!r}: {error.message}") from None
        return cameras


class Settings(BaseSettings):
    """All settings of the service."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on; other than loopback needs a token.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    token: SecretStr | None = Field(None, description="What clients must present. Set it as STREAMSEG_TOKEN.")
    insecure: bool = Field(False, description="Listen beyond loopback without a token.")
    allowed_origins: list[str] = Field(
        default_factory=list, description="Origins of other web pages that may use the service, as `https://host`."
    )
    allowed_hosts: list[str] = Field(
        default_factory=list, description="Further names under which this server may be addressed."
    )
    data_dir: Path | None = Field(
        None, description="Where uploaded videos and their results are kept; default: a temporary folder."
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="How much is logged.")
    tls: TlsSettings = Field(default_factory=TlsSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    limits: Limits = Field(default_factory=Limits)
    refine: RefineOptions = Field(default_factory=RefineOptions)
    track: TrackOptions = Field(default_factory=TrackOptions)
    webrtc: WebrtcSettings = Field(default_factory=WebrtcSettings)
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    streams: StreamsSettings = Field(default_factory=StreamsSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # No .env: a file in whichever folder the service is started in must not change who may use it.
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load_settings(config: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from all their sources.

    ``config``: a YAML file (default: the one named by STREAMSEG_CONFIG, if any). ``flags``: nested values given on the
    command line. Raises BadSettingError with one line that names the setting.
    """
    if config is None and (named := os.environ.get("STREAMSEG_CONFIG")):
        config = Path(named)
    if config is not None and not config.is_file():
        raise BadSettingError(f"the settings file {config} does not exist")

    _check_environment()

    class FromFile(Settings):
        model_config = SettingsConfigDict(yaml_file=config)

    try:
        return FromFile(**(flags or {}))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise BadSettingError(f"setting {name}: {first['msg']}") from None
    except SettingsError as error:
        raise BadSettingError(_why_not_read(error)) from None
    except OSError as error:
        raise BadSettingError(f"the settings file {config} cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise BadSettingError(f"the settings file {config} is not valid YAML: {reason}") from None


def _check_environment() -> None:
    """Raise BadSettingError for a variable that is meant as a setting and is none: it would be passed over in silence.

    Others are let be: a container's platform may make some of its own, such as ``STREAMSEG_SERVICE_HOST``.
    """
    known = set(Settings.model_fields) | {"config"}
    for variable in os.environ:
        name = variable.lower().removeprefix(ENV_PREFIX.lower())
        if name == variable.lower():
            continue
        group, nested, _ = name.partition("__")
        alike = difflib.get_close_matches(group, known, n=1, cutoff=0.8)
        if group in known or not (nested or alike):
            continue
        hint = f"; do you mean {ENV_PREFIX}{alike[0].upper()}{nested}{'...' if nested else ''}?" if alike else ""
        raise BadSettingError(f"the environment variable {variable} names no setting{hint}")


def _why_not_read(error: SettingsError) -> str:
    named = re.search(r'field "(\w+)" from source "EnvSettingsSource"', str(error))
    if named is None:
        return str(error)
    variable = f"{ENV_PREFIX}{named[1].upper()}"
    return (
        f"setting {named[1]}: what the environment says in {variable} (or {variable}__...) cannot be read;"
        """ lists and objects are JSON there, like '["a", "b"]' and '{"name": "value"}'"""
    )
