"""A client's connection: libpq through psycopg's thin layer, nothing above it.

psycopg's own connection would hide what a checker has to see: which of several
results failed, whether a reply came at all, warnings and reported parameters.
Every wait has an end.
"""
import select
import time

from psycopg import OperationalError, pq

OK = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Lost(Exception):
    """The connection is gone, or cannot be made.  `state` is the server's
    last SQLSTATE, or 08006."""

    def __init__(self, state, text):
        super().__init__(text)
        self.state = state or "08006"


class Hang(Exception):
    """No reply within the time given; the connection has been closed."""


class Reply:
    """Results of one message: rows of each statement, the error that ended
    it if any, and the warnings that came before ReadyForQuery."""

    __slots__ = ("sets", "state", "error", "notices")

    def __init__(self):
        self.sets = []
        self.state = None
        self.error = ""
        self.notices = ()

    @property
    def rows(self):
        """Rows of the last statement that had any."""
        return self.sets[-1] if self.sets else []

    @property
    def one(self):
        """The first column of the first row as text."""
        value = self.rows[0][0] if self.rows else None
        return None if value is None else value.decode()


def _text(value):
    return value.decode(errors="replace").strip() if value else ""


class Conn:
    """A connection; `run` sends one message and returns its Reply.  Errors of
    statements are in the Reply, Lost and Hang are raised."""

    def __init__(self, dsn, options="", timeout=10):
        dsn = f"{dsn} connect_timeout={timeout} client_encoding=UTF8"
        if options:
            dsn += f" options='{options}'"
        self.pg = pq.PGconn.connect(dsn.encode())
        if self.pg.status != pq.ConnStatus.OK:
            text = _text(self.pg.error_message)
            self.pg.finish()
            state = "57P03" if "starting up" in text or "shutting down" in text \
                or "not yet accepting" in text or "recovery mode" in text else "08001"
            raise Lost(state, text)
        self.notices = []
        self.pg.notice_handler = self._notice
        self.prepared = set()
        self._poll = select.poll()
        self._poll.register(self.pg.socket, select.POLLIN)

    def _notice(self, result):
        self.notices.append((
            _text(result.error_field(pq.DiagnosticField.SQLSTATE)),
            _text(result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY))))

    def parameter(self, name):
        """A parameter the server reported, None if it never did."""
        value = self.pg.parameter_status(name.encode())
        return None if value is None else value.decode()

    @property
    def in_block(self):
        return self.pg.transaction_status in (pq.TransactionStatus.INTRANS,
                                              pq.TransactionStatus.INERROR)

    def close(self):
        try:
            self.pg.finish()
        except Exception:  # a connection that cannot be closed is closed
            pass

    def simple(self, sql, wait=30, cancel_after=None):
        """Statements in one message.  cancel_after: seconds after which the
        server is asked to cancel, for what statement_timeout does not end (a
        commit that waits for a synchronous standby)."""
        return self._run(self.pg.send_query, wait, sql.encode(), cancel_after=cancel_after)

    def extended(self, sql, args, wait=30):
        return self._run(self.pg.send_query_params, wait, sql.encode(),
                         [str(a).encode() for a in args])

    def execute(self, name, sql, args, wait=30, cancel_after=None):
        """A prepared statement, prepared when first used."""
        if name not in self.prepared:
            reply = self._run(self.pg.send_prepare, wait, name.encode(), sql.encode())
            if reply.state:
                return reply
            self.prepared.add(name)
        return self._run(self.pg.send_query_prepared, wait, name.encode(),
                         [str(a).encode() for a in args], cancel_after=cancel_after)

    def _run(self, send, wait, *args, cancel_after=None):
        self.notices = []
        reply = Reply()
        try:
            send(*args)
            self._collect(reply, time.monotonic() + wait,
                          cancel_after and time.monotonic() + cancel_after)
        except OperationalError as error:
            self.close()
            raise Lost(reply.state, str(error).strip()) from None
        reply.notices = self.notices
        return reply

    def _collect(self, reply, deadline, cancel_at=None):
        while True:
            while self.pg.is_busy():
                left = (cancel_at or deadline) - time.monotonic()
                if left <= 0 and cancel_at:
                    self.cancel()
                    cancel_at = None
                elif left <= 0:
                    self.close()
                    raise Hang()
                elif self._poll.poll(left * 1000):
                    self.pg.consume_input()
            result = self.pg.get_result()
            if result is None:
                break
            if result.status == pq.ExecStatus.TUPLES_OK:
                columns = range(result.nfields)
                reply.sets.append([[result.get_value(row, col) for col in columns]
                                   for row in range(result.ntuples)])
            elif result.status not in OK:
                reply.state = _text(result.error_field(pq.DiagnosticField.SQLSTATE)) or "08006"
                reply.error = _text(result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)) \
                    or _text(result.error_message)
            result.clear()
        if self.pg.status != pq.ConnStatus.OK:
            self.close()
            raise Lost(reply.state, reply.error)

    def cancel(self):
        """Asks the server to cancel what runs."""
        try:
            self.pg.get_cancel().cancel()
        except Exception:  # the server may be gone
            pass
