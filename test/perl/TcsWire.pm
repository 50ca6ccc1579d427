# test/perl/TcsWire.pm
#
# A client that speaks the frontend/backend protocol itself.  psql cannot send
# what tests of a gate must send: named prepared statements and portals of the
# extended protocol, portals read a few rows at a time, pipelines with and
# without Sync, function calls; and a background psql does not tell when the
# server has answered half of it.  Nothing but core Perl is needed.
#
#     my $c = TcsWire->new($node, options => '-c tcs.read_level=strong');
#
#     my @res = $c->query('SELECT 1; SELECT 2');       # simple protocol
#
#     $c->parse('s1', 'SELECT $1::int')->bind('p1', 's1', 42)
#       ->execute('p1', 5)->sync;                      # sends nothing yet
#     $c->flush;                                       # sends it
#     @res = $c->results;                              # until ReadyForQuery
#
# Each result is a hash: rows (array of arrays, undef for NULL), tag ('SELECT 1';
# undef if suspended or failed), state (SQLSTATE; '00000' without an error),
# error (fields of the message by their letter), suspended, copy (text).
# Errors are returned, never thrown; a connection that is lost is a result with
# state 08006.
#
# Access as the servers of PostgreSQL::Test give it: no password.

package TcsWire;

use strict;
use warnings;

use Carp;
use IO::Socket::INET;
use IO::Socket::UNIX;
use PostgreSQL::Test::Utils;

# new($node, dbname => 'postgres', user => ..., options => '-c name=value',
#     replication => 'true', application_name => ...)
sub new
{
	my ($class, $node, %opt) = @_;
	my ($host, $port) = ($node->host, $node->port);
	my $self = bless {
		node => $node,
		opt => \%opt,
		out => '',
		in => '',
		parameters => {},
		notices => [],
		lost => 0
	  },
	  $class;
	my %startup = (
		user => $opt{user} // $ENV{PGUSER} // scalar getpwuid($<),
		database => $opt{dbname} // 'postgres',
		client_encoding => 'UTF8');

	foreach my $name (qw(options replication application_name))
	{
		$startup{$name} = $opt{$name} if defined $opt{$name};
	}
	$self->{socket} =
	  $host =~ m{^/}
	  ? IO::Socket::UNIX->new(Peer => "$host/.s.PGSQL.$port")
	  : IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port);
	croak "cannot connect to $host, port $port: $!" if !$self->{socket};

	my $body = pack('N', 3 << 16)
	  . join('', map { "$_\0$startup{$_}\0" } sort keys %startup) . "\0";

	$self->{out} = pack('N', length($body) + 4) . $body;
	my ($refused) = $self->results;

	croak $node->name . ': ' . describe_result($refused) if $refused;
	return $self;
}

# Pid of the server process; state of the transaction at the last
# ReadyForQuery: I, T or E; last reported value of a parameter; notices so far.
sub pid { return $_[0]->{pid}; }
sub status { return $_[0]->{status}; }
sub parameter { return $_[0]->{parameters}{ $_[1] }; }
sub notices { return @{ $_[0]->{notices} }; }

sub disconnect
{
	my ($self) = @_;

	return if !$self->{socket};
	$self->_message('X', '')->flush;
	close($self->{socket});
	$self->{socket} = undef;
	return;
}


##
## Messages: queued until flush, results or query
##

sub _message
{
	my ($self, $type, $body) = @_;

	$self->{out} .= $type . pack('N', length($body) + 4) . $body;
	return $self;
}

sub simple
{
	my ($self, $sql) = @_;

	return $self->_message('Q', "$sql\0");
}

# Types of the parameters are left to the server.
sub parse
{
	my ($self, $statement, $sql) = @_;

	return $self->_message('P', "$statement\0$sql\0" . pack('n', 0));
}

# Parameters and results in text format.
sub bind    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self, $portal, $statement, @params) = @_;

	return $self->_message('B',
		"$portal\0$statement\0" . pack('nn', 0, scalar @params)
		  . _values(@params)
		  . pack('n', 0));
}

# kind: S (statement) or P (portal)
sub describe
{
	my ($self, $kind, $name) = @_;

	return $self->_message('D', "$kind$name\0");
}

sub execute
{
	my ($self, $portal, $max_rows) = @_;

	return $self->_message('E', "$portal\0" . pack('N', $max_rows // 0));
}

sub close_object
{
	my ($self, $kind, $name) = @_;

	return $self->_message('C', "$kind$name\0");
}

sub sync
{
	my ($self) = @_;

	return $self->_message('S', '');
}

# Asks the server to send what it has, without ending the pipeline.
sub ask
{
	my ($self) = @_;

	return $self->_message('H', '');
}

# Function call of the "fastpath" sub-protocol.
sub call
{
	my ($self, $oid, @params) = @_;

	return $self->_message('F',
		pack('Nnn', $oid, 0, scalar @params) . _values(@params) . pack('n', 0));
}

# COPY FROM STDIN: rows, the end of them, or the client's own failure.
sub copy_data
{
	my ($self, $text) = @_;

	return $self->_message('d', $text);
}

sub copy_done
{
	my ($self) = @_;

	return $self->_message('c', '');
}

sub copy_fail
{
	my ($self, $why) = @_;

	return $self->_message('f', "$why\0");
}

# A whole statement through the unnamed statement and portal, without Sync.
sub extended
{
	my ($self, $sql, @params) = @_;

	return $self->parse('', $sql)->bind('', '', @params)->execute('');
}

sub _values
{
	return
	  join('', map { defined $_ ? pack('N', length $_) . $_ : pack('N', 0xffffffff) } @_);
}


##
## Traffic
##

# Sends what was queued.
sub flush
{
	my ($self) = @_;

	local $SIG{PIPE} = 'IGNORE';
	while (length $self->{out})
	{
		my $sent = syswrite($self->{socket}, $self->{out});

		if (!defined $sent)
		{
			next if $!{EINTR};
			$self->{lost} = 1;
			last;
		}
		substr($self->{out}, 0, $sent, '');
	}
	return $self;
}

# Results until ReadyForQuery, or until there are $count of them.  Several
# pipelines that were sent at once are read one after another.
sub results
{
	my ($self, $count) = @_;
	my @results;
	my $current;

	$self->flush;
	while (1)
	{
		my ($type, $body) = $self->_next_message;

		if (!defined $type)
		{
			push @results, { rows => [], state => '08006', error => {} };
			last;
		}
		if ($type eq 'Z')
		{
			$self->{status} = $body;
			last;
		}
		elsif ($type eq 'D' || $type eq 'V')
		{
			$current //= _new_result();
			push @{ $current->{rows} }, _row($type, $body);
			next if $type eq 'D';
			$current->{tag} = 'FUNCTION';
		}
		elsif ($type eq 'd')
		{
			$current //= _new_result();
			$current->{copy} .= $body;
			next;
		}
		elsif ($type eq 'C')
		{
			$current //= _new_result();
			$current->{tag} = unpack('Z*', $body);
		}
		elsif ($type eq 's')
		{
			$current //= _new_result();
			$current->{suspended} = 1;
		}
		elsif ($type eq 'E')
		{
			$current //= _new_result();
			$current->{error} = _fields($body);
			$current->{state} = $current->{error}{C};
		}
		else
		{
			$self->_aside($type, $body);
			next;
		}
		push @results, $current;
		$current = undef;
		last if defined $count && @results >= $count;
	}
	return @results;
}

# Simple protocol: all results of the string.
sub query
{
	my ($self, $sql) = @_;

	return $self->simple($sql)->results;
}

# The statements must succeed; returns the rows of the last one, columns joined
# by "|", rows by newlines, as psql -At prints them.
sub ok_query
{
	my ($self, $sql) = @_;
	return $self->_text_of($sql, $self->query($sql));
}

sub _text_of
{
	my ($self, $sql, @results) = @_;

	foreach my $result (@results)
	{
		croak $self->{node}->name . ": \"$sql\" failed: " . describe_result($result)
		  if $result->{state} ne '00000';
	}
	return rows_text($results[-1]);
}

# Has the server sent anything that was not read yet?
sub answered
{
	my ($self) = @_;
	my $readable = '';

	return 1 if length $self->{in} > 0;
	vec($readable, fileno($self->{socket}), 1) = 1;
	return select($readable, undef, undef, 0) > 0;
}

# As ok_query, for a connection that watches a standby: replay can cancel any
# query there, or end the session; such a query is sent again.
sub look
{
	my ($self, $sql) = @_;
	my @results;

	for (1 .. 100)
	{
		@results = $self->query($sql);
		if (grep { $_->{state} eq '08006' } @results)
		{
			%$self = %{ TcsWire->new($self->{node}, %{ $self->{opt} }) };
			next;
		}
		last if !grep { $_->{state} eq '40001' } @results;
	}
	return $self->_text_of($sql, @results);
}

# For a connection that watches a standby: replay stands still, or goes on,
# when these return.  As pause_replay and resume_replay of TcsTest, but without
# a psql for each, for tests that do it a hundred times.
sub stop_replay
{
	my ($self) = @_;

	$self->look('SELECT pg_wal_replay_pause()');
	$self->poll("SELECT pg_get_wal_replay_pause_state() = 'paused'")
	  or croak $self->{node}->name . ': replay did not pause';
	return;
}

sub go_on
{
	my ($self) = @_;

	$self->look('SELECT pg_wal_replay_resume()');
	return;
}

# Until $client, which has sent a statement, waits for replay, or has its answer
# all the same.  True if it waits.
sub wait_until_held
{
	my ($self, $client) = @_;

	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	until (
		$self->look('SELECT waiting_sessions > 0 FROM tcs.status') eq 't')
	{
		return 0 if $client->answered;
		croak $self->{node}->name . ': neither an answer nor a wait'
		  if time > $deadline;
	}
	return 1;
}

# Sends a statement of $client that is expected to wait for replay, lets replay
# go on when it does, and returns its results.  $held, if given, is told whether
# it has waited.
sub release
{
	my ($self, $client, $sql, $held) = @_;

	$client->simple($sql) if defined $sql;
	$client->flush;

	my $waits = $self->wait_until_held($client);

	$$held = $waits if $held;
	$self->go_on;
	return $client->results;
}

# The result of a statement of $client that is expected not to wait.  If it
# does, it is cancelled, which makes the result an error.
sub unheld
{
	my ($self, $client, $sql) = @_;

	$client->simple($sql) if defined $sql;
	$client->flush;
	$self->look('SELECT pg_cancel_backend(' . $client->pid . ')')
	  if $self->wait_until_held($client);
	return $client->results;
}

# Repeats a query until it returns "t"; false if it does not as long as the test
# modules ever wait.
sub poll
{
	my ($self, $sql) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	until ($self->look($sql) eq 't')
	{
		return 0 if time > $deadline;
		select(undef, undef, undef, 0.01);
	}
	return 1;
}

# Rows of a result as text; describe_result has the error if there is one.
sub rows_text
{
	my ($result) = @_;

	return join("\n",
		map { join('|', map { $_ // '' } @$_) } @{ $result->{rows} });
}

sub describe_result
{
	my ($result) = @_;

	return rows_text($result) if $result->{state} eq '00000';
	return join(': ',
		$result->{state},
		grep { defined } @{ $result->{error} }{qw(M D)});
}

sub _new_result
{
	return { rows => [], state => '00000', copy => '' };
}

sub _row
{
	my ($type, $body) = @_;
	my ($count, $at) = $type eq 'V' ? (1, 0) : (unpack('n', $body), 2);
	my @columns;

	while ($count-- > 0)
	{
		my $length = unpack('N', substr($body, $at, 4));

		$at += 4;
		if ($length == 0xffffffff)
		{
			push @columns, undef;
			next;
		}
		push @columns, substr($body, $at, $length);
		$at += $length;
	}
	return \@columns;
}

sub _fields
{
	my ($body) = @_;

	return { map { /^(.)(.*)/s ? ($1, $2) : () } split /\0/, $body };
}

# What is no part of a result.
sub _aside
{
	my ($self, $type, $body) = @_;

	if ($type eq 'S')
	{
		my ($name, $value) = split /\0/, $body;

		$self->{parameters}{$name} = $value // '';
	}
	elsif ($type eq 'K')
	{
		$self->{pid} = unpack('N', $body);
	}
	elsif ($type eq 'N')
	{
		push @{ $self->{notices} }, _fields($body);
	}
	elsif ($type eq 'R')
	{
		croak 'the server asks for a password' if unpack('N', $body) != 0;
	}
	return;
}

# (type, body) of the next message; nothing when the connection is lost.  Dies
# when the server says nothing for as long as the test modules ever wait.
sub _next_message
{
	my ($self) = @_;

	while (1)
	{
		if (length $self->{in} >= 5)
		{
			my ($type, $length) = unpack('aN', $self->{in});

			if (length $self->{in} > $length)
			{
				my $body = substr($self->{in}, 5, $length - 4);

				substr($self->{in}, 0, $length + 1, '');
				return ($type, $body);
			}
		}

		my $readable = '';

		vec($readable, fileno($self->{socket}), 1) = 1;
		my $ready =
		  select($readable, undef, undef, $PostgreSQL::Test::Utils::timeout_default);

		next if $ready < 0 && $!{EINTR};
		croak $self->{node}->name . ': no answer from the server' if $ready == 0;

		my $got = sysread($self->{socket}, $self->{in}, 65536, length $self->{in});

		next if !defined $got && $!{EINTR};
		if (!$got)
		{
			$self->{lost} = 1;
			return;
		}
	}
	return;
}

1;
