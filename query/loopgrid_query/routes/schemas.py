"""``/schemas/``: JSON Schemas of the decision record, of every event and of what a client sends."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Response

from loopgrid_query import jsontext, schemas
from loopgrid_query.errors import NotFound
from loopgrid_query.nearest import did_you_mean
from loopgrid_query.routes.common import answer, refusals

router: Final = APIRouter(tags=["schemas"])

_SCHEMA: Final[dict[int | str, dict[str, Any]]] = {
    HTTPStatus.OK: {"content": {schemas.MEDIA_TYPE: {"schema": {"type": "object"}}}}
}


@router.get(schemas.FOLDER, response_model=schemas.SchemaIndex, summary="List the JSON Schemas")
def index() -> Response:
    """Of records, of events and of requests; no key is needed."""
    return answer(schemas.index().model_dump())


@router.get(
    schemas.FOLDER + "{name}.json",
    response_class=Response,
    responses=_SCHEMA | refusals(HTTPStatus.NOT_FOUND),
    summary="Get a JSON Schema",
)
def schema(name: Annotated[str, Path(description="as the list names it", examples=["mark"])]) -> Response:
    """Draft 2020-12, complete in itself; the same file stands in `docs/spec/schemas/`."""
    document = schemas.documents().get(name)
    if document is None:
        raise NotFound(f"There is no schema {name!r}; {did_you_mean(name, schemas.documents())}")
    return Response(jsontext.answer(dict(document)), media_type=schemas.MEDIA_TYPE)
