# test/t/700_versions.pl
#
# Nodes of different versions.  Token, answer of the primary and SQL script
# carry their own; during a rolling upgrade any two of them meet.  A library
# must serve functions that were declared for an earlier one, and the step to a
# later script must work while sessions wait.  Answers of a later primary are
# understood as far as they go, tokens of a later version are taken at SET and
# refused by the reads that depend on them, a standby of a later version is
# answered and shown.  Tokens survive poolers that fold their case.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsReadIndex;
use TcsTest;
use TcsWire;

my $proxy;
my ($primary, $standby) = new_pair();
my $read = 'SELECT v FROM t';

$primary->safe_psql('postgres', 'CREATE TABLE t (v int); INSERT INTO t VALUES (0)');
$primary->safe_psql('postgres', 'CREATE DATABASE later');
wait_for_replay($primary, $standby);
wait_for_answer($standby);


##
## A library and the script of an earlier or later one
##

# Declared as an earlier script would have: the columns that there were then.
my %earlier = (
	tcs_status => 'OUT role text, OUT library_version text, OUT system_identifier bigint',
	tcs_last_read => 'OUT level text, OUT level_source text',
	tcs_token_info => 'token text, OUT version int, OUT system_identifier bigint, OUT timeline_id int',
	tcs_stat_reads => 'OUT level text, OUT reads bigint',
	tcs_stat_downgrades => 'OUT level text, OUT served_level text',
	tcs_askers => 'OUT pid int, OUT application_name text');
my @set_returning = qw(tcs_stat_reads tcs_stat_downgrades tcs_askers);
my $token = write_token($primary, 'UPDATE t SET v = 1');

$primary->safe_psql('postgres', 'CREATE SCHEMA earlier; CREATE SCHEMA later');
foreach my $function (sort keys %earlier)
{
	my ($set) = grep { $_ eq $function } @set_returning;
	my $returns = $set ? 'RETURNS SETOF record' : '';
	my $more = join(', ', map { "OUT more$_ text" } 1 .. 40);
	my $now = $primary->safe_psql('postgres',
		"SELECT pg_get_function_arguments(oid) FROM pg_proc
		  WHERE prosrc = '$function' AND pronamespace IN ('tcs'::regnamespace, 'tcs_internal'::regnamespace)");
	my $argument = $function eq 'tcs_token_info' ? "'$token'" : '';

	$primary->safe_psql(
		'postgres',
		"CREATE FUNCTION earlier.$function($earlier{$function}) $returns
			AS '\$libdir/tcs', '$function' LANGUAGE C STRICT;
		 CREATE FUNCTION later.$function($now, $more) $returns
			AS '\$libdir/tcs', '$function' LANGUAGE C STRICT");
	is(psql_err($primary, "SELECT * FROM earlier.$function($argument)"),
		'00000', "$function as an earlier script declares it");

	# columns that a later script has added are null
	is(psql_err($primary, "SELECT * FROM later.$function($argument)"),
		'00000', "$function as a later script declares it");
}
is( $primary->safe_psql('postgres',
		q{SELECT role, split_part(library_version, ' ', 1) FROM earlier.tcs_status()}),
	'primary|1.0',
	'... with the right values');

# A step to a next script, where this server's folder lets us put one.
SKIP:
{
	my $folder = $primary->config_data('--sharedir') . '/extension';
	my $step = "$folder/tcs--1.0--1.0.test.sql";

	skip "$folder cannot be written to", 8 if !-w $folder;
	unlink $step;
	append_to_file($step, <<'EOSQL');
CREATE FUNCTION tcs.added() RETURNS text LANGUAGE sql AS $$ SELECT 'added'::text $$;
CREATE OR REPLACE FUNCTION tcs.can_serve(level text, max_staleness interval DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tcs_can_serve'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
EOSQL

	pause_replay($standby);
	my $waiting = TcsWire->new($standby);

	is( psql_err($primary, q{ALTER EXTENSION tcs UPDATE TO '1.0.test'}),
		'00000', 'the step to a next script');
	$token = write_token($primary, 'UPDATE t SET v = 2');
	$waiting->ok_query("SET tcs.max_wait = -1; SET tcs.session_token = '$token'");
	$waiting->simple($read)->flush;
	wait_for_waiters($standby);
	resume_replay($standby);
	is(TcsWire::describe_result($waiting->results), '2', '... while a session waits');
	foreach my $node ($primary, $standby)
	{
		is( read_at(
				$node,
				'SELECT tcs.added(), (SELECT split_part(library_version, $$ $$, 1) FROM tcs.status),'
				  . q{ (SELECT extversion FROM pg_extension WHERE extname = 'tcs')}),
			'added|1.0|1.0.test',
			$node->name . ': library of one version, script of the next');
		is(read_at($node, q{SELECT tcs.can_serve('strong')}),
			't', '... works');
	}
	is( psql_err($primary, 'CREATE EXTENSION tcs', dbname => 'later'),
		'00000', 'the version of the control file elsewhere');
	is(psql_err($primary, 'DROP EXTENSION tcs', dbname => 'later'), '00000', '... is dropped');
	unlink $step;
}


##
## Answers of another version
##

# A proxy makes of the true answers what a primary of another version would say:
# it replaces text in them as a file says.
my $how = PostgreSQL::Test::Utils::tempdir() . '/how';

sub answers_are
{
	my ($pattern, $replacement) = @_;

	append_to_file("$how.new", "$pattern\n$replacement\n");
	rename "$how.new", $how or die $!;
	return;
}

# One message of the server with the text in it changed, if it is an answer.
sub changed
{
	my ($type, $body) = @_;
	my ($columns, $len) = unpack 'n N', $body;

	if ($type eq 'D' && $columns == 1)
	{
		my $answer = substr $body, 6;
		my ($pattern, $replacement) = split /\n/, slurp_file($how);

		$replacement = '' unless defined $replacement;
		$answer =~ s/$pattern/my $group = $1 \/\/ ''; $replacement =~ s{\\1}{$group}r/e if $answer =~ /^1 (primary|standby) /;
		$body = pack 'n N a*', 1, length $answer, $answer;
	}
	return $type . pack('N', length($body) + 4) . $body;
}

# Runs the proxy in a process of its own; returns its port.
sub start_proxy
{
	my ($node) = @_;
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die $!;

	$proxy = fork;
	die $! unless defined $proxy;
	return $listen->sockport if $proxy;

	my $all = IO::Select->new($listen);
	my (%peer, %is_server, %buffer);

	while (my @ready = $all->can_read)
	{
		foreach my $from (@ready)
		{
			if ($from == $listen)
			{
				my $client = $listen->accept or next;
				my $server = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port);

				next unless $server;
				$peer{$client} = $server;
				$peer{$server} = $client;
				$is_server{$server} = 1;
				$buffer{$server} = '';
				$all->add($client, $server);
			}
			elsif (!exists $peer{$from})
			{
				# its peer has gone in this round
			}
			elsif (!sysread $from, my $data, 65536)
			{
				my $other = delete $peer{$from};

				delete $peer{$other};
				$all->remove($from, $other);
				close $_ foreach $from, $other;
			}
			elsif (!$is_server{$from})
			{
				syswrite $peer{$from}, $data;
			}
			else
			{
				$buffer{$from} .= $data;
				while (length $buffer{$from} > 4)
				{
					my ($type, $len) = unpack 'a N', $buffer{$from};

					last if length $buffer{$from} < $len + 1;
					syswrite $peer{$from}, changed($type, substr $buffer{$from}, 5, $len - 4);
					substr $buffer{$from}, 0, $len + 1, '';
				}
			}
		}
	}
	POSIX::_exit(0);
}

END
{
	kill 'KILL', $proxy if $proxy;
}

answers_are('$', '');
my $port = start_proxy($primary);
my $user = $primary->safe_psql('postgres', 'SELECT current_user');

$standby->append_conf('postgresql.conf',
	"tcs.primary_conninfo = 'host=127.0.0.1 port=$port dbname=later user=$user sslmode=disable gssencmode=disable'");
$standby->reload;

sub is_served
{
	my ($what) = @_;
	my $value = $primary->safe_psql('postgres', 'UPDATE t SET v = v + 1 RETURNING v');

	is(read_at($standby, $read, level => 'strong', max_wait => '60s'),
		$value, "$what: strong is served");
	return;
}

sub is_not_understood
{
	my ($what, $reason) = @_;

	ok( $standby->poll_query_until(
			'postgres',
			"SELECT coalesce(link_state <> 'up' AND link_detail ~ '$reason', false) FROM tcs.status"),
		"$what: tcs.status says why")
	  or diag $standby->safe_psql('postgres', 'SELECT link_state, link_detail FROM tcs.status');
	is(psql_err($standby, $read, level => 'strong', max_wait => '300ms'),
		'TC004', '... strong does not know');
	return;
}

is_served('an answer as it is');
answers_are('^1 ', '2 ');
is_served('a later version of the answer');
answers_are('$', ' more=1 of:this,and that');
is_served('an answer with more fields');
answers_are(' 1\.0 ', ' 12.34rc5 ');
is_served('another version of the library');
answers_are('.*', 'E 2: tea is ready');
is_not_understood('what is no answer', 'not understood');
answers_are('^1 ', '0 ');
is_not_understood('version 0', 'not understood');
answers_are('^.*$', '');
is_not_understood('nothing', 'not understood');
answers_are(' primary ', ' standby ');
is_not_understood('a standby', 'itself a standby');
answers_are(' primary [0-9a-f]+ ', ' primary 1234 ');
is_not_understood('another cluster', 'another database cluster');
answers_are('(:[0-9a-f]+)(?= \w+$)', '\19');
is_not_understood('a timeline that began elsewhere', 'does not descend');
answers_are('$', '');
is_served('a good answer again');
$standby->append_conf('postgresql.conf', q{tcs.primary_conninfo = ''});
$standby->reload;


##
## A standby of another version
##

my $asker = TcsWire->new($primary, options => '-c tcs.asker=9.9beta\ 7\ and\ more');

is($asker->ok_query("SELECT ($TcsReadIndex::query) IS NOT NULL"),
	't', 'a standby of a later version is answered');
is( $primary->safe_psql('postgres',
		q{SELECT library_version, token_version, asks FROM tcs.standbys
		  WHERE library_version LIKE '9%'}),
	'9.9beta|7|t',
	'... and shown');
my $built = TcsWire->new($primary, options => '-c tcs.asker=9.9\ 7\ (v9.9-1-gabc)');

is($built->ok_query("SELECT ($TcsReadIndex::query) IS NOT NULL"), 't', 'one of another build');
is($primary->safe_psql('postgres', q{SELECT string_agg(library_version, ',') FROM tcs.standbys WHERE library_version LIKE '9.9 %'}),
	'9.9 (v9.9-1-gabc)', '... is told from others of its version');
$built->disconnect;
my $odd = TcsWire->new($primary,
	options => '-c tcs.asker=' . ('x' x 200) . '\ ' . ('9' x 30));

is($odd->ok_query("SELECT ($TcsReadIndex::query) IS NOT NULL"),
	't', 'so is one that says strange things of itself');
$_->disconnect foreach $asker, $odd;
ok( $primary->poll_query_until('postgres',
		q{SELECT count(*) = 0 FROM tcs_internal.askers()
		  WHERE library_version LIKE '9%' OR library_version LIKE 'x%'}),
	'... until they are gone');


##
## A token of another version, and of another case
##

my $later = with_check_digits('2.abc.1.0.ffff.ffff.ffff.77.88');

foreach my $node ($primary, $standby)
{
	my $name = $node->name;

	is(psql_err($node, "SET tcs.session_token = '$later'"),
		'00000', "$name: SET takes a token of a later version");
	is(psql_err($node, $read, token => $later), 'TC004', '... a read that depends on it does not');
	is(psql_err($node, $read, token => $later, level => 'eventual'),
		'00000', '... one that does not depends not');
	is(psql_err($node, "CALL tcs.wait_for('$later')"), 'TC004', '... nor tcs.wait_for()');
	is(psql_err($node, 'SELECT 1', token => $later), '00000', '... what reads nothing works');
}

# Which a write does not make forget.
my $client = TcsWire->new($primary);

$client->ok_query("SET tcs.session_token = '$later'; SET tcs.read_level = 'eventual'");
is($client->parameter('tcs.session_token'), $later, 'it is reported back as it came');

# A pooler that compares without regard to case may hand back either.
$token = write_token($primary, 'UPDATE t SET v = v + 1');
my $value = $primary->safe_psql('postgres', $read);

foreach my $text (uc $token, lc $token, $token =~ s/([a-f])/uc $1/er)
{
	is(read_at($standby, $read, token => $text, max_wait => '60s'), $value, "token in any case");
	is($primary->safe_psql('postgres', "SELECT tcs.token_info('$text') = tcs.token_info('$token')"),
		't', '... says the same');
}

done_testing();
