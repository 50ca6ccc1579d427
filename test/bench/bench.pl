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

use FindBin;
use IPC::Open2;
use List::Util qw(max min);
use POSIX qw(:sys_wait_h setsid);
use Time::HiRes qw(sleep time);

use lib "$FindBin::RealBin/../perl";
use TcsToken qw(token_with);

$| = 1;

my ($scratch, $bin, $client) = @ARGV;
# SHORT: every measurement once, as briefly as it can be; its figures mean nothing.
my $short = $ENV{SHORT} ? 1 : 0;
my $quick = $ENV{QUICK} || $short ? 1 : 0;
my $rounds = $short ? 1 : $quick ? 3 : 5;
my $seconds = $short ? 0.2 : $quick ? 0.5 : 1;
my $commit = $ENV{TCS_COMMIT} || 'unknown';

my %port = (
	primary => 5701,
	standby => 5702,
	bare_primary => 5711,
	bare_standby => 5712);
my $data = "$scratch/bench";
my $major;
my $version;
my @misses;
my @results;
my @faults;						# what makes the figures of a run void


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
wal_keep_size = 1GB
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
	($version) = split ' ', query('primary', 'SHOW server_version');
}

# Standbys have replayed what there is, and the worker has its answers.
sub settle_servers
{
	foreach my $prefix ('', 'bare_')
	{
		my $lsn = query("${prefix}primary", 'SELECT pg_current_wal_flush_lsn()');

		await("${prefix}standby", "SELECT pg_last_wal_replay_lsn() >= '$lsn'", 'replay');
	}
	await('standby', 'SELECT staleness IS NOT NULL FROM tcs.status',
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
	my $processor = delete $args{processor};
	my @command = ($client, $mode, map { "$_=$args{$_}" } sort keys %args);

	unshift @command, 'taskset', '-c', $processor if defined $processor;

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

	# of what the figures are, for whoever copies a section
	$title .= " [tcs $commit, PostgreSQL $version]";
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
	# on a busy machine SHORT is over before anything was read
	push @faults, "$what: could not be measured" if $value eq 'nan' && !$short;
}

# A count of wrong answers.  One is no figure to be compared, it is a fault.
sub wrong_answers
{
	my ($what, $count) = @_;

	result($what, $count, '', 'max 0');
	push @faults, "$what: $count" if $count > 0;
}

sub remark
{
	my (@lines) = @_;

	print "  $_\n" foreach (@lines);
}

# A part that needs what is not here.  SHORT is there to run every part.
sub not_measured
{
	my ($why) = @_;

	remark($why);
	push @faults, $why if $short;
}

# A token for any position on the primary's history: one that the server has
# made, with another position.  The server then writes it in its own form, and
# dies here, not in a session that would wait, if it does not take it.
sub token_at
{
	my ($lsn) = @_;
	my ($hi, $lo) = split '/', $lsn;
	my $token = token_with(new_token(), written => hex($hi) * 2**32 + hex($lo));

	$token = query('primary', "SELECT tcs.merge_tokens('$token', NULL)");
	die "bench: $token is no token of $lsn\n"
	  if query('primary', "SELECT written_lsn = '$lsn' FROM tcs.token_info('$token')") ne 't';
	return $token;
}

# The token of a commit of this moment.
sub new_token
{
	return scalar(query('primary', 'UPDATE t SET v = v WHERE id = 1', 'SHOW tcs.session_token'));
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

# Servers, a primary before its standby.
sub restart_under_valgrind
{
	my (@nodes) = @_;

	server($_, 'stop') foreach (reverse @nodes);
	start_valgrind($_) foreach (@nodes);
	settle_servers();

	# the first sessions of a server do more than later ones
	foreach my $node (@nodes)
	{
		instructions_of_session($node, 20, statement => 'SELECT v FROM t WHERE id = 5000') for (1 .. ($short ? 1 : 3));
	}
}

sub restart_without_valgrind
{
	my (@nodes) = @_;

	foreach my $pid (reverse @valgrinds)
	{
		kill 'INT', $pid;
		waitpid($pid, 0);
	}
	@valgrinds = ();
	server($_, 'start') foreach (@nodes);
	settle_servers();
}

# Is there a valgrind?  Says so if not.
sub have_valgrind
{
	return 1 if system('valgrind --version >/dev/null 2>&1') == 0;
	not_measured('not measured: valgrind is not installed');
	return 0;
}

# Instructions a whole session spends, from connection to exit, and those of
# them that are spent in the library's own code.
sub instructions_of_session
{
	my ($node, $times, %args) = @_;
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
				# a file that is still being written may end in the midst of a line
				if (/^[-+*\d]\S* (\d+)$/)
				{
					$own += $1 if $in_library && !$of_call;
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
				return [ $total, $own ];
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
#
# Returns all of them, in list context also those of the library.
sub instructions
{
	my ($node, %args) = @_;
	my ($few, $more) = (20, $short ? 30 : 170);
	my @few = (instructions_of_session($node, $few, %args));
	my (@more, @spent);

	for (1 .. ($short ? 1 : 3))
	{
		push @more, instructions_of_session($node, $more, %args);
		push @few, $short ? $few[0] : instructions_of_session($node, $few, %args);
	}
	foreach my $part (0, 1)
	{
		my $drift = median(map { ($few[ $_ + 1 ][$part] - $few[$_][$part]) / 2 } 0 .. $#more);
		my @cost = map {
			($more[$_][$part] - $few[$_][$part] - $drift, $more[$_][$part] - $few[ $_ + 1 ][$part] + $drift)
		} 0 .. $#more;

		push @spent, median(@cost) / ($more - $few);
	}
	return wantarray ? @spent : $spent[0];
}

# SHORT is not there to compare protocols.
my @protocols = $short ? ('prepared') : ('prepared', 'extended', 'simple');

sub instructions_section
{
	section('1. Instructions of a read whose requirement is already met');
	return unless have_valgrind();
	remark('User-space instructions of the backend, counted one by one: all servers run',
		'under valgrind (callgrind), a point SELECT by primary key, the cost of a session',
		'with more reads less that of one with fewer. "again" repeats the base: the noise.',
		'"of tcs" are those in the library itself; the rest is core, called by it or',
		'otherwise laid out in memory (malloc looks longer or less long for a place).');

	restart_under_valgrind(qw(primary bare_primary standby bare_standby));

	my $token = new_token();

	foreach my $protocol (@protocols)
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
			my ($spent, $own) = instructions($node, %read, setup => $setup);

			result(sprintf('%s, %s (%+.0f, %.0f of tcs)', $protocol, $name, $spent - $base, $own),
				100 * ($spent / $base - 1), '%', $target);
		}
	}

	# handing over a token, against other settings
	my $other = new_token();
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

		$cost{$name} = scalar instructions('standby', protocol => 'simple',
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

	restart_without_valgrind(qw(primary bare_primary standby bare_standby));
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
	wrong_answers('answers that broke the guarantee', $stale);
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
	network_part() if $core || $short || !$quick;
	write_part();
}

# A socket in a folder of its own that leads to a server.
sub start_proxy
{
	my ($dir, $node, $delay) = @_;
	my $socket = "$dir/.s.PGSQL.$port{$node}";

	mkdir $dir;
	unlink $socket;
	my $pid = open(my $out, '-|', $client, 'proxy', "delay=$delay",
		"from=$socket", "to=$data/.s.PGSQL.$port{$node}")
	  or die "bench: proxy: $!\n";

	<$out>;
	return { pid => $pid, out => $out };
}

sub end_proxy
{
	my ($proxy) = @_;
	my $pid = delete $proxy->{pid} // return;

	kill 'KILL', $pid;
	close($proxy->{out});
}

# The same through a socket that adds half a millisecond each way.
sub network_part
{
	my $dir = "$data/far";
	my @proxies = map { start_proxy($dir, $_, 500) } keys %port;
	my $token = 'token, in one pipeline with the read';
	my $other = $major >= 19 ? 'WAIT FOR LSN, then the read' : 'polling every 1 ms, then the read';
	my $way = $major >= 19 ? 'wait' : 'poll';
	my @order = ($token, $other, "$other; LSN asked for");
	my $measured = in_turns(
		$rounds,
		$token => ryw(1, 'tcs', dir => $dir),
		$other => ryw(1, $way, dir => $dir),
		"$other; LSN asked for" => ryw(1, $way, lsn => 'ask', dir => $dir));

	end_proxy($_) foreach (@proxies);
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
	my $n = $short ? 1 : $quick ? 4 : 12;
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
	return query('primary', 'SELECT coalesce(sum(questions), 0) FROM tcs_internal.askers()');
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

# One commit, of so much WAL that it passes a position a little ahead.  Reads of
# the primary's catalogs prune pages, and each logs a whole page: what is ahead
# has room for some of those.
my $release = "SELECT pg_logical_emit_message(true, 'bench', repeat('x', 500000))";
my $ahead = 200000;

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
	my $worker = query('standby', 'SELECT worker_pid FROM tcs.status');
	my @members = query('standby', "SELECT pid FROM pg_stat_activity WHERE application_name = 'crowd'");
	my $span = $short ? 0.5 : $quick ? 2 : 4;
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
	wrong_answers('sessions let go too early', $early);
	replay_part();
}

# How fast a standby replays what has piled up.
sub replay_part
{
	my $rows = $short ? 10000 : $quick ? 300000 : 1000000;
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
## 5. Redirect
##

# Rows of the results whose time and memory are measured.
my @wide_rows = $short ? (1000, 10000, 30000) : (10000, 100000, 1000000);

sub redirect_section
{
	section('5. Reads that the standby sends to the primary');
	query(
		'primary',
		'CREATE TABLE wide (id int, v text, n numeric, ts timestamptz)',
		"INSERT INTO wide SELECT i, 'twenty bytes ' || 1000000 + i, i * 1.25, now() + i * interval '1 s'"
		  . ' FROM generate_series(1, ' . max(@wide_rows) . ') i',
		'VACUUM ANALYZE wide');
	unmet_part();
	not_redirected_part();
	faults_part();
}

sub make_redirect_server
{
	query(
		'primary',
		"CREATE SERVER tcs_primary FOREIGN DATA WRAPPER tcs_fdw OPTIONS (host '$data', port '$port{primary}')",
		'CREATE USER MAPPING FOR CURRENT_USER SERVER tcs_primary');
	settle_servers();
}

sub drop_redirect_server
{
	query('primary', 'DROP USER MAPPING FOR CURRENT_USER SERVER tcs_primary', 'DROP SERVER tcs_primary');
	settle_servers();
}

sub pause_replay
{
	query('standby', 'SELECT pg_wal_replay_pause()');
	await('standby', "SELECT pg_get_wal_replay_pause_state() = 'paused'", 'pause of replay');
}

sub redirected
{
	return query('standby', 'SELECT sum(redirected) FROM tcs.stat_reads');
}

# The processors that we may use, as the kernel writes them: "0-3,8".
sub processors
{
	open(my $file, '<', '/proc/self/status') or die "bench: /proc/self/status: $!\n";
	my ($list) = map { /^Cpus_allowed_list:\s*(\S+)/ } <$file>;

	return $list;
}

# Confine the backends that a server starts from now on.
sub pin
{
	my ($node, $processors) = @_;

	run('taskset -cp ' . $processors . ' ' . postmaster($node) . ' >/dev/null');
}

# What contrib has for the same end, if it is installed: (name => [setup,
# statement, target of the ratio], ...).
sub contrib_ways
{
	my %ways;
	my %available = map { $_ => 1 } query('primary', 'SELECT name FROM pg_available_extensions');

	if ($available{dblink})
	{
		query('primary', 'CREATE EXTENSION dblink');
		$ways{dblink} = [
			"SELECT dblink_connect('c', '" . conninfo('primary') . "')",
			"SELECT v FROM dblink('c', 'SELECT v FROM t WHERE id = ' || \$1) AS r(v bigint)" ];
	}
	if ($available{postgres_fdw})
	{
		query(
			'primary',
			'CREATE EXTENSION postgres_fdw',
			"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$data', port '$port{primary}')",
			'CREATE USER MAPPING FOR CURRENT_USER SERVER far',
			"CREATE FOREIGN TABLE far_t (id int, v bigint) SERVER far OPTIONS (table_name 't')");
		$ways{postgres_fdw} = [ '', 'SELECT v FROM far_t WHERE id = $1' ];
	}
	return %ways;
}

# Reads whose token is not reached: replay stands still.
sub unmet_part
{
	my %contrib = contrib_ways();
	my $all = processors();
	my ($first, $last) = $all =~ /^(\d+)(?:.*?(\d+))?$/;
	my ($token, $before, $measured, @order);

	make_redirect_server();
	pause_replay();
	$token = "SET tcs.session_token = '" . new_token() . "'";

	# one row
	foreach my $placement (
		[ 'each hop leads to another processor', $last, $first, 'max 2.2' ],
		[ 'all on one processor', $first, $first, '' ])
	{
		my ($where, $middle, $ends, $target) = @$placement;
		my $one = sub {
			my ($node, %args) = @_;

			return sub {
				my $measured = client('read', conn => conninfo($node), clients => 1, writes => 0,
					seconds => $seconds / 2, processor => $node eq 'primary' ? $middle : $ends, %args);

				$measured->{mean} = 1e6 / $measured->{rate};
				return $measured;
			};
		};

		if (system('taskset -V >/dev/null 2>&1') != 0)
		{
			not_measured('One row: not measured, as there is no taskset');
			last;
		}
		if (!defined $middle)
		{
			remark('', "One row, $where: not measured, as there is but one");
			next;
		}
		pin('primary', $ends);
		pin('standby', $middle);
		@order = ('directly', 'redirected', sort keys %contrib);
		$before = redirected();
		$measured = in_turns(
			2 * $rounds,
			'directly' => $one->('primary'),
			'redirected' => $one->('standby', setup => $token),
			map {
				$_ => $one->('standby', setup => "SET tcs.read_level = 'eventual'; $contrib{$_}[0]",
					statement => $contrib{$_}[1])
			} sort keys %contrib);
		remark('', "One row by primary key, prepared, 1 client; $where");
		printf "  %-44s %9s %9s %9s %9s\n", '', 'p50 us', 'mean us', 'p99 us', 'reads/s';
		foreach my $name (@order)
		{
			printf "  %-44s %9.1f %9.1f %9.0f %9.0f\n", $name,
			  map { mid($measured, $name, $_) } qw(p50 mean p99 rate);
		}
		foreach my $field (qw(p50 mean))
		{
			foreach my $name (@order[ 1 .. $#order ])
			{
				result("one row, $name / directly, $field", ratio($measured, $name, 'directly', $field),
					'ratio', $name eq 'redirected' ? $target : '');
			}
		}
		wrong_answers('reads that were not redirected',
			total($measured, 'redirected', 'ops') - (redirected() - $before));
		pin($_, $all) foreach (qw(primary standby));
	}

	# many rows
	my $many = sub {
		my ($node, $rows, $times, %args) = @_;

		return sub {
			return client('repeat', conn => conninfo($node), protocol => 'extended', times => $times,
				statement => "SELECT id, v, n, ts FROM wide LIMIT $rows", %args);
		};
	};

	$measured = in_turns(
		$rounds,
		'directly' => $many->('primary', $wide_rows[1], $quick ? 5 : 10),
		'redirected' => $many->('standby', $wide_rows[1], $quick ? 5 : 10, setup => $token));
	remark('', "$wide_rows[1] rows of four columns, the whole result");
	remark(sprintf 'directly %.0f ms, redirected %.0f ms',
		map { mid($measured, $_, 'p50') / 1000 } qw(directly redirected));
	result("$wide_rows[1] rows, redirected / directly, p50", ratio($measured, 'redirected', 'directly', 'p50'),
		'ratio', 'max 1.7');

	my %memory = map { $_ => $many->('standby', $_, 1, setup => $token)->()->{memory} } @wide_rows;

	remark('most memory of the backend on the standby: ' . join(', ',
			map { sprintf '%.1f MB for %d rows', $memory{$_} / 1024, $_ } sort { $a <=> $b } keys %memory));
	result("memory for $wide_rows[2] rows less that for $wide_rows[0]",
		($memory{ $wide_rows[2] } - $memory{ $wide_rows[0] }) / 1024,
		'MB', 'max 1');

	query('standby', 'SELECT pg_wal_replay_resume()');
	drop_redirect_server();
}

# What a statement that stays here pays for the redirect.
sub not_redirected_part
{
	my @nodes = qw(primary standby);
	my (%spent, $setup);

	remark('', 'Instructions of a read that is not redirected, session with a token that is reached');
	return unless have_valgrind();
	restart_under_valgrind(@nodes);
	$setup = "SET tcs.session_token = '" . new_token() . "'";
	settle_servers();
	foreach my $with ('without', 'with', 'again')
	{
		make_redirect_server() if $with eq 'with';
		drop_redirect_server() if $with eq 'again';
		foreach my $protocol ($short ? ('prepared') : ('simple', 'prepared'))
		{
			$spent{$protocol}{$with} = scalar instructions(
				'standby',
				protocol => $protocol,
				setup => $setup,
				value => 5000,
				statement => 'SELECT v FROM t WHERE id = ' . ($protocol eq 'simple' ? '5000' : '$1'));
		}
	}
	foreach my $protocol ($short ? ('prepared') : ('simple', 'prepared'))
	{
		my $base = $spent{$protocol}{without};

		remark(sprintf '%s protocol, without a redirect server: %.0f instructions', $protocol, $base);
		foreach my $with ('again', 'with')
		{
			result(sprintf('%s, %s (%+.0f)', $protocol, $with eq 'with' ? 'with a redirect server' : $with,
					$spent{$protocol}{$with} - $base),
				100 * ($spent{$protocol}{$with} / $base - 1), '%',
				$with ne 'with' ? '' : $protocol eq 'simple' ? 'max 2' : 'max 0.1');
		}
	}
	restart_without_valgrind(@nodes);
}

# Replay is paused and resumed, and the worker's link is cut and restored, while
# clients write and read.  A pause is longer than the default of tcs.max_wait.
# Every second cut is silent: the link hangs.
sub faults_part
{
	my $span = $short ? 5 : $quick ? 10 : 20;
	my $dir = "$data/link";
	my $link = start_proxy($dir, 'primary', 0);
	my %measured;

	make_redirect_server();
	append("$data/standby/postgresql.conf", "tcs.primary_conninfo = '" . conninfo('primary', $dir) . "'\n");
	reload('standby');
	settle_servers();
	remark('', "8 clients at level session write and read for $span s, replay and the worker's link come and go");
	foreach my $fallback ('redirect, error', 'error')
	{
		my @command = ($client, 'ryw', 'primary=' . conninfo('primary'), 'conn=' . conninfo('standby'),
			'way=mix', 'clients=8', "seconds=$span", 'interval=5000', 'errors=count',
			"setup=SET tcs.fallback = '$fallback'");
		my $before = redirected();
		my $until = time + $span - 1.5;
		my $step = 0;

		open(my $out, '-|', @command) or die "bench: $client: $!\n";
		while (time < $until)
		{
			if ($step % 2 == 0) { query('standby', 'SELECT pg_wal_replay_pause()') }
			else { query('standby', 'SELECT pg_wal_replay_resume()') }

			if ($step % 6 == 1) { end_proxy($link) }
			elsif ($step % 6 == 4) { kill 'STOP', $link->{pid} }
			elsif ($step % 6 == 3) { $link = start_proxy($dir, 'primary', 0) }
			elsif ($step % 6 == 0 && $step > 0) { kill 'CONT', $link->{pid} }
			$step++;
			sleep 1.5;
		}
		query('standby', 'SELECT pg_wal_replay_resume()');

		my $done = { map { split /=/, $_, 2 } split ' ', <$out> // '' };

		close($out) or die "bench: failed: @command\n";
		end_proxy($link);
		$link = start_proxy($dir, 'primary', 0);
		settle_servers();

		my $reads = $done->{ops} + $done->{refused};

		remark(sprintf '%s: %d reads, %d redirected, %d failed; p50 %.0f us, p99 %.0f us, longest %.0f ms',
			$fallback, $reads, redirected() - $before, $done->{refused},
			$done->{p50}, $done->{p99}, $done->{max} / 1000);
		result("reads that failed, fallback = $fallback", 100 * $done->{refused} / $reads,
			'%', $fallback eq 'error' ? '' : 'max 0.1');
		wrong_answers('answers that broke the guarantee', $done->{stale});
	}
	end_proxy($link);
	append("$data/standby/postgresql.conf", "tcs.primary_conninfo = ''\n");
	reload('standby');
	drop_redirect_server();
}


##
## 6. Linearizable
##

sub linearizable_section
{
	section('6. Linearizable reads, 1000 writes per second on the primary, which waits for its standby');

	append("$data/primary/postgresql.conf", "synchronous_standby_names = 'ANY 1 (walreceiver)'\n");
	reload('primary');
	await('primary', "SELECT bool_or(sync_state = 'quorum') FROM pg_stat_replication", 'a synchronous standby');

	foreach my $clients (8, 64)
	{
		my @order = ('strong', 'linearizable', 'linearizable, on the primary');
		my %setup = map { $_ => "SET tcs.read_level = '$_'; $long_wait" } qw(strong linearizable);
		my $measured = in_turns(
			$rounds,
			'strong' => reads('', $clients, setup => $setup{strong}),
			'linearizable' => reads('', $clients, setup => $setup{linearizable}),
			'linearizable, on the primary' =>
			  reads('', $clients, setup => $setup{linearizable}, conn => conninfo('primary')));

		remark('', "$clients clients");
		printf "  %-32s %8s %8s %8s %7s %7s %9s\n", '', 'reads/s', 'p50 us', 'p99 us',
		  'stale', 'writes', 'questions';
		foreach my $name (@order)
		{
			printf "  %-32s %8.0f %8.0f %8.0f %7d %7.0f %9.1f\n", $name,
			  (map { mid($measured, $name, $_) } qw(rate p50 p99)),
			  total($measured, $name, 'stale'),
			  (map { mid($measured, $name, $_) } qw(writes questions));
		}
		remark('(questions: per 1000 reads)');
		result("$clients: reads, linearizable / strong",
			ratio($measured, 'linearizable', 'strong', 'rate'), 'ratio',
			$clients == 64 ? 'min 0.5' : '');
		check_stale($measured, @order);
	}

	append("$data/primary/postgresql.conf", "synchronous_standby_names = ''\n");
	reload('primary');
}


##
## 7. Rules
##

# Instructions of a read, without a rule in the database, with 1,000 that do not
# speak of the table that is read, and with 1,000 of which one does.
sub rules_section
{
	my @nodes = qw(primary standby);
	my %spent;

	# each is set under valgrind
	my $rules = $short ? 50 : 1000;

	section("7. Instructions of a read whose requirement is already met, with $rules rules");
	return unless have_valgrind();
	remark('Counted as in section 1, against the same read without any rule.');
	query('primary', "DO \$\$BEGIN FOR i IN 1 .. $rules LOOP"
		  . " EXECUTE format('CREATE TABLE ruled_%s (v int)', i); END LOOP; END\$\$");
	settle_servers();
	restart_under_valgrind(@nodes);

	my $setup = "SET tcs.session_token = '" . new_token() . "'";
	my @variants = (
		[ 'without a rule', '' ],
		[ 'again', '' ],
		[ "with $rules rules for other tables",
			"SELECT count(tcs.set_rule(format('ruled_%s', i)::regclass, 'strong')) FROM generate_series(1, $rules) i" ],
		[ "with $rules, one of them for this table",
			q{SELECT tcs.drop_rule('ruled_1'), tcs.set_rule('t', 'session')} ]);

	foreach my $variant (@variants)
	{
		my ($name, $statement) = @$variant;

		query('primary', $statement) if $statement;
		settle_servers();
		foreach my $protocol (@protocols)
		{
			my %read = (
				protocol => $protocol,
				setup => $setup,
				value => 5000,
				statement => 'SELECT v FROM t WHERE id = ' . ($protocol eq 'simple' ? '5000' : '$1'));

			$spent{$protocol}{$name} = [ instructions('standby', %read) ];
		}
	}
	foreach my $protocol (@protocols)
	{
		my ($base, $own) = @{ $spent{$protocol}{'without a rule'} };

		remark(sprintf '%s protocol, without a rule: %.0f instructions, %.0f of tcs', $protocol, $base, $own);
		foreach my $name (map { $_->[0] } @variants[ 1 .. $#variants ])
		{
			my ($all, $of_tcs) = @{ $spent{$protocol}{$name} };

			result(sprintf('%s, %s (%+.0f, %.0f of tcs)', $protocol, $name, $all - $base, $of_tcs),
				100 * ($all / $base - 1), '%',
				$name eq 'again' ? '' : $protocol eq 'prepared' ? 'max 1' : 'max 2');
		}
	}
	restart_without_valgrind(@nodes);
	query('primary', 'TRUNCATE tcs.rule');
}


##
## Main
##

my $began = time;

start_servers();

open(my $load, '<', '/proc/loadavg');
my ($others) = split ' ', <$load>;

printf "tcs %s, PostgreSQL %s, %d processors, load %s at the start, %d rounds%s\n",
  $commit, $version, scalar(grep { /^processor/ } do { open(my $f, '<', '/proc/cpuinfo'); <$f> }),
  $others, $rounds, $short ? ' (SHORT: the figures mean nothing)' : $quick ? ' (QUICK)' : '';

my %sections = (
	1 => \&instructions_section,
	2 => \&ryw_section,
	3 => \&strong_section,
	4 => \&crowd_section,
	5 => \&redirect_section,
	6 => \&linearizable_section,
	7 => \&rules_section);

foreach my $number (split ' ', ($ENV{SECTIONS} || join ' ', sort keys %sections))
{
	die "bench: there is no section $number\n" unless $sections{$number};
	$sections{$number}->();
}

printf "\n%d targets met, %d missed; %.0f s; tcs %s, PostgreSQL %s\n", scalar(grep { $_ eq 'met' } @results),
  scalar(@misses), time - $began, $commit, $version;
print "Missed:\n", map { "  $_\n" } @misses if @misses && !$short;
print "Void:\n", map { "  $_\n" } @faults if @faults;
exit(@faults ? 1 : 0);
