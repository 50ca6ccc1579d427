# test/t/510_redirect_statements.pl
#
# Statements of every kind, values of every type and the settings of the
# session, redirected.  Replay stands still behind changes of the primary, so
# nothing here can be answered from the standby.  Each statement is sent to the
# standby and to the primary, in the same words and by the same messages, and
# the two must tell their clients the same: columns, rows, tags, errors and
# notices.  What has to stay on the standby is not redirected.  Where the
# primary has other columns than the client was promised, there is an error, and
# never a row.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsRedirect;
use TcsTest;
use TcsTranscript;
use TcsWire;

my ($primary, $standby) = new_pair(init => { extra => [ "--encoding=UTF8", "--locale=C" ] });
my $version = server_version($primary);

# Prepared while there was no server to redirect to.
my $early = TcsWire->new($standby);

$primary->safe_psql(
	'postgres', q{
CREATE ROLE alice;
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'old' FROM generate_series(1, 100) i;
CREATE TABLE one (a int);
CREATE VIEW t_view AS SELECT id, v FROM t;
CREATE SCHEMA other;
CREATE TABLE other.t (id int PRIMARY KEY, v text);
CREATE TABLE big (a int, filler text);
CREATE TABLE measure (
	at timestamptz, day date, took interval, amount float8, small float4,
	raw bytea, price money, doc xml, n numeric, words text);
CREATE TABLE fine (
	vc varchar(5), nu numeric(6,2), ch char(3), bi bit(4), ts timestamp(3),
	ti time(2), iv interval day to second(2), vcs varchar(4)[]);
CREATE TYPE mood AS ENUM ('sad', 'fine');
CREATE TYPE pair AS (a int, b text);
CREATE TYPE named AS (a int, c regclass);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN short AS varchar(3);
CREATE DOMAIN shorts AS short[];
CREATE DOMAIN checked_pair AS pair CHECK ((VALUE).a > 0);
CREATE DOMAIN must AS int NOT NULL;
CREATE DOMAIN late AS int;
CREATE TYPE late_pair AS (a late, b text);
CREATE TYPE nested AS (p pair, ps pair[], m mood, d positive);
CREATE TYPE plain;
CREATE FUNCTION plain_in(cstring) RETURNS plain IMMUTABLE STRICT LANGUAGE internal AS 'textin';
CREATE FUNCTION plain_out(plain) RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS 'textout';
CREATE TYPE plain (INPUT = plain_in, OUTPUT = plain_out);
CREATE TYPE with_plain AS (a int, p plain);
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
CREATE TYPE moodrange AS RANGE (subtype = mood);
CREATE FUNCTION v_of(int) RETURNS text LANGUAGE sql STABLE
	AS 'SELECT v FROM public.t WHERE id = $1';
CREATE FUNCTION id_of(text) RETURNS int LANGUAGE plpgsql STABLE
	AS 'BEGIN RETURN (SELECT min(id) FROM public.t WHERE v = $1); END';
CREATE FUNCTION pairs() RETURNS SETOF pair LANGUAGE sql STABLE
	AS 'SELECT id, v FROM public.t WHERE id < 4 ORDER BY id';
CREATE FUNCTION pair_out(OUT a int, OUT b text) LANGUAGE sql STABLE
	AS 'SELECT id, v FROM public.t WHERE id = 2';
CREATE FUNCTION by_path() RETURNS text LANGUAGE plpgsql STABLE
	AS 'BEGIN RETURN (SELECT max(v) FROM t); END';
CREATE FUNCTION tells() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'one of %', (SELECT v FROM public.t WHERE id = 1)
		USING DETAIL = 'its detail', HINT = 'its hint';
	RAISE WARNING 'another' USING ERRCODE = '01ABC';
	RETURN 1;
END$$;
CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'about to fail';
	RAISE EXCEPTION 'no luck' USING ERRCODE = 'ZZ123', DETAIL = 'why', HINT = 'do',
		COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 'd', TABLE = 't', SCHEMA = 's';
END$$;
CREATE FUNCTION sets(name text, local bool) RETURNS text LANGUAGE plpgsql
	AS 'BEGIN RETURN set_config(name, ''changed'', local); END';
CREATE FUNCTION sets_and_restores() RETURNS text LANGUAGE plpgsql
	SET work_mem = '1MB' AS 'BEGIN RETURN (SELECT v FROM public.t WHERE id = 1); END';
CREATE FUNCTION public.plus(text, text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $2 || $1';
CREATE OPERATOR public.+ (LEFTARG = text, RIGHTARG = text, FUNCTION = public.plus);
CREATE AGGREGATE public.last_of(text) (SFUNC = pg_catalog.textcat, STYPE = text, INITCOND = '');
CREATE VIEW who_is_here AS SELECT pid, state FROM pg_stat_activity;
CREATE VIEW v_and_who AS SELECT t.v, a.pid FROM t, pg_stat_activity a WHERE t.id = 1;
CREATE VIEW recovers AS SELECT pg_is_in_recovery() AS r, v FROM t WHERE id = 1;
CREATE TABLE of_x (owner text, v text);
CREATE POLICY own ON of_x USING (owner = current_setting('app.x', true));
ALTER TABLE of_x ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON of_x, t, one TO alice;
CREATE STATISTICS t_stat (ndistinct, dependencies, mcv) ON id, v FROM t;
ANALYZE t;
CREATE TABLE s_add (a int, b text);
CREATE TABLE s_type (a int, b int);
CREATE TABLE s_typmod (a int, b varchar(10));
CREATE TABLE s_wider (a int, b varchar(10));
CREATE TABLE s_drop (a int, b text);
CREATE TABLE s_again (a int, b text);
CREATE TABLE s_name (a int, b text);
CREATE TABLE s_label (a int, m mood);
CREATE TABLE s_pair (a int, p pair);
CREATE TABLE s_part (a int, b text) PARTITION BY LIST (a);
CREATE TABLE s_part1 PARTITION OF s_part FOR VALUES IN (1);
CREATE VIEW s_view AS SELECT 'old'::text AS w, a FROM s_add;
CREATE TABLE has_late (d late, ds late[], p late_pair, ps late_pair[]);
INSERT INTO has_late VALUES (-1, '{-1,NULL}', (-1, 'x'), '{"(-2,y)",NULL}');
ALTER DOMAIN late ADD CHECK (value > 0) NOT VALID;
INSERT INTO s_add VALUES (1, 'old');
INSERT INTO s_type VALUES (1, 1);
INSERT INTO s_typmod VALUES (1, 'old');
INSERT INTO s_wider VALUES (1, 'old');
INSERT INTO s_drop VALUES (1, 'old');
INSERT INTO s_again VALUES (1, 'old');
INSERT INTO s_name VALUES (1, 'old');
INSERT INTO s_label VALUES (1, 'sad');
INSERT INTO s_pair VALUES (1, (1, 'old'));
INSERT INTO s_part VALUES (1, 'old');
});
wait_for_replay($primary, $standby);
$early->parse('early', 'SELECT v FROM t WHERE id = $1')->sync;
$early->results;
$early->ok_query('PREPARE early_sql AS SELECT v FROM t WHERE id = 1');

redirect_to($primary);
wait_for_replay($primary, $standby);
pause_replay($standby);

my $token = write_token(
	$primary, q{
UPDATE t SET v = 'new' WHERE id <= 3;
SELECT lo_from_bytea(0, 'large');
INSERT INTO one VALUES (1);
INSERT INTO other.t VALUES (1, 'elsewhere');
INSERT INTO big SELECT i, repeat('x', 20) FROM generate_series(1, 20000) i;
INSERT INTO measure VALUES
	('2024-06-01 12:34:56.789+00', '2024-02-29', '1 year -2 days 03:04:05.6',
	 0.1::float8 + 0.2, 1.1, '\x00ff5c41', '1234.56', '<a>b</a>', 1.50, 'running quickly'),
	('-infinity', 'infinity', '-1 mon', 'NaN', '-Infinity', '', '-0.01', '<c/>', 'NaN', '');
INSERT INTO fine VALUES ('abc', 1.5, 'x', '1010', '2024-01-02 03:04:05.678',
	'10:11:12.34', '2 days 01:02:03.45', '{ab,cd}');
INSERT INTO of_x VALUES ('joe', 'of joe'), ('ann', 'of ann')});

my $on_primary = TcsTranscript->new($primary);
my $on_standby = TcsTranscript->new($standby);
my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

foreach my $client ($on_standby, $early)
{
	$client->ok_query("SET tcs.session_token = '$token'; SET tcs.redirect_after = 0; SET tcs.max_wait = 10");
}

# The same on both nodes, and redirected (or not, with redirect => 0).
sub same
{
	my ($name, $send, %opt) = @_;
	my $before = redirected($look);
	my $expected = transcript($on_primary, $send);
	my $got = transcript($on_standby, $send);
	my $went = redirected($look) - $before > 0 ? 'redirected' : 'not redirected';

	return is("$got\n$went",
		"$expected\n" . ($opt{redirect} // 1 ? 'redirected' : 'not redirected'),
		$name);
}

# The statement is not redirected; what comes of it is the regexp.
sub stays
{
	my ($name, $sql, $expected) = @_;
	my $before = redirected($look);
	my $got = transcript($on_standby, $sql);

	$on_standby->query('ROLLBACK') if $on_standby->status ne 'I';
	is(redirected($look) - $before, 0, "$name: is not redirected");
	return like($got, $expected, "$name: answer");
}


##
## Kinds of statements
##

is(TcsWire::describe_result($early->ok_query('EXECUTE early_sql') eq 'new'
		? { state => '00000', rows => [ ['new'] ] }
		: { state => 'wrong', error => {} }),
	'new', 'EXECUTE of what was prepared before there was a server');
is( join(' ', map { TcsWire::describe_result($_) }
		  $early->bind('', 'early', 2)->execute('')->sync->results),
	'new', 'a statement of the protocol prepared before there was a server');

# What is sent may be long; only the primary's own answers may not.
my $long = 'x' x 2_500_000;

both($on_primary, $on_standby, q{SET tcs.redirect_timeout = '180s'});

same('a long text', "SELECT count(*) FROM t WHERE v <> '$long'");
same('a long list', 'SELECT count(*) FROM t WHERE id IN (' . join(',', 1 .. 300_000) . ')');
same('a long parameter',
	"PREPARE long(text) AS SELECT count(*) FROM t WHERE v <> \$1; EXECUTE long('$long$long'); DEALLOCATE long");
both($on_primary, $on_standby, "SET app.long = '$long'");
same('a long setting', 'SELECT count(*) FROM t');
both($on_primary, $on_standby, 'RESET app.long; RESET tcs.redirect_timeout');

# What the primary returns is no error, whatever the constraints of its domain.
same('values older than a constraint of their domain', 'SELECT d, ds, p, ps, h FROM has_late h');
same('a cursor over them', 'BEGIN; DECLARE c CURSOR FOR SELECT p, h FROM has_late h; FETCH c; COMMIT');
same('NULL of a domain that is NOT NULL', 'SELECT (SELECT 5::must WHERE id < 0) FROM t WHERE id = 1');

my $lo = $on_primary->ok_query(q{SELECT oid FROM pg_largeobject_metadata});
my %kinds = (
	'a row' => 'SELECT v FROM t WHERE id = 1',
	'all columns' => 'SELECT * FROM t WHERE id < 6 ORDER BY id',
	'no row' => 'SELECT v FROM t WHERE id = 0',
	'no column' => 'SELECT FROM t WHERE id < 4',
	'TABLE' => 'TABLE one',
	'VALUES' => 'VALUES ((SELECT v FROM t WHERE id = 1)), (NULL)',
	'a view' => 'SELECT * FROM t_view WHERE id < 5 ORDER BY 1',
	'a CTE' => 'WITH c AS MATERIALIZED (SELECT * FROM t WHERE id < 3) SELECT * FROM c a JOIN c b USING (id) ORDER BY 1',
	'a recursive CTE' => 'WITH RECURSIVE r(i, v) AS (SELECT 1, v::varchar(9) FROM t WHERE id = 1 UNION ALL SELECT i + 1, r.v FROM r WHERE i < 4) SELECT * FROM r ORDER BY i',
	'outer joins' => 'SELECT a.id, b.v, c.* FROM t a LEFT JOIN (t b FULL JOIN one c ON c.a = b.id) ON b.id = a.id + 1 WHERE a.id < 4 ORDER BY 1',
	'a natural join' => 'SELECT * FROM t NATURAL JOIN t_view WHERE id < 3 ORDER BY id',
	'LATERAL' => 'SELECT * FROM one, LATERAL (SELECT v FROM t WHERE id = a) x',
	'set operations' => '(SELECT v FROM t WHERE id < 9 EXCEPT ALL SELECT v FROM t WHERE id = 1) INTERSECT (SELECT v FROM t_view) UNION ALL SELECT NULL ORDER BY 1',
	'grouping sets' => 'SELECT v, id % 2, count(*), grouping(v) FROM t WHERE id < 8 GROUP BY CUBE (v, id % 2) HAVING count(*) > 0 ORDER BY 1, 2, 3',
	'window functions' => q{SELECT id, v, rank() OVER w, lag(v, 1, 'none') OVER w, count(*) FILTER (WHERE id > 2) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t WHERE id < 6 WINDOW w AS (PARTITION BY v ORDER BY id) ORDER BY id},
	'ordered sets' => 'SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY v), mode() WITHIN GROUP (ORDER BY v) FROM t',
	'DISTINCT ON' => 'SELECT DISTINCT ON (v) v, id FROM t ORDER BY v, id DESC',
	'ORDER BY what an output column is named like' => 'SELECT -id AS id, v FROM t ORDER BY t.id LIMIT 3',
	'ORDER BY an output column' => 'SELECT -id AS id, v FROM t ORDER BY id LIMIT 3',
	'ORDER BY an expression' => 'SELECT -id AS id, v FROM t ORDER BY id + 0 DESC, t.id % 3 LIMIT 3',
	'GROUP BY what an output column is named like' => 'SELECT min(id) AS id, v AS w, count(*) AS v FROM t GROUP BY t.v ORDER BY 2',
	'DISTINCT ON what an output column is named like' => 'SELECT DISTINCT ON (t.v) t.v, id % 2 AS v, -id AS id FROM t ORDER BY t.v, t.id',
	'LIMIT and OFFSET' => 'SELECT * FROM t ORDER BY id OFFSET 1 LIMIT 3',
	'WITH TIES' => 'SELECT id, v FROM t ORDER BY v FETCH FIRST 2 ROWS WITH TIES',
	'TABLESAMPLE' => 'SELECT count(*) FROM t TABLESAMPLE system (100) REPEATABLE (1)',
	'subqueries' => 'SELECT (SELECT max(v) FROM t), ARRAY(SELECT id FROM t WHERE v = $$new$$ ORDER BY 1), EXISTS (SELECT FROM t WHERE v = $$new$$), 3 = ANY (SELECT id FROM t)',
	'an SQL function' => 'SELECT v_of(1), v_of(50)',
	'a PL/pgSQL function' => q{SELECT id_of('new'), id_of('nothing')},
	'set-returning functions' => 'SELECT generate_series(id, 3), v FROM t WHERE id < 3 ORDER BY 2, 1',
	'a function in FROM' => 'SELECT * FROM pairs()',
	'a function of rows' => 'SELECT pairs()',
	'ROWS FROM' => 'SELECT * FROM ROWS FROM (pairs(), generate_series(1, 4)) WITH ORDINALITY AS f(a, b, c, d), one',
	'output parameters' => 'SELECT * FROM pair_out()',
	'fields of a row' => 'SELECT (p).b, (p).* FROM (SELECT pairs() AS p) x',
	'a whole row' => 'SELECT t, t.* FROM t WHERE id < 3 ORDER BY id',
	'a row to JSON' => 'SELECT row_to_json(t), json_agg(t) OVER () FROM t WHERE id < 3',
	'system columns' => 'SELECT tableoid, ctid, xmin FROM t WHERE id = 1',
	'an operator of the user' => q{SELECT v OPERATOR(public.+) 'x', v + 'y' FROM t WHERE id = 1},
	'an aggregate of the user' => 'SELECT last_of(v ORDER BY id) FROM t WHERE id < 5',
	'a collation' => 'SELECT v COLLATE "C" FROM t WHERE id < 3 ORDER BY v COLLATE "POSIX", id',
	'casts and CASE' => q{SELECT CASE id WHEN 1 THEN 1.5 ELSE id END, nullif(v, 'new'), coalesce(v, ''), greatest(id, 2), v IS DISTINCT FROM 'old' FROM t WHERE id < 3 ORDER BY id},
	'special names' => 'SELECT v AS "Größe ""x""", id AS "select" FROM t AS "T" WHERE id = 1',
	'strings' => q{SELECT v, 'it''s \ one', E'a\nb\\\\', U&'\00e9', $q$x'y$q$, B'101', X'1f' FROM t WHERE id = 1},
	'a comment and a semicolon' => "/* head */ SELECT v -- tail\nFROM t WHERE id = 1 ;",
	'the last of a string' => q{SELECT 'ä', v FROM t WHERE id = 1; SELECT 'ö', v FROM t WHERE id = 2},
	'catalogs' => q{SELECT relname, relkind, relacl FROM pg_class WHERE relname LIKE 's_t%' ORDER BY 1},
	'information schema' => q{SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 't' AND table_schema = 'public' ORDER BY 1},
	'objects by name' => q{SELECT 't'::regclass, tableoid::regclass, 'int'::regtype, 'v_of'::regproc, 'other'::regnamespace FROM one},
	'overloaded functions' => q{SELECT oid::regproc, oid::regprocedure FROM pg_proc WHERE proname IN ('abs', 'v_of') ORDER BY pg_proc.oid},
	'overloaded operators' => q{SELECT oid::regoper, oid::regoperator FROM pg_operator WHERE oprname IN ('||/', '+') ORDER BY pg_operator.oid LIMIT 5},
	'objects that are not there' => q{SELECT 0::regclass, 4000000000::oid::regclass, 4000000000::oid::regtype, 4000000000::oid::regproc, 4000000000::oid::regrole FROM one},
	'rights' => q{SELECT has_table_privilege('alice', 't', 'SELECT'), has_table_privilege('alice', 'big', 'SELECT') FROM one},
	'who I am' => 'SELECT current_user, session_user, current_role, current_database(), current_schema FROM one',
	'a large result' => 'SELECT * FROM big ORDER BY a',
	'void' => 'SELECT pg_sleep(0) FROM one',
	'SEARCH and CYCLE' => 'WITH RECURSIVE r(i, v) AS (SELECT 1, v FROM t WHERE id = 1 UNION ALL SELECT t.id, t.v FROM t, r WHERE t.id = r.i % 3 + 1) SEARCH DEPTH FIRST BY i SET o CYCLE i SET c USING p SELECT i, v, c FROM r ORDER BY i, c',
	'aliases of columns' => 'SELECT j.*, u.id FROM ((t AS x(k, w) JOIN one ON a = k) AS j(b, c, d) JOIN (t JOIN t_view USING (id) AS u) ON u.id = b)',
	'columns of one name' => 'SELECT x.* FROM (SELECT id, id, v AS id FROM t WHERE id = 1) x',
	'columns of one name in a CTE' => 'WITH c AS (SELECT a.*, b.* FROM t a, t b WHERE a.id = 1 AND b.id = 9) SELECT * FROM c',
	'a function with a list of columns' => q{SELECT x.*, v FROM t, json_to_record('{"a":1,"b":[2]}') AS x(a int, b text) WHERE id = 1},
	'XMLTABLE' => q{SELECT x.*, v FROM t, XMLTABLE('/r/a' PASSING xml '<r><a b="1">x</a><a b="2"/></r>' COLUMNS n FOR ORDINALITY, b int PATH '@b', c text PATH '.' DEFAULT 'none') x WHERE id = 1},
	'XML and JSON' => q{SELECT xmlelement(name a, xmlattributes(id AS "I"), v), xmlforest(v), jsonb_path_query_array('[1,2]', '$[*] ? (@ > $x)', jsonb_build_object('x', id)), json_object_agg(id, v) OVER () FROM t WHERE id = 1},
	'frames' => q{SELECT id, sum(id) OVER (ORDER BY id GROUPS 1 PRECEDING), count(*) OVER (ORDER BY day RANGE BETWEEN '1 day'::interval PRECEDING AND CURRENT ROW) FROM t, measure WHERE id < 4 ORDER BY 1, 2, 3},
	'named and variadic arguments' => q{SELECT make_interval(days => id, hours => 2), format('%s %s', VARIADIC ARRAY[v, 'x']), concat_ws(',', v, id) FROM t WHERE id = 1},
	'SQL functions with words' => q{SELECT substring(v FROM 1 FOR 2), position('e' IN v), trim(BOTH 'n' FROM v), overlay(v PLACING 'x' FROM 1), extract(year FROM timestamp '2001-02-03'), timestamptz '2001-02-03 04:05+00' AT TIME ZONE 'UTC', (date '2001-01-01', interval '1 day') OVERLAPS (date '2001-01-01', date '2001-01-03'), collation for (v), normalize(v), v SIMILAR TO 'n%', v LIKE 'n!%' ESCAPE '!', v IS NORMALIZED FROM t WHERE id = 1},
	'rows and arrays compared' => q{SELECT (id, v) < (2, 'x'), (id, v) IN (SELECT id, v FROM t), id = ANY ('{1,2}'), (ARRAY[[1,2],[3,4]])[1:2][id:], ROW(id, NULL) IS NULL, id BETWEEN SYMMETRIC 3 AND 1 FROM t WHERE id < 3 ORDER BY id NULLS FIRST, v USING >},
	'ONLY' => 'SELECT count(*) FROM ONLY s_part, one',
	'a correlated subquery' => 'SELECT id, (SELECT count(*) FROM t b WHERE b.v = a.v AND b.id <= a.id) FROM t a WHERE a.id IN (SELECT c.id FROM t c WHERE c.v = a.v AND c.id < 6) ORDER BY id',
	'a subquery ordered by what a column is named like' => 'SELECT x.* FROM (SELECT -id AS id, v FROM t ORDER BY t.id LIMIT 2) x ORDER BY 1',
	'many columns' => 'SELECT ' . join(', ', map { "id + $_ AS c$_" } 1 .. 1600) . ' FROM t WHERE id = 1',
	'a large value' => q{SELECT repeat(v, 1000000), md5(repeat(v, 1000000)) FROM t WHERE id = 1},
	'a large object' => "SELECT lo_get($lo), v FROM t WHERE id = 1",
	'a type without binary form' => q{SELECT 'a"b'::plain, ARRAY['x', NULL]::plain[], ROW(1, 'y')::with_plain, v FROM t WHERE id = 1},
	'zero divisor' => 'SELECT 1 / (a - 1) FROM one',
	'an error after rows' => 'SELECT 1 / (a - 900) FROM big WHERE a < 1000 ORDER BY a',
	'a function that fails' => 'SELECT fails() FROM one',
	'notices' => 'SELECT tells(), v FROM t WHERE id < 3',
	'a value that does not fit' => 'SELECT (a * 40000)::smallint FROM one',
	'a name in the primary only' => 'SELECT v FROM t WHERE id = 1 AND nothing.v = v',
	'COPY' => 'COPY (SELECT * FROM t WHERE id < 5 ORDER BY id) TO STDOUT',
	'COPY, CSV' => q{COPY (SELECT id AS "the id", v, NULL FROM t WHERE id < 5 ORDER BY id) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)},
	'COPY, binary' => 'COPY (SELECT * FROM t WHERE id < 5 ORDER BY id) TO STDOUT (FORMAT binary)',
	'COPY, large' => 'COPY (SELECT * FROM big ORDER BY a) TO STDOUT',
	'COPY, an error' => 'COPY (SELECT 1 / (a - 900) FROM big WHERE a < 1000 ORDER BY a) TO STDOUT',
);

# These fail before they come to the gate.
my %not_gated = map { $_ => 1 } ('a name in the primary only');

foreach my $name (sort keys %kinds)
{
	same($name, $kinds{$name}, redirect => !$not_gated{$name});
}

# The columns a client is promised have a length or precision.
my $fine = 'FROM fine';
my @modified = (
	"SELECT * $fine",
	"SELECT coalesce(vc, vc), nullif(nu, 0), CASE WHEN true THEN ch END, greatest(ts, ts), vcs[1] $fine",
	"SELECT vc $fine UNION SELECT vc $fine",
	"SELECT vc $fine UNION ALL SELECT 'longer than five' $fine",
	"SELECT (SELECT vc $fine), (ARRAY[vc, vc])[1], ROW(vc, nu) = ROW(vc, nu) $fine",
	"WITH c AS (SELECT * $fine) SELECT c.*, c.vc || 'x' FROM c JOIN fine USING (vc)",
	"SELECT 'abcdef'::varchar(4), 1.555::numeric(3,1), 'a'::char(3), '101'::bit(3), '1 day 02:03'::interval day, now()::timestamp(0) > '2000-01-01' FROM one",
	"VALUES ('a'::varchar(5), (SELECT vc $fine)), ('b', 'c')",
	"SELECT max(vc), min(nu), array_agg(ti) $fine",
	"SELECT f FROM fine f",
);

same("columns with a length ($_)", $modified[$_]) foreach 0 .. $#modified;


##
## The extended protocol
##

same('parameters as text',
	sub { $_[0]->parse('', 'SELECT v, $2 FROM t WHERE id = $1 AND $2 <> v')
		->describe('S', '')->bind('', '', 1, 'x')->describe('P', '')->execute('')->sync });
same('a parameter that is null',
	sub { $_[0]->parse('', 'SELECT v, $1::int FROM t WHERE id = 1')
		->bind('', '', undef)->describe('P', '')->execute('')->sync });
same('parameters and results in binary',
	sub { bind_as($_[0]->parse('', 'SELECT id, v, $2::float8 FROM t WHERE id = $1'),
			'', '', 1, \pack('N', 2), \pack('d>', 1.5))->describe('P', '')->execute('')->sync });
same('a damaged binary parameter',
	sub { bind_as($_[0]->parse('', 'SELECT v FROM t WHERE id = $1'), '', '', 1, \'xy')
		->execute('')->sync }, redirect => 0);
same('a portal with a row limit',
	sub { $_[0]->parse('', 'SELECT * FROM t WHERE id < 8 ORDER BY id')->bind('p', '')
		->execute('p', 3)->execute('p', 3)->execute('p', 3)->execute('p', 3)->sync });
same('a portal in large chunks, read half',
	sub { $_[0]->parse('', 'SELECT * FROM big ORDER BY a')->bind('p', '')
		->execute('p', 7000)->execute('p', 1)->sync });
same('two portals by turns',
	sub { $_[0]->parse('a', 'SELECT a FROM big ORDER BY a')->parse('b', 'SELECT id, v FROM t ORDER BY id')
		->bind('p', 'a')->bind('q', 'b')->execute('p', 2)->execute('q', 2)
		->execute('p', 2)->execute('q', 2)->execute('p', 2)->close_object('S', 'a')
		->close_object('S', 'b')->sync });
same('a pipeline',
	sub { $_[0]->extended('SELECT v FROM t WHERE id = $1', 1)
		->extended('SELECT count(*) FROM big')->extended('SELECT v FROM t WHERE id = $1', 2)->sync });
same('an error in a pipeline',
	sub { $_[0]->extended('SELECT v FROM t WHERE id = $1', 1)->extended('SELECT 1 / (a - 1) FROM one')
		->extended('SELECT v FROM t WHERE id = $1', 2)->sync });
same('a statement after it', 'SELECT v FROM t WHERE id = 2');

foreach my $mode (qw(auto force_generic_plan force_custom_plan))
{
	both($on_primary, $on_standby, "SET plan_cache_mode = $mode");
	transcript($_, sub { $_[0]->parse("s_$mode", 'SELECT v, $2::text FROM t WHERE id = $1')->sync })
	  foreach $on_primary, $on_standby;
	same("prepared, execution $_, $mode",
		sub { bind_as($_[0], '', "s_$mode", $_ % 2, $_, "x$_")->describe('P', '')->execute('')->sync })
	  foreach 1 .. 8;
	both($on_primary, $on_standby, "PREPARE q_$mode (int, text) AS SELECT v, \$2 FROM t WHERE id = \$1");
	same("EXECUTE, execution $_, $mode", "EXECUTE q_$mode ($_, 'x' || $_)") foreach 1 .. 8;
}
both($on_primary, $on_standby, 'RESET plan_cache_mode');

# What is sent and not wanted after all.
transcript($_, sub { $_[0]->parse('unwanted', 'SELECT v FROM t WHERE id = $1')->sync })
  foreach $on_primary, $on_standby;
same('a portal that is bound and not executed', sub {
	my ($client) = @_;

	# until the primary has run the statement that was sent to it
	$client->bind('p', 'unwanted', 1)->describe('P', 'p')->ask->flush;
	$primary->poll_query_until('postgres',
		q{SELECT coalesce(bool_and(state = 'idle'), true) FROM pg_stat_activity WHERE application_name = 'tcs'});
	$client->close_object('P', 'p')->sync;
});
same("its statement, used later, time $_",
	sub { $_[0]->bind('p', 'unwanted', 2)->describe('P', 'p')->execute('p')->sync })
  foreach 1 .. 3;
transcript($_, sub { $_[0]->parse('failed', 'SELECT 10 / ($1 - a) FROM one')->sync })
  foreach $on_primary, $on_standby;
same("a prepared statement, divisor $_ - 1",
	sub { $_[0]->bind('', 'failed', $_)->execute('')->sync })
  foreach 1, 1, 2, 1, 3;
both($on_primary, $on_standby, 'PREPARE mine AS SELECT v FROM t WHERE id = 1');
same('EXECUTE before its name is used again', 'EXECUTE mine');
both($on_primary, $on_standby, 'DEALLOCATE mine; PREPARE mine AS SELECT count(*), max(v) FROM t');
same('EXECUTE of a name used again', 'EXECUTE mine');
both($on_primary, $on_standby, 'SET search_path = other, public');
same('the same under another search_path', 'EXECUTE mine');
both($on_primary, $on_standby, 'DEALLOCATE mine; PREPARE mine AS SELECT v FROM t WHERE id = 1');
same('EXECUTE in another search_path', 'EXECUTE mine');
both($on_primary, $on_standby, 'RESET search_path; DEALLOCATE mine');

# A constant means what it meant when the statement was prepared.
my %read_by = (
	"DateStyle = 'ISO, MDY'" => [ "DateStyle = 'ISO, DMY'", q{'01/02/2023'::date} ],
	"TimeZone = 'UTC'" => [ "TimeZone = 'Asia/Tokyo'", q{extract(epoch FROM '2024-01-01 00:00'::timestamptz)} ],
	"IntervalStyle = 'postgres'" => [ "IntervalStyle = 'sql_standard'", q{extract(epoch FROM '-1 2:00'::interval)} ],
	'transform_null_equals = off' => [ 'transform_null_equals = on', 'v = NULL' ],
	'standard_conforming_strings = on' => [ 'standard_conforming_strings = off', q{length('a\tb')} ],
);

foreach my $setting (sort keys %read_by)
{
	my ($later, $constant) = @{ $read_by{$setting} };
	my ($name) = $setting =~ /^(\w+)/;
	my $sql = "SELECT $constant, v FROM t WHERE id = 1";

	next if $version >= 19 && $name eq 'standard_conforming_strings';
	both($on_primary, $on_standby, 'SET escape_string_warning = off') if $version < 19;
	both($on_primary, $on_standby, "SET $setting");
	both($on_primary, $on_standby, "PREPARE at_once AS $sql; PREPARE later AS $sql");
	transcript($_, sub { $_[0]->parse("read_by_$name", $sql)->sync }) foreach $on_primary, $on_standby;
	same("$name, EXECUTE", 'EXECUTE at_once');
	both($on_primary, $on_standby, "SET $later");
	same("$name has changed, EXECUTE again", 'EXECUTE at_once');
	same("$name has changed, EXECUTE", 'EXECUTE later');
	same("$name has changed, a statement of the protocol", sub { $_[0]->bind('', "read_by_$name")->execute('')->sync });
	both($on_primary, $on_standby, "DEALLOCATE at_once; DEALLOCATE later; RESET $name");
	both($on_primary, $on_standby, 'RESET escape_string_warning') if $version < 19;
}

# Arguments of EXECUTE are evaluated here.
both($on_primary, $on_standby, 'PREPARE text_of (text) AS SELECT $1, v FROM t WHERE id = 1');
same('EXECUTE with arguments', q{EXECUTE text_of ('x' || upper('y'))});
stays('an argument that reads', 'EXECUTE text_of (v_of(1))', qr/error \| .* C: TC001/);
stays('an argument that reads, EXPLAIN', 'EXPLAIN ANALYZE EXECUTE text_of (v_of(1))',
	qr/error \| .* C: TC001/);


##
## Cursors
##

my %cursors = (
	'plain' => [ '', 'FETCH 2 FROM c', 'FETCH c', 'MOVE 1 FROM c', 'FETCH 100 FROM c', 'FETCH c' ],
	'SCROLL' => [
		'SCROLL', 'FETCH 3 FROM c', 'FETCH PRIOR FROM c', 'FETCH LAST FROM c',
		'FETCH BACKWARD 2 FROM c', 'FETCH ABSOLUTE 1 FROM c', 'FETCH ABSOLUTE -2 FROM c',
		'FETCH RELATIVE -3 FROM c', 'MOVE FIRST FROM c', 'FETCH ALL FROM c',
		'FETCH BACKWARD ALL FROM c', 'FETCH FIRST FROM c' ],
	'NO SCROLL' => [ 'NO SCROLL', 'FETCH 2 FROM c', 'FETCH ALL FROM c', 'FETCH PRIOR FROM c' ],
	'NO SCROLL, to its start' => [ 'NO SCROLL', 'FETCH FIRST FROM c', 'FETCH 2 FROM c', 'FETCH FIRST FROM c' ],
	'BINARY' => [ 'BINARY', 'FETCH 2 FROM c' ],
	'not asked to scroll, backward' => [ '', 'FETCH 2 FROM c', 'FETCH PRIOR FROM c', 'FETCH 2 FROM c' ],
);

foreach my $name (sort keys %cursors)
{
	my ($how, @fetches) = @{ $cursors{$name} };

	same("cursor, $name",
		join(';', 'BEGIN', "DECLARE c $how CURSOR FOR SELECT id, v FROM t WHERE id < 9 ORDER BY id", @fetches));
	both($on_primary, $on_standby, 'ROLLBACK');
}
same('a cursor WITH HOLD', join(';', 'BEGIN',
	'DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT id, v FROM t WHERE id < 9 ORDER BY id',
	'FETCH 2 FROM c', 'COMMIT', 'FETCH 2 FROM c', 'FETCH PRIOR FROM c'));
same('what is left of it', 'FETCH ALL FROM c; CLOSE c', redirect => 0);
same('a cursor WITH HOLD in autocommit', 'DECLARE c CURSOR WITH HOLD FOR SELECT a FROM big ORDER BY a');
same('what it holds', 'FETCH 3 FROM c; MOVE 19000 FROM c; FETCH 2 FROM c; CLOSE c', redirect => 0);
same('a cursor WITH HOLD that fails at commit', join(';', 'BEGIN',
	'DECLARE c CURSOR WITH HOLD FOR SELECT 1 / (a - 900) FROM (SELECT a FROM big ORDER BY a OFFSET 0) x', 'FETCH 2 FROM c', 'COMMIT'));
both($on_primary, $on_standby, 'ROLLBACK');
same('cursors by turns, and a statement between', join(';', 'BEGIN',
	'DECLARE c CURSOR FOR SELECT a FROM big ORDER BY a', 'FETCH 2 FROM c',
	'DECLARE d CURSOR FOR SELECT v FROM t ORDER BY id', 'FETCH 2 FROM d', 'FETCH 2 FROM c',
	'SELECT count(*) FROM big', 'FETCH 2 FROM d', 'MOVE 5000 FROM c', 'FETCH 1 FROM c',
	'CLOSE c', 'FETCH 1 FROM d', 'COMMIT'));
same('a cursor, its rows put away, in chunks',
	join(';', 'BEGIN', 'DECLARE c CURSOR FOR SELECT * FROM big ORDER BY a',
		map { ('FETCH 3000 FROM c', 'SELECT v FROM t WHERE id = 1') } 1 .. 7));
both($on_primary, $on_standby, 'COMMIT');
both($on_primary, $on_standby, "SET work_mem = '64kB'");
same('a cursor WITH HOLD, its rows put away', join(';', 'BEGIN',
	'DECLARE c CURSOR WITH HOLD FOR SELECT * FROM big ORDER BY a', 'FETCH 2 FROM c', 'SELECT count(*) FROM t',
	'FETCH 2 FROM c', 'COMMIT', 'FETCH 2 FROM c', 'MOVE 15000 FROM c', 'FETCH 1 FROM c', 'CLOSE c'));
both($on_primary, $on_standby, 'ROLLBACK');
same('a cursor, its rows put away in a savepoint that is rolled back', join(';', 'BEGIN',
	'DECLARE c SCROLL CURSOR FOR SELECT * FROM big ORDER BY a', 'FETCH 2 FROM c', 'SAVEPOINT a', 'SELECT count(*) FROM t',
	'FETCH 2 FROM c', 'ROLLBACK TO a', 'FETCH 2 FROM c', 'MOVE 15000 FROM c', 'FETCH 1 FROM c', 'FETCH BACKWARD 3 FROM c', 'COMMIT'));
both($on_primary, $on_standby, 'ROLLBACK; RESET work_mem');
same('a cursor that is going to fail, and other statements', join(';', 'BEGIN',
	'DECLARE c CURSOR FOR SELECT 1 / (a - 9000) FROM (SELECT a FROM big ORDER BY a OFFSET 0) x', 'FETCH 2 FROM c',
	'SELECT v FROM t WHERE id = 1', 'FETCH 1 FROM c', 'CLOSE c', 'SELECT v FROM t WHERE id = 2', 'COMMIT'));
both($on_primary, $on_standby, 'ROLLBACK');
same('DECLARE with parameters', sub {
	$_[0]->simple('BEGIN');
	$_[0]->results;
	$_[0]->extended('DECLARE c CURSOR FOR SELECT v, $2::text FROM t WHERE id = $1', 1, 'x')
	  ->extended('FETCH ALL FROM c')->extended('COMMIT')->sync;
});
same('a portal of the protocol, by FETCH', sub {
	$_[0]->simple('BEGIN');
	$_[0]->results;
	$_[0]->parse('', 'SELECT id, v FROM t ORDER BY id')->bind('p', '')->execute('p', 1)
	  ->extended('FETCH 2 FROM p')->execute('p', 1)->extended('ROLLBACK')->sync;
});


##
## EXPLAIN
##

my $before_explain = redirected($look);
my $plan = $on_standby->ok_query('EXPLAIN SELECT v FROM t_view WHERE id = 1');

like($plan, qr/Custom Scan \(TcsRedirect\)/, 'EXPLAIN shows the node');
like($plan, qr/Server: tcs_primary\b/, 'EXPLAIN shows the server');
like($plan, qr/Remote SQL: .*FROM t_view/s, 'EXPLAIN shows what is sent');
like($plan, qr/Reason: behind at level session/, 'EXPLAIN shows why');
is(redirected($look) - $before_explain, 0, 'EXPLAIN without ANALYZE does not count as a read');
foreach my $options ('VERBOSE', 'COSTS off, SETTINGS, SUMMARY', 'FORMAT JSON', 'FORMAT XML', 'FORMAT YAML, VERBOSE')
{
	like($on_standby->ok_query("EXPLAIN ($options) SELECT v, 't'::regclass FROM t WHERE id = 1"),
		qr/TcsRedirect/, "EXPLAIN ($options)");
}
foreach my $options ('ANALYZE', 'ANALYZE, VERBOSE, BUFFERS, WAL', 'ANALYZE, TIMING off, FORMAT JSON')
{
	like($on_standby->ok_query("EXPLAIN ($options) SELECT * FROM t WHERE v = 'new'"),
		qr/TcsRedirect.*(rows=3(\.00)? loops|"Actual Rows": 3(\.00)?,)/s, "EXPLAIN ($options) runs it there");
}
like($on_standby->ok_query('EXPLAIN EXECUTE q_auto (1, $$x$$)'), qr/TcsRedirect.*Remote SQL/s, 'EXPLAIN EXECUTE');
like($on_standby->ok_query('EXPLAIN ANALYZE EXECUTE q_auto (1, $$x$$)'), qr/TcsRedirect.*rows=1(\.00)? loops/s,
	'EXPLAIN ANALYZE EXECUTE');
like($on_standby->ok_query('BEGIN; DECLARE c SCROLL CURSOR FOR SELECT v FROM t; EXPLAIN SELECT v FROM t; COMMIT; EXPLAIN SELECT v FROM t'),
	qr/TcsRedirect/, 'EXPLAIN beside a cursor');
unlike($on_standby->ok_query('EXPLAIN SELECT pid FROM pg_stat_activity'), qr/TcsRedirect/,
	'EXPLAIN of what stays');


##
## Types
##

my $me = $on_primary->ok_query('SELECT current_user');
my %value = (
	bool => 't', bytea => '\x00ff5c', char => 'x', name => 'A "name"',
	int8 => '-9223372036854775808', int2 => '-32768', int2vector => '1 2 3',
	int4 => '2147483647', regproc => 'now', text => "it's \\ \x{c3}\x{a9}",
	oid => '4294967295', tid => '(4294967295,7)', xid => '4294967295', cid => '7',
	oidvector => '1 4294967295', json => '{"a" : [1, null]}', xml => '<a b="c">d</a>',
	xid8 => '18446744073709551615', point => '(1.5,-2)', lseg => '[(1,2),(3,4)]',
	path => '[(1,2),(3,4)]', box => '(3,4),(1,2)', polygon => '((0,0),(1,1),(1,0))',
	line => '{1,-1,0.1}', float4 => '1.1', float8 => '0.30000000000000004',
	circle => '<(1,2),3>', money => '-1234.56', macaddr => '08:00:2b:01:02:03',
	inet => '192.168.0.1/24', cidr => '2001:db8::/32', macaddr8 => '08:00:2b:01:02:03:04:05',
	aclitem => "alice=r*w/$me", bpchar => 'ab ', varchar => 'abc ', date => '0044-03-15 BC',
	time => '23:59:59.999999', timestamp => 'infinity', timestamptz => '2024-06-01 12:34:56.789+00',
	interval => '1 year -2 days 03:04:05.6', timetz => '12:34:56.5+05:30', bit => '10100',
	varbit => '101110001', numeric => '-12345678901234567890.123450', refcursor => 'a "c"',
	regprocedure => 'abs(integer)', regoper => 'pg_catalog.||/',
	regoperator => '+(integer,integer)', regclass => 'other.t', regcollation => '"C"',
	regtype => 'timestamp with time zone', regrole => 'alice', regnamespace => 'other',
	regdatabase => 'postgres', uuid => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
	pg_lsn => '16/B374D848', tsvector => q{'a':1A,3 'b c':2}, tsquery => q{'a':* & !'b' <2> 'c'},
	regconfig => 'english', regdictionary => 'simple', jsonb => '{"a": [1.50, null, "x\\u00e9"]}',
	jsonpath => '$.a[*] ? (@ > 1)', txid_snapshot => '10:20:10,14,15',
	pg_snapshot => '10:20:10,14,15', oid8 => '18446744073709551615',
	int4range => '[1,5)', numrange => '(1.5,]', tsrange => '["2024-01-01 00:00:00",)',
	tstzrange => 'empty', daterange => '[2024-01-01,2024-02-01)', int8range => '[-1,9223372036854775806)',
	int4multirange => '{[1,3),[5,7)}', nummultirange => '{}', tsmultirange => '{[2024-01-01,2024-01-02]}',
	tstzmultirange => '{(,)}', datemultirange => '{[2024-01-01,2024-02-01)}', int8multirange => '{[1,2)}',
	cardinal_number => '5', character_data => 'x', sql_identifier => 'y', time_stamp => '2024-06-01 12:00+00',
	yes_or_no => 'YES', mood => 'fine', pair => '(1,"a,""b")', named => '(1,other.t)', positive => '7',
	short => 'abc', shorts => '{a,NULL}', checked_pair => '(1,)', nested => '("(1,x)","{""(2,y)"",NULL}",sad,3)',
	plain => q{it's "}, with_plain => '(1,x)',
	must => '5', late => '5', late_pair => '(1,x)', textrange => '[a,"b,c"]', textmultirange => '{[a,b),[c,d)}', moodrange => '[sad,fine]', moodmultirange => '{[sad,fine]}',
);

# Their input functions take no value from anybody.
my %no_input = map { $_ => 1 } qw(pg_node_tree pg_ndistinct pg_dependencies pg_mcv_list
  pg_brin_bloom_summary pg_brin_minmax_multi_summary gtsvector);
my @types = map { [ split /\|/ ] } split /\n/, $on_primary->ok_query(
	q{SELECT t.oid, typname, typtype, format_type(t.oid, -1), typsend <> 0 AND typreceive <> 0,
			 (SELECT count(*) FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped),
			 typarray <> 0
		FROM pg_type t
	   WHERE typtype <> 'p' AND (typtype <> 'b' OR typelem = 0 OR typsubscript <> 'array_subscript_handler'::regproc)
	   ORDER BY t.oid});
my (@unknown, @different);
my $checked = 0;

foreach my $type (@types)
{
	my ($oid, $name, $kind, $sql, $binary, $attributes, $has_array) = @$type;
	my $value = $value{$name};

	# a row of nulls of any table
	$value //= '(' . ',' x ($attributes - 1) . ')' if $kind eq 'c' && $attributes > 0;
	next if $no_input{$name} || ($kind eq 'c' && $attributes == 0);
	if (!defined $value)
	{
		push @unknown, $name;
		next;
	}

	# fields of type anyarray can be told to nobody who does not know their type
	next if $name eq 'pg_statistic_ext_data' || $kind eq 'c' && $on_primary->ok_query(
		"SELECT count(*) FROM pg_attribute WHERE atttypid = 'anyarray'::regtype AND attrelid = (SELECT typrelid FROM pg_type WHERE oid = $oid)"
	) ne '0';

	(my $literal = $value) =~ s/'/''/g;
	$literal = "'$literal'::$sql";
	# an element of a domain over arrays makes no array of that domain, and NULL
	# is no element of one that is NOT NULL
	$has_array = 'f' if $name =~ /^(shorts|must)$/;
	my $array = $has_array eq 't' ? "${sql}[]" : 'int[]';
	my $elements = $has_array eq 't' ? "ARRAY[x.v, NULL]" : "'{}'::int[]";
	my $elements_text = $on_primary->ok_query("SELECT ($elements)::text FROM (SELECT $literal AS v) x");
	my $statement =
	  "SELECT x.v, $elements AS a, \$1::$sql AS p, \$2::$array AS pa FROM one, (SELECT $literal AS v) x";

	foreach my $format ($binary eq 't' && $name ne 'with_plain' ? (0, 1) : (0))
	{
		my ($expected, $got) = map {
			transcript($_, sub { bind_as($_[0]->parse('', $statement), '', '', $format, $value, $elements_text)
				->describe('P', '')->execute('')->sync });
		} $on_primary, $on_standby;

		$checked++;
		# several functions or operators may have the name that is shown, so those
		# in arrays and rows of catalogs, like some of their own types, are refused
		next if $got =~ /cannot be redirected: column "[va]" has the type (reg(proc|oper)\[\]|pg_\w+(\[\])?),/;
		push @different, "$sql, format $format: $got\nexpected: $expected" if $got ne $expected;
		push @different, "$sql: $expected" if $expected =~ /error \|/;
	}
}
is(join("\n", @different), '', 'values of all types, as constants, in arrays, as parameters, in text and binary');
is("@unknown", '', 'all types have a value') if $version <= 18;
cmp_ok($checked, '>', 300, 'there were many types');

# Rows of real tables, of which many have columns without a binary form.
@different = ();
foreach my $table (split /\n/, $on_primary->ok_query(
	q{SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace = 'pg_catalog'::regnamespace ORDER BY 1}))
{
	# what no input function takes, see below
	next if $table =~ /^pg_(attribute|rewrite|statistic_ext_data|attrdef|constraint|statistic|policy|index|proc|trigger)$/;
	my ($expected, $got) = map { transcript($_, "SELECT * FROM $table ORDER BY ctid LIMIT 3") } $on_primary, $on_standby;

	push @different, "$table: $got\nexpected: $expected" if $got ne $expected;
}
is(join("\n", @different), '', 'rows of all catalogs');

# What no input function takes: the value, or a word that it cannot be had.
foreach my $sql (
	'SELECT ev_action FROM pg_rewrite ORDER BY oid LIMIT 1',
	'SELECT stxdndistinct FROM pg_statistic_ext_data',
	'SELECT stxddependencies FROM pg_statistic_ext_data',
	'SELECT stxdmcv FROM pg_statistic_ext_data',
	q{SELECT r FROM pg_rewrite r WHERE rulename = '_RETURN' ORDER BY oid LIMIT 1})
{
	my ($expected, $got) = map { transcript($_, $sql) } $on_primary, $on_standby;

	$got = $expected
	  if $got =~ /C: TC001 .*cannot be redirected|C: 0A000 .*cannot accept a value of type pg_node_tree/;
	is($got, $expected, "what has no input function: $sql");
}

# Whoever has such a value can have it shown by functions that trust it.
like(transcript($on_standby, 'SELECT ev_action FROM pg_rewrite LIMIT 1'),
	qr/C: 0A000 .*cannot accept a value of type pg_node_tree/, 'a value of type pg_node_tree is not taken');
stays('a column of type anyarray', 'SELECT attmissingval FROM pg_attribute LIMIT 1', qr/error \| .* C: TC001 .*cannot be redirected/);

# Anonymous records have no fields that a client here could know.
stays('an anonymous record', 'SELECT ROW(id, v) FROM t WHERE id = 1',
	qr/error \| .* C: TC001 .*cannot be redirected: column "row" has the type record/);
stays('an array of anonymous records', 'SELECT array_agg(ROW(id, v)) FROM t WHERE id = 1',
	qr/error \| .* C: TC001 .*cannot be redirected/);


##
## The session's settings
##

my $shown = 'SELECT at, day, took, amount, small, raw, price, doc, n, '
  . q{at::text, day::text, took::text, amount::text, raw::text, price::text, small::text, }
  . q{to_tsvector(words), to_char(n, '9D9'), to_char(day, 'TMMonth') FROM measure};
my @settings = (
	"TimeZone = 'Asia/Kolkata'", "TimeZone = 'America/St_Johns'",
	"DateStyle = 'German, DMY'", "DateStyle = 'SQL, MDY'", "DateStyle = 'Postgres, YMD'",
	"IntervalStyle = iso_8601", "IntervalStyle = sql_standard", "IntervalStyle = postgres_verbose",
	"extra_float_digits = 0", "extra_float_digits = -15", "bytea_output = escape",
	"lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "xmlbinary = hex", "xmloption = document",
	"default_text_search_config = 'pg_catalog.english'", "standard_conforming_strings = off",
	"quote_all_identifiers = on", "array_nulls = off", "timezone_abbreviations = 'Australia'",
	"client_encoding = 'LATIN1'", "role = alice", "transform_null_equals = on", "backslash_quote = on",
	"work_mem = '64kB'", "enable_seqscan = off", "from_collapse_limit = 1", "statement_timeout = '1min'",
	"lock_timeout = '30s'", "jit = off", "geqo = off", "search_path = ''", "search_path = other, public",
);

foreach my $setting (@settings)
{
	my ($name) = $setting =~ /^(\w+)/;

	# removed in a later version
	next if $on_primary->ok_query("SELECT count(*) FROM pg_settings WHERE name = '$name'") eq '0' && $name ne 'role';
	next if $version >= 19 && $name eq 'standard_conforming_strings';
	$on_primary->ok_query('GRANT SELECT ON measure TO alice') if $name eq 'role';
	both($on_primary, $on_standby, "SET $setting");
	(my $sql = $shown) =~ s/FROM measure/FROM public.measure/;
	same("SET $setting", $sql);
	same("SET $setting, constants",
		q{SELECT '2024-05-06 07:08:09+00'::timestamptz, '01/02/03'::date, '1 day 2 hours'::interval, 0.1::float8, 'a\b', '\x41'::bytea, '1.5'::money, 2 = NULL, current_setting('TimeZone'), current_user FROM public.one});
	both($on_primary, $on_standby, "RESET $name");
}

both($on_primary, $on_standby, q{SET app.x = 'joe'; SET app.y = 'it''s \ "x"'});
same('a setting of the user', q{SELECT current_setting('app.x'), current_setting('app.y'), current_setting('app.z', true) FROM one});
both($on_primary, $on_standby, 'SET ROLE alice');
same('a policy on it', 'SELECT * FROM of_x');
both($on_primary, $on_standby, q{BEGIN; SET LOCAL app.x = 'ann'});
same('SET LOCAL', 'SELECT * FROM of_x');
both($on_primary, $on_standby, 'ROLLBACK');
same('after ROLLBACK', 'SELECT * FROM of_x');
both($on_primary, $on_standby, 'RESET app.x');
same('after RESET', 'SELECT * FROM of_x');
both($on_primary, $on_standby, 'SET row_security = off');
# refused when the statement is rewritten, before it comes to the gate
same('row_security off', 'SELECT * FROM of_x', redirect => 0);
both($on_primary, $on_standby, 'RESET row_security; RESET ROLE');
same('as the owner', 'SELECT * FROM of_x ORDER BY 1');
same('search_path as seen by a function', 'SELECT by_path() FROM one');
both($on_primary, $on_standby, 'SET search_path = other, public');
same('search_path in the text and in a function', 'SELECT by_path(), v, current_schemas(true) FROM t WHERE id = 1');
both($on_primary, $on_standby, 'RESET search_path');
both($on_primary, $on_standby, 'SET client_min_messages = error');
same('no notices wanted', 'SELECT tells() FROM one');
both($on_primary, $on_standby, 'RESET client_min_messages');
both($on_primary, $on_standby, 'SET statement_timeout = 100');
same('statement_timeout', 'SELECT pg_sleep(60) FROM one');
both($on_primary, $on_standby, 'RESET statement_timeout');
same('after statement_timeout', 'SELECT v FROM t WHERE id = 1');

# What was in force at the start of the session.
{
	my @options = (options => q{-c DateStyle=German -c app.x=ann -c extra_float_digits=-3 -c search_path=other,public});
	my @clients = map { TcsTranscript->new($_, @options) } $primary, $standby;

	$clients[1]->ok_query("SET tcs.session_token = '$token'; SET tcs.redirect_after = 0");
	my @told = map { transcript($_, q{SELECT day, amount, amount::text, day::text, current_setting('app.x'), t.v FROM measure, t WHERE t.id = 1}) } @clients;
	is($told[1], $told[0], 'settings of the start of the session');
}


##
## What has to stay
##

my $refused = qr/error \| .* C: TC001 .*cannot be redirected/;

stays('pg_stat_activity', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = pg_backend_pid()}, qr/^t$/m);
stays('pg_is_in_recovery()', 'SELECT pg_is_in_recovery()', qr/^t$/m);
stays('tcs.status()', 'SELECT role FROM tcs.status()', qr/^standby/m);
stays('SHOW', 'SHOW primary_conninfo', qr/host=/);
stays('a constant', 'SELECT 1', qr/^1$/m);
my %must_stay = (
	'pg_stat_activity and a table' => 'SELECT v FROM t, pg_stat_activity',
	'a view over pg_stat_activity' => 'SELECT count(*) > 0 FROM who_is_here',
	'a view over both' => 'SELECT * FROM v_and_who',
	'a view that asks for recovery' => 'SELECT * FROM recovers',
	'pg_stat_user_tables' => q{SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 't'},
	'pg_statio_user_tables' => q{SELECT relname FROM pg_statio_user_tables},
	'pg_is_in_recovery() and a table' => 'SELECT pg_is_in_recovery(), v FROM t',
	'in a subquery' => 'SELECT v FROM t WHERE (SELECT pg_is_in_recovery())',
	'in a CTE' => 'WITH c AS (SELECT pg_backend_pid()) SELECT * FROM c, t',
	'in ORDER BY' => 'SELECT v FROM t ORDER BY pg_backend_pid()',
	'in a function of FROM' => 'SELECT v FROM t, pg_backend_pid()',
	'tcs.status() and a table' => 'SELECT v, s.role FROM t, tcs.status() s',
	'tcs.last_read() and a table' => 'SELECT v, (tcs.last_read()).outcome FROM t',
	'tcs.session_token()' => 'SELECT v, tcs.session_token() FROM t',
	'pg_export_snapshot()' => 'SELECT pg_export_snapshot(), v FROM t',
	'advisory locks' => 'SELECT pg_advisory_lock(id), v FROM t',
	'advisory locks, shared, tried' => 'SELECT pg_try_advisory_xact_lock_shared(1, id) FROM t',
	'set_config()' => q{SELECT set_config('app.x', v, false) FROM t},
	'set_config() of a role' => q{SELECT set_config('role', 'alice', true), v FROM t},
	'setseed()' => 'SELECT setseed(0.5), v FROM t',
	'settings of the server' => q{SELECT v, current_setting('work_mem') FROM t},
	'a setting whose name is not known' => 'SELECT current_setting(v, true) FROM t',
	'pg_settings' => 'SELECT v, setting FROM t, pg_settings',
	'pg_locks' => 'SELECT v, pid FROM t, pg_locks',
	'pg_cursors' => 'SELECT v, name FROM t, pg_cursors',
	'pg_prepared_statements' => 'SELECT v, name FROM t, pg_prepared_statements',
	'positions of WAL' => 'SELECT pg_last_wal_replay_lsn(), v FROM t',
	'the transaction' => 'SELECT pg_current_snapshot(), v FROM t',
	'the connection' => 'SELECT inet_server_port(), v FROM t',
	'files' => q{SELECT pg_stat_file('PG_VERSION'), v FROM t},
	'signals' => 'SELECT pg_cancel_backend(0), v FROM t',
	'locking rows' => 'SELECT v FROM t FOR UPDATE',
	'DO' => 'DO $$BEGIN PERFORM v FROM t; END$$',
	'COPY of a table' => 'COPY t TO STDOUT',
	'CREATE TABLE AS' => 'CREATE TABLE x AS SELECT v FROM t',
);

both($on_primary, $on_standby, 'SET max_parallel_workers_per_gather = 0');
foreach my $name (sort keys %must_stay)
{
	# what recovery refuses anyway is not for the primary, and needs no wait
	my $state = $name =~ /^(?:locking rows|CREATE TABLE AS)$/ ? '25006' : 'TC001';

	stays($name, $must_stay{$name}, qr/error \| .* C: $state /);
}
like(transcript($on_standby, 'SELECT v, pg_is_in_recovery() FROM t'), $refused, 'the error says why');

# What a user's function does shows only there.
foreach my $name ('app.x', 'work_mem', 'search_path', 'TimeZone')
{
	foreach my $local ('true', 'false')
	{
		my $got = transcript($on_standby, "SELECT sets('$name', $local), v FROM t WHERE id = 1");

		like($got, qr/error \| .* C: (0A000|22023) /, "a function that sets $name ($local) is an error");
	}
}
is($on_standby->ok_query(q{SELECT current_setting('app.x', true)}), '', 'and nothing has changed here');
same('nor in later statements', q{SELECT current_setting('app.x', true) FROM one});
same('a function with settings of its own', 'SELECT sets_and_restores() FROM one');
like(transcript($on_standby, q{SELECT query_to_xml('SELECT set_config(''app.x'', ''changed'', false)', true, true, '') FROM one}),
	qr/error \| .* C: (0A000|TC001) /, 'a query in a string that changes a setting is an error');


##
## Columns that have changed on the primary
##

# Prepared and described while the columns were the same.
foreach my $table (qw(s_add s_type s_typmod s_wider s_drop s_again s_name s_label s_pair s_part s_view))
{
	$on_standby->parse("on_$table", "SELECT * FROM $table")->describe('S', "on_$table")->sync->results;
	$on_standby->ok_query("PREPARE sql_$table AS SELECT * FROM $table");
}
$token = write_token(
	$primary, q{
ALTER TABLE s_add ADD c int DEFAULT 5; UPDATE s_add SET b = 'new';
ALTER TABLE s_type ALTER b TYPE text USING 'new';
ALTER TABLE s_typmod ALTER b TYPE varchar(2) USING 'nw';
ALTER TABLE s_wider ALTER b TYPE varchar(20) USING 'new and much longer';
ALTER TABLE s_drop DROP b;
ALTER TABLE s_again DROP b, ADD b int DEFAULT 7;
ALTER TABLE s_name RENAME TO s_name2; UPDATE s_name2 SET b = 'new';
ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';
ALTER TYPE pair ADD ATTRIBUTE c int; UPDATE s_pair SET p = (1, 'new', 3);
CREATE TABLE s_part2 PARTITION OF s_part FOR VALUES IN (2);
UPDATE s_part SET b = 'new'; INSERT INTO s_part VALUES (2, 'new');
CREATE OR REPLACE VIEW s_view AS SELECT 'new'::text AS w, 1 AS a});
$on_standby->ok_query("SET tcs.session_token = '$token'");

my $cannot = qr/error \| .* C: 40001 /;
my %changed = (
	s_add => qr/(^1\|new$|$cannot)/m,
	s_type => $cannot,
	s_typmod => $cannot,
	s_wider => $cannot,
	s_drop => qr/error \| .* C: (40001|42703) /,
	s_again => $cannot,
	s_name => qr/error \| .* C: (40001|42P01) /,
	s_label => qr/error \| /,
	s_pair => qr/error \| /,
	s_part => qr/^1\|new\n2\|new$/m,
	s_view => qr/^new\|1$/m,
);

foreach my $table (sort keys %changed)
{
	my %got = (
		simple => transcript($on_standby, "SELECT * FROM $table ORDER BY 1, 2"),
		prepared => transcript($on_standby, sub { $_[0]->bind('', "on_$table")->execute('')->sync }),
		binary => transcript($on_standby, sub { bind_as($_[0], '', "on_$table", 1)->execute('')->sync }),
		EXECUTE => transcript($on_standby, "EXECUTE sql_$table"),
		COPY => transcript($on_standby, "COPY (SELECT * FROM $table) TO STDOUT"),
		cursor => transcript($on_standby, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM $table; FETCH ALL FROM c; COMMIT"),
	);

	$on_standby->query('ROLLBACK');
	foreach my $way (sort keys %got)
	{
		unlike($got{$way}, qr/\bold\b|\bsad\b/, "$table: no old row, $way");
		next if $way =~ /binary|COPY/ && $table =~ /s_add|s_part|s_view/;
		like($got{$way}, $changed{$table}, "$table: $way");
	}
}
same('a name that is new on the primary', 'SELECT tableoid::regclass::text, * FROM s_part ORDER BY 1');
my @told = map { transcript($_, 'SELECT tableoid::regclass, a FROM s_part ORDER BY 1') } $on_primary, $on_standby;
ok($told[1] eq $told[0] || $told[1] =~ /error \| .* C: 4/, 'an object that only the primary knows')
  or diag($told[1]);

done_testing();
