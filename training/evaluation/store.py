"""Figures in a run's folder, beside those that `evaluate` stored."""

import json

from training.run import Run, write_text


def add_figures(run: Run, figures: dict[str, float], note: str = "") -> None:
    """Add figures to those that are there.

    Args:
        run: the run.
        figures: by name, names with units.
        note: a sentence on how they were measured.
    """
    stored = json.loads(run.metrics_file.read_text("utf-8")) if run.metrics_file.exists() else {}
    stored["note"] = f"{stored.get('note', '')} {note}".strip()
    stored["metrics"] = stored.get("metrics", {}) | figures
    stored.setdefault("weights", run.weights())
    write_text(run.metrics_file, json.dumps(stored, indent=2) + "\n")
