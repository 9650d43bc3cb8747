"""Decode attention: each query over its own cache, whatever lies around it."""

import pytest
import torch
from dense import dense_attention
from places import PLACES

from tersely.errors import KernelError
from tersely.kernels import decode_attention

LENGTHS = (3, 0, 1, 530, 512, 513)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@pytest.fixture(params=PLACES)
def place(request):
    """Each device and backend that a check runs on."""
    return request.param


def storage(lengths, heads, key_heads, width, dtype, device, room=5):
    """Queries, and caches with room between them that is poisoned."""
    generator = torch.Generator().manual_seed(0)
    length = torch.tensor(lengths)
    start = torch.cat([torch.zeros(1, dtype=torch.int64), (length + room).cumsum(0)[:-1]])
    total = int((length + room).sum())
    q = torch.randn(len(lengths), heads, width, generator=generator)
    k, v = torch.randn(2, total, key_heads, width, generator=generator)
    used = torch.zeros(total, dtype=torch.bool)
    for first, count in zip(start.tolist(), lengths, strict=True):
        used[first : first + count] = True
    k[~used] = v[~used] = float("nan")
    return (x.to(device, dtype) for x in (q, k, v)), start.to(device), length.to(device)


def expected(q, k, v, start, length, window=-1, softcap=0.0, sink=None):
    """By dense attention in fp64, one sequence after another."""
    rows = []
    for query, first, count in zip(q, start.tolist(), length.tolist(), strict=True):
        if not count:
            rows.append(torch.zeros_like(query, dtype=torch.float64))
            continue
        own = slice(first if window < 0 else max(first, first + count - 1 - window), first + count)
        x = [y.double().cpu() for y in (query[None], k[own], v[own])]
        seen = torch.ones(1, x[1].shape[0], dtype=torch.bool)
        rows.append(
            dense_attention(*x, seen, q.shape[2] ** -0.5, softcap, sink=None if sink is None else sink.cpu())[
                0
            ][0]
        )
    return torch.stack([row.cpu() for row in rows])


@pytest.mark.parametrize(
    ("heads", "key_heads", "width", "dtype"),
    [
        (4, 2, 8, torch.float32),
        (6, 1, 40, torch.float32),
        (8, 4, 64, torch.bfloat16),
        (40, 2, 128, torch.float16),
    ],
)
@pytest.mark.parametrize("case", ["plain", "window", "softcap", "sink", "all"])
def test_each_query_sees_its_own_cache(place, heads, key_heads, width, dtype, case):
    if dtype is torch.bfloat16 and place.device == "cpu" and place.backend == "triton":
        pytest.skip("Triton's interpreter multiplies bf16 as integers")
    tensors, start, length = storage(LENGTHS, heads, key_heads, width, dtype, place.device)
    options = {
        "plain": {},
        "window": {"window": 5},
        "softcap": {"softcap": 3.0},
        "sink": {"sink": torch.linspace(-2, 2, heads, device=place.device)},
        "all": {"window": 514, "softcap": 2.0, "sink": torch.linspace(-2, 2, heads, device=place.device)},
    }[case]
    q, k, v = tensors
    out = decode_attention(q, k, v, start, length, longest=max(LENGTHS), backend=place.backend, **options)
    assert out.dtype == dtype
    want = expected(q, k, v, start, length, **options)
    assert torch.allclose(out.double().cpu(), want, atol=TOLERANCE[dtype])
    assert not out[1].any()


def test_no_sequences_give_nothing(place):
    q, k = torch.zeros(0, 4, 16, device=place.device), torch.zeros(3, 2, 16, device=place.device)
    none = torch.zeros(0, dtype=torch.int64, device=place.device)
    assert decode_attention(q, k, k, none, none, longest=0, backend=place.backend).shape == (0, 4, 16)


def test_storage_may_be_strided(place):
    tensors, start, length = storage((70, 9), 4, 2, 16, torch.float32, place.device)
    q, k, v = tensors
    both = torch.stack([k, v], 2)
    out = decode_attention(q, both[:, :, 0], both[:, :, 1], start, length, longest=70, backend=place.backend)
    assert torch.allclose(out.double().cpu(), expected(q, k, v, start, length), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(q=torch.zeros(2, 3, 8)), "no multiple"),
        (dict(k=torch.zeros(9, 2, 16)), "must be"),
        (dict(start=torch.zeros(3, dtype=torch.int64)), "one number for each"),
        (dict(length=torch.zeros(2)), "integers"),
        (dict(q=torch.zeros(2, 4, 8, dtype=torch.float16)), "one floating dtype"),
    ],
)
def test_what_does_not_fit_is_said(changes, message):
    call = dict(q=torch.zeros(2, 4, 8), k=torch.zeros(9, 2, 8), v=torch.zeros(9, 2, 8))
    call |= dict(start=torch.tensor([0, 4]), length=torch.tensor([2, 2])) | changes
    with pytest.raises(KernelError, match=message):
        decode_attention(*call.values(), longest=2)


def test_the_operator_keeps_its_promises_to_torch():
    tensors, start, length = storage((5, 2), 4, 2, 8, torch.float32, "cpu")
    q, k, v = tensors
    torch.library.opcheck(
        torch.ops.tersely.decode_attention.default, (q, k, v, start, length, 5, 0.3, -1, 0.0, None, "auto")
    )
