"""Where a rollout stands, on one screen of 80 columns. Plain ASCII, so that it is whole in a log file too."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

from endcap.experiments.decision_parts import format_change, format_level, format_share
from endcap.experiments.evidence import EffectEvidence, GuardrailEvidence
from endcap.experiments.lift import Lift
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.rollout.history import HistoryStep, RolloutHistory, describe_share, format_minute, format_span
from endcap.rollout.outlook import describe_wait
from endcap.spec.rollout import RolloutSpec
from endcap.tables import format_text_table

WIDTH = 80
"""The most characters of a line."""
_LABEL = 11
_BAR = 31
"""The characters of an effect's bar; an odd number, so that no effect has a place of its own."""
_LARGEST = 1.0
"""The largest change that a bar shows. A bound beyond it is an arrow."""
_STEPS = 4


def format_screen(history: RolloutHistory) -> str:
    """Return a rollout's status as text.

    Parameters
    ----------
    history
        The rollout.

    Returns
    -------
    str
        Lines of at most 80 characters. Other characters than printable ASCII are shown as `?`.
    """
    lines = [
        *_format_head(history),
        *_format_effects(history),
        *_format_guardrails(history),
        *_format_doubts(history),
        *_format_steps(history.steps[-_STEPS:]),
        *_format_block("waits for", describe_wait(history)),
    ]
    return "\n".join(make_plain(line).rstrip() for line in lines)


def _format_head(history: RolloutHistory) -> Iterator[str]:
    state, policy, now = history.state, history.policy, history.last.time
    yield f"{state.recommender}: version {state.version} is {state.phase}, {describe_share(state)}"[:WIDTH]
    start = state.started or state.created
    lasts = format_span((now - start).total_seconds())
    lasted = format_span((now - state.stepped).total_seconds())
    yield _indent("since", f"{format_minute(start)} UTC, {lasts}; like this for {lasted}")
    goal = f"{policy.deciding_metric.name} above {format_change(policy.allowed_loss)}"
    yield _indent("against", f"version {state.previous_version}; promoted by {policy.promote}: {goal}")
    path = [f"[{format_share(share)}]" if share == state.share else format_share(share) for share in policy.shares]
    yield _indent("share", f"{_draw_share(state.share)}  {' '.join(path)} {'[all]' if state.share >= 1 else 'all'}")
    looked = "never" if state.looked is None else f"{format_minute(state.looked)} UTC"
    yield _indent("last look", f"{looked}, {len(history.looks):,} in all")


def _format_effects(history: RolloutHistory) -> Iterator[str]:
    evidence = history.evidence
    if evidence is None or not evidence.effects:
        yield _indent("effects", "nothing is known yet")
        return
    limit = _find_limit(evidence.effects)
    scale = f"{format_change(-limit)}".ljust(_BAR // 2) + "0" + f"{format_change(limit)}".rjust(_BAR // 2)
    yield ""
    yield f"  effects on{'':10}{scale}  against {evidence.against}"
    for effect in evidence.effects:
        margin = history.policy.allowed_loss if effect.metric == history.policy.deciding_metric.name else None
        if margin is not None and not effect.better:
            margin = -margin
        yield f"    {effect.metric[:16]:16}  {draw_band(effect, limit, margin)}  {format_band_numbers(effect)}"[:WIDTH]


def draw_band(effect: EffectEvidence | Lift, limit: float, margin: float | None = None) -> str:
    """Draw an effect and its band as 31 characters: `[` and `]` are its ends, `o` is the effect, `:` is no change.

    Parameters
    ----------
    effect
        Its band.
    limit
        The change at the right end. What lies beyond either end is drawn as `<` or `>`.
    margin
        A change to mark by `!`; None: nothing.
    """

    def place(value: float) -> int:
        bounded = max(-limit, min(limit, value))
        return round((bounded + limit) / (2 * limit) * (_BAR - 1))

    low, high = place(effect.lower), place(effect.upper)
    cells = ["=" if low < position < high else "." for position in range(_BAR)]
    cells[_BAR // 2] = ":"
    if margin is not None:
        cells[place(margin)] = "!"
    cells[low] = "<" if effect.lower < -limit else "["
    cells[high] = ">" if effect.upper > limit else "]"
    if math.isfinite(effect.lower) or math.isfinite(effect.upper):
        cells[place(effect.effect)] = "o"
    return "".join(cells)


def format_looks_head() -> str:
    """Return the heading over the lines of `format_look`."""
    scale = f"{format_change(-_LARGEST):{_BAR // 2}}0{format_change(_LARGEST):>{_BAR // 2}}"
    return f"   time  share {scale}"


def format_look(entry: RolloutLogEntry, policy: RolloutSpec) -> str:
    """Return a look at a rollout as one line: when, which share, the effect with its band, and what was decided.

    Parameters
    ----------
    entry
        The entry of the look.
    policy
        The rollout's policy, which names the metric.

    Returns
    -------
    str
        Looks in a row are a picture of a rollout over time. The time counts from the first share, and the share is the
        one before the decision. Effect and bounds are in per cent, drawn as `draw_band` says. A look that only holds
        names no reason.
    """
    state, evidence, decision = entry.before or entry.after, entry.evidence, entry.decision
    seconds = (entry.time - (state.started or state.created)).total_seconds()
    name = policy.deciding_metric.name
    effect = next((entry for entry in evidence.effects if entry.metric == name), None) if evidence else None
    band, numbers = "", "not known yet"
    if effect is not None and (math.isfinite(effect.lower) or math.isfinite(effect.upper)):
        band = draw_band(effect, _LARGEST, policy.allowed_loss or None)
        ends = ", ".join(_format_percent(end) for end in (effect.lower, effect.upper))
        numbers = f"{100 * effect.effect:+.0f} ({ends})"
    reason = "" if decision is None or decision.action == "hold" else decision.reason
    line = f" {_format_age(seconds):>6} {format_share(state.share):>6} {band:{_BAR}} {numbers:16} {reason}"
    return line[:WIDTH].rstrip()


def format_guardrails(history: RolloutHistory) -> Iterator[str]:
    """Yield a line for each guardrail at the newest look: how it stands, what was observed, and what is allowed."""
    evidence, budgets = history.evidence, history.policy.guardrail_budgets
    if evidence is None or not evidence.guardrails:
        return
    rows = [
        [
            entry.guardrail,
            judge_guardrail(entry, budgets.get(entry.guardrail)),
            format_level(history.policy, entry.guardrail, entry.observed) if entry.events > 0 else "-",
            f"at most {format_level(history.policy, entry.guardrail, entry.reference)}",
            f"{entry.events:,} requests",
        ]
        for entry in evidence.guardrails
    ]
    yield from (f"    {line}" for line in format_text_table(None, rows, width=WIDTH - 4).splitlines())


def _format_guardrails(history: RolloutHistory) -> Iterator[str]:
    lines = list(format_guardrails(history))
    yield from ["", "  guardrails", *lines] if lines else []


def judge_guardrail(guardrail: GuardrailEvidence, budget: float | None) -> str:
    """Return in a word or two how a guardrail stands: `ok`, `suspicious`, `broken` or `no request yet`."""
    if guardrail.events <= 0:
        return "no request yet"
    needed = math.inf if budget is None else 1 / budget
    if guardrail.e_value >= needed:
        return "broken"
    return "suspicious" if guardrail.e_value >= math.sqrt(needed) else "ok"


def list_doubts(history: RolloutHistory) -> list[str]:
    """Return in sentences what makes the newest evidence doubtful, and what was not counted."""
    evidence, policy = history.evidence, history.policy
    if evidence is None:
        return []
    doubts = [f"{source} cannot be read: {reason}" for source, reason in sorted(evidence.problems.items())]
    if evidence.mismatches:
        doubts.append(f"{evidence.mismatches:,} exposures name an arm that salt and shopper do not give.")
    if evidence.crossed > policy.max_crossed:
        doubts.append(f"{format_share(evidence.crossed)} of the shoppers were seen in both arms.")
    refused = {reason: count for reason, count in sorted(evidence.refusals.items()) if count}
    if refused:
        doubts.append("Not counted: " + ", ".join(f"{count:,} {reason}" for reason, count in refused.items()))
    return doubts


def _format_doubts(history: RolloutHistory) -> Iterator[str]:
    doubts = list_doubts(history)
    if doubts:
        yield from _format_block("doubts", doubts)


def _format_steps(steps: Sequence[HistoryStep]) -> Iterator[str]:
    yield ""
    yield "  last decisions"
    for step in steps:
        yield f"    {format_step(step)}"[:WIDTH]
    if steps:
        yield from textwrap.wrap(steps[-1].sentence, WIDTH - 1, initial_indent=" " * 6, subsequent_indent=" " * 6)


def format_step(step: HistoryStep) -> str:
    """Return a step as one line: when, what, which share, and why."""
    before, after = step.shares
    change = format_share(after) if before == after else f"{format_share(before)} -> {format_share(after)}"
    count = f" ({step.looks:,} looks)" if step.looks > 1 else ""
    return f"{format_minute(step.last.time)}  {step.title:9}  {change:14}  {step.reason}{count}"


def _format_block(label: str, sentences: Sequence[str]) -> Iterator[str]:
    yield ""
    for number, sentence in enumerate(sentences):
        start = f"  {label if number == 0 else '':{_LABEL}}"
        yield from textwrap.wrap(
            sentence, WIDTH - 1, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False
        )


def _indent(label: str, text: str) -> str:
    return f"  {label:{_LABEL}}{text}"[:WIDTH]


def _draw_share(share: float) -> str:
    filled = 0 if share <= 0 else max(1, round(20 * share))
    return f"[{'#' * filled}{'-' * (20 - filled)}] {format_share(share):>6}"


def _find_limit(effects: Sequence[EffectEvidence]) -> float:
    """Return the change that bars end at: a round one that most bands fit into."""
    ends = [abs(end) for effect in effects for end in (effect.lower, effect.upper) if math.isfinite(end)]
    largest = min(max(ends, default=_LARGEST), _LARGEST)
    return next(limit for limit in (0.05, 0.1, 0.2, 0.5, _LARGEST) if largest <= limit)


def format_band_numbers(effect: EffectEvidence | Lift) -> str:
    """Return an effect and its band as numbers: `+0.2 (-6, +6.6) %`."""
    return f"{_format_bound(effect.effect)} ({_format_bound(effect.lower)}, {_format_bound(effect.upper)}) %"


def _format_age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s"


def _format_percent(value: float) -> str:
    return f"{100 * value:+.0f}" if abs(value) < 10 else "?"


def _format_bound(value: float) -> str:
    return f"{100 * value:+.3g}" if math.isfinite(value) else "?"


def make_plain(text: str) -> str:
    """Return a text with `?` in place of all but printable ASCII."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)
