"""The operations of images, volumes and jobs: what organizations keep for their leases, and run on them."""

from __future__ import annotations

from sublet.client.operation import PAGE, Operation

LEASES: tuple[Operation, ...] = (
    Operation("images.create", "POST", "/v1/images", body="leases:NewImage", answer="leases:Image"),
    Operation(
        "images.upload", "PUT", "/v1/images/{image}/content", query=("offset",), body="raw", answer="leases:Image"
    ),
    Operation("images.list_images", "GET", "/v1/images", query=PAGE, answer="leases:ImagePage", items="images"),
    Operation("images.show", "GET", "/v1/images/{image}", answer="leases:Image"),
    Operation("images.remove", "DELETE", "/v1/images/{image}", answer="leases:Image"),
    Operation("volumes.create", "POST", "/v1/volumes", body="leases:NewVolume", answer="leases:Volume"),
    Operation("volumes.list_volumes", "GET", "/v1/volumes", query=PAGE, answer="leases:VolumePage", items="volumes"),
    Operation("volumes.show", "GET", "/v1/volumes/{volume}", answer="leases:Volume"),
    Operation("volumes.remove", "DELETE", "/v1/volumes/{volume}", answer="leases:Volume"),
    Operation(
        "volumes.copy_in",
        "POST",
        "/v1/volumes/{volume}/copies",
        body="leases:NewVolumeCopy",
        answer="leases:VolumeCopy",
    ),
    Operation(
        "volumes.upload",
        "PUT",
        "/v1/volumes/{volume}/copies/{copy_id}/content",
        query=("offset",),
        body="raw",
        answer="leases:VolumeCopy",
    ),
    Operation("volumes.show_copy", "GET", "/v1/volumes/{volume}/copies/{copy_id}", answer="leases:VolumeCopy"),
    Operation("volumes.copy_out", "GET", "/v1/volumes/{volume}/content", query=("path",), answer="bytes"),
    Operation(
        "volumes.snapshot",
        "POST",
        "/v1/volumes/{volume}/snapshots",
        body="leases:NewSnapshot",
        answer="leases:Snapshot",
    ),
    Operation(
        "volumes.list_snapshots",
        "GET",
        "/v1/volumes/{volume}/snapshots",
        query=PAGE,
        answer="leases:SnapshotPage",
        items="snapshots",
    ),
    Operation(
        "volumes.remove_snapshot",
        "DELETE",
        "/v1/volumes/{volume}/snapshots/{snapshot_id}",
        answer="leases:Snapshot",
    ),
    Operation(
        "volumes.restore",
        "POST",
        "/v1/volumes/{volume}/snapshots/{snapshot_id}/restore",
        answer="leases:Volume",
    ),
    Operation("jobs.submit", "POST", "/v1/jobs", body="leases:JobRequest", answer="leases:SubmittedJobs"),
    Operation("jobs.list_jobs", "GET", "/v1/jobs", query=PAGE, answer="leases:JobPage", items="jobs"),
    Operation("jobs.show", "GET", "/v1/jobs/{job_id}", answer="leases:Job"),
    Operation("jobs.log", "GET", "/v1/jobs/{job_id}/log", query=("offset",), answer="leases:JobLog"),
    Operation("jobs.cancel", "POST", "/v1/jobs/{job_id}/cancel", answer="leases:SubmittedJobs"),
    Operation("waitlist.join", "POST", "/v1/waitlist", body="leases:NewWaitlistEntry", answer="leases:WaitlistEntry"),
    Operation(
        "waitlist.list_entries", "GET", "/v1/waitlist", query=PAGE, answer="leases:WaitlistPage", items="entries"
    ),
    Operation("waitlist.show", "GET", "/v1/waitlist/{entry_id}", answer="leases:WaitlistEntry"),
    Operation("waitlist.leave", "DELETE", "/v1/waitlist/{entry_id}", answer="leases:WaitlistEntry"),
    Operation("waitlist.unmet_demand", "GET", "/v1/unmet-demand", answer="leases:UnmetDemandList"),
)
