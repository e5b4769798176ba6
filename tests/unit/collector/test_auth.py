"""The form of API keys, and what they may do."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest

from loopgrid_collector import auth
from loopgrid_collector.auth import Key, Scope, Standing
from loopgrid_collector.errors import Forbidden, Unauthenticated, Undecodable
from loopgrid_collector.otlp.services import services_of
from tests.support.spans import attributes, logs, span, traces

NOW = datetime(2026, 11, 25, 12)  # noqa: DTZ001 - keys keep UTC without zone
HOUR = timedelta(hours=1)


def made(*scopes: Scope, **changes) -> tuple[Key, str]:
    """A key and its text."""
    key_id, token = auth.new_token()
    key = Key(
        key_id=key_id,
        name="agent",
        person=None,
        scopes=frozenset(scopes),
        services=frozenset(),
        expires_at=None,
        created_at=NOW,
        created_by=None,
        rotated_from=None,
        revoked_at=None,
        secret_sha256=auth.digest_of(token),
    )
    return dataclasses.replace(key, **changes), token


def test_a_key_is_its_id_and_256_random_bits():
    tokens = [auth.new_token() for _ in range(100)]

    for key_id, token in tokens:
        prefix, middle, secret = token.split("_")
        assert (prefix, middle) == ("lg", key_id)
        assert auth.key_id_of(token) == key_id
        assert len(secret) * 5 >= auth.SECRET_BYTES * 8
        assert token.replace("_", "").isalnum()
        assert len(token) <= auth.MAX_TOKEN_CHARACTERS
    assert len({token for _, token in tokens}) == 100


@pytest.mark.parametrize(
    "text", ["", "lg", "lg_", "lg_a", "lg__b", "lg_a_", "xx_a_b", "LG_a_b", "lg_é_b", "lg_a_" + "b" * 200]
)
def test_what_has_not_the_form_of_a_key_has_no_id(text):
    assert auth.key_id_of(text) is None
    with pytest.raises(Unauthenticated, match="does not know"):
        auth.checked(text, lambda _: None, NOW)


def test_neither_the_key_nor_its_digest_is_shown():
    key, token = made(Scope.READ)

    assert token.split("_")[2] not in repr(key)
    assert "secret_sha256" not in repr(key)


@pytest.mark.parametrize("change", [lambda token: token[:-1], lambda token: token + "a", str.upper])
def test_a_changed_secret_is_no_key(change):
    key, token = made(Scope.READ)

    with pytest.raises(Unauthenticated) as refused:
        auth.checked(change(token), {key.key_id: key}.get, NOW)
    assert token.split("_")[2] not in str(refused.value)


def test_an_unknown_id_and_a_wrong_secret_get_the_same_words():
    key, token = made(Scope.READ)
    _, other = made(Scope.READ)

    said = []
    for word in (other, token[:-2] + "zz"):
        with pytest.raises(Unauthenticated) as refused:
            auth.checked(word, {key.key_id: key}.get, NOW)
        said.append(str(refused.value))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("changes", "standing"),
    [
        ({}, Standing.ACTIVE),
        ({"expires_at": NOW + HOUR}, Standing.ACTIVE),
        ({"expires_at": NOW}, Standing.EXPIRED),
        ({"revoked_at": NOW + HOUR}, Standing.ACTIVE),
        ({"revoked_at": NOW}, Standing.REVOKED),
        ({"revoked_at": NOW, "expires_at": NOW - HOUR}, Standing.REVOKED),
    ],
)
def test_a_key_is_good_until_its_end(changes, standing):
    key, token = made(Scope.READ, **changes)

    assert key.standing(NOW) is standing
    if standing is Standing.ACTIVE:
        assert auth.checked(token, {key.key_id: key}.get, NOW) is key
    else:
        with pytest.raises(Unauthenticated, match=standing.value):
            auth.checked(token, {key.key_id: key}.get, NOW)


@pytest.mark.parametrize("scope", list(Scope))
def test_admin_covers_every_scope_and_every_other_itself_only(scope):
    admin, _ = made(Scope.ADMIN)
    auth.check_scope(admin, scope)
    for held in set(Scope) - {Scope.ADMIN}:
        assert made(held)[0].may(scope) == (held is scope)


def test_a_missing_scope_is_named():
    key, _ = made(Scope.READ)

    with pytest.raises(Forbidden, match=r"needs the scope ingest.*has read"):
        auth.check_scope(key, Scope.INGEST)


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, None),
        ({"authorization": "Bearer lg_a_b"}, "lg_a_b"),
        ({"authorization": "bearer  lg_a_b "}, "lg_a_b"),
        ({"x-api-key": " lg_a_b"}, "lg_a_b"),
        ({"authorization": "Bearer lg_a_b", "x-api-key": "lg_c_d"}, "lg_a_b"),
        ({"authorization": "", "x-api-key": ""}, None),
    ],
)
def test_a_key_comes_in_either_header(headers, token):
    assert auth.token_in(headers.get) == token


@pytest.mark.parametrize("value", ["Basic dXNlcjpwYXNz", "lg_a_b", "Bearer", "Bearer  "])
def test_another_authorization_is_refused_even_beside_a_key(value):
    with pytest.raises(Unauthenticated, match="no Bearer key"):
        auth.token_in({"authorization": value, "x-api-key": "lg_a_b"}.get)


def test_a_bound_key_speaks_for_its_services_only():
    bound, _ = made(Scope.INGEST, services=frozenset({"shop", "bank"}))
    auth.check_services(bound, ["shop", "bank"])
    auth.check_services(made(Scope.INGEST)[0], ["anything", None])
    for services in (["shop", "spy"], [None]):
        with pytest.raises(Forbidden, match="bound to bank, shop"):
            auth.check_services(bound, services)


def test_a_request_tells_its_services_without_its_spans_being_decoded():
    assert services_of(traces(span(), service="shop")) == {"shop"}
    assert services_of(logs(service="shop")) == {"shop"}
    assert services_of(traces(span(), service="shop") + traces(span(2), service="bank")) == {"shop", "bank"}
    assert services_of(traces(span(), service=None)) == {None}
    assert services_of(b"") == set()
    with pytest.raises(Undecodable):
        services_of(b"\xff\xff")


def test_a_name_that_is_said_twice_or_is_no_text_counts_as_what_it_is():
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add().resource
    resource.attributes.extend(attributes([("service.name", "shop"), ("service.name", "bank")]))
    request.resource_spans.add().resource.attributes.extend(attributes({"service.name": 5}))

    assert services_of(request.SerializeToString()) == {"shop", "bank", None}
