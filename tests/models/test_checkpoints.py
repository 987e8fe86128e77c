import pytest

from fimp.errors import FIMPError
from fimp.models import resolve, resolve_all
from fimp.models.checkpoints import FoundationChoice, parse, short_name, split_names


def test_names_say_how_a_checkpoint_is_used():
    assert parse("gcn") is None
    assert parse("fimp-base:no-edges") is None
    assert parse("fimp:a/b") == FoundationChoice("a/b", graph=True)
    assert parse("fm:a/b,train=last-2,weights=genes") == FoundationChoice(
        "a/b", graph=False, train="last-2", weights="genes"
    )
    assert parse("fimp:x,aggregate=final,layers=-4:").layers == "-4:"


def test_a_list_keeps_options_with_their_checkpoint():
    names = "mean,fimp:a/b,train=frozen,weights=none,gcn, fm:c"
    assert split_names(names) == ["mean", "fimp:a/b,train=frozen,weights=none", "gcn", "fm:c"]
    choices = resolve_all(names)
    assert [choice.name for choice in choices] == split_names(names)
    assert [choice.spec.baseline for choice in choices] == [True, False, True, True]
    with pytest.raises(FIMPError, match="named 2 times"):
        resolve_all("fm:c,fm:c")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fimp:", "names no folder"),
        ("fm:x,depth=2", "'depth=2' .* is no option"),
        ("fm:x,train", "'train' .* is no option"),
        ("fm:x,train=some", "use full, frozen, last-2 or lora-8"),
        ("fm:x,train=lora-x", "use full, frozen, last-2 or lora-8"),
        ("fm:x,train=last-0", "use full, frozen, last-2 or lora-8"),
        ("fm:x,weights=half", "use all, none, genes, layers"),
        ("fm:x,aggregate=max", "use layer or final"),
        ("fm:x,train=full,train=frozen", "given twice"),
    ],
)
def test_bad_options_are_named(name, message):
    with pytest.raises(FIMPError, match=message):
        resolve(name)


def test_a_table_of_gene_embeddings_goes_with_models_of_tokens():
    assert resolve("fimp-base,genes=a/b.npz").gene_table == "a/b.npz"
    both = resolve("fimp-base:no-edges,genes=x.npz")
    assert (both.control, both.gene_table) == ("no-edges", "x.npz")
    assert split_names("fimp-base,genes=x.npz,gcn") == ["fimp-base,genes=x.npz", "gcn"]
    for name, message in (
        ("gcn,genes=x.npz", "gcn has no tokens"),
        ("fimp-base,table=x", "known is genes=FILE"),
        ("fimp-base,genes=", "known is genes=FILE"),
        ("nothing,genes=x", "is unknown"),
    ):
        with pytest.raises(FIMPError, match=message):
            resolve(name)


def test_figures_show_the_folder_alone():
    assert short_name("fimp:/long/way/to/scgpt,weights=none") == "fimp:scgpt,weights=none"
    assert short_name("fm:scgpt") == "fm:scgpt"
    assert short_name("gcn") == "gcn"


def test_a_checkpoint_has_controls_like_any_model():
    choice = resolve("fimp:a/b:no-edges,train=frozen")
    assert (choice.control, choice.spec.foundation.folder, choice.spec.foundation.train) == (
        "no-edges",
        "a/b",
        "frozen",
    )
    assert resolve("fimp:a/b:shuffled-edges").control == "shuffled-edges"
    assert resolve("fimp:C:/models/a").spec.foundation.folder == "C:/models/a"
    assert resolve("fimp:a,layers=-4:").control is None
    assert short_name("fimp:a/b:no-edges,train=frozen") == "fimp:b:no-edges,train=frozen"
    with pytest.raises(FIMPError, match="hears no neighbours anyway"):
        resolve("fm:a/b:no-edges")
