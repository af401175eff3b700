"""The kinds of lease backend, and the instances that the settings name. A new kind is one file beside this one and one line here.

How to add one, and the suite that it has to pass: docs/add-a-backend.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sublet.config.settings import Settings
from sublet.leases.backends import simulated_shared
from sublet.leases.backends.base import Backend
from sublet.leases.backends.local import kind as local
from sublet.leases.backends.site import Site
from sublet.leases.backends.slurm import kind as slurm
from sublet.values.clock import Clock
from sublet.values.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class BackendKind:
    """A kind of backend. `make` raises InvalidInputError for options that it can't use, naming the option.

    `on_this_machine` says that its accelerators are this machine's own: Sublet discovers them, and samples how far the owner
    uses them. `simulated` says that nothing runs. `options` are the keys of `[backends.NAME]` that it knows. One that
    `needs_section` has no instance without a section. `features` is what its leases may have beyond accelerators
    and SSH: `network`, a way out to the hosts of allow lists; `volumes`; `images`; `jobs`; `pauses`,
    without which no class is sold by a deadline; and `moves`, to go on in another pool of the same backend and the same node.
    """

    name: str
    make: Callable[[Site], Backend]
    on_this_machine: bool = False
    simulated: bool = False
    options: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()
    needs_section: bool = False


_ALL = frozenset({"network", "volumes", "images", "pauses", "jobs", "moves"})
_CLUSTER = frozenset({"network"})
KINDS: dict[str, BackendKind] = {
    kind.name: kind
    for kind in (
        BackendKind("local", local.make, on_this_machine=True, features=_ALL),
        BackendKind(
            "simulated",
            simulated_shared.make,
            simulated=True,
            options=frozenset({"file"}),
            features=_ALL,
        ),
        BackendKind("slurm", slurm.make, options=slurm.OPTIONS, features=_CLUSTER, needs_section=True),
    )
}
"""By the name that the settings use. An instance without a section is of the kind that has its name."""


def kind_of(settings: Settings, instance: str) -> BackendKind:
    """The kind of an instance that a pool names. Raises InvalidInputError."""
    section = settings.backends.get(instance)
    name = section.kind if section is not None else instance
    kind = KINDS.get(name)
    if kind is None or (section is None and kind.needs_section):
        known = ", ".join(KINDS)
        where = f"backends.{instance}.kind" if section is not None else "pools.backend"
        raise InvalidInputError(
            f"{where} is {name!r}; use one of {known}, or the name of a section [backends.{instance}]"
        )
    return kind


def on_this_machine(settings: Settings, instance: str) -> bool:
    """Whether an instance's accelerators are those of the machine that states it; False for one that nobody here knows."""
    section = settings.backends.get(instance)
    kind = KINDS.get(section.kind if section is not None else instance)
    return kind is not None and kind.on_this_machine


def features_of(settings: Settings, instance: str) -> frozenset[str]:
    """What leases of an instance may have; nothing for one that nobody here knows."""
    section = settings.backends.get(instance)
    kind = KINDS.get(section.kind if section is not None else instance)
    return kind.features if kind is not None else frozenset()


def instances(settings: Settings, clock: Clock, accelerators: Mapping[str, int]) -> dict[str, Backend]:
    """Every backend that a pool may name: those of `[backends.NAME]`, and one for each kind that needs no section.

    `accelerators` says how many the pools of each instance have. Raises InvalidInputError.
    """
    found: dict[str, Backend] = {}
    plain = [kind.name for kind in KINDS.values() if not kind.needs_section]
    for name in dict.fromkeys((*plain, *settings.backends)):
        kind = kind_of(settings, name)
        section = settings.backends.get(name)
        options = dict(section.options) if section is not None else {}
        for key in options:
            if key not in kind.options:
                known = ", ".join(sorted(kind.options)) or "no options"
                raise InvalidInputError(f"backends.{name}.options.{key}: {kind.name} knows {known}")
        found[name] = kind.make(Site(name, settings, clock, accelerators.get(name, 0), options))
    return found
