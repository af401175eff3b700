"""Settings come from a file, then from the environment, and every mistake in them is one sentence that finds it."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from sublet.config import settings as module
from sublet.config.described import describe, setting_names
from sublet.config.settings import Settings, SettingsError, is_loopback, load
from sublet.values.errors import InvalidInputError


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, with no variable of Sublet's set."""
    for name in list(os.environ):
        if name.upper().startswith("SUBLET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def file(text: str) -> Path:
    path = Path("sublet.toml")
    path.write_text(text, encoding="utf-8")
    return path


def complaint() -> str:
    with pytest.raises(SettingsError) as caught:
        load()
    assert "\n" not in caught.value.message
    return caught.value.message


def test_without_anything_the_defaults_hold_on_loopback() -> None:
    settings = load()
    assert settings.data_dir == Path.home() / ".local/share/sublet"
    assert settings.database_url == f"sqlite:///{settings.data_dir}/sublet.db"
    assert all(is_loopback(section.host) for section in (settings.control, settings.gateway, settings.ssh))


def test_the_environment_wins_over_the_file_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    file('data_dir = "/srv/sublet"\n[control]\nport = 1111\ntick_s = 2.5\n[gateway]\nport = 2222\n')
    monkeypatch.setenv("SUBLET_CONTROL__PORT", "3333")
    settings = load()
    assert (settings.control.port, settings.control.tick_s, settings.gateway.port) == (3333, 2.5, 2222)
    assert settings.data_dir == Path("/srv/sublet")


def test_the_file_is_the_one_given_then_the_one_named_then_the_one_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file("[control]\nport = 1\n")
    (tmp_path / "named.toml").write_text("[control]\nport = 2\n")
    (tmp_path / "given.toml").write_text("[control]\nport = 3\n")
    assert load().control.port == 1
    monkeypatch.setenv("SUBLET_CONFIG", "named.toml")
    assert load().control.port == 2
    assert load(tmp_path / "given.toml").control.port == 3


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBLET_CONFIG", "missing.toml")
    assert complaint() == "missing.toml: the settings file does not exist; create it, or unset SUBLET_CONFIG"


def test_pools_are_read_from_the_file_and_money_is_exact() -> None:
    file('[[pools]]\nname = "h100"\naccelerators = 8\nprice_per_accelerator_hour = "2.35"\nwatts = 700\n')
    (pool,) = load().pools
    assert (pool.name, pool.accelerators, pool.watts) == ("h100", 8, Decimal(700))
    assert pool.price_per_accelerator_hour == Decimal("2.35")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[control]\nprot = 1\n", "sublet.toml: there is no setting control.prot; did you mean control.port?"),
        ("[contrl]\nport = 1\n", "sublet.toml: there is no setting contrl"),
        ('[control]\nport = "many"\n', "sublet.toml: control.port: input should be a valid integer"),
        ("[control]\nport = 70000\n", "sublet.toml: control.port: input should be less than or equal to 65535"),
        ("[control]\ntick_s = 0\n", "sublet.toml: control.tick_s: input should be greater than or equal to 0.05"),
        ('[log]\nlevel = "loud"\n', "sublet.toml: log.level: input should be 'debug', 'info', 'warning' or 'error'"),
        ("[ssh]\nport_min = 9\nport_max = 8\n", "sublet.toml: ssh: port_min must not exceed port_max"),
        ("control = 5\n", "sublet.toml: control: input should be a valid dictionary"),
        ("[[pools]]\nsite = 'x'\n", "sublet.toml: pools.0.name: field required"),
        ("[[pools]]\nname = 'x'\nnme = 'y'\n", "there is no setting pools.0.nme; did you mean pools.name?"),
        ("[[pools]]\nname = 'x'\ncurrency = 'QQQ'\n", "sublet.toml: pools.0.currency: currency 'QQQ' is not known"),
        (
            "[[pools]]\nname = 'x'\n" * 2,
            "sublet.toml: pools: there are two pools named 'x'; give each pool a unique name",
        ),
        (
            "[[pools]]\nname = 'x'\n[pools.prometheus]\nurl = 'http://p:9090'\nin_use = 'a'\ncapacity = '-5'\n",
            "sublet.toml: pools.0.prometheus.capacity: capacity is -5; use a number above 0 or a PromQL query",
        ),
        (
            "[[pools]]\nname = 'x'\n[[pools.maintenance]]\n"
            "start = '0001-01-01T00:00:00+05:00'\nend = '2026-12-31T23:59:59-05:00'\n",
            "pools.0.maintenance.0.start: time 0001-01-01T00:00:00+05:00 is outside the years 1970 to 8999",
        ),
        (
            "[[pools]]\nname = 'x'\n[[pools.maintenance]]\nstart = 2026-12-01T08:00:00Z\nend = 9999-12-31T23:59:59Z\n",
            "pools.0.maintenance.0.end: time 9999-12-31T23:59:59Z is outside the years 1970 to 8999",
        ),
        (
            "[[pools]]\nname = 'x'\nprice_per_accelerator_hour = '0.0000000001'\n",
            "sublet.toml: pools.0.price_per_accelerator_hour: 1E-10 has more than nine decimals",
        ),
        ("[control]\nport = \n", "sublet.toml: invalid value (at line 2, column 8)"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_file_and_key(text: str, named: str) -> None:
    file(text)
    assert named in complaint()


def test_a_file_that_is_not_utf8_is_named() -> None:
    Path("sublet.toml").write_bytes(b'[models]\ndefault = "\xff\xfe"\n')
    assert complaint() == "sublet.toml: the file is not UTF-8 text; save it as UTF-8"


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("SUBLET_CONTROL__PORT", "many", "environment variable SUBLET_CONTROL__PORT: control.port: input should be"),
        ("sublet_control__port", "many", "environment variable sublet_control__port: control.port: input should be"),
        (
            "SUBLET_CONTROL__PROT",
            "1",
            "environment variable SUBLET_CONTROL__PROT: there is no setting control.prot; did you mean control.port?",
        ),
        (
            "SUBLET_CONTORL__PORT",
            "1",
            "environment variable SUBLET_CONTORL__PORT: there is no setting contorl; did you mean SUBLET_CONTROL?",
        ),
        ("SUBLET_XYZZY", "1", "environment variable SUBLET_XYZZY: there is no setting xyzzy; unset it"),
        ("SUBLET_POOLS", "h100", "environment variable SUBLET_POOLS: it is not JSON; write pools as JSON"),
        (
            "SUBLET_CONTROL",
            "8080",
            "environment variable SUBLET_CONTROL: ",
        ),
        ("SUBLET_POOLS", '[{"name": "x", "accelerators": -1}]', "SUBLET_POOLS: pools.0.accelerators: input should be"),
    ],
)
def test_a_mistake_in_the_environment_is_named_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert named in complaint()


def test_a_mistake_in_the_file_is_not_blamed_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    file('[control]\nport = "many"\n')
    monkeypatch.setenv("SUBLET_GATEWAY__PORT", "1")
    assert complaint().startswith("sublet.toml: control.port")


def test_variables_that_are_no_settings_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUBLET_URL", "SUBLET_KEY", "SUBLET_TRACES", "SUBLET_TEST_POSTGRES", "SUBLETTING"):
        monkeypatch.setenv(name, "x")
    load()


@pytest.mark.parametrize("section", ["control", "gateway", "ssh"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
def test_an_address_beyond_this_machine_needs_a_word(section: str, host: str) -> None:
    file(f'[{section}]\nhost = "{host}"\n')
    message = complaint()
    assert f"{section}.host {host} is not a loopback address" in message
    assert "set network.allow_non_loopback = true" in message
    file(f'[{section}]\nhost = "{host}"\n[network]\nallow_non_loopback = true\n')
    assert getattr(load(), section).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    file(f'[control]\nhost = "{host}"\n')
    assert load().control.host == host


@pytest.mark.parametrize(
    "text", ['[database]\nurl = ["postgresql://u:hunter2@h/d"]\n', 'database = "postgresql://u:hunter2@h/d"\n']
)
def test_a_password_in_a_wrong_database_url_is_not_shown(text: str) -> None:
    file(text)
    assert "hunter2" not in complaint()


def test_the_home_directory_is_meant_by_a_tilde() -> None:
    file('data_dir = "~/capacity"\n')
    assert load().data_dir == Path.home() / "capacity"
    file('data_dir = "~nobody-of-that-name/capacity"\n')
    assert "write an absolute path" in complaint()


def test_settings_do_not_change_once_read() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.control.port = 1


def test_every_setting_is_described_with_its_default() -> None:
    rows = describe(Settings)
    assert [name for name, _, _ in rows] == setting_names(Settings)
    assert len(set(setting_names(Settings))) == len(rows)
    assert all(meaning for _, _, meaning in rows)
    defaults = {name: default for name, default, _ in rows}
    assert defaults["control.port"] == "8080"
    assert defaults["network.allow_non_loopback"] == "false"
    assert defaults["prices"] == "(unset)"
    assert defaults["pools.name"] == "(required)"
    assert defaults["classes.notice.notice_s"] == "300"
    assert defaults["classes.spot.price_ratio"] == "0.4"


def test_a_file_that_states_every_default_changes_nothing() -> None:
    tables: dict[str, list[str]] = {"": []}
    for name, default, _ in describe(Settings):
        section, _, key = name.rpartition(".")
        if (
            not f"{section}.".startswith(
                ("pools.", "gateway.models.", "gateway.routes.", "gateway.reserved.", "backends.", "oidc.")
            )
            and default != "(unset)"
        ):
            tables.setdefault(section, []).append(f"{key} = {default}")
    file("\n".join(line for section, lines in tables.items() for line in ([f"[{section}]"] if section else []) + lines))
    assert load() == Settings().model_copy(update={"data_dir": load().data_dir})


def test_a_refused_setting_is_bad_input() -> None:
    assert issubclass(module.SettingsError, InvalidInputError)
    assert SettingsError.status == 400


BRONZE = '[classes.bronze]\ntake_back = "notice"\nnotice_s = 60\nstrictness = 150\nprice_ratio = 0.6\n'


def test_a_class_is_added_by_a_section_and_changed_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    file(BRONZE + "[classes.spot]\nsell = false\n")
    monkeypatch.setenv("SUBLET_CLASSES__NOTICE__NOTICE_S", "240")
    monkeypatch.setenv("SUBLET_CLASSES__BRONZE__FREE_S", "30")
    classes = load().service_classes
    assert list(classes) == ["firm", "notice", "deadline", "bronze", "spot"]
    assert [item.name for item in classes.on_sale] == ["firm", "notice", "deadline", "bronze"]
    assert (classes["bronze"].notice_s, classes["bronze"].price_ratio, classes["bronze"].free_s) == (
        60,
        Decimal("0.6"),
        30,
    )
    assert (classes["notice"].notice_s, classes["notice"].credit_ratio) == (240, Decimal("0.10"))
    assert classes["spot"].price_ratio == Decimal("0.4")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BRONZE.replace('"notice"', '"sometimes"'), "classes.bronze.take_back: input should be 'never', 'notice'"),
        (BRONZE.replace('"notice"', '"pause"').replace("notice_s = 60\n", ""), "set its notice_s"),
        (BRONZE.replace("notice_s = 60\n", ""), "set its notice_s"),
        (BRONZE.replace('"notice"', '"never"'), "class bronze is never taken back, so notice_s does not apply"),
        (BRONZE.replace('"notice"', '"at_once"'), 'set take_back = "notice"'),
        (BRONZE.replace("150", "200"), "notice and bronze have the same strictness, 200"),
        (BRONZE.replace("strictness = 150\n", ""), "classes.bronze.strictness: field required"),
        (BRONZE + "broken_per_1000_max = 5\n", "a stricter class may not break more"),
        (BRONZE + "notce_s = 5\n", "did you mean classes.bronze.notice_s?"),
        (BRONZE.replace("bronze", "Bronze"), "is not a valid class name"),
        ("[classes.firm]\nbroken_per_1000_max = 100\n", "a stricter class may not break more"),
        ("[classes]\nbronze = 3\n", "classes.bronze"),
        ('[models]\nservice_class = "firm"\n', "replicas need a class that is taken back with notice"),
        ('[models]\nservice_class = "tin"\n', "models.service_class is 'tin'"),
        ('[quotes]\nservice_class = "tin"\n', "quotes.service_class is 'tin'"),
    ],
)
def test_classes_that_do_not_fit_together_are_refused(text: str, said: str) -> None:
    file(text)
    assert said in complaint()
