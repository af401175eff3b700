"""Allow lists: what their entries mean, and which lists a lease of a class and an organization may ask for. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sublet.values.egress_presets import OF_THE_MACHINE, PRESETS
from sublet.values.errors import ForbiddenError, InvalidInputError

LISTS_MAX = 16
ENTRIES_MAX = 200
HOST_CHARACTERS_MAX = 253
USUAL_PORTS = (80, 443)
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
# WHATWG's URL standard, "ends in a number": resolvers read such names as addresses in a number of old forms.
_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")
LIST_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def host_name(text: str) -> str | None:
    """`text` as a host's name in lower case without a dot at its end; None for what is none: an address in any form, a name
    with other characters than DNS has, or one that is too long."""
    name = text.lower().removesuffix(".")
    if len(name) > HOST_CHARACTERS_MAX or not _HOST.fullmatch(name) or _NUMBER.fullmatch(name):
        return None
    return name


@dataclass(frozen=True, slots=True)
class Rule:
    """One host, or with `below` every name below it, and the ports that may be connected."""

    host: str
    ports: tuple[int, ...] = USUAL_PORTS
    below: bool = False

    @classmethod
    def parse(cls, text: str) -> Rule:
        """`host`, `host:port,port`, `*.example.org` for every name below it. Raises InvalidInputError."""
        host, colon, ports = text.strip().partition(":")
        below = host.startswith("*.")
        name = host_name(host.removeprefix("*."))
        if name is None or (below and "." not in name):
            raise InvalidInputError(
                f"{text[:80]!r} is not a valid allow list entry; use a host such as example.org, *.example.org or example.org:8443"
            )
        if not colon:
            return cls(name, USUAL_PORTS, below)
        numbers = [int(part) if re.fullmatch(r"[0-9]{1,5}", part) else 0 for part in ports.split(",")]
        if not all(0 < number < 65536 for number in numbers):
            raise InvalidInputError(f"{text[:80]!r}: ports must be numbers from 1 to 65535, separated by commas")
        return cls(name, tuple(sorted(set(numbers))), below)

    def __str__(self) -> str:
        ports = "" if self.ports == USUAL_PORTS else ":" + ",".join(str(port) for port in self.ports)
        return f"{'*.' if self.below else ''}{self.host}{ports}"

    def allows(self, host: str, port: int) -> bool:
        """Whether a host, as `host_name` gives it, may be connected at a port."""
        same = host.endswith(f".{self.host}") if self.below else host == self.host
        return same and port in self.ports


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The lists whose hosts are known, and who may ask for which: an organization's own entry, else its class's, else `allowed`."""

    lists: Mapping[str, tuple[Rule, ...]] = field(default_factory=lambda: shipped())
    allowed: frozenset[str] = frozenset()
    of_class: Mapping[str, frozenset[str]] = field(default_factory=dict)
    of_organization: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def open_to(self, organization_id: str, class_name: str | None = None) -> frozenset[str]:
        """The lists that a lease may have; without a class, one of any class."""
        if organization_id in self.of_organization:
            return self.of_organization[organization_id]
        if class_name is not None:
            return self.of_class.get(class_name, self.allowed)
        return self.allowed.union(*self.of_class.values())

    def checked(self, names: Sequence[str], organization_id: str, class_name: str) -> tuple[str, ...]:
        """`names` in order, each once. Raises InvalidInputError for a list that there is not, ForbiddenError for one that is not
        open to such a lease."""
        wanted = tuple(sorted(set(names)))
        if len(wanted) > LISTS_MAX:
            raise InvalidInputError(f"a lease has at most {LISTS_MAX} allow lists", field="network")
        for name in wanted:
            if name in OF_THE_MACHINE and name not in self.lists:
                raise InvalidInputError(
                    f"network: this machine states no hosts for the allow list {name}: nothing was found in {OF_THE_MACHINE[name]}. "
                    f'The operator can name them: [egress] lists = {{ {name} = ["HOST"] }}',
                    field="network",
                )
            if name not in self.lists:
                raise InvalidInputError(
                    f"network: there is no allow list {name[:40]!r}; there are {', '.join(sorted(self.lists))}",
                    field="network",
                )
        closed = [name for name in wanted if name not in self.open_to(organization_id, class_name)]
        if closed:
            raise ForbiddenError(
                f"the operator does not allow {class_name} leases of your organization to use {', '.join(closed)}; "
                "`sublet lease networks` shows the lists that you can use"
            )
        return wanted

    def rules(self, names: Sequence[str]) -> tuple[str, ...]:
        """The entries of lists, as text for a backend; of a list that is no longer there, none."""
        return tuple(dict.fromkeys(str(rule) for name in names for rule in self.lists.get(name, ())))


def parsed_list(name: str, entries: Sequence[str]) -> tuple[Rule, ...]:
    """Raises InvalidInputError for a name or an entry that can't be one."""
    if not LIST_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name[:60]!r} is not a valid name for an allow list; use lowercase letters, digits and hyphens"
        )
    if not 0 < len(entries) <= ENTRIES_MAX:
        raise InvalidInputError(f"the allow list {name} needs 1 to {ENTRIES_MAX} entries")
    return tuple(Rule.parse(entry) for entry in entries)


def shipped() -> dict[str, tuple[Rule, ...]]:
    """The lists of `egress_presets` that name their hosts; those of the machine come from `config.package_hosts`."""
    return {name: parsed_list(name, entries) for name, entries in PRESETS.items()}
