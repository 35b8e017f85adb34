"""Judged pairs: kept on the lane `control`, listed on `query`, a page at a time. It must not know towers."""

from __future__ import annotations

from typing import Any

from db import judgements
from db.judgements import Listed, Said
from tasks.answering import answering
from twinvec_client.contract.messages import Judge, ListJudgements
from worker.app import app
from worker.runtime import Runtime, runtime

Reply = dict[str, Any]


@app.task(name=Judge.task, ignore_result=False)
@answering
def judge(**payload: Any) -> Reply:
    return judge_pairs(Judge.read(payload), runtime())


@app.task(name=ListJudgements.task, ignore_result=False)
@answering
def listed(**payload: Any) -> Reply:
    return list_judgements(ListJudgements.read(payload), runtime())


def judge_pairs(request: Judge, runtime: Runtime) -> Reply:
    """Keep what is said; the positions of the pairs that were left out."""
    said = [
        Said((request.collection, key), (request.other_collection, other), same)
        for key, other, same in zip(request.keys, request.others, request.same, strict=True)
    ]
    return {"left_out": runtime.transact(judgements.record, said, judged_by=request.by)}


def list_judgements(request: ListJudgements, runtime: Runtime) -> Reply:
    """A page of what was said."""
    found = runtime.transact(judgements.page, collection=request.collection, after=request.after, limit=request.limit)
    return {
        "judgements": [_sent(each) for each in found],
        "after": found[-1].id if len(found) == request.limit else None,
    }


def _sent(judgement: Listed) -> Reply:
    return {
        "key": judgement.key,
        "collection": judgement.collection,
        "other_key": judgement.other_key,
        "other_collection": judgement.other_collection,
        "same": judgement.same,
        "by": judgement.judged_by,
        "at": judgement.judged_at.isoformat(),
    }
