#!/bin/sh
# Installs pve-edge-guest in this container or virtual machine: the daemon by which a deployment of pve-edge runs
# commands here, for calls that it has signed. Run it as root, again for an upgrade, with --remove to take it away:
#
#   curl -fsSL EDGE/guest/install.sh | sh
#   curl -fsSL EDGE/guest/install.sh | sh -s -- --remove
#
# It makes /usr/local/bin/pve-edge-guest, /etc/pve-edge, /run/pve-edge, /var/lib/pve-edge and what starts the daemon.
# None of it is secret: the keys are public ones.
# SETTINGS

name=pve-edge-guest
bin=/usr/local/bin
program=$bin/$name
etc=/etc/pve-edge
state=/var/lib/pve-edge
run=/run/pve-edge
unit=/etc/systemd/system/$name.service
service=/etc/init.d/$name
hooks='/etc/rc.local /etc/init.d/rcS'

main() {
    set -eu
    umask 022
    [ "$(id -u)" = 0 ] || die 'run this as root'
    case "$#:${1-}" in
        0:) install_daemon ;;
        1:--remove) remove_deployment ;;
        *) die 'without a word it installs, with --remove it removes' ;;
    esac
}

die() {
    echo "$name: $*" >&2
    exit 1
}

# --- Install

install_daemon() {
    arch=$(uname -m)
    case $arch in
        x86_64) sum=$x86_64 ;;
        aarch64 | arm64) arch=aarch64 sum=$aarch64 ;;
        *) die "this guest is $arch; there are programs for x86_64 and aarch64" ;;
    esac
    [ "${inside:-$arch}" = "$arch" ] || die "this script holds the program for $inside, and this guest is $arch"
    if is_listening && [ -z "$(running run)$(running serve)" ]; then
        die "something else listens on port $port, as cmux-execd does. Stop and disable it, then run this again"
    fi
    fresh='' made='' changed=''
    [ -e "$program" ] || [ -e "$etc" ] || [ -e "$state" ] || fresh=1
    trap finish EXIT
    trap 'exit 1' HUP INT TERM
    folder "$bin" 755
    [ "$(digest "$program")" = "$sum" ] || get_program
    folder "$etc" 755
    new_keys "$keys"
    folder "$run" 700
    folder "$state" 700
    [ -z "$made" ] || { printf %s "$made"; cat "$state/made" 2>/dev/null || :; } | put "$state/made" 600
    [ -z "$changed" ] || mv -f "$bin/.$name.$$" "$program"
    start_daemon
    echo "$name $version is installed for the deployment $deployment. $started"
}

# Undoes a first installation that failed. An upgrade that failed leaves the files that are whole, old or new.
finish() {
    status=$?
    trap - EXIT HUP INT TERM
    rm -f "$bin/.$name.$$"
    [ "$status" = 0 ] || [ -z "$fresh" ] || take_away
    exit "$status"
}

# Fetches the program, and holds it against the digest and this machine, before anything here is changed.
get_program() {
    changed=1
    new=$bin/.$name.$$
    if [ -n "$inside" ]; then
        embedded >"$new" || die "the program that is in this script could not be written to $bin"
    else
        fetch "$edge/guest/$version/$arch" "$new"
    fi
    [ "$(digest "$new")" = "$sum" ] || die "what came is not the program: its SHA-256 is not $sum"
    chmod 755 "$new"
    "$new" --version >/dev/null || die "the program does not run here"
}

fetch() {
    if command -v curl >/dev/null; then
        curl -fsSL -o "$2" "$1" || die "$1 could not be fetched"
    elif command -v wget >/dev/null; then
        wget -q -O "$2" "$1" || die "$1 could not be fetched"
    else
        die "neither curl nor wget is here. From a machine that has one: curl -fsSL '$edge/guest/install.sh?arch=$arch'," \
            "piped into sh in this guest, brings the program with it"
    fi
}

# SHA-256 of a file, nothing if it is not there.
digest() {
    if [ ! -f "$1" ]; then
        :
    elif command -v sha256sum >/dev/null; then
        sha256sum <"$1" | cut -c 1-64
    elif command -v openssl >/dev/null; then
        openssl dgst -sha256 <"$1" | sed 's/.*[ =]//'
    else
        die 'neither sha256sum nor openssl is here'
    fi
}

# Makes a folder and those above it, and notes which are new.
folder() {
    [ ! -d "$1" ] || return 0
    folder "$(dirname "$1")" 755
    mkdir -m "$2" "$1"
    made="$1
$made"
}

# Puts standard input into a file at once, or leaves what is there.
put() {
    if ! { cat >"$1.$$" && chmod "$2" "$1.$$" && mv -f "$1.$$" "$1"; }; then
        rm -f "$1.$$"
        die "$1 could not be written"
    fi
}

# Gives the deployment these keys, and leaves other deployments' alone.
new_keys() {
    { printf %s "$1"; other_keys; } | put "$etc/keys" 644
}

other_keys() {
    [ ! -f "$etc/keys" ] || grep -v "^$deployment " "$etc/keys" || :
}

# --- Start and stop

# Has the daemon started now, where this is a running system, and at each boot. Sets `started`.
start_daemon() {
    case $(init) in
        systemd) with_systemd ;;
        openrc) with_openrc ;;
        *) with_neither ;;
    esac
}

# What starts services here: what runs, or what would if this is the root of a system that does not run yet.
init() {
    if [ -d /run/systemd/system ]; then
        echo systemd
    elif [ -e /run/openrc/softlevel ]; then
        echo openrc
    elif [ "$(basename "$(readlink -f /sbin/init 2>/dev/null || :)")" = systemd ]; then
        echo systemd
    elif [ -x /sbin/openrc-run ]; then
        echo openrc
    fi
}

# Commands are in the unit's control group, and outlive a restart (KillMode), whatever one of them needs (OOMPolicy).
with_systemd() {
    put "$unit" 644 <<END
[Unit]
Description=Commands, files and terminals for signed calls of pve-edge
StartLimitIntervalSec=0

[Service]
ExecStart=$program run
Restart=always
RestartSec=1
KillMode=process
Delegate=yes
OOMPolicy=continue
TasksMax=infinity

[Install]
WantedBy=multi-user.target
END
    systemctl --quiet enable "$name"
    started='systemd will start it.'
    [ -d /run/systemd/system ] || return 0
    systemctl daemon-reload
    systemctl restart "$name"
    await_daemon "systemctl status $name"
    started='It runs under systemd.'
}

with_openrc() {
    put "$service" 755 <<END
#!/sbin/openrc-run
description="Commands, files and terminals for signed calls of pve-edge"
supervisor=supervise-daemon
command=$program
command_args=run
respawn_delay=1
respawn_max=0

depend() {
    after bootmisc localmount net
}
END
    rc-update --quiet add "$name" default
    started='OpenRC will start it.'
    [ -e /run/openrc/softlevel ] || return 0
    rc-service --quiet "$name" restart
    await_daemon "rc-service $name status"
    started='It runs under OpenRC.'
}

# Starts it by itself, and by a script that the system runs when it starts, if there is one. An entry point of a
# container is told.
with_neither() {
    started="It runs. Nothing starts it when this guest starts: make \`$program run\` do so, or for a container the
entry point, \`$program run -- COMMAND\`."
    for hook in $hooks; do
        [ -x "$hook" ] || continue
        hooked | put "$hook" 755
        started="It runs, and $hook starts it when this guest starts."
        break
    done
    for id in $(running run); do
        if [ "$id" = 1 ]; then
            started='It is the entry point: the new version runs after the next start of this guest.'
            return 0
        fi
    done
    end $(running run) $(running serve)
    setsid "$program" run </dev/null >/dev/null 2>&1 &
    await_daemon "$program run"
}

# The hook with our line after its first one, or without.
hooked() {
    sed -n '1{/^#!/p;}' "$hook"
    [ "${1-}" = without ] || echo "$program run </dev/null >/dev/null 2>&1 & # $name"
    sed '1{/^#!/d;}' "$hook" | grep -v " # $name\$" || :
}

await_daemon() {
    tries=100
    until is_listening && [ -n "$(running run)" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "it was started and does not listen on port $port; see \`$1\`"
        sleep 0.1 2>/dev/null || sleep 1
    done
}

is_listening() {
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q "^ *[0-9]*: [0-9A-F]*:$port_hex [0-9A-F]*:0000 0A "
}

# Ids of the daemon's processes of one kind: run, serve, keep.
running() {
    for it in /proc/[0-9]*; do
        case $(readlink "$it/exe" 2>/dev/null || :) in
            "$program" | "$program (deleted)") ;;
            *) continue ;;
        esac
        [ "$(tr '\0' '\n' <"$it/cmdline" 2>/dev/null | sed -n 2p)" != "$1" ] || echo "${it#/proc/}"
    done
}

# Ends processes: TERM, and KILL for what is left after two seconds.
end() {
    [ "$#" -gt 0 ] || return 0
    kill -TERM "$@" 2>/dev/null || :
    tries=20
    while lives "$@"; do
        [ "$tries" -gt 0 ] || kill -KILL "$@" 2>/dev/null || :
        tries=$((tries - 1))
        sleep 0.1 2>/dev/null || sleep 1
    done
}

# Whether one of these processes has not ended.
lives() {
    for it; do
        ! readlink "/proc/$it/exe" >/dev/null 2>&1 || return 0
    done
    return 1
}

# --- Remove

remove_deployment() {
    if [ -n "$(other_keys | grep -v -e '^#' -e '^ *$' || :)" ]; then
        new_keys ''
        echo "the keys of $deployment are removed; $name stays, for other deployments"
        return 0
    fi
    take_away
    echo "$name is removed"
}

# Takes away all that an installation makes, as far as it is there. What the daemon runs ends.
take_away() {
    if [ -e "$unit" ]; then
        [ ! -d /run/systemd/system ] || systemctl --quiet stop "$name" || :
        systemctl --quiet disable "$name" || :
        rm -f "$unit"
        [ ! -d /run/systemd/system ] || systemctl daemon-reload || :
    fi
    if [ -e "$service" ]; then
        [ ! -e /run/openrc/softlevel ] || rc-service --quiet "$name" stop || :
        rc-update --quiet delete "$name" default || :
        rm -f "$service"
    fi
    for hook in $hooks; do
        ! grep -q " # $name\$" "$hook" 2>/dev/null || hooked without | put "$hook" 755
    done
    end $(running run) $(running serve)
    end_commands
    while grep -q " $run " /proc/mounts; do
        umount -l "$run" || break
    done
    made="${made-}$(cat "$state/made" 2>/dev/null || :)"
    rm -rf "$run" "$state" "$etc"
    rm -f "$program" "$bin/.$name".*
    # Folders that are used by others meanwhile stay.
    [ -z "$made" ] || rmdir $made 2>/dev/null || :
}

# Ends the commands and their keepers, but not the command that this script may be.
end_commands() {
    own=" $$ "
    it=$$
    while [ "$it" -gt 1 ]; do
        it=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$it/status" 2>/dev/null || echo 0)
        own="$own$it "
    done
    for keeper in $(running keep); do
        case $own in
            *" $keeper "*) ;;
            *) end $(below "$keeper") "$keeper" ;;
        esac
    done
}

# Ids of all processes below one.
below() {
    for child in $(cat "/proc/$1/task"/*/children 2>/dev/null || :); do
        echo "$child"
        below "$child"
    done
}

# PROGRAM
{ main "$@"; }
