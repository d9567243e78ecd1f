from pathlib import Path

import pytest

from workers.settings import Settings, SettingsError, load_settings, without_password


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """The suite itself may run against configured servers."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"AFTERCALL_{name.upper()}", raising=False)


def load(monkeypatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_nothing_is_needed(monkeypatch):
    settings = load(monkeypatch, XDG_DATA_HOME="/somewhere")
    assert settings.database_url is None
    assert settings.broker_url is None
    assert settings.data_dir == Path("/somewhere/aftercall")
    assert Path(settings.asr_model).parent == Path(settings.dllm_model).parent


def test_variables_are_read_and_converted(monkeypatch):
    settings = load(
        monkeypatch,
        AFTERCALL_COMMIT_THRESHOLD="0.8",
        AFTERCALL_BROKER_URL="amqp://guest@localhost//",
    )
    assert settings.commit_threshold == 0.8
    assert settings.broker_url == "amqp://guest@localhost//"


def test_an_unknown_setting_is_named_with_the_known_ones(monkeypatch):
    with pytest.raises(
        SettingsError, match=r"unknown setting AFTERCALL_DATABSE_URL.*AFTERCALL_DATABASE_URL"
    ):
        load(monkeypatch, AFTERCALL_DATABSE_URL="postgresql://x/y")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AFTERCALL_DATABASE_URL", "mysql://localhost/calls"),
        ("AFTERCALL_BROKER_URL", "kafka://localhost"),
        ("AFTERCALL_COMMIT_THRESHOLD", "high"),
        ("AFTERCALL_COMMIT_THRESHOLD", "1.5"),
        ("AFTERCALL_AGENT_CHANNEL", "2"),
        ("AFTERCALL_MAX_CALL_MINUTES", "0"),
    ],
)
def test_a_malformed_setting_is_named_with_its_value(monkeypatch, name, value):
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, **{name: value})
    assert name in str(caught.value)
    assert value in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ann:secret@host/calls",
        "mysql://ann:sec/ret@ret:secret@host/calls",
        "mysql://:secret@host",
        "mysql://ann:/secret@host",
        "'postgresql://ann:secret@host/calls'",
        "://ann:secret@host/calls",
        "postgresql//ann:secret@host/calls",
        "postgresql:/ann:secret@host/calls",
        "postgresql:ann:secret@host/calls",
        "ann:secret@host/calls",
        "host=db user=ann password=secret",
        r"host=db password = 'secret \' secret' user=ann",
        "mysql://host/calls?user=ann&password=secret",
    ],
)
def test_a_malformed_url_is_told_without_its_password(monkeypatch, url):
    for name in ("AFTERCALL_DATABASE_URL", "AFTERCALL_BROKER_URL"):
        with pytest.raises(SettingsError) as caught:
            load(monkeypatch, **{name: url})
        assert "***" in str(caught.value)
        for error in (caught.value, caught.value.__cause__):
            assert "sec" not in str(error)
            assert "ret" not in str(error)
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://host:5432/calls",
        "postgresql://ann@host:5432/calls",
        "postgresql:///calls?host=/run/postgresql",
        "redis://host:6379/0",
        "/srv/calls",
        "0.9",
    ],
)
def test_what_holds_no_password_is_told_as_it_is(value):
    assert without_password(value) == value


def test_all_malformed_settings_are_reported_at_once(monkeypatch):
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, AFTERCALL_LEASE_SECONDS="soon", AFTERCALL_MAX_ATTEMPTS="0")
    assert "AFTERCALL_LEASE_SECONDS" in str(caught.value)
    assert "AFTERCALL_MAX_ATTEMPTS" in str(caught.value)
