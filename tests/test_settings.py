"""Settings: which source wins, and that mistakes are named in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from streamseg.errors import BadMessageError, BadSettingError
from streamseg.media.network import NetworkOptions
from streamseg.settings import Limits, NetworkSettings, Settings, StreamsSettings, WebrtcSettings, load_settings

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("STREAMSEG_")]:
        monkeypatch.delenv(name)


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, "port: 1001\nhost: 127.0.0.2\nlimits: {max_sessions: 3, max_objects: 5, max_points: 7}\n")
    monkeypatch.setenv("STREAMSEG_PORT", "1002")
    monkeypatch.setenv("STREAMSEG_LIMITS__MAX_SESSIONS", "4")
    settings = load_settings(config, {"port": 1003, "limits": {"max_objects": 6}})
    assert settings.port == 1003
    assert settings.host == "127.0.0.2"
    assert settings.limits.max_sessions == 4
    assert settings.limits.max_objects == 6
    assert settings.limits.max_points == 7
    assert settings.limits.queue_length == Limits().queue_length


def test_the_file_can_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMSEG_CONFIG", str(write(tmp_path, "model: {name: nano}\nrefine: {min_area_px: 9}\n")))
    settings = load_settings()
    assert settings.model.name == "nano"
    assert settings.refine.min_area_px == 9


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("STREAMSEG_LIMIT__MAX_OBJECTS", "STREAMSEG_LIMITS__..."),
        ("STREAMSEG_TOKN", "STREAMSEG_TOKEN"),
        ("streamseg_inseure", "STREAMSEG_INSECURE"),
        ("STREAMSEG_FOO__BAR", ""),
    ],
)
def test_a_misspelt_variable_of_the_environment_is_named(
    variable: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "3")
    with pytest.raises(BadSettingError, match=f"environment variable {variable} names no setting") as caught:
        load_settings()
    assert meant in caught.value.message


def test_variables_that_others_make_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMSEG_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("STREAMSEG_PORT_8000_TCP_ADDR", "10.0.0.1")
    assert load_settings().host == "127.0.0.1"


def test_the_token_comes_from_the_environment_and_does_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMSEG_TOKEN", "a secret")
    settings = load_settings()
    assert settings.token is not None
    assert settings.token.get_secret_value() == "a secret"
    assert "a secret" not in repr(settings)


def test_a_dotenv_file_of_the_working_folder_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("STREAMSEG_INSECURE=true\n")
    monkeypatch.chdir(tmp_path)
    assert not load_settings().insecure


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("port: 70000", "port"),
        ("prot: 80", "prot"),
        ("limits: {max_objects: 0}", "limits.max_objects"),
        ("limits: {max_objetcs: 3}", "limits.max_objetcs"),
        ("refine: {min_area_px: -1}", "min_area_px"),
        ("log_level: loud", "log_level"),
        ("network: {allow: ['*.example.org']}", "network.allow.*no host name"),
        ("network: {read_timeout_s: 0}", "network.read_timeout_s"),
        ("a: [", "not valid YAML"),
        ("- 1\n- 2\n", "not valid YAML"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, text: str, names: str) -> None:
    with pytest.raises(BadSettingError, match=names) as refused:
        load_settings(write(tmp_path, text))
    assert "\n" not in refused.value.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = write(tmp_path, "port: 80")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadSettingError, match=r"settings\.yaml cannot be read: Permission denied"):
        load_settings(file)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(BadSettingError, match="does not exist"):
        load_settings(Path("nowhere.yaml"))


def test_the_default_file_holds_the_defaults() -> None:
    """configs/default.yaml documents what is built in; the two must not drift apart."""
    assert load_settings(ROOT / "configs" / "default.yaml").model_dump() == Settings().model_dump()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_file_is_valid(path: Path) -> None:
    load_settings(path)


def test_a_client_lowers_limits_and_never_raises_them() -> None:
    limits = Limits(max_objects=10, max_points=10)
    lowered = limits.lowered({"max_objects": 3, "max_points": 99})
    assert (lowered.max_objects, lowered.max_points) == (3, 10)
    with pytest.raises(BadMessageError, match="max_sessions"):
        limits.lowered({"max_sessions": 1})


def test_the_docs_table_lists_every_limit() -> None:
    """The one table of limits: each with its default and its consequence."""
    table = (ROOT / "docs" / "limits.md").read_text()
    for name, field in Limits.model_fields.items():
        assert f"| `{name}` | {field.default:,} | {field.description} |" in table


@pytest.mark.parametrize(
    ("page", "settings"),
    [("network.md", NetworkSettings), ("streams.md", StreamsSettings), ("webrtc.md", WebrtcSettings)],
)
def test_the_docs_tables_list_every_setting(page: str, settings: type[BaseModel]) -> None:
    table = (ROOT / "docs" / page).read_text("utf-8")
    defaults = json.loads(settings().model_dump_json())
    for name, field in settings.model_fields.items():
        assert f"| `{name}` | `{json.dumps(defaults[name])}` | {field.description} |" in table


def test_the_rule_and_the_options_of_network_streams() -> None:
    settings = load_settings(None, {"network": {"allow": ["127.0.0.0/8"], "read_timeout_s": 3, "connect_timeout_s": 4}})
    settings.network.rule().check("rtsp://127.0.0.1/live")
    options = settings.network.options(max_pixels=1000)
    assert (options.read_timeout_s, options.connect_timeout_s, options.max_pixels) == (3.0, 4.0, 1000)
    assert not settings.network.enabled
    # What is built in for the service is what is built in for programs.
    assert Settings().network.options(NetworkOptions().max_pixels) == NetworkOptions()


def test_a_list_of_the_environment_that_is_no_json_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMSEG_NETWORK__ALLOW", "192.168.1.7")
    with pytest.raises(BadSettingError, match=r"setting network: .*STREAMSEG_NETWORK.*JSON"):
        load_settings()


def test_a_camera_that_no_one_could_open_is_refused_at_the_start() -> None:
    with pytest.raises(BadSettingError, match=r"the camera 'yard': ftp:// is not opened") as raised:
        load_settings(None, {"streams": {"cameras": {"yard": "ftp://user:hidden@host/x"}}})
    assert "hidden" not in str(raised.value)
