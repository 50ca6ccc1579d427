# test/t/800_security.pl
#
# Nothing is trusted by its name.  What a role can do that owns a database, or has
# privileges on the tables of rules: objects that look like the extension's, trigger
# functions on tables of his own, triggers where a superuser writes, bytes that are
# no text.  Rules that cannot be met do not keep people from dropping them.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my $primary = new_primary('primary', init => { extra => [ '-E', 'UTF8', '--locale=C' ] });
my $rule_columns = q{id int, relation regclass, function text, schema name, role regrole,
	application_name text, operation text, level text, max_staleness int, max_wait int,
	fallback text, floor text, hard bool, reason text, schema_oid oid, function_oid oid,
	oids_of text};

# Statements of the role that attacks, in its own database unless said otherwise.
sub mallory
{
	my ($sql, %opt) = @_;

	return scalar psql_err($primary, $sql, user => 'mallory', dbname => 'his', %opt);
}

sub is_superuser
{
	return $primary->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'});
}

# The server has not crashed since the last call.
my $log = log_position($primary);

sub server_lives
{
	my ($what) = @_;

	unlike(log_since($primary, $log), qr/was terminated by signal/, "$what: the server lives");
	$log = log_position($primary);
	return;
}

$primary->safe_psql('postgres', 'CREATE ROLE mallory LOGIN CREATEROLE');
$primary->safe_psql('postgres', 'CREATE DATABASE his OWNER mallory');
$primary->safe_psql('postgres', 'CREATE DATABASE shared');
$primary->safe_psql('postgres', 'CREATE DATABASE nobodys');
$primary->safe_psql('shared', 'CREATE EXTENSION tcs; GRANT CREATE ON DATABASE shared TO mallory');


##
## A database without the extension: tables that look like ours
##

is(mallory(qq{
CREATE SCHEMA tcs;
CREATE TABLE tcs.rule ($rule_columns);
CREATE TABLE tcs.rule_group (relation regclass, name text);
INSERT INTO tcs.rule (id, operation, level, floor, fallback, hard)
	VALUES (1, 'read', 'linearizable', 'linearizable', 'error', true);
}), '00000', 'tables that look like the extension\'s');
is(psql_err($primary, 'CREATE TABLE public.victim (i int); SELECT count(*) FROM public.victim', dbname => 'his'),
	'00000', '... are no rules');
is(mallory(q{
CREATE FUNCTION tcs.rise() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN NULL; END$$;
CREATE TRIGGER rise AFTER DELETE ON tcs.rule FOR EACH STATEMENT EXECUTE FUNCTION tcs.rise();
CREATE ROLE other;
DROP ROLE other;
}), '00000', '... nor is a role that is dropped looked for in them');
is(is_superuser(), 'f', '... so that his trigger does not run as a superuser');
foreach my $columns ('id int, relation regclass, function int8, n int', 'id int')
{
	is(mallory("DROP TABLE tcs.rule; CREATE TABLE tcs.rule ($columns); INSERT INTO tcs.rule VALUES (1)"),
		'00000', "columns ($columns)");
	is(psql_err($primary, 'SELECT count(*) FROM pg_class', dbname => 'his'), '00000', '... do no harm');
}
is(mallory('CREATE FUNCTION tcs.session_token() RETURNS bigint LANGUAGE sql AS $$SELECT count(*) FROM public.victim$$'),
	'00000', 'a function that looks like one of ours');
server_lives('a schema tcs of somebody else');


##
## CREATE EXTENSION in a schema that is there
##

is(psql_err($primary, 'CREATE EXTENSION tcs', dbname => 'his'), '55000', 'a schema of somebody else');
is(psql_err($primary, 'ALTER SCHEMA tcs OWNER TO CURRENT_USER; CREATE EXTENSION tcs', dbname => 'his'),
	'55000', '... is not taken with what is in it');
$primary->safe_psql('his', q{
DROP SCHEMA tcs CASCADE;
CREATE SCHEMA tcs;
GRANT CREATE ON SCHEMA tcs TO mallory;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO mallory, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO mallory;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO mallory WITH GRANT OPTION;
});
is(psql_err($primary, 'CREATE EXTENSION tcs', dbname => 'his'), '55000', 'an empty one where somebody else may create things');

# What he may do is looked up once, and he can make that last.
{
	my $he = TcsWire->new($primary, dbname => 'his', user => 'mallory');
	my $in_the_way = TcsWire->new($primary, dbname => 'his', user => 'mallory');
	my $install = TcsWire->new($primary, dbname => 'his');
	my $waits = sub {
		my ($session) = @_;

		return $primary->poll_query_until('postgres',
			"SELECT wait_event_type IS NOT DISTINCT FROM 'Lock' FROM pg_stat_activity WHERE pid = " . $session->pid);
	};
	my $function = q{CREATE FUNCTION tcs.can_serve(text, text) RETURNS bool LANGUAGE sql
		BEGIN ATOMIC SELECT count(*) = 0 FROM public.in_the_way; END};

	$in_the_way->ok_query('CREATE TABLE public.in_the_way (i int)');
	$he->ok_query('BEGIN');
	$he->ok_query('CREATE FUNCTION tcs.set_rule(text, text) RETURNS int LANGUAGE sql AS \'SELECT 1\'');
	$primary->safe_psql('his', 'REVOKE CREATE ON SCHEMA tcs FROM mallory');
	is(($install->query('CREATE EXTENSION tcs'))[-1]{state}, '55000', '... or has, in a transaction still open');
	$he->ok_query('COMMIT');
	is(($install->query('CREATE EXTENSION tcs'))[-1]{state}, '55000', '... or when it has ended');
	$primary->safe_psql('his', 'DROP FUNCTION tcs.set_rule(text, text); GRANT CREATE ON SCHEMA tcs TO mallory');

	$in_the_way->ok_query('BEGIN; LOCK TABLE public.in_the_way');
	$he->simple($function)->flush;
	ok($waits->($he), 'a statement that has been allowed to create something, and has not yet');
	$primary->safe_psql('his', 'REVOKE CREATE ON SCHEMA tcs FROM mallory');
	$install->simple('CREATE EXTENSION tcs')->flush;
	ok($waits->($install), '... is waited for');
	$in_the_way->ok_query('COMMIT');
	is(($he->results)[-1]{state}, '00000', '... and creates it');
	is(($install->results)[-1]{state}, '55000', '... and the schema is not empty');
	$primary->safe_psql('his', 'DROP FUNCTION tcs.can_serve(text, text)');
	$_->disconnect foreach ($he, $in_the_way, $install);
}
is(psql_err($primary, 'BEGIN; ALTER SCHEMA tcs OWNER TO CURRENT_USER; GRANT USAGE ON SCHEMA tcs TO PUBLIC; CREATE EXTENSION tcs', dbname => 'his'),
	'55000', 'a schema that others still see as it was before this transaction');
is(psql_err($primary, 'CREATE EXTENSION tcs', dbname => 'his'), '00000', 'an empty one of a superuser alone');
is(psql_err($primary, q{BEGIN;
CREATE SCHEMA tcs;
GRANT CREATE ON SCHEMA tcs TO mallory;
CREATE EXTENSION tcs;
ROLLBACK}, dbname => 'nobodys'), '00000', 'one that nobody has seen yet');
is(mallory($_), '42501', "no default privilege allows: $_")
  foreach (
	'CREATE TABLE tcs.x (i int)',
	'CREATE FUNCTION tcs.set_rule(text, text) RETURNS int LANGUAGE sql AS \'SELECT 1\'',
	'DELETE FROM tcs.rule',
	q{INSERT INTO tcs.rule_group VALUES ('public.victim', 'g')},
	q{SELECT tcs.set_rule('public.victim', 'strong')},
	q{SELECT setval('tcs.rule_id_seq', 5)},
	'SELECT tcs.stat_reads_reset()',
	q{SELECT tcs.relax('eventual', '1 s', 'why not')});
is(mallory("SELECT * FROM tcs.$_", dbname => 'shared'), '00000', "tcs.$_ is for all") foreach qw(status last_read quorum relaxed);
is(mallory("SELECT * FROM tcs.$_", dbname => 'shared'), '42501', "tcs.$_ is not")
  foreach qw(stat_reads stat_downgrades stat_writes stat_redirects standbys rules groups rule rule_group);
is(psql_err($primary, "SET ROLE pg_monitor; SELECT * FROM tcs.$_", dbname => 'shared'), '00000', "pg_monitor reads tcs.$_")
  foreach qw(stat_reads stat_downgrades stat_writes stat_redirects standbys rules groups);
is(mallory('CREATE TABLE tcs_internal.x (i int)', dbname => 'shared'), '42501', 'nobody creates anything in tcs_internal');
is(psql_err($primary, 'ALTER SCHEMA tcs_internal RENAME TO other', dbname => 'shared'), '0A000',
	'that schema keeps its name, by which standbys call functions');
is(psql_err($primary, 'ALTER SCHEMA tcs RENAME TO other', dbname => 'shared'), '0A000',
	'the schema keeps its name, by which clients call functions');


##
## Privileges on the tables of rules
##

$primary->safe_psql('shared', 'GRANT ALL ON tcs.rule, tcs.rule_group TO mallory; CREATE SCHEMA mallory AUTHORIZATION mallory');
$primary->safe_psql('shared', q{CREATE TABLE public.t (i int); SELECT tcs.set_rule('public.t', 'session')});
is(mallory(q{CREATE FUNCTION mallory.rise() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN IF current_user <> 'mallory' THEN EXECUTE 'ALTER ROLE mallory SUPERUSER'; END IF; RETURN NULL; END$$},
	dbname => 'shared'), '00000', 'a trigger function');
is(mallory($_, dbname => 'shared'), '42501', $_)
  foreach (
	'CREATE TRIGGER x AFTER DELETE ON tcs.rule FOR EACH STATEMENT EXECUTE FUNCTION mallory.rise()',
	'CREATE TRIGGER x BEFORE INSERT ON tcs.rule_group FOR EACH ROW EXECUTE FUNCTION mallory.rise()',
	'CREATE OR REPLACE TRIGGER rules_changed AFTER INSERT OR DELETE ON tcs.rule FOR EACH ROW EXECUTE FUNCTION mallory.rise()',
	'CREATE TABLE mallory.r (i int REFERENCES tcs.rule (id) ON DELETE CASCADE)',
	'ALTER TABLE tcs.rule DISABLE TRIGGER ALL');
is(mallory('CREATE TABLE mallory.x (); DROP TABLE mallory.x', dbname => 'shared'), '00000', 'DDL');
is(is_superuser(), 'f', '... runs nothing of his');

# a trigger that was made where the hook was not there
$primary->safe_psql('shared', q{
CREATE TABLE public.fired (who text);
GRANT INSERT ON public.fired TO PUBLIC;
CREATE FUNCTION public.fire() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO public.fired VALUES (TG_OP || ' as ' || current_user); RETURN NEW; END$$;
CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON tcs.rule FOR EACH STATEMENT EXECUTE FUNCTION public.fire();
CREATE TRIGGER b AFTER INSERT OR UPDATE OR DELETE ON tcs.rule FOR EACH ROW EXECUTE FUNCTION public.fire();
CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON tcs.rule_group FOR EACH STATEMENT EXECUTE FUNCTION public.fire();
CREATE RULE r AS ON INSERT TO tcs.rule DO ALSO INSERT INTO public.fired VALUES ('rule');
CREATE TABLE public.u (i int);
CREATE SCHEMA s;
CREATE ROLE somebody;
SELECT tcs.set_rule('public.t', 'strong');
SELECT tcs.set_rule('public.u', 'strong');
SELECT tcs.set_rule(schema => 's', level => 'strong');
SELECT tcs.set_rule(role => 'somebody', level => 'strong');
SELECT tcs.set_group('g', 'public.t', 'public.u');
ALTER SCHEMA s RENAME TO s2;
DROP ROLE somebody;
DROP SCHEMA s2;
DROP TABLE public.u;
SELECT tcs.drop_group('g');
SELECT tcs.drop_rule('public.t');
});
is($primary->safe_psql('shared', 'SELECT * FROM public.fired'), '', 'triggers and rules of others are not run');
is($primary->safe_psql('shared', 'SELECT count(*) FROM tcs.rule'), '0', '... and all has gone with its objects');
is(psql_err($primary, q{ALTER TABLE tcs.rule ENABLE ROW LEVEL SECURITY}, dbname => 'shared'), '00000', 'row-level security');
is(mallory(q{SELECT tcs.set_rule(level => 'session')}, dbname => 'shared'), '42501', '... is not passed by');
$primary->safe_psql('shared', q{ALTER TABLE tcs.rule DISABLE ROW LEVEL SECURITY;
	DROP RULE r ON tcs.rule; DROP TRIGGER a ON tcs.rule; DROP TRIGGER b ON tcs.rule; DROP TRIGGER a ON tcs.rule_group});


# whoever drops something of his keeps nobody from making rules, and waits for who does
{
	my $dropping = TcsWire->new($primary, dbname => 'shared');
	my $setting = TcsWire->new($primary, dbname => 'shared');

	$primary->safe_psql('shared', q{CREATE TABLE public.c (i int); CREATE TABLE public.d (i int);
		SELECT tcs.set_rule('public.c', 'strong'); SELECT tcs.set_rule('public.d', 'strong')});
	$dropping->ok_query('BEGIN; DROP TABLE public.c');
	is(psql_err($primary, q{SET lock_timeout = '10s'; SELECT tcs.set_rule('public.d', 'session'); SELECT tcs.drop_rule('public.d')},
		dbname => 'shared'), '00000', 'rules are made while a transaction has dropped something');
	$dropping->ok_query('ROLLBACK');
	$setting->ok_query(q{BEGIN; SELECT tcs.set_rule('public.c', 'session')});
	$dropping->simple('DROP TABLE public.c')->flush;
	ok($primary->poll_query_until('postgres',
		q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'DROP TABLE public.c' AND wait_event_type = 'Lock'}),
		'who drops what another one makes a rule for waits');
	$setting->ok_query('COMMIT');
	is(($dropping->results)[-1]{state} // '00000', '00000', '... and goes on');
	is($primary->safe_psql('shared', 'SELECT count(*) FROM tcs.rule'), '0', '... with the rule');
	$_->disconnect foreach $dropping, $setting;
}


##
## Tables that their owner has changed
##

foreach my $change (
	[ 'ALTER TABLE tcs.rule ALTER schema_oid TYPE text USING schema_oid::text',
		'ALTER TABLE tcs.rule ALTER schema_oid TYPE oid USING schema_oid::oid' ],
	[ 'ALTER TABLE tcs.rule RENAME reason TO why', 'ALTER TABLE tcs.rule RENAME why TO reason' ],
	[ 'ALTER TABLE tcs.rule ADD extra int NOT NULL DEFAULT 1', 'ALTER TABLE tcs.rule DROP extra' ],
	[ 'ALTER TABLE tcs.rule_group ADD twice text GENERATED ALWAYS AS (repeat(name, 2)) STORED',
		'ALTER TABLE tcs.rule_group DROP twice' ],
	[ 'ALTER TABLE tcs.rule RENAME TO ruler', 'ALTER TABLE tcs.ruler RENAME TO rule' ],
	[ 'ALTER TABLE tcs.rule_group SET SCHEMA public', 'ALTER TABLE public.rule_group SET SCHEMA tcs' ],
	[ 'ALTER EXTENSION tcs DROP TABLE tcs.rule', 'ALTER EXTENSION tcs ADD TABLE tcs.rule' ])
{
	is(psql_err($primary, $change->[0], dbname => 'shared'), '00000', $change->[0]);
	is(psql_err($primary, 'SELECT * FROM public.t', dbname => 'shared'), '55000', '... rules are not understood');
	is(psql_err($primary, q{SELECT tcs.set_rule('public.t', 'strong'); SELECT tcs.set_group('g', 'public.t')},
		dbname => 'shared'), '55000', '... and not made');
	is(psql_err($primary, 'CREATE ROLE r; DROP ROLE r; CREATE TABLE public.x (); DROP TABLE public.x', dbname => 'shared'),
		'00000', '... DDL goes on');
	is(psql_err($primary, $change->[1], dbname => 'shared'), '00000', '... so that it can be undone');
	is(psql_err($primary, 'SELECT * FROM public.t', dbname => 'shared'), '00000', '... which helps');
}
is(psql_err($primary, q{ALTER TABLE tcs.rule ADD note text; CREATE INDEX i ON tcs.rule ((lower(reason)))}, dbname => 'shared'),
	'00000', 'a column that may be null, and an index that runs a function');
is(psql_err($primary, q{SELECT tcs.set_rule('public.t', 'strong')}, dbname => 'shared'), '55000', '... the index is refused');
is(psql_err($primary, q{DROP INDEX tcs.i; SELECT tcs.set_rule('public.t', 'strong'); SELECT tcs.drop_rule('public.t')},
	dbname => 'shared'), '00000', '... the column is not');
server_lives('changed tables');

# Whoever may analyze the tables, as the owner of the database, holds up nobody.
{
	my ($first, $second) = map { TcsWire->new($primary, dbname => 'shared') } (1, 2);
	my $set = q{SET LOCAL lock_timeout = 1; SELECT tcs.set_rule('public.t', 'strong')};

	$first->ok_query('BEGIN; ANALYZE tcs.rule, tcs.rule_group');
	is(($second->query("BEGIN; $set"))[-1]{state}, '00000', 'rules are made while their tables are analyzed');
	$_->query('ROLLBACK') foreach ($first, $second);
	$first->ok_query("BEGIN; $set");
	is(($second->query("BEGIN; $set"))[-1]{state}, '55P03', '... but not by two at a time');
	$_->query('ROLLBACK') foreach ($first, $second);
	$_->disconnect foreach ($first, $second);
}

# Whoever may create a schema can rename it as often as he likes.
{
	my $session = TcsWire->new($primary, dbname => 'shared');
	my $scans = q{SELECT seq_scan FROM pg_stat_xact_sys_tables WHERE relname = 'pg_proc'};
	my $odd = q{"o.d(d".""";('"(int)};

	$session->ok_query(qq{CREATE SCHEMA "o.d(d"; CREATE FUNCTION $odd RETURNS int LANGUAGE sql AS 'SELECT 1';
		SELECT tcs.set_rule(function => \$\$$odd\$\$, level => 'strong')});
	is($session->ok_query("BEGIN; CREATE SCHEMA mine; ALTER SCHEMA mine RENAME TO still_mine; $scans"), '0',
		'a rename does not look for functions that are known');
	$session->ok_query(q{COMMIT; BEGIN; SET LOCAL session_replication_role = replica;
		UPDATE tcs.rule SET oids_of = 'elsewhere'; SET LOCAL session_replication_role = DEFAULT});
	is($session->ok_query("ALTER SCHEMA still_mine RENAME TO mine; $scans"), '0', '... and for one that is not by its name');
	is($session->ok_query(qq{ALTER SCHEMA "o.d(d" RENAME TO even; SELECT function FROM tcs.rule WHERE oids_of <> 'elsewhere'}),
		q{even.""";('"(integer)}, '... so that its rule goes with it');
	$session->ok_query('DROP SCHEMA even CASCADE; COMMIT');
	$session->disconnect;
}


##
## Trigger functions on tables of others
##

$primary->safe_psql('shared', 'GRANT EXECUTE ON FUNCTION tcs_internal.rule_check(), tcs_internal.group_check(), tcs_internal.rules_changed() TO mallory');
{
	my $n = 0;

	foreach my $case (
		[ 'rule_check', 'BEFORE INSERT', 'ROW', "$rule_columns, x int8", q{(relation) VALUES ('public.t')} ],
		[ 'rule_check', 'BEFORE INSERT', 'ROW', 'schema text, schema_oid text, function_oid oid, oids_of int8', q{(schema) VALUES ('public')} ],
		[ 'rule_check', 'BEFORE INSERT', 'ROW', 'relation int', 'VALUES (1)' ],
		[ 'rule_check', 'AFTER INSERT', 'ROW', 'relation int', 'VALUES (1)' ],
		[ 'rule_check', 'BEFORE INSERT', 'STATEMENT', 'relation int', 'VALUES (1)' ],
		[ 'group_check', 'BEFORE INSERT', 'ROW', 'relation text, name int', q{VALUES ('a', 1)} ],
		[ 'group_check', 'BEFORE INSERT', 'ROW', 'i int', 'VALUES (1)' ],
		[ 'rules_changed', 'AFTER INSERT', 'ROW', 'i int', 'VALUES (1)' ],
		[ 'rules_changed', 'AFTER INSERT', 'STATEMENT', 'i int', 'VALUES (1)' ])
	{
		my ($function, $when, $each, $columns, $row) = @$case;
		my $table = 'mallory.t' . ++$n;

		is(mallory("CREATE TABLE $table ($columns); CREATE TRIGGER x $when ON $table FOR EACH $each EXECUTE FUNCTION tcs_internal.$function();"
			  . "INSERT INTO $table $row", dbname => 'shared'), '39P01', "$function() $when, each $each, on ($columns)");
	}
}
$primary->safe_psql('shared', 'REVOKE EXECUTE ON FUNCTION tcs_internal.rule_check(), tcs_internal.group_check(), tcs_internal.rules_changed() FROM mallory');
is(mallory('CREATE TABLE mallory.z (i int); CREATE TRIGGER x AFTER INSERT ON mallory.z EXECUTE FUNCTION tcs_internal.rules_changed()',
	dbname => 'shared'), '42501', 'nobody needs to call them');
# on one of ours, but not its own
$primary->safe_psql('shared', 'CREATE TRIGGER x BEFORE INSERT ON tcs.rule_group FOR EACH ROW EXECUTE FUNCTION tcs_internal.rule_check()');
is(psql_err($primary, q{INSERT INTO tcs.rule_group VALUES ('public.t', 'g')}, dbname => 'shared'), '39P01',
	'the check of one table on the other');
$primary->safe_psql('shared', 'DROP TRIGGER x ON tcs.rule_group');
server_lives('trigger functions');


##
## Arguments
##

$primary->safe_psql('postgres', q{CREATE DATABASE latin1 TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'});
$primary->safe_psql('postgres', q{CREATE DATABASE ascii TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'});
$primary->safe_psql($_, 'CREATE EXTENSION tcs') foreach qw(latin1 ascii);

is(read_at($primary, "SELECT tcs.can_serve('bounded', '$_')"), 't', "a bound of $_")
  foreach ('170000000 years', '178000000 years 9000000 days', '2147483647 days');
is(psql_err($primary, "SELECT tcs.can_serve('bounded', '$_')"), '22023', "a bound of $_")
  foreach ('-1 s', '-170000000 years', '-178000000 years -9000000 days');
is(psql_err($primary, q{CALL tcs.wait_for(tcs.session_token(), '178000000 years 9000000 days')}) =~ /^(00000|0A000|55000)$/ ? 'ok' : 'not',
	'ok', 'a wait as long');
is(psql_err($primary, q{SELECT tcs.relax('eventual', '178000000 years', 'x')}), '22023', 'a relaxation as long');
is(psql_err($primary, q{SELECT tcs.set_rule(level => 'bounded', max_staleness => '178000000 years')}), '22003', 'a rule as long');

foreach my $case (
	[ 'latin1', q{convert_from('\x6de9'::bytea, 'LATIN1')}, '6dc3a9' ],
	[ 'ascii', q{convert_from('\x6de9'::bytea, 'SQL_ASCII')}, '6d3f' ],
	[ 'postgres', q{U&'m\00e9 \4f60'}, '6dc3a920e4bda0' ])
{
	my ($db, $reason, $expected) = @$case;

	$primary->safe_psql($db, "SELECT tcs.relax('eventual', '1 min', $reason)");
	is($primary->safe_psql('postgres', q{SELECT encode(reason::bytea, 'hex') FROM tcs.relaxed}), $expected,
		"a reason given in database $db");
}
is($primary->safe_psql('latin1', q{SELECT encode(reason::bytea, 'hex') FROM tcs.relaxed}), '6de9203f',
	'... and one that LATIN1 has no characters for');
$primary->safe_psql('postgres', 'SELECT tcs.relax_end()');

is(mallory("BEGIN; SELECT tcs_internal.redirect_settings($_->[0]); ROLLBACK", dbname => 'shared'), $_->[1],
	"redirect_settings($_->[0])")
  foreach (
	[ q{'a.b'::bytea || '\x00'::bytea || '\x61ff62f0'::bytea || '\x00'::bytea}, '22021' ],
	[ q{'a.'::bytea || '\xff'::bytea || '\x00'::bytea || 'x'::bytea || '\x00'::bytea}, '22021' ],
	[ q{'a.b'::bytea || '\x00'::bytea || 'x'::bytea || '\x00'::bytea}, '00000' ],
	[ q{'a.b'::bytea}, '08P01' ],
	[ q{'\x00'::bytea}, '08P01' ],
	[ q{''::bytea}, '00000' ],
	[ q{'session_replication_role'::bytea || '\x00'::bytea || 'replica'::bytea || '\x00'::bytea}, '42501' ],
	[ q{'session_authorization'::bytea || '\x00'::bytea || 'postgres'::bytea || '\x00'::bytea}, '42501' ]);
is(mallory("SELECT $_->[0]", dbname => 'shared'), $_->[1], $_->[0])
  foreach (
	[ q{tcs_internal.redirect_begin(0, 0, 0, '')}, '55000' ],
	[ q{tcs.token_info(repeat('1.', 100000))}, '22023' ],
	[ q{tcs.merge_tokens('x', NULL)}, '22023' ],
	[ q{tcs.can_serve(repeat('x', 1000000))}, '22023' ],
	[ q{tcs_internal.asker_staleness(-1, 'FFFFFFFF/FFFFFFFF')}, '42501' ],
	[ q{tcs_internal.fdw_validator('{host}', 1417)}, '42501' ],
	[ q{tcs.explain_level('')}, '22023' ],
	[ q{current_setting('tcs.quorum_round')}, '00000' ]);
is(psql_err($primary, "SELECT tcs_internal.$_->[0]", dbname => 'shared'), $_->[1], $_->[0])
  foreach (
	[ q{fdw_validator('{a,NULL}', 1417)}, '22004' ],
	[ q{fdw_validator('{host}', 1417)}, '00000' ],
	[ q{fdw_validator(ARRAY[repeat('x', 100000) || '=1'], 0)}, 'HV00D' ],
	[ q{asker_staleness(-1, 'FFFFFFFF/FFFFFFFF')}, '00000' ]);
# every function, with nothing
my @functions = split /\n/, $primary->safe_psql('shared', q{
	SELECT format('SELECT %s.%I(%s)', pronamespace::regnamespace, proname, (SELECT string_agg('NULL::' || format_type(t, NULL), ', ') FROM unnest(proargtypes) t))
	  FROM pg_proc WHERE pronamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace) AND prokind = 'f'
	   AND prorettype <> 'trigger'::regtype});
cmp_ok(scalar @functions, '>', 20, 'functions');
isnt(mallory($_, dbname => 'shared'), 'XX000', $_) foreach @functions;
isnt(scalar psql_err($primary, $_, dbname => 'shared'), 'XX000', "superuser: $_") foreach @functions;
server_lives('arguments');


##
## Rules that cannot be met
##

$primary->safe_psql('postgres', 'CREATE TABLE t (i int); CREATE TABLE u (i int)');
my ($state, $err) = psql_err($primary, q{SELECT tcs.set_rule('t', 'linearizable', floor => 'strong')});
is($state, '00000', 'a level that this server cannot give');
like($err, qr/WARNING:.*linearizable.*synchronous_standby_names is empty/s, '... is warned of, with the cause');
unlike((psql_err($primary, $_->[0]))[1], qr/WARNING/, "no warning: $_->[0]") foreach (
	[q{SELECT tcs.set_rule('t', 'linearizable', floor => 'session', fallback => 'strong, error')}],
	[q{SELECT tcs.set_rule('t', 'strong', floor => 'session')}]);
like((psql_err($primary, q{SELECT tcs.set_rule('t', 'quorum', operation => 'write')}))[1],
	qr/WARNING:.*write level "quorum".*synchronous_standby_names/s, 'nor a write level');
is(psql_err($primary, 'INSERT INTO t VALUES (1)'), '55000', '... which it does not');
$primary->safe_psql('postgres', 'TRUNCATE tcs.rule');

my $unmet = q{SELECT tcs.set_rule(level => 'linearizable', floor => 'linearizable', hard => true, fallback => 'error');
	SELECT tcs.set_rule(level => 'quorum', operation => 'write')};
foreach my $way (
	q{SELECT tcs.drop_rule(id => (SELECT max(id) FROM tcs.rules WHERE operation = 'read'))},
	q{SELECT tcs.drop_rule(id => id) FROM tcs.rule WHERE operation = 'read'},
	q{SELECT tcs.drop_rule()},
	q{DELETE FROM tcs.rule},
	q{DELETE FROM tcs.rule WHERE level = 'linearizable' RETURNING id},
	q{WITH gone AS (DELETE FROM tcs.rule RETURNING id) SELECT count(*) FROM gone},
	q{UPDATE tcs.rule SET hard = false, floor = NULL, level = 'strong' WHERE operation = 'read'},
	q{TRUNCATE tcs.rule},
	q{DROP EXTENSION tcs; CREATE EXTENSION tcs})
{
	(undef) = psql_err($primary, $unmet);
	is(psql_err($primary, 'SELECT * FROM t'), '55000', 'a rule for all that cannot be met');
	is(psql_err($primary, 'INSERT INTO t VALUES (1)'), '55000', '... by those who write');
	is(psql_err($primary, $_), '00000', "... $_")
	  foreach ('SELECT * FROM tcs.rules', 'TABLE tcs.rule', q{SELECT count(*) FROM tcs.rule WHERE level = 'strong'},
		q{SELECT tcs.set_rule('t', 'session')}, q{SELECT tcs.drop_rule('t')},
		q{INSERT INTO tcs.rule (relation, level) VALUES ('t', 'session')}, q{DELETE FROM tcs.rule WHERE relation = 't'::regclass},
		q{SELECT tcs.set_group('g', 't', 'u')}, q{SELECT tcs.drop_group('g')});
	is(psql_err($primary, $way), '00000', "... is dropped: $way");
	is(psql_err($primary, 'SELECT * FROM t'), '00000', '... and is not there any more');
	$primary->safe_psql('postgres', 'TRUNCATE tcs.rule');
}
# what is not about the rules alone is kept waiting all the same
(undef) = psql_err($primary, $unmet);
is(psql_err($primary, $_), '55000', $_)
  foreach ('SELECT * FROM tcs.rule, t', 'SELECT (SELECT max(i) FROM t) FROM tcs.rule',
	'DELETE FROM tcs.rule WHERE id = (SELECT max(i) FROM t)', 'SELECT tcs.drop_rule(id => i) FROM t',
	'SELECT * FROM tcs.rules r WHERE EXISTS (SELECT FROM t)');
$primary->safe_psql('postgres', 'TRUNCATE tcs.rule');
is(psql_err($primary, "SELECT tcs.set_rule($_, level => 'strong')"), '42809', "no rule for $_")
  foreach (q{'tcs.rule'}, q{'tcs.rules'}, q{schema => 'tcs'}, q{schema => 'tcs_internal'}, q{function => 'tcs.session_token()'});


##
## Whom the worker asks
##

{
	my $standby = new_standby($primary, 'standby');
	my $port = $primary->port;
	my $host = $primary->host;

	# a database where everything that could be asked is his
	$primary->safe_psql('postgres', 'CREATE DATABASE lies OWNER mallory');
	is(mallory(q{
CREATE SCHEMA tcs;
CREATE TABLE public.called (who text);
GRANT ALL ON public.called TO PUBLIC;
CREATE FUNCTION tcs.read_index(OUT answer text) LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO public.called VALUES (current_user); answer := 'lies'; END$$;
CREATE SCHEMA evil;
CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO public.called VALUES (current_user); RETURN 'lies'; END$$;
ALTER DATABASE lies SET search_path = evil, pg_catalog;
ALTER DATABASE lies SET tcs.read_level = linearizable;
}, dbname => 'lies'), '00000', 'a database where everything is somebody else\'s');
	$standby->append_conf('postgresql.conf', "tcs.primary_conninfo = 'host=$host port=$port dbname=lies'");
	$standby->reload;
	ok($standby->poll_query_until('postgres', q{SELECT count(*) > 0 FROM tcs.status WHERE link_state = 'up'}), 'the worker has its answer');
	ok($primary->poll_query_until('postgres',
		q{SELECT count(*) > 0 FROM tcs_internal.askers() q JOIN pg_stat_activity a USING (pid) WHERE a.datname = 'lies' AND q.questions > 3}),
		'... from the server itself');
	is(read_at($primary, 'SELECT * FROM public.called', dbname => 'lies', level => 'eventual'), '', '... and has called nothing of his');

	# without the library, settings of that name can be given any value
	my $answer = $primary->safe_psql('postgres', 'SHOW tcs.read_index',
		connstr => $primary->connstr('postgres') . " options='-c tcs.asker=test'");
	like($answer, qr/^1 primary /, 'an answer');
	$primary->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
	$primary->restart;
	is(psql_err($primary, "ALTER DATABASE lies SET tcs.read_index = '$answer'; ALTER DATABASE lies SET tcs.enabled = 'on'"),
		'00000', 'a primary without the library, and the answer as a setting');
	ok($standby->poll_query_until('postgres',
		q{SELECT link_state = 'down' AND link_detail ~ 'without tcs' FROM tcs.status}), '... is not believed')
	  or diag $standby->safe_psql('postgres', 'SELECT link_state, link_detail FROM tcs.status');
}

done_testing();
