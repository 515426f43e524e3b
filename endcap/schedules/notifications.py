"""Notifications of a bucket about its objects, in the forms in which they come.

S3 event notifications as AWS and MinIO send them, wrapped by SNS or not; EventBridge's form; and each of these as the
data of a CloudEvent, in structured, batched or binary mode.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import unquote_plus

from endcap.errors import RequestError
from endcap.safe_reading import parse_json
from endcap.schedules.versions import list_places
from endcap.sources.s3_sources import SCHEME
from endcap.spec.shop import Shop

Json = dict[str, Any]
Outcome = Literal["accepted", "double", "disordered", "unknown", "test", "unconfirmed"]
REMEMBERED = 10_000
"""So many objects' latest notifications are remembered."""
_BATCH, _STRUCTURED = "application/cloudevents-batch+json", "application/cloudevents+json"


@dataclass(frozen=True)
class ObjectNotice:
    """A notification about an object.

    Attributes
    ----------
    bucket, key
        The object.
    etag
        The server's mark of its content; empty if it was removed, or not named.
    time
        When it happened; None if that is not named.
    sequencer
        S3's order of the events of one object: of two, the longer one, or else the greater one is later.
    """

    bucket: str
    key: str
    etag: str = ""
    time: datetime | None = None
    sequencer: str = ""

    @property
    def address(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


@dataclass(frozen=True)
class ParsedNotifications:
    """What a request held: notices, and how many parts of other kinds."""

    notices: list[ObjectNotice]
    other_counts: Counter[str]


def parse_notifications(headers: Mapping[str, str], body: bytes) -> ParsedNotifications:
    """Parse the body of a request.

    Parameters
    ----------
    headers
        The request's headers, with small letters.
    body
        Its body.

    Returns
    -------
    ParsedNotifications
        The notices; and as `other_counts` tests of the sender (`test`) and requests to confirm a subscription
        (`unconfirmed`), whose address is not called.

    Raises
    ------
    RequestError
        It is in none of the forms (`schedule.notification-malformed`).
    """
    other_counts: Counter[str] = Counter()
    try:
        document = parse_json(body)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == _BATCH:
            notices = [notice for event in document for notice in _iterate_notices(_open_event(event), other_counts)]
        elif kind == _STRUCTURED:
            notices = list(_iterate_notices(_open_event(document), other_counts))
        else:  # the mode `binary` has the event's data as the body
            notices = list(_iterate_notices(document, other_counts))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _make_malformed_error(error) from None
    return ParsedNotifications(notices, other_counts)


class NotificationDesk:
    """Says which shops' data a notification is about, and counts all that come.

    A notification starts nothing. It wakes up the check, and the version of the data decides.

    Parameters
    ----------
    shops
        The shops that are looked after.

    Attributes
    ----------
    counts
        How many notifications came, by what became of them. `unknown` are about no source of these shops. `double`
        came before. `disordered` are older than one that came before; they wake up the check too, which does no harm.
    """

    def __init__(self, shops: Iterable[Shop]) -> None:
        self._places = [(place, shop.name) for shop in shops for place in list_places(shop) if place.startswith(SCHEME)]
        self._latest: OrderedDict[str, ObjectNotice] = OrderedDict()
        self.counts: Counter[str] = Counter()

    def accept(self, parsed: ParsedNotifications) -> set[str]:
        """Take notifications in. Returns the names of the shops to look at."""
        woken: set[str] = set()
        self.counts.update(parsed.other_counts)
        for notice in parsed.notices:
            shops = {shop for place, shop in self._places if _is_inside(notice.address, place)}
            outcome = self._judge(notice) if shops else "unknown"
            self.counts[outcome] += 1
            if outcome in ("accepted", "disordered"):
                woken |= shops
        return woken

    def _judge(self, notice: ObjectNotice) -> Outcome:
        before = self._latest.get(notice.address)
        if before == notice:
            return "double"
        if before is not None and _is_older(notice, before):
            return "disordered"
        self._latest[notice.address] = notice
        self._latest.move_to_end(notice.address)
        if len(self._latest) > REMEMBERED:
            self._latest.popitem(last=False)
        return "accepted"


def _open_event(event: Json) -> Any:
    """Return the data of a CloudEvent in JSON format."""
    if not (event["specversion"] and event["id"] and event["source"] and event["type"]):
        raise ValueError("a CloudEvent's attribute is empty")
    return event["data"]


def _iterate_notices(document: Any, other_counts: Counter[str]) -> Iterator[ObjectNotice]:
    """Iterate over the notices in a document of any of the forms."""
    kind = document.get("Type")
    if kind == "Notification":  # SNS
        yield from _iterate_notices(parse_json(document["Message"].encode()), other_counts)
    elif kind in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        other_counts["unconfirmed"] += 1
    elif document.get("Event") == "s3:TestEvent":
        other_counts["test"] += 1
    elif "Records" in document:
        for record in document["Records"]:
            yield _read_record(record)
    elif "detail" in document:  # EventBridge
        yield _read_detail(document["detail"], document.get("time"))
    elif "s3" in document:
        yield _read_record(document)
    else:
        yield _read_detail(document, None)


def _read_record(record: Json) -> ObjectNotice:
    """Read an S3 record, whose key is encoded as in a query."""
    return _make_notice(record["s3"], unquote_plus(record["s3"]["object"]["key"]), record.get("eventTime"))


def _read_detail(detail: Json, time: str | None) -> ObjectNotice:
    """Read what EventBridge tells, whose key is as it is."""
    return _make_notice(detail, detail["object"]["key"], time)


def _make_notice(part: Json, key: str, time: str | None) -> ObjectNotice:
    about = part["object"]
    bucket, etag = part["bucket"]["name"], about.get("eTag") or about.get("etag") or ""
    texts = (bucket, key, etag, about.get("sequencer") or "")
    if not all(isinstance(text, str) for text in texts) or not (bucket and key):
        raise ValueError("bucket or key is no text, or empty")
    moment = datetime.fromisoformat(time) if time else None
    return ObjectNotice(bucket, key, etag, moment, texts[3])


def _is_older(notice: ObjectNotice, before: ObjectNotice) -> bool:
    if notice.sequencer and before.sequencer:
        # Hexadecimal numbers; S3 says to fill the shorter one up on its right.
        length = max(len(notice.sequencer), len(before.sequencer))
        return notice.sequencer.ljust(length, "0") < before.sequencer.ljust(length, "0")
    if notice.time is None or before.time is None or (notice.time.tzinfo is None) != (before.time.tzinfo is None):
        return False
    return notice.time < before.time


def _is_inside(address: str, place: str) -> bool:
    return address == place or address.startswith(f"{place.rstrip('/')}/")


def _make_malformed_error(error: Exception) -> RequestError:
    return RequestError(
        f"the body is no notification of a bucket ({type(error).__name__}: {str(error)[:200]!r}); allowed: S3's JSON "
        "with Records, the same wrapped by SNS, EventBridge's JSON, or a CloudEvent of these",
        code="schedule.notification-malformed",
        reason=str(error)[:200],
    )
