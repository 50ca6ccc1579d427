# test/t/100_gate_paths.pl
#
# Every way in which a client can read passes the gate.  For each of them, on a
# standby whose replay stands still behind a write: at eventual the old row is
# read (so the path can be stale, and the gate is what decides); with the token
# of the write the statement waits, and shows the new row when replay goes on;
# the same at strong without a token.  Once more with tcs.enabled = off: the
# token is there, and the old row is read on every path.  What reads nothing
# that can be stale answers at once, also where freshness cannot be had; what
# only looks harmless does not.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;
use TcsWrites;

my ($primary, $standby) = new_pair();
my $version = server_version($primary);
my $writer = TcsWire->new($primary);
my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

# t has the number of the last write, log a row for each of them.
$writer->ok_query(
	q{
CREATE TABLE t (a int PRIMARY KEY, v int);
CREATE TABLE log (n int);
CREATE TABLE wide (a int, v int);
INSERT INTO t VALUES (1, 0);
INSERT INTO wide SELECT g, 0 FROM generate_series(1, 3000) g;
ANALYZE;
CREATE VIEW t_view AS SELECT v FROM t;
CREATE FUNCTION f_volatile() RETURNS int LANGUAGE plpgsql VOLATILE
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_stable() RETURNS int LANGUAGE plpgsql STABLE
	AS 'BEGIN RETURN (SELECT v FROM t); END';
-- a lie, and a common one
CREATE FUNCTION f_immutable() RETURNS int LANGUAGE plpgsql IMMUTABLE
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_inlined() RETURNS int LANGUAGE sql STABLE
	AS 'SELECT v FROM t';
CREATE FUNCTION f_wrapped() RETURNS int LANGUAGE sql STABLE
	AS 'SELECT f_immutable()';
CREATE FUNCTION f_wrapped_rows() RETURNS SETOF int LANGUAGE sql STABLE
	AS 'SELECT f_immutable()';
CREATE TYPE mood AS ENUM ('fine');
CREATE DOMAIN looked_up AS text CHECK (f_volatile() > 0);
CREATE FUNCTION f_rows() RETURNS SETOF int LANGUAGE plpgsql
	AS 'BEGIN RETURN QUERY SELECT v FROM t; END';
CREATE FUNCTION f_weaker() RETURNS int LANGUAGE plpgsql
	SET tcs.read_level = 'eventual'
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_strong() RETURNS int LANGUAGE plpgsql
	SET tcs.read_level = 'strong'
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_set_weaker() RETURNS int LANGUAGE plpgsql
	AS $$BEGIN
		PERFORM set_config('tcs.read_level', 'eventual', true);
		RETURN (SELECT v FROM t);
	END$$;
CREATE FUNCTION f_set_token(token text) RETURNS int LANGUAGE plpgsql
	AS $$BEGIN
		PERFORM set_config('tcs.session_token', token, false);
		RETURN (SELECT v FROM t);
	END$$;
CREATE FUNCTION f_set_level(level text) RETURNS int LANGUAGE plpgsql
	AS $$BEGIN
		PERFORM set_config('tcs.read_level', level, false);
		RETURN (SELECT v FROM t);
	END$$;
CREATE PROCEDURE p_read(INOUT result int) LANGUAGE plpgsql
	AS 'BEGIN result := (SELECT v FROM t); END';
});

my $lo = $writer->ok_query(q{SELECT lo_from_bytea(0, '00000')});

my $v = 0;

# The next write.
my $write_next = counted_write(\$v, sprintf
	q{UPDATE t SET v = %%1$d; INSERT INTO log VALUES (%%1$d);
		UPDATE wide SET v = %%1$d WHERE a = 1;
		COMMENT ON TABLE log IS '%%1$d'; SELECT lo_put(%s, 0, '%%1$05d')}, $lo);

# A path:
#   name
#   setup     SQL, once, at eventual
#   begin     SQL or code, before level and token are set, at eventual
#   read      SQL, or code that queues messages; gets the client and the list
#             of settings
#   own       read brings the settings itself
#   pipelined begin has left a pipeline open
#   ready     how many ReadyForQuery end the read (1)
#   value     code that finds the number in the results; else all columns of
#             all results that have rows, each value once
#   end       SQL afterwards
my $generic = 'SET plan_cache_mode = force_generic_plan;';
my @paths = (
	{ name => 'simple protocol', read => 'SELECT v FROM t' },
	{
		name => 'view, subquery, CTE',
		read =>
		  'WITH c AS (SELECT v FROM t_view) SELECT v, (SELECT v FROM t) FROM c'
	},
	{ name => 'VALUES', read => 'VALUES ((SELECT v FROM t))' },
	{
		name => 'second statement of a string',
		read => q{SELECT pg_backend_pid() < 0; SELECT v FROM t},
		value => sub { TcsWire::rows_text($_[1]) }
	},
	{
		name => 'all statements of a string',
		read => 'SELECT v FROM t; TABLE t_view; SELECT v FROM t'
	},
	{
		name => 'settings and statement in one string',
		own => 1,
		read => sub {
			my ($c, @set) = @_;
			$c->simple(join('; ', @set, 'SELECT v FROM t'));
		}
	},
	{
		name => 'extended protocol with a parameter',
		read => sub {
			$_[0]->parse('', 'SELECT v FROM t WHERE a = $1::int')
			  ->bind('', '', 1)->describe('P', '')->execute('')->sync;
		}
	},
	{
		name => 'pipeline with Sync between',
		own => 1,
		ready => 4,
		read => sub {
			my ($c, @set) = @_;
			$c->extended($_)->sync foreach (@set, 'SELECT v FROM t');
		}
	},
	{
		name => 'pipeline without Sync between',
		own => 1,
		read => sub {
			my ($c, @set) = @_;
			$c->extended($_) foreach (@set, 'SELECT v FROM t');
			$c->sync;
		}
	},
	{
		name => 'two reads in a pipeline',
		read => sub {
			$_[0]->extended('SELECT v FROM t')->extended('SELECT v FROM t')->sync;
		}
	},
	{
		name => 'named statement on a generic plan, seventh time',
		setup => $generic,
		begin => sub {
			my ($c) = @_;
			$c->parse('s', 'SELECT v FROM t WHERE a = $1');
			$c->bind('', 's', 1)->execute('')->sync foreach (1 .. 6);
			$c->results foreach (1 .. 6);
			is( $c->ok_query(
					'SELECT generic_plans FROM pg_prepared_statements'),
				'6',
				'the plan is generic');
		},
		read => sub { $_[0]->bind('', 's', 1)->execute('')->sync; },
		end => 'DEALLOCATE ALL'
	},
	{
		name => 'named statement without parameters',
		begin => sub {
			my ($c) = @_;
			$c->parse('s', 'SELECT v FROM t')->bind('', 's')->execute('')->sync;
			$c->results;
		},
		read => sub { $_[0]->bind('', 's')->execute('')->sync; },
		end => 'DEALLOCATE ALL'
	},
	{
		name => 'EXECUTE',
		setup => 'PREPARE s(int) AS SELECT v FROM t WHERE a = $1',
		read => 'EXECUTE s(1)'
	},
	{
		name => 'EXECUTE on a generic plan',
		setup => "$generic PREPARE s(int) AS SELECT v FROM t WHERE a = \$1;"
		  . 'EXECUTE s(1)',
		read => 'EXECUTE s(1)'
	},
	{
		name => 'EXECUTE in the extended protocol, five rows at a time',
		setup => 'PREPARE s AS SELECT v FROM t, generate_series(1, 12)',
		read => sub {
			my ($c) = @_;
			$c->parse('', 'EXECUTE s')->bind('p', '');
			$c->execute('p', 5) foreach (1 .. 3);
			$c->sync;
		}
	},
	{
		name => 'block in one string',
		read => 'BEGIN; SELECT v FROM t; COMMIT'
	},
	{
		name => 'REPEATABLE READ block in one string',
		read => 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT v FROM t; COMMIT'
	},
	{
		name => 'block in a pipeline',
		read => sub {
			$_[0]->extended('BEGIN')->extended('SELECT v FROM t')
			  ->extended('COMMIT')->sync;
		}
	},
	{
		name => 'REPEATABLE READ block in a pipeline',
		read => sub {
			$_[0]->extended('BEGIN ISOLATION LEVEL REPEATABLE READ')
			  ->extended('SELECT v FROM t')->extended('COMMIT')->sync;
		}
	},
	{
		name => 'inside a block',
		begin => 'BEGIN',
		read => 'SELECT v FROM t',
		end => 'COMMIT'
	},
	{
		name => 'inside a block that has read',
		begin => 'BEGIN; SELECT v FROM t',
		read => 'SELECT v FROM t',
		end => 'COMMIT'
	},
	{
		name => 'cursor',
		begin => 'BEGIN',
		read => 'DECLARE c CURSOR FOR SELECT v FROM t; FETCH ALL FROM c',
		end => 'COMMIT'
	},
	{
		name => 'SCROLL cursor',
		begin => 'BEGIN',
		read => 'DECLARE c SCROLL CURSOR FOR SELECT v FROM t, generate_series(1, 9);'
		  . 'FETCH LAST FROM c; FETCH PRIOR FROM c; FETCH BACKWARD 3 FROM c;'
		  . 'FETCH FIRST FROM c',
		end => 'COMMIT'
	},
	{
		name => 'cursor fetched in chunks',
		begin => 'BEGIN',
		ready => 4,
		read => sub {
			my ($c) = @_;
			$c->simple(
				'DECLARE c CURSOR FOR SELECT v FROM t, generate_series(1, 12)');
			$c->simple('FETCH 5 FROM c') foreach (1 .. 3);
		},
		end => 'COMMIT'
	},
	{
		name => 'WITH HOLD cursor without a block',
		ready => 2,
		read => sub {
			$_[0]->simple('DECLARE c CURSOR WITH HOLD FOR SELECT v FROM t')
			  ->simple('FETCH ALL FROM c');
		},
		end => 'CLOSE c'
	},
	{
		name => 'WITH HOLD cursor read after its block',
		begin => 'BEGIN',
		read =>
		  'DECLARE c CURSOR WITH HOLD FOR SELECT v FROM t; COMMIT; FETCH ALL FROM c',
		end => 'CLOSE c'
	},
	{
		name => 'DECLARE in the extended protocol',
		begin => 'BEGIN',
		read => sub {
			$_[0]->extended('DECLARE c CURSOR FOR SELECT v FROM t')
			  ->extended('FETCH ALL FROM c')->sync;
		},
		end => 'COMMIT'
	},
	{
		name => 'portal read five rows at a time',
		read => sub {
			my ($c) = @_;
			$c->parse('', 'SELECT v FROM t, generate_series(1, $1::int)')
			  ->bind('p', '', 12);
			$c->execute('p', 5) foreach (1 .. 3);
			$c->sync;
		}
	},
	{
		name => 'second portal beside a suspended one',
		begin => sub {
			my ($c) = @_;
			$c->parse('', 'SELECT -1 FROM t, generate_series(1, 12)')
			  ->bind('p1', '')->execute('p1', 5)->ask;
			my ($part) = $c->results(1);
			ok($part->{suspended}, 'a portal is suspended');
		},
		pipelined => 1,
		read => sub {
			$_[0]->parse('', 'SELECT v FROM t')->bind('p2', '')->execute('p2')
			  ->execute('p1')->sync;
		},
		value => sub { TcsWire::rows_text($_[0]) }
	},
	{
		name => 'two portals bound before either is read',
		read => sub {
			$_[0]->parse('s1', 'SELECT v FROM t')
			  ->parse('s2', 'SELECT v FROM t_view')->bind('p1', 's1')
			  ->bind('p2', 's2')->execute('p2')->execute('p1')->sync;
		},
		end => 'DEALLOCATE ALL'
	},
	{
		name => 'EXPLAIN ANALYZE',
		read => 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON)'
		  . ' SELECT n FROM log',
		value => \&actual_rows
	},
	{
		name => 'EXPLAIN ANALYZE in the extended protocol',
		read => sub {
			$_[0]->extended('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON)'
				  . ' SELECT n FROM log')->sync;
		},
		value => \&actual_rows
	},
	{
		name => 'EXPLAIN ANALYZE EXECUTE',
		setup => 'PREPARE s AS SELECT n FROM log',
		read =>
		  'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) EXECUTE s',
		value => \&actual_rows
	},
	{
		name => 'EXPLAIN ANALYZE of DECLARE',
		read => 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON)'
		  . ' DECLARE c CURSOR FOR SELECT n FROM log',
		value => \&actual_rows
	},
	{
		name => 'COPY of a table',
		read => 'COPY t (v) TO STDOUT',
		value => \&copied
	},
	{
		name => 'COPY of a query',
		read => 'COPY (SELECT v FROM t) TO STDOUT',
		value => \&copied
	},
	{
		name => 'COPY in the extended protocol',
		read => sub { $_[0]->extended('COPY t (v) TO STDOUT')->sync },
		value => \&copied
	},
	{ name => 'CALL', read => 'CALL p_read(0)' },
	{
		name => 'CALL in the extended protocol',
		read => sub { $_[0]->extended('CALL p_read($1)', 0)->sync }
	},
	{
		name => 'DO',
		read => q{DO 'BEGIN RAISE NOTICE ''%'', (SELECT v FROM t); END'},
		value => \&noticed
	},
	{ name => 'volatile function', read => 'SELECT f_volatile()' },
	{ name => 'stable function', read => 'SELECT f_stable()' },
	{ name => 'immutable function', read => 'SELECT f_immutable()' },
	{
		name => 'immutable function in the extended protocol',
		read => sub {
			$_[0]->extended('SELECT f_immutable() WHERE $1::int = 1', 1)->sync;
		}
	},
	{
		name => 'immutable function in a block',
		begin => 'BEGIN',
		read => 'SELECT f_immutable()',
		end => 'COMMIT'
	},
	{
		name => 'immutable function under COPY',
		read => 'COPY (SELECT f_immutable()) TO STDOUT',
		value => \&copied
	},
	{
		name => 'immutable function under EXPLAIN ANALYZE',
		read => 'EXPLAIN (ANALYZE, VERBOSE, COSTS OFF, TIMING OFF)'
		  . ' SELECT f_immutable()',
		value =>
		  sub { TcsWire::rows_text($_[0]) =~ /Output: (\d+)/ ? $1 : 'nothing' }
	},
	{
		name => 'immutable function under EXECUTE',
		setup => 'PREPARE s AS SELECT f_immutable()',
		read => 'EXECUTE s',
		# its plan keeps what the function returned, as it does on a primary
		end => 'DISCARD PLANS'
	},
	{ name => 'inlined function', read => 'SELECT f_inlined()' },
	# which the planner calls for its estimates, long before the gate
	{
		name => 'stable function in a condition',
		read => 'SELECT max(n) FROM log WHERE n <= f_stable()'
	},
	{
		name => 'stable function in a condition, extended protocol',
		read => sub {
			$_[0]->extended(
				'SELECT max(n) FROM log WHERE n <= f_stable() AND n > $1', 0)
			  ->sync;
		}
	},
	{
		name => 'immutable function in an inlined one',
		read => 'SELECT f_wrapped()'
	},
	{
		name => 'immutable function in an inlined one in FROM',
		read => 'SELECT * FROM f_wrapped_rows()'
	},
	{ name => 'function in FROM', read => 'SELECT * FROM f_rows()' },
	{ name => 'function with a weaker level', read => 'SELECT f_weaker()' },
	{
		name => 'function that sets a weaker level',
		begin => 'BEGIN',
		read => 'SELECT f_set_weaker()',
		end => 'COMMIT'
	},
	{
		name => 'parallel plan',
		setup => 'SET min_parallel_table_scan_size = 0;'
		  . 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;'
		  . ($version >= 16
			? 'SET debug_parallel_query = on;'
			: 'SET force_parallel_mode = on;'),
		begin => sub {
			my ($c) = @_;
			like(
				$c->ok_query('EXPLAIN SELECT sum(v) FROM wide'),
				qr/Gather.*Parallel Seq Scan/s,
				'the plan is parallel');
		},
		read => 'SELECT sum(v) FROM wide'
	},
	{
		name => 'function call message',
		read => sub { $_[0]->call(oid_of('f_volatile()')) }
	},
	{
		name => 'large object by a function call message',
		read => sub { $_[0]->call(oid_of('lo_get(oid)'), $lo) },
		value => \&from_bytea
	},
	{
		name => 'large object',
		read => "SELECT lo_get($lo)",
		value => \&from_bytea
	},
	{
		name => 'catalog',
		read =>
		  q{SELECT description FROM pg_description WHERE objoid = 'log'::regclass}
	},
	{
		name => 'catalog through a function',
		read => q{SELECT obj_description('log'::regclass, 'pg_class')}
	},
	{
		name => 'query as an argument of ts_stat',
		read =>
		  q{SELECT word FROM ts_stat($$SELECT to_tsvector('simple', v::text) FROM t$$)}
	},
	{
		name => 'query as an argument of query_to_xml',
		skip => !xml_is_there(),
		read => q{SELECT query_to_xml('SELECT v FROM t', true, true, '')},
		value => sub { TcsWire::rows_text($_[0]) =~ m{<v>(\d+)</v>} ? $1 : 'nothing' }
	},
	{
		name => 'table as an argument of table_to_xml',
		skip => !xml_is_there(),
		read => q{SELECT table_to_xml('t', true, true, '')},
		value => sub { TcsWire::rows_text($_[0]) =~ m{<v>(\d+)</v>} ? $1 : 'nothing' }
	});

sub xml_is_there
{
	my ($result) = $writer->query(q{SELECT '<a/>'::xml});

	return $result->{state} eq '00000';
}

my %oids;

sub oid_of
{
	my ($function) = @_;

	return $oids{$function} //=
	  $writer->ok_query("SELECT '$function'::regprocedure::oid");
}

sub actual_rows
{
	return TcsWire::rows_text($_[0]) =~ /"Actual Rows": (\d+)/ ? $1 : 'nothing';
}

sub copied { my ($result) = @_; return join('', $result->{copy} =~ /(\d+)\n/g); }

sub from_bytea
{
	return pack('H*', substr(TcsWire::rows_text($_[0]), 2)) + 0;
}

# Set by read_path, for noticed().
my $client;

sub noticed { my @notices = $client->notices; return $notices[-1]{M} // 'nothing'; }

# The columns of all rows of all results, each value once.
sub all_values
{
	my %seen;

	foreach my $result (@_)
	{
		$seen{ $_ // 'null' } = 1 foreach map { @$_ } @{ $result->{rows} };
	}
	return join(',', sort keys %seen);
}

sub settings
{
	my ($level, $token) = @_;

	return ('SET tcs.max_wait = -1',
		"SET tcs.read_level = '$level'",
		"SET tcs.session_token = '$token'");
}

# Up to the read, which has been sent when this returns.
sub start_path
{
	my ($path, $c, @set) = @_;
	my $begin = $path->{begin};

	$c->ok_query('RESET ALL') if $c->status ne 'I';
	$c->ok_query(q{SET tcs.read_level = 'eventual'});
	ref $begin ? $begin->($c) : $c->ok_query($begin) if $begin;
	if (!$path->{own} && $path->{pipelined})
	{
		$c->extended($_) foreach @set;
		$c->ask;
		$c->results(scalar @set);
	}
	elsif (!$path->{own})
	{
		$c->ok_query(join('; ', @set));
	}
	ref $path->{read} ? $path->{read}->($c, @set) : $c->simple($path->{read});
	$c->flush;
	return;
}

# The number that was read, or the error.
sub end_path
{
	my ($path, $c) = @_;
	my @results;
	my ($value) = ('nothing');

	push @results, $c->results foreach (1 .. $path->{ready} // 1);
	$client = $c;
	my ($failed) = grep { $_->{state} ne '00000' } @results;

	if ($failed)
	{
		$value = TcsWire::describe_result($failed);
	}
	else
	{
		$value = $path->{value} ? $path->{value}->(@results) : all_values(@results);
	}
	if ($failed && $c->status ne 'I')
	{
		$c->ok_query('ROLLBACK');
	}
	elsif ($path->{end})
	{
		$c->ok_query($path->{end});
	}
	return $value;
}

sub connect_for
{
	my ($path) = @_;
	my $c = TcsWire->new($standby);

	$c->ok_query(q{SET tcs.read_level = 'eventual'});
	$c->ok_query($path->{setup}) if $path->{setup};
	return $c;
}

$write_next->($writer);
wait_for_replay($primary, $standby);
wait_for_answer($standby);

foreach my $path (@paths)
{
	my $name = $path->{name};

  SKIP:
	{
		skip "$name: not in this build", 1 if $path->{skip};

		my $c = connect_for($path);
		my $token;

		$look->stop_replay;
		$token = $write_next->($writer);
		start_path($path, $c, settings('eventual', $token));
		is(end_path($path, $c), $v - 1, "$name: eventual reads what is there");

		start_path($path, $c, settings('session', $token));
		$look->wait_until_held($c);
		$look->go_on;
		is(end_path($path, $c), $v, "$name: the token's write is read");

		$look->stop_replay;
		$write_next->($writer);
		start_path($path, $c, settings('strong', ''));
		$look->wait_until_held($c);
		$look->go_on;
		is(end_path($path, $c), $v, "$name: strong reads what is acknowledged");
		$c->disconnect;
	}
}


##
## Functions that ask for more than the statement that calls them
##

my $c = TcsWire->new($standby);
my ($result, $token);

wait_for_replay($primary, $standby);
($result) = $c->query('SELECT f_strong()');
is($result->{state}, '55000', 'a function at strong below a session read');
($result) = $c->query(q{SELECT f_set_level('strong')});
is($result->{state}, '55000', 'a function that sets strong');
is($c->ok_query('SHOW tcs.read_level'),
	'session', 'an error takes back what the function has set');

$look->stop_replay;
$token = $write_next->($writer);
($result) = $c->query("SELECT f_set_token('$token')");
is($result->{state}, '55000', 'a function that sets a token which is ahead');
is($c->ok_query('SELECT v FROM t'), $v - 1, 'nothing of it stays');
$look->go_on;
wait_for_replay($primary, $standby);

# fine where it asks for no more than what its caller was granted
is( $c->ok_query("SET tcs.session_token = '$token'; SELECT f_set_token('$token')"),
	$v, 'a function that sets the token of its caller');
$c->ok_query(q{SET tcs.session_token = ''; SET tcs.read_level = 'strong'});
is($c->ok_query(q{SELECT f_set_level('session')}),
	$v, 'a function that sets a weaker level');
is($c->ok_query('SHOW tcs.read_level'),
	'session', 'which stays, as any setting does');
$c->ok_query(q{SET tcs.read_level = 'strong'});
is($c->ok_query('SELECT f_strong()'), $v, 'a strong function in a strong read');
$c->ok_query('RESET ALL');


##
## Statements that never wait, and some that only look as if
##

$look->stop_replay;
$token = $write_next->($writer);

# The error of a statement, '' without one.
sub failure
{
	my ($sql) = @_;
	my ($failed) = grep { $_->{state} ne '00000' } $look->unheld($c, $sql);

	return $failed ? TcsWire::describe_result($failed) : '';
}

my @exempt = (
	'SELECT 1',
	'SELECT',
	'SELECT now(), version(), 2 + 2, upper(\'a\'), current_user',
	'SELECT pg_is_in_recovery()',
	'SELECT pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp()',
	'SELECT pg_get_wal_replay_pause_state()',
	'SELECT count(*) FROM pg_stat_activity',
	'SELECT pid, wait_event FROM pg_stat_activity WHERE pid = pg_backend_pid()',
	'SELECT status FROM pg_stat_wal_receiver',
	'SELECT count(*) FROM pg_stat_get_activity(NULL)',
	'SELECT count(*) FROM pg_locks',
	q{SELECT setting FROM pg_settings WHERE name = 'tcs.read_level'},
	q{SELECT current_setting('tcs.read_level')},
	q{SELECT set_config('tcs.max_wait', '-1', false)},
	'SELECT role, replay_state FROM tcs.status()',
	q{SELECT tcs.can_serve('strong')},
	'SELECT * FROM tcs.last_read()',
	'SELECT count(*) FROM tcs.stat_reads',
	'SELECT tcs.session_token() IS NULL',
	'SHOW tcs.session_token',
	'BEGIN; SELECT 1; COMMIT',
	'EXPLAIN SELECT v FROM t');

foreach my $level ('strong', 'bounded', 'session')
{
	# BEGIN is for the token; the levels that ask the primary do without
	my $with = $level eq 'session' ? $token : '';

	$c->ok_query(join('; ', settings($level, $with)));
	$c->ok_query(q{SET tcs.max_staleness = 0}) if $level eq 'bounded';
	foreach my $sql (@exempt)
	{
		next if $with ne '' && $sql =~ /^BEGIN/;
		is(failure($sql), '', "$level: never held: $sql");
	}
}

# The same in the extended protocol, and on a generic plan.
$c->ok_query(join('; ', "SET plan_cache_mode = 'force_generic_plan'",
		settings('strong', '')));
$c->parse('s', 'SELECT pg_is_in_recovery()');
$c->bind('', 's')->execute('') foreach (1 .. 3);
my @results = $c->sync->results;
is(join(',', map { TcsWire::describe_result($_) } @results),
	't,t,t', 'never held: a health check that is prepared');

# With no patience, what reads is refused.
my @gated = (
	'SELECT v FROM t',
	'SELECT FROM t',
	'SELECT 1 WHERE EXISTS (SELECT FROM t)',
	'SELECT count(*) FROM pg_class',
	q{SELECT has_table_privilege('t', 'SELECT')},
	q{SELECT pg_get_viewdef('t_view'::regclass)},
	q{SELECT 't'::regclass::text},
	q{SELECT to_regclass('t')},
	'SELECT count(*) FROM pg_stat_user_tables',
	'SELECT count(*) FROM information_schema.tables',
	'SELECT count(*) FROM pg_stat_activity, t',
	'SELECT (SELECT v FROM t) FROM tcs.status()',
	'SELECT 1 UNION ALL SELECT v FROM t',
	'VALUES ((SELECT v FROM t))',
	'WITH c AS (SELECT v FROM t) SELECT 1',
	'SELECT FROM (SELECT FROM pg_stat_activity, t OFFSET 0) s',
	'SELECT FROM pg_stat_activity, LATERAL (SELECT v FROM t OFFSET 0) l',
	'SELECT count(*) FROM pg_stat_get_activity((SELECT v FROM t))',
	"SELECT '1'::looked_up",
	"SELECT 1 WHERE '1'::looked_up IS NOT NULL",
	"SELECT v FROM (VALUES ('1'::looked_up)) l(v)",
	'SELECT f_volatile()',
	'SELECT 1 ORDER BY f_volatile()',
	'SELECT 1 LIMIT f_volatile()',
	'SELECT FROM generate_series(1, f_volatile())',
	'SELECT count(*) FROM pg_stat_activity WHERE pid = f_volatile()',
	q{SELECT * FROM ts_stat('SELECT to_tsvector(v::text) FROM t')},
	q{SELECT query_to_xml('SELECT v FROM t', true, true, '')},
	q{SELECT schema_to_xml('public', true, true, '')},
	"SELECT lo_get($lo)",
	"SELECT pg_relation_size('log')",
	q{DO 'BEGIN END'},
	'CALL p_read(0)',
	'EXPLAIN (ANALYZE) SELECT v FROM t',
	'COPY t TO STDOUT');

$c->ok_query(join('; ', settings('session', $token), 'SET tcs.max_wait = 0'));
foreach my $sql (@gated)
{
	($result) = $c->query($sql);
	is($result->{state}, 'TC001', "held: $sql");
}

# Some values are shown by a name that is read from a catalog, when the row is
# sent: after all planning.
foreach my $expression (
	"'log'::regclass", oid_of('f_volatile()') . '::regprocedure',
	"ARRAY['log'::regclass]", "ROW('log'::regclass)",
	"'fine'::mood")
{
	($result) = $c->query("SELECT $expression");
	is($result->{state}, 'TC001', "held: SELECT $expression");
}


##
## Without the gate
##

# The token stays ahead; it only has nobody who minds.
$c->disconnect;
$standby->append_conf('postgresql.conf', 'tcs.enabled = off');
$standby->reload;
$standby->poll_query_until('postgres',
	q{SELECT current_setting('tcs.enabled') = 'off'})
  or die 'tcs was not switched off';

foreach my $path (@paths)
{
	my $name = $path->{name};

	next if $path->{skip};
	$c = connect_for($path);
	start_path($path, $c, settings('session', $token));
	is(end_path($path, $c), $v - 1, "$name: stale with the gate taken out");
	$c->disconnect;
}
$look->go_on;

$_->disconnect foreach ($writer, $look);
done_testing();
