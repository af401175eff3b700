"""What the gateway tells the console: figures per model and minute. Usage itself goes to the ledger."""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table

from sublet.store.metadata import metadata
from sublet.store.types import Instant

model_stats = Table(
    "model_stats",
    metadata,
    Column("run", String(40), primary_key=True),
    Column("minute", Instant, primary_key=True),
    Column("model", String(80), primary_key=True),
    Column("requests", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("tokens_input", BigInteger, nullable=False),
    Column("tokens_input_cached", BigInteger, nullable=False),
    Column("tokens_output", BigInteger, nullable=False),
    Column("ttft_ms_p50", Integer, nullable=False),
    Column("ttft_ms_p95", Integer, nullable=False),
    Column("queue_ms_p95", Integer, nullable=False),
    Column("busy_ms", BigInteger, nullable=False),
    Index(None, "minute"),
)
