"""Compares redirected statements with the primary's own answers.

    compare.py --bin DIR --database DIR --dir DIR --major N SQL

The database is the one that core's regression tests leave behind.  Their files
are run once more, each in a schema of its own, in a way that leaves more behind
(sqlfile.py).  Then replay on a standby stands still behind the primary, so that
each read must be redirected.  Each query of the files is run there and on the
primary: by the simple protocol, with binary results, prepared, with parameters,
in REPEATABLE READ, and through a cursor.  What a client is told must be the same.

A statement that the primary itself answers in another way each time is compared
by its shape.  Rows in another order are the same if the statement has no ORDER BY.
"""
import argparse
import collections
import multiprocessing
import os
import pathlib
import re
import subprocess
import sys
import time

import known
import sqlfile
import verdict
from session import Lost, Session

CONF = """
port = 5432
listen_addresses = ''
unix_socket_directories = '{dir}'
shared_preload_libraries = 'tcs'
wal_level = replica
max_wal_senders = 10
max_connections = 100
hot_standby = on
autovacuum = off
fsync = off
max_wal_size = 4GB
log_min_messages = warning
log_min_error_statement = panic
restart_after_crash = on
cluster_name = '{name}'
"""

# The same on both sides.  A redirected transaction is read only, so the
# primary's own must be.  The settings of plpgsql are there once it is loaded.
BOTH = ("LOAD 'plpgsql'", "SET statement_timeout = '15s'", "SET default_transaction_read_only = on",
        "SET client_min_messages = notice", "SET lc_messages = 'C'")
STRONG = ("SET tcs.read_level = strong", "SET tcs.fallback = 'redirect, error'",
          "SET tcs.max_wait = '200ms'", "SET tcs.report_token = off")

# Settings that the files make, and that are made on both sides.
CARRIED = re.compile(r"(?:set|reset)\s+(?:datestyle|intervalstyle|time\s+zone|timezone|bytea_output|"
                     r"extra_float_digits|xmloption|xml\s+option|search_path|array_nulls|enable_\w+|"
                     r"standard_conforming_strings|quote_all_identifiers|lc_\w+|default_text_search_config|"
                     r"transform_null_equals|backslash_quote|escape_string_warning)\b", re.I)

# Names and numbers of servers and sessions differ, and so do tests that wait.
SKIPPED = re.compile(r"pg_sleep|pg_terminate_backend|pg_reload_conf|pg_promote|pg_switch_wal|"
                     r"pg_wal_replay|pg_rotate_logfile|pg_log_backend", re.I)


# One process at a time repairs what a crash has undone.
repairing = multiprocessing.Lock()


# ---- the two servers ----

class Server:
    def __init__(self, args, name, data):
        self.args, self.data = args, data
        self.dir = args.dir / name
        self.dir.mkdir(parents=True, exist_ok=True)
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(CONF.format(dir=self.dir, name=name))

    def start(self):
        subprocess.run([self.args.bin / "pg_ctl", "-D", self.data, "-l", self.args.dir / f"{self.dir.name}.log",
                        "-w", "-t", "120", "start"], check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        subprocess.run([self.args.bin / "pg_ctl", "-D", self.data, "-m", "immediate", "stop"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def conninfo(self):
        return f"host={self.dir} port=5432 dbname=regression options='-c tcs.read_level=eventual'"

    def session(self, settings=()):
        return Session(self.conninfo(), settings)

    def query(self, text):
        session = self.session()
        answer = session.simple(text)
        session.close()
        if answer.error:
            raise SystemExit(f"{text}: {answer.text()}")
        return answer.rows


def wait_until(what, test):
    for _ in range(600):
        if test():
            return
        time.sleep(0.2)
    raise SystemExit(f"waited in vain until {what}")


def leave_more(args, primary, files):
    """Runs the files on the primary in a way that leaves their objects behind."""
    running = []
    for file in files:
        while len(running) >= args.jobs:
            running.pop(0).wait()
        schema = f"core_{file.stem.replace('.', '_')}"
        script = args.dir / "scripts" / file.name
        script.parent.mkdir(exist_ok=True)
        pieces = sqlfile.split(file.read_text(encoding="latin-1"))
        script.write_text(f"CREATE SCHEMA {schema};\nSET statement_timeout = '30s';\n" +
                          sqlfile.keeping(pieces), encoding="latin-1")
        env = dict(os.environ, PGHOST=str(primary.dir), PGPORT="5432", PGDATABASE="regression",
                   PGOPTIONS=f"-c search_path={schema},public -c lock_timeout=10s")
        with open(args.dir / "scripts" / f"{file.stem}.txt", "wb") as output:
            running.append(subprocess.Popen(
                ["timeout", "120", args.bin / "psql", "-X", "-q", "-f", script],
                env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT))
    for process in running:
        process.wait()


# Takes rows away on the primary that the paused standby still has, so that a
# read that was not redirected tells another story.  Triggers and foreign keys
# do not run.
TAKE_AWAY = """
DO $$
DECLARE
    rel regclass;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR rel IN SELECT c.oid FROM pg_class c
               WHERE relkind = 'r' AND relnamespace IN
                   (SELECT oid FROM pg_namespace WHERE nspname = 'public' OR nspname LIKE 'core\\_%')
               ORDER BY 1
    LOOP
        BEGIN
            EXECUTE format('DELETE FROM ONLY %1$s WHERE ctid IN (SELECT tid FROM'
                           ' (SELECT ctid, row_number() OVER (ORDER BY ctid) FROM ONLY %1$s) AS r (tid, n)'
                           ' WHERE n %% 7 = 3)', rel);
        EXCEPTION WHEN OTHERS THEN
            NULL;               -- made by a test for what cannot be read or written
        END;
    END LOOP;
END $$"""


def start_servers(args, files):
    primary = Server(args, "primary", args.database)
    primary.start()
    primary.query("SELECT 1")
    leave_more(args, primary, files)
    primary.query("CREATE SCHEMA IF NOT EXISTS tcs_extension")
    for each in ("CREATE EXTENSION tcs",
                 f"CREATE SERVER tcs_primary FOREIGN DATA WRAPPER tcs_fdw OPTIONS (host '{primary.dir}', port '5432')",
                 "CREATE USER MAPPING FOR CURRENT_USER SERVER tcs_primary",
                 "CREATE TABLE core_check (a int)"):
        primary.query(each)

    data = args.dir / "standby_data"
    subprocess.run([args.bin / "pg_basebackup", "-D", data, "-R", "-c", "fast", "-X", "stream",
                    "-h", primary.dir, "-p", "5432"], check=True)
    standby = Server(args, "standby", data)
    standby.start()
    wait_until("the standby has replayed", lambda: primary.query(
        "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()") == [(b"1",)])

    leave_behind(primary, standby)
    return primary, standby


def leave_behind(primary, standby):
    """From here on each read of the standby is too old, and says so.  Again after a
    crash, as a server that starts does not pause."""
    if standby.query("SELECT pg_get_wal_replay_pause_state()") == [(b"paused",)]:
        return
    standby.query("SELECT pg_wal_replay_pause()")
    wait_until("replay is paused", lambda: standby.query(
        "SELECT pg_get_wal_replay_pause_state()") == [(b"paused",)])
    primary.query("INSERT INTO core_check SELECT count(*) + 1 FROM core_check")
    primary.query(TAKE_AWAY)
    # and for reads of the catalogs
    primary.query("CREATE TABLE IF NOT EXISTS core_late (a int PRIMARY KEY)")
    session = standby.session(STRONG)
    answer = session.simple("SELECT max(a) FROM core_check")
    if answer.rows != primary.query("SELECT max(a) FROM core_check"):
        raise SystemExit(f"nothing is redirected: {answer.text()}")
    session.close()


# ---- the comparison ----

NUMBER = re.compile(r"((?:=|<|>)\s*)(\d{1,9})(?![\w.'\"])")


def with_parameters(text):
    """The statement with its integers behind comparisons as parameters."""
    if "'" in text or '"' in text or "$" in text:
        return None
    values = []

    def replace(found):
        values.append(int(found[2]))
        return f"{found[1]}${len(values)}::int4"
    text = NUMBER.sub(replace, text)
    return (text, values) if values else None


def ways(text):
    yield "simple", lambda session: session.by_simple(text)
    yield "binary", lambda session: session.by_binary(text)
    yield "prepared", lambda session: session.by_prepared(text)
    changed = with_parameters(text)
    if changed:
        yield "parameters", lambda session: session.by_parameters(*changed)
    yield "repeatable read", lambda session: session.by_repeatable_read(text)
    yield "cursor", lambda session: session.by_cursor(text)


def shape(answer):
    return (answer.state, answer.columns, [bool(answer.notices)])


def ordered(text):
    return re.search(r"\border\s+by\b", text, re.I)


def all_rows(answers):
    """A cursor's first two FETCH have all of them."""
    return [row for each in answers[:4] for row in each.rows]


def steady(mine, primarys):
    """Is what the primary says each time also in another run?  That is the rows'
    number, and each column whose values are the same in all of the primary's runs."""
    mine, others = all_rows(mine), [all_rows(run) for run in primarys]
    if len({len(each) for each in others}) > 1:
        return True
    if len(mine) != len(others[0]):
        return False
    for number in range(len(mine[0]) if mine else 0):
        values = [sorted(repr(row[number]) for row in each) for each in (mine, *others)]
        if values[0] != values[1] and all(each == values[1] for each in values[2:]):
            return False
    return True


def another_order(mine, primarys):
    """Do two runs differ in the order of their rows alone?"""
    def told(answers):
        return [(each.error, each.columns, each.notices) for each in answers]

    return (told(mine) == told(primarys) and
            sorted(map(repr, all_rows(mine))) == sorted(map(repr, all_rows(primarys))))


def as_without_cursor(text, mine, plain):
    """Does a cursor show what the primary's plain statement does?  What a cursor is
    opened for may have another plan, and rows without ORDER BY, or the first of
    several errors, may depend on that.  The last FETCH goes back over the last rows."""
    if plain[0].error or len(mine) < 6:
        return bool(plain[0].error) and mine[-2].error == plain[0].error
    rows = mine[2].rows + mine[3].rows
    notices = [each for answer in mine for each in answer.notices]
    if ordered(text):
        same = rows == plain[0].rows
    else:
        same = sorted(map(repr, rows)) == sorted(map(repr, plain[0].rows))
    return (same and mine[4].rows == rows[:-4:-1] and not any(each.error for each in mine) and
            mine[2].columns == plain[0].columns and sorted(notices) == sorted(plain[0].notices))


def difference(text, mine, primarys):
    """None if a client is told the same; else in what the two differ."""
    for one, other in zip(mine, primarys):
        if one.error != other.error:
            return "error", one, other
        if one.columns != other.columns:
            return "columns", one, other
        if one.notices != other.notices:
            return "notices", one, other
        if one.rows != other.rows:
            return "rows", one, other
        if one.tag != other.tag:
            return "tag", one, other
    if len(mine) != len(primarys):
        return "answers", mine[-1], primarys[-1]
    return None


# What tcs says when it refuses to redirect a statement.  That a connection failed
# or something took too long is no such reason, and a failure here.
REFUSED = re.compile(r"The statement was not redirected: "
                     r"(?:it cannot be redirected: |a statement of this kind stays on this node)")


def why_refused(answer):
    """None if it was not refused."""
    detail = (answer.error[2] or b"").decode(errors="replace") if answer.error else ""
    if answer.state != "TC001" or not REFUSED.search(detail):
        return None
    why = re.sub(r".*(?:cannot be redirected|was not redirected): ", "", detail, flags=re.S)
    return re.sub(r'"[^"]*"|\d+', "...", why)[:160]


class File:
    """All the queries of one file, in all ways."""

    def __init__(self, args, path, primary, standby):
        self.args, self.path = args, path
        self.servers = (standby, primary)
        self.counts = collections.Counter()
        self.refusals = collections.Counter()
        self.findings = []
        self.explained = []
        self.blocks = known.load()
        self.test = f"redirect/{path.stem}"

    def connect(self):
        schema = f"core_{self.path.stem.replace('.', '_')}"
        path = (f"SET search_path = {schema}, public",)
        self.standby = self.servers[0].session(BOTH + path + STRONG)
        self.primary = self.servers[1].session(BOTH + path)

    def run(self):
        began = time.time()
        self.connect()
        seen = set()
        for piece in sqlfile.split(self.path.read_text(encoding="latin-1")):
            if piece.kind != "sql":
                continue
            bare = sqlfile.bare(piece.text)
            if CARRIED.match(bare):
                self.primary.simple(bare)
                self.standby.simple(bare)
                seen.clear()
                continue
            text = sqlfile.query_of(piece.text)
            if text and text not in seen and not SKIPPED.search(text):
                seen.add(text)
                self.counts["statements"] += 1
                self.statement(text)
        self.standby.close()
        self.primary.close()
        return self.path.stem, self.counts, self.refusals, self.findings, self.explained, time.time() - began

    def statement(self, text):
        for way, run in ways(text):
            try:
                word = self.one(text, way, run)
            except Lost as lost:
                self.findings.append((way, text, f"connection lost: {lost}"))
                time.sleep(5)
                wait_until("the servers are back", self.back)
                with repairing:
                    leave_behind(self.servers[1], self.servers[0])
                return
            if isinstance(word, str):
                self.counts[word] += 1
                # what cannot be analysed or is not finished is so in all ways
                if word in ("too slow", "same analysis error"):
                    return
                continue
            what, mine, primarys = word
            line = f"{way}: {what}: standby {mine.text()} {mine.notices} primary {primarys.text()} {primarys.notices}"
            explained = [block for block in self.blocks
                         if block.is_for(self.test, "redirect", self.args.major)
                         and block.may_explain(what, mine, primarys)
                         and block.statement.search(sqlfile.bare(text)) and block.lines.search(line)]
            if explained:
                self.counts["known"] += 1
                self.counts["known: " + explained[0].reason] += 1
                self.explained.append((way, text, line))
            else:
                self.findings.append((way, text, line))

    def back(self):
        try:
            self.connect()
        except Lost:
            return False
        return True

    def one(self, text, way, run):
        """A word for the counts, or what differs."""
        primarys = run(self.primary)
        mine = run(self.standby)
        if any(each.state == "57014" for each in mine + primarys):
            return "too slow"
        found = difference(text, mine, primarys)
        if not found:
            states = [each.state for each in mine if each.error]
            if any(state.startswith("42") for state in states):
                return "same analysis error"
            return "same error" if states else "same rows"
        for each in mine:
            if why := why_refused(each):
                self.refusals[why] += 1
                return "refused"
        # a cursor may have another plan, and rows that sort alike any order
        if (way == "cursor" or not ordered(text)) and another_order(mine, primarys):
            return "same rows, another order"
        if way == "cursor" and as_without_cursor(text, mine, self.primary.by_simple(text)):
            return "same as without a cursor"
        # a few times, as two random answers may be the same
        runs = [primarys]
        for _ in range(10):
            runs.append(run(self.primary))
            if [shape(each) for each in runs[-1]] != [shape(each) for each in mine]:
                break
            if difference(text, runs[-1], primarys) and steady(mine, runs):
                return "volatile"
        return found


def run_file(job):
    args, path, primary, standby = job
    try:
        return File(args, path, primary, standby).run()
    except Lost as lost:
        return path.stem, collections.Counter(), collections.Counter(), [("", "", f"connection lost: {lost}")], [], 0


def one_line(text):
    return re.sub(r"\s+", " ", sqlfile.bare(text))


def report(name, findings, most=12):
    """A file's findings: each statement once, with the ways that differ."""
    by_text = collections.OrderedDict()
    for way, text, line in findings:
        by_text.setdefault(text, []).append((way, line))
    print(f"  FAILED   redirect/{name}: {len(by_text)} statement(s)")
    for text, found in list(by_text.items())[:most]:
        print(f"    ! {', '.join(way for way, _ in found)}")
        print("    | " + one_line(text)[:600])
        print("    | " + found[0][1][:900])
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--database", type=pathlib.Path, required=True)
    parser.add_argument("--dir", type=pathlib.Path, required=True)
    parser.add_argument("--major", type=int, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--files", default="")
    parser.add_argument("sql", type=pathlib.Path)
    args = parser.parse_args()

    began = time.time()
    files = sorted(args.sql.glob("*.sql"))
    if args.files:
        files = [file for file in files if file.stem in args.files.split()]
    primary, standby = start_servers(args, files)
    print(f"  two servers, and more objects: {time.time() - began:.0f} s", flush=True)

    counts, refusals = collections.Counter(), collections.Counter()
    failed = 0
    with multiprocessing.Pool(args.jobs) as pool, open(args.dir / "known.txt", "w") as known_differences:
        # the long ones first, so that none is left to one process at the end
        jobs = [(args, file, primary, standby) for file in sorted(files, key=lambda file: -file.stat().st_size)]
        for name, counted, refused, findings, explained, seconds in pool.imap_unordered(run_file, jobs):
            counts.update(counted)
            refusals.update(refused)
            for way, text, line in explained:
                known_differences.write(f"{name}: {one_line(text)}\n    {line}\n")
            if findings:
                failed += 1
                report(name, findings)
            else:
                print(f"  ok       redirect/{name} ({counted['statements']} statements, {seconds:.0f} s)", flush=True)
    standby.stop()
    primary.stop()
    for line in verdict.crashes(args.dir)[:10]:
        failed += 1
        print(f"  FAILED   redirect: a crash: {line}")

    for what, number in sorted(counts.items()):
        print(f"  {number:7} {what}")
    for why, number in refusals.most_common(40):
        print(f"  {number:7} refused, {why}")
    print(f"  redirect: {len(files) - failed} files as expected, {failed} not ({time.time() - began:.0f} s)")
    (args.dir / "counts").write_text(f"{len(files) - failed} {failed} 0\n")


if __name__ == "__main__":
    main()
