"""What crosses the API of leases, and of the rooms that belong to them."""

from __future__ import annotations

from sublet.leases.changes.wire import (
    GiveBackRule,
    HandingBack,
    LeaseChange,
    LeaseName,
    NewLabel,
    NewLeaseChange,
    NewLeaseName,
    PriceStep,
)
from sublet.leases.images.wire import Image, ImagePage, NewImage
from sublet.leases.jobs.wire import Job, JobLog, JobPage, JobRequest, SubmittedJobs
from sublet.leases.maintenance.wire import Maintenance, MaintenancePage, MaintenancePlan, NewMaintenance
from sublet.leases.reclaim.wire import (
    OwnerWaits,
    OwnerWaitsPage,
    Reclaim,
    ReclaimCarriedOut,
    ReclaimList,
    ReclaimPreview,
    Victim,
)
from sublet.leases.volumes.wire import (
    NewSnapshot,
    NewVolume,
    NewVolumeCopy,
    Snapshot,
    SnapshotPage,
    Volume,
    VolumeCopy,
    VolumePage,
)
from sublet.leases.wire.blocks import (
    Block,
    BlockAdvice,
    BlockChanged,
    BlockCost,
    BlockDetail,
    BlockHistory,
    BlockLease,
    BlockMade,
    BlockPage,
    BlockSpan,
    CreditOwed,
    NewBlock,
    NewBlockChange,
)
from sublet.leases.wire.contracts import (
    AllowList,
    AllowLists,
    ClassList,
    ClassOfService,
    Lease,
    LeaseDetail,
    LeaseList,
    LeasePage,
    NewLease,
    NewQuote,
    NewReclaim,
    NewSshKeys,
    Plan,
    PlanStep,
    Quarantine,
    QuarantinedUnit,
    Quote,
    QuoteList,
    Release,
    Ssh,
    SshKeys,
    Transition,
    VolumeOfLease,
)

__all__ = [
    "AllowList", "AllowLists", "Block", "BlockAdvice", "BlockChanged", "BlockCost", "BlockDetail", "BlockHistory",
    "BlockLease", "BlockMade", "BlockPage", "BlockSpan", "ClassList", "ClassOfService", "CreditOwed", "GiveBackRule",
    "HandingBack", "Image", "ImagePage", "Job", "JobLog", "JobPage", "JobRequest", "Lease", "LeaseChange",
    "LeaseDetail", "LeaseList", "LeaseName", "LeasePage", "Maintenance", "MaintenancePage", "MaintenancePlan",
    "NewBlock", "NewBlockChange", "NewImage", "NewLabel", "NewLease", "NewLeaseChange", "NewLeaseName",
    "NewMaintenance", "NewQuote", "NewReclaim", "NewSnapshot", "NewSshKeys", "NewVolume", "NewVolumeCopy",
    "OwnerWaits", "OwnerWaitsPage", "Plan", "PlanStep", "PriceStep", "Quarantine", "QuarantinedUnit", "Quote",
    "QuoteList", "Reclaim", "ReclaimCarriedOut", "ReclaimList", "ReclaimPreview", "Release", "Snapshot",
    "SnapshotPage", "Ssh", "SshKeys", "SubmittedJobs", "Transition", "Victim", "Volume", "VolumeCopy",
    "VolumeOfLease", "VolumePage",
]  # fmt: skip
