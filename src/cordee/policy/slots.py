"""What each slot of the cache holds and who runs in it: a sequence gets a slot, leaves it, or is parked.

Whatever a slot held before is moved, saved or given up here, so that the operations of a plan say all that the kernels have to do.
Within one plan nothing is taken from a slot that an earlier operation of it uses: copies between slots are made by the kernels only
when the step begins.
"""

from __future__ import annotations

from collections.abc import Callable

from cordee.policy import parking, places
from cordee.policy.parking import Way
from cordee.policy.places import worth
from cordee.policy.plan import Copy, Limits, Move, Restore, Save, Trim
from cordee.policy.prefix import BLOCK, Held, Match, Prefixes
from cordee.policy.sequence import Making, Sequence
from cordee.policy.stepcost import StepCost

USE_AGAIN = 0.1  # how likely somebody comes back for what was left behind: what may be spent on keeping it
COPIED_BYTES_PER_S = 5e9  # from slot to slot, in warm memory; measured twice that


class Slots:
    """`running[slot]` is who runs there. `saved_tokens`: of parked sequences, outside the cache."""

    __slots__ = ("_cost", "_held", "_owner", "limits", "running", "runs", "saved_tokens")

    def __init__(self, limits: Limits, cost: StepCost, owner: Callable[[int], Sequence | None]) -> None:
        size = limits.slots + limits.spare
        self.limits = limits
        self.running: list[Sequence | None] = [None] * size
        self.runs = 0
        self.saved_tokens = 0
        self._cost = cost
        self._owner = owner
        self._held = Prefixes(size)

    def matches(self, sequence: Sequence, like: Sequence | None) -> tuple[Match | None, Match | None]:
        """(the longest beginning of it that is or will be somewhere, the longest that is there)."""
        entry, most = sequence.entry, sequence.reusable
        longest, ready = self._held.find(entry.scope, entry.tokens, sequence.hashes, most)
        hints = [one.held for one in (like, sequence) if one is not None and one.held is not None]
        for held in hints:
            match = self._held.match(entry.scope, entry.tokens, held, most)
            if match is not None and (longest is None or match.tokens > longest.tokens):
                longest = match
            if match is not None and match.ready > (ready.ready if ready is not None else 0):
                ready = match
        return longest, ready

    def seat(self, making: Making, sequence: Sequence, ready: Match | None) -> bool:
        """Give it a slot, with what is ready of its beginning. False: not in this step, all slots are in use by then."""
        reuse = ready.ready if ready is not None else 0
        restores = sequence.saved > reuse
        source = ready.held if ready is not None and reuse and not restores else None
        target = self._target(making, sequence, source)
        if target is None:
            return False
        if source is not None and source.slot == target:
            if source.computed > reuse:
                making.operations.append(Trim(target, reuse))
        else:
            if source is not None:
                making.touched.add(source.slot)
                source.used_s = making.now_s
            was_empty = self._held[target] is None
            self._vacate(making, target, may_move=not restores)
            if restores:
                making.operations.append(Restore(sequence.key, target))
            elif source is not None:
                making.operations.append(Copy(sequence.key, source.slot, target, reuse))
            elif not was_empty:
                making.operations.append(Trim(target, 0))
        sequence.computed = sequence.saved if restores else reuse
        self._unsave(sequence)
        self._settle(making, sequence, target)
        return True

    def park(self, making: Making, sequence: Sequence) -> None:
        """It makes room, and comes back for what its slot holds."""
        slot = sequence.slot
        assert sequence.held is not None
        self.running[slot] = None
        self.runs -= 1
        sequence.slot = -1
        sequence.held.used_s, sequence.held.known = making.now_s, sequence.length
        if sequence.scored_from is not None:  # what was scored is scored
            sequence.scored_from = max(sequence.scored_from, sequence.computed)
        sequence.computed = 0
        sequence.parkings += 1
        sequence.since_s = making.now_s
        making.parked[sequence.key] = Way.KEEP

    def leave(self, now_s: float, sequence: Sequence, *, keeps: bool) -> int | None:
        """It is over. Returns the slot that has to be emptied, None where nothing has to be done."""
        self._unsave(sequence)
        if sequence.slot >= 0:
            self.running[sequence.slot] = None
            self.runs -= 1
        held, sequence.held = sequence.held, None
        if held is None:
            return None
        held.owner, held.used_s, held.known = None, now_s, held.computed
        if keeps and self.limits.keeps_prefixes and held.computed >= BLOCK:
            return None
        self._held.clear(held.slot)
        return held.slot

    def computed(self, sequence: Sequence, tokens: int) -> None:
        """So many of its tokens are in the cache now."""
        sequence.computed = tokens
        if sequence.held is not None:
            sequence.held.computed = tokens

    def grew(self, sequence: Sequence) -> None:
        """It has one known token more."""
        sequence.length += 1
        if sequence.held is not None and sequence.length % BLOCK == 0:
            self._held.grew(sequence.held, sequence.length)

    def emptied(self, slot: int) -> None:
        """What the slot was to hold could not be put there."""
        held = self._held[slot]
        if held is None:
            return
        owner = self._owner(held.owner) if held.owner is not None else None
        if owner is not None and owner.slot >= 0:  # it runs there, and computes it itself
            self.computed(owner, 0)
            owner.reused = 0
            return
        if owner is not None:
            owner.held = None
        self._held.clear(slot)

    def unsaved(self, sequence: Sequence) -> None:
        """It could not be saved: it is computed again."""
        self._unsave(sequence)

    # -- inside

    def _target(self, making: Making, sequence: Sequence, source: Held | None) -> int | None:
        idle = [slot for slot, one in enumerate(self.running) if one is None and slot not in making.touched]
        in_place = source.slot if source is not None and source.owner in (None, sequence.key) else None
        if source is not None and in_place is None and source.slot in idle:
            idle.remove(source.slot)  # somebody comes back for all of it
        runs = [one is not None for one in self.running]
        return places.target(idle, runs, self._held.__getitem__, in_place)

    def _settle(self, making: Making, sequence: Sequence, slot: int) -> None:
        """It runs in this slot from now on."""
        if sequence.held is not None:
            sequence.held.owner = None  # where that is another slot, it stays there for others
        entry = sequence.entry
        held = Held(
            slot,
            entry.scope,
            entry.tokens,
            sequence.length,
            sequence.computed,
            sequence.key,
            making.now_s,
            [*sequence.hashes],
        )
        self._held.put(held)
        self._held.grew(held, sequence.length)
        sequence.held, sequence.slot = held, slot
        self.running[slot] = sequence
        self.runs += 1
        making.touched.add(slot)

    def _vacate(self, making: Making, slot: int, *, may_move: bool) -> None:
        """Find a place for what the slot holds, or give it up."""
        held = self._held[slot]
        if held is None:
            return
        spot = self._spot(making, held) if may_move else None
        recompute_s = self._cost.prefill_s(0, held.computed)
        move_s = self.limits.slot_bytes / COPIED_BYTES_PER_S if spot is not None else None
        owner = self._owner(held.owner) if held.owner is not None else None
        if owner is None:
            way = Way.KEEP if move_s is not None and move_s < USE_AGAIN * recompute_s else Way.RECOMPUTE
        else:
            way = parking.way(move_s, self._save_s(held.computed), recompute_s)
            if owner.key in making.parked:
                making.parked[owner.key] = way
        if way is Way.KEEP and spot is not None:
            making.operations.append(Move(slot, spot, held.computed))
            making.touched.add(spot)
            self._held.move(slot, spot)
            return
        if owner is not None:
            owner.held = None
            if way is Way.SAVE:
                making.operations.append(Save(owner.key, slot))
                owner.saved = held.computed
                self.saved_tokens += held.computed
        self._held.clear(slot)

    def _spot(self, making: Making, held: Held) -> int | None:
        """A slot whose content is worth less than this, and for which nobody will come back."""
        idle = [
            slot
            for slot, one in enumerate(self.running)
            if one is None and slot not in making.touched and slot != held.slot
        ]
        spot = places.least(idle, self._held.__getitem__)
        if spot is None:
            return None
        lost = worth(self._held[spot])
        return spot if lost < worth(held) and lost[0] < places.PARKED else None

    def _save_s(self, tokens: int) -> float | None:
        """What it takes to save so many tokens and to bring them back; None where there is no room for them."""
        limits = self.limits
        if not limits.token_bytes or (self.saved_tokens + tokens) * limits.token_bytes > limits.parked_bytes_max:
            return None
        return 2 * self._cost.moved_s(tokens * limits.token_bytes)

    def _unsave(self, sequence: Sequence) -> None:
        self.saved_tokens -= sequence.saved
        sequence.saved = 0
