"""What dtype matrix operands have inside a Triton kernel.

Must not know what is multiplied.
"""

import torch
import triton.language as tl

_OPERANDS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


def operand(left: torch.dtype, right: torch.dtype, is_interpreted: bool) -> tl.dtype:
    """16 bits where both sides have the same 16, else float32.

    Triton's interpreter multiplies bfloat16 wrongly, so it gets float32.
    """
    return tl.float32 if is_interpreted or left != right else _OPERANDS[right]
