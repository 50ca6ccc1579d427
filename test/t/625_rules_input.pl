# test/t/625_rules_input.pl
#
# Rules: what may not be made, by whom; what nobody gets around; rules that change
# while statements run; dump and restore.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();

$primary->safe_psql('postgres', q{
CREATE TABLE a (v int);
INSERT INTO a VALUES (1);
CREATE TABLE b (v int);
CREATE INDEX a_v ON a (v);
CREATE SEQUENCE s;
CREATE ROLE web LOGIN;
CREATE ROLE keeper LOGIN;
GRANT SELECT, INSERT, UPDATE, DELETE ON tcs.rule, tcs.rule_group TO keeper;
GRANT pg_read_all_data TO web;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION look_inside(int) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS
	'BEGIN RETURN (SELECT count(*) FROM a) + $1 * 0; END';
CREATE TABLE big AS SELECT generate_series(1, 20000) AS v;
CREATE FUNCTION honest() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT max(v) FROM a); END';
CREATE FUNCTION rows_of_b() RETURNS SETOF b LANGUAGE sql STABLE AS 'SELECT * FROM b';
CREATE FUNCTION of_web() RETURNS SETOF b LANGUAGE sql STABLE AS 'SELECT * FROM b';
CREATE FUNCTION folded(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE TABLE young (v int);
INSERT INTO young VALUES (1);
CREATE FUNCTION look_young() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM young); END';
CREATE TABLE of_role (v int);
CREATE ROLE staff;
GRANT staff TO web;
GRANT pg_read_all_data TO staff;
CREATE TYPE comp AS (i int);
CREATE FUNCTION with_type(comp) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE SCHEMA priv;
CREATE FUNCTION priv.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
ANALYZE big;
});


##
## Refused
##

is(psql_err($primary, "SELECT tcs.$_->[0]"), $_->[1], $_->[0])
  foreach (
	[ q{set_rule('nosuch', 'strong')}, '42P01' ],
	[ q{set_rule('a', 'nosuch')}, '22023' ],
	[ q{set_rule('a', 'snapshot')}, '22023' ],
	[ q{set_rule('a', floor => 'snapshot')}, '22023' ],
	[ q{set_rule('a')}, '22023' ],
	[ q{set_rule('a', 'session', floor => 'strong')}, '22023' ],
	[ q{set_rule('a', 'read_your_writes', floor => 'monotonic_reads')}, '22023' ],
	[ q{set_rule('a', 'session', hard => true)}, '22023' ],
	[ q{set_rule('a', 'strong', floor => 'bounded')}, '22023' ],
	[ q{set_rule('a', 'strong', application_name => 'x\')}, '22023' ],
	[ q{set_rule('a', 'strong', fallback => 'nowhere')}, '22023' ],
	[ q{set_rule('a', 'bounded', max_staleness => '-1s')}, '22023' ],
	[ q{set_rule('a', 'strong', max_wait => '-5s')}, '22023' ],
	[ q{set_rule('a', 'strong', operation => 'dream')}, '22023' ],
	[ q{set_rule('a', 'linearizable', operation => 'write')}, '22023' ],
	[ q{set_rule('a', 'strong', operation => 'write', floor => 'strong')}, '22023' ],
	[ q{set_rule('a', 'strong', schema => 'public')}, '22023' ],
	[ q{set_rule(schema => 'nosuch', level => 'strong')}, '3F000' ],
	[ q{set_rule(function => 'nosuch()', level => 'strong')}, '42883' ],
	[ q{set_rule('a', 'strong', role => 'nosuch')}, '42704' ],
	[ q{set_rule('a', 'strong', database => 'template1')}, '0A000' ],
	[ q{set_rule('a', 'strong', application_name => '')}, '22023' ],
	[ q{set_rule('a_v', 'strong')}, '42809' ],
	[ q{set_rule('s', 'strong')}, '42809' ],
	[ q{set_rule('pg_class', 'strong')}, '42809' ],
	[ q{drop_rule('a')}, '42704' ],
	[ q{drop_rule(id => 77)}, '42704' ],
	[ q{drop_group('nosuch')}, '42704' ],
	[ q{set_group('', 'a')}, '22023' ],
	[ q{explain_level('SELECT 1; SELECT 2')}, '22023' ],
	[ q{explain_level('')}, '22023' ],
	[ q{explain_level('SELECT nonsense')}, '42703' ]);
is($primary->safe_psql('postgres', 'SELECT count(*) FROM tcs.rules'), '0', 'none of these has left anything');
is(psql_err($standby, q{SELECT tcs.set_rule('a', 'strong')}), '25006', 'not on a standby');

is(psql_err($primary, "$_->[1]", user => $_->[0]), $_->[2], "$_->[0]: $_->[1]")
  foreach (
	[ 'web', q{SELECT tcs.set_rule('a', 'strong')}, '42501' ],
	[ 'web', q{SELECT tcs.set_group('x', 'a')}, '42501' ],
	[ 'web', q{DELETE FROM tcs.rule}, '42501' ],
	[ 'web', q{SELECT * FROM tcs.rules}, '00000' ],
	[ 'web', q{SELECT tcs.explain_level('SELECT 1')}, '00000' ],
	[ 'keeper', q{SELECT tcs.set_rule('a', 'strong', floor => 'session')}, '00000' ],
	[ 'keeper', q{INSERT INTO tcs.rule (relation, level) VALUES ('b', 'nosuch')}, '22023' ],
	[ 'keeper', q{UPDATE tcs.rule SET floor = 'linearizable'}, '22023' ]);


##
## Nobody goes below a floor
##

$primary->safe_psql('postgres', q{
SELECT tcs.set_rule('young', 'strong', floor => 'bounded', max_staleness => '100ms');
SELECT tcs.set_rule('of_role', floor => 'strong', role => 'web');
SELECT tcs.set_rule(function => 'of_web()', level => 'strong', floor => 'strong');
SELECT tcs.set_rule(function => 'folded(int)', level => 'strong', floor => 'strong');
SELECT tcs.set_rule(function => 'with_type(comp)', level => 'strong');
SELECT tcs.set_rule(function => 'priv.f()', level => 'strong');
});
wait_for_replay($primary, $standby);
wait_for_answer($standby);

# plans of a time in which nobody looked
my $unaware = TcsWire->new($standby, options => '-c tcs.max_wait=0 -c plan_cache_mode=force_generic_plan');
$standby->append_conf('postgresql.conf', 'tcs.enabled = off');
$standby->reload;
$standby->poll_query_until('postgres', 'SHOW tcs.enabled', 'off');
$unaware->poll(q{SELECT current_setting('tcs.enabled') = 'off'}) or die 'not switched off';
$unaware->parse('p', 'SELECT max(v) FROM a')->bind('', 'p')->execute('')->sync;
$unaware->results;
$unaware->ok_query('SELECT honest()');
$standby->append_conf('postgresql.conf', 'tcs.enabled = on');
$standby->reload;
$unaware->poll(q{SELECT current_setting('tcs.enabled') = 'on'}) or die 'not switched on';
wait_for_answer($standby);

pause_replay($standby);
my $token = write_token($primary, 'INSERT INTO a VALUES (2)');

$unaware->ok_query("SET tcs.session_token = '$token'; SET tcs.read_level = eventual");
is(($unaware->bind('', 'p')->execute('')->sync->results)[-1]{state}, 'TC001', 'a plan made while tcs was off');
is((($unaware->query('SELECT honest()'))[0])->{state}, '55000', '... inside a function');
$unaware->disconnect;

foreach my $way (
	'SELECT * FROM a',
	'SELECT (SELECT max(v) FROM a)',
	'SELECT 1 WHERE EXISTS (SELECT FROM a)',
	'WITH RECURSIVE r AS (SELECT v FROM a UNION SELECT v + 1 FROM r WHERE v < 3) SELECT * FROM r',
	'SELECT * FROM b LEFT JOIN LATERAL (SELECT * FROM a WHERE a.v = b.v) x ON true',
	'COPY a TO STDOUT',
	'COPY (SELECT * FROM b UNION SELECT * FROM a) TO STDOUT',
	'BEGIN; DECLARE c CURSOR FOR SELECT * FROM a; FETCH c',
	'EXPLAIN ANALYZE SELECT * FROM a',
	'PREPARE p AS SELECT * FROM a; EXECUTE p',
	q{SELECT query_to_xml('SELECT * FROM a', false, false, '')},
	'SELECT look_inside(1)',
	'DO $$BEGIN PERFORM * FROM a; END$$',
	'SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SELECT sum(look_inside(v)) FROM big')
{
	my $state = psql_err($standby, $way, level => 'eventual', token => $token, max_wait => 0, fallback => 'eventual');

	ok($state eq 'TC001' || $state eq '55000', "SET to eventual: $way ($state)");
}

# what is asked for outside is no leave for what is read inside
foreach my $inside ('SELECT honest()', q{SELECT query_to_xml('SELECT * FROM a', false, false, '')},
	'DO $$BEGIN PERFORM * FROM a; END$$', 'COPY (SELECT honest()) TO STDOUT')
{
	foreach my $hint ("tcs(strong, fallback='eventual')", "tcs(linearizable, fallback='eventual')", 'tcs(eventual)')
	{
		my $state = psql_err($standby, "/* $hint */ $inside", token => $token, max_wait => 0);

		ok($state eq '55000' || $state eq 'TC001', "$hint: $inside ($state)");
	}
}

# planning ahead leaves no plans behind that know of no rules
foreach my $ahead (
	'BEGIN; DECLARE c CURSOR FOR SELECT b.v FROM rows_of_b() b WHERE b.v < honest(); ROLLBACK',
	q{SELECT tcs.explain_level('SELECT b.v FROM rows_of_b() b WHERE b.v < honest()')})
{
	my $session = TcsWire->new($standby, options => '-c tcs.max_wait=0 -c tcs.read_level=eventual');

	$session->ok_query("SET tcs.session_token = '$token'");
	$session->query($ahead);
	$session->query('ROLLBACK');
	is((($session->query('SELECT honest()'))[0])->{state}, '55000', "after $ahead");
	$session->disconnect;
}

# a bound that is a floor is one also where a fallback comes to it
foreach my $way (
	"SET tcs.max_staleness = '1h'; SET tcs.read_level = strong; SET tcs.fallback = 'bounded'; SELECT * FROM young",
	"/* tcs(strong, fallback='bounded', max_staleness=1h) */ SELECT * FROM young",
	'/* tcs(bounded, max_staleness=1h) */ SELECT look_young()')
{
	$standby->poll_query_until('postgres', 'SELECT staleness > make_interval(secs => 0.2) FROM tcs.status');
	my $state = psql_err($standby, $way, max_wait => 0);

	ok($state ne '00000', "the bound of a floor: $way ($state)");
}

# no answer comes while these reads are refused, so nothing is known of the primary
my $worker = $standby->safe_psql('postgres', 'SELECT worker_pid FROM tcs.status');

kill 'STOP', $worker;

# functions that planning makes vanish have their rules
is(psql_err($standby, $_, level => 'eventual', max_wait => 0), 'TC004', "a rule for a function: $_")
  foreach ('SELECT count(*) FROM of_web()', 'SELECT folded(1)', 'SELECT v FROM b WHERE v = folded(1)');

# who becomes another keeps the floor
is(psql_err($standby, "$_; SELECT * FROM of_role", user => 'web', level => 'eventual', max_wait => 0), 'TC004', $_)
  foreach ('SELECT 1', 'SET ROLE staff', q{SELECT set_config('role', 'staff', false)});
kill 'CONT', $worker;

# names that are no reads
is(psql_err($standby, $_, token => $token, level => 'eventual', max_wait => 0), '00000', $_)
  foreach (q{SELECT 'a'::regclass}, q{SELECT pg_relation_size('a')}, q{SELECT 1 FROM pg_class WHERE oid = 'a'::regclass});

# a hint comes before SET, in every form
is(psql_err($standby, $_, token => $token, level => 'session', max_wait => 0), '00000', $_)
  foreach (
	'/* tcs(eventual) */ EXPLAIN ANALYZE SELECT * FROM b',
	'PREPARE p AS /* tcs(eventual) */ SELECT * FROM b; EXECUTE p',
	'/* tcs(eventual) */ COPY (SELECT * FROM b) TO STDOUT');

# a rule for one function is no concern of other statements
$primary->safe_psql('postgres', 'ALTER TYPE comp RENAME TO comp2');
is($primary->safe_psql('postgres', q{SELECT level FROM tcs.explain_level('SELECT with_type(NULL)')}), 'strong',
	'a type of its arguments has another name');
is(psql_err($_, 'SELECT count(*) FROM b', user => 'web'), '00000', 'a function in a schema that one may not use')
  foreach ($primary, $standby);

is(psql_err($standby, "/* tcs(eventual, fallback='eventual') */ SELECT * FROM a", token => $token, max_wait => 0),
	'TC001', 'a hint');
is(psql_err($standby, 'SELECT * FROM b', level => 'eventual', token => $token, max_wait => 0),
	'00000', 'what has no rule is served');
resume_replay($standby);


##
## Rules that change while statements run
##

{
	my $cursor = TcsWire->new($standby);

	$cursor->ok_query('BEGIN');
	$cursor->ok_query('DECLARE c CURSOR FOR SELECT v FROM big');
	is($cursor->ok_query('FETCH c'), '1', 'a cursor');
	$primary->safe_psql('postgres', q{SELECT tcs.set_rule('big', 'linearizable')});
	wait_for_replay($primary, $standby);
	is($cursor->ok_query('FETCH c'), '2', '... reads on as it began');
	is((($cursor->query('SELECT count(*) FROM big'))[0])->{state}, '55000', '... the next statement goes by the new rule');
	$cursor->disconnect;

	# what is rolled back never was
	is($primary->safe_psql('postgres', q{BEGIN; SELECT tcs.set_rule('b', 'strong') IS NULL; ROLLBACK;
		SELECT level FROM tcs.explain_level('SELECT * FROM b')}), "f\nsession", 'rolled back');
	is( $primary->safe_psql('postgres', q{BEGIN; SELECT tcs.set_rule('b', 'strong') IS NULL;
		SELECT level FROM tcs.explain_level('SELECT * FROM b'); ROLLBACK}),
		"f\nstrong", 'in force in its own transaction');
}


##
## Dump and restore
##

$primary->safe_psql('postgres', q{
SELECT tcs.drop_rule('big');
SELECT tcs.set_rule('b', 'causal', reason => 'it''s b');
SELECT tcs.set_rule(function => 'f()', level => 'strong');
SELECT tcs.set_rule(role => 'web', level => 'bounded', max_staleness => '1500ms', fallback => 'session, error');
SELECT tcs.set_group('pair', 'a', 'b');
});
my $rules = q{SELECT relation, function, schema, role, level, max_staleness, fallback, floor, hard, reason, group_name FROM tcs.rules ORDER BY relation::text COLLATE "C", 2, role::text COLLATE "C"};
my $expected = $primary->safe_psql('postgres', $rules);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';

$primary->command_ok([ 'pg_dumpall', '-f', $dump, '--dbname', $primary->connstr('postgres') ], 'pg_dumpall');
my $other = new_primary('other', extension => 0);
$other->command_ok([ 'psql', '-X', '-q', '-f', $dump, $other->connstr('postgres') ], '... and restored elsewhere');
is($other->safe_psql('postgres', $rules), $expected, 'all rules are there');
is($other->safe_psql('postgres', q{SELECT level FROM tcs.explain_level('SELECT f()')}), 'strong', '... and in force');
cmp_ok($other->safe_psql('postgres', q{SELECT tcs.set_rule('big', 'strong')}), '>', 1, '... and new ones get new numbers');


##
## Without the extension, and a thousand rules
##

$primary->safe_psql('postgres', 'DROP EXTENSION tcs');
wait_for_replay($primary, $standby);
is(psql_err($standby, '/* tcs(strong) */ SELECT * FROM a'), '00000', 'without the extension there are hints');
is($primary->safe_psql('postgres', q{CREATE EXTENSION tcs;
	SELECT count(tcs.set_rule(('t' || i)::regclass, 'strong')) FROM generate_series(1, 0) i;
	SELECT level FROM tcs.explain_level('SELECT * FROM a')}), "0\nsession", 'made anew, without rules');
$primary->safe_psql('postgres', q{
SELECT format('CREATE TABLE t%s (v int)', i) FROM generate_series(1, 1000) i \gexec
SELECT count(tcs.set_rule(('t' || i)::regclass, 'strong')) FROM generate_series(1, 1000) i;
});
wait_for_replay($primary, $standby);
is(read_at($standby, qq{SELECT level FROM tcs.explain_level('SELECT * FROM $_->[0]')}), $_->[1], "of 1000 rules: $_->[0]")
  foreach ([ 't500', 'strong' ], [ 'a', 'session' ]);

done_testing();
