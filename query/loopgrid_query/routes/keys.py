"""``/v1/keys``: create, list, rotate, revoke."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Response

from loopgrid_query import models
from loopgrid_query.routes.common import Asked, Domain, answer, refusals

router: Final = APIRouter(prefix="/v1/keys", tags=["keys"])

KeyIdInPath = Annotated[str, Path(description="the middle part of the key: 16 hex digits")]
_REFUSED: Final = refusals(
    HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE
)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=models.KeyMade,
    responses=_REFUSED | refusals(HTTPStatus.UNPROCESSABLE_ENTITY),
    summary="Create an API key",
)
def create(body: models.KeyRequest, domain: Domain, asked: Asked) -> Response:
    """The answer shows the key; nothing shows it again. From the first key on every door asks for one."""
    return answer(domain.keys.create(body, asked.key), HTTPStatus.CREATED)


@router.get("", response_model=models.KeyList, responses=_REFUSED, summary="List API keys")
def list_keys(domain: Domain) -> Response:
    """Every key there ever was, oldest first, without secrets."""
    return answer({"items": domain.keys.list()})


@router.post(
    "/{key_id}/rotate",
    status_code=HTTPStatus.CREATED,
    response_model=models.KeyMade,
    responses=_REFUSED | refusals(HTTPStatus.UNPROCESSABLE_ENTITY),
    summary="Replace an API key",
)
def rotate(
    key_id: KeyIdInPath, domain: Domain, asked: Asked, body: models.KeyRotation | None = None
) -> Response:
    """A new key with the rights of the old one, which is revoked at once or after `old_valid_for_s`."""
    rotation = body or models.KeyRotation.model_validate({})
    return answer(domain.keys.rotate(key_id, rotation, asked.key), HTTPStatus.CREATED)


@router.delete("/{key_id}", response_model=models.ApiKey, responses=_REFUSED, summary="Revoke an API key")
def revoke(key_id: KeyIdInPath, domain: Domain, asked: Asked) -> Response:
    """It is refused from now on. The key stays in the list, revoked."""
    return answer(domain.keys.revoke(key_id, asked.key))
