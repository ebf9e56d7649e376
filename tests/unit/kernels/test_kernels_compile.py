"""The kernels pass Triton's compiler for a real GPU, on a machine that has none.

What the interpreter takes, the compiler may refuse.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from kernels.expand import expand_kernel
from kernels.shrink import shrink_embedding_kernel, shrink_kernel

def check(kernel, dtype, **constants):
    data = ("x_ptr", "pool_ptr", "y_ptr", "bias_ptr")
    special = {"h_ptr": "*fp32", "scales_ptr": "*fp32", "offsets_ptr": "*i64", "dora_offsets_ptr": "*i64",
               "token_ids_ptr": "*i64"}
    signature = {}
    for name in kernel.arg_names:
        kind = "*i32" if name.endswith("_ptr") else "i32"
        kind = "constexpr" if name in constants else f"*{dtype}" if name in data else special.get(name, kind)
        signature[name] = kind
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    assert "cubin" in compile(ASTSource(kernel, signature, values), target=GPUTarget("cuda", 90, 32)).asm

for dtype, operand, align in (("fp32", tl.float32, 1), ("bf16", tl.bfloat16, 8)):
    tiles = dict(TILE_M=16, TILE_R=16, ALIGN=align, OPERAND=operand, RANKS=32)
    check(shrink_kernel, dtype, TILE_K=128, **tiles)
    check(expand_kernel, dtype, TILE_N=128, NUM_SPLITS=2, HAS_BIAS=True, **tiles)
    check(shrink_embedding_kernel, dtype, RANKS=32, TILE_M=16)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="Triton is built for Linux on x86-64"
)
def test_every_kernel_compiles_for_sm_90(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
