"""Without a CUDA device Triton kernels run in Triton's interpreter.

Chosen here, before any test's imports: what Triton is when it is first imported, it stays, and
libraries that tests use import it too.
"""

import os
from importlib.util import find_spec

if find_spec("torch") is not None:
    import torch

    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
