"""What an organization keeps for its leases: volumes with their snapshots, and images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sublet.accounts.model import acting_for
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.leases.images.service import Images
from sublet.leases.volumes.files import Snapshot
from sublet.leases.volumes.model import Volume
from sublet.leases.volumes.service import NewVolume, Volumes
from sublet.store.paging import PageRequest
from sublet.values.errors import InvalidInputError

VOLUMES, IMAGES = "/volumes", "/images"
SHOWN_MAX = 100


class Storing:
    """The screens of volumes and images, for tenants."""

    def __init__(
        self,
        volumes: Volumes,
        images: Images,
        pool_names: Callable[[], Mapping[str, str]],
        usual: Callable[[], Sequence[str]],
    ) -> None:
        """`usual` gives the names of the pools that may have volumes, in the order in which they are offered."""
        self._volumes, self._images, self._pool_names, self._usual = volumes, images, pool_names, usual

    def screens(self) -> tuple[Screen, ...]:
        """`/volumes`, `/volumes/{volume_id}` and `/images`."""
        read, write = "leases:read", "leases:write"
        one = {
            "snapshot": Act(write, self._snapshot, once=Snapshot),
            "restore": Act(write, self._restore),
            "drop": Act(write, self._drop),
            "remove": Act(write, self._remove),
        }
        return (
            Screen(
                VOLUMES,
                "Volumes",
                read,
                self._show_all,
                {"create": Act(write, self._create, once=Volume)},
                tenants=True,
            ),
            Screen(f"{VOLUMES}/{{volume_id}}", "", read, self._show_one, one),
            Screen(IMAGES, "Images", read, self._show_images, {"remove": Act(write, self._remove_image)}, tenants=True),
        )

    def _show_all(self, visit: Visit) -> Drawn:
        page = self._volumes.page(visit.actor.organization_id, PageRequest(SHOWN_MAX, visit.query.get("after")))
        return Drawn(
            "volumes.html", {"page": page, "pools": self._pool_names(), "names": self._usual(), **self._about(visit)}
        )

    def _show_one(self, visit: Visit) -> Drawn:
        volume = self._volumes.volume(visit.path["volume_id"], visit.actor.organization_id)
        wanted = PageRequest(SHOWN_MAX, visit.query.get("after"))
        snapshots = self._volumes.snapshots.page(volume.id, visit.actor.organization_id, wanted)
        pool = self._pool_names().get(volume.pool_id, volume.pool_id)
        return Drawn(
            "volume.html", {"volume": volume, "page": snapshots, "pool": pool, "here": "Volumes", **self._about(visit)}
        )

    def _show_images(self, visit: Visit) -> Drawn:
        whose = visit.actor.organization_id
        page = self._images.page(whose, PageRequest(SHOWN_MAX, visit.query.get("after")))
        used = self._images.leases_on(page.items, whose)
        return Drawn("images.html", {"page": page, "used": used, "whose": whose, **self._about(visit)})

    def _about(self, visit: Visit) -> dict[str, object]:
        return {"may_write": bool(visit.actor.may("leases:write")), "fields": visit.form.fields, "at": visit.at}

    def _create(self, visit: Visit) -> Go:
        form = visit.form
        wanted = NewVolume(
            form.text("name"), form.number("size_mib", "the size"), form.text("pool"), acting_for(visit.actor)
        )
        self._volumes.create(visit.actor.organization_id, wanted)
        return Go(VOLUMES)

    def _snapshot(self, visit: Visit) -> Go:
        whose, project = visit.actor.organization_id, acting_for(visit.actor)
        self._volumes.snapshots.create(visit.path["volume_id"], whose, visit.form.text("name"), project)
        return self._back(visit)

    def _restore(self, visit: Visit) -> Go:
        _sure(visit, "what the volume holds now will be lost")
        whose, project = visit.actor.organization_id, acting_for(visit.actor)
        self._volumes.snapshots.restore(visit.path["volume_id"], whose, visit.form.text("snapshot")[:40], project)
        return self._back(visit)

    def _drop(self, visit: Visit) -> Go:
        whose, project = visit.actor.organization_id, acting_for(visit.actor)
        self._volumes.snapshots.remove(visit.path["volume_id"], whose, visit.form.text("snapshot")[:40], project)
        return self._back(visit)

    def _remove(self, visit: Visit) -> Go:
        _sure(visit, "everything on the volume will be deleted")
        self._volumes.remove(visit.path["volume_id"], visit.actor.organization_id, acting_for(visit.actor))
        return Go(VOLUMES)

    def _remove_image(self, visit: Visit) -> Go:
        self._images.remove(visit.form.text("image")[:40], visit.actor.organization_id, acting_for(visit.actor))
        return Go(IMAGES)

    def _back(self, visit: Visit) -> Go:
        volume = self._volumes.volume(visit.path["volume_id"], visit.actor.organization_id)
        return Go(f"{VOLUMES}/{volume.id}")


def _sure(visit: Visit, what: str) -> None:
    """Raises InvalidInputError where the box is not checked."""
    if visit.form.text("sure") != "yes":
        raise InvalidInputError(f"select the checkbox to confirm that {what}")
