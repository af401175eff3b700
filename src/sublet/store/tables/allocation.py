"""Yield: rounds of the mix, what was asked for by the hour, and which models' scale it set."""

from sqlalchemy import BigInteger, Column, Float, Integer, String, Table

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

# A round: the mix and what it was decided from, as `sublet yield plan` shows it.
allocation_rounds = Table(
    "allocation_rounds",
    metadata,
    Column("at", Instant, primary_key=True),
    Column("document", Json, nullable=False),
)

# Quotes of one hour by pool, class, length and price: how many were asked for and accepted, and their accelerators.
allocation_asked = Table(
    "allocation_asked",
    metadata,
    Column("hour", Instant, primary_key=True),
    Column("pool_id", String(40), primary_key=True),
    Column("class_name", String(16), primary_key=True),
    Column("length_h", Float(53), primary_key=True),
    Column("price_nano", BigInteger, primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("quotes", Integer, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("accelerators", BigInteger, nullable=False),
    Column("accelerators_accepted", BigInteger, nullable=False),
)

# Hours whose quotes are counted in allocation_asked, so that none counts twice.
allocation_hours = Table("allocation_hours", metadata, Column("hour", Instant, primary_key=True))

# Models whose scale a round set; another scale than this one was set by hand since.
allocation_scales = Table(
    "allocation_scales",
    metadata,
    Column("model", String(80), primary_key=True),
    Column("replicas", Integer, nullable=False),
    Column("at", Instant, nullable=False),
)

# What the last round limits on a pool that is acted on: accelerators for replicas, and quotas by class and length.
allocation_limits = Table(
    "allocation_limits",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("at", Instant, nullable=False),
    Column("room", Integer, nullable=False),
    Column("quotas", Json, nullable=False),
)

# What was still on sale of a pool at each round: between what was used and what was kept off sale. Read when its hour is over.
allocation_on_sale = Table(
    "allocation_on_sale",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("accelerators", Integer, nullable=False),
)

# The book of one hour of a pool: every accelerator-second by state, team and product, and what an accelerator-hour was worth.
# `displaced_nano` is what the owner's whole use of that hour would have earned otherwise; null where nobody can say.
allocation_books = Table(
    "allocation_books",
    metadata,
    Column("hour", Instant, primary_key=True),
    Column("pool_id", String(40), primary_key=True),
    Column("currency", String(3), nullable=False),
    Column("capacity_s", BigInteger, nullable=False),
    Column("excess_s", BigInteger, nullable=False),
    Column("states", Json, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("market_nano", BigInteger, nullable=False),
    Column("displaced_nano", BigInteger, nullable=True),
    # What the hour could have earned (`report.hours.HourWorth`), in major units.
    Column("worth", Json, nullable=True),
)
