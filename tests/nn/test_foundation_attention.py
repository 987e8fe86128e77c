import pytest
import torch

from fimp.errors import FIMPError
from fimp.nn import FoundationMessage, StackConfig, TransformerStack
from fimp.nn.foundation_attention import message_attention

VARIANTS = {"post": {}, "pre": {"norm": "pre", "activation": "gelu"}, "nystrom": {"landmarks": 2}}


def stack(variant="post"):
    torch.manual_seed(0)
    made = TransformerStack(StackConfig(dim=8, heads=2, hidden=12, layers=3, **VARIANTS[variant])).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made.eval()


def graph():
    """Five nodes, of which the first has no real token, and twelve edges with weights."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(5, 6, 8, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([[0], [6], [3], [1], [4]])
    edges = torch.randint(5, (2, 12), generator=generator)
    return h, edges, torch.arange(6) < lengths, 0.5 + torch.rand(12, generator=generator, dtype=torch.float64)


def scores(layer, x, told):
    """Attention of states ``[T, D]`` to real states ``[S, D]`` in a layer, mean over heads."""
    query, (key, _) = layer.queries(x[None]), layer.keys_values(told[None])
    return (query @ key.transpose(-1, -2) * query.size(-1) ** -0.5).softmax(-1).mean(1)[0]


@pytest.mark.parametrize("variant", ["post", "pre"])
@pytest.mark.parametrize("aggregate", ["final", "layer"])
def test_attention_is_that_of_the_message_stream(variant, aggregate):
    """Against a plain loop over edges and layers."""
    made, (h, edges, mask, weight) = stack(variant), graph()
    message = FoundationMessage(made, aggregate, edges_per_chunk=5)
    given = (message, h, h, edges, mask, weight)
    found = list(message_attention(*given))
    order, weights = torch.cat([part[0] for part in found], 1), torch.cat([part[1] for part in found])
    sends = mask.any(1)[edges[0]]
    assert torch.equal(order, edges[:, sends])
    by_layer = [torch.cat([part for _, part in message_attention(*given, layer=layer)]) for layer in (0, 1, -1)]
    torch.testing.assert_close(torch.stack(by_layer).mean(0), weights)
    told = [h[node][mask[node]] for node in range(5)]
    asking = [h[destination] for destination in order[1].tolist()]
    for layer, wanted in zip(made.layers, by_layer, strict=True):
        heard = []
        for place, source in enumerate(order[0].tolist()):
            x = asking[place]
            torch.testing.assert_close(wanted[place][:, mask[source]], scores(layer, x, told[source]))
            assert (wanted[place][:, ~mask[source]] == 0).all()
            key, value = layer.keys_values(told[source][None])
            heard.append(layer.attend(layer.queries(x[None]), key, value)[0])
        for place, destination in enumerate(order[1].tolist()):
            context = heard[place]
            if aggregate == "layer":
                same = (order[1] == destination).nonzero()[:, 0]
                share = weight[sends][same] / weight[sends][same].sum()
                context = sum(s * heard[other] for s, other in zip(share, same.tolist(), strict=True))
            asking[place] = layer.finish(asking[place][None], context[None])[0]
        told = [layer(one[None])[0] if len(one) else one for one in told]


def test_some_edges_are_as_among_all():
    h, edges, mask, weight = graph()
    wanted = torch.arange(12) % 3 == 0
    for aggregate in ("final", "layer"):
        message = FoundationMessage(stack(), aggregate)
        ((every, all_weights),) = message_attention(message, h, h, edges, mask, weight)
        ((some, weights),) = message_attention(message, h, h, edges, mask, weight, wanted)
        kept = wanted[mask.any(1)[edges[0]]]
        assert torch.equal(some, every[:, kept])
        torch.testing.assert_close(weights, all_weights[kept])


def test_attention_that_does_not_exist_is_refused():
    h, edges, *_ = graph()
    with pytest.raises(FIMPError, match="layer 3 is unknown; the model uses 3 layers"):
        list(message_attention(FoundationMessage(stack()), h, h, edges, layer=3))
    with pytest.raises(FIMPError, match="Nystrom attention has no weights"):
        list(message_attention(FoundationMessage(stack("nystrom")), h, h, edges))
