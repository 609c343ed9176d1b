import torch
from torch import nn

from medpipe.tasks.dropout import KeyedDropout, drops

CPU = torch.device("cpu")


def test_a_sample_loses_the_same_in_any_company() -> None:
    network = nn.Sequential(nn.Dropout(0.4), nn.Dropout1d(0.3))
    x = torch.ones(4, 50, 7)
    with KeyedDropout(0, 8, 4, CPU):
        together = network(x)
    for place in range(4):
        with KeyedDropout(0, 8 + place, 1, CPU):
            assert torch.equal(network(x[place : place + 1]), together[place : place + 1])
    assert not torch.equal(together[0], together[1])
    with KeyedDropout(1, 8, 4, CPU):
        assert not torch.equal(network(x), together)


def test_it_drops_as_much_as_torch_does_and_whole_channels_where_asked() -> None:
    x = torch.ones(2, 500, 20)
    with KeyedDropout(0, 0, 2, CPU):
        plain, channels = nn.Dropout(0.25)(x), nn.Dropout1d(0.25)(x)
    assert set(plain.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs((plain == 0).float().mean().item() - 0.25) < 0.02
    assert torch.equal(channels.amin(dim=2), channels.amax(dim=2))
    assert abs((channels == 0).float().mean().item() - 0.25) < 0.06


def test_nothing_is_dropped_outside_of_training() -> None:
    network = nn.Dropout(0.5).eval()
    with KeyedDropout(0, 0, 3, CPU):
        assert torch.equal(network(torch.ones(3, 4)), torch.ones(3, 4))
    assert drops(nn.Dropout(0.5))
    assert not drops(nn.Sequential(nn.Dropout(0.0), nn.Linear(1, 1)))
