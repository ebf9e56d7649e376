"""The kernels pass Triton's compiler for a real GPU, on a machine that has none.

What the interpreter takes, the compiler may refuse.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

_CHECK = """
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from kernels.activation import silu_mul_kernel
from kernels.combine_shrink import combine_shrink_kernel
from kernels.decode_attention import combine_splits_kernel, decode_attention_kernel
from kernels.expand import expand_kernel
from kernels.norm import rms_norm_kernel
from kernels.norm_shrink import norm_shrink_kernel
from kernels.pick_tokens import pick_tokens_kernel
from kernels.prefill_attention import prefill_attention_kernel
from kernels.residual_expand import residual_expand_kernel
from kernels.rope_expand import rope_expand_kernel
from kernels.rope_kv_write import rope_kv_write_kernel
from kernels.shrink import shrink_embedding_kernel, shrink_kernel
from kernels.silu_expand import silu_expand_kernel
from kernels.tuning import fused_tiles

def check(kernel, dtype, options=None, **constants):
    data = ("x_ptr", "pool_ptr", "y_ptr", "bias_ptr", "out_ptr", "query_ptr", "qkv_ptr", "q_norm_ptr",
            "k_norm_ptr", "residual_ptr", "delta_ptr", "weight_ptr", "hidden_ptr", "kv_ptr")
    floats = ("h_ptr", "scales_ptr", "partial_ptr", "tops_ptr", "totals_ptr", "cos_ptr", "sin_ptr",
              "sums_ptr", "next_h_ptr")
    special = {"offsets_ptr": "*i64", "dora_offsets_ptr": "*i64", "token_ids_ptr": "*i64", "scale": "fp32",
               "eps": "fp32", **dict.fromkeys(floats, "*fp32")}
    signature = {}
    for name in kernel.arg_names:
        kind = "*i32" if name.endswith("_ptr") else "i32"
        kind = "constexpr" if name in constants else f"*{dtype}" if name in data else special.get(name, kind)
        signature[name] = kind
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    # Pointers, as torch allocates them, start on 16 bytes.
    pointers = [(i,) for i, name in enumerate(kernel.arg_names) if name.endswith("_ptr")]
    aligned = {pointer: [["tt.divisibility", 16]] for pointer in pointers}
    source = ASTSource(kernel, signature, values, aligned if options else None)
    compiled = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert "cubin" in compiled.asm
    # A kernel that follows another at once must wait for it.
    assert ("griddepcontrol.wait" in compiled.asm["ptx"]) == bool(constants.get("PDL"))

"""

_FUSED = """
def check_fused(dtype, operand, align, is_whole, pdl, flag, row_tiles):
    rows = dict(TILE_R=16, IS_WHOLE=is_whole, ALIGN=align, PDL=pdl)
    for tile_rows in row_tiles:
        tiles = fused_tiles(tile_rows)
        shared = dict(TILE_M=tile_rows, OPERAND=operand, **rows)
        def options(warps):
            return dict(num_warps=warps, num_stages=1, launch_pdl=pdl, maxnreg=tiles.max_registers)
        splits = dict(NUM_SPLITS=7, TILE_P=8)
        def parts(columns, warps):
            return dict(ROW_PARTS=tiles.row_parts(columns, warps))
        check(residual_expand_kernel, dtype, options(tiles.residual_warps), HAS_Y=flag,
              TILE_N=tiles.residual_columns, **parts(tiles.residual_columns, tiles.residual_warps), **splits,
              **shared)
        for width in (4096, 14336):
            split, warps = tiles.shrink(width)
            check(norm_shrink_kernel, dtype, options(warps), HAS_NORM=flag, GROUP_SITES=3, NUM_SUMS=9,
                  TILE_C=16, SPLIT_K=split, TILE_K=min(split, tiles.shrink_columns), CHUNKS=warps,
                  **shared)
        check(rope_expand_kernel, dtype, options(tiles.rope_warps), QUERY_HEADS=32, KV_HEADS=8, HEAD_DIM=128,
              PAGE_TOKENS=16, HAS_NORM=flag, HAS_BIAS=flag, HEADS=tiles.heads,
              ROW_HEADS=tiles.heads * tiles.row_parts(tiles.heads * 64, tiles.rope_warps), TILE_I=64,
              **splits,
              **shared)
        check(silu_expand_kernel, dtype, options(tiles.silu_warps), TILE_F=tiles.silu_columns,
              **parts(tiles.silu_columns, tiles.silu_warps), **splits, **shared)
    check(combine_shrink_kernel, dtype, options(tiles.combine_warps), QUERY_HEADS=32, HEAD_DIM=128,
          NUM_SHARES=4, HEADS=4, TILE_D=128, **rows)

# Exact products of float32 unroll into so many instructions that one size of tiles has to do.
check_fused("fp32", tl.float32, 1, False, False, False, (8,))
check_fused("bf16", tl.bfloat16, 8, True, True, True, (8, 64))
"""

_SEPARATE = """
for dtype, operand, align in (("fp32", tl.float32, 1), ("bf16", tl.bfloat16, 8)):
    tiles = dict(TILE_M=16, TILE_R=16, ALIGN=align, OPERAND=operand, RANKS=32)
    check(shrink_kernel, dtype, TILE_K=128, **tiles)
    check(expand_kernel, dtype, TILE_N=128, NUM_SPLITS=2, HAS_BIAS=True, NUM_SITES=3, **tiles)
    check(shrink_embedding_kernel, dtype, RANKS=32, TILE_M=16)
    heads = dict(HEADS_A_GROUP=4, KV_HEADS=8, HEAD_DIM=128, PAGE_TOKENS=16)
    attention = dict(TILE_S=64, TILE_D=128, OPERAND=operand, **heads)
    window = 0 if dtype == "fp32" else 100
    pdl = dtype == "bf16"
    check(decode_attention_kernel, dtype, WINDOW=window, NUM_SPLITS=4, TILE_M=16, PDL=pdl, **attention)
    check(prefill_attention_kernel, dtype, WINDOW=window, TILE_M=64, **attention)
    check(combine_splits_kernel, dtype, HEAD_DIM=128, NUM_SPLITS=4, TILE_D=128)
    check(silu_mul_kernel, dtype, TILE_F=1024)
    check(pick_tokens_kernel, dtype, TILE_T=256)
    for flag in (False, True):
        check(rms_norm_kernel, dtype, HIDDEN=4096, TILE_H=4096, HAS_DELTA=flag)
        check(rope_kv_write_kernel, dtype, HAS_NORM=flag, TILE_R=4, TILE_I=64, **heads)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="Triton is built for Linux on x86-64"
)
@pytest.mark.parametrize("program", [_SEPARATE, _FUSED], ids=["separate", "fused"])
def test_every_kernel_compiles_for_sm_90(tmp_path: Path, program: str):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", _CHECK + program],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
