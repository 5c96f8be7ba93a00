"""Puts into words the members of events that have members of their own: plans, windows, maps."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from firmtrail.console import filters
from firmtrail.events.steering import AutoRollout, PlanPhase, Window


def in_words(value: object) -> Markup | None:
    """Returns a value with members of its own as people read it; None for any other value."""
    match value:
        case Window():
            return _window(value)
        case AutoRollout():
            return _auto_rollout(value)
        case (PlanPhase(), *_) as phases:
            return _plan([each for each in phases if isinstance(each, PlanPhase)])
        case Mapping():
            return _map(value)
        case _:
            return None


def _map(members: Mapping[str, object]) -> Markup:
    pairs = (
        Markup("{}: {}").format(filters.words(name), in_words(value) or filters.words(f"{value}"))
        for name, value in members.items()
    )
    return Markup("; ").join(pairs) or Markup("none")


def _window(window: Window) -> Markup:
    zone = "by the clock of each device" if window.timezone == "device" else window.timezone
    length = filters.duration(window.duration_s * 1_000)
    return Markup('opens at <code class="mono">{}</code> for {}, {}').format(
        window.cron, length, zone
    )


def _plan(phases: Sequence[PlanPhase]) -> Markup:
    ends = [_end(phase) for phase in phases[:-1]] + [""]
    shown = (
        f"{filters.percent(phase.reach / 10_000, 0 if phase.reach % 100 == 0 else 2)}{end}"
        for phase, end in zip(phases, ends, strict=True)
    )
    return Markup("{}").format(", then ".join(shown))


def _end(phase: PlanPhase) -> str:
    """Returns when a phase that is not the last one ends."""
    lasts = None if phase.after_s is None else filters.duration(phase.after_s * 1_000)
    if phase.installed_percent is None:
        return f" for {lasts}" if lasts else " until a person begins the next"
    least = f", for {lasts} at least" if lasts else ""
    return f" until {_share(phase.installed_percent, phase.min_reports)} are installs{least}"


def _share(percent: int | None, min_reports: int | None) -> str:
    outcomes = filters.number(min_reports or 1)
    return f"{percent}{filters.THIN}% of at least {outcomes} outcomes"


def _auto_rollout(auto: AutoRollout) -> Markup:
    parts = [_plan(auto.plan) if auto.plan else Markup("without a plan")]
    if auto.window is not None:
        parts.append(_window(auto.window))
    if auto.failed_percent is not None:
        share = _share(auto.failed_percent, auto.min_reports)
        parts.append(Markup("pauses when more than {} fail").format(share))
    return Markup(", ").join(parts)
