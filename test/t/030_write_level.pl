# test/t/030_write_level.pl
#
# What a commit waits for at each tcs.write_level: a primary with two standbys,
# of which one has to confirm.  Replay that is paused holds "strong" and nothing
# else, WAL receivers that are stopped hold "quorum" as well; whatever is said to
# wait is seen to wait, and goes on when that is taken away.  What the setting
# of synchronous standbys cannot give is refused, also if that changes while the
# transaction runs.  Waits that were cut short are counted, by whatever it was;
# those that were not are not.

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

# No standby asks, and no connection is given up while its other end is held.
my ($primary, $standby1, $standby2) = new_cluster(
	standbys => 2,
	conf => "wal_receiver_timeout = 0\nwal_sender_timeout = 0\nbgwriter_lru_maxpages = 0\n",
	standby_conf => "tcs.probe_interval = 0\n");

$primary->safe_psql('postgres', <<'SQL');
CREATE TABLE t (v int);
CREATE ROLE careful LOGIN;
ALTER ROLE careful SET tcs.write_level = strong;
CREATE ROLE careless LOGIN;
ALTER ROLE careless SET synchronous_commit = remote_apply;
GRANT ALL ON t TO careful, careless;
CREATE FUNCTION adds(v int) RETURNS void LANGUAGE sql AS 'INSERT INTO t VALUES (v)';
CREATE PROCEDURE adds_by_call(v int) LANGUAGE sql AS 'INSERT INTO t VALUES (v)';
CREATE FUNCTION lowers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL tcs.write_level = eventual;
	RETURN NEW;
END $$;
CREATE TABLE lowered (v int);
CREATE TRIGGER lowers BEFORE INSERT ON lowered FOR EACH ROW EXECUTE FUNCTION lowers();
CREATE FUNCTION adds_low(v int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tcs.write_level', 'eventual', false);
	INSERT INTO t VALUES (v);
END $$;
CREATE PROCEDURE commits(v int) LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO t VALUES (v);
	COMMIT;
END $$;
SQL
wait_for_replay($primary, $_) foreach ($standby1, $standby2);

my $watch = TcsWire->new($primary);
my $writer = TcsWire->new($primary);
my @look = map { TcsWire->new($_, options => '-c tcs.read_level=eventual') } ($standby1, $standby2);
my $value = 0;

# synchronous_standby_names, in force everywhere; $ready: the standbys that are
# needed are there.
sub set_names
{
	my ($names, $ready) = @_;

	$watch->ok_query("ALTER SYSTEM SET synchronous_standby_names = '$names'");
	$primary->reload;
	$watch->poll("SELECT current_setting('synchronous_standby_names') = '$names'")
	  or die 'the setting was not read';
	$watch->poll('SELECT bool_and(available) FROM tcs.quorum') or die 'the standbys are not there'
	  if $ready;
	return;
}

sub next_insert
{
	$value++;
	return "INSERT INTO t VALUES ($value)";
}

# Sends statements that are expected to wait for standbys; true if they do.
sub held_by_standbys
{
	my ($client, $sql) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $pid = $client->pid;

	$client->simple($sql)->flush;
	until ($watch->ok_query(
			"SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'SyncRep'"))
	{
		return 0 if $client->answered;
		die 'neither an answer nor a wait' if time > $deadline;
	}
	return 1;
}

# The counters of a level that are not 0.
sub counted
{
	my ($level) = @_;

	return $watch->ok_query(
		"SELECT concat_ws(' ', 'commits ' || nullif(commits, 0), 'waited ' || nullif(waited, 0), "
		  . "'cancelled ' || nullif(cancelled_waits, 0), 'refused ' || nullif(refused, 0)) "
		  . "FROM tcs.stat_writes WHERE write_level = '$level'");
}

sub reset_counters
{
	$watch->ok_query('SELECT tcs.stat_writes_reset()');
	return;
}

sub is_there
{
	my ($client) = @_;

	return $client->look("SELECT count(*) FROM t WHERE v = $value");
}

my @receivers;

sub stop_receivers
{
	@receivers = map { $_->look('SELECT pid FROM pg_stat_wal_receiver') } @look;
	kill('STOP', @receivers) == 2 or die 'no WAL receivers';
	return;
}

sub continue_receivers
{
	kill('CONT', @receivers);
	return;
}


##
## Nobody to wait for
##

$writer->ok_query('SET tcs.write_level = quorum');
is(state_after($writer, next_insert()), '55000', 'without synchronous standbys: refused');
is(is_there($watch), '0', '... and not committed');
is(counted('quorum'), 'refused 1', '... and counted');
$writer->ok_query('RESET tcs.write_level');


##
## What each level waits for
##

set_names('ANY 1 (standby1, standby2)', 1);
reset_counters();
$_->stop_replay foreach @look;
foreach my $level (qw(default eventual session quorum))
{
	$writer->ok_query("SET tcs.write_level = $level");
	$writer->ok_query(next_insert());
	is(is_there($watch), '1', "$level does not wait for replay");
}
$writer->ok_query('SET tcs.write_level = strong');
is(state_after($writer, 'SELECT count(*) FROM t'), '00000', 'nor does a read at strong');
is(state_after($writer, 'BEGIN; SELECT count(*) FROM t; UPDATE t SET v = 0 WHERE false; COMMIT'), '00000',
	'... or a transaction that writes nothing');
ok(held_by_standbys($writer, next_insert()), 'strong does');
is(is_there($look[0]), '0', '... of a commit that no standby shows');
$look[0]->go_on;
is($writer->results, 1, '... until one has replayed it');
is(is_there($look[0]), '1', '... which shows it at once');
is(is_there($look[1]), '0', '... and the other does not');
$look[1]->go_on;
is(counted('default'), '', 'without a level nothing is counted');
is(counted('eventual'), 'commits 1', 'eventual waits for nobody');
is(counted('session'), 'commits 1', 'session waits for nobody');
is(counted('quorum'), 'commits 1 waited 1', 'quorum waits');
is(counted('strong'), 'commits 1 waited 1', 'strong waits');

stop_receivers();
reset_counters();
foreach my $level (qw(eventual session))
{
	$writer->ok_query("SET tcs.write_level = $level");
	$writer->ok_query(next_insert());
	is(is_there($watch), '1', "$level does not wait for standbys");
}
$writer->ok_query('SET tcs.write_level = quorum');
ok(held_by_standbys($writer, next_insert()), 'quorum does');
kill('CONT', $receivers[1]);
is($writer->results, 1, '... until one has it on disk');
continue_receivers();
is(counted('quorum'), 'commits 1 waited 1', '... which is no wait cut short');


##
## Where the level comes from, and what it is for
##

foreach (
	[ 'a statement', undef, 'strong', next_insert() ],
	[ 'the transaction', undef, 'default',
		'BEGIN; SET LOCAL tcs.write_level = strong; ' . next_insert() . '; COMMIT' ],
	[ '... also set after the write', undef, 'default',
		'BEGIN; ' . next_insert() . '; SET LOCAL tcs.write_level = strong; COMMIT' ],
	[ '... in a savepoint', undef, 'default',
		'BEGIN; SAVEPOINT s; ' . next_insert() . '; SET LOCAL tcs.write_level = strong; RELEASE s; COMMIT' ],
	[ '... in one of two', undef, 'default',
		'BEGIN; SET LOCAL tcs.write_level = strong; SAVEPOINT s; SET LOCAL tcs.write_level = eventual; '
		  . next_insert() . '; ROLLBACK TO s; ' . next_insert() . '; COMMIT' ],
	[ 'a role', 'careful', undef, next_insert() ],
	[ 'DDL', undef, 'strong', 'CREATE TABLE made (v int)' ],
	[ 'TRUNCATE', undef, 'strong', 'TRUNCATE made' ],
	[ 'COPY', undef, 'strong', "COPY t FROM PROGRAM 'echo 1000'" ],
	[ 'a function', undef, 'strong', 'SELECT adds(1001)' ],
	[ 'CALL', undef, 'strong', 'CALL commits(1002)' ],
	[ 'DO', undef, 'strong', 'DO $$ BEGIN INSERT INTO t VALUES (1003); END $$' ],
	[ 'a row lock', undef, 'strong', 'SELECT v FROM t WHERE v = 1000 FOR UPDATE' ],
	[ 'a hint', undef, 'default', '/* tcs(write_level=strong) */ ' . next_insert() ],
	[ '... above the setting', undef, 'eventual', '/* tcs(write_level=strong) */ ' . next_insert() ],
	[ '... of a function', undef, 'default', '/* tcs(write_level=strong) */ SELECT adds(1004)' ],
	[ '... of CALL', undef, 'default', '/* tcs(write_level=strong) */ CALL adds_by_call(1005)' ],
	[ '... that a trigger does not lower', undef, 'default', '/* tcs(write_level=strong) */ INSERT INTO lowered VALUES (1)' ],
	[ '... nor a function', undef, 'default', '/* tcs(write_level=strong) */ SELECT adds_low(1007)' ],
	[ '... of COPY', undef, 'default', "/* tcs(write_level=strong) */ COPY t FROM PROGRAM 'echo 1006'" ],
	[ '... of EXPLAIN', undef, 'default', 'EXPLAIN ANALYZE /* tcs(write_level=strong) */ ' . next_insert() ],
	[ '... of a prepared statement', undef, 'default',
		'PREPARE p AS /* tcs(write_level=strong) */ ' . next_insert() . '; EXECUTE p' ],
	[ '... within a block', undef, 'default', 'BEGIN; /* tcs(write_level=strong) */ ' . next_insert() . '; COMMIT' ],
	[ '... of what reads nothing, within a block', undef, 'default',
		'BEGIN; /* tcs(write_level=strong) */ SELECT pg_advisory_xact_lock(42); ' . next_insert() . '; COMMIT' ],
	[ '... within a message', undef, 'default', '/* tcs(write_level=strong) */ SELECT 1; ' . next_insert() ],
	[ '... that writes by itself', undef, 'default',
		q{/* tcs(write_level=strong) */ SELECT pg_logical_emit_message(true, 'a', 'b')} ],
	[ '... when it is prepared', undef, 'default',
		q{PREPARE w AS /* tcs(write_level=strong) */ SELECT pg_logical_emit_message(true, 'a', 'b'); EXECUTE w} ],
	[ '... of what makes a rule', undef, 'default',
		q{/* tcs(write_level=strong) */ SELECT tcs.set_rule('lowered', 'session')} ],
	[ '... of what deletes it', undef, 'default', '/* tcs(write_level=strong) */ DELETE FROM tcs.rule' ],
	[ '... within a message', undef, 'default', next_insert() . '; /* tcs(write_level=strong) */ ' . next_insert() ],
	[ '... that asks for less than its transaction', undef, 'strong',
		'BEGIN; ' . next_insert() . '; /* tcs(write_level=eventual) */ ' . next_insert() . '; COMMIT' ],
	[ 'two that the session set', undef, 'strong', 'SET synchronous_commit = local; ' . next_insert() ],
	[ '... the other way round', undef, 'eventual',
		'SET synchronous_commit = remote_apply; ' . next_insert() ])
{
	my ($name, $user, $level, $sql) = @$_;
	my $client = defined $user ? TcsWire->new($primary, user => $user) : $writer;

	$writer->ok_query("SET tcs.write_level = $level") if defined $level;
	$_->stop_replay foreach @look;
	ok(held_by_standbys($client, $sql), "strong: $name");
	$_->go_on foreach @look;
	my @results = $client->results;

	is($results[-1]{state}, '00000', '... and done');
}
$writer->ok_query('RESET synchronous_commit');

# A standing synchronous_commit gives way.
$_->stop_replay foreach @look;
{
	my $careless = TcsWire->new($primary, user => 'careless');

	$careless->ok_query('SET tcs.write_level = session');
	$careless->ok_query(next_insert());
	is(is_there($watch), '1', 'a standing synchronous_commit gives way to the level');
	$careless->ok_query('RESET tcs.write_level');
	ok(held_by_standbys($careless, next_insert()), '... which leaves it as it was');
	$_->go_on foreach @look;
	is($careless->results, 1, '... and done');
}

# A hint of a statement that is alone in its transaction is that one's level.
$_->stop_replay foreach @look;
$writer->ok_query('SET tcs.write_level = strong');
$writer->ok_query("/* tcs(write_level=$_) */ " . next_insert()) foreach ('eventual', 'session', 'quorum');
$writer->ok_query('/* tcs(write_level=session) */ SELECT txid_current()');
is(is_there($watch), '1', 'a hint asks for less');
is($writer->ok_query('SHOW tcs.write_level'), 'strong', '... for its own statement');
is( $writer->ok_query("SELECT write_level FROM tcs.explain_level('/* tcs(write_level=session) */ DELETE FROM t')"),
	'session', '... as tcs.explain_level() says');
ok(held_by_standbys($writer, next_insert()), '... and the next waits again');
$_->go_on foreach @look;
is($writer->results, 1, '... and is done');

# What a savepoint took back, and a read-only transaction.
$_->stop_replay foreach @look;
$writer->ok_query('RESET tcs.write_level');
$writer->ok_query('BEGIN; ' . next_insert()
	  . '; SAVEPOINT s; SET LOCAL tcs.write_level = strong; ROLLBACK TO s; COMMIT');
is(is_there($watch), '1', 'a level that a savepoint took back is not in force');
$writer->ok_query('SET tcs.write_level = strong');
is(state_after($writer, 'BEGIN; ' . next_insert() . '; ROLLBACK'), '00000', 'a rollback does not wait');
is(state_after($writer, 'BEGIN READ ONLY; SELECT count(*) FROM t; COMMIT'), '00000', 'nor a read-only transaction');
is($writer->ok_query('SHOW synchronous_commit'), 'on', 'the setting is as it was');


##
## Two-phase commit
##

# It is on disk there, which is all that core waits for.
is(state_after($writer, 'BEGIN; ' . next_insert() . q{; PREPARE TRANSACTION 'p'}), '00000',
	'PREPARE TRANSACTION does not wait for replay');
ok(held_by_standbys($writer, q{COMMIT PREPARED 'p'}), 'COMMIT PREPARED does');
$_->go_on foreach @look;
is($writer->results, 1, '... and is done');
is(is_there($watch), '1', '... and shows');
$writer->ok_query('BEGIN');
$writer->ok_query(next_insert());
stop_receivers();
ok(held_by_standbys($writer, q{PREPARE TRANSACTION 'p'}), 'PREPARE TRANSACTION waits for standbys');
continue_receivers();
is($writer->results, 1, '... and is done');
stop_receivers();
$writer->ok_query('SET tcs.write_level = session');
is(state_after($writer, q{COMMIT PREPARED 'p'}), '00000', 'COMMIT PREPARED goes by its own session');
continue_receivers();


##
## Waits that are cut short
##

$_->stop_replay foreach @look;
$writer->ok_query('SET tcs.write_level = strong');
reset_counters();
ok(held_by_standbys($writer, next_insert()), 'a wait');
$watch->ok_query('SELECT pg_cancel_backend(' . $writer->pid . ')');
is(($writer->results)[-1]{state}, '00000', '... that is cancelled is no error');
is(($writer->notices)[-1]{C}, '01000', '... but a warning');
is(is_there($watch), '1', '... of a commit that is done here');
is(counted('strong'), 'commits 1 waited 1 cancelled 1', '... and counted');

$writer->ok_query('BEGIN; ' . next_insert() . q{; PREPARE TRANSACTION 'p'});
ok(held_by_standbys($writer, q{COMMIT PREPARED 'p'}), 'of COMMIT PREPARED');
$watch->ok_query('SELECT pg_cancel_backend(' . $writer->pid . ')');
is(($writer->results)[-1]{state}, '00000', '... cancelled');
is(counted('strong'), 'commits 2 waited 3 cancelled 2', '... and counted');

# without a level, as synchronous_commit says
$writer->ok_query('RESET tcs.write_level');
ok(held_by_standbys($writer, 'SET synchronous_commit = remote_apply; ' . next_insert()), 'without a level');
$watch->ok_query('SELECT pg_cancel_backend(' . $writer->pid . ')');
$writer->results;
is(counted('default'), 'cancelled 1', '... is counted, too');
$writer->ok_query('RESET synchronous_commit');

stop_receivers();
reset_counters();
$writer->ok_query('SET tcs.write_level = quorum');
ok(held_by_standbys($writer, 'BEGIN; ' . next_insert() . q{; PREPARE TRANSACTION 'p'}), 'of PREPARE TRANSACTION');
$watch->ok_query('SELECT pg_cancel_backend(' . $writer->pid . ')');
$writer->results;
is(counted('quorum'), 'waited 1 cancelled 1', '... is counted');
ok(held_by_standbys($writer, q{ROLLBACK PREPARED 'p'}), 'of ROLLBACK PREPARED');
$watch->ok_query('SELECT pg_cancel_backend(' . $writer->pid . ')');
$writer->results;
is(counted('quorum'), 'waited 1 cancelled 1', '... which has no level');
is(counted('default'), 'cancelled 1', '... is counted without');

{
	my $ended = TcsWire->new($primary, options => '-c tcs.write_level=quorum');

	ok(held_by_standbys($ended, next_insert()), 'of a session');
	$watch->ok_query('SELECT pg_terminate_backend(' . $ended->pid . ')');
	is(($ended->results)[-1]{state}, '08006', '... that is ended');
	is(is_there($watch), '1', '... which has committed');
	is(counted('quorum'), 'commits 1 waited 2 cancelled 2', '... is counted');
}
continue_receivers();

# Core lets go without a word when there is nobody left to wait for.  Who began
# before that does not know the new setting.
{
	my $blocked = TcsWire->new($primary, options => '-c tcs.write_level=strong');
	my $pid = $blocked->pid;

	reset_counters();
	$writer->ok_query('SET tcs.write_level = strong');
	$watch->ok_query('SELECT pg_advisory_lock(1)');
	$blocked->simple('INSERT INTO t SELECT 2000 FROM pg_advisory_xact_lock(1)')->flush;
	$watch->poll("SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = $pid")
	  or die 'not blocked';
	my $open = TcsWire->new($primary, options => '-c tcs.write_level=strong');

	$open->ok_query('BEGIN; INSERT INTO t VALUES (2001)');
	ok(held_by_standbys($writer, next_insert()), 'a wait for standbys');
	set_names('');
	is(($writer->results)[-1]{state}, '00000', '... that are not waited for any more');
	is(counted('strong'), 'commits 1 waited 1 cancelled 1', '... is counted');
	$watch->ok_query('SELECT pg_advisory_unlock(1)');
	is(($blocked->results)[-1]{state}, '55000', 'what ran meanwhile is refused');
	is(state_after($open, 'COMMIT'), '55000', '... and what was open');
	is($watch->ok_query('SELECT count(*) FROM t WHERE v >= 2000'), '0', '... and nothing of it is there');
	is(counted('strong'), 'commits 1 waited 1 cancelled 1 refused 2', '... and counted');
}
$_->go_on foreach @look;


##
## An asynchronous commit
##

{
	my $wal_writer = $watch->ok_query(
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});

	kill('STOP', $wal_writer) == 1 or die 'no WAL writer';
	foreach ([ eventual => 'f' ], [ session => 't' ])
	{
		my ($level, $durable) = @$_;

		$writer->ok_query("SET tcs.write_level = $level");
		$writer->ok_query(next_insert());
		my $token = $writer->parameter('tcs.session_token');

		is($watch->ok_query("SELECT durable FROM tcs.token_info('$token')"), $durable,
			"the token of a commit at $level: durable: $durable");
	}
	kill('CONT', $wal_writer);
}


##
## What the configuration gives
##

sub quorum
{
	my ($node, $level) = @_;

	return $node->ok_query("SELECT servers_durable, servers, servers_visible, servers_to_read, available FROM tcs.quorum WHERE write_level = '$level'");
}

sub quorum_text
{
	my ($node, $column, $level) = @_;

	return $node->ok_query("SELECT $column FROM tcs.quorum WHERE write_level = '$level'");
}

is(quorum($watch, 'strong'), '||||f', 'without standbys: strong is not there');
set_names('ANY 1 (standby1, standby2)', 1);
is(quorum($watch, 'eventual'), '0|3|1|3|t', 'any 1 of 2: eventual');
is(quorum($watch, 'session'), '1|3|1|3|t', 'any 1 of 2: session');
is(quorum($watch, 'quorum'), '2|3|1|3|t', 'any 1 of 2: quorum');
is(quorum($watch, 'strong'), '2|3|2|2|t', 'any 1 of 2: strong');
like(quorum_text($watch, 'survives, survives_detail', 'strong'), qr/^primary_loss\|.*most advanced of any 2 of the 2 standbys/, '... and survives');
like(quorum_text($watch, 'read_detail', 'strong'), qr/1 of the 2 standbys, whichever/, '... and shows somewhere');
set_names('FIRST 1 (standby1, standby2)', 1);
is(quorum($watch, 'strong'), '2|3|2|2|t', 'first 1 of 2: strong');
like(quorum_text($watch, 'read_detail', 'strong'), qr/first in the list/, '... and shows at the first');
set_names('2 (standby1, standby2)', 1);
is(quorum($watch, 'strong'), '3|3|3|1|t', 'both: strong');
is(quorum_text($watch, 'read_detail', 'strong'), 'every one of the 3 servers', '... and shows everywhere');
set_names('*', 1);
is(quorum($watch, 'strong'), '2||2||t', 'anybody: strong');
set_names('2 (standby1, nobody)');
is(quorum($watch, 'strong'), '3|3|3|1|f', 'one that is not there');
like(quorum_text($watch, 'available_detail', 'quorum'), qr/2 standbys .* 1 are connected/, '... is the problem');
is(quorum($watch, 'session'), '1|3|1|3|t', '... but not of session');
like(quorum_text($look[0], 'available_detail', 'strong'), qr/is a standby .* is empty/, 'a standby speaks of itself');
like(quorum_text($look[0], 'available_detail', 'session'), qr/its own settings/, '... of what it would give');
set_names('');


##
## Switched off, and servers that have no walsenders
##

$writer->ok_query('SET tcs.write_level = strong');
is(state_after($writer, next_insert()), '55000', 'refused');
is(state_after($watch, '/* tcs(write_level=quorum) */ ' . next_insert()), '55000', '... likewise by a hint');

is(state_after($watch, $_), '55000', "... also of what reads nothing: $_")
  foreach (
	'/* tcs(write_level=quorum) */ SELECT 1; ' . next_insert(),
	q{/* tcs(write_level=quorum) */ SELECT pg_logical_emit_message(true, 'a', 'b')});
is( ($watch->extended('/* tcs(write_level=quorum) */ SELECT txid_current()')->sync->results)[-1]{state},
	'55000', '... in the extended protocol');
is(state_after($watch, 'SET tcs.hints = off; /* tcs(write_level=quorum) */ SELECT 1; ' . next_insert() . '; RESET tcs.hints'),
	'00000', '... unless hints are off');

# What a rule makes of a statement has no place in the message; its hint has.
$watch->ok_query($_)
  foreach (
	'CREATE TABLE log (v int)', 'CREATE TABLE also (v int)',
	'CREATE VIEW by_insert AS SELECT 1 AS v', 'CREATE VIEW by_select AS SELECT 1 AS v', 'CREATE VIEW by_two AS SELECT 1 AS v',
	'CREATE RULE r AS ON INSERT TO by_insert DO INSTEAD INSERT INTO t VALUES (NEW.v)',
	'CREATE RULE r AS ON INSERT TO by_select DO INSTEAD SELECT adds(NEW.v)',
	'CREATE RULE r AS ON INSERT TO by_two DO INSTEAD (INSERT INTO log VALUES (NEW.v); INSERT INTO t VALUES (NEW.v))',
	'CREATE RULE r AS ON INSERT TO also DO ALSO INSERT INTO log VALUES (NEW.v)');
foreach my $target ('by_insert', 'by_select', 'by_two', 'also')
{
	my $hint = '/* tcs(write_level=quorum) */';
	my $insert = "INSERT INTO $target VALUES (-1)";

	is(state_after($watch, $_), '55000', "a rule, and a hint: $_")
	  foreach ("$hint $insert", "SELECT 1; $hint $insert", "SELECT 1; SELECT 2; $hint $insert; SELECT 3",
		"/* tcs(eventual) */ SELECT 1; $hint $insert");
	is(state_after($watch, "BEGIN; $hint $insert; COMMIT"), '55000', '... in a block');
	$watch->ok_query('ROLLBACK');
	is(state_after($watch, "BEGIN; $hint ROLLBACK; $insert"), '00000', '... of another statement');
	is(state_after($watch, "SELECT 1; /* tcs(nonsense) */ $insert"), '22023', '... that is malformed');
	is(state_after($watch, "SELECT 1; $insert; /* tcs(write_level=session) */ $insert"), '00000', '... that can be met');
	is(state_after($watch, "SELECT 1; PREPARE p AS $hint $insert; EXECUTE p"), '55000', '... of a prepared statement');
	is(state_after($watch, 'EXECUTE p'), '55000', '... that runs again');
	$watch->ok_query('DEALLOCATE p');
}
is($watch->ok_query('SELECT count(*) FROM log WHERE v = -1'), '6', 'nothing else was written');
$watch->ok_query('ALTER SYSTEM SET tcs.enabled = off');
$primary->reload;
$watch->poll(q{SELECT current_setting('tcs.enabled') = 'off'}) or die 'not switched off';
is(state_after($writer, next_insert()), '00000', '... unless tcs is switched off');
is($watch->ok_query('SHOW synchronous_commit'), 'on', '... and so is the level');

my $single = new_primary('single', conf => "max_wal_senders = 0\nsynchronous_standby_names = 'standby1'\n");
my ($state, $stderr) = psql_err($single, 'SET tcs.write_level = quorum; CREATE TABLE t ()');

is($state, '55000', 'without walsenders: refused');
like($stderr, qr/max_wal_senders/, '... with the reason');
is(psql_err($single, 'SET tcs.write_level = session; CREATE TABLE t ()'), '00000', '... which others do not need');

# Sessions of clients only: what the server does by itself is never held.
$single->append_conf('postgresql.conf', "tcs.write_level = strong\nautovacuum = on\nautovacuum_naptime = 1s\n");
$single->restart;
$single->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'autovacuum launcher'})
  or die 'no autovacuum';
is(psql_err($single, 'DROP TABLE t'), '55000', 'a level in the configuration file');
unlike(slurp_file($single->logfile), qr/automatic .*cannot commit|PANIC/, '... is for clients');

done_testing();
