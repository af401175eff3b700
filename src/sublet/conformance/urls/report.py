"""Asks a server everything, and says what its entry in the catalog should be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sublet.conformance.check import NonconformingError
from sublet.conformance.urls.probes import PROBES, Probe
from sublet.conformance.urls.target import (
    BROKEN,
    IGNORED,
    REFUSED,
    UNKNOWN,
    WORKS,
    FailedError,
    Finding,
    IgnoredError,
    RefusedError,
    Target,
    UnknownError,
)
from sublet.models.model import CAPABILITIES
from sublet.values.errors import InvalidInputError, UnavailableError

NEEDS_ONE_OF = ("chat", "completions", "embeddings")
MODELS_SHOWN = 20
_VERDICTS: tuple[tuple[type[Exception], str], ...] = (
    (RefusedError, REFUSED),
    (IgnoredError, IGNORED),
    (UnknownError, UNKNOWN),
    (NonconformingError, BROKEN),
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of a server: each ability, and what its entry in the catalog can say."""

    url: str
    model: str
    dialect: str
    context_tokens: int | None
    findings: tuple[Finding, ...]

    @property
    def capabilities(self) -> list[str]:
        """What works, by its name in the catalog."""
        names = {probe.name: probe.capability for probe in PROBES}
        found = {names[item.name] for item in self.findings if item.verdict == WORKS and names[item.name]}
        return [name for name in CAPABILITIES if name in found]

    @property
    def usable(self) -> bool:
        """Whether it serves anything at all."""
        return any(item.name in NEEDS_ONE_OF and item.verdict == WORKS for item in self.findings)

    @property
    def failing(self) -> list[Finding]:
        """What breaks a claim."""
        return [item for item in self.findings if item.fails]

    @property
    def passed(self) -> bool:
        return self.usable and not self.failing

    def entry(self, key_variable: str = "") -> str:
        """The table of the catalog for this server, as TOML."""
        source = {"url": self.url, "model": self.model}
        source |= {"key_variable": key_variable} if key_variable else {}
        source |= {"dialect": self.dialect} if self.dialect != "openai" else {}
        lines = ["[[models]]", f"name = {_toml(catalog_name(self.model))}", 'engine = "openai_url"']
        lines.append("source = { " + ", ".join(f"{name} = {_toml(value)}" for name, value in source.items()) + " }")
        if self.context_tokens:
            lines.append(f"context_tokens = {self.context_tokens}")
        lines.append(f"capabilities = [{', '.join(_toml(name) for name in self.capabilities)}]")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "model": self.model,
            "dialect": self.dialect,
            "context_tokens": self.context_tokens,
            "capabilities": self.capabilities,
            "passed": self.passed,
            "findings": [item.as_dict() for item in self.findings],
        }


def endpoint_of(url: str) -> str:
    """The endpoint of a URL as people write it, with or without /v1. Raises InvalidInputError."""
    if not url.startswith(("http://", "https://", "unix:///")):
        raise InvalidInputError(f"{url!r} is not a URL; write it like http://127.0.0.1:8000/v1")
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        _ = parts.port
    except ValueError as error:
        raise InvalidInputError(f"{url!r} has no host or port that can be asked ({error})") from error
    return url.rstrip("/").removesuffix("/v1")


def catalog_name(model: str) -> str:
    """A name that the catalog takes, from the server's own."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._:/-") else "-" for letter in model)
    return kept.lower().strip("._:/-")[:80] or "model"


def discovered(target: Target) -> str:
    """Learns the model, its context and the dialect (returned). Raises InvalidInputError, UnavailableError."""
    try:
        status, document = target.get("/v1/models")
    except NonconformingError as error:
        raise UnavailableError(f"the server does not answer: {error}; check the URL, and that it runs") from error
    listed = document.get("data") if status == 200 and isinstance(document, dict) else None
    listed = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    models = {item["id"]: item for item in listed if isinstance(item.get("id"), str)}
    if status in (401, 403):
        raise InvalidInputError(
            f"the server refuses the key ({status}); name the variable that has it by --key-variable"
        )
    if not target.model:
        if not models:
            raise InvalidInputError("the server lists no models; name the one to ask for by --model")
        target.model = next(iter(models))
    elif models and target.model not in models:
        names = ", ".join(list(models)[:MODELS_SHOWN])
        raise InvalidInputError(f"the server has no model {target.model!r}; it has {names}")
    context = models.get(target.model, {}).get("max_model_len")
    dialect = "openai"
    version, props = _document(target, "/version"), _document(target, "/props")
    if "version" in version:
        dialect = "vllm"
    elif "default_generation_settings" in props:
        dialect = "llamacpp"
        context = context or _object(props["default_generation_settings"]).get("n_ctx")
    elif _document(target, "/get_model_info"):
        dialect = "sglang"
    if isinstance(context, int) and not isinstance(context, bool) and context > 0:
        target.facts["context_tokens"] = context
    return dialect


def checked(
    target: Target, url: str, claims: Iterable[str] = (), told: Callable[[Finding], None] = lambda finding: None
) -> Report:
    """Ask the server everything. `claims` are capabilities that must work; `told` hears of each finding as it is made. Raises
    InvalidInputError, UnavailableError where there is nothing to ask."""
    claimed = frozenset(claims)
    unknown = claimed - {probe.capability for probe in PROBES}
    if unknown:
        known = ", ".join(name for name in CAPABILITIES if any(probe.capability == name for probe in PROBES))
        raise InvalidInputError(f"{sorted(unknown)[0]!r} is no capability that can be tried; choose from {known}")
    dialect = discovered(target)
    findings: list[Finding] = []
    for probe in PROBES:
        finding = _finding(probe, target, claimed, {item.name: item for item in findings})
        if finding is not None:
            findings.append(finding)
            told(finding)
    return Report(url, target.model, dialect, target.facts.get("context_tokens"), tuple(findings))


def _finding(probe: Probe, target: Target, claimed: frozenset[str], before: Mapping[str, Finding]) -> Finding | None:
    """None where it can't be tried, because what it needs does not work."""
    is_claimed = probe.capability in claimed
    if probe.needs and before[probe.needs].verdict != WORKS:
        if not is_claimed:
            return None
        return Finding(probe.name, REFUSED, f"needs {probe.needs}, which does not work", probe.core, is_claimed)
    try:
        verdict, said = WORKS, probe.run(target)
    except tuple(kind for kind, _ in _VERDICTS) as error:
        verdict = next(name for kind, name in _VERDICTS if isinstance(error, kind))
        said = str(error)
        if isinstance(error, FailedError) and probe.capability and not is_claimed:
            # Clumsy, but no lie: what is not in the catalog is never asked of it.
            verdict = REFUSED
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        verdict, said = BROKEN, f"the answer has another shape than OpenAI's ({type(error).__name__})"
    return Finding(probe.name, verdict, said, probe.core, is_claimed)


def counts(findings: Sequence[Finding]) -> str:
    """How many there are of each verdict, in words."""
    verdicts = [item.verdict for item in findings]
    return ", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(sorted(verdicts)))


def _document(target: Target, path: str) -> dict[str, Any]:
    try:
        status, document = target.get(path)
    except NonconformingError:
        return {}
    return _object(document) if status == 200 else {}


def _object(document: Any) -> dict[str, Any]:
    return document if isinstance(document, dict) else {}


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
