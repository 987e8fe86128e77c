"""Tables of a comparison, as Markdown."""

from __future__ import annotations

from typing import Any

from fimp.analysis.figures import best_row


def cell(row: dict[str, Any], metric: str, digits: int = 4) -> str:
    """``mean ± std`` of a metric; a dash where there is none."""
    value = row["metrics"][metric]
    if value["mean"] is None or value["mean"] != value["mean"]:
        return "–"
    mean, spread = f"{value['mean']:.{digits}f}", f"{value['std']:.{digits}f}"
    return f"{mean} ± {spread}" if row["n_seeds"] > 1 else mean


def markdown(results: dict[str, Any]) -> str:
    """The whole of ``results.md``: table, best in bold, and how it was made."""
    metrics, data, machine = list(results["metrics"]), results["data"], results["machine"]
    best = {metric: best_row(results, metric) for metric in metrics}
    lines = [
        f"# {results['task']} on {data['name']}",
        "",
        f"{data['n_nodes']:,} nodes, {data['n_edges']:,} edges, {data['n_features']:,} features. "
        "Mean ± standard deviation over seeds, on test nodes.",
        "",
        "| model | " + " | ".join(metrics) + " | seeds | training s |",
        "|---" * (len(metrics) + 3) + "|",
    ]
    for row in results["summary"]:
        cells = [f"**{cell(row, m)}**" if best[m] == row["model"] else cell(row, m) for m in metrics]
        lines.append(f"| {row['model']} | {' | '.join(cells)} | {row['n_seeds']} | {row['train_seconds']:.1f} |")
    lines += ["", *(f"- {note}" for note in data["notes"])]
    lines.append(
        f"- fimp {machine['fimp']}, torch {machine['torch']}, {machine['cores']} cores, {machine['device']}, "
        f"{results['seconds'] / 60:.1f} minutes in all"
    )
    return "\n".join(lines) + "\n"
