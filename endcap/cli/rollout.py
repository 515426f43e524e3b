"""endcap rollout: new versions that reach the shoppers step by step, decided by what shoppers do."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.options import (
    add_spec_argument,
    env_option,
    json_option,
    place_env_option,
    print_json,
    set_option,
    store_option,
)
from endcap.cli.rollout_control import COMMANDS
from endcap.cli.stores import open_existing_store
from endcap.errors import UserError
from endcap.spec.base import format_duration
from endcap.spec.load import load
from endcap.tables import format_text_table

if TYPE_CHECKING:
    from endcap.experiments.planning import PolicyAdvice, RolloutPlan
    from endcap.experiments.traffic import ShopTraffic
    from endcap.rollout.history import RolloutHistory
    from endcap.spec.rollout import RolloutSpec


@click.group()
def command() -> None:
    """Rollouts: a new version's share grows by what shoppers do, or the version is taken back."""


for control in COMMANDS:
    command.add_command(control)


@command.command()
@add_spec_argument
@env_option
@set_option
@store_option
@click.option("--shoppers", type=click.FloatRange(min=1), help="Shoppers a day [default: the log's last four weeks].")
@click.option("--people", type=click.FloatRange(min=1), help="Shoppers of four weeks [default: the log's].")
@click.option(
    "--ctr",
    "click_rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Clicks per ranking, such as 0.05.",
)
@click.option("--rankings", type=click.FloatRange(min=1), help="Rankings that a shopper sees on a day, such as 3.")
@click.option("--effect", type=click.FloatRange(min=-1), help="What a good version changes, such as 0.05 for 5 % more.")
@json_option
def plan(
    spec: Path,
    env: str | None,
    sets: tuple[str, ...],
    store_url: str,
    shoppers: float | None,
    people: float | None,
    click_rate: float | None,
    rankings: float | None,
    effect: float | None,
    as_json: bool,
) -> None:
    """Tell how long a rollout of SPEC will take in this shop, with what power, and what it risks.

    The shop's newest snapshot says how many shoppers come; with --shoppers nothing is read. A policy by which most
    good versions would not be promoted in time, or most bad ones not taken back, is refused, with what would help.
    """
    from endcap.experiments.planning import find_advice, plan_rollout
    from endcap.experiments.traffic import read_traffic

    loaded = load(spec, env=env, sets=sets)
    policy = loaded.recommender.rollout
    if policy is None:
        raise UserError(
            f"{loaded.recommender.name} has no section rollout, so there is nothing to plan. "
            "`rollout: {}` in its spec is a whole policy",
            code="cli.no-rollout-section",
            recommender=loaded.recommender.name,
        )
    store = open_existing_store(store_url) if shoppers is None else None
    traffic = read_traffic(
        policy,
        store,
        loaded.shop.name,
        shoppers=shoppers,
        people=people,
        click_rate=click_rate,
        rankings=rankings,
    )
    planned = plan_rollout(policy, traffic, effect=effect)
    advice = find_advice(policy, traffic, effect=effect) if planned.is_hopeless else []
    if as_json and not planned.is_hopeless:
        print_json(_to_json(loaded.recommender.name, traffic, planned))
    elif not as_json:
        _print_plan(policy, traffic, planned)
    if planned.is_hopeless:
        raise _make_hopeless_error(loaded.recommender.name, policy, traffic, planned, advice)


@command.command()
@click.argument("name")
@place_env_option
@store_option
@json_option
def status(name: str, store_url: str, as_json: bool) -> None:
    """Show where the latest rollout of recommender NAME stands, on one screen: share, effects, what it waits for.

    With a baseline it also shows what personalisation brings, in all, by place and by surface.
    """
    from endcap.experiments.decision_log import DecisionLog
    from endcap.rollout.history import read_history
    from endcap.rollout.lift import read_lift
    from endcap.rollout.lift_screen import format_lift
    from endcap.rollout.screen import format_screen

    store = open_existing_store(store_url)
    log, lift = DecisionLog(store, name), read_lift(name, store)
    # The lift is measured without a rollout, too.
    history = None if lift is not None and log.find_last() is None else read_history(log)
    if as_json:
        rollout = {} if history is None else _describe_rollout(history)
        print_json({"recommender": name, **rollout, "lift": None if lift is None else lift.to_json()})
        return
    screens = [format_screen(history)] if history is not None else []
    screens += [format_lift(name, lift)] if lift is not None else []
    click.echo("\n\n".join(screens))


def _describe_rollout(history: RolloutHistory) -> dict[str, Any]:
    from endcap.rollout.outlook import describe_wait, expect_steps

    evidence, decision = history.evidence, history.last.decision
    return {
        "time": history.last.time.isoformat(),
        "state": history.state.to_json(),
        "evidence": None if evidence is None else evidence.to_json(),
        "decision": None if decision is None else decision.to_json(),
        "waits_for": describe_wait(history),
        "expected": [asdict(step) for step in expect_steps(history)],
    }


@command.command("history")
@click.argument("name")
@click.option("--all", "every_rollout", is_flag=True, help="All rollouts of the recommender, not only the latest.")
@click.option("--looks", "every_look", is_flag=True, help="A line for each look, also where nothing changed.")
@place_env_option
@store_option
@json_option
def list_steps(name: str, every_rollout: bool, every_look: bool, store_url: str, as_json: bool) -> None:
    """List the decisions and commands of recommender NAME's latest rollout, a line each, oldest first.

    Looks in a row that hold for the same reason are one line.
    """
    from endcap.experiments.decision_log import DecisionLog
    from endcap.rollout.history import merge_steps
    from endcap.rollout.screen import format_step

    log = DecisionLog(open_existing_store(store_url), name)
    latest = log.read_rollout()
    steps = merge_steps(list(log.read_entries()) if every_rollout else latest, merge=not every_look)
    if as_json:
        print_json([step.to_json() for step in steps])
        return
    for step in steps:
        if step.title == "begin":
            click.echo(f"{name}: version {step.last.after.version} against {step.last.after.previous_version}")
        click.echo(f"  {format_step(step)}")


@command.command()
@click.argument("name")
@click.option("--version", default="", help="A version whose rollout is shown [default: the latest rollout].")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write [default: rollout-NAME.html].",
)
@place_env_option
@store_option
def report(name: str, version: str, out: Path | None, store_url: str) -> None:
    """Write a rollout of recommender NAME as one HTML file: share, effects with bands, guardrails, decisions."""
    from endcap.experiments.decision_log import DecisionLog
    from endcap.rollout.history import read_history
    from endcap.rollout.lift import read_lift
    from endcap.rollout.report import render_rollout

    store = open_existing_store(store_url)
    history = read_history(DecisionLog(store, name), version)
    file = out or Path(f"rollout-{name}.html")
    try:
        file.write_text(render_rollout(history, read_lift(name, store)), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{file} cannot be written: {error.strerror or error}. Name another file by --out",
            code="cli.cannot-write",
            file=str(file),
        ) from None
    click.echo(file)


def _print_plan(policy: RolloutSpec, traffic: ShopTraffic, planned: RolloutPlan) -> None:
    deciding = policy.deciding_metric.name
    click.echo(f"{traffic.shoppers:,.0f} shoppers a day, {traffic.people:,.0f} in four weeks")
    for assumption in traffic.assumed:
        click.echo(f"  assumed: {assumption}")
    if policy.history:
        before = format_duration(policy.history)
        click.echo(f"  assumed: rankings are reported from {before} before the start (rollout.history)")
    goal = f"{deciding} at {100 * planned.effect:+.3g} %, {policy.promote}"
    if policy.promote == "no_harm":
        goal += f" with a margin of {-100 * policy.allowed_loss:.3g} %"
    longest = format_duration(policy.longest)
    click.echo(f"\n{goal}: promoted with a probability of {planned.power:.0%} within {longest}")
    click.echo(f"  half of such versions after {_days(planned.days)}, nine of ten after {_days(planned.days_most)}")
    steps = ", ".join(f"{100 * share:.4g} % after {_days(days)}" for share, days in planned.steps[1:])
    click.echo(f"  {100 * policy.first_share:.4g} % at once{f', {steps}' if steps else ''}")
    click.echo("\na version at -20 %:")
    rows = [
        [
            metric.metric,
            f"{metric.harm_power:.0%}",
            _days(metric.harm_days),
            f"{metric.harm_shoppers:,}",
            f"{metric.harm_shoppers_most:,}",
        ]
        for metric in planned.metrics
    ]
    columns = ["metric", "taken back", "median", "shoppers met", "90 % below"]
    click.echo("  " + format_text_table(columns, rows).replace("\n", "\n  "))


def _days(days: float | None) -> str:
    if days is None:
        return "never"
    return f"{days:.1f} days" if days >= 1 else f"{24 * days:.1f} hours"


def _to_json(recommender: str, traffic: ShopTraffic, planned: RolloutPlan) -> dict[str, Any]:
    return {"recommender": recommender, "traffic": asdict(traffic), "plan": asdict(planned)}


def _make_hopeless_error(
    recommender: str,
    policy: RolloutSpec,
    traffic: ShopTraffic,
    planned: RolloutPlan,
    advice: list[PolicyAdvice],
) -> UserError:
    from endcap.experiments.planning import LEAST_POWER

    helps = "; ".join(" ".join(f"--set {shlex.quote(change)}" for change in entry.changes) for entry in advice)
    if advice and advice[0].strength >= LEAST_POWER:
        hint = f"Each of these helps: {helps}"
    else:
        hint = (
            "No change of margin, longest, first_share or promote_by helps enough: too few shoppers come for a "
            "decision by what they do. Leave out the section rollout, and promote by hand"
        )
    harm = planned.metrics[0]
    return UserError(
        f"the policy of {recommender} is hopeless. Within {format_duration(policy.longest)} it would promote "
        f"{planned.power:.0%} of the versions with an effect of {100 * planned.effect:+.3g} % on {harm.metric}, and "
        f"take back {harm.harm_power:.0%} of those at -20 %. {hint}",
        code="cli.hopeless-rollout",
        recommender=recommender,
        power=planned.power,
        harm_power=harm.harm_power,
        advice=[asdict(entry) for entry in advice],
        plan=_to_json(recommender, traffic, planned),
    )
