import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from kernels.lora_site import LoraSite, tile_rows
from kernels.rank_row_table import NO_TILE
from kernels.table_row import TableShape
from services.common.errors import Reason, ServiceError
from services.inference.adapters.adapter_weights import AdapterWeights, BaseCopy, SiteWeights
from services.inference.adapters.dora_factor import dora_factor
from services.inference.adapters.host_arena import HostArena
from services.inference.adapters.packing import pack as pack_into
from services.inference.adapters.page_layout import PageLayout
from services.inference.adapters.workers import Workers
from tests.unit.inference.adapters.fetch_parts import KEY, pages_PE
from tests.unit.inference.adapters.fetch_parts import packed as pack
from tests.unit.inference.adapters.lora_files import HIDDEN, SITES, VOCAB


def no_base(site: LoraSite) -> torch.Tensor:
    raise AssertionError(f"nobody needs the base weight of {site.name}")


def site_weights(site: LoraSite, rank: int, seed: int = 0) -> SiteWeights:
    generator = torch.Generator().manual_seed(seed)
    a_RI = torch.randn(rank, site.in_features, generator=generator)
    b_RO = torch.randn(site.out_features, rank, generator=generator).T
    return SiteWeights(site, rank, 1.5, a_RI, b_RO)


def read_back(pool_E, offsets, rank, width, page_elements):
    """The rank rows at `offsets`, each tile checked to lie inside one page and aligned."""
    rows, num_rows = [], tile_rows(width, page_elements)
    for tile, offset in enumerate(offsets):
        live = min(num_rows, rank - tile * num_rows)
        assert offset % 8 == 0
        assert offset // page_elements == (offset + live * width - 1) // page_elements
        rows.append(pool_E[offset : offset + live * width].view(live, width))
    return torch.cat(rows)


@given(
    ranks=st.lists(st.integers(0, 40), min_size=len(SITES), max_size=len(SITES)).filter(any),
    page_elements=st.sampled_from([48, 64, 200, 1024, 8192]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_rank_row_is_where_the_table_will_say(ranks, page_elements, seed):
    weights = AdapterWeights(
        tuple(site_weights(site, rank, seed) for site, rank in zip(SITES, ranks, strict=True) if rank)
    )
    packed = pack(weights, page_elements, base_weight=no_base)
    generator = torch.Generator().manual_seed(seed)
    pages = torch.randperm(packed.num_pages + 5, generator=generator)[: packed.num_pages].tolist()
    pool_PE = torch.full((packed.num_pages + 5, page_elements), torch.nan)
    pool_PE[pages] = pages_PE(packed)
    used = []
    rows_at = {row.site: row for row in packed.row.rows_at(pages)}
    assert len(rows_at) == len(weights.sites)
    for site in weights.sites:
        row = rows_at[site.site.index]
        assert (row.site, row.rank, row.scale, row.dora_offset) == (site.site.index, site.rank, 1.5, NO_TILE)
        for offsets, rows in ((row.a_offsets, site.a_RI), (row.b_offsets, site.b_RO)):
            found = read_back(pool_PE.view(-1), offsets, site.rank, rows.shape[1], page_elements)
            torch.testing.assert_close(found, rows, rtol=0, atol=0)
            used += [
                (offset, tile.numel())
                for offset, tile in zip(offsets, _tiles(rows, page_elements), strict=True)
            ]
    ends = 0
    for offset, size in sorted(used):
        assert offset >= ends, "two tiles overlap"
        ends = offset + size
    assert packed.num_bytes == packed.num_pages * page_elements * 4


def _tiles(rows, page_elements):
    return rows.split(tile_rows(rows.shape[1], page_elements))


@given(
    widths=st.lists(st.integers(1, 64), min_size=1, max_size=30),
    rank=st.integers(1, 33),
    page_elements=st.sampled_from([64, 256, 1000]),
)
@settings(max_examples=60, deadline=None)
def test_every_page_but_the_last_lacks_less_than_a_tile(widths, rank, page_elements):
    sites = tuple(LoraSite(index, f"s{index}", width, width) for index, width in enumerate(widths))
    weights = AdapterWeights(tuple(site_weights(site, rank) for site in sites))
    packed = pack(weights, page_elements, base_weight=no_base)
    sizes = [
        -(-tile.numel() // 8) * 8 for site in weights.sites for tile in _tiles(site.a_RI, page_elements)
    ] * 2
    wasted = packed.num_pages * page_elements - sum(sizes)
    assert wasted < (packed.num_pages - 1) * max(sizes) + page_elements


def test_an_adapter_of_a_real_shape_takes_no_page_more_than_its_elements_need():
    hidden, inner, page_elements = 512, 1408, 16 * 32 * 2 * 128
    modules = [
        (hidden, hidden),
        (hidden, 128),
        (hidden, 128),
        (hidden, hidden),
        (hidden, inner),
        (inner, hidden),
    ]
    sites = tuple(LoraSite(i, f"s{i}", *modules[i % 6]) for i in range(48))
    weights = AdapterWeights(tuple(site_weights(site, 24) for site in sites))
    packed = pack(weights, page_elements, torch.bfloat16, no_base)
    live = sum(site.a_RI.numel() + site.b_RO.numel() for site in weights.sites)
    assert packed.num_pages == -(-live // page_elements) == 11
    assert pages_PE(packed).dtype is torch.bfloat16


def test_rank_rows_that_fit_no_page_and_crooked_pages_are_refused():
    weights = AdapterWeights((site_weights(SITES[4], 4),))
    with pytest.raises(ValueError, match="holds no rank row"):
        pack(weights, VOCAB - 8)
    with pytest.raises(ValueError, match="multiple of 8"):
        PageLayout(100)


class _TinyLm(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(VOCAB, HIDDEN)
        self.proj = torch.nn.Linear(HIDDEN, VOCAB, bias=False)

    def forward(self, ids):
        return self.proj(self.embed(ids))


@pytest.mark.parametrize("target", ["proj", "embed"])
def test_dora_factor_is_pefts_own(target, monkeypatch):
    monkeypatch.setattr("services.inference.adapters.dora_factor.DORA_CHUNK_ELEMENTS", 3 * HIDDEN)
    torch.manual_seed(0)
    base = _TinyLm()
    ids = torch.arange(VOCAB)
    with torch.no_grad():
        weight = base.proj.weight.clone() if target == "proj" else base.embed.weight.T.clone()
        before = base.embed(ids) if target == "embed" else base(ids)
        features = base.embed(ids)
    model = get_peft_model(base, LoraConfig(r=3, lora_alpha=5, use_dora=True, target_modules=[target]))
    layer = getattr(model.base_model.model, target)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + torch.rand_like(parameter))
            elif "lora_" in name:
                parameter.normal_()
        after = layer(ids if target == "embed" else features)
        magnitude = layer.lora_magnitude_vector["default"].weight
        if target == "embed":
            site, a_RI, b_OR = SITES[4], layer.lora_embedding_A["default"], layer.lora_embedding_B["default"]
        else:
            site, a_RI, b_OR = SITES[5], layer.lora_A["default"].weight, layer.lora_B["default"].weight
        d = dora_factor(SiteWeights(site, 3, 5 / 3, a_RI, b_OR.T, magnitude), weight)
        delta = 5 / 3 * (a_RI.T @ b_OR.T if target == "embed" else features @ a_RI.T @ b_OR.T)
    torch.testing.assert_close(after, before + delta + d * (before + delta), rtol=1e-4, atol=1e-4)


def test_dora_rows_are_packed_and_found():
    weight = torch.randn(HIDDEN, HIDDEN)
    plain = site_weights(SITES[0], 3)
    dora = SiteWeights(plain.site, 3, plain.scale, plain.a_RI, plain.b_RO, torch.rand(HIDDEN))
    packed = pack(AdapterWeights((dora,)), 64, base_weight=lambda site: weight)
    [row] = packed.row.rows_at([7, 5, 3])
    pool_PE = torch.zeros(8, 64)
    pool_PE[[7, 5, 3][: packed.num_pages]] = pages_PE(packed)
    found = pool_PE.view(-1)[row.dora_offset : row.dora_offset + HIDDEN]
    expected = dora.magnitude_O / torch.linalg.norm(weight + 1.5 * dora.b_RO.T @ dora.a_RI, dim=1) - 1
    torch.testing.assert_close(found, expected)


def test_a_zero_column_under_dora_is_refused():
    plain = site_weights(SITES[0], 3)
    dora = SiteWeights(plain.site, 3, 1.0, plain.a_RI * 0, plain.b_RO, torch.ones(HIDDEN))
    with pytest.raises(ServiceError, match="is zero"):
        dora_factor(dora, torch.zeros(HIDDEN, HIDDEN))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_of_a_base_embedding_is_taken_only_if_it_is_the_base_s(dtype):
    weight = torch.randn(VOCAB, HIDDEN)

    def packed(copied):
        weights = AdapterWeights((site_weights(SITES[0], 3),), (BaseCopy("w", SITES[5], copied),))
        return pack(weights, 64, base_weight=lambda site: weight)

    assert packed(weight.to(dtype)).num_pages == 2
    with pytest.raises(ServiceError) as caught:
        packed(weight.to(dtype) + 1)
    assert (caught.value.reason, caught.value.field) == (Reason.UNSUPPORTED_ADAPTER, "w")


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_weights_are_rounded_as_torch_rounds_them(stored, kept):
    wide = site_weights(SITES[1], 17, seed=5)
    a_RI, b_RO = (x.to(stored) for x in (wide.a_RI, wide.b_RO))
    adapter = pack(AdapterWeights((SiteWeights(wide.site, 17, 1.0, a_RI, b_RO),)), 4096, kept)
    [row] = adapter.row.rows
    flat = pages_PE(adapter).view(-1)
    for offsets, rows in ((row.a_offsets, a_RI), (row.b_offsets, b_RO)):
        found = read_back(flat, offsets, 17, rows.shape[1], 4096)
        assert torch.equal(found, rows.to(kept))


def test_nothing_of_what_a_page_held_before_is_left_in_it():
    adapter = pack(AdapterWeights((site_weights(LoraSite(0, "s", 5, 7), 3),)), 64)
    used = set(range(3 * 5)) | set(range(16, 16 + 3 * 7))
    [page_E] = pages_PE(adapter)
    assert [i for i, value in enumerate(page_E.tolist()) if value != 0] == sorted(used)


def test_a_refused_adapter_takes_no_page_of_the_arena():
    arena = HostArena(64, torch.float32, 1 << 16)
    weights = AdapterWeights(
        (site_weights(SITES[0], 3),), (BaseCopy("w", SITES[5], torch.ones(VOCAB, HIDDEN)),)
    )
    with pytest.raises(ServiceError):
        pack_into(KEY, weights, arena, TableShape(6, 4), lambda site: torch.zeros(VOCAB, HIDDEN), Workers(1))
    assert arena.num_taken == 0
