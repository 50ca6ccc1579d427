# test/perl/TcsPaths.pm
#
# Every way in which a client can read, as a table, and how one of them is gone.
# Table t has the number of the last write in column v, log a row for each of them
# (see 100_gate_paths.pl, which makes what the paths read).
#
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

package TcsPaths;

use strict;
use warnings;

use Exporter 'import';

use Test::More;

use TcsWire;

our @EXPORT = qw(gate_paths oid_of settings start_path end_path connect_for);

my ($writer, $lo, $version);

# All paths.  The first is a client of the primary, the second the number of a large object that
# has the last write, the third the version of the server.
sub gate_paths
{
	($writer, $lo, $version) = @_;

	my $generic = 'SET plan_cache_mode = force_generic_plan;';
	return (
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
}

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

# The client of the last end_path, for noticed().
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

# Statements that set level and token, and let reads wait for ever.
sub settings
{
	my ($level, $token) = @_;

	return ('SET tcs.max_wait = -1',
		"SET tcs.read_level = '$level'",
		"SET tcs.session_token = '$token'");
}

# All up to the read, which has been sent when this returns.  Does not wait for its
# answer.
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

# Waits for the end of the read, and returns the number that was read, or the error.
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

# A client of the standby, at eventual, that is set up for the path.
sub connect_for
{
	my ($path, $standby) = @_;
	my $c = TcsWire->new($standby);

	$c->ok_query(q{SET tcs.read_level = 'eventual'});
	$c->ok_query($path->{setup}) if $path->{setup};
	return $c;
}

1;
