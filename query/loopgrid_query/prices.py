"""Price books: what models cost, said by somebody, appended as a whole. Costs are views over them."""

from __future__ import annotations

from typing import Any

from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import ids, jsontext
from loopgrid_query.models import given
from loopgrid_query.price_models import PriceBookRequest
from loopgrid_query.queries import Reader
from loopgrid_query.records import Record


class Prices:
    """The price books of one ledger."""

    def __init__(self, reader: Reader, ingest: Ingest) -> None:
        self._reader = reader
        self._ingest = ingest

    def append(self, request: PriceBookRequest) -> Record:
        """Append a price book. Of two prices for the same thing, the one of the newer book counts.

        Args:
            request: the book.

        Raises:
            Invalid: a text is no Unicode.
            CollectorError: the door refuses; nothing is stored.
        """
        prices = [given(price) for price in request.prices]
        body: dict[str, Any] = {"source": request.source, "prices": prices}
        jsontext.check(body, "prices")
        book_id = ids.new_price_book_id()
        self._ingest.entry_blocking(
            Entry(
                entry_id=book_id,
                entry_type="price_book",
                trace_id=0,
                span_id=0,
                subject_id=None,
                actor=None,
                body=body,
            )
        )
        return {"book_id": book_id, "source": request.source, "prices": len(prices)}

    def all(self) -> Record:
        """The prices on record, newest book first; at most ten thousand."""
        return {"items": [dict(row) for row in self._reader.rows("price_list", {})]}

    def unpriced(self) -> Record:
        """The models on record for which no cost can be told, with how many model calls each."""
        rows = self._reader.rows("unpriced_models", {})
        return {"items": [dict(row) for row in rows]}
