"""The controller of deletion rates, against the paper's loop in plain numbers."""

import pytest
import torch

from tersely.compress.merge.policies import Choice
from tersely.compress.merge.rate import PIController
from tersely.errors import UsageError

RATES = [0.0, 0.1, 0.4, 0.9, 0.95, 0.6, 0.5, 0.3]


def test_weights_are_those_of_the_loop():
    controller = PIController(0.5, 0.5, 0.01)
    p = i = 0.0
    for rate in RATES:
        error = 0.5 - rate
        p = 0.9 * p + 0.1 * 0.5 * error
        i = i + 0.01 * error
        assert controller.step(torch.tensor(rate)).item() == pytest.approx(max(0.0, p + i), abs=1e-6)


def test_a_saved_state_goes_on():
    whole, first, second = (PIController(0.3, integral=0.1) for _ in range(3))
    wanted = [whole.step(rate) for rate in RATES]
    found = [first.step(rate) for rate in RATES[:4]]
    second.load_state_dict(first.state_dict())
    found += [second.step(rate) for rate in RATES[4:]]
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted))


def test_a_rate_that_answers_is_held():
    controller, rate = PIController(0.5, integral=0.02), 0.0
    for _ in range(500):
        rate = rate + 0.1 * (min(1.0, 2 * controller.step(rate).item()) - rate)
    assert rate == pytest.approx(0.5, abs=0.02)


def test_as_a_rate_control_it_weighs_the_mean_gate():
    gate = torch.tensor([-20.0, -1.0, -28.0, -30.0], requires_grad=True)
    choice = Choice(gate > -15, gate.detach(), gate)
    same, loss = PIController(0.9, integral=0.1)(choice, torch.tensor([0, 1, 3], dtype=torch.int32))
    weight = (0.05 + 0.1) * (0.9 - 2 / 3)
    assert same is choice
    assert loss.item() == pytest.approx(weight * -49 / 3, rel=1e-5)
    assert torch.autograd.grad(loss, gate)[0].tolist() == pytest.approx([weight / 3] * 3 + [0], rel=1e-5)
    with pytest.raises(UsageError, match="DeleteGate"):
        PIController(0.5)(Choice(choice.keep, choice.score), torch.tensor([0, 3], dtype=torch.int32))


def test_a_target_beyond_everything_is_refused():
    with pytest.raises(UsageError, match=r"1\.5"):
        PIController(1.5)
