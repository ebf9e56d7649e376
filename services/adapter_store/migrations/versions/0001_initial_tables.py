"""Initial tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_tenant_id"), "audit_log", ["tenant", "id"], unique=False)
    op.create_table(
        "base_models",
        sa.Column(
            "name",
            sa.String(length=256, collation="C").with_variant(sa.String(length=256), "sqlite"),
            nullable=False,
        ),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("architecture", sa.String(length=128), nullable=False),
        sa.Column("hidden_size", sa.Integer(), nullable=False),
        sa.Column("num_layers", sa.Integer(), nullable=False),
        sa.Column("max_rank", sa.Integer(), nullable=False),
        sa.Column("modules", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_base_models")),
    )
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_index(op.f("ix_blobs_state"), "blobs", ["state"], unique=False)
    op.create_table(
        "change_counter",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("database_id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change_counter")),
    )
    op.create_table(
        "changes",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_changes")),
    )
    op.create_index(op.f("ix_changes_time_us"), "changes", ["time_us"], unique=False)
    op.create_table(
        "leases",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expire_time_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leases")),
    )
    op.create_index(op.f("ix_leases_expire_time_us"), "leases", ["expire_time_us"], unique=False)
    op.create_table(
        "tenant_blobs",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sha256", name=op.f("pk_tenant_blobs")),
    )
    op.create_table(
        "tenant_files",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("num_versions", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sha256", name=op.f("pk_tenant_files")),
    )
    op.create_index(
        op.f("ix_tenant_files_tenant_num_versions"), "tenant_files", ["tenant", "num_versions"], unique=False
    )
    op.create_table(
        "tenants",
        sa.Column(
            "tenant",
            sa.String(length=63, collation="C").with_variant(sa.String(length=63), "sqlite"),
            nullable=False,
        ),
        sa.Column("max_bytes", sa.BigInteger(), nullable=False),
        sa.Column("max_adapters", sa.BigInteger(), nullable=False),
        sa.Column("max_versions", sa.BigInteger(), nullable=False),
        sa.Column("max_open_uploads", sa.BigInteger(), nullable=False),
        sa.Column("max_queued_requests", sa.BigInteger(), nullable=False),
        sa.Column("max_tokens_per_minute", sa.BigInteger(), nullable=False),
        sa.Column("max_resident_bytes", sa.BigInteger(), nullable=False),
        sa.Column("require_signatures", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("held_bytes", sa.BigInteger(), nullable=False),
        sa.Column("held_versions", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_tenants")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("expire_time_us", sa.BigInteger(), nullable=True),
        sa.Column("revoke_time_us", sa.BigInteger(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_tokens_secret_hash")),
    )
    op.create_index(op.f("ix_tokens_tenant_id"), "tokens", ["tenant", "id"], unique=False)
    op.create_table(
        "trusted_keys",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("key_id", sa.String(length=63), nullable=False),
        sa.Column("public_key", sa.String(length=44), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key_id", name=op.f("pk_trusted_keys")),
    )
    op.create_table(
        "adapters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "tenant",
            sa.String(length=63, collation="C").with_variant(sa.String(length=63), "sqlite"),
            nullable=False,
        ),
        sa.Column(
            "adapter",
            sa.String(length=63, collation="C").with_variant(sa.String(length=63), "sqlite"),
            nullable=False,
        ),
        sa.Column(
            "base_model",
            sa.String(length=256, collation="C").with_variant(sa.String(length=256), "sqlite"),
            nullable=False,
        ),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("last_version", sa.BigInteger(), nullable=False),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("update_time_us", sa.BigInteger(), nullable=False),
        sa.Column("delete_time_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["base_model"], ["base_models.name"], name=op.f("fk_adapters_base_model_base_models")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapters")),
        sa.UniqueConstraint("tenant", "adapter", name=op.f("uq_adapters_tenant_adapter")),
    )
    op.create_table(
        "lease_keys",
        sa.Column("lease_id", sa.String(length=128), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name=op.f("fk_lease_keys_lease_id_leases")),
        sa.PrimaryKeyConstraint("lease_id", "key", name=op.f("pk_lease_keys")),
    )
    op.create_index(op.f("ix_lease_keys_key"), "lease_keys", ["key"], unique=False)
    op.create_table(
        "alias_moves",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("adapter_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("alias", sa.String(length=63), nullable=False),
        sa.Column("from_version", sa.BigInteger(), nullable=False),
        sa.Column("to_version", sa.BigInteger(), nullable=False),
        sa.Column("to_targets", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("to_shadow", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("moved_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name=op.f("fk_alias_moves_adapter_id_adapters")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_moves")),
    )
    op.create_index(
        op.f("ix_alias_moves_adapter_id_alias_id"), "alias_moves", ["adapter_id", "alias", "id"], unique=False
    )
    op.create_table(
        "aliases",
        sa.Column("adapter_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "alias",
            sa.String(length=63, collation="C").with_variant(sa.String(length=63), "sqlite"),
            nullable=False,
        ),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("targets", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("shadow", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("update_time_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_aliases_adapter_id_adapters")),
        sa.PrimaryKeyConstraint("adapter_id", "alias", name=op.f("pk_aliases")),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("adapter_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("refusal", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_uploads_adapter_id_adapters")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
        sa.UniqueConstraint("adapter_id", "request_id", name=op.f("uq_uploads_adapter_id_request_id")),
        sa.UniqueConstraint("adapter_id", "version", name=op.f("uq_uploads_adapter_id_version")),
    )
    op.create_index(op.f("ix_uploads_state"), "uploads", ["state"], unique=False)
    op.create_table(
        "version_files",
        sa.Column("adapter_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("stored", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name=op.f("fk_version_files_adapter_id_adapters")
        ),
        sa.PrimaryKeyConstraint("adapter_id", "version", "position", name=op.f("pk_version_files")),
    )
    op.create_index(op.f("ix_version_files_sha256"), "version_files", ["sha256"], unique=False)
    op.create_table(
        "versions",
        sa.Column("adapter_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("base_model", sa.String(length=256), nullable=False),
        sa.Column("base_model_digest", sa.String(length=64), nullable=True),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("status_message", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("alpha", sa.Float(), nullable=True),
        sa.Column("target_modules", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("rslora", sa.Boolean(), nullable=True),
        sa.Column("dora", sa.Boolean(), nullable=True),
        sa.Column("num_parameters", sa.BigInteger(), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("lineage", sa.JSON(), nullable=False),
        sa.Column("signature_key_id", sa.String(length=63), nullable=True),
        sa.Column("signature", sa.String(length=88), nullable=True),
        sa.Column("create_time_us", sa.BigInteger(), nullable=False),
        sa.Column("delete_time_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name=op.f("fk_versions_adapter_id_adapters")
        ),
        sa.PrimaryKeyConstraint("adapter_id", "version", name=op.f("pk_versions")),
    )
    op.create_index(
        op.f("ix_versions_adapter_id_state_version"),
        "versions",
        ["adapter_id", "state", "version"],
        unique=False,
    )
    op.create_index(op.f("ix_versions_key"), "versions", ["key"], unique=False)
    op.create_table(
        "upload_files",
        sa.Column("upload_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("multipart_id", sa.Text(), nullable=False),
        sa.Column("persisted_bytes", sa.BigInteger(), nullable=False),
        sa.Column("tail_bytes", sa.Integer(), nullable=False),
        sa.Column("tail_sha256", sa.String(length=64), nullable=False),
        sa.Column("hash_state", sa.String(length=64), nullable=False),
        sa.Column("update_time_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_files_upload_id_uploads")
        ),
        sa.PrimaryKeyConstraint("upload_id", "position", name=op.f("pk_upload_files")),
    )
    op.create_table(
        "upload_parts",
        sa.Column("upload_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("part_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_parts_upload_id_uploads")
        ),
        sa.PrimaryKeyConstraint("upload_id", "position", "part_number", name=op.f("pk_upload_parts")),
    )


def downgrade() -> None:
    """To the version before."""
    op.drop_table("upload_parts")
    op.drop_table("upload_files")
    op.drop_index(op.f("ix_versions_key"), table_name="versions")
    op.drop_index(op.f("ix_versions_adapter_id_state_version"), table_name="versions")
    op.drop_table("versions")
    op.drop_index(op.f("ix_version_files_sha256"), table_name="version_files")
    op.drop_table("version_files")
    op.drop_index(op.f("ix_uploads_state"), table_name="uploads")
    op.drop_table("uploads")
    op.drop_table("aliases")
    op.drop_index(op.f("ix_alias_moves_adapter_id_alias_id"), table_name="alias_moves")
    op.drop_table("alias_moves")
    op.drop_index(op.f("ix_lease_keys_key"), table_name="lease_keys")
    op.drop_table("lease_keys")
    op.drop_table("adapters")
    op.drop_table("trusted_keys")
    op.drop_index(op.f("ix_tokens_tenant_id"), table_name="tokens")
    op.drop_table("tokens")
    op.drop_table("tenants")
    op.drop_index(op.f("ix_tenant_files_tenant_num_versions"), table_name="tenant_files")
    op.drop_table("tenant_files")
    op.drop_table("tenant_blobs")
    op.drop_index(op.f("ix_leases_expire_time_us"), table_name="leases")
    op.drop_table("leases")
    op.drop_index(op.f("ix_changes_time_us"), table_name="changes")
    op.drop_table("changes")
    op.drop_table("change_counter")
    op.drop_index(op.f("ix_blobs_state"), table_name="blobs")
    op.drop_table("blobs")
    op.drop_table("base_models")
    op.drop_index(op.f("ix_audit_log_tenant_id"), table_name="audit_log")
    op.drop_table("audit_log")
