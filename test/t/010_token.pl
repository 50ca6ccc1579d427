# test/t/010_token.pl
#
# The token comes to the client by itself.  For every kind of commit the server
# must report tcs.session_token between the commit and ReadyForQuery, with a
# position that is exactly the end of that commit's record in the WAL (checked
# with pg_waldump); for what wrote nothing that anybody could miss, rollbacks,
# reads, pruning, it must report nothing, since each report costs a pooler that
# tracks the setting a SET.  Then tcs.report_token, SET, RESET, DISCARD,
# start-up options.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsReports;
use TcsTest;
use TcsWire;
use TcsWrites;

my ($primary, $standby) = new_pair();

$primary->safe_psql(
	'postgres',
	q{CREATE TABLE t (id int PRIMARY KEY, v text);
	  INSERT INTO t VALUES (1, 'a');
	  CREATE TABLE copied (a int);
	  CREATE SEQUENCE s;
	  CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$
	  BEGIN
		FOR i IN 1 .. 3 LOOP
			UPDATE t SET v = v || i WHERE id = 1;
			COMMIT;
		END LOOP;
	  END $$;
	  CREATE PROCEDURE commits_then_reads() LANGUAGE plpgsql AS $$
	  BEGIN
		UPDATE t SET v = v || 'x' WHERE id = 1;
		COMMIT;
		PERFORM v FROM t;
	  END $$;
	  CREATE TABLE parent (a int PRIMARY KEY);
	  CREATE TABLE child (a int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)});

my $client = TcsReports->new($primary);
my $watch = TcsWire->new($primary);


##
## At connect
##

is_deeply([ $client->reports ], [''], 'the token is reported at connect, though empty');
is($client->ok_query('SHOW tcs.session_token'), '', 'and is empty');
is_deeply([ $client->reports ], [], 'SHOW reports nothing');
is(TcsWire->new($primary, options => "-c tcs.read_level=$_")->parameter('tcs.read_level'),
	$_, "a client is told that its level is $_")
  foreach qw(session strong);


##
## Commits
##

my $wal_start = $watch->ok_query('SELECT pg_current_wal_insert_lsn()');
my @commits;    # what, WAL before, after, token

# The message must be answered without an error and with one report; the token
# goes to the check of the WAL.
sub commits
{
	my ($what, $send) = @_;

	my $before = insert_lsn($watch);
	my @results = ref $send ? $send->($client) : $client->query($send);
	my @tokens = $client->reports;
	my $after = insert_lsn($watch);
	my ($failed) = grep { $_->{state} ne '00000' } @results;

	if ($failed)
	{
		fail("$what: " . TcsWire::describe_result($failed));
		return;
	}
	is(scalar(@tokens), 1, "$what: token before ReadyForQuery");
	push @commits, [ $what, $before, $after, $tokens[-1] ] if @tokens;
	return $tokens[-1];
}

# The message must be answered without any report.
sub silent
{
	my ($what, $send) = @_;

	ref $send ? $send->($client) : $client->query($send);
	is_deeply([ $client->reports ], [], "$what: no token");
	return;
}

commits('INSERT', q{INSERT INTO t VALUES (2, 'b')});
commits('UPDATE', q{UPDATE t SET v = 'c' WHERE id = 2});
commits('DELETE', q{DELETE FROM t WHERE id = 2});
commits('a write in a CTE',
	q{WITH w AS (INSERT INTO t VALUES (3, 'c') RETURNING *) SELECT * FROM w});
commits('SELECT FOR UPDATE', 'SELECT * FROM t FOR UPDATE');
commits('nextval', q{SELECT nextval('s')});
commits('TRUNCATE', 'TRUNCATE copied');
commits(
	'COPY FROM',
	sub {
		my ($c) = @_;

		$c->simple('COPY copied FROM STDIN')->_message('d', "1\n2\n3\n")
		  ->_message('c', '');
		return $c->results;
	});
is($watch->ok_query('SELECT count(*) FROM copied'), '3', 'COPY did its work');
commits('CREATE TABLE', 'CREATE TABLE d (a int)');
commits('CREATE TABLE AS', 'CREATE TABLE e AS SELECT 1 AS a');
commits('ALTER TABLE', 'ALTER TABLE d ADD b int');
commits('CREATE INDEX CONCURRENTLY', 'CREATE INDEX CONCURRENTLY ON d (a)');
commits('DROP TABLE', 'DROP TABLE d, e');
commits('GRANT', 'GRANT SELECT ON t TO PUBLIC');
commits('multi-statement string', q{INSERT INTO t VALUES (4, 'd'); DELETE FROM t WHERE id = 4});
commits('a string with COMMIT in it',
	q{BEGIN; INSERT INTO t VALUES (4, 'd'); COMMIT; SELECT 1});
commits('two transactions in a string',
	q{BEGIN; INSERT INTO t VALUES (5, 'd'); COMMIT; BEGIN; DELETE FROM t WHERE id = 5; COMMIT});
commits('procedure with COMMIT', 'CALL commits()');
commits('procedure that reads after its COMMIT', 'CALL commits_then_reads()');
commits('DO with COMMIT', q{DO $$ BEGIN DELETE FROM t WHERE id = 4; COMMIT; END $$});
commits('asynchronous commit',
	q{SET synchronous_commit = off; UPDATE t SET v = 'async' WHERE id = 1});
$client->query('RESET synchronous_commit');

# blocks
silent('a write in a block', q{BEGIN; UPDATE t SET v = 'block' WHERE id = 1});
commits('COMMIT of a block', 'COMMIT');
silent('COMMIT AND CHAIN prepared', q{BEGIN; UPDATE t SET v = 'chain' WHERE id = 1});
commits('COMMIT AND CHAIN', 'COMMIT AND CHAIN');
silent('ROLLBACK of the chained block', 'ROLLBACK');
silent('a block with a subtransaction',
	q{BEGIN; SAVEPOINT a; UPDATE t SET v = 'sub' WHERE id = 1; RELEASE a});
commits('COMMIT after RELEASE', 'COMMIT');
silent('a block with a rolled-back subtransaction',
	q{BEGIN; UPDATE t SET v = 'outer' WHERE id = 1; SAVEPOINT a;
	  DELETE FROM t; ROLLBACK TO a});
commits('COMMIT after ROLLBACK TO', 'COMMIT');
silent('a deferred constraint', 'BEGIN; INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1)');
commits('COMMIT with a deferred trigger', 'COMMIT');
silent('a block in which a temporary table goes',
	'BEGIN; CREATE TEMP TABLE gone (a int) ON COMMIT DROP; INSERT INTO gone VALUES (1)');
commits('COMMIT that drops it', 'COMMIT');
silent('SERIALIZABLE',
	q{BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE t SET v = 'serial' WHERE id = 1});
commits('COMMIT of SERIALIZABLE', 'COMMIT');
commits('NOTIFY', q{NOTIFY channel, 'payload'});
silent('NOTIFY in a block', q{BEGIN; NOTIFY channel, 'other'});
commits('COMMIT with NOTIFY', 'COMMIT');

# two-phase
silent('before PREPARE', q{BEGIN; UPDATE t SET v = 'prepared' WHERE id = 1});
silent('PREPARE TRANSACTION', q{PREPARE TRANSACTION 'one'});
commits('COMMIT PREPARED', q{COMMIT PREPARED 'one'});
silent('before another PREPARE', q{BEGIN; UPDATE t SET v = 'dropped' WHERE id = 1});
silent('another PREPARE TRANSACTION', q{PREPARE TRANSACTION 'two'});
commits('ROLLBACK PREPARED', q{ROLLBACK PREPARED 'two'});
$watch->query(
	q{BEGIN; INSERT INTO t VALUES (6, 'f'); PREPARE TRANSACTION 'three'});
commits('COMMIT PREPARED of another session', q{COMMIT PREPARED 'three'});
$watch->query(
	q{BEGIN; INSERT INTO t VALUES (7, 'g'); PREPARE TRANSACTION 'four'});
silent('a session that only reads', 'SET default_transaction_read_only = on');
commits('COMMIT PREPARED in it', q{COMMIT PREPARED 'four'});
silent('and writes again', 'RESET default_transaction_read_only');

# What comes too late for its own commit is reported by the next statement, also
# by one whose planning runs a function, and by one that may show the token.
$watch->query(
	q{CREATE FUNCTION reads(int) RETURNS int IMMUTABLE LANGUAGE plpgsql
	  AS 'BEGIN RETURN (SELECT count(*) FROM t) + $1; END'});
foreach my $next ('SELECT v FROM t', 'SELECT v FROM t WHERE id < reads(1)', 'SELECT 1',
	q{SELECT current_setting('tcs.session_token')})
{
	silent('pg_notify(), whose xid comes late', q{SELECT pg_notify('channel', 'late')});
	my @results = $client->query($next);
	my @tokens = $client->reports;

	is(scalar(@tokens), 1, "... reported by: $next");
	is(TcsWire::rows_text($results[0]), $tokens[0], '... which shows it')
	  if $next =~ /current_setting/;
}

# extended protocol
commits(
	'extended protocol',
	sub { return $_[0]->extended(q{UPDATE t SET v = $1 WHERE id = 1}, 'ext')->sync->results });
commits(
	'pipeline, one Sync',
	sub {
		return $_[0]->extended(q{UPDATE t SET v = $1 WHERE id = 1}, 'p1')
		  ->extended(q{UPDATE t SET v = $1 WHERE id = 1}, 'p2')->sync->results;
	});
commits(
	'pipeline with BEGIN and COMMIT, reads after it',
	sub {
		return $_[0]->extended('BEGIN')
		  ->extended(q{UPDATE t SET v = $1 WHERE id = 1}, 'p3')->extended('COMMIT')
		  ->extended('SELECT 1')->sync->results;
	});

# Both are sent before either is answered: what the first wrote cannot be told
# from outside, so its window ends where its own token says.
my $pipelined_before = insert_lsn($watch);
$client->extended(q{UPDATE t SET v = 'q1' WHERE id = 1})->sync;
$client->extended(q{UPDATE t SET v = 'q2' WHERE id = 1})->sync->flush;
my @both = map { [ $client->results ] } 1, 2;
my @both_tokens = $client->reports;
my $pipelined_after = insert_lsn($watch);

is(scalar(@both_tokens), 2, 'pipeline with two Syncs: a token for each');
push @commits,
  [
	'first Sync of two', $pipelined_before,
	token_fields($both_tokens[0])->{written}, $both_tokens[0]
  ],
  [ 'second Sync of two', $pipelined_before, $pipelined_after, $both_tokens[1] ];
commits('autocommit after all that', q{UPDATE t SET v = 'last' WHERE id = 1});

# The WAL between: the last record that ends a transaction in the part that a
# message wrote is the one that ends where its token says.
my $wal_end = $watch->ok_query('SELECT pg_switch_wal()');

$watch->ok_query('CHECKPOINT');

my ($dump_err, @records) = wal_records($primary, $wal_start, $wal_end);

is($dump_err, undef, 'pg_waldump reads the WAL');

foreach my $commit (@commits)
{
	my ($what, $before, $after, $token) = @$commit;
	my $written = token_fields($token)->{written};
	my ($last) =
	  grep { $records[$_][1] && $records[$_][0] >= $before && $records[$_][0] < $after }
	  reverse 0 .. $#records;

	if (!defined $last)
	{
		fail("$what: ended a transaction in the WAL");
		next;
	}
	my $next = $last < $#records ? $records[ $last + 1 ][0] : lsn_number($wal_end);

	# between two records there is alignment, or the header of a page
	ok( $records[$last][0] < $written && $written <= $next,
		"$what: the token is the end of its record")
	  or diag sprintf('record %X, token %X, next %X', $records[$last][0], $written, $next);
}


##
## What is no commit of a write
##

silent('SELECT', 'SELECT * FROM t');
silent('SELECT 1', 'SELECT 1');
silent('empty block', 'BEGIN; COMMIT');
silent('read-only block', 'BEGIN READ ONLY; SELECT * FROM t; COMMIT');
silent('REPEATABLE READ block', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM t; COMMIT');
silent('ROLLBACK of a write', q{BEGIN; DELETE FROM t; ROLLBACK});
silent('an error', 'SELECT 1/0');
silent('a write that fails', q{INSERT INTO t VALUES (1, 'dup')});
silent('a block that fails', q{BEGIN; DELETE FROM t; SELECT 1/0});
silent('COMMIT of a failed block', 'COMMIT');
silent('procedure that rolls back', q{DO $$ BEGIN DELETE FROM t; ROLLBACK; END $$});
silent('a deferred constraint that will fail', 'BEGIN; INSERT INTO child VALUES (99)');
silent('... and does, at COMMIT', 'COMMIT');
silent('an update of no row', q{UPDATE t SET v = '' WHERE id = -1});
silent('COPY TO', 'COPY t TO STDOUT');
silent('a cursor', 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM t; FETCH ALL c; COMMIT');
silent('LISTEN', 'LISTEN channel');
silent('UNLISTEN', 'UNLISTEN *');
silent(
	'a pipeline that reads',
	sub { $_[0]->extended('SELECT * FROM t')->extended('SELECT 1')->sync->results });

# Pruning writes WAL in a transaction that has no xid.  The table is filled and
# its rows updated so that its page is full of dead versions.
$watch->ok_query(
	q{CREATE TABLE pruned (id int, filler text) WITH (autovacuum_enabled = off);
	  INSERT INTO pruned SELECT g, repeat('x', 500) FROM generate_series(1, 14) g});
$watch->ok_query('UPDATE pruned SET id = id');
$watch->ok_query('UPDATE pruned SET id = id');
my $before = insert_lsn($watch);

silent('pruning', 'SELECT count(*) FROM pruned');
my $pruned_end = $watch->ok_query('SELECT pg_switch_wal()');
my $pruned = '';

IPC::Run::run(
	[
		'pg_waldump', '-p', $primary->data_dir . '/pg_wal', '-r', 'Heap2',
		'-s', sprintf('%X/%X', $before >> 32, $before & 0xffffffff),
		'-e', $pruned_end
	],
	'>', \$pruned, '2>', \$dump_err);
like($pruned, qr/PRUNE/, 'the read did prune');
silent('a read after pruning', 'SELECT count(*) FROM pruned');


##
## tcs.report_token
##

# off
$client->query('SET tcs.report_token = off');
my $old = $client->parameter('tcs.session_token');

silent('report_token = off, a read', 'SELECT * FROM t');
is($client->ok_query('SHOW tcs.session_token'), $old, 'what was reported stays as long as it covers all');
silent('off, a rollback', q{BEGIN; DELETE FROM t; ROLLBACK});
$client->query(q{UPDATE t SET v = 'off' WHERE id = 1});
is_deeply([ $client->reports ], [''], 'report_token = off, a write: the old token does not cover it, and is withdrawn');
is($client->ok_query('SHOW tcs.session_token'), '', '... by SHOW as well');
silent('off, another write', q{UPDATE t SET v = 'off' WHERE id = 1});
my $asked = token_fields($client->ok_query('SELECT tcs.session_token()'));

ok($asked->{written} > token_fields($old)->{written},
	'the function knows the write all the same');
silent('tcs.session_token() changes no setting', 'SELECT tcs.session_token()');
silent('off, PREPARE TRANSACTION',
	q{BEGIN; DELETE FROM t WHERE id = 6; PREPARE TRANSACTION 'off'});
$client->query("SET tcs.session_token = '$old'");
$client->reports;
$client->query(q{COMMIT PREPARED 'off'});
is_deeply([ $client->reports ], [''], 'off, COMMIT PREPARED');
$client->query("RESET tcs.report_token; SET tcs.session_token = '$old'; BEGIN; SET LOCAL tcs.report_token = off");
$client->reports;
$client->query(q{UPDATE t SET v = 'local' WHERE id = 1; COMMIT});
is_deeply([ $client->reports ], [''], 'SET LOCAL: the token goes with its transaction');
$client->query('SET tcs.report_token = off');

# What was handed in stays in force: of another history, it is refused as before.
{
	my $lost = token_with($old, written => 0xffffffff00000000);

	$client->query("SET tcs.session_token = '$lost'");
	$client->reports;
	$client->query(q{SET tcs.read_level = eventual; UPDATE t SET v = 'lost' WHERE id = 1; RESET tcs.read_level});
	is_deeply([ $client->reports ], [''], 'off, a write beside a token that is refused');
	is((($client->query('SELECT v FROM t'))[0])->{state}, 'TC003', '... which is refused still');
	$client->query("SET tcs.session_token = ''");
	is((($client->query('SELECT v FROM t'))[0])->{state}, '00000', '... until the client replaces it');
	$client->reports;
}

# writes, in force for the next transaction
$client->query('SET tcs.report_token = writes');
commits('report_token = writes', q{UPDATE t SET v = 'writes' WHERE id = 1});
is(token_fields($client->parameter('tcs.session_token'))->{seen_primary},
	0, 'a write alone says nothing of reads');
silent('report_token = writes, a read', 'SELECT * FROM t');

# all
$client->query(q{SET tcs.report_token = 'all'});
$client->reports;
$watch->ok_query(q{UPDATE t SET v = 'by another' WHERE id = 1});
my $other_commit = insert_lsn($watch);
$client->query('SELECT * FROM t');
my @tokens = $client->reports;

is(scalar(@tokens), 1, 'report_token = all reports after a read');
ok(@tokens && token_fields($tokens[0])->{seen_primary} >= $other_commit,
	'... what it can have seen');
commits('report_token = all, a write', q{UPDATE t SET v = 'all' WHERE id = 1});
my $all = token_fields($client->parameter('tcs.session_token'));

ok($all->{written} > 0 && $all->{seen_primary} >= $all->{written},
	'... and after a write with both parts');
silent('report_token = all, nothing read', 'SET work_mem = 1000');
silent('report_token = all, a rollback', 'BEGIN; SELECT * FROM t; ROLLBACK');
is($client->status, 'I', 'no transaction is left open');


# What writes only when its commit has begun adds to a token that was made before,
# also in a session that has done nothing else.
foreach my $late (
	q{SELECT pg_notify('channel', 'all')},
	q{BEGIN; SELECT pg_notify('channel', 'all'); SELECT * FROM t; COMMIT},
	q{BEGIN READ ONLY; SELECT pg_notify('channel', 'all'); COMMIT},
	q{BEGIN; SELECT count(*) FROM t; NOTIFY channel; COMMIT},
	q{BEGIN; SELECT count(*) FROM t; SAVEPOINT a; SELECT pg_notify('channel', 'sub'); RELEASE a; COMMIT},
	q{DO $$ BEGIN PERFORM pg_notify('channel', 'do'); COMMIT; PERFORM pg_notify('channel', 'again'); END $$},
	q{CREATE TEMP TABLE IF NOT EXISTS emptied (a int) ON COMMIT DELETE ROWS; SELECT * FROM emptied},
	q{BEGIN; SELECT * FROM t; CREATE TEMP TABLE gone (a int) ON COMMIT DROP; COMMIT},
	q{SELECT pg_logical_emit_message(false, 'tcs', 'text')},
	q{SELECT pg_logical_emit_message(true, 'tcs', 'text')},
	q{SELECT lo_create(0)},
	q{SELECT * FROM t FOR SHARE})
{
	my $fresh = TcsReports->new($primary, options => '-c tcs.report_token=all');
	my ($failed) = grep { $_->{state} ne '00000' } $fresh->query($late);

	ok(!$failed, "all: $late") or diag TcsWire::describe_result($failed);
	is((($fresh->query('SELECT v FROM t'))[0])->{state}, '00000', '... and a read after it');
	my $then = token_fields($fresh->parameter('tcs.session_token'));

	is($then->{flags} & 6, 0, '... its token is of one history');
	cmp_ok($then->{$_}, '<=', insert_lsn($watch), "... $_ is not beyond the WAL") foreach qw(written seen_primary);
	$fresh->disconnect;
}

# on a standby
my $reader = TcsReports->new($standby);
my $token = $client->parameter('tcs.session_token');

is_deeply([ $reader->reports ], [''], 'a standby reports the token at connect too');
$reader->query("SET tcs.session_token = '$token'");
is_deeply([ $reader->reports ], [$token], 'and when it is set');
is($reader->ok_query('SELECT v FROM t WHERE id = 1'), 'all', 'the write is there');
is_deeply([ $reader->reports ], [], 'a read at a standby reports nothing');
$reader->query(q{SET tcs.report_token = 'all'});
$reader->query('SELECT v FROM t WHERE id = 1');
@tokens = $reader->reports;
is(scalar(@tokens), 1, '... but for report_token = all');
my $seen_there = token_fields($tokens[0]);

is_deeply(
	[ @{$seen_there}{qw(sysid timeline begin written seen_primary)} ],
	[ @{ token_fields($token) }{qw(sysid timeline begin written seen_primary)} ],
	'what it was handed stays in it');
ok($seen_there->{seen_standby} >= $seen_there->{written},
	'what was seen on the standby comes to it');
$reader->query('BEGIN; SELECT v FROM t WHERE id = 1');
is_deeply([ $reader->reports ], [], 'within a block there is no report');
$reader->query('COMMIT');
cmp_ok(scalar($reader->reports), '<=', 1, 'at its end at most one');


##
## tcs.session_token() in a transaction that has written
##

$client->query('RESET tcs.report_token');
$watch->ok_query(
	q{CREATE FUNCTION writes() RETURNS text LANGUAGE plpgsql AS
	  $$ BEGIN UPDATE t SET v = 'f' WHERE id = 1; RETURN tcs.session_token(); END $$;
	  CREATE PROCEDURE takes_after_commit(INOUT token text) LANGUAGE plpgsql AS
	  $$ BEGIN UPDATE t SET v = 'p' WHERE id = 1; COMMIT; token := tcs.session_token(); END $$});
foreach my $sql (
	q{BEGIN; UPDATE t SET v = 'n' WHERE id = 1; SELECT tcs.session_token()},
	q{UPDATE t SET v = 'n' WHERE id = 1; SELECT tcs.session_token()},
	q{UPDATE t SET v = 'n' WHERE id = 1 RETURNING tcs.session_token()},
	q{WITH w AS (UPDATE t SET v = 'n' WHERE id = 1) SELECT tcs.session_token()},
	q{BEGIN; SAVEPOINT a; UPDATE t SET v = 'n' WHERE id = 1; RELEASE a; SELECT tcs.session_token()},
	q{BEGIN; SELECT nextval('s'); SELECT tcs.session_token()},
	q{BEGIN; CREATE TABLE never (a int); SELECT tcs.token_info(tcs.session_token())},
	q{BEGIN; SELECT * FROM t FOR UPDATE; DECLARE c CURSOR FOR SELECT tcs.session_token(); FETCH c},
	'SELECT writes()')
{
	my ($failed) = grep { $_->{state} ne '00000' } $client->query($sql);

	is($failed && $failed->{state}, '25001', "no token: $sql");
	$client->query('ROLLBACK');
}
foreach my $sql (
	'BEGIN; SELECT * FROM t; SELECT tcs.session_token(); COMMIT',
	q{BEGIN; UPDATE t SET v = 'y' WHERE id = 1; COMMIT; SELECT tcs.session_token()},
	q{BEGIN; UPDATE t SET v = 'y' WHERE id = 1; COMMIT AND CHAIN; SELECT tcs.session_token(); COMMIT},
	q{BEGIN; UPDATE t SET v = 'y' WHERE id = 1; ROLLBACK; SELECT tcs.session_token()},
	'CALL takes_after_commit(NULL)')
{
	my ($failed) = grep { $_->{state} ne '00000' } $client->query($sql);

	ok(!$failed, "a token: $sql") or diag TcsWire::describe_result($failed);
}
{
	my ($result) = $client->query('CALL takes_after_commit(NULL)');

	cmp_ok(token_fields(TcsWire::rows_text($result))->{written}, '>=',
		token_fields($client->parameter('tcs.session_token'))->{written},
		'... one that covers what the procedure has committed');
}
$client->reports;


##
## The client's side: SET, SET LOCAL, RESET, DISCARD, start-up options
##

my $first = commits('a first token', q{UPDATE t SET v = '1' WHERE id = 1});
my $second = commits('a second token', q{UPDATE t SET v = '2' WHERE id = 1});

$client->query("SET tcs.session_token = '$first'");
is_deeply([ $client->reports ], [$first], 'SET replaces, also by less');
silent('SET to the same', "SET tcs.session_token = '$first'");
$client->query("SET tcs.session_token = ''");
is_deeply([ $client->reports ], [''], 'SET to nothing');
$client->query("SET tcs.session_token = '$second'");
is_deeply([ $client->reports ], [$second], 'SET to something');
$client->query('RESET tcs.session_token');
is_deeply([ $client->reports ], [''], 'RESET empties it');
$client->query("SET tcs.session_token = '$second'");
$client->reports;
$client->query('DISCARD ALL');
is_deeply([ $client->reports ], [''], 'DISCARD ALL empties it');
my $third = commits('a commit after DISCARD', q{UPDATE t SET v = '3' WHERE id = 1});

ok(token_fields($third)->{written} > token_fields($second)->{written}, '... has a new token');

# a transaction that is rolled back takes its SET with it
$client->query("BEGIN; SET tcs.session_token = '$first'");
is_deeply([ $client->reports ], [$first], 'SET in a block');
$client->query('ROLLBACK');
is_deeply([ $client->reports ], [$third], '... and its ROLLBACK');
$client->query("BEGIN; SET LOCAL tcs.session_token = '$first'");
is_deeply([ $client->reports ], [$first], 'SET LOCAL');
$client->query('COMMIT');
is_deeply([ $client->reports ], [$third], '... ends with a transaction that only read');
$client->query(
	"BEGIN; SET LOCAL tcs.session_token = '$first'; UPDATE t SET v = '4' WHERE id = 1");
$client->reports;
my $fourth = commits('a commit over SET LOCAL', 'COMMIT');

ok(token_fields($fourth)->{written} > token_fields($third)->{written},
	'... survives the transaction');
silent('... and the next one', 'SELECT 1');

# a subtransaction
$client->query(
	"BEGIN; SAVEPOINT a; SET tcs.session_token = '$first'; ROLLBACK TO a");
$client->reports;
$client->query(q{UPDATE t SET v = '5' WHERE id = 1});
my $fifth = commits('a commit after SET in a subtransaction', 'COMMIT');

ok(token_fields($fifth)->{written} > token_fields($fourth)->{written}, '... goes on from the newest');

# what the client handed in is kept in what it gets
my $foreign_part = $reader->ok_query('SELECT tcs.session_token()');

$client->query("SET tcs.session_token = '$foreign_part'");
$client->reports;
my $sixth = commits('a commit after SET of what another node saw',
	q{UPDATE t SET v = '6' WHERE id = 1});

is(token_fields($sixth)->{seen_standby}, token_fields($foreign_part)->{seen_standby},
	'... keeps what was seen there');

# garbage does not replace
$client->query("SET tcs.session_token = 'garbage'");
is_deeply([ $client->reports ], [], 'a SET that is refused changes nothing');
is($client->ok_query('SHOW tcs.session_token'), $sixth, '... at all');

# a zero byte has no place in a token, nor in any text
foreach my $text ("\0", "$sixth\0", "\0$sixth")
{
	my ($result) =
	  $client->extended(q{SELECT set_config('tcs.session_token', $1, false)}, $text)
	  ->sync->results;

	is($result->{state}, '22021', 'a token with a zero byte is refused');
}
is($client->ok_query('SHOW tcs.session_token'), $sixth, '... and changes nothing');

# at connect
my $started = TcsReports->new($primary, options => "-c tcs.session_token=$second");

is_deeply([ $started->reports ], [$second], 'a start-up option is reported at connect');
$started->query(q{BEGIN; SET tcs.session_token = ''; COMMIT});
is_deeply([ $started->reports ], [''], 'and can be replaced');
$started->query('RESET ALL');
is_deeply([ $started->reports ], [$second], 'RESET returns to it');

# nothing but hex digits and dots, and short enough for every pooler
foreach my $text ($first, $sixth, $foreign_part)
{
	like($text, qr/^[0-9a-f.]{1,125}$/, 'alphabet and length of the token');
}

# Last of all: every token handed out is reached by a standby that has
# everything, and the standby then shows the last write.
is($reader->ok_query("SET tcs.session_token = '$sixth'; SELECT v FROM t WHERE id = 1"),
	'6', 'a standby serves the last token');

done_testing();
