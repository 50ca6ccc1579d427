# test/common.sh
#
# Shared by test/run and its like, test/folder and demo/demo; sourced, POSIX
# sh, `set -eu`.  Three things are done here:
#
#  1. Find a server, or unpack one below a cache folder (private.sh).  The
#     PostgreSQL packages, clusters and services of the machine are never
#     touched.  A compiler, make, perl and python are installed if they are
#     missing; that is the only thing done with root's rights.
#  2. Make a scratch folder, owned by an unprivileged user, because initdb and
#     the server refuse to run as root.
#  3. Make a private copy of the server in it.  PostgreSQL finds its libraries
#     and share files relative to the place of its own program, so a copy of
#     bin/ with links to the rest, under the same path below another root, is a
#     server into which tcs can be installed with `make install DESTDIR=...`,
#     without writing to the installed server and without any rights.  That
#     works alike for Debian's, the PGDG's and self-built servers of every
#     version (extension_control_path exists only from 18 on).
#
# Settings read from the environment: PG, PG_CONFIG, KEEP, TMPDIR.

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() { warn "$(basename "$0"): $*"; exit "${die_status:-1}"; }

# A caller's connection settings must not lead the clients astray, and the make
# that called us must not hand its flags to the makes called from here.
unset PGHOST PGHOSTADDR PGPORT PGUSER PGDATABASE PGOPTIONS PGSERVICE PGDATA \
	PGSERVICEFILE PGPASSFILE PGPASSWORD PGAPPNAME PGSSLMODE PGREQUIRESSL \
	PGTARGETSESSIONATTRS PGCLIENTENCODING PGTZ PGDATESTYLE PSQLRC \
	MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES GNUMAKEFLAGS 2>/dev/null || :

# C.UTF-8 exists on every Debian without the package locales.
LC_ALL=C.UTF-8
export LC_ALL
umask 022

. "$source/test/private.sh"


# ---- rights ----

# as_root COMMAND...: as root, through sudo when somebody else called.  It must
# not ask for a password.
as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		sudo -n "$@"
	else
		return 126
	fi
}

# The user that owns the scratch folder and runs the servers: whoever called,
# or postgres when root called, or a user made for this run.
pick_user()
{
	if [ "$(id -u)" != 0 ]; then
		run_user=$(id -un)
	elif id postgres >/dev/null 2>&1; then
		run_user=postgres
	else
		run_user=tcs_test
		if ! id "$run_user" >/dev/null 2>&1; then
			useradd --system --no-create-home --shell /bin/sh "$run_user" ||
				die "cannot make the unprivileged user $run_user"
			made_user=yes
		fi
	fi
}

# as_user COMMAND...: as that user, at home in the scratch folder.
as_user()
{
	if [ "$(id -u)" = 0 ]; then
		HOME=$scratch USER=$run_user LOGNAME=$run_user runuser -u "$run_user" -- "$@"
	else
		"$@"
	fi
}


# ---- server and packages ----

# Major version the Debian release of this machine has.
default_major()
{
	major=$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null |
		sed 's,.*/\([0-9]*\)/bin/postgres,\1,' | sort -rn | head -1)
	if [ -z "$major" ] && command -v apt-cache >/dev/null; then
		major=$(private_apt apt-cache depends postgresql 2>/dev/null |
			sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -1)
	fi
	say "${major:-15}"
}

# find_server: sets PG_CONFIG, and major for the names of packages.
find_server()
{
	if [ -n "${PG_CONFIG:-}" ]; then
		command -v "$PG_CONFIG" >/dev/null || die "PG_CONFIG=$PG_CONFIG cannot be run"
		PG_CONFIG=$(command -v "$PG_CONFIG")
	elif [ -n "${PG:-}" ]; then
		PG_CONFIG=/usr/lib/postgresql/$PG/bin/pg_config
	elif command -v pg_config >/dev/null && [ -z "$(missing_files pg_config)" ]; then
		PG_CONFIG=$(command -v pg_config)
	else
		[ -n "$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" ] ||
			! command -v apt-get >/dev/null || need_lists
		PG_CONFIG=/usr/lib/postgresql/$(default_major)/bin/pg_config
	fi
	export PG_CONFIG

	case $PG_CONFIG in
		/usr/lib/postgresql/*/bin/pg_config)
			major=${PG_CONFIG#/usr/lib/postgresql/}
			major=${major%%/*} ;;
		*)
			major=$(server_major "$PG_CONFIG") ;;
	esac
}

server_major() { "$1" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/'; }

# missing_files PG_CONFIG: what a server lacks to build and run an extension,
# as suffixes of package names.
missing_files()
{
	command -v "$1" >/dev/null && "$1" --bindir >/dev/null 2>&1 ||
		{ say "server dev"; return; }
	[ -x "$("$1" --bindir)/postgres" ] || say server
	[ -f "$("$1" --pgxs)" ] && [ -f "$("$1" --includedir-server)/postgres.h" ] || say dev
	[ -f "$("$1" --includedir)/libpq-fe.h" ] || say libpq
}

# A Python that has psycopg 3; Debian's first, as its packages are for that one.
python()
{
	for program in /usr/bin/python3 python3; do
		if "$program" -c 'import psycopg' 2>/dev/null; then
			say "$program"
			return
		fi
	done
	return 1
}

# missing_packages [perl] [python]: names of the Debian packages to install; with
# perl those of the tests as well, with python those of the consistency checker.
missing_packages()
{
	for part in $(missing_files "$PG_CONFIG"); do
		case $part in
			server) say "postgresql-$major" ;;
			dev) say "postgresql-server-dev-$major" ;;
			libpq) say libpq-dev ;;
		esac
	done
	command -v make >/dev/null || say make
	command -v gcc >/dev/null || say gcc
	[ -f /usr/include/stdio.h ] || say libc6-dev
	[ -f /usr/share/zoneinfo/UTC ] || say tzdata
	case " $* " in *" python "*)
		command -v python3 >/dev/null || say python3
		python >/dev/null || say python3-psycopg ;;
	esac
	case " $* " in *" perl "*)
		command -v prove >/dev/null && perl -MTest::More -MTime::HiRes -e 1 2>/dev/null || say perl
		perl -MIPC::Run -e 1 2>/dev/null || say libipc-run-perl
		# not on the machine itself, where the package would start a pooler
		[ -z "${TCS_IN_FOLDER:-}" ] || command -v pgbouncer >/dev/null ||
			say pgbouncer ;;
	esac
}

# need_packages [perl] [python]: installs what is missing, or unpacks it, or says
# what to install.
need_packages()
{
	packages=$(missing_packages "$@" | sort -u | tr '\n' ' ')
	[ -n "$packages" ] || return 0

	case $PG_CONFIG in
		/usr/lib/postgresql/*) ;;
		*)
			case $packages in
				*postgresql-*)
					die "the server of $PG_CONFIG has no server program or no headers ($packages)" ;;
			esac ;;
	esac
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die_missing $packages
	need_lists

	# Packages of the server, those that can be unpacked as well, and others.
	of_server='' modules='' tools=''
	for package in $packages; do
		case $package in
			postgresql-* | libpq-dev) of_server="$of_server $package" ;;
			libipc-run-perl | python3-psycopg) modules="$modules $package" ;;
			*) tools="$tools $package" ;;
		esac
	done

	if [ -n "${TCS_IN_FOLDER:-}" ]; then
		# the tests' own Debian
		install_packages $packages
	else
		if [ -n "$tools" ]; then
			as_root true 2>/dev/null || die_missing $tools
			install_packages $tools
		fi
		[ -z "$modules" ] || use_private_modules $modules || die_missing $modules
		[ -z "$of_server" ] || use_private_server
	fi

	packages=$(missing_packages "$@" | sort -u | tr '\n' ' ')
	[ -z "$packages" ] || die "still missing after the installation: $packages"
}

# What is missing can only be had by root.
die_missing()
{
	die_status=77
	die "missing here: $*
To install it, call as root, then call this again:
    apt-get install --no-install-recommends$(printf ' %s' $*)"
}

# wish_packages: those that a test uses where they are, and skips a part without.
# Only in a folder of the tests' own, and whatever happens, the run goes on.
wish_packages()
{
	wish=postgresql-$major-pg-hint-plan
	[ -n "${TCS_IN_FOLDER:-}" ] && command -v apt-cache >/dev/null &&
		[ ! -f "$("$PG_CONFIG" --pkglibdir)/pg_hint_plan.so" ] &&
		apt-cache show "$wish" >/dev/null 2>&1 || return 0
	if apt -s install "$wish" 2>/dev/null | grep -q '^Inst postgresql-[0-9]* \['; then
		return 0
	fi
	say "installing $wish"
	apt install "$wish" >/dev/null 2>&1 || say "$wish cannot be installed; a part of a test will be skipped"
}

apt() { as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -y \
	-o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
	--no-install-recommends "$@" </dev/null; }

# at_our_versions PACKAGES: names the version of the headers.  The newest headers
# depend on the newest server, so apt-get would upgrade the server that is here.
at_our_versions()
{
	case " $* " in *" postgresql-server-dev-"*)
		[ -f /usr/include/postgresql/libpq-fe.h ] || set -- "$@" libpq-dev ;;
	esac
	for package in $(printf '%s\n' "$@" | sort -u); do
		case $package in
			postgresql-server-dev-*) installed=postgresql-${package##*-} ;;
			libpq-dev) installed=libpq5 ;;
			libc6-dev) installed=libc6 ;;
			*) installed= ;;
		esac
		version=
		[ -z "$installed" ] || version=$(dpkg-query -W -f '${db:Status-Status} ${Version}\n' \
			"$installed" 2>/dev/null | sed -n 's/^installed //p' | head -1)
		if [ -n "$version" ] && apt-cache show "$package=$version" >/dev/null 2>&1; then
			say "$package=$version"
		else
			say "$package"
		fi
	done
}

# try_packages PACKAGES: whether they can be installed without an upgrade or a
# removal of what belongs to PostgreSQL here.  That would restart the clusters of
# this machine, and is not for a test to do.
try_packages()
{
	trial=$(apt -s install "$@" 2>&1) || return 1
	! printf '%s\n' "$trial" | grep -qE '^(Inst (postgresql|libpq)[^ ]* \[|Remv (postgresql|libpq))' || return 2
}

install_packages()
{
	say "installing $* (once; about a minute)"

	# Old package lists may not know the version that is needed.
	tried=0
	try_packages $(at_our_versions "$@") || {
		apt update >/dev/null 2>&1 || :
		try_packages $(at_our_versions "$@") || tried=$?
	}
	if [ $tried = 1 ]; then
		printf '%s\n' "$trial" | tail -20 >&2
		die "apt-get cannot install $*"
	elif [ $tried = 2 ]; then
		die "installing $* would upgrade the PostgreSQL packages of this machine"
	fi
	aptlog=$(mktemp "${TMPDIR:-/tmp}/tcs-apt.XXXXXX")

	# Debian's server package makes a cluster and starts it on port 5432 when
	# it is installed, unless this file says otherwise.  The file comes with
	# postgresql-common; it is put back afterwards.
	conf=/etc/postgresql-common/createcluster.conf
	mark='# tcs: no cluster for a server that only runs tests'
	guard=no
	case " $* " in
		*" postgresql-$major "*)
			apt_step install postgresql-common
			as_root sh -c "printf '%s\n%s\n' '$mark' 'create_main_cluster = false' >>$conf"
			guard=yes ;;
	esac
	apt_step install $(at_our_versions "$@")
	[ $guard = no ] || as_root sed -i "/^$mark\$/,+1d" $conf
	rm -f "$aptlog"
}

# A line now and then of the hundreds that apt-get prints.
apt_progress()
{
	done=0
	while IFS= read -r line; do
		case $line in
			Fetched*) say "    $line" ;;
			'Setting up '*)
				done=$((done + 1))
				[ $((done % 20)) != 0 ] || say "    $done packages set up" ;;
		esac
	done
}

# apt_step ARGUMENTS...: a second attempt with new package lists, as old ones
# may name files that are gone.
apt_step()
{
	for attempt in 1 2; do
		{ apt "$@" 2>&1 && say 'apt: done'; } | tee "$aptlog" | apt_progress
		tail -1 "$aptlog" | grep -q '^apt: done' && return 0
		[ $attempt = 2 ] || apt update >/dev/null 2>&1 || :
	done
	tail -20 "$aptlog" >&2
	rm -f "$aptlog"
	[ "${guard:-no}" = no ] || as_root sed -i "/^$mark\$/,+1d" $conf
	die "apt-get $* failed"
}


# ---- scratch folder and the server in it ----

# What the sources are a version of.  A folder of the tests is told, as the copy
# in it has no repository; root may ask about a repository of somebody else.
source_commit()
{
	[ -z "${TCS_COMMIT:-}" ] || { say "$TCS_COMMIT"; return; }
	git -c safe.directory='*' -C "$source" describe --always --dirty --tags 2>/dev/null ||
		say unknown
}

# make_scratch: sets scratch, in which everything happens, and cleans it up at
# the end of the script.  A short path, as a socket's has at most 107 bytes.
make_scratch()
{
	pick_user
	scratch=$(mktemp -d "${TMPDIR:-/tmp}/tcs.XXXXXX")
	trap 'clean_up $?' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM

	mkdir "$scratch/src" "$scratch/root" "$scratch/tmp" "$scratch/log"
	copy_tree "$source" "$scratch/src"

	# A folder of the user's own, closed to others, as the servers in it trust
	# whoever reaches their sockets.  Temporary files go there too.
	[ "$(id -u)" != 0 ] || chown -R "$run_user" "$scratch"
	TMPDIR=$scratch/tmp
	export TMPDIR
	cd "$scratch"
}

# copy_tree FROM TO: the sources, without what a build or a test left there.
# The user of the scratch folder may not be able to read them where they are.
copy_tree()
{
	(cd "$1" && tar -cf - --exclude=.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' \
		--exclude='tmp_check*' --exclude=results --exclude=output_iso --exclude=./log .) |
		tar -C "$2" --no-same-owner -xf -
}

# copy_server: the private server below $scratch/root; sets bin, its bin/.
copy_server()
{
	own_bin=$("$PG_CONFIG" --bindir)
	own_lib=$("$PG_CONFIG" --pkglibdir)
	own_share=$("$PG_CONFIG" --sharedir)
	bin=$scratch/root$own_bin

	as_user sh -eu -c '
		root=$1 bin=$2 lib=$3 share=$4
		mkdir -p "$root$bin" "$root$lib" "$root$share/extension"
		cp -L "$bin"/* "$root$bin/"
		ln -s "$lib"/* "$root$lib/"
		for file in "$share"/*; do
			[ "$file" = "$share/extension" ] || ln -s "$file" "$root$share/"
		done
		ln -s "$share/extension"/* "$root$share/extension/"
		rm -f "$root$lib/tcs.so" "$root$share/extension"/tcs.control \
			"$root$share/extension"/tcs--*.sql
	' sh "$scratch/root" "$own_bin" "$own_lib" "$own_share"

	[ "$("$bin/pg_config" --pkglibdir)" = "$scratch/root$own_lib" ] &&
		[ "$("$bin/pg_config" --sharedir)" = "$scratch/root$own_share" ] ||
		die "the server of $PG_CONFIG cannot run from another folder"
	export bin
}

# build: compiles the copy of the sources and installs it into the private
# server.  Bitcode for the server's JIT is left out: no query of a test gains
# from it, and it doubles the time.
build()
{
	as_user make -C "$scratch/src" -j2 install PG_CONFIG="$PG_CONFIG" \
		DESTDIR="$scratch/root" WERROR="${WERROR:-}" with_llvm=no \
		>"$scratch/log/build.log" 2>&1
}

# build_tables: the module for tests of the pure stages, into the same server.
build_tables()
{
	as_user make -C "$scratch/src/test/modules/tcs_tables" -j2 all install PG_CONFIG="$PG_CONFIG" \
		DESTDIR="$scratch/root" WERROR="${WERROR:-}" with_llvm=no \
		>>"$scratch/log/build.log" 2>&1
}

# clean_up STATUS: no process, no file, no user of this run is left.  KEEP=1
# keeps the folder; a script that wants its servers kept sets keep_servers=yes.
clean_up()
{
	trap - EXIT HUP INT TERM
	cd /
	if [ "${keep_servers:-no}" = no ]; then
		stop_servers
		if [ "${KEEP:-0}" = 1 ]; then
			say "kept: $scratch"
		else
			rm -rf "$scratch"
			[ "${made_user:-no}" = no ] || userdel "$run_user" 2>/dev/null || :
		fi
	fi
	exit "$1"
}

# Every program of PostgreSQL that this run started is the scratch folder's own
# copy, which is how it is told from those of others.
our_processes()
{
	for proc in /proc/[0-9]*; do
		case $(readlink "$proc/exe" 2>/dev/null) in
			"$scratch"/root/*) say "${proc#/proc/}" ;;
		esac
	done
}

# The test drivers: everything in the session that test/run made for them.
our_session()
{
	[ -n "${child:-}" ] || return 0
	for proc in /proc/[0-9]*; do
		# pid (name) state ppid pgrp session; a name can hold blanks
		set -- $(sed 's/.*) //' "$proc/stat" 2>/dev/null)
		[ "${4:-}" != "$child" ] || say "${proc#/proc/}"
	done
}

# The drivers first, as they would go on to the next test; then the servers, by
# SIGQUIT (an immediate shutdown, which ends their children); then whatever did
# not go within ten seconds.
stop_servers()
{
	pids=$(our_session)
	[ -z "$pids" ] || kill -TERM $pids 2>/dev/null || :
	for file in $(find "$scratch" -name postmaster.pid 2>/dev/null); do
		pid=$(head -1 "$file" 2>/dev/null) || continue
		case " $(our_processes | tr '\n' ' ') " in
			*" $pid "*) kill -QUIT "$pid" 2>/dev/null || : ;;
		esac
	done
	tries=0
	while pids=$(our_processes; our_session) && [ -n "$pids" ]; do
		[ $tries -lt 100 ] || kill -KILL $pids 2>/dev/null || :
		[ $tries -lt 150 ] || { warn "processes left: $pids"; break; }
		tries=$((tries + 1))
		sleep 0.1
	done
}
