"""What does starting cost? Whole processes of `import datacachalog` and of `catalog`, in turn with a bare Python."""

from __future__ import annotations

import os
from pathlib import Path

from _harness import arguments, in_turn, python, run_process, save, spread, workplace
from _report import table

CATALOG = """\
[datasets.customers]
source = "s3://acme/crm/customers.csv"
[datasets.events]
source = "s3://acme/events/*.json"
"""
STATEMENTS = {
    "bare Python": "pass",
    "import datacachalog": "import datacachalog",
    "… and a value of it": "from datacachalog import Dataset; Dataset('a', 's3://bucket/a')",
    "… and the sync catalog": "from datacachalog import Catalog",
}


def main() -> None:
    options = arguments(rounds="(30)")
    rounds = options.n or (3 if options.quick else 30)
    commands = {label: [python(), "-c", statement] for label, statement in STATEMENTS.items()}
    commands["catalog list"] = [str(Path(python()).with_name("catalog")), "list"]
    with workplace() as place:
        (place / "datacachalog.toml").write_text(CATALOG)
        environment = {**os.environ, "DATACACHALOG_ROOT": str(place), "HOME": str(place)}
        contenders = {
            label: lambda command=command: run_process(command, environment) for label, command in commands.items()
        }
        runs = in_turn(contenders, rounds, label="start")
    results = {label: spread([run.wall_seconds for run in of_one]) for label, of_one in runs.items()}
    floor = results["bare Python"]["median"]
    rows = []
    for label, values in results.items():
        median, least = values["median"] * 1e3, values["min"] * 1e3
        rows.append([label, f"{median:.1f}", f"{median - floor * 1e3:+.1f}", f"{least:.1f}"])
    printed = table(["start", "ms", "above the bare one", "least"], rows)
    print(printed)
    save(options, "start", results, [printed])


if __name__ == "__main__":
    main()
