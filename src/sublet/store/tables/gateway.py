"""What gateways tell the console (figures per model and minute), share of limits, and keep for clients. Usage goes to the ledger."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

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

# What gateways have taken of a limit in one minute since the epoch; the row of minute 0 stands for its concurrency.
limit_windows = Table(
    "limit_windows",
    metadata,
    Column("limit_id", String(40), primary_key=True),
    Column("minute", BigInteger, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("input", BigInteger, nullable=False),
    Column("output", BigInteger, nullable=False),
    Index("ix_limit_windows_minute", "minute"),
)

# Concurrent requests of a limit that a gateway's run may have under way.
limit_slots = Table(
    "limit_slots",
    metadata,
    Column("limit_id", String(40), primary_key=True),
    Column("run", String(40), primary_key=True),
    Column("slots", BigInteger, nullable=False),
    Index("ix_limit_slots_run", "run"),
)

# Runs that share limits. A run whose `beat` does not move any more is lost, and its slots return.
gateway_runs = Table(
    "gateway_runs",
    metadata,
    Column("run", String(40), primary_key=True),
    Column("beat", BigInteger, nullable=False),
)

# Responses that clients asked to keep, with what they were asked with: JSON, as the clients see it.
stored_responses = Table(
    "stored_responses",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("previous_id", String(64), nullable=False),
    Column("model", String(80), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("items", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Index("ix_stored_responses_organization_id", "organization_id", "created_at", "bytes"),
    Index("ix_stored_responses_expires_at", "expires_at"),
)

# Files that clients uploaded or that batches made. One that is not `ready` is being written, and is nobody's to see.
stored_files = Table(
    "stored_files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("project", String(80), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index("ix_stored_files_organization_id", "organization_id", "created_at"),
    Index("ix_stored_files_expires_at", "expires_at"),
)

# A file's text, in parts. They belong to no file any more once its row is gone.
file_parts = Table(
    "file_parts",
    metadata,
    Column("file_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content", Text, nullable=False),
)

# `worker` is the gateway's run that works on it, and `beat` grows while it does: one whose beat stands still is taken over.
batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("project", String(80), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("endpoint", String(80), nullable=False),
    Column("input_file_id", String(64), nullable=False),
    Column("output_file_id", String(64), nullable=False),
    Column("error_file_id", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("model", String(80), nullable=False),
    Column("metadata", Json, nullable=False),
    Column("errors", Json, nullable=False),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("input", BigInteger, nullable=False),
    Column("input_cached", BigInteger, nullable=False),
    Column("output", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("output_keep_s", Integer, nullable=False),
    Column("times", Json, nullable=False),
    Column("worker", String(40), nullable=False),
    Column("beat", BigInteger, nullable=False),
    Index("ix_batches_organization_id", "organization_id", "created_at"),
    Index("ix_batches_status", "status"),
    Index("ix_batches_input_file_id", "input_file_id"),
)

# What has become of a line of a batch: its line of the output or of the error file.
batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("failed", Boolean, nullable=False),
    Column("content", Text, nullable=False),
)

# Responses that are made in the background, until an hour after their end; then they are stored responses like all others.
# `told` says that somebody may have seen some of its events.
background_responses = Table(
    "background_responses",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("request", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("told", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("worker", String(40), nullable=False),
    Column("beat", BigInteger, nullable=False),
    # Of the request. A database would have to read a text to know its length.
    Column("request_bytes", BigInteger, nullable=False, server_default="0"),
    Index("ix_background_responses_organization_id", "organization_id", "status"),
    Index("ix_background_responses_status", "status", "created_at"),
)

# The events of those that are streamed, in parts.
response_events = Table(
    "response_events",
    metadata,
    Column("response_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content", Text, nullable=False),
)
