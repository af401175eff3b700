"""People by command."""

from __future__ import annotations

from tests.api.conftest import Service
from tests.commands.conftest import Say


def test_the_link_of_an_invitation_opens_as_it_is_printed(say: Say, service: Service) -> None:
    made = say("person", "invite", "acme", "ada@example.com", "--role", "customer_admin", "--json")
    assert made["link"].startswith("http") and "/join?secret=" in made["link"]
    printed = say("person", "invite", "acme", "bea@example.com", "--role", "customer_admin")
    assert made["link"].partition("/join")[0] + "/join?secret=" in printed
