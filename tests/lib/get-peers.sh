#!/bin/sh
# Fetches the mail and name servers that tests/integration talks to. Idempotent, quick when all is there; needs root and a Debian for what is missing.
#
# usage: tests/lib/get-peers.sh [BUILD_DIRECTORY]      (default: build)
#
# NSD, unbound, ldnsutils (which signs zones), swaks, msmtp, curl, Postfix come from apt, never started as services. Exim and OpenSMTPD conflict with Postfix as packages, so theirs are
# downloaded and unpacked into BUILD_DIRECTORY/peers/ and only their shared libraries are installed. nodemailer comes from npm.
# Whatever cannot be had is named on stderr and the tests that need it report "skipped"; the exit code is then 1.
set -u
build=${1:-build}
mkdir -p "$build/peers" || exit 1
peers=$(cd "$build/peers" && pwd) || exit 1
missing=0
updated=0

say() { echo "get-peers: $*" >&2; }
lack() { say "$*"; missing=1; }

apt_update() {
  [ "$updated" = 1 ] && return 0
  updated=1
  apt-get -o DPkg::Lock::Timeout=300 -qq update >/dev/null 2>&1 || say "apt-get update failed; going on with the lists that are there"
}

# A service must not start because its package is installed.
quiet_install() {
  apt_update
  policy=/usr/sbin/policy-rc.d
  made=0
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -y -qq --no-install-recommends install "$@" >"$peers/apt.log" 2>&1
  code=$?
  [ "$made" = 1 ] && rm -f "$policy"
  [ "$code" = 0 ] || { say "apt-get install $* failed:"; tail -n 5 "$peers/apt.log" >&2; }
  return "$code"
}

# installed PACKAGE PROGRAM
installed() {
  [ -e "$2" ] && return 0
  [ "$(id -u)" = 0 ] || { lack "$1 is not installed and only root can install it"; return 1; }
  quiet_install "$1" || { lack "no $1"; return 1; }
}

# unpacked PACKAGE PROGRAM-IN-PACKAGE
unpacked() {
  [ -x "$peers/$1/$2" ] && [ -e "$peers/$1/.complete" ] && return 0
  apt_update
  work=$(mktemp -d) || return 1
  # apt drops its privileges for a download, and then must be able to write there.
  chmod 777 "$work"
  if ! (cd "$work" && apt-get -o DPkg::Lock::Timeout=300 -qq download "$1" >/dev/null 2>&1); then
    rm -rf "$work"
    lack "cannot download $1"
    return 1
  fi
  rm -rf "${peers:?}/$1"
  dpkg -x "$work"/*.deb "$peers/$1" || { rm -rf "$work"; lack "cannot unpack $1"; return 1; }
  # Programs are wanted, no configuration: and make looks for *.d, so an init.d would be in its way.
  rm -rf "$work" "${peers:?}/$1/etc" "${peers:?}/$1/usr/share" "${peers:?}/$1/lib/systemd"
  wanted=$(ldd "$peers/$1/$2" 2>/dev/null | sed -n 's/^[[:space:]]*\(.*\) => not found.*/\1/p')
  if [ -n "$wanted" ]; then
    [ "$(id -u)" = 0 ] || { lack "$1 needs $wanted and only root can install that"; return 1; }
    # The libraries among the package's dependencies: enough, and none of its daemons.
    libraries=$(apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$1" |
      sed -n 's/^ *|\{0,1\}Depends: \(lib[^ <>]*\)$/\1/p' | sort -u)
    # shellcheck disable=SC2086 # a list of package names
    quiet_install $libraries || { lack "no libraries for $1"; return 1; }
  fi
  if ldd "$peers/$1/$2" | grep -q 'not found'; then
    lack "$1 still lacks $(ldd "$peers/$1/$2" | grep 'not found' | tr -s '\t\n' ' ')"
    return 1
  fi
  touch "$peers/$1/.complete"
}

installed nsd /usr/sbin/nsd
installed unbound /usr/sbin/unbound
installed ldnsutils /usr/bin/ldns-signzone
installed swaks /usr/bin/swaks
installed libnet-ssleay-perl /usr/lib/x86_64-linux-gnu/perl5/5.36/Net/SSLeay.pm
installed msmtp /usr/bin/msmtp
installed curl /usr/bin/curl
if [ ! -x /usr/sbin/postfix ] && [ "$(id -u)" = 0 ] && command -v debconf-set-selections >/dev/null; then
  echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
fi
installed postfix /usr/sbin/postfix
unpacked exim4-daemon-light usr/sbin/exim4
unpacked opensmtpd usr/sbin/smtpd

# The names of the users that these run as are built in.
for user in Debian-exim opensmtpd opensmtpq; do
  id "$user" >/dev/null 2>&1 && continue
  [ "$(id -u)" = 0 ] || { lack "user $user is missing and only root can add it"; continue; }
  useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user" || lack "cannot add user $user"
done

# Pinned: the tests shall not change because a registry did.
nodemailer=6.9.16
if [ ! -e "$peers/node/node_modules/nodemailer/package.json" ]; then
  if command -v npm >/dev/null; then
    mkdir -p "$peers/node"
    (cd "$peers/node" && npm install --no-audit --no-fund --no-save --silent "nodemailer@$nodemailer" >npm.log 2>&1) || lack "npm cannot install nodemailer"
  else
    lack "no npm, so no nodemailer"
  fi
fi

[ "$missing" = 0 ] && say "all peers are there"
exit "$missing"
