# test/t/575_redirect_stranger.pl
#
# A redirect runs no code of a stranger.  A standby that is behind sends a text for
# a superuser, and on the primary somebody has taken a name in it by now: of what
# is read, of the database, or of the extension's functions, when that is gone or dropped.
# Nor does it evaluate the constraints of domains in the values that it brings.

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

my ($primary, $standby) = new_pair();

redirect_to($primary);
$primary->safe_psql('postgres', q{
	CREATE TABLE t AS SELECT 1 AS v;
	CREATE ROLE mallory LOGIN;
	GRANT CREATE ON DATABASE postgres TO mallory;
	CREATE SCHEMA shared;
	CREATE SCHEMA app;
	GRANT USAGE ON SCHEMA app TO mallory;
	CREATE TABLE app.v AS SELECT 1 AS i;
	CREATE FUNCTION app.f(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
	CREATE TYPE app.kind AS ENUM ('a');
});
$primary->safe_psql('postgres', "CREATE DATABASE $_") foreach ('first', 'second', 'other');
foreach my $database ('first', 'second')
{
	$primary->safe_psql($database, "CREATE EXTENSION tcs; CREATE TABLE t AS SELECT '$database' AS v");
	redirect_to($primary, dbname => $database);
}

# Domains of mallory, alone and in all that values are made of; with names of objects,
# and with a type that has no binary form.
my %column = (
	alone => 'm.d', named_alone => 'm.dname', in_array => 'm.d[]', names => 'm.dname[]', acls => 'm.dacl[]',
	range => 'm.drange', multirange => 'm.dmulti', ranges => 'm.drange[]', name_range => 'm.drange_name',
	row => 'm.row', rows => 'm.row[]', named => 'm.named', nameds => 'm.named[]', acl => 'm.with_acl',
	domain => 'm.dnamed', domains => 'm.dnamed[]', deep => 'm.deep', deeps => 'm.deep[]', of_range => 'm.drange_domain');
my @columns = sort keys %column;

$primary->safe_psql('postgres', q{
	CREATE SCHEMA m AUTHORIZATION mallory;
	CREATE FUNCTION m.cmp(int, int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; RETURN $1 - $2; END$$;
	CREATE OPERATOR CLASS m.coded FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,
		OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 m.cmp(int, int);
	CREATE TYPE m.coded_range AS RANGE (subtype = int, subtype_opclass = m.coded);
	CREATE TABLE m.coded_values AS SELECT '[1,2)'::m.coded_range AS r, '{[1,2)}'::m.coded_multirange AS mr;
	CREATE FUNCTION opens(refcursor, text) RETURNS refcursor LANGUAGE plpgsql AS
		$$BEGIN OPEN $1 FOR EXECUTE $2; RETURN $1; END$$;
});
is(psql_err($primary, sprintf(q{
	CREATE FUNCTION m.checks(text) RETURNS bool LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %%', current_user; RETURN true; END$$;
	CREATE DOMAIN m.d AS text CHECK (m.checks(VALUE));
	CREATE DOMAIN m.dname AS regclass CHECK (m.checks(VALUE::text));
	CREATE DOMAIN m.dacl AS aclitem CHECK (m.checks(VALUE::text));
	CREATE DOMAIN m.dint AS int CHECK (m.checks(VALUE::text));
	CREATE TYPE m.drange AS RANGE (subtype = m.dint, multirange_type_name = m.dmulti);
	CREATE DOMAIN m.drange_domain AS m.drange CHECK (m.checks(VALUE::text));
	CREATE TYPE m.drange_name AS RANGE (subtype = m.dname);
	CREATE TYPE m.row AS (a int, d m.d);
	CREATE TYPE m.named AS (r regclass, d m.d);
	CREATE TYPE m.with_acl AS (a aclitem, d m.d);
	CREATE DOMAIN m.dnamed AS m.named CHECK (m.checks((VALUE).d));
	CREATE TYPE m.deep AS (n m.dnamed, ns m.dnamed[], r m.drange_domain, mr m.dmulti, a int[]);
	CREATE TYPE m.grows AS (a int);
	CREATE TYPE m.named_grows AS (r regclass);
	CREATE TABLE m.v (%s);
	CREATE TABLE m.grown (a m.grows, r m.named_grows);
	GRANT USAGE ON SCHEMA m TO PUBLIC;
}, join(', ', map { "\"$_\" $column{$_}" } @columns)), user => 'mallory'), '00000', 'domains of mallory');
wait_for_replay($primary, $standby);
pause_replay($standby);

$primary->safe_psql('postgres', 'UPDATE t SET v = 2');
is(read_at($standby, 'SELECT v FROM t', level => 'strong'), '2', 'redirected');

# Objects in an earlier schema of search_path, made where the standby is not yet.
# Each is read by its qualified name; in the text the schema can be left out.
$primary->safe_psql('postgres', q{
	GRANT CREATE, USAGE ON SCHEMA shared TO mallory;
});
is(psql_err($primary, q{
	CREATE FUNCTION shared.evil() RETURNS int LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; RETURN 666; END$$;
	CREATE VIEW shared.v AS SELECT shared.evil() AS i;
	CREATE FUNCTION shared.f(int) RETURNS int LANGUAGE sql AS 'SELECT shared.evil()';
	CREATE FUNCTION shared.equals(app.kind, app.kind) RETURNS bool LANGUAGE sql AS 'SELECT shared.evil() = 666';
	CREATE OPERATOR shared.= (LEFTARG = app.kind, RIGHTARG = app.kind, FUNCTION = shared.equals);
	CREATE FUNCTION shared.lower(text) RETURNS text LANGUAGE sql AS 'SELECT shared.evil()::text';
	CREATE VIEW shared.pg_namespace AS SELECT shared.evil() AS oid;
}, user => 'mallory'), '00000', 'objects in an earlier schema');
my $taken = log_position($primary);

foreach my $sql (
	'SELECT i FROM app.v',
	'SELECT app.f(1) FROM app.v',
	q{SELECT count(*) FROM app.v WHERE 'a'::app.kind IS NOT DISTINCT FROM 'a'::app.kind},
	q{SELECT pg_catalog.lower('A') FROM app.v},
	'SELECT count(oid) > 3 FROM pg_catalog.pg_namespace',
	'SELECT array[i] FROM app.v',
	q{SELECT 'app.v'::regclass::oid = to_regclass('app.v')::oid FROM app.v})
{
	my %how = (level => 'strong', set => { search_path => 'shared, app, pg_catalog' });

	my (undef, $rows, $error) = run_sql($standby, $sql, %how);

	unlike($rows, qr/666|^f/, "$sql: not by its name alone") or diag $error;
}
is(read_at($standby, 'SELECT i FROM app.v', level => 'strong', set => { search_path => q{''} }), '1',
	'... and is read where the text has the schema');
unlike(log_since($primary, $taken), qr/LOG:  called by/, 'nothing of the earlier schema was run');

# Values with domains in them.  Reading the table evaluates no constraint.
my %made = (
	alone => q{'x'}, named_alone => q{'pg_class'}, in_array => q{'{x,NULL}'}, names => q{'{{pg_class,t},{NULL,"m.row"}}'},
	acls => q{'{mallory=r/mallory,NULL}'}, range => q{'[1,2)'}, multirange => q{'{[1,2),[3,)}'}, ranges => q{'{"[1,2)",empty}'},
	name_range => q{'[pg_class,pg_class]'}, row => q{'(1,)'}, rows => q{'{"(1,x)",NULL}'}, named => q{'(pg_class,x)'},
	nameds => q{'{"(pg_class,x)","(,)"}'}, acl => q{'(mallory=r/mallory,x)'}, domain => q{'(pg_class,"a ""b"", c")'},
	domains => q{'{"(pg_class,x)",NULL}'}, of_range => q{'(,2)'},
	deep => q{ROW('(pg_class,x)', '{"(t,y)"}', '[1,2]', '{[1,2)}', '{1,NULL}')},
	deeps => q{ARRAY[ROW('(pg_class,x)', '{"(t,y)"}', '[1,2]', '{[1,2)}', '{1,NULL}')::m.deep, NULL]});
$primary->safe_psql('postgres', sprintf q{SET ROLE mallory; INSERT INTO m.v SELECT %s; INSERT INTO m.v VALUES (NULL);
	INSERT INTO m.grown VALUES ('(1)', '(pg_class)'); ALTER TYPE m.grows ADD ATTRIBUTE d m.d; ALTER TYPE m.named_grows ADD ATTRIBUTE d m.d;
	UPDATE m.grown SET a = '(1,x)', r = '(pg_class,x)'}, join(', ', map { "$made{$_}::$column{$_}" } @columns));
is(scalar(grep { !defined $made{$_} } @columns), 0, 'all columns have a value');

my @client = (TcsTranscript->new($primary), TcsTranscript->new($standby));
my @since = map { log_position($_) } $primary, $standby;
my $seen = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

$client[1]->ok_query('SET tcs.read_level = strong; SET tcs.redirect_after = 0');

# A check, for each node: nobody but mallory has called the function meanwhile.
sub nothing_was_run
{
	my ($name) = @_;

	foreach my $i (0, 1)
	{
		my $node = ($primary, $standby)[$i];

		unlike(log_since($node, $since[$i]), qr/LOG:  called by (?!mallory)/, "$name: nothing was run on " . $node->name);
		$since[$i] = log_position($node);
	}
	return;
}

foreach my $sql ((map { qq{SELECT "$_" FROM m.v} } @columns),
	'SELECT * FROM m.v', 'SELECT v FROM m.v', 'SELECT ARRAY[v, NULL] FROM m.v', 'SELECT (deep).n, (deep).r, (domains)[1] FROM m.v',
	'SELECT v.rows FROM t LEFT JOIN m.v ON false', 'SELECT (SELECT array_agg(range) FROM m.v) FROM m.v LIMIT 1')
{
	foreach my $format (0, 1)
	{
		# aclitem has no binary form for clients
		next if $format == 1 && $sql =~ /acl|SELECT \*|SELECT v FROM|ARRAY\[v/;
		my $before = redirected($seen);
		my ($expected, $got) = map {
			transcript($_, sub { bind_as($_[0]->parse('', $sql), '', '', $format)->execute('')->sync })
		} @client;

		is($got, $expected, "$sql, format $format");
		is(redirected($seen) - $before, 1, '... redirected');
	}
	nothing_was_run($sql);
}
is(transcript($client[1], 'COPY (SELECT * FROM m.v) TO STDOUT'), transcript($client[0], 'COPY (SELECT * FROM m.v) TO STDOUT'), 'COPY');
nothing_was_run('COPY');

# Types that got a domain where the standby is not yet.
foreach my $column ('a', 'r', 'grown')
{
	like(transcript($client[1], "SELECT $column FROM m.grown"), qr/error \| .* C: 40001 /, "a type has a domain by now: $column");
	nothing_was_run($column);
}

# Cursors that a function leaves: in text if there are names in one of the columns.
foreach my $test ([ 'row, rows, range, multirange', 1 ], [ 'range, named_alone', 0 ], [ 'named', 0 ], [ 'rows, names', 0 ],
	[ 'named_alone, alone', 1 ])
{
	my $columns = join ', ', map { qq{"$_"} } split /, /, $test->[0];
	my $sql = qq{BEGIN; SELECT opens('c', 'SELECT $columns FROM m.v') FROM t; FETCH ALL FROM c; COMMIT};
	my ($expected, $got) = map { transcript($_, $sql) } @client;

	$client[1]->query('ROLLBACK') if $client[1]->status ne 'I';
	$test->[1] ? is($got, $expected, "a cursor: $test->[0]") :
	  like($got, qr/C: 0A000 .*could run functions of other users/, "a cursor is refused: $test->[0]");
	nothing_was_run("a cursor: $test->[0]");
}

# To make a range is to compare its bounds, and here that is a user's function.
foreach my $column ('r', 'mr', 'ARRAY[r]', 'v')
{
	like(transcript($client[1], "SELECT $column FROM m.coded_values v"),
		qr/error \| .* C: TC001 .*cannot be redirected: column "\w+" has the type/, "a range with a function of a user: $column");
	nothing_was_run($column);
}
$_->disconnect foreach @client;

# Another database has taken the name of this one.
$primary->safe_psql('other', 'ALTER DATABASE first RENAME TO gone; ALTER DATABASE second RENAME TO first');
is((run_sql($standby, 'SELECT v FROM t', level => 'strong', dbname => 'first'))[1], '',
	'another database of that name is not read');

# One that fits the name and any text fits better than an unknown parameter would.
$primary->safe_psql('postgres', 'GRANT CREATE ON SCHEMA tcs_internal TO mallory');
my $functions = q{
	CREATE FUNCTION tcs_internal.redirect_begin(text, text, text, bytea) RETURNS text LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; RETURN ''; END$$;
	CREATE FUNCTION tcs_internal.redirect_settings(text) RETURNS void LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; END$$;
};
my $position = log_position($primary);

is(psql_err($primary, $functions, user => 'mallory'), '00000', 'functions of the same names');
is(read_at($standby, 'SELECT v FROM t', level => 'strong'), '2', '... are not those that are called');


# The extension is dropped while a redirect is under way, and mallory waits for that
# with a schema of the same name, and with what is called by name there.
my $look = TcsWire->new($primary);
my $stranger = q{
	CREATE SCHEMA tcs_internal;
	GRANT USAGE ON SCHEMA tcs_internal TO PUBLIC;
	CREATE FUNCTION tcs_internal.called() RETURNS bool LANGUAGE plpgsql AS
		$$BEGIN RAISE LOG 'called by %', current_user; RETURN true; END$$;
	CREATE FUNCTION tcs_internal.redirect_begin(bigint, oid, oid, bytea) RETURNS text
		LANGUAGE sql AS 'SELECT tcs_internal.called()::text';
	CREATE FUNCTION tcs_internal.redirect_settings(bytea) RETURNS bool
		LANGUAGE sql AS 'SELECT tcs_internal.called()';
	CREATE FUNCTION tcs_internal.redirect_check(bool, bool) RETURNS bool
		LANGUAGE sql AS 'SELECT tcs_internal.called()';
	CREATE FUNCTION tcs_internal.redirect_text(record) RETURNS text LANGUAGE plpgsql AS
		$$BEGIN RETURN tcs_internal.called(); END$$;
};
my @strong = ($standby, '', set => 'SET tcs.read_level = strong; SET tcs.max_wait = 10');
my $in_use = q{SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = 'redirect_lock'};

# Sends DROP EXTENSION; true if it waits for a lock, false if it has ended.
sub drop_waits
{
	my ($ddl) = @_;

	$ddl->simple('DROP EXTENSION tcs CASCADE');
	$ddl->flush;
	$look->poll(sprintf q{SELECT state = 'idle' OR wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %d}, $ddl->pid);
	return !$ddl->answered;
}

# As it was before.
sub install_again
{
	$primary->safe_psql('postgres', 'DROP SCHEMA IF EXISTS tcs_internal CASCADE; CREATE EXTENSION tcs');
	return;
}

my $ddl = TcsWire->new($primary);
my $client = redirect_session(@strong);

is($client->ok_query('SELECT v FROM t'), '2', 'redirected by a connection that is kept');
is($look->ok_query($in_use), '0', '... and locks nothing while it is idle');

$position = log_position($primary);
$client->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($client->ok_query('SELECT v FROM t'), '2', 'REPEATABLE READ: redirected');
foreach my $test (
	[ 'ALTER VIEW tcs_internal.redirect_lock RENAME TO other', 'the view gets no other name' ],
	[ 'ALTER VIEW tcs_internal.redirect_lock SET SCHEMA app', '... nor another schema' ],
	[ 'ALTER EXTENSION tcs DROP VIEW tcs_internal.redirect_lock; DROP EXTENSION tcs CASCADE', '... nor is the extension dropped without it' ],
	[ 'DROP SCHEMA tcs CASCADE', '... nor with its schema' ],
	map { [ "ALTER EXTENSION tcs DROP FUNCTION tcs_internal.$_; DROP FUNCTION tcs_internal.$_ CASCADE", "... nor is $_ dropped" ] }
	('redirect_begin(bigint, oid, oid, bytea)', 'redirect_settings(bytea)', 'redirect_check(bool, bool)', 'redirect_text(record)'))
{
	is(psql_err($primary, "BEGIN; SET LOCAL lock_timeout = 1; $test->[0]; ROLLBACK"), '55P03', $test->[1]);
}
ok(drop_waits($ddl), 'DROP EXTENSION waits for it');
psql_err($primary, $stranger, user => 'mallory');
$client->query(q{SET TimeZone = 'Asia/Tokyo'});
is(($client->query('SELECT v FROM t'))[0]{state}, '00000', '... and settings are still sent');
is(($client->query(q{SELECT to_regclass('t')}))[0]{state}, '00000', '... and text is brought');
is($look->ok_query("$in_use AND granted"), '1', '... under one lock');

my $refused = (redirect_session(@strong)->query('SELECT v FROM t'))[0];

is($refused->{state}, 'TC001', '... while nothing else is redirected');
like($refused->{error}{D} // '', qr/extension tcs in database "postgres" there is locked by a transaction that drops or alters it/,
	'... for that reason');
$client->query('COMMIT');
$ddl->results;
is($look->ok_query('SELECT count(*) FROM pg_extension WHERE extname = \'tcs\''), '0', '... and then drops it');
unlike(log_since($primary, $position), qr/LOG:  called by/, 'no function of mallory was called');
install_again();

# One statement is checked when it has ended.
$position = log_position($primary);
$primary->safe_psql('postgres', q{
	CREATE OR REPLACE FUNCTION app.f(int) RETURNS int LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_advisory_lock($1); PERFORM pg_advisory_unlock($1); RETURN $1; END'});
$look->ok_query('SELECT pg_advisory_lock(7)');
$client = redirect_session(@strong);
$client->simple('SELECT app.f(7)');
$client->flush;
ok($look->poll(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), 'a statement is under way');
ok(drop_waits($ddl), '... and DROP EXTENSION waits for it');
psql_err($primary, $stranger, user => 'mallory');
$look->ok_query('SELECT pg_advisory_unlock(7)');
is(($client->results)[0]{state}, '00000', '... until it is checked');
$ddl->results;
unlike(log_since($primary, $position), qr/LOG:  called by/, '... by no function of mallory');
$client->disconnect;

# Now it is gone.
$position = log_position($primary);
$primary->safe_psql('postgres', 'DROP SCHEMA IF EXISTS tcs_internal CASCADE; DROP SCHEMA tcs CASCADE');
is(psql_err($primary, $stranger, user => 'mallory'), '00000', 'a schema of that name');
foreach my $test (
	[ 'SELECT', qr/database "postgres" there has no extension tcs/, 'without a view' ],
	[ 'CREATE VIEW tcs_internal.redirect_lock AS SELECT true AS locked WHERE tcs_internal.called(); GRANT SELECT ON tcs_internal.redirect_lock TO PUBLIC',
		qr/extension tcs is not installed in this database/, 'with one that calls a function' ])
{
	is(psql_err($primary, $test->[0], user => 'mallory'), '00000', $test->[2]);

	my ($state, $message) = psql_err($standby, 'SET tcs.read_level = strong; SELECT v FROM t');

	is($state, 'TC001', '... nothing is redirected to it');
	like($message, $test->[1], '... for that reason');
}
unlike(log_since($primary, $position), qr/LOG:  called by/, 'no function of it was called');

done_testing();
