import torch

from fimp.data.subgraph import Subgraph
from fimp.models.fimp_rounds import FIMPRounds
from fimp.tokenizers import Tokens

N, T, D = 6, 5, 32


def everybody(n=N):
    """A graph of n nodes that all hear each other."""
    src, dst = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    edges = torch.stack([src.flatten(), dst.flatten()])[:, (src != dst).flatten()]
    return Subgraph(torch.arange(n).numpy(), edges, (n, n), (edges.size(1),), torch.full((n,), n - 1))


def model(rounds=2):
    torch.manual_seed(0)
    return FIMPRounds(D, rounds, heads=2, reach=1).eval()


def conversation(seed=0, agree=()):
    """Values that nodes show, of which those in ``agree`` are alike, a mask and names."""
    torch.manual_seed(seed)
    values = torch.randn(N, T, D // 2)
    for node in agree:
        values[node] = values[agree[0]] + 0.1 * torch.randn(T, D // 2)
    mask = torch.ones(N, T, dtype=torch.bool)
    mask[0, :3] = False
    # Every head has a whole name, which is that of a patch.
    names = 4.0 * torch.eye(16)[:T].repeat(N, 1, 2)
    return values, mask, (names, names)


@torch.no_grad()
def answers(network, values, mask, names, graph=None):
    shown = torch.where(mask[:, :, None], values, 0.0)
    place = torch.zeros_like(values)
    sources = Tokens(torch.cat([shown, place], 2), mask)
    return network(sources, torch.zeros(N, T, D), graph or everybody(), names)[..., : D // 2]


def test_what_is_hidden_is_not_heard():
    values, mask, names = conversation()
    sources = torch.cat([values, torch.zeros_like(values)], 2)
    other = torch.where(mask[:, :, None], sources, 7.0)
    network, guesses = model(), torch.zeros(N, T, D)
    with torch.no_grad():
        first = network(Tokens(sources, mask), guesses, everybody(), names)
        assert torch.equal(network(Tokens(other, mask), guesses, everybody(), names), first)


def test_answers_are_as_large_as_what_is_told():
    values, mask, names = conversation(agree=(0, 1, 2))
    network = model()
    first, second = answers(network, values, mask, names), answers(network, 0.5 * values, mask, names)
    assert (second - 0.5 * first).norm() < 0.05 * first.norm()


def test_those_who_agree_here_are_believed():
    """Untrained, and with names that say nothing of who is who."""
    values, mask, names = conversation(agree=(0, 1))
    out = answers(model(rounds=3), values, mask, names)[0, :3]
    error = (out - values[0, :3]).square().mean()
    strangers = (values[2:, :3].mean(0) - values[0, :3]).square().mean()
    assert error < 0.5 * values[0, :3].square().mean()
    assert error < 0.5 * strangers
    # Where visible patches speak against it, the same node is not.
    values[1, 3:] *= -1.0
    assert answers(model(rounds=3), values, mask, names)[0, :3].norm() < 0.3 * out.norm()


def test_later_rounds_explain_more_of_what_is_seen():
    values, mask, names = conversation(agree=(0, 1, 2))
    left = [(answers(model(rounds), values, mask, names) - values)[mask].square().mean() for rounds in (1, 2, 4)]
    assert left[0] > left[1] > left[2]


def test_all_weights_learn_and_only_seeds_are_answered():
    values, mask, names = conversation()
    network = model().train()
    graph = everybody()._replace(num_nodes=(2, N))
    sources = Tokens(torch.cat([values, torch.zeros_like(values)], 2), mask)
    out = network(sources, 0.1 * torch.randn(N, T, D), graph, names)
    assert out.shape == (2, T, D)
    out.square().sum().backward()
    silent = {name for name, weight in network.named_parameters() if weight.grad is None}
    assert not silent
    assert network.agreement.grad.abs() > 0
