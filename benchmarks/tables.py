"""Write the results of benchmarks into the documentation.

    python benchmarks/tables.py            # rewrites the blocks between markers
    python benchmarks/tables.py --check    # exits with 1 and names the blocks that are out of date

A block is what stands between `<!-- benchmark: NAME -->` and `<!-- end -->`. It is rendered from
tables/NAME.md.jinja once per kind of hardware, with the newest result of NAME on it. A template
gets `rows`, `facts` and `exponents` of the result and the functions and filters below. The block
`overview` is one table with values of several benchmarks, on CPUs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import jinja2

ROOT = Path(__file__).parents[1]
PAGES = ("docs/benchmarks.md", "README.md")
BLOCK = re.compile(r"(<!-- benchmark: (\w+) -->\n)(.*?)(<!-- end -->)", re.S)
NOT_MEASURED = "not measured"
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("pages", nargs="*", type=Path, default=[ROOT / page for page in PAGES])
    args = parser.parse_args()
    outdated = []
    for page in args.pages:
        text = page.read_text("utf-8")
        rendered = BLOCK.sub(lambda match: _replace(match, args.results), text)
        if args.check:
            pairs = zip(BLOCK.finditer(text), BLOCK.finditer(rendered), strict=True)
            outdated += [f"{page.name}: {old[2]}" for old, new in pairs if old[3] != new[3]]
        elif rendered != text:
            page.write_text(rendered, "utf-8")
    if outdated:
        sys.exit(
            f"these tables differ from the results: {', '.join(outdated)}; run make bench-tables"
        )


def _replace(match: re.Match[str], results: Path) -> str:
    return f"{match[1]}\n{render(match[2], results)}\n{match[4]}"


def render(name: str, results: Path) -> str:
    """Return the block of a benchmark: one table per hardware, and what was measured where."""
    if name == "overview":
        return render_overview(results)
    blocks = [
        f"{render_result(name, result)}\n\n{caption(result, hardware)}\n"
        for hardware, result in newest_results(name, results)
    ]
    return "\n".join(blocks) or "Not measured yet.\n"


def render_overview(results: Path) -> str:
    """Return the table of `overview`, from the newest result of each benchmark without a GPU."""

    def find_newest(benchmark: str, **labels: Any) -> list[Row]:
        for hardware, result in newest_results(benchmark, results):
            if not hardware["gpus"]:
                return [{**row, "cores": hardware["cores"]} for row in find(result["rows"], labels)]
        return []

    return create_environment().get_template("overview.jinja").render(find=find_newest) + "\n"


def newest_results(name: str, results: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the hardware and the newest result of a benchmark, for every kind of hardware."""
    newest: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for path in sorted(results.glob("*.json")):  # by date
        saved = json.loads(path.read_text("utf-8"))
        if name in saved["benchmarks"]:
            newest[saved["hardware"]["name"]] = (saved["hardware"], saved["benchmarks"][name])
    return [newest[hardware] for hardware in sorted(newest)]


def render_result(name: str, result: dict[str, Any]) -> str:
    rows, exponents = result["rows"], result["exponents"]
    template = create_environment().get_template(f"{name}.md.jinja")
    return template.render(
        **result,
        find=lambda **labels: find(rows, labels),
        labels=lambda label: list(dict.fromkeys(row[label] for row in rows if label in row)),
        exponent=lambda contestant, metric: show_exponent(exponents, contestant, metric),
    ).strip()


def create_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "benchmarks/tables"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(show=show, ratio=ratio, speedup=speedup)
    return environment


def caption(result: dict[str, Any], hardware: dict[str, Any]) -> str:
    """Return where, when and with which versions a result was measured."""
    where = f"{hardware['cores']} CPU cores ({hardware['cpu']})"
    if hardware["gpus"]:
        where = f"{len(hardware['gpus'])} x {hardware['gpus'][0]}"
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    data = f" Data: {', '.join(result['files'])}." if result["files"] else ""
    contestants: dict[str, dict[str, None]] = {}  # by the reason why they were not measured
    for row in result["rows"]:
        if "median" not in row:
            contestants.setdefault(row["not_measured"], {})[row["contestant"]] = None
    missing = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in contestants.items())
    return (
        f"*Measured on {result['date']} on {where} at commit `{result['commit']}` with Python "
        f"{hardware['python']}, {versions}.{data}{f' Not measured: {missing}.' if missing else ''}*"
    )


def find(rows: list[Row], labels: dict[str, Any]) -> list[Row]:
    """Return the rows with these labels; `contestant` is one as well."""
    return [row for row in rows if all(row.get(name) == value for name, value in labels.items())]


def show(row: Row | list[Row], metric: str, form: str = "{:,.0f}") -> str:
    """Format the median of a metric, in a row or in the only row of a list."""
    row = _only(row)
    if "not_measured" in row:
        return NOT_MEASURED
    return form.format(row["median"][metric]) if metric in row["median"] else ""


def ratio(row: Row | list[Row], metric: str, baseline: float | Row | list[Row]) -> str:
    """Format a metric as a multiple of the baseline: a number, or the same metric of a row."""
    return _format_ratio(row, metric, baseline, inverse=False)


def speedup(row: Row | list[Row], metric: str, baseline: float | Row | list[Row]) -> str:
    """Format how many times smaller a metric is than the baseline."""
    return _format_ratio(row, metric, baseline, inverse=True)


def _format_ratio(row: Any, metric: str, baseline: Any, *, inverse: bool) -> str:
    row = _only(row)
    if not isinstance(baseline, float | int):
        baseline = _only(baseline).get("median", {}).get(metric)
    value = row.get("median", {}).get(metric)
    if not value or not baseline:
        return ""
    number = baseline / value if inverse else value / baseline
    decimals = 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:,.{decimals}f}x"


def show_exponent(exponents: dict[str, dict[str, float]], contestant: str, metric: str) -> str:
    value = exponents.get(contestant, {}).get(metric)
    return "" if value is None else f"{value:.2f}"


def _only(row: Row | list[Row]) -> Row:
    if isinstance(row, dict):
        return row
    return row[0] if row else {"not_measured": "there is no such row"}


if __name__ == "__main__":
    main()
