"""What an operator states about messages: the mail server, where webhooks may go, and the key that stored secrets are sealed with."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from sublet.config.gateway import Port
from sublet.config.pools import Section

_HOST = re.compile(r"^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")


def _internal(text: str) -> str:
    plain = text.strip().lower()
    try:
        return str(ipaddress.ip_network(plain, strict=False))
    except ValueError:
        if _HOST.fullmatch(plain) and not plain.replace(".", "").isdigit():
            return plain
    raise ValueError("use a host, `*.` and a domain, an address, or a network such as 10.0.0.0/8")


InternalHost = Annotated[str, AfterValidator(_internal), Field(max_length=255)]


class Mail(Section):
    """The mail server for notifications; without a host, nobody can subscribe by e-mail."""

    host: str = Field(default="", max_length=255, description="SMTP server; empty: no e-mail")
    port: Port = Field(default=587, description="its port")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="how the connection is protected"
    )
    sender: str = Field(default="", max_length=320, description="address that mail comes from")
    user: str = Field(default="", max_length=320, description="user name; empty: no login")
    password: SecretStr = Field(
        default=SecretStr(""), description="password; better set as SUBLET_MAIL__PASSWORD, or in a file, than here"
    )
    password_file: Path | None = Field(default=None, description="file that holds the password, instead")
    timeout_s: float = Field(default=20.0, gt=0, le=120, description="seconds that one step of a delivery may take")
    digest_s: int = Field(
        default=300, ge=0, le=86_400, description="seconds after a mail in which a subscription's events are gathered"
    )

    @model_validator(mode="after")
    def _whole(self) -> Mail:
        if self.host and "@" not in self.sender:
            raise ValueError("sender must be an address if mail.host is set")
        if any(sign.isspace() or not sign.isprintable() for sign in self.sender):
            raise ValueError("sender must be one address without spaces")
        if self.password_file is not None and self.password.get_secret_value():
            raise ValueError("set password or password_file, not both")
        return self


class Notifications(Section):
    """Events, and the messages that tell of them."""

    retention_days: int = Field(
        default=30, ge=1, le=3660, description="days for which events and the log of their deliveries are kept"
    )
    backup_max_age_hours: int = Field(
        default=0, ge=0, le=8784, description="hours after which the last backup is too old; 0: not checked"
    )
    internal_hosts: tuple[InternalHost, ...] = Field(
        default=(),
        max_length=200,
        description="hosts and networks that webhooks of the operator and of internal teams may reach although they are not "
        "public, with http too",
    )
    internal_hosts_for_customers: bool = Field(
        default=False, description="whether customers' webhooks may reach internal_hosts as well"
    )
    ca_file: Path | None = Field(
        default=None, description="certificates (PEM) that webhook receivers are also trusted by"
    )
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="seconds that a webhook's receiver has to answer")
    disable_after_days: int = Field(
        default=5, ge=1, le=60, description="days of nothing but failures after which a subscription is disabled"
    )
    subscriptions_max: int = Field(default=50, ge=1, le=1000, description="subscriptions per organization")


class Secrets(Section):
    """The key that secrets in the database are sealed with. Without one, a file in data_dir is made."""

    key: SecretStr = Field(
        default=SecretStr(""),
        description="key of 32 bytes in base64, the same for every control plane; better set as SUBLET_SECRETS__KEY",
    )
    previous_key: SecretStr = Field(
        default=SecretStr(""), description="the key before, until `sublet admin rotate-secrets` has run"
    )
