# test/private.sh
#
# A server of the tests' own, unpacked from Debian's packages.  Sourced by
# common.sh; POSIX sh.
#
# It serves where this machine has no PostgreSQL, or one without headers.  To
# install the newest headers would upgrade an older server, and that is not for a
# demo or a test to do; those of an older one may be gone.  So packages are
# downloaded by apt-get, which checks their signatures, and unpacked below a
# cache folder.  That needs no rights; nothing is installed, no script of a
# package runs, and dpkg does not know of it.
#
# What a program needs at run time is found by LD_LIBRARY_PATH: the folder of
# libraries holds libpq and those that this machine lacks, nothing else, so for
# other programs it changes at most the version of libpq.  The paths of the
# server itself are relative to its programs (see common.sh).
#
# The perl and python modules of the tests are unpacked in the same way.  A
# compiler, make, perl and python are not.
#
# TCS_CACHE names the folder.  Otherwise it is /var/cache/tcs for root, whose
# home others cannot read, and $XDG_CACHE_HOME/tcs or ~/.cache/tcs for others.

# find_cache: sets cache.  One in a folder for temporary files must be our own,
# as programs in it will be run.
find_cache()
{
	if [ -n "${TCS_CACHE:-}" ]; then
		cache=$TCS_CACHE
	elif [ "$(id -u)" = 0 ]; then
		cache=/var/cache/tcs
	else
		cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/tcs
	fi
	if ! mkdir -p "$cache" 2>/dev/null || ! [ -w "$cache" ]; then
		[ -z "${TCS_CACHE:-}" ] || die "TCS_CACHE=$cache cannot be written"
		cache=${TMPDIR:-/tmp}/tcs-cache-$(id -u)
		mkdir -m 755 "$cache" 2>/dev/null || [ -d "$cache" ] || die "cannot make a cache folder $cache"
		[ ! -L "$cache" ] && [ "$(stat -c %u "$cache")" = "$(id -u)" ] && [ -z "$(find "$cache" -prune -perm /022)" ] ||
			die "$cache is not a folder that only we can write; name another one with TCS_CACHE="
	fi
	cache=$(cd "$cache" && pwd -P)
}


# ---- apt without rights ----

# Where the lists of packages are; empty: those of the machine.
private_lists=

# private_apt PROGRAM ARGUMENTS...: apt-get or apt-cache as whoever we are.  What
# apt makes of the lists is kept for the next call; to make it takes seconds.
private_apt()
{
	program=$1
	shift
	if [ "$(id -u)" = 0 ]; then
		set -- -o APT::Sandbox::User=root "$@"
	elif [ -n "${cache:-}" ]; then
		mkdir -p "$cache/apt"
		set -- -o Dir::Cache="$cache/apt" "$@"
	fi
	[ -z "$private_lists" ] ||
		set -- -o Dir::State::lists="$private_lists" -o Dir::Cache="$cache/apt" -o Acquire::Languages=none "$@"
	"$program" -q -o Dir::Cache::srcpkgcache= "$@" </dev/null
}

have_machine_lists() { [ -n "$(find /var/lib/apt/lists -name '*_Packages*' 2>/dev/null | head -1)" ]; }

# A fresh machine or container may have no lists yet.
need_lists()
{
	[ -z "$private_lists" ] && ! have_machine_lists || return 0
	as_root apt-get update -qq >/dev/null 2>&1 && have_machine_lists && return 0
	find_cache
	if [ -n "$(find "$cache/lists/log" -mmin -600 2>/dev/null)" ]; then
		private_lists=$cache/lists
	else
		update_private_lists || :
	fi
}

# Lists of our own, where the machine's are missing or too old.
update_private_lists()
{
	find_cache
	private_lists=$cache/lists
	mkdir -p "$private_lists/partial"
	say "reading the lists of packages"
	private_apt apt-get update >"$private_lists/log" 2>&1 || {
		tail -3 "$private_lists/log" >&2
		return 1
	}
}

installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

# with_libraries PACKAGES: these, and what they need at run time and this machine
# lacks: libraries and modules by their names.  What is left out is known to be
# of no use here: LLVM (jit is off without it), and what sets up a machine.
with_libraries()
{
	level=$* seen=' '
	while [ -n "$level" ]; do
		printf '%s\n' $level
		for package in $level; do
			seen="$seen${package%%=*} "
		done
		# the first of alternatives, without version and architecture
		needs=$(private_apt apt-cache show --no-all-versions $level 2>/dev/null |
			sed -n 's/^\(Pre-\)\{0,1\}Depends: //p' | tr ',' '\n' |
			sed 's/|.*//; s/(.*//; s/:any//; s/[[:space:]]//g' | sort -u)
		level=
		for need in $needs; do
			case $seen in *" $need "*) continue ;; esac
			case $need in
				libllvm* | libclang* | libc6 | libc6-dev | libgcc-s1 | libpq5 | libpq-dev | *-bin) ;;
				lib* | python3-*) installed "$need" || level="$level $need" ;;
			esac
		done
	done
}

# unpack NAME PACKAGES...: downloads and unpacks below the cache as NAME, and sets
# unpacked.  The folder is renamed when it is whole; another run may be faster.
unpack()
{
	unpacked=$cache/$1
	name=$1
	shift
	[ ! -f "$unpacked/packages" ] || return 0
	say "downloading $# packages to $cache (once)"
	# what a run that was killed has left
	find "$cache" -maxdepth 1 -name 'partial.*' -mmin +120 -exec rm -rf {} +
	partial=$(mktemp -d "$cache/partial.XXXXXX")
	chmod 755 "$partial"
	mkdir "$partial/deb"
	if ! (cd "$partial/deb" && private_apt apt-get download "$@") >"$partial/log" 2>&1; then
		grep -E '^[EW]:' "$partial/log" | tail -3 >&2
		rm -rf "$partial"
		return 1
	fi
	for deb in "$partial"/deb/*.deb; do
		dpkg-deb -x "$deb" "$partial" || { rm -rf "$partial"; return 1; }
	done
	rm -rf "$partial/deb" "$partial/log" "$cache/apt" "$partial/usr/share/doc" "$partial/usr/share/man" \
		"$partial/usr/share/locale"
	# without LLVM's library this would be an error for whoever has jit on
	rm -rf "$partial"/usr/lib/postgresql/*/lib/llvmjit.so "$partial"/usr/lib/postgresql/*/lib/bitcode
	chmod -R a+rX "$partial"
	printf '%s\n' "$@" >"$partial/packages"
	mv -T "$partial" "$unpacked" 2>/dev/null || rm -rf "$partial"
	[ -f "$unpacked/packages" ]
}

# Folders of libraries in an unpacked one.
library_folders()
{
	for folder in "$1"/lib/*-linux-* "$1"/usr/lib/*-linux-*; do
		[ ! -d "$folder" ] || say "$folder"
	done
}

prepend() { eval "$1=\$2\${$1:+:\$$1}; export $1"; }


# ---- the server ----

# Version of the packages to unpack: the one that is installed if its headers are
# to be had, and otherwise the newest.
private_version()
{
	known=$(private_apt apt-cache madison "postgresql-server-dev-$major" 2>/dev/null | awk '{print $3}')
	here=$(dpkg-query -W -f '${db:Status-Status} ${Version}\n' "postgresql-$major" 2>/dev/null |
		sed -n 's/^installed //p')
	if [ -n "$here" ] && printf '%s\n' "$known" | grep -qxF "$here"; then
		say "$here"
	else
		newest=$(private_apt apt-cache policy "postgresql-server-dev-$major" 2>/dev/null |
			sed -n 's/^ *Candidate: //p')
		[ "$newest" != '(none)' ] || newest=$(printf '%s\n' "$known" | head -1)
		say "$newest"
	fi
}

# The packages; libpq of the same version where it comes from the same source.
private_packages()
{
	for package in "postgresql-$major" "postgresql-client-$major" "postgresql-server-dev-$major"; do
		say "$package=$1"
	done
	known=$(private_apt apt-cache madison libpq5 libpq-dev 2>/dev/null | awk '{print $1 "=" $3}')
	for package in libpq5 libpq-dev; do
		if printf '%s\n' "$known" | grep -qxF "$package=$1"; then
			say "$package=$1"
		else
			say "$package"
		fi
	done
}

# Unpacks the server; fails when the lists do not know it, or are so old that its
# files are gone.
unpack_server()
{
	version=$(private_version)
	[ -n "$version" ] || return 1
	[ -f "$cache/postgresql-${major}_$version/packages" ] ||
		set -- $(with_libraries $(private_packages "$version"))
	unpack "postgresql-${major}_$version" "$@"
}

# use_private_server: sets PG_CONFIG to a server of our own.
use_private_server()
{
	find_cache
	if ! unpack_server; then
		{ update_private_lists && unpack_server; } || {
			# what an earlier run has left serves without a network, too
			unpacked=$(ls -d "$cache/postgresql-${major}_"*/packages 2>/dev/null | sort -V | tail -1)
			unpacked=${unpacked%/packages}
			[ -n "$unpacked" ] || die "the packages of PostgreSQL $major cannot be downloaded; without that, install as root:
    apt-get install --no-install-recommends postgresql-$major postgresql-server-dev-$major libpq-dev"
		}
	fi

	for folder in $(library_folders "$unpacked"); do
		prepend LD_LIBRARY_PATH "$folder"
	done
	PG_CONFIG=$unpacked/usr/lib/postgresql/$major/bin/pg_config
	export PG_CONFIG
	# headers that the machine's compiler would not find
	if [ -d "$unpacked/usr/include/openssl" ]; then
		prepend CPATH "$unpacked/usr/include"
		for folder in "$unpacked"/usr/include/*-linux-*; do
			[ ! -d "$folder" ] || prepend CPATH "$folder"
		done
	fi

	lost=$(ldd "$unpacked/usr/lib/postgresql/$major/bin/postgres" "$unpacked/usr/lib/postgresql/$major/bin/psql" \
		"$unpacked/usr/lib/postgresql/$major/lib/libpqwalreceiver.so" 2>/dev/null |
		sed -n 's/^[[:space:]]*\(.*\) => not found/\1/p' | sort -u | tr '\n' ' ')
	if [ -n "$lost" ] && [ -z "${private_again:-}" ]; then
		# this machine has lost a library since
		private_again=yes
		rm -rf "$unpacked"
		use_private_server
		return
	fi
	[ -z "$lost" ] || die "the unpacked server lacks libraries: $lost"
	say "PostgreSQL of its own, unpacked in $unpacked; the machine's is left alone"
}


# ---- modules of the tests ----

# use_private_modules PACKAGES: those of perl and python, unpacked.
use_private_modules()
{
	find_cache
	set -- $(printf '%s\n' "$@" | sort)
	modules=modules_$(printf '%s_' "$@" | sed 's/_$//; s/lib\([a-z-]*\)-perl/\1/g')
	unpack "$modules" $(with_libraries "$@") ||
		{ update_private_lists && unpack "$modules" $(with_libraries "$@"); } || return 1

	prepend PERL5LIB "$unpacked/usr/share/perl5"
	for folder in "$unpacked"/usr/lib/*-linux-*/perl5/*; do
		[ ! -d "$folder" ] || prepend PERL5LIB "$folder"
	done
	[ ! -d "$unpacked/usr/lib/python3/dist-packages" ] ||
		prepend PYTHONPATH "$unpacked/usr/lib/python3/dist-packages"
	for folder in $(library_folders "$unpacked"); do
		prepend LD_LIBRARY_PATH "$folder"
	done
}
