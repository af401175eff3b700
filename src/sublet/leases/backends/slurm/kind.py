"""The `slurm` backend as the settings have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sublet.leases.backends.site import Site
from sublet.leases.backends.slurm.backend import SlurmBackend
from sublet.leases.backends.slurm.settings import SlurmSettings
from sublet.leases.model import Timing
from sublet.values.errors import InvalidInputError

MIB = 1 << 20
_TEXTS = ("preemptible_partition", "feature", "gres", "python", "door_host", "bind_host")
OPTIONS = frozenset(
    {"shared", "partition", "accelerators_per_node", "preemptible_classes", "conf", "accounts", "timeout_s", "prepare_s",
     "clean_s", "start_grace_s", *_TEXTS}
)  # fmt: skip


def make(site: Site) -> SlurmBackend:
    """A pool's partition of a cluster. Raises InvalidInputError naming the option."""
    options, leasing, ssh = dict(site.options), site.settings.leasing, site.settings.ssh
    for name in ("shared", "partition", "accelerators_per_node"):
        if name not in options:
            raise InvalidInputError(f"backends.{site.name}.options.{name}: is missing")
    classes = str(options.get("preemptible_classes", "spot" if options.get("preemptible_partition") else ""))
    usual = Timing()
    values: dict[str, Any] = {name: str(options[name]) for name in _TEXTS if options.get(name)}
    try:
        settings = SlurmSettings(
            shared=Path(str(options["shared"])),
            partition=str(options["partition"]),
            accelerators_per_node=int(options["accelerators_per_node"]),
            preemptible_classes=frozenset(name.strip() for name in classes.split(",") if name.strip()),
            conf=Path(str(options["conf"])) if options.get("conf") else None,
            accounts=bool(options.get("accounts", False)),
            timeout_s=float(options.get("timeout_s", 8.0)),
            timing=Timing(
                prepare_s=int(options.get("prepare_s", 0)),
                clean_s=int(options.get("clean_s", 90)),
                start_grace_s=int(options.get("start_grace_s", usual.start_grace_s)),
            ),
            egress_log_days=site.settings.egress.log_days,
            sandbox={
                "egress_permitted": site.settings.egress.permit_networks,
                "egress_denied": site.settings.egress.deny_networks,
                "port_first": ssh.port_min,
                "port_last": ssh.port_max,
                "memory_bytes": leasing.memory_mib * MIB,
                "disk_bytes": leasing.disk_mib * MIB,
                "processes_max": leasing.processes_max,
            },
            **values,
        )
    except (ValueError, InvalidInputError) as error:
        raise InvalidInputError(f"backends.{site.name}.{error}") from error
    if settings.preemptible_classes and not settings.preemptible_partition:
        raise InvalidInputError(f"backends.{site.name}.options.preemptible_partition: is missing for {classes}")
    return SlurmBackend(site.name, site.clock, settings)
