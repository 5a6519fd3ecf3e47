"""Every cell at every point: first whether it is right, then how long it takes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from elman.benchmarks.grid import Point
from elman.benchmarks.peers import ELMAN, ours, peers
from elman.benchmarks.problem import LIMIT, Problem, Results, largest_distance, reference
from elman.benchmarks.subjects import Subject
from elman.benchmarks.timing import Contestant, Times, race, threads

MODES = {"inference": (False,), "training": (True,), "both": (False, True)}
MODE_NAMES = {False: "inference", True: "forward + backward"}


@dataclass(frozen=True)
class Row:
    """One cell at one point in one mode.

    error: the largest distance of ours from the float64 loop. wrong: whose it is, where that is
    too much; then nothing is timed. times: by name, ours first. left_out: the peers that gave
    other numbers, with their distance.
    """

    cell: str
    training: bool
    point: Point
    error: float
    wrong: str | None = None
    times: dict[str, Times] = field(default_factory=dict)
    left_out: dict[str, float] = field(default_factory=dict)

    @property
    def mode(self) -> str:
        """As it is printed."""
        return MODE_NAMES[self.training]

    def ratio(self, peer: str | None = None) -> float | None:
        """The time of that peer, or of the fastest, over ours; above 1 we are faster."""
        if ELMAN not in self.times:
            return None
        theirs = {name: t.median_ms for name, t in self.times.items() if name != ELMAN}
        if not theirs or (peer is not None and peer not in theirs):
            return None
        return (theirs[peer] if peer else min(theirs.values())) / self.times[ELMAN].median_ms

    @property
    def best_peer(self) -> str | None:
        """The name of the fastest of the others."""
        theirs = {name: t.median_ms for name, t in self.times.items() if name != ELMAN}
        return min(theirs, key=lambda name: theirs[name]) if theirs else None


def rows(
    subjects: Sequence[Subject],
    points: Sequence[Point],
    modes: Sequence[bool],
    budget: float,
    compile_limit: float = 0.0,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[Row]:
    """Measure everything, one row at a time.

    modes: False for inference, True for forward + backward. budget: seconds of repeats a row.
    report: called with what comes next.
    """
    for subject in subjects:
        for point in points:
            report(f"{subject.name} at {point}: checking")
            right = reference(Problem.make(subject, point, any(modes)))
            for training in modes:
                report(f"{subject.name} at {point}: {MODE_NAMES[training]}")
                problem = Problem.make(subject, point, training)
                yield measure(problem, point, right, budget, compile_limit)


def measure(
    problem: Problem, point: Point, right: Results, budget: float, compile_limit: float = 0.0
) -> Row:
    """One row: ours against the float64 loop, each peer too, then the race."""
    name, training = problem.subject.name, problem.training
    mine = ours(problem)
    error, worst = _apart(mine, right, training)
    if not error <= LIMIT:
        return Row(name, training, point, error, wrong=worst)
    settings, left_out = {ELMAN: [mine]}, {}
    for peer, ways in peers(problem, compile_limit).items():
        apart = max(_apart(way, right, training)[0] for way in ways)
        if apart <= LIMIT:
            settings[peer] = ways
        else:
            left_out[peer] = apart
    return Row(name, training, point, error, None, race(settings, budget), left_out)


def _apart(contestant: Contestant, right: Results, training: bool) -> tuple[float, str]:
    with threads(contestant.threads):
        return largest_distance(contestant.results(contestant.run()), right, training)
