# test/t/645_rules_names.pl
#
# The name that a rule has for its function or schema: no setting of any client makes
# it another one, in a copy of the database neither; and whoever renames something
# locks no rule but those whose object has another name by that.

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
my $quoting = 'SET quote_all_identifiers = on';
my $all = q{SELECT string_agg(concat_ws(' ', function, schema, level, unresolved), ', ' ORDER BY id) FROM tcs.rules};

sub in_database
{
	my ($dbname, $sql, %opt) = @_;

	return read_at($primary, $sql, dbname => $dbname, %opt);
}

# Level of a statement, and who has said so, with quote_all_identifiers off and on.
sub levels
{
	my ($dbname, $sql) = @_;
	my $look = "SELECT level FROM tcs.explain_level(\$q\$$sql\$q\$)";

	return join ' ', map { in_database($dbname, $look, set => { quote_all_identifiers => $_ }) } qw(off on);
}

# What fails of statements that would wait for a lock, each in a transaction of its own.
sub waits
{
	my ($dbname, @statements) = @_;
	my $session = TcsWire->new($primary, dbname => $dbname, options => '-c lock_timeout=1000');
	my @failed;

	foreach my $sql (@statements)
	{
		my $state = ($session->query("BEGIN; $sql"))[-1]{state};

		push @failed, "$state $sql" if $state ne '00000';
		$session->query('ROLLBACK');
	}
	$session->disconnect;
	return join "\n", @failed;
}

in_database('postgres', q{
CREATE ROLE mallory LOGIN;
GRANT CREATE ON DATABASE postgres TO mallory;
CREATE SCHEMA mine AUTHORIZATION mallory;
CREATE SCHEMA v;
CREATE TYPE v.ty AS (a int);
SET ROLE mallory;
CREATE TYPE mine.ty AS (a int);
RESET ROLE;
CREATE FUNCTION v.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION v.g(v.ty) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION v.h(mine.ty[], "char", timestamptz) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION v."F ""(,x"(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION v."select"(v.ty) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE v.t (a int);
SELECT tcs.set_rule(function => 'v.f()', level => 'strong');
SELECT tcs.set_rule(function => 'v.g(v.ty)', level => 'strong');
});
# made with the setting on: they have the same names
in_database('postgres', "$quoting;" . q{
SELECT tcs.set_rule(function => 'v.h(mine.ty[], "char", timestamptz)', level => 'strong');
SELECT tcs.set_rule(function => 'v."F ""(,x"(int)', level => 'strong');
INSERT INTO tcs.rule (function, level) VALUES ('v."select"(v.ty)', 'strong');
SELECT tcs.set_rule(schema => 'v', level => 'strong');
});

my $names = 'v.f() strong, v.g(v.ty) strong, '
  . 'v.h(mine.ty[],pg_catalog."char",timestamp with time zone) strong, '
  . 'v."F ""(,x"(integer) strong, v."select"(v.ty) strong, v strong';
my @calls = (
	'SELECT v.f()', 'SELECT v.g(NULL)', q{SELECT v.h(NULL, 'a', now())},
	'SELECT v."F ""(,x"(1)', 'SELECT v."select"(NULL)', 'SELECT a FROM v.t');

is(in_database('postgres', $all), $names, 'names of functions, whatever the setting was');
in_database('postgres', 'CREATE DATABASE copy TEMPLATE postgres');


##
## The same function, whatever a session has set
##

foreach my $dbname ('postgres', 'copy')
{
	is(levels($dbname, $_), 'strong strong', "$dbname: $_") foreach (@calls);
}
in_database('copy', "BEGIN; $quoting; DROP FUNCTION v.f(); COMMIT");
unlike(in_database('copy', $all), qr/v\.f\(\)/, 'DROP FUNCTION in a copy takes the rule along');
in_database('copy', "$quoting;" . q{SELECT tcs.drop_rule(function => 'v."select"(v.ty)')});
is(in_database('copy', $all), ($names =~ s/v\.f\(\) strong, //r) =~ s/v\."select"\(v\.ty\) strong, //r,
	'drop_rule() finds it, too');
in_database('copy', "$quoting;" . q{SELECT tcs.set_rule(function => 'v.g(v.ty)', level => 'session')});
is(in_database('copy', q{SELECT count(*), max(level) FROM tcs.rules WHERE function ~ '\mg\M'}), '1|session', 'set_rule() replaces it');

# as an earlier build could leave it
in_database('copy', q{
SET session_replication_role = replica;
ALTER TABLE tcs.rule DISABLE TRIGGER rule_check;
UPDATE tcs.rule SET function = '"v"."g"("v"."ty")', oids_of = '1/1' WHERE function ~ '\mg\M';
ALTER TABLE tcs.rule ENABLE ALWAYS TRIGGER rule_check;
});
is(levels('copy', 'SELECT v.g(NULL)'), 'session session', 'a name that is stored with quotes');
in_database('copy', q{SELECT tcs.set_rule(function => 'v.g(v.ty)', level => 'strong')});
is(in_database('copy', q{SELECT count(*), max(function) FROM tcs.rules WHERE function ~ '\mg\M'}), '1|v.g(v.ty)', '... is replaced');


##
## A rename changes what it is about
##

my $rows = q{SELECT string_agg(ctid::text, ' ' ORDER BY id) FROM tcs.rule};

in_database('postgres', 'CREATE DATABASE copy2 TEMPLATE postgres');
foreach my $dbname ('postgres', 'copy2')
{
	my $before = in_database($dbname, $rows);

	in_database($dbname, "$quoting; CREATE SCHEMA $dbname; ALTER SCHEMA $dbname RENAME TO other_$dbname", user => 'mallory')
	  if $dbname eq 'postgres';
	in_database($dbname, "GRANT CREATE ON DATABASE $dbname TO mallory");
	in_database($dbname, 'CREATE SCHEMA his; ALTER SCHEMA his RENAME TO his2', user => 'mallory');
	in_database($dbname, "$quoting; CREATE TABLE his2.a (); ALTER TABLE his2.a RENAME TO b; ALTER TABLE his2.b SET SCHEMA mine", user => 'mallory');
	is(in_database($dbname, $rows), $before, "$dbname: a rename of something else changes no rule");

	my $open = TcsWire->new($primary, dbname => $dbname, user => 'mallory');

	$open->ok_query("$quoting; BEGIN; ALTER SCHEMA his2 RENAME TO his3; ALTER TABLE mine.b RENAME TO c");
	is( waits($dbname,
			'DROP FUNCTION v.f()', 'ALTER FUNCTION v.f() RENAME TO f2', 'ALTER TYPE v.ty RENAME TO ty2',
			'ALTER SCHEMA v RENAME TO v2', 'DROP TABLE v.t', 'DROP SCHEMA v CASCADE',
			q{SELECT tcs.drop_rule(function => 'v.f()')},
			q{SELECT tcs.set_rule(function => 'v.f()', level => 'session')},
			q{SELECT tcs.set_rule(schema => 'v', level => 'session')}),
		'', "$dbname: and one that is open keeps nobody waiting");
	# the type is in the name of one function
	$open->ok_query('ALTER TYPE mine.ty RENAME TO tz');
	is( waits($dbname,
			'DROP FUNCTION v.f()', 'ALTER FUNCTION v.g RENAME TO g2', q{SELECT tcs.drop_rule(function => 'v.g(v.ty)')}),
		'', "$dbname: nor one of a type, but for functions that take it");
	$open->query('ROLLBACK');
	$open->disconnect;

	# what is concerned follows, under the setting and without
	in_database($dbname, "$quoting; ALTER TYPE mine.ty RENAME TO tz", user => 'mallory');
	in_database($dbname, "$quoting; ALTER FUNCTION v.g RENAME TO g2; ALTER TYPE v.ty RENAME TO ty2; ALTER SCHEMA v RENAME TO w");
	is( in_database($dbname, $all),
		'w.f() strong, w.g2(w.ty2) strong, '
		  . 'w.h(mine.tz[],pg_catalog."char",timestamp with time zone) strong, '
		  . 'w."F ""(,x"(integer) strong, w."select"(w.ty2) strong, w strong',
		"$dbname: rules follow what is renamed");
	is(levels($dbname, s/v\.g/v.g2/r =~ s/v\./w./r), 'strong strong', "$dbname: ... in force: $_") foreach (@calls);
	in_database($dbname, "BEGIN; ALTER SCHEMA w RENAME TO x; ALTER FUNCTION x.f() RENAME TO f2; ALTER SCHEMA x RENAME TO w; COMMIT");
	like(in_database($dbname, $all), qr/^w\.f2\(\) strong, /, "$dbname: three names in one transaction");

	# an object that takes the name does not take the rule
	in_database($dbname, q{
		CREATE FUNCTION w.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
		DROP FUNCTION w.f();
	});
	is(levels($dbname, 'SELECT w.f2()'), 'strong strong', "$dbname: nor does another of the old name end it");
}


##
## A dump
##

foreach my $option ('', '--quote-all-identifiers')
{
	my $to = $option ? 'quoted' : 'plain';

	command_ok(
		[ $primary->installed_command('pg_dump'), ($option ? $option : ()), '-f', "$folder/$to.sql", '-d', $primary->connstr('postgres') ],
		"pg_dump $option");
	in_database('postgres', "CREATE DATABASE $to TEMPLATE template0");
	in_database('postgres', "ALTER DATABASE $to SET quote_all_identifiers = on");
	run_sql($primary, "\\i $folder/$to.sql", dbname => $to, on_error_stop => 0);
	is(in_database($to, $all), in_database('postgres', $all), '... and restored: the same rules, all in force');
}

##
## A rule is made while what it names is renamed
##

in_database('postgres', q{
CREATE SCHEMA r AUTHORIZATION mallory;
SET ROLE mallory;
CREATE TYPE r.ty AS (a int);
CREATE TABLE r.tab (a int);
CREATE FUNCTION r.f(r.ty[], r.tab) RETURNS int LANGUAGE sql AS 'SELECT 1';
});
my $oid = in_database('postgres', q{SELECT 'r.f(r.ty[],r.tab)'::regprocedure::oid});
my $watch = TcsWire->new($primary);
my $function_rule = "SELECT tcs.set_rule(function => $oid, level => 'strong')";
my $schema_rule = q{SELECT tcs.set_rule(schema => (SELECT pronamespace::regnamespace::name FROM pg_proc WHERE oid = } . "$oid), level => 'strong')";

sub blocked
{
	my ($session) = @_;

	return $watch->poll('SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = ' . $session->pid);
}

foreach my $case (
	[ $schema_rule, 'ALTER SCHEMA r RENAME TO r_2', 'ALTER SCHEMA r_2 RENAME TO r', '3F000' ],
	[ $function_rule, 'ALTER SCHEMA r RENAME TO r_2', 'ALTER SCHEMA r_2 RENAME TO r' ],
	[ $function_rule, 'ALTER TYPE r.ty RENAME TO ty_2', 'ALTER TYPE r.ty_2 RENAME TO ty' ],
	[ $function_rule, 'ALTER TYPE r.ty SET SCHEMA mine', 'ALTER TYPE mine.ty SET SCHEMA r' ],
	[ $function_rule, 'ALTER TABLE r.tab RENAME TO tab_2', 'ALTER TABLE r.tab_2 RENAME TO tab' ],
	[ $function_rule, 'ALTER TABLE r.tab SET SCHEMA mine', 'ALTER TABLE mine.tab SET SCHEMA r' ],
	[ $function_rule, 'ALTER FUNCTION r.f RENAME TO f_2', 'ALTER FUNCTION r.f_2 RENAME TO f' ],
	[ $function_rule, 'ALTER FUNCTION r.f SET SCHEMA mine', 'ALTER FUNCTION mine.f SET SCHEMA r' ])
{
	my ($rule, $rename, $back, $state) = @$case;
	my $what = ($rule eq $schema_rule ? 'a schema: ' : 'a function: ') . $rename;

	in_database('postgres', 'TRUNCATE tcs.rule');
	foreach my $first ('rename', 'set_rule()')
	{
		my ($mallory, $dba) = map { TcsWire->new($primary) } 1 .. 2;

		$mallory->ok_query('SET ROLE mallory; BEGIN');
		$dba->ok_query('BEGIN');
		my ($one, $other) = $first eq 'rename' ? ([ $mallory, $rename ], [ $dba, $rule ]) : ([ $dba, $rule ], [ $mallory, $back ]);

		$one->[0]->ok_query($one->[1]);
		$other->[0]->simple($other->[1])->flush;
		ok(blocked($other->[0]), "$what, after $first: waits");
		is(waits('postgres', "SELECT tcs.set_rule('w.t', 'strong')"), '', '... and other rules do not') if $first eq 'rename';
		$one->[0]->ok_query('COMMIT');
		is(($other->[0]->results)[-1]{state}, $first eq 'rename' ? $state // '00000' : '00000', '... and goes on');
		$other->[0]->query('COMMIT');
		if ($first eq 'rename' && $state)
		{
			# it has been told a name that is gone; the same again
			$dba->query('ROLLBACK');
			$dba->ok_query($rule);
		}
		is(in_database('postgres', q{
SELECT count(*), bool_and(coalesce(schema = schema_oid::oid::regnamespace::text, function = replace(function_oid::oid::regprocedure::text, ' ', ''))) FROM tcs.rule},
				set => { search_path => 'pg_catalog' }), '1|t', "... and the rule has the name that its object has");
		$_->disconnect foreach ($mallory, $dba);
	}
}
in_database('postgres', 'TRUNCATE tcs.rule');
$watch->disconnect;

done_testing();
