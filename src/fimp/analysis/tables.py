"""Tables of a comparison, as Markdown."""

from __future__ import annotations

from typing import Any

from fimp.analysis.figures import best_rows


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
    best = {metric: best_rows(results, metric) for metric in metrics}
    lines = [
        f"# {results['task']} on {data['name']}",
        "",
        f"{data['n_nodes']:,} nodes, {data['n_edges']:,} edges, {data['n_features']:,} features. "
        f"Mean ± standard deviation over seeds, on test nodes: the first seed trains on {data['n_train']:,}, validates "
        f"on {data['n_val']:,} and tests {data['n_test']:,}.",
        "",
        "| model | " + " | ".join(metrics) + " | seeds | training s |",
        "|---" * (len(metrics) + 3) + "|",
    ]
    for row in results["summary"]:
        cells = [f"**{cell(row, m)}**" if row["model"] in best[m] else cell(row, m) for m in metrics]
        lines.append(f"| {row['model']} | {' | '.join(cells)} | {row['n_seeds']} | {row['train_seconds']:.1f} |")
    lines += ["", *_differences(results), *(f"- {note}" for note in data["notes"])]
    if changed := results["settings"]["changed"]:
        lines.append(f"- settings that are not the defaults: {'; '.join(changed)}")
    lines.append(
        f"- fimp {machine['fimp']}, torch {machine['torch']}, {machine['cores']} cores, {machine['jobs']} runs side by "
        f"side, {machine['device']}, {results['seconds'] / 60:.1f} minutes in all"
    )
    return "\n".join(lines) + "\n"


def verdicts(results: dict[str, Any]) -> list[str]:
    """A line per model that says whether it differs from the best baseline in the monitored metric."""
    return [
        f"{entry['model']} against {entry['baseline']}, {entry['metric']}: {_evidence(entry)}: {entry['verdict']}"
        for entry in monitored(results)
    ]


def _differences(results: dict[str, Any]) -> list[str]:
    entries = monitored(results)
    if not entries:
        return []
    baseline, metric = entries[0]["baseline"], entries[0]["metric"]
    lines = [
        f"Difference in {metric} to {baseline}, the best baseline. p: corrected resampled t-test over seeds. Interval: "
        "95 %, bootstrap over test nodes.",
        "",
        "| model | difference | interval | p | |",
        "|---|---|---|---|---|",
    ]
    for entry in entries:
        p_value = "–" if entry["p_value"] is None else p_text(entry["p_value"])
        cells = (entry["model"], f"{entry['mean_difference']:+.4f}", interval_text(entry), p_value, entry["verdict"])
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def monitored(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Differences to the best baseline in the monitored metric."""
    return [entry for entry in results["comparisons"] if entry["metric"] == results["monitor"]]


def _evidence(entry: dict[str, Any]) -> str:
    p_value = without_p(entry) if entry["p_value"] is None else f"p {p_text(entry['p_value'])}"
    return f"{entry['mean_difference']:+.4f} [{interval_text(entry)}], {p_value}"


def without_p(entry: dict[str, Any]) -> str:
    """What stands where a comparison has no p-value."""
    return "one seed" if entry["n_seeds"] == 1 else "no p-value"


def interval_text(entry: dict[str, Any]) -> str:
    """Interval of a difference; a dash where there is none."""
    return "–" if entry["interval"] is None else " to ".join(f"{bound:+.4f}" for bound in entry["interval"])


def p_text(value: float) -> str:
    """A p-value as papers print it."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
