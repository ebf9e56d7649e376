"""What each RPC of the inference service asks of its caller. The guard enforces it; see docs/access.md."""

from services.common.access_rule import Rules, anywhere, inside, operators
from services.common.caller import Role

RULES: Rules = {
    "Generate": inside(Role.READER, "adapter or base model", "adapter"),
    "GetModel": anywhere(Role.READER),
    "ListResidentAdapters": anywhere(Role.READER),
    "LoadAdapter": inside(Role.PUBLISHER, "adapter", "adapter"),
    "UnloadAdapter": inside(Role.PUBLISHER, "adapter", "adapter"),
    "GetStats": operators(Role.READER),
}
