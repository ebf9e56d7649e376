"""Lets no adapter through whose signature is not what its tenant asks for.

Nothing here takes the store's word: the manifest is made of this server's own base model and of the digests
that its files are checked against when they are read, for the adapter that the caller named.
"""

from collections import OrderedDict

from services.common.errors import Code, Reason, ServiceError
from services.common.manifest_signature import Manifest, Signature, check_signature
from services.inference.adapter_name import parse_reference, tenant_of
from services.inference.admission import AdapterResolver
from services.inference.request import AdapterKey, ResolvedAdapter
from services.inference.resolution import Resolution, StoreStats
from services.inference.signing_rules import RulesSource, SigningRules

MAX_REMEMBERED = 65_536

# Name of the adapter, its content, the signature and the key that made it: a manifest that was verified.
_Verified = tuple[str, AdapterKey, Signature, bytes]


class VerifiedResolver:
    """An AdapterResolver in front of the store's. `open` first: without a base model nothing is verified."""

    def __init__(self, resolver: AdapterResolver, rules: RulesSource, base_model: str) -> None:
        self._resolver = resolver
        self._rules = rules
        self._base_model = base_model
        self._base_model_digest = ""
        self._verified: OrderedDict[_Verified, None] = OrderedDict()

    def open(self, base_model_digest: str) -> None:
        """The digest of the base model that this server has loaded."""
        self._base_model_digest = base_model_digest

    async def resolve(self, name: str, split_key: str = "") -> Resolution:
        """What `name` means now. Raises what the store does, BAD_SIGNATURE, or STORE_UNAVAILABLE if nobody
        can say which keys are trusted.
        """
        resolution = await self._resolver.resolve(name, split_key)
        adapter = resolution.adapter
        rules = await self._rules.rules(tenant_of(name))
        if adapter.signature is not None or rules.required:
            self._verify(name, adapter, rules)
        return resolution

    def stats(self) -> StoreStats:
        """How the service stands with its store."""
        return self._resolver.stats()

    def _verify(self, name: str, adapter: ResolvedAdapter, rules: SigningRules) -> None:
        reference = parse_reference(name)
        adapter_name, _, number = adapter.version_name.partition("/versions/")
        # Another adapter's version is signed as well: for another name.
        if (
            reference is None
            or reference.adapter != adapter_name
            or reference.version not in (None, int(number))
        ):
            raise _other_adapter(name, adapter)
        signature = adapter.signature
        public_key = b"" if signature is None else rules.trusted_keys.get(signature.key_id, b"")
        if signature is not None and public_key:
            known = (adapter_name, adapter.key, signature, public_key)
            if known in self._verified:
                self._verified.move_to_end(known)
                return
        manifest = Manifest(
            adapter=adapter_name,
            base_model=self._base_model,
            base_model_digest=self._base_model_digest,
            files=tuple((file.path, file.size_bytes, file.sha256) for file in adapter.files),
        )
        check_signature(
            adapter.version_name, manifest, signature, rules.trusted_keys, required=rules.required
        )
        if signature is not None:
            self._verified[adapter_name, adapter.key, signature, public_key] = None
            if len(self._verified) > MAX_REMEMBERED:
                self._verified.popitem(last=False)


def _other_adapter(name: str, adapter: ResolvedAdapter) -> ServiceError:
    return ServiceError(
        Code.FAILED_PRECONDITION,
        Reason.BAD_SIGNATURE,
        f"the store answered {name} with {adapter.version_name}, which is not that: it is not served",
        field="signature",
    )
