"""One connection, and all that a client is told: libpq through psycopg's thin
layer, nothing above it."""
import struct

from psycopg import pq

FIELDS = (pq.DiagnosticField.SQLSTATE, pq.DiagnosticField.MESSAGE_PRIMARY,
          pq.DiagnosticField.MESSAGE_DETAIL, pq.DiagnosticField.MESSAGE_HINT)


class Lost(Exception):
    """The server closed the connection: it may have crashed."""


class Answer:
    """What came back for one statement."""

    def __init__(self, result, notices):
        self.error = self.columns = None
        self.rows, self.tag = [], b""
        self.notices = notices
        if result.status == pq.ExecStatus.FATAL_ERROR:
            self.error = tuple(result.error_field(each) for each in FIELDS)
            return
        self.tag = result.command_status
        self.columns = [(result.fname(i), result.ftype(i), result.fmod(i), result.fformat(i))
                        for i in range(result.nfields)]
        self.rows = [tuple(result.get_value(row, i) for i in range(result.nfields))
                     for row in range(result.ntuples)]

    @property
    def state(self):
        return self.error[0].decode() if self.error and self.error[0] else ""

    def text(self):
        if self.error:
            return " / ".join(each.decode(errors="replace") for each in self.error if each)
        return f"{self.tag.decode()} {self.columns} {self.rows[:8]}"


class Session:
    def __init__(self, conninfo, settings):
        self.notices = []
        self.conn = pq.PGconn.connect(conninfo.encode())
        if self.conn.status != pq.ConnStatus.OK:
            raise Lost(self.conn.error_message.decode(errors="replace"))
        self.conn.notice_handler = self._notice
        for each in settings:
            answer = self.simple(each)
            if answer.error:
                raise SystemExit(f"{each}: {answer.text()}")

    def close(self):
        self.conn.finish()

    def _notice(self, result):
        self.notices.append((result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED),
                             result.error_field(pq.DiagnosticField.SQLSTATE),
                             result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)))

    def _answer(self, result):
        if self.conn.status != pq.ConnStatus.OK:
            raise Lost(self.conn.error_message.decode(errors="replace"))
        notices, self.notices = self.notices, []
        return Answer(result, notices)

    def simple(self, text):
        return self._answer(self.conn.exec_(text.encode("latin-1")))

    # ---- the ways in which a statement is run; each gives its answers ----

    def by_simple(self, text):
        return [self.simple(text)]

    def by_binary(self, text):
        return [self._answer(self.conn.exec_params(text.encode("latin-1"), [], result_format=1))]

    def by_parameters(self, text, values):
        """Integers of the statement come as parameters, in binary."""
        values = [struct.pack("!i", value) for value in values]
        return [self._answer(self.conn.exec_params(
            text.encode("latin-1"), values, param_types=[23] * len(values),
            param_formats=[1] * len(values), result_format=0))]

    def by_prepared(self, text):
        """The second run: the first one's plan and connection are kept."""
        prepared = self._answer(self.conn.prepare(b"s", text.encode("latin-1")))
        if prepared.error:
            return [prepared]
        self._answer(self.conn.exec_prepared(b"s", []))
        answer = self._answer(self.conn.exec_prepared(b"s", [], result_format=1))
        self.simple("DEALLOCATE s")
        return [answer]

    def by_repeatable_read(self, text):
        answers = [self.simple("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
                   self.simple(text)]
        return answers + [self.simple("COMMIT")]

    def by_cursor(self, text):
        answers = [self.simple("BEGIN"), self.simple("DECLARE core_cursor SCROLL CURSOR FOR " + text)]
        if not answers[1].error:
            for fetch in ("FETCH 2 FROM core_cursor", "FETCH ALL FROM core_cursor",
                          "FETCH BACKWARD 3 FROM core_cursor"):
                answers.append(self.simple(fetch))
                if answers[-1].error:
                    break
        return answers + [self.simple("ROLLBACK")]
