"""Requests signed with Amazon's version 4: what the SDKs sign is accepted, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from anthropic import AnthropicBedrock
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.harness import MODEL, Answer, Running, ScriptedEngine, Wire, until

from sublet.accounts.model import signing_secret_of
from sublet.accounts.service import Accounts, reseal_keys
from sublet.gateway.front.connections import UNPROVED_BYTES_MAX
from sublet.gateway.front.signed import Signers
from sublet.gateway.model import KeyGrant, Snapshot
from sublet.gateway.refusals import (
    ClockSkewError,
    IncompleteSignatureError,
    SignatureMismatchError,
    UnknownAccessKeyError,
)
from sublet.gateway.surfaces.sigv4 import Headers, check_signature, signature_of, signing_key
from sublet.store import Store
from sublet.store.sealing import Sealing, SealingKeyError
from sublet.values.clock import SimulatedClock

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SECRET = "s3cret"
BODY = json.dumps({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}).encode()
PATH = f"/model/{MODEL}/converse"


def signed(
    url: str, body: bytes, key_id: str, secret: str, headers: dict[str, str] | None = None, method: str = "POST"
) -> AWSRequest:
    """A request as botocore signs it now."""
    request = AWSRequest(method, url, headers or {}, body)
    SigV4Auth(Credentials(key_id, secret), "bedrock", "us-east-1").add_auth(request)
    return request


def lines_of(request: AWSRequest, host: str) -> Headers:
    """The headers as they reach the gateway."""
    found = [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
    return [(b"host", host.encode()), *found]


SEGMENTS = st.text("abcXYZ019-_.~:;/%20 é$&+,=@", min_size=1, max_size=20)


@given(
    path=st.lists(SEGMENTS, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    query=st.lists(st.tuples(SEGMENTS, SEGMENTS), max_size=3),
    body=st.binary(max_size=40),
    extra=st.dictionaries(st.sampled_from(["x-a", "accept", "x-amz-b"]), st.text("ab  c", max_size=12), max_size=3),
)
def test_what_botocore_signs_is_right_and_right_for_nothing_else(
    path: str, query: list[tuple[str, str]], body: bytes, extra: dict[str, str]
) -> None:
    from urllib.parse import quote, urlencode

    target = quote(path, safe="/:;%") + ("?" + urlencode(query) if query else "")
    request = signed(f"http://h.example{target}", body, "key_1", SECRET, extra)
    headers = lines_of(request, "h.example")
    signature = signature_of(headers)
    assert signature is not None and signature.key_id == "key_1"
    key = signing_key(SECRET, signature.scope)
    digest = hashlib.sha256(body).hexdigest().encode()
    raw = target.encode()
    check_signature(signature, key, b"POST", raw, headers, digest)
    other = [(name, value + b"x" if name == b"host" else value) for name, value in headers]
    for changed in (
        (signing_key("other", signature.scope), b"POST", raw, headers, digest),
        (key, b"GET", raw, headers, digest),
        (key, b"POST", raw + b"x", headers, digest),
        (key, b"POST", raw, other, digest),
        (key, b"POST", raw, headers, hashlib.sha256(body + b"x").hexdigest().encode()),
    ):
        with pytest.raises(SignatureMismatchError):
            check_signature(signature, *changed)


def head(**changed: str | None) -> Headers:
    scope = "20261130/us-east-1/bedrock/aws4_request"
    names = {"x_amz_date": "20261130T120000Z", "credential": f"key_1/{scope}", "signed": "host;x-amz-date", **changed}
    names.setdefault("signature", "0" * 64)
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={names.pop('credential')}, SignedHeaders={names.pop('signed')}, "
        f"Signature={names.pop('signature')}"
    )
    headers = {"authorization": authorization, **names}
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items() if value is not None]


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"x_amz_date": None}, IncompleteSignatureError),
        ({"x_amz_date": "20261129T120000Z"}, IncompleteSignatureError),
        ({"x_amz_date": "now"}, IncompleteSignatureError),
        ({"credential": "key_1/20261130/us-east-1/s3/aws4_request"}, SignatureMismatchError),
        ({"credential": "key_1"}, SignatureMismatchError),
        ({"signed": "host"}, IncompleteSignatureError),
        ({"signed": "x-amz-date"}, IncompleteSignatureError),
        ({"signature": "0"}, IncompleteSignatureError),
        ({"x_amz_security_token": "t"}, SignatureMismatchError),
        ({"x_amz_content_sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, IncompleteSignatureError),
    ],
)
def test_what_is_not_whole_is_refused(changed: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        signature_of(head(**changed))


def test_a_signature_holds_five_minutes_either_way() -> None:
    found = signature_of(head())
    assert found is not None
    for seconds in (-300, 0, 300):
        found.check_time(NOW + timedelta(seconds=seconds))
    for seconds in (-301, 301):
        with pytest.raises(ClockSkewError):
            found.check_time(NOW + timedelta(seconds=seconds))
    impossible = signature_of(head(x_amz_date="20261130T996199Z"))
    assert impossible is not None
    with pytest.raises(IncompleteSignatureError):
        impossible.check_time(NOW)
    assert signature_of([(b"authorization", b"Bearer x")]) is None and signature_of([]) is None


def test_only_keys_with_a_secret_sign_and_what_cannot_be_opened_says_no_more() -> None:
    opened: list[str] = []

    def open_secret(sealed: str, owner: str) -> str:
        if sealed == "broken":
            raise SealingKeyError
        opened.append(owner)
        return sealed

    clock = SimulatedClock(NOW)
    signers = Signers(clock, open_secret)
    grants = [
        KeyGrant("key_1", "org_1", signing_secret=SECRET),
        KeyGrant("key_2", "org_1"),
        KeyGrant("key_3", "org_1", signing_secret="broken"),
        KeyGrant("key_4", "org_1", signing_secret=SECRET, expires_at=NOW),
    ]
    signers.adopt(Snapshot({grant.id.encode(): grant for grant in grants}))
    first = signature_of(head())
    assert first is not None
    for _ in range(3):
        signers.begin(first, b"POST", b"/", [])
    assert opened == ["key_1"]
    for number in range(2, 6):
        with pytest.raises(UnknownAccessKeyError):
            signers.begin(first._replace(key_id=f"key_{number}"), b"POST", b"/", [])
    signers.adopt(Snapshot())
    with pytest.raises(UnknownAccessKeyError):
        signers.begin(first, b"POST", b"/", [])
    closed = Signers(clock, None)
    closed.adopt(Snapshot({b"1": grants[0]}))
    with pytest.raises(UnknownAccessKeyError):
        closed.begin(first, b"POST", b"/", [])


def test_what_keys_sign_with_is_sealed_and_resealed(store: Store) -> None:
    old, new = Sealing([b"o" * 32]), Sealing([b"n" * 32, b"o" * 32])
    accounts = Accounts(store, lambda: old)
    organization = accounts.create_organization("a").id
    key, secret = accounts.create_key(organization)
    accounts.create_key(organization, scopes=["billing"])

    def kept() -> list[tuple[str, str]]:
        from sublet.accounts.store import signing_secrets

        with store.read() as connection:
            return signing_secrets(connection)

    [(key_id, sealed)] = kept()
    assert key_id == key.id and signing_secret_of(secret) not in sealed and secret not in sealed
    assert reseal_keys(store, new) == 1 and reseal_keys(store, new) == 0
    [(_, sealed)] = kept()
    assert new.is_current(sealed) and new.open(sealed, key.id) == signing_secret_of(secret)
    assert len(signing_secret_of(secret)) == 40


@pytest.fixture
def gateway(make_gateway: Any, store: Store, tmp_path: Path) -> Iterator[Running]:
    """One whose first key can sign."""
    # The SDKs sign by the real time.
    assert isinstance(store.clock, SimulatedClock)
    store.clock.set(datetime.now(UTC))
    sealing = Sealing([b"k" * 32])
    running: Running = make_gateway(start=False)
    accounts = Accounts(store, lambda: sealing)
    with store.read() as connection:
        from sublet.accounts.store import key_by_id

        found = key_by_id(connection, running.key_id)
    assert found is not None
    key, running.key = accounts.create_key(found.organization_id)
    running.key_id, running.sealing = key.id, sealing
    yield running.start()


def client(
    gateway: Running, secret: str | None = None, key_id: str | None = None, service: str = "bedrock-runtime"
) -> Any:
    return boto3.client(
        service,
        endpoint_url=gateway.url,
        region_name="eu-west-1",
        aws_access_key_id=key_id or gateway.key_id,
        aws_secret_access_key=secret or signing_secret_of(gateway.key),
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_amazons_sdk_signs(gateway: Running, engine: ScriptedEngine) -> None:
    asked: dict[str, Any] = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    signing = client(gateway)
    for _ in range(2):
        assert signing.converse(**asked)["output"]["message"]["content"] == [{"text": "Hello"}]
    told = list(signing.converse_stream(**asked)["stream"])
    assert told[-1]["metadata"]["usage"]["outputTokens"] == 3
    assert json.loads(
        signing.invoke_model(modelId=MODEL, body=b'{"messages":[{"role":"user","content":"x"}]}')["body"].read()
    )
    for model in ("nobody:0/x", "a b", "é"):
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            signing.converse(**{**asked, "modelId": model})
    control = client(gateway, service="bedrock")
    assert control.list_foundation_models(byProvider="sublet")["modelSummaries"][0]["modelId"] == MODEL
    assert control.get_foundation_model(modelIdentifier=MODEL)["modelDetails"]["modelId"] == MODEL
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        client(gateway, secret="wrong").converse(**asked)
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        client(gateway, secret="wrong", service="bedrock").list_foundation_models()
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        client(gateway, key_id="AKIAIOSFODNN7EXAMPLE").converse(**asked)
    with pytest.raises(ClientError, match="UnknownOperationException"):
        signing.list_async_invokes()
    settled = gateway.settled(4)
    assert all(record["key"] == gateway.key_id for record in settled) if "key" in settled[0] else True


def test_anthropics_client_for_bedrock_signs(gateway: Running) -> None:
    with AnthropicBedrock(
        base_url=gateway.url,
        aws_access_key=gateway.key_id,
        aws_secret_key=signing_secret_of(gateway.key),
        aws_region="us-east-1",
        max_retries=0,
    ) as bedrock:
        asked: dict[str, Any] = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        assert bedrock.messages.create(**asked).content[0].text == "Hello"  # type: ignore[union-attr]
        with bedrock.messages.stream(**asked) as stream:
            assert "".join(stream.text_stream) == "Hello"


def sent(
    gateway: Running, body: bytes = BODY, told: dict[str, str] | None = None, instead: bytes | None = None
) -> Answer:
    """The answer to a body that was signed, or to what is sent `instead` of it."""
    host = gateway.url.removeprefix("http://")
    request = signed(gateway.url + PATH, body, gateway.key_id, signing_secret_of(gateway.key), told)
    lines = b"".join(b"%b: %b\r\n" % line for line in lines_of(request, host) if line[0] != b"content-length")
    shown = body if instead is None else instead
    wire = Wire(gateway.address)
    try:
        wire.send(b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (PATH.encode(), lines, len(shown), shown))
        return wire.answer()
    finally:
        wire.close()


def test_the_body_is_the_signed_one_however_it_is_stated(gateway: Running) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    assert sent(gateway).status == 200
    assert sent(gateway, told={"X-Amz-Content-SHA256": digest}).status == 200
    for told in (None, {"X-Amz-Content-SHA256": digest}):
        refused = sent(gateway, told=told, instead=BODY.replace(b"hi", b"ho"))
        assert (refused.status, refused.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")
    gateway.settled(2)


def test_an_unsigned_body_is_taken_with_a_signed_head(gateway: Running) -> None:
    request = AWSRequest("POST", gateway.url + PATH, {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, BODY)
    auth = SigV4Auth(Credentials(gateway.key_id, signing_secret_of(gateway.key)), "bedrock", "us-east-1")
    auth.payload = lambda request: "UNSIGNED-PAYLOAD"
    auth.add_auth(request)
    host = gateway.url.removeprefix("http://")
    lines = b"".join(b"%b: %b\r\n" % line for line in lines_of(request, host) if line[0] != b"content-length")
    wire = gateway.wire()
    wire.send(b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (PATH.encode(), lines, len(BODY), BODY))
    assert wire.answer().status == 200
    wire.close()


def test_a_head_that_was_signed_is_not_learnt(gateway: Running) -> None:
    """Sent again with another body on the same connection it is refused."""
    host = gateway.url.removeprefix("http://")
    request = signed(gateway.url + PATH, BODY, gateway.key_id, signing_secret_of(gateway.key))
    lines = b"".join(b"%b: %b\r\n" % line for line in lines_of(request, host) if line[0] != b"content-length")
    wire = gateway.wire()
    statuses = []
    for body in (BODY, BODY, BODY.replace(b"hi", b"ho"), BODY):
        wire.send(b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (PATH.encode(), lines, len(body), body))
        statuses.append(wire.answer().status)
    wire.close()
    assert statuses == [200, 200, 403, 200]


def test_a_revoked_key_signs_no_more(gateway: Running, store: Store) -> None:
    assert sent(gateway).status == 200
    Accounts(store).revoke_key(gateway.key_id)
    until(lambda: sent(gateway).headers.get("x-amzn-errortype") == "UnrecognizedClientException")


def test_strangers_who_know_a_keys_id_use_nothing_of_its_owner(gateway: Running) -> None:
    """Bodies of unproved requests have a share of their own, and count for nobody."""
    host = gateway.url.removeprefix("http://")
    request = signed(gateway.url + PATH, b"", gateway.key_id, "guessed")
    lines = b"".join(b"%b: %b\r\n" % line for line in lines_of(request, host) if line[0] != b"content-length")
    size = 8 * 1024 * 1024
    part = b"x" * size
    wires = []
    for _ in range(UNPROVED_BYTES_MAX // size + 2):
        wire = gateway.wire()
        wire.send(b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (PATH.encode(), lines, size + 1, part))
        wires.append(wire)
    # The oldest gave way to the newest.
    assert wires[0].answer().status == 503
    assert sent(gateway).status == 200
    for wire in wires:
        wire.close()
    assert len(gateway.settled(1)) == 1


def test_the_check_costs_little() -> None:
    """A bound that holds on a busy machine; bench/surfaces.py has the figure."""
    import time

    request = signed("http://h.example" + PATH, BODY, "key_1", SECRET)
    headers = lines_of(request, "h.example")
    found: list[float] = []
    clock = SimpleNamespace(now=lambda: datetime.now(UTC))
    signers = Signers(clock, lambda sealed, owner: sealed)  # type: ignore[arg-type]
    signers.adopt(Snapshot({b"": KeyGrant("key_1", "org_1", signing_secret=SECRET)}))
    for _ in range(5):
        began = time.process_time_ns()
        for _ in range(100):
            signature = signature_of(headers)
            assert signature is not None
            signing = signers.begin(signature, b"POST", PATH.encode(), headers)
            signing.feed(BODY)
            signing.prove()
        found.append((time.process_time_ns() - began) / 100_000)
    assert min(found) < 100, found
    print(f"{min(found):.1f} us")
