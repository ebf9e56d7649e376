"""`multilora tenant`: quotas, what is used of them, trusted keys."""

from dataclasses import asdict, replace
from typing import Annotated

import typer

from client.access import Tenant, TrustedKey
from client.command.connection import open_store
from client.command.options import MAX_INT64, STORE, Json, NoServer, Store, wait
from client.command.output import print_fields, print_json, size_text

_Name = Annotated[str, typer.Argument(metavar="TENANT", help="acme")]
_Quota = Annotated[int | None, typer.Option(min=0, max=MAX_INT64, help="0: no limit.")]

# Each quota, and what is used of it; the last three are used at each inference server.
_USES = (
    ("max_bytes", "bytes"),
    ("max_adapters", "adapters"),
    ("max_versions", "versions"),
    ("max_open_uploads", "open_uploads"),
    ("max_queued_requests", ""),
    ("max_tokens_per_minute", ""),
    ("max_resident_bytes", ""),
)


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    tenants = typer.Typer(
        help="Tenants: quotas and trusted keys.", no_args_is_help=True, rich_markup_mode=None
    )
    tenants.command()(show)
    tenants.command()(update)
    app.add_typer(tenants, name="tenant")


def show(name: _Name, store: Store = STORE, server: NoServer = "", json: Json = False) -> None:
    """Show a tenant's quotas, what it uses of them, and whose signatures it trusts.

    multilora tenant show acme
    """

    async def work() -> Tenant:
        async with open_store(store) as client:
            return await client.get_tenant(name)

    _print(wait(work()), json)


def update(
    name: _Name,
    max_bytes: _Quota = None,
    max_adapters: _Quota = None,
    max_versions: _Quota = None,
    max_open_uploads: _Quota = None,
    max_queued_requests: _Quota = None,
    max_tokens_per_minute: _Quota = None,
    max_resident_bytes: _Quota = None,
    trust: Annotated[
        list[str] | None, typer.Option(metavar="ID=HEX", help="Trust this public key; may be repeated.")
    ] = None,
    distrust: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Trust this key no more; may be repeated.")
    ] = None,
    require_signatures: Annotated[
        bool | None, typer.Option(help="Refuse versions without a good signature.")
    ] = None,
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Change a tenant; what is not named stays. Quotas take an operator's token.

    multilora tenant update acme --max-adapters 100 --max-tokens-per-minute 60000

    multilora tenant update acme --trust ci=HEX --require-signatures
    """
    quotas = {
        "max_bytes": max_bytes,
        "max_adapters": max_adapters,
        "max_versions": max_versions,
        "max_open_uploads": max_open_uploads,
        "max_queued_requests": max_queued_requests,
        "max_tokens_per_minute": max_tokens_per_minute,
        "max_resident_bytes": max_resident_bytes,
    }
    changes = {quota: value for quota, value in quotas.items() if value is not None}
    trusted = [_trusted_key(text) for text in trust or ()]

    async def work() -> Tenant:
        async with open_store(store) as client:
            tenant = await client.get_tenant(name)
            keys = {key.key_id: key for key in (*tenant.trusted_keys, *trusted)}
            for key_id in distrust or ():
                if keys.pop(key_id, None) is None:
                    raise typer.BadParameter(f"{key_id} is not trusted", param_hint="--distrust")
            return await client.update_tenant(
                name,
                quotas=replace(tenant.quotas, **changes) if changes else None,
                trusted_keys=list(keys.values()) if trust or distrust else None,
                require_signatures=require_signatures,
                etag=tenant.etag,
            )

    _print(wait(work()), json)


def _trusted_key(text: str) -> TrustedKey:
    key_id, _, public_key = text.partition("=")
    try:
        return TrustedKey(key_id, bytes.fromhex(public_key))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no ID=HEX, such as ci=(what `multilora key generate` printed)", param_hint="--trust"
        ) from None


def _print(tenant: Tenant, json: bool) -> None:
    if json:
        print_json(tenant)
        return
    print_fields(
        (
            ("tenant", tenant.name.removeprefix("tenants/")),
            *((quota.removeprefix("max_"), _use_text(tenant, quota, used)) for quota, used in _USES),
            ("trusted keys", ", ".join(key.key_id for key in tenant.trusted_keys) or "none"),
            ("signatures", "required" if tenant.require_signatures else "not required"),
        )
    )


def _use_text(tenant: Tenant, quota: str, used: str) -> str:
    most = asdict(tenant.quotas)[quota]
    limit = _amount(quota, most) if most else "no limit"
    if not used:
        return f"{limit}, at each inference server"
    return f"{_amount(quota, asdict(tenant.usage)[used])} of {limit}"


def _amount(quota: str, value: int) -> str:
    return size_text(value) if quota.endswith("_bytes") else str(value)
