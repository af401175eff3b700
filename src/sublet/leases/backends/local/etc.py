"""What a tenant finds in /etc and beside it: accounts, the SSH server's settings, the door's own key, who may log in."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

from sublet.leases.backends.local.files import LeaseFiles, Spec
from sublet.leases.backends.local.sandbox import SESSION_PATH, image_environment, session_environment, shell_of


def write_host_key(files: LeaseFiles) -> tuple[str, str]:
    """The door's own key, which lives as long as the lease; returns its public line and its SHA-256 fingerprint."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    path = files.etc / "host_key"
    path.touch(mode=0o600)
    path.write_bytes(private)
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return line, "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def write_etc(files: LeaseFiles, spec: Spec, keys: tuple[str, ...]) -> None:
    environment = {"PATH": SESSION_PATH, **session_environment(spec)}
    _write(files.etc / "passwd", _ACCOUNTS.format(shell=shell_of(spec)))
    # No group `tty`: its number is not mapped in the sandbox, and sshd gives up on a terminal that it can't hand to it.
    _write(files.etc / "group", "root:x:0:\ntenant:x:1000:\nnogroup:x:65534:\n")
    _write(files.etc / "hosts", f"127.0.0.1 localhost {spec.lease_id.replace('_', '-')}\n::1 localhost\n")
    _write(files.etc / "resolv.conf", "")
    values = " ".join(f'"{name}={value}"' for name, value in environment.items())
    _write(files.etc / "sshd_config", _SSHD_CONFIG + f"SetEnv {values}\n")
    write_keys(files, keys)
    if spec.job:
        _write(
            files.etc / "job.json",
            json.dumps(
                {"command": spec.job["command"], "environment": image_environment(spec) | spec.job["environment"]}
            ),
        )
    if spec.uid is not None:
        for path in (files.home, files.etc / "host_key"):
            os.chown(path, spec.uid, spec.uid)
    files.home.chmod(0o700)
    (files.etc / "host_key").chmod(0o600)


def write_keys(files: LeaseFiles, keys: tuple[str, ...]) -> None:
    if files.etc.is_dir():
        _write(files.etc / "authorized_keys", "".join(f"{key}\n" for key in keys))


def installed_keys(files: LeaseFiles) -> str | None:
    """`keys_digest` of the keys that may log in; None where nothing of the lease is left."""
    try:
        return hashlib.sha256((files.etc / "authorized_keys").read_bytes()).hexdigest()
    except OSError:
        return None


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o644)
    temporary.replace(path)


_ACCOUNTS = """\
root:x:0:0::/nonexistent:/usr/sbin/nologin
tenant:x:1000:1000::/home/tenant:{shell}
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
"""
# The policy of the SSH door, which docs/leases.md states and inside/ssh_server.py enforces too: what changes here changes there.
_SSHD_CONFIG = """\
HostKey /run/sublet-etc/host_key
AuthorizedKeysFile /run/sublet-etc/authorized_keys
AllowUsers tenant
AuthenticationMethods publickey
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
PidFile none
AllowAgentForwarding no
AllowTcpForwarding local
PermitOpen 127.0.0.1:* localhost:* [::1]:*
PermitListen none
GatewayPorts no
AllowStreamLocalForwarding no
PermitTunnel no
X11Forwarding no
PermitUserEnvironment no
PermitUserRC no
PrintMotd no
PrintLastLog no
LoginGraceTime 20
ClientAliveInterval 30
MaxSessions 64
Subsystem sftp internal-sftp
AcceptEnv LANG LC_*
"""
