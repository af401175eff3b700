"""What an operator may set: `sublet.toml`, then the environment (`SUBLET_SECTION__KEY`), which wins."""

from __future__ import annotations

import difflib
import ipaddress
import os
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariableError

from sublet.config.classes import ClassOfService, table_of, with_shipped
from sublet.config.described import setting_names
from sublet.config.egress import Egress
from sublet.config.gateway import Gateway
from sublet.config.identity import PROVIDERS_MAX, OidcProvider, ProviderName
from sublet.config.images import Images
from sublet.config.notifications import Mail, Notifications, Secrets
from sublet.config.pools import BackendSettings, PoolSettings
from sublet.config.sections import (
    Allocation,
    Billing,
    Control,
    Database,
    Demand,
    Leasing,
    Log,
    Models,
    Network,
    Quotes,
    Ssh,
    Tls,
)
from sublet.config.volumes import Volumes
from sublet.config.waitlist import Waitlist
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import ServiceClasses
from sublet.values.toml import toml_of

FILE_NAME = "sublet.toml"
FILE_VARIABLE = "SUBLET_CONFIG"


class SettingsError(InvalidInputError):
    """A setting is wrong; the message names the file or variable, the key, and what to write instead."""

    code = "settings"


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
    tls: Tls = Tls()
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
    waitlist: Waitlist = Waitlist()
    classes: dict[str, ClassOfService] = Field(default_factory=_shipped_classes, validate_default=True)
    models: Models = Models()
    allocation: Allocation = Allocation()
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
    "SUBLET_CA_FILE",
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
            content = toml_of(file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise SettingsError(f"{file}: the file is not UTF-8 text; save it as UTF-8") from error
        except ValueError as error:
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
        known = setting_names(Settings)
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
