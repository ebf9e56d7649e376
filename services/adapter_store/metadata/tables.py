"""The tables. Times are microseconds since 1970 in UTC; digests are hex; JSON holds small, closed values."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the key is spelled INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")


def _name(max_chars: int) -> TypeEngine[str]:
    """What lists are ordered by: by code point in every database, whatever its locale."""
    return String(max_chars, collation="C").with_variant(String(max_chars), "sqlite")


base_models = Table(
    "base_models",
    metadata,
    Column("name", _name(256), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("architecture", String(128), nullable=False),
    Column("hidden_size", Integer, nullable=False),
    Column("num_layers", Integer, nullable=False),
    Column("max_rank", Integer, nullable=False),
    Column("modules", JSON, nullable=False),
)

adapters = Table(
    "adapters",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("tenant", _name(63), nullable=False),
    Column("adapter", _name(63), nullable=False),
    Column("base_model", ForeignKey("base_models.name"), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("last_version", BigInteger, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("update_time_us", BigInteger, nullable=False),
    # Set: the name is free again, and goes on with last_version + 1 when it is taken.
    Column("delete_time_us", BigInteger),
    UniqueConstraint("tenant", "adapter"),
)

versions = Table(
    "versions",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("base_model", String(256), nullable=False),
    # Of the base model that the version was checked against; null until it has been.
    Column("base_model_digest", String(64)),
    Column("key", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("status_message", Text, nullable=False),
    # These six are null until validation has filled them all.
    Column("rank", Integer),
    Column("alpha", Float),
    Column("target_modules", JSON(none_as_null=True)),
    Column("rslora", Boolean),
    Column("dora", Boolean),
    Column("num_parameters", BigInteger),
    Column("labels", JSON, nullable=False),
    Column("lineage", JSON, nullable=False),
    # Both null: the version is not signed. The signature is base64 of Ed25519's 64 bytes.
    Column("signature_key_id", String(63)),
    Column("signature", String(88)),
    Column("create_time_us", BigInteger, nullable=False),
    Column("delete_time_us", BigInteger),
    Index(None, "key"),
    # The highest version in a state, however many there are in others.
    Index(None, "adapter_id", "state", "version"),
)

version_files = Table(
    "version_files",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    # True once the bytes are verified and durable in the blob store.
    Column("stored", Boolean, nullable=False),
    Index(None, "sha256"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("adapter_id", ForeignKey("adapters.id"), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("request_id", String(128)),
    Column("fingerprint", String(64), nullable=False),
    Column("refusal", JSON(none_as_null=True)),
    Column("create_time_us", BigInteger, nullable=False),
    UniqueConstraint("adapter_id", "version"),
    UniqueConstraint("adapter_id", "request_id"),
    Index(None, "state"),
)

# Whose bytes a blob is: a tenant may reuse only what it has sent itself.
tenant_blobs = Table(
    "tenant_blobs",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
)

# How many of a tenant's versions that count against its quotas refer to each file.
tenant_files = Table(
    "tenant_files",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("num_versions", BigInteger, nullable=False),
    # Those that no version refers to any more, in the transaction that makes them so.
    Index(None, "tenant", "num_versions"),
)

# What the store knows of each blob. DELETING: garbage collection is removing it; who needs the bytes waits
# until the row is gone and stores them again.
blobs = Table(
    "blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Index(None, "state"),
)

# How far each file of an open upload has come, where bytes are staged in shared object storage: any replica
# can go on. `persisted_bytes` is the compare-and-swap that keeps two writers from mixing. They are the parts
# of one multipart upload, numbered from 1, and after them the tail, an object of its own named by its digest.
upload_files = Table(
    "upload_files",
    metadata,
    Column("upload_id", ForeignKey("uploads.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    # Empty until there is a part.
    Column("multipart_id", Text, nullable=False),
    Column("persisted_bytes", BigInteger, nullable=False),
    Column("tail_bytes", Integer, nullable=False),
    # Empty: no tail.
    Column("tail_sha256", String(64), nullable=False),
    # Where the hash stands after the parts: SHA-256's eight words in hex. Empty: no part.
    Column("hash_state", String(64), nullable=False),
    Column("update_time_us", BigInteger, nullable=False),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload_id", ForeignKey("uploads.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("part_number", Integer, primary_key=True, autoincrement=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
)

# `version` is the first of `targets` where traffic is split; `targets` and `shadow` are JSON of
# [[version, weight], ...] and [version, sample_rate], null where there is no split and no shadow.
aliases = Table(
    "aliases",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("alias", _name(63), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("targets", JSON(none_as_null=True)),
    Column("shadow", JSON(none_as_null=True)),
    Column("revision", BigInteger, nullable=False),
    Column("update_time_us", BigInteger, nullable=False),
)

alias_moves = Table(
    "alias_moves",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("adapter_id", ForeignKey("adapters.id"), nullable=False),
    Column("alias", String(63), nullable=False),
    Column("from_version", BigInteger, nullable=False),
    Column("to_version", BigInteger, nullable=False),
    Column("to_targets", JSON(none_as_null=True)),
    Column("to_shadow", JSON(none_as_null=True)),
    Column("revision", BigInteger, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("moved_by", Text, nullable=False),
    Index(None, "adapter_id", "alias", "id"),
)

# Every change in the order of its commit: the counter's row is locked from the number's allocation to the
# commit, so that no number becomes visible before a lower one.
changes = Table(
    "changes",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    # Empty: no tenant's in particular.
    Column("tenant", String(63), nullable=False),
    Column("resource", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Index(None, "time_us"),
)

change_counter = Table(
    "change_counter",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("last_sequence", BigInteger, nullable=False),
    # Made up once, with the row: tells the changes of one database from those of another.
    Column("database_id", String(32), nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expire_time_us", BigInteger, nullable=False),
    Index(None, "expire_time_us"),
)

lease_keys = Table(
    "lease_keys",
    metadata,
    Column("lease_id", ForeignKey("leases.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Index(None, "key"),
)

# Quotas: 0 is no limit. A tenant without a row has the defaults. `held_` are what its versions hold, counted
# in the transactions that make and end them.
tenants = Table(
    "tenants",
    metadata,
    Column("tenant", _name(63), primary_key=True),
    Column("max_bytes", BigInteger, nullable=False),
    Column("max_adapters", BigInteger, nullable=False),
    Column("max_versions", BigInteger, nullable=False),
    Column("max_open_uploads", BigInteger, nullable=False),
    Column("max_queued_requests", BigInteger, nullable=False),
    Column("max_tokens_per_minute", BigInteger, nullable=False),
    Column("max_resident_bytes", BigInteger, nullable=False),
    Column("require_signatures", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("held_bytes", BigInteger, nullable=False),
    Column("held_versions", BigInteger, nullable=False),
)

trusted_keys = Table(
    "trusted_keys",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("key_id", String(63), primary_key=True),
    # Base64 of Ed25519's 32 bytes.
    Column("public_key", String(44), nullable=False),
)

# `tenant` "*" is good in every tenant. The secret itself is nowhere: `secret_hash` is its sha256 in hex.
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("role", String(16), nullable=False),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("expire_time_us", BigInteger),
    Column("revoke_time_us", BigInteger),
    Column("created_by", Text, nullable=False),
    Index(None, "tenant", "id"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("tenant", String(63), nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("resource", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index(None, "tenant", "id"),
)
