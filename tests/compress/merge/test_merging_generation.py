"""Generation over caches against running the whole text again for each id."""

import numpy as np
import pytest
import torch
from merging import FORMS, build, pack

from tersely.compress.merge.lm import running
from tersely.compress.merge.lm.config import END
from tersely.errors import UsageError


def boundaries(documents):
    return torch.tensor([0, *np.cumsum([len(document) for document in documents])], dtype=torch.int32)


@pytest.mark.parametrize(("policy", "reduce", "expand"), FORMS)
def test_steps_give_the_states_of_a_forward_over_all(policy, reduce, expand):
    model = build(policy, reduce, expand, window=4 if reduce == "keep" else -1).float()
    _, _, documents = pack(
        [b"the cat sat on a mat", b"x", b"two words, 3 more", "d\u00e9j\u00e0 vu 7".encode()]
    )
    cuts = [5, 1, 3, 2]
    with torch.no_grad():
        wanted = [model.body(model.embedding(d), boundaries([d]), d).states for d in documents]
        start = torch.cat([d[:cut] for d, cut in zip(documents, cuts, strict=True)])
        cu_seqlens = boundaries([d[:cut] for d, cut in zip(documents, cuts, strict=True)])
        merged, state = running.begin(model.body, model.embedding(start), cu_seqlens, start)
        for row, part in enumerate(merged.states.split(cuts)):
            torch.testing.assert_close(part, wanted[row][: cuts[row]], atol=2e-4, rtol=1e-4)
        for place in range(24):
            rows = [r for r, d in enumerate(documents) if cuts[r] + place < len(d)]
            if not rows:
                break
            ids = torch.stack([documents[r][cuts[r] + place] for r in rows])
            states = running.step(model.body, model.embedding(ids), ids, torch.tensor(rows), state)
            expected = torch.stack([wanted[r][cuts[r] + place] for r in rows])
            torch.testing.assert_close(states, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("policy", ["all", "space", "router"])
def test_greedy_ids_are_the_most_probable_of_forwards_over_all(policy):
    model = build(policy, expand="smooth" if policy == "router" else "repeat").float()
    prompts = [torch.tensor([END, *text]) for text in (b"the cat", b"", b"a b c d e f")]
    ids, cu_seqlens = torch.cat(prompts), boundaries(prompts)
    made = model.generate(ids, cu_seqlens, max_new_tokens=10)
    assert len(made) == 3
    for prompt, new in zip(prompts, made, strict=True):
        text = prompt
        for found in new.tolist():
            with torch.no_grad():
                logits = model(text, boundaries([text])).logits[-1]
            assert found == logits.argmax()
            text = torch.cat([text, torch.tensor([found])])
        assert len(new) == 10 or new[-1] == END


def test_a_prompt_that_ends_stops_and_the_others_go_on():
    model = build("space").float()
    torch.nn.init.zeros_(model.head.weight)
    made = model.generate(torch.tensor([END] * 8), torch.arange(9).int(), 200, temperature=1.0, seed=1)
    lengths = made.lengths
    assert len(set(lengths.tolist())) > 2  # an id in 257 ends
    for new in made:
        assert END not in new[:-1]
        assert len(new) == 200 or new[-1] == END
    again = model.generate(torch.tensor([END] * 8), torch.arange(9).int(), 200, temperature=1.0, seed=1)
    assert again.equals(made)


def test_empty_prompts_are_refused():
    for ids, cu_seqlens in (([END], [0, 1, 1]), ([END, 65], [0, 1])):
        with pytest.raises(UsageError, match="give each at least"):
            build().generate(
                torch.tensor(ids, dtype=torch.int64), torch.tensor(cu_seqlens, dtype=torch.int32)
            )


def test_no_prompts_give_no_rows():
    made = build().generate(torch.tensor([], dtype=torch.int64), torch.tensor([0], dtype=torch.int32))
    assert (len(made), len(made.values)) == (0, 0)


def test_negative_temperatures_are_refused():
    with pytest.raises(UsageError, match="must not be negative"):
        build().generate(torch.tensor([END]), torch.tensor([0, 1], dtype=torch.int32), temperature=-0.5)
