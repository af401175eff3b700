"""The only place where the domains are wired: what leases need from surplus and ledger, and what surplus needs from the book."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from sqlalchemy import Connection

from sublet.accounts import store as accounts_sql
from sublet.accounts.oidc.service import SignInElsewhere
from sublet.accounts.passkeys.service import Passkeys
from sublet.accounts.people.letters import send_letters
from sublet.accounts.people.service import People
from sublet.accounts.people.sessions import Sessions
from sublet.accounts.service import Accounts
from sublet.allocation.chargeback.service import Chargeback
from sublet.allocation.service import Allocation
from sublet.config.settings import Settings
from sublet.demand.service import Demand
from sublet.fleet import store as fleet_sql
from sublet.fleet.discovery import site_name
from sublet.fleet.leadership import Alone, Leadership, Leads
from sublet.fleet.model import Pool, PoolSpec
from sublet.fleet.nodes import Nodes, node_id_in, own_node_id
from sublet.fleet.reach import OwnReach, unreachable_pools
from sublet.fleet.service import Fleet
from sublet.gateway.model import UsageRecord
from sublet.leases import store as leases_sql
from sublet.leases.backends import registry
from sublet.leases.backends.base import Backend
from sublet.leases.backends.engine import PLAIN, Traits
from sublet.leases.backends.local.kind import images_directory
from sublet.leases.blocks.service import Blocks
from sublet.leases.deadlines import store as deadline_sql
from sublet.leases.images.model import ImageLimits
from sublet.leases.images.service import ImageSite
from sublet.leases.maintenance.service import MaintenanceWindows
from sublet.leases.model import Timing
from sublet.leases.ports import LeasePorts, ModelPorts
from sublet.leases.quotes import calendar
from sublet.leases.quotes.holds import HoldLimits
from sublet.leases.service import Leases
from sublet.leases.volumes.model import StorageHour, VolumeLimits
from sublet.leases.waitlist.limits import WaitlistLimits
from sublet.ledger.assembly import ledger_of
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import book_from_dict, book_from_toml
from sublet.models import store as models_sql
from sublet.models.catalog import built_in
from sublet.models.routes.service import Routes
from sublet.models.service import Models, planned_pools
from sublet.notifications.channels import channels_of
from sublet.notifications.channels.base import Channel
from sublet.notifications.channels.email import EmailChannel
from sublet.notifications.service import Notifications
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.store.sealing import Sealing, sealing_of
from sublet.surplus.record.service import Record
from sublet.values.clock import Clock, SystemClock
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.money import CurrencyMismatchError
from sublet.values.plan import Plan, in_time
from sublet.values.windows import Window
from sublet.wiring import pricing
from sublet.wiring.capacity import Capacity
from sublet.wiring.lease_money import LEASE_SOURCE, LeaseMoney, pool_of
from sublet.wiring.owned import pool_specs, served_elsewhere
from sublet.wiring.questions import questions, with_notice
from sublet.wiring.requests import take_usage
from sublet.wiring.stated_routes import stated_routes
from sublet.wiring.yield_books import chargeback_ports, check_teams
from sublet.wiring.yield_facts import allocation_ports, list_price
from sublet.wiring.yield_report import yield_report

PENDING_MAX = 2_000
GATEWAY_SOURCE = "sublet/gateway"


class Sublet:
    """All the domains on one database, wired to each other."""

    def __init__(
        self, settings: Settings, clock: Clock | None = None, backends: Mapping[str, Backend] | None = None
    ) -> None:
        """`backends` replaces the real ones by name. Migrates the database, and raises its errors."""
        self.settings = settings
        self.store = Store(settings.database_url, clock)
        migrate(self.store)
        self.clock = self.store.clock
        self.accounts = Accounts(self.store, lambda: self.sealing)
        self.fleet = Fleet(self.store)
        self.demand = Demand(self.store, settings.demand.history_days)
        self.ledger = ledger_of(self.store, settings.billing, leases_sql.accelerators_of)
        offered = settings.models
        self.models = Models(
            self.store, built_in(offered.slots, offered.context_tokens), offered.service_class, self._away
        )
        self.routes = Routes(self.store, self.models.catalog, stated_routes(settings))
        self._backend_names: dict[str, str] = {}
        self._node_id: str | None = None
        self.backends: Mapping[str, Backend] = backends if backends is not None else real_backends(settings, self.clock)
        self.capacity = Capacity(
            settings, self.store, self.fleet, self.demand, self.models, self._backend_room, self._timing_of, self._quota
        )
        self.allocation = Allocation(
            self.store,
            allocation_ports(settings, self.store, self.capacity, self.models, self.ledger),
            Chargeback(
                self.store,
                chargeback_ports(settings, self.store, self.capacity, self.ledger, self.accounts),
                settings.allocation.chargeback_basis,
                settings.allocation.solver_s,
            ),
            yield_report(settings, self.store),
            settings.allocation.solver_s,
        )
        self.surplus = self.capacity.surplus
        self.leadership: Leads = Alone() if self.store.is_sqlite else Leadership(self.store, self.node_id)
        self.reach = OwnReach(self.node_id, lambda: self.leadership)
        ports = self._lease_ports()
        self.blocks = Blocks(self.store, self.capacity.blocks, self.capacity.facts, ports)
        self.maintenance = MaintenanceWindows(self.store, self.capacity.facts, ports)
        self.leases = Leases(self.store, self.backends, ports, workers=4 if backends is None else 1, reach=self.reach)
        self.record = Record(
            self.store,
            self.demand,
            self.capacity.pool_facts,
            self.leases.promises,
            self.surplus.classes,
            self.capacity.blocks.kept_off,
        )

    @cached_property
    def sealing(self) -> Sealing:
        """Encrypts stored secrets. Raises InvalidInputError, OSError."""
        stated = self.settings.secrets
        return sealing_of(self.settings.data_dir, stated.key.get_secret_value(), stated.previous_key.get_secret_value())

    @cached_property
    def channels(self) -> dict[str, Channel]:
        """The channels by which messages reach people."""
        return channels_of(self.settings)

    @cached_property
    def notifications(self) -> Notifications:
        return Notifications(
            self.store,
            self.channels,
            self.sealing,
            self.settings.notifications.subscriptions_max,
            self.settings.control.public_url,
        )

    @cached_property
    def people(self) -> People:
        """People and their sign-in. Without a mail server, links are only shown."""
        mails = bool(self.settings.mail.host)
        return People(self.accounts, self.settings.control.public_url, (lambda: self.sealing) if mails else None)

    @cached_property
    def sessions(self) -> Sessions:
        return Sessions(self.accounts)

    @cached_property
    def elsewhere(self) -> SignInElsewhere:
        """Sign-in with the providers of the settings."""
        stated = self.settings
        return SignInElsewhere(
            self.accounts, self.sessions, stated.oidc, stated.control.public_url, lambda: self.sealing
        )

    @cached_property
    def passkeys(self) -> Passkeys:
        return Passkeys(self.accounts, self.sessions)

    def send_letters(self) -> int:
        """Send waiting mail to people. Returns how many messages were sent."""
        mail = self.channels["email"]
        assert isinstance(mail, EmailChannel)
        return send_letters(self.store, self.sealing, mail.post)

    def close(self) -> None:
        self.store.close()

    def node_id(self) -> str | None:
        """The node with this data directory, or None if it has never served."""
        if self._node_id is None:
            self._node_id = node_id_in(self.settings.data_dir)
        return self._node_id

    # -- own

    def sync_fleet(self) -> list[Pool]:
        """Apply the settings and what the machine has to pools, built-in prices and deployments."""
        node_id = own_node_id(self.settings.data_dir)
        Nodes(self.store).register(node_id, self.settings.control.node or site_name(), alone=self.store.is_sqlite)
        pools = self.fleet.sync(self._specs(), node_id)
        if self.leadership.leads("fleet") or self._unpriced(pools):
            self._publish_prices(pools)
        model = self.settings.models.default
        mine = (pool for pool in pools if pool.on_one_node and pool.offline_at is None and node_id in pool.node_ids)
        home = next(mine, None)
        if model and home is not None and not self.models.deployed_beside(model, home.id):
            self.models.deploy(model, home.id, floor=self.settings.models.floor)
        return pools

    def _specs(self) -> list[PoolSpec]:
        """The pools that the settings state, with what their backend says of tenants."""
        specs = []
        for spec in pool_specs(self.settings):
            backend = self.backends.get(spec.backend)
            exclusive = backend is not None and backend.tenants_max is not None and backend.tenants_max <= 1
            # On SQLite no other machine asks.
            told = {
                "exclusive": exclusive,
                "served_max": None if self.store.is_sqlite else self._served_max(spec.backend),
            }
            specs.append(replace(spec, stated={**spec.stated, **told}))
        return specs

    def _unpriced(self, pools: Sequence[Pool]) -> bool:
        """Whether a new pool has no built-in price yet: its own control plane need not wait for the one that leads."""
        if self.settings.prices is not None:
            return False
        return pricing.lacks(self.ledger.prices().content, pricing.wanted(self.settings, pools))

    def _publish_prices(self, pools: Sequence[Pool]) -> None:
        if self.settings.prices is not None:
            path = self.settings.prices
            try:
                book = book_from_toml(path.read_text(), str(path))
            except OSError as error:
                raise InvalidInputError(
                    f"prices: {path} can't be read ({error.strerror}); specify a readable price book"
                ) from error
        else:
            before = self.ledger.prices().content
            content = pricing.merged(before, pricing.wanted(self.settings, pools), self.clock.now())
            book = book_from_dict(content, "prices from the settings")
        self.ledger.publish_prices(book)

    # -- sell

    def _lease_ports(self) -> LeasePorts:
        money = LeaseMoney(self.ledger, self.clock, self._taken)
        sellable, offer, block_rooms = questions(self.surplus)
        return LeasePorts(
            sellable=sellable,
            sellable_with_notice=with_notice(self.surplus),
            offer=offer,
            block_rooms=block_rooms,
            remembering=self._remembering,
            price=self.price,
            may_stay=self.capacity.may_stay,
            need=self.capacity.need,
            waiting=self.capacity.waiting,
            room_while_waiting=self.capacity.room_while_waiting,
            models=ModelPorts(self.capacity.occupants, self.models.give_notice, self.models.withdraw_notice),
            emit=money.emit,
            post_credit=money.credit,
            authorize=self._authorize,
            reserve=money.reserve,
            settle=money.settle,
            rebook=money.rebook,
            project_of=money.project_of,
            key_stands=money.key_stands,
            charge=money.charge,
            shareable=self._shareable,
            holds=hold_limits(self.settings),
            waitlist=WaitlistLimits(**self.settings.waitlist.model_dump()),
            classes=self.capacity.classes,
            class_default=self.settings.quotes.service_class,
            timing=Timing(),
            engine_of=self._engine_of,
            egress=self.settings.egress.policy,
            features=lambda backend: registry.features_of(self.settings, backend),
            emit_storage=self._emit_storage,
            volumes=VolumeLimits(
                self.settings.volumes.mib_per_organization,
                self.settings.volumes.count_per_organization,
                self.settings.volumes.reclaim_snapshot_days * 86_400,
            ),
            images=image_site(self.settings, self.node_id),
        )

    def _remembering(self, ports: LeasePorts) -> LeasePorts:
        sellable, offer, block_rooms = questions(surplus := self.surplus.remembering())
        return replace(
            ports, sellable=sellable, sellable_with_notice=with_notice(surplus), offer=offer, block_rooms=block_rooms
        )

    def _engine_of(self, connection: Connection, pool_id: str) -> Traits:
        """Asked at each quote, so which backend a pool is on is remembered: that changes with the settings alone."""
        name = self._backend_names.get(pool_id)
        if name is None:
            name = self._backend_names[pool_id] = pool_of(connection, pool_id).backend
        backend = self.backends.get(name)
        return backend.traits if backend is not None else PLAIN

    def _timing_of(self, name: str) -> Timing:
        backend = self.backends.get(name)
        return (backend.traits.timing if backend is not None else None) or Timing()

    def _served_max(self, instance: str) -> int | None:
        backend = self.backends.get(instance)
        return backend.served_max() if backend is not None else None

    def _backend_room(self, pool: Pool, window: Window, connection: Connection) -> int:
        """What the disk of the pool's machine has room for, where its leases have their homes there."""
        now = self.clock.now()
        if pool.node_ids and self.node_id() not in pool.node_ids:
            served_max = served_elsewhere(pool, connection, now)
        else:
            served_max = self._served_max(pool.backend)
        if served_max is None:
            return pool.accelerators
        beside = [
            each.id
            for each in fleet_sql.all_pools(connection)
            if each.backend == pool.backend and each.node_ids == pool.node_ids
        ]
        sold = [item for each in beside for item in calendar.book(connection, each, now, window)]
        sold += [item for each in beside for item in deadline_sql.waiting(connection, each, now)]
        return max(0, served_max - calendar.most_at_once(sold, window))

    def price(
        self, connection: Connection, pool_id: str, class_name: str, window: Window, organization_id: str
    ) -> tuple[int, str]:
        """The price for that organization now, in nano-units per accelerator-hour, and its currency. Raises
        CurrencyMismatchError, and InvalidInputError if the price book has none."""
        pool = pool_of(connection, pool_id)
        organization = accounts_sql.organization_by(connection, id=organization_id)
        if organization is None:
            raise NotFoundError()
        currency = organization.currency
        dimensions = {"pool": pool.name, "generation": pool.generation, "class": class_name, "site": pool.site}
        book = self.ledger.books.current(connection)
        rate = book.rate_for(organization_id, currency, "accelerator.seconds", dimensions, self.clock.now())
        if rate is None and currency != pool.currency:
            raise CurrencyMismatchError(
                f"this pool is priced in {pool.currency} and {organization.name} is billed in {currency}; "
                "ask the operator for a price in that currency"
            )
        # A discount is taken off what is used, when it is rated: in the quote it would be taken twice.
        unit = rate.price.tariff.unit_price() if rate is not None else None
        if unit is None:
            raise InvalidInputError(
                f"there is no price per unit for {class_name} on {pool.name} in {currency}; add one to the price book"
            )
        # The meter counts milliseconds; a quote is in whole nano-units per hour, rounded up.
        return math.ceil(unit * 1000 * 3600), currency

    def check_teams(self, teams: Collection[str]) -> None:
        """Raises InvalidInputError for an id that no internal team has."""
        with self.store.read() as connection:
            check_teams(connection, teams)

    def _quota(self, pool_id: str, class_name: str, window: Window, connection: Connection) -> int | None:
        """What yield leaves a class on a pool that it acts on."""

        def price() -> float | None:
            pool = pool_of(connection, pool_id)
            return list_price(self.ledger.books.current(connection), pool, class_name, self.clock.now())

        return self.allocation.allowed(connection, (pool_id, class_name, window.seconds / 3600), price)

    def _shareable(self, connection: Connection, pool_id: str) -> bool:
        # Only the pool's own machine knows what its isolation is worth; it wrote that down.
        return not self.fleet.pool(pool_id, connection).stated.get("exclusive")

    def _authorize(self, connection: Connection, organization_id: str, total_nano: int, currency: str) -> None:
        organization = accounts_sql.organization_by(connection, id=organization_id)
        if organization is None:
            raise NotFoundError()
        if organization.status != "active":
            # Its keys are refused anyway; what buys by itself, such as the waiting list, has none.
            raise ConflictError(f"{organization.name} is suspended, so it can't buy anything; resume it first")
        if organization.currency != currency:
            raise CurrencyMismatchError(
                f"this pool is priced in {currency} and {organization.name} is billed in {organization.currency}; "
                "ask the operator for a price in that currency"
            )

    # -- earn

    def _emit_storage(self, connection: Connection, hour: StorageHour) -> None:
        """If the book has no price for storage, it is free: an event without a price would wait for one."""
        pool = pool_of(connection, hour.pool_id)
        organization = accounts_sql.organization_by(connection, id=hour.organization_id)
        if organization is None:
            return
        dimensions = {"pool": pool.name, "site": pool.site}
        book = self.ledger.books.current(connection)
        if book.rate_for(organization.id, organization.currency, "storage.mib_hours", dimensions, hour.start) is None:
            return
        event = UsageEvent(
            source=LEASE_SOURCE,
            id=hour.id,
            organization_id=organization.id,
            meter="storage.mib_hours",
            quantity=hour.size_mib,
            at=hour.start,
            resource=hour.volume_id,
            dimensions=dimensions,
        )
        self._taken([event], connection)

    def emit_tokens(self, records: list[UsageRecord]) -> None:
        """Record the gateway's usage and settle its holds. Durable when this returns, and idempotent."""
        self.store.write(lambda connection: self.bill_tokens(connection, records))

    def bill_tokens(self, connection: Connection, records: Sequence[UsageRecord]) -> None:
        """The same, in the caller's transaction. Raises InvalidInputError if the ledger refuses one of them."""
        take_usage(connection, self.ledger, GATEWAY_SOURCE, records, self.clock.now())

    def _taken(self, events: Sequence[UsageEvent], connection: Connection) -> int:
        """How many of `events` were new. Raises InvalidInputError if one is refused."""
        taken = self.ledger.take(connection, events)
        if taken.refused:
            first = taken.refused[0]
            raise InvalidInputError(
                f"the ledger refused usage event {first.id}: {first.message}", refused=len(taken.refused)
            )
        return taken.accepted

    # -- the loop's next plan

    def plan(self) -> Plan:
        """What the next round would do, leases first, then models, and every pending change. Nothing is carried out."""
        leases = self.leases.plan()
        models = self.models.plan(*self.room(), reach=self.reach)
        pending = in_time((*leases.pending, *models.pending, *self.capacity.pending()), PENDING_MAX)
        return Plan(leases.made_at, (*leases.steps, *models.steps), pending)

    def _away(self, connection: Connection) -> Mapping[str, str]:
        """The nodes that do not respond. On SQLite, there is only this one."""
        if self.store.is_sqlite:
            return {}
        return unreachable_pools(connection, self.reach.pools(connection), self.clock.now())

    def room(self) -> tuple[dict[str, int], dict[str, int]]:
        """By pool that models are deployed on: room for replicas, and what even floors may not exceed."""
        with self.store.read() as connection:
            deployments = models_sql.all_deployments(connection)
            replicas = models_sql.live_replicas(connection)
            planned = planned_pools(deployments, replicas, self.reach.pools(connection))
            known = {pool.id for pool in fleet_sql.all_pools(connection)}
            pools = sorted({pool_id for item in deployments for pool_id in item.pool_ids} & planned & known)
            room = {pool_id: self.capacity.model_room(connection, pool_id) for pool_id in pools}
            decided = self.allocation.room(connection)
            room = {pool_id: min(count, decided.get(pool_id, count)) for pool_id, count in room.items()}
            return room, {pool_id: self.capacity.model_limit(connection, pool_id) for pool_id in pools}


def image_site(settings: Settings, node_id: Callable[[], str | None]) -> ImageSite:
    """Where images are kept, and what they may be. Only root can mount them; others unpack them."""
    stated = settings.images
    limits = ImageLimits(
        mib_max=stated.mib_per_organization,
        count_max=stated.count_per_organization,
        upload_mib_max=stated.upload_mib,
        unpacked_mib_max=stated.unpacked_mib,
        files_max=stated.files,
        unused_s=stated.unused_days * 86_400,
        shared=stated.directory is not None,
    )
    return ImageSite(limits, images_directory(settings), node_id, unpack=os.geteuid() != 0)


def real_backends(settings: Settings, clock: Clock) -> dict[str, Backend]:
    """Every backend that a pool of the settings may name."""
    counts: dict[str, int] = {}
    for spec in pool_specs(settings):
        counts[spec.backend] = counts.get(spec.backend, 0) + len(spec.devices)
    return registry.instances(settings, clock, counts)


def local_backend(settings: Settings) -> Backend:
    """The backend of this machine's leases, as the settings have it."""
    return real_backends(settings, SystemClock())["local"]


def hold_limits(settings: Settings) -> HoldLimits:
    """What the open quotes of one organization may hold."""
    quotes = settings.quotes
    return HoldLimits(
        quotes.open_max,
        quotes.hold_s,
        round(quotes.hold_window_hours * 3600),
        quotes.idle_share_max,
        quotes.pool_share_max,
    )
