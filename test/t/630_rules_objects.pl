# test/t/630_rules_objects.pl
#
# Rules by data, what can go wrong: bad input; who may make rules; objects that
# are dropped, renamed, made anew, attached and detached; rules that change while
# statements run; DROP EXTENSION and CREATE again; dump and restore; names in a
# user's schema that look like the system's; a database without the extension;
# tcs.enabled = off; kinds of relations and of statements.
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
my $look = q{SELECT level || ' by ' || level_source FROM tcs.last_read()};

sub rules
{
	my ($node, %opt) = @_;

	return read_at($node, q{SELECT string_agg(concat_ws(' ', relation, function, schema, role, application_name), ', ' ORDER BY id) FROM tcs.rules},
		level => 'eventual', %opt);
}

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
## Bad input
##

is(psql_err($primary, "SELECT tcs.set_rule($_->[0])"), $_->[1], "set_rule($_->[0])")
  foreach (
	[ q{'nothere', 'strong'}, '42P01' ],
	[ q{role => 'nobody', level => 'strong'}, '42704' ],
	[ q{'t', 'best'}, '22023' ],
	[ q{'t', ''}, '22023' ],
	[ q{'t', floor => 'best'}, '22023' ],
	[ q{function => 'nothere()', level => 'strong'}, '42883' ],
	[ q{function => 'now()', level => 'strong'}, '42809' ],
	[ q{schema => 'nothere', level => 'strong'}, '3F000' ],
	[ q{schema => 'pg_catalog', level => 'strong'}, '42809' ],
	[ q{schema => 'information_schema', level => 'strong'}, '42809' ],
	[ q{'t', 'strong', operation => 'delete'}, '22023' ],
	[ q{'t', 'strong', operation => NULL}, '22023' ],
	[ q{'t', 'session', floor => 'strong'}, '22023' ],
	[ q{'t', 'read_your_writes', floor => 'monotonic_reads'}, '22023' ],
	[ q{'t', 'strong', hard => true}, '22023' ],
	[ q{'t'}, '22023' ],
	[ q{}, '22023' ],
	[ q{'pg_class', 'strong'}, '42809' ],
	[ q{'t', 'snapshot'}, '22023' ],
	[ q{'t', 'strong', floor => 'snapshot'}, '22023' ],
	[ q{'t', 'strong', database => 'template1'}, '0A000' ],
	[ q{'t', 'strong', schema => 's'}, '22023' ],
	[ q{'t', 'strong', fallback => 'cry'}, '22023' ],
	[ q{'t', 'strong', fallback => ''}, '22023' ],
	[ q{'t', 'bounded', max_staleness => '-1 s'}, '22023' ],
	[ q{'t', 'bounded', max_staleness => '1000 years'}, '22003' ],
	[ q{'t', 'strong', max_wait => '-2 s'}, '22023' ],
	[ q{'t', 'strong', application_name => ''}, '22023' ],
	[ q{'t', 'strong', application_name => 'a\\'}, '22023' ],
	[ q{'t', 'strong', application_name => repeat('x', 257)}, '22023' ],
	[ q{'seq', 'strong'}, '42809' ],
	[ q{'i', 'strong'}, '42809' ],
	[ q{'t', 'remote', operation => 'write'}, '22023' ],
	[ q{'t', 'strong', floor => 'session', operation => 'write'}, '22023' ],
	[ q{floor => 'strong', operation => 'write'}, '22023' ]);
is(psql_err($primary, 'CREATE TEMP TABLE tmp (v int); SELECT tcs.set_rule(\'tmp\', \'strong\')'), '42809',
	'a rule for a temporary table');
is(psql_err($primary, "SELECT $_->[0]"), $_->[1], $_->[0])
  foreach (
	[ q{tcs.drop_rule('t')}, '42704' ],
	[ q{tcs.drop_rule(id => 4711)}, '42704' ],
	[ q{tcs.drop_group('none')}, '42704' ],
	[ q{tcs.set_group('g', 't', 'nothere')}, '42P01' ],
	[ q{tcs.set_group('g', 't', 'pg_class')}, '42809' ],
	[ q{tcs.set_group('', 't')}, '22023' ],
	[ q{tcs.set_group(NULL, 't')}, '23502' ],
	[ q{tcs.set_group('g', 't', NULL)}, '23502' ],
	[ q{tcs.set_group('g', 't', 't')}, '00000' ],
	[ q{tcs.set_group('h', 'u', 't')}, '23505' ],
	[ q{tcs.drop_group('g')}, '00000' ],
	[ q{tcs.explain_level('SELECT 1; SELECT 2')}, '22023' ],
	[ q{tcs.explain_level('')}, '22023' ],
	[ q{tcs.explain_level('SELEC')}, '42601' ],
	[ q{tcs.explain_level('SELECT * FROM nothere')}, '42P01' ]);
is(rules($primary), '', 'none of these has made a rule');
is(psql_err($standby, q{SELECT tcs.set_rule('t', 'strong')}), '25006', 'set_rule() on a standby');
is(psql_err($primary, q{INSERT INTO tcs.rule (relation, level) VALUES ('t', 'best')}), '22023',
	'an INSERT by hand is checked, too');
is(psql_err($primary, q{INSERT INTO tcs.rule_group VALUES (4711, 'g')}), '42P01', '... and one into a group');

{
	# a text that needs TOAST, read where there is no snapshot yet
	everywhere([ $primary, $standby ], q{SELECT tcs.set_rule(application_name => 'nobody',
		level => 'strong', reason => (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i))});
	my $session = TcsWire->new($standby);

	$session->ok_query('BEGIN');
	$session->ok_query('COMMIT');
	is($session->ok_query('SELECT v FROM t; ' . $look), 'session by default', 'a rule of 100 kB');
	$session->disconnect;
	everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');
}
everywhere([ $primary, $standby ], q{SELECT tcs.set_rule(application_name => 'a\\%_b', level => 'strong')});
like(explain($standby, 'SELECT v FROM t', set => { application_name => $_->[0] }), qr/^$_->[1]/,
	"a pattern with an escape, and \"$_->[0]\"")
  foreach ([ 'a%xb', 'strong' ], [ 'axxb', 'session' ]);
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');
is(explain($standby, 'SELECT v FROM t', set => { application_name => 'a%xb' }), 'session by default',
	'TRUNCATE of the rules');


##
## Who may
##

is(psql_err($primary, $_->[0], user => 'web'), $_->[1], "without rights: $_->[0]")
  foreach (
	[ q{SELECT tcs.set_rule('t', 'strong')}, '42501' ],
	[ q{SELECT tcs.drop_rule('t')}, '42501' ],
	[ q{SELECT tcs.set_group('g', 't')}, '42501' ],
	[ q{SELECT tcs.drop_group('g')}, '42501' ],
	[ q{DELETE FROM tcs.rule}, '42501' ],
	[ q{DELETE FROM tcs.rules}, '55000' ],
	[ q{TRUNCATE tcs.rule}, '42501' ],
	[ q{SELECT * FROM tcs.rules}, '00000' ],
	[ q{SELECT * FROM tcs.groups}, '00000' ],
	[ q{SELECT * FROM tcs.rule}, '00000' ]);
everywhere([ $primary, $standby ], 'GRANT SELECT, INSERT, UPDATE, DELETE ON tcs.rule, tcs.rule_group TO dba');
is(psql_err($primary, $_, user => 'dba'), '00000', "whoever was granted: $_")
  foreach (
	q{SELECT tcs.set_rule('t', 'strong')},
	q{SELECT tcs.set_rule('t', 'strong', floor => 'session', role => 'web')},
	q{SELECT tcs.set_rule(schema => 's', level => 'strong')},
	q{SELECT tcs.set_rule(function => 'f()', level => 'strong')},
	q{SELECT tcs.set_group('g', 't', 'u')},
	q{SELECT tcs.drop_group('g')},
	q{SELECT tcs.drop_rule(function => 'f()')},
	q{SELECT tcs.drop_rule(schema => 's')},
	q{SELECT tcs.drop_rule('t')});
wait_for_replay($primary, $standby);
is(read_at($primary, 'SELECT set_by FROM tcs.rules'), 'dba', 'who made it');

everywhere([ $primary, $standby ], 'GRANT SELECT ON t TO web');
like(served($standby, '/* tcs(eventual) */ SELECT v FROM t', user => 'web'), qr/^session by floor of $rule$/,
	'a hint by a role that may not go below the floor');
is(served($standby, '/* tcs(eventual) */ SELECT v FROM t'), 'eventual by hint', '... and by one that may');
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');


##
## search_path: what looks like the system's must not be called
##

everywhere([ $primary, $standby ], q{
CREATE SCHEMA trap AUTHORIZATION web;
CREATE TABLE trap.log (who name, what text);
GRANT INSERT ON trap.log TO PUBLIC;
GRANT USAGE ON SCHEMA trap TO PUBLIC;
CREATE FUNCTION trap.note(what text) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO trap.log VALUES (current_user, what); RETURN true; END$$;
CREATE FUNCTION trap.eq(oid, oid) RETURNS boolean LANGUAGE sql AS $$SELECT trap.note('oid =')$$;
CREATE FUNCTION trap.eq(name, name) RETURNS boolean LANGUAGE sql AS $$SELECT trap.note('name =')$$;
CREATE FUNCTION trap.eq(name, text) RETURNS boolean LANGUAGE sql AS $$SELECT trap.note('name = text')$$;
CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE sql AS $$SELECT trap.note('text =')$$;
CREATE FUNCTION trap.eq(int, int) RETURNS boolean LANGUAGE sql AS $$SELECT trap.note('int =')$$;
CREATE OPERATOR trap.= (FUNCTION = trap.eq, LEFTARG = oid, RIGHTARG = oid);
CREATE OPERATOR trap.= (FUNCTION = trap.eq, LEFTARG = name, RIGHTARG = name);
CREATE OPERATOR trap.= (FUNCTION = trap.eq, LEFTARG = name, RIGHTARG = text);
CREATE OPERATOR trap.= (FUNCTION = trap.eq, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR trap.= (FUNCTION = trap.eq, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR trap.<> (FUNCTION = trap.eq, LEFTARG = name, RIGHTARG = name);
CREATE OPERATOR trap.<> (FUNCTION = trap.eq, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION trap.pg_event_trigger_dropped_objects() RETURNS TABLE (classid oid, objid oid, objsubid int, object_name text, object_identity text)
	LANGUAGE sql AS $$SELECT 1, 1, 1, '', '' WHERE trap.note('dropped')$$;
CREATE FUNCTION trap.unnest(regclass[]) RETURNS SETOF regclass LANGUAGE sql AS $$SELECT 't'::regclass WHERE trap.note('unnest')$$;
CREATE FUNCTION trap.pg_identify_object(oid, oid, int, OUT identity text) LANGUAGE sql AS $$SELECT trap.note('identify')::text$$;
CREATE FUNCTION trap.count(int) RETURNS bigint LANGUAGE sql AS $$SELECT 1 WHERE trap.note('count')$$;
CREATE TABLE trap.pg_roles (oid oid);
CREATE TABLE trap.pg_proc (oid oid);
CREATE TABLE trap.pg_namespace (oid oid, nspname name);
CREATE TABLE trap.pg_class (oid oid);
CREATE TYPE trap.regclass AS (x int);
CREATE TYPE trap.regprocedure AS (x int);
CREATE FUNCTION f(x int) RETURNS int LANGUAGE sql AS 'SELECT 1';
});
is( psql_err(
		$primary, q{
SELECT tcs.set_rule('t'::pg_catalog.regclass, 'strong');
SELECT tcs.set_rule(schema => 's', level => 'strong');
SELECT tcs.set_rule(function => 'public.f(int)'::pg_catalog.regprocedure, level => 'strong');
SELECT tcs.set_group('g', 't'::pg_catalog.regclass, 'u'::pg_catalog.regclass);
SELECT * FROM tcs.rules;
SELECT * FROM tcs.groups;
SELECT * FROM tcs.explain_level('SELECT * FROM public.t');
ALTER SCHEMA s RENAME TO s2;
ALTER FUNCTION public.f(int) RENAME TO g;
CREATE TABLE public.x ();
DROP TABLE public.x;
CREATE ROLE shortlived;
DROP ROLE shortlived;
SELECT tcs.drop_group('g');
SELECT tcs.drop_rule('t'::pg_catalog.regclass);
SELECT tcs.drop_rule(schema => 's2');
SELECT tcs.drop_rule(function => 'public.g(int)'::pg_catalog.regprocedure);
ALTER SCHEMA s2 RENAME TO s;
}, options => '-c search_path=trap,pg_catalog,public'),
	'00000',
	'functions and triggers with a trap first in search_path');
is(read_at($primary, 'SELECT string_agg(who || what, $$,$$) FROM trap.log'), '', 'nothing of it was called');
everywhere([ $primary, $standby ], 'DROP SCHEMA trap CASCADE; DROP FUNCTION g');


##
## Transactions
##

{
	my $session = TcsWire->new($primary);
	my $level = q{SELECT level FROM tcs.explain_level('SELECT * FROM t')};

	$session->ok_query('BEGIN');
	$session->ok_query(q{SELECT tcs.set_rule('t', 'strong')});
	is($session->ok_query($level), 'strong', 'a rule is in force in its own transaction');
	is(explain($primary, 'SELECT * FROM t'), 'session by default', '... and nowhere else');
	$session->ok_query('SAVEPOINT a');
	$session->ok_query(q{SELECT tcs.set_rule('t', 'bounded')});
	is($session->ok_query($level), 'bounded', '... changed after a savepoint');
	$session->ok_query('ROLLBACK TO a');
	is($session->ok_query($level), 'strong', '... and back');
	$session->ok_query('ROLLBACK');
	is($session->ok_query($level), 'session', '... and gone with it');
	$session->disconnect;
}


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
## A database without the extension; switched off
##

everywhere([ $primary, $standby ], 'CREATE DATABASE bare');
is(psql_err($standby, 'BEGIN; SELECT count(*) FROM pg_class; COMMIT', dbname => 'bare', level => 'strong'), '00000',
	'a database without the extension');
is(psql_err($primary, 'CREATE TABLE t (v int); DROP TABLE t; CREATE ROLE r; DROP ROLE r; CREATE SCHEMA tcs; CREATE TABLE tcs.rule (id int, role oid); CREATE TABLE tcs.rule_group (relation oid, name text); CREATE ROLE r; DROP ROLE r', dbname => 'bare'),
	'00000', '... also with tables of such names');

everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('t', 'strong', max_wait => '10s')});
{
	my $session = TcsWire->new($standby);

	$standby->append_conf('postgresql.conf', 'tcs.enabled = off');
	$standby->reload;
	$session->parse('p', 'SELECT count(*) FROM t')->sync;
	$session->results;
	$standby->poll_query_until('postgres', 'SHOW tcs.enabled', 'off');
	$session->ok_query('SELECT 1') until $session->ok_query('SHOW tcs.enabled') eq 'off';
	$session->bind('', 'p')->execute('')->sync;
	is(TcsWire::describe_result($session->results), '1000', 'switched off');
	is($session->ok_query('SELECT count(*) FROM tcs.last_read() WHERE level_source IS NOT NULL'), '0', '... nothing is chosen');
	$standby->append_conf('postgresql.conf', 'tcs.enabled = on');
	$standby->reload;
	$session->ok_query('SELECT 1') until $session->ok_query('SHOW tcs.enabled') eq 'on';
	$session->bind('', 'p')->execute('')->sync;
	is(TcsWire::describe_result($session->results), '1000', 'switched on');
	like($session->ok_query($look), qr/^strong by $rule/, '... a plan made meanwhile has its rule');
	$session->disconnect;
}


##
## DROP EXTENSION and CREATE again
##

{
	my $session = TcsWire->new($standby);
	my $own = TcsWire->new($primary);

	foreach ($session, $own)
	{
		$_->parse('p', 'SELECT count(*) FROM t')->sync;
		$_->results;
	}
	my $run = sub
	{
		my ($s) = @_;

		$s->bind('', 'p')->execute('')->sync;
		return TcsWire::describe_result($s->results);
	};

	is($run->($_), '1000', 'before') foreach ($session, $own);
	like($session->ok_query($look), qr/^strong by/, 'a rule');
	everywhere([ $primary, $standby ], 'DROP EXTENSION tcs');
	is($run->($_), '1000', 'without the extension') foreach ($session, $own);
	is($session->ok_query(q{SELECT count(*) FROM pg_namespace WHERE nspname = 'tcs'}), '1', 'its schema stays');
	everywhere([ $primary, $standby ], 'CREATE EXTENSION tcs');
	everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('t', 'strong', max_wait => '10s')});
	foreach ($session, $own)
	{
		is($run->($_), '1000', 'with it again');
		like($_->ok_query($look), qr/^strong by $rule/, '... and a rule');
	}
	everywhere([ $primary, $standby ], 'DROP EXTENSION tcs; CREATE EXTENSION tcs');
	is($run->($session), '1000', 'made anew');
	is($session->ok_query($look), 'session by default', '... without rules');
	$_->disconnect foreach ($session, $own);
}


##
## 1,000 rules
##

everywhere([ $primary, $standby ], q{
DO $$BEGIN
	FOR i IN 1 .. 990 LOOP
		EXECUTE format('CREATE TABLE many_%s (v int)', i);
		PERFORM tcs.set_rule(format('many_%s', i)::regclass, (ARRAY['bounded', 'session', 'strong'])[1 + i % 3]);
	END LOOP;
	FOR i IN 1 .. 10 LOOP
		PERFORM tcs.set_rule(application_name => 'app' || i, level => 'strong');
	END LOOP;
END$$;
});
is(read_at($standby, 'SELECT count(*) FROM tcs.rules'), '1000', '1,000 rules');
like(explain($standby, "SELECT * FROM $_->[0]"), qr/^$_->[1] by/, "... $_->[0]")
  foreach ([ 'many_1', 'session' ], [ 'many_2', 'strong' ], [ 'many_990', 'bounded' ], [ 't', 'session' ]);
like(explain($standby, 'SELECT * FROM t', set => { application_name => 'app7' }), qr/^strong by/, '... app7');
everywhere([ $primary, $standby ], q{DO $$BEGIN FOR i IN 1 .. 990 LOOP EXECUTE format('DROP TABLE many_%s', i); END LOOP; END$$});
is(read_at($standby, 'SELECT count(*) FROM tcs.rules'), '10', 'dropped with their tables');
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');


##
## Dump and restore into a new cluster
##

everywhere([ $primary, $standby ], q{
CREATE VIEW v AS SELECT * FROM t;
CREATE TABLE gone (v int);
CREATE ROLE lost;
SELECT tcs.set_rule('t', 'strong', floor => 'session', hard => true, reason => 'dumped');
SELECT tcs.set_rule('v', 'bounded', max_staleness => '2s', max_wait => '3s', fallback => 'redirect, session, error');
SELECT tcs.set_rule(schema => 's', level => 'strong', role => 'web', application_name => 'x%');
SELECT tcs.set_rule(function => 'f()', level => 'strong');
SELECT tcs.set_rule('plainer', 'quorum', operation => 'write');
SELECT tcs.set_rule('gone', 'strong');
SELECT tcs.set_group('g', 't', 'plainer');
SET session_replication_role = replica;
DROP TABLE gone;
RESET session_replication_role;
});
my $columns = q{relation, function, schema, role, application_name, operation, level, max_staleness, max_wait, fallback, floor, hard, reason};
my $all = "SELECT $columns FROM tcs.rules WHERE relation IS NULL OR relation::oid IN (SELECT oid FROM pg_class) ORDER BY id";
my $dump = $primary->basedir . '/dump.sql';
my $globals = $primary->basedir . '/globals.sql';
command_ok([ $primary->installed_command('pg_dump'), '-f', $dump, '-d', $primary->connstr('postgres') ], 'pg_dump');
command_ok([ $primary->installed_command('pg_dumpall'), '-g', '-f', $globals, '-d', $primary->connstr('postgres') ], 'pg_dumpall');
{
	my $other = new_primary('other', extension => 0);

	# without its roles, the rules for them wait, and no others
	my (undef, $stdout, $stderr) = run_sql($other, "\\i $dump", on_error_stop => 0);

	like($stderr, qr/role "(web|dba)" does not exist/, 'a restore without the roles says so');
	is(read_at($other, 'SELECT unresolved, count(*) FROM tcs.rules GROUP BY 1 ORDER BY 1'), "role web|1\n|4",
		'... and has all rules but the one for such a role');

	$other->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
	run_sql($other, "\\i $globals", on_error_stop => 0);
	(undef, $stdout, $stderr) = run_sql($other, "\\i $dump", dbname => 'restored');
	is($stderr, '', 'a restore with them');
	is(read_at($other, $all, dbname => 'restored'), read_at($primary, $all), '... has all rules');
	is(read_at($other, 'SELECT name, relations FROM tcs.groups', dbname => 'restored'), 'g|{plainer,t}', '... and groups');
	like(read_at($other, q{SELECT level || ' ' || source FROM tcs.explain_level('SELECT * FROM plainer')}, dbname => 'restored'),
		qr/^strong $rule/, '... and obeys them');
	is(psql_err($other, q{ALTER SCHEMA s RENAME TO renamed; ALTER FUNCTION f() RENAME TO renamed}, dbname => 'restored'), '00000', 'renamed there');
	is(read_at($other, q{SELECT string_agg(concat(schema, function), ',' ORDER BY id) FROM tcs.rules WHERE schema IS NOT NULL OR function IS NOT NULL}, dbname => 'restored'),
		'renamed,public.renamed()', '... with their rules');
	is(psql_err($other, q{SELECT tcs.set_rule('v', 'strong', role => 'dba')}, dbname => 'restored'), '00000', 'a new rule has a new id');
	$other->stop;
}
is(psql_err($primary, q{SELECT * FROM tcs.rules; SELECT * FROM tcs.groups; SELECT tcs.set_rule('t', 'strong')}), '00000',
	'a rule for what is gone does no harm');

##
## Names that change while a rule is made, or by another kind of statement
##

everywhere([ $primary, $standby ], q{
CREATE SCHEMA late;
CREATE TABLE late.t (v int);
CREATE FUNCTION late.f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION late.gone() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE TABLE row_of (v int);
CREATE FUNCTION of_row(row_of) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
SELECT tcs.set_rule(function => 'of_row(row_of)', level => 'strong', floor => 'strong');
});
{
	my $renamer = TcsWire->new($primary);
	my $maker = TcsWire->new($primary);
	my $watcher = TcsWire->new($primary);
	my $waits = sprintf 'SELECT wait_event_type = $$Lock$$ FROM pg_stat_activity WHERE pid = %d', $maker->pid;

	$renamer->ok_query('BEGIN; ALTER SCHEMA late RENAME TO later');
	$maker->ok_query(q{SELECT tcs.set_rule(schema => 'late', level => 'strong', floor => 'strong')});
	$renamer->ok_query('COMMIT');
	is(explain($primary, '/* tcs(eventual) */ SELECT * FROM later.t') =~ s/ .*//r, 'strong',
		'the rule of a schema that was being renamed is in force');

	$renamer->ok_query('BEGIN; ALTER FUNCTION later.f() RENAME TO g');
	$maker->simple(q{SELECT tcs.set_rule(function => 'later.f()', level => 'strong')})->flush;
	ok($watcher->poll($waits), 'the rule of a function that is being renamed waits');
	$renamer->ok_query('COMMIT');
	is(($maker->results)[-1]{state}, '00000', '... and is made');
	is($watcher->ok_query(q{SELECT count(*) FROM tcs.rules WHERE function = 'later.g()'}), '1', '... for the new name');

	$renamer->ok_query('BEGIN; DROP FUNCTION later.gone()');
	$maker->simple(q{SELECT tcs.set_rule(function => 'later.gone()', level => 'strong')})->flush;
	ok($watcher->poll($waits), 'that of a function that is being dropped waits');
	$renamer->ok_query('COMMIT');
	is(($maker->results)[-1]{state}, '42883', '... and is refused');

	$renamer->ok_query('ALTER INDEX row_of RENAME TO row_with');
	is(explain($primary, '/* tcs(eventual) */ SELECT of_row(r) FROM row_with r') =~ s/ .*//r, 'strong',
		'ALTER INDEX renames a table, its type and so a function');

	$maker->ok_query(q{CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
		CREATE TYPE pg_temp.r AS (v int); CREATE FUNCTION later.r(pg_temp.r) RETURNS int LANGUAGE sql AS 'SELECT 1'});
	is(($maker->query("SELECT tcs.set_rule(function => '$_', level => 'strong')"))[-1]{state}, '42809', "no rule for $_")
	  foreach ('pg_temp.f()', 'later.r(pg_temp.r)');
	$_->disconnect foreach ($renamer, $maker, $watcher);
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
