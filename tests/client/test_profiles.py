"""Which Sublet a command talks to, and how keys are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.api.conftest import Service
from tests.api.conftest import service as service
from tests.terminal import URL, sit_at
from typer.testing import CliRunner, Result

from sublet import cli
from sublet.client.profiles import Profile, Profiles, target
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError, UnauthenticatedError

HOME, WORK = Profile("home", "http://home", "key-home"), Profile("work", "https://work", "key-work")


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profiles:
    for name in ("SUBLET_URL", "SUBLET_KEY", "SUBLET_PROFILE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Profiles()


def run(*words: str, given: str = "") -> Result:
    result = CliRunner().invoke(cli.mount(), list(words), input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_file_is_its_owners_alone(profiles: Profiles) -> None:
    profiles.save(HOME)
    assert profiles.path.stat().st_mode & 0o777 == 0o600
    assert profiles.path.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in profiles.path.parent.iterdir()] == ["profiles.json"]
    profiles.path.chmod(0o640)
    with pytest.raises(ConflictError, match="chmod 600"):
        profiles.all()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"current": "x"}', '{"current": "", "profiles": {"a": {"url": 1}}}'])
def test_a_file_that_is_not_ours_is_named(profiles: Profiles, text: str) -> None:
    profiles.save(HOME)
    profiles.path.write_text(text)
    with pytest.raises(ConflictError, match=r"profiles\.json is not a valid profile file"):
        target()


def test_the_last_login_is_used_and_another_can_be_named(profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="log in with `sublet login URL`"):
        target()
    profiles.save(HOME)
    profiles.save(WORK)
    assert (target().url, target().key, target().origin) == ("https://work", "key-work", "profile work")
    monkeypatch.setenv("SUBLET_PROFILE", "home")
    assert target().key == "key-home"
    monkeypatch.setenv("SUBLET_PROFILE", "nowhere")
    with pytest.raises(NotFoundError, match="no profile 'nowhere'"):
        target()


def test_the_environment_stands_before_profiles(profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles.save(HOME)
    monkeypatch.setenv("SUBLET_KEY", "mine")
    assert (target().url, target().key) == ("http://home", "mine")
    monkeypatch.setenv("SUBLET_URL", "http://other/")
    assert (target().url, target().key) == ("http://other", "mine")


def test_a_profiles_key_goes_to_its_own_address_alone(profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles.save(HOME)
    monkeypatch.setenv("SUBLET_URL", "http://evil")
    with pytest.raises(InvalidInputError, match="set SUBLET_KEY too"):
        target()
    monkeypatch.setenv("SUBLET_URL", "http://home/")
    assert target().key == "key-home"


def test_without_a_profile_a_key_is_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBLET_KEY", "mine")
    assert target().url == "http://127.0.0.1:8080"
    monkeypatch.setenv("SUBLET_KEY", "sublet_\u2026")
    with pytest.raises(InvalidInputError, match="copy the key exactly as it was shown"):
        target()
    monkeypatch.setenv("SUBLET_URL", "http://[::1")
    with pytest.raises(InvalidInputError, match=r"SUBLET_URL is 'http://\[::1', which is not a valid URL"):
        target()


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 41])
def test_what_can_name_no_profile_is_refused(profiles: Profiles, name: str) -> None:
    with pytest.raises(InvalidInputError, match="is not a valid profile name"):
        profiles.save(Profile(name, "http://x", "k"))
    assert not profiles.path.exists()


def test_logging_in_and_out(service: Service, profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> None:
    sit_at(monkeypatch, service.api, "")
    monkeypatch.delenv("SUBLET_URL")
    monkeypatch.delenv("SUBLET_KEY")
    key = service.keys["operator"]
    said = run("login", URL, given=key + "\n")
    assert "logged in to http://sublet.test as operator; now using profile default" in said.output
    assert "not HTTPS" in said.output
    again = run("--profile", "second", "login", URL, "--json", given=service.keys["acme"] + "\n")
    assert key not in said.output and service.keys["acme"] not in again.output
    listed = run("profile", "ls", "--json")
    assert json.loads(listed.stdout) == {
        "profiles": [
            {"name": "default", "url": URL, "current": False},
            {"name": "second", "url": URL, "current": True},
        ]
    }
    assert "sublet_" not in run("profile", "ls").stdout
    monkeypatch.delenv("SUBLET_PROFILE")
    run("profile", "use", "default")
    assert target().key == key
    assert json.loads(run("open", "--json").stdout) == {"url": f"{URL}/"}
    assert "now using second" in run("logout").stdout
    assert key not in profiles.path.read_text()
    run("logout")
    with pytest.raises(InvalidInputError, match="not logged in"):
        run("logout")


def test_a_key_that_opens_nothing_is_not_kept(
    service: Service, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sit_at(monkeypatch, service.api, "")
    with pytest.raises(UnauthenticatedError):
        run("login", URL, given="sublet_wrong\n")
    with pytest.raises(InvalidInputError, match="not a valid key"):
        run("login", URL, given="\n")
    assert not profiles.path.exists()
