"""Allow lists: what an entry means, who may ask for which list, and which addresses nobody reaches."""

from __future__ import annotations

import ipaddress

import pytest

from sublet.config.egress import Egress
from sublet.leases.network import addresses
from sublet.leases.network.addresses import may_reach
from sublet.values.egress import EgressPolicy, Rule, host_name, parsed_list, shipped
from sublet.values.errors import ForbiddenError, InvalidInputError

PUBLIC = ("8.8.8.8", "151.101.1.1", "2606:4700::1111", "2a00:1450:4001::1")


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "1.2.3.4.", "::1", "[::1]", "10.0.0.0x1",
        "", ".", "a..b", "-a.example", "a_.-b", "exa mple.org", "example.org/x", "user@example.org", "example.org:80",
        "ex\u00e4mple.org", "example\u3002org", "example.org%2e", "example.org\0", "a" * 64 + ".org", "a." * 130 + "org", "*",
        "*.example.org", "example.1", "example.0x", "ⅷ.example",
    ],
)  # fmt: skip
def test_what_is_no_name_of_a_host_is_none(text: str) -> None:
    assert host_name(text) is None


def test_an_entry_means_one_host_or_the_names_below_it_at_its_ports() -> None:
    one = Rule.parse("Example.ORG.")
    assert str(one) == "example.org" and one.allows("example.org", 443) and one.allows("example.org", 80)
    assert not any(one.allows(host, 443) for host in ("a.example.org", "badexample.org", "example.org.evil.net"))
    assert not one.allows("example.org", 22)
    below = Rule.parse("*.example.org:8443,443")
    assert str(below) == "*.example.org:443,8443" and below.allows("a.b.example.org", 8443)
    assert not any(below.allows(host, 443) for host in ("example.org", "badexample.org", ".example.org.net"))
    for text in ("*", "*.org", "**.example.org", "a.*.org", "example.org:", "example.org:0", "example.org:70000",
                 "example.org:80-90", "10.0.0.1", "example.org:443:443", "https://example.org"):  # fmt: skip
        with pytest.raises(InvalidInputError):
            Rule.parse(text)


LISTS = shipped() | {name: parsed_list(name, [f"{name}.example.org:443"]) for name in ("pypi", "apt")}


def test_the_shipped_lists_name_hosts_that_can_be_names() -> None:
    lists = shipped()
    assert lists.keys() == {"huggingface", "git"}
    assert all(rule.ports != () and "." in rule.host for rules in lists.values() for rule in rules)


def test_an_organizations_own_entry_goes_before_its_classs_and_that_before_what_all_may() -> None:
    policy = EgressPolicy(
        LISTS,
        frozenset({"pypi"}),
        {"spot": frozenset({"git"})},
        {"org_a": frozenset(), "org_b": frozenset({"apt"})},
    )
    assert policy.checked(["pypi", "pypi"], "org_c", "firm") == ("pypi",)
    assert policy.checked(["git"], "org_c", "spot") == ("git",)
    assert policy.checked([], "org_a", "firm") == ()
    for names, organization, class_name in (
        (["pypi"], "org_c", "spot"),
        (["pypi"], "org_a", "firm"),
        (["git"], "org_b", "spot"),
    ):
        with pytest.raises(ForbiddenError):
            policy.checked(names, organization, class_name)
    with pytest.raises(InvalidInputError, match="there is no allow list 'npm'"):
        policy.checked(["npm"], "org_c", "firm")
    assert policy.rules(["pypi", "gone"]) == tuple(str(rule) for rule in LISTS["pypi"])


def test_nothing_is_open_unless_the_operator_says_so() -> None:
    policy = Egress(lists={"pypi": ("packages.example.org",)}).policy
    assert policy.open_to("org_a") == frozenset()
    with pytest.raises(ForbiddenError):
        policy.checked(["pypi"], "org_a", "notice")


@pytest.mark.parametrize(
    "stated",
    [
        {"allowed": ["npm"]}, {"lists": {"Bad Name": ["a.example"]}}, {"lists": {"x": ["10.0.0.1"]}}, {"lists": {"x": []}},
        {"permit_networks": ["127.0.0.0/8"]}, {"permit_networks": ["0.0.0.0/0"]}, {"permit_networks": ["169.254.169.254/32"]},
        {"permit_networks": ["::/0"]}, {"permit_networks": ["10.0.0.1/8"]}, {"organization_allowed": {"org_x": ["nope"]}},
    ],
)  # fmt: skip
def test_settings_that_can_not_hold_are_refused(stated: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Egress.model_validate(stated)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.0.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16", "198.18.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::1", "::", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::8.8.8.8",
        "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fd00:ec2::254", "fc00::1",
        "ff02::1", "3fff::1", "5f00::1", "not an address", "",
    ],
)  # fmt: skip
def test_special_addresses_are_never_reached(address: str) -> None:
    assert not may_reach(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached_but_not_those_that_are_denied_or_this_machines(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert may_reach(address)
    assert not may_reach(address, denied=[ipaddress.ip_network(address)])
    monkeypatch.setattr(addresses, "_of_this_machine", lambda found: True)
    assert not may_reach(address)


def test_a_private_network_is_reached_where_the_operator_permits_it_and_no_further() -> None:
    permitted = [ipaddress.ip_network("10.20.0.0/24")]
    assert may_reach("10.20.0.7", permitted)
    assert not may_reach("10.20.1.7", permitted) and not may_reach("::ffff:10.20.0.7", permitted)
    assert not may_reach("10.20.0.7", permitted, [ipaddress.ip_network("10.20.0.0/25")])


def test_a_list_is_not_endless() -> None:
    with pytest.raises(InvalidInputError):
        parsed_list("x", ["a.example"] * 201)
