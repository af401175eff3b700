"""Secrets that must be used again, and so can't be hashed: sealed with a key that is not in the database (AES-256-GCM)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from sublet.values.errors import InvalidInputError, UnavailableError

KEY_BYTES = 32
KEY_FILE = "secrets.key"
PLAIN = "plain:"
_NONCE_BYTES = 12


class SealingKeyError(UnavailableError):
    """A stored secret was sealed with a key that this process does not have; set secrets.key, or put data_dir/secrets.key back."""

    code = "sealing_key"


class Sealing:
    """Seals with the first key and opens with any of them. What is sealed names its key, and is bound to what it belongs to."""

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = {_name(key): key for key in keys}
        self._first = keys[0]

    def seal(self, secret: str, owner: str) -> str:
        """`owner` is the id of what it belongs to; only with the same one it is opened again."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._first).encrypt(nonce, secret.encode(), owner.encode())
        return f"v1:{_name(self._first)}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, owner: str) -> str:
        """Raises SealingKeyError where the key is not there or the text is not what was sealed for `owner`. What a migration
        left unsealed is read as it is."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if sealed.startswith(PLAIN):
            return sealed.removeprefix(PLAIN)
        version, _, rest = sealed.partition(":")
        name, _, text = rest.partition(":")
        key = self._keys.get(name)
        if version != "v1" or key is None:
            raise SealingKeyError()
        try:
            raw = base64.b64decode(text, validate=True)
            return AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], owner.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise SealingKeyError("a stored secret can't be decrypted; set it again") from error

    def derived(self, purpose: str) -> list[bytes]:
        """Keys for another purpose, one from each sealing key, the present one first."""
        return [hmac.new(key, f"sublet {purpose}".encode(), hashlib.sha256).digest() for key in self._keys.values()]

    def is_current(self, sealed: str) -> bool:
        """Whether it is sealed with the first key."""
        return sealed.startswith(f"v1:{_name(self._first)}:")


def sealing_of(data_dir: Path, key: str = "", previous_key: str = "") -> Sealing:
    """With the keys that the settings state, else with those of the file in `data_dir`, which is made where there is none.

    Raises InvalidInputError for something that is no key, and OSError.
    """
    if key:
        keys = [_decoded(key, "secrets.key")]
        return Sealing([*keys, _decoded(previous_key, "secrets.previous_key")] if previous_key else keys)
    path = data_dir / KEY_FILE
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        _create(path, [secrets.token_bytes(KEY_BYTES)])
    return Sealing([_decoded(line, str(path)) for line in path.read_text().split()])


def add_key(data_dir: Path) -> None:
    """Put a new key in front of those in the file. Raises OSError."""
    path = data_dir / KEY_FILE
    before = [_decoded(line, str(path)) for line in path.read_text().split()] if path.exists() else []
    _replace(path, [secrets.token_bytes(KEY_BYTES), *before])


def drop_old_keys(data_dir: Path) -> None:
    """Keep the first key of the file alone. Raises OSError."""
    path = data_dir / KEY_FILE
    _replace(path, [_decoded(line, str(path)) for line in path.read_text().split()][:1])


def _create(path: Path, keys: list[bytes]) -> None:
    """Of two processes that make the file at once, one does."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    _write(partial, keys)
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()


def _replace(path: Path, keys: list[bytes]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    _write(partial, keys)
    partial.replace(path)


def _write(path: Path, keys: list[bytes]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write("".join(f"{base64.b64encode(key).decode()}\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())


def _decoded(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidInputError(
            f"{where} must be {KEY_BYTES} bytes in base64; generate it with `openssl rand -base64 {KEY_BYTES}`"
        )
    return key


def _name(key: bytes) -> str:
    return hashlib.sha256(b"sublet sealing key\n" + key).hexdigest()[:12]
