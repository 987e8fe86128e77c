import json

import pytest

from fimp.errors import FIMPError
from fimp.foundation.vocabulary import match_vocabulary, read_mapping

VOCABULARY = {"<pad>": 0, "ACTB": 1, "TP53": 2, "C1orf112": 3, "ENSG00000141510": 4, "Dup": 5, "DUP": 6}


def test_names_then_mapping_then_likeness():
    genes = ["TP53", "Actb", "ENSG00000141510.11", "c1ORF112", "p53", "unknown", "dup", "<pad>"]
    match = match_vocabulary(genes, VOCABULARY)
    # "dup" is like two names, "<pad>" is none.
    assert match.ids.tolist() == [2, 1, 4, 3, -1, -1, -1, -1]
    assert (match.exact, match.mapped, match.alike) == (1, 0, 3)
    assert match.unmatched == ["p53", "unknown", "dup", "<pad>"]
    assert match.report == (
        "genes: the model knows 4 of 8 (1 by name, 3 without regard to case or Ensembl version); "
        "4 not: p53, unknown, dup, <pad>"
    )
    mapped = match_vocabulary(genes, VOCABULARY, {"unknown": "DUP", "p53": "TP53", "dup": "dUP", "Actb": "c1orf112"})
    # TP53 is taken already; "Actb" is looked for as the mapping says.
    assert mapped.ids.tolist() == [2, 3, 4, -1, -1, 6, -1, -1]
    assert (mapped.exact, mapped.mapped) == (1, 1)


def test_no_token_stands_for_two_genes():
    match = match_vocabulary(["actb", "Actb", "ACTB"], VOCABULARY)
    assert match.ids.tolist() == [-1, -1, 1]
    assert match_vocabulary(["actb", "Actb"], VOCABULARY).ids.tolist() == [1, -1]


def test_no_gene_at_all_is_an_error():
    with pytest.raises(FIMPError, match=r"mine: the model's vocabulary has none of the 2 genes \(first: X, Y") as error:
        match_vocabulary(["X", "Y"], VOCABULARY, name="mine")
    assert "<pad>" not in str(error.value)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json"])
def test_mappings_of_every_format_are_alike(tmp_path, suffix):
    path = tmp_path / f"map.{suffix}"
    wanted = {"ENSMUSG1": "ACTB", "NA": "TP53", "03": "C1"}
    if suffix == "json":
        path.write_text(json.dumps(wanted))
    else:
        sep = "," if suffix == "csv" else "\t"
        rows = [
            ("from", "note", "to"),
            *((k, "x", v) for k, v in wanted.items()),
            ("ENSMUSG1", "x", "ACTB"),
            ("a", "", ""),
        ]
        path.write_text("\n".join(sep.join(row) for row in rows))
    assert read_mapping(path) == wanted


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("map.csv", "gene,symbol\na,b\n", "has columns gene, symbol; wanted 'from' and 'to'"),
        ("map.csv", "from,to\na,b\na,c\n", r"gene 'a' is mapped to several names \(b, c\)"),
        ("map.csv", "", "not readable as a table"),
        ("map.csv", 'from,to\n"a,b\n', "not readable as a table"),
        ("map.json", '{"a": 1}', "entry 'a' is 1"),
        ("map.json", "[]", "holds a JSON list"),
        ("map.txt", "", "ends in .csv, .tsv or .json"),
    ],
)
def test_files_that_are_no_mapping_are_named(tmp_path, name, content, wanted):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(FIMPError, match=wanted) as error:
        read_mapping(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_mapping_that_is_not_there_is_named(tmp_path):
    for suffix in ("csv", "json"):
        with pytest.raises(FIMPError, match="not readable"):
            read_mapping(tmp_path / f"none.{suffix}")
