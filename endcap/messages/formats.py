"""Messages in the formats that addresses take: Slack's JSON, plain JSON, and CDEvents as CloudEvents."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from endcap.messages.addresses import Format
from endcap.messages.message import Kind, Message

ID_HEADER = "x-endcap-message-id"
"""The message's id, the same in each try."""
_MARKS = {"info": "", "warning": "⚠ ", "critical": "🔴 "}
_CDEVENTS = "0.4.1"
"""The release of the CDEvents specification (https://cdevents.dev)."""
_CUSTOM_SUBJECT = "endcap-rollout"
"""The subject's type of events that CDEvents has no word for: the tool's name comes first."""
_AB_SUBJECT = "endcap-ab"
"""The same of those about A/B tests."""
_TYPES: dict[Kind, tuple[str, str]] = {
    "rollout.begun": ("dev.cdevents.service.deployed.0.2.0", "service"),
    "rollout.promoted": ("dev.cdevents.service.upgraded.0.2.0", "service"),
    "rollout.rolled-back": ("dev.cdevents.service.rolledback.0.2.0", "service"),
    "gate.passed": ("dev.cdevents.testsuiterun.finished.0.2.0", "testSuiteRun"),
    "gate.failed": ("dev.cdevents.testsuiterun.finished.0.2.0", "testSuiteRun"),
    "gate.undecided": ("dev.cdevents.testsuiterun.finished.0.2.0", "testSuiteRun"),
    "run.failed": ("dev.cdevents.pipelinerun.finished.0.2.0", "pipelineRun"),
    # CDEvents has no word for these: https://github.com/cdevents/spec/tree/main/custom
    "rollout.raised": ("dev.cdeventsx.endcap-rollout.raised.0.1.0", _CUSTOM_SUBJECT),
    "rollout.changed": ("dev.cdeventsx.endcap-rollout.changed.0.1.0", _CUSTOM_SUBJECT),
    "rollout.attention": ("dev.cdeventsx.endcap-rollout.attention.0.1.0", _CUSTOM_SUBJECT),
    "ab.begun": ("dev.cdeventsx.endcap-ab.begun.0.1.0", _AB_SUBJECT),
    "ab.moved": ("dev.cdeventsx.endcap-ab.moved.0.1.0", _AB_SUBJECT),
    "ab.dropped": ("dev.cdeventsx.endcap-ab.dropped.0.1.0", _AB_SUBJECT),
    "ab.ended": ("dev.cdeventsx.endcap-ab.ended.0.1.0", _AB_SUBJECT),
    "ab.attention": ("dev.cdeventsx.endcap-ab.attention.0.1.0", _AB_SUBJECT),
}
"""Of each kind, the type of the event and of its subject."""
_OUTCOMES = {"gate.passed": "pass", "gate.failed": "fail", "gate.undecided": "cancel"}


def format_message(message: Message, chosen: Format) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a message's request.

    Parameters
    ----------
    message
        The message.
    chosen
        What the address takes.
    """
    document = message.to_json()
    headers = {"content-type": "application/json", ID_HEADER: quote(message.id, safe="/:.-_")}
    if chosen == "slack":
        return headers, json.dumps({"text": format_slack_text(message)}, ensure_ascii=False).encode()
    if chosen == "json":
        return headers, json.dumps(document, ensure_ascii=False).encode()
    cloud, body = _make_cloud_event(message, document)
    return {**headers, **cloud}, body


def format_slack_text(message: Message) -> str:
    """Return a message as Slack's text: its title, what happened, with which numbers, and what to do."""
    shown = Message.from_json(message.to_json())
    lines = [f"*{_MARKS[shown.severity]}{_escape(shown.title)}*", _escape(shown.text)]
    if shown.metrics:
        lines.append("  ".join(f"{_escape(name)} {value:.4g}" for name, value in shown.metrics.items()))
    about = {"version": shown.version, "run": shown.run, "data": shown.dataset}
    lines.append("  ".join(f"{name} `{_escape(value)}`" for name, value in about.items() if value))
    if shown.action:
        lines.append(f"What to do: {_escape(shown.action)}")
    return "\n".join(line for line in lines if line)


def make_cdevent(message: Message, document: dict[str, Any]) -> dict[str, Any]:
    """Return a message as a CDEvent of the specification's release 0.4.1.

    Parameters
    ----------
    message
        The message.
    document
        What its `to_json` returns; it becomes the event's custom data.
    """
    kind, subject_type = _TYPES[message.kind]
    source = f"/endcap/{quote(message.recommender)}"
    subject = (
        message.run or message.recommender
        if subject_type not in (_CUSTOM_SUBJECT, _AB_SUBJECT)
        else message.recommender
    )
    return {
        "context": {
            "version": _CDEVENTS,
            "id": message.id,
            "source": source,
            "type": kind,
            "timestamp": message.time.isoformat(),
        },
        "subject": {
            "id": subject,
            "source": source,
            "type": subject_type,
            "content": _make_content(message, subject_type),
        },
        "customData": document,
        "customDataContentType": "application/json",
    }


def _make_content(message: Message, subject_type: str) -> dict[str, Any]:
    artifact = f"pkg:mlflow/{quote(message.recommender)}@{quote(message.version)}"
    if subject_type == "service":
        return {"environment": {"id": "serving"}, "artifactId": artifact}
    if subject_type == "testSuiteRun":
        suite = {"id": f"{message.recommender}/gate"}
        outcome = _OUTCOMES[message.kind]
        return {"environment": {"id": "test-part"}, "testSuite": suite, "outcome": outcome, "reason": message.text}
    if subject_type == "pipelineRun":
        name = str(message.facts.get("pipeline", ""))
        return {"pipelineName": name, "outcome": "failure", "errors": message.text}
    return {"artifactId": artifact, **message.facts}


def _make_cloud_event(message: Message, document: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    from cloudevents.conversion import to_structured
    from cloudevents.http import CloudEvent

    event = make_cdevent(message, document)
    context = event["context"]
    attributes = {
        "id": context["id"],
        "source": context["source"],
        "type": context["type"],
        "time": context["timestamp"],
        "subject": event["subject"]["id"],
        "datacontenttype": "application/json",
    }
    headers, body = to_structured(CloudEvent(attributes, event))
    return dict(headers), body


def _escape(text: str) -> str:
    """Escape what Slack reads as a link or a command."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
