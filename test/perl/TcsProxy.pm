# test/perl/TcsProxy.pm
#
# A proxy between two servers.
#
# Forwards bytes, in a process of its own, until it is told otherwise:
#
#   pass          forward, on all connections (what was held back goes first)
#   stall         forward nothing; new connections are accepted all the same
#   stall_old     forward nothing on the connections there are, pass new ones
#   cut           close the connections there are
#   cut_after N   forward N more bytes to the client of the connection that is
#                 next to have any, then close it
#   stall_after N the same, then stall it

package TcsProxy;

use strict;
use warnings;

use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::IP;
use IO::Socket::UNIX;
use POSIX ();
use Socket;

# new($host, $port, listen => '127.0.0.1', on => 0): forwards to a server, by its
# socket if the host is a folder
sub new
{
	my ($class, $host, $port, %opt) = @_;
	my $listener = IO::Socket::IP->new(
		LocalHost => $opt{listen} // '127.0.0.1',
		LocalPort => $opt{on} // 0,
		Proto => 'tcp',
		Listen => 50) or die "cannot listen: $!";

	socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC)
	  or die "socketpair: $!";
	$_->autoflush(1) foreach ($ours, $theirs);

	my $self = bless {
		control => $ours,
		listener => $listener,
		port => $listener->sockport,
		host => $host,
		target => $port,
		pairs => {},
		stall => 0
	  },
	  $class;

	$self->{pid} = fork() // die "fork: $!";
	if ($self->{pid} == 0)
	{
		close($ours);
		$self->{control} = $theirs;
		eval { $self->work; };
		print STDERR "proxy: $@" if $@;
		POSIX::_exit(0);
	}
	close($theirs);
	close($listener);
	return $self;
}

sub port { return $_[0]->{port}; }

# Returns when the proxy does what it was told.
sub tell
{
	my ($self, @words) = @_;

	syswrite($self->{control}, "@words\n");
	sysread($self->{control}, my $answer, 1) or die 'the proxy is gone';
	return;
}

sub stop
{
	my ($self) = @_;

	kill('KILL', $self->{pid});
	waitpid($self->{pid}, 0);
	return;
}

## in the process of its own

sub work
{
	my ($self) = @_;

	$SIG{PIPE} = 'IGNORE';
	while (1)
	{
		my ($read, $write) =
		  (IO::Select->new($self->{control}, $self->{listener}), IO::Select->new);

		foreach my $pair (values %{ $self->{pairs} })
		{
			next if $pair->{stalled};
			foreach my $side (0, 1)
			{
				if (length $pair->{to}[$side])
				{
					$write->add($pair->{socket}[$side]);
				}
				else
				{
					$read->add($pair->{socket}[ 1 - $side ]);
				}
			}
		}

		my ($readable, $writeable) = IO::Select::select($read, $write, undef);

		foreach my $socket (@{ $writeable // [] }, @{ $readable // [] })
		{
			if ($socket == $self->{control})
			{
				$self->obey;
			}
			elsif ($socket == $self->{listener})
			{
				$self->accept_one;
			}
			elsif (my $pair = $self->pair_of($socket))
			{
				my $side = $pair->{socket}[0] == $socket ? 0 : 1;

				next if $pair->{stalled};
				length $pair->{to}[$side]
				  ? $self->forward($pair, $side)
				  : $self->take($pair, $side);
			}
		}
	}
	return;
}

sub pair_of
{
	my ($self, $socket) = @_;
	my $fd = fileno($socket);

	return if !defined $fd;
	return (grep { fileno($_->{socket}[0]) == $fd || fileno($_->{socket}[1]) == $fd }
		  values %{ $self->{pairs} })[0];
}

sub accept_one
{
	my ($self) = @_;
	my $client = $self->{listener}->accept or return;
	my ($host, $port) = ($self->{host}, $self->{target});
	my $server =
	  $host =~ m{^/}
	  ? IO::Socket::UNIX->new(Peer => "$host/.s.PGSQL.$port")
	  : IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port);

	if (!$server)
	{
		close($client);
		return;
	}
	$_->blocking(0) foreach ($client, $server);
	$self->{pairs}{ fileno($client) } = {
		socket => [ $client, $server ],
		to => [ '', '' ],
		stalled => $self->{stall}
	};
	return;
}

sub close_pair
{
	my ($self, $pair) = @_;

	delete $self->{pairs}{ fileno($pair->{socket}[0]) };
	close($_) foreach @{ $pair->{socket} };
	return;
}

# Bytes from one side, for the other.
sub take
{
	my ($self, $pair, $side) = @_;
	my $got = sysread($pair->{socket}[$side], $pair->{to}[ 1 - $side ], 65536);

	return if !defined $got && ($!{EAGAIN} || $!{EINTR});
	return $self->close_pair($pair) if !$got;

	# the answer to what we were told to break off
	if ($side == 1 && defined $self->{limit})
	{
		if ($got > $self->{limit})
		{
			$pair->{to}[0] = substr($pair->{to}[0], 0, $self->{limit});
			$pair->{last} = $self->{then};
			delete $self->{limit};
		}
		else
		{
			$self->{limit} -= $got;
		}
	}
	return $self->forward($pair, 1 - $side);
}

sub forward
{
	my ($self, $pair, $side) = @_;

	if (length $pair->{to}[$side])
	{
		my $put = syswrite($pair->{socket}[$side], $pair->{to}[$side]);

		return if !defined $put && ($!{EAGAIN} || $!{EINTR});
		return $self->close_pair($pair) if !defined $put;
		substr($pair->{to}[$side], 0, $put, '');
	}
	return if length $pair->{to}[$side] || !$pair->{last};
	return $self->close_pair($pair) if $pair->{last} eq 'cut';
	$pair->{stalled} = 1;
	return;
}

sub obey
{
	my ($self) = @_;
	my $line = '';

	sysread($self->{control}, $line, 1, length $line) or POSIX::_exit(0)
	  while $line !~ /\n/;

	my ($command, $number) = split ' ', $line;
	my @pairs = values %{ $self->{pairs} };

	if ($command eq 'pass')
	{
		$self->{stall} = 0;
		delete $self->{limit};
		foreach my $pair (@pairs)
		{
			$pair->{stalled} = 0;
			delete $pair->{last};
		}
	}
	elsif ($command =~ /^stall(_old)?$/)
	{
		$self->{stall} = $1 ? 0 : 1;
		$_->{stalled} = 1 foreach @pairs;
	}
	elsif ($command eq 'cut')
	{
		$self->close_pair($_) foreach @pairs;
	}
	elsif ($command =~ /^(cut|stall)_after$/)
	{
		$self->{then} = $1;
		$self->{limit} = $number;
	}
	syswrite($self->{control}, '.');
	return;
}

1;
