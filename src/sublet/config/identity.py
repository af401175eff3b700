"""What an operator states about sign-in elsewhere: OpenID Connect providers, and which role their people get."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from sublet.config.pools import Section

PROVIDERS_MAX = 20
RULES_MAX = 200


def _domain(text: str) -> str:
    plain = text.strip().lower().lstrip("@")
    if "." not in plain or not plain.isascii() or any(not (sign.isalnum() or sign in ".-") for sign in plain):
        raise ValueError("use a domain such as example.com")
    return plain


def is_protected(url: str) -> bool:
    """Whether a provider's address is https, or http on this machine."""
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and local))


ProviderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Domain = Annotated[str, AfterValidator(_domain), Field(max_length=253)]


class OidcRule(Section):
    """Whom a provider's people become members of, and with which role. The first rule that fits counts for its organization."""

    group: str = Field(default="", max_length=200, description="group that the person must be in; empty: everyone")
    organization: str = Field(min_length=1, max_length=120, description="name of the organization to join")
    role: str = Field(min_length=1, max_length=32, description="role there, such as customer_developer")


class OidcProvider(Section):
    """An OpenID Connect provider that people sign in with; `[oidc.NAME]`."""

    label: str = Field(default="", max_length=60, description="name on the sign-in page; empty: the section's name")
    issuer: str = Field(max_length=300, description="issuer, exactly as the provider's discovery document states it")
    client_id: str = Field(min_length=1, max_length=300, description="client id that the provider gave")
    client_secret: SecretStr = Field(
        default=SecretStr(""), description="client secret; better set as SUBLET_OIDC__NAME__CLIENT_SECRET, or in a file"
    )
    client_secret_file: Path | None = Field(default=None, description="file that holds the client secret, instead")
    scopes: str = Field(default="openid email profile", max_length=300, description="scopes to ask for")
    groups_claim: str = Field(default="groups", max_length=80, description="claim that lists a person's groups")
    domains: tuple[Domain, ...] = Field(
        min_length=1,
        max_length=100,
        description="domains of the e-mail addresses that this provider vouches for; people with others can't join through it",
    )
    email_verified: Literal["claim", "always"] = Field(
        default="claim",
        description="when an address counts as confirmed: if the claim email_verified says so, or always",
    )
    rules: tuple[OidcRule, ...] = Field(
        default=(), max_length=RULES_MAX, description="who joins which organization with which role"
    )

    @model_validator(mode="after")
    def _whole(self) -> OidcProvider:
        if not is_protected(self.issuer):
            raise ValueError("issuer must be an https address (http is for loopback only)")
        if "openid" not in self.scopes.split():
            raise ValueError("scopes must contain openid")
        if self.client_secret_file is not None and self.client_secret.get_secret_value():
            raise ValueError("set client_secret or client_secret_file, not both")
        return self
