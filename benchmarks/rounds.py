"""Runs several loads in turns, so that a machine that gets slower does so for all of them."""

from collections.abc import Iterator, Sequence
from itertools import islice
from statistics import median

from benchmarks import load
from benchmarks.fleet import Sent
from benchmarks.load import Job, Result
from benchmarks.table import Bound, Row
from benchmarks.verify import Ledger

ROUNDS = 3
EXPECTED_PER_S_MIN = 40


class Measure:
    """Measures one kind of request to one server, again in each round."""

    def __init__(
        self,
        name: str,
        port: int,
        requests: Iterator[Sent],
        ledger: Ledger | None = None,
        *,
        unit: str = "requests/s",
        units_a_request: int = 1,
        connections: int = load.CONNECTIONS,
        expected_per_s: float = 15_000,
        good: str = "2",
        reconnects: bool = False,
    ) -> None:
        self.name = name
        self._port = port
        self._requests = requests
        self._ledger = ledger
        self._unit = unit
        self._units_a_request = units_a_request
        self._connections = connections
        self._expected_per_s = expected_per_s
        """Decides how many requests are made in advance."""
        self._good = good
        self._reconnects = reconnects
        self._results: list[Result] = []

    def round(self) -> None:
        """Runs once, with enough requests for the time."""
        while (result := self._run()).ran_out:
            self._expected_per_s *= 2
        self._expected_per_s = max(EXPECTED_PER_S_MIN, 1.5 * result.answers_per_s)
        self._results.append(result)

    def _run(self) -> Result:
        """Makes requests, sends them, and enters the receipts into the ledger."""
        duration_s = load.WARMUP_S + load.MEASURED_S
        sent = list(islice(self._requests, int(self._expected_per_s * duration_s)))
        job = Job(
            port=self._port,
            requests=[each.request for each in sent],
            keeps=self._ledger is not None,
            connections=self._connections,
            good=self._good,
            reconnects=self._reconnects,
        )
        result = load.drive(job)
        if self._ledger is not None:
            self._ledger.enter(sent, result)
        else:
            assert not result.failures, (self.name, result.failures[0])
        return result

    @property
    def answers(self) -> int:
        """Returns how many requests were answered after the warm-up."""
        return round(sum(each.answers_per_s for each in self._results) * load.MEASURED_S)

    @property
    def per_s(self) -> float:
        """Returns the median of the rounds."""
        return median(each.answers_per_s for each in self._results) * self._units_a_request

    @property
    def p50_ms(self) -> float:
        """Returns the median of the rounds."""
        return median(each.p50_ms for each in self._results)

    def row(self, than: "Measure | None" = None, bound: Bound | None = None) -> Row:
        """Returns the figures, with the ratio to another measure if one is given."""
        return Row(
            name=self.name,
            value=self.per_s,
            unit=self._unit,
            p50_ms=self.p50_ms,
            p99_ms=median(each.p99_ms for each in self._results),
            ratio=self.per_s / than.per_s if than else None,
            compared_with=than.name if than else "",
            bound=bound,
        )


def take_turns(measures: Sequence[Measure]) -> None:
    """Runs every measure once in each round."""
    for _ in range(ROUNDS):
        for measure in measures:
            measure.round()
