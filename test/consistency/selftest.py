"""The judge, judged.

1. Small histories by hand, in pairs: one with a defect that has to be found,
   of the kind it is and with the operation that has it, and its twin, which
   differs in one stamp or value and is correct.  Each place where the judge
   reports something has to be come to by one of them, so that a check that is
   taken out, or added without a history, is noticed.
2. A simulated cluster, which obeys every level, with a failover that loses
   writes and a deposed primary: nothing may be found.
3. The same, with one answer changed to an older or a foreign one: it has to be
   found, each time.
"""
import ast
import copy
import inspect
import random
import sys

import judge as judge_module
from history import LIST
from judge import KINDS, Judge

R, A, B, L = 0, 1, 2, 3     # the objects of key 0
MS = 1_000_000


class Watched(Judge):
    """A judge of which is noted at which lines it has reported something."""

    lines = set()

    def _report(self, *args):
        self.lines.add(sys._getframe(1).f_lineno)
        super()._report(*args)


class Book:
    """A history by hand.  Times in ms; numbers of versions are counted."""

    def __init__(self, sync=False):
        self.records = [{"k": "meta", "t": 0, "sync": sync, "seed": 0, "mix": "hand"}]
        self.audit, self.number = [], 0
        self.tables = {}    # what the tables have at the end, if not what audit says
        self.spans = [(0, 0, None, 1), (1, 0, None, 1), (2, 0, None, 1)]

    def timelines(self, *spans):
        """(node, from, to, timeline)"""
        self.spans = spans
        return self

    def _op(self, kind, c, s, e, node, **more):
        self.number += 1
        op = {"k": kind, "c": c, "i": self.number, "s": s * MS,
              "e": None if e is None else e * MS, "nd": node, "p": 1, "ln": 1,
              "ti": f"token {self.number - 1}", "to": f"token {self.number}", "f": "hand", **more}
        self.records.append(op)
        return op

    def w(self, c, s, e, objects, v, tl=1, node=0, n=None, st=None, won=True, **more):
        objects = objects if isinstance(objects, list) else [objects]
        n = n or [max([x[1] for x in self.audit if x[0] == o], default=0) + 1 for o in objects]
        st = st or ("info" if e is None else "ok")
        if won:
            self.audit += [[o, number, v, tl] for o, number in zip(objects, n)]
        return self._op("w", c, s, e, node, o=objects, v=v, n=n, tl=tl, st=st, er=None, **more)

    def r(self, c, s, e, level, *seen, node=1, **more):
        return self._op("r", c, s, e, node, lv=level, ob=[list(x) for x in seen],
                        **{"le": level, "rd": 0, "bd": 1000, **more})

    def event(self, kind, c, t, **more):
        self.records.append({"k": kind, "c": c, "t": t * MS, **more})

    def judged(self):
        tables = {}
        for obj in {x[0] for x in self.audit}:
            versions = sorted(x for x in self.audit if x[0] == obj)
            tables[str(obj)] = [len(versions), [x[2] for x in versions] if obj % 4 == LIST
                                else versions[-1][2]]
        tables.update(self.tables)
        records = self.records + [{"k": "final", "au": self.audit, "tab": tables}] + [
            {"k": "tl", "nd": node, "t": start * MS, "te": None if end is None else end * MS,
             "tl": tl} for node, start, end, tl in self.spans]
        found = Watched(records)
        found.verdict()
        return found


# ---- histories by hand: (kind, function of bad -> (Book, culprit))

def stale_strong(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(1, 10, 20, R, 12)
    return h, h.r(2, 21 if bad else 19, 30, "strong", (R, 1, 11))


def stale_strong_block(bad):
    """In a transaction of two statements BEGIN is the moment."""
    h = Book()
    h.w(1, 10, 20, L, 12)
    return h, h.r(2, 21 if bad else 19, 30, "strong", (R, 0, None), (L, 0, []), f="rr")


def stale_bounded(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(1, 10, 20, R, 12)
    return h, h.r(2, 1021 if bad else 1019, 1030, "bounded", (R, 1, 11))


def downgraded(bad):
    """A read counts at the level it was served at."""
    h = Book()
    h.w(1, 10, 20, R, 12)
    return h, h.r(2, 1100, 1110, "strong", (R, 0, None), le="bounded" if bad else "eventual")


def stale_after_fresh(bad):
    """The write is not acknowledged yet; one reader has seen it."""
    h = Book()
    h.w(1, 0, 100, R, 11)
    h.r(2, 10, 20, "linearizable", (R, 1, 11), node=1)
    return h, h.r(3, 21 if bad else 19, 30, "linearizable", (R, 0, None), node=2, p=0)


def write_before_read(bad):
    """A read shows a version, and a write that begins later becomes a smaller
    one."""
    h = Book()
    h.w(1, 0, None, R, 12, n=[2])
    h.r(2, 10, 20, "linearizable", (R, 2, 12))
    return h, h.w(3, 21 if bad else 19, 30, R, 11, n=[1])


def linear_write_order(bad):
    h = Book()
    h.w(1, 10, 20, R, 12, n=[2])
    return h, h.w(2, 21 if bad else 19, 30, R, 11, n=[1])


def linear_deposed(bad):
    """The old primary answers after the new one has acknowledged a write."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2), (2, 50, None, 2))
    h.w(1, 0, 5, R, 11)
    h.w(1, 70, 80, R, 12, tl=2, node=1)
    return h, h.r(2, 81 if bad else 79, 90, "linearizable", (R, 1, 11), node=0, p=0)


def linear_lost(bad):
    """A linearizable read showed what the failover lost."""
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, R, 11)
    h.w(1, 10, None, R, 12, won=False)
    return h, h.r(2, 12, 15, "linearizable" if bad else "session", (R, 2, 12), node=0)


def own_write(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    return h, h.r(1, 6, 10, "read_your_writes", (R, 0, None), p=int(bad))


def own_write_only(bad):
    """read_your_writes does not demand what was read."""
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.r(2, 6, 8, "session", (R, 1, 11))
    return h, h.r(2, 10, 15, "session" if bad else "read_your_writes", (R, 0, None))


def monotonic(bad):
    h = Book()
    h.w(1, 0, 100, R, 11)
    h.r(2, 6, 8, "eventual", (R, 1, 11), ln=int(bad))
    return h, h.r(2, 10, 15, "monotonic_reads", (R, 0, None), node=2)


def causal(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    if bad:
        h.event("send", 1, 6, m="a")
        h.event("recv", 2, 7, m="a")
    return h, h.r(2, 10, 15, "causal", (R, 0, None))


def causal_prefix(bad):
    """What was acknowledged before a seen write began comes with it."""
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(2, 6 if bad else 4, 10, L, 12)
    h.r(3, 11, 12, "session", (L, 1, [12]))
    return h, h.r(3, 20, 30, "session", (R, 0, None), node=2)


def follows(bad):
    """The writer of the list had seen the register's write."""
    h = Book()
    h.w(1, 0, 100, R, 11)
    h.r(2, 10, 12, "session", (R, 1, 11), node=0, ln=int(bad))
    h.w(2, 20, 110, L, 12)
    return h, h.r(3, 115, 120, "eventual", (R, 0, None), (L, 1, [12]))


def follows_lost(bad):
    """A write on the new timeline, though what its session read is lost."""
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, R, 11, won=False)
    h.r(2, 6, 7, "session", (R, 1, 11), node=0)
    if not bad:
        h.event("drop", 2, 65)
    return h, h.w(2, 70, 80, L, 12, tl=2, node=1)


def torn(bad):
    h = Book()
    h.w(1, 0, 5, [A, B], 11)
    h.w(1, 10, 20, [A, B], 12)
    return h, h.r(2, 15, 30, "eventual", (A, 2, 12), (B, 1, 11) if bad else (B, 2, 12))


def snapshot(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(1, 10, 20, R, 12)
    return h, h.r(2, 15, 30, "snapshot", (R, 1, 11), (R, 2, 12) if bad else (R, 1, 11))


def snapshot_torn(bad):
    """Two statements of one transaction."""
    h = Book()
    h.w(1, 0, 20, [A, B], 11)
    return h, h.r(2, 15, 30, "snapshot", (A, 0, None), (B, 1, 11) if bad else (B, 0, None))


def prefix(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(2, 6 if bad else 4, 10, L, 12)
    return h, h.r(3, 11, 12, "eventual", (R, 0, None), (L, 1, [12]))


def prefix_latest(bad):
    """Of all that is shown the write that was begun last decides."""
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(2, 6, 10, L, 12)
    h.w(3, 1, 3, [A, B], 13)
    return h, h.r(4, 11, 12, "eventual", (R, 0, None) if bad else (R, 1, 11), (L, 1, [12]),
                  (A, 1, 13), (B, 1, 13))


def list_order(bad):
    h = Book()
    for v in (11, 12, 13):
        h.w(1, v * 10, v * 10 + 5, L, v)
    return h, h.r(2, 200, 210, "eventual", (L, 3, [11, 13, 12] if bad else [11, 12, 13]))


def list_hole(bad):
    h = Book()
    for v in (11, 12, 13):
        h.w(1, v * 10, v * 10 + 5, L, v)
    return h, h.r(2, 200, 210, "eventual", (L, 2, [11, 13] if bad else [11, 12]))


def list_twice(bad):
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, L, 11)
    h.w(1, 10, 15, L, 12, won=False)
    h.w(2, 70, 75, L, 13, tl=2, node=1)
    return h, h.r(3, 80, 90, "eventual", (L, 3, [11, 12, 12]) if bad else (L, 2, [11, 12]),
                  node=0)


def lost_update(bad):
    """An acknowledged append is not in the list, a later one is."""
    h = Book()
    h.w(1, 0, 5, L, 11)
    op = h.w(1, 10, 15, L, 12, won=not bad)
    h.w(2, 20, 25, L, 13)
    return h, op


def lost_without_failover(bad):
    h = Book()
    return h, h.w(1, 0, 5, R, 11, won=not bad)


def lost_write(bad):
    h = Book(sync=bad).timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    return h, h.w(1, 0, 5, R, 11, won=False)


def aborted(bad):
    h = Book()
    h.w(1, 0, 50, R, 11, won=False, st="fail" if bad else "info")
    h.timelines((0, 0, 60, 1), (1, 50, None, 2))
    return h, h.r(2, 10, 15, "eventual", (R, 1, 11), node=0)


def aborted_there(bad):
    h = Book()
    h.w(2, 0, 5, L, 12, won=False, st="fail")
    return h, h.w(1, 0, 50, R, 11, st="fail" if bad else "info")


def phantom(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    return h, h.r(2, 10, 15, "eventual", (R, 2, 99) if bad else (R, 1, 11))


def of_another_object(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    return h, h.r(2, 10, 15, "eventual", (A, 1, 11) if bad else (R, 1, 11))


def from_the_future(bad):
    h = Book()
    h.w(1, 20, 25, R, 11)
    return h, h.r(2, 10, 19 if bad else 21, "eventual", (R, 1, 11))


def lost_token(bad):
    """The session's write is lost, and the new primary answers."""
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, R, 11, won=False)
    if not bad:
        h.event("drop", 1, 65)
    return h, h.r(1, 70, 80, "session", (R, 0, None))


def lost_token_elsewhere(bad):
    """... though the read does not touch what was lost."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, R, 11, won=False)
    return h, h.r(1, 70, 80, "session", (L, 0, []), node=1 if bad else 0)


def lost_token_reused(bad):
    """... and another write has become that version."""
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, R, 11, won=False)
    h.w(2, 60, 65, R, 12, tl=2, node=1, p=0)
    return h, h.r(1, 70, 80, "session", (R, 1, 12), p=int(bad))


def deposed(bad):
    """A node that is still on the old timeline answers a session that has seen
    the new one."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 70, 75, R, 11, tl=2, node=1)
    return h, h.r(1, 80, 90, "session", (L, 0, []), node=0, p=int(bad))


def deposed_write(bad):
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 70, 75, R, 11, tl=2, node=1)
    return h, h.w(1, 80, 90, L, 12, won=False, p=int(bad))


def wrong_history(bad):
    """The losing branch's value, from a node that cannot have it."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 70, 75, R, 11, won=False)
    return h, h.r(2, 80, 90, "eventual", (R, 1, 11), node=1 if bad else 0)


def strong_after_failover(bad):
    """A lost write is not demanded of the new timeline, a surviving one is."""
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, R, 11, won=bad)
    return h, h.r(2, 70, 80, "strong", (R, 0, None))


def stale_deposed(bad):
    """A deposed primary need not know of its successor's writes, but of its
    own."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, R, 11)
    h.w(1, 10, 20, R, 12, won=False)
    h.w(2, 60, 65, R, 13, tl=2, node=1)
    return h, h.r(3, 70, 80, "strong", (R, 1, 11) if bad else (R, 2, 12), node=0)


def stale_successor(bad):
    """Versions of two timelines, and the newer ones are demanded of who is
    there."""
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, R, 11)
    h.w(2, 60, 65, R, 12, tl=2, node=1)
    return h, h.r(3, 70, 80, "strong", (R, 1, 11) if bad else (R, 2, 12))


def linear_lost_list(bad):
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, L, 11)
    h.w(1, 10, None, L, 12, won=False)
    return h, h.r(2, 12, 15, "linearizable", (L, 2, [11, 12]) if bad else (L, 1, [11]), node=0)


def linear_early(bad):
    """A read shows what is written after it."""
    h = Book()
    h.r(2, 10, 20, "linearizable", (R, 1, 11))
    return h, h.w(1, 21 if bad else 19, 30, R, 11)


def monotonic_newest(bad):
    """The newest of what was seen counts, not the first or the last."""
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(1, 6, 100, R, 12)
    h.w(1, 101, 200, R, 13)
    h.r(2, 10, 15, "session", (R, 1, 11))
    h.r(2, 20, 25, "session", (R, 2, 12), node=0)
    h.r(2, 30, 35, "eventual", (R, 1, 11))
    return h, h.r(2, 40, 45, "session", (R, 1, 11) if bad else (R, 2, 12))


def causal_own_write(bad):
    """What was acknowledged before one's own write began comes with it."""
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(2, 6 if bad else 4, 10, L, 12)
    return h, h.r(2, 20, 30, "session", (R, 0, None), node=2)


def causal_message(bad):
    """... and goes along in a message."""
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(2, 6, 10, L, 12)
    h.event("send", 2, 11, m="a")
    if bad:
        h.event("recv", 3, 12, m="a")
    return h, h.r(3, 20, 30, "causal", (R, 0, None), node=2)


def half_a_transaction(bad):
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    op = h.w(1, 0, None, [A, B], 11)
    if bad:
        h.audit.pop()
    return h, op


def two_of_a_number(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    op = h.w(1, 10, None, R, 12, n=[1 if bad else 2])
    return h, op


def number_missing(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    return h, h.w(1, 10, None, R, 12, n=[3 if bad else 2])


def other_list_at_the_end(bad):
    h = Book()
    h.w(1, 0, 5, L, 11)
    h.w(1, 10, 15, L, 12)
    h.tables[str(L)] = [2, [12, 11] if bad else [11, 12]]
    return h, None


def other_value_at_the_end(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(1, 10, 15, R, 12)
    h.tables[str(R)] = [2, 11 if bad else 12]
    return h, None


def other_number_at_the_end(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.tables[str(R)] = [2 if bad else 1, 11]
    return h, None


def other_number_acknowledged(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    op = h.w(1, 10, 15, R, 12)
    op["n"] = [1 if bad else 2]
    return h, op


def other_number_read(bad):
    h = Book()
    h.w(1, 0, 5, R, 11)
    h.w(1, 10, None, R, 12)
    return h, h.r(2, 20, 30, "eventual", (R, 2, 11) if bad else (R, 1, 11))


def lost_update_before_failover(bad):
    """A failover loses the end of a timeline, and nothing before."""
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, L, 11)
    op = h.w(1, 10, 15, L, 12, won=False, n=[2])
    if bad:
        h.w(2, 20, 25, L, 13, n=[2])
    return h, op


def list_other_place(bad):
    """A lost value is not where its writer was told it was."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, L, 11)
    h.w(1, 10, 15, L, 12, won=False, n=[3 if bad else 2])
    return h, h.r(3, 80, 90, "eventual", (L, 2, [11, 12]), node=0)


def list_of_two_branches(bad):
    """Lost values of two timelines in one list."""
    h = Book().timelines((0, 0, None, 1), (1, 0, None, 2), (2, 0, None, 3))
    h.w(1, 0, 5, L, 11)
    h.w(1, 10, 15, L, 12, won=False, n=[2])
    h.w(2, 20, 25, L, 13, tl=2, node=1, won=False, n=[3])
    h.w(3, 30, 35, L, 14, tl=3, node=2)
    return h, h.r(4, 80, 90, "eventual", (L, 3, [11, 12, 13]) if bad else (L, 2, [11, 12]),
                  node=0)


def list_twice_unknown(bad):
    """... once more, of a write that was never told its place."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, L, 11)
    h.w(1, 10, None, L, 12, won=False).update(n=None, tl=None)
    return h, h.r(3, 80, 90, "eventual", (L, 3, [11, 12, 12]) if bad else (L, 2, [11, 12]),
                  node=0)


def lost_token_message(bad):
    """A token of a lost write that was handed over."""
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, R, 11, won=False)
    h.event("send", 1, 6, m="a")
    if bad:
        h.event("recv", 2, 7, m="a")
    return h, h.r(2, 70, 80, "causal", (L, 0, []))


def lost_token_seen(bad):
    """A lost write that was read only; read_your_writes does not ask for that."""
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 0, 5, R, 11, won=False)
    h.r(2, 10, 12, "session", (R, 1, 11), node=0)
    return h, h.r(2, 70, 80, "monotonic_reads" if bad else "read_your_writes", (L, 0, []))


def lost_token_same_branch(bad):
    """On the losing branch the token is good, and has to be obeyed."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(2, 0, 5, R, 11)
    h.r(1, 6, 8, "session", (R, 1, 11), node=0)
    h.w(1, 10, 15, R, 12, won=False)
    h.w(1, 20, 25, L, 13, won=False)
    return h, h.r(1, 70, 80, "session", (R, 1, 11) if bad else (R, 2, 12), node=0)


def lost_token_same_branch_later(bad):
    """... of two lost writes, too."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(2, 0, 5, R, 11, won=False, n=[1])
    h.w(1, 10, 15, R, 12, won=False, n=[2])
    return h, h.r(1, 70, 80, "session", (R, 1, 11) if bad else (R, 2, 12), node=0)


def deposed_message(bad):
    """A token of the new timeline that was handed over."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 70, 75, R, 11, tl=2, node=1)
    h.event("send", 1, 76, m="a")
    if bad:
        h.event("recv", 2, 77, m="a")
    return h, h.r(2, 80, 90, "causal", (L, 0, []), node=0)


def not_there_yet(bad):
    """The new timeline's value, from a node that is not on it yet."""
    h = Book().timelines((0, 0, 50, 1), (1, 0, 60, 1), (1, 50, None, 2), (2, 0, 120, 1),
                         (2, 100, None, 2))
    h.w(1, 60, 65, R, 11, tl=2, node=1)
    return h, h.r(2, 90, 99 if bad else 101, "eventual", (R, 1, 11), node=2)


def redirected(bad):
    """An answer may be from another node if a redirect was allowed."""
    h = Book().timelines((0, 0, None, 1), (1, 0, 60, 1), (1, 50, None, 2))
    h.w(1, 60, 65, R, 11, tl=2, node=1)
    return h, h.r(2, 80, 90, "session", (R, 1, 11), node=0, rd=int(not bad))


def hang(bad):
    h = Book()
    if bad:
        return h, h._op("hang", 1, 0, 40000, 1, lv="strong")
    return h, h._op("x", 1, 0, 40000, 1, lv="strong", er="TC001", wr="r", msg="")


BY_HAND = (
    ("stale-strong", stale_strong), ("stale-strong", stale_strong_block),
    ("stale-strong", strong_after_failover), ("stale-strong", stale_deposed),
    ("stale-strong", stale_successor), ("stale-bounded", stale_bounded),
    ("stale-bounded", downgraded), ("not-linearizable", stale_after_fresh),
    ("not-linearizable", write_before_read), ("not-linearizable", linear_write_order),
    ("not-linearizable", linear_deposed), ("not-linearizable", linear_lost),
    ("not-linearizable", linear_lost_list), ("not-linearizable", linear_early),
    ("read-your-writes", own_write), ("monotonic-reads", own_write_only),
    ("monotonic-reads", monotonic), ("monotonic-reads", monotonic_newest), ("causal", causal),
    ("causal", causal_prefix), ("causal", causal_own_write), ("causal", causal_message),
    ("writes-follow-reads", follows), ("writes-follow-reads", follows_lost), ("torn", torn),
    ("torn", snapshot_torn), ("torn", half_a_transaction), ("snapshot", snapshot),
    ("prefix", prefix), ("prefix", prefix_latest), ("list-order", list_order),
    ("list-order", list_hole), ("list-order", list_twice), ("list-order", list_twice_unknown),
    ("list-order", list_other_place), ("list-order", list_of_two_branches),
    ("list-order", other_list_at_the_end),
    ("lost-update", lost_update), ("lost-update", lost_without_failover),
    ("lost-update", lost_update_before_failover), ("lost-update", two_of_a_number),
    ("lost-update", number_missing), ("lost-update", other_value_at_the_end),
    ("lost-update", other_number_at_the_end), ("lost-update", other_number_acknowledged),
    ("lost-update", other_number_read), ("lost-write", lost_write), ("aborted-read", aborted),
    ("aborted-read", aborted_there), ("phantom", phantom), ("phantom", of_another_object),
    ("phantom", from_the_future),
    ("silent-lost-token", lost_token), ("silent-lost-token", lost_token_elsewhere),
    ("silent-lost-token", lost_token_reused), ("silent-lost-token", lost_token_message),
    ("silent-lost-token", lost_token_seen), ("silent-lost-token", lost_token_same_branch),
    ("silent-lost-token", lost_token_same_branch_later), ("deposed", deposed),
    ("deposed", deposed_write), ("deposed", deposed_message), ("wrong-history", wrong_history),
    ("wrong-history", not_there_yet), ("wrong-history", redirected), ("hang", hang),
)


def by_hand(complain):
    missing = set(KINDS) - {kind for kind, _ in BY_HAND}
    if missing:
        complain(f"no history by hand for {sorted(missing)}")
    for kind, make in BY_HAND:
        book, culprit = make(True)
        found = [v for v in book.judged().violations if v[0] == kind]
        if not found:
            complain(f"{make.__name__}: {kind} was not found")
        elif culprit and kind != "lost-update" \
                and not any(culprit in ops for _, _, _, ops in found):
            complain(f"{make.__name__}: {kind} was found, but not in the right operation")
        book, _ = make(False)
        for violation in book.judged().violations:
            complain(f"{make.__name__}: false alarm, {violation[:3]}")
    for node in ast.walk(ast.parse(inspect.getsource(judge_module))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "_report" and \
                Watched.lines.isdisjoint(range(node.lineno, node.end_lineno + 1)):
            complain(f"no history by hand comes to line {node.lineno} of judge.py")
    return len(BY_HAND)


# ---- a simulated cluster

class World:
    """A primary and two standbys, in discrete time; every level is obeyed.
    Halfway the primary is cut off and goes on, and its last writes are lost."""

    LEVELS = ("eventual", "bounded", "read_your_writes", "monotonic_reads", "session", "causal",
              "snapshot", "strong", "linearizable")
    CLIENTS = 6

    def __init__(self, seed, steps=4000):
        self.rng = random.Random(seed)
        self.book = Book()
        self.log = {1: []}          # timeline -> [(objects, value)]
        self.fork = None
        self.value = 0
        self.tokens = [(1, 0, 1, 0)] * self.CLIENTS   # timeline, written, seen timeline, seen
        self.acked = []
        self.busy = [0] * self.CLIENTS
        self.quorum = True
        t = 0
        for step in range(steps):
            self.quorum = step < steps // 2 - 50
            t += self.rng.randrange(1, 4)
            if step == steps // 2:
                self.fail_over(t)
            client = min(range(self.CLIENTS), key=lambda c: self.busy[c])
            t = max(t, self.busy[client])
            self.step(client, t)
        if self.fork is not None:
            self.book.audit = [[o, n, v, tl] for o, n, v, tl in self.versions(2)]

    def fail_over(self, t):
        self.fork = len(self.log[1]) - 3
        self.log[2] = self.log[1][:self.fork]
        self.switched = t
        self.book.timelines((0, 0, None, 1), (1, 0, t, 1), (1, t, None, 2), (2, 0, t, 1),
                            (2, t, None, 2))

    def versions(self, tl):
        counts, out = {}, []
        for at, (objects, value) in enumerate(self.log[tl]):
            for obj in objects:
                counts[obj] = counts.get(obj, 0) + 1
                out.append((obj, counts[obj], value, 1 if tl == 1 or at < self.fork else 2))
        return out

    def shown(self, tl, position, obj):
        values = [v for objects, v in self.log[tl][:position] if obj in objects]
        if obj % 4 == LIST:
            return [obj, len(values), values]
        return [obj, len(values), values[-1] if values else None]

    def lost(self, tl, position):
        """Is this position of another history than the winning one?"""
        return self.fork is not None and tl == 1 and position > self.fork

    def step(self, client, t):
        rng, book = self.rng, self.book
        took = rng.randrange(4, 12)
        self.busy[client] = t + took + 1
        # The effect is at t; the interval around it belongs to this client
        # alone, so stamps are given by how far it reaches to both sides.
        start, end = t - rng.uniform(0, 0.9), t + took
        stays = client % 3 == 0
        tl = 2 if self.fork is not None and not (stays and rng.random() < 0.5) else 1
        wtl, written, stl, seen = self.tokens[client]
        if any(self.lost(*x) and tl == 2 for x in ((wtl, written), (stl, seen))):
            book.event("drop", client, start)
            self.tokens[client] = (1, 0, 1, 0)
            return
        if tl == 1 and 2 in (wtl, stl):
            return  # a newer timeline's token: refused
        node = 0 if tl == 1 else 1
        key = rng.randrange(3)
        if rng.random() < 0.4:
            objects = rng.choice(([R], [A, B], [L]))
            objects = [key * 4 + o for o in objects]
            self.value += 1
            self.log[tl].append((objects, self.value))
            n = [self.shown(tl, len(self.log[tl]), o)[1] for o in objects]
            if rng.random() < 0.05:
                book.w(client, start, None, objects, self.value, tl=tl, node=node, n=n)
                return
            book.w(client, start, end, objects, self.value, tl=tl, node=node, n=n)
            self.tokens[client] = (tl, len(self.log[tl]), stl, seen)
            self.acked.append((end, tl, len(self.log[tl])))
            return
        level = rng.choice(self.LEVELS)
        last = len(self.log[tl])
        node = rng.choice((0, 1, 2) if self.fork is None else (0,) if tl == 1 else (1, 2))
        need = 0
        if level in ("strong", "bounded"):
            bound = 1000 if level == "bounded" else 0
            need = max([p for e, at, p in self.acked
                        if (at == tl or p <= self.fork) and e < start - bound] or [0])
        elif level == "linearizable":
            if not self.quorum:
                return
            need = last
        if level != "eventual":
            if level != "monotonic_reads":
                need = max(need, written)
            if level != "read_your_writes":
                need = max(need, seen)
        elif not rng.random() < 0.5:
            need = max(0, last - 20)
        # positions of timeline 1 before the fork are positions of timeline 2
        position = rng.randint(min(need, last), last)
        objects = rng.choice(([R], [L], [A, B], [R, A, B, L], [R, A, R]))
        book.r(client, start, end, level, *[self.shown(tl, position, key * 4 + o)
                                            for o in objects], node=node)
        where = (tl if self.lost(tl, position) or self.fork is None or position > self.fork
                 else 1, position)
        self.tokens[client] = (wtl, written, *max((stl, seen), where))

    def judged(self):
        return self.book.judged()


def simulated(complain, seed):
    """A correct history, then the same with one answer changed, many times."""
    world = World(seed)
    judge = world.judged()
    for violation in judge.violations[:5]:
        complain(f"simulation {seed}: false alarm, {violation[:3]} {violation[3]}")
    if sum(judge.judged.values()) < 2000:
        complain(f"simulation {seed}: only {sum(judge.judged.values())} operations")
    rng = random.Random(seed)
    planted = 0
    reads = [r for r in world.book.records if r["k"] == "r"]
    for level, kinds in (("strong", {"stale-strong"}), ("linearizable", {"not-linearizable",
                                                                         "stale-strong"}),
                         ("bounded", {"stale-bounded"})):
        # Answers with something that had to be there, made older by it.
        changed = 0
        for op in rng.sample(reads, len(reads)):
            if op["lv"] != level or len(op["ob"]) != 1 or changed == 10:
                continue
            obj, n, _ = op["ob"][0]
            t = op["s"] - (op["bd"] * MS if level == "bounded" else 0)
            tl = min(judge.candidates(op))
            need = judge.acknowledged(obj, t, tl)
            if len(judge.candidates(op)) > 1 or not need or need[0] > n or n < 2:
                continue
            book = copy.copy(world.book)
            book.records = list(world.book.records)
            older = need[0] - 1
            values = [v for objects, v in world.log[tl] if obj in objects][:older]
            new = dict(op, ob=[[obj, older, values if obj % 4 == LIST else
                                values[-1] if values else None]])
            book.records[book.records.index(op)] = new
            changed += 1
            if not any(kind in kinds and new in ops
                       for kind, _, _, ops in book.judged().violations):
                complain(f"simulation {seed}: {level} read made stale was not found: {new}")
        if not changed:
            complain(f"simulation {seed}: no {level} read to make stale")
        planted += changed
    return planted


def main(say=print):
    problems = []
    count = by_hand(problems.append)
    planted = sum(simulated(problems.append, seed) for seed in range(3))
    for problem in problems:
        say(f"selftest: {problem}")
    say(f"selftest: {count} histories by hand with their correct twins, {planted} defects in "
        f"simulated histories, {len(KINDS)} kinds of violation: "
        f"{'ok' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0
