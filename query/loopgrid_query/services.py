"""What the routes call: the domain of one ledger, put together once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from loopgrid_collector.guard import Guard
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_query.analytics import Analytics, SqlLimits
from loopgrid_query.comparisons import Comparisons
from loopgrid_query.corrections import Corrections
from loopgrid_query.decisions import Decisions
from loopgrid_query.evaluations import Evaluations
from loopgrid_query.experiments.cohorts import Cohorts
from loopgrid_query.experiments.experiments import Experiments
from loopgrid_query.experiments.results import Results
from loopgrid_query.experiments.schedules import Schedules
from loopgrid_query.exports.source import Exports
from loopgrid_query.judgement import Judgements
from loopgrid_query.keys import Keys
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.outcomes import Outcomes
from loopgrid_query.prices import Prices
from loopgrid_query.queries import Reader
from loopgrid_query.replay.dispatch import Dispatcher
from loopgrid_query.replay.providers import Providers
from loopgrid_query.replay.replays import Replays
from loopgrid_query.review.reviews import Reviews
from loopgrid_query.snapshots import Snapshots


@dataclass(frozen=True, slots=True)
class Services:
    """The domain of one ledger. Everything in it may be used from many threads."""

    reader: Reader
    decisions: Decisions
    corrections: Corrections
    judgements: Judgements
    outcomes: Outcomes
    evaluations: Evaluations
    replays: Replays
    dispatcher: Dispatcher
    comparisons: Comparisons
    analytics: Analytics
    prices: Prices
    keys: Keys
    exports: Exports
    reviews: Reviews
    snapshots: Snapshots
    cohorts: Cohorts
    experiments: Experiments
    schedules: Schedules
    results: Results

    @classmethod
    def on(
        cls,
        ledger: Ledger,
        ingest: Ingest,
        guard: Guard,
        limits: SqlLimits,
        providers: Providers | None = None,
        model_calls: int = 1,
    ) -> Self:
        """The domain of an open ledger with its ingest door and its keys.

        Args:
            ledger: what is read.
            ingest: the door through which everything is appended.
            guard: who may ask.
            limits: what a client's SQL may use.
            providers: whom replays by model may ask; none if left out.
            model_calls: how many of them at once.
        """
        reader = Reader(ledger)
        decisions = Decisions(reader, ingest)
        # One lock a decision for all that is said about it.
        locks = KeyedLocks()
        exports = Exports(ledger)
        replays = Replays(reader, ingest, decisions, providers, model_calls)
        dispatcher = Dispatcher(replays.lifecycle)
        ingest.when_stopping(dispatcher.close)
        replays.models.start()
        ingest.when_stopping(replays.models.stop)
        ingest.when_closing(replays.models.close)
        ingest.when_scraped(replays.models.metrics)
        cohorts = Cohorts(reader, ingest)
        experiments = Experiments(reader, ingest, decisions, replays, cohorts)
        schedules = Schedules(reader, ingest, cohorts, experiments)
        experiments.runner.each_look(schedules.tick)
        experiments.start()
        ingest.when_stopping(experiments.runner.stop)
        ingest.when_closing(experiments.runner.close)
        corrections = Corrections(reader, ingest, decisions, locks)
        judgements = Judgements(reader, ingest, decisions, exports, locks)
        return cls(
            reader=reader,
            decisions=decisions,
            corrections=corrections,
            judgements=judgements,
            outcomes=Outcomes(reader, ingest),
            evaluations=Evaluations(ledger, reader, ingest, locks),
            replays=replays,
            dispatcher=dispatcher,
            comparisons=Comparisons(reader, decisions, replays),
            analytics=Analytics(ledger, reader, limits),
            prices=Prices(reader, ingest),
            keys=Keys(guard),
            exports=exports,
            reviews=Reviews(reader, ingest, decisions, corrections, judgements),
            snapshots=Snapshots(ledger),
            cohorts=cohorts,
            experiments=experiments,
            schedules=schedules,
            results=Results(reader, decisions, cohorts, experiments),
        )
