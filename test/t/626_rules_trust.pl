# test/t/626_rules_trust.pl
#
# What may not be made a rule, and by whom; names in a user's schema that look
# like the system's, and must not be called.

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
	[ q{SELECT * FROM tcs.rules}, '42501' ],
	[ q{SELECT * FROM tcs.groups}, '42501' ],
	[ q{SELECT * FROM tcs.rule}, '42501' ]);
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
like(served($standby, '/* tcs(eventual) */ SELECT v FROM t', user => 'web'), qr/^session by floor [0-9]+$/,
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

done_testing();
