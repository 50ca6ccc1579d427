# test/t/630_rules_objects.pl
#
# Rules by data and their objects: those that are dropped, renamed, made anew,
# attached and detached; rules that change while statements run; kinds of
# relations and of statements; views and policies.
#
# explain_level() tells the level without running a statement; where it matters
# that statements run, replay of the standby is paused, so that a read that asks
# for what is not there is refused.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsRules;
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();
my $rule = 'rule [0-9]+';
my $look = q{SELECT level || ' by ' || concat_ws(' ', level_source, rule_id) FROM tcs.last_read};

everywhere([ $primary, $standby ], q{
CREATE TABLE t (v int);
CREATE TABLE u (v int);
CREATE TABLE plain (v int);
CREATE SEQUENCE seq;
CREATE INDEX i ON t (v);
CREATE VIEW v AS SELECT * FROM t;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE ROLE web LOGIN;
CREATE ROLE dba LOGIN;
CREATE SCHEMA s;
});


##
## Rules that change while statements run, and sessions are in a transaction
##

everywhere([ $primary, $standby ], 'INSERT INTO t SELECT generate_series(1, 1000)');
{
	my $session = TcsWire->new($standby, options => '-c plan_cache_mode=force_generic_plan');
	my $cursor = TcsWire->new($standby);
	my $block = TcsWire->new($standby);
	my $repeatable = TcsWire->new($standby);

	$session->ok_query('PREPARE p AS SELECT count(*) FROM t');
	$session->ok_query('EXECUTE p') for (1 .. 2);
	$cursor->ok_query('BEGIN');
	$cursor->ok_query('DECLARE c CURSOR FOR SELECT v FROM t');
	$cursor->ok_query('FETCH 10 FROM c');
	$block->ok_query('BEGIN');
	$block->ok_query('SELECT count(*) FROM t');
	$repeatable->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$repeatable->ok_query('SELECT count(*) FROM t');
	everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('t', 'strong', max_wait => '10s')});
	my ($result) = $cursor->query('FETCH 10 FROM c');
	is($result->{state}, '00000', 'a cursor reads on');
	$cursor->ok_query('CLOSE c');
	$cursor->ok_query('SELECT count(*) FROM t');
	like($cursor->ok_query($look), qr/^strong by $rule/, '... and the next statement has the rule');
	$session->ok_query('EXECUTE p');
	like($session->ok_query($look), qr/^strong by $rule/, 'EXECUTE has the new rule');
	$block->ok_query('SELECT count(*) FROM t');
	like($block->ok_query($look), qr/^strong by $rule/, 'in a transaction block');
	($result) = $repeatable->query('SELECT count(*) FROM t');
	# an answer that came before the rule can prove it
	like($result->{state}, qr/^(?:00000|25001)$/, 'in REPEATABLE READ the snapshot may be too old for it');
	$repeatable->ok_query('ROLLBACK');
	everywhere([ $primary, $standby ], q{SELECT tcs.drop_rule('t')});
	$session->ok_query('EXECUTE p');
	is($session->ok_query($look), 'session by default', 'EXECUTE without the rule');
	$_->disconnect foreach ($session, $cursor, $block, $repeatable);
}


##
## Prepared statements whose objects are made anew, and functions in them
##

everywhere([ $primary, $standby ], q{
CREATE TABLE again (v int);
CREATE FUNCTION opaque() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM again); END';
CREATE FUNCTION inlined() RETURNS SETOF again LANGUAGE sql STABLE AS 'SELECT * FROM again';
});
{
	my $session = TcsWire->new($standby);

	$session->ok_query('PREPARE p AS SELECT count(*) FROM again');
	$session->ok_query('EXECUTE p');
	$session->parse('w', 'SELECT count(*) FROM again')->sync;
	$session->results;
	everywhere([ $primary, $standby ], q{
DROP FUNCTION inlined;
DROP TABLE again;
CREATE TABLE again (v int);
CREATE FUNCTION inlined() RETURNS SETOF again LANGUAGE sql STABLE AS 'SELECT * FROM again';
SELECT tcs.set_rule('again', 'strong', max_wait => '10s');
SELECT tcs.set_rule(function => 'opaque()', level => 'strong', max_wait => '10s');
});
	foreach (1 .. 2)
	{
		my ($result) = $session->query('EXECUTE p');

		is(TcsWire::describe_result($result), '0', 'EXECUTE of a relation made anew');
		like($session->ok_query($look), qr/^strong by $rule/, '... with its rule');
		$session->bind('', 'w')->execute('')->sync;
		is(TcsWire::describe_result($session->results), '0', 'the same by Bind');
		like($session->ok_query($look), qr/^strong by $rule/, '... with its rule');
	}
	$session->disconnect;
}
like(served($standby, 'PREPARE p AS SELECT opaque(); EXECUTE p; EXECUTE p'), qr/^strong by $rule/,
	'EXECUTE with a function that has a rule');
like(served($standby, 'PREPARE p AS SELECT * FROM inlined(); EXECUTE p; EXECUTE p'), qr/^strong by $rule/,
	'EXECUTE with a function that is inlined');
everywhere([ $primary, $standby ], 'DROP FUNCTION inlined, opaque; DROP TABLE again');
is(rules($primary), '', 'they took their rules with them');


##
## Partitions and children
##

everywhere([ $primary, $standby ], q{
CREATE TABLE root (a int, b int) PARTITION BY LIST (a);
CREATE TABLE mid (a int, b int) PARTITION BY LIST (b);
CREATE TABLE leaf PARTITION OF mid FOR VALUES IN (1);
CREATE TABLE grand (v int);
CREATE TABLE mother (v int);
CREATE TABLE child () INHERITS (mother);
SELECT tcs.set_rule('root', 'strong', max_wait => '10s');
SELECT tcs.set_rule('grand', 'strong', max_wait => '10s');
});
{
	my $session = TcsWire->new($standby);
	my $level = sub
	{
		my ($name) = @_;

		$session->bind('', $name)->execute('')->sync;
		my ($result) = $session->results;
		return $result->{state} if $result->{state} ne '00000';
		return $session->ok_query($look);
	};
	my @steps = (
		[ 'root', 'ALTER TABLE root ATTACH PARTITION mid FOR VALUES IN (1)', 'strong' ],
		[ 'root', q{SELECT tcs.set_rule('mid', 'bounded')}, 'strong' ],
		[ 'root', q{SELECT tcs.set_rule('leaf', 'causal')}, 'causal' ],
		[ 'root', q{SELECT tcs.drop_rule('leaf')}, 'strong' ],
		[ 'root', q{SELECT tcs.drop_rule('mid')}, 'strong' ],
		[ 'root', 'ALTER TABLE root DETACH PARTITION mid', 'session' ],
		[ 'root', 'ALTER TABLE root ATTACH PARTITION mid FOR VALUES IN (1)', 'strong' ],
		[ 'root', 'ALTER TABLE mid DETACH PARTITION leaf', 'session' ],
		[ 'grand', 'ALTER TABLE mother INHERIT grand', 'strong' ],
		[ 'grand', 'ALTER TABLE mother NO INHERIT grand', 'session' ]);

	foreach my $name (qw(leaf child mother))
	{
		$session->parse($name, "SELECT count(*) FROM $name")->sync;
		$session->results;
	}
	is($level->('leaf'), 'session by default', 'a leaf without rules');
	is($level->('child'), 'session by default', 'a child without rules');
	foreach (@steps)
	{
		my $name = $_->[0] eq 'root' ? 'leaf' : 'child';

		# its plan is one from before the change
		$level->($name);
		everywhere([ $primary, $standby ], $_->[1]);
		like($level->($name), qr/^$_->[2] by/, "$name is $_->[2] after $_->[1]");
	}
	$session->disconnect;
}
everywhere([ $primary, $standby ], q{
ALTER TABLE mid ATTACH PARTITION leaf FOR VALUES IN (1);
SELECT tcs.drop_rule('root');
SELECT tcs.set_rule('leaf', 'strong');
});
like(explain($standby, "SELECT * FROM $_"), qr/^strong by/, "$_ reads its leaf") foreach (qw(root mid leaf));
everywhere([ $primary, $standby ], 'DROP TABLE root, grand, mother, child');
is(rules($primary), '', 'dropped with their rules');


##
## Kinds of relations and of statements
##

everywhere([ $primary, $standby ], q{
CREATE EXTENSION IF NOT EXISTS file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE foreign_t (v text) SERVER files OPTIONS (filename '/dev/null');
CREATE MATERIALIZED VIEW mat AS SELECT * FROM t;
CREATE RECURSIVE VIEW numbers (n) AS SELECT v FROM u UNION ALL SELECT n + 1 FROM numbers WHERE n < 3;
SELECT tcs.set_rule('foreign_t', 'strong');
SELECT tcs.set_rule('mat', 'strong');
SELECT tcs.set_rule('u', 'strong');
});
like(explain($standby, $_->[0]), qr/^$_->[1] by/, "$_->[0]: $_->[1]")
  foreach (
	[ 'SELECT * FROM foreign_t', 'strong' ],
	[ 'SELECT * FROM mat', 'strong' ],
	[ 'SELECT * FROM t', 'session' ],
	[ 'SELECT * FROM numbers', 'strong' ],
	[ 'SELECT last_value FROM seq', 'session' ],
	[ 'WITH u AS (SELECT 1) SELECT * FROM u, t', 'session' ],
	[ 'WITH RECURSIVE w AS (SELECT v FROM u UNION SELECT w.v + 1 FROM w WHERE w.v < 3) SELECT * FROM w', 'strong' ],
	[ 'SELECT * FROM t, LATERAL (SELECT * FROM u WHERE u.v = t.v) l', 'strong' ],
	[ 'SELECT (SELECT max(v) FROM u) FROM t', 'strong' ],
	[ 'SELECT * FROM t WHERE EXISTS (SELECT FROM u)', 'strong' ],
	[ 'SELECT 1 FROM t UNION SELECT v FROM u', 'strong' ],
	[ 'VALUES ((SELECT v FROM u))', 'strong' ],
	[ 'TABLE u', 'strong' ],
	[ 'EXPLAIN ANALYZE SELECT * FROM u', 'strong' ],
	[ 'CREATE TABLE c AS SELECT * FROM u', 'strong' ]);
is(served($standby, 'SELECT * FROM u', set => { 'tcs.read_level' => 'eventual' }), 'eventual by session',
	'what the client said');
is( (split /\n/, read_at($primary, "CREATE TEMP TABLE u (v int); SELECT level FROM tcs.explain_level('SELECT * FROM u')"))[-1],
	'session', 'a temporary table in front of one with a rule');
everywhere([ $primary, $standby ], 'DROP SERVER files CASCADE; DROP MATERIALIZED VIEW mat; DROP VIEW numbers');
everywhere([ $primary, $standby ], q{SELECT tcs.drop_rule('u')});


##
## What changes its name, and what goes
##

everywhere([ $primary, $standby ], q{
CREATE TYPE pair AS (a int, b int);
CREATE DOMAIN posint AS int;
CREATE FUNCTION of_pair(pair) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION of_row(u) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION of_domain(posint) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE TABLE "Odd "".name" (v int);
CREATE SCHEMA "Odd ""schema";
CREATE TABLE "Odd ""schema".x (v int);
CREATE FUNCTION "Odd ""schema"."F,("(int, text DEFAULT 'x') RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE ROLE "Odd role";
SELECT tcs.set_rule(function => 'of_pair(pair)', level => 'strong');
SELECT tcs.set_rule(function => 'of_row(u)', level => 'strong');
SELECT tcs.set_rule(function => 'of_domain(posint)', level => 'strong');
SELECT tcs.set_rule('"Odd "".name"', 'strong');
SELECT tcs.set_rule(schema => 'Odd "schema', level => 'strong');
SELECT tcs.set_rule(function => '"Odd ""schema"."F,("(int, text)', level => 'strong');
SELECT tcs.set_rule(role => '"Odd role"', level => 'strong');
SELECT tcs.set_group('g', 'v', '"Odd "".name"');
});
sub names_are
{
	my ($what, %name) = @_;

	like(explain($standby, $_->[0]), qr/^strong by $rule/, "$what: $_->[0]")
	  foreach (
		[ "SELECT $name{pair}(NULL)" ],
		[ "SELECT $name{row}(NULL)" ],
		[ "SELECT $name{domain}(NULL)" ],
		[ "SELECT * FROM $name{table}" ],
		[ 'SELECT * FROM v' ],
		[ "SELECT * FROM $name{schema}.x" ],
		[ "SELECT $name{schema}.$name{function}(1)" ]);
}
my %odd = (
	pair => 'of_pair',
	row => 'of_row',
	domain => 'of_domain',
	table => '"Odd "".name"',
	schema => '"Odd ""schema"',
	function => '"F,("');
names_are('odd names', %odd);
everywhere([ $primary, $standby ], q{
ALTER TYPE pair RENAME TO couple;
ALTER TABLE u RENAME TO w;
ALTER DOMAIN posint SET SCHEMA s;
ALTER FUNCTION of_pair(couple) RENAME TO of_couple;
ALTER TABLE "Odd "".name" RENAME TO "even";
ALTER TABLE "even" SET SCHEMA s;
ALTER SCHEMA "Odd ""schema" RENAME TO "Even schema";
ALTER FUNCTION "Even schema"."F,("(int, text) RENAME TO "G";
ALTER ROLE "Odd role" RENAME TO "Even role";
});
names_are('renamed', %odd, pair => 'of_couple', table => 's.even', schema => '"Even schema"', function => '"G"');
is(read_at($standby, 'SELECT string_agg(function, $$, $$ ORDER BY id) FROM tcs.rules'),
	'public.of_couple(public.couple), public.of_row(public.w), public.of_domain(s.posint), "Even schema"."G"(integer,pg_catalog.text)',
	'... and are shown by their names');
everywhere([ $primary, $standby ], q{
BEGIN;
ALTER TABLE w RENAME TO u2;
ALTER SCHEMA "Even schema" RENAME TO "gone";
ROLLBACK;
BEGIN;
DROP SCHEMA "Even schema" CASCADE;
ROLLBACK;
});
names_are('rolled back', %odd, pair => 'of_couple', table => 's.even', schema => '"Even schema"', function => '"G"');

# Numbers that are of another cluster, as after pg_upgrade: there, others have them.
everywhere([ $primary, $standby ], q{
SET session_replication_role = replica;
UPDATE tcs.rule SET oids_of = '1/1', schema_oid = 's'::regnamespace WHERE schema IS NOT NULL;
UPDATE tcs.rule SET oids_of = '1/1', function_oid = 'f()'::regprocedure WHERE function LIKE '%couple%';
RESET session_replication_role;
ALTER TABLE plain RENAME TO plainer;
});
names_are('numbers of another cluster', %odd,
	pair => 'of_couple', table => 's.even', schema => '"Even schema"', function => '"G"');
everywhere([ $primary, $standby ], q{ALTER SCHEMA "Even schema" RENAME TO odder; ALTER FUNCTION of_couple RENAME TO of_two});
names_are('... and a rename after that', %odd,
	pair => 'of_two', table => 's.even', schema => 'odder', function => '"G"');

{
	my $before = read_at($primary, q{SELECT relfilenode FROM pg_class WHERE oid = 'tcs.rule'::regclass});
	my $session = TcsWire->new($standby);

	# what has no rules changes nothing for others
	$session->ok_query('PREPARE p AS SELECT count(*) FROM t');
	$session->ok_query('EXECUTE p');
	everywhere([ $primary, $standby ], 'CREATE TABLE other (v int); DROP TABLE other');
	$session->ok_query('EXECUTE p') for (1 .. 6);
	everywhere([ $primary, $standby ], 'CREATE TABLE other (v int); DROP TABLE other');
	is($session->ok_query(q{SELECT generic_plans + custom_plans FROM pg_prepared_statements}), 7, 'prepared');
	$session->disconnect;
}
everywhere([ $primary, $standby ], q{
DROP TYPE couple CASCADE;
DROP TABLE w CASCADE;
DROP FUNCTION of_domain;
DROP TABLE s.even;
DROP SCHEMA odder CASCADE;
DROP ROLE "Even role";
});
is(rules($primary), '', 'all rules are gone with what they were for');
is(read_at($primary, 'SELECT name, relations FROM tcs.groups'), 'g|{v}', '... and a member of a group');
everywhere([ $primary, $standby ], 'DROP VIEW v');
is(read_at($primary, 'SELECT count(*) FROM tcs.groups'), '0', '... and the last one');


##
## Names that change by another kind of statement, and temporary ones
##

# Names that change while a rule is made are in isolation/specs/rule_names.spec.
everywhere([ $primary, $standby ], q{
CREATE TABLE row_of (v int);
CREATE FUNCTION of_row(row_of) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
SELECT tcs.set_rule(function => 'of_row(row_of)', level => 'strong', floor => 'strong');
ALTER INDEX row_of RENAME TO row_with;
});
is(explain($primary, '/* tcs(eventual) */ SELECT of_row(r) FROM row_with r') =~ s/ .*//r, 'strong',
	'ALTER INDEX renames a table, its type and so a function');
{
	my $maker = TcsWire->new($primary);

	$maker->ok_query(q{CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
		CREATE TYPE pg_temp.r AS (v int); CREATE FUNCTION r(pg_temp.r) RETURNS int LANGUAGE sql AS 'SELECT 1'});
	is(($maker->query("SELECT tcs.set_rule(function => '$_', level => 'strong')"))[-1]{state}, '42809', "no rule for $_")
	  foreach ('pg_temp.f()', 'r(pg_temp.r)');
	$maker->disconnect;
}


##
## The rule of a view speaks of what it reads only where it is in force
##

everywhere([ $primary, $standby ], q{
CREATE TABLE under (v int);
CREATE VIEW over AS SELECT * FROM under;
CREATE TABLE loose (v int);
GRANT SELECT ON under, over, loose TO web, dba;
SELECT tcs.set_rule('over', 'strong', role => 'dba');
SELECT tcs.set_rule('loose', 'eventual');
});
foreach my $node ($primary, $standby)
{
	my $name = $node->name;

	is(explain($node, 'SELECT * FROM over, loose', user => 'web'), 'session by default',
		"$name: the rule of a view is another role's");
	like(explain($node, 'SELECT * FROM over, loose', user => 'dba'), qr/^strong by $rule$/,
		'... and for that role');
	like(explain($node, 'SELECT * FROM loose', user => 'web'), qr/^eventual by $rule$/, '... and without the view');
}


##
## What the policies of a table read, by each kind of statement
##

everywhere([ $primary, $standby ], q{
CREATE TABLE may_read (who text);
CREATE TABLE paper (v int);
GRANT SELECT ON may_read, paper TO web;
ALTER TABLE paper ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON paper USING (EXISTS (SELECT FROM may_read WHERE who = current_user));
SELECT tcs.set_rule('may_read', 'session', floor => 'session');
SELECT tcs.set_rule('paper', 'eventual');
});
pause_replay($standby);
{
	my $token = write_token($primary, q{INSERT INTO may_read VALUES ('web')});

	is(psql_err($standby, $_, user => 'web', token => $token, max_wait => 0), 'TC001', "a policy's table: $_")
	  foreach (
		'SELECT * FROM paper',
		'BEGIN; DECLARE c CURSOR FOR SELECT * FROM paper; FETCH c; COMMIT',
		'EXPLAIN ANALYZE SELECT * FROM paper',
		'PREPARE p AS SELECT * FROM paper; EXECUTE p',
		'WITH w AS (SELECT * FROM paper) SELECT * FROM w');
	resume_replay($standby);
	is(psql_err($standby, 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM paper; FETCH c; COMMIT',
			user => 'web', token => $token, max_wait => '60s'), '00000', '... and is waited for');
}

done_testing();
