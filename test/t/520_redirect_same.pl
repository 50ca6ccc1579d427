# test/t/520_redirect_same.pl
#
# A redirected statement returns exactly what it returns on the primary: also
# where the text that PostgreSQL writes of a query means something else, where a
# value does not survive its binary form, where planning has something to say,
# and where a function leaves a cursor.  Each is run on the primary and, behind a
# replay that stands still, on the standby: by the simple protocol, by the extended
# one in text and binary, from a cursor, prepared, in COPY and in REPEATABLE READ.

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

$primary->safe_psql(
	'postgres', q{
CREATE TABLE a (i int, x text);
CREATE TABLE b (i int, x text, k int);
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
CREATE TYPE pair AS (a int, b tsquery);
CREATE TABLE queries (i int, gone int, q tsquery, p pair);
ALTER TABLE queries DROP gone;
CREATE DOMAIN words AS tsquery;
CREATE TYPE vectors AS (v int2vector, w oidvector);
CREATE DOMAIN numbers AS int2vector;
CREATE TYPE tsqueryrange AS RANGE (subtype = tsquery);
CREATE FUNCTION note(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
	AS $$BEGIN RAISE NOTICE 'number %', $1; RETURN $1; END$$;
CREATE FUNCTION warn(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
	AS $$BEGIN RAISE WARNING 'number %', $1 USING DETAIL = 'its detail'; RETURN $1; END$$;
CREATE FUNCTION opens(c refcursor, n int) RETURNS refcursor LANGUAGE plpgsql AS $$
BEGIN
	OPEN c SCROLL FOR SELECT g, x, websearch_to_tsquery('english', 'the') AS q, ARRAY[x] AS xs, xmlparse(content x) AS doc
		FROM generate_series(1, n) g, public.a ORDER BY g, i;
	RETURN c;
END$$;
CREATE FUNCTION opens_unseen() RETURNS text LANGUAGE plpgsql AS $$
DECLARE c refcursor := 'unseen';
BEGIN
	OPEN c FOR SELECT x FROM public.a;
	RETURN c;
END$$;
CREATE FUNCTION opens_and_closes() RETURNS text LANGUAGE plpgsql AS $$
DECLARE c CURSOR FOR SELECT x FROM public.a; r text;
BEGIN
	OPEN c; FETCH c INTO r; CLOSE c;
	FOR r IN SELECT x FROM public.a LOOP END LOOP;
	RETURN r;
END$$;
CREATE FUNCTION opens_all(OUT c refcursor) RETURNS SETOF refcursor LANGUAGE plpgsql AS $$
BEGIN
	c := 'one'; OPEN c NO SCROLL FOR SELECT x FROM public.a; RETURN NEXT;
	c := 'The "other"'; OPEN c FOR EXECUTE 'SELECT i AS "I", NULL FROM public.b WHERE false'; RETURN NEXT;
END$$;
CREATE FUNCTION sets(name text, value text) RETURNS text LANGUAGE plpgsql
	AS $$BEGIN RETURN set_config(name, value, false); END$$;
CREATE TABLE ruled (i int);
CREATE RULE instead AS ON INSERT TO ruled DO INSTEAD SELECT x FROM a;
CREATE FUNCTION nothing_much() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
});
redirect_to($primary);
wait_for_replay($primary, $standby);
pause_replay($standby);

my $token = write_token($primary,
	q{INSERT INTO a VALUES (1, 'one'), (2, 'two'); INSERT INTO b VALUES (1, 'uno', -1), (2, NULL, -2);
	INSERT INTO queries VALUES (1, '', (1, '')), (2, 'a&(b&c)', (2, NULL)), (3, NULL, NULL)});
my $on_primary = TcsTranscript->new($primary);
my $on_standby = TcsTranscript->new($standby);
my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

# What cannot be redirected fails: it is never run on the standby.
sub require_primary
{
	my ($client) = @_;

	$client->ok_query("SET tcs.session_token = '$token'; SET tcs.fallback = 'redirect, error';"
		  . 'SET tcs.redirect_after = 0; SET tcs.max_wait = 10');
	return;
}
require_primary($on_standby);

# The same on both nodes, and redirected.  An error of the primary's own shows that
# the test is wrong.
sub same_and_clean
{
	my ($name, $send) = @_;
	my $before = redirected($look);
	my $expected = transcript($on_primary, $send);
	my $got = transcript($on_standby, $send);

	is($got . (redirected($look) > $before ? '' : "\nnot redirected"), $expected, $name);
	foreach my $client ($on_primary, $on_standby)
	{
		$client->query('ROLLBACK') if $client->status ne 'I';
		$client->query('DEALLOCATE ALL') if $got ne $expected;
	}
	return $expected !~ /^error/m || fail("$name: an error on the primary");
}

# The ways to send a statement.
my %ways = (
	'simple' => sub { $_[0] },
	'in a row of statements' => sub { "SELECT 'before'; /* ; */ $_[0]; SELECT 'behind'" },
	'extended, text' => sub {
		my ($sql) = @_;
		return sub { bind_as($_[0]->parse('', $sql), '', '', 0)->describe('P', '')->execute('')->sync };
	},
	'extended, binary' => sub {
		my ($sql) = @_;
		return sub { bind_as($_[0]->parse('', $sql), '', '', 1)->describe('P', '')->execute('')->sync };
	},
	'cursor' => sub { "BEGIN; DECLARE c CURSOR FOR $_[0]; FETCH ALL FROM c; COMMIT" },
	'prepared' => sub { "PREPARE p AS $_[0]; EXECUTE p; EXECUTE p; DEALLOCATE p" },
	'COPY' => sub { "COPY ($_[0]) TO STDOUT" },
	'REPEATABLE READ' => sub {
		"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM a; $_[0]; COMMIT";
	});

sub same_always
{
	my ($name, $sql) = @_;

	same_and_clean("$name: $_", $ways{$_}->($sql)) foreach sort keys %ways;
	return;
}

##
## Texts that do not mean what the query means
##

my %texts = (
	'the alias of USING' => 'SELECT row_to_json(y.*) FROM a JOIN b USING (i) AS y',
	'the alias of USING, outer join' => 'SELECT json_agg(y ORDER BY y) FROM a LEFT JOIN b USING (i) AS y',
	'the alias of USING, below' => 'SELECT (SELECT to_jsonb(y)) FROM a FULL JOIN b USING (i, x) AS y ORDER BY 1',
	'a row in IN (SELECT)' => 'SELECT row(row(i)) IN (SELECT row(i) FROM a) FROM a',
	'a row of rows in ANY' => 'SELECT row(row(row(i))) = ANY (SELECT row(row(i)) FROM a) FROM a',
	'a row NOT IN' => 'SELECT i FROM a WHERE row(row(i)) NOT IN (SELECT row(i) FROM b WHERE i = 2)',
	'no columns' => 'SELECT FROM a',
	'no columns, UNION ALL' => 'SELECT FROM a UNION ALL SELECT FROM b',
	'no columns, below' => 'SELECT count(*) FROM (SELECT FROM a) s, (SELECT * FROM nothing) n',
	'no columns, whole row' => 'SELECT to_jsonb(n), n IS NULL FROM nothing n',
	'no columns, EXISTS' => 'SELECT EXISTS (SELECT FROM a), EXISTS (SELECT FROM nothing INTERSECT SELECT) FROM a',
	'a whole row with names twice' => q{SELECT to_jsonb(s) FROM (SELECT a.*, b.*, 'two' AS x FROM a, b) s ORDER BY to_jsonb(s)::text},
	'a whole row with names twice, join' => 'SELECT to_jsonb(j) FROM (a JOIN b ON a.i = b.i) j ORDER BY j.k',
	'a whole row with names twice, CTE' => 'WITH c AS (SELECT a.*, b.* FROM a, b) SELECT to_jsonb(c), c::text FROM c ORDER BY c::text',
	'a whole row with names twice, LATERAL' => 'SELECT to_jsonb(s), to_jsonb(l) FROM a, LATERAL (SELECT a.*, b.* FROM b) s, LATERAL (SELECT s.*, a.x) l ORDER BY 1::text, to_jsonb(l)::text',
	'names twice, function' => q{SELECT to_jsonb(f) FROM a, json_to_record('{"p":1}') AS f(p int, q int)},
	'equal expressions in GROUPING SETS' => 'SELECT i p, i q, count(*) FROM a GROUP BY GROUPING SETS ((p), (q)) ORDER BY 1, 2',
	'equal expressions in CUBE' => 'SELECT i + 1 p, i + 1 q, grouping(i + 1), sum(i) FROM a GROUP BY CUBE (p, q) ORDER BY 1, 2, 3, 4',
	'equal constants in ROLLUP' => 'SELECT 1 p, 1 q, count(*) FROM a GROUP BY ROLLUP (1, 2) ORDER BY 1, 2, 3',
	'rows with NULL' => 'SELECT row(i, row(2, null::int)) = row(1, row(2, null::int)) FROM a ORDER BY i',
	'rows with NULL, not equal' => 'SELECT row(i, row(2, null::int)) <> row(1, row(2, null::int)) FROM a ORDER BY i',
	'rows with NULL, ordered' => 'SELECT row(row(1, null::int), i) < row(row(1, null::int), 2) FROM a ORDER BY i',
	'rows with NULL, DISTINCT' => 'SELECT row(i, row(null::int)) IS DISTINCT FROM row(1, row(null::int)) FROM a ORDER BY i',
	'rows with NULL, IN' => 'SELECT row(i, row(null::int)) IN (SELECT 1, row(null::int)) FROM a ORDER BY i',
	'a tsquery in parentheses' => q{SELECT '1|(2|3)'::tsquery = '1|2|3'::tsquery FROM a},
	'a tsquery in an array' => q{SELECT ARRAY['1&(2&3)', NULL]::tsquery[] = ARRAY['1&2&3'::tsquery, NULL], '!(!a)'::tsquery FROM a},
	'a declaration in XML' => q{SELECT (xml '<?xml version="1.0"?><a/>')::text, x FROM a},
	'an encoding in XML' => q{SELECT (xml '<?xml version="1.0" encoding="UTF-8" standalone="yes"?><a/>')::text, x FROM a},
	'an output column named like a column' => 'SELECT -i AS i, x FROM a ORDER BY a.i, i',
	'an alias like a table' => 'SELECT b.x FROM a AS b, b AS a WHERE a.i = b.i ORDER BY b.i',
	'CTEs of one name' => 'WITH c AS (SELECT i FROM a) SELECT (WITH c AS (SELECT count(*) AS i FROM c) SELECT i FROM c), c.i FROM c ORDER BY 2',
	'a CTE like a table' => 'WITH a AS (SELECT 9 AS i) SELECT a.i, p.i FROM a, public.a AS p ORDER BY 2',
	'negative numbers' => 'SELECT - 1, -(1), - (-(1)), -2147483648, - 2147483648, -1.50, - 1.50, -9223372036854775808, - 1::int8, 1 - -1, 2 ^ - 2, -2 ^ 2, @ -5, - i FROM a ORDER BY i',
	'numbers' => q{SELECT 1e3, .5, 1., 0.10, '1e-300'::float8, 0.1::float4, 'NaN'::numeric, '-Infinity'::float8, 1::int2, 12345678901, 1.5::numeric(3,1), '-0'::float8, '0.1'::float8 + 0.2 FROM a},
	'dates' => q{SELECT date '2024-02-29', time '10:00', timetz '10:00+05', timestamp '0044-03-15 BC', timestamptz '2024-01-01 00:00+00', 'infinity'::date, interval '1 year -2 days 03:04:05.6', interval '-1 mon', interval '1' day, interval '1 02:03' day to minute FROM a},
	'strings' => q{SELECT 'a\b', E'a\\\\b\n\x41', U&'\0041\+0000e4', U&'!0041' UESCAPE '!', $$x'y$$, 'a'
	'continued', N'national', B'0101', X'1F', bit '101', ''::bytea, '\x00ff'::bytea, 'a'::"char", 'ab'::char(4), 'x'::name FROM a},
	'other types' => q{SELECT '{1,NULL,"NULL"}'::text[], '[0:1]={1,2}'::int[], '{}'::int[], '(1,"a b",2)'::b, '(,)'::a, '[1,5)'::int4range, 'empty'::int8range, '{[1,2],(5,)}'::int4multirange, '1.50'::money, '10.0.0.0/8'::cidr, '{"a": [1, null]}'::jsonb, '{"a" : 1}'::json, '$.a[*] ? (@ > 1).b'::jsonpath, '(1,2)'::point, '1 2'::int2vector, 'a:1A b'::tsvector FROM a},
	'objects' => q{SELECT 'a'::regclass, 'note'::regproc, 'note(int)'::regprocedure, 'pair'::regtype, '+(int,int)'::regoperator, 'pg_catalog'::regnamespace, 'english'::regconfig, 'simple'::regdictionary FROM a},
	'IN a list' => q{SELECT x IN ('one', 'three'), x::varchar IN ('one', 'two'), i NOT IN (1, 3), i IN (1.5, 2), x = ANY (ARRAY['one'::varchar, 'two']), x::char(3) IN ('one', 'x') FROM a ORDER BY i},
	'joins' => 'SELECT * FROM a NATURAL JOIN b NATURAL FULL JOIN (VALUES (7)) AS v(i) CROSS JOIN (a AS c LEFT JOIN b AS d ON true) ORDER BY 1, 2, 3, 4, 5, 6, 7, 8',
	'VALUES' => q{VALUES (1, 'a'), (2, NULL), ((SELECT max(i) FROM a), 'c') ORDER BY 1 DESC, 2 LIMIT 2},
	'VALUES alone' => 'VALUES ((SELECT max(i) FROM a), 1.5), (2, 1)',
	'set operations' => q{(SELECT i, NULL FROM a ORDER BY i DESC LIMIT 1) UNION (SELECT 1, 'x' EXCEPT SELECT i, x FROM b) INTERSECT ALL SELECT 1, 'x' ORDER BY 1, 2},
	'arguments' => q{SELECT make_interval(days => i, secs => 1), format('%s-%s', VARIADIC ARRAY[x, 'z']), concat(VARIADIC ARRAY['a', x]), format('%s', i), substring(x FROM 1 FOR 2), xmlforest(i AS n, x), xmlelement(name e, xmlattributes(i), x) FROM a ORDER BY i},
	'windows' => 'SELECT i, sum(i) OVER w, sum(i) OVER (w ROWS UNBOUNDED PRECEDING), lag(x) OVER (PARTITION BY i % 2 ORDER BY i), count(*) FILTER (WHERE i > 1) OVER w FROM a WINDOW w AS (ORDER BY i) ORDER BY i',
	'CASE' => q{SELECT CASE i WHEN 1 THEN 'a' ELSE x END, CASE WHEN i = 1 THEN 1.5 END, coalesce(NULL, x), nullif(i, 1), greatest(i, 1.5), x COLLATE "C" < 'p' COLLATE "C", i IS DISTINCT FROM 1, x LIKE '_n%', x SIMILAR TO 'o%', x ~* 'ONE', i BETWEEN SYMMETRIC 3 AND 1, (i, x) OVERLAPS (i, x) IS NULL FROM (SELECT i, x FROM a) s WHERE false OR (true AND i > 0 AND (i < 5 AND x IS NOT NULL)) ORDER BY i},
	'TABLESAMPLE' => 'SELECT count(*) FROM a TABLESAMPLE bernoulli (100) REPEATABLE (3), b TABLESAMPLE system (100.0)',
	'subscripts' => q{SELECT (ARRAY[1,2,3])[i:], (ARRAY[[1,2],[3,4]])[1:1], (('{"a":[1,2]}'::jsonb)['a'])[1], (ROW(1, 'q')::pair).b, (s).x FROM (SELECT a AS s, i FROM a) q ORDER BY i},
);
$texts{'OVERLAPS'} = q{SELECT (date '2024-01-01', interval '2 days') OVERLAPS (date '2024-01-02', date '2024-01-03') FROM a};
$texts{'CASE'} =~ s/, \(i, x\) OVERLAPS \(i, x\) IS NULL//;

same_always($_, $texts{$_}) foreach sort keys %texts;

##
## Values that their types do not take back
##

my %values = (
	'an empty tsquery' => q{SELECT websearch_to_tsquery('english', 'the'), i FROM a ORDER BY i},
	'empty ones in an array' => q{SELECT ARRAY[''::tsquery, 'x', NULL], ARRAY[['a & (b & c)', ''], [NULL, '']]::tsquery[], '[3:4]={"",a}'::tsquery[], '{}'::tsquery[] FROM a},
	'an empty one in a row' => q{SELECT ROW(i, '')::pair, ROW(i, NULL)::pair, ARRAY[ROW(1, '')::pair, ROW(2, 'x|(y|z)')::pair, NULL] FROM a ORDER BY i},
	'an empty one in a domain' => q{SELECT ''::words, ARRAY[''::words], 'a'::words FROM a},
	'one in a range' => q{SELECT tsqueryrange('a', 'b|c'), tsqueryrange('a', 'a'), tsqueryrange(NULL, 'x') FROM a},
	'rows of a table' => 'SELECT q, q.* FROM queries q ORDER BY q.i',
	'empty vectors' => q{SELECT ''::int2vector, ''::oidvector, '1 -2'::int2vector, '4294967295'::oidvector, ''::numbers, i FROM a ORDER BY i},
	'empty vectors in arrays' => q{SELECT ARRAY[''::int2vector, '3', NULL], ARRAY[''::oidvector, '4 5'], '{}'::int2vector[], ARRAY[''::numbers] FROM a},
	'empty vectors in rows' => q{SELECT ROW('', '')::vectors, ROW(NULL, '1')::vectors, ARRAY[ROW('', '2')::vectors, NULL] FROM a},
	'empty vectors of the catalogs' => q{SELECT proname, proargtypes FROM pg_proc WHERE proname IN ('nothing_much', 'note', 'pi') ORDER BY 1},
);

same_always($_, $values{$_}) foreach sort keys %values;

foreach my $type ('int2vector', 'oidvector')
{
	foreach my $value ('', '7 8')
	{
		same_and_clean("a parameter '$value' of type $type",
			sub { bind_as($_[0]->parse('', "SELECT \$1::$type, ARRAY[\$1], i FROM a ORDER BY i"), '', '', 1, $value)->execute('')->sync });
		same_and_clean("a parameter '$value' of type $type, EXECUTE",
			"PREPARE p ($type) AS SELECT \$1, i FROM a; EXECUTE p('$value'); DEALLOCATE p");
	}
}
foreach my $value ('', 'a | (b | c)')
{
	same_and_clean("a parameter '$value'",
		sub { bind_as($_[0]->parse('', q{SELECT $1::tsquery, $1 = 'a|(b|c)', $1 = '', i FROM a ORDER BY i}), '', '', 1, $value)->execute('')->sync });
	same_and_clean("a parameter '$value' of EXECUTE",
		"PREPARE p (tsquery) AS SELECT \$1, i FROM a; EXECUTE p('$value'); DEALLOCATE p");
	same_and_clean("a parameter '$value' in an array",
		sub { bind_as($_[0]->parse('', 'SELECT $1::tsquery[], $1, i FROM a ORDER BY i'), '', '', 1, qq({"$value",x,NULL}))->execute('')->sync });
}

##
## Cursors that functions return
##

my $fetch = 'FETCH 1 FROM c; FETCH BACKWARD 1 FROM c; FETCH 3 FROM c; MOVE ABSOLUTE 2 IN c; FETCH RELATIVE 1 FROM c; FETCH ALL FROM c; FETCH LAST FROM c';

foreach my $begin ('BEGIN', 'BEGIN ISOLATION LEVEL REPEATABLE READ')
{
	same_and_clean("$begin: a cursor", "$begin; SELECT opens('c', 3) FROM a WHERE i = 1; $fetch; SELECT x FROM a; FETCH FIRST FROM c; CLOSE c; COMMIT");
	same_and_clean("$begin: a cursor of a function in FROM", "$begin; SELECT * FROM opens('c', 3), a WHERE i = 1; $fetch; COMMIT");
	same_and_clean("$begin: two cursors", qq{$begin; SELECT opens_all(), i FROM a WHERE i = 1; FETCH ALL FROM one; FETCH ALL FROM "The ""other"""; COMMIT});
	same_and_clean("$begin: opened again", "$begin; SELECT opens('c', 3) FROM a WHERE i = 1; CLOSE c; SELECT opens('c', 1) FROM a WHERE i = 1; FETCH ALL FROM c; COMMIT");
	same_and_clean("$begin: a cursor of EXECUTE", "$begin; PREPARE p AS SELECT opens('c', 2) FROM a WHERE i = 1; EXECUTE p; $fetch; CLOSE c; EXECUTE p; FETCH ALL FROM c; COMMIT; DEALLOCATE p");
	same_and_clean("$begin: a large cursor", "$begin; SET LOCAL work_mem = '64kB'; SELECT opens('c', 5000) FROM a WHERE i = 1; MOVE 9990 IN c; FETCH ALL FROM c; COMMIT");
	same_and_clean("$begin: before a savepoint", "$begin; SELECT opens('c', 2) FROM a WHERE i = 1; SAVEPOINT s; FETCH 1 FROM c; ROLLBACK TO s; FETCH 1 FROM c; COMMIT");
	same_and_clean("$begin: by the extended protocol",
		sub {
			$_[0]->simple($begin);
			$_[0]->results;
			bind_as($_[0]->parse('', q{SELECT opens('c', 2) FROM a WHERE i = 1}), '', '', 1)->execute('');
			bind_as($_[0]->parse('', 'FETCH 2 FROM c'), '', '', 1)->describe('P', '')->execute('');
			bind_as($_[0]->parse('', 'FETCH ALL FROM c'), '', '', 0)->describe('P', '')->execute('')->sync;
		});
}
same_and_clean('without a block', q{SELECT opens('c', 3) FROM a WHERE i = 1});
same_and_clean('in one message', q{SELECT opens('c', 3) FROM a WHERE i = 1; FETCH 3 FROM c});

foreach my $sql (
	q{SELECT opens('c', 2) FROM a WHERE i = 1; SAVEPOINT s; CLOSE c; SELECT opens('c', 1) FROM a WHERE i = 1; ROLLBACK TO s; FETCH 1 FROM c},
	q{SAVEPOINT s; SELECT opens('c', 2) FROM a WHERE i = 1; ROLLBACK TO s; FETCH 1 FROM c})
{
	my ($expected, $got) = map { transcript($_, "BEGIN; $sql") } $on_primary, $on_standby;

	is($got, $expected, "an error of cursors: $sql");
	both($on_primary, $on_standby, 'ROLLBACK');
}

like(transcript($on_standby, q{BEGIN; SELECT opens('c', 2) FROM a WHERE i = 1; SELECT opens('c', 2) FROM a WHERE i = 1}),
	qr/C: 42P03 .*cursor "c" already in use/, 'a cursor that is there already');
both($on_primary, $on_standby, 'ROLLBACK');

foreach my $begin ('BEGIN', 'BEGIN ISOLATION LEVEL REPEATABLE READ')
{
	like(transcript($on_standby, "$begin; SELECT opens_unseen() FROM a WHERE i = 1"),
		qr/C: 0A000 .*left a cursor open/, "$begin: a cursor that nothing tells of");
	both($on_primary, $on_standby, 'ROLLBACK');
	same_and_clean("$begin: a function that closes its cursors", "$begin; SELECT opens_and_closes() FROM a; SELECT x FROM a; COMMIT");
}
same_and_clean('a cursor that nothing tells of, without a block', 'SELECT opens_unseen() FROM a WHERE i = 1');

##
## What planning says, and settings in other words
##

my %notices = (
	'a notice of planning' => 'SELECT note(1), i FROM a ORDER BY i',
	'notices of planning' => 'SELECT note(1), note(1), note(2) FROM a WHERE warn(3) = 3',
	'notices of planning and of rows' => 'SELECT note(1), note(i) FROM a ORDER BY i',
	'notices of rows' => 'SELECT note(i % 1) FROM a',
	'a notice of analysis' => q{SELECT ''::tsquery IS NULL FROM a},
	'a notice of analysis, and of planning' => q{SELECT ''::tsquery IS NULL, to_tsquery('english', 'the') IS NULL, note(1) FROM a},
	'a notice of the analysis of its own text' => q{SELECT '1|(2|3)'::tsquery = '' FROM a},
);

my $long = 'name' x 16;
$notices{'a name that is too long'} = "SELECT x AS $long FROM a AS a$long ORDER BY i";
$notices{'a name that is too long in its own text'} = "SELECT '1|(2|3)'::tsquery = '' AS $long, x FROM a AS a$long ORDER BY i";
same_always($_, $notices{$_}) foreach sort keys %notices;

foreach my $setting ('plpgsql.print_strict_params = true', 'plpgsql.variable_conflict = USE_COLUMN',
	'"plpgsql.Extra_Warnings" = NONE', 'plpgsql.extra_errors = "strict_multi_assignment , too_many_rows"', 'work_mem = 65536')
{
	# clients that have not loaded the language
	($on_primary, $on_standby) = map { TcsTranscript->new($_) } $primary, $standby;
	require_primary($on_standby);
	both($on_primary, $on_standby, "SET $setting");
	same_and_clean("$setting: first", 'SELECT nothing_much(), x FROM a');
	same_and_clean("$setting: again", 'SELECT nothing_much(), x FROM a');
}
foreach my $change (q{'plpgsql.print_strict_params', 'off'}, q{'work_mem', '1MB'}, q{'app.x', 'new'})
{
	both($on_primary, $on_standby, "SET plpgsql.print_strict_params = true; SET app.x = 'old'");
	like(transcript($on_standby, "SELECT sets($change) FROM a"), qr/C: 0A000 .*changed the setting/,
		"$change: a setting that is changed");
}

##
## A rule makes a query of a statement that is none
##

{
	my $insert = 'INSERT INTO ruled VALUES (1)';
	my %sent = (
		'simple' => $insert,
		'prepared' => "PREPARE p AS $insert; EXECUTE p",
		'prepared, explained' => "PREPARE e AS $insert; EXPLAIN (ANALYZE, TIMING OFF) EXECUTE e",
		'prepared by the protocol' => sub { bind_as($_[0]->parse('q', $insert), '', 'q', 0)->execute('')->sync });
	# the rule's query still needs the right to write, so recovery refuses it
	like(transcript($on_standby, $sent{$_}), qr/C: 25006 .*cannot execute SELECT/s,
		"INSERT with a rule that reads, $_: not redirected") foreach sort keys %sent;
}

##
## A client of another encoding than the database's
##

($on_primary, $on_standby) = map { TcsTranscript->new($_) } $primary, $standby;
require_primary($on_standby);
both($on_primary, $on_standby, q{SET client_encoding = 'LATIN1'});
same_always('LATIN1',
	q{SELECT x || U&'\00fc', ARRAY[x, U&'\00e9'], to_jsonb(x || U&'\00df'), U&'\00e4'::char(3), length(U&'\00fc' || x) FROM a ORDER BY i});
same_and_clean("LATIN1: a parameter",
	sub { $_[0]->extended('SELECT x, $1::text, length($1::text), ARRAY[$2::varchar] FROM a', "\xfc", "\xe9\xe8")->sync });
same_and_clean('LATIN1: a cursor that a function leaves',
	q{BEGIN; SELECT opens(U&'\00fc', 2) FROM a WHERE i = 1; FETCH ALL FROM "} . "\xfc" . q{"; COMMIT});

done_testing();
