"""What an operator may set: `sublet.toml`, then the environment (`SUBLET_SECTION__KEY`), which wins."""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
import types
import typing
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariableError

from sublet.config.classes import ClassOfService, table_of, with_shipped
from sublet.config.egress import Egress
from sublet.config.gateway import Gateway, Port
from sublet.config.identity import PROVIDERS_MAX, OidcProvider, ProviderName
from sublet.config.images import Images
from sublet.config.notifications import Mail, Notifications, Secrets
from sublet.config.pools import BackendSettings, PoolSettings, Section
from sublet.config.volumes import Volumes
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import ServiceClasses

FILE_NAME = "sublet.toml"
FILE_VARIABLE = "SUBLET_CONFIG"


class SettingsError(InvalidInputError):
    """A setting is wrong; the message names the file or variable, the key, and what to write instead."""

    code = "settings"


class Database(Section):
    """Where the data is stored."""

    url: str = Field(default="", description="SQLAlchemy URL; empty: an SQLite file in data_dir")


class Control(Section):
    """The control plane: API, console, loops."""

    host: str = Field(default="127.0.0.1", description="address to bind")
    port: Port = Field(default=8080, description="port; 0 picks a free one")
    public_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s/?#]+)?$",
        max_length=300,
        description="address under which people reach it, for links in mail, such as https://sublet.example.com; empty: no links",
    )
    node: str = Field(default="", max_length=60, description="this machine's name among several; empty: the host's")
    tick_s: float = Field(default=1.0, ge=0.05, le=60, description="seconds between two rounds of plan-then-act")


class Ssh(Section):
    """SSH access to raw leases: one port per lease."""

    host: str = Field(default="127.0.0.1", description="address to bind")
    public_host: str = Field(
        default="",
        pattern=r"^([0-9A-Za-z]([0-9A-Za-z._:-]{0,252}[0-9A-Za-z])?)?$",
        description="host name or address that customers log in to, if it is not the one above",
    )
    port_min: Port = Field(default=22000, description="first port that a lease may get")
    port_max: Port = Field(default=22999, description="last port that a lease may get")

    @model_validator(mode="after")
    def _ordered(self) -> Ssh:
        if self.port_min > self.port_max:
            raise ValueError("port_min must not exceed port_max")
        return self


class Network(Section):
    """Which addresses Sublet may listen on."""

    allow_non_loopback: bool = Field(
        default=False, description="allow the hosts above to be other than loopback addresses"
    )


class Log(Section):
    """Logs go to files in data_dir/logs, and warnings to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest level that is logged"
    )


class Demand(Section):
    """How the owner's own demand is observed."""

    sample_interval_s: float = Field(
        default=15.0, ge=0.2, le=3600, description="seconds between two samples of local load"
    )
    history_days: int = Field(default=400, ge=1, le=3660, description="days of samples kept")


class Billing(Section):
    """The ledger's months, the issuer of its invoices, and the taxes on them."""

    close_months: bool = Field(default=True, description="close months that are over, and make their invoices")
    grace_hours: float = Field(
        default=48.0,
        ge=0,
        le=720,
        description="hours after a month's end during which late usage is still accepted for it",
    )
    issuer_name: str = Field(default="Sublet operator", max_length=200, description="issuer of the invoices")
    issuer_address: str = Field(default="", max_length=500, description="address of the issuer; lines end with \\n")
    issuer_tax_number: str = Field(default="", max_length=100, description="tax number of the issuer")
    issuer_street: str = Field(default="", max_length=200, description="street and house number of the issuer")
    issuer_postcode: str = Field(default="", max_length=40, description="postcode of the issuer")
    issuer_city: str = Field(default="", max_length=100, description="city of the issuer")
    issuer_country: str = Field(default="", pattern="^([A-Z]{2})?$", description="country of the issuer, such as DE")
    issuer_vat_id: str = Field(default="", max_length=20, description="VAT ID of the issuer, such as DE123456789")
    issuer_email: str = Field(default="", max_length=200, description="whom customers ask about invoices")
    issuer_iban: str = Field(default="", max_length=40, description="account to pay invoices to, without spaces")
    issuer_bic: str = Field(default="", max_length=11, description="the BIC of that account's bank")
    issuer_logo: Path | None = Field(default=None, description="PNG or SVG file of the issuer's logo, drawn on PDFs")
    tax_percent: Decimal | None = Field(
        default=None, ge=0, le=100, description="one tax on every invoice, in percent of its net amount, such as 19"
    )
    tax_name: str = Field(default="VAT", min_length=1, max_length=40, description="name of that tax")
    tax_country: str = Field(
        default="", pattern="^([A-Z]{2})?$", description="country whose customers pay it; empty: all customers"
    )
    taxes: str = Field(default="", description="an installed tax calculator, instead of the one percentage")
    bad_debt_tax_relief: bool = Field(
        default=True, description="whether a write-off takes the tax in it back; false where the state grants no relief"
    )
    expected_breakage_percent: Decimal | None = Field(
        default=None, ge=0, lt=100, description="share of prepaid money that is expected to expire unused, in percent"
    )

    @model_validator(mode="after")
    def _one_tax(self) -> Billing:
        if self.taxes and self.tax_percent is not None:
            raise ValueError("set taxes or tax_percent, not both")
        return self


class Leasing(Section):
    """Raw leases on this machine."""

    memory_mib: int = Field(default=512, ge=64, description="memory limit of a lease in MiB, per accelerator")
    disk_mib: int = Field(
        default=256, ge=16, description="disk limit of a lease's home directory in MiB, per accelerator"
    )
    processes_max: int = Field(default=256, ge=16, description="maximum number of processes in a lease")
    home_keep_hours: float = Field(
        default=48.0, ge=0, description="hours for which an ended lease's home directory is archived"
    )
    allow_soft_isolation: bool = Field(
        default=False,
        description="allow a second tenant even if memory, processes and disk cannot be limited per lease",
    )
    simulated_file: Path | None = Field(
        default=None,
        description="file that keeps the leases of simulated pools, the same for every control plane that shares them; unset: "
        "in memory",
    )


class Quotes(Section):
    """Limits on what one organization's open quotes may hold, so that requesting prices never keeps capacity from others."""

    open_max: int = Field(default=20, ge=1, le=1000, description="open quotes per organization")
    hold_s: int = Field(
        default=60, ge=0, le=60, description="seconds for which a quote holds its capacity; 0: quotes hold nothing"
    )
    hold_window_hours: float = Field(
        default=24.0,
        ge=1,
        description="windows longer than this are held for proportionally fewer seconds, at least 10",
    )
    idle_share_max: float = Field(
        default=0.10,
        ge=0,
        le=1,
        description="share of a pool's accelerator-time of the last hour that an organization's quotes may hold without "
        "becoming leases; beyond it its quotes are prices without a hold",
    )
    pool_share_max: float = Field(
        default=1.0, ge=0, le=1, description="share of a pool that an organization's quotes may hold at one moment"
    )
    service_class: str = Field(default="notice", description="class of service of a quote that names none")


class Models(Section):
    """The managed models."""

    default: str = Field(default="smollm2-135m-instruct", description="model deployed at the first start; empty: none")
    floor: int = Field(default=1, ge=0, le=64, description="replicas that the operator pays for, whatever the surplus")
    slots: int = Field(default=4, ge=1, le=64, description="concurrent requests per replica")
    context_tokens: int = Field(default=2048, ge=256, le=131_072, description="context length of each slot")
    service_class: str = Field(
        default="spot", description="class of service that replicas beyond their floor rent capacity in"
    )


def _shipped_classes() -> dict[str, ClassOfService]:
    return {name: ClassOfService(**section) for name, section in with_shipped({}).items()}


class Settings(BaseSettings):
    """All of it. Unknown keys are refused with the nearest known one."""

    model_config = SettingsConfigDict(env_prefix="SUBLET_", env_nested_delimiter="__", extra="forbid", frozen=True)

    data_dir: Path = Field(default=Path("~/.local/share/sublet"), description="directory for all that Sublet stores")
    prices: Path | None = Field(default=None, description="price book (TOML); unset: the built-in one")
    desk_case: Path | None = Field(default=None, description="case (TOML) of the what-if page; unset: the starter")
    database: Database = Database()
    control: Control = Control()
    gateway: Gateway = Gateway()
    ssh: Ssh = Ssh()
    network: Network = Network()
    egress: Egress = Egress()
    volumes: Volumes = Volumes()
    images: Images = Images()
    log: Log = Log()
    mail: Mail = Mail()
    notifications: Notifications = Notifications()
    secrets: Secrets = Secrets()
    oidc: dict[ProviderName, OidcProvider] = Field(default_factory=dict, max_length=PROVIDERS_MAX)
    billing: Billing = Billing()
    demand: Demand = Demand()
    leasing: Leasing = Leasing()
    quotes: Quotes = Quotes()
    classes: dict[str, ClassOfService] = Field(default_factory=_shipped_classes, validate_default=True)
    models: Models = Models()
    backends: dict[str, BackendSettings] = Field(default_factory=dict, max_length=40)
    pools: tuple[PoolSettings, ...] = ()

    @field_validator("pools")
    @classmethod
    def _names_of_their_own(cls, pools: tuple[PoolSettings, ...]) -> tuple[PoolSettings, ...]:
        names = [pool.name for pool in pools]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"there are two pools named {name!r}; give each pool a unique name")
        return pools

    @field_validator("classes", mode="before")
    @classmethod
    def _shipped_unless_changed(cls, given: Any) -> Any:
        return with_shipped(given)

    @field_validator("classes")
    @classmethod
    def _one_table(cls, classes: dict[str, ClassOfService]) -> dict[str, ClassOfService]:
        try:
            table_of(classes)
        except InvalidInputError as error:
            raise ValueError(error.message) from error
        return classes

    @model_validator(mode="after")
    def _classes_that_fit(self) -> Settings:
        classes = self.service_classes
        for where, name in (("quotes", self.quotes.service_class), ("models", self.models.service_class)):
            if name not in classes:
                raise ValueError(
                    f"{where}.service_class is {name!r}, which is not a class; use one of {', '.join(classes)}"
                )
        for name in self.egress.class_allowed:
            if name not in classes:
                raise ValueError(f"egress.class_allowed.{name} is not a class; use one of {', '.join(classes)}")
        rented = classes[self.models.service_class]
        if not (rented.reclaimable and rented.by_window):
            raise ValueError(
                f"models.service_class is {rented.name}: replicas need a class that is taken back with notice"
            )
        return self

    @model_validator(mode="after")
    def _providers_that_come_back(self) -> Settings:
        if self.oidc and not self.control.public_url:
            raise ValueError(
                "control.public_url must be set with an [oidc] provider, because its people come back to it"
            )
        return self

    @property
    def service_classes(self) -> ServiceClasses:
        """The table of the classes of service."""
        return table_of(self.classes)

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data_dir}/sublet.db"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # What load() read from the file comes in as init values: the environment stands before it.
        return env_settings, init_settings


_NOT_SETTINGS = {
    "SUBLET_CONFIG",
    "SUBLET_URL",
    "SUBLET_KEY",
    "SUBLET_PROFILE",
    "SUBLET_TRACES",
    "SUBLET_LEASE",
    "SUBLET_PACKAGED_BWRAP",
    "SUBLET_ASYNCSSH",
}


def load(path: Path | None = None, **overrides: Any) -> Settings:
    """Read `path`, else the file that SUBLET_CONFIG names, else ./sublet.toml where there is one; then the environment.

    Raises SettingsError naming the file or variable and the key.
    """
    named = path or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
    file = named or Path(FILE_NAME)
    content: dict[str, Any] = {}
    if named is not None and not file.is_file():
        raise SettingsError(f"{file}: the settings file does not exist; create it, or unset {FILE_VARIABLE}")
    if file.is_file():
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise SettingsError(f"{file}: the file is not UTF-8 text; save it as UTF-8") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{file}: {str(error)[:1].lower()}{str(error)[1:]}") from error
        except OSError as error:
            raise SettingsError(
                f"{file}: the file can't be read ({error.strerror}); give this user permission to read it"
            ) from error
    _refuse_unknown_variables()
    try:
        settings = Settings(**_merged(content, overrides))
    except UnreadableVariableError as error:
        raise SettingsError(_unreadable(error)) from error
    except ValidationError as error:
        raise SettingsError(_explain(error, file if content else None)) from error
    try:
        settings = settings.model_copy(update={"data_dir": settings.data_dir.expanduser().absolute()})
    except RuntimeError as error:
        raise SettingsError(f"data_dir {settings.data_dir}: {error}; write an absolute path") from error
    _check_hosts(settings)
    return settings


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _unreadable(error: UnreadableVariableError) -> str:
    """Of a variable that gives a whole section or list, and is not JSON."""
    for name in Settings.model_fields:
        if f'"{name}"' in str(error):
            variable = f"SUBLET_{name.upper()}"
            single = "" if name == "pools" else f", or set one key of it as {variable}__KEY"
            return f"environment variable {variable}: it is not JSON; write {name} as JSON{single}"
    return f"environment: {error}"


def _explain(error: ValidationError, file: Path | None) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    where = _source_of(tuple(str(part) for part in first["loc"])) or str(file or "settings")
    if first["type"] == "extra_forbidden":
        known = setting_names()
        if len(first["loc"]) == 3 and key.startswith("classes."):
            known += [f"classes.{first['loc'][1]}.{name}" for name in ClassOfService.model_fields]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; docs/settings.md lists all {len(known)}"
        return f"{where}: there is no setting {key}{hint}"
    # A database's URL may hold a password; an object would be shown whole.
    secret = key.startswith("database") or isinstance(first["input"], dict | list | tuple)
    shown = "" if secret else f" (it is {str(first['input'])[:80]!r})"
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {f'{key}: ' if key else ''}{said[:1].lower()}{said[1:]}{shown}"


def _source_of(keys: tuple[str, ...]) -> str | None:
    """The environment variable that gave that setting, or the section that it stands in, where one did."""
    given = {name.upper(): name for name in os.environ}
    for length in range(len(keys), 0, -1):
        variable = "SUBLET_" + "__".join(keys[:length]).upper()
        if variable in given:
            return f"environment variable {given[variable]}"
    return None


def _refuse_unknown_variables() -> None:
    sections = set(Settings.model_fields)
    for name in os.environ:
        upper = name.upper()
        if not upper.startswith("SUBLET_") or upper in _NOT_SETTINGS or upper.startswith("SUBLET_TEST_"):
            continue
        section = upper.removeprefix("SUBLET_").split("__")[0].lower()
        if section not in sections:
            near = difflib.get_close_matches(section, sections, n=1, cutoff=0.4)
            hint = f"; did you mean SUBLET_{near[0].upper()}?" if near else "; unset it"
            raise SettingsError(f"environment variable {name}: there is no setting {section}{hint}")


def _check_hosts(settings: Settings) -> None:
    if settings.network.allow_non_loopback:
        return
    hosts = [f"{section}.host" for section in ("control", "gateway", "ssh")] + ["gateway.operator_host"]
    for name in hosts:
        section, _, key = name.partition(".")
        host = getattr(getattr(settings, section), key)
        if not is_loopback(host):
            raise SettingsError(
                f"{name} {host} is not a loopback address; to allow connections from other machines, set "
                "network.allow_non_loopback = true"
            )


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def setting_names() -> list[str]:
    """Every setting as `section.key`, in the order of the manual."""
    return [name for name, _, _ in describe()]


def describe() -> list[tuple[str, str, str]]:
    """Every setting: its name, its default as TOML would write it, and what it means."""
    rows: list[tuple[str, str, str]] = []
    _walk(Settings, "", Settings.model_construct(), rows)
    return rows


def _walk(model: type[BaseModel], prefix: str, defaults: BaseModel | None, rows: list[tuple[str, str, str]]) -> None:
    for name, field in model.model_fields.items():
        inner = _section_of(field.annotation)
        value = getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        if inner is not None and isinstance(value, dict):
            for key, section in (value or {"NAME": None}).items():
                _walk(inner, f"{prefix}{name}.{key}.", section, rows)
            continue
        if inner is not None:
            many = typing.get_origin(field.annotation) is tuple
            _walk(inner, f"{prefix}{name}.", None if many else value, rows)
            continue
        rows.append(
            (f"{prefix}{name}", _as_toml(value, defaults is None and field.is_required()), field.description or "")
        )


def _section_of(annotation: Any) -> type[BaseModel] | None:
    options = (
        typing.get_args(annotation)
        if typing.get_origin(annotation) in (tuple, dict, types.UnionType)
        else (annotation,)
    )
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _as_toml(value: Any, required: bool) -> str:
    if required:
        return "(required)"
    if value is None:
        return "(unset)"
    if isinstance(value, SecretStr):
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, tuple | list | frozenset):
        return f"[{', '.join(_as_toml(item, False) for item in value)}]"
    return str(value)
