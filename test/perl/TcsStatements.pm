# test/perl/TcsStatements.pm
#
# Statements of every kind, sent to a primary and to a standby whose replay stands
# still behind changes, in the same words and by the same messages.  The two must
# tell their clients the same, which the standby can only by a redirect.
#
#     my $nodes = TcsStatements->new;
#     $nodes->same('a read', 'SELECT v FROM t');
#     $nodes->stays('a function of this node', 'SELECT pg_is_in_recovery()', qr/.../);
#
# The object is a hash: nodes primary and standby; clients on_primary and on_standby,
# which keep all that they are told (TcsTranscript); look, which only looks at the
# standby; early, a client of the standby with statements that were prepared while
# there was no server to redirect to; token, that of the changes.

package TcsStatements;

use strict;
use warnings;

use Test::More;

use TcsRedirect ();
use TcsTest;
use TcsTranscript;
use TcsWire;

# What both nodes have.
my $schema = q{
CREATE ROLE alice;
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'old' FROM generate_series(1, 100) i;
CREATE TABLE one (a int);
CREATE VIEW t_view AS SELECT id, v FROM t;
CREATE SCHEMA other;
CREATE TABLE other.t (id int PRIMARY KEY, v text);
CREATE TABLE big (a int, filler text);
CREATE TABLE measure (
	at timestamptz, day date, took interval, amount float8, small float4,
	raw bytea, price money, doc xml, n numeric, words text);
CREATE TABLE fine (
	vc varchar(5), nu numeric(6,2), ch char(3), bi bit(4), ts timestamp(3),
	ti time(2), iv interval day to second(2), vcs varchar(4)[]);
CREATE TYPE mood AS ENUM ('sad', 'fine');
CREATE TYPE pair AS (a int, b text);
CREATE TYPE named AS (a int, c regclass);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN short AS varchar(3);
CREATE DOMAIN shorts AS short[];
CREATE DOMAIN checked_pair AS pair CHECK ((VALUE).a > 0);
CREATE DOMAIN must AS int NOT NULL;
CREATE DOMAIN late AS int;
CREATE TYPE late_pair AS (a late, b text);
CREATE TYPE nested AS (p pair, ps pair[], m mood, d positive);
CREATE TYPE plain;
CREATE FUNCTION plain_in(cstring) RETURNS plain IMMUTABLE STRICT LANGUAGE internal AS 'textin';
CREATE FUNCTION plain_out(plain) RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS 'textout';
CREATE TYPE plain (INPUT = plain_in, OUTPUT = plain_out);
CREATE TYPE with_plain AS (a int, p plain);
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
CREATE TYPE moodrange AS RANGE (subtype = mood);
CREATE FUNCTION v_of(int) RETURNS text LANGUAGE sql STABLE
	AS 'SELECT v FROM public.t WHERE id = $1';
CREATE FUNCTION id_of(text) RETURNS int LANGUAGE plpgsql STABLE
	AS 'BEGIN RETURN (SELECT min(id) FROM public.t WHERE v = $1); END';
CREATE FUNCTION pairs() RETURNS SETOF pair LANGUAGE sql STABLE
	AS 'SELECT id, v FROM public.t WHERE id < 4 ORDER BY id';
CREATE FUNCTION pair_out(OUT a int, OUT b text) LANGUAGE sql STABLE
	AS 'SELECT id, v FROM public.t WHERE id = 2';
CREATE FUNCTION by_path() RETURNS text LANGUAGE plpgsql STABLE
	AS 'BEGIN RETURN (SELECT max(v) FROM t); END';
CREATE FUNCTION tells() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'one of %', (SELECT v FROM public.t WHERE id = 1)
		USING DETAIL = 'its detail', HINT = 'its hint';
	RAISE WARNING 'another' USING ERRCODE = '01ABC';
	RETURN 1;
END$$;
CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'about to fail';
	RAISE EXCEPTION 'no luck' USING ERRCODE = 'ZZ123', DETAIL = 'why', HINT = 'do',
		COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 'd', TABLE = 't', SCHEMA = 's';
END$$;
CREATE FUNCTION sets(name text, local bool) RETURNS text LANGUAGE plpgsql
	AS 'BEGIN RETURN set_config(name, ''changed'', local); END';
CREATE FUNCTION sets_and_restores() RETURNS text LANGUAGE plpgsql
	SET work_mem = '1MB' AS 'BEGIN RETURN (SELECT v FROM public.t WHERE id = 1); END';
CREATE FUNCTION public.plus(text, text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $2 || $1';
CREATE OPERATOR public.+ (LEFTARG = text, RIGHTARG = text, FUNCTION = public.plus);
CREATE AGGREGATE public.last_of(text) (SFUNC = pg_catalog.textcat, STYPE = text, INITCOND = '');
CREATE VIEW who_is_here AS SELECT pid, state FROM pg_stat_activity;
CREATE VIEW v_and_who AS SELECT t.v, a.pid FROM t, pg_stat_activity a WHERE t.id = 1;
CREATE VIEW recovers AS SELECT pg_is_in_recovery() AS r, v FROM t WHERE id = 1;
CREATE TABLE of_x (owner text, v text);
CREATE POLICY own ON of_x USING (owner = current_setting('app.x', true));
ALTER TABLE of_x ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON of_x, t, one TO alice;
CREATE STATISTICS t_stat (ndistinct, dependencies, mcv) ON id, v FROM t;
ANALYZE t;
CREATE TABLE s_add (a int, b text);
CREATE TABLE s_type (a int, b int);
CREATE TABLE s_typmod (a int, b varchar(10));
CREATE TABLE s_wider (a int, b varchar(10));
CREATE TABLE s_drop (a int, b text);
CREATE TABLE s_again (a int, b text);
CREATE TABLE s_name (a int, b text);
CREATE TABLE s_label (a int, m mood);
CREATE TABLE s_pair (a int, p pair);
CREATE TABLE s_part (a int, b text) PARTITION BY LIST (a);
CREATE TABLE s_part1 PARTITION OF s_part FOR VALUES IN (1);
CREATE VIEW s_view AS SELECT 'old'::text AS w, a FROM s_add;
CREATE TABLE has_late (d late, ds late[], p late_pair, ps late_pair[]);
INSERT INTO has_late VALUES (-1, '{-1,NULL}', (-1, 'x'), '{"(-2,y)",NULL}');
ALTER DOMAIN late ADD CHECK (value > 0) NOT VALID;
INSERT INTO s_add VALUES (1, 'old');
INSERT INTO s_type VALUES (1, 1);
INSERT INTO s_typmod VALUES (1, 'old');
INSERT INTO s_wider VALUES (1, 'old');
INSERT INTO s_drop VALUES (1, 'old');
INSERT INTO s_again VALUES (1, 'old');
INSERT INTO s_name VALUES (1, 'old');
INSERT INTO s_label VALUES (1, 'sad');
INSERT INTO s_pair VALUES (1, (1, 'old'));
INSERT INTO s_part VALUES (1, 'old');
};

# What only the primary has.
my $changes = q{
UPDATE t SET v = 'new' WHERE id <= 3;
SELECT lo_from_bytea(0, 'large');
INSERT INTO one VALUES (1);
INSERT INTO other.t VALUES (1, 'elsewhere');
INSERT INTO big SELECT i, repeat('x', 20) FROM generate_series(1, 20000) i;
INSERT INTO measure VALUES
	('2024-06-01 12:34:56.789+00', '2024-02-29', '1 year -2 days 03:04:05.6',
	 0.1::float8 + 0.2, 1.1, '\x00ff5c41', '1234.56', '<a>b</a>', 1.50, 'running quickly'),
	('-infinity', 'infinity', '-1 mon', 'NaN', '-Infinity', '', '-0.01', '<c/>', 'NaN', '');
INSERT INTO fine VALUES ('abc', 1.5, 'x', '1010', '2024-01-02 03:04:05.678',
	'10:11:12.34', '2 days 01:02:03.45', '{ab,cd}');
INSERT INTO of_x VALUES ('joe', 'of joe'), ('ann', 'of ann')};

# The nodes and their clients.  Returns when replay stands still and the changes are
# made.
sub new
{
	my ($class) = @_;
	my ($primary, $standby) = new_pair(init => { extra => [ "--encoding=UTF8", "--locale=C" ] });
	my $early = TcsWire->new($standby);

	$primary->safe_psql('postgres', $schema);
	wait_for_replay($primary, $standby);
	$early->parse('early', 'SELECT v FROM t WHERE id = $1')->sync;
	$early->results;
	$early->ok_query('PREPARE early_sql AS SELECT v FROM t WHERE id = 1');

	redirect_to($primary);
	wait_for_replay($primary, $standby);
	pause_replay($standby);

	my $self = bless {
		primary => $primary,
		standby => $standby,
		early => $early,
		token => write_token($primary, $changes),
		on_primary => TcsTranscript->new($primary),
		on_standby => TcsTranscript->new($standby),
		look => TcsWire->new($standby, options => '-c tcs.read_level=eventual')
	  },
	  $class;

	foreach my $client ($self->{on_standby}, $early)
	{
		$client->ok_query("SET tcs.session_token = '$self->{token}'; SET tcs.redirect_after = 0; SET tcs.max_wait = 10");
	}
	$self->both(q{SET tcs.redirect_timeout = '180s'});
	return $self;
}

# How many reads the standby has redirected.
sub redirected
{
	my ($self) = @_;

	return TcsRedirect::redirected($self->{look});
}

# The statement must succeed on both nodes.
sub both
{
	my ($self, $sql) = @_;

	TcsRedirect::both($self->{on_primary}, $self->{on_standby}, $sql);
	return;
}

# A check: the same on both nodes, and redirected (or not, with redirect => 0).
sub same
{
	my ($self, $name, $send, %opt) = @_;
	my $before = $self->redirected;
	my $expected = transcript($self->{on_primary}, $send);
	my $got = transcript($self->{on_standby}, $send);
	my $went = $self->redirected - $before > 0 ? 'redirected' : 'not redirected';

	return is("$got\n$went",
		"$expected\n" . ($opt{redirect} // 1 ? 'redirected' : 'not redirected'),
		$name);
}

# Two checks: the statement is not redirected, and what comes of it is the regexp.
sub stays
{
	my ($self, $name, $sql, $expected) = @_;
	my $before = $self->redirected;
	my $client = $self->{on_standby};
	my $got = transcript($client, $sql);

	$client->query('ROLLBACK') if $client->status ne 'I';
	is($self->redirected - $before, 0, "$name: is not redirected");
	return like($got, $expected, "$name: answer");
}

1;
