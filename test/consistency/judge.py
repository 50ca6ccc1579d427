"""Judges a history by the definition of the level each read was served at.

Sources: the session guarantees are those of Terry et al., "Session Guarantees
for Weakly Consistent Replicated Data" (1994); linearizability is Herlihy &
Wing's (1990); atomic visibility is Bailis et al.'s "Scalable Atomic Visibility
with RAMP Transactions" (2014); aborted reads (G1a) and lost updates are Adya's
(1999), and that versions are recovered from values instead of searched for is
Elle's idea (Kingsbury & Alvaro, 2020).

Histories and branches.  The *winning* history is that of the primary at the
end: W, every version in its `audit`.  A promotion opens a new timeline; what a
deposed or dead primary had written behind the fork is not in W and makes the
*losing branch* of its timeline.  The history of timeline t is therefore

    H(t) = { w in W written on a timeline <= t }
         + { w not in W written on t }.

A node that is on timeline t shows prefixes of H(t).  On which timelines a node
can have been at an instant is what the nemesis recorded; it is an upper bound,
so a read close to a failover has more than one candidate, and a read that was
redirected, or may have been, has those of every node.

A write counts as acknowledged at the end stamp of its reply.  One without
reply, or of which core said that the wait for synchronous standbys was
cancelled, was acknowledged to nobody: it may or may not have happened.

What is demanded of a read R that was sent at s:

strong        Some candidate t such that R shows prefixes of H(t), and of each
              object it read at least the newest version that was acknowledged
              before s in H(t).  So acknowledged writes that an asynchronous
              failover lost are demanded from those alone that still answer on
              the losing timeline; and the new timeline's are not demanded of a
              deposed primary that still runs, which `strong` does not fence.
bounded       The same with s less the bound, on the clients' clock.
session, ...  If the session's token was presented: the *knowledge* of the
              session, half of it for read_your_writes and monotonic_reads.
              Knowledge is of each object the newest version written or seen,
              and the start of the newest write that was seen: a position in
              one log covers everything before it, hence everything that had
              been acknowledged before that write began (causal order).  A
              message adds the sender's knowledge.
              Knowledge of a write that is lost demands a refusal: any answer
              of a node that is not on the losing branch is a violation, even
              if it did not read that object.
linearizable  Per object, the order of versions agrees with real time: no
              operation that begins after another ended has a smaller version,
              writes and linearizable reads on all nodes together, across
              failovers.  With the order of versions given this is all of
              linearizability.  A value that is lost must not have been shown.
              And all that is said above for `session`.
any level     What one snapshot shows is a prefix of H(t): of two versions, if
              it shows the one, and the other was acknowledged before the first
              was begun, it shows the other.  It shows both halves of a pair or
              none.  If it shows a write it shows what its writer had known
              (writes follow reads).  Lists are prefixes of the history's list.
              No value that nobody wrote, that was rolled back, or that was
              written later.  In REPEATABLE READ and at `snapshot` all
              statements are one snapshot.

Writes: none that is acknowledged is lost without a failover, or with
synchronous commit at all.
"""
import bisect
import collections

from history import LIST, PAIR_A, PAIR_B, object_name

NO_TOKEN = ("eventual", "consistent_prefix")
KINDS = (
    "stale-strong", "stale-bounded", "not-linearizable", "read-your-writes", "monotonic-reads",
    "causal", "writes-follow-reads", "torn", "snapshot", "prefix", "list-order", "lost-update",
    "lost-write", "aborted-read", "phantom", "silent-lost-token", "deposed", "wrong-history",
    "hang")
INFINITY = float("inf")

# A version as it was seen, placed on its branch: n is its number, tl its
# timeline (None: written by somebody who never learnt it), won whether it is
# in W.
Place = collections.namedtuple("Place", "n tl won v")
BLANK = Place(0, 0, True, None)


class Known:
    """Half of what a session knows: what it wrote, or what it has seen."""

    __slots__ = ("objects", "lost", "times", "newest")

    def __init__(self):
        self.objects = {}   # object -> (Place, operation, how it came to be known)
        self.lost = {}      # losing timeline -> operation
        self.times = {}     # timeline -> (start of a write in it, operation, how)
        self.newest = (0, None)   # newest winning timeline, operation

    def add(self, obj, place, op, how):
        if not place.n:
            return
        old = self.objects.get(obj)
        if not old or not place.won or (old[0].won and place.n >= old[0].n):
            self.objects[obj] = (place, op, how)
            if len(self.objects) > 128:  # of keys long out of use
                del self.objects[next(iter(self.objects))]
        if not place.won:
            if place.tl is not None:
                self.lost[place.tl] = op
        elif place.tl > self.newest[0]:
            self.newest = (place.tl, op)

    def time(self, tl, start, op, how):
        if start > self.times.get(tl, (0,))[0]:
            self.times[tl] = (start, op, how)

    def merge(self, other):
        for obj, (place, op, _) in other.objects.items():
            self.add(obj, place, op, "message")
        self.lost.update(other.lost)
        for tl, (start, op, _) in other.times.items():
            self.time(tl, start, op, "message")
        self.newest = max(self.newest, other.newest, key=lambda x: x[0])

    def copy(self):
        new = Known()
        new.objects, new.lost = dict(self.objects), dict(self.lost)
        new.times, new.newest = dict(self.times), self.newest
        return new


class Acks:
    """Acknowledged versions of one object on one timeline, for the question:
    which is the newest that was acknowledged before t?"""

    __slots__ = ("times", "best")

    def __init__(self, writes):
        self.times, self.best = [], []
        newest = None
        for end, n, op in sorted(writes, key=lambda x: x[0]):
            if newest is None or n > newest[0]:
                newest = (n, op)
            self.times.append(end)
            self.best.append(newest)

    def before(self, t):
        at = bisect.bisect_left(self.times, t)
        return self.best[at - 1] if at else None


class Judge:
    """`violations` is a list of (kind, level, text, operations)."""

    def __init__(self, records):
        self.violations = []
        self.judged = collections.Counter()    # level -> reads
        self.places = collections.Counter()    # where they were served
        self.refused = collections.defaultdict(collections.Counter)
        self.by = collections.defaultdict(list)
        for record in records:
            self.by[record["k"]].append(record)
        self.meta = self.by["meta"][0]
        self._histories()
        self._versions()
        self._indexes()

    def verdict(self):
        self._writes()
        self._reads()
        self._linearizable()
        for record in self.by["x"]:
            self.refused[record["lv"] if record["wr"] == "r" else "write"][record["er"]] += 1
        for record in self.by["hang"]:
            self._report("hang", record["lv"], "no reply after "
                         f"{(record['e'] - record['s']) / 1e9:.0f} s", record)
        return self.violations

    def _report(self, kind, level, text, *ops):
        self.violations.append((kind, level, text, [op for op in ops if op]))

    # ---- what is given

    def _histories(self):
        """Where nodes were, and where a redirect can have led."""
        self.spans = collections.defaultdict(list)
        for record in self.by["tl"]:
            self.spans[record["nd"]].append(
                (record["t"], INFINITY if record["te"] is None else record["te"], record["tl"]))
        self.timelines = sorted({r["tl"] for r in self.by["tl"]})

    def candidates(self, op):
        """Timelines the answer can be from."""
        if len(self.timelines) == 1:
            return self.timelines
        nodes = self.spans if op.get("rd") else (op["nd"],)
        found = {tl for node in nodes for start, end, tl in self.spans[node]
                 if start <= op["e"] and end >= op["s"]}
        return sorted(found) or self.timelines

    def _versions(self):
        """W, from the surviving primary."""
        chains = collections.defaultdict(dict)
        self.won = {}           # (object, value) -> (n, timeline)
        final = self.by["final"][0]
        for obj, n, value, tl in final["au"]:
            if n in chains[obj]:
                self._report("lost-update", "write",
                             f"{object_name(obj)}: two versions {n}: {chains[obj][n]} and {value}")
            chains[obj][n] = value
            self.won[obj, value] = (n, tl)
        self.chains = {}        # object -> values in order
        for obj, versions in chains.items():
            if len(versions) != max(versions):
                self._report("lost-update", "write",
                             f"{object_name(obj)}: versions are missing in {sorted(versions)}")
            self.chains[obj] = [versions.get(n) for n in range(1, max(versions) + 1)]
        for name, (n, value) in final["tab"].items():
            obj = int(name)
            chain = self.chains.get(obj, [])
            if obj % 4 == LIST and value != chain:
                self._report("list-order", "write",
                             f"{object_name(obj)} at the end is {value}, its versions are {chain}")
            elif obj % 4 != LIST and (n != len(chain) or value != chain[-1]):
                self._report("lost-update", "write", f"{object_name(obj)} at the end is version "
                             f"{n} = {value}, of {len(chain)}, {chain[-1:]}")

    def _indexes(self):
        self.writes = {}        # value -> write
        acks = collections.defaultdict(list)
        lost = collections.defaultdict(list)
        for op in self.by["w"]:
            self.writes[op["v"]] = op
            if op["st"] != "ok":
                continue
            for obj, n in zip(op["o"], op["n"]):
                if (obj, op["v"]) in self.won:
                    n, tl = self.won[obj, op["v"]]
                    acks[obj, tl].append((op["e"], n, op))
                else:
                    lost[obj, op["tl"]].append((op["e"], n, op))
        self.acks = collections.defaultdict(dict)
        for (obj, tl), writes in acks.items():
            self.acks[obj][tl] = Acks(writes)
        self.lost = {key: Acks(writes) for key, writes in lost.items()}
        # Of each prefix of an object's versions: the latest start of a write
        # in it.
        self.started = {}
        for obj, chain in self.chains.items():
            latest, column = (0, None), []
            for value in chain:
                op = self.writes.get(value)
                if op and op["s"] > latest[0]:
                    latest = (op["s"], op)
                column.append(latest)
            self.started[obj] = column

    def acknowledged(self, obj, t, tl, losing=True):
        """The newest version of obj acknowledged before t in H(tl), as
        (n, write), or None.  Without `losing`, of its winning part."""
        if losing:
            acks = self.lost.get((obj, tl))
            found = acks and acks.before(t)
            if found:
                return found
        columns = self.acks.get(obj)
        if columns:
            for at in sorted(columns, reverse=True) if len(columns) > 1 else columns:
                if at <= tl:
                    found = columns[at].before(t)
                    if found:
                        return found
        return None

    # ---- writes

    def _writes(self):
        last = self.timelines[-1]
        newest = {}     # object, timeline -> newest winning version
        for (obj, _), (n, tl) in self.won.items():
            newest[obj, tl] = max(n, newest.get((obj, tl), 0))
        for op in self.by["w"]:
            won = [(obj, op["v"]) in self.won for obj in op["o"]]
            if any(won) and not all(won):
                self._report("torn", "write", "half of a transaction survived", op)
            if op["st"] == "fail":
                if any(won):
                    self._report("aborted-read", "write", "a write that failed is there", op)
                continue
            if op["st"] != "ok":
                continue
            self.judged["write"] += 1
            for obj, n, there in zip(op["o"], op["n"], won):
                if there:
                    if self.won[obj, op["v"]] != (n, op["tl"]):
                        self._report("lost-update", "write", "it was acknowledged as version "
                                     f"{n}, and is {self.won[obj, op['v']]}", op)
                elif newest.get((obj, op["tl"]), 0) >= n or op["tl"] == last:
                    self._report("lost-update", "write", "acknowledged, and gone without a "
                                 f"failover: {object_name(obj)} version {n}", op)
                elif self.meta["sync"]:
                    self._report("lost-write", "write", "acknowledged under synchronous "
                                 f"commit, and gone: {object_name(obj)} version {n}", op)

    # ---- reads, in the order of their start

    def _reads(self):
        sessions = collections.defaultdict(lambda: (Known(), Known()))
        sent = {}
        self.dependencies = collections.defaultdict(dict)  # (object, n) -> {object: (n, op)}
        events = self.by["w"] + self.by["r"] + self.by["send"] + self.by["recv"] + self.by["drop"]
        events.sort(key=lambda r: r["s"] if "s" in r else r["t"])
        reads = []
        for op in events:
            kind, client = op["k"], op["c"]
            if kind == "r":
                self.judged[op["le"]] += 1
                self.places["redirected" if op["rd"] == 2 else
                            "on the primary" if op.get("pr") else "on a standby"] += 1
                places = self._place(op)
                if places is None:
                    continue
                reads.append((op, places))
                self._read(op, places, sessions[client])
            elif kind == "w":
                if op["st"] == "ok":
                    self._write(op, sessions[client])
            elif kind == "send":
                sent[op["m"]] = tuple(half.copy() for half in sessions[client])
            elif kind == "recv":
                if op["m"] in sent:
                    for half, other in zip(sessions[client], sent[op["m"]]):
                        half.merge(other)
            else:
                sessions[client] = (Known(), Known())
        self._close_dependencies()
        for op, places in reads:
            self._snapshot(op, places)

    def _write(self, op, session):
        """What the session knew when it wrote, and knows now."""
        written, seen = session
        won = (op["o"][0], op["v"]) in self.won
        if op["p"]:
            for half in session:
                for tl, source in half.lost.items():
                    if tl != op["tl"]:
                        self._report("writes-follow-reads", "write", "a write was accepted with "
                                     f"the token of a write that timeline {op['tl']} has not",
                                     op, source)
                        break
                if half.newest[0] > op["tl"]:
                    self._report("deposed", "write", "a write was accepted on timeline "
                                 f"{op['tl']} with a token of timeline {half.newest[0]}",
                                 op, half.newest[1])
            if won:
                keys = {op["o"][0] // 4 * 4 + kind for kind in range(4)}
                known = {}
                for half in session:
                    for obj in keys & half.objects.keys():
                        place, source, _ = half.objects[obj]
                        if place.won and place.n > known.get(obj, (0,))[0]:
                            known[obj] = (place.n, source)
                for obj in op["o"]:
                    self.dependencies[obj][self.won[obj, op["v"]][0]] = (known, op)
        if op["ln"]:
            for obj, n in zip(op["o"], op["n"]):
                place = Place(n, op["tl"], won, op["v"])
                written.add(obj, place, op, "own write")
            if won:
                written.time(op["tl"], op["s"], op, "own write")

    def _close_dependencies(self):
        """dependencies[object][n] becomes what versions 1 to n depend on."""
        for obj, versions in self.dependencies.items():
            total, column = {}, []
            for n in range(1, len(self.chains[obj]) + 1):
                if n in versions:
                    known, op = versions[n]
                    for other, (number, source) in known.items():
                        if number > total.get(other, (0,))[0]:
                            total = dict(total)
                            total[other] = (number, source, op)
                column.append(total)
            self.dependencies[obj] = column

    def _place(self, op):
        """[(object, Place)], or None if what was read makes no sense."""
        places = []
        for obj, n, value in op["ob"]:
            place = self._place_list(op, obj, value) if obj % 4 == LIST \
                else self._place_value(op, obj, n, value)
            if place is None:
                return None
            places.append((obj, place))
        return places

    def _place_value(self, op, obj, n, value):
        if not n:
            return BLANK
        won = self.won.get((obj, value))
        if won:
            if won[0] != n:
                self._report("lost-update", op["le"], f"{object_name(obj)}: {value} was seen as "
                             f"version {n} and is {won[0]}", op)
                return None
            place = Place(n, won[1], True, value)
        else:
            write = self.writes.get(value)
            place = Place(n, write and write["tl"], False, value)
        write = self.writes.get(value)
        if not write or obj not in write["o"]:
            self._report("phantom", op["le"], f"{object_name(obj)}: nobody wrote {value}", op)
            return None
        if write["st"] == "fail":
            self._report("aborted-read", op["le"], f"{object_name(obj)}: {value} was rolled back",
                         op, write)
            return None
        if write["s"] > op["e"]:
            self._report("phantom", op["le"], f"{object_name(obj)}: {value} was written later",
                         op, write)
            return None
        return place

    def _place_list(self, op, obj, values):
        if not values:
            return BLANK
        chain = self.chains.get(obj, [])
        if chain[:len(values)] == values:
            return self._place_value(op, obj, len(values), values[-1])
        # A list of a losing branch: a prefix of the winning one, and then lost
        # values of one timeline, each at the place its writer was told.
        common = 0
        while common < min(len(chain), len(values)) and chain[common] == values[common]:
            common += 1
        timelines = set()
        for n, value in enumerate(values[common:], common + 1):
            place = self._place_value(op, obj, n, value) if (obj, value) not in self.won else None
            write = self.writes.get(value)
            if place is None or (write["n"] and write["n"][0] != n):
                if write and write["st"] != "fail":
                    self._report("list-order", op["le"], f"{object_name(obj)} was seen as "
                                 f"{values}, it is {chain}", op, write)
                return None
            timelines.add(place.tl)
        if len(timelines - {None}) > 1 or len(set(values)) != len(values):
            self._report("list-order", op["le"], f"{object_name(obj)} was seen as {values}, of "
                         f"timelines {sorted(timelines - {None})}", op)
            return None
        return place

    @staticmethod
    def on(place, tl):
        """Is this version in H(tl)?"""
        if place.won:
            return place.tl <= tl
        return place.tl == tl or place.tl is None

    def _read(self, op, places, session):
        level, candidates = op["le"], self.candidates(op)
        possible = [tl for tl in candidates if all(self.on(p, tl) for _, p in places)]
        if not possible:
            self._report("wrong-history", level, f"the node can have been on timelines "
                         f"{candidates} alone", op,
                         *[self.writes.get(p.v) for _, p in places if p.n])
            return
        if level in ("strong", "linearizable"):
            self._fresh(op, places, possible, op["s"], "stale-strong")
        elif level == "bounded":
            self._fresh(op, places, possible, op["s"] - op["bd"] * 1_000_000, "stale-bounded")
        if op["p"] and level not in NO_TOKEN:
            halves = {"read_your_writes": session[:1], "monotonic_reads": session[1:]}
            for half in halves.get(level, session):
                self._session(op, places, possible, half)
        if op["ln"]:
            self._learn(op, places, session[1])

    def _learn(self, op, places, seen):
        for obj, place in places:
            if place.n:
                seen.add(obj, place, op, "own read")
                if place.won:
                    start, write = self.started[obj][place.n - 1]
                    if write:
                        won = self.won.get((obj, write["v"]))
                        seen.time(won[1], start, op, "own read")

    def _fresh(self, op, places, possible, t, kind):
        """Everything acknowledged before t is there, on some timeline."""
        for tl in possible:
            missing = None
            for obj, place in places:
                need = self.acknowledged(obj, t, tl)
                if need and need[0] > place.n:
                    missing = (obj, place, need)
                    break
            if not missing:
                return
        obj, place, (n, write) = missing
        self._report(kind, op["le"], f"{object_name(obj)}: version {place.n} was read, version {n}"
                     f" had been acknowledged {(op['s'] - write['e']) / 1e6:.1f} ms before the "
                     "read was sent", op, write)

    def _session(self, op, places, possible, half):
        """The session's knowledge is there."""
        names = {"own write": "read-your-writes", "own read": "monotonic-reads",
                 "message": "causal"}
        for tl, source in half.lost.items():
            if tl not in possible:
                self._report("silent-lost-token", op["le"], "answered with the token of a write "
                             f"on timeline {tl} that is lost, by a node on {possible}",
                             op, source)
                return
        if half.newest[0] > possible[-1]:
            self._report("deposed", op["le"], f"answered with a token of timeline "
                         f"{half.newest[0]} by a node on {possible}", op, half.newest[1])
            return
        for obj, place in places:
            known = half.objects.get(obj)
            if known:
                want, source, how = known
                if want.won and place.won:
                    good = place.n >= want.n
                elif place.won:
                    good = want.tl is None  # never on this branch otherwise
                elif want.won:
                    good = want.tl <= (place.tl or want.tl) and place.n >= want.n
                else:
                    good = place.n >= want.n
                if not good:
                    self._report(names[how] if want.won else "silent-lost-token", op["le"],
                                 f"{object_name(obj)}: version {place.n} was read, the session "
                                 f"knew version {want.n} ({how})", op, source,
                                 self.writes.get(want.v))
                    return
            for tl, (start, source, how) in half.times.items():
                need = self.acknowledged(obj, start, tl, losing=False)
                if need and need[0] > place.n and (place.won or tl <= (place.tl or tl)):
                    self._report("causal", op["le"], f"{object_name(obj)}: version {place.n} was "
                                 f"read; the session knew ({how}) a write that was begun after "
                                 f"version {need[0]} had been acknowledged", op, source, need[1])
                    return

    # ---- one snapshot

    def _snapshot(self, op, places):
        shown = {}
        for obj, place in places:
            if obj in shown and shown[obj] != place:
                self._report("snapshot", op["le"], f"{object_name(obj)} was version "
                             f"{shown[obj].n} and then {place.n} in one snapshot", op,
                             self.writes.get(place.v))
                return
            shown[obj] = place
        if len(shown) == 1:
            return
        for obj, place in shown.items():
            if obj % 4 == PAIR_A and obj + 1 in shown and shown[obj + 1] != place:
                other = shown[obj + 1]
                self._report("torn", op["le"], f"pair {obj // 4}: version {place.n} = {place.v} "
                             f"and {other.n} = {other.v}", op, self.writes.get(place.v),
                             self.writes.get(other.v))
                return
        latest = (0, None, 0)
        for obj, place in shown.items():
            if place.n and place.won:
                start, write = self.started[obj][place.n - 1]
                if write and start > latest[0]:
                    latest = (start, write, self.won[obj, write["v"]][1])
        for obj, place in shown.items():
            if latest[1] and place.won:
                need = self.acknowledged(obj, latest[0], latest[2], losing=False)
                if need and need[0] > place.n:
                    self._report("prefix", op["le"], f"{object_name(obj)}: version {place.n}, "
                                 "beside a write that was begun when version "
                                 f"{need[0]} had been acknowledged", op, latest[1], need[1])
                    return
            column = self.dependencies.get(obj)
            if column and place.n and place.won:
                for other, (n, source, write) in column[place.n - 1].items():
                    if other in shown and shown[other].won and shown[other].n < n:
                        self._report("writes-follow-reads", op["le"], f"{object_name(obj)} version"
                                     f" {place.n} is there, {object_name(other)} version {n}, "
                                     f"which its writer knew, is not", op, write, source)
                        return

    # ---- linearizability

    def _linearizable(self):
        """Real time against the order of versions, for each object."""
        ops = collections.defaultdict(list)   # object -> (start, end, n, is read, op)
        for op in self.by["r"]:
            if op["le"] == "linearizable":
                for obj, n, value in op["ob"]:
                    v = value[-1] if obj % 4 == LIST and value else value
                    if n and (obj, v) not in self.won:
                        if v in self.writes:
                            self._report("not-linearizable", "linearizable",
                                         f"{object_name(obj)}: {v} was shown, and is lost",
                                         op, self.writes[v])
                    else:
                        ops[obj].append((op["s"], op["e"], n, 1, op))
        for op in self.by["w"]:
            for obj in op["o"]:
                won = self.won.get((obj, op["v"]))
                if won:
                    end = op["e"] if op["st"] == "ok" else INFINITY
                    ops[obj].append((op["s"], end, won[0], 0, op))
        for obj, known in ops.items():
            known.sort(key=lambda x: x[0])
            ended = sorted(known, key=lambda x: x[1])
            at, newest_write, newest_read = 0, (0, None), (0, None)
            for start, _, n, is_read, op in known:
                while at < len(ended) and ended[at][1] < start:
                    _, _, number, was_read, other = ended[at]
                    if was_read:
                        newest_read = max(newest_read, (number, other), key=lambda x: x[0])
                    else:
                        newest_write = max(newest_write, (number, other), key=lambda x: x[0])
                    at += 1
                # A write makes a version that nobody can have seen before it.
                for number, other in (newest_write, newest_read):
                    if n < number or (not is_read and n == number):
                        self._report("not-linearizable", op["le"] if is_read else "write",
                                     f"{object_name(obj)}: version {n}, after an operation with "
                                     f"version {number} had ended", op, other)
                        break


def describe(op, began):
    """One operation of a witness."""
    def at(ns):
        return "never" if ns is None else f"{(ns - began) / 1e9:.6f}"

    if op["k"] == "w":
        what = f"write {op['v']} to {', '.join(map(object_name, op['o']))}"
        if op["n"]:
            what += f" as version {op['n'][0]}"
        what += f", {op['st']}, timeline {op['tl']}"
    elif op["k"] == "r":
        seen = ", ".join(f"{object_name(o)} = {v} (version {n})" for o, n, v in op["ob"])
        what = f"read at {op['le']}" + (f" (asked {op['lv']})" if op["le"] != op["lv"] else "")
        what += f", {op['f']}, bound {op['bd']} ms: {seen}"
        what += "" if op["p"] else ", token not presented"
        what += ("", ", redirect allowed", ", redirected")[op["rd"]]
    else:
        what = f"{op['k']} at {op['lv']}, {op['f']}"
    lines = [f"client {op['c']} operation {op['i']}, node n{op['nd'] + 1}, "
             f"{at(op['s'])} to {at(op['e'])} s: {what}"]
    for name, key in (("token before", "ti"), ("token after", "to")):
        if op.get(key):
            lines.append(f"    {name} {op[key]}")
    return lines


def report(judge, limit=5):
    """Text of the violations: how many of each kind, and witnesses of the first
    few."""
    began = judge.meta["t"]
    lines, shown = [], collections.Counter()
    counts = collections.Counter((kind, level) for kind, level, _, _ in judge.violations)
    for (kind, level), count in sorted(counts.items()):
        lines.append(f"{count} x {kind} at {level}")
    for kind, level, text, ops in judge.violations:
        shown[kind] += 1
        if shown[kind] > limit:
            continue
        lines.append(f"VIOLATION {kind} at {level}: {text}")
        for op in ops:
            lines += ["  " + line for line in describe(op, began)]
    if judge.violations:
        stamps = [op["s"] for _, _, _, ops in judge.violations for op in ops[:1]]
        for fault in judge.by["f"]:
            if any(abs(fault["t"] - s) < 10e9 for s in stamps[:limit]):
                lines.append(f"  {(fault['t'] - began) / 1e9:.3f} s nemesis: {fault['a']}")
    return "\n".join(lines)
