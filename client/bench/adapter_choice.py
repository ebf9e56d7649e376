"""Which adapters a benchmark uses."""

from collections.abc import Sequence

from client.bench.random_adapters import push_random_adapters
from client.inference_client import InferenceClient
from client.names import short_name
from client.store_client import StoreClient


async def choose_adapters(
    client: InferenceClient, store: StoreClient, adapters: Sequence[str], tenant: str, num_random: int
) -> list[str]:
    """`adapters`, then the servable ones of `tenant`, then `num_random` random ones, which are pushed if new.

    Only adapters of the server's base model are taken from a tenant. Raises MultiloraError.
    """
    names = list(adapters)
    if tenant or num_random:
        model = await client.get_model()
        if tenant:
            names += [
                short_name(each.name)
                for each in await store.list_adapters(tenant)
                if each.latest_version and each.base_model == model.base_model
            ]
        if num_random:
            base_model = await store.get_base_model(model.base_model)
            names += await push_random_adapters(store, base_model, num_random)
    return list(dict.fromkeys(names))


async def median_rank_adapter(store: StoreClient, names: Sequence[str]) -> str:
    """The adapter whose rank is in the middle: what "one adapter" costs beside a mix of ranks."""
    by_rank = sorted([((await store.resolve_version(name)).rank, name) for name in names])
    return by_rank[len(by_rank) // 2][1]
