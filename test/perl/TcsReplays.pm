# test/perl/TcsReplays.pm
#
# Tables for 120_gate_ddl.pl, each row with each: what replay does, and how a
# statement that waits for it reads.

package TcsReplays;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(@changes @reads);

# What is replayed.  T stands for the name of a table of its own.
#
#   create, change   on the primary; change as several statements, since VACUUM
#                    must be alone
#   read             what the standby reads
#   old, new         what it gives before and after; new can be an SQLSTATE
#   lock, snapshot   replay needs a lock on T that excludes readers; conflicts
#                    with snapshots that still see removed rows
#   columns          the statement's columns change
#   names            a name comes to mean something else
our @changes = (
	{
		name => 'VACUUM',
		create => 'CREATE TABLE T (a int); INSERT INTO T SELECT generate_series(1, 100)',
		change => [ 'DELETE FROM T WHERE a < 100', 'VACUUM (TRUNCATE off) T' ],
		read => 'SELECT count(*) FROM T',
		old => '100',
		new => '1',
		snapshot => 1
	},
	{
		name => 'VACUUM that gives back pages',
		create => 'CREATE TABLE T (a int); INSERT INTO T SELECT generate_series(1, 1000)',
		change => [ 'DELETE FROM T WHERE a > 1', 'VACUUM T' ],
		read => 'SELECT count(*) FROM T',
		old => '1000',
		new => '1',
		snapshot => 1,
		lock => 1
	},
	{
		name => 'VACUUM FULL',
		create => 'CREATE TABLE T (a int); INSERT INTO T SELECT generate_series(1, 100)',
		change => [ 'DELETE FROM T WHERE a < 100', 'VACUUM FULL T' ],
		read => 'SELECT count(*) FROM T',
		old => '100',
		new => '1',
		lock => 1
	},
	{
		name => 'ADD COLUMN',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1)',
		change => ['ALTER TABLE T ADD b int DEFAULT 7; INSERT INTO T VALUES (2)'],
		read => q{SELECT string_agg(a::text, ',' ORDER BY a) FROM T},
		old => '1',
		new => '1,2',
		lock => 1
	},
	{
		name => 'ADD COLUMN below *',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1)',
		change => ['ALTER TABLE T ADD b int DEFAULT 7'],
		read => 'SELECT * FROM T',
		old => '1',
		new => '1|7',
		lock => 1,
		columns => 1
	},
	{
		name => 'ALTER COLUMN TYPE',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1)',
		change => [q{ALTER TABLE T ALTER a TYPE text USING 'x' || a}],
		read => 'SELECT a FROM T',
		old => '1',
		new => 'x1',
		lock => 1,
		columns => 1
	},
	{
		name => 'TRUNCATE',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1)',
		change => ['TRUNCATE T'],
		read => 'SELECT count(*) FROM T',
		old => '1',
		new => '0',
		lock => 1
	},
	{
		name => 'DROP',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1)',
		change => ['DROP TABLE T'],
		read => 'SELECT a FROM T',
		old => '1',
		new => '42P01',
		lock => 1
	},
	{
		name => 'DROP and CREATE',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1)',
		change =>
		  ['DROP TABLE T; CREATE TABLE T (a int); INSERT INTO T VALUES (2)'],
		read => 'SELECT a FROM T',
		old => '1',
		new => '2',
		lock => 1
	},
	{
		name => 'RENAME and CREATE',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1)',
		change => [
			'ALTER TABLE T RENAME TO T_old; CREATE TABLE T (a int); INSERT INTO T VALUES (2)'
		],
		read => 'SELECT a FROM T',
		old => '1',
		new => '2',
		lock => 1
	},
	{
		name => 'DROP INDEX',
		create => 'CREATE TABLE T (a int, b int); CREATE INDEX T_i ON T (a);'
		  . 'INSERT INTO T VALUES (1, 1)',
		change => ['DROP INDEX T_i; UPDATE T SET b = 2'],
		read => 'SELECT b FROM T WHERE a = 1',
		old => '1',
		new => '2',
		lock => 1
	},
	{
		name => 'ATTACH PARTITION',
		create => 'CREATE TABLE T (a int) PARTITION BY LIST (a);'
		  . 'CREATE TABLE T_1 PARTITION OF T FOR VALUES IN (1);'
		  . 'CREATE TABLE T_2 (a int); INSERT INTO T VALUES (1); INSERT INTO T_2 VALUES (2)',
		change => ['ALTER TABLE T ATTACH PARTITION T_2 FOR VALUES IN (2)'],
		read => q{SELECT string_agg(a::text, ',' ORDER BY a) FROM T},
		old => '1',
		new => '1,2'
	},
	{
		name => 'DETACH PARTITION',
		create => 'CREATE TABLE T (a int) PARTITION BY LIST (a);'
		  . 'CREATE TABLE T_1 PARTITION OF T FOR VALUES IN (1);'
		  . 'CREATE TABLE T_2 PARTITION OF T FOR VALUES IN (2); INSERT INTO T VALUES (1), (2)',
		change => ['ALTER TABLE T DETACH PARTITION T_2'],
		read => q{SELECT string_agg(a::text, ',' ORDER BY a) FROM T},
		old => '1,2',
		new => '1',
		lock => 1
	},
	{
		name => 'CREATE OR REPLACE FUNCTION, inlined',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1);'
		  . q{CREATE FUNCTION T_f(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1'},
		change => [
			q{CREATE OR REPLACE FUNCTION T_f(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1 + 100'}
		],
		read => 'SELECT T_f(a) FROM T',
		old => '1',
		new => '101'
	},
	{
		name => 'CREATE OR REPLACE FUNCTION',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1);'
		  . q{CREATE FUNCTION T_f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'},
		change => [
			q{CREATE OR REPLACE FUNCTION T_f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1 + 100; END'}
		],
		read => 'SELECT T_f(a) FROM T',
		old => '1',
		new => '101'
	},
	{
		name => 'CREATE OR REPLACE VIEW',
		create => 'CREATE TABLE T_t (a int); INSERT INTO T_t VALUES (1);'
		  . 'CREATE VIEW T AS SELECT a FROM T_t',
		change => ['CREATE OR REPLACE VIEW T AS SELECT a + 100 AS a FROM T_t'],
		read => 'SELECT a FROM T',
		old => '1',
		new => '101',
		lock => 1
	},
	{
		name => 'CREATE OR REPLACE VIEW that reads nothing',
		create => 'CREATE VIEW T AS SELECT 1 AS a',
		change => ['CREATE OR REPLACE VIEW T AS SELECT 2 AS a'],
		read => 'SELECT a FROM T',
		old => '1',
		new => '2',
		lock => 1
	},
	{
		name => 'CREATE of a table that comes first',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1)',
		change => ['CREATE TABLE front.T (a int); INSERT INTO front.T VALUES (2)'],
		read => 'SELECT a FROM T',
		old => '1',
		new => '2',
		names => 1
	},
	{
		name => 'CREATE of a function that comes first',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1);'
		  . q{CREATE FUNCTION T_f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'},
		change => [
			q{CREATE FUNCTION front.T_f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1 + 100; END'}
		],
		read => 'SELECT T_f(a) FROM T',
		old => '1',
		new => '101',
		names => 1
	},
	{
		# planning may run it, so the wait comes before planning
		name => 'CREATE of a function without arguments that comes first',
		create => 'CREATE TABLE T (a int); INSERT INTO T VALUES (1);'
		  . q{CREATE FUNCTION T_f() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'},
		change => [q{CREATE FUNCTION front.T_f() RETURNS int LANGUAGE sql STABLE AS 'SELECT 101'}],
		read => 'SELECT T_f() FROM T',
		old => '1',
		new => '101',
		names => 1
	});

# How the standby reads.
#
#   prepare   statements before the change is made, at eventual
#   start     statements before the read, with the token set; the last of them
#             may be the one that waits
#   read      code that sends the read; else it is a simple query
#   lock, snapshot   the session holds them while it waits
#   after     the change is replayed before the read comes
#   pipelined begin has left a pipeline open
#   result    which of several results counts (the last one)
#   keeps_names   names mean what they meant when it was prepared
#   plain     the statement is not one that is planned anew from its text
#   analysed  it is analysed anew, and has promised no columns
#   not       changes that do not fit
my $generic = 'SET plan_cache_mode = force_generic_plan';
our @reads = (
	{ name => 'autocommit' },
	{ name => 'autocommit, replayed before', after => 1 },
	{
		name => 'generic plan',
		prepare => [$generic],
		begin => sub {
			my ($c, $sql) = @_;
			$c->parse('s', $sql)->bind('', 's')->execute('')->sync->results;
		},
		read => sub { $_[0]->bind('', 's')->execute('')->sync; },
		plain => 1
	},
	{
		name => 'generic plan with a parameter',
		prepare => [$generic],
		begin => sub {
			my ($c, $sql) = @_;
			$c->parse('s', with_parameter($sql))->bind('', 's', 1)->execute('')
			  ->sync->results;
		},
		read => sub { $_[0]->bind('', 's', 1)->execute('')->sync; },
		plain => 1
	},
	{
		name => 'parameter',
		read => sub { $_[0]->extended(with_parameter($_[1]), 1)->sync; }
	},
	{
		# the length of what is in front of it counts in bytes
		name => 'second statement of a string',
		read => sub {
			$_[0]->simple("SELECT '\xc3\xa4\xc3\xb6'; /* ; */ $_[1]; SELECT 3");
		},
		result => 1,
		lock => 1
	},
	{
		name => 'generic plan, replayed before',
		after => 1,
		prepare => [$generic],
		begin => sub {
			my ($c, $sql) = @_;
			$c->parse('s', $sql)->bind('', 's')->execute('')->sync->results;
		},
		read => sub { $_[0]->bind('', 's')->execute('')->sync; },
		plain => 1,
		keeps_names => 1
	},
	{
		name => 'EXECUTE on a generic plan',
		prepare => [$generic],
		begin => sub { $_[0]->ok_query("PREPARE s AS $_[1]; EXECUTE s"); },
		read => sub { $_[0]->simple('EXECUTE s'); },
		plain => 1,
		keeps_names => 1
	},
	{
		name => 'COPY',
		read => sub { $_[0]->simple("COPY ($_[1]) TO STDOUT (DELIMITER '|')"); },
		copy => 1
	},
	{
		name => 'WITH HOLD cursor',
		read => sub {
			$_[0]->simple("DECLARE c CURSOR WITH HOLD FOR $_[1]; FETCH ALL FROM c");
		},
		lock => 1
	},
	{
		name => 'WITH HOLD cursor, extended protocol',
		read => sub {
			$_[0]->extended("DECLARE c CURSOR WITH HOLD FOR $_[1]")->extended('FETCH ALL FROM c')
			  ->sync;
		},
		analysed => 1
	},
	{ name => 'block, token before', start => ['BEGIN'] },
	{
		name => 'block, token inside',
		prepare => ['BEGIN'],
		lock => 1
	},
	{
		name => 'block that has read',
		prepare => ['BEGIN'],
		begin => sub { $_[0]->ok_query($_[1]); },
		lock => 1
	},
	{
		name => 'block that has read, replayed before',
		after => 1,
		prepare => ['BEGIN'],
		begin => sub { $_[0]->ok_query($_[1]); },
		# replay would not come as far
		not => 'lock'
	},
	{
		name => 'open cursor',
		prepare => ['BEGIN'],
		begin =>
		  sub { $_[0]->ok_query("DECLARE c CURSOR FOR $_[1]; FETCH 1 FROM c"); },
		lock => 1,
		snapshot => 1
	},
	{
		name => 'open cursor on another table',
		prepare => [
			'BEGIN', 'DECLARE c CURSOR FOR SELECT a FROM other', 'FETCH 1 FROM c'
		],
		lock => 1,
		snapshot => 1
	},
	{
		name => 'advisory lock in a pipeline',
		begin => sub {
			$_[0]->extended('SELECT pg_advisory_xact_lock(42)')->ask->results(1);
		},
		pipelined => 1,
		read => sub {
			my ($c, $sql) = @_;
			$c->extended($sql)->extended(
				q{SELECT 'locks: ' || count(*) FROM pg_locks}
				  . q{ WHERE locktype = 'advisory' AND pid = pg_backend_pid()})
			  ->sync;
		},
		advisory => 1,
		lock => 1
	},
	{
		name => 'REPEATABLE READ by default',
		prepare => ['SET default_transaction_isolation = "repeatable read"'],
		snapshot => 1,
		lock => 1
	});

sub with_parameter { return "SELECT q.* FROM ($_[0]) q WHERE \$1::int = 1"; }

1;
