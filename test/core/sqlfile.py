"""Splits a file of core's regression tests into its statements, as psql would."""
import re
from typing import NamedTuple

COMMENT = re.compile(r"\s+|--[^\n]*\n?")
DOLLAR = re.compile(r"\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$")
WORD = re.compile(r"[A-Za-z_][\w$]*")
COPY_IN = re.compile(r"copy\b.*\bfrom\s+stdin\b", re.I | re.S)


class Piece(NamedTuple):
    """`kind` is sql, meta (a psql command on a line of its own) or data (of COPY).
    `end` is what ended a statement: a semicolon, or a psql command."""

    kind: str
    text: str
    end: str


def block_comment(text, at):
    """The place behind a comment, which may have others in it."""
    depth = 0
    while at < len(text):
        if text.startswith("/*", at):
            depth, at = depth + 1, at + 2
        elif text.startswith("*/", at):
            depth, at = depth - 1, at + 2
            if depth == 0:
                break
        else:
            at += 1
    return at


def quoted(text, at):
    """The place behind a string or an identifier in quotes that begins at `at`."""
    mark = text[at]
    escapes = mark == "'" and at > 0 and text[at - 1] in "eE" and not (
        at > 1 and (text[at - 2].isalnum() or text[at - 2] == "_"))
    at += 1
    while at < len(text):
        if escapes and text[at] == "\\":
            at += 1
        elif text[at] == mark:
            if text[at + 1:at + 2] != mark:
                return at + 1
            at += 1
        at += 1
    return at


def bare(statement):
    """The statement without the comments and parentheses before its first word."""
    at = 0
    while at < len(statement):
        if found := COMMENT.match(statement, at):
            at = found.end()
        elif statement.startswith("/*", at):
            at = block_comment(statement, at)
        elif statement[at] == "(":
            at += 1
        else:
            break
    return statement[at:]


def line_end(text, at):
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


class Splitter:
    def __init__(self, text):
        self.text = text
        self.at = 0

    def pieces(self):
        while self.at < len(self.text):
            piece = self._statement()
            if piece and piece.kind == "sql" and COPY_IN.match(bare(piece.text)):
                data = self._data()
                if data:
                    yield piece
                    yield data
            elif piece:
                yield piece

    def _data(self):
        """The lines of COPY; a COPY that is meant to fail has none."""
        first = line_end(self.text, self.at)
        end = re.compile(r"^\\\.[^\n]*(\n|\Z)", re.M).search(self.text, first)
        if not end or re.compile(r"[ \t]*\n|--|[A-Za-z][^\n]*;\s*\n").match(self.text, first):
            return None
        data = self.text[self.at:end.end()]
        self.at = end.end()
        return Piece("data", data, "")

    def _statement(self):
        text, begin, at = self.text, self.at, self.at
        parens = blocks = 0
        while at < len(text):
            char = text[at]
            if text.startswith("--", at):
                at = line_end(text, at)
            elif text.startswith("/*", at):
                at = block_comment(text, at)
            elif char in "'\"":
                at = quoted(text, at)
            elif char == "$" and (found := DOLLAR.match(text, at)):
                end = text.find(found[0], found.end())
                at = len(text) if end < 0 else end + len(found[0])
            elif char == "\\":
                return self._command(begin, at)
            elif char == ";" and parens <= 0 and blocks <= 0:
                self.at = at + 1
                return Piece("sql", text[begin:at], ";")
            elif found := WORD.match(text, at):
                blocks += self._block(found[0].lower(), blocks, begin, at)
                at = found.end()
            else:
                parens += (char == "(") - (char == ")")
                at += 1
        self.at = len(text)
        rest = text[begin:]
        return Piece("sql", rest, "") if bare(rest) else None

    def _block(self, word, blocks, begin, at):
        """Functions may have statements between BEGIN ATOMIC and END."""
        if word == "begin" and re.match(r"begin\s+atomic\b", self.text[at:at + 40], re.I):
            return 1
        if blocks and word == "case":
            return 1
        return -1 if blocks and word == "end" else 0

    def _command(self, begin, at):
        statement = self.text[begin:at]
        if self.text.startswith("\\;", at):
            self.at = at + 2
            return Piece("sql", statement, ";")
        self.at = line_end(self.text, at)
        command = self.text[at:self.at]
        if bare(statement):
            return Piece("sql", statement, command)
        return Piece("meta", command, "")


def split(text):
    return list(Splitter(text).pieces())


QUERY = r"(?:select|with|values|table)\b"
WRAPPED = re.compile(r"(?:explain\s*(?:\([^)]*\)|analyze|verbose|\s)*|"
                     r"declare\s+\w+\s[\w\s]*\bcursor\b[\w\s]*\bfor\b|"
                     r"create\s[\w\s]*\bview\s+[\w.]+\s+as\b|"
                     r"create\s[\w\s]*\btable\s+[\w.]+\s+as\b|"
                     r"prepare\s+\w+\s+as\b)\s*(?=[\s(]*" + QUERY + ")", re.I)


def query_of(statement):
    """The query that a statement is, or has in it (EXPLAIN, DECLARE, CREATE VIEW
    and others); None if there is none."""
    text = bare(statement)
    if re.match(QUERY, text, re.I):
        return statement
    found = WRAPPED.match(text)
    return text[found.end():] if found else None


# ---- a script that leaves more behind ----

DROPPED = re.compile(r"drop\s+(table|view|materialized\s+view|type|function|procedure|routine|"
                     r"aggregate|schema|domain|sequence)\s+(?:if\s+exists\s+)?([^;]*)", re.I | re.S)
NEVER = re.compile(r"(discard|alter\s+system|(create|drop|alter)\s+(database|tablespace|subscription|"
                   r"event\s+trigger)|reindex\s+(system|database)|load)\b", re.I)
TEMPORARY = re.compile(r"\b(create\s+(?:or\s+replace\s+)?)(?:(?:global|local)\s+)?(?:temp(?:orary)?|unlogged)\b|"
                       r"(\binto\s+)(?:temp(?:orary)?|unlogged)\b", re.I)


def keeping(pieces):
    """The script of a file, changed so that its objects are still there at the
    end: temporary and unlogged tables are made to last, blocks are committed, and what
    nothing of the same name follows is not dropped."""
    script = []
    for number, piece in enumerate(pieces):
        text = piece.text
        if piece.kind == "meta":
            if re.match(r"\\(c|connect|cd|!|q|quit|watch|copy|o|i|ir)\b", text):
                continue
            script.append(text)
        elif piece.kind == "data":
            script.append(text)
        elif not NEVER.match(bare(text)) and not _can_stay(pieces, number):
            if re.fullmatch(r"(rollback|abort)(\s+(work|transaction))?\s*", bare(text), re.I):
                text = "\nCOMMIT"
            if re.match(r"create\b|select\b|with\b", bare(text), re.I):
                text = TEMPORARY.sub(lambda found: found[1] or found[2], text, count=1)
                text = re.sub(r"\bon\s+commit\s+(drop|delete\s+rows|preserve\s+rows)\s*$", "", text, flags=re.I)
            script.append(text + (piece.end or ";") + ("" if piece.end.endswith("\n") else "\n"))
    return "".join(script)


def _can_stay(pieces, number):
    """Is it a DROP without which the rest of the file does as well?"""
    found = DROPPED.match(bare(pieces[number].text))
    if not found:
        return False
    names = re.findall(r"[\w$]+", re.sub(r"\([^)]*\)", "", found[2].lower()))
    later = " ".join(piece.text[:200].lower() for piece in pieces[number + 1:]
                     if re.match(r"create\b|select\b|alter\b", bare(piece.text), re.I))
    return not any(re.search(rf"\b{re.escape(name)}\b", later) for name in names
                   if name not in ("cascade", "restrict"))
