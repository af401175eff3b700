"""What leases may reach outside, as an operator states it."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from sublet.config.package_hosts import machine_lists
from sublet.config.pools import Section
from sublet.values.egress import EgressPolicy, Rule, parsed_list, shipped
from sublet.values.egress_presets import OF_THE_MACHINE
from sublet.values.errors import InvalidInputError

_HOSTS_OWN = tuple(
    ipaddress.ip_network(text) for text in ("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10", "0.0.0.0/8")
)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError("use a network such as 10.20.0.0/24 or 10.20.0.5/32") from error


NetworkText = Annotated[str, AfterValidator(_network)]
Names = tuple[str, ...]


class Egress(Section):
    """What leases may reach outside: allow lists by name, and who may ask for which. Shipped: huggingface and git, and with the
    hosts that this machine's own package managers use, pypi, conda and apt."""

    allowed: Names = Field(
        default=(), max_length=40, description="lists that any lease may ask for; none: leases have no network"
    )
    class_allowed: dict[str, Names] = Field(
        default_factory=dict, max_length=40, description="the same for leases of a class, instead of `allowed`"
    )
    organization_allowed: dict[str, Names] = Field(
        default_factory=dict, max_length=1000, description="the same for an organization, by its id, instead of both"
    )
    lists: dict[str, Names] = Field(
        default_factory=dict,
        max_length=40,
        description="further allow lists by name, or replacements: host, *.example.org, host:port,port (80 and 443 if omitted)",
    )
    permit_networks: tuple[NetworkText, ...] = Field(
        default=(), max_length=40, description="private networks that listed hosts may be in, as those of a mirror"
    )
    deny_networks: tuple[NetworkText, ...] = Field(
        default=(), max_length=40, description="public networks that no lease may reach, as your own"
    )
    log_days: int = Field(
        default=30, ge=1, le=3660, description="days for which connections are kept in data_dir/leases/egress"
    )

    @field_validator("permit_networks")
    @classmethod
    def _never_this_machine(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for text in networks:
            network = ipaddress.ip_network(text)
            if any(network.version == own.version and network.overlaps(own) for own in _HOSTS_OWN):
                raise ValueError(
                    f"{text} includes this machine or a metadata service; specify only the network of the mirror"
                )
        return networks

    @model_validator(mode="after")
    def _lists_that_there_are(self) -> Egress:
        try:
            known = shipped().keys() | OF_THE_MACHINE.keys() | self._own_lists().keys()
        except InvalidInputError as error:
            raise ValueError(error.message) from error
        parts = (self.class_allowed, self.organization_allowed)
        named = {*self.allowed, *(name for part in parts for names in part.values() for name in names)}
        unknown = sorted(named - set(known))
        if unknown:
            raise ValueError(f"there is no list {unknown[0]!r}; there are {', '.join(sorted(known))}")
        return self

    @property
    def policy(self) -> EgressPolicy:
        """The same as the domain reads it, with what the machine's package managers are configured for now. Raises
        InvalidInputError."""
        return EgressPolicy(
            shipped() | machine_lists() | self._own_lists(),
            frozenset(self.allowed),
            {name: frozenset(names) for name, names in self.class_allowed.items()},
            {name: frozenset(names) for name, names in self.organization_allowed.items()},
        )

    def _own_lists(self) -> dict[str, tuple[Rule, ...]]:
        return {name: parsed_list(name, entries) for name, entries in self.lists.items()}
