# test/t/650_rules_restore.pl
#
# Rules in a dump whose objects are not there when tcs.rule is restored.  Each such
# row costs nobody but itself.  It is kept, shown as unresolved, and no rule.  It is
# one again when its object comes, but never by itself for the object of somebody
# who may not make rules.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my $primary = new_primary('primary');
my $folder = PostgreSQL::Test::Utils::tempdir();
my $state = q{SELECT id, relation, function, role, level, unresolved FROM tcs.rules ORDER BY id};

# A statement in a database; its output.
sub at
{
	my ($dbname, $sql, %opt) = @_;

	return read_at($primary, $sql, dbname => $dbname, %opt);
}

# SQLSTATE of a statement in a database.
sub fails
{
	my ($dbname, $sql, %opt) = @_;

	return psql_err($primary, $sql, dbname => $dbname, %opt);
}

sub level
{
	my ($dbname, $sql, %opt) = @_;

	return at($dbname, "SELECT level FROM tcs.explain_level(\$q\$$sql\$q\$)", %opt);
}

# A new database with a dump of another one; what the restore had to say.
my $dumps = 0;

sub restored
{
	my ($from, $to, %opt) = @_;
	my $file = "$folder/dump" . ++$dumps;
	my $custom = $opt{restore} ? 1 : 0;

	command_ok(
		[
			$primary->installed_command('pg_dump'), ($custom ? '-Fc' : ()), @{ $opt{dump} // [] },
			'-f', $file, '-d', $primary->connstr($from)
		],
		"pg_dump @{ $opt{dump} // [] } into $to");
	$primary->safe_psql('postgres', "CREATE DATABASE $to TEMPLATE template0") if !$opt{into};
	if ($custom)
	{
		command_ok([ $primary->installed_command('pg_restore'), @{ $opt{restore} }, '-d', $primary->connstr($to), $file ],
			"pg_restore @{ $opt{restore} }");
		return '';
	}

	my (undef, undef, $stderr) = run_sql($primary, "\\i $file", dbname => $to, on_error_stop => 0);

	return $stderr;
}


##
## What pg_dump puts behind the data, and roles
##

at('postgres', q{
CREATE ROLE mallory LOGIN;
CREATE ROLE leaves;
CREATE ROLE keeper LOGIN;
CREATE TABLE account (id int PRIMARY KEY, v int);
CREATE TABLE other (v int);
CREATE SCHEMA m AUTHORIZATION mallory;
SELECT tcs.set_rule('account', 'strong', floor => 'strong', reason => 'money');
});
at('postgres', q{
CREATE TABLE m.p (id int PRIMARY KEY, v int);
CREATE FUNCTION m.f() RETURNS SETOF int LANGUAGE sql AS 'SELECT v FROM m.p';
CREATE FUNCTION m.g(m.p) RETURNS int LANGUAGE sql RETURN 1;
}, user => 'mallory');
at('postgres', q{
SELECT tcs.set_rule(function => 'm.f()', level => 'bounded');
SELECT tcs.set_rule('other', floor => 'strong', role => 'leaves');
});
# no right on tcs.rule is needed for this
at('postgres', q{
CREATE OR REPLACE FUNCTION m.f() RETURNS SETOF int LANGUAGE sql BEGIN ATOMIC SELECT v FROM m.p GROUP BY id; END;
CREATE MATERIALIZED VIEW m."M V" AS SELECT id, v FROM m.p GROUP BY id;
CREATE FUNCTION m.h(m."M V") RETURNS int LANGUAGE sql RETURN 1;
}, user => 'mallory');
at('postgres', q{
SELECT tcs.set_rule('m."M V"', 'linearizable', fallback => 'strong, error');
SELECT tcs.set_rule(function => 'm.h(m."M V")', level => 'strong');
SELECT tcs.set_group('g', 'account', 'm."M V"');
});
my $before = at('postgres', $state);

my $check = sub
{
	my ($dbname, %opt) = @_;
	my $said = restored('postgres', $dbname, %opt);

	unlike($said, qr/ERROR/, "$dbname: no errors");
	like($said, qr/WARNING:  \S+ rule [0-9]+ is not in force: there is no \Q$_\E that it could be for/, "$dbname: a warning of $_")
	  foreach $said eq '' ? () : ('function "m.f()"', 'relation "m."M V""');
	is(at($dbname, $state), $before, "$dbname: all rules are there and in force");
	is(at($dbname, 'SELECT * FROM tcs.groups'), 'g|{account,"m.\"M V\""}|', "$dbname: and the group");
	is(level($dbname, 'SELECT * FROM account'), 'linearizable', "$dbname: and they are obeyed");
	is(level($dbname, 'SELECT m.f()'), 'bounded', "$dbname: so is that of the function");
	return;
};

$check->('plain');
$check->('inserts', dump => ['--column-inserts']);
$check->('custom', restore => []);
$check->('at_once', restore => ['--single-transaction']);
# pg_restore -j would create this function before its argument's type
at('postgres', 'DROP FUNCTION m.h');
$before = at('postgres', $state);
$check->('parallel', restore => [ '-j', '3' ]);
is(at('plain', q{SELECT count(*) FROM tcs.rule WHERE schema_oid IS NOT NULL OR (function IS NULL) <> (function_oid IS NULL)}),
	'0', 'the numbers are those of the new database');
is(fails('plain', q{ALTER FUNCTION m.f() RENAME TO f2; ALTER MATERIALIZED VIEW m."M V" RENAME TO mv}), '00000', 'renamed there');
is(at('plain', q{SELECT string_agg(concat(relation, function), ' ' ORDER BY id) FROM tcs.rules WHERE id IN (2, 4)}),
	'm.f2() m.mv', '... with their rules');

# data alone, with the triggers off
restored('postgres', 'structure', dump => ['--schema-only']);
restored('postgres', 'structure', into => 1, dump => [ '--data-only', '--disable-triggers' ]);
is(at('structure', $state), $before, 'restored without triggers: all rules are there and in force');

at('postgres', 'ALTER ROLE leaves RENAME TO stays');
is(at('custom', q{SELECT role FROM tcs.rules WHERE id = 3}), 'stays', 'a rule follows the name of its role');


##
## Objects that do not come, and strangers who make some of that name
##

at('postgres', q{
CREATE DATABASE source;
CREATE ROLE lost;
});
at('source', q{
CREATE EXTENSION tcs;
CREATE SCHEMA open;
GRANT USAGE, CREATE ON SCHEMA open TO PUBLIC;
GRANT INSERT, UPDATE ON tcs.rule TO keeper;
GRANT INSERT, DELETE ON tcs.rule_group TO keeper;
CREATE TABLE account (v int);
CREATE TABLE plain (v int);
CREATE TABLE open.one (v int);
CREATE TABLE open.two (v int);
CREATE TABLE open.three (v int);
CREATE FUNCTION open.f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE SCHEMA later;
SELECT tcs.set_rule('account', floor => 'strong');
SELECT tcs.set_rule('open.one', 'eventual');
SELECT tcs.set_rule('open.two', 'strong', floor => 'strong');
SELECT tcs.set_rule(function => 'open.f(int)', level => 'strong');
SELECT tcs.set_rule(schema => 'later', level => 'strong');
SELECT tcs.set_rule(role => 'lost', level => 'strong', application_name => 'x%');
SELECT tcs.set_rule('open.three', 'strong');
SELECT tcs.set_group('g', 'account', 'open.one', 'open.two');
});
# a restore without these objects
my $left_out = sub
{
	my ($to) = @_;
	my $file = "$folder/left_out";

	command_ok([ $primary->installed_command('pg_dump'), '-Fc', '-f', $file, '-d', $primary->connstr('source') ], "pg_dump for $to");
	my $list = `@{[ $primary->installed_command('pg_restore') ]} -l $file`;

	$list = join "\n", grep { !/ (TABLE|FUNCTION) open |TABLE DATA open |SCHEMA - later / } split /\n/, $list;
	append_to_file("$folder/$to.list", "$list\n");
	at('postgres', "CREATE DATABASE $to TEMPLATE template0");
	command_ok([ $primary->installed_command('pg_restore'), '-L', "$folder/$to.list", '-d', $primary->connstr($to), $file ],
		'... is restored in part');
	return;
};

{
	my $log = log_position($primary);

	# dumped with its name, and dropped before the restore
	my $file = "$folder/with_role";

	command_ok([ $primary->installed_command('pg_dump'), '-f', $file, '-d', $primary->connstr('source') ], 'a dump that names a role');
	at('postgres', 'ALTER ROLE lost RENAME TO found');
	at('postgres', 'CREATE DATABASE no_role TEMPLATE template0');
	my (undef, undef, $stderr) = run_sql($primary, "\\i $file", dbname => 'no_role', on_error_stop => 0);

	like($stderr, qr/WARNING:  \S+ rule 6 is not in force: there is no role "lost" that it could be for/, 'a role that is missing');
	unlike($stderr, qr/ERROR/, '... is no error');
	like(log_since($primary, $log), qr/rule 6 is not in force/, '... and is in the log');
}
is(at('no_role', q{SELECT id, role, unresolved FROM tcs.rules WHERE unresolved IS NOT NULL}), '6||role lost', '... is shown');
is(level('no_role', 'SELECT 1 FROM open.one', set => { application_name => 'xy' }), 'strong', '... others are in force');
is(at('no_role', q{SELECT level_source FROM tcs.explain_level('SELECT * FROM plain')}, set => { application_name => 'xy' }), 'default',
	'... and it is not everybody\'s rule');
at('postgres', 'ALTER ROLE mallory CREATEROLE');
at('no_role', 'CREATE ROLE lost', user => 'mallory');
is(at('no_role', 'SELECT unresolved FROM tcs.rules WHERE id = 6'), 'role lost', 'a role that a stranger creates gets no rule');
at('no_role', 'CREATE TABLE unrelated (v int); ALTER TABLE unrelated ADD w int; CREATE SCHEMA unrelated');
is(at('no_role', 'SELECT unresolved FROM tcs.rules WHERE id = 6'), 'role lost', '... nor by what a superuser does meanwhile');
at('no_role', 'DROP ROLE lost', user => 'mallory');
at('no_role', 'CREATE ROLE lost');
is(at('no_role', 'SELECT role, unresolved FROM tcs.rules WHERE id = 6'), 'lost|', 'a role that a superuser creates does');
at('postgres', 'ALTER ROLE mallory NOCREATEROLE; DROP ROLE found');

$left_out->('part');
my $unresolved = q{SELECT id, unresolved FROM tcs.rules WHERE unresolved IS NOT NULL ORDER BY id};

is(at('part', $unresolved), "2|relation open.one\n3|relation open.two\n4|function open.f(integer)\n5|schema later\n7|relation open.three",
	'objects that were not restored');
is(at('part', 'SELECT * FROM tcs.groups'), 'g|{account}|{open.one,open.two}', '... in a group');
is(level('part', 'SELECT * FROM account'), 'strong', 'the floors of others are in force');
is(level('part', 'CREATE TABLE x AS SELECT 1', set => { application_name => 'a' }), 'session', 'what is unresolved binds nobody');

# a stranger makes objects of these names
{
	my (undef, undef, $stderr) = run_sql($primary, q{
CREATE TABLE open.one (v int);
CREATE TABLE open.t (v int);
ALTER TABLE open.t RENAME TO two;
CREATE FUNCTION open.f(int) RETURNS int LANGUAGE sql AS 'SELECT 2';
}, dbname => 'part', user => 'mallory');

	like($stderr, qr/WARNING:  \S+ rule $_ is not in force for/, "a stranger's object: a warning, rule $_") foreach (2, 3, 4);
	like($stderr, qr/membership in group "g" is not in force for relation "open.one"/, '... and group');
	unlike($stderr, qr/ERROR/, '... and no error');
}
my $held = at('part', $unresolved);

is($held, "2|relation open.one\n3|relation open.two\n4|function open.f(integer)\n5|schema later\n7|relation open.three", '... and no rule');
is(level('part', 'SELECT * FROM open.one'), 'session', '... also not in force');
is(level('part', 'SELECT open.f(1)'), 'session', '... nor that of the function');
# a superuser's statements on what a stranger has made
at('part', q{
ALTER TABLE open.one ADD w int;
CREATE OR REPLACE FUNCTION open.f(int) RETURNS int LANGUAGE sql AS 'SELECT 3';
CREATE INDEX ON open.one (v);
CREATE TABLE unrelated (v int);
GRANT SELECT ON open.one TO PUBLIC;
UPDATE tcs.rule SET reason = 'seen' WHERE id = 1;
});
is(at('part', $unresolved), $held, 'a superuser\'s statement on them binds nothing either');
is(fails('part', 'SELECT tcs.resolve_rules()', user => 'mallory'), '42501', 'a stranger cannot ask for it');
is(fails('part', q{SELECT tcs.resolve_rules()}, user => 'keeper'), '00000', 'who may write rules can');
is(at('part', $unresolved), "5|schema later\n7|relation open.three", '... which finds what is there');
is(at('part', 'SELECT * FROM tcs.groups'), 'g|{account,open.one,open.two}|', '... also for the group');
is(level('part', 'SELECT open.f(1)'), 'strong', '... in force');
is(at('part', 'SELECT tcs.resolve_rules()'), '0', 'and again');

# the wrong kind of object
at('part', 'CREATE SEQUENCE open.three');
is(at('part', 'SELECT tcs.resolve_rules()'), '0', 'a sequence has no rules');
at('part', 'DROP SEQUENCE open.three');
at('part', 'CREATE TEMP TABLE three (v int); CREATE VIEW open.three AS SELECT 1 AS v');
is(at('part', $unresolved), '5|schema later', 'a view that a superuser makes has');
at('part', 'CREATE SCHEMA late; ALTER SCHEMA late RENAME TO later');
is(at('part', $unresolved), '', 'a schema that gets the name');


##
## Rows by hand; set_rule() and drop_rule()
##

is(fails('part', $_->[0]), $_->[1], "by hand: $_->[0]")
  foreach (
	[ q{INSERT INTO tcs.rule (relation, level) VALUES ('nothere', 'strong')}, '42P01' ],
	[ q{INSERT INTO tcs.rule (relation, level) VALUES (4711, 'strong')}, '42P01' ],
	[ q{INSERT INTO tcs.rule (role, level) VALUES ('nothere', 'strong')}, '42704' ],
	[ q{INSERT INTO tcs.rule (function, level) VALUES ('nothere()', 'strong')}, '42883' ],
	[ q{INSERT INTO tcs.rule (schema, level) VALUES ('nothere', 'strong')}, '3F000' ],
	[ q{INSERT INTO tcs.rule (missing_relation, schema, level) VALUES ('a.b', 'public', 'strong')}, '22023' ],
	[ q{INSERT INTO tcs.rule (missing_relation, level) VALUES ('a.b', 'best')}, '22023' ],
	[ q{INSERT INTO tcs.rule_group (name) VALUES ('g')}, '23502' ],
	[ q{INSERT INTO tcs.rule (id, missing_relation, level) VALUES (100, 'open.later', 'strong')}, '00000' ],
	[ q{INSERT INTO tcs.rule (id, missing_relation, level) VALUES (101, '"', 'strong')}, '00000' ],
	[ q{INSERT INTO tcs.rule (id, missing_relation, missing_role, level) VALUES (102, 'open.one', 'nothere', 'strong')}, '00000' ]);
is(at('part', q{SELECT id, relation, unresolved FROM tcs.rules WHERE id >= 100 ORDER BY id}),
	"100||relation open.later\n101||relation \"\n102|open.one|role nothere", '... as a dump would');
is(at('part', q{SELECT tcs.drop_rule(id => 101)}), '101', 'dropped by id');
is(fails('part', q{SELECT tcs.drop_rule('open.one', role => 'nothere')}), '42704', 'dropped by criteria that are not there');
is(at('part', q{CREATE ROLE nothere; SELECT tcs.drop_rule('open.one', role => 'nothere')}), '102', '... and that are');
at('part', 'DROP ROLE nothere');
is(fails('part', 'CREATE TABLE open.later (v int)', user => 'mallory'), '00000', 'a stranger\'s table');
at('part', q{SELECT tcs.set_rule('open.later', 'bounded')});
is(at('part', q{SELECT relation, level, unresolved FROM tcs.rules WHERE id >= 100 OR relation = 'open.later'::regclass}),
	'open.later|bounded|', 'set_rule() replaces what waits for the same table');

# a stranger who names the schema of somebody else's table
at('part', q{
GRANT CREATE ON DATABASE part TO mallory;
CREATE SCHEMA hers AUTHORIZATION mallory;
CREATE TABLE hers.t (v int);
GRANT SELECT ON hers.t TO mallory WITH GRANT OPTION;
INSERT INTO tcs.rule (id, missing_relation, level) VALUES (110, 'grabbed.t', 'eventual');
});
at('part', 'BEGIN; GRANT SELECT ON hers.t TO keeper; ALTER SCHEMA hers RENAME TO grabbed; CREATE TABLE grabbed.x (v int); COMMIT',
	user => 'mallory');
at('part', 'CREATE TABLE unrelated2 (v int)');
is(at('part', $unresolved), '110|relation grabbed.t', 'a stranger who renames a schema binds what is in it to no rule');

# who may
at('part', 'REVOKE UPDATE ON tcs.rule FROM keeper');
is(fails('part', q{SELECT tcs.set_rule('open.later', 'strong')}, user => 'keeper'), '42501', 'set_rule() with INSERT alone');
is(fails('part', q{SELECT tcs.resolve_rules()}, user => 'keeper'), '42501', '... and resolve_rules()');


##
## Two rows that come to the same in a dump
##

at('source', q{
TRUNCATE tcs.rule, tcs.rule_group;
GRANT ALL ON account TO PUBLIC;
CREATE TABLE open.named (v int);
ALTER TABLE open.named OWNER TO mallory;
CREATE ROLE lost2;
SELECT tcs.set_rule('open.named', 'bounded', floor => 'bounded', max_staleness => '1s');
SELECT tcs.set_rule('account', floor => 'strong');
INSERT INTO tcs.rule (id, missing_relation, level) VALUES (900, 'open.taken', 'strong'), (901, 'open.taken', 'session');
INSERT INTO tcs.rule_group (name, missing) VALUES ('h', 'open.taken'), ('i', 'open.taken');
SELECT tcs.set_group('j', 'open.named', 'account');
});
at('source', 'ALTER TABLE open.named RENAME TO taken', user => 'mallory');
unlike(restored('source', 'same'), qr/ERROR/, 'a name that several rows have');
is(at('same', q{SELECT count(*) FILTER (WHERE relation = 'open.taken'::regclass AND unresolved IS NULL), count(*) FILTER (WHERE unresolved = 'relation open.taken') FROM tcs.rules}),
	'1|2', '... one is in force, and the others are kept');
like(level('same', 'SELECT * FROM account'), qr/^strong$/, '... the floors of others are in force');
is(at('same', q{SELECT level FROM tcs.rules WHERE relation = 'open.taken'::regclass}), 'bounded', '... as where the dump was made');
is(at('same', $_), at('source', $_), '... the same with groups') foreach ('SELECT * FROM tcs.groups ORDER BY name');


##
## What is in force at the dump is in force after the restore, and nothing else
##

at('source', q{
TRUNCATE tcs.rule, tcs.rule_group;
CREATE ROLE reader;
INSERT INTO tcs.rule (id, missing_relation, level) VALUES (910, 'open.swapped', 'eventual');
INSERT INTO tcs.rule (id, missing_relation, role, level) VALUES (911, 'open.swapped', 'reader', 'eventual');
INSERT INTO tcs.rule (id, missing_relation, level) VALUES (912, 'open.stored', 'eventual');
INSERT INTO tcs.rule_group (name, missing) VALUES ('old', 'open.swapped'), ('old', 'open.stored');
CREATE TABLE open.keyed (id int PRIMARY KEY, v int);
CREATE MATERIALIZED VIEW open.stored0 AS SELECT id, v FROM open.keyed GROUP BY id;
CREATE TABLE open.swapped0 (v int);
ALTER TABLE open.swapped0 OWNER TO mallory;
GRANT SELECT ON open.keyed TO mallory;
ALTER MATERIALIZED VIEW open.stored0 OWNER TO mallory;
SELECT tcs.set_rule('open.swapped0', 'strong', floor => 'strong', hard => true);
SELECT tcs.set_rule('open.stored0', 'strong', floor => 'strong', hard => true);
SELECT tcs.set_group('new', 'open.swapped0', 'open.stored0', 'account');
});
at('source', 'ALTER TABLE open.swapped0 RENAME TO swapped; ALTER MATERIALIZED VIEW open.stored0 RENAME TO stored', user => 'mallory');
{
	my $rules = 'SELECT id, relation, level, floor, unresolved IS NOT NULL FROM tcs.rules ORDER BY id';
	my $groups = 'SELECT * FROM tcs.groups ORDER BY name';
	my %was = map { $_ => at('source', $_) } ($rules, $groups);
	my $same_as_before = sub
	{
		my ($dbname) = @_;

		is(at($dbname, $_), $was{$_}, "$dbname: $_") foreach ($rules, $groups);
		is(level($dbname, 'SELECT * FROM open.swapped'), 'strong', "$dbname: ... and obeyed");
		return;
	};

	like($was{$rules}, qr/^910\|\|eventual\|\|t$/m, 'an old row of a name that another one has now');
	like(restored('source', 'swap_plain'), qr/rule 910 is not in force: it was not when it was dumped/, 'a restore tells of it');
	$same_as_before->('swap_plain');
	restored('source', 'swap_inserts', dump => ['--column-inserts']);
	$same_as_before->('swap_inserts');
	restored('source', 'swap_custom', restore => []);
	$same_as_before->('swap_custom');
	restored('swap_custom', 'swap_again', restore => ['--single-transaction']);
	$same_as_before->('swap_again');
	restored('source', 'swap_data', dump => ['--schema-only']);
	restored('source', 'swap_data', into => 1, dump => [ '--data-only', '--disable-triggers' ]);
	$same_as_before->('swap_data');
	at('swap_plain', q{UPDATE tcs.rule SET reason = 'seen'; CREATE TABLE unrelated (v int); ALTER TABLE open.swapped ADD w int});
	$same_as_before->('swap_plain');
	is(at('swap_plain', 'SELECT tcs.resolve_rules()'), '1', 'what is asked for is put in force, where the place is free');
	is(at('swap_plain', 'SELECT id, unresolved FROM tcs.rules WHERE id IN (910, 911) ORDER BY id'), "910|relation open.swapped\n911|", '... and no more');
}


##
## Restored and created at the same time
##

# That each waits for the other is in isolation/specs/rule_restore.spec.
#
# Nobody gets a rule by an object that he makes, unless he may make rules.  So a
# restore does not wait for others, nor do they wait for it; and a temporary table has
# no rule.  A lock that is waited for is an error here.
at('part', q{CREATE ROLE stranger; GRANT CREATE ON SCHEMA public TO stranger});
foreach my $create (
	'CREATE TEMP TABLE mine (v int)',
	'SET ROLE stranger; CREATE TEMP TABLE mine (v int)',
	'SET ROLE stranger; CREATE TABLE his_own (v int)',
	'SET ROLE stranger; CREATE FUNCTION his_own() RETURNS int LANGUAGE sql AS \'SELECT 1\'',
	'CREATE TEMP TABLE mine AS SELECT 1',
	'SELECT 1 INTO TEMP mine',
	'SET ROLE stranger; CREATE TEMP TABLE mine (v int); ALTER TABLE mine RENAME TO still_mine',
	'CREATE VIEW pg_temp.seen AS SELECT 1')
{
	my $dump = TcsWire->new($primary, dbname => 'part', options => '-c lock_timeout=1000');
	my $ddl = TcsWire->new($primary, dbname => 'part', options => '-c lock_timeout=1000');
	my $row = q{INSERT INTO tcs.rule (missing_relation, level) VALUES ('public.is_to_come', 'strong')};

	is(($ddl->query("BEGIN; $create"))[-1]{state}, '00000', $create);
	is(($dump->query("BEGIN; $row"))[-1]{state}, '00000', '... in a transaction still open: a restore does not wait');
	$ddl->query('ROLLBACK');
	is(($ddl->query("BEGIN; $create"))[-1]{state}, '00000', '... nor is it kept waiting by one');
	$_->query('ROLLBACK') foreach ($dump, $ddl);
	$_->disconnect foreach ($dump, $ddl);
}

done_testing();
