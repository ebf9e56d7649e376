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

base_models = Table(
    "base_models",
    metadata,
    Column("name", String(256), primary_key=True),
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
    Column("tenant", String(63), nullable=False),
    Column("adapter", String(63), nullable=False),
    Column("base_model", ForeignKey("base_models.name"), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("last_version", BigInteger, nullable=False),
    Column("create_time_us", BigInteger, nullable=False),
    Column("update_time_us", BigInteger, nullable=False),
    UniqueConstraint("tenant", "adapter"),
)

versions = Table(
    "versions",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("base_model", String(256), nullable=False),
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
    Column("create_time_us", BigInteger, nullable=False),
    Index(None, "key"),
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

aliases = Table(
    "aliases",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("alias", String(63), primary_key=True),
    Column("version", BigInteger, nullable=False),
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
    Column("time_us", BigInteger, nullable=False),
    Column("moved_by", Text, nullable=False),
    Index(None, "adapter_id", "alias", "id"),
)
