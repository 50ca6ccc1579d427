# test/perl/TcsReports.pm
#
# A client that keeps every report of the token, and says which of them came
# before the ReadyForQuery that ended the last message.  It is a TcsWire otherwise.

package TcsReports;

use strict;
use warnings;

use Exporter 'import';

use TcsWire;
use TcsWrites;

our @EXPORT = qw(token_fields);
our @ISA = ('TcsWire');     ## no critic (ProhibitExplicitISA)

sub _aside
{
	my ($self, $type, $body) = @_;

	if ($type eq 'S')
	{
		my ($name, $value) = split /\0/, $body;

		push @{ $self->{reports} }, $value // '' if $name eq 'tcs.session_token';
	}
	return $self->SUPER::_aside($type, $body);
}

# Reports since the last call.
sub reports
{
	my ($self) = @_;
	my @reports = @{ $self->{reports} // [] };

	$self->{reports} = [];
	return @reports;
}

# Fields of a token, by name; positions are numbers.
sub token_fields
{
	my ($token) = @_;
	my %field;

	@field{qw(version sysid timeline begin written seen_primary seen_standby flags check)} =
	  split /\./, $token;
	$field{$_} = lsn_number(sprintf('%s/%s', $field{$_} =~ /^(.*?)(.{1,8})$/))
	  foreach qw(begin written seen_primary seen_standby);
	return \%field;
}

1;
