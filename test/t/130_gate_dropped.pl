# test/t/130_gate_dropped.pl
#
# What a read uses besides tables is dropped on the primary and made again, while the
# read waits on the standby for that to be replayed.  No lock keeps replay from it.
# The read is looked up again and shows what is new, or fails with an SQLSTATE that
# says so, and succeeds when it is tried again.  It never shows what was before, nor
# an internal error about what is gone.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsResults;
use TcsTest;
use TcsWire;
use TcsWrites;

my ($primary, $standby) = new_pair();
my $writer = TcsWire->new($primary);
my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

# [ name, what is made, what is dropped, what is made again, the read, its old and
# its new result ].  T stands for a name of its own.
my @objects = (
	[
		'SQL function',
		q{CREATE FUNCTION T() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'},
		'DROP FUNCTION T()',
		q{CREATE FUNCTION T() RETURNS int LANGUAGE sql STABLE AS 'SELECT 2'},
		'SELECT T() FROM one', '1', '2'
	],
	[
		'SQL function, other result',
		q{CREATE FUNCTION T() RETURNS text LANGUAGE sql STABLE AS $$SELECT 'a'::text$$},
		'DROP FUNCTION T()',
		q{CREATE FUNCTION T() RETURNS varchar LANGUAGE sql STABLE AS $$SELECT 'b'::varchar$$},
		'SELECT T() FROM one', 'a', 'b'
	],
	[
		'SQL function, gone',
		q{CREATE FUNCTION T() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'},
		'DROP FUNCTION T()', 'SELECT', 'SELECT T() FROM one', '1', '42883'
	],
	[
		'SQL function with a default',
		q{CREATE FUNCTION T(a int DEFAULT 1) RETURNS int LANGUAGE sql STABLE AS 'SELECT a'},
		'DROP FUNCTION T(int)',
		q{CREATE FUNCTION T(b int DEFAULT 2) RETURNS int LANGUAGE sql STABLE AS 'SELECT b'},
		'SELECT T() FROM one', '1', '2'
	],
	[
		'PL/pgSQL function',
		q{CREATE FUNCTION T(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'},
		'DROP FUNCTION T(int)',
		q{CREATE FUNCTION T(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 2; END'},
		'SELECT T(a) FROM one', '1', '2'
	],
	[
		'immutable function',
		q{CREATE FUNCTION T(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 1; END'},
		'DROP FUNCTION T(int)',
		q{CREATE FUNCTION T(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 2; END'},
		'SELECT T(7) FROM one WHERE T(8) > 0', '1', '2'
	],
	[
		'two functions',
		q{CREATE FUNCTION T() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
		  CREATE FUNCTION T_2(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 1; END'},
		'DROP FUNCTION T_2(int)',
		q{CREATE FUNCTION T_2(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 2; END'},
		'SELECT T_2(T()) FROM one ORDER BY T_2(1)', '1', '2'
	],
	[
		'aggregate',
		q{CREATE AGGREGATE T(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')},
		'DROP AGGREGATE T(int)',
		q{CREATE AGGREGATE T(int) (SFUNC = int4pl, STYPE = int, INITCOND = '1')},
		'SELECT T(a) FROM one', '1', '2'
	],
	[
		'aggregate as a window function',
		q{CREATE AGGREGATE T(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')},
		'DROP AGGREGATE T(int)',
		q{CREATE AGGREGATE T(int) (SFUNC = int4pl, STYPE = int, INITCOND = '1')},
		'SELECT T(a) OVER () FROM one', '1', '2'
	],
	[
		'table function',
		q{CREATE FUNCTION T() RETURNS TABLE (x int) LANGUAGE plpgsql STABLE AS 'BEGIN x := 1; RETURN NEXT; END'},
		'DROP FUNCTION T()',
		q{CREATE FUNCTION T() RETURNS TABLE (x int) LANGUAGE plpgsql STABLE AS 'BEGIN x := 2; RETURN NEXT; END'},
		'SELECT x FROM T()', '1', '2'
	],
	[
		'table function, inlined',
		q{CREATE FUNCTION T() RETURNS TABLE (x int) LANGUAGE sql STABLE AS 'SELECT a FROM one'},
		'DROP FUNCTION T()',
		q{CREATE FUNCTION T() RETURNS TABLE (x int) LANGUAGE sql STABLE AS 'SELECT a + 1 FROM one'},
		'SELECT x FROM T()', '1', '2'
	],
	[
		'operator',
		q{CREATE FUNCTION T(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
		  CREATE SCHEMA T; CREATE OPERATOR T.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = T)},
		'DROP FUNCTION T CASCADE',
		q{CREATE FUNCTION T(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2';
		  CREATE OPERATOR T.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = T)},
		'SELECT a OPERATOR(T.===) 1 FROM one', '1', '2'
	],
	[
		'operator of a PL/pgSQL function',
		q{CREATE FUNCTION T(int, int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 1; END';
		  CREATE SCHEMA T; CREATE OPERATOR T.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = T)},
		'DROP FUNCTION T CASCADE',
		q{CREATE FUNCTION T(int, int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 2; END';
		  CREATE OPERATOR T.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = T)},
		'SELECT a OPERATOR(T.===) 1 FROM one', '1', '2'
	],
	[
		'domain',
		'CREATE DOMAIN T AS int CHECK (VALUE > 0)',
		'DROP DOMAIN T',
		'CREATE DOMAIN T AS int CHECK (VALUE > 1)',
		'SELECT (a::T)::int FROM one', '1', '23514'
	],
	[
		'composite type',
		'CREATE TYPE T AS (x int, y int)',
		'DROP TYPE T',
		'CREATE TYPE T AS (y int, x int)',
		'SELECT (ROW(1, 2)::T).x FROM one', '1', '2'
	],
	[
		'composite type of columns',
		'CREATE TYPE T AS (x int, y int)',
		'DROP TYPE T',
		'CREATE TYPE T AS (y int, x int)',
		'SELECT (ROW(a, a + 1)::T).x FROM one', '1', '2'
	],
	[
		'enum',
		q{CREATE TYPE T AS ENUM ('a', 'b')},
		'DROP TYPE T',
		q{CREATE TYPE T AS ENUM ('b', 'a')},
		q{SELECT CASE WHEN 'a'::T < 'b' THEN 1 ELSE 2 END FROM one}, '1', '2'
	],
	[
		'enum of a column',
		q{CREATE TYPE T AS ENUM ('1', '2')},
		'DROP TYPE T',
		q{CREATE TYPE T AS ENUM ('2', '1')},
		q{SELECT 3 - count(*) FROM pg_enum WHERE enumtypid = 'T'::regtype AND enumsortorder <= 1 + (SELECT 0 FROM one WHERE a::text::T >= '1')}, '2', '2'
	],
	[
		'range type',
		'CREATE TYPE T AS RANGE (subtype = int)',
		'DROP TYPE T',
		'CREATE TYPE T AS RANGE (subtype = int)',
		'SELECT upper(T(0, a)) FROM one', '1', '1'
	],
	[
		'cast',
		q{CREATE TYPE T AS (x int); CREATE FUNCTION T_f(int) RETURNS T LANGUAGE sql IMMUTABLE AS 'SELECT ROW(1)::T';
		  CREATE CAST (int AS T) WITH FUNCTION T_f(int)},
		'DROP FUNCTION T_f CASCADE',
		q{CREATE FUNCTION T_f(int) RETURNS T LANGUAGE sql IMMUTABLE AS 'SELECT ROW(2)::T';
		  CREATE CAST (int AS T) WITH FUNCTION T_f(int)},
		'SELECT (a::T).x FROM one', '1', '2'
	],
	[
		'view over a function',
		q{CREATE FUNCTION T_f() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'; CREATE VIEW T AS SELECT T_f() AS x FROM one},
		'DROP FUNCTION T_f CASCADE',
		q{CREATE FUNCTION T_f() RETURNS int LANGUAGE sql STABLE AS 'SELECT 2'; CREATE VIEW T AS SELECT T_f() AS x FROM one},
		'SELECT x FROM T', '1', '2'
	],
	[
		'function below a function',
		q{CREATE FUNCTION T_f() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
		  CREATE FUNCTION T() RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT T_f(); END},
		'DROP FUNCTION T_f CASCADE',
		q{CREATE FUNCTION T_f() RETURNS int LANGUAGE sql STABLE AS 'SELECT 2';
		  CREATE FUNCTION T() RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT T_f(); END},
		'SELECT T() FROM one', '1', '2'
	],
	[
		'collation',
		q{CREATE COLLATION T (provider = libc, locale = 'C')},
		'DROP COLLATION T',
		q{CREATE COLLATION T (provider = libc, locale = 'C')},
		q{SELECT max(a::text COLLATE T) FROM one}, '1', '1'
	],
	[
		'text search configuration',
		q{CREATE TEXT SEARCH CONFIGURATION T (COPY = simple)},
		'DROP TEXT SEARCH CONFIGURATION T',
		q{CREATE TEXT SEARCH CONFIGURATION T (COPY = simple)},
		q{SELECT to_tsvector('T', 'x') FROM one}, q{'x':1}, q{'x':1}
	],
	[
		'sequence as a name',
		'CREATE SEQUENCE T', 'DROP SEQUENCE T', 'CREATE SEQUENCE T',
		q{SELECT 'T'::regclass::text FROM one}, 'T', 'T'
	]);

# How the standby reads: [ name, code that sends the read, statements before ].
my @ways = (
	[ 'simple', sub { $_[0]->simple($_[1]) } ],
	[ 'extended', sub { $_[0]->extended($_[1])->sync } ],
	[ 'parameter', sub { $_[0]->extended("SELECT q.* FROM ($_[1]) q WHERE \$1::int = 1", 1)->sync } ],
	[ 'several', sub { $_[0]->simple("SELECT 1; $_[1]") } ],
	[ 'portal of a prepared statement', sub { $_[0]->bind('', 's')->execute('')->sync } ],
	[ 'EXECUTE', sub { $_[0]->simple('EXECUTE s') } ],
	[ 'EXPLAIN ANALYZE', sub { $_[0]->simple("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) $_[1]") } ],
	[ 'COPY', sub { $_[0]->simple("COPY ($_[1]) TO STDOUT") } ],
	[ 'cursor', sub { $_[0]->simple("BEGIN; DECLARE c CURSOR FOR $_[1]; FETCH ALL FROM c") } ],
	[ 'block', sub { $_[0]->simple("BEGIN; $_[1]") } ],
	[ 'block with a lock', sub { $_[0]->simple("BEGIN; LOCK TABLE one IN ACCESS SHARE MODE; $_[1]") } ],
	[ 'REPEATABLE READ', sub { $_[0]->simple($_[1]) }, q{SET default_transaction_isolation = 'repeatable read'} ]);

my ($token, $lsn);

$writer->ok_query('CREATE TABLE one (a int); INSERT INTO one VALUES (1)');
wait_for_answer($standby);
my $number = 0;

foreach my $object (@objects)
{
	foreach my $way (@ways)
	{
		my $table = 'o' . ++$number;
		my ($what, $create, $drop, $again, $read, $old, $new) =
		  map { s/\bT\b|\bT(?=_)/$table/gr } @$object;
		my ($how, $send, @before) = @$way;
		my $name = "$how: $what";

		# PostgreSQL itself does not look up again the types of what is prepared
		next if $how eq 'EXECUTE' && $what =~ /^(?:domain|composite|enum)/;

		my $c = TcsWire->new($standby);

		$writer->ok_query($create);
		($token, $lsn) = last_write($writer);
		$look->poll("SELECT pg_last_wal_replay_lsn() >= '$lsn'") or die 'the standby did not catch up';
		$c->ok_query("SET tcs.max_wait = -1; SET statement_timeout = '60s'");
		$c->ok_query($_) foreach @before;
		is(outcome($c->query($read)), $old, "$name: before");
		$c->ok_query("PREPARE s AS $read; EXECUTE s") if $how eq 'EXECUTE';
		$c->parse('s', $read)->bind('', 's')->execute('')->sync->results if $how =~ /prepared/;
		$look->stop_replay;
		# a read that holds something may have to give up between the two
		if ($how =~ /^(?:simple|extended|parameter|COPY)$/)
		{
			$writer->ok_query($drop);
			$writer->ok_query($again);
		}
		else
		{
			$writer->ok_query("$drop; $again");
		}
		($token, $lsn) = last_write($writer);
		$c->ok_query("SET tcs.session_token = '$token'");
		$send->($c, $read);
		$c->flush;

		my $held;
		my $got = outcome($look->release($c, undef, \$held));

		ok($held, "$name: it waits");
		my @expected = ($new, '40001');

		# PREPARE has promised the columns
		push @expected, '0A000' if $how =~ /EXECUTE|prepared/;
		# its snapshot or locks stay
		push @expected, '40P01' if $how =~ /^(?:several|block with a lock|REPEATABLE READ)$/;
		if ($how =~ /EXPLAIN/ && $new !~ /^[0-9A-Z]{5}$/)
		{
			like($got, qr/actual rows|^40001$/, "$name: no error but 40001");
		}
		else
		{
			ok((grep { $_ eq $got } @expected), "$name: new, or an error that tells to retry")
			  or diag("got $got, expected one of @expected");
		}
		$c->ok_query('ROLLBACK') if $c->status ne 'I';
		is(outcome($c->query($read)), $new, "$name: again");
		$c->disconnect;
	}
}

$_->disconnect foreach ($writer, $look);
done_testing();
