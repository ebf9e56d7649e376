"""Puts the servicer behind its guard and into a server; knows whose adapters requests name."""

import re
from typing import Any

import grpc

from protos.multilora.v1 import inference_pb2 as pb
from protos.multilora.v1 import inference_pb2_grpc as pb_grpc
from services.common.access_guard import AccessGuard
from services.common.access_rule import Place, Rule
from services.common.errors import Reason, not_found
from services.common.gate import Gate
from services.inference.access_rules import RULES
from services.inference.adapter_name import check_adapter_name, tenant_of
from services.inference.servicer import InferenceServicer

_SERVICE = pb.DESCRIPTOR.services_by_name["InferenceService"]
SERVICE_NAME: str = _SERVICE.full_name

_SHORT = re.compile(r"([^/@]+)/([^/@]+)(?:@.*)?")


def add_to_server(servicer: InferenceServicer, server: grpc.aio.Server, gate: Gate) -> None:
    """Registers `servicer`, behind `gate`, with a server that has not started."""
    guard = AccessGuard(servicer, _SERVICE, RULES, gate, AdapterPlaces())
    pb_grpc.add_InferenceServiceServicer_to_server(guard, server)


class AdapterPlaces:
    """The tenant of an adapter's name; the base model is no tenant's."""

    async def place(self, rule: Rule, request: Any) -> Place | None:
        """See `services.common.access_guard.Places`."""
        name = str(request.adapter)
        if not name and rule.kind == "adapter or base model":
            return None
        check_adapter_name(name)
        # In the store's words for a name that is not there, so that both sound alike.
        message = (
            f"no adapter {_full_name(name)}: check the name, or make it with CreateAdapter (`multilora push`)"
        )
        return Place(tenant_of(name), not_found(Reason.ADAPTER_NOT_FOUND, message))


def _full_name(name: str) -> str:
    short = _SHORT.fullmatch(name)
    if short is not None:
        return "tenants/{}/adapters/{}".format(*short.groups())
    return "/".join(name.split("/")[:4])
