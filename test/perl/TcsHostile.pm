# test/perl/TcsHostile.pm
#
# A server that does not behave.  It speaks enough of the protocol to be taken
# for a primary by the worker of a standby, and for a redirect server by its
# sessions, and then does what the client's application_name says:
#
#     my $peer = TcsHostile->new(answer => $answer);
#     $peer->set_token($token);
#
#     host=127.0.0.1 port=... application_name=copy_out@call
#
# MOVE@PLACE: at this place it makes this move, in place of what it would have
# sent.  Any other name is answered honestly.  Places:
#
#     start      in place of the authentication
#     idle       after the first ReadyForQuery, unasked
#     ask        the worker's question (the simple protocol)
#     prepare    the first Parse
#     begin, set, lock, call, statement, commit
#                what a redirected statement consists of
#
# An honest answer to the worker is $answer, with an end of WAL that no primary
# comes to; one to redirect_begin() is $token,
# and statements return one row with the number 4711.

package TcsHostile;

use strict;
use warnings;

use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use POSIX ();

use TcsMessages;

# Types of columns.
my ($INT4, $TEXT) = (23, 25);


##
## Messages
##

my $ready = message('Z', 'I');
my $selected = message('C', "SELECT 1\0");

# The end of an answer; of the simple protocol also that of the query.
sub selected
{
	my ($self) = @_;

	return $selected . ($self->{place} =~ /ask|idle/ ? $ready : '');
}


##
## Moves
##

# What makes a terminal do something, or is not valid in any encoding.
my $escape = "\e]0;owned\a\e[2J\x9b31m\xff\xfe\xc3";

# Up to the point where the client of SCRAM is to compute, for hours.
sub asked_to_iterate
{
	my ($self) = @_;

	$self->send(message('R', pack('N', 10), "SCRAM-SHA-256\0\0"));
	my ($nonce) = ($self->next_message)[1] =~ /r=([^,]+)/;

	return message('R', pack('N', 11), "r=${nonce}x,s=c2FsdA==,i=2147483647");
}

# Each is given the connection, and sends.  The connection goes silent after it,
# as the client is expected to leave, unless the move returns GO_ON.
use constant GO_ON => 'go on';

my %moves = (
	silent => sub { },
	closes => sub { die "closed\n" },
	closes_half_way => sub { $_[0]->send(substr(row('x' x 1000), 0, 500)); die "closed\n" },
	garbage => sub { $_[0]->send("HTTP/1.1 400 Bad Request\r\n\r\n" x 100) },

	# results of another shape
	no_columns => sub { $_[0]->send(columns(), row(), $_[0]->selected) },
	no_rows => sub { $_[0]->send($_[0]->promised, $_[0]->selected) },
	null_value => sub {
		$_[0]->send($_[0]->promised, row(undef), $_[0]->selected);
		return GO_ON;
	},
	two_rows =>
	  sub { $_[0]->send($_[0]->promised, row('x'), row('y'), $_[0]->selected) },
	two_columns => sub {
		$_[0]->send(columns([ $INT4, 1 ], [ $INT4, 1 ]), row('abcd', 'abcd'), $_[0]->selected);
	},
	other_type =>
	  sub { $_[0]->send(columns([ 17, 1 ]), row('abcd'), $_[0]->selected) },
	other_format => sub {
		my ($type, $format) = @{ $_[0]->promised_column };
		$_[0]->send(columns([ $type, 1 - $format ]), row('4711'), $_[0]->selected);
	},
	more_than_promised =>
	  sub { $_[0]->send($_[0]->promised, row('abcd', 'abcd'), $_[0]->selected) },
	# what belongs to the value, and more
	long_value => sub {
		$_[0]->send($_[0]->promised, row(pack('N', 4711) . 'left over'), $_[0]->selected);
	},
	short_value => sub { $_[0]->send($_[0]->promised, row(''), $_[0]->selected) },
	invalid_text =>
	  sub { $_[0]->send($_[0]->promised, row($escape), $_[0]->selected) },
	long_text => sub {
		$_[0]->send($_[0]->promised, row('1' x 100_000), $_[0]->selected);
	},
	other_columns_later => sub {
		$_[0]->send($_[0]->promised, row(pack('N', 1)), columns(), row(), $_[0]->selected);
	},

	# something else than results
	copy_in => sub { $_[0]->send(message('G', pack('Cn', 0, 0))) },
	copy_out => sub { $_[0]->send(message('H', pack('Cn', 0, 0))) },
	copy_both => sub { $_[0]->send(message('W', pack('Cn', 0, 0))) },
	endless_copy => sub { $_[0]->flood(message('H', pack('Cn', 0, 0)), message('d', 'x' x 8000)) },
	empty_query => sub { $_[0]->send(message('I'), $ready) },
	command => sub { $_[0]->send(message('C', "SET\0"), $ready) },
	only_ready => sub { $_[0]->send($ready x 50) },
	unknown => sub { $_[0]->send(message('x', 'y'), message('~'), $_[0]->selected) },
	out_of_turn => sub {
		$_[0]->send(map { message(@$_) } ([1], [2], [3], ['n'], ['s'], ['t', "\0\0"],
			[ 'K', pack('NN', 1, 1) ], ['c'], [ 'R', pack('N', 0) ]));
	},

	# lengths that lie
	short_length => sub { $_[0]->send('D' . pack('N', 3), 'x' x 100) },
	long_length => sub { $_[0]->send('C' . pack('N', 30), "SELECT 1\0", $ready x 20) },
	row_beyond_message =>
	  sub { $_[0]->send($_[0]->promised, message('D', pack('nN', 1, 1000), 'x'), $_[0]->selected) },
	negative_length => sub { $_[0]->send($_[0]->promised, message('D', pack('nN', 1, 0xfffffff0), 'x'), $_[0]->selected) },
	claims_much => sub { $_[0]->send($_[0]->promised, 'D' . pack('Nn', 0x7fffff00, 1)) },
	columns_beyond_message => sub { $_[0]->send(message('T', pack('n', 0xffff), "c\0"), $_[0]->selected) },

	# errors that are none, or more than that
	error_without_fields => sub { $_[0]->send(message('E', "\0"), $ready) },
	error_without_state => sub { $_[0]->send(report('E', V => 'ERROR', M => 'no'), $ready) },
	error_short_state => sub { $_[0]->send(failure(C => 'X'), $ready) },
	error_odd_state => sub { $_[0]->send(failure(C => "\xff\x01\x02ab"), $ready) },
	error_success => sub { $_[0]->send(failure(C => '00000'), $ready) },
	error_escape => sub {
		$_[0]->send(failure(map { $_ => $escape } qw(M D H W q s t c d n)), $ready);
	},
	error_position => sub { $_[0]->send(failure(P => '-2147483648', q => 'x', p => '-7'), $ready) },
	error_long => sub { $_[0]->send(failure(M => 'm' x 3_000_000), $ready) },
	error_fatal => sub { $_[0]->send(failure(S => 'FATAL', V => 'FATAL', C => '57P01')) },
	error_panic => sub { $_[0]->send(failure(S => 'PANIC', V => 'PANIC')) },
	notice_escape => sub {
		$_[0]->send(
			(map { report('N', S => $_, V => $_, C => '0', M => $escape) } qw(LOG PANIC)),
			report('N', V => 'LOG', C => '00000', M => "log $escape"));
		$_[0]->send($_[0]->honest_answer);
		return GO_ON;
	},

	# what never ends
	dribble => sub {
		$_[0]->send($_[0]->promised, 'D' . pack('NnN', 100_010, 1, 100_000));
		$_[0]->flood_slowly('x');
	},
	endless_rows => sub { $_[0]->flood($_[0]->promised, row('abcd') x 100) },
	endless_row => sub {
		$_[0]->flood($_[0]->promised . 'D' . pack('NnN', 0x3ffffff0, 1, 0x3fffffe0), 'x' x 8000);
	},
	endless_results => sub { $_[0]->flood('', $selected x 100) },
	endless_notices => sub {
		$_[0]->flood('', report('N', S => 'NOTICE', V => 'NOTICE', C => '00000', M => 'n' x 1000));
	},
	endless_notifications => sub { $_[0]->flood('', message('A', pack('N', 1), "c\0", 'p' x 7000, "\0")) },
	endless_parameters => sub {
		my ($c) = @_;
		my $n = 0;
		$c->send(parameter('p' . $n++, 'v' x 10_000)) while 1;
	},
	# not too much at once, but other ones each time
	more_parameters => sub {
		my ($c) = @_;

		$c->send(parameter('p' . $c->{parameters}++, 'v' x 20_000)) for 1 .. 10;
		$c->send($c->honest_answer);
		return GO_ON;
	},
	# libpq searches their names one by one
	endless_names => sub {
		my ($c) = @_;
		my $n = 0;

		$c->send(map { parameter(sprintf('%x', $n++), '') } 1 .. 5000) while 1;
	},
	endless_columns => sub { $_[0]->flood('', columns(map { [ $INT4, 1 ] } 1 .. 1000)) },

	# at the start of a connection
	other_password => sub { $_[0]->send(message('R', pack('N', 3))) },
	endless_passwords => sub { $_[0]->flood('', message('R', pack('N', 0))) },
	unknown_authentication => sub { $_[0]->send(message('R', pack('N', 99))) },
	endless_scram => sub { $_[0]->flood(message('R', pack('N', 10), "SCRAM-SHA-256\0\0"), message('R', pack('N', 11), 'r=x,s=eA==,i=1')) },
	many_iterations => sub { $_[0]->send(asked_to_iterate($_[0])) },
	many_iterations_split => sub {
		my @pieces = split /(?<=,i=214)/, asked_to_iterate($_[0]);

		$_[0]->send($pieces[0]);
		# libpq has taken that by now
		select(undef, undef, undef, 0.1);
		$_[0]->send($pieces[1]);
	},
	lies_about_itself => sub {
		my ($c) = @_;
		$c->welcome(server_encoding => 'KLINGON', client_encoding => $escape,
			server_version => '999999999999.9', integer_datetimes => 'off',
			standard_conforming_strings => 'off', TimeZone => 'x' x 20_000);
		return GO_ON;
	},
	hides_its_state => sub {
		my ($c) = @_;
		$c->welcome(in_hot_standby => undef, default_transaction_read_only => undef);
		$c->next_message;
		$c->send(columns(), row(), $selected, $ready);
	},
	answers_unasked => sub {
		$_[0]->send($_[0]->honest_answer x 3);
		return GO_ON;
	},
	older_token => sub {
		$_[0]->send($_[0]->promised, row($_[0]->{tokens}[-2]), $_[0]->selected);
	},
	first_token => sub {
		$_[0]->send($_[0]->promised, row($_[0]->{tokens}[0]), $_[0]->selected);
		return GO_ON;
	},
	# the end of its WAL is a bit lower each time
	goes_back => sub {
		my ($c) = @_;

		$c->{end} //= hex('ffffffffffff');
		$c->send($c->honest_answer =~ s/ ffffffffffff/sprintf(' %x', $c->{end}--)/er);
		return GO_ON;
	},
);

# What an honest primary would never say; "%s" is its identifier.
my %lies = (
	says_nothing => '',
	says_blank => '     ',
	says_version => '99999999999999999999 primary %s 1 1.0 1:0',
	says_negative => '-1 primary -1 -1 -1 -1:-1',
	says_hex => '1 primary 0x%s 0x10 1.0 0x1:0x0 ffffffffffff',
	says_format => '1 primary %%n%%s%%n %%p %%p %%p',
	says_library => '1 primary %s 10 ' . 'x' x 300 . ' 1:0 ffffffffffff',
	says_no_timeline => '1 primary %s 10 1.0  ffffffffffff',
	says_timeline_0 => '1 primary %s 10 1.0 0:0 ffffffffffff',
	says_timeline_far => '1 primary %s 10 1.0 1ffffffff:0 ffffffffffff',
	says_backwards => '1 primary %s 10 1.0 1:0,2:10,3:20 ffffffffffff',
	says_twice => '1 primary %s 10 1.0 1:0,1:0,1:0 ffffffffffff',
	says_unordered => '1 primary %s 10 1.0 3:10,2:20,1:0 ffffffffffff',
	says_many => '1 primary %s 10 1.0 ' . join(',', map { sprintf '%x:0', $_ } reverse 1 .. 400) . ' ffffffffffff',
	says_escape => "1 primary %s 10 $escape 1:0 ffffffffffff",
	says_position => '1 primary %s fffffffffffffffff 1.0 1:0 ffffffffffff',
	says_no_end => '1 primary %s 10 1.0 1:0',
	says_end_far => '1 primary %s 10 1.0 1:0 fffffffffffffffff',
	says_zero => '1 primary %s 0 1.0 1:0 ffffffffffff',
	says_beyond_end => '1 primary %s 1000000000000 1.0 1:0 ffffffffffff',
	says_before_timeline => '1 primary %s 10 1.0 2:20,1:0 ffffffffffff',
	says_little => '1 primary %s 10 1.0 1:0 10',
	says_other_cluster => '1 primary 1 10 1.0 1:0 ffffffffffff',
	says_descendant => '1 primary %s ffffffffffffffff 1.0 ffffffff:ffffffffffffffff ffffffffffffffff',
);

foreach my $name (keys %lies)
{
	my $lie = $lies{$name};

	$moves{$name} = sub {
		my ($c) = @_;
		my $identifier = (split / /, $c->{answer})[2];
		$c->send(columns([ $TEXT, 0 ]), row(sprintf $lie, $identifier), $selected, $ready);
	};
}

sub lies { return sort keys %lies; }


##
## The server
##

sub new
{
	my ($class, %opt) = @_;
	my $listener = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1',
		LocalPort => 0,
		Proto => 'tcp',
		Listen => 50) or die "cannot listen: $!";
	my $self = bless {
		%opt,
		port => $listener->sockport,
		log => PostgreSQL::Test::Utils::tempdir_short() . '/moves'
	}, $class;

	# positions and timelines are the primary's; it writes on while we answer
	$self->{answer} =~ s/ \w+$/ ffffffffffff/;
	append_to_file($_, '') foreach ($self->{log}, "$self->{log}.tokens");
	$self->{pid} = fork() // die "fork: $!";
	if ($self->{pid} == 0)
	{
		POSIX::setpgid(0, 0);
		$SIG{CHLD} = 'IGNORE';
		$SIG{PIPE} = 'IGNORE';
		while (1)
		{
			my $socket = $listener->accept or next;
			my $pid = fork() // next;

			if ($pid == 0)
			{
				close($listener);
				$self->{socket} = $socket;
				$self->{in} = '';
				eval { $self->serve; };
				print STDERR "hostile peer: $@" if $@ && $@ !~ /^(closed|gone)$/;
				POSIX::_exit(0);
			}
			close($socket);
		}
	}
	close($listener);
	return $self;
}

sub port { return $_[0]->{port}; }

# What redirect_begin() returns on connections from now on; what it returned
# before is the move older_token.
sub set_token
{
	my ($self, $token) = @_;

	append_to_file("$self->{log}.tokens", "$token\n");
	return;
}

# How often it has come to a move at a place.
sub made
{
	my ($self, $move) = @_;

	return scalar grep { $_ eq $move } split /\n/, slurp_file($self->{log});
}

sub stop
{
	my ($self) = @_;

	kill('KILL', -$self->{pid}) if $self->{pid};
	waitpid($self->{pid}, 0) if $self->{pid};
	$self->{pid} = 0;
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local $?;

	$self->stop if !$self->{socket};
	return;
}


##
## A connection, in a process of its own
##

sub send    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self, @messages) = @_;
	my $out = join('', @messages);

	while (length $out)
	{
		my $sent = syswrite($self->{socket}, $out) // die "gone\n";

		substr($out, 0, $sent, '');
	}
	return;
}

sub flood
{
	my ($self, $first, $again) = @_;

	$self->send($first);
	$again x= int(65536 / length $again) + 1;
	$self->send($again) while 1;
	return;
}

sub flood_slowly
{
	my ($self, $byte) = @_;

	while (1)
	{
		$self->send($byte);
		select(undef, undef, undef, 0.02);
	}
	return;
}

sub bytes
{
	my ($self, $count) = @_;

	while (length $self->{in} < $count)
	{
		sysread($self->{socket}, $self->{in}, 65536, length $self->{in}) or die "gone\n";
	}
	return substr($self->{in}, 0, $count, '');
}

sub next_message
{
	my ($self) = @_;
	my ($type, $length) = unpack('aN', $self->bytes(5));

	return ($type, $self->bytes($length - 4));
}

sub hang
{
	my ($self) = @_;

	$self->next_message while 1;
	return;
}

# Is it time for the move?  If so, it is made, and nothing comes after it, or true
# is returned: then there is nothing to be sent any more at this place.
sub come_to
{
	my ($self, $place) = @_;

	$self->{place} = $place;
	return 0 if "$self->{move}\@$place" ne $self->{misbehaves};
	append_to_file($self->{log}, "$self->{misbehaves}\n");
	my $after = $moves{ $self->{move} }->($self) // '';

	$self->hang if $after ne GO_ON;
	return 1;
}

sub welcome
{
	my ($self, %said) = @_;

	%said = (
		server_version => '15.0',
		server_encoding => 'UTF8',
		client_encoding => 'UTF8',
		in_hot_standby => 'off',
		default_transaction_read_only => 'off',
		integer_datetimes => 'on',
		standard_conforming_strings => 'on',
		%said);
	$self->send(
		message('R', pack('N', 0)),
		(map { parameter($_, $said{$_}) } grep { defined $said{$_} } sort keys %said),
		message('K', pack('NN', 1, 2)), $ready);
	return;
}

sub serve
{
	my ($self) = @_;
	my %startup;

	while (1)
	{
		my $body = $self->bytes(unpack('N', $self->bytes(4)) - 4);
		my $code = unpack('N', $body);

		if ($code == 80877103 || $code == 80877104)
		{
			$self->send('N');
			next;
		}
		die "gone\n" if $code == 80877102;
		%startup = split /\0/, substr($body, 4);
		last;
	}
	$self->{tokens} = [ split /\n/, slurp_file("$self->{log}.tokens") ];
	($self->{misbehaves}) = ($startup{application_name} // '') =~ /^(?:tcs:)?(.*)/s;
	($self->{move}) = $self->{misbehaves} =~ /^(\w+)\@/;
	$self->{move} //= '';
	die "no move $self->{move}\n" if $self->{move} && !$moves{ $self->{move} };
	$self->come_to('start') or $self->welcome;
	$self->come_to('idle');
	$self->answer_all;
	return;
}

# Which part of a redirected statement is this?
sub place_of
{
	my ($sql) = @_;

	return
		$sql =~ /^BEGIN/ ? 'begin'
	  : $sql =~ /^SET LOCAL/ ? 'set'
	  : $sql =~ /^LOCK/ ? 'lock'
	  : $sql =~ /pg_extension/ ? 'guard'
	  : $sql =~ /redirect_begin/ ? 'call'
	  : $sql =~ /redirect_(settings|check)/ ? 'settings'
	  : $sql =~ /^COMMIT/ ? 'commit'
	  : $sql =~ /SAVEPOINT/ ? 'savepoint'
	  : 'statement';
}

# The column of the answer at this place: [type, format].
sub promised_column
{
	my ($self) = @_;

	return $self->{place} eq 'statement' ? [ $self->{sql} =~ /regclass|\bw\b/ ? $TEXT : $INT4, 1 ] : [ $TEXT, 0 ];
}

sub promised
{
	my ($self) = @_;

	return columns($self->promised_column);
}

sub honest_answer
{
	my ($self) = @_;
	my $value =
		$self->{place} eq 'ask' || $self->{place} eq 'idle' ? $self->{answer}
	  : $self->{place} eq 'call' ? $self->{tokens}[-1]
	  : pack('N', 4711);

	return $self->promised . row($value) . $selected if $self->{place} =~ /guard|call|statement/;
	return $self->promised . row($value) . $selected . $ready if $self->{place} =~ /ask|idle/;
	return message('n') . message('C', ($self->{place} eq 'begin' ? 'BEGIN' : uc $self->{place}) . "\0");
}

sub answer_all
{
	my ($self) = @_;
	my %statements;

	while (1)
	{
		my ($type, $body) = $self->next_message;

		if ($type eq 'Q')
		{
			$self->come_to('ask') or $self->send($self->honest_answer);
		}
		elsif ($type eq 'P')
		{
			my ($name, $sql) = unpack('Z*Z*', $body);

			$self->come_to('prepare');
			$statements{$name} = $sql;
			$self->send(message('1'));
		}
		elsif ($type eq 'B')
		{
			my ($portal, $name) = unpack('Z*Z*', $body);

			$self->{sql} = $statements{$name};
			$self->send(message('2'));
			$self->come_to(place_of($self->{sql}))
			  or $self->send($self->honest_answer);
		}
		elsif ($type eq 'S')
		{
			$self->send($ready);
		}
		elsif ($type eq 'X')
		{
			die "closed\n";
		}
	}
	return;
}

1;
