"""Records as runs of an MLflow experiment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from assay.bench.case import Outcome, UsageError
from assay.bench.claims.conditions import name_device
from assay.bench.records.record import Record

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

EXPERIMENT = "assay"
RECORD_TAG = "assay.record"  # by which a second export finds what is there already
METRICS_PER_CALL = 1000  # MLflow refuses more
TEXT_LENGTH = 500
_UNUSABLE = re.compile(r"[^A-Za-z0-9_.-]")


def log_records(records: Sequence[Record], target: str) -> tuple[int, int]:
    """Logs what is not there yet; returns how many records were logged and how many were there.

    target: a folder, or an MLflow tracking URI. A run has the case's words as parameters, measurements and quality as metrics with
    their intervals (`quality.rmse`, `quality.rmse.low`), curves as metrics by epoch, and provenance as tags. A run that an interrupted
    export left unfinished stays, without the tag, and its record is logged anew. Raises UsageError.
    """
    client, MlflowException = _connect(target)  # noqa: N806  # a class that is only there when MLflow is
    try:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        identity = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        known = _find_known(client, identity)
        new = [record for record in records if _name(record) not in known]
        for record in new:
            _log(client, identity, record)
    except MlflowException as error:
        raise UsageError(f"--out {target}: MLflow says: {' '.join(str(error).split())[:400]}") from None
    return len(new), len(records) - len(new)


def _connect(target: str) -> tuple[MlflowClient, type[Exception]]:
    if "://" not in target:
        # MLflow asks for this since it prefers a database; a folder needs no further package
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        target = Path(target).absolute().as_uri()
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise UsageError("MLflow is not installed: `.venv/bin/python -m pip install mlflow-skinny` brings its client, then export again") from None
    try:
        return MlflowClient(tracking_uri=target), MlflowException
    except (MlflowException, ImportError) as error:
        raise UsageError(f"--out {target}: MLflow cannot use it: {' '.join(str(error).split())[:400]}; give a folder or a tracking URI") from None


def _find_known(client: MlflowClient, experiment: str) -> set[str]:
    known: set[str] = set()
    token: str | None = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        known |= {run.data.tags[RECORD_TAG] for run in page if RECORD_TAG in run.data.tags}
        token = page.token
        if not token:
            return known


def _name(record: Record) -> str:
    return f"{record.run}/{record.sequence:04d}"


def _log(client: MlflowClient, experiment: str, record: Record) -> None:
    from mlflow.entities import Param, RunTag

    case, environment = record.case, record.environment
    began, ended = (int(moment.timestamp() * 1000) for moment in (record.started, record.ended))
    run = client.create_run(experiment, start_time=began, run_name=record.case.case.id)
    words = {"case": case.case.id, "device": name_device(record), "profile": record.profile, **case.model_dump(mode="json"), **record.conditions}
    tags = {
        "assay.outcome": record.outcome,
        "assay.reason": record.reason,
        "assay.synthetic_twin": record.synthetic,
        "assay.emulated": "; ".join(record.emulated),
        "assay.comparability": record.comparability.key if record.comparability else None,
        "assay.image_digest": environment.image_digest if environment else None,
        "assay.git_sha": environment.git_sha if environment else None,
    }
    params = [Param(_clean(name), str(value)[:TEXT_LENGTH]) for name, value in words.items()]
    client.log_batch(run.info.run_id, params=params, tags=[RunTag(name, str(value)[:TEXT_LENGTH]) for name, value in tags.items() if value not in (None, "")])
    metrics = _list_metrics(record, ended)
    while batch := list(islice(metrics, METRICS_PER_CALL)):
        client.log_batch(run.info.run_id, metrics=batch)
    client.set_terminated(run.info.run_id, "FINISHED" if record.outcome is Outcome.OK else "FAILED", ended)
    client.set_tag(run.info.run_id, RECORD_TAG, _name(record))  # last: an export that was interrupted before is repeated, not lost


def _list_metrics(record: Record, moment: int) -> Iterator[Metric]:
    from mlflow.entities import Metric

    for kind, quantities in (("measurement", record.measurements), ("quality", record.quality)):
        for name, quantity in quantities.items():
            bounds = {"": quantity.value, ".low": quantity.low, ".high": quantity.high}
            for suffix, value in bounds.items():
                if value is not None:
                    yield Metric(_clean(f"{kind}.{name}{suffix}"), value, moment, 0)
    for name, curve in record.curves.items():
        for step, value in enumerate(curve, start=1):
            yield Metric(_clean(f"curve.{name}"), value, moment, step)


def _clean(name: str) -> str:
    return _UNUSABLE.sub("_", name)[:200]
