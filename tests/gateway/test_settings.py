"""What an operator sets for the gateway, and for single models of it, holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, add_model, add_replica, ask, post, until

from sublet.config.gateway import Gateway, GatewayModelSettings
from sublet.config.settings import SettingsError, load
from sublet.gateway.model import GatewaySettings


def test_every_setting_of_the_gateway_has_its_field_and_default() -> None:
    known = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(GatewaySettings)
    }
    for name, value in Gateway():
        if name not in ("models", "public_url"):
            assert known[name] == value, name
    for name in GatewayModelSettings.model_fields:
        assert name == "name" or name in known


def test_a_model_is_set_apart_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sublet.toml"
    file.write_text('[gateway]\nqueue_s_max = 20\n[[gateway.models]]\nname = "big"\nqueue_s_max = 90\n')
    settings = load(file).gateway
    overrides = {model.name: model.overrides() for model in settings.models}
    assert overrides == {"big": {"queue_s_max": 90.0}}
    held = GatewaySettings(tmp_path, queue_s_max=settings.queue_s_max, overrides=overrides)
    assert (held.of_model("big").queue_s_max, held.of_model("other").queue_s_max) == (90.0, 20.0)
    file.write_text('[[gateway.models]]\nname = "big"\n[[gateway.models]]\nname = "big"\n')
    with pytest.raises(SettingsError, match="there are two entries named 'big'"):
        load(file)


def test_the_size_of_a_body_is_set_for_each_model(make_gateway: Callable[..., Running], engine: ScriptedEngine) -> None:
    gateway = make_gateway(body_bytes_max=2_000, overrides={"large": {"body_bytes_max": 200_000}})
    add_model(gateway.store, "large", engine="openai_url")
    text = [{"role": "user", "content": "x" * 50_000}]
    refused = gateway.post(ask(messages=text))
    assert (refused.status, refused.json["error"]["code"]) == (413, "body_too_large")
    assert "2000 bytes" in refused.json["error"]["message"]
    add_replica(gateway.store, "large", engine.url, 1)
    assert until(lambda: gateway.post({**ask(messages=text), "model": "large"}).status == 200)
    assert gateway.post({**ask(messages=[{"role": "user", "content": "x" * 300_000}]), "model": "large"}).status == 413


def test_the_wait_in_the_queue_is_set_for_each_model(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    async def never(answering: Answering) -> None:
        await answering.gone()

    gateway = make_gateway(slots=1, queue_s_max=300.0, overrides={MODEL: {"queue_s_max": 0.1}})
    engine.script = never
    busy, waiting = gateway.wire(), gateway.wire()
    busy.send(post(ask(), gateway.key))
    until(lambda: engine.asked)
    waiting.send(post(ask(), gateway.key))
    assert waiting.answer().json["error"]["code"] == "queue_timeout"
    busy.close()
    waiting.close()
