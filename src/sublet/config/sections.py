"""The sections of `sublet.toml` that have no file of their own."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sublet.config.gateway import Port
from sublet.config.pools import Section
from sublet.tls.files import CertificateFiles


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


class Tls(Section):
    """HTTPS on the control plane's and the gateway's ports."""

    certificate: Path | None = Field(
        default=None,
        description="PEM file of the certificate, followed by those of its issuers; unset: plain HTTP. Read again when it changes",
    )
    private_key: Path | None = Field(default=None, description="PEM file of its private key, without a password")

    @model_validator(mode="after")
    def _both(self) -> Tls:
        if (self.certificate is None) != (self.private_key is None):
            missing = "private_key" if self.private_key is None else "certificate"
            raise ValueError(f"{missing} is missing: a certificate needs its private key")
        return self

    @property
    def files(self) -> CertificateFiles | None:
        """Both files; None for plain HTTP."""
        if self.certificate is None or self.private_key is None:
            return None
        return CertificateFiles(self.certificate.expanduser(), self.private_key.expanduser())


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
    issuer_vat_id: str = Field(default="", max_length=20, description="VAT ID of the issuer, such as DE123456788")
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
    chart_of_accounts: dict[str, Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default_factory=dict,
        max_length=40,
        description='your own code or name of each account, for exports of the general ledger, such as receivable = "1400"',
    )
    datev_consultant: int = Field(default=0, ge=0, le=9_999_999, description="number of the tax consultant, for DATEV")
    datev_client: int = Field(default=0, ge=0, le=99_999, description="your number at that tax consultant")
    datev_clearing_account: str = Field(
        default="",
        pattern="^([0-9]{4,8})?$",
        description="account against which each other one is posted in DATEV; its length is that of all accounts",
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


class Allocation(Section):
    """The mix of managed models and raw classes on idle capacity: `sublet yield`."""

    mode: Literal["off", "advise", "act"] = Field(
        default="off",
        description="for pools that state none of their own: off; advise: show the best mix; act: scale models and limit sales by it",
    )
    energy_price_per_kwh: Decimal = Field(
        default=Decimal(0),
        ge=0,
        le=1_000,
        description="what an accelerator in use costs beyond an idle one, by its watts",
    )
    solver_s: float = Field(
        default=5.0, gt=0, le=60, description="seconds after which the solver is given up and marginal value decides"
    )
    chargeback_basis: Literal["cost", "market", "opportunity"] = Field(
        default="cost",
        description="what an hour of an internal team is charged at: cost; market: the list price; opportunity: what it displaced",
    )


class Models(Section):
    """The managed models."""

    default: str = Field(default="smollm2-135m-instruct", description="model deployed at the first start; empty: none")
    floor: int = Field(default=1, ge=0, le=64, description="replicas that the operator pays for, whatever the surplus")
    slots: int = Field(default=4, ge=1, le=64, description="concurrent requests per replica")
    context_tokens: int = Field(default=2048, ge=256, le=131_072, description="context length of each slot")
    service_class: str = Field(
        default="spot", description="class of service that replicas beyond their floor rent capacity in"
    )
