#!/bin/sh
# Stands for pveum and pvesh of a node: keeps in the folder $PVE_STATE what it is told, answers as they do, and notes
# each call. What $PVE_FAILS names fails. With a file `drops` the connection of whoever calls it is lost at each change,
# and with a file `regenerates` it is a PVE that makes a new secret in place.
set -eu
cd "$PVE_STATE"
program=${0##*/}
printf '%s\n' "$program $*" >>calls
case "$program $*" in
    "${PVE_FAILS:-nothing}"*)
        echo 'cluster not ready - no quorum?' >&2
        exit 255
        ;;
esac

[ ! -e drops ] || [ "$program" = pvesh ] || kill -s HUP "$PPID"

die() {
    echo "$*" >&2
    exit 255
}

# Texts of lines as a JSON list.
list() {
    printf '[%s]\n' "$(paste -sd , -)"
}

# Privileges become those of a role, as far as this version knows them.
add_privileges() {
    for it in $2; do
        grep -qx "$it" known || die "invalid privilege '$it'"
        grep -qx "$it" "roles/$1" || echo "$it" >>"roles/$1"
    done
}

case "$program $1 $2" in
    'pvesh get /access/roles')
        {
            echo "{\"privs\":\"$(paste -sd , known)\",\"roleid\":\"Administrator\",\"special\":1}"
            for role in roles/*; do
                [ ! -e "$role" ] || echo "{\"privs\":\"$(paste -sd , "$role")\",\"roleid\":\"${role#roles/}\",\"special\":0}"
            done
            echo '{"privs":"","roleid":"NoAccess","special":1}'
        } | list
        ;;
    'pvesh get /access/acl')
        while IFS='|' read -r path propagate role kind who; do
            echo "{\"path\":\"$path\",\"propagate\":$propagate,\"roleid\":\"$role\",\"type\":\"$kind\",\"ugid\":\"$who\"}"
        done <acl | list
        ;;
    'pvesh get /access/users/'*/token/*)
        token=${2#/access/users/}
        token=tokens/${token%%/*}!${2##*/}
        [ -e "$token" ] || die 'no such token'
        expire=$(sed -n 2p "$token") comment=$(sed -n 3p "$token")
        [ -z "$comment" ] || comment="\"comment\":\"$comment\","
        echo "{$comment\"expire\":${expire:-0},\"privsep\":$(sed -n 1p "$token")}"
        ;;
    'pvesh usage /access/users/'*/token/*)
        echo "USAGE: pvesh set $2 [OPTIONS]"
        [ ! -e regenerates ] || echo '  --regenerate <boolean>   (default=0)'
        ;;
    'pvesh get /access/users/'*)
        [ -e "users/${2##*/}" ] || die "no such user ('${2##*/}')"
        echo '{"enable":1,"expire":0,"tokens":{}}'
        ;;
    'pvesh get /storage') cat storages ;;
    'pvesh get /cluster/sdn/vnets') cat vnets ;;
    'pvesh get /nodes/'*/network) grep "\"type\":\"$4\"" bridges | list ;;
    'pveum role add')
        [ ! -e "roles/$3" ] || die "create role failed: role '$3' already exists"
        : >"roles/$3"
        add_privileges "$3" "$5"
        ;;
    'pveum role modify')
        [ -e "roles/$3" ] || die "update role failed: role '$3' does not exist"
        [ "$4 $5" = '--append 1' ] || : >"roles/$3"
        for privileges; do :; done
        add_privileges "$3" "$privileges"
        ;;
    'pveum user add')
        [ ! -e "users/$3" ] || die "create user failed: user '$3' already exists"
        : >"users/$3"
        ;;
    'pveum user token')
        full=$4!$5 privsep=1 expire='' comment='' regenerate=''
        token=tokens/$full
        case $3 in
            add)
                [ -e "users/$4" ] || die "no such user ('$4')"
                [ ! -e "$token" ] || die "400 Parameter verification failed. tokenid: Token already exists."
                regenerate=1
                ;;
            modify)
                [ -e "$token" ] || die 'no such token'
                privsep=$(sed -n 1p "$token") expire=$(sed -n 2p "$token") comment=$(sed -n 3p "$token")
                ;;
            remove)
                rm "$token"
                # As soon as the file of users is read again.
                grep -vF "|token|$full" acl >acl.new || :
                mv acl.new acl
                exit 0
                ;;
        esac
        shift 5
        while [ "$#" -gt 0 ]; do
            case $1 in
                --privsep) privsep=$2 ;;
                --expire) expire=$2 ;;
                --comment) comment=$2 ;;
                --regenerate)
                    [ -e regenerates ] || die 'Unknown option: regenerate'
                    regenerate=$2
                    ;;
                --output-format) ;;
                *) die "Unknown option: $1" ;;
            esac
            shift 2
        done
        printf '%s\n' "$privsep" "$expire" "$comment" >"$token"
        [ -n "$regenerate" ] || exit 0
        echo made >>secrets
        secret=7f5ab1d0-0000-4000-8000-00000000000$(($(wc -l <secrets)))
        echo "{\"full-tokenid\":\"$full\",\"info\":{\"privsep\":\"$privsep\"},\"value\":\"$secret\"}"
        ;;
    'pveum acl modify')
        path=$3 user='' token='' role='' propagate=1
        shift 3
        while [ "$#" -gt 0 ]; do
            case $1 in
                --users) user=$2 ;;
                --tokens) token=$2 ;;
                --roles) role=$2 ;;
                --propagate) propagate=$2 ;;
                *) die "Unknown option: $1" ;;
            esac
            shift 2
        done
        [ -e "roles/$role" ] || die "role '$role' does not exist"
        [ -z "$user" ] || [ -e "users/$user" ] || die "user '$user' does not exist"
        [ -z "$token" ] || [ -e "tokens/$token" ] || die "no such token '$token'"
        for line in "$path|$propagate|$role|user|$user" "$path|$propagate|$role|token|$token"; do
            case $line in *'|') continue ;; esac
            grep -qxF "$line" acl || echo "$line" >>acl
        done
        ;;
    *) die "ERROR: unknown command '$program $*'" ;;
esac
