# test/t/460_lease.pl
#
# A standby with a read lease serves strong reads and asks nobody; a commit on the
# primary is not acknowledged before the standby has it.  What waits, what does not, what
# ends the wait, and which reads use a lease.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsLease;
use TcsTest;
use TcsWire;
use TcsWrites;

my ($primary, $standby) = lease_nodes();
my $value = 0;
my $write_next = counted_write(\$value, 'UPDATE t SET v = %d');
my $read = 'SELECT v FROM t';

##
## Reads
##

# The worker that asks for answers stands still, so only a lease can prove anything.
my $asker = $standby->safe_psql('postgres', 'SELECT worker_pid FROM tcs.status');

kill 'STOP', $asker;
$write_next->($primary);
is(strong_read($standby, $read), "$value|t", 'a strong read is served by lease');
$write_next->($primary);
is( read_at($standby, "$read;\nSELECT by_lease FROM tcs.last_read;\n" x 3, level => 'strong'),
	join("\n", ("$value\nt") x 3),
	'... and each of a session');
my $token = $write_next->($primary);
is(strong_read($standby, $read, token => $token), "$value|t", '... with a token');
is( read_at($standby, $read, level => 'session', set => { 'tcs.without_token' => 'strong' }),
	$value, '... and one that is strong for want of a token');
is( psql_err($standby, $read, level => 'linearizable', max_wait => '200ms', fallback => 'error'),
	'TC004', 'a linearizable read uses no lease');
kill 'CONT', $asker;
wait_for_answer($standby);
is( read_at(
		$standby,
		"BEGIN ISOLATION LEVEL REPEATABLE READ; $read; SELECT by_lease FROM tcs.last_read; COMMIT",
		level => 'strong'),
	"$value\nf", 'a REPEATABLE READ transaction asks');
is(read_at($standby, "$read; SELECT by_lease FROM tcs.last_read", level => 'eventual'),
	"$value\nf", 'an eventual read needs none');

##
## Commits
##

# Holds replay back, runs a statement, and tells how it went on.
sub commit_waits
{
	my ($what, $sql) = @_;

	pause_replay($standby);
	my $commit = start_read($primary, $sql);
	my $waits = waits_for_holders($commit);

	resume_replay($standby);
	my ($state, $out, $err) = finish_read($commit);

	ok($waits && $state eq '00000', "$what waits") or diag "$waits $state $out $err";
	return;
}

$primary->safe_psql('postgres', <<'EOS');
CREATE TABLE u (v int PRIMARY KEY);
CREATE TABLE parted (v int) PARTITION BY LIST (v);
CREATE TABLE part1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE part2 (v int);
CREATE TABLE child (v int REFERENCES u ON DELETE CASCADE);
CREATE VIEW shown AS SELECT v FROM t;
CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN INSERT INTO u VALUES (NEW.v); RETURN NEW; END';
CREATE TRIGGER instead INSTEAD OF INSERT ON shown FOR EACH ROW EXECUTE FUNCTION instead();
CREATE SEQUENCE s;
CREATE MATERIALIZED VIEW mat AS SELECT v FROM t;
CREATE PROCEDURE two(a int) LANGUAGE plpgsql AS
	'BEGIN INSERT INTO u VALUES (a); COMMIT; INSERT INTO u VALUES (a + 1); END';
EOS
commit_waits('autocommit', 'INSERT INTO u VALUES (1)');
commit_waits('a block', 'BEGIN; INSERT INTO u VALUES (2); COMMIT');
commit_waits('a message of several statements', 'INSERT INTO u VALUES (3)\; INSERT INTO u VALUES (4)');
commit_waits('COMMIT AND CHAIN', 'BEGIN; INSERT INTO u VALUES (5); COMMIT AND CHAIN; ROLLBACK');
commit_waits('a procedure that commits', 'CALL two(6)');
commit_waits('COPY', "COPY u FROM PROGRAM 'echo 8'");
commit_waits('DDL', 'CREATE TABLE w (v int)');
commit_waits('TRUNCATE', 'TRUNCATE child');
commit_waits('DROP', 'DROP TABLE w');
commit_waits('NOTIFY', 'NOTIFY x');
commit_waits('pg_notify()', q{SELECT pg_notify('x', 'y')});
commit_waits('an asynchronous commit', 'SET synchronous_commit = off; INSERT INTO u VALUES (9)');
commit_waits('a local commit', 'SET synchronous_commit = local; INSERT INTO u VALUES (10)');
commit_waits('a large object', q{SELECT lo_from_bytea(0, 'x')});
commit_waits('a sequence', q{SELECT nextval('s')});
commit_waits('a trigger of a view', 'INSERT INTO shown VALUES (11)');
commit_waits('a foreign key that cascades', 'DELETE FROM u WHERE v = 1');
commit_waits('a routed row', 'INSERT INTO parted VALUES (1)');
commit_waits('ATTACH', 'ALTER TABLE parted ATTACH PARTITION part2 FOR VALUES IN (2)');
commit_waits('a WITH that writes', 'WITH x AS (INSERT INTO u VALUES (12) RETURNING v) SELECT * FROM x');
commit_waits('SELECT FOR UPDATE', 'SELECT v FROM t FOR UPDATE');
commit_waits('REFRESH', 'REFRESH MATERIALIZED VIEW mat');
commit_waits('a subtransaction', 'BEGIN; SAVEPOINT a; INSERT INTO u VALUES (13); RELEASE a; COMMIT');
commit_waits('DO', 'DO $$BEGIN INSERT INTO u VALUES (14); END$$');
commit_waits('COMMIT PREPARED',
	q{BEGIN; INSERT INTO u VALUES (15); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'});
is(strong_read($standby, 'SELECT count(*) FROM u'), '14|t', 'all of that is there');

pause_replay($standby);
foreach my $sql ($read, 'BEGIN; INSERT INTO u VALUES (16); ROLLBACK',
	q{BEGIN; INSERT INTO u VALUES (17); PREPARE TRANSACTION 'q'})
{
	is(psql_err($primary, $sql), '00000', "not for: $sql");
}
resume_replay($standby);
is(psql_err($primary, q{ROLLBACK PREPARED 'q'}), '00000', 'ROLLBACK PREPARED');

##
## While a commit waits
##

pause_replay($standby);
my $first = start_read($primary, 'UPDATE t SET v = v + 1');

ok(waits_for_holders($first), 'a commit waits');
is(read_at($primary, $read), $value + 1, '... and is visible on the primary');
my $second = start_read($primary, 'UPDATE t SET v = v + 1');

ok(waits_for_holders($second), '... and its locks are free');
$primary->safe_psql('postgres', "SELECT pg_cancel_backend($first->{pid})");
ok(waits_for_holders($first), 'a cancel does not acknowledge');
is($primary->safe_psql('postgres', 'SELECT reached_lsn < told_lsn FROM tcs.leases'),
	't', 'tcs.leases tells who is waited for');
my $third = start_read($primary, 'UPDATE t SET v = v + 1');

ok(waits_for_holders($third), 'a third one waits');
$primary->safe_psql('postgres', "SELECT pg_terminate_backend($third->{pid})");
my ($state, $out, $err) = finish_read($third);

is($state, '08006', 'terminated, it is not acknowledged') or diag "$state $out $err";
resume_replay($standby);
is((finish_read($_))[0], '00000', 'it ends when the holder has it') foreach $first, $second;
is(strong_read($standby, $read), ($value + 3) . '|t', 'the standby has all of them');
cmp_ok($primary->safe_psql('postgres', 'SELECT commits_waited FROM tcs.leases'),
	'>', 20, 'tcs.leases counts them');

##
## Others who ask
##

is($primary->safe_psql('postgres', 'SHOW tcs.lease_first', replication => 'database'),
	'', 'who has not introduced itself, as one who looks at all settings, gets no lease');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM tcs.leases'), '1', '... and holds none');

# It asks again and again, and never says that it has anything.
my $asker_alone = TcsWire->new($primary, replication => 'true', options => '-c tcs.asker=test');

$asker_alone->ok_query('SHOW tcs.lease_first');
my $commit = start_read($primary, 'UPDATE t SET v = v + 1');

ok(waits_for_holders($commit), 'a commit waits for a lease that was granted before');
my $asked = 0;

$asker_alone->ok_query('SHOW tcs.lease_first') while read_running($commit) && $asked++ < 1000;
cmp_ok($asked, '<', 1000, '... and for none that was granted later');
is((finish_read($commit))[0], '00000', '... and is acknowledged');
$asker_alone->ok_query('SHOW tcs.lease_drop');

##
## A shorter duration
##

# The holder is not told yet that its next lease is shorter, and has the longer one.
my $holder = $standby->safe_psql('postgres', 'SELECT pid FROM tcs.leases');

$primary->append_conf('postgresql.conf', 'tcs.lease_duration = 1s');
$primary->reload;
$primary->poll_query_until('postgres', q{SELECT remaining < '1s' FROM tcs.leases}) or die 'no shorter lease';
kill 'STOP', $holder;
pause_replay($standby);
$primary->safe_psql('postgres', 'UPDATE t SET v = v + 1');
$value += 5;
my ($refused, undef, $shown) =
  psql_err($standby, $read, level => 'strong', max_wait => 0, fallback => 'error');

is($refused eq '00000' ? $shown : $value, $value,
	'what was acknowledged is not missed by a read that goes by the longer lease');
resume_replay($standby);
kill 'CONT', $holder;
wait_for_lease($standby);

##
## The end
##

$standby->append_conf('postgresql.conf', 'tcs.lease = off');
$standby->reload;
wait_for_no_lease($standby);
$primary->poll_query_until('postgres', 'SELECT count(*) = 0 FROM tcs.leases')
  or die 'the lease is not given back';
pause_replay($standby);
$write_next->($primary);
resume_replay($standby);
is(strong_read($standby, $read), "$value|f", 'without a lease it asks');

done_testing();
