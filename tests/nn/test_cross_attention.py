import pytest
import torch

from fimp.errors import FIMPError
from fimp.nn import CrossNodeAttention


@pytest.mark.parametrize("bias", [True, False])
def test_one_edge_equals_multihead_attention(bias):
    torch.manual_seed(0)
    mha = torch.nn.MultiheadAttention(12, 3, bias=bias, batch_first=True).double()
    if bias:
        torch.nn.init.normal_(mha.in_proj_bias)
        torch.nn.init.normal_(mha.out_proj.bias)
    message = CrossNodeAttention.from_multihead(mha)
    h_dst, h_src = torch.randn(1, 4, 12, dtype=torch.float64), torch.randn(1, 6, 12, dtype=torch.float64)
    mask = torch.tensor([[True, True, False, True, False, True]])
    wanted, weights = mha(h_dst, h_src, h_src, key_padding_mask=~mask)
    edge = torch.tensor([[0], [0]])
    torch.testing.assert_close(message(h_dst, h_src, edge, mask), wanted)
    torch.testing.assert_close(message.attention(h_dst, h_src, edge, mask), weights)


def test_dropout_only_in_training():
    torch.manual_seed(0)
    message = CrossNodeAttention(8, 2, dropout=0.5)
    h, edge = torch.randn(2, 3, 8), torch.tensor([[0, 1], [1, 0]])
    assert not torch.equal(message(h, h, edge), message(h, h, edge))
    message.eval()
    assert torch.equal(message(h, h, edge), message(h, h, edge))


def test_multihead_with_other_widths_is_refused():
    with pytest.raises(FIMPError, match="kdim"):
        CrossNodeAttention.from_multihead(torch.nn.MultiheadAttention(8, 2, kdim=4))
    with pytest.raises(FIMPError, match="add_bias_kv"):
        CrossNodeAttention.from_multihead(torch.nn.MultiheadAttention(8, 2, add_bias_kv=True))


def test_heads_must_divide_the_width():
    with pytest.raises(FIMPError, match="heads=3 does not divide dim=8"):
        CrossNodeAttention(8, 3)


@pytest.mark.parametrize("options", [{}, {"null_token": True}, {"null_token": True, "names": True}])
def test_a_narrow_value_is_the_same_for_all_heads(options):
    torch.manual_seed(0)
    wide, narrow = (CrossNodeAttention(16, 2, value_dim=width, **options).double() for width in (None, 8))
    with torch.no_grad():
        narrow.v_proj.bias.normal_()
    # Heads of the wide module say what the narrow one says.
    copied = narrow.state_dict()
    for name in ("v_proj.weight", "v_proj.bias"):
        copied[name] = torch.cat([copied[name]] * 2)
    wide.load_state_dict(copied)
    h_dst, h_src = torch.randn(2, 3, 16).double(), torch.randn(3, 4, 16).double()
    names = (torch.randn_like(h_src), torch.randn_like(h_dst)) if "names" in options else None
    mask = torch.rand(3, 4) > 0.3
    edges = torch.tensor([[0, 1, 2, 0], [0, 0, 1, 1]])
    torch.testing.assert_close(
        narrow(h_dst, h_src, edges, mask, names=names), wide(h_dst, h_src, edges, mask, names=names)
    )


def test_a_value_of_other_width_than_a_head_has_exact_gradients():
    torch.manual_seed(0)
    message = CrossNodeAttention(8, 2, null_token=True, value_dim=3).double()
    h_dst, h_src = (torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    edges = torch.tensor([[0, 1, 1], [0, 0, 1]])
    assert message.tell(h_src)[1].shape == (2, 3, 3)
    assert torch.autograd.gradcheck(lambda dst, src: message(dst, src, edges), (h_dst, h_src))


def test_the_width_of_a_value_is_positive():
    with pytest.raises(FIMPError, match="value_dim=0 is below 1"):
        CrossNodeAttention(8, 2, value_dim=0)


def test_repr_is_readable():
    assert repr(CrossNodeAttention(8, 2)).startswith("CrossNodeAttention(\n  dim=8, heads=2, dropout=0.0")


def named(heads=2, dim=16):
    """A module with names, sources named 0 to 3 and 4 to 7, and queries named 1 and 9 (nobody's name)."""
    torch.manual_seed(0)
    message = CrossNodeAttention(dim, heads, null_token=True, names=True).double()
    # Orthogonal names: those of strangers score nothing.
    names = torch.eye(dim, dtype=torch.float64) - 1.0 / dim
    h_src, h_dst = torch.randn(2, 4, dim, dtype=torch.float64), torch.randn(1, 2, dim, dtype=torch.float64)
    return message, h_dst, h_src, (names[torch.arange(8).view(2, 4)], names[torch.tensor([[1, 9]])])


def test_at_first_a_token_asks_its_namesakes_and_else_the_null_token():
    message, h_dst, h_src, names = named(heads=1, dim=256)
    edges = torch.tensor([[0, 1], [0, 0]])
    weights = message.attention(0.0 * h_dst, h_src, edges, names=names)
    # The null token scores as much as a namesake.
    assert 0.4 < weights[0, 0, 1] < 0.6
    assert weights[0, 0, [0, 2, 3]].max() < 1e-3
    assert weights[0, 1].max() < 1e-3
    assert weights[1].max() < 1e-3


def test_names_add_to_the_scores():
    message, h_dst, h_src, names = named()
    torch.nn.init.normal_(message.null_score)
    edge = torch.tensor([[1], [0]])
    q = (message.q_proj(h_dst) + message.q_name(message.name_norm(names[1])))[0].view(2, 2, 8).transpose(0, 1)
    k = (message.k_proj(h_src) + message.k_name(message.name_norm(names[0])))[1].view(4, 2, 8).transpose(0, 1)
    null = (q @ message.null_key.transpose(-1, -2)) / 8**0.5 + message.null_score[:, None, None]
    wanted = torch.cat([q @ k.transpose(-1, -2) / 8**0.5, null], -1).softmax(-1)
    torch.testing.assert_close(message.attention(h_dst, h_src, edge, names=names)[0], wanted.mean(0)[:, :4])
    v = torch.cat([message.v_proj(h_src)[1].view(4, 2, 8).transpose(0, 1), message.null_value], 1)
    out = message.out_proj((wanted @ v).transpose(0, 1).flatten(1))
    torch.testing.assert_close(message(h_dst, h_src, edge, names=names)[0], out)


def test_names_reach_every_parameter_and_masked_sources_stay_silent():
    message, h_dst, h_src, names = named()
    mask = torch.tensor([[True, True, True, False], [False] * 4])
    edges = torch.tensor([[0, 1], [0, 0]])
    out = message(h_dst, h_src, edges, mask, names=names)
    out.square().sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for name, p in message.named_parameters() if name != "k_proj.bias"
    )
    changed = h_src.clone()
    changed[~mask] = 7.0
    torch.testing.assert_close(message(h_dst, changed, edges, mask, names=names), out)


def test_a_module_with_names_works_without():
    message, h_dst, h_src, _ = named()
    plain = CrossNodeAttention(16, 2, null_token=True).double()
    plain.load_state_dict({k: v for k, v in message.state_dict().items() if k in plain.state_dict()})
    edges = torch.tensor([[0, 1], [0, 0]])
    torch.testing.assert_close(message(h_dst, h_src, edges), plain(h_dst, h_src, edges))


def test_names_need_a_module_with_names():
    _, h_dst, h_src, names = named()
    message = CrossNodeAttention(16, 2).double()
    with pytest.raises(FIMPError, match="names=True"):
        message(h_dst, h_src, torch.tensor([[0], [0]]), names=names)


def heard_module(**options):
    torch.manual_seed(0)
    message = CrossNodeAttention(8, 2, null_token=True, heard=True, **options).double().eval()
    for parameter in message.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return message


def test_what_was_heard_divides_the_message():
    """Against a loop over edges: the mean of what real tokens say, weighted by the attention that they get."""
    message = heard_module()
    h_dst, h_src = torch.randn(2, 3, 8).double(), torch.randn(3, 4, 8).double()
    mask = torch.tensor([[True, True, False, True], [True] * 4, [False, False, False, True]])
    edges = torch.tensor([[0, 1, 2, 0], [0, 0, 1, 1]])
    query, value = message._split(message.q_proj(h_dst)), message._split(message.v_proj(h_src))
    key = message._split(message.k_proj(h_src))
    wanted = torch.zeros(2, 2, 3, 4).double()
    for node in range(2):
        total, heard = torch.zeros(2, 3, 4).double(), torch.zeros(2, 3, 1).double()
        sources = edges[0, edges[1] == node].tolist()
        for source in sources:
            keys = torch.cat([key[source], message.null_key], 1)
            seen = torch.cat([mask[source], torch.tensor([True])])
            weight = (query[node] @ keys.transpose(1, 2) / 2.0).masked_fill(~seen, -torch.inf).softmax(-1)
            total += weight @ torch.cat([value[source], message.null_value], 1)
            heard += weight[..., :-1].sum(-1, keepdim=True)
        prior = torch.nn.functional.softplus(message.prior)[:, None, None]
        wanted[node] = (total / len(sources)) / (heard / len(sources) + prior)
    wanted = torch.nn.functional.linear(wanted.transpose(1, 2).flatten(2), message.out_proj.weight)
    torch.testing.assert_close(message(h_dst, h_src, edges, mask), wanted + message.out_proj.bias)


@torch.no_grad()
def test_neighbours_that_have_nothing_to_say_do_not_thin_out_the_message():
    torch.manual_seed(0)
    plain = CrossNodeAttention(64, 4, null_token=True, names=True).eval()
    heard = CrossNodeAttention(64, 4, null_token=True, names=True, heard=True).eval()
    names = torch.randn(2, 1, 64)
    own, strangers = torch.randn(1, 1, 64), torch.randn(7, 1, 64)
    h_src = torch.cat([own, strangers])
    called = torch.cat([names[:1], names[1:].expand(7, -1, -1)]), names[:1]
    few, many = torch.tensor([[0], [0]]), torch.stack([torch.arange(8), torch.zeros(8, dtype=torch.int64)])

    def size(message, edges):
        aggr = "mean" if message is plain else "sum"
        out = message(torch.zeros(1, 1, 64), h_src, edges, aggr=aggr, names=called)
        return float(out.flatten() @ message.out_proj(message.v_proj(own)).flatten())

    assert size(plain, many) < 0.3 * size(plain, few)
    assert size(heard, many) > 0.5 * size(heard, few)


def test_what_is_heard_needs_a_null_token():
    with pytest.raises(FIMPError, match="null_token=True"):
        CrossNodeAttention(8, 2, heard=True)
    with pytest.raises(FIMPError, match="value_dim=None"):
        CrossNodeAttention(8, 2, null_token=True, heard=True, value_dim=4)
    silent = heard_module()(torch.randn(2, 1, 8).double(), torch.randn(1, 1, 8).double(), torch.zeros(2, 0).long())
    assert not silent.any()


def test_shares_are_the_weights_with_which_edges_make_the_message():
    """Values that are all one per source add up to the message, source by source."""
    torch.manual_seed(0)
    message = CrossNodeAttention(8, 2, null_token=True, heard=True).double()
    h = torch.randn(4, 3, 8, dtype=torch.float64)
    edges = torch.tensor([[0, 1, 2, 3, 3], [0, 0, 0, 1, 1]])
    mask = torch.tensor([[True, True, False], [True] * 3, [True] * 3, [False] * 3])
    weight = torch.tensor([1.0, 0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    shares = message.shares(h[:2], h, edges, mask, weight)
    for chunk in (1, 2):
        torch.testing.assert_close(message.shares(h[:2], h, edges, mask, weight, chunk=chunk), shares)
    assert (shares[3:] == 0).all()
    total = torch.zeros(2, 3, dtype=torch.float64).index_add(0, edges[1], shares)
    assert ((total[0] > 0) & (total[0] < 1)).all()
    # A source that says one thing in all its tokens, and nothing else is said: the message is its share of that.
    for source in range(3):
        torch.nn.init.zeros_(message.v_proj.weight)
        said = torch.zeros(4, 2, 3, 4, dtype=torch.float64)
        said[source] = 1.0
        project = message._project

        def spoken(*arguments, said=said, project=project):
            query, key, value, key_mask = project(*arguments)
            return query, key, torch.cat([said, torch.zeros_like(value[:, :, 3:])], 2), key_mask

        message._project = spoken
        torch.nn.init.eye_(message.out_proj.weight)
        torch.nn.init.zeros_(message.out_proj.bias)
        out = message(h[:2], h, edges, mask, weight, aggr="sum")
        message._project = project
        torch.testing.assert_close(out[0].mean(-1), shares[edges[0] == source][0])


def test_shares_need_messages_that_are_divided_by_what_was_heard():
    h = torch.randn(2, 3, 8)
    with pytest.raises(FIMPError, match="built without heard=True"):
        CrossNodeAttention(8, 2).shares(h, h, torch.tensor([[0], [1]]))
