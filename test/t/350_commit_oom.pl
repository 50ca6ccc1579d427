# test/t/350_commit_oom.pl
#
# Memory that runs out while a commit reports its token.  An error after the
# commit record would be a PANIC of the whole server, so whatever allocation
# fails there, the commit must stand, the server must go on, and the token must
# reach the client with one of the next statements.  The server runs with a
# malloc() of the test's making that fails on demand, at each place in turn.
# That reaches settings on 15 only: later versions keep them in memory contexts.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my $primary = PostgreSQL::Test::Cluster->new('primary');
my ($major) = $primary->config_data('--version') =~ /^PostgreSQL (\d+)/;

plan skip_all => 'settings are allocated by malloc() on 15 only' if $major != 15;

# Fails allocations of the sizes of a token's text and of what a check hook
# keeps, while the file "armed" is there: those behind the first N, where N is
# what the file says.  Each failure leaves a byte in the file "failed".
my $folder = PostgreSQL::Test::Utils::tempdir;

append_to_file("$folder/failing.c", <<"EOC");
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);

void *
malloc(size_t size)
{
	static int	spared = 0;
	char		text[16];
	int			saved_errno = errno;
	int			fd;
	ssize_t		n;

	if (size < 24 || size > 200)
		return __libc_malloc(size);
	fd = open("$folder/armed", O_RDONLY);
	if (fd < 0)
	{
		spared = 0;
		errno = saved_errno;
		return __libc_malloc(size);
	}
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	if (spared++ < atoi(text))
	{
		errno = saved_errno;
		return __libc_malloc(size);
	}
	fd = open("$folder/failed", O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd >= 0)
	{
		n = write(fd, "x", 1);
		close(fd);
	}
	errno = ENOMEM;
	return NULL;
}
EOC

my ($compiler) = split ' ', $primary->config_data('--cc');
my ($out, $err) = ('', '');

if (!IPC::Run::run(
		[
			$compiler, '-O', '-fno-builtin-malloc', '-shared', '-fPIC',
			'-o', "$folder/failing.so", "$folder/failing.c"
		],
		'>', \$out, '2>', \$err))
{
	plan skip_all => "no compiler ($compiler) or no __libc_malloc: $err";
}

$primary->init(allows_streaming => 1);
$primary->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'tcs'
max_prepared_transactions = 10
autovacuum = off
restart_after_crash = off
});
{
	local $ENV{LD_PRELOAD} = "$folder/failing.so";
	$primary->start;
}
$primary->safe_psql('postgres',
	'CREATE EXTENSION tcs; CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)');

my $client = TcsWire->new($primary);
my $watch = TcsWire->new($primary);

sub arm
{
	my ($spare) = @_;

	unlink "$folder/failed";
	append_to_file("$folder/armed.new", $spare);
	rename "$folder/armed.new", "$folder/armed" or die $!;
	return;
}

# How many allocations have failed.
sub disarm
{
	unlink "$folder/armed" or die $!;
	return -s "$folder/failed" // 0;
}

sub written_position
{
	return ($client->parameter('tcs.session_token') // '') =~ /^(?:\w+\.){4}(\w+)\./
	  ? hex($1)
	  : 0;
}

# Ends of transactions that wrote; what comes before has been sent already.
my %ends = (
	'autocommit' => [ 'SELECT 1', 'UPDATE t SET v = v + 1 WHERE id = 1' ],
	'COMMIT' => [ 'BEGIN; UPDATE t SET v = v + 1 WHERE id = 1', 'COMMIT' ],
	'COMMIT over SET LOCAL' => [
		q{BEGIN; SET LOCAL tcs.session_token = ''; UPDATE t SET v = v + 1 WHERE id = 1},
		'COMMIT'
	],
	'COMMIT PREPARED' => [
		q{BEGIN; UPDATE t SET v = v + 1 WHERE id = 1; PREPARE TRANSACTION 'p'},
		q{COMMIT PREPARED 'p'}
	],
	'NOTIFY' => [ 'UPDATE t SET v = v + 1 WHERE id = 1', q{NOTIFY channel} ],
	'procedure' => [
		'SELECT 1',
		'DO $$ BEGIN UPDATE t SET v = v + 1 WHERE id = 1; COMMIT; PERFORM 1; END $$'
	]);

# What follows.  A transaction that is rolled back takes its settings with it,
# but not the token of an earlier commit.
my %next = (
	'a statement' => ['SELECT v FROM t'],
	'a rollback and a statement' =>
	  [ 'BEGIN', 'SELECT v FROM t', 'ROLLBACK', 'SELECT v FROM t' ],
	'an error and a statement' => [ 'SELECT 1 / (v - v) FROM t', 'SELECT v FROM t' ]);
my $failures_in_all = 0;
my $late_in_all = 0;

foreach my $kind (sort keys %ends)
{
	my ($begin, $end) = @{ $ends{$kind} };

	# Once without a failure: what is loaded at the first use is there.
	$client->query($begin);
	$client->query($end);
	foreach my $what (sort keys %next)
	{
		my ($failures, $committed, $spare) = (1, 0, 0);
		my @wrong;

		while ($failures > 0 && $spare < 60)
		{
			my $before = $watch->ok_query('SELECT v FROM t WHERE id = 1');

			$client->ok_query($begin);
			my $expected = $before + ($kind eq 'NOTIFY' ? 1 : 0);
			my $token_before = written_position();

			arm($spare);
			my ($result) = $client->query($end);

			$failures = disarm();
			$failures_in_all += $failures;
			if ($result->{state} eq '08006')
			{
				fail("$kind: the session is lost when allocation $spare fails");
				BAIL_OUT('the server is gone') if !-e $primary->data_dir . '/postmaster.pid';
				last;
			}
			if ($result->{state} eq '00000')
			{
				$committed++;
				$expected = $before + 1;
				$late_in_all++ if written_position() <= $token_before;
				$client->query($_) foreach @{ $next{$what} };
				push @wrong, "no token after allocation $spare failed"
				  if written_position() <= $token_before;
			}
			else
			{
				# an error is one from before the commit
				$client->query('ROLLBACK');
				$client->query(q{ROLLBACK PREPARED 'p'});
			}
			my $after = $watch->ok_query('SELECT v FROM t WHERE id = 1');

			push @wrong, "$before became $after after allocation $spare failed"
			  if $after != $expected;
			$spare++;
		}
		is(join('; ', @wrong),
			'', "$kind: the commit stands, the token comes with $what at the latest");
		ok($failures == 0 && $committed > 0,
			"... each of its allocations has failed once ($spare of them)");
	}
	is($client->ok_query('SELECT 1'), '1', "$kind: the session goes on");
	is($watch->ok_query('SELECT 1'), '1', '... so do others');
}

cmp_ok($failures_in_all, '>', 10, 'allocations did fail');
unlike(slurp_file($primary->logfile), qr/PANIC/, 'no PANIC');
is( $watch->ok_query('SELECT late_token_reports > 0 FROM tcs.status'),
	$late_in_all > 0 ? 't' : 'f',
	"late reports are counted (there were $late_in_all)");

# A token that came late covers its commit.
$client->ok_query('UPDATE t SET v = -1 WHERE id = 1');
is($client->ok_query(
		q{SELECT reached_here AND written_lsn <= pg_current_wal_insert_lsn()
		  FROM tcs.token_info(current_setting('tcs.session_token'))}),
	't', 'the token is a good one');
$primary->stop;

done_testing();
