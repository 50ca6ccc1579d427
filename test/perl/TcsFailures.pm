# test/perl/TcsFailures.pm
#
# Ways for a statement to fail, as a table.  As the ways of TcsWays.pm, with:
#
#   fails     SQLSTATEs of the results that failed, in their order; undef: any
#             that are not none
#   gated     it fails because nothing is fresh
#   on        primary or standby, if only there
#   inside    it leaves its block open, and fit for use
#   slow      it takes a timeout, or somebody else

package TcsFailures;

use strict;
use warnings;

use Exporter 'import';

use TcsWays;

our @EXPORT = qw(failures);


# Queries of one step each, as results; for code.
sub _all
{
	my ($s, @sql) = @_;

	return map { $s->{c}->query(fill($s, $_)) } @sql;
}

# The results of statements that run under settings, without theirs.
sub _with
{
	my ($s, $settings, @sql) = @_;
	my @results;

	$s->{c}->query("SET $_ = $settings->{$_}") foreach (sort keys %$settings);
	@results = _all($s, @sql);
	leave_block($s->{c});
	# the timeout may strike these, too, and be told of in the one that follows
	foreach my $sql ((map { "RESET $_" } sort keys %$settings), 'SELECT 1')
	{
		while (error_states($s->{c}->query($sql)) ne '') { }
	}
	return @results;
}


# Simple ones: name, SQLSTATEs, statements.
sub _failures_outside_blocks
{
	return (
		[ 'nothing', '', 'SELECT 1' ],
		[ 'parse', '42601', 'SELEC 1' ],
		[ 'analysis', '42703', 'SELECT nosuch FROM {t}' ],
		[ 'analysis, no table', '42P01', 'SELECT * FROM nosuch' ],
		[ 'planning', '22012', 'SELECT 1/0' ],
		[ 'planning by a function', 'P0001', '{e} SELECT fails_planned() FROM {t}' ],
		[ 'planning catches', '', '{e} SELECT catches_planned() FROM {t}' ],
		[ 'planning catches, and goes on planning', qr/^(55000)?$/, '{e} SELECT catches_planned_and_plans() FROM {t}' ],
		[ 'planning catches, and fails', 'P0001', '{e} SELECT catches_planned_and_fails() FROM {t}' ],
		(
			map { [ "planning catches: $_", '', "{e} SELECT catches_planned_dynamic('$_') FROM {t}" ] }
			  ('ROLLBACK TO nosuch', 'DEALLOCATE nosuch', 'DO $$ BEGIN PERFORM fails(); END $$', 'SELECT fails_planned()', 'SELECT lies(), fails()')
		),
		[ 'start', 'P0001', '{e} SELECT * FROM parts WHERE k = fails_stable()' ],
		[ 'start, permission', '42501', 'SET ROLE nobody_special', '{e} SELECT * FROM forbidden', 'RESET ROLE' ],
		[ 'run', '22012', '{e} SELECT 1 / (a - a) FROM {t}' ],
		[ 'run, a function', 'P0001', '{e} SELECT fails() FROM {t}' ],
		[ 'run, a function in SQL', '22012', '{e} SELECT fails_in_sql() FROM {t}' ],
		[ 'run, third row', 'P0001', '{e} SELECT row_of(g) FROM {t}, generate_series(1, 9) g' ],
		[ 'run, without a table', 'P0001', '{e} SELECT fails()' ],
		[ 'run catches', '', '{e} SELECT catches() FROM {t}' ],
		[ 'run catches deep down', '', '{e} SELECT catches_deep(5) FROM {t}' ],
		[ 'run catches in a cursor', '', '{e} SELECT catches_in_cursor() FROM {t}' ],
		[ 'run catches a refusal', '', '{e} SELECT catches_refusal() FROM {t}' ],
		(
			map { [ "run catches: $_", '', "{e} SELECT catches_dynamic('$_') FROM {t}" ] }
			  ('ROLLBACK TO nosuch', 'DEALLOCATE nosuch', 'SET nosuch = 1', 'DO $$ BEGIN PERFORM fails(); END $$', 'SELECT fails_planned()', 'LOCK nosuch')
		),
		[ 'handler fails', 'P0001', '{e} SELECT handler_fails() FROM {t}' ],
		[ 'stack depth', '54001', 'SET max_stack_depth = 200', '{e} SELECT recurses() FROM {t}', 'RESET max_stack_depth' ],
		[ 'memory', '54000', q[{e} SELECT length(repeat('x', 1100000000)) FROM {t}] ],
		[ 'second of a string', '22012', '{e} SELECT v FROM {t}; {e} SELECT 1 / (a - a) FROM {t}; SELECT 1' ],
		[ 'hint', undef, '/* tcs(nosuch) */ SELECT 1/0' ]);
}

sub _failures_of_utilities
{
	return (
		[ 'SET', '22023', q[SET tcs.read_level = 'nosuch'] ],
		[ 'SET of a token', '22023', q[SET tcs.session_token = 'nosuch'] ],
		[ 'RESET', '42704', 'RESET nosuch' ],
		[ 'EXECUTE nosuch', '26000', '{e} EXECUTE nosuch' ],
		[ 'EXECUTE, run', '22012', '{e} EXECUTE z_run' ],
		[ 'EXECUTE, planning', 'P0001', '{e} EXECUTE z_planning' ],
		[ 'EXECUTE, parameter', 'P0001', '{e} EXECUTE z_parameter(fails())' ],
		[ 'EXECUTE, analysis', '42P01', 'SET search_path = pg_catalog', '{e} EXECUTE z_run', 'RESET search_path' ],
		[ 'PREPARE', '42703', 'PREPARE z AS SELECT nosuch FROM {t}' ],
		[ 'PREPARE again', '42P05', 'PREPARE named AS SELECT 1' ],
		[ 'DEALLOCATE', '26000', 'DEALLOCATE nosuch' ],
		[ 'FETCH nosuch', '34000', 'FETCH nosuch' ],
		[ 'CLOSE nosuch', '34000', 'CLOSE nosuch' ],
		[ 'LOCK', undef, 'LOCK {t}' ],
		[ 'DECLARE, no block', '25P01', '{e} DECLARE c CURSOR FOR SELECT v FROM {t}' ],
		[ 'DECLARE, planning', 'P0001', 'BEGIN', '{e} DECLARE c CURSOR FOR SELECT fails_planned() FROM {t}', 'ROLLBACK' ],
		[ 'DECLARE, start', 'P0001', 'BEGIN', '{e} DECLARE c CURSOR FOR SELECT * FROM parts WHERE k = fails_stable()', 'COMMIT' ],
		[ 'COPY TO, half-way', 'P0001', '{e} COPY (SELECT row_of(g) FROM {t}, generate_series(1, 9) g) TO STDOUT' ],
		[ 'COPY nosuch', '42P01', '{e} COPY nosuch TO STDOUT' ],
		[ 'COPY, planning', 'P0001', '{e} COPY (SELECT fails_planned() FROM {t}) TO STDOUT' ],
		[ 'EXPLAIN', '42703', 'EXPLAIN SELECT nosuch FROM {t}' ],
		[ 'EXPLAIN, planning', 'P0001', '{e} EXPLAIN SELECT fails_planned() FROM {t}' ],
		[ 'EXPLAIN, start', 'P0001', '{e} EXPLAIN SELECT * FROM parts WHERE k = fails_stable()' ],
		[ 'EXPLAIN ANALYZE', '22012', '{e} EXPLAIN ANALYZE SELECT 1 / (a - a) FROM {t}' ],
		[ 'EXPLAIN EXECUTE', '26000', '{e} EXPLAIN ANALYZE EXECUTE nosuch' ],
		[ 'DO', 'P0001', '{e} DO $$ BEGIN PERFORM fails(); END $$' ],
		[ 'DO catches', '', '{e} DO $$ BEGIN PERFORM catches(); BEGIN PERFORM 1/0; EXCEPTION WHEN OTHERS THEN NULL; END; END $$' ],
		[ 'DO, COMMIT, fails', 'P0001', '{e} DO $$ BEGIN COMMIT; PERFORM fails(); END $$' ],
		[ 'DO, syntax', '42601', '{e} DO $$ BEGIN nosuch $$' ],
		[ 'CALL', '22012', '{e} CALL fails_by_call()' ],
		[ 'CALL, parameter', 'P0001', '{e} CALL reads_by_call(fails())' ],
		[ 'CALL, COMMIT, fails', 'P0001', '{e} CALL commits_and_fails()' ],
		[ 'CALL, ROLLBACK, fails', 'P0001', '{e} CALL rolls_back_and_fails()' ],
		[ 'CALL catches, COMMIT, fails', 'P0001', q[{e} CALL catches_and_ends('commit')] ],
		[ 'CALL catches, ROLLBACK, fails', 'P0001', q[{e} CALL catches_and_ends('rollback')] ],
		[ 'CALL in CALL', 'P0001', '{e} CALL calls_and_fails()' ],
		[ 'CALL, COMMIT in a handler', '', '{e} CALL ends_in_handler()' ],
		[ 'wait_for()', '22023', q[CALL tcs.wait_for('nosuch')] ],
		[ 'VACUUM', undef, 'VACUUM nosuch' ],
		[ 'SAVEPOINT, no block', '25P01', 'SAVEPOINT a' ],
		[ 'ROLLBACK TO, no block', '25P01', 'ROLLBACK TO a' ],
		[ 'RELEASE, no block', '25P01', 'RELEASE a' ],
		[ 'COMMIT AND CHAIN, no block', '25P01', 'COMMIT AND CHAIN' ],
		[ 'SET TRANSACTION SNAPSHOT', undef, 'BEGIN ISOLATION LEVEL REPEATABLE READ', q[SET TRANSACTION SNAPSHOT 'nosuch'], 'ROLLBACK' ],
		[ 'COMMIT PREPARED', undef, q[COMMIT PREPARED 'nosuch'] ],
		[ 'ROLLBACK PREPARED', undef, q[ROLLBACK PREPARED 'nosuch'] ],
		[ 'COMMIT PREPARED in a block', undef, 'BEGIN', q[COMMIT PREPARED 'nosuch'], 'ROLLBACK' ],
		[ 'BEGIN in a way that the level refuses', '22023', q[SET tcs.read_level = 'snapshot'], 'BEGIN ISOLATION LEVEL READ COMMITTED', 'RESET tcs.read_level' ]);
}

# What is sent into a block that is aborted.
sub _failures_in_aborted_blocks
{
	my @table;
	my @refused = (
		'SELECT 1', '{h} SELECT v FROM {t}', 'EXECUTE named', 'FETCH c', 'MOVE c', 'CLOSE c',
		'PREPARE z AS SELECT 1', 'DEALLOCATE ALL', 'SET tcs.max_wait = 1', 'LOCK {t}',
		'COPY {t} TO STDOUT', 'CALL reads_by_call(NULL)', 'DO $$ BEGIN END $$',
		'EXPLAIN ANALYZE SELECT 1', 'DECLARE d CURSOR FOR SELECT 1', 'SAVEPOINT b', 'RELEASE a',
		'BEGIN', 'LISTEN x', q[COMMIT PREPARED 'x'], 'INSERT INTO w VALUES (1)', 'SELEC 1');
	my @ends = ('ROLLBACK', 'COMMIT', 'ROLLBACK AND CHAIN', 'COMMIT AND CHAIN', q[PREPARE TRANSACTION 'x']);

	foreach my $sql (@refused)
	{
		my $state = $sql =~ /^SELEC / ? '42601' : '25P02';

		push @table, [ "aborted block: $sql", "22012 $state", 'BEGIN', 'SELECT 1/0', $sql, 'ROLLBACK' ];
	}
	foreach my $end (@ends)
	{
		# what is chained is ended by a second one
		my @end = $end =~ /CHAIN/ ? ($end, 'COMMIT') : ($end);

		# a standby refuses to prepare in any case
		my $fails = $end =~ /^PREPARE/ ? qr/^22012( 3B001)?( 25006)?$/ : undef;

		push @table,
		  [ "aborted block: $end", $fails // '22012', 'BEGIN', 'SELECT 1/0', @end ],
		  [ "aborted block: ROLLBACK TO nosuch, $end", $fails // '22012 3B001', 'BEGIN', 'SELECT 1/0', 'ROLLBACK TO nosuch', @end ],
		  [
			"aborted block with a savepoint: ROLLBACK TO nosuch, $end", $fails // '22012 3B001',
			'BEGIN', 'SAVEPOINT a', 'SELECT 1/0', 'ROLLBACK TO nosuch', @end
		  ];
	}
	push @table,
	  [ 'aborted block: many times ROLLBACK TO nosuch', '22012' . ' 3B001' x 5, 'BEGIN', 'SELECT 1/0', ('ROLLBACK TO nosuch') x 5, 'ROLLBACK' ],
	  [ 'aborted chain: ROLLBACK TO nosuch', '22012 3B001 22012 3B001', 'BEGIN', 'SELECT 1/0', 'ROLLBACK TO nosuch', 'ROLLBACK AND CHAIN', 'SELECT 1/0', 'ROLLBACK TO nosuch', 'COMMIT' ],
	  [ 'aborted block in one string', '22012 3B001', 'BEGIN; SELECT 1/0', 'ROLLBACK TO nosuch; SELECT 1', 'ROLLBACK; SELECT 1' ];
	return @table;
}

sub _failures_in_blocks
{
	return (
		[ 'block', '22012', 'BEGIN', '{e} SELECT 1 / (a - a) FROM {t}', 'ROLLBACK' ],
		[ 'REPEATABLE READ block', '22012', 'BEGIN ISOLATION LEVEL REPEATABLE READ', '{e} SELECT v FROM {t}', '{e} SELECT 1 / (a - a) FROM {t}', 'ROLLBACK' ],
		[ 'chained block', '22012', 'BEGIN', 'COMMIT AND CHAIN', '{e} SELECT 1 / (a - a) FROM {t}', 'ROLLBACK AND CHAIN', 'COMMIT' ],
		[ 'FETCH', 'P0001', 'BEGIN', '{e} DECLARE c CURSOR FOR SELECT row_of(g) FROM {t}, generate_series(1, 9) g', 'FETCH 2 FROM c', 'FETCH c', 'ROLLBACK' ],
		[ 'FETCH again', 'P0001 55000 3B001', 'BEGIN', '{e} DECLARE c CURSOR FOR SELECT row_of(g) FROM {t}, generate_series(1, 9) g', 'SAVEPOINT a', 'FETCH 9 FROM c', 'ROLLBACK TO a', 'FETCH c', 'ROLLBACK TO nosuch', 'ROLLBACK' ],
		[ 'MOVE', 'P0001', 'BEGIN', '{e} DECLARE c CURSOR FOR SELECT row_of(g) FROM {t}, generate_series(1, 9) g', 'MOVE 9 FROM c', 'COMMIT' ],
		[ 'FETCH BACKWARD', '55000', 'BEGIN', '{e} DECLARE c NO SCROLL CURSOR FOR SELECT v FROM {t}', 'FETCH BACKWARD c', 'ROLLBACK' ],
		[ 'FETCH catches', '', 'BEGIN', '{e} DECLARE c CURSOR FOR SELECT catches() FROM {t}, generate_series(1, 3)', 'FETCH c', 'FETCH c', 'COMMIT' ],
		[ 'WITH HOLD at COMMIT', 'P0001', 'BEGIN', '{e} DECLARE c CURSOR WITH HOLD FOR SELECT row_of(g) FROM {t}, generate_series(1, 9) g', 'FETCH c', 'COMMIT' ],
		[ 'WITH HOLD at COMMIT AND CHAIN', 'P0001', 'BEGIN', '{e} DECLARE c CURSOR WITH HOLD FOR SELECT row_of(g) FROM {t}, generate_series(1, 9) g', 'COMMIT AND CHAIN', 'ROLLBACK' ],
		[ 'WITH HOLD without a block', 'P0001', '{e} DECLARE c CURSOR WITH HOLD FOR SELECT row_of(g) FROM {t}, generate_series(1, 9) g' ],
		[ 'WITH HOLD catches', '', 'BEGIN', '{e} DECLARE c CURSOR WITH HOLD FOR SELECT catches() FROM {t}', 'COMMIT', 'FETCH c', 'CLOSE c' ],
		[ 'RELEASE nosuch', '3B001', 'BEGIN', 'SAVEPOINT a', 'RELEASE nosuch', 'ROLLBACK' ],
		[ 'ROLLBACK TO nosuch', '3B001', 'BEGIN', 'ROLLBACK TO nosuch', 'ROLLBACK' ],
		[ 'savepoints', '22012 3B001 3B001', 'BEGIN', 'SAVEPOINT a', 'SELECT 1/0', 'ROLLBACK TO a', 'RELEASE a', 'SAVEPOINT b', 'ROLLBACK TO nosuch', 'ROLLBACK TO nosuch', 'ROLLBACK' ],
		[ 'LOCK nosuch', undef, 'BEGIN', 'LOCK nosuch', 'ROLLBACK' ],
		[ 'SET TRANSACTION', '25001', 'BEGIN', '{e} SELECT v FROM {t}', 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ', 'ROLLBACK' ],
		[ 'CALL with COMMIT in a block', '2D000', 'BEGIN', '{e} CALL commits_and_fails()', 'ROLLBACK' ],
		[ 'parallel worker', undef, 'BEGIN', 'SET LOCAL force_parallel_mode = on', '{e} SELECT 1 / (a - a) FROM {t}', 'ROLLBACK' ],
		[ 'serializable', '22012', 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', '{e} SELECT 1 / (a - a) FROM {t}', 'COMMIT' ]);
}

# Those that leave the block open for the reads to come.
sub _failures_that_stay_inside
{
	return (
		[ 'inside: savepoint', '22012', 'BEGIN', 'SAVEPOINT a', 'SELECT 1/0', 'ROLLBACK TO a' ],
		[ 'inside: savepoint, ROLLBACK TO nosuch', '22012 3B001', 'BEGIN', 'SAVEPOINT a', 'SELECT 1/0', 'ROLLBACK TO nosuch', 'ROLLBACK TO a' ],
		[ 'inside: nested savepoints', '22012 3B001', 'BEGIN', 'SAVEPOINT a', 'SAVEPOINT b', 'SELECT 1/0', 'ROLLBACK TO nosuch', 'ROLLBACK TO b', 'RELEASE b', 'ROLLBACK TO a' ],
		[ 'inside: FETCH', 'P0001', 'BEGIN', '{e} DECLARE f CURSOR FOR SELECT row_of(g) FROM {t}, generate_series(1, 9) g', 'SAVEPOINT a', 'FETCH 9 FROM f', 'ROLLBACK TO a' ],
		[ 'inside: chain', '22012 3B001', 'BEGIN', 'SELECT 1/0', 'ROLLBACK TO nosuch', 'ROLLBACK AND CHAIN' ],
		[ 'inside: catches', '', 'BEGIN', '{e} SELECT catches_deep(3) FROM {t}' ],
		[ 'inside: cursor that goes on', '', 'BEGIN', '{e} DECLARE f CURSOR FOR SELECT catches() FROM {t}, generate_series(1, 9) g', 'FETCH f' ],
		[ 'inside: planning', 'P0001', 'BEGIN', 'SAVEPOINT a', '{e} SELECT fails_planned() FROM {t}', 'ROLLBACK TO a' ],
		[ 'inside: utility', '26000', 'BEGIN', 'SAVEPOINT a', '{e} EXECUTE nosuch', 'ROLLBACK TO a' ]);
}

# Of a standby that lags: the gate itself is what fails.
sub _failures_of_the_gate
{
	return (
		[ 'refused', undef, '{h} SELECT v FROM {t}' ],
		[ 'refused in a block', undef, 'BEGIN', '{h} SELECT v FROM {t}', 'ROLLBACK TO nosuch', 'ROLLBACK' ],
		[ 'refused in REPEATABLE READ', undef, 'BEGIN ISOLATION LEVEL REPEATABLE READ', '{h} SELECT v FROM {t}', 'ROLLBACK' ],
		[ 'refused, EXECUTE', undef, '{h} EXECUTE named' ],
		[ 'refused, DECLARE', undef, 'BEGIN', '{h} DECLARE c CURSOR FOR SELECT v FROM {t}', 'ROLLBACK' ],
		[ 'refused, COPY', undef, '{h} COPY (SELECT v FROM {t}) TO STDOUT' ],
		[ 'refused, CALL', undef, '{h} CALL reads_by_call(NULL)' ],
		[ 'refused, planning', undef, '{h} SELECT lies() FROM {t}' ],
		[ 'refused, chained', undef, 'BEGIN', '{h} SELECT v FROM {t}', 'ROLLBACK AND CHAIN', '{h} SELECT v FROM {t}', 'COMMIT AND CHAIN', 'COMMIT' ],
		[ 'refused after a savepoint', undef, 'BEGIN', 'SAVEPOINT a', '{h} SELECT v FROM {t}', 'ROLLBACK TO a', 'ROLLBACK TO nosuch', 'COMMIT' ]);
}

# On a primary.
sub _failures_of_writes
{
	return (
		[ 'INSERT', '23505', '{e} INSERT INTO t VALUES (1)' ],
		[ 'read-only', '25006', 'BEGIN READ ONLY', '{e} INSERT INTO w VALUES (1)', 'ROLLBACK' ],
		[ 'deferred trigger', 'P0001', 'BEGIN', '{e} INSERT INTO d VALUES (1)', 'COMMIT' ],
		[ 'deferred trigger, autocommit', 'P0001', '{e} INSERT INTO d VALUES (1)' ],
		[ 'deferred trigger catches, fails', 'P0001', 'BEGIN', '{e} INSERT INTO d VALUES (2)', 'COMMIT' ],
		[ 'deferred trigger, utility', '22012', 'BEGIN', '{e} INSERT INTO d VALUES (3)', 'COMMIT AND CHAIN', 'ROLLBACK' ],
		[ 'deferred unique', '23505', 'BEGIN', '{e} INSERT INTO d VALUES (0, 1), (0, 1)', 'COMMIT' ],
		[ 'SET CONSTRAINTS', 'P0001', 'BEGIN', '{e} INSERT INTO d VALUES (1)', 'SET CONSTRAINTS ALL IMMEDIATE', 'ROLLBACK' ],
		[ 'PREPARE TRANSACTION, deferred trigger', 'P0001', 'BEGIN', '{e} INSERT INTO d VALUES (1)', q[PREPARE TRANSACTION 'x'] ],
		[ 'PREPARE TRANSACTION, temporary', '0A000', 'BEGIN', 'CREATE TEMP TABLE z (a int)', q[PREPARE TRANSACTION 'x'] ],
		[ 'PREPARE TRANSACTION, name', '22023', 'BEGIN', '{e} INSERT INTO w VALUES (1)', q[PREPARE TRANSACTION ']  . 'x' x 250 . q['] ],
		[ 'write level at COMMIT', '55000', 'BEGIN', 'SET LOCAL tcs.write_level = quorum', '{e} INSERT INTO w VALUES (1)', 'COMMIT' ],
		[ 'write level of a hint', '55000', '{w} INSERT INTO w VALUES (1)' ],
		[ 'write level of a hint, caught', '', q[DO $$ BEGIN EXECUTE '{w} INSERT INTO w VALUES (1)'; EXCEPTION WHEN OTHERS THEN NULL; END $$] ],
		[ 'CREATE TABLE AS', '22012', '{e} CREATE TABLE z AS SELECT 1 / (a - a) FROM {t}' ],
		[ 'CREATE SCHEMA', '42P07', 'CREATE SCHEMA z CREATE TABLE zz (a int) CREATE TABLE zz (b int)' ],
		[ 'CREATE FUNCTION', '42601', q[CREATE FUNCTION z() RETURNS int LANGUAGE sql AS 'SELEC 1'] ],
		[ 'ALTER TABLE', '22012', 'ALTER TABLE w ADD z int DEFAULT 1/0' ],
		[ 'CREATE DATABASE', '42P04', 'CREATE DATABASE postgres' ],
		[ 'VACUUM in a block', '25001', 'BEGIN', 'VACUUM', 'ROLLBACK' ],
		[ 'NOTIFY', '22023', q[NOTIFY x, '] . 'x' x 9000 . q['] ]);
}

# From the tables above.
sub _by_sql
{
	my ($rows, %more) = @_;

	return map {
		my ($name, $fails, @sql) = @$_;
		{ name => $name, fails => $fails, sql => \@sql, %more };
	} @$rows;
}

# Those that are cut short, by whom it may be.
sub _failures_by_time
{
	my $cancels = 'pg_cancel_backend(pg_backend_pid())';
	my $sleeps = "SELECT $cancels, pg_sleep(60)";
	my @cancelled = (
		[ 'cancel', '57014', $sleeps ],
		[ 'cancel in a block', '57014', 'BEGIN', $sleeps, 'ROLLBACK' ],
		[ 'cancel, FETCH', '57014', 'BEGIN', "{e} DECLARE c CURSOR FOR $sleeps", 'FETCH c', 'ROLLBACK' ],
		[ 'cancel, EXECUTE', '57014', '{e} EXECUTE z_cancel' ],
		[ 'cancel, COPY', '57014', "{e} COPY ($sleeps) TO STDOUT" ],
		[ 'cancel, DO', '57014', "{e} DO \$\$ BEGIN PERFORM $cancels; PERFORM pg_sleep(60); END \$\$" ],
		[
			'cancel, caught', '',
			"{e} DO \$\$ BEGIN PERFORM $cancels; PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END \$\$"
		],
		[ 'cancel, WITH HOLD at COMMIT', '57014', 'BEGIN', "{e} DECLARE c CURSOR WITH HOLD FOR $sleeps", 'COMMIT' ]);
	my @timed = (
		[ 'timeout', 'SELECT pg_sleep(60)' ],
		[ 'timeout, planning', '{e} SELECT sleeps_planned() FROM {t}' ],
		[ 'timeout, EXPLAIN', '{e} EXPLAIN SELECT sleeps_planned() FROM {t}' ],
		[ 'timeout, FETCH', 'BEGIN', '{e} DECLARE c CURSOR FOR SELECT pg_sleep(60)', 'FETCH c' ],
		[ 'timeout, COPY', '{e} COPY (SELECT pg_sleep(60)) TO STDOUT' ],
		[ 'timeout, DO', '{e} DO $$ BEGIN PERFORM pg_sleep(60); END $$' ],
		[ 'timeout, CALL in SQL', '{e} CALL reads_by_call(sleeps_planned())' ]);
	my @held = (
		[ 'wait cut short', '{h} SELECT v FROM {t}' ],
		[ 'wait cut short in a block', 'BEGIN', '{h} SELECT v FROM {t}', 'ROLLBACK TO nosuch' ],
		[ 'wait cut short, EXECUTE', '{h} EXECUTE named' ],
		[ 'wait cut short, DECLARE', 'BEGIN', '{h} DECLARE c CURSOR FOR SELECT v FROM {t}' ],
		[ 'wait cut short, COPY', '{h} COPY (SELECT v FROM {t}) TO STDOUT' ],
		[ 'wait cut short, CALL', '{h} CALL reads_by_call(NULL)' ],
		[ 'wait cut short, planning', '{h} SELECT lies() FROM {t}' ],
		[ 'wait cut short, BEGIN', 'BEGIN ISOLATION LEVEL REPEATABLE READ', '{h} SELECT v FROM {t}' ]);

	return (
		_by_sql(\@cancelled),
		_timed(\@timed, { statement_timeout => q['2ms'] }, fails => qr/^57014/),
		_timed(\@held, { statement_timeout => q['2ms'], 'tcs.max_wait' => q['60s'] }, gated => 1));
}

sub _timed
{
	my ($rows, $settings, %more) = @_;

	return map {
		my ($name, @sql) = @$_;
		{ name => $name, slow => 1, run => sub { _with($_[0], $settings, @sql); }, %more };
	} @$rows;
}

# Over messages that SQL alone does not send.
sub _failures_of_the_protocol
{
	# no hint can be given to a function call
	my $eventual = 'BEGIN; SET LOCAL tcs.read_level = eventual';
	# which comes before the hint is known, so that it may be refused
	my $in_bind = qr/^(P0001|TC00\d|55000|)$/;
	my @table = (
		'function call fails' => 'P0001' => sub { $_[0]->simple($eventual)->call($_[1]{oid}{fails})->simple('ROLLBACK') },
		'function call catches' => '' => sub { $_[0]->simple($eventual)->call($_[1]{oid}{catches})->simple('ROLLBACK') },
		'function call, no such function' => undef() => sub { $_[0]->call(1) },
		'function call, parameters' => '08P01' => sub { $_[0]->simple($eventual)->call($_[1]{oid}{fails}, '1')->simple('ROLLBACK') },
		'function call in an aborted block' => '22012 25P02 3B001' => sub {
			$_[0]->simple('BEGIN; SELECT 1/0')->call($_[1]{oid}{reads})
			  ->simple('ROLLBACK TO nosuch')->simple('ROLLBACK');
		},
		'Parse' => '42601' => sub { $_[0]->parse('', 'SELEC')->bind('', '')->execute('')->sync },
		'Parse, named again' => '42P05' => sub { $_[0]->parse('named', 'SELECT 1')->sync },
		'Bind, parameter' => '22P02' => sub { $_[0]->extended('SELECT $1::int', 'x')->sync },
		'Bind, parameters' => '08P01' => sub { $_[0]->extended('SELECT $1::int', 1, 2)->sync },
		'Bind, no such statement' => '26000' => sub { $_[0]->bind('', 'nosuch')->execute('')->sync },
		'Bind, planning' => 'P0001' => sub { $_[0]->extended('{e} SELECT fails_planned($1::int) FROM {t}', 1)->sync },
		'Bind, a check fails' => $in_bind => sub { $_[0]->extended('{e} SELECT $1::refused IS NULL', 'x')->sync },
		'Bind, a check catches' => $in_bind => sub { $_[0]->extended('{e} SELECT $1::caught IS NULL', 'x')->sync },
		'Describe, statement' => '26000' => sub { $_[0]->describe('S', 'nosuch')->execute('')->sync },
		'Describe, portal' => '34000' => sub { $_[0]->parse('', 'SELECT 1')->describe('P', 'nosuch')->execute('')->sync },
		'Execute, no such portal' => '34000' => sub { $_[0]->execute('nosuch')->sync },
		'Execute, skipped to Sync' => '22012' => sub {
			$_[0]->extended('{e} SELECT 1 / (a - a) FROM {t}')->extended('{h} SELECT v FROM {t}')->extended('ROLLBACK TO nosuch')->sync;
		},
		'Execute, the second' => '22012' => sub {
			$_[0]->extended('{e} SELECT v FROM {t}')->extended('{e} SELECT 1 / (a - a) FROM {t}')->sync;
		},
		'portal fails half-way' => 'P0001' => sub {
			$_[0]->parse('', '{e} SELECT row_of(g) FROM {t}, generate_series(1, 9) g')->bind('p', '');
			$_[0]->execute('p', 2)->execute('p', 2)->execute('p', 2)->close_object('P', 'p')->sync;
		},
		'portal fails, and is run again' => 'P0001 55000 3B001' => sub {
			$_[0]->simple('BEGIN; SAVEPOINT a')->parse('', '{e} SELECT row_of(g) FROM {t}, generate_series(1, 9) g')->bind('p', '');
			$_[0]->simple('SAVEPOINT b')->execute('p', 9)->sync->simple('ROLLBACK TO b')->execute('p', 9)->sync
			  ->simple('ROLLBACK TO nosuch')->simple('ROLLBACK');
		},
		'portal is left suspended' => '' => sub {
			$_[0]->parse('', '{e} SELECT v FROM {t}, generate_series(1, 9)')->bind('p', '')->execute('p', 2)->sync;
		},
		'BEGIN and an error in a pipeline' => '22012 3B001' => sub {
			$_[0]->extended('BEGIN')->extended('SELECT 1/0')->extended('COMMIT')->sync->extended('ROLLBACK TO nosuch')->sync->simple('ROLLBACK');
		},
		'SAVEPOINT in a pipeline' => '25P01' => sub { $_[0]->extended('{e} SELECT v FROM {t}')->extended('SAVEPOINT a')->sync },
		'Close in an aborted block' => '22012 3B001' => sub {
			$_[0]->extended('BEGIN')->extended('SELECT 1/0')->sync->close_object('S', '')->close_object('P', '')->extended('ROLLBACK TO nosuch')->sync
			  ->close_object('P', 'nosuch')->extended('ROLLBACK')->sync;
		});
	my @ways;

	while (my ($name, $fails, $send) = splice(@table, 0, 3))
	{
		push @ways, { name => $name, fails => $fails, run => _sender($send) };
	}
	return @ways;
}

# Queues messages by the code, with what is in braces replaced, and reads all
# answers.
sub _sender
{
	my ($send) = @_;

	return sub {
		my ($s) = @_;
		my $c = $s->{c};
		my @results;

		$send->($c, $s);
		$c->{out} = _fill_messages($s, $c->{out}, \my $ready);
		push @results, $c->results foreach (1 .. $ready);
		return @results;
	};
}

# The text of messages may get longer by filling it; counts those that are answered
# by ReadyForQuery.
sub _fill_messages
{
	my ($s, $in, $ready) = @_;
	my $out = '';

	$$ready = 0;
	while (length $in)
	{
		my ($type, $length) = unpack('aN', $in);
		my $body = substr($in, 5, $length - 4);

		substr($in, 0, $length + 1, '');
		$body = fill($s, $body) if $type eq 'Q' || $type eq 'P';
		$out .= $type . pack('N', length($body) + 4) . $body;
		$$ready++ if $type =~ /[QSF]/;
	}
	return $out;
}

# COPY FROM, by the client's or the server's fault.
sub _failures_of_copy
{
	my @table = (
		'COPY FROM, client fails' => '57014' => sub { $_[0]->simple('COPY w FROM STDIN')->copy_data("1\n")->copy_fail('no') },
		'COPY FROM, row' => '22P02' => sub { $_[0]->simple('COPY w FROM STDIN')->copy_data("1\nx\n")->copy_done },
		'COPY FROM, trigger' => 'P0001' => sub { $_[0]->simple('COPY d (a) FROM STDIN')->copy_data("1\n")->copy_done },
		'COPY FROM, extended' => '22P02' => sub { $_[0]->extended('COPY w FROM STDIN')->copy_data("x\n")->copy_done->sync });
	my @ways;

	while (my ($name, $fails, $send) = splice(@table, 0, 3))
	{
		push @ways, { name => $name, fails => $fails, on => 'primary', run => _sender($send) };
	}
	return @ways;
}

# Those that leave something behind if they come in one pipeline.
sub _failures_of_prepared_transactions
{
	my @prepare = ('BEGIN', '{e} INSERT INTO w VALUES (1)', q[PREPARE TRANSACTION 'y']);
	my @table = (
		[ 'PREPARE TRANSACTION twice', '42710', @prepare, @prepare, q[ROLLBACK PREPARED 'y'] ],
		[
			'COMMIT PREPARED, level', '55000',
			@prepare, 'SET tcs.write_level = quorum', q[COMMIT PREPARED 'y'],
			'RESET tcs.write_level', q[ROLLBACK PREPARED 'y']
		],
		[ 'COMMIT PREPARED, twice', '42704', @prepare, q[COMMIT PREPARED 'y'], q[COMMIT PREPARED 'y'] ]);

	return map {
		my ($name, $fails, @sql) = @$_;
		{ name => $name, fails => $fails, on => 'primary', run => sub { _all($_[0], @sql); } };
	} @table;
}

# Those that take a second session.
sub _failures_by_others
{
	return (
		{
			name => 'lock_timeout',
			fails => '55P03',
			slow => 1,
			run => sub {
				my ($s) = @_;
				$s->{other}->ok_query('SELECT pg_advisory_lock(7)');
				my @results = _with($s, { lock_timeout => q['1ms'] }, '{e} SELECT pg_advisory_lock(7) FROM {t}');
				$s->{other}->ok_query('SELECT pg_advisory_unlock(7)');
				return @results;
			}
		},
		{
			name => 'serialization at COMMIT',
			fails => '40001',
			on => 'primary',
			slow => 1,
			run => sub {
				my ($s) = @_;
				my @begin = ('BEGIN ISOLATION LEVEL SERIALIZABLE', '{e} SELECT count(*) FROM w', '{e} INSERT INTO w VALUES (2)');
				$s->{other}->ok_query(fill($s, $_)) foreach @begin;
				my @results = _all($s, @begin);
				$s->{other}->ok_query('COMMIT');
				return (@results, _all($s, 'COMMIT'));
			}
		});
}

sub failures
{
	return (
		_by_sql([ _failures_outside_blocks(), _failures_of_utilities() ]),
		_by_sql([ _failures_in_aborted_blocks(), _failures_in_blocks() ]),
		_by_sql([ _failures_that_stay_inside() ], inside => 1),
		_by_sql([ _failures_of_the_gate() ], gated => 1),
		_by_sql([ _failures_of_writes() ], on => 'primary'),
		_failures_of_the_protocol(),
		_failures_of_copy(),
		_failures_of_prepared_transactions(),
		_failures_by_time(),
		_failures_by_others());
}

1;
