"""The barriers of the Hopper attention kernels, step by step on a CPU: no deadlock, no tile read too early or late.

Every part of a program (producer warp, warpgroups) is a generator that yields what it waits for; a random
scheduler runs those that may go on. The generators follow `forward.py` and `backward.py` line by line in what they
wait for, release, read and write, and say nothing of what is computed.
"""

import random

import pytest


class Barrier:
    """An mbarrier: the phase is over when `count` have arrived; a wait for a parity passes when it is over."""

    def __init__(self, count):
        self.count = self.pending = count
        self.phase = 0

    def arrive(self):
        assert self.pending > 0
        self.pending -= 1
        if not self.pending:
            self.phase += 1
            self.pending = self.count

    def passed(self, parity):
        return lambda: self.phase & 1 != parity


class Meeting:
    """A hardware barrier for two warpgroups: over when both have come, whether they wait or pass by."""

    def __init__(self):
        self.here = set()
        self.phase = 0

    def come(self, who):
        phase = self.phase
        assert who not in self.here, "a warpgroup counts for both"
        self.here.add(who)
        if len(self.here) == 2:
            self.here, self.phase = set(), phase + 1
        return lambda: self.phase > phase


class Ring:
    """Buffers with a barrier for filled and one for free, each read by `readers`."""

    def __init__(self, stages, readers, writers=1):
        self.stages = stages
        self.tiles = [None] * stages
        self.reading = [0] * stages
        self.full = [Barrier(writers) for _ in range(stages)]
        self.empty = [Barrier(readers) for _ in range(stages)]

    def fill(self, i, content):
        s = i % self.stages
        yield self.empty[s].passed(i // self.stages & 1 ^ 1)
        assert not self.reading[s], "a tile is overwritten while it is read"
        self.tiles[s] = content
        self.full[s].arrive()

    def wait(self, i, content):
        s = i % self.stages
        yield self.full[s].passed(i // self.stages & 1)
        assert self.tiles[s] == content, f"found {self.tiles[s]}, wanted {content}"

    def begin(self, i):
        self.reading[i % self.stages] += 1

    def end(self, i):
        self.reading[i % self.stages] -= 1

    def release(self, i):
        self.empty[i % self.stages].arrive()


def run(parts, rng):
    """Run all parts to their end, in random order; raises AssertionError where they wait for each other."""
    waiting = {}
    for part in parts:
        waiting[part] = next(part, None)
    waiting = {p: c for p, c in waiting.items() if c}
    while waiting:
        ready = [p for p, condition in waiting.items() if condition()]
        assert ready, "deadlock"
        part = rng.choice(ready)
        condition = next(part, None)
        if condition:
            waiting[part] = condition
        else:
            del waiting[part]


def now():
    """A point where another part may run: an asynchronous product goes on meanwhile."""
    return lambda: True


def forward_parts(items, ST, turns):
    """`items`: for each the number of key tiles, and the part [begin, end) of them for each warpgroup."""
    turn = [Meeting(), Meeting()]
    queue, k, v = Ring(2, 2), Ring(ST, 2), Ring(ST, 2)
    q = [Ring(1, 1), Ring(1, 1)]

    def produce():
        t = 0
        yield from queue.fill(0, 0)
        for r, (n, _) in enumerate(items):
            yield from queue.fill(r + 1, r + 1 if r + 1 < len(items) else -1)
            yield from q[0].fill(r, r)
            yield from k.fill(t, (r, 0))
            yield from q[1].fill(r, r)
            for i in range(n):
                if i + 1 < n:
                    yield from k.fill(t + 1, (r, i + 1))
                yield from v.fill(t, (r, i))
                t += 1

    def hand_back(c, t, r, first, stop):
        for i in range(first, stop):
            if turns:
                yield turn[c].come(c)
                turn[1 - c].come(c)
            yield from k.wait(t + i, (r, i))
            k.release(t + i)
            yield from v.wait(t + i, (r, i))
            v.release(t + i)

    def consume(c):
        t = r = 0
        if turns and c == 1:
            turn[0].come(c)
        yield from queue.wait(0, 0)
        queue.release(0)
        n, (begin, end) = items[0][0], items[0][1][c]
        yield from hand_back(c, 0, 0, 0, begin)
        yield from q[c].wait(0, 0)
        yield from k.wait(begin, (0, begin))
        k.begin(begin)
        q[c].begin(0)
        while r < len(items):
            yield now()
            k.end(t + begin)
            k.release(t + begin)
            for i in range(begin + 1, end):
                yield from k.wait(t + i, (r, i))
                if turns:
                    yield turn[c].come(c)
                k.begin(t + i)
                yield from v.wait(t + i - 1, (r, i - 1))
                v.begin(t + i - 1)
                if turns:
                    turn[1 - c].come(c)
                yield now()
                k.end(t + i)
                k.release(t + i)
                yield from v.wait(t + i, (r, i))
                v.end(t + i - 1)
                v.release(t + i - 1)
            q[c].end(r)
            q[c].release(r)
            last = t + end - 1
            yield from v.wait(last, (r, end - 1))
            v.begin(last)
            following = r + 1 if r + 1 < len(items) else -1
            yield from queue.wait(r + 1, following)
            queue.release(r + 1)
            v.end(last)
            v.release(last)
            yield from hand_back(c, t, r, end, n)
            t += n
            r += 1
            if following < 0:
                break
            n, (begin, end) = items[r][0], items[r][1][c]
            yield from hand_back(c, t, r, 0, begin)
            yield from q[c].wait(r, r)
            yield from k.wait(t + begin, (r, begin))
            k.begin(t + begin)
            q[c].begin(r)
        if turns and c == 0:
            yield turn[0].come(c)

    return [produce(), consume(0), consume(1)]


def backward_parts(group, n, ST):
    total = group * n
    q, k, v = Ring(ST, 2, writers=2), Ring(2, 1), Ring(2, 1)  # with q come do, lse and delta
    ds = Ring(2, 1, writers=2)
    halves = [[None, None], [None, None]]  # of dS in each buffer: the tile that each warpgroup wrote
    multiplying = [[0, 0], [0, 0]]  # readers of these halves
    keys = [0, 0]  # warpgroups that read each half of the keys

    def produce():
        for c in range(2):
            yield from k.fill(c, c)
        for t in range(total):
            yield from q.fill(t, t)
            if t == 0:
                for c in range(2):
                    yield from v.fill(c, c)
            q.full[t % ST].arrive()  # lse and delta are there, too

    def sum_dq():
        for c in range(2):
            yield k.full[c].passed(0)
        for t in range(total):
            yield ds.full[t % 2].passed(t // 2 & 1)
            for h in range(2):
                multiplying[t % 2][h] += 1
                keys[h] += 1
            yield now()  # dQ is there
            for h in range(2):
                assert halves[t % 2][h] == t
                multiplying[t % 2][h] -= 1
                keys[h] -= 1
            ds.release(t)

    def consume(c):
        yield from k.wait(c, c)
        if total:
            yield from q.wait(0, 0)
            q.begin(0)
            yield from v.wait(c, c)
        for t in range(total):
            yield now()  # S is there
            yield now()  # so is dP
            yield ds.empty[t % 2].passed(t // 2 & 1 ^ 1)
            assert not multiplying[t % 2][c], "dS is overwritten while it is read"
            halves[t % 2][c] = t
            ds.full[t % 2].arrive()
            multiplying[t % 2][c] += 1
            yield now()  # dV is there
            if t + 1 < total:
                yield from q.wait(t + 1, t + 1)
                q.begin(t + 1)
            yield now()  # dK is there
            multiplying[t % 2][c] -= 1
            q.end(t)
            q.release(t)
        yield ds.empty[(total + 1) % 2].passed((total + 1) // 2 & 1 ^ 1)
        assert not keys[c], "keys are overwritten while they are read"

    return [produce(), sum_dq(), consume(0), consume(1)]


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("ST", [2, 3, 4])
def test_forward_never_waits_for_itself_and_reads_only_what_is_there(ST, turns):
    rng = random.Random(ST)
    for _ in range(300):
        items = []
        for _ in range(rng.randint(1, 8)):
            n = rng.randint(1, 6)
            begins = [rng.randrange(n) for _ in range(2)]
            items.append((n, [(b, rng.randint(b + 1, n)) for b in begins]))
        run(forward_parts(items, ST, turns), rng)


@pytest.mark.parametrize("ST", [2, 3, 4])
def test_backward_never_waits_for_itself_and_reads_only_what_is_there(ST):
    rng = random.Random(ST)
    for _ in range(500):
        run(backward_parts(rng.randint(1, 4), rng.randint(0, 6), ST), rng)


def test_the_simulation_finds_a_release_that_comes_too_early():
    ring = Ring(1, 1)

    def produce():
        for i in range(3):
            yield from ring.fill(i, i)

    def consume():
        for i in range(3):
            yield from ring.wait(i, i)
            ring.begin(i)
            ring.release(i)
            yield now()
            ring.end(i)

    with pytest.raises(AssertionError, match="overwritten"):
        for seed in range(50):
            run([produce(), consume()], random.Random(seed))
