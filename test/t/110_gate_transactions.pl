# test/t/110_gate_transactions.pl
#
# The gate and transactions. In READ COMMITTED each statement of a block is as
# fresh as the settings in force at that moment ask: in savepoints, after ROLLBACK
# TO, after errors at any depth, after COMMIT AND CHAIN, and when SET is rolled
# back. SERIALIZABLE is refused by core. REPEATABLE READ is in 115.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsLagging;
use TcsWire;

lagging_nodes();


##
## READ COMMITTED
##

fresh_client();
fall_behind();
run(set_token());
waits('BEGIN', '', 'BEGIN waits for the token');
at_once($read, $v, 'and its statements need not');
run('COMMIT');

fall_behind();
run(q{SET tcs.session_token = ''}, q{SET tcs.read_level = 'strong'});
at_once('BEGIN', '', 'BEGIN does not ask the primary');
waits($read, $v, 'a strong statement in a block does');
fall_behind();
waits($read, $v, 'and so does the next one');
run('COMMIT');

fresh_client();
foreach my $set ('SET', 'SET LOCAL')
{
	run('BEGIN', $read);
	fall_behind();
	at_once("$set tcs.session_token = '$token'",
		'', "$set in a READ COMMITTED block does not wait");
	waits($read, $v, "the statement after $set does");
	run('COMMIT');
}
run('BEGIN', $read);
fall_behind();
at_once("SELECT set_config('tcs.session_token', '$token', true) <> ''",
	't', 'set_config does not wait');
waits($read, $v, 'the statement after it does');
run('COMMIT');

# savepoints
run('BEGIN', 'SAVEPOINT a');
fall_behind();
run(set_token());
waits($read, $v, 'a token that was set in a savepoint');
run('SAVEPOINT b');
fall_behind();
run(set_token());
at_once('ROLLBACK TO b', '', 'ROLLBACK TO does not wait');
at_once($read, $v - 1, 'it takes back the token');
run(set_token(), 'SAVEPOINT c', 'ROLLBACK TO c');
waits($read, $v, 'a token that was set before the savepoint stays');
fall_behind();
run(set_token(), 'RELEASE c');
waits($read, $v, 'RELEASE keeps it');
run('COMMIT');

# A statement that was refused can be tried again from a savepoint.
run('BEGIN', 'SET LOCAL tcs.max_wait = 0', 'SAVEPOINT a');
fall_behind();
run(set_token());
at_once($read, 'TC001', 'refused without patience');
run('ROLLBACK TO a', set_token());
at_once($read, 'TC001', 'refused again');
run('ROLLBACK TO a', set_token());
catch_up();
at_once($read, $v, 'served when replay has come');
run('COMMIT');

# COMMIT AND CHAIN, and its kin
foreach my $chain ('COMMIT AND CHAIN', 'ROLLBACK AND CHAIN')
{
	run('BEGIN', $read);
	fall_behind();
	run("SET tcs.session_token = ''", 'SAVEPOINT a') if $chain =~ /ROLLBACK/;
	run($chain, set_token());
	waits($read, $v, "a statement after $chain");
	run('COMMIT');
}

# settings that go away with their transaction
fresh_client();
fall_behind();
run('BEGIN', set_token(), 'ROLLBACK');
at_once($read, $v - 1, 'a token that was rolled back asks for nothing');
run('BEGIN', "SET LOCAL tcs.session_token = '$token'", 'COMMIT');
at_once($read, $v - 1, 'nor does one of SET LOCAL after the block');
run('BEGIN', set_token(), 'SET LOCAL tcs.max_wait = 0');
at_once($read, 'TC001', 'in the block it does');
run('ROLLBACK');
at_once($read, $v - 1, 'an error takes it back, too');
run('BEGIN', set_token(), 'COMMIT');
waits($read, $v, 'one that was committed stays');

# raised, and lowered
my $older = $token;

fall_behind();
run(set_token(), "SET tcs.session_token = '$older'");
at_once($read, $v - 1, 'SET replaces: a lower token asks for less');
run('BEGIN', set_token(), "SET tcs.session_token = '$older'");
at_once($read, $v - 1, 'also in a block');
run(set_token());
waits($read, $v, 'raised again, it asks for more again');
run('COMMIT');
fall_behind();
run(set_token(), 'RESET tcs.session_token');
at_once($read, $v - 1, 'RESET asks for nothing');
run(set_token(), 'DISCARD ALL');
at_once($read, $v - 1, 'nor does DISCARD ALL');
catch_up();

# a cursor reads on with its own snapshot
run('BEGIN', 'DECLARE c CURSOR FOR SELECT v FROM t, generate_series(1, 3)',
	'FETCH 1 FROM c');
fall_behind();
run(set_token());
at_once('FETCH 1 FROM c', $v - 1, 'FETCH reads on');
waits("DECLARE d CURSOR FOR $read", '', 'another cursor is declared afresh');
at_once('FETCH 1 FROM d', $v, 'and has the write');
at_once('FETCH 1 FROM c', $v - 1, 'which the first has not');
run('COMMIT');

# After an error, wherever it came from, the next statement of the client is
# still known as such.
foreach my $failing (
	'SELECT 1 / 0',
	'SELECT 1 / (v - v) FROM t',
	'SELECT 1 FROM t WHERE 1 / (v - v) = 1',
	'SELECT nothing',
	q{SELECT f_fails('division')},
	q{SELECT f_fails('raise') FROM t},
	q{SELECT f_fails('sql')},
	q{SELECT f_fails('caught')},
	q{SELECT (SELECT f_fails('caught')) FROM generate_series(1, 2)},
	q{DO $$BEGIN PERFORM f_fails('caught'); END$$},
	q{DO $$BEGIN BEGIN PERFORM f_fails('caught'); EXCEPTION WHEN OTHERS THEN NULL; END; END$$},
	q{CALL p_commits(1 / 0, 1)},
	q{EXPLAIN ANALYZE SELECT f_fails('sql')},
	q{COPY (SELECT f_fails('sql')) TO STDOUT},
	q{DECLARE x CURSOR WITH HOLD FOR SELECT f_fails('sql'); COMMIT},
	q{DECLARE x CURSOR FOR SELECT f_fails('sql'); FETCH x},
	q{PREPARE p AS SELECT f_fails('sql'); EXECUTE p},
	'INSERT INTO t VALUES (1)',
	'SELECT v FROM t FOR UPDATE')
{
	fresh_client();
	$c->query($failing);
	fall_behind();
	run(set_token());
	waits($read, $v, "after: $failing");

	run('BEGIN', $read, 'SAVEPOINT a');
	$c->query($failing);
	if ($c->status eq 'I')
	{
		run('BEGIN');
	}
	else
	{
		run('ROLLBACK TO a');
	}
	fall_behind();
	run(set_token());
	waits($read, $v, "after ROLLBACK TO: $failing");
	run('COMMIT');
}

# procedures that end transactions
fresh_client();
fall_behind();
run(set_token());
waits('CALL p_commits(0, 0)', "$v|$v", 'a procedure with COMMIT');
fall_behind();
run(set_token());
waits(
	q{DO $$BEGIN COMMIT; RAISE NOTICE '%', (SELECT v FROM t); COMMIT; END$$},
	'', 'DO with COMMIT');
is(($c->notices)[-1]{M}, $v, 'and what it reads');
fall_behind();
run(q{SET tcs.session_token = ''}, q{SET tcs.read_level = 'strong'});
waits('CALL p_commits(0, 0)', "$v|$v", 'a procedure with COMMIT at strong');
run('RESET tcs.read_level');
fall_behind();
at_once("CALL p_sets(0, 0, '$token')",
	'55000', 'a procedure that asks for more than its caller');
catch_up();
run(set_token());
at_once("CALL p_sets(0, 0, '$token')", "$v|$v", 'or for no more');


##
## SERIALIZABLE
##

# is refused by core on every standby, and that is what the client gets to know
fresh_client();
at_once('BEGIN ISOLATION LEVEL SERIALIZABLE',
	'0A000', 'SERIALIZABLE is refused by core');
$c->query('ROLLBACK');
run(q{SET default_transaction_isolation = 'serializable'});
at_once($read, '0A000', 'as a default, too');
run(set_token());
at_once($read, '0A000', 'also with a token');

$_->disconnect foreach ($c, $writer, $look);

done_testing();
