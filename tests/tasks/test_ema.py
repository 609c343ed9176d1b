import torch
from torch import nn

from medpipe.tasks.ema import WeightAverage, update_average


def test_an_average_of_constant_weights_is_those_weights() -> None:
    network = nn.Linear(3, 2)
    average = WeightAverage(network, 0.99)
    for step in range(1, 4):
        average.update(step)
    for name, tensor in average.state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[name])


def test_the_decay_grows_to_its_value() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, 0.5)
    average.weights["weight"].fill_(0.0)
    nn.init.ones_(network.weight)
    average.update(1)  # decay (1 + 1) / (10 + 1)
    torch.testing.assert_close(average.weights["weight"].item(), 1 - 2 / 11)
    average.weights["weight"].fill_(0.0)
    average.update(1000)
    torch.testing.assert_close(average.weights["weight"].item(), 0.5)


def test_the_network_has_the_average_within_the_context_alone() -> None:
    network = nn.Linear(2, 2)
    own = network.weight.detach().clone()
    average = WeightAverage(network, 0.9)
    average.weights["weight"].fill_(7.0)
    with average.applied():
        assert torch.equal(network.weight, torch.full((2, 2), 7.0))
    assert torch.equal(network.weight, own)


def test_a_teacher_moves_towards_the_student() -> None:
    teacher, student = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(teacher.weight)
    nn.init.ones_(student.weight)
    update_average(teacher, student, 0.75)
    assert teacher.weight.item() == 0.25
