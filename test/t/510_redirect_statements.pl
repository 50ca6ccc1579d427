# test/t/510_redirect_statements.pl
#
# Statements of every kind, redirected. Each is sent to a primary and to a standby
# whose replay stands still behind changes, in the same words and by the same
# messages, and the two must tell their clients the same: columns, rows, tags,
# errors and notices. Values and settings are in 512, what has to stay on the
# standby and columns that change in 514.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsStatements;
use TcsTest;
use TcsTranscript;
use TcsWire;

my $nodes = TcsStatements->new;
my ($primary, $standby, $early, $on_primary, $on_standby) = @$nodes{qw(primary standby early on_primary on_standby)};
my $version = server_version($primary);


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

$nodes->same('a long text', "SELECT count(*) FROM t WHERE v <> '$long'");
$nodes->same('a long list', 'SELECT count(*) FROM t WHERE id IN (' . join(',', 1 .. 300_000) . ')');
$nodes->same('a long parameter',
	"PREPARE long(text) AS SELECT count(*) FROM t WHERE v <> \$1; EXECUTE long('$long$long'); DEALLOCATE long");
$nodes->both("SET app.long = '$long'");
$nodes->same('a long setting', 'SELECT count(*) FROM t');
$nodes->both('RESET app.long; RESET tcs.redirect_timeout');

# What the primary returns is no error, whatever the constraints of its domain.
$nodes->same('values older than a constraint of their domain', 'SELECT d, ds, p, ps, h FROM has_late h');
$nodes->same('a cursor over them', 'BEGIN; DECLARE c CURSOR FOR SELECT p, h FROM has_late h; FETCH c; COMMIT');
$nodes->same('NULL of a domain that is NOT NULL', 'SELECT (SELECT 5::must WHERE id < 0) FROM t WHERE id = 1');

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
	$nodes->same($name, $kinds{$name}, redirect => !$not_gated{$name});
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

$nodes->same("columns with a length ($_)", $modified[$_]) foreach 0 .. $#modified;


##
## The extended protocol
##

$nodes->same('parameters as text',
	sub { $_[0]->parse('', 'SELECT v, $2 FROM t WHERE id = $1 AND $2 <> v')
		->describe('S', '')->bind('', '', 1, 'x')->describe('P', '')->execute('')->sync });
$nodes->same('a parameter that is null',
	sub { $_[0]->parse('', 'SELECT v, $1::int FROM t WHERE id = 1')
		->bind('', '', undef)->describe('P', '')->execute('')->sync });
$nodes->same('parameters and results in binary',
	sub { bind_as($_[0]->parse('', 'SELECT id, v, $2::float8 FROM t WHERE id = $1'),
			'', '', 1, \pack('N', 2), \pack('d>', 1.5))->describe('P', '')->execute('')->sync });
$nodes->same('a damaged binary parameter',
	sub { bind_as($_[0]->parse('', 'SELECT v FROM t WHERE id = $1'), '', '', 1, \'xy')
		->execute('')->sync }, redirect => 0);
$nodes->same('a portal with a row limit',
	sub { $_[0]->parse('', 'SELECT * FROM t WHERE id < 8 ORDER BY id')->bind('p', '')
		->execute('p', 3)->execute('p', 3)->execute('p', 3)->execute('p', 3)->sync });
$nodes->same('a portal in large chunks, read half',
	sub { $_[0]->parse('', 'SELECT * FROM big ORDER BY a')->bind('p', '')
		->execute('p', 7000)->execute('p', 1)->sync });
$nodes->same('two portals by turns',
	sub { $_[0]->parse('a', 'SELECT a FROM big ORDER BY a')->parse('b', 'SELECT id, v FROM t ORDER BY id')
		->bind('p', 'a')->bind('q', 'b')->execute('p', 2)->execute('q', 2)
		->execute('p', 2)->execute('q', 2)->execute('p', 2)->close_object('S', 'a')
		->close_object('S', 'b')->sync });
$nodes->same('a pipeline',
	sub { $_[0]->extended('SELECT v FROM t WHERE id = $1', 1)
		->extended('SELECT count(*) FROM big')->extended('SELECT v FROM t WHERE id = $1', 2)->sync });
$nodes->same('an error in a pipeline',
	sub { $_[0]->extended('SELECT v FROM t WHERE id = $1', 1)->extended('SELECT 1 / (a - 1) FROM one')
		->extended('SELECT v FROM t WHERE id = $1', 2)->sync });
$nodes->same('a statement after it', 'SELECT v FROM t WHERE id = 2');

foreach my $mode (qw(auto force_generic_plan force_custom_plan))
{
	$nodes->both("SET plan_cache_mode = $mode");
	transcript($_, sub { $_[0]->parse("s_$mode", 'SELECT v, $2::text FROM t WHERE id = $1')->sync })
	  foreach $on_primary, $on_standby;
	$nodes->same("prepared, execution $_, $mode",
		sub { bind_as($_[0], '', "s_$mode", $_ % 2, $_, "x$_")->describe('P', '')->execute('')->sync })
	  foreach 1 .. 8;
	$nodes->both("PREPARE q_$mode (int, text) AS SELECT v, \$2 FROM t WHERE id = \$1");
	$nodes->same("EXECUTE, execution $_, $mode", "EXECUTE q_$mode ($_, 'x' || $_)") foreach 1 .. 8;
}
$nodes->both('RESET plan_cache_mode');

# What is sent and not wanted after all.
transcript($_, sub { $_[0]->parse('unwanted', 'SELECT v FROM t WHERE id = $1')->sync })
  foreach $on_primary, $on_standby;
$nodes->same('a portal that is bound and not executed', sub {
	my ($client) = @_;

	# until the primary has run the statement that was sent to it
	$client->bind('p', 'unwanted', 1)->describe('P', 'p')->ask->flush;
	$primary->poll_query_until('postgres',
		q{SELECT coalesce(bool_and(state = 'idle'), true) FROM pg_stat_activity WHERE application_name = 'tcs'});
	$client->close_object('P', 'p')->sync;
});
$nodes->same("its statement, used later, time $_",
	sub { $_[0]->bind('p', 'unwanted', 2)->describe('P', 'p')->execute('p')->sync })
  foreach 1 .. 3;
transcript($_, sub { $_[0]->parse('failed', 'SELECT 10 / ($1 - a) FROM one')->sync })
  foreach $on_primary, $on_standby;
$nodes->same("a prepared statement, divisor $_ - 1",
	sub { $_[0]->bind('', 'failed', $_)->execute('')->sync })
  foreach 1, 1, 2, 1, 3;
$nodes->both('PREPARE mine AS SELECT v FROM t WHERE id = 1');
$nodes->same('EXECUTE before its name is used again', 'EXECUTE mine');
$nodes->both('DEALLOCATE mine; PREPARE mine AS SELECT count(*), max(v) FROM t');
$nodes->same('EXECUTE of a name used again', 'EXECUTE mine');
$nodes->both('SET search_path = other, public');
$nodes->same('the same under another search_path', 'EXECUTE mine');
$nodes->both('DEALLOCATE mine; PREPARE mine AS SELECT v FROM t WHERE id = 1');
$nodes->same('EXECUTE in another search_path', 'EXECUTE mine');
$nodes->both('RESET search_path; DEALLOCATE mine');

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
	$nodes->both('SET escape_string_warning = off') if $version < 19;
	$nodes->both("SET $setting");
	$nodes->both("PREPARE at_once AS $sql; PREPARE later AS $sql");
	transcript($_, sub { $_[0]->parse("read_by_$name", $sql)->sync }) foreach $on_primary, $on_standby;
	$nodes->same("$name, EXECUTE", 'EXECUTE at_once');
	$nodes->both("SET $later");
	$nodes->same("$name has changed, EXECUTE again", 'EXECUTE at_once');
	$nodes->same("$name has changed, EXECUTE", 'EXECUTE later');
	$nodes->same("$name has changed, a statement of the protocol", sub { $_[0]->bind('', "read_by_$name")->execute('')->sync });
	$nodes->both("DEALLOCATE at_once; DEALLOCATE later; RESET $name");
	$nodes->both('RESET escape_string_warning') if $version < 19;
}

# Arguments of EXECUTE are evaluated here.
$nodes->both('PREPARE text_of (text) AS SELECT $1, v FROM t WHERE id = 1');
$nodes->same('EXECUTE with arguments', q{EXECUTE text_of ('x' || upper('y'))});
$nodes->stays('an argument that reads', 'EXECUTE text_of (v_of(1))', qr/error \| .* C: TC001/);
$nodes->stays('an argument that reads, EXPLAIN', 'EXPLAIN ANALYZE EXECUTE text_of (v_of(1))',
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

	$nodes->same("cursor, $name",
		join(';', 'BEGIN', "DECLARE c $how CURSOR FOR SELECT id, v FROM t WHERE id < 9 ORDER BY id", @fetches));
	$nodes->both('ROLLBACK');
}
$nodes->same('a cursor WITH HOLD', join(';', 'BEGIN',
	'DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT id, v FROM t WHERE id < 9 ORDER BY id',
	'FETCH 2 FROM c', 'COMMIT', 'FETCH 2 FROM c', 'FETCH PRIOR FROM c'));
$nodes->same('what is left of it', 'FETCH ALL FROM c; CLOSE c', redirect => 0);
$nodes->same('a cursor WITH HOLD in autocommit', 'DECLARE c CURSOR WITH HOLD FOR SELECT a FROM big ORDER BY a');
$nodes->same('what it holds', 'FETCH 3 FROM c; MOVE 19000 FROM c; FETCH 2 FROM c; CLOSE c', redirect => 0);
$nodes->same('a cursor WITH HOLD that fails at commit', join(';', 'BEGIN',
	'DECLARE c CURSOR WITH HOLD FOR SELECT 1 / (a - 900) FROM (SELECT a FROM big ORDER BY a OFFSET 0) x', 'FETCH 2 FROM c', 'COMMIT'));
$nodes->both('ROLLBACK');
$nodes->same('cursors by turns, and a statement between', join(';', 'BEGIN',
	'DECLARE c CURSOR FOR SELECT a FROM big ORDER BY a', 'FETCH 2 FROM c',
	'DECLARE d CURSOR FOR SELECT v FROM t ORDER BY id', 'FETCH 2 FROM d', 'FETCH 2 FROM c',
	'SELECT count(*) FROM big', 'FETCH 2 FROM d', 'MOVE 5000 FROM c', 'FETCH 1 FROM c',
	'CLOSE c', 'FETCH 1 FROM d', 'COMMIT'));
$nodes->same('a cursor, its rows put away, in chunks',
	join(';', 'BEGIN', 'DECLARE c CURSOR FOR SELECT * FROM big ORDER BY a',
		map { ('FETCH 3000 FROM c', 'SELECT v FROM t WHERE id = 1') } 1 .. 7));
$nodes->both('COMMIT');
$nodes->both("SET work_mem = '64kB'");
$nodes->same('a cursor WITH HOLD, its rows put away', join(';', 'BEGIN',
	'DECLARE c CURSOR WITH HOLD FOR SELECT * FROM big ORDER BY a', 'FETCH 2 FROM c', 'SELECT count(*) FROM t',
	'FETCH 2 FROM c', 'COMMIT', 'FETCH 2 FROM c', 'MOVE 15000 FROM c', 'FETCH 1 FROM c', 'CLOSE c'));
$nodes->both('ROLLBACK');
$nodes->same('a cursor, its rows put away in a savepoint that is rolled back', join(';', 'BEGIN',
	'DECLARE c SCROLL CURSOR FOR SELECT * FROM big ORDER BY a', 'FETCH 2 FROM c', 'SAVEPOINT a', 'SELECT count(*) FROM t',
	'FETCH 2 FROM c', 'ROLLBACK TO a', 'FETCH 2 FROM c', 'MOVE 15000 FROM c', 'FETCH 1 FROM c', 'FETCH BACKWARD 3 FROM c', 'COMMIT'));
$nodes->both('ROLLBACK; RESET work_mem');
$nodes->same('a cursor that is going to fail, and other statements', join(';', 'BEGIN',
	'DECLARE c CURSOR FOR SELECT 1 / (a - 9000) FROM (SELECT a FROM big ORDER BY a OFFSET 0) x', 'FETCH 2 FROM c',
	'SELECT v FROM t WHERE id = 1', 'FETCH 1 FROM c', 'CLOSE c', 'SELECT v FROM t WHERE id = 2', 'COMMIT'));
$nodes->both('ROLLBACK');
$nodes->same('DECLARE with parameters', sub {
	$_[0]->simple('BEGIN');
	$_[0]->results;
	$_[0]->extended('DECLARE c CURSOR FOR SELECT v, $2::text FROM t WHERE id = $1', 1, 'x')
	  ->extended('FETCH ALL FROM c')->extended('COMMIT')->sync;
});
$nodes->same('a portal of the protocol, by FETCH', sub {
	$_[0]->simple('BEGIN');
	$_[0]->results;
	$_[0]->parse('', 'SELECT id, v FROM t ORDER BY id')->bind('p', '')->execute('p', 1)
	  ->extended('FETCH 2 FROM p')->execute('p', 1)->extended('ROLLBACK')->sync;
});


##
## EXPLAIN
##

my $before_explain = $nodes->redirected;
my $plan = $on_standby->ok_query('EXPLAIN SELECT v FROM t_view WHERE id = 1');

like($plan, qr/Custom Scan \(TcsRedirect\)/, 'EXPLAIN shows the node');
like($plan, qr/Server: tcs_primary\b/, 'EXPLAIN shows the server');
like($plan, qr/Remote SQL: .*FROM t_view/s, 'EXPLAIN shows what is sent');
like($plan, qr/Reason: behind at level session/, 'EXPLAIN shows why');
is($nodes->redirected - $before_explain, 0, 'EXPLAIN without ANALYZE does not count as a read');
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

done_testing();
