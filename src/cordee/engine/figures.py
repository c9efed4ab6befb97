"""What an engine counts: read by whoever reports, from any thread, without a lock."""

from __future__ import annotations

from dataclasses import dataclass, field

from cordee.domain.replica import EngineFigures
from cordee.policy.parking import Way


@dataclass(slots=True)
class Counts:
    """Since the start. `prompt_tokens` were asked for, `cached_tokens` of them were found computed. `step_s` is the time of all steps
    and `kernel_s` what the kernels had of it. `preemptions`: by what became of what was computed."""

    steps: int = 0
    step_s: float = 0.0
    kernel_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    preemptions: dict[Way, int] = field(default_factory=lambda: dict.fromkeys(Way, 0))

    @property
    def outside_share(self) -> float:
        """The share of the steps that is not the kernels': planning, sampling, telling."""
        return max(0.0, 1.0 - self.kernel_s / self.step_s) if self.step_s else 0.0


def figures_of(counts: Counts, parked: int, aborted: int) -> EngineFigures:
    """As they are reported."""
    preempted = counts.preemptions
    return EngineFigures(
        prompt_tokens=counts.prompt_tokens,
        cached_tokens=counts.cached_tokens,
        kept=preempted[Way.KEEP],
        saved=preempted[Way.SAVE],
        recomputed=preempted[Way.RECOMPUTE],
        parked=parked,
        aborted=aborted,
        outside_share=round(counts.outside_share, 4),
    )
