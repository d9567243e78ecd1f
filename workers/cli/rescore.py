"""`aftercall rescore`: a changed lead rule, applied to the leads that are stored."""

from __future__ import annotations

from analytics.lead_score import LEAD_RULE
from db.repository import runs
from db.repository.records import ScoredLead
from db.repository.runs import LeadToRescore, NewRun
from workers.cli.store import open_store
from workers.console import console
from workers.fingerprints import code_version, fingerprint
from workers.readable import count

_BATCH = 500  # leads in a transaction, so that each is short


def command() -> None:
    """Score the stored leads by the rule in force, where another scored them. Needs no model; earlier runs are kept."""
    num_rescored, last = 0, 0
    with open_store() as store:
        while True:
            with store.database.unit_of_work() as session:
                leads = runs.leads_scored_otherwise(
                    session, LEAD_RULE.version, limit=_BATCH, after_run=last
                )
                for lead in leads:
                    runs.store_run(session, _rescored(lead))
            if not leads:
                break
            num_rescored, last = num_rescored + len(leads), leads[-1].run_id
    if num_rescored:
        console().print(f"{count(num_rescored, 'lead')} scored by rule {LEAD_RULE.version}.")
    else:
        console().print(f"Every lead is scored by rule {LEAD_RULE.version} already.")


def _rescored(stored: LeadToRescore) -> NewRun:
    """A run with the same features and evidence, and what the rule makes of them now."""
    scored = LEAD_RULE.score(stored.lead.features)
    provenance = {
        "rescored_run": stored.run_id,
        "fingerprint": stored.fingerprint,
        "rule": LEAD_RULE.version,
        "code": code_version(),
    }
    return NewRun(
        call_id=stored.call_id,
        transcript_id=stored.transcript_id,
        scorecard_id=stored.scorecard_id,
        status="ok",
        fingerprint=fingerprint(provenance),
        provenance=provenance,
        result=ScoredLead(
            stored.lead.features, scored.score, scored.tier, scored.reasons, scored.rule_version
        ),
        evidence=stored.evidence,
    )
