"""A client: one process, one session that moves between the nodes.

It writes on the primary and reads anywhere, at a level that changes now and
then, in every form a statement can have.  Its token comes from ParameterStatus,
goes with it from node to node, and is handed to other clients in messages.  It
records what it did and what came back; what that means is the judge's affair.

Every write carries a value that no other write has, and counts its object's
version up under the row lock, so that the order of versions is known and the
judge has nothing to search (Kingsbury & Alvaro, Elle, 2020, call such
histories traceable and recoverable).  Each also leaves a row in `audit`, from
which the surviving history is read at the end.
"""
import json
import os
import random
import signal
import socket
import time

from history import LIST, PAIR_A, PAIR_B, REG, Recorder
from proxy import die_with_parent
from wire import Conn, Hang, Lost

# Ways to ask for the token after a read.  In the middle of a block the setting
# has what redirected reads have shown, the function has all.
TOKENS = ("SELECT tcs.session_token()", "SHOW tcs.session_token",
          "SELECT current_setting('tcs.session_token')")
# Weaker levels first; a fallback must name a weaker one than the level.
LEVELS = ("eventual", "consistent_prefix", "bounded", "read_your_writes", "monotonic_reads",
          "session", "sequential", "causal", "snapshot", "strong", "linearizable")
NO_TOKEN = ("eventual", "consistent_prefix")

GROUPS = 4            # keys in use at a time
GENERATION = 5e9      # ns after which there are new ones, so that lists stay short
LATE = 35             # s after which a read without reply counts as hanging
WRITE_CANCEL = 4      # s after which a commit that waits is cancelled
SHARED = ("stop", "primary", "deposed", "began")   # slots of the shared array

_AUDIT = ("INSERT INTO audit SELECT k * 4 + {kind}, n, {v}::bigint, timeline() FROM u "
          "RETURNING n, tl")
_ROW = ("WITH u AS (INSERT INTO {table} AS t VALUES ({k}, 1, {v}) ON CONFLICT (k) DO UPDATE "
        "SET n = t.n + 1, v = excluded.v RETURNING k, n) ")
_LIST = ("WITH u AS (INSERT INTO lst AS t VALUES ({k}, ARRAY[{v}::bigint]) ON CONFLICT (k) "
         "DO UPDATE SET l = t.l || {v}::bigint RETURNING k, cardinality(l) AS n) ")
WRITES = {
    REG: _ROW.replace("{table}", "reg") + _AUDIT.replace("{kind}", "0"),
    PAIR_A: _ROW.replace("{table}", "pair_a") + _AUDIT.replace("{kind}", "1"),
    PAIR_B: _ROW.replace("{table}", "pair_b") + _AUDIT.replace("{kind}", "2"),
    LIST: _LIST + _AUDIT.replace("{kind}", "3"),
}
READS = {
    "r": "SELECT n, v FROM reg WHERE k = {k}",
    "a": "SELECT n, v FROM pair_a WHERE k = {k}",
    "b": "SELECT n, v FROM pair_b WHERE k = {k}",
    "l": "SELECT l FROM lst WHERE k = {k}",
    "p": "SELECT a.n, a.v, b.n, b.v FROM (SELECT {k}::int AS k) q "
         "LEFT JOIN pair_a a USING (k) LEFT JOIN pair_b b USING (k)",
    "g": "SELECT a.n, a.v, b.n, b.v, r.n, r.v, l.l FROM (SELECT {k}::int AS k) q "
         "LEFT JOIN pair_a a USING (k) LEFT JOIN pair_b b USING (k) "
         "LEFT JOIN reg r USING (k) LEFT JOIN lst l USING (k)",
}
COLUMNS = {"r": (REG,), "a": (PAIR_A,), "b": (PAIR_B,), "l": (LIST,),
           "p": (PAIR_A, PAIR_B), "g": (PAIR_A, PAIR_B, REG, LIST)}
# What fails between reads, each a list of messages.  No trace of them may be
# left: neither in what the server believes of the session, nor in the session.
FAILING = (
    ("SELECT 1/0",), ("SELECT nosuch",), ("nosuch",), ("SELECT g, 1/(g-5) FROM generate_series(1, 9) g",),
    ("BEGIN", "SELECT 1/0", "ROLLBACK TO nosuch", "ROLLBACK"),
    ("BEGIN; SELECT 1/0", "ROLLBACK TO nosuch; ROLLBACK", "ROLLBACK"),
    ("BEGIN", "SELECT 1/0", "FETCH ALL nosuch", "PREPARE nosuch AS SELECT 1", "COMMIT"),
    ("BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO b", "ROLLBACK TO a", "SELECT 1", "COMMIT"),
    ("BEGIN", "DECLARE c CURSOR FOR SELECT 1/(g-3) FROM generate_series(1, 9) g", "FETCH 2 c",
     "FETCH ALL c", "ROLLBACK"),
    ("BEGIN; SELECT 1/0; COMMIT", "ROLLBACK"),
    ("DO $$BEGIN PERFORM 1/0; EXCEPTION WHEN OTHERS THEN NULL; END$$",),
    ("DO $$BEGIN PERFORM 1/0; END$$",), ("EXECUTE nosuch",), ("EXPLAIN ANALYZE SELECT 1/0",),
    ("SET tcs.read_level = nosuch",), ("BEGIN", "SET tcs.read_level = nosuch", "ROLLBACK"),
)
# The same in a block that goes on.
FAILING_INSIDE = ("SELECT 1/0", "SELECT nosuch", "FETCH ALL nosuch", "ROLLBACK TO nosuch", "EXECUTE nosuch",
                  "DO $$BEGIN PERFORM 1/0; END$$")
SINGLE = ("r", "r", "a", "b", "l", "l", "p", "g")
DOUBLE = (("a", "b"), ("b", "a"), ("r", "l"), ("p", "g"), ("g", "g"), ("l", "p"))


def observed(what, k, rows):
    """[[object, version, value]] of a reply."""
    row = rows[0] if rows else [None] * 7
    seen, column = [], 0
    for kind in COLUMNS[what]:
        if kind == LIST:
            text = row[column]
            values = [int(x) for x in text[1:-1].split(b",")] if text and text != b"{}" else []
            seen.append([k * 4 + kind, len(values), values])
            column += 1
        else:
            n, v = row[column:column + 2]
            seen.append([k * 4 + kind, int(n or 0), None if v is None else int(v)])
            column += 2
    return seen


def quote(text):
    return "'" + text.replace("'", "''") + "'"


class _Link:
    """A connection to a node with what has been set there."""

    def __init__(self, client, node):
        cfg = client.cfg
        self.conn = Conn(cfg.dsns[node], cfg.options, timeout=5)
        self.node, self.tcs = node, cfg.tcs
        self.level, self.fallback, self.bound = "session", "error", 5000
        self.wait, self.left = 1000, 0
        self.placeholder = ""

    def token(self):
        # Without tcs there is none; the session is then taken at its word.
        return self.conn.parameter("tcs.session_token") if self.tcs else self.placeholder


class Client:
    """One session."""

    def __init__(self, cfg, ident):
        self.cfg, self.ident = cfg, ident
        self.rng = random.Random(f"{cfg.seed}/{cfg.round}/{ident}")
        self.record = Recorder(cfg.folder, f"client-{ident}")
        self.links = {}
        self.retry = {}
        self.number = 0
        self.token = ""
        self.value = (cfg.round * 100 + ident) * 1_000_000
        # Whether this client notices a failover at once, or stays with the
        # deposed primary while that is alive.
        self.stays = ident % 2 == 1
        self.fallbacks = (("error",), ("redirect, error",), ("error", "weaker"))[ident % 3]
        if cfg.redirect:
            self.fallbacks = ("redirect, error",)

    # ---- where things are

    def now(self):
        return time.monotonic_ns()

    def key(self):
        generation = int((self.now() - self.cfg.shared[3]) // GENERATION)
        if generation and self.rng.random() < 0.1:
            generation -= 1
        return generation * GROUPS + self.rng.randrange(GROUPS)

    def write_node(self):
        deposed = self.cfg.shared[2]
        return deposed if deposed >= 0 and self.stays else self.cfg.shared[1]

    def link(self, name, node):
        """The connection of that name, made when there is none; None while the
        node has just been found unreachable."""
        link = self.links.get(name)
        if link and link.node == node:
            return self.outside_block(name, link)
        if link:
            self.forget(name)
        if self.retry.get(node, 0) > time.monotonic():
            return None
        try:
            link = self.links[name] = _Link(self, node)
            return link
        except Lost:
            self.retry[node] = time.monotonic() + 0.1
            return None

    def outside_block(self, name, link):
        """The link with no transaction block open.  What ends a block can fail as
        well, by a cancel or a conflict with recovery, and leaves an aborted one."""
        try:
            while link.conn.in_block:
                link.conn.simple("ROLLBACK", LATE)
            return link
        except (Lost, Hang):
            self.forget(name)
            return None

    def forget(self, name):
        link = self.links.pop(name, None)
        if link:
            link.conn.close()

    # ---- the loop

    def run(self):
        cfg, rng = self.cfg, self.rng
        due = time.monotonic() + rng.random() / cfg.rate
        while not cfg.shared[0]:
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)  # the rate, nothing is waited for
            elif pause < -1:
                due = time.monotonic()
            due += 1 / cfg.rate
            self.receive()
            if rng.random() < 0.3:
                self.write()
            else:
                self.read()
            if rng.random() < 0.05:
                self.send()
        for name in list(self.links):
            self.forget(name)
        self.record.close()

    # ---- messages

    def send(self):
        self.number += 1
        mark = f"{self.ident}.{self.number}"
        to = self.rng.choice([i for i in self.cfg.mail if i != self.ident])
        at = self.now()
        try:
            self.cfg.mail[to][1].send(json.dumps([mark, self.token]).encode())
        except OSError:
            return  # the other is busy
        self.record({"k": "send", "c": self.ident, "t": at, "m": mark})

    def receive(self):
        try:
            mark, token = json.loads(self.cfg.mail[self.ident][0].recv(4096))
        except OSError:
            return
        if self.cfg.tcs:
            if not token:
                return
            if self.token:
                merged = self.merge(token)
                if not merged:
                    return
                token = merged
        self.token = token
        self.record({"k": "recv", "c": self.ident, "t": self.now(), "m": mark})

    def merge(self, token):
        node = self.rng.randrange(len(self.cfg.dsns))
        link = self.link(node, node)
        try:
            reply = link and link.conn.simple(
                f"SELECT tcs.merge_tokens({quote(self.token)}, {quote(token)})", LATE)
        except (Lost, Hang):
            self.forget(node)
            return None
        # Tokens of two histories cannot be merged; the message is lost then.
        return reply.one if reply and not reply.state else None

    # ---- writes

    def write(self):
        rng = self.rng
        node = self.write_node()
        link = self.link("w", node)
        if not link:
            return
        kind = rng.choice((REG, REG, PAIR_A, LIST))
        k = self.key()
        self.value += 1
        self.number += 1
        objects = [k * 4 + PAIR_A, k * 4 + PAIR_B] if kind == PAIR_A else [k * 4 + kind]
        record = {"k": "w", "c": self.ident, "i": self.number, "s": self.now(), "e": None,
                  "nd": node, "o": objects, "v": self.value, "n": None, "tl": None,
                  "st": "fail", "er": None, "p": 1, "ln": 0, "ti": self.token, "to": None,
                  "f": rng.choice(("simple", "prepared"))}
        try:
            if link.token() != self.token:
                reply = self.hand_in(link)
                if reply.state:
                    return
                record["s"] = self.now()
            if kind == PAIR_A:
                record["f"] = rng.choice(("block", "message"))
                self.write_pair(link, k, record)
            else:
                self.write_one(link, kind, k, record)
        except Lost as lost:
            self.forget("w")
            record["er"] = lost.state
            if record["st"] == "sent":
                record["st"] = "info"
        except Hang:
            self.forget("w")
            record["er"] = "hang"
            if record["st"] == "sent":
                record["st"] = "info"
            self.record({"k": "hang", "c": self.ident, "i": self.number, "s": record["s"],
                         "e": self.now(), "nd": node, "lv": "write", "f": record["f"]})
        if record["st"] == "ok":
            record["ln"] = 1
            self.token = record["to"] = link.token()
            if not self.cfg.tcs:
                self.token = link.placeholder = f"{self.ident}.{self.number}"
        self.record(record)
        if record["er"]:
            self.refused(record, "w", "session")

    def settle(self, record, reply):
        """What the reply to the message that could commit says."""
        record["e"] = self.now()
        if reply.state:
            record["st"], record["er"] = "fail", reply.state
            record["msg"] = reply.error
        elif any("synchronous" in text for _, text in reply.notices):
            # Committed here, on no standby: nobody acknowledged it.
            record["st"] = "info"
        else:
            record["st"] = "ok"

    def write_one(self, link, kind, k, record):
        record["st"] = "sent"
        if record["f"] == "simple":
            reply = link.conn.simple(WRITES[kind].format(k=k, v=self.value), LATE, WRITE_CANCEL)
        else:
            reply = link.conn.execute(f"w{kind}", WRITES[kind].format(k="$1", v="$2"),
                                      (k, self.value), LATE, WRITE_CANCEL)
        self.settle(record, reply)
        if not reply.state:
            n, tl = reply.rows[0]
            record["n"], record["tl"] = [int(n)], int(tl)

    def write_pair(self, link, k, record):
        statements = [WRITES[kind].format(k=k, v=self.value) for kind in (PAIR_A, PAIR_B)]
        sets = []
        if record["f"] == "message":
            record["st"] = "sent"
            reply = link.conn.simple("; ".join(["BEGIN", *statements, "COMMIT"]),
                                     LATE, WRITE_CANCEL)
            sets = reply.sets
            self.settle(record, reply)
            if reply.state:
                link.conn.simple("ROLLBACK", LATE)
        else:
            for text in ("BEGIN", *statements):
                reply = link.conn.simple(text, LATE)
                if reply.state:
                    self.settle(record, reply)
                    link.conn.simple("ROLLBACK", LATE)
                    return
                sets += reply.sets
            record["st"] = "sent"
            self.settle(record, link.conn.simple("COMMIT", LATE, WRITE_CANCEL))
        if record["st"] != "fail":
            record["n"] = [int(rows[0][0]) for rows in sets]
            record["tl"] = int(sets[0][0][1])

    def hand_in(self, link):
        """The session's token to a connection."""
        if not self.cfg.tcs:
            link.placeholder = self.token
        return link.conn.simple(f"SET tcs.session_token = {quote(self.token)}", LATE)

    # ---- reads

    def retune(self, link):
        """Another level, wait and fallback for the next reads there."""
        rng = self.rng
        link.left = rng.randrange(5, 25)
        level = rng.choice(self.cfg.levels)
        fallback = rng.choice(self.fallbacks)
        if fallback == "weaker":
            weaker = [x for x in ("eventual", "session") if x in LEVELS[:LEVELS.index(level)]]
            if level == "linearizable":
                weaker.append("strong")
            fallback = f"{rng.choice(weaker)}, error" if weaker else "error"
        wait, bound = rng.choice((100, 1000, 1000, 3000)), rng.choice((200, 1000, 3000))
        reply = link.conn.simple(
            f"SET tcs.read_level = {level}; SET tcs.fallback = '{fallback}';"
            f"SET tcs.max_wait = '{wait}ms'; SET tcs.max_staleness = '{bound}ms'", LATE)
        if reply.state:
            raise RuntimeError(f"SET of {level}: {reply.state} {reply.error}")
        link.level, link.fallback, link.wait, link.bound = level, fallback, wait, bound

    def stumble(self, link):
        """Statements that fail, before a read."""
        for text in self.rng.choice(FAILING):
            link.conn.simple(text, LATE)

    def stumble_inside(self, link):
        """A statement that fails in a block, and back to before it; False if the
        block cannot go on."""
        for text in ("SAVEPOINT s", self.rng.choice(FAILING_INSIDE)):
            link.conn.simple(text, LATE)
        return not link.conn.simple("ROLLBACK TO s", LATE).state

    def read(self):
        rng = self.rng
        node = rng.randrange(len(self.cfg.dsns))
        link = self.link(node, node)
        if not link:
            return
        self.number += 1
        record = {"k": "r", "c": self.ident, "i": self.number, "s": self.now(), "e": None,
                  "nd": node, "pr": int(node == self.cfg.shared[1]), "lv": link.level,
                  "le": link.level, "f": None, "ob": [], "rd": 0,
                  "bd": link.bound, "p": 0, "ln": 0, "ti": self.token, "to": None}
        try:
            if link.left <= 0:
                self.retune(link)
                record["lv"] = record["le"] = link.level
                record["bd"] = link.bound
            link.left -= 1
            record["rd"] = int("redirect" in link.fallback)
            record["p"] = int(rng.random() < (0.5 if link.level in NO_TOKEN else 0.9))
            first = ""
            if record["p"] and link.token() != self.token:
                if rng.random() < 0.5:
                    first = f"SET tcs.session_token = {quote(self.token)}; "
                    link.placeholder = self.token
                elif self.hand_in(link).state:
                    return
            if rng.random() < 0.1:
                self.stumble(link)
                record["s"] = self.now()
            self.read_somehow(link, record, first)
        except Lost as lost:
            self.forget(node)
            record["er"] = lost.state
            self.refused(record, "r", record["lv"])
        except Hang:
            self.forget(node)
            self.hung(record)

    def hung(self, record):
        self.record({"k": "hang", "c": self.ident, "i": record["i"], "s": record["s"],
                     "e": self.now(), "nd": record["nd"], "lv": record["lv"], "f": record["f"]})

    def refused(self, record, kind, level):
        """An error: unavailability.  Told that the token is lost, the session
        goes on without it."""
        if record["er"] == "57014" and kind == "r":
            self.hung(record)
            return
        self.record({"k": "x", "c": self.ident, "i": record["i"], "s": record["s"],
                     "e": self.now(), "nd": record["nd"], "lv": level, "er": record["er"],
                     "wr": kind, "f": record["f"], "p": record["p"], "ti": record["ti"],
                     "msg": record.get("msg", "")})
        if record["er"] == "TC003" and record["p"]:
            self.token = ""
            self.record({"k": "drop", "c": self.ident, "t": self.now()})

    def answered(self, link, record, what, k, reply):
        """One statement's reply; False when it was refused."""
        record["e"] = self.now()
        if reply.state:
            record["er"], record["msg"] = reply.state, reply.error
            self.refused(record, "r", record["lv"])
            return False
        record["ob"] += observed(what, k, reply.rows)
        for _, text in reply.notices:
            if text.startswith("read served at level"):
                record["le"] = text.split('"')[1]
        return True

    def learn(self, link, record):
        """The token after the read, if what the session had is in it."""
        if record["p"]:
            record["ln"] = 1
            if self.cfg.tcs:
                self.token = record["to"] = link.token()

    def ask(self, link, record, ways=TOKENS):
        """The same by function or setting, in the middle of a block as well."""
        if not (record["p"] and self.cfg.tcs):
            return
        reply = link.conn.simple(self.rng.choice(ways), LATE)
        if not reply.state and reply.one:
            record["ln"] = 1
            self.token = record["to"] = reply.one

    def read_somehow(self, link, record, first):
        rng, conn = self.rng, link.conn
        k = self.key()
        forms = ("simple", "extended", "prepared", "cursor", "rc", "rr")
        if link.level == "snapshot":
            forms = ("simple", "prepared", "snapshot", "snapshot", "snapshot")
        form = record["f"] = rng.choice(forms)
        if form in ("rc", "rr", "snapshot"):
            self.read_block(link, record, first, form, k)
            return
        what = rng.choice(SINGLE)
        if form == "simple":
            reply = conn.simple(first + READS[what].format(k=k), LATE)
        elif form == "cursor":
            reply = conn.simple(f"{first}BEGIN; DECLARE c CURSOR FOR {READS[what].format(k=k)}; "
                                "FETCH ALL c; COMMIT", LATE)
            if reply.state:
                conn.simple("ROLLBACK", LATE)
        else:
            if first and self.hand_in(link).state:
                return
            if form == "extended":
                reply = conn.extended(READS[what].format(k="$1"), (k,), LATE)
            else:
                reply = conn.execute(what, READS[what].format(k="$1"), (k,), LATE)
        if self.answered(link, record, what, k, reply):
            if rng.random() < 0.3:
                self.ask(link, record)
            if not record["ln"]:
                self.learn(link, record)
            if record["rd"] and self.cfg.tcs:
                self.look(link, record)
            self.record(record)

    def look(self, link, record):
        """Was this read redirected?"""
        try:
            reply = link.conn.simple("SELECT outcome FROM tcs.last_read", LATE)
        except (Lost, Hang):
            self.forget(record["nd"])
            return
        if not reply.state:
            record["rd"] = 2 if reply.one == "redirected" else 0

    def read_block(self, link, record, first, form, k):
        """Two statements in a transaction.  In READ COMMITTED each is a read of
        its own; in REPEATABLE READ, which `snapshot` makes of a plain BEGIN,
        they are one, at the moment of BEGIN."""
        conn = link.conn
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ" if form == "rr" else "BEGIN"
        whats = self.rng.choice(DOUBLE)
        one = form != "rc"
        reply = conn.simple(first + begin, LATE)
        if reply.state:
            self.answered(link, record, None, k, reply)
            return
        records = [record]
        for number, what in enumerate(whats):
            if number and self.rng.random() < 0.3:
                # what the client does meanwhile, so that replay goes on
                time.sleep(self.rng.uniform(0, 0.02))
            if self.rng.random() < 0.1 and not self.stumble_inside(link):
                conn.simple("ROLLBACK", LATE)
                break
            if number and not one:
                self.number += 1
                record = dict(record, i=self.number, s=self.now(), ob=[], le=link.level,
                              ln=0, ti=self.token, to=None)
                records.append(record)
            if not self.answered(link, record, what, k, conn.simple(READS[what].format(k=k),
                                                                    LATE)):
                conn.simple("ROLLBACK", LATE)
                break
            if self.rng.random() < 0.5:
                self.ask(link, record, TOKENS[:1])
        else:
            if not conn.simple("COMMIT", LATE).state:
                # the second alone is enough: the token has both in it
                self.learn(link, record)
        for record in records:
            if record["ob"]:
                record.pop("er", None)
                record.pop("msg", None)
                self.record(record)


class Config:
    """What a client is told: dsns, folder, seed, round, levels, rate, tcs,
    redirect (all reads may be), shared (array of SHARED), mail {ident: (receiving, sending socket)}."""

    options = ("-c tcs.report_token=all -c statement_timeout=30s -c lock_timeout=3s "
               "-c idle_in_transaction_session_timeout=30s")

    def __init__(self, **settings):
        self.__dict__.update(settings)


def mailboxes(count):
    boxes = {}
    for ident in range(count):
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in pair:
            end.setblocking(False)
        boxes[ident] = pair
    return boxes


def client_main(cfg, ident):
    """Of the client's process."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        Client(cfg, ident).run()
    except Exception as error:  # shown by the parent, which ends the run
        with open(os.path.join(cfg.folder, f"client-{ident}.failed"), "w") as file:
            import traceback
            traceback.print_exc(file=file)
        raise SystemExit(1) from error
