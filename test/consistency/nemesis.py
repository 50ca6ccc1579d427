"""Faults, put in while the clients run.

Each fault is a generator: up to its `yield` it does harm, after it it heals.
So any of them can be held for as long as one likes, and combined.  Everything
is recorded with its stamp, and so is the timeline each node can be on.
"""
import os
import signal
import time

from cluster import Failed, poll
from wire import Lost

FAMILIES = {
    "none": (),
    "lag": ("pause", "delay", "stop_receiver", "burst", "pause_all"),
    "cut": ("slow_stream", "slow_ask", "stall_stream", "stall_ask", "stall_up", "stall_down",
            "cut_stream", "cut_ask", "cut_all"),
    "crash": ("crash_standby", "crash_standby", "crash_primary", "crash_primary", "end_worker",
              "kill_worker"),
    "conflict": ("vacuum", "ddl", "lock", "burst"),
    "redirect": ("hang", "hang", "hang_and_pause"),
}
# mix -> (families of its faults, failovers, synchronous commit: True, False, None for in turns)
MIXES = {
    "none": (("none",), False, None),
    "lag": (("lag",), False, None),
    "cut": (("cut",), False, None),
    "crash": (("crash",), False, None),
    "conflict": (("conflict",), False, None),
    "redirect": (("redirect",), False, True),
    "pairs": (("lag", "cut", "crash", "conflict"), False, None),
    "failover_sync": (("lag", "cut", "conflict"), True, True),
    "failover_async": (("lag", "cut", "conflict"), True, False),
}


class Nemesis:
    def __init__(self, cluster, rng, record, shared, tell):
        self.cluster, self.rng, self.record = cluster, rng, record
        self.shared, self.tell = shared, tell
        self.spans = {}     # node -> {timeline: since}
        self.failovers = 0

    # ---- records

    def note(self, action):
        self.record({"k": "f", "t": time.monotonic_ns(), "a": action})
        self.tell(action)

    def since(self, node, timeline):
        """From now on the node can be on the timeline."""
        self.spans.setdefault(node.index, {}).setdefault(timeline, time.monotonic_ns())

    def until(self, node, timeline):
        """From now on it cannot."""
        start = self.spans.get(node.index, {}).pop(timeline, None)
        if start is not None:
            self.record({"k": "tl", "nd": node.index, "tl": timeline, "t": start,
                         "te": time.monotonic_ns()})

    def begin(self):
        """All nodes are on the primary's timeline."""
        self.timeline = self.cluster.primary.timeline_of_primary()
        for node in self.cluster.nodes:
            self.since(node, self.timeline)

    def end(self):
        for index, spans in self.spans.items():
            for timeline, start in spans.items():
                self.record({"k": "tl", "nd": index, "tl": timeline, "t": start, "te": None})

    # ---- the round

    def run(self, mix, seconds):
        families, failovers, _ = MIXES[mix]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if families == ("none",):
                time.sleep(min(1, max(0, end - time.monotonic())))
                continue
            names = [self.rng.choice(FAMILIES[self.rng.choice(families)])]
            if mix == "pairs":
                names = self.rng.sample([x for f in families for x in FAMILIES[f]], 2)
            if failovers:
                self.failover(names[0] if self.rng.random() < 0.5 else None)
            else:
                self.disturb(names)
                time.sleep(self.rng.uniform(0.2, 0.8))

    def disturb(self, names):
        running = []
        try:
            for name in names:
                running.append(self.start(name))
                time.sleep(self.rng.uniform(0.1, 0.4))
            time.sleep(self.rng.uniform(0.5, 3))
        finally:
            for fault in reversed(running):
                self.heal(fault)
        self.settle()

    def start(self, name):
        fault = getattr(self, name)()
        try:
            next(fault, None)
        except Lost as error:  # a fault beside it has ended that node
            self.note(f"{name} not done: {error}")
        return fault

    @staticmethod
    def heal(fault):
        next(fault, None)

    def settle(self):
        """Every standby follows the primary again; one that cannot is made
        anew."""
        try:
            self.cluster.follow(20)
        except (Failed, Lost) as error:
            self.note(f"standbys are made anew: {error}")
            for node in self.cluster.standbys():
                self.cluster.rebuild(node)
            self.cluster.follow(30)

    def standby(self):
        return self.rng.choice(self.cluster.standbys())

    # ---- lag

    def pause(self, nodes=None):
        nodes = nodes or [self.standby()]
        for node in nodes:
            self.note(f"{node.name}: replay paused")
            node.sql("SELECT pg_wal_replay_pause()")
        yield
        for node in nodes:
            self.note(f"{node.name}: replay resumed")
            try:
                if node.one("SELECT pg_is_in_recovery()") == "t":
                    node.sql("SELECT pg_wal_replay_resume()")
            except Lost:
                pass  # it restarts, which resumes

    def pause_all(self):
        yield from self.pause(self.cluster.standbys())

    def delay(self):
        node, ms = self.standby(), self.rng.choice((50, 300, 1500))
        self.note(f"{node.name}: recovery_min_apply_delay {ms} ms")
        node.setting("recovery_min_apply_delay", f"{ms}ms")
        yield
        self.note(f"{node.name}: no recovery_min_apply_delay")
        try:
            node.setting("recovery_min_apply_delay", None)
        except Lost:
            self.cluster.configure(node)

    def stop_receiver(self):
        node = self.standby()
        pid = node.one("SELECT pid FROM pg_stat_wal_receiver")
        if pid:
            self.note(f"{node.name}: SIGSTOP to the WAL receiver")
            try:
                node.stop_process(int(pid))
            except ProcessLookupError:
                pass
        yield
        self.note(f"{node.name}: SIGCONT to the WAL receiver")
        node.go_on()

    def burst(self):
        self.note("burst of WAL")
        self.try_sql("INSERT INTO ballast SELECT i, repeat('x', 400) "
                     "FROM generate_series(1, 20000) i; DELETE FROM ballast")
        yield
        self.try_sql("TRUNCATE ballast")

    # ---- commits that hang while a standby shows them

    def hang(self):
        """Commits wait for both standbys, and one hears of them late."""
        primary, ms = self.cluster.primary, self.rng.choice((20, 100, 300))
        names = ", ".join(n.name for n in self.cluster.standbys())
        late = self.standby()
        self.note(f"commits wait for both standbys, {late.name} gets WAL {ms} ms late")
        primary.setting("synchronous_standby_names", f"ANY 2 ({names})")
        self.cluster.proxies.tell(late.name + "-stream", "delay", ms / 1000)
        yield
        self.note(f"commits wait for one standby, {late.name} gets WAL in time")
        self.cluster.proxies.tell(late.name + "-stream", "pass")
        primary.setting("synchronous_standby_names", None)

    def hang_and_pause(self):
        hanging, pausing = self.hang(), self.pause()
        for fault in (hanging, pausing):
            next(fault, None)
        yield
        for fault in (pausing, hanging):
            next(fault, None)

    # ---- links

    def link(self, end, *command):
        node = self.standby()
        if not node.asks:
            end = "-stream"
        self.note(f"{node.name}{end}: {' '.join(map(str, command))}")
        self.cluster.proxies.tell(node.name + end, *command)
        yield
        self.note(f"{node.name}{end}: pass")
        self.cluster.proxies.tell(node.name + end, "pass")

    def slow_stream(self):
        return self.link("-stream", "delay", self.rng.choice((0.01, 0.1, 0.6)))

    def slow_ask(self):
        return self.link("-ask", "delay", self.rng.choice((0.01, 0.1, 0.6)))

    def stall_stream(self):
        return self.link("-stream", "stall")

    def stall_ask(self):
        return self.link("-ask", "stall")

    def stall_up(self):
        return self.link(self.rng.choice(("-stream", "-ask")), "stall_up")

    def stall_down(self):
        return self.link(self.rng.choice(("-stream", "-ask")), "stall_down")

    def cut_stream(self):
        return self.link("-stream", "cut")

    def cut_ask(self):
        return self.link("-ask", "cut")

    def cut_all(self):
        node = self.standby()
        self.note(f"{node.name}: both links cut")
        self.cluster.unplug(node)
        yield
        self.note(f"{node.name}: both links pass")
        for end in ("-stream", "-ask"):
            self.cluster.proxies.tell(node.name + end, "pass")

    # ---- crashes

    def crash(self, node):
        if not node.up():
            return  # a fault beside this one has ended it
        number = self.rng.choice((signal.SIGKILL, signal.SIGQUIT))
        self.note(f"{node.name}: {signal.Signals(number).name} to the postmaster")
        node.end(number)
        yield
        self.note(f"{node.name}: restart")
        node.start()

    def crash_standby(self):
        return self.crash(self.standby())

    def crash_primary(self):
        return self.crash(self.cluster.primary)

    def worker(self, number):
        """The worker of tcs on a standby; killed hard, it takes all sessions of
        the server with it."""
        node = self.standby()
        pid = node.worker()
        if pid:
            self.note(f"{node.name}: {signal.Signals(number).name} to the worker")
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        yield
        if pid:
            poll(f"{node.name}: restart after the worker's end", 30, lambda: self.answers(node))

    @staticmethod
    def answers(node):
        try:
            return node.one("SELECT 1") == "1"
        except Lost:
            return False

    def end_worker(self):
        return self.worker(signal.SIGTERM)

    def kill_worker(self):
        return self.worker(signal.SIGKILL)

    # ---- conflicts with replay

    def try_sql(self, text):
        """On the primary, which a fault beside this one may have ended."""
        try:
            self.cluster.primary.sql(text)
        except (Lost, Failed) as error:
            self.note(f"not done: {error}")

    def vacuum(self):
        self.note("VACUUM of all tables")
        for table in ("reg", "pair_a", "pair_b", "lst", "audit"):
            self.try_sql(f"VACUUM {self.rng.choice(('', '(FREEZE) '))}{table}")
        yield

    def ddl(self):
        table = self.rng.choice(("reg", "pair_a", "pair_b", "lst"))
        self.note(f"DDL on {table}")
        self.try_sql(f"SET lock_timeout = '2s'; ALTER TABLE {table} ADD COLUMN extra int DEFAULT 7")
        yield
        self.try_sql(f"SET lock_timeout = '2s'; ALTER TABLE {table} DROP COLUMN IF EXISTS extra;"
                     f"REINDEX TABLE {table}")
        self.try_sql("RESET lock_timeout")

    def lock(self):
        table = self.rng.choice(("reg", "pair_a", "pair_b", "lst"))
        self.note(f"{table} locked for 300 ms")
        self.try_sql(f"BEGIN; SET LOCAL lock_timeout = '2s'; LOCK TABLE {table} IN ACCESS "
                     "EXCLUSIVE MODE; SELECT pg_sleep(0.3); COMMIT")
        self.try_sql("ROLLBACK")
        yield

    # ---- failover

    def failover(self, before=None, alive=None, lossy=None):
        """The primary dies, or is cut off and goes on; the more advanced of the
        standbys becomes the primary, the other follows it; at the end the old
        one is a standby again.  `before`: another fault at that moment; `alive`: the
        old one goes on; `lossy`: without synchronous commit, writes are lost."""
        cluster, rng = self.cluster, self.rng
        old, standbys = cluster.primary, cluster.standbys()
        alive = rng.random() < 0.5 if alive is None else alive
        old_timeline = self.timeline
        fault = self.start(before) if before else iter(())
        lossy = rng.random() < 0.7 if lossy is None else lossy
        if lossy and not cluster.sync:
            # so that what is acknowledged from now on is lost
            for node in standbys:
                self.note(f"{node.name}-stream: stall")
                cluster.proxies.tell(node.name + "-stream", "stall")
            time.sleep(rng.uniform(0.2, 1))
        if alive:
            self.note(f"{old.name} is cut off, and goes on")
            self.shared[2] = old.index
        else:
            number = rng.choice((signal.SIGKILL, signal.SIGQUIT))
            self.note(f"{old.name}: {signal.Signals(number).name}, for ever")
            old.end(number)
            self.until(old, old_timeline)
        for node in standbys:
            cluster.unplug(node)
            node.go_on()
        for node in standbys:
            poll(f"{node.name}: end of streaming", 30, lambda n=node: n.one(
                "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'") == "0")
        new = max(standbys, key=lambda n: n.position())
        time.sleep(rng.uniform(0, 0.5))
        self.note(f"{new.name} is promoted")
        # A promotion takes the next number that has no history file.
        self.timeline += 1
        for node in standbys:
            self.since(node, self.timeline)
        cluster.promote(new)
        self.until(new, old_timeline)
        if new.timeline_of_primary() != self.timeline:
            raise Failed(f"{new.name} is on timeline {new.timeline_of_primary()}")
        self.shared[1] = new.index
        other = next(n for n in standbys if n is not new)
        time.sleep(rng.uniform(0, 0.5))
        self.note(f"{other.name} follows {new.name}")
        cluster.lead(other)
        self.heal(fault)
        cluster.deposed = old
        try:
            cluster.follow(20)
        except (Failed, Lost) as error:
            self.note(f"{other.name} is made anew: {error}")
            cluster.rebuild(other)
            cluster.follow(30)
        self.until(other, old_timeline)
        if alive:
            time.sleep(rng.uniform(0.5, 2))
            self.shared[2] = -1
            self.note(f"{old.name} is ended")
            old.end(rng.choice((signal.SIGINT, signal.SIGQUIT)))
            self.until(old, old_timeline)
        else:
            time.sleep(rng.uniform(0, 1))
        self.since(old, self.timeline)
        self.rejoin(old)
        cluster.deposed = None
        self.settle()
        self.failovers += 1

    def rejoin(self, old):
        if self.rng.random() < 0.5:
            try:
                self.note(f"{old.name}: pg_rewind")
                self.cluster.rewind(old)
                return
            except Failed as error:
                self.note(f"{old.name}: pg_rewind did not do: {error}")
        self.note(f"{old.name}: pg_basebackup")
        self.cluster.rebuild(old)
