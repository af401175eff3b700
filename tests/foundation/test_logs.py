"""Logs are one JSON object a line, bounded, and never hold a key."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from sublet.accounts.model import new_secret
from sublet.config import logs


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield tmp_path
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "logs" / "test.log").read_text().splitlines()]


def test_a_line_is_json_with_its_level_its_logger_and_its_time_in_utc(folder: Path) -> None:
    logs.configure("test", folder)
    structlog.get_logger("sublet.test").info("lease_started", lease_id="lse_1", name="Zürich")
    (line,) = _lines(folder)
    assert (line["event"], line["level"], line["logger"]) == ("lease_started", "info", "sublet.test")
    assert (line["lease_id"], line["name"]) == ("lse_1", "Zürich")
    assert line["timestamp"].endswith("Z")


def test_what_other_libraries_log_stands_in_the_same_file(folder: Path) -> None:
    logs.configure("test", folder)
    logging.getLogger("uvicorn.error").warning("port %d is %s", 8080, "slow")
    assert _lines(folder)[0]["event"] == "port 8080 is slow"


@pytest.mark.parametrize("name", ["httpx", "httpx2", "httpcore2.http11", "asyncio", "alembic", "anybody.else"])
def test_what_other_libraries_do_is_not_told_step_by_step(folder: Path, name: str) -> None:
    logs.configure("test", folder, "debug")
    logging.getLogger(name).info("HTTP Request: POST http://127.0.0.1/ 200 OK")
    logging.getLogger("uvicorn.error").info("Started server process")
    assert [line["event"] for line in _lines(folder)] == ["Started server process"]


def test_a_level_below_the_least_is_not_written(folder: Path) -> None:
    logs.configure("test", folder, "warning")
    structlog.get_logger("sublet.test").info("quiet")
    logging.getLogger("other").info("quiet")
    structlog.get_logger("sublet.test").warning("loud")
    assert [line["event"] for line in _lines(folder)] == ["loud"]


def test_a_person_sees_warnings_on_one_line_with_the_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("test", folder)
    log = structlog.get_logger("sublet.test")
    log.info("not for people")
    log.warning("process_died", reason="no\nmemory")
    try:
        raise ValueError("pool is\nempty")
    except ValueError:
        log.exception("plan_failed")
    assert capsys.readouterr().err.splitlines() == [
        "sublet: warning: process_died: no memory",
        "sublet: error: plan_failed: pool is empty",
    ]


def _in_event(log: Any, secret: str) -> None:
    log.warning(f"key {secret} used")


def _in_field(log: Any, secret: str) -> None:
    log.warning("used", header=f"Bearer {secret}")


def _nested(log: Any, secret: str) -> None:
    log.warning("used", request={"headers": [["authorization", f"Bearer {secret}"]], "key": secret})


def _as_bytes(log: Any, secret: str) -> None:
    log.warning("used", header=secret.encode())


def _in_exception(log: Any, secret: str) -> None:
    try:
        raise RuntimeError(f"no account for {secret}")
    except RuntimeError:
        log.exception("failed")


def _in_cause_of_an_exception_that_is_passed_on(log: Any, secret: str) -> None:
    try:
        try:
            raise KeyError(secret)
        except KeyError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        log.error("failed", exc_info=error)


def _in_context(log: Any, secret: str) -> None:
    with structlog.contextvars.bound_contextvars(authorization=secret):
        log.warning("used")


def _in_another_librarys_arguments(log: Any, secret: str) -> None:
    logging.getLogger("uvicorn.error").error("headers: %r", {"authorization": secret})


def _in_another_librarys_exception(log: Any, secret: str) -> None:
    try:
        raise OSError(f"cannot send {secret}")
    except OSError:
        logging.getLogger("uvicorn.error").exception("failed")


@pytest.mark.parametrize(
    "say",
    [
        _in_event,
        _in_field,
        _nested,
        _as_bytes,
        _in_exception,
        _in_cause_of_an_exception_that_is_passed_on,
        _in_context,
        _in_another_librarys_arguments,
        _in_another_librarys_exception,
    ],
)
def test_a_key_is_masked_wherever_it_stands(folder: Path, capsys: pytest.CaptureFixture[str], say: Any) -> None:
    logs.configure("test", folder)
    secret = new_secret()
    say(structlog.get_logger("sublet.test"), secret)
    written = (folder / "logs" / "test.log").read_text()
    shown = capsys.readouterr().err
    assert "sublet_…" in written
    assert shown.startswith("sublet: ")
    for place in (written, shown):
        assert secret not in place
        assert secret[-20:] not in place


def test_an_event_of_another_library_that_ends_with_a_line_break_stays_on_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("test", folder)
    try:
        raise OverflowError("date value out of range")
    except OverflowError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
    assert capsys.readouterr().err == "sublet: error: Exception in ASGI application: date value out of range\n"


def test_files_turn_over_and_old_ones_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES_MAX", 10_000)
    logs.configure("test", folder)
    log = structlog.get_logger("sublet.test")
    for number in range(1000):
        log.info("filler", number=number, text="x" * 200)
    files = sorted((folder / "logs").iterdir())
    assert len(files) == logs.FILES_MAX + 1
    assert sum(path.stat().st_size for path in files) <= 10_000 * (logs.FILES_MAX + 1)
    assert _lines(folder)[-1]["number"] == 999


def test_the_folder_is_its_owners_alone(folder: Path) -> None:
    logs.configure("test", folder)
    assert (folder / "logs").stat().st_mode & 0o077 == 0


def test_what_a_customer_wrote_is_shown_and_never_obeyed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b]0;owned\x07\u202egnp.exe\x9b31m\r\nforged: line"
    logs.configure("test", folder)
    structlog.get_logger("sublet.test").warning("refused", reason=hostile)
    logging.getLogger("other").warning(hostile)
    assert _lines(folder)[0]["reason"] == hostile, "the record keeps what was sent"
    raw = (folder / "logs" / "test.log").read_text()
    assert not [sign for sign in raw if not sign.isprintable() and sign != "\n"]
    assert raw.count("\n") == 2
    shown = capsys.readouterr().err
    assert not [sign for sign in shown if not sign.isprintable() and sign != "\n"]
    assert shown.count("\n") == 2
