#!/bin/sh
# Sets up the proxy of pve-edge on a node of Proxmox VE 8 or 9, or on another Debian in the network of its guests: Caddy,
# and with --tunnel cloudflared, each as a service of its own that may nothing but this. Run it as root:
#
#   sh proxy.sh                 prints what it will do, asks, and does it
#   sh proxy.sh --yes           does not ask
#   sh proxy.sh --tunnel        cloudflared too; without a token yet it reads the tunnel's from standard input, or asks for it
#   sh proxy.sh --new-token     the same, but reads a token in any case, and replaces another one that is there
#   sh proxy.sh --remove        takes away what it has made; the packages stay
#
# It does what is missing and restarts what has changed, so it may be run again, and has to be after EDGE_SECRET, the
# network of guests or an address of the node has changed. This file holds the proxy's keys: let nobody else read it.

main() {
    set -eu
    umask 077
    # SETTINGS
    etc=/etc/pve-edge units=/etc/systemd/system run=/run members=/etc/pve/.members resolv=/etc/resolv.conf
    lists=/etc/apt/sources.list.d keyrings=/usr/share/keyrings
    yes='' tunnel='' new_token='' removes=''
    read_words "$@"
    [ "$(id -u)" = 0 ] || die 'run this as root'
    command -v systemctl >/dev/null || die 'this machine has no systemd'
    ensure_ours
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    if [ -n "$removes" ]; then
        steps=$(plan_removal)
    else
        [ ! -e "$etc/tunnel-token" ] || tunnel=yes
        look
        steps=$(plan) || exit 1
    fi
    if [ -z "$steps" ]; then
        tell 'Nothing is to be done.'
        return 0
    fi
    tell 'This will be done:' '' "$steps" ''
    consent
    take_steps
    tell 'Done.'
}

read_words() {
    while [ "$#" -gt 0 ]; do
        case $1 in
            --yes) yes=yes ;;
            --tunnel) tunnel=yes ;;
            --new-token) tunnel=yes new_token=yes ;;
            --remove) removes=yes ;;
            *) die "$1 is no word of this: --yes, --tunnel, --new-token, --remove" ;;
        esac
        shift
    done
}

# ASKING

# One machine has one port for it, so it has one proxy. A file that names no deployment is replaced: it may be what a full
# disk or a loss of power has left of ours.
ensure_ours() {
    [ -e "$etc/Caddyfile" ] || return 0
    mark='# pve-edge: the proxy of the deployment '
    IFS= read -r first <"$etc/Caddyfile" || first=''
    case $first in
        "$mark$deployment") ;;
        "$mark"*) die "$etc/Caddyfile is not this deployment's: take it away with its own script, or use another node" ;;
    esac
}

# --- What shall be

# Writes what shall be there into the folder of this run.
look() {
    here=$(addresses)
    [ -n "$(one_line "$here")" ] || die 'this machine tells no IPv4 address'
    if [ -n "$tunnel" ]; then
        # An empty one is what a full disk has left.
        if [ -n "$new_token" ] || [ ! -s "$etc/tunnel-token" ]; then
            read_token
        else
            cat "$etc/tunnel-token" >"$work/tunnel-token"
        fi
    fi
    write_caddyfile | sed "s/ADDRESSES-OF-OTHERS/$(one_line "$here" "$(routers)")/" >"$work/Caddyfile"
    write_proxy_unit >"$work/pve-edge-proxy.service"
    write_tunnel_unit | sed "s/ADDRESSES-OF-ITS-OWN/$(one_line "$here" "$(resolvers)")/" >"$work/pve-edge-tunnel.service"
}

# Addresses of this machine, of the other nodes of its cluster, and of PVE's API.
addresses() {
    ip -4 -o address show | sed -n 's/.* inet \([0-9.]*\).*/\1/p'
    [ ! -r "$members" ] || sed -n 's/.*"ip": *"\([0-9.]*\)".*/\1/p' "$members"
    printf '%s\n' "$api"
}

routers() {
    ip -4 route show | sed -n 's/.* via \([0-9.]*\).*/\1/p'
}

resolvers() {
    sed -n 's/^nameserver[[:space:]]*\([0-9A-Fa-f.:]*\).*/\1/p' "$resolv"
}

one_line() {
    printf '%s\n' "$@" | sed '/^$/d' | sort -u | paste -sd ' ' -
}

read_token() {
    if [ -t 0 ]; then
        printf 'The token of the tunnel, which is not shown: ' >&2
        trap 'stty echo; rm -rf "$work"' EXIT
        stty -echo
        IFS= read -r token || :
        stty echo
        trap 'rm -rf "$work"' EXIT
        tell ''
    else
        IFS= read -r token || :
    fi
    case $token in '' | *[!A-Za-z0-9+/=_-]*) die 'this is no token of a tunnel, and nothing was changed' ;; esac
    printf %s "$token" >"$work/tunnel-token"
    token=''
}

# --- What is to be done

# Prints the commands that are missing, a line each.
plan() {
    plan_caddy
    if [ -n "$tunnel" ] && ! command -v cloudflared >/dev/null; then
        plan_cloudflared
    fi
    is_there Caddyfile "$etc" 600 || echo "HOME=$work caddy validate --adapter caddyfile --config $work/Caddyfile"
    changed=''
    put Caddyfile "$etc" 600
    put pve-edge-proxy.service "$units" 644
    serve pve-edge-proxy "$etc/Caddyfile"
    [ -n "$tunnel" ] || return 0
    changed=''
    put tunnel-token "$etc" 600
    put pve-edge-tunnel.service "$units" 644
    serve pve-edge-tunnel "$etc/tunnel-token"
}

# The package starts a service of its own, which would show a page on port 80.
plan_caddy() {
    masked=$(systemctl is-enabled caddy.service 2>/dev/null) || :
    if ! command -v caddy >/dev/null; then
        echo 'systemctl mask --runtime caddy.service'
        echo 'apt-get -q update || :'
        echo 'DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends caddy'
        masked='masked-runtime'
    fi
    [ "$masked" = masked-runtime ] || return 0
    echo 'systemctl disable caddy.service'
    echo 'systemctl unmask --runtime caddy.service'
}

plan_cloudflared() {
    from=https://pkg.cloudflare.com keyring=$keyrings/cloudflare-public-v2.gpg
    if command -v curl >/dev/null; then
        echo "curl -fsSL $from/cloudflare-public-v2.gpg -o $work/keyring"
    else
        echo "wget -qO $work/keyring $from/cloudflare-public-v2.gpg"
    fi
    echo "install -D -m 644 $work/keyring $keyring"
    echo "echo 'deb [signed-by=$keyring] $from/cloudflared any main' >$work/cloudflared.list"
    echo "install -D -m 644 $work/cloudflared.list $lists/cloudflared.list"
    echo 'apt-get -q update || :'
    echo 'DEBIAN_FRONTEND=noninteractive apt-get -qy install cloudflared'
}

# Puts a file into a folder, unless it is there already: beside its place first, so that the place never has half of it.
put() {
    is_there "$@" && return 0
    changed=yes
    echo "install -D -m $3 $work/$1 $2/$1.new && sync $2/$1.new && mv $2/$1.new $2/$1"
    case $1 in *.service) echo 'systemctl daemon-reload' ;; esac
}

# A unit that systemd has not read is not there yet: a run may have been cut before that.
is_there() {
    cmp -s "$work/$1" "$2/$1" && [ "$(stat -c %a "$2/$1")" = "$3" ] || return 1
    case $1 in *.service) [ "$(systemctl show -p NeedDaemonReload "$1")" != NeedDaemonReload=yes ] ;; esac
}

serve() {
    systemctl -q is-enabled "$1.service" 2>/dev/null || echo "systemctl enable $1.service"
    # A run that was cut may have left what runs behind its files: the folder is made when the service starts.
    if [ -n "$changed" ] || ! systemctl -q is-active "$1.service" ||
        [ "$2" -nt "$run/$1" ] || [ "$units/$1.service" -nt "$run/$1" ]; then
        echo "systemctl restart $1.service"
    fi
}

plan_removal() {
    removed=''
    for it in pve-edge-tunnel.service pve-edge-proxy.service; do
        [ -e "$units/$it" ] || continue
        echo "systemctl disable --now $it"
        echo "rm $units/$it"
        removed=yes
    done
    [ -z "$removed" ] || echo 'systemctl daemon-reload'
    # What ends in .new was not put into its place any more.
    for it in "$units/pve-edge-tunnel.service.new" "$units/pve-edge-proxy.service.new" \
        "$etc/tunnel-token" "$etc/tunnel-token.new" "$etc/Caddyfile" "$etc/Caddyfile.new"; do
        [ ! -e "$it" ] || echo "rm $it"
    done
    [ ! -d "$etc" ] || echo "rmdir $etc"
}

# --- Doing it

# What a command says is shown if it fails.
take_steps() {
    while IFS= read -r step; do
        eval "$step" </dev/null >"$work/said" 2>&1 || {
            cat "$work/said" >&2
            die "this failed, and nothing behind it was done: $step"
        }
    done <<END
$steps
END
}

# --- Files

# FILES

{ main "$@"; }
