"""The `local` backend as the settings have it."""

from __future__ import annotations

from pathlib import Path

from sublet.config.settings import Settings
from sublet.leases.backends.local.backend import LocalBackend, LocalSettings
from sublet.leases.backends.site import Site

MIB = 1 << 20


def make(site: Site) -> LocalBackend:
    """The leases of this machine, below the data directory."""
    settings, leasing = site.settings, site.settings.leasing
    return LocalBackend(
        LocalSettings(
            base=settings.data_dir / "leases",
            images=images_directory(settings),
            accelerators=site.accelerators,
            bind_host=settings.ssh.host,
            public_host=settings.ssh.public_host,
            port_first=settings.ssh.port_min,
            port_last=settings.ssh.port_max,
            memory_bytes=leasing.memory_mib * MIB,
            disk_bytes=leasing.disk_mib * MIB,
            processes_max=leasing.processes_max,
            home_keep_s=round(leasing.home_keep_hours * 3600),
            allow_soft_isolation=leasing.allow_soft_isolation,
            egress_permitted=settings.egress.permit_networks,
            egress_denied=settings.egress.deny_networks,
            egress_log_days=settings.egress.log_days,
        )
    )


def images_directory(settings: Settings) -> Path:
    """Where the images of this machine's leases are."""
    return settings.images.directory or settings.data_dir / "images"
