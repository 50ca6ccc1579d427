# test/bench/bench.pl
#
# The measurements of the benchmark, run by test/bench/run as an unprivileged
# user.  See README.md for what each section measures and how.
#
# Two pairs of primary and standby with the same data: one with the library
# (primary, standby), one without (bare_primary, bare_standby).  Variants of one
# measurement run in turns, round after round; what is printed is the median of
# the rounds, and a ratio is the median of the rounds' ratios.

use strict;
use warnings;

use IPC::Open2;
use List::Util qw(max min);
use POSIX qw(:sys_wait_h setsid);
use Time::HiRes qw(sleep time);

$| = 1;

my ($scratch, $bin, $client) = @ARGV;
my $quick = $ENV{QUICK} ? 1 : 0;
my %wanted = map { $_ => 1 } split ' ', ($ENV{SECTIONS} || '1 2 3 4');
my $rounds = $quick ? 3 : 5;
my $seconds = $quick ? 0.5 : 1;

my %port = (
	primary => 5701,
	standby => 5702,
	bare_primary => 5711,
	bare_standby => 5712);
my $data = "$scratch/bench";
my $major;
my @misses;
my @results;


##
## Servers
##

sub run
{
	my (@command) = @_;

	system(@command) == 0 or die "bench: failed: @command\n";
}

sub server
{
	my ($node, $action) = @_;

	run("$bin/pg_ctl", '-s', '-D', "$data/$node", '-l', "$scratch/log/$node.log",
		'-w', '-t', '60', ($action eq 'stop' ? ('-m', 'fast') : ()), $action);
}

sub conninfo
{
	my ($node, $dir) = @_;

	$dir //= $data;
	return "host=$dir port=$port{$node} user=postgres dbname=postgres";
}

sub query
{
	my ($node, @statements) = @_;
	my @command = ("$bin/psql", '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', conninfo($node));

	push @command, '-c', $_ foreach (@statements);
	open(my $out, '-|', @command) or die "bench: psql: $!\n";

	my @lines = <$out>;

	close($out) or die "bench: failed on $node: @statements\n";
	chomp @lines;
	return wantarray ? @lines : $lines[-1] // '';
}

sub reload
{
	my ($node) = @_;

	query($node, 'SELECT pg_reload_conf()');
	sleep 0.2;					# until every process has seen the signal
}

# Waits until a query says t.
sub await
{
	my ($node, $query, $what) = @_;

	open(my $stderr, '>&', \*STDERR);
	open(STDERR, '>', '/dev/null');
	for (1 .. 600)
	{
		my $seen = eval { query($node, $query) } // '';

		if ($seen eq 't')
		{
			open(STDERR, '>&', $stderr);
			return;
		}
		sleep 0.1;
	}
	open(STDERR, '>&', $stderr);
	die "bench: $node: $what: not within a minute\n";
}

sub postmaster
{
	my ($node) = @_;

	open(my $file, '<', "$data/$node/postmaster.pid") or die "bench: $node: $!\n";
	chomp(my $pid = <$file>);
	return $pid;
}

sub append
{
	my ($file, $text) = @_;

	open(my $out, '>>', $file) or die "bench: $file: $!\n";
	print $out $text;
	close($out) or die "bench: $file: $!\n";
}

# What would disturb a measurement is off; the rest is as installed.
sub start_servers
{
	my $conf = <<"CONF";
listen_addresses = ''
unix_socket_directories = '$data'
max_connections = 1200
max_wal_senders = 10
shared_buffers = 128MB
jit = off
fsync = off
autovacuum = off
checkpoint_timeout = 1h
max_wal_size = 8GB
wal_receiver_status_interval = 1s
log_min_messages = error
CONF

	mkdir $data or die "bench: $data: $!\n";
	run("$bin/initdb -D $data/primary -U postgres -A trust -N >$scratch/log/initdb.log");
	append("$data/primary/postgresql.conf", $conf);
	run('cp', '-r', "$data/primary", "$data/bare_primary");
	append("$data/primary/postgresql.conf", "shared_preload_libraries = 'tcs'\n");
	foreach my $prefix ('', 'bare_')
	{
		my ($primary, $standby) = ("${prefix}primary", "${prefix}standby");

		append("$data/$primary/postgresql.conf", "port = $port{$primary}\n");
		server($primary, 'start');
		query(
			$primary,
			'CREATE TABLE t (id int PRIMARY KEY, v bigint NOT NULL, filler text) WITH (fillfactor = 50)',
			"INSERT INTO t SELECT i, 0, repeat('x', 80) FROM generate_series(1, 10000) i",
			'CREATE TABLE junk (filler text)',
			'VACUUM ANALYZE t');
		run("$bin/pg_basebackup", '-D', "$data/$standby", '-R', '-X', 'stream',
			'--checkpoint=fast', '--no-sync', '-d', conninfo($primary));
		append("$data/$standby/postgresql.conf", "port = $port{$standby}\n");
		server($standby, 'start');
	}
	query('primary', 'CREATE EXTENSION tcs');
	settle_servers();
	$major = int(query('primary', 'SHOW server_version_num') / 10000);
}

# Standbys have replayed what there is, and the worker has its answers.
sub settle_servers
{
	foreach my $prefix ('', 'bare_')
	{
		my $lsn = query("${prefix}primary", 'SELECT pg_current_wal_flush_lsn()');

		await("${prefix}standby", "SELECT pg_last_wal_replay_lsn() >= '$lsn'", 'replay');
	}
	await('standby', 'SELECT staleness_ms IS NOT NULL FROM tcs.status()',
		'answer of the primary');
}

my @valgrinds;

sub stop_all
{
	foreach my $pid (@valgrinds)
	{
		kill 'QUIT', $pid;
		waitpid($pid, 0);
	}
	@valgrinds = ();
	foreach my $node (qw(standby bare_standby primary bare_primary))
	{
		system("$bin/pg_ctl -s -D $data/$node -m immediate -w stop >/dev/null 2>&1")
		  if -f "$data/$node/postmaster.pid";
	}
}

$SIG{INT} = $SIG{TERM} = $SIG{HUP} = sub { exit 1 };

my $main_pid = $$;

END
{
	if ($$ == $main_pid)
	{
		my $status = $?;

		stop_all();
		$? = $status;
	}
}


##
## Measuring
##

# One measurement; its key=value line as a hash.
sub client
{
	my ($mode, %args) = @_;
	my @command = ($client, $mode, map { "$_=$args{$_}" } sort keys %args);

	open(my $out, '-|', @command) or die "bench: $client: $!\n";
	my $line = <$out> // '';
	close($out) or die "bench: failed: @command\n";
	return { map { split /=/, $_, 2 } split ' ', $line };
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return 'nan' unless @sorted;
	return @sorted % 2
	  ? $sorted[ $#sorted / 2 ]
	  : ($sorted[ @sorted / 2 - 1 ] + $sorted[ @sorted / 2 ]) / 2;
}

# Runs variants in turns: (rounds, name => sub, ...).  Each sub returns a hash;
# the result has, per name, the list of each field.
sub in_turns
{
	my ($n, @variants) = @_;
	my %measured;

	for my $round (1 .. $n)
	{
		my @order = @variants;

		# every second round the other way round
		if ($round % 2 == 0)
		{
			my @pairs;

			push @pairs, [ splice(@order, 0, 2) ] while (@order);
			@order = map { @$_ } reverse @pairs;
		}
		while (my ($name, $sub) = splice(@order, 0, 2))
		{
			my $result = $sub->();

			push @{ $measured{$name}{$_} }, $result->{$_} foreach (keys %$result);
		}
	}
	return \%measured;
}

# Median of the rounds' ratios of one field.
sub ratio
{
	my ($measured, $name, $base, $field) = @_;
	my @a = @{ $measured->{$name}{$field} };
	my @b = @{ $measured->{$base}{$field} };

	return median(map { $b[$_] > 0 ? $a[$_] / $b[$_] : () } 0 .. $#a);
}

sub mid
{
	my ($measured, $name, $field) = @_;

	return median(@{ $measured->{$name}{$field} });
}

sub total
{
	my ($measured, $name, $field) = @_;
	my $sum = 0;

	$sum += $_ foreach (@{ $measured->{$name}{$field} });
	return $sum;
}

sub section
{
	my ($title) = @_;

	printf "\n%s\n%s\n", $title, '-' x length($title);
}

# One line of the result: what, figure, and the target, 'max 0.9' or 'min 3'.
sub result
{
	my ($what, $value, $unit, $target) = @_;
	my ($kind, $limit) = $target ? split(' ', $target) : ();
	my $met =
	   !$target ? ''
	  : $value eq 'nan' ? 'MISSED'
	  : $kind eq 'max' ? ($value <= $limit ? 'met' : 'MISSED')
	  : ($value >= $limit ? 'met' : 'MISSED');
	my $figure =
	    $value eq 'nan' ? 'nan'
	  : $unit eq '%' ? sprintf('%+.2f %%', $value)
	  : $unit eq 'ratio' ? sprintf('%.2f', $value)
	  : abs($value) >= 100 ? sprintf('%.0f %s', $value, $unit)
	  : sprintf('%.2f %s', $value, $unit);
	my $aim = $target ? ($kind eq 'max' ? 'at most ' : 'at least ') . $limit
	  . ($unit eq 'ratio' ? '' : " $unit") : '';

	printf "  %-58s %12s   %-16s %s\n", $what, $figure, $aim, $met;
	push @results, $met if $met;
	push @misses, sprintf('%s: %s (%s)', $what, $figure, $aim) if $met eq 'MISSED';
}

sub remark
{
	my (@lines) = @_;

	print "  $_\n" foreach (@lines);
}

# A token of the primary's history for any position; see tcs_token.c.
sub token_at
{
	my ($lsn) = @_;
	my ($system, $hi, $lo) = (query('primary', 'SELECT system_identifier FROM pg_control_system()'),
		split '/', $lsn);
	my $text = sprintf('1.%x.1.0.%x.0.0', $system, hex($hi) * 2**32 + hex($lo));
	my $crc = 0xFFFFFFFF;

	foreach my $byte (unpack 'C*', $text)
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0x82F63B78 : $crc >> 1 for (1 .. 8);
	}
	return sprintf('%s.%x', $text, $crc ^ 0xFFFFFFFF);
}

# A position some bytes after the end of the WAL there is.
sub lsn_ahead
{
	my ($node, $bytes) = @_;

	return query($node, "SELECT pg_current_wal_insert_lsn() + $bytes");
}


##
## 1. Instructions
##

sub start_valgrind
{
	my ($node) = @_;
	my $pid = fork();

	die "bench: fork: $!\n" unless defined $pid;
	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', "$scratch/log/$node.log");
		open(STDERR, '>&', \*STDOUT);
		exec('valgrind', '-q', '--tool=callgrind', '--trace-children=yes',
			"--callgrind-out-file=$scratch/tmp/$node.%p",
			"$bin/postgres", '-D', "$data/$node") or POSIX::_exit(1);
	}
	push @valgrinds, $pid;
	await($node, 'SELECT true', 'start under valgrind');
}

# Instructions a whole session spends, from connection to exit; with own => 1,
# those that are spent in the library's own code.
sub instructions_of_session
{
	my ($node, $times, %args) = @_;
	my $in_own = delete $args{own};
	my $library;
	my $done = client('repeat', conn => conninfo($node), times => $times, %args);
	my $file = "$scratch/tmp/$node.$done->{pid}";

	for (1 .. 400)
	{
		if (open(my $in, '<', $file))
		{
			my ($total, $own, $in_library, $of_call) = (undef, 0, 0, 0);

			# "ob=" names the object of the lines that follow ("cob=" that of a callee),
			# by number after the first time; the line after "calls=" is what the
			# callee spent
			while (<$in>)
			{
				if (/^[-+*\d]/)
				{
					$own += (split)[1] if $in_library && !$of_call;
					$of_call = 0;
				}
				elsif (/^(c?)ob=\((\d+)\)(.*)/)
				{
					my ($of_callee, $object, $name) = ($1, $2, $3);

					$library = $object if $name =~ m{/tcs\.so$};
					$in_library = defined $library && $object == $library unless $of_callee;
				}
				elsif (/^calls=/) { $of_call = 1 }
				elsif (/^totals: (\d+)/) { $total = $1 }
			}
			close($in);
			if (defined $total)
			{
				unlink $file unless $ENV{KEEP};
				return $in_own ? $own : $total;
			}
		}
		sleep 0.05;
	}
	die "bench: no count in $file\n";
}

# Instructions of one statement: a session with more of them less one with
# fewer.  Both are long enough for caches to be filled and plans to be generic.
# A backend's count includes what the postmaster had spent before, which grows
# with each connection; that drift is taken off.  Medians leave out what happens
# now and then (a backend sends its statistics once in a second).
sub instructions
{
	my ($node, %args) = @_;
	my ($few, $more) = (20, 170);
	my @few = (instructions_of_session($node, $few, %args));
	my (@more, @cost);

	for (1 .. 3)
	{
		push @more, instructions_of_session($node, $more, %args);
		push @few, instructions_of_session($node, $few, %args);
	}

	my $drift = median(map { ($few[ $_ + 1 ] - $few[$_]) / 2 } 0 .. $#more);

	push @cost, $more[$_] - $few[$_] - $drift, $more[$_] - $few[ $_ + 1 ] + $drift
	  foreach (0 .. $#more);
	return median(@cost) / ($more - $few);
}

sub instructions_section
{
	section('1. Instructions of a read whose requirement is already met');
	if (system('valgrind --version >/dev/null 2>&1') != 0)
	{
		remark('not measured: valgrind is not installed');
		return;
	}
	remark('User-space instructions of the backend, counted one by one: all servers run',
		'under valgrind (callgrind), a point SELECT by primary key, the cost of a session',
		'with more reads less that of one with fewer. "again" repeats the base: the noise.',
		'"of tcs" are those in the library itself; the rest is core, called by it or',
		'otherwise laid out in memory (malloc looks longer or less long for a place).');

	server($_, 'stop') foreach (qw(standby bare_standby primary bare_primary));
	start_valgrind($_) foreach (qw(primary bare_primary standby bare_standby));
	settle_servers();

	my $token = query('primary', 'UPDATE t SET v = v WHERE id = 1', 'SHOW tcs.session_token');

	# the first sessions of a server do more than later ones
	foreach my $node (qw(standby bare_standby primary bare_primary))
	{
		instructions_of_session($node, 20, statement => 'SELECT v FROM t WHERE id = 5000') for (1 .. 3);
	}

	foreach my $protocol (qw(prepared extended simple))
	{
		my %read = (
			protocol => $protocol,
			value => 5000,
			statement => 'SELECT v FROM t WHERE id = '
			  . ($protocol eq 'simple' ? '5000' : '$1'));
		my $base = instructions('bare_standby', %read);

		remark(sprintf '%s protocol, server without the library: %.0f instructions', $protocol, $base);
		foreach my $variant (
			[ 'again', 'bare_standby', '', '' ],
			[ 'eventual', 'standby', "SET tcs.read_level = 'eventual'", 'max 0.2' ],
			[ 'session, with a token', 'standby', "SET tcs.session_token = '$token'", 'max 0.5' ],
			[ 'bounded', 'standby', "SET tcs.read_level = 'bounded'", 'max 0.5' ])
		{
			my ($name, $node, $setup, $target) = @$variant;
			my $spent = instructions($node, %read, setup => $setup);
			my $own = $node eq 'standby' ? instructions($node, %read, setup => $setup, own => 1) : 0;

			result(sprintf('%s, %s (%+.0f, %.0f of tcs)', $protocol, $name, $spent - $base, $own),
				100 * ($spent / $base - 1), '%', $target);
		}
	}

	# handing over a token, against other settings
	my $other = query('primary', 'UPDATE t SET v = v WHERE id = 1', 'SHOW tcs.session_token');
	my $filler = 'x' x length($token);
	my %set = (
		'tcs.session_token' => [ $token, $other ],
		'application_name' => [ substr("a$filler", 0, 63), substr("b$filler", 0, 63) ],
		'search_path' => [ substr("a$filler", 0, 63), substr("b$filler", 0, 63) ],
		'DateStyle' => [ 'ISO, MDY', 'SQL, DMY' ],
		'TimeZone' => [ 'Europe/Berlin', 'Asia/Tokyo' ]);
	my %cost;

	foreach my $name (keys %set)
	{
		my @text = map { "SET $name = '$_'" } @{ $set{$name} };

		$cost{$name} = instructions('standby', protocol => 'simple',
			statement => $text[0], other => $text[1]);
	}
	remark('SET of a new value each time, simple protocol:',
		map { sprintf '    %-20s %8.0f instructions', $_, $cost{$_} }
		  sort { $cost{$a} <=> $cost{$b} } keys %cost);
	result('SET of a token / of application_name (also reported)',
		$cost{'tcs.session_token'} / $cost{application_name}, 'ratio', 'max 1');

	my %write = (protocol => 'prepared', value => 7,
		statement => 'UPDATE t SET v = $1 WHERE id = 9000');
	my $base = instructions('bare_primary', %write);
	my $spent = instructions('primary', %write);

	remark(sprintf 'prepared UPDATE and its commit on the primary, without the library: %.0f instructions', $base);
	result(sprintf('UPDATE with a token reported (%+.0f)', $spent - $base),
		100 * ($spent / $base - 1), '%', '');

	foreach my $pid (reverse @valgrinds)
	{
		kill 'INT', $pid;
		waitpid($pid, 0);
	}
	@valgrinds = ();
	server($_, 'start') foreach (qw(primary bare_primary standby bare_standby));
	settle_servers();
}


##
## 2. Read your writes
##

my $long_wait = "SET tcs.max_wait = '30s'";

# A variant of "ryw": (clients, way, more arguments).
sub ryw
{
	my ($clients, $way, %args) = @_;
	my $prefix = $way eq 'tcs' || $way eq 'message' || $way eq 'none' ? '' : 'bare_';
	my $dir = delete $args{dir};

	return sub {
		return client(
			'ryw',
			primary => conninfo("${prefix}primary", $dir),
			conn => conninfo("${prefix}standby", $dir),
			setup => $prefix ? '' : $way eq 'none' ? "SET tcs.read_level = 'eventual'" : $long_wait,
			way => $way,
			clients => $clients,
			seconds => $seconds,
			%args);
	};
}

sub print_ryw
{
	my ($measured, @names) = @_;

	printf "  %-44s %9s %9s %9s %9s %7s %7s\n", '', 'p50 us', 'p90 us', 'p99 us',
	  'ops/s', 'stale', 'refused';
	foreach my $name (@names)
	{
		printf "  %-44s %9.0f %9.0f %9.0f %9.0f %7d %7d\n", $name,
		  (map { mid($measured, $name, $_) } qw(p50 p90 p99 rate)),
		  (map { total($measured, $name, $_) } qw(stale refused));
	}
}

sub check_stale
{
	my ($measured, @names) = @_;
	my ($stale, $refused) = (0, 0);

	$stale += total($measured, $_, 'stale') foreach (@names);
	# those of servers without the library are theirs
	$refused += total($measured, $_, 'refused') foreach (grep { /^token|^strong/ } @names);
	result('answers that broke the guarantee', $stale, '', 'max 0');
	result('reads refused with 40001 or 40P01', $refused, '', 'max 0');
}

sub ryw_section
{
	my $core = $major >= 19;

	section('2. Read your writes: from the acknowledged write to the row on the standby');
	foreach my $clients (1, 8, 64)
	{
		my %variants = (
			'token, in one pipeline with the read' => ryw($clients, 'tcs'),
			'token, in one message with the read' => ryw($clients, 'message'),
			'unguarded (eventual)' => ryw($clients, 'none'));
		my @order = sort keys %variants;
		my $wait = 'WAIT FOR LSN, then the read';
		my $pipe = 'WAIT FOR LSN and the read in one pipeline';
		my $poll = 'polling every 1 ms, then the read';

		if ($core)
		{
			$variants{$wait} = ryw($clients, 'wait');
			$variants{"$wait; LSN asked for"} = ryw($clients, 'wait', lsn => 'ask');
			$variants{$pipe} = ryw($clients, 'pipe');
			push @order, $wait, "$wait; LSN asked for", $pipe;
		}
		else
		{
			$variants{$poll} = ryw($clients, 'poll');
			$variants{"$poll; LSN asked for"} = ryw($clients, 'poll', lsn => 'ask');
			push @order, $poll, "$poll; LSN asked for";
		}

		my $measured = in_turns($rounds, map { $_ => $variants{$_} } @order);

		remark('', "$clients client" . ($clients > 1 ? 's' : ''));
		print_ryw($measured, @order);

		my $token = 'token, in one pipeline with the read';

		if ($core)
		{
			result("$clients: token / WAIT FOR, p50", ratio($measured, $token, $wait, 'p50'), 'ratio', 'max 0.9');
			result("$clients: token / WAIT FOR, p99", ratio($measured, $token, $wait, 'p99'), 'ratio', 'max 1');
			result("$clients: the same, LSN asked for, p50",
				ratio($measured, $token, "$wait; LSN asked for", 'p50'), 'ratio', 'max 0.9');
			result("$clients: token / WAIT FOR in one pipeline, p50",
				ratio($measured, $token, $pipe, 'p50'), 'ratio', '');
		}
		else
		{
			result("$clients: token / polling, p50", ratio($measured, $token, $poll, 'p50'), 'ratio', 'max 0.2');
			result("$clients: the same, LSN asked for, p50",
				ratio($measured, $token, "$poll; LSN asked for", 'p50'), 'ratio', 'max 0.2');
		}
		check_stale($measured, grep { $_ ne 'unguarded (eventual)' } @order);
	}
	network_part() if $core || !$quick;
	write_part();
}

# The same through a socket that adds half a millisecond each way.
sub network_part
{
	my $dir = "$data/far";
	my @proxies;

	mkdir $dir;
	foreach my $node (keys %port)
	{
		my $pid = open(my $out, '-|', $client, 'proxy', 'delay=500',
			"from=$dir/.s.PGSQL.$port{$node}", "to=$data/.s.PGSQL.$port{$node}")
		  or die "bench: proxy: $!\n";

		<$out>;
		push @proxies, [ $pid, $out ];
	}

	my $token = 'token, in one pipeline with the read';
	my $other = $major >= 19 ? 'WAIT FOR LSN, then the read' : 'polling every 1 ms, then the read';
	my $way = $major >= 19 ? 'wait' : 'poll';
	my @order = ($token, $other, "$other; LSN asked for");
	my $measured = in_turns(
		$rounds,
		$token => ryw(1, 'tcs', dir => $dir),
		$other => ryw(1, $way, dir => $dir),
		"$other; LSN asked for" => ryw(1, $way, lsn => 'ask', dir => $dir));

	foreach my $proxy (@proxies)
	{
		kill 'TERM', $proxy->[0];
		close($proxy->[1]);
	}
	remark('', '1 client, 1 ms of network (0.5 ms each way) between it and both servers');
	print_ryw($measured, @order);
	result('1 ms of network: token / the other, p50', ratio($measured, $token, $other, 'p50'),
		'ratio', $major >= 19 ? 'max 0.5' : '');
	result('1 ms of network: the same, LSN asked for, p50',
		ratio($measured, $token, "$other; LSN asked for", 'p50'),
		'ratio', $major >= 19 ? 'max 0.5' : '');
	check_stale($measured, @order);
}

# What the write pays.
sub write_part
{
	my $n = $quick ? 4 : 12;
	my $write = sub {
		my ($node, $setup) = @_;

		return sub {
			return client('write', primary => conninfo($node), setup => $setup,
				clients => 1, seconds => $seconds / 2);
		};
	};
	my $measured;

	query('bare_primary', "ALTER SYSTEM SET synchronous_standby_names = '*'");
	reload('bare_primary');
	await('bare_primary', "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'",
		'synchronous standby');
	foreach my $fsync ('on', 'off')
	{
		foreach my $node (qw(primary bare_primary))
		{
			query($node, "ALTER SYSTEM SET fsync = $fsync");
			reload($node);
		}
		$measured = in_turns(
			$n,
			'without the library' => $write->('bare_primary', 'SET synchronous_commit = local'),
			'with the library' => $write->('primary', 'SET synchronous_commit = local'),
			'remote_apply, without the library' => $write->('bare_primary', 'SET synchronous_commit = remote_apply'));

		remark('', "the write itself, 1 client, prepared UPDATE of one row, fsync $fsync");
		print_writes($measured, 'without the library', 'with the library', 'remote_apply, without the library');
		result("time of a write, with the library, fsync $fsync",
			100 * (ratio($measured, 'with the library', 'without the library', 'p50') - 1), '%', 'max 2');
		result("CPU time of its backend, with the library, fsync $fsync",
			100 * (ratio($measured, 'with the library', 'without the library', 'cpu') - 1), '%', '');
		result("time of a write, remote_apply, fsync $fsync",
			100 * (ratio($measured, 'remote_apply, without the library', 'without the library', 'p50') - 1), '%', '');
	}
	query('bare_primary', 'ALTER SYSTEM RESET synchronous_standby_names');
	reload('bare_primary');
}

sub print_writes
{
	my ($measured, @names) = @_;

	printf "  %-44s %9s %9s %9s %9s\n", '', 'p50 us', 'p99 us', 'writes/s', 'cpu us';
	printf "  %-44s %9.1f %9.0f %9.0f %9.1f\n", $_,
	  mid($measured, $_, 'p50'), mid($measured, $_, 'p99'), mid($measured, $_, 'rate'),
	  mid($measured, $_, 'cpu')
	  foreach (@names);
}


##
## 3. Strong
##

# Walsenders that stream, and what is no backend at all: not asked anything.
sub not_asked
{
	my ($node) = @_;

	return join(
		',',
		query($node, "SELECT pid FROM pg_stat_activity WHERE backend_type NOT IN ('client backend', 'walsender')"
			  . " UNION SELECT pid FROM pg_stat_replication WHERE state = 'streaming'"));
}

sub questions
{
	return query('primary', 'SELECT coalesce(sum(questions), 0) FROM tcs.askers()');
}

sub reads
{
	my ($prefix, $clients, %args) = @_;

	return sub {
		my $asked = $prefix ? 0 : questions();
		my $measured = client(
			'read',
			primary => conninfo("${prefix}primary"),
			conn => conninfo("${prefix}standby"),
			clients => $clients,
			seconds => $seconds,
			writes => 1000,
			postmaster => postmaster("${prefix}primary"),
			except => not_asked("${prefix}primary"),
			%args);

		$measured->{cpu_per_read} = $measured->{cpu} / max(1, $measured->{rate});
		$measured->{questions} = $prefix ? 0
		  : 1000 * (questions() - $asked) / max(1, $measured->{ops});
		return $measured;
	};
}

sub strong_section
{
	section('3. Strong reads on the standby, 1000 writes per second on the primary');

	my $asking = $major >= 19 ? 'wait' : 'poll';
	my $ask_name = 'asking the primary, then ' . ($asking eq 'wait' ? 'WAIT FOR' : 'polling');

	foreach my $clients (8, 64)
	{
		my @order = ('strong', $ask_name, 'unguarded, without the library');
		my $measured = in_turns(
			$rounds,
			'strong' => reads('', $clients, setup => "SET tcs.read_level = 'strong'; $long_wait"),
			$ask_name => reads('bare_', $clients, way => $asking),
			'unguarded, without the library' => reads('bare_', $clients));

		remark('', "$clients clients");
		printf "  %-32s %8s %8s %8s %7s %7s %9s %9s\n", '', 'reads/s', 'p50 us', 'p99 us',
		  'stale', 'writes', 'cpu/read', 'questions';
		foreach my $name (@order)
		{
			printf "  %-32s %8.0f %8.0f %8.0f %7d %7.0f %6.1f us %9.1f\n", $name,
			  (map { mid($measured, $name, $_) } qw(rate p50 p99)),
			  total($measured, $name, 'stale'),
			  (map { mid($measured, $name, $_) } qw(writes cpu_per_read questions));
		}
		remark('(cpu: of the primary, for the questions; questions: per 1000 reads)');
		result("$clients: reads, strong / asking", ratio($measured, 'strong', $ask_name, 'rate'),
			'ratio', $clients == 8 ? 'min 3' : 'min 2');
		result("$clients: reads, strong / unguarded",
			ratio($measured, 'strong', 'unguarded, without the library', 'rate'), 'ratio', 'min 0.75');
		result("$clients: CPU of the primary per read, strong / asking",
			ratio($measured, 'strong', $ask_name, 'cpu_per_read'), 'ratio',
			$clients == 8 ? 'max 0.2' : '');
		check_stale($measured, 'strong', $ask_name);
	}

	my $idle = in_turns(
		$quick ? 1 : 3,
		idle => sub {
			my $measured = client('idle', primary => conninfo('primary'),
				conn => conninfo('standby'), times => 200,
				setup => "SET tcs.read_level = 'strong'; $long_wait");

			query('primary', 'TRUNCATE junk');
			settle_servers();
			return $measured;
		});

	remark('', 'Nobody writes but an open transaction: 130 kB of WAL before each strong read');
	remark(sprintf 'p50 %.0f us, p90 %.0f us, p99 %.0f us, longest %.0f us',
		map { mid($idle, 'idle', $_) } qw(p50 p90 p99 max));
	result('strong, idle primary with unflushed WAL, p99',
		mid($idle, 'idle', 'p99') / 1000, 'ms', 'max 5');
}


##
## 4. Many that wait
##

my $crowd_size = 500;

sub start_crowd
{
	my ($prefix) = @_;
	my $pid = open2(my $from, my $to, $client, 'crowd', "clients=$crowd_size",
		'conn=' . conninfo("${prefix}standby") . ' application_name=crowd',
		'primary=' . conninfo("${prefix}primary"),
		'setup=' . ($prefix ? '' : 'SET tcs.max_wait = -1'));
	my $crowd = { pid => $pid, from => $from, to => $to, node => "${prefix}standby" };

	$to->autoflush(1);
	<$from> // die "bench: the crowd did not connect\n";
	return $crowd;
}

sub tell_crowd
{
	my ($crowd, $command) = @_;
	my $in = $crowd->{to};
	my $out = $crowd->{from};

	print $in "$command\n";

	my $line = <$out> // die "bench: the crowd is gone\n";

	return { map { split /=/, $_, 2 } split ' ', $line };
}

# All wait for a position when this returns.
sub crowd_waits
{
	my ($crowd, $text) = @_;

	tell_crowd($crowd, "send $text");
	await($crowd->{node}, "SELECT count(*) = $crowd_size FROM pg_stat_activity"
		  . " WHERE application_name = 'crowd' AND state = 'active'"
		  . " AND wait_event_type <> 'Client'", "$crowd_size sessions that wait");
}

sub end_crowd
{
	my ($crowd) = @_;

	kill 'KILL', $crowd->{pid};
	waitpid($crowd->{pid}, 0);
	query($crowd->{node}, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crowd'");
	await($crowd->{node}, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'crowd'",
		'end of the crowd');
}

# CPU time in seconds of processes.
sub cpu_time
{
	my (@pids) = @_;
	my $sum = 0;

	foreach my $pid (@pids)
	{
		open(my $file, '<', "/proc/$pid/schedstat") or next;
		my $line = <$file> // next;

		$sum += (split ' ', $line)[0] / 1e9;
	}
	return $sum;
}

# One commit, of so much WAL that it passes a position a little ahead.
my $release = "SELECT pg_logical_emit_message(true, 'bench', repeat('x', 20000))";
my $ahead = 8192;

sub foreground
{
	return client('read', conn => conninfo('standby'), clients => 1, writes => 0,
		seconds => $seconds);
}

sub crowd_section
{
	section("4. $crowd_size waiting sessions");

	my $crowd = start_crowd('');
	my $bare = $major >= 19 ? start_crowd('bare_') : undef;
	my $worker = query('standby', 'SELECT worker_pid FROM tcs.status()');
	my @members = query('standby', "SELECT pid FROM pg_stat_activity WHERE application_name = 'crowd'");
	my $span = $quick ? 2 : 4;
	my %measured;
	my $early = 0;

	sleep 1;					# their connecting is over
	for (1 .. $rounds)
	{
		my ($before, $during, $released, $cpu, $cpu_all);

		$before = foreground();
		crowd_waits($crowd, "SET tcs.session_token = '" . token_at(lsn_ahead('primary', $ahead)) . "'");
		sleep 0.5;
		$cpu = cpu_time($worker);
		$cpu_all = cpu_time($worker, @members);
		sleep $span;
		push @{ $measured{worker} }, 100 * (cpu_time($worker) - $cpu) / $span;
		push @{ $measured{all} }, 100 * (cpu_time($worker, @members) - $cpu_all) / $span;
		$during = foreground();
		push @{ $measured{foreground} }, $during->{p50} / $before->{p50};
		$released = tell_crowd($crowd, "release $release");
		$early += $released->{early};
		push @{ $measured{"with_$_"} }, $released->{$_} / 1000 foreach (qw(p50 max));

		if ($bare)
		{
			crowd_waits($bare, "WAIT FOR LSN '" . lsn_ahead('bare_primary', $ahead) . "'");
			$released = tell_crowd($bare, "release $release");
			$early += $released->{early};
			push @{ $measured{"bare_$_"} }, $released->{$_} / 1000 foreach (qw(p50 max));
		}
	}
	end_crowd($bare) if $bare;

	result('worker, nobody writing: percent of a core', median(@{ $measured{worker} }), '%', 'max 0.5');
	result("worker and the $crowd_size sessions: percent of a core", median(@{ $measured{all} }), '%', 'max 0.5');
	result('read by another session / without them', median(@{ $measured{foreground} }), 'ratio', 'max 1.1');

	# with a writer
	{
		my $far = token_at(lsn_ahead('primary', 2**30));
		my $with_writer = sub {
			return client('read', conn => conninfo('standby'), primary => conninfo('primary'),
				clients => 1, writes => 1000, seconds => $span,
				setup => "SET tcs.read_level = 'eventual'");
		};
		my $before = $with_writer->();
		my ($cpu, $started, $during);

		crowd_waits($crowd, "SET tcs.session_token = '$far'");
		($cpu, $started) = (cpu_time($worker), time);
		$during = $with_writer->();
		result('worker, 1000 writes per second: percent of a core',
			100 * (cpu_time($worker) - $cpu) / (time - $started), '%', 'max 0.5');
		result('read / without them, 1000 writes per second', $during->{p50} / $before->{p50}, 'ratio', 'max 1.1');
		end_crowd($crowd);
	}

	remark(sprintf 'from one commit to the row: median %.1f ms, last %.1f ms',
		median(@{ $measured{with_p50} }), median(@{ $measured{with_max} }));
	if ($bare)
	{
		remark(sprintf 'the same with WAIT FOR LSN: median %.1f ms, last %.1f ms',
			median(@{ $measured{bare_p50} }), median(@{ $measured{bare_max} }));
		result("last of $crowd_size released / WAIT FOR", median(map { $measured{with_max}[$_] / $measured{bare_max}[$_] } 0 .. $rounds - 1),
			'ratio', 'max 1');
	}
	result('sessions let go too early', $early, '', 'max 0');
	replay_part();
}

# How fast a standby replays what has piled up.
sub replay_part
{
	my $rows = $quick ? 300000 : 1000000;
	my $replay = sub {
		my ($crowded) = @_;

		return sub {
			my $crowd = $crowded ? start_crowd('') : undef;
			my ($lsn, $measured);

			crowd_waits($crowd, "SET tcs.session_token = '" . token_at(lsn_ahead('primary', 2**33)) . "'")
			  if $crowd;
			query('standby', 'SELECT pg_wal_replay_pause()');
			query('primary', 'TRUNCATE junk',
				"INSERT INTO junk SELECT 'x' FROM generate_series(1, $rows)");
			$lsn = query('primary', 'SELECT pg_current_wal_flush_lsn()');
			await('standby', "SELECT pg_last_wal_receive_lsn() >= '$lsn'", 'WAL');
			await('standby', "SELECT pg_get_wal_replay_pause_state() = 'paused'", 'pause of replay');
			$measured = client('catchup', conn => conninfo('standby'), lsn => $lsn);
			end_crowd($crowd) if $crowd;
			return $measured;
		};
	};
	my $measured = in_turns($rounds, 'none' => $replay->(0), 'crowd' => $replay->(1));

	remark(sprintf 'replay of %d inserts: %.0f ms, with %d sessions waiting %.0f ms',
		$rows, mid($measured, 'none', 'ms'), $crowd_size, mid($measured, 'crowd', 'ms'));
	result("time of replay, $crowd_size waiting", 100 * (ratio($measured, 'crowd', 'none', 'ms') - 1),
		'%', 'max 5');
}


##
## Main
##

my $began = time;

start_servers();

open(my $load, '<', '/proc/loadavg');
my ($others) = split ' ', <$load>;

printf "PostgreSQL %s, %d processors, load %s at the start, %d rounds%s\n",
  query('primary', 'SHOW server_version'), scalar(grep { /^processor/ } do { open(my $f, '<', '/proc/cpuinfo'); <$f> }),
  $others, $rounds, $quick ? ' (QUICK)' : '';

instructions_section() if $wanted{1};
ryw_section() if $wanted{2};
strong_section() if $wanted{3};
crowd_section() if $wanted{4};

printf "\n%d targets met, %d missed; %.0f s\n", scalar(grep { $_ eq 'met' } @results),
  scalar(@misses), time - $began;
print "Missed:\n", map { "  $_\n" } @misses if @misses;
