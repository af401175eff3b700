"""`sublet subscription`: plans, and the customers that are subscribed to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.client.remote import connect, organization_id
from sublet.output import JsonFlag, print_fields, print_json, print_rows, say
from sublet.shown import Columns, cost_text, money, short, time, time_text
from sublet.values.clock import format_time, parse_time
from sublet.values.errors import InvalidInputError

app = typer.Typer(no_args_is_help=True, help="Plans, and customers' subscriptions to them.")

Seats = Annotated[int | None, typer.Option(help="How many seats.")]
AddOns = Annotated[list[str] | None, typer.Option("--add-on", help="An add-on, as NAME or NAME=QUANTITY; repeatable.")]
CouponName = Annotated[str, typer.Option("--coupon", help="Name of a coupon, with --percent or --amount-off.")]
Percent = Annotated[str, typer.Option(help="What the coupon takes off all fixed amounts, in percent.")]
AmountOff = Annotated[str, typer.Option(help="What the coupon takes off each period's base amount.")]
Until = Annotated[str, typer.Option("--coupon-until", help="When the coupon ends; by default, never.")]
At = Annotated[str, typer.Option("--at", help="From when on; by default, from the start of the customer's day.")]
Final = Annotated[bool, typer.Option("--final", help="Do it. Without it, only what it would come to is shown.")]


@app.command("publish-plan")
def publish_plan(
    file: Annotated[Path, typer.Argument(help="A plan in TOML.", exists=True, dir_okay=False)],
    as_json: JsonFlag = False,
) -> None:
    """Publish a plan, or a new version of it. Existing subscriptions keep their version."""
    from sublet.ledger.plans.model import plan_from_toml

    try:
        text = file.read_text()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file} is not UTF-8 text") from error
    plan_from_toml(text, str(file))
    found = connect().document("ledger.publish_plan", body=text.encode(), content_type="application/toml")
    if as_json:
        print_json(found)
    else:
        say(f"version {found['version']} of plan {found['id']} is current")


@app.command("plans")
def list_plans(as_json: JsonFlag = False) -> None:
    """List plans, each in its newest version."""
    found = connect().collected("ledger.list_plans")
    if as_json:
        print_json(found)
        return
    rows = [plan | {"for": f"each {plan['every']}"} for plan in found["plans"]]
    columns: Columns = {
        "id": "plan",
        "name": "name",
        "amount": money("base", "currency"),
        "seat_amount": money("seat", "currency"),
        "for": "for",
        "trial_days": "trial days",
        "version": "version",
    }
    print_rows(rows, columns, "no plans yet; publish one with `sublet subscription publish-plan FILE`")


@app.command("plan")
def show_plan(plan_id: Annotated[str, typer.Argument(help="Id of the plan.")], as_json: JsonFlag = False) -> None:
    """Show a plan: its amounts, what it includes, and its add-ons."""
    found = connect().document("ledger.read_plan", plan_id)
    if as_json:
        print_json(found)
        return
    currency = found["currency"]
    fields = {"name": found["name"], "version": found["version"], "periods": f"{found['every']}, by {found['begins']}"}
    fields |= {"base": cost_text(found["amount"], currency), "trial": f"{found['trial_days']} days"}
    if found["seat_amount"] is not None:
        fields["each seat"] = cost_text(found["seat_amount"], currency)
    fields |= {f"included: {one['meter']}": f"{one.get('included', 0):,}" for one in found["usage"]}
    fields |= {f"add-on {one['id']}": cost_text(one["amount"], currency) for one in found["add_ons"]}
    print_fields(fields)


@app.command("start")
def start(
    organization: Annotated[str, typer.Argument(help="Id or name of the customer.")],
    plan_id: Annotated[str, typer.Argument(help="Id of the plan.")],
    seats: Seats = None,
    add_on: AddOns = None,
    coupon: CouponName = "",
    percent: Percent = "",
    amount_off: AmountOff = "",
    coupon_until: Until = "",
    at: At = "",
    trial_days: Annotated[int | None, typer.Option(help="Days of trial, other than the plan's.")] = None,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Subscribe a customer to a plan. Without --final, show what it would come to."""
    client = connect()
    body: dict[str, Any] = {"organization_id": organization_id(client, organization), "plan_id": plan_id}
    body |= _wanted(seats, add_on, _coupon(coupon, percent, amount_off, coupon_until), at)
    if trial_days is not None:
        body["trial_days"] = trial_days
    _print(client.document("ledger.subscribe_to_plan", body=body | {"preview": not final}), as_json, final=final)


@app.command("ls")
def list_subscriptions(
    organization: Annotated[str, typer.Argument(help="Id or name; by default, all that you may see.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """List subscriptions to plans, newest first."""
    client = connect()
    query = {"organization_id": organization_id(client, organization) if organization else None}
    found = client.collected("ledger.list_plan_subscriptions", query=query)
    if as_json:
        print_json(found)
        return
    columns: Columns = {
        "id": short("subscription"),
        "organization_id": short("customer"),
        "plan_name": "plan",
        "status": "status",
        "seats": "seats",
        "this_month": money("this month", "currency"),
        "next_month": money("next month", "currency"),
        "ends_at": time("ends"),
    }
    print_rows(found["subscriptions"], columns, "no subscriptions")


@app.command("show")
def show(
    plan_subscription_id: Annotated[str, typer.Argument(help="Id of the subscription.")], as_json: JsonFlag = False
) -> None:
    """Show a subscription: its plan, its amounts, and its changes."""
    found = connect().document("ledger.read_plan_subscription", plan_subscription_id)
    _print(found, as_json, final=True)


@app.command("change")
def change(
    plan_subscription_id: Annotated[str, typer.Argument(help="Id of the subscription.")],
    plan: Annotated[str, typer.Option(help="Move to this plan.")] = "",
    seats: Seats = None,
    add_on: AddOns = None,
    no_add_ons: Annotated[bool, typer.Option("--no-add-ons", help="Drop all add-ons.")] = False,
    coupon: CouponName = "",
    percent: Percent = "",
    amount_off: AmountOff = "",
    coupon_until: Until = "",
    no_coupon: Annotated[bool, typer.Option("--no-coupon", help="Drop the coupon.")] = False,
    at: At = "",
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Upgrade, downgrade, or change seats, add-ons or the coupon; prorated. Without --final, show what it would come to."""
    body = _wanted(seats, [] if no_add_ons else add_on, _coupon(coupon, percent, amount_off, coupon_until), at)
    body |= ({"plan_id": plan} if plan else {}) | ({"drop_coupon": True} if no_coupon else {})
    found = connect().document(
        "ledger.change_plan_subscription", plan_subscription_id, body=body | {"preview": not final}
    )
    _print(found, as_json, final=final)


@app.command("end")
def end(
    plan_subscription_id: Annotated[str, typer.Argument(help="Id of the subscription.")],
    at: Annotated[str, typer.Option(help="When; by default, with the current period or trial.")] = "",
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Withdraw an end that is still ahead.")] = False,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """End a subscription. Without --final, show what it would come to."""
    body: dict[str, Any] = {"withdraw": withdraw, "preview": not final} | ({"at": _moment(at)} if at else {})
    _print(connect().document("ledger.end_plan_subscription", plan_subscription_id, body=body), as_json, final=final)


def _wanted(seats: int | None, add_ons: list[str] | None, coupon: dict[str, Any] | None, at: str) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if seats is not None:
        body["seats"] = seats
    if add_ons is not None:
        pairs = [one.partition("=") for one in add_ons]
        if any(count and not (count.isascii() and count.isdigit() and len(count) < 10) for _, _, count in pairs):
            raise InvalidInputError("write an add-on as NAME or NAME=QUANTITY, such as --add-on support=2")
        body["add_ons"] = [{"id": name, "quantity": int(count or 1)} for name, _, count in pairs]
    if coupon is not None:
        body["coupon"] = coupon
    return body | ({"at": _moment(at)} if at else {})


def _coupon(name: str, percent: str, amount: str, until: str) -> dict[str, Any] | None:
    if not name:
        if percent or amount or until:
            raise InvalidInputError("name the coupon with --coupon")
        return None
    found: dict[str, Any] = {"name": name}
    for key, value in (("percent", percent), ("amount", amount), ("until", until and _moment(until))):
        if value:
            found[key] = value
    return found


def _moment(text: str) -> str:
    try:
        return format_time(parse_time(text))
    except ValueError as error:
        raise InvalidInputError(f"{text!r} is not a time ({error})") from error


def _print(found: dict[str, Any], as_json: bool, *, final: bool) -> None:
    if as_json:
        print_json(found)
        return
    currency = found["currency"]
    add_ons = ", ".join(f"{one['quantity']} x {one['id']}" for one in found["add_ons"])
    coupon = found["coupon"]
    fields = {
        "subscription": found["id"] if final else "not yet; add --final",
        "plan": f"{found['plan_name']}, version {found['plan_version']}",
        "status": found["status"],
        "seats": found["seats"],
        "add-ons": add_ons or "none",
        "coupon": coupon["name"] if coupon else "none",
        "since": time_text(found["started_at"]),
        "charged from": time_text(found["charged_from"]),
        "current period ends": time_text(found["period_end"]),
        "this month, net": cost_text(found["this_month"], currency),
        "next month, net": cost_text(found["next_month"], currency),
    }
    if found["ends_at"]:
        fields["ends"] = time_text(found["ends_at"])
    print_fields(fields)
