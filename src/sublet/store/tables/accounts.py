"""Who buys and who operates: organizations, their API keys, and what limits them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

organizations = Table(
    "organizations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("timezone", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", Instant, nullable=False),
)

# A key belongs to a person of the organization (`person_id`) and ends with the membership, to one of its service accounts
# (`service_account_id`) and ends with that, or to the organization itself.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("hint", String(8), nullable=False),
    Column("role", String(32), nullable=False, server_default=""),
    Column("scopes", Json, nullable=False),
    Column("project", String(80), nullable=False, server_default=""),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=True),
    Column("revoked_at", Instant, nullable=True),
    Column("person_id", String(40), nullable=False, server_default=""),
    Column("created_by", String(40), nullable=False, server_default=""),
    Column("service_account_id", String(40), nullable=False, server_default=""),
    # What the key signs requests with, sealed; none for keys that do not call models, and those made before there was one.
    Column("signing_secret", Text, nullable=True),
    Index(None, "organization_id"),
)

# Programs of an organization that call Sublet; none is a person. Keys of one have its role and project.
service_accounts = Table(
    "service_accounts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("role", String(32), nullable=False),
    Column("project", String(80), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(40), nullable=False),
    Column("removed_at", Instant, nullable=True),
    Index("ix_service_accounts_organization_id", "organization_id"),
)

# When a key was last used, to the minute. Apart from `api_keys`, which a request does not change.
key_uses = Table(
    "key_uses",
    metadata,
    Column("key_id", String(40), ForeignKey("api_keys.id"), primary_key=True),
    Column("used_at", Instant, nullable=False),
)

# The key with which the console's playground calls models for a person; its secret is sealed, and replaced every hour.
playground_keys = Table(
    "playground_keys",
    metadata,
    Column("key_id", String(40), ForeignKey("api_keys.id"), primary_key=True),
    Column("organization_id", String(40), ForeignKey("organizations.id"), nullable=False),
    Column("person_id", String(40), ForeignKey("persons.id"), nullable=False),
    Column("secret", Text, nullable=False),
    UniqueConstraint("organization_id", "person_id"),
)

# What an organization, a project, a key or a model may use of the model API. `organization_id` is NULL where all organizations
# together are limited; without `model` all models together are.
rate_limits = Table(
    "rate_limits",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), ForeignKey("organizations.id"), nullable=True),
    Column("scope", String(16), nullable=False),
    Column("scope_id", String(80), nullable=False),
    Column("model", String(80), nullable=False),
    Column("requests_per_minute", BigInteger, nullable=True),
    Column("input_tokens_per_minute", BigInteger, nullable=True),
    Column("output_tokens_per_minute", BigInteger, nullable=True),
    Column("concurrency", BigInteger, nullable=True),
    Column("models", Json, nullable=True),
    Column("expires_at", Instant, nullable=True),
    Column("by_operator", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("ix_rate_limits_organization_id", "organization_id"),
)

# How a provider knows a person. Nothing else than both columns of the key identifies somebody there.
oidc_identities = Table(
    "oidc_identities",
    metadata,
    Column("issuer", String(300), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("person_id", String(40), ForeignKey("persons.id"), nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("ix_oidc_identities_person_id", "person_id"),
)

# A sign-in at a provider that is under way; deleted when it comes back, and a while after it is too late.
oidc_attempts = Table(
    "oidc_attempts",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("provider", String(60), nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("state", String(64), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("verifier", String(128), nullable=False),
    Column("next_path", Text, nullable=False),
    Column("session_id", String(40), nullable=False),
    Column("source", String(64), nullable=False),
    Column("started_at", Instant, nullable=False),
    Index("ix_oidc_attempts_started_at", "started_at"),
    Index("ix_oidc_attempts_source", "source", "started_at"),
)

# A person, whatever organizations they are in. `email` is in lower case. `password` is the PHC text of Argon2id; without one
# nobody signs in with a password.
persons = Table(
    "persons",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("email", String(254), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("password", Text, nullable=True),
    Column("created_at", Instant, nullable=False),
    Column("email_verified_at", Instant, nullable=True),
    Column("password_changed_at", Instant, nullable=True),
    Column("passkey_required", Boolean, nullable=False, server_default=false()),
    # A tag; empty: the language that the browser asks for.
    Column("language", String(12), nullable=False, server_default=""),
)

# A person's passkey. The private key never leaves the device.
passkeys = Table(
    "passkeys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("person_id", String(40), ForeignKey("persons.id"), nullable=False),
    Column("name", String(60), nullable=False),
    Column("credential_id", Text, nullable=False),
    Column("credential_sha256", String(64), nullable=False, unique=True),
    Column("public_key", Text, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("is_synced", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("last_used_at", Instant, nullable=True),
    Index("ix_passkeys_person_id", "person_id"),
)

# What a browser is asked to sign with a passkey; deleted when it comes back, and a while after it is too late.
passkey_challenges = Table(
    "passkey_challenges",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("purpose", String(16), nullable=False),
    Column("person_id", String(40), nullable=False),
    Column("session_id", String(40), nullable=False),
    Column("challenge", String(128), nullable=False),
    Column("next_path", Text, nullable=False),
    Column("source", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("ix_passkey_challenges_source", "source", "created_at"),
    Index("ix_passkey_challenges_created_at", "created_at"),
)

# `provider` made it by its rules, and takes it away by them; empty: an invitation made it.
memberships = Table(
    "memberships",
    metadata,
    Column("person_id", String(40), ForeignKey("persons.id"), primary_key=True),
    Column("organization_id", String(40), ForeignKey("organizations.id"), primary_key=True),
    Column("role", String(32), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("provider", String(60), nullable=False, server_default=""),
    Index("ix_memberships_organization_id", "organization_id"),
)

# Two secrets, of which hashes are stored: the link that the inviter sees, and the one in the mail, which proves the address.
invitations = Table(
    "invitations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), ForeignKey("organizations.id"), nullable=False),
    Column("email", String(254), nullable=False),
    Column("role", String(32), nullable=False),
    Column("link_sha256", String(64), nullable=False, unique=True),
    Column("mail_sha256", String(64), nullable=False, unique=True),
    Column("invited_by", String(40), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("accepted_at", Instant, nullable=True),
    Column("revoked_at", Instant, nullable=True),
    Index("ix_invitations_organization_id", "organization_id"),
)

password_resets = Table(
    "password_resets",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("person_id", String(40), ForeignKey("persons.id"), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant, nullable=True),
    Index("ix_password_resets_person_id", "person_id"),
)

# Signed in on the console: a person in one of their organizations, or somebody with a key. The cookie is one of its tokens.
# `provider` is where the person signed in, with its own session's id and, sealed, the token that ends it.
sessions = Table(
    "sessions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("person_id", String(40), ForeignKey("persons.id"), nullable=True),
    Column("key_id", String(40), ForeignKey("api_keys.id"), nullable=True),
    Column("organization_id", String(40), ForeignKey("organizations.id"), nullable=False),
    Column("form_secret", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("verified_at", Instant, nullable=False),
    Column("revoked_at", Instant, nullable=True),
    Column("user_agent", String(200), nullable=False),
    Column("address", String(64), nullable=False),
    Column("provider", String(60), nullable=False, server_default=""),
    Column("provider_session", String(255), nullable=False, server_default=""),
    Column("id_token", Text, nullable=True),
    Index("ix_sessions_person_id", "person_id"),
    Index("ix_sessions_expires_at", "expires_at"),
)

session_tokens = Table(
    "session_tokens",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("session_id", String(40), ForeignKey("sessions.id"), nullable=False),
    Column("issued_at", Instant, nullable=False),
    Column("replaced_at", Instant, nullable=True),
    Index("ix_session_tokens_session_id", "session_id"),
)

# Attempts to prove who one is: failed sign-ins by account and source, and requests for a reset. Kept for a day.
sign_in_attempts = Table(
    "sign_in_attempts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("what", String(16), nullable=False),
    Column("account_sha256", String(64), nullable=False),
    Column("source", String(64), nullable=False),
    Column("at", Instant, nullable=False),
    Index("ix_sign_in_attempts_account_sha256", "account_sha256", "at"),
    Index("ix_sign_in_attempts_source", "source", "at"),
    Index("ix_sign_in_attempts_at", "at"),
)

# Mail to one person that holds a link: sealed until it is sent, then deleted.
letters = Table(
    "letters",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("address", String(254), nullable=False),
    Column("sealed", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("next_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text, nullable=True),
    Index("ix_letters_next_at", "next_at"),
)
