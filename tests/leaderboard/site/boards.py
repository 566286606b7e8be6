"""Boards as `saebench.leaderboard.data.build` makes them, without records behind them."""

from __future__ import annotations

import functools
import random
from typing import Any

from saebench.cards.card import TaskCard, cards_dir, load_card
from saebench.results.slug import slug

Json = dict[str, Any]

HOOK = "blocks.9.hook_resid_post"
TASKS = ("core", "sparse_probing", "concept_separability", "dark_matter")
SAES = {
    "zoo:topk-k32-s0": ("topk", 32.0),
    "zoo:topk-k32-s1": ("topk", 32.1),
    "zoo:topk-k32-s2": ("topk", 31.9),
    "zoo:topk-k64-s0": ("topk", 64.0),
    "zoo:batchtopk-k32-s0": ("batchtopk", 33.4),
}
CONTROLS = {
    "baseline:pca?k=32": ("pca", 32.0),
    "baseline:neurons": ("neurons", 640.0),
    "baseline:random?d_sae=2048&l0=32": ("random", 32.0),
    "baseline:permuted-decoder?of=zoo:topk-k32-s0": ("permuted", 32.0),
    "zoo:frozen-topk-k32-s0": ("topk", 32.0),
}
HOSTILE = (
    "<script>window.hacked = 1</script>",
    '"\'><img src=x onerror="window.hacked = 1">',
    "</script><script>window.hacked = 1</script><!--",
    "x" * 300,
    "\u202eelpmaxe \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "{{ 7 * 7 }} {% raw %} ${window.hacked = 1} <a href='javascript:window.hacked=1'>x</a> & &amp; nul\x00 \ud800",
    "<b>a</b><i>b</i> <a href='https://example.org'>c</a>",
)


@functools.cache
def card(task: str) -> TaskCard:
    return load_card(cards_dir() / f"{task}.yaml")


def default() -> Json:
    """Like the published board: five SAEs, five controls (one with one task only), an incomplete SAE, and a group."""
    everyone = {**SAES, **CONTROLS, "mine:half-done": ("jumprelu", 48.0)}
    done = {"mine:half-done": TASKS[:2], "baseline:permuted-decoder?of=zoo:topk-k32-s0": TASKS[:1]}
    groups = {"group:topk-k32": ("topk", None)}
    return board(
        [
            stratum(everyone, TASKS, controls=frozenset(CONTROLS), done=done),
            stratum(groups, ("seed_stability",), groups=True, ranked=False),
        ]
    )


def tiny() -> Json:
    return board([stratum(dict(list(SAES.items())[:2]), ("core",))])


def hostile() -> Json:
    names = {name: (name, 20.0 + index) for index, name in enumerate(HOSTILE)}
    made = board([stratum({**names, "plain": ("topk", 40.0)}, ("core",), done={HOSTILE[0]: (), "plain": ()})])
    made["title"] = made["description"] = HOSTILE[0]
    section = made["strata"][0]
    section["model"] = section["hook"] = HOSTILE[2]
    section["metrics"][0]["title"] = section["metrics"][0]["unit"] = HOSTILE[1]
    for sae in made["saes"].values():
        sae["records"][0]["error"] = HOSTILE[2]
        sae["records"][0]["command"] = HOSTILE[5]
        sae["records"][0]["measurements"][0]["subset"] = HOSTILE[4]
        sae["records"][0]["provenance"]["packages"] = {HOSTILE[0]: HOSTILE[3]}
    task = made["tasks"]["core"]
    task["title"] = task["description"] = task["citation"][0] = HOSTILE[0]
    made["left_out"] = [
        {"record_id": "0", "sae": name, "task": "core", "task_version": 1, "reason": name} for name in HOSTILE
    ]
    return made


def many(rows: int = 5000) -> Json:
    everyone = {f"sweep:sae-{i:05d}": (("topk", "jumprelu", "gated")[i % 3], 8.0 + i / 10) for i in range(rows)}
    return board([stratum(everyone, ("core", "sparse_probing"))], pages=3)


def board(strata: list[Json], pages: int | None = None) -> Json:
    """``pages`` limits the SAEs that have one, where only the table is of interest."""
    rows = [(row, section) for section in strata for row in section["rows"]]
    saes = {row["id"]: _sae(row, section) for row, section in rows[:pages]}
    tasks = sorted({record["task"] for sae in saes.values() for record in sae["records"]})
    return {
        "schema_version": 1,
        "name": "embedded",
        "title": "The embedded default",
        "description": "SAEs of the zoo on Gemma-3-270m, layer 9, beside controls.",
        "data_hash": "sha256:" + "0123456789abcdef" * 4,
        "saebench_version": "0.1.0",
        "records": sum(len(sae["records"]) for sae in saes.values()),
        "strata": strata,
        "saes": saes,
        "tasks": {task: card(task).model_dump(mode="json") for task in tasks},
        "left_out": [],
    }


def stratum(
    names: dict[str, tuple[str, float | None]],
    tasks: tuple[str, ...],
    *,
    controls: frozenset[str] = frozenset(),
    done: dict[str, tuple[str, ...]] | None = None,
    groups: bool = False,
    ranked: bool = True,
) -> Json:
    """Names with architecture and L0; ``done`` names the tasks of those that lack some."""
    metrics = [metric for task in tasks for metric in _metrics(task, ranked)]
    rows, place = [], 0
    for name, (architecture, l0) in names.items():
        has = (done or {}).get(name, tasks)
        complete = ranked and len(has) == len(tasks) and name not in controls
        place += complete
        rows.append(
            {
                "id": slug(name),
                "sae": name,
                "architecture": architecture,
                "d_sae": 2048,
                "l0": l0,
                "control": name in controls,
                "group": groups,
                "completed": len(has),
                "of": len(tasks),
                "rank": {"place": place, "shared_to": place + 1, "mean": place + 0.25, "low": place, "high": place + 2}
                if complete
                else None,
                "values": {m["key"]: _value(name, m) for m in metrics if m["task"] in has},
            }
        )
    facts = {"id": "stratum", "model": "asset:gemma-3-270m", "hook": HOOK, "width": "2048", "preset": "quick"}
    return {**facts, "groups": groups, "metrics": metrics, "rows": rows}


def _metrics(task: str, ranked: bool) -> list[Json]:
    fields = {"title", "description", "unit", "higher_is_better", "bounds", "chance", "reliability"}
    return [
        {
            "key": f"{task}/{spec.id}",
            "task": task,
            "metric": spec.id,
            "subset": "",
            "ranked": ranked and spec.primary and spec.higher_is_better is not None,
            **spec.model_dump(include=fields),
        }
        for spec in map(card(task).metric, card(task).table_columns)
    ]


def _value(name: str, metric: Json) -> Json:
    rng = random.Random(f"{name!r} {metric['key']}")
    value, width = rng.uniform(0.1, 0.9), rng.uniform(0.004, 0.03)
    if metric["metric"] == "separability_top10" and name == "zoo:topk-k64-s0":
        return {"value": None, "ci_low": None, "ci_high": None, "n": 0, "unit": "", "not_scored": "too few documents"}
    return {
        "value": value,
        "ci_low": value - width,
        "ci_high": value + width,
        "n": 64,
        "unit": "sequence",
        "not_scored": "",
    }


def _sae(row: Json, section: Json) -> Json:
    tasks = dict.fromkeys(key.split("/")[0] for key in row["values"]) or {"core": None}
    return {
        "sae": row["sae"],
        "architecture": row["architecture"],
        "hook": section["hook"],
        "d_in": 640,
        "d_sae": row["d_sae"],
        "records": [_record(row, task) for task in tasks],
        "densities": {
            "edges": [-6 + i / 5 for i in range(31)],
            "counts": [i * (30 - i) for i in range(30)],
            "dead": 17,
        },
    }


def _record(row: Json, task: str) -> Json:
    values = {key: value for key, value in row["values"].items() if key.startswith(f"{task}/")}
    everything = [_measurement(key, value, "") for key, value in values.items()]
    subsets = [_measurement(key, value, f"subset {i}") for key, value in values.items() for i in range(3)]
    return {
        "record_id": "518a3e8551ad6808",
        "task": task,
        "task_version": card(task).version,
        "preset": "quick",
        "status": "ok" if values else "failed",
        "error": "" if values else "The SAE's decoder has NaN.",
        "measurements": [*everything, *subsets] or [_measurement(f"{task}/fvu", {"value": None}, "")],
        "counts": {"tokens": 7978, "sequences": 64},
        "command": f"saebench run --sae {row['sae']} --tasks {task} --preset quick",
        "identity": _identity(row["sae"], task),
        "provenance": _provenance(),
    }


def _measurement(key: str, value: Json, subset: str) -> Json:
    empty = {"value": None, "ci_low": None, "ci_high": None, "n": None, "unit": "", "not_scored": "the task failed"}
    return {
        "metric": key.split("/")[1],
        "subset": subset,
        "stderr": None,
        "interval": "bca-bootstrap",
        **empty,
        **value,
    }


def _identity(sae: str, task: str) -> Json:
    return {
        "task": task,
        "task_version": 1,
        "parameters": {"text": "asset:sae-probes/97_news_class", "sequences": 64},
        "seed": 0,
        "model": "asset:gemma-3-270m",
        "model_fingerprint": "ccc407f73fa8ffce" * 4,
        "dtype": "float32",
        "device_class": "cpu",
        "sae": sae,
        "sae_fingerprint": "993972e662e09a5e" * 4,
        "data": {"asset:sae-probes/97_news_class": "8a33a6c7ce5099ec" * 4},
    }


def _provenance() -> Json:
    return {
        "created": "2026-11-21T18:13:19.297613Z",
        "saebench_version": "0.1.0",
        "git_commit": "5b1bf08a88cd03de85f5ca53ca59316547fd1904",
        "git_dirty": True,
        "python": "3.11.7",
        "platform": "Linux",
        "packages": {"torch": "2.13.0+cpu", "numpy": "2.4.6"},
        "device": "cpu",
        "cpu_count": 2,
        "wall_seconds": 157.8,
        "peak_memory_mb": 2439.8,
        "arguments": {},
    }
